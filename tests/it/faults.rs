//! Faults between a function and DynamoDB, for the writes of the core: scenarios 1 to 4, 6, 7, 9, 10 and 45.

use std::time::Duration;

use shared::domain::{
    Action, Command, IdempotencyKey, LineKey, Location, OrderId, OrderLines, ProductId, Quantity, Reason,
    ReservationId, State, Timestamp,
};
use shared::store::{
    Invocation, Outcome, RetryPolicy, StockChange, StockOutcome, StockWrite, Store, StoreError, StoreSettings,
};

use crate::support::faults::{Fault, Wire};
use crate::support::tables::at;
use crate::support::{Tables, conserved, product};

struct Faulty {
    tables: Tables,
    wire: Wire,
    store: Store,
}

async fn faulty() -> Faulty {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let wire = Wire::to(&tables.url).await;
    let settings = StoreSettings {
        inventory_table: "holdfast-inventory".to_owned(),
        ledger_table: "holdfast-ledger".to_owned(),
        retention: Duration::from_secs(86_400),
        retry: RetryPolicy { max_attempts: 30, backoff: Duration::from_millis(25) },
    };
    let store = Store::connect(shared::aws::config_for(&wire.url, "store"), settings).await;
    Faulty { tables, wire, store }
}

fn reserve(order: &str, quantity: u64) -> Command {
    let order_id = OrderId::parse(order).unwrap();
    let key = LineKey { product: ProductId::parse("A").unwrap(), location: Location::default() };
    let lines = OrderLines::sum([(key, Quantity::new(quantity).unwrap())]).unwrap();
    let expires_at = Some(Timestamp::from_millisecond(900_000).unwrap());
    command(&order_id, Action::Reserve { lines, expires_at })
}

fn command(order_id: &OrderId, action: Action) -> Command {
    let id = ReservationId::of(order_id);
    Command { id, order_id: Some(order_id.clone()), correlation_id: "c".into(), action }
}

fn within(time: Duration) -> Invocation {
    Invocation { deadline: tokio::time::Instant::now() + time, ..at(0) }
}

impl Faulty {
    async fn does(&self, command: Command) -> Result<Outcome, StoreError> {
        self.store.apply(command, &at(0)).await
    }

    async fn holds(&self, figures: [u64; 3]) {
        assert_eq!(self.wire.left(), 0, "a fault that did not happen does not count");
        assert_eq!(self.tables.stock("A").await, figures);
        conserved(&self.tables.dynamodb, &[("A", 10)]).await;
    }
}

fn first(outcome: Result<Outcome, StoreError>) -> State {
    match outcome {
        Ok(Outcome::Done { reservation, first: true }) => reservation.state,
        other => panic!("not the first success: {other:?}"),
    }
}

/// Scenarios 1, 2, 7, 9 and 10: whatever goes wrong, one hold, and the caller gets the first success.
#[tokio::test(flavor = "multi_thread")]
async fn scenarios_1_2_7_9_10_a_reserve_that_is_disturbed() {
    for faults in [
        vec![Fault::Drop],
        vec![Fault::Lose],
        vec![Fault::Error500],
        vec![Fault::Conflict; 5],
        vec![Fault::Throttle; 5],
        vec![Fault::Conflict, Fault::Lose, Fault::Throttle],
    ] {
        let faulty = faulty().await;
        faulty.wire.put_in(faults.clone());
        assert_eq!(first(faulty.does(reserve("o", 4)).await), State::Reserved, "{faults:?}");
        faulty.holds([6, 4, 0]).await;
    }
}

/// The same for what comes after the hold.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_operation_is_applied_once() {
    for fault in [Fault::Drop, Fault::Lose, Fault::Error500, Fault::Conflict] {
        let faulty = faulty().await;
        let order = OrderId::parse("o").unwrap();
        let part = OrderLines::sum([(
            LineKey { product: ProductId::parse("A").unwrap(), location: Location::default() },
            Quantity::ONE,
        )]);
        let shipment = shared::domain::Shipment { id: None, lines: part.unwrap() };
        first(faulty.does(reserve("o", 4)).await);
        for (action, figures) in [
            (Action::Extend { expires_at: Timestamp::from_millisecond(1_000_000).unwrap() }, [6, 4, 0]),
            (Action::Confirm, [6, 4, 0]),
            (Action::Deduct { part: Some(shipment) }, [6, 3, 1]),
            (Action::Release { reason: Reason::requested() }, [9, 0, 1]),
        ] {
            faulty.wire.put_in([fault.clone()]);
            let outcome = faulty.does(command(&order, action.clone())).await;
            assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{fault:?} {action:?} {outcome:?}");
            faulty.holds(figures).await;
        }
    }
}

