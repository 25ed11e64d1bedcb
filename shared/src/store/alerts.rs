//! Alerts: which stock units are low or out. One item for each, kept by the publisher, so that a list of
//! them is read without looking at all products.
//!
//! A stock unit that has enough again keeps its item for a day, as one that says so. Were it deleted, a write
//! of before that arrives late would find nothing newer, and the alert would stand for good.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;

use super::commit::{number, text};
use super::error::{StoreError, Transient, classify};
use super::record::{Item, purge_at};
use super::retry::{Attempts, until_answered};
use super::{Invocation, Store, keys};
use crate::domain::events::Level;
use crate::domain::{ProductId, StockUnit};

/// How long is kept that a stock unit has enough again: longer than any write is on its way.
const ENOUGH_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The level of a stock unit that has enough.
const ENOUGH: &str = "enough";

impl Store {
    /// Notes how a stock unit stands. A note of an older version than the one that is there is not taken.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn set_alert(
        &self,
        unit: &StockUnit,
        default_threshold: u64,
        invocation: &Invocation,
    ) -> Result<(), StoreError> {
        let newer = "attribute_not_exists(pk) OR version <= :version";
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        loop {
            let put = self
                .client
                .put_item()
                .table_name(&self.settings.inventory_table)
                .set_item(Some(alert_item(unit, default_threshold)))
                .condition_expression(newer)
                .expression_attribute_values(":version", number(unit.version));
            let failed = put.send().await.err().map(|error| unless_newer(&error));
            match failed.transpose()?.flatten() {
                None => return Ok(()),
                Some(failure) => attempts.pause(&failure).await?,
            }
        }
    }

    /// The products after `after` that are low or out somewhere, by id, at most `limit`; and whether more
    /// follow.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn low_products(
        &self,
        after: Option<&ProductId>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<(Vec<ProductId>, bool), StoreError> {
        let shards = (0..keys::ALERT_SHARDS).map(|shard| self.low_in_shard(shard, after, limit, invocation));
        let mut products = BTreeSet::new();
        for found in futures::future::join_all(shards).await {
            products.extend(found?);
        }
        let more = products.len() > limit;
        Ok((products.into_iter().take(limit).collect(), more))
    }

    /// The first products of one shard, one more than `limit`.
    async fn low_in_shard(
        &self,
        shard: u8,
        after: Option<&ProductId>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<BTreeSet<ProductId>, StoreError> {
        let mut products = BTreeSet::new();
        let mut start = None;
        // `$` is the character after `#`: beyond every location of the product.
        let after = AttributeValue::S(after.map_or(" ".to_owned(), |after| format!("{after}$")));
        loop {
            let page = until_answered!(
                self,
                invocation,
                self.client
                    .query()
                    .table_name(&self.settings.inventory_table)
                    .key_condition_expression("pk = :shard AND sk > :after")
                    .expression_attribute_values(":shard", text(&keys::alert_partition(shard)))
                    .expression_attribute_values(":after", after.clone())
                    .filter_expression("#level <> :enough")
                    .expression_attribute_names("#level", "level")
                    .expression_attribute_values(":enough", text(ENOUGH))
                    .limit(i32::try_from(limit + 1).unwrap_or(i32::MAX))
                    .consistent_read(true)
                    .set_exclusive_start_key(start.clone())
            );
            for item in page.items.unwrap_or_default() {
                let sk = item.get(keys::SK).and_then(|sk| sk.as_s().ok());
                let product =
                    sk.and_then(|sk| sk.split_once('#')).map(|(product, _)| ProductId::parse(product));
                match product {
                    Some(Ok(product)) => products.insert(product),
                    _ => return Err(StoreError::corrupt("an alert", format!("its key is {sk:?}"))),
                };
            }
            start = page.last_evaluated_key;
            if start.is_none() || products.len() > limit {
                return Ok(products);
            }
        }
    }
}

/// A newer note that is there already is as good as ours; whatever else failed is sorted.
fn unless_newer<E>(error: &SdkError<E>) -> Result<Option<Transient>, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some("ConditionalCheckFailedException") => Ok(None),
        _ => classify(error).map(Some),
    }
}

fn alert_item(unit: &StockUnit, default_threshold: u64) -> Item {
    let mut item = keys::alert(&unit.key);
    let level = match unit.level(default_threshold) {
        Level::Out => "out",
        Level::Low => "low",
        Level::Enough => {
            item.insert("purgeAt".to_owned(), number(purge_at(unit.updated_at, ENOUGH_KEPT)));
            ENOUGH
        }
    };
    item.insert("level".to_owned(), text(level));
    item.insert("since".to_owned(), number(unit.updated_at.as_millisecond()));
    item.insert("available".to_owned(), number(unit.available));
    item.insert("threshold".to_owned(), number(unit.low_stock_threshold.unwrap_or(default_threshold)));
    item.insert("version".to_owned(), number(unit.version));
    item
}
