//! Events of stock and of levels, and the movements of the ledger.

use super::{Event, EventKind, Figures, Subject};
use crate::domain::Timestamp;
use crate::domain::level::{Alert, Level};
use crate::domain::stock::{Cause, Delta, StockUnit, UnitKey};

/// The change of one stock unit, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The stock unit.
    pub unit: UnitKey,
    /// The stock unit's version after the change.
    pub version: u64,
    /// The cause of the change.
    pub cause: Cause,
    /// The change.
    pub delta: Delta,
    /// Available, reserved and sold after the change.
    pub after: [u64; 3],
    /// When.
    pub at: Timestamp,
}

impl StockUnit {
    fn counters(&self) -> [u64; 3] {
        [self.available, self.reserved, self.sold]
    }
}

/// The movement from `old` (none: it was created) to `new`.
#[must_use]
pub fn movement(old: Option<&StockUnit>, new: &StockUnit) -> Movement {
    let before = old.map_or([0; 3], StockUnit::counters);
    let after = new.counters();
    let change = |i: usize| after[i].cast_signed().saturating_sub(before[i].cast_signed());
    Movement {
        unit: new.key.clone(),
        version: new.version,
        cause: new.cause.clone(),
        delta: Delta { available: change(0), reserved: change(1), sold: change(2) },
        after,
        at: new.updated_at,
    }
}

/// The events of a change of a stock unit.
#[must_use]
pub fn events_of_stock(old: Option<&StockUnit>, new: &StockUnit, default_threshold: u64) -> Vec<Event> {
    let change = movement(old, new).delta;
    let figures = figures_of(new.counters(), new.threshold(default_threshold), &new.cause);
    let mut kinds = vec![EventKind::InventoryUpdated { figures: figures.clone(), change }];
    let Delta { available, reserved, sold } = change;
    if available.saturating_add(reserved).saturating_add(sold) > 0 {
        kinds.push(EventKind::InventoryReplenished { figures, change });
    }
    let event_of = |kind: EventKind| Event {
        subject: Subject::Stock(new.key.clone()),
        version: new.version,
        at: new.updated_at,
        correlation_id: new.cause.correlation_id.clone(),
        is_republished: false,
        kind,
    };
    kinds.into_iter().map(event_of).collect()
}

/// The event of a level that has changed. It follows from the alert alone, which names the level before.
#[must_use]
pub fn event_of_level(alert: &Alert) -> Option<Event> {
    let figures = figures_of(alert.figures, alert.threshold, &alert.cause);
    let stock_version = alert.stock_version;
    let kind = match (alert.before?, alert.level) {
        (Level::Enough, Level::Low) => EventKind::LowStock { figures, stock_version },
        (Level::Enough | Level::Low, Level::Out) => EventKind::OutOfStock { figures, stock_version },
        (Level::Out, Level::Enough | Level::Low) => EventKind::BackInStock { figures, stock_version },
        _ => return None,
    };
    Some(Event {
        subject: Subject::Level { unit: alert.unit.clone(), created_at: alert.created_at },
        version: alert.version,
        at: alert.since,
        correlation_id: alert.cause.correlation_id.clone(),
        is_republished: false,
        kind,
    })
}

/// The repeated event of a stock unit: its figures as they are.
#[must_use]
pub fn state_events_of_stock(now: &StockUnit, default_threshold: u64) -> Vec<Event> {
    let events = events_of_stock(Some(now), now, default_threshold);
    events.into_iter().map(Event::into_republished).collect()
}

/// The repeated event of a level whose event may have been missed.
#[must_use]
pub fn state_event_of_level(now: &Alert) -> Option<Event> {
    event_of_level(now).map(Event::into_republished)
}

fn figures_of([available, reserved, sold]: [u64; 3], threshold: u64, cause: &Cause) -> Figures {
    let Cause { operation, reference, .. } = cause.clone();
    Figures { available, reserved, sold, threshold, operation, reference }
}
