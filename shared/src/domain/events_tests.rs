//! What is said of every kind of change.

use super::name::*;
use super::*;
use crate::domain::decide::tests::{command, planned};
use crate::domain::{
    Action, DeliveredLines, Delivery, Heard, LineKey, Location, OrderId, OrderLines, Ordered, ProductId,
    Quantity, Seen, Shipment, Target, decide,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn lines(of: &[(&str, u64)]) -> OrderLines {
    let line = |(product, quantity): &(&str, u64)| {
        let key = LineKey { product: ProductId::parse(*product).unwrap(), location: Location::default() };
        (key, Quantity::new(*quantity).unwrap())
    };
    OrderLines::sum(of.iter().map(line)).unwrap()
}

/// One order of three A and one B, held for a minute, and what was said of its last change.
struct Order {
    now: i64,
    record: Option<Reservation>,
    before: Option<Reservation>,
    said: Vec<Event>,
}

impl Order {
    fn new() -> Self {
        Self { now: 1_000, record: None, before: None, said: Vec::new() }
    }

    fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        let mut order = Self::new();
        actions.into_iter().for_each(|action| drop(order.does(action)));
        order
    }

    /// Does it a second later. Answers with the names of the events.
    fn does(&mut self, step: impl Into<Step>) -> Vec<&'static str> {
        let Step { action, lack } = step.into();
        let order = Target::Order(OrderId::parse("o").unwrap());
        self.now += 1;
        let mut seen = Seen::record_alone(self.record.clone());
        if let Some(lack) = lack {
            let unit = lines(&[("A", 1)]).iter().map(|(key, _)| key.unit(0)).next().unwrap();
            let there = StockUnit::empty(unit.clone(), at(0));
            let there = match lack {
                Lack::Unknown => None,
                Lack::Short { available } => Some(StockUnit { available, ..there }),
                Lack::OverLimit { max_per_order } => {
                    Some(StockUnit { available: 9, max_per_order: Some(max_per_order), ..there })
                }
            };
            seen.learn_refusal(unit, there);
        }
        let plan = planned(decide(&seen, &command(&order, action), at(self.now)));
        let next = plan.next().unwrap();
        self.said = of_reservation(self.record.as_ref(), next);
        self.before = self.record.replace(next.clone());
        self.said.iter().map(|event| event.name).collect()
    }

    fn about(&self, name: &str) -> &Value {
        &self.said.iter().find(|event| event.name == name).unwrap().detail
    }

    fn paid_but_short(&self) -> bool {
        paid_but_short(self.before.as_ref(), self.record.as_ref().unwrap())
    }

    /// What is said again of it as it is.
    fn again(&self) -> Vec<&'static str> {
        let said = state_of_reservation(self.record.as_ref().unwrap());
        assert!(
            said.iter()
                .all(|event| event.id.ends_with(":republished") && event.detail["eventId"] == event.id)
        );
        said.iter().map(|event| event.name).collect()
    }
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

/// What is done, and what the stock of A lacks for it.
struct Step {
    action: Action,
    lack: Option<Lack>,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { action, lack: None }
    }
}

fn short(lack: Lack) -> Option<Lack> {
    Some(lack)
}

fn hear(fact: Fact, lack: Option<Lack>) -> Step {
    Step { lack, action: heard(fact) }
}

fn heard(fact: Fact) -> Action {
    let delivered = || {
        let line = |(product, quantity): &(&str, u64)| {
            (ProductId::parse(*product).unwrap(), None, Quantity::new(*quantity).unwrap())
        };
        DeliveredLines::sum(TWO.iter().map(line)).unwrap()
    };
    let heard = match fact {
        Fact::Created => Heard::Created(Ordered::Lines(lines(TWO))),
        Fact::PaymentFailed => Heard::PaymentFailed,
        Fact::Paid => Heard::Paid,
        Fact::Cancelled => Heard::Cancelled,
        Fact::Delivered => Heard::Delivered(Delivery::Total(delivered())),
    };
    Action::Hear { heard, expires_at: Some(at(1_060)) }
}

/// A hold that is over, and was given back.
fn expired() -> Order {
    let mut order = Order::of([reserve()]);
    order.now = 1_065;
    assert_eq!(order.does(Action::Expire), [RESERVATION_EXPIRED]);
    order
}

fn item(product: &str, quantity: u64) -> Value {
    json!({"productId": product, "location": "main", "quantity": quantity})
}

