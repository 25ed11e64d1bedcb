//! Request bodies: the first byte says which route, the rest is the body. Nothing is wrong on our side, whatever a
//! client sends. There is no table: what would be done is answered with *try again*.
#![no_main]

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use shared::function::{Clock, Deps};
use shared::http;
use shared::order_queue::OrderQueue;
use shared::settings::Settings;
use shared::store::Store;
use tokio::runtime::{Builder, Runtime};

const ROUTES: [&str; 12] = [
    "reserve", "extend", "confirm", "deduct", "release", "check", "check-availability", "add", "adjust", "audit", "",
    PRODUCT,
];

/// The one route that is no `POST`.
const PRODUCT: &str = "{productId}";

thread_local! {
    static WORLD: LazyCell<(Runtime, Arc<Deps>)> = const { LazyCell::new(world) };
}

fn world() -> (Runtime, Arc<Deps>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = Settings::from_lookup(|name| name.ends_with("_TABLE").then(|| "nowhere".to_owned()));
    let settings = settings.expect("settings");
    let config = shared::aws::config_for("http://127.0.0.1:9", "fuzz");
    let store = runtime.block_on(Store::connect(config, settings.store.clone()));
    let order_queue = OrderQueue::new(|| shared::aws::config_for("http://127.0.0.1:9", "fuzz"));
    (runtime, Arc::new(Deps { store, order_queue, settings, clock: Clock::system() }))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (route, body) = input;
    let route = ROUTES[usize::from(route) % ROUTES.len()];
    WORLD.with(|world| {
        let (runtime, deps) = &**world;
        let status = runtime.block_on(answer(route, body, deps));
        assert!([400, 413, 503].contains(&status), "{status}");
    });
});

async fn answer(route: &str, body: &[u8], deps: &Arc<Deps>) -> u16 {
    let method = if route == PRODUCT { "PATCH" } else { "POST" };
    let key = format!("{method} /api/inventory/{route}").trim_end_matches('/').to_owned();
    let event = json!({
        "version": "2.0", "routeKey": key, "rawPath": "/api/inventory", "rawQueryString": "", "headers": {},
        "requestContext": {
            "accountId": "0", "apiId": "a", "domainName": "d", "domainPrefix": "d", "requestId": "r", "routeKey": key,
            "stage": "$default", "timeEpoch": 0, "time": "",
            "http": {"method": method, "path": "/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": ""},
            "authorizer": {"jwt": {"claims": {"cognito:groups": "[ADMIN SYSTEM]"}, "scopes": null}},
        },
        "pathParameters": {"productId": "SAMPLE-1"}, "body": String::from_utf8_lossy(body), "isBase64Encoded": false,
    });
    let event: http::ApiGatewayEvent = serde_json::from_value(event).expect("an event");
    // No time is left: whatever is read or written is given up at once.
    let context = lambda_http::Context::default();
    let handle: http::Handle = match route {
        "reserve" | "extend" => |d, r| Box::pin(reserve::handle(d, r)),
        "confirm" | "deduct" => |d, r| Box::pin(settle::handle(d, r)),
        "release" => |d, r| Box::pin(release::handle(d, r)),
        "check" | "check-availability" => |d, r| Box::pin(check::handle(d, r)),
        _ => |d, r| Box::pin(stock_admin::handle(d, r)),
    };
    let handled = http::answer("fuzz", event, &context, deps, handle);
    let response = tokio::time::timeout(Duration::from_secs(5), handled).await.expect("an answer");
    let status = response.status().as_u16();
    let lambda_http::Body::Text(text) = response.into_body() else { panic!("no text") };
    let problem: Value = serde_json::from_str(&text).expect("a problem in JSON");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    status
}
