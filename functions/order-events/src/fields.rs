//! The members of a JSON object, as they were written.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;
use shared::domain::{Invalid, excerpt};
use shared::planted;

use crate::name::normalize;

/// The members of a JSON object as they were written: a number is read by its own text, or not at all.
pub(crate) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The members of an object.
pub(crate) fn parse_fields(json: &str) -> Result<Fields<'_>, Invalid> {
    serde_json::from_str(json).map_err(|error| match error.classify() {
        Category::Data => Invalid("the event is no JSON object".to_owned()),
        _ => Invalid(format!("the message is not JSON: {error}")),
    })
}

/// A member by its name.
pub(crate) fn find<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    let name = normalize(name);
    fields.iter().find(|(key, _)| normalize(key) == name).map(|(_, value)| *value)
}

/// An id as text. Shops number their orders, too: a number is taken exactly as it is written, if it consists of digits
/// alone. A number with a fraction or an exponent can be written in several ways, and each would be another order.
pub(crate) fn read_id(fields: &Fields, name: &str) -> Result<Option<String>, Invalid> {
    let Some(value) = find(fields, name) else { return Ok(None) };
    let is_number = value.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match read_plain_text(Some(value)) {
        None if is_number => Err(Invalid(format!(
            "{name} is the number {}; a number is an id where it is of digits alone, otherwise send it as a text",
            excerpt(value.get())
        ))),
        text => Ok(text),
    }
}

/// A text, or a number of digits alone; anything else is none.
pub(crate) fn read_plain_text(value: Option<&RawValue>) -> Option<String> {
    let digits = value.map(RawValue::get).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let read = |text: &str| match planted("a-number-is-an-id-by-its-value") {
        true => {
            serde_json::from_str(text).map_or_else(|_| text.to_owned(), |number: Value| number.to_string())
        }
        false => text.to_owned(),
    };
    digits.map(read).or_else(|| read_string(value))
}

/// A text.
pub(crate) fn read_string(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}