/// Scenario 3: the tries run out. What is there decides; if nothing is, the outcome is not known.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_3_lost_until_the_tries_run_out() {
    let faulty = faulty().await;
    faulty.wire.put_in([Fault::Lose]);
    // Time for one try: the record that it wrote is found by reading.
    let outcome = faulty.store.apply(reserve("o", 4), &within(Duration::from_secs(1))).await;
    assert_eq!(first(outcome), State::Reserved);
    faulty.holds([6, 4, 0]).await;
    faulty.wire.put_in([Fault::Drop]);
    let outcome = faulty.store.apply(reserve("p", 4), &within(Duration::from_secs(1))).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    faulty.holds([6, 4, 0]).await;
}

/// After a try without answer, being short is no refusal: that try may still land.
#[tokio::test(flavor = "multi_thread")]
async fn short_after_a_try_without_answer_is_not_known() {
    let faulty = faulty().await;
    faulty.wire.put_in([Fault::Late(Duration::from_millis(1_500))]);
    first(faulty.tables.store.apply(reserve("other", 8), &at(0)).await.map_err(|e| panic!("{e}")));
    let outcome = faulty.does(reserve("o", 4)).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    // Stock comes back, and the late try lands.
    let other = OrderId::parse("other").unwrap();
    faulty.does(command(&other, Action::Release { reason: Reason::requested() })).await.unwrap();
    while faulty.tables.stock("A").await != [6, 4, 0] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(faulty.does(reserve("o", 4)).await, Ok(Outcome::Done { first: false, .. })));
    faulty.holds([6, 4, 0]).await;
}

/// Scenario 4: a reserve that is late meets the tombstone of the release.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_4_a_late_reserve_of_an_order_that_was_given_up() {
    let faulty = faulty().await;
    faulty.wire.put_in([Fault::Late(Duration::from_millis(1_500))]);
    let given_up = faulty.store.apply(reserve("o", 4), &within(Duration::from_secs(1))).await;
    assert!(matches!(given_up, Err(StoreError::TryAgain(_))), "{given_up:?}");
    let order = OrderId::parse("o").unwrap();
    let released = faulty.does(command(&order, Action::Release { reason: Reason::requested() })).await;
    assert_eq!(first(released), State::Pending);
    // Long enough for the late request to have been refused.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    faulty.holds([10, 0, 0]).await;
}

/// A confirm without an answer may land later, so that "not found" would be untrue.
#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_without_an_answer_is_not_called_refused() {
    let faulty = faulty().await;
    faulty.wire.put_in([Fault::Late(Duration::from_millis(1_200))]);
    let order = OrderId::parse("o").unwrap();
    let outcome = faulty.does(command(&order, Action::Confirm)).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
}

/// Scenario 6: a transaction that hangs for longer than DynamoDB needs to recover it is tried past that.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_6_transaction_in_progress_for_long() {
    let faulty = faulty().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    faulty.wire.put_in([Fault::InProgress(until)]);
    assert_eq!(first(faulty.does(reserve("o", 4)).await), State::Reserved);
    assert!(tokio::time::Instant::now() > until);
    faulty.holds([6, 4, 0]).await;
}

/// Scenario 45: the addition whose answer is lost is made once, and answered as the first time.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_45_an_addition_whose_answer_is_lost() {
    for fault in [Fault::Lose, Fault::Error500, Fault::Drop, Fault::Conflict] {
        let faulty = faulty().await;
        let write = |quantity: u64| StockWrite {
            unit: product("B"),
            change: StockChange::Add(Quantity::new(quantity).unwrap()),
            idempotency_key: IdempotencyKey::parse("delivery-1").unwrap(),
            answer: format!("{quantity}"),
        };
        faulty.wire.put_in([fault.clone()]);
        let added = faulty.store.change_stock(&write(5), &at(0)).await.unwrap();
        assert_eq!(added, StockOutcome::Done { answer: "5".to_owned(), first: true }, "{fault:?}");
        let again = faulty.store.change_stock(&write(5), &at(0)).await.unwrap();
        assert_eq!(again, StockOutcome::Done { answer: "5".to_owned(), first: false }, "{fault:?}");
        assert_eq!(faulty.tables.stock("B").await, [5, 0, 0], "{fault:?}");
        faulty.holds([10, 0, 0]).await;
    }
}
