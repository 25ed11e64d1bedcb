//! How AWS is called, the same for every client.

use std::time::Duration;

pub use aws_config::ConfigLoader;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::Credentials;
use aws_smithy_http_client::tls;

/// Longest wait for one request. The SDK itself sets no read time-out: a server that hangs would be
/// waited for until the function is killed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// The configuration with credentials, region and endpoint of the environment.
#[must_use]
pub fn config() -> ConfigLoader {
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

/// The configuration for another endpoint, as `caller`: for tests, and for tools on one machine.
#[must_use]
pub fn config_for(endpoint: &str, caller: &str) -> ConfigLoader {
    config()
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new(caller, "local", None, None, "local"))
}
