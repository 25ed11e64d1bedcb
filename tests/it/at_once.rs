//! Several requests at once in one process of a function.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::faults::through_fault_proxy;
use crate::support::process::{proc_entries, signal};
use crate::support::{Answer, Api, Runner};

/// Starts to reserve one of a product, under the order's id as correlation id.
async fn reserve(shop: &Api, order: &str, product: &str) -> Answer {
    let body = json!({"orderId": order, "productId": product, "quantity": 1}).to_string();
    shop.post_text("/api/inventory/reserve", &body, &[("x-correlation-id", order)]).await
}

fn orders(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("at-once-{n}")).collect()
}

/// A product for each request, with five units: on one product, requests of a process would wait for each other and go
/// together.
async fn products_for(shop: &Runner, count: usize) -> Vec<String> {
    let products: Vec<String> = (0..count).map(|i| format!("A{i}")).collect();
    for product in &products {
        shop.add(product, 5).await;
    }
    products
}

/// The lines of `reserve` that the runner's functions have logged.
fn lines(shop: &Runner) -> Vec<Value> {
    let lines: Vec<Value> = shop.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    lines.into_iter().filter(|line| line["operation"] == "reserve").collect()
}

/// Both requests are inside one process before either is answered. Each is answered, counted and logged as what it is.
#[tokio::test]
async fn requests_in_one_process_do_not_mix() {
    let (shop, proxy) = through_fault_proxy(&["--concurrency", "1x2"]).await;
    shop.add("A", 5).await;
    shop.post("/api/inventory", &json!({"productId": "B", "quantity": 0})).await;
    let gate = proxy.close_gate();
    let orders = orders(2);
    let both_are_inside = async {
        gate.holds(&shop, &orders).await;
        assert_eq!(shop.processes("reserve").len(), 1);
        gate.open();
    };
    let (held, short, ()) =
        tokio::join!(reserve(&shop, &orders[0], "A"), reserve(&shop, &orders[1], "B"), both_are_inside);
    assert_eq!((held.status, held.body["orderId"].as_str()), (201, Some(orders[0].as_str())), "{held:?}");
    assert_eq!(short.code_or_status(), (409, "insufficient_stock"), "{short:?}");
    assert_eq!(
        [held.correlation_id, short.correlation_id],
        [Some(orders[0].clone()), Some(orders[1].clone())]
    );
    assert_eq!(short.body["correlationId"], orders[1]);

    // A line of log and one of metrics for each of them.
    shop.until("it is logged", async |_| lines(&shop).len() == 4).await;
    let lines = lines(&shop);
    for (order, outcome, metric) in
        [(&orders[0], "ok", "ReservationsHeld"), (&orders[1], "insufficient_stock", "ReservationsRefused")]
    {
        let logged: Vec<&Value> = lines.iter().filter(|line| line["correlation_id"] == **order).collect();
        assert_eq!(logged.len(), 1, "{order}: {lines:?}");
        assert_eq!(logged[0]["outcome"], outcome);
        let counted: Vec<&Value> = lines.iter().filter(|line| line[metric].is_u64()).collect();
        assert_eq!(counted.len(), 1, "{metric}: {lines:?}");
        assert_eq!(counted[0][metric], 1);
        let metrics = counted[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(
            !metrics.iter().any(|m| m["Name"] != metric && m["Name"].as_str().unwrap().starts_with("Res"))
        );
    }
    shop.conserves(&[("A", 5)]).await;
}

/// Changes without a key are given one each, also while they are in one process: both are applied.
#[tokio::test]
async fn keyless_changes_in_one_process_are_two_changes() {
    let (shop, proxy) = through_fault_proxy(&["--concurrency", "1x2"]).await;
    for product in ["A", "B"] {
        shop.add(product, 1).await;
    }
    let gate = proxy.close_gate();
    // Of two products: on one, the second would wait for the first.
    let add = async |product: &str| {
        shop.post("/api/inventory/add", &json!({"productId": product, "quantity": 10})).await
    };
    let both_are_inside = async {
        let ids = || {
            let keys =
                gate.bodies().into_iter().filter_map(|body| Some(body.split_once("IDEM#add#")?.1.to_owned()));
            keys.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect::<BTreeSet<_>>()
        };
        shop.until("two keys are there", async |_| ids().len() == 2).await;
        gate.open();
    };
    let (first, second, ()) = tokio::join!(add("A"), add("B"), both_are_inside);
    assert_eq!([first.status, second.status], [200, 200], "{first:?} {second:?}");
    assert_eq!(shop.processes("stock-admin").len(), 1);
    assert_eq!([shop.stock("A").await, shop.stock("B").await], [[11, 0, 0]; 2]);
}

/// What a request asks of DynamoDB carries the trace of this request, not that of another in the same process.
#[tokio::test]
async fn each_request_has_its_own_trace() {
    let (shop, proxy) = through_fault_proxy(&["--concurrency", "1x2"]).await;
    shop.add("A", 5).await;
    let orders = orders(2);
    let mut records = Vec::new();
    for order in &orders {
        let reserved = reserve(&shop, order, "A").await;
        // Not the id alone: the publisher names it, too.
        records.push(format!("RES#{}", reserved.body["reservationId"].as_str().unwrap()));
    }
    let gate = proxy.close_gate();
    let extend = async |order: &String| {
        shop.post("/api/inventory/extend", &json!({"orderId": order, "ttlSeconds": 7_200})).await
    };
    let both_are_inside = async {
        gate.holds(&shop, &records).await;
        gate.open();
    };
    let (first, second, ()) = tokio::join!(extend(&orders[0]), extend(&orders[1]), both_are_inside);
    assert_eq!([first.status, second.status], [200, 200], "{first:?} {second:?}");
    let mut all = BTreeSet::new();
    for record in &records {
        let traces = gate.traces(record);
        assert!(traces.len() >= 2, "a read and a write: {traces:?}");
        let different: BTreeSet<String> = traces.into_iter().map(Option::unwrap).collect();
        assert_eq!(different.len(), 1, "{different:?}");
        all.extend(different);
    }
    assert_eq!(all.len(), 2, "{all:?}");
}

/// Where a process is full, another is started; where all are, a request waits.
#[tokio::test]
async fn a_full_process_is_joined_by_another() {
    let (shop, proxy) = through_fault_proxy(&["--concurrency", "2x2"]).await;
    let (orders, products) = (orders(5), products_for(&shop, 5).await);
    let gate = proxy.close_gate();
    let four_are_inside = async {
        let held = || orders.iter().filter(|order| !gate.traces(order).is_empty()).count();
        shop.until("four are inside", async |_| held() == 4).await;
        assert_eq!(shop.processes("reserve").len(), 2);
        gate.open();
    };
    let reserving =
        join_all(orders.iter().zip(&products).map(|(order, product)| reserve(&shop, order, product)));
    let (answers, ()) = tokio::join!(reserving, four_are_inside);
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(shop.processes("reserve").len(), 2);
    for product in &products {
        assert_eq!(shop.stock(product).await, [4, 1, 0]);
    }
}

/// A process that is killed is answered for at once, with everything that is under way in it. Another takes its place,
/// and the requests can be repeated.
#[tokio::test]
async fn a_killed_process_is_answered_for_with_all_its_requests() {
    let (shop, proxy) = through_fault_proxy(&["--concurrency", "1x3"]).await;
    let (orders, products) = (orders(3), products_for(&shop, 3).await);
    let gate = proxy.close_gate();
    let killing = async {
        gate.holds(&shop, &orders).await;
        let processes = shop.processes("reserve");
        assert_eq!(processes.len(), 1);
        signal("KILL", processes[0].0).await;
        processes[0].0
    };
    let reserve_all =
        || join_all(orders.iter().zip(&products).map(|(order, product)| reserve(&shop, order, product)));
    // The gate is still closed: nothing but the end of the process can be what is answered.
    let (answers, killed) = tokio::join!(reserve_all(), killing);
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (500, &json!({"message": "Internal Server Error"})));
    }
    gate.open();
    let again = reserve_all().await;
    assert!(again.iter().all(|answer| [200, 201].contains(&answer.status)), "{again:?}");
    let processes = shop.processes("reserve");
    assert!(processes.len() == 1 && processes[0].0 != killed, "{processes:?}");
    let added: Vec<(&str, u64)> = products.iter().map(|product| (product.as_str(), 5)).collect();
    shop.conserves(&added).await;
    for product in &products {
        assert_eq!(shop.stock(product).await, [4, 1, 0]);
    }
}

