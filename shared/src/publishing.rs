//! The way to the event bus. Only what is committed gets here: events are made of the table's changes,
//! never sent beside a write.

use aws_config::ConfigLoader;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use crate::domain::Timestamp;
use crate::domain::events::{Event, SOURCE};

/// Most entries in one `PutEvents`. Source: Amazon EventBridge API Reference, PutEvents.
pub const MAX_ENTRIES: usize = 10;

/// How much is put into one request, in bytes of detail. EventBridge takes 256 KB; half of it leaves room
/// for what is around the details.
pub const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// The bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    name: String,
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// It may be taken later.
    Now(String),
    /// It never will be.
    Ever(String),
}

impl Bus {
    /// Connects to a bus by name.
    pub async fn connect(config: ConfigLoader, name: &str) -> Self {
        Self { client: Client::new(&crate::aws::load(config).await), name: name.to_owned() }
    }

    /// Opens the connection that the first events will find: a question about the bus itself, tried once.
    ///
    /// # Errors
    /// If it had no answer, why. The first events will then make a connection of their own.
    pub async fn warm_up(&self) -> Result<(), String> {
        let asked = self.client.describe_event_bus().name(&self.name).send().await;
        asked.map(drop).map_err(|e| DisplayErrorContext(&e).to_string())
    }

    /// Sends at most [`MAX_ENTRIES`] events. Answers for each; every one may fail by itself.
    pub async fn put(&self, events: &[(Timestamp, &Event)]) -> Vec<Result<(), NotTaken>> {
        let entries = events.iter().map(|(at, event)| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(event.name)
                .detail(event.detail.to_string())
                .time(DateTime::from_millis(at.as_millisecond()))
                .build()
        });
        let sent = self.client.put_events().set_entries(Some(entries.collect())).send().await;
        let output = match sent {
            Ok(output) => output,
            Err(error) => {
                let error = NotTaken::Now(DisplayErrorContext(&error).to_string());
                return vec![Err(error); events.len()];
            }
        };
        let answers = output.entries();
        (0..events.len())
            .map(|i| match answers.get(i) {
                Some(entry) => taken(entry.error_code(), entry.error_message()),
                None => Err(NotTaken::Now("the answer has too few entries".to_owned())),
            })
            .collect()
    }
}

/// Reads the answer for one entry. Source of the codes: Amazon EventBridge User Guide, "Handling failures
/// with PutEvents".
fn taken(code: Option<&str>, message: Option<&str>) -> Result<(), NotTaken> {
    let Some(code) = code else { return Ok(()) };
    let detail = format!("{code}: {}", message.unwrap_or_default());
    match code {
        "MalformedDetail" | "InvalidArgument" | "NotAuthorizedForSourceException" => {
            Err(NotTaken::Ever(detail))
        }
        _ => Err(NotTaken::Now(detail)),
    }
}
