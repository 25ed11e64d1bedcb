//! What is sent for some plans, and what comes back: one write, or one transaction.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    CancellationReason, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use super::error::{CancellationCode, StoreError, Transient, classify, parse_cancellation_code};
use super::expression::update_of;
use super::record::{Item, number, parse_reservation, purge_at, reservation_item, text};
use super::{Store, keys};
use crate::domain::{
    Cause, Fact, IdempotencyRecord, Move, Plan, RecordWrite, Reservation, ReservationId, SharedTransaction,
    State, UnitKey,
};
use crate::metrics::Metric;

/// Most actions in one transaction. Source: Amazon DynamoDB API Reference, TransactWriteItems.
pub(super) const MAX_ACTIONS: usize = 100;

/// Most bytes in one transaction: 4 MB. Source: as [`MAX_ACTIONS`].
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// More than an item takes without the entries of its lists.
const BYTES_OF_ITEM: usize = 4 * 1024;
/// More than one entry of a record's lists takes; the longest names and a location make about 300.
const BYTES_OF_ENTRY: usize = 512;

/// More bytes than the items of this plan take.
pub(super) fn most_bytes(plan: &Plan) -> usize {
    let items = 2 + plan.moves.len();
    items * BYTES_OF_ITEM + plan.next_record().map_or(0, entries) * BYTES_OF_ENTRY
}

/// How many entries the lists of a record have.
fn entries(record: &Reservation) -> usize {
    let claims = [&record.deliveries.totals, &record.deliveries.shipped]
        .map(|claims| claims.0.values().map(|claim| 1 + claim.at.len()).sum::<usize>());
    let conflicts: usize = record.conflicts.kept.iter().map(|conflict| 1 + conflict.lines.len()).sum();
    let lines: usize = record.lines.iter().map(|line| 1 + line.allocations.len()).sum();
    lines + conflicts + record.shortages.len() + record.shipments.len() + claims.iter().sum::<usize>()
}

/// The operation of a movement that several operations share.
const SEVERAL_OPERATIONS: &str = "several";

/// What is sent for some plans, together or not at all. Sent again, it is the same request: under the same token it is
/// applied once.
pub(super) struct Transaction {
    /// The action of each plan's record and idempotency record, in the order of the plans; then those of the stock units.
    actions: Vec<TransactWriteItem>,
    /// What each action is of.
    pub(super) targets: Vec<ActionTarget>,
    /// The record, where that is all there is to write.
    record_alone: Option<RecordWrite>,
    token: String,
}

impl Transaction {
    /// Makes it another request with the same content.
    pub(super) fn renew_token(&mut self) {
        self.token = new_token();
    }
}

/// Drawn from the same source as the pauses between tries, so that a simulated run can be repeated.
fn new_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// What an action of a transaction writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ActionTarget {
    /// The record of the plan with this index.
    Record(usize),
    /// The idempotency record of the plan with this index.
    Idempotency(usize),
    /// A stock unit, for every plan that moves it.
    Stock(UnitKey),
}

/// What came of sending a transaction once.
pub(super) enum Sent {
    /// It is written. The record as it is now, where that was not known before.
    Written(Option<Box<Reservation>>),
    /// It was cancelled, and never will be written by this request: for each action why.
    Cancelled(Vec<Cancelled>),
    /// No outcome; it may be sent again.
    Failed(Transient),
}

/// Why one action was not written.
#[derive(Debug)]
pub(super) struct Cancelled {
    pub(super) reason: CancellationCode,
    /// The item that failed the condition, where there is one and the endpoint shows it.
    pub(super) item: Option<Item>,
}

impl Cancelled {
    /// Reads what DynamoDB says of each action.
    ///
    /// # Errors
    /// If one of them is wrong by itself, unless a condition failed that explains the cancellation.
    pub(super) fn read_all(given: &[CancellationReason]) -> Result<Vec<Self>, StoreError> {
        let mut wrong = None;
        let read = |given: &CancellationReason| {
            let reason = parse_cancellation_code(given.code()).unwrap_or_else(|error| {
                wrong.get_or_insert(error);
                CancellationCode::None
            });
            Self { reason, item: non_empty(given.item()) }
        };
        let all: Vec<Self> = given.iter().map(read).collect();
        match wrong {
            Some(error) if !all.iter().any(Self::has_failed) => Err(error),
            _ => Ok(all),
        }
    }

    /// A condition that failed outside of a transaction.
    fn condition(item: Option<&Item>) -> Sent {
        Sent::Cancelled(vec![Self { reason: CancellationCode::ConditionFailed, item: non_empty(item) }])
    }

    pub(super) fn has_failed(&self) -> bool {
        self.reason == CancellationCode::ConditionFailed
    }
}

/// An empty item is how "no item" comes back from some endpoints.
fn non_empty(item: Option<&Item>) -> Option<Item> {
    item.filter(|item| !item.is_empty()).cloned()
}

