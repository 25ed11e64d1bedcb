//! The wire between the SDK and AWS: an HTTP client for the SDK that calls [`crate::backend`], takes its time, and
//! misbehaves as [`crate::faults`] says.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use aws_config::ConfigLoader;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::timeout::TimeoutConfig;
use fastrand::Rng;
use local::dynamodb::DynamoDb;
use serde_json::Value;
use shared::aws::ANSWER_TIMEOUT;
use tokio::sync::oneshot;

use crate::backend::{Backend, Seen};
use crate::faults::{Fault, LATE_MS, Mix, SETUP, source};
use crate::invoked::Invoked;
use crate::refusals;
use crate::requests::{Call, Reply};
use crate::time::VirtualTime;

/// The wire. Cheap to clone.
#[derive(Clone)]
pub struct Wire {
    backend: Backend,
    /// The time of the run.
    pub time: VirtualTime,
    seed: u64,
    mix: Arc<Mix>,
    /// The process at this end, where many invocations share one.
    process: Option<Arc<Invoked>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.clone();
        HttpConnectorFuture::new(async move { wire.exchange(&request).await })
    }
}

impl Wire {
    /// A wire to a database.
    #[must_use]
    pub fn new(db: DynamoDb, time: VirtualTime, seed: u64, mix: Mix) -> Self {
        Self {
            backend: Backend::new(db, time, mix.units_a_second),
            time,
            seed,
            mix: Arc::new(mix),
            process: None,
        }
    }

    /// The same wire, from a process that many invocations share.
    #[must_use]
    pub fn of_process(&self, process: &Arc<Invoked>) -> Self {
        Self { process: Some(Arc::clone(process)), ..self.clone() }
    }

