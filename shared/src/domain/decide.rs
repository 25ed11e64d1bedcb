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
//! state follows from the set of facts heard, not from their order.

use super::Timestamp;
use super::names::{OrderId, Reason, ReservationId, ShipmentId};
use super::reservation::{Allocation, Fact, Fingerprint, Line, OrderLines, Reservation, State};
use super::stock::{Delta, Shortage, UnitKey};

/// Most part shipments of one order; keeps its record far below the size limit of an item.
pub const MAX_SHIPMENTS: usize = 200;

/// Something that is to be done with an order's reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The reservation.
    pub id: ReservationId,
    /// The order, where it is known. Only with it a record can be begun.
    pub order_id: Option<OrderId>,
    /// Of the request or event, kept in the record.
    pub correlation_id: String,
    /// What is to be done.
    pub action: Action,
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
    /// Give back what is held past its time.
    Expire,
    /// Take note of a fact.
    Hear {
        /// What was heard.
        fact: Fact,
        /// The order's lines, where the fact came with them.
        lines: Option<OrderLines>,
        /// Until when to hold, if that is what comes of it.
        expires_at: Option<Timestamp>,
        /// What the stock lacked when this command was tried before; empty at first.
        short: Vec<Shortage>,
    },
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
            Self::Hear { fact, .. } => fact.name(),
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
    let absent = || {
        let order_id = command.order_id.clone()?;
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
        Action::Hear { fact, lines, expires_at, short } => {
            change.hear(*fact, lines.as_ref(), *expires_at, short)
        }
    }
}

/// Whether a confirm may be written without having read the record: it may for a temporary hold that
/// is not due. The store puts this very rule into a condition.
#[must_use]
pub fn confirms_unread(seen: &Reservation, now: Timestamp) -> bool {
    seen.state == State::Reserved && !seen.is_due(now)
}

/// A decision in the making.
struct Change {
    seen: Reservation,
    next: Reservation,
    now: Timestamp,
}

/// The requests.
impl Change {
    fn reserve(self, lines: &OrderLines, expires_at: Option<Timestamp>) -> Decision {
        if self.seen.state == State::Pending {
            // The facts that were heard first may already rule a hold out.
            return match strongest(&self.seen) {
                Some(Fact::Delivered) => refuse(Refusal::Fulfilled),
                Some(Fact::Cancelled) => refuse(Refusal::Released { reason: self.reason_cancelled() }),
                Some(Fact::PaymentFailed) => refuse(Refusal::Released { reason: Reason::payment_failed() }),
                Some(Fact::Paid | Fact::Created) | None => {
                    self.hear(Fact::Created, Some(lines), expires_at, &[])
                }
            };
        }
        if self.seen.fingerprint != Some(lines.fingerprint()) {
            return refuse(Refusal::LinesDiffer);
        }
        match self.seen.state_at(self.now) {
            State::Reserved | State::Confirmed | State::Fulfilled => Decision::Unchanged,
            _ => refuse(self.refusal()),
        }
    }

    fn confirm(mut self) -> Decision {
        match self.seen.state_at(self.now) {
            State::Reserved => {
                self.next.facts.insert(Fact::Paid, self.now);
                self.become_confirmed();
                self.commit(Vec::new())
            }
            State::Confirmed | State::Fulfilled => Decision::Unchanged,
            _ => refuse(self.refusal()),
        }
    }

    fn release(mut self, reason: &Reason) -> Decision {
        let fact = if reason.is_payment_failed() { Fact::PaymentFailed } else { Fact::Cancelled };
        match self.seen.state {
            State::Fulfilled => return refuse(Refusal::Fulfilled),
            // A payment has succeeded since, so it is not given back for one that failed.
            State::Confirmed if fact == Fact::PaymentFailed => return refuse(Refusal::Confirmed),
            _ => {}
        }
        if self.seen.heard(fact) || self.seen.heard(Fact::Cancelled) {
            return Decision::Unchanged;
        }
        if self.seen.state == State::Pending {
            // A tombstone: a reserve that is still under way must not hold for an order given up.
            self.next.reason = Some(reason.clone());
        }
        self.next.facts.insert(fact, self.now);
        let moves = self.become_released(reason.clone());
        self.commit(moves)
    }

