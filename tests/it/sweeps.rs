//! Holds that end by themselves.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::domain::fixtures::lines;
use shared::domain::{Action, OrderId, Refusal, ReservationId, Target};
use shared::function::Deps;
use shared::store::{Invocation, Outcome, SweepCounts};
use tokio::time::Instant;

use crate::support::tables::{at, command, number, put_item, text, update_item};
use crate::support::{Api, Runner, Tables, conserved};

const TTL: i64 = 60_000;
/// From when on a sweep may end a hold: five seconds after its time.
const MAY_END: i64 = TTL + 5_000;

async fn hold(tables: &Tables, order: &str, products: &[&str]) -> ReservationId {
    let of: Vec<(&str, u64)> = products.iter().map(|product| (*product, 1)).collect();
    let action = Action::Reserve { lines: lines(&of), expires_at: Some(at(TTL).now) };
    tables.store.apply(command(order, action), &at(0)).await.unwrap();
    ReservationId::of(&OrderId::parse(order).unwrap())
}

async fn apply_to(tables: &Tables, id: ReservationId, now: i64, action: Action) -> Outcome {
    let invocation = at(now);
    let command = invocation.command(Target::Reservation(id), action);
    tables.store.apply(command, &invocation).await.unwrap()
}

fn deps(tables: &Tables, auto_release: &str) -> Arc<Deps> {
    crate::support::deps(tables.store.clone(), &[("AUTO_RELEASE_ENABLED", auto_release)])
}

/// Holds of one product end in few transactions; scenario 23: two sweeps at once; scenario 29: more of them than a
/// page of the index has.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_23_many_holds_end_in_few_transactions() {
    const HOLDS: u64 = 1_700;
    let tables = Tables::start().await;
    tables.add("A", HOLDS).await;
    for some in (0..HOLDS).collect::<Vec<_>>().chunks(100) {
        let orders: Vec<String> = some.iter().map(|i| format!("o-{i}")).collect();
        join_all(orders.iter().map(|order| hold(&tables, order, &["A"]))).await;
    }
    let deps = deps(&tables, "true");
    let early = expiry_sweep::sweep(&deps, None, &at(MAY_END - 1)).await.unwrap();
    assert_eq!((&early["due"], &early["expired"]), (&json!(0), &json!(0)));
    let (moment, same) = (at(MAY_END), at(MAY_END));
    let (one, two) =
        tokio::join!(expiry_sweep::sweep(&deps, None, &moment), expiry_sweep::sweep(&deps, None, &same));
    let (one, two) = (one.unwrap(), two.unwrap());
    let sum = |name: &str| one[name].as_u64().unwrap() + two[name].as_u64().unwrap();
    assert_eq!(sum("expired"), HOLDS, "{one} {two}");
    assert!((1..=HOLDS / 40).contains(&sum("transactions")), "{one} {two}");
    assert_eq!(tables.stock("A").await, [HOLDS, 0, 0]);
    conserved(&tables.dynamodb, &[("A", HOLDS)]).await;
    let after = expiry_sweep::sweep(&deps, None, &at(MAY_END)).await.unwrap();
    assert_eq!((&after["due"], &after["complete"]), (&json!(0), &json!(true)));
}

/// Scenario 24: what the index says is looked at again before anything is written.
#[tokio::test]
async fn scenario_24_holds_that_are_no_longer_due() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    tables.add("B", 10).await;
    let due = hold(&tables, "due", &["A", "B"]).await;
    let confirmed = hold(&tables, "confirmed", &["A"]).await;
    let extended = hold(&tables, "extended", &["A"]).await;
    let unknown = ReservationId::of(&OrderId::parse("unknown").unwrap());
    apply_to(&tables, confirmed, 0, Action::Confirm).await;
    apply_to(&tables, extended, 0, Action::Extend { expires_at: at(2 * TTL).now }).await;
    let mut outcome = SweepCounts::default();
    let ids = [due, confirmed, extended, unknown];
    tables.store.expire(&ids, &at(MAY_END), &mut outcome).await.unwrap();
    assert_eq!((outcome.expired, outcome.changed, outcome.failed), (1, 3, 0));
    assert_eq!((tables.stock("A").await, tables.stock("B").await), ([8, 2, 0], [10, 0, 0]));
    conserved(&tables.dynamodb, &[("A", 10), ("B", 10)]).await;
}

/// Scenario 61: the index and the record are both asked by a clock that may be five seconds ahead.
#[tokio::test]
async fn scenario_61_a_sweep_whose_clock_is_ahead() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let id = hold(&tables, "o", &["A"]).await;
    let deps = deps(&tables, "true");
    // A millisecond before the hold's time, by a clock that shows five seconds more.
    let swept = expiry_sweep::sweep(&deps, None, &at(TTL - 1 + 5_000)).await.unwrap();
    assert_eq!((&swept["due"], &swept["expired"]), (&json!(0), &json!(0)));
    // Nor where an index that is wrong says that it is over.
    let mut outcome = SweepCounts::default();
    tables.store.expire(&[id], &at(TTL - 1 + 5_000), &mut outcome).await.unwrap();
    assert_eq!((outcome.expired, outcome.changed), (0, 1));
    // In time by the clock of whoever confirms.
    apply_to(&tables, id, TTL - 1, Action::Confirm).await;
    let swept = expiry_sweep::sweep(&deps, None, &at(2 * TTL)).await.unwrap();
    assert_eq!((&swept["due"], &swept["expired"]), (&json!(0), &json!(0)));
    assert_eq!(tables.stock("A").await, [9, 1, 0]);
}

