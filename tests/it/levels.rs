//! How stock stands to its threshold: the alerts, the list, and what is told, whatever was lost or came twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::fixtures::unit_key;
use shared::domain::{Reason, StockChange};
use sim::faults::Fault;

use crate::support::faults::{ALL, FaultProxy, Trouble, for_good};
use crate::support::tables::{INVENTORY, at, text};
use crate::support::{Api, Runner, Tables, deps};

/// Tables whose stream is published when the test says so.
struct Desk {
    tables: Tables,
    threshold: &'static str,
    /// The last record that was published, or lost.
    position: String,
}

impl Desk {
    async fn open() -> Self {
        let tables = Tables::start().await;
        Self { tables, threshold: "10", position: String::new() }
    }

    fn deps(&self) -> std::sync::Arc<shared::function::Deps> {
        let dead = format!("{}/000000000000/holdfast-publisher-dead", self.tables.url);
        let settings = [
            ("EVENT_BUS", "holdfast-events"),
            ("DEAD_LETTER_QUEUE_URL", &dead),
            ("LOW_STOCK_THRESHOLD", self.threshold),
        ];
        deps(self.tables.store.clone(), &settings)
    }

    async fn outbox(&self, aws_url: &str) -> publisher::Outbox {
        let config = || shared::aws::config_for(aws_url, "publisher");
        publisher::Outbox::connect(self.deps(), config).await.unwrap()
    }

    async fn adjusts(&mut self, name: &str, by: i64) {
        let change = StockChange::Adjust { by, reason: Reason::parse("count").unwrap() };
        self.tables.changes(name, change).await;
    }

    /// The records of the stream that nobody has seen yet.
    async fn unseen(&mut self) -> Vec<Value> {
        let records = self.tables.database.stream_after(INVENTORY, &self.position, 1_000).await.unwrap();
        if let Some(last) = records.last() {
            self.position = last["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned();
        }
        records
    }

    /// Publishes until the stream brings nothing more. Answers with what was delivered.
    async fn publishes(&mut self) -> Vec<Value> {
        let outbox = self.outbox(&self.tables.url).await;
        let mut all = Vec::new();
        loop {
            let records = self.unseen().await;
            if records.is_empty() {
                return all;
            }
            let answer = publisher::handle(&outbox, &json!({"Records": records}), &at(5_000)).await.unwrap();
            assert_eq!(answer, json!({"batchItemFailures": []}));
            all.extend(records);
        }
    }

    async fn reconciles(&self, asked: Value) -> Value {
        let config = shared::aws::config_for(&self.tables.url, "reconcile");
        let reconciler = reconcile::Reconciler::connect(self.deps(), config).await.unwrap();
        reconcile::handle(&reconciler, &asked, &at(6_000)).await.unwrap()
    }

    /// The products that are low or out.
    async fn low(&self) -> Vec<String> {
        let page = self.tables.store.list_low_products(None, 100, &at(0)).await.unwrap();
        assert!(page.next.is_none());
        page.products.iter().map(|product| product.head.key.product.to_string()).collect()
    }

    /// How often each event about a level was published so far, by id.
    async fn published_levels(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for event in Api::new(String::new(), self.tables.url.clone()).published().await {
            let id = event["eventId"].as_str().unwrap();
            if let Some(of_level) = id.strip_prefix("LEVEL#") {
                *told.entry(of_level.to_owned()).or_default() += 1;
            }
        }
        told
    }
}

fn expected_levels<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.map(|(id, times)| (id.to_owned(), times)).into()
}

/// Many changes of one product in one batch are one look at what came of them.
#[tokio::test]
async fn a_batch_tells_where_stock_stands_after_it() {
    let mut desk = Desk::open().await;
    desk.tables.add("A", 20).await;
    for by in [-12, -8, 15] {
        desk.adjusts("A", by).await;
    }
    desk.publishes().await;
    assert_eq!(
        (desk.low().await, desk.published_levels().await),
        (vec![], expected_levels([])),
        "it has enough, as it began"
    );
    desk.adjusts("A", -6).await;
    desk.adjusts("A", -9).await;
    desk.publishes().await;
    assert_eq!(
        (desk.low().await, desk.published_levels().await),
        (vec!["A".to_owned()], expected_levels([("A#main:5000:1:OutOfStock", 1)]))
    );
}