    fn deduct(mut self, part: Option<&Shipment>) -> Decision {
        if let Some(shipment) = part {
            let (id, fingerprint) = identity(shipment);
            match self.seen.shipments.get(&id) {
                Some(before) if *before == fingerprint => return Decision::Unchanged,
                Some(_) => return refuse(Refusal::ShipmentDiffers),
                None => {}
            }
            if self.seen.state_at(self.now).holds() {
                if self.seen.shipments.len() >= MAX_SHIPMENTS {
                    return refuse(Refusal::TooManyShipments);
                }
                self.next.shipments.insert(id, fingerprint);
            }
        }
        match (self.seen.state_at(self.now), part) {
            (State::Reserved | State::Confirmed, None) => {
                let moves = self.ship_all_held();
                self.commit(moves)
            }
            (State::Reserved | State::Confirmed, Some(shipment)) => match self.ship_held(&shipment.lines) {
                Ok(moves) => self.commit(moves),
                Err(refusal) => refuse(refusal),
            },
            (State::Fulfilled, None) => Decision::Unchanged,
            _ => refuse(self.refusal()),
        }
    }

    fn extend(mut self, expires_at: Timestamp) -> Decision {
        match self.seen.state_at(self.now) {
            State::Reserved if self.seen.expires_at.is_none_or(|at| at >= expires_at) => Decision::Unchanged,
            State::Reserved => {
                self.next.expires_at = Some(expires_at);
                self.commit(Vec::new())
            }
            _ => refuse(self.refusal()),
        }
    }

    fn expire(mut self) -> Decision {
        if self.seen.version == 0 {
            return refuse(Refusal::NotFound);
        }
        if !self.seen.is_due(self.now) {
            return Decision::Unchanged;
        }
        self.next.state = State::Expired;
        self.next.released_at = Some(self.now);
        let moves = self.give_back();
        self.commit(moves)
    }

    /// What a request is told that the record's state does not allow.
    fn refusal(&self) -> Refusal {
        match self.seen.state_at(self.now) {
            State::Pending if self.seen.heard(Fact::Cancelled) => {
                Refusal::Released { reason: self.reason_cancelled() }
            }
            State::Pending | State::Reserved => Refusal::NotFound,
            State::Confirmed => Refusal::Confirmed,
            State::Fulfilled => Refusal::Fulfilled,
            State::Released => {
                let reason = self.seen.reason.clone().unwrap_or_else(Reason::order_cancelled);
                Refusal::Released { reason }
            }
            State::Expired => Refusal::Expired,
            State::Rejected => Refusal::Rejected,
        }
    }

    /// Why it was cancelled. A payment that failed is a weaker reason than that.
    fn reason_cancelled(&self) -> Reason {
        let given = self.seen.reason.clone().filter(|reason| !reason.is_payment_failed());
        given.unwrap_or_else(Reason::order_cancelled)
    }
}

/// The facts.
impl Change {
    fn hear(
        mut self,
        fact: Fact,
        lines: Option<&OrderLines>,
        expires_at: Option<Timestamp>,
        short: &[Shortage],
    ) -> Decision {
        let heard_before = self.seen.heard(fact);
        self.next.facts.entry(fact).or_insert(self.now);
        let other_lines =
            |lines: &OrderLines| self.seen.fingerprint.is_some_and(|f| f != lines.fingerprint());
        if fact == Fact::Created && lines.is_some_and(other_lines) {
            return refuse(Refusal::LinesDiffer);
        }
        // A fact that was heard without the lines may bring them later, under its other name.
        let brings_lines = self.seen.state == State::Pending && lines.is_some() && self.tells_of_lines();
        if heard_before && !brings_lines {
            return Decision::Unchanged;
        }
        let moves = match (self.seen.state, fact) {
            (State::Pending, _) => self.hear_pending(lines, expires_at, short),
            (State::Reserved | State::Confirmed, _) => self.hear_held(fact),
            (State::Released | State::Expired | State::Rejected, Fact::Delivered) => self.ship_unheld(short),
            (State::Released | State::Expired, Fact::Paid) => self.take_again(short),
            (State::Released | State::Expired, Fact::Cancelled) => {
                self.become_released(Reason::order_cancelled())
            }
            (State::Released | State::Expired, Fact::PaymentFailed) => {
                self.become_released(Reason::payment_failed())
            }
            (State::Fulfilled | State::Rejected, _) | (_, Fact::Created) => Vec::new(),
        };
        self.commit(moves)
    }

