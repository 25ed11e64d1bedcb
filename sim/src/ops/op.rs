//! The operations of a run.

use shared::domain::Fact;

use super::lines::Lines;

/// Something that somebody does at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Its number in the run.
    pub id: u32,
    /// When it is done, in milliseconds after the beginning.
    pub at: u64,
    /// Its kind and content.
    pub kind: Kind,
}

/// The kinds of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A client asks something of an order's reservation.
    Ask(String, Ask),
    /// An operator changes stock.
    Stock(String, Change),
    /// An event says something of an order.
    OrderEvent {
        /// The order.
        order: String,
        /// The fact.
        fact: Fact,
        /// Its lines; a delivery may have none.
        lines: Lines,
        /// The shipment that a delivery is of.
        shipment: Option<&'static str>,
        /// How often it is sent.
        copies: u32,
    },
    /// The sweep runs: one pass, or one every so many seconds for as long as it may take.
    Sweep(Option<u64>),
    /// The publisher takes what the stream has.
    Publish,
}

/// A request about a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Holds these lines, for so many seconds.
    Reserve(Lines, Option<u64>),
    /// Keeps the hold for good.
    Confirm,
    /// Gives back what is held, for a reason.
    Release(&'static str),
    /// Lets goods leave: all, or a part.
    Deduct(Option<Lines>),
    /// Holds for so many seconds from now.
    Extend(u64),
}

/// A change of stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A product begins with so many, and with a purchase limit.
    Create(u64, Option<u64>),
    /// So many come in.
    Add(u64),
    /// So many more, or fewer.
    Adjust(i64),
    /// So many were counted.
    Audit(u64),
    /// An order may hold so many from now on, or any number.
    Update(Option<u64>),
}

impl Change {
    /// Its name in the ledger.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(..) => "create",
            Self::Add(_) => "add",
            Self::Adjust(_) => "adjust",
            Self::Audit(_) => "audit",
            Self::Update(_) => "update",
        }
    }
}
