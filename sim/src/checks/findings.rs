//! The broken rules that the checks find.

use crate::history::Violation;

/// The rules that were broken.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Violation>);

impl Findings {
    /// Notes that a rule was broken.
    pub(super) fn note(&mut self, rule: &'static str, what: String) {
        self.0.push(Violation { rule, what });
    }
}
