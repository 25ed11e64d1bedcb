//! The other side of the wire: the embedded DynamoDB in this process, notes of the bus and the dead-letter queue, and
//! models of what the emulator lacks: transactions that meet, and partitions that are busy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use local::dynamodb::DynamoDb;
use serde_json::{Value, json};

use crate::carry::{How, Server};
use crate::faults::{Fault, Fired};
use crate::history::History;
use crate::refusals::{conflict, failed_entry, refusal_of, throttled};
use crate::requests::{self, Call, INVENTORY, Reply, Service};
use crate::time::VirtualTime;

/// Everything that was seen on the other side of the wire.
#[derive(Default)]
pub struct Seen {
    /// Everything that was committed.
    pub history: History,
    /// The entries that the bus has taken.
    pub bus: Vec<Value>,
    /// The records that were set aside.
    pub set_aside: Vec<Value>,
    /// How often each fault happened.
    pub fired: Fired,
    /// Line by line what happened.
    pub trace: Vec<String>,
    /// Requests that were sent.
    pub requests: u64,
    /// How many calls each invocation made.
    pub calls: BTreeMap<String, u32>,
    /// How many changes there were when an invocation last read a stock unit before it wrote.
    pub looked: BTreeMap<String, usize>,
    /// The calls that something happened to by chance.
    pub chances: Vec<(String, u32)>,
    position: String,
    /// Items that a transaction is under way on, and whose; and whether that one is stuck.
    locks: BTreeMap<String, (String, bool)>,
    /// Write units that a partition key took in a second.
    units: BTreeMap<(String, u64), u32>,
    /// Whether nothing goes wrong any more.
    pub calm: bool,
}

/// The services behind the wire. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    db: DynamoDb,
    time: VirtualTime,
    /// Write units a second that one partition key takes; 0 for any number.
    units_a_second: u32,
    seen: Arc<Mutex<Seen>>,
}

impl Backend {
    /// The services over a database.
    #[must_use]
    pub fn new(db: DynamoDb, time: VirtualTime, units_a_second: u32) -> Self {
        Self { db, time, units_a_second, seen: Arc::default() }
    }

