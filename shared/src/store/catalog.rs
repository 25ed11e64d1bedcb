//! Products as they are shown to anybody. Reads are eventually consistent, because nothing is promised, and bounded:
//! a product may lie at thousands of locations, and one record may be unreadable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::{StreamExt as _, TryStreamExt as _};

use super::error::StoreError;
use super::record::text;
use super::record::{Item, parse_stock_unit};
use super::retry::until_answered;
use super::{Invocation, MAX_BATCH_READ, Store, keys};
use crate::domain::{Invalid, Location, ProductId, StockUnit, UnitKey, excerpt};
use crate::planted;

/// Most locations of one product in one answer. A stock unit has about 300 bytes, and so has its part of the answer.
pub const MAX_LOCATIONS: usize = 500;

/// Most locations that a list shows of each product.
pub const LOCATIONS_IN_LIST: usize = 10;

/// Most entries of the catalog, one for each location of a product, that one page reads: 100 products that have as
/// many locations as a list shows. No page reads more stock units than that.
const MAX_ENTRIES: usize = MAX_PAGE * LOCATIONS_IN_LIST;

/// Most products in one page of a list.
pub const MAX_PAGE: usize = 100;

/// Reads of one page that are under way at once.
const READS_AT_ONCE: usize = 10;

/// A product, and some of the places where it lies.
#[derive(Debug)]
pub struct ShownProduct {
    /// Its stock units, by location.
    pub units: Vec<StockUnit>,
    /// The stock unit whose settings hold for the product as a whole: at `main`, or at the first location.
    pub head: StockUnit,
    /// The last location in `units`, where more follow it.
    pub more_after: Option<Location>,
    /// Whether these are all of its stock units.
    pub is_whole: bool,
}

/// A page of products.
#[derive(Debug)]
pub struct ProductList {
    /// The products, by id.
    pub products: Vec<ShownProduct>,
    /// Products of the page that have an unreadable record. They are not among `products`.
    pub unreadable: BTreeSet<ProductId>,
    /// Where the next page begins; none after the last. A page may have less than was asked for, and more follow.
    pub next: Option<ProductCursor>,
}

/// The end of a page of products: after a product or, in the list of low ones, within one that has very many locations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductCursor {
    pub(super) product: ProductId,
    pub(super) location: Option<Location>,
}

impl ProductCursor {
    /// Stands between product and location; neither has it, and it needs no escape in a query.
    const SIGN: char = '~';

    /// After all locations of a product.
    pub(super) fn after_product(product: ProductId) -> Self {
        Self { product, location: None }
    }

    /// The last product of the page.
    #[must_use]
    pub fn product(&self) -> &ProductId {
        &self.product
    }

    /// Parses a cursor that a client sent back.
    ///
    /// # Errors
    /// If it is not a cursor.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let (product, location) = given.split_once(Self::SIGN).map_or((given, None), |(p, l)| (p, Some(l)));
        Ok(Self { product: ProductId::parse(product)?, location: location.map(Location::parse).transpose()? })
    }

    /// The greatest sort key of alerts that lies before what follows.
    pub(super) fn sort_key(&self) -> String {
        match &self.location {
            Some(location) => format!("{}#{location}", self.product),
            // `$` is the character after `#`: beyond every location of the product.
            None => format!("{}$", self.product),
        }
    }
}

impl fmt::Display for ProductCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "{}{}{location}", self.product, Self::SIGN),
            None => self.product.fmt(f),
        }
    }
}

