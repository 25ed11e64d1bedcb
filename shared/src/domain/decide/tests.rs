//! `decide` against a stock kept in memory: no sequence breaks what must always hold
//! (`ARCHITECTURE.md`), and the order in which facts come does not matter.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::events;
use crate::domain::fixtures::{fact_with, lines, shipment, unit_key};
use crate::domain::stock::{Counter, Lack, StockUnit};
use crate::domain::{OrderId, ShipmentId};

const SECOND: i64 = 1_000;
const TTL: i64 = 900 * SECOND;
/// From when on the sweep may end a hold: five seconds after its time, for clocks that differ.
const MAY_END: i64 = TTL + 5 * SECOND;

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// A command, of one correlation id.
pub(crate) fn command(target: &Target, action: Action) -> Command {
    Command { target: target.clone(), correlation_id: "c".to_owned(), action }
}

/// The plan that was decided on.
pub(crate) fn expect_plan<R: std::fmt::Debug>(decision: Decision<R>) -> Plan {
    match decision {
        Decision::Plan(plan) => *plan,
        other => panic!("no plan, but {other:?}"),
    }
}

/// What a command writes that changes something.
pub(crate) fn plan_of(record: Option<&Reservation>, command: &Command, now: Timestamp) -> Plan {
    expect_plan(decide(&Seen::record_alone(record.cloned()), command, now))
}

/// A stock unit of which so many are available.
pub(super) fn stock_unit_of(name: &str, available: i64) -> StockUnit {
    let mut unit = StockUnit::empty(unit_key(name), at(0));
    unit.available = available.unsigned_abs();
    unit
}

