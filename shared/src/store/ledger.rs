//! The ledger: one movement for each version of each stock unit. The key is the version, so writing one
//! twice is harmless, and a gap is visible.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use serde::{Deserialize, Serialize};

use super::error::{StoreError, Transient, classify};
use super::record::Item;
use super::record::{number, text};
use super::retry::{Attempts, until_answered};
use super::{Invocation, Store, keys};
use crate::domain::events::Movement;
use crate::domain::{Cause, Delta, ReservationId, SharedTransaction, SharedWrite, Timestamp, UnitKey};

/// Most movements in one `BatchWriteItem`. Source: Amazon DynamoDB API Reference, BatchWriteItem.
pub const MAX_MOVEMENTS: usize = 25;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MovementRecord {
    pk: String,
    sk: u64,
    operation: String,
    reference: String,
    correlation_id: String,
    available_change: i64,
    reserved_change: i64,
    sold_change: i64,
    available: u64,
    reserved: u64,
    sold: u64,
    at: i64,
}

impl Store {
    /// Writes movements. Those that are there already are written as they are.
    ///
    /// # Errors
    /// As every [`StoreError`]; some may be written then.
    pub async fn record_movements(
        &self,
        movements: &[Movement],
        invocation: &Invocation,
    ) -> Result<(), StoreError> {
        // A batch takes no key twice.
        let distinct: BTreeMap<(String, u64), &Movement> =
            movements.iter().map(|m| ((keys::ledger_partition(&m.unit), m.version), m)).collect();
        let items: Vec<Item> =
            distinct.into_iter().map(|((pk, _), m)| movement_item(pk, m)).collect::<Result<_, _>>()?;
        for batch in items.chunks(MAX_MOVEMENTS) {
            self.put_batch(batch, invocation).await?;
        }
        Ok(())
    }

    /// Writes which reservations shared transactions wrote. Those that are there already are written as they are.
    ///
    /// # Errors
    /// As every [`StoreError`]; some may be written then.
    pub async fn record_shared_writes(
        &self,
        writes: &[SharedWrite],
        invocation: &Invocation,
    ) -> Result<(), StoreError> {
        let item = |write: &SharedWrite| {
            Item::from([
                (keys::PK.to_owned(), text(&keys::transaction_partition(&write.transaction))),
                (keys::SK.to_owned(), number(write.place)),
                ("reservationId".to_owned(), text(&write.reservation.to_string())),
            ])
        };
        let distinct: BTreeMap<(&str, u64), &SharedWrite> =
            writes.iter().map(|write| ((write.transaction.as_str(), write.place), write)).collect();
        let items: Vec<Item> = distinct.into_values().map(item).collect();
        for batch in items.chunks(MAX_MOVEMENTS) {
            self.put_batch(batch, invocation).await?;
        }
        Ok(())
    }

