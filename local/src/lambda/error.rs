//! Why an invocation has no answer.

use std::time::Duration;

use thiserror::Error;

/// Why an invocation has no answer.
#[derive(Debug, Error)]
pub enum InvokeError {
    /// There is no such function.
    #[error("there is no function {0}")]
    Unknown(String),
    /// Its process could not be started.
    #[error("function {0} could not be started: {1}")]
    NotStarted(String, String),
    /// Its process ended.
    #[error("the process of function {0} ended ({1})")]
    Ended(String, String),
    /// It took too long and was given up.
    #[error("function {0} took longer than {1:?} and was given up")]
    TimedOut(String, Duration),
    /// It answered with an error.
    #[error("function {0} answered with an error: {1}")]
    Failed(String, String),
}
