//! `reconcile`: looks whether everything adds up, by hand and by schedule. It never repairs in silence: a
//! difference is shown with the figures that differ. What could not be compared is said, and then it does not say
//! that everything holds. Levels it makes anew every time, because a threshold may have changed. With `republish`,
//! what was missed is said again as it is now, and gaps of the ledger are filled from the records.
//!
//! - `ledger`: whether a stock unit's movements are whole and add up
//! - `holders`: what reservations hold of stock that moves while it is looked at
//! - `run`: what is asked, and what is found of each stock unit
//! - `republish`: what may have been missed, and is said again
//!
//! Reservations are read page by page; only sums are kept of them, and for stock units that move who holds them.

mod holders;
mod ledger;
mod republish;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};
use shared::aws::ConfigLoader;
use shared::domain::events;
use shared::domain::{StockUnit, UnitKey};
use shared::function::{Deps, elapsed_ms, serve_events};
use shared::metrics::Metric;
use shared::publishing::Bus;
use shared::settings::{BadSetting, required};
use shared::store::{Invocation, StoreError};
use shared::{Error, planted};
use tokio::time::Instant;

use holders::{Outcome, Suspect, held};
use ledger::{Ledger, name};
use republish::Missed;
use run::{Asked, Finding, Run};

/// How long the publisher is given to write what had just happened when the stock was read.
const CATCHES_UP: Duration = Duration::from_secs(5);

/// Stock units that are worked on at once.
const UNITS_AT_ONCE: usize = 8;

/// Most reservations that are kept as holders of stock units that move; of more than that nothing is compared. Each
/// takes less than 100 bytes of the function's memory.
const MAX_HOLDERS: usize = 1_000_000;

/// What the function works with.
pub struct Reconciler {
    deps: Arc<Deps>,
    bus: Bus,
}

impl Reconciler {
    /// Connects to the bus as `config` says.
    ///
    /// # Errors
    /// If a setting is missing.
    pub async fn connect(deps: Arc<Deps>, config: ConfigLoader) -> Result<Self, BadSetting> {
        let bus = required("EVENT_BUS", deps.settings.event_bus.as_ref())?;
        let bus = Bus::connect(config, bus).await;
        Ok(Self { deps, bus })
    }
}

impl AsRef<Deps> for Reconciler {
    fn as_ref(&self) -> &Deps {
        &self.deps
    }
}

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    let reconciler = Reconciler::connect(Arc::new(Deps::init().await?), shared::aws::config()).await?;
    serve_events("reconcile", reconciler, handle).await
}

/// Looks, and reports.
///
/// # Errors
/// If what is asked is not understood, or the tables cannot be read in time.
pub async fn handle(reconciler: &Reconciler, event: &Value, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let Reconciler { deps, bus } = reconciler;
    let asked = if event.is_null() { Asked::default() } else { Asked::deserialize(event)? };
    let run = Run { deps, bus, asked: &asked, invocation };
    let found = tokio::time::timeout_at(invocation.deadline, run.look()).await??;
    if let Some(product) = asked.product_id.as_ref().filter(|_| found.stock_units == 0) {
        return Err(format!("there is no product {product}").into());
    }
    let holds = found.holds();
    let mut report = json!({
        "holds": holds,
        "stockUnits": found.stock_units,
        "reservations": found.reservations,
        "differences": found.differences,
        "busy": found.busy,
        "notCompared": found.not_compared,
        "levelsSet": found.levels_set,
    });
    if asked.republish {
        report["filled"] = found.filled.into();
        report["published"] = found.published.into();
    }
    let count = |metric, of: usize| invocation.metrics.add(metric, u64::try_from(of).unwrap_or(u64::MAX));
    count(Metric::ReconcileDifferences, found.differences.len());
    count(Metric::ReconcileNotCompared, found.not_compared.len());
    tracing::info!(
        operation = "reconcile",
        outcome = if holds { "ok" } else { "differences" },
        differences = found.differences.len(),
        not_compared = found.not_compared.len(),
        stock_units = found.stock_units,
        levels_set = found.levels_set,
        duration_ms = elapsed_ms(began),
        correlation_id = invocation.correlation_id,
    );
    Ok(report)
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    stock_units: usize,
    reservations: usize,
    differences: Vec<Value>,
    /// Stock units that moved while they were looked at.
    busy: Vec<String>,
    /// Those of them whose holders could not be compared, and why.
    not_compared: Vec<Value>,
    levels_set: usize,
    filled: usize,
    published: usize,
}

