//! Values of a template: what is wrong with one, and numbers and flags that may be written as text.

use serde_json::{Map, Value};
use thiserror::Error;

/// A template that cannot be used, and why.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BadTemplate(pub(super) String);

pub(super) fn bad(what: impl Into<String>) -> BadTemplate {
    BadTemplate(what.into())
}

pub(super) fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, BadTemplate> {
    value.as_object().ok_or_else(|| bad(format!("{what} is missing or no mapping")))
}

/// A value as the environment takes it.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number in a template may be written as text, as parameters are.
pub(super) fn parse_number(value: &Value, default: u64) -> Result<u64, BadTemplate> {
    match value {
        Value::Null => Ok(default),
        value => plain(value).parse().map_err(|_| bad(format!("{value} is no number"))),
    }
}

/// A flag in a template may be written as text, as parameters are.
pub(super) fn is_set(value: &Value) -> bool {
    plain(value) == "true"
}
