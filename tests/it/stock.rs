//! The scenarios of `docs/scenarios.md` that concern stock administration, over HTTP.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, Api, Runner};

async fn with_key(shop: &Api, path: &str, key: &str, body: &Value) -> Answer {
    shop.post_text(&format!("/api/inventory/{path}"), &body.to_string(), &[("idempotency-key", key)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_45_added_once_for_each_key() {
    let shop = Runner::start().await;
    let body = json!({"productId": "A", "quantity": 10});
    let first = with_key(&shop, "add", "delivery-1", &body).await;
    let answers = join_all((0..10).map(|_| with_key(&shop, "add", "delivery-1", &body))).await;
    assert!(answers.iter().all(|answer| (answer.status, &answer.body) == (200, &first.body)), "{answers:?}");
    assert_eq!(shop.stock("A").await, [10, 0, 0]);
    with_key(&shop, "add", "delivery-2", &body).await;
    assert_eq!(shop.stock("A").await, [20, 0, 0]);
    let other = with_key(&shop, "add", "delivery-1", &json!({"productId": "A", "quantity": 11})).await;
    assert_eq!(other.says(), (422, "idempotency_key_reused"));
    for bad in ["no spaces", "größer"] {
        assert_eq!(with_key(&shop, "add", bad, &body).await.says(), (400, "invalid_request"));
    }
    shop.conserves(&[("A", 20)]).await;
}

#[tokio::test]
async fn created_once_and_again_with_the_same_key() {
    let shop = Runner::start().await;
    let body =
        json!({"productId": "A", "quantity": 3, "name": "Shoe", "lowStockThreshold": 3, "maxPerOrder": 2});
    let created = with_key(&shop, "", "key-1", &body).await;
    // The base itself has no slash at its end.
    assert_eq!(created.status, 404);
    let create = |key: &'static str| shop.post_text_at_base(key, &body);
    assert_eq!(create("key-1").await.status, 201);
    assert_eq!(create("key-1").await.status, 200);
    assert_eq!(create("key-2").await.says(), (409, "product_exists"));
    let read = shop.get("/api/inventory/A").await.body;
    assert_eq!(
        (&read["name"], &read["lowStockAlert"], &read["maxPerOrder"]),
        (&json!("Shoe"), &json!(true), &json!(2))
    );
    assert_eq!(shop.reserve("order-1", &[("A", 2), ("A", 1)]).await.says(), (422, "purchase_limit_exceeded"));
    assert_eq!(shop.reserve("order-1", &[("A", 2)]).await.status, 201);
    shop.adds_up().await;
}

impl Api {
    async fn post_text_at_base(&self, key: &str, body: &Value) -> Answer {
        self.post_text("/api/inventory", &body.to_string(), &[("idempotency-key", key)]).await
    }
}

/// Two that overlap: either both came one after the other, or one is told that the figure has changed.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_46_two_audits_at_once() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let (mut told, mut round) = (0, 0);
    while told == 0 {
        round += 1;
        assert!(round < 200, "no two audits ever overlapped");
        let figures = [100 + 2 * round, 101 + 2 * round];
        let audits =
            figures.map(|figure| {
                let shop = &shop;
                async move {
                    shop.post("/api/inventory/audit", &json!({"productId": "A", "quantity": figure})).await
                }
            });
        let answers = join_all(audits).await;
        let [available, 0, 0] = shop.stock("A").await else { panic!("an audit moved more than available") };
        let done: Vec<u64> =
            answers.iter().zip(figures).filter(|(a, _)| a.status == 200).map(|(_, f)| f).collect();
        assert!(done.contains(&available), "{answers:?}, {available}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.says(), (409, "stock_changed"));
            told += 1;
        }
    }
    shop.adds_up().await;
}

/// Sales in between do not disturb an audit: they change what is available, not what is on hand.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_among_sales() {
    let shop = Runner::start().await;
    shop.add("A", 100).await;
    let orders: Vec<String> = (0..40).map(|i| format!("order-{i}")).collect();
    let sales = join_all(orders.iter().map(|order| shop.reserve(order, &[("A", 1)])));
    let audits = join_all((0..5).map(|_| shop.post_audit("A", 100)));
    let (sales, audits) = tokio::join!(sales, audits);
    assert!(sales.iter().all(|answer| answer.status == 201));
    assert!(audits.iter().all(|answer| answer.status == 200), "{audits:?}");
    assert_eq!(shop.stock("A").await, [60, 40, 0]);
    shop.conserves(&[("A", 100)]).await;
}

impl Api {
    async fn post_audit(&self, product: &str, quantity: u64) -> Answer {
        self.post("/api/inventory/audit", &json!({"productId": product, "quantity": quantity})).await
    }
}

#[tokio::test]
async fn scenario_47_an_audit_below_what_is_reserved() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.reserve("order-1", &[("A", 6)]).await;
    let refused = shop.post_audit("A", 5).await;
    assert_eq!(refused.says(), (409, "below_reserved"));
    assert_eq!(refused.body["reservedQuantity"], 6);
    assert_eq!(shop.stock("A").await, [4, 6, 0]);
    assert_eq!(shop.post_audit("A", 6).await.status, 200);
    assert_eq!(shop.stock("A").await, [0, 6, 0]);
    assert_eq!(shop.post_audit("NOPE", 6).await.says(), (404, "unknown_product"));
    shop.adds_up().await;
}

