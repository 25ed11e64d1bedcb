//! Logs: one JSON object a line, on standard output, as CloudWatch Logs Insights reads them.
//!
//! Each outcome is logged once, where an invocation ends (see [`crate::http`]), with dotted or plain
//! fields that carry their unit in the name. Bodies and tokens are never logged.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. What the libraries say is logged from `WARN` on only.
pub fn init(level: LevelFilter) {
    let own = [
        "shared",
        "reserve",
        "release",
        "settle",
        "check",
        "docs",
        "stock_admin",
        "order_events",
        "expiry_sweep",
        "publisher",
        "reconcile",
    ];
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(own.map(|target| (target, level)));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false);
    // A second call, as in tests, leaves the first in place.
    tracing_subscriber::registry().with(filter).with(lines).try_init().ok();
}
