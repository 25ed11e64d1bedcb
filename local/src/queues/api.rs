//! The requests of the SQS API.

use std::time::Duration;

use rusqlite::params;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::error::QueueError;
use super::limits::{self, read_text};
use super::message::{Message, md5_of};
use super::store::Queues;
use crate::account::{ACCOUNT_ID, REGION};
use crate::clock::now_ms;
use crate::template::Queue;

impl Queues {
    /// Answers one request of the SQS API.
    ///
    /// # Errors
    /// As SQS says it.
    pub async fn answer(&self, operation: &str, request: &Value, url: &str) -> Result<Value, QueueError> {
        let queue = || self.find(read_text(request, "QueueUrl")?);
        match operation {
            "SendMessage" => self.send_message(queue()?, request),
            "SendMessageBatch" => {
                for_each_entry(operation, request, |entry| self.send_message(queue()?, entry))
            }
            "ReceiveMessage" => self.receive_messages(queue()?, request).await,
            "DeleteMessage" => self.delete(read_text(request, "ReceiptHandle")?).map(|()| json!({})),
            "DeleteMessageBatch" => for_each_entry(operation, request, |e| {
                self.delete(read_text(e, "ReceiptHandle")?).map(|()| json!({}))
            }),
            "ChangeMessageVisibility" => self.change_message_visibility(request),
            "ChangeMessageVisibilityBatch" => {
                for_each_entry(operation, request, |entry| self.change_message_visibility(entry))
            }
            "GetQueueUrl" => {
                let queue = self.find(read_text(request, "QueueName")?)?;
                Ok(json!({"QueueUrl": format!("{url}/{ACCOUNT_ID}/{}", queue.name)}))
            }
            "ListQueues" => {
                let prefix = request["QueueNamePrefix"].as_str().unwrap_or_default();
                let names = self.all().iter().filter(|queue| queue.name.starts_with(prefix));
                let urls: Vec<String> =
                    names.map(|queue| format!("{url}/{ACCOUNT_ID}/{}", queue.name)).collect();
                Ok(json!({"QueueUrls": urls}))
            }
            "GetQueueAttributes" => self.describe(queue()?),
            "PurgeQueue" => {
                self.database().execute("DELETE FROM message WHERE queue = ?1", [&queue()?.name])?;
                Ok(json!({}))
            }
            other => Err(QueueError {
                kind: "InvalidAction",
                message: format!("{other} is not spoken on this machine"),
            }),
        }
    }

    fn send_message(&self, queue: &Queue, request: &Value) -> Result<Value, QueueError> {
        let body = read_text(request, "MessageBody")?;
        let delay = limits::read_delay(request)?.unwrap_or(Duration::from_secs(queue.delay_seconds));
        let id = self.send(queue, body, &request["MessageAttributes"], delay)?;
        Ok(json!({"MessageId": id, "MD5OfMessageBody": md5_of(body)}))
    }

    fn change_message_visibility(&self, request: &Value) -> Result<Value, QueueError> {
        let visibility = limits::read_visibility(request)?
            .ok_or_else(|| limits::missing_parameter("VisibilityTimeout"))?;
        self.change_visibility(read_text(request, "ReceiptHandle")?, visibility).map(|()| json!({}))
    }

    async fn receive_messages(&self, queue: &Queue, request: &Value) -> Result<Value, QueueError> {
        let max = limits::read_max_messages(request)?;
        let visibility = limits::read_visibility(request)?;
        let visibility = visibility.unwrap_or(Duration::from_secs(queue.visibility_seconds));
        let until = Instant::now() + limits::read_wait(request)?.unwrap_or_default();
        loop {
            let messages = self.receive(queue, max, visibility)?;
            let left = until.saturating_duration_since(Instant::now());
            if !messages.is_empty() || left.is_zero() {
                let messages: Vec<Value> = messages.iter().map(Message::to_api).collect();
                return Ok(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) });
            }
            self.wait(left.min(Duration::from_millis(100))).await;
        }
    }

    fn describe(&self, queue: &Queue) -> Result<Value, QueueError> {
        let now = now_ms();
        let count = |condition: &str| {
            let select = format!("SELECT count(*) FROM message WHERE queue = ?1 AND {condition}");
            self.database().query_row(&select, params![queue.name, now], |row| row.get::<_, i64>(0))
        };
        let visible = count("visible_ms <= ?2")?;
        let in_flight = count("visible_ms > ?2 AND receives > 0")?;
        let delayed = count("visible_ms > ?2 AND receives = 0")?;
        let mut attributes = json!({
            "QueueArn": queue.arn(),
            "ApproximateNumberOfMessages": visible.to_string(),
            "ApproximateNumberOfMessagesNotVisible": in_flight.to_string(),
            "ApproximateNumberOfMessagesDelayed": delayed.to_string(),
            "VisibilityTimeout": queue.visibility_seconds.to_string(),
            "DelaySeconds": queue.delay_seconds.to_string(),
        });
        if let Some((dead, most)) = &queue.dead_letters {
            let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{dead}");
            let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": most}).to_string();
            attributes["RedrivePolicy"] = policy.into();
        }
        Ok(json!({"Attributes": attributes}))
    }
}

/// Does the same for each entry of a batch.
fn for_each_entry(
    operation: &str,
    request: &Value,
    mut work: impl FnMut(&Value) -> Result<Value, QueueError>,
) -> Result<Value, QueueError> {
    let entries = limits::read_entries(request, operation)?;
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match work(entry) {
            Ok(mut done) => {
                done["Id"] = entry["Id"].clone();
                successful.push(done);
            }
            Err(QueueError { kind, message }) => {
                failed
                    .push(json!({"Id": entry["Id"], "Code": kind, "Message": message, "SenderFault": true}));
            }
        }
    }
    Ok(json!({"Successful": successful, "Failed": failed}))
}
