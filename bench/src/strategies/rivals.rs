//! The four usual ways to sell the last unit once, on DynamoDB. Each keeps a record of the order, so that an order is
//! never sold twice.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ConditionCheck, Put, TransactWriteItem, Update};
use serde_json::{Value, json};
use shared::Error;
use tokio::time::{Instant, sleep};

use super::load::Answer;
use crate::raw::{INVENTORY, number, text};

/// Tries of an optimistic write.
pub(super) const TRIES: u32 = 3;
/// The pause before the second try; it doubles before each further one.
pub(super) const BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait for a lock of the distributed kind.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for the lease of a product: what a request has.
const LEASE_WAIT: Duration = Duration::from_secs(9);
/// How long a lock is valid if its owner does not give it back.
const LEASE: Duration = Duration::from_secs(5);
/// The pause between two looks at a lock, in milliseconds.
const LOCK_POLL_MS: std::ops::Range<u64> = 50..150;

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Read, then write order and stock together if the stock's version is as read; three tries.
    Optimistic,
    /// A lease for each product; order and stock are written together if the lease is still ours.
    Pessimistic,
    /// A lock with a time limit around plain reads and writes.
    Lock,
    /// Each order is an item of its own, written if it is not there; the stock is only looked at before.
    Unique,
}

/// One way, over one client.
pub(super) struct Rival<'a> {
    pub(super) client: &'a Client,
    pub(super) way: Way,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Optimistic, Self::Pessimistic, Self::Lock, Self::Unique];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Optimistic => "optimistic version",
            Self::Pessimistic => "pessimistic lease",
            Self::Lock => "distributed lock",
            Self::Unique => "unique order alone",
        }
    }
}

