//! Whether every reservation that was written is what was asked for.

use std::collections::BTreeMap;

use shared::domain::fixtures::lacking;
use shared::domain::{
    Action, Command, Decision, Fact, Lack, Reservation, Seen, Shortage, State, Target, UnitKey, decide,
};

use super::findings::Findings;
use crate::faults::SETUP;
use crate::history::History;
use crate::ops::Op;
use crate::world::World;

impl Findings {
    /// Every record that was written is what `decide` makes of the one before, for somebody's command.
    pub(super) fn check_record(
        &mut self,
        world: &World,
        history: &History,
        ops: &BTreeMap<u32, &Op>,
        index: usize,
        old: Option<&Reservation>,
        new: &Reservation,
    ) {
        let name = format!("{} v{} by {}", new.order_id, new.version, new.correlation_id);
        let Some(command) = command_of(ops, new) else {
            return self.note("unasked", name);
        };
        match decide(&seen_by(&command, old, new), &command, new.updated_at) {
            Decision::Plan(plan) if plan.next_record() == Some(new) => {}
            other => self.note("decision", format!("{name}: {new:?} instead of {other:?} after {old:?}")),
        }
        let confirms = matches!(command.action, Action::Confirm) && new.state == State::Confirmed;
        let ended = old.and_then(|old| old.expires_at).filter(|at| confirms && *at <= new.updated_at);
        if let Some(ended) = ended {
            self.note("confirmed-late", format!("{name} at {}, it had ended at {ended}", new.updated_at));
        }
        let begins = old.is_none_or(|old| old.state == State::Pending) && new.state.holds();
        for line in new.lines.iter().filter(|line| begins && line.held_units() > 0) {
            let most = history.unit_at(&line.key.unit(0), index).and_then(|unit| unit.max_per_order);
            if most.is_some_and(|most| line.quantity > most) {
                self.note("limit", format!("{name}: {line:?} of at most {most:?}"));
            }
        }
        let is_known = |shortage: &&Shortage| old.is_some_and(|old| old.shortages.contains(shortage));
        let fresh: Vec<&Shortage> = new.shortages.iter().filter(|s| !is_known(s)).collect();
        if fresh.is_empty() {
            return;
        }
        let from = world
            .sent
            .borrow()
            .iter()
            .find(|sent| op_number(&new.correlation_id) == Some(sent.op))
            .map(|s| s.from);
        // It was short while the record was as it was before, and of what has left no limit keeps anything back.
        let from = from.unwrap_or(0).max(history.reservation_since(new.id, index));
        let has_left = new.state == State::Fulfilled;
        for shortage in fresh {
            let limited = matches!(shortage.lack, Lack::OverLimit { .. });
            if !history.was_short(shortage, from, index) || (limited && has_left) {
                self.note("untrue-shortage", format!("{name}: {shortage:?}"));
            }
        }
    }
}

/// The number of the operation that a correlation id belongs to.
fn op_number(correlation_id: &str) -> Option<u32> {
    let rest = correlation_id.strip_prefix('o').or(correlation_id.strip_prefix('m'))?;
    rest.split('.').next()?.parse().ok()
}

/// The command that a record was written for.
fn command_of(ops: &BTreeMap<u32, &Op>, new: &Reservation) -> Option<Command> {
    let correlation_id = new.correlation_id.clone();
    let swept = correlation_id.starts_with('s') || correlation_id.starts_with("last-sweep");
    if swept && !correlation_id.starts_with(SETUP) {
        return Some(Command { target: Target::Reservation(new.id), correlation_id, action: Action::Expire });
    }
    let op = ops.get(&op_number(&correlation_id)?)?;
    let command = op.command(&correlation_id, new.updated_at)?;
    (command.target.id() == new.id).then_some(command)
}

/// The input of a decision: the record before, and the stock that decided the outcome. The shortages of the record tell
/// that stock, where a hold was not made or more of a line is missing now.
fn seen_by(command: &Command, old: Option<&Reservation>, new: &Reservation) -> Seen {
    let mut seen = Seen::record_alone(old.cloned());
    let Action::Hear { heard, .. } = &command.action else { return seen };
    let not_held = match heard.fact() {
        Fact::Created => new.state == State::Rejected && old.is_none_or(|old| old.state != new.state),
        Fact::Paid => !new.state.holds(),
        _ => false,
    };
    let missing = |record: Option<&Reservation>, unit: &UnitKey| {
        let line = record.and_then(|record| record.lines.iter().find(|l| l.key.unit(0) == *unit));
        line.map_or(0, |line| line.missing)
    };
    let decided = |s: &&Shortage| not_held || missing(Some(new), &s.unit) > missing(old, &s.unit);
    for shortage in new.shortages.iter().filter(decided) {
        seen.learn_refusal(shortage.unit.clone(), lacking(shortage));
    }
    seen
}
