//! Ends due holds, many in one transaction: those that share stock units cost one update of each.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, KeysAndAttributes, Select, TransactWriteItem,
};
use futures::StreamExt as _;

use super::commit::{cause, number};
use super::error::{Reason, StoreError, Transient, classify, reason};
use super::record::{Item, parse_reservation};
use super::retry::{Attempts, until_answered};
use super::{Invocation, MAX_CHECK, Store, keys};
use crate::domain::decide::Action;
use crate::domain::{
    Commit, Decision, Delta, ReservationId, StockMove, Target, Timestamp, UnitKey, decide, may_end_until,
};
use crate::metrics::Metric;

/// Most actions in one transaction. Source: Amazon DynamoDB API Reference, TransactWriteItems.
const MAX_ACTIONS: usize = 100;

/// Entries of the index that are read at once from one shard.
const PAGE: i32 = 100;

/// How many groups of holds are ended at once. Groups share no first stock unit, so they seldom meet.
const GROUPS_AT_ONCE: usize = 4;

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

/// What came of ending due holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Ended now.
    pub expired: u64,
    /// No longer due when they were looked at: confirmed, extended, released, or ended by another sweep.
    pub changed: u64,
    /// Could not be ended: their stock unit holds less than they were promised.
    pub failed: u64,
    /// Transactions that were written.
    pub transactions: u64,
}

impl Expired {
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
    pub async fn due(
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
    pub async fn open_holds(
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

    /// Ends those of these holds that still may be ended, and adds to `outcome` what came of it. What cannot be
    /// ended does not keep the others from it.
    ///
    /// # Errors
    /// The first [`StoreError`] there was; the others are ended then.
    pub async fn expire(
        &self,
        ids: &[ReservationId],
        invocation: &Invocation,
        outcome: &mut Expired,
    ) -> Result<(), StoreError> {
        let mut groups: BTreeMap<Option<UnitKey>, Vec<Commit>> = BTreeMap::new();
        for some in ids.chunks(MAX_CHECK) {
            let found = self.reservations(some, invocation).await?;
            outcome.changed += u64::try_from(some.len() - found.len()).unwrap_or(0);
            for item in found {
                let reservation = match parse_reservation(item) {
                    Ok(reservation) => reservation,
                    Err(error) => {
                        tracing::error!(error = error.to_string(), "a due hold cannot be read");
                        outcome.failed += 1;
                        continue;
                    }
                };
                let expire = invocation.command(Target::Reservation(reservation.id), Action::Expire);
                match decide(Some(&reservation), &expire, invocation.now) {
                    Decision::Commit(commit) => {
                        let first = commit.moves.first().map(|m| m.unit.clone());
                        groups.entry(first).or_default().push(*commit);
                    }
                    Decision::Unchanged | Decision::Refuse(_) => outcome.changed += 1,
                }
            }
        }
        let batches = groups.into_values().map(|group| self.expire_group(group, invocation));
        let mut running = futures::stream::iter(batches).buffer_unordered(GROUPS_AT_ONCE);
        let mut first_error = None;
        while let Some((done, error)) = running.next().await {
            outcome.add(done);
            first_error = first_error.or(error);
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn expire_group(
        &self,
        group: Vec<Commit>,
        invocation: &Invocation,
    ) -> (Expired, Option<StoreError>) {
        let mut outcome = Expired::default();
        for batch in pack(group) {
            if let Err(error) = self.expire_batch(batch, invocation, &mut outcome).await {
                return (outcome, Some(error));
            }
        }
        (outcome, None)
    }

    /// Writes one transaction; what fails its condition is left out and the rest tried again.
    async fn expire_batch(
        &self,
        mut batch: Vec<Commit>,
        invocation: &Invocation,
        outcome: &mut Expired,
    ) -> Result<(), StoreError> {
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        let mut unanswered = false;
        while !batch.is_empty() {
            let moves = summed(&batch);
            let mut request = self.client.transact_write_items();
            for commit in &batch {
                let put = self.put_reservation(&commit.next, invocation)?;
                request = request.transact_items(TransactWriteItem::builder().put(put).build());
            }
            for stock_move in &moves {
                let update =
                    self.stock_update(stock_move, sweep_cause(&batch, stock_move, invocation), invocation);
                request = request.transact_items(TransactWriteItem::builder().update(update).build());
            }
            let error = match request.send().await {
                Ok(_) => {
                    outcome.transactions += 1;
                    outcome.expired += u64::try_from(batch.len()).unwrap_or(u64::MAX);
                    return Ok(());
                }
                Err(error) => error,
            };
            let failure = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    match left_out(cancelled.cancellation_reasons(), &mut batch, &moves, unanswered, outcome)?
                    {
                        true => continue,
                        false => busy(cancelled.cancellation_reasons())?,
                    }
                }
                _ => classify(&error)?,
            };
            unanswered |= failure.maybe_applied;
            attempts.pause(&failure).await?;
        }
        Ok(())
    }

    /// Reads reservations as they lie in the table, at most [`MAX_CHECK`].
    pub(super) async fn reservations(
        &self,
        ids: &[ReservationId],
        invocation: &Invocation,
    ) -> Result<Vec<Item>, StoreError> {
        let table = &self.settings.inventory_table;
        let mut found = Vec::with_capacity(ids.len());
        let mut left: Vec<keys::Key> = ids.iter().map(|id| keys::reservation(*id)).collect();
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        while !left.is_empty() {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left.clone())).consistent_read(true);
            let wanted = wanted.build().map_err(|e| StoreError::corrupt("a batch of keys", e))?;
            match self.client.batch_get_item().request_items(table, wanted).send().await {
                Ok(output) => {
                    let items =
                        output.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default();
                    found.extend(items);
                    let unprocessed = output.unprocessed_keys.and_then(|mut tables| tables.remove(table));
                    left = unprocessed.map(|unprocessed| unprocessed.keys).unwrap_or_default();
                    if !left.is_empty() {
                        let detail = format!("{} keys were left unprocessed", left.len());
                        attempts.pause(&Transient::not_applied(detail)).await?;
                    }
                }
                Err(error) => attempts.pause(&classify(&error)?).await?,
            }
        }
        Ok(found)
    }
}

