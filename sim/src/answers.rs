//! Checks that the answers were true: every success is in the history, every refusal had its reason there.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::domain::fixtures::unit_key;
use shared::domain::{
    Decision, Fact, Lack, Line, Reservation, Seen, Shortage, State, StockUnit, Timestamp, decide,
};
use shared::http::Problem;
use shared::store::StreamChange;

use crate::history::{History, Violation};
use crate::ops::{Ask, Change, Kind, Lines, Op, has_lines, totals_of};
use crate::world::{Try, World};

/// Checks every answer against the history. Answers with how often a write landed after a refusal, where an earlier try
/// had no answer.
pub fn check_answers(world: &World, ops: &[Op], violations: &mut Vec<Violation>) -> u64 {
    let ops: BTreeMap<u32, &Op> = ops.iter().map(|op| (op.id, op)).collect();
    let tries = world.tries.borrow();
    let seen = world.wire.seen();
    let mut of_op: BTreeMap<u32, Vec<&Try>> = BTreeMap::new();
    for tried in tries.iter().filter(|tried| ops.contains_key(&tried.op)) {
        of_op.entry(tried.op).or_default().push(tried);
    }
    let mut landed_late = 0;
    for (id, tries) in of_op {
        let mut check =
            AnswerCheck { history: &seen.history, tries: &tries, broken: violations, landed_late: 0 };
        match &ops[&id].kind {
            Kind::Ask(_, ask) => check.check_request(ops[&id], ask),
            Kind::Stock(product, change) => check.check_change(product, change, id),
            _ => {}
        }
        landed_late += check.landed_late;
    }
    landed_late
}

/// Checks the tries of one operation, oldest first.
struct AnswerCheck<'a> {
    history: &'a History,
    tries: &'a [&'a Try],
    broken: &'a mut Vec<Violation>,
    landed_late: u64,
}

