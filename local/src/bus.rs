//! EventBridge: a bus with the template's rules, whose targets are queues and functions. What was published
//! is kept to be looked at.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::account::{ACCOUNT_ID, REGION};
use crate::clock::now_ms;
use crate::lambda::Lambda;
use crate::queues::{QueueError, Queues};
use crate::template::Rule;

/// Most entries in one `PutEvents`, and the largest sum of their sizes in bytes.
/// Source: Amazon EventBridge API Reference, PutEvents.
const MAX_ENTRIES: usize = 10;
const MAX_BYTES: usize = 256 * 1024;

/// Events in one page of what was published.
const PAGE: u32 = 1_000;

/// The bus.
#[derive(Clone)]
pub struct Bus {
    rules: Arc<Vec<Rule>>,
    queues: Queues,
    lambda: Lambda,
}

impl Bus {
    /// A bus with these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>, queues: Queues, lambda: Lambda) -> Self {
        Self { rules: Arc::new(rules), queues, lambda }
    }

    /// A page of the events that were published after the one of a number, of one order or of all, oldest first.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn published_after(&self, number: u64, order_id: Option<&str>) -> Result<Value, QueueError> {
        let events = self.queues.events_after(number, order_id, PAGE)?;
        let last = events.last().map_or(number, |(last, _)| *last);
        let events: Vec<Value> =
            events.into_iter().map(|(number, event)| json!({"number": number, "event": event})).collect();
        Ok(json!({"events": events, "last": last}))
    }

    /// Answers `DescribeEventBus`.
    #[must_use]
    pub fn describe(request: &Value) -> Value {
        let name = request["Name"].as_str().unwrap_or("default");
        json!({"Name": name, "Arn": format!("arn:aws:events:{REGION}:{ACCOUNT_ID}:event-bus/{name}")})
    }

    /// Answers `PutEvents`.
    ///
    /// # Errors
    /// If the request as a whole cannot be taken: the code and what is wrong.
    pub fn put_events(&self, request: &Value) -> Result<Value, (&'static str, String)> {
        let entries = request["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.is_empty() || entries.len() > MAX_ENTRIES {
            let message = format!("PutEvents takes 1 to {MAX_ENTRIES} entries, not {}", entries.len());
            return Err(("ValidationException", message));
        }
        if entries.iter().map(|entry| entry.to_string().len()).sum::<usize>() > MAX_BYTES {
            return Err((
                "ValidationException",
                format!("the entries have more than {MAX_BYTES} bytes together"),
            ));
        }
        let answers: Vec<Value> = entries
            .iter()
            .map(|entry| match self.put_entry(entry) {
                Ok(id) => json!({"EventId": id}),
                Err((code, message)) => json!({"ErrorCode": code, "ErrorMessage": message}),
            })
            .collect();
        let failed = answers.iter().filter(|answer| answer.get("ErrorCode").is_some()).count();
        Ok(json!({"FailedEntryCount": failed, "Entries": answers}))
    }

    fn put_entry(&self, entry: &Value) -> Result<String, (&'static str, String)> {
        let text = |name: &str| {
            entry[name].as_str().ok_or_else(|| ("InvalidArgument", format!("{name} is missing")))
        };
        let (source, detail_type) = (text("Source")?, text("DetailType")?);
        let detail: Value = serde_json::from_str(text("Detail")?)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| ("MalformedDetail", "Detail is no JSON object".to_owned()))?;
        let id = uuid::Uuid::new_v4().to_string();
        let event = json!({
            "version": "0", "id": id, "detail-type": detail_type, "source": source, "account": ACCOUNT_ID,
            "time": time_text(entry["Time"].as_f64()), "region": REGION,
            "resources": entry["Resources"].as_array().cloned().unwrap_or_default(), "detail": detail,
        });
        let bus = entry["EventBusName"].as_str().unwrap_or("default");
        let bus = bus.rsplit('/').next().unwrap_or(bus);
        for rule in self.rules.iter().filter(|rule| rule.bus == bus && matches(&rule.pattern, &event)) {
            for target in &rule.targets {
                self.deliver(target, &event)?;
            }
        }
        eprintln!("event {detail_type} {}", detail["eventId"].as_str().unwrap_or(&id));
        self.queues.keep_event(&event).map_err(|e| ("InternalFailure", e.to_json()))?;
        Ok(id)
    }

    fn deliver(&self, target: &str, event: &Value) -> Result<(), (&'static str, String)> {
        if let Some((_, function)) = target.split_once(":function:") {
            // Called without waiting for its answer, as on AWS.
            let (lambda, function, event) = (self.lambda.clone(), function.to_owned(), event.to_string());
            tokio::spawn(async move {
                if let Err(e) = lambda.invoke(&function, event.into()).await {
                    eprintln!("event: {e}");
                }
            });
            return Ok(());
        }
        let sent = self
            .queues
            .find(target)
            .and_then(|queue| self.queues.send(queue, &event.to_string(), &Value::Null, Duration::ZERO));
        sent.map(drop).map_err(|e| ("InternalFailure", e.to_json()))
    }
}