    /// The reservations that a shared transaction wrote. None while the ledger does not have all of them.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn reservations_of_transaction(
        &self,
        transaction: &SharedTransaction,
        invocation: &Invocation,
    ) -> Result<Option<Vec<ReservationId>>, StoreError> {
        // At most a hundred short items: one page.
        let page = until_answered!(
            self,
            invocation,
            self.client
                .query()
                .table_name(&self.settings.ledger_table)
                .key_condition_expression("pk = :transaction")
                .expression_attribute_values(
                    ":transaction",
                    text(&keys::transaction_partition(&transaction.id))
                )
                .consistent_read(true)
        );
        let items = page.items.unwrap_or_default();
        if (items.len() as u64) < transaction.reservations {
            return Ok(None);
        }
        let id = |item: &Item| {
            let id = item.get("reservationId").and_then(|id| id.as_s().ok())?;
            ReservationId::parse(id).ok()
        };
        let ids: Option<Vec<ReservationId>> = items.iter().map(id).collect();
        ids.map(Some)
            .ok_or_else(|| StoreError::corrupt("a shared transaction", "an item names no reservation"))
    }

    /// Writes a movement unless it exists; an existing one is true and stays. Returns whether it was written.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn fill_movement(
        &self,
        movement: &Movement,
        invocation: &Invocation,
    ) -> Result<bool, StoreError> {
        let item = movement_item(keys::ledger_partition(&movement.unit), movement)?;
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        loop {
            let put = self
                .client
                .put_item()
                .table_name(&self.settings.ledger_table)
                .set_item(Some(item.clone()))
                .condition_expression("attribute_not_exists(pk)");
            match put.send().await {
                Ok(_) => return Ok(true),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                    return Ok(false);
                }
                Err(e) => attempts.pause(&classify(&e)?).await?,
            }
        }
    }

    async fn put_batch(&self, items: &[Item], invocation: &Invocation) -> Result<(), StoreError> {
        let table = &self.settings.ledger_table;
        let put = |item: &Item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build();
            put.map(|put| WriteRequest::builder().put_request(put).build())
                .map_err(|e| StoreError::corrupt("a movement", e))
        };
        let mut left: Vec<WriteRequest> = items.iter().map(put).collect::<Result<_, _>>()?;
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        while !left.is_empty() {
            let sent = self.client.batch_write_item().request_items(table, left.clone()).send().await;
            match sent {
                Ok(output) => {
                    let mut unprocessed = output.unprocessed_items.unwrap_or_default();
                    left = unprocessed.remove(table).unwrap_or_default();
                    if !left.is_empty() {
                        let detail = format!("{} movements were left unprocessed", left.len());
                        attempts.pause(&Transient::not_applied(detail)).await?;
                    }
                }
                Err(error) => attempts.pause(&classify(&error)?).await?,
            }
        }
        Ok(())
    }

    /// A page of a stock unit's movements, by version: those after one version, up to another. Empty where none
    /// follow.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn movements(
        &self,
        unit: &UnitKey,
        after: u64,
        up_to: u64,
        invocation: &Invocation,
    ) -> Result<Vec<Movement>, StoreError> {
        if after >= up_to {
            return Ok(Vec::new());
        }
        let page = until_answered!(
            self,
            invocation,
            self.client
                .query()
                .table_name(&self.settings.ledger_table)
                .key_condition_expression("pk = :unit AND sk BETWEEN :from AND :upTo")
                .expression_attribute_values(":unit", text(&keys::ledger_partition(unit)))
                .expression_attribute_values(":from", number(after + 1))
                .expression_attribute_values(":upTo", number(up_to))
                .consistent_read(true)
        );
        page.items.unwrap_or_default().into_iter().map(|item| parse_movement(unit, item)).collect()
    }
}

fn movement_item(pk: String, movement: &Movement) -> Result<Item, StoreError> {
    let [available, reserved, sold] = movement.after;
    let Cause { operation, reference, correlation_id } = movement.cause.clone();
    let record = MovementRecord {
        pk,
        sk: movement.version,
        operation,
        reference,
        correlation_id,
        available_change: movement.delta.available,
        reserved_change: movement.delta.reserved,
        sold_change: movement.delta.sold,
        available,
        reserved,
        sold,
        at: movement.at.as_millisecond(),
    };
    serde_dynamo::to_item(record).map_err(|e| StoreError::corrupt("a movement to be written", e))
}

fn parse_movement(unit: &UnitKey, item: Item) -> Result<Movement, StoreError> {
    let record: MovementRecord =
        serde_dynamo::from_item(item).map_err(|e| StoreError::corrupt("a movement", e))?;
    Ok(Movement {
        unit: unit.clone(),
        version: record.sk,
        cause: Cause {
            operation: record.operation,
            reference: record.reference,
            correlation_id: record.correlation_id,
        },
        delta: Delta {
            available: record.available_change,
            reserved: record.reserved_change,
            sold: record.sold_change,
        },
        after: [record.available, record.reserved, record.sold],
        at: Timestamp::from_millisecond(record.at).map_err(|e| StoreError::corrupt("a movement", e))?,
    })
}
