//! Error answers (RFC 9457, `application/problem+json`).

use lambda_http::http::StatusCode;
use serde_json::{Map, Value, json};

use super::format_time;
use crate::domain::stock::MAX_STOCK;
use crate::domain::{Invalid, Lack, Line, Refusal, Reservation, Shortage, StockRefusal, excerpt};
use crate::store::StoreError;

/// How long a client is asked to wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: u16 = 1;

/// The codes, stable for clients to match on.
pub mod code {
    #![expect(missing_docs, reason = "each says what it means")]
    pub const INVALID_REQUEST: &str = "invalid_request";
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    pub const FORBIDDEN: &str = "forbidden";
    pub const NOT_FOUND: &str = "not_found";
    pub const PAYLOAD_TOO_LARGE: &str = "payload_too_large";
    pub const UNKNOWN_PRODUCT: &str = "unknown_product";
    pub const INSUFFICIENT_STOCK: &str = "insufficient_stock";
    pub const PURCHASE_LIMIT_EXCEEDED: &str = "purchase_limit_exceeded";
    pub const RESERVATION_NOT_FOUND: &str = "reservation_not_found";
    pub const ORDER_LINES_DIFFER: &str = "order_lines_differ";
    pub const RESERVATION_EXPIRED: &str = "reservation_expired";
    pub const RESERVATION_RELEASED: &str = "reservation_released";
    pub const RESERVATION_FULFILLED: &str = "reservation_fulfilled";
    pub const RESERVATION_CONFIRMED: &str = "reservation_confirmed";
    pub const RESERVATION_REJECTED: &str = "reservation_rejected";
    pub const NOT_HELD: &str = "not_held";
    pub const SHIPMENT_DIFFERS: &str = "shipment_differs";
    pub const TOO_MANY_SHIPMENTS: &str = "too_many_shipments";
    pub const PRODUCT_EXISTS: &str = "product_exists";
    pub const STOCK_LIMIT_EXCEEDED: &str = "stock_limit_exceeded";
    pub const BELOW_RESERVED: &str = "below_reserved";
    pub const STOCK_CHANGED: &str = "stock_changed";
    pub const IDEMPOTENCY_KEY_REUSED: &str = "idempotency_key_reused";
    pub const TRY_AGAIN: &str = "try_again";
    pub const INTERNAL: &str = "internal";
}

