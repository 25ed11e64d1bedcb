//! The whole business in one pure function: what a command makes of a reservation.
//!
//! Everything that changes a reservation goes through [`decide`], whether it came by HTTP, as an
//! event, or from the sweep. It answers with what to write, under the condition that the record is
//! still the one that was seen; the store commits that, or comes back with the record that was
//! there instead.
//!
//! Two kinds of command differ in one thing. A *request* (reserve, confirm, release, deduct,
//! extend) may be refused, and a refused one leaves no trace. A *fact* (created, paid, payment
//! failed, cancelled, delivered) has happened and cannot be refused: it is always recorded, and the
//! state and the quantities follow from the set of facts heard, not from their order. Only where facts
//! contradict each other the first recorded one counts, and the other is kept as a [`Conflict`].
//!
//! [`Conflict`]: super::conflict::Conflict

mod deliveries;
mod facts;
mod requests;

use std::collections::BTreeMap;

use super::Timestamp;
use super::delivery::Delivery;
use super::names::{OrderId, Reason, ReservationId, ShipmentId};
use super::reservation::{Allocation, Fact, OrderLines, Ordered, Reservation, State};
use super::stock::{Delta, Shortage, UnitKey};
use crate::planted;

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
        /// What the stock lacked when this command was tried before; empty at first.
        short: Vec<Shortage>,
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

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This is to be written.
    Commit(Box<Commit>),
    /// It is so already; the record is the answer.
    Unchanged,
    /// It cannot be, and nothing is written.
    Refuse(Refusal),
}

/// One write: the record and the stock, together or not at all, under the condition that the record
/// is still at the version before (`next.version - 1`; 0 means that there is none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The record as it will be.
    pub next: Reservation,
    /// What moves, at most one move for each stock unit.
    pub moves: Vec<StockMove>,
}

/// A change of one stock unit, under the condition that no counter gets below zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockMove {
    /// The stock unit.
    pub unit: UnitKey,
    /// The change.
    pub delta: Delta,
    /// How much of the product the whole order asks for, where the purchase limit is to be
    /// checked against it.
    pub ordered: Option<u64>,
}

/// Why a request cannot be, for the record as it was seen and at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
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

/// Decides what a command makes of a reservation, as it was seen (none: there is no record).
///
/// A confirm of the ordinary case has a second form, [`confirms_unread`], that needs no reading.
#[must_use]
pub fn decide(seen: Option<&Reservation>, command: &Command, now: Timestamp) -> Decision {
    let decision = decided(seen, command, now);
    #[cfg(feature = "planted")]
    let decision = crate::planted::decisions::disturbed(decision, seen, command, now);
    decision
}

pub(crate) fn decided(seen: Option<&Reservation>, command: &Command, now: Timestamp) -> Decision {
    let absent = || {
        let order_id = command.target.order_id()?.clone();
        Some(Reservation::nothing_yet(order_id, now))
    };
    let Some(seen) = seen.cloned().or_else(absent) else {
        return Decision::Refuse(Refusal::NotFound);
    };
    let mut next = seen.clone();
    next.version += 1;
    next.updated_at = now;
    next.correlation_id.clone_from(&command.correlation_id);
    let change = Change { seen, next, now };
    match &command.action {
        Action::Reserve { lines, expires_at } => change.reserve(lines, *expires_at),
        Action::Confirm => change.confirm(),
        Action::Release { reason } => change.release(reason),
        Action::Deduct { part } => change.deduct(part.as_ref()),
        Action::Extend { expires_at } => change.extend(*expires_at),
        Action::Expire => change.expire(),
        Action::Hear { heard, expires_at, short } => match heard {
            Heard::Created(ordered) => change.hear_created(ordered, *expires_at, short),
            Heard::Delivered(delivery) => change.hear_delivered(delivery, short),
            Heard::PaymentFailed | Heard::Paid | Heard::Cancelled => {
                change.hear_of_payment(heard.fact(), short)
            }
        },
    }
}

/// Whether a confirm may be written without having read the record: it may for a temporary hold that
/// is not due. The store puts this very rule into a condition.
#[must_use]
pub fn confirms_unread(seen: &Reservation, now: Timestamp) -> bool {
    seen.state == State::Reserved && !seen.is_due(now)
}

