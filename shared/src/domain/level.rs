//! The level of a product at a location, and the alert that stores it.
//!
//! A level is state that is compared and set. It is derived from the current stock and threshold, not from one change
//! of stock. So it comes out the same however many changes were lost or came twice, and after a threshold was
//! changed. Its events are derived from the alert's own changes.

use super::Timestamp;
use super::stock::{Cause, StockUnit, UnitKey};
use crate::planted;

/// The level of a stock unit against its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Above the threshold.
    Enough,
    /// At or below the threshold.
    Low,
    /// Nothing is available.
    Out,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Enough, Self::Low, Self::Out];

    /// Its name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::Low => "low",
            Self::Out => "out",
        }
    }
}

impl StockUnit {
    /// Its level against its threshold, or against the service's where it has none.
    #[must_use]
    pub fn level(&self, default_threshold: u64) -> Level {
        match self.available {
            0 => Level::Out,
            n if n <= self.threshold(default_threshold) => Level::Low,
            _ => Level::Enough,
        }
    }

    /// At or below this many available units it counts as low.
    #[must_use]
    pub fn threshold(&self, default_threshold: u64) -> u64 {
        self.low_stock_threshold.unwrap_or(default_threshold)
    }
}

/// The level of a stock unit, as of its last change. A stock unit without an alert has enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The stock unit.
    pub unit: UnitKey,
    /// Its level.
    pub level: Level,
    /// The level that it came from. None: the stock unit began like this, and has crossed nothing.
    pub before: Option<Level>,
    /// +1 with every write.
    pub version: u64,
    /// When the alert was created. An alert that has enough again is removed after a while; the next one begins again
    /// at version 1, and this time tells the two apart.
    pub created_at: Timestamp,
    /// When the level was found to have changed.
    pub since: Timestamp,
    /// Available, reserved and sold at that time.
    pub figures: [u64; 3],
    /// The threshold at that time.
    pub threshold: u64,
    /// The stock unit's version at that time.
    pub stock_version: u64,
    /// The stock unit's last write before that time.
    pub cause: Cause,
}

impl Alert {
    /// The next alert after `was` (none: there is none), if the level has changed.
    ///
    /// `began` is the level of the stock unit's first version, if the caller has it. Otherwise a stock unit
    /// without an alert has had enough. So a low level is told although its beginning was missed, or although it began
    /// with enough by another threshold.
    #[must_use]
    pub fn next(
        was: Option<&Self>,
        stock: &StockUnit,
        began: Option<Level>,
        default_threshold: u64,
        now: Timestamp,
    ) -> Option<Self> {
        let level = stock.level(default_threshold);
        let missed = planted("a-beginning-that-was-missed-is-not-told");
        let began = began.unwrap_or(if missed { level } else { Level::Enough });
        let before = was.map_or(began, |was| was.level);
        let begins = was.is_none() && level != Level::Enough;
        if before == level && !begins {
            return None;
        }
        Some(Self {
            unit: stock.key.clone(),
            level,
            before: Some(before).filter(|before| *before != level),
            version: was.map_or(1, |was| was.version + 1),
            created_at: was.map_or(now, |was| was.created_at),
            since: now,
            figures: [stock.available, stock.reserved, stock.sold],
            threshold: stock.threshold(default_threshold),
            stock_version: stock.version,
            cause: stock.cause.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::unit_key;
    use Level::{Enough, Low, Out};

    const THRESHOLD: u64 = 5;

    fn stock(available: u64, version: u64) -> StockUnit {
        let empty = StockUnit::empty(unit_key("A"), at(0));
        StockUnit { available, reserved: 1, sold: 2, version, ..empty }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The level before and after; none where no alert is to be written.
    fn cross_level(
        was: Option<&Alert>,
        available: u64,
        began: Option<Level>,
    ) -> Option<(Option<Level>, Level)> {
        let next = Alert::next(was, &stock(available, 7), began, THRESHOLD, at(9))?;
        Some((next.before, next.level))
    }

    #[test]
    fn without_an_alert_there_was_enough() {
        assert_eq!(cross_level(None, 9, None), None);
        assert_eq!(cross_level(None, 5, None), Some((Some(Enough), Low)));
        assert_eq!(cross_level(None, 0, None), Some((Some(Enough), Out)));
    }

    #[test]
    fn a_crossing_needs_a_side_to_come_from() {
        assert_eq!(cross_level(None, 5, Some(Low)), Some((None, Low)), "it began low");
        assert_eq!(cross_level(None, 5, Some(Enough)), Some((Some(Enough), Low)));
        assert_eq!(cross_level(None, 9, Some(Out)), Some((Some(Out), Enough)), "gone before it was noted");
        let first = Alert::next(None, &stock(5, 1), None, THRESHOLD, at(9)).unwrap();
        assert_eq!(first.before, Some(Enough), "by another threshold it may have begun so");
    }

    #[test]
    fn a_level_that_is_as_noted_is_left_alone() {
        let low = Alert::next(None, &stock(5, 7), None, THRESHOLD, at(9)).unwrap();
        assert_eq!((low.version, low.created_at, low.figures, low.stock_version), (1, at(9), [5, 1, 2], 7));
        assert_eq!(cross_level(Some(&low), 4, None), None);
        let out = Alert::next(Some(&low), &stock(0, 8), None, THRESHOLD, at(10)).unwrap();
        assert_eq!((out.before, out.level, out.version), (Some(Low), Out, 2));
        assert_eq!((out.created_at, out.since), (at(9), at(10)));
    }

    #[test]
    fn the_threshold_of_now_decides() {
        let before = Alert::next(None, &stock(8, 7), None, 5, at(9));
        assert_eq!(before, None);
        let raised = Alert::next(None, &stock(8, 7), None, 10, at(9)).unwrap();
        assert_eq!((raised.level, raised.threshold), (Low, 10));
        let own = StockUnit { low_stock_threshold: Some(2), ..stock(8, 7) };
        let lowered = Alert::next(Some(&raised), &own, None, 10, at(10)).unwrap();
        assert_eq!((lowered.before, lowered.level, lowered.threshold), (Some(Low), Enough, 2));
    }
}
