//! The events of every kind of change. `publishing::json` tests how they look on the bus.

use super::*;
use crate::domain::decide::tests::{command, expect_plan};
use crate::domain::fixtures::{self, items, lacking, lines, unit_key};
use crate::domain::{
    Action, Alert, Cause, Delta, Fact, Lack, Level, OrderId, Reason, Reservation, Seen, Shipment, Shortage,
    StockUnit, Target, decide,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// One order of three A and one B, held for a minute, and the events of its last change.
struct Order {
    now: i64,
    record: Option<Reservation>,
    before: Option<Reservation>,
    published: Vec<Event>,
}

impl Order {
    fn new() -> Self {
        Self { now: 1_000, record: None, before: None, published: Vec::new() }
    }

    fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        let mut order = Self::new();
        actions.into_iter().for_each(|action| drop(order.apply(action)));
        order
    }

    /// Does it a second later. Returns the names of the events.
    fn apply(&mut self, step: impl Into<Step>) -> Vec<&'static str> {
        let Step { action, short } = step.into();
        let order = Target::Order(OrderId::parse("o").unwrap());
        self.now += 1;
        let mut seen = Seen::record_alone(self.record.clone());
        for shortage in short {
            seen.learn_refusal(shortage.unit.clone(), lacking(&shortage));
        }
        let plan = expect_plan(decide(&seen, &command(&order, action), at(self.now)));
        let next = plan.next_record().unwrap();
        self.published = events_of_reservation(self.record.as_ref(), next);
        self.before = self.record.replace(next.clone());
        names(&self.published)
    }

    /// The published event of this name.
    fn published(&self, name: &str) -> &EventKind {
        &self.published.iter().find(|event| event.kind.name() == name).unwrap().kind
    }

    fn is_paid_but_short(&self) -> bool {
        is_paid_but_short(self.before.as_ref(), self.record.as_ref().unwrap())
    }

    /// The names of the repeated events of the record as it is.
    fn republished(&self) -> Vec<&'static str> {
        let events = state_events_of_reservation(self.record.as_ref().unwrap());
        assert!(events.iter().all(|event| event.id().ends_with(":republished")));
        names(&events)
    }
}

fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.name()).collect()
}

const TWO: &[(&str, u64)] = &[("A", 3), ("B", 1)];

fn reserve() -> Action {
    Action::Reserve { lines: lines(TWO), expires_at: Some(at(1_060)) }
}

fn release(reason: &str) -> Action {
    Action::Release { reason: Reason::parse(reason).unwrap() }
}

fn deduct(part: Option<&[(&str, u64)]>) -> Action {
    Action::Deduct { part: part.map(|of| Shipment { id: None, lines: lines(of) }) }
}

/// An action, and the shortages that were seen for it.
struct Step {
    action: Action,
    short: Vec<Shortage>,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { action, short: Vec::new() }
    }
}

fn short(lack: Lack) -> Vec<Shortage> {
    vec![Shortage { unit: unit_key("A"), requested: 3, lack }]
}

fn hear(fact: Fact, short: Vec<Shortage>) -> Step {
    Step { action: fact_with(fact), short }
}

fn fact_with(fact: Fact) -> Action {
    Action::Hear { heard: fixtures::fact_with(fact, TWO), expires_at: Some(at(1_060)) }
}

/// A hold that is over, and was given back.
fn expired() -> Order {
    let mut order = Order::of([reserve()]);
    order.now = 1_065;
    assert_eq!(order.apply(Action::Expire), ["ReservationExpired"]);
    order
}

fn failure(reason: ReservationFailure, shortages: Vec<Shortage>, is_paid: bool) -> EventKind {
    EventKind::StockReservationFailed { items: items(TWO), reason, shortages, is_paid }
}

fn refusal(reason: ConfirmationRefusal) -> EventKind {
    EventKind::InventoryConfirmationRefused { items: items(TWO), reason }
}

fn deduction(of: &[(&str, u64)], is_complete: bool) -> EventKind {
    EventKind::InventoryDeducted { items: items(of), is_complete, corrected_items: Vec::new() }
}

#[test]
fn an_event_says_what_happened() {
    let order = Order::of([reserve()]);
    let id = order.record.as_ref().unwrap().id;
    let expected = Event {
        subject: Subject::Reservation { id, order_id: OrderId::parse("o").unwrap(), created_at: at(1_001) },
        version: 1,
        at: at(1_001),
        correlation_id: "c".to_owned(),
        is_republished: false,
        kind: EventKind::InventoryReserved { items: items(TWO), expires_at: Some(at(1_060)) },
    };
    assert_eq!(expected.id(), format!("RES#{id}:1001000:1:InventoryReserved"));
    assert_eq!(order.published, [expected]);
}

