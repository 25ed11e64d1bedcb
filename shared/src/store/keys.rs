//! The keys of items. No other module builds one.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::{IdempotencyKey, Location, ProductId, ReservationId, UnitKey};

/// Partition key attribute of both tables.
pub(super) const PK: &str = "pk";
/// Sort key attribute of both tables.
pub(super) const SK: &str = "sk";

/// Sparse index of temporary holds: `expiryShard`, `expiresAt`, keys only.
pub const DUE_INDEX: &str = "due";
/// Sparse index of products: `catalogShard`, `productId`, keys only.
pub(super) const CATALOG_INDEX: &str = "catalog";
/// The one partition of the catalog index. It is written when a product is created, never when stock moves.
pub(super) const CATALOG: &str = "PRODUCT";

/// How many shards the `due` index is spread over, so that no single key of it is hot.
pub const EXPIRY_SHARDS: u8 = 16;

/// An item's key: the two attributes as DynamoDB takes them.
pub(super) type Key = HashMap<String, AttributeValue>;

fn key(pk: String, sk: &str) -> Key {
    HashMap::from([(PK.to_owned(), AttributeValue::S(pk)), (SK.to_owned(), AttributeValue::S(sk.to_owned()))])
}

/// The prefix of the partition keys of stock units.
pub(super) const STOCK: &str = "STOCK#";
/// The prefix of the partition keys of reservations.
pub(super) const RESERVATION: &str = "RES#";

/// The partition that holds one bucket of a product at every location.
pub(super) fn product_partition(product: &ProductId, bucket: u32) -> String {
    format!("{STOCK}{product}#{bucket}")
}

pub(super) fn stock_unit(unit: &UnitKey) -> Key {
    key(product_partition(&unit.product, unit.bucket), unit.location.as_str())
}

pub(super) fn reservation_partition(id: ReservationId) -> String {
    format!("{RESERVATION}{id}")
}

pub(super) fn reservation(id: ReservationId) -> Key {
    key(reservation_partition(id), RESERVATION_SORT)
}

/// The sort key of every reservation.
pub(super) const RESERVATION_SORT: &str = "RES";

pub(super) fn idempotency(operation: &str, idempotency_key: &IdempotencyKey) -> Key {
    key(format!("IDEM#{operation}#{idempotency_key}"), "IDEM")
}

/// A key that never has an item; reading it checks the connection.
pub(super) fn health_check() -> Key {
    key("HEALTH".to_owned(), "HEALTH")
}

/// The shard of the `due` index that a reservation is in while it is a temporary hold.
pub(super) fn expiry_shard(id: ReservationId) -> u8 {
    u8::try_from(id.spread() % u128::from(EXPIRY_SHARDS)).expect("a remainder of 16 fits a byte")
}

/// Reads a stock unit's name from its key attributes. None if they are not a stock unit's.
pub(super) fn parse_stock_unit(pk: &str, sk: &str) -> Option<UnitKey> {
    let (product, bucket) = pk.strip_prefix(STOCK)?.rsplit_once('#')?;
    Some(UnitKey {
        product: ProductId::parse(product).ok()?,
        location: Location::parse(sk).ok()?,
        bucket: bucket.parse().ok()?,
    })
}

/// The ledger's partition of a stock unit; its sort key is the version.
pub(super) fn ledger_partition(unit: &UnitKey) -> String {
    let UnitKey { product, location, bucket } = unit;
    format!("{product}#{bucket}#{location}")
}

/// The attribute of a reservation that names the shared transaction which wrote it, and its place there: `<id>#<place>`.
pub(super) const SHARED_WRITE: &str = "transaction";

/// The ledger's partition of a shared transaction; its sort key is the place of a reservation. A stock unit's has
/// another `#`.
pub(super) fn transaction_partition(id: &str) -> String {
    format!("TX#{id}")
}

/// The shards that alerts are spread over.
pub(super) const ALERT_SHARDS: u8 = 4;

/// The partition of one shard of alerts.
pub(super) fn alert_partition(shard: u8) -> String {
    format!("{ALERT}{shard}")
}

/// The prefix of the partition keys of alerts.
pub(super) const ALERT: &str = "ALERT#";

/// An alert's partition and sort key: its shard follows from its product, its sort key begins with it.
pub(super) fn alert_names(unit: &UnitKey) -> (String, String) {
    let UnitKey { product, location, .. } = unit;
    let sum = product.as_str().bytes().fold(0_u8, u8::wrapping_add);
    (alert_partition(sum % ALERT_SHARDS), format!("{product}#{location}"))
}

pub(super) fn alert(unit: &UnitKey) -> Key {
    let (pk, sk) = alert_names(unit);
    key(pk, &sk)
}

/// Reads the stock unit of an alert from its sort key. None if it is not an alert's.
pub(super) fn parse_alert(sk: &str) -> Option<UnitKey> {
    let (product, location) = sk.split_once('#')?;
    Some(UnitKey {
        product: ProductId::parse(product).ok()?,
        location: Location::parse(location).ok()?,
        bucket: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OrderId;

    #[test]
    fn holds_are_spread_over_the_index() {
        let shard = |i: u32| expiry_shard(ReservationId::of(&OrderId::parse(format!("o-{i}")).unwrap()));
        let mut held = [0_u32; EXPIRY_SHARDS as usize];
        (0..1_600).for_each(|i| held[usize::from(shard(i))] += 1);
        assert!(held.iter().all(|held| (50..200).contains(held)), "{held:?}");
    }
}
