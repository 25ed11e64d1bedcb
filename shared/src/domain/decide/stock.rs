//! Stock administration: create, add, adjust, audit, update.
//!
//! Each is decided as a plan of one move and the record of its idempotency key, so that it is applied once, and answered
//! as the first time, however often it is sent.

use super::Decision;
use crate::domain::Timestamp;
use crate::domain::lines::Fingerprint;
use crate::domain::names::{IdempotencyKey, Reason};
use crate::domain::plan::{Effect, Guard, IdempotencyRecord, Move, Plan};
use crate::domain::quantity::{Edit, Quantity};
use crate::domain::seen::{Look, Seen, Sighting};
use crate::domain::stock::{Cause, Counter, Delta, MAX_STOCK, StockUnit, UnitKey};

/// Something that is to be done with a stock unit.
#[derive(Debug, Clone)]
pub struct StockCommand {
    /// The stock unit.
    pub unit: UnitKey,
    /// What is done to it.
    pub change: StockChange,
    /// Under which it is done once.
    pub idempotency_key: IdempotencyKey,
    /// What it is answered with, now and whenever it is sent again.
    pub answer: String,
}

/// What is done to a stock unit.
#[derive(Debug, Clone)]
pub enum StockChange {
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
    /// New stock; creates the stock unit if there is none.
    Add(Quantity),
    /// A correction upwards or downwards.
    Adjust {
        /// By how many available units; not 0.
        by: i64,
        /// Why.
        reason: Reason,
    },
    /// What lies on the shelf was counted.
    Audit {
        /// The figure: available and reserved together.
        on_hand: u64,
    },
    /// What is said of the product at this location changes; no unit moves.
    Update {
        /// What people call the product.
        name: Edit<String>,
        /// At or below this many available units the stock counts as low.
        low_stock_threshold: Edit<u64>,
        /// Most units of the product that one order may hold.
        max_per_order: Edit<u64>,
    },
}

/// Why a stock operation cannot be, for what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockRefusal {
    /// There is one already.
    Exists,
    /// There is none.
    Unknown,
    /// Less is available than is to be taken off.
    Short {
        /// How much is available.
        available: u64,
    },
    /// More than [`MAX_STOCK`] would be on hand.
    TooMuch {
        /// How much is on hand now.
        on_hand: u64,
    },
    /// Less was counted than is promised to orders.
    BelowReserved {
        /// How much is promised.
        reserved: u64,
    },
    /// The figure changed while it was being set: by another audit, an addition, a shipment.
    Changed {
        /// On hand when this audit began.
        was: u64,
        /// On hand now.
        is: u64,
    },
    /// The same key came before with another request.
    KeyReused,
}

/// Decides what is to be written for a change of stock, given what was seen.
///
/// Only an audit depends on what is there and looks first. The others are guesses that their guards make sure of; where
/// a guard failed, they are decided on the stock unit that came back, under the guard that its on hand stays so.
#[must_use]
pub fn decide_stock(
    seen: &Seen,
    command: &StockCommand,
    correlation_id: &str,
    now: Timestamp,
) -> Decision<StockRefusal> {
    let fingerprint = command.fingerprint();
    if let Some(before) = seen.idempotency() {
        let is_same = before.fingerprint == fingerprint;
        return if is_same { Decision::Unchanged } else { Decision::Refuse(StockRefusal::KeyReused) };
    }
    let sighting = seen.stock_unit(&command.unit);
    let stock_move = match (&command.change, sighting) {
        (StockChange::Audit { .. }, None) => return Decision::Look(Look::Stock(command.unit.clone())),
        (_, None) => command.guess_move(),
        (_, Some(Sighting { unit: None, is_snapshot: false, .. })) => {
            return Decision::Look(Look::Stock(command.unit.clone()));
        }
        (_, Some(Sighting { unit: None, .. })) => return Decision::Refuse(StockRefusal::Unknown),
        (_, Some(Sighting { unit: Some(unit), first_on_hand, guard_failed, .. })) => {
            // Before a guard has failed, the same request may have been applied under this key.
            let refusal = command.change.refusal(unit, first_on_hand.unwrap_or_default());
            if let Some(refusal) = refusal.filter(|_| *guard_failed) {
                return Decision::Refuse(refusal);
            }
            command.move_for(unit)
        }
    };
    let key = &command.idempotency_key;
    let reference = match &command.change {
        StockChange::Adjust { reason, .. } => format!("{key} {reason}"),
        _ => key.to_string(),
    };
    Decision::Plan(Box::new(Plan {
        record: None,
        idempotency: Some(IdempotencyRecord {
            operation: command.change.name(),
            key: key.clone(),
            fingerprint,
            answer: command.answer.clone(),
        }),
        moves: vec![stock_move],
        cause: Cause {
            operation: command.change.name().to_owned(),
            reference,
            correlation_id: correlation_id.to_owned(),
        },
        at: now,
    }))
}