/// What the store does, without a store: records, stock, and the loop around `decide`.
pub(super) struct World {
    pub(super) stock: BTreeMap<UnitKey, StockUnit>,
    records: BTreeMap<ReservationId, Reservation>,
    begun_with: i64,
    pub(super) now: i64,
    /// What was published of reservations.
    pub(super) published: Vec<events::Event>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Came {
    Committed,
    Unchanged,
    Short,
    Refused(Refusal),
}

impl World {
    pub(super) fn with_stock(stock: &[(&str, i64)]) -> Self {
        Self {
            stock: stock.iter().map(|&(product, n)| (unit_key(product), stock_unit_of(product, n))).collect(),
            records: BTreeMap::new(),
            begun_with: stock.iter().map(|&(_, n)| n).sum(),
            now: 0,
            published: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, order: &str, action: Action) -> Came {
        let order = Target::Order(OrderId::parse(order).unwrap());
        let (id, command) = (order.id(), command(&order, action));
        let mut seen = Seen::record_alone(self.records.get(&id).cloned());
        for _ in 0..6 {
            let plan = match decide(&seen, &command, at(self.now)) {
                Decision::Unchanged => return Came::Unchanged,
                Decision::Refuse(Refusal::Short(_)) => return Came::Short,
                Decision::Refuse(refusal) => return Came::Refused(refusal),
                Decision::Look(look) => panic!("everything was seen, but {look:?}"),
                Decision::Plan(plan) => *plan,
            };
            let next = plan.next_record().expect("the record is written whole");
            assert_eq!(next.version, self.records.get(&id).map_or(0, |r| r.version) + 1);
            let obstacles = plan.obstacles(&self.stock);
            let refusing: Vec<UnitKey> = obstacles.iter().map(|(one, _)| one.unit.clone()).collect();
            if refusing.is_empty() {
                self.commit(plan);
                self.check_invariants();
                return Came::Committed;
            }
            for unit in refusing {
                let there = self.stock.get(&unit).cloned();
                seen.learn_refusal(unit, there);
            }
        }
        panic!("a command found no outcome");
    }

    pub(super) fn hear(&mut self, order: &str, fact: Fact, of: &[(&str, u64)]) -> Came {
        self.hear_fact(order, fact_with(fact, of))
    }

    pub(super) fn hear_fact(&mut self, order: &str, heard: Heard) -> Came {
        let expires_at = Some(at(self.now + TTL));
        self.apply(order, Action::Hear { heard, expires_at })
    }

    pub(super) fn reserve(&mut self, order: &str, of: &[(&str, u64)]) -> Came {
        self.apply(order, Action::Reserve { lines: lines(of), expires_at: Some(at(self.now + TTL)) })
    }

    pub(super) fn release(&mut self, order: &str, reason: &str) -> Came {
        self.apply(order, Action::Release { reason: Reason::parse(reason).unwrap() })
    }

    pub(super) fn deduct(&mut self, order: &str) -> Came {
        self.apply(order, Action::Deduct { part: None })
    }

    pub(super) fn ship(&mut self, order: &str, id: Option<&str>, of: &[(&str, u64)]) -> Came {
        let id = id.map(|id| ShipmentId::parse(id).unwrap());
        self.apply(order, Action::Deduct { part: Some(Shipment { id, lines: lines(of) }) })
    }

    fn commit(&mut self, plan: Plan) {
        let units: std::collections::BTreeSet<&UnitKey> = plan.moves.iter().map(|one| &one.unit).collect();
        assert_eq!(units.len(), plan.moves.len(), "a transaction takes no item twice");
        plan.apply_to(&mut self.stock);
        let next = plan.next_record().expect("the record is written whole").clone();
        self.published.extend(events::events_of_reservation(self.records.get(&next.id), &next));
        self.records.insert(next.id, next);
    }

    /// `ARCHITECTURE.md`, "What always holds", 1 to 3.
    fn check_invariants(&self) {
        let mut allocated: BTreeMap<UnitKey, i64> = BTreeMap::new();
        for record in self.records.values() {
            for line in &record.lines {
                let due_to_be_held = if record.state.holds() { line.open_units() } else { 0 };
                assert_eq!(line.held_units(), due_to_be_held, "{record:?}");
                for a in &line.allocations {
                    *allocated.entry(line.key.unit(a.bucket)).or_default() += a.quantity.cast_signed();
                }
            }
        }
        for (key, unit) in &self.stock {
            assert_eq!(unit.reserved.cast_signed(), allocated.get(key).copied().unwrap_or(0), "{unit:?}");
        }
        let figures = |unit: &StockUnit| Counter::ALL.map(|counter| unit.counter(counter).cast_signed());
        let units: i64 = self.stock.values().flat_map(figures).sum();
        assert_eq!(units, self.begun_with, "units made or lost");
    }

    /// How often an event was published.
    pub(super) fn times_published(&self, name: &str) -> usize {
        self.published.iter().filter(|event| event.kind.name() == name).count()
    }

    pub(super) fn record(&self, order: &str) -> &Reservation {
        &self.records[&ReservationId::of(&OrderId::parse(order).unwrap())]
    }

    pub(super) fn state(&self, order: &str) -> State {
        self.record(order).state
    }

    /// All that is counted, without how it came about.
    pub(super) fn figures(&self) -> BTreeMap<UnitKey, [u64; 3]> {
        let figures = |unit: &StockUnit| Counter::ALL.map(|counter| unit.counter(counter));
        self.stock.iter().map(|(key, unit)| (key.clone(), figures(unit))).collect()
    }

    pub(super) fn units(&self, product: &str) -> [i64; 3] {
        let unit = &self.stock[&unit_key(product)];
        Counter::ALL.map(|counter| unit.counter(counter).cast_signed())
    }
}

pub(super) const TWO: &[(&str, u64)] = &[("A", 3), ("B", 1)];

pub(super) fn world() -> World {
    World::with_stock(&[("A", 10), ("B", 10)])
}

#[test]
fn reserve_confirm_deduct() {
    let mut w = world();
    assert_eq!(w.reserve("o", TWO), Came::Committed);
    assert_eq!(w.units("A"), [7, 3, 0]);
    assert_eq!(w.reserve("o", &[("B", 1), ("A", 1), ("A", 2)]), Came::Unchanged);
    assert_eq!(w.reserve("o", &[("A", 4)]), Came::Refused(Refusal::LinesDiffer));
    assert_eq!(w.apply("o", Action::Confirm), Came::Committed);
    assert_eq!(w.apply("o", Action::Confirm), Came::Unchanged);
    assert_eq!(w.deduct("o"), Came::Committed);
    assert_eq!(w.deduct("o"), Came::Unchanged);
    assert_eq!(w.release("o", "requested"), Came::Refused(Refusal::Fulfilled));
    assert_eq!(w.units("A"), [7, 0, 3]);
    assert_eq!(w.state("o"), State::Fulfilled);
}

/// Where nothing was seen, what begins a record and a confirm are guesses; everything else looks at the record first.
#[test]
fn what_is_guessed_and_what_is_looked_at() {
    let order = Target::Order(OrderId::parse("o").unwrap());
    let id = order.id();
    let decided = |seen: &Seen, action| decide(seen, &command(&order, action), at(0));
    let reserve = || Action::Reserve { lines: lines(TWO), expires_at: None };
    let created = || Action::Hear { heard: fact_with(Fact::Created, TWO), expires_at: None };
    let nothing = Seen::default();
    for begins in [reserve(), created()] {
        assert_eq!(expect_plan(decided(&nothing, begins)).next_record().unwrap().version, 1);
    }
    let confirm = expect_plan(decided(&nothing, Action::Confirm));
    assert_eq!((confirm.record, confirm.moves), (Some(RecordWrite::Confirm(id)), vec![]));
    let paid = || Action::Hear { heard: Heard::Paid, expires_at: None };
    let release = || Action::Release { reason: Reason::requested() };
    for looks in [release(), Action::Deduct { part: None }, Action::Extend { expires_at: at(1) }, paid()] {
        assert_eq!(decided(&nothing, looks), Decision::Look(Look::Record(id)));
    }
    let mut hidden = Seen::default();
    hidden.learn_hidden_record();
    for action in [reserve(), created(), Action::Confirm, release()] {
        assert_eq!(decided(&hidden, action), Decision::Look(Look::Record(id)));
    }
}

/// What the stock lacked is said by the stock unit that was seen, each by the newest; another record asks anew.
#[test]
fn short_is_said_of_what_was_seen() {
    let order = Target::Order(OrderId::parse("o").unwrap());
    let command = command(&order, Action::Reserve { lines: lines(TWO), expires_at: None });
    let short = |seen: &Seen| match decide(seen, &command, at(0)) {
        Decision::Refuse(Refusal::Short(shortages)) => {
            shortages.into_iter().map(|s| (s.unit.product.to_string(), s.requested, s.lack)).collect()
        }
        _ => Vec::new(),
    };
    let mut seen = Seen::default();
    seen.learn_refusal(unit_key("A"), Some(stock_unit_of("A", 2)));
    assert_eq!(short(&seen), [("A".to_owned(), 3, Lack::Short { available: 2 })]);
    seen.learn_refusal(unit_key("A"), Some(stock_unit_of("A", 1)));
    seen.learn_refusal(unit_key("B"), None);
    let both = [("A".to_owned(), 3, Lack::Short { available: 1 }), ("B".to_owned(), 1, Lack::Unknown)];
    assert_eq!(short(&seen), both);
    seen.learn_refusal(unit_key("A"), Some(stock_unit_of("A", 3)));
    assert_eq!(short(&seen), both[1..]);
    let mut limited = stock_unit_of("B", 9);
    limited.max_per_order = Some(0);
    seen.learn_refusal(unit_key("B"), Some(limited));
    assert_eq!(short(&seen), [("B".to_owned(), 1, Lack::OverLimit { max_per_order: 0 })]);
    seen.learn_record(None);
    assert_eq!(short(&seen), []);
}

/// Scenario 31: one line short, nothing held.
#[test]
fn all_or_nothing() {
    let mut w = world();
    assert_eq!(w.reserve("o", &[("A", 1), ("B", 11)]), Came::Short);
    assert_eq!(w.units("A"), [10, 0, 0]);
    assert!(w.records.is_empty());
}

/// Scenario 19.
#[test]
fn a_confirm_after_expiry_is_refused_swept_or_not() {
    let mut w = world();
    w.reserve("o", TWO);
    assert_eq!(w.apply("o", Action::Expire), Came::Unchanged);
    w.now = TTL;
    assert_eq!(w.apply("o", Action::Confirm), Came::Refused(Refusal::Expired));
    assert_eq!(w.reserve("o", TWO), Came::Refused(Refusal::Expired));
    assert_eq!(w.record("o").state_at(at(w.now)), State::Expired);
    w.now = MAY_END;
    assert_eq!(w.apply("o", Action::Expire), Came::Committed);
    assert_eq!(w.apply("o", Action::Expire), Came::Unchanged);
    assert_eq!(w.apply("o", Action::Confirm), Came::Refused(Refusal::Expired));
    assert_eq!(w.units("A"), [10, 0, 0]);
}

/// Scenario 61: the sweep's clock may be five seconds ahead. Until it shows that much past a hold's time the hold reads
/// as expired and keeps its stock, and what the customer did in time, by the other clock, still counts.
#[test]
fn a_clock_that_is_ahead_ends_no_hold_before_its_time() {
    for ahead in [0, SECOND, 5 * SECOND] {
        let mut w = world();
        w.reserve("o", TWO);
        w.now = TTL - 1 + ahead;
        assert_eq!(w.apply("o", Action::Expire), Came::Unchanged, "{ahead} ms ahead");
        w.now = TTL - 1;
        assert_eq!(w.apply("o", Action::Confirm), Came::Committed);
    }
    let mut w = world();
    w.reserve("o", TWO);
    w.now = MAY_END - 1;
    assert_eq!(w.apply("o", Action::Expire), Came::Unchanged);
    assert_eq!(w.record("o").state_at(at(w.now)), State::Expired);
    for action in [Action::Confirm, Action::Deduct { part: None }, Action::Extend { expires_at: at(2 * TTL) }]
    {
        assert_eq!(w.apply("o", action), Came::Refused(Refusal::Expired));
    }
    assert_eq!(w.units("A"), [7, 3, 0]);
    w.now = MAY_END;
    assert_eq!(w.apply("o", Action::Expire), Came::Committed);
    assert_eq!(w.units("A"), [10, 0, 0]);
}

/// Scenario 4 and 16: a request given up leaves a tombstone that a late reserve meets.
#[test]
fn released_before_reserved_holds_nothing() {
    let mut w = world();
    assert_eq!(w.release("o", "customer_left"), Came::Committed);
    assert_eq!(w.state("o"), State::Pending);
    let reason = Reason::parse("customer_left").unwrap();
    assert_eq!(w.reserve("o", TWO), Came::Refused(Refusal::Released { reason: reason.clone() }));
    assert_eq!(w.apply("o", Action::Confirm), Came::Refused(Refusal::Released { reason: reason.clone() }));
    assert_eq!(w.hear("o", Fact::Created, TWO), Came::Committed);
    assert_eq!((w.state("o"), w.record("o").reason.clone()), (State::Released, Some(reason)));
    assert_eq!(w.units("A"), [10, 0, 0]);
}

/// Scenario 17.
#[test]
fn cancelled_twice_and_payment_failed_is_released_once() {
    let mut w = world();
    w.reserve("o", TWO);
    assert_eq!(w.release("o", "payment_failed"), Came::Committed);
    assert_eq!(w.release("o", "payment_failed"), Came::Unchanged);
    assert_eq!(w.release("o", "order_cancelled"), Came::Committed);
    assert_eq!(w.release("o", "order_cancelled"), Came::Unchanged);
    assert_eq!(w.release("o", "payment_failed"), Came::Unchanged);
    assert_eq!(w.units("A"), [10, 0, 0]);
    assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Committed);
    assert_eq!(w.state("o"), State::Released, "cancelled, so a refund is due and nothing moves");
    assert_eq!(w.units("A"), [10, 0, 0]);
}

/// Scenario 18.
#[test]
fn paid_before_created_is_born_confirmed() {
    for by_request in [true, false] {
        let mut w = world();
        assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Committed);
        assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Unchanged);
        assert_eq!(w.apply("o", Action::Confirm), Came::Refused(Refusal::NotFound));
        if by_request {
            w.reserve("o", TWO)
        } else {
            w.hear("o", Fact::Created, TWO)
        };
        assert_eq!(w.state("o"), State::Confirmed);
        assert_eq!(w.hear("o", Fact::Created, TWO), Came::Unchanged);
        assert_eq!(w.units("A"), [7, 3, 0]);
    }
}

