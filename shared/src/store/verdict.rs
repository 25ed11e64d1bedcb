//! What becomes of each plan of a transaction that was cancelled.

use std::collections::BTreeMap;

use super::error::StoreError;
use super::record::{IdempotencyItem, Item, parse_reservation, parse_stock_unit};
use super::transaction::{ActionTarget, Cancelled};
use crate::domain::{
    IdempotencyRecord, Move, Obstacle, Plan, RecordWrite, Reservation, Seen, StockUnit, UnitKey,
};
use crate::planted;

/// A plan and its place among those that were given.
pub(super) type Numbered = (usize, Plan);

/// What came of a plan.
#[derive(Debug)]
pub(super) enum PlanOutcome {
    /// It is written, by this try or by one before it. The record as it is now, where the plan has one.
    Committed(Option<Box<Reservation>>),
    /// It is not written: this stood in its way.
    Prevented {
        /// What was not as the plan supposed.
        by: Seen,
        /// Whether an earlier try may still land although its guard failed now: one that names no version.
        may_land: bool,
    },
}

impl PlanOutcome {
    /// The same with the record that the plan has written, where the answer did not show it.
    pub(super) fn with_record_of(self, plan: Plan) -> Self {
        match (self, plan.record) {
            (Self::Committed(None), Some(RecordWrite::Put(next))) => Self::Committed(Some(next)),
            (outcome, _) => outcome,
        }
    }
}

/// What is known of the tries before.
///
/// One without an answer may have been applied, or may still be. It is over when a record of it has moved on: its guard
/// names the version before. A guard on stock says nothing of that kind, since stock comes back; so nothing is refused
/// on it meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct History {
    /// Whether these plans were sent before.
    pub(super) was_tried: bool,
    /// Whether a try of this very transaction had no answer.
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
///
/// # Errors
/// If it is not known what became of any of them.
pub(super) fn judge(
    batch: &[Numbered],
    targets: &[ActionTarget],
    reasons: &[Cancelled],
    history: History,
) -> Result<Vec<Verdict>, StoreError> {
    let mut verdicts: Vec<Verdict> = batch.iter().map(|_| Verdict::Again).collect();
    let mut stock = BTreeMap::new();
    let mut is_own = false;
    for (target, cancelled) in targets.iter().zip(reasons).filter(|(_, cancelled)| cancelled.has_failed()) {
        let own = match target {
            ActionTarget::Record(i) => (*i, judge_record(&batch[*i].1, cancelled, history)),
            ActionTarget::Idempotency(i) => (*i, judge_idempotency(&batch[*i].1, cancelled, history)),
            ActionTarget::Stock(unit) => {
                stock.insert(unit.clone(), cancelled.item.clone());
                continue;
            }
        };
        is_own = true;
        verdicts[own.0] = own.1.unwrap_or_else(Verdict::Fails);
    }
    // What a record says comes first: on a try after one of ours, the stock may be short because of our own hold.
    if is_own {
        return Ok(verdicts);
    }
    if stock.is_empty() {
        return Err(StoreError::corrupt("a cancelled transaction", "no reason given"));
    }
    if history.is_unanswered {
        // An earlier try may still land, so a refusal might turn out untrue.
        return Err(StoreError::TryAgain("refused after a try without answer".to_owned()));
    }
    let parse = |item: Option<Item>| item.map(parse_stock_unit).transpose();
    Ok(admit(batch, &stock.into_iter().map(|(unit, item)| (unit, parse(item))).collect()))
}

fn judge_record(plan: &Plan, cancelled: &Cancelled, history: History) -> Result<Verdict, StoreError> {
    let there = cancelled.item.clone().map(parse_reservation).transpose();
    let there = there.map_err(|e| e.into_retryable_if(history.is_unanswered))?;
    // What is there is what this plan writes, down to its time and its correlation id: an earlier try wrote it. Where
    // the version before had been seen, the first of two copies of this very request may have. A guess at its first try
    // is another thing: a message may come twice in one batch.
    let is_ours =
        |next: &Reservation| there.as_ref() == Some(next) && (history.was_tried || next.version > 1);
    if plan.next_record().is_some_and(is_ours) {
        return Ok(Verdict::Has(PlanOutcome::Committed(None)));
    }
    let names_no_version = matches!(plan.record, Some(RecordWrite::Confirm(_)));
    // Without the item nobody knows whether what is there is what an earlier try wrote.
    let may_land = history.is_unanswered && (names_no_version || there.is_none());
    let mut by = Seen::default();
    match there {
        None => by.learn_hidden_record(),
        there => by.learn_record(there),
    }
    Ok(Verdict::Has(PlanOutcome::Prevented { by, may_land }))
}

