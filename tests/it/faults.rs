//! Faults between a function and DynamoDB: scenarios 1 to 10, 25 and 45.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::fixtures::{fact_with, lines, unit_key};
use shared::domain::{
    Action, Command, Fact, Quantity, Reason, Refusal, Shipment, State, StockChange, StockCommand,
    StockRefusal, Timestamp,
};
use shared::function::Deps;
use shared::http;
use shared::metrics::Metric;
use shared::store::{Invocation, Outcome, RetryPolicy, StockOutcome, Store, StoreError};
use sim::faults::Fault;
use sim::refusals::cancelled;
use tokio::time::Instant;

use crate::support::faults::{ALL, FaultProxy, Gate, Trouble, WRITES, denied, for_good};
use crate::support::tables::{INVENTORY, at, command, stock_command};
use crate::support::{Tables, conserved, deps};

struct Faulty {
    tables: Tables,
    proxy: FaultProxy,
    store: Store,
}

async fn faulty() -> Faulty {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let proxy = FaultProxy::to(&tables.url).await;
    let store = store_at(&proxy.url).await;
    Faulty { tables, proxy, store }
}

async fn store_at(url: &str) -> Store {
    let retry = RetryPolicy { max_attempts: 30, backoff: Duration::from_millis(25) };
    Tables::store_over(url, "store", retry).await
}

fn reserve(order: &str, quantity: u64) -> Command {
    let expires_at = Some(Timestamp::from_millisecond(900_000).unwrap());
    command(order, Action::Reserve { lines: lines(&[("A", quantity)]), expires_at })
}

fn release(order: &str) -> Command {
    command(order, Action::Release { reason: Reason::requested() })
}

fn within(time: Duration) -> Invocation {
    Invocation { deadline: Instant::now() + time, ..at(0) }
}

impl Faulty {
    async fn apply(&self, command: Command) -> Result<Outcome, StoreError> {
        self.store.apply(command, &at(0)).await
    }

    /// Somebody else does it, where nothing goes wrong.
    async fn another_applies(&self, command: Command) -> State {
        first(self.tables.store.apply(command, &at(0)).await)
    }

    async fn changes(&self, command: &StockCommand) -> Result<StockOutcome, StoreError> {
        self.store.change_stock(command, &at(0)).await
    }

    async fn holds(&self, figures: [u64; 3]) {
        assert_eq!(self.proxy.remaining_faults(), 0, "a fault that did not happen does not count");
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
        vec![Fault::Hang.into()],
        vec![Fault::Lose.into()],
        vec![Fault::ErrorAfter.into()],
        vec![Trouble::from(Fault::Conflict); 5],
        vec![Fault::Throttle.into(); 5],
        [Fault::Conflict, Fault::Lose, Fault::Throttle].map(Trouble::from).to_vec(),
        vec![Trouble::RefusedAfter(Fault::Conflict)],
    ] {
        let faulty = faulty().await;
        faulty.proxy.inject(faults.clone());
        let invocation = at(0);
        let outcome = faulty.store.apply(reserve("o", 4), &invocation).await;
        assert_eq!(first(outcome), State::Reserved, "{faults:?}");
        faulty.holds([6, 4, 0]).await;
        let counted = invocation.metrics.line("s", "o", invocation.now).unwrap();
        let counted: serde_json::Value = serde_json::from_str(&counted).unwrap();
        let tries = [Metric::Conflicts, Metric::Throttles, Metric::Unanswered].map(|m| &counted[m.name()]);
        let tries: u64 = tries.into_iter().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(tries, faults.len() as u64, "{faults:?}: {counted}");
    }
}