/// Epoch seconds, as the API takes them, as the envelope says them.
fn time_text(seconds: Option<f64>) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "the envelope has whole seconds")]
    let seconds = seconds.map_or(now_ms() / 1_000, |seconds| seconds as i64);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Whether a value fits a pattern: lists of values, `prefix`, `anything-but` and `exists`, at any depth.
/// Source: Amazon EventBridge User Guide, "Comparison operators".
#[must_use]
pub fn matches(pattern: &Value, value: &Value) -> bool {
    let Value::Object(members) = pattern else { return false };
    members.iter().all(|(name, pattern)| {
        let value = value.get(name);
        match pattern {
            Value::Object(_) => value.is_some_and(|value| matches(pattern, value)),
            Value::Array(alternatives) => alternatives.iter().any(|one| fits_any(one, value)),
            _ => false,
        }
    })
}

fn fits_any(pattern: &Value, value: Option<&Value>) -> bool {
    if let Some(Value::Array(values)) = value {
        return values.iter().any(|value| fits_any(pattern, Some(value)));
    }
    let Value::Object(operator) = pattern else { return value == Some(pattern) };
    let listed = |list: &Value| match list {
        Value::Array(list) => list.iter().any(|one| value == Some(one)),
        one => value == Some(one),
    };
    operator.iter().all(|(name, argument)| match name.as_str() {
        "prefix" => match (value.and_then(Value::as_str), argument.as_str()) {
            (Some(text), Some(prefix)) => text.starts_with(prefix),
            _ => false,
        },
        "anything-but" => value.is_some() && !listed(argument),
        "exists" => value.is_some() == (argument == &Value::Bool(true)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_on_eventbridge() {
        let event = json!({"source": "shop", "detail-type": "OrderCreated", "detail": {"state": "new", "tags": ["a", "b"]}});
        for (pattern, fit) in [
            (json!({"source": ["shop"]}), true),
            (json!({"source": ["other", "shop"]}), true),
            (json!({"source": ["other"]}), false),
            (json!({"source": [{"anything-but": ["holdfast"]}]}), true),
            (json!({"source": [{"anything-but": "shop"}]}), false),
            (json!({"detail-type": [{"prefix": "Order"}]}), true),
            (json!({"detail-type": [{"prefix": "Booking"}]}), false),
            (json!({"detail": {"state": ["new"], "tags": ["b"]}}), true),
            (json!({"detail": {"tags": ["c"]}}), false),
            (json!({"detail": {"none": [{"exists": false}]}}), true),
            (json!({"detail": {"state": [{"exists": false}]}}), false),
            (json!({"source": ["shop"], "detail-type": ["Other"]}), false),
        ] {
            assert_eq!(matches(&pattern, &event), fit, "{pattern}");
        }
    }
}
