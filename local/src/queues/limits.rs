//! The requests that SQS refuses, and its words for that.
//!
//! Source: Amazon SQS API Reference, and "Message quotas" of its Developer Guide.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::error::QueueError;
use crate::template::{MAX_DELAY_SECONDS, MAX_VISIBILITY_SECONDS};

/// Largest message, its attributes included, and largest batch, in bytes.
const MAX_BYTES: usize = 1_048_576;
/// Most entries of a batch, and most messages that are received at once.
pub(super) const MAX_BATCH: u64 = 10;
/// Longest wait for a message, in seconds.
const MAX_WAIT_SECONDS: u64 = 20;
/// Longest id of an entry of a batch, in characters.
const MAX_ENTRY_ID: usize = 80;

fn error(kind: &'static str, message: impl Into<String>) -> QueueError {
    QueueError { kind, message: message.into() }
}

/// How long a message is to be invisible at first. None: the request does not say.
pub(super) fn read_delay(request: &Value) -> Result<Option<Duration>, QueueError> {
    let reason = format!("DelaySeconds must be >= 0 and <= {MAX_DELAY_SECONDS}.");
    read_seconds(request, "DelaySeconds", MAX_DELAY_SECONDS, &reason)
}

/// How long a message is to be invisible once it is received. None: the request does not say.
pub(super) fn read_visibility(request: &Value) -> Result<Option<Duration>, QueueError> {
    let reason = format!("Must be >= 0 and <= {MAX_VISIBILITY_SECONDS}, if provided.");
    read_seconds(request, "VisibilityTimeout", MAX_VISIBILITY_SECONDS, &reason)
}

/// How long to wait for a message. None: the request does not say.
pub(super) fn read_wait(request: &Value) -> Result<Option<Duration>, QueueError> {
    let reason = format!("Must be >= 0 and <= {MAX_WAIT_SECONDS}, if provided.");
    read_seconds(request, "WaitTimeSeconds", MAX_WAIT_SECONDS, &reason)
}

/// How many messages to receive at most.
pub(super) fn read_max_messages(request: &Value) -> Result<u64, QueueError> {
    let reason = format!("Must be between 1 and {MAX_BATCH}, if provided.");
    Ok(read_number(request, "MaxNumberOfMessages", 1..=MAX_BATCH, &reason)?.unwrap_or(1))
}

fn read_seconds(
    request: &Value,
    name: &str,
    most: u64,
    reason: &str,
) -> Result<Option<Duration>, QueueError> {
    Ok(read_number(request, name, 0..=most, reason)?.map(Duration::from_secs))
}

fn read_number(
    request: &Value,
    name: &str,
    range: RangeInclusive<u64>,
    reason: &str,
) -> Result<Option<u64>, QueueError> {
    let value = &request[name];
    if value.is_null() {
        return Ok(None);
    }
    let whole = value.as_i64().ok_or_else(|| {
        error("SerializationException", format!("{name} must be a whole number of 32 bits, not {value}"))
    })?;
    let fitting = u64::try_from(whole).ok().filter(|number| range.contains(number));
    let message = || format!("Value {whole} for parameter {name} is invalid. Reason: {reason}");
    fitting.map(Some).ok_or_else(|| error("InvalidParameterValue", message()))
}

/// Refuses a message that is empty, too large, or has characters that XML 1.0 has not.
pub(super) fn check_message(body: &str, attributes: &Value) -> Result<(), QueueError> {
    if body.is_empty() {
        return Err(missing_parameter("MessageBody"));
    }
    if body.len() + size_of(attributes) > MAX_BYTES {
        let reason = format!("Message must be shorter than {MAX_BYTES} bytes.");
        let message = format!("One or more parameters are invalid. Reason: {reason}");
        return Err(error("InvalidParameterValue", message));
    }
    let is_valid = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
    match body.chars().find(|c| !is_valid(*c)) {
        None => Ok(()),
        Some(c) => Err(error("InvalidMessageContents", format!("Invalid character {c:?} found."))),
    }
}

/// The name, the type and the value of each attribute count.
fn size_of(attributes: &Value) -> usize {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let of_one = |(name, attribute): (&String, &Value)| {
        // Three bytes are four characters of base64.
        let binary = length(&attribute["BinaryValue"]) / 4 * 3;
        name.len() + length(&attribute["DataType"]) + length(&attribute["StringValue"]) + binary
    };
    attributes.as_object().into_iter().flatten().map(of_one).sum()
}

/// The entries of a batch, each with an id of its own.
pub(super) fn read_entries<'a>(request: &'a Value, operation: &str) -> Result<&'a [Value], QueueError> {
    let entries = request["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        let message = format!("There should be at least one {operation}RequestEntry in the request.");
        return Err(error("EmptyBatchRequest", message));
    }
    if entries.len() as u64 > MAX_BATCH {
        let most = format!("Maximum number of entries per request are {MAX_BATCH}.");
        let message = format!("{most} You have sent {}.", entries.len());
        return Err(error("TooManyEntriesInBatchRequest", message));
    }
    let mut ids = BTreeSet::new();
    for entry in entries {
        let id = read_text(entry, "Id")?;
        let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > MAX_ENTRY_ID || !id.chars().all(is_valid) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                           It can be at most 80 letters long.";
            return Err(error("InvalidBatchEntryId", message));
        }
        if !ids.insert(id) {
            return Err(error("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
        }
    }
    let bytes = entries.iter().map(|entry| {
        entry["MessageBody"].as_str().map_or(0, str::len) + size_of(&entry["MessageAttributes"])
    });
    match bytes.sum::<usize>() {
        bytes if bytes > MAX_BYTES => {
            let most = format!("Batch requests cannot be longer than {MAX_BYTES} bytes.");
            Err(error("BatchRequestTooLong", format!("{most} You have sent {bytes} bytes.")))
        }
        _ => Ok(entries),
    }
}

