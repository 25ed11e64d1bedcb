//! HTTP: requests and answers, the same for every function that API Gateway calls.
//!
//! [`serve`] is the loop of such a function: it parses the event into a [`Request`], calls the handler
//! within the time there is, sends its [`Answer`] (JSON, a page or another file) or a [`Problem`], and logs the
//! outcome once.

mod answer;
mod event;
mod prefer;
mod problem;
mod request;
mod views;

use lambda_http::http::{HeaderName, StatusCode};
use lambda_http::{Body, Context, Error, Response};
use tokio::time::Instant;

use answer::respond;
use event::run;

pub use answer::Answer;
pub use event::ApiGatewayEvent;
pub use problem::{Problem, code};
pub use request::{Request, Role};
pub use views::{
    AcceptedView, ItemRequest, LocationView, ProductView, ReservationView, find_target, refuse_null,
    sum_order_lines,
};

use crate::domain::Timestamp;
pub use crate::function::Deps;
use crate::function::{Clock, Work, elapsed_ms, init_process, invocation, write_metrics};
use crate::metrics::Metric;
use crate::settings::Settings;
use crate::store::Outcome;

/// The header that carries the correlation id, in and out.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Largest body that is read, in bytes. An order of 99 long lines has about 30,000.
pub const MAX_BODY_BYTES: usize = 128 * 1024;

/// The route that holds stock.
pub const RESERVE: &str = "POST /reserve";

/// A time as every answer writes it: RFC 3339, UTC, milliseconds.
fn format_time(at: Timestamp) -> String {
    format!("{at:.3}")
}

impl Outcome {
    /// The answer to a request on an existing reservation: 200 with the reservation.
    ///
    /// # Errors
    /// The problem to answer with, if the request was refused.
    pub fn answer(self, now: Timestamp) -> Result<Answer, Problem> {
        match self {
            Self::Done { reservation, .. } => Answer::ok(&ReservationView::at(now, &reservation)),
            Self::Refused { refusal, reservation } => {
                Err(Problem::from_refusal(&refusal, reservation.as_deref()))
            }
        }
    }
}

/// An answer under way. It can be worked on beside others, which an `AsyncFn` cannot promise of its own.
pub type Answering<'a> = Work<'a, Result<Answer, Problem>>;

/// What answers the requests to a function.
pub type Handle = for<'a> fn(&'a Deps, &'a Request) -> Answering<'a>;

/// Runs a function until its process ends, with as many requests at once as Lambda gives it. `operation` is the
/// function's name.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn serve(operation: &'static str, handle: Handle) -> Result<(), Error> {
    let deps = Deps::init().await?;
    run(move |event, context| {
        let deps = deps.clone();
        async move { answer(operation, event, &context, &deps, handle).await }
    })
    .await
}

/// The same for a function that neither reads nor writes the tables: it connects to nothing and needs no right to
/// anything.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn serve_without_store(
    operation: &'static str,
    handle: for<'a> fn(&'a Request) -> Answering<'a>,
) -> Result<(), Error> {
    let (settings, clock) = (init_process()?, Clock::system());
    run(move |event, context| {
        let (settings, clock) = (settings.clone(), clock.clone());
        async move {
            let frame = Frame { operation, settings: &settings, clock: &clock };
            frame.answer(event, &context, handle).await
        }
    })
    .await
}

/// One invocation: request in, response out. `operation` is the function's name.
pub async fn answer(
    operation: &'static str,
    event: ApiGatewayEvent,
    context: &Context,
    deps: &Deps,
    handle: Handle,
) -> Response<Body> {
    let frame = Frame { operation, settings: &deps.settings, clock: &deps.clock };
    let deps = deps.clone();
    frame.answer(event, context, |request| Box::pin(async move { handle(&deps, request).await })).await
}

/// The steps around every handler: parsing, the time limit, the log line and the metrics.
struct Frame<'a> {
    operation: &'static str,
    settings: &'a Settings,
    clock: &'a Clock,
}

impl Frame<'_> {
    async fn answer(
        &self,
        event: ApiGatewayEvent,
        context: &Context,
        handle: impl for<'r> FnOnce(&'r Request) -> Answering<'r>,
    ) -> Response<Body> {
        let began = Instant::now();
        let invocation = invocation(self.clock, Some(context), event.correlation_id(context));
        let (correlation_id, deadline) = (invocation.correlation_id.clone(), invocation.deadline);
        let (route, outcome) = match Request::parse(event, &context.request_id, invocation.clone()) {
            Err(problem) => (String::new(), Err(problem)),
            Ok(request) => {
                let outcome = tokio::time::timeout_at(deadline, handle(&request)).await;
                let outcome = outcome.unwrap_or_else(|_| Err(Problem::try_again("no answer in time")));
                let outcome = outcome.map_err(|problem| problem.with_key_to_send(request.generated_key()));
                (request.route().to_owned(), outcome)
            }
        };
        log(self.operation, &route, &outcome, &correlation_id, began);
        let status = outcome.as_ref().map_or_else(|problem| problem.status, |answer| answer.status);
        if let Some(metric) = reservation_metric(&route, status) {
            invocation.metrics.add(metric, 1);
        }
        if status.is_server_error() {
            invocation.metrics.add(Metric::FailedAnswers, 1);
        }
        write_metrics(self.operation, self.settings, &invocation);
        respond(outcome, &correlation_id, self.settings.public_cache)
    }
}

/// The metric for the outcome of a reserve; none for other routes and for requests that are invalid.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws;
    use crate::order_queue::OrderQueue;
    use crate::store::Store;

    /// Two requests that are under way in one process at once each have their own time and their own id.
    #[tokio::test(start_paused = true)]
    async fn requests_at_once_end_each_in_its_own_time() {
        let tables = |name: &str| name.ends_with("_TABLE").then(|| name.to_lowercase());
        let settings = Settings::from_lookup(tables).unwrap();
        let store =
            Store::connect(aws::config_for("http://127.0.0.1:9", "test"), settings.store.clone()).await;
        let order_queue = OrderQueue::new(|| crate::aws::config_for("http://127.0.0.1:9", "nobody"));
        let deps = Deps { store, order_queue, settings, clock: Clock::new(|| Timestamp::UNIX_EPOCH) };
        let ask = async |id: &str, deadline_ms: u64| {
            let event =
                json!({"headers": {"x-correlation-id": id}, "requestContext": {"routeKey": "GET /x"}});
            let mut context = Context::default();
            context.deadline = deadline_ms;
            let (event, began) = (serde_json::from_value(event).unwrap(), Instant::now());
            let response =
                answer("test", event, &context, &deps, |_, _| Box::pin(std::future::pending())).await;
            let id = response.headers()[CORRELATION_ID].to_str().unwrap().to_owned();
            (response.status().as_u16(), id, began.elapsed().as_secs())
        };
        let (first, second) = tokio::join!(ask("first", 3_000), ask("second", 6_000));
        assert_eq!(first, (503, "first".to_owned(), 2));
        assert_eq!(second, (503, "second".to_owned(), 5));
    }
}
