//! Facts: what may be heard about an order, and how strong each is.

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
