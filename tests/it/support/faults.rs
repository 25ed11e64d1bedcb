//! A wire between the store and DynamoDB that misbehaves on purpose, once for each fault that is put in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// What goes wrong with the next write.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The request never arrives.
    Drop,
    /// It is applied, and no answer comes.
    Lose,
    /// It is applied, and answered with an error 500.
    Error500,
    /// It is not applied now but after so long, and no answer comes.
    Late(Duration),
    /// It is refused: another write on its first item is under way.
    Conflict,
    /// It is refused: its first item's partition is busy.
    Throttle,
    /// It is refused until then: a transaction with the same token is under way.
    InProgress(tokio::time::Instant),
}

/// The wire.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) url: String,
    real: String,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Wire {
    /// A wire to the endpoint at `real`.
    pub(crate) async fn to(real: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let wire = Self { url, real: real.to_owned(), faults: Arc::default() };
        let router = axum::Router::new().fallback(pass).with_state(wire.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        wire
    }

    /// Puts in what goes wrong with the next writes.
    pub(crate) fn put_in(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// How many faults have not happened yet.
    pub(crate) fn left(&self) -> usize {
        self.faults.lock().unwrap().len()
    }

    async fn real(&self, headers: HeaderMap, body: String) -> Response {
        let sent = reqwest::Client::new().post(&self.real).headers(headers).body(body).send().await.unwrap();
        let status = sent.status();
        (status, sent.text().await.unwrap()).into_response()
    }
}

async fn pass(State(wire): State<Wire>, headers: HeaderMap, body: String) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let writes = ["TransactWriteItems", "PutItem", "UpdateItem"].iter().any(|write| target.ends_with(write));
    let fault = if writes { wire.faults.lock().unwrap().pop_front() } else { None };
    match fault {
        None => wire.real(headers, body).await,
        Some(Fault::Drop) => std::future::pending().await,
        Some(Fault::Lose) => {
            wire.real(headers, body).await;
            std::future::pending().await
        }
        Some(Fault::Error500) => {
            wire.real(headers, body).await;
            error(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"__type": "InternalServerError", "message": "on purpose"}),
            )
        }
        Some(Fault::Late(after)) => {
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                wire.real(headers, body).await;
            });
            std::future::pending().await
        }
        Some(Fault::Conflict) => cancelled(&body, "TransactionConflict"),
        Some(Fault::Throttle) => cancelled(&body, "ThrottlingError"),
        Some(Fault::InProgress(until)) if tokio::time::Instant::now() >= until => {
            wire.real(headers, body).await
        }
        Some(Fault::InProgress(until)) => {
            wire.faults.lock().unwrap().push_front(Fault::InProgress(until));
            let refused = json!({"__type": "TransactionInProgressException", "Message": "on purpose"});
            error(StatusCode::BAD_REQUEST, &refused)
        }
    }
}

fn cancelled(body: &str, code: &str) -> Response {
    let request: Value = serde_json::from_str(body).unwrap();
    let actions = request["TransactItems"].as_array().map_or(0, Vec::len);
    if actions == 0 {
        return error(
            StatusCode::BAD_REQUEST,
            &json!({"__type": "ThrottlingException", "message": "on purpose"}),
        );
    }
    let mut reasons = vec![json!({"Code": "None"}); actions];
    reasons[0] = json!({"Code": code, "Message": "on purpose"});
    let error_type = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let message = format!("Transaction cancelled [{code}]");
    error(
        StatusCode::BAD_REQUEST,
        &json!({"__type": error_type, "Message": message, "CancellationReasons": reasons}),
    )
}

fn error(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/x-amz-json-1.0")], body.to_string()).into_response()
}
