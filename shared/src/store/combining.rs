//! Combines plans that wait at the same time: many requests of one process share one transaction.
//!
//! DynamoDB lets one transaction at a time write a stock unit; the others are cancelled and try again. So a process does
//! not compete with itself: while its transaction on a stock unit is under way, further plans for that stock unit wait in
//! a lane, and go together in the next transaction. Nobody waits for a timer: a plan that finds its lane idle is sent at
//! once.
//!
//! A plan waits in the lane of its first stock unit only, so that orders of many products do not wait for each other in
//! turn. The transactions of a lane run in a task of their own. A caller whose time is up leaves without disturbing the
//! others; once it has left, a plan that still waits is not sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::error::StoreError;
use super::executor::{PlanResult, count_fitting};
use super::retry::Attempts;
use super::{Invocation, Store};
use crate::domain::{Plan, UnitKey};
use crate::planted;

/// The lanes of a process: one for each stock unit that a transaction is under way on.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes(Arc<Mutex<BTreeMap<UnitKey, VecDeque<Waiting>>>>);

/// A plan that waits, and its caller.
#[derive(Debug)]
struct Waiting {
    plan: Plan,
    invocation: Invocation,
    caller: oneshot::Sender<PlanResult>,
}

impl Waiting {
    /// Whether somebody still waits for the outcome.
    fn is_awaited(&self, now: Instant) -> bool {
        planted("who-has-left-is-sent-all-the-same")
            || !self.caller.is_closed() && self.invocation.deadline > now
    }
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UnitKey, VecDeque<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Commits a plan together with those that wait for the same stock unit, or by itself where there are none.
    ///
    /// # Errors
    /// As [`Store::commit_one`]; and [`StoreError::TryAgain`] if the caller's time is up first. The plan may be written
    /// all the same then.
    pub(super) async fn commit_combined(&self, plan: Plan, invocation: &Invocation) -> PlanResult {
        let Some(unit) = plan.moves.first().map(|first| first.unit.clone()) else {
            let mut attempts = Attempts::new(self.settings.retry, invocation);
            return self.commit_one(plan, &mut attempts, invocation).await;
        };
        let (caller, outcome) = oneshot::channel();
        let waiting = Waiting { plan, invocation: invocation.clone(), caller };
        if let Some(lane) = Lane::enter(&self.lanes, unit, waiting) {
            tokio::spawn(lane.run(self.clone()).in_current_span());
        }
        match timeout_at(invocation.deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_gone)) => {
                Err(StoreError::TryAgain("the transaction that it was part of has no outcome".into()))
            }
            Err(_elapsed) => Err(StoreError::TryAgain("time is up in a transaction with others".into())),
        }
    }
}

/// A lane at work. However it ends, those that still wait are told, and the next plan opens another.
struct Lane {
    lanes: Lanes,
    unit: UnitKey,
    is_closed: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if !self.is_closed {
            self.lanes.lock().remove(&self.unit);
        }
    }
}

impl Lane {
    /// Lets a plan wait. Answers with the lane where it was idle: somebody must run it then.
    fn enter(lanes: &Lanes, unit: UnitKey, waiting: Waiting) -> Option<Self> {
        let mut all = lanes.lock();
        if let Some(lane) = all.get_mut(&unit) {
            lane.push_back(waiting);
            return None;
        }
        all.insert(unit.clone(), VecDeque::from([waiting]));
        drop(all);
        Some(Self { lanes: lanes.clone(), unit, is_closed: false })
    }

    /// Sends what waits, one transaction after the other, until nothing does.
    async fn run(mut self, store: Store) {
        while let Some(batch) = self.next_batch() {
            let put_off = commit_batch(&store, batch).await;
            if planted("who-does-not-fit-is-forgotten") {
                continue;
            }
            let mut all = self.lanes.lock();
            let lane = all.entry(self.unit.clone()).or_default();
            put_off.into_iter().rev().for_each(|waiting| lane.push_front(waiting));
        }
    }

    /// The next plans for one transaction, in the order of their arrival. Without any the lane is closed.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut all = self.lanes.lock();
        let lane = all.get_mut(&self.unit)?;
        let now = Instant::now();
        lane.retain(|waiting| waiting.is_awaited(now));
        let count = count_fitting(lane.iter().map(|waiting| &waiting.plan));
        if count == 0 {
            if !planted("a-lane-is-never-closed") {
                all.remove(&self.unit);
            }
            self.is_closed = true;
            return None;
        }
        Some(lane.drain(..count).collect())
    }
}

/// Commits plans that were taken from a lane, and tells each caller. Nothing is sent after the last one's deadline.
/// Answers with the plans that did not fit beside the others.
async fn commit_batch(store: &Store, batch: Vec<Waiting>) -> Vec<Waiting> {
    let invocations = batch.iter().map(|waiting| &waiting.invocation);
    let last = match planted("the-first-to-leave-ends-it-for-all") {
        true => invocations.min_by_key(|one| one.deadline).cloned(),
        false => invocations.max_by_key(|one| one.deadline).cloned(),
    };
    let Some(last) = last else { return Vec::new() };
    let (mut plans, mut callers) = (Vec::new(), Vec::new());
    for (place, Waiting { plan, invocation, caller }) in batch.into_iter().enumerate() {
        plans.push((place, plan));
        callers.push(Some((invocation, caller)));
    }
    let mut attempts = Attempts::new(store.settings.retry, &last);
    let mut report = |place: usize, outcome| {
        let place = if planted("outcomes-are-mixed-up") { callers.len() - 1 - place } else { place };
        if let Some((_, caller)) = callers[place].take() {
            // One whose time is up does not listen any more.
            drop(caller.send(outcome));
        }
    };
    let committing = store.commit_together(plans, &mut attempts, &last, &mut report);
    let Ok(together) = timeout_at(last.deadline, committing).await else { return Vec::new() };
    let put_off = together.put_off.into_iter().filter_map(|(place, plan)| {
        let (invocation, caller) = callers[place].take()?;
        Some(Waiting { plan, invocation, caller })
    });
    put_off.collect()
}
