//! The endpoint that speaks the AWS protocols, for `aws --endpoint-url`, any SDK, and the functions:
//! DynamoDB, DynamoDB Streams, SQS, EventBridge, and Lambda's Invoke.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::bus::Bus;
use crate::dynamodb::DynamoDb;
use crate::iam::Iam;
use crate::lambda::{InvokeError, Lambda};
use crate::queues::Queues;

/// Largest request. Source: Amazon DynamoDB Developer Guide, "Quotas": 16 MB for a batch.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

const DYNAMODB: &str = "DynamoDB_20120810.";
const DYNAMODB_STREAMS: &str = "DynamoDBStreams_20120810.";
const SQS: &str = "AmazonSQS.";
const EVENTS: &str = "AWSEvents.";

/// The services behind the endpoint.
#[derive(Clone)]
pub struct Endpoint {
    /// DynamoDB and its streams.
    pub dynamodb: DynamoDb,
    /// SQS.
    pub queues: Queues,
    /// EventBridge.
    pub bus: Bus,
    /// The functions' roles.
    pub iam: Iam,
    /// Lambda.
    pub lambda: Lambda,
    /// Where it is reached.
    pub url: String,
}

/// The endpoint.
pub fn router(endpoint: Endpoint) -> Router {
    Router::new()
        .route("/", post(answer))
        // Where the address of a queue points.
        .route("/{account}/{queue}", post(answer))
        .route("/_local/calls", get(list_calls))
        .route("/_local/rights", get(list_requested_permissions))
        .route("/_local/events", get(list_events))
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(endpoint)
}

/// Lambda's Invoke, waiting for the answer.
async fn invoke(State(endpoint): State<Endpoint>, Path(name): Path<String>, event: Bytes) -> Response {
    let error =
        |kind: &str, e: &InvokeError| json!({"errorType": kind, "errorMessage": e.to_string()}).to_string();
    match endpoint.lambda.invoke(&name, event).await {
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

async fn answer(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(body) = String::from_utf8(body.into()) else { return refuse_unknown(target) };
    let service = match target.split_once('.') {
        Some(("DynamoDB_20120810" | "DynamoDBStreams_20120810", operation)) => Some(("dynamodb", operation)),
        Some(("AmazonSQS", operation)) => Some(("sqs", operation)),
        Some(("AWSEvents", operation)) => Some(("events", operation)),
        _ => None,
    };
    if let Some((service, operation)) = service
        && let Err(message) = endpoint.iam.check(caller_of(&headers), service, operation, &body)
    {
        return respond(400, json!({"__type": "AccessDeniedException", "message": message}).to_string());
    }
    if let Some(operation) = target.strip_prefix(DYNAMODB).or_else(|| target.strip_prefix(DYNAMODB_STREAMS)) {
        return ask_dynamodb(endpoint.dynamodb, operation, body, &headers).await;
    }
    let request = match serde_json::from_str(&body) {
        Ok(request) => request,
        Err(e) if target.is_empty() => return refuse_unknown(&e.to_string()),
        Err(e) => {
            return respond(
                400,
                json!({"__type": "SerializationException", "message": e.to_string()}).to_string(),
            );
        }
    };
    if let Some(operation) = target.strip_prefix(SQS) {
        return match endpoint.queues.answer(operation, &request, &endpoint.url).await {
            Ok(answer) => respond(200, answer.to_string()),
            Err(e) => {
                let mut response = respond(400, e.to_json());
                if let Ok(code) = HeaderValue::from_str(&e.query_code()) {
                    response.headers_mut().insert("x-amzn-query-error", code);
                }
                response
            }
        };
    }
    match target.strip_prefix(EVENTS) {
        Some("PutEvents") => match endpoint.bus.put_events(&request) {
            Ok(answer) => respond(200, answer.to_string()),
            Err((code, message)) => respond(400, json!({"__type": code, "message": message}).to_string()),
        },
        Some("DescribeEventBus") => respond(200, Bus::describe(&request).to_string()),
        _ => refuse_unknown(target),
    }
}

async fn ask_dynamodb(dynamodb: DynamoDb, operation: &str, body: String, headers: &HeaderMap) -> Response {
    let (caller, operation) = (caller_of(headers).to_owned(), operation.to_owned());
    // The database blocks, so it is called on a thread that may.
    match tokio::task::spawn_blocking(move || dynamodb.answer(&caller, &operation, &body)).await {
        Ok(answer) => respond(answer.status, answer.body),
        Err(e) => {
            respond(500, json!({"__type": "InternalServerError", "message": e.to_string()}).to_string())
        }
    }
}

fn refuse_unknown(target: &str) -> Response {
    let message = format!(
        "this endpoint speaks DynamoDB, DynamoDB Streams, SQS (JSON), PutEvents and DescribeEventBus of EventBridge, and \
         Lambda's Invoke; the request's target is {target:?}"
    );
    respond(
        400,
        json!({"__type": "com.amazon.coral.service#UnknownOperationException", "message": message})
            .to_string(),
    )
}

/// The events that were published after the one of a number, of one order or of all.
async fn list_events(State(endpoint): State<Endpoint>, Query(query): Query<Events>) -> Response {
    match endpoint.bus.published_after(query.after, query.order_id.as_deref()) {
        Ok(page) => axum::Json(page).into_response(),
        Err(e) => respond(500, e.to_json()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    #[serde(default)]
    after: u64,
    order_id: Option<String>,
}

/// How often each caller has called each operation.
async fn list_calls(State(endpoint): State<Endpoint>) -> Response {
    let calls: Vec<_> = endpoint
        .dynamodb
        .calls()
        .into_iter()
        .map(|((caller, operation), usage)| {
            let (calls, units) = (usage.calls, usage.table_write_units);
            json!({"caller": caller, "operation": operation, "calls": calls, "tableWriteUnits": units})
        })
        .collect();
    axum::Json(calls).into_response()
}

/// The permissions that each function has requested so far.
async fn list_requested_permissions(State(endpoint): State<Endpoint>) -> Response {
    let requested: Vec<_> = endpoint
        .iam
        .requested()
        .into_iter()
        .map(|(caller, permission)| json!({"caller": caller, "ask": permission}))
        .collect();
    axum::Json(requested).into_response()
}

/// The access key that signed the request; on this machine it is the name of the function.
fn caller_of(headers: &HeaderMap) -> &str {
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
