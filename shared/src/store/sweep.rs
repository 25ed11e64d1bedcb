//! Ends due holds, many in one transaction: those that share stock units cost one update of each.

use std::pin::pin;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::Select;
use futures::StreamExt as _;

use super::error::StoreError;
use super::executor::Outcomes;
use super::record::{Item, number, parse_reservation};
use super::retry::until_answered;
use super::verdict::PlanOutcome;
use super::{Invocation, MAX_BATCH_READ, Store, keys};
use crate::domain::{
    Action, Decision, Plan, Reservation, ReservationId, Seen, Target, Timestamp, decide, may_end_until,
};

/// Entries of the index that are read at once from one shard.
const PAGE: i32 = 100;

/// A page of holds that may be ended, oldest first. The index may be behind: they are looked at again before
/// anything is written.
#[derive(Debug, Default)]
pub struct DuePage {
    /// The holds.
    pub ids: Vec<ReservationId>,
    /// When the time of the oldest was up.
    pub oldest: Option<Timestamp>,
    /// Where the next page begins; none if this was the last.
    pub next: Option<Cursor>,
}

/// Where a page of due holds begins.
#[derive(Debug, Clone)]
pub struct Cursor(Item);

/// What came of ending due holds, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepCounts {
    /// Ended now.
    pub expired: u64,
    /// No longer due when they were looked at: confirmed, extended, released, or ended by another sweep.
    pub changed: u64,
    /// Could not be ended: their stock unit holds less than they were promised.
    pub failed: u64,
    /// Transactions that were written.
    pub transactions: u64,
}

impl SweepCounts {
    /// Adds up.
    pub fn add(&mut self, other: Self) {
        self.expired += other.expired;
        self.changed += other.changed;
        self.failed += other.failed;
        self.transactions += other.transactions;
    }
}

impl Store {
    /// A page of the holds of a shard that may be ended.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn due_holds(
        &self,
        shard: u8,
        start: Option<&Cursor>,
        invocation: &Invocation,
    ) -> Result<DuePage, StoreError> {
        let page = until_answered!(
            self,
            invocation,
            self.query_due(shard)
                .key_condition_expression("expiryShard = :shard AND expiresAt <= :until")
                .expression_attribute_values(":until", number(may_end_until(invocation.now).as_millisecond()))
                .limit(PAGE)
                .set_exclusive_start_key(start.map(|cursor| cursor.0.clone()))
        );
        let items = page.items.unwrap_or_default();
        let ids = items.iter().map(reservation_id).collect::<Result<_, _>>()?;
        let oldest = items.first().and_then(|item| item.get("expiresAt")?.as_n().ok()?.parse().ok());
        Ok(DuePage {
            ids,
            oldest: oldest.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            next: page.last_evaluated_key.map(Cursor),
        })
    }

    /// How many temporary holds of a shard end after one moment, and at or before another.
    ///
    /// # Errors
    /// [`StoreError`] if the index cannot be read in time.
    pub async fn count_open_holds(
        &self,
        shard: u8,
        after: Timestamp,
        until: Timestamp,
        invocation: &Invocation,
    ) -> Result<u64, StoreError> {
        let (mut count, mut start) = (0, None);
        loop {
            let page = until_answered!(
                self,
                invocation,
                self.query_due(shard)
                    .select(Select::Count)
                    .key_condition_expression("expiryShard = :shard AND expiresAt BETWEEN :from AND :until")
                    .expression_attribute_values(":from", number(after.as_millisecond() + 1))
                    .expression_attribute_values(":until", number(until.as_millisecond()))
                    .set_exclusive_start_key(start.clone())
            );
            count += u64::try_from(page.count).unwrap_or(0);
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(count);
            }
        }
    }

    /// A query of one shard of the index of temporary holds.
    fn query_due(&self, shard: u8) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.settings.inventory_table)
            .index_name(keys::DUE_INDEX)
            .expression_attribute_values(":shard", number(shard))
    }

    /// Ends those of these holds that still may be ended, and adds to `counts` what came of it. What cannot be
    /// ended does not keep the others from it.
    ///
    /// # Errors
    /// The first [`StoreError`] there was; the others are ended then.
    pub async fn expire(
        &self,
        ids: &[ReservationId],
        invocation: &Invocation,
        counts: &mut SweepCounts,
    ) -> Result<(), StoreError> {
        let mut plans = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_BATCH_READ) {
            let found = self.reservations(chunk, invocation).await?;
            counts.changed += u64::try_from(chunk.len() - found.len()).unwrap_or(0);
            for item in found {
                match parse_reservation(item) {
                    Ok(reservation) => match decide_to_expire(reservation, invocation) {
                        Some(plan) => plans.push(plan),
                        None => counts.changed += 1,
                    },
                    Err(error) => {
                        tracing::error!(error = error.to_string(), "a due hold cannot be read");
                        counts.failed += 1;
                    }
                }
            }
        }
        let mut groups = pin!(self.commit(plans, invocation));
        let mut first_error = None;
        while let Some(Outcomes { of_plans, transactions }) = groups.next().await {
            counts.transactions += transactions;
            for (_, of_plan) in of_plans {
                match of_plan {
                    Ok(PlanOutcome::Committed(_)) => counts.expired += 1,
                    Ok(PlanOutcome::Prevented { .. }) => counts.changed += 1,
                    Err(error @ StoreError::Corrupt(_)) => {
                        tracing::error!(error = error.to_string(), "a due hold cannot be ended");
                        counts.failed += 1;
                    }
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Reads reservations as they lie in the table, at most [`MAX_BATCH_READ`].
    pub(super) async fn reservations(
        &self,
        ids: &[ReservationId],
        invocation: &Invocation,
    ) -> Result<Vec<Item>, StoreError> {
        self.items(ids.iter().map(|id| keys::reservation(*id)).collect(), true, invocation).await
    }
}

/// The end of a hold, if it may be ended.
fn decide_to_expire(reservation: Reservation, invocation: &Invocation) -> Option<Plan> {
    let command = invocation.command(Target::Reservation(reservation.id), Action::Expire);
    match decide(&Seen::record_alone(Some(reservation)), &command, invocation.now) {
        Decision::Plan(plan) => Some(*plan),
        Decision::Unchanged | Decision::Refuse(_) | Decision::Look(_) => None,
    }
}

fn reservation_id(item: &Item) -> Result<ReservationId, StoreError> {
    let pk = item.get(keys::PK).and_then(|pk| pk.as_s().ok()).map_or("", String::as_str);
    let id = pk.strip_prefix(keys::RESERVATION).unwrap_or_default();
    ReservationId::parse(id).map_err(|e| StoreError::corrupt("an entry of the due index", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_add_up() {
        let mut sum = SweepCounts { expired: 1, changed: 2, failed: 3, transactions: 4 };
        sum.add(SweepCounts { expired: 10, changed: 20, failed: 30, transactions: 40 });
        assert_eq!(sum, SweepCounts { expired: 11, changed: 22, failed: 33, transactions: 44 });
    }
}