/// Until it may be ended a hold reads as expired; it cannot be confirmed, and its stock is not for sale.
#[tokio::test]
async fn a_hold_past_its_time_reads_as_expired_before_it_is_ended() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let id = hold(&tables, "o", &["A"]).await;
    for now in [TTL, MAY_END - 1] {
        for action in [Action::Confirm, Action::Extend { expires_at: at(2 * TTL).now }] {
            let outcome = apply_to(&tables, id, now, action).await;
            assert!(matches!(outcome, Outcome::Refused { refusal: Refusal::Expired, .. }), "{outcome:?}");
        }
    }
    assert_eq!(tables.stock("A").await, [9, 1, 0]);
}

/// Each pass has a time of its own: a hold that may not be ended in the first is ended in a later one. The last ends
/// before the deadline, and what is open is counted once.
#[tokio::test]
async fn a_sweep_passes_until_its_time_is_up() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    hold(&tables, "o", &["A"]).await;
    let invocation = at(MAY_END - 500);
    let invocation = Invocation { deadline: Instant::now() + Duration::from_millis(3_500), ..invocation };
    let every = Some(Duration::from_secs(1));
    let swept = expiry_sweep::sweep(&deps(&tables, "true"), every, &invocation).await.unwrap();
    assert!(Instant::now() < invocation.deadline);
    assert_eq!(
        (&swept["passes"], &swept["due"], &swept["expired"]),
        (&json!(3), &json!(1), &json!(1)),
        "{swept}"
    );
    assert_eq!(tables.stock("A").await, [10, 0, 0]);
    // Half a second after the moment from which it could be ended; the margin is not lateness.
    let late = swept["oldestDueAgeMs"].as_i64().unwrap();
    assert!((500..1_000).contains(&late), "{swept}");
    let line: Value = serde_json::from_str(&invocation.metrics.line("s", "o", at(0).now).unwrap()).unwrap();
    assert_eq!(
        (&line["HoldsDue"], &line["HoldsExpired"], &line["HoldsOpen"]),
        (&json!(1), &json!(1), &json!(0))
    );
}

/// A hold that every pass fails to end counts as one that is due, and as one that failed.
#[tokio::test]
async fn a_hold_that_no_pass_can_end_is_counted_once() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    hold(&tables, "o", &["A"]).await;
    let invocation = Invocation { deadline: Instant::now() + Duration::from_millis(2_500), ..at(MAY_END) };
    let every = Some(Duration::from_millis(500));
    let swept = expiry_sweep::sweep(&deps(&tables, "false"), every, &invocation).await.unwrap();
    assert!(swept["passes"].as_u64().unwrap() > 1, "{swept}");
    assert_eq!((&swept["due"], &swept["expired"]), (&json!(1), &json!(0)));
}

/// The schedule's event says how often; what it cannot mean is named.
#[tokio::test]
async fn the_event_says_how_often_is_swept() {
    let tables = Tables::start().await;
    let deps = deps(&tables, "true");
    for once in [Value::Null, json!({}), json!({"detail-type": "Scheduled Event", "detail": "{}"})] {
        let swept = expiry_sweep::handle(&deps, &once, &at(0)).await.unwrap();
        assert_eq!(swept["passes"], 1, "{once}");
    }
    let asked = |seconds: Value| json!({"everySeconds": seconds});
    let soon_over = Invocation { deadline: Instant::now() + Duration::from_secs(7), ..at(0) };
    let swept = expiry_sweep::handle(&deps, &asked(json!(5)), &soon_over).await.unwrap();
    assert_eq!(swept["passes"], 2);
    for bad in [json!(4), json!(61), json!(-1), json!("10"), json!(7.5)] {
        let error = expiry_sweep::handle(&deps, &asked(bad.clone()), &at(0)).await.unwrap_err().to_string();
        assert!(error.contains("everySeconds") || error.contains("cannot be read"), "{bad}: {error}");
    }
}

/// Scenario 26: a sweep that runs out of time is completed by the next.
#[tokio::test]
async fn scenario_26_a_sweep_that_is_cut_off() {
    let tables = Tables::start().await;
    tables.add("A", 300).await;
    let orders: Vec<String> = (0..300).map(|i| format!("o-{i}")).collect();
    for some in orders.chunks(100) {
        join_all(some.iter().map(|order| hold(&tables, order, &["A"]))).await;
    }
    let deps = deps(&tables, "true");
    let mut cut_off = at(MAY_END);
    cut_off.deadline = Instant::now() + Duration::from_millis(60);
    let first = expiry_sweep::sweep(&deps, None, &cut_off).await;
    let next = expiry_sweep::sweep(&deps, None, &at(MAY_END)).await.unwrap();
    assert_eq!(next["complete"], true, "{first:?} {next}");
    assert_eq!(tables.stock("A").await, [300, 0, 0]);
}

