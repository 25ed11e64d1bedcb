//! Operations as they are sent: requests over HTTP, and events.

use serde_json::{Value, json};
use shared::domain::Fact;

use super::lines::Lines;
use super::op::{Ask, Change};

/// An HTTP request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The route, without its base.
    pub path: &'static str,
    /// The product in the path, where the route has one.
    pub product: Option<String>,
    /// The body.
    pub body: Value,
}

impl Request {
    fn post(path: &'static str, body: Value) -> Self {
        Self { method: "POST", path, product: None, body }
    }
}

fn items(lines: &Lines) -> Value {
    lines.iter().map(|(product, quantity)| json!({"productId": product, "quantity": quantity})).collect()
}

impl Ask {
    /// As a client sends it.
    #[must_use]
    pub fn request(&self, order: &str) -> Request {
        let mut body = json!({"orderId": order});
        let path = match self {
            Self::Reserve(lines, ttl) => {
                body["items"] = items(lines);
                if let Some(ttl) = ttl {
                    body["ttlSeconds"] = (*ttl).into();
                }
                "/reserve"
            }
            Self::Confirm => "/confirm",
            Self::Release(reason) => {
                body["reason"] = (*reason).into();
                "/release"
            }
            Self::Deduct(part) => {
                if let Some(part) = part {
                    body["items"] = items(part);
                }
                "/deduct"
            }
            Self::Extend(ttl) => {
                body["ttlSeconds"] = (*ttl).into();
                "/extend"
            }
        };
        Request::post(path, body)
    }
}

impl Change {
    /// As an operator sends it.
    #[must_use]
    pub fn request(&self, product: &str) -> Request {
        let body = json!({"productId": product});
        let with = |name: &str, value: Value| {
            let mut body = body.clone();
            body[name] = value;
            body
        };
        match self {
            Self::Create(available, limit) => {
                let mut body = with("quantity", (*available).into());
                if let Some(limit) = limit {
                    body["maxPerOrder"] = (*limit).into();
                }
                Request::post("/", body)
            }
            Self::Add(quantity) => Request::post("/add", with("quantity", (*quantity).into())),
            Self::Adjust(by) => {
                let mut body = with("quantity", (*by).into());
                body["reason"] = "count".into();
                Request::post("/adjust", body)
            }
            Self::Audit(counted) => Request::post("/audit", with("quantity", (*counted).into())),
            Self::Update(limit) => Request {
                method: "PATCH",
                path: "/{productId}",
                product: Some(product.to_owned()),
                body: json!({"maxPerOrder": limit}),
            },
        }
    }
}

/// The body of an order event.
#[must_use]
pub fn event(correlation: &str, order: &str, fact: Fact, lines: &Lines, shipment: Option<&str>) -> Value {
    let name = match fact {
        Fact::Created => "OrderCreated",
        Fact::PaymentFailed => "PaymentFailed",
        Fact::Paid => "PaymentSucceeded",
        Fact::Cancelled => "OrderCancelled",
        Fact::Delivered => "OrderDelivered",
    };
    let mut event = json!({"eventType": name, "orderId": order, "correlationId": correlation});
    if matches!(fact, Fact::Created | Fact::Delivered) {
        event["items"] = items(lines);
    }
    if let Some(shipment) = shipment {
        event["shipmentId"] = shipment.into();
    }
    event
}
