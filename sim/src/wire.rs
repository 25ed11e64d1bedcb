//! The wire between the SDK and AWS: an HTTP client for the SDK that calls the embedded DynamoDB in this
//! process, and takes notes of the bus and the dead-letter queue. It misbehaves as [`crate::faults`] says,
//! and models what the emulator lacks: latency, transactions that meet, partitions that are busy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use fastrand::Rng;
use local::dynamodb::DynamoDb;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::faults::{Fault, Fired, LATE_MS, Mix, source};
use crate::history::History;
use crate::refusals::{self, Reply};
use crate::requests::{self, Call};
use crate::time::VirtualTime;

/// The table that has a stream.
pub const INVENTORY: &str = "holdfast-inventory";
/// The ledger.
pub const LEDGER: &str = "holdfast-ledger";

tokio::task_local! {
    /// The invocation that is being polled.
    static INVOKED: Arc<Invoked>;
}

/// An invocation, as the wire knows it.
#[derive(Debug)]
pub struct Invoked {
    /// Its name in traces and plans.
    pub label: String,
    /// Told when its process ends.
    pub killed: Notify,
    calls: AtomicU32,
    planned: Mutex<Vec<u32>>,
}

impl Invoked {
    /// A new one.
    #[must_use]
    pub fn new(label: &str) -> Arc<Self> {
        let (killed, calls, planned) = (Notify::new(), AtomicU32::new(0), Mutex::default());
        Arc::new(Self { label: label.to_owned(), killed, calls, planned })
    }

    /// Runs something as this invocation.
    pub async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        INVOKED.scope(Arc::clone(self), work).await
    }

    /// How many calls it has made.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// What is on the other side, and what has been seen of it.
#[derive(Default)]
pub struct Seen {
    /// Everything that was committed.
    pub history: History,
    /// The entries that the bus has taken.
    pub bus: Vec<Value>,
    /// The records that were set aside.
    pub set_aside: Vec<Value>,
    /// What went wrong how often.
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
    calm: bool,
}

/// The wire. Cheap to clone.
#[derive(Clone)]
pub struct Wire {
    db: DynamoDb,
    /// The time of the run.
    pub time: VirtualTime,
    seed: u64,
    mix: Arc<Mix>,
    seen: Arc<Mutex<Seen>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.clone();
        HttpConnectorFuture::new(async move { wire.exchange(&request).await })
    }
}

impl Wire {
    /// A wire to a database.
    #[must_use]
    pub fn new(db: DynamoDb, time: VirtualTime, seed: u64, mix: Mix) -> Self {
        Self { db, time, seed, mix: Arc::new(mix), seen: Arc::default() }
    }

