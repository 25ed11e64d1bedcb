//! `check`: everything that is only read. What it says of stock is advice for a moment, never a promise.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared::domain::{Invalid, Location, OrderId, ProductId, Quantity, ReservationId, UnitKey, excerpt};
use shared::http::{Answer, Deps, Problem, ProductView, Request, ReservationView, Role, serve};
use shared::store::{MAX_BATCH_READ, MAX_LOCATIONS, MAX_PAGE, ProductCursor, ProductList};

/// Products in one page of the list, unless the request says otherwise.
const DEFAULT_PAGE: usize = 20;

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve("check", |deps, request| Box::pin(handle(deps, request))).await
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
    request.check_query_names(&["locationLimit", "locationCursor"])?;
    let product = ProductId::parse(request.path("productId"))?;
    let limit = parse_limit(request, "locationLimit", MAX_LOCATIONS)?.unwrap_or(MAX_LOCATIONS);
    let after = request.query("locationCursor")?.map(Location::parse).transpose()?;
    let shown = deps.store.shown_product(&product, after.as_ref(), limit, &request.invocation).await?;
    let shown = shown.ok_or_else(|| match &after {
        None => Problem::unknown_product(product.as_str()),
        Some(after) => Problem::unknown_at_location(product.as_str(), &format!("any location after {after}")),
    })?;
    Ok(Answer::ok(&ProductView::of(&shown, deps.settings.low_stock_threshold))?.cacheable())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProductPage {
    items: Vec<ProductView>,
    /// Products of this page that a record of cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
    /// Asks for what follows; none on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn products(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.check_query_names(&["limit", "cursor", "lowStock"])?;
    let limit = parse_limit(request, "limit", MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
    let after = request.query("cursor")?.map(ProductCursor::parse).transpose()?;
    let only_low = request.query("lowStock")?.map(parse_flag).transpose()?.unwrap_or(false);
    if only_low {
        return low_products(deps, request, after.as_ref(), limit).await;
    }
    let after = after.as_ref().map(ProductCursor::product);
    let list = deps.store.list_products(after, limit, &request.invocation).await?;
    build_page(deps, &list, |_| true)
}

/// Products that are low or out somewhere, from the alerts that the publisher keeps: a moment behind.
async fn low_products(
    deps: &Deps,
    request: &Request,
    after: Option<&ProductCursor>,
    limit: usize,
) -> Result<Answer, Problem> {
    let list = deps.store.list_low_products(after, limit, &request.invocation).await?;
    // An alert may be older than a threshold that was changed since. Where not all locations are shown, it may be
    // another one that is low.
    build_page(deps, &list, |view| view.low_stock_alert || view.has_more_locations())
}

fn build_page(
    deps: &Deps,
    list: &ProductList,
    keep: impl Fn(&ProductView) -> bool,
) -> Result<Answer, Problem> {
    let views = list.products.iter().map(|shown| ProductView::of(shown, deps.settings.low_stock_threshold));
    let page = ProductPage {
        items: views.filter(keep).collect(),
        unreadable: list.unreadable.iter().map(ToString::to_string).collect(),
        next_cursor: list.next.as_ref().map(ToString::to_string),
    };
    Ok(Answer::ok(&page)?.cacheable())
}

/// A limit of the query, where it is given: 1 to `most`.
fn parse_limit(request: &Request, name: &str, most: usize) -> Result<Option<usize>, Problem> {
    let Some(text) = request.query(name)? else { return Ok(None) };
    let parsed = text.parse().ok().filter(|n| (1..=most).contains(n));
    let refuse = || {
        Problem::invalid(format!("{name}: expected a whole number from 1 to {most}, not {:?}", excerpt(text)))
    };
    parsed.map(Some).ok_or_else(refuse)
}

fn parse_flag(text: &str) -> Result<bool, Invalid> {
    text.parse().map_err(|_| Invalid(format!("lowStock: expected true or false, not {:?}", excerpt(text))))
}

/// The quantity of each product that a reserve without a location could take; 0 for a product that does not exist.
async fn check(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    let asked: BTreeSet<ProductId> = request.json_list::<ProductId>()?.into_iter().collect();
    if !(1..=MAX_BATCH_READ).contains(&asked.len()) {
        let detail =
            format!("1 to {MAX_BATCH_READ} different products are checked at once, not {}", asked.len());
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
    let key = UnitKey { product: product_id, location, bucket: 0 };
    let unit = deps.store.stock_unit_eventually(&key, &request.invocation).await?;
    let UnitKey { product, location, .. } = &key;
    let unit = unit.ok_or_else(|| Problem::unknown_at_location(product.as_str(), location.as_str()))?;
    let answer = AvailabilityAnswer {
        product_id: product.to_string(),
        location: location.to_string(),
        requested_quantity: quantity.get(),
        available_quantity: unit.available,
        available: unit.available >= quantity.get(),
    };
    Ok(Answer::ok(&answer)?.cacheable())
}

async fn reservation(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::System)?;
    request.check_query_names(&[])?;
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
    request.check_query_names(&[])?;
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
