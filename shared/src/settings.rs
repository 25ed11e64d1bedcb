//! The settings: the one place that reads the environment. A bad value stops the start with a
//! sentence that names it.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::domain::Whole;
use crate::store::{RetryPolicy, StoreSettings};

/// Longest temporary hold that may be asked for, in seconds: 24 hours.
pub const MAX_TTL_SECONDS: u64 = 24 * 60 * 60;

/// How long to hold, in seconds, as a request says it.
pub type TtlSeconds = Whole<1, { MAX_TTL_SECONDS.cast_signed() }>;

/// Shortest time that a record is kept after its hold has ended, in days. Events are redelivered for up to 14 days;
/// without the record, one could be applied twice.
const MIN_RETENTION_DAYS: u64 = 30;

/// Longest time that a public read may be cached, in seconds: an hour. Stock that is shown may be gone by then.
const MAX_PUBLIC_CACHE_SECONDS: u64 = 3_600;

/// A function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tables and tries.
    pub store: StoreSettings,
    /// How long a temporary hold lasts unless the request says otherwise. None: it does not end by itself.
    pub reservation_ttl: Option<Duration>,
    /// At or below this many available units stock counts as low, unless the product says otherwise.
    pub low_stock_threshold: u64,
    /// Whether the sweep ends due holds; otherwise it only counts them.
    pub auto_release: bool,
    /// Whether a change of stock without an `Idempotency-Key` is refused.
    pub requires_idempotency_key: bool,
    /// How long caches may keep the answer to a public read; zero means not at all.
    pub public_cache: Duration,
    /// The bus that events go to; set where events are sent.
    pub event_bus: Option<String>,
    /// The queue for stream records that cannot be published; set where they are.
    pub dead_letter_queue_url: Option<String>,
    /// The queue of order events; set where orders are put into it.
    pub order_queue_url: Option<String>,
    /// The stack that metrics are counted for; none where none are.
    pub stack: Option<String>,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
}

/// A setting with an invalid value.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("the environment variable {name} is {given}; it must be {expected}")]
pub struct BadSetting {
    name: &'static str,
    given: String,
    expected: String,
}

impl Settings {
    /// Reads them from the environment.
    ///
    /// # Errors
    /// Names the first one that is invalid.
    pub fn from_env() -> Result<Self, BadSetting> {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads them by name with `lookup`.
    ///
    /// # Errors
    /// Names the first one that is invalid.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, BadSetting> {
        let lookup = |name| lookup(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let whole = |name, default, min, max| parse_whole(name, lookup(name), default, min, max);
        let ttl_minutes = whole("RESERVATION_TTL_MINUTES", 15, 0, MAX_TTL_SECONDS / 60)?;
        let retention_days = whole("RESERVATION_RETENTION_DAYS", 90, MIN_RETENTION_DAYS, 3_650)?;
        let max_attempts = whole("RETRY_MAX_ATTEMPTS", 30, 1, 1_000)?;
        let backoff_ms = whole("RETRY_BACKOFF_MS", 25, 1, 1_000)?;
        // Lambda sets it where a process has several requests at once.
        let requests_at_once = whole("AWS_LAMBDA_MAX_CONCURRENCY", 1, 1, u64::MAX)?;
        Ok(Self {
            store: StoreSettings {
                inventory_table: parse_table_name("INVENTORY_TABLE", lookup("INVENTORY_TABLE"))?,
                ledger_table: parse_table_name("LEDGER_TABLE", lookup("LEDGER_TABLE"))?,
                retention: Duration::from_secs(retention_days * 24 * 60 * 60),
                retry: RetryPolicy {
                    max_attempts: u32::try_from(max_attempts).unwrap_or(u32::MAX),
                    backoff: Duration::from_millis(backoff_ms),
                },
                combines: parse_flag("COMBINE_WRITES", lookup("COMBINE_WRITES"), requests_at_once > 1)?,
            },
            reservation_ttl: (ttl_minutes > 0).then(|| Duration::from_secs(ttl_minutes * 60)),
            low_stock_threshold: whole("LOW_STOCK_THRESHOLD", 10, 0, crate::domain::stock::MAX_STOCK)?,
            auto_release: parse_flag("AUTO_RELEASE_ENABLED", lookup("AUTO_RELEASE_ENABLED"), true)?,
            requires_idempotency_key: parse_flag(
                "REQUIRE_IDEMPOTENCY_KEY",
                lookup("REQUIRE_IDEMPOTENCY_KEY"),
                false,
            )?,
            public_cache: Duration::from_secs(whole("PUBLIC_CACHE_SECONDS", 0, 0, MAX_PUBLIC_CACHE_SECONDS)?),
            event_bus: lookup("EVENT_BUS"),
            dead_letter_queue_url: lookup("DEAD_LETTER_QUEUE_URL"),
            order_queue_url: lookup("ORDER_QUEUE_URL"),
            stack: lookup("STACK_NAME"),
            log_level: parse_log_level("LOG_LEVEL", lookup("LOG_LEVEL"))?,
        })
    }
}

fn parse_whole(
    name: &'static str,
    text: Option<String>,
    default: u64,
    min: u64,
    max: u64,
) -> Result<u64, BadSetting> {
    let Some(text) = text else { return Ok(default) };
    text.parse().ok().filter(|n| (min..=max).contains(n)).ok_or_else(|| BadSetting {
        name,
        given: format!("{text:?}"),
        expected: format!("a whole number from {min} to {max}"),
    })
}

fn parse_flag(name: &'static str, text: Option<String>, default: bool) -> Result<bool, BadSetting> {
    match text.as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => {
            Err(BadSetting { name, given: format!("{other:?}"), expected: "true or false".to_owned() })
        }
    }
}

