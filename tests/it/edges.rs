//! Odd input, and more of it than one answer should hold: scenarios 51, 54, 55 and 59, and malformed requests.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures::StreamExt as _;
use serde_json::{Value, json};
use shared::domain::fixtures::unit_key;
use shared::function::Deps;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::tables::{INVENTORY, at, number, text, update_item};
use crate::support::{Api, Runner, Tables, deps};

/// The lines that the functions have logged with this text.
fn logged(shop: &Runner, what: &str) -> Vec<String> {
    shop.log().into_iter().filter(|line| line.contains(what)).collect()
}

/// Scenario 51: a number is an id by its own digits, however long; what may be written in several ways is none.
#[tokio::test]
async fn scenario_51_orders_that_are_numbers() {
    let shop = Runner::with(&["--parameter", "OrderVisibilitySeconds=1"]).await;
    shop.add("A", 10).await;
    let orders = ["100000000000000000000001", "100000000000000000000002", "100000000000000000000003", "10"];
    let items = r#""items":[{"sku":"A","quantity":1}]"#;
    for (i, order) in orders.iter().enumerate() {
        let event = match i {
            0 => format!(r#"{{"type":"OrderCreated","orderId":{order},{items}}}"#),
            1 => format!(r#"{{"type":"OrderCreated","data":{{"orderId":{order},{items}}}}}"#),
            _ => format!(r#"{{"detail-type":"OrderCreated","detail":{{"bookingId":{order},{items}}}}}"#),
        };
        shop.send_order_message(&event, &[]).await;
    }
    for order in orders {
        shop.until_status(order, "RESERVED").await;
    }
    assert_eq!(shop.stock("A").await, [6, 4, 0]);
    shop.send_order_message(r#"{"type":"OrderPaid","orderId":10.0}"#, &[]).await;
    shop.until("that one is set aside", async |shop: &Api| shop.queued("holdfast-orders-dead").await == 1)
        .await;
    assert!(!logged(&shop, "orderId is the number 10.0").is_empty(), "the log says why");
    assert_eq!((shop.status("10").await, shop.status("10.0").await), ("RESERVED".to_owned(), String::new()));
    shop.send_order_message(r#"{"type":"OrderPaid","orderId":10}"#, &[]).await;
    shop.until_status("10", "CONFIRMED").await;
    shop.adds_up().await;
}

/// Scenario 55: a slip in a name is not taken for news that concern nobody.
#[tokio::test]
async fn scenario_55_a_name_that_is_nearly_known() {
    let shop = Runner::with(&["--parameter", "OrderVisibilitySeconds=1"]).await;
    shop.add("A", 10).await;
    let items = json!([{"sku": "A", "quantity": 1}]);
    shop.send_order_event(&json!({"eventName": "order.crated", "orderId": "o", "items": items})).await;
    shop.until("it is set aside", async |shop: &Api| shop.queued("holdfast-orders-dead").await == 1).await;
    assert!(!logged(&shop, "did you mean OrderCreated?").is_empty());
    assert_eq!(shop.stock("A").await, [10, 0, 0]);
}

/// Scenario 54: what a shop says besides needs nothing, not even an order. Its name is in the log, and in no metric.
#[tokio::test]
async fn scenario_54_news_that_concern_no_stock() {
    let shop = Runner::with(&["--parameter", "OrderVisibilitySeconds=1"]).await;
    shop.add("A", 10).await;
    let long = "x".repeat(200_000);
    for name in ["order.shipped", "order.refunded", "OrderCompleted", "order.rated", &long] {
        shop.send_order_event(&json!({"eventName": name, "anything": [1.5, null]})).await;
    }
    shop.send_order_event(&json!({"type": "order.updated", "status": "on its way"})).await;
    // The body names nothing, its attribute does; by its own name it is another event.
    let items = json!([{"sku": "A", "quantity": 1}]);
    let unnamed = json!({"orderId": "o", "items": items}).to_string();
    shop.send_order_message(&unnamed, &[("eventType", "OrderCreated")]).await;
    let named = json!({"type": "OrderShipped", "orderId": "p", "items": items}).to_string();
    shop.send_order_message(&named, &[("eventType", "OrderCreated")]).await;
    shop.until_status("o", "RESERVED").await;
    shop.until("all are done", async |shop: &Api| shop.queued("holdfast-orders").await == 0).await;
    assert_eq!((shop.queued("holdfast-orders-dead").await, shop.stock("A").await), (0, [9, 1, 0]));

    let counted = |shop: &Runner| -> u64 {
        let lines = logged(shop, "\"UnknownEvents\":");
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["UnknownEvents"].as_u64()).sum()
    };
    let shop = &shop;
    shop.until("all lines were read", async |_: &Api| counted(shop) == 6).await;
    for name in ["order.shipped", "order.refunded", "OrderCompleted", "order.rated", "OrderShipped"] {
        let lines = logged(shop, name);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("\"route\":\"unknown\"") && !lines[0].contains("_aws"), "{lines:?}");
    }
    assert!(shop.log().iter().all(|line| line.len() < 5_000), "what is quoted is cut");
}

/// Sends a request as it stands here, and answers with the status.
async fn raw(url: &str, request: &str) -> u16 {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// No header and no query that anybody may send ends a function: it is no request, and is told so.
#[tokio::test]
async fn what_is_no_request_is_answered_with_400() {
    let shop = Runner::with(&["--auth"]).await;
    shop.until("it is well", async |shop: &Api| shop.get("/health").await.status == 200).await;
    let get = async |path: &str, headers: &str| {
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        raw(&shop.url, &format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n")).await
    };
    for path in ["/api/inventory", "/health", "/docs", "/api-docs"] {
        for headers in
            ["X-Forwarded-Proto: a b\r\n", "X-Forwarded-Proto: <\r\n", "Host: [\r\n", "Host: a b\r\n"]
        {
            assert_eq!(get(path, headers).await, 400, "{path} {headers}");
        }
        for query in ["?limit=<", "?a=b c"] {
            assert_eq!(get(&format!("{path}{query}"), "").await, 400, "{path}{query}");
        }
        for headers in ["", "X-Forwarded-Proto: http,https\r\n", "Host: [::1]:3000\r\n"] {
            assert_eq!(get(path, headers).await, 200, "{path} {headers}");
        }
    }
    // The gateway of this machine refuses such a query by itself; API Gateway passes it on.
    let mut event: Value = serde_json::from_str(include_str!("../../events/http-products.json")).unwrap();
    for query in ["limit=<", "limit=1 2", "limit=\u{1}"] {
        event["rawQueryString"] = query.into();
        let answer = shop.invoke("check", &event).await;
        assert_eq!(answer["statusCode"], 400, "{answer}");
        assert!(answer["body"].as_str().unwrap().contains("must be escaped"), "{answer}");
        assert_eq!(shop.invoke("docs", &event).await["statusCode"], 400);
    }
    assert!(logged(&shop, "panicked").is_empty());
}

/// The input of a client is quoted, but not at any length.
#[tokio::test]
async fn what_is_quoted_is_cut() {
    let shop = Runner::start().await;
    let long = "x".repeat(100_000);
    let order = json!({"orderId": "o", "productId": "A", "quantity": 1});
    let with = |name: &str, value: Value| {
        let mut order = order.clone();
        order[name] = value;
        order
    };
    for body in [
        with(&long, json!(1)),
        with("orderId", json!(format!(" {long}"))),
        with("productId", json!(long)),
        with("quantity", json!(long)),
        with("ttlSeconds", json!(long)),
        with("location", json!({&long: 1})),
    ] {
        let answer = shop.post("/api/inventory/reserve", &body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.to_string().len() < 2_000, "{answer:?}");
    }
    for path in
        [format!("/api/inventory?{}=1", &long[..8_000]), format!("/api/inventory?limit={}", &long[..8_000])]
    {
        let answer = shop.get(&path).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.to_string().len() < 1_000, "{answer:?}");
    }
    assert!(shop.log().iter().all(|line| line.len() < 5_000));
}

/// The answer to a public read.
struct Read {
    status: u16,
    cache_control: String,
    body: Value,
    bytes: usize,
}

/// One invocation of `check` without a token.
async fn read(deps: &Arc<Deps>, route: &str, parameter: &str, query: &str, body: &Value) -> Read {
    let event = json!({
        "version": "2.0", "routeKey": route, "rawPath": "/", "rawQueryString": query, "headers": {},
        "pathParameters": {"productId": parameter}, "requestContext": {"routeKey": route}, "body": body.to_string(),
    });
    let mut context = lambda_http::Context::default();
    context.deadline = u64::try_from(local::clock::now_ms()).unwrap() + 10_000;
    let event = serde_json::from_value(event).unwrap();
    let handle: shared::http::Handle = |deps, request| Box::pin(check::handle(deps, request));
    let response = shared::http::answer("check", event, &context, deps, handle).await;
    let cache_control = response.headers()["cache-control"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.into_body();
    Read { status, cache_control, bytes: body.len(), body: serde_json::from_slice(&body).unwrap() }
}

async fn product_of(deps: &Arc<Deps>, name: &str, query: &str) -> Read {
    read(deps, "GET /api/inventory/{productId}", name, query, &Value::Null).await
}

async fn list(deps: &Arc<Deps>, query: &str) -> Read {
    read(deps, "GET /api/inventory", "", query, &Value::Null).await
}

fn names(page: &Read) -> Vec<&str> {
    let items = page.body["items"].as_array().unwrap();
    items.iter().map(|item| item["productId"].as_str().unwrap()).collect()
}

impl Tables {
    /// Writes items as they are.
    async fn put_all(&self, items: Vec<Vec<(&str, AttributeValue)>>) {
        let put = |item: &Vec<(&str, AttributeValue)>| {
            let item = item.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            WriteRequest::builder()
                .put_request(PutRequest::builder().set_item(Some(item)).build().unwrap())
                .build()
        };
        let writes = items.chunks(25).map(|some| {
            let requests = some.iter().map(put).collect();
            self.dynamodb.batch_write_item().request_items(INVENTORY, requests).send()
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(8);
        while let Some(written) = writes.next().await {
            assert!(written.unwrap().unprocessed_items.is_none_or(|left| left.is_empty()));
        }
    }

    /// A product with one unit at each of so many locations, and at each an alert.
    async fn spread(&self, name: &str, locations: usize) {
        let shard = name.bytes().fold(0_u8, u8::wrapping_add) % 4;
        let unit = |i: usize| {
            vec![
                ("pk", text(format!("STOCK#{name}#0"))),
                ("sk", text(format!("l-{i:05}"))),
                ("available", number(1)),
                ("reserved", number(0)),
                ("sold", number(0)),
                ("version", number(1)),
                ("productId", text(name)),
                ("catalogShard", text("PRODUCT")),
            ]
        };
        let alert = |i: usize| {
            let key = text(format!("{name}#l-{i:05}"));
            vec![
                ("pk", text(format!("ALERT#{shard}"))),
                ("sk", key),
                ("level", text("low")),
                ("version", number(1)),
            ]
        };
        self.put_all((0..locations).flat_map(|i| [unit(i), alert(i)]).collect()).await;
    }
}

/// Scenario 59: a product at thousands of locations. Each answer is bounded, and what it leaves out it names.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_59_a_product_at_thousands_of_locations() {
    const LOCATIONS: usize = 5_000;
    let tables = Tables::start().await;
    let deps = deps(tables.store.clone(), &[]);
    tables.add("A", 5).await;
    tables.spread("WIDE", LOCATIONS).await;
    tables.add("WIDE", 7).await;
    tables.add("Z", 100).await;

    let (mut cursor, mut sum, mut answers) = (String::new(), 0, 0);
    loop {
        let before = tables.usage();
        let page = product_of(&deps, "WIDE", &cursor).await;
        assert_eq!((page.status, page.body["productId"].as_str()), (200, Some("WIDE")));
        assert!(page.bytes < 200_000, "{}", page.bytes);
        assert!(
            tables.usage_since(&before).values().all(|(calls, _)| *calls == 1),
            "a query, and what is at main"
        );
        let locations = page.body["locations"].as_array().unwrap();
        assert!(locations.len() <= 500);
        let of_page: u64 = locations.iter().map(|l| l["availableQuantity"].as_u64().unwrap()).sum();
        assert_eq!(page.body["availableQuantity"], of_page, "it says what it sums");
        (sum, answers) = (sum + of_page, answers + 1);
        let Some(next) = page.body["nextLocationCursor"].as_str() else { break };
        cursor = format!("locationCursor={next}");
    }
    assert_eq!((sum, answers), (LOCATIONS as u64 + 7, 11));
    let few = product_of(&deps, "WIDE", "locationLimit=2&locationCursor=l-00001").await;
    assert_eq!(few.body["locations"][0]["location"], "l-00002");
    assert_eq!(
        (&few.body["availableQuantity"], &few.body["nextLocationCursor"]),
        (&json!(2), &json!("l-00003"))
    );
    for bad in ["locationLimit=0", "locationLimit=501", "locationCursor=a%20b"] {
        assert_eq!(product_of(&deps, "WIDE", bad).await.status, 400, "{bad}");
    }
    assert_eq!(product_of(&deps, "WIDE", "locationCursor=z").await.status, 404);

    let before = tables.usage();
    let asked = json!({"productId": "WIDE", "quantity": 1, "location": "l-04999"});
    let one = read(&deps, "POST /api/inventory/check-availability", "", "", &asked).await;
    assert_eq!((one.status, &one.body["available"]), (200, &json!(true)));
    assert_eq!(tables.usage_since(&before), [("GetItem".to_owned(), (1, 0))].into(), "one item is read");

    // Whoever decides something still sees all of it.
    assert_eq!(tables.store.product(&unit_key("WIDE").product, &at(0)).await.unwrap().len(), LOCATIONS + 1);

    let before = tables.usage();
    let page = list(&deps, "limit=3").await;
    assert_eq!((page.status, names(&page)), (200, vec!["A", "WIDE", "Z"]));
    let wide = &page.body["items"][1];
    assert_eq!(wide["locations"].as_array().unwrap().len(), 10);
    assert_eq!((&wide["nextLocationCursor"], &wide["availableQuantity"]), (&json!("l-00009"), &json!(10)));
    let calls: u64 = tables.usage_since(&before).values().map(|(calls, _)| calls).sum();
    assert!(calls <= 6, "{calls}");
    let rest = product_of(&deps, "WIDE", "locationCursor=l-00009&locationLimit=1").await;
    assert_eq!(rest.body["locations"][0]["location"], "l-00010");

    let before = tables.usage();
    let low = list(&deps, "lowStock=true").await;
    assert_eq!((low.status, names(&low)), (200, vec!["WIDE"]), "{}", low.body);
    let calls: u64 = tables.usage_since(&before).values().map(|(calls, _)| calls).sum();
    assert!(calls <= 8, "{calls}");
}

/// Scenario 59, the whole page: however many locations its products have, a page ends, and the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_59_a_page_of_products_with_many_locations() {
    const PRODUCTS: usize = 30;
    let tables = Tables::start().await;
    let deps = deps(tables.store.clone(), &[]);
    for i in 0..PRODUCTS {
        tables.spread(&format!("P-{i:02}"), if i % 3 == 0 { 3 } else { 120 }).await;
    }
    for query in ["limit=100", "limit=7", "limit=100&lowStock=true", "limit=7&lowStock=true"] {
        let (mut cursor, mut all, mut answers) = (String::new(), Vec::new(), 0);
        loop {
            let before = tables.usage();
            let page = list(&deps, &format!("{query}{cursor}")).await;
            let calls: u64 = tables.usage_since(&before).values().map(|(calls, _)| calls).sum();
            assert!(
                (page.status, page.bytes < 200_000, calls < 250) == (200, true, true),
                "{calls} {}",
                page.bytes
            );
            for item in page.body["items"].as_array().unwrap() {
                let locations = item["locations"].as_array().unwrap().len();
                let is_wide = item["nextLocationCursor"].is_string();
                assert!(locations == if is_wide { 10 } else { 3 }, "{item}");
            }
            all.extend(names(&page).into_iter().map(str::to_owned));
            answers += 1;
            assert!(answers <= PRODUCTS, "{query} goes on");
            let Some(next) = page.body["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let expected: Vec<String> = (0..PRODUCTS).map(|i| format!("P-{i:02}")).collect();
        assert_eq!(all, expected, "{query}");
    }
}

/// One record that cannot be read is named, and hides no other product.
#[tokio::test]
async fn a_bad_product_does_not_spoil_a_page() {
    let tables = Tables::start().await;
    let deps = deps(tables.store.clone(), &[]);
    for name in ["A", "B", "C"] {
        tables.spread(name, 1).await;
    }
    let key = ("STOCK#B#0", "l-00000");
    update_item(&tables.dynamodb, key, "SET available = :x", &[(":x", text("many"))]).await;
    for query in ["", "lowStock=true"] {
        let page = list(&deps, query).await;
        assert_eq!((page.status, names(&page)), (200, vec!["A", "C"]), "{query}");
        assert_eq!(page.body["unreadable"], json!(["B"]), "{query}");
    }
    assert_eq!(product_of(&deps, "B", "").await.status, 500, "by itself it is told as it is");
}

/// Only what is public, and only what is an answer.
#[tokio::test]
async fn a_public_read_may_be_kept_for_as_long_as_is_set() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    let by_default = deps(tables.store.clone(), &[]);
    let kept = deps(tables.store.clone(), &[("PUBLIC_CACHE_SECONDS", "30")]);
    let asked = json!({"productId": "A", "quantity": 1});
    let availability = "POST /api/inventory/check-availability";
    for (deps, expected) in [(&by_default, "no-store"), (&kept, "public, max-age=30")] {
        for read in [
            product_of(deps, "A", "").await,
            list(deps, "").await,
            list(deps, "lowStock=true").await,
            read(deps, availability, "", "", &asked).await,
        ] {
            assert_eq!((read.status, read.cache_control.as_str()), (200, expected));
        }
        let health = read(deps, "GET /health", "", "", &Value::Null).await;
        let refused = [product_of(deps, "NOPE", "").await, product_of(deps, "A", "colour=red").await];
        for read in refused.iter().chain([&health]) {
            assert_eq!(read.cache_control, "no-store", "{}", read.body);
        }
    }
}
