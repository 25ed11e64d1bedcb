//! What is published of a change, and its movement in the ledger: functions of the record before and
//! after, without a clock, so that the same change always gives the same event under the same id.

mod deliveries;

use serde_json::{Value, json};

use super::Timestamp;
use super::level::{Alert, Level};
use super::names::Reason;
use super::reservation::{Fact, Line, Reservation, State};
use super::stock::{Cause, Delta, Lack, StockUnit, UnitKey};

/// Names the source of every event on the bus.
pub const SOURCE: &str = "holdfast";

/// The events, by name.
pub mod name {
    #![expect(missing_docs, reason = "each says what it means")]
    pub const INVENTORY_RESERVED: &str = "InventoryReserved";
    pub const STOCK_RESERVATION_FAILED: &str = "StockReservationFailed";
    pub const INVENTORY_CONFIRMED: &str = "InventoryConfirmed";
    pub const INVENTORY_CONFIRMATION_REFUSED: &str = "InventoryConfirmationRefused";
    pub const INVENTORY_RELEASED: &str = "InventoryReleased";
    pub const RESERVATION_EXPIRED: &str = "ReservationExpired";
    pub const INVENTORY_DEDUCTED: &str = "InventoryDeducted";
    pub const PARTIAL_DEDUCTION: &str = "PartialDeduction";
    pub const ORDER_CONFLICT: &str = "OrderConflict";
    pub const INVENTORY_UPDATED: &str = "InventoryUpdated";
    pub const INVENTORY_REPLENISHED: &str = "InventoryReplenished";
    pub const LOW_STOCK: &str = "LowStock";
    pub const OUT_OF_STOCK: &str = "OutOfStock";
    pub const BACK_IN_STOCK: &str = "BackInStock";

    /// All of them.
    pub const ALL: [&str; 14] = [
        INVENTORY_RESERVED,
        STOCK_RESERVATION_FAILED,
        INVENTORY_CONFIRMED,
        INVENTORY_CONFIRMATION_REFUSED,
        INVENTORY_RELEASED,
        RESERVATION_EXPIRED,
        INVENTORY_DEDUCTED,
        PARTIAL_DEDUCTION,
        ORDER_CONFLICT,
        INVENTORY_UPDATED,
        INVENTORY_REPLENISHED,
        LOW_STOCK,
        OUT_OF_STOCK,
        BACK_IN_STOCK,
    ];
}

/// An event to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `STOCK#…:<version>:<name>` or `RES#…:<created>:<version>:<name>` of the record that caused it: a repetition
    /// is recognised by it. One change may cause several events, so the name is a part. A reservation may be purged
    /// and its order reserved anew, so the time at which its record began (epoch milliseconds) is a part, too; the
    /// same goes for the alerts that events of levels are of, `LEVEL#…:<created>:<version>:<name>`.
    pub id: String,
    /// Its name, the `detail-type` on the bus.
    pub name: &'static str,
    /// What it says.
    pub detail: Value,
}

/// The change of one stock unit, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The stock unit.
    pub unit: UnitKey,
    /// The stock unit's version after the change.
    pub version: u64,
    /// What the change was done for.
    pub cause: Cause,
    /// The change.
    pub delta: Delta,
    /// Available, reserved and sold after the change.
    pub after: [u64; 3],
    /// When.
    pub at: Timestamp,
}

impl StockUnit {
    fn counters(&self) -> [u64; 3] {
        [self.available, self.reserved, self.sold]
    }
}

/// The movement that made `new` of `old` (none: it began to exist).
#[must_use]
pub fn movement(old: Option<&StockUnit>, new: &StockUnit) -> Movement {
    let before = old.map_or([0; 3], StockUnit::counters);
    let after = new.counters();
    let change = |i: usize| after[i].cast_signed().saturating_sub(before[i].cast_signed());
    Movement {
        unit: new.key.clone(),
        version: new.version,
        cause: new.cause.clone(),
        delta: Delta { available: change(0), reserved: change(1), sold: change(2) },
        after,
        at: new.updated_at,
    }
}

