//! Reads that decisions rest on: consistent and complete. `catalog.rs` has the reads that are only shown.

use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::error::{StoreError, classify};
use super::record::text;
use super::record::{Item, parse_reservation, parse_stock_unit};
use super::retry::{Attempts, until_answered};
use super::{Invocation, Store, keys};
use crate::domain::{Location, ProductId, Reservation, ReservationId, StockUnit, UnitKey};

/// Most products in one bulk check, and most keys in one `BatchGetItem`.
/// Source: Amazon DynamoDB API Reference, BatchGetItem.
pub const MAX_BATCH_READ: usize = 100;

impl Store {
    /// The reservation with this id.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn reservation(
        &self,
        id: ReservationId,
        invocation: &Invocation,
    ) -> Result<Option<Reservation>, StoreError> {
        let output = until_answered!(
            self,
            invocation,
            self.client
                .get_item()
                .table_name(&self.settings.inventory_table)
                .set_key(Some(keys::reservation(id)))
                .consistent_read(true)
        );
        output.item.map(parse_reservation).transpose()
    }

    /// The stock unit with this name.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn stock_unit(
        &self,
        unit: &UnitKey,
        invocation: &Invocation,
    ) -> Result<Option<StockUnit>, StoreError> {
        let output = until_answered!(
            self,
            invocation,
            self.client
                .get_item()
                .table_name(&self.settings.inventory_table)
                .set_key(Some(keys::stock_unit(unit)))
                .consistent_read(true)
        );
        output.item.map(parse_stock_unit).transpose()
    }

    /// All of a product's stock units, by location, however many there are. Empty if there is no such product.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn product(
        &self,
        product: &ProductId,
        invocation: &Invocation,
    ) -> Result<Vec<StockUnit>, StoreError> {
        let (mut units, mut start) = (Vec::new(), None);
        loop {
            let output = until_answered!(
                self,
                invocation,
                self.client
                    .query()
                    .table_name(&self.settings.inventory_table)
                    .key_condition_expression("pk = :partition")
                    .expression_attribute_values(":partition", text(&keys::product_partition(product, 0)))
                    .consistent_read(true)
                    .set_exclusive_start_key(start.clone())
            );
            for item in output.items.unwrap_or_default() {
                units.push(parse_stock_unit(item)?);
            }
            start = output.last_evaluated_key;
            if start.is_none() {
                return Ok(units);
            }
        }
    }

    /// The stock units of these products at location `main`, as far as they exist: at most
    /// [`MAX_BATCH_READ`], without duplicates.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn stock_at_main<'a>(
        &self,
        products: impl IntoIterator<Item = &'a ProductId>,
        invocation: &Invocation,
    ) -> Result<Vec<StockUnit>, StoreError> {
        let keys = products
            .into_iter()
            .map(|product| {
                keys::stock_unit(&UnitKey {
                    product: product.clone(),
                    location: Location::default(),
                    bucket: 0,
                })
            })
            .collect();
        self.stock_units(keys, invocation).await
    }

    /// Reads stock units by key, at most [`MAX_BATCH_READ`].
    pub(super) async fn stock_units(
        &self,
        keys: Vec<keys::Key>,
        invocation: &Invocation,
    ) -> Result<Vec<StockUnit>, StoreError> {
        self.items(keys, true, invocation).await?.into_iter().map(parse_stock_unit).collect()
    }

    /// Reads items by key, at most [`MAX_BATCH_READ`], and asks again for those that DynamoDB left unprocessed.
    pub(super) async fn items(
        &self,
        keys: Vec<keys::Key>,
        consistently: bool,
        invocation: &Invocation,
    ) -> Result<Vec<Item>, StoreError> {
        let table = &self.settings.inventory_table;
        let mut found = Vec::with_capacity(keys.len());
        let mut left = keys;
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        while !left.is_empty() {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(left.clone()))
                .consistent_read(consistently)
                .build()
                .map_err(|e| StoreError::corrupt("a batch of keys", e))?;
            let mut output = until_answered!(
                self,
                invocation,
                self.client.batch_get_item().request_items(table, wanted.clone())
            );
            let items = output.responses.as_mut().and_then(|tables| tables.remove(table)).unwrap_or_default();
            found.extend(items);
            left = output
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(table))
                .map(|unprocessed| unprocessed.keys)
                .unwrap_or_default();
            if !left.is_empty() {
                let detail = format!("{} keys were left unprocessed", left.len());
                attempts.pause(&super::error::Transient::not_applied(detail)).await?;
            }
        }
        Ok(found)
    }

    /// One read of the table, for a health check.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn ping(&self, invocation: &Invocation) -> Result<(), StoreError> {
        until_answered!(
            self,
            invocation,
            self.client
                .get_item()
                .table_name(&self.settings.inventory_table)
                .set_key(Some(keys::health_check()))
        );
        Ok(())
    }

    /// Opens the connection for the first request, by one read that finds nothing and is not retried.
    ///
    /// # Errors
    /// If there was no answer. The first request then opens the connection.
    pub async fn warm_up(&self) -> Result<(), StoreError> {
        let table = &self.settings.inventory_table;
        let read = self.client.get_item().table_name(table).set_key(Some(keys::health_check())).send().await;
        let Err(error) = read else { return Ok(()) };
        Err(StoreError::TryAgain(classify(&error)?.detail))
    }
}
