//! Changes of items, parsed from the records of the table's stream.

use aws_lambda_events::event::dynamodb::EventRecord;

use super::alerts::parse_alert;
use super::error::StoreError;
use super::keys::{ALERT, PK, RESERVATION, SHARED_WRITE, STOCK};
use super::record::{parse_reservation, parse_stock_unit};
use crate::domain::{Alert, Reservation, ReservationId, SharedWrite, StockUnit};

/// A change of one item.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a batch has a hundred of them at most")]
pub enum StreamChange {
    /// A stock unit before (none: it was created) and after.
    Stock(Option<StockUnit>, StockUnit),
    /// A reservation before (none: it was created) and after.
    Reservation(Option<Reservation>, Reservation),
    /// The level of a stock unit: the alert after the change. It names the level before.
    Level(Alert),
    /// Another item, or one that was removed: no event is published.
    Other,
}

/// Reads whether this change was written by a transaction that several reservations share.
///
/// # Errors
/// If the attribute that says so is not one that this program writes.
pub fn parse_shared_write(record: &EventRecord) -> Result<Option<SharedWrite>, StoreError> {
    let change = &record.change;
    let Some(written) = change.new_image.get(SHARED_WRITE) else { return Ok(None) };
    // A later write that did not put the whole record has left it there.
    if change.old_image.get(SHARED_WRITE) == Some(written) {
        return Ok(None);
    }
    let parse = || {
        let (serde_dynamo::AttributeValue::S(written), serde_dynamo::AttributeValue::S(pk)) =
            (written, change.keys.get(PK)?)
        else {
            return None;
        };
        let (transaction, place) = written.split_once('#')?;
        let reservation = ReservationId::parse(pk.strip_prefix(RESERVATION)?).ok()?;
        Some(SharedWrite { transaction: transaction.to_owned(), place: place.parse().ok()?, reservation })
    };
    let corrupt = || StoreError::corrupt("a stream record", format!("{SHARED_WRITE} is {written:?}"));
    parse().map(Some).ok_or_else(corrupt)
}

/// Parses a stream record.
///
/// # Errors
/// If an image is not one that this program writes.
pub fn parse_change(record: EventRecord) -> Result<StreamChange, StoreError> {
    let change = record.change;
    let pk = match change.keys.get(PK) {
        Some(serde_dynamo::AttributeValue::S(pk)) => pk.clone(),
        other => return Err(StoreError::corrupt("a stream record", format!("its key is {other:?}"))),
    };
    // A record that was removed (by TTL) has no image after.
    if change.new_image.is_empty() {
        return Ok(StreamChange::Other);
    }
    let old = Some(change.old_image).filter(|image| !image.is_empty());
    if pk.starts_with(STOCK) {
        return Ok(StreamChange::Stock(
            old.map(parse_stock_unit).transpose()?,
            parse_stock_unit(change.new_image)?,
        ));
    }
    if pk.starts_with(RESERVATION) {
        return Ok(StreamChange::Reservation(
            old.map(parse_reservation).transpose()?,
            parse_reservation(change.new_image)?,
        ));
    }
    if pk.starts_with(ALERT) {
        return parse_alert(change.new_image).map(StreamChange::Level);
    }
    Ok(StreamChange::Other)
}
