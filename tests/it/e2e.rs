//! The end-to-end suite: what a shop relies on, over HTTP, queue, bus, schedule and stream.
//!
//! It runs on the local runner, and, where `HOLDFAST_STACK` names one, on a deployed stack (`just e2e-stack`). There
//! the tests share everything, so each has products and orders of its own.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Api, Place, lines};

/// A schedule fires every minute.
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(150);

/// A name that no other test has.
fn own(name: &str) -> String {
    format!("{name}-{:08x}", fastrand::u32(..))
}

fn event(name: &str, order: &str, items: &[(&str, u64)]) -> Value {
    json!({"type": name, "orderId": order, "items": lines(items), "correlationId": "e2e"})
}

/// Waits until an event of this name was published of an order or product; answers with it.
async fn wait_for_event(shop: &Api, name: &str, of: &str) -> Value {
    shop.until(&format!("{name} of {of}"), async |shop: &Api| shop.published_count(name, of).await > 0).await;
    let all = shop.published().await;
    let about = |e: &&Value| e["eventType"] == name && (e["orderId"] == of || e["productId"] == of);
    all.iter().find(about).unwrap().clone()
}

#[tokio::test]
async fn an_order_over_http() {
    let shop = Place::open().await;
    let (shoe, hat, order, other) = (own("SHOE"), own("HAT"), own("order"), own("order"));
    shop.add(&shoe, 10).await;
    shop.add(&hat, 1).await;
    assert_eq!(shop.reserve(&order, &[(&shoe, 4), (&hat, 1)]).await.code_or_status(), (201, "RESERVED"));
    assert_eq!(shop.reserve(&order, &[(&hat, 1), (&shoe, 4)]).await.code_or_status(), (200, "RESERVED"));
    assert_eq!(shop.reserve(&order, &[(&shoe, 5)]).await.code_or_status(), (422, "order_lines_differ"));
    let short = shop.reserve(&other, &[(&shoe, 6), (&hat, 1)]).await;
    assert_eq!(short.code_or_status(), (409, "insufficient_stock"));
    assert_eq!(short.body["products"][0]["productId"], hat);
    assert_eq!((shop.stock(&shoe).await, shop.stock(&hat).await), ([6, 4, 0], [0, 1, 0]));
    assert_eq!(shop.order("confirm", &order).await.code_or_status(), (200, "CONFIRMED"));
    assert_eq!(shop.order("deduct", &order).await.code_or_status(), (200, "FULFILLED"));
    assert_eq!(shop.order("release", &order).await.code_or_status(), (409, "reservation_fulfilled"));
    assert_eq!(shop.reserve(&other, &[(&shoe, 6)]).await.code_or_status(), (201, "RESERVED"));
    assert_eq!(shop.order("release", &other).await.code_or_status(), (200, "RELEASED"));
    assert_eq!((shop.stock(&shoe).await, shop.stock(&hat).await), ([6, 0, 4], [0, 0, 1]));
    assert_eq!(wait_for_event(&shop, "InventoryDeducted", &order).await["complete"], true);
    shop.adds_up_for(&shoe).await;
}

/// By the queue and by the bus, in order and out of order.
#[tokio::test]
async fn orders_as_events() {
    let shop = Place::open().await;
    let (shoe, order, bus, given_up) = (own("SHOE"), own("order"), own("order"), own("order"));
    shop.add(&shoe, 10).await;
    shop.send_order_event(&event("OrderCreated", &order, &[(&shoe, 2)])).await;
    shop.until_status(&order, "RESERVED").await;
    let detail = json!({"orderId": bus, "items": lines(&[(&shoe, 3)])}).to_string();
    let entry = json!({
        "Source": "shop", "DetailType": "OrderCreated", "EventBusName": "holdfast-events", "Detail": detail,
    });
    shop.put_event(&entry).await;
    shop.until_status(&bus, "RESERVED").await;
    for name in ["PaymentSucceeded", "PaymentSucceeded", "OrderDelivered"] {
        shop.send_order_event(&event(name, &order, &[])).await;
    }
    shop.until_status(&order, "FULFILLED").await;
    shop.send_order_event(&event("OrderCancelled", &given_up, &[])).await;
    shop.until("it is noted", async |shop: &Api| !shop.status(&given_up).await.is_empty()).await;
    shop.send_order_event(&event("OrderCreated", &given_up, &[(&shoe, 5)])).await;
    shop.until_status(&given_up, "RELEASED").await;
    shop.send_order_event(&event("OrderCancelled", &bus, &[])).await;
    shop.until_status(&bus, "RELEASED").await;
    assert_eq!(shop.stock(&shoe).await, [8, 0, 2]);
    let reserved = wait_for_event(&shop, "InventoryReserved", &order).await;
    assert_eq!((&reserved["items"][0]["quantity"], &reserved["correlationId"]), (&json!(2), &json!("e2e")));
    wait_for_event(&shop, "InventoryDeducted", &order).await;
    wait_for_event(&shop, "InventoryReleased", &bus).await;
    shop.adds_up_for(&shoe).await;
}