#[test]
fn a_payment_that_failed_does_not_undo_one_that_succeeded() {
    let mut w = world();
    w.reserve("o", TWO);
    w.apply("o", Action::Confirm);
    assert_eq!(w.hear("o", Fact::PaymentFailed, &[]), Came::Committed);
    assert_eq!(w.state("o"), State::Confirmed);
    assert_eq!(w.release("o", "payment_failed"), Came::Refused(Refusal::Confirmed));
    assert_eq!(w.release("o", "requested"), Came::Committed);
    assert_eq!(w.units("A"), [10, 0, 0]);
}

#[test]
fn paid_after_expiry_takes_the_stock_again_if_it_is_there() {
    let mut w = world();
    w.reserve("o", TWO);
    w.now = MAY_END;
    w.apply("o", Action::Expire);
    assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Committed);
    assert_eq!(w.state("o"), State::Confirmed);
    assert_eq!(w.units("A"), [7, 3, 0]);

    let mut w = world();
    w.reserve("o", TWO);
    w.now = MAY_END;
    w.apply("o", Action::Expire);
    w.reserve("other", &[("B", 10)]);
    assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Committed);
    assert_eq!(w.state("o"), State::Expired);
    assert_eq!(w.record("o").shortages.len(), 1, "a paid order is never short in silence");
    assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Unchanged);
}

