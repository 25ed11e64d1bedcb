//! `docs`: the OpenAPI document, and a page to read and try it. Everything is inside the program; neither it nor
//! the reader's browser fetches anything from elsewhere. It has no right to anything.

use lambda_http::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Error, Request, RequestExt as _, Response, service_fn};
use shared::http::Problem;
use shared::settings::Settings;
use shared::telemetry;

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
    lambda_http::run(service_fn(|event: Request| async move { Ok::<_, Error>(answer(&event)) })).await
}

fn answer(event: &Request) -> Response<Body> {
    let path = event.raw_http_path();
    let found = page(path);
    let outcome = if found.is_some() { "ok" } else { "not_found" };
    tracing::info!(operation = "docs", route = path, outcome);
    let (status, media_type, body) = match found {
        Some((media_type, body)) => (StatusCode::OK, media_type, body),
        None => {
            let id =
                event.lambda_context_ref().map(|context| context.request_id.as_str()).unwrap_or_default();
            let problem = Problem::no_route(path).to_json(id);
            (StatusCode::NOT_FOUND, "application/problem+json", Body::from(problem))
        }
    };
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