impl Store {
    /// What is sent for these plans. The moves of one stock unit become one.
    pub(super) fn transaction_of(&self, plans: &[&Plan]) -> Result<Transaction, StoreError> {
        let (mut actions, mut targets) = (Vec::new(), Vec::new());
        let shared = (plans.len() > 1)
            .then(|| SharedTransaction { id: new_token(), reservations: plans.len() as u64 });
        for (i, plan) in plans.iter().enumerate() {
            if let Some(record) = &plan.record {
                let builder = TransactWriteItem::builder();
                let action = match record {
                    RecordWrite::Put(next) => {
                        let place = shared.as_ref().map(|shared| format!("{}#{i}", shared.id));
                        builder.put(self.put_record(next, plan, place)?)
                    }
                    RecordWrite::Confirm(id) => builder.update(self.update_to_confirm(*id, plan)),
                };
                actions.push(action.build());
                targets.push(ActionTarget::Record(i));
            }
            if let Some(kept) = &plan.idempotency {
                let put = self.put_idempotency(kept, plan)?;
                actions.push(TransactWriteItem::builder().put(put).build());
                targets.push(ActionTarget::Idempotency(i));
            }
        }
        let mut by_unit: BTreeMap<&UnitKey, Vec<(&Plan, &Move)>> = BTreeMap::new();
        for plan in plans {
            plan.moves.iter().for_each(|one| by_unit.entry(&one.unit).or_default().push((plan, one)));
        }
        for (unit, moves) in by_unit {
            let (of_plans, moves): (Vec<&Plan>, Vec<&Move>) = moves.into_iter().unzip();
            let update = update_of(
                &self.settings.inventory_table,
                &Move::combine(&moves),
                &combined_cause(&of_plans, shared.as_ref()),
                of_plans[0].at,
            );
            actions.push(TransactWriteItem::builder().update(update).build());
            targets.push(ActionTarget::Stock(unit.clone()));
        }
        // Without stock a plain write does; a transaction would cost twice the write units.
        let record_alone = match (plans, targets.as_slice()) {
            ([plan], [ActionTarget::Record(_)]) => plan.record.clone(),
            _ => None,
        };
        Ok(Transaction { actions, targets, record_alone, token: new_token() })
    }

    /// Sends it once.
    pub(super) async fn send(&self, transaction: &Transaction) -> Result<Sent, StoreError> {
        match &transaction.record_alone {
            Some(RecordWrite::Put(_)) => self.send_put(&transaction.actions[0]).await,
            Some(RecordWrite::Confirm(_)) => self.send_update(&transaction.actions[0]).await,
            None => self.send_transaction(transaction).await,
        }
    }