impl Rival<'_> {
    fn partition(&self, product: usize) -> String {
        format!("RIVAL#{}#{product}", self.way.name())
    }

    /// The item of a product with so many units.
    pub(super) fn stock(&self, product: usize, units: usize) -> Value {
        let units = units.to_string();
        json!({
            "pk": {"S": self.partition(product)}, "sk": {"S": "STOCK"},
            "available": {"N": units}, "version": {"N": "1"},
        })
    }

    /// One order of one unit.
    pub(super) async fn sell(&self, order: &str, product: usize) -> Result<Answer, Error> {
        match self.way {
            Way::Optimistic => self.sell_optimistically(order, product).await,
            Way::Pessimistic => {
                if !self.lock(order, product, LEASE_WAIT).await {
                    return Ok(Answer::GaveUp);
                }
                let answer = self.sell_under_lease(order, product).await;
                self.unlock(order, product).await;
                answer
            }
            Way::Lock => {
                if !self.lock(order, product, LOCK_WAIT).await {
                    return Ok(Answer::GaveUp);
                }
                let answer = self.sell_under_lock(order, product).await;
                self.unlock(order, product).await;
                answer
            }
            Way::Unique => self.sell_uniquely(order, product).await,
        }
    }

    async fn sell_optimistically(&self, order: &str, product: usize) -> Result<Answer, Error> {
        let mut pause = BACKOFF;
        for attempt in 1..=TRIES {
            let Some((available, version)) = self.read(product).await else { return Ok(Answer::GaveUp) };
            if available < 1 {
                return Ok(Answer::SoldOut);
            }
            let update = self
                .update(product)
                .update_expression("SET available = :available, version = :next")
                .condition_expression("version = :seen")
                .expression_attribute_values(":available", number(available - 1))
                .expression_attribute_values(":next", number(version + 1))
                .expression_attribute_values(":seen", number(version))
                .build()?;
            let actions = [self.put_order(order)?, TransactWriteItem::builder().update(update).build()];
            if self.transact(actions.into()).await {
                return Ok(Answer::Held);
            }
            if attempt < TRIES {
                sleep(pause).await;
                pause *= 2;
            }
        }
        Ok(Answer::GaveUp)
    }

    async fn sell_under_lease(&self, order: &str, product: usize) -> Result<Answer, Error> {
        let Some((available, _)) = self.read(product).await else { return Ok(Answer::GaveUp) };
        if available < 1 {
            return Ok(Answer::SoldOut);
        }
        let update = self
            .update(product)
            .update_expression("SET available = available - :one")
            .condition_expression("available >= :one")
            .expression_attribute_values(":one", number(1))
            .build()?;
        // A lease that ran out may be somebody else's by now.
        let lease = ConditionCheck::builder()
            .table_name(INVENTORY)
            .key("pk", text(self.partition(product)))
            .key("sk", text("LEASE"))
            .condition_expression("leaseOwner = :me")
            .expression_attribute_values(":me", text(order))
            .build()?;
        let actions = [
            self.put_order(order)?,
            TransactWriteItem::builder().update(update).build(),
            TransactWriteItem::builder().condition_check(lease).build(),
        ];
        Ok(if self.transact(actions.into()).await { Answer::Held } else { Answer::GaveUp })
    }

    async fn sell_under_lock(&self, order: &str, product: usize) -> Result<Answer, Error> {
        let Some((available, _)) = self.read(product).await else { return Ok(Answer::GaveUp) };
        if available < 1 {
            return Ok(Answer::SoldOut);
        }
        let is_done = self.put_order_alone(order).await
            && self
                .client
                .update_item()
                .table_name(INVENTORY)
                .key("pk", text(self.partition(product)))
                .key("sk", text("STOCK"))
                .update_expression("SET available = :available")
                .expression_attribute_values(":available", number(available - 1))
                .send()
                .await
                .is_ok();
        Ok(if is_done { Answer::Held } else { Answer::GaveUp })
    }

    async fn sell_uniquely(&self, order: &str, product: usize) -> Result<Answer, Error> {
        let Some((available, _)) = self.read(product).await else { return Ok(Answer::GaveUp) };
        if available < 1 {
            return Ok(Answer::SoldOut);
        }
        let is_done = self.put_order_alone(order).await
            && self
                .client
                .update_item()
                .table_name(INVENTORY)
                .key("pk", text(self.partition(product)))
                .key("sk", text("STOCK"))
                .update_expression("SET available = available - :one")
                .expression_attribute_values(":one", number(1))
                .send()
                .await
                .is_ok();
        Ok(if is_done { Answer::Held } else { Answer::GaveUp })
    }

    /// What is available, and the version. None if it could not be read.
    async fn read(&self, product: usize) -> Option<(i64, u64)> {
        let get = self.client.get_item().table_name(INVENTORY).consistent_read(true);
        let get = get.key("pk", text(self.partition(product))).key("sk", text("STOCK"));
        let item = get.send().await.ok()?.item?;
        let of = |name: &str| item.get(name)?.as_n().ok();
        Some((of("available")?.parse().ok()?, of("version")?.parse().ok()?))
    }

    fn update(&self, product: usize) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        let update = Update::builder().table_name(INVENTORY);
        update.key("pk", text(self.partition(product))).key("sk", text("STOCK"))
    }

    fn order_partition(&self, order: &str) -> String {
        format!("RIVAL-ORDER#{}#{order}", self.way.name())
    }

    fn put_order(&self, order: &str) -> Result<TransactWriteItem, Error> {
        let put = Put::builder()
            .table_name(INVENTORY)
            .item("pk", text(self.order_partition(order)))
            .item("sk", text("ORDER"))
            .condition_expression("attribute_not_exists(pk)")
            .build()?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    async fn put_order_alone(&self, order: &str) -> bool {
        let put = self.client.put_item().table_name(INVENTORY);
        let put = put.item("pk", text(self.order_partition(order))).item("sk", text("ORDER"));
        put.condition_expression("attribute_not_exists(pk)").send().await.is_ok()
    }

    /// Whether it was written; not if a condition failed, or another write was in its way.
    async fn transact(&self, actions: Vec<TransactWriteItem>) -> bool {
        self.client.transact_write_items().set_transact_items(Some(actions)).send().await.is_ok()
    }

    /// Takes the lock of a product, waiting so long at most.
    async fn lock(&self, owner: &str, product: usize, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            // By the clock that the load runs on.
            let now = clock_ms();
            let put = self.client.put_item().table_name(INVENTORY);
            let put = put.item("pk", text(self.partition(product))).item("sk", text("LEASE"));
            let taken = put
                .item("leaseOwner", text(owner))
                .item("leaseUntil", number(now + LEASE.as_millis()))
                .condition_expression("attribute_not_exists(pk) OR leaseUntil < :now")
                .expression_attribute_values(":now", number(now))
                .send()
                .await;
            if taken.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(fastrand::u64(LOCK_POLL_MS))).await;
        }
        false
    }

    /// Gives the lock back, if it is still the owner's; otherwise it runs out.
    async fn unlock(&self, owner: &str, product: usize) {
        let delete = self.client.delete_item().table_name(INVENTORY);
        let delete = delete.key("pk", text(self.partition(product))).key("sk", text("LEASE"));
        let delete = delete.condition_expression("leaseOwner = :me");
        drop(delete.expression_attribute_values(":me", text(owner)).send().await);
    }
}

/// Milliseconds on the clock that the load runs on.
fn clock_ms() -> u128 {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    Instant::now().saturating_duration_since(*BEGAN.get_or_init(Instant::now)).as_millis() + 1
}
