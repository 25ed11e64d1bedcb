//! Items as they are stored, and their conversion to and from the domain.
//!
//! Times are epoch milliseconds, so that conditions compare them as numbers; `purgeAt` is epoch
//! seconds, as DynamoDB's TTL wants it. Attributes that an older version did not write are
//! optional here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod deliveries;

use deliveries::{
    ConflictRecord, DeliveriesRecord, conflict_record, deliveries_of, deliveries_record, fingerprint_of,
    parse_conflict, parse_deliveries,
};

use super::error::StoreError;
use super::keys;
use crate::domain::{
    Allocation, Cause, Conflicts, Fact, Fingerprint, Lack, Line, LineKey, Location, OrderId, ProductId,
    Reason, Reservation, ReservationId, ShipmentId, Shortage, State, StockUnit, Timestamp, UnitKey,
};

/// An item as the SDK gives and takes it.
pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn number(n: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

pub(super) fn text(s: &str) -> AttributeValue {
    AttributeValue::S(s.to_owned())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReservationRecord {
    pk: String,
    sk: String,
    order_id: String,
    #[serde(default)]
    lines: Vec<LineRecord>,
    state: String,
    facts: BTreeMap<String, i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Uuid>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    /// There only while the record belongs into the `due` index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry_shard: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fulfilled_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shortages: Vec<ShortageRecord>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    shipments: BTreeMap<String, Uuid>,
    /// Absent where it follows from the rest, as in every record of a version that did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deliveries: Option<DeliveriesRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<ConflictRecord>,
    #[serde(default, skip_serializing_if = "is_zero")]
    conflict_count: u64,
    #[serde(default)]
    correlation_id: String,
    version: u64,
    /// Only in states that nothing is held in: when TTL may remove the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purge_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineRecord {
    product_id: String,
    location: String,
    quantity: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allocations: Vec<AllocationRecord>,
    #[serde(default, skip_serializing_if = "is_zero")]
    fulfilled: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    missing: u64,
}

#[derive(Serialize, Deserialize)]
struct AllocationRecord {
    bucket: u32,
    quantity: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShortageRecord {
    product_id: String,
    location: String,
    #[serde(default)]
    bucket: u32,
    requested: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    available: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_per_order: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millisecond)
}

/// When TTL may remove a record that is written now.
pub(super) fn purge_at(now: Timestamp, retention: Duration) -> i64 {
    now.as_second().saturating_add_unsigned(retention.as_secs())
}

/// The item of a reservation.
pub(super) fn reservation_item(
    reservation: &Reservation,
    now: Timestamp,
    retention: Duration,
) -> Result<Item, StoreError> {
    let is_due_some_day = reservation.state == State::Reserved && reservation.expires_at.is_some();
    let record = ReservationRecord {
        pk: keys::reservation_partition(reservation.id),
        sk: keys::RESERVATION_SORT.to_owned(),
        order_id: reservation.order_id.to_string(),
        lines: reservation.lines.iter().map(line_record).collect(),
        state: reservation.state.name().to_owned(),
        facts: reservation.facts.iter().map(|(f, at)| (f.name().to_owned(), at.as_millisecond())).collect(),
        fingerprint: reservation.fingerprint.map(|Fingerprint(uuid)| uuid),
        created_at: reservation.created_at.as_millisecond(),
        updated_at: millis(Some(reservation.updated_at)),
        expires_at: millis(reservation.expires_at),
        expiry_shard: is_due_some_day.then(|| keys::expiry_shard(reservation.id)),
        confirmed_at: millis(reservation.confirmed_at),
        released_at: millis(reservation.released_at),
        fulfilled_at: millis(reservation.fulfilled_at),
        reason: reservation.reason.as_ref().map(Reason::to_string),
        shortages: reservation.shortages.iter().map(shortage_record).collect(),
        shipments: reservation.shipments.iter().map(|(id, f)| (id.to_string(), f.0)).collect(),
        deliveries: deliveries_record(reservation),
        refused_at: millis(reservation.refused_at),
        conflicts: reservation.conflicts.kept.iter().map(conflict_record).collect(),
        conflict_count: reservation.conflicts.count,
        correlation_id: reservation.correlation_id.clone(),
        version: reservation.version,
        purge_at: (!reservation.state.holds()).then(|| purge_at(now, retention)),
    };
    serde_dynamo::to_item(record).map_err(|e| StoreError::corrupt("a reservation to be written", e))
}

fn line_record(line: &Line) -> LineRecord {
    LineRecord {
        product_id: line.key.product.to_string(),
        location: line.key.location.to_string(),
        quantity: line.quantity,
        allocations: line
            .allocations
            .iter()
            .map(|&Allocation { bucket, quantity }| AllocationRecord { bucket, quantity })
            .collect(),
        fulfilled: line.fulfilled,
        missing: line.missing,
    }
}

fn shortage_record(shortage: &Shortage) -> ShortageRecord {
    let (available, max_per_order) = match shortage.lack {
        Lack::Unknown => (None, None),
        Lack::Short { available } => (Some(available), None),
        Lack::OverLimit { max_per_order } => (None, Some(max_per_order)),
    };
    ShortageRecord {
        product_id: shortage.unit.product.to_string(),
        location: shortage.unit.location.to_string(),
        bucket: shortage.unit.bucket,
        requested: shortage.requested,
        available,
        max_per_order,
    }
}

/// The reservation in an item.
///
/// # Errors
/// If it is not one; then another program has written into the table.
pub(super) fn parse_reservation(item: impl Into<serde_dynamo::Item>) -> Result<Reservation, StoreError> {
    let record: ReservationRecord =
        serde_dynamo::from_item(item.into()).map_err(|e| StoreError::corrupt("a reservation", e))?;
    let pk = record.pk.clone();
    from_record(record).map_err(|e| StoreError::corrupt(&pk, e))
}

fn from_record(record: ReservationRecord) -> Result<Reservation, Box<dyn std::error::Error + Send + Sync>> {
    let at = |ms: Option<i64>| ms.map(Timestamp::from_millisecond).transpose();
    let state = State::ALL.into_iter().find(|s| s.name() == record.state).ok_or("an unknown state")?;
    let mut facts = BTreeMap::new();
    for (name, ms) in record.facts {
        let fact = Fact::ALL.into_iter().find(|f| f.name() == name).ok_or("an unknown fact")?;
        facts.insert(fact, Timestamp::from_millisecond(ms)?);
    }
    let id = record.pk.strip_prefix("RES#").ok_or("another kind of key")?;
    let lines = record.lines.into_iter().map(parse_line).collect::<Result<Vec<_>, _>>()?;
    let deliveries = match record.deliveries {
        Some(deliveries) => parse_deliveries(deliveries)?,
        None => deliveries_of(&lines, &facts),
    };
    let updated_at = record.updated_at.unwrap_or(record.created_at);
    // Versions that did not note it told it at about that time, if at all.
    let is_refused =
        facts.contains_key(&Fact::Paid) && (facts.contains_key(&Fact::Cancelled) || state == State::Rejected);
    Ok(Reservation {
        id: ReservationId::parse(id)?,
        order_id: OrderId::parse(record.order_id)?,
        fingerprint: record.fingerprint.map(Fingerprint).or_else(|| fingerprint_of(&lines)),
        lines,
        state,
        facts,
        created_at: Timestamp::from_millisecond(record.created_at)?,
        updated_at: Timestamp::from_millisecond(updated_at)?,
        expires_at: at(record.expires_at)?,
        confirmed_at: at(record.confirmed_at)?,
        released_at: at(record.released_at)?,
        fulfilled_at: at(record.fulfilled_at)?,
        reason: record.reason.map(Reason::parse).transpose()?,
        shortages: record.shortages.into_iter().map(parse_shortage).collect::<Result<_, _>>()?,
        shipments: record
            .shipments
            .into_iter()
            .map(|(id, uuid)| Ok((ShipmentId::parse(id)?, Fingerprint(uuid))))
            .collect::<Result<_, crate::domain::Invalid>>()?,
        deliveries,
        refused_at: at(record.refused_at.or(is_refused.then_some(updated_at)))?,
        conflicts: Conflicts {
            kept: record.conflicts.into_iter().map(parse_conflict).collect::<Result<_, _>>()?,
            count: record.conflict_count,
        },
        correlation_id: record.correlation_id,
        version: record.version,
    })
}

fn parse_line(line: LineRecord) -> Result<Line, crate::domain::Invalid> {
    Ok(Line {
        key: LineKey {
            product: ProductId::parse(line.product_id)?,
            location: Location::parse(line.location)?,
        },
        quantity: line.quantity,
        allocations: line
            .allocations
            .into_iter()
            .map(|AllocationRecord { bucket, quantity }| Allocation { bucket, quantity })
            .collect(),
        fulfilled: line.fulfilled,
        missing: line.missing,
    })
}

fn parse_shortage(shortage: ShortageRecord) -> Result<Shortage, crate::domain::Invalid> {
    let lack = match (shortage.available, shortage.max_per_order) {
        (_, Some(max_per_order)) => Lack::OverLimit { max_per_order },
        (Some(available), None) => Lack::Short { available },
        (None, None) => Lack::Unknown,
    };
    let unit = UnitKey {
        product: ProductId::parse(shortage.product_id)?,
        location: Location::parse(shortage.location)?,
        bucket: shortage.bucket,
    };
    Ok(Shortage { unit, requested: shortage.requested, lack })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StockUnitRecord {
    pk: String,
    sk: String,
    available: u64,
    reserved: u64,
    sold: u64,
    version: u64,
    #[serde(default)]
    physical: u64,
    low_stock_threshold: Option<u64>,
    max_per_order: Option<u64>,
    name: Option<String>,
    /// 0: it began to exist before this was kept.
    #[serde(default)]
    created_at: i64,
    #[serde(default)]
    updated_at: i64,
    #[serde(default)]
    cause: CauseRecord,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CauseRecord {
    pub(super) operation: String,
    pub(super) reference: String,
    pub(super) correlation_id: String,
}

/// The stock unit in an item.
///
/// # Errors
/// If it is not one; then another program has written into the table.
pub(super) fn parse_stock_unit(item: impl Into<serde_dynamo::Item>) -> Result<StockUnit, StoreError> {
    let item = item.into();
    let name = format!("the stock unit {:?}", item.get(keys::PK));
    let record: StockUnitRecord = serde_dynamo::from_item(item).map_err(|e| StoreError::corrupt(&name, e))?;
    let key = keys::parse_stock_unit(&record.pk, &record.sk)
        .ok_or_else(|| StoreError::corrupt("a stock unit", format!("its key is {}", record.pk)))?;
    let CauseRecord { operation, reference, correlation_id } = record.cause;
    let time = |ms| Timestamp::from_millisecond(ms).map_err(|e| StoreError::corrupt("a stock unit", e));
    Ok(StockUnit {
        key,
        available: record.available,
        reserved: record.reserved,
        sold: record.sold,
        version: record.version,
        physical: record.physical,
        low_stock_threshold: record.low_stock_threshold,
        max_per_order: record.max_per_order,
        name: record.name,
        created_at: (record.created_at != 0).then(|| time(record.created_at)).transpose()?,
        updated_at: time(record.updated_at)?,
        cause: Cause { operation, reference, correlation_id },
    })
}

/// A stock operation and its answer, kept under its `Idempotency-Key`.
#[derive(Deserialize)]
pub(super) struct IdempotencyItem {
    fingerprint: Uuid,
    pub(super) answer: String,
}

impl IdempotencyItem {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.fingerprint)
    }
}
