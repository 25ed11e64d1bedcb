//! What is known when something is decided.

use std::collections::BTreeMap;

use super::names::ReservationId;
use super::plan::IdempotencyRecord;
use super::reservation::Reservation;
use super::stock::{StockUnit, UnitKey};

/// What is known of the record and of the stock when something is decided. At first nothing is: a decision begins with a
/// guess where a guard can tell that it was wrong, and what then stood in the way is learned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    record: SeenRecord,
    idempotency: Option<IdempotencyRecord>,
    stock: BTreeMap<UnitKey, Sighting>,
}

/// What is known of the record of a reservation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeenRecord {
    /// Nothing.
    #[default]
    Unseen,
    /// There is one, other than was guessed; the endpoint did not show it.
    Hidden,
    /// There is none.
    Absent,
    /// It is this.
    Present(Box<Reservation>),
}

/// What is known of a stock unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// As it was seen last; none where there was none.
    pub unit: Option<StockUnit>,
    /// What was on hand when it was seen first.
    pub first_on_hand: Option<u64>,
    /// Whether it was read for this. Otherwise it came back with a guard that failed; a few endpoints then show no item
    /// although there is one.
    pub is_snapshot: bool,
    /// Whether a guard on it has failed. The record and the idempotency key of that plan were then as it supposed.
    pub guard_failed: bool,
}

/// What must be read before something can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// A reservation's record.
    Record(ReservationId),
    /// A stock unit.
    Stock(UnitKey),
}

impl Seen {
    /// Nothing but this record; none: there is no record.
    #[must_use]
    pub fn record_alone(record: Option<Reservation>) -> Self {
        let mut seen = Self::default();
        seen.learn_record(record);
        seen
    }

    /// What is known of the record.
    #[must_use]
    pub fn record(&self) -> &SeenRecord {
        &self.record
    }

    /// The record, where there is one.
    #[must_use]
    pub fn into_reservation(self) -> Option<Reservation> {
        match self.record {
            SeenRecord::Present(reservation) => Some(*reservation),
            SeenRecord::Unseen | SeenRecord::Hidden | SeenRecord::Absent => None,
        }
    }

    /// The same, but with another record: a bug that tests plant.
    #[cfg(feature = "planted")]
    pub(crate) fn with_other_record(&self, record: Reservation) -> Self {
        Self { record: SeenRecord::Present(Box::new(record)), ..self.clone() }
    }

    /// What was found under the idempotency key.
    #[must_use]
    pub fn idempotency(&self) -> Option<&IdempotencyRecord> {
        self.idempotency.as_ref()
    }

    /// What is known of a stock unit. None: nothing.
    #[must_use]
    pub fn stock_unit(&self, unit: &UnitKey) -> Option<&Sighting> {
        self.stock.get(unit)
    }

    /// Whether any stock was seen.
    #[must_use]
    pub fn has_stock(&self) -> bool {
        !self.stock.is_empty()
    }

    /// Takes note of the record. What was seen of stock is forgotten: it was no answer to what this record asks for.
    pub fn learn_record(&mut self, record: Option<Reservation>) {
        self.record = record.map_or(SeenRecord::Absent, |record| SeenRecord::Present(Box::new(record)));
        if !crate::planted("shortages-outlive-the-question") {
            self.stock.clear();
        }
    }

    /// Takes note that there is another record than was guessed, which the endpoint did not show.
    pub fn learn_hidden_record(&mut self) {
        self.record = SeenRecord::Hidden;
        self.stock.clear();
    }

    /// Takes note of what is kept under the idempotency key.
    pub fn learn_idempotency(&mut self, record: IdempotencyRecord) {
        self.idempotency = Some(record);
    }

    /// Takes note of a stock unit that was read.
    pub fn learn_snapshot(&mut self, unit: UnitKey, found: Option<StockUnit>) {
        self.learn_stock(unit, found, true);
    }

    /// Takes note of a stock unit that came back with a guard that failed.
    pub fn learn_refusal(&mut self, unit: UnitKey, found: Option<StockUnit>) {
        self.learn_stock(unit, found, false);
    }

    fn learn_stock(&mut self, unit: UnitKey, found: Option<StockUnit>, is_snapshot: bool) {
        let before = self.stock.remove(&unit);
        let (first, refused) = before.map_or((None, false), |b| (b.first_on_hand, b.guard_failed));
        let first_on_hand = first.or(found.as_ref().map(StockUnit::on_hand));
        let guard_failed = refused || !is_snapshot;
        self.stock.insert(unit, Sighting { unit: found, first_on_hand, is_snapshot, guard_failed });
    }

    /// Takes note of all that stood in the way of a plan.
    pub fn learn(&mut self, more: Self) {
        match more.record {
            SeenRecord::Unseen => {}
            SeenRecord::Hidden => self.learn_hidden_record(),
            SeenRecord::Absent => self.learn_record(None),
            SeenRecord::Present(record) => self.learn_record(Some(*record)),
        }
        if let Some(record) = more.idempotency {
            self.learn_idempotency(record);
        }
        for (unit, sighting) in more.stock {
            self.learn_stock(unit, sighting.unit, sighting.is_snapshot);
        }
    }
}