#[tokio::test]
async fn corrections_stay_within_bounds() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    shop.reserve("order-1", &[("A", 6)]).await;
    let adjust = |by: i64| {
        let body = json!({"productId": "A", "quantity": by, "reason": "damaged"});
        let shop = &shop;
        async move { shop.post("/api/inventory/adjust", &body).await }
    };
    assert_eq!(adjust(-5).await.says(), (409, "insufficient_stock"));
    assert_eq!(adjust(0).await.says(), (400, "invalid_request"));
    assert_eq!(adjust(-1_000_001).await.says(), (400, "invalid_request"));
    assert_eq!(adjust(-4).await.status, 200);
    assert_eq!(adjust(2).await.status, 200);
    assert_eq!(shop.stock("A").await, [2, 6, 0]);
    let without_reason = shop.post("/api/inventory/adjust", &json!({"productId": "A", "quantity": 1})).await;
    assert_eq!(without_reason.says(), (400, "invalid_request"));
    let most = json!({"productId": "B", "quantity": 1_000_000_000});
    assert_eq!(shop.post("/api/inventory", &most).await.status, 201);
    let more = shop.post("/api/inventory/add", &json!({"productId": "B", "quantity": 1})).await;
    assert_eq!(more.says(), (409, "stock_limit_exceeded"));
    shop.adds_up().await;
}

#[tokio::test]
async fn stock_lies_at_locations() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let east = json!({"productId": "A", "quantity": 5, "location": "east"});
    assert_eq!(shop.post("/api/inventory/add", &east).await.status, 200);
    let both = shop.get("/api/inventory/A").await.body;
    assert_eq!(both["availableQuantity"], 15);
    assert_eq!(both["locations"][0]["location"], "east");
    let order = json!({"orderId": "o", "items": [
        {"productId": "A", "quantity": 2}, {"productId": "A", "quantity": 3, "location": "east"}]});
    assert_eq!(shop.post("/api/inventory/reserve", &order).await.status, 201);
    let read = shop.get("/api/inventory/A").await.body;
    let available = [0, 1].map(|i| read["locations"][i]["availableQuantity"].as_u64().unwrap());
    assert_eq!(available, [2, 8]);
    let west = json!({"orderId": "p", "productId": "A", "quantity": 1, "location": "west"});
    assert_eq!(shop.post("/api/inventory/reserve", &west).await.says(), (404, "unknown_product"));
    let can = json!({"productId": "A", "quantity": 3, "location": "east"});
    assert_eq!(shop.post("/api/inventory/check-availability", &can).await.body["available"], false);
    shop.adds_up().await;
}

/// The ids of a list, page by page.
async fn in_pages(shop: &Runner, query: &str, limit: usize) -> Vec<String> {
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = shop.get(&format!("/api/inventory?{query}limit={limit}{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= limit, "{page:?}");
        listed.extend(items.iter().map(|item| item["productId"].as_str().unwrap().to_owned()));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return listed,
        }
    }
}

#[tokio::test]
async fn products_are_listed_in_pages() {
    let shop = Runner::start().await;
    let empty = shop.get("/api/inventory").await;
    assert_eq!((empty.status, empty.body), (200, json!({"items": []})));
    let products: Vec<String> = (0..25).map(|i| format!("P{i:02}")).collect();
    join_all(products.iter().map(|product| shop.add(product, 20))).await;
    for product in ["P03", "P09", "P10"] {
        let east = json!({"productId": product, "quantity": 1, "location": "east"});
        assert_eq!(shop.post("/api/inventory/add", &east).await.status, 200);
    }
    for limit in [1, 4, 10, 25, 100] {
        assert_eq!(in_pages(&shop, "", limit).await, products, "in pages of {limit}");
    }
    let p03 = shop.get("/api/inventory?limit=1&cursor=P02").await.body["items"][0].clone();
    assert_eq!((&p03["productId"], &p03["availableQuantity"]), (&json!("P03"), &json!(21)));
    // Those whose stock in the east is low, as soon as the publisher has said so.
    let low = ["P03", "P09", "P10"];
    shop.until("three are low", async |_| in_pages(&shop, "lowStock=true&", 100).await == low).await;
    for limit in 1..4 {
        assert_eq!(in_pages(&shop, "lowStock=true&", limit).await, low, "in pages of {limit}");
    }
    for bad in
        ["limit=0", "limit=101", "limit=x", "cursor=a%20b", "lowStock=maybe", "order=name", "limit=1&limit=2"]
    {
        assert_eq!(
            shop.get(&format!("/api/inventory?{bad}")).await.says(),
            (400, "invalid_request"),
            "{bad}"
        );
    }
    shop.adds_up().await;
}