/// An error answer.
#[derive(Debug)]
pub struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    /// For the client: a sentence without internal detail.
    detail: String,
    /// Further members of the answer.
    more: Map<String, Value>,
    pub(super) retry_after: Option<u16>,
    /// For the log only.
    pub(super) internal: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), more: Map::new(), retry_after: None, internal: None }
    }

    fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// 400: the request is invalid.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::INVALID_REQUEST, detail)
    }

    /// 400: this service wants every change of stock to have a key.
    pub(super) fn no_idempotency_key() -> Self {
        Self::invalid(
            "the header Idempotency-Key is missing, and this service requires it here; give each change a key of its \
             own, and send the same key whenever you send that change again",
        )
    }

    /// 404: there is no such route in this function.
    #[must_use]
    pub fn no_route(route: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code::NOT_FOUND, format!("there is no route {:?}", excerpt(route)))
    }

    /// 404: there is no such product.
    #[must_use]
    pub fn unknown_product(product: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code::UNKNOWN_PRODUCT, format!("there is no product {product}"))
            .with_member("products", json!([product]))
    }

    /// 404: there is no such product at this location.
    #[must_use]
    pub fn unknown_at_location(product: &str, location: &str) -> Self {
        let problem = Self::unknown_product(product);
        Self { detail: format!("there is no product {product} at {location}"), ..problem }
    }

    /// 404: nothing is known of such a reservation or order.
    #[must_use]
    pub fn no_reservation() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            code::RESERVATION_NOT_FOUND,
            "nothing is reserved for this order; if a reserve was sent and not answered, send it again",
        )
    }

    /// 503: the outcome is not known, or nothing was done; trying again is safe. The cause is for the log.
    #[must_use]
    pub fn try_again(cause: impl Into<String>) -> Self {
        let detail =
            "the outcome is not known yet; send the same request again, it will not be applied twice";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code::TRY_AGAIN, detail);
        problem.retry_after = Some(RETRY_AFTER_SECONDS);
        problem.internal = Some(cause.into());
        problem
    }

    /// Names the key to send with the next try, where the outcome is not known and the caller sent no key.
    pub(super) fn with_key_to_send(mut self, generated_key: Option<&str>) -> Self {
        let Some(key) = generated_key.filter(|_| self.code == code::TRY_AGAIN) else { return self };
        self.detail = format!(
            "the outcome is not known yet; send the same request again with the header \"Idempotency-Key: {key}\", \
             then it will not be applied twice"
        );
        self.with_member("idempotencyKey", key)
    }

    /// 500: something that must not happen. The cause is for the log.
    #[must_use]
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            code::INTERNAL,
            "something went wrong on our side; the correlation id finds it in the logs",
        );
        problem.internal = Some(cause.into());
        problem
    }

    pub(super) fn too_large(bytes: usize) -> Self {
        let detail = format!("the body has {bytes} bytes; at most {} are read", super::MAX_BODY_BYTES);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::PAYLOAD_TOO_LARGE, detail)
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, "this route needs a bearer token")
    }

    pub(super) fn forbidden(role: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, format!("this route needs the role {role}"))
    }

    /// Why an order could not be held. Limits and unknown products come first: waiting does not help against them.
    #[must_use]
    pub fn insufficient_stock(shortages: &[Shortage]) -> Self {
        let shortages_with = |wanted: fn(&Lack) -> bool| shortages.iter().filter(move |s| wanted(&s.lack));
        if let Some(shortage) = shortages_with(|lack| matches!(lack, Lack::OverLimit { .. })).next() {
            let Lack::OverLimit { max_per_order } = shortage.lack else { unreachable!("just matched") };
            let detail =
                format!("one order may hold at most {max_per_order} of product {}", shortage.unit.product);
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, code::PURCHASE_LIMIT_EXCEEDED, detail)
                .with_member("productId", shortage.unit.product.as_str())
                .with_member("maxPerOrder", max_per_order);
        }
        let unknown: Vec<&str> =
            shortages_with(|lack| matches!(lack, Lack::Unknown)).map(|s| s.unit.product.as_str()).collect();
        if !unknown.is_empty() {
            let detail = format!("there is no stock of {} at that location", unknown.join(", "));
            return Self::new(StatusCode::NOT_FOUND, code::UNKNOWN_PRODUCT, detail)
                .with_member("products", unknown);
        }
        let products: Vec<Value> = shortages
            .iter()
            .map(|s| {
                json!({
                    "productId": s.unit.product.as_str(),
                    "location": s.unit.location.as_str(),
                    "requestedQuantity": s.requested,
                    "availableQuantity": s.lack.available(),
                })
            })
            .collect();
        let sentences: Vec<String> = shortages
            .iter()
            .map(|s| {
                format!("{} requested {}, available {}", s.unit.product, s.requested, s.lack.available())
            })
            .collect();
        Self::new(
            StatusCode::CONFLICT,
            code::INSUFFICIENT_STOCK,
            format!("nothing was held, not enough is available: {}", sentences.join("; ")),
        )
        .with_member("products", products)
    }

    /// The answer to a refused request on a reservation, with the record as it is.
    #[must_use]
    pub fn from_refusal(refusal: &Refusal, reservation: Option<&Reservation>) -> Self {
        let conflict = |code, detail: String| Self::new(StatusCode::CONFLICT, code, detail);
        let unprocessable = |code, detail: &str| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
        let problem = match refusal {
            Refusal::NotFound => return Self::no_reservation(),
            Refusal::Short(shortages) => return Self::insufficient_stock(shortages),
            Refusal::LinesDiffer => lines_differ(reservation),
            Refusal::Expired => {
                let since =
                    reservation.and_then(|r| r.expires_at).map(|at| format!(" at {}", format_time(at)));
                let detail = format!("the hold ended{}", since.unwrap_or_default());
                conflict(code::RESERVATION_EXPIRED, detail)
            }
            Refusal::Released { reason } => conflict(
                code::RESERVATION_RELEASED,
                format!("nothing is held for this order: it was released ({reason})"),
            )
            .with_member("reason", reason.as_str()),
            Refusal::Fulfilled => {
                conflict(code::RESERVATION_FULFILLED, "the goods of this order have left".to_owned())
            }
            Refusal::Confirmed => conflict(
                code::RESERVATION_CONFIRMED,
                "the order is paid and held for good; it neither expires nor falls to a payment that failed"
                    .to_owned(),
            ),
            Refusal::Rejected => {
                conflict(code::RESERVATION_REJECTED, "the order could not be held when it came".to_owned())
            }
            Refusal::NotHeld { unit, requested, held } => conflict(
                code::NOT_HELD,
                format!(
                    "{requested} of product {} are to leave, {held} are held for this order",
                    unit.product
                ),
            )
            .with_member("productId", unit.product.as_str())
            .with_member("requestedQuantity", *requested)
            .with_member("heldQuantity", *held),
            Refusal::ShipmentDiffers => unprocessable(
                code::SHIPMENT_DIFFERS,
                "a shipment with this id left before with other items; nothing was changed",
            ),
            Refusal::TooManyShipments => unprocessable(
                code::TOO_MANY_SHIPMENTS,
                "this order has left in as many parts as one order may; deduct the rest at once",
            ),
        };
        match reservation {
            None => problem,
            Some(reservation) => problem
                .with_member("reservationId", reservation.id.to_string())
                .with_member("orderId", reservation.order_id.as_str()),
        }
    }

    /// The body, as RFC 9457 has it.
    #[must_use]
    pub fn to_json(&self, correlation_id: &str) -> String {
        let mut body = Map::new();
        body.insert("type".to_owned(), format!("urn:holdfast:problem:{}", self.code).into());
        body.insert("title".to_owned(), self.status.canonical_reason().unwrap_or_default().into());
        body.insert("status".to_owned(), self.status.as_u16().into());
        body.insert("code".to_owned(), self.code.into());
        body.insert("detail".to_owned(), self.detail.as_str().into());
        body.extend(self.more.clone());
        body.insert("correlationId".to_owned(), correlation_id.into());
        Value::Object(body).to_string()
    }
}

