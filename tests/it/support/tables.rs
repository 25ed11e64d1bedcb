//! Tables without a runner, and what must always hold of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use local::dynamodb::{DynamoDb, Usage};
use shared::domain::fixtures::unit_key;
use shared::domain::{
    Action, Command, IdempotencyKey, OrderId, Quantity, StockChange, StockCommand, StockUnit, Target,
    Timestamp,
};
use shared::function::{Clock, Deps};
use shared::metrics::Metrics;
use shared::order_queue::OrderQueue;
use shared::settings::Settings;
use shared::store::{Invocation, RetryPolicy, StockOutcome, Store, StoreSettings};
use tokio::time::Instant;

use super::Api;

/// The name of the inventory table in the template.
pub(crate) const INVENTORY: &str = "holdfast-inventory";
/// The name of the ledger.
pub(crate) const LEDGER: &str = "holdfast-ledger";

/// How often a store tries.
pub(crate) const RETRY: RetryPolicy = RetryPolicy { max_attempts: 10, backoff: Duration::from_millis(5) };

/// The embedded DynamoDB over HTTP, with the template's tables.
pub(crate) struct Tables {
    pub(crate) store: Store,
    pub(crate) dynamodb: Client,
    pub(crate) url: String,
    pub(crate) database: DynamoDb,
}

impl Tables {
    pub(crate) async fn start() -> Self {
        let template = crate::contract::template();
        let database = DynamoDb::open(None).unwrap();
        database.create_tables(&template.tables).unwrap();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lambda = local::lambda::Lambda::start(&[], &url, "1".parse().unwrap()).await.unwrap();
        let queues = local::queues::Queues::open(None, template.queues, false).unwrap();
        let bus = local::bus::Bus::new(template.rules, queues.clone(), lambda.clone());
        let endpoint = local::aws::Endpoint {
            dynamodb: database.clone(),
            queues,
            bus,
            iam: local::iam::Iam::default(),
            lambda,
            url: url.clone(),
        };
        let router = local::aws::router(endpoint);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let store = Self::store_over(&url, "store", RETRY).await;
        Self { store, dynamodb: Api::new(String::new(), url.clone()).dynamodb, url, database }
    }

    /// A store over another way to the tables, as this caller.
    pub(crate) async fn store_over(url: &str, caller: &str, retry: RetryPolicy) -> Store {
        let settings = StoreSettings {
            inventory_table: INVENTORY.to_owned(),
            ledger_table: LEDGER.to_owned(),
            retention: Duration::from_secs(90 * 86_400),
            retry,
            combines: false,
        };
        Store::connect(shared::aws::config_for(url, caller), settings).await
    }

    /// New stock.
    pub(crate) async fn add(&self, name: &str, quantity: u64) {
        self.changes(name, StockChange::Add(Quantity::new(quantity).unwrap())).await;
    }

    /// A change of stock.
    pub(crate) async fn changes(&self, name: &str, change: StockChange) {
        let command = stock_command(name, &uuid(), change);
        let outcome = self.store.change_stock(&command, &at(0)).await.unwrap();
        assert!(matches!(outcome, StockOutcome::Done { first: true, .. }), "{outcome:?}");
    }

    /// Available, reserved, sold.
    pub(crate) async fn stock(&self, name: &str) -> [u64; 3] {
        let units: Vec<StockUnit> = self.store.product(&unit_key(name).product, &at(0)).await.unwrap();
        [units[0].available, units[0].reserved, units[0].sold]
    }

    /// The records of the table's stream.
    pub(crate) async fn stream(&self) -> Vec<serde_json::Value> {
        self.database.stream_after(INVENTORY, "", 1_000).await.unwrap()
    }

    /// The calls of the store since an earlier usage, with the tables' write units.
    pub(crate) fn usage_since(&self, before: &Usages) -> Usages {
        let now = self.usage();
        let mut since = BTreeMap::new();
        for (operation, (calls, units)) in now {
            let (calls_before, units_before) = before.get(&operation).copied().unwrap_or_default();
            if calls > calls_before {
                since.insert(operation, (calls - calls_before, units - units_before));
            }
        }
        since
    }

    /// The calls of the store so far.
    pub(crate) fn usage(&self) -> Usages {
        let by_store = self.database.calls().into_iter().filter(|((caller, _), _)| caller == "store");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "write units are whole")]
        let units = |usage: Usage| usage.table_write_units as u64;
        by_store.map(|((_, operation), usage)| (operation, (usage.calls, units(usage)))).collect()
    }
}

/// Calls and write units by operation.
pub(crate) type Usages = BTreeMap<String, (u64, u64)>;

/// Settings over these tables, and others besides.
pub(crate) fn settings(more: &[(&str, &str)]) -> Settings {
    let settings = Settings::from_lookup(|name| match name {
        "INVENTORY_TABLE" => Some(INVENTORY.to_owned()),
        "LEDGER_TABLE" => Some(LEDGER.to_owned()),
        _ => more.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
    });
    settings.unwrap()
}

