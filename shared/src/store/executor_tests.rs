//! Packing, and what is tried again.

use super::*;
use crate::domain::decide::tests::{command, plan_of};
use crate::domain::fixtures::{line, unit_key};
use crate::domain::plan::MAX_MOVES;
use crate::domain::{Action, Fingerprint, OrderId, OrderLines, RecordWrite, ShipmentId, Target, Timestamp};
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

fn pack(plans: &[Plan]) -> Vec<Vec<Plan>> {
    let mut parts = Vec::new();
    let mut waiting = plans;
    while !waiting.is_empty() {
        let (part, rest) = waiting.split_at(count_fitting(waiting.iter()));
        parts.push(part.to_vec());
        waiting = rest;
    }
    parts
}

fn actions(part: &[Plan]) -> usize {
    let units: BTreeSet<&UnitKey> = part.iter().flat_map(|plan| &plan.moves).map(|one| &one.unit).collect();
    part.len() + units.len()
}

#[test]
fn plans_are_packed_into_transactions() {
    const { assert!(MAX_MOVES < MAX_ACTIONS, "one plan fits, with its record") };
    // All of one product: 99 holds and its stock unit.
    let same: Vec<Plan> = (0..250).map(|i| holding(&format!("o-{i}"), &["A".to_owned()], 1)).collect();
    let parts = pack(&same);
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [99, 99, 52]);
    assert_eq!(parts.concat(), same);
    // Each of the common product and two of its own: three actions a hold, and one.
    let own = |i: usize| ["A".to_owned(), format!("B{i}"), format!("C{i}")];
    let mixed: Vec<Plan> = (0..70).map(|i| holding(&format!("o-{i}"), &own(i), 1)).collect();
    let parts = pack(&mixed);
    assert_eq!(parts.iter().map(|part| actions(part)).collect::<Vec<_>>(), [100, 100, 13]);
    assert_eq!(parts.concat(), mixed);
}

/// Records that have grown share a transaction as long as it stays within what DynamoDB takes.
#[test]
fn a_transaction_has_a_size() {
    let grown = |i: usize| {
        let mut plan = holding(&format!("o-{i}"), &["A".to_owned()], 1);
        let Some(RecordWrite::Put(next)) = &mut plan.record else { panic!("a record is written") };
        let shipment = |n: usize| {
            (ShipmentId::parse(format!("s-{n}")).unwrap(), Fingerprint(uuid::Uuid::from_u128(n as u128)))
        };
        next.shipments = (0..400).map(shipment).collect();
        plan
    };
    let parts = pack(&(0..60).map(grown).collect::<Vec<_>>());
    assert!(parts.len() > 1, "all in one");
    assert!(parts.iter().all(|part| part.iter().map(most_bytes).sum::<usize>() <= MAX_BYTES));
}

#[test]
fn a_transaction_takes_no_item_twice() {
    let one = || holding("o", &["A".to_owned()], 1);
    assert_eq!(pack(&[one(), one()]).len(), 2, "the same record");
    let mut exact = holding("p", &["A".to_owned()], 1);
    exact.moves[0].guards.push(crate::domain::Guard::Physical(1));
    assert_eq!(pack(&[one(), exact.clone()]).len(), 2, "a stock unit that is to stand exactly so");
    assert_eq!(pack(&[exact, one()]).len(), 2);
    assert_eq!(pack(&[one(), holding("p", &["A".to_owned()], 1)]).len(), 1);
    let correction = Plan { record: None, ..holding("q", &["A".to_owned()], 1) };
    assert_eq!(pack(&[one(), correction.clone()]).len(), 2, "a correction has a movement of its own");
    assert_eq!(pack(&[correction, one()]).len(), 2);
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
    let targets = || {
        vec![ActionTarget::Record(0), ActionTarget::Stock(unit_key("A")), ActionTarget::Stock(unit_key("B"))]
    };
    let again = |reasons: [Cancelled; 3]| find_failure_to_retry(&targets(), &reasons).is_some();
    assert!(again([conflict(), none(), none()]));
    assert!(again([conflict(), failed(None), none()]));
    assert!(again([none(), conflict(), none()]));
    assert!(!again([none(), conflict(), failed(None)]));
    assert!(!again([failed(None), conflict(), none()]));
    assert!(!again([none(), failed(None), none()]));
}