impl AnswerCheck<'_> {
    fn note(&mut self, rule: &'static str, what: impl Into<String>) {
        self.broken.push(Violation { rule, what: what.into() });
    }

    /// Every answer is true: a success by `is_done`, a refusal by `is_refused`; 503 promises nothing.
    fn check_each_answer(
        &mut self,
        what: &str,
        is_done: impl Fn(&Self, &Try, u16, &Value) -> bool,
        is_refused: impl Fn(&Self, &Try, &Value) -> bool,
    ) {
        for n in 0..self.tries.len() {
            let tried = self.tries[n];
            let Some((status, body)) = &tried.answer else { continue };
            let true_one = match status {
                503 => true,
                200 | 201 => is_done(self, tried, *status, body),
                404 | 409 | 422 => {
                    self.check_nothing_lands_after(n);
                    is_refused(self, tried, body)
                }
                _ => false,
            };
            if !true_one {
                self.note("untrue-answer", format!("{} {what}: {status} {body}", tried.label));
            }
        }
    }

    fn check_request(&mut self, op: &Op, ask: &Ask) {
        let is_done = |check: &Self, tried: &Try, status: u16, body: &Value| {
            // 200 says that it was so before.
            let repeated = status == 200 && matches!(ask, Ask::Reserve(..));
            check.is_true_success(op, ask, tried, status, body) && !(repeated && check.made_it_so(op, tried))
        };
        let is_refused =
            |check: &Self, tried: &Try, body: &Value| check.is_true_refusal(op, ask, tried, body);
        self.check_each_answer(&format!("{ask:?}"), is_done, is_refused);
    }

    /// A success: this operation wrote what is answered, or it was so at a moment while it was asked.
    fn is_true_success(&self, op: &Op, ask: &Ask, tried: &Try, status: u16, body: &Value) -> bool {
        let Some(command) = op.command(&tried.label, tried.now) else { return false };
        let state = body["status"].as_str().unwrap_or_default();
        let begun = self.tries.first().map_or(tried.from, |first| first.from);
        let matches_answer = |record: &Reservation| {
            record.state_at(tried.now).name() == state && may_succeed(ask, record, tried.now)
        };
        let written =
            self.history.reservation_between(command.target.id(), begun, tried.to).flatten().any(|record| {
                self.tries.iter().any(|t| t.label == record.correlation_id) && matches_answer(record)
            });
        let was_so = || {
            let mut records = self.history.reservation_between(command.target.id(), tried.from, tried.to);
            records.any(|record| {
                let decision = decide(&Seen::record_alone(record.cloned()), &command, tried.now);
                decision == Decision::Unchanged && record.is_some_and(matches_answer)
            })
        };
        if status == 201 { written } else { written || was_so() }
    }

    /// Whether the record is as this try itself has written it: then it was not so before.
    fn made_it_so(&self, op: &Op, tried: &Try) -> bool {
        let Some(command) = op.command(&tried.label, tried.now) else { return false };
        let since = self.history.reservation_since(command.target.id(), tried.to);
        since > 0 && self.history.entries[since - 1].writer == tried.label
    }

    /// A refusal: there was a moment while it was asked at which it was right.
    fn is_true_refusal(&self, op: &Op, ask: &Ask, tried: &Try, body: &Value) -> bool {
        let Some(command) = op.command(&tried.label, tried.now) else { return false };
        let code = body["code"].as_str().unwrap_or_default();
        let (from, to) = (tried.from, tried.to);
        let short = |shortage: &Shortage| self.history.was_short(shortage, from, to);
        match (code, ask) {
            ("insufficient_stock", Ask::Reserve(..)) => {
                let products = body["products"].as_array().cloned().unwrap_or_default();
                !products.is_empty() && products.iter().all(|product| short(&shortage_of(product)))
            }
            ("unknown_product", Ask::Reserve(lines, _)) => lines.iter().any(|(product, requested)| {
                short(&Shortage { unit: unit_key(product), requested: *requested, lack: Lack::Unknown })
            }),
            ("purchase_limit_exceeded", Ask::Reserve(lines, _)) => {
                let max_per_order = body["maxPerOrder"].as_u64().unwrap_or(u64::MAX);
                let product = body["productId"].as_str().unwrap_or("-");
                let ordered = totals_of(lines).get(product).copied().unwrap_or(0);
                let lack = Lack::OverLimit { max_per_order };
                ordered > max_per_order
                    && short(&Shortage { unit: unit_key(product), requested: ordered, lack })
            }
            _ => {
                let decided = |record: Option<&Reservation>| {
                    decide(&Seen::record_alone(record.cloned()), &command, tried.now)
                };
                let matches_answer = |record: Option<&Reservation>| match decided(record) {
                    Decision::Refuse(refusal) => {
                        let problem = Problem::from_refusal(&refusal, None).to_json("");
                        serde_json::from_str::<Value>(&problem).is_ok_and(|problem| problem["code"] == code)
                    }
                    _ => false,
                };
                let mut records = self.history.reservation_between(command.target.id(), from, to);
                records.any(|record| matches_answer(record) && may_refuse(code, ask, record, tried.now))
            }
        }
    }

    /// A try that was refused must not write afterwards; an earlier one may, if it had no answer.
    fn check_nothing_lands_after(&mut self, n: usize) {
        let tried = self.tries[n];
        let after = self.history.entries.iter().skip(tried.to);
        let writers: Vec<&str> = after.map(|entry| entry.writer.as_str()).collect();
        if writers.contains(&tried.label.as_str()) {
            self.note("refused-but-done", format!("{} wrote after it had been refused", tried.label));
        }
        for before in &self.tries[..n] {
            if writers.contains(&before.label.as_str()) {
                self.landed_late += 1;
            }
        }
    }

    fn check_change(&mut self, product: &str, change: &Change, id: u32) {
        let key = format!("k{id}");
        let written: Vec<usize> = (0..self.history.entries.len())
            .filter(|i| match &self.history.entries[*i].change {
                StreamChange::Stock(_, new) => {
                    new.cause.operation == change.name()
                        && new.cause.reference.split(' ').next() == Some(key.as_str())
                }
                _ => false,
            })
            .collect();
        if written.len() > 1 {
            self.note("twice", format!("{key} {change:?} was applied {} times", written.len()));
        }
        let is_done = |check: &Self, tried: &Try, _, body: &Value| {
            let by_then = written.iter().find(|i| **i < tried.to);
            by_then.is_some_and(|i| check.figures_are_true(product, body, tried.from.max(i + 1), tried.to))
        };
        let is_refused = |check: &Self, tried: &Try, body: &Value| {
            check.is_true_stock_refusal(product, change, tried, body)
        };
        self.check_each_answer(&format!("{product} {change:?}"), is_done, is_refused);
    }

    /// Figures in an answer were so at a moment after the write; or there are none.
    fn figures_are_true(&self, product: &str, body: &Value, from: usize, to: usize) -> bool {
        let answered = ["availableQuantity", "reservedQuantity", "totalQuantity", "soldQuantity"];
        let answered = answered.map(|name| body[name].as_u64());
        let figures = |unit: &StockUnit| [unit.available, unit.reserved, unit.on_hand(), unit.sold].map(Some);
        let key = unit_key(product);
        let mut units = self.history.unit_between(&key, from, to).flatten();
        answered == [None; 4] || units.any(|unit| figures(unit) == answered)
    }

    fn is_true_stock_refusal(&self, product: &str, change: &Change, tried: &Try, body: &Value) -> bool {
        let code = body["code"].as_str().unwrap_or_default();
        let figure = |name: &str| body[name].as_u64();
        let key = unit_key(product);
        let mut units = self.history.unit_between(&key, tried.from, tried.to);
        match (code, change) {
            ("unknown_product", _) => units.any(|unit| unit.is_none()),
            ("product_exists", Change::Create(..)) => units.any(|unit| unit.is_some()),
            ("insufficient_stock", Change::Adjust(by)) => units.flatten().any(|unit| {
                Some(unit.available) == figure("availableQuantity") && unit.available < by.unsigned_abs()
            }),
            ("below_reserved", Change::Audit(counted)) => units
                .flatten()
                .any(|unit| Some(unit.reserved) == figure("reservedQuantity") && unit.reserved > *counted),
            ("stock_changed", Change::Audit(_)) => {
                let figures: Vec<u64> = units.flatten().map(|unit| unit.on_hand()).collect();
                figures.iter().any(|on_hand| Some(*on_hand) == figure("onHandQuantity"))
                    && figures.iter().any(|on_hand| Some(*on_hand) != figure("onHandQuantity"))
            }
            _ => false,
        }
    }
}

