//! `docs`: the OpenAPI document, and a page to read and try it. Everything is inside the program; neither it nor
//! the reader's browser fetches anything from elsewhere. It has no right to anything.

use lambda_http::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Context, Error, Response};
use shared::domain::excerpt;
use shared::function::elapsed_ms;
use shared::http::{CORRELATION_ID, Event, Problem};
use shared::settings::Settings;
use shared::telemetry;
use tokio::time::Instant;

/// The document.
pub const OPENAPI: &str = include_str!("../../../openapi.yaml");

/// Nothing from elsewhere, and nothing in a frame. Swagger UI sets styles on elements and shows inline images.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    telemetry::init(Settings::from_env()?.log_level);
    shared::http::run(|event, context| async move { answer(&event, &context) }).await
}

fn answer(event: &Event, context: &Context) -> Response<Body> {
    let (began, path, correlation_id) = (Instant::now(), event.path(), event.correlation_id(context));
    let found = event.check().and_then(|()| page(path).ok_or_else(|| Problem::no_route(path)));
    let (outcome, status, media_type, body) = match found {
        Ok((media_type, body)) => ("ok", StatusCode::OK, media_type, body),
        Err(problem) => {
            let body = Body::from(problem.to_json(&correlation_id));
            (problem.code(), problem.status(), "application/problem+json", body)
        }
    };
    let duration_ms = elapsed_ms(began);
    tracing::info!(
        operation = "docs",
        route = excerpt(path),
        outcome,
        status = status.as_u16(),
        duration_ms,
        correlation_id
    );
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "public, max-age=300"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(&correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
    response
}

/// Media type and content of what is served, by its path.
fn page(path: &str) -> Option<(&'static str, Body)> {
    Some(match path {
        "/api-docs" => ("application/yaml", Body::from(OPENAPI)),
        "/docs" => ("text/html; charset=utf-8", Body::from(include_str!("index.html"))),
        "/docs/page.js" => ("text/javascript; charset=utf-8", Body::from(include_str!("page.js"))),
        "/docs/swagger-ui-bundle.js" => (
            "text/javascript; charset=utf-8",
            Body::from(include_str!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js"))),
        ),
        "/docs/swagger-ui.css" => {
            ("text/css; charset=utf-8", Body::from(include_str!(concat!(env!("OUT_DIR"), "/swagger-ui.css"))))
        }
        "/docs/favicon-32x32.png" => {
            let icon: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png"));
            ("image/png", Body::from(icon))
        }
        _ => return None,
    })
}