#[tokio::test]
async fn without_auto_release_it_only_counts() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    hold(&tables, "o", &["A"]).await;
    let report = expiry_sweep::sweep(&deps(&tables, "false"), None, &at(MAY_END + 5)).await.unwrap();
    assert_eq!(
        (&report["due"], &report["expired"], &report["oldestDueAgeMs"]),
        (&json!(1), &json!(0), &json!(5))
    );
    assert_eq!(tables.stock("A").await, [9, 1, 0]);
}

/// A stock unit whose figure is wrong keeps its own holds, not those of others.
#[tokio::test]
async fn a_broken_stock_unit_does_not_hold_up_the_rest() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    tables.add("B", 10).await;
    let both = hold(&tables, "both", &["A", "B"]).await;
    let fine = hold(&tables, "fine", &["A"]).await;
    let nothing = [(":n", number(0))];
    update_item(&tables.dynamodb, ("STOCK#B#0", "main"), "SET reserved = :n", &nothing).await;
    let mut outcome = SweepCounts::default();
    tables.store.expire(&[both, fine], &at(MAY_END), &mut outcome).await.unwrap();
    assert_eq!((outcome.expired, outcome.failed), (1, 1));
    assert_eq!(tables.stock("A").await, [9, 1, 0]);
}

/// An entry that nobody can read keeps neither its page nor its shard from being swept.
#[tokio::test]
async fn an_unreadable_hold_does_not_hold_up_the_rest() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let orders: Vec<String> = (0..8).map(|i| format!("o-{i}")).collect();
    join_all(orders.iter().map(|order| hold(&tables, order, &["A"]))).await;
    for shard in 0..16 {
        let id = ReservationId::of(&OrderId::parse(format!("broken-{shard}")).unwrap());
        let (pk, sk) = (("pk", text(format!("RES#{id}"))), ("sk", text("RES")));
        let item = [pk, sk, ("expiryShard", number(shard)), ("expiresAt", number(1))];
        put_item(&tables.dynamodb, &item).await;
    }
    let report = expiry_sweep::sweep(&deps(&tables, "true"), None, &at(MAY_END)).await.unwrap();
    assert_eq!(
        (&report["expired"], &report["failed"], &report["complete"]),
        (&json!(8), &json!(16), &json!(true))
    );
    assert_eq!(tables.stock("A").await, [10, 0, 0]);
}

/// The schedule of the template, sooner: what nobody pays for comes back by itself.
#[tokio::test]
async fn the_schedule_gives_back_what_nobody_pays_for() {
    let shop = Runner::with(&["--sweep-every", "200ms"]).await;
    shop.add("A", 10).await;
    let body = json!({"orderId": "o", "productId": "A", "quantity": 4, "ttlSeconds": 1});
    assert_eq!(shop.post("/api/inventory/reserve", &body).await.status, 201);
    shop.until("it is given back", async |shop: &Api| shop.stock("A").await == [10, 0, 0]).await;
    shop.until_published(1, "ReservationExpired", "o").await;
    // A payment that comes too late takes the stock again; twice changes nothing.
    for _ in 0..2 {
        shop.send_order_event(&json!({"eventType": "PaymentSucceeded", "orderId": "o"})).await;
    }
    shop.until_status("o", "CONFIRMED").await;
    assert_eq!(shop.stock("A").await, [6, 4, 0]);
    shop.adds_up().await;
    assert_eq!(shop.published_count("InventoryReserved", "o").await, 2);
}

/// Scenario 78: one invocation, as the template's schedule makes it, has stock for sale again within 20 seconds after a
/// hold is over, though the hold was not over when it began.
#[tokio::test]
async fn scenario_78_for_sale_soon_after_a_hold_is_over() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    let sweep = crate::contract::template().functions.into_iter().find(|f| f.name == "expiry-sweep").unwrap();
    let event: Value = serde_json::from_str(&sweep.schedules[0].1).unwrap();
    assert_eq!(event, json!({"everySeconds": 10}));
    let for_sale = async {
        let body = json!({"orderId": "o", "productId": "A", "quantity": 4, "ttlSeconds": 1});
        assert_eq!(shop.post("/api/inventory/reserve", &body).await.status, 201);
        let over = Instant::now() + Duration::from_secs(1);
        shop.until_status("o", "EXPIRED").await;
        assert_eq!(shop.stock("A").await, [6, 4, 0], "not at once: clocks differ");
        let is_back = async |shop: &Api| shop.stock("A").await == [10, 0, 0];
        shop.until_within(Duration::from_secs(20), "it is for sale", is_back).await;
        Instant::now() - over
    };
    let took = tokio::select! {
        took = for_sale => took,
        answer = shop.invoke("expiry-sweep", &event) => panic!("over before it was for sale: {answer}"),
    };
    assert!(took < Duration::from_secs(20), "{took:?}");
}