#[tokio::test]
async fn what_begins_low_is_listed_and_not_told() {
    let mut desk = Desk::open().await;
    desk.tables.add("A", 4).await;
    desk.publishes().await;
    assert_eq!(
        (desk.low().await, desk.published_levels().await),
        (vec!["A".to_owned()], expected_levels([]))
    );
    desk.adjusts("A", -4).await;
    desk.publishes().await;
    assert_eq!(desk.published_levels().await, expected_levels([("A#main:5000:2:OutOfStock", 1)]));
}

/// The table of `ARCHITECTURE.md`, "Writes".
#[tokio::test]
async fn a_level_costs_two_reads_and_a_transaction_where_it_is_another_one() {
    let tables = Tables::start().await;
    tables.add("A", 20).await;
    for (threshold, calls) in [(10, (2, 0)), (20, (2, 1)), (20, (2, 0)), (19, (2, 1))] {
        let before = tables.usage();
        tables.store.update_level(&unit_key("A"), None, threshold, &at(1)).await.unwrap();
        let usage = tables.usage_since(&before);
        let called = |operation: &str| usage.get(operation).map_or(0, |(calls, _)| *calls);
        assert_eq!((called("GetItem"), called("TransactWriteItems")), calls, "threshold {threshold}");
        assert_eq!(called("PutItem"), 0, "alerts are written in transactions alone");
    }
}

/// Records may come again, old ones too: the level is that of now, and nothing is told twice under another id.
#[tokio::test]
async fn records_that_come_again_change_nothing() {
    let mut desk = Desk::open().await;
    desk.tables.add("A", 20).await;
    desk.publishes().await;
    desk.adjusts("A", -15).await;
    let fell = desk.publishes().await;
    desk.adjusts("A", 30).await;
    desk.publishes().await;
    desk.adjusts("A", -35).await;
    desk.publishes().await;
    let outbox = desk.outbox(&desk.tables.url).await;
    let answer = publisher::handle(&outbox, &json!({"Records": fell}), &at(9_000)).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    desk.publishes().await;
    // The crossing to enough has no event; the alert's own record came twice, so its event did.
    let expected = expected_levels([("A#main:5000:1:LowStock", 2), ("A#main:5000:3:OutOfStock", 1)]);
    assert_eq!((desk.low().await, desk.published_levels().await), (vec!["A".to_owned()], expected));
}

/// Scenario 57: a day of the stream is lost. What is told comes from the tables.
#[tokio::test]
async fn scenario_57_lost_records_are_made_good() {
    let mut desk = Desk::open().await;
    desk.tables.add("A", 20).await;
    desk.publishes().await;
    desk.adjusts("A", -20).await;
    desk.tables.add("B", 30).await;
    desk.adjusts("B", -25).await;
    desk.unseen().await;
    desk.publishes().await;
    assert_eq!(
        (desk.low().await, desk.published_levels().await),
        (vec![], expected_levels([])),
        "nobody knows"
    );

    let report = desk.reconciles(json!({"republish": true})).await;
    assert_eq!(
        (&report["holds"], &report["levelsSet"], &report["filled"]),
        (&json!(false), &json!(2), &json!(3))
    );
    desk.publishes().await;
    let expected = expected_levels([("A#main:6000:1:OutOfStock", 1), ("B#main:6000:1:LowStock", 1)]);
    assert_eq!(
        (desk.low().await, desk.published_levels().await),
        (vec!["A".to_owned(), "B".to_owned()], expected.clone())
    );
    let report = desk.reconciles(Value::Null).await;
    assert_eq!((&report["holds"], &report["levelsSet"]), (&json!(true), &json!(0)), "{report}");
    desk.publishes().await;
    assert_eq!(desk.published_levels().await, expected, "each crossing was told once");

    // The record of an alert is lost: its level stands, and what it told is said again.
    desk.adjusts("A", 50).await;
    let outbox = desk.outbox(&desk.tables.url).await;
    let records = desk.unseen().await;
    publisher::handle(&outbox, &json!({"Records": records}), &at(5_000)).await.unwrap();
    desk.unseen().await;
    assert_eq!((desk.low().await, desk.published_levels().await), (vec!["B".to_owned()], expected));
    let report = desk.reconciles(json!({"republish": true, "sinceHours": 1})).await;
    assert_eq!((&report["holds"], &report["levelsSet"]), (&json!(true), &json!(0)), "{report}");
    assert_eq!(desk.published_levels().await["A#main:6000:2:BackInStock:republished"], 1);
}

