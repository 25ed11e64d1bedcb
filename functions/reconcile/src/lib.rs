//! `reconcile`: checks that everything adds up, by hand and by schedule. It never repairs in silence: a difference is
//! reported with the figures that differ. Stock that could not be compared is reported, too, and then the report does
//! not say that everything holds. Levels are set anew every time, because a threshold may have changed. With
//! `republish`, the state of whatever was missed is published again, and gaps of the ledger are filled.
//!
//! - `ledger`: checks that a stock unit's movements are whole and add up
//! - `holders`: compares stock that moves meanwhile with the reservations that hold it
//! - `run`: the request, and the state of each stock unit
//! - `republish`: publishes again the state of what may have been missed
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
use shared::settings::{BadSetting, require_setting};
use shared::store::{Invocation, StoreError};
use shared::{Error, planted};
use tokio::time::Instant;

use holders::{Comparison, UnitToCompare, holdings_of};
use ledger::{Ledger, unit_name};
use republish::Missed;
use run::{ReconcileRequest, Reconciliation, UnitState};

/// The time that the publisher is given to write the movements that had just happened when the stock was read.
const PUBLISHER_PATIENCE: Duration = Duration::from_secs(5);

/// Stock units that are read at once.
const UNITS_AT_ONCE: usize = 8;

/// Most reservations that are kept as holders of stock units that move; of more than that nothing is compared. Each
/// takes less than 100 bytes of the function's memory.
const MAX_HOLDERS: usize = 1_000_000;

/// Everything that the function works with.
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
        let bus = require_setting("EVENT_BUS", deps.settings.event_bus.as_ref())?;
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

/// Reconciles, and reports.
///
/// # Errors
/// If the request is not understood, or the tables cannot be read in time.
pub async fn handle(reconciler: &Reconciler, event: &Value, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let Reconciler { deps, bus } = reconciler;
    let request =
        if event.is_null() { ReconcileRequest::default() } else { ReconcileRequest::deserialize(event)? };
    let reconciliation = Reconciliation { deps, bus, request: &request, invocation };
    let report = tokio::time::timeout_at(invocation.deadline, reconciliation.compare_all()).await??;
    if let Some(product) = request.product_id.as_ref().filter(|_| report.stock_units == 0) {
        return Err(format!("there is no product {product}").into());
    }
    let holds = report.holds();
    let mut answer = json!({
        "holds": holds,
        "stockUnits": report.stock_units,
        "reservations": report.reservations,
        "differences": report.differences,
        "busy": report.busy,
        "notCompared": report.not_compared,
        "levelsSet": report.levels_set,
    });
    if request.republish {
        answer["filled"] = report.filled.into();
        answer["published"] = report.published.into();
    }
    let count = |metric, of: usize| invocation.metrics.add(metric, u64::try_from(of).unwrap_or(u64::MAX));
    count(Metric::ReconcileDifferences, report.differences.len());
    count(Metric::ReconcileNotCompared, report.not_compared.len());
    tracing::info!(
        operation = "reconcile",
        outcome = if holds { "ok" } else { "differences" },
        differences = report.differences.len(),
        not_compared = report.not_compared.len(),
        stock_units = report.stock_units,
        levels_set = report.levels_set,
        duration_ms = elapsed_ms(began),
        correlation_id = invocation.correlation_id,
    );
    Ok(answer)
}

