//! HTTP, as every function that API Gateway calls speaks it.
//!
//! [`serve`] is the loop of such a function: it makes a [`Request`] of the event, calls the handler
//! within the time there is, answers with JSON or with a [`Problem`], and logs the outcome once.

mod event;
mod problem;
mod request;
mod views;

use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::{HeaderName, HeaderValue, StatusCode, header};
use lambda_http::{Body, Context, Error, Response};
use serde::Serialize;
use tokio::time::Instant;

pub use event::{Event, run};
pub use problem::{Problem, code};
pub use request::{MAX_BODY_BYTES, Request, Role};
pub use views::{
    ItemRequest, LocationView, ProductView, ReservationView, not_null, order_lines, target, time,
};

use crate::domain::Timestamp;
pub use crate::function::Deps;
use crate::function::{elapsed_ms, invocation, report};
use crate::metrics::Metric;
use crate::store::Outcome;

/// The header that carries the correlation id, in and out.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// The route that holds stock.
pub const RESERVE: &str = "POST /reserve";

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: String,
    is_public: bool,
}

impl Answer {
    /// 200 with a JSON body.
    ///
    /// # Errors
    /// If the body does not serialise, which is a bug.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 where the request made it so, 200 where it was so before.
    ///
    /// # Errors
    /// If the body does not serialise, which is a bug.
    pub fn created(first: bool, body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(if first { StatusCode::CREATED } else { StatusCode::OK }, body)
    }

    /// A body that is JSON text already, with 201 where something began to exist.
    #[must_use]
    pub fn stored(created: bool, body: String) -> Self {
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        Self { status, body, is_public: false }
    }

    /// The same for whoever asks, and a promise to nobody: a cache may keep it as long as the settings say.
    #[must_use]
    pub fn public(self) -> Self {
        Self { is_public: true, ..self }
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_string(body).map_err(|e| Problem::internal(format!("an answer: {e}")))?;
        Ok(Self { status, body, is_public: false })
    }
}

impl Outcome {
    /// The answer to a request on a reservation that is there: 200 with the reservation.
    ///
    /// # Errors
    /// The problem that the client is told where it was refused.
    pub fn answer(self, now: Timestamp) -> Result<Answer, Problem> {
        match self {
            Self::Done { reservation, .. } => Answer::ok(&ReservationView::at(now, &reservation)),
            Self::Refused { refusal, reservation } => Err(Problem::refused(&refusal, reservation.as_deref())),
        }
    }
}

/// Runs a function until its process ends. `operation` is the function's name.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn serve<H, F>(operation: &'static str, handle: H) -> Result<(), Error>
where
    H: Fn(Arc<Deps>, Arc<Request>) -> F + Copy + Send + Sync,
    F: Future<Output = Result<Answer, Problem>> + Send,
{
    let deps = Deps::init().await?;
    let deps = &deps;
    run(|event, context| async move { answer(operation, event, &context, deps, handle).await }).await
}

/// One invocation: request in, response out. `operation` is the function's name.
pub async fn answer<H, F>(
    operation: &'static str,
    event: Event,
    context: &Context,
    deps: &Arc<Deps>,
    handle: H,
) -> Response<Body>
where
    H: Fn(Arc<Deps>, Arc<Request>) -> F,
    F: Future<Output = Result<Answer, Problem>>,
{
    let began = Instant::now();
    let invocation = invocation(&deps.clock, Some(context), event.correlation_id(context));
    let (correlation_id, deadline) = (invocation.correlation_id.clone(), invocation.deadline);
    let (route, outcome) = match Request::parse(event, &context.request_id, invocation.clone()) {
        Err(problem) => (String::new(), Err(problem)),
        Ok(request) => {
            let route = request.route().to_owned();
            let request = Arc::new(request);
            let handled = handle(Arc::clone(deps), Arc::clone(&request));
            let outcome = tokio::time::timeout_at(deadline, handled).await;
            let outcome = outcome.unwrap_or_else(|_| Err(Problem::try_again("no answer in time")));
            (route, outcome.map_err(|problem| problem.with_key_to_send(request.made_up_key())))
        }
    };
    log(operation, &route, &outcome, &correlation_id, began);
    let status = outcome.as_ref().map_or_else(|problem| problem.status, |answer| answer.status);
    if let Some(metric) = reservation_metric(&route, status) {
        invocation.metrics.add(metric, 1);
    }
    if status.is_server_error() {
        invocation.metrics.add(Metric::FailedAnswers, 1);
    }
    report(operation, &deps.settings, &invocation);
    respond(outcome, &correlation_id, deps.settings.public_cache)
}

/// What became of an order that was to be held. A request that is wrong in itself is none.
fn reservation_metric(route: &str, status: StatusCode) -> Option<Metric> {
    match status {
        _ if route != RESERVE => None,
        StatusCode::CREATED => Some(Metric::ReservationsHeld),
        StatusCode::OK => Some(Metric::ReservationsRepeated),
        StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            Some(Metric::ReservationsRefused)
        }
        status if status.is_server_error() => Some(Metric::ReservationsFailed),
        _ => None,
    }
}

/// The one line that an invocation logs.
fn log(
    operation: &'static str,
    route: &str,
    outcome: &Result<Answer, Problem>,
    correlation_id: &str,
    began: Instant,
) {
    let duration_ms = elapsed_ms(began);
    match outcome {
        Ok(answer) => {
            let status = answer.status.as_u16();
            tracing::info!(operation, route, outcome = "ok", status, duration_ms, correlation_id);
        }
        Err(problem) => {
            let (status, code) = (problem.status.as_u16(), problem.code);
            match &problem.internal {
                Some(error) => {
                    tracing::error!(
                        operation,
                        route,
                        outcome = code,
                        status,
                        duration_ms,
                        correlation_id,
                        error
                    );
                }
                None => tracing::info!(operation, route, outcome = code, status, duration_ms, correlation_id),
            }
        }
    }
}

fn respond(outcome: Result<Answer, Problem>, correlation_id: &str, public_cache: Duration) -> Response<Body> {
    let max_age = public_cache.as_secs();
    let cache_control = match &outcome {
        Ok(Answer { is_public: true, .. }) if max_age > 0 => format!("public, max-age={max_age}"),
        _ => "no-store".to_owned(),
    };
    let (status, media_type, body, retry_after) = match outcome {
        Ok(answer) => (answer.status, "application/json", answer.body, None),
        Err(problem) => {
            (problem.status, "application/problem+json", problem.to_json(correlation_id), problem.retry_after)
        }
    };
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in [(header::CACHE_CONTROL, cache_control.as_str()), (CORRELATION_ID, correlation_id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
