//! Checks that a stock unit's ledger is whole: it has one movement for each version, and the movements add up to the
//! counters. It is read page by page; only sums are kept, and the movements that are missing.

use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::events::Movement;
use shared::domain::{Cause, Delta, StockUnit, Timestamp, UnitKey};
use shared::function::Deps;
use shared::store::{Invocation, StoreError};
use tokio::time::Instant;

/// The pause before the ledger is read again.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The operation of a movement that is filled in where the ledger had a gap.
const RECONSTRUCTED: &str = "reconstructed";

/// The ledger of a stock unit, as far as it was read.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The differences that were found, for the report.
    pub(crate) differences: Vec<Value>,
    /// The movements that are missing. The counters before and after a gap are known, but not what each movement in it
    /// changed: the last missing version gets the whole change, those before it none.
    pub(crate) missing: Vec<Movement>,
    /// When the last movement before the first gap was; none if the gap is at the beginning.
    pub(crate) whole_until: Option<Timestamp>,
    version: u64,
    sums: [i64; 3],
    figures: [u64; 3],
    last_at: Option<Timestamp>,
}

impl Ledger {
    /// Reads the ledger of a stock unit up to the version that was read. It is a moment behind the table, so it is
    /// read again until nothing is missing, or the publisher should have caught up.
    pub(crate) async fn read(
        deps: &Deps,
        unit: &StockUnit,
        until: Instant,
        invocation: &Invocation,
    ) -> Result<Self, StoreError> {
        loop {
            let mut ledger = Self::empty();
            loop {
                let page = deps.store.movements(&unit.key, ledger.version, unit.version, invocation).await?;
                if page.is_empty() {
                    break;
                }
                page.iter().for_each(|movement| ledger.read_movement(unit, movement));
            }
            ledger.compare_with(unit);
            if ledger.missing.is_empty() || Instant::now() + POLL_INTERVAL >= until {
                return Ok(ledger);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn empty() -> Self {
        Self {
            differences: Vec::new(),
            missing: Vec::new(),
            whole_until: None,
            version: 0,
            sums: [0; 3],
            figures: [0; 3],
            last_at: None,
        }
    }

    /// Reads the next movement, and notes where it does not follow from those before it.
    fn read_movement(&mut self, unit: &StockUnit, movement: &Movement) {
        if movement.version != self.version + 1 {
            self.add_difference(
                unit,
                "the ledger has a gap",
                (self.version + 1).into(),
                movement.version.into(),
            );
            self.record_gap(
                unit,
                movement.version - 1,
                figures_before(movement),
                movement.at,
                &reconstruction_cause(),
            );
        }
        let Delta { available, reserved, sold } = movement.delta;
        for (sum, change) in self.sums.iter_mut().zip([available, reserved, sold]) {
            *sum = sum.saturating_add(change);
        }
        let after = movement.after.map(u64::cast_signed);
        if self.sums != after {
            self.add_difference(unit, "the movements do not add up", json!(after), json!(self.sums));
            self.sums = after;
        }
        (self.version, self.figures, self.last_at) = (movement.version, movement.after, Some(movement.at));
    }

    /// Compares the movements that were read with the counters of the stock unit.
    fn compare_with(&mut self, unit: &StockUnit) {
        let counters = [unit.available, unit.reserved, unit.sold];
        if self.version != unit.version {
            let what = "the ledger ends before the stock unit";
            self.add_difference(unit, what, unit.version.into(), self.version.into());
            self.record_gap(unit, unit.version, counters, unit.updated_at, &unit.cause);
        } else if self.sums != counters.map(u64::cast_signed) {
            let what = "available, reserved and sold are not the sums of the movements";
            self.add_difference(unit, what, json!(self.sums), json!(counters));
        }
    }

    fn add_difference(&mut self, unit: &StockUnit, what: &str, expected: Value, found: Value) {
        self.differences.push(
            json!({"stockUnit": unit_name(&unit.key), "what": what, "expected": expected, "found": found}),
        );
    }

    /// Notes a gap from the last movement to this version.
    fn record_gap(&mut self, unit: &StockUnit, last: u64, after: [u64; 3], at: Timestamp, cause: &Cause) {
        if self.missing.is_empty() {
            self.whole_until = self.last_at;
        }
        for version in self.version + 1..=last {
            let (figures, at, cause) = match version == last {
                true => (after, at, cause.clone()),
                false => (self.figures, unit.updated_at, reconstruction_cause()),
            };
            let change = |i: usize| figures[i].cast_signed().saturating_sub(self.figures[i].cast_signed());
            let delta = Delta { available: change(0), reserved: change(1), sold: change(2) };
            self.missing.push(Movement { unit: unit.key.clone(), version, cause, delta, after: figures, at });
        }
    }
}

fn figures_before(movement: &Movement) -> [u64; 3] {
    let Delta { available, reserved, sold } = movement.delta;
    let [a, r, s] = movement.after;
    [(a, available), (r, reserved), (s, sold)].map(|(after, change)| after.saturating_add_signed(-change))
}

fn reconstruction_cause() -> Cause {
    Cause {
        operation: RECONSTRUCTED.to_owned(),
        reference: RECONSTRUCTED.to_owned(),
        correlation_id: String::new(),
    }
}

/// The name of a stock unit in reports.
pub(crate) fn unit_name(key: &UnitKey) -> String {
    format!("{} at {}, bucket {}", key.product, key.location, key.bucket)
}
