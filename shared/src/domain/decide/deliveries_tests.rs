//! Deliveries with lines: the same has left in the end, whatever order the facts came in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::domain::conflict::Conflict;
use crate::domain::conflict::ConflictKind::{self, LessThanLeft, NotOrdered, OtherLines, UnknownLines};
use crate::domain::decide::tests::{Came, TWO, World, world};
use crate::domain::decide::{Action, Heard, MAX_SHIPMENTS};
use crate::domain::delivery::Delivery;
use crate::domain::events::{EventKind, Item, ReservationFailure};
use crate::domain::fact::Fact;
use crate::domain::fixtures::{fact_with, items, line, shipment};
use crate::domain::lines::{LineKey, MAX_LINES, Ordered};
use crate::domain::names::Reason;
use crate::domain::reservation::State;
use crate::domain::stock::UnitKey;

fn total(of: &[(&str, u64)]) -> Heard {
    fact_with(Fact::Delivered, of)
}

fn all() -> Heard {
    Heard::Delivered(Delivery::All)
}

fn creation(of: &[(&str, u64)]) -> Heard {
    fact_with(Fact::Created, of)
}

fn too_many() -> Heard {
    order_of_products(MAX_LINES + 1)
}

/// An order of one of each of so many products.
fn order_of_products(products: usize) -> Heard {
    Heard::Created(Ordered::sum((0..products).map(|i| line(&format!("P{i}"), 1))).unwrap())
}

fn conflicts(w: &World) -> Vec<ConflictKind> {
    w.record("o").conflicts.kept.iter().map(|conflict| conflict.kind).collect()
}

/// The event of the last goods that leave.
fn deduction(left: &[(&str, u64)], corrected: &[(&str, u64)]) -> EventKind {
    let (items, corrected_items) = (items(left), items(corrected));
    EventKind::InventoryDeducted { items, is_complete: true, corrected_items }
}

/// The contradictions that were published: what stands of the order, what was heard, and how many there are by then.
fn published_conflicts(w: &World) -> Vec<(&[Item], &Conflict, u64)> {
    let events = w.published.iter().filter_map(|event| match &event.kind {
        EventKind::OrderConflict { items, conflict, count } => Some((&**items, conflict, *count)),
        _ => None,
    });
    events.collect()
}

/// Every sequence of these, each once.
fn permutations(of: &[Heard], each: &mut impl FnMut(&[Heard])) {
    fn next(left: &mut Vec<Heard>, so_far: &mut Vec<Heard>, each: &mut impl FnMut(&[Heard])) {
        if left.is_empty() {
            return each(so_far);
        }
        for i in 0..left.len() {
            so_far.push(left.remove(i));
            next(left, so_far, each);
            left.insert(i, so_far.pop().unwrap());
        }
    }
    next(&mut of.to_vec(), &mut Vec::new(), each);
}

/// A stock that nobody can exhaust here.
fn plenty() -> World {
    World::with_stock(&[("A", 90), ("B", 90), ("C", 90), ("A@east", 90), ("A@west", 90), ("B@east", 90)])
}

type End = (State, Vec<(LineKey, [u64; 4])>, BTreeMap<UnitKey, [u64; 3]>);

/// How it ends: the status, what has left and is held of each line, the stock, and what was published of payments.
fn play_to_end(facts: &[Heard]) -> End {
    let mut w = plenty();
    for fact in facts {
        w.hear_fact("o", fact.clone());
    }
    let record = w.record("o");
    let lines: Vec<_> = record
        .lines
        .iter()
        .map(|line| (line.key.clone(), [line.quantity, line.held_units(), line.fulfilled, line.missing]))
        .collect();
    let refused = w.times_published("InventoryConfirmationRefused");
    let due = facts.contains(&Heard::Paid) && facts.contains(&Heard::Cancelled);
    assert_eq!(refused, usize::from(due), "a refund is told once where one is due: {facts:?}");
    (record.state, lines, w.figures())
}