fn reservation_id(item: &Item) -> Result<ReservationId, StoreError> {
    let pk = item.get(keys::PK).and_then(|pk| pk.as_s().ok()).map_or("", String::as_str);
    let id = pk.strip_prefix(keys::RESERVATION).unwrap_or_default();
    ReservationId::parse(id).map_err(|e| StoreError::corrupt("an entry of the due index", e))
}

/// Splits holds so that each part fits one transaction.
fn pack(group: Vec<Commit>) -> Vec<Vec<Commit>> {
    let mut parts: Vec<Vec<Commit>> = Vec::new();
    let mut units = std::collections::BTreeSet::new();
    for commit in group {
        let new = commit.moves.iter().filter(|m| !units.contains(&m.unit)).count();
        let fits = parts.last().is_some_and(|part| part.len() + 1 + units.len() + new <= MAX_ACTIONS);
        if !fits {
            parts.push(Vec::new());
            units.clear();
        }
        units.extend(commit.moves.iter().map(|m| m.unit.clone()));
        if let Some(part) = parts.last_mut() {
            part.push(commit);
        }
    }
    parts
}

/// One move for each stock unit: what all holds give back to it.
fn summed(batch: &[Commit]) -> Vec<StockMove> {
    let mut sums: BTreeMap<&UnitKey, Delta> = BTreeMap::new();
    for StockMove { unit, delta, .. } in batch.iter().flat_map(|commit| &commit.moves) {
        let sum = sums.entry(unit).or_default();
        *sum = sum.and(*delta);
    }
    sums.into_iter().map(|(unit, delta)| StockMove { unit: unit.clone(), delta, ordered: None }).collect()
}

/// Why a transaction was cancelled of which nothing could be left out.
fn busy(reasons: &[CancellationReason]) -> Result<Transient, StoreError> {
    let reasons: Vec<Reason> = reasons.iter().map(|r| reason(r.code())).collect::<Result<_, _>>()?;
    let metric = reasons.iter().find_map(|r| if let Reason::Busy(metric) = r { Some(*metric) } else { None });
    Ok(Transient::busy(metric.unwrap_or(Metric::Conflicts), "a hold or its stock"))
}

