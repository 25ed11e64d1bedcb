//! Reads why a transaction was cancelled: what becomes of each of its plans. Nothing else reads those reasons.

use std::collections::BTreeMap;

use super::error::StoreError;
use super::record::{IdempotencyItem, parse_reservation, parse_stock_unit};
use super::transaction::{Cancelled, Subject};
use crate::domain::{
    IdempotencyRecord, Move, Obstacle, Plan, RecordWrite, Reservation, Seen, StockUnit, UnitKey,
};

/// A plan and its place among those that were given.
pub(super) type Numbered = (usize, Plan);

/// What came of a plan.
#[derive(Debug)]
pub(super) enum PlanOutcome {
    /// It is written, by this try or by one before it that had no answer. The record as it is now, where the plan does not
    /// say it whole.
    Committed(Option<Box<Reservation>>),
    /// It is not written: this stood in its way.
    Prevented {
        /// What was not as the plan supposed.
        by: Seen,
        /// Whether an earlier try may still land although its guard failed now: one that names no version.
        may_land: bool,
    },
}

/// What is known of the earlier tries of a transaction.
///
/// One without an answer may have been applied, or may still be. It is over when a record of it has moved on: its guard
/// names the version before. A guard on stock says nothing of that kind, since stock comes back; so nothing is refused
/// on it meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct History {
    /// Whether there was one.
    pub(super) was_tried: bool,
    /// Whether one of them had no answer.
    pub(super) is_unanswered: bool,
}

/// What becomes of a plan after its transaction was cancelled.
pub(super) enum Verdict {
    /// It has its outcome.
    Has(PlanOutcome),
    /// It cannot be known, or must not be.
    Fails(StoreError),
    /// It is sent again, with the others of its kind.
    Again,
    /// It goes into a later transaction.
    PutOff,
}
/// Reads why a transaction was cancelled: what becomes of each of its plans.
pub(super) fn judge(
    batch: &[Numbered],
    subjects: &[Subject],
    reasons: &[Cancelled],
    history: History,
) -> Result<Vec<Verdict>, StoreError> {
    let failed: Vec<(&Subject, &Cancelled)> =
        subjects.iter().zip(reasons).filter(|(_, cancelled)| cancelled.has_failed()).collect();
    let mut own = Vec::new();
    let mut stock: BTreeMap<UnitKey, Option<StockUnit>> = BTreeMap::new();
    for (subject, cancelled) in failed {
        match subject {
            Subject::Record(i) => own.push((*i, judge_record(&batch[*i].1, cancelled, history)?)),
            Subject::Idempotency(i) => own.push((*i, judge_idempotency(&batch[*i].1, cancelled, history)?)),
            Subject::Stock(unit) => {
                let item = cancelled.item.clone().map(parse_stock_unit).transpose();
                stock.insert(unit.clone(), item.map_err(|e| e.after(history.is_unanswered))?);
            }
        }
    }
    if own.iter().any(|(_, verdict)| matches!(verdict, Verdict::Has(PlanOutcome::Committed(_)))) {
        // The answer was lost, the write was not: the whole transaction is written.
        return Ok(batch.iter().map(|_| Verdict::Has(PlanOutcome::Committed(None))).collect());
    }
    if !own.is_empty() {
        let mut verdicts: Vec<Verdict> = batch.iter().map(|_| Verdict::Again).collect();
        own.into_iter().for_each(|(i, verdict)| verdicts[i] = verdict);
        return Ok(verdicts);
    }
    if stock.is_empty() {
        return Err(StoreError::corrupt("a cancelled transaction", "no reason given"));
    }
    if history.is_unanswered {
        // An earlier try may still land, so a refusal might turn out untrue.
        return Err(StoreError::TryAgain("refused after a try without answer".to_owned()));
    }
    Ok(admit(batch, &stock))
}

