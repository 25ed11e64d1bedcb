//! A proxy between the store and DynamoDB that misbehaves on purpose, once for each fault that is injected.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::{Api, Runner};
use crate::contract::root;

/// A fault of the next write, or of the next message that is sent.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The request never arrives.
    Drop,
    /// It is applied, and no answer comes.
    Lose,
    /// It is applied, and answered with an error 500.
    Error500,
    /// It is not applied now but after so long, and no answer comes.
    Late(Duration),
    /// It is refused: another write on its first item is under way.
    Conflict,
    /// It is applied, and what is answered is the refusal of a second copy: another write is under way.
    Twice,
    /// It is refused: its first item's partition is busy.
    Throttle,
    /// It is refused for good: a right was taken away.
    Denied,
    /// It says that it has arrived, and waits until it may go on.
    Wait {
        /// It has arrived.
        arrived: Arc<Notify>,
        /// It may go on.
        go_on: Arc<Notify>,
    },
    /// It is refused: another write on its second item is under way, and the third item's condition does not
    /// hold; that item is shown.
    ConflictAndCondition(Value),
    /// It is answered as older endpoints do: a refusal does not show the item whose condition failed.
    WithoutItem,
    /// It is refused until then: other writes on its first item are under way, one after the other.
    ConflictUntil(tokio::time::Instant),
    /// It is refused until then: a transaction with the same token is under way.
    InProgress(tokio::time::Instant),
}

/// The proxy. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FaultProxy {
    pub(crate) url: String,
    real: Arc<OnceLock<String>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// Whether nothing is answered any more, reads included.
    silent: Arc<AtomicBool>,
    /// Whether single reads are not answered any more.
    reads_hang: Arc<AtomicBool>,
    /// How many queries of an index are answered from before anything was written.
    stale: Arc<AtomicUsize>,
    /// Where scans wait, if they do.
    scans: Arc<Mutex<Option<HeldUp>>>,
    /// Where writes wait, if they do.
    gate: Arc<Mutex<Option<Gate>>>,
}

/// A gate before DynamoDB. It notes every request, and lets no write through until it is opened.
#[derive(Clone)]
pub(crate) struct Gate {
    requests: Arc<Mutex<Vec<Passing>>>,
    is_open: watch::Sender<bool>,
}

/// A request that came to a gate.
struct Passing {
    is_write: bool,
    body: String,
    trace: Option<String>,
}

impl Gate {
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

/// Where a request says that it has arrived, and waits until it may go on.
#[derive(Clone, Default)]
pub(crate) struct HeldUp {
    pub(crate) arrived: Arc<Notify>,
    pub(crate) go_on: Arc<Notify>,
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
        let proxy = Self {
            url,
            real: Arc::default(),
            faults: Arc::default(),
            silent: Arc::default(),
            reads_hang: Arc::default(),
            stale: Arc::default(),
            scans: Arc::default(),
            gate: Arc::default(),
        };
        let router = axum::Router::new().fallback(answer_or_misbehave).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        proxy
    }

    /// Connects it to the endpoint at `real`.
    pub(crate) fn connect(&self, real: &str) {
        self.real.set(real.to_owned()).expect("it is connected once");
    }

    /// From now on reads of single items hang.
    pub(crate) fn let_reads_hang(&self) {
        self.reads_hang.store(true, Ordering::SeqCst);
    }

