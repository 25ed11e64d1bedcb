//! The tables and the handlers in this process, without runner, gateway and functions: the embedded DynamoDB over
//! HTTP, or whatever stands in front of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lambda_http::{Body, Context};
use local::dynamodb::DynamoDb;
use local::lambda::Concurrency;
use local::template::Template;
use serde_json::{Value, json};
use shared::Error;
use shared::aws::ConfigLoader;
use shared::domain::Timestamp;
use shared::function::Clock;
use shared::http::{ApiGatewayEvent, Deps, Handle, answer};
use shared::metrics::Metrics;
use shared::order_queue::OrderQueue;
use shared::settings::Settings;
use shared::store::{Invocation, Store};
use tokio::time::Instant;

use crate::raw::{self, INVENTORY, LEDGER};
use crate::runner;

/// The name under which the handlers' calls are counted.
pub(crate) const CALLER: &str = "bench";
/// No function is called through it.
const ONE_AT_A_TIME: Concurrency = Concurrency { processes: 1, invocations: 1 };
/// How long a handler has.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An embedded database with the template's tables.
///
/// # Errors
/// If the template cannot be read, or the tables cannot be made.
pub(crate) fn database() -> Result<DynamoDb, Error> {
    let parameters = ["JwtIssuer", "JwtAudience"].map(|name| (name.to_owned(), "-".to_owned()));
    let template = Template::read(&runner::template(), &parameters.into(), "http://127.0.0.1")
        .map_err(|e| e.to_string())?;
    let database = DynamoDb::open(None)?;
    database.create_tables(&template.tables)?;
    Ok(database)
}

/// Serves a database over HTTP; answers where.
pub(crate) async fn serve(database: &DynamoDb) -> Result<String, Error> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let lambda = local::lambda::Lambda::start(&[], &url, ONE_AT_A_TIME).await?;
    let queues = local::queues::Queues::open(None, Default::default(), false)?;
    let bus = local::bus::Bus::new(Default::default(), queues.clone(), lambda.clone());
    let (database, iam) = (database.clone(), local::iam::Iam::default());
    let endpoint = local::aws::Endpoint { dynamodb: database, queues, bus, iam, lambda, url: url.clone() };
    let router = local::aws::router(endpoint);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// The handlers, over tables that a configuration leads to.
pub(crate) struct Handlers {
    deps: Deps,
    requests: AtomicU64,
    /// The same moment on both clocks: time passes as it does on tokio's.
    began: (Timestamp, Instant),
}

impl Handlers {
    /// The handlers over an endpoint, with the settings that the template has by default.
    pub(crate) async fn over(config: ConfigLoader) -> Result<Self, Error> {
        let settings = Settings::from_lookup(|name| match name {
            "INVENTORY_TABLE" => Some(INVENTORY.to_owned()),
            "LEDGER_TABLE" => Some(LEDGER.to_owned()),
            "LOG_LEVEL" => Some("error".to_owned()),
            _ => None,
        })?;
        let store = Store::connect(config, settings.store.clone()).await;
        let began = (Timestamp::now(), Instant::now());
        // Nobody here prefers an answer before the work is done.
        let order_queue = OrderQueue::new(|| shared::aws::config_for("http://127.0.0.1:9", CALLER));
        let clock = Clock::new(move || began.0 + began.1.elapsed());
        let deps = Deps { store, order_queue, settings, clock };
        Ok(Self { deps, requests: AtomicU64::new(0), began })
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        self.began.0 + self.began.1.elapsed()
    }

    /// A request to one route, such as `POST /reserve`, as API Gateway passes it on; status and body of the answer.
    pub(crate) async fn call(&self, route: &str, body: &Value) -> Result<(u16, Value), Error> {
        self.call_about("", route, body).await
    }