impl Found {
    /// Only what was compared can hold.
    fn holds(&self) -> bool {
        let was_compared = self.not_compared.is_empty() || planted("what-was-not-compared-holds");
        self.differences.is_empty() && was_compared
    }
}

/// What was seen in one reading of all reservations.
#[derive(Default)]
struct Scanned {
    reservations: usize,
    held: BTreeMap<UnitKey, u64>,
    unreadable: Vec<Value>,
}

impl Run<'_> {
    /// A stock unit whose version is the same before and after the reservations were read has not moved in
    /// between: every change of an allocation is a write of its stock unit. Then the sums are compared. Those that
    /// have moved, or differ, are looked at one by one by who holds them.
    async fn look(&self) -> Result<Found, Error> {
        let mut found = Found::default();
        let units = self.units().await?;
        let until = (Instant::now() + CATCHES_UP).min(self.invocation.deadline);
        let findings = units.into_iter().map(|unit| self.finding(unit, until));
        let findings: Vec<Finding> =
            futures::stream::iter(findings).buffered(UNITS_AT_ONCE).try_collect().await?;
        let missed = self.find_missed(&findings);
        found.stock_units = findings.len();
        found.levels_set = findings.iter().filter(|f| matches!(f.level, Some((_, true)))).count();
        found.differences = findings.iter().flat_map(|f| f.ledger.differences.clone()).collect();
        found.published += self.send(self.events_of_units(&findings)).await?;

        let (scanned, published) = self.scan(&missed).await?;
        found.published += published;
        found.reservations = scanned.reservations;
        found.differences.extend(scanned.unreadable);
        let after: BTreeMap<UnitKey, u64> =
            self.units().await?.into_iter().map(|unit| (unit.key, unit.version)).collect();
        if self.asked.republish {
            // Only now: a gap that is filled tells nobody any more that something was missed. And before stock that
            // moves is compared, which may take all the time there is.
            found.filled = self.fill(&findings).await?;
        }
        let mut suspects = self.suspects_that_are_new(&findings, &scanned.held, &after);
        for Finding { unit, .. } in &findings {
            // The catalog may be behind; what is not seen a second time is not taken for one that stood still.
            let version = after.get(&unit.key).copied().unwrap_or(0);
            if version != unit.version {
                found.busy.push(name(&unit.key));
            }
            let held = scanned.held.get(&unit.key).copied().unwrap_or(0);
            if version != unit.version || held != unit.reserved {
                let version = version.max(unit.version);
                suspects.push(Suspect { unit: unit.key.clone(), since: version, holders: BTreeSet::new() });
            }
        }
        self.compare(suspects, &mut found).await?;
        if self.asked.product_id.is_none() {
            self.held_nowhere(&scanned.held, &after, &mut found).await?;
        }
        Ok(found)
    }

    /// Stock that began to exist, and to be held, after it was first listed: its sums were not compared yet.
    fn suspects_that_are_new(
        &self,
        findings: &[Finding],
        held: &BTreeMap<UnitKey, u64>,
        after: &BTreeMap<UnitKey, u64>,
    ) -> Vec<Suspect> {
        let known: BTreeSet<&UnitKey> = findings.iter().map(|finding| &finding.unit.key).collect();
        let new = held.keys().filter(|unit| !known.contains(unit));
        let there = new.filter_map(|unit| after.get(unit).map(|version| (unit, *version)));
        there.map(|(unit, since)| Suspect { unit: unit.clone(), since, holders: BTreeSet::new() }).collect()
    }

    async fn units(&self) -> Result<Vec<StockUnit>, StoreError> {
        let (mut units, mut start) = (Vec::new(), None);
        loop {
            let product = self.asked.product_id.as_ref();
            let page = self.deps.store.scan_units(product, start.as_ref(), self.invocation).await?;
            units.extend(page.units);
            start = page.next;
            if start.is_none() {
                return Ok(units);
            }
        }
    }

    async fn finding(&self, unit: StockUnit, until: Instant) -> Result<Finding, StoreError> {
        let Self { deps, invocation, .. } = *self;
        let left_alone = planted("the-reconciliation-leaves-levels-alone");
        let threshold = if left_alone { 0 } else { deps.settings.low_stock_threshold };
        let level = deps.store.update_level(&unit.key, None, threshold, invocation).await?;
        let ledger = Ledger::read(deps, &unit, until, invocation).await?;
        Ok(Finding { unit, ledger, level })
    }

    /// Reads all reservations, and publishes again those that may have been missed.
    async fn scan(&self, missed: &Missed) -> Result<(Scanned, usize), Error> {
        let (mut scanned, mut published, mut start) = (Scanned::default(), 0, None);
        loop {
            let page = self.deps.store.scan_reservations(start.as_ref(), self.invocation).await?;
            let mut again = Vec::new();
            for reservation in page.reservations {
                let reservation = match reservation {
                    Ok(reservation) => reservation,
                    Err(error) => {
                        let what = "a reservation cannot be read, so what it holds is not counted";
                        scanned.unreadable.push(json!({"what": what, "error": error.to_string()}));
                        continue;
                    }
                };
                scanned.reservations += 1;
                for (unit, quantity) in held(&reservation) {
                    *scanned.held.entry(unit).or_default() += quantity;
                }
                if missed.contains(&reservation) {
                    again.extend(events::state_of_reservation(&reservation));
                }
            }
            published += self.send(again).await?;
            start = page.next;
            if start.is_none() {
                return Ok((scanned, published));
            }
        }
    }

    /// Compares stock units by who holds them, which takes one more reading of all reservations.
    async fn compare(&self, mut suspects: Vec<Suspect>, found: &mut Found) -> Result<(), StoreError> {
        if suspects.is_empty() {
            return Ok(());
        }
        let fits = self.look_for_holders(&mut suspects).await?;
        // Once the ledger was waited for in vain it is not waited for again: each wait takes seconds.
        let mut patience = CATCHES_UP;
        for suspect in &suspects {
            let stock_unit = name(&suspect.unit);
            let outcome = match fits {
                true => holders::compare(self.deps, suspect, patience, self.invocation).await?,
                false => Outcome::NotCompared("more reservations hold such stock than are kept in memory"),
            };
            if outcome == holders::BEHIND {
                patience = Duration::ZERO;
            }
            match outcome {
                Outcome::Equal => {}
                Outcome::Differs(reserved, held) => found.differences.push(json!({
                    "stockUnit": stock_unit, "what": "reserved differs from what reservations hold",
                    "reserved": reserved, "held": held,
                })),
                Outcome::NotCompared(why) => {
                    found.not_compared.push(json!({"stockUnit": stock_unit, "why": why}));
                }
            }
        }
        Ok(())
    }

    /// Answers whether there were not too many.
    async fn look_for_holders(&self, suspects: &mut [Suspect]) -> Result<bool, StoreError> {
        let places: BTreeMap<UnitKey, usize> =
            suspects.iter().enumerate().map(|(i, suspect)| (suspect.unit.clone(), i)).collect();
        let (mut count, mut start) = (0, None);
        loop {
            let page = self.deps.store.scan_reservations(start.as_ref(), self.invocation).await?;
            for reservation in page.reservations.iter().flatten() {
                for (unit, _) in held(reservation) {
                    let Some(place) = places.get(&unit) else { continue };
                    count += usize::from(suspects[*place].holders.insert(reservation.id));
                }
            }
            start = page.next;
            if count > MAX_HOLDERS || start.is_none() {
                return Ok(count <= MAX_HOLDERS);
            }
        }
    }

    /// Stock that reservations hold where there is none. A stock unit that is new may be missing in the catalog for
    /// a moment, so it is asked for.
    async fn held_nowhere(
        &self,
        held: &BTreeMap<UnitKey, u64>,
        known: &BTreeMap<UnitKey, u64>,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        for (unit, held) in held.iter().filter(|(unit, _)| !known.contains_key(*unit)) {
            let stock_unit = name(unit);
            match self.deps.store.stock_unit(unit, self.invocation).await? {
                None => {
                    let what = "held, but there is no such stock unit";
                    found.differences.push(json!({"stockUnit": stock_unit, "what": what, "held": held}));
                }
                Some(_) => {
                    let why = "it began to exist meanwhile";
                    found.not_compared.push(json!({"stockUnit": stock_unit, "why": why}));
                }
            }
        }
        Ok(())
    }

    /// Fills the gaps of the ledgers.
    async fn fill(&self, findings: &[Finding]) -> Result<usize, StoreError> {
        let mut filled = 0;
        for movement in findings.iter().flat_map(|f| &f.ledger.missing) {
            filled += usize::from(self.deps.store.fill_movement(movement, self.invocation).await?);
        }
        Ok(filled)
    }
}