/// Deliveries of an order of three A and one B: partial, equal, foreign, more, located, none, and by shipments.
fn deliveries() -> Vec<Heard> {
    vec![
        all(),
        total(&[("A", 2)]),
        total(TWO),
        total(&[("A", 5), ("C", 1)]),
        total(&[("A@west", 1), ("B", 1)]),
        shipment("s-1", &[("A", 1)]),
        shipment("s-2", &[("A", 2), ("B", 1)]),
        shipment("s-3", &[("A@east", 1), ("C", 2)]),
    ]
}

/// Orders of it: from one location, and from two.
fn orders() -> [Heard; 2] {
    [creation(TWO), creation(&[("A@east", 2), ("A@west", 1), ("B@east", 1)])]
}

/// Scenarios 50 and 52: each two deliveries with an order and up to two of the other facts, in every order.
#[test]
fn every_order_of_deliveries_ends_the_same() {
    let others = [Heard::Paid, Heard::PaymentFailed, Heard::Cancelled];
    let others: Vec<Vec<Heard>> = (0_u8..7)
        .map(|set| (0..3).filter(|i| set & (1 << i) != 0).map(|i| others[i].clone()).collect())
        .collect();
    let deliveries = deliveries();
    let mut runs = 0;
    for (i, one) in deliveries.iter().enumerate() {
        for other in &deliveries[i + 1..] {
            for (more, order) in others.iter().zip(orders().iter().cycle()) {
                let mut facts = vec![order.clone(), one.clone(), other.clone()];
                facts.extend(more.iter().cloned());
                let want = play_to_end(&facts);
                permutations(&facts, &mut |facts| {
                    assert_eq!(play_to_end(facts), want, "{facts:?}");
                    runs += 1;
                });
            }
        }
    }
    assert!(runs > 5_000, "{runs} sequences");
}

/// What must have left of a product where all lies at one location, written down apart from the code.
fn departed_of(product: &str, ordered: u64, facts: &[Heard]) -> i64 {
    let (mut largest, mut sum, mut whole) = (0, 0, 0);
    for fact in facts {
        let Heard::Delivered(delivery) = fact else { continue };
        let of = |lines: &crate::domain::DeliveredLines| -> u64 {
            lines.iter().filter(|(p, ..)| p.as_str() == product).map(|(.., quantity)| quantity).sum()
        };
        match delivery {
            Delivery::All => whole = ordered,
            Delivery::Total(lines) => largest = largest.max(of(lines)),
            Delivery::Shipment(_, lines) => sum += of(lines),
        }
    }
    largest.max(sum).max(whole).cast_signed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Any facts in any order, each up to three times: as if each had come once.
    #[test]
    fn deliveries_may_repeat_and_shuffle(
        order in proptest::sample::select(orders().to_vec()),
        others in proptest::sample::subsequence(vec![Heard::Paid, Heard::PaymentFailed, Heard::Cancelled], 0..=3),
        some in proptest::sample::subsequence(deliveries(), 0..=4),
        seed: u64,
    ) {
        let facts: Vec<Heard> = [vec![order], others, some].concat();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut many: Vec<Heard> =
            facts.iter().flat_map(|fact| vec![fact.clone(); random.usize(1..=3)]).collect();
        random.shuffle(&mut many);
        prop_assert_eq!(play_to_end(&many), play_to_end(&facts), "{:?}", many);
    }

    /// The quantities are those that the rule says, for an order of one location.
    #[test]
    fn what_leaves_is_what_was_delivered(
        others in proptest::sample::subsequence(vec![Heard::Paid, Heard::PaymentFailed, Heard::Cancelled], 0..=3),
        some in proptest::sample::subsequence(
            deliveries().into_iter().filter(|fact| !format!("{fact:?}").contains("st\"")).collect::<Vec<_>>(), 0..=4),
    ) {
        let facts: Vec<Heard> = [vec![creation(TWO)], others, some].concat();
        let mut w = plenty();
        for fact in &facts {
            w.hear_fact("o", fact.clone());
        }
        let left = [("A", 3), ("B", 1), ("C", 0)].map(|(product, ordered)| departed_of(product, ordered, &facts));
        let over = facts.iter().any(|fact| matches!(fact, Heard::Delivered(Delivery::All | Delivery::Total(_))));
        let heard = |fact| facts.contains(&fact);
        let state = match () {
            () if over || left[0] >= 3 && left[1] >= 1 => State::Fulfilled,
            () if heard(Heard::Cancelled) => State::Released,
            () if heard(Heard::Paid) => State::Confirmed,
            () if heard(Heard::PaymentFailed) => State::Released,
            () => State::Reserved,
        };
        prop_assert_eq!(w.state("o"), state);
        for ((product, ordered), left) in [("A", 3), ("B", 1), ("C", 0)].into_iter().zip(left) {
            let held = if state.holds() { (ordered - left).max(0) } else { 0 };
            prop_assert_eq!(w.units(product), [90 - held - left, held, left], "{}", product);
        }
    }
}

