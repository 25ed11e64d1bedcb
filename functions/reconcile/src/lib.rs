//! `reconcile`: looks whether everything adds up. Invoked by hand. It never repairs in silence: a
//! difference is shown with the figures that differ; with `republish`, what was missed is said again as it is
//! now, and gaps of the ledger are filled from the records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::Error;
use shared::domain::events::{self, Event, Movement};
use shared::domain::{Cause, Delta, ProductId, Reservation, StockUnit, Timestamp, UnitKey};
use shared::function::{Deps, elapsed_ms, serve_events};
use shared::publishing::{Bus, MAX_ENTRIES};
use shared::settings::required;
use shared::store::{Allocated, Invocation, MAX_PAGE, StoreError};
use tokio::time::Instant;

/// How often stock that moves while it is looked at is looked at again.
const LOOKS: usize = 5;

/// How long the publisher is given to write what has just happened, and how often is looked.
const CATCHES_UP: Duration = Duration::from_secs(5);
const LOOKS_AGAIN: Duration = Duration::from_millis(250);

/// The operation of a movement that is filled in where the ledger had a gap.
const RECONSTRUCTED: &str = "reconstructed";

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    /// One product; none for all.
    product_id: Option<ProductId>,
    /// Whether gaps are filled and missed events sent again.
    #[serde(default)]
    republish: bool,
    /// How far back what may have been missed is sent again, in hours. None: as far as the ledger has gaps.
    since_hours: Option<u32>,
}

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), Error> {
    let deps = Deps::init().await?;
    let bus = required("EVENT_BUS", deps.settings.event_bus.as_ref())?;
    let bus = Bus::connect(shared::aws::config(), bus).await;
    let with = Arc::new((deps, bus));
    let with = &with;
    serve_events("reconcile", &with.0, |event, invocation| {
        let with = Arc::clone(with);
        async move { handle(&with.0, &with.1, event, &invocation).await }
    })
    .await
}

/// Looks, and reports.
///
/// # Errors
/// If what is asked is not understood, or the tables cannot be read in time.
pub async fn handle(deps: &Deps, bus: &Bus, event: Value, invocation: &Invocation) -> Result<Value, Error> {
    let began = Instant::now();
    let asked: Asked = if event.is_null() { Asked::default() } else { serde_json::from_value(event)? };
    let looking = look(deps, asked.product_id.as_ref(), invocation);
    let (findings, all) = tokio::time::timeout_at(invocation.deadline, looking).await??;
    if let (Some(product), []) = (&asked.product_id, findings.as_slice()) {
        return Err(format!("there is no product {product}").into());
    }
    let mut differences: Vec<Value> = findings.iter().flat_map(|f| f.differences.clone()).collect();
    if asked.product_id.is_none() {
        differences.extend(held_nowhere(&findings, &all));
    }
    let mut report = json!({
        "holds": differences.is_empty(),
        "stockUnits": findings.len(),
        "reservations": all.reservations.len(),
        "differences": differences,
        "busy": findings.iter().filter(|f| f.busy).map(|f| name(&f.unit.key)).collect::<Vec<_>>(),
    });
    if asked.republish {
        let events =
            missed(&findings, &all, asked.since_hours, deps.settings.low_stock_threshold, invocation);
        send(bus, &events).await?;
        // Only now: a gap that is filled tells nobody any more that something was missed.
        report["filled"] = fill(deps, &findings, invocation).await?.into();
        report["published"] = events.len().into();
    }
    tracing::info!(
        operation = "reconcile",
        outcome = if differences.is_empty() { "ok" } else { "differences" },
        differences = differences.len(),
        stock_units = findings.len(),
        duration_ms = elapsed_ms(began),
        correlation_id = invocation.correlation_id,
    );
    Ok(report)
}

/// What was found of one stock unit.
struct Finding {
    unit: StockUnit,
    ledger: Vec<Movement>,
    differences: Vec<Value>,
    /// It moved all the while it was looked at, so its allocations were not compared.
    busy: bool,
}

/// Sends events, all of them or says so.
async fn send(bus: &Bus, events: &[(Timestamp, Event)]) -> Result<(), Error> {
    for some in events.chunks(MAX_ENTRIES) {
        let entries: Vec<_> = some.iter().map(|(at, event)| (*at, event)).collect();
        if let Some(Err(error)) = bus.put(&entries).await.into_iter().find(Result::is_err) {
            return Err(format!("events could not be sent: {error:?}").into());
        }
    }
    Ok(())
}

