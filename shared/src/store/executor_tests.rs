//! Packing, and what is tried again.

use super::*;
use crate::domain::decide::tests::{command, plan_of};
use crate::domain::fixtures::{line, unit_key};
use crate::domain::{Action, OrderId, OrderLines, Target, Timestamp};
use crate::metrics::Metric;
use crate::store::error::CancellationCode;
use crate::store::record::Item;

pub(crate) fn at() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// A hold of so many of each product.
pub(crate) fn holding(order: &str, products: &[String], each: u64) -> Plan {
    let lines = OrderLines::sum(products.iter().map(|product| line(product, each))).unwrap();
    let order = Target::Order(OrderId::parse(order).unwrap());
    plan_of(None, &command(&order, Action::Reserve { lines, expires_at: None }), at())
}

pub(crate) fn numbered(plans: impl IntoIterator<Item = Plan>) -> Vec<Numbered> {
    plans.into_iter().enumerate().collect()
}

fn packed(plans: Vec<Plan>) -> Vec<Vec<Plan>> {
    let mut waiting = VecDeque::from(numbered(plans));
    let mut parts = Vec::new();
    while !waiting.is_empty() {
        parts.push(take_batch(&mut waiting).into_iter().map(|(_, plan)| plan).collect());
    }
    parts
}

fn actions(part: &[Plan]) -> usize {
    let units: BTreeSet<&UnitKey> = part.iter().flat_map(|plan| &plan.moves).map(|one| &one.unit).collect();
    part.len() + units.len()
}

#[test]
fn plans_are_packed_into_transactions() {
    // All of one product: 99 holds and its stock unit.
    let same: Vec<Plan> = (0..250).map(|i| holding(&format!("o-{i}"), &["A".to_owned()], 1)).collect();
    let parts = packed(same.clone());
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [99, 99, 52]);
    assert_eq!(parts.concat(), same);
    // Each of the common product and two of its own: three actions a hold, and one.
    let own = |i: usize| ["A".to_owned(), format!("B{i}"), format!("C{i}")];
    let mixed: Vec<Plan> = (0..70).map(|i| holding(&format!("o-{i}"), &own(i), 1)).collect();
    let parts = packed(mixed.clone());
    assert_eq!(parts.iter().map(|part| actions(part)).collect::<Vec<_>>(), [100, 100, 13]);
    assert_eq!(parts.concat(), mixed);
}

#[test]
fn a_transaction_takes_no_item_twice() {
    let one = || holding("o", &["A".to_owned()], 1);
    assert_eq!(packed(vec![one(), one()]).len(), 2, "the same record");
    let mut exact = holding("p", &["A".to_owned()], 1);
    exact.moves[0].guards.push(crate::domain::Guard::Physical(1));
    assert_eq!(packed(vec![one(), exact.clone()]).len(), 2, "a stock unit that is to stand exactly so");
    assert_eq!(packed(vec![exact, one()]).len(), 2);
    assert_eq!(packed(vec![one(), holding("p", &["A".to_owned()], 1)]).len(), 1);
}

pub(crate) fn none() -> Cancelled {
    Cancelled { reason: CancellationCode::None, item: None }
}

pub(crate) fn failed(item: Option<Item>) -> Cancelled {
    Cancelled { reason: CancellationCode::ConditionFailed, item }
}

fn conflict() -> Cancelled {
    Cancelled { reason: CancellationCode::Busy(Metric::Conflicts), item: None }
}

/// What is tried again as it is: a conflict on a record, whatever the stock says; one on stock where no guard failed.
#[test]
fn what_is_busy_is_tried_again() {
    let subjects = || vec![Subject::Record(0), Subject::Stock(unit_key("A")), Subject::Stock(unit_key("B"))];
    let again = |reasons: [Cancelled; 3]| keeps_busy(&subjects(), &reasons).is_some();
    assert!(again([conflict(), none(), none()]));
    assert!(again([conflict(), failed(None), none()]));
    assert!(again([none(), conflict(), none()]));
    assert!(!again([none(), conflict(), failed(None)]));
    assert!(!again([failed(None), conflict(), none()]));
    assert!(!again([none(), failed(None), none()]));
}
