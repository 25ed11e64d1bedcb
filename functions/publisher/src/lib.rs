//! `publisher`: turns what was committed into movements of the ledger, alerts, and events on the bus. It is
//! the only one that sends events; it reads them off the table's stream, so what is published has happened,
//! and what has happened is published.
//!
//! It is called with records in order, and again from the first that failed. Everything it does may be done
//! again: movements and alerts have keys, events have ids that follow from the record.

use std::sync::Arc;

use aws_lambda_events::event::dynamodb::EventRecord;
use aws_sdk_sqs::error::DisplayErrorContext;
use serde_json::{Value, json};
use shared::Error;
use shared::aws::ConfigLoader;
use shared::domain::Timestamp;
use shared::domain::events::{self, Event, Movement, name};
use shared::function::{Deps, elapsed_ms, serve_events};
use shared::metrics::{Metric, Metrics};
use shared::publishing::{Bus, MAX_ENTRIES, MAX_REQUEST_BYTES, NotTaken};
use shared::settings::{BadSetting, required};
use shared::store::{Change, Invocation, StoreError, parse_change};
use tokio::time::Instant;

/// What the function works with.
pub struct Outbox {
    deps: Arc<Deps>,
    bus: Bus,
    queue: aws_sdk_sqs::Client,
    dead_letter_queue_url: String,
}

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    let deps = Deps::init().await?;
    let outbox = &Arc::new(Outbox::connect(deps, shared::aws::config).await?);
    serve_events("publisher", &outbox.deps, |event, invocation| {
        let outbox = Arc::clone(outbox);
        async move { handle(&outbox, &event, &invocation).await }
    })
    .await
}

/// One record of the batch, and what follows from it.
struct Record<'a> {
    raw: &'a Value,
    sequence_number: &'a str,
    change: Change,
}

/// Works on a batch and answers with the first record that must come again, and all after it.
///
/// # Errors
/// If the event is no batch of stream records.
pub async fn handle(outbox: &Outbox, event: &Value, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let raw = event["Records"].as_array().ok_or("the event has no Records: it is not from a stream")?;
    let mut numbers = Vec::with_capacity(raw.len());
    for record in raw {
        let number = record["dynamodb"]["SequenceNumber"].as_str().filter(|number| !number.is_empty());
        numbers.push(number.ok_or("a record has no SequenceNumber")?);
    }
    let work = work(outbox, raw, &numbers, invocation);
    let outcome = tokio::time::timeout_at(invocation.deadline, work).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Failed { from: 0, error: "time is up".to_owned() }));
    let duration_ms = elapsed_ms(began);
    let (records, correlation_id) = (raw.len(), invocation.correlation_id.as_str());
    let failures = match outcome {
        Ok(published) => {
            tracing::info!(
                operation = "publisher",
                outcome = "ok",
                records,
                published,
                duration_ms,
                correlation_id
            );
            Vec::new()
        }
        Err(Failed { from, error }) => {
            tracing::error!(
                operation = "publisher",
                outcome = "failed",
                records,
                failed_from = from,
                duration_ms,
                correlation_id,
                error
            );
            vec![json!({"itemIdentifier": numbers.get(from).copied().unwrap_or_default()})]
        }
    };
    Ok(json!({"batchItemFailures": failures}))
}

/// The batch must come again from this record on.
struct Failed {
    from: usize,
    error: String,
}

/// Events first: a movement in the ledger is then a proof that its events were sent. Whatever fails at a
/// record, everything of the records before it is done, because they do not come again.
async fn work(
    outbox: &Outbox,
    raw: &[Value],
    numbers: &[&str],
    invocation: &Invocation,
) -> Result<usize, Failed> {
    let mut records = Vec::with_capacity(raw.len());
    let mut unreadable = Vec::new();
    for (i, (raw, sequence_number)) in raw.iter().zip(numbers).enumerate() {
        match read(raw) {
            Ok(change) => records.push((i, Record { raw, sequence_number, change })),
            Err(error) => unreadable.push((i, raw, *sequence_number, error)),
        }
    }
    let threshold = outbox.deps.settings.low_stock_threshold;
    let events: Vec<(usize, Timestamp, Event)> =
        records.iter().flat_map(|(i, record)| told(*i, &record.change, threshold)).collect();
    let mut failed: Option<Failed> = None;
    for some in batches(&events) {
        if let Err(failure) = outbox.publish(some, &records).await {
            failed = Some(failure);
            break;
        }
    }
    for (i, raw, sequence_number, error) in unreadable {
        if failed.as_ref().is_some_and(|failed| failed.from <= i) {
            break;
        }
        if let Err(error) = outbox.set_aside(raw, sequence_number, &error).await {
            failed = Some(Failed { from: i, error });
            break;
        }
    }
    let end = failed.as_ref().map_or(raw.len(), |failed| failed.from);
    let done: Vec<&Change> =
        records.iter().filter(|(i, _)| *i < end).map(|(_, record)| &record.change).collect();
    // Not even the first record is done if its movement or alert is not.
    let kept = keep(outbox, &done, threshold, invocation).await;
    kept.map_err(|e| Failed { from: 0, error: e.to_string() })?;
    count(&done, &events[..events.partition_point(|(i, ..)| *i < end)], &invocation.metrics);
    failed.map_or(Ok(events.len()), Err)
}