#[test]
fn an_order_that_does_not_fit_is_rejected_and_not_guessed_again() {
    let mut w = world();
    assert_eq!(w.hear("o", Fact::Created, &[("A", 11), ("NOPE", 1)]), Came::Committed);
    assert_eq!(w.state("o"), State::Rejected);
    assert_eq!(w.record("o").shortages.len(), 2);
    w.stock.insert(unit_key("A"), stock_unit_of("A", 100));
    w.begun_with += 90;
    assert_eq!(w.hear("o", Fact::Created, &[("A", 11), ("NOPE", 1)]), Came::Unchanged);
    assert_eq!(w.hear("o", Fact::Created, &[("A", 1)]), Came::Committed, "it is noted, and changes nothing");
    assert_eq!(w.hear("o", Fact::Created, &[("A", 1)]), Came::Unchanged);
    assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Committed);
    assert_eq!(w.state("o"), State::Rejected);
}

#[test]
fn delivered_takes_what_is_there_and_names_what_is_missing() {
    let mut w = world();
    assert_eq!(w.hear("o", Fact::Delivered, &[("A", 12), ("B", 2)]), Came::Committed);
    assert_eq!(w.state("o"), State::Fulfilled);
    assert_eq!((w.units("A"), w.units("B")), ([0, 0, 10], [8, 0, 2]));
    assert_eq!(w.record("o").lines[0].missing, 2);
    assert_eq!(w.hear("o", Fact::Delivered, &[("A", 12)]), Came::Unchanged);

    // The lines may come with the order, or with the other name of the same fact.
    for brings_lines in [Fact::Created, Fact::Delivered] {
        let mut w = world();
        w.hear("o", Fact::Delivered, &[]);
        assert_eq!(w.state("o"), State::Pending);
        assert_eq!(w.hear("o", brings_lines, TWO), Came::Committed);
        assert_eq!((w.state("o"), w.units("A")), (State::Fulfilled, [7, 0, 3]));
        assert_eq!(w.hear("o", Fact::Created, &[("A", 1)]), Came::Committed);
        assert_eq!((w.units("A"), w.record("o").conflicts.count), ([7, 0, 3], 1));
    }
}