/// The result of a reconciliation.
#[derive(Debug, Default)]
struct Report {
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

impl Report {
    /// Only what was compared can hold.
    fn holds(&self) -> bool {
        let was_compared = self.not_compared.is_empty() || planted("what-was-not-compared-holds");
        self.differences.is_empty() && was_compared
    }
}

/// The result of reading all reservations once.
#[derive(Default)]
struct Scanned {
    reservations: usize,
    held: BTreeMap<UnitKey, u64>,
    unreadable: Vec<Value>,
}

impl Reconciliation<'_> {
    /// Compares all stock units with their ledgers and with the reservations.
    ///
    /// A stock unit whose version is the same before and after the reservations were read has not moved in
    /// between: every change of an allocation is a write of its stock unit. Then the sums are compared. Those that
    /// have moved, or differ, are compared one by one with their holders.
    async fn compare_all(&self) -> Result<Report, Error> {
        let mut report = Report::default();
        let units = self.read_units().await?;
        let until = (Instant::now() + PUBLISHER_PATIENCE).min(self.invocation.deadline);
        let states = units.into_iter().map(|unit| self.read_unit_state(unit, until));
        let states: Vec<UnitState> =
            futures::stream::iter(states).buffered(UNITS_AT_ONCE).try_collect().await?;
        let missed = self.find_missed(&states);
        report.stock_units = states.len();
        report.levels_set = states.iter().filter(|state| matches!(state.level, Some((_, true)))).count();
        report.differences = states.iter().flat_map(|state| state.ledger.differences.clone()).collect();
        report.published += self.send_events(self.events_of_units(&states)).await?;

        let (scanned, published) = self.scan_reservations(&missed).await?;
        report.published += published;
        report.reservations = scanned.reservations;
        report.differences.extend(scanned.unreadable);
        let after: BTreeMap<UnitKey, u64> =
            self.read_units().await?.into_iter().map(|unit| (unit.key, unit.version)).collect();
        if self.request.republish {
            // Only now: a gap that is filled tells nobody any more that something was missed. And before stock that
            // moves is compared, which may take all the time there is.
            report.filled = self.fill_gaps(&states).await?;
        }
        let mut candidates = self.new_units_to_compare(&states, &scanned.held, &after);
        for UnitState { unit, .. } in &states {
            // The catalog may be behind; what is not seen a second time is not taken for one that stood still.
            let version = after.get(&unit.key).copied().unwrap_or(0);
            if version != unit.version {
                report.busy.push(unit_name(&unit.key));
            }
            let held = scanned.held.get(&unit.key).copied().unwrap_or(0);
            if version != unit.version || held != unit.reserved {
                let version = version.max(unit.version);
                candidates.push(UnitToCompare {
                    unit: unit.key.clone(),
                    since: version,
                    holders: BTreeSet::new(),
                });
            }
        }
        self.compare(candidates, &mut report).await?;
        if self.request.product_id.is_none() {
            self.report_holds_without_stock(&scanned.held, &after, &mut report).await?;
        }
        Ok(report)
    }

    /// Stock that began to exist, and to be held, after it was first listed: its sums were not compared yet.
    fn new_units_to_compare(
        &self,
        states: &[UnitState],
        held: &BTreeMap<UnitKey, u64>,
        after: &BTreeMap<UnitKey, u64>,
    ) -> Vec<UnitToCompare> {
        let known: BTreeSet<&UnitKey> = states.iter().map(|state| &state.unit.key).collect();
        let new = held.keys().filter(|unit| !known.contains(unit));
        let there = new.filter_map(|unit| after.get(unit).map(|version| (unit, *version)));
        there
            .map(|(unit, since)| UnitToCompare { unit: unit.clone(), since, holders: BTreeSet::new() })
            .collect()
    }

    async fn read_units(&self) -> Result<Vec<StockUnit>, StoreError> {
        let (mut units, mut start) = (Vec::new(), None);
        loop {
            let product = self.request.product_id.as_ref();
            let page = self.deps.store.scan_units(product, start.as_ref(), self.invocation).await?;
            units.extend(page.units);
            start = page.next;
            if start.is_none() {
                return Ok(units);
            }
        }
    }

    async fn read_unit_state(&self, unit: StockUnit, until: Instant) -> Result<UnitState, StoreError> {
        let Self { deps, invocation, .. } = *self;
        let left_alone = planted("the-reconciliation-leaves-levels-alone");
        let threshold = if left_alone { 0 } else { deps.settings.low_stock_threshold };
        let level = deps.store.update_level(&unit.key, None, threshold, invocation).await?;
        let ledger = Ledger::read(deps, &unit, until, invocation).await?;
        Ok(UnitState { unit, ledger, level })
    }

