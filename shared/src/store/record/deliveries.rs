//! Deliveries and contradictions in the item of a reservation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::is_zero;
use crate::domain::{
    Claim, Claims, Conflict, ConflictKind, ConflictLine, Deliveries, Fact, Fingerprint, Invalid, Line,
    Location, OrderLines, ProductId, Quantity, Reservation, ShipmentId, Timestamp,
};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveriesRecord {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    totals: BTreeMap<String, ClaimRecord>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    shipped: BTreeMap<String, ClaimRecord>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bookings_stay: bool,
}

#[derive(Serialize, Deserialize)]
struct ClaimRecord {
    total: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    at: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConflictRecord {
    kind: String,
    fact: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shipment_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<ConflictLineRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines_fingerprint: Option<Uuid>,
    at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConflictLineRecord {
    product_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    quantity: u64,
}

/// The deliveries of an order whose item has no such attribute. Units that have left were shipped from the location of
/// their line; a delivery that waits for the order's lines is one of everything.
pub(super) fn deliveries_of(lines: &[Line], facts: &BTreeMap<Fact, Timestamp>) -> Deliveries {
    let all = lines.is_empty() && facts.contains_key(&Fact::Delivered);
    let mut deliveries = Deliveries { all, ..Deliveries::default() };
    for line in lines.iter().filter(|line| line.departed_units() > 0) {
        deliveries.shipped.add_line(&line.key, line.departed_units());
    }
    deliveries
}

/// The fingerprint of the lines that were ordered, where an old record does not have it.
pub(super) fn fingerprint_of(lines: &[Line]) -> Option<Fingerprint> {
    let ordered =
        lines.iter().filter_map(|line| Some((line.key.clone(), Quantity::new(line.quantity).ok()?)));
    OrderLines::sum(ordered).ok().map(|lines| lines.fingerprint())
}

/// None where [`deliveries_of`] says the same.
pub(super) fn deliveries_record(reservation: &Reservation) -> Option<DeliveriesRecord> {
    let Deliveries { all, totals, shipped, bookings_stay } = &reservation.deliveries;
    if deliveries_of(&reservation.lines, &reservation.facts) == reservation.deliveries {
        return None;
    }
    Some(DeliveriesRecord {
        all: *all,
        totals: claims_record(totals),
        shipped: claims_record(shipped),
        bookings_stay: *bookings_stay,
    })
}

fn claims_record(claims: &Claims) -> BTreeMap<String, ClaimRecord> {
    let record = |claim: &Claim| ClaimRecord {
        total: claim.total,
        at: claim.at.iter().map(|(location, quantity)| (location.to_string(), *quantity)).collect(),
    };
    claims.0.iter().map(|(product, claim)| (product.to_string(), record(claim))).collect()
}

pub(super) fn parse_deliveries(record: DeliveriesRecord) -> Result<Deliveries, Invalid> {
    let DeliveriesRecord { all, totals, shipped, bookings_stay } = record;
    Ok(Deliveries { all, totals: parse_claims(totals)?, shipped: parse_claims(shipped)?, bookings_stay })
}

fn parse_claims(record: BTreeMap<String, ClaimRecord>) -> Result<Claims, Invalid> {
    let mut claims = Claims::default();
    for (product, ClaimRecord { total, at }) in record {
        let at = at.into_iter().map(|(location, quantity)| Ok((Location::parse(location)?, quantity)));
        let claim = Claim { total, at: at.collect::<Result<_, Invalid>>()? };
        claims.0.insert(ProductId::parse(product)?, claim);
    }
    Ok(claims)
}

pub(super) fn conflict_record(conflict: &Conflict) -> ConflictRecord {
    let line = |line: &ConflictLine| ConflictLineRecord {
        product_id: line.product.to_string(),
        location: line.location.as_ref().map(ToString::to_string),
        quantity: line.quantity,
    };
    ConflictRecord {
        kind: conflict.kind.name().to_owned(),
        fact: conflict.fact.name().to_owned(),
        shipment_id: conflict.shipment.as_ref().map(ToString::to_string),
        lines: conflict.lines.iter().map(line).collect(),
        lines_fingerprint: conflict.lines_fingerprint.map(|Fingerprint(uuid)| uuid),
        at: conflict.at.as_millisecond(),
    }
}

pub(super) fn parse_conflict(
    record: ConflictRecord,
) -> Result<Conflict, Box<dyn std::error::Error + Send + Sync>> {
    let ConflictRecord { kind, fact, shipment_id, lines, lines_fingerprint, at } = record;
    let line = |line: ConflictLineRecord| {
        Ok(ConflictLine {
            product: ProductId::parse(line.product_id)?,
            location: line.location.map(Location::parse).transpose()?,
            quantity: line.quantity,
        })
    };
    Ok(Conflict {
        kind: ConflictKind::ALL.into_iter().find(|k| k.name() == kind).ok_or("an unknown contradiction")?,
        fact: Fact::ALL.into_iter().find(|f| f.name() == fact).ok_or("an unknown fact")?,
        shipment: shipment_id.map(ShipmentId::parse).transpose()?,
        lines: lines.into_iter().map(line).collect::<Result<_, Invalid>>()?,
        lines_fingerprint: lines_fingerprint.map(Fingerprint),
        at: Timestamp::from_millisecond(at)?,
    })
}
