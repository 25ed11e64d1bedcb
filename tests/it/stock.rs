//! The scenarios of `docs/scenarios.md` that concern stock administration, over HTTP.

use futures::future::join_all;
use serde_json::{Value, json};
use sim::faults::Fault;

use crate::support::faults::through_fault_proxy;
use crate::support::process::signal;
use crate::support::tables::{number, update_item};
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
    assert_eq!(other.code_or_status(), (422, "idempotency_key_reused"));
    for bad in ["no spaces", "größer"] {
        assert_eq!(with_key(&shop, "add", bad, &body).await.code_or_status(), (400, "invalid_request"));
    }
    shop.conserves(&[("A", 20)]).await;
}

/// Scenario 58: the function dies while it adds without a key. The gateway's own answer says nothing of what became
/// of it, but names the request; with the key that follows from that, trying again adds once.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_58_a_keyless_addition_whose_function_dies() {
    let (shop, proxy) = through_fault_proxy(&[]).await;
    shop.add("A", 1).await;
    let body = json!({"productId": "A", "quantity": 5});
    // After the commit, and before it.
    for (fault, when_it_dies, afterwards) in [(Fault::Lose, 6, 6), (Fault::Hang, 6, 11)] {
        proxy.inject([fault; 10]);
        let dies = async {
            shop.until("it has tried", async |_| proxy.remaining_faults() < 10).await;
            shop.until("it is there or not", async |shop| shop.stock("A").await == [when_it_dies, 0, 0])
                .await;
            for (process, _) in shop.processes("stock-admin") {
                signal("KILL", process).await;
            }
        };
        let (answer, ()) = tokio::join!(shop.post("/api/inventory/add", &body), dies);
        assert_eq!((answer.status, &answer.body), (500, &json!({"message": "Internal Server Error"})));
        proxy.clear_faults();
        let key = format!("request-{}", answer.request_id.unwrap());
        for _ in 0..2 {
            let again = with_key(&shop, "add", &key, &body).await;
            assert_eq!((again.status, &again.body["availableQuantity"]), (200, &json!(afterwards)));
        }
        assert_eq!(shop.stock("A").await, [afterwards, 0, 0]);
    }
    shop.conserves(&[("A", 11)]).await;
}

/// Every answer names its request, by whom ever it is given, and the key to send again follows from that.
#[tokio::test]
async fn every_answer_names_its_request() {
    let shop = Runner::start().await;
    let answers = [
        shop.post("/api/inventory/add", &json!({"productId": "A", "quantity": 5})).await,
        shop.post("/api/inventory/add", &json!({})).await,
        shop.get("/nowhere").await,
    ];
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|a| a.request_id.clone().unwrap()).collect();
    assert_eq!(ids.len(), answers.len());
    let key = format!("request-{}", answers[0].request_id.as_ref().unwrap());
    let again = with_key(&shop, "add", &key, &json!({"productId": "A", "quantity": 5})).await;
    assert_eq!(again.status, 200);
    assert_eq!(shop.stock("A").await, [5, 0, 0], "the key is that of the first request");
}

#[tokio::test]
async fn a_key_may_be_required() {
    let shop = Runner::with(&["--parameter", "RequireIdempotencyKey=true"]).await;
    let body = json!({"productId": "A", "quantity": 5});
    let refused = shop.post("/api/inventory/add", &body).await;
    assert_eq!(refused.code_or_status(), (400, "invalid_request"));
    assert!(refused.body["detail"].as_str().unwrap().contains("Idempotency-Key"), "{refused:?}");
    assert_eq!(
        shop.patch("/api/inventory/A", &json!({"name": "Shoe"})).await.code_or_status(),
        (400, "invalid_request")
    );
    assert_eq!(shop.get("/api/inventory/A").await.status, 404, "nothing was added");
    assert_eq!(with_key(&shop, "add", "delivery-1", &body).await.status, 200);
    assert_eq!(shop.stock("A").await, [5, 0, 0]);
}

