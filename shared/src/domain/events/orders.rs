//! Events of orders: holds, releases and refusals.

use super::deliveries::{kind_of_conflict, kinds_of_delivery};
use super::{ConfirmationRefusal, Event, EventKind, Item, ReservationFailure, Subject};
use crate::domain::fact::Fact;
use crate::domain::lines::Line;
use crate::domain::names::Reason;
use crate::domain::reservation::{Reservation, State};
use crate::domain::stock::Lack;

/// The events of a change of a reservation (old: none if it was created).
#[must_use]
pub fn events_of_reservation(old: Option<&Reservation>, new: &Reservation) -> Vec<Event> {
    let mut kinds = kinds_of_hold(old, new);
    if new.refused_at.is_some() && old.is_none_or(|old| old.refused_at.is_none()) {
        kinds.push(refusal_kind(new));
    }
    kinds.extend(kinds_of_delivery(old, new));
    kinds.extend(kind_of_conflict(old, new));
    kinds.into_iter().map(|kind| event_of(new, kind)).collect()
}

/// The events of a hold: it began, became certain or ended, or there is nothing to hold.
fn kinds_of_hold(old: Option<&Reservation>, new: &Reservation) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    let before = old.map_or(State::Pending, |old| old.state);
    let enters = |state: State| new.state == state && before != state;
    // What is open is held where the state holds, so it is what was given back, too.
    let items = open_items(new);
    if new.state.holds() && !before.holds() {
        kinds.push(EventKind::InventoryReserved { items: items.clone(), expires_at: new.expires_at });
    }
    if enters(State::Confirmed) {
        kinds.push(EventKind::InventoryConfirmed { items: items.clone() });
    }
    if before.holds() && enters(State::Released) {
        kinds.push(EventKind::InventoryReleased { items, reason: new.reason.clone() });
    } else if enters(State::Expired) {
        kinds.push(EventKind::ReservationExpired { items });
    }
    let is_newly_paid = new.has_heard(Fact::Paid) && !old.is_some_and(|old| old.has_heard(Fact::Paid));
    if enters(State::Rejected) {
        kinds.push(failure_kind(new, rejection_reason(new)));
    } else if is_newly_paid
        && matches!(new.state, State::Released | State::Expired)
        && !new.has_heard(Fact::Cancelled)
    {
        // Paid, but nothing is held and nothing will be: a paid order is never short in silence.
        kinds.push(failure_kind(new, loss_reason(new)));
    }
    kinds
}

/// Whether a change leaves an order paid for without its stock, and not cancelled. A person must see to it.
#[must_use]
pub fn is_paid_but_short(old: Option<&Reservation>, new: &Reservation) -> bool {
    let was_so_before = old.is_some_and(|old| old.has_heard(Fact::Paid) && old.state == new.state);
    let has_no_stock = matches!(new.state, State::Rejected | State::Released | State::Expired);
    let is_newly_paid = !old.is_some_and(|old| old.has_heard(Fact::Paid));
    let is_paid = new.has_heard(Fact::Paid) && !new.has_heard(Fact::Cancelled);
    is_paid && !was_so_before && has_no_stock && (is_newly_paid || new.state == State::Rejected)
}

/// The repeated events of a reservation whose events may have been missed: its state as it is.
#[must_use]
pub fn state_events_of_reservation(now: &Reservation) -> Vec<Event> {
    let mut kinds = Vec::from_iter(kind_of_state(now));
    if now.refused_at.is_some() {
        kinds.push(refusal_kind(now));
    } else if now.has_heard(Fact::Paid) && matches!(now.state, State::Released | State::Expired) {
        kinds.push(failure_kind(now, loss_reason(now)));
    }
    kinds.extend(kind_of_conflict(None, now));
    let missing_items = Item::list(&now.lines, |line| line.missing);
    if !missing_items.is_empty() {
        kinds.push(EventKind::PartialDeduction { items: fulfilled_items(now), missing_items });
    }
    kinds.into_iter().map(|kind| event_of(now, kind).into_republished()).collect()
}

/// The event that leads to the current state of a reservation. There is none where it would have no items.
fn kind_of_state(now: &Reservation) -> Option<EventKind> {
    // What was known and released at once was never held.
    let was_held = now.released_at.is_some() && now.facts.get(&Fact::Created) != now.released_at.as_ref();
    let if_any = |items: Vec<Item>| Some(items).filter(|items| !items.is_empty());
    let open = || if_any(open_items(now));
    match now.state {
        State::Reserved => Some(EventKind::InventoryReserved { items: open()?, expires_at: now.expires_at }),
        State::Confirmed => Some(EventKind::InventoryConfirmed { items: open()? }),
        State::Fulfilled => Some(EventKind::InventoryDeducted {
            items: if_any(fulfilled_items(now))?,
            is_complete: true,
            corrected_items: Vec::new(),
        }),
        State::Released if was_held => {
            Some(EventKind::InventoryReleased { items: open()?, reason: now.reason.clone() })
        }
        State::Expired => Some(EventKind::ReservationExpired { items: open()? }),
        State::Rejected => Some(failure_kind(now, rejection_reason(now))),
        State::Released | State::Pending => None,
    }
}

fn event_of(new: &Reservation, kind: EventKind) -> Event {
    let (order_id, created_at) = (new.order_id.clone(), new.created_at);
    Event {
        subject: Subject::Reservation { id: new.id, order_id, created_at },
        version: new.version,
        at: new.updated_at,
        correlation_id: new.correlation_id.clone(),
        is_republished: false,
        kind,
    }
}

/// The items that have still to leave.
fn open_items(reservation: &Reservation) -> Vec<Item> {
    Item::list(&reservation.lines, Line::open_units)
}

/// The items that have left.
fn fulfilled_items(reservation: &Reservation) -> Vec<Item> {
    Item::list(&reservation.lines, |line| line.fulfilled)
}

fn failure_kind(new: &Reservation, reason: ReservationFailure) -> EventKind {
    EventKind::StockReservationFailed {
        items: open_items(new),
        reason,
        shortages: new.shortages.clone(),
        is_paid: new.has_heard(Fact::Paid),
    }
}

fn refusal_kind(new: &Reservation) -> EventKind {
    let reason = match new.state {
        State::Rejected => ConfirmationRefusal::Rejected,
        _ => ConfirmationRefusal::Cancelled,
    };
    EventKind::InventoryConfirmationRefused { items: open_items(new), reason }
}

/// How a paid order had lost its hold, when the stock is gone.
fn loss_reason(reservation: &Reservation) -> ReservationFailure {
    match reservation.state {
        State::Expired => ReservationFailure::Expired,
        _ => ReservationFailure::PaymentFailed,
    }
}

/// Why an order could not be held.
fn rejection_reason(new: &Reservation) -> ReservationFailure {
    let lacks = |is_wanted: fn(&Lack) -> bool| new.shortages.iter().any(|shortage| is_wanted(&shortage.lack));
    if new.reason == Some(Reason::too_many_lines()) {
        ReservationFailure::TooManyLines
    } else if lacks(|lack| matches!(lack, Lack::OverLimit { .. })) {
        ReservationFailure::PurchaseLimitExceeded
    } else if lacks(|lack| matches!(lack, Lack::Unknown)) {
        ReservationFailure::UnknownProduct
    } else {
        ReservationFailure::InsufficientStock
    }
}
