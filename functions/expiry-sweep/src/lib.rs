//! `expiry-sweep`: gives back what is held past its time. Runs every minute; two at once do no harm.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};
use shared::Error;
use shared::domain::Timestamp;
use shared::function::{Deps, elapsed_ms, serve_events};
use shared::metrics::Metric;
use shared::store::keys::EXPIRY_SHARDS;
use shared::store::{DuePage, Expired, Invocation, StoreError};
use tokio::time::Instant;

/// A hold that ends within this time is counted as one that ends soon.
const SOON: Duration = Duration::from_secs(300);

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    let deps = Deps::init().await?;
    serve_events("expiry-sweep", &deps, |_event, invocation| {
        let deps = Arc::clone(&deps);
        async move { handle(&deps, &invocation).await }
    })
    .await
}

/// What a sweep has done.
#[derive(Debug, Default)]
struct Sweep {
    /// Entries of the index that were due.
    due: u64,
    /// What became of them.
    outcome: Expired,
    /// How long the oldest of them had been due, in milliseconds.
    oldest_due_age_ms: i64,
    /// Whether all were looked at; otherwise the next sweep goes on.
    complete: bool,
}

/// Sweeps until nothing is due or time is up, and reports.
///
/// # Errors
/// If the table cannot be read or written in time. What was done until then is done.
pub async fn handle(deps: &Deps, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let mut sweep = Sweep::default();
    let swept = tokio::time::timeout_at(invocation.deadline, run_through(deps, invocation, &mut sweep)).await;
    let Sweep {
        due,
        outcome: Expired { expired, changed, failed, transactions },
        oldest_due_age_ms,
        complete,
    } = sweep;
    let metrics = &invocation.metrics;
    metrics.add(Metric::HoldsDue, due);
    metrics.add(Metric::HoldsExpired, expired);
    metrics.add(Metric::OldestDueHoldAge, u64::try_from(oldest_due_age_ms).unwrap_or(0));
    let error = match swept {
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(())) | Err(_) => None,
    };
    tracing::info!(
        operation = "expiry-sweep",
        outcome = if error.is_some() { "failed" } else { "ok" },
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
            "due": due, "expired": expired, "changed": changed, "failed": failed, "transactions": transactions,
            "oldestDueAgeMs": oldest_due_age_ms, "complete": complete,
        })),
    }
}

/// Goes through all shards page by page, so that none starves. A cursor moves on over entries that were
/// no longer due: an index that is behind cannot hold the sweep up.
async fn run_through(deps: &Deps, invocation: &Invocation, sweep: &mut Sweep) -> Result<(), StoreError> {
    let mut first_error = None;
    let mut cursors: Vec<_> = (0..EXPIRY_SHARDS).map(|shard| (shard, None)).collect();
    while !cursors.is_empty() {
        let pages = cursors.iter().map(|(shard, cursor)| deps.store.due(*shard, cursor.as_ref(), invocation));
        let pages: Vec<DuePage> = try_join_all(pages).await?;
        let ids: Vec<_> = pages.iter().flat_map(|page| page.ids.iter().copied()).collect();
        sweep.due += u64::try_from(ids.len()).unwrap_or(u64::MAX);
        for oldest in pages.iter().filter_map(|page| page.oldest) {
            let age = invocation.now.as_millisecond() - oldest.as_millisecond();
            sweep.oldest_due_age_ms = sweep.oldest_due_age_ms.max(age);
        }
        if deps.settings.auto_release {
            // What cannot be ended now must not keep later pages from being looked at.
            let ended = deps.store.expire(&ids, invocation, &mut sweep.outcome).await;
            first_error = first_error.or(ended.err());
        }
        cursors = cursors
            .into_iter()
            .zip(pages)
            .filter_map(|((shard, _), page)| page.next.map(|next| (shard, Some(next))))
            .collect();
    }
    sweep.complete = true;
    // What was given back is given back, whether or not the rest can be counted.
    if let Err(error) = count_open(deps, invocation).await {
        tracing::warn!(operation = "expiry-sweep", error = error.to_string(), "open holds were not counted");
    }
    first_error.map_or(Ok(()), Err)
}

/// Counts the holds that are left, and those of them that end soon.
async fn count_open(deps: &Deps, invocation: &Invocation) -> Result<(), StoreError> {
    let soon = invocation.now.checked_add(SOON).unwrap_or(invocation.now);
    let count = async |after, until| -> Result<u64, StoreError> {
        let shards = (0..EXPIRY_SHARDS).map(|shard| deps.store.open_holds(shard, after, until, invocation));
        Ok(try_join_all(shards).await?.iter().sum())
    };
    let expiring = count(invocation.now, soon).await?;
    let later = count(soon, Timestamp::MAX).await?;
    invocation.metrics.add(Metric::HoldsExpiring, expiring);
    invocation.metrics.add(Metric::HoldsOpen, expiring + later);
    Ok(())
}
