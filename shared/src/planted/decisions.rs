//! Decisions, disturbed in the domain's own words.

use super::{any, planted};
use crate::domain::decide::{Action, Command, Commit, Decision, Heard, Refusal, decided};
use crate::domain::{Delivery, Fact, Fingerprint, Reservation, State, Timestamp};

/// What is answered in place of a decision.
pub(crate) fn disturbed(
    decision: Decision,
    seen: Option<&Reservation>,
    command: &Command,
    now: Timestamp,
) -> Decision {
    if !any() {
        return decision;
    }
    if planted("ships-what-was-not-delivered") {
        return decided(seen, &all_delivered(command), now);
    }
    if planted("drops-what-contradicts") && only_contradicts(&decision, seen) {
        return Decision::Unchanged;
    }
    let pending = seen.is_none_or(|seen| seen.state == State::Pending);
    if planted("leaves-no-tombstone") && pending && matches!(command.action, Action::Release { .. }) {
        return Decision::Refuse(Refusal::NotFound);
    }
    let mut decision = seen.and_then(|seen| of_misread(seen, command, now)).unwrap_or(decision);
    if let Decision::Commit(commit) = &mut decision {
        miswrite(commit, seen);
    }
    decision
}

/// The command, but a delivery of some products is one of everything.
fn all_delivered(command: &Command) -> Command {
    let mut misheard = command.clone();
    if let Action::Hear { heard: Heard::Delivered(delivery), .. } = &mut misheard.action
        && matches!(delivery, Delivery::Total(_))
    {
        *delivery = Delivery::All;
    }
    misheard
}

/// Whether a contradiction is to be written, and no stock moves.
fn only_contradicts(decision: &Decision, seen: Option<&Reservation>) -> bool {
    match (decision, seen) {
        (Decision::Commit(commit), Some(seen)) => {
            commit.moves.is_empty() && commit.next.conflicts != seen.conflicts
        }
        _ => false,
    }
}

/// What is decided of another record than the one that was seen.
fn of_misread(seen: &Reservation, command: &Command, now: Timestamp) -> Option<Decision> {
    let mut misread = seen.clone();
    if !misreads(&mut misread, &command.action) {
        return None;
    }
    let mut decision = decided(Some(&misread), command, now);
    if let Decision::Commit(commit) = &mut decision {
        // What was misread is still so in what is written.
        commit.next.facts.extend(&seen.facts);
        commit.next.shipments.extend(seen.shipments.clone());
        if matches!(command.action, Action::Expire) {
            commit.next.expires_at = seen.expires_at;
        }
    }
    Some(decision)
}

/// Makes another record of the one that was seen. Answers whether it did.
fn misreads(seen: &mut Reservation, action: &Action) -> bool {
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
fn miswrite(commit: &mut Commit, seen: Option<&Reservation>) {
    let (next, moves) = (&mut commit.next, &commit.moves);
    if planted("forgets-an-allocation") && moves.iter().any(|m| m.delta.reserved > 0) {
        next.lines.iter_mut().for_each(|line| line.allocations.clear());
    }
    if planted("gives-back-twice") && moves.iter().any(|m| m.delta.reserved < 0) {
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