/// Some endpoints say that a condition failed and do not show on what: the record is read then.
#[tokio::test]
async fn what_a_refusal_does_not_show_is_read() {
    let faulty = faulty().await;
    let confirm = || command("o", Action::Confirm);
    assert_eq!(first(faulty.apply(reserve("o", 4)).await), State::Reserved);
    assert_eq!(first(faulty.apply(confirm()).await), State::Confirmed);
    let repeated = async |again: Command| {
        faulty.proxy.inject([Trouble::WithoutItem]);
        match faulty.apply(again).await {
            Ok(Outcome::Done { reservation, first: false }) => reservation.state,
            other => panic!("not a repetition: {other:?}"),
        }
    };
    assert_eq!(repeated(confirm()).await, State::Confirmed);
    assert_eq!(repeated(reserve("o", 4)).await, State::Confirmed);
    faulty.proxy.inject([Trouble::WithoutItem]);
    let nobody = command("nobody", Action::Confirm);
    let refused = faulty.apply(nobody).await;
    assert!(matches!(refused, Ok(Outcome::Refused { refusal: Refusal::NotFound, .. })), "{refused:?}");
    faulty.holds([6, 4, 0]).await;
}

/// The same for what comes after the hold.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_operation_is_applied_once() {
    let faults = [Fault::Hang, Fault::Lose, Fault::ErrorAfter, Fault::Conflict].map(Trouble::from);
    for fault in faults.into_iter().chain([Trouble::RefusedAfter(Fault::Conflict)]) {
        let faulty = faulty().await;
        let shipment = Shipment { id: None, lines: lines(&[("A", 1)]) };
        first(faulty.apply(reserve("o", 4)).await);
        for (action, figures) in [
            (Action::Extend { expires_at: Timestamp::from_millisecond(1_000_000).unwrap() }, [6, 4, 0]),
            (Action::Confirm, [6, 4, 0]),
            (Action::Deduct { part: Some(shipment) }, [6, 3, 1]),
            (Action::Release { reason: Reason::requested() }, [9, 0, 1]),
        ] {
            faulty.proxy.inject([fault.clone()]);
            let outcome = faulty.apply(command("o", action.clone())).await;
            assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{fault:?} {action:?} {outcome:?}");
            faulty.holds(figures).await;
        }
    }
}

/// Scenario 3: the tries run out. What is there decides; if nothing is, the outcome is not known.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_3_lost_until_the_tries_run_out() {
    let faulty = faulty().await;
    faulty.proxy.inject([Fault::Lose]);
    // Time for one try: the record that it wrote is found by reading.
    let outcome = faulty.store.apply(reserve("o", 4), &within(Duration::from_secs(1))).await;
    assert_eq!(first(outcome), State::Reserved);
    faulty.holds([6, 4, 0]).await;
    faulty.proxy.inject([Fault::Hang]);
    let outcome = faulty.store.apply(reserve("p", 4), &within(Duration::from_secs(1))).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    faulty.holds([6, 4, 0]).await;
}

/// After a try without answer, being short is no refusal: that try may still land.
#[tokio::test(flavor = "multi_thread")]
async fn short_after_a_try_without_answer_is_not_known() {
    let faulty = faulty().await;
    faulty.proxy.inject([Fault::Late]);
    faulty.another_applies(reserve("other", 8)).await;
    let outcome = faulty.apply(reserve("o", 4)).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    // Stock comes back, and the late try lands.
    faulty.apply(release("other")).await.unwrap();
    while faulty.tables.stock("A").await != [6, 4, 0] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(faulty.apply(reserve("o", 4)).await, Ok(Outcome::Done { first: false, .. })));
    faulty.holds([6, 4, 0]).await;
}

/// The same of a correction: it may still be made by the try that was not answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_correction_after_a_try_without_answer_is_not_called_refused() {
    let faulty = faulty().await;
    faulty.proxy.inject([Fault::Late]);
    faulty.another_applies(reserve("other", 8)).await;
    let correction = StockChange::Adjust { by: -4, reason: Reason::requested() };
    let outcome = faulty.changes(&stock_command("A", "count-1", correction)).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
}

fn audit(key: &str, counted: u64) -> StockCommand {
    stock_command("A", key, StockChange::Audit { on_hand: counted })
}

impl Faulty {
    /// An audit between whose look and write something else happens.
    async fn audits_while<T>(&self, counted: u64, work: impl Future<Output = T>) -> StockOutcome {
        let gate = Gate::default();
        self.proxy.inject([Trouble::Held(gate.clone())]);
        let write = audit("count-1", counted);
        let (outcome, _) = tokio::join!(self.changes(&write), gate.meanwhile(work));
        outcome.unwrap()
    }
}

