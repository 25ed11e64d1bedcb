//! Operations as commands of the domain.

use shared::domain::fixtures::{self, valid};
use shared::domain::{
    Action, Command, Delivery, Fact, Heard, OrderId, OrderLines, Reason, ReservationId, Shipment, Target,
    Timestamp,
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
                    Fact::Delivered => Heard::Delivered(delivery(lines, *shipment)),
                    fact => fixtures::fact_with(*fact, &borrowed(lines)),
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

fn after(now: Timestamp, seconds: u64) -> Timestamp {
    now.checked_add(std::time::Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn borrowed(lines: &Lines) -> Vec<(&str, u64)> {
    lines.iter().map(|(product, quantity)| (product.as_str(), *quantity)).collect()
}

/// Lines as the domain takes them.
fn order_lines(lines: &Lines) -> OrderLines {
    fixtures::lines(&borrowed(lines))
}

/// The delivery of these lines.
#[must_use]
pub fn delivery(lines: &Lines, shipment: Option<&str>) -> Delivery {
    fixtures::delivery(shipment, &borrowed(lines))
}

/// The id of an order's reservation.
#[must_use]
pub fn reservation_id(order: &str) -> ReservationId {
    ReservationId::of(&valid(OrderId::parse(order)))
}
