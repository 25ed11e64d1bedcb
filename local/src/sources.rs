//! The sources that call functions besides HTTP: queues, the table's stream, and schedules. They do it as the event
//! source mappings of Lambda and EventBridge Scheduler do, with batches, partial answers, bisecting and retries.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::account::{ACCOUNT_ID, REGION};
use crate::bus;
use crate::clock::now_ms;
use crate::dynamodb::DynamoDb;
use crate::lambda::Lambda;
use crate::queues::{Message, Queues};
use crate::template::{Function, NO_EVENT, Queue, QueueSource, Schedule, StreamSource};

/// Batches of one queue that are worked on at once.
const QUEUE_READERS: usize = 2;

/// How often queues and streams are read without a sign of anything new.
const TICK: Duration = Duration::from_millis(100);

/// Pause before a failed batch of a stream is tried again.
const STREAM_RETRY: Duration = Duration::from_millis(200);

/// Calls the functions from their sources.
#[derive(Clone)]
pub struct Sources {
    /// The functions.
    pub lambda: Lambda,
    /// The queues.
    pub queues: Queues,
    /// The database.
    pub dynamodb: DynamoDb,
    /// Where buckets lie, a folder each.
    pub buckets: PathBuf,
    /// Instead of what those schedules say that fire more often than every hour.
    pub every: Option<Duration>,
}

impl Sources {
    /// Starts everything that calls these functions.
    ///
    /// # Errors
    /// If a source names something that is not there.
    pub fn start(&self, functions: &[Function]) -> Result<(), String> {
        for function in functions {
            for source in &function.queues {
                let queue = self.queues.find(&source.queue).map_err(|e| e.to_json())?.clone();
                for _ in 0..QUEUE_READERS {
                    let reader = self.clone();
                    let (name, source, queue) = (function.name.clone(), source.clone(), queue.clone());
                    tokio::spawn(async move { reader.read_queue(&name, &source, &queue).await });
                }
            }
            for source in &function.streams {
                let (reader, name, source) = (self.clone(), function.name.clone(), source.clone());
                tokio::spawn(async move { reader.read_stream(&name, &source).await });
            }
            for (schedule, event) in function.schedules.clone() {
                let (caller, name) = (self.clone(), function.name.clone());
                // What an event asks for is meant for the schedule's own pace.
                let is_hurried = period_of(schedule, self.every) != period_of(schedule, None);
                let event = if is_hurried { NO_EVENT.to_owned() } else { event };
                tokio::spawn(async move { caller.call_by(&name, schedule, event).await });
            }
        }
        Ok(())
    }

