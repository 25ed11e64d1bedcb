//! API Gateway's HTTP API: the template's routes, its JWT authorizer, and events of payload format 2.0.
//!
//! Source: Amazon API Gateway Developer Guide, "Create AWS Lambda proxy integrations for HTTP APIs".

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{Authorizer, Claims, open_claims};
use crate::lambda::{Lambda, MAX_PAYLOAD_BYTES};
use crate::run::now_ms;
use crate::template::{ACCOUNT_ID, Function};

/// The gateway.
pub struct Gateway {
    lambda: Lambda,
    /// None: every caller has every role.
    authorizer: Option<Authorizer>,
    /// The routes by method; a route is method and path, so that a path may mean different things to
    /// different methods.
    routes: HashMap<String, matchit::Router<Target>>,
}

struct Target {
    function: String,
    route_key: String,
    protected: bool,
}

impl Gateway {
    /// The API of these functions.
    ///
    /// # Errors
    /// If two routes are the same.
    pub fn router(
        functions: &[Function],
        lambda: Lambda,
        authorizer: Option<Authorizer>,
    ) -> Result<Router, String> {
        let mut routes: HashMap<String, matchit::Router<Target>> = HashMap::new();
        for function in functions {
            for route in &function.routes {
                let route_key = format!("{} {}", route.method, route.path);
                let target =
                    Target { function: function.name.clone(), route_key, protected: route.protected };
                let same = |e| format!("route {} {}: {e}", route.method, route.path);
                routes.entry(route.method.clone()).or_default().insert(&route.path, target).map_err(same)?;
            }
        }
        let gateway = Arc::new(Self { lambda, authorizer, routes });
        let limit = DefaultBodyLimit::max(MAX_PAYLOAD_BYTES);
        Ok(Router::new().fallback(call).layer(limit).with_state(gateway))
    }

    /// The caller's claims. None: the route is public and nobody has shown a token.
    fn authorize(&self, target: &Target, headers: &HeaderMap) -> Result<Option<Claims>, Box<Response>> {
        let Some(authorizer) = &self.authorizer else { return Ok(Some(open_claims())) };
        if !target.protected {
            return Ok(None);
        }
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        authorizer.check(header).map(Some).ok_or_else(|| {
            let mut response = message(StatusCode::UNAUTHORIZED);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Box::new(response)
        })
    }
}

async fn call(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let matched = gateway.routes.get(method.as_str()).and_then(|routes| routes.at(uri.path()).ok());
    let Some(matchit::Match { value: target, params }) = matched else {
        return message(StatusCode::NOT_FOUND);
    };
    let decoded = params.iter().map(|(name, value)| {
        let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        Some((name, value.into_owned()))
    });
    let Some(parameters) = decoded.collect() else { return message(StatusCode::BAD_REQUEST) };
    let claims = match gateway.authorize(target, &headers) {
        Ok(claims) => claims,
        Err(refused) => return *refused,
    };
    let event = event(target, &method, &uri, &parameters, &headers, &body, claims, source);
    match gateway.lambda.invoke(&target.function, event.to_string().into()).await {
        Ok(answer) => response(&answer).unwrap_or_else(|e| {
            eprintln!("function {} gave no HTTP response: {e}", target.function);
            message(StatusCode::INTERNAL_SERVER_ERROR)
        }),
        Err(e) => {
            eprintln!("{e}");
            message(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "an event is made of all that a request has")]
fn event(
    target: &Target,
    method: &Method,
    uri: &Uri,
    parameters: &BTreeMap<&str, String>,
    headers: &HeaderMap,
    body: &Bytes,
    claims: Option<Claims>,
    source: SocketAddr,
) -> Value {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        joined
            .entry(name.as_str())
            .and_modify(|before| *before = format!("{before},{}", text(value)))
            .or_insert_with(|| text(value));
    }
    let (body, encoded) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (aws_smithy_types::base64::encode(body), true),
    };
    let mut event = json!({
        "version": "2.0",
        "routeKey": target.route_key,
        "rawPath": uri.path(),
        "rawQueryString": uri.query().unwrap_or_default(),
        "headers": joined,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": "local",
            "domainName": "localhost",
            "domainPrefix": "local",
            "http": {
                "method": method.as_str(),
                "path": uri.path(),
                "protocol": "HTTP/1.1",
                "sourceIp": source.ip().to_string(),
                "userAgent": joined.get("user-agent").cloned().unwrap_or_default(),
            },
            "requestId": uuid::Uuid::new_v4().to_string(),
            "routeKey": target.route_key,
            "stage": "$default",
            "timeEpoch": now_ms(),
        },
        "isBase64Encoded": encoded,
    });
    if !body.is_empty() {
        event["body"] = body.into();
    }
    if !parameters.is_empty() {
        event["pathParameters"] = json!(parameters);
    }
    if let Some(claims) = claims {
        event["requestContext"]["authorizer"] = json!({"jwt": {"claims": claims, "scopes": null}});
    }
    event
}

/// What a function answers an HTTP API with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionResponse {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

fn response(answer: &[u8]) -> Result<Response, String> {
    let answer: FunctionResponse = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
    let body = answer.body.unwrap_or_default();
    let body = match answer.is_base64_encoded {
        true => aws_smithy_types::base64::decode(&body).map_err(|e| e.to_string())?,
        false => body.into_bytes(),
    };
    let mut response = Response::builder().status(answer.status_code);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(body.into()).map_err(|e| e.to_string())
}

/// API Gateway's own answers.
fn message(status: StatusCode) -> Response {
    let body = json!({"message": status.canonical_reason().unwrap_or_default()}).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
