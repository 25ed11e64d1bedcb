//! A call to AWS in the terms of bugs: what is asked, and what is replied.

use serde_json::{Value, json};

/// A request, as far as bugs look at it.
#[derive(Clone, PartialEq)]
pub(super) struct Call {
    pub(super) operation: String,
    pub(super) body: Value,
}

/// A reply of AWS.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Reply {
    /// It went well.
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// The request was refused, and never will be applied.
    pub(super) fn refused(code: &str) -> Self {
        Self { status: 400, body: json!({"__type": code, "message": "planted"}) }
    }
}