/// A decision in the making.
#[derive(Clone)]
struct Change {
    seen: Reservation,
    next: Reservation,
    now: Timestamp,
}

/// Moves in the making, one for each stock unit.
#[derive(Default)]
struct Moves(BTreeMap<UnitKey, StockMove>);

impl Moves {
    fn add(&mut self, unit: UnitKey, delta: Delta) {
        self.add_move(StockMove { unit, delta, ordered: None });
    }

    fn add_move(&mut self, more: StockMove) {
        if more.delta == Delta::default() {
            return;
        }
        match self.0.get_mut(&more.unit) {
            Some(stock_move) => {
                stock_move.delta = stock_move.delta.and(more.delta);
                stock_move.ordered = stock_move.ordered.or(more.ordered);
            }
            None => drop(self.0.insert(more.unit.clone(), more)),
        }
    }

    fn and(&mut self, other: Self) {
        other.0.into_values().for_each(|stock_move| self.add_move(stock_move));
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether the purchase limit is still to be checked.
#[derive(PartialEq)]
enum Limit {
    Checked,
    Passed,
}

/// The steps that both kinds are made of.
impl Change {
    fn commit(mut self, moves: Moves) -> Decision {
        let cancelled = self.next.heard(Fact::Cancelled) || self.next.state == State::Rejected;
        if self.next.heard(Fact::Paid) && cancelled {
            self.next.refused_at.get_or_insert(self.now);
        }
        Decision::Commit(Box::new(Commit { next: self.next, moves: moves.0.into_values().collect() }))
    }

    fn become_confirmed(&mut self) {
        self.next.state = State::Confirmed;
        self.next.confirmed_at = Some(self.now);
        self.next.expires_at = None;
        self.next.released_at = None;
        self.next.reason = None;
    }

    /// Gives back what is held. An order that was never held, or was rejected, only takes note.
    fn become_released(&mut self, reason: Reason) -> Moves {
        let known = self.next.fingerprint.is_some() && self.seen.state != State::Rejected;
        let weaker = self.seen.state == State::Released && self.seen.heard(Fact::Cancelled);
        if known && !weaker {
            self.next.state = State::Released;
            self.next.reason = Some(reason);
            self.next.released_at.get_or_insert(self.now);
        }
        self.give_back()
    }

    /// Takes all that is open from bucket 0 of each line.
    fn hold(&mut self, limit: Limit) -> Moves {
        let mut moves = Moves::default();
        for i in 0..self.next.lines.len() {
            let ordered = (limit == Limit::Checked).then(|| self.ordered_of_product(i));
            let line = &mut self.next.lines[i];
            let quantity = line.open();
            if quantity == 0 {
                continue;
            }
            line.allocations = vec![Allocation { bucket: 0, quantity }];
            moves.add_move(StockMove { unit: line.key.unit(0), delta: Delta::hold(quantity), ordered });
        }
        moves
    }

    /// How much the order asks for of the product of line `i`, over all locations.
    fn ordered_of_product(&self, i: usize) -> u64 {
        let product = &self.next.lines[i].key.product;
        self.next.lines.iter().filter(|l| l.key.product == *product).map(|l| l.quantity).sum()
    }

    fn give_back(&mut self) -> Moves {
        self.drain_allocations(Delta::give_back)
    }

    fn become_fulfilled(&mut self) {
        self.next.state = State::Fulfilled;
        self.next.fulfilled_at.get_or_insert(self.now);
        self.next.expires_at = None;
        self.next.facts.entry(Fact::Delivered).or_insert(self.now);
    }

    fn drain_allocations(&mut self, delta: fn(u64) -> Delta) -> Moves {
        let mut moves = Moves::default();
        for line in &mut self.next.lines {
            for allocation in std::mem::take(&mut line.allocations) {
                moves.add(line.key.unit(allocation.bucket), delta(allocation.quantity));
            }
        }
        moves
    }
}

fn refuse(refusal: Refusal) -> Decision {
    Decision::Refuse(refusal)
}

fn strongest(reservation: &Reservation) -> Option<Fact> {
    let mut facts = reservation.facts.keys();
    let strongest = if planted("the-weakest-fact-decides") { facts.next() } else { facts.next_back() };
    strongest.copied()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
pub(crate) mod tests;
