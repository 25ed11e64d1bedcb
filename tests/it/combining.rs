//! Requests of one process that share transactions: scenarios 62 to 66.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use shared::domain::fixtures::{lines, unit_key};
use shared::domain::{
    Action, Command, Lack, OrderId, Refusal, ReservationId, SharedTransaction, State, Timestamp,
};
use shared::store::{Invocation, Outcome, Store, StoreError};
use sim::faults::Fault;
use tokio::time::Instant;

use crate::support::faults::{ALL, FaultProxy, Gate, Trouble, for_good};
use crate::support::tables::{at, command, settings};
use crate::support::{Tables, conserved, deps};

/// A process whose requests share transactions, and the tables.
struct Process {
    tables: Tables,
    proxy: FaultProxy,
    store: Store,
}

impl Process {
    async fn start(stock: u64) -> Self {
        let tables = Tables::start().await;
        tables.add("A", stock).await;
        let proxy = FaultProxy::to(&tables.url).await;
        let config = shared::aws::config_for(&proxy.url, "store");
        let store = Store::connect(config, settings(&[("COMBINE_WRITES", "true")]).store).await;
        Self { tables, proxy, store }
    }

    async fn apply(&self, command: Command) -> Result<Outcome, StoreError> {
        self.store.apply(command, &at(0)).await
    }

    /// Lets these requests wait behind a transaction of another order, which holds one unit. What goes wrong with the
    /// transaction that they share is `fault`.
    async fn behind_another<T>(
        &self,
        fault: Option<Trouble>,
        requests: impl IntoIterator<Item = impl Future<Output = T>>,
    ) -> Vec<T> {
        let gate = Gate::default();
        self.proxy.inject([Trouble::Held(gate.clone())]);
        self.proxy.inject(fault);
        let ahead = async {
            let held = self.apply(reserve("ahead", &[("A", 1)])).await;
            assert_eq!(state(held), (State::Reserved, true));
        };
        let others = async {
            gate.arrived().await;
            let mut others = Box::pin(join_all(requests));
            // Each of them is asked once, so that all wait when the transaction goes on.
            assert!(futures::poll!(&mut others).is_pending());
            gate.let_go_on();
            others.await
        };
        let ((), outcomes) = tokio::join!(ahead, others);
        assert_eq!(self.proxy.remaining_faults(), 0, "a fault that did not happen does not count");
        outcomes
    }

    /// How many transactions there were since `work` began.
    async fn transactions<T>(&self, work: impl Future<Output = T>) -> (u64, T) {
        let before = self.tables.usage();
        let done = work.await;
        let calls = self.tables.usage_since(&before);
        assert!(calls.keys().all(|operation| operation == "TransactWriteItems"), "{calls:?}");
        (calls.values().map(|(calls, _)| calls).sum(), done)
    }
}

fn reserve(order: &str, items: &[(&str, u64)]) -> Command {
    command(
        order,
        Action::Reserve {
            lines: lines(items),
            expires_at: Some(Timestamp::from_millisecond(900_000).unwrap()),
        },
    )
}

fn state(outcome: Result<Outcome, StoreError>) -> (State, bool) {
    match outcome {
        Ok(Outcome::Done { reservation, first }) => (reservation.state, first),
        other => panic!("not done: {other:?}"),
    }
}

/// Forty orders that wait go together, and each is its own: of reserves, releases and confirmations alike.
#[tokio::test]
async fn what_waits_goes_together() {
    let process = Process::start(100).await;
    let orders: Vec<String> = (0..40).map(|i| format!("o-{i}")).collect();
    let reserves = || orders.iter().map(|order| process.apply(reserve(order, &[("A", 2)])));
    let (transactions, outcomes) = process.transactions(process.behind_another(None, reserves())).await;
    assert_eq!(transactions, 2);
    assert!(outcomes.into_iter().all(|outcome| state(outcome) == (State::Reserved, true)));
    assert_eq!(process.tables.stock("A").await, [19, 81, 0]);
    let again = join_all(reserves()).await;
    assert!(again.into_iter().all(|outcome| state(outcome) == (State::Reserved, false)));
    assert_eq!(process.tables.stock("A").await, [19, 81, 0]);
    conserved(&process.tables.dynamodb, &[("A", 100)]).await;
}