#[test]
fn an_event_says_what_happened() {
    let order = Order::of([reserve()]);
    let id = order.record.as_ref().unwrap().id;
    let [event] = order.said.as_slice() else { panic!("{:?}", order.said) };
    assert_eq!(
        (event.id.as_str(), event.name),
        (format!("RES#{id}:1001000:1:InventoryReserved").as_str(), INVENTORY_RESERVED)
    );
    let detail = json!({
        "eventId": event.id, "eventType": "InventoryReserved", "timestamp": "1970-01-01T00:16:41.000Z",
        "correlationId": "c", "orderId": "o", "reservationId": id.to_string(), "version": 1,
        "items": [item("A", 3), item("B", 1)], "expiresAt": "1970-01-01T00:17:40.000Z",
    });
    assert_eq!(event.detail, detail);
}

#[test]
fn held_confirmed_and_shipped_in_parts() {
    let mut order = Order::of([reserve()]);
    assert_eq!((order.said[0].name, order.again()), (INVENTORY_RESERVED, vec![INVENTORY_RESERVED]));
    assert_eq!(order.does(Action::Extend { expires_at: at(2_000) }), [""; 0]);
    assert_eq!(order.does(Action::Confirm), [INVENTORY_CONFIRMED]);
    assert_eq!(order.about(INVENTORY_CONFIRMED)["items"], json!([item("A", 3), item("B", 1)]));
    assert_eq!((order.paid_but_short(), order.again()), (false, vec![INVENTORY_CONFIRMED]));
    assert_eq!(order.does(deduct(Some(&[("A", 1)]))), [INVENTORY_DEDUCTED]);
    let part = order.about(INVENTORY_DEDUCTED);
    assert_eq!((&part["items"], &part["complete"]), (&json!([item("A", 1)]), &json!(false)));
    assert_eq!(order.does(deduct(None)), [INVENTORY_DEDUCTED]);
    let rest = order.about(INVENTORY_DEDUCTED);
    assert_eq!((&rest["items"], &rest["complete"]), (&json!([item("A", 2), item("B", 1)]), &json!(true)));
    assert_eq!(order.again(), [INVENTORY_DEDUCTED]);
}

/// After its record was purged an order may be reserved anew, and its versions begin again.
#[test]
fn an_id_is_of_one_life_of_the_record() {
    let (first, mut second) = (Order::of([reserve()]), Order::new());
    second.now = 8_000_000;
    second.does(reserve());
    assert_ne!(first.said[0].id, second.said[0].id);
}

#[test]
fn what_is_given_back_is_said_once() {
    let mut order = Order::of([reserve()]);
    assert_eq!(order.does(release("payment_failed")), [INVENTORY_RELEASED]);
    let released = order.about(INVENTORY_RELEASED);
    assert_eq!(
        (&released["items"], &released["reason"]),
        (&json!([item("A", 3), item("B", 1)]), &json!("payment_failed"))
    );
    assert_eq!((order.paid_but_short(), order.again()), (false, vec![INVENTORY_RELEASED]));
    assert_eq!(order.does(release("order_cancelled")), [""; 0]);
    // Paid after it was cancelled: a refund is due, and nobody is short.
    assert_eq!(order.does(heard(Fact::Paid)), [INVENTORY_CONFIRMATION_REFUSED]);
    assert_eq!(order.about(INVENTORY_CONFIRMATION_REFUSED)["reason"], "cancelled");
    assert!(!order.paid_but_short());
    assert_eq!(order.again(), [INVENTORY_RELEASED, INVENTORY_CONFIRMATION_REFUSED]);
    let mut kept = Order::of([reserve(), Action::Confirm]);
    assert_eq!(kept.does(heard(Fact::Cancelled)), [INVENTORY_RELEASED, INVENTORY_CONFIRMATION_REFUSED]);
    assert!(!kept.paid_but_short());
}

#[test]
fn paid_when_its_time_was_up() {
    let mut order = expired();
    assert_eq!((order.paid_but_short(), order.again()), (false, vec![RESERVATION_EXPIRED]));
    assert_eq!(order.does(heard(Fact::Paid)), [INVENTORY_RESERVED, INVENTORY_CONFIRMED]);
    assert!(!order.paid_but_short());
    let mut order = expired();
    assert_eq!(order.does(hear(Fact::Paid, short(Lack::Short { available: 1 }))), [STOCK_RESERVATION_FAILED]);
    let failed = order.about(STOCK_RESERVATION_FAILED);
    assert_eq!((&failed["reason"], &failed["paid"]), (&json!("expired"), &json!(true)));
    let missing =
        json!({"productId": "A", "location": "main", "requestedQuantity": 3, "availableQuantity": 1});
    assert_eq!(failed["failedItems"], json!([missing]));
    assert!(order.paid_but_short());
    assert_eq!(order.again(), [RESERVATION_EXPIRED, STOCK_RESERVATION_FAILED]);
    // What was given back because the payment had failed did not expire.
    let mut order = Order::of([reserve(), heard(Fact::PaymentFailed)]);
    assert_eq!(order.does(hear(Fact::Paid, short(Lack::Short { available: 1 }))), [STOCK_RESERVATION_FAILED]);
    assert_eq!(order.about(STOCK_RESERVATION_FAILED)["reason"], "payment_failed");
    assert_eq!(order.again(), [INVENTORY_RELEASED, STOCK_RESERVATION_FAILED]);
    let mut order = expired();
    order.does(hear(Fact::Paid, short(Lack::Short { available: 1 })));
    // Told once only: what comes later changes nothing of it.
    assert_eq!(order.does(heard(Fact::PaymentFailed)), [""; 0]);
    assert!(!order.paid_but_short());
}

