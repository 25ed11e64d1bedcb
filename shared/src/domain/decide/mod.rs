//! The whole business, pure: what is to be written for a command, given what was seen.
//!
//! Everything that changes a reservation goes through [`decide`], and every other change of stock through
//! [`decide_stock`], whether it came by HTTP, as an event, or from the sweep. Both answer with a [`Plan`]: what to write,
//! and the guards under which it is right. The store commits it, or comes back with what stood in its way, and the
//! decision is made again on that.
//!
//! - `command.rs`: what is asked, and why it may be refused
//! - `requests.rs`: reserve, confirm, release, deduct, extend; and expire
//! - `facts.rs`: what was heard of an order; `deliveries.rs`: what was heard of goods that left
//! - `stock.rs`: create, add, adjust, audit, update
//!
//! Two kinds of command for an order differ in one thing. A *request* (reserve, confirm, release, deduct,
//! extend) may be refused, and a refused one leaves no trace. A *fact* (created, paid, payment
//! failed, cancelled, delivered) has happened and cannot be refused: it is always recorded, and the
//! state and the quantities follow from the set of facts heard, not from their order. Only where facts
//! contradict each other the first recorded one counts, and the other is kept as a [`Conflict`].
//!
//! [`Conflict`]: super::conflict::Conflict

mod command;
mod deliveries;
mod facts;
mod requests;
mod stock;

use std::collections::BTreeMap;

pub use command::{Action, Command, Heard, MAX_SHIPMENTS, Refusal, Shipment, Target};
pub use stock::{StockChange, StockCommand, StockRefusal, decide_stock};

use super::Timestamp;
use super::fact::Fact;
use super::lines::Allocation;
use super::names::{Reason, ReservationId};
use super::plan::{Guard, Move, Obstacle, Plan, RecordWrite};
use super::reservation::{Reservation, State};
use super::seen::{Look, Seen, SeenRecord};
use super::stock::{Cause, Delta, Shortage, UnitKey};
use crate::planted;

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<R> {
    /// This is to be written.
    Plan(Box<Plan>),
    /// It is so already; what was seen is the answer.
    Unchanged,
    /// It cannot be, and nothing is written.
    Refuse(R),
    /// This must be seen before it can be decided.
    Look(Look),
}

/// Decides what is to be written for a command, given what was seen.
///
/// Where nothing was seen of the record, what begins one takes it that there is none, and a confirm that there is a
/// temporary hold: their guards tell whether that was right. Everything else looks first. Nothing is called short unless
/// the stock was seen.
#[must_use]
pub fn decide(seen: &Seen, command: &Command, now: Timestamp) -> Decision<Refusal> {
    let decision = decide_unplanted(seen, command, now);
    #[cfg(feature = "planted")]
    let decision = crate::planted::decisions::disturb_decision(decision, seen, command, now);
    decision
}

/// The decision without the bugs that tests plant.
pub(crate) fn decide_unplanted(seen: &Seen, command: &Command, now: Timestamp) -> Decision<Refusal> {
    let id = command.target.id();
    let cause = Cause {
        operation: command.action.name().to_owned(),
        reference: id.to_string(),
        correlation_id: command.correlation_id.clone(),
    };
    let record = match (seen.record(), &command.action) {
        (SeenRecord::Present(record), _) => Some((**record).clone()),
        (SeenRecord::Absent, _) => None,
        (SeenRecord::Unseen, Action::Reserve { .. } | Action::Hear { heard: Heard::Created(_), .. }) => None,
        (SeenRecord::Unseen, Action::Confirm) => return confirm_unread(id, cause, now),
        (SeenRecord::Unseen | SeenRecord::Hidden, _) => return Decision::Look(Look::Record(id)),
    };
    let absent = || Some(Reservation::new(command.target.order_id()?.clone(), now));
    let Some(record) = record.or_else(absent) else {
        return Decision::Refuse(Refusal::NotFound);
    };
    let mut next = record.clone();
    next.version += 1;
    next.updated_at = now;
    next.correlation_id.clone_from(&command.correlation_id);
    let transition = Transition { before: record, next, seen, cause, now };
    match &command.action {
        Action::Reserve { lines, expires_at } => transition.reserve(lines, *expires_at),
        Action::Confirm => transition.confirm(),
        Action::Release { reason } => transition.release(reason),
        Action::Deduct { part } => transition.deduct(part.as_ref()),
        Action::Extend { expires_at } => transition.extend(*expires_at),
        Action::Expire => transition.expire(),
        Action::Hear { heard, expires_at } => match heard {
            Heard::Created(ordered) => transition.hear_created(ordered, *expires_at),
            Heard::Delivered(delivery) => transition.hear_delivered(delivery),
            Heard::PaymentFailed | Heard::Paid | Heard::Cancelled => transition.hear_of_payment(heard.fact()),
        },
    }
}

/// Confirms what was not read; see [`may_confirm_unread`].
fn confirm_unread(id: ReservationId, cause: Cause, now: Timestamp) -> Decision<Refusal> {
    let record = Some(RecordWrite::Confirm(id));
    Decision::Plan(Box::new(Plan { record, idempotency: None, moves: Vec::new(), cause, at: now }))
}

