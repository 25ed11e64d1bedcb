//! Short runs of one product whose histories are held against [`crate::linear`].

use crate::faults::{Mix, source};
use crate::history::Violation;
use crate::linear::{Act, Operation, Outcome, linearizable};
use crate::ops::{Ask, DEFAULT_TTL, Kind, Op};
use crate::run::{Case, Report, run};
use crate::world::Try;

/// Requests of a history.
const REQUESTS: u32 = 16;

/// Longer than any invocation takes.
const LONGEST_MS: i64 = 60_000;

/// How long after its time a hold is ended: before that a sweep finds nothing to do.
const MARGIN_MS: u64 = 5_000;

/// Longest history that is judged: with many tries without an answer the search would take long, and such a
/// history says little.
const MOST: usize = 48;

/// A random one.
#[must_use]
pub fn case(seed: u64) -> Case {
    let mut rng = source(seed, "history", 0);
    let orders = rng.u64(2..=5);
    let ops = (0..REQUESTS).map(|id| {
        let order = rng.u64(0..orders);
        let ask = match rng.u8(0..10) {
            0..5 => {
                let mut own = source(seed, "quantity", u32::try_from(order).unwrap_or(0));
                let ttl = if own.bool() { 1 } else { 600 };
                Ask::Reserve(vec![("P0".to_owned(), own.u64(1..=3))], Some(ttl))
            }
            5..7 => Ask::Confirm,
            _ => Ask::Release("requested"),
        };
        Op { id, at: 3 * rng.u64(0..3_000), kind: Kind::Ask(format!("order-{order}"), ask) }
    });
    let mut ops: Vec<Op> = ops.collect();
    for id in REQUESTS..REQUESTS + rng.u32(1..3) {
        ops.push(Op { id, at: MARGIN_MS + rng.u64(1_000..4_000), kind: Kind::Sweep(None) });
    }
    let per_mille = [0, 50, 150, 300][rng.usize(0..4)];
    let mix = Mix { per_mille, units_a_second: 1_000, ..Mix::default() };
    let products = vec![("P0".to_owned(), rng.u64(1..6), None)];
    let combines = source(seed, "combines", 0).bool();
    Case { seed, products, ops, mix, skew_ms: 0, combines }
}

/// Runs it and looks at its history.
#[must_use]
pub fn check(case: &Case) -> Report {
    let mut report = run(case);
    let (available, operations) = (case.products[0].1, operations_of(case, &report.tries));
    if operations.len() > MOST {
        report.judged = false;
    } else if !linearizable(available, 5, &operations) {
        report.violations.push(Violation { rule: "linearizable", what: format!("{operations:#?}") });
    }
    report
}

/// The operations as their clients saw them. A try without an answer may still happen after the one that
/// was answered, so it stands by itself.
fn operations_of(case: &Case, tries: &[Try]) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut orders = std::collections::BTreeMap::new();
    for tried in tries {
        let Some(Op { kind: Kind::Ask(order, ask), .. }) = case.ops.iter().find(|op| op.id == tried.op)
        else {
            continue;
        };
        let number = order.strip_prefix("order-").and_then(|number| number.parse().ok());
        let order = number.unwrap_or_else(|| unreachable!("orders have numbers here: {order}"));
        let outcome = Outcome::of(tried.answer.as_ref());
        let act = match ask {
            Ask::Reserve(lines, ttl) => Act::Reserve(lines[0].1, in_ms(ttl.unwrap_or(DEFAULT_TTL))),
            Ask::Confirm => Act::Confirm,
            _ => Act::Release,
        };
        if matches!(act, Act::Reserve(..)) {
            let first = orders.entry(order).or_insert(tried.began);
            *first = tried.began.min(*first);
        }
        let ended = if outcome == Outcome::Maybe { u64::MAX } else { tried.ended };
        let now = tried.now.as_millisecond();
        operations.push(Operation { order, act, now, began: tried.began, ended, outcome });
    }
    // The clocks agree here, so no sweep among these requests has a later time than this.
    let now = tries.iter().map(|tried| tried.now.as_millisecond()).max().unwrap_or(0) + LONGEST_MS;
    for (order, began) in orders {
        let outcome = Outcome::Maybe;
        operations.push(Operation { order, act: Act::Sweep, now, began, ended: u64::MAX, outcome });
    }
    operations
}

fn in_ms(seconds: u64) -> i64 {
    i64::try_from(seconds * 1_000).unwrap_or(i64::MAX)
}
