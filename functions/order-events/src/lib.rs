//! `order-events`: applies order events to stock, from a queue that delivers at least once and in any order.
//!
//! A business outcome (held, short, a repetition) is a result: its message is done. A message fails where
//! the outcome is not known, and comes again; one that can never be understood fails too, and ends in the
//! dead-letter queue with its reason in the log.
//!
//! In reading order: `name` finds the meaning of an event's name, `fields` reads the members of a JSON object,
//! `envelope` unwraps an event, `lines` reads the lines of an order or delivery, and `event` puts these together.

mod envelope;
pub mod event;
mod fields;
mod lines;
mod name;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use futures::StreamExt as _;
use serde_json::{Value, json};
use shared::domain::{Action, Fact, Invalid, ReservationId, State, Target};
use shared::function::{Deps, elapsed_ms, serve_events_at_once};
use shared::metrics::Metric;
use shared::store::{Invocation, Outcome};
use shared::{Error, planted};
use tokio::time::Instant;

use crate::event::{IgnoredEvent, IncomingEvent, OrderEvent, parse};

/// Orders that are handled at once. Those of one product go together in one transaction, which takes 99.
const ORDERS_AT_ONCE: usize = 100;

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    serve_events_at_once("order-events", Deps::init().await?, |deps, event, invocation| {
        Box::pin(handle(deps, event, invocation))
    })
    .await
}

/// A message of the batch.
struct Message<'a> {
    id: &'a str,
    /// Whether the queue has delivered it before.
    is_redelivered: bool,
    event: OrderEvent,
}

/// Handles a batch and answers with the messages that must come again.
///
/// # Errors
/// If the event is no batch, or a record has no message id: an empty id in the answer would fail the whole
/// batch in silence, so it fails aloud.
pub async fn handle(deps: &Deps, event: &Value, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let records = event["Records"].as_array().ok_or("the event has no Records: it is not from a queue")?;
    let mut failed: Vec<&str> = Vec::new();
    // Messages of one order are worked on one after the other, those of different orders at once.
    let mut orders: BTreeMap<ReservationId, Vec<Message>> = BTreeMap::new();
    for record in records {
        let is_id = |id: &&str| !id.is_empty() || planted("a-message-may-have-no-id");
        let id = record["messageId"].as_str().filter(is_id).ok_or("a record has no messageId")?;
        let parsed = match record["body"].as_str() {
            Some(body) => parse_without_panic(|| parse(body, event_type(record))),
            None => Err(Invalid("the record has no body".to_owned())),
        };
        match parsed {
            Ok(IncomingEvent::Fact(event)) => {
                let message = Message { id, is_redelivered: is_redelivered(record), event };
                orders.entry(ReservationId::of(&message.event.order_id)).or_default().push(message);
            }
            Ok(IncomingEvent::Nothing(event)) => ignore_event(id, &event, invocation),
            Err(Invalid(error)) => {
                tracing::error!(operation = "order-events", outcome = "unreadable", message_id = id, error);
                if !planted("an-unreadable-message-is-done") {
                    failed.push(id);
                }
            }
        }
    }
    let handling: Vec<_> = orders
        .into_values()
        .map(|messages| handle_order(messages, invocation, |message, i| apply_event(deps, message, i)))
        .collect();
    let mut running = futures::stream::iter(handling).buffer_unordered(ORDERS_AT_ONCE);
    while let Some(of_order) = running.next().await {
        failed.extend(of_order);
    }
    tracing::info!(
        operation = "order-events",
        outcome = if failed.is_empty() { "ok" } else { "failed" },
        records = records.len(),
        failed = failed.len(),
        duration_ms = elapsed_ms(began),
        correlation_id = invocation.correlation_id,
    );
    let items: Vec<Value> = failed.iter().map(|id| json!({"itemIdentifier": id})).collect();
    Ok(json!({"batchItemFailures": items}))
}

/// The value of the message attribute `eventType`, whose name is matched as the members of an event are.
fn event_type(record: &Value) -> Option<&str> {
    let attributes = record["messageAttributes"].as_object()?;
    let (_, attribute) = attributes.iter().find(|(key, _)| name::normalize(key) == "eventtype")?;
    attribute["stringValue"].as_str()
}

/// Whether this is not the first time that the queue delivers the message.
fn is_redelivered(record: &Value) -> bool {
    let count = record["attributes"]["ApproximateReceiveCount"].as_str();
    count.is_some_and(|count| count != "1") && !planted("what-comes-again-is-not-looked-for")
}

/// Logs and counts an event that does not concern stock. Its name goes into the log only: as a dimension of a metric,
/// every name that a shop comes up with would cost money.
fn ignore_event(message_id: &str, event: &IgnoredEvent, invocation: &Invocation) {
    if !event.is_known {
        invocation.metrics.add(Metric::UnknownEvents, 1);
    }
    tracing::info!(
        operation = "order-events",
        route = if event.is_known { "updated" } else { "unknown" },
        outcome = "changes_nothing",
        event = event.name,
        message_id,
        correlation_id = event.correlation_id.as_deref().unwrap_or(message_id),
    );
}

