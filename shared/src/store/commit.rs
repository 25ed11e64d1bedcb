//! One attempt to write a decision.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValue, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};

use super::error::{Reason, StoreError, Transient, classify, reason};
use super::record::{Item, parse_reservation, parse_stock_unit, reservation_item};
use super::{Invocation, Store, keys};
use crate::domain::{Command, Commit, Fact, Lack, Reservation, ReservationId, Shortage, State, StockMove};
use crate::metrics::Metric;

/// What came of one attempt.
pub(super) enum Attempt {
    /// Written.
    Committed(Reservation),
    /// Not written, and never will be: the record is another one than was thought. Here it is.
    Changed(Option<Reservation>),
    /// Not written: these stock units could not serve.
    Short(Vec<Shortage>),
    /// No outcome; it may be tried again.
    Failed(Transient),
}

impl Store {
    /// Writes a decision, all of it or nothing.
    pub(super) async fn commit(
        &self,
        commit: &Commit,
        command: &Command,
        invocation: &Invocation,
    ) -> Result<Attempt, StoreError> {
        let record = self.put_reservation(&commit.next, invocation)?;
        if commit.moves.is_empty() {
            // Without stock a plain write does; a transaction would cost twice the write units.
            return self.commit_record(record, commit).await;
        }
        let mut request = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(record).build());
        let reservation_id = commit.next.id.to_string();
        for stock_move in &commit.moves {
            let cause = cause(command.action.name(), &reservation_id, &command.correlation_id);
            let update = self.stock_update(stock_move, cause, invocation);
            request = request.transact_items(TransactWriteItem::builder().update(update).build());
        }
        match request.send().await {
            Ok(_) => Ok(Attempt::Committed(commit.next.clone())),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    cancelled_because(cancelled.cancellation_reasons(), &commit.moves)
                }
                _ => classify(&error).map(Attempt::Failed),
            },
        }
    }

    async fn commit_record(&self, record: Put, commit: &Commit) -> Result<Attempt, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(record.table_name)
            .set_item(Some(record.item))
            .set_condition_expression(record.condition_expression)
            .set_expression_attribute_values(record.expression_attribute_values)
            .set_return_values_on_condition_check_failure(record.return_values_on_condition_check_failure);
        match put.send().await {
            Ok(_) => Ok(Attempt::Committed(commit.next.clone())),
            Err(SdkError::ServiceError(service)) => match service.err() {
                PutItemError::ConditionalCheckFailedException(failed) => changed(failed.item().cloned()),
                _ => classify(&SdkError::ServiceError(service)).map(Attempt::Failed),
            },
            Err(error) => classify(&error).map(Attempt::Failed),
        }
    }

    /// Confirms a temporary hold without having read it: one write, no transaction. Its condition is
    /// [`crate::domain::decide::confirms_unread`].
    pub(super) async fn commit_confirm(
        &self,
        id: ReservationId,
        invocation: &Invocation,
    ) -> Result<Attempt, StoreError> {
        let update = self
            .client
            .update_item()
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
            .expression_attribute_values(":now", number(invocation.now.as_millisecond()))
            .expression_attribute_values(":correlation", text(&invocation.correlation_id))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(output) => {
                let item = output
                    .attributes
                    .ok_or_else(|| StoreError::corrupt("a confirmed reservation", "no item"))?;
                Ok(Attempt::Committed(parse_reservation(item)?))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    changed(failed.item().cloned())
                }
                _ => classify(&error).map(Attempt::Failed),
            },
        }
    }

    /// The record as it will be, if it is still the one that was seen.
    pub(super) fn put_reservation(
        &self,
        next: &Reservation,
        invocation: &Invocation,
    ) -> Result<Put, StoreError> {
        let put = Put::builder()
            .table_name(&self.settings.inventory_table)
            .set_item(Some(reservation_item(next, invocation.now, self.settings.retention)?))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match next.version {
            1 => put.condition_expression("attribute_not_exists(pk)"),
            _ => put
                .condition_expression("version = :seen")
                .expression_attribute_values(":seen", number(next.version - 1)),
        };
        put.build().map_err(|e| StoreError::corrupt("a write", e))
    }

    /// A change of counters, none of which may get below zero.
    pub(super) fn stock_update(
        &self,
        stock_move: &StockMove,
        cause: AttributeValue,
        invocation: &Invocation,
    ) -> Update {
        let mut sets = vec!["version = version + :one", "updatedAt = :now", "cause = :cause"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let mut conditions = Vec::new();
        let mut update = Update::builder();
        let delta = stock_move.delta;
        for (counter, change) in
            [("available", delta.available), ("reserved", delta.reserved), ("sold", delta.sold)]
        {
            if change != 0 {
                sets.push(format!("{counter} = {counter} + :{counter}"));
                update = update.expression_attribute_values(format!(":{counter}"), number(change));
            }
            if change < 0 {
                conditions.push(format!("{counter} >= :{counter}Needed"));
                update = update.expression_attribute_values(format!(":{counter}Needed"), number(-change));
            }
        }
        if delta.is_physical() {
            sets.push("physical = if_not_exists(physical, :zero) + :one".to_owned());
            update = update.expression_attribute_values(":zero", number(0));
        }
        if let Some(ordered) = stock_move.ordered {
            conditions.push("(attribute_not_exists(maxPerOrder) OR maxPerOrder >= :ordered)".to_owned());
            update = update.expression_attribute_values(":ordered", number(ordered));
        }
        update
            .table_name(&self.settings.inventory_table)
            .set_key(Some(keys::stock_unit(&stock_move.unit)))
            .update_expression(format!("SET {}", sets.join(", ")))
            .condition_expression(conditions.join(" AND "))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":now", number(invocation.now.as_millisecond()))
            .expression_attribute_values(":cause", cause)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("table, key and expression are set")
    }
}