    /// Reads all reservations, and publishes again those that may have been missed.
    async fn scan_reservations(&self, missed: &Missed) -> Result<(Scanned, usize), Error> {
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
                for (unit, quantity) in holdings_of(&reservation) {
                    *scanned.held.entry(unit).or_default() += quantity;
                }
                if missed.contains(&reservation) {
                    again.extend(events::state_events_of_reservation(&reservation));
                }
            }
            published += self.send_events(again).await?;
            start = page.next;
            if start.is_none() {
                return Ok((scanned, published));
            }
        }
    }

    /// Compares stock units with their holders, which takes one more reading of all reservations.
    async fn compare(
        &self,
        mut candidates: Vec<UnitToCompare>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        if candidates.is_empty() {
            return Ok(());
        }
        let fits = self.find_holders(&mut candidates).await?;
        // Once the ledger was waited for in vain it is not waited for again: each wait takes seconds.
        let mut patience = PUBLISHER_PATIENCE;
        for candidate in &candidates {
            let stock_unit = unit_name(&candidate.unit);
            let outcome = match fits {
                true => holders::compare(self.deps, candidate, patience, self.invocation).await?,
                false => Comparison::NotCompared("more reservations hold such stock than are kept in memory"),
            };
            if outcome == holders::BEHIND {
                patience = Duration::ZERO;
            }
            match outcome {
                Comparison::Equal => {}
                Comparison::Differs(reserved, held) => report.differences.push(json!({
                    "stockUnit": stock_unit, "what": "reserved differs from what reservations hold",
                    "reserved": reserved, "held": held,
                })),
                Comparison::NotCompared(why) => {
                    report.not_compared.push(json!({"stockUnit": stock_unit, "why": why}));
                }
            }
        }
        Ok(())
    }

    /// Finds the reservations that hold these stock units. False: there are too many of them.
    async fn find_holders(&self, candidates: &mut [UnitToCompare]) -> Result<bool, StoreError> {
        let places: BTreeMap<UnitKey, usize> =
            candidates.iter().enumerate().map(|(i, candidate)| (candidate.unit.clone(), i)).collect();
        let (mut count, mut start) = (0, None);
        loop {
            let page = self.deps.store.scan_reservations(start.as_ref(), self.invocation).await?;
            for reservation in page.reservations.iter().flatten() {
                for (unit, _) in holdings_of(reservation) {
                    let Some(place) = places.get(&unit) else { continue };
                    count += usize::from(candidates[*place].holders.insert(reservation.id));
                }
            }
            start = page.next;
            if count > MAX_HOLDERS || start.is_none() {
                return Ok(count <= MAX_HOLDERS);
            }
        }
    }

    /// Reports stock that reservations hold although there is no such stock unit. A new one may be missing in the
    /// catalog for a moment, so it is read once more.
    async fn report_holds_without_stock(
        &self,
        held: &BTreeMap<UnitKey, u64>,
        known: &BTreeMap<UnitKey, u64>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        for (unit, held) in held.iter().filter(|(unit, _)| !known.contains_key(*unit)) {
            let stock_unit = unit_name(unit);
            match self.deps.store.stock_unit(unit, self.invocation).await? {
                None => {
                    let what = "held, but there is no such stock unit";
                    report.differences.push(json!({"stockUnit": stock_unit, "what": what, "held": held}));
                }
                Some(_) => {
                    let why = "it began to exist meanwhile";
                    report.not_compared.push(json!({"stockUnit": stock_unit, "why": why}));
                }
            }
        }
        Ok(())
    }

    /// Fills the gaps of the ledgers.
    async fn fill_gaps(&self, states: &[UnitState]) -> Result<usize, StoreError> {
        let mut filled = 0;
        for movement in states.iter().flat_map(|state| &state.ledger.missing) {
            filled += usize::from(self.deps.store.fill_movement(movement, self.invocation).await?);
        }
        Ok(filled)
    }
}
