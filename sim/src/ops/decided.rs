//! Operations as commands of the domain.

use shared::domain::{
    Action, Command, DeliveredLines, Delivery, Fact, Heard, LineKey, Location, OrderId, OrderLines, Ordered,
    ProductId, Quantity, Reason, ReservationId, Shipment, ShipmentId, Target, Timestamp, UnitKey,
};

use super::lines::Lines;
use super::op::{Ask, Kind, Op};

/// How long a hold lasts unless its request says otherwise, in seconds.
pub const DEFAULT_TTL: u64 = 900;

impl Ask {
    /// The action that `decide` is asked for, at a moment.
    #[must_use]
    pub fn action(&self, now: Timestamp) -> Action {
        match self {
            Self::Reserve(lines, ttl) => Action::Reserve {
                lines: order_lines(lines),
                expires_at: Some(after(now, ttl.unwrap_or(DEFAULT_TTL))),
            },
            Self::Confirm => Action::Confirm,
            Self::Release(reason) => Action::Release { reason: valid(Reason::parse(*reason)) },
            Self::Deduct(part) => Action::Deduct {
                part: part.as_ref().map(|lines| Shipment { id: None, lines: order_lines(lines) }),
            },
            Self::Extend(ttl) => Action::Extend { expires_at: after(now, *ttl) },
        }
    }
}

impl Op {
    /// The command that `decide` is asked for, as the try or message with this correlation id gave it at a moment. None
    /// where no reservation is concerned.
    #[must_use]
    pub fn command(&self, correlation_id: &str, now: Timestamp) -> Option<Command> {
        let (order, action) = match &self.kind {
            Kind::Ask(order, ask) => (order, ask.action(now)),
            Kind::OrderEvent { order, fact, lines, shipment, .. } => {
                let heard = match fact {
                    Fact::Created => Heard::Created(Ordered::Lines(order_lines(lines))),
                    Fact::PaymentFailed => Heard::PaymentFailed,
                    Fact::Paid => Heard::Paid,
                    Fact::Cancelled => Heard::Cancelled,
                    Fact::Delivered => Heard::Delivered(delivery(lines, *shipment)),
                };
                let expires_at = Some(after(now, DEFAULT_TTL));
                (order, Action::Hear { heard, expires_at })
            }
            Kind::Stock(..) | Kind::Sweep(_) | Kind::Publish => return None,
        };
        let target = Target::Order(valid(OrderId::parse(order)));
        Some(Command { target, correlation_id: correlation_id.to_owned(), action })
    }
}

/// The value of a text of the simulation's own, which is always valid.
fn valid<T>(value: Result<T, shared::domain::Invalid>) -> T {
    value.unwrap_or_else(|invalid| unreachable!("the simulation names things rightly: {invalid}"))
}

fn after(now: Timestamp, seconds: u64) -> Timestamp {
    now.checked_add(std::time::Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Lines as the domain takes them.
#[must_use]
pub fn order_lines(lines: &Lines) -> OrderLines {
    valid(OrderLines::sum(lines.iter().map(|(product, quantity)| {
        let key = LineKey { product: valid(ProductId::parse(product)), location: Location::default() };
        (key, valid(Quantity::new(*quantity)))
    })))
}

/// The lines of a delivery as the domain takes them.
#[must_use]
pub fn delivered_lines(lines: &Lines) -> DeliveredLines {
    valid(DeliveredLines::sum(lines.iter().map(|(product, quantity)| {
        (valid(ProductId::parse(product)), None, valid(Quantity::new(*quantity)))
    })))
}

/// The delivery of these lines.
#[must_use]
pub fn delivery(lines: &Lines, shipment: Option<&str>) -> Delivery {
    match shipment.map(|id| valid(ShipmentId::parse(id))) {
        _ if lines.is_empty() => Delivery::All,
        Some(id) => Delivery::Shipment(id, delivered_lines(lines)),
        None => Delivery::Total(delivered_lines(lines)),
    }
}

/// The stock unit of a product.
#[must_use]
pub fn unit(product: &str) -> UnitKey {
    UnitKey { product: valid(ProductId::parse(product)), location: Location::default(), bucket: 0 }
}

/// The id of an order's reservation.
#[must_use]
pub fn reservation_id(order: &str) -> ReservationId {
    ReservationId::of(&valid(OrderId::parse(order)))
}
