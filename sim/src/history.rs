//! Everything that was committed, in its order, and what must hold after every commit.

use std::collections::BTreeMap;

use aws_lambda_events::event::dynamodb::EventRecord;
use serde::Deserialize as _;
use serde_json::Value;
use shared::domain::{
    Alert, Fact, Lack, Level, Reservation, ReservationId, Shortage, State, StockUnit, Timestamp, UnitKey,
};
use shared::store::{StreamChange, parse_change};

/// A rule that was broken: its short name, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// The values that break it.
    pub what: String,
}

/// One change of one item.
#[derive(Debug)]
pub struct Entry {
    /// Which write; the changes of a transaction have the same number.
    pub write: u64,
    /// The invocation that it was written for, by the correlation id in it; of an item without one, the one whose
    /// request wrote it.
    pub writer: String,
    /// The stream record.
    pub raw: Value,
    /// The change that the record describes.
    pub change: StreamChange,
}

/// All changes so far.
#[derive(Debug, Default)]
pub struct History {
    /// The changes, oldest first.
    pub entries: Vec<Entry>,
    /// Changes of each stock unit.
    pub units: BTreeMap<UnitKey, Vec<usize>>,
    /// Changes of each reservation.
    pub reservations: BTreeMap<ReservationId, Vec<usize>>,
    /// The rules that were broken.
    pub violations: Vec<Violation>,
    levels: BTreeMap<UnitKey, Alert>,
    allocated: BTreeMap<UnitKey, u64>,
    writes: u64,
}

/// The service's own threshold in a run.
pub const THRESHOLD: u64 = 3;

/// The operations that may change how many units there are.
const MAKES_UNITS: [&str; 4] = ["create", "add", "adjust", "audit"];

impl History {
    /// Takes in the records of one write.
    pub fn absorb(&mut self, records: Vec<Value>, writer: &str) {
        self.writes += 1;
        for mut raw in records {
            let index = self.entries.len();
            // The emulator's numbers must not decide anything: ours are the places in the history.
            raw["dynamodb"]["SequenceNumber"] = format!("{:021}", index + 1).into();
            let parsed = EventRecord::deserialize(&raw).map_err(|e| e.to_string());
            let change = match parsed.and_then(|record| parse_change(record).map_err(|e| e.to_string())) {
                Ok(change) => change,
                Err(error) => {
                    self.broken("unreadable", format!("{error} in {}", raw["dynamodb"]["NewImage"]));
                    StreamChange::Other
                }
            };
            match &change {
                StreamChange::Stock(old, new) => {
                    self.units.entry(new.key.clone()).or_default().push(index);
                    self.check_stock(old.as_ref(), new);
                }
                StreamChange::Reservation(old, new) => {
                    self.reservations.entry(new.id).or_default().push(index);
                    self.check_reservation(old.as_ref(), new, &raw);
                    self.count_allocations(old.as_ref(), new);
                }
                StreamChange::Level(alert) => self.check_level(alert),
                StreamChange::Other => {}
            }
            let writer = match &change {
                StreamChange::Stock(_, new) => &new.cause.correlation_id,
                StreamChange::Reservation(_, new) => &new.correlation_id,
                StreamChange::Level(_) | StreamChange::Other => writer,
            };
            let writer = writer.to_owned();
            self.entries.push(Entry { write: self.writes, writer, raw, change });
        }
        self.check_reserved();
    }

    /// The stock unit after the first `length` changes.
    #[must_use]
    pub fn unit_at(&self, unit: &UnitKey, length: usize) -> Option<&StockUnit> {
        let last = last_of(self.units.get(unit), length)?;
        if let StreamChange::Stock(_, new) = &self.entries[last].change { Some(new) } else { None }
    }

    /// The reservation after the first `length` changes.
    #[must_use]
    pub fn reservation_at(&self, id: ReservationId, length: usize) -> Option<&Reservation> {
        let last = last_of(self.reservations.get(&id), length)?;
        if let StreamChange::Reservation(_, new) = &self.entries[last].change { Some(new) } else { None }
    }

