//! `expiry-sweep`: ends holds whose time is over, and gives their stock back. Two sweeps at once do no harm.
//!
//! It is called every minute and passes over all shards several times, because a schedule cannot fire more often and
//! stock should not wait that long. The event of the schedule says how often; if it does not, there is one pass.

use std::time::Duration;

use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::domain::{Timestamp, may_end_until};
use shared::function::{Deps, elapsed_ms, serve_events};
use shared::metrics::Metric;
use shared::store::keys::EXPIRY_SHARDS;
use shared::store::{DuePage, Invocation, StoreError, SweepCounts};
use shared::{Error, planted};
use tokio::time::{Instant, sleep_until, timeout_at};

/// A hold that ends within this time is counted as one that ends soon.
const SOON: Duration = Duration::from_secs(300);

/// How often passes may be asked for, in seconds: seldom enough that one is over before the next, and often enough that
/// there is one in every minute. `SweepEverySeconds` in template.yaml has the same bounds.
const EVERY_SECONDS: std::ops::RangeInclusive<u64> = 5..=60;

/// A pass is not begun with less time than this: it would be cut off before it had ended anything.
const SHORTEST_PASS: Duration = Duration::from_secs(1);

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    serve_events("expiry-sweep", Deps::init().await?, handle).await
}

/// The event of the schedule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SweepRequest {
    /// How long after the beginning of one pass the next one begins. Without it there is one.
    every_seconds: Option<u64>,
}

/// Sweeps as the event says, and reports: with `everySeconds` until the time of the invocation is up, else once.
///
/// # Errors
/// If `everySeconds` is out of bounds, or if the last pass could not read or write the table in time. Holds that were
/// ended until then stay ended.
pub async fn handle(deps: &Deps, event: &Value, invocation: &Invocation) -> Result<Value, Error> {
    let request =
        Option::<SweepRequest>::deserialize(event).map_err(|e| format!("the event cannot be read: {e}"))?;
    match request.and_then(|request| request.every_seconds) {
        None => sweep(deps, None, invocation).await,
        Some(seconds) if EVERY_SECONDS.contains(&seconds) => {
            sweep(deps, Some(Duration::from_secs(seconds)), invocation).await
        }
        Some(seconds) => {
            let (least, most) = EVERY_SECONDS.into_inner();
            Err(format!("everySeconds is {seconds}; it must be from {least} to {most}").into())
        }
    }
}

/// The result of one pass, or of several together.
#[derive(Debug, Default)]
struct Pass {
    /// Entries of the index that were due.
    due: u64,
    /// The outcome of trying to end them.
    counts: SweepCounts,
    /// How late the latest of them was, in milliseconds after the moment from which it could be ended.
    oldest_due_age_ms: i64,
    /// Whether all were looked at; otherwise the next pass goes on.
    complete: bool,
}

impl Pass {
    /// Together with those before it. What they could not end this one has found again, so it is counted once.
    fn add_earlier(self, before: &Self) -> Self {
        let SweepCounts { expired, changed, failed: _, transactions } = before.counts;
        let mut counts = self.counts;
        counts.add(SweepCounts { expired, changed, failed: 0, transactions });
        Self {
            due: expired + changed + self.due,
            counts,
            oldest_due_age_ms: self.oldest_due_age_ms.max(before.oldest_due_age_ms),
            complete: self.complete,
        }
    }
}

/// Passes once, or again and again until the deadline, and reports.
///
/// # Errors
/// If the last pass could not read or write the table in time.
pub async fn sweep(deps: &Deps, every: Option<Duration>, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let (mut done, mut passes, mut next_at) = (Pass::default(), 0_u64, began);
    let mut this = invocation.clone();
    let error = loop {
        let mut pass = Pass::default();
        let passed = timeout_at(this.deadline, sweep_pages(deps, &this, &mut pass)).await;
        // What there was no time for is no error: the next invocation takes it up.
        let failed = passed.ok().and_then(Result::err);
        (done, passes) = (pass.add_earlier(&done), passes + 1);
        next_at = match every.filter(|_| !planted("the-sweep-passes-once-a-minute")) {
            Some(every) => (next_at + every).max(Instant::now()),
            None => break failed,
        };
        if next_at + SHORTEST_PASS > this.deadline {
            break failed;
        }
        if let Some(error) = failed {
            tracing::warn!(operation = "expiry-sweep", passes, error = error.to_string(), "a pass failed");
        }
        sleep_until(next_at).await;
        this = renew_invocation(invocation, began);
    };
    if done.complete {
        // What was given back is given back, whether or not the rest can be counted.
        if let Ok(Err(error)) = timeout_at(this.deadline, count_open_holds(deps, &this)).await {
            tracing::warn!(
                operation = "expiry-sweep",
                error = error.to_string(),
                "open holds were not counted"
            );
        }
    }
    report(invocation, began, passes, &done, error)
}

