//! Metrics, as CloudWatch reads them out of log lines: at most one line for an invocation.
//!
//! Metrics have two fixed dimensions, the stack and the function, and none by product or order. Figures that
//! Lambda, SQS and API Gateway report by themselves (duration, errors, age of a queue) are not counted again.
//! Source of the format: Amazon CloudWatch User Guide, "Embedded metric format specification".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::domain::Timestamp;

/// The namespace of all of them.
const NAMESPACE: &str = "Holdfast";

macro_rules! metrics {
    ($($(#[$doc:meta])+ $name:ident in $unit:literal;)+) => {
        /// The metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric { $($(#[$doc])+ $name,)+ }

        impl Metric {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name in CloudWatch.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            fn unit(self) -> &'static str {
                match self { $(Self::$name => $unit,)+ }
            }
        }
    };
}

metrics! {
    /// Orders that got a hold.
    ReservationsHeld in "Count";
    /// Orders that had their hold before.
    ReservationsRepeated in "Count";
    /// Orders that got none: short, unknown, above a limit.
    ReservationsRefused in "Count";
    /// Tries to hold an order that ended without an outcome; one order may be tried several times.
    ReservationsFailed in "Count";
    /// Requests that were answered with 5xx.
    FailedAnswers in "Count";
    /// Facts of orders that contradict what was recorded before. Each one needs a person.
    OrderConflicts in "Count";
    /// Order events under a name that is not known here. They need nothing.
    UnknownEvents in "Count";
    /// Tries that met another transaction on the same item.
    Conflicts in "Count";
    /// Tries that DynamoDB throttled.
    Throttles in "Count";
    /// Tries that got no answer, or an error of DynamoDB's own.
    Unanswered in "Count";
    /// Holds that the sweep found due.
    HoldsDue in "Count";
    /// Holds that the sweep gave back.
    HoldsExpired in "Count";
    /// Temporary holds that are open after a sweep.
    HoldsOpen in "Count";
    /// Those of them that end within five minutes.
    HoldsExpiring in "Count";
    /// For how long the oldest hold that a sweep found had been due.
    OldestDueHoldAge in "Milliseconds";
    /// Events that were sent to the bus.
    EventsPublished in "Count";
    /// `LowStock` events that were published.
    LowStock in "Count";
    /// `OutOfStock` events that were published.
    OutOfStock in "Count";
    /// Paid orders for which the stock was gone. Each one needs a person.
    PaidOrdersShort in "Count";
    /// Differences that a reconciliation found.
    ReconcileDifferences in "Count";
    /// Stock units whose holders a reconciliation could not compare.
    ReconcileNotCompared in "Count";
}

/// The metrics of one invocation so far. Clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<Metric, u64>>>);

impl Metrics {
    /// Adds to a metric.
    pub fn add(&self, metric: Metric, count: u64) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.entry(metric).or_default() += count;
    }

    /// The log line that CloudWatch reads the metrics from; none where nothing was counted.
    #[must_use]
    pub fn line(&self, stack: &str, operation: &str, now: Timestamp) -> Option<String> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.is_empty() {
            return None;
        }
        let units: Vec<Value> =
            counted.keys().map(|metric| json!({"Name": metric.name(), "Unit": metric.unit()})).collect();
        let mut line: Map<String, Value> =
            counted.iter().map(|(metric, count)| (metric.name().to_owned(), json!(count))).collect();
        line.insert("stack".to_owned(), stack.into());
        line.insert("operation".to_owned(), operation.into());
        let metrics = json!({
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["stack"], ["stack", "operation"]],
                "Metrics": units,
            }],
        });
        line.insert("_aws".to_owned(), metrics);
        Some(Value::Object(line).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_it_counts() {
        let metrics = Metrics::default();
        let line = |metrics: &Metrics| metrics.line("shop", "reserve", Timestamp::UNIX_EPOCH);
        assert_eq!(line(&metrics), None);
        metrics.add(Metric::Conflicts, 2);
        metrics.clone().add(Metric::Conflicts, 1);
        metrics.add(Metric::ReservationsHeld, 1);
        let line: Value = serde_json::from_str(&line(&metrics).unwrap()).unwrap();
        assert_eq!(
            (&line["Conflicts"], &line["stack"], &line["operation"]),
            (&json!(3), &json!("shop"), &json!("reserve"))
        );
        let declared = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(declared["Dimensions"], json!([["stack"], ["stack", "operation"]]));
        for metric in declared["Metrics"].as_array().unwrap() {
            assert!(line[metric["Name"].as_str().unwrap()].is_u64(), "{metric}");
        }
    }
}