    /// Until the lines are known, facts are only collected; then the strongest decides.
    fn hear_pending(
        &mut self,
        lines: Option<&OrderLines>,
        expires_at: Option<Timestamp>,
        short: &[Shortage],
    ) -> Vec<StockMove> {
        let Some(lines) = lines.filter(|_| self.tells_of_lines()) else {
            return Vec::new();
        };
        self.next.lines = lines.iter().map(|(key, quantity)| Line::new(key.clone(), quantity)).collect();
        self.next.fingerprint = Some(lines.fingerprint());
        match strongest(&self.next) {
            Some(Fact::Delivered) => self.ship_unheld(short),
            Some(Fact::Cancelled) => {
                let reason = self.reason_cancelled();
                self.become_released(reason)
            }
            Some(Fact::PaymentFailed) => self.become_released(Reason::payment_failed()),
            Some(Fact::Paid | Fact::Created) | None if !short.is_empty() => {
                self.next.state = State::Rejected;
                self.next.shortages = short.to_vec();
                Vec::new()
            }
            Some(Fact::Paid) => {
                self.become_confirmed();
                self.hold(Limit::Checked)
            }
            Some(Fact::Created) | None => {
                self.next.state = State::Reserved;
                self.next.expires_at = expires_at;
                self.hold(Limit::Checked)
            }
        }
    }

    /// Whether a fact was heard that makes lines those of the order.
    fn tells_of_lines(&self) -> bool {
        self.next.heard(Fact::Created) || self.next.heard(Fact::Delivered)
    }

    fn hear_held(&mut self, fact: Fact) -> Vec<StockMove> {
        match (self.seen.state, fact) {
            (_, Fact::Delivered) => self.ship_all_held(),
            (_, Fact::Cancelled) => self.become_released(Reason::order_cancelled()),
            (State::Reserved, Fact::PaymentFailed) => self.become_released(Reason::payment_failed()),
            (State::Reserved, Fact::Paid) => {
                self.become_confirmed();
                Vec::new()
            }
            // A payment had succeeded, so one that failed changes nothing.
            _ => Vec::new(),
        }
    }

