//! Compares stock that does not stand still with the reservations that hold it.
//!
//! A reservation's allocation changes in the transaction that writes its stock unit, and the ledger says for every
//! version of the stock unit which reservation it was. So what a reservation held at a version is known from any
//! reading of it between two versions of the stock unit, if none of the movements between them is its own.
//! Nothing has to stand still but one reservation at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use shared::domain::events::Movement;
use shared::domain::{Reservation, ReservationId, SharedTransaction, StockUnit, UnitKey};
use shared::function::Deps;
use shared::store::{Invocation, MAX_BATCH_READ, StoreError};
use tokio::time::Instant;

use crate::ledger::POLL_INTERVAL;

/// How often a stock unit is compared. A comparison fails where a reservation moves twice in a moment, or together with
/// others, so that it is not known by how much.
const MAX_COMPARISONS: usize = 10;

/// Batches of reservations that are read at once.
const BATCHES_AT_ONCE: usize = 8;

/// A stock unit to compare with its holders.
#[derive(Debug)]
pub(crate) struct UnitToCompare {
    pub(crate) unit: UnitKey,
    /// Its version before the holders were looked for.
    pub(crate) since: u64,
    /// The reservations that were found to hold something of it. Those that began to since then are in the ledger.
    pub(crate) holders: BTreeSet<ReservationId>,
}

/// The result of comparing a stock unit with its holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The reserved figure is the sum of what is held.
    Equal,
    /// It is not: reserved, held.
    Differs(u64, u64),
    /// It could not be compared, and why.
    NotCompared(&'static str),
}

pub(crate) const BEHIND: Comparison = Comparison::NotCompared("the ledger is behind");
const MOVED: Comparison = Comparison::NotCompared("it moved in a way that could not be followed");

/// The movements between two versions: by how much the holding of each reservation changed.
#[derive(Debug, Default)]
struct Movements {
    by: BTreeMap<ReservationId, i64>,
    /// The reservations that moved together with others: by how much each of them is not known.
    together: BTreeSet<ReservationId>,
    /// Whether something was given back that no reservation is named for, and whether something was held so.
    has_unnamed_release: bool,
    has_unnamed_hold: bool,
}

impl Movements {
    fn is_named(&self) -> bool {
        !self.has_unnamed_release && !self.has_unnamed_hold
    }

    /// The reservations that moved.
    fn moved(&self) -> BTreeSet<ReservationId> {
        self.by.keys().chain(&self.together).copied().collect()
    }
}

/// Compares what a stock unit has reserved with what reservations hold of it. A difference is checked again:
/// reads that are not transactions may see one half of a transaction before the other. `patience` is how long the
/// publisher is given to write a movement that has just happened.
pub(crate) async fn compare(
    deps: &Deps,
    candidate: &UnitToCompare,
    patience: Duration,
    invocation: &Invocation,
) -> Result<Comparison, StoreError> {
    let reader = Reader { deps, unit: &candidate.unit, patience, invocation };
    let (mut differed, mut outcome) = (None, MOVED);
    for _ in 0..MAX_COMPARISONS {
        match reader.compare_holders(candidate).await? {
            Comparison::Equal => return Ok(Comparison::Equal),
            seen if seen == BEHIND => return Ok(seen),
            seen @ Comparison::Differs(reserved, held) => {
                // The figures move on; what is wrong stays wrong by as much.
                let by = reserved.cast_signed() - held.cast_signed();
                if differed == Some(by) {
                    return Ok(seen);
                }
                differed = Some(by);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            seen => outcome = seen,
        }
    }
    // What was seen once and not again may have been half of a transaction.
    Ok(outcome)
}

/// Reads a stock unit and its holders.
struct Reader<'a> {
    deps: &'a Deps,
    unit: &'a UnitKey,
    patience: Duration,
    invocation: &'a Invocation,
}

