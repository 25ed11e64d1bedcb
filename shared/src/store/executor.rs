//! The one way to change stock: commits plans, each once, and says what came of each.
//!
//! It knows no business. It packs plans into transactions and sends them. Where one was cancelled, `verdict.rs` says
//! what becomes of each plan:
//!
//! - a record or an idempotency key was not as the plan supposed: that plan has its outcome, the others go on without it
//! - something is busy: a pause, and the same transaction again
//! - a guard on a stock unit failed: the plans are admitted in their order against the item that came back. What does not
//!   fit there by itself has its outcome; what does not fit beside the others goes round again
//!
//! A transaction without an answer is sent again unchanged. Until it has one, it may have been applied, and nothing that
//! it is part of is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::{Stream, StreamExt as _};

use super::error::{StoreError, Transient};
use super::retry::Attempts;
use super::transaction::{
    ActionTarget, Cancelled, MAX_ACTIONS, MAX_BYTES, Sent, Transaction, find_busy_action, most_bytes,
};
use super::verdict::{History, Numbered, PlanOutcome, Verdict, judge};
use super::{Invocation, Store};
use crate::domain::{Move, Plan, Reservation, UnitKey};
use crate::planted;

/// How many groups of plans are committed at once. Groups share no first stock unit, so they seldom meet.
const GROUPS_AT_ONCE: usize = 4;

/// What came of a plan, as far as it is known.
pub(super) type PlanResult = Result<PlanOutcome, StoreError>;

/// What came of some of the plans that were given.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Of each, with its place among all of them.
    pub(super) of_plans: Vec<(usize, PlanResult)>,
    /// How many transactions were written.
    pub(super) transactions: u64,
}

/// What came of plans that were sent together. The outcomes of the others have been reported.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// Those that did not fit beside the others.
    pub(super) put_off: Vec<Numbered>,
    /// Whether a transaction was written.
    pub(super) is_written: bool,
}

impl Store {
    /// Commits plans, many in one transaction where they share stock units. Each has one outcome; they come as they are
    /// known, group by group, so that what was done counts even where the caller's time runs out meanwhile.
    pub(super) fn commit(&self, plans: Vec<Plan>, invocation: &Invocation) -> impl Stream<Item = Outcomes> {
        let mut groups: BTreeMap<Option<UnitKey>, VecDeque<Numbered>> = BTreeMap::new();
        for (place, plan) in plans.into_iter().enumerate() {
            let first = plan.moves.first().map(|one| one.unit.clone());
            groups.entry(first).or_default().push_back((place, plan));
        }
        let groups = groups.into_values().map(|group| self.commit_group(group, invocation));
        futures::stream::iter(groups).buffer_unordered(GROUPS_AT_ONCE)
    }

    /// Commits one plan, as one of the tries of something larger.
    pub(super) async fn commit_one(
        &self,
        plan: Plan,
        attempts: &mut Attempts,
        invocation: &Invocation,
    ) -> PlanResult {
        let mut reported = None;
        let mut report = |_, outcome| reported = Some(outcome);
        self.commit_together(vec![(0, plan)], attempts, invocation, &mut report).await;
        reported.unwrap_or_else(|| Err(StoreError::corrupt("a plan", "no outcome")))
    }

    /// Commits the plans of one group, one transaction after the other. One that gets no answer ends it: the next would
    /// not fare better, and others wait for their turn.
    async fn commit_group(&self, mut waiting: VecDeque<Numbered>, invocation: &Invocation) -> Outcomes {
        let mut outcomes = Outcomes::default();
        while !waiting.is_empty() {
            let batch = waiting.drain(..count_fitting(waiting.iter().map(|(_, plan)| plan))).collect();
            let mut attempts = Attempts::new(self.settings.retry, invocation);
            let mut report = |place, outcome| outcomes.of_plans.push((place, outcome));
            let together = self.commit_together(batch, &mut attempts, invocation, &mut report).await;
            outcomes.transactions += u64::from(together.is_written);
            together.put_off.into_iter().rev().for_each(|plan| waiting.push_front(plan));
            let is_end = |(_, outcome): &(usize, PlanResult)| match outcome {
                Err(error) if !matches!(error, StoreError::Corrupt(_)) => Some(error.clone()),
                _ => None,
            };
            if let Some(error) = outcomes.of_plans.iter().find_map(is_end) {
                let rest = waiting.drain(..).map(|(place, _)| (place, Err(error.clone())));
                outcomes.of_plans.extend(rest);
            }
        }
        outcomes
    }

