//! SQS: standard queues with visibility, delay, receive counts and dead-letter queues, kept in SQLite.
//!
//! Source of the protocol: Amazon SQS API Reference (AWS JSON 1.0).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::run::now_ms;
use crate::template::{ACCOUNT_ID, Queue, REGION};

pub(crate) mod limits;

use limits::MAX_BATCH;

/// Of a hundred deliveries of an unruly queue, how many are made twice.
const TWICE_OF_HUNDRED: u8 = 30;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS message (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, body TEXT NOT NULL, attributes TEXT NOT NULL,
        sent_ms INTEGER NOT NULL, visible_ms INTEGER NOT NULL,
        receives INTEGER NOT NULL, first_received_ms INTEGER NOT NULL, receipt TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS visible ON message (queue, visible_ms);
    CREATE TABLE IF NOT EXISTS event (number INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT, event TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS of_order ON event (order_id);
    CREATE TABLE IF NOT EXISTS checkpoint (name TEXT PRIMARY KEY, position TEXT NOT NULL);
";

/// All queues.
#[derive(Clone)]
pub struct Queues {
    inner: Arc<Inner>,
}

struct Inner {
    database: Mutex<Connection>,
    queues: Vec<Queue>,
    /// Delivers out of order and some messages twice, on purpose.
    unruly: bool,
    arrived: Notify,
}

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// What it is deleted by.
    pub receipt: String,
    /// What it says.
    pub body: String,
    attributes: Value,
    sent_ms: i64,
    receives: i64,
    first_received_ms: i64,
}

/// An error as SQS says it.
#[derive(Debug)]
pub struct QueueError {
    kind: &'static str,
    message: String,
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

impl Queues {
    /// Opens the queues: in a folder, where they outlive the process, or in memory.
    ///
    /// # Errors
    /// If the folder's file cannot be used.
    pub fn open(folder: Option<&Path>, queues: Vec<Queue>, unruly: bool) -> Result<Self, String> {
        let database = match folder {
            Some(folder) => Connection::open(folder.join("queues.sqlite")),
            None => Connection::open_in_memory(),
        };
        let failed = |e: rusqlite::Error| format!("the queues cannot be opened: {e}");
        let database = database.map_err(failed)?;
        database.execute_batch(SCHEMA).map_err(failed)?;
        let inner = Inner { database: Mutex::new(database), queues, unruly, arrived: Notify::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A queue by its ARN, its URL, or its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, reference: &str) -> Result<&Queue, QueueError> {
        let name = reference.rsplit(['/', ':']).next().unwrap_or_default();
        self.inner.queues.iter().find(|queue| queue.name == name).ok_or_else(|| QueueError {
            kind: "QueueDoesNotExist",
            message: format!("there is no queue {name}"),
        })
    }

    /// Puts a message into a queue and answers with its id.
    ///
    /// # Errors
    /// If it is too large, or cannot be kept.
    pub fn send(
        &self,
        queue: &Queue,
        body: &str,
        attributes: &Value,
        delay: Duration,
    ) -> Result<String, QueueError> {
        limits::check_message(body, attributes)?;
        let id = uuid::Uuid::new_v4().to_string();
        let now = now_ms();
        self.database().execute(
            "INSERT INTO message (id, queue, body, attributes, sent_ms, visible_ms, receives, first_received_ms, receipt)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, '')",
            params![id, queue.name, body, attributes.to_string(), now, now + millis(delay)],
        )?;
        self.inner.arrived.notify_waiters();
        Ok(id)
    }

    /// Receives what is visible, at most `max`. A message that was received too often goes to the dead-letter
    /// queue instead.
    ///
    /// # Errors
    /// If the messages cannot be read.
    pub fn receive(&self, queue: &Queue, max: u64, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let mut database = self.database();
        let transaction = database.transaction()?;
        let now = now_ms();
        let order = if self.inner.unruly { "random()" } else { "number" };
        let select = format!(
            "SELECT id, body, attributes, sent_ms, receives, first_received_ms FROM message
             WHERE queue = ?1 AND visible_ms <= ?2 ORDER BY {order} LIMIT ?3"
        );
        let found: Vec<Message> = transaction
            .prepare_cached(&select)?
            .query_map(params![queue.name, now, max.min(MAX_BATCH)], |row| {
                let attributes: String = row.get(2)?;
                let first: i64 = row.get(5)?;
                Ok(Message {
                    id: row.get(0)?,
                    receipt: uuid::Uuid::new_v4().to_string(),
                    body: row.get(1)?,
                    attributes: serde_json::from_str(&attributes).unwrap_or_default(),
                    sent_ms: row.get(3)?,
                    receives: row.get::<_, i64>(4)? + 1,
                    first_received_ms: if first == 0 { now } else { first },
                })
            })?
            .collect::<Result<_, _>>()?;
        let mut received = Vec::with_capacity(found.len());
        for message in found {
            match &queue.dead_letters {
                Some((dead, most)) if message.receives > *most => {
                    transaction.execute(
                        "UPDATE message SET queue = ?2, visible_ms = ?3, receives = 0, first_received_ms = 0 WHERE id = ?1",
                        params![message.id, dead, now],
                    )?;
                }
                _ => {
                    let twice = self.inner.unruly && percent() < TWICE_OF_HUNDRED;
                    // What an unruly queue delivers twice on purpose is not counted as a failed delivery.
                    let (visible, receives) = if twice {
                        (now, message.receives - 1)
                    } else {
                        (now + millis(visibility), message.receives)
                    };
                    transaction.execute(
                        "UPDATE message SET visible_ms = ?2, receives = ?3, first_received_ms = ?4, receipt = ?5 WHERE id = ?1",
                        params![message.id, visible, receives, message.first_received_ms, message.receipt],
                    )?;
                    received.push(message);
                }
            }
        }
        transaction.commit()?;
        Ok(received)
    }

    /// Waits until a message may have become visible: one arrived, or some time passed.
    pub async fn wait(&self, at_most: Duration) {
        drop(tokio::time::timeout(at_most, self.inner.arrived.notified()).await);
    }

    /// Removes a message by the receipt of its last delivery.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        self.database().execute("DELETE FROM message WHERE receipt = ?1", [receipt])?;
        Ok(())
    }

    fn change_visibility(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError> {
        let visible = now_ms() + millis(visibility);
        let changed = self
            .database()
            .execute("UPDATE message SET visible_ms = ?2 WHERE receipt = ?1", params![receipt, visible])?;
        self.inner.arrived.notify_waiters();
        if changed == 0 {
            return Err(QueueError {
                kind: "ReceiptHandleIsInvalid",
                message: "no such receipt handle".to_owned(),
            });
        }
        Ok(())
    }

    /// Where a reader of a stream has got to.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn checkpoint(&self, name: &str) -> Result<Option<String>, QueueError> {
        let select = "SELECT position FROM checkpoint WHERE name = ?1";
        Ok(self.database().query_row(select, [name], |row| row.get(0)).optional()?)
    }

    /// Keeps where a reader of a stream has got to.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep_checkpoint(&self, name: &str, position: &str) -> Result<(), QueueError> {
        let put = "INSERT INTO checkpoint VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET position = ?2";
        self.database().execute(put, [name, position])?;
        Ok(())
    }

    /// Keeps what was published, to be looked at.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep_event(&self, event: &Value) -> Result<(), QueueError> {
        let put = "INSERT INTO event (order_id, event) VALUES (?1, ?2)";
        self.database().execute(put, params![event["detail"]["orderId"].as_str(), event.to_string()])?;
        Ok(())
    }

    /// What was published after the event of a number, of one order or of all, oldest first.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn events_after(
        &self,
        number: u64,
        order_id: Option<&str>,
        most: u32,
    ) -> Result<Vec<(u64, Value)>, QueueError> {
        let select = "SELECT number, event FROM event
                      WHERE number > ?1 AND (?2 IS NULL OR order_id = ?2) ORDER BY number LIMIT ?3";
        let database = self.database();
        let mut select = database.prepare_cached(select)?;
        let after = i64::try_from(number).unwrap_or(i64::MAX);
        let rows = select.query_map(params![after, order_id, most], |row| {
            let (number, event): (i64, String) = (row.get(0)?, row.get(1)?);
            Ok((number.unsigned_abs(), serde_json::from_str(&event).unwrap_or_default()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn database(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.inner.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request of the SQS API.
    ///
    /// # Errors
    /// As SQS says it.
    pub async fn answer(&self, operation: &str, request: &Value, url: &str) -> Result<Value, QueueError> {
        let queue = || self.find(text(request, "QueueUrl")?);
        match operation {
            "SendMessage" => self.send_one(queue()?, request),
            "SendMessageBatch" => batch(operation, request, |entry| self.send_one(queue()?, entry)),
            "ReceiveMessage" => self.receive_some(queue()?, request).await,
            "DeleteMessage" => self.delete(text(request, "ReceiptHandle")?).map(|()| json!({})),
            "DeleteMessageBatch" => {
                batch(operation, request, |e| self.delete(text(e, "ReceiptHandle")?).map(|()| json!({})))
            }
            "ChangeMessageVisibility" => self.change_one(request),
            "ChangeMessageVisibilityBatch" => batch(operation, request, |entry| self.change_one(entry)),
            "GetQueueUrl" => {
                let queue = self.find(text(request, "QueueName")?)?;
                Ok(json!({"QueueUrl": format!("{url}/{ACCOUNT_ID}/{}", queue.name)}))
            }
            "ListQueues" => {
                let prefix = request["QueueNamePrefix"].as_str().unwrap_or_default();
                let names = self.inner.queues.iter().filter(|queue| queue.name.starts_with(prefix));
                let urls: Vec<String> =
                    names.map(|queue| format!("{url}/{ACCOUNT_ID}/{}", queue.name)).collect();
                Ok(json!({"QueueUrls": urls}))
            }
            "GetQueueAttributes" => self.attributes(queue()?),
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

    fn send_one(&self, queue: &Queue, request: &Value) -> Result<Value, QueueError> {
        let body = text(request, "MessageBody")?;
        let delay = limits::delay(request)?.unwrap_or(Duration::from_secs(queue.delay_seconds));
        let id = self.send(queue, body, &request["MessageAttributes"], delay)?;
        Ok(json!({"MessageId": id, "MD5OfMessageBody": md5_of(body)}))
    }

    fn change_one(&self, request: &Value) -> Result<Value, QueueError> {
        let visibility = limits::visibility(request)?.ok_or_else(|| limits::missing("VisibilityTimeout"))?;
        self.change_visibility(text(request, "ReceiptHandle")?, visibility).map(|()| json!({}))
    }

    async fn receive_some(&self, queue: &Queue, request: &Value) -> Result<Value, QueueError> {
        let max = limits::most_messages(request)?;
        let visibility = limits::visibility(request)?;
        let visibility = visibility.unwrap_or(Duration::from_secs(queue.visibility_seconds));
        let until = Instant::now() + limits::wait(request)?.unwrap_or_default();
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

    fn attributes(&self, queue: &Queue) -> Result<Value, QueueError> {
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
    fn to_api(&self) -> Value {
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

/// Does one thing for each entry of a batch.
fn batch(
    operation: &str,
    request: &Value,
    mut one: impl FnMut(&Value) -> Result<Value, QueueError>,
) -> Result<Value, QueueError> {
    let entries = limits::entries(request, operation)?;
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match one(entry) {
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

fn text<'a>(request: &'a Value, name: &str) -> Result<&'a str, QueueError> {
    request[name].as_str().ok_or_else(|| limits::missing(name))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// SDKs compare it with what they sent.
fn md5_of(text: &str) -> String {
    format!("{:x}", md5::compute(text))
}

/// A random number below a hundred.
fn percent() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0] % 100
}
