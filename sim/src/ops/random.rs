//! The random operations of a run.

use fastrand::Rng;
use shared::domain::Fact;

use super::lines::Lines;
use super::op::{Ask, Change, Kind, Op};
use crate::faults::source;

/// The lines of an order, which are always the same.
#[must_use]
pub fn lines_of(seed: u64, order: u32, products: &[String]) -> Lines {
    let mut rng = source(seed, "lines", order);
    let mut products = products.to_vec();
    rng.shuffle(&mut products);
    let count = if rng.u8(0..10) < 6 { 1 } else { rng.usize(1..=products.len()) };
    products.into_iter().take(count).map(|product| (product, rng.u64(1..=4))).collect()
}

/// The operations of a run.
#[must_use]
pub fn random(seed: u64, count: u32, products: &[String]) -> Vec<Op> {
    let mut rng = source(seed, "operations", 0);
    let span = u64::from(count) * rng.u64(40..500);
    let mut ops: Vec<Op> = (0..count)
        .map(|id| {
            let at = rng.u64(0..span);
            // Orders come one after the other, so that what concerns one order comes close together.
            let newest = u32::try_from(at * u64::from(count / 4 + 1) / span).unwrap_or(0);
            let order = newest.saturating_sub(rng.u32(0..6).saturating_sub(2));
            Op { id, at, kind: random_kind(&mut rng, seed, order, products) }
        })
        .collect();
    let more = |ops: &mut Vec<Op>, rng: &mut Rng, kind: Kind, times: u32| {
        for _ in 0..times {
            let id = u32::try_from(ops.len()).unwrap_or(u32::MAX);
            ops.push(Op { id, at: rng.u64(0..span + 10_000), kind: kind.clone() });
        }
    };
    let sweeps = rng.u32(1..4);
    more(&mut ops, &mut rng, Kind::Sweep(None), sweeps);
    if let Some(sweep) = ops.last().cloned().filter(|_| rng.bool()) {
        // Two at once.
        ops.push(Op { id: sweep.id + 1, at: sweep.at + rng.u64(0..30), kind: Kind::Sweep(None) });
    }
    if let Some(Op { kind, .. }) = ops.last_mut().filter(|_| source(seed, "passes", 0).u8(0..4) == 0) {
        *kind = Kind::Sweep(Some(10));
    }
    more(&mut ops, &mut rng, Kind::Publish, 6);
    ops
}

/// A delivery of everything, of a part, of more, of something else, or without lines; in one shipment or in several.
fn random_delivery(rng: &mut Rng, mut lines: Lines, other: &str) -> (Lines, Option<&'static str>) {
    match rng.u8(0..8) {
        0 | 1 => return (Vec::new(), None),
        2 => {}
        3 => lines[0].1 += 1,
        4 => lines.push((other.to_owned(), 1)),
        _ => {
            lines.truncate(rng.usize(1..=lines.len()));
            let last = lines.len() - 1;
            lines[last].1 = rng.u64(1..=lines[last].1);
        }
    }
    let shipments = ["s-1", "s-2", "s-3"];
    (lines, rng.bool().then(|| shipments[rng.usize(0..3)]))
}

fn random_kind(rng: &mut Rng, seed: u64, order: u32, products: &[String]) -> Kind {
    let name = format!("order-{order}");
    let mut lines = lines_of(seed, order, products);
    let product = products[rng.usize(0..products.len())].clone();
    let ttl = |rng: &mut Rng| if rng.u8(0..4) == 0 { 600 } else { rng.u64(1..40) };
    // Orders come by HTTP, as events, or both ways.
    let style = source(seed, "style", order).u8(0..4);
    match rng.u32(0..100) {
        0..26 if style > 0 => {
            if rng.u8(0..20) == 0 {
                lines[0].1 += 1;
            }
            if lines[0].1 > 1 && rng.u8(0..6) == 0 {
                // The same in two lines.
                lines[0].1 -= 1;
                lines.push((lines[0].0.clone(), 1));
            }
            let ttl = rng.bool().then(|| ttl(rng));
            Kind::Ask(name, Ask::Reserve(lines, ttl))
        }
        26..38 if style > 0 => Kind::Ask(name, Ask::Confirm),
        38..46 if style > 0 => {
            let reasons = ["requested", "payment_failed", "order_cancelled"];
            Kind::Ask(name, Ask::Release(reasons[rng.usize(0..3)]))
        }
        46..54 if style > 0 => {
            lines[0].1 = rng.u64(1..=lines[0].1);
            lines.truncate(1);
            Kind::Ask(name, Ask::Deduct(rng.bool().then_some(lines)))
        }
        54..59 if style > 0 => Kind::Ask(name, Ask::Extend(ttl(rng))),
        59..68 => Kind::Stock(product, Change::Add(rng.u64(1..6))),
        68..73 => {
            let by = i64::try_from(rng.u64(1..5)).unwrap_or(1);
            Kind::Stock(product, Change::Adjust(if rng.bool() { by } else { -by }))
        }
        73..76 => Kind::Stock(product, Change::Audit(rng.u64(0..25))),
        _ => {
            let facts = if rng.u8(0..3) == 0 { &Fact::ALL[..] } else { &[Fact::Created, Fact::Paid] };
            let fact = facts[rng.usize(0..facts.len())];
            if fact == Fact::Created && rng.u8(0..20) == 0 {
                lines[0].1 += 1;
            }
            let mut shipment = None;
            if fact == Fact::Delivered {
                (lines, shipment) = random_delivery(rng, lines, &product);
            }
            let copies = if rng.bool() { 1 } else { rng.u32(1..=3) };
            Kind::OrderEvent { order: name, fact, lines, shipment, copies }
        }
    }
}