fn judge_idempotency(plan: &Plan, cancelled: &Cancelled, history: History) -> Result<Verdict, StoreError> {
    let corrupt =
        |e: String| StoreError::corrupt("an idempotency record", e).into_retryable_if(history.is_unanswered);
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

/// The stock units whose guards failed, as they came back; none where there is none, or it was not shown.
type Returned = BTreeMap<UnitKey, Result<Option<StockUnit>, StoreError>>;

/// Admits plans in their order against the stock units that came back, taking off what each of them takes.
fn admit(batch: &[Numbered], returned: &Returned) -> Vec<Verdict> {
    let mut left: BTreeMap<UnitKey, Option<StockUnit>> = returned
        .iter()
        .filter_map(|(unit, there)| Some((unit.clone(), there.as_ref().ok()?.clone())))
        .collect();
    let mut verdicts: Vec<Verdict> =
        batch.iter().map(|(_, plan)| admit_one(plan, returned, &mut left)).collect();
    if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Again)) {
        // Each of them fits, and yet it was refused: what came back cannot be what was asked.
        for (verdict, (_, plan)) in verdicts.iter_mut().zip(batch) {
            if let Some(one) = plan.moves.iter().find(|one| returned.contains_key(&one.unit)) {
                *verdict =
                    Verdict::Fails(broken_unit(&one.unit, left.get(&one.unit).and_then(Option::as_ref)));
            }
        }
    }
    verdicts
}

fn admit_one(plan: &Plan, returned: &Returned, left: &mut BTreeMap<UnitKey, Option<StockUnit>>) -> Verdict {
    let refused: Vec<&Move> = plan.moves.iter().filter(|one| returned.contains_key(&one.unit)).collect();
    if let Some(error) = refused.iter().find_map(|one| returned[&one.unit].as_ref().err()) {
        return Verdict::Fails(error.clone());
    }
    if refused.iter().all(|one| obstacle_of(one, left[&one.unit].as_ref()).is_none()) {
        for one in refused {
            let after = one.unit_after(left[&one.unit].as_ref(), &plan.cause, plan.at);
            left.insert(one.unit.clone(), Some(after));
        }
        return Verdict::Again;
    }
    // It does not fit beside those before it. Does it by itself?
    let there = |one: &Move| match planted("who-comes-behind-is-called-short") {
        true => left[&one.unit].as_ref(),
        false => returned[&one.unit].as_ref().ok().and_then(Option::as_ref),
    };
    let obstacles: Vec<(&Move, Obstacle)> =
        refused.into_iter().filter_map(|one| Some((one, obstacle_of(one, there(one))?))).collect();
    if let Some((one, _)) = obstacles.iter().find(|(_, obstacle)| *obstacle == Obstacle::Broken) {
        return Verdict::Fails(broken_unit(&one.unit, there(one)));
    }
    if obstacles.is_empty() {
        return Verdict::PutOff;
    }
    let mut by = Seen::default();
    obstacles.iter().for_each(|(one, _)| by.learn_refusal(one.unit.clone(), there(one).cloned()));
    Verdict::Has(PlanOutcome::Prevented { by, may_land: false })
}

/// What keeps a move from being made that was refused. What could begin to exist and yet was refused is there; the
/// endpoint does not show it.
fn obstacle_of(one: &Move, there: Option<&StockUnit>) -> Option<Obstacle> {
    one.obstacle(there).or_else(|| there.is_none().then_some(Obstacle::NotAsSupposed))
}

fn broken_unit(unit: &UnitKey, there: Option<&StockUnit>) -> StoreError {
    StoreError::corrupt("a stock unit holds less than is promised", format!("{unit:?} {there:?}"))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
