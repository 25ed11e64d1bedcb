//! `check`: everything that is only read. What it says of stock is advice for a moment, never a promise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::domain::{Invalid, Location, OrderId, ProductId, Quantity, ReservationId};
use shared::http::{Answer, Deps, Problem, ProductView, Request, ReservationView, Role, serve};
use shared::store::{MAX_CHECK, MAX_PAGE};

/// Products in one page of the list, unless the request says otherwise.
const DEFAULT_PAGE: usize = 20;

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve("check", |deps: Arc<Deps>, request: Arc<Request>| async move { handle(&deps, &request).await })
        .await
}

/// Answers one request.
///
/// # Errors
/// The problem that the client is told.
pub async fn handle(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    match request.route() {
        "GET /{productId}" => product(deps, request).await,
        "GET /" => products(deps, request).await,
        "POST /check" => check(deps, request).await,
        "POST /check-availability" => check_availability(deps, request).await,
        "GET /reservations/{reservationId}" => reservation(deps, request).await,
        "GET /reservations/order/{orderId}" => reservations_of_order(deps, request).await,
        "GET /health" => health(deps, request).await,
        other => Err(Problem::no_route(other)),
    }
}

async fn product(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.known_query(&[])?;
    let product = ProductId::parse(request.path("productId"))?;
    let units = deps.store.product(&product, &request.invocation).await?;
    let view = ProductView::of(&units, deps.settings.low_stock_threshold)
        .ok_or_else(|| Problem::unknown_product(product.as_str()))?;
    Answer::ok(&view)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProductPage {
    items: Vec<ProductView>,
    /// Asks for what follows; none on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn products(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.known_query(&["limit", "cursor", "lowStock"])?;
    let limit = request.query("limit")?.map(limit).transpose()?.unwrap_or(DEFAULT_PAGE);
    let after = request.query("cursor")?.map(ProductId::parse).transpose()?;
    let only_low = request.query("lowStock")?.map(yes_or_no).transpose()?.unwrap_or(false);
    if only_low {
        return low_products(deps, request, after.as_ref(), limit).await;
    }
    let page = deps.store.products(after.as_ref(), limit, &request.invocation).await?;
    let items = page
        .products
        .iter()
        .filter_map(|(_, units)| ProductView::of(units, deps.settings.low_stock_threshold))
        .collect();
    Answer::ok(&ProductPage { items, next_cursor: page.next.map(|product| product.to_string()) })
}

/// Products that are low or out somewhere, from the alerts that the publisher keeps: a moment behind.
async fn low_products(
    deps: &Deps,
    request: &Request,
    after: Option<&ProductId>,
    limit: usize,
) -> Result<Answer, Problem> {
    let (products, more) = deps.store.low_products(after, limit, &request.invocation).await?;
    let reads = products.iter().map(|product| deps.store.product(product, &request.invocation));
    let found = futures::future::try_join_all(reads).await?;
    // An alert may be older than a threshold that was changed since.
    let items = found
        .iter()
        .filter_map(|units| ProductView::of(units, deps.settings.low_stock_threshold))
        .filter(|view| view.low_stock_alert)
        .collect();
    let next_cursor = products.last().filter(|_| more).map(ToString::to_string);
    Answer::ok(&ProductPage { items, next_cursor })
}

fn limit(text: &str) -> Result<usize, Invalid> {
    text.parse()
        .ok()
        .filter(|n| (1..=MAX_PAGE).contains(n))
        .ok_or_else(|| Invalid(format!("limit: expected a whole number from 1 to {MAX_PAGE}, not {text:?}")))
}

fn yes_or_no(text: &str) -> Result<bool, Invalid> {
    text.parse().map_err(|_| Invalid(format!("lowStock: expected true or false, not {text:?}")))
}

/// What a reserve that names no location could take, by product; 0 for a product that is not there.
async fn check(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let asked: BTreeSet<ProductId> = request.json_list::<ProductId>()?.into_iter().collect();
    if !(1..=MAX_CHECK).contains(&asked.len()) {
        let detail = format!("1 to {MAX_CHECK} different products are checked at once, not {}", asked.len());
        return Err(Problem::invalid(detail));
    }
    let units = deps.store.stock_at_main(&asked, &request.invocation).await?;
    let mut available: BTreeMap<&str, u64> = asked.iter().map(|product| (product.as_str(), 0)).collect();
    for unit in &units {
        available.insert(unit.key.product.as_str(), unit.available);
    }
    Answer::ok(&available)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AvailabilityRequest {
    #[serde(alias = "sku", alias = "itemId")]
    product_id: ProductId,
    quantity: Quantity,
    #[serde(default)]
    location: Location,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AvailabilityAnswer {
    product_id: String,
    location: String,
    requested_quantity: u64,
    available_quantity: u64,
    available: bool,
}

async fn check_availability(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    let AvailabilityRequest { product_id, quantity, location } = request.json()?;
    let units = deps.store.product(&product_id, &request.invocation).await?;
    let unit = units
        .iter()
        .find(|unit| unit.key.location == location)
        .ok_or_else(|| Problem::unknown_at(product_id.as_str(), location.as_str()))?;
    Answer::ok(&AvailabilityAnswer {
        product_id: product_id.to_string(),
        location: location.to_string(),
        requested_quantity: quantity.get(),
        available_quantity: unit.available,
        available: unit.available >= quantity.get(),
    })
}

async fn reservation(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    request.known_query(&[])?;
    let id = ReservationId::parse(request.path("reservationId"))?;
    let found = deps.store.reservation(id, &request.invocation).await?.ok_or_else(Problem::no_reservation)?;
    Answer::ok(&ReservationView::at(request.invocation.now, &found))
}

/// A list, though an order has one reservation at most: none is an empty list.
async fn reservations_of_order(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Reservations {
        items: Vec<ReservationView>,
    }
    request.require(Role::System)?;
    request.known_query(&[])?;
    let order_id = OrderId::parse(request.path("orderId"))?;
    let found = deps.store.reservation(ReservationId::of(&order_id), &request.invocation).await?;
    let items = found.iter().map(|found| ReservationView::at(request.invocation.now, found)).collect();
    Answer::ok(&Reservations { items })
}

/// Healthy is: the table answers.
async fn health(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
    }
    deps.store.ping(&request.invocation).await?;
    Answer::ok(&Health { status: "ok" })
}
