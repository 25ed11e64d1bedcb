//! What reservations hold of stock that does not stand still.
//!
//! A reservation's allocation changes in the transaction that writes its stock unit, and the ledger says for every
//! version of the stock unit which reservation it was. So what a reservation held at a version is known from any
//! reading of it between two versions of the stock unit, if none of the movements between them is its own.
//! Nothing has to stand still but one reservation at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use shared::domain::{Reservation, ReservationId, StockUnit, UnitKey};
use shared::function::Deps;
use shared::store::{Invocation, MAX_CHECK, StoreError};
use tokio::time::Instant;

use crate::{LOOKS_AGAIN, held_of};

/// How often a stock unit is looked at. A look fails where the sweep ends several holds at once, whose movement
/// names none of them, or where a reservation moves twice in a moment.
const LOOKS: usize = 10;

/// How long the publisher is given to write a movement that has just happened.
const CATCHES_UP: Duration = Duration::from_secs(5);

/// Batches of reservations that are read at once.
const BATCHES_AT_ONCE: usize = 8;

/// A stock unit whose holders are looked at.
#[derive(Debug)]
pub(crate) struct Suspect {
    pub(crate) unit: UnitKey,
    /// Its version before the holders were looked for.
    pub(crate) since: u64,
    /// The reservations that were found to hold something of it. Those that began to since then are in the ledger.
    pub(crate) holders: BTreeSet<ReservationId>,
}

/// What comes of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What is reserved is what is held.
    Equal,
    /// It is not: reserved, held.
    Differs(u64, u64),
    /// It could not be compared, and why.
    NotCompared(&'static str),
}

const BEHIND: Outcome = Outcome::NotCompared("the ledger is behind");
const MOVED: Outcome = Outcome::NotCompared("it moved in a way that could not be followed");

/// What moved between two versions: what each reservation held more or less.
#[derive(Debug, Default)]
struct Moved {
    by: BTreeMap<ReservationId, i64>,
    /// Whether something was given back that no reservation is named for, and whether something was held so.
    gave_unnamed: bool,
    held_unnamed: bool,
}

impl Moved {
    fn is_named(&self) -> bool {
        !self.gave_unnamed && !self.held_unnamed
    }
}

/// Compares what a stock unit has reserved with what reservations hold of it. A difference is looked at again:
/// reads that are not transactions may see one half of a transaction before the other.
pub(crate) async fn compare(
    deps: &Deps,
    suspect: &Suspect,
    invocation: &Invocation,
) -> Result<Outcome, StoreError> {
    let mut outcome = MOVED;
    for _ in 0..LOOKS {
        match look(deps, suspect, invocation).await? {
            Outcome::Equal => return Ok(Outcome::Equal),
            seen @ Outcome::Differs(..) if seen == outcome => return Ok(seen),
            seen @ Outcome::Differs(..) => outcome = seen,
            Outcome::NotCompared(_) if matches!(outcome, Outcome::Differs(..)) => {}
            seen if seen == BEHIND => return Ok(seen),
            seen => outcome = seen,
        }
    }
    Ok(outcome)
}

async fn look(deps: &Deps, suspect: &Suspect, invocation: &Invocation) -> Result<Outcome, StoreError> {
    let unit = &suspect.unit;
    let gone = Outcome::NotCompared("it is gone");
    let Some(a) = deps.store.stock_unit(unit, invocation).await? else { return Ok(gone) };
    let Some(before) = moved(deps, unit, suspect.since, a.version, invocation).await? else {
        return Ok(BEHIND);
    };
    if before.held_unnamed {
        return Ok(MOVED);
    }
    let mut ids = suspect.holders.clone();
    ids.extend(before.by.keys());
    let mut held = held_by(deps, unit, &ids, invocation).await?;
    let Some(b) = deps.store.stock_unit(unit, invocation).await? else { return Ok(gone) };
    let Some(between) = moved(deps, unit, a.version, b.version, invocation).await? else {
        return Ok(BEHIND);
    };
    if !between.is_named() {
        return Ok(MOVED);
    }
    if !between.by.is_empty() {
        // These may have been read before their movement or after it.
        let touched: BTreeSet<ReservationId> = between.by.into_keys().collect();
        match held_at(deps, &b, &touched, invocation).await? {
            Ok(again) => held.extend(again),
            Err(why) => return Ok(why),
        }
    }
    let held: u64 = held.values().sum();
    Ok(if held == b.reserved { Outcome::Equal } else { Outcome::Differs(b.reserved, held) })
}

