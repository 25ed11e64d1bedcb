//! The service in one process: its functions over one store, and the wire between them and AWS.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::{Body, Context};
use local::dynamodb::DynamoDb;
use local::template::{Table, Template};
use publisher::Outbox;
use serde_json::{Value, json};
use shared::domain::Timestamp;
use shared::function::{Deps, invocation};
use shared::http::{ApiGatewayEvent, Handle, answer};
use shared::settings::Settings;
use shared::store::Invocation;

use crate::faults::{Mix, SETUP, source};
use crate::history::{THRESHOLD, Violation};
use crate::invoked::Invoked;
use crate::ops::Request;
use crate::processes::{Instance, Shared};
use crate::queue::Queue;
use crate::requests::{INVENTORY, LEDGER};
use crate::time::VirtualTime;
use crate::wire::Wire;

/// How long an HTTP function may take; `template.yaml`.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `order-events` may take.
pub const EVENTS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the sweep may take.
pub const SWEEP_TIMEOUT: Duration = Duration::from_secs(55);
/// How long the publisher may take.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// One try of a request, and what was answered.
#[derive(Debug, Clone)]
pub struct Try {
    /// The operation's number.
    pub op: u32,
    /// Its label, which is its correlation id too.
    pub label: String,
    /// The time by the clock of its instance.
    pub now: Timestamp,
    /// How many changes there were when it began.
    pub from: usize,
    /// How many there were when it had answered.
    pub to: usize,
    /// When it began and ended, in the order of such moments.
    pub began: u64,
    /// See `began`.
    pub ended: u64,
    /// Status and body; none if no answer came.
    pub answer: Option<(u16, Value)>,
}

/// A message to `order-events` that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The operation's number.
    pub op: u32,
    /// How many changes there were then.
    pub from: usize,
}

/// The world of a run.
pub struct World {
    /// The wire.
    pub wire: Wire,
    /// The run's seed.
    pub seed: u64,
    /// The queue of order events.
    pub queue: RefCell<Queue>,
    /// The requests over HTTP and their answers.
    pub tries: RefCell<Vec<Try>>,
    /// The messages that were sent.
    pub sent: RefCell<Vec<Sent>>,
    /// Rules that were broken, apart from those that the history checks.
    pub broken: RefCell<Vec<Violation>>,
    /// How far the publisher has come.
    pub published: RefCell<usize>,
    /// How many publishers have been called, and whether one is running.
    pub publishing: RefCell<(u32, bool)>,
    ticks: std::cell::Cell<u64>,
    instances: Vec<Instance>,
    /// Whether requests and messages share transactions with others of their process.
    combines: bool,
    outbox: Outbox,
}

thread_local! {
    /// Reading the template takes longer than a run.
    static TABLES: Vec<Table> = tables();
}

fn tables() -> Vec<Table> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let given = ["JwtIssuer", "JwtAudience"].map(|name| (name.to_owned(), "-".to_owned()));
    let template = Template::read(&file, &given.into(), "http://127.0.0.1");
    template.unwrap_or_else(|e| panic!("{}: {e}", file.display())).tables
}

fn settings() -> Settings {
    let lookup = |name: &str| {
        let value = match name {
            "INVENTORY_TABLE" => INVENTORY,
            "LEDGER_TABLE" => LEDGER,
            "EVENT_BUS" => "bus",
            "DEAD_LETTER_QUEUE_URL" => "http://localhost/queue",
            "LOW_STOCK_THRESHOLD" => return Some(THRESHOLD.to_string()),
            "LOG_LEVEL" => "off",
            _ => return None,
        };
        Some(value.to_owned())
    };
    Settings::from_lookup(lookup).unwrap_or_else(|e| unreachable!("these settings are good: {e}"))
}

impl World {
    /// A new one. `skew_ms` is by how much clocks may be off; `combines` says whether processes have many requests at
    /// once, which share transactions.
    pub async fn begin(seed: u64, mix: Mix, skew_ms: i64, combines: bool) -> Rc<Self> {
        let db = DynamoDb::open(None).unwrap_or_else(|e| panic!("{e}"));
        TABLES.with(|tables| db.create_tables(tables)).unwrap_or_else(|e| panic!("{e}"));
        // The back-off draws from here, and so do the tokens of transactions.
        fastrand::seed(seed);
        let time = VirtualTime::begin();
        let wire = Wire::new(db, time, seed, mix);
        let instances = Instance::all(&wire, seed, skew_ms, &settings()).await;
        let deps = Arc::clone(&instances[0].alone);
        let outbox = Outbox::connect(deps, || wire.config()).await.unwrap_or_else(|e| panic!("{e}"));
        Rc::new(Self {
            wire,
            seed,
            queue: RefCell::default(),
            tries: RefCell::default(),
            sent: RefCell::default(),
            broken: RefCell::default(),
            published: RefCell::default(),
            publishing: RefCell::default(),
            ticks: std::cell::Cell::default(),
            instances,
            combines,
            outbox,
        })
    }

