//! The Runtime API: what processes of functions poll.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda runtime API".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::process::Process;
use crate::account::{ACCOUNT_ID, REGION};

/// Largest event and answer. Source: AWS Lambda Developer Guide, "Quotas", invocation payload.
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// The processes by the number that is a part of the address that each one polls.
#[derive(Default)]
pub(super) struct Processes(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: u64,
    // They belong to the functions: what is here must not keep one alive.
    processes: HashMap<u64, Weak<Process>>,
}

impl Processes {
    /// Starts a process under a number of its own. It is known before it can ask for anything.
    pub(super) fn add(
        &self,
        start: impl FnOnce(u64) -> std::io::Result<Process>,
    ) -> std::io::Result<Arc<Process>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.processes.retain(|_, process| process.strong_count() > 0);
        known.last += 1;
        let number = known.last;
        let process = Arc::new(start(number)?);
        known.processes.insert(number, Arc::downgrade(&process));
        Ok(process)
    }

    fn get(&self, number: u64) -> Result<Arc<Process>, StatusCode> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.processes.get(&number).and_then(Weak::upgrade).ok_or(StatusCode::NOT_FOUND)
    }
}

pub(super) fn router(processes: Arc<Processes>) -> Router {
    Router::new()
        .route("/{process}/2018-06-01/runtime/invocation/next", get(hand_out_invocation))
        .route("/{process}/2018-06-01/runtime/invocation/{id}/response", post(take_answer))
        .route("/{process}/2018-06-01/runtime/invocation/{id}/error", post(take_error))
        .route("/{process}/2018-06-01/runtime/init/error", post(take_init_error))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .with_state(processes)
}

async fn hand_out_invocation(
    State(processes): State<Arc<Processes>>,
    Path(process): Path<u64>,
) -> Result<Response, StatusCode> {
    let invocation = processes.get(process)?.next().await.ok_or(StatusCode::GONE)?;
    let headers = [
        ("lambda-runtime-trace-id", trace_of(&invocation.id)),
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", invocation.deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:local"),
        ),
        ("content-type", "application/json".to_owned()),
    ];
    Ok((headers, invocation.event).into_response())
}

/// The trace header of an invocation, made of its id: that of a trace which is not recorded.
fn trace_of(id: &str) -> String {
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    let (time, unique) = digits.split_at(digits.len().min(8));
    format!("Root=1-{time}-{unique};Sampled=0")
}

async fn take_answer(
    State(processes): State<Arc<Processes>>,
    Path((process, id)): Path<(u64, String)>,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    accept(processes.get(process)?.answer(&id, Ok(body)))
}

async fn take_error(
    State(processes): State<Arc<Processes>>,
    Path((process, id)): Path<(u64, String)>,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    accept(processes.get(process)?.answer(&id, Err(String::from_utf8_lossy(&body).into_owned())))
}

fn accept(is_known: bool) -> Result<StatusCode, StatusCode> {
    if is_known { Ok(StatusCode::ACCEPTED) } else { Err(StatusCode::BAD_REQUEST) }
}

async fn take_init_error(
    State(processes): State<Arc<Processes>>,
    Path(process): Path<u64>,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    processes.get(process)?.fail_to_start(&String::from_utf8_lossy(&body));
    Ok(StatusCode::ACCEPTED)
}
