//! `settle`: what becomes of a hold when the order goes well: confirm it, and let the goods leave.

use serde::Deserialize;
use shared::domain::{Action, OrderId, ReservationId, Shipment, ShipmentId};
use shared::http::{
    Answer, Deps, ItemRequest, Problem, Request, Role, find_target, refuse_null, serve, sum_order_lines,
};

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve("settle", |deps, request| Box::pin(handle(deps, request))).await
}

/// Answers one request.
///
/// # Errors
/// The problem that the client is told.
pub async fn handle(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    match request.route() {
        "POST /confirm" => confirm(deps, request).await,
        "POST /deduct" => deduct(deps, request).await,
        other => Err(Problem::no_route(other)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfirmRequest {
    reservation_id: Option<ReservationId>,
    #[serde(alias = "bookingId")]
    order_id: Option<OrderId>,
}

async fn confirm(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let body: ConfirmRequest = request.json()?;
    settle(deps, request, body.reservation_id, body.order_id, Action::Confirm).await
}

/// Without `items`, all that is held leaves. A part is told from another by its `shipmentId`, or, without
/// one, by its items: the same part sent twice leaves once.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeductRequest {
    reservation_id: Option<ReservationId>,
    #[serde(alias = "bookingId")]
    order_id: Option<OrderId>,
    #[serde(default, deserialize_with = "refuse_null")]
    items: Option<Vec<ItemRequest>>,
    #[serde(default, deserialize_with = "refuse_null")]
    shipment_id: Option<ShipmentId>,
}

async fn deduct(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let body: DeductRequest = request.json()?;
    let part = match (body.items, body.shipment_id) {
        (None, None) => None,
        (None, Some(_)) => return Err(Problem::invalid("shipmentId goes with items[], which is missing")),
        (Some(items), id) => Some(Shipment { id, lines: sum_order_lines(items)? }),
    };
    settle(deps, request, body.reservation_id, body.order_id, Action::Deduct { part }).await
}

async fn settle(
    deps: &Deps,
    request: &Request,
    reservation_id: Option<ReservationId>,
    order_id: Option<OrderId>,
    action: Action,
) -> Result<Answer, Problem> {
    let command = request.invocation.command(find_target(reservation_id, order_id)?, action);
    deps.store.apply(command, &request.invocation).await?.answer(request.invocation.now)
}