#[test]
fn held_confirmed_and_shipped_in_parts() {
    let mut order = Order::of([reserve()]);
    assert_eq!(
        (names(&order.published), order.republished()),
        (vec!["InventoryReserved"], vec!["InventoryReserved"])
    );
    assert_eq!(order.apply(Action::Extend { expires_at: at(2_000) }), [""; 0]);
    assert_eq!(order.apply(Action::Confirm), ["InventoryConfirmed"]);
    let confirmed = EventKind::InventoryConfirmed { items: items(TWO) };
    assert_eq!(order.published("InventoryConfirmed"), &confirmed);
    assert_eq!((order.is_paid_but_short(), order.republished()), (false, vec!["InventoryConfirmed"]));
    assert_eq!(order.apply(deduct(Some(&[("A", 1)]))), ["InventoryDeducted"]);
    assert_eq!(order.published("InventoryDeducted"), &deduction(&[("A", 1)], false));
    assert_eq!(order.apply(deduct(None)), ["InventoryDeducted"]);
    assert_eq!(order.published("InventoryDeducted"), &deduction(&[("A", 2), ("B", 1)], true));
    assert_eq!(order.republished(), ["InventoryDeducted"]);
}

/// After its record was purged an order may be reserved anew, and its versions begin again.
#[test]
fn an_id_is_of_one_life_of_the_record() {
    let (first, mut second) = (Order::of([reserve()]), Order::new());
    second.now = 8_000_000;
    second.apply(reserve());
    assert_ne!(first.published[0].id(), second.published[0].id());
}

#[test]
fn what_is_given_back_is_said_once() {
    let mut order = Order::of([reserve()]);
    assert_eq!(order.apply(release("payment_failed")), ["InventoryReleased"]);
    let reason = Some(Reason::payment_failed());
    let released = EventKind::InventoryReleased { items: items(TWO), reason };
    assert_eq!(order.published("InventoryReleased"), &released);
    assert_eq!((order.is_paid_but_short(), order.republished()), (false, vec!["InventoryReleased"]));
    assert_eq!(order.apply(release("order_cancelled")), [""; 0]);
    // Paid after it was cancelled: a refund is due, and nobody is short.
    assert_eq!(order.apply(fact_with(Fact::Paid)), ["InventoryConfirmationRefused"]);
    assert_eq!(order.published("InventoryConfirmationRefused"), &refusal(ConfirmationRefusal::Cancelled));
    assert!(!order.is_paid_but_short());
    assert_eq!(order.republished(), ["InventoryReleased", "InventoryConfirmationRefused"]);
    let mut kept = Order::of([reserve(), Action::Confirm]);
    assert_eq!(kept.apply(fact_with(Fact::Cancelled)), ["InventoryReleased", "InventoryConfirmationRefused"]);
    assert!(!kept.is_paid_but_short());
}

#[test]
fn paid_when_its_time_was_up() {
    let mut order = expired();
    assert_eq!((order.is_paid_but_short(), order.republished()), (false, vec!["ReservationExpired"]));
    assert_eq!(order.apply(fact_with(Fact::Paid)), ["InventoryReserved", "InventoryConfirmed"]);
    assert!(!order.is_paid_but_short());
    let mut order = expired();
    assert_eq!(
        order.apply(hear(Fact::Paid, short(Lack::Short { available: 1 }))),
        ["StockReservationFailed"]
    );
    let expected = failure(ReservationFailure::Expired, short(Lack::Short { available: 1 }), true);
    assert_eq!(order.published("StockReservationFailed"), &expected);
    assert!(order.is_paid_but_short());
    assert_eq!(order.republished(), ["ReservationExpired", "StockReservationFailed"]);
    // What was given back because the payment had failed did not expire.
    let mut order = Order::of([reserve(), fact_with(Fact::PaymentFailed)]);
    assert_eq!(
        order.apply(hear(Fact::Paid, short(Lack::Short { available: 1 }))),
        ["StockReservationFailed"]
    );
    let expected = failure(ReservationFailure::PaymentFailed, short(Lack::Short { available: 1 }), true);
    assert_eq!(order.published("StockReservationFailed"), &expected);
    assert_eq!(order.republished(), ["InventoryReleased", "StockReservationFailed"]);
    let mut order = expired();
    order.apply(hear(Fact::Paid, short(Lack::Short { available: 1 })));
    // Told once only: what comes later changes nothing of it.
    assert_eq!(order.apply(fact_with(Fact::PaymentFailed)), [""; 0]);
    assert!(!order.is_paid_but_short());
}

