//! `stock-admin`: creates products, adds stock, corrects it, sets it to what was counted, and changes what is said
//! of products.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::domain::quantity::MAX_QUANTITY;
use shared::domain::stock::MAX_STOCK;
use shared::domain::{
    Edit, Invalid, Location, ProductId, Quantity, Reason, StockChange, StockCommand, StockUnit, UnitKey,
    Whole,
};
use shared::http::{Answer, Deps, Problem, Request, Role, refuse_null, serve};
use shared::planted;
use shared::store::StockOutcome;
use tokio::time::Instant;

/// Longest name of a product, in characters.
const MAX_NAME_CHARS: usize = 200;

/// How long an answer waits for the figures after its write. A read takes a few milliseconds; what is done is not
/// kept back for one that hangs.
const FIGURES_WITHIN: Duration = Duration::from_millis(500);

/// How long before its deadline an answer goes out without figures, so that they never cost it its time.
const SPARE: Duration = Duration::from_millis(50);

/// Runs the function.
///
/// # Errors
/// If a setting is bad, or the Runtime API is gone.
pub async fn run() -> Result<(), shared::Error> {
    serve("stock-admin", |deps, request| Box::pin(handle(deps, request))).await
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
        "PATCH /{productId}" => update(deps, request).await,
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
    #[serde(alias = "stock")]
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
        quantity: Some(available.cast_signed()),
        name: name.clone().map_or(Edit::Keep, Edit::Set),
        low_stock_threshold: low_stock_threshold.map_or(Edit::Keep, Edit::Set),
        max_per_order: max_per_order.map_or(Edit::Keep, Edit::Set),
        ..StockAnswer::of("create", &body.product_id, &body.location)
    };
    let change = StockChange::Create { available, name, low_stock_threshold, max_per_order };
    write_change(deps, request, body.product_id, body.location, change, &answer).await
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
    let answer = StockAnswer {
        quantity: Some(quantity.get().cast_signed()),
        ..StockAnswer::of("add", &product_id, &location)
    };
    write_change(deps, request, product_id, location, StockChange::Add(quantity), &answer).await
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
        quantity: Some(by),
        reason: Some(reason.to_string()),
        ..StockAnswer::of("adjust", &product_id, &location)
    };
    write_change(deps, request, product_id, location, StockChange::Adjust { by, reason }, &answer).await
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
    let answer = StockAnswer { quantity: Some(counted), ..StockAnswer::of("audit", &product_id, &location) };
    let change = StockChange::Audit { on_hand: counted.unsigned_abs() };
    write_change(deps, request, product_id, location, change, &answer).await
}

/// The attributes of a product at a location. An absent member leaves its attribute as it is, `null` removes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateRequest {
    #[serde(default, deserialize_with = "refuse_null")]
    location: Option<Location>,
    #[serde(default)]
    name: Edit<String>,
    #[serde(default)]
    low_stock_threshold: Edit<Count>,
    #[serde(default)]
    max_per_order: Edit<Quantity>,
}

async fn update(deps: &Deps, request: &Request) -> Result<Answer, Problem> {
    request.check_query_names(&["location"])?;
    let product = ProductId::parse(request.path("productId"))?;
    let in_query = request.query("location")?.map(Location::parse).transpose()?;
    let body: UpdateRequest = request.json()?;
    let location = match (in_query, body.location) {
        (Some(query), Some(body)) if query != body => {
            let detail = "the query and the body name different locations; one of them is enough";
            return Err(Problem::invalid(detail));
        }
        (query, body) => query.or(body).unwrap_or_default(),
    };
    if body.name.is_keep() && body.low_stock_threshold.is_keep() && body.max_per_order.is_keep() {
        let detail =
            "nothing is to be changed; give name, lowStockThreshold or maxPerOrder, null to take it away";
        return Err(Problem::invalid(detail));
    }
    let name = body.name.try_map(product_name)?;
    let low_stock_threshold = body.low_stock_threshold.map(|Whole(n)| n.unsigned_abs());
    let max_per_order = body.max_per_order.map(Quantity::get);
    let answer = StockAnswer {
        name: name.clone(),
        low_stock_threshold,
        max_per_order,
        ..StockAnswer::of("update", &product, &location)
    };
    let change = StockChange::Update { name, low_stock_threshold, max_per_order };
    write_change(deps, request, product, location, change, &answer).await
}