#[test]
fn an_order_that_could_not_be_held() {
    for (lack, reason) in [
        (Lack::Short { available: 1 }, "insufficient_stock"),
        (Lack::Unknown, "unknown_product"),
        (Lack::OverLimit { max_per_order: 2 }, "purchase_limit_exceeded"),
    ] {
        let mut order = Order::new();
        assert_eq!(order.does(hear(Fact::Created, short(lack))), [STOCK_RESERVATION_FAILED]);
        let failed = order.about(STOCK_RESERVATION_FAILED);
        assert_eq!((&failed["reason"], &failed["paid"]), (&json!(reason), &json!(false)));
        assert_eq!((order.paid_but_short(), order.again()), (false, vec![STOCK_RESERVATION_FAILED]));
        assert_eq!(order.does(heard(Fact::Paid)), [INVENTORY_CONFIRMATION_REFUSED]);
        assert_eq!(order.about(INVENTORY_CONFIRMATION_REFUSED)["reason"], "rejected");
        assert!(order.paid_but_short());
        assert_eq!(order.does(heard(Fact::PaymentFailed)), [""; 0]);
        assert!(!order.paid_but_short());
    }
}

#[test]
fn facts_before_the_order() {
    let mut order = Order::new();
    assert_eq!(order.does(heard(Fact::Paid)), [""; 0]);
    assert_eq!((order.paid_but_short(), order.again()), (false, Vec::new()));
    assert_eq!(order.does(heard(Fact::Created)), [INVENTORY_RESERVED, INVENTORY_CONFIRMED]);
    let mut order = Order::of([heard(Fact::Paid)]);
    let said = order.does(hear(Fact::Created, short(Lack::Unknown)));
    assert_eq!(said, [STOCK_RESERVATION_FAILED, INVENTORY_CONFIRMATION_REFUSED]);
    assert_eq!(order.about(STOCK_RESERVATION_FAILED)["paid"], true);
    assert!(order.paid_but_short());
    let mut order = Order::of([heard(Fact::PaymentFailed)]);
    assert_eq!(order.does(heard(Fact::Paid)), [""; 0]);
    let mut order = Order::of([heard(Fact::Cancelled)]);
    assert_eq!(order.does(heard(Fact::Paid)), [INVENTORY_CONFIRMATION_REFUSED]);
    assert_eq!(order.does(heard(Fact::Created)), [""; 0]);
    assert_eq!((order.paid_but_short(), order.again()), (false, vec![INVENTORY_CONFIRMATION_REFUSED]));
}

#[test]
fn goods_that_left_though_nothing_was_held() {
    let mut order = Order::new();
    assert_eq!(order.does(heard(Fact::Delivered)), [INVENTORY_DEDUCTED]);
    assert_eq!(order.about(INVENTORY_DEDUCTED)["complete"], true);
    assert_eq!(order.does(heard(Fact::Paid)), [""; 0]);
    let mut order = Order::new();
    assert_eq!(
        order.does(hear(Fact::Delivered, short(Lack::Short { available: 1 }))),
        [INVENTORY_DEDUCTED, PARTIAL_DEDUCTION]
    );
    let partial = order.about(PARTIAL_DEDUCTION);
    assert_eq!(partial["items"], json!([item("A", 1), item("B", 1)]));
    assert_eq!(partial["failedItems"], json!([item("A", 2)]));
    assert_eq!(order.again(), [INVENTORY_DEDUCTED, PARTIAL_DEDUCTION]);
    // The part that is missing is told with the delivery, not again with what comes after it.
    assert_eq!(order.does(heard(Fact::Cancelled)), [""; 0]);
}

