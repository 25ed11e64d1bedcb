//! The one record of an order: its lines, its state, and the facts it has heard.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use uuid::Uuid;

use super::Timestamp;
use super::conflict::Conflicts;
use super::delivery::Deliveries;
use super::names::{Invalid, Location, OrderId, ProductId, Reason, ReservationId, ShipmentId};
use super::stock::{MAX_LINES, Quantity, Shortage, UnitKey};
use crate::planted;

/// Namespace of fingerprints. They are stored, so it must never change.
const FINGERPRINT_NAMESPACE: Uuid = Uuid::from_u128(0x0e6b_7c52_91d4_4f0a_8a3e_6b1c_45d8_f927);

/// How long after its time a hold is ended. The sweep's clock may be ahead of the one that the hold was made by, and a
/// hold that is given back early could have been paid in time. Lambda keeps its clocks within milliseconds of each other;
/// this is for a machine that does not.
pub const CLOCK_MARGIN: Duration = Duration::from_secs(5);

/// The latest time of a hold that may be ended now.
#[must_use]
pub fn may_end_until(now: Timestamp) -> Timestamp {
    let margin = if planted("the-sweep-trusts-its-clock") { Duration::ZERO } else { CLOCK_MARGIN };
    now.checked_sub(margin).unwrap_or(Timestamp::MIN)
}

/// Where a reservation stands.
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
    /// Given back because nobody came in time.
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

/// Something that was heard about an order, weakest first: of several, the strongest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// The order is there, with its lines.
    Created,
    /// A payment failed.
    PaymentFailed,
    /// It is paid.
    Paid,
    /// It is cancelled.
    Cancelled,
    /// The goods have left.
    Delivered,
}

impl Fact {
    /// Every fact, weakest first.
    pub const ALL: [Self; 5] =
        [Self::Created, Self::PaymentFailed, Self::Paid, Self::Cancelled, Self::Delivered];

    /// Its name in records, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::PaymentFailed => "paymentFailed",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Delivered => "delivered",
        }
    }
}

/// What one line of an order asks for: a product at a location.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineKey {
    /// The product.
    pub product: ProductId,
    /// Where it is taken from.
    pub location: Location,
}

impl LineKey {
    /// The stock unit that holds one bucket of it.
    #[must_use]
    pub fn unit(&self, bucket: u32) -> UnitKey {
        UnitKey { product: self.product.clone(), location: self.location.clone(), bucket }
    }
}

/// The lines that an order asks for: sorted, duplicates summed, 1 to [`MAX_LINES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLines(BTreeMap<LineKey, Quantity>);

/// What an order that came as an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// These lines.
    Lines(OrderLines),
    /// More than [`MAX_LINES`]: such an order can never be held. It is recorded without them.
    TooMany(Fingerprint),
}

impl Ordered {
    /// Sums up lines as they came.
    ///
    /// # Errors
    /// If there is none, or if a sum is too large.
    pub fn sum(lines: impl IntoIterator<Item = (LineKey, Quantity)>) -> Result<Self, Invalid> {
        let sums = OrderLines::sum_up(lines)?;
        Ok(if sums.len() > MAX_LINES {
            Self::TooMany(fingerprint_of(sums.iter().map(|(key, quantity)| (key, quantity.get()))))
        } else {
            Self::Lines(OrderLines(sums))
        })
    }

    /// The same for the same lines, however they were split or sorted.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Lines(lines) => lines.fingerprint(),
            Self::TooMany(fingerprint) => *fingerprint,
        }
    }
}

impl OrderLines {
    /// Sums up lines as they came.
    ///
    /// # Errors
    /// If there is none, if there are more than [`MAX_LINES`] after summing, or if a sum is too large.
    pub fn sum(lines: impl IntoIterator<Item = (LineKey, Quantity)>) -> Result<Self, Invalid> {
        let sums = Self::sum_up(lines)?;
        match sums.len() {
            ..=MAX_LINES => Ok(Self(sums)),
            _ if planted("a-hundred-products-fit") => Ok(Self(sums)),
            n => {
                Err(Invalid(format!("an order has at most {MAX_LINES} different products, this one has {n}")))
            }
        }
    }

    fn sum_up(
        lines: impl IntoIterator<Item = (LineKey, Quantity)>,
    ) -> Result<BTreeMap<LineKey, Quantity>, Invalid> {
        let mut sums = BTreeMap::new();
        for (key, quantity) in lines {
            let sum = match sums.get(&key) {
                None => quantity,
                Some(_) if planted("the-last-of-two-lines-counts") => quantity,
                Some(&before) => quantity.plus(before).map_err(|invalid| {
                    Invalid(format!("the lines of product {} add up to too much: {invalid}", key.product))
                })?,
            };
            sums.insert(key, sum);
        }
        if sums.is_empty() {
            return Err(Invalid("an order has at least one line, this one has none".to_owned()));
        }
        Ok(sums)
    }

    /// The lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&LineKey, Quantity)> {
        self.0.iter().map(|(key, &quantity)| (key, quantity))
    }

    /// The same for the same lines, however they were split or sorted.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint_of(self.0.iter().map(|(key, quantity)| (key, quantity.get())))
    }
}

/// The fingerprint of lines that are sorted and summed.
pub(super) fn fingerprint_of<'a>(lines: impl IntoIterator<Item = (&'a LineKey, u64)>) -> Fingerprint {
    let mut text = String::new();
    for (LineKey { product, location }, quantity) in lines {
        // None of the three can contain the separators.
        writeln!(text, "{product}\t{location}\t{quantity}").expect("writing to a String");
    }
    Fingerprint::of(&text)
}

/// Tells whether two requests ask for the same: a UUIDv5 of what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub Uuid);

