//! A model of DynamoDB in front of the embedded one, which never meets a conflict and has no latency of its own.
//!
//! A plain write takes 4 ms in the median and 12 ms at the 99th percentile, a transaction four times that, whatever its
//! size. For half of its time a transaction holds its items; another write on one of them is refused meanwhile. An
//! item takes 1,000 write units and 3,000 consistent reads a second. Times are those of tokio's clock, so that a run
//! on a paused clock takes only the time of its computation.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use fastrand::Rng;
use local::dynamodb::DynamoDb;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Median of a plain write or read, in milliseconds.
const MEDIAN_MS: f64 = 4.0;
/// Deviation of its logarithm: the 99th percentile (2.326 deviations) is three times the median.
const DEVIATION: f64 = 0.4723;
/// How much longer a transaction takes.
const TRANSACTION: u32 = 4;
/// Write units that an item takes in a second. Source: Amazon DynamoDB Developer Guide, "Quotas".
const WRITE_UNITS: u32 = 1_000;
/// Consistent reads that an item takes in a second. Source: the same.
const READS: u32 = 3_000;

/// The model. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Model {
    database: DynamoDb,
    began: Instant,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    /// The items that a transaction holds.
    held: HashSet<String>,
    /// What an item took in a second: units written, items read.
    used: HashMap<String, (u64, u32, u32)>,
}

/// One request.
struct Call {
    operation: String,
    body: String,
    /// The items that it reads or writes by their keys.
    items: Vec<String>,
}

/// Status and body.
type Answer = (u16, String);

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

impl HttpConnector for Model {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (model, call) = (self.clone(), Call::read(&request));
        HttpConnectorFuture::new(async move {
            // What was sent goes on when nobody waits any more.
            let served = tokio::spawn(model.serve(call)).await;
            let (status, body) = served.map_err(|e| ConnectorError::other(e.into(), None))?;
            let status = status.try_into().map_err(|_| ConnectorError::other("no status".into(), None))?;
            let mut response = HttpResponse::new(status, SdkBody::from(body));
            response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            Ok(response)
        })
    }
}

impl Model {
    /// A model in front of a database, with its own source of chance.
    pub(crate) fn new(database: DynamoDb, rng: Rng) -> Self {
        let state = State { rng, held: HashSet::new(), used: HashMap::new() };
        Self { database, began: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }

    /// The HTTP client for the SDK.
    pub(crate) fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, call: Call) -> Answer {
        let mut takes = self.state().draw_latency();
        if !call.is_transaction() {
            sleep(takes / 2).await;
            let answer = self.refuse(&call).unwrap_or_else(|| self.perform(&call));
            sleep(takes / 2).await;
            return answer;
        }
        takes *= TRANSACTION;
        sleep(takes / 4).await;
        if let Some(refused) = self.refuse(&call) {
            sleep(takes / 4).await;
            return refused;
        }
        self.state().held.extend(call.items.iter().cloned());
        sleep(takes / 2).await;
        let answer = self.perform(&call);
        self.state().held.retain(|item| !call.items.contains(item));
        sleep(takes / 4).await;
        answer
    }

    fn perform(&self, call: &Call) -> Answer {
        let answer = self.database.answer_uncounted(&call.operation, &call.body);
        (answer.status, answer.body)
    }

    /// Refuses a write on items that a transaction holds, and what is too much for an item.
    fn refuse(&self, call: &Call) -> Option<Answer> {
        let (mut state, second) = (self.state(), self.began.elapsed().as_secs());
        let numbered = || call.items.iter().enumerate();
        if call.writes() {
            let held: BTreeSet<usize> =
                numbered().filter(|(_, item)| state.held.contains(*item)).map(|(i, _)| i).collect();
            if !held.is_empty() {
                return Some(call.refused(&held, "TransactionConflict", "TransactionConflictException"));
            }
        }
        let busy: BTreeSet<usize> =
            numbered().filter(|(_, item)| !state.takes(item, call, second)).map(|(i, _)| i).collect();
        let code = "ProvisionedThroughputExceeded";
        (!busy.is_empty()).then(|| call.refused(&busy, code, "ProvisionedThroughputExceededException"))
    }
}

impl State {
    /// How long a plain write takes: log-normal.
    fn draw_latency(&mut self) -> Duration {
        let (one, other) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        Duration::from_secs_f64(MEDIAN_MS / 1_000.0 * (DEVIATION * normal).exp())
    }

