//! API Gateway's HTTP API: the template's routes, its JWT authorizer, and events of payload format 2.0.
//!
//! Source: Amazon API Gateway Developer Guide, "Create AWS Lambda proxy integrations for HTTP APIs".

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::ACCOUNT_ID;
use crate::auth::{Authorizer, Claims, open_claims};
use crate::clock::now_ms;
use crate::lambda::{Lambda, MAX_PAYLOAD_BYTES};
use crate::template::Function;

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
            let mut response = answer_with_status(StatusCode::UNAUTHORIZED);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Box::new(response)
        })
    }
}

/// The header with the id of a request in every answer of an HTTP API, its own included. The id is the `requestId` in
/// the event of the function.
const REQUEST_ID: HeaderName = HeaderName::from_static("apigw-requestid");

/// An id of the form that API Gateway's have: base64 that may stand in an address.
fn request_id() -> String {
    let random = &uuid::Uuid::new_v4().into_bytes()[..11];
    aws_smithy_types::base64::encode(random).replace('+', "-").replace('/', "_")
}

async fn call(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request_id = request_id();
    let mut response = route(&gateway, &request_id, source, &method, &uri, &headers, &body).await;
    let value = HeaderValue::from_str(&request_id).expect("base64 fits a header");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

async fn route(
    gateway: &Gateway,
    request_id: &str,
    source: SocketAddr,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let Some(path) = decoded_path(uri) else { return answer_with_status(StatusCode::BAD_REQUEST) };
    let matched = gateway.routes.get(method.as_str()).and_then(|routes| routes.at(&path).ok());
    let Some(matchit::Match { value: target, params }) = matched else {
        return answer_with_status(StatusCode::NOT_FOUND);
    };
    let parameters = params.iter().map(|(name, value)| (name, value.to_owned())).collect();
    let claims = match gateway.authorize(target, headers) {
        Ok(claims) => claims,
        Err(refused) => return *refused,
    };
    let event =
        build_event(target, request_id, method, uri, &path, &parameters, headers, body, claims, source);
    match gateway.lambda.invoke(&target.function, event.to_string().into()).await {
        Ok(answer) => read_response(&answer).unwrap_or_else(|e| {
            eprintln!("function {} gave no HTTP response: {e}", target.function);
            answer_with_status(StatusCode::INTERNAL_SERVER_ERROR)
        }),
        Err(e) => {
            eprintln!("{e}");
            answer_with_status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// The path as an HTTP API takes it: decoded before a route is looked for, and cut at a question mark that
/// was encoded. So an id with a slash finds no route, and one with a question mark is another id.
/// None: it is not UTF-8.
fn decoded_path(uri: &Uri) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(uri.path()).decode_utf8().ok()?;
    Some(decoded.split('?').next().unwrap_or_default().to_owned())
}

#[expect(clippy::too_many_arguments, reason = "an event is made of all that a request has")]
fn build_event(
    target: &Target,
    request_id: &str,
    method: &Method,
    uri: &Uri,
    path: &str,
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
        "rawPath": path,
        "rawQueryString": uri.query().unwrap_or_default(),
        "headers": joined,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": "local",
            "domainName": "localhost",
            "domainPrefix": "local",
            "http": {
                "method": method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": source.ip().to_string(),
                "userAgent": joined.get("user-agent").cloned().unwrap_or_default(),
            },
            "requestId": request_id,
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

/// The answer of a function to an HTTP API.
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

fn read_response(answer: &[u8]) -> Result<Response, String> {
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
fn answer_with_status(status: StatusCode) -> Response {
    let body = json!({"message": status.canonical_reason().unwrap_or_default()}).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_before_its_route_is_looked_for() {
        let path = |uri: &str| decoded_path(&uri.parse().unwrap());
        assert_eq!(path("/order/%231001-%C3%BC?x=%2F").as_deref(), Some("/order/#1001-ü"));
        assert_eq!(path("/order/a%2Fb").as_deref(), Some("/order/a/b"));
        assert_eq!(path("/order/a%3Fb").as_deref(), Some("/order/a"));
        assert_eq!(path("/order/a%252Fb").as_deref(), Some("/order/a%2Fb"));
        assert_eq!(path("/order/%FF"), None);
    }
}