    /// The HTTP client for the SDK.
    #[must_use]
    pub fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// What has been seen.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        self.seen().calm = true;
    }

    /// Notes a line of the trace.
    pub fn note(&self, line: impl AsRef<str>) {
        let ms = self.time.ms();
        self.seen().trace.push(format!("[{:>5}.{:03}] {}", ms / 1000, ms % 1000, line.as_ref()));
    }

    /// Asks the database past all faults.
    #[must_use]
    pub fn ask(&self, operation: &str, request: &Value) -> Value {
        let answer = self.db.answer("sim", operation, &request.to_string());
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// One request and its answer. What happens on the other side goes on when the caller is gone.
    async fn exchange(self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let invoked = INVOKED.try_with(Arc::clone).unwrap_or_else(|_| Invoked::new("outside"));
        let number = invoked.calls.fetch_add(1, Ordering::Relaxed);
        let call = Call::read(request, &invoked.label, number);
        let mut rng = source(self.seed, &invoked.label, number);
        let fault = self.fault(&call, &invoked, &mut rng);
        let (answer, answered) = oneshot::channel();
        tokio::spawn(self.clone().carry(call, fault, rng, answer, invoked));
        match answered.await {
            Ok(Reply::Answer(status, body)) => Ok(response(status, body)),
            Ok(Reply::Reset) => Err(ConnectorError::io("the connection was reset".into())),
            // No answer comes; the SDK gives up.
            Err(_) => std::future::pending().await,
        }
    }

    fn fault(&self, call: &Call, invoked: &Invoked, rng: &mut Rng) -> Option<Fault> {
        let mut seen = self.seen();
        seen.requests += 1;
        seen.calls.insert(call.label.clone(), call.number + 1);
        if seen.calm || call.label.starts_with(crate::run::SETUP) {
            return None;
        }
        let mut nth = invoked.planned.lock().unwrap_or_else(PoisonError::into_inner);
        nth.resize(self.mix.planned.len(), 0);
        let planned = self.mix.planned(&call.label, &call.operation, call.due, &mut nth);
        let spared = || self.mix.spared.iter().any(|(label, k)| *label == call.label && *k == call.number);
        let fault =
            planned.or_else(|| self.mix.by_chance(rng, &call.operation, call.due).filter(|_| !spared()))?;
        *seen.fired.entry((fault, call.operation.clone())).or_default() += 1;
        if planned.is_none() {
            seen.chances.push((call.label.clone(), call.number));
        }
        drop(seen);
        self.note(format!("{} {} {}: {}", call.label, call.number, call.operation, fault.name()));
        Some(fault)
    }

    fn did_not_fire(&self, fault: Fault, call: &Call) {
        if let Some(times) = self.seen().fired.get_mut(&(fault, call.operation.clone())) {
            *times -= 1;
        }
    }

    async fn carry(
        self,
        call: Call,
        fault: Option<Fault>,
        mut rng: Rng,
        answer: oneshot::Sender<Reply>,
        invoked: Arc<Invoked>,
    ) {
        let latency = latency(&mut rng, &call);
        match fault {
            Some(Fault::KillBefore) => return invoked.killed.notify_one(),
            Some(Fault::Drop) => return send(answer, Reply::Reset),
            Some(Fault::Hang) => return,
            Some(Fault::Late) => {
                tokio::time::sleep(Duration::from_millis(rng.u64(1_050..self.mix.late_ms.max(LATE_MS)))).await
            }
            _ => {}
        }
        tokio::time::sleep(latency / 4).await;
        let reply = match fault {
            Some(Fault::ErrorBefore) => refusals::error_500(),
            Some(Fault::Throttle) => refusals::busy(&call, "ThrottlingError"),
            Some(Fault::Conflict) => refusals::busy(&call, "TransactionConflict"),
            Some(Fault::InProgress) => {
                send(answer, refusals::in_progress());
                let stuck = Duration::from_millis(rng.u64(1_000..6_500));
                self.serve(&call, stuck, true, None).await;
                return;
            }
            Some(part @ (Fault::Partial | Fault::Stale)) => {
                self.serve(&call, latency / 2, false, Some((part, rng.fork()))).await
            }
            _ => self.serve(&call, latency / 2, false, None).await,
        };
        tokio::time::sleep(latency / 4).await;
        match fault {
            Some(Fault::Lose) if rng.bool() => send(answer, Reply::Reset),
            Some(Fault::Lose | Fault::Late) => {}
            Some(Fault::ErrorAfter) => send(answer, refusals::error_500()),
            Some(Fault::KillAfter) => invoked.killed.notify_one(),
            // Twice means that it was applied once. What was refused does not come back by itself.
            Some(Fault::Dup) if !matches!(reply, Reply::Answer(200, _)) => {
                self.did_not_fire(Fault::Dup, &call);
                send(answer, reply);
            }
            Some(Fault::Dup) if rng.bool() => {
                send(answer, reply);
                tokio::time::sleep(Duration::from_millis(rng.u64(0..2_000))).await;
                self.serve(&call, latency / 2, false, None).await;
            }
            Some(Fault::Dup) => send(answer, self.serve(&call, latency / 2, false, None).await),
            _ => send(answer, reply),
        }
    }

    /// What the service does. A transaction is under way on its items for a while; whoever comes meanwhile
    /// is refused.
    async fn serve(&self, call: &Call, takes: Duration, stuck: bool, part: Option<(Fault, Rng)>) -> Reply {
        if !call.is_transaction() {
            tokio::time::sleep(takes).await;
        }
        if let Some(refused) = self.meets_another(call).or_else(|| self.too_busy(call)) {
            return refused;
        }
        if call.is_transaction() {
            for item in &call.items {
                self.seen().locks.insert(item.clone(), (call.label.clone(), stuck));
            }
            tokio::time::sleep(takes).await;
            for item in &call.items {
                self.seen().locks.remove(item);
            }
        }
        self.apply(call, part)
    }

    fn meets_another(&self, call: &Call) -> Option<Reply> {
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
        if own_stuck { Some(refusals::in_progress()) } else { Some(refusals::conflict(call, &met)) }
    }

    fn too_busy(&self, call: &Call) -> Option<Reply> {
        let limit = self.mix.units_a_second;
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
        Some(refusals::throttled(call, &busy))
    }

    /// Does it, at this instant.
    fn apply(&self, call: &Call, part: Option<(Fault, Rng)>) -> Reply {
        match call.service {
            requests::Service::Bus => self.put_events(call, part),
            requests::Service::Queue => {
                self.seen().set_aside.push(call.body.clone());
                Reply::Answer(200, json!({"MessageId": "set-aside"}).to_string())
            }
            requests::Service::DynamoDb => self.dynamodb(call, part),
        }
    }

    fn dynamodb(&self, call: &Call, part: Option<(Fault, Rng)>) -> Reply {
        match part {
            Some((Fault::Stale, mut rng)) => {
                let seen = self.seen();
                let length = seen.history.entries.len();
                let known = rng.usize(length.saturating_sub(20)..=length);
                return requests::stale_due(call, &seen.history.entries[..known]);
            }
            Some((_, mut rng)) => {
                let (taken, left) = requests::split_batch(call, &mut rng);
                let answer = self.db.answer(&call.label, &call.operation, &taken.to_string());
                return requests::with_left(&call.operation, answer.status, &answer.body, left);
            }
            None => {}
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

    fn put_events(&self, call: &Call, part: Option<(Fault, Rng)>) -> Reply {
        let entries = call.body["Entries"].as_array().cloned().unwrap_or_default();
        let failing =
            part.and_then(|(_, mut rng)| (!entries.is_empty()).then(|| rng.usize(0..entries.len())));
        let mut answers = Vec::new();
        let mut seen = self.seen();
        for (i, entry) in entries.into_iter().enumerate() {
            if Some(i) == failing {
                answers.push(json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "on purpose"}));
                continue;
            }
            answers.push(json!({"EventId": format!("e-{}", seen.bus.len())}));
            seen.bus.push(entry);
        }
        let failed = u32::from(failing.is_some());
        Reply::Answer(200, json!({"FailedEntryCount": failed, "Entries": answers}).to_string())
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

/// Sends an answer; a caller that is gone does not hear it.
fn send(answer: oneshot::Sender<Reply>, reply: Reply) {
    drop(answer.send(reply));
}

fn response(status: u16, body: String) -> HttpResponse {
    let status = status.try_into().unwrap_or_else(|_| unreachable!("every status here is one of HTTP"));
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}

/// How long a request takes: half within 4 ms, all but one in a hundred within 12 ms, and a long tail; a
/// transaction takes four times as long.
fn latency(rng: &mut Rng, call: &Call) -> Duration {
    let micros = match rng.u32(0..1000) {
        0..500 => rng.u64(2_000..4_000),
        500..990 => rng.u64(4_000..12_000),
        990..999 => rng.u64(12_000..60_000),
        _ => rng.u64(60_000..700_000),
    };
    Duration::from_micros(if call.is_transaction() { micros * 4 } else { micros })
}