/// Lists the lines that the order has: a shop that sends its products one by one sees here that it must not.
fn lines_differ(reservation: Option<&Reservation>) -> Problem {
    let lines = reservation.map(|r| r.lines.as_slice()).unwrap_or_default();
    let of_line = |line: &Line| {
        json!({
            "productId": line.key.product.as_str(),
            "location": line.key.location.as_str(),
            "quantity": line.quantity,
        })
    };
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        code::ORDER_LINES_DIFFER,
        "this order was reserved before with other lines, which stand in items; nothing was changed. An order is \
         reserved once, with all its lines in items[]: send exactly the same lines to repeat it, or reserve what is \
         new under an order id of its own",
    )
    .with_member("items", lines.iter().filter(|line| line.is_ordered()).map(of_line).collect::<Vec<_>>())
}

impl From<Invalid> for Problem {
    fn from(Invalid(sentence): Invalid) -> Self {
        Self::invalid(sentence)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_retryable() {
            Self::try_again(error.to_string())
        } else {
            Self::internal(error.to_string())
        }
    }
}

impl From<&StockRefusal> for Problem {
    fn from(refusal: &StockRefusal) -> Self {
        let conflict = |code, detail: String| Self::new(StatusCode::CONFLICT, code, detail);
        match refusal {
            StockRefusal::Exists => conflict(
                code::PRODUCT_EXISTS,
                "the product is there already at this location; add, adjust or audit changes its stock"
                    .to_owned(),
            ),
            StockRefusal::Unknown => Self::new(
                StatusCode::NOT_FOUND,
                code::UNKNOWN_PRODUCT,
                "there is no such product at this location; create it, or add stock to it",
            ),
            StockRefusal::Short { available } => conflict(
                code::INSUFFICIENT_STOCK,
                format!("only {available} are available; what is reserved cannot be taken off"),
            )
            .with_member("availableQuantity", *available),
            StockRefusal::TooMuch { on_hand } => conflict(
                code::STOCK_LIMIT_EXCEEDED,
                format!("{on_hand} are on hand; with this it would be more than {MAX_STOCK}"),
            )
            .with_member("onHandQuantity", *on_hand),
            StockRefusal::BelowReserved { reserved } => conflict(
                code::BELOW_RESERVED,
                format!(
                    "{reserved} are promised to orders, so that many must be on hand; release some first"
                ),
            )
            .with_member("reservedQuantity", *reserved),
            StockRefusal::Changed { was, is } => conflict(
                code::STOCK_CHANGED,
                format!("{was} were on hand when this audit began and {is} are now; count again"),
            )
            .with_member("onHandQuantity", *is),
            StockRefusal::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                code::IDEMPOTENCY_KEY_REUSED,
                "this Idempotency-Key came before with another request; nothing was changed",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller that sent no key must send the generated one, or the next try would be another request.
    #[test]
    fn an_unknown_outcome_names_the_key_to_send() {
        let told = |problem: Problem, key| serde_json::from_str(&problem.with_key_to_send(key).to_json("c"));
        let body: Value = told(Problem::try_again("x"), Some("request-1")).unwrap();
        assert_eq!((&body["status"], &body["idempotencyKey"]), (&json!(503), &json!("request-1")));
        assert!(body["detail"].as_str().unwrap().contains("Idempotency-Key: request-1"));
        let body: Value = told(Problem::try_again("x"), None).unwrap();
        assert!(body["idempotencyKey"].is_null() && !body.to_string().contains("\"x\""));
        let body: Value = told(Problem::invalid("y"), Some("request-1")).unwrap();
        assert!(body["idempotencyKey"].is_null());
    }
}