impl Fingerprint {
    /// The fingerprint of a canonical text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Uuid::new_v5(&FINGERPRINT_NAMESPACE, text.as_bytes()))
    }
}

/// How much of one bucket is held for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// The bucket.
    pub bucket: u32,
    /// Units held there.
    pub quantity: u64,
}

/// One line of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it asks for.
    pub key: LineKey,
    /// How much was ordered; 0 where something left that was not ordered, or not yet.
    pub quantity: u64,
    /// What is held for it now, by bucket. Empty when nothing is.
    pub allocations: Vec<Allocation>,
    /// How much has left the shelf for it.
    pub fulfilled: u64,
    /// How much was delivered without having been on the books: neither held nor available.
    pub missing: u64,
}

impl Line {
    /// A line nothing has happened to yet.
    #[must_use]
    pub fn new(key: LineKey, quantity: Quantity) -> Self {
        Self { key, quantity: quantity.get(), allocations: Vec::new(), fulfilled: 0, missing: 0 }
    }

    /// One for what has left though nobody is known to have ordered it.
    #[must_use]
    pub fn not_ordered(key: LineKey) -> Self {
        Self { key, quantity: 0, allocations: Vec::new(), fulfilled: 0, missing: 0 }
    }

    /// Whether it is a line of the order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.quantity > 0
    }

    /// Units that have left, on the books or not.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.fulfilled.saturating_add(self.missing)
    }

    /// Units held for it now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.allocations.iter().map(|a| a.quantity).sum()
    }

    /// Takes up to so many units out of what is held, of the first buckets first. Answers with what it took.
    pub fn take_held(&mut self, units: u64) -> Vec<Allocation> {
        let mut open = units;
        let mut all_taken = Vec::new();
        for allocation in &mut self.allocations {
            let quantity = allocation.quantity.min(open);
            allocation.quantity -= quantity;
            open -= quantity;
            all_taken.push(Allocation { bucket: allocation.bucket, quantity });
        }
        self.allocations.retain(|allocation| allocation.quantity > 0);
        all_taken.retain(|taken| taken.quantity > 0);
        all_taken
    }

    /// Units still to leave the shelf.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.quantity.saturating_sub(self.left())
    }
}

/// The one record of an order. It is the idempotency record too: it commits with the stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Follows from the order id.
    pub id: ReservationId,
    /// The shop's name for the order.
    pub order_id: OrderId,
    /// What was ordered, and what has left besides, sorted; empty while only facts were heard.
    pub lines: Vec<Line>,
    /// As decided last. What holds at a moment is [`Reservation::state_at`].
    pub state: State,
    /// What was heard, and when first.
    pub facts: BTreeMap<Fact, Timestamp>,
    /// Of what was ordered; none while that is unknown.
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
    /// What the stock lacked when it was asked, where that decided the outcome.
    pub shortages: Vec<Shortage>,
    /// The part shipments applied so far, so that none is applied twice.
    pub shipments: BTreeMap<ShipmentId, Fingerprint>,
    /// What the deliveries have said so far.
    pub deliveries: Deliveries,
    /// When it was first certain that a payment is in vain: the order is cancelled or could not be held.
    pub refused_at: Option<Timestamp>,
    /// The facts that contradict others.
    pub conflicts: Conflicts,
    /// Of the request or event that changed it last.
    pub correlation_id: String,
    /// +1 with every write; 0 is a record that is not there yet.
    pub version: u64,
}

impl Reservation {
    /// A record that is not there yet.
    #[must_use]
    pub fn nothing_yet(order_id: OrderId, now: Timestamp) -> Self {
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
    pub fn heard(&self, fact: Fact) -> bool {
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
        ordered.peek().is_some() && ordered.all(|line| line.open() == 0)
    }

    /// Whether it is a temporary hold whose time has run out, swept or not.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == State::Reserved && self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether it may be ended: its time has run out even by a clock that is [`CLOCK_MARGIN`] behind. Until then it reads
    /// as expired and still holds.
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

    fn line(product: &str, location: &str, quantity: u64) -> (LineKey, Quantity) {
        let key = LineKey {
            product: ProductId::parse(product).unwrap(),
            location: Location::parse(location).unwrap(),
        };
        (key, Quantity::new(quantity).unwrap())
    }

    /// Scenario 13 and 32.
    /// They stand in records and answers.
    #[test]
    fn states_keep_their_names() {
        let names = State::ALL.map(State::name);
        let all = ["PENDING", "RESERVED", "CONFIRMED", "FULFILLED", "RELEASED", "EXPIRED", "REJECTED"];
        assert_eq!(names, all);
    }

    #[test]
    fn the_fingerprint_does_not_see_order_or_split() {
        let one = OrderLines::sum([line("A", "main", 3), line("B", "main", 1)]).unwrap();
        let two =
            OrderLines::sum([line("B", "main", 1), line("A", "main", 1), line("A", "main", 2)]).unwrap();
        assert_eq!(one.fingerprint(), two.fingerprint());
        for other in [line("A", "main", 4), line("A", "east", 3), line("AA", "main", 3)] {
            let other = OrderLines::sum([other, line("B", "main", 1)]).unwrap();
            assert_ne!(one.fingerprint(), other.fingerprint());
        }
    }

    /// Scenario 33.
    #[test]
    fn an_order_fits_one_transaction() {
        let lines = |n: usize| OrderLines::sum((0..n).map(|i| line(&format!("P{i}"), "main", 1)));
        assert!(lines(99).is_ok());
        for n in [100, 101] {
            let Invalid(sentence) = lines(n).unwrap_err();
            assert!(sentence.contains("at most 99") && sentence.contains(&n.to_string()), "{sentence}");
        }
        assert!(lines(0).is_err());
    }
}
