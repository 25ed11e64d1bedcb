//! Events as JSON, as they look on the bus. `events/published` has a schema and a sample of each.

use serde_json::{Map, Value, json};

use crate::domain::events::{Event, EventKind, Figures, Item, Subject};
use crate::domain::names::ShipmentId;
use crate::domain::{ConflictLine, Delta, Location, Reason, Shortage, Timestamp, UnitKey};

/// The detail of an event: its id and time, its subject, and the members of its kind. A member without a value is
/// left out.
#[must_use]
pub fn detail_of(event: &Event) -> Value {
    let head = json!({
        "eventId": event.id(),
        "eventType": event.kind.name(),
        "timestamp": time(event.at),
        "correlationId": event.correlation_id,
        "version": event.version,
    });
    let parts = [head, subject(&event.subject), what_happened(&event.kind)];
    let members = parts.into_iter().filter_map(|part| match part {
        Value::Object(members) => Some(members),
        _ => None,
    });
    members.flatten().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Reservation { id, order_id, .. } => {
            json!({"orderId": order_id.as_str(), "reservationId": id.to_string()})
        }
        Subject::Stock(unit) | Subject::Level { unit, .. } => {
            let UnitKey { product, location, .. } = unit;
            json!({"productId": product.as_str(), "location": location.as_str()})
        }
    }
}

fn what_happened(kind: &EventKind) -> Value {
    match kind {
        EventKind::InventoryReserved { items, expires_at } => {
            json!({"items": list(items, item), "expiresAt": expires_at.map(time)})
        }
        EventKind::StockReservationFailed { items, reason, shortages, is_paid } => json!({
            "items": list(items, item),
            "reason": reason.name(),
            "failedItems": list(shortages, shortage),
            "paid": is_paid,
        }),
        EventKind::InventoryConfirmed { items } | EventKind::ReservationExpired { items } => {
            json!({"items": list(items, item)})
        }
        EventKind::InventoryConfirmationRefused { items, reason } => {
            json!({"items": list(items, item), "reason": reason.name()})
        }
        EventKind::InventoryReleased { items, reason } => {
            json!({"items": list(items, item), "reason": reason.as_ref().map(Reason::as_str)})
        }
        EventKind::InventoryDeducted { items, is_complete, corrected_items } => {
            let corrected = Some(corrected_items).filter(|items| !items.is_empty());
            json!({
                "items": list(items, item),
                "complete": is_complete,
                "correctedItems": corrected.map(|items| list(items, item)),
            })
        }
        EventKind::PartialDeduction { items, missing_items } => {
            json!({"items": list(items, item), "failedItems": list(missing_items, item)})
        }
        EventKind::OrderConflict { items, conflict, count } => json!({
            "reason": conflict.kind.name(),
            "fact": conflict.fact.name(),
            "shipmentId": conflict.shipment.as_ref().map(ShipmentId::as_str),
            "heardAt": time(conflict.at),
            "items": list(items, item),
            "heardItems": list(&conflict.lines, conflict_line),
            "conflicts": count,
        }),
        EventKind::InventoryUpdated { figures, change }
        | EventKind::InventoryReplenished { figures, change } => {
            let Delta { available, reserved, sold } = change;
            let change = json!({"available": available, "reserved": reserved, "sold": sold});
            figures_with(figures, "change", change)
        }
        EventKind::LowStock { figures, stock_version }
        | EventKind::OutOfStock { figures, stock_version }
        | EventKind::BackInStock { figures, stock_version } => {
            figures_with(figures, "stockVersion", json!(stock_version))
        }
    }
}

/// Figures, and one member more.
fn figures_with(figures: &Figures, member: &str, value: Value) -> Value {
    let mut members = json!({
        "operation": figures.operation,
        "reference": figures.reference,
        "availableQuantity": figures.available,
        "reservedQuantity": figures.reserved,
        "totalQuantity": figures.on_hand(),
        "soldQuantity": figures.sold,
        "lowStockThreshold": figures.threshold,
    });
    members[member] = value;
    members
}

fn list<T>(of: &[T], to_json: fn(&T) -> Value) -> Value {
    of.iter().map(to_json).collect()
}

fn item(Item { product, location, quantity }: &Item) -> Value {
    json!({"productId": product.as_str(), "location": location.as_str(), "quantity": quantity})
}

fn shortage(Shortage { unit, requested, lack }: &Shortage) -> Value {
    json!({
        "productId": unit.product.as_str(),
        "location": unit.location.as_str(),
        "requestedQuantity": requested,
        "availableQuantity": lack.available(),
    })
}

/// A line as it was heard: with its location only where one was named.
fn conflict_line(ConflictLine { product, location, quantity }: &ConflictLine) -> Value {
    match location.as_ref().map(Location::as_str) {
        Some(location) => {
            json!({"productId": product.as_str(), "location": location, "quantity": quantity})
        }
        None => json!({"productId": product.as_str(), "quantity": quantity}),
    }
}

fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
