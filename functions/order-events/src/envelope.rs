//! Unwraps events: from an envelope of EventBridge, one of SNS, both, or none.

use std::borrow::Cow;

use serde_json::value::RawValue;
use shared::domain::Invalid;

use crate::fields::{find, parse_fields, read_plain_text, read_string};

/// Most envelopes around an event: SNS around EventBridge, and one to spare.
const MAX_ENVELOPES: usize = 3;

/// An event without its envelopes, and the name and id that these gave it.
pub(crate) struct Unwrapped<'a> {
    /// Its text.
    pub(crate) text: Cow<'a, str>,
    /// Its name; an envelope of EventBridge always has one.
    pub(crate) name: Option<String>,
    /// The attribute `eventType` of the SNS message.
    pub(crate) attribute: Option<String>,
    /// The source of an outermost envelope of EventBridge. What is inside another envelope can be anybody's words.
    pub(crate) source: Option<String>,
    /// The id of the innermost envelope.
    pub(crate) id: Option<String>,
}

/// Takes an event out of its envelopes.
pub(crate) fn unwrap_envelopes(body: &str) -> Result<Unwrapped<'_>, Invalid> {
    let mut unwrapped =
        Unwrapped { text: Cow::Borrowed(body), name: None, attribute: None, source: None, id: None };
    for depth in 0..MAX_ENVELOPES {
        let fields = parse_fields(&unwrapped.text)?;
        let inner = if let (Some(text), Some(_)) =
            (read_string(find(&fields, "message")), find(&fields, "topicArn"))
        {
            if let Err(e) = serde_json::from_str::<&RawValue>(&text) {
                return Err(Invalid(format!("the message inside the SNS one is not JSON: {e}")));
            }
            unwrapped.id = read_plain_text(find(&fields, "messageId"));
            unwrapped.attribute = find(&fields, "messageAttributes").and_then(sns_attribute);
            text
        } else if let (Some(of), Some(detail)) =
            (read_string(find(&fields, "detail-type")), find(&fields, "detail"))
        {
            unwrapped.name = Some(of);
            if depth == 0 {
                unwrapped.source = read_string(find(&fields, "source"));
            }
            unwrapped.id = read_plain_text(find(&fields, "id"));
            detail.get().to_owned()
        } else {
            break;
        };
        unwrapped.text = Cow::Owned(inner);
    }
    Ok(unwrapped)
}

/// The attribute `eventType`, as SNS writes attributes into its envelope.
fn sns_attribute(attributes: &RawValue) -> Option<String> {
    let attributes = parse_fields(attributes.get()).ok()?;
    let attribute = parse_fields(find(&attributes, "eventType")?.get()).ok()?;
    read_string(find(&attribute, "value"))
}
