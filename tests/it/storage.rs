//! The store against the embedded DynamoDB over HTTP: what it costs, what it survives, and that nothing is
//! made or lost.

use futures::future::join_all;
use serde_json::{Value, json};
use shared::domain::fixtures::{fact_with, lines, shipment, unit_key};
use shared::domain::{
    Action, Delivery, Edit, Fact, Heard, Line, OrderId, ProductId, Quantity, Reason, Refusal, Reservation,
    ReservationId, Shipment, State, StockChange, Timestamp,
};
use shared::store::{Outcome, StoreError, SweepCounts};

use crate::support::tables::{INVENTORY, Usages, at, command, put_item, text, update_item};
use crate::support::{Tables, conserved};

fn order(id: &str) -> OrderId {
    OrderId::parse(id).unwrap()
}

const TTL: i64 = 900_000;
/// From when on the sweep may end a hold: five seconds after its time.
const MAY_END: i64 = TTL + 5_000;

impl Tables {
    async fn apply(&self, now: i64, id: &str, action: Action) -> Result<Outcome, StoreError> {
        self.store.apply(command(id, action), &at(now)).await
    }

    async fn reserve(&self, now: i64, id: &str, of: &[(&str, u64)]) -> Outcome {
        let expires_at = Some(Timestamp::from_millisecond(now + TTL).unwrap());
        self.apply(now, id, Action::Reserve { lines: lines(of), expires_at }).await.unwrap()
    }

    async fn hear(&self, now: i64, id: &str, fact: Fact, of: &[(&str, u64)]) -> Reservation {
        self.hear_fact(now, id, fact_with(fact, of)).await
    }

    async fn hear_fact(&self, now: i64, id: &str, heard: Heard) -> Reservation {
        let expires_at = Some(Timestamp::from_millisecond(now + TTL).unwrap());
        done(self.apply(now, id, Action::Hear { heard, expires_at }).await.unwrap()).0
    }

    /// Applies it; answers with the calls and units that this took.
    async fn spend(&self, now: i64, id: &str, action: Action) -> Usages {
        let before = self.usage();
        done(self.apply(now, id, action).await.unwrap());
        self.usage_since(&before)
    }
}

fn done(outcome: Outcome) -> (Reservation, bool) {
    match outcome {
        Outcome::Done { reservation, first } => (reservation, first),
        other => panic!("not done: {other:?}"),
    }
}

fn usage(of: &[(&str, u64, u64)]) -> Usages {
    of.iter().map(|&(operation, calls, units)| (operation.to_owned(), (calls, units))).collect()
}

