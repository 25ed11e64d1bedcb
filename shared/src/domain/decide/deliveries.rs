//! Deliveries: goods have left, held or not. What all of them have said together decides how many units have left
//! from where, so that neither their order nor repetitions matter.

use std::collections::BTreeMap;

use super::{Decision, MAX_SHIPMENTS, Moves, Refusal, Transition};
use crate::domain::conflict::{self, Conflict, ConflictKind};
use crate::domain::delivery::{Claims, Delivery};
use crate::domain::fact::Fact;
use crate::domain::lines::{Allocation, Line, LineKey, MAX_LINES};
use crate::domain::plan::MAX_MOVES;
use crate::domain::seen::Seen;
use crate::domain::stock::{Delta, Lack, Shortage};

impl Transition<'_> {
    pub(super) fn hear_delivered(mut self, delivery: &Delivery) -> Decision<Refusal> {
        let kind = match delivery {
            Delivery::All => {
                self.next.deliveries.all = true;
                None
            }
            Delivery::Total(lines) => {
                self.next.deliveries.totals.merge_max(&Claims::of(lines));
                None
            }
            Delivery::Shipment(id, lines) => match self.before.shipments.get(id) {
                Some(before) if *before == lines.fingerprint() => return Decision::Unchanged,
                Some(_) => Some(ConflictKind::ShipmentDiffers),
                None if self.before.shipments.len() >= MAX_SHIPMENTS => Some(ConflictKind::TooMany),
                None => {
                    self.next.shipments.insert(id.clone(), lines.fingerprint());
                    self.next.deliveries.shipped.add(&Claims::of(lines));
                    None
                }
            },
        };
        if let Some(kind) = kind.or_else(|| self.has_too_many_lines().then_some(ConflictKind::TooMany)) {
            return self.note_unbookable_delivery(kind, delivery);
        }
        if !matches!(delivery, Delivery::Shipment(..)) {
            // One shipment of several does not yet say that the order was delivered.
            self.next.facts.entry(Fact::Delivered).or_insert(self.now);
        }
        if self.next.deliveries == self.before.deliveries && self.next.facts == self.before.facts {
            return Decision::Unchanged;
        }
        let unbooked = self.clone();
        let moves = self.deliver(delivery);
        if moves.len() > MAX_MOVES {
            return unbooked.note_unbookable_delivery(ConflictKind::TooMany, delivery);
        }
        self.commit(moves)
    }

    /// The delivery is told as a contradiction and does not count; what was booked before stands.
    fn note_unbookable_delivery(mut self, kind: ConflictKind, delivery: &Delivery) -> Decision<Refusal> {
        self.next.deliveries.clone_from(&self.before.deliveries);
        self.next.shipments.clone_from(&self.before.shipments);
        self.next.facts.clone_from(&self.before.facts);
        let conflict = self.conflict_of_delivery(kind, delivery);
        self.note_conflict(conflict)
    }

    fn deliver(&mut self, delivery: &Delivery) -> Moves {
        let mut moves = self.book_deliveries();
        let is_known = self.next.fingerprint.is_some();
        let is_ordered = self.next.lines.iter().any(Line::is_ordered);
        let kind = match delivery {
            Delivery::All if is_known && !is_ordered => Some(ConflictKind::UnknownLines),
            _ if is_ordered && self.has_left_beyond_order() => Some(ConflictKind::NotOrdered),
            _ if self.next.deliveries.excess_over_totals() > self.before.deliveries.excess_over_totals() => {
                Some(ConflictKind::LessThanLeft)
            }
            _ => None,
        };
        if let Some(kind) = kind {
            let conflict = self.conflict_of_delivery(kind, delivery);
            self.next.conflicts.note(conflict);
        }
        if self.has_left() {
            // What is held beyond it is not delivered.
            moves.add_all(self.give_back());
            self.become_fulfilled();
        }
        moves
    }

    /// Books what has left according to all deliveries: from what is held first, then from what is available; what
    /// neither has is missing. What was booked where it did not leave from is taken off there.
    pub(super) fn book_deliveries(&mut self) -> Moves {
        let stock = self.seen;
        let mut left = self.next.deliveries.by_line(&self.next.lines);
        for line in &self.next.lines {
            left.entry(line.key.clone()).or_default();
        }
        let mut shortages = Vec::new();
        let mut moves = Moves::default();
        for (key, quantity) in left {
            let line = self.line_of(key);
            if quantity < line.departed_units() {
                unship_units(line, line.departed_units() - quantity, &mut moves);
            } else if quantity > line.departed_units() {
                shortages.extend(ship_units(line, quantity - line.departed_units(), stock, &mut moves));
            }
        }
        self.next.lines.retain(|line| line.is_ordered() || line.departed_units() > 0);
        if self.has_left() {
            // What it was short of before was about a hold.
            self.next.shortages.clear();
        }
        self.next.shortages.retain(|known| shortages.iter().all(|new| new.unit != known.unit));
        self.next.shortages.extend(shortages);
        moves
    }

    fn line_of(&mut self, key: LineKey) -> &mut Line {
        let lines = &mut self.next.lines;
        let place = lines.binary_search_by(|line| line.key.cmp(&key)).unwrap_or_else(|place| {
            lines.insert(place, Line::not_ordered(key));
            place
        });
        &mut lines[place]
    }

    /// Whether the delivery of the order is over: it was said to be, and it is known what left; or nothing of the
    /// order is left.
    pub(super) fn has_left(&self) -> bool {
        let is_ordered = self.next.lines.iter().any(Line::is_ordered);
        let is_known = is_ordered || !self.next.deliveries.totals.0.is_empty();
        self.next.has_heard(Fact::Delivered) && is_known || self.next.is_complete()
    }

    /// Whether more has left than was ordered, or something else, than was known before.
    pub(super) fn has_left_beyond_order(&self) -> bool {
        let beyond = |lines: &[Line], left: &BTreeMap<LineKey, u64>| -> u64 {
            let ordered =
                |key: &LineKey| lines.iter().find(|line| line.key == *key).map_or(0, |line| line.quantity);
            left.iter().map(|(key, quantity)| quantity.saturating_sub(ordered(key))).sum()
        };
        let now = beyond(&self.next.lines, &self.next.deliveries.by_line(&self.next.lines));
        let before = match self.before.fingerprint {
            Some(_) => beyond(&self.before.lines, &self.before.deliveries.by_line(&self.before.lines)),
            None => 0,
        };
        now > before
    }

    /// Lines that are not the order's are bounded, as the order's own are.
    fn has_too_many_lines(&self) -> bool {
        let left = self.next.deliveries.by_line(&self.next.lines);
        let is_ordered = |key: &LineKey| self.next.lines.iter().any(|l| l.key == *key && l.is_ordered());
        left.keys().filter(|key| !is_ordered(key)).count() > MAX_LINES
    }

    fn conflict_of_delivery(&self, kind: ConflictKind, delivery: &Delivery) -> Conflict {
        let (shipment, lines) = match delivery {
            Delivery::All => (None, Vec::new()),
            Delivery::Total(lines) => (None, conflict::lines_of_delivery(lines)),
            Delivery::Shipment(id, lines) => (Some(id.clone()), conflict::lines_of_delivery(lines)),
        };
        Conflict { kind, fact: Fact::Delivered, shipment, lines, lines_fingerprint: None, at: self.now }
    }
}

