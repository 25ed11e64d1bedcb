//! Orders that are accepted with 202 and decided later: `POST /reserve` with `Prefer: respond-async`.
//!
//! The functions run in this process, over the queue of the local endpoint, and a test says when a message is delivered.

use std::sync::Arc;
use std::time::Duration;

use lambda_http::Body;
use serde_json::{Value, json};
use shared::domain::{OrderId, ReservationId, Timestamp};
use shared::function::Deps;
use shared::http;
use shared::order_queue::OrderQueue;
use shared::store::Invocation;
use sim::faults::Fault;

use crate::support::faults::{FaultProxy, denied};
use crate::support::tables::at;
use crate::support::{Api, Tables, conserved, deps};

const ASYNC: &str = "respond-async";

/// A response of a function: status, headers and body.
#[derive(Debug)]
struct Response {
    status: u16,
    headers: lambda_http::http::HeaderMap,
    body: Value,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and body, without the id of the request.
    fn outcome(&self) -> (u16, Value) {
        let mut body = self.body.clone();
        body.as_object_mut().unwrap().remove("correlationId");
        (self.status, body)
    }

    fn code_or_status(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().or(self.body["status"].as_str()).unwrap_or_default())
    }
}

struct Shop {
    tables: Tables,
    deps: Arc<Deps>,
}

impl Shop {
    async fn open() -> Self {
        let tables = Tables::start().await;
        let url = tables.url.clone();
        Self::over(tables, "holdfast-orders", &url)
    }

    /// A shop that calls its queue, which is of this name, at this address.
    fn over(tables: Tables, queue: &str, url: &str) -> Self {
        let queue_url = format!("{}/000000000000/{queue}", tables.url);
        let deps = deps(tables.store.clone(), &[("ORDER_QUEUE_URL", &queue_url)]);
        let url = url.to_owned();
        let order_queue = OrderQueue::new(move || shared::aws::config_for(&url, "reserve"));
        let deps = Arc::new(Deps { order_queue, ..(*deps).clone() });
        Self { tables, deps }
    }

    async fn request(&self, method: &str, path: &str, prefer: Option<&str>, body: &str) -> Response {
        let (route, parameter) = match path.split_once("reservations/") {
            None => (path.to_owned(), json!({})),
            Some(("", order)) if order.starts_with("order/") => {
                ("reservations/order/{orderId}".to_owned(), json!({"orderId": &order["order/".len()..]}))
            }
            Some((_, id)) => ("reservations/{reservationId}".to_owned(), json!({"reservationId": id})),
        };
        let key = format!("{method} /api/inventory/{route}");
        let mut headers = json!({"content-type": "application/json", "x-correlation-id": "c-accepted"});
        if let Some(prefer) = prefer {
            headers["prefer"] = prefer.into();
        }
        let claims = json!({"cognito:groups": "[SYSTEM]", "token_use": "access"});
        let event = json!({
            "routeKey": key, "headers": headers, "pathParameters": parameter, "body": body,
            "requestContext": {"routeKey": key, "requestId": "r", "authorizer": {"jwt": {"claims": claims}}},
        });
        let mut context = lambda_http::Context::default();
        context.deadline = u64::try_from(local::clock::now_ms()).unwrap() + 10_000;
        let (event, deps) = (serde_json::from_value(event).unwrap(), &self.deps);
        let (function, handle): (_, http::Handle) = match (method, path) {
            ("GET", _) => ("check", |d, r| Box::pin(check::handle(d, r))),
            (_, "release") => ("release", |d, r| Box::pin(release::handle(d, r))),
            _ => ("reserve", |d, r| Box::pin(reserve::handle(d, r))),
        };
        let response = http::answer(function, event, &context, deps, handle).await;
        let (parts, body) = response.into_parts();
        let Body::Text(text) = body else { panic!("no text") };
        let (status, body) = (parts.status.as_u16(), serde_json::from_str(&text).unwrap());
        let media_type = parts.headers["content-type"].to_str().unwrap();
        crate::openapi::keeps_its_document(
            method,
            &format!("/api/inventory/{path}"),
            status,
            media_type,
            &body,
        );
        Response { status, headers: parts.headers, body }
    }

    async fn reserve(&self, prefer: Option<&str>, body: &Value) -> Response {
        self.request("POST", "reserve", prefer, &body.to_string()).await
    }

    async fn of_order(&self, order: &str) -> Value {
        self.request("GET", &format!("reservations/order/{order}"), None, "").await.body["items"][0].clone()
    }

