//! `publisher`: turns what was committed into events on the bus, movements of the ledger, and levels. It is
//! the only one that sends events, apart from what the reconciliation says again; it reads them off the table's
//! stream, so what is published has happened, and what has happened is published.
//!
//! It is called with records in order, and again from the first that failed. Everything it does may be done
//! again: movements have keys, levels are compared and set, events have ids that follow from the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lambda_events::event::dynamodb::EventRecord;
use aws_sdk_sqs::error::DisplayErrorContext;
use futures::StreamExt as _;
use serde_json::{Value, json};
use shared::aws::ConfigLoader;
use shared::domain::events::{self, Event, EventKind, Movement};
use shared::domain::{Level, SharedWrite, UnitKey};
use shared::function::{Deps, elapsed_ms, note_warm_up, serve_events};
use shared::metrics::{Metric, Metrics};
use shared::publishing::{Bus, Entry, PublishError, split_into_requests};
use shared::settings::{BadSetting, require_setting};
use shared::store::{Invocation, MAX_MOVEMENTS, StoreError, StreamChange, parse_change, parse_shared_write};
use shared::{Error, planted};
use tokio::time::Instant;

/// Everything that the function works with.
pub struct Outbox {
    deps: Arc<Deps>,
    bus: Bus,
    queue: aws_sdk_sqs::Client,
    dead_letter_queue_url: String,
}

impl AsRef<Deps> for Outbox {
    fn as_ref(&self) -> &Deps {
        &self.deps
    }
}

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    let outbox = Outbox::connect(Arc::new(Deps::init().await?), shared::aws::config).await?;
    outbox.warm_up().await;
    serve_events("publisher", outbox, handle).await
}

/// One record of the batch, and what follows from it.
struct Record<'a> {
    raw: &'a Value,
    sequence_number: &'a str,
    change: StreamChange,
    /// The transaction that wrote it, where it shared one with others.
    shared: Option<SharedWrite>,
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
    let outcome = publish_batch(outbox, raw, &numbers, invocation).await;
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
#[derive(Debug)]
struct Failed {
    from: usize,
    error: String,
}

impl Failed {
    fn new(from: usize, error: impl ToString) -> Self {
        Self { from, error: error.to_string() }
    }

    fn out_of_time(from: usize) -> Self {
        Self::new(from, "time is up")
    }
}

/// The parts of an invocation's time, in tenths: until when events are sent, and until when movements are written.
/// The rest is for levels. So a slow bus leaves time to finish the records whose events were sent, and the next
/// invocation begins behind these.
const SENDING_ENDS: u32 = 6;
const WRITING_ENDS: u32 = 8;

/// Events first: a movement in the ledger is then a proof that its events were sent. Whatever fails at a
/// record, everything of the records before it is done, because they do not come again. Each step works on what
/// the one before it has done.
async fn publish_batch(
    outbox: &Outbox,
    raw: &[Value],
    numbers: &[&str],
    invocation: &Invocation,
) -> Result<usize, Failed> {
    let began = Instant::now();
    let left = invocation.deadline.saturating_duration_since(began);
    let until = |tenths: u32| Invocation { deadline: began + left * tenths / 10, ..invocation.clone() };
    let mut records = Vec::with_capacity(raw.len());
    let mut unreadable = Vec::new();
    for (i, (raw, sequence_number)) in raw.iter().zip(numbers).enumerate() {
        match read_change(raw) {
            Ok((change, shared)) => records.push((i, Record { raw, sequence_number, change, shared })),
            Err(error) => unreadable.push((i, raw, *sequence_number, error)),
        }
    }
    let threshold = outbox.deps.settings.low_stock_threshold;
    let mut entries: Vec<(usize, Entry)> = Vec::new();
    for (i, record) in &records {
        entries.extend(events_of(&record.change, threshold).into_iter().map(|event| (*i, event.into())));
    }
    let mut progress = Progress { end: raw.len(), failed: None };
    let sending = until(SENDING_ENDS).deadline;
    for part in split_into_requests(&entries, |(_, entry)| entry) {
        let from = if planted("time-that-runs-out-costs-the-batch") { 0 } else { part[0].0 };
        let sent = tokio::time::timeout_at(sending, outbox.send_events(part, &records)).await;
        if let Err(failure) = sent.unwrap_or_else(|_| Err(Failed::out_of_time(from))) {
            progress.stop_at(failure);
            break;
        }
    }
    for (i, raw, sequence_number, error) in unreadable {
        if i >= progress.end {
            break;
        }
        let set_aside = outbox.set_aside(raw, sequence_number, &error);
        let set_aside = tokio::time::timeout_at(sending, set_aside).await;
        if let Err(failure) =
            set_aside.map_or_else(|_| Err(Failed::out_of_time(i)), |done| done.map_err(|e| Failed::new(i, e)))
        {
            progress.stop_at(failure);
        }
    }
    if let Err(failure) = write_movements(outbox, progress.done_records(&records), &until(WRITING_ENDS)).await
    {
        progress.stop_at(failure);
    }
    if let Err(failure) = update_levels(outbox, progress.done_records(&records), &until(10)).await {
        progress.stop_at(failure);
    }
    let sent = &entries[..entries.partition_point(|(i, _)| *i < progress.end)];
    count_published(progress.done_records(&records), sent, &invocation.metrics);
    progress.failed.map_or(Ok(entries.len()), Err)
}

