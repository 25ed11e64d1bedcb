//! Plans: what one decision writes, under which guards, and what that would do to given stock.

use std::collections::BTreeMap;

use super::Timestamp;
use super::lines::{Fingerprint, MAX_LINES};
use super::names::{IdempotencyKey, ReservationId};
use super::quantity::Edit;
use super::reservation::Reservation;
use super::stock::{Cause, Counter, Delta, Lack, MAX_STOCK, StockUnit, UnitKey};
use crate::planted;

/// Half of [`MAX_STOCK`]. A condition cannot add what is available to what is reserved; but where neither is above
/// this, together they are not above [`MAX_STOCK`].
pub const HALF_OF_MAX_STOCK: u64 = MAX_STOCK / 2;

/// Most moves of one plan. It is committed in one transaction, which has at most 100 actions; one of them is the record.
/// Source: Amazon DynamoDB API Reference, TransactWriteItems.
pub const MAX_MOVES: usize = 99;

const _: () = assert!(MAX_LINES <= MAX_MOVES, "an order is held by one plan");

/// What one decision writes: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The reservation's record.
    pub record: Option<RecordWrite>,
    /// What is kept under the idempotency key of the request. Its guard: nothing is kept there yet.
    pub idempotency: Option<IdempotencyRecord>,
    /// What moves: at most one move for each stock unit.
    pub moves: Vec<Move>,
    /// What it is done for. The ledger keeps it with each movement.
    pub cause: Cause,
    /// When it was decided.
    pub at: Timestamp,
}

impl Plan {
    /// The record as it will be, where the plan says it whole.
    #[must_use]
    pub fn next_record(&self) -> Option<&Reservation> {
        match &self.record {
            Some(RecordWrite::Put(next)) => Some(next),
            Some(RecordWrite::Confirm(_)) | None => None,
        }
    }

    /// What keeps it from being written, given this stock: each move that cannot be made, and why.
    #[must_use]
    pub fn obstacles(&self, stock: &BTreeMap<UnitKey, StockUnit>) -> Vec<(&Move, Obstacle)> {
        self.moves.iter().filter_map(|one| Some((one, one.obstacle(stock.get(&one.unit))?))).collect()
    }

    /// Makes of this stock what the plan makes of it, where there are no obstacles.
    pub fn apply_to(&self, stock: &mut BTreeMap<UnitKey, StockUnit>) {
        for one in &self.moves {
            let after = one.unit_after(stock.get(&one.unit), &self.cause, self.at);
            stock.insert(one.unit.clone(), after);
        }
    }

    /// Whose record is written.
    #[must_use]
    pub fn record_id(&self) -> Option<ReservationId> {
        self.record.as_ref().map(|record| match record {
            RecordWrite::Put(next) => next.id,
            RecordWrite::Confirm(id) => *id,
        })
    }
}

/// How the record of a reservation is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordWrite {
    /// It becomes this. Its guard: the version is the one before (`version - 1`; 0: there is no record).
    Put(Box<Reservation>),
    /// A temporary hold that was not read is confirmed. Its guard is
    /// [`may_confirm_unread`](super::decide::may_confirm_unread).
    Confirm(ReservationId),
}

/// What a request was and what it was answered, kept under its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The operation; each has keys of its own.
    pub operation: &'static str,
    /// The key that the caller sent.
    pub key: IdempotencyKey,
    /// Tells this request from another under the same key.
    pub fingerprint: Fingerprint,
    /// The answer, for the first time and every repetition.
    pub answer: String,
}

/// The change of one stock unit, and when it may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The stock unit.
    pub unit: UnitKey,
    /// What becomes of it.
    pub effect: Effect,
    /// What must be so. All of them hold, or nothing of the plan is written.
    pub guards: Vec<Guard>,
}

/// What becomes of a stock unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Its counters change by this.
    Shift(Delta),
    /// So many available units more. The stock unit begins to exist if there is none.
    Add(u64),
    /// It begins to exist.
    Create {
        /// Its first stock.
        available: u64,
        /// What people call the product.
        name: Option<String>,
        /// At or below this many available units the stock counts as low.
        low_stock_threshold: Option<u64>,
        /// Most units of the product that one order may hold.
        max_per_order: Option<u64>,
    },
    /// So much lies there: what is not reserved of it is available.
    SetOnHand {
        /// Available and reserved together.
        units: u64,
        /// Whether that is another figure than the one that was seen.
        is_change: bool,
    },
    /// What is said of the product changes. No unit moves.
    Describe {
        /// What people call the product.
        name: Edit<String>,
        /// At or below this many available units the stock counts as low.
        low_stock_threshold: Edit<u64>,
        /// Most units of the product that one order may hold.
        max_per_order: Edit<u64>,
    },
}

