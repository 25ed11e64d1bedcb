//! `events`: order events, from the queue to the hold and to the published event, against a reserve that is waited for.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use shared::Error;
use tokio::task::JoinSet;

use crate::measure::{Sample, ms, time};
use crate::options::Options;
use crate::report::{Cell, Comparison, Findings, LATENCY_COLUMNS, Table, latency_cells};
use crate::runner::{Calls, POLL_INTERVAL, Runner};

/// Order events in a second.
const EVENTS_A_SECOND: u32 = 50;
/// Longest p95 from the queue to the hold, in milliseconds.
const REACH_HELD_MS: f64 = 300.0;
/// Longest p95 from the hold to the published event, in milliseconds.
const REACH_PUBLISHED_MS: f64 = 500.0;
/// Longest wait for one order.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it.
pub(crate) async fn measure(options: &Options, log: &Path) -> Result<Findings, Error> {
    let count = options.sized(5, 100, 1_000);
    let runner = Runner::start(log).await?;
    runner.add("EVENTS", 1_000_000).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / EVENTS_A_SECOND);
    let mut orders = JoinSet::new();
    for i in 0..count {
        ticks.tick().await;
        let calls = runner.client();
        orders.spawn(async move { send_event(&calls, &format!("event-{i}")).await });
    }
    let (mut held, mut published) = (Vec::new(), Vec::new());
    while let Some(order) = orders.join_next().await {
        let (to_hold, to_published) = order??;
        held.push(to_hold);
        published.push(to_published);
    }
    // At the same pace, so that the publisher has as much to do.
    let mut reserved = Vec::new();
    for i in 0..count {
        ticks.tick().await;
        let (done, took) = time(runner.reserve(&format!("request-{i}"), "EVENTS")).await;
        done?;
        reserved.push(took);
    }
    runner.stop().await?;
    let [held, published, reserved] = [held, published, reserved].map(Sample::from_iter);
    let columns: Vec<&str> = ["way"].into_iter().chain(LATENCY_COLUMNS).collect();
    let mut table = Table::new(format!("{EVENTS_A_SECOND} orders a second"), &columns);
    for (way, sample) in [
        ("event, from the queue to the hold", &held),
        ("event, from the hold to what is published", &published),
        ("request, from sent to answered", &reserved),
    ] {
        table.push([Cell::from(way)].into_iter().chain(latency_cells(sample)));
    }
    let p95 = |sample: &Sample| ms(sample.percentile(95));
    let comparisons = vec![
        Comparison::at_most("event to hold, p95 ms", p95(&held), REACH_HELD_MS),
        Comparison::at_most("hold to published event, p95 ms", p95(&published), REACH_PUBLISHED_MS),
    ];
    Ok(Findings { tables: vec![table], comparisons })
}

/// Sends an order event; answers how long it took until stock was held, and from then until that was published.
async fn send_event(calls: &Calls, order: &str) -> Result<(Duration, Duration), Error> {
    let item = json!({"sku": "EVENTS", "quantity": 1});
    let event = json!({"eventType": "OrderCreated", "orderId": order, "items": [item]}).to_string();
    let queue = format!("{}/000000000000/holdfast-orders", calls.aws);
    let sent = Instant::now();
    calls.aws("AmazonSQS.SendMessage", &json!({"QueueUrl": queue, "MessageBody": event})).await?;
    let until = sent + PATIENCE;
    while !is_held(calls, order).await? {
        pause(order, until).await?;
    }
    let held = Instant::now();
    while !is_published(calls, order).await? {
        pause(order, until).await?;
    }
    Ok((held - sent, held.elapsed()))
}

/// Whether an order holds stock.
async fn is_held(calls: &Calls, order: &str) -> Result<bool, Error> {
    let found = calls.get(&format!("/api/inventory/reservations/order/{order}")).await?;
    Ok(found["items"].as_array().is_some_and(|items| !items.is_empty()))
}

/// Whether something was published about an order.
async fn is_published(calls: &Calls, order: &str) -> Result<bool, Error> {
    let url = format!("{}/_local/events?orderId={order}", calls.aws);
    let found: serde_json::Value = calls.http.get(&url).send().await?.json().await?;
    Ok(found["events"].as_array().is_some_and(|events| !events.is_empty()))
}

/// The time until the next look, if there is one.
async fn pause(order: &str, until: Instant) -> Result<(), Error> {
    if Instant::now() > until {
        return Err(format!("{order} was waited for in vain; the log may say why").into());
    }
    tokio::time::sleep(POLL_INTERVAL).await;
    Ok(())
}