#[test]
fn a_reason_is_that_of_the_strongest_fact() {
    let mut w = world();
    w.release("o", "payment_failed");
    w.hear("o", Fact::Cancelled, &[]);
    w.hear("o", Fact::Created, TWO);
    assert_eq!(w.record("o").reason, Some(Reason::order_cancelled()));
    let mut w = world();
    w.release("o", "payment_failed");
    w.hear("o", Fact::Paid, &[]);
    w.hear("o", Fact::Created, TWO);
    assert_eq!((w.state("o"), w.record("o").reason.clone()), (State::Confirmed, None));
}

/// Scenario 22 for a part shipment.
#[test]
fn part_shipments_leave_once_each() {
    let mut w = world();
    w.reserve("o", TWO);
    let one: &[(&str, u64)] = &[("A", 1)];
    assert_eq!(w.ship("o", None, one), Came::Committed);
    assert_eq!(w.ship("o", None, one), Came::Unchanged);
    assert_eq!(w.ship("o", Some("second"), one), Came::Committed);
    assert_eq!(w.ship("o", Some("second"), one), Came::Unchanged);
    assert_eq!(w.ship("o", Some("second"), TWO), Came::Refused(Refusal::ShipmentDiffers));
    assert_eq!((w.state("o"), w.units("A")), (State::Reserved, [7, 1, 2]));
    let too_much = w.ship("o", Some("third"), &[("A", 2)]);
    assert_eq!(too_much, Came::Refused(Refusal::NotHeld { unit: unit_key("A"), requested: 2, held: 1 }));
    let unknown = w.ship("o", Some("third"), &[("C", 2)]);
    assert_eq!(unknown, Came::Refused(Refusal::NotHeld { unit: unit_key("C"), requested: 2, held: 0 }));
    assert_eq!(w.ship("o", Some("third"), &[("A", 1), ("B", 1)]), Came::Committed);
    assert_eq!(w.state("o"), State::Fulfilled);
    assert_eq!(w.ship("o", None, one), Came::Unchanged);
    assert_eq!(w.deduct("o"), Came::Unchanged);
}