#[test]
fn an_order_that_could_not_be_held() {
    for (lack, reason) in [
        (Lack::Short { available: 1 }, ReservationFailure::InsufficientStock),
        (Lack::Unknown, ReservationFailure::UnknownProduct),
        (Lack::OverLimit { max_per_order: 2 }, ReservationFailure::PurchaseLimitExceeded),
    ] {
        let mut order = Order::new();
        assert_eq!(order.apply(hear(Fact::Created, short(lack))), ["StockReservationFailed"]);
        assert_eq!(order.published("StockReservationFailed"), &failure(reason, short(lack), false));
        assert_eq!((order.is_paid_but_short(), order.republished()), (false, vec!["StockReservationFailed"]));
        assert_eq!(order.apply(fact_with(Fact::Paid)), ["InventoryConfirmationRefused"]);
        assert_eq!(order.published("InventoryConfirmationRefused"), &refusal(ConfirmationRefusal::Rejected));
        assert!(order.is_paid_but_short());
        assert_eq!(order.apply(fact_with(Fact::PaymentFailed)), [""; 0]);
        assert!(!order.is_paid_but_short());
    }
}

#[test]
fn facts_before_the_order() {
    let mut order = Order::new();
    assert_eq!(order.apply(fact_with(Fact::Paid)), [""; 0]);
    assert_eq!((order.is_paid_but_short(), order.republished()), (false, Vec::new()));
    assert_eq!(order.apply(fact_with(Fact::Created)), ["InventoryReserved", "InventoryConfirmed"]);
    let mut order = Order::of([fact_with(Fact::Paid)]);
    let published = order.apply(hear(Fact::Created, short(Lack::Unknown)));
    assert_eq!(published, ["StockReservationFailed", "InventoryConfirmationRefused"]);
    let expected = failure(ReservationFailure::UnknownProduct, short(Lack::Unknown), true);
    assert_eq!(order.published("StockReservationFailed"), &expected);
    assert!(order.is_paid_but_short());
    let mut order = Order::of([fact_with(Fact::PaymentFailed)]);
    assert_eq!(order.apply(fact_with(Fact::Paid)), [""; 0]);
    let mut order = Order::of([fact_with(Fact::Cancelled)]);
    assert_eq!(order.apply(fact_with(Fact::Paid)), ["InventoryConfirmationRefused"]);
    assert_eq!(order.apply(fact_with(Fact::Created)), [""; 0]);
    assert_eq!(
        (order.is_paid_but_short(), order.republished()),
        (false, vec!["InventoryConfirmationRefused"])
    );
}

#[test]
fn goods_that_left_though_nothing_was_held() {
    let mut order = Order::new();
    assert_eq!(order.apply(fact_with(Fact::Delivered)), ["InventoryDeducted"]);
    assert_eq!(order.published("InventoryDeducted"), &deduction(TWO, true));
    assert_eq!(order.apply(fact_with(Fact::Paid)), [""; 0]);
    let mut order = Order::new();
    assert_eq!(
        order.apply(hear(Fact::Delivered, short(Lack::Short { available: 1 }))),
        ["InventoryDeducted", "PartialDeduction"]
    );
    let (items, missing_items) = (items(&[("A", 1), ("B", 1)]), items(&[("A", 2)]));
    assert_eq!(order.published("PartialDeduction"), &EventKind::PartialDeduction { items, missing_items });
    assert_eq!(order.republished(), ["InventoryDeducted", "PartialDeduction"]);
    // The part that is missing is told with the delivery, not again with what comes after it.
    assert_eq!(order.apply(fact_with(Fact::Cancelled)), [""; 0]);
}

fn unit([available, reserved, sold]: [u64; 3], version: u64) -> StockUnit {
    let (operation, reference, correlation_id) = ("add".to_owned(), "k".to_owned(), "c".to_owned());
    let cause = Cause { operation, reference, correlation_id };
    StockUnit { available, reserved, sold, version, cause, ..StockUnit::empty(unit_key("A"), at(1_000)) }
}

fn figures([available, reserved, sold]: [u64; 3]) -> Figures {
    let (operation, reference) = ("add".to_owned(), "k".to_owned());
    Figures { available, reserved, sold, threshold: 5, operation, reference }
}

