//! How long and how often is tried.

use std::time::Duration;

use tokio::time::Instant;

use super::Invocation;
use super::error::{StoreError, Transient};
use crate::metrics::Metrics;

/// Longest pause between two tries. DynamoDB recovers a transaction that hangs within about 5 s
/// (`TransactionInProgress`); with this cap a budget of 9 s tries well past that.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// How often and how fast is tried, from the settings.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Most tries of one write or read.
    pub max_attempts: u32,
    /// Bound of the first pause; it doubles with every try.
    pub backoff: Duration,
}

/// The tries of one operation.
pub(super) struct Attempts {
    policy: RetryPolicy,
    deadline: Instant,
    metrics: Metrics,
    made: u32,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy, invocation: &Invocation) -> Self {
        let Invocation { deadline, metrics, .. } = invocation;
        Self { policy, deadline: *deadline, metrics: metrics.clone(), made: 0 }
    }

    /// Pauses before the next try: a random time up to a bound that doubles ("full jitter").
    ///
    /// # Errors
    /// If all tries are made, or the time would be up.
    pub(super) async fn pause(&mut self, after: &Transient) -> Result<(), StoreError> {
        self.made += 1;
        if let Some(metric) = after.metric {
            self.metrics.add(metric, 1);
        }
        if self.made >= self.policy.max_attempts {
            return Err(StoreError::TryAgain(format!("{} tries, the last: {}", self.made, after.detail)));
        }
        let bound = self.policy.backoff.saturating_mul(1 << (self.made - 1).min(16)).min(LONGEST_PAUSE);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(fastrand::u64(0..=micros));
        if Instant::now() + pause >= self.deadline {
            return Err(StoreError::TryAgain(format!(
                "time is up after {} tries, the last: {}",
                self.made, after.detail
            )));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Sends a request until it is answered: `until_answered!(store, invocation, request)`, where the request is
/// built anew for each try. Only for what may be sent twice without harm.
macro_rules! until_answered {
    ($store:expr, $invocation:expr, $request:expr) => {{
        let mut attempts = $crate::store::retry::Attempts::new($store.settings.retry, $invocation);
        loop {
            match $request.send().await {
                Ok(output) => break output,
                Err(error) => attempts.pause(&$crate::store::error::classify(&error)?).await?,
            }
        }
    }};
}
pub(super) use until_answered;