impl Reader<'_> {
    async fn compare_holders(&self, candidate: &UnitToCompare) -> Result<Comparison, StoreError> {
        let gone = Comparison::NotCompared("it is gone");
        let Some(a) = self.read_stock().await? else { return Ok(gone) };
        let Some(before) = self.movements_between(candidate.since, a.version).await? else {
            return Ok(BEHIND);
        };
        if before.has_unnamed_hold {
            return Ok(MOVED);
        }
        let mut ids = candidate.holders.clone();
        ids.extend(before.moved());
        let mut held = self.read_held_by(&ids).await?;
        let Some(b) = self.read_stock().await? else { return Ok(gone) };
        let Some(between) = self.movements_between(a.version, b.version).await? else { return Ok(BEHIND) };
        if !between.is_named() {
            return Ok(MOVED);
        }
        // These may have been read before their movement or after it.
        let touched = between.moved();
        if !touched.is_empty() {
            match self.read_held_at(&b, &touched).await? {
                Ok(again) => held.extend(again),
                Err(why) => return Ok(why),
            }
        }
        let held: u64 = held.values().sum();
        Ok(if held == b.reserved { Comparison::Equal } else { Comparison::Differs(b.reserved, held) })
    }

    /// The quantities that these reservations held at a past version of their stock unit: those that they hold now,
    /// without their movements since then.
    async fn read_held_at(
        &self,
        then: &StockUnit,
        ids: &BTreeSet<ReservationId>,
    ) -> Result<Result<BTreeMap<ReservationId, u64>, Comparison>, StoreError> {
        let gone = Comparison::NotCompared("it is gone");
        let Some(c) = self.read_stock().await? else { return Ok(Err(gone)) };
        let Some(since) = self.movements_between(then.version, c.version).await? else {
            return Ok(Err(BEHIND));
        };
        let mut held = self.read_held_by(ids).await?;
        let Some(d) = self.read_stock().await? else { return Ok(Err(gone)) };
        let Some(meanwhile) = self.movements_between(c.version, d.version).await? else {
            return Ok(Err(BEHIND));
        };
        let again = !ids.is_disjoint(&meanwhile.moved()) || !ids.is_disjoint(&since.together);
        if again || !since.is_named() || !meanwhile.is_named() {
            return Ok(Err(MOVED));
        }
        for id in ids {
            let held = held.entry(*id).or_default();
            *held = held.saturating_add_signed(-since.by.get(id).copied().unwrap_or(0));
        }
        Ok(Ok(held))
    }

    async fn read_stock(&self) -> Result<Option<StockUnit>, StoreError> {
        self.deps.store.stock_unit(self.unit, self.invocation).await
    }

    /// The movements after one version, up to another. None if the ledger does not have them in time.
    async fn movements_between(&self, after: u64, up_to: u64) -> Result<Option<Movements>, StoreError> {
        let until = (Instant::now() + self.patience).min(self.invocation.deadline);
        let (mut version, mut moved) = (after, Movements::default());
        while version < up_to {
            let page = self.deps.store.movements(self.unit, version, up_to, self.invocation).await?;
            let before = version;
            // What comes behind a gap is read again when the gap is closed.
            for movement in page {
                if movement.version != version + 1 || !self.follow(&movement, &mut moved).await? {
                    break;
                }
                version = movement.version;
            }
            if version == before {
                if Instant::now() + POLL_INTERVAL >= until {
                    return Ok(None);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        Ok(Some(moved))
    }

    /// Adds a movement. False while the ledger does not have all that shared it.
    async fn follow(&self, movement: &Movement, moved: &mut Movements) -> Result<bool, StoreError> {
        let (reference, held) = (&movement.cause.reference, movement.delta.reserved);
        if let Some(shared) = SharedTransaction::parse(reference) {
            let store = &self.deps.store;
            let Some(ids) = store.reservations_of_transaction(&shared, self.invocation).await? else {
                return Ok(false);
            };
            moved.together.extend(ids);
            return Ok(true);
        }
        match ReservationId::parse(reference) {
            _ if held == 0 => {}
            Ok(id) => *moved.by.entry(id).or_default() += held,
            Err(_) if held > 0 => moved.has_unnamed_hold = true,
            Err(_) => moved.has_unnamed_release = true,
        }
        Ok(true)
    }

    /// The quantities that these reservations hold of the stock unit now.
    async fn read_held_by(
        &self,
        ids: &BTreeSet<ReservationId>,
    ) -> Result<BTreeMap<ReservationId, u64>, StoreError> {
        let ids: Vec<ReservationId> = ids.iter().copied().collect();
        let read = |batch| self.deps.store.reservations_of(batch, self.invocation);
        let batches = ids.chunks(MAX_BATCH_READ).map(read);
        let found: Vec<Vec<Reservation>> =
            futures::stream::iter(batches).buffered(BATCHES_AT_ONCE).try_collect().await?;
        let held = |reservation: &Reservation| (reservation.id, held_quantity(reservation, self.unit));
        Ok(found.iter().flatten().map(held).collect())
    }
}

/// The quantities that a reservation holds, by stock unit.
pub(crate) fn holdings_of(reservation: &Reservation) -> impl Iterator<Item = (UnitKey, u64)> {
    reservation.lines.iter().flat_map(|line| {
        line.allocations.iter().map(|allocation| (line.key.unit(allocation.bucket), allocation.quantity))
    })
}

/// The quantity that a reservation holds of one stock unit.
fn held_quantity(reservation: &Reservation, unit: &UnitKey) -> u64 {
    holdings_of(reservation).filter(|(of, _)| of == unit).map(|(_, quantity)| quantity).sum()
}
