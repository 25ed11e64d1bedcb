//! `cargo run --release -p bench`: how fast it is on this machine.
//!
//! Everything is measured in one run against one runner, so that the ratios hold wherever it runs: the
//! raw transaction through the SDK, and the same transaction as a reserve through gateway and function,
//! in turn.

mod tls;

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use serde_json::json;
use shared::Error;
use shared::domain::reservation::CLOCK_MARGIN;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The pause between two looks at a condition that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Pairs of one raw transaction and one reserve.
const PAIRS: usize = 1_000;
/// Clients at once.
const CLIENTS: usize = 32;
/// How long these go on.
const LOAD: Duration = Duration::from_secs(10);
/// Order events, and how many a second.
const EVENTS: usize = 1_000;
const EVENTS_A_SECOND: u32 = 50;
/// Holds that a sweep finds due.
const DUE: usize = 10_000;
/// Starts of the runner that are timed.
const STARTS: usize = 5;

fn main() -> ExitCode {
    // With arguments this program is the runner, or one of its functions.
    if std::env::args().len() > 1 {
        return local::main();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(bench()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<(), Error> {
    println!("machine      {}", machine());
    println!("build        {}", if cfg!(debug_assertions) { "dev (use --release)" } else { "release" });
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let runner = Runner::start().await?;
        runner.get("/health").await?;
        starts.push(began.elapsed());
        runner.stop().await?;
    }
    report("start to the first 200", &mut starts);

    let runner = Runner::start().await?;
    runner.post("/api/inventory/add", &json!({"productId": "BENCH", "quantity": 1_000_000})).await?;
    runner.post("/api/inventory/add", &json!({"productId": "RAW", "quantity": 1_000_000})).await?;
    let (mut raw, mut reserve) = (Vec::new(), Vec::new());
    for i in 0..PAIRS + 50 {
        let began = Instant::now();
        runner.raw_transaction(i).await?;
        let between = Instant::now();
        runner.reserve(&format!("pair-{i}")).await?;
        // The first ones warm up connections and caches.
        if i >= 50 {
            raw.push(between - began);
            reserve.push(between.elapsed());
        }
    }
    report("raw SDK transaction, 1 client", &mut raw);
    report("reserve by HTTP, 1 client", &mut reserve);
    println!("ratio        {:.2} (medians; to reach: at most 2)", ratio(&reserve, &raw));
    let [mut cold, mut warmed] = tls::first_calls(&runner.aws).await?;
    report("first call by TLS, cold", &mut cold);
    report("first call by TLS, warmed", &mut warmed);
    load(&runner).await?;
    runner.stop().await?;
    // A runner of its own: the publisher still works on what the load has left.
    let runner = Runner::start().await?;
    events(&runner).await?;
    runner.stop().await?;
    let runner = Runner::start().await?;
    sweep(&runner).await?;
    runner.stop().await
}

/// Orders as events, from the queue to the hold to what is published.
async fn events(runner: &Runner) -> Result<(), Error> {
    runner.post("/api/inventory/add", &json!({"productId": "EVENTS", "quantity": 1_000_000})).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / EVENTS_A_SECOND);
    let mut orders = Vec::new();
    for i in 0..EVENTS {
        ticks.tick().await;
        let calls = runner.calls.clone();
        orders.push(tokio::spawn(async move { calls.hear(&format!("event-{i}")).await }));
    }
    let (mut held, mut published) = (Vec::new(), Vec::new());
    for order in orders {
        let (to_hold, to_published) = order.await??;
        held.push(to_hold);
        published.push(to_published);
    }
    report(&format!("event to hold, {EVENTS_A_SECOND} a second"), &mut held);
    report("hold to published event", &mut published);
    println!("to reach     p95 below 300 ms and below 500 ms");
    Ok(())
}

/// Many holds of one product that are due at once.
async fn sweep(runner: &Runner) -> Result<(), Error> {
    runner.post("/api/inventory/add", &json!({"productId": "SWEEP", "quantity": 1_000_000})).await?;
    let hold = |client: usize| {
        let calls = runner.client();
        async move {
            for i in (client..DUE).step_by(CLIENTS) {
                let body = json!({"orderId": format!("due-{i}"), "productId": "SWEEP", "quantity": 1, "ttlSeconds": 1});
                calls.post("/api/inventory/reserve", &body).await?;
            }
            Ok::<_, Error>(())
        }
    };
    let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(hold(client))).collect();
    for client in clients {
        client.await??;
    }
    // The last of them is over after a second, and may be ended after the margin for clocks.
    tokio::time::sleep(Duration::from_secs(1) + CLOCK_MARGIN).await;
    let began = Instant::now();
    let swept = runner.invoke("expiry-sweep").await?;
    println!(
        "sweep        {} holds in {} transactions in {:.1} s (to reach: 20 s, one transaction for 40)",
        swept["expired"],
        swept["transactions"],
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn load(runner: &Runner) -> Result<(), Error> {
    let began = Instant::now();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let runner = runner.client();
        clients.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < LOAD {
                let sent = Instant::now();
                runner.reserve(&format!("load-{client}-{}", took.len())).await?;
                took.push(sent.elapsed());
            }
            Ok::<_, Error>(took)
        }));
    }
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await??);
    }
    let seconds = began.elapsed().as_secs_f64();
    report(&format!("reserve by HTTP, {CLIENTS} clients"), &mut took);
    println!("throughput   {:.0} reserves a second (to reach: 200)", per(took.len(), seconds));
    Ok(())
}