    /// Every record that a reservation was between two moments, both included; none where there was none.
    pub fn reservation_between(
        &self,
        id: ReservationId,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = Option<&Reservation>> {
        lengths(self.reservations.get(&id), from, to).map(move |length| self.reservation_at(id, length))
    }

    /// Since how many changes the reservation has been as it is after the first `length`.
    #[must_use]
    pub fn reservation_since(&self, id: ReservationId, length: usize) -> usize {
        last_of(self.reservations.get(&id), length).map_or(0, |last| last + 1)
    }

    /// Every figure that a stock unit had between two moments, both included; none where there was none.
    pub fn unit_between(
        &self,
        unit: &UnitKey,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = Option<&StockUnit>> {
        lengths(self.units.get(unit), from, to).map(move |length| self.unit_at(unit, length))
    }

    /// Whether a stock unit really lacked what it is said to have lacked, at some moment in between.
    #[must_use]
    pub fn was_short(&self, shortage: &Shortage, from: usize, to: usize) -> bool {
        self.unit_between(&shortage.unit, from, to).any(|unit| match (shortage.lack, unit) {
            (Lack::Unknown, unit) => unit.is_none(),
            (Lack::Short { available }, Some(unit)) => {
                unit.available == available && available < shortage.requested
            }
            (Lack::OverLimit { max_per_order }, Some(unit)) => unit.max_per_order == Some(max_per_order),
            (_, None) => false,
        })
    }

    /// The stock units as they are.
    pub fn stock(&self) -> impl Iterator<Item = &StockUnit> {
        self.units.keys().filter_map(|unit| self.unit_at(unit, self.entries.len()))
    }

    /// The reservations as they are.
    pub fn orders(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.keys().filter_map(|id| self.reservation_at(*id, self.entries.len()))
    }

    fn broken(&mut self, rule: &'static str, what: String) {
        self.violations.push(Violation { rule, what });
    }

    fn check_stock(&mut self, old: Option<&StockUnit>, new: &StockUnit) {
        let name = format!("{} v{} ({})", new.key.product, new.version, new.cause.operation);
        if new.version != old.map_or(0, |old| old.version) + 1 {
            self.broken("version", format!("{name} follows v{:?}", old.map(|old| old.version)));
        }
        let sum = |unit: &StockUnit| unit.available + unit.reserved + unit.sold;
        let made = old.map_or(0, sum) != sum(new);
        if made && !MAKES_UNITS.contains(&new.cause.operation.as_str()) {
            self.broken("conservation", format!("{name}: {old:?} became {new:?}"));
        }
        let goods_moved = old.map(StockUnit::on_hand) != Some(new.on_hand());
        if new.physical != old.map_or(0, |old| old.physical) + u64::from(goods_moved) {
            self.broken("physical", format!("{name}: {old:?} became {new:?}"));
        }
        let kept = |unit: &StockUnit| (unit.low_stock_threshold, unit.max_per_order, unit.name.clone());
        if new.cause.operation != "update" && old.is_some_and(|old| kept(old) != kept(new)) {
            self.broken("attributes", format!("{name}: {old:?} became {new:?}"));
        }
    }

    /// A level is true when it is set, and comes from the one before it.
    fn check_level(&mut self, alert: &Alert) {
        let name =
            format!("{} v{}: {:?} after {:?}", alert.unit.product, alert.version, alert.level, alert.before);
        let stock = self.unit_at(&alert.unit, self.entries.len());
        let level = stock.map(|unit| unit.level(THRESHOLD));
        if level != Some(alert.level) {
            self.broken("level", format!("{name}, but it has {:?}", stock.map(|unit| unit.available)));
        }
        let was = self.levels.insert(alert.unit.clone(), alert.clone());
        let follows = match &was {
            Some(was) => {
                alert.before == Some(was.level)
                    && alert.level != was.level
                    && (alert.version, alert.created_at) == (was.version + 1, was.created_at)
            }
            // Without an alert there was enough, or it began like this.
            None => {
                let first = self.unit_at(&alert.unit, self.units[&alert.unit][0] + 1);
                let first = first.map(|unit| unit.level(THRESHOLD));
                let before = match alert.before {
                    Some(before) => [Some(Level::Enough), first].contains(&Some(before)),
                    None => first == Some(alert.level),
                };
                before && alert.version == 1 && alert.before != Some(alert.level)
            }
        };
        if !follows {
            self.broken("level", format!("{name}, but it was {was:?}"));
        }
    }

    fn check_reservation(&mut self, old: Option<&Reservation>, new: &Reservation, raw: &Value) {
        let name = format!("{} v{} {}", new.order_id, new.version, new.state.name());
        if new.version != old.map_or(0, |old| old.version) + 1 {
            self.broken("version", format!("{name} follows v{:?}", old.map(|old| old.version)));
        }
        let is_due_some_day = new.state == State::Reserved && new.expires_at.is_some();
        let image = &raw["dynamodb"]["NewImage"];
        if image["expiryShard"].is_null() == is_due_some_day {
            self.broken("due-index", format!("{name} {}", image["expiryShard"]));
        }
        if image["purgeAt"].is_null() != new.state.holds() {
            self.broken("purge", format!("{name} {}", image["purgeAt"]));
        }
        let Some(old) = old else { return };
        if old.facts.iter().any(|(fact, at)| new.facts.get(fact) != Some(at)) {
            self.broken("facts", format!("{name}: {:?} became {:?}", old.facts, new.facts));
        }
        if old.fingerprint.is_some() && old.fingerprint != new.fingerprint {
            self.broken("lines", format!("{name}: the lines changed"));
        }
        if new.state == State::Expired && old.state == State::Reserved {
            let may_end = |at: Timestamp| at.as_millisecond() + 5_000 <= new.updated_at.as_millisecond();
            if !old.expires_at.is_some_and(may_end) {
                self.broken("ended-early", format!("{name} at {} of {:?}", new.updated_at, old.expires_at));
            }
        }
        let mut same = old.clone();
        (same.version, same.updated_at) = (new.version, new.updated_at);
        same.correlation_id.clone_from(&new.correlation_id);
        if same == *new {
            self.broken("pointless", format!("{name} is as it was"));
        }
        if old.state != new.state && !may_become(old, new) {
            self.broken("state", format!("{name} was {}, facts {:?}", old.state.name(), new.facts));
        }
    }

    fn count_allocations(&mut self, old: Option<&Reservation>, new: &Reservation) {
        let mut change = |of: Option<&Reservation>, plus: bool| {
            for line in of.into_iter().flat_map(|of| &of.lines) {
                for allocation in &line.allocations {
                    let sum = self.allocated.entry(line.key.unit(allocation.bucket)).or_default();
                    *sum = match plus {
                        true => *sum + allocation.quantity,
                        false => sum.saturating_sub(allocation.quantity),
                    };
                }
            }
        };
        change(old, false);
        change(Some(new), true);
    }

    /// After every write: what stock units have reserved is what reservations hold of them.
    fn check_reserved(&mut self) {
        let mut wrong = Vec::new();
        for unit in self.stock() {
            let allocated = self.allocated.get(&unit.key).copied().unwrap_or(0);
            if unit.reserved != allocated {
                let (product, version) = (&unit.key.product, unit.version);
                wrong.push(format!("{product} v{version}: {} reserved, {allocated} held", unit.reserved));
            }
        }
        for what in wrong {
            self.broken("reserved", what);
        }
    }
}

/// The last of an item's changes among the first `length`.
fn last_of(changes: Option<&Vec<usize>>, length: usize) -> Option<usize> {
    let changes = changes?;
    changes[..changes.partition_point(|i| *i < length)].last().copied()
}

/// How many changes there were at a moment, and after each of an item's changes until a later one.
fn lengths(changes: Option<&Vec<usize>>, from: usize, to: usize) -> impl Iterator<Item = usize> {
    let within = changes.into_iter().flatten().filter(move |i| (from..to).contains(i)).map(|i| i + 1);
    std::iter::once(from).chain(within)
}

/// The arrows of the states in ARCHITECTURE.md, written down once more, apart from `decide`.
fn may_become(old: &Reservation, new: &Reservation) -> bool {
    use State::{Confirmed, Expired, Fulfilled, Pending, Rejected, Released, Reserved};
    match (old.state, new.state) {
        (Pending, Reserved) => !new.has_heard(Fact::Cancelled) && !new.has_heard(Fact::Paid),
        (Pending, Confirmed) => new.has_heard(Fact::Paid) && !new.has_heard(Fact::Cancelled),
        (Pending, Rejected | Released | Fulfilled)
        | (Reserved, Fulfilled | Released | Expired)
        | (Confirmed, Fulfilled)
        | (Expired, Released)
        | (Released | Expired | Rejected, Fulfilled) => true,
        (Reserved, Confirmed) => new.has_heard(Fact::Paid),
        (Confirmed, Released) => new.has_heard(Fact::Cancelled),
        (Released | Expired, Confirmed) => new.has_heard(Fact::Paid) && !new.has_heard(Fact::Cancelled),
        _ => false,
    }
}
