//! Stock units, and the arithmetic on their counters.

use super::Timestamp;
use super::names::{Location, ProductId};

/// Most units that may be on hand in a stock unit, available and reserved together. Only operations that bring units in
/// check it; holds and releases move units between the two.
pub const MAX_STOCK: u64 = 1_000_000_000;

/// Names one stock unit: the item that is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey {
    /// The product.
    pub product: ProductId,
    /// The location.
    pub location: Location,
    /// The slice of the stock there: 0 unless a product is split.
    pub bucket: u32,
}

/// One stock unit as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockUnit {
    /// Its name.
    pub key: UnitKey,
    /// May still be reserved.
    pub available: u64,
    /// Promised to orders, still on the shelf.
    pub reserved: u64,
    /// Has left the shelf.
    pub sold: u64,
    /// +1 with every write.
    pub version: u64,
    /// +1 whenever the stock on hand changes; 0 where that was not counted yet.
    pub physical: u64,
    /// At or below this many available units the stock counts as low. None: the service's setting.
    pub low_stock_threshold: Option<u64>,
    /// Most units of the product that one order may hold. None: no limit.
    pub max_per_order: Option<u64>,
    /// The name of the product, for people.
    pub name: Option<String>,
    /// When it began to exist. None: before that was kept.
    pub created_at: Option<Timestamp>,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// The cause of the last write.
    pub cause: Cause,
}

/// The cause of a write of a stock unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The operation: `reserve`, `add` and so on.
    pub operation: String,
    /// The reference of the operation: a reservation id, a [`SharedTransaction`](super::SharedTransaction), or an
    /// idempotency key.
    pub reference: String,
    /// The correlation id of the request or event.
    pub correlation_id: String,
}

/// One of the figures of a stock unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// May still be reserved.
    Available,
    /// Promised to orders, still on the shelf.
    Reserved,
    /// Has left the shelf.
    Sold,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 3] = [Self::Available, Self::Reserved, Self::Sold];

    /// Its name in items.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Reserved => "reserved",
            Self::Sold => "sold",
        }
    }
}

impl StockUnit {
    /// A stock unit without stock, as it is before its first write.
    #[must_use]
    pub fn empty(key: UnitKey, now: Timestamp) -> Self {
        Self {
            key,
            available: 0,
            reserved: 0,
            sold: 0,
            version: 0,
            physical: 0,
            low_stock_threshold: None,
            max_per_order: None,
            name: None,
            created_at: Some(now),
            updated_at: now,
            cause: Cause::default(),
        }
    }

    /// One of its figures.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        match counter {
            Counter::Available => self.available,
            Counter::Reserved => self.reserved,
            Counter::Sold => self.sold,
        }
    }

    /// Changes the counters. None gets below zero.
    pub fn shift(&mut self, delta: Delta) {
        self.available = self.available.saturating_add_signed(delta.available);
        self.reserved = self.reserved.saturating_add_signed(delta.reserved);
        self.sold = self.sold.saturating_add_signed(delta.sold);
    }

    /// Units on the shelf: available and reserved.
    #[must_use]
    pub fn on_hand(&self) -> u64 {
        self.available.saturating_add(self.reserved)
    }
}

/// The change of a stock unit's counters by one write, in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delta {
    /// Change of available.
    pub available: i64,
    /// Change of reserved.
    pub reserved: i64,
    /// Change of sold.
    pub sold: i64,
}

impl Delta {
    /// Available becomes reserved.
    #[must_use]
    pub fn hold(units: u64) -> Self {
        let n = to_signed(units);
        Self { available: -n, reserved: n, sold: 0 }
    }

    /// Reserved becomes available again.
    #[must_use]
    pub fn give_back(units: u64) -> Self {
        let n = to_signed(units);
        Self { available: n, reserved: -n, sold: 0 }
    }

    /// Reserved becomes sold.
    #[must_use]
    pub fn ship_held(units: u64) -> Self {
        let n = to_signed(units);
        Self { available: 0, reserved: -n, sold: n }
    }

    /// Available becomes sold: goods that left without having been held.
    #[must_use]
    pub fn ship_unheld(units: u64) -> Self {
        let n = to_signed(units);
        Self { available: -n, reserved: 0, sold: n }
    }

    /// Sold becomes available again: units booked here have left from elsewhere.
    #[must_use]
    pub fn unship(units: u64) -> Self {
        let n = to_signed(units);
        Self { available: n, reserved: 0, sold: -n }
    }

    /// The change of one counter.
    #[must_use]
    pub fn of(self, counter: Counter) -> i64 {
        match counter {
            Counter::Available => self.available,
            Counter::Reserved => self.reserved,
            Counter::Sold => self.sold,
        }
    }

    /// Whether the stock on hand changes: goods come or leave. A hold that begins or ends moves nothing on the shelf.
    #[must_use]
    pub fn is_physical(self) -> bool {
        self.available.saturating_add(self.reserved) != 0
    }

    /// The two changes as one. Saturates: both are bounded by [`MAX_STOCK`] where they come from.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            available: self.available.saturating_add(other.available),
            reserved: self.reserved.saturating_add(other.reserved),
            sold: self.sold.saturating_add(other.sold),
        }
    }
}

/// Units as a signed number. What is on hand stays below [`MAX_STOCK`], so this never saturates in use.
fn to_signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// A line that the stock could not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The stock unit that was asked.
    pub unit: UnitKey,
    /// The units that were asked of it.
    pub requested: u64,
    /// The reason why it could not serve them.
    pub lack: Lack,
}

/// Why a stock unit could not serve a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// There is no such stock unit.
    Unknown,
    /// Less is available than was asked for.
    Short {
        /// The units that were available at that moment.
        available: u64,
    },
    /// One order may not hold that much of the product.
    OverLimit {
        /// The most that one order may hold.
        max_per_order: u64,
    },
}

impl Lack {
    /// The units that could have been taken at that moment.
    #[must_use]
    pub fn available(self) -> u64 {
        match self {
            Self::Short { available } => available,
            Self::Unknown | Self::OverLimit { .. } => 0,
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_up() {
        let sum = Delta::hold(3).plus(Delta::ship_held(2)).plus(Delta::ship_unheld(1));
        assert_eq!(sum, Delta { available: -4, reserved: 1, sold: 3 });
    }

    #[test]
    fn moves_of_a_reservation_neither_make_nor_lose_units() {
        for delta in [
            Delta::hold(3),
            Delta::give_back(3),
            Delta::ship_held(3),
            Delta::ship_unheld(3),
            Delta::unship(3),
        ] {
            assert_eq!(delta.available + delta.reserved + delta.sold, 0, "{delta:?}");
        }
    }

    #[test]
    fn only_what_leaves_or_comes_is_physical() {
        let nothing_moves = [Delta::default(), Delta::hold(3), Delta::give_back(3)];
        assert!(nothing_moves.iter().all(|delta| !delta.is_physical()));
        let more = Delta { available: 3, ..Delta::default() };
        assert!([more, Delta::ship_held(3), Delta::ship_unheld(3)].iter().all(|delta| delta.is_physical()));
    }
}
