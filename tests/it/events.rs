//! Orders as events: from the queue to the hold, to what is published, to the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::domain::fixtures::unit_key;
use sim::faults::Fault;

use crate::support::faults::FaultProxy;
use crate::support::process::{holdfast, signal};
use crate::support::tables::{LEDGER, at, number, put_item, text, update_item};
use crate::support::{Api, Runner, Tables, deps};

fn created(order: &str, items: &[(&str, u64)]) -> Value {
    json!({"eventType": "OrderCreated", "orderId": order, "items": crate::support::lines(items)})
}

fn fact(name: &str, order: &str) -> Value {
    json!({"eventType": name, "orderId": order})
}

/// Each event id has one content, however often it was published, and says the version that consumers sort by.
fn one_content_for_each_id(events: &[Value]) {
    let mut contents: BTreeMap<&str, &Value> = BTreeMap::new();
    for event in events {
        let id = event["eventId"].as_str().unwrap();
        assert_eq!(*contents.entry(id).or_insert(event), event);
        let version = id.trim_end_matches(":republished").rsplit(':').nth(1);
        assert_eq!(version, Some(event["version"].to_string().as_str()), "{event}");
    }
}

#[tokio::test]
async fn an_order_event_holds_stock_and_is_published_within_a_second() {
    let shop = Runner::start().await;
    shop.add("A", 100).await;
    // The first event starts processes; the second is timed.
    for order in ["warm-up", "order-1"] {
        shop.send_order_event(&created(order, &[("A", 5)])).await;
        let began = tokio::time::Instant::now();
        shop.until_published(1, "InventoryReserved", order).await;
        let took = began.elapsed();
        assert!(order == "warm-up" || took < Duration::from_secs(1), "{took:?}");
    }
    assert_eq!(shop.status("order-1").await, "RESERVED");
    assert_eq!(shop.stock("A").await, [90, 10, 0]);

    shop.send_order_event(
        &json!({"eventType": "BookingCreated", "data": {"bookingId": "b-1", "itemId": "A", "quantity": 2}}),
    )
    .await;
    // A payment that fails before anything is held gives nothing back.
    shop.until_published(1, "InventoryReserved", "b-1").await;
    shop.send_order_event(&json!({"eventType": "PaymentFailed", "data": {"bookingId": "b-1"}})).await;
    shop.until_published(1, "InventoryReleased", "b-1").await;
    let released =
        shop.published().await.into_iter().find(|e| e["eventType"] == "InventoryReleased").unwrap();
    assert_eq!(released["reason"], "payment_failed");

    shop.send_order_event(&json!({"event": "order.created", "data": {"orderId": "o-2", "items": [{"sku": "A", "quantity": 3}]}})).await;
    shop.send_order_event(
        &json!({"event": "order.updated", "data": {"orderId": "o-2", "status": "delivered"}}),
    )
    .await;
    shop.send_order_event(&json!({"event": "order.delivered", "data": {"orderId": "o-2"}})).await;
    shop.until_status("o-2", "FULFILLED").await;
    shop.until("all is done", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
    assert_eq!(shop.stock("A").await, [87, 10, 3]);
    shop.adds_up().await;
    assert_eq!(shop.published_count("InventoryDeducted", "o-2").await, 1);
}

#[tokio::test]
async fn an_order_that_does_not_fit_is_a_result_not_a_failure() {
    let shop = Runner::start().await;
    shop.add("A", 3).await;
    shop.send_order_event(&created("o", &[("A", 4), ("NOPE", 1)])).await;
    shop.until_published(1, "StockReservationFailed", "o").await;
    assert_eq!(shop.status("o").await, "REJECTED");
    let failed =
        shop.published().await.into_iter().find(|e| e["eventType"] == "StockReservationFailed").unwrap();
    assert_eq!(failed["failedItems"].as_array().unwrap().len(), 2, "{failed}");
    assert_eq!((&failed["reason"], &failed["paid"]), (&json!("unknown_product"), &json!(false)));
    shop.until("it is not tried again", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
    assert_eq!(shop.queued("holdfast-orders-dead").await, 0);
    shop.adds_up().await;
}

#[tokio::test]
async fn a_threshold_is_crossed_once_each_way() {
    let shop = Runner::start().await;
    shop.add("A", 20).await;
    for (order, quantity) in [("o-1", 9), ("o-2", 2), ("o-3", 3), ("o-4", 6)] {
        assert_eq!(shop.reserve(order, &[("A", quantity)]).await.status, 201);
        // A crossing that nobody looked at in time is not told.
        let low = async |shop: &Api| order == "o-1" || shop.published_count("LowStock", "A").await == 1;
        shop.until("it is low", low).await;
    }
    shop.until_published(1, "OutOfStock", "A").await;
    let low = shop.get("/api/inventory?lowStock=true").await.body;
    assert_eq!(low["items"][0]["productId"], "A");
    shop.add("A", 50).await;
    shop.until_published(1, "BackInStock", "A").await;
    shop.adds_up().await;
    for (name, times) in [("LowStock", 1), ("OutOfStock", 1), ("BackInStock", 1), ("InventoryReplenished", 2)]
    {
        assert_eq!(shop.published_count(name, "A").await, times, "{name}");
    }
    let low = async |shop: &Api| shop.get("/api/inventory?lowStock=true").await.body == json!({"items": []});
    shop.until("it is no longer listed", low).await;
}

/// Every sample in `events/orders`, in an order that tells a story.
#[tokio::test]
async fn every_sample_of_an_order_event_does_what_it_says() {
    const STORY: [(&str, &str, &str); 22] = [
        ("order-created", "sample-order-1", "RESERVED"),
        ("order-updated-shipped", "sample-order-1", "RESERVED"),
        ("payment-succeeded", "sample-order-1", "CONFIRMED"),
        ("order-updated-paid", "sample-order-1", "CONFIRMED"),
        ("order-delivered", "sample-order-1", "FULFILLED"),
        ("order-created-dotted", "sample-order-2", "RESERVED"),
        ("payment-processed", "sample-order-2", "CONFIRMED"),
        ("order-delivered-dotted", "sample-order-2", "FULFILLED"),
        ("order-updated-delivered", "sample-order-2", "FULFILLED"),
        ("order-created-flat", "sample-order-3", "RESERVED"),
        ("order-paid", "sample-order-3", "CONFIRMED"),
        ("order-cancelled", "sample-order-3", "RELEASED"),
        ("order-cancelled-dotted", "sample-order-3", "RELEASED"),
        ("order-updated-cancelled", "sample-order-3", "RELEASED"),
        ("booking-created", "sample-booking-1", "RESERVED"),
        ("payment-failed", "sample-booking-1", "RELEASED"),
        ("booking-cancelled", "sample-booking-1", "RELEASED"),
        ("order-created-eventbridge", "sample-order-4", "RESERVED"),
        ("order-delivered-shipment", "sample-order-4", "RESERVED"),
        ("order-created-sns", "sample-order-5", "RESERVED"),
        ("payment-succeeded-sns-eventbridge", "sample-order-5", "CONFIRMED"),
        ("order-created-accepted", "sample-order-6", "RESERVED"),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/orders");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), STORY.len());
    let shop = Runner::start().await;
    shop.add("SAMPLE-1", 100).await;
    for (name, order, state) in STORY {
        let sample = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        shop.send_order_event(&serde_json::from_str(&sample).unwrap()).await;
        let done =
            async |shop: &Api| shop.queued("holdfast-orders").await == 0 && shop.status(order).await == state;
        shop.until(name, done).await;
    }
    assert_eq!(shop.stock("SAMPLE-1").await, [92, 4, 4]);
    shop.adds_up().await;
}

/// From the bus, by the rule of the template, to the queue; what Holdfast says itself does not come back.
#[tokio::test]
async fn the_rule_brings_order_events_from_the_bus() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let config = aws_sdk_eventbridge::Config::builder()
        .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::latest())
        .region(aws_sdk_eventbridge::config::Region::new("us-east-1"))
        .endpoint_url(&shop.aws_url)
        .credentials_provider(aws_sdk_eventbridge::config::Credentials::new("test", "x", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let bus = aws_sdk_eventbridge::Client::from_conf(config);
    let entry = |name: &str, source: &str, detail: &str| {
        aws_sdk_eventbridge::types::PutEventsRequestEntry::builder()
            .event_bus_name("holdfast-events")
            .source(source)
            .detail_type(name)
            .detail(detail)
            .build()
    };
    let order = r#"{"orderId":"o","items":[{"sku":"A","quantity":2}]}"#;
    let sent = bus
        .put_events()
        .entries(entry("OrderCreated", "shop", order))
        .entries(entry("OrderCreated", "shop", "no JSON"))
        .entries(entry("OrderCrated", "shop", "{}"))
        .entries(entry("OrderCancelled", "holdfast", r#"{"orderId":"o"}"#))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.failed_entry_count(), 1);
    assert_eq!(sent.entries()[1].error_code(), Some("MalformedDetail"));
    shop.until_status("o", "RESERVED").await;
    // What nobody understands is not dropped by the rule: it is on its way to the dead-letter queue.
    shop.until("the rest waits", async |shop: &Api| shop.queued("holdfast-orders").await == 1).await;
    assert_eq!(shop.stock("A").await, [8, 2, 0]);
}

/// A rule may call a function, too.
#[tokio::test]
async fn a_rule_may_call_a_function() {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml")).unwrap();
    let target = "Arn: !GetAtt OrderQueue.Arn\n          DeadLetterConfig";
    assert!(template.contains(target));
    let template = template.replace(target, "Arn: !GetAtt ExpirySweep.Arn\n          DeadLetterConfig");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, template).unwrap();
    let shop = Runner::with(&["--template", file.to_str().unwrap()]).await;
    shop.add("A", 10).await;
    let body = json!({"orderId": "o", "productId": "A", "quantity": 4, "ttlSeconds": 1});
    assert_eq!(shop.post("/api/inventory/reserve", &body).await.status, 201);
    shop.until_status("o", "EXPIRED").await;
    let event = json!({"Source": "shop", "DetailType": "SweepNow", "Detail": "{}", "EventBusName": "holdfast-events"});
    // It may not be given back at once, as clocks differ. The schedule would do it, too, after a minute.
    let is_back = async |shop: &Api| {
        shop.put_event(&event).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        shop.stock("A").await == [10, 0, 0]
    };
    shop.until_within(Duration::from_secs(20), "it is given back", is_back).await;
    shop.adds_up().await;
}

/// Scenario 52: an order that was not delivered in full, and one whose delivery came first; in one go and in shipments.
#[tokio::test]
async fn scenario_52_a_delivery_with_less_than_was_ordered() {
    let shop = Runner::start().await;
    shop.add("A", 20).await;
    shop.add("B", 20).await;
    let order = |order: &str| created(order, &[("A", 3), ("B", 2)]);
    let delivered = |order: &str, items: &[(&str, u64)], shipment: Option<&str>| json!({"eventType": "OrderDelivered", "orderId": order, "items": crate::support::lines(items), "shipmentId": shipment});
    for messages in [
        [order("o-1"), delivered("o-1", &[("A", 3)], None)],
        [delivered("o-2", &[("A", 3)], None), order("o-2")],
        [order("o-3"), delivered("o-3", &[("A", 1)], Some("s-1"))],
        [delivered("o-4", &[("A", 1)], Some("s-1")), order("o-4")],
    ] {
        for message in messages.iter().chain(&messages) {
            shop.send_order_event(message).await;
            shop.until("it is heard", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
        }
    }
    let states = [
        shop.status("o-1").await,
        shop.status("o-2").await,
        shop.status("o-3").await,
        shop.status("o-4").await,
    ];
    assert_eq!(states, ["FULFILLED", "FULFILLED", "RESERVED", "RESERVED"]);
    assert_eq!((shop.stock("A").await, shop.stock("B").await), ([8, 4, 8], [16, 4, 0]));
    shop.until_published(1, "InventoryReleased", "o-1").await;
    shop.adds_up().await;
    let published = shop.published().await;
    let released: Vec<&Value> = published.iter().filter(|e| e["eventType"] == "InventoryReleased").collect();
    let [released] = released.as_slice() else { panic!("{released:?}") };
    assert_eq!((&released["orderId"], &released["reason"]), (&json!("o-1"), &json!("not_delivered")));
    assert_eq!(released["items"], json!([{"productId": "B", "location": "main", "quantity": 2}]));
    assert_eq!(
        shop.published_count("OrderConflict", "o-1").await
            + shop.published_count("OrderConflict", "o-2").await,
        0
    );
    one_content_for_each_id(&published);
}

/// Scenario 53: the first stands, the other is told once, whatever is repeated; no message is a dead letter.
#[tokio::test]
async fn scenario_53_facts_that_contradict() {
    let shop = Runner::start().await;
    shop.add("A", 20).await;
    shop.add("B", 20).await;
    let booking =
        json!({"eventType": "BookingCreated", "data": {"bookingId": "o", "itemId": "B", "quantity": 2}});
    let foreign = json!({"eventType": "OrderDelivered", "orderId": "o", "shipmentId": "s-1",
        "items": crate::support::lines(&[("B", 1)])});
    for _ in 0..2 {
        for message in [&created("o", &[("A", 3)]), &created("o", &[("A", 4)]), &booking, &foreign] {
            shop.send_order_event(message).await;
            shop.until("it is heard", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
        }
    }
    assert_eq!((shop.status("o").await.as_str(), shop.stock("A").await), ("RESERVED", [17, 3, 0]));
    assert_eq!(shop.stock("B").await, [19, 0, 1], "what has left has left");
    shop.until_published(3, "OrderConflict", "o").await;
    shop.adds_up().await;
    assert_eq!(shop.queued("holdfast-orders-dead").await, 0);
    let published = shop.published().await;
    let told: Vec<[&Value; 4]> = published
        .iter()
        .filter(|event| event["eventType"] == "OrderConflict")
        .map(|event| ["reason", "items", "heardItems", "conflicts"].map(|member| &event[member]))
        .collect();
    let item = |product: &str, n: u64| json!([{"productId": product, "location": "main", "quantity": n}]);
    let (other, ordered) = (json!("other_lines"), item("A", 3));
    assert_eq!(told[0], [&other, &ordered, &item("A", 4), &json!(1)]);
    assert_eq!(told[1], [&other, &ordered, &item("B", 2), &json!(2)]);
    let without_location = json!([{"productId": "B", "quantity": 1}]);
    assert_eq!(told[2], [&json!("not_ordered"), &ordered, &without_location, &json!(3)]);
    let reserved = shop.get("/api/inventory/reservations/order/o").await.body["items"][0].clone();
    assert_eq!((&reserved["productId"], &reserved["items"][1]["quantity"]), (&json!("A"), &json!(0)));
    one_content_for_each_id(&published);
}

/// Scenario 35: a poison message among ten ends in the dead-letter queue, the other nine are done.
#[tokio::test]
async fn scenario_35_a_poison_message_among_ten() {
    let shop = Runner::with(&["--parameter", "OrderVisibilitySeconds=1"]).await;
    shop.add("A", 100).await;
    for i in 0..9 {
        shop.send_order_event(&created(&format!("o-{i}"), &[("A", 1)])).await;
    }
    // A hundred products do not fit one order, which is a result; nobody knows that other thing.
    let many: Vec<(String, u64)> = (0..100).map(|i| (format!("P{i}"), 1)).collect();
    let many: Vec<(&str, u64)> = many.iter().map(|(product, n)| (product.as_str(), *n)).collect();
    shop.send_order_event(&created("too-many", &many)).await;
    shop.send_order_event(&json!({"eventType": "OrderCrated", "orderId": "x"})).await;
    shop.until("nine are held", async |shop: &Api| shop.stock("A").await == [91, 9, 0]).await;
    shop.until("the poison is set aside", async |shop: &Api| shop.queued("holdfast-orders-dead").await == 1)
        .await;
    assert_eq!(shop.queued("holdfast-orders").await, 0);
    assert_eq!(shop.status("too-many").await, "REJECTED");
    shop.until_published(1, "StockReservationFailed", "too-many").await;
    let failed = shop.published().await;
    let failed = failed.iter().find(|event| event["eventType"] == "StockReservationFailed").unwrap();
    assert_eq!((&failed["reason"], &failed["items"]), (&json!("too_many_lines"), &json!([])));
    shop.adds_up().await;
}

/// Scenario 37, and 38: a batch that comes again does nothing.
#[tokio::test]
async fn scenarios_37_38_batches_that_are_not_as_they_should_be() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let record = |id: Value, body: &Value| json!({"messageId": id, "body": body.to_string()});
    let order = created("o", &[("A", 2)]);
    for _ in 0..2 {
        let batch =
            json!({"Records": [record(json!("m-1"), &order), record(json!("m-2"), &fact("OrderPaid", "o"))]});
        assert_eq!(shop.invoke("order-events", &batch).await, json!({"batchItemFailures": []}));
        assert_eq!((shop.status("o").await.as_str(), shop.stock("A").await), ("CONFIRMED", [8, 2, 0]));
    }
    for id in [json!(""), json!(null), json!(7)] {
        let batch = json!({"Records": [record(json!("m-1"), &order), record(id, &order)]});
        let answer = shop.invoke("order-events", &batch).await;
        assert!(answer["errorMessage"].as_str().unwrap().contains("messageId"), "{answer}");
    }
    let no_body = json!({"Records": [{"messageId": "m-1"}, record(json!("m-2"), &json!("text"))]});
    let answer = shop.invoke("order-events", &no_body).await;
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2);
    let answer = shop.invoke("order-events", &json!({"surprise": 1})).await;
    assert!(answer["errorMessage"].as_str().unwrap().contains("no Records"), "{answer}");
}

/// Scenario 39: what there was no time for comes again.
#[tokio::test]
async fn scenario_39_time_runs_out_in_a_batch() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let deps = deps(tables.store.clone(), &[]);
    let records: Vec<Value> = (0..10)
        .map(|i| json!({"messageId": format!("m-{i}"), "body": created(&format!("o-{i}"), &[("A", 1)]).to_string()}))
        .collect();
    let batch = json!({"Records": records});
    let mut late = at(0);
    late.deadline = tokio::time::Instant::now();
    let answer = order_events::handle(&deps, &batch, &late).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 10);
    let answer = order_events::handle(&deps, &batch, &at(0)).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(tables.stock("A").await, [0, 10, 0]);
}

const FACTS: [&str; 5] =
    ["OrderCreated", "PaymentSucceeded", "PaymentFailed", "OrderCancelled", "OrderDelivered"];

/// The state of an order after a set of facts, when there is stock, written down apart from `decide`.
fn expected(facts: &BTreeSet<&str>) -> &'static str {
    let heard = |fact: &str| facts.contains(fact);
    match () {
        () if !heard("OrderCreated") => "PENDING",
        () if heard("OrderDelivered") => "FULFILLED",
        () if heard("OrderCancelled") => "RELEASED",
        () if heard("PaymentSucceeded") => "CONFIRMED",
        () if heard("PaymentFailed") => "RELEASED",
        () => "RESERVED",
    }
}

/// Scenario 50 through the real queue, which delivers twice and out of order on purpose: 200 orders at once
/// over five products, each with its facts in an order of its own and up to three times.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_50_two_hundred_orders_through_an_unruly_queue() {
    const ORDERS: usize = 200;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let shop = Runner::with(&["--unruly"]).await;
    let products = ["A", "B", "C", "D", "E"];
    for product in products {
        shop.add(product, 10_000).await;
    }
    let (mut orders, mut messages) = (Vec::new(), Vec::new());
    for i in 0..ORDERS {
        let order = format!("order-{i}");
        let facts: BTreeSet<&str> =
            FACTS.into_iter().filter(|f| *f == "OrderCreated" || random.bool()).collect();
        let first = random.usize(0..5);
        let lines = [(products[first], random.u64(1..4)), (products[(first + 1) % 5], random.u64(1..4))];
        for name in &facts {
            for _ in 0..random.usize(1..=3) {
                messages.push(if *name == "OrderCreated" {
                    created(&order, &lines)
                } else {
                    fact(name, &order)
                });
            }
        }
        orders.push((order, facts, lines));
    }
    random.shuffle(&mut messages);
    for some in messages.chunks(50) {
        join_all(some.iter().map(|message| shop.send_order_event(message))).await;
    }
    shop.until("all is done", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
    assert_eq!(shop.queued("holdfast-orders-dead").await, 0, "seed {seed}");
    let mut want: BTreeMap<&str, [u64; 3]> = products.map(|product| (product, [10_000, 0, 0])).into();
    for (order, facts, lines) in &orders {
        let state = expected(facts);
        assert_eq!(shop.status(order).await, state, "seed {seed}: {order} {facts:?}");
        for (product, quantity) in lines {
            let [available, reserved, sold] = want.get_mut(product).unwrap();
            match state {
                "RESERVED" | "CONFIRMED" => {
                    (*available, *reserved) = (*available - quantity, *reserved + quantity)
                }
                "FULFILLED" => (*available, *sold) = (*available - quantity, *sold + quantity),
                _ => {}
            }
        }
    }
    for (product, figures) in want {
        assert_eq!(shop.stock(product).await, figures, "seed {seed}: {product}");
    }
    shop.adds_up().await;
    one_content_for_each_id(&shop.published().await);
}

/// A thousand orders flow while function processes and once the runner itself are killed; scenario 40 too.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_orders_survive_kills() {
    const ORDERS: usize = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let options = ["--data", folder.path().to_str().unwrap(), "--parameter", "OrderVisibilitySeconds=2"];
    let shop = Runner::with(&options).await;
    shop.add("A", 5_000).await;
    shop.add("B", 5_000).await;
    let api = shop.api.clone();
    let telling = tokio::spawn(async move {
        for i in 0..ORDERS {
            let order = format!("order-{i}");
            let last = match i % 4 {
                0 => "PaymentSucceeded",
                1 => "OrderCancelled",
                2 => "OrderDelivered",
                _ => "OrderCreated",
            };
            let messages = [created(&order, &[("A", 1), ("B", 2)]), fact(last, &order)];
            for message in
                messages.iter().filter(|m| m["eventType"] != "OrderCreated" || m.get("items").is_some())
            {
                api.send_order_event(message).await;
            }
        }
    });
    let mut killed = 0;
    while !telling.is_finished() {
        for (id, name) in shop.functions() {
            if (name == "order-events" || name == "publisher") && fastrand::u8(..) < 40 {
                signal("KILL", id).await;
                killed += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    telling.await.unwrap();
    assert!(killed > 3, "{killed} processes were killed");
    shop.kill().await;

    let shop = Runner::with(&options).await;
    shop.until("all is done", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
    assert_eq!(shop.queued("holdfast-orders-dead").await, 0);
    let quarter = u64::try_from(ORDERS / 4).unwrap();
    assert_eq!(shop.stock("A").await, [5_000 - 3 * quarter, 2 * quarter, quarter]);
    assert_eq!(shop.stock("B").await, [5_000 - 6 * quarter, 4 * quarter, 2 * quarter]);
    shop.adds_up().await;
    let all = shop.published().await;
    one_content_for_each_id(&all);
    let said: BTreeSet<&str> = all
        .iter()
        .filter(|event| {
            event["eventType"] == "InventoryReserved" || event["eventType"] == "InventoryDeducted"
        })
        .map(|event| event["orderId"].as_str().unwrap())
        .collect();
    // An order whose cancellation came first was never held, so there is nothing to say of it.
    let mut silent = (0..ORDERS).filter(|i| !said.contains(format!("order-{i}").as_str()));
    assert!(silent.all(|i| i % 4 == 1), "an order that was held was not spoken of");
}

/// Scenario 41: the third of ten is not taken; from there it comes again, and none is lost.
#[tokio::test]
async fn scenario_41_one_entry_of_ten_is_not_taken() {
    let tables = Tables::start().await;
    for product in ["P1", "P2", "P3", "P4", "P5"] {
        tables.add(product, 20).await;
    }
    let records = tables.stream().await;
    let bus = FaultProxy::to(&tables.url).await;
    bus.inject_into(&["PutEvents"], [Fault::Partial]);
    let dead = format!("{}/000000000000/holdfast-publisher-dead", tables.url);
    let deps =
        deps(tables.store.clone(), &[("EVENT_BUS", "holdfast-events"), ("DEAD_LETTER_QUEUE_URL", &dead)]);
    let config = || shared::aws::config_for(&bus.url, "publisher");
    let outbox = publisher::Outbox::connect(deps, config).await.unwrap();
    let stock: Vec<&Value> = records
        .iter()
        .filter(|r| r["dynamodb"]["Keys"]["pk"]["S"].as_str().unwrap().starts_with("STOCK#"))
        .collect();
    assert_eq!(stock.len(), 5);
    let answer = publisher::handle(&outbox, &json!({"Records": stock}), &at(0)).await.unwrap();
    // Each record says two things, so the third entry is of the second record.
    let failed = answer["batchItemFailures"][0]["itemIdentifier"].as_str().unwrap();
    assert_eq!(failed, stock[1]["dynamodb"]["SequenceNumber"].as_str().unwrap());
    // A movement in the ledger proves that its events were sent: there is one of the first record alone.
    for (name, movements) in [("P1", 1), ("P2", 0), ("P5", 0)] {
        let unit = unit_key(name);
        assert_eq!(tables.store.movements(&unit, 0, 9, &at(0)).await.unwrap().len(), movements, "{name}");
    }
    let again = publisher::handle(&outbox, &json!({"Records": &stock[1..]}), &at(0)).await.unwrap();
    assert_eq!(again, json!({"batchItemFailures": []}));
    let published = Api::new(String::new(), tables.url.clone()).published().await;
    let ids: BTreeSet<&str> = published.iter().map(|event| event["eventId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 10, "all are there");
    one_content_for_each_id(&published);
}

/// Scenario 42: a record that nobody can read is kept whole, and the rest flows.
#[tokio::test]
async fn scenario_42_a_poison_record_in_the_stream() {
    let shop = Runner::start().await;
    shop.add("A", 50).await;
    let item = [("pk", text("STOCK#BROKEN#0")), ("sk", text("main")), ("available", text("many"))];
    put_item(&shop.dynamodb, &item).await;
    shop.reserve("o", &[("A", 2)]).await;
    shop.until_published(1, "InventoryReserved", "o").await;
    shop.until("it is set aside", async |shop: &Api| shop.queued("holdfast-publisher-dead").await == 1).await;
    let url = format!("{}/000000000000/holdfast-publisher-dead", shop.aws_url);
    let received = shop.sqs().receive_message().queue_url(url).send().await.unwrap();
    let kept: Value = serde_json::from_str(received.messages()[0].body().unwrap()).unwrap();
    assert_eq!(kept["record"]["dynamodb"]["NewImage"]["available"]["S"], "many");
    assert!(kept["error"].as_str().unwrap().contains("stock unit"), "{kept}");
}

/// Scenario 43: what the publisher has missed is seen in the ledger, and said again.
#[tokio::test]
async fn scenario_43_what_was_missed_is_published_again() {
    let shop = Runner::start().await;
    shop.add("A", 50).await;
    shop.reserve("o", &[("A", 2)]).await;
    shop.order("confirm", "o").await;
    shop.order("deduct", "o").await;
    shop.adds_up().await;
    let before = shop.published().await;
    // As if the publisher had been down: what it wrote of versions 2 and 3 is not there.
    for version in [2, 3] {
        let delete = shop.dynamodb.delete_item().table_name(LEDGER);
        delete.key("pk", text("A#0#main")).key("sk", number(version)).send().await.unwrap();
    }
    let report = shop.invoke("reconcile", &json!({"productId": "A"})).await;
    assert_eq!(report["holds"], false);
    assert_eq!(report["differences"][0]["what"], "the ledger ends before the stock unit");
    let port = shop.aws_url.rsplit(':').next().unwrap().to_owned();
    let told = holdfast(&["reconcile", "--aws-port", &port]).output().await.unwrap();
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let report = shop.invoke("reconcile", &json!({"republish": true})).await;
    assert_eq!(report["filled"], 2, "{report}");
    shop.adds_up().await;
    let after = shop.published().await;
    let again = &after[before.len()..];
    let names: BTreeSet<&str> = again.iter().map(|event| event["eventType"].as_str().unwrap()).collect();
    assert!(names.contains("InventoryUpdated") && names.contains("InventoryDeducted"), "{names:?}");
    assert!(again.iter().all(|event| event["eventId"].as_str().unwrap().ends_with(":republished")));
    one_content_for_each_id(&after);
    let unknown = shop.invoke("reconcile", &json!({"productId": "TYPO"})).await;
    assert!(unknown["errorMessage"].as_str().unwrap().contains("no product TYPO"), "{unknown}");
    let told = holdfast(&["reconcile", "--aws-port", &port]).output().await.unwrap();
    assert!(told.status.success(), "{told:?}");
}

/// A counter that somebody changed by hand is found, with the figures.
#[tokio::test]
async fn a_counter_changed_by_hand_is_found() {
    let shop = Runner::start().await;
    shop.add("A", 50).await;
    shop.add("B", 50).await;
    shop.reserve("o", &[("A", 2)]).await;
    shop.adds_up().await;
    let five = [(":n", number(5))];
    update_item(&shop.dynamodb, ("STOCK#A#0", "main"), "SET reserved = :n", &five).await;
    // The publisher does not take it for a movement: it is set aside.
    shop.until("it is set aside", async |shop: &Api| shop.queued("holdfast-publisher-dead").await == 1).await;
    let report = shop.invoke("reconcile", &Value::Null).await;
    let differences = report["differences"].as_array().unwrap();
    assert_eq!((&report["holds"], differences.len()), (&json!(false), 2), "{report}");
    let held = differences.iter().find(|d| d["held"] == 2).unwrap();
    assert_eq!((&held["stockUnit"], &held["reserved"]), (&json!("A at main, bucket 0"), &json!(5)));
    let sums = differences.iter().find(|d| d["found"] == json!([48, 5, 0])).unwrap();
    assert_eq!(sums["expected"], json!([48, 2, 0]));
}

/// The queue speaks SQS: what an SDK and `aws sqs` use.
#[tokio::test]
async fn the_queues_speak_sqs() {
    let shop = Runner::start().await;
    let sqs = shop.sqs();
    let urls = sqs.list_queues().send().await.unwrap();
    assert_eq!(urls.queue_urls().len(), 3);
    let url = sqs.get_queue_url().queue_name("holdfast-publisher-dead").send().await.unwrap();
    let url = url.queue_url().unwrap();
    let unknown = sqs.get_queue_url().queue_name("nope").send().await.unwrap_err();
    assert!(unknown.as_service_error().unwrap().is_queue_does_not_exist(), "{unknown:?}");
    sqs.send_message().queue_url(url).message_body("one").delay_seconds(900).send().await.unwrap();
    sqs.send_message().queue_url(url).message_body("two").send().await.unwrap();
    let entry = |id: &str| {
        aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder().id(id).message_body(id).build().unwrap()
    };
    let sent =
        sqs.send_message_batch().queue_url(url).entries(entry("a")).entries(entry("b")).send().await.unwrap();
    assert_eq!(sent.successful().len(), 2);
    let receive = || sqs.receive_message().queue_url(url).max_number_of_messages(10);
    let received = receive().wait_time_seconds(5).visibility_timeout(600).send().await.unwrap();
    let bodies: Vec<&str> = received.messages().iter().map(|m| m.body().unwrap()).collect();
    assert_eq!(bodies, ["two", "a", "b"], "the delayed one is not visible");
    assert!(receive().send().await.unwrap().messages().is_empty(), "nor are those in flight");
    let receipt = |i: usize| received.messages()[i].receipt_handle().unwrap();
    sqs.delete_message().queue_url(url).receipt_handle(receipt(0)).send().await.unwrap();
    let visible = sqs.change_message_visibility().queue_url(url).receipt_handle(receipt(1));
    visible.visibility_timeout(0).send().await.unwrap();
    let again = receive().send().await.unwrap();
    assert_eq!(again.messages()[0].body(), Some("a"));
    assert_eq!(shop.queued("holdfast-publisher-dead").await, 3);
    sqs.purge_queue().queue_url(url).send().await.unwrap();
    assert_eq!(shop.queued("holdfast-publisher-dead").await, 0);
    let port = shop.aws_url.rsplit(':').next().unwrap().to_owned();
    let sent = holdfast(&["send", "{}", "--aws-port", &port]).output().await.unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let refused = holdfast(&["send", "no JSON", "--aws-port", &port]).output().await.unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("the event is not JSON"));
}