/// A sale between an audit's look and its write changes nothing on the shelf: the audit is one look and one write.
#[tokio::test(flavor = "multi_thread")]
async fn sales_do_not_disturb_an_audit() {
    let faulty = faulty().await;
    let before = faulty.tables.usage();
    let outcome = faulty.audits_while(12, faulty.another_applies(reserve("o", 4))).await;
    assert_eq!(outcome, StockOutcome::Done { answer: "done".to_owned(), first: true });
    let calls = faulty.tables.usage_since(&before);
    assert_eq!(
        (calls["GetItem"].0, calls["TransactWriteItems"].0),
        (1, 2),
        "the other is the sale: {calls:?}"
    );
    assert_eq!(faulty.tables.stock("A").await, [8, 4, 0]);
}

/// Goods that leave or come in between do change it, held before or not: the count is no longer that of the shelf.
#[tokio::test(flavor = "multi_thread")]
async fn goods_that_leave_or_come_disturb_an_audit() {
    let faulty = faulty().await;
    first(faulty.apply(reserve("o", 4)).await);
    let deduct = command("o", Action::Deduct { part: None });
    let outcome = faulty.audits_while(12, faulty.another_applies(deduct)).await;
    assert_eq!(outcome, StockOutcome::Refused(StockRefusal::Changed { was: 10, is: 6 }));
    let outcome = faulty.audits_while(12, faulty.tables.add("A", 1)).await;
    assert_eq!(outcome, StockOutcome::Refused(StockRefusal::Changed { was: 6, is: 7 }));
    let heard = fact_with(Fact::Delivered, &[("A", 2)]);
    let delivered = command("p", Action::Hear { heard, expires_at: None });
    let outcome = faulty.audits_while(12, faulty.another_applies(delivered)).await;
    assert_eq!(outcome, StockOutcome::Refused(StockRefusal::Changed { was: 7, is: 5 }));
    assert_eq!(faulty.tables.stock("A").await, [5, 0, 6]);
}

/// Goods came and left again, so that the figure is as it was: the audit tries again as everything else does, with a
/// pause, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_gives_way_to_who_is_at_it() {
    let faulty = faulty().await;
    let come_and_leave = async || {
        faulty.tables.add("A", 1).await;
        faulty.tables.changes("A", StockChange::Adjust { by: -1, reason: Reason::requested() }).await;
    };
    let outcome = faulty.audits_while(12, come_and_leave()).await;
    assert_eq!(outcome, StockOutcome::Done { answer: "done".to_owned(), first: true });
    assert_eq!(faulty.tables.stock("A").await, [12, 0, 0]);

    let gate = Gate::default();
    faulty.proxy.inject([Trouble::Held(gate.clone()), Trouble::Held(gate.clone())]);
    let retry = RetryPolicy { max_attempts: 2, backoff: Duration::from_millis(1) };
    let hasty = Tables::store_over(&faulty.proxy.url, "store", retry).await;
    let (write, invocation) = (audit("count-2", 3), at(0));
    let others = async {
        for _ in 0..2 {
            gate.meanwhile(come_and_leave()).await;
        }
    };
    let (outcome, ()) = tokio::join!(hasty.change_stock(&write, &invocation), others);
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    assert_eq!(faulty.tables.stock("A").await, [12, 0, 0]);
}

/// Where an endpoint does not show what failed the condition, it is read: near its bound stock is added all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_addition_is_decided_on_what_is_there_shown_or_not() {
    let faulty = faulty().await;
    let most = 1_000_000_000;
    faulty.changes(&audit("count", most - 1)).await.unwrap();
    let add = |key| stock_command("A", key, StockChange::Add(Quantity::ONE));
    faulty.proxy.inject([Trouble::WithoutItem]);
    let added = faulty.changes(&add("first")).await.unwrap();
    assert!(matches!(added, StockOutcome::Done { .. }), "{added:?}");
    faulty.proxy.inject([Trouble::WithoutItem]);
    let refused = faulty.changes(&add("second")).await.unwrap();
    assert_eq!(refused, StockOutcome::Refused(StockRefusal::TooMuch { on_hand: most }));
}

