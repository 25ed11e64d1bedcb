//! Requests: each may be refused, and a refused one leaves no trace.

use super::{Decision, MAX_SHIPMENTS, Moves, Refusal, Shipment, Transition, refuse, strongest_fact};
use crate::domain::Timestamp;
use crate::domain::fact::Fact;
use crate::domain::lines::{Allocation, Fingerprint, Line, OrderLines, Ordered};
use crate::domain::names::{Reason, ShipmentId};
use crate::domain::reservation::State;
use crate::domain::stock::{Delta, Shortage};

impl Transition<'_> {
    pub(super) fn reserve(self, lines: &OrderLines, expires_at: Option<Timestamp>) -> Decision<Refusal> {
        if self.before.fingerprint.is_none() {
            // The facts that were heard first may already rule a hold out.
            return match strongest_fact(&self.before) {
                Some(Fact::Delivered) => refuse(Refusal::Fulfilled),
                Some(Fact::Cancelled) => refuse(Refusal::Released { reason: self.cancellation_reason() }),
                Some(Fact::PaymentFailed) => refuse(Refusal::Released { reason: Reason::payment_failed() }),
                Some(Fact::Paid | Fact::Created) | None => {
                    let known = self.before.shortages.clone();
                    refuse_if_short(self.hear_created(&Ordered::Lines(lines.clone()), expires_at), &known)
                }
            };
        }
        if self.before.fingerprint != Some(lines.fingerprint()) {
            // Lines that were too many to be kept are not there to be compared with.
            let is_ordered = self.before.lines.iter().any(Line::is_ordered);
            return refuse(if is_ordered { Refusal::LinesDiffer } else { self.refusal() });
        }
        match self.before.state_at(self.now) {
            State::Reserved | State::Confirmed | State::Fulfilled => Decision::Unchanged,
            _ => refuse(self.refusal()),
        }
    }

    pub(super) fn confirm(mut self) -> Decision<Refusal> {
        match self.before.state_at(self.now) {
            State::Reserved => {
                self.next.facts.insert(Fact::Paid, self.now);
                self.become_confirmed();
                self.commit(Moves::default())
            }
            State::Confirmed | State::Fulfilled => Decision::Unchanged,
            _ => refuse(self.refusal()),
        }
    }

    pub(super) fn release(mut self, reason: &Reason) -> Decision<Refusal> {
        let fact = if reason.is_payment_failed() { Fact::PaymentFailed } else { Fact::Cancelled };
        match self.before.state {
            State::Fulfilled => return refuse(Refusal::Fulfilled),
            // A payment has succeeded since, so it is not given back for one that failed.
            State::Confirmed if fact == Fact::PaymentFailed => return refuse(Refusal::Confirmed),
            _ => {}
        }
        if self.before.has_heard(fact) || self.before.has_heard(Fact::Cancelled) {
            return Decision::Unchanged;
        }
        if self.before.state == State::Pending {
            // A tombstone: a reserve that is still under way must not hold for an order given up.
            self.next.reason = Some(reason.clone());
        }
        self.next.facts.insert(fact, self.now);
        let moves = self.become_released(reason.clone());
        self.commit(moves)
    }

    pub(super) fn deduct(mut self, part: Option<&Shipment>) -> Decision<Refusal> {
        if let Some(shipment) = part {
            let (id, fingerprint) = identify_shipment(shipment);
            match self.before.shipments.get(&id) {
                Some(before) if *before == fingerprint => return Decision::Unchanged,
                Some(_) => return refuse(Refusal::ShipmentDiffers),
                None => {}
            }
            if self.before.state_at(self.now).holds() {
                if self.before.shipments.len() >= MAX_SHIPMENTS {
                    return refuse(Refusal::TooManyShipments);
                }
                self.next.shipments.insert(id, fingerprint);
            }
        }
        match (self.before.state_at(self.now), part) {
            (State::Reserved | State::Confirmed, None) => {
                let moves = self.ship_all_held();
                self.commit(moves)
            }
            (State::Reserved | State::Confirmed, Some(shipment)) => match self.ship_part(&shipment.lines) {
                Ok(moves) => self.commit(moves),
                Err(refusal) => refuse(refusal),
            },
            (State::Fulfilled, None) => Decision::Unchanged,
            _ => refuse(self.refusal()),
        }
    }

    pub(super) fn extend(mut self, expires_at: Timestamp) -> Decision<Refusal> {
        match self.before.state_at(self.now) {
            State::Reserved if self.before.expires_at.is_none_or(|at| at >= expires_at) => {
                Decision::Unchanged
            }
            State::Reserved => {
                self.next.expires_at = Some(expires_at);
                self.commit(Moves::default())
            }
            _ => refuse(self.refusal()),
        }
    }

    pub(super) fn expire(mut self) -> Decision<Refusal> {
        if self.before.version == 0 {
            return refuse(Refusal::NotFound);
        }
        if !self.before.may_end(self.now) {
            return Decision::Unchanged;
        }
        self.next.state = State::Expired;
        self.next.released_at = Some(self.now);
        let moves = self.give_back();
        self.commit(moves)
    }

    /// What a request is told that the record's state does not allow.
    fn refusal(&self) -> Refusal {
        match self.before.state_at(self.now) {
            State::Pending if self.before.has_heard(Fact::Cancelled) => {
                Refusal::Released { reason: self.cancellation_reason() }
            }
            State::Pending | State::Reserved => Refusal::NotFound,
            State::Confirmed => Refusal::Confirmed,
            State::Fulfilled => Refusal::Fulfilled,
            State::Released => {
                let reason = self.before.reason.clone().unwrap_or_else(Reason::order_cancelled);
                Refusal::Released { reason }
            }
            State::Expired => Refusal::Expired,
            State::Rejected => Refusal::Rejected,
        }
    }

    /// Why it was cancelled. A payment that failed is a weaker reason than that.
    pub(super) fn cancellation_reason(&self) -> Reason {
        let given = self.before.reason.clone().filter(|reason| !reason.is_payment_failed());
        given.unwrap_or_else(Reason::order_cancelled)
    }

    fn ship_all_held(&mut self) -> Moves {
        for line in &mut self.next.lines {
            self.next.deliveries.shipped.add_line(&line.key, line.held_units());
            line.fulfilled += line.held_units();
        }
        let moves = self.drain_allocations(Delta::ship_held);
        self.become_fulfilled();
        moves
    }

    /// Ships a part. The order is fulfilled when nothing is left of it.
    fn ship_part(&mut self, part: &OrderLines) -> Result<Moves, Refusal> {
        let mut moves = Moves::default();
        for (key, quantity) in part.iter() {
            let requested = quantity.get();
            let Some(line) = self.next.lines.iter_mut().find(|l| l.key == *key) else {
                return Err(Refusal::NotHeld { unit: key.unit(0), requested, held: 0 });
            };
            if line.held_units() < requested {
                return Err(Refusal::NotHeld { unit: key.unit(0), requested, held: line.held_units() });
            }
            for Allocation { bucket, quantity } in line.take_held(requested) {
                moves.add(key.unit(bucket), Delta::ship_held(quantity));
            }
            line.fulfilled += requested;
            self.next.deliveries.shipped.add_line(key, requested);
        }
        if self.next.lines.iter().all(|l| l.held_units() == 0) {
            self.become_fulfilled();
        }
        Ok(moves)
    }
}

/// A request for an order that the stock cannot serve leaves no trace, be it short of what is to be held or of what has
/// left before. A fact would be recorded with what it lacks.
fn refuse_if_short(decision: Decision<Refusal>, known: &[Shortage]) -> Decision<Refusal> {
    let Decision::Plan(plan) = &decision else { return decision };
    let Some(next) = plan.next_record() else { return decision };
    let is_new = |shortage: &&Shortage| next.state == State::Rejected || !known.contains(shortage);
    let short: Vec<Shortage> = next.shortages.iter().filter(is_new).cloned().collect();
    if short.is_empty() { decision } else { refuse(Refusal::Short(short)) }
}

/// What tells a shipment from others, and what it consists of.
fn identify_shipment(shipment: &Shipment) -> (ShipmentId, Fingerprint) {
    let fingerprint = shipment.lines.fingerprint();
    let id = shipment.id.clone().unwrap_or_else(|| {
        ShipmentId::parse(fingerprint.0.to_string()).expect("a UUID has the characters of a shipment id")
    });
    (id, fingerprint)
}
