//! The reconciliation of stock that does not stand still: it is compared, or said not to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use shared::domain::fixtures::unit_key;

use crate::support::faults::{FaultProxy, Gate, Trouble, for_good};
use crate::support::tables::{RETRY, at, number, update_item};
use crate::support::{Api, Runner, Tables, deps};

/// Sells for as long as it is told to: holds, of which some are confirmed, shipped or given back.
fn sells(api: &Api, seller: usize, going: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (api, going) = (api.clone(), Arc::clone(going));
    tokio::spawn(async move {
        for i in 0.. {
            if !going.load(Ordering::SeqCst) {
                return;
            }
            let order = format!("seller-{seller}-{i}");
            assert_eq!(api.reserve(&order, &[("A", 1)]).await.status, 201);
            let verb = ["extend", "confirm", "release", "deduct"][i % 4];
            assert_eq!(api.order(verb, &order).await.status, 200);
        }
    })
}

/// Scenario 60: a product that never stops selling is compared while it sells; and if its figure is wrong, that is
/// found.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_60_a_product_that_never_stops_selling() {
    let shop = Runner::start().await;
    shop.add("A", 900_000).await;
    shop.add("QUIET", 5).await;
    for i in 0..20 {
        assert_eq!(shop.reserve(&format!("held-{i}"), &[("A", 2)]).await.status, 201);
    }
    let going = Arc::new(AtomicBool::new(true));
    let sellers: Vec<_> = (0..2).map(|seller| sells(&shop, seller, &going)).collect();
    let mut moved = 0;
    while moved < 3 {
        let report = shop.invoke("reconcile", &Value::Null).await;
        let not_compared = report["notCompared"].as_array().unwrap();
        assert_eq!(report["holds"] == true, not_compared.is_empty(), "{report}");
        assert_eq!(report["differences"], json!([]), "{report}");
        moved += usize::from(report["busy"] == json!(["A at main, bucket 0"]) && report["holds"] == true);
    }
    let add_to_reserved = async |n: i64| {
        let change = "SET reserved = reserved + :n, version = version + :one";
        let values = [(":n", number(n)), (":one", number(1))];
        update_item(&shop.dynamodb, ("STOCK#A#0", "main"), change, &values).await;
    };
    add_to_reserved(3).await;
    let report = shop.invoke("reconcile", &json!({"productId": "A"})).await;
    assert_eq!((&report["holds"], &report["notCompared"]), (&json!(false), &json!([])), "{report}");
    let [difference] = report["differences"].as_array().unwrap().as_slice() else { panic!("{report}") };
    let figure = |name: &str| difference[name].as_u64().unwrap();
    assert_eq!(figure("reserved"), figure("held") + 3, "{report}");
    // What the alarm looks at.
    let counted = async |_: &Api| shop.log().iter().any(|line| line.contains("\"ReconcileDifferences\":1"));
    shop.until("it is counted", counted).await;
    add_to_reserved(-3).await;
    going.store(false, Ordering::SeqCst);
    for seller in sellers {
        seller.await.unwrap();
    }
    shop.adds_up().await;
}

/// The stock moves while the reservations are read, and nobody writes the ledger: how it moved is not known. That
/// the ledger was whole and the figures agreed before does not make it hold.
#[tokio::test]
async fn scenario_60_what_was_not_compared_does_not_hold() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    tables.add("B", 20).await;
    let settings = [("EVENT_BUS", "holdfast-events"), ("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1/q")];
    let outbox = publisher::Outbox::connect(deps(tables.store.clone(), &settings), || {
        shared::aws::config_for(&tables.url, "publisher")
    })
    .await
    .unwrap();
    let batch = json!({"Records": tables.stream().await});
    publisher::handle(&outbox, &batch, &at(0)).await.unwrap();

    let proxy = FaultProxy::to(&tables.url).await;
    let deps = deps(Tables::store_over(&proxy.url, "reconcile", RETRY).await, &settings);
    let config = shared::aws::config_for(&tables.url, "reconcile");
    let reconciler = reconcile::Reconciler::connect(deps, config).await.unwrap();
    let gate = Gate::default();
    proxy.inject_until(for_good(), &["Scan"], Trouble::Held(gate.clone()));
    let (mut invocation, asked) = (at(0), Value::Null);
    invocation.deadline += std::time::Duration::from_secs(30);
    let reconciling = reconcile::handle(&reconciler, &asked, &invocation);
    let moving = async {
        // Once for the sums, and once for those who hold what has moved.
        for _ in 0..2 {
            gate.meanwhile(tables.add("A", 1)).await;
        }
    };
    let (report, ()) = tokio::join!(reconciling, moving);
    let report = report.unwrap();
    assert_eq!((&report["holds"], &report["differences"]), (&json!(false), &json!([])), "{report}");
    let behind = json!([{"stockUnit": "A at main, bucket 0", "why": "the ledger is behind"}]);
    assert_eq!((&report["busy"], &report["notCompared"]), (&json!(["A at main, bucket 0"]), &behind));
    assert_eq!(tables.store.movements(&unit_key("B"), 0, 1, &at(0)).await.unwrap().len(), 1);
}

/// Ten orders of many lines with long names: their events are more than one request to the bus takes.
#[tokio::test]
async fn large_orders_are_republished_in_several_requests() {
    let tables = Tables::start().await;
    let deps = deps(tables.store.clone(), &[("EVENT_BUS", "holdfast-events")]);
    let line =
        |i: usize| json!({"productId": format!("{i:0>100}"), "location": "x".repeat(100), "quantity": 1});
    let items: Vec<Value> = (0..60).map(line).collect();
    for order in 0..10 {
        let order_id = format!("o-{order}");
        let body = json!({"eventType": "OrderCreated", "orderId": order_id, "items": items}).to_string();
        let batch = json!({"Records": [{"messageId": "m-1", "body": body}]});
        let answer = order_events::handle(&deps, &batch, &at(0)).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
    }

    let config = shared::aws::config_for(&tables.url, "reconcile");
    let reconciler = reconcile::Reconciler::connect(deps, config).await.unwrap();
    let asked = json!({"republish": true, "sinceHours": 1});
    let report = reconcile::handle(&reconciler, &asked, &at(5_000)).await.unwrap();
    assert_eq!((&report["reservations"], &report["published"]), (&json!(10), &json!(10)), "{report}");
    let published = Api::new(String::new(), tables.url.clone()).published().await;
    let bytes: usize = published.iter().map(|event| event.to_string().len()).sum();
    assert!(published.len() == 10 && bytes > 256 * 1024, "{} events of {bytes} bytes", published.len());
    assert!(published.iter().all(|event| event["eventType"] == "StockReservationFailed"), "{published:?}");
}
