//! Alerts: the level of a product at a location. Each has one item, brought up to date by the publisher and the
//! reconciliation, so that the list of low products is read without looking at all products.
//!
//! An alert is written in a transaction that checks two things: that the alert is still the one that was read, and that
//! the stock has the new level. So it is true when it is written, whoever else writes, and however late a write
//! arrives that was given up.
//!
//! A stock unit that has enough again keeps its alert for a day, with the level `enough`; a stock unit without an alert
//! has enough. If such alerts were kept for good, the list of low products would be a search among all of them.

use std::time::Duration;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, ConditionCheck, TransactWriteItem};
use serde::{Deserialize, Serialize};

use super::error::{CancellationCode, StoreError, Transient, classify};
use super::record::{CauseRecord, Item, number, purge_at};
use super::retry::{Attempts, until_answered};
use super::transaction::Cancelled;
use super::{Invocation, Store, keys};
use crate::domain::{Alert, Cause, Level, StockUnit, Timestamp, UnitKey};

/// How long an alert is kept after there is enough again: longer than any write can be delayed.
const ENOUGH_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertRecord {
    pk: String,
    sk: String,
    level: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    since: i64,
    available: u64,
    #[serde(default)]
    reserved: u64,
    #[serde(default)]
    sold: u64,
    threshold: u64,
    #[serde(default)]
    stock_version: u64,
    #[serde(default)]
    cause: CauseRecord,
    /// Only where there is enough: when TTL may remove the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purge_at: Option<i64>,
}

impl Store {
    /// Brings the level of a stock unit up to date with its stock and threshold. Returns the alert, and whether it was
    /// written now; none where there is no alert and none is needed.
    ///
    /// `began` is the level of the stock unit's first version, if the caller has it: see [`Alert::next`].
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn update_level(
        &self,
        unit: &UnitKey,
        began: Option<Level>,
        default_threshold: u64,
        invocation: &Invocation,
    ) -> Result<Option<(Alert, bool)>, StoreError> {
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        loop {
            // The alert first: stock that is read after it is no older than what the alert was made of.
            let was = self.alert(unit, invocation).await?;
            let Some(stock) = self.stock_unit(unit, invocation).await? else { return Ok(None) };
            let next = Alert::next(was.as_ref(), &stock, began, default_threshold, invocation.now);
            let Some(next) = next else { return Ok(was.map(|was| (was, false))) };
            match self.set_alert(&next, &stock).await? {
                None => return Ok(Some((next, true))),
                Some(failure) => attempts.pause(&failure).await?,
            }
        }
    }

    async fn alert(&self, unit: &UnitKey, invocation: &Invocation) -> Result<Option<Alert>, StoreError> {
        let output = until_answered!(
            self,
            invocation,
            self.client
                .get_item()
                .table_name(&self.settings.inventory_table)
                .set_key(Some(keys::alert(unit)))
                .consistent_read(true)
        );
        output.item.map(parse_alert).transpose()
    }

    /// Writes an alert, if the one before it is still there and the stock has its level. Returns why it did not.
    async fn set_alert(&self, alert: &Alert, stock: &StockUnit) -> Result<Option<Transient>, StoreError> {
        let put = self.put_version(alert_item(alert)?, alert.version)?;
        let request = self
            .client
            .transact_write_items()
            .transact_items(
                TransactWriteItem::builder()
                    .condition_check(self.check_level_unchanged(alert, stock)?)
                    .build(),
            )
            .transact_items(TransactWriteItem::builder().put(put).build());
        match request.send().await {
            Ok(_) => Ok(None),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    classify_cancellation(cancelled.cancellation_reasons()).map(Some)
                }
                _ => classify(&error).map(Some),
            },
        }
    }

    /// Checks that the stock still has the alert's level. Its figures may have changed: otherwise a product that sells
    /// all the while would never get its alert.
    fn check_level_unchanged(&self, alert: &Alert, stock: &StockUnit) -> Result<ConditionCheck, StoreError> {
        let own = match stock.low_stock_threshold {
            Some(_) => "lowStockThreshold = :threshold",
            None => "attribute_not_exists(lowStockThreshold)",
        };
        let level = match alert.level {
            Level::Enough => "available > :zero AND available > :threshold",
            Level::Low => "available > :zero AND available <= :threshold",
            Level::Out => "available = :zero",
        };
        let mut check = ConditionCheck::builder()
            .table_name(&self.settings.inventory_table)
            .set_key(Some(keys::stock_unit(&stock.key)))
            .condition_expression(format!("{level} AND {own}"))
            .expression_attribute_values(":zero", number(0));
        if stock.low_stock_threshold.is_some() || alert.level != Level::Out {
            check = check.expression_attribute_values(":threshold", number(alert.threshold));
        }
        check.build().map_err(|e| StoreError::corrupt("a write", e))
    }
}

