//! The scenarios of `docs/scenarios.md` that concern one order, over HTTP.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::Runner;

#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_the_same_order_fifty_times_at_once() {
    let shop = Runner::start().await;
    shop.add("A", 100).await;
    let answers = join_all((0..50).map(|_| shop.reserve("order-1", &[("A", 3)]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 49);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(shop.stock("A").await, [97, 3, 0]);
    shop.conserves(&[("A", 100)]).await;
}

#[tokio::test]
async fn scenarios_12_13_32_other_lines_and_the_same_lines_split() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.add("B", 10).await;
    let first = shop.reserve("order-1", &[("A", 1), ("B", 1), ("A", 2)]).await;
    assert_eq!(first.code_or_status(), (201, "RESERVED"));
    assert_eq!(first.body["items"].as_array().unwrap().len(), 2, "summed: {first:?}");
    let split = shop.reserve("order-1", &[("B", 1), ("A", 3)]).await;
    assert_eq!((split.status, split.body), (200, first.body));
    let other = shop.reserve("order-1", &[("A", 3)]).await;
    assert_eq!(other.code_or_status(), (422, "order_lines_differ"));
    assert_eq!((shop.stock("A").await, shop.stock("B").await), ([7, 3, 0], [9, 1, 0]));
    // Who sends an order's products one by one is told what the order has, and what would be right.
    let next = shop.reserve("order-1", &[("B", 1)]).await;
    let held = json!([
        {"productId": "A", "location": "main", "quantity": 3}, {"productId": "B", "location": "main", "quantity": 1},
    ]);
    assert_eq!(next.body["items"], held);
    assert!(next.body["detail"].as_str().unwrap().contains("with all its lines in items[]"), "{}", next.body);
    shop.adds_up().await;
}

/// A line may be sent as a shop has it, and an order of one line is answered as it was asked.
#[tokio::test]
async fn a_line_as_a_shop_writes_it() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.add("B", 10).await;
    let flat = json!({"orderId": "order-1", "sku": "A", "quantity": 2, "unitPrice": 9.99, "price": "19.98", "name": "Pair"});
    let held = shop.post("/api/inventory/reserve", &flat).await;
    assert_eq!(held.code_or_status(), (201, "RESERVED"));
    let line = ["productId", "location", "quantity"].map(|member| &held.body[member]);
    assert_eq!(line, [&json!("A"), &json!("main"), &json!(2)]);
    let items = json!([
        {"productId": "A", "quantity": 1, "unitPrice": {"amount": 1}, "name": null},
        {"productId": "B", "quantity": 1, "price": [1]},
    ]);
    let two = shop.post("/api/inventory/reserve", &json!({"orderId": "order-2", "items": items})).await;
    assert_eq!((two.code_or_status(), &two.body["productId"]), ((201, "RESERVED"), &Value::Null));
    let unknown =
        json!({"orderId": "order-3", "items": [{"productId": "A", "quantity": 1, "colour": "red"}]});
    assert_eq!(
        shop.post("/api/inventory/reserve", &unknown).await.code_or_status(),
        (400, "invalid_request")
    );
}

/// A reason is kept as it was given; that the payment failed has a meaning in any spelling.
#[tokio::test]
async fn a_reason_is_free_text() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    for (order, reason) in [("order-1", "Payment failed"), ("order-2", "Kunde will doch nicht – schade!")] {
        shop.reserve(order, &[("A", 1)]).await;
        let released =
            shop.post("/api/inventory/release", &json!({"orderId": order, "reason": reason})).await;
        assert_eq!(
            (released.code_or_status(), &released.body["reason"]),
            ((200, "RELEASED"), &json!(reason))
        );
    }
    for order in ["order-1", "order-2"] {
        shop.send_order_event(&json!({"eventType": "OrderPaid", "orderId": order})).await;
    }
    shop.until_status("order-1", "CONFIRMED").await;
    shop.until_published(1, "InventoryConfirmationRefused", "order-2").await;
    assert_eq!((shop.status("order-2").await.as_str(), shop.stock("A").await), ("RELEASED", [9, 1, 0]));
    for bad in [" ".to_owned(), "x".repeat(201)] {
        let refused =
            shop.post("/api/inventory/release", &json!({"orderId": "order-1", "reason": bad})).await;
        assert_eq!(refused.code_or_status(), (400, "invalid_request"), "{bad:?}");
    }
    shop.adds_up().await;
}

