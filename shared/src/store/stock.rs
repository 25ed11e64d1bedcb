//! Stock administration: create, add, adjust, audit.
//!
//! Each is one transaction of the stock unit and the record of its `Idempotency-Key`, so that it is
//! applied once, and answered as the first time, however often it is sent.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use super::commit::{cause, number, text};
use super::error::{Reason as Because, StoreError, Transient, classify, reason};
use super::record::{IdempotencyRecord, Item, parse_stock_unit, purge_at};
use super::retry::Attempts;
use super::{Invocation, Store, keys};
use crate::domain::stock::MAX_STOCK;
use crate::domain::{Fingerprint, IdempotencyKey, Quantity, Reason, StockUnit, UnitKey};

/// A write of one stock unit.
#[derive(Debug, Clone)]
pub struct StockWrite {
    /// The stock unit.
    pub unit: UnitKey,
    /// What is done to it.
    pub change: StockChange,
    /// Under which it is done once.
    pub idempotency_key: IdempotencyKey,
    /// What it is answered with, now and whenever it is sent again.
    pub answer: String,
}

/// What is done to a stock unit.
#[derive(Debug, Clone)]
pub enum StockChange {
    /// It begins to exist.
    Create {
        /// Its first stock.
        available: u64,
        /// What people call the product.
        name: Option<String>,
        /// At or below this many available units the stock counts as low.
        low_stock_threshold: Option<u64>,
        /// Most units of the product that one order may hold.
        max_per_order: Option<u64>,
    },
    /// New stock; creates the stock unit if there is none.
    Add(Quantity),
    /// A correction upwards or downwards.
    Adjust {
        /// By how many available units; not 0.
        by: i64,
        /// Why.
        reason: Reason,
    },
    /// What lies on the shelf was counted.
    Audit {
        /// The figure: available and reserved together.
        on_hand: u64,
    },
}

impl StockChange {
    /// The operation's name in records, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Add(_) => "add",
            Self::Adjust { .. } => "adjust",
            Self::Audit { .. } => "audit",
        }
    }

    /// What tells it from another change under the same key. Stored, so the format stays.
    fn fingerprint(&self, unit: &UnitKey) -> Fingerprint {
        let UnitKey { product, location, bucket } = unit;
        let change = match self {
            Self::Create { available, name, low_stock_threshold, max_per_order } => {
                let limit = |limit: &Option<u64>| limit.map_or("-".to_owned(), |n| n.to_string());
                let (low, most) = (limit(low_stock_threshold), limit(max_per_order));
                // The name comes last: it alone may contain anything.
                format!("{available}\t{low}\t{most}\t{}", name.as_deref().unwrap_or_default())
            }
            Self::Add(quantity) => quantity.to_string(),
            Self::Adjust { by, reason } => format!("{by}\t{reason}"),
            Self::Audit { on_hand } => on_hand.to_string(),
        };
        Fingerprint::of(&format!("{}\t{product}\t{location}\t{bucket}\t{change}", self.name()))
    }
}

/// What came of a stock operation. Everything here is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockOutcome {
    /// It is done.
    Done {
        /// The answer of the first time.
        answer: String,
        /// Whether this was the first time.
        first: bool,
    },
    /// It cannot be, and nothing is written.
    Refused(StockRefusal),
}

/// Why a stock operation cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockRefusal {
    /// There is one already.
    Exists,
    /// There is none.
    Unknown,
    /// Less is available than is to be taken off.
    Short {
        /// How much is available.
        available: u64,
    },
    /// It would hold more than [`MAX_STOCK`].
    TooMuch {
        /// How much is available now.
        available: u64,
    },
    /// Less was counted than is promised to orders.
    BelowReserved {
        /// How much is promised.
        reserved: u64,
    },
    /// The figure changed while it was being set: by another audit, an addition, a shipment.
    Changed {
        /// On hand when this audit began.
        was: u64,
        /// On hand now.
        is: u64,
    },
    /// The same key came before with another request.
    KeyReused,
}

/// What came of one attempt.
enum Attempt {
    Written,
    Before(IdempotencyRecord),
    /// The stock unit's condition failed; this is the item, if there is one.
    Condition(Option<StockUnit>),
    Failed(Transient),
}

