//! A message, as SQS answers it and as Lambda passes it on.

use serde_json::{Value, json};

use crate::account::{ACCOUNT_ID, REGION};
use crate::template::Queue;

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The handle with which it is deleted.
    pub receipt: String,
    /// Its text.
    pub body: String,
    pub(super) attributes: Value,
    pub(super) sent_ms: i64,
    pub(super) receives: i64,
    pub(super) first_received_ms: i64,
}

impl Message {
    fn system_attributes(&self) -> Value {
        json!({
            "ApproximateReceiveCount": self.receives.to_string(),
            "SentTimestamp": self.sent_ms.to_string(),
            "SenderId": ACCOUNT_ID,
            "ApproximateFirstReceiveTimestamp": self.first_received_ms.to_string(),
        })
    }

    /// As `ReceiveMessage` answers it.
    pub(super) fn to_api(&self) -> Value {
        let mut message = json!({
            "MessageId": self.id, "ReceiptHandle": self.receipt, "Body": self.body,
            "MD5OfBody": md5_of(&self.body), "Attributes": self.system_attributes(),
        });
        if self.attributes.is_object() {
            message["MessageAttributes"] = self.attributes.clone();
        }
        message
    }

    /// As Lambda passes it to a function.
    #[must_use]
    pub fn to_record(&self, queue: &Queue) -> Value {
        let attributes: serde_json::Map<String, Value> = self
            .attributes
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let value = json!({
                    "dataType": value["DataType"], "stringValue": value["StringValue"],
                    "stringListValues": [], "binaryListValues": [],
                });
                (name.clone(), value)
            })
            .collect();
        json!({
            "messageId": self.id, "receiptHandle": self.receipt, "body": self.body,
            "attributes": self.system_attributes(), "messageAttributes": attributes,
            "md5OfBody": md5_of(&self.body), "eventSource": "aws:sqs", "eventSourceARN": queue.arn(),
            "awsRegion": REGION,
        })
    }
}

/// SDKs compare it with what they sent.
pub(super) fn md5_of(text: &str) -> String {
    format!("{:x}", md5::compute(text))
}
