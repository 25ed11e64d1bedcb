//! Storage: the only module that names the DynamoDB SDK.
//!
//! - `executor.rs` commits plans, and is the only way to change stock. `transaction.rs` is what it sends, `expression.rs`
//!   how a move of a stock unit is said to DynamoDB
//! - `apply.rs` drives one command, of an order ([`Store::apply`]) or of the stock administration
//!   ([`Store::change_stock`]); `sweep.rs` ends due holds ([`Store::expire`])
//! - `read.rs` is what is read to decide something, `catalog.rs` and `low.rs` what is only shown
//! - `stream.rs` reads what has changed; `ledger.rs` and `alerts.rs` keep what the publisher makes of it; `scan.rs` is for
//!   the reconciliation alone
//! - `keys.rs` names items, `record.rs` maps them, `error.rs` and `retry.rs` say what is tried again
//!
//! There is no trait and no in-memory twin: the rule that matters, `available >= quantity`, lives in
//! a condition expression, so a fake would test another program.

mod alerts;
mod apply;
mod catalog;
mod error;
mod executor;
mod expression;
pub mod keys;
mod ledger;
mod low;
mod read;
mod record;
mod retry;
mod scan;
mod stream;
mod sweep;
mod transaction;
mod verdict;

use std::time::Duration;

use aws_config::ConfigLoader;
use tokio::time::Instant;

pub use apply::{Outcome, StockOutcome};
pub use catalog::{LOCATIONS_IN_LIST, MAX_LOCATIONS, MAX_PAGE, ProductCursor, ProductList, ShownProduct};
pub use error::StoreError;
pub use ledger::MAX_MOVEMENTS;
pub use read::MAX_CHECK;
pub use retry::RetryPolicy;
pub use scan::{ReservationPage, ScanCursor, UnitPage};
pub use stream::{StreamChange, parse_change};
pub use sweep::{DuePage, Expired};

use crate::domain::{Action, Command, Target, Timestamp};
use crate::metrics::Metrics;

/// Where the tables are and how they are used, from the settings.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Name of the table with stock units, reservations and idempotency records.
    pub inventory_table: String,
    /// Name of the table with the ledger.
    pub ledger_table: String,
    /// How long a record is kept after nothing is held in it any more.
    pub retention: Duration,
    /// How often and how fast is tried.
    pub retry: RetryPolicy,
}

/// What an operation needs to know about the invocation that it is a part of.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// When it began.
    pub now: Timestamp,
    /// When it must have answered.
    pub deadline: Instant,
    /// Of the request or event; kept with what it writes.
    pub correlation_id: String,
    /// What it counts.
    pub metrics: Metrics,
}

impl Invocation {
    /// A command that is given in this invocation; its record keeps the invocation's correlation id.
    #[must_use]
    pub fn command(&self, target: Target, action: Action) -> Command {
        Command { target, correlation_id: self.correlation_id.clone(), action }
    }
}

/// The tables.
#[derive(Debug, Clone)]
pub struct Store {
    client: aws_sdk_dynamodb::Client,
    settings: StoreSettings,
}

impl Store {
    /// Connects as `config` says (see [`crate::aws`]).
    pub async fn connect(config: ConfigLoader, settings: StoreSettings) -> Self {
        let client = aws_sdk_dynamodb::Client::new(&crate::aws::load(config).await);
        Self { client, settings }
    }
}
