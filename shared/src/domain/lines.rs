//! The lines of an order, and how far each has come.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use uuid::Uuid;

use super::names::{Invalid, Location, ProductId};
use super::quantity::Quantity;
use super::stock::UnitKey;
use crate::planted;

/// Most lines of an order, and of a delivery. Source: `openapi.yaml`, which promises it; each line may need a move of its
/// own, so it is at most [`MAX_MOVES`](super::plan::MAX_MOVES).
pub const MAX_LINES: usize = 99;

/// Namespace of fingerprints. They are stored, so it must never change.
const FINGERPRINT_NAMESPACE: Uuid = Uuid::from_u128(0x0e6b_7c52_91d4_4f0a_8a3e_6b1c_45d8_f927);

/// The key of a line of an order: a product at a location.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineKey {
    /// The product.
    pub product: ProductId,
    /// The location that it is taken from.
    pub location: Location,
}

impl LineKey {
    /// The stock unit that holds one bucket of it.
    #[must_use]
    pub fn unit(&self, bucket: u32) -> UnitKey {
        UnitKey { product: self.product.clone(), location: self.location.clone(), bucket }
    }
}

/// The lines that an order asks for: sorted, duplicates summed, 1 to [`MAX_LINES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLines(BTreeMap<LineKey, Quantity>);

/// The lines of an order that came as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// These lines.
    Lines(OrderLines),
    /// More than [`MAX_LINES`]: such an order can never be held. It is recorded without them.
    TooMany(Fingerprint),
}

impl Ordered {
    /// Sums up lines as they came.
    ///
    /// # Errors
    /// If there is none, or if a sum is too large.
    pub fn sum(lines: impl IntoIterator<Item = (LineKey, Quantity)>) -> Result<Self, Invalid> {
        let sums = OrderLines::sum_up(lines)?;
        Ok(if sums.len() > MAX_LINES {
            Self::TooMany(fingerprint_of(sums.iter().map(|(key, quantity)| (key, quantity.get()))))
        } else {
            Self::Lines(OrderLines(sums))
        })
    }

    /// The same for the same lines, however they were split or sorted.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Lines(lines) => lines.fingerprint(),
            Self::TooMany(fingerprint) => *fingerprint,
        }
    }
}

impl OrderLines {
    /// Sums up lines as they came.
    ///
    /// # Errors
    /// If there is none, if there are more than [`MAX_LINES`] after summing, or if a sum is too large.
    pub fn sum(lines: impl IntoIterator<Item = (LineKey, Quantity)>) -> Result<Self, Invalid> {
        let sums = Self::sum_up(lines)?;
        match sums.len() {
            ..=MAX_LINES => Ok(Self(sums)),
            _ if planted("a-hundred-products-fit") => Ok(Self(sums)),
            n => {
                Err(Invalid(format!("an order has at most {MAX_LINES} different products, this one has {n}")))
            }
        }
    }

    fn sum_up(
        lines: impl IntoIterator<Item = (LineKey, Quantity)>,
    ) -> Result<BTreeMap<LineKey, Quantity>, Invalid> {
        let mut sums = BTreeMap::new();
        for (key, quantity) in lines {
            let sum = match sums.get(&key) {
                None => quantity,
                Some(_) if planted("the-last-of-two-lines-counts") => quantity,
                Some(&before) => quantity.plus(before).map_err(|invalid| {
                    Invalid(format!("the lines of product {} add up to too much: {invalid}", key.product))
                })?,
            };
            sums.insert(key, sum);
        }
        if sums.is_empty() {
            return Err(Invalid("an order has at least one line, this one has none".to_owned()));
        }
        Ok(sums)
    }

    /// The lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&LineKey, Quantity)> {
        self.0.iter().map(|(key, &quantity)| (key, quantity))
    }

    /// The same for the same lines, however they were split or sorted.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint_of(self.0.iter().map(|(key, quantity)| (key, quantity.get())))
    }
}

