//! What must hold when all is done (ARCHITECTURE.md, "What always holds"), from the tables, the bus and the history.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shared::domain::events;
use shared::domain::{
    Action, Command, Decision, Delta, Fact, Lack, Level, Reservation, Shortage, State, StockUnit, UnitKey,
    decide,
};
use shared::publishing::json::detail_of;
use shared::store::Change;

use crate::history::{Entry, History, THRESHOLD, Violation};
use crate::ops::{Kind, Op};
use crate::run::SETUP;
use crate::wire::{INVENTORY, LEDGER};
use crate::world::World;

/// Everything that is broken.
#[must_use]
pub fn all(world: &World, ops: &[Op]) -> Vec<Violation> {
    let mut broken = Broken(Vec::new());
    broken.tables(world);
    broken.ledger(world);
    broken.bus(world);
    let seen = world.wire.seen();
    let history = &seen.history;
    for reservation in history.orders() {
        if reservation.state == State::Reserved && reservation.expires_at.is_some() {
            broken.note("swept", format!("{} still holds", reservation.order_id));
        }
    }
    let ops: BTreeMap<u32, &Op> = ops.iter().map(|op| (op.id, op)).collect();
    for (i, entry) in history.entries.iter().enumerate() {
        match &entry.change {
            Change::Reservation(old, new) => {
                broken.decided(world, history, &ops, i, old.as_ref(), new);
            }
            Change::Stock(old, new) => {
                let looked = seen.looked.get(&entry.writer).map(|length| history.unit_at(&new.key, *length));
                broken.asked_for(&ops, entry, old.as_ref(), new, looked.flatten());
            }
            Change::Level(_) | Change::Other => {}
        }
    }
    broken.moves(history);
    broken.0.extend(crate::deliveries::all(history, &ops));
    if !seen.set_aside.is_empty() {
        broken.note("set-aside", format!("{:?}", seen.set_aside));
    }
    broken.0
}

/// How it ended, for comparison with another run: what does not depend on times.
#[must_use]
pub fn end(world: &World) -> Vec<String> {
    let seen = world.wire.seen();
    let stock = seen.history.stock().map(|unit| {
        let StockUnit { key, available, reserved, sold, version, .. } = unit;
        format!("{} {available} {reserved} {sold} v{version}", key.product)
    });
    let orders = seen.history.orders().map(|r| {
        let facts: Vec<_> = r.facts.keys().map(|fact| fact.name()).collect();
        let lines: Vec<_> =
            r.lines.iter().map(|l| (l.key.product.as_str(), l.held(), l.fulfilled, l.missing)).collect();
        let reason = r.reason.as_ref().map(ToString::to_string);
        format!("{} {} v{} {facts:?} {lines:?} {reason:?}", r.order_id, r.state.name(), r.version)
    });
    let mut all: Vec<String> = stock.chain(orders).collect();
    let ids = seen.bus.iter().filter_map(|entry| id_without_time(detail(entry)["eventId"].as_str()?));
    all.extend(ids.collect::<BTreeSet<_>>());
    all
}

/// An event's id without the time at which its reservation began. None for a level: which crossings of a threshold are
/// seen depends on when the publisher looks.
fn id_without_time(id: &str) -> Option<String> {
    let parts: Vec<&str> = id.split(':').collect();
    match parts.as_slice() {
        [level, ..] if level.starts_with("LEVEL#") => None,
        [reservation, _, version, name] if reservation.starts_with("RES#") => {
            Some([*reservation, *version, *name].join(":"))
        }
        _ => Some(id.to_owned()),
    }
}

/// The same without the versions of reservations and of their events.
#[must_use]
pub fn without_versions(end: &[String]) -> Vec<String> {
    let without = |line: &String| {
        let is_version = |word: &&str| {
            let digits = word.strip_prefix('v').unwrap_or(word);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        };
        let separator = if line.contains("RES#") { ':' } else { ' ' };
        let words: Vec<&str> = line.split(separator).filter(|word| !is_version(word)).collect();
        words.join(" ")
    };
    end.iter().map(without).collect()
}

fn detail(entry: &Value) -> Value {
    serde_json::from_str(entry["Detail"].as_str().unwrap_or_default()).unwrap_or(Value::Null)
}

struct Broken(Vec<Violation>);

impl Broken {
    fn note(&mut self, rule: &'static str, what: String) {
        self.0.push(Violation { rule, what });
    }