/// Reads a cancelled transaction. A failed condition is no refusal: the alert or the stock has changed and is read
/// again.
fn classify_cancellation(reasons: &[CancellationReason]) -> Result<Transient, StoreError> {
    let reasons = Cancelled::read_all(reasons)?;
    let busy = reasons.iter().find_map(|cancelled| match cancelled.reason {
        CancellationCode::Busy(metric) => Some(Transient::busy(metric, "an alert or its stock unit")),
        CancellationCode::None | CancellationCode::ConditionFailed => None,
    });
    let changed = || {
        let failed = reasons.iter().any(Cancelled::has_failed);
        failed.then(|| Transient::not_applied("the alert or its stock unit changed meanwhile"))
    };
    busy.or_else(changed).ok_or_else(|| StoreError::corrupt("a cancelled transaction", "no reason given"))
}

fn alert_item(alert: &Alert) -> Result<Item, StoreError> {
    let Cause { operation, reference, correlation_id } = alert.cause.clone();
    let [available, reserved, sold] = alert.figures;
    let (pk, sk) = keys::alert_names(&alert.unit);
    let record = AlertRecord {
        pk,
        sk,
        level: alert.level.name().to_owned(),
        before: alert.before.map(|before| before.name().to_owned()),
        version: alert.version,
        created_at: Some(alert.created_at.as_millisecond()),
        since: alert.since.as_millisecond(),
        available,
        reserved,
        sold,
        threshold: alert.threshold,
        stock_version: alert.stock_version,
        cause: CauseRecord { operation, reference, correlation_id },
        purge_at: (alert.level == Level::Enough).then(|| purge_at(alert.since, ENOUGH_KEPT)),
    };
    serde_dynamo::to_item(record).map_err(|e| StoreError::corrupt("an alert to be written", e))
}

/// The alert in an item. An item of an earlier version has fewer attributes.
///
/// # Errors
/// If it is not one; then another program has written into the table.
pub(super) fn parse_alert(item: impl Into<serde_dynamo::Item>) -> Result<Alert, StoreError> {
    let record: AlertRecord =
        serde_dynamo::from_item(item.into()).map_err(|e| StoreError::corrupt("an alert", e))?;
    let name = record.sk.clone();
    from_record(record).ok_or_else(|| StoreError::corrupt("an alert", name))
}

fn from_record(record: AlertRecord) -> Option<Alert> {
    let level = |name: &str| Level::ALL.into_iter().find(|level| level.name() == name);
    let at = |ms: i64| Timestamp::from_millisecond(ms).ok();
    let CauseRecord { operation, reference, correlation_id } = record.cause;
    Some(Alert {
        unit: keys::parse_alert(&record.sk)?,
        level: level(&record.level)?,
        before: match &record.before {
            Some(before) => Some(level(before)?),
            None => None,
        },
        version: record.version,
        created_at: at(record.created_at.unwrap_or(record.since))?,
        since: at(record.since)?,
        figures: [record.available, record.reserved, record.sold],
        threshold: record.threshold,
        stock_version: record.stock_version,
        cause: Cause { operation, reference, correlation_id },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Location, ProductId};
    use crate::store::record::text;

    /// As the first version of this program wrote them: the version is the stock unit's, and nothing says where it
    /// came from.
    #[test]
    fn an_alert_of_an_earlier_version_is_readable_and_tells_nothing() {
        let item = Item::from([
            (keys::PK.to_owned(), text("ALERT#1")),
            (keys::SK.to_owned(), text("SHOE#main")),
            ("level".to_owned(), text("low")),
            ("since".to_owned(), number(5_000)),
            ("available".to_owned(), number(3)),
            ("threshold".to_owned(), number(10)),
            ("version".to_owned(), number(12)),
        ]);
        let alert = parse_alert(item).unwrap();
        assert_eq!((alert.level, alert.before, alert.version), (Level::Low, None, 12));
        assert_eq!((alert.figures, alert.created_at.as_millisecond()), ([3, 0, 0], 5_000));
        assert_eq!(crate::domain::events::event_of_level(&alert), None);
        assert_eq!(parse_alert(alert_item(&alert).unwrap()).unwrap(), alert);
    }

    #[test]
    fn only_an_alert_that_has_enough_is_ever_purged() {
        let unit = UnitKey {
            product: ProductId::parse("SHOE").unwrap(),
            location: Location::parse("north").unwrap(),
            bucket: 0,
        };
        let at = Timestamp::from_second(7).unwrap();
        for level in Level::ALL {
            let alert = Alert {
                unit: unit.clone(),
                level,
                before: Some(Level::Low),
                version: 2,
                created_at: at,
                since: at,
                figures: [1, 2, 3],
                threshold: 4,
                stock_version: 5,
                cause: Cause::default(),
            };
            let item = alert_item(&alert).unwrap();
            assert_eq!(item.contains_key("purgeAt"), level == Level::Enough, "{level:?}");
            assert_eq!(parse_alert(item).unwrap(), alert);
        }
    }
}
