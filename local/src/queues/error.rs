//! An error as SQS says it.

use serde_json::json;

/// An error as SQS says it.
#[derive(Debug)]
pub struct QueueError {
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl QueueError {
    /// Its code in the older query protocol, which SDKs know errors by (header `x-amzn-query-error`).
    #[must_use]
    pub fn query_code(&self) -> String {
        match self.kind {
            "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue;Sender".to_owned(),
            of_a_batch if of_a_batch.contains("Batch") => {
                format!("AWS.SimpleQueueService.{of_a_batch};Sender")
            }
            other => format!("{other};Sender"),
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({"__type": format!("com.amazonaws.sqs#{}", self.kind), "message": self.message}).to_string()
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        Self { kind: "InternalError", message: error.to_string() }
    }
}