/// The table of `ARCHITECTURE.md`, "Writes": calls, and write units of the table. A transaction takes two
/// units for each item, a plain write one.
#[tokio::test]
async fn each_operation_costs_what_the_design_says() {
    let tables = Tables::start().await;
    for product in ["A", "B", "C"] {
        let before = tables.usage();
        tables.add(product, 100).await;
        assert_eq!(tables.usage_since(&before), usage(&[("TransactWriteItems", 1, 4)]), "add");
    }
    let adjust = |by| StockChange::Adjust { by, reason: Reason::requested() };
    let name = Edit::Set("Shoe".to_owned());
    for (product, change) in [
        ("A", StockChange::Add(Quantity::ONE)),
        ("A", adjust(1)),
        ("A", adjust(-1)),
        ("A", StockChange::Audit { on_hand: 100 }),
        ("A", StockChange::Update { name, low_stock_threshold: Edit::Keep, max_per_order: Edit::Clear }),
        (
            "NEW",
            StockChange::Create { available: 1, name: None, low_stock_threshold: None, max_per_order: None },
        ),
    ] {
        let (name, before) = (change.name(), tables.usage());
        let looks: &[_] = if name == "audit" { &[("GetItem", 1, 0)] } else { &[] };
        tables.changes(product, change).await;
        let expected = [looks, &[("TransactWriteItems", 1, 4)]].concat();
        assert_eq!(tables.usage_since(&before), usage(&expected), "{name}");
    }

    let expires_at = Some(Timestamp::from_millisecond(TTL).unwrap());
    for (id, of) in [("one", &[("A", 1)][..]), ("three", &[("A", 1), ("B", 1), ("C", 1)][..])] {
        let reserve = Action::Reserve { lines: lines(of), expires_at };
        let units = 2 * (of.len() as u64 + 1);
        assert_eq!(tables.spend(0, id, reserve).await, usage(&[("TransactWriteItems", 1, units)]), "reserve");
        assert_eq!(tables.spend(0, id, Action::Confirm).await, usage(&[("UpdateItem", 1, 1)]), "confirm");
        let deduct = tables.spend(0, id, Action::Deduct { part: None }).await;
        assert_eq!(deduct, usage(&[("GetItem", 1, 0), ("TransactWriteItems", 1, units)]), "deduct");
    }
    tables.reserve(0, "two", &[("A", 1)]).await;
    let extend = Action::Extend { expires_at: Timestamp::from_millisecond(2 * TTL).unwrap() };
    assert_eq!(
        tables.spend(0, "two", extend).await,
        usage(&[("GetItem", 1, 0), ("PutItem", 1, 1)]),
        "extend"
    );
    let release = Action::Release { reason: Reason::requested() };
    let released = tables.spend(0, "two", release).await;
    assert_eq!(released, usage(&[("GetItem", 1, 0), ("TransactWriteItems", 1, 4)]), "release");

    // Three holds of one product end together: two units for each record, and two for the stock unit.
    let ids: Vec<ReservationId> = ["due-1", "due-2", "due-3"].map(|id| ReservationId::of(&order(id))).into();
    for id in ["due-1", "due-2", "due-3"] {
        tables.reserve(0, id, &[("A", 1)]).await;
    }
    let (before, mut ended) = (tables.usage(), SweepCounts::default());
    tables.store.expire(&ids, &at(MAY_END), &mut ended).await.unwrap();
    assert_eq!((ended.expired, ended.transactions), (3, 1));
    let sweep = usage(&[("BatchGetItem", 1, 0), ("TransactWriteItems", 1, 8)]);
    assert_eq!(tables.usage_since(&before), sweep, "sweep");

    let before = tables.usage();
    let product = ProductId::parse("A").unwrap();
    tables.store.shown_product(&product, None, 10, &at(0)).await.unwrap();
    assert_eq!(tables.usage_since(&before), usage(&[("Query", 1, 0)]), "one product");
    let before = tables.usage();
    tables.store.stock_at_main([&product], &at(0)).await.unwrap();
    assert_eq!(tables.usage_since(&before), usage(&[("BatchGetItem", 1, 0)]), "bulk check");
}

/// The queue may deliver a message twice in one batch. Both copies have one time and one correlation id, so that the second
/// would write what the first has written; it is a repetition all the same.
#[tokio::test]
async fn a_message_that_comes_twice_in_a_batch_counts_once() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    let deps = crate::support::deps(tables.store.clone(), &[]);
    let body = r#"{"type": "OrderCreated", "orderId": "o", "items": [{"productId": "A", "quantity": 2}]}"#;
    let message = json!({"messageId": "m-1", "body": body});
    let invocation = at(0);
    let batch = json!({"Records": [message, message]});
    let answer = order_events::handle(&deps, &batch, &invocation).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(tables.stock("A").await, [3, 2, 0]);
    let counted = invocation.metrics.line("s", "o", invocation.now).unwrap();
    let counted: Value = serde_json::from_str(&counted).unwrap();
    assert_eq!((&counted["ReservationsHeld"], &counted["ReservationsRepeated"]), (&json!(1), &json!(1)));
}