/// What is published of a change of a stock unit.
#[must_use]
pub fn of_stock(old: Option<&StockUnit>, new: &StockUnit, default_threshold: u64) -> Vec<Event> {
    let mut names = vec![name::INVENTORY_UPDATED];
    let Delta { available, reserved, sold } = movement(old, new).delta;
    if available.saturating_add(reserved).saturating_add(sold) > 0 {
        names.push(name::INVENTORY_REPLENISHED);
    }
    let UnitKey { product, location, bucket } = &new.key;
    let key = format!("STOCK#{product}#{bucket}#{location}");
    let event = |name: &'static str| {
        let mut detail = head(&key, new.version, name, new.updated_at, &new.cause.correlation_id);
        detail["productId"] = product.as_str().into();
        detail["location"] = location.as_str().into();
        detail["version"] = new.version.into();
        detail["operation"] = new.cause.operation.as_str().into();
        detail["reference"] = new.cause.reference.as_str().into();
        detail["availableQuantity"] = new.available.into();
        detail["reservedQuantity"] = new.reserved.into();
        detail["totalQuantity"] = new.on_hand().into();
        detail["soldQuantity"] = new.sold.into();
        detail["lowStockThreshold"] = new.threshold(default_threshold).into();
        detail["change"] = json!({"available": available, "reserved": reserved, "sold": sold});
        finish(&key, new.version, name, detail)
    };
    names.into_iter().map(event).collect()
}

/// What is published of a level that has changed. It follows from the alert alone, which says where it came from.
#[must_use]
pub fn of_level(alert: &Alert) -> Option<Event> {
    let name = match (alert.before?, alert.level) {
        (Level::Enough, Level::Low) => name::LOW_STOCK,
        (Level::Enough | Level::Low, Level::Out) => name::OUT_OF_STOCK,
        (Level::Out, Level::Enough | Level::Low) => name::BACK_IN_STOCK,
        _ => return None,
    };
    let UnitKey { product, location, .. } = &alert.unit;
    let key = format!("LEVEL#{product}#{location}:{}", alert.created_at.as_millisecond());
    let [available, reserved, sold] = alert.figures;
    let mut detail = head(&key, alert.version, name, alert.since, &alert.cause.correlation_id);
    detail["productId"] = product.as_str().into();
    detail["location"] = location.as_str().into();
    detail["version"] = alert.version.into();
    detail["stockVersion"] = alert.stock_version.into();
    detail["operation"] = alert.cause.operation.as_str().into();
    detail["reference"] = alert.cause.reference.as_str().into();
    detail["availableQuantity"] = available.into();
    detail["reservedQuantity"] = reserved.into();
    detail["totalQuantity"] = available.saturating_add(reserved).into();
    detail["soldQuantity"] = sold.into();
    detail["lowStockThreshold"] = alert.threshold.into();
    Some(finish(&key, alert.version, name, detail))
}