    async fn call_by(&self, function: &str, schedule: Schedule, event: String) {
        let first = tokio::time::Instant::now() + first_call(schedule, self.every, now_ms());
        let mut ticks = tokio::time::interval_at(first, period_of(schedule, self.every));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if let Err(e) = self.lambda.invoke(function, event.clone().into()).await {
                eprintln!("schedule: {e}");
            }
        }
    }

    async fn read_queue(&self, function: &str, source: &QueueSource, queue: &Queue) {
        let visibility = Duration::from_secs(queue.visibility_seconds);
        loop {
            match self.queues.receive(queue, source.batch_size, visibility) {
                Ok(batch) if batch.is_empty() => self.queues.wait(TICK).await,
                Ok(batch) => self.work_on_batch(function, source, queue, &batch).await,
                Err(e) => {
                    eprintln!("queue {}: {}", queue.name, e.to_json());
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// Calls the function and deletes what it has done; the rest becomes visible again by itself.
    async fn work_on_batch(&self, function: &str, source: &QueueSource, queue: &Queue, batch: &[Message]) {
        let records: Vec<Value> = batch.iter().map(|message| message.to_record(queue)).collect();
        let event = json!({"Records": records}).to_string();
        let answer = match self.lambda.invoke(function, event.into()).await {
            Ok(answer) => answer,
            Err(e) => return eprintln!("queue {}: {e}", queue.name),
        };
        let ids: Vec<&str> = batch.iter().map(|message| message.id.as_str()).collect();
        let Some(failed) = failed_items(&answer, source.partial, &ids) else {
            return eprintln!("queue {}: {function} reported ids that are not in its batch", queue.name);
        };
        for message in batch.iter().filter(|message| !failed.contains(&message.id)) {
            if let Err(e) = self.queues.delete(&message.receipt) {
                eprintln!("queue {}: {}", queue.name, e.to_json());
            }
        }
    }

    async fn read_stream(&self, function: &str, source: &StreamSource) {
        let name = format!("{function} of {}", source.table);
        loop {
            let position = match self.queues.checkpoint(&name) {
                Ok(position) => position.unwrap_or_default(),
                Err(e) => {
                    eprintln!("stream of {}: {}", source.table, e.to_json());
                    tokio::time::sleep(TICK).await;
                    continue;
                }
            };
            let changed = self.dynamodb.changed();
            let records = self.dynamodb.stream_after(&source.table, &position, source.batch_size).await;
            match records {
                Ok(records) if records.is_empty() => drop(tokio::time::timeout(TICK, changed).await),
                Ok(records) => self.deliver(function, source, &name, records).await,
                Err(e) => {
                    eprintln!("stream of {}: {e}", source.table);
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// Delivers records in order, until all are done or given up.
    async fn deliver(&self, function: &str, source: &StreamSource, name: &str, records: Vec<Value>) {
        let last = sequence_number(records.last().unwrap_or(&Value::Null)).to_owned();
        let wanted = records.into_iter().filter(|record| source.matches(record, bus::matches));
        // What is still to be delivered, as parts that are called for one by one.
        let mut parts: Vec<Vec<Value>> = vec![wanted.collect()];
        let mut tries = 0;
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let event = json!({"Records": part}).to_string();
            let numbers: Vec<&str> = part.iter().map(sequence_number).collect();
            let from = match self.lambda.invoke(function, event.into()).await {
                Ok(answer) => match failed_items(&answer, source.partial, &numbers) {
                    Some(failed) if failed.is_empty() => None,
                    Some(failed) => numbers.iter().position(|n| failed.iter().any(|f| f == n)),
                    None => Some(0),
                },
                Err(e) => {
                    eprintln!("stream of {}: {e}", source.table);
                    Some(0)
                }
            };
            let done_until = from.unwrap_or(part.len());
            if done_until > 0 {
                tries = 0;
                self.save_checkpoint(name, numbers[done_until - 1]);
            }
            let Some(from) = from else { continue };
            tries += 1;
            let mut rest = part[from..].to_vec();
            if tries > source.max_retries && self.give_up(function, source, &rest, tries) {
                tries = 0;
                continue;
            }
            if source.bisect && rest.len() > 1 {
                parts.push(rest.split_off(rest.len() / 2));
            }
            parts.push(rest);
            tokio::time::sleep(STREAM_RETRY).await;
        }
        self.save_checkpoint(name, &last);
    }

    fn save_checkpoint(&self, name: &str, position: &str) {
        if let Err(e) = self.queues.save_checkpoint(name, position) {
            eprintln!("{name}: {}", e.to_json());
        }
    }

    /// Puts what is given up where the source says, as Lambda does. False: it could not be kept, and so it is
    /// not given up yet.
    fn give_up(&self, function: &str, source: &StreamSource, records: &[Value], tries: u64) -> bool {
        let (table, number) = (&source.table, records.len());
        let Some(destination) = source.on_failure.as_deref() else {
            eprintln!(
                "stream of {table}: {number} records were given up; the template names no place for them"
            );
            return true;
        };
        match self.put_invocation_record(destination, function, records, tries) {
            Ok(place) => {
                eprintln!("stream of {table}: {number} records were given up; they are in {place}");
                true
            }
            Err(e) => {
                eprintln!("stream of {table}: what is given up cannot be kept: {e}");
                false
            }
        }
    }

    /// Answers with where it is. A bucket gets the records themselves, a queue the place in the stream where they are.
    fn put_invocation_record(
        &self,
        destination: &str,
        function: &str,
        records: &[Value],
        tries: u64,
    ) -> Result<String, String> {
        let now = jiff::Timestamp::from_millisecond(now_ms()).map_err(|e| e.to_string())?;
        let mut about = invocation_record(function, records, tries, now);
        let Some(bucket) = destination.strip_prefix("arn:aws:s3:::") else {
            let queue = self.queues.find(destination).map_err(|e| e.to_json())?;
            let sent = self.queues.send(queue, &about.to_string(), &Value::Null, Duration::ZERO);
            return sent.map(|_| queue.name.clone()).map_err(|e| e.to_json());
        };
        about["payload"] = json!({"Records": records}).to_string().into();
        let day = now.strftime("%Y/%m/%d");
        let folder = format!("aws/lambda/{function}/{SHARD}/{day}");
        let folder = self.buckets.join(bucket).join(folder);
        let time = now.strftime("%Y-%m-%dT%H.%M.%S");
        let file = folder.join(format!("{time}-{}", uuid::Uuid::new_v4()));
        let failed = |e: std::io::Error| format!("{}: {e}", file.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(&file, about.to_string()).map_err(failed)?;
        Ok(file.display().to_string())
    }
}

/// The invocation record that Lambda writes for records that it gives up.
/// Source: AWS Lambda Developer Guide, "Retain discarded records for a DynamoDB event source".
fn invocation_record(function: &str, records: &[Value], tries: u64, now: jiff::Timestamp) -> Value {
    json!({
        "requestContext": {
            "requestId": uuid::Uuid::new_v4().to_string(),
            "functionArn": format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{function}"),
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": tries,
        },
        "version": "1.0",
        "timestamp": now.to_string(),
        "DDBStreamBatchInfo": {
            "shardId": SHARD,
            "startSequenceNumber": records.first().map(sequence_number),
            "endSequenceNumber": records.last().map(sequence_number),
            "batchSize": records.len(),
            "streamArn": records.first().map(|record| &record["eventSourceARN"]),
        },
    })
}

/// A stream of this machine has one shard.
const SHARD: &str = "shardId-00000000000000000000-00000000";

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How much time lies between two calls. `hurry` is for the impatient; what runs by the hour or by night is left alone.
fn period_of(schedule: Schedule, hurry: Option<Duration>) -> Duration {
    match schedule {
        Schedule::Every(rate) if rate < HOUR => hurry.unwrap_or(rate),
        Schedule::Every(rate) => rate,
        Schedule::Daily(_) => DAY,
    }
}

/// How long it is from now to the first call.
fn first_call(schedule: Schedule, hurry: Option<Duration>, now_ms: i64) -> Duration {
    let Schedule::Daily(at) = schedule else { return period_of(schedule, hurry) };
    let since_midnight = now_ms.rem_euclid(i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX));
    let since_midnight = Duration::from_millis(since_midnight.unsigned_abs());
    if since_midnight < at { at - since_midnight } else { at + DAY - since_midnight }
}

fn sequence_number(record: &Value) -> &str {
    record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default()
}

/// The items that a function reports as failed. None: it reports what it was not given, and then all have
/// failed. Source: AWS Lambda Developer Guide, "Implementing partial batch responses".
fn failed_items(answer: &[u8], partial: bool, items: &[&str]) -> Option<Vec<String>> {
    if !partial {
        return Some(Vec::new());
    }
    let answer: Value = if answer.is_empty() { Value::Null } else { serde_json::from_slice(answer).ok()? };
    let failures = match &answer["batchItemFailures"] {
        Value::Array(failures) => failures.as_slice(),
        _ => return Some(Vec::new()),
    };
    failures
        .iter()
        .map(|failure| failure["itemIdentifier"].as_str().filter(|id| items.contains(id)).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_impatient_hurry_the_sweep_and_not_the_night() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!(period_of(Schedule::Every(minute), None), minute);
        assert_eq!(period_of(Schedule::Every(minute), Some(second)), second);
        assert_eq!(period_of(Schedule::Every(DAY), Some(second)), DAY);
        let at_three = Schedule::Daily(3 * HOUR);
        assert_eq!(period_of(at_three, Some(second)), DAY);
        let now = |hour: i64| 1_700_000 * 86_400_000 + hour * 3_600_000;
        assert_eq!(first_call(at_three, Some(second), now(1)), 2 * HOUR);
        assert_eq!(first_call(at_three, None, now(3)), DAY);
        assert_eq!(first_call(at_three, None, now(22)), 5 * HOUR);
    }

    #[test]
    fn partial_answers_are_read_as_lambda_reads_them() {
        let failed = |answer: &str| failed_items(answer.as_bytes(), true, &["a", "b"]);
        assert_eq!(failed("no JSON"), None);
        assert_eq!(failed(""), Some(vec![]));
        assert_eq!(failed("null"), Some(vec![]));
        assert_eq!(failed("{}"), Some(vec![]));
        assert_eq!(failed(r#"{"batchItemFailures":[]}"#), Some(vec![]));
        assert_eq!(failed(r#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#), Some(vec!["b".to_owned()]));
        for malformed in
            [r#"[{"itemIdentifier":""}]"#, r#"[{"itemIdentifier":"c"}]"#, r#"[{"itemIdentifier":null}]"#]
        {
            assert_eq!(failed(&format!(r#"{{"batchItemFailures":{malformed}}}"#)), None);
        }
    }
}
