//! Events of goods that leave, and of facts that contradict.

use super::{EventKind, Item};
use crate::domain::conflict::ConflictKind;
use crate::domain::fact::Fact;
use crate::domain::lines::Line;
use crate::domain::names::Reason;
use crate::domain::reservation::{Reservation, State};

/// The events of a delivery: items that left, items given back because they did not, and items that were missing.
pub(super) fn kinds_of_delivery(old: Option<&Reservation>, new: &Reservation) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    let before = |line: &Line| old.and_then(|old| line_of(line, old));
    let growth =
        |line: &Line, figure: fn(&Line) -> u64| figure(line).saturating_sub(before(line).map_or(0, figure));
    let newly_fulfilled = |line: &Line| growth(line, |line| line.fulfilled);
    let items = Item::list(&new.lines, newly_fulfilled);
    let lines_before = old.iter().flat_map(|old| &old.lines);
    let corrected_items = Item::list(lines_before, |line| {
        line.fulfilled.saturating_sub(line_of(line, new).map_or(0, |line| line.fulfilled))
    });
    if !items.is_empty() || !corrected_items.is_empty() {
        let is_complete = new.state == State::Fulfilled;
        kinds.push(EventKind::InventoryDeducted { items: items.clone(), is_complete, corrected_items });
    }
    if new.state == State::Fulfilled {
        // What was held, and has neither left nor is held any more.
        let given_back = Item::list(&new.lines, |line| {
            before(line).map_or(0, Line::held_units).saturating_sub(newly_fulfilled(line))
        });
        if !given_back.is_empty() {
            let reason = Some(Reason::not_delivered());
            kinds.push(EventKind::InventoryReleased { items: given_back, reason });
        }
    }
    let missing_items = Item::list(&new.lines, |line| growth(line, |line| line.missing));
    if !missing_items.is_empty() {
        kinds.push(EventKind::PartialDeduction { items, missing_items });
    }
    kinds
}

/// The contradiction that a change took note of (old: none for the newest one), with both sides: the items of the order
/// as they stand, and the fact that was heard.
pub(super) fn kind_of_conflict(old: Option<&Reservation>, new: &Reservation) -> Option<EventKind> {
    let before = old.map_or(0, |old| old.conflicts.count);
    let count = new.conflicts.count;
    let conflict = new.conflicts.kept.last().filter(|_| count > before)?.clone();
    let order_stands = match conflict.kind {
        ConflictKind::OtherLines => true,
        ConflictKind::NotOrdered => conflict.fact == Fact::Delivered,
        _ => false,
    };
    let items =
        Item::list(&new.lines, |line| if order_stands { line.quantity } else { line.departed_units() });
    Some(EventKind::OrderConflict { items, conflict, count })
}

fn line_of<'a>(line: &Line, reservation: &'a Reservation) -> Option<&'a Line> {
    reservation.lines.iter().find(|other| other.key == line.key)
}