    /// Nothing goes wrong any more with writes.
    pub(crate) fn clear_faults(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Adds faults for the next writes.
    pub(crate) fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// How many faults have not happened yet.
    pub(crate) fn remaining_faults(&self) -> usize {
        self.faults.lock().unwrap().len() + self.stale.load(Ordering::SeqCst)
    }

    /// From now on every request hangs.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// The next queries of an index find nothing: it is behind.
    pub(crate) fn put_behind(&self, queries: usize) {
        self.stale.store(queries, Ordering::SeqCst);
    }

    /// From now on every scan is held up.
    pub(crate) fn hold_up_scans(&self) -> HeldUp {
        let held_up = HeldUp::default();
        *self.scans.lock().unwrap() = Some(held_up.clone());
        held_up
    }

    /// From now on writes wait at a gate.
    pub(crate) fn close_gate(&self) -> Gate {
        let gate = Gate { requests: Arc::default(), is_open: watch::Sender::new(false) };
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    async fn send(&self, headers: HeaderMap, body: String) -> reqwest::Response {
        let real = self.real.get().expect("it is connected");
        reqwest::Client::new().post(real).headers(headers).body(body).send().await.unwrap()
    }

    async fn forward(&self, headers: HeaderMap, body: String) -> Response {
        let sent = self.send(headers, body).await;
        let status = sent.status();
        (status, sent.text().await.unwrap()).into_response()
    }

    async fn forward_without_item(&self, headers: HeaderMap, body: String) -> Response {
        let sent = self.send(headers, body).await;
        let status = sent.status();
        let answer: Value = serde_json::from_str(&sent.text().await.unwrap()).unwrap();
        error(status, &without_item(answer))
    }
}

/// The answer of an endpoint that does not know `ReturnValuesOnConditionCheckFailure`.
fn without_item(mut answer: Value) -> Value {
    let reasons = answer["CancellationReasons"].as_array_mut().into_iter().flatten();
    reasons.filter_map(Value::as_object_mut).for_each(|reason| drop(reason.remove("Item")));
    if let Some(members) = answer.as_object_mut() {
        members.remove("Item");
    }
    answer
}

async fn answer_or_misbehave(State(proxy): State<FaultProxy>, headers: HeaderMap, body: String) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let hangs = target.ends_with("GetItem") && proxy.reads_hang.load(Ordering::SeqCst);
    if hangs || proxy.silent.load(Ordering::SeqCst) {
        return std::future::pending().await;
    }
    let held_up = if target.ends_with(".Scan") { proxy.scans.lock().unwrap().clone() } else { None };
    if let Some(HeldUp { arrived, go_on }) = held_up {
        arrived.notify_one();
        go_on.notified().await;
    }
    let one_less = |left: usize| left.checked_sub(1);
    if target.ends_with("Query")
        && body.contains("IndexName")
        && proxy.stale.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    {
        return (StatusCode::OK, json!({"Items": [], "Count": 0, "ScannedCount": 0}).to_string())
            .into_response();
    }
    let writes = ["TransactWriteItems", "PutItem", "UpdateItem", "SendMessage"]
        .iter()
        .any(|write| target.ends_with(write));
    let gate = proxy.gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.pass(writes, &headers, &body).await;
    }
    let fault = if writes { proxy.faults.lock().unwrap().pop_front() } else { None };
    match fault {
        None => proxy.forward(headers, body).await,
        Some(fault) => proxy.misbehave(fault, headers, body).await,
    }
}

impl FaultProxy {
    /// One write that goes wrong.
    async fn misbehave(self, fault: Fault, headers: HeaderMap, body: String) -> Response {
        match fault {
            Fault::Drop => std::future::pending().await,
            Fault::Lose => {
                self.forward(headers, body).await;
                std::future::pending().await
            }
            Fault::Error500 => {
                self.forward(headers, body).await;
                error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &json!({"__type": "InternalServerError", "message": "on purpose"}),
                )
            }
            Fault::Late(after) => {
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    self.forward(headers, body).await;
                });
                std::future::pending().await
            }
            Fault::Wait { arrived, go_on } => {
                arrived.notify_one();
                go_on.notified().await;
                self.forward(headers, body).await
            }
            Fault::WithoutItem => self.forward_without_item(headers, body).await,
            Fault::Conflict => cancelled(&body, "TransactionConflict"),
            Fault::Twice => {
                self.forward(headers, body.clone()).await;
                cancelled(&body, "TransactionConflict")
            }
            Fault::Denied => error(
                StatusCode::BAD_REQUEST,
                &json!({"__type": "AccessDeniedException", "message": "on purpose"}),
            ),
            Fault::Throttle => cancelled(&body, "ThrottlingError"),
            Fault::ConflictAndCondition(item) => cancelled_because(&[
                json!({"Code": "None"}),
                json!({"Code": "TransactionConflict", "Message": "on purpose"}),
                json!({"Code": "ConditionalCheckFailed", "Message": "on purpose", "Item": item}),
            ]),
            Fault::InProgress(until) | Fault::ConflictUntil(until)
                if tokio::time::Instant::now() >= until =>
            {
                self.forward(headers, body).await
            }
            Fault::ConflictUntil(until) => {
                self.faults.lock().unwrap().push_front(Fault::ConflictUntil(until));
                cancelled(&body, "TransactionConflict")
            }
            Fault::InProgress(until) => {
                self.faults.lock().unwrap().push_front(Fault::InProgress(until));
                let refused = json!({"__type": "TransactionInProgressException", "Message": "on purpose"});
                error(StatusCode::BAD_REQUEST, &refused)
            }
        }
    }
}

fn cancelled(body: &str, code: &str) -> Response {
    let request: Value = serde_json::from_str(body).unwrap();
    let actions = request["TransactItems"].as_array().map_or(0, Vec::len);
    if actions == 0 {
        return error(
            StatusCode::BAD_REQUEST,
            &json!({"__type": "ThrottlingException", "message": "on purpose"}),
        );
    }
    let mut reasons = vec![json!({"Code": "None"}); actions];
    reasons[0] = json!({"Code": code, "Message": "on purpose"});
    cancelled_because(&reasons)
}

fn cancelled_because(reasons: &[Value]) -> Response {
    let error_type = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let body =
        json!({"__type": error_type, "Message": "Transaction cancelled", "CancellationReasons": reasons});
    error(StatusCode::BAD_REQUEST, &body)
}

fn error(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/x-amz-json-1.0")], body.to_string()).into_response()
}