/// Whether a confirm may be written without having read the record: it may for a temporary hold that
/// is not due. The store puts this very rule into a condition ([`RecordWrite::Confirm`]).
#[must_use]
pub fn may_confirm_unread(seen: &Reservation, now: Timestamp) -> bool {
    seen.state == State::Reserved && !seen.is_due(now)
}

/// The change of one record in the making: each command takes it from the record that was seen to the next one.
#[derive(Clone)]
struct Transition<'a> {
    /// The record as it was seen; a new one where there was none.
    before: Reservation,
    /// As it will be.
    next: Reservation,
    /// What was seen of stock.
    seen: &'a Seen,
    cause: Cause,
    now: Timestamp,
}

/// Moves in the making, one for each stock unit.
#[derive(Clone, Default)]
struct Moves(BTreeMap<UnitKey, MoveBuilder>);

/// A move in the making; its guards follow.
#[derive(Clone, Copy, Default)]
struct MoveBuilder {
    delta: Delta,
    /// How much of the product the whole order asks for, where the purchase limit is to be checked against it.
    ordered: Option<u64>,
}

impl Moves {
    fn add(&mut self, unit: UnitKey, delta: Delta) {
        self.add_move(unit, MoveBuilder { delta, ordered: None });
    }

    fn add_move(&mut self, unit: UnitKey, more: MoveBuilder) {
        if more.delta == Delta::default() {
            return;
        }
        let sum = self.0.entry(unit).or_default();
        sum.delta = sum.delta.plus(more.delta);
        sum.ordered = sum.ordered.or(more.ordered);
    }

    fn add_all(&mut self, other: Self) {
        other.0.into_iter().for_each(|(unit, more)| self.add_move(unit, more));
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// The moves with their guards.
    fn finish(self) -> Vec<Move> {
        let guarded = |(unit, MoveBuilder { delta, ordered }): (UnitKey, MoveBuilder)| {
            let mut one = Move::shift(unit, delta);
            one.guards.extend(ordered.map(Guard::Limit));
            one
        };
        self.0.into_iter().map(guarded).collect()
    }

    /// What was seen to lack for them.
    fn shortages(self, stock: &Seen) -> Vec<Shortage> {
        let lack_of = |one: Move| {
            let sighting = stock.stock_unit(&one.unit)?;
            match one.obstacle(sighting.unit.as_ref())? {
                Obstacle::Lack(lack) => {
                    Some(Shortage { requested: one.requested_units(), unit: one.unit, lack })
                }
                Obstacle::NotAsSupposed | Obstacle::Broken => None,
            }
        };
        self.finish().into_iter().filter_map(lack_of).collect()
    }
}

/// Whether the purchase limit is still to be checked.
#[derive(PartialEq)]
enum Limit {
    Checked,
    Passed,
}

/// The steps that both kinds of command are made of.
impl Transition<'_> {
    fn commit(mut self, moves: Moves) -> Decision<Refusal> {
        let cancelled = self.next.has_heard(Fact::Cancelled) || self.next.state == State::Rejected;
        if self.next.has_heard(Fact::Paid) && cancelled {
            self.next.refused_at.get_or_insert(self.now);
        }
        Decision::Plan(Box::new(Plan {
            record: Some(RecordWrite::Put(Box::new(self.next))),
            idempotency: None,
            moves: moves.finish(),
            cause: self.cause,
            at: self.now,
        }))
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
        let known = self.next.fingerprint.is_some() && self.before.state != State::Rejected;
        let weaker = self.before.state == State::Released && self.before.has_heard(Fact::Cancelled);
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
            let quantity = line.open_units();
            if quantity == 0 {
                continue;
            }
            line.allocations = vec![Allocation { bucket: 0, quantity }];
            moves.add_move(line.key.unit(0), MoveBuilder { delta: Delta::hold(quantity), ordered });
        }
        moves
    }

    /// How much the order asks for of the product of line `i`, over all locations.
    fn ordered_of_product(&self, i: usize) -> u64 {
        let product = &self.next.lines[i].key.product;
        self.next.lines.iter().filter(|l| l.key.product == *product).map(|l| l.quantity).sum()
    }

    /// What the stock was seen to lack for these moves and for a hold of all that is open.
    fn shortages_of_hold(&self, moves: &Moves, limit: Limit) -> Vec<Shortage> {
        if !self.seen.has_stock() {
            return Vec::new();
        }
        let mut together = moves.clone();
        together.add_all(self.clone().hold(limit));
        let mut shortages = together.shortages(self.seen);
        for shortage in &mut shortages {
            // What has left without having been there was asked for, too.
            shortage.requested += self.newly_missing_units(&shortage.unit);
        }
        shortages
    }

    /// Units of a stock unit's line that were found missing in this decision.
    fn newly_missing_units(&self, unit: &UnitKey) -> u64 {
        let missing = |record: &Reservation| {
            let line = record.lines.iter().find(|line| line.key.unit(unit.bucket) == *unit);
            line.map_or(0, |line| line.missing)
        };
        missing(&self.next).saturating_sub(missing(&self.before))
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

fn refuse(refusal: Refusal) -> Decision<Refusal> {
    Decision::Refuse(refusal)
}

fn strongest_fact(reservation: &Reservation) -> Option<Fact> {
    let mut facts = reservation.facts.keys();
    let strongest = if planted("the-weakest-fact-decides") { facts.next() } else { facts.next_back() };
    strongest.copied()
}

#[cfg(test)]
pub(crate) mod tests;
