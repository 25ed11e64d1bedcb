//! The sources that call a function by themselves: queues, streams and schedules.

use std::time::Duration;

use serde_json::Value;

use super::value::{BadTemplate, bad, is_set, parse_number, plain};

/// A queue that calls a function.
#[derive(Debug, Clone)]
pub struct QueueSource {
    /// Its ARN.
    pub queue: String,
    /// Most messages at once.
    pub batch_size: u64,
    /// Whether the function answers with what has failed.
    pub partial: bool,
}

/// A table's stream that calls a function.
#[derive(Debug, Clone)]
pub struct StreamSource {
    /// The table.
    pub table: String,
    /// Most records at once.
    pub batch_size: u64,
    /// Whether the function answers with what has failed.
    pub partial: bool,
    /// Whether a batch that fails is split.
    pub bisect: bool,
    /// How often a batch is tried again.
    pub max_retries: u64,
    /// The ARN of the bucket or queue that is told what was given up.
    pub on_failure: Option<String>,
    /// A record is delivered if it matches one of them, or if there are none.
    patterns: Vec<Value>,
}

impl StreamSource {
    /// Whether a record is to be delivered.
    pub fn matches(&self, record: &Value, matches_pattern: impl Fn(&Value, &Value) -> bool) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches_pattern(pattern, record))
    }
}

/// The event of a schedule that has none of its own to say.
pub const NO_EVENT: &str = "{}";

/// When a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Again and again, so long after the last time.
    Every(Duration),
    /// Once a day, so long after midnight in UTC.
    Daily(Duration),
}

pub(super) fn read_queue_source(properties: &Value) -> Result<QueueSource, BadTemplate> {
    let queue = properties["Queue"].as_str().ok_or_else(|| bad("Queue is missing"))?;
    let batch_size = parse_number(&properties["BatchSize"], 10)?;
    Ok(QueueSource { queue: queue.to_owned(), batch_size, partial: reports_failed_items(properties) })
}

pub(super) fn read_stream_source(properties: &Value) -> Result<StreamSource, BadTemplate> {
    let stream = properties["Stream"].as_str().ok_or_else(|| bad("Stream is missing"))?;
    let table = stream.split('/').nth(1).ok_or_else(|| bad(format!("{stream:?} is no stream of a table")))?;
    let filters = properties["FilterCriteria"]["Filters"].as_array();
    let pattern = |filter: &Value| {
        let text = filter["Pattern"].as_str().ok_or_else(|| bad("a filter has no Pattern"))?;
        serde_json::from_str(text).map_err(|e| bad(format!("the pattern {text}: {e}")))
    };
    Ok(StreamSource {
        table: table.to_owned(),
        batch_size: parse_number(&properties["BatchSize"], 100)?,
        partial: reports_failed_items(properties),
        bisect: is_set(&properties["BisectBatchOnFunctionError"]),
        max_retries: read_retries(&properties["MaximumRetryAttempts"])?,
        on_failure: properties["DestinationConfig"]["OnFailure"]["Destination"].as_str().map(str::to_owned),
        patterns: filters.into_iter().flatten().map(pattern).collect::<Result<_, _>>()?,
    })
}

/// How often a batch of a stream is tried again. -1 is for ever.
fn read_retries(value: &Value) -> Result<u64, BadTemplate> {
    if plain(value) == "-1" { Ok(u64::MAX) } else { parse_number(value, u64::MAX) }
}

fn reports_failed_items(properties: &Value) -> bool {
    let types = properties["FunctionResponseTypes"].as_array();
    types.is_some_and(|types| types.iter().any(|of| of == "ReportBatchItemFailures"))
}

/// `rate(1 minute)` and the like, or once a day: `cron(30 3 * * ? *)`.
pub(super) fn read_schedule(properties: &Value) -> Result<(Schedule, String), BadTemplate> {
    let text = properties["ScheduleExpression"].as_str().unwrap_or_default();
    let inside = |kind: &str| text.strip_prefix(kind).and_then(|rest| rest.strip_suffix(')'));
    let found = if let Some(rate) = inside("rate(") {
        parse_rate(rate).map(Schedule::Every)
    } else {
        inside("cron(").and_then(parse_daily).map(Schedule::Daily)
    };
    let found = found.ok_or_else(|| {
        bad(format!(
            "ScheduleExpression is {text:?}; here rate(...) and cron(MINUTE HOUR * * ? *) are understood"
        ))
    })?;
    Ok((found, properties["Input"].as_str().unwrap_or(NO_EVENT).to_owned()))
}

fn parse_rate(rate: &str) -> Option<Duration> {
    let (number, unit) = rate.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u32>().ok().filter(|number| *number > 0)?.into()) * seconds)
}

fn parse_daily(cron: &str) -> Option<Duration> {
    let words: Vec<&str> = cron.split_whitespace().collect();
    let [minute, hour, "*", "*", "?", "*"] = words.as_slice() else { return None };
    let (minute, hour) = (minute.parse::<u32>().ok()?, hour.parse::<u32>().ok()?);
    (minute < 60 && hour < 24).then(|| Duration::from_secs(u64::from(hour * 60 + minute) * 60))
}