/// A runner, and what is needed to call it.
struct Runner {
    process: Child,
    calls: Calls,
}

#[derive(Clone)]
struct Calls {
    http: reqwest::Client,
    api: String,
    aws: String,
    dynamodb: Client,
}

impl std::ops::Deref for Runner {
    type Target = Calls;
    fn deref(&self) -> &Calls {
        &self.calls
    }
}

impl Runner {
    async fn start() -> Result<Self, Error> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--port", "0", "--aws-port", "0", "--exit-with-stdin", "--parameter", "LogLevel=error"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let (mut api, mut aws) = (None, None);
        while let Some(line) = lines.next_line().await? {
            let address = || line.split_whitespace().last().map(str::to_owned);
            if line.contains("HTTP API") {
                api = address();
            } else if line.contains("AWS endpoint") {
                aws = address();
            } else if line.contains("Ctrl-C") {
                break;
            }
        }
        let api = api.ok_or("the runner did not come up")?;
        let aws = aws.ok_or("the runner did not come up")?;
        let dynamodb = dynamodb(&aws);
        Ok(Self { process, calls: Calls { http: reqwest::Client::new(), api, aws, dynamodb } })
    }

    async fn stop(mut self) -> Result<(), Error> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }

    /// Another client of the same runner, with connections of its own.
    fn client(&self) -> Calls {
        Calls { http: reqwest::Client::new(), ..self.calls.clone() }
    }
}

impl Calls {
    async fn get(&self, path: &str) -> Result<(), Error> {
        self.http.get(format!("{}{path}", self.api)).send().await?.error_for_status()?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &serde_json::Value) -> Result<(), Error> {
        let answer =
            self.http.post(format!("{}{path}", self.api)).json(body).send().await?.error_for_status()?;
        answer.bytes().await?;
        Ok(())
    }

    async fn reserve(&self, order: &str) -> Result<(), Error> {
        let body = json!({"orderId": order, "productId": "BENCH", "quantity": 1});
        self.post("/api/inventory/reserve", &body).await
    }

    /// Sends an order event; answers how long it took until stock was held, and from then until that was
    /// published.
    async fn hear(&self, order: &str) -> Result<(Duration, Duration), Error> {
        let item = json!({"sku": "EVENTS", "quantity": 1});
        let event = json!({"eventType": "OrderCreated", "orderId": order, "items": [item]}).to_string();
        let queue = format!("{}/000000000000/holdfast-orders", self.aws);
        let request = json!({"QueueUrl": queue, "MessageBody": event});
        let sent = Instant::now();
        let target = "AmazonSQS.SendMessage";
        self.http
            .post(&self.aws)
            .header("x-amz-target", target)
            .json(&request)
            .send()
            .await?
            .error_for_status()?;
        let path = format!("{}/api/inventory/reservations/order/{order}", self.api);
        loop {
            let found: serde_json::Value = self.http.get(&path).send().await?.json().await?;
            if found["items"].as_array().is_some_and(|items| !items.is_empty()) {
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let held = Instant::now();
        while !self.published(order).await? {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok((held - sent, held.elapsed()))
    }

    /// Whether it was published that an order is held.
    async fn published(&self, order: &str) -> Result<bool, Error> {
        let url = format!("{}/_local/events?orderId={order}", self.aws);
        let found: serde_json::Value = self.http.get(url).send().await?.json().await?;
        Ok(found["events"].as_array().is_some_and(|events| !events.is_empty()))
    }

    async fn invoke(&self, function: &str) -> Result<serde_json::Value, Error> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.aws);
        Ok(self.http.post(url).body("{}").send().await?.json().await?)
    }

    /// The two writes of a reserve, without anything around them.
    async fn raw_transaction(&self, i: usize) -> Result<(), Error> {
        const TABLE: &str = "holdfast-inventory";
        let text = |s: &str| AttributeValue::S(s.to_owned());
        let put = Put::builder()
            .table_name(TABLE)
            .item("pk", text(&format!("RAW#{i}")))
            .item("sk", text("RAW"))
            .item("state", text("RESERVED"))
            .condition_expression("attribute_not_exists(pk)")
            .build()?;
        let update = Update::builder()
            .table_name(TABLE)
            .key("pk", text("STOCK#RAW#0"))
            .key("sk", text("main"))
            .update_expression(
                "SET available = available - :q, reserved = reserved + :q, version = version + :q",
            )
            .condition_expression("available >= :q")
            .expression_attribute_values(":q", AttributeValue::N("1".to_owned()))
            .build()?;
        self.dynamodb
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(put).build())
            .transact_items(TransactWriteItem::builder().update(update).build())
            .send()
            .await?;
        Ok(())
    }
}

fn dynamodb(endpoint: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("bench", "local", None, None, "bench"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} cores, {}", model.map_or("unknown processor", |(_, name)| name))
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_micros();
    println!(
        "{what:34} n={:<6} p50 {:>7} µs  p95 {:>7} µs  p99 {:>7} µs",
        took.len(),
        at(50),
        at(95),
        at(99)
    );
}

#[expect(clippy::float_arithmetic, reason = "a ratio")]
fn ratio(of: &[Duration], to: &[Duration]) -> f64 {
    of[of.len() / 2].as_secs_f64() / to[to.len() / 2].as_secs_f64()
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a rate")]
fn per(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds
}