fn unit([available, reserved, sold]: [u64; 3], version: u64) -> StockUnit {
    StockUnit {
        key: UnitKey { product: ProductId::parse("A").unwrap(), location: Location::default(), bucket: 0 },
        available,
        reserved,
        sold,
        version,
        physical: 0,
        low_stock_threshold: None,
        max_per_order: None,
        name: None,
        created_at: None,
        updated_at: at(1_000),
        cause: Cause {
            operation: "add".to_owned(),
            reference: "k".to_owned(),
            correlation_id: "c".to_owned(),
        },
    }
}

#[test]
fn what_is_said_of_stock() {
    let names = |old: Option<[u64; 3]>, new: [u64; 3]| -> Vec<&'static str> {
        let said = of_stock(old.map(|old| unit(old, 1)).as_ref(), &unit(new, 2), 5);
        said.iter().map(|event| event.name).collect()
    };
    assert_eq!(names(None, [10, 0, 0]), [INVENTORY_UPDATED, INVENTORY_REPLENISHED]);
    assert_eq!(names(None, [0, 0, 0]), [INVENTORY_UPDATED], "a new one crosses nothing");
    assert_eq!(names(Some([10, 0, 0]), [6, 4, 0]), [INVENTORY_UPDATED]);
    assert_eq!(names(Some([6, 4, 0]), [0, 10, 0]), [INVENTORY_UPDATED], "levels are told of alerts");
    assert_eq!(names(Some([0, 9, 1]), [3, 9, 1]), [INVENTORY_UPDATED, INVENTORY_REPLENISHED]);
    assert_eq!(names(Some([0, 9, 1]), [9, 0, 1]), [INVENTORY_UPDATED]);
    assert_eq!(names(Some([9, 0, 1]), [8, 0, 1]), [INVENTORY_UPDATED], "less is no replenishment");
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
    let name = |before: Option<Level>, level: Level| of_level(&alert(before, level)).map(|event| event.name);
    let (enough, low, out) = (Some(Level::Enough), Some(Level::Low), Some(Level::Out));
    assert_eq!(Level::ALL.map(|level| name(None, level)), [None; 3], "what begins so has crossed nothing");
    assert_eq!(Level::ALL.map(|level| name(enough, level)), [None, Some(LOW_STOCK), Some(OUT_OF_STOCK)]);
    assert_eq!(Level::ALL.map(|level| name(low, level)), [None, None, Some(OUT_OF_STOCK)]);
    assert_eq!(Level::ALL.map(|level| name(out, level)), [Some(BACK_IN_STOCK), Some(BACK_IN_STOCK), None]);
    let event = of_level(&alert(enough, Level::Low)).unwrap();
    let detail = json!({
        "eventId": "LEVEL#A#main:900000:3:LowStock", "eventType": "LowStock",
        "timestamp": "1970-01-01T00:16:40.000Z", "correlationId": "c", "productId": "A", "location": "main",
        "version": 3, "stockVersion": 8, "operation": "add", "reference": "k", "availableQuantity": 4,
        "reservedQuantity": 6, "totalQuantity": 10, "soldQuantity": 1, "lowStockThreshold": 5,
    });
    assert_eq!((event.id.as_str(), event.detail), ("LEVEL#A#main:900000:3:LowStock", detail));
    let again = state_of_level(&alert(enough, Level::Low)).unwrap();
    assert_eq!(again.id, "LEVEL#A#main:900000:3:LowStock:republished");
}

#[test]
fn a_movement_is_the_difference() {
    let (old, new) = (unit([6, 4, 0], 3), unit([7, 2, 1], 4));
    let moved = movement(Some(&old), &new);
    assert_eq!(moved.delta, Delta { available: 1, reserved: -2, sold: 1 });
    assert_eq!((moved.version, moved.after, moved.at), (4, [7, 2, 1], at(1_000)));
    let detail = json!({
        "eventId": "STOCK#A#0#main:4:InventoryUpdated", "eventType": "InventoryUpdated",
        "timestamp": "1970-01-01T00:16:40.000Z", "correlationId": "c", "productId": "A", "location": "main",
        "version": 4, "operation": "add", "reference": "k", "availableQuantity": 7, "reservedQuantity": 2,
        "totalQuantity": 9, "soldQuantity": 1, "lowStockThreshold": 5,
        "change": {"available": 1, "reserved": -2, "sold": 1},
    });
    let [event] = of_stock(Some(&old), &new, 5).try_into().unwrap_or_else(|said| panic!("{said:?}"));
    assert_eq!((event.id.as_str(), event.detail), ("STOCK#A#0#main:4:InventoryUpdated", detail));
    let again = state_of_stock(&new, 5);
    assert_eq!(
        again.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(),
        ["STOCK#A#0#main:4:InventoryUpdated:republished"]
    );
}
