//! `holdfast redrive`: gives records that were given up to the publisher again, from the files in which they are kept.
//! To give them twice is harmless: movements have keys, and events keep their ids.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client;

/// The function that publishes.
const PUBLISHER: &str = "publisher";

/// The deployment whose publisher is called.
#[derive(Debug)]
pub enum Deployment {
    /// A runner on this machine, by the port of its AWS endpoint.
    Runner(u16),
    /// A stack on AWS. The AWS CLI calls it, as whoever is signed in there.
    Stack(String),
}

/// Redrives the records of all files, one file after the other, and prints the outcome of each.
///
/// # Errors
/// If anything was not done.
pub fn redrive(paths: &[PathBuf], deployment: &Deployment) -> Result<(), String> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut failed = 0;
    for file in &files {
        let name = file.display();
        match redrive_file(file, deployment) {
            Ok(records) => println!("{name}: done, {records} records"),
            Err(error) => {
                println!("{name}: NOT DONE: {error}");
                failed += 1;
            }
        }
    }
    match (files.len(), failed) {
        (0, _) => Err("there is no file in what was named".to_owned()),
        (_, 0) => Ok(()),
        (all, failed) => Err(format!("{failed} of {all} files were not done, or not wholly")),
    }
}

/// The files of a folder, and of those below it, by name: the names of Lambda's objects begin with their time.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<PathBuf>, _> =
        std::fs::read_dir(path).map_err(failed)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort();
    entries.iter().try_for_each(|entry| collect(entry, files))
}

/// Answers with how many records the publisher has done.
fn redrive_file(file: &Path, deployment: &Deployment) -> Result<usize, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let mut done = 0;
    for event in events_in(&text)? {
        let answer = deployment.invoke(&event)?;
        let (records, of) = (done_of(&event, &answer)?, records_of(&event).len());
        done += records;
        if records < of {
            let number = &event["Records"][records]["dynamodb"]["SequenceNumber"];
            return Err(format!("{done} records are done; record {number} failed, the log says why"));
        }
    }
    Ok(done)
}

/// The events for the publisher in a document: an object of the bucket into which Lambda puts what it has given
/// up, a message of the publisher's own queue, or what `aws sqs receive-message` prints of such messages.
///
/// Source: AWS Lambda Developer Guide, "Retain discarded records for a DynamoDB event source".
fn events_in(text: &str) -> Result<Vec<Value>, String> {
    let document: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    if let Some(messages) = document["Messages"].as_array() {
        let bodies = messages.iter().map(|message| message["Body"].as_str().unwrap_or_default());
        let events: Result<Vec<Vec<Value>>, String> = bodies.map(events_in).collect();
        return Ok(events?.concat());
    }
    let event = match (&document["payload"], &document["record"]) {
        (Value::String(payload), _) => {
            serde_json::from_str(payload).map_err(|e| format!("its payload is not JSON: {e}"))?
        }
        (Value::Null, record @ Value::Object(_)) => json!({"Records": [record]}),
        (Value::Null, Value::Null) if document["Records"].is_array() => document,
        (Value::Null, Value::Null) if document["DDBStreamBatchInfo"].is_object() => {
            return Err("it names a place in the stream and does not have the records".to_owned());
        }
        _ => return Err("it is neither an object of the bucket nor a message of the publisher".to_owned()),
    };
    match records_of(&event) {
        [] => Err("it has no records".to_owned()),
        _ => Ok(vec![event]),
    }
}