#[test]
fn what_is_published_of_stock() {
    let published = |old: Option<[u64; 3]>, new: [u64; 3]| -> Vec<&'static str> {
        names(&events_of_stock(old.map(|old| unit(old, 1)).as_ref(), &unit(new, 2), 5))
    };
    assert_eq!(published(None, [10, 0, 0]), ["InventoryUpdated", "InventoryReplenished"]);
    assert_eq!(published(None, [0, 0, 0]), ["InventoryUpdated"], "a new one crosses nothing");
    assert_eq!(published(Some([10, 0, 0]), [6, 4, 0]), ["InventoryUpdated"]);
    assert_eq!(published(Some([6, 4, 0]), [0, 10, 0]), ["InventoryUpdated"], "levels are told of alerts");
    assert_eq!(published(Some([0, 9, 1]), [3, 9, 1]), ["InventoryUpdated", "InventoryReplenished"]);
    assert_eq!(published(Some([0, 9, 1]), [9, 0, 1]), ["InventoryUpdated"]);
    assert_eq!(published(Some([9, 0, 1]), [8, 0, 1]), ["InventoryUpdated"], "less is no replenishment");
    let own = StockUnit { low_stock_threshold: Some(2), ..unit([3, 0, 0], 1) };
    assert_eq!((own.level(5), unit([3, 0, 0], 1).level(5)), (Level::Enough, Level::Low));
    assert_eq!(unit([5, 0, 0], 1).level(5), Level::Low, "at the threshold it is low");
}

#[test]
fn each_crossing_has_its_event() {
    let alert = |before: Option<Level>, level: Level| {
        let stock = unit([4, 6, 1], 8);
        let (unit, cause) = (stock.key, stock.cause);
        let (created_at, since) = (at(900), at(1_000));
        let figures = [4, 6, 1];
        let (version, stock_version, threshold) = (3, 8, 5);
        Alert { unit, level, before, version, created_at, since, figures, threshold, stock_version, cause }
    };
    let name = |before: Option<Level>, level: Level| {
        event_of_level(&alert(before, level)).map(|event| event.kind.name())
    };
    let (enough, low, out) = (Some(Level::Enough), Some(Level::Low), Some(Level::Out));
    assert_eq!(Level::ALL.map(|level| name(None, level)), [None; 3], "what begins so has crossed nothing");
    assert_eq!(Level::ALL.map(|level| name(enough, level)), [None, Some("LowStock"), Some("OutOfStock")]);
    assert_eq!(Level::ALL.map(|level| name(low, level)), [None, None, Some("OutOfStock")]);
    assert_eq!(Level::ALL.map(|level| name(out, level)), [Some("BackInStock"), Some("BackInStock"), None]);
    let event = event_of_level(&alert(enough, Level::Low)).unwrap();
    let expected = Event {
        subject: Subject::Level { unit: unit([0; 3], 0).key, created_at: at(900) },
        version: 3,
        at: at(1_000),
        correlation_id: "c".to_owned(),
        is_republished: false,
        kind: EventKind::LowStock { figures: figures([4, 6, 1]), stock_version: 8 },
    };
    assert_eq!((event.id().as_str(), &event), ("LEVEL#A#main:900000:3:LowStock", &expected));
    let again = state_event_of_level(&alert(enough, Level::Low)).unwrap();
    assert_eq!(again.id(), "LEVEL#A#main:900000:3:LowStock:republished");
}

#[test]
fn a_movement_is_the_difference() {
    let (old, new) = (unit([6, 4, 0], 3), unit([7, 2, 1], 4));
    let moved = movement(Some(&old), &new);
    let change = Delta { available: 1, reserved: -2, sold: 1 };
    assert_eq!(moved.delta, change);
    assert_eq!((moved.version, moved.after, moved.at), (4, [7, 2, 1], at(1_000)));
    let [event] =
        events_of_stock(Some(&old), &new, 5).try_into().unwrap_or_else(|events| panic!("{events:?}"));
    let expected = Event {
        subject: Subject::Stock(new.key.clone()),
        version: 4,
        at: at(1_000),
        correlation_id: "c".to_owned(),
        is_republished: false,
        kind: EventKind::InventoryUpdated { figures: figures([7, 2, 1]), change },
    };
    assert_eq!((event.id().as_str(), &event), ("STOCK#A#0#main:4:InventoryUpdated", &expected));
    let again = state_events_of_stock(&new, 5);
    assert_eq!(
        again.iter().map(Event::id).collect::<Vec<_>>(),
        ["STOCK#A#0#main:4:InventoryUpdated:republished"]
    );
}
