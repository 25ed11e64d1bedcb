//! `clients`: many clients at once, on one product and on 10,000, through the runner's gateway, with requests that share
//! transactions and without; and as many clients of the SDK with nothing but the two writes, against the same database.

use std::path::Path;
use std::time::{Duration, Instant};

use shared::Error;
use tokio::task::JoinSet;

use crate::measure::{Sample, rate, ratio, time};
use crate::options::Options;
use crate::raw;
use crate::report::{Cell, Comparison, Findings, LATENCY_COLUMNS, Table, latency_cells};
use crate::runner::{Calls, Runner};

/// Reserves a second that one product is to take from [`BUSY`] clients.
const REACH: f64 = 200.0;
/// Clients of a busy shop.
const BUSY: usize = 32;
/// How long clients order before anything counts, so that all processes of the function have started.
const WARM_UP: Duration = Duration::from_millis(500);

/// The columns that the picture shows.
pub(crate) const PICTURED: [&str; 6] = ["products", "way", "clients", "a second", "p50 ms", "p99 ms"];
/// The way through Holdfast, as the table names it.
pub(crate) const OURS: &str = "reserve by HTTP";
/// The same where requests share no transactions.
const ALONE: &str = "the same, each alone";
const SDK: &str = "raw SDK transaction";
/// One process of a function, which has so many requests at once as there are clients here.
const ONE_PROCESS: [&str; 2] = ["--concurrency", "1x255"];

/// Runs it.
pub(crate) async fn measure(options: &Options, log: &Path) -> Result<Findings, Error> {
    let busy = options.sized(4, BUSY, BUSY);
    let counts = options.sized(vec![1, busy], vec![1, busy], vec![1, busy, 100, 400]);
    let many = options.sized(50, 1_000, 10_000);
    let columns: Vec<&str> =
        ["products", "way", "clients"].into_iter().chain(LATENCY_COLUMNS).chain(["a second"]).collect();
    let mut table = Table::new("Clients that each order again as soon as they are answered", &columns);
    let mut findings = Findings::default();
    let combining = Runner::start_with(log, &ONE_PROCESS).await?;
    let [option, at_once] = ONE_PROCESS;
    let alone = Runner::start_with(log, &[option, at_once, "--parameter", "CombineWrites=false"]).await?;
    for products in [1, many] {
        let names: Vec<String> = (0..products).map(|i| format!("C{products}-{i}")).collect();
        for runner in [&combining, &alone] {
            runner.stock(&names, 1_000_000).await?;
        }
        let load = |way, clients, time| Load { way, clients, time, products: &names, options };
        for runner in [&combining, &alone] {
            load(OURS, busy, WARM_UP).put_on(runner, "warm").await?;
        }
        for clients in &counts {
            let mut rates = [0.0; 3];
            let ways = [(OURS, &combining), (ALONE, &alone), (SDK, &alone)];
            for (i, (way, runner)) in ways.into_iter().enumerate() {
                runner.wait_for_publisher().await?;
                let load = load(way, *clients, options.load());
                let (sample, took) = load.put_on(runner, "order").await?;
                rates[i] = rate(sample.len(), took);
                let row = [Cell::count(products), way.into(), Cell::count(*clients)];
                table.push(row.into_iter().chain(latency_cells(&sample)).chain([Cell::Number(rates[i])]));
            }
            if *clients == busy {
                let what = format!("reserves a second, {busy} clients, products: {products}");
                findings.comparisons.push(Comparison::at_least(&what, rates[0], REACH));
                let what = format!("raw transactions for one reserve, {busy} clients, products: {products}");
                findings.comparisons.push(Comparison::at_most(&what, ratio(rates[2], rates[0]), 4.0));
            }
            if *clients == 100 && products == 1 {
                let what = "reserves of one product, 100 clients: together instead of each alone";
                findings.comparisons.push(Comparison::at_least(what, ratio(rates[0], rates[1]), 1.8));
            }
        }
    }
    combining.stop().await?;
    alone.stop().await?;
    findings.tables.push(table);
    Ok(findings)
}

/// Clients that order for a while.
struct Load<'a> {
    way: &'static str,
    clients: usize,
    /// How long they go on.
    time: Duration,
    products: &'a [String],
    options: &'a Options,
}

impl Load<'_> {
    /// The time of each order, and of all together. The orders' names begin so.
    async fn put_on(&self, runner: &Runner, prefix: &str) -> Result<(Sample, Duration), Error> {
        let until = self.time;
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for client in 0..self.clients {
            let calls = runner.client();
            let (way, products) = (self.way, self.products.to_vec());
            let mut rng = self.options.rng(client as u64);
            let name = format!("{prefix}-{}-{}-{client}", self.products.len(), self.clients);
            clients.spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < until {
                    let order = format!("{name}-{}", times.len());
                    let product = &products[rng.usize(0..products.len())];
                    let (done, took) = time(order_once(&calls, way, &order, product)).await;
                    done?;
                    times.push(took);
                }
                Ok::<_, Error>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(client) = clients.join_next().await {
            times.extend(client??);
        }
        Ok((times.into_iter().collect(), began.elapsed()))
    }
}

async fn order_once(calls: &Calls, way: &str, order: &str, product: &str) -> Result<(), Error> {
    match way {
        OURS | ALONE => calls.reserve(order, product).await,
        _ => raw::transaction(&calls.dynamodb, order, product).await,
    }
}
