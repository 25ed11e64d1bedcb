//! The one record of an order: its lines, its state, and what was heard of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Timestamp;
use super::conflict::Conflicts;
use super::delivery::Deliveries;
use super::fact::Fact;
use super::lines::{Fingerprint, Line};
use super::names::{OrderId, Reason, ReservationId, ShipmentId};
use super::stock::Shortage;
use crate::planted;

/// How long after its expiry a hold is ended. The sweep's clock may be ahead of the clock that the hold was made by,
/// and a hold that is given back early could have been paid in time. Lambda keeps its clocks within milliseconds of
/// each other; this is for a machine that does not.
pub const CLOCK_MARGIN: Duration = Duration::from_secs(5);

/// The latest time of a hold that may be ended now.
#[must_use]
pub fn may_end_until(now: Timestamp) -> Timestamp {
    let margin = if planted("the-sweep-trusts-its-clock") { Duration::ZERO } else { CLOCK_MARGIN };
    now.checked_sub(margin).unwrap_or(Timestamp::MIN)
}

/// The state of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Only facts so far: something was heard of an order that is not there yet.
    Pending,
    /// Held, until `expires_at`.
    Reserved,
    /// Held for good: it is paid.
    Confirmed,
    /// The goods have left.
    Fulfilled,
    /// Given back.
    Released,
    /// Given back because it was not confirmed in time.
    Expired,
    /// An order that came as an event and could not be held.
    Rejected,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Reserved,
        Self::Confirmed,
        Self::Fulfilled,
        Self::Released,
        Self::Expired,
        Self::Rejected,
    ];

    /// Its name in records, answers and events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Reserved => "RESERVED",
            Self::Confirmed => "CONFIRMED",
            Self::Fulfilled => "FULFILLED",
            Self::Released => "RELEASED",
            Self::Expired => "EXPIRED",
            Self::Rejected => "REJECTED",
        }
    }

    /// Whether stock is held in this state.
    #[must_use]
    pub fn holds(self) -> bool {
        matches!(self, Self::Reserved | Self::Confirmed)
    }
}

/// The one record of an order. It is the idempotency record too: it commits with the stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Follows from the order id.
    pub id: ReservationId,
    /// The shop's name for the order.
    pub order_id: OrderId,
    /// The lines that were ordered, and those that have left besides, sorted; empty while only facts were heard.
    pub lines: Vec<Line>,
    /// The state that was decided last. [`Reservation::state_at`] is the state at a moment.
    pub state: State,
    /// The facts that were heard, each with the time it was first heard.
    pub facts: BTreeMap<Fact, Timestamp>,
    /// The fingerprint of the lines that were ordered; none while they are unknown.
    pub fingerprint: Option<Fingerprint>,
    /// When the record was first written.
    pub created_at: Timestamp,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// Until when a temporary hold lasts. None: it does not end by itself.
    pub expires_at: Option<Timestamp>,
    /// When it became certain.
    pub confirmed_at: Option<Timestamp>,
    /// When the stock was given back, by release or expiry.
    pub released_at: Option<Timestamp>,
    /// When the last line was fulfilled.
    pub fulfilled_at: Option<Timestamp>,
    /// Why it was released.
    pub reason: Option<Reason>,
    /// The shortages of stock, where they decided the outcome.
    pub shortages: Vec<Shortage>,
    /// The part shipments applied so far, so that none is applied twice.
    pub shipments: BTreeMap<ShipmentId, Fingerprint>,
    /// The deliveries so far.
    pub deliveries: Deliveries,
    /// When it first became certain that a payment is in vain: the order is cancelled or could not be held.
    pub refused_at: Option<Timestamp>,
    /// The facts that contradict others.
    pub conflicts: Conflicts,
    /// The correlation id of the request or event that changed it last.
    pub correlation_id: String,
    /// +1 with every write; 0 is a record that is not there yet.
    pub version: u64,
}

impl Reservation {
    /// A record that is not there yet.
    #[must_use]
    pub fn new(order_id: OrderId, now: Timestamp) -> Self {
        Self {
            id: ReservationId::of(&order_id),
            order_id,
            lines: Vec::new(),
            state: State::Pending,
            facts: BTreeMap::new(),
            fingerprint: None,
            created_at: now,
            updated_at: now,
            expires_at: None,
            confirmed_at: None,
            released_at: None,
            fulfilled_at: None,
            reason: None,
            shortages: Vec::new(),
            shipments: BTreeMap::new(),
            deliveries: Deliveries::default(),
            refused_at: None,
            conflicts: Conflicts::default(),
            correlation_id: String::new(),
            version: 0,
        }
    }

    /// Whether a fact was heard.
    #[must_use]
    pub fn has_heard(&self, fact: Fact) -> bool {
        self.facts.contains_key(&fact)
    }

    /// Whether the last change took note of a contradiction.
    #[must_use]
    pub fn is_newly_contradicted(&self) -> bool {
        self.conflicts.kept.last().is_some_and(|conflict| conflict.at == self.updated_at)
    }

    /// Whether everything that was ordered has left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let mut ordered = self.lines.iter().filter(|line| line.is_ordered()).peekable();
        ordered.peek().is_some() && ordered.all(|line| line.open_units() == 0)
    }

    /// Whether it is a temporary hold whose time has run out, swept or not.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == State::Reserved && self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether it may be ended: its time has run out even by a clock that is [`CLOCK_MARGIN`] behind. Until then it
    /// reads as expired and still holds.
    #[must_use]
    pub fn may_end(&self, now: Timestamp) -> bool {
        self.is_due(may_end_until(now))
    }

    /// The state that holds at a moment: a hold past its time reads as expired before the sweep has come by.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> State {
        if self.is_due(now) { State::Expired } else { self.state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They stand in records and answers.
    #[test]
    fn states_keep_their_names() {
        let names = State::ALL.map(State::name);
        let all = ["PENDING", "RESERVED", "CONFIRMED", "FULFILLED", "RELEASED", "EXPIRED", "REJECTED"];
        assert_eq!(names, all);
    }
}
