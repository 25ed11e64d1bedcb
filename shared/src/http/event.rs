//! The event and the response of API Gateway's HTTP API (payload format 2.0), as far as they are used.
//!
//! The event has types of its own here: `lambda_http` builds a URI from headers that anybody may send, and panics
//! where they do not make one.
//! Source: Amazon API Gateway Developer Guide, "Create AWS Lambda proxy integrations for HTTP APIs".

use std::collections::HashMap;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::header::SET_COOKIE;
use lambda_http::http::uri::{Authority, PathAndQuery, Scheme};
use lambda_http::lambda_runtime::{self, LambdaEvent};
use lambda_http::{Body, Context, Error, Response, service_fn};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{CORRELATION_ID, MAX_BODY_BYTES, Problem};
use crate::aws::traced;
use crate::domain::excerpt;

/// Longest correlation id that is accepted from a client, in bytes.
const MAX_CORRELATION_ID: usize = 128;

/// A request as API Gateway passes it on.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGatewayEvent {
    #[serde(default, deserialize_with = "deserialize_or_default")]
    raw_query_string: String,
    #[serde(default, deserialize_with = "deserialize_or_default")]
    headers: HashMap<String, String>,
    #[serde(default, deserialize_with = "deserialize_or_default")]
    path_parameters: HashMap<String, String>,
    request_context: RequestContext,
    #[serde(default, deserialize_with = "deserialize_or_default")]
    body: String,
    #[serde(default, deserialize_with = "deserialize_or_default")]
    is_base64_encoded: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    route_key: String,
    request_id: Option<String>,
    authorizer: Option<Authorizer>,
}

#[derive(Debug, Clone, Deserialize)]
struct Authorizer {
    jwt: Option<Jwt>,
}

#[derive(Debug, Clone, Deserialize)]
struct Jwt {
    #[serde(default, deserialize_with = "deserialize_or_default")]
    claims: Claims,
}

/// Treats `null` like an absent member.
fn deserialize_or_default<'de, T, D>(value: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// The claims of a token. API Gateway passes each on as text; a JSON list is accepted as well.
pub(super) type Claims = HashMap<String, Value>;

impl ApiGatewayEvent {
    /// The route that API Gateway has matched, such as `GET /api/inventory/{productId}`.
    pub(super) fn route_key(&self) -> &str {
        &self.request_context.route_key
    }

    /// The id that API Gateway gives the request. The caller sees it in `Apigw-Requestid` of every answer.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_context.request_id.as_deref()
    }

    /// A header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.get(name);
        found
            .or_else(|| self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
            .map(String::as_str)
    }

    /// The claims of the token that API Gateway has checked; none where it has checked none.
    pub(super) fn claims(&self) -> Option<&Claims> {
        Some(&self.request_context.authorizer.as_ref()?.jwt.as_ref()?.claims)
    }

    pub(super) fn take_path_parameters(&mut self) -> HashMap<String, String> {
        std::mem::take(&mut self.path_parameters)
    }

    pub(super) fn query(&self) -> QueryMap {
        let Ok(query) = self.raw_query_string.parse();
        query
    }

    /// The body as it was sent.
    ///
    /// # Errors
    /// 413 if it is too large, 400 if it cannot be decoded.
    pub(super) fn take_body(&mut self) -> Result<Vec<u8>, Problem> {
        let text = std::mem::take(&mut self.body);
        let bytes = match self.is_base64_encoded {
            // Three bytes lie in four characters.
            true if text.len() / 4 > MAX_BODY_BYTES / 3 + 1 => {
                return Err(Problem::too_large(text.len() / 4 * 3));
            }
            true => aws_smithy_types::base64::decode(&text)
                .map_err(|_| Problem::invalid("the body is no base64, though it is said to be"))?,
            false => text.into_bytes(),
        };
        if bytes.len() > MAX_BODY_BYTES { Err(Problem::too_large(bytes.len())) } else { Ok(bytes) }
    }

    /// Refuses a request whose headers or query RFC 9110 does not allow. No client or proxy sends one by itself.
    ///
    /// # Errors
    /// 400, naming the part.
    pub(super) fn check_syntax(&self) -> Result<(), Problem> {
        let is_scheme = |text: &str| {
            let text = text.trim();
            text.starts_with(|first: char| first.is_ascii_alphabetic()) && Scheme::try_from(text).is_ok()
        };
        // Each proxy on the way may have added its own.
        if let Some(given) = self.header("x-forwarded-proto").filter(|given| !given.split(',').all(is_scheme))
        {
            return Err(Problem::invalid(format!(
                "the header X-Forwarded-Proto names no scheme: {:?}",
                excerpt(given)
            )));
        }
        if let Some(given) = self.header("host").filter(|given| Authority::try_from(*given).is_err()) {
            return Err(Problem::invalid(format!("the header Host names no host: {:?}", excerpt(given))));
        }
        let query = self.raw_query_string.as_str();
        if !query.is_empty() && PathAndQuery::try_from(format!("/?{query}")).is_err() {
            let detail = "the query has a character that must be escaped, such as a space or <";
            return Err(Problem::invalid(format!("{detail}: {:?}", excerpt(query))));
        }
        Ok(())
    }

    /// The caller's correlation id if it is usable, otherwise the invocation's own id.
    pub(super) fn correlation_id(&self, context: &Context) -> String {
        let usable = |id: &&str| {
            (1..=MAX_CORRELATION_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
        };
        self.header(CORRELATION_ID.as_str()).filter(usable).unwrap_or(&context.request_id).to_owned()
    }
}