    /// The messages that wait, with what `order-events` is called with.
    async fn receive(&self) -> Vec<Value> {
        let sqs = Api::new(String::new(), self.tables.url.clone()).sqs();
        let queue = format!("{}/000000000000/holdfast-orders", self.tables.url);
        let received =
            sqs.receive_message().queue_url(queue).max_number_of_messages(10).send().await.unwrap();
        let record = |message: aws_sdk_sqs::types::Message| json!({"messageId": message.message_id.unwrap(), "body": message.body.unwrap()});
        received.messages.unwrap_or_default().into_iter().map(record).collect()
    }

    /// Delivers what waits, after so long. Answers with how many messages there were.
    async fn deliver_after(&self, wait: Duration) -> usize {
        let records = self.receive().await;
        let now = local::clock::now_ms() + i64::try_from(wait.as_millis()).unwrap();
        let invocation = Invocation { now: Timestamp::from_millisecond(now).unwrap(), ..at(0) };
        let batch = json!({"Records": records});
        let answer = order_events::handle(&self.deps, &batch, &invocation).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}), "{batch}");
        records.len()
    }

    async fn deliver(&self) -> usize {
        self.deliver_after(Duration::ZERO).await
    }
}

fn order(id: &str, quantity: u64) -> Value {
    json!({"orderId": id, "productId": "A", "quantity": quantity})
}

#[tokio::test]
async fn an_accepted_order_is_held_when_its_turn_comes() {
    let shop = Shop::open().await;
    shop.tables.add("A", 10).await;
    shop.tables.add("B", 10).await;
    let items = json!([
        {"sku": "A", "quantity": 1}, {"productId": "B", "quantity": 1, "name": "x"}, {"itemId": "A", "quantity": 2},
    ]);
    let body = json!({"bookingId": "o-1", "items": items, "ttlSeconds": 600});
    let accepted = shop.reserve(Some("Wait=10, Respond-Async"), &body).await;
    let id = ReservationId::of(&OrderId::parse("o-1").unwrap()).to_string();
    let pending = json!({"reservationId": id, "orderId": "o-1", "status": "PENDING"});
    assert_eq!((accepted.status, &accepted.body), (202, &pending));
    let location = format!("/api/inventory/reservations/{id}");
    let headers = ["location", "preference-applied", "x-correlation-id", "cache-control"];
    let expected = [location.as_str(), ASYNC, "c-accepted", "no-store"];
    assert_eq!(headers.map(|name| accepted.header(name)), expected.map(Some));

    let read = async || shop.request("GET", &format!("reservations/{id}"), None, "").await;
    assert_eq!(read().await.code_or_status(), (404, "reservation_not_found"));
    assert_eq!(shop.of_order("o-1").await, Value::Null);
    assert_eq!(shop.tables.stock("A").await, [10, 0, 0]);
    assert_eq!(shop.deliver().await, 1);

    let held = read().await;
    assert_eq!(held.code_or_status(), (200, "RESERVED"));
    assert_eq!((shop.tables.stock("A").await, shop.tables.stock("B").await), ([7, 3, 0], [9, 1, 0]));
    // Who waits for the outcome now gets the first answer again, and who has other lines is refused.
    let lines = json!([{"productId": "B", "quantity": 1}, {"productId": "A", "quantity": 3}]);
    for prefer in [None, Some(ASYNC)] {
        let again = shop.reserve(prefer, &json!({"orderId": "o-1", "items": lines})).await;
        assert_eq!((again.status, &again.body), (200, &held.body));
        assert_eq!((again.header("preference-applied"), again.header("location")), (None, None));
        let other = shop.reserve(prefer, &order("o-1", 3)).await;
        assert_eq!(other.code_or_status(), (422, "order_lines_differ"));
    }
    assert_eq!(shop.deliver().await, 0);
    let record =
        shop.tables.store.reservation(ReservationId::parse(&id).unwrap(), &at(0)).await.unwrap().unwrap();
    assert_eq!(record.correlation_id, "c-accepted");
    conserved(&shop.tables.dynamodb, &[("A", 10), ("B", 10)]).await;
}