/// Counts what was published.
fn count(changes: &[&Change], events: &[(usize, Timestamp, Event)], metrics: &Metrics) {
    for change in changes {
        if let Change::Reservation(old, new) = change
            && events::paid_but_short(old.as_ref(), new)
        {
            metrics.add(Metric::PaidOrdersShort, 1);
        }
    }
    for (_, _, event) in events {
        metrics.add(Metric::EventsPublished, 1);
        match event.name {
            name::LOW_STOCK => metrics.add(Metric::LowStock, 1),
            name::OUT_OF_STOCK => metrics.add(Metric::OutOfStock, 1),
            _ => {}
        }
    }
}

/// Movements and alerts of what was published.
async fn keep(
    outbox: &Outbox,
    changes: &[&Change],
    threshold: u64,
    invocation: &Invocation,
) -> Result<(), StoreError> {
    let store = &outbox.deps.store;
    let stock = || {
        changes
            .iter()
            .filter_map(|change| if let Change::Stock(old, new) = change { Some((old, new)) } else { None })
    };
    let movements: Vec<Movement> = stock().map(|(old, new)| events::movement(old.as_ref(), new)).collect();
    store.record_movements(&movements, invocation).await?;
    for (old, new) in stock() {
        if old.as_ref().map(|old| old.level(threshold)) != Some(new.level(threshold)) {
            store.set_alert(new, threshold, invocation).await?;
        }
    }
    Ok(())
}

/// Splits events into parts that one request takes.
fn batches(events: &[(usize, Timestamp, Event)]) -> Vec<&[(usize, Timestamp, Event)]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (i, (_, _, event)) in events.iter().enumerate() {
        let size = event.detail.to_string().len();
        if i > begin && (i - begin == MAX_ENTRIES || bytes + size > MAX_REQUEST_BYTES) {
            parts.push(&events[begin..i]);
            (begin, bytes) = (i, 0);
        }
        bytes += size;
    }
    if begin < events.len() {
        parts.push(&events[begin..]);
    }
    parts
}

fn read(raw: &Value) -> Result<Change, String> {
    let record: EventRecord = serde_json::from_value(raw.clone()).map_err(|e| e.to_string())?;
    let change = parse_change(record).map_err(|e| e.to_string())?;
    let versions = match &change {
        Change::Stock(old, new) => (old.as_ref().map_or(0, |old| old.version), new.version),
        Change::Reservation(old, new) => (old.as_ref().map_or(0, |old| old.version), new.version),
        Change::Other => return Ok(change),
    };
    match versions {
        (before, after) if after == before + 1 => Ok(change),
        (before, after) => {
            Err(format!("version {before} became {after}: it was changed by something else than Holdfast"))
        }
    }
}

/// What is said of a change, and when it happened.
fn told(i: usize, change: &Change, threshold: u64) -> Vec<(usize, Timestamp, Event)> {
    let (at, events) = match change {
        Change::Stock(old, new) => (new.updated_at, events::of_stock(old.as_ref(), new, threshold)),
        Change::Reservation(old, new) => (new.updated_at, events::of_reservation(old.as_ref(), new)),
        Change::Other => return Vec::new(),
    };
    events.into_iter().map(|event| (i, at, event)).collect()
}

impl Outbox {
    /// Connects to the bus and the queue as `config` says.
    ///
    /// # Errors
    /// If a setting is missing.
    pub async fn connect(deps: Arc<Deps>, config: impl Fn() -> ConfigLoader) -> Result<Self, BadSetting> {
        let bus = required("EVENT_BUS", deps.settings.event_bus.as_ref())?;
        let bus = Bus::connect(config(), bus).await;
        let queue = aws_sdk_sqs::Client::new(&config().load().await);
        let url = required("DEAD_LETTER_QUEUE_URL", deps.settings.dead_letter_queue_url.as_ref())?.to_owned();
        Ok(Self { deps, bus, queue, dead_letter_queue_url: url })
    }

    /// Sends some events. The first that is not taken fails its record; one that never will be taken is set
    /// aside with its record, and the rest goes on.
    async fn publish(
        &self,
        events: &[(usize, Timestamp, Event)],
        records: &[(usize, Record<'_>)],
    ) -> Result<(), Failed> {
        let entries: Vec<(Timestamp, &Event)> = events.iter().map(|(_, at, event)| (*at, event)).collect();
        for ((i, _, event), taken) in events.iter().zip(self.bus.put(&entries).await) {
            match taken {
                Ok(()) => {}
                Err(NotTaken::Now(error)) => return Err(Failed { from: *i, error }),
                Err(NotTaken::Ever(error)) => {
                    let Some((_, record)) = records.iter().find(|(of, _)| of == i) else { continue };
                    let why = format!("{}: {error}", event.id);
                    self.set_aside(record.raw, record.sequence_number, &why)
                        .await
                        .map_err(|e| Failed { from: *i, error: e })?;
                }
            }
        }
        Ok(())
    }

    /// Puts a record that cannot be published into the dead-letter queue, whole, so that it is not lost
    /// when the stream forgets it.
    async fn set_aside(&self, record: &Value, sequence_number: &str, error: &str) -> Result<(), String> {
        tracing::error!(operation = "publisher", outcome = "set_aside", sequence_number, error);
        let body = json!({"error": error, "record": record}).to_string();
        let sent =
            self.queue.send_message().queue_url(&self.dead_letter_queue_url).message_body(body).send().await;
        sent.map(drop).map_err(|e| format!("a record could not be set aside: {}", DisplayErrorContext(&e)))
    }
}
