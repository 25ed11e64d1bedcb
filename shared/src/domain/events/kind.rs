//! The kinds of events, with their names.

use crate::domain::conflict::Conflict;
use crate::domain::names::{Location, ProductId, Reason};
use crate::domain::stock::{Delta, Shortage};
use crate::domain::{Line, Timestamp};

/// The names of all events, in the order of [`EventKind`]. A name is the event's `detail-type` on the bus, and the name
/// of its schema and sample in `events/published`.
pub const NAMES: [&str; 14] = [
    "InventoryReserved",
    "StockReservationFailed",
    "InventoryConfirmed",
    "InventoryConfirmationRefused",
    "InventoryReleased",
    "ReservationExpired",
    "InventoryDeducted",
    "PartialDeduction",
    "OrderConflict",
    "InventoryUpdated",
    "InventoryReplenished",
    "LowStock",
    "OutOfStock",
    "BackInStock",
];

/// The kinds of events, each with its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Stock is held for an order.
    InventoryReserved {
        /// The items that are held.
        items: Vec<Item>,
        /// Until when. None: until the order is cancelled or delivered.
        expires_at: Option<Timestamp>,
    },
    /// An order has no stock: it was asked for and not there, or was paid for after it had been given back.
    StockReservationFailed {
        /// The items that were asked for.
        items: Vec<Item>,
        /// Why it is not held.
        reason: ReservationFailure,
        /// The shortages, where the stock was asked.
        shortages: Vec<Shortage>,
        /// Whether the order is paid for.
        is_paid: bool,
    },
    /// A hold became certain.
    InventoryConfirmed {
        /// The items that are held.
        items: Vec<Item>,
    },
    /// A payment is in vain.
    InventoryConfirmationRefused {
        /// The items that were asked for.
        items: Vec<Item>,
        /// Why.
        reason: ConfirmationRefusal,
    },
    /// Stock was given back.
    InventoryReleased {
        /// The items that were given back.
        items: Vec<Item>,
        /// Why.
        reason: Option<Reason>,
    },
    /// Stock was given back because the time of its hold was up.
    ReservationExpired {
        /// The items that were given back.
        items: Vec<Item>,
    },
    /// Goods have left.
    InventoryDeducted {
        /// The items that have left.
        items: Vec<Item>,
        /// Whether that is the end of the order.
        is_complete: bool,
        /// The items whose booking as having left was taken back.
        corrected_items: Vec<Item>,
    },
    /// More was delivered than there was on the books.
    PartialDeduction {
        /// The items that could be booked.
        items: Vec<Item>,
        /// The items that could not.
        missing_items: Vec<Item>,
    },
    /// A fact contradicts what was recorded before.
    OrderConflict {
        /// The items of the order as they stand.
        items: Vec<Item>,
        /// The fact that contradicts, with its lines.
        conflict: Conflict,
        /// The number of contradictions of this order so far.
        count: u64,
    },
    /// The figures of a stock unit changed.
    InventoryUpdated {
        /// The figures after the change.
        figures: Figures,
        /// The change.
        change: Delta,
    },
    /// More of a stock unit is on hand, or has left, than before: units came in.
    InventoryReplenished {
        /// The figures after the change.
        figures: Figures,
        /// The change.
        change: Delta,
    },
    /// A stock unit fell to its threshold, or below it.
    LowStock {
        /// The figures at that time.
        figures: Figures,
        /// The stock unit's version at that time.
        stock_version: u64,
    },
    /// Nothing of a stock unit is available any more.
    OutOfStock {
        /// The figures at that time.
        figures: Figures,
        /// The stock unit's version at that time.
        stock_version: u64,
    },
    /// Something of a stock unit is available again.
    BackInStock {
        /// The figures at that time.
        figures: Figures,
        /// The stock unit's version at that time.
        stock_version: u64,
    },
}

impl EventKind {
    /// Its name.
    ///
    /// It binds every entry of [`NAMES`] and matches every kind, so that neither can be added without the other.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let [
            inventory_reserved,
            stock_reservation_failed,
            inventory_confirmed,
            inventory_confirmation_refused,
            inventory_released,
            reservation_expired,
            inventory_deducted,
            partial_deduction,
            order_conflict,
            inventory_updated,
            inventory_replenished,
            low_stock,
            out_of_stock,
            back_in_stock,
        ] = NAMES;
        match self {
            Self::InventoryReserved { .. } => inventory_reserved,
            Self::StockReservationFailed { .. } => stock_reservation_failed,
            Self::InventoryConfirmed { .. } => inventory_confirmed,
            Self::InventoryConfirmationRefused { .. } => inventory_confirmation_refused,
            Self::InventoryReleased { .. } => inventory_released,
            Self::ReservationExpired { .. } => reservation_expired,
            Self::InventoryDeducted { .. } => inventory_deducted,
            Self::PartialDeduction { .. } => partial_deduction,
            Self::OrderConflict { .. } => order_conflict,
            Self::InventoryUpdated { .. } => inventory_updated,
            Self::InventoryReplenished { .. } => inventory_replenished,
            Self::LowStock { .. } => low_stock,
            Self::OutOfStock { .. } => out_of_stock,
            Self::BackInStock { .. } => back_in_stock,
        }
    }
}

/// A quantity of a product at a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The product.
    pub product: ProductId,
    /// The location.
    pub location: Location,
    /// The number of units; never 0.
    pub quantity: u64,
}

impl Item {
    /// The items of some lines, by a quantity of each line. A line whose quantity is 0 gives none.
    pub(super) fn list<'a>(
        lines: impl IntoIterator<Item = &'a Line>,
        quantity_of: impl Fn(&Line) -> u64,
    ) -> Vec<Self> {
        let item_of = |line: &Line| {
            let (product, location) = (line.key.product.clone(), line.key.location.clone());
            Self { product, location, quantity: quantity_of(line) }
        };
        lines.into_iter().map(item_of).filter(|item| item.quantity > 0).collect()
    }
}

/// The figures of a stock unit at a moment, and the operation that led to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Units that may still be reserved.
    pub available: u64,
    /// Units promised to orders.
    pub reserved: u64,
    /// Units that have left.
    pub sold: u64,
    /// At or below this many available units it counts as low.
    pub threshold: u64,
    /// The operation that led to the figures: `reserve`, `add` and so on.
    pub operation: String,
    /// The reference of that operation: a reservation id, or an idempotency key.
    pub reference: String,
}

impl Figures {
    /// Units on the shelf.
    #[must_use]
    pub fn on_hand(&self) -> u64 {
        self.available.saturating_add(self.reserved)
    }
}

/// Why an order has no stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationFailure {
    /// Less was available than was asked for.
    InsufficientStock,
    /// A product is not known at a location.
    UnknownProduct,
    /// One order may not hold that much of a product.
    PurchaseLimitExceeded,
    /// The order has more lines than one transaction takes.
    TooManyLines,
    /// It was paid when the time of its hold was up, and the stock is gone.
    Expired,
    /// It was paid after a payment had failed, and the stock is gone.
    PaymentFailed,
}

impl ReservationFailure {
    /// Its name in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InsufficientStock => "insufficient_stock",
            Self::UnknownProduct => "unknown_product",
            Self::PurchaseLimitExceeded => "purchase_limit_exceeded",
            Self::TooManyLines => "too_many_lines",
            Self::Expired => "expired",
            Self::PaymentFailed => "payment_failed",
        }
    }
}

/// Why a payment is in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmationRefusal {
    /// The order is cancelled.
    Cancelled,
    /// The order could not be held.
    Rejected,
}

impl ConfirmationRefusal {
    /// Its name in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}
