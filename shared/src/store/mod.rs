//! Storage: the only module that names the DynamoDB SDK.
//!
//! - [`apply`](Store::apply) is the loop that every change of a reservation goes through; one
//!   attempt of it is `commit.rs`
//! - `stock.rs` holds the stock administration, `read.rs` everything that only reads
//! - `keys.rs` names items, `record.rs` maps them, `error.rs` and `retry.rs` say what is tried again
//!
//! There is no trait and no in-memory twin: the rule that matters, `available >= quantity`, lives in
//! a condition expression, so a fake would test another program.

mod apply;
mod commit;
mod error;
pub mod keys;
mod read;
mod record;
mod retry;
mod stock;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_dynamodb::config::Credentials;
use aws_smithy_http_client::tls;
use tokio::time::Instant;

pub use apply::Outcome;
pub use error::StoreError;
pub use read::{MAX_CHECK, MAX_PAGE, Page};
pub use retry::RetryPolicy;
pub use stock::{StockChange, StockOutcome, StockRefusal, StockWrite};

use crate::domain::Timestamp;

/// Longest wait for one request. The SDK itself sets no read time-out: a server that hangs would be
/// waited for until the function is killed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// Where the tables are and how they are used, from the settings.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Name of the table with stock units, reservations and idempotency records.
    pub inventory_table: String,
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
}

/// The tables.
#[derive(Debug, Clone)]
pub struct Store {
    client: aws_sdk_dynamodb::Client,
    settings: StoreSettings,
}

impl Store {
    /// Connects with the credentials, region and endpoint of the environment.
    pub async fn connect(settings: StoreSettings) -> Self {
        Self::over(settings, loader()).await
    }

    /// Connects to an endpoint as `caller`: for tests, and for tools on one machine.
    pub async fn connect_to(endpoint: &str, caller: &str, settings: StoreSettings) -> Self {
        let loader = loader()
            .endpoint_url(endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new(caller, "local", None, None, "local"));
        Self::over(settings, loader).await
    }

    async fn over(settings: StoreSettings, loader: ConfigLoader) -> Self {
        let client = aws_sdk_dynamodb::Client::new(&loader.load().await);
        Self { client, settings }
    }
}

fn loader() -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        // One loop retries: ours. The SDK's would give up too early on one kind of failure
        // (TransactionInProgress) and not try again on another (TransactionConflict).
        .retry_config(RetryConfig::disabled())
}
