//! The list of products that are low or out, from the alerts that the publisher keeps: a moment behind, and bounded.

use std::collections::BTreeSet;

use super::catalog::{PageBuilder, ProductCursor, ProductList, key_text};
use super::error::StoreError;
use super::record::Item;
use super::record::text;
use super::retry::until_answered;
use super::{Invocation, Store, keys};
use crate::domain::{Level, Location, ProductId, excerpt};

/// Most alerts that one page reads in each shard of them, and how many at once.
const MAX_ALERTS: usize = 2_000;
const ALERTS_AT_ONCE: usize = 500;

impl Store {
    /// A page of the products that are low or out somewhere, at most `limit`, each at its first
    /// [`LOCATIONS_IN_LIST`](super::LOCATIONS_IN_LIST) locations.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn list_low_products(
        &self,
        after: Option<&ProductCursor>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<ProductList, StoreError> {
        let shards =
            (0..keys::ALERT_SHARDS).map(|shard| self.find_low_in_shard(shard, after, limit, invocation));
        let shards = futures::future::try_join_all(shards).await?;
        // Alerts after the place that a shard was read up to are not known yet.
        let read_to =
            shards.iter().filter_map(|shard| shard.read_to.clone()).min_by_key(ProductCursor::sort_key);
        let known =
            |alert: &ProductCursor| read_to.as_ref().is_none_or(|to| alert.sort_key() <= to.sort_key());
        let alerts = shards.into_iter().flat_map(|shard| shard.alerts).filter(known);
        let found: BTreeSet<ProductId> = alerts.map(|alert| alert.product).collect();
        let more = found.len() > limit;
        let page: Vec<ProductId> = found.into_iter().take(limit).collect();
        let next = match (more, read_to) {
            (true, _) => page.last().cloned().map(ProductCursor::after_product),
            (false, Some(to)) if page.last() == Some(&to.product) => {
                Some(ProductCursor::after_product(to.product))
            }
            (false, to) => to,
        };
        let mut builder = PageBuilder::default();
        builder.add_products(self, page, invocation).await?;
        Ok(builder.into_list(next))
    }

    /// The first alert of each low product of one shard.
    async fn find_low_in_shard(
        &self,
        shard: u8,
        after: Option<&ProductCursor>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<LowInShard, StoreError> {
        let mut low = LowInShard { alerts: Vec::new(), read_to: None };
        let mut after = after.map_or_else(|| " ".to_owned(), ProductCursor::sort_key);
        let mut left = MAX_ALERTS;
        loop {
            let most = left.min(ALERTS_AT_ONCE);
            let page = until_answered!(
                self,
                invocation,
                self.client
                    .query()
                    .table_name(&self.settings.inventory_table)
                    .key_condition_expression("pk = :shard AND sk > :after")
                    .expression_attribute_values(":shard", text(&keys::alert_partition(shard)))
                    .expression_attribute_values(":after", text(&after))
                    .filter_expression("#level <> :enough")
                    .expression_attribute_names("#level", "level")
                    .expression_attribute_values(":enough", text(Level::Enough.name()))
                    .limit(i32::try_from(most).unwrap_or(i32::MAX))
            );
            for alert in page.items.unwrap_or_default().iter().filter_map(alert_cursor) {
                if low.alerts.last().is_none_or(|last| last.product != alert.product) {
                    low.alerts.push(alert);
                }
            }
            left = left.saturating_sub(most);
            let Some(last) = page.last_evaluated_key else {
                low.read_to = None;
                return Ok(low);
            };
            let Some(to) = alert_cursor(&last) else {
                key_text(&last, keys::SK).clone_into(&mut after);
                continue;
            };
            let to = low.read_to.insert(to);
            if left == 0 || low.alerts.len() > limit {
                return Ok(low);
            }
            // The other locations of a product that is low are passed over.
            let is_found = low.alerts.last().is_some_and(|last| last.product == to.product);
            after = if is_found { format!("{}$", to.product) } else { to.sort_key() };
        }
    }
}

/// The alerts found in one shard.
struct LowInShard {
    /// One alert of each product that is low.
    alerts: Vec<ProductCursor>,
    /// The last alert that was read; none if the shard was read to its end.
    read_to: Option<ProductCursor>,
}

/// The position of an alert. A key that is not an alert's is logged and skipped, so that it does not fail every page.
fn alert_cursor(item: &Item) -> Option<ProductCursor> {
    let sk = key_text(item, keys::SK);
    let cursor = sk.split_once('#').and_then(|(product, location)| {
        Some(ProductCursor {
            product: ProductId::parse(product).ok()?,
            location: Some(Location::parse(location).ok()?),
        })
    });
    if cursor.is_none() {
        tracing::error!(outcome = "unreadable", error = "an alert", key = excerpt(sk));
    }
    cursor
}
