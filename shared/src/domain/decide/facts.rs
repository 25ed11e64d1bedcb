//! Facts: each has happened, so it is always recorded, and what comes of it follows from the set of them.

use super::{Decision, Limit, Moves, Refusal, Transition, strongest_fact};
use crate::domain::Timestamp;
use crate::domain::conflict::{self, Conflict, ConflictKind};
use crate::domain::fact::Fact;
use crate::domain::lines::{Line, OrderLines, Ordered};
use crate::domain::names::Reason;
use crate::domain::plan::MAX_MOVES;
use crate::domain::reservation::State;

impl Transition<'_> {
    /// The order is there: told by an event, or asked for by a request to reserve. What was heard before it decides what
    /// becomes of it.
    pub(super) fn hear_created(
        mut self,
        ordered: &Ordered,
        expires_at: Option<Timestamp>,
    ) -> Decision<Refusal> {
        self.next.facts.entry(Fact::Created).or_insert(self.now);
        match self.before.fingerprint {
            None => {}
            Some(fingerprint) if fingerprint != ordered.fingerprint() => {
                let conflict = self.conflict_of_order(ConflictKind::OtherLines, ordered);
                return self.note_conflict(conflict);
            }
            Some(_) if self.before.has_heard(Fact::Created) => return Decision::Unchanged,
            Some(_) => return self.commit(Moves::default()),
        }
        self.next.fingerprint = Some(ordered.fingerprint());
        if let Ordered::Lines(lines) = ordered {
            self.set_ordered_lines(lines);
        }
        let mut unbooked = self.clone();
        let moves = self.begin_order(ordered, expires_at);
        if moves.len() <= MAX_MOVES {
            return self.commit(moves);
        }
        unbooked.next.deliveries.bookings_stay = true;
        let moves = unbooked.begin_order(ordered, expires_at);
        unbooked.commit(moves)
    }

    /// The lines of the order take their places beside what has left before they were known.
    fn set_ordered_lines(&mut self, lines: &OrderLines) {
        for (key, quantity) in lines.iter() {
            match self.next.lines.iter_mut().find(|line| line.key == *key) {
                Some(line) => line.quantity = quantity.get(),
                None => self.next.lines.push(Line::new(key.clone(), quantity)),
            }
        }
        self.next.lines.sort_by(|a, b| a.key.cmp(&b.key));
    }

    /// What has left goes first; of the other facts the strongest decides.
    fn begin_order(&mut self, ordered: &Ordered, expires_at: Option<Timestamp>) -> Moves {
        let mut moves = self.book_deliveries();
        let kind = match ordered {
            Ordered::Lines(_) if self.has_left_beyond_order() => Some(ConflictKind::NotOrdered),
            Ordered::TooMany(_) if self.next.deliveries.all => Some(ConflictKind::UnknownLines),
            _ => None,
        };
        if let Some(kind) = kind {
            let conflict = self.conflict_of_order(kind, ordered);
            self.next.conflicts.note(conflict);
        }
        if self.has_left() {
            self.become_fulfilled();
            return moves;
        }
        let more = match (ordered, strongest_fact(&self.next)) {
            (Ordered::TooMany(_), _) => {
                self.next.state = State::Rejected;
                self.next.reason = Some(Reason::too_many_lines());
                Moves::default()
            }
            (_, Some(Fact::Cancelled)) => {
                let reason = self.cancellation_reason();
                self.become_released(reason)
            }
            (_, Some(Fact::PaymentFailed)) => self.become_released(Reason::payment_failed()),
            (_, strongest) => self.hold_or_reject(&moves, strongest, expires_at),
        };
        moves.add_all(more);
        moves
    }

    /// Holds the order, beside what has left of it, or rejects it where the stock was seen to be short.
    fn hold_or_reject(
        &mut self,
        left: &Moves,
        strongest: Option<Fact>,
        expires_at: Option<Timestamp>,
    ) -> Moves {
        let shortages = self.shortages_of_hold(left, Limit::Checked);
        if !shortages.is_empty() {
            self.next.state = State::Rejected;
            self.next.shortages = shortages;
            return Moves::default();
        }
        if strongest == Some(Fact::Paid) {
            self.become_confirmed();
        } else {
            self.next.state = State::Reserved;
            self.next.expires_at = expires_at;
        }
        self.hold(Limit::Checked)
    }

    fn conflict_of_order(&self, kind: ConflictKind, ordered: &Ordered) -> Conflict {
        let (lines, lines_fingerprint) = match ordered {
            Ordered::Lines(lines) => (conflict::lines_of_order(lines), None),
            Ordered::TooMany(fingerprint) => (Vec::new(), Some(*fingerprint)),
        };
        Conflict { kind, fact: Fact::Created, shipment: None, lines, lines_fingerprint, at: self.now }
    }

    /// Takes note of a contradiction, once; it changes nothing else.
    pub(super) fn note_conflict(mut self, conflict: Conflict) -> Decision<Refusal> {
        if !self.next.conflicts.note(conflict) {
            return Decision::Unchanged;
        }
        self.commit(Moves::default())
    }

    /// A payment that failed, one that succeeded, or a cancellation. They need no lines.
    pub(super) fn hear_of_payment(mut self, fact: Fact) -> Decision<Refusal> {
        if self.before.has_heard(fact) {
            return Decision::Unchanged;
        }
        self.next.facts.insert(fact, self.now);
        let moves = match (self.before.state, fact) {
            (State::Reserved | State::Confirmed, _) => self.hear_of_held_order(fact),
            (State::Released | State::Expired, Fact::Paid) => self.hold_again(),
            (State::Released | State::Expired, Fact::Cancelled) => {
                self.become_released(Reason::order_cancelled())
            }
            (State::Released | State::Expired, Fact::PaymentFailed) => {
                self.become_released(Reason::payment_failed())
            }
            // Until the order is known, facts are only collected; at its end they change nothing any more.
            _ => Moves::default(),
        };
        self.commit(moves)
    }

    fn hear_of_held_order(&mut self, fact: Fact) -> Moves {
        match (self.before.state, fact) {
            (_, Fact::Cancelled) => self.become_released(Reason::order_cancelled()),
            (State::Reserved, Fact::PaymentFailed) => self.become_released(Reason::payment_failed()),
            (State::Reserved, Fact::Paid) => {
                self.become_confirmed();
                Moves::default()
            }
            // A payment had succeeded, so one that failed changes nothing.
            _ => Moves::default(),
        }
    }

    /// Paid after all: the stock is taken again, or it is recorded that it was no longer there. Not
    /// for an order that was cancelled; there a refund is due.
    fn hold_again(&mut self) -> Moves {
        if self.before.has_heard(Fact::Cancelled) {
            return Moves::default();
        }
        let shortages = self.shortages_of_hold(&Moves::default(), Limit::Passed);
        if !shortages.is_empty() {
            self.next.shortages = shortages;
            return Moves::default();
        }
        self.become_confirmed();
        self.hold(Limit::Passed)
    }
}