/// The write is done; that the figures cannot be read is no reason to say otherwise, nor to answer late.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_answered_without_figures_where_they_cannot_be_read() {
    let faulty = faulty().await;
    let deps = deps(faulty.store.clone(), &[]);
    let sample = std::fs::read_to_string(crate::contract::root().join("events/http-add.json")).unwrap();
    let sample = sample.replace("SAMPLE-1", "A");
    let event = serde_json::from_str(&sample).unwrap();
    let mut context = lambda_http::Context::default();
    context.deadline = u64::try_from(local::clock::now_ms()).unwrap() + 10_000;
    faulty.proxy.inject_until(for_good(), &["GetItem"], Fault::Hang);
    let began = Instant::now();
    let handle: http::Handle = |deps, request| Box::pin(stock_admin::handle(deps, request));
    let response = http::answer("test", event, &context, &deps, handle).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let lambda_http::Body::Text(text) = response.body() else { panic!("{response:?}") };
    let answer: Value = serde_json::from_str(text).unwrap();
    assert_eq!((response.status().as_u16(), &answer["operation"]), (200, &json!("add")));
    assert!(answer.get("availableQuantity").is_none(), "{answer}");
    let [available, ..] = faulty.tables.stock("A").await;
    assert_eq!(Some(available), answer["quantity"].as_u64().map(|added| added + 10));
}

/// Nor is an error for good: the first try was applied, so whoever asks must ask again with the same key.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_a_try_without_answer_is_no_end() {
    let faulty = faulty().await;
    let write = stock_command("A", "delivery-1", StockChange::Add(Quantity::new(5).unwrap()));
    faulty.proxy.inject([Fault::Lose.into(), denied()]);
    let outcome = faulty.changes(&write).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    let again = faulty.changes(&write).await;
    assert!(matches!(again, Ok(StockOutcome::Done { first: false, .. })), "{again:?}");
    faulty.proxy.inject([Fault::Hang.into(), denied()]);
    let outcome = faulty.apply(reserve("o", 4)).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
    faulty.proxy.inject([denied()]);
    let outcome = faulty.apply(reserve("o", 4)).await;
    assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    assert_eq!((faulty.proxy.remaining_faults(), faulty.tables.stock("A").await), (0, [15, 0, 0]));
}

/// An order is short; before that is written, it has left, and stock has come. What it was short of is no answer to
/// how much of it has left.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_short_before_is_not_short_now() {
    let faulty = faulty().await;
    let hear = |fact, of: &[_]| command("o", Action::Hear { heard: fact_with(fact, of), expires_at: None });
    let gate = Gate::default();
    faulty.proxy.inject([Trouble::Nothing, Trouble::Held(gate.clone())]);
    let created = faulty.apply(hear(Fact::Created, &[("A", 12)]));
    let meanwhile = gate.meanwhile(async {
        faulty.tables.add("A", 10).await;
        assert_eq!(faulty.another_applies(hear(Fact::Delivered, &[])).await, State::Pending);
    });
    let (created, ()) = tokio::join!(created, meanwhile);
    assert_eq!(first(created), State::Fulfilled);
    assert_eq!((faulty.proxy.remaining_faults(), faulty.tables.stock("A").await), (0, [8, 0, 12]));
}

/// Scenario 4: a reserve that is late meets the tombstone of the release.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_4_a_late_reserve_of_an_order_that_was_given_up() {
    let faulty = faulty().await;
    faulty.proxy.inject([Fault::Late]);
    let given_up = faulty.store.apply(reserve("o", 4), &within(Duration::from_secs(1))).await;
    assert!(matches!(given_up, Err(StoreError::TryAgain(_))), "{given_up:?}");
    let released = faulty.apply(release("o")).await;
    assert_eq!(first(released), State::Pending);
    // Long enough for the late request to have been refused.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    faulty.holds([10, 0, 0]).await;
}