    /// Whether an item takes a call in this second.
    fn takes(&mut self, item: &str, call: &Call, second: u64) -> bool {
        let (at, units, reads) = self.used.entry(item.to_owned()).or_default();
        if *at != second {
            (*at, *units, *reads) = (second, 0, 0);
        }
        match (call.is_transaction(), call.writes()) {
            (true, _) => *units += 2,
            (false, true) => *units += 1,
            (false, false) => *reads += 1,
        }
        *units <= WRITE_UNITS && *reads <= READS
    }
}

impl Call {
    fn read(request: &HttpRequest) -> Self {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.split_once('.').unwrap_or_default().1.to_owned();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let items = items_of(&operation, &serde_json::from_str(&body).unwrap_or(Value::Null));
        Self { operation, body, items }
    }

    fn is_transaction(&self) -> bool {
        self.operation == "TransactWriteItems"
    }

    fn writes(&self) -> bool {
        ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"].contains(&self.operation.as_str())
    }

    /// A refusal because of some of its items: the code of a transaction's reason, or the error of a plain call.
    fn refused(&self, items: &BTreeSet<usize>, code: &str, error: &str) -> Answer {
        let name = |name: &str| format!("com.amazonaws.dynamodb.v20120810#{name}");
        if !self.is_transaction() {
            return (400, json!({"__type": name(error), "message": "by the model"}).to_string());
        }
        let reason = |i| json!({"Code": if items.contains(&i) { code } else { "None" }});
        let reasons: Vec<Value> = (0..self.items.len()).map(reason).collect();
        let message =
            format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{code}]");
        let body = json!({
            "__type": name("TransactionCanceledException"), "Message": message, "CancellationReasons": reasons,
        });
        (400, body.to_string())
    }
}

/// The items that a request names by their keys.
fn items_of(operation: &str, body: &Value) -> Vec<String> {
    let item = |action: &Value| {
        let key = if action["Key"].is_object() { &action["Key"] } else { &action["Item"] };
        format!("{} {} {}", action["TableName"], key["pk"], key["sk"])
    };
    match operation {
        "GetItem" | "PutItem" | "UpdateItem" | "DeleteItem" => vec![item(body)],
        "TransactWriteItems" => {
            let actions = body["TransactItems"].as_array().into_iter().flatten();
            actions.filter_map(|action| action.as_object()?.values().next()).map(item).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded;
    use crate::raw::INVENTORY;

    fn call(operation: &str, body: &Value) -> Call {
        let items = items_of(operation, body);
        Call { operation: operation.to_owned(), body: body.to_string(), items }
    }

    fn put(pk: &str) -> Value {
        json!({"TableName": INVENTORY, "Item": {"pk": {"S": pk}, "sk": {"S": "-"}}})
    }

    fn model() -> Model {
        Model::new(embedded::database().expect("tables"), Rng::with_seed(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_on_what_a_transaction_holds_is_refused() {
        let model = model();
        let both = json!({"TransactItems": [{"Put": put("a")}, {"Put": put("b")}]});
        model.state().held.insert(call("PutItem", &put("b")).items[0].clone());
        let (status, body) = model.clone().serve(call("TransactWriteItems", &both)).await;
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let codes: Vec<&Value> = (0..2).map(|i| &answer["CancellationReasons"][i]["Code"]).collect();
        assert_eq!((status, codes), (400, vec![&json!("None"), &json!("TransactionConflict")]));
        let (status, body) = model.clone().serve(call("PutItem", &put("b"))).await;
        assert!(status == 400 && body.contains("TransactionConflictException"), "{body}");
        model.state().held.clear();
        let (status, _) = model.clone().serve(call("TransactWriteItems", &both)).await;
        assert_eq!((status, model.state().held.len()), (200, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_takes_a_thousand_units_a_second() {
        let model = model();
        let one = call("PutItem", &put("a"));
        let refused = (0..WRITE_UNITS + 5).filter(|_| model.refuse(&one).is_some()).count();
        assert_eq!(refused, 5);
        sleep(Duration::from_secs(1)).await;
        assert!(model.refuse(&one).is_none());
    }

    #[test]
    fn latency_is_as_it_says() {
        let mut state = State { rng: Rng::with_seed(1), held: HashSet::new(), used: HashMap::new() };
        let sample: crate::measure::Sample = (0..20_000).map(|_| state.draw_latency()).collect();
        let [p50, p99] = [50, 99].map(|percent| sample.percentile(percent).as_micros());
        assert!((3_900..4_100).contains(&p50) && (11_500..12_500).contains(&p99), "{p50} {p99}");
    }
}