/// Scenario 56: by the service's parameter, and by PATCH for one product.
#[tokio::test]
async fn scenario_56_a_threshold_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let shop = Runner::with(&data).await;
    for name in ["A", "B"] {
        shop.add(name, 20).await;
    }
    shop.adds_up().await;
    assert_eq!(shop.interrupt().await, Some(0));

    let shop = Runner::with(&[data[0], data[1], "--parameter", "LowStockThreshold=25"]).await;
    let low = async |shop: &Api| {
        let list = shop.get("/api/inventory?lowStock=true").await.body;
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["productId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let report = shop.invoke("reconcile", &Value::Null).await;
    assert_eq!((&report["holds"], &report["levelsSet"]), (&json!(true), &json!(2)), "{report}");
    assert_eq!(low(&shop).await, ["A", "B"]);
    for name in ["A", "B"] {
        shop.until_published(1, "LowStock", name).await;
    }

    // B alone, by its own threshold: any write of the product makes its level anew.
    for (threshold, listed, times) in [(5, vec!["A"], 1), (21, vec!["A", "B"], 2)] {
        let patched = shop.patch("/api/inventory/B", &json!({"lowStockThreshold": threshold})).await;
        assert_eq!(patched.status, 200, "{patched:?}");
        shop.until("it is listed as it is", async |shop: &Api| low(shop).await == listed).await;
        // The list looks at the stock, too, so that it may be ahead of the alert; the next change must not be.
        let level = if times == 1 { "enough" } else { "low" };
        shop.until("the alert has followed", async |shop: &Api| level_of(shop, "B#main").await == level)
            .await;
        shop.until_published(times, "LowStock", "B").await;
    }
    shop.adds_up().await;
    assert_eq!(shop.published_count("LowStock", "A").await, 1);
}

/// The level that the alert of a stock unit has.
async fn level_of(shop: &Api, stock_unit: &str) -> String {
    let scan = shop.dynamodb.scan().table_name(INVENTORY).consistent_read(true);
    let found = scan
        .filter_expression("begins_with(pk, :alert) AND sk = :unit")
        .expression_attribute_values(":alert", text("ALERT#"))
        .expression_attribute_values(":unit", text(stock_unit))
        .send();
    let items = found.await.unwrap().items.unwrap_or_default();
    let [alert] = items.as_slice() else { panic!("{items:?}") };
    alert["level"].as_s().unwrap().clone()
}

/// The bus is slow: what was sent is finished, the first record that was not is named, and the next invocation
/// begins there.
#[tokio::test]
async fn a_slow_bus_costs_no_record_that_is_done() {
    let mut desk = Desk::open().await;
    let names: Vec<String> = (0..15).map(|i| format!("P{i:02}")).collect();
    for name in &names {
        desk.tables.add(name, 5).await;
    }
    let records: Vec<Value> = desk.unseen().await;
    let is_stock = |r: &&Value| r["dynamodb"]["Keys"]["pk"]["S"].as_str().unwrap().starts_with("STOCK#");
    let stock: Vec<&Value> = records.iter().filter(is_stock).collect();
    assert_eq!(stock.len(), 15);
    // One request is taken, and from the second on it hangs.
    let slow = FaultProxy::to(&desk.tables.url).await;
    slow.inject_into(ALL, [Trouble::Nothing]);
    slow.inject_until(for_good(), ALL, Fault::Hang);
    let mut invocation = at(0);
    invocation.deadline = tokio::time::Instant::now() + Duration::from_millis(1_500);
    let outbox = desk.outbox(&slow.url).await;
    let answer = publisher::handle(&outbox, &json!({"Records": stock}), &invocation).await.unwrap();
    assert!(tokio::time::Instant::now() < invocation.deadline, "it answered in time");
    // Each record says two things, and ten go into a request: five records are done.
    let number = stock[5]["dynamodb"]["SequenceNumber"].as_str().unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{"itemIdentifier": number}]));
    for (i, name) in names.iter().enumerate() {
        let movements = desk.tables.store.movements(&unit_key(name), 0, 1, &at(0)).await.unwrap();
        assert_eq!(movements.len(), usize::from(i < 5), "{name}");
    }
    assert_eq!(desk.low().await, names[..5]);

    let outbox = desk.outbox(&desk.tables.url).await;
    let rest = publisher::handle(&outbox, &json!({"Records": &stock[5..]}), &at(0)).await.unwrap();
    assert_eq!((rest, desk.low().await), (json!({"batchItemFailures": []}), names));
}
