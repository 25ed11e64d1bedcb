//! `stock-admin`: creates products, adds stock, corrects it, and sets it to what was counted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::domain::stock::{MAX_QUANTITY, MAX_STOCK};
use shared::domain::{Invalid, Location, ProductId, Quantity, Reason, UnitKey, Whole};
use shared::http::{Answer, Deps, Problem, Request, Role, serve};
use shared::store::{StockChange, StockOutcome, StockWrite};

/// Longest name of a product, in characters.
const MAX_NAME_CHARS: usize = 200;

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve(
        "stock-admin",
        |deps: Arc<Deps>, request: Arc<Request>| async move { handle(&deps, &request).await },
    )
    .await
}

/// Answers one request.
///
/// # Errors
/// The problem that the client is told.
pub async fn handle(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.require(Role::Admin)?;
    match request.route() {
        "POST /" => create(deps, request).await,
        "POST /add" => add(deps, request).await,
        "POST /adjust" => adjust(deps, request).await,
        "POST /audit" => audit(deps, request).await,
        other => Err(Problem::no_route(other)),
    }
}

/// A counter: 0 to [`MAX_STOCK`].
type Count = Whole<0, { MAX_STOCK.cast_signed() }>;
/// A quantity that may be negative.
type Signed = Whole<{ -MAX_QUANTITY.cast_signed() }, { MAX_QUANTITY.cast_signed() }>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateRequest {
    #[serde(alias = "sku", alias = "itemId")]
    product_id: ProductId,
    #[serde(default)]
    location: Location,
    name: Option<String>,
    /// First stock; none is 0.
    quantity: Option<Count>,
    low_stock_threshold: Option<Count>,
    max_per_order: Option<Quantity>,
}

async fn create(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    let body: CreateRequest = request.json()?;
    let count = |count: Option<Count>| count.map(|Whole(n)| n.unsigned_abs());
    let available = count(body.quantity).unwrap_or(0);
    let low_stock_threshold = count(body.low_stock_threshold);
    let max_per_order = body.max_per_order.map(Quantity::get);
    let name = body.name.map(product_name).transpose()?;
    let answer = StockAnswer {
        name: name.clone(),
        low_stock_threshold,
        max_per_order,
        ..StockAnswer::of("create", &body.product_id, &body.location, available.cast_signed())
    };
    let change = StockChange::Create { available, name, low_stock_threshold, max_per_order };
    write(deps, request, body.product_id, body.location, change, &answer).await
}

fn product_name(name: String) -> Result<String, Invalid> {
    let fits = (1..=MAX_NAME_CHARS).contains(&name.chars().count());
    if fits && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    Err(Invalid(format!("name: expected 1 to {MAX_NAME_CHARS} characters without control characters")))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddRequest {
    #[serde(alias = "sku", alias = "itemId")]
    product_id: ProductId,
    #[serde(default)]
    location: Location,
    quantity: Quantity,
}

async fn add(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    let AddRequest { product_id, location, quantity } = request.json()?;
    let answer = StockAnswer::of("add", &product_id, &location, quantity.get().cast_signed());
    write(deps, request, product_id, location, StockChange::Add(quantity), &answer).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AdjustRequest {
    #[serde(alias = "sku", alias = "itemId")]
    product_id: ProductId,
    #[serde(default)]
    location: Location,
    quantity: Signed,
    reason: Reason,
}

async fn adjust(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    let AdjustRequest { product_id, location, quantity: Whole(by), reason } = request.json()?;
    if by == 0 {
        return Err(Problem::invalid("quantity: 0 would change nothing; give by how many, up or down"));
    }
    let answer = StockAnswer {
        reason: Some(reason.to_string()),
        ..StockAnswer::of("adjust", &product_id, &location, by)
    };
    write(deps, request, product_id, location, StockChange::Adjust { by, reason }, &answer).await
}

/// `quantity` is what was counted on the shelf: available and reserved together.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuditRequest {
    #[serde(alias = "sku", alias = "itemId")]
    product_id: ProductId,
    #[serde(default)]
    location: Location,
    #[serde(alias = "countedQuantity")]
    quantity: Count,
}

async fn audit(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    let AuditRequest { product_id, location, quantity: Whole(counted) } = request.json()?;
    let answer = StockAnswer::of("audit", &product_id, &location, counted);
    let change = StockChange::Audit { on_hand: counted.unsigned_abs() };
    write(deps, request, product_id, location, change, &answer).await
}

/// What was done. It is kept and answered again for the same key, so it says nothing that could have
/// changed since; how much there is now is for `check` to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StockAnswer {
    operation: &'static str,
    product_id: String,
    location: String,
    quantity: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_stock_threshold: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_order: Option<u64>,
}

impl StockAnswer {
    fn of(operation: &'static str, product: &ProductId, location: &Location, quantity: i64) -> Self {
        Self {
            operation,
            product_id: product.to_string(),
            location: location.to_string(),
            quantity,
            reason: None,
            name: None,
            low_stock_threshold: None,
            max_per_order: None,
        }
    }
}

async fn write(
    deps: &Deps,
    request: &Request,
    product: ProductId,
    location: Location,
    change: StockChange,
    answer: &StockAnswer,
) -> Result<Answer, Problem> {
    let begins = matches!(change, StockChange::Create { .. });
    let write = StockWrite {
        unit: UnitKey { product, location, bucket: 0 },
        change,
        idempotency_key: request.idempotency_key()?,
        answer: serde_json::to_string(answer).map_err(|e| Problem::internal(format!("an answer: {e}")))?,
    };
    match deps.store.change_stock(&write, &request.invocation).await? {
        StockOutcome::Done { answer, first } => Ok(Answer::stored(begins && first, answer)),
        StockOutcome::Refused(refusal) => Err(Problem::from(&refusal)),
    }
}
