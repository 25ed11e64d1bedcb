//! Whether every message was heard, and what was delivered has left, by a rule of its own, apart from `decide`.

use std::collections::BTreeMap;

use shared::domain::{Delivery, Fact, Reservation, ShipmentId, State};

use crate::history::{History, Violation};
use crate::ops::{Ask, Kind, Lines, Op, delivery, has_lines, reservation_id, sum_by_product, totals_of};

/// Every rule that was broken.
#[must_use]
pub fn find_violations(history: &History, ops: &BTreeMap<u32, &Op>) -> Vec<Violation> {
    let mut broken: Vec<Violation> = ops.values().filter_map(|op| find_unheard(history, op)).collect();
    broken.extend(history.orders().filter_map(|record| find_untold_departure(record, ops)));
    broken
}

/// No message is lost: what it told is in the record, if only as a contradiction.
fn find_unheard(history: &History, op: &Op) -> Option<Violation> {
    let Kind::OrderEvent { order, fact, lines, shipment, .. } = &op.kind else { return None };
    let broken = |what: String| Some(Violation { rule: "unheard", what: format!("{order}: {what}") });
    let record = history.reservation_at(reservation_id(order), history.entries.len());
    let Some(record) = record else {
        return broken(format!("nothing is known of it, it was {}", fact.name()));
    };
    let is_kept = match (fact, delivery(lines, *shipment)) {
        (Fact::Created, _) => has_lines(record, lines),
        (Fact::Delivered, Delivery::Total(lines)) => {
            let totals = &record.deliveries.totals;
            lines.iter().all(|(product, _, quantity)| totals.total(product) >= quantity)
        }
        (Fact::Delivered, Delivery::Shipment(id, lines)) => {
            record.shipments.get(&id) == Some(&lines.fingerprint())
        }
        (Fact::Delivered, Delivery::All) => record.deliveries.all,
        (fact, _) => record.has_heard(*fact),
    };
    if is_kept || is_contradiction(record, *fact, lines, *shipment) {
        return None;
    }
    broken(format!("{:?} is not in {record:?}", op.kind))
}

/// Whether a record has kept this as a contradiction, or had so many that it may have been among them.
fn is_contradiction(record: &Reservation, fact: Fact, lines: &Lines, shipment: Option<&str>) -> bool {
    let told = totals_of(lines);
    let conflicts = &record.conflicts;
    conflicts.count > conflicts.kept.len() as u64
        || conflicts.kept.iter().any(|conflict| {
            let kept = conflict.lines.iter().map(|line| (line.product.as_str(), line.quantity));
            conflict.fact == fact
                && conflict.shipment.as_ref().map(ShipmentId::as_str) == shipment
                && sum_by_product(kept) == told
        })
}

/// The quantities that have left for an order are those that were delivered, unless somebody deducted by request or a
/// shipment came in two versions.
fn find_untold_departure(record: &Reservation, ops: &BTreeMap<u32, &Op>) -> Option<Violation> {
    let (mut is_all, mut totals, mut shipments) = (false, BTreeMap::new(), BTreeMap::new());
    for op in ops.values() {
        match &op.kind {
            Kind::Ask(order, Ask::Deduct(_)) if *order == record.order_id.as_str() => return None,
            Kind::OrderEvent { order, fact: Fact::Delivered, lines, shipment, .. }
                if *order == record.order_id.as_str() =>
            {
                let lines = totals_of(lines);
                match shipment {
                    _ if lines.is_empty() => is_all = true,
                    Some(id) if shipments.insert(*id, lines.clone()).is_some_and(|other| other != lines) => {
                        return None;
                    }
                    Some(_) => {}
                    None => {
                        for (product, quantity) in lines {
                            let largest = totals.entry(product).or_insert(0);
                            *largest = quantity.max(*largest);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let is_over = is_all || !totals.is_empty();
    let shipped = sum_by_product(shipments.into_values().flatten());
    let sum = |figure: fn(&shared::domain::Line) -> u64| {
        sum_by_product(record.lines.iter().map(|line| (line.key.product.as_str(), figure(line))))
    };
    let (ordered, left) = (sum(|line| line.quantity), sum(|line| line.departed_units()));
    let mut products: Vec<&str> =
        [&totals, &shipped, &ordered].into_iter().flat_map(BTreeMap::keys).copied().collect();
    products.sort_unstable();
    products.dedup();
    for product in products {
        let of = |map: &BTreeMap<&str, u64>| map.get(product).copied().unwrap_or(0);
        let all = if is_all { of(&ordered) } else { 0 };
        let want = of(&totals).max(of(&shipped)).max(all);
        if of(&left) != want {
            let what = format!("{}: {} of {product} left, not {want}", record.order_id, of(&left));
            return Some(Violation { rule: "delivered", what });
        }
    }
    let is_known = record.fingerprint.is_some() || !totals.is_empty();
    let is_open = is_over && is_known && record.state != State::Fulfilled;
    is_open.then(|| Violation {
        rule: "delivered",
        what: format!("{} is {}", record.order_id, record.state.name()),
    })
}