    async fn send_transaction(&self, transaction: &Transaction) -> Result<Sent, StoreError> {
        let request = self.client.transact_write_items();
        let request = request.set_transact_items(Some(transaction.actions.clone()));
        let Err(error) = request.client_request_token(&transaction.token).send().await else {
            return Ok(Sent::Written(None));
        };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                let reasons = cancelled.cancellation_reasons();
                if reasons.len() != transaction.targets.len() {
                    let detail = format!("{} reasons", reasons.len());
                    return Err(StoreError::corrupt("a cancelled transaction", detail));
                }
                Cancelled::read_all(reasons).map(Sent::Cancelled)
            }
            _ => classify(&error).map(Sent::Failed),
        }
    }

    async fn send_put(&self, action: &TransactWriteItem) -> Result<Sent, StoreError> {
        let record = action.put().expect("the record is put").clone();
        let put = self
            .client
            .put_item()
            .table_name(record.table_name)
            .set_item(Some(record.item))
            .set_condition_expression(record.condition_expression)
            .set_expression_attribute_values(record.expression_attribute_values)
            .set_return_values_on_condition_check_failure(record.return_values_on_condition_check_failure);
        match put.send().await {
            Ok(_) => Ok(Sent::Written(None)),
            Err(SdkError::ServiceError(service)) => match service.err() {
                PutItemError::ConditionalCheckFailedException(failed) => {
                    Ok(Cancelled::condition(failed.item()))
                }
                _ => classify(&SdkError::ServiceError(service)).map(Sent::Failed),
            },
            Err(error) => classify(&error).map(Sent::Failed),
        }
    }

    async fn send_update(&self, action: &TransactWriteItem) -> Result<Sent, StoreError> {
        let confirm = action.update().expect("the record is updated").clone();
        let update = self
            .client
            .update_item()
            .table_name(confirm.table_name)
            .set_key(Some(confirm.key))
            .update_expression(confirm.update_expression)
            .set_condition_expression(confirm.condition_expression)
            .set_expression_attribute_names(confirm.expression_attribute_names)
            .set_expression_attribute_values(confirm.expression_attribute_values)
            .return_values(ReturnValue::AllNew)
            .set_return_values_on_condition_check_failure(confirm.return_values_on_condition_check_failure);
        let error = match update.send().await {
            Ok(output) => {
                let item = output
                    .attributes
                    .ok_or_else(|| StoreError::corrupt("a confirmed reservation", "no item"))?;
                return Ok(Sent::Written(Some(Box::new(parse_reservation(item)?))));
            }
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Cancelled::condition(failed.item()))
            }
            _ => classify(&error).map(Sent::Failed),
        }
    }

    /// The record as it will be, if it is still the one that was seen.
    /// `place` is its place in a transaction that it shares with others; records that differ in it alone are the same.
    fn put_record(&self, next: &Reservation, plan: &Plan, place: Option<String>) -> Result<Put, StoreError> {
        let mut item = reservation_item(next, plan.at, self.settings.retention)?;
        item.extend(place.map(|place| (keys::SHARED_WRITE.to_owned(), text(&place))));
        self.put_version(item, next.version)
    }

    /// An item of this version, if there is the version before; of version 1, if there is none. Shows what is there
    /// otherwise.
    pub(super) fn put_version(&self, item: Item, version: u64) -> Result<Put, StoreError> {
        let put = Put::builder()
            .table_name(&self.settings.inventory_table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match version {
            1 => put.condition_expression("attribute_not_exists(pk)"),
            _ => put
                .condition_expression("version = :seen")
                .expression_attribute_values(":seen", number(version - 1)),
        };
        put.build().map_err(|e| StoreError::corrupt("a write", e))
    }

    /// Confirms a temporary hold without having read it. Its condition is
    /// [`crate::domain::decide::may_confirm_unread`].
    fn update_to_confirm(&self, id: ReservationId, plan: &Plan) -> Update {
        Update::builder()
            .table_name(&self.settings.inventory_table)
            .set_key(Some(keys::reservation(id)))
            .update_expression(
                "SET #state = :confirmed, facts.#paid = :now, confirmedAt = :now, updatedAt = :now, \
                 correlationId = :correlation, version = version + :one REMOVE expiresAt, expiryShard",
            )
            .condition_expression(
                "#state = :reserved AND (attribute_not_exists(expiresAt) OR expiresAt > :now)",
            )
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#paid", Fact::Paid.name())
            .expression_attribute_values(":confirmed", text(State::Confirmed.name()))
            .expression_attribute_values(":reserved", text(State::Reserved.name()))
            .expression_attribute_values(":now", number(plan.at.as_millisecond()))
            .expression_attribute_values(":correlation", text(&plan.cause.correlation_id))
            .expression_attribute_values(":one", number(1))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("table, key and expression are set")
    }

    fn put_idempotency(&self, kept: &IdempotencyRecord, plan: &Plan) -> Result<Put, StoreError> {
        let mut item = keys::idempotency(kept.operation, &kept.key);
        item.insert("fingerprint".to_owned(), text(&kept.fingerprint.0.to_string()));
        item.insert("answer".to_owned(), text(&kept.answer));
        item.insert("purgeAt".to_owned(), number(purge_at(plan.at, self.settings.retention)));
        self.put_version(item, 1)
    }
}

/// What one movement of several plans was done for: that of the one, or the transaction that they share.
fn combined_cause(plans: &[&Plan], shared: Option<&SharedTransaction>) -> Cause {
    let first = &plans[0].cause;
    match (plans, shared) {
        ([_, _, ..], Some(shared)) => {
            let is_same = plans.iter().all(|plan| plan.cause.operation == first.operation);
            let operation = if is_same { first.operation.clone() } else { SEVERAL_OPERATIONS.to_owned() };
            Cause { operation, reference: shared.to_string(), ..first.clone() }
        }
        _ => first.clone(),
    }
}

/// Which of the reasons to be busy there is, if any, and what the action is of.
pub(super) fn find_busy_action(targets: &[ActionTarget], reasons: &[Cancelled]) -> Option<Transient> {
    let busy = |(target, cancelled): (&ActionTarget, &Cancelled)| match cancelled.reason {
        CancellationCode::Busy(metric) => Some((metric, target.clone())),
        CancellationCode::None | CancellationCode::ConditionFailed => None,
    };
    let (metric, target): (Metric, ActionTarget) = targets.iter().zip(reasons).find_map(busy)?;
    let what = match &target {
        ActionTarget::Record(_) => "the reservation",
        ActionTarget::Idempotency(_) => "the idempotency key",
        ActionTarget::Stock(unit) => unit.product.as_str(),
    };
    Some(Transient::busy(metric, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movement_names_its_plan_or_the_transaction() {
        let plan = |reference: &str| Plan {
            record: None,
            idempotency: None,
            moves: Vec::new(),
            cause: Cause {
                operation: "expire".to_owned(),
                reference: reference.to_owned(),
                correlation_id: "c".to_owned(),
            },
            at: crate::domain::Timestamp::UNIX_EPOCH,
        };
        let (one, two) = (plan("r-1"), plan("r-2"));
        let shared = SharedTransaction { id: new_token(), reservations: 3 };
        assert_eq!(combined_cause(&[&one], Some(&shared)), one.cause);
        let both = combined_cause(&[&one, &two], Some(&shared));
        assert_eq!((both.operation.as_str(), both.reference), ("expire", shared.to_string()));
        let mut other = plan("r-3");
        other.cause.operation = "reserve".to_owned();
        assert_eq!(combined_cause(&[&one, &other], Some(&shared)).operation, SEVERAL_OPERATIONS);
    }
}
