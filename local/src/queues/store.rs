//! The queues themselves: messages in SQLite, visible or not yet.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::Value;
use tokio::sync::Notify;

use super::error::QueueError;
use super::limits::{self, MAX_BATCH};
use super::message::Message;
use crate::clock::now_ms;
use crate::template::Queue;

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

    /// All of them.
    pub(super) fn all(&self) -> &[Queue] {
        &self.inner.queues
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

    /// Makes a message that was received visible again, so long from now.
    pub(super) fn change_visibility(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError> {
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

    /// The database, for as long as the guard is held.
    pub(super) fn database(&self) -> MutexGuard<'_, Connection> {
        self.inner.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// A random number below a hundred.
fn percent() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0] % 100
}