/// Scenario 52.
#[test]
fn what_was_not_delivered_is_given_back_and_told() {
    let mut w = world();
    w.hear_fact("o", creation(&[("A", 3), ("B", 2)]));
    assert_eq!(w.hear_fact("o", total(&[("A", 3)])), Came::Committed);
    assert_eq!((w.state("o"), w.units("A"), w.units("B")), (State::Fulfilled, [7, 0, 3], [10, 0, 0]));
    let released =
        EventKind::InventoryReleased { items: items(&[("B", 2)]), reason: Some(Reason::not_delivered()) };
    assert!(w.published.iter().any(|event| event.kind == released), "{:?}", w.published);
    assert_eq!(conflicts(&w), []);
    // The rest left after all, as another event says.
    assert_eq!(w.hear_fact("o", total(&[("B", 2)])), Came::Committed);
    assert_eq!((w.units("A"), w.units("B"), conflicts(&w)), ([7, 0, 3], [8, 0, 2], vec![]));
}

#[test]
fn shipments_add_up_and_the_rest_stays_held() {
    let mut w = world();
    w.hear_fact("o", creation(TWO));
    assert_eq!(w.hear_fact("o", shipment("s-1", &[("A", 1)])), Came::Committed);
    assert_eq!(w.hear_fact("o", shipment("s-1", &[("A", 1)])), Came::Unchanged);
    assert_eq!((w.state("o"), w.units("A")), (State::Reserved, [7, 2, 1]));
    assert_eq!(w.ship("o", Some("s-1"), &[("A", 1)]), Came::Unchanged, "by request it is the same shipment");
    assert_eq!(w.ship("o", Some("s-2"), &[("A", 1)]), Came::Committed);
    assert_eq!(w.hear_fact("o", shipment("s-2", &[("A", 1)])), Came::Unchanged);
    assert_eq!(w.hear_fact("o", shipment("s-3", &[("A", 1), ("B", 1)])), Came::Committed);
    assert_eq!((w.state("o"), w.units("A"), w.units("B")), (State::Fulfilled, [7, 0, 3], [9, 0, 1]));
    let complete = deduction(&[("A", 1), ("B", 1)], &[]);
    assert_eq!(w.published.last().unwrap().kind, complete);
}

#[test]
fn a_total_counts_what_was_deducted_before() {
    let mut w = world();
    w.hear_fact("o", creation(TWO));
    w.ship("o", None, &[("A", 1)]);
    assert_eq!(w.hear_fact("o", total(&[("A", 2), ("B", 1)])), Came::Committed);
    assert_eq!((w.state("o"), w.units("A"), w.units("B")), (State::Fulfilled, [8, 0, 2], [9, 0, 1]));
    let mut w = world();
    w.hear_fact("o", creation(TWO));
    w.ship("o", None, &[("A", 2)]);
    assert_eq!(w.hear_fact("o", total(&[("A", 1), ("B", 1)])), Came::Committed);
    assert_eq!((w.units("A"), conflicts(&w)), ([8, 0, 2], vec![LessThanLeft]), "nothing is taken back");
}