impl Store {
    /// Does a stock operation, once.
    ///
    /// # Errors
    /// [`StoreError::TryAgain`] if the outcome is not known or not reached in time; with the same
    /// key it is safe to try again.
    pub async fn change_stock(
        &self,
        write: &StockWrite,
        invocation: &Invocation,
    ) -> Result<StockOutcome, StoreError> {
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        let mut maybe_written = false;
        // Only an audit depends on what is there.
        let mut seen = match write.change {
            StockChange::Audit { .. } => match self.stock_unit(&write.unit, invocation).await? {
                None => return Ok(StockOutcome::Refused(StockRefusal::Unknown)),
                seen => seen,
            },
            _ => None,
        };
        let began_with = seen.as_ref().map(StockUnit::on_hand);
        loop {
            let attempt = self.attempt_stock(write, seen.as_ref(), invocation).await;
            match attempt.map_err(|e| e.after(maybe_written))? {
                Attempt::Written => {
                    return Ok(StockOutcome::Done { answer: write.answer.clone(), first: true });
                }
                Attempt::Before(record) => {
                    let same = record.fingerprint == write.change.fingerprint(&write.unit).0;
                    return Ok(match same {
                        true => StockOutcome::Done { answer: record.answer, first: maybe_written },
                        false => StockOutcome::Refused(StockRefusal::KeyReused),
                    });
                }
                Attempt::Condition(_) if maybe_written => {
                    return Err(StoreError::TryAgain("refused after a try without answer".to_owned()));
                }
                Attempt::Condition(there) => match refused(&write.change, there.as_ref(), began_with) {
                    Some(refusal) => return Ok(StockOutcome::Refused(refusal)),
                    // Only sales came between: the count still holds.
                    None => seen = there,
                },
                Attempt::Failed(failure) => {
                    maybe_written |= failure.maybe_applied;
                    attempts.pause(&failure).await?;
                }
            }
        }
    }

    async fn attempt_stock(
        &self,
        write: &StockWrite,
        seen: Option<&StockUnit>,
        invocation: &Invocation,
    ) -> Result<Attempt, StoreError> {
        let request = self
            .client
            .transact_write_items()
            .transact_items(
                TransactWriteItem::builder().put(self.put_idempotency(write, invocation)?).build(),
            )
            .transact_items(
                TransactWriteItem::builder().update(self.stock_change(write, seen, invocation)).build(),
            );
        match request.send().await {
            Ok(_) => Ok(Attempt::Written),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    cancelled_because(cancelled.cancellation_reasons())
                }
                _ => classify(&error).map(Attempt::Failed),
            },
        }
    }

    fn put_idempotency(&self, write: &StockWrite, invocation: &Invocation) -> Result<Put, StoreError> {
        let mut item = keys::idempotency(write.change.name(), &write.idempotency_key);
        item.insert("fingerprint".to_owned(), text(&write.change.fingerprint(&write.unit).0.to_string()));
        item.insert("answer".to_owned(), text(&write.answer));
        item.insert("purgeAt".to_owned(), number(purge_at(invocation.now, self.settings.retention)));
        Put::builder()
            .table_name(&self.settings.inventory_table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|e| StoreError::corrupt("a write", e))
    }

    fn stock_change(&self, write: &StockWrite, seen: Option<&StockUnit>, invocation: &Invocation) -> Update {
        let Expression { set, condition, values } = expression(&write.change, &write.unit, seen);
        let reference = match &write.change {
            StockChange::Adjust { reason, .. } => format!("{} {reason}", write.idempotency_key),
            _ => write.idempotency_key.to_string(),
        };
        let mut update = Update::builder();
        if set.contains("#name") {
            update = update.expression_attribute_names("#name", "name");
        }
        for (name, value) in values {
            update = update.expression_attribute_values(name, value);
        }
        update
            .table_name(&self.settings.inventory_table)
            .set_key(Some(keys::stock_unit(&write.unit)))
            .update_expression(format!("SET {set}, updatedAt = :now, cause = :cause"))
            .condition_expression(condition)
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":now", number(invocation.now.as_millisecond()))
            .expression_attribute_values(
                ":cause",
                cause(write.change.name(), &reference, &invocation.correlation_id),
            )
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("table, key and expression are set")
    }
}

/// The part of an update that differs between the operations.
struct Expression {
    set: String,
    condition: String,
    values: HashMap<String, AttributeValue>,
}

fn expression(change: &StockChange, unit: &UnitKey, seen: Option<&StockUnit>) -> Expression {
    let mut values = HashMap::new();
    let mut value = |name: &str, value: AttributeValue| {
        values.insert(name.to_owned(), value);
    };
    let (set, condition) = match change {
        StockChange::Create { available, name, low_stock_threshold, max_per_order } => {
            value(":available", number(available));
            identify(unit, &mut value);
            let mut set =
                "available = :available, reserved = :zero, sold = :zero, version = :one, buckets = :one, \
                           productId = :product, catalogShard = :catalog"
                    .to_owned();
            if let Some(name) = name {
                value(":name", text(name));
                set.push_str(", #name = :name");
            }
            for (attribute, limit) in
                [("lowStockThreshold", low_stock_threshold), ("maxPerOrder", max_per_order)]
            {
                if let Some(limit) = limit {
                    value(&format!(":{attribute}"), number(limit));
                    set.push_str(&format!(", {attribute} = :{attribute}"));
                }
            }
            (set, "attribute_not_exists(pk)")
        }
        StockChange::Add(quantity) => {
            value(":quantity", number(quantity));
            value(":room", number(MAX_STOCK - quantity.get()));
            identify(unit, &mut value);
            let set = "available = if_not_exists(available, :zero) + :quantity, reserved = if_not_exists(reserved, :zero), \
                       sold = if_not_exists(sold, :zero), version = if_not_exists(version, :zero) + :one, \
                       buckets = if_not_exists(buckets, :one), productId = :product, catalogShard = :catalog";
            (set.to_owned(), "attribute_not_exists(pk) OR available <= :room")
        }
        StockChange::Adjust { by, .. } => {
            value(":by", number(by));
            let set = "available = available + :by, version = version + :one".to_owned();
            if *by < 0 {
                value(":needed", number(by.unsigned_abs()));
                (set, "available >= :needed")
            } else {
                value(":room", number(MAX_STOCK.saturating_sub(by.unsigned_abs())));
                (set, "available <= :room")
            }
        }
        StockChange::Audit { on_hand } => {
            value(":onHand", number(on_hand));
            value(":seen", number(seen.map_or(0, |unit| unit.version)));
            let set = "available = :onHand - reserved, version = version + :one".to_owned();
            (set, "version = :seen AND reserved <= :onHand")
        }
    };
    Expression { set, condition: condition.to_owned(), values }
}