/// Where a line is held in several buckets, a part leaves the first ones first.
#[test]
fn a_part_shipment_over_buckets() {
    let mut w = world();
    w.reserve("o", &[("A", 6)]);
    let mut record = w.record("o").clone();
    let in_bucket = |bucket, quantity| Allocation { bucket, quantity };
    record.lines[0].allocations = vec![in_bucket(0, 2), in_bucket(1, 4)];
    let ships = |record: &Reservation, quantity| {
        let part = Some(Shipment { id: None, lines: lines(&[("A", quantity)]) });
        let deduct = command(&Target::Reservation(record.id), Action::Deduct { part });
        plan_of(Some(record), &deduct, at(0))
    };
    let moved = |plan: &Plan| -> Vec<(u32, i64)> {
        plan.moves.iter().map(|one| (one.unit.bucket, one.delta().sold)).collect()
    };
    let first = ships(&record, 5);
    let next = first.next_record().unwrap();
    assert_eq!(moved(&first), [(0, 2), (1, 3)]);
    assert_eq!(next.lines[0].allocations, [in_bucket(1, 1)]);
    let rest = ships(next, 1);
    assert_eq!((moved(&rest), rest.next_record().unwrap().state), (vec![(1, 1)], State::Fulfilled));
    assert_eq!(rest.next_record().unwrap().lines[0].allocations, []);
}

/// The purchase limit is checked against what the whole order asks for, over all locations; not again for an
/// order that had its stock before.
#[test]
fn the_whole_order_counts_for_the_limit() {
    let lines = lines(&[("A@x", 3), ("A@y", 4), ("B@x", 2)]);
    let order = Target::Order(OrderId::parse("o").unwrap());
    let decided = |seen: Option<&Reservation>, action, now| plan_of(seen, &command(&order, action), at(now));
    let limit = |one: &Move| {
        one.guards.iter().find_map(|guard| if let Guard::Limit(n) = guard { Some(*n) } else { None })
    };
    let ordered = |plan: &Plan| -> Vec<Option<u64>> { plan.moves.iter().map(limit).collect() };
    let held = decided(None, Action::Reserve { lines, expires_at: Some(at(TTL)) }, 0);
    assert_eq!(ordered(&held), [Some(7), Some(7), Some(2)]);
    let ended = decided(held.next_record(), Action::Expire, MAY_END);
    assert_eq!(ordered(&ended), [None; 3]);
    let paid = Action::Hear { heard: Heard::Paid, expires_at: None };
    assert_eq!(ordered(&decided(ended.next_record(), paid, MAY_END)), [None; 3]);
}