/// A confirm without an answer may land later, so that "not found" would be untrue.
#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_without_an_answer_is_not_called_refused() {
    let faulty = faulty().await;
    faulty.proxy.inject([Fault::Late]);
    let outcome = faulty.apply(command("o", Action::Confirm)).await;
    assert!(matches!(outcome, Err(StoreError::TryAgain(_))), "{outcome:?}");
}

/// Scenario 6: a transaction that hangs for longer than DynamoDB needs to recover it is tried past that.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_6_transaction_in_progress_for_long() {
    let faulty = faulty().await;
    let until = Instant::now() + Duration::from_secs(6);
    faulty.proxy.inject_until(until, WRITES, Fault::InProgress);
    assert_eq!(first(faulty.apply(reserve("o", 4)).await), State::Reserved);
    assert!(Instant::now() > until);
    faulty.holds([6, 4, 0]).await;
}

/// Scenario 7: one hot product must not hold every environment for as long as a request may take. It is given up after
/// three seconds, and never called out of stock.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_7_conflicts_that_do_not_end() {
    let faulty = faulty().await;
    let deps = deps(faulty.store.clone(), &[]);
    let samples = samples();
    let (function, sample) = samples.iter().find(|(_, sample)| sample.contains("/reserve")).unwrap();
    let began = Instant::now();
    let until = began + Duration::from_secs(6);
    faulty.proxy.inject_until(until, WRITES, Fault::Conflict);
    assert_eq!(answer(&deps, function, sample, Duration::from_secs(10)).await, (503, true));
    let took = began.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(3_500)).contains(&took), "{took:?}");
    tokio::time::sleep_until(until).await;
    assert_eq!(first(faulty.apply(reserve("o", 4)).await), State::Reserved);
    faulty.holds([6, 4, 0]).await;
}

/// After a try without an answer the conflict may be with that try, which DynamoDB ends only after five seconds: it is
/// waited out.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_with_a_try_of_its_own_are_waited_out() {
    let faulty = faulty().await;
    let until = Instant::now() + Duration::from_secs(6);
    faulty.proxy.inject([Fault::Hang]);
    faulty.proxy.inject_until(until, WRITES, Fault::Conflict);
    assert_eq!(first(faulty.apply(reserve("o", 4)).await), State::Reserved);
    assert!(Instant::now() > until);
    faulty.holds([6, 4, 0]).await;
}

/// Where no connection could be made nothing was sent, so that being short is as certain as without that try. A port
/// that takes the request and does not answer is another matter: see the tests above.
#[tokio::test(flavor = "multi_thread")]
async fn short_after_a_connection_that_was_never_made_is_short() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let address = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let store = store_at(&format!("http://{address}")).await;
    let invocation = at(0);
    let answers_later = async {
        let refused =
            || invocation.metrics.line("s", "o", invocation.now).is_some_and(|l| l.contains("Unanswered"));
        while !refused() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        forward(address, tables.url.clone()).await;
    };
    let (outcome, ()) = tokio::join!(store.apply(reserve("o", 12), &invocation), answers_later);
    assert!(matches!(outcome, Ok(Outcome::Refused { refusal: Refusal::Short(_), .. })), "{outcome:?}");
}

/// From now on what comes to this address goes to that one.
async fn forward(from: std::net::SocketAddr, to: String) {
    let listener = tokio::net::TcpListener::bind(from).await.unwrap();
    let to = to.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
    });
}