/// What is published of a change of a reservation (old: none if it began to exist).
#[must_use]
pub fn of_reservation(old: Option<&Reservation>, new: &Reservation) -> Vec<Event> {
    let mut said: Vec<(&'static str, Value)> = Vec::new();
    let newly = |fact: Fact| new.heard(fact) && !old.is_some_and(|old| old.heard(fact));
    let was = old.map_or(State::Pending, |old| old.state);
    // What is open is held where the state holds, so it is what was given back, too.
    let ordered = items(new.lines.iter().map(|line| (line, line.open())));
    let entered = |state: State| new.state == state && was != state;
    if new.state.holds() && !was.holds() {
        said.push((
            name::INVENTORY_RESERVED,
            json!({"items": ordered, "expiresAt": new.expires_at.map(text)}),
        ));
    }
    if entered(State::Confirmed) {
        said.push((name::INVENTORY_CONFIRMED, json!({"items": ordered})));
    }
    if was.holds() && entered(State::Released) {
        let reason = new.reason.as_ref().map(Reason::as_str);
        said.push((name::INVENTORY_RELEASED, json!({"items": ordered, "reason": reason})));
    } else if entered(State::Expired) {
        said.push((name::RESERVATION_EXPIRED, json!({"items": ordered})));
    }
    if entered(State::Rejected) {
        let reason = rejected_because(new);
        said.push((name::STOCK_RESERVATION_FAILED, failed(new, ordered.clone(), reason)));
    } else if newly(Fact::Paid)
        && matches!(new.state, State::Released | State::Expired)
        && !new.heard(Fact::Cancelled)
    {
        // Paid, but nothing is held and nothing will be: a paid order is never short in silence.
        said.push((name::STOCK_RESERVATION_FAILED, failed(new, ordered.clone(), lost_because(new))));
    }
    if new.refused_at.is_some() && old.is_none_or(|old| old.refused_at.is_none()) {
        said.push((name::INVENTORY_CONFIRMATION_REFUSED, refused(new, &ordered)));
    }
    said.extend(deliveries::of_delivery(old, new));
    said.extend(deliveries::of_conflict(old, new));
    said.into_iter().map(|(name, about)| event_of(new, name, &about)).collect()
}

/// Whether a change leaves an order paid for without its stock, and not cancelled. A person must see to it.
#[must_use]
pub fn paid_but_short(old: Option<&Reservation>, new: &Reservation) -> bool {
    let before = old.is_some_and(|old| old.heard(Fact::Paid) && old.state == new.state);
    let without_stock = matches!(new.state, State::Rejected | State::Released | State::Expired);
    let newly_paid = !old.is_some_and(|old| old.heard(Fact::Paid));
    let paid = new.heard(Fact::Paid) && !new.heard(Fact::Cancelled);
    paid && !before && without_stock && (newly_paid || new.state == State::Rejected)
}

/// What is said again of a reservation whose events may have been missed: its state as it is. These events
/// have ids of their own (`…:republished`), because how the state came about is no longer known.
#[must_use]
pub fn state_of_reservation(now: &Reservation) -> Vec<Event> {
    let (open, left) =
        (items(now.lines.iter().map(|l| (l, l.open()))), items(now.lines.iter().map(|l| (l, l.fulfilled))));
    // What was known and released at once was never held.
    let was_held = now.released_at.is_some() && now.facts.get(&Fact::Created) != now.released_at.as_ref();
    let reason = now.reason.as_ref().map(Reason::as_str);
    let mut said = match now.state {
        State::Reserved => {
            vec![(name::INVENTORY_RESERVED, json!({"items": open, "expiresAt": now.expires_at.map(text)}))]
        }
        State::Confirmed => vec![(name::INVENTORY_CONFIRMED, json!({"items": open}))],
        State::Fulfilled => {
            vec![(name::INVENTORY_DEDUCTED, json!({"items": left.clone(), "complete": true}))]
        }
        State::Released if was_held => {
            vec![(name::INVENTORY_RELEASED, json!({"items": open, "reason": reason}))]
        }
        State::Expired => vec![(name::RESERVATION_EXPIRED, json!({"items": open}))],
        State::Rejected => {
            vec![(name::STOCK_RESERVATION_FAILED, failed(now, open.clone(), rejected_because(now)))]
        }
        State::Released | State::Pending => Vec::new(),
    };
    if now.refused_at.is_some() {
        said.push((name::INVENTORY_CONFIRMATION_REFUSED, refused(now, &open)));
    } else if now.heard(Fact::Paid) && matches!(now.state, State::Released | State::Expired) {
        said.push((name::STOCK_RESERVATION_FAILED, failed(now, open, lost_because(now))));
    }
    let needs_no_items = [name::INVENTORY_CONFIRMATION_REFUSED, name::STOCK_RESERVATION_FAILED];
    said.retain(|(name, about)| deliveries::is_any(&about["items"]) || needs_no_items.contains(name));
    said.extend(deliveries::of_conflict(None, now));
    if now.lines.iter().any(|line| line.missing > 0) {
        let missing = items(now.lines.iter().map(|line| (line, line.missing)));
        said.push((name::PARTIAL_DEDUCTION, json!({"items": left, "failedItems": missing})));
    }
    said.into_iter().map(|(name, about)| republished(event_of(now, name, &about))).collect()
}

/// What is said again of a stock unit: its figures as they are.
#[must_use]
pub fn state_of_stock(now: &StockUnit, default_threshold: u64) -> Vec<Event> {
    let events = of_stock(Some(now), now, default_threshold);
    events.into_iter().map(republished).collect()
}

/// What is said again of a level whose event may have been missed.
#[must_use]
pub fn state_of_level(now: &Alert) -> Option<Event> {
    of_level(now).map(republished)
}

fn republished(mut event: Event) -> Event {
    event.id.push_str(":republished");
    event.detail["eventId"] = event.id.as_str().into();
    event
}

fn event_of(new: &Reservation, name: &'static str, about: &Value) -> Event {
    let key = format!("RES#{}:{}", new.id, new.created_at.as_millisecond());
    let mut detail = head(&key, new.version, name, new.updated_at, &new.correlation_id);
    detail["orderId"] = new.order_id.as_str().into();
    detail["reservationId"] = new.id.to_string().into();
    detail["version"] = new.version.into();
    for (member, value) in about.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        detail[member] = value.clone();
    }
    finish(&key, new.version, name, detail)
}

