//! The wire between the SDK and AWS: an HTTP client for the SDK that calls [`crate::backend`], takes its time, and
//! misbehaves as [`crate::faults`] says and [`crate::carry`] does.

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
use crate::carry::{Chance, carry};
use crate::faults::{Fault, LATE_MS, Mix, SETUP, source};
use crate::invoked::Invoked;
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
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let call = Call::read(target, body, &invoked.label, invoked.begin_call());
        let mut rng = source(self.seed, &call.label, call.number);
        let fault = self.draw_fault(&call, &invoked, &mut rng);
        let chance = draw_chance(rng, &call, fault, self.mix.late_ms);
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let hear = |reply| match reply {
                Reply::Killed => self.kill(&invoked),
                reply => drop(answer.send(reply)),
            };
            carry(&self.backend, &call, fault, chance, hear).await;
        });
        match answered.await {
            Ok(Reply::Answer(status, body)) => Ok(build_response(status, body)),
            Ok(_) => Err(ConnectorError::io("the connection was reset".into())),
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
}

fn build_response(status: u16, body: String) -> HttpResponse {
    let status = status.try_into().unwrap_or_else(|_| unreachable!("every status here is one of HTTP"));
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}

/// Draws what chance decides of a call and its fault.
fn draw_chance(mut rng: Rng, call: &Call, fault: Option<Fault>, late_ms: u64) -> Chance {
    let latency = draw_latency(&mut rng, call);
    let coin = matches!(fault, Some(Fault::Lose | Fault::Dup)) && rng.bool();
    let delay = match fault {
        Some(Fault::Late) => rng.u64(1_050..late_ms.max(LATE_MS)),
        Some(Fault::InProgress) => rng.u64(1_000..6_500),
        Some(Fault::Dup) => rng.u64(0..2_000),
        _ => 0,
    };
    Chance { latency, delay: Duration::from_millis(delay), coin, rng: rng.fork() }
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
