//! What is published of goods that leave, and of facts that contradict.

use serde_json::{Value, json};

use super::{items, name, text};
use crate::domain::conflict::{Conflict, ConflictKind, ConflictLine};
use crate::domain::names::{Reason, ShipmentId};
use crate::domain::reservation::{Fact, Line, Reservation, State};

/// What has left with a change, what was given back because it did not, and what was missing.
pub(super) fn of_delivery(old: Option<&Reservation>, new: &Reservation) -> Vec<(&'static str, Value)> {
    let mut said = Vec::new();
    let before = |line: &Line| old.and_then(|old| line_of(line, old));
    let growth =
        |line: &Line, figure: fn(&Line) -> u64| figure(line).saturating_sub(before(line).map_or(0, figure));
    let left = items(new.lines.iter().map(|line| (line, growth(line, |line| line.fulfilled))));
    let taken_off =
        |line: &Line| line.fulfilled.saturating_sub(line_of(line, new).map_or(0, |line| line.fulfilled));
    let lines_before = old.iter().flat_map(|old| &old.lines);
    let corrected = items(lines_before.map(|line| (line, taken_off(line))));
    if is_any(&left) || is_any(&corrected) {
        let complete = new.state == State::Fulfilled;
        let corrected = Some(corrected).filter(is_any);
        let about = json!({"items": left, "complete": complete, "correctedItems": corrected});
        said.push((name::INVENTORY_DEDUCTED, about));
    }
    if new.state == State::Fulfilled {
        // What was held, and has neither left nor is held any more.
        let kept = |line: &Line| {
            let held = before(line).map_or(0, Line::held);
            held.saturating_sub(growth(line, |line| line.fulfilled))
        };
        let kept = items(new.lines.iter().map(|line| (line, kept(line))));
        if is_any(&kept) {
            let about = json!({"items": kept, "reason": Reason::not_delivered().as_str()});
            said.push((name::INVENTORY_RELEASED, about));
        }
    }
    let missing = items(new.lines.iter().map(|line| (line, growth(line, |line| line.missing))));
    if is_any(&missing) {
        said.push((name::PARTIAL_DEDUCTION, json!({"items": left, "failedItems": missing})));
    }
    said
}

/// The contradiction that a change took note of (old: none for the newest there is), with both sides: what stands of
/// the order, and what was heard.
pub(super) fn of_conflict(old: Option<&Reservation>, new: &Reservation) -> Option<(&'static str, Value)> {
    let before = old.map_or(0, |old| old.conflicts.count);
    let Conflict { kind, fact, shipment, lines, at, .. } =
        new.conflicts.kept.last().filter(|_| new.conflicts.count > before)?;
    let order_stands = match kind {
        ConflictKind::OtherLines => true,
        ConflictKind::NotOrdered => *fact == Fact::Delivered,
        _ => false,
    };
    let standing = |line: &Line| if order_stands { line.quantity } else { line.left() };
    let about = json!({
        "reason": kind.name(),
        "fact": fact.name(),
        "shipmentId": shipment.as_ref().map(ShipmentId::as_str),
        "heardAt": text(*at),
        "items": items(new.lines.iter().map(|line| (line, standing(line)))),
        "heardItems": lines.iter().map(heard).collect::<Value>(),
        "conflicts": new.conflicts.count,
    });
    Some((name::ORDER_CONFLICT, about))
}

/// A line as it was heard; its location only where one was named.
fn heard(line: &ConflictLine) -> Value {
    let mut item = json!({"productId": line.product.as_str(), "quantity": line.quantity});
    if let Some(location) = &line.location {
        item["location"] = location.as_str().into();
    }
    item
}

fn line_of<'a>(line: &Line, reservation: &'a Reservation) -> Option<&'a Line> {
    reservation.lines.iter().find(|other| other.key == line.key)
}

pub(super) fn is_any(items: &Value) -> bool {
    items.as_array().is_some_and(|items| !items.is_empty())
}
