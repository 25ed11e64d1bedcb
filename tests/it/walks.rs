//! The walks of the README, through gateway and processes.

use futures::future::join_all;
use serde_json::json;

use crate::support::{Api, Runner};

#[tokio::test]
async fn walk_1_reserve_and_reserve_again() {
    let shop = Runner::start().await;
    shop.add("LAPTOP-001", 100).await;
    let first = shop.reserve("order-123", &[("LAPTOP-001", 5)]).await;
    assert_eq!(first.code_or_status(), (201, "RESERVED"), "{first:?}");
    let lasts = |name: &str| first.body[name].as_str().unwrap().parse::<shared::domain::Timestamp>().unwrap();
    assert_eq!(lasts("expiresAt").as_millisecond() - lasts("createdAt").as_millisecond(), 15 * 60 * 1_000);
    let read = shop.get("/api/inventory/LAPTOP-001").await.body;
    assert_eq!(
        ["availableQuantity", "reservedQuantity", "totalQuantity"].map(|name| read[name].as_u64().unwrap()),
        [95, 5, 100]
    );
    let again = shop.reserve("order-123", &[("LAPTOP-001", 5)]).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(
        shop.reserve("order-123", &[("LAPTOP-001", 6)]).await.code_or_status(),
        (422, "order_lines_differ")
    );
    assert_eq!(shop.stock("LAPTOP-001").await, [95, 5, 0]);
    shop.conserves(&[("LAPTOP-001", 100)]).await;
}

