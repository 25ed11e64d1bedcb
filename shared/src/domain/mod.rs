//! The business, pure: no I/O, no clock, no AWS.
//!
//! Read [`decide`](mod@decide) first; it holds every rule about reservations. The other modules are its terms:
//!
//! - [`names`]: identifiers that parse; a value that exists is valid
//! - [`quantity`]: quantities as clients send them; [`stock`]: stock units and the arithmetic on their counters
//! - [`plan`]: the writes of one decision and their guards; [`seen`]: the knowledge that it rests on
//! - [`lines`]: the lines of an order; [`fact`]: what may be heard of it; [`reservation`]: its one record and its state
//! - [`delivery`]: what left according to deliveries
//! - [`shared_transaction`]: transactions of several reservations, and how a movement names them
//! - [`conflict`]: facts that contradict what was recorded first
//! - [`level`]: the level of a stock unit against its threshold, and its alert
//! - [`events`]: the events and the ledger movement of a change
//! - `fixtures`: values for tests

pub mod conflict;
pub mod decide;
pub mod delivery;
pub mod events;
pub mod fact;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod level;
pub mod lines;
pub mod names;
pub mod plan;
pub mod quantity;
pub mod reservation;
pub mod seen;
pub mod shared_transaction;
pub mod stock;

pub use conflict::{Conflict, ConflictKind, ConflictLine, Conflicts};
pub use decide::{
    Action, Command, Decision, Heard, Refusal, Shipment, StockChange, StockCommand, StockRefusal, Target,
    decide, decide_stock,
};
pub use delivery::{Claim, Claims, DeliveredLines, Deliveries, Delivery};
pub use fact::Fact;
pub use level::{Alert, Level};
pub use lines::{Allocation, Fingerprint, Line, LineKey, OrderLines, Ordered};
pub use names::{
    IdempotencyKey, Invalid, Location, MAX_QUOTED_CHARS, OrderId, ProductId, Reason, ReservationId,
    ShipmentId, excerpt, excerpt_of_sentence,
};
pub use plan::{Effect, Guard, IdempotencyRecord, Move, Obstacle, Plan, RecordWrite};
pub use quantity::{Edit, Quantity, Whole};
pub use reservation::{Reservation, State, may_end_until};
pub use seen::{Look, Seen, SeenRecord, Sighting};
pub use shared_transaction::{SharedTransaction, SharedWrite};
pub use stock::{Cause, Counter, Delta, Lack, Shortage, StockUnit, UnitKey};

/// A point in time. All of Holdfast counts in whole milliseconds, UTC.
pub type Timestamp = jiff::Timestamp;
