//! The parts of request and answer bodies that several routes share.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Problem, format_time};
use crate::domain::{
    Line, LineKey, Location, OrderId, OrderLines, ProductId, Quantity, Reservation, ReservationId, State,
    StockUnit, Target, Timestamp,
};
use crate::store::ShownProduct;

/// One line of an order or a shipment, as a client sends it.
#[derive(Debug, Deserialize)]
#[serde(from = "Object<Item>")]
pub struct ItemRequest {
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The location that they are taken from.
    pub location: Location,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    #[serde(alias = "sku", alias = "itemId")]
    product_id: ProductId,
    quantity: Quantity,
    #[serde(default)]
    location: Location,
    // A line may be sent as the shop has it; members that Holdfast has no use for are ignored.
    #[serde(default, rename = "unitPrice")]
    _unit_price: IgnoredAny,
    #[serde(default, rename = "price")]
    _price: IgnoredAny,
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
}

impl From<Object<Item>> for ItemRequest {
    fn from(Object(Item { product_id, quantity, location, .. }): Object<Item>) -> Self {
        Self { product_id, quantity, location }
    }
}

/// A JSON object. Without this type a list would be accepted as well, its entries taken for the members in order.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        value.deserialize_map(Members(PhantomData))
    }
}

/// Reads a member that may be left out but not be null: for members whose absence means a lot.
///
/// # Errors
/// If it is null or invalid.
pub fn refuse_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Sums up lines as a client sent them.
///
/// # Errors
/// 400 if there are none or too many, or if they add up to too much.
pub fn sum_order_lines(items: impl IntoIterator<Item = ItemRequest>) -> Result<OrderLines, Problem> {
    let lines = items
        .into_iter()
        .map(|item| (LineKey { product: item.product_id, location: item.location }, item.quantity));
    Ok(OrderLines::sum(lines)?)
}

/// The reservation that a request names, by either id; where both are given, they must agree.
///
/// # Errors
/// 400 if neither is given, or they do not.
pub fn find_target(
    reservation_id: Option<ReservationId>,
    order_id: Option<OrderId>,
) -> Result<Target, Problem> {
    match (reservation_id, order_id) {
        (None, None) => Err(Problem::invalid("either reservationId or orderId must be given")),
        (Some(id), Some(order_id)) if id != ReservationId::of(&order_id) => {
            Err(Problem::invalid("reservationId and orderId name different orders; one of them is enough"))
        }
        (_, Some(order_id)) => Ok(Target::Order(order_id)),
        (Some(id), None) => Ok(Target::Reservation(id)),
    }
}

/// A reservation, as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservationView {
    reservation_id: String,
    order_id: String,
    status: &'static str,
    /// The line of an order that has only one: it stands at the top as well, as the request sent it.
    #[serde(flatten)]
    one_line: Option<OneLineView>,
    items: Vec<LineView>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fulfilled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OneLineView {
    product_id: String,
    location: String,
    quantity: u64,
}