/// Scenario 5: DynamoDB answers nothing at all. Every function answers at least a second before its time-out, and
/// says that the outcome is not known.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_5_every_operation_hangs() {
    let faulty = faulty().await;
    let deps =
        deps(faulty.store.clone(), &[("EVENT_BUS", "holdfast-events"), ("DEAD_LETTER_QUEUE_URL", "-")]);
    let samples = samples();
    assert_eq!(samples.len(), 18);
    faulty.proxy.inject_until(for_good(), ALL, Fault::Hang);
    let timeout = Duration::from_millis(2_500);
    let began = Instant::now();
    let (deps, tables) = (&deps, &faulty.tables);
    let http = async {
        let answers =
            samples.iter().map(async |(function, sample)| answer(deps, function, sample, timeout).await);
        for ((_, sample), answer) in samples.iter().zip(futures::future::join_all(answers).await) {
            assert_eq!(answer, (503, true), "{sample}");
        }
    };
    let within = || within(timeout - Duration::from_secs(1));
    let (message, invocation) = (json!({"type": "OrderCancelled", "orderId": "o"}).to_string(), within());
    let batch = json!({"Records": [{"messageId": "m-1", "body": message}]});
    let events = async {
        let answer = order_events::handle(deps, &batch, &invocation).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}));
    };
    let invocation = within();
    let sweep = async {
        assert!(expiry_sweep::sweep(deps, None, &invocation).await.is_ok_and(|r| r["complete"] == false))
    };
    let invocation = within();
    let publish = async {
        let mut records = tables.stream().await;
        records.retain(|record| record["dynamodb"]["Keys"]["pk"]["S"] == "STOCK#A#0");
        let number = records[0]["dynamodb"]["SequenceNumber"].clone();
        let outbox =
            publisher::Outbox::connect(deps.clone(), || shared::aws::config_for(&faulty.proxy.url, "p"));
        let batch = json!({"Records": records});
        let answer = publisher::handle(&outbox.await.unwrap(), &batch, &invocation).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": number}]}));
    };
    tokio::join!(http, events, sweep, publish);
    assert!(began.elapsed() < timeout - Duration::from_millis(500), "{:?}", began.elapsed());
    faulty.holds([10, 0, 0]).await;
}

/// A request for each route, with the function that it is for.
fn samples() -> Vec<(String, String)> {
    let functions = crate::contract::template().functions;
    let files = std::fs::read_dir(crate::contract::root().join("events")).unwrap().flatten();
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("http-"));
    let sample = |file: std::fs::DirEntry| {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let key = serde_json::from_str::<Value>(&text).unwrap()["routeKey"].as_str().unwrap().to_owned();
        let of_route = |f: &&local::template::Function| {
            f.routes.iter().any(|route| format!("{} {}", route.method, route.path) == key)
        };
        (functions.iter().find(of_route).unwrap().name.clone(), text)
    };
    files.map(sample).collect()
}

/// Status, and whether it says when to come again.
async fn answer(deps: &Arc<Deps>, function: &str, sample: &str, timeout: Duration) -> (u16, bool) {
    let mut context = lambda_http::Context::default();
    context.deadline =
        u64::try_from(local::clock::now_ms()).unwrap() + u64::try_from(timeout.as_millis()).unwrap();
    let (event, context) = (serde_json::from_str(sample).unwrap(), &context);
    let handle: http::Handle = match function {
        "reserve" => |deps, request| Box::pin(reserve::handle(deps, request)),
        "release" => |deps, request| Box::pin(release::handle(deps, request)),
        "settle" => |deps, request| Box::pin(settle::handle(deps, request)),
        "check" => |deps, request| Box::pin(check::handle(deps, request)),
        _ => |deps, request| Box::pin(stock_admin::handle(deps, request)),
    };
    let response = http::answer("test", event, context, deps, handle).await;
    (response.status().as_u16(), response.headers().contains_key("retry-after"))
}