/// Functions that streams and schedules call are not told to work on several at once, and no function is if the runner
/// is not.
#[tokio::test]
async fn who_works_on_several_at_once_is_told_so() {
    let most_of = async |concurrency: &str| {
        let shop = Runner::with(&["--concurrency", concurrency, "--sweep-every", "1s"]).await;
        shop.add("A", 5).await;
        reserve(&shop, "order-1", "A").await;
        shop.send_order_event(&json!({"type": "OrderCancelled", "orderId": "order-1"})).await;
        shop.until("it is released", async |shop| shop.status("order-1").await == "RELEASED").await;
        shop.until("all were called", async |_| shop.functions().len() >= 6).await;
        let told = |(id, function): (u32, String)| {
            let environment = proc_entries(id, "environ");
            let most = environment.iter().find_map(|e| e.strip_prefix("AWS_LAMBDA_MAX_CONCURRENCY="));
            (function, most.map(str::to_owned))
        };
        shop.functions().into_iter().map(told).collect::<std::collections::BTreeMap<_, _>>()
    };
    let several = most_of("2x3").await;
    for function in ["stock-admin", "reserve", "check", "order-events"] {
        assert_eq!(several[function].as_deref(), Some("3"), "{several:?}");
    }
    for function in ["publisher", "expiry-sweep"] {
        assert_eq!(several[function], None, "{several:?}");
    }
    let one = most_of("2").await;
    assert!(one.values().all(Option::is_none), "{one:?}");
}