impl OneLineView {
    fn of(lines: &[Line]) -> Option<Self> {
        let mut ordered = lines.iter().filter(|line| line.is_ordered());
        let (Line { key, quantity, .. }, None) = (ordered.next()?, ordered.next()) else { return None };
        Some(Self {
            product_id: key.product.to_string(),
            location: key.location.to_string(),
            quantity: *quantity,
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LineView {
    product_id: String,
    location: String,
    quantity: u64,
    fulfilled_quantity: u64,
}

impl ReservationView {
    /// The reservation as it reads at a moment.
    #[must_use]
    pub fn at(now: Timestamp, reservation: &Reservation) -> Self {
        let line = |line: &Line| LineView {
            product_id: line.key.product.to_string(),
            location: line.key.location.to_string(),
            quantity: line.quantity,
            fulfilled_quantity: line.fulfilled,
        };
        Self {
            reservation_id: reservation.id.to_string(),
            order_id: reservation.order_id.to_string(),
            status: reservation.state_at(now).name(),
            one_line: OneLineView::of(&reservation.lines),
            items: reservation.lines.iter().map(line).collect(),
            created_at: format_time(reservation.created_at),
            expires_at: reservation.expires_at.map(format_time),
            confirmed_at: reservation.confirmed_at.map(format_time),
            released_at: reservation.released_at.map(format_time),
            fulfilled_at: reservation.fulfilled_at.map(format_time),
            reason: reservation.reason.as_ref().map(ToString::to_string),
        }
    }
}

/// A reservation that was asked for and is not decided yet, as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedView {
    reservation_id: String,
    order_id: String,
    status: &'static str,
}

impl AcceptedView {
    /// The reservation that this order will have.
    #[must_use]
    pub fn of(order_id: &OrderId) -> Self {
        Self {
            reservation_id: ReservationId::of(order_id).to_string(),
            order_id: order_id.to_string(),
            status: State::Pending.name(),
        }
    }
}

/// A product's stock, as clients see it: by location where there is more than one, and summed over the locations
/// that are shown. Where more locations follow, it has a cursor for them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductView {
    product_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    available_quantity: u64,
    reserved_quantity: u64,
    /// On hand: available and reserved.
    total_quantity: u64,
    sold_quantity: u64,
    /// Whether stock is low at any location.
    pub low_stock_alert: bool,
    low_stock_threshold: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_order: Option<u64>,
    /// When its first location began to exist; none where that is not known of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    /// When any location was written last; none where that was never kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<LocationView>,
    /// Asks for the locations that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_location_cursor: Option<String>,
}

/// A product's stock at one location.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocationView {
    location: String,
    available_quantity: u64,
    reserved_quantity: u64,
    total_quantity: u64,
    sold_quantity: u64,
    low_stock_alert: bool,
    low_stock_threshold: u64,
}

impl ProductView {
    /// The view of a product that was read.
    #[must_use]
    pub fn of(shown: &ShownProduct, default_threshold: u64) -> Self {
        let ShownProduct { units, head, more_after, is_whole } = shown;
        let created: Option<Vec<Timestamp>> = units.iter().map(|unit| unit.created_at).collect();
        let updated = units.iter().map(|unit| unit.updated_at).max();
        let locations: Vec<LocationView> =
            units.iter().map(|unit| LocationView::of(unit, default_threshold)).collect();
        Self {
            product_id: head.key.product.to_string(),
            name: head.name.clone(),
            available_quantity: units.iter().map(|unit| unit.available).sum(),
            reserved_quantity: units.iter().map(|unit| unit.reserved).sum(),
            total_quantity: units.iter().map(StockUnit::on_hand).sum(),
            sold_quantity: units.iter().map(|unit| unit.sold).sum(),
            low_stock_alert: locations.iter().any(|l| l.low_stock_alert),
            low_stock_threshold: head.low_stock_threshold.unwrap_or(default_threshold),
            max_per_order: head.max_per_order,
            created_at: created.and_then(|times| times.into_iter().min()).map(format_time),
            updated_at: updated.filter(|at| *at != Timestamp::UNIX_EPOCH).map(format_time),
            locations: if *is_whole && units.len() == 1 { Vec::new() } else { locations },
            next_location_cursor: more_after.as_ref().map(ToString::to_string),
        }
    }
}

impl ProductView {
    /// Whether it lies at locations that are not shown.
    #[must_use]
    pub fn has_more_locations(&self) -> bool {
        self.next_location_cursor.is_some()
    }
}

impl LocationView {
    fn of(unit: &StockUnit, default_threshold: u64) -> Self {
        let low_stock_threshold = unit.low_stock_threshold.unwrap_or(default_threshold);
        Self {
            location: unit.key.location.to_string(),
            available_quantity: unit.available,
            reserved_quantity: unit.reserved,
            total_quantity: unit.on_hand(),
            sold_quantity: unit.sold,
            low_stock_alert: unit.available <= low_stock_threshold,
            low_stock_threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_reservation_by_either_id_or_by_both() {
        let order = |id: &str| OrderId::parse(id).unwrap();
        let reservation = ReservationId::of(&order("o"));
        assert_eq!(find_target(None, Some(order("o"))).unwrap(), Target::Order(order("o")));
        assert_eq!(find_target(Some(reservation), None).unwrap(), Target::Reservation(reservation));
        // Only an order can begin a record, so it is the one that is kept.
        assert_eq!(find_target(Some(reservation), Some(order("o"))).unwrap(), Target::Order(order("o")));
        for (given, says) in [
            (find_target(None, None), "must be given"),
            (find_target(Some(reservation), Some(order("other"))), "name different orders"),
        ] {
            let problem = given.unwrap_err().to_json("c");
            assert!(problem.contains("\"status\":400") && problem.contains(says), "{problem}");
        }
    }
}
