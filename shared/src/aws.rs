//! The configuration of every AWS client: timeouts, retries, the HTTP client.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

pub use aws_config::ConfigLoader;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext};
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::planted;

/// Longest wait for a connection, TLS handshake included. With the processor share of 256 MB a first handshake has been
/// seen to take most of a second.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for an answer once there is a connection. The SDK itself sets no such limit: a server that hangs would
/// be waited for until the function is killed.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The header that says which trace a request belongs to.
const TRACE_HEADER: &str = "x-amzn-trace-id";

tokio::task_local! {
    /// The trace of the invocation that this task works on.
    static TRACE: String;
}

/// Work whose requests to AWS carry the trace of their invocation. Where a process works on many invocations at once,
/// its environment cannot name the trace, as Lambda does otherwise.
pub(crate) fn traced<T>(
    trace: Option<String>,
    work: impl Future<Output = T> + Send + 'static,
) -> Pin<Box<dyn Future<Output = T> + Send>> {
    match trace {
        Some(trace) => Box::pin(TRACE.scope(trace, work)),
        None => Box::pin(work),
    }
}

/// The configuration with credentials, region and endpoint of the environment.
#[must_use]
pub fn config() -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        // The two limits above are kept by the HTTP client; this one also ends an answer that stops half-way.
        .operation_attempt_timeout(CONNECT_TIMEOUT + ANSWER_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(TlsContext::default()))
        .timeout_config(timeouts)
        // One loop retries: ours. The SDK's would give up too early on one kind of failure
        // (TransactionInProgress) and not try again on another (TransactionConflict).
        .retry_config(RetryConfig::disabled())
}

/// Loads the configuration that a client is built from.
pub async fn load(config: ConfigLoader) -> SdkConfig {
    let config = config.load().await;
    #[cfg(feature = "planted")]
    let config = crate::planted::wire::disturb_client(config);
    config
}

/// The configuration for another endpoint, as `caller`: for tests, and for tools on one machine.
#[must_use]
pub fn config_for(endpoint: &str, caller: &str) -> ConfigLoader {
    config()
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new(caller, "local", None, None, "local"))
}

/// The HTTP client of every AWS client. `context` says whose certificates it trusts.
#[must_use]
pub fn http_client(context: TlsContext) -> SharedHttpClient {
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https();
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(TimeLimitedConnector(client.http_connector(settings, components)))
    })
}

/// A request that was never given a connection, so that nothing of it can have been sent.
#[derive(Debug, Error)]
#[error("no connection could be made")]
pub struct NeverConnected(#[source] ConnectorError);

/// A wait that exceeded its limit.
#[derive(Debug, Clone, Copy, Error)]
#[error("{0} took longer than {1:?}")]
struct TimedOut(&'static str, Duration);

/// Limits the wait for a connection and the wait for an answer separately, because they mean different things: a
/// request without an answer may have been applied, a request without a connection cannot.
#[derive(Debug)]
struct TimeLimitedConnector(SharedHttpConnector);

impl HttpConnector for TimeLimitedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        // No part of the signature. A header that cannot be sent is left out: a trace is not worth a request.
        TRACE.try_with(|trace| request.headers_mut().try_insert(TRACE_HEADER, trace.clone()).ok()).ok();
        // The SDK puts this into every request, and the HTTP client tells it which connection the request gets before
        // it sends anything. Where it is not there, a connection is taken for granted.
        let capture = request.extension::<CaptureSmithyConnection>().cloned();
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let has_connection = || capture.as_ref().is_none_or(|capture| capture.get().is_some());
            match with_timeouts(answer, has_connection).await {
                Err(error) if !has_connection() || planted("what-was-sent-was-not-applied") => {
                    Err(ConnectorError::io(NeverConnected(error).into()))
                }
                outcome => outcome,
            }
        })
    }
}

/// Waits for an answer: until [`CONNECT_TIMEOUT`] for the connection, and from then until [`ANSWER_TIMEOUT`].
async fn with_timeouts(
    answer: impl Future<Output = Result<HttpResponse, ConnectorError>>,
    has_connection: impl Fn() -> bool,
) -> Result<HttpResponse, ConnectorError> {
    let (mut answer, mut limit) = (pin!(answer), pin!(sleep(CONNECT_TIMEOUT)));
    let (mut is_connected, mut waits_for) = (false, TimedOut("the connection", CONNECT_TIMEOUT));
    poll_fn(|context| {
        if let Poll::Ready(outcome) = answer.as_mut().poll(context) {
            return Poll::Ready(outcome);
        }
        if !is_connected && has_connection() {
            is_connected = true;
            waits_for = TimedOut("the answer", ANSWER_TIMEOUT);
            let for_ever = planted("waits-for-what-hangs");
            let patience = if for_ever { Duration::from_secs(60) } else { ANSWER_TIMEOUT };
            limit.as_mut().reset(Instant::now() + patience);
        }
        limit.as_mut().poll(context).map(|()| Err(ConnectorError::timeout(waits_for.into())))
    })
    .await
}