/// A repetition and a refusal each cost one call: what is there comes back with the refusal.
#[tokio::test]
async fn a_refusal_says_what_is_there_without_a_read() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    done(tables.reserve(0, "one", &[("A", 2)]).await);
    let before = tables.usage();
    let (_, first) = done(tables.reserve(0, "one", &[("A", 2)]).await);
    assert!(!first);
    let refused = tables.reserve(0, "two", &[("A", 4)]).await;
    let Outcome::Refused { refusal: Refusal::Short(shortages), reservation: None } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(shortages[0].lack.available(), 3);
    let (calls, _) = tables.usage_since(&before)["TransactWriteItems"];
    assert_eq!(calls, 2);
}

/// Scenario 14: the token of the first try is long gone; the record answers.
#[tokio::test]
async fn scenario_14_a_retry_after_eleven_minutes() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    let (first, _) = done(tables.reserve(0, "one", &[("A", 2)]).await);
    let (again, is_first) = done(tables.reserve(11 * 60_000, "one", &[("A", 2)]).await);
    assert_eq!((first, false), (again, is_first));
    assert_eq!(tables.stock("A").await, [3, 2, 0]);
}

/// Scenario 18, and its payment that comes after the hold has ended.
#[tokio::test]
async fn scenario_18_paid_before_created_and_paid_too_late() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    assert_eq!(tables.hear(0, "early", Fact::Paid, &[]).await.state, State::Pending);
    assert_eq!(tables.hear(0, "early", Fact::Created, &[("A", 1)]).await.state, State::Confirmed);
    done(tables.reserve(0, "late", &[("A", 3)]).await);
    assert_eq!(done(tables.apply(MAY_END, "late", Action::Expire).await.unwrap()).0.state, State::Expired);
    assert_eq!(tables.stock("A").await, [4, 1, 0]);
    assert_eq!(tables.hear(TTL, "late", Fact::Paid, &[]).await.state, State::Confirmed);
    assert_eq!(tables.stock("A").await, [1, 4, 0]);

    done(tables.reserve(TTL, "gone", &[("A", 1)]).await);
    done(tables.apply(TTL + MAY_END, "gone", Action::Expire).await.unwrap());
    done(tables.reserve(2 * TTL, "other", &[("A", 1)]).await);
    let short = tables.hear(2 * TTL, "gone", Fact::Paid, &[]).await;
    assert_eq!((short.state, short.shortages.len()), (State::Expired, 1));
    conserved(&tables.dynamodb, &[("A", 5)]).await;
}

/// Scenario 15: what comes again after days finds how it ended.
#[tokio::test]
async fn scenario_15_a_redrive_after_thirteen_days() {
    const LATER: i64 = 13 * 86_400_000;
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let of: &[(&str, u64)] = &[("A", 1)];
    for (order, last, state) in [
        ("cancelled", Fact::Cancelled, State::Released),
        ("delivered", Fact::Delivered, State::Fulfilled),
        ("failed", Fact::PaymentFailed, State::Released),
    ] {
        tables.hear(0, order, Fact::Created, of).await;
        let ended = tables.hear(0, order, last, &[]).await;
        assert_eq!(ended.state, state);
        let stock = tables.stock("A").await;
        assert_eq!(tables.hear(LATER, order, Fact::Created, of).await, ended);
        assert_eq!(tables.hear(LATER, order, last, &[]).await, ended);
        assert_eq!(tables.stock("A").await, stock);
    }
    conserved(&tables.dynamodb, &[("A", 10)]).await;
}

