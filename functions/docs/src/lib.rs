//! `docs`: the OpenAPI document, and a page to read and try it. Everything is inside the program; neither it nor
//! the reader's browser fetches anything from elsewhere. It has no right to anything.

use shared::http::{Answer, Problem, Request, serve_without_store};

/// The document.
pub const OPENAPI: &str = include_str!("../../../openapi.yaml");

/// Nothing from elsewhere, and nothing in a frame. Swagger UI sets styles on elements and shows inline images.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// The media type of a script.
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve_without_store("docs", |request| Box::pin(handle(request))).await
}

/// Answers one request.
///
/// # Errors
/// The problem that the client is told.
pub async fn handle(request: &Request) -> Result<Answer, Problem> {
    match request.route() {
        "GET /api-docs" => Ok(Answer::file("application/yaml", OPENAPI, POLICY)),
        "GET /docs" => Ok(Answer::file("text/html; charset=utf-8", include_str!("index.html"), POLICY)),
        "GET /docs/{file}" => file_of_page(request.path("file")),
        other => Err(Problem::no_route(other)),
    }
}

fn file_of_page(name: &str) -> Result<Answer, Problem> {
    Ok(match name {
        "page.js" => Answer::file(SCRIPT, include_str!("page.js"), POLICY),
        "swagger-ui-bundle.js" => {
            let bundle = include_str!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js"));
            Answer::file(SCRIPT, bundle, POLICY)
        }
        "swagger-ui.css" => {
            let style = include_str!(concat!(env!("OUT_DIR"), "/swagger-ui.css"));
            Answer::file("text/css; charset=utf-8", style, POLICY)
        }
        "favicon-32x32.png" => {
            let icon: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png"));
            Answer::file("image/png", icon, POLICY)
        }
        _ => return Err(Problem::no_route(&format!("/docs/{name}"))),
    })
}