/// Stock that reservations hold where there is none.
fn held_nowhere(findings: &[Finding], all: &Allocated) -> Vec<Value> {
    let known = |key: &UnitKey| findings.iter().any(|f| f.unit.key == *key);
    let unknown = all.held.iter().filter(|(key, _)| !known(key));
    unknown
        .map(|(key, held)| json!({"stockUnit": name(key), "what": "held, but there is no such stock unit", "held": held}))
        .collect()
}

/// A stock unit whose version is the same before and after the reservations were read has not moved in
/// between: every change of an allocation is a write of its stock unit. Only then figures are compared.
async fn look(
    deps: &Deps,
    product: Option<&ProductId>,
    invocation: &Invocation,
) -> Result<(Vec<Finding>, Allocated), StoreError> {
    let mut before = stock_units(deps, product, invocation).await?;
    let mut all = Allocated::default();
    let mut still = Vec::new();
    for _ in 0..LOOKS {
        all = deps.store.allocated(invocation).await?;
        let after = stock_units(deps, product, invocation).await?;
        let unmoved =
            |unit: &StockUnit| before.iter().any(|b| b.key == unit.key && b.version == unit.version);
        still = after.iter().map(unmoved).collect();
        before = after;
        if still.iter().all(|unmoved| *unmoved) {
            break;
        }
    }
    let mut findings = Vec::new();
    for (unit, unmoved) in before.into_iter().zip(still) {
        let (ledger, mut differences) = ledger_of(deps, &unit, invocation).await?;
        let held = all.held.get(&unit.key).copied().unwrap_or(0);
        if unmoved && held != unit.reserved {
            differences.push(json!({
                "stockUnit": name(&unit.key), "what": "reserved differs from what reservations hold",
                "reserved": unit.reserved, "held": held,
            }));
        }
        findings.push(Finding { unit, ledger, differences, busy: !unmoved });
    }
    Ok((findings, all))
}

/// A stock unit's ledger, and how it differs. It is a moment behind the table, so it is read again until
/// nothing is missing up to the version that was seen, or the publisher should have caught up.
async fn ledger_of(
    deps: &Deps,
    unit: &StockUnit,
    invocation: &Invocation,
) -> Result<(Vec<Movement>, Vec<Value>), StoreError> {
    let until = (Instant::now() + CATCHES_UP).min(invocation.deadline);
    loop {
        let ledger = deps.store.movements(&unit.key, invocation).await?;
        let differences = compare_ledger(unit, &ledger);
        if missing(unit, &ledger).is_empty() || Instant::now() + LOOKS_AGAIN >= until {
            return Ok((ledger, differences));
        }
        tokio::time::sleep(LOOKS_AGAIN).await;
    }
}

async fn stock_units(
    deps: &Deps,
    product: Option<&ProductId>,
    invocation: &Invocation,
) -> Result<Vec<StockUnit>, StoreError> {
    if let Some(product) = product {
        return deps.store.product(product, invocation).await;
    }
    let (mut units, mut after) = (Vec::new(), None);
    loop {
        let page = deps.store.products(after.as_ref(), MAX_PAGE, invocation).await?;
        units.extend(page.products.into_iter().flat_map(|(_, units)| units));
        after = page.next;
        if after.is_none() {
            return Ok(units);
        }
    }
}

/// One movement for each version without a gap, and movements that add up to the counters.
fn compare_ledger(unit: &StockUnit, ledger: &[Movement]) -> Vec<Value> {
    let mut differences = Vec::new();
    let mut differs = |what: &str, expected: Value, found: Value| {
        differences
            .push(json!({"stockUnit": name(&unit.key), "what": what, "expected": expected, "found": found}));
    };
    let (mut version, mut sums) = (0, [0_i64; 3]);
    for movement in ledger.iter().filter(|m| m.version <= unit.version) {
        if movement.version != version + 1 {
            differs("the ledger has a gap", (version + 1).into(), movement.version.into());
        }
        version = movement.version;
        let Delta { available, reserved, sold } = movement.delta;
        for (sum, change) in sums.iter_mut().zip([available, reserved, sold]) {
            *sum = sum.saturating_add(change);
        }
        let after = movement.after.map(u64::cast_signed);
        if sums != after {
            differs("the movements do not add up", json!(after), json!(sums));
            sums = after;
        }
    }
    if version != unit.version {
        differs("the ledger ends before the stock unit", unit.version.into(), version.into());
    } else if sums != [unit.available, unit.reserved, unit.sold].map(u64::cast_signed) {
        let counters = json!([unit.available, unit.reserved, unit.sold]);
        differs("available, reserved and sold are not the sums of the movements", json!(sums), counters);
    }
    differences
}

