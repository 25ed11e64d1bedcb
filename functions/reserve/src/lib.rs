//! `reserve`: holds stock for an order, and holds it for longer.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::domain::{
    Action, Location, OrderId, ProductId, Quantity, ReservationId, Target, Timestamp, Whole,
};
use shared::http::{
    Answer, Deps, ItemRequest, Problem, RESERVE, Request, ReservationView, Role, order_lines, serve, target,
};
use shared::settings::MAX_TTL_SECONDS;
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

/// How long to hold, in seconds.
type Ttl = Whole<1, { MAX_TTL_SECONDS.cast_signed() }>;

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
    ttl_seconds: Option<Ttl>,
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
    let expires_at = ttl.or(deps.settings.reservation_ttl).map(|ttl| after(now, ttl)).transpose()?;
    let target = Target::Order(body.order_id.clone());
    let action = Action::Reserve { lines: order_lines(body.items()?)?, expires_at };
    let command = request.invocation.command(target, action);
    match deps.store.apply(command, &request.invocation).await? {
        Outcome::Done { reservation, first } => {
            Answer::created(first, &ReservationView::at(now, &reservation))
        }
        refused => refused.answer(now),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtendRequest {
    reservation_id: Option<ReservationId>,
    #[serde(alias = "bookingId")]
    order_id: Option<OrderId>,
    ttl_seconds: Option<Ttl>,
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
    let target = target(body.reservation_id, body.order_id)?;
    let command = request.invocation.command(target, Action::Extend { expires_at: after(now, ttl)? });
    deps.store.apply(command, &request.invocation).await?.answer(now)
}

fn after(now: Timestamp, ttl: Duration) -> Result<Timestamp, Problem> {
    now.checked_add(ttl).map_err(|e| Problem::internal(format!("the end of a hold: {e}")))
}
