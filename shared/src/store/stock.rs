//! Stock administration: create, add, adjust, audit, update.
//!
//! Each is one transaction of the stock unit and the record of its `Idempotency-Key`, so that it is
//! applied once, and answered as the first time, however often it is sent. What DynamoDB is asked to write, and
//! under which condition, is in `stock_expression.rs`.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use super::commit::{cause, number, text};
use super::error::{Reason as Because, StoreError, Transient, classify, reason};
use super::record::{IdempotencyRecord, Item, parse_stock_unit, purge_at};
use super::retry::Attempts;
use super::stock_expression::Expression;
use super::{Invocation, Store, keys};
use crate::domain::stock::MAX_STOCK;
use crate::domain::{Edit, Fingerprint, IdempotencyKey, Quantity, Reason, StockUnit, UnitKey};
use crate::planted;

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
    /// What is said of the product at this location changes; no unit moves.
    Update {
        /// What people call the product.
        name: Edit<String>,
        /// At or below this many available units the stock counts as low.
        low_stock_threshold: Edit<u64>,
        /// Most units of the product that one order may hold.
        max_per_order: Edit<u64>,
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
            Self::Update { .. } => "update",
        }
    }

    /// Units that come in, where that is known without a look.
    pub(super) fn brings_in(&self) -> u64 {
        match self {
            Self::Add(quantity) => quantity.get(),
            Self::Adjust { by, .. } => u64::try_from(*by).unwrap_or(0),
            Self::Create { .. } | Self::Audit { .. } | Self::Update { .. } => 0,
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
            Self::Update { name, low_stock_threshold, max_per_order } => {
                let limit = |limit: &Edit<u64>| match limit {
                    Edit::Keep => "=".to_owned(),
                    Edit::Clear => "-".to_owned(),
                    Edit::Set(n) => n.to_string(),
                };
                let name = match name {
                    Edit::Keep => "=",
                    Edit::Clear => "-",
                    Edit::Set(name) => &format!("+{name}"),
                };
                format!("{}\t{}\t{name}", limit(low_stock_threshold), limit(max_per_order))
            }
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
    /// More than [`MAX_STOCK`] would be on hand.
    TooMuch {
        /// How much is on hand now.
        on_hand: u64,
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
        // Only an audit depends on what is there; the others are guesses that their condition makes sure of.
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
                Attempt::Condition(there) => {
                    // There is none, or the endpoint does not show what failed the condition.
                    let there = match there {
                        None => self.stock_unit(&write.unit, invocation).await?,
                        there => there,
                    };
                    if let Some(refusal) = refused(&write.change, there.as_ref(), began_with) {
                        return Ok(StockOutcome::Refused(refusal));
                    }
                    // The first condition is stricter than the rule, so its failure is decided on the item that came
                    // back at once. If that fails as well, somebody else is writing: pause first.
                    if seen.is_some() && !planted("an-audit-gives-way-to-nobody") {
                        attempts.pause(&Transient::not_applied("goods came or left meanwhile")).await?;
                    }
                    seen = there;
                }
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
        let Expression { update, condition, values } =
            Expression::of(&write.change, &write.unit, seen, invocation.now);
        let reference = match &write.change {
            StockChange::Adjust { reason, .. } => format!("{} {reason}", write.idempotency_key),
            _ => write.idempotency_key.to_string(),
        };
        let has_name = update.contains("#name").then(|| [("#name".to_owned(), "name".to_owned())].into());
        Update::builder()
            .set_expression_attribute_names(has_name)
            .set_expression_attribute_values(Some(values))
            .table_name(&self.settings.inventory_table)
            .set_key(Some(keys::stock_unit(&write.unit)))
            .update_expression(update)
            .condition_expression(condition)
            .expression_attribute_values(
                ":cause",
                cause(write.change.name(), &reference, &invocation.correlation_id),
            )
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("table, key and expression are set")
    }
}

/// Why a stock unit's condition failed. None: it may be tried again on the item that is there now.
fn refused(change: &StockChange, there: Option<&StockUnit>, began_with: Option<u64>) -> Option<StockRefusal> {
    let Some(unit) = there else {
        return Some(StockRefusal::Unknown);
    };
    let too_much = || unit.on_hand().saturating_add(change.brings_in()) > MAX_STOCK;
    match change {
        StockChange::Create { .. } => Some(StockRefusal::Exists),
        StockChange::Adjust { by, .. } if *by < 0 => {
            (unit.available < by.unsigned_abs()).then_some(StockRefusal::Short { available: unit.available })
        }
        StockChange::Add(_) | StockChange::Adjust { .. } => {
            too_much().then(|| StockRefusal::TooMuch { on_hand: unit.on_hand() })
        }
        StockChange::Audit { on_hand } if unit.reserved > *on_hand => {
            Some(StockRefusal::BelowReserved { reserved: unit.reserved })
        }
        StockChange::Audit { .. } => {
            let (was, is) = (began_with.unwrap_or(0), unit.on_hand());
            (was != is).then_some(StockRefusal::Changed { was, is })
        }
        // Its only condition is that there is one.
        StockChange::Update { .. } => None,
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
            physical: 2,
            low_stock_threshold: None,
            max_per_order: None,
            name: None,
            created_at: None,
            updated_at: Timestamp::UNIX_EPOCH,
            cause: Cause { operation: "add".into(), reference: "k".into(), correlation_id: "c".into() },
        }
    }

    fn add(quantity: u64) -> StockChange {
        StockChange::Add(Quantity::new(quantity).unwrap())
    }

    #[test]
    fn why_a_change_of_stock_was_refused() {
        let adjust = |by| StockChange::Adjust { by, reason: Reason::requested() };
        let there = unit(4, 6);
        let told = |change: &StockChange, began_with| refused(change, Some(&there), began_with);
        assert_eq!(told(&adjust(-5), None), Some(StockRefusal::Short { available: 4 }));
        assert_eq!(told(&adjust(-4), None), None);
        let audit = |on_hand| StockChange::Audit { on_hand };
        assert_eq!(told(&audit(5), Some(10)), Some(StockRefusal::BelowReserved { reserved: 6 }));
        // As much as is promised may lie there; what was counted has changed meanwhile, or has come back to what it was.
        assert_eq!(told(&audit(6), Some(9)), Some(StockRefusal::Changed { was: 9, is: 10 }));
        assert_eq!(told(&audit(6), Some(10)), None);
        for change in [adjust(-5), adjust(5), add(1), audit(6)] {
            assert_eq!(refused(&change, None, None), Some(StockRefusal::Unknown));
        }
    }

    /// What counts is what is on hand, wherever it is: what is given back becomes available again.
    #[test]
    fn what_is_on_hand_has_a_bound() {
        let adjust = |by| StockChange::Adjust { by, reason: Reason::requested() };
        for there in [unit(MAX_STOCK - 5, 0), unit(0, MAX_STOCK - 5), unit(MAX_STOCK / 2, MAX_STOCK / 2 - 5)]
        {
            let refusal = Some(StockRefusal::TooMuch { on_hand: MAX_STOCK - 5 });
            assert_eq!(refused(&add(6), Some(&there), None), refusal, "{there:?}");
            assert_eq!(refused(&adjust(6), Some(&there), None), refusal, "{there:?}");
            assert_eq!(refused(&add(5), Some(&there), None), None, "{there:?}");
            assert_eq!(refused(&adjust(5), Some(&there), None), None, "{there:?}");
        }
    }

    #[test]
    fn each_change_has_a_fingerprint_of_its_own() {
        let update = |name, low_stock_threshold, max_per_order| StockChange::Update {
            name,
            low_stock_threshold,
            max_per_order,
        };
        let called = |name: &str| update(Edit::Set(name.to_owned()), Edit::Keep, Edit::Keep);
        let changes = [
            update(Edit::Clear, Edit::Keep, Edit::Keep),
            update(Edit::Keep, Edit::Clear, Edit::Keep),
            update(Edit::Keep, Edit::Keep, Edit::Clear),
            update(Edit::Keep, Edit::Set(1), Edit::Keep),
            update(Edit::Keep, Edit::Keep, Edit::Set(1)),
            called("-"),
            called("="),
            add(1),
            StockChange::Audit { on_hand: 1 },
        ];
        let unit = unit(0, 0).key;
        let fingerprints: std::collections::BTreeSet<_> =
            changes.iter().map(|change| change.fingerprint(&unit).0).collect();
        assert_eq!(fingerprints.len(), changes.len());
    }
}