    /// Everything that was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the database past all faults.
    #[must_use]
    pub fn ask(&self, operation: &str, request: &Value) -> Value {
        let answer = self.db.answer("sim", operation, &request.to_string());
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// Refuses a write on items that a transaction is under way on.
    fn refuse_if_locked(&self, call: &Call) -> Option<Reply> {
        let seen = self.seen();
        let met: BTreeSet<usize> =
            (0..call.items.len()).filter(|i| seen.locks.contains_key(&call.items[*i])).collect();
        let first = seen.locks.get(&call.items[*met.first()?])?;
        let own_stuck = call.is_transaction() && first.1 && first.0 == call.label;
        drop(seen);
        if call.operation == "BatchWriteItem" {
            // Nobody writes movements in transactions.
            return None;
        }
        *self.seen().fired_by_itself("met") += 1;
        Some(if own_stuck { refusal_of(Fault::InProgress, call) } else { conflict(call, &met) })
    }

    /// Refuses a write on partitions that have taken as much as they can this second.
    fn refuse_if_busy(&self, call: &Call) -> Option<Reply> {
        let limit = self.units_a_second;
        if limit == 0 || call.items.is_empty() {
            return None;
        }
        let mut seen = self.seen();
        if seen.calm {
            return None;
        }
        let (second, units) = (self.time.elapsed().as_secs(), if call.is_transaction() { 2 } else { 1 });
        let mut busy = BTreeSet::new();
        for (i, item) in call.items.iter().enumerate() {
            let partition = item.split('|').take(2).collect::<Vec<_>>().join("|");
            let used = seen.units.entry((partition, second)).or_default();
            *used += units;
            if *used > limit {
                busy.insert(i);
            }
        }
        if busy.is_empty() || call.operation == "BatchWriteItem" {
            return None;
        }
        *seen.fired_by_itself("busy") += 1;
        drop(seen);
        Some(throttled(call, &busy))
    }

    /// Does what is asked, at this instant.
    fn perform(&self, call: &Call, how: How) -> Reply {
        match call.service {
            Service::Bus => self.put_events(call, how),
            Service::Queue => {
                self.seen().set_aside.push(call.body.clone());
                Reply::Answer(200, json!({"MessageId": "set-aside"}).to_string())
            }
            Service::DynamoDb => self.ask_dynamodb(call, how),
        }
    }

    fn ask_dynamodb(&self, call: &Call, how: How) -> Reply {
        match how {
            How::Stale(mut rng) => {
                let seen = self.seen();
                let length = seen.history.entries.len();
                let known = rng.usize(length.saturating_sub(20)..=length);
                return requests::stale_due(call, &seen.history.entries[..known]);
            }
            How::Part(mut rng) => {
                let (taken, left) = requests::split_batch(call, &mut rng);
                let answer = self.db.answer(&call.label, &call.operation, &taken.to_string());
                return requests::with_left(&call.operation, answer.status, &answer.body, left);
            }
            How::Whole | How::Stuck => {}
        }
        let answer = self.db.answer_uncounted(&call.operation, &call.text);
        if call.operation == "GetItem" && call.body["Key"]["pk"]["S"].as_str().is_some_and(is_stock) {
            let mut seen = self.seen();
            let length = seen.history.entries.len();
            if !seen.history.entries.iter().any(|entry| entry.writer == call.label) {
                seen.looked.insert(call.label.clone(), length);
            }
        }
        if answer.status == 200 && call.writes_inventory() {
            self.absorb(&call.label);
        }
        Reply::Answer(answer.status, answer.body)
    }

    /// Takes what was written into the history.
    fn absorb(&self, writer: &str) {
        let mut seen = self.seen();
        let position = seen.position.clone();
        let records = match self.db.read_stream(INVENTORY, &position, 1_000) {
            Ok(records) => records,
            Err(error) => {
                seen.trace.push(format!("the stream cannot be read: {error}"));
                Vec::new()
            }
        };
        if let Some(last) = records.last() {
            seen.position = last["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default().to_owned();
        }
        seen.history.absorb(records, writer);
    }

    /// Takes events, all of them or all but one.
    fn put_events(&self, call: &Call, how: How) -> Reply {
        let entries = call.body["Entries"].as_array().cloned().unwrap_or_default();
        let failing = match how {
            How::Part(mut rng) if !entries.is_empty() => Some(rng.usize(0..entries.len())),
            _ => None,
        };
        let mut answers = Vec::new();
        let mut seen = self.seen();
        for (i, entry) in entries.into_iter().enumerate() {
            if Some(i) == failing {
                answers.push(failed_entry());
                continue;
            }
            answers.push(json!({"EventId": format!("e-{}", seen.bus.len())}));
            seen.bus.push(entry);
        }
        let failed = u32::from(failing.is_some());
        Reply::Answer(200, json!({"FailedEntryCount": failed, "Entries": answers}).to_string())
    }
}

impl Server for Backend {
    /// A transaction is under way on its items for a while; another write on them is refused meanwhile.
    async fn serve(&self, call: &Call, takes: Duration, how: How) -> Reply {
        if !call.is_transaction() {
            tokio::time::sleep(takes).await;
        }
        if let Some(refused) = self.refuse_if_locked(call).or_else(|| self.refuse_if_busy(call)) {
            return refused;
        }
        if call.is_transaction() {
            for item in &call.items {
                let stuck = matches!(how, How::Stuck);
                self.seen().locks.insert(item.clone(), (call.label.clone(), stuck));
            }
            tokio::time::sleep(takes).await;
            for item in &call.items {
                self.seen().locks.remove(item);
            }
        }
        self.perform(call, how)
    }

    /// Takes back that it was counted.
    fn spare(&self, call: &Call, fault: Fault) {
        if let Some(times) = self.seen().fired.get_mut(&(fault, call.operation.clone())) {
            *times -= 1;
        }
    }
}

impl Seen {
    /// Counts what the model does by itself, not by a fault.
    fn fired_by_itself(&mut self, what: &str) -> &mut u64 {
        let fault = if what == "met" { Fault::Conflict } else { Fault::Throttle };
        self.fired.entry((fault, format!("modelled {what}"))).or_default()
    }
}

fn is_stock(key: &str) -> bool {
    key.starts_with("STOCK#")
}
