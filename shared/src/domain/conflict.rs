//! Facts that contradict what was recorded first. None is dropped: it is kept with the order, and published.

use super::Timestamp;
use super::delivery::DeliveredLines;
use super::fact::Fact;
use super::lines::{Fingerprint, LineKey, OrderLines};
use super::names::{Location, ProductId, ShipmentId};
use super::quantity::Quantity;

/// Most contradictions that are kept of one order; of more, the oldest go. They are for a person to read.
pub const MAX_CONFLICTS: usize = 20;

/// Most lines that are kept of all contradictions of one order: at the longest names a line takes about 270 bytes, so
/// that these are a quarter of the 400 KB that DynamoDB takes in an item.
pub const MAX_CONFLICT_LINES: usize = 400;

/// A fact that contradicts one that was recorded before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// How it contradicts.
    pub kind: ConflictKind,
    /// The fact that was heard.
    pub fact: Fact,
    /// The shipment that the fact is about.
    pub shipment: Option<ShipmentId>,
    /// The lines that it came with, as far as they are kept.
    pub lines: Vec<ConflictLine>,
    /// The fingerprint of the lines, where they are too many to be kept: it tells the fact from another such one.
    pub lines_fingerprint: Option<Fingerprint>,
    /// When it was first heard.
    pub at: Timestamp,
}

/// A line of a contradiction, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictLine {
    /// The product.
    pub product: ProductId,
    /// The location, where one was named.
    pub location: Option<Location>,
    /// The number of units.
    pub quantity: u64,
}

/// How a fact contradicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// The order was created before, with other lines.
    OtherLines,
    /// More has left than was ordered, or something else.
    NotOrdered,
    /// A total is less than what the shipments add up to.
    LessThanLeft,
    /// The same shipment was heard of before, with other lines.
    ShipmentDiffers,
    /// So many shipments or products have left that this one can no longer be booked.
    TooMany,
    /// Everything has left of an order whose lines were too many to be kept.
    UnknownLines,
}

impl ConflictKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::OtherLines,
        Self::NotOrdered,
        Self::LessThanLeft,
        Self::ShipmentDiffers,
        Self::TooMany,
        Self::UnknownLines,
    ];

    /// Its name in records and events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherLines => "other_lines",
            Self::NotOrdered => "not_ordered",
            Self::LessThanLeft => "less_than_left",
            Self::ShipmentDiffers => "shipment_differs",
            Self::TooMany => "too_many",
            Self::UnknownLines => "unknown_lines",
        }
    }
}

impl Conflict {
    /// Tells it from others: the same fact with the same lines is the same contradiction, whenever it came.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut text = format!("{}\t{}\t{:?}\n", self.kind.name(), self.fact.name(), self.shipment);
        if let Some(Fingerprint(of_lines)) = self.lines_fingerprint {
            text.push_str(&format!("{of_lines}\n"));
        }
        for ConflictLine { product, location, quantity } in &self.lines {
            let location = location.as_ref().map_or("", Location::as_str);
            text.push_str(&format!("{product}\t{location}\t{quantity}\n"));
        }
        Fingerprint::of(&text)
    }
}

/// The contradictions of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conflicts {
    /// The newest, oldest first.
    pub kept: Vec<Conflict>,
    /// The number of contradictions, those included that are no longer kept.
    pub count: u64,
}

impl Conflicts {
    /// Takes note of one. Returns whether it is new.
    pub fn note(&mut self, conflict: Conflict) -> bool {
        let fingerprint = conflict.fingerprint();
        if self.kept.iter().any(|known| known.fingerprint() == fingerprint) {
            return false;
        }
        self.kept.push(conflict);
        self.count += 1;
        let lines = |kept: &[Conflict]| kept.iter().map(|conflict| conflict.lines.len()).sum::<usize>();
        while self.kept.len() > MAX_CONFLICTS || lines(&self.kept) > MAX_CONFLICT_LINES {
            self.kept.remove(0);
        }
        true
    }
}

/// The lines of an order, as a contradiction keeps them.
#[must_use]
pub fn lines_of_order(lines: &OrderLines) -> Vec<ConflictLine> {
    let line = |(key, quantity): (&LineKey, Quantity)| ConflictLine {
        product: key.product.clone(),
        location: Some(key.location.clone()),
        quantity: quantity.get(),
    };
    lines.iter().map(line).collect()
}

/// The lines of a delivery, as a contradiction keeps them.
#[must_use]
pub fn lines_of_delivery(lines: &DeliveredLines) -> Vec<ConflictLine> {
    let line = |(product, location, quantity): (&ProductId, Option<&Location>, u64)| ConflictLine {
        product: product.clone(),
        location: location.cloned(),
        quantity,
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(quantity: u64, lines: usize) -> Conflict {
        let line = |i: usize| ConflictLine {
            product: ProductId::parse(format!("P{i}")).unwrap(),
            location: None,
            quantity,
        };
        Conflict {
            kind: ConflictKind::OtherLines,
            fact: Fact::Created,
            shipment: None,
            lines: (0..lines).map(line).collect(),
            lines_fingerprint: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_same_contradiction_is_noted_once() {
        let mut conflicts = Conflicts::default();
        assert!(conflicts.note(conflict(1, 1)));
        let later = Timestamp::from_second(9).unwrap();
        assert!(!conflicts.note(Conflict { at: later, ..conflict(1, 1) }));
        assert!(conflicts.note(conflict(2, 1)));
        assert_eq!((conflicts.count, conflicts.kept.len()), (2, 2));
    }

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let mut conflicts = Conflicts::default();
        assert!((1..=25).all(|n| conflicts.note(conflict(n, 1))));
        assert_eq!((conflicts.count, conflicts.kept.len()), (25, MAX_CONFLICTS));
        assert_eq!(conflicts.kept.last(), Some(&conflict(25, 1)));
        assert!((30..=35).all(|n| conflicts.note(conflict(n, 99))));
        let lines: usize = conflicts.kept.iter().map(|conflict| conflict.lines.len()).sum();
        assert!(lines <= MAX_CONFLICT_LINES && conflicts.kept.last() == Some(&conflict(35, 99)), "{lines}");
    }

    /// They stand in records and events.
    #[test]
    fn kinds_keep_their_names() {
        let names = ConflictKind::ALL.map(ConflictKind::name);
        let all =
            ["other_lines", "not_ordered", "less_than_left", "shipment_differs", "too_many", "unknown_lines"];
        assert_eq!(names, all);
    }
}