/// Handles the messages of one order, one after the other. Answers with the ids of those that must come again. A panic
/// fails one message, not the batch.
async fn handle_order<'a, H, F>(messages: Vec<Message<'a>>, invocation: &Invocation, apply: H) -> Vec<&'a str>
where
    H: Fn(Message<'a>, Invocation) -> F,
    F: Future<Output = Result<MessageOutcome, String>>,
{
    let mut failed = Vec::new();
    for message in messages {
        let began = Instant::now();
        let (id, fact) = (message.id, message.event.fact());
        let correlation_id = message.event.correlation_id.clone().unwrap_or_else(|| id.to_owned());
        let of_message = Invocation { correlation_id, ..invocation.clone() };
        let applying = AssertUnwindSafe(apply(message, of_message.clone())).catch_unwind();
        let outcome = match tokio::time::timeout_at(invocation.deadline, applying).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err("it panicked".to_owned()),
            Err(_) => Err("time is up".to_owned()),
        };
        let duration_ms = elapsed_ms(began);
        let correlation_id = of_message.correlation_id.as_str();
        if let Some(metric) = metric(fact, &outcome) {
            invocation.metrics.add(metric, 1);
        }
        match outcome {
            Ok(MessageOutcome { route, outcome }) => {
                tracing::info!(
                    operation = "order-events",
                    route,
                    outcome,
                    message_id = id,
                    duration_ms,
                    correlation_id
                );
            }
            Err(error) => {
                tracing::error!(
                    operation = "order-events",
                    route = fact.name(),
                    outcome = "failed",
                    message_id = id,
                    duration_ms,
                    correlation_id,
                    error
                );
                if !planted("a-failed-message-is-done") {
                    failed.push(id);
                }
            }
        }
    }
    failed
}

/// The metric that counts an event which begins an order.
fn metric(fact: Fact, outcome: &Result<MessageOutcome, String>) -> Option<Metric> {
    match outcome {
        _ if fact != Fact::Created => None,
        Err(_) => Some(Metric::ReservationsFailed),
        Ok(MessageOutcome { outcome, .. }) => match *outcome {
            "repeated" => Some(Metric::ReservationsRepeated),
            _ if *outcome == State::Rejected.name() => Some(Metric::ReservationsRefused),
            _ if *outcome == State::Reserved.name() => Some(Metric::ReservationsHeld),
            _ if *outcome == State::Confirmed.name() => Some(Metric::ReservationsHeld),
            _ => None,
        },
    }
}

/// The outcome of one message, as it is logged.
struct MessageOutcome {
    route: &'static str,
    outcome: &'static str,
}

/// Applies the fact that an event tells to its order.
async fn apply_event(
    deps: &Deps,
    message: Message<'_>,
    invocation: Invocation,
) -> Result<MessageOutcome, String> {
    let Message { is_redelivered, event, .. } = message;
    let (fact, ttl) = (event.fact(), event.ttl.or(deps.settings.reservation_ttl));
    let expires_at = ttl.map(|ttl| invocation.now.checked_add(ttl)).transpose().map_err(|e| e.to_string())?;
    let action = Action::Hear { heard: event.heard, expires_at };
    let command = invocation.command(Target::Order(event.order_id), action);
    let outcome = if is_redelivered {
        deps.store.apply_again(command, &invocation).await
    } else {
        deps.store.apply(command, &invocation).await
    };
    let outcome = match outcome.map_err(|e| e.to_string())? {
        Outcome::Done { first: false, .. } => "repeated",
        // It contradicts what was recorded before: both are kept, and the publisher tells of it.
        Outcome::Done { reservation, .. } if reservation.is_newly_contradicted() => "conflict",
        Outcome::Done { reservation, .. } => reservation.state.name(),
        other => return Err(format!("a fact cannot be refused, but it was: {other:?}")),
    };
    Ok(MessageOutcome { route: fact.name(), outcome })
}

/// Parses a message; a panic becomes an error of that message.
fn parse_without_panic(
    parse: impl FnOnce() -> Result<IncomingEvent, Invalid>,
) -> Result<IncomingEvent, Invalid> {
    std::panic::catch_unwind(AssertUnwindSafe(parse))
        .unwrap_or_else(|_| Err(Invalid("reading it panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn invocation() -> Invocation {
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        Invocation {
            now: shared::domain::Timestamp::UNIX_EPOCH,
            deadline,
            correlation_id: "c".to_owned(),
            metrics: shared::metrics::Metrics::default(),
        }
    }

    /// Scenario 36.
    #[tokio::test]
    async fn a_panic_fails_one_message() {
        let ids = ["m-1", "m-2", "m-3", "m-4", "m-5"];
        let paid = parse(r#"{"type":"OrderPaid","orderId":"o"}"#, None).expect("an event");
        let IncomingEvent::Fact(paid) = paid else { panic!("it is a fact") };
        let messages = ids.map(|id| Message { id, is_redelivered: false, event: paid.clone() }).into();
        let calls = Cell::new(0);
        let apply = async |_: Message<'_>, _: Invocation| {
            calls.set(calls.get() + 1);
            assert!(calls.get() != 4, "on purpose");
            Ok(MessageOutcome { route: "paid", outcome: "ok" })
        };
        assert_eq!(handle_order(messages, &invocation(), apply).await, ["m-4"]);
        assert_eq!(calls.get(), 5);
        let Invalid(error) = parse_without_panic(|| panic!("on purpose")).expect_err("a panic");
        assert!(error.contains("panicked"));
    }
}