/// Each change of stock is answered with what there is now, also where it was made before.
#[tokio::test]
async fn answers_say_what_there_is_now() {
    let shop = Runner::start().await;
    let figures = |answer: &Answer| {
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        ["availableQuantity", "reservedQuantity", "totalQuantity", "soldQuantity"]
            .map(|name| answer.body[name].as_u64().unwrap_or_else(|| panic!("{name} in {answer:?}")))
    };
    let created = shop.post("/api/inventory", &json!({"productId": "A", "stock": 10})).await;
    assert_eq!((created.status, figures(&created)), (201, [10, 0, 10, 0]));
    let added = with_key(&shop, "add", "delivery-1", &json!({"productId": "A", "quantity": 5})).await;
    assert_eq!(figures(&added), [15, 0, 15, 0]);
    for (order, quantity) in [("sold", 4), ("held", 3)] {
        assert_eq!(shop.reserve(order, &[("A", quantity)]).await.status, 201);
    }
    assert_eq!(shop.order("deduct", "sold").await.status, 200);
    let body = json!({"productId": "A", "quantity": -2, "reason": "damaged"});
    assert_eq!(figures(&shop.post("/api/inventory/adjust", &body).await), [6, 3, 9, 4]);
    let body = json!({"productId": "A", "quantity": 20});
    assert_eq!(figures(&shop.post("/api/inventory/audit", &body).await), [17, 3, 20, 4]);
    let named = shop.patch("/api/inventory/A", &json!({"name": "Shoe"})).await;
    assert_eq!(figures(&named), [17, 3, 20, 4]);
    let again = with_key(&shop, "add", "delivery-1", &json!({"productId": "A", "quantity": 5})).await;
    assert_eq!((&again.body["quantity"], figures(&again)), (&json!(5), [17, 3, 20, 4]));
    // They are those of the location.
    let east = json!({"productId": "A", "quantity": 2, "location": "east"});
    assert_eq!(figures(&shop.post("/api/inventory/add", &east).await), [2, 0, 2, 0]);
    let both = json!({"productId": "B", "stock": 1, "quantity": 1});
    assert_eq!(shop.post("/api/inventory", &both).await.code_or_status(), (400, "invalid_request"));
    shop.adds_up().await;
}

/// A product first made by an addition gets its name and its limits later.
#[tokio::test]
async fn what_is_said_of_a_product_can_be_changed() {
    let shop = Runner::start().await;
    shop.add("A", 20).await;
    let all = json!({"name": "Shoe", "lowStockThreshold": 20, "maxPerOrder": 2});
    let changed = shop.patch("/api/inventory/A", &all).await;
    assert_eq!((changed.status, &changed.body["operation"]), (200, &json!("update")));
    for (name, value) in all.as_object().unwrap() {
        assert_eq!(&changed.body[name], value);
        assert_eq!(&shop.get("/api/inventory/A").await.body[name], value);
    }
    assert_eq!(shop.get("/api/inventory/A").await.body["lowStockAlert"], true);
    assert_eq!(shop.reserve("o", &[("A", 3)]).await.code_or_status(), (422, "purchase_limit_exceeded"));
    // What is not named stays, and null takes away.
    let cleared = shop.patch("/api/inventory/A", &json!({"maxPerOrder": null})).await;
    assert_eq!((cleared.status, cleared.body.get("maxPerOrder")), (200, Some(&Value::Null)));
    assert_eq!(shop.reserve("o", &[("A", 3)]).await.status, 201);
    let read = shop.get("/api/inventory/A").await.body;
    assert_eq!((&read["name"], read.get("maxPerOrder")), (&json!("Shoe"), None));
    // It is a write as any other: published, and in the ledger without a movement of units.
    shop.until_published(4, "InventoryUpdated", "A").await;
    let events = shop.published().await;
    let is_update = |e: &&Value| e["operation"] == "update" && e["eventType"] == "InventoryUpdated";
    let updates: Vec<&Value> = events.iter().filter(is_update).collect();
    assert_eq!(updates.len(), 2, "{events:?}");
    assert_eq!(updates[0]["change"], json!({"available": 0, "reserved": 0, "sold": 0}));
    assert_eq!(shop.stock("A").await, [17, 3, 0]);
    shop.conserves(&[("A", 20)]).await;
}

