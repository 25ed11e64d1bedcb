//! Products and quantities.

use std::collections::BTreeMap;

use shared::domain::Reservation;

/// The lines of an order or delivery: products and quantities.
pub type Lines = Vec<(String, u64)>;

/// The sum for each product.
#[must_use]
pub fn totals_of(lines: &Lines) -> BTreeMap<&str, u64> {
    sum_by_product(lines.iter().map(|(product, quantity)| (product.as_str(), *quantity)))
}

/// The sum for each product.
pub fn sum_by_product<'a>(lines: impl IntoIterator<Item = (&'a str, u64)>) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    for (product, quantity) in lines {
        *sums.entry(product).or_default() += quantity;
    }
    sums
}

/// Whether a record is of these lines.
#[must_use]
pub fn has_lines(record: &Reservation, lines: &Lines) -> bool {
    let ordered = record.lines.iter().filter(|line| line.is_ordered());
    let has: BTreeMap<&str, u64> = ordered.map(|line| (line.key.product.as_str(), line.quantity)).collect();
    has == totals_of(lines)
}