    /// What lies in the table is what the history says; and levels are true.
    fn tables(&mut self, world: &World) {
        let items = scan(world, INVENTORY);
        let seen = world.wire.seen();
        let mut last: BTreeMap<String, &Value> = BTreeMap::new();
        for entry in &seen.history.entries {
            let change = &entry.raw["dynamodb"];
            last.insert(key(&change["Keys"]), &change["NewImage"]);
        }
        for item in &items {
            if last.get(&key(item)).is_none_or(|image| *image != item) {
                self.note("history", format!("{item} is not what was written last"));
            }
        }
        for unit in seen.history.stock() {
            let product = format!("{}#{}", unit.key.product, unit.key.location);
            let alert = items.iter().find(|item| {
                item["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("ALERT#"))
                    && item["sk"]["S"] == *product
            });
            let level = match alert.and_then(|alert| alert["level"]["S"].as_str()) {
                Some("out") => Level::Out,
                Some("low") => Level::Low,
                _ => Level::Enough,
            };
            if level != unit.level(THRESHOLD) {
                self.note("alert", format!("{product} has {} and counts as {level:?}", unit.available));
            }
        }
    }

    /// One movement for each version, without a gap, and they sum up.
    fn ledger(&mut self, world: &World) {
        let mut movements: BTreeMap<(String, u64), Value> = BTreeMap::new();
        for item in scan(world, LEDGER) {
            let pk = item["pk"]["S"].as_str().unwrap_or_default().to_owned();
            movements.insert((pk, number(&item["sk"]).unsigned_abs()), item);
        }
        let seen = world.wire.seen();
        let mut expected = 0;
        for unit in seen.history.stock() {
            let name = format!("{}#{}#{}", unit.key.product, unit.key.bucket, unit.key.location);
            let mut sums = [0_i64; 3];
            for version in 1..=unit.version {
                expected += 1;
                let Some(movement) = movements.get(&(name.clone(), version)) else {
                    self.note("ledger", format!("{name} has no movement v{version}"));
                    continue;
                };
                let changes = ["availableChange", "reservedChange", "soldChange"];
                for (sum, change) in sums.iter_mut().zip(changes) {
                    *sum += number(&movement[change]);
                }
                let after = ["available", "reserved", "sold"].map(|counter| number(&movement[counter]));
                if sums != after {
                    self.note("ledger", format!("{name} v{version}: {after:?}, but the sum is {sums:?}"));
                }
            }
            let figures = [unit.available, unit.reserved, unit.sold].map(u64::cast_signed);
            if sums != figures {
                self.note("ledger", format!("{name} has {figures:?}, its movements give {sums:?}"));
            }
        }
        if movements.len() != expected {
            self.note("ledger", format!("{} movements of {expected} versions", movements.len()));
        }
    }

    /// What was published is what follows from the changes, and each id has one content.
    fn bus(&mut self, world: &World) {
        let seen = world.wire.seen();
        let mut published: BTreeMap<String, Value> = BTreeMap::new();
        for entry in &seen.bus {
            let detail = detail(entry);
            let id = detail["eventId"].as_str().unwrap_or_default().to_owned();
            if published.get(&id).is_some_and(|before| *before != detail) {
                self.note("event-id", format!("{id} has two contents: {detail} and {}", published[&id]));
            }
            // Consumers sort by the version that an event says, which is that of its id.
            if id.rsplit(':').nth(1) != Some(detail["version"].to_string().as_str()) {
                self.note("event-version", format!("{id}: {}", detail["version"]));
            }
            published.insert(id, detail);
        }
        let mut expected = BTreeSet::new();
        for entry in &seen.history.entries {
            let said = match &entry.change {
                Change::Stock(old, new) => events::of_stock(old.as_ref(), new, THRESHOLD),
                Change::Reservation(old, new) => events::of_reservation(old.as_ref(), new),
                Change::Level(alert) => events::of_level(alert).into_iter().collect(),
                Change::Other => Vec::new(),
            };
            for event in said {
                let id = event.id();
                if published.get(&id) != Some(&detail_of(&event)) {
                    self.note("event", format!("{id} was not published"));
                }
                if !expected.insert(id.clone()) {
                    self.note("event-id", format!("{id} is the id of two changes"));
                }
            }
        }
        for id in published.keys().filter(|id| !expected.contains(*id)) {
            self.note("event", format!("{id} was published, and nothing caused it"));
        }
    }

    /// Every record that was written is what `decide` makes of the one before, for somebody's command.
    fn decided(
        &mut self,
        world: &World,
        history: &History,
        ops: &BTreeMap<u32, &Op>,
        index: usize,
        old: Option<&Reservation>,
        new: &Reservation,
    ) {
        let name = format!("{} v{} by {}", new.order_id, new.version, new.correlation_id);
        let Some(command) = command_of(ops, old, new) else {
            return self.note("unasked", name);
        };
        match decide(old, &command, new.updated_at) {
            Decision::Commit(commit) if commit.next == *new => {}
            other => self.note("decision", format!("{name}: {new:?} instead of {other:?} after {old:?}")),
        }
        let confirms = matches!(command.action, Action::Confirm) && new.state == State::Confirmed;
        let ended = old.and_then(|old| old.expires_at).filter(|at| confirms && *at <= new.updated_at);
        if let Some(ended) = ended {
            self.note("confirmed-late", format!("{name} at {}, it had ended at {ended}", new.updated_at));
        }
        let begins = old.is_none_or(|old| old.state == State::Pending) && new.state.holds();
        for line in new.lines.iter().filter(|line| begins && line.held() > 0) {
            let most = history.unit_at(&line.key.unit(0), index).and_then(|unit| unit.max_per_order);
            if most.is_some_and(|most| line.quantity > most) {
                self.note("limit", format!("{name}: {line:?} of at most {most:?}"));
            }
        }
        let is_known = |shortage: &&Shortage| old.is_some_and(|old| old.shortages.contains(shortage));
        let fresh: Vec<&Shortage> = new.shortages.iter().filter(|s| !is_known(s)).collect();
        if fresh.is_empty() {
            return;
        }
        let from = world
            .sent
            .borrow()
            .iter()
            .find(|sent| op_number(&new.correlation_id) == Some(sent.op))
            .map(|s| s.from);
        // It was short while the record was as it was before, and of what has left no limit keeps anything back.
        let from = from.unwrap_or(0).max(history.reservation_since(new.id, index));
        let has_left = new.state == State::Fulfilled;
        for shortage in fresh {
            let limited = matches!(shortage.lack, Lack::OverLimit { .. });
            if !was_short(history, shortage, from, index) || (limited && has_left) {
                self.note("untrue-shortage", format!("{name}: {shortage:?}"));
            }
        }
    }

    /// Every stock operation is one that was asked for, written once for its key. What is on hand has not
    /// changed since an audit looked.
    fn asked_for(
        &mut self,
        ops: &BTreeMap<u32, &Op>,
        entry: &Entry,
        old: Option<&StockUnit>,
        new: &StockUnit,
        looked: Option<&StockUnit>,
    ) {
        let cause = &new.cause;
        if !["create", "add", "adjust", "audit", "update"].contains(&cause.operation.as_str())
            || cause.reference.starts_with(SETUP)
        {
            return;
        }
        let name = format!("{} v{} {cause:?} by {}", new.key.product, new.version, entry.writer);
        let key = cause.reference.split(' ').next().unwrap_or_default();
        let id = key.strip_prefix('k').and_then(|id| id.parse::<u32>().ok());
        let Some(Kind::Stock(product, change)) = id.and_then(|id| ops.get(&id)).map(|op| &op.kind) else {
            return self.note("unasked", name);
        };
        let delta = events::movement(old, new).delta;
        let on_hand = |unit: Option<&StockUnit>| unit.map_or(0, StockUnit::on_hand).cast_signed();
        let by = match change {
            crate::ops::Change::Create(quantity, _) | crate::ops::Change::Add(quantity) => {
                quantity.cast_signed()
            }
            crate::ops::Change::Adjust(by) => *by,
            crate::ops::Change::Audit(counted) => counted.cast_signed() - on_hand(old),
            crate::ops::Change::Update(_) => 0,
        };
        if matches!(change, crate::ops::Change::Adjust(_)) && !cause.reference.ends_with(" count") {
            self.note("reason", name.clone());
        }
        let wanted = Delta { available: by, reserved: 0, sold: 0 };
        if *product != new.key.product.to_string() || change.name() != cause.operation || delta != wanted {
            self.note("stock", format!("{name}: {delta:?} instead of {wanted:?}"));
        }
        if let crate::ops::Change::Update(limit) = change
            && new.max_per_order != *limit
        {
            self.note("update", format!("{name}: {:?} instead of {limit:?}", new.max_per_order));
        }
        if matches!(change, crate::ops::Change::Audit(_)) && on_hand(looked) != on_hand(old) {
            self.note("audit", format!("{name}: {} on hand, it saw {}", on_hand(old), on_hand(looked)));
        }
    }

    /// In every write, what moved is what its reservations say.
    fn moves(&mut self, history: &History) {
        let mut writes: BTreeMap<u64, Vec<&Change>> = BTreeMap::new();
        for entry in &history.entries {
            writes.entry(entry.write).or_default().push(&entry.change);
        }
        for (write, changes) in writes {
            let mut moved: BTreeMap<&UnitKey, Delta> = BTreeMap::new();
            let mut said: BTreeMap<UnitKey, Delta> = BTreeMap::new();
            let mut of_orders = false;
            for change in changes {
                match change {
                    Change::Stock(old, new) => {
                        moved.insert(&new.key, events::movement(old.as_ref(), new).delta);
                    }
                    Change::Reservation(old, new) => {
                        of_orders = true;
                        says(old.as_ref(), new, &mut said);
                    }
                    Change::Level(_) | Change::Other => {}
                }
            }
            said.retain(|_, delta| *delta != Delta::default());
            let moved: BTreeMap<UnitKey, Delta> = moved.into_iter().map(|(k, d)| (k.clone(), d)).collect();
            if of_orders && moved != said {
                self.note("moves", format!("write {write}: {moved:?} moved, the records say {said:?}"));
            }
        }
    }
}

/// What a change of a record says of stock: what it holds more or less, and what has left for it.
fn says(old: Option<&Reservation>, new: &Reservation, said: &mut BTreeMap<UnitKey, Delta>) {
    let of = |record: Option<&Reservation>, sign: i64, said: &mut BTreeMap<UnitKey, Delta>| {
        for line in record.into_iter().flat_map(|record| &record.lines) {
            let (held, left) = (sign * line.held().cast_signed(), sign * line.fulfilled.cast_signed());
            let sum = said.entry(line.key.unit(0)).or_default();
            *sum = sum.and(Delta { available: -(held + left), reserved: held, sold: left });
        }
    };
    of(old, -1, said);
    of(Some(new), 1, said);
}

/// The number of the operation that a correlation id belongs to.
#[must_use]
pub fn op_number(correlation_id: &str) -> Option<u32> {
    let rest = correlation_id.strip_prefix('o').or(correlation_id.strip_prefix('m'))?;
    rest.split('.').next()?.parse().ok()
}

/// The command that a record was written for.
fn command_of(ops: &BTreeMap<u32, &Op>, old: Option<&Reservation>, new: &Reservation) -> Option<Command> {
    let correlation_id = new.correlation_id.clone();
    let swept = correlation_id.starts_with('s') || correlation_id.starts_with("last-sweep");
    if swept && !correlation_id.starts_with(SETUP) {
        return Some(Command { id: new.id, order_id: None, correlation_id, action: Action::Expire });
    }
    let op = ops.get(&op_number(&correlation_id)?)?;
    let mut command = op.command(&correlation_id, new.updated_at)?;
    if let Action::Hear { heard, short, .. } = &mut command.action {
        // What the stock lacked is in the record where it decided the outcome: a hold that was not made, or a line
        // of which more is missing now.
        let held = |record: &Reservation| record.state.holds();
        let not_held = match heard.fact() {
            Fact::Created => new.state == State::Rejected && old.is_none_or(|old| old.state != new.state),
            Fact::Paid => !held(new),
            _ => false,
        };
        let missing = |record: Option<&Reservation>, unit: &UnitKey| {
            let line = record.and_then(|record| record.lines.iter().find(|l| l.key.unit(0) == *unit));
            line.map_or(0, |line| line.missing)
        };
        let decided = |s: &&Shortage| not_held || missing(Some(new), &s.unit) > missing(old, &s.unit);
        *short = new.shortages.iter().filter(decided).cloned().collect();
    }
    (command.id == new.id).then_some(command)
}

/// Whether a stock unit really lacked what it is said to have lacked, at some moment in between.
#[must_use]
pub fn was_short(history: &History, shortage: &Shortage, from: usize, to: usize) -> bool {
    history.unit_between(&shortage.unit, from, to).any(|unit| match (shortage.lack, unit) {
        (Lack::Unknown, unit) => unit.is_none(),
        (Lack::Short { available }, Some(unit)) => {
            unit.available == available && available < shortage.requested
        }
        (Lack::OverLimit { max_per_order }, Some(unit)) => unit.max_per_order == Some(max_per_order),
        (_, None) => false,
    })
}

fn key(item: &Value) -> String {
    format!(
        "{}|{}",
        item["pk"]["S"].as_str().unwrap_or_default(),
        item["sk"]["S"].as_str().unwrap_or_default()
    )
}

fn number(value: &Value) -> i64 {
    value["N"].as_str().and_then(|n| n.parse().ok()).unwrap_or(i64::MIN)
}

fn scan(world: &World, table: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut request = json!({"TableName": table, "ConsistentRead": true});
    loop {
        let page = world.wire.ask("Scan", &request);
        items.extend(page["Items"].as_array().cloned().unwrap_or_default());
        match &page["LastEvaluatedKey"] {
            Value::Null => return items,
            last => request["ExclusiveStartKey"] = last.clone(),
        }
    }
}
