//! `release`: gives back what is held for an order.

use serde::Deserialize;
use shared::domain::{Action, OrderId, Reason, ReservationId};
use shared::http::{Answer, Deps, Problem, Request, Role, find_target, serve};

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve("release", |deps, request| Box::pin(handle(deps, request))).await
}

/// Answers one request.
///
/// # Errors
/// The problem that the client is told.
pub async fn handle(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    match request.route() {
        "POST /release" | "POST /unreserve" => release(deps, request).await,
        other => Err(Problem::no_route(other)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReleaseRequest {
    reservation_id: Option<ReservationId>,
    #[serde(alias = "bookingId")]
    order_id: Option<OrderId>,
    reason: Option<Reason>,
}

/// An order that is not known yet is released too, where the request names it by its order id: what is
/// written then keeps a reserve that is still under way from holding.
async fn release(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let body: ReleaseRequest = request.json()?;
    let target = find_target(body.reservation_id, body.order_id)?;
    let reason = body.reason.unwrap_or_else(Reason::requested);
    let command = request.invocation.command(target, Action::Release { reason });
    deps.store.apply(command, &request.invocation).await?.answer(request.invocation.now)
}
