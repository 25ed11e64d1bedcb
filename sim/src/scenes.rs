//! Small runs around one operation: what the fault matrix and the crash points are made of.

use shared::domain::Fact;

use crate::faults::{Fault, Mix, Planned, source};
use crate::ops::{Ask, Change, Kind, Op};
use crate::run::Case;

/// The number of the operation in the middle.
const TARGET: u32 = 100;
/// When it happens, in milliseconds: late enough for a sweep to end a hold of one second, with the margin for clocks.
const WHEN: u64 = 8_000;

/// One operation, what goes before it, and what AWS calls it makes.
pub struct Scene {
    /// Its name in tables.
    pub name: &'static str,
    /// The AWS operations that it calls.
    pub calls: &'static [&'static str],
    /// About how many calls it makes, where it is a row of the matrix; the others are for crash points only.
    pub depth: Option<u32>,
    before: fn() -> Vec<Kind>,
    target: fn() -> Kind,
}

fn lines() -> Vec<(String, u64)> {
    vec![("P0".to_owned(), 2), ("P1".to_owned(), 1)]
}

fn order() -> String {
    "order".to_owned()
}

fn reserve(ttl: u64) -> Kind {
    Kind::Ask(order(), Ask::Reserve(lines(), Some(ttl)))
}

fn ask(ask: Ask) -> Kind {
    Kind::Ask(order(), ask)
}

fn hear(fact: Fact) -> Kind {
    Kind::OrderEvent { order: order(), fact, lines: lines(), shipment: None, copies: 1 }
}

/// Not all that was ordered, and not the same.
fn hear_less(fact: Fact, shipment: Option<&'static str>) -> Kind {
    Kind::OrderEvent { order: order(), fact, lines: vec![("P0".to_owned(), 1)], shipment, copies: 1 }
}

fn stock(change: Change) -> Kind {
    Kind::Stock("P0".to_owned(), change)
}

const TRANSACT: &[&str] = &["TransactWriteItems"];
const TRANSACT_READ: &[&str] = &["TransactWriteItems", "GetItem"];
const READ_TRANSACT: &[&str] = &["GetItem", "TransactWriteItems"];
const TRANSACT_PUT: &[&str] = &["TransactWriteItems", "PutItem"];
const READ_PUT: &[&str] = &["GetItem", "PutItem"];

macro_rules! scenes {
    ($($name:literal, $calls:expr, $depth:expr; [$($before:expr),*] => $target:expr;)*) => {
        &[$(Scene {
            name: $name, calls: $calls, depth: $depth, before: || vec![$($before),*], target: || $target,
        }),*]
    };
}

/// All of them.
pub const SCENES: &[Scene] = scenes! {
    "reserve", TRANSACT, Some(1); [] => reserve(600);
    "confirm", &["UpdateItem"], Some(1); [reserve(600)] => ask(Ask::Confirm);
    "release", READ_TRANSACT, Some(2); [reserve(600)] => ask(Ask::Release("requested"));
    "deduct", READ_TRANSACT, Some(2); [reserve(600)] => ask(Ask::Deduct(None));
    "extend", READ_PUT, Some(2); [reserve(600)] => ask(Ask::Extend(900));
    "add", TRANSACT_READ, Some(2); [] => stock(Change::Add(3));
    "adjust", TRANSACT_READ, Some(2); [] => stock(Change::Adjust(-2));
    "audit", READ_TRANSACT, Some(3); [] => stock(Change::Audit(17));
    "update", TRANSACT_READ, Some(2); [] => stock(Change::Update(Some(7)));
    "hear-created", TRANSACT, Some(1); [] => hear(Fact::Created);
    "hear-paid", READ_PUT, Some(2); [reserve(600)] => hear(Fact::Paid);
    "hear-cancelled", READ_TRANSACT, Some(2); [reserve(600)] => hear(Fact::Cancelled);
    "hear-delivered", READ_TRANSACT, Some(2); [reserve(600)] => hear(Fact::Delivered);
    "sweep", &["Query", "BatchGetItem", "TransactWriteItems"], Some(20);
        [reserve(1), Kind::Ask("other".to_owned(), Ask::Reserve(lines(), Some(1)))] => Kind::Sweep(None);
    "publish", &["PutEvents", "BatchWriteItem", "GetItem", "TransactWriteItems"], Some(8);
        [reserve(600), stock(Change::Adjust(-16)), ask(Ask::Confirm)] => Kind::Publish;
    "create", TRANSACT_READ, None; [] => Kind::Stock("P9".to_owned(), Change::Create(7, Some(3)));
    "part-shipment", READ_TRANSACT, None;
        [reserve(600)] => ask(Ask::Deduct(Some(vec![("P0".to_owned(), 1)])));
    "release-unknown", READ_PUT, None; [] => ask(Ask::Release("requested"));
    "reserve-after-paid", TRANSACT, None; [hear(Fact::Paid)] => reserve(600);
    "reserve-too-much", TRANSACT, None; [stock(Change::Adjust(-19))] => reserve(600);
    "confirm-unknown", &["UpdateItem"], None; [] => ask(Ask::Confirm);
    "hear-created-too-much", TRANSACT, None; [stock(Change::Adjust(-19))] => hear(Fact::Created);
    "hear-cancelled-first", READ_PUT, None; [] => hear(Fact::Cancelled);
    "hear-delivered-first", READ_TRANSACT, None; [] => hear(Fact::Delivered);
    "hear-delivered-less", READ_TRANSACT, None; [reserve(600)] => hear_less(Fact::Delivered, None);
    "hear-shipment", READ_TRANSACT, None; [reserve(600)] => hear_less(Fact::Delivered, Some("s-1"));
    "hear-created-otherwise", TRANSACT_PUT, None; [reserve(600)] => hear_less(Fact::Created, None);
    "hear-payment-failed", READ_TRANSACT, None; [reserve(600)] => hear(Fact::PaymentFailed);
    "hear-paid-after-failed", READ_TRANSACT, None;
        [reserve(600), ask(Ask::Release("payment_failed"))] => hear(Fact::Paid);
};

