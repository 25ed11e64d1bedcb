//! A proxy between clients and AWS that misbehaves on purpose: with the simulation's faults, each where a test wants it,
//! and as only a test can direct it.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use sim::carry::{Chance, How, Server, carry};
use sim::faults::Fault;
use sim::refusals::{failed_entry, refusal_of, refused};
use sim::requests::{Call, Reply, stale_due};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::{Api, Runner};
use crate::contract::root;

/// The operations that change single items, and the one that sends a message.
pub(crate) const WRITES: &[&str] = &["TransactWriteItems", "PutItem", "UpdateItem", "SendMessage"];

/// Every operation.
pub(crate) const ALL: &[&str] = &[];

/// A time after the end of every test.
pub(crate) fn for_good() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// The refusal of a request whose right was taken away.
pub(crate) fn denied() -> Trouble {
    Trouble::Refused(refused(400, "AccessDeniedException"))
}

/// How late a late request is: later than anybody waits for its answer.
const LATE: Duration = Duration::from_millis(1_500);

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// Nothing goes wrong.
    Nothing,
    /// A fault that the simulation has, too.
    Fault(Fault),
    /// It is carried out, and then refused as by this fault.
    RefusedAfter(Fault),
    /// It is refused like this.
    Refused(Reply),
    /// It waits at this gate.
    Held(Gate),
    /// It is answered as by older endpoints: a refusal does not show the item whose condition failed.
    WithoutItem,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Where a request says that it has arrived, and waits until it may go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    arrived: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Gate {
    /// Waits for the next request.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Lets the request that waits go on.
    pub(crate) fn let_go_on(&self) {
        self.go_on.notify_one();
    }

    /// Does something while the next request waits here.
    pub(crate) async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> T {
        self.arrived().await;
        let done = work.await;
        self.let_go_on();
        done
    }
}

/// A gate before DynamoDB. It notes every request, and lets no write through until it is opened.
#[derive(Clone)]
pub(crate) struct ClosedGate {
    requests: Arc<Mutex<Vec<Passing>>>,
    is_open: watch::Sender<bool>,
}

/// A request that came to a gate.
struct Passing {
    is_write: bool,
    body: String,
    trace: Option<String>,
}

impl ClosedGate {
    /// Waits until there is a write of each of these: texts that its body contains.
    pub(crate) async fn holds(&self, shop: &Api, texts: &[String]) {
        let is_held = |text: &String| {
            self.requests
                .lock()
                .unwrap()
                .iter()
                .any(|request| request.is_write && request.body.contains(text))
        };
        shop.until("all are held", async |_| texts.iter().all(is_held)).await;
    }

    /// The traces of the requests whose body contains a text, each as often as it came.
    pub(crate) fn traces(&self, text: &str) -> Vec<Option<String>> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.body.contains(text)).map(|r| r.trace.clone()).collect()
    }

    /// What has come so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.body.clone()).collect()
    }

    /// Lets everything through, from now on.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    async fn pass(&self, is_write: bool, headers: &HeaderMap, body: &str) {
        let trace = headers.get("x-amzn-trace-id").map(|trace| trace.to_str().unwrap().to_owned());
        self.requests.lock().unwrap().push(Passing { is_write, body: body.to_owned(), trace });
        if is_write {
            drop(self.is_open.subscribe().wait_for(|is_open| *is_open).await);
        }
    }
}

/// Trouble for the next request of these operations, or for all until then.
#[derive(Debug)]
struct Planned {
    operations: &'static [&'static str],
    trouble: Trouble,
    until: Option<Instant>,
}

/// The proxy. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FaultProxy {
    pub(crate) url: String,
    real: Arc<OnceLock<String>>,
    planned: Arc<Mutex<Vec<Planned>>>,
    /// Where writes wait, if they do.
    gate: Arc<Mutex<Option<ClosedGate>>>,
}

/// A runner whose functions speak to DynamoDB through a proxy.
pub(crate) async fn through_fault_proxy(arguments: &[&str]) -> (Runner, FaultProxy) {
    let proxy = FaultProxy::unconnected().await;
    let text = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    let table = "        INVENTORY_TABLE: !Ref InventoryTable\n";
    let endpoint = format!("        AWS_ENDPOINT_URL_DYNAMODB: {}\n", proxy.url);
    assert_eq!(text.matches(table).count(), 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, text.replace(table, &format!("{endpoint}{table}"))).unwrap();
    let shop = Runner::with(&[&["--template", file.to_str().unwrap()], arguments].concat()).await;
    proxy.connect(&shop.aws_url);
    (shop, proxy)
}

impl FaultProxy {
    /// A proxy to the endpoint at `real`.
    pub(crate) async fn to(real: &str) -> Self {
        let proxy = Self::unconnected().await;
        proxy.connect(real);
        proxy
    }