/// Fills the gaps of the ledgers. What lies on both sides of a gap is known, what happened in it only as a
/// whole: the last missing version takes all of it, those before it nothing.
async fn fill(deps: &Deps, findings: &[Finding], invocation: &Invocation) -> Result<usize, StoreError> {
    let mut filled = 0;
    for movement in findings.iter().flat_map(|f| missing(&f.unit, &f.ledger)) {
        filled += usize::from(deps.store.fill_movement(&movement, invocation).await?);
    }
    Ok(filled)
}

fn missing(unit: &StockUnit, ledger: &[Movement]) -> Vec<Movement> {
    let known: BTreeMap<u64, &Movement> = ledger.iter().map(|m| (m.version, m)).collect();
    let mut missing: Vec<Movement> = Vec::new();
    let mut figures = [0_u64; 3];
    for version in 1..=unit.version {
        if let Some(movement) = known.get(&version) {
            figures = movement.after;
            continue;
        }
        let next = known.get(&(version + 1));
        let (after, at, cause) = match next {
            _ if version == unit.version => {
                ([unit.available, unit.reserved, unit.sold], unit.updated_at, unit.cause.clone())
            }
            Some(next) => (before(next), next.at, reconstructed()),
            None => (figures, unit.updated_at, reconstructed()),
        };
        let change = |i: usize| after[i].cast_signed().saturating_sub(figures[i].cast_signed());
        let delta = Delta { available: change(0), reserved: change(1), sold: change(2) };
        missing.push(Movement { unit: unit.key.clone(), version, cause, delta, after, at });
        figures = after;
    }
    missing
}

fn before(movement: &Movement) -> [u64; 3] {
    let Delta { available, reserved, sold } = movement.delta;
    let [a, r, s] = movement.after;
    [(a, available), (r, reserved), (s, sold)].map(|(after, change)| after.saturating_add_signed(-change))
}

fn reconstructed() -> Cause {
    Cause {
        operation: RECONSTRUCTED.to_owned(),
        reference: RECONSTRUCTED.to_owned(),
        correlation_id: String::new(),
    }
}

/// How much earlier than what was written before it a record may say it was written: it says when its invocation
/// began, and clocks differ.
const OUT_OF_ORDER: Duration = Duration::from_secs(600);

/// What is said again, as it is now: stock units whose ledger lacks movements, and reservations that were
/// written since the first gap of a product of theirs, or since a given time.
fn missed(
    findings: &[Finding],
    all: &Allocated,
    since_hours: Option<u32>,
    threshold: u64,
    invocation: &Invocation,
) -> Vec<(Timestamp, Event)> {
    let mut events = Vec::new();
    let mut gaps: BTreeMap<&ProductId, Timestamp> = BTreeMap::new();
    for Finding { unit, ledger, .. } in findings {
        let missing = missing(unit, ledger);
        let Some(first) = missing.first() else { continue };
        let last_known = ledger.iter().rfind(|m| m.version < first.version).map(|m| m.at);
        let from = last_known.and_then(|at| at.checked_sub(OUT_OF_ORDER).ok()).unwrap_or(Timestamp::MIN);
        gaps.entry(&unit.key.product).and_modify(|earliest| *earliest = from.min(*earliest)).or_insert(from);
        let said = events::state_of_stock(unit, threshold);
        events.extend(said.into_iter().map(|event| (unit.updated_at, event)));
    }
    let hours = |hours: u32| invocation.now.checked_sub(Duration::from_secs(u64::from(hours) * 3_600)).ok();
    let since = since_hours.map(|h| hours(h).unwrap_or(Timestamp::MIN));
    let was_missed = |reservation: &&Reservation| {
        let mut from =
            reservation.lines.iter().filter_map(|line| gaps.get(&line.key.product)).chain(since.as_ref());
        from.any(|from| reservation.updated_at >= *from)
    };
    for reservation in all.reservations.iter().filter(was_missed) {
        let said = events::state_of_reservation(reservation);
        events.extend(said.into_iter().map(|event| (reservation.updated_at, event)));
    }
    events
}

fn name(key: &UnitKey) -> String {
    format!("{} at {}, bucket {}", key.product, key.location, key.bucket)
}
