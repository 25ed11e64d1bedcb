//! Requests and replies on the wire, read as far as faults and models need it.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::history::Entry;

/// The table that has a stream.
pub const INVENTORY: &str = "holdfast-inventory";
/// The ledger.
pub const LEDGER: &str = "holdfast-ledger";

/// Who is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The tables.
    DynamoDb,
    /// The event bus.
    Bus,
    /// The queue for what cannot be published.
    Queue,
}

/// A request.
#[derive(Debug)]
pub struct Call {
    /// The invocation that sent it.
    pub label: String,
    /// Which of its calls it is, from 0.
    pub number: u32,
    /// Who is called.
    pub service: Service,
    /// The operation of that service.
    pub operation: String,
    /// The body as it was sent.
    pub text: String,
    /// The same, parsed.
    pub body: Value,
    /// The items that it writes, in its order: `table|pk|sk`.
    pub items: Vec<String>,
    /// Whether it asks the index of due holds.
    pub due: bool,
}

/// A reply on the wire.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status and a body.
    Answer(u16, String),
    /// The connection ends.
    Reset,
    /// The function that asked ends.
    Killed,
}

impl Call {
    /// Reads a request: the header that names its operation, and its body.
    #[must_use]
    pub fn read(target: &str, text: String, label: &str, number: u32) -> Self {
        let (service, operation) = target.split_once('.').unwrap_or_default();
        let service = match service {
            "AWSEvents" => Service::Bus,
            "AmazonSQS" => Service::Queue,
            _ => Service::DynamoDb,
        };
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let (items, due) = (items_written(operation, &body), body["IndexName"] == "due");
        let (label, operation) = (label.to_owned(), operation.to_owned());
        Self { label, number, service, operation, text, body, items, due }
    }

    /// Whether it is a transaction.
    #[must_use]
    pub fn is_transaction(&self) -> bool {
        self.operation == "TransactWriteItems"
    }

    /// Whether it writes into the table that has the stream.
    #[must_use]
    pub fn writes_inventory(&self) -> bool {
        self.items.iter().any(|item| item.starts_with(INVENTORY))
    }
}

fn items_written(operation: &str, body: &Value) -> Vec<String> {
    let item = |action: &Value| {
        let key = if action["Key"].is_object() { &action["Key"] } else { &action["Item"] };
        let attribute = |name: &str| {
            let value = &key[name];
            value["S"].as_str().or(value["N"].as_str()).unwrap_or_default().to_owned()
        };
        let table = action["TableName"].as_str().unwrap_or_default();
        format!("{table}|{}|{}", attribute("pk"), attribute("sk"))
    };
    match operation {
        "PutItem" | "UpdateItem" | "DeleteItem" => vec![item(body)],
        "TransactWriteItems" => {
            let actions = body["TransactItems"].as_array().into_iter().flatten();
            actions.filter_map(|action| action.as_object()?.values().next()).map(item).collect()
        }
        _ => Vec::new(),
    }
}

/// Takes a part of a batch out: what is done, and what is left.
pub fn split_batch(call: &Call, rng: &mut Rng) -> (Value, Value) {
    let (mut taken, mut left) = (call.body.clone(), json!({}));
    let Some((table, wanted)) =
        taken["RequestItems"].as_object_mut().and_then(|tables| tables.iter_mut().next())
    else {
        return (taken, left);
    };
    let list = if wanted.is_array() { wanted } else { &mut wanted["Keys"] };
    let Some(list) = list.as_array_mut().filter(|list| list.len() > 1) else { return (taken, left) };
    let rest = list.split_off(rng.usize(1..list.len()));
    left[table] = match call.operation.as_str() {
        "BatchGetItem" => json!({"Keys": rest, "ConsistentRead": true}),
        _ => Value::Array(rest),
    };
    (taken, left)
}

/// The answer to a batch of which something is left.
#[must_use]
pub fn with_left(operation: &str, status: u16, body: &str, left: Value) -> Reply {
    let mut body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let name = if operation == "BatchGetItem" { "UnprocessedKeys" } else { "UnprocessedItems" };
    body[name] = left;
    Reply::Answer(status, body.to_string())
}

/// The answer of the index of due holds when only these changes had reached it.
#[must_use]
pub fn stale_due(call: &Call, known: &[Entry]) -> Reply {
    let mut items: BTreeMap<&str, &Value> = BTreeMap::new();
    for entry in known {
        let change = &entry.raw["dynamodb"];
        if let Some(pk) = change["Keys"]["pk"]["S"].as_str() {
            items.insert(pk, &change["NewImage"]);
        }
    }
    let values = &call.body["ExpressionAttributeValues"];
    let number = |value: &Value| value["N"].as_str().and_then(|n| n.parse::<i64>().ok());
    let shard = number(&values[":shard"]);
    let from = number(&values[":from"]).unwrap_or(i64::MIN);
    let until = number(&values[":until"]).or(number(&values[":now"])).unwrap_or(i64::MAX);
    let mut found: Vec<(i64, Value)> = Vec::new();
    for image in items.into_values() {
        let Some(at) = number(&image["expiresAt"]).filter(|_| number(&image["expiryShard"]) == shard) else {
            continue;
        };
        if (from..=until).contains(&at) {
            let mut item = json!({});
            for name in ["pk", "sk", "expiryShard", "expiresAt"] {
                item[name] = image[name].clone();
            }
            found.push((at, item));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    let items: Vec<Value> = found.into_iter().map(|(_, item)| item).collect();
    let count = items.len();
    let body = match call.body["Select"].as_str() {
        Some("COUNT") => json!({"Count": count, "ScannedCount": count}),
        _ => json!({"Count": count, "ScannedCount": count, "Items": items}),
    };
    Reply::Answer(200, body.to_string())
}

/// The detail of an entry that the bus has taken.
#[must_use]
pub fn published_detail(entry: &Value) -> Value {
    serde_json::from_str(entry["Detail"].as_str().unwrap_or_default()).unwrap_or(Value::Null)
}
