//! Deliveries: what left according to one of them, and according to several together.

use std::collections::BTreeMap;

use super::lines::{Fingerprint, Line, LineKey, MAX_LINES, fingerprint_of};
use super::names::{Invalid, Location, ProductId, ShipmentId};
use super::quantity::Quantity;

/// The goods that left according to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Everything that was ordered: it came without lines.
    All,
    /// This much of the order in total, earlier shipments included. Units held beyond it do not leave.
    Total(DeliveredLines),
    /// One shipment of several. The rest of the order stays held.
    Shipment(ShipmentId, DeliveredLines),
}

/// The lines of a delivery: 1 to [`MAX_LINES`], duplicates summed. A line without a location matches any location
/// of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredLines(BTreeMap<(ProductId, Option<Location>), Quantity>);

impl DeliveredLines {
    /// Sums up lines as they came.
    ///
    /// # Errors
    /// If there is none, if there are more than [`MAX_LINES`] after summing, or if a sum is too large.
    pub fn sum(
        lines: impl IntoIterator<Item = (ProductId, Option<Location>, Quantity)>,
    ) -> Result<Self, Invalid> {
        let mut sums: BTreeMap<(ProductId, Option<Location>), Quantity> = BTreeMap::new();
        for (product, location, quantity) in lines {
            let key = (product, location);
            let sum = match sums.get(&key) {
                None => quantity,
                Some(&before) => quantity.plus(before).map_err(|invalid| {
                    Invalid(format!("the lines of product {} add up to too much: {invalid}", key.0))
                })?,
            };
            sums.insert(key, sum);
        }
        match sums.len() {
            0 => Err(Invalid("a delivery with lines has at least one line, this one has none".to_owned())),
            1..=MAX_LINES => Ok(Self(sums)),
            n => Err(Invalid(format!(
                "a delivery has at most {MAX_LINES} different products, this one has {n}"
            ))),
        }
    }

    /// The lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ProductId, Option<&Location>, u64)> {
        self.0.iter().map(|((product, location), quantity)| (product, location.as_ref(), quantity.get()))
    }

    /// The same as of a part shipment by request with these lines; a line without a location is at the default one.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut located: BTreeMap<LineKey, u64> = BTreeMap::new();
        for (product, location, quantity) in self.iter() {
            let location = location.cloned().unwrap_or_default();
            *located.entry(LineKey { product: product.clone(), location }).or_default() += quantity;
        }
        fingerprint_of(located.iter().map(|(key, quantity)| (key, *quantity)))
    }
}

/// The units of each product that have left according to some deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims(pub BTreeMap<ProductId, Claim>);

/// The units of one product that have left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// Over all locations.
    pub total: u64,
    /// The part of it that left from named locations.
    pub at: BTreeMap<Location, u64>,
}

impl Claims {
    /// The claims of one delivery.
    #[must_use]
    pub fn of(lines: &DeliveredLines) -> Self {
        let mut claims = Self::default();
        for (product, location, quantity) in lines.iter() {
            let claim = claims.0.entry(product.clone()).or_default();
            claim.total += quantity;
            if let Some(location) = location {
                *claim.at.entry(location.clone()).or_default() += quantity;
            }
        }
        claims
    }

    /// The claim that all of an order has left, from any location.
    fn of_order(lines: &[Line]) -> Self {
        let mut claims = Self::default();
        for line in lines.iter().filter(|line| line.is_ordered()) {
            claims.0.entry(line.key.product.clone()).or_default().total += line.quantity;
        }
        claims
    }

    /// Adds units that have left for a line.
    pub fn add_line(&mut self, key: &LineKey, quantity: u64) {
        let claim = self.0.entry(key.product.clone()).or_default();
        claim.total += quantity;
        *claim.at.entry(key.location.clone()).or_default() += quantity;
    }

    /// Adds other claims, as two shipments add up.
    pub fn add(&mut self, other: &Self) {
        for (product, more) in &other.0 {
            let claim = self.0.entry(product.clone()).or_default();
            claim.total += more.total;
            for (location, quantity) in &more.at {
                *claim.at.entry(location.clone()).or_default() += quantity;
            }
        }
    }

    /// Takes the larger figure of both, as of two totals the larger counts.
    pub fn merge_max(&mut self, other: &Self) {
        for (product, other) in &other.0 {
            let claim = self.0.entry(product.clone()).or_default();
            claim.total = claim.total.max(other.total);
            for (location, quantity) in &other.at {
                let there = claim.at.entry(location.clone()).or_default();
                *there = (*there).max(*quantity);
            }
        }
    }

    /// The units of a product, over all locations.
    #[must_use]
    pub fn total(&self, product: &ProductId) -> u64 {
        self.0.get(product).map_or(0, |claim| claim.total)
    }
}

