//! What becomes of each plan of a transaction that was cancelled.

use std::collections::BTreeSet;

use super::*;
use crate::domain::fixtures::unit_key;
use crate::domain::{Cause, Delta, Lack, OrderId, ReservationId, SeenRecord};
use crate::store::executor::tests::{at, failed, holding, none, numbered};
use crate::store::record::{Item, number, reservation_item};

fn stock_item(product: &str, figures: [u64; 3]) -> Item {
    let mut item = crate::store::keys::stock_unit(&unit_key(product));
    for (name, figure) in ["available", "reserved", "sold"].into_iter().zip(figures) {
        item.insert(name.to_owned(), number(figure));
    }
    item.insert("version".to_owned(), number(1));
    item
}

const FIRST_TRY: History = History { was_tried: false, is_unanswered: false };
const AFTER_A_CONFLICT: History = History { was_tried: true, is_unanswered: false };
const AFTER_SILENCE: History = History { was_tried: true, is_unanswered: true };

/// What becomes of each plan, in a word.
fn judge_plans(plans: &[Plan], reasons: &[Cancelled], history: History) -> Vec<String> {
    let batch = numbered(plans.to_vec());
    let own = (0..plans.len()).map(ActionTarget::Record);
    let units: BTreeSet<UnitKey> =
        plans.iter().flat_map(|plan| &plan.moves).map(|one| one.unit.clone()).collect();
    let targets: Vec<ActionTarget> = own.chain(units.into_iter().map(ActionTarget::Stock)).collect();
    match judge(&batch, &targets, reasons, history) {
        Err(error) => vec![error.to_string()],
        Ok(verdicts) => verdicts.iter().map(name_verdict).collect(),
    }
}

fn name_verdict(verdict: &Verdict) -> String {
    let word = match verdict {
        Verdict::Has(PlanOutcome::Committed(_)) => "committed",
        Verdict::Has(PlanOutcome::Prevented { by, .. }) => match by.record() {
            SeenRecord::Unseen => "by stock",
            SeenRecord::Hidden => "by a hidden record",
            SeenRecord::Absent => "by no record",
            SeenRecord::Present(_) => "by a record",
        },
        Verdict::Fails(StoreError::Corrupt(_)) => "corrupt",
        Verdict::Fails(_) => "fails",
        Verdict::Again => "again",
        Verdict::PutOff => "put off",
    };
    word.to_owned()
}

/// Two holds of three of the same product, admitted against what came back.
#[test]
fn plans_are_admitted_in_their_order() {
    let plans = ["o-1", "o-2"].map(|order| holding(order, &["A".to_owned()], 3));
    let against = |available| {
        let item = stock_item("A", [available, 0, 0]);
        judge_plans(&plans, &[none(), none(), failed(Some(item))], FIRST_TRY)
    };
    assert_eq!(against(5), ["again", "put off"], "the second is not short by the first");
    assert_eq!(against(3), ["again", "put off"]);
    assert_eq!(against(2), ["by stock", "by stock"]);
    // What one gives back, the next may take.
    let mut back = plans[0].clone();
    back.moves = vec![Move::shift(unit_key("A"), Delta::give_back(2))];
    let three = [back, plans[1].clone(), holding("o-3", &["A".to_owned()], 9)];
    let item = failed(Some(stock_item("A", [2, 2, 0])));
    let told = judge_plans(&three, &[none(), none(), none(), item], FIRST_TRY);
    assert_eq!(told, ["again", "again", "by stock"]);
    assert_eq!(against(6), ["corrupt", "corrupt"], "it would have fitted");
    let gone = judge_plans(&plans, &[none(), none(), failed(None)], FIRST_TRY);
    assert_eq!(gone, ["by stock", "by stock"]);
    // One asks for more than there is by itself; the other does not go without for that.
    let plans = [holding("o-1", &["A".to_owned()], 9), holding("o-2", &["A".to_owned()], 3)];
    let item = stock_item("A", [5, 0, 0]);
    assert_eq!(judge_plans(&plans, &[none(), none(), failed(Some(item))], FIRST_TRY), ["by stock", "again"]);
}

#[test]
fn a_shortage_is_what_came_back() {
    let batch = numbered([holding("o", &["A".to_owned()], 3)]);
    let targets = [ActionTarget::Record(0), ActionTarget::Stock(unit_key("A"))];
    let lack = |item: Option<Item>| {
        let verdicts = judge(&batch, &targets, &[none(), failed(item)], FIRST_TRY).unwrap();
        let [Verdict::Has(PlanOutcome::Prevented { by, may_land: false })] = verdicts.as_slice() else {
            panic!("it is prevented");
        };
        let sighting = by.stock_unit(&unit_key("A")).unwrap();
        assert!(sighting.guard_failed && !sighting.is_snapshot);
        batch[0].1.moves[0].obstacle(sighting.unit.as_ref()).unwrap()
    };
    assert_eq!(lack(Some(stock_item("A", [2, 0, 0]))), Obstacle::Lack(Lack::Short { available: 2 }));
    assert_eq!(lack(None), Obstacle::Lack(Lack::Unknown));
}

