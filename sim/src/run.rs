//! One run: a world, what is done in it, and whether it holds afterwards.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::faults::{Fired, Mix, SETUP, source};
use crate::history::Violation;
use crate::ops::{Change, Kind, Op, Request, event, random};
use crate::world::{Sent, Try, World};
use crate::{answers, checks, ends};

/// How often a client tries before it gives up.
const TRIES: u32 = 6;
/// How long a message may be on its way, in milliseconds.
const ON_ITS_WAY_MS: u64 = 8_000;
/// Longer than every hold and every difference of clocks.
const LONG: Duration = Duration::from_secs(60 * 60);

/// A run, before it has run.
#[derive(Debug, Clone)]
pub struct Case {
    /// The seed of everything random.
    pub seed: u64,
    /// The products, with their first stock and purchase limits.
    pub products: Vec<(String, u64, Option<u64>)>,
    /// The operations.
    pub ops: Vec<Op>,
    /// The faults.
    pub mix: Mix,
    /// By how much clocks are off at most, in milliseconds.
    pub skew_ms: i64,
    /// Whether processes have many requests at once, which share transactions.
    pub combines: bool,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Rules that were broken.
    pub violations: Vec<Violation>,
    /// The trace, line by line.
    pub trace: Vec<String>,
    /// How often each fault happened.
    pub fired: Fired,
    /// Requests to AWS.
    pub requests: u64,
    /// How many calls each invocation made.
    pub calls: BTreeMap<String, u32>,
    /// The calls that something happened to by chance.
    pub chances: Vec<(String, u32)>,
    /// The requests over HTTP and their answers.
    pub tries: Vec<Try>,
    /// Answers by kind.
    pub answers: BTreeMap<String, u64>,
    /// Writes that landed after a refusal that followed a try without an answer: a known limitation.
    pub landed_late: u64,
    /// Whether all of its checks were made: false for a history that is too long.
    pub judged: bool,
    /// How it ended: figures of stock, states of orders, ids of events.
    pub end: Vec<String>,
}

impl Case {
    /// A random one.
    #[must_use]
    pub fn random(seed: u64, ops: u32) -> Self {
        let mut rng = source(seed, "case", 0);
        let count = rng.usize(2..=4);
        let limit = |rng: &mut Rng| (rng.u8(0..6) == 0).then_some(3);
        let products: Vec<_> =
            (0..count).map(|i| (format!("P{i}"), rng.u64(2..20), limit(&mut rng))).collect();
        let names: Vec<String> = products.iter().map(|(name, ..)| name.clone()).collect();
        let per_mille = [0, 10, 40, 120, 250][rng.usize(0..5)];
        let units_a_second = if rng.u8(0..6) == 0 { rng.u32(8..40) } else { 1_000 };
        let skew_ms = [0, 1_000, 300_000][rng.usize(0..3)];
        let mix = Mix { per_mille, units_a_second, ..Mix::default() };
        // Drawn apart from the rest, which stays as it was.
        let combines = source(seed, "combines", 0).bool();
        Self { seed, products, ops: random(seed, ops, &names), mix, skew_ms, combines }
    }
}

/// Runs it.
#[must_use]
pub fn run(case: &Case) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|e| panic!("a runtime: {e}"));
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, run_case(case));
    drop(local);
    report
}

async fn run_case(case: &Case) -> Report {
    let world = World::begin(case.seed, case.mix.clone(), case.skew_ms, case.combines).await;
    for (i, (product, quantity, limit)) in case.products.iter().enumerate() {
        let request = Change::Create(*quantity, *limit).request(product);
        let label = format!("{SETUP}{i}");
        let answer = world.http(u32::MAX, &label, &request, Some(&label)).await;
        if answer.is_none_or(|(status, _)| status != 201) {
            world.broken("setup", format!("{product} was not created"));
        }
    }
    act_at_once(&world, &case.ops).await;
    settle(&world).await;
    make_report(case, &world)
}

/// Everybody does what they do, at the same time.
async fn act_at_once(world: &Rc<World>, ops: &[Op]) {
    let mut actors = JoinSet::new();
    for op in ops {
        let (world, op) = (Rc::clone(world), op.clone());
        actors.spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(op.at)).await;
            perform(&world, &op).await;
        });
    }
    let poller = tokio::task::spawn_local(poll_queue(Rc::clone(world)));
    while let Some(ended) = actors.join_next().await {
        if let Err(error) = ended {
            world.broken("panic", error.to_string());
        }
    }
    // What was sent is received once at least while things go wrong.
    tokio::time::sleep(Duration::from_millis(ON_ITS_WAY_MS + 2_000)).await;
    poller.abort();
    drop(poller.await);
}

