//! The other tables in the database of the queues: events that were published, and how far streams were read.

use rusqlite::{OptionalExtension as _, params};
use serde_json::Value;

use super::error::QueueError;
use super::store::Queues;

impl Queues {
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
    pub fn save_checkpoint(&self, name: &str, position: &str) -> Result<(), QueueError> {
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

    /// The events that were published after the one of a number, of one order or of all, oldest first.
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
}
