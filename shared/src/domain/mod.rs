//! The business, pure: no I/O, no clock, no AWS.
//!
//! Read [`decide`](mod@decide) first; it holds every rule about reservations. What it speaks of:
//!
//! - [`names`]: identifiers that parse, so that what exists is valid
//! - [`quantity`]: quantities as clients send them; [`stock`]: stock units and the arithmetic on their counters
//! - [`plan`]: what one decision writes, under which guards; [`seen`]: what it was decided on
//! - [`lines`]: what an order asks for; [`reservation`]: its one record, its state and the facts it has heard
//! - [`delivery`]: what deliveries say has left
//! - [`conflict`]: facts that contradict what was recorded first
//! - [`level`]: how a product stands to its threshold, and the alert that says so
//! - [`events`]: what is published of a change, and its movement in the ledger

pub mod conflict;
pub mod decide;
pub mod delivery;
pub mod events;
pub mod level;
pub mod lines;
pub mod names;
pub mod plan;
pub mod quantity;
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
pub use lines::{Allocation, Fingerprint, Line, LineKey, OrderLines, Ordered};
pub use names::{
    IdempotencyKey, Invalid, Location, MAX_QUOTED_CHARS, OrderId, ProductId, Reason, ReservationId,
    ShipmentId, excerpt, excerpt_of_sentence,
};
pub use plan::{Effect, Guard, IdempotencyRecord, Move, Obstacle, Plan, RecordWrite};
pub use quantity::{Edit, Quantity, Whole};
pub use reservation::{Fact, Reservation, State, may_end_until};
pub use seen::{Look, Seen, SeenRecord, Sighting};
pub use stock::{Cause, Counter, Delta, Lack, Shortage, StockUnit, UnitKey};

/// A point in time. All of Holdfast counts in whole milliseconds, UTC.
pub type Timestamp = jiff::Timestamp;
