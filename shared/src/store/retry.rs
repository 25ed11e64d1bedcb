//! Retries: how often, how fast and how long an operation is tried.

use std::time::Duration;

use tokio::time::Instant;

use super::Invocation;
use super::error::{StoreError, Transient};
use crate::metrics::Metrics;
use crate::planted;

/// Longest pause between two tries. DynamoDB recovers a transaction that hangs within about 5 s
/// (`TransactionInProgress`); with this cap a budget of 9 s tries well past that.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// How long an operation is retried after its first conflict. With the pauses above that is about ten tries;
/// an item that refuses them all is written so often that more tries only make it worse, and whoever waits for it holds
/// an execution environment meanwhile that others need.
const CONFLICT_BUDGET: Duration = Duration::from_secs(3);

/// The number of tries and the pauses between them, from the settings.
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
    /// The time until which conflicts are retried; none before the first one.
    conflicts_until: Option<Instant>,
    /// Whether a try had no answer.
    unanswered: bool,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy, invocation: &Invocation) -> Self {
        let Invocation { deadline, metrics, .. } = invocation;
        let (deadline, metrics) = (*deadline, metrics.clone());
        Self { policy, deadline, metrics, made: 0, conflicts_until: None, unanswered: false }
    }

    /// Pauses before the next try: a random time up to a bound that doubles ("full jitter").
    ///
    /// # Errors
    /// If no tries are left, or the time would be up.
    pub(super) async fn pause(&mut self, after: &Transient) -> Result<(), StoreError> {
        self.made += 1;
        if let Some(metric) = after.metric {
            self.metrics.add(metric, 1);
        }
        if self.made >= self.policy.max_attempts || planted("gives-up-after-the-first-try") {
            return Err(StoreError::TryAgain(format!("{} tries, the last: {}", self.made, after.detail)));
        }
        let bound = self.policy.backoff.saturating_mul(1 << (self.made - 1).min(16)).min(LONGEST_PAUSE);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(fastrand::u64(0..=micros));
        if Instant::now() + pause >= self.retry_deadline(after) {
            return Err(StoreError::TryAgain(format!(
                "time is up after {} tries, the last: {}",
                self.made, after.detail
            )));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Pauses because somebody else is writing the same.
    ///
    /// # Errors
    /// As [`Attempts::pause`].
    pub(super) async fn pause_for(&mut self, why: &str) -> Result<(), StoreError> {
        self.pause(&Transient::not_applied(why)).await
    }

    /// The time after which this failure is not retried any more.
    fn retry_deadline(&mut self, after: &Transient) -> Instant {
        self.unanswered |= after.maybe_applied;
        // A conflict may be with a try of our own that had no answer; DynamoDB needs longer to end that one.
        if self.unanswered || !after.is_conflict() || planted("conflicts-take-all-the-time") {
            return self.deadline;
        }
        let until = *self.conflicts_until.get_or_insert_with(|| Instant::now() + CONFLICT_BUDGET);
        until.min(self.deadline)
    }
}

/// Sends a request until it is answered: `until_answered!(store, invocation, request)`, where the request is
/// built again for each try. Only for requests that may be sent twice without harm.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::metrics::Metric;

    /// How long an operation is tried when every try fails and takes this long.
    async fn patience(failures: impl Fn(u32) -> Transient, try_takes: Duration) -> Duration {
        let began = Instant::now();
        let invocation = Invocation {
            now: Timestamp::UNIX_EPOCH,
            deadline: began + Duration::from_secs(9),
            correlation_id: "c".to_owned(),
            metrics: Metrics::default(),
        };
        let policy = RetryPolicy { max_attempts: 1_000, backoff: Duration::from_millis(25) };
        let mut attempts = Attempts::new(policy, &invocation);
        for n in 0.. {
            tokio::time::sleep(try_takes).await;
            if attempts.pause(&failures(n)).await.is_err() {
                break;
            }
        }
        began.elapsed()
    }

    fn busy(metric: Metric) -> Transient {
        Transient::busy(metric, "an item")
    }

    fn unanswered() -> Transient {
        Transient { maybe_applied: true, metric: Some(Metric::Unanswered), detail: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn conflicts_have_a_budget_of_their_own() {
        let (try_takes, seconds) = (Duration::from_millis(20), Duration::from_secs);
        let conflicts = patience(|_| busy(Metric::Conflicts), try_takes).await;
        assert!((seconds(2)..seconds(3) + try_takes).contains(&conflicts), "{conflicts:?}");
        let throttles = patience(|_| busy(Metric::Throttles), try_takes).await;
        // The last try may begin just before the time is up.
        let whole_time = seconds(8)..seconds(9) + try_takes;
        assert!(whole_time.contains(&throttles), "{throttles:?}");
        let no_answers = patience(|_| unanswered(), try_takes).await;
        assert!(whole_time.contains(&no_answers), "{no_answers:?}");
        // It counts from the first conflict, whatever came before and comes between.
        let mixed =
            patience(|n| busy(if n % 3 == 2 { Metric::Conflicts } else { Metric::Throttles }), try_takes)
                .await;
        assert!((seconds(2)..seconds(6)).contains(&mixed), "{mixed:?}");
        // After a try without answer the other write may be that very try.
        let own = patience(|n| if n == 0 { unanswered() } else { busy(Metric::Conflicts) }, try_takes).await;
        assert!(whole_time.contains(&own), "{own:?}");
    }
}
