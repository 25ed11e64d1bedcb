//! Whether stock changed as it was asked for, and moved as its reservations say.

use std::collections::BTreeMap;

use shared::domain::{Delta, Reservation, StockUnit, UnitKey, events};
use shared::store::StreamChange;

use super::findings::Findings;
use crate::faults::SETUP;
use crate::history::{Entry, History};
use crate::ops::{Change, Kind, Op};

impl Findings {
    /// Every stock operation is one that was asked for, written once for its key. What is on hand has not
    /// changed since an audit looked.
    pub(super) fn check_stock(
        &mut self,
        ops: &BTreeMap<u32, &Op>,
        entry: &Entry,
        old: Option<&StockUnit>,
        new: &StockUnit,
        looked: Option<&StockUnit>,
    ) {
        let cause = &new.cause;
        if !["create", "add", "adjust", "audit", "update"].contains(&cause.operation.as_str())
            || cause.reference.starts_with(SETUP)
        {
            return;
        }
        let name = format!("{} v{} {cause:?} by {}", new.key.product, new.version, entry.writer);
        let key = cause.reference.split(' ').next().unwrap_or_default();
        let id = key.strip_prefix('k').and_then(|id| id.parse::<u32>().ok());
        let Some(Kind::Stock(product, change)) = id.and_then(|id| ops.get(&id)).map(|op| &op.kind) else {
            return self.note("unasked", name);
        };
        let delta = events::movement(old, new).delta;
        let on_hand = |unit: Option<&StockUnit>| unit.map_or(0, StockUnit::on_hand).cast_signed();
        let by = match change {
            Change::Create(quantity, _) | Change::Add(quantity) => quantity.cast_signed(),
            Change::Adjust(by) => *by,
            Change::Audit(counted) => counted.cast_signed() - on_hand(old),
            Change::Update(_) => 0,
        };
        if matches!(change, Change::Adjust(_)) && !cause.reference.ends_with(" count") {
            self.note("reason", name.clone());
        }
        let wanted = Delta { available: by, reserved: 0, sold: 0 };
        if *product != new.key.product.to_string() || change.name() != cause.operation || delta != wanted {
            self.note("stock", format!("{name}: {delta:?} instead of {wanted:?}"));
        }
        if let Change::Update(limit) = change
            && new.max_per_order != *limit
        {
            self.note("update", format!("{name}: {:?} instead of {limit:?}", new.max_per_order));
        }
        if matches!(change, Change::Audit(_)) && on_hand(looked) != on_hand(old) {
            self.note("audit", format!("{name}: {} on hand, it saw {}", on_hand(old), on_hand(looked)));
        }
    }

    /// In every write, what moved is what its reservations say.
    pub(super) fn check_moves(&mut self, history: &History) {
        let mut writes: BTreeMap<u64, Vec<&StreamChange>> = BTreeMap::new();
        for entry in &history.entries {
            writes.entry(entry.write).or_default().push(&entry.change);
        }
        for (write, changes) in writes {
            let mut moved: BTreeMap<&UnitKey, Delta> = BTreeMap::new();
            let mut said: BTreeMap<UnitKey, Delta> = BTreeMap::new();
            let mut of_orders = false;
            for change in changes {
                match change {
                    StreamChange::Stock(old, new) => {
                        moved.insert(&new.key, events::movement(old.as_ref(), new).delta);
                    }
                    StreamChange::Reservation(old, new) => {
                        of_orders = true;
                        add_movements_of(old.as_ref(), new, &mut said);
                    }
                    StreamChange::Level(_) | StreamChange::Other => {}
                }
            }
            said.retain(|_, delta| *delta != Delta::default());
            let moved: BTreeMap<UnitKey, Delta> = moved.into_iter().map(|(k, d)| (k.clone(), d)).collect();
            if of_orders && moved != said {
                self.note("moves", format!("write {write}: {moved:?} moved, the records say {said:?}"));
            }
        }
    }
}

/// Adds what a change of a record says of stock: what it holds more or less, and what has left for it.
fn add_movements_of(old: Option<&Reservation>, new: &Reservation, said: &mut BTreeMap<UnitKey, Delta>) {
    let of = |record: Option<&Reservation>, sign: i64, said: &mut BTreeMap<UnitKey, Delta>| {
        for line in record.into_iter().flat_map(|record| &record.lines) {
            let (held, left) = (sign * line.held_units().cast_signed(), sign * line.fulfilled.cast_signed());
            let sum = said.entry(line.key.unit(0)).or_default();
            *sum = sum.plus(Delta { available: -(held + left), reserved: held, sold: left });
        }
    };
    of(old, -1, said);
    of(Some(new), 1, said);
}