impl Scene {
    /// The label of the invocation in the middle.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match (self.target)() {
            Kind::Ask(..) | Kind::Stock(..) => "o100.1",
            Kind::OrderEvent { .. } => "q1",
            Kind::Sweep(_) => "s100",
            Kind::Publish => "p1",
        }
    }

    /// Whether a fault can happen to it; if not, why.
    ///
    /// # Errors
    /// The reason.
    pub fn takes(&self, fault: Fault) -> Result<(), &'static str> {
        if self.calls.iter().any(|operation| fault.applies_to(operation, *operation == "Query")) {
            return Ok(());
        }
        Err(match fault {
            Fault::InProgress => "writes no transaction",
            Fault::Stale => "reads no index",
            Fault::Partial => "sends no batch",
            _ => "makes no such call",
        })
    }

    /// The run, without a fault. `noise` lets others work on the same product meanwhile.
    #[must_use]
    pub fn case(&self, seed: u64, noise: bool) -> Case {
        let kinds = (self.before)();
        let mut ops: Vec<Op> =
            (0_u32..).zip(kinds).map(|(id, kind)| Op { id, at: u64::from(id) * 600, kind }).collect();
        let told_before = ops.iter().any(|op| matches!(op.kind, Kind::OrderEvent { .. }));
        let when = if told_before { WHEN + 10_000 } else { WHEN };
        ops.push(Op { id: TARGET, at: when, kind: (self.target)() });
        if noise {
            let mut rng = source(seed, "noise", 0);
            for id in TARGET + 1..TARGET + 1 + rng.u32(0..4) {
                let kind = match rng.u8(0..4) {
                    0 => Kind::Stock("P0".to_owned(), Change::Add(rng.u64(1..5))),
                    1 => Kind::Ask(order(), Ask::Reserve(lines(), Some(600))),
                    _ => Kind::Ask(format!("noise-{id}"), Ask::Reserve(lines(), Some(600))),
                };
                ops.push(Op { id, at: when - 10 + rng.u64(0..3_000), kind });
            }
        }
        let products = vec![("P0".to_owned(), 20, None), ("P1".to_owned(), 20, None)];
        let mix = Mix { units_a_second: 1_000, ..Mix::default() };
        Case { seed, products, ops, mix, skew_ms: 0, combines: false }
    }

    /// The same run with a fault at the `nth` call that it can happen to.
    #[must_use]
    pub fn with(&self, seed: u64, noise: bool, nth: u32, fault: Fault, lasting: bool) -> Case {
        let mut case = self.case(seed, noise);
        case.mix.planned = vec![Planned { label: self.label().to_owned(), nth, fault, lasting }];
        case
    }
}
