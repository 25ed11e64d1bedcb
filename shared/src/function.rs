//! What every function has in common, whatever calls it.

use std::sync::Arc;
use std::time::Duration;

use lambda_http::lambda_runtime::{self, LambdaEvent};
use lambda_http::{Context, Error, service_fn};
use serde_json::Value;
use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::settings::Settings;
use crate::store::{Invocation, Store};
use crate::{aws, telemetry};

/// An invocation answers at least this long before the function's time-out.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// What a handler works with.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The tables.
    pub store: Store,
    /// The settings.
    pub settings: Settings,
}

impl Deps {
    /// Reads the settings, starts logging, connects.
    ///
    /// # Errors
    /// If a setting is bad.
    pub async fn init() -> Result<Arc<Self>, Error> {
        let settings = Settings::from_env()?;
        telemetry::init(settings.log_level);
        let store = Store::connect(aws::config(), settings.store.clone()).await;
        Ok(Arc::new(Self { store, settings }))
    }
}

/// What an invocation that begins now is allowed: its time, less a margin in which to answer.
#[must_use]
pub fn invocation(context: Option<&Context>, correlation_id: String) -> Invocation {
    #[expect(clippy::disallowed_methods, reason = "an invocation begins here")]
    let now = Timestamp::now();
    let left = context.map_or(Duration::ZERO, |context| {
        let until = i64::try_from(context.deadline).unwrap_or(i64::MAX) - now.as_millisecond();
        Duration::from_millis(u64::try_from(until).unwrap_or(0))
    });
    Invocation {
        // Whole milliseconds, as they are stored.
        now: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
        deadline: Instant::now() + left.saturating_sub(ANSWER_MARGIN),
        correlation_id,
    }
}

/// Runs a function that is called with events, until its process ends. The event is taken as it is: a
/// typed one would be parsed as a whole, and one bad record would fail its batch.
///
/// # Errors
/// If the Runtime API is gone.
pub async fn serve_events<H, F>(handle: H) -> Result<(), Error>
where
    H: Fn(Value, Invocation) -> F,
    F: Future<Output = Result<Value, Error>>,
{
    let handle = &handle;
    lambda_runtime::run(service_fn(move |LambdaEvent { payload, context }: LambdaEvent<Value>| {
        let invocation = invocation(Some(&context), context.request_id.clone());
        // Boxed, because the compiler follows the type of a future only so deep.
        Box::pin(handle(payload, invocation))
    }))
    .await
}

/// Milliseconds since `began`, for a log line.
#[must_use]
pub fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
