//! The faults on the wire, and when they happen.

use std::collections::BTreeMap;

use fastrand::Rng;

/// A fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It never arrives, and the caller is told at once.
    Drop,
    /// It is applied, and the answer is lost.
    Lose,
    /// It never arrives, and the caller waits.
    Hang,
    /// It is applied after the caller has given it up.
    Late,
    /// It is applied twice.
    Dup,
    /// An error 500 instead of doing it.
    ErrorBefore,
    /// An error 500 after doing it.
    ErrorAfter,
    /// Refused: the partition is busy.
    Throttle,
    /// Refused: another write on its first item is under way.
    Conflict,
    /// The transaction takes seconds; whoever asks meanwhile is told that it is in progress.
    InProgress,
    /// An index answers from before.
    Stale,
    /// Only a part of a batch is taken.
    Partial,
    /// The function ends before the request leaves it.
    KillBefore,
    /// The function ends when the request has been applied.
    KillAfter,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Drop,
        Self::Lose,
        Self::Hang,
        Self::Late,
        Self::Dup,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::Throttle,
        Self::Conflict,
        Self::InProgress,
        Self::Stale,
        Self::Partial,
        Self::KillBefore,
        Self::KillAfter,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Lose => "lose",
            Self::Hang => "hang",
            Self::Late => "late",
            Self::Dup => "dup",
            Self::ErrorBefore => "500-before",
            Self::ErrorAfter => "500-after",
            Self::Throttle => "throttle",
            Self::Conflict => "conflict",
            Self::InProgress => "in-progress",
            Self::Stale => "stale",
            Self::Partial => "partial",
            Self::KillBefore => "kill-before",
            Self::KillAfter => "kill-after",
        }
    }

    /// Whether it can happen to such a request.
    #[must_use]
    pub fn applies_to(self, operation: &str, on_due_index: bool) -> bool {
        let writes_with_condition =
            matches!(operation, "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems");
        match self {
            Self::Drop
            | Self::Lose
            | Self::Hang
            | Self::ErrorBefore
            | Self::ErrorAfter
            | Self::Throttle
            | Self::KillBefore
            | Self::KillAfter => true,
            Self::Late | Self::Dup => {
                writes_with_condition || matches!(operation, "BatchWriteItem" | "PutEvents" | "SendMessage")
            }
            Self::Conflict => writes_with_condition,
            Self::InProgress => operation == "TransactWriteItems",
            Self::Stale => operation == "Query" && on_due_index,
            Self::Partial => matches!(operation, "BatchGetItem" | "BatchWriteItem" | "PutEvents"),
        }
    }
}

/// A fault that is to happen at a certain call.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The invocation, by its label.
    pub label: String,
    /// Which of its calls that the fault applies to, from 0.
    pub nth: u32,
    /// The fault that happens.
    pub fault: Fault,
    /// Whether it goes on happening to all later calls of the invocation.
    pub lasting: bool,
}

/// How late a late write may be unless a run says otherwise, in milliseconds: later than the caller waits.
pub const LATE_MS: u64 = 2_500;

/// The beginning of the labels of invocations that set the scene; nothing goes wrong there.
pub const SETUP: &str = "setup";

/// When faults happen.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    /// How many of a thousand requests go wrong by chance.
    pub per_mille: u32,
    /// Faults that are to happen.
    pub planned: Vec<Planned>,
    /// Calls that nothing happens to by chance, by label and number: what shrinking has taken out.
    pub spared: Vec<(String, u32)>,
    /// Write units a second that one partition key takes.
    pub units_a_second: u32,
    /// How late a late write may be, in milliseconds; at least [`LATE_MS`].
    pub late_ms: u64,
}

impl Mix {
    /// Whether a fault that was planned for such a call happens now; `nth` counts for each planned fault the
    /// calls it applies to.
    pub fn planned(&self, label: &str, operation: &str, due: bool, nth: &mut [u32]) -> Option<Fault> {
        let mut happens = None;
        for (planned, nth) in self.planned.iter().zip(nth) {
            if planned.label != label || !planned.fault.applies_to(operation, due) {
                continue;
            }
            if happens.is_none() && (*nth == planned.nth || (planned.lasting && *nth > planned.nth)) {
                happens = Some(planned.fault);
            }
            *nth += 1;
        }
        happens
    }

    /// Whether something happens by chance.
    pub fn by_chance(&self, rng: &mut Rng, operation: &str, due: bool) -> Option<Fault> {
        if rng.u32(0..1000) >= self.per_mille {
            return None;
        }
        let possible: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| fault.applies_to(operation, due)).collect();
        rng.choice(possible)
    }
}

/// How often which fault happened to which operation.
pub type Fired = BTreeMap<(Fault, String), u64>;

/// A random source that depends on nothing but these: taking something else out of a run changes nothing
/// here.
#[must_use]
pub fn source(seed: u64, of: &str, number: u32) -> Rng {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in of.bytes().chain(number.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Rng::with_seed(hash ^ (hash >> 29))
}
