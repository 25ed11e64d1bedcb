//! Whether the tables say what happened: stock, levels and the ledger.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shared::domain::{Level, SharedTransaction};
use shared::store::StreamChange;

use super::findings::Findings;
use crate::history::{Entry, THRESHOLD};
use crate::requests::{INVENTORY, LEDGER};
use crate::world::World;

impl Findings {
    /// The items of the table are those of the history; and levels are true.
    pub(super) fn check_tables(&mut self, world: &World) {
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

    /// A movement of several reservations names a transaction, and the ledger says which they are.
    fn check_shared(&mut self, world: &World, written: &BTreeSet<(String, String)>) {
        let seen = world.wire.seen();
        let mut writes: BTreeMap<u64, (Option<SharedTransaction>, Vec<&Entry>)> = BTreeMap::new();
        for entry in &seen.history.entries {
            let (shared, records) = writes.entry(entry.write).or_default();
            match &entry.change {
                StreamChange::Stock(_, new) => {
                    *shared = shared.take().or_else(|| SharedTransaction::parse(&new.cause.reference));
                }
                StreamChange::Reservation(..) => records.push(entry),
                StreamChange::Level(_) | StreamChange::Other => {}
            }
        }
        let mut expected = BTreeSet::new();
        for (shared, records) in writes.into_values() {
            let Some(shared) = shared else { continue };
            if shared.reservations != records.len() as u64 {
                self.note("shared", format!("{shared} wrote {} records", records.len()));
            }
            for entry in records {
                let pk = entry.raw["dynamodb"]["Keys"]["pk"]["S"].as_str().unwrap_or_default();
                expected.insert((format!("TX#{}", shared.id), pk.trim_start_matches("RES#").to_owned()));
            }
        }
        if expected != *written {
            let (missing, strange) = (expected.difference(written), written.difference(&expected));
            let what = (missing.collect::<Vec<_>>(), strange.collect::<Vec<_>>());
            self.note("shared", format!("missing and strange in the ledger: {what:?}"));
        }
    }

    /// One movement for each version, without a gap, and they sum up.
    pub(super) fn check_ledger(&mut self, world: &World) {
        let mut movements: BTreeMap<(String, u64), Value> = BTreeMap::new();
        let mut shared: BTreeSet<(String, String)> = BTreeSet::new();
        for item in scan(world, LEDGER) {
            let pk = item["pk"]["S"].as_str().unwrap_or_default().to_owned();
            if let Some(reservation) = item["reservationId"]["S"].as_str() {
                shared.insert((pk, reservation.to_owned()));
            } else {
                movements.insert((pk, number(&item["sk"]).unsigned_abs()), item);
            }
        }
        self.check_shared(world, &shared);
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