impl StockCommand {
    /// The move that is right wherever its guards hold.
    fn guess_move(&self) -> Move {
        let (effect, guards) = match &self.change {
            StockChange::Create { available, name, low_stock_threshold, max_per_order } => {
                let effect = Effect::Create {
                    available: *available,
                    name: name.clone(),
                    low_stock_threshold: *low_stock_threshold,
                    max_per_order: *max_per_order,
                };
                (effect, vec![Guard::Absent])
            }
            StockChange::Add(quantity) => (Effect::Add(quantity.get()), vec![Guard::Room(quantity.get())]),
            StockChange::Adjust { by, .. } => {
                let units = by.unsigned_abs();
                let guard =
                    if *by < 0 { Guard::AtLeast(Counter::Available, units) } else { Guard::Room(units) };
                (Effect::Shift(Delta { available: *by, ..Delta::default() }), vec![guard])
            }
            StockChange::Audit { on_hand } => {
                let guard = Guard::AtMost(Counter::Reserved, *on_hand);
                (Effect::SetOnHand { units: *on_hand, is_change: true }, vec![guard])
            }
            StockChange::Update { name, low_stock_threshold, max_per_order } => {
                let effect = Effect::Describe {
                    name: name.clone(),
                    low_stock_threshold: *low_stock_threshold,
                    max_per_order: *max_per_order,
                };
                (effect, vec![Guard::Exists])
            }
        };
        Move { unit: self.unit.clone(), effect, guards }
    }

    /// The move for a stock unit that was seen: it holds as long as what is on hand there stays as it was.
    fn move_for(&self, unit: &StockUnit) -> Move {
        let mut one = self.guess_move();
        if let Effect::SetOnHand { units, is_change } = &mut one.effect {
            *is_change = unit.on_hand() != *units;
            one.guards.push(Guard::Physical(unit.physical));
        }
        for guard in &mut one.guards {
            if matches!(guard, Guard::Room(_)) {
                *guard = Guard::Physical(unit.physical);
            }
        }
        one
    }

    /// What tells it from another change under the same key. Stored, so the format stays.
    fn fingerprint(&self) -> Fingerprint {
        let UnitKey { product, location, bucket } = &self.unit;
        let name = self.change.name();
        Fingerprint::of(&format!("{name}\t{product}\t{location}\t{bucket}\t{}", self.change.canonical_text()))
    }
}

impl StockChange {
    /// The operation's name in records, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Add(_) => "add",
            Self::Adjust { .. } => "adjust",
            Self::Audit { .. } => "audit",
            Self::Update { .. } => "update",
        }
    }

    /// Units that come in, where that is known without a look.
    fn incoming_units(&self) -> u64 {
        match self {
            Self::Add(quantity) => quantity.get(),
            Self::Adjust { by, .. } => u64::try_from(*by).unwrap_or(0),
            Self::Create { .. } | Self::Audit { .. } | Self::Update { .. } => 0,
        }
    }

    /// Why it cannot be, for a stock unit that is there; on hand when this began.
    fn refusal(&self, unit: &StockUnit, first_on_hand: u64) -> Option<StockRefusal> {
        let on_hand_now = unit.on_hand();
        match self {
            Self::Create { .. } => Some(StockRefusal::Exists),
            Self::Adjust { by, .. } if *by < 0 => {
                let is_short = unit.available < by.unsigned_abs();
                is_short.then_some(StockRefusal::Short { available: unit.available })
            }
            Self::Add(_) | Self::Adjust { .. } => {
                let is_too_much = on_hand_now.saturating_add(self.incoming_units()) > MAX_STOCK;
                is_too_much.then_some(StockRefusal::TooMuch { on_hand: on_hand_now })
            }
            Self::Audit { on_hand } if unit.reserved > *on_hand => {
                Some(StockRefusal::BelowReserved { reserved: unit.reserved })
            }
            Self::Audit { .. } => (first_on_hand != on_hand_now)
                .then_some(StockRefusal::Changed { was: first_on_hand, is: on_hand_now }),
            // Its only guard is that there is one.
            Self::Update { .. } => None,
        }
    }

    /// What is to change, as a text that is the same for the same change.
    fn canonical_text(&self) -> String {
        match self {
            Self::Create { available, name, low_stock_threshold, max_per_order } => {
                let limit = |limit: &Option<u64>| limit.map_or("-".to_owned(), |n| n.to_string());
                let (low, most) = (limit(low_stock_threshold), limit(max_per_order));
                // The name comes last: it alone may contain anything.
                format!("{available}\t{low}\t{most}\t{}", name.as_deref().unwrap_or_default())
            }
            Self::Add(quantity) => quantity.to_string(),
            Self::Adjust { by, reason } => format!("{by}\t{reason}"),
            Self::Audit { on_hand } => on_hand.to_string(),
            Self::Update { name, low_stock_threshold, max_per_order } => {
                let limit = |limit: &Edit<u64>| match limit {
                    Edit::Keep => "=".to_owned(),
                    Edit::Clear => "-".to_owned(),
                    Edit::Set(n) => n.to_string(),
                };
                let name = match name {
                    Edit::Keep => "=",
                    Edit::Clear => "-",
                    Edit::Set(name) => &format!("+{name}"),
                };
                format!("{}\t{}\t{name}", limit(low_stock_threshold), limit(max_per_order))
            }
        }
    }
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