/// They stand in ledgers and logs.
#[test]
fn actions_keep_their_names() {
    let hear = |fact| Action::Hear { heard: fact_with(fact, TWO), expires_at: None };
    let all = [
        Action::Reserve { lines: lines(TWO), expires_at: None },
        Action::Confirm,
        Action::Release { reason: Reason::order_cancelled() },
        Action::Deduct { part: None },
        Action::Extend { expires_at: at(0) },
        Action::Expire,
        hear(Fact::Created),
        hear(Fact::PaymentFailed),
    ];
    let names = ["reserve", "confirm", "release", "deduct", "extend", "expire", "created", "paymentFailed"];
    assert_eq!(all.map(|action| action.name()), names);
}

#[test]
fn what_is_left_after_a_part_shipment_comes_back() {
    let mut w = world();
    w.reserve("o", TWO);
    w.ship("o", None, &[("A", 2)]);
    w.now = MAY_END;
    assert_eq!(w.apply("o", Action::Expire), Came::Committed);
    assert_eq!((w.units("A"), w.units("B")), ([8, 0, 2], [10, 0, 0]));
    assert_eq!(w.hear("o", Fact::Paid, &[]), Came::Committed);
    assert_eq!((w.units("A"), w.units("B")), ([7, 1, 2], [9, 1, 0]));
}

#[test]
fn extend_never_shortens_and_never_revives() {
    let mut w = world();
    w.reserve("o", TWO);
    assert_eq!(w.apply("o", Action::Extend { expires_at: at(TTL - 1) }), Came::Unchanged);
    assert_eq!(w.apply("o", Action::Extend { expires_at: at(2 * TTL) }), Came::Committed);
    w.now = TTL;
    assert_eq!(w.apply("o", Action::Expire), Came::Unchanged);
    w.now = 2 * TTL;
    assert_eq!(w.apply("o", Action::Extend { expires_at: at(3 * TTL) }), Came::Refused(Refusal::Expired));
    w.now = TTL + MAY_END;
    assert_eq!(w.apply("o", Action::Expire), Came::Committed);
    assert_eq!(w.apply("o", Action::Extend { expires_at: at(3 * TTL) }), Came::Refused(Refusal::Expired));
}

#[test]
fn nothing_is_known_of_an_order_that_never_came() {
    let mut w = world();
    for action in
        [Action::Confirm, Action::Deduct { part: None }, Action::Extend { expires_at: at(1) }, Action::Expire]
    {
        assert_eq!(w.apply("o", action), Came::Refused(Refusal::NotFound));
    }
    let by_id_alone = Target::Reservation(ReservationId::of(&OrderId::parse("o").unwrap()));
    let by_id_alone = command(&by_id_alone, Action::Release { reason: Reason::requested() });
    assert_eq!(decide(&Seen::record_alone(None), &by_id_alone, at(0)), Decision::Refuse(Refusal::NotFound));
}

const FACTS: [Fact; 5] = [Fact::Created, Fact::Paid, Fact::PaymentFailed, Fact::Cancelled, Fact::Delivered];

/// What the set of facts makes of an order when there is stock, written down apart from `decide`.
fn expected(facts: &[Fact]) -> (State, [i64; 3]) {
    let heard = |fact| facts.contains(&fact);
    if !heard(Fact::Created) {
        (State::Pending, [10, 0, 0])
    } else if heard(Fact::Delivered) {
        (State::Fulfilled, [7, 0, 3])
    } else if heard(Fact::Cancelled) {
        (State::Released, [10, 0, 0])
    } else if heard(Fact::Paid) {
        (State::Confirmed, [7, 3, 0])
    } else if heard(Fact::PaymentFailed) {
        (State::Released, [10, 0, 0])
    } else {
        (State::Reserved, [7, 3, 0])
    }
}

/// Every sequence in which no element of `left` is used more often than it is there.
fn sequences(left: &mut [u8; 5], so_far: &mut Vec<Fact>, each: &mut impl FnMut(&[Fact])) {
    each(so_far);
    for i in 0..FACTS.len() {
        if left[i] > 0 {
            left[i] -= 1;
            so_far.push(FACTS[i]);
            sequences(left, so_far, each);
            so_far.pop();
            left[i] += 1;
        }
    }
}

