//! Checks that the events that were published follow from the changes that were written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::domain::events;
use shared::publishing::json::detail_of;
use shared::store::StreamChange;

use super::findings::Findings;
use crate::history::THRESHOLD;
use crate::requests::published_detail;
use crate::world::World;

impl Findings {
    /// The published events are those that follow from the changes, and each id has one content.
    pub(super) fn check_bus(&mut self, world: &World) {
        let seen = world.wire.seen();
        let mut published: BTreeMap<String, Value> = BTreeMap::new();
        for entry in &seen.bus {
            let detail = published_detail(entry);
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
                StreamChange::Stock(old, new) => events::events_of_stock(old.as_ref(), new, THRESHOLD),
                StreamChange::Reservation(old, new) => events::events_of_reservation(old.as_ref(), new),
                StreamChange::Level(alert) => events::event_of_level(alert).into_iter().collect(),
                StreamChange::Other => Vec::new(),
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
}
