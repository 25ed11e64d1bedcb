//! The event bus. Only committed changes get here: events are derived from the table's stream, never sent
//! beside a write. [`json`] defines how an event looks on the bus.

pub mod json;

use aws_config::ConfigLoader;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use crate::domain::events::Event;

/// Names the source of every event on the bus. The rule that brings order events into the queue leaves out what has it.
pub const SOURCE: &str = "holdfast";

/// Most entries in one `PutEvents`. Source: Amazon EventBridge API Reference, PutEvents.
const MAX_ENTRIES: usize = 10;

/// Most bytes of detail in one request. EventBridge takes 256 KB; half of it leaves room for the other members.
const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// The bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    name: String,
}

/// An event as it is sent to the bus.
#[derive(Debug, Clone)]
pub struct Entry {
    event: Event,
    detail: String,
}

impl Entry {
    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        let detail = json::detail_of(&event).to_string();
        Self { event, detail }
    }
}

/// Splits events into batches that fit one request each.
#[must_use]
pub fn split_into_requests<T>(events: &[T], entry_of: impl Fn(&T) -> &Entry) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (i, event) in events.iter().enumerate() {
        let size = entry_of(event).detail.len();
        if i > begin && (i - begin == MAX_ENTRIES || bytes + size > MAX_REQUEST_BYTES) {
            parts.push(&events[begin..i]);
            (begin, bytes) = (i, 0);
        }
        bytes += size;
    }
    if begin < events.len() {
        parts.push(&events[begin..]);
    }
    parts
}

/// Why the bus did not accept an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// It may be accepted later.
    Retryable(String),
    /// It will never be accepted.
    Permanent(String),
}

impl Bus {
    /// Connects to a bus by name.
    pub async fn connect(config: ConfigLoader, name: &str) -> Self {
        Self { client: Client::new(&crate::aws::load(config).await), name: name.to_owned() }
    }

    /// Opens the connection for the first events, by one read of the bus itself that is not retried.
    ///
    /// # Errors
    /// The reason, if there was no answer. The first events then open the connection.
    pub async fn warm_up(&self) -> Result<(), String> {
        let asked = self.client.describe_event_bus().name(&self.name).send().await;
        asked.map(drop).map_err(|e| DisplayErrorContext(&e).to_string())
    }

    /// Sends the events of one request, see [`split_into_requests`]. Returns a result for each, because each may fail
    /// by itself.
    pub async fn put(&self, entries: &[&Entry]) -> Vec<Result<(), PublishError>> {
        let requested = entries.iter().map(|Entry { event, detail }| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(event.kind.name())
                .detail(detail)
                .time(DateTime::from_millis(event.at.as_millisecond()))
                .build()
        });
        let sent = self.client.put_events().set_entries(Some(requested.collect())).send().await;
        let output = match sent {
            Ok(output) => output,
            Err(error) => {
                let error = PublishError::Retryable(DisplayErrorContext(&error).to_string());
                return vec![Err(error); entries.len()];
            }
        };
        let answers = output.entries();
        (0..entries.len())
            .map(|i| match answers.get(i) {
                Some(entry) => classify_entry(entry.error_code(), entry.error_message()),
                None => Err(PublishError::Retryable("the answer has too few entries".to_owned())),
            })
            .collect()
    }
}

/// Reads the answer for one entry. Source of the codes: Amazon EventBridge User Guide, "Handling failures
/// with PutEvents".
fn classify_entry(code: Option<&str>, message: Option<&str>) -> Result<(), PublishError> {
    let Some(code) = code else { return Ok(()) };
    let detail = format!("{code}: {}", message.unwrap_or_default());
    match code {
        "MalformedDetail" | "InvalidArgument" | "NotAuthorizedForSourceException" => {
            Err(PublishError::Permanent(detail))
        }
        _ => Err(PublishError::Retryable(detail)),
    }
}