    /// How many changes there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.wire.seen().history.entries.len()
    }

    /// A moment, later than all before it.
    fn tick(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    /// Notes that a rule was broken.
    pub fn broken(&self, rule: &'static str, what: String) {
        self.broken.borrow_mut().push(Violation { rule, what });
    }

    fn instance(&self, label: &str) -> &Instance {
        let mut rng = source(self.seed, label, u32::MAX);
        &self.instances[rng.usize(0..self.instances.len())]
    }

    /// The time by the clock of the instance that is called with this label.
    #[must_use]
    pub fn now_at(&self, label: &str) -> Timestamp {
        self.wire.time.shown(self.instance(label).skew_ms)
    }

    /// Runs an invocation until it answers, is killed, or its time is up. None: no answer. One that `shares` its process
    /// ends with it.
    async fn invoke<F, T>(&self, label: &str, timeout: Duration, shares: bool, work: F) -> Option<T>
    where
        F: AsyncFnOnce(&Arc<Deps>, Context) -> T,
    {
        let instance = self.instance(label);
        let shared = if shares { Some(instance.shared(&self.wire).await) } else { None };
        let deps = shared.as_ref().map_or(&instance.alone, |shared| &shared.deps);
        let deadline = self.now_at(label).as_millisecond() + i64::try_from(timeout.as_millis()).ok()?;
        let mut context = Context::default();
        context.request_id = label.to_owned();
        context.deadline = deadline.unsigned_abs();
        let invoked = Invoked::new(label);
        let began = self.wire.time.elapsed();
        let outcome = tokio::select! {
            biased;
            () = invoked.killed.notified() => None,
            () = process_ended(shared.as_ref()) => None,
            outcome = tokio::time::timeout(timeout, invoked.run(work(deps, context))) => {
                if outcome.is_err() {
                    self.broken("time-out", format!("{label} was still running when its time was up"));
                }
                outcome.ok()
            }
        };
        let took = self.wire.time.elapsed() - began;
        if outcome.is_some() && took + Duration::from_millis(990) > timeout {
            self.broken("late-answer", format!("{label} answered after {took:?} of {timeout:?}"));
        }
        let how = if outcome.is_some() { "ended" } else { "was killed" };
        self.wire.note(format!("{label} {how} after {} calls", invoked.calls()));
        outcome
    }

    /// One HTTP invocation.
    pub async fn http(
        &self,
        op: u32,
        label: &str,
        request: &Request,
        key: Option<&str>,
    ) -> Option<(u16, Value)> {
        let event = http_event(label, request, key);
        let event: ApiGatewayEvent = serde_json::from_str(&event).unwrap_or_else(|e| panic!("an event: {e}"));
        let (now, from, began) = (self.now_at(label), self.length(), self.tick());
        let (path, shares) = (request.path, self.combines && !label.starts_with(SETUP));
        let response = self
            .invoke(label, HTTP_TIMEOUT, shares, async move |deps, context| {
                let (function, handle): (_, Handle) = match path {
                    "/reserve" | "/extend" => ("reserve", |d, r| Box::pin(reserve::handle(d, r))),
                    "/confirm" | "/deduct" => ("settle", |d, r| Box::pin(settle::handle(d, r))),
                    "/release" => ("release", |d, r| Box::pin(release::handle(d, r))),
                    _ => ("stock-admin", |d, r| Box::pin(stock_admin::handle(d, r))),
                };
                answer(function, event, &context, deps, handle).await
            })
            .await;
        let answer = response.map(|response| {
            let status = response.status().as_u16();
            let body = match response.into_body() {
                Body::Text(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
                _ => Value::Null,
            };
            (status, body)
        });
        let says = answer.as_ref().map(|(status, body)| format!("{status} {body}"));
        self.wire.note(format!(
            "{label} {path} {}: {}",
            request.body,
            says.as_deref().unwrap_or("no answer")
        ));
        let (label, to, ended) = (label.to_owned(), self.length(), self.tick());
        let tried = Try { op, label, now, from, to, began, ended, answer: answer.clone() };
        self.tries.borrow_mut().push(tried);
        answer
    }

    /// One invocation of a function that events call.
    pub async fn event<F>(&self, label: &str, timeout: Duration, work: F) -> Option<Result<Value, String>>
    where
        F: AsyncFnOnce(&Arc<Deps>, Invocation) -> Result<Value, shared::Error>,
    {
        self.event_in(label, timeout, false, work).await
    }

    /// A batch of messages for `order-events`.
    pub async fn deliver(&self, label: &str, event: &Value) -> Option<Result<Value, String>> {
        self.event_in(label, EVENTS_TIMEOUT, self.combines, async |deps, invocation| {
            order_events::handle(deps, event, &invocation).await
        })
        .await
    }

    async fn event_in<F>(
        &self,
        label: &str,
        timeout: Duration,
        shares: bool,
        work: F,
    ) -> Option<Result<Value, String>>
    where
        F: AsyncFnOnce(&Arc<Deps>, Invocation) -> Result<Value, shared::Error>,
    {
        let outcome = self
            .invoke(label, timeout, shares, async |deps, context| {
                let invocation = invocation(&deps.clock, Some(&context), context.request_id.clone());
                work(deps, invocation).await.map_err(|e| e.to_string())
            })
            .await;
        self.wire.note(format!("{label}: {outcome:?}"));
        outcome
    }

    /// Invokes the sweep for one pass, or for as many as there are in a minute. Answers with its report.
    pub async fn sweep(&self, label: &str, every_seconds: Option<u64>) -> Option<Result<Value, String>> {
        let event = json!({"everySeconds": every_seconds});
        self.event(label, SWEEP_TIMEOUT, async |deps, invocation| {
            expiry_sweep::handle(deps, &event, &invocation).await
        })
        .await
    }

    /// The publisher, until it has come to the end of the stream or fails. One at a time, as Lambda calls it
    /// for a shard.
    pub async fn publish(&self, most: usize) {
        if std::mem::replace(&mut self.publishing.borrow_mut().1, true) {
            return;
        }
        loop {
            let from = *self.published.borrow();
            let batch: Vec<Value> = {
                let seen = self.wire.seen();
                seen.history.entries[from..].iter().take(most).map(|entry| entry.raw.clone()).collect()
            };
            if batch.is_empty() {
                break;
            }
            let number = {
                let mut publishing = self.publishing.borrow_mut();
                publishing.0 += 1;
                publishing.0
            };
            let (length, event) = (batch.len(), json!({"Records": batch}));
            let answer = self
                .event(&format!("p{number}"), PUBLISH_TIMEOUT, async |_, invocation| {
                    publisher::handle(&self.outbox, &event, &invocation).await
                })
                .await;
            let Some(Ok(answer)) = answer else { break };
            match answer["batchItemFailures"][0]["itemIdentifier"].as_str() {
                None => *self.published.borrow_mut() = from + length,
                Some(first) => {
                    let place = first.parse::<usize>().unwrap_or(from + 1) - 1;
                    *self.published.borrow_mut() = place;
                    break;
                }
            }
        }
        self.publishing.borrow_mut().1 = false;
    }
}

/// Waits until a shared process ends; for ever where there is none.
async fn process_ended(shared: Option<&Shared>) {
    match shared {
        Some(shared) if shared.process.is_killed() => {}
        Some(shared) => shared.process.killed.notified().await,
        None => std::future::pending().await,
    }
}

/// An event as API Gateway makes it of a request with a checked token.
fn http_event(label: &str, request: &Request, key: Option<&str>) -> String {
    let path = format!("/api/inventory{}", request.path.trim_end_matches('/'));
    let route = format!("{} {path}", request.method);
    let parameters = request.product.as_ref().map(|product| json!({"productId": product}));
    let mut headers = json!({"content-type": "application/json", "x-correlation-id": label});
    if let Some(key) = key {
        headers["idempotency-key"] = key.into();
    }
    json!({
        "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": "", "headers": headers,
        "requestContext": {
            "accountId": "1", "apiId": "a", "domainName": "api.example.com", "domainPrefix": "api",
            "http": {"method": request.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "sim"},
            "requestId": label, "routeKey": route, "stage": "$default",
            "time": "20/Nov/2026:10:00:00 +0000", "timeEpoch": 1_795_168_800_000_i64,
            "authorizer": {"jwt": {"claims": {"cognito:groups": "[ADMIN SYSTEM]", "token_use": "access"}, "scopes": null}},
        },
        "pathParameters": parameters, "isBase64Encoded": false, "body": request.body.to_string(),
    })
    .to_string()
}
