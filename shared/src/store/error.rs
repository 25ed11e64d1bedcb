//! Errors of DynamoDB, sorted by whether a retry helps.

use std::error::Error as _;
use std::fmt::Display;

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::aws::NeverConnected;
use crate::domain::excerpt_of_sentence;
use crate::metrics::Metric;
use crate::planted;

/// Why a storage operation gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It is not known whether it was done, or it could not be done in time. Trying again is safe.
    #[error("not done in time: {0}")]
    TryAgain(String),
    /// An item is not what this program writes.
    #[error("unreadable item: {0}")]
    Corrupt(String),
    /// DynamoDB refuses the call for good: a missing right, a missing table, a malformed request.
    #[error("refused by DynamoDB: {0}")]
    Refused(String),
}

impl StoreError {
    pub(super) fn corrupt(what: &str, error: impl Display) -> Self {
        Self::Corrupt(excerpt_of_sentence(&format!("{what}: {error}")))
    }

    /// The same error after a try without an answer: that try may have been applied, so the error is not final.
    pub(super) fn into_retryable_if(self, unanswered: bool) -> Self {
        if unanswered { Self::TryAgain(format!("{self}, after a try without answer")) } else { self }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::TryAgain(_))
    }
}

/// A transient failure.
#[derive(Debug)]
pub(super) struct Transient {
    /// The request may have been applied although no answer came, or may still be.
    pub(super) maybe_applied: bool,
    /// The metric that counts it; a failure that is no one's fault is not counted.
    pub(super) metric: Option<Metric>,
    /// For the log.
    pub(super) detail: String,
}

impl Transient {
    /// A request that was not applied, and never will be.
    pub(super) fn not_applied(detail: impl Into<String>) -> Self {
        Self { maybe_applied: false, metric: None, detail: detail.into() }
    }

    /// A transaction that met another write on this, or found its partition busy.
    pub(super) fn busy(metric: Metric, what: &str) -> Self {
        let detail = format!("another write on {what} was under way, or its partition was busy");
        Self { maybe_applied: false, metric: Some(metric), detail }
    }

    fn unanswered(detail: String) -> Self {
        Self { maybe_applied: true, metric: Some(Metric::Unanswered), detail }
    }

    /// Whether another write was under way on the same item.
    pub(super) fn is_conflict(&self) -> bool {
        self.metric == Some(Metric::Conflicts)
    }
}

/// Sorts a failed call into a transient failure or a permanent error.
pub(super) fn classify<E>(error: &SdkError<E>) -> Result<Transient, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => Err(StoreError::Refused(DisplayErrorContext(error).to_string())),
        SdkError::ServiceError(service) => {
            let (status, error) = (service.raw().status().as_u16(), service.err());
            let code = error.code();
            let detail =
                format!("{} ({status}): {}", code.unwrap_or("no code"), error.message().unwrap_or_default());
            classify_code(code, status, detail)
        }
        // Nothing was sent. It is counted as what it looks like to an operator: DynamoDB does not answer.
        _ if was_never_connected(error) && !planted("what-was-never-sent-may-land") => {
            let detail = DisplayErrorContext(error).to_string();
            Ok(Transient { metric: Some(Metric::Unanswered), ..Transient::not_applied(detail) })
        }
        // No answer came, or only a part of one.
        _ => Ok(Transient::unanswered(DisplayErrorContext(error).to_string())),
    }
}

/// Whether a request failed before there was a connection that it could have been sent on.
fn was_never_connected<E>(error: &SdkError<E>) -> bool
where
    E: std::error::Error + 'static,
{
    let mut chain = std::iter::successors(error.source(), |&error| error.source());
    matches!(error, SdkError::DispatchFailure(_)) && chain.any(|error| error.is::<NeverConnected>())
}

fn classify_code(code: Option<&str>, status: u16, detail: String) -> Result<Transient, StoreError> {
    match code {
        Some(
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "LimitExceededException",
        ) => Ok(Transient { metric: Some(Metric::Throttles), ..Transient::not_applied(detail) }),
        Some("TransactionConflictException") => {
            Ok(Transient { metric: Some(Metric::Conflicts), ..Transient::not_applied(detail) })
        }
        Some("TransactionInProgressException") => Ok(Transient::unanswered(detail)),
        _ if status >= 500 => Ok(Transient::unanswered(detail)),
        _ => Err(StoreError::Refused(detail)),
    }
}

/// Why DynamoDB cancelled a transaction because of one of its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CancellationCode {
    /// Nothing was wrong with this item.
    None,
    /// Its condition did not hold.
    ConditionFailed,
    /// Another write was under way, or the item's partition is busy. Passes, and is counted as this.
    Busy(Metric),
}

/// Reads the code of a cancellation reason.
///
/// # Errors
/// If it says that the request itself is wrong.
pub(super) fn parse_cancellation_code(code: Option<&str>) -> Result<CancellationCode, StoreError> {
    match code {
        None | Some("None") => Ok(CancellationCode::None),
        Some("ConditionalCheckFailed") => Ok(CancellationCode::ConditionFailed),
        Some("TransactionConflict") => Ok(CancellationCode::Busy(Metric::Conflicts)),
        Some("ProvisionedThroughputExceeded" | "ThrottlingError") => {
            Ok(CancellationCode::Busy(Metric::Throttles))
        }
        Some(other) => Err(StoreError::Refused(format!("transaction cancelled: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use aws_sdk_dynamodb::Client;
    use tokio::time::Instant;

    use super::*;
    use crate::aws::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, config_for, load};

    /// The failure of a write at an endpoint, and how long it took.
    async fn write_at(endpoint: &str) -> (Transient, std::time::Duration) {
        let client = Client::new(&load(config_for(endpoint, "c")).await);
        let began = Instant::now();
        let failed = client.delete_item().table_name("t").set_key(Some([].into())).send().await.unwrap_err();
        (classify(&failed).unwrap(), began.elapsed())
    }

    /// A port that nothing listens on, one that accepts and says nothing to a handshake, and one that takes the request
    /// and says nothing to it: only the last may have applied it.
    #[tokio::test]
    async fn a_request_without_a_connection_was_not_applied() {
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let (refused, after) = write_at(&format!("http://{closed}")).await;
        assert!(!refused.maybe_applied && after < ANSWER_TIMEOUT, "{refused:?} {after:?}");
        let (no_handshake, after) = write_at(&format!("https://{}", silent.1)).await;
        assert!(!no_handshake.maybe_applied, "{no_handshake:?}");
        assert!((CONNECT_TIMEOUT..CONNECT_TIMEOUT + ANSWER_TIMEOUT).contains(&after), "{after:?}");
        let (no_answer, after) = write_at(&format!("http://{}", silent.1)).await;
        assert!(no_answer.maybe_applied, "{no_answer:?}");
        assert!((ANSWER_TIMEOUT..CONNECT_TIMEOUT).contains(&after), "{after:?}");
        for failure in [refused, no_handshake, no_answer] {
            assert_eq!(failure.metric, Some(Metric::Unanswered), "{failure:?}");
        }
    }
}