/// A client that does not wait reads later what came of its orders.
#[tokio::test]
async fn orders_that_are_decided_later() {
    let shop = Place::open().await;
    let (shoe, order, greedy) = (own("SHOE"), own("order"), own("order"));
    shop.add(&shoe, 10).await;
    let accepted = shop.reserve_later(&order, &[(&shoe, 4)]).await;
    assert_eq!(accepted.code_or_status(), (202, "PENDING"));
    assert_eq!(shop.reserve_later(&greedy, &[(&shoe, 11)]).await.code_or_status(), (202, "PENDING"));
    let location = accepted.location.unwrap();
    shop.until("both are decided", async |shop: &Api| {
        shop.get(&location).await.status == 200 && !shop.status(&greedy).await.is_empty()
    })
    .await;
    let held = shop.get(&location).await;
    assert_eq!(held.code_or_status(), (200, "RESERVED"));
    for again in [shop.reserve(&order, &[(&shoe, 4)]).await, shop.reserve_later(&order, &[(&shoe, 4)]).await]
    {
        assert_eq!((again.status, &again.body), (200, &held.body));
    }
    assert_eq!(shop.reserve_later(&order, &[(&shoe, 5)]).await.code_or_status(), (422, "order_lines_differ"));
    assert_eq!(shop.status(&greedy).await, "REJECTED");
    assert_eq!(shop.reserve(&greedy, &[(&shoe, 11)]).await.code_or_status(), (409, "reservation_rejected"));
    assert_eq!(shop.stock(&shoe).await, [6, 4, 0]);
    wait_for_event(&shop, "InventoryReserved", &order).await;
    shop.adds_up_for(&shoe).await;
}

/// An order that does not fit, a booking that is not paid, and an order that has left; each in another shop's words.
#[tokio::test]
async fn orders_that_end_otherwise() {
    let shop = Place::open().await;
    let (shoe, greedy, booking, gone) = (own("SHOE"), own("order"), own("booking"), own("order"));
    shop.add(&shoe, 20).await;
    shop.send_order_event(&event("OrderCreated", &greedy, &[(&shoe, 21)])).await;
    let failed = wait_for_event(&shop, "StockReservationFailed", &greedy).await;
    assert_eq!((&failed["reason"], &failed["paid"]), (&json!("insufficient_stock"), &json!(false)));
    assert_eq!(failed["failedItems"][0]["availableQuantity"], 20);
    assert_eq!(shop.status(&greedy).await, "REJECTED");

    let booked = json!({"bookingId": booking, "itemId": shoe, "quantity": 12});
    shop.send_order_event(&json!({"eventType": "BookingCreated", "data": booked})).await;
    wait_for_event(&shop, "LowStock", &shoe).await;
    assert_eq!(shop.status(&booking).await, "RESERVED");
    shop.send_order_event(&json!({"eventType": "PaymentFailed", "data": {"bookingId": booking}})).await;
    assert_eq!(wait_for_event(&shop, "InventoryReleased", &booking).await["reason"], "payment_failed");

    shop.send_order_event(
        &json!({"event": "order.created", "data": {"orderId": gone, "items": lines(&[(&shoe, 3)])}}),
    )
    .await;
    shop.until_status(&gone, "RESERVED").await;
    shop.send_order_event(
        &json!({"event": "order.updated", "data": {"orderId": gone, "status": "delivered"}}),
    )
    .await;
    shop.until_status(&gone, "FULFILLED").await;
    shop.send_order_event(&json!({"event": "order.delivered", "data": {"orderId": gone}})).await;
    wait_for_event(&shop, "InventoryDeducted", &gone).await;
    shop.add(&shoe, 1).await;
    shop.until_published(2, "InventoryReplenished", &shoe).await;
    assert_eq!(shop.stock(&shoe).await, [18, 0, 3]);
    shop.adds_up_for(&shoe).await;
}

