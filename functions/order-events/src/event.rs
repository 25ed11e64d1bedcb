//! An order event, whatever its dress: bare, in an EventBridge envelope, in an SNS one. Names and fields
//! are matched without regard to case, punctuation and a trailing `Event`.

use serde_json::{Map, Value};
use shared::domain::{Fact, Invalid, LineKey, Location, OrderId, OrderLines, ProductId, Quantity};

/// Most envelopes around an event: SNS around EventBridge, and one to spare.
const MAX_ENVELOPES: usize = 3;

/// Longest correlation id that is taken over, in bytes, as over HTTP.
const MAX_CORRELATION_ID: usize = 128;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// The order.
    pub order_id: OrderId,
    /// The fact. None: an event that changes nothing, such as an order that was shipped.
    pub fact: Option<Fact>,
    /// The order's lines, where the fact may need them and the event has them.
    pub lines: Option<OrderLines>,
    /// Why the lines of a delivery cannot be read. Only where nothing was reserved they are needed.
    pub bad_lines: Option<Invalid>,
    /// Of the event, or the id of its envelope.
    pub correlation_id: Option<String>,
}

/// Reads an event from the text of a message.
///
/// # Errors
/// Says why it can never be understood.
pub fn parse(body: &str) -> Result<OrderEvent, Invalid> {
    let mut event: Value =
        serde_json::from_str(body).map_err(|e| Invalid(format!("the message is not JSON: {e}")))?;
    let (mut name, mut envelope_id) = (None, None);
    for _ in 0..MAX_ENVELOPES {
        let fields = fields(&event)?;
        let inner = if let (Some(Value::String(text)), Some(_)) =
            (find(fields, "message"), find(fields, "topicarn"))
        {
            envelope_id = self::text(find(fields, "messageid"));
            serde_json::from_str(text)
                .map_err(|e| Invalid(format!("the message inside the SNS one is not JSON: {e}")))?
        } else if let (Some(Value::String(of)), Some(detail)) =
            (find(fields, "detailtype"), find(fields, "detail"))
        {
            name = Some(of.clone());
            envelope_id = text(find(fields, "id"));
            detail.clone()
        } else {
            break;
        };
        event = inner;
    }
    let fields = fields(&event)?;
    let data = find(fields, "data").and_then(Value::as_object);
    let named = || ["eventtype", "event", "type"].iter().find_map(|field| text(find(fields, field)));
    let name = name.or_else(named).ok_or_else(|| {
        Invalid("the event has no name: detail-type, eventType, event or type is missing".to_owned())
    })?;
    let member = |names: &[&str]| names.iter().find_map(|n| find(fields, n).or_else(|| find(data?, n)));
    let status = text(member(&["status"]));
    let fact = fact(&name, status.as_deref())?;
    let order_id = text(member(&["orderid", "bookingid"]))
        .ok_or_else(|| Invalid(format!("{name} names no order: orderId or bookingId is missing")))?;
    let read_lines = || lines(member(&["items"]), [Some(fields), data]);
    let (lines, bad_lines) = match fact {
        Some(Fact::Created) => {
            let missing =
                || Invalid(format!("{name} has no lines: items[], or productId and quantity, are missing"));
            (Some(read_lines()?.ok_or_else(missing)?), None)
        }
        Some(Fact::Delivered) => read_lines().map_or_else(|bad| (None, Some(bad)), |lines| (lines, None)),
        // Whatever else is in the event must not keep the fact from being heard.
        _ => (None, None),
    };
    let usable = |id: &String| {
        (1..=MAX_CORRELATION_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    let correlation_id = text(member(&["correlationid"])).filter(usable).or(envelope_id.filter(usable));
    Ok(OrderEvent { order_id: OrderId::parse(order_id)?, fact, lines, bad_lines, correlation_id })
}

/// What a name stands for.
fn fact(name: &str, status: Option<&str>) -> Result<Option<Fact>, Invalid> {
    let plain = plain(name);
    match plain.strip_suffix("event").unwrap_or(&plain) {
        "ordercreated" | "bookingcreated" => Ok(Some(Fact::Created)),
        "paymentsucceeded" | "paymentprocessed" | "orderpaid" => Ok(Some(Fact::Paid)),
        "paymentfailed" => Ok(Some(Fact::PaymentFailed)),
        "ordercancelled" | "ordercanceled" | "bookingcancelled" | "bookingcanceled" => {
            Ok(Some(Fact::Cancelled))
        }
        "orderdelivered" => Ok(Some(Fact::Delivered)),
        "orderupdated" => Ok(match self::plain(status.unwrap_or_default()).as_str() {
            "delivered" => Some(Fact::Delivered),
            "cancelled" | "canceled" => Some(Fact::Cancelled),
            "paid" => Some(Fact::Paid),
            _ => None,
        }),
        _ => Err(Invalid(format!(
            "the event {name:?} is none that is understood here: created, paid, payment failed, cancelled, delivered or updated"
        ))),
    }
}

/// The lines in `items`, or the one that stands flat in the event.
fn lines(
    items: Option<&Value>,
    places: [Option<&Map<String, Value>>; 2],
) -> Result<Option<OrderLines>, Invalid> {
    let lines = match items {
        Some(Value::Array(items)) => {
            let line = |item: &Value| {
                line(fields(item)?)?.ok_or_else(|| Invalid("an item names no product".to_owned()))
            };
            items.iter().map(line).collect::<Result<Vec<_>, _>>()?
        }
        Some(Value::Null) | None => {
            let mut flat = Vec::new();
            for place in places.into_iter().flatten() {
                flat.extend(line(place)?);
            }
            flat.truncate(1);
            flat
        }
        Some(_) => return Err(Invalid("items is no list".to_owned())),
    };
    if lines.is_empty() && items.is_none_or(|items| items.as_array().is_none_or(Vec::is_empty)) {
        return Ok(None);
    }
    OrderLines::sum(lines).map(Some)
}

/// One product and quantity. A room that is booked without a quantity is one room.
fn line(item: &Map<String, Value>) -> Result<Option<(LineKey, Quantity)>, Invalid> {
    let named = ["productid", "sku", "itemid"].iter().find_map(|name| text(find(item, name)));
    let room = text(find(item, "roomid"));
    let default = room.as_ref().map(|_| Quantity::ONE);
    let Some(product) = named.or(room) else { return Ok(None) };
    let quantity = match find(item, "quantity") {
        Some(quantity) => serde_json::from_value(quantity.clone())
            .map_err(|e| Invalid(format!("the quantity of product {product}: {e}")))?,
        None => default.ok_or_else(|| Invalid(format!("the quantity of product {product} is missing")))?,
    };
    let location = match text(find(item, "location")) {
        Some(location) => Location::parse(location)?,
        None => Location::default(),
    };
    Ok(Some((LineKey { product: ProductId::parse(product)?, location }, quantity)))
}

fn fields(value: &Value) -> Result<&Map<String, Value>, Invalid> {
    value.as_object().ok_or_else(|| Invalid("the event is no JSON object".to_owned()))
}

/// A member by its plain name.
fn find<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| value)
}