impl Store {
    /// The stock unit with this name, by one eventually consistent read: it may be as it was a moment ago.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn stock_unit_eventually(
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
        );
        output.item.map(parse_stock_unit).transpose()
    }

    /// A product at its locations after `after`, at most `limit` (1 to [`MAX_LOCATIONS`]). None if there are none.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn shown_product(
        &self,
        product: &ProductId,
        after: Option<&Location>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<Option<ShownProduct>, StoreError> {
        let query = || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.inventory_table)
                .expression_attribute_values(":product", text(&keys::product_partition(product, 0)))
                // One more tells whether more follow.
                .limit(i32::try_from(limit + 1).unwrap_or(i32::MAX));
            match after {
                None => query.key_condition_expression("pk = :product"),
                Some(after) => query
                    .key_condition_expression("pk = :product AND sk > :after")
                    .expression_attribute_values(":after", text(after.as_str())),
            }
        };
        let output = until_answered!(self, invocation, query());
        let mut items = output.items.unwrap_or_default();
        let more = items.len() > limit || (output.last_evaluated_key.is_some() && !items.is_empty());
        items.truncate(limit);
        let units: Vec<StockUnit> = items.into_iter().map(parse_stock_unit).collect::<Result<_, _>>()?;
        let Some(first) = units.first() else { return Ok(None) };
        let main = UnitKey { product: product.clone(), location: Location::default(), bucket: 0 };
        let head = match units.iter().find(|unit| unit.key == main) {
            Some(unit) => Some(unit.clone()),
            None if more || after.is_some() => self.stock_unit_eventually(&main, invocation).await?,
            None => None,
        };
        let head = head.unwrap_or_else(|| first.clone());
        let tells = more && !planted("silent-about-more-locations");
        let more_after = units.last().filter(|_| tells).map(|unit| unit.key.location.clone());
        Ok(Some(ShownProduct { units, head, more_after, is_whole: after.is_none() && !more }))
    }

    /// A page of the products after `after`, at most `limit` (1 to [`MAX_PAGE`]), each at its first
    /// [`LOCATIONS_IN_LIST`] locations.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn list_products(
        &self,
        after: Option<&ProductId>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<ProductList, StoreError> {
        let (found, next) = self.catalog_page(after, limit, invocation).await?;
        let (wide, narrow): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, units)| units.len() > LOCATIONS_IN_LIST);
        let mut page = PageBuilder::default();
        let narrow: Vec<keys::Key> =
            narrow.into_iter().flat_map(|(_, units)| units).map(|u| keys::stock_unit(&u)).collect();
        let batches: Vec<Vec<keys::Key>> = narrow.chunks(MAX_BATCH_READ).map(<[_]>::to_vec).collect();
        let reads = batches.into_iter().map(|keys| self.items(keys, false, invocation));
        for items in futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect::<Vec<_>>().await? {
            page.add_items(items);
        }
        page.add_products(self, wide.into_iter().map(|(product, _)| product), invocation).await?;
        Ok(page.into_list(next.map(ProductCursor::after_product)))
    }

    /// The products of a page with their stock units, as the catalog has them; a product with more locations than a
    /// list shows has at least one more here. And the last product of the page, where more follow it.
    async fn catalog_page(
        &self,
        after: Option<&ProductId>,
        limit: usize,
        invocation: &Invocation,
    ) -> Result<(BTreeMap<ProductId, Vec<UnitKey>>, Option<ProductId>), StoreError> {
        let mut found: BTreeMap<ProductId, Vec<UnitKey>> = BTreeMap::new();
        let (mut after, mut start) = (after.cloned(), None);
        let mut left = MAX_ENTRIES;
        // One product more than is asked for tells that the page is whole.
        while found.len() <= limit {
            if left == 0 {
                // Of the last product it is not known whether this is all; the next page begins with it.
                if found.len() > 1
                    && found.last_key_value().is_some_and(|(_, u)| u.len() <= LOCATIONS_IN_LIST)
                {
                    found.pop_last();
                }
                let next = found.last_key_value().map(|(product, _)| product.clone());
                return Ok((found, next));
            }
            let most = left.min((limit + 1).max(LOCATIONS_IN_LIST + 1));
            let output =
                until_answered!(self, invocation, self.catalog_query(after.as_ref(), start.clone(), most));
            let items = output.items.unwrap_or_default();
            left = left.saturating_sub(items.len().max(1));
            for item in &items {
                match unit_key(item) {
                    Ok(unit) => found.entry(unit.product.clone()).or_default().push(unit),
                    Err(error) => tracing::error!(outcome = "unreadable", error = error.to_string()),
                }
            }
            start = output.last_evaluated_key;
            if start.is_none() {
                break;
            }
            if let Some((last, _)) = found.last_key_value().filter(|(_, u)| u.len() > LOCATIONS_IN_LIST)
                && !planted("one-product-takes-the-page")
            {
                // The rest of its locations is passed over.
                (after, start) = (Some(last.clone()), None);
            }
        }
        let more = found.len() > limit;
        let page: BTreeMap<_, _> = found.into_iter().take(limit).collect();
        let next = page.last_key_value().filter(|_| more).map(|(product, _)| product.clone());
        Ok((page, next))
    }

    pub(super) fn catalog_query(
        &self,
        after: Option<&ProductId>,
        start: Option<Item>,
        most: usize,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        let query = self
            .client
            .query()
            .table_name(&self.settings.inventory_table)
            .index_name(keys::CATALOG_INDEX)
            .expression_attribute_values(":catalog", text(keys::CATALOG))
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        match after {
            None => query.key_condition_expression("catalogShard = :catalog"),
            Some(after) => query
                .key_condition_expression("catalogShard = :catalog AND productId > :after")
                .expression_attribute_values(":after", AttributeValue::S(after.to_string())),
        }
    }
}

