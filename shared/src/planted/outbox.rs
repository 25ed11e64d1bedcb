//! Bugs in publishing and in setting records aside.

use serde_json::{Value, json};

use super::call::{Call, Reply};
use super::planted;

/// The reply to a request that is not even sent.
pub(super) fn reply_unsent(call: &Call) -> Option<Reply> {
    let entries = || call.body["Entries"].as_array().into_iter().flatten();
    let republished = |entry: &Value| id(&detail(entry)).ends_with(":republished");
    match call.operation.as_str() {
        "SendMessage" if planted("what-cannot-be-published-is-dropped") => {
            Some(Reply::ok(json!({"MessageId": "dropped"})))
        }
        "PutEvents" if planted("gaps-are-not-filled") && entries().any(republished) => {
            let taken: Vec<Value> = entries().map(|_| json!({"EventId": "dropped"})).collect();
            Some(Reply::ok(json!({"FailedEntryCount": 0, "Entries": taken})))
        }
        _ => None,
    }
}

/// Changes the content of events.
pub(super) fn disturb_request(call: &mut Call) {
    if call.operation != "PutEvents" {
        return;
    }
    for entry in call.body["Entries"].as_array_mut().into_iter().flatten() {
        let mut detail = detail(entry);
        let id = id(&detail).to_owned();
        if planted("one-id-for-two-events") {
            let of_record = id.rsplitn(3, ':').last().unwrap_or_default();
            let name = detail["eventType"].as_str().unwrap_or_default();
            detail["eventId"] = format!("{of_record}:{name}").into();
        }
        if planted("another-id-each-time") {
            detail["eventId"] = format!("{id}:{}", fastrand::u32(..)).into();
        }
        if planted("events-do-not-say-their-version") {
            detail["version"] = 1.into();
        }
        entry["Detail"] = detail.to_string().into();
    }
}

/// Changes the replies of the bus.
pub(super) fn disturb_reply(call: &Call, reply: &mut Reply) {
    if call.operation == "PutEvents" && planted("the-publisher-goes-on-behind-a-failure") {
        for entry in reply.body["Entries"].as_array_mut().into_iter().flatten() {
            *entry = json!({"EventId": "as if it were taken"});
        }
    }
}

fn detail(entry: &Value) -> Value {
    serde_json::from_str(entry["Detail"].as_str().unwrap_or_default()).unwrap_or_default()
}

fn id(detail: &Value) -> &str {
    detail["eventId"].as_str().unwrap_or_default()
}