/// How far a batch is done.
struct Progress {
    /// The first record that is not done.
    end: usize,
    failed: Option<Failed>,
}

impl Progress {
    /// Something failed at a record: nothing from there on is done.
    fn stop_at(&mut self, failure: Failed) {
        if failure.from < self.end {
            self.end = failure.from;
            self.failed = Some(failure);
        }
    }

    /// The records that are done.
    fn done_records<'a, 'b>(&self, records: &'b [(usize, Record<'a>)]) -> &'b [(usize, Record<'a>)] {
        &records[..records.partition_point(|(i, _)| *i < self.end)]
    }
}

/// Counts what was published.
fn count_published(records: &[(usize, Record<'_>)], sent: &[(usize, Entry)], metrics: &Metrics) {
    for (_, record) in records {
        if let StreamChange::Reservation(old, new) = &record.change
            && events::is_paid_but_short(old.as_ref(), new)
        {
            metrics.add(Metric::PaidOrdersShort, 1);
        }
    }
    for (_, entry) in sent {
        metrics.add(Metric::EventsPublished, 1);
        match entry.event().kind {
            EventKind::LowStock { .. } => metrics.add(Metric::LowStock, 1),
            EventKind::OutOfStock { .. } => metrics.add(Metric::OutOfStock, 1),
            EventKind::OrderConflict { .. } => metrics.add(Metric::OrderConflicts, 1),
            _ => {}
        }
    }
}

/// Writes the movements of what was published, in order, and which reservations shared a transaction.
async fn write_movements(
    outbox: &Outbox,
    records: &[(usize, Record<'_>)],
    invocation: &Invocation,
) -> Result<(), Failed> {
    let mut moved: Vec<(usize, Movement)> = Vec::new();
    let mut shared: Vec<(usize, SharedWrite)> = Vec::new();
    for (i, record) in records {
        shared.extend(record.shared.clone().map(|write| (*i, write)));
        if let StreamChange::Stock(old, new) = &record.change {
            moved.push((*i, events::movement(old.as_ref(), new)));
        }
    }
    for part in moved.chunks(MAX_MOVEMENTS) {
        let movements: Vec<Movement> = part.iter().map(|(_, movement)| movement.clone()).collect();
        let written = outbox.deps.store.record_movements(&movements, invocation);
        let written = tokio::time::timeout_at(invocation.deadline, written).await;
        let from = part[0].0;
        written.map_err(|_| Failed::out_of_time(from))?.map_err(|e| Failed::new(from, e))?;
    }
    for part in shared.chunks(MAX_MOVEMENTS) {
        let writes: Vec<SharedWrite> = part.iter().map(|(_, write)| write.clone()).collect();
        let written = outbox.deps.store.record_shared_writes(&writes, invocation);
        let written = tokio::time::timeout_at(invocation.deadline, written).await;
        let from = part[0].0;
        written.map_err(|_| Failed::out_of_time(from))?.map_err(|e| Failed::new(from, e))?;
    }
    Ok(())
}

/// Stock units whose levels are updated at once.
const LEVELS_AT_ONCE: usize = 8;

/// Brings the level of each stock unit of the batch up to date, once, by its first record.
async fn update_levels(
    outbox: &Outbox,
    records: &[(usize, Record<'_>)],
    invocation: &Invocation,
) -> Result<(), Failed> {
    let Outbox { deps, .. } = outbox;
    let threshold = deps.settings.low_stock_threshold;
    let mut units: BTreeMap<&UnitKey, (usize, Option<Level>)> = BTreeMap::new();
    for (i, record) in records {
        if let StreamChange::Stock(old, new) = &record.change {
            let began = old.is_none().then(|| new.level(threshold));
            let (_, known) = units.entry(&new.key).or_insert((*i, None));
            *known = known.or(began);
        }
    }
    let mut units: Vec<_> = units.into_iter().collect();
    units.sort_unstable_by_key(|(_, (from, _))| *from);
    let made = units.into_iter().map(|(unit, (from, began))| async move {
        let made = deps.store.update_level(unit, began, threshold, invocation);
        (from, tokio::time::timeout_at(invocation.deadline, made).await)
    });
    let mut made = futures::stream::iter(made).buffered(LEVELS_AT_ONCE);
    while let Some((from, made)) = made.next().await {
        match made {
            Ok(Ok(_)) => {}
            Ok(Err(error @ StoreError::Corrupt(_))) => {
                let error = error.to_string();
                let set_aside = outbox.set_aside_record(records, from, &error);
                tokio::time::timeout_at(invocation.deadline, set_aside)
                    .await
                    .map_err(|_| Failed::out_of_time(from))??;
            }
            Ok(Err(error)) => return Err(Failed::new(from, error)),
            Err(_) => return Err(Failed::out_of_time(from)),
        }
    }
    Ok(())
}

fn read_change(raw: &Value) -> Result<(StreamChange, Option<SharedWrite>), String> {
    let record: EventRecord = serde_json::from_value(raw.clone()).map_err(|e| e.to_string())?;
    let shared = parse_shared_write(&record).map_err(|e| e.to_string())?;
    let change = parse_change(record).map_err(|e| e.to_string())?;
    let versions = match &change {
        StreamChange::Stock(old, new) => (old.as_ref().map_or(0, |old| old.version), new.version),
        StreamChange::Reservation(old, new) => (old.as_ref().map_or(0, |old| old.version), new.version),
        // An alert begins anew when it was purged, and one of an earlier version counted otherwise. What it tells
        // stands in it.
        StreamChange::Level(_) | StreamChange::Other => return Ok((change, shared)),
    };
    match versions {
        (before, after) if after == before + 1 => Ok((change, shared)),
        (before, after) => {
            Err(format!("version {before} became {after}: it was changed by something else than Holdfast"))
        }
    }
}

/// The events that a change of an item gives rise to.
fn events_of(change: &StreamChange, threshold: u64) -> Vec<Event> {
    match change {
        StreamChange::Stock(old, new) => events::events_of_stock(old.as_ref(), new, threshold),
        StreamChange::Reservation(old, new) => events::events_of_reservation(old.as_ref(), new),
        StreamChange::Level(alert) => events::event_of_level(alert).into_iter().collect(),
        StreamChange::Other => Vec::new(),
    }
}

impl Outbox {
    /// Connects to the bus and the queue as `config` says.
    ///
    /// # Errors
    /// If a setting is missing.
    pub async fn connect(deps: Arc<Deps>, config: impl Fn() -> ConfigLoader) -> Result<Self, BadSetting> {
        let bus = require_setting("EVENT_BUS", deps.settings.event_bus.as_ref())?;
        let bus = Bus::connect(config(), bus).await;
        let queue = aws_sdk_sqs::Client::new(&shared::aws::load(config()).await);
        let url = require_setting("DEAD_LETTER_QUEUE_URL", deps.settings.dead_letter_queue_url.as_ref())?
            .to_owned();
        Ok(Self { deps, bus, queue, dead_letter_queue_url: url })
    }

    /// Opens the connections to the bus and the queue; that to the tables is there already.
    async fn warm_up(&self) {
        let queue = async {
            let asked = self.queue.get_queue_attributes().queue_url(&self.dead_letter_queue_url).send().await;
            asked.map(drop).map_err(|e| DisplayErrorContext(&e).to_string())
        };
        let (bus, queue) = tokio::join!(self.bus.warm_up(), queue);
        note_warm_up("EventBridge", bus);
        note_warm_up("SQS", queue);
    }

    /// Sends some events. The first that is not taken fails its record; one that never will be taken is set
    /// aside with its record, and the rest goes on.
    async fn send_events(
        &self,
        entries: &[(usize, Entry)],
        records: &[(usize, Record<'_>)],
    ) -> Result<(), Failed> {
        let sent: Vec<&Entry> = entries.iter().map(|(_, entry)| entry).collect();
        for ((i, entry), taken) in entries.iter().zip(self.bus.put(&sent).await) {
            match taken {
                Ok(()) => {}
                Err(PublishError::Retryable(error)) => return Err(Failed::new(*i, error)),
                Err(PublishError::Permanent(error)) => {
                    let error = format!("{}: {error}", entry.event().id());
                    self.set_aside_record(records, *i, &error).await?;
                }
            }
        }
        Ok(())
    }

    /// Sets one of these records aside.
    async fn set_aside_record(
        &self,
        records: &[(usize, Record<'_>)],
        i: usize,
        error: &str,
    ) -> Result<(), Failed> {
        let Some((_, record)) = records.iter().find(|(of, _)| *of == i) else { return Ok(()) };
        self.set_aside(record.raw, record.sequence_number, error).await.map_err(|e| Failed::new(i, e))
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
