//! Checks that everything holds in the end (ARCHITECTURE.md, "What always holds"): the tables, the bus and the history.

use std::collections::BTreeMap;

use shared::domain::State;
use shared::store::StreamChange;

use crate::deliveries;
use crate::history::Violation;
use crate::ops::Op;
use crate::world::World;

mod bus;
mod findings;
mod records;
mod stock;
mod tables;

use findings::Findings;

/// Every rule that was broken.
#[must_use]
pub fn find_violations(world: &World, ops: &[Op]) -> Vec<Violation> {
    let mut broken = Findings::default();
    broken.check_tables(world);
    broken.check_ledger(world);
    broken.check_bus(world);
    let seen = world.wire.seen();
    let history = &seen.history;
    for reservation in history.orders() {
        if reservation.state == State::Reserved && reservation.expires_at.is_some() {
            broken.note("swept", format!("{} still holds", reservation.order_id));
        }
    }
    let ops: BTreeMap<u32, &Op> = ops.iter().map(|op| (op.id, op)).collect();
    for (i, entry) in history.entries.iter().enumerate() {
        match &entry.change {
            StreamChange::Reservation(old, new) => {
                broken.check_record(world, history, &ops, i, old.as_ref(), new);
            }
            StreamChange::Stock(old, new) => {
                let looked = seen.looked.get(&entry.writer).map(|length| history.unit_at(&new.key, *length));
                broken.check_stock(&ops, entry, old.as_ref(), new, looked.flatten());
            }
            StreamChange::Level(_) | StreamChange::Other => {}
        }
    }
    broken.check_moves(history);
    broken.0.extend(deliveries::find_violations(history, &ops));
    if !seen.set_aside.is_empty() {
        broken.note("set-aside", format!("{:?}", seen.set_aside));
    }
    broken.0
}