#[tokio::test]
async fn a_change_of_a_product_is_applied_once_and_where_it_belongs() {
    let shop = Runner::start().await;
    for location in ["main", "east"] {
        let body = json!({"productId": "A", "quantity": 5, "location": location});
        assert_eq!(shop.post("/api/inventory/add", &body).await.status, 200);
    }
    let named = async |path: &str, body: Value| shop.patch(&format!("/inventory/{path}"), &body).await;
    let threshold = async |location: usize| {
        let read = shop.get("/api/inventory/A").await.body;
        read["locations"][location]["lowStockThreshold"].clone()
    };
    assert_eq!(named("A?location=east", json!({"lowStockThreshold": 1})).await.body["location"], "east");
    assert_eq!((threshold(0).await, threshold(1).await), (json!(1), json!(10)));
    assert_eq!(named("A", json!({"lowStockThreshold": 2, "location": "east"})).await.status, 200);
    assert_eq!((threshold(0).await, threshold(1).await), (json!(2), json!(10)));
    let key = |body: &Value| {
        let request = reqwest::Client::new().patch(format!("{}/api/inventory/A", shop.url));
        shop.send(request.header("idempotency-key", "name-1").body(body.to_string()))
    };
    let first = key(&json!({"name": "Shoe"})).await;
    assert_eq!((first.status, key(&json!({"name": "Shoe"})).await.body), (200, first.body));
    assert_eq!(key(&json!({"name": "Boot"})).await.code_or_status(), (422, "idempotency_key_reused"));
    for (path, body) in [
        ("A", json!({})),
        ("A", json!({"location": "east"})),
        ("A?location=east", json!({"name": "x", "location": "main"})),
        ("A", json!({"name": ""})),
        ("A", json!({"name": "x", "location": null})),
        ("A", json!({"lowStockThreshold": -1})),
        ("A", json!({"maxPerOrder": 0})),
        ("A", json!({"quantity": 1})),
        ("A?place=east", json!({"name": "x"})),
        ("a%20b", json!({"name": "x"})),
    ] {
        let refused = named(path, body.clone()).await;
        assert_eq!(refused.code_or_status(), (400, "invalid_request"), "{path} {body}: {refused:?}");
    }
    assert_eq!(named("NOPE", json!({"name": "x"})).await.code_or_status(), (404, "unknown_product"));
    assert_eq!(
        named("A?location=west", json!({"name": "x"})).await.code_or_status(),
        (404, "unknown_product")
    );
    assert_eq!(shop.get("/api/inventory/NOPE").await.status, 404, "nothing was made");
    shop.adds_up().await;
}

/// A product says since when it is there and when it was changed. One that was there before this was kept does not
/// pretend to be new.
#[tokio::test]
async fn a_product_says_since_when_it_is_there() {
    let shop = Runner::start().await;
    shop.add("A", 5).await;
    let times = async || {
        let read = shop.get("/api/inventory/A").await.body;
        ["createdAt", "updatedAt"].map(|name| read[name].as_str().map(str::to_owned))
    };
    let [created, updated] = times().await;
    assert!(created.is_some() && created == updated);
    shop.add("A", 5).await;
    let [still, updated] = times().await;
    assert!(still == created && updated > created);
    let east = json!({"productId": "A", "quantity": 2, "location": "east"});
    assert_eq!(shop.post("/api/inventory/add", &east).await.status, 200);
    let [still, latest] = times().await;
    assert!(still == created && latest > updated, "the earliest and the latest of its locations");
    let old = "REMOVE createdAt, physical ADD version :one";
    update_item(&shop.dynamodb, ("STOCK#A#0", "main"), old, &[(":one", number(1))]).await;
    for _ in 0..2 {
        assert_eq!(times().await[0], None);
        shop.add("A", 1).await;
    }
    assert_eq!(shop.get("/api/inventory/A").await.body["availableQuantity"], 14);
    shop.adds_up().await;
}