    /// A proxy to an endpoint that is not there yet.
    pub(crate) async fn unconnected() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy = Self { url, real: Arc::default(), planned: Arc::default(), gate: Arc::default() };
        let router = axum::Router::new().fallback(answer_or_misbehave).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        proxy
    }

    /// Connects it to the endpoint at `real`.
    pub(crate) fn connect(&self, real: &str) {
        self.real.set(real.to_owned()).expect("it is connected once");
    }

    /// Plans trouble for the next writes.
    pub(crate) fn inject(&self, troubles: impl IntoIterator<Item = impl Into<Trouble>>) {
        self.inject_into(WRITES, troubles);
    }

    /// Plans trouble for the next requests of these operations.
    pub(crate) fn inject_into(
        &self,
        operations: &'static [&'static str],
        troubles: impl IntoIterator<Item = impl Into<Trouble>>,
    ) {
        let plan = |trouble| Planned { operations, trouble, until: None };
        self.planned.lock().unwrap().extend(troubles.into_iter().map(Into::into).map(plan));
    }

    /// Plans trouble for all requests of these operations until then, apart from what was planned before.
    pub(crate) fn inject_until(
        &self,
        until: Instant,
        operations: &'static [&'static str],
        trouble: impl Into<Trouble>,
    ) {
        let planned = Planned { operations, trouble: trouble.into(), until: Some(until) };
        self.planned.lock().unwrap().push(planned);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn clear_faults(&self) {
        self.planned.lock().unwrap().clear();
    }

    /// How many faults have not happened yet.
    pub(crate) fn remaining_faults(&self) -> usize {
        self.planned.lock().unwrap().iter().filter(|planned| planned.until.is_none()).count()
    }

    /// From now on writes wait at a gate.
    pub(crate) fn close_gate(&self) -> ClosedGate {
        let gate = ClosedGate { requests: Arc::default(), is_open: watch::Sender::new(false) };
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// The trouble that this request has.
    fn trouble_of(&self, call: &Call) -> Trouble {
        let mut planned = self.planned.lock().unwrap();
        planned.retain(|planned| planned.until.is_none_or(|until| Instant::now() < until));
        let is_meant = |planned: &Planned| {
            planned.operations.is_empty() || planned.operations.contains(&&*call.operation)
        };
        match planned.iter().position(is_meant) {
            None => Trouble::Nothing,
            Some(i) if planned[i].until.is_some() => planned[i].trouble.clone(),
            Some(i) => planned.remove(i).trouble,
        }
    }
}

/// The way of one request to the real endpoint.
struct Upstream {
    url: String,
    headers: HeaderMap,
}

impl Upstream {
    async fn forward(&self, body: String) -> Reply {
        let request = reqwest::Client::new().post(&self.url).headers(self.headers.clone());
        let answer = request.body(body).send().await.unwrap();
        Reply::Answer(answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Of several events the third is not taken.
    async fn forward_without_third(&self, call: &Call) -> Reply {
        let mut taken = call.body.clone();
        taken["Entries"].as_array_mut().unwrap().remove(2);
        with_body(self.forward(taken.to_string()).await, |answer| {
            answer["Entries"].as_array_mut().unwrap().insert(2, failed_entry());
            answer["FailedEntryCount"] = 1.into();
        })
    }
}

impl Server for Upstream {
    async fn serve(&self, call: &Call, takes: Duration, how: How) -> Reply {
        tokio::time::sleep(takes).await;
        match how {
            How::Whole | How::Stuck => self.forward(call.text.clone()).await,
            How::Part(_) => self.forward_without_third(call).await,
            // As before anything was written.
            How::Stale(_) => stale_due(call, &[]),
        }
    }
}

fn with_body(reply: Reply, change: impl FnOnce(&mut Value)) -> Reply {
    let Reply::Answer(status, body) = reply else { return reply };
    let mut body = serde_json::from_str(&body).unwrap();
    change(&mut body);
    Reply::Answer(status, body.to_string())
}

/// Takes the items out of an answer, as if `ReturnValuesOnConditionCheckFailure` were unknown.
fn without_item(answer: &mut Value) {
    let reasons = answer["CancellationReasons"].as_array_mut().into_iter().flatten();
    reasons.filter_map(Value::as_object_mut).for_each(|reason| drop(reason.remove("Item")));
    if let Some(members) = answer.as_object_mut() {
        members.remove("Item");
    }
}

async fn answer_or_misbehave(
    State(proxy): State<FaultProxy>,
    mut headers: HeaderMap,
    body: String,
) -> Response {
    let call = Call::read(headers["x-amz-target"].to_str().unwrap(), body, "", 0);
    let gate = proxy.gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.pass(WRITES.contains(&&*call.operation), &headers, &call.text).await;
    }
    headers.remove("content-length");
    let upstream = Upstream { url: proxy.real.get().expect("it is connected").clone(), headers };
    let forward = || upstream.forward(call.text.clone());
    let reply = match proxy.trouble_of(&call) {
        Trouble::Nothing => forward().await,
        Trouble::Fault(fault) => carried(upstream, call, fault).await,
        Trouble::Refused(reply) => reply,
        Trouble::RefusedAfter(fault) => {
            forward().await;
            refusal_of(fault, &call)
        }
        Trouble::Held(gate) => {
            gate.arrived.notify_one();
            gate.go_on.notified().await;
            forward().await
        }
        Trouble::WithoutItem => with_body(forward().await, without_item),
    };
    let Reply::Answer(status, body) = reply else { unreachable!("{reply:?} is the simulation's alone") };
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/x-amz-json-1.0")], body)
        .into_response()
}

/// The reply under a fault. What happens to the request goes on when the caller is gone.
async fn carried(upstream: Upstream, call: Call, fault: Fault) -> Reply {
    let chance =
        Chance { latency: Duration::ZERO, delay: LATE, coin: false, rng: fastrand::Rng::with_seed(0) };
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        carry(&upstream, &call, Some(fault), chance, |reply| drop(answer.send(reply))).await;
    });
    match answered.await {
        Ok(reply) => reply,
        Err(_) => std::future::pending().await,
    }
}