/// Collects the products of a page.
#[derive(Default)]
pub(super) struct PageBuilder {
    units: BTreeMap<ProductId, Vec<StockUnit>>,
    products: BTreeMap<ProductId, ShownProduct>,
    unreadable: BTreeSet<ProductId>,
}

impl PageBuilder {
    /// Adds stock units as they were read. A product with an unreadable stock unit is left out as a whole.
    fn add_items(&mut self, items: Vec<Item>) {
        for item in items {
            let key = unit_key(&item);
            match (parse_stock_unit(item), key) {
                (Ok(unit), _) => self.units.entry(unit.key.product.clone()).or_default().push(unit),
                (Err(error), Ok(key)) => self.leave_out(key.product, &error),
                (Err(_), Err(error)) => tracing::error!(outcome = "unreadable", error = error.to_string()),
            }
        }
    }

    /// Reads products one by one, each at its first locations.
    pub(super) async fn add_products(
        &mut self,
        store: &Store,
        products: impl IntoIterator<Item = ProductId>,
        invocation: &Invocation,
    ) -> Result<(), StoreError> {
        let reads = products.into_iter().map(|product| async move {
            let read = store.shown_product(&product, None, LOCATIONS_IN_LIST, invocation).await;
            (product, read)
        });
        let mut reads = futures::stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some((product, read)) = reads.next().await {
            match read {
                Ok(None) => {}
                Ok(Some(shown)) => {
                    self.products.insert(product, shown);
                }
                Err(error @ StoreError::Corrupt(_)) => self.leave_out(product, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, product: ProductId, error: &StoreError) {
        tracing::error!(outcome = "unreadable", product = product.as_str(), error = error.to_string());
        self.unreadable.insert(product);
    }

    pub(super) fn into_list(mut self, next: Option<ProductCursor>) -> ProductList {
        for (product, mut units) in self.units {
            units.sort_by(|a, b| a.key.cmp(&b.key));
            let main = units.iter().find(|unit| unit.key.location == Location::default());
            let Some(head) = main.or(units.first()).cloned() else { continue };
            self.products.insert(product, ShownProduct { units, head, more_after: None, is_whole: true });
        }
        self.products.retain(|product, _| !self.unreadable.contains(product));
        ProductList { products: self.products.into_values().collect(), unreadable: self.unreadable, next }
    }
}

pub(super) fn key_text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// The stock unit that an item of the table or of the catalog belongs to.
pub(super) fn unit_key(item: &Item) -> Result<UnitKey, StoreError> {
    let (pk, sk) = (key_text(item, keys::PK), key_text(item, keys::SK));
    let name = || excerpt(&format!("{pk} {sk}"));
    keys::parse_stock_unit(pk, sk).ok_or_else(|| StoreError::corrupt("a stock unit", name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        for text in ["A-1", "A-1~north.2"] {
            assert_eq!(ProductCursor::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "~", "A~", "~x", "A~b~c", "A b"] {
            assert!(ProductCursor::parse(bad).is_err(), "{bad}");
        }
        // Behind every location of a product, and before every other product.
        let key = |text| ProductCursor::parse(text).unwrap().sort_key();
        assert!(key("A~zzz") < key("A") && *key("A") < *"A-1#a" && *key("A") < *"A.b#a");
    }
}