/// Scenario 27: only records in which nothing is held can be purged, and that moves nothing.
#[tokio::test]
async fn scenario_27_a_purge_moves_nothing() {
    let tables = Tables::start().await;
    tables.add("A", 10).await;
    let of: &[(&str, u64)] = &[("A", 1)];
    tables.hear(0, "held", Fact::Created, of).await;
    tables.hear(0, "paid", Fact::Created, of).await;
    tables.hear(0, "paid", Fact::Paid, &[]).await;
    tables.hear(0, "gone", Fact::Created, of).await;
    tables.hear(0, "gone", Fact::Cancelled, &[]).await;
    tables.hear(0, "early", Fact::Paid, &[]).await;
    for (name, may_be_purged) in [("held", false), ("paid", false), ("gone", true), ("early", true)] {
        let key = text(format!("RES#{}", ReservationId::of(&order(name))));
        let get = tables.dynamodb.get_item().table_name(INVENTORY).key("pk", key.clone());
        let item = get.key("sk", text("RES")).send().await.unwrap().item.unwrap();
        let purge_at: Option<i64> = item.get("purgeAt").map(|at| at.as_n().unwrap().parse().unwrap());
        assert_eq!(purge_at, may_be_purged.then_some(90 * 86_400), "{name}");
        if may_be_purged {
            let delete = tables.dynamodb.delete_item().table_name(INVENTORY).key("pk", key);
            delete.key("sk", text("RES")).send().await.unwrap();
        }
    }
    assert_eq!(tables.stock("A").await, [8, 2, 0]);
    conserved(&tables.dynamodb, &[("A", 10)]).await;
}

#[tokio::test]
async fn events_that_do_not_fit_are_recorded() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    let rejected = tables.hear(0, "big", Fact::Created, &[("A", 6), ("NOPE", 1)]).await;
    assert_eq!((rejected.state, rejected.shortages.len()), (State::Rejected, 2));
    let delivered = tables.hear(0, "gone", Fact::Delivered, &[("A", 6), ("NOPE", 1)]).await;
    assert_eq!(delivered.state, State::Fulfilled);
    assert_eq!(delivered.lines.iter().map(|line| line.missing).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(tables.stock("A").await, [0, 0, 5]);
    conserved(&tables.dynamodb, &[("A", 5)]).await;
}

/// Everything a record can hold comes back as it went in.
#[tokio::test]
async fn records_come_back_as_they_were_written() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    let written = tables.hear(0, "gone", Fact::Delivered, &[("A", 6), ("NOPE", 1)]).await;
    let read = tables.store.reservation(written.id, &at(0)).await.unwrap();
    assert_eq!(read, Some(written));
    let written = tables.hear(0, "held", Fact::Paid, &[]).await;
    let read = tables.store.reservation(written.id, &at(0)).await.unwrap();
    assert_eq!(read, Some(written));
    for (n, told) in [
        shipment("s-1", &[("NOPE", 1)]),
        fact_with(Fact::Created, &[("B", 2)]),
        fact_with(Fact::Created, &[("B", 3)]),
        shipment("s-1", &[("A", 1)]),
        fact_with(Fact::Delivered, &[("B", 1), ("A", 1)]),
        fact_with(Fact::Cancelled, &[]),
        fact_with(Fact::Paid, &[]),
        Heard::Delivered(Delivery::All),
    ]
    .into_iter()
    .enumerate()
    {
        let written = tables.hear_fact(0, "contradicted", told).await;
        assert_eq!(written.version, u64::try_from(n).unwrap() + 1);
        let read = tables.store.reservation(written.id, &at(0)).await.unwrap();
        assert_eq!(read, Some(written));
    }
}

/// Sixty that left from the wrong place, more than a transaction puts right: the record remembers that they stay there.
#[tokio::test]
async fn bookings_that_stay_are_remembered() {
    let tables = Tables::start().await;
    let names: Vec<String> = (0..60).map(|i| format!("P{i}")).collect();
    let of: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    join_all(names.iter().map(|name| tables.add(name, 9))).await;
    tables.hear(0, "sixty", Fact::Delivered, &of).await;
    let east: Vec<String> = names.iter().map(|name| format!("{name}@east")).collect();
    let east: Vec<(&str, u64)> = east.iter().map(|name| (name.as_str(), 1)).collect();
    let written = tables.hear(0, "sixty", Fact::Created, &east).await;
    assert!(written.deliveries.bookings_stay);
    assert_eq!(tables.store.reservation(written.id, &at(0)).await.unwrap(), Some(written.clone()));
    let again = tables.hear_fact(0, "sixty", Heard::Delivered(Delivery::All)).await;
    let left = |record: &Reservation| -> u64 { record.lines.iter().map(Line::departed_units).sum() };
    assert_eq!((left(&written), left(&again)), (60, 60), "nothing leaves twice");
}

