//! `reserve`: holds stock for an order, or puts the order into the queue for a caller that does not wait; and holds it
//! for longer.

mod message;

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::domain::{
    Action, Location, OrderId, OrderLines, ProductId, Quantity, ReservationId, Target, Timestamp, Whole,
};
use shared::http::{
    AcceptedView, Answer, Deps, ItemRequest, Problem, RESERVE, Request, ReservationView, Role, find_target,
    serve, sum_order_lines,
};
use shared::settings::{TtlSeconds, require_setting};
use shared::store::Outcome;

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve("reserve", |deps, request| Box::pin(handle(deps, request))).await
}

/// Answers one request.
///
/// # Errors
/// The problem that the client is told.
pub async fn handle(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    match request.route() {
        RESERVE => reserve(deps, request).await,
        "POST /extend" => extend(deps, request).await,
        other => Err(Problem::no_route(other)),
    }
}

/// One product, or `items`; not both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReserveRequest {
    #[serde(alias = "bookingId")]
    order_id: OrderId,
    #[serde(alias = "sku", alias = "itemId")]
    product_id: Option<ProductId>,
    quantity: Option<Quantity>,
    location: Option<Location>,
    items: Option<Vec<ItemRequest>>,
    ttl_seconds: Option<TtlSeconds>,
    // What a shop's one line says besides, as in `items`.
    #[serde(default, rename = "unitPrice")]
    _unit_price: IgnoredAny,
    #[serde(default, rename = "price")]
    _price: IgnoredAny,
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
}

impl ReserveRequest {
    fn items(self) -> Result<Vec<ItemRequest>, Problem> {
        match (self.items, self.product_id, self.quantity, self.location) {
            (Some(items), None, None, None) => Ok(items),
            (None, Some(product_id), Some(quantity), location) => {
                Ok(vec![ItemRequest { product_id, quantity, location: location.unwrap_or_default() }])
            }
            (None, Some(_), None, _) => Err(Problem::invalid("quantity is missing")),
            (None, None, ..) => {
                Err(Problem::invalid("productId and quantity are missing, or items[] for several"))
            }
            (Some(_), ..) => Err(Problem::invalid("either one product or items[] is reserved, not both")),
        }
    }
}

async fn reserve(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let body: ReserveRequest = request.json()?;
    let now = request.invocation.now;
    let ttl = body.ttl_seconds.map(|Whole(seconds)| Duration::from_secs(seconds.unsigned_abs()));
    let expires_at = ttl.or(deps.settings.reservation_ttl).map(|ttl| end_of_hold(now, ttl)).transpose()?;
    let (order_id, ttl) = (body.order_id.clone(), body.ttl_seconds);
    let lines = sum_order_lines(body.items()?)?;
    let action = Action::Reserve { lines: lines.clone(), expires_at };
    let command = request.invocation.command(Target::Order(order_id.clone()), action);
    let outcome = if request.prefers_async() {
        match deps.store.decided(&command, &request.invocation).await? {
            Some(outcome) => outcome,
            None => return accept(deps, request, &order_id, &lines, ttl).await,
        }
    } else {
        deps.store.apply(command, &request.invocation).await?
    };
    match outcome {
        Outcome::Done { reservation, first } => {
            Answer::created(first, &ReservationView::at(now, &reservation))
        }
        refused => refused.answer(now),
    }
}

/// Puts an order into the queue. The same order may be in it already: it is decided once.
async fn accept(
    deps: &Deps,
    request: &Request,
    order_id: &OrderId,
    lines: &OrderLines,
    ttl: Option<TtlSeconds>,
) -> Result<Answer, Problem> {
    let url = require_setting("ORDER_QUEUE_URL", deps.settings.order_queue_url.as_ref())
        .map_err(|e| Problem::internal(e.to_string()))?;
    let message = message::message_of(order_id, lines, ttl, &request.invocation.correlation_id);
    deps.order_queue.send(url, message).await.map_err(Problem::try_again)?;
    Answer::accepted(ReservationId::of(order_id), &AcceptedView::of(order_id))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtendRequest {
    reservation_id: Option<ReservationId>,
    #[serde(alias = "bookingId")]
    order_id: Option<OrderId>,
    ttl_seconds: Option<TtlSeconds>,
}

async fn extend(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let body: ExtendRequest = request.json()?;
    let now = request.invocation.now;
    let ttl = body
        .ttl_seconds
        .map(|Whole(seconds)| Duration::from_secs(seconds.unsigned_abs()))
        .or(deps.settings.reservation_ttl)
        .ok_or_else(|| Problem::invalid("ttlSeconds is missing: for how long, counted from now"))?;
    let target = find_target(body.reservation_id, body.order_id)?;
    let command = request.invocation.command(target, Action::Extend { expires_at: end_of_hold(now, ttl)? });
    deps.store.apply(command, &request.invocation).await?.answer(now)
}

fn end_of_hold(now: Timestamp, ttl: Duration) -> Result<Timestamp, Problem> {
    now.checked_add(ttl).map_err(|e| Problem::internal(format!("the end of a hold: {e}")))
}
