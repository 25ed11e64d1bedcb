//! How a run ended, for comparison with another run.

use std::collections::BTreeSet;

use shared::domain::StockUnit;

use crate::requests::published_detail;
use crate::world::World;

/// The end of a run, as far as it does not depend on times.
#[must_use]
pub fn end_of(world: &World) -> Vec<String> {
    let seen = world.wire.seen();
    let stock = seen.history.stock().map(|unit| {
        let StockUnit { key, available, reserved, sold, version, .. } = unit;
        format!("{} {available} {reserved} {sold} v{version}", key.product)
    });
    let orders = seen.history.orders().map(|r| {
        let facts: Vec<_> = r.facts.keys().map(|fact| fact.name()).collect();
        let lines: Vec<_> = r
            .lines
            .iter()
            .map(|l| (l.key.product.as_str(), l.held_units(), l.fulfilled, l.missing))
            .collect();
        let reason = r.reason.as_ref().map(ToString::to_string);
        format!("{} {} v{} {facts:?} {lines:?} {reason:?}", r.order_id, r.state.name(), r.version)
    });
    let mut all: Vec<String> = stock.chain(orders).collect();
    let ids =
        seen.bus.iter().filter_map(|entry| id_without_time(published_detail(entry)["eventId"].as_str()?));
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