/// A condition on a stock unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// At least so many units are in this counter.
    AtLeast(Counter, u64),
    /// At most so many units are in this counter.
    AtMost(Counter, u64),
    /// The purchase limit, if there is one, allows an order of so many.
    Limit(u64),
    /// So many units more are certainly not too many: neither available nor reserved is then above
    /// [`HALF_OF_MAX_STOCK`]. A stock unit that is not there has room.
    Room(u64),
    /// There is no such stock unit.
    Absent,
    /// There is one.
    Exists,
    /// What is on hand has not changed since `physical` was this; holds that began or ended since do not count.
    Physical(u64),
}

/// Why a move cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The stock does not suffice.
    Lack(Lack),
    /// The stock unit is not as the plan supposed. Another plan may do.
    NotAsSupposed,
    /// Less is reserved or sold than is to be taken back. It cannot be while what always holds does hold.
    Broken,
}

impl Move {
    /// Counters that change. None of them gets below zero.
    #[must_use]
    pub fn shift(unit: UnitKey, delta: Delta) -> Self {
        let falling = Counter::ALL.into_iter().filter(|counter| delta.of(*counter) < 0);
        let guards = falling.map(|counter| Guard::AtLeast(counter, delta.of(counter).unsigned_abs()));
        Self { unit, effect: Effect::Shift(delta), guards: require_existence(guards) }
    }

    /// The change of the counters, where it does not depend on what they are.
    #[must_use]
    pub fn delta(&self) -> Delta {
        match self.effect {
            Effect::Shift(delta) => delta,
            Effect::Add(units) => Delta { available: units.cast_signed(), ..Delta::default() },
            Effect::Create { .. } | Effect::SetOnHand { .. } | Effect::Describe { .. } => Delta::default(),
        }
    }

    /// How many available units it takes.
    #[must_use]
    pub fn requested_units(&self) -> u64 {
        self.delta().available.min(0).unsigned_abs()
    }

    /// Whether several such moves of one stock unit can be made as one. Those that rest on how exactly it stands cannot.
    #[must_use]
    pub fn can_be_combined(&self) -> bool {
        let is_summable =
            |guard: &Guard| matches!(guard, Guard::AtLeast(..) | Guard::Limit(_) | Guard::Exists);
        matches!(self.effect, Effect::Shift(_)) && self.guards.iter().all(is_summable)
    }

