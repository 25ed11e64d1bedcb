//! The endpoint that speaks the AWS protocols, for `aws --endpoint-url`, any SDK, and the functions:
//! DynamoDB, DynamoDB Streams, and Lambda's Invoke.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::dynamodb::DynamoDb;
use crate::lambda::{InvokeError, Lambda};

/// Largest request. Source: Amazon DynamoDB Developer Guide, "Quotas": 16 MB for a batch.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

const DYNAMODB: &str = "DynamoDB_20120810.";
const DYNAMODB_STREAMS: &str = "DynamoDBStreams_20120810.";

/// The endpoint.
pub fn router(dynamodb: DynamoDb, lambda: Lambda) -> Router {
    Router::new()
        .route("/", post(answer))
        .route("/_local/calls", get(calls))
        .with_state(dynamodb)
        .route("/2015-03-31/functions/{name}/invocations", post(invoke).with_state(lambda))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
}

/// Lambda's Invoke, waiting for the answer.
async fn invoke(State(lambda): State<Lambda>, Path(name): Path<String>, event: Bytes) -> Response {
    let error =
        |kind: &str, e: &InvokeError| json!({"errorType": kind, "errorMessage": e.to_string()}).to_string();
    match lambda.invoke(&name, event).await {
        Ok(answer) => (StatusCode::OK, answer).into_response(),
        Err(e @ InvokeError::Unknown(_)) => {
            let body = json!({"Type": "User", "Message": e.to_string()}).to_string();
            (StatusCode::NOT_FOUND, [("x-amzn-errortype", "ResourceNotFoundException")], body).into_response()
        }
        Err(e) => {
            (StatusCode::OK, [("x-amz-function-error", "Unhandled")], error("Runtime", &e)).into_response()
        }
    }
}

async fn answer(State(dynamodb): State<DynamoDb>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix(DYNAMODB).or_else(|| target.strip_prefix(DYNAMODB_STREAMS));
    let (Some(operation), Ok(body)) = (operation.map(str::to_owned), String::from_utf8(body.into())) else {
        let error = json!({
            "__type": "com.amazon.coral.service#UnknownOperationException",
            "message": format!("this endpoint speaks DynamoDB and DynamoDB Streams; the request's target is {target:?}"),
        });
        return respond(400, error.to_string());
    };
    let caller = caller(&headers).to_owned();
    // The database blocks, so it is called on a thread that may.
    match tokio::task::spawn_blocking(move || dynamodb.answer(&caller, &operation, &body)).await {
        Ok(answer) => respond(answer.status, answer.body),
        Err(e) => {
            respond(500, json!({"__type": "InternalServerError", "message": e.to_string()}).to_string())
        }
    }
}

/// How often each caller has called each operation.
async fn calls(State(dynamodb): State<DynamoDb>) -> Response {
    let calls: Vec<_> = dynamodb
        .calls()
        .into_iter()
        .map(|((caller, operation), usage)| {
            json!({"caller": caller, "operation": operation, "calls": usage.calls, "tableWriteUnits": usage.table_write_units})
        })
        .collect();
    axum::Json(calls).into_response()
}

/// The access key that signed the request; on this machine it is the name of the function.
fn caller(headers: &HeaderMap) -> &str {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once("Credential="))
        .and_then(|(_, credential)| credential.split('/').next())
        .unwrap_or("unsigned")
}

fn respond(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/x-amz-json-1.0".to_owned()),
        ("x-amzn-requestid", uuid::Uuid::new_v4().to_string()),
    ];
    (status, headers, body).into_response()
}
