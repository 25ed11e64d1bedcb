//! `sweep`: many holds of one product that are due at once, against as many that are released one by one.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use shared::Error;
use shared::domain::reservation::CLOCK_MARGIN;
use tokio::task::JoinSet;

use crate::measure::{rate, ratio};
use crate::options::Options;
use crate::report::{Cell, Comparison, Findings, Table};
use crate::runner::Runner;

/// Clients that hold and release.
const CLIENTS: usize = 32;
/// Longest time for 10,000 holds, in seconds.
const REACH_SECONDS: f64 = 20.0;
/// Fewest holds that one transaction ends when one product has them all.
const REACH_TOGETHER: f64 = 40.0;

/// Runs it.
pub(crate) async fn measure(options: &Options, log: &Path) -> Result<Findings, Error> {
    let due = options.sized(100, 2_000, 10_000);
    let released = options.sized(10, 500, 2_000);
    let runner = Runner::start(log).await?;
    runner.add("SWEEP", 1_000_000).await?;
    let hold = |order: &str, seconds| json!({"orderId": order, "productId": "SWEEP", "quantity": 1, "ttlSeconds": seconds});
    at_once(&runner, released, "/reserve", move |i| hold(&format!("released-{i}"), 3_600)).await?;
    runner.wait_for_publisher().await?;
    let one_by_one =
        at_once(&runner, released, "/release", |i| json!({"orderId": format!("released-{i}")})).await?;
    at_once(&runner, due, "/reserve", move |i| hold(&format!("due-{i}"), 1)).await?;
    // The last of them is over after a second, and may be ended after the margin for clocks.
    tokio::time::sleep(Duration::from_secs(1) + CLOCK_MARGIN).await;
    runner.wait_for_publisher().await?;
    let began = Instant::now();
    let swept = runner.invoke("expiry-sweep").await?;
    let took = began.elapsed();
    runner.stop().await?;

    let [expired, transactions] = ["expired", "transactions"].map(|name| swept[name].as_u64().unwrap_or(0));
    let mut table =
        Table::new("Holds of one product that end", &["way", "holds", "transactions", "seconds", "a second"]);
    let row = |way: &str, holds: usize, transactions: usize, time: Duration| {
        let figures = [Cell::count(holds), Cell::count(transactions)];
        let time = [Cell::Number(time.as_secs_f64()), Cell::Number(rate(holds, time))];
        [Cell::from(way)].into_iter().chain(figures).chain(time).collect::<Vec<_>>()
    };
    table.push(row("the sweep, all that are due", expired as usize, transactions as usize, took));
    table.push(row(&format!("releases, {CLIENTS} clients"), released, released, one_by_one));
    let together = ratio(expired as f64, transactions as f64);
    let comparisons = vec![
        Comparison::new(
            "due holds that were ended",
            Cell::Count(expired),
            format!("all {due}"),
            expired == due as u64,
        ),
        Comparison::at_most("seconds of the sweep", took.as_secs_f64(), REACH_SECONDS),
        Comparison::at_least("holds for each transaction", together, REACH_TOGETHER),
    ];
    Ok(Findings { tables: vec![table], comparisons })
}

/// Sends this request so many times, by several clients; answers how long that took.
async fn at_once(
    runner: &Runner,
    count: usize,
    path: &'static str,
    body: impl Fn(usize) -> serde_json::Value + Clone + Send + Sync + 'static,
) -> Result<Duration, Error> {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (calls, body) = (runner.client(), body.clone());
        clients.spawn(async move {
            for i in (client..count).step_by(CLIENTS) {
                calls.post(path, &body(i)).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(began.elapsed())
}