/// The time of a hold is counted from when it begins, however long its order has waited. Whoever does not want it any
/// more releases it.
#[tokio::test]
async fn a_hold_lasts_from_when_it_is_decided() {
    let shop = Shop::open().await;
    shop.tables.add("A", 10).await;
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond();
    for (id, ttl, lasts) in [("short", json!(60), 60_000), ("default", json!(null), 900_000)] {
        let mut body = order(id, 1);
        body["ttlSeconds"] = ttl;
        let before = local::clock::now_ms();
        assert_eq!(shop.reserve(Some(ASYNC), &body).await.status, 202);
        assert_eq!(shop.deliver_after(Duration::from_secs(3_600)).await, 1);
        let held = shop.of_order(id).await;
        assert_eq!(held["status"], "RESERVED");
        assert!(time(&held["createdAt"]) >= before + 3_600_000, "{held}");
        assert_eq!(time(&held["expiresAt"]) - time(&held["createdAt"]), lasts);
    }
    assert_eq!(shop.reserve(Some(ASYNC), &order("given-up", 1)).await.status, 202);
    let released = shop.request("POST", "release", None, r#"{"orderId":"given-up"}"#).await;
    assert_eq!(released.code_or_status(), (200, "PENDING"));
    assert_eq!(shop.deliver().await, 1);
    assert_eq!(shop.of_order("given-up").await["status"], "RELEASED");
    assert_eq!(shop.tables.stock("A").await, [8, 2, 0]);
}

/// What is refused for its form is refused at once, in the same words, and does not get into the queue.
#[tokio::test]
async fn a_request_is_checked_before_it_is_accepted() {
    let shop = Shop::open().await;
    shop.tables.add("A", 10).await;
    let many: Vec<Value> = (0..100).map(|i| json!({"productId": format!("P{i}"), "quantity": 1})).collect();
    let bodies = [
        json!({"productId": "A", "quantity": 1}),
        json!({"orderId": " ", "productId": "A", "quantity": 1}),
        json!({"orderId": "o"}),
        json!({"orderId": "o", "productId": "A"}),
        json!({"orderId": "o", "productId": "A", "quantity": 0}),
        json!({"orderId": "o", "productId": "A", "quantity": 1.5}),
        json!({"orderId": "o", "productId": "A", "quantity": 1, "items": []}),
        json!({"orderId": "o", "productId": "A", "quantity": 1, "ttlSeconds": 0}),
        json!({"orderId": "o", "productId": "A", "quantity": 1, "ttlSeconds": 86_401}),
        json!({"orderId": "o", "productId": "A", "quantity": 1, "colour": "red"}),
        json!({"orderId": "o", "items": [{"productId": "A", "quantity": 1_000_000}, {"productId": "A", "quantity": 1}]}),
        json!({"orderId": "o", "items": many}),
    ];
    let texts = bodies.iter().map(Value::to_string).chain(["", "{", "[]", "null"].map(str::to_owned));
    for body in texts {
        let waited = shop.request("POST", "reserve", None, &body).await;
        let accepted = shop.request("POST", "reserve", Some(ASYNC), &body).await;
        assert_eq!(waited.code_or_status(), (400, "invalid_request"), "{body}");
        assert_eq!(accepted.outcome(), waited.outcome(), "{body}");
        assert!(accepted.header("preference-applied").is_none());
    }
    assert_eq!(shop.receive().await, Vec::<Value>::new());
    // Other preferences leave the request as it is.
    assert_eq!(shop.reserve(Some("wait=10, x=\"respond-async\""), &order("o", 1)).await.status, 201);
    assert_eq!(shop.receive().await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_accepted_order_that_does_not_fit_is_rejected_for_good() {
    let shop = Shop::open().await;
    shop.tables.add("A", 3).await;
    assert_eq!(shop.reserve(Some(ASYNC), &order("greedy", 4)).await.status, 202);
    assert_eq!(shop.deliver().await, 1);
    assert_eq!(shop.of_order("greedy").await["status"], "REJECTED");
    shop.tables.add("A", 3).await;
    let waited = shop.reserve(None, &order("greedy", 4)).await;
    assert_eq!(waited.code_or_status(), (409, "reservation_rejected"));
    assert_eq!(shop.reserve(Some(ASYNC), &order("greedy", 4)).await.outcome(), waited.outcome());
    assert_eq!((shop.deliver().await, shop.tables.stock("A").await), (0, [6, 0, 0]));
}

/// The same request twice before it is decided is one hold. Of two different ones the first that is delivered counts,
/// and the other is kept as a conflict.
#[tokio::test]
async fn an_order_that_is_accepted_twice_is_decided_once() {
    let shop = Shop::open().await;
    shop.tables.add("A", 10).await;
    for _ in 0..2 {
        assert_eq!(shop.reserve(Some(ASYNC), &order("o-1", 2)).await.code_or_status(), (202, "PENDING"));
    }
    assert_eq!(shop.deliver().await, 2);
    assert_eq!(
        (shop.of_order("o-1").await["status"].as_str(), shop.tables.stock("A").await),
        (Some("RESERVED"), [8, 2, 0])
    );

    assert_eq!(shop.reserve(Some(ASYNC), &order("o-2", 1)).await.status, 202);
    let first = shop.receive().await;
    assert_eq!(shop.reserve(Some(ASYNC), &order("o-2", 3)).await.status, 202);
    let second = shop.receive().await;
    for records in [&first, &second] {
        let answer = order_events::handle(&shop.deps, &json!({"Records": records}), &at(0)).await.unwrap();
        assert_eq!((answer, records.len()), (json!({"batchItemFailures": []}), 1));
    }
    let held = shop.of_order("o-2").await;
    assert_eq!((&held["quantity"], shop.tables.stock("A").await), (&json!(1), [7, 3, 0]));
    let id = ReservationId::parse(held["reservationId"].as_str().unwrap()).unwrap();
    let record = shop.tables.store.reservation(id, &at(0)).await.unwrap().unwrap();
    assert_eq!(record.conflicts.count, 1);
    conserved(&shop.tables.dynamodb, &[("A", 10)]).await;
}

/// What is decided is answered as it is decided; the queue is not asked.
#[tokio::test]
async fn an_order_that_is_decided_is_answered_at_once() {
    let shop = Shop::open().await;
    shop.tables.add("A", 10).await;
    for id in ["held", "released"] {
        assert_eq!(shop.reserve(None, &order(id, 2)).await.status, 201);
    }
    for id in ["released", "given-up"] {
        let body = json!({"orderId": id}).to_string();
        assert_eq!(shop.request("POST", "release", None, &body).await.status, 200);
    }
    for (id, quantity, expected) in [
        ("held", 2, (200, "RESERVED")),
        ("held", 3, (422, "order_lines_differ")),
        ("released", 2, (409, "reservation_released")),
        ("given-up", 2, (409, "reservation_released")),
    ] {
        let waited = shop.reserve(None, &order(id, quantity)).await;
        let accepted = shop.reserve(Some(ASYNC), &order(id, quantity)).await;
        assert_eq!(accepted.code_or_status(), expected, "{id}");
        assert_eq!(accepted.outcome(), waited.outcome(), "{id}");
    }
    assert_eq!(shop.receive().await, Vec::<Value>::new());
    // A payment that came first decides nothing yet.
    let paid = json!({"type": "OrderPaid", "orderId": "paid"}).to_string();
    let batch = json!({"Records": [{"messageId": "m", "body": paid}]});
    order_events::handle(&shop.deps, &batch, &at(0)).await.unwrap();
    assert_eq!(shop.reserve(Some(ASYNC), &order("paid", 1)).await.status, 202);
    assert_eq!(shop.deliver().await, 1);
    assert_eq!(shop.of_order("paid").await["status"], "CONFIRMED");
    assert_eq!(shop.tables.stock("A").await, [7, 3, 0]);
}

fn says_try_again(answer: &Response) {
    assert_eq!(answer.code_or_status(), (503, "try_again"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.header("preference-applied").is_none());
}

#[tokio::test]
async fn a_queue_that_does_not_answer_is_tried_again() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let proxy = FaultProxy::to(&tables.url).await;
    let shop = Shop::over(tables, "holdfast-orders", &proxy.url);
    for fault in [Fault::Hang.into(), denied(), Fault::ErrorAfter.into(), Fault::Lose.into()] {
        proxy.inject([fault.clone()]);
        says_try_again(&shop.reserve(Some(ASYNC), &order("o", 2)).await);
        assert_eq!(proxy.remaining_faults(), 0, "{fault:?}");
    }
    assert_eq!(shop.of_order("o").await, Value::Null);
    assert_eq!(shop.reserve(Some(ASYNC), &order("o", 2)).await.status, 202);
    assert_eq!(shop.deliver().await, 3, "two of those without an answer had arrived");
    assert_eq!(
        (shop.of_order("o").await["status"].as_str(), shop.tables.stock("A").await),
        (Some("RESERVED"), [8, 2, 0])
    );
}

#[tokio::test]
async fn without_its_queue_an_order_can_still_be_held_at_once() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let url = tables.url.clone();
    let shop = Shop::over(tables, "no-such-queue", &url);
    says_try_again(&shop.reserve(Some(ASYNC), &order("o", 2)).await);
    assert_eq!(shop.tables.stock("A").await, [10, 0, 0]);
    assert_eq!(shop.reserve(None, &order("o", 2)).await.status, 201);
}
