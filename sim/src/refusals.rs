//! How AWS refuses, word for word as far as the SDK reads it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::requests::{Call, Reply, Service};

fn refused(status: u16, name: &str) -> Reply {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "on purpose"});
    Reply::Answer(status, body.to_string())
}

/// An error of the service's own.
#[must_use]
pub fn error_500() -> Reply {
    refused(500, "InternalServerError")
}

/// The same transaction is under way.
#[must_use]
pub fn in_progress() -> Reply {
    refused(400, "TransactionInProgressException")
}

/// Refused because of its first item.
#[must_use]
pub fn busy(call: &Call, code: &str) -> Reply {
    let first = BTreeSet::from([0]);
    match code {
        "TransactionConflict" => conflict(call, &first),
        _ => throttled(call, &first),
    }
}

/// Another write on these items is under way.
#[must_use]
pub fn conflict(call: &Call, items: &BTreeSet<usize>) -> Reply {
    match call.is_transaction() {
        true => cancelled(call, items, "TransactionConflict"),
        false => refused(400, "TransactionConflictException"),
    }
}

/// These items' partitions are busy.
#[must_use]
pub fn throttled(call: &Call, items: &BTreeSet<usize>) -> Reply {
    match call.is_transaction() {
        true => cancelled(call, items, "ThrottlingError"),
        false if call.service == Service::DynamoDb => refused(400, "ProvisionedThroughputExceededException"),
        false => refused(400, "ThrottlingException"),
    }
}

fn cancelled(call: &Call, items: &BTreeSet<usize>, code: &str) -> Reply {
    let reason = |i: usize| match items.contains(&i) {
        true => json!({"Code": code, "Message": "on purpose"}),
        false => json!({"Code": "None"}),
    };
    let reasons: Vec<Value> = (0..call.items.len()).map(reason).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{code}]"),
        "CancellationReasons": reasons,
    });
    Reply::Answer(400, body.to_string())
}