/// The attributes by which a new stock unit is found in the catalog. Every location of a product has
/// them: which one came first could not be known without a read, nor agreed upon by two at once.
fn identify(unit: &UnitKey, value: &mut impl FnMut(&str, AttributeValue)) {
    value(":zero", number(0));
    value(":product", text(unit.product.as_str()));
    value(":catalog", text(keys::CATALOG));
}

/// Why a stock unit's condition failed. None: it may be tried again on the item that is there now.
fn refused(change: &StockChange, there: Option<&StockUnit>, began_with: Option<u64>) -> Option<StockRefusal> {
    let Some(unit) = there else {
        return Some(StockRefusal::Unknown);
    };
    let available = unit.available;
    match change {
        StockChange::Create { .. } => Some(StockRefusal::Exists),
        StockChange::Add(_) => Some(StockRefusal::TooMuch { available }),
        StockChange::Adjust { by, .. } if *by < 0 => Some(StockRefusal::Short { available }),
        StockChange::Adjust { .. } => Some(StockRefusal::TooMuch { available }),
        StockChange::Audit { on_hand } if unit.reserved > *on_hand => {
            Some(StockRefusal::BelowReserved { reserved: unit.reserved })
        }
        StockChange::Audit { .. } => {
            let (was, is) = (began_with.unwrap_or(0), unit.on_hand());
            (was != is).then_some(StockRefusal::Changed { was, is })
        }
    }
}

/// Reads a cancelled transaction: the idempotency record's reason comes first.
fn cancelled_because(reasons: &[CancellationReason]) -> Result<Attempt, StoreError> {
    let [idempotency, stock] = reasons else {
        return Err(StoreError::corrupt("a cancelled transaction", format!("{} reasons", reasons.len())));
    };
    let there = |reason: &CancellationReason| reason.item().filter(|item| !item.is_empty()).cloned();
    match (reason(idempotency.code())?, reason(stock.code())?) {
        (Because::ConditionFailed, _) => {
            let item: Item =
                there(idempotency).ok_or_else(|| StoreError::corrupt("an idempotency record", "no item"))?;
            let record =
                serde_dynamo::from_item(item).map_err(|e| StoreError::corrupt("an idempotency record", e))?;
            Ok(Attempt::Before(record))
        }
        (Because::Busy(metric), _) | (_, Because::Busy(metric)) => {
            Ok(Attempt::Failed(Transient::busy(metric, "the stock unit")))
        }
        (_, Because::ConditionFailed) => {
            Ok(Attempt::Condition(there(stock).map(parse_stock_unit).transpose()?))
        }
        (Because::None, Because::None) => {
            Err(StoreError::corrupt("a cancelled transaction", "no reason given"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cause, Location, ProductId, Timestamp};

    fn unit(available: u64, reserved: u64) -> StockUnit {
        let product = ProductId::parse("A").unwrap();
        StockUnit {
            key: UnitKey { product, location: Location::default(), bucket: 0 },
            available,
            reserved,
            sold: 0,
            version: 3,
            low_stock_threshold: None,
            max_per_order: None,
            name: None,
            updated_at: Timestamp::UNIX_EPOCH,
            cause: Cause { operation: "add".into(), reference: "k".into(), correlation_id: "c".into() },
        }
    }

    #[test]
    fn why_a_change_of_stock_was_refused() {
        let adjust = |by| StockChange::Adjust { by, reason: Reason::requested() };
        let there = unit(4, 6);
        let told = |change: &StockChange, began_with| refused(change, Some(&there), began_with);
        assert_eq!(told(&adjust(-5), None), Some(StockRefusal::Short { available: 4 }));
        assert_eq!(told(&adjust(5), None), Some(StockRefusal::TooMuch { available: 4 }));
        let audit = |on_hand| StockChange::Audit { on_hand };
        assert_eq!(told(&audit(5), Some(10)), Some(StockRefusal::BelowReserved { reserved: 6 }));
        // As much as is promised may lie there; what was counted has changed meanwhile, or only sales came between.
        assert_eq!(told(&audit(6), Some(9)), Some(StockRefusal::Changed { was: 9, is: 10 }));
        assert_eq!(told(&audit(6), Some(10)), None);
        assert_eq!(refused(&audit(6), None, None), Some(StockRefusal::Unknown));
    }
}