async fn perform(world: &Rc<World>, op: &Op) {
    match &op.kind {
        Kind::Ask(order, ask) => call_as_client(world, op, &ask.request(order), None).await,
        Kind::Stock(product, change) => {
            let key = format!("k{}", op.id);
            call_as_client(world, op, &change.request(product), Some(&key)).await;
        }
        Kind::OrderEvent { order, fact, lines, shipment, copies } => {
            world.sent.borrow_mut().push(Sent { op: op.id, from: world.length() });
            let mut rng = source(world.seed, "on its way", op.id);
            for _ in 0..*copies {
                let at = world.wire.time.ms() + rng.i64(0..ON_ITS_WAY_MS.cast_signed());
                let told = event(&format!("m{}", op.id), order, *fact, lines, *shipment);
                world.queue.borrow_mut().send(told, at);
            }
        }
        Kind::Sweep(every_seconds) => drop(world.sweep(&format!("s{}", op.id), *every_seconds).await),
        Kind::Publish => world.publish(source(world.seed, "batch", op.id).usize(1..100)).await,
    }
}

/// A client that tries again where it is told to, or not told anything.
async fn call_as_client(world: &World, op: &Op, request: &Request, key: Option<&str>) {
    for n in 1..=TRIES {
        let label = format!("o{}.{n}", op.id);
        match world.http(op.id, &label, request, key).await {
            Some((status, _)) if status != 503 => return,
            _ => {}
        }
        let mut rng = source(world.seed, &label, 1_000_000);
        tokio::time::sleep(Duration::from_millis(rng.u64(100..4_000))).await;
    }
}

/// Hands messages to `order-events`, up to two batches at once.
async fn poll_queue(world: Rc<World>) {
    let mut rng = source(world.seed, "queue", 0);
    let mut number = 0;
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let now = world.wire.time.ms();
        let batch = if running.len() < 2 { world.queue.borrow_mut().receive(now, &mut rng) } else { vec![] };
        if batch.is_empty() {
            tokio::time::sleep(Duration::from_millis(rng.u64(100..500))).await;
            continue;
        }
        number += 1;
        let (world, label) = (Rc::clone(&world), format!("q{number}"));
        running.spawn_local(async move { deliver(&world, &label, batch).await });
    }
}

/// One batch. Without an answer all of it comes again.
async fn deliver(world: &World, label: &str, batch: Vec<serde_json::Value>) {
    let event = serde_json::json!({"Records": batch});
    let answer = world.deliver(label, &event).await;
    if let Some(Ok(answer)) = answer {
        world.queue.borrow_mut().answered(&batch, &answer["batchItemFailures"]);
    }
}

/// Nothing goes wrong any more; what is left is done: messages, due holds, the stream.
async fn settle(world: &Rc<World>) {
    world.wire.calm();
    world.wire.note("calm");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut rng = source(world.seed, "drain", 0);
    for round in 0..200 {
        let now = world.wire.time.ms();
        let batch = world.queue.borrow_mut().receive(now, &mut rng);
        if batch.is_empty() {
            world.queue.borrow_mut().redrive();
            if world.queue.borrow().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(21)).await;
            continue;
        }
        deliver(world, &format!("drain{round}"), batch).await;
    }
    if !world.queue.borrow().is_empty() {
        world.broken("queue", "it does not get empty".to_owned());
    }
    tokio::time::sleep(LONG).await;
    for round in 0..5 {
        let swept = world.sweep(&format!("last-sweep{round}"), None).await;
        match swept {
            Some(Ok(answer)) if answer["due"] == 0 => break,
            Some(Ok(_)) => {}
            other => world.broken("sweep", format!("without faults: {other:?}")),
        }
    }
    for _ in 0..50 {
        world.publish(100).await;
    }
    if *world.published.borrow() != world.length() {
        world.broken("publisher", "it does not come to the end of the stream".to_owned());
    }
}

fn make_report(case: &Case, world: &World) -> Report {
    let mut violations = checks::find_violations(world, &case.ops);
    let landed_late = answers::check_answers(world, &case.ops, &mut violations);
    violations.extend(world.broken.borrow_mut().drain(..));
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for tried in world.tries.borrow().iter() {
        let kind = match &tried.answer {
            None => "no answer".to_owned(),
            Some((status, body)) => format!("{status} {}", body["code"].as_str().unwrap_or_default()),
        };
        *answers.entry(kind).or_default() += 1;
    }
    let end = ends::end_of(world);
    let mut seen = world.wire.seen();
    violations.extend(std::mem::take(&mut seen.history.violations));
    Report {
        violations,
        trace: std::mem::take(&mut seen.trace),
        fired: std::mem::take(&mut seen.fired),
        requests: seen.requests,
        calls: std::mem::take(&mut seen.calls),
        chances: std::mem::take(&mut seen.chances),
        tries: world.tries.take(),
        answers,
        landed_late,
        judged: true,
        end,
    }
}