/// The fingerprint of lines that are sorted and summed.
pub(super) fn fingerprint_of<'a>(lines: impl IntoIterator<Item = (&'a LineKey, u64)>) -> Fingerprint {
    let mut text = String::new();
    for (LineKey { product, location }, quantity) in lines {
        // None of the three can contain the separators.
        writeln!(text, "{product}\t{location}\t{quantity}").expect("writing to a String");
    }
    Fingerprint::of(&text)
}

/// A UUIDv5 of the lines of a request. Two requests for the same lines have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub Uuid);

impl Fingerprint {
    /// The fingerprint of a canonical text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Uuid::new_v5(&FINGERPRINT_NAMESPACE, text.as_bytes()))
    }
}

/// The units of one bucket that are held for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// The bucket.
    pub bucket: u32,
    /// Units held there.
    pub quantity: u64,
}

/// One line of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The product and the location.
    pub key: LineKey,
    /// The units that were ordered; 0 where units left that were not ordered, or not yet.
    pub quantity: u64,
    /// The units held for it now, by bucket. Empty when none are.
    pub allocations: Vec<Allocation>,
    /// The units that have left the shelf for it.
    pub fulfilled: u64,
    /// The units that were delivered without having been on the books: neither held nor available.
    pub missing: u64,
}

impl Line {
    /// A line nothing has happened to yet.
    #[must_use]
    pub fn new(key: LineKey, quantity: Quantity) -> Self {
        Self { key, quantity: quantity.get(), allocations: Vec::new(), fulfilled: 0, missing: 0 }
    }

    /// A line for units that have left without a known order for them.
    #[must_use]
    pub fn not_ordered(key: LineKey) -> Self {
        Self { key, quantity: 0, allocations: Vec::new(), fulfilled: 0, missing: 0 }
    }

    /// Whether it is a line of the order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.quantity > 0
    }

    /// Units that have left, on the books or not.
    #[must_use]
    pub fn departed_units(&self) -> u64 {
        self.fulfilled.saturating_add(self.missing)
    }

    /// Units held for it now.
    #[must_use]
    pub fn held_units(&self) -> u64 {
        self.allocations.iter().map(|a| a.quantity).sum()
    }

    /// Takes up to this many of the held units, from the first buckets first. Returns those that it took.
    pub fn take_held(&mut self, units: u64) -> Vec<Allocation> {
        let mut open = units;
        let mut all_taken = Vec::new();
        for allocation in &mut self.allocations {
            let quantity = allocation.quantity.min(open);
            allocation.quantity -= quantity;
            open -= quantity;
            all_taken.push(Allocation { bucket: allocation.bucket, quantity });
        }
        self.allocations.retain(|allocation| allocation.quantity > 0);
        all_taken.retain(|taken| taken.quantity > 0);
        all_taken
    }

    /// Units still to leave the shelf.
    #[must_use]
    pub fn open_units(&self) -> u64 {
        self.quantity.saturating_sub(self.departed_units())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{line, lines};

    /// Scenario 13 and 32.
    #[test]
    fn the_fingerprint_does_not_see_order_or_split() {
        let one = lines(&[("A", 3), ("B", 1)]).fingerprint();
        assert_eq!(one, lines(&[("B", 1), ("A", 1), ("A", 2)]).fingerprint());
        for other in [("A", 4), ("A@east", 3), ("AA", 3)] {
            assert_ne!(one, lines(&[other, ("B", 1)]).fingerprint());
        }
    }

    /// Scenario 33.
    #[test]
    fn an_order_fits_one_transaction() {
        let lines = |n: usize| OrderLines::sum((0..n).map(|i| line(&format!("P{i}"), 1)));
        assert!(lines(99).is_ok());
        for n in [100, 101] {
            let Invalid(sentence) = lines(n).unwrap_err();
            assert!(sentence.contains("at most 99") && sentence.contains(&n.to_string()), "{sentence}");
        }
        assert!(lines(0).is_err());
    }
}
