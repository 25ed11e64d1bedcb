//! Functions as AWS Lambda runs them: each in processes of its own that poll a Runtime API, one
//! invocation at a time for each process, as many processes as there are invocations at once (up to a
//! bound), a time-out that is enforced, and a process that ends is answered for at once.
//!
//! Source of the protocol: AWS Lambda Developer Guide, "Using the Lambda runtime API".

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};

use crate::account::{ACCOUNT_ID, REGION};
use crate::clock::now_ms;
use crate::template::Function;

/// Longest start of a process until it asks for its first invocation, as on AWS.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest event and answer. Source: AWS Lambda Developer Guide, "Quotas", invocation payload.
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// Why an invocation has no answer.
#[derive(Debug, Error)]
pub enum InvokeError {
    /// There is no such function.
    #[error("there is no function {0}")]
    Unknown(String),
    /// Its process could not be started.
    #[error("function {0} could not be started: {1}")]
    NotStarted(String, String),
    /// Its process ended.
    #[error("the process of function {0} ended ({1})")]
    Ended(String, String),
    /// It took too long and was ended.
    #[error("function {0} took longer than {1:?} and was ended")]
    TimedOut(String, Duration),
    /// It answered with an error.
    #[error("function {0} answered with an error: {1}")]
    Failed(String, String),
}

/// All functions of a template.
#[derive(Clone)]
pub struct Lambda {
    functions: Arc<HashMap<String, Arc<Pool>>>,
}

/// The processes of one function.
struct Pool {
    function: Function,
    /// Bounds how many invocations run at once.
    permits: Semaphore,
    idle: Mutex<Vec<Process>>,
    runtime_api: SocketAddr,
    aws_endpoint: String,
    processes: Arc<Processes>,
}

/// The processes that poll the Runtime API, by the number that is a part of the address they poll.
#[derive(Default)]
struct Processes {
    last: AtomicU64,
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
}

/// The Runtime API's side of one process.
struct Slot {
    invocations: AsyncMutex<mpsc::Receiver<Invocation>>,
    reports: mpsc::Sender<Report>,
}

struct Invocation {
    id: String,
    deadline_ms: i64,
    event: Bytes,
}

/// A call of a process to the Runtime API.
enum Report {
    Polled,
    Answer { id: String, body: Bytes },
    Error { body: Bytes },
}

/// Our side of one process.
struct Process {
    number: u64,
    child: Child,
    invocations: mpsc::Sender<Invocation>,
    reports: mpsc::Receiver<Report>,
    processes: Arc<Processes>,
}

impl Lambda {
    /// Prepares functions and serves their Runtime API; processes start when they are needed.
    ///
    /// # Errors
    /// If no port can be had for the Runtime API.
    pub async fn start(
        functions: &[Function],
        aws_endpoint: &str,
        concurrency: usize,
    ) -> std::io::Result<Self> {
        let processes = Arc::new(Processes::default());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let runtime_api = listener.local_addr()?;
        let router = runtime_api_router(Arc::clone(&processes));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let pool = |function: &Function| Pool {
            function: function.clone(),
            permits: Semaphore::new(concurrency),
            idle: Mutex::default(),
            runtime_api,
            aws_endpoint: aws_endpoint.to_owned(),
            processes: Arc::clone(&processes),
        };
        let functions = functions.iter().map(|f| (f.name.clone(), Arc::new(pool(f)))).collect();
        Ok(Self { functions: Arc::new(functions) })
    }

    /// Calls a function and waits for its answer. Goes on when the caller has gone, as on AWS.
    ///
    /// # Errors
    /// If it did not answer.
    pub async fn invoke(&self, name: &str, event: Bytes) -> Result<Bytes, InvokeError> {
        let pool = self.functions.get(name).ok_or_else(|| InvokeError::Unknown(name.to_owned()))?;
        let pool = Arc::clone(pool);
        let ended = |e: &dyn std::fmt::Display| InvokeError::Ended(name.to_owned(), e.to_string());
        tokio::spawn(async move { pool.invoke(event).await }).await.map_err(|e| ended(&e))?
    }
}

