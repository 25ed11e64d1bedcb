//! SQS: standard queues with visibility, delay, receive counts and dead-letter queues, in SQLite. In reading order:
//!
//! - `error` and `limits`: the requests that SQS refuses, and its words for that
//! - `message`: a message; `store`: the queues themselves; `records`: the other tables
//! - `api`: the requests of the SQS API
//!
//! Source of the protocol: Amazon SQS API Reference (AWS JSON 1.0).

mod api;
mod error;
mod limits;
mod message;
mod records;
mod store;

pub use error::QueueError;
pub use message::Message;
pub use store::Queues;