/// Also scenario 4: the reserve that comes late meets the tombstone.
#[tokio::test]
async fn scenario_16_released_before_reserved() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    assert_eq!(shop.order("release", "order-1").await.code_or_status(), (200, "PENDING"));
    assert_eq!(shop.reserve("order-1", &[("A", 1)]).await.code_or_status(), (409, "reservation_released"));
    assert_eq!(shop.order("confirm", "order-1").await.code_or_status(), (409, "reservation_released"));
    assert_eq!(shop.stock("A").await, [10, 0, 0]);
    let unknown = json!({"reservationId": "00000000-0000-4000-8000-000000000000"});
    let by_id = shop.post("/api/inventory/release", &unknown).await;
    assert_eq!(by_id.code_or_status(), (404, "reservation_not_found"));
    shop.adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_17_released_by_many_is_given_back_once() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.reserve("order-1", &[("A", 4)]).await;
    let release = |i: usize| {
        let reason = if i.is_multiple_of(2) { "order_cancelled" } else { "payment_failed" };
        let body = json!({"orderId": "order-1", "reason": reason});
        let shop = &shop;
        async move { shop.post("/api/inventory/unreserve", &body).await }
    };
    let answers = join_all((0..20).map(release)).await;
    assert!(answers.iter().all(|answer| answer.code_or_status() == (200, "RELEASED")), "{answers:?}");
    assert_eq!(shop.stock("A").await, [10, 0, 0]);
    shop.conserves(&[("A", 10)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_22_confirm_and_deduct_twice() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.reserve("order-1", &[("A", 4)]).await;
    for verb in ["confirm", "deduct"] {
        let answers = join_all((0..8).map(|_| shop.order(verb, "order-1"))).await;
        assert!(
            answers.iter().all(|answer| (answer.status, &answer.body) == (200, &answers[0].body)),
            "{answers:?}"
        );
    }
    assert_eq!(shop.stock("A").await, [6, 0, 4]);
    shop.conserves(&[("A", 10)]).await;
}

#[tokio::test]
async fn a_part_shipment_leaves_once() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.reserve("order-1", &[("A", 4)]).await;
    let part = |id: &str, quantity: u64| {
        let body = json!({"orderId": "order-1", "shipmentId": id, "items": [{"productId": "A", "quantity": quantity}]});
        let shop = &shop;
        async move { shop.post("/api/inventory/deduct", &body).await }
    };
    let null = json!({"orderId": "order-1", "items": null});
    assert_eq!(shop.post("/api/inventory/deduct", &null).await.code_or_status(), (400, "invalid_request"));
    assert_eq!(part("first", 1).await.code_or_status(), (200, "RESERVED"));
    assert_eq!(part("first", 1).await.body["items"][0]["fulfilledQuantity"], 1);
    assert_eq!(part("first", 2).await.code_or_status(), (422, "shipment_differs"));
    assert_eq!(part("second", 4).await.code_or_status(), (409, "not_held"));
    assert_eq!(shop.stock("A").await, [6, 3, 1]);
    assert_eq!(part("second", 3).await.code_or_status(), (200, "FULFILLED"));
    assert_eq!(shop.stock("A").await, [6, 0, 4]);
    shop.adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_30_the_last_unit_and_two_hundred_buyers() {
    let shop = Runner::start().await;
    shop.add("LAST", 1).await;
    let orders: Vec<String> = (0..200).map(|i| format!("order-{i}")).collect();
    let answers = join_all(orders.iter().map(|order| shop.reserve(order, &[("LAST", 1)]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    let told = answers.iter().filter(|answer| answer.code_or_status() == (409, "insufficient_stock")).count();
    assert_eq!(told, 199);
    assert_eq!(shop.stock("LAST").await, [0, 1, 0]);
    shop.adds_up().await;
}

#[tokio::test]
async fn scenario_33_ninety_nine_products_fit_one_more_does_not() {
    let shop = Runner::start().await;
    let products: Vec<String> = (0..100).map(|i| format!("P{i:03}")).collect();
    join_all(products.iter().map(|product| shop.add(product, 1))).await;
    let items: Vec<(&str, u64)> = products.iter().map(|product| (product.as_str(), 1)).collect();
    let calls = shop.calls().await;
    for too_many in [&items[..], &[&items[..], &[("MORE", 1)]].concat()[..]] {
        let refused = shop.reserve("order-1", too_many).await;
        assert_eq!(refused.code_or_status(), (400, "invalid_request"));
        assert!(refused.body["detail"].as_str().unwrap().contains("at most 99"), "{refused:?}");
    }
    assert_eq!(shop.calls().await, calls, "refused before any write");
    assert_eq!(shop.reserve("order-1", &items[..99]).await.code_or_status(), (201, "RESERVED"));
    assert_eq!(shop.order("release", "order-1").await.code_or_status(), (200, "RELEASED"));
    assert_eq!(shop.stock("P098").await, [1, 0, 0]);
    shop.adds_up().await;
}

#[tokio::test]
async fn both_ids_name_one_order() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let id = shop.reserve("#1001/ü", &[("A", 1)]).await.body["reservationId"].clone();
    let disagree =
        shop.post("/api/inventory/confirm", &json!({"reservationId": id, "orderId": "other"})).await;
    assert_eq!(disagree.code_or_status(), (400, "invalid_request"));
    let neither = shop.post("/api/inventory/confirm", &json!({})).await;
    assert_eq!(neither.code_or_status(), (400, "invalid_request"));
    let agree = shop.post("/inventory/confirm", &json!({"reservationId": id, "bookingId": "#1001/ü"})).await;
    assert_eq!(agree.code_or_status(), (200, "CONFIRMED"));
    // By its order id it cannot be read: the gateway takes the slash for one between two parts of the path.
    let id = id.as_str().unwrap();
    let found = shop.get(&format!("/api/inventory/reservations/{id}")).await;
    assert_eq!(found.body["orderId"], "#1001/ü");
    let none = shop.get("/api/inventory/reservations/order/other").await;
    assert_eq!((none.status, none.body), (200, json!({"items": []})));
    assert_eq!(shop.get("/api/inventory/reservations/x").await.code_or_status(), (400, "invalid_request"));
    shop.adds_up().await;
}

#[tokio::test]
async fn a_hold_is_extended_but_not_beyond_what_may_be() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let first = shop.reserve("order-1", &[("A", 1)]).await;
    let extend = |seconds: serde_json::Value| {
        let body = json!({"orderId": "order-1", "ttlSeconds": seconds});
        let shop = &shop;
        async move { shop.post("/api/inventory/extend", &body).await }
    };
    let longer = extend(json!(3_600)).await;
    assert_eq!(longer.code_or_status(), (200, "RESERVED"));
    assert!(longer.body["expiresAt"].as_str() > first.body["expiresAt"].as_str());
    let shorter = extend(json!(1)).await;
    assert_eq!(shorter.body["expiresAt"], longer.body["expiresAt"], "never shortened");
    for bad in [json!(0), json!(86_401), json!("long"), json!(-1)] {
        assert_eq!(extend(bad).await.code_or_status(), (400, "invalid_request"));
    }
    shop.order("confirm", "order-1").await;
    assert_eq!(extend(json!(60)).await.code_or_status(), (409, "reservation_confirmed"));
    shop.adds_up().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_sentence() {
    let shop = Runner::start().await;
    let long = "x".repeat(200_000);
    for (body, says, sentence) in [
        ("", 400, "empty"),
        ("{", 400, "EOF"),
        ("[]", 400, "not as it must be"),
        ("{}", 400, "missing field `orderId`"),
        ("{\"orderId\":\"o\"} x", 400, "after its end"),
        ("{\"orderId\":\"o\"}", 400, "productId and quantity are missing"),
        ("{\"orderId\":\"o\",\"productId\":\"A\"}", 400, "quantity is missing"),
        ("{\"orderId\":\"o\",\"items\":[]}", 400, "at least one line"),
        ("{\"orderId\":\"o\",\"productId\":\"A\",\"quantity\":1,\"items\":[]}", 400, "not both"),
        ("{\"orderId\":\" o\",\"productId\":\"A\",\"quantity\":1}", 400, "no space at either end"),
        (
            "{\"orderId\":\"o\",\"productId\":\"a b\",\"quantity\":1}",
            400,
            "a product id has 1 to 100 characters",
        ),
        ("{\"orderId\":\"o\",\"productId\":7,\"quantity\":1}", 400, "productId: invalid type: integer `7`"),
        ("{\"orderId\":\"o\",\"orderId\":\"p\"}", 400, "duplicate field"),
        (long.as_str(), 413, "at most 131072"),
    ] {
        let refused = shop.post_text("/api/inventory/reserve", body, &[("x-correlation-id", "abc")]).await;
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(refused.status == says && detail.contains(sentence), "{body:.60}: {refused:?}");
        assert_eq!(refused.correlation_id.as_deref(), Some("abc"));
        assert_eq!(refused.body["correlationId"], "abc");
    }
    let ours = shop.post_text("/api/inventory/reserve", "{}", &[("x-correlation-id", "a b")]).await;
    assert_eq!(ours.correlation_id.unwrap().len(), 36, "an unusable id is not taken over");
    shop.adds_up().await;
}