#[tokio::test]
async fn walk_2_ten_at_once_on_stock_for_nine() {
    let shop = Runner::start().await;
    shop.add("LAPTOP-001", 95).await;
    let orders: Vec<String> = (0..10).map(|i| format!("order-{i}")).collect();
    let answers = join_all(orders.iter().map(|order| shop.reserve(order, &[("LAPTOP-001", 10)]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 9, "{answers:?}");
    let short = answers.iter().find(|answer| answer.status != 201).unwrap();
    assert_eq!(short.code_or_status(), (409, "insufficient_stock"));
    let product = &short.body["products"][0];
    assert_eq!(
        [&product["productId"], &product["requestedQuantity"], &product["availableQuantity"]],
        [&json!("LAPTOP-001"), &json!(10), &json!(5)]
    );
    shop.conserves(&[("LAPTOP-001", 95)]).await;
}

/// Scenario 31.
#[tokio::test]
async fn walk_3_three_products_all_or_nothing() {
    let shop = Runner::start().await;
    for (product, quantity) in [("A", 10), ("B", 1), ("C", 10)] {
        shop.add(product, quantity).await;
    }
    let short = shop.reserve("order-1", &[("A", 2), ("B", 2), ("C", 2)]).await;
    assert_eq!(short.code_or_status(), (409, "insufficient_stock"));
    assert_eq!(short.body["products"].as_array().unwrap().len(), 1);
    assert_eq!(short.body["products"][0]["productId"], "B");
    assert_eq!((shop.stock("A").await, shop.stock("C").await), ([10, 0, 0], [10, 0, 0]));
    let fits = shop.reserve("order-1", &[("A", 2), ("B", 1), ("C", 2)]).await;
    assert_eq!(fits.code_or_status(), (201, "RESERVED"));
    shop.conserves(&[("A", 10), ("B", 1), ("C", 10)]).await;
}

/// Scenario 19.
#[tokio::test]
async fn walk_4_a_hold_that_ends() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let body = json!({"orderId": "order-1", "productId": "A", "quantity": 1, "ttlSeconds": 1});
    let held = shop.post("/api/inventory/reserve", &body).await;
    assert_eq!(held.code_or_status(), (201, "RESERVED"));
    let path = format!("/api/inventory/reservations/{}", held.body["reservationId"].as_str().unwrap());
    while shop.get(&path).await.code_or_status() == (200, "RESERVED") {}
    assert_eq!(shop.get(&path).await.code_or_status(), (200, "EXPIRED"));
    assert_eq!(shop.order("confirm", "order-1").await.code_or_status(), (409, "reservation_expired"));
    assert_eq!(shop.order("deduct", "order-1").await.code_or_status(), (409, "reservation_expired"));
    assert_eq!(shop.order("extend", "order-1").await.code_or_status(), (409, "reservation_expired"));
    assert_eq!(shop.reserve("order-1", &[("A", 1)]).await.code_or_status(), (409, "reservation_expired"));
    // Giving it back is still possible, once.
    assert_eq!(shop.order("release", "order-1").await.code_or_status(), (200, "RELEASED"));
    assert_eq!(shop.order("release", "order-1").await.code_or_status(), (200, "RELEASED"));
    assert_eq!(shop.stock("A").await, [10, 0, 0]);
    shop.adds_up().await;
}

#[tokio::test]
async fn walk_5_from_creation_to_shipment() {
    let shop = Runner::start().await;
    let created = shop.post("/api/inventory", &json!({"productId": "SHOE", "quantity": 50})).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(shop.reserve("order-1", &[("SHOE", 5)]).await.status, 201);
    assert_eq!(shop.order("confirm", "order-1").await.code_or_status(), (200, "CONFIRMED"));
    assert_eq!(shop.order("deduct", "order-1").await.code_or_status(), (200, "FULFILLED"));
    let read = shop.get("/api/inventory/SHOE").await.body;
    assert_eq!(
        ["totalQuantity", "reservedQuantity", "soldQuantity"].map(|name| read[name].as_u64().unwrap()),
        [45, 0, 5]
    );
    assert_eq!(shop.order("release", "order-1").await.code_or_status(), (409, "reservation_fulfilled"));
    shop.conserves(&[("SHOE", 50)]).await;
}

/// Scenario 34, for every place that takes a quantity.
#[tokio::test]
async fn walk_6_checks_and_bad_quantities() {
    let shop = Runner::start().await;
    shop.add("LAPTOP-001", 7).await;
    let checked = shop.post("/api/inventory/check", &json!(["LAPTOP-001", "NOPE"])).await;
    assert_eq!((checked.status, checked.body), (200, json!({"LAPTOP-001": 7, "NOPE": 0})));
    assert_eq!(shop.get("/api/inventory/NOPE").await.code_or_status(), (404, "unknown_product"));
    assert_eq!(shop.reserve("order-1", &[("NOPE", 1)]).await.code_or_status(), (404, "unknown_product"));
    for quantity in ["-1", "0", "1.5", "\"two\"", "1000000000000000000000000000000", "1000001", "null"] {
        for (path, body) in [
            (
                "reserve",
                format!("{{\"orderId\":\"o\",\"productId\":\"LAPTOP-001\",\"quantity\":{quantity}}}"),
            ),
            (
                "reserve",
                format!(
                    "{{\"orderId\":\"o\",\"items\":[{{\"sku\":\"LAPTOP-001\",\"quantity\":{quantity}}}]}}"
                ),
            ),
            (
                "deduct",
                format!(
                    "{{\"orderId\":\"o\",\"items\":[{{\"sku\":\"LAPTOP-001\",\"quantity\":{quantity}}}]}}"
                ),
            ),
            ("add", format!("{{\"productId\":\"LAPTOP-001\",\"quantity\":{quantity}}}")),
            ("check-availability", format!("{{\"productId\":\"LAPTOP-001\",\"quantity\":{quantity}}}")),
        ] {
            let refused = shop.post_text(&format!("/api/inventory/{path}"), &body, &[]).await;
            assert_eq!(refused.code_or_status(), (400, "invalid_request"), "{path} {body}");
            let sentence = refused.body["detail"].as_str().unwrap();
            assert!(sentence.contains("quantity"), "{path} {body}: {sentence}");
        }
    }
    // A list is no object, though its entries would fit the members in their order.
    for (path, body) in [
        ("add", r#"["LAPTOP-001","main",4]"#),
        ("reserve", r#"["o","LAPTOP-001",1,null,null,null]"#),
        ("reserve", r#"{"orderId":"o","items":[["LAPTOP-001",1,"main"]]}"#),
        ("confirm", r#"[null,"o"]"#),
        ("check", r#"{"0":"LAPTOP-001"}"#),
    ] {
        let refused = shop.post_text(&format!("/api/inventory/{path}"), body, &[]).await;
        assert_eq!(refused.code_or_status(), (400, "invalid_request"), "{path} {body}");
    }
    let unknown = json!({"orderId": "o", "productId": "LAPTOP-001", "quantity": 1, "colour": "red"});
    let refused = shop.post("/api/inventory/reserve", &unknown).await;
    assert_eq!(refused.code_or_status(), (400, "invalid_request"));
    assert!(refused.body["detail"].as_str().unwrap().contains("unknown field `colour`"), "{refused:?}");
    assert_eq!(shop.stock("LAPTOP-001").await, [7, 0, 0]);
    shop.adds_up().await;
}

const STOCK: u64 = 200;
const BUYERS: usize = 500;
const CLIENTS: usize = 50;

/// Every order once, by [`CLIENTS`] at once. None where no answer came.
async fn everybody_buys(shop: &Api) -> Vec<Option<u16>> {
    let client = async |client: usize| {
        let mut statuses = Vec::new();
        for i in (client..BUYERS).step_by(CLIENTS) {
            let body = json!({"orderId": format!("order-{i}"), "productId": "HOT", "quantity": 1});
            statuses.push(shop.try_post("/api/inventory/reserve", &body).await.map(|answer| answer.status));
        }
        statuses
    };
    join_all((0..CLIENTS).map(client)).await.concat()
}

fn count(statuses: &[Option<u16>], status: u16) -> usize {
    statuses.iter().filter(|s| **s == Some(status)).count()
}

/// Scenario 30 writ large.
#[tokio::test(flavor = "multi_thread")]
async fn walk_7_five_hundred_buyers() {
    let shop = Runner::start().await;
    shop.add("HOT", STOCK).await;
    let statuses = everybody_buys(&shop).await;
    assert_eq!((count(&statuses, 201), count(&statuses, 409)), (200, 300), "{statuses:?}");
    let again = everybody_buys(&shop).await;
    assert_eq!((count(&again, 200), count(&again, 409)), (200, 300), "{again:?}");
    assert_eq!(shop.stock("HOT").await, [0, STOCK, 0]);
    shop.conserves(&[("HOT", STOCK)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn walk_7_with_the_runner_killed_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let shop = Runner::with(&data).await;
    shop.add("HOT", STOCK).await;
    let api = shop.api.clone();
    let buying = tokio::spawn(async move { everybody_buys(&api).await });
    while shop.stock("HOT").await[1] < 60 {}
    shop.kill().await;
    let before = buying.await.unwrap();
    assert!(before.iter().any(Option::is_none), "it was killed after all had bought");
    assert!(count(&before, 201) >= 50, "{before:?}");

    let shop = Runner::with(&data).await;
    let after = everybody_buys(&shop).await;
    assert_eq!(count(&after, 200) + count(&after, 201), 200, "{after:?}");
    assert_eq!(count(&after, 409), 300, "{after:?}");
    // Whoever was told yes before the kill still holds.
    let order = |i: usize| (i % BUYERS.div_ceil(CLIENTS)) * CLIENTS + i / BUYERS.div_ceil(CLIENTS);
    for (i, status) in before.iter().enumerate() {
        if *status == Some(201) {
            assert_eq!(after[i], Some(200), "order-{} was lost", order(i));
        }
    }
    assert_eq!(shop.stock("HOT").await, [0, STOCK, 0]);
    shop.conserves(&[("HOT", STOCK)]).await;
}
