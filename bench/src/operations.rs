//! `operations`: calls and write units of every operation, counted by the embedded database, against the least that
//! the design allows.

use std::collections::BTreeMap;
use std::time::Duration;

use local::dynamodb::{DynamoDb, HEALTH_CHECK};
use serde_json::{Value, json};
use shared::Error;
use shared::domain::{OrderId, ReservationId};
use shared::store::keys::EXPIRY_SHARDS;

use crate::embedded::{self, CALLER, Handlers};
use crate::options::Options;
use crate::report::{Cell, Comparison, Findings, Table};

/// Most products in one order.
const MAX_LINES: u64 = 99;
/// Due holds that a sweep ends.
const DUE: u64 = 40;
/// After this time each hold is due, and may be ended.
const LATER: Duration = Duration::from_secs(3_600);

/// What an operation used: calls that read, calls that write, and write units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    reads: u64,
    writes: u64,
    units: u64,
}

/// The tables, the handlers, and the list of what was found.
struct Counted {
    database: DynamoDb,
    handlers: Handlers,
    table: Table,
    /// What took more than it must.
    above: u64,
}

/// Runs it.
pub(crate) async fn measure(options: &Options) -> Result<Findings, Error> {
    let database = embedded::database()?;
    let url = embedded::serve(&database).await?;
    let handlers = Handlers::over(shared::aws::config_for(&url, CALLER)).await?;
    let columns =
        ["operation", "reads", "writes", "write units", "least reads", "least writes", "least units"];
    let table =
        Table::new("Calls to DynamoDB, and write units of the tables without their indexes", &columns);
    let mut counted = Counted { database, handlers, table, above: 0 };
    counted.stock().await?;
    for products in options.sized(vec![1, 3], vec![1, 3, 20], vec![1, 2, 3, 5, 10, 20, 50, MAX_LINES]) {
        counted.orders(products).await?;
    }
    counted.sweep().await?;
    counted.reads().await?;
    let above = Comparison::new(
        "operations above the least that the design allows",
        Cell::Count(counted.above),
        "0",
        counted.above == 0,
    );
    Ok(Findings { tables: vec![counted.table], comparisons: vec![above] })
}

impl Counted {
    /// Reads, writes and write units so far.
    fn usage(&self) -> Usage {
        let mut used = Usage { reads: 0, writes: 0, units: 0 };
        let calls: BTreeMap<_, _> = self.database.calls();
        for ((caller, operation), usage) in calls {
            if caller != CALLER || operation == HEALTH_CHECK {
                continue;
            }
            match operation.as_str() {
                "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" => used.writes += usage.calls,
                _ => used.reads += usage.calls,
            }
            used.units += usage.table_write_units as u64;
        }
        used
    }

    /// Does something and notes what it used.
    async fn count(
        &mut self,
        operation: impl Into<String>,
        [reads, writes, units]: [u64; 3],
        work: impl AsyncFnOnce(&Handlers) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let before = self.usage();
        work(&self.handlers).await?;
        let after = self.usage();
        let used = Usage {
            reads: after.reads - before.reads,
            writes: after.writes - before.writes,
            units: after.units - before.units,
        };
        let counts = [used.reads, used.writes, used.units, reads, writes, units].map(Cell::Count);
        self.table.push([Cell::Text(operation.into())].into_iter().chain(counts));
        self.above += u64::from(used.reads > reads || used.writes > writes || used.units > units);
        Ok(())
    }

    /// A request to one route that must succeed.
    async fn request(
        &mut self,
        operation: impl Into<String>,
        least: [u64; 3],
        route: &str,
        body: Value,
    ) -> Result<(), Error> {
        self.count(operation, least, async |handlers| handlers.succeed("OP-0", route, &body).await.map(drop))
            .await
    }

    /// The stock operations. One read gives the figures of their answers.
    async fn stock(&mut self) -> Result<(), Error> {
        let least = [1, 1, 4];
        let product = "OP-0";
        let create = json!({"productId": product, "name": "Shoe", "quantity": 1_000});
        self.request("create", least, "POST /", create).await?;
        self.request("add", least, "POST /add", json!({"productId": product, "quantity": 1})).await?;
        let new = json!({"productId": "OP-NEW", "quantity": 1});
        self.request("add, new product", least, "POST /add", new).await?;
        for (name, by) in [("adjust upwards", 1), ("adjust downwards", -1)] {
            let body = json!({"productId": product, "quantity": by, "reason": "counted"});
            self.request(name, least, "POST /adjust", body).await?;
        }
        let audit = json!({"productId": product, "quantity": 1_000});
        self.request("audit", [2, 1, 4], "POST /audit", audit).await?;
        self.request("product data", least, "PATCH /{productId}", json!({"name": "Boot"})).await?;
        let products: Vec<String> = (0..MAX_LINES).map(|i| format!("OP-LINE-{i}")).collect();
        embedded::stock(&self.handlers, &self.database, &products, 1_000).await
    }

