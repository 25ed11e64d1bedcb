//! The reads of the reconciliation: every stock unit and every reservation, page by page. It has the only scan.

use super::error::StoreError;
use super::keys::RESERVATION;
use super::read::MAX_BATCH_READ;
use super::record::text;
use super::record::{Item, parse_reservation};
use super::retry::until_answered;
use super::{Invocation, Store, keys};
use crate::domain::{ProductId, Reservation, ReservationId, StockUnit};

/// The end of a page, where the next one begins.
#[derive(Debug, Clone)]
pub struct ScanCursor(Item);

/// A page of the reservations.
#[derive(Debug)]
pub struct ReservationPage {
    /// The reservations; where one cannot be read, why.
    pub reservations: Vec<Result<Reservation, StoreError>>,
    /// Where the next page begins; none after the last.
    pub next: Option<ScanCursor>,
}

/// A page of the stock units.
#[derive(Debug)]
pub struct UnitPage {
    /// The stock units.
    pub units: Vec<StockUnit>,
    /// Where the next page begins; none after the last.
    pub next: Option<ScanCursor>,
}

impl Store {
    /// A page of all reservations, in no particular order.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn scan_reservations(
        &self,
        start: Option<&ScanCursor>,
        invocation: &Invocation,
    ) -> Result<ReservationPage, StoreError> {
        let page = until_answered!(
            self,
            invocation,
            self.client
                .scan()
                .table_name(&self.settings.inventory_table)
                .filter_expression("begins_with(pk, :reservation)")
                .expression_attribute_values(":reservation", text(RESERVATION))
                .consistent_read(true)
                .set_exclusive_start_key(start.map(|cursor| cursor.0.clone()))
        );
        let reservations = page.items.unwrap_or_default().into_iter().map(parse_reservation).collect();
        Ok(ReservationPage { reservations, next: page.last_evaluated_key.map(ScanCursor) })
    }

    /// A page of the stock units of a product, or of all products: as the catalog lists them, read from the table.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn scan_units(
        &self,
        product: Option<&ProductId>,
        start: Option<&ScanCursor>,
        invocation: &Invocation,
    ) -> Result<UnitPage, StoreError> {
        let page = until_answered!(self, invocation, {
            let query = self.client.query().table_name(&self.settings.inventory_table);
            let query = match product {
                Some(product) => query
                    .key_condition_expression("pk = :product")
                    .expression_attribute_values(":product", text(&keys::product_partition(product, 0)))
                    .consistent_read(true),
                None => query
                    .index_name(keys::CATALOG_INDEX)
                    .key_condition_expression("catalogShard = :catalog")
                    .expression_attribute_values(":catalog", text(keys::CATALOG)),
            };
            query
                .limit(i32::try_from(MAX_BATCH_READ).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start.map(|cursor| cursor.0.clone()))
        });
        let mut wanted = Vec::new();
        for item in page.items.unwrap_or_default() {
            let attribute = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).map_or("", |s| s);
            let (pk, sk) = (attribute(keys::PK), attribute(keys::SK));
            let unit = keys::parse_stock_unit(pk, sk)
                .ok_or_else(|| StoreError::corrupt("a stock unit", format!("its key is {pk} {sk}")))?;
            wanted.push(keys::stock_unit(&unit));
        }
        let mut units = self.stock_units(wanted, invocation).await?;
        units.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(UnitPage { units, next: page.last_evaluated_key.map(ScanCursor) })
    }

    /// These reservations, as far as they exist.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn reservations_of(
        &self,
        ids: &[ReservationId],
        invocation: &Invocation,
    ) -> Result<Vec<Reservation>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_BATCH_READ) {
            for item in self.reservations(chunk, invocation).await? {
                found.push(parse_reservation(item)?);
            }
        }
        Ok(found)
    }
}