/// A text without which there is nothing to do.
pub(super) fn read_text<'a>(request: &'a Value, name: &str) -> Result<&'a str, QueueError> {
    request[name].as_str().ok_or_else(|| missing_parameter(name))
}

/// A parameter without which there is nothing to do.
pub(super) fn missing_parameter(name: &str) -> QueueError {
    error("MissingParameter", format!("The request must contain the parameter {name}."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused<T: std::fmt::Debug>(outcome: Result<T, QueueError>) -> String {
        let QueueError { kind, message } = outcome.unwrap_err();
        format!("{kind}: {message}")
    }

    #[test]
    fn numbers_beyond_their_limits_are_refused_in_the_words_of_sqs() {
        for delay_seconds in [json!(0), json!(900), json!(null)] {
            read_delay(&json!({"DelaySeconds": delay_seconds})).unwrap();
        }
        for beyond in [-5, 901, 1_i64 << 62] {
            let says = format!(
                "InvalidParameterValue: Value {beyond} for parameter DelaySeconds is invalid. \
                 Reason: DelaySeconds must be >= 0 and <= 900."
            );
            assert_eq!(refused(read_delay(&json!({"DelaySeconds": beyond}))), says);
        }
        for no_number in [json!("5"), json!(1.5), json!(u64::MAX), json!(true)] {
            let says = refused(read_delay(&json!({"DelaySeconds": no_number})));
            assert!(says.starts_with("SerializationException"), "{says}");
        }
        let visibility = |seconds| read_visibility(&json!({"VisibilityTimeout": seconds}));
        assert_eq!(visibility(43_200).unwrap(), Some(Duration::from_secs(43_200)));
        for beyond in [-1, 43_201] {
            assert!(refused(visibility(beyond)).contains("Must be >= 0 and <= 43200"));
        }
        let wait = |seconds| read_wait(&json!({"WaitTimeSeconds": seconds}));
        assert_eq!(wait(20).unwrap(), Some(Duration::from_secs(20)));
        for beyond in [-1, 21] {
            assert!(refused(wait(beyond)).contains("Must be >= 0 and <= 20"));
        }
        let most = |number: Value| read_max_messages(&json!({"MaxNumberOfMessages": number}));
        assert_eq!((most(json!(null)).unwrap(), most(json!(10)).unwrap()), (1, 10));
        for beyond in [-1, 0, 11] {
            assert!(refused(most(json!(beyond))).contains("Must be between 1 and 10"));
        }
    }

    #[test]
    fn a_message_counts_with_its_attributes() {
        let attributes = json!({"k": {"DataType": "String", "StringValue": "v"}});
        let body = "x".repeat(MAX_BYTES - 8);
        check_message(&body, &attributes).unwrap();
        assert!(refused(check_message(&format!("{body}x"), &attributes)).contains("shorter than 1048576"));
        assert!(refused(check_message("", &Value::Null)).starts_with("MissingParameter"));
        check_message("tab\tline\n ü 😀", &Value::Null).unwrap();
        for wrong in ["\0", "\u{1b}", "\u{ffff}"] {
            assert!(refused(check_message(wrong, &Value::Null)).starts_with("InvalidMessageContents"));
        }
    }

    #[test]
    fn a_batch_has_one_to_ten_entries_with_ids_of_their_own() {
        let batch = |ids: &[&str], body: &str| {
            let entries: Vec<Value> = ids.iter().map(|id| json!({"Id": id, "MessageBody": body})).collect();
            entries_of(&json!({"Entries": entries}))
        };
        let entries_of_nothing = refused(entries_of(&json!({})));
        assert!(entries_of_nothing.starts_with("EmptyBatchRequest"), "{entries_of_nothing}");
        assert_eq!(batch(&["a", "b"], "x").unwrap(), 2);
        assert!(refused(batch(&["a", "a"], "x")).starts_with("BatchEntryIdsNotDistinct: Id a repeated."));
        assert!(refused(batch(&["a b"], "x")).starts_with("InvalidBatchEntryId"));
        let eleven = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        assert!(refused(batch(&eleven, "x")).ends_with("entries per request are 10. You have sent 11."));
        let half = "x".repeat(MAX_BYTES / 2 + 1);
        assert!(refused(batch(&["a", "b"], &half)).starts_with("BatchRequestTooLong"));
    }

    fn entries_of(request: &Value) -> Result<usize, QueueError> {
        read_entries(request, "SendMessageBatch").map(<[Value]>::len)
    }
}
