//! What can go wrong between us and DynamoDB, sorted by whether trying again helps.

use std::fmt::Display;

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use thiserror::Error;

use crate::metrics::Metric;

/// Why a storage operation gave no answer.
#[derive(Debug, Error)]
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
        Self::Corrupt(format!("{what}: {error}"))
    }

    /// The same after a try of a write that had no answer: that one may have been applied, so this is no end.
    pub(super) fn after(self, unanswered: bool) -> Self {
        if unanswered { Self::TryAgain(format!("{self}, after a try without answer")) } else { self }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::TryAgain(_))
    }
}

/// A failure that passes.
#[derive(Debug)]
pub(super) struct Transient {
    /// The request may have been applied although no answer came, or may still be.
    pub(super) maybe_applied: bool,
    /// What it is counted as; a failure that is no one's fault is not counted.
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
}

/// Sorts a failed call: a failure that passes, or an error for good.
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
        // No answer came, or only a part of one.
        _ => Ok(Transient::unanswered(DisplayErrorContext(error).to_string())),
    }
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
pub(super) enum Reason {
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
pub(super) fn reason(code: Option<&str>) -> Result<Reason, StoreError> {
    match code {
        None | Some("None") => Ok(Reason::None),
        Some("ConditionalCheckFailed") => Ok(Reason::ConditionFailed),
        Some("TransactionConflict") => Ok(Reason::Busy(Metric::Conflicts)),
        Some("ProvisionedThroughputExceeded" | "ThrottlingError") => Ok(Reason::Busy(Metric::Throttles)),
        Some(other) => Err(StoreError::Refused(format!("transaction cancelled: {other}"))),
    }
}