    /// The SDK's configuration over this wire. It is always connected, so that only the wait for an answer is bounded.
    #[must_use]
    pub fn config(&self) -> ConfigLoader {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ANSWER_TIMEOUT).build();
        shared::aws::config_for("http://localhost", "sim")
            .http_client(self.client())
            .timeout_config(timeouts)
            .time_source(SharedTimeSource::new(self.time))
    }

    /// The HTTP client for the SDK.
    #[must_use]
    pub fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Everything that was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.backend.seen()
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        self.seen().calm = true;
    }

    /// Notes a line of the trace.
    pub fn note(&self, line: impl AsRef<str>) {
        let ms = self.time.ms();
        self.seen().trace.push(format!("[{:>5}.{:03}] {}", ms / 1000, ms % 1000, line.as_ref()));
    }

    /// Asks the database past all faults.
    #[must_use]
    pub fn ask(&self, operation: &str, request: &Value) -> Value {
        self.backend.ask(operation, request)
    }

    /// One request and its answer. What happens on the other side goes on when the caller is gone.
    async fn exchange(self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        if self.process.as_ref().is_some_and(|process| process.is_killed()) {
            return std::future::pending().await;
        }
        let invoked = Invoked::current(self.process.as_ref());
        let number = invoked.begin_call();
        let call = Call::read(request, &invoked.label, number);
        let mut rng = source(self.seed, &invoked.label, number);
        let fault = self.draw_fault(&call, &invoked, &mut rng);
        let (answer, answered) = oneshot::channel();
        tokio::spawn(self.clone().carry(call, fault, rng, answer, invoked));
        match answered.await {
            Ok(Reply::Answer(status, body)) => Ok(build_response(status, body)),
            Ok(Reply::Reset) => Err(ConnectorError::io("the connection was reset".into())),
            // No answer comes; the SDK gives up.
            Err(_) => std::future::pending().await,
        }
    }

    /// Draws the fault of a call, planned or by chance, and counts it.
    fn draw_fault(&self, call: &Call, invoked: &Invoked, rng: &mut Rng) -> Option<Fault> {
        let mut seen = self.seen();
        seen.requests += 1;
        seen.calls.insert(call.label.clone(), call.number + 1);
        if seen.calm || call.label.starts_with(SETUP) {
            return None;
        }
        let mut nth = invoked.planned();
        nth.resize(self.mix.planned.len(), 0);
        let planned = self.mix.planned(&call.label, &call.operation, call.due, &mut nth);
        let spared = || self.mix.spared.iter().any(|(label, k)| *label == call.label && *k == call.number);
        let fault =
            planned.or_else(|| self.mix.by_chance(rng, &call.operation, call.due).filter(|_| !spared()))?;
        *seen.fired.entry((fault, call.operation.clone())).or_default() += 1;
        if planned.is_none() {
            seen.chances.push((call.label.clone(), call.number));
        }
        drop(seen);
        self.note(format!("{} {} {}: {}", call.label, call.number, call.operation, fault.name()));
        Some(fault)
    }

    /// Ends the process that made a call, with everything that is under way in it.
    fn kill(&self, invoked: &Invoked) {
        self.process.as_deref().unwrap_or(invoked).kill();
    }

    /// Takes back that a fault was counted: it had nothing to act on.
    fn uncount(&self, fault: Fault, call: &Call) {
        if let Some(times) = self.seen().fired.get_mut(&(fault, call.operation.clone())) {
            *times -= 1;
        }
    }

    /// Carries a request to the backend and its reply back, as far as the fault lets them through.
    async fn carry(
        self,
        call: Call,
        fault: Option<Fault>,
        mut rng: Rng,
        answer: oneshot::Sender<Reply>,
        invoked: Arc<Invoked>,
    ) {
        let latency = draw_latency(&mut rng, &call);
        match fault {
            Some(Fault::KillBefore) => return self.kill(&invoked),
            Some(Fault::Drop) => return send_answer(answer, Reply::Reset),
            Some(Fault::Hang) => return,
            Some(Fault::Late) => {
                tokio::time::sleep(Duration::from_millis(rng.u64(1_050..self.mix.late_ms.max(LATE_MS)))).await
            }
            _ => {}
        }
        tokio::time::sleep(latency / 4).await;
        let reply = match fault {
            Some(Fault::ErrorBefore) => refusals::error_500(),
            Some(Fault::Throttle) => refusals::busy(&call, "ThrottlingError"),
            Some(Fault::Conflict) => refusals::busy(&call, "TransactionConflict"),
            Some(Fault::InProgress) => {
                send_answer(answer, refusals::in_progress());
                let stuck = Duration::from_millis(rng.u64(1_000..6_500));
                self.backend.serve(&call, stuck, true, None).await;
                return;
            }
            Some(part @ (Fault::Partial | Fault::Stale)) => {
                self.backend.serve(&call, latency / 2, false, Some((part, rng.fork()))).await
            }
            _ => self.backend.serve(&call, latency / 2, false, None).await,
        };
        tokio::time::sleep(latency / 4).await;
        match fault {
            Some(Fault::Lose) if rng.bool() => send_answer(answer, Reply::Reset),
            Some(Fault::Lose | Fault::Late) => {}
            Some(Fault::ErrorAfter) => send_answer(answer, refusals::error_500()),
            Some(Fault::KillAfter) => self.kill(&invoked),
            // Twice means that it was applied once. What was refused does not come back by itself.
            Some(Fault::Dup) if !matches!(reply, Reply::Answer(200, _)) => {
                self.uncount(Fault::Dup, &call);
                send_answer(answer, reply);
            }
            Some(Fault::Dup) if rng.bool() => {
                send_answer(answer, reply);
                tokio::time::sleep(Duration::from_millis(rng.u64(0..2_000))).await;
                self.backend.serve(&call, latency / 2, false, None).await;
            }
            Some(Fault::Dup) => {
                send_answer(answer, self.backend.serve(&call, latency / 2, false, None).await)
            }
            _ => send_answer(answer, reply),
        }
    }
}

/// Sends an answer; a caller that is gone does not hear it.
fn send_answer(answer: oneshot::Sender<Reply>, reply: Reply) {
    drop(answer.send(reply));
}

fn build_response(status: u16, body: String) -> HttpResponse {
    let status = status.try_into().unwrap_or_else(|_| unreachable!("every status here is one of HTTP"));
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}

/// How long a request takes: half within 4 ms, all but one in a hundred within 12 ms, and a long tail; a
/// transaction takes four times as long.
fn draw_latency(rng: &mut Rng, call: &Call) -> Duration {
    let micros = match rng.u32(0..1000) {
        0..500 => rng.u64(2_000..4_000),
        500..990 => rng.u64(4_000..12_000),
        990..999 => rng.u64(12_000..60_000),
        _ => rng.u64(60_000..700_000),
    };
    Duration::from_micros(if call.is_transaction() { micros * 4 } else { micros })
}