/// A stock unit that holds less than is promised is nobody's shortage.
#[test]
fn what_cannot_be_is_an_error() {
    let mut back = holding("o", &["A".to_owned()], 3);
    back.moves = vec![Move::shift(unit_key("A"), Delta::give_back(3))];
    for item in [None, Some(stock_item("A", [9, 2, 0]))] {
        assert_eq!(judge_plans(&[back.clone()], &[none(), failed(item)], FIRST_TRY), ["corrupt"]);
    }
    let hold = [holding("o", &["A".to_owned()], 3)];
    let fits = stock_item("A", [3, 0, 0]);
    assert_eq!(judge_plans(&hold, &[none(), failed(Some(fits))], FIRST_TRY), ["corrupt"]);
    let nothing = judge_plans(&hold, &[none(), none()], FIRST_TRY);
    assert_eq!(nothing, ["unreadable item: a cancelled transaction: no reason given"]);
}

/// What keeps one plan from being written does not keep the others from it; and a write whose answer was lost is found.
#[test]
fn a_record_that_has_moved_on() {
    let plans = ["A", "B"].map(|product| holding(&format!("o-{product}"), &[product.to_owned()], 1));
    let item =
        |next: &Reservation| Some(reservation_item(next, at(), std::time::Duration::from_secs(1)).unwrap());
    let ours = || failed(item(plans[1].next_record().unwrap()));
    let other = |plan: &Plan| {
        let next = Reservation { version: 7, ..plan.next_record().unwrap().clone() };
        failed(item(&next))
    };
    let reasons = [none(), other(&plans[1]), none(), none()];
    assert_eq!(judge_plans(&plans, &reasons, AFTER_SILENCE), ["again", "by a record"]);
    let mine = |plans: &[Plan], ours, history| judge_plans(plans, &[none(), ours, none(), none()], history);
    for history in [AFTER_A_CONFLICT, AFTER_SILENCE] {
        assert_eq!(mine(&plans, ours(), history), ["again", "committed"], "each says so for itself");
    }
    assert_eq!(
        mine(&plans, ours(), FIRST_TRY),
        ["again", "by a record"],
        "a guess, and a message that came twice"
    );
    let mut seen = plans.clone();
    if let Some(RecordWrite::Put(next)) = &mut seen[1].record {
        next.version = 2;
    }
    let ours = failed(item(seen[1].next_record().unwrap()));
    assert_eq!(mine(&seen, ours, FIRST_TRY), ["again", "committed"], "two copies of one request");
    assert_eq!(
        judge_plans(&plans, &[failed(None), none(), none(), none()], FIRST_TRY)[0],
        "by a hidden record"
    );
    // What a record says comes before what a stock unit says: it may be short because of our own hold.
    let both = [other(&plans[0]), none(), failed(None), none()];
    assert_eq!(judge_plans(&plans, &both, FIRST_TRY), ["by a record", "again"]);
}

/// An item that cannot be read concerns those who asked for it. What a record says comes before it.
#[test]
fn what_cannot_be_read_concerns_its_own_plans() {
    let plans = ["A", "B"].map(|product| holding(&format!("o-{product}"), &[product.to_owned()], 1));
    let unreadable = || failed(Some(Item::from([("pk".to_owned(), number(-1))])));
    assert_eq!(judge_plans(&plans, &[none(), none(), none(), unreadable()], FIRST_TRY), ["again", "corrupt"]);
    assert_eq!(judge_plans(&plans, &[none(), unreadable(), none(), none()], FIRST_TRY), ["again", "corrupt"]);
    let moved_on = judge_plans(&plans, &[failed(None), none(), unreadable(), none()], FIRST_TRY);
    assert_eq!(moved_on, ["by a hidden record", "again"]);
}

/// An earlier try may still land, so that nobody is told that the stock is short.
#[test]
fn nothing_is_refused_after_silence() {
    let plans = [holding("o", &["A".to_owned()], 3)];
    let short = || failed(Some(stock_item("A", [2, 0, 0])));
    let told = judge_plans(&plans, &[none(), short()], AFTER_SILENCE);
    assert_eq!(told, ["not done in time: refused after a try without answer"]);
    assert_eq!(judge_plans(&plans, &[none(), short()], AFTER_A_CONFLICT), ["by stock"]);
}

/// A confirm that was not read names no version: one without an answer may land after a refusal. Of a record that is not
/// shown nobody knows whether the try that had no answer wrote it.
#[test]
fn a_confirm_may_land_later() {
    let plan = Plan {
        record: Some(RecordWrite::Confirm(ReservationId::of(&OrderId::parse("o").unwrap()))),
        idempotency: None,
        moves: Vec::new(),
        cause: Cause::default(),
        at: at(),
    };
    for (history, expected) in [(FIRST_TRY, false), (AFTER_SILENCE, true)] {
        let verdicts = judge(&numbered([plan.clone()]), &[ActionTarget::Record(0)], &[failed(None)], history);
        let Ok([Verdict::Has(PlanOutcome::Prevented { may_land, .. })]) = verdicts.as_deref() else {
            panic!("it is prevented");
        };
        assert_eq!(*may_land, expected);
    }
}
