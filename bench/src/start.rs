//! `start`: from the start of the runner, and of a function, to the first answer; and how large programs and processes
//! are. Against the start of a process that does nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;
use shared::Error;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::measure::{Sample, ms, time};
use crate::options::Options;
use crate::report::{Cell, Comparison, Findings, LATENCY_COLUMNS, Table, latency_cells};
use crate::runner::Runner;
use crate::{embedded, raw, tls};

/// The function that is started.
const FUNCTION: &str = "reserve";
/// The functions whose programs are looked at.
const FUNCTIONS: [&str; 10] = [
    "reserve",
    "release",
    "settle",
    "check",
    "docs",
    "stock-admin",
    "order-events",
    "expiry-sweep",
    "publisher",
    "reconcile",
];
/// Longest wait for a function that starts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time from the start of a function to the first request for work, in milliseconds, as a median.
const REACH_START_MS: f64 = 100.0;

/// Runs it.
pub(crate) async fn measure(options: &Options, log: &Path) -> Result<Findings, Error> {
    let starts = options.sized(1, 5, 50);
    let (mut nothing, mut first_200) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        let (done, took) = time(Command::new("true").status()).await;
        done?;
        nothing.push(took);
        let began = Instant::now();
        let runner = Runner::start(log).await?;
        runner.get("/health").await?;
        first_200.push(began.elapsed());
        runner.stop().await?;
    }
    let runner = Runner::start(log).await?;
    runner.add("START", 1_000_000).await?;
    let endpoint = tls::serve(&runner.aws).await?;
    let program = Program::find()?;
    let (mut asks, mut answers, mut memory) = (Vec::new(), Vec::new(), None);
    for i in 0..starts {
        let start = program.start(&endpoint, i, log).await?;
        asks.push(start.asks);
        answers.push(start.answers);
        memory = start.memory;
    }
    let [cold, warmed] = tls::first_calls(&endpoint, options.sized(1, 10, 100)).await?;
    runner.stop().await?;
    let [nothing, first_200, asks, answers] = [nothing, first_200, asks, answers].map(Sample::from_iter);
    let comparisons = vec![
        Comparison::at_most(
            "function to its first /next, median ms",
            ms(asks.percentile(50)),
            REACH_START_MS,
        ),
        Comparison::at_most("first call by TLS, warmed to cold, medians", warmed.ratio_to(&cold), 1.0),
    ];
    let columns: Vec<&str> = ["from start to"].into_iter().chain(LATENCY_COLUMNS).collect();
    let title = format!("Starts; the function is {FUNCTION}, {}", program.describe());
    let mut times = Table::new(title, &columns);
    for (what, sample) in [
        ("end of a process that does nothing", nothing),
        ("first 200 of the runner", first_200),
        ("first /next of a function, connected by TLS", asks),
        ("first answer of a function, by TLS", answers),
        ("first call of a client by TLS, cold", cold),
        ("first call of a client by TLS, warmed", warmed),
    ] {
        times.push([Cell::from(what)].into_iter().chain(latency_cells(&sample)));
    }
    Ok(Findings { tables: vec![times, sizes(&program, memory)?], comparisons })
}

/// The program of the function.
struct Program {
    /// Where it is.
    file: PathBuf,
    /// Whether it is the function's own; otherwise it is this program, which can be each of them.
    is_own: bool,
}

/// How one start went.
struct Start {
    asks: Duration,
    answers: Duration,
    /// Resident memory after the first answer, in KB, as far as the system says so.
    memory: Option<u64>,
}

impl Program {
    fn find() -> Result<Self, Error> {
        let this = std::env::current_exe()?;
        let own = this.with_file_name(FUNCTION);
        let is_own = own.is_file();
        Ok(Self { file: if is_own { own } else { this }, is_own })
    }

    fn describe(&self) -> String {
        if self.is_own {
            return format!("its own program, {}", self.file.display());
        }
        format!("as a part of this program: cargo build --release -p {FUNCTION} makes its own")
    }

