//! `overhead`: what each layer adds to the transaction of two items that a reserve is. All ways go to the same database
//! in turn, one client at a time.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;
use shared::Error;

use crate::embedded::{CALLER, Handlers};
use crate::measure::{Sample, time};
use crate::options::Options;
use crate::raw;
use crate::report::{Cell, Comparison, Findings, LATENCY_COLUMNS, Table, latency_cells};
use crate::runner::Runner;

/// Rounds before those that count: they warm up connections and caches.
const WARM_UP: usize = 50;

/// The ways, each with what it adds to the one before.
const WAYS: [&str; 4] = [
    "raw HTTP request, prepared",
    "raw SDK transaction",
    "handler reserve, in process",
    "reserve by gateway and function",
];
/// The way that the others are compared with.
const SDK: usize = 1;

/// Runs it.
pub(crate) async fn measure(options: &Options, log: &std::path::Path) -> Result<Findings, Error> {
    let rounds = options.sized(3, 200, 2_000);
    let runner = Runner::start(log).await?;
    runner.add("OVERHEAD", 1_000_000).await?;
    let handlers = Handlers::over(shared::aws::config_for(&runner.aws, CALLER)).await?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    let warm_up = WARM_UP.min(rounds);
    for round in 0..rounds + warm_up {
        // Whoever comes first waits for what the one before has left to do, so each comes first in turn.
        for way in (0..WAYS.len()).map(|i| (i + round) % WAYS.len()) {
            let (done, took) = time(go(way, round, &runner, &handlers)).await;
            done?;
            if round >= warm_up {
                times[way].push(took);
            }
        }
    }
    runner.stop().await?;
    Ok(findings(times.map(Sample::from_iter)))
}

async fn go(way: usize, round: usize, runner: &Runner, handlers: &Handlers) -> Result<(), Error> {
    let order = format!("overhead-{way}-{round}");
    let product = "OVERHEAD";
    match way {
        0 => {
            let request = runner
                .http
                .post(&runner.aws)
                .header(CONTENT_TYPE, "application/x-amz-json-1.0")
                .header("x-amz-target", "DynamoDB_20120810.TransactWriteItems")
                .header(AUTHORIZATION, format!("AWS4-HMAC-SHA256 Credential={CALLER}/20260101"))
                .body(raw::transaction_body(&order, product));
            request.send().await?.error_for_status()?.bytes().await?;
            Ok(())
        }
        SDK => raw::transaction(&runner.dynamodb, &order, product).await,
        2 => {
            let body = json!({"orderId": order, "productId": product, "quantity": 1});
            handlers.succeed("", "POST /reserve", &body).await.map(drop)
        }
        _ => runner.reserve(&order, product).await,
    }
}

fn findings(samples: [Sample; 4]) -> Findings {
    let columns: Vec<&str> = ["way"].into_iter().chain(LATENCY_COLUMNS).chain(["to the SDK"]).collect();
    let mut table = Table::new("A transaction of two items, one client", &columns);
    for (name, sample) in WAYS.iter().zip(&samples) {
        let cells = [Cell::from(*name)].into_iter().chain(latency_cells(sample));
        table.push(cells.chain([Cell::Number(sample.ratio_to(&samples[SDK]))]));
    }
    let [_, sdk, handler, whole] = &samples;
    let comparisons = vec![
        Comparison::at_most("handler to raw SDK transaction, medians", handler.ratio_to(sdk), 1.5),
        Comparison::at_most("reserve by HTTP to raw SDK transaction, medians", whole.ratio_to(sdk), 2.0),
    ];
    Findings { tables: vec![table], comparisons }
}
