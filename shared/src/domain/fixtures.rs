//! Values for tests, each from a short text: `A` is a product where it lies by default, `A@east` one elsewhere.

use super::events::Item;
use super::{
    DeliveredLines, Delivery, Fact, Heard, Invalid, Lack, LineKey, Location, OrderLines, Ordered, ProductId,
    Quantity, ShipmentId, Shortage, StockUnit, Timestamp, UnitKey,
};

/// A value from a text that a test has written, which is a valid one.
pub fn valid<T>(parsed: Result<T, Invalid>) -> T {
    parsed.unwrap_or_else(|Invalid(sentence)| panic!("{sentence}"))
}

/// The product, and its location where that is named.
fn place(name: &str) -> (ProductId, Option<Location>) {
    let (product, location) = name.split_once('@').map_or((name, None), |(p, l)| (p, Some(l)));
    (valid(ProductId::parse(product)), location.map(|location| valid(Location::parse(location))))
}

/// The stock unit of a product.
#[must_use]
pub fn unit_key(name: &str) -> UnitKey {
    line(name, 1).0.unit(0)
}

/// One line of an order.
#[must_use]
pub fn line(name: &str, quantity: u64) -> (LineKey, Quantity) {
    let (product, location) = place(name);
    (LineKey { product, location: location.unwrap_or_default() }, valid(Quantity::new(quantity)))
}

/// The lines of an order.
#[must_use]
pub fn lines(of: &[(&str, u64)]) -> OrderLines {
    valid(OrderLines::sum(of.iter().map(|&(name, quantity)| line(name, quantity))))
}

/// The lines of a delivery. Here `A` is a product whose location was not named.
#[must_use]
pub fn delivered_lines(of: &[(&str, u64)]) -> DeliveredLines {
    valid(DeliveredLines::sum(of.iter().map(|&(name, quantity)| {
        let (product, location) = place(name);
        (product, location, valid(Quantity::new(quantity)))
    })))
}

/// The stock unit that such a shortage is seen of; none where it is not known.
#[must_use]
pub fn lacking(shortage: &Shortage) -> Option<StockUnit> {
    let there = StockUnit::empty(shortage.unit.clone(), Timestamp::UNIX_EPOCH);
    match shortage.lack {
        Lack::Unknown => None,
        Lack::Short { available } => Some(StockUnit { available, ..there }),
        Lack::OverLimit { max_per_order } => {
            let (available, max_per_order) = (shortage.requested, Some(max_per_order));
            Some(StockUnit { available, max_per_order, ..there })
        }
    }
}

/// The items of an event.
#[must_use]
pub fn items(of: &[(&str, u64)]) -> Vec<Item> {
    let item = |&(name, quantity): &(&str, u64)| {
        let UnitKey { product, location, .. } = unit_key(name);
        Item { product, location, quantity }
    };
    of.iter().map(item).collect()
}

/// A delivery: of all without lines, of a shipment with an id, otherwise of totals.
#[must_use]
pub fn delivery(shipment: Option<&str>, of: &[(&str, u64)]) -> Delivery {
    match shipment {
        _ if of.is_empty() => Delivery::All,
        Some(id) => Delivery::Shipment(valid(ShipmentId::parse(id)), delivered_lines(of)),
        None => Delivery::Total(delivered_lines(of)),
    }
}

/// That a shipment has left.
#[must_use]
pub fn shipment(id: &str, of: &[(&str, u64)]) -> Heard {
    Heard::Delivered(delivery(Some(id), of))
}

/// A fact as an event tells it, with the lines of the order or of the delivery.
#[must_use]
pub fn fact_with(fact: Fact, of: &[(&str, u64)]) -> Heard {
    match fact {
        Fact::Created => Heard::Created(Ordered::Lines(lines(of))),
        Fact::PaymentFailed => Heard::PaymentFailed,
        Fact::Paid => Heard::Paid,
        Fact::Cancelled => Heard::Cancelled,
        Fact::Delivered => Heard::Delivered(delivery(None, of)),
    }
}