fn records_of(event: &Value) -> &[Value] {
    event["Records"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How many records are done: those before the first that the publisher reports as failed.
fn done_of(event: &Value, answer: &Value) -> Result<usize, String> {
    let failures = answer["batchItemFailures"].as_array();
    let failures = failures.ok_or_else(|| format!("the publisher answered {answer}"))?;
    let records = records_of(event);
    let has_failed = |record: &Value| {
        let number = &record["dynamodb"]["SequenceNumber"];
        failures.iter().any(|failure| failure["itemIdentifier"] == *number)
    };
    match records.iter().position(has_failed) {
        Some(first) => Ok(first),
        None if failures.is_empty() => Ok(records.len()),
        // What it reports is in none of them, and so all of them count as failed.
        None => Ok(0),
    }
}

impl Deployment {
    fn invoke(&self, event: &Value) -> Result<Value, String> {
        match self {
            Self::Runner(aws_port) => client::invoke(PUBLISHER, event, *aws_port),
            Self::Stack(stack) => invoke_on_aws(&format!("{stack}-{PUBLISHER}:live"), event),
        }
    }
}

/// `aws lambda invoke`: it knows the user's profiles, sessions and regions.
fn invoke_on_aws(function: &str, event: &Value) -> Result<Value, String> {
    let failed = |e: std::io::Error| format!("a temporary file: {e}");
    let mut payload = tempfile::NamedTempFile::new().map_err(failed)?;
    payload.write_all(event.to_string().as_bytes()).map_err(failed)?;
    let answer = tempfile::NamedTempFile::new().map_err(failed)?;
    let output = Command::new("aws")
        .args(["lambda", "invoke", "--output", "json", "--function-name", function, "--payload"])
        .arg(format!("fileb://{}", payload.path().display()))
        .arg(answer.path())
        .output()
        .map_err(|e| format!("the AWS CLI (aws) cannot be started: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let said = std::fs::read_to_string(answer.path()).map_err(failed)?;
    let about: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if let Some(error) = about["FunctionError"].as_str() {
        return Err(format!("{function} failed ({error}): {said}"));
    }
    serde_json::from_str(&said).map_err(|e| format!("{function} answered what is not JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: &str) -> Value {
        json!({"dynamodb": {"SequenceNumber": number}})
    }

    #[test]
    fn records_are_found_in_whatever_kept_them() {
        let event = json!({"Records": [record("1"), record("2")]});
        let object = json!({"requestContext": {}, "DDBStreamBatchInfo": {}, "payload": event.to_string()});
        for text in [object.to_string(), event.to_string()] {
            assert_eq!(events_in(&text).unwrap(), std::slice::from_ref(&event));
        }
        let letter = |number| json!({"error": "why", "record": record(number)}).to_string();
        assert_eq!(events_in(&letter("7")).unwrap(), [json!({"Records": [record("7")]})]);
        let received = json!({"Messages": [{"Body": letter("8")}, {"Body": letter("9")}]});
        let numbers: Vec<Value> = events_in(&received.to_string()).unwrap();
        assert_eq!(numbers, [json!({"Records": [record("8")]}), json!({"Records": [record("9")]})]);
    }

    #[test]
    fn what_has_no_records_is_told_from_what_is_foreign() {
        for (text, says) in [
            ("", "it is not JSON"),
            ("[]", "neither an object"),
            (r#"{"DDBStreamBatchInfo":{"batchSize":1}}"#, "names a place in the stream"),
            (r#"{"payload":"x"}"#, "its payload is not JSON"),
            (r#"{"payload":"{}"}"#, "it has no records"),
            (r#"{"Records":[]}"#, "it has no records"),
            (r#"{"Messages":[{"Body":"hello"}]}"#, "it is not JSON"),
        ] {
            let error = events_in(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_comes_before_the_first_failure_is_done() {
        let event = json!({"Records": [record("1"), record("2"), record("3")]});
        let done = |failed: &[&str]| {
            let failures: Vec<Value> = failed.iter().map(|id| json!({"itemIdentifier": id})).collect();
            done_of(&event, &json!({"batchItemFailures": failures})).unwrap()
        };
        assert_eq!((done(&[]), done(&["2"]), done(&["3", "1"]), done(&["9"])), (3, 1, 0, 0));
        let error = done_of(&event, &json!({"errorMessage": "x"})).unwrap_err();
        assert!(error.contains("the publisher answered"), "{error}");
    }
}