/// A process in the middle of a rollback, or one that is older, writes no such attributes.
#[tokio::test]
async fn a_record_without_what_deliveries_said_counts_what_has_left() {
    let tables = Tables::start().await;
    tables.add("A", 9).await;
    done(tables.reserve(0, "old", &[("A", 4)]).await);
    let part = Some(Shipment { id: None, lines: lines(&[("A", 1)]) });
    let (written, _) = done(tables.apply(0, "old", Action::Deduct { part }).await.unwrap());
    let key = text(format!("RES#{}", written.id));
    let get = tables.dynamodb.get_item().table_name(INVENTORY).key("pk", key);
    let item = get.key("sk", text("RES")).send().await.unwrap().item.unwrap();
    for new in ["deliveries", "refusedAt", "conflicts", "conflictCount"] {
        assert!(!item.contains_key(new), "{new}: what follows from the rest is not written");
    }
    tables.hear_fact(0, "old", shipment("s-2", &[("A", 2)])).await;
    assert_eq!(tables.stock("A").await, [5, 1, 3]);
    tables.hear(0, "old", Fact::Delivered, &[("A", 3)]).await;
    assert_eq!(tables.stock("A").await, [6, 0, 3]);
    conserved(&tables.dynamodb, &[("A", 9)]).await;
}

/// Scenario 48: only what the first version wrote.
#[tokio::test]
async fn scenario_48_a_record_of_an_older_version() {
    let tables = Tables::start().await;
    tables.add("A", 5).await;
    done(tables.reserve(0, "old", &[("A", 2)]).await);
    let key = format!("RES#{}", ReservationId::of(&order("old")));
    let change = "REMOVE correlationId, fingerprint, updatedAt SET unheardOf = :x";
    update_item(&tables.dynamodb, (&key, "RES"), change, &[(":x", text("from a newer version"))]).await;
    let again = tables.hear(0, "old", Fact::Created, &[("A", 2)]).await;
    assert_eq!((again.state, again.updated_at), (State::Reserved, again.created_at));
    let (confirmed, _) = done(tables.apply(0, "old", Action::Confirm).await.unwrap());
    assert_eq!(confirmed.state, State::Confirmed);
    done(tables.apply(0, "old", Action::Deduct { part: None }).await.unwrap());
    assert_eq!(tables.stock("A").await, [3, 0, 2]);
}

/// The same of a stock unit: no `physical`, no `createdAt`.
#[tokio::test]
async fn scenario_48_a_stock_unit_of_an_older_version() {
    let tables = Tables::start().await;
    let older = async || {
        let change = "REMOVE physical, createdAt";
        update_item(&tables.dynamodb, ("STOCK#A#0", "main"), change, &[]).await;
    };
    let physical = async || tables.store.stock_unit(&unit_key("A"), &at(0)).await.unwrap().unwrap().physical;
    let change = async |change| tables.changes("A", change).await;
    tables.add("A", 5).await;
    older().await;
    assert_eq!(physical().await, 0);
    done(tables.reserve(0, "held", &[("A", 2)]).await);
    assert_eq!(physical().await, 0, "a hold moves nothing on the shelf");
    change(StockChange::Audit { on_hand: 5 }).await;
    assert_eq!(physical().await, 0, "it is as it was counted");
    done(tables.apply(0, "held", Action::Deduct { part: None }).await.unwrap());
    assert_eq!(physical().await, 1);
    for (what, figures) in [
        (StockChange::Adjust { by: 4, reason: Reason::requested() }, [7, 0, 2]),
        (StockChange::Add(Quantity::ONE), [8, 0, 2]),
    ] {
        older().await;
        change(what).await;
        assert_eq!((tables.stock("A").await, physical().await), (figures, 1));
    }
    older().await;
    change(StockChange::Audit { on_hand: 9 }).await;
    assert_eq!((tables.stock("A").await, physical().await), ([9, 0, 2], 1));
    conserved(&tables.dynamodb, &[("A", 11)]).await;
}