impl Pool {
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        let name = &self.function.name;
        let not_started = |e: &dyn std::fmt::Display| InvokeError::NotStarted(name.clone(), e.to_string());
        let _permit = self.permits.acquire().await.map_err(|e| not_started(&e))?;
        let mut process = match self.take_idle() {
            Some(process) => process,
            None => self.start().await?,
        };
        let answer = self.run(&mut process, event).await;
        // A process that answered, with an error or without, takes the next invocation.
        if matches!(answer, Ok(_) | Err(InvokeError::Failed(..))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        }
        answer
    }

    /// An idle process that is still there.
    fn take_idle(&self) -> Option<Process> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut process) = idle.pop() {
            if matches!(process.child.try_wait(), Ok(None)) {
                return Some(process);
            }
        }
        None
    }

    async fn start(&self) -> Result<Process, InvokeError> {
        let name = &self.function.name;
        let not_started = |e: &dyn std::fmt::Display| InvokeError::NotStarted(name.clone(), e.to_string());
        let (invocations, to_process) = mpsc::channel(1);
        let (reports, from_process) = mpsc::channel(4);
        let number = self.processes.last.fetch_add(1, Ordering::Relaxed);
        let slot = Slot { invocations: AsyncMutex::new(to_process), reports };
        self.processes.insert(number, slot);
        let mut child = self.command(number).map_err(|e| not_started(&e))?;
        let spawned = child.spawn().map_err(|e| not_started(&e))?;
        let processes = Arc::clone(&self.processes);
        let mut process = Process { number, child: spawned, invocations, reports: from_process, processes };
        let first = tokio::select! {
            report = process.reports.recv() => report,
            status = process.child.wait() => return Err(not_started(&describe(status))),
            () = tokio::time::sleep(INIT_TIMEOUT) => return Err(not_started(&"it does not ask for an invocation")),
        };
        match first {
            Some(Report::Polled) => Ok(process),
            Some(Report::Error { body }) => Err(not_started(&String::from_utf8_lossy(&body))),
            Some(Report::Answer { .. }) | None => Err(not_started(&"it does not speak the Runtime API")),
        }
    }

    /// The function as a process: this very program again, told which function to be. Its environment is
    /// what Lambda gives, nothing of ours.
    fn command(&self, number: u64) -> std::io::Result<Command> {
        let Function { name, memory_mb, environment, .. } = &self.function;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["function", name])
            .env_clear()
            .envs(environment)
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://{}/{number}", self.runtime_api))
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb.to_string())
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}"))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", number.to_string())
            .env("AWS_REGION", REGION)
            // The access key names the caller to the endpoint below.
            .env("AWS_ACCESS_KEY_ID", name)
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_ENDPOINT_URL", &self.aws_endpoint)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, process: &mut Process, event: Bytes) -> Result<Bytes, InvokeError> {
        let Function { name, timeout, .. } = &self.function;
        let id = invocation_id();
        let deadline_ms = now_ms() + i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let invocation = Invocation { id: id.clone(), deadline_ms, event };
        let ended = |what: String| InvokeError::Ended(name.clone(), what);
        process.invocations.send(invocation).await.map_err(|e| ended(e.to_string()))?;
        let answer = async {
            loop {
                match process.reports.recv().await {
                    Some(Report::Answer { id: of, body }) if of == id => return Ok(body),
                    Some(Report::Error { body }) => {
                        let error = String::from_utf8_lossy(&body).into_owned();
                        return Err(InvokeError::Failed(name.clone(), error));
                    }
                    // It polls, or answers an invocation that is long over.
                    Some(Report::Polled | Report::Answer { .. }) => {}
                    None => return Err(ended("its Runtime API is gone".to_owned())),
                }
            }
        };
        tokio::select! {
            answer = answer => answer,
            status = process.child.wait() => Err(ended(describe(status))),
            () = tokio::time::sleep(*timeout) => Err(InvokeError::TimedOut(name.clone(), *timeout)),
        }
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|e| e.to_string(), |status| status.to_string())
}

fn invocation_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Processes {
    fn insert(&self, number: u64, slot: Slot) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(slot));
    }

    fn get(&self, number: u64) -> Result<Arc<Slot>, StatusCode> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(&number).cloned().ok_or(StatusCode::NOT_FOUND)
    }
}

/// The child itself is ended by `kill_on_drop`.
impl Drop for Process {
    fn drop(&mut self) {
        self.processes.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

fn runtime_api_router(processes: Arc<Processes>) -> Router {
    Router::new()
        .route("/{process}/2018-06-01/runtime/invocation/next", get(hand_out_invocation))
        .route("/{process}/2018-06-01/runtime/invocation/{id}/response", post(take_answer))
        .route("/{process}/2018-06-01/runtime/invocation/{id}/error", post(take_error))
        .route("/{process}/2018-06-01/runtime/init/error", post(take_init_error))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .with_state(processes)
}

async fn hand_out_invocation(
    State(processes): State<Arc<Processes>>,
    Path(process): Path<u64>,
) -> Result<Response, StatusCode> {
    let slot = processes.get(process)?;
    slot.reports.send(Report::Polled).await.map_err(|_| StatusCode::GONE)?;
    let invocation = slot.invocations.lock().await.recv().await.ok_or(StatusCode::GONE)?;
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", invocation.deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:local"),
        ),
        ("content-type", "application/json".to_owned()),
    ];
    Ok((headers, invocation.event).into_response())
}

async fn take_answer(
    State(processes): State<Arc<Processes>>,
    Path((process, id)): Path<(u64, String)>,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    pass_on(&processes, process, Report::Answer { id, body }).await
}

async fn take_error(
    State(processes): State<Arc<Processes>>,
    Path((process, _id)): Path<(u64, String)>,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    pass_on(&processes, process, Report::Error { body }).await
}

async fn take_init_error(
    State(processes): State<Arc<Processes>>,
    Path(process): Path<u64>,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    pass_on(&processes, process, Report::Error { body }).await
}

async fn pass_on(processes: &Processes, process: u64, report: Report) -> Result<StatusCode, StatusCode> {
    processes.get(process)?.reports.send(report).await.map_err(|_| StatusCode::GONE)?;
    Ok(StatusCode::ACCEPTED)
}