/// The invocation as of now: each pass has a time of its own.
fn renew_invocation(invocation: &Invocation, began: Instant) -> Invocation {
    let now = invocation.now.checked_add(Duration::from_millis(elapsed_ms(began)));
    Invocation { now: now.unwrap_or(invocation.now), ..invocation.clone() }
}

/// One log line, one set of metrics and one answer for all passes.
fn report(
    invocation: &Invocation,
    began: Instant,
    passes: u64,
    done: &Pass,
    error: Option<StoreError>,
) -> Result<Value, Error> {
    let Pass {
        due,
        counts: SweepCounts { expired, changed, failed, transactions },
        oldest_due_age_ms,
        complete,
    } = *done;
    let metrics = &invocation.metrics;
    metrics.add(Metric::HoldsDue, due);
    metrics.add(Metric::HoldsExpired, expired);
    metrics.add(Metric::OldestDueHoldAge, u64::try_from(oldest_due_age_ms).unwrap_or(0));
    let error = error.map(|error| error.to_string());
    tracing::info!(
        operation = "expiry-sweep",
        outcome = if error.is_some() { "failed" } else { "ok" },
        passes,
        due,
        expired,
        changed,
        failed,
        transactions,
        oldest_due_age_ms,
        complete,
        duration_ms = elapsed_ms(began),
        correlation_id = invocation.correlation_id,
        error,
    );
    match error {
        Some(error) => Err(error.into()),
        None => Ok(json!({
            "passes": passes, "due": due, "expired": expired, "changed": changed, "failed": failed,
            "transactions": transactions, "oldestDueAgeMs": oldest_due_age_ms, "complete": complete,
        })),
    }
}

/// Goes through all shards page by page, so that none starves. A cursor moves on over entries that were
/// no longer due: an index that is behind cannot hold the sweep up.
async fn sweep_pages(deps: &Deps, invocation: &Invocation, pass: &mut Pass) -> Result<(), StoreError> {
    let mut first_error = None;
    let mut cursors: Vec<_> = (0..EXPIRY_SHARDS).map(|shard| (shard, None)).collect();
    while !cursors.is_empty() {
        let pages =
            cursors.iter().map(|(shard, cursor)| deps.store.due_holds(*shard, cursor.as_ref(), invocation));
        let pages: Vec<DuePage> = try_join_all(pages).await?;
        let ids: Vec<_> = pages.iter().flat_map(|page| page.ids.iter().copied()).collect();
        pass.due += u64::try_from(ids.len()).unwrap_or(u64::MAX);
        for oldest in pages.iter().filter_map(|page| page.oldest) {
            let age = may_end_until(invocation.now).as_millisecond() - oldest.as_millisecond();
            pass.oldest_due_age_ms = pass.oldest_due_age_ms.max(age);
        }
        if deps.settings.auto_release {
            // What cannot be ended now must not keep later pages from being looked at.
            let ended = deps.store.expire(&ids, invocation, &mut pass.counts).await;
            first_error = first_error.or(ended.err());
        }
        cursors = cursors
            .into_iter()
            .zip(pages)
            .filter_map(|((shard, _), page)| page.next.map(|next| (shard, Some(next))))
            .collect();
    }
    pass.complete = true;
    first_error.map_or(Ok(()), Err)
}

/// Counts the holds that are left, and those of them that end soon.
async fn count_open_holds(deps: &Deps, invocation: &Invocation) -> Result<(), StoreError> {
    let soon = invocation.now.checked_add(SOON).unwrap_or(invocation.now);
    let count = async |after, until| -> Result<u64, StoreError> {
        let shards =
            (0..EXPIRY_SHARDS).map(|shard| deps.store.count_open_holds(shard, after, until, invocation));
        Ok(try_join_all(shards).await?.iter().sum())
    };
    let expiring = count(invocation.now, soon).await?;
    let later = count(soon, Timestamp::MAX).await?;
    invocation.metrics.add(Metric::HoldsExpiring, expiring);
    invocation.metrics.add(Metric::HoldsOpen, expiring + later);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hold that no pass can end is one hold; those that were ended in between are added up.
    #[test]
    fn what_several_passes_find_again_is_counted_once() {
        let pass = |due, expired, failed, oldest_due_age_ms| Pass {
            due,
            counts: SweepCounts { expired, changed: 1, failed, transactions: 2 },
            oldest_due_age_ms,
            complete: true,
        };
        let first = pass(10, 7, 2, 9_000).add_earlier(&Pass::default());
        let both = pass(6, 3, 2, 500).add_earlier(&first);
        assert_eq!(both.counts, SweepCounts { expired: 10, changed: 2, failed: 2, transactions: 4 });
        assert_eq!((both.due, both.oldest_due_age_ms, both.complete), (8 + 6, 9_000, true));
        let cut_off = Pass { complete: false, ..pass(0, 0, 0, 0) }.add_earlier(&both);
        assert!(!cut_off.complete);
    }
}
