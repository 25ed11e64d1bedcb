//! The events and the ledger movement of a change: functions of the record before and after, without a clock, so that
//! the same change always gives the same event under the same id.
//!
//! - [`EventKind`]: the kinds of events, each with its own fields and one name
//! - `orders` and `deliveries`: the events of a change of a reservation
//! - `stock`: the events of a change of a stock unit, or of its level
//!
//! The domain does not know how an event looks on the bus: see [`crate::publishing::json`].

mod deliveries;
mod kind;
mod orders;
mod stock;

use super::Timestamp;
use super::names::{OrderId, ReservationId};
use super::stock::UnitKey;

pub use kind::{ConfirmationRefusal, EventKind, Figures, Item, NAMES, ReservationFailure};
pub use orders::{events_of_reservation, is_paid_but_short, state_events_of_reservation};
pub use stock::{
    Movement, event_of_level, events_of_stock, movement, state_event_of_level, state_events_of_stock,
};

/// An event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The record whose change caused it.
    pub subject: Subject,
    /// The version of that record after the change.
    pub version: u64,
    /// When the change was made.
    pub at: Timestamp,
    /// The correlation id of the request or event that made the change.
    pub correlation_id: String,
    /// Whether it repeats an event that may have been missed. Such an event tells the state as it is, because how the
    /// state came about is no longer known; so it has an id of its own.
    pub is_republished: bool,
    /// The kind of event, with its fields.
    pub kind: EventKind,
}

/// The record whose change causes an event. A reservation or an alert may be purged and created again, and its versions
/// then begin again; the time of creation tells the two apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A reservation.
    Reservation {
        /// Its id.
        id: ReservationId,
        /// The order that it is of.
        order_id: OrderId,
        /// When its record began.
        created_at: Timestamp,
    },
    /// A stock unit.
    Stock(UnitKey),
    /// The level of a stock unit.
    Level {
        /// The stock unit.
        unit: UnitKey,
        /// When its alert began.
        created_at: Timestamp,
    },
}

impl Event {
    /// The event's id, by which a consumer recognises a repetition: `STOCK#…:<version>:<name>`,
    /// `RES#…:<created>:<version>:<name>` or `LEVEL#…:<created>:<version>:<name>`. One change may cause several events,
    /// so the name is a part. `<created>` is in epoch milliseconds.
    #[must_use]
    pub fn id(&self) -> String {
        let key = match &self.subject {
            Subject::Reservation { id, created_at, .. } => {
                format!("RES#{id}:{}", created_at.as_millisecond())
            }
            Subject::Stock(UnitKey { product, location, bucket }) => {
                format!("STOCK#{product}#{bucket}#{location}")
            }
            Subject::Level { unit: UnitKey { product, location, .. }, created_at } => {
                format!("LEVEL#{product}#{location}:{}", created_at.as_millisecond())
            }
        };
        let suffix = if self.is_republished { ":republished" } else { "" };
        format!("{key}:{}:{}{suffix}", self.version, self.kind.name())
    }

    /// The same event, marked as a repetition of one that may have been missed.
    fn into_republished(self) -> Self {
        Self { is_republished: true, ..self }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