    /// The same for a route that names a product, or whatever stands in its braces.
    pub(crate) async fn call_about(
        &self,
        parameter: &str,
        route: &str,
        body: &Value,
    ) -> Result<(u16, Value), Error> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let event: ApiGatewayEvent = serde_json::from_value(event(number, parameter, route, body))?;
        let mut context = Context::default();
        context.request_id = format!("bench-{number}");
        let until = self.now() + TIMEOUT;
        context.deadline = until.as_millisecond().unsigned_abs();
        let (deps, context) = (&self.deps, &context);
        let (function, handle): (_, Handle) = match route {
            "POST /reserve" | "POST /extend" => ("reserve", |d, r| Box::pin(reserve::handle(d, r))),
            "POST /confirm" | "POST /deduct" => ("settle", |d, r| Box::pin(settle::handle(d, r))),
            "POST /release" => ("release", |d, r| Box::pin(release::handle(d, r))),
            "POST /" | "POST /add" | "POST /adjust" | "POST /audit" | "PATCH /{productId}" => {
                ("stock-admin", |d, r| Box::pin(stock_admin::handle(d, r)))
            }
            _ => ("check", |d, r| Box::pin(check::handle(d, r))),
        };
        let response = answer(function, event, context, deps, handle).await;
        let Body::Text(text) = response.body() else { return Err("an answer without text".into()) };
        Ok((response.status().as_u16(), serde_json::from_str(text)?))
    }

    /// The same; anything but success is an error.
    pub(crate) async fn succeed(&self, parameter: &str, route: &str, body: &Value) -> Result<Value, Error> {
        match self.call_about(parameter, route, body).await? {
            (200..300, answer) => Ok(answer),
            (status, answer) => Err(format!("{route} {body}: {status} {answer}").into()),
        }
    }

    /// One pass of the sweep, as if it were then.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<Value, Error> {
        Box::pin(expiry_sweep::handle(&self.deps, &Value::Null, &self.invocation_at(now))).await
    }

    /// A batch of one order event.
    pub(crate) async fn order_event(&self, event: &Value) -> Result<Value, Error> {
        let batch = json!({"Records": [{"messageId": "m-1", "body": event.to_string()}]});
        let invocation = self.invocation_at(self.now());
        Box::pin(order_events::handle(&self.deps, &batch, &invocation)).await
    }

    /// An invocation that begins then.
    fn invocation_at(&self, now: Timestamp) -> Invocation {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Invocation {
            now: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
            deadline: Instant::now() + TIMEOUT,
            correlation_id: format!("bench-{number}"),
            metrics: Metrics::default(),
        }
    }
}

/// The event that API Gateway makes of a request with a checked token.
pub(crate) fn event(number: u64, parameter: &str, route: &str, body: &Value) -> Value {
    let (method, path) = route.split_once(' ').unwrap_or_default();
    let route = format!("{method} /api/inventory{}", path.trim_end_matches('/'));
    let name = path.split(['{', '}']).nth(1);
    json!({
        "version": "2.0", "routeKey": route, "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "pathParameters": name.map(|name| json!({name: parameter})),
        "requestContext": {
            "requestId": format!("bench-{number}"), "routeKey": route,
            "authorizer": {"jwt": {"claims": {"cognito:groups": "[ADMIN SYSTEM]", "token_use": "access"}}},
        },
        "body": body.to_string(), "isBase64Encoded": false,
    })
}

/// Asks a database directly, past everything that is counted for [`CALLER`]. Blocks.
pub(crate) fn ask(database: &DynamoDb, operation: &str, request: &Value) -> Result<Value, Error> {
    let answer = database.answer_uncounted(operation, &request.to_string());
    match answer.status {
        200 => Ok(serde_json::from_str(&answer.body)?),
        _ => Err(format!("{operation}: {}", answer.body).into()),
    }
}

/// Reads one item of the inventory table. Blocks.
pub(crate) fn item(database: &DynamoDb, pk: &str, sk: &str) -> Result<Value, Error> {
    let key = json!({"pk": {"S": pk}, "sk": {"S": sk}});
    let mut answer = ask(database, "GetItem", &json!({"TableName": INVENTORY, "Key": key}))?;
    Ok(answer["Item"].take())
}

/// Puts items into the inventory table. Blocks.
pub(crate) fn put_all(database: &DynamoDb, items: impl Iterator<Item = Value>) -> Result<(), Error> {
    let mut items = items.peekable();
    while items.peek().is_some() {
        ask(database, "BatchWriteItem", &raw::batch_of(items.by_ref().take(raw::MAX_BATCH_WRITE)))?;
    }
    Ok(())
}

/// Puts these products into the table, with this stock: copies of one that is added by its handler.
pub(crate) async fn stock(
    handlers: &Handlers,
    database: &DynamoDb,
    products: &[String],
    quantity: u64,
) -> Result<(), Error> {
    let (first, rest) = products.split_first().ok_or("no products")?;
    handlers.succeed("", "POST /add", &json!({"productId": first, "quantity": quantity})).await?;
    let item = item(database, &format!("STOCK#{first}#0"), "main")?;
    put_all(database, rest.iter().map(|product| raw::copy_of_stock(&item, product)))
}
