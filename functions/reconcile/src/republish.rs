//! Publishes again the state of stock and reservations whose events may have been missed. How they came about is no
//! longer known, so these events have ids of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::Error;
use shared::domain::events::{self, Event};
use shared::domain::{ProductId, Reservation, Timestamp};
use shared::publishing::{Entry, split_into_requests};

use crate::run::{Reconciliation, UnitState};

/// A record may carry a time this much earlier than a record that was written before it: it carries the time at which
/// its invocation began, and clocks differ.
const OUT_OF_ORDER: Duration = Duration::from_secs(600);

impl Reconciliation<'_> {
    /// Sends events. Answers with their number, or fails if the bus refused one of them.
    pub(crate) async fn send_events(&self, events: Vec<Event>) -> Result<usize, Error> {
        let entries: Vec<Entry> = events.into_iter().map(Entry::from).collect();
        for part in split_into_requests(&entries, |entry| entry) {
            let part: Vec<&Entry> = part.iter().collect();
            if let Some(Err(error)) = self.bus.put(&part).await.into_iter().find(Result::is_err) {
                return Err(format!("events could not be sent: {error:?}").into());
            }
        }
        Ok(entries.len())
    }

    /// Finds the reservations that may have been missed, by the gaps of the ledgers and by the time that is asked for.
    pub(crate) fn find_missed(&self, states: &[UnitState]) -> Missed {
        let mut missed = Missed::default();
        if !self.request.republish {
            return missed;
        }
        missed.since = self.republish_since();
        for UnitState { unit, ledger, .. } in states.iter().filter(|state| !state.ledger.missing.is_empty()) {
            let from = ledger.whole_until.and_then(|at| at.checked_sub(OUT_OF_ORDER).ok());
            let from = from.unwrap_or(Timestamp::MIN);
            let gap = missed.gaps.entry(unit.key.product.clone()).or_insert(from);
            *gap = from.min(*gap);
        }
        missed
    }

    /// The time since which everything is published again, if that is asked for.
    fn republish_since(&self) -> Option<Timestamp> {
        let hours = Duration::from_secs(u64::from(self.request.since_hours?) * 3_600);
        Some(self.invocation.now.checked_sub(hours).unwrap_or(Timestamp::MIN))
    }

    /// The events of stock units to publish again: the figures of those whose ledger lacks movements, and their level.
    /// A level that was set just now is published in the usual way.
    pub(crate) fn events_of_units(&self, states: &[UnitState]) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.request.republish {
            return events;
        }
        let (since, threshold) = (self.republish_since(), self.deps.settings.low_stock_threshold);
        for UnitState { unit, ledger, level } in states {
            let lacks = !ledger.missing.is_empty();
            if lacks {
                events.extend(events::state_events_of_stock(unit, threshold));
            }
            let Some((alert, false)) = level else { continue };
            if lacks || since.is_some_and(|since| alert.since >= since) {
                events.extend(events::state_event_of_level(alert));
            }
        }
        events
    }
}

/// Which reservations may have been missed: those that were written since the first gap of a product of theirs, or
/// since a given time.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    gaps: BTreeMap<ProductId, Timestamp>,
    since: Option<Timestamp>,
}

impl Missed {
    /// Whether it may have been missed.
    pub(crate) fn contains(&self, reservation: &Reservation) -> bool {
        let gaps = reservation.lines.iter().filter_map(|line| self.gaps.get(&line.key.product));
        gaps.chain(&self.since).any(|from| reservation.updated_at >= *from)
    }
}