/// Runs a function that an HTTP API calls, until its process ends. It answers as many requests at once as the
/// environment says (`AWS_LAMBDA_MAX_CONCURRENCY`), and one at a time where it says nothing.
///
/// # Errors
/// If the Runtime API is gone.
pub(super) async fn run<F>(
    handle: impl Fn(ApiGatewayEvent, Context) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    lambda_runtime::run_concurrent(service_fn(
        move |LambdaEvent { payload, context }: LambdaEvent<ApiGatewayEvent>| {
            let trace = context.xray_trace_id.clone();
            let response = handle(payload, context);
            traced(trace, async move { Ok::<_, Error>(to_api_gateway(response.await)) })
        },
    ))
    .await
}

fn to_api_gateway(response: Response<Body>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    debug_assert!(!parts.headers.contains_key(SET_COOKIE), "cookies have a member of their own");
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = parts.status.as_u16().into();
    answer.headers = parts.headers;
    answer.is_base64_encoded = matches!(body, Body::Binary(_));
    answer.body = Some(body);
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(headers: Value, query: &str) -> ApiGatewayEvent {
        let context = json!({"routeKey": "GET /api/inventory", "http": {"method": "GET"}});
        let event = json!({"rawQueryString": query, "headers": headers, "requestContext": context});
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn what_is_no_request_is_refused_and_says_why() {
        for (headers, query, what) in [
            (json!({"x-forwarded-proto": "a b"}), "", "X-Forwarded-Proto"),
            (json!({"x-forwarded-proto": ""}), "", "X-Forwarded-Proto"),
            (json!({"x-forwarded-proto": "https,a b"}), "", "X-Forwarded-Proto"),
            (json!({"X-Forwarded-Proto": "<"}), "", "X-Forwarded-Proto"),
            (json!({"host": "["}), "", "Host"),
            (json!({"host": "a b"}), "", "Host"),
            (json!({"host": "x".repeat(5_000) + " "}), "", "Host"),
            (json!({}), "limit=<", "escaped"),
            (json!({}), "limit=1 2", "escaped"),
            (json!({}), "a=\u{7}", "escaped"),
        ] {
            let problem = event(headers.clone(), query).check_syntax().expect_err(query).to_json("c");
            assert!(
                problem.contains("\"status\":400") && problem.contains(what),
                "{headers} {query}: {problem}"
            );
            assert!(problem.len() < 500, "{problem}");
        }
    }

    #[test]
    fn an_ordinary_request_is_none_of_that() {
        for headers in [
            json!({}),
            json!({"host": "api.example.com", "x-forwarded-proto": "https"}),
            json!({"host": "127.0.0.1:3000", "x-forwarded-proto": "http, https"}),
            json!({"host": "[::1]:3000"}),
        ] {
            for query in ["", "limit=5&cursor=A-1", "a=%20%3C&b=%C3%BC+x", "a=%", "&&=", "x={}|"] {
                assert!(event(headers.clone(), query).check_syntax().is_ok(), "{headers} {query}");
            }
        }
    }

    #[test]
    fn a_body_is_decoded_and_bounded() {
        let body = |body: String, encoded| {
            let mut event = event(json!({}), "");
            (event.body, event.is_base64_encoded) = (body, encoded);
            event.take_body().map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(body("ü".to_owned(), false), Ok("ü".as_bytes().to_vec()));
        assert_eq!(body("w7w=".to_owned(), true), Ok("ü".as_bytes().to_vec()));
        assert_eq!(body("%".to_owned(), true), Err(400));
        assert_eq!(body("x".repeat(MAX_BODY_BYTES), false).map(|b| b.len()), Ok(MAX_BODY_BYTES));
        assert_eq!(body("x".repeat(MAX_BODY_BYTES + 1), false), Err(413));
        assert_eq!(body("AAAA".repeat(MAX_BODY_BYTES / 3 + 2), true), Err(413));
    }
}