/// Whether a request may succeed with such a record, by rules of their own, apart from `decide`.
fn may_succeed(ask: &Ask, record: &Reservation, now: Timestamp) -> bool {
    let state = record.state;
    match ask {
        Ask::Reserve(lines, _) => {
            let holds = matches!(state, State::Confirmed | State::Fulfilled)
                || state == State::Reserved && !is_over(record, now);
            holds && has_lines(record, lines)
        }
        Ask::Confirm => matches!(state, State::Confirmed | State::Fulfilled),
        Ask::Release("payment_failed") => {
            record.has_heard(Fact::PaymentFailed) || record.has_heard(Fact::Cancelled)
        }
        Ask::Release(_) => record.has_heard(Fact::Cancelled),
        Ask::Deduct(None) => state == State::Fulfilled,
        // It has left, whatever became of the rest.
        Ask::Deduct(Some(part)) => each_of(part, record, |line| line.fulfilled),
        Ask::Extend(_) => state == State::Reserved && !is_over(record, now),
    }
}

/// Whether a request may be refused so with such a record, by rules of their own, apart from `decide`.
fn may_refuse(code: &str, ask: &Ask, record: Option<&Reservation>, now: Timestamp) -> bool {
    let state = record.map_or(State::Pending, |record| record.state);
    let waits_after = |fact| state == State::Pending && record.is_some_and(|record| record.has_heard(fact));
    let begins_or_goes_on = !matches!(ask, Ask::Release(_));
    match (code, ask) {
        ("reservation_not_found", Ask::Confirm | Ask::Deduct(_) | Ask::Extend(_)) => state == State::Pending,
        ("order_lines_differ", Ask::Reserve(lines, _)) => {
            record.is_some_and(|record| record.fingerprint.is_some() && !has_lines(record, lines))
        }
        ("reservation_expired", _) if begins_or_goes_on => {
            state == State::Expired || record.is_some_and(|record| is_over(record, now))
        }
        ("reservation_released", _) if begins_or_goes_on => {
            state == State::Released || waits_after(Fact::Cancelled) || waits_after(Fact::PaymentFailed)
        }
        ("reservation_fulfilled", _) => state == State::Fulfilled || waits_after(Fact::Delivered),
        ("reservation_confirmed", Ask::Release("payment_failed") | Ask::Extend(_)) => {
            state == State::Confirmed
        }
        ("reservation_rejected", _) if begins_or_goes_on => state == State::Rejected,
        ("not_held", Ask::Deduct(Some(part))) => {
            record.is_some_and(|record| !each_of(part, record, Line::held_units))
        }
        _ => false,
    }
}

/// Whether a record has as much of each product as these lines say.
fn each_of(lines: &Lines, record: &Reservation, figure: impl Fn(&Line) -> u64) -> bool {
    let has = |product: &str| -> u64 {
        record.lines.iter().filter(|line| line.key.product.as_str() == product).map(&figure).sum()
    };
    totals_of(lines).into_iter().all(|(product, quantity)| has(product) >= quantity)
}

/// A hold past its time.
fn is_over(record: &Reservation, now: Timestamp) -> bool {
    record.state == State::Reserved && record.expires_at.is_some_and(|at| at <= now)
}

/// A shortage as an answer names it.
fn shortage_of(product: &Value) -> Shortage {
    let figure = |name: &str| product[name].as_u64().unwrap_or(u64::MAX);
    Shortage {
        unit: unit_key(product["productId"].as_str().unwrap_or("-")),
        requested: figure("requestedQuantity"),
        lack: Lack::Short { available: figure("availableQuantity") },
    }
}