#[test]
fn what_was_not_ordered_is_taken_and_told() {
    let mut w = World::with_stock(&[("A", 10), ("B", 10), ("C", 1)]);
    w.hear_fact("o", creation(TWO));
    assert_eq!(w.hear_fact("o", total(&[("A", 4), ("B", 1), ("C", 2)])), Came::Committed);
    assert_eq!((w.units("A"), w.units("B"), w.units("C")), ([6, 0, 4], [9, 0, 1], [0, 0, 1]));
    assert_eq!(conflicts(&w), [NotOrdered]);
    let left = items(&[("A", 4), ("B", 1), ("C", 1)]);
    let partial = EventKind::PartialDeduction { items: left, missing_items: items(&[("C", 1)]) };
    assert!(w.published.iter().any(|event| event.kind == partial), "{:?}", w.published);
    let [(stands, conflict, 1)] = *published_conflicts(&w) else { panic!("{:?}", w.published) };
    assert_eq!((stands[0].quantity, conflict.lines[0].quantity), (3, 4));
}

/// Scenario 53: the first stands, the other is kept and told once.
#[test]
fn an_order_that_comes_with_other_lines_is_kept_and_told() {
    let mut w = world();
    w.reserve("o", TWO);
    for _ in 0..2 {
        w.hear_fact("o", creation(&[("A", 1)]));
        w.hear_fact("o", creation(&[("B", 4)]));
        w.hear_fact("o", creation(TWO));
    }
    assert_eq!((w.state("o"), w.units("A"), w.units("B")), (State::Reserved, [7, 3, 0], [9, 1, 0]));
    assert_eq!(conflicts(&w), [OtherLines, OtherLines]);
    assert_eq!(w.times_published("OrderConflict"), 2);
    let [.., (stands, conflict, count)] = *published_conflicts(&w) else { panic!("{:?}", w.published) };
    assert_eq!((conflict.fact, conflict.kind), (Fact::Created, OtherLines));
    assert_eq!((stands, count), (&*items(TWO), 2));
    assert_eq!(conflict.lines[0].product.as_str(), "B");
    assert_eq!(w.reserve("o", &[("A", 9)]), Came::Refused(super::super::Refusal::LinesDiffer));
    assert_eq!(w.record("o").conflicts.count, 2, "a request that is refused leaves no trace");
}

#[test]
fn a_shipment_that_is_told_differently_counts_once() {
    let mut w = world();
    w.hear_fact("o", creation(TWO));
    w.hear_fact("o", shipment("s-1", &[("A", 1)]));
    assert_eq!(w.hear_fact("o", shipment("s-1", &[("A", 2)])), Came::Committed);
    assert_eq!(w.hear_fact("o", shipment("s-1", &[("A", 2)])), Came::Unchanged);
    assert_eq!((w.units("A"), conflicts(&w)), ([7, 2, 1], vec![ConflictKind::ShipmentDiffers]));
    for i in 1..MAX_SHIPMENTS {
        w.hear_fact("o", shipment(&format!("x-{i}"), &[("C", 1)]));
    }
    let before = w.record("o").conflicts.count;
    assert_eq!(w.hear_fact("o", shipment("one-more", &[("A", 1)])), Came::Committed);
    assert_eq!((w.units("A"), w.record("o").conflicts.count), ([7, 2, 1], before + 1));
}

