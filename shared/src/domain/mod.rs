//! The business, pure: no I/O, no clock, no AWS.
//!
//! Read [`decide`](mod@decide) first; it holds every rule about reservations. What it speaks of:
//!
//! - [`names`]: identifiers that parse, so that what exists is valid
//! - [`stock`]: quantities, stock units and the arithmetic on their counters
//! - [`reservation`]: the one record of an order, its lines, its state and the facts it has heard
//! - [`events`]: what is published of a change, and its movement in the ledger

pub mod decide;
pub mod events;
pub mod names;
pub mod reservation;
pub mod stock;

pub use decide::{Action, Command, Commit, Decision, Refusal, Shipment, StockMove, decide};
pub use names::{IdempotencyKey, Invalid, Location, OrderId, ProductId, Reason, ReservationId, ShipmentId};
pub use reservation::{Allocation, Fact, Fingerprint, Line, LineKey, OrderLines, Reservation, State};
pub use stock::{Cause, Delta, Lack, Quantity, Shortage, StockUnit, UnitKey, Whole};

/// A point in time. All of Holdfast counts in whole milliseconds, UTC.
pub type Timestamp = jiff::Timestamp;
