//! Functions as AWS Lambda runs them: each in processes of its own that poll a Runtime API. A process works on one
//! invocation at a time or, where its function can, on several, as on Lambda Managed Instances; when all are full,
//! another is started, up to a bound. A time-out is enforced, and a process that ends is answered for at once.
//!
//! `error` says why there is no answer, `process` is one process, `runtime_api` what it polls.

mod error;
mod process;
mod runtime_api;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::account::REGION;
use crate::template::Function;
pub use error::InvokeError;
use process::{Process, Ticket};
pub use runtime_api::MAX_PAYLOAD_BYTES;
use runtime_api::Processes;

/// How much of one function runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// The most processes.
    pub processes: u8,
    /// The most invocations in each process, of functions that can work on several.
    pub invocations: u8,
}

impl FromStr for Concurrency {
    type Err = String;

    /// `4x8` for 4 processes with 8 invocations in each, `4` for 4 processes with one.
    fn from_str(text: &str) -> Result<Self, String> {
        let (processes, invocations) = text.split_once('x').unwrap_or((text, "1"));
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        match (number(processes), number(invocations)) {
            (Some(processes), Some(invocations)) => Ok(Self { processes, invocations }),
            _ => Err("expected a number of processes, or processes x requests in each, such as 4 or 4x8; \
                each number from 1 to 255"
                .to_owned()),
        }
    }
}

/// All functions of a template.
#[derive(Clone)]
pub struct Lambda {
    functions: Arc<HashMap<String, Arc<Pool>>>,
}

/// The processes of one function.
struct Pool {
    function: Function,
    /// The most invocations in one process.
    capacity: usize,
    /// Bounds how many invocations are under way at once.
    permits: Arc<Semaphore>,
    running: Mutex<Vec<Arc<Process>>>,
    runtime_api: SocketAddr,
    aws_endpoint: String,
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
        concurrency: Concurrency,
    ) -> std::io::Result<Self> {
        let processes = Arc::new(Processes::default());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let runtime_api = listener.local_addr()?;
        let router = runtime_api::router(Arc::clone(&processes));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let pool = |function: &Function| {
            let capacity =
                if function.works_on_several_at_once() { concurrency.invocations.into() } else { 1 };
            Pool {
                function: function.clone(),
                capacity,
                permits: Arc::new(Semaphore::new(capacity * usize::from(concurrency.processes))),
                running: Mutex::default(),
                runtime_api,
                aws_endpoint: aws_endpoint.to_owned(),
                processes: Arc::clone(&processes),
            }
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
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|e| self.not_started(&e))?;
        let (process, ticket) = self.take_place(permit)?;
        process.run(ticket, event, self.function.timeout).await
    }

    fn not_started(&self, why: &dyn std::fmt::Display) -> InvokeError {
        InvokeError::NotStarted(self.function.name.clone(), why.to_string())
    }

    /// A place in the first process that has one, or else in a new process. A place for each permit: if all processes
    /// are full, there may be another.
    fn take_place(&self, permit: OwnedSemaphorePermit) -> Result<(Arc<Process>, Ticket), InvokeError> {
        let mut permit = Some(permit);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|process| process.is_alive());
        for process in running.iter() {
            if let Some(ticket) = process.take_place(&mut permit) {
                return Ok((Arc::clone(process), ticket));
            }
        }
        let start = |number| {
            let child = self.command(number)?.spawn()?;
            Ok(Process::new(&self.function.name, child, self.capacity))
        };
        let process = self.processes.add(start).map_err(|e| self.not_started(&e))?;
        let ticket = process.take_place(&mut permit).ok_or_else(|| self.not_started(&"it has no place"))?;
        running.push(Arc::clone(&process));
        let followed = Arc::clone(&process);
        tokio::spawn(async move { followed.follow().await });
        Ok((process, ticket))
    }

    /// The function as a process: this very program again, told which function to be. Its environment is
    /// what Lambda gives, nothing of ours.
    fn command(&self, number: u64) -> std::io::Result<Command> {
        let Function { name, memory_mb, environment, .. } = &self.function;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["function", name, "--exit-with-stdin"])
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
            .stdin(Stdio::piped())
            .stdout(std::io::stderr())
            .kill_on_drop(true);
        if self.capacity > 1 {
            command.env("AWS_LAMBDA_MAX_CONCURRENCY", self.capacity.to_string());
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concurrency_is_processes_and_invocations_in_each() {
        let of = |processes, invocations| Ok(Concurrency { processes, invocations });
        assert_eq!("8".parse(), of(8, 1));
        assert_eq!("2x16".parse(), of(2, 16));
        assert_eq!("255x255".parse(), of(255, 255));
        for bad in
            ["", "x", "0", "0x4", "4x0", "4x", "x4", "256", "4x256", "-1", "4X8", "4 x 8", "2x3x4", "many"]
        {
            let sentence = bad.parse::<Concurrency>().unwrap_err();
            assert!(sentence.contains("such as 4 or 4x8"), "{bad}: {sentence}");
        }
    }
}