/// The dependencies of a handler, over this store and with these settings besides the tables.
pub(crate) fn deps(store: Store, more: &[(&str, &str)]) -> Arc<Deps> {
    // A test that puts orders into a queue has one of its own.
    let order_queue = OrderQueue::new(|| shared::aws::config_for("http://127.0.0.1:9", "nobody"));
    Arc::new(Deps { store, order_queue, settings: settings(more), clock: Clock::system() })
}

/// An invocation that began so many milliseconds after the beginning of time.
pub(crate) fn at(ms: i64) -> Invocation {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    Invocation {
        now: Timestamp::from_millisecond(ms).unwrap(),
        deadline: Instant::now() + Duration::from_secs(9),
        // As in life, each has its own.
        correlation_id: format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
        metrics: Metrics::default(),
    }
}

/// A command for an order, as an invocation of [`at`] gives it.
pub(crate) fn command(order: &str, action: Action) -> Command {
    at(0).command(Target::Order(OrderId::parse(order).unwrap()), action)
}

/// A change of stock under a key.
pub(crate) fn stock_command(name: &str, key: &str, change: StockChange) -> StockCommand {
    let idempotency_key = IdempotencyKey::parse(key).unwrap();
    StockCommand { unit: unit_key(name), change, idempotency_key, answer: "done".to_owned() }
}

/// A key that nobody has used.
pub(crate) fn uuid() -> String {
    format!("key-{:016x}", fastrand::u64(..))
}

/// A text in an item.
pub(crate) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number in an item.
pub(crate) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Writes an item of the inventory past the service.
pub(crate) async fn put_item(dynamodb: &Client, item: &[(&str, AttributeValue)]) {
    let item = item.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    dynamodb.put_item().table_name(INVENTORY).set_item(Some(item)).send().await.unwrap();
}

/// Changes an item of the inventory past the service.
pub(crate) async fn update_item(
    dynamodb: &Client,
    (pk, sk): (&str, &str),
    expression: &str,
    values: &[(&str, AttributeValue)],
) {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let update = dynamodb.update_item().table_name(INVENTORY).key("pk", text(pk)).key("sk", text(sk));
    let values = Some(values).filter(|values: &Item| !values.is_empty());
    let update = update.update_expression(expression).set_expression_attribute_values(values);
    update.send().await.unwrap();
}

type Item = HashMap<String, AttributeValue>;

async fn scan(dynamodb: &Client) -> Vec<Item> {
    let mut items = Vec::new();
    let mut start = None;
    loop {
        let page = dynamodb.scan().table_name(INVENTORY).set_exclusive_start_key(start).send().await.unwrap();
        items.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return items;
        }
    }
}

fn figure(item: &Item, name: &str) -> u64 {
    item.get(name).map_or(0, |value| value.as_n().unwrap().parse().unwrap())
}

/// Every stock unit's partition key with available, reserved and sold.
pub(crate) async fn stock_units(dynamodb: &Client) -> BTreeMap<String, [u64; 3]> {
    let items = scan(dynamodb).await;
    let units = items.iter().filter(|item| item["pk"].as_s().unwrap().starts_with("STOCK#"));
    units
        .map(|item| {
            let counters = ["available", "reserved", "sold"].map(|name| figure(item, name));
            (item["pk"].as_s().unwrap().clone(), counters)
        })
        .collect()
}

/// Nothing was made or lost: the reserved figure of each stock unit is the sum of the open allocations on it, and
/// `available + reserved + sold` is what was ever added.
pub(crate) async fn conserved(dynamodb: &Client, added: &[(&str, u64)]) {
    let mut allocated: BTreeMap<String, u64> = BTreeMap::new();
    for item in scan(dynamodb).await {
        let Some(lines) = item.get("lines") else { continue };
        for line in lines.as_l().unwrap() {
            let line = line.as_m().unwrap();
            for allocation in line.get("allocations").map_or(&[][..], |list| list.as_l().unwrap()) {
                let allocation = allocation.as_m().unwrap();
                let unit =
                    format!("STOCK#{}#{}", line["productId"].as_s().unwrap(), figure(allocation, "bucket"));
                *allocated.entry(unit).or_default() += figure(allocation, "quantity");
            }
        }
    }
    let units = stock_units(dynamodb).await;
    for (unit, [_, reserved, _]) in &units {
        assert_eq!(*reserved, allocated.get(unit).copied().unwrap_or(0), "reserved of {unit}");
    }
    for (product, added) in added {
        let sum: u64 = units[&format!("STOCK#{product}#0")].iter().sum();
        assert_eq!(sum, *added, "units of {product} made or lost");
    }
}
