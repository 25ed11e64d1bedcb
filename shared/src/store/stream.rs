//! Changes of items, parsed from the records of the table's stream.

use aws_lambda_events::event::dynamodb::EventRecord;

use super::alerts::parse_alert;
use super::error::StoreError;
use super::keys::{ALERT, PK, RESERVATION, STOCK};
use super::record::{parse_reservation, parse_stock_unit};
use crate::domain::{Alert, Reservation, StockUnit};

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
