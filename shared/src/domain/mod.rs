//! The business, pure: no I/O, no clock, no AWS.
//!
//! Read [`decide`](mod@decide) first; it holds every rule about reservations. What it speaks of:
//!
//! - [`names`]: identifiers that parse, so that what exists is valid
//! - [`stock`]: quantities, stock units and the arithmetic on their counters
//! - [`plan`]: what one decision writes, under which guards; [`seen`]: what it was decided on
//! - [`reservation`]: the one record of an order, its lines, its state and the facts it has heard
//! - [`delivery`]: what deliveries say has left
//! - [`conflict`]: facts that contradict what was recorded first
//! - [`level`]: how a product stands to its threshold, and the alert that says so
//! - [`events`]: what is published of a change, and its movement in the ledger

pub mod conflict;
pub mod decide;
pub mod delivery;
pub mod events;
pub mod level;
pub mod names;
pub mod plan;
pub mod reservation;
pub mod seen;
pub mod stock;

pub use conflict::{Conflict, ConflictKind, ConflictLine, Conflicts};
pub use decide::{
    Action, Command, Decision, Heard, Refusal, Shipment, StockChange, StockCommand, StockRefusal, Target,
    decide, decide_stock,
};
pub use delivery::{Claim, Claims, DeliveredLines, Deliveries, Delivery};
pub use level::{Alert, Level};
pub use names::{
    IdempotencyKey, Invalid, Location, MAX_QUOTED_CHARS, OrderId, ProductId, Reason, ReservationId,
    ShipmentId, excerpt, excerpt_of_sentence,
};
pub use plan::{Effect, Guard, IdempotencyRecord, Move, Obstacle, Plan, RecordWrite};
pub use reservation::{
    Allocation, Fact, Fingerprint, Line, LineKey, OrderLines, Ordered, Reservation, State, may_end_until,
};
pub use seen::{Look, Seen, SeenRecord, Sighting};
pub use stock::{Cause, Counter, Delta, Edit, Lack, Quantity, Shortage, StockUnit, UnitKey, Whole};

/// A point in time. All of Holdfast counts in whole milliseconds, UTC.
pub type Timestamp = jiff::Timestamp;
