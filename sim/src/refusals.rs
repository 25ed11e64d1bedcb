//! How AWS refuses, word for word as far as the SDK reads it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::faults::Fault;
use crate::requests::{Call, Reply, Service};

/// An error by its name.
#[must_use]
pub fn refused(status: u16, name: &str) -> Reply {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "on purpose"});
    Reply::Answer(status, body.to_string())
}

/// The reply of a fault that refuses a request; what is busy is its first item.
///
/// # Panics
/// Of a fault that refuses nothing.
#[must_use]
pub fn refusal_of(fault: Fault, call: &Call) -> Reply {
    let first = BTreeSet::from([0]);
    match fault {
        Fault::ErrorBefore | Fault::ErrorAfter => refused(500, "InternalServerError"),
        Fault::Throttle => throttled(call, &first),
        Fault::Conflict => conflict(call, &first),
        Fault::InProgress => refused(400, "TransactionInProgressException"),
        _ => unreachable!("{} is no refusal", fault.name()),
    }
}

/// Another write on these items is under way.
#[must_use]
pub fn conflict(call: &Call, items: &BTreeSet<usize>) -> Reply {
    match call.is_transaction() {
        true => cancelled_by(items, call, "TransactionConflict"),
        false => refused(400, "TransactionConflictException"),
    }
}

/// These items' partitions are busy.
#[must_use]
pub fn throttled(call: &Call, items: &BTreeSet<usize>) -> Reply {
    match call.is_transaction() {
        true => cancelled_by(items, call, "ThrottlingError"),
        false if call.service == Service::DynamoDb => refused(400, "ProvisionedThroughputExceededException"),
        false => refused(400, "ThrottlingException"),
    }
}

/// What stands in an answer of the bus for an event that it has not taken.
#[must_use]
pub fn failed_entry() -> Value {
    json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "on purpose"})
}

/// A transaction that is cancelled, with a reason for each of its items.
#[must_use]
pub fn cancelled(reasons: &[Value]) -> Reply {
    let codes: Vec<&str> = reasons.iter().filter_map(|reason| reason["Code"].as_str()).collect();
    let message = "Transaction cancelled, please refer cancellation reasons for specific reasons";
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!("{message} [{}]", codes.join(", ")),
        "CancellationReasons": reasons,
    });
    Reply::Answer(400, body.to_string())
}

/// The same, where these items are the reason.
fn cancelled_by(items: &BTreeSet<usize>, call: &Call, code: &str) -> Reply {
    let reason = |i: usize| match items.contains(&i) {
        true => json!({"Code": code, "Message": "on purpose"}),
        false => json!({"Code": "None"}),
    };
    cancelled(&(0..call.items.len()).map(reason).collect::<Vec<_>>())
}
