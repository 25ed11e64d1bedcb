//! What is asked of an order's reservation, and why a request may be refused.

use crate::domain::Timestamp;
use crate::domain::delivery::Delivery;
use crate::domain::fact::Fact;
use crate::domain::lines::{OrderLines, Ordered};
use crate::domain::names::{OrderId, Reason, ReservationId, ShipmentId};
use crate::domain::stock::{Shortage, UnitKey};

/// Most part shipments of one order; keeps its record far below the size limit of an item.
pub const MAX_SHIPMENTS: usize = 200;

/// Something that is to be done with an order's reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Whose reservation.
    pub target: Target,
    /// Of the request or event, kept in the record.
    pub correlation_id: String,
    /// What is to be done.
    pub action: Action,
}

/// Whose reservation a command is for. An order and its reservation have one id each, and the second follows from
/// the first: a command names one of them, so that they cannot contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The reservation of this order. Only for an order a record can be begun.
    Order(OrderId),
    /// The reservation with this id; there is one, or the command is refused.
    Reservation(ReservationId),
}

impl Target {
    /// The reservation's id. That of an order is computed.
    #[must_use]
    pub fn id(&self) -> ReservationId {
        match self {
            Self::Order(order_id) => ReservationId::of(order_id),
            Self::Reservation(id) => *id,
        }
    }

    /// The order, where the command names it.
    #[must_use]
    pub fn order_id(&self) -> Option<&OrderId> {
        match self {
            Self::Order(order_id) => Some(order_id),
            Self::Reservation(_) => None,
        }
    }
}

/// What a command is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Hold all lines or none.
    Reserve {
        /// What to hold.
        lines: OrderLines,
        /// Until when. None: until someone comes.
        expires_at: Option<Timestamp>,
    },
    /// Keep a temporary hold for good.
    Confirm,
    /// Give back what is held.
    Release {
        /// Why. That the payment failed is the one reason that a later payment undoes.
        reason: Reason,
    },
    /// Let held goods leave the shelf.
    Deduct {
        /// Which; none for all that is held.
        part: Option<Shipment>,
    },
    /// Hold for longer. Never shortens.
    Extend {
        /// Until when.
        expires_at: Timestamp,
    },
    /// Give back what is held past its time and the margin for clocks.
    Expire,
    /// Take note of a fact.
    Hear {
        /// What was heard.
        heard: Heard,
        /// Until when to hold, if that is what comes of it.
        expires_at: Option<Timestamp>,
    },
}

/// A fact, with what it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The order is there.
    Created(Ordered),
    /// A payment failed.
    PaymentFailed,
    /// It is paid.
    Paid,
    /// It is cancelled.
    Cancelled,
    /// Goods have left.
    Delivered(Delivery),
}

impl Heard {
    /// Which fact it is.
    #[must_use]
    pub fn fact(&self) -> Fact {
        match self {
            Self::Created(_) => Fact::Created,
            Self::PaymentFailed => Fact::PaymentFailed,
            Self::Paid => Fact::Paid,
            Self::Cancelled => Fact::Cancelled,
            Self::Delivered(_) => Fact::Delivered,
        }
    }
}

impl Action {
    /// The operation's name in records, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reserve { .. } => "reserve",
            Self::Confirm => "confirm",
            Self::Release { .. } => "release",
            Self::Deduct { .. } => "deduct",
            Self::Extend { .. } => "extend",
            Self::Expire => "expire",
            Self::Hear { heard, .. } => heard.fact().name(),
        }
    }
}

/// A part of an order that leaves by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipment {
    /// Tells it from others. None: it is the same shipment as one with the same lines.
    pub id: Option<ShipmentId>,
    /// What leaves.
    pub lines: OrderLines,
}
/// Why a request cannot be, for what was seen and at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The stock could not serve these lines. At one moment each of them lacked what is said.
    Short(Vec<Shortage>),
    /// Nothing is known of such an order.
    NotFound,
    /// The order was reserved before, with other lines.
    LinesDiffer,
    /// Its time had run out.
    Expired,
    /// It was given back.
    Released {
        /// Why.
        reason: Reason,
    },
    /// The goods have left.
    Fulfilled,
    /// It is paid, so the request no longer applies.
    Confirmed,
    /// It came as an event and could not be held.
    Rejected,
    /// More is to leave than is held for the order.
    NotHeld {
        /// The line.
        unit: UnitKey,
        /// What was asked for.
        requested: u64,
        /// What is held.
        held: u64,
    },
    /// A shipment with this id left before, with other lines.
    ShipmentDiffers,
    /// [`MAX_SHIPMENTS`] have left before.
    TooManyShipments,
}