impl Claim {
    /// Allocates the units to locations. Named locations get what was named for them. If bookings stay, the rest goes
    /// first to where it is booked already. Then the lines of the order take it up to their quantity; the first line
    /// takes what exceeds them, or the default location where the order has no line.
    fn allocate_to_locations(&self, lines: &[&Line], bookings_stay: bool) -> BTreeMap<Location, u64> {
        let mut placed = self.at.clone();
        let mut rest = self.total.saturating_sub(placed.values().sum());
        let mut fill = |line: &Line, up_to: u64| {
            let there = placed.entry(line.key.location.clone()).or_default();
            let more = rest.min(up_to.saturating_sub(*there));
            *there += more;
            rest -= more;
        };
        if bookings_stay {
            lines.iter().for_each(|line| fill(line, line.departed_units()));
        }
        let ordered = || lines.iter().filter(|line| line.is_ordered());
        ordered().for_each(|line| fill(line, line.quantity));
        if rest > 0 {
            let first = ordered().next().map(|line| line.key.location.clone());
            *placed.entry(first.unwrap_or_default()).or_default() += rest;
        }
        placed
    }
}

/// All deliveries of an order so far. They give the same result in whatever order they come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deliveries {
    /// One said that everything has left.
    pub all: bool,
    /// The largest total heard of each product.
    pub totals: Claims,
    /// The sum of the shipments, those by request included.
    pub shipped: Claims,
    /// Whether units for which no delivery named a location stay where they are booked: the order named other
    /// locations, and moving the bookings is too much for one transaction.
    pub bookings_stay: bool,
}

impl Deliveries {
    /// The units that have left for each of these lines, and for lines that are not among them.
    #[must_use]
    pub fn by_line(&self, lines: &[Line]) -> BTreeMap<LineKey, u64> {
        let mut claims = self.shipped.clone();
        claims.merge_max(&self.totals);
        if self.all {
            claims.merge_max(&Claims::of_order(lines));
        }
        let mut left = BTreeMap::new();
        for (product, claim) in claims.0 {
            let of_product: Vec<&Line> = lines.iter().filter(|line| line.key.product == product).collect();
            for (location, quantity) in claim.allocate_to_locations(&of_product, self.bookings_stay) {
                left.insert(LineKey { product: product.clone(), location }, quantity);
            }
        }
        left
    }

    /// The units by which the shipments exceed the totals, over all products.
    #[must_use]
    pub fn excess_over_totals(&self) -> u64 {
        if self.totals.0.is_empty() {
            return 0;
        }
        let beyond =
            |(product, claim): (&ProductId, &Claim)| claim.total.saturating_sub(self.totals.total(product));
        self.shipped.0.iter().map(beyond).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::fixtures::{delivered_lines, line};

    fn ordered(name: &str, quantity: u64) -> Line {
        let (key, quantity) = line(name, quantity);
        Line::new(key, quantity)
    }

    fn left(deliveries: &Deliveries, order: &[Line]) -> Vec<(String, u64)> {
        let placed = deliveries.by_line(order).into_iter().filter(|(_, quantity)| *quantity > 0);
        placed.map(|(key, quantity)| (format!("{}@{}", key.product, key.location), quantity)).collect()
    }

    #[test]
    fn a_line_without_a_location_matches_any_of_the_order() {
        let order = [ordered("X@east", 3), ordered("X@west", 2)];
        let total = |of: &[(&str, u64)]| Deliveries {
            totals: Claims::of(&delivered_lines(of)),
            ..Deliveries::default()
        };
        let east = |n| ("X@east".to_owned(), n);
        let west = |n| ("X@west".to_owned(), n);
        assert_eq!(left(&total(&[("X", 4)]), &order), [east(3), west(1)]);
        assert_eq!(left(&total(&[("X", 1), ("X@west", 2)]), &order), [east(1), west(2)]);
        assert_eq!(left(&total(&[("X", 7)]), &order), [east(5), west(2)]);
        assert_eq!(left(&total(&[("X", 7)]), &[]), [("X@main".to_owned(), 7)]);
        let all = Deliveries { all: true, ..total(&[("X@west", 1)]) };
        assert_eq!(left(&all, &order), [east(3), west(2)]);
    }

    #[test]
    fn the_fingerprint_is_that_of_the_same_shipment_by_request() {
        let main = delivered_lines(&[("X@main", 1), ("Y", 2)]);
        assert_eq!(main.fingerprint(), delivered_lines(&[("Y@main", 2), ("X", 1)]).fingerprint());
        assert_ne!(main.fingerprint(), delivered_lines(&[("Y@east", 2), ("X", 1)]).fingerprint());
    }

    fn claims() -> impl Strategy<Value = Claims> {
        let line = (prop::sample::select(vec!["X", "Y", "X@east", "Y@east"]), 1_u64..9);
        prop::collection::vec(line, 1..4).prop_map(|of| Claims::of(&delivered_lines(&of)))
    }

    proptest! {
        #[test]
        fn neither_order_nor_grouping_of_claims_matters(a in claims(), b in claims(), c in claims()) {
            for merge in [Claims::add, Claims::merge_max] {
                let all = |of: [&Claims; 3]| {
                    let mut sum = Claims::default();
                    of.into_iter().for_each(|claims| merge(&mut sum, claims));
                    sum
                };
                prop_assert_eq!(all([&a, &b, &c]), all([&c, &a, &b]));
            }
        }
    }
}