/// Until the order is known, goods leave from where they lie by default.
#[test]
fn a_guessed_location_is_put_right() {
    let mut w = World::with_stock(&[("A", 5), ("A@east", 5)]);
    w.hear_fact("o", total(&[("A", 3)]));
    assert_eq!((w.units("A"), w.units("A@east")), ([2, 0, 3], [5, 0, 0]));
    w.hear_fact("o", creation(&[("A@east", 3)]));
    assert_eq!((w.units("A"), w.units("A@east")), ([5, 0, 0], [2, 0, 3]));
    assert_eq!((w.state("o"), conflicts(&w), w.record("o").lines.len()), (State::Fulfilled, vec![], 1));
    assert_eq!(w.published.last().unwrap().kind, deduction(&[("A@east", 3)], &[("A", 3)]));
}

/// More stock units than a transaction takes: what was guessed stays, and counts.
#[test]
fn a_delivery_that_does_not_fit_one_transaction() {
    let mut w = sixty_in_stock(9);
    w.hear_fact("o", total(&sixty("", 1)));
    assert_eq!(w.hear_fact("o", creation(&sixty("@east", 1))), Came::Committed);
    assert_eq!((w.units("P7"), w.units("P7@east"), w.state("o")), ([8, 0, 1], [9, 0, 0], State::Fulfilled));
    assert_eq!(w.hear_fact("o", total(&sixty("", 1))), Came::Unchanged);
}

/// So many of each of sixty products at a location: at two of them they do not fit one transaction.
fn sixty(location: &str, each: u64) -> Vec<(&'static str, u64)> {
    (0..60).map(|i| (&*format!("P{i}{location}").leak(), each)).collect()
}