/// Neither reads nor refused requests change anything.
#[tokio::test]
async fn checks_and_bad_requests() {
    let shop = Place::open().await;
    let (shoe, nothing) = (own("SHOE"), own("NOTHING"));
    shop.add(&shoe, 7).await;
    let checked = shop.post("/api/inventory/check", &json!([shoe, nothing])).await;
    assert_eq!((checked.status, &checked.body[&shoe], &checked.body[&nothing]), (200, &json!(7), &json!(0)));
    let asked = json!({"productId": shoe, "quantity": 8});
    assert_eq!(shop.post("/api/inventory/check-availability", &asked).await.body["available"], false);
    assert_eq!(
        shop.get(&format!("/api/inventory/{nothing}")).await.code_or_status(),
        (404, "unknown_product")
    );
    assert_eq!(
        shop.reserve(&own("order"), &[(&nothing, 1)]).await.code_or_status(),
        (404, "unknown_product")
    );
    for quantity in [json!(-1), json!(0), json!(1.5), json!("two"), json!(1_000_001), json!(null)] {
        for path in ["reserve", "add", "check-availability"] {
            let mut body = json!({"productId": shoe, "quantity": quantity});
            if path == "reserve" {
                body["orderId"] = own("order").into();
            }
            let refused = shop.post(&format!("/api/inventory/{path}"), &body).await;
            assert_eq!(refused.code_or_status(), (400, "invalid_request"), "{path} {body}");
            assert!(
                refused.body["detail"].as_str().unwrap().contains("quantity"),
                "{path} {body}: {refused:?}"
            );
        }
    }
    for text in ["", "{", "[]", "null", "\u{1f45f}"] {
        let refused = shop.post_text("/api/inventory/reserve", text, &[]).await;
        assert_eq!(refused.code_or_status(), (400, "invalid_request"), "{text}");
    }
    assert_eq!(shop.stock(&shoe).await, [7, 0, 0]);
    shop.adds_up_for(&shoe).await;
}