/// Lets units of a line leave: those that are held for it first. Answers with what the stock was seen to lack of them.
fn ship_units(line: &mut Line, units: u64, stock: &Seen, moves: &mut Moves) -> Option<Shortage> {
    let mut open = units;
    for Allocation { bucket, quantity } in line.take_held(units) {
        moves.add(line.key.unit(bucket), Delta::ship_held(quantity));
        open -= quantity;
    }
    let unit = line.key.unit(0);
    let lack = stock.stock_unit(&unit).and_then(|sighting| match &sighting.unit {
        None => Some(Lack::Unknown),
        Some(there) if there.available < open => Some(Lack::Short { available: there.available }),
        Some(_) => None,
    });
    let taken = lack.map_or(open, Lack::available);
    moves.add(unit.clone(), Delta::ship_unheld(taken));
    line.fulfilled += units - open + taken;
    line.missing += open - taken;
    let lack = lack.filter(|_| open > 0)?;
    Some(Shortage { unit, requested: open, lack })
}

/// Takes units off a line that they did not leave from: what was missing there first.
fn unship_units(line: &mut Line, units: u64, moves: &mut Moves) {
    let missing = units.min(line.missing);
    line.missing -= missing;
    line.fulfilled -= units - missing;
    moves.add(line.key.unit(0), Delta::unship(units - missing));
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