/// The change that was made. It is stored and answered again for the same key, so it holds nothing that could have
/// changed since. The figures of now are read each time and follow it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StockAnswer {
    operation: String,
    product_id: String,
    location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    name: Edit<String>,
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    low_stock_threshold: Edit<u64>,
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    max_per_order: Edit<u64>,
}

impl StockAnswer {
    fn of(operation: &str, product: &ProductId, location: &Location) -> Self {
        Self {
            operation: operation.to_owned(),
            product_id: product.to_string(),
            location: location.to_string(),
            quantity: None,
            reason: None,
            name: Edit::Keep,
            low_stock_threshold: Edit::Keep,
            max_per_order: Edit::Keep,
        }
    }
}

/// The change that was made, and the stock that the location has now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerNow {
    #[serde(flatten)]
    done: StockAnswer,
    available_quantity: u64,
    reserved_quantity: u64,
    total_quantity: u64,
    sold_quantity: u64,
}

impl AnswerNow {
    fn of(done: StockAnswer, now: &StockUnit) -> Self {
        Self {
            done,
            available_quantity: now.available,
            reserved_quantity: now.reserved,
            total_quantity: now.on_hand(),
            sold_quantity: now.sold,
        }
    }
}

/// A stored answer with the figures as they are now. Where they cannot be read, it is answered as it is: what it says
/// is done.
async fn add_figures(deps: &Deps, request: &Request, unit: &UnitKey, stored: String) -> String {
    let read = async {
        let now = deps.store.stock_unit(unit, &request.invocation).await.map_err(|e| e.to_string())?;
        let now = now.ok_or("there is no such stock unit")?;
        let done = serde_json::from_str(&stored).map_err(|e| e.to_string())?;
        serde_json::to_string(&AnswerNow::of(done, &now)).map_err(|e| e.to_string())
    };
    let deadline = request.invocation.deadline;
    let patience =
        if planted("what-is-done-waits-for-figures") { 60 * FIGURES_WITHIN } else { FIGURES_WITHIN };
    let until = deadline.checked_sub(SPARE).unwrap_or(deadline).min(Instant::now() + patience);
    let read: Result<String, String> =
        tokio::time::timeout_at(until, read).await.unwrap_or_else(|_| Err("not read in time".to_owned()));
    read.unwrap_or_else(|error| {
        let correlation_id = &request.invocation.correlation_id;
        tracing::warn!(operation = "stock-admin", correlation_id, error, "answered without figures");
        stored
    })
}

async fn write_change(
    deps: &Deps,
    request: &Request,
    product: ProductId,
    location: Location,
    change: StockChange,
    answer: &StockAnswer,
) -> Result<Answer, Problem> {
    let begins = matches!(change, StockChange::Create { .. });
    let command = StockCommand {
        unit: UnitKey { product, location, bucket: 0 },
        change,
        idempotency_key: request.idempotency_key(deps.settings.requires_idempotency_key)?,
        answer: serde_json::to_string(answer).map_err(|e| Problem::internal(format!("an answer: {e}")))?,
    };
    match deps.store.change_stock(&command, &request.invocation).await? {
        StockOutcome::Done { answer, first } => {
            let answer = add_figures(deps, request, &command.unit, answer).await;
            Ok(Answer::stored(begins && first, answer))
        }
        StockOutcome::Refused(refusal) => Err(Problem::from(&refusal)),
    }
}