/// Nobody comes: the schedule gives it back, and the stream tells of it.
#[tokio::test]
async fn a_hold_that_nobody_comes_for() {
    let shop = Place::open().await;
    let (shoe, order) = (own("SHOE"), own("order"));
    shop.add(&shoe, 5).await;
    let body = json!({"orderId": order, "productId": shoe, "quantity": 5, "ttlSeconds": 1});
    assert_eq!(shop.post("/api/inventory/reserve", &body).await.status, 201);
    wait_for_event(&shop, "OutOfStock", &shoe).await;
    shop.until_within(A_MINUTE_AND_MORE, "it is given back", async |shop: &Api| {
        shop.stock(&shoe).await == [5, 0, 0]
    })
    .await;
    assert_eq!(shop.order("confirm", &order).await.code_or_status(), (409, "reservation_expired"));
    wait_for_event(&shop, "ReservationExpired", &order).await;
    wait_for_event(&shop, "BackInStock", &shoe).await;
    shop.adds_up_for(&shoe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_race_for_the_last_ten() {
    let shop = Place::open().await;
    let shoe = own("SHOE");
    shop.add(&shoe, 10).await;
    let orders: Vec<String> = (0..60).map(|_| own("order")).collect();
    let bought = join_all(orders.iter().map(async |order| shop.reserve(order, &[(&shoe, 1)]).await)).await;
    let told = |status: u16| bought.iter().filter(|answer| answer.status == status).count();
    assert_eq!((told(201), told(409)), (10, 50), "{bought:?}");
    assert_eq!(shop.stock(&shoe).await, [0, 10, 0]);
    for (order, answer) in orders.iter().zip(&bought) {
        assert_eq!(shop.status(order).await, if answer.status == 201 { "RESERVED" } else { "" });
    }
    shop.adds_up_for(&shoe).await;
}

#[tokio::test]
async fn a_poison_message_ends_in_the_dead_letter_queue() {
    let shop = Place::open().await;
    let (shoe, order) = (own("SHOE"), own("order"));
    shop.add(&shoe, 5).await;
    let before = shop.queued("holdfast-orders-dead").await;
    shop.send_order_event(&json!({"type": "OrderCreated", "orderId": own("poison"), "items": "none"})).await;
    shop.send_order_event(&event("OrderCreated", &order, &[(&shoe, 1)])).await;
    shop.until_status(&order, "RESERVED").await;
    shop.until_within(A_MINUTE_AND_MORE, "the bad one is set aside", async |shop: &Api| {
        shop.queued("holdfast-orders-dead").await == before + 1
    })
    .await;
    assert_eq!(shop.stock(&shoe).await, [4, 1, 0]);
}

/// Functions are ended in the middle of their work: queues deliver again, clients ask again, nothing counts twice.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_killed() {
    let shop = Place::alone().await;
    let shoe = own("SHOE");
    shop.add(&shoe, 1_000).await;
    let told: Vec<String> = (0..60).map(|_| own("told")).collect();
    let asked: Vec<String> = (0..60).map(|_| own("asked")).collect();
    for order in &told {
        shop.send_order_event(&event("OrderCreated", order, &[(&shoe, 2)])).await;
    }
    let asking = join_all(asked.iter().map(async |order| {
        let body = json!({"orderId": order, "productId": shoe, "quantity": 1});
        loop {
            match shop.try_post("/api/inventory/reserve", &body).await.map(|answer| answer.status) {
                Some(200 | 201) => return,
                Some(500 | 502 | 503) | None => {}
                Some(other) => panic!("{order}: {other}"),
            }
        }
    }));
    let killing = async {
        let mut killed = 0;
        while killed < 6 {
            killed += shop.kill("reserve") + shop.kill("order-events") + shop.kill("publisher");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let both = async { tokio::join!(asking, killing) };
    tokio::time::timeout(A_MINUTE_AND_MORE, both)
        .await
        .expect("all are answered, and six processes were ended");
    shop.until_within(A_MINUTE_AND_MORE, "all that was told is held", async |shop: &Api| {
        shop.stock(&shoe).await == [1_000 - 180, 180, 0]
    })
    .await;
    for order in told.iter().chain(&asked) {
        assert_eq!(shop.status(order).await, "RESERVED");
        wait_for_event(&shop, "InventoryReserved", order).await;
    }
    shop.adds_up_for(&shoe).await;
}

#[tokio::test]
async fn who_may_do_what() {
    let shop = Place::open().await;
    let (shoe, order) = (own("SHOE"), own("order"));
    let (admin, system, nobody) =
        (shop.with_role("ADMIN"), shop.with_role("SYSTEM"), shop.with_role("NOBODY"));
    admin.add(&shoe, 5).await;
    let (stranger, machine) = (shop.with_token("nonsense"), shop.with_role("MACHINE"));
    let add = json!({"productId": shoe, "quantity": 1});
    for (caller, to_add, to_reserve) in [
        (&stranger, 401, 401),
        (&nobody, 403, 403),
        (&system, 403, 201),
        (&machine, 403, 200),
        (&admin, 200, 403),
    ] {
        assert_eq!(caller.post("/api/inventory/add", &add).await.status, to_add);
        assert_eq!(caller.reserve(&order, &[(&shoe, 1)]).await.status, to_reserve);
    }
    assert_eq!(stranger.get(&format!("/api/inventory/{shoe}")).await.status, 200, "anybody may read stock");
    assert_eq!(shop.stock(&shoe).await, [5, 1, 0]);
}

/// A request that a role does not allow is refused and changes nothing, and its caller learns that it is not at fault.
#[tokio::test]
async fn a_permission_taken_away() {
    let shop = Place::without("settle", "dynamodb:UpdateItem").await;
    let (shoe, order) = (own("SHOE"), own("order"));
    shop.add(&shoe, 5).await;
    assert_eq!(shop.reserve(&order, &[(&shoe, 1)]).await.status, 201);
    shop.until("it is refused", async |shop: &Api| {
        shop.order("confirm", &order).await.code_or_status() == (500, "internal")
    })
    .await;
    assert_eq!((shop.stock(&shoe).await, shop.status(&order).await), ([4, 1, 0], "RESERVED".to_owned()));
    shop.restore("settle").await;
}
