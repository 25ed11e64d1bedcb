//! Bugs in decisions, in the terms of the domain.

use super::{any, planted};
use crate::domain::decide::{Action, Command, Decision, Heard, Refusal, decide_unplanted};
use crate::domain::{
    Delivery, Fact, Fingerprint, Plan, RecordWrite, Reservation, Seen, SeenRecord, State, Timestamp,
};

/// The decision, replaced where a bug is at work.
pub(crate) fn disturb_decision(
    decision: Decision<Refusal>,
    seen: &Seen,
    command: &Command,
    now: Timestamp,
) -> Decision<Refusal> {
    if !any() {
        return decision;
    }
    if planted("ships-what-was-not-delivered") {
        return decide_unplanted(seen, &deliver_all(command), now);
    }
    if planted("drops-what-contradicts") && only_contradicts(&decision, seen) {
        return Decision::Unchanged;
    }
    let record = match seen.record() {
        SeenRecord::Present(record) => Some(&**record),
        SeenRecord::Unseen | SeenRecord::Hidden | SeenRecord::Absent => None,
    };
    let pending = match seen.record() {
        SeenRecord::Unseen | SeenRecord::Hidden => false,
        SeenRecord::Absent | SeenRecord::Present(_) => {
            record.is_none_or(|record| record.state == State::Pending)
        }
    };
    if planted("leaves-no-tombstone") && pending && matches!(command.action, Action::Release { .. }) {
        return Decision::Refuse(Refusal::NotFound);
    }
    let mut decision =
        record.and_then(|record| decide_on_misread(record, seen, command, now)).unwrap_or(decision);
    if let Decision::Plan(plan) = &mut decision {
        miswrite(plan, record);
    }
    decision
}

/// The command, but a delivery of some products is one of everything.
fn deliver_all(command: &Command) -> Command {
    let mut misheard = command.clone();
    if let Action::Hear { heard: Heard::Delivered(delivery), .. } = &mut misheard.action
        && matches!(delivery, Delivery::Total(_))
    {
        *delivery = Delivery::All;
    }
    misheard
}

/// Whether a contradiction is to be written, and no stock moves.
fn only_contradicts(decision: &Decision<Refusal>, seen: &Seen) -> bool {
    match (decision, seen.record()) {
        (Decision::Plan(plan), SeenRecord::Present(record)) => {
            plan.moves.is_empty() && plan.next_record().is_some_and(|next| next.conflicts != record.conflicts)
        }
        _ => false,
    }
}

/// The decision on another record than the one that was seen.
fn decide_on_misread(
    record: &Reservation,
    seen: &Seen,
    command: &Command,
    now: Timestamp,
) -> Option<Decision<Refusal>> {
    let mut misread = record.clone();
    if !misread_record(&mut misread, &command.action) {
        return None;
    }
    let mut decision = decide_unplanted(&seen.with_other_record(misread), command, now);
    if let Decision::Plan(plan) = &mut decision
        && let Some(RecordWrite::Put(next)) = &mut plan.record
    {
        // What was misread is still so in what is written.
        next.facts.extend(&record.facts);
        next.shipments.extend(record.shipments.clone());
        if matches!(command.action, Action::Expire) {
            next.expires_at = record.expires_at;
        }
    }
    Some(decision)
}

/// Changes the record that was seen into another. Returns whether it did.
fn misread_record(seen: &mut Reservation, action: &Action) -> bool {
    match action {
        Action::Expire if planted("ends-what-is-not-due") => {
            (seen.state, seen.expires_at) = (State::Reserved, Some(Timestamp::MIN));
        }
        Action::Reserve { lines, .. }
            if planted("other-lines-are-the-same") && seen.fingerprint.is_some() =>
        {
            seen.fingerprint = Some(lines.fingerprint());
        }
        Action::Hear { heard: Heard::PaymentFailed, .. }
            if planted("gives-back-what-was-paid-for") && seen.state == State::Confirmed =>
        {
            seen.state = State::Reserved;
        }
        Action::Hear { heard: Heard::Paid, .. }
            if planted("takes-again-what-was-cancelled") && seen.state == State::Released =>
        {
            seen.facts.remove(&Fact::Cancelled);
        }
        Action::Hear { heard, .. } if planted("hears-the-same-twice") => {
            seen.facts.remove(&heard.fact());
        }
        Action::Release { .. } if planted("releases-again-and-again") => {
            seen.facts.remove(&Fact::PaymentFailed);
            seen.facts.remove(&Fact::Cancelled);
        }
        Action::Deduct { part: Some(_) } if planted("ships-part-of-it-all-again") => seen.shipments.clear(),
        _ => return false,
    }
    true
}

/// Writes another record than was decided.
fn miswrite(plan: &mut Plan, seen: Option<&Reservation>) {
    let Plan { record: Some(RecordWrite::Put(next)), moves, .. } = plan else { return };
    if planted("forgets-an-allocation") && moves.iter().any(|m| m.delta().reserved > 0) {
        next.lines.iter_mut().for_each(|line| line.allocations.clear());
    }
    if planted("gives-back-twice") && moves.iter().any(|m| m.delta().reserved < 0) {
        for was in seen.into_iter().flat_map(|seen| &seen.lines) {
            if let Some(line) = next.lines.iter_mut().find(|line| line.key == was.key) {
                line.allocations.clone_from(&was.allocations);
            }
        }
    }
    let newly = next.fingerprint.is_some() && seen.is_none_or(|seen| seen.fingerprint.is_none());
    if planted("another-fingerprint-each-time") && newly {
        next.fingerprint = Some(Fingerprint::of(&next.correlation_id));
    }
}