    /// Commits what fits one transaction. Each outcome is reported as soon as it is known, with the plan's place.
    pub(super) async fn commit_together(
        &self,
        mut batch: Vec<Numbered>,
        attempts: &mut Attempts,
        invocation: &Invocation,
        report: &mut impl FnMut(usize, PlanResult),
    ) -> Together {
        let (mut together, mut history) = (Together::default(), History::default());
        while !batch.is_empty() {
            let answer = self.send_until_answered(&batch, &mut history, attempts, invocation).await;
            let judged = answer.and_then(|answer| match answer {
                TransactionOutcome::Written(record) => {
                    together.is_written = true;
                    Ok(batch.iter().map(|_| Verdict::Has(PlanOutcome::Committed(record.clone()))).collect())
                }
                TransactionOutcome::Cancelled { targets, reasons } => {
                    judge(&batch, &targets, &reasons, history)
                }
            });
            let verdicts = match judged {
                Ok(verdicts) => verdicts,
                Err(error) => {
                    batch.into_iter().for_each(|(place, _)| report(place, Err(error.clone())));
                    return together;
                }
            };
            let mut again = Vec::new();
            for ((place, plan), verdict) in batch.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Has(outcome) => report(place, Ok(outcome.with_record_of(plan))),
                    Verdict::Fails(error) => report(place, Err(error)),
                    Verdict::Again => again.push((place, plan)),
                    Verdict::PutOff => together.put_off.push((place, plan)),
                }
            }
            batch = again;
            // What is left was a part of this transaction, which never will be written.
            history = History { was_tried: true, is_unanswered: false };
        }
        together
    }

    /// Sends a transaction of these plans until it is written, or was cancelled for a reason that trying again does not
    /// mend.
    async fn send_until_answered(
        &self,
        batch: &[Numbered],
        history: &mut History,
        attempts: &mut Attempts,
        invocation: &Invocation,
    ) -> Result<TransactionOutcome, StoreError> {
        let plans: Vec<&Plan> = batch.iter().map(|(_, plan)| plan).collect();
        let mut transaction = self.transaction_of(&plans)?;
        loop {
            let sent =
                self.send(&transaction).await.map_err(|e| e.into_retryable_if(history.is_unanswered))?;
            let failure = match sent {
                Sent::Written(record) => return Ok(TransactionOutcome::Written(record)),
                Sent::Cancelled(reasons) => match find_failure_to_retry(&transaction.targets, &reasons) {
                    Some(failure) => failure,
                    None => {
                        let Transaction { targets, .. } = transaction;
                        return Ok(TransactionOutcome::Cancelled { targets, reasons });
                    }
                },
                Sent::Failed(failure) => failure,
            };
            history.was_tried = true;
            history.is_unanswered |= failure.maybe_applied;
            if !history.is_unanswered {
                // Nobody says whether an answer that was a refusal is remembered under its token.
                transaction.renew_token();
            }
            if let Err(out_of_time) = attempts.pause(&failure).await {
                return match history.is_unanswered {
                    true => self.decide_by_reading(&plans, invocation, out_of_time).await,
                    false => Err(out_of_time),
                };
            }
        }
    }

    /// No more tries: what is there tells whether one of them was applied. If not, one may still be. A transaction is
    /// applied as a whole, so one of its records tells for all of them.
    async fn decide_by_reading(
        &self,
        plans: &[&Plan],
        invocation: &Invocation,
        out_of_time: StoreError,
    ) -> Result<TransactionOutcome, StoreError> {
        let Some(next) = plans.iter().find_map(|plan| plan.next_record()) else { return Err(out_of_time) };
        match self.reservation(next.id, invocation).await {
            Ok(Some(there)) if there == *next => Ok(TransactionOutcome::Written(None)),
            _ => Err(out_of_time),
        }
    }
}

/// What came of sending a transaction, over all its tries.
enum TransactionOutcome {
    Written(Option<Box<Reservation>>),
    Cancelled { targets: Vec<ActionTarget>, reasons: Vec<Cancelled> },
}

/// How many plans, from the first on, fit one transaction. The first one counts as fitting, whatever it is.
pub(super) fn count_fitting<'a>(plans: impl Iterator<Item = &'a Plan>) -> usize {
    let (mut count, mut actions, mut bytes) = (0, 0, 0);
    let (mut records, mut idempotency) = (BTreeSet::new(), BTreeSet::new());
    // By stock unit, whether its move lets others beside it.
    let mut units: BTreeMap<&UnitKey, bool> = BTreeMap::new();
    for plan in plans {
        let own = usize::from(plan.record.is_some()) + usize::from(plan.idempotency.is_some());
        let new = plan.moves.iter().filter(|one| !units.contains_key(&one.unit)).count();
        // A movement of stock administration names its key, and so it is one of its own.
        let may_share = |one: &Move| plan.record.is_some() && one.can_be_combined();
        let shares = |one: &Move| units.get(&one.unit).is_none_or(|others_may| *others_may && may_share(one));
        let key = plan.idempotency.as_ref().map(|kept| (kept.operation, kept.key.to_string()));
        let is_apart = planted("one-order-twice-in-a-transaction")
            || plan.record_id().is_none_or(|id| !records.contains(&id))
                && key.as_ref().is_none_or(|key| !idempotency.contains(key));
        actions += own + new;
        bytes += if planted("a-transaction-of-any-size") { 0 } else { most_bytes(plan) };
        let fits = actions <= MAX_ACTIONS && bytes <= MAX_BYTES && is_apart;
        if count > 0 && !(fits && plan.moves.iter().all(shares)) {
            break;
        }
        count += 1;
        records.extend(plan.record_id());
        idempotency.extend(key);
        units.extend(plan.moves.iter().map(|one| (&one.unit, may_share(one))));
    }
    count
}

/// Whether a cancelled transaction is to be sent again as it is. What a record says comes first: on a try after one of
/// ours, the stock may be short because of our own hold. A write under way on a record may have reached the stock
/// already; but a guard on stock that failed beside a stock unit that is busy did fail.
fn find_failure_to_retry(targets: &[ActionTarget], reasons: &[Cancelled]) -> Option<Transient> {
    let own = targets.iter().filter(|target| !matches!(target, ActionTarget::Stock(_))).count();
    let (own_reasons, stock_reasons) = reasons.split_at(own);
    if own_reasons.iter().any(Cancelled::has_failed) {
        return None;
    }
    let own_busy = find_busy_action(&targets[..own], own_reasons);
    if own_busy.is_some() || stock_reasons.iter().any(Cancelled::has_failed) {
        return own_busy;
    }
    find_busy_action(&targets[own..], stock_reasons)
}

#[cfg(test)]
#[path = "executor_tests.rs"]
pub(crate) mod tests;