    /// Starts the function, gives it one request, and ends it. It reaches DynamoDB by TLS, as on AWS.
    async fn start(&self, endpoint: &tls::Endpoint, number: usize, log: &Path) -> Result<Start, Error> {
        let (reports, mut reported) = mpsc::unbounded_channel();
        let body = json!({"orderId": format!("start-{number}"), "productId": "START", "quantity": 1});
        let event = embedded::event(0, "", "POST /reserve", &body).to_string();
        let api = Arc::new(RuntimeApi { reports, event: event.into(), is_over: AtomicBool::new(false) });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(hand_out))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(take_answer))
            .with_state(api);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut command = Command::new(&self.file);
        if !self.is_own {
            command.args(["function", FUNCTION]);
        }
        let log = std::fs::File::options().append(true).create(true).open(log)?;
        command
            .env_clear()
            .envs(environment(&url, endpoint))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let began = Instant::now();
        let mut process = command.spawn()?;
        let mut next = async || -> Result<Duration, Error> {
            let report = tokio::time::timeout(PATIENCE, reported.recv()).await;
            let at = report.map_err(|_| "the function does not answer; its log may say why")?;
            Ok(at.ok_or("the Runtime API is gone")? - began)
        };
        let start = Start {
            asks: next().await?,
            answers: next().await?,
            memory: process.id().and_then(resident_memory),
        };
        process.kill().await?;
        serving.abort();
        Ok(start)
    }
}

/// What Lambda gives a function, as far as it is used.
fn environment(runtime_api: &str, endpoint: &tls::Endpoint) -> [(&'static str, String); 13] {
    let text = str::to_owned;
    [
        ("AWS_LAMBDA_RUNTIME_API", text(runtime_api)),
        ("AWS_LAMBDA_FUNCTION_NAME", text(FUNCTION)),
        ("AWS_LAMBDA_FUNCTION_VERSION", text("$LATEST")),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", text("256")),
        ("AWS_LAMBDA_LOG_GROUP_NAME", text("bench")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", text("bench")),
        ("AWS_REGION", text("us-east-1")),
        ("AWS_ACCESS_KEY_ID", text(FUNCTION)),
        ("AWS_SECRET_ACCESS_KEY", text("local")),
        ("AWS_ENDPOINT_URL", endpoint.url.clone()),
        // The only certificate that the function trusts; on AWS it reads a whole bundle.
        ("SSL_CERT_FILE", endpoint.certificate.display().to_string()),
        ("INVENTORY_TABLE", text(raw::INVENTORY)),
        ("LEDGER_TABLE", text(raw::LEDGER)),
    ]
}

/// Lambda's Runtime API for one process and one invocation.
struct RuntimeApi {
    reports: mpsc::UnboundedSender<Instant>,
    event: Bytes,
    is_over: AtomicBool,
}

async fn hand_out(State(api): State<Arc<RuntimeApi>>) -> Response {
    let at = Instant::now();
    if api.is_over.swap(true, Ordering::SeqCst) {
        // There is no second invocation.
        return std::future::pending().await;
    }
    if api.reports.send(at).is_err() {
        return StatusCode::GONE.into_response();
    }
    let deadline = shared::domain::Timestamp::now() + PATIENCE;
    let headers = [
        ("lambda-runtime-aws-request-id", "start".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.as_millisecond().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:1:function:bench".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, api.event.clone()).into_response()
}

async fn take_answer(State(api): State<Arc<RuntimeApi>>, answer: String) -> StatusCode {
    // Anything but a hold would be the time of something else.
    let is_held = answer.contains("\"statusCode\":201");
    match is_held && api.reports.send(Instant::now()).is_ok() {
        true => StatusCode::ACCEPTED,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The memory that a process has resident, in KB. None where the system does not say.
fn resident_memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The programs beside this one, and the memory of the one that was started.
fn sizes(program: &Program, memory: Option<u64>) -> Result<Table, Error> {
    let mb = |bytes: u64| Cell::Number(bytes as f64 / 1_000_000.0);
    let mut table =
        Table::new("Sizes, for this machine's processor", &["program", "MB", "zip MB", "resident MB"]);
    let this = std::env::current_exe()?;
    for name in FUNCTIONS {
        let file = this.with_file_name(name);
        let is_started = name == FUNCTION;
        let file = if is_started { program.file.clone() } else { file };
        if !file.is_file() {
            continue;
        }
        // A dev build is large, and its size says nothing.
        let zipped = if cfg!(debug_assertions) { Cell::Nothing } else { mb(zipped_size(&file)?) };
        let resident = memory.filter(|_| is_started).map_or(Cell::Nothing, |kb| mb(kb * 1_024));
        let name = if program.is_own || !is_started { name } else { "bench (all functions)" };
        table.push([name.into(), mb(file.metadata()?.len()), zipped, resident]);
    }
    Ok(table)
}

/// How large the archive is that Lambda is given.
fn zipped_size(file: &Path) -> Result<u64, Error> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("bootstrap", zip::write::SimpleFileOptions::default())?;
    std::io::copy(&mut std::fs::File::open(file)?, &mut archive)?;
    Ok(archive.finish()?.into_inner().len() as u64)
}