/// A setting that one function needs and others do not.
///
/// # Errors
/// If it is not set.
pub fn require_setting<'a>(name: &'static str, value: Option<&'a String>) -> Result<&'a str, BadSetting> {
    value.map(String::as_str).ok_or_else(|| BadSetting {
        name,
        given: "not set".to_owned(),
        expected: "set for this function".to_owned(),
    })
}

/// A table's name. Source: Amazon DynamoDB API Reference, CreateTable, TableName.
fn parse_table_name(name: &'static str, text: Option<String>) -> Result<String, BadSetting> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match text {
        Some(text) if (3..=255).contains(&text.len()) && text.chars().all(allowed) => Ok(text),
        other => Err(BadSetting {
            name,
            given: other.map_or_else(|| "not set".to_owned(), |text| format!("{text:?}")),
            expected: "the name of a table: 3 to 255 letters, digits and \"_.-\"".to_owned(),
        }),
    }
}

fn parse_log_level(name: &'static str, text: Option<String>) -> Result<LevelFilter, BadSetting> {
    let Some(text) = text else { return Ok(LevelFilter::INFO) };
    LevelFilter::from_str(&text).map_err(|_| BadSetting {
        name,
        given: format!("{text:?}"),
        expected: "one of error, warn, info, debug, trace, off".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<Settings, BadSetting> {
        Settings::from_lookup(|asked| match asked {
            _ if asked == name => Some(value.to_owned()),
            "INVENTORY_TABLE" => Some("inventory".to_owned()),
            "LEDGER_TABLE" => Some("ledger".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let settings = with("", "").unwrap();
        assert_eq!(settings.reservation_ttl, Some(Duration::from_secs(900)));
        assert_eq!(settings.low_stock_threshold, 10);
        assert_eq!(settings.store.retention, Duration::from_secs(90 * 86_400));
    }

    #[test]
    fn a_ttl_of_zero_means_that_holds_do_not_end_by_themselves() {
        assert_eq!(with("RESERVATION_TTL_MINUTES", "0").unwrap().reservation_ttl, None);
    }

    #[test]
    fn a_bad_value_is_named() {
        for (name, bad) in [
            ("INVENTORY_TABLE", ""),
            ("INVENTORY_TABLE", "a b c"),
            ("RESERVATION_TTL_MINUTES", "1441"),
            ("RESERVATION_TTL_MINUTES", "ten"),
            ("RESERVATION_RETENTION_DAYS", "29"),
            ("RETRY_MAX_ATTEMPTS", "0"),
            ("LOW_STOCK_THRESHOLD", "-1"),
            ("LEDGER_TABLE", "x"),
            ("AUTO_RELEASE_ENABLED", "maybe"),
            ("REQUIRE_IDEMPOTENCY_KEY", "always"),
            ("PUBLIC_CACHE_SECONDS", "3601"),
            ("LOG_LEVEL", "loud"),
        ] {
            let sentence = with(name, bad).unwrap_err().to_string();
            assert!(sentence.contains(name) && sentence.contains("it must be"), "{sentence}");
        }
    }
}