    /// Paid after all: the stock is taken again, or it is recorded that it was no longer there. Not
    /// for an order that was cancelled; there a refund is due.
    fn take_again(&mut self, short: &[Shortage]) -> Vec<StockMove> {
        if self.seen.heard(Fact::Cancelled) {
            return Vec::new();
        }
        if !short.is_empty() {
            self.next.shortages = short.to_vec();
            return Vec::new();
        }
        self.become_confirmed();
        self.hold(Limit::Passed)
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
    fn commit(self, moves: Vec<StockMove>) -> Decision {
        Decision::Commit(Box::new(Commit { next: self.next, moves }))
    }

    fn become_confirmed(&mut self) {
        self.next.state = State::Confirmed;
        self.next.confirmed_at = Some(self.now);
        self.next.expires_at = None;
        self.next.released_at = None;
        self.next.reason = None;
    }

    /// Gives back what is held. An order that was never held, or was rejected, only takes note.
    fn become_released(&mut self, reason: Reason) -> Vec<StockMove> {
        let known = !self.next.lines.is_empty() && self.seen.state != State::Rejected;
        let weaker = self.seen.state == State::Released && self.seen.heard(Fact::Cancelled);
        if known && !weaker {
            self.next.state = State::Released;
            self.next.reason = Some(reason);
            self.next.released_at.get_or_insert(self.now);
        }
        self.give_back()
    }

    /// Takes all that is open from bucket 0 of each line.
    fn hold(&mut self, limit: Limit) -> Vec<StockMove> {
        let mut moves = Vec::new();
        for i in 0..self.next.lines.len() {
            let ordered = (limit == Limit::Checked).then(|| self.ordered_of_product(i));
            let line = &mut self.next.lines[i];
            let quantity = line.open();
            if quantity == 0 {
                continue;
            }
            line.allocations = vec![Allocation { bucket: 0, quantity }];
            moves.push(StockMove { unit: line.key.unit(0), delta: Delta::hold(quantity), ordered });
        }
        moves
    }

    /// How much the order asks for of the product of line `i`, over all locations.
    fn ordered_of_product(&self, i: usize) -> u64 {
        let product = &self.next.lines[i].key.product;
        self.next.lines.iter().filter(|l| l.key.product == *product).map(|l| l.quantity).sum()
    }

    fn give_back(&mut self) -> Vec<StockMove> {
        self.drain_allocations(Delta::give_back)
    }

    fn ship_all_held(&mut self) -> Vec<StockMove> {
        for line in &mut self.next.lines {
            line.fulfilled += line.held();
        }
        let moves = self.drain_allocations(Delta::ship_held);
        self.become_fulfilled();
        moves
    }

    /// Ships a part. The order is fulfilled when nothing is left of it.
    fn ship_held(&mut self, part: &OrderLines) -> Result<Vec<StockMove>, Refusal> {
        let mut moves = Vec::new();
        for (key, quantity) in part.iter() {
            let requested = quantity.get();
            let Some(line) = self.next.lines.iter_mut().find(|l| l.key == *key) else {
                return Err(Refusal::NotHeld { unit: key.unit(0), requested, held: 0 });
            };
            if line.held() < requested {
                return Err(Refusal::NotHeld { unit: key.unit(0), requested, held: line.held() });
            }
            let mut left = requested;
            for allocation in &mut line.allocations {
                let taken = allocation.quantity.min(left);
                if taken == 0 {
                    continue;
                }
                allocation.quantity -= taken;
                left -= taken;
                moves.push(StockMove {
                    unit: key.unit(allocation.bucket),
                    delta: Delta::ship_held(taken),
                    ordered: None,
                });
            }
            line.allocations.retain(|a| a.quantity > 0);
            line.fulfilled += requested;
        }
        if self.next.lines.iter().all(|l| l.held() == 0) {
            self.become_fulfilled();
        }
        Ok(moves)
    }

    /// The goods have left though nothing was held: takes what is available, notes what is missing.
    fn ship_unheld(&mut self, short: &[Shortage]) -> Vec<StockMove> {
        let mut moves = Vec::new();
        self.next.shortages.clear();
        for line in &mut self.next.lines {
            let unit = line.key.unit(0);
            let open = line.open();
            let shortage = short.iter().find(|s| s.unit == unit);
            let taken = shortage.map_or(open, |s| open.min(s.lack.available()));
            // A second try asked for less; what the order is short of is told by what it asked for.
            self.next.shortages.extend(shortage.map(|s| Shortage { requested: open, ..s.clone() }));
            line.fulfilled += taken;
            line.missing += open - taken;
            if taken > 0 {
                moves.push(StockMove { unit, delta: Delta::ship_unheld(taken), ordered: None });
            }
        }
        // Without lines nothing can be shipped yet: the fact waits for them.
        if !self.next.lines.is_empty() {
            self.become_fulfilled();
        }
        moves
    }

    fn become_fulfilled(&mut self) {
        self.next.state = State::Fulfilled;
        self.next.fulfilled_at = Some(self.now);
        self.next.expires_at = None;
        self.next.facts.entry(Fact::Delivered).or_insert(self.now);
    }

    fn drain_allocations(&mut self, delta: fn(u64) -> Delta) -> Vec<StockMove> {
        let mut moves = Vec::new();
        for line in &mut self.next.lines {
            for allocation in std::mem::take(&mut line.allocations) {
                let unit = line.key.unit(allocation.bucket);
                moves.push(StockMove { unit, delta: delta(allocation.quantity), ordered: None });
            }
        }
        moves
    }
}

fn refuse(refusal: Refusal) -> Decision {
    Decision::Refuse(refusal)
}

fn strongest(reservation: &Reservation) -> Option<Fact> {
    reservation.facts.keys().next_back().copied()
}

/// What tells a shipment from others, and what it consists of.
fn identity(shipment: &Shipment) -> (ShipmentId, Fingerprint) {
    let fingerprint = shipment.lines.fingerprint();
    let id = shipment.id.clone().unwrap_or_else(|| {
        ShipmentId::parse(fingerprint.0.to_string()).expect("a UUID has the characters of a shipment id")
    });
    (id, fingerprint)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
