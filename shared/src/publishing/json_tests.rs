//! Each kind of event is, on the bus, what its sample in `events/published` shows.

use super::*;
use crate::domain::events::{ConfirmationRefusal, NAMES, ReservationFailure};
use crate::domain::fixtures::{self, unit_key};
use crate::domain::{Conflict, ConflictKind, Fact, Fingerprint, Lack, OrderId, ReservationId};

fn unit() -> UnitKey {
    unit_key("LAPTOP-001")
}

fn items(quantity: u64) -> Vec<Item> {
    fixtures::items(&[("LAPTOP-001", quantity)])
}

fn figures(available: u64, reserved: u64, (operation, reference): (&str, &str)) -> Figures {
    let (operation, reference) = (operation.to_owned(), reference.to_owned());
    Figures { available, reserved, sold: 0, threshold: 10, operation, reference }
}

/// The order created again, with six of the product.
fn conflict() -> Conflict {
    Conflict {
        kind: ConflictKind::OtherLines,
        fact: Fact::Created,
        shipment: None,
        lines: vec![ConflictLine {
            product: unit().product,
            location: Some(Location::default()),
            quantity: 6,
        }],
        lines_fingerprint: None,
        at: at("2026-11-20T10:39:48.894Z"),
    }
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// An event of this kind, of the subject that the samples are of.
fn event(kind: EventKind) -> Event {
    let (created_at, order_id) = (at("2026-11-20T10:39:48.894Z"), OrderId::parse("order-123").unwrap());
    let (subject, version) = match kind {
        EventKind::InventoryUpdated { .. } | EventKind::InventoryReplenished { .. } => {
            (Subject::Stock(unit()), 2)
        }
        EventKind::LowStock { .. } | EventKind::OutOfStock { .. } | EventKind::BackInStock { .. } => {
            (Subject::Level { unit: unit(), created_at: at("2026-11-20T10:20:00Z") }, 3)
        }
        _ => {
            let version = if matches!(kind, EventKind::OrderConflict { .. }) { 2 } else { 1 };
            (Subject::Reservation { id: ReservationId::of(&order_id), order_id, created_at }, version)
        }
    };
    let correlation_id = "checkout-7".to_owned();
    Event { subject, version, at: created_at, correlation_id, is_republished: false, kind }
}

#[test]
fn each_kind_is_on_the_bus_what_its_sample_shows() {
    let five = || items(5);
    let shortage = Shortage { unit: unit(), requested: 5, lack: Lack::Short { available: 3 } };
    let reserve = ("reserve", "61c27f36-5444-5c71-b7cd-e8410b1ac5db");
    let add = ("add", "delivery-1");
    let hold = Delta { available: -5, reserved: 5, sold: 0 };
    let kinds = [
        EventKind::InventoryReserved { items: five(), expires_at: Some(at("2026-11-20T10:54:48.894Z")) },
        EventKind::StockReservationFailed {
            items: five(),
            reason: ReservationFailure::InsufficientStock,
            shortages: vec![shortage],
            is_paid: false,
        },
        EventKind::InventoryConfirmed { items: five() },
        EventKind::InventoryConfirmationRefused { items: five(), reason: ConfirmationRefusal::Cancelled },
        EventKind::InventoryReleased { items: five(), reason: Some(Reason::payment_failed()) },
        EventKind::ReservationExpired { items: five() },
        EventKind::InventoryDeducted { items: five(), is_complete: true, corrected_items: Vec::new() },
        EventKind::PartialDeduction { items: items(3), missing_items: items(2) },
        EventKind::OrderConflict { items: five(), conflict: conflict(), count: 1 },
        EventKind::InventoryUpdated { figures: figures(95, 5, reserve), change: hold },
        EventKind::InventoryReplenished {
            figures: figures(120, 0, add),
            change: Delta { available: 25, reserved: 0, sold: 0 },
        },
        EventKind::LowStock { figures: figures(8, 5, reserve), stock_version: 2 },
        EventKind::OutOfStock { figures: figures(0, 5, reserve), stock_version: 2 },
        EventKind::BackInStock { figures: figures(25, 0, add), stock_version: 2 },
    ];
    assert_eq!(kinds.each_ref().map(EventKind::name), NAMES);
    for kind in kinds {
        let name = kind.name();
        let file = format!("{}/../events/published/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let sample: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(detail_of(&event(kind)), sample, "{name}");
    }
}

#[test]
fn what_has_no_value_is_left_out() {
    let members = |kind: EventKind, member: &str| detail_of(&event(kind)).get(member).cloned();
    let reserved = EventKind::InventoryReserved { items: items(1), expires_at: None };
    assert_eq!(members(reserved, "expiresAt"), None);
    let released = EventKind::InventoryReleased { items: items(1), reason: None };
    assert_eq!(members(released, "reason"), None);
    // A list is there, also where nothing is in it; only that of corrections is not.
    let nothing =
        EventKind::InventoryDeducted { items: Vec::new(), is_complete: false, corrected_items: Vec::new() };
    assert_eq!(members(nothing.clone(), "items"), Some(json!([])));
    assert_eq!(members(nothing, "correctedItems"), None);
    let corrected =
        EventKind::InventoryDeducted { items: Vec::new(), is_complete: true, corrected_items: items(3) };
    let three = json!([{"productId": "LAPTOP-001", "location": "main", "quantity": 3}]);
    assert_eq!(members(corrected, "correctedItems"), Some(three));
}

#[test]
fn a_contradiction_is_shown_as_it_was_heard() {
    let heard = Conflict {
        kind: ConflictKind::ShipmentDiffers,
        fact: Fact::Delivered,
        shipment: Some(ShipmentId::parse("s-1").unwrap()),
        lines: vec![ConflictLine { product: unit().product, location: None, quantity: 6 }],
        ..conflict()
    };
    let detail =
        detail_of(&event(EventKind::OrderConflict { items: items(1), conflict: heard.clone(), count: 7 }));
    assert_eq!(detail["shipmentId"], "s-1");
    assert_eq!(detail["heardItems"], json!([{"productId": "LAPTOP-001", "quantity": 6}]));
    assert_eq!((&detail["fact"], &detail["reason"]), (&json!("delivered"), &json!("shipment_differs")));
    assert_eq!(detail["conflicts"], 7);
    let too_many = Conflict { lines: Vec::new(), lines_fingerprint: Some(Fingerprint::of("lines")), ..heard };
    let detail =
        detail_of(&event(EventKind::OrderConflict { items: Vec::new(), conflict: too_many, count: 8 }));
    assert_eq!((&detail["items"], &detail["heardItems"]), (&json!([]), &json!([])));
}

#[test]
fn what_is_republished_has_an_id_of_its_own() {
    let event = event(EventKind::InventoryConfirmed { items: items(1) });
    let again = Event { is_republished: true, ..event.clone() };
    let id = format!("{}:republished", detail_of(&event)["eventId"].as_str().unwrap());
    assert_eq!(detail_of(&again)["eventId"], id);
}

/// Of an unknown product, and of one above its limit, nothing was there for the taking.
#[test]
fn a_shortage_tells_what_was_available() {
    for (lack, available) in
        [(Lack::Short { available: 3 }, 3), (Lack::Unknown, 0), (Lack::OverLimit { max_per_order: 2 }, 0)]
    {
        let shown = shortage(&Shortage { unit: unit(), requested: 5, lack });
        assert_eq!(
            (&shown["requestedQuantity"], &shown["availableQuantity"]),
            (&json!(5), &json!(available))
        );
    }
}

/// Consumers compare them.
#[test]
fn reasons_keep_their_names() {
    use ReservationFailure::*;
    let failures =
        [InsufficientStock, UnknownProduct, PurchaseLimitExceeded, TooManyLines, Expired, PaymentFailed];
    let names = [
        "insufficient_stock",
        "unknown_product",
        "purchase_limit_exceeded",
        "too_many_lines",
        "expired",
        "payment_failed",
    ];
    assert_eq!(failures.map(ReservationFailure::name), names);
    let refusals = [ConfirmationRefusal::Cancelled, ConfirmationRefusal::Rejected];
    assert_eq!(refusals.map(ConfirmationRefusal::name), ["cancelled", "rejected"]);
}
