//! SQS: standard queues with visibility, delay, receive counts and dead-letter queues, kept in SQLite. In reading order:
//!
//! - `error` and `limits`: what SQS refuses, in its words
//! - `message`: a message; `store`: the queues themselves; `records`: what else lies in their database
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