/// Scenario 8: a conflict on one item and a condition on another. Only our own condition on stock refuses; where the
/// stock that is shown would do, somebody else wrote meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_8_a_conflict_and_a_condition() {
    let faulty = faulty().await;
    faulty.tables.add("B", 5).await;
    let reserve = || {
        let lines = lines(&[("A", 4), ("B", 4)]);
        command("o", Action::Reserve { lines, expires_at: None })
    };
    let key = json!({"pk": {"S": "STOCK#B#0"}, "sk": {"S": "main"}});
    let look = json!({"TableName": INVENTORY, "Key": key}).to_string();
    let found = faulty.tables.database.answer("test", "GetItem", &look);
    let mut shown = serde_json::from_str::<Value>(&found.body).unwrap()["Item"].take();
    shown["available"] = json!({"N": "2"});
    // Two are there and four are wanted: refused, whatever went on at A.
    let reasons = [
        json!({"Code": "None"}),
        json!({"Code": "TransactionConflict", "Message": "on purpose"}),
        json!({"Code": "ConditionalCheckFailed", "Message": "on purpose", "Item": shown}),
    ];
    faulty.proxy.inject([Trouble::Refused(cancelled(&reasons))]);
    let refused = faulty.apply(reserve()).await.unwrap();
    let Outcome::Refused { refusal: Refusal::Short(short), .. } = refused else { panic!("{refused:?}") };
    assert_eq!(short.len(), 1);
    assert_eq!(short[0].unit, unit_key("B"));
    // Conflicts alone never refuse.
    faulty.proxy.inject([Fault::Conflict, Fault::Conflict]);
    assert_eq!(first(faulty.apply(reserve()).await), State::Reserved);
    assert_eq!(faulty.proxy.remaining_faults(), 0);
    assert_eq!((faulty.tables.stock("A").await, faulty.tables.stock("B").await), ([6, 4, 0], [1, 4, 0]));
}

/// A hold is confirmed between the sweep's look and its write: the sweep leaves it out, and ends the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_confirmed_under_the_sweep() {
    let faulty = faulty().await;
    for order in ["o", "p", "q"] {
        first(faulty.apply(reserve(order, 2)).await);
    }
    let deps = deps(faulty.store.clone(), &[]);
    let later = Invocation { now: Timestamp::from_millisecond(1_000_000).unwrap(), ..at(0) };
    let gate = Gate::default();
    faulty.proxy.inject([Trouble::Held(gate.clone())]);
    let sweep = expiry_sweep::sweep(&deps, None, &later);
    let confirm = gate.meanwhile(async {
        // By a clock for which it is not due.
        assert_eq!(faulty.another_applies(command("p", Action::Confirm)).await, State::Confirmed);
    });
    let (swept, ()) = tokio::join!(sweep, confirm);
    let swept = swept.unwrap();
    assert_eq!(
        (&swept["expired"], &swept["changed"], &swept["complete"]),
        (&json!(2), &json!(1), &json!(true))
    );
    faulty.holds([8, 2, 0]).await;
}

/// Scenario 25: the index is behind and lacks what is due. The sweep says that nothing is; the next one has it.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_25_the_index_lacks_a_due_hold() {
    let faulty = faulty().await;
    first(faulty.apply(reserve("o", 4)).await);
    let deps = deps(faulty.store.clone(), &[]);
    let later = Invocation { now: Timestamp::from_millisecond(1_000_000).unwrap(), ..at(0) };
    // Every shard is asked once for what is due.
    faulty.proxy.inject_into(&["Query"], [Fault::Stale; 16]);
    let swept = expiry_sweep::sweep(&deps, None, &later).await.unwrap();
    assert_eq!((&swept["due"], &swept["complete"]), (&json!(0), &json!(true)));
    assert_eq!(faulty.tables.stock("A").await, [6, 4, 0]);
    let swept = expiry_sweep::sweep(&deps, None, &later).await.unwrap();
    assert_eq!((&swept["due"], &swept["expired"]), (&json!(1), &json!(1)));
    faulty.holds([10, 0, 0]).await;
}

/// Scenario 45: the addition whose answer is lost is made once, and answered as the first time.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_45_an_addition_whose_answer_is_lost() {
    for fault in [Fault::Lose, Fault::ErrorAfter, Fault::Hang, Fault::Conflict] {
        let faulty = faulty().await;
        let write = stock_command("B", "delivery-1", StockChange::Add(Quantity::new(5).unwrap()));
        faulty.proxy.inject([fault]);
        for first in [true, false] {
            let added = faulty.changes(&write).await.unwrap();
            assert_eq!(added, StockOutcome::Done { answer: "done".to_owned(), first }, "{fault:?}");
        }
        assert_eq!(faulty.tables.stock("B").await, [5, 0, 0], "{fault:?}");
        faulty.holds([10, 0, 0]).await;
    }
}