/// So much stock of each of them at both locations, and of Q.
fn sixty_in_stock(each: u64) -> World {
    let stock = [sixty("", each), sixty("@east", each), vec![("Q", each)]].concat();
    World::with_stock(&stock.into_iter().map(|(name, n)| (name, n.cast_signed())).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever comes when: of a product leaves what was delivered of it in all, and less only where that is told.
    #[test]
    fn what_does_not_fit_one_transaction_does_not_leave_twice(
        at in prop::sample::select(vec!["", "@east"]),
        some in prop::sample::subsequence((0..9).collect::<Vec<usize>>(), 1..=6).prop_shuffle(),
    ) {
        let facts = [
            creation(&sixty(at, 2)),
            all(),
            total(&sixty("", 1)),
            total(&sixty("", 2)),
            total(&sixty("@east", 1)),
            shipment("s-1", &sixty("", 1)),
            shipment("s-2", &sixty("@east", 1)),
            shipment("s-3", &[("P7", 1), ("Q", 1)]),
            Heard::Cancelled,
        ];
        let facts: Vec<Heard> = some.into_iter().map(|i| facts[i].clone()).collect();
        let mut w = sixty_in_stock(20);
        for fact in facts.iter().chain(&facts) {
            w.hear_fact("o", fact.clone());
        }
        let is_ordered = facts.iter().any(|fact| matches!(fact, Heard::Created(_)));
        let is_noted = conflicts(&w).contains(&ConflictKind::TooMany);
        for product in ["P0", "P7", "P59"] {
            let left = w.units(product)[2] + w.units(&format!("{product}@east"))[2];
            let due = departed_of(product, if is_ordered { 2 } else { 0 }, &facts);
            prop_assert!(left == due || left < due && is_noted, "{left} of {due} {product}: {facts:?}");
        }
    }
}

/// Sixty were said to have left, then from where, which would move them all: it is told, and what comes later counts.
#[test]
fn a_delivery_that_cannot_be_put_right_is_told() {
    let mut w = sixty_in_stock(5);
    w.hear_fact("o", creation(&sixty("", 1)));
    w.hear_fact("o", total(&sixty("", 1)));
    assert_eq!(w.hear_fact("o", shipment("s-1", &sixty("@east", 1))), Came::Committed);
    assert_eq!(w.hear_fact("o", shipment("s-1", &sixty("@east", 1))), Came::Unchanged);
    assert_eq!(conflicts(&w), [ConflictKind::TooMany]);
    assert_eq!(w.hear_fact("o", shipment("s-2", &[("Q", 1)])), Came::Committed);
    assert_eq!((w.units("P0"), w.units("P0@east"), w.units("Q")), ([4, 0, 1], [5, 0, 0], [4, 0, 1]));
}

#[test]
fn what_nobody_ordered_is_bounded() {
    let mut w = World::with_stock(&[("A", 5)]);
    w.hear_fact("o", creation(&[("A", 1)]));
    let foreign = |from: usize| {
        let names: Vec<String> = (from..from + MAX_LINES).map(|i| format!("P{i}")).collect();
        shipment(&format!("s-{from}"), &names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
    };
    w.hear_fact("o", foreign(0));
    assert_eq!(w.record("o").lines.len(), MAX_LINES + 1);
    assert_eq!(w.hear_fact("o", foreign(500)), Came::Committed);
    assert_eq!(w.hear_fact("o", foreign(500)), Came::Unchanged);
    assert_eq!(
        (w.record("o").lines.len(), conflicts(&w)),
        (MAX_LINES + 1, vec![NotOrdered, ConflictKind::TooMany])
    );
}

/// An order that can never be held is told, with what came before it and after it.
#[test]
fn an_order_of_too_many_lines_is_rejected_aloud() {
    permutations(&[too_many(), Heard::Paid, Heard::Cancelled, all()], &mut |facts| {
        let mut w = world();
        for fact in facts {
            w.hear_fact("o", fact.clone());
            w.hear_fact("o", fact.clone());
        }
        let record = w.record("o");
        assert_eq!((record.state, record.lines.len()), (State::Rejected, 0), "{facts:?}");
        assert_eq!(record.reason, Some(Reason::too_many_lines()));
        assert_eq!(conflicts(&w), [UnknownLines], "what has left of it is not known");
        let failures = w.published.iter().filter_map(|event| match event.kind {
            EventKind::StockReservationFailed { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(failures.collect::<Vec<_>>(), [ReservationFailure::TooManyLines]);
        assert_eq!(w.times_published("InventoryConfirmationRefused"), 1, "{facts:?}");
    });
    let mut w = world();
    w.hear_fact("o", too_many());
    assert_eq!(w.hear_fact("o", creation(TWO)), Came::Committed);
    assert_eq!((w.state("o"), conflicts(&w)), (State::Rejected, vec![OtherLines]));
    // Two others that are too long are two contradictions, though neither is kept with its lines.
    for (products, known) in [(MAX_LINES + 2, 2), (MAX_LINES + 3, 3), (MAX_LINES + 2, 3)] {
        w.hear_fact("o", order_of_products(products));
        assert_eq!(conflicts(&w).len(), known);
    }
    assert_eq!(w.reserve("o", TWO), Came::Refused(super::super::Refusal::Rejected));
    w.hear_fact("o", total(&[("A", 2)]));
    assert_eq!((w.state("o"), w.units("A")), (State::Fulfilled, [8, 0, 2]));
}

#[test]
fn a_payment_in_vain_is_told_once_whatever_came_between() {
    let mut w = world();
    w.hear_fact("o", creation(&[("A", 99)]));
    w.hear_fact("o", Heard::Paid);
    assert_eq!(w.times_published("InventoryConfirmationRefused"), 1);
    w.hear_fact("o", total(&[("A", 2)]));
    w.hear_fact("o", Heard::Cancelled);
    assert_eq!((w.state("o"), w.times_published("InventoryConfirmationRefused")), (State::Fulfilled, 1));
}

/// A shipment of an order that holds nothing leaves it as it is, unless nothing is left of it.
#[test]
fn a_shipment_of_what_is_not_held() {
    let mut w = world();
    w.hear_fact("o", creation(TWO));
    w.hear_fact("o", Heard::Cancelled);
    w.hear_fact("o", shipment("s-1", &[("A", 1)]));
    assert_eq!((w.state("o"), w.units("A")), (State::Released, [9, 0, 1]));
    w.hear_fact("o", shipment("s-2", &[("A", 2), ("B", 1)]));
    assert_eq!((w.state("o"), w.units("A")), (State::Fulfilled, [7, 0, 3]));

    let mut w = world();
    w.hear_fact("o", shipment("s-1", &[("A", 1)]));
    assert_eq!((w.state("o"), w.units("A")), (State::Pending, [9, 0, 1]));
    assert_eq!(w.apply("o", Action::Confirm), Came::Refused(super::super::Refusal::NotFound));
    assert_eq!(w.reserve("o", TWO), Came::Committed);
    assert_eq!((w.state("o"), w.units("A")), (State::Reserved, [7, 2, 1]));
    assert_eq!(w.reserve("o", TWO), Came::Unchanged);
}

/// A request for an order of which more has left than is there is short, and leaves no trace; an event is recorded.
#[test]
fn a_request_for_what_has_left_and_is_not_there() {
    let mut w = World::with_stock(&[("A@east", 1), ("A", 5), ("B", 5)]);
    w.hear_fact("o", shipment("s-1", &[("A", 2)]));
    assert_eq!(w.reserve("o", &[("A@east", 2)]), Came::Short);
    assert_eq!(w.reserve("o", &[("A@east", 2), ("B", 1)]), Came::Short);
    assert_eq!((w.state("o"), w.units("A"), w.units("A@east")), (State::Pending, [3, 0, 2], [1, 0, 0]));
    assert_eq!(w.hear_fact("o", creation(&[("A@east", 2), ("B", 1)])), Came::Committed);
    assert_eq!((w.state("o"), w.units("A@east"), w.units("B")), (State::Reserved, [0, 0, 1], [4, 1, 0]));
    assert_eq!(w.record("o").lines[0].missing, 1);
}

/// However an order lost its hold: what was delivered is taken from what is available, and nothing else.
#[test]
fn a_delivery_of_what_was_given_back() {
    type Loss = (&'static str, fn(&mut World));
    let lost: [Loss; 3] = [
        ("expired", |w| {
            w.now = 905_000;
            w.apply("o", Action::Expire);
        }),
        ("released", |w| {
            w.release("o", "requested");
        }),
        ("payment failed", |w| {
            w.hear_fact("o", Heard::PaymentFailed);
        }),
    ];
    for (how, lose) in lost {
        let mut w = world();
        w.reserve("o", TWO);
        lose(&mut w);
        assert_eq!(w.units("A"), [10, 0, 0], "{how}");
        assert_eq!(w.hear_fact("o", total(&[("A", 2)])), Came::Committed, "{how}");
        assert_eq!(
            (w.state("o"), w.units("A"), w.units("B")),
            (State::Fulfilled, [8, 0, 2], [10, 0, 0]),
            "{how}"
        );
        assert_eq!(w.hear_fact("o", Heard::Paid), Came::Committed, "{how}");
        assert_eq!((w.state("o"), w.units("A")), (State::Fulfilled, [8, 0, 2]), "{how}");
    }
}

/// What is short is counted once, also where the hold is short, too.
#[test]
fn a_delivery_and_a_hold_that_are_short() {
    let mut w = World::with_stock(&[("A@east", 2), ("A", 5), ("B", 5)]);
    w.hear_fact("o", shipment("s-1", &[("A", 3)]));
    w.hear_fact("o", creation(&[("A@east", 4), ("B", 1)]));
    assert_eq!((w.units("A"), w.units("A@east")), ([5, 0, 0], [0, 0, 2]));
    assert_eq!((w.state("o"), w.units("B")), (State::Rejected, [5, 0, 0]));
    assert_eq!(w.record("o").lines[0].missing, 1);
    let asked: Vec<u64> = w.record("o").shortages.iter().map(|shortage| shortage.requested).collect();
    assert_eq!(asked, [4], "three that have left, and one to be held");
}