/// The movement of forty orders names their transaction, and the ledger says which orders they are; a movement of one
/// order names it. That the stream delivers twice changes nothing.
#[tokio::test]
async fn a_movement_of_many_orders_can_be_explained() {
    let process = Process::start(100).await;
    let reserves: Vec<_> = (0..40).map(|i| process.apply(reserve(&format!("o-{i}"), &[("A", 2)]))).collect();
    process.behind_another(None, reserves).await;
    let settings = [("EVENT_BUS", "holdfast-events"), ("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1/q")];
    let outbox = publisher::Outbox::connect(deps(process.tables.store.clone(), &settings), || {
        shared::aws::config_for(&process.tables.url, "publisher")
    });
    let outbox = outbox.await.unwrap();
    let batch = json!({"Records": process.tables.stream().await});
    for _ in 0..2 {
        publisher::handle(&outbox, &batch, &at(0)).await.unwrap();
    }
    let store = &process.tables.store;
    let movements = store.movements(&unit_key("A"), 0, 3, &at(0)).await.unwrap();
    let references: Vec<&str> = movements.iter().map(|one| one.cause.reference.as_str()).collect();
    assert_eq!(references[1], ReservationId::of(&OrderId::parse("ahead").unwrap()).to_string());
    let shared = SharedTransaction::parse(references[2]).unwrap();
    assert_eq!((shared.reservations, movements[2].delta.reserved), (40, 80));
    let explained = store.reservations_of_transaction(&shared, &at(0)).await.unwrap().unwrap();
    let expected: Vec<ReservationId> =
        (0..40).map(|i| ReservationId::of(&OrderId::parse(format!("o-{i}")).unwrap())).collect();
    assert_eq!(explained, expected);
    let unknown = SharedTransaction { id: "0".repeat(32), ..shared };
    assert_eq!(store.reservations_of_transaction(&unknown, &at(0)).await.unwrap(), None);
}

/// One request at a time is sent at once: a transaction each, and no other call.
#[tokio::test]
async fn one_at_a_time_costs_what_it_did() {
    let process = Process::start(10).await;
    for i in 0..3 {
        let (transactions, outcome) =
            process.transactions(process.apply(reserve(&format!("o-{i}"), &[("A", 1)]))).await;
        assert_eq!((transactions, state(outcome)), (1, (State::Reserved, true)));
    }
}

/// Scenario 62: the same order several times at once is never twice in a transaction, and there is one hold.
#[tokio::test]
async fn scenario_62_one_order_several_times_at_once() {
    let process = Process::start(10).await;
    let reserves = (0..5).map(|_| process.apply(reserve("o", &[("A", 2)])));
    let outcomes = process.behind_another(None, reserves).await;
    let first = outcomes.into_iter().map(state).filter(|(_, first)| *first).count();
    assert_eq!(first, 1);
    assert_eq!(process.tables.stock("A").await, [7, 3, 0]);
    // With other lines it is refused, as ever.
    let other = process.apply(reserve("o", &[("A", 3)])).await;
    let refused = |outcome: &Result<Outcome, StoreError>| {
        matches!(outcome, Ok(Outcome::Refused { refusal: Refusal::LinesDiffer, .. }))
    };
    assert!(refused(&other), "{other:?}");
}

/// Scenario 63: of forty that wait, one asks for more than there is; the others have their hold, and it is told how much
/// there was. One that would only be short because of those before it gets what is left.
#[tokio::test]
async fn scenario_63_one_of_forty_is_short() {
    let process = Process::start(81).await;
    let quantity = |i: usize| if i == 7 { 100 } else { 2 };
    let reserves = (0..41).map(|i| process.apply(reserve(&format!("o-{i}"), &[("A", quantity(i))])));
    let reserves: Vec<_> = reserves.collect();
    let outcomes = process.behind_another(None, reserves).await;
    for (i, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(Outcome::Refused { refusal: Refusal::Short(shortages), .. }) if i == 7 => {
                assert_eq!(shortages[0].requested, 100);
            }
            outcome => assert_eq!(state(outcome), (State::Reserved, true), "{i}"),
        }
    }
    assert_eq!(process.tables.stock("A").await, [0, 81, 0]);
    conserved(&process.tables.dynamodb, &[("A", 81)]).await;
}

/// More is asked for than there is: exactly as many are held as there are units, and each of the others is told the
/// truth.
#[tokio::test]
async fn the_last_units_go_to_who_came_first() {
    let process = Process::start(31).await;
    let reserves = (0..50).map(|i| process.apply(reserve(&format!("o-{i}"), &[("A", 1)])));
    let reserves: Vec<_> = reserves.collect();
    let outcomes = process.behind_another(None, reserves).await;
    let held: Vec<bool> =
        outcomes.iter().map(|outcome| matches!(outcome, Ok(Outcome::Done { first: true, .. }))).collect();
    let expected: Vec<bool> = (0..50).map(|i| i < 30).collect();
    assert_eq!(held, expected);
    assert_eq!(process.tables.stock("A").await, [0, 31, 0]);
}

