//! Stock administration: what is guessed, what is decided on a stock unit that was seen, and why it is refused.

use super::*;
use crate::domain::decide::tests::{at, expect_plan, stock_unit_of};
use crate::domain::fixtures::unit_key;
use crate::domain::seen::Seen;

fn command(change: StockChange) -> StockCommand {
    let idempotency_key = IdempotencyKey::parse("k").unwrap();
    StockCommand { unit: unit_key("A"), change, idempotency_key, answer: "done".to_owned() }
}

fn decided(seen: &Seen, change: StockChange) -> Decision<StockRefusal> {
    decide_stock(seen, &command(change), "c", at(0))
}

fn unit(available: u64, reserved: u64) -> StockUnit {
    StockUnit { available, reserved, version: 3, physical: 2, ..stock_unit_of("A", 0) }
}

/// A guard has failed, and this came back; on hand was `first` when it was looked at before, if it was.
fn refused_by(first: Option<u64>, there: Option<StockUnit>) -> Seen {
    let mut seen = Seen::default();
    if let Some(first) = first {
        seen.learn_snapshot(unit_key("A"), Some(unit(first, 0)));
    }
    seen.learn_refusal(unit_key("A"), there);
    seen
}

fn add(quantity: u64) -> StockChange {
    StockChange::Add(Quantity::new(quantity).unwrap())
}

fn adjust(by: i64) -> StockChange {
    StockChange::Adjust { by, reason: Reason::requested() }
}

fn audit(on_hand: u64) -> StockChange {
    StockChange::Audit { on_hand }
}

fn create() -> StockChange {
    StockChange::Create { available: 1, name: None, low_stock_threshold: None, max_per_order: None }
}

fn update() -> StockChange {
    StockChange::Update { name: Edit::Clear, low_stock_threshold: Edit::Keep, max_per_order: Edit::Keep }
}

#[test]
fn why_a_change_of_stock_is_refused() {
    let told = |change, first| match decided(&refused_by(first, Some(unit(4, 6))), change) {
        Decision::Refuse(refusal) => Some(refusal),
        Decision::Plan(_) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(adjust(-5), None), Some(StockRefusal::Short { available: 4 }));
    assert_eq!(told(adjust(-4), None), None);
    assert_eq!(told(create(), None), Some(StockRefusal::Exists));
    assert_eq!(told(audit(5), Some(10)), Some(StockRefusal::BelowReserved { reserved: 6 }));
    // As much as is promised may lie there; what was counted has changed meanwhile, or has come back to what it was.
    assert_eq!(told(audit(6), Some(9)), Some(StockRefusal::Changed { was: 9, is: 10 }));
    assert_eq!(told(audit(6), Some(10)), None);
}

/// What is on hand counts, wherever it is: what is given back becomes available again.
#[test]
fn what_is_on_hand_has_a_bound() {
    for there in [unit(MAX_STOCK - 5, 0), unit(0, MAX_STOCK - 5), unit(MAX_STOCK / 2, MAX_STOCK / 2 - 5)] {
        let seen = refused_by(None, Some(there.clone()));
        let refusal = Decision::Refuse(StockRefusal::TooMuch { on_hand: MAX_STOCK - 5 });
        assert_eq!(decided(&seen, add(6)), refusal, "{there:?}");
        assert_eq!(decided(&seen, adjust(6)), refusal, "{there:?}");
        for change in [add(5), adjust(5)] {
            let plan = expect_plan(decided(&seen, change));
            assert_eq!(plan.moves[0].guards, [Guard::Physical(2)], "{there:?}");
        }
    }
}

/// An endpoint may not show what failed a guard, so it is looked at; what is not there then is not there.
#[test]
fn what_was_not_shown_is_looked_at() {
    for change in [create(), add(1), adjust(-5), adjust(5), audit(6), update()] {
        let mut seen = refused_by(None, None);
        assert_eq!(decided(&seen, change.clone()), Decision::Look(Look::Stock(unit_key("A"))));
        seen.learn_snapshot(unit_key("A"), None);
        assert_eq!(decided(&seen, change), Decision::Refuse(StockRefusal::Unknown));
    }
}

/// Only an audit looks first; and what it sees refuses nothing, because it may have been applied before.
#[test]
fn an_audit_looks_first() {
    for change in [create(), add(1), adjust(-5), update()] {
        expect_plan(decided(&Seen::default(), change));
    }
    assert_eq!(decided(&Seen::default(), audit(3)), Decision::Look(Look::Stock(unit_key("A"))));
    let mut seen = Seen::default();
    seen.learn_snapshot(unit_key("A"), Some(unit(0, 5)));
    let below_reserved = expect_plan(decided(&seen, audit(3)));
    assert!(below_reserved.moves[0].guards.contains(&Guard::Physical(2)));
    for (counted, is_change) in [(5, false), (9, true)] {
        let effect = Effect::SetOnHand { units: counted, is_change };
        assert_eq!(expect_plan(decided(&seen, audit(counted))).moves[0].effect, effect);
    }
}

#[test]
fn a_key_stands_for_one_request() {
    let kept = expect_plan(decided(&Seen::default(), add(1))).idempotency.unwrap();
    let mut seen = Seen::default();
    seen.learn_idempotency(kept);
    assert_eq!(decided(&seen, add(1)), Decision::Unchanged);
    for other in [add(2), adjust(1), audit(1)] {
        assert_eq!(decided(&seen, other), Decision::Refuse(StockRefusal::KeyReused));
    }
}

#[test]
fn each_change_has_a_fingerprint_of_its_own() {
    let update = |name, low_stock_threshold, max_per_order| StockChange::Update {
        name,
        low_stock_threshold,
        max_per_order,
    };
    let called = |name: &str| update(Edit::Set(name.to_owned()), Edit::Keep, Edit::Keep);
    let changes = [
        update(Edit::Clear, Edit::Keep, Edit::Keep),
        update(Edit::Keep, Edit::Clear, Edit::Keep),
        update(Edit::Keep, Edit::Keep, Edit::Clear),
        update(Edit::Keep, Edit::Set(1), Edit::Keep),
        update(Edit::Keep, Edit::Keep, Edit::Set(1)),
        called("-"),
        called("="),
        add(1),
        audit(1),
        create(),
    ];
    let count = changes.len();
    let fingerprints: std::collections::BTreeSet<_> =
        changes.into_iter().map(|change| command(change).fingerprint().0).collect();
    assert_eq!(fingerprints.len(), count);
}

/// They are stored: a repetition after an update of this program must find what it wrote before.
#[test]
fn a_fingerprint_never_changes() {
    let text = |text: &str| Fingerprint::of(text);
    assert_eq!(command(add(5)).fingerprint(), text("add\tA\tmain\t0\t5"));
    assert_eq!(command(create()).fingerprint(), text("create\tA\tmain\t0\t1\t-\t-\t"));
    assert_eq!(command(update()).fingerprint(), text("update\tA\tmain\t0\t=\t=\t-"));
}