fn judge_record(plan: &Plan, cancelled: &Cancelled, history: History) -> Result<Verdict, StoreError> {
    let there = cancelled.item.clone().map(parse_reservation).transpose();
    let there = there.map_err(|e| e.after(history.is_unanswered))?;
    if history.was_tried && there.as_ref().is_some_and(|there| plan.next() == Some(there)) {
        return Ok(Verdict::Has(PlanOutcome::Committed(None)));
    }
    let names_no_version = matches!(plan.record, Some(RecordWrite::Confirm(_)));
    let begins = plan.next().is_none_or(|next| next.version == 1);
    let mut by = Seen::default();
    match there {
        None if begins => by.learn_hidden_record(),
        there => by.learn_record(there),
    }
    let may_land = names_no_version && history.is_unanswered;
    Ok(Verdict::Has(PlanOutcome::Prevented { by, may_land }))
}

fn judge_idempotency(plan: &Plan, cancelled: &Cancelled, history: History) -> Result<Verdict, StoreError> {
    let corrupt = |e: String| StoreError::corrupt("an idempotency record", e).after(history.is_unanswered);
    let item = cancelled.item.clone().ok_or_else(|| corrupt("no item".to_owned()))?;
    let kept: IdempotencyItem = serde_dynamo::from_item(item).map_err(|e| corrupt(e.to_string()))?;
    let ours = plan.idempotency.as_ref().ok_or_else(|| corrupt("nobody asked for it".to_owned()))?;
    let there = IdempotencyRecord { fingerprint: kept.fingerprint(), answer: kept.answer, ..ours.clone() };
    if history.is_unanswered && there == *ours {
        return Ok(Verdict::Has(PlanOutcome::Committed(None)));
    }
    let mut by = Seen::default();
    by.learn_idempotency(there);
    Ok(Verdict::Has(PlanOutcome::Prevented { by, may_land: false }))
}

/// Admits plans in their order against the stock units that came back, taking off what each of them takes.
fn admit(batch: &[Numbered], stock: &BTreeMap<UnitKey, Option<StockUnit>>) -> Vec<Verdict> {
    let mut left = stock.clone();
    let mut verdicts: Vec<Verdict> =
        batch.iter().map(|(_, plan)| admit_one(plan, stock, &mut left)).collect();
    if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Again)) {
        // Each of them fits, and yet it was refused: what came back cannot be what was asked.
        for (verdict, (_, plan)) in verdicts.iter_mut().zip(batch) {
            if let Some(unit) = plan.moves.iter().find_map(|one| stock.get_key_value(&one.unit)) {
                *verdict = Verdict::Fails(broken(unit.0, unit.1.as_ref()));
            }
        }
    }
    verdicts
}

fn admit_one(
    plan: &Plan,
    stock: &BTreeMap<UnitKey, Option<StockUnit>>,
    left: &mut BTreeMap<UnitKey, Option<StockUnit>>,
) -> Verdict {
    let refused = || plan.moves.iter().filter(|one| stock.contains_key(&one.unit));
    let obstacle_of = |one: &Move| {
        let there = stock[&one.unit].as_ref();
        // What could begin to exist and yet was refused is there; the endpoint does not show it.
        one.obstacle(there).or_else(|| there.is_none().then_some(Obstacle::NotAsSupposed))
    };
    let obstacles: Vec<(&UnitKey, Obstacle)> =
        refused().filter_map(|one| Some((&one.unit, obstacle_of(one)?))).collect();
    if let Some((unit, _)) = obstacles.iter().find(|(_, obstacle)| *obstacle == Obstacle::Broken) {
        return Verdict::Fails(broken(unit, stock[*unit].as_ref()));
    }
    if !obstacles.is_empty() {
        let mut by = Seen::default();
        obstacles.iter().for_each(|(unit, _)| by.learn_refusal((*unit).clone(), stock[*unit].clone()));
        return Verdict::Has(PlanOutcome::Prevented { by, may_land: false });
    }
    if refused().any(|one| one.obstacle(left[&one.unit].as_ref()).is_some()) {
        return Verdict::PutOff;
    }
    for one in refused() {
        let after = one.applied_to(left[&one.unit].as_ref(), &plan.cause, plan.at);
        left.insert(one.unit.clone(), Some(after));
    }
    Verdict::Again
}

fn broken(unit: &UnitKey, there: Option<&StockUnit>) -> StoreError {
    tracing::error!(product = unit.product.as_str(), "a stock unit holds less than is promised");
    StoreError::corrupt("a stock unit holds less than is promised", format!("{unit:?} {there:?}"))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