/// What a stock unit's last write was: the movement's operation and reference in the ledger.
pub(super) fn cause(operation: &str, reference: &str, correlation_id: &str) -> AttributeValue {
    AttributeValue::M(Item::from([
        ("operation".to_owned(), text(operation)),
        ("reference".to_owned(), text(reference)),
        ("correlationId".to_owned(), text(correlation_id)),
    ]))
}

pub(super) fn number(n: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

pub(super) fn text(s: &str) -> AttributeValue {
    AttributeValue::S(s.to_owned())
}

fn changed(item: Option<Item>) -> Result<Attempt, StoreError> {
    // An empty item is how "no item" comes back from some endpoints.
    let item = item.filter(|item| !item.is_empty());
    Ok(Attempt::Changed(item.map(parse_reservation).transpose()?))
}

/// Reads a cancelled transaction: the record's reason comes first, then one for each stock unit.
fn cancelled_because(reasons: &[CancellationReason], moves: &[StockMove]) -> Result<Attempt, StoreError> {
    let Some((record, stock)) = reasons.split_first().filter(|(_, stock)| stock.len() == moves.len()) else {
        return Err(StoreError::corrupt("a cancelled transaction", format!("{} reasons", reasons.len())));
    };
    // What the record says comes first: on our own retry the stock may be short because of our own hold.
    match reason(record.code())? {
        Reason::ConditionFailed => return changed(record.item().cloned()),
        Reason::Busy(metric) => return Ok(busy(metric, "the reservation")),
        Reason::None => {}
    }
    let mut shortages = Vec::new();
    let mut is_busy = None;
    for (cancellation, stock_move) in stock.iter().zip(moves) {
        match reason(cancellation.code())? {
            Reason::ConditionFailed => shortages.push(shortage(cancellation, stock_move)?),
            Reason::Busy(metric) => is_busy = Some((metric, stock_move)),
            Reason::None => {}
        }
    }
    match is_busy {
        // Only a stock condition of ours that failed is a refusal; a conflict never is.
        Some((metric, stock_move)) if shortages.is_empty() => {
            Ok(busy(metric, stock_move.unit.product.as_str()))
        }
        _ if shortages.is_empty() => Err(StoreError::corrupt("a cancelled transaction", "no reason given")),
        _ => Ok(Attempt::Short(shortages)),
    }
}

fn busy(metric: Metric, what: &str) -> Attempt {
    Attempt::Failed(Transient::busy(metric, what))
}

/// What a stock unit lacked, from the item that came back with the refusal.
fn shortage(cancellation: &CancellationReason, stock_move: &StockMove) -> Result<Shortage, StoreError> {
    let requested = stock_move.delta.available.min(0).unsigned_abs();
    let lack = match cancellation.item().filter(|item| !item.is_empty()) {
        None if requested == 0 => {
            return Err(StoreError::corrupt("a reservation", format!("{:?} is not there", stock_move.unit)));
        }
        None => Lack::Unknown,
        Some(item) => {
            let unit = parse_stock_unit(item.clone())?;
            match (unit.max_per_order, stock_move.ordered) {
                (Some(max_per_order), Some(ordered)) if ordered > max_per_order => {
                    Lack::OverLimit { max_per_order }
                }
                _ if unit.available < requested => Lack::Short { available: unit.available },
                _ => {
                    return Err(StoreError::corrupt(
                        "a stock unit holds less than is promised",
                        format!("{unit:?}"),
                    ));
                }
            }
        }
    };
    Ok(Shortage { unit: stock_move.unit.clone(), requested, lack })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delta, Location, ProductId, UnitKey};

    fn one_move(delta: Delta) -> StockMove {
        let product = ProductId::parse("A").unwrap();
        StockMove {
            unit: UnitKey { product, location: Location::default(), bucket: 0 },
            delta,
            ordered: None,
        }
    }

    fn none() -> CancellationReason {
        CancellationReason::builder().code("None").build()
    }

    /// The stock unit's condition failed, and this is what it had; nothing where there is none.
    fn failed(available: Option<u64>) -> CancellationReason {
        let item = available.map(|available| {
            let mut item = keys::stock_unit(&one_move(Delta::default()).unit);
            for (name, figure) in [("available", available), ("reserved", 0), ("sold", 0), ("version", 1)] {
                item.insert(name.to_owned(), number(figure));
            }
            item
        });
        CancellationReason::builder().code("ConditionalCheckFailed").set_item(item).build()
    }

    fn told(stock: CancellationReason, delta: Delta) -> Result<Vec<Lack>, StoreError> {
        match cancelled_because(&[none(), stock], &[one_move(delta)])? {
            Attempt::Short(shortages) => Ok(shortages.into_iter().map(|shortage| shortage.lack).collect()),
            _ => panic!("no shortage"),
        }
    }

    #[test]
    fn what_a_failed_condition_means() {
        assert_eq!(told(failed(Some(2)), Delta::hold(3)).unwrap(), [Lack::Short { available: 2 }]);
        assert_eq!(told(failed(None), Delta::hold(3)).unwrap(), [Lack::Unknown]);
    }

    /// Stock that is promised must be there to be given back; that it is not is nobody's shortage.
    #[test]
    fn what_cannot_be_is_an_error() {
        assert!(matches!(told(failed(None), Delta::give_back(3)), Err(StoreError::Corrupt(_))));
        assert!(matches!(told(failed(Some(3)), Delta::hold(3)), Err(StoreError::Corrupt(_))));
        assert!(matches!(told(none(), Delta::hold(3)), Err(StoreError::Corrupt(_))));
        let reasons = [none(), none(), none()];
        assert!(cancelled_because(&reasons, &[one_move(Delta::hold(3))]).is_err());
    }
}