    /// One move for several of the same stock unit, in their order: it can be made where each of them could be made after
    /// those before it.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn combine(moves: &[&Self]) -> Self {
        let [first, rest @ ..] = moves else { panic!("at least one move is combined") };
        if rest.is_empty() {
            return (*first).clone();
        }
        let (mut sum, mut needed, mut limit) = (Delta::default(), [0_i64; 3], None);
        for one in moves {
            for guard in &one.guards {
                match *guard {
                    Guard::AtLeast(counter, units) => {
                        let needed = &mut needed[counter as usize];
                        let before =
                            if planted("only-the-largest-guard-counts") { 0 } else { sum.of(counter) };
                        *needed = (*needed).max(units.cast_signed().saturating_sub(before));
                    }
                    Guard::Limit(ordered) => limit = limit.max(Some(ordered)),
                    _ => {}
                }
            }
            sum = sum.plus(one.delta());
        }
        let needed = Counter::ALL.into_iter().zip(needed).filter(|(_, units)| *units > 0);
        let needed = needed.map(|(counter, units)| Guard::AtLeast(counter, units.unsigned_abs()));
        let guards = require_existence(needed.chain(limit.map(Guard::Limit)));
        Self { unit: first.unit.clone(), effect: Effect::Shift(sum), guards }
    }

    /// What keeps this move from being made of a stock unit as it is; none where there is no such stock unit.
    #[must_use]
    pub fn obstacle(&self, unit: Option<&StockUnit>) -> Option<Obstacle> {
        let Some(unit) = unit else { return self.obstacle_without_unit() };
        let failed = self.guards.iter().filter_map(|guard| guard.obstacle(unit));
        // What was promised is missed before anything else; a limit is told before a lack that waiting may mend.
        failed.min_by_key(|obstacle| match obstacle {
            Obstacle::Broken => 0,
            Obstacle::Lack(Lack::OverLimit { .. }) => 1,
            Obstacle::Lack(_) => 2,
            Obstacle::NotAsSupposed => 3,
        })
    }

    fn obstacle_without_unit(&self) -> Option<Obstacle> {
        let takes = |wanted: fn(&Counter) -> bool| {
            let mut counters = self.guards.iter().filter_map(|guard| match guard {
                Guard::AtLeast(counter, _) => Some(counter),
                _ => None,
            });
            counters.any(wanted)
        };
        match self.effect {
            Effect::Add(_) | Effect::Create { .. } => None,
            _ if takes(|counter| *counter == Counter::Available) => Some(Obstacle::Lack(Lack::Unknown)),
            _ if takes(|counter| *counter != Counter::Available) => Some(Obstacle::Broken),
            _ => Some(Obstacle::Lack(Lack::Unknown)),
        }
    }

    /// The stock unit after this move.
    #[must_use]
    pub fn unit_after(&self, before: Option<&StockUnit>, cause: &Cause, at: Timestamp) -> StockUnit {
        let mut unit = before.cloned().unwrap_or_else(|| StockUnit::empty(self.unit.clone(), at));
        let on_hand = unit.on_hand();
        match &self.effect {
            Effect::Shift(_) | Effect::Add(_) => unit.shift(self.delta()),
            Effect::Create { available, name, low_stock_threshold, max_per_order } => {
                unit.available = *available;
                unit.name.clone_from(name);
                (unit.low_stock_threshold, unit.max_per_order) = (*low_stock_threshold, *max_per_order);
            }
            Effect::SetOnHand { units, .. } => unit.available = units.saturating_sub(unit.reserved),
            Effect::Describe { name, low_stock_threshold, max_per_order } => {
                name.apply(&mut unit.name);
                low_stock_threshold.apply(&mut unit.low_stock_threshold);
                max_per_order.apply(&mut unit.max_per_order);
            }
        }
        unit.version += 1;
        unit.physical += u64::from(before.is_none() || unit.on_hand() != on_hand);
        unit.cause.clone_from(cause);
        unit.updated_at = at;
        unit
    }
}

/// These guards, and that the stock unit exists where none of them needs units in it: a change is no reason for it to
/// begin.
fn require_existence(guards: impl Iterator<Item = Guard>) -> Vec<Guard> {
    let mut guards: Vec<Guard> = guards.collect();
    if !guards.iter().any(|guard| matches!(guard, Guard::AtLeast(..))) {
        guards.push(Guard::Exists);
    }
    guards
}

impl Guard {
    /// What it says is wrong with a stock unit.
    fn obstacle(self, unit: &StockUnit) -> Option<Obstacle> {
        let holds = match self {
            Self::AtLeast(counter, units) => unit.counter(counter) >= units,
            Self::AtMost(counter, units) => unit.counter(counter) <= units,
            Self::Limit(ordered) => unit.max_per_order.is_none_or(|most| ordered <= most),
            Self::Room(units) => {
                // Of one that was there before that time was kept nobody knows it; that is settled by a look.
                unit.created_at.is_some()
                    && unit.available <= HALF_OF_MAX_STOCK.saturating_sub(units)
                    && unit.reserved <= HALF_OF_MAX_STOCK
            }
            Self::Absent => false,
            Self::Exists => true,
            Self::Physical(physical) => unit.physical == physical,
        };
        if holds {
            return None;
        }
        Some(match self {
            Self::AtLeast(Counter::Available, _) => Obstacle::Lack(Lack::Short { available: unit.available }),
            Self::AtLeast(..) => Obstacle::Broken,
            Self::Limit(_) => {
                Obstacle::Lack(Lack::OverLimit { max_per_order: unit.max_per_order.unwrap_or_default() })
            }
            _ => Obstacle::NotAsSupposed,
        })
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