/// However units move between available and reserved, there is never more on hand than can be counted.
#[tokio::test]
async fn on_hand_stays_below_its_bound() {
    const MOST: u64 = 1_000_000_000;
    const MILLION: u64 = 1_000_000;
    let shop = Runner::start().await;
    let create = json!({"productId": "A", "quantity": MOST});
    assert_eq!(shop.post("/api/inventory", &create).await.status, 201);
    assert_eq!(shop.reserve("held", &[("A", MILLION)]).await.status, 201);
    assert_eq!(shop.reserve("sold", &[("A", MILLION)]).await.status, 201);
    let million = json!({"productId": "A", "quantity": MILLION, "reason": "found"});
    let add = json!({"productId": "A", "quantity": MILLION});
    for refused in
        [shop.post("/api/inventory/add", &add).await, shop.post("/api/inventory/adjust", &million).await]
    {
        assert_eq!(refused.code_or_status(), (409, "stock_limit_exceeded"));
        assert_eq!(refused.body["onHandQuantity"], MOST);
    }
    assert_eq!(shop.order("deduct", "sold").await.status, 200);
    // There is room now for what has left, and for no more.
    assert_eq!(shop.post("/api/inventory/add", &add).await.body["totalQuantity"], MOST);
    assert_eq!(
        shop.post("/api/inventory/adjust", &million).await.code_or_status(),
        (409, "stock_limit_exceeded")
    );
    assert_eq!(shop.order("release", "held").await.status, 200);
    assert_eq!(shop.stock("A").await, [MOST, 0, MILLION]);
    assert_eq!(shop.post_audit("A", MOST).await.status, 200, "what is there can be counted");
    shop.adds_up().await;
}

/// Near the bound additions are decided one after the other; none is lost, and none too many is made.
#[tokio::test(flavor = "multi_thread")]
async fn many_additions_near_the_bound() {
    let shop = Runner::start().await;
    let create = json!({"productId": "A", "quantity": 999_999_995});
    assert_eq!(shop.post("/api/inventory", &create).await.status, 201);
    let add = json!({"productId": "A", "quantity": 1});
    let answers = join_all((0..12).map(|_| shop.post("/api/inventory/add", &add))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(409)), (5, 7), "{answers:?}");
    shop.conserves(&[("A", 1_000_000_000)]).await;
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
    assert_eq!(create("key-2").await.code_or_status(), (409, "product_exists"));
    let read = shop.get("/api/inventory/A").await.body;
    assert_eq!(
        (&read["name"], &read["lowStockAlert"], &read["maxPerOrder"]),
        (&json!("Shoe"), &json!(true), &json!(2))
    );
    assert_eq!(
        shop.reserve("order-1", &[("A", 2), ("A", 1)]).await.code_or_status(),
        (422, "purchase_limit_exceeded")
    );
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
            assert_eq!(answer.code_or_status(), (409, "stock_changed"));
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
    assert_eq!(refused.code_or_status(), (409, "below_reserved"));
    assert_eq!(refused.body["reservedQuantity"], 6);
    assert_eq!(shop.stock("A").await, [4, 6, 0]);
    assert_eq!(shop.post_audit("A", 6).await.status, 200);
    assert_eq!(shop.stock("A").await, [0, 6, 0]);
    assert_eq!(shop.post_audit("NOPE", 6).await.code_or_status(), (404, "unknown_product"));
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
    assert_eq!(adjust(-5).await.code_or_status(), (409, "insufficient_stock"));
    assert_eq!(adjust(0).await.code_or_status(), (400, "invalid_request"));
    assert_eq!(adjust(-1_000_001).await.code_or_status(), (400, "invalid_request"));
    assert_eq!(adjust(-4).await.status, 200);
    assert_eq!(adjust(2).await.status, 200);
    assert_eq!(shop.stock("A").await, [2, 6, 0]);
    let without_reason = shop.post("/api/inventory/adjust", &json!({"productId": "A", "quantity": 1})).await;
    assert_eq!(without_reason.code_or_status(), (400, "invalid_request"));
    let most = json!({"productId": "B", "quantity": 1_000_000_000});
    assert_eq!(shop.post("/api/inventory", &most).await.status, 201);
    let more = shop.post("/api/inventory/add", &json!({"productId": "B", "quantity": 1})).await;
    assert_eq!(more.code_or_status(), (409, "stock_limit_exceeded"));
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
    assert_eq!(shop.post("/api/inventory/reserve", &west).await.code_or_status(), (404, "unknown_product"));
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
            shop.get(&format!("/api/inventory?{bad}")).await.code_or_status(),
            (400, "invalid_request"),
            "{bad}"
        );
    }
    shop.adds_up().await;
}