/// An id as text; shops number their orders too.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A name without regard to case and punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines_of(of: &[(&str, u64)]) -> Option<OrderLines> {
        let line = |&(product, quantity): &(&str, u64)| {
            let key = LineKey { product: ProductId::parse(product).unwrap(), location: Location::default() };
            (key, Quantity::new(quantity).unwrap())
        };
        Some(OrderLines::sum(of.iter().map(line)).unwrap())
    }

    fn read(event: &Value) -> OrderEvent {
        parse(&event.to_string()).unwrap()
    }

    /// Every name of the table, and that case, punctuation and `Event` do not matter.
    #[test]
    fn every_name_is_understood_in_every_spelling() {
        for (names, want) in [
            (
                &["OrderCreated", "order.created", "BookingCreated", "ORDER_CREATED", "OrderCreatedEvent"][..],
                Fact::Created,
            ),
            (&["PaymentSucceeded", "PaymentProcessed", "order.paid", "payment_succeeded.event"], Fact::Paid),
            (&["PaymentFailed", "payment.failed"], Fact::PaymentFailed),
            (&["OrderCancelled", "order.cancelled", "BookingCancelled", "OrderCanceled"], Fact::Cancelled),
            (&["OrderDelivered", "order.delivered"], Fact::Delivered),
        ] {
            for name in names {
                for member in ["eventType", "event", "type", "EVENT_TYPE"] {
                    let event =
                        read(&json!({member: name, "orderId": "o", "items": [{"sku": "A", "quantity": 2}]}));
                    let needs = matches!(want, Fact::Created | Fact::Delivered);
                    let lines = if needs { lines_of(&[("A", 2)]) } else { None };
                    assert_eq!((event.fact, event.lines), (Some(want), lines), "{name}");
                }
            }
        }
    }

    #[test]
    fn an_update_says_it_by_its_status() {
        for (status, want) in [
            ("delivered", Some(Fact::Delivered)),
            ("CANCELLED", Some(Fact::Cancelled)),
            ("Paid", Some(Fact::Paid)),
            ("shipped", None),
            ("on its way", None),
        ] {
            for name in ["OrderUpdated", "order.updated"] {
                let event = read(&json!({"type": name, "data": {"order_id": "o", "status": status}}));
                assert_eq!((event.fact, event.order_id.as_str()), (want, "o"), "{status}");
            }
        }
        assert_eq!(read(&json!({"type": "order.updated", "orderId": "o"})).fact, None);
    }

    #[test]
    fn every_envelope_is_opened() {
        let bare = json!({"eventType": "OrderCreated", "orderId": 17, "productId": "A", "quantity": 1, "CorrelationID": "c"});
        let bridge = json!({"version": "0", "id": "e-1", "detail-type": "OrderCreated", "source": "shop",
            "detail": {"orderId": "17", "items": [{"itemId": "A", "quantity": 1}]}});
        let sns = |inner: &Value| json!({"Type": "Notification", "TopicArn": "arn:x", "Message": inner.to_string()});
        for (event, correlation) in
            [(bare.clone(), "c"), (bridge.clone(), "e-1"), (sns(&bare), "c"), (sns(&bridge), "e-1")]
        {
            let read = read(&event);
            assert_eq!((read.order_id.as_str(), read.fact), ("17", Some(Fact::Created)), "{event}");
            assert_eq!(
                (read.lines, read.correlation_id.as_deref()),
                (lines_of(&[("A", 1)]), Some(correlation))
            );
        }
    }

    #[test]
    fn a_room_without_a_quantity_is_one_room() {
        let booking = json!({"type": "BookingCreated", "bookingId": "b", "roomId": "R-1"});
        assert_eq!(read(&booking).lines, lines_of(&[("R-1", 1)]));
        let rooms = json!({"type": "BookingCreated", "data": {"bookingId": "b", "items": [{"roomId": "R-1"}, {"roomId": "R-2", "quantity": 2}]}});
        assert_eq!(read(&rooms).lines, lines_of(&[("R-1", 1), ("R-2", 2)]));
        let flat = json!({"type": "BookingCreated", "data": {"bookingId": "b", "roomId": "R-1"}});
        assert_eq!(read(&flat).lines, lines_of(&[("R-1", 1)]));
    }

    /// What a fact does not need cannot keep it from being heard.
    #[test]
    fn bad_lines_do_not_matter_where_none_are_needed() {
        for name in ["BookingCancelled", "PaymentSucceeded", "PaymentFailed"] {
            for items in [json!([{"itemId": "A"}]), json!(3), json!([{"sku": "A", "quantity": -1}])] {
                let event = read(&json!({"type": name, "bookingId": "b", "itemId": "A", "items": items}));
                assert_eq!((event.lines, event.bad_lines), (None, None));
            }
        }
        let delivered = read(&json!({"type": "OrderDelivered", "orderId": "o", "items": 3}));
        assert!(delivered.lines.is_none() && delivered.bad_lines.is_some());
        let long = read(&json!({"type": "OrderPaid", "orderId": "o", "correlationId": "x".repeat(200)}));
        assert_eq!(long.correlation_id, None);
    }

    #[test]
    fn what_cannot_be_understood_says_why() {
        for (body, why) in [
            ("nonsense".to_owned(), "not JSON"),
            ("[]".to_owned(), "no JSON object"),
            (json!({"orderId": "o"}).to_string(), "no name"),
            (json!({"type": "CustomerCreated", "orderId": "o"}).to_string(), "none that is understood"),
            (json!({"type": "OrderPaid"}).to_string(), "names no order"),
            (json!({"type": "OrderCreated", "orderId": "o"}).to_string(), "has no lines"),
            (json!({"type": "OrderCreated", "orderId": "o", "items": []}).to_string(), "has no lines"),
            (
                json!({"type": "OrderCreated", "orderId": "o", "items": [{"sku": "A"}]}).to_string(),
                "quantity of product A is missing",
            ),
            (
                json!({"type": "OrderCreated", "orderId": "o", "items": [{"sku": "A", "quantity": -1}]})
                    .to_string(),
                "not -1",
            ),
            (
                json!({"type": "OrderCreated", "orderId": "o", "items": [{"quantity": 1}]}).to_string(),
                "names no product",
            ),
            (json!({"type": "OrderCreated", "orderId": "o", "items": 3}).to_string(), "no list"),
            (json!({"type": "OrderPaid", "orderId": " o"}).to_string(), "no space at either end"),
            (json!({"detail-type": "OrderPaid", "detail": 1}).to_string(), "no JSON object"),
            (json!({"TopicArn": "x", "Message": "{"}).to_string(), "inside the SNS one"),
        ] {
            let Invalid(sentence) = parse(&body).unwrap_err();
            assert!(sentence.contains(why), "{body}: {sentence}");
        }
    }
}