fn failed(new: &Reservation, ordered: Value, reason: &str) -> Value {
    let short: Vec<Value> = new
        .shortages
        .iter()
        .map(|s| {
            json!({
                "productId": s.unit.product.as_str(), "location": s.unit.location.as_str(),
                "requestedQuantity": s.requested, "availableQuantity": s.lack.available(),
            })
        })
        .collect();
    json!({"items": ordered, "reason": reason, "failedItems": short, "paid": new.heard(Fact::Paid)})
}

/// How an order that is paid, and for which the stock is gone, had lost its hold.
fn lost_because(reservation: &Reservation) -> &'static str {
    if reservation.state == State::Expired { "expired" } else { "payment_failed" }
}

/// Why a payment is in vain.
fn refused(new: &Reservation, ordered: &Value) -> Value {
    let reason = if new.state == State::Rejected { "rejected" } else { "cancelled" };
    json!({"items": ordered, "reason": reason})
}

fn rejected_because(new: &Reservation) -> &'static str {
    let any = |wanted: fn(&Lack) -> bool| new.shortages.iter().any(|s| wanted(&s.lack));
    if new.reason == Some(Reason::too_many_lines()) {
        "too_many_lines"
    } else if any(|lack| matches!(lack, Lack::OverLimit { .. })) {
        "purchase_limit_exceeded"
    } else if any(|lack| matches!(lack, Lack::Unknown)) {
        "unknown_product"
    } else {
        "insufficient_stock"
    }
}

/// Lines with a quantity, without those of none.
fn items<'a>(lines: impl IntoIterator<Item = (&'a Line, u64)>) -> Value {
    let item = |(line, quantity): (&Line, u64)| json!({"productId": line.key.product.as_str(), "location": line.key.location.as_str(), "quantity": quantity});
    lines.into_iter().filter(|(_, quantity)| *quantity > 0).map(item).collect()
}

fn head(key: &str, version: u64, name: &str, at: Timestamp, correlation_id: &str) -> Value {
    json!({
        "eventId": id(key, version, name),
        "eventType": name,
        "timestamp": text(at),
        "correlationId": correlation_id,
    })
}

fn id(key: &str, version: u64, name: &str) -> String {
    format!("{key}:{version}:{name}")
}

fn finish(key: &str, version: u64, name: &'static str, detail: Value) -> Event {
    Event { id: id(key, version, name), name, detail }
}

fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
