//! Storage: the only module that names the DynamoDB SDK.
//!
//! - `executor.rs` commits plans, and is the only way to change stock. `transaction.rs` builds its requests,
//!   `expression.rs` the update of a stock unit in them
//! - `combining.rs` lets plans that wait at the same time go together
//! - `apply.rs` drives one command, of an order ([`Store::apply`]) or of the stock administration
//!   ([`Store::change_stock`]); `sweep.rs` ends due holds ([`Store::expire`])
//! - `read.rs` has the reads that decisions rest on, `catalog.rs` and `low.rs` those that are only shown
//! - `stream.rs` parses stream records; `ledger.rs` and `alerts.rs` store what the publisher derives from them;
//!   `scan.rs` is for the reconciliation alone
//! - `keys.rs` names items, `record.rs` maps them, `error.rs` and `retry.rs` decide what is retried
//!
//! There is no trait and no in-memory twin: the rule that matters, `available >= quantity`, lives in
//! a condition expression, so a fake would test another program.

mod alerts;
mod apply;
mod catalog;
mod combining;
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
pub use read::MAX_BATCH_READ;
pub use retry::RetryPolicy;
pub use scan::{ReservationPage, ScanCursor, UnitPage};
pub use stream::{StreamChange, parse_change, parse_shared_write};
pub use sweep::{DuePage, SweepCounts};

use crate::domain::{Action, Command, Target, Timestamp};
use crate::metrics::Metrics;

/// The settings of the store: the tables and how they are used.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Name of the table with stock units, reservations and idempotency records.
    pub inventory_table: String,
    /// Name of the table with the ledger.
    pub ledger_table: String,
    /// How long a record is kept after its hold has ended.
    pub retention: Duration,
    /// The number of tries and the pauses between them.
    pub retry: RetryPolicy,
    /// Whether commands that a process has at the same time share transactions. Only of use where it has several.
    pub combines: bool,
}

/// The context of an operation: the invocation that it is a part of.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// When it began.
    pub now: Timestamp,
    /// When it must have answered.
    pub deadline: Instant,
    /// The correlation id of the request or event; kept with every write.
    pub correlation_id: String,
    /// Its metrics.
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
    lanes: combining::Lanes,
}

impl Store {
    /// Connects as `config` says (see [`crate::aws`]).
    pub async fn connect(config: ConfigLoader, settings: StoreSettings) -> Self {
        let client = aws_sdk_dynamodb::Client::new(&crate::aws::load(config).await);
        Self { client, settings, lanes: combining::Lanes::default() }
    }
}