/// What these reservations held at a version of their stock unit that has passed: what they hold now, without what
/// they moved since then.
async fn held_at(
    deps: &Deps,
    then: &StockUnit,
    ids: &BTreeSet<ReservationId>,
    invocation: &Invocation,
) -> Result<Result<BTreeMap<ReservationId, u64>, Outcome>, StoreError> {
    let unit = &then.key;
    let gone = Outcome::NotCompared("it is gone");
    let Some(c) = deps.store.stock_unit(unit, invocation).await? else { return Ok(Err(gone)) };
    let Some(since) = moved(deps, unit, then.version, c.version, invocation).await? else {
        return Ok(Err(BEHIND));
    };
    let mut held = held_by(deps, unit, ids, invocation).await?;
    let Some(d) = deps.store.stock_unit(unit, invocation).await? else { return Ok(Err(gone)) };
    let Some(meanwhile) = moved(deps, unit, c.version, d.version, invocation).await? else {
        return Ok(Err(BEHIND));
    };
    let again = ids.iter().any(|id| meanwhile.by.contains_key(id));
    if again || !since.is_named() || !meanwhile.is_named() {
        return Ok(Err(MOVED));
    }
    for id in ids {
        let held = held.entry(*id).or_default();
        *held = held.saturating_add_signed(-since.by.get(id).copied().unwrap_or(0));
    }
    Ok(Ok(held))
}

/// What moved after one version, up to another. None if the ledger does not say it in time.
async fn moved(
    deps: &Deps,
    unit: &UnitKey,
    after: u64,
    up_to: u64,
    invocation: &Invocation,
) -> Result<Option<Moved>, StoreError> {
    let until = (Instant::now() + CATCHES_UP).min(invocation.deadline);
    let (mut version, mut moved) = (after, Moved::default());
    while version < up_to {
        let page = deps.store.movements(unit, version, up_to, invocation).await?;
        let follows = page.first().is_some_and(|movement| movement.version == version + 1);
        if !follows {
            if Instant::now() + LOOKS_AGAIN >= until {
                return Ok(None);
            }
            tokio::time::sleep(LOOKS_AGAIN).await;
            continue;
        }
        // What comes behind a gap is read again when the gap is closed.
        for movement in page {
            if movement.version != version + 1 {
                break;
            }
            version = movement.version;
            let held = movement.delta.reserved;
            match ReservationId::parse(&movement.cause.reference) {
                _ if held == 0 => {}
                Ok(id) => *moved.by.entry(id).or_default() += held,
                Err(_) if held > 0 => moved.held_unnamed = true,
                Err(_) => moved.gave_unnamed = true,
            }
        }
    }
    Ok(Some(moved))
}

/// What these reservations hold of a stock unit now.
async fn held_by(
    deps: &Deps,
    unit: &UnitKey,
    ids: &BTreeSet<ReservationId>,
    invocation: &Invocation,
) -> Result<BTreeMap<ReservationId, u64>, StoreError> {
    let ids: Vec<ReservationId> = ids.iter().copied().collect();
    let batches = ids.chunks(MAX_CHECK).map(|batch| deps.store.reservations_of(batch, invocation));
    let found: Vec<Vec<Reservation>> =
        futures::stream::iter(batches).buffered(BATCHES_AT_ONCE).try_collect().await?;
    Ok(found.iter().flatten().map(|reservation| (reservation.id, held_of(reservation, unit))).collect())
}