/// The reservation that a stock unit's write is for, or how many there are.
fn sweep_cause(batch: &[Commit], stock_move: &StockMove, invocation: &Invocation) -> AttributeValue {
    let of_unit: Vec<_> =
        batch.iter().filter(|commit| commit.moves.iter().any(|m| m.unit == stock_move.unit)).collect();
    let reference = match of_unit.as_slice() {
        [one] => one.next.id.to_string(),
        many => format!("{} reservations", many.len()),
    };
    cause(Action::Expire.name(), &reference, &invocation.correlation_id)
}

/// Takes out of a batch what keeps it from being written. Answers whether anything was taken out.
fn left_out(
    reasons: &[CancellationReason],
    batch: &mut Vec<Commit>,
    moves: &[StockMove],
    unanswered: bool,
    outcome: &mut Expired,
) -> Result<bool, StoreError> {
    if reasons.len() != batch.len() + moves.len() {
        return Err(StoreError::corrupt("a cancelled transaction", format!("{} reasons", reasons.len())));
    }
    let (records, stock) = reasons.split_at(batch.len());
    let mut keep = Vec::with_capacity(batch.len());
    let mut busy = false;
    for (cancelled, commit) in records.iter().zip(batch.iter()) {
        let why = reason(cancelled.code())?;
        busy |= matches!(why, Reason::Busy(_));
        let failed = why == Reason::ConditionFailed;
        if failed {
            // The answer to an earlier try may have been lost; then the record is as we wrote it.
            let there = cancelled
                .item()
                .filter(|item| !item.is_empty())
                .cloned()
                .map(parse_reservation)
                .transpose()?;
            if unanswered && there.as_ref() == Some(&commit.next) {
                outcome.expired += 1
            } else {
                outcome.changed += 1
            }
        }
        keep.push(!failed);
    }
    // A write under way on a record may have reached the stock unit already, an earlier try of ours, too.
    if !busy && keep.iter().all(|keep| *keep) {
        let mut broken = Vec::new();
        for (cancelled, stock_move) in stock.iter().zip(moves) {
            if reason(cancelled.code())? == Reason::ConditionFailed {
                tracing::error!(
                    product = stock_move.unit.product.as_str(),
                    "a stock unit holds less than is promised"
                );
                broken.push(&stock_move.unit);
            }
        }
        for (keep, commit) in keep.iter_mut().zip(batch.iter()) {
            if commit.moves.iter().any(|m| broken.contains(&&m.unit)) {
                outcome.failed += 1;
                *keep = false;
            }
        }
    }
    let before = batch.len();
    let mut keep = keep.into_iter();
    batch.retain(|_| keep.next().unwrap_or(true));
    Ok(batch.len() < before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::tests::{command, commit_of};
    use crate::domain::reservation::CLOCK_MARGIN;
    use crate::domain::{LineKey, Location, OrderId, OrderLines, ProductId, Quantity};

    /// A hold of one of each product that ends.
    fn ending(order: &str, products: &[String]) -> Commit {
        let line = |product: &String| {
            let product = ProductId::parse(product.as_str()).unwrap();
            (LineKey { product, location: Location::default() }, Quantity::ONE)
        };
        let lines = OrderLines::sum(products.iter().map(line)).unwrap();
        let order = Target::Order(OrderId::parse(order).unwrap());
        let now = Timestamp::UNIX_EPOCH + CLOCK_MARGIN;
        let expires_at = Some(Timestamp::UNIX_EPOCH);
        let held = commit_of(None, &command(&order, Action::Reserve { lines, expires_at }), now);
        commit_of(Some(&held.next), &command(&order, Action::Expire), now)
    }

    fn actions(part: &[Commit]) -> usize {
        part.len() + summed(part).len()
    }

    #[test]
    fn holds_are_packed_into_transactions() {
        // All of one product: 99 holds and its stock unit.
        let same: Vec<Commit> = (0..250).map(|i| ending(&format!("o-{i}"), &["A".to_owned()])).collect();
        let parts = pack(same.clone());
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [99, 99, 52]);
        assert_eq!(parts.concat(), same);
        // Each of the common product and two of its own: three actions a hold, and one.
        let own = |i: usize| ["A".to_owned(), format!("B{i}"), format!("C{i}")];
        let mixed: Vec<Commit> = (0..70).map(|i| ending(&format!("o-{i}"), &own(i))).collect();
        let parts = pack(mixed.clone());
        assert_eq!(parts.iter().map(|part| actions(part)).collect::<Vec<_>>(), [100, 100, 13]);
        assert_eq!(parts.concat(), mixed);
    }

    fn because(code: &str, item: Option<Item>) -> CancellationReason {
        CancellationReason::builder().code(code).set_item(item).build()
    }

    /// What is taken out of two holds of one product each because of these reasons: the two records', then the two
    /// products'. Answers with how many are left, what was counted, and whether anything was taken out.
    fn after(reasons: [CancellationReason; 4], unanswered: bool) -> (usize, Expired, bool) {
        let mut batch = vec![ending("o-1", &["A".to_owned()]), ending("o-2", &["B".to_owned()])];
        let (moves, mut outcome) = (summed(&batch), Expired::default());
        let taken = left_out(&reasons, &mut batch, &moves, unanswered, &mut outcome).unwrap();
        (batch.len(), outcome, taken)
    }

    #[test]
    fn what_keeps_a_sweep_from_being_written_is_taken_out() {
        const FAILED: &str = "ConditionalCheckFailed";
        let none = || because("None", None);
        let changed = Expired { changed: 1, ..Expired::default() };
        let gone = || because(FAILED, Some(Item::new()));
        assert_eq!(after([gone(), none(), none(), none()], true), (1, changed, true));
        // As it was written before, if an answer may have been lost.
        let next = ending("o-2", &["B".to_owned()]).next;
        let retention = std::time::Duration::from_secs(1);
        let item = super::super::record::reservation_item(&next, Timestamp::UNIX_EPOCH, retention).unwrap();
        let there = || because(FAILED, Some(item.clone()));
        let expired = Expired { expired: 1, ..Expired::default() };
        assert_eq!(after([none(), there(), none(), none()], true), (1, expired, true));
        assert_eq!(after([none(), there(), none(), none()], false), (1, changed, true));
        // Its stock unit holds less than it was promised.
        let failed = Expired { failed: 1, ..Expired::default() };
        assert_eq!(after([none(), none(), because(FAILED, None), none()], false), (1, failed, true));
        let conflict = || because("TransactionConflict", None);
        assert_eq!(after([none(), none(), conflict(), none()], false), (2, Expired::default(), false));
        // Unless a write on a hold is under way: it may be what has taken from the stock unit.
        let taken = because(FAILED, None);
        assert_eq!(after([conflict(), none(), taken, none()], true), (2, Expired::default(), false));
    }

    #[test]
    fn outcomes_add_up() {
        let mut sum = Expired { expired: 1, changed: 2, failed: 3, transactions: 4 };
        sum.add(Expired { expired: 10, changed: 20, failed: 30, transactions: 40 });
        assert_eq!(sum, Expired { expired: 11, changed: 22, failed: 33, transactions: 44 });
    }

    #[test]
    fn a_movement_names_its_hold_or_how_many() {
        let invocation = Invocation {
            now: Timestamp::UNIX_EPOCH,
            deadline: tokio::time::Instant::now(),
            correlation_id: "c".to_owned(),
            metrics: crate::metrics::Metrics::default(),
        };
        let (one, two) = (ending("o-1", &["A".into(), "B".into()]), ending("o-2", &["A".into()]));
        let batch = [one.clone(), two];
        let causes: Vec<AttributeValue> =
            summed(&batch).iter().map(|stock_move| sweep_cause(&batch, stock_move, &invocation)).collect();
        let named = |reference: &str| cause("expire", reference, "c");
        assert_eq!(causes, [named("2 reservations"), named(&one.next.id.to_string())]);
    }
}