/// Scenario 64: the answer of a shared transaction is lost, or comes as an error; each caller learns the truth.
#[tokio::test]
async fn scenario_64_the_answer_is_lost() {
    let faults = [Fault::Lose, Fault::ErrorAfter, Fault::Hang, Fault::Conflict, Fault::Throttle];
    let faults = faults.map(Trouble::from).into_iter();
    for fault in faults.chain([Trouble::RefusedAfter(Fault::Conflict)]) {
        let process = Process::start(50).await;
        let reserves = (0..20).map(|i| process.apply(reserve(&format!("o-{i}"), &[("A", 2)])));
        let reserves: Vec<_> = reserves.collect();
        let outcomes = process.behind_another(Some(fault.clone()), reserves).await;
        assert!(outcomes.into_iter().all(|outcome| state(outcome) == (State::Reserved, true)), "{fault:?}");
        assert_eq!(process.tables.stock("A").await, [9, 41, 0], "{fault:?}");
        conserved(&process.tables.dynamodb, &[("A", 50)]).await;
    }
}

/// Scenario 65: the process ends after the transaction was applied and before anybody is told. Each order is found by
/// its next try, in another process.
#[tokio::test]
async fn scenario_65_the_process_ends_after_the_commit() {
    let process = Process::start(50).await;
    let reserves = || (0..20).map(|i| reserve(&format!("o-{i}"), &[("A", 2)]));
    process.proxy.inject([Fault::Lose]);
    {
        let mut dying = Box::pin(join_all(reserves().map(|command| process.apply(command))));
        let is_applied = async {
            while process.tables.stock("A").await != [10, 40, 0] {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut dying => panic!("nobody is told before"),
            () = is_applied => {}
        }
    }
    process.proxy.inject_until(for_good(), ALL, Fault::Hang);
    let other = &process.tables.store;
    for command in reserves() {
        assert_eq!(state(other.apply(command, &at(0)).await), (State::Reserved, false));
    }
    assert_eq!(process.tables.stock("A").await, [10, 40, 0]);
    conserved(&process.tables.dynamodb, &[("A", 50)]).await;
}

/// Scenario 66: a caller's time runs out while it waits, or while its transaction is under way. It is told to try again,
/// and the others are served.
#[tokio::test]
async fn scenario_66_the_time_of_one_runs_out() {
    let process = Process::start(50).await;
    let apply = async |i: usize| {
        let patience = Duration::from_millis(if i == 3 { 1 } else { 9_000 });
        let invocation = Invocation { deadline: Instant::now() + patience, ..at(0) };
        process.store.apply(reserve(&format!("o-{i}"), &[("A", 2)]), &invocation).await
    };
    let gate = Gate::default();
    process.proxy.inject([Trouble::Held(gate.clone())]);
    let ahead = process.apply(reserve("ahead", &[("A", 1)]));
    let hasty = async {
        gate.arrived().await;
        let leaves = async {
            let outcome = apply(3).await;
            assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
            gate.let_go_on();
        };
        // Another waits behind it, and would go with it.
        let ((), behind) = tokio::join!(leaves, apply(4));
        behind
    };
    let others = async { join_all((0..3).map(apply)).await };
    let (ahead, behind, others) = tokio::join!(ahead, hasty, others);
    let served = others.into_iter().chain([ahead, behind]);
    assert!(served.into_iter().all(|outcome| state(outcome) == (State::Reserved, true)));
    // It left before its plan was sent, so that it holds nothing.
    assert_eq!(process.tables.stock("A").await, [41, 9, 0]);
    conserved(&process.tables.dynamodb, &[("A", 50)]).await;
}

/// The same where its transaction is under way: the others are served by it.
#[tokio::test]
async fn scenario_66_others_are_served_by_the_transaction_of_one_that_left() {
    let process = Process::start(50).await;
    let gate = Gate::default();
    process.proxy.inject([Trouble::Held(gate.clone())]);
    let hasty = Invocation { deadline: Instant::now() + Duration::from_millis(300), ..at(0) };
    let hasty = process.store.apply(reserve("hasty", &[("A", 2)]), &hasty);
    let others = join_all((0..3).map(|i| process.apply(reserve(&format!("o-{i}"), &[("A", 2)]))));
    let leaving = async {
        let outcome = hasty.await;
        assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
        gate.let_go_on();
    };
    // It comes first, and the others go with it.
    let ((), others, ()) = tokio::join!(leaving, others, gate.arrived());
    assert!(others.into_iter().all(|outcome| state(outcome) == (State::Reserved, true)));
    // It was told that it may have happened, and it has.
    assert_eq!(process.tables.stock("A").await, [42, 8, 0]);
    conserved(&process.tables.dynamodb, &[("A", 50)]).await;
}

/// One that fits by itself, but not beside those before it, goes into the next transaction, and is then told what is
/// left.
#[tokio::test]
async fn who_does_not_fit_beside_the_others_comes_next() {
    let process = Process::start(21).await;
    let reserves = [15, 10, 5].map(|units| process.apply(reserve(&format!("of-{units}"), &[("A", units)])));
    let [fits, does_not, fits_too] = process.behind_another(None, reserves).await.try_into().unwrap();
    assert_eq!(state(fits), (State::Reserved, true));
    assert_eq!(state(fits_too), (State::Reserved, true));
    let Ok(Outcome::Refused { refusal: Refusal::Short(shortages), .. }) = does_not else {
        panic!("not refused: {does_not:?}")
    };
    assert_eq!(shortages[0].lack, Lack::Short { available: 0 });
    assert_eq!(process.tables.stock("A").await, [0, 21, 0]);
}

/// A batch from the queue shares transactions, and each message has its own outcome. What is delivered again is looked
/// for first, and cancels nothing.
#[tokio::test]
async fn a_batch_from_the_queue_shares_transactions() {
    let process = Process::start(100).await;
    let deps = deps(process.store.clone(), &[]);
    let batch = |count: &str| {
        let record = |i: usize| {
            let body = if i == 7 {
                "no event".to_owned()
            } else {
                let items = json!([{"productId": "A", "quantity": 2}]);
                json!({"eventType": "OrderCreated", "orderId": format!("o-{i}"), "items": items}).to_string()
            };
            let attributes = json!({"ApproximateReceiveCount": count});
            json!({"messageId": format!("m-{i}"), "body": body, "attributes": attributes})
        };
        json!({"Records": (0..40).map(record).collect::<Vec<_>>()})
    };
    let failed = json!({"batchItemFailures": [{"itemIdentifier": "m-7"}]});
    let before = process.tables.usage();
    assert_eq!(order_events::handle(&deps, &batch("1"), &at(0)).await.unwrap(), failed);
    let calls = process.tables.usage_since(&before);
    assert_eq!(calls, BTreeMap::from([("TransactWriteItems".to_owned(), (1, 2 * 40))]));
    assert_eq!(process.tables.stock("A").await, [22, 78, 0]);
    let before = process.tables.usage();
    assert_eq!(order_events::handle(&deps, &batch("2"), &at(0)).await.unwrap(), failed);
    let calls = process.tables.usage_since(&before);
    assert_eq!(calls, BTreeMap::from([("GetItem".to_owned(), (39, 0))]));
    conserved(&process.tables.dynamodb, &[("A", 100)]).await;
}

/// Orders of several products wait in the lane of their first one only; lanes that meet on another product do not stop
/// each other for good.
#[tokio::test(flavor = "multi_thread")]
async fn orders_of_many_products_meet() {
    let process = Process::start(200).await;
    for product in ["B", "C"] {
        process.tables.add(product, 200).await;
    }
    let items = |i: usize| match i % 4 {
        0 => vec![("A", 1), ("B", 1)],
        1 => vec![("B", 1), ("C", 2)],
        2 => vec![("A", 2), ("C", 1)],
        _ => vec![("C", 1)],
    };
    let reserves = (0..60).map(|i| process.apply(reserve(&format!("o-{i}"), &items(i))));
    let reserves: Vec<_> = reserves.collect();
    let outcomes = join_all(reserves).await;
    assert!(outcomes.into_iter().all(|outcome| state(outcome) == (State::Reserved, true)));
    assert_eq!(process.tables.stock("A").await, [155, 45, 0]);
    assert_eq!(process.tables.stock("B").await, [170, 30, 0]);
    assert_eq!(process.tables.stock("C").await, [140, 60, 0]);
    conserved(&process.tables.dynamodb, &[("A", 200), ("B", 200), ("C", 200)]).await;
}
