//! The frame of every function, whatever calls it: dependencies, clock, deadline, metrics.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lambda_http::lambda_runtime::{self, LambdaEvent};
use lambda_http::{Context, Error, service_fn};
use serde_json::Value;
use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::order_queue::OrderQueue;
use crate::settings::Settings;
use crate::store::{Invocation, Store};
use crate::{aws, planted, telemetry};

/// Work that may be done beside other work of the same process.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An invocation answers at least this long before the function's time-out.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// A handler's dependencies.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The tables.
    pub store: Store,
    /// The queue of order events.
    pub order_queue: OrderQueue,
    /// The settings.
    pub settings: Settings,
    /// The source of the time.
    pub clock: Clock,
}

/// The source of the time of an invocation.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        Self(Arc::new(Timestamp::now))
    }

    /// Another clock: for a simulation.
    #[must_use]
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Deps {
    /// Reads the settings, starts logging, connects. The connection is made here, because the processor is not yet
    /// shared while a function starts, and nobody waits.
    ///
    /// # Errors
    /// If a setting is bad.
    pub async fn init() -> Result<Self, Error> {
        let settings = init_process()?;
        let store = Store::connect(aws::config(), settings.store.clone()).await;
        note_warm_up("DynamoDB", store.warm_up().await);
        Ok(Self { store, order_queue: OrderQueue::new(aws::config), settings, clock: Clock::system() })
    }
}

impl AsRef<Self> for Deps {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Reads the settings, and starts logging as they say.
pub(crate) fn init_process() -> Result<Settings, Error> {
    let settings = Settings::from_env()?;
    telemetry::init(settings.log_level);
    Ok(settings)
}

/// Notes that a service did not answer while the function started. That does not keep it from starting: the service may
/// be there again when somebody asks, and if it is not, an answer that says so is better than none.
pub fn note_warm_up(service: &'static str, outcome: Result<(), impl std::fmt::Display>) {
    if let Err(error) = outcome {
        tracing::warn!(service, error = error.to_string(), "there was no answer at the start");
    }
}

/// An invocation that begins now. Its deadline is the function's, less a margin in which to answer.
#[must_use]
pub fn invocation(clock: &Clock, context: Option<&Context>, correlation_id: String) -> Invocation {
    let now = clock.now();
    let margin = if planted("answers-when-its-time-is-up") { Duration::ZERO } else { ANSWER_MARGIN };
    let left = context.map_or(Duration::ZERO, |context| {
        let until = i64::try_from(context.deadline).unwrap_or(i64::MAX) - now.as_millisecond();
        Duration::from_millis(u64::try_from(until).unwrap_or(0))
    });
    Invocation {
        // Whole milliseconds, as they are stored.
        now: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
        deadline: Instant::now() + left.saturating_sub(margin),
        correlation_id,
        metrics: Metrics::default(),
    }
}

/// Runs a function that is called with events, one at a time, until its process ends. `operation` is its name; it works
/// with [`Deps`], or with a type of its own that holds them. The event stays untyped JSON: a typed one would be parsed
/// as a whole, and one bad record would fail its batch.
///
/// # Errors
/// If the Runtime API is gone.
pub async fn serve_events<D: AsRef<Deps>>(
    operation: &'static str,
    deps: D,
    handle: impl AsyncFn(&D, &Value, &Invocation) -> Result<Value, Error>,
) -> Result<(), Error> {
    let (deps, handle) = (&deps, &handle);
    let Deps { settings, clock, .. } = deps.as_ref();
    lambda_runtime::run(service_fn(move |LambdaEvent { payload, context }: LambdaEvent<Value>| {
        let invocation = invocation(clock, Some(&context), context.request_id.clone());
        // Boxed, because the compiler follows the type of a future only so deep.
        Box::pin(async move {
            let outcome = handle(deps, &payload, &invocation).await;
            write_metrics(operation, settings, &invocation);
            outcome
        })
    }))
    .await
}

/// The same for a function that works on as many events at once as Lambda gives it.
///
/// # Errors
/// If the Runtime API is gone.
pub async fn serve_events_at_once(
    operation: &'static str,
    deps: Deps,
    handle: for<'a> fn(&'a Deps, &'a Value, &'a Invocation) -> Work<'a, Result<Value, Error>>,
) -> Result<(), Error> {
    lambda_runtime::run_concurrent(service_fn(move |LambdaEvent { payload, context }: LambdaEvent<Value>| {
        let deps = deps.clone();
        let invocation = invocation(&deps.clock, Some(&context), context.request_id.clone());
        aws::traced(context.xray_trace_id, async move {
            let outcome = handle(&deps, &payload, &invocation).await;
            write_metrics(operation, &deps.settings, &invocation);
            outcome
        })
    }))
    .await
}

/// Writes the metrics of an invocation that ends. A failure is only logged: the work is done.
pub(crate) fn write_metrics(operation: &'static str, settings: &Settings, invocation: &Invocation) {
    let stack = settings.stack.as_deref();
    let line = stack.and_then(|stack| invocation.metrics.line(stack, operation, invocation.now));
    if let Some(line) = line
        && let Err(error) = writeln!(std::io::stdout(), "{line}")
    {
        tracing::error!(operation, error = error.to_string(), "metrics were not written");
    }
}

/// Milliseconds since `began`, for a log line.
#[must_use]
pub fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