fn check_outcome(facts: &[Fact]) {
    let mut w = world();
    for fact in facts {
        w.hear("o", *fact, if *fact == Fact::Created { TWO } else { &[] });
    }
    if facts.is_empty() {
        return;
    }
    assert_eq!((w.state("o"), w.units("A")), expected(facts), "{facts:?}");
}

/// Scenario 50: each of the five facts once in every order, and every subset, and each pair of
/// repetitions.
#[test]
fn every_order_of_facts_ends_the_same() {
    let mut runs = 0;
    for twice in 0..FACTS.len() {
        let mut left = [1; 5];
        left[twice] = 2;
        sequences(&mut left, &mut Vec::new(), &mut |facts| {
            check_outcome(facts);
            runs += 1;
        });
    }
    assert!(runs > 5_000, "{runs} sequences");
}

fn action() -> impl Strategy<Value = Action> {
    let of = prop_oneof![
        Just(vec![("A", 1)]),
        Just(vec![("A", 2), ("B", 1)]),
        Just(vec![("B", 3)]),
        Just(vec![("A", 1), ("NOPE", 1)]),
    ];
    let ttl = (0..3 * TTL).prop_map(at);
    let reason = prop_oneof![Just(Reason::payment_failed()), Just(Reason::requested())];
    let id = prop_oneof![Just(None), "[ab]".prop_map(|id| Some(ShipmentId::parse(id).unwrap()))];
    let facts = proptest::sample::select(FACTS.to_vec());
    prop_oneof![
        4 => (of.clone(), proptest::option::of(ttl.clone())).prop_map(|(of, expires_at)| Action::Reserve { lines: lines(&of), expires_at }),
        2 => Just(Action::Confirm),
        2 => reason.prop_map(|reason| Action::Release { reason }),
        1 => Just(Action::Deduct { part: None }),
        2 => (id, of.clone()).prop_map(|(id, of)| Action::Deduct { part: Some(Shipment { id, lines: lines(&of) }) }),
        1 => ttl.clone().prop_map(|expires_at| Action::Extend { expires_at }),
        2 => Just(Action::Expire),
        6 => (facts, proptest::option::of(of.clone()), ttl.clone()).prop_map(|(fact, of, ttl)| {
            let of = of.unwrap_or(if fact == Fact::Created { vec![("A", 1)] } else { Vec::new() });
            Action::Hear { heard: fact_with(fact, &of), expires_at: Some(ttl) }
        }),
        2 => ("[ab]", of, ttl).prop_map(|(id, of, ttl)| {
            Action::Hear { heard: shipment(&id, &of), expires_at: Some(ttl) }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Every order of the facts, each up to three times.
    #[test]
    fn facts_may_repeat_and_shuffle(
        facts in proptest::sample::subsequence(FACTS.repeat(3), 1..=15).prop_shuffle(),
    ) {
        check_outcome(&facts);
    }

    /// `World::holds` looks after every commit; commands that repeat move nothing.
    #[test]
    fn no_sequence_breaks_an_invariant(
        a in 0_i64..6,
        b in 0_i64..6,
        steps in proptest::collection::vec((0_i64..TTL, "[xyz]", action()), 1..40),
    ) {
        let mut w = World::with_stock(&[("A", a), ("B", b)]);
        for (pause, order, action) in steps {
            w.now += pause;
            let first = w.apply(&order, action.clone());
            let stock = w.stock.clone();
            if first == Came::Committed {
                let again = w.apply(&order, action);
                prop_assert!(matches!(again, Came::Unchanged | Came::Refused(_)), "{again:?}");
                prop_assert_eq!(stock, w.stock.clone(), "applied twice");
            }
        }
    }

    /// The confirm that does not read first decides as the one that does.
    #[test]
    fn a_confirm_unread_is_the_same_confirm(
        steps in proptest::collection::vec((0_i64..TTL, action()), 1..12),
    ) {
        let mut w = World::with_stock(&[("A", 4), ("B", 4)]);
        for (pause, action) in steps {
            w.now += pause;
            w.apply("o", action);
        }
        if let Some(record) = w.records.values().next().cloned() {
            let unread = may_confirm_unread(&record, at(w.now));
            prop_assert_eq!(w.apply("o", Action::Confirm) == Came::Committed, unread);
        }
    }
}