    /// What happens to an order of so many products.
    async fn orders(&mut self, n: u64) -> Result<(), Error> {
        let item = |i| json!({"productId": format!("OP-LINE-{i}"), "quantity": 1});
        let items: Vec<Value> = (0..n).map(item).collect();
        // A record takes a unit for each KB that it has begun, twice in a transaction.
        let probe = format!("probe-{n}");
        self.handlers.succeed("", "POST /reserve", &json!({"orderId": probe, "items": items})).await?;
        let pk = format!("RES#{}", ReservationId::of(&OrderId::parse(probe)?));
        let kb = size_of_item(&embedded::item(&self.database, &pk, "RES")?).div_ceil(1_024);
        let both = [1, 1, 2 * (n + kb)];
        let of = match n {
            1 => "1 product".to_owned(),
            n => format!("{n} products"),
        };
        let reserve = |order: &str| json!({"orderId": format!("{order}-{n}"), "items": items});
        let order = |order: &str| json!({"orderId": format!("{order}-{n}")});
        let least = [0, 1, 2 * (n + kb)];
        self.request(format!("reserve, {of}"), least, "POST /reserve", reserve("sold")).await?;
        // A refused transaction takes units on AWS too, but the database does not say how many.
        let again = format!("reserve again, {of}");
        self.request(again, [0, 1, 0], "POST /reserve", reserve("sold")).await?;
        self.request(format!("confirm, {of}"), [0, 1, kb], "POST /confirm", order("sold")).await?;
        self.request(format!("deduct, {of}"), both, "POST /deduct", order("sold")).await?;
        self.handlers.succeed("", "POST /reserve", &reserve("back")).await?;
        self.request(format!("extend, {of}"), [1, 1, kb], "POST /extend", {
            let mut extend = order("back");
            extend["ttlSeconds"] = 7_200.into();
            extend
        })
        .await?;
        self.request(format!("release, {of}"), both, "POST /release", order("back")).await?;
        let created = json!({"type": "OrderCreated", "orderId": format!("event-{n}"), "items": items});
        self.count(format!("event of a new order, {of}"), least, async |handlers| {
            handlers.order_event(&created).await.map(drop)
        })
        .await
    }

    /// A pass over holds of one product that are all due.
    async fn sweep(&mut self) -> Result<(), Error> {
        self.handlers.succeed("", "POST /add", &json!({"productId": "OP-DUE", "quantity": DUE})).await?;
        let sweep = async |handlers: &Handlers| handlers.sweep(handlers.now() + LATER).await.map(drop);
        // What the orders above have left.
        sweep(&self.handlers).await?;
        for i in 0..DUE {
            let body = json!({"orderId": format!("due-{i}"), "productId": "OP-DUE", "quantity": 1});
            self.handlers.succeed("", "POST /reserve", &body).await?;
        }
        let shards = u64::from(EXPIRY_SHARDS);
        // A pass asks each shard once. Once for each invocation, the open holds of each shard are counted for the
        // metrics, in two queries.
        let name = format!("sweep, {DUE} holds of one product");
        self.count(name, [3 * shards + 1, 1, 2 * DUE + 2], sweep).await?;
        self.count("sweep, nothing due", [3 * shards, 0, 0], sweep).await
    }

    /// What only reads.
    async fn reads(&mut self) -> Result<(), Error> {
        let hundred: Vec<String> = (0..100).map(|i| format!("OP-LINE-{i}")).collect();
        self.request("check, 100 products", [1, 0, 0], "POST /check", json!(hundred)).await?;
        let one = json!({"productId": "OP-0", "quantity": 1});
        self.request("check availability", [1, 0, 0], "POST /check-availability", one).await?;
        self.request("one product", [1, 0, 0], "GET /{productId}", Value::Null).await?;
        self.request("a page of products", [2, 0, 0], "GET /", Value::Null).await?;
        self.count("one reservation", [1, 0, 0], async |handlers| {
            let route = "GET /reservations/order/{orderId}";
            handlers.succeed("sold-1", route, &Value::Null).await.map(drop)
        })
        .await
    }
}

/// The size of an item, in bytes. Source: Amazon DynamoDB Developer Guide, "DynamoDB item sizes and formats".
fn size_of_item(item: &Value) -> u64 {
    let attributes = item.as_object().into_iter().flatten();
    attributes.map(|(name, value)| name.len() as u64 + size_of_value(value)).sum()
}

/// The size of an attribute's value, given with its type. A number takes a byte for two digits, and one.
fn size_of_value(value: &Value) -> u64 {
    let Some((kind, value)) = value.as_object().and_then(|typed| typed.iter().next()) else { return 0 };
    let text = value.as_str().map_or(0, |text| text.len() as u64);
    match kind.as_str() {
        "N" => text.div_ceil(2) + 1,
        "M" => {
            let members = value.as_object().map_or(0, |members| members.len() as u64);
            3 + members + size_of_item(value)
        }
        "L" => {
            let elements = value.as_array().into_iter().flatten();
            3 + elements.map(|element| 1 + size_of_value(element)).sum::<u64>()
        }
        "S" => text,
        _ => 1,
    }
}