/// An item that is no record of ours is an error, not "not found".
#[tokio::test]
async fn an_unreadable_record_is_an_error() {
    let tables = Tables::start().await;
    let id = ReservationId::of(&order("broken"));
    let item = [("pk", text(format!("RES#{id}"))), ("sk", text("RES")), ("state", text("NONSENSE"))];
    put_item(&tables.dynamodb, &item).await;
    let read = tables.store.reservation(id, &at(0)).await;
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
    let confirmed = tables.apply(0, "broken", Action::Confirm).await;
    assert!(matches!(confirmed, Err(StoreError::Corrupt(_))), "{confirmed:?}");
}

/// Scenarios 20 and 21: as a sweep does, against confirms and releases of the same holds.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_expire_confirm_and_release() {
    let tables = Tables::start().await;
    tables.add("A", 40).await;
    let ids: Vec<String> = (0..40).map(|i| format!("order-{i}")).collect();
    for id in &ids {
        done(tables.reserve(0, id, &[("A", 1)]).await);
    }
    // One clock is behind the end of the holds, the other at it.
    let races = ids.iter().map(|id| async {
        let expire = tables.apply(MAY_END, id, Action::Expire);
        let confirm = tables.apply(TTL - 1, id, Action::Confirm);
        let release = tables.apply(TTL - 1, id, Action::Release { reason: Reason::requested() });
        let (expired, confirmed, released) = tokio::join!(expire, confirm, release);
        (expired.unwrap(), confirmed.unwrap(), released.unwrap())
    });
    for (expired, confirmed, released) in join_all(races).await {
        let made_so = |outcome: &Outcome| matches!(outcome, Outcome::Done { first: true, .. });
        assert!(!(made_so(&expired) && made_so(&confirmed)), "{expired:?} {confirmed:?}");
        assert!(matches!(released, Outcome::Done { .. }), "{released:?}");
    }
    assert_eq!(tables.stock("A").await, [40, 0, 0], "a release ends each of them");
    conserved(&tables.dynamodb, &[("A", 40)]).await;
}

/// Random commands on few products, many at once; the seed is printed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_or_lost_among_many() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let tables = Tables::start().await;
    for product in ["A", "B"] {
        // Less than is asked for, so that the last unit is often fought for.
        tables.add(product, 12).await;
    }
    let mut steps = Vec::new();
    for _ in 0..600 {
        let id = format!("order-{}", random.u8(0..30));
        let now = i64::from(random.u32(0..2_000_000));
        let of = [("A", random.u64(1..4)), ("B", random.u64(1..3))];
        let expires_at = Some(Timestamp::from_millisecond(now + TTL).unwrap());
        let action = match random.u8(0..10) {
            0..4 => Action::Reserve { lines: lines(&of[..random.usize(1..=2)]), expires_at },
            4 => Action::Confirm,
            5 => Action::Release { reason: Reason::payment_failed() },
            6 => Action::Release { reason: Reason::requested() },
            7 => Action::Deduct { part: None },
            8 => Action::Expire,
            _ => {
                let fact = Fact::ALL[random.usize(0..5)];
                let some = &of[..random.usize(usize::from(fact == Fact::Created)..=2)];
                let mut heard = fact_with(fact, some);
                if fact == Fact::Delivered && random.bool() {
                    heard = shipment(&format!("s-{}", random.u8(0..3)), &of[..1]);
                }
                Action::Hear { heard, expires_at }
            }
        };
        steps.push((now, id, action));
    }
    for batch in steps.chunks(24) {
        let outcomes =
            join_all(batch.iter().map(|(now, id, action)| tables.apply(*now, id, action.clone()))).await;
        assert!(outcomes.iter().all(Result::is_ok), "seed {seed}: {outcomes:?}");
        conserved(&tables.dynamodb, &[("A", 12), ("B", 12)]).await;
    }
}
