//! Bugs that are planted on purpose, one at a time, to see whether tests and simulation notice (`tests/mutations`).
//!
//! They exist only with the feature `planted`, which tests and simulation have and no deployed function does, and are
//! at work only while a file names one. Most bugs disturb data at a seam, so that the code behind it may change: `wire`
//! carries requests to AWS and replies back, `dynamodb` and `outbox` change them in the terms of `call`, `decisions`
//! changes the decisions of `decide`. Code that no seam reaches asks [`planted()`] in its place.

#[cfg(feature = "planted")]
mod call;
#[cfg(feature = "planted")]
pub(crate) mod decisions;
#[cfg(feature = "planted")]
mod dynamodb;
#[cfg(feature = "planted")]
mod outbox;
#[cfg(feature = "planted")]
pub(crate) mod wire;

/// Whether this bug is at work. Never, without the feature.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn planted(_bug: &str) -> bool {
    false
}

/// Whether this bug is at work. A file names the one that is, because a function's process has only the environment
/// that the template gives it.
#[cfg(feature = "planted")]
#[must_use]
pub fn planted(bug: &str) -> bool {
    at_work() == bug
}

/// Whether any bug is at work.
#[cfg(feature = "planted")]
pub(crate) fn any() -> bool {
    !at_work().is_empty()
}

#[cfg(feature = "planted")]
fn at_work() -> &'static str {
    const AT_WORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/planted/at-work");
    static NAME: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::fs::read_to_string(AT_WORK).unwrap_or_default());
    NAME.as_str()
}
