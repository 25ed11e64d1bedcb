//! An order event, whatever its dress: bare, in an EventBridge envelope, in an SNS one. Names and fields
//! are matched without regard to case, punctuation and a trailing `Event`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;
use shared::domain::{
    DeliveredLines, Delivery, Fact, Heard, Invalid, LineKey, Location, OrderId, Ordered, ProductId, Quantity,
    ShipmentId, excerpt,
};
use shared::planted;

use crate::name::{Meaning, meaning, plain};

/// Most envelopes around an event: SNS around EventBridge, and one to spare.
const MAX_ENVELOPES: usize = 3;

/// Longest correlation id that is taken over, in bytes, as over HTTP.
const MAX_CORRELATION_ID: usize = 128;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something has happened to an order.
    Fact(OrderEvent),
    /// Nothing that concerns stock.
    Nothing(Unconcerned),
}

/// A fact about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// The order.
    pub order_id: OrderId,
    /// The fact, with what it came with.
    pub heard: Heard,
    /// Of the event, or the id of its envelope.
    pub correlation_id: Option<String>,
}

impl OrderEvent {
    /// Which fact it tells.
    #[must_use]
    pub fn fact(&self) -> Fact {
        self.heard.fact()
    }
}

/// An event that needs nothing, such as an order that was shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconcerned {
    /// The event's name, cut to what is logged of it.
    pub name: String,
    /// Whether the name is one that is understood; then it is the status that needs nothing.
    pub is_known: bool,
    /// Of the event, or the id of its envelope.
    pub correlation_id: Option<String>,
}

/// The members of a JSON object as they were written: a number is read by its own text, or not at all.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads an event from the text of a message. `attribute` is what the message itself is said to be; it counts
/// where the text does not name the event.
///
/// # Errors
/// Says why it can never be understood.
pub fn parse(body: &str, attribute: Option<&str>) -> Result<Event, Invalid> {
    let Opened { text, name, attribute: of_envelope, id: envelope_id } = open(body)?;
    let fields = fields(&text)?;
    let data = find(&fields, "data").and_then(|data| self::fields(data.get()).ok());
    let places = || [Some(&fields), data.as_ref()].into_iter().flatten();
    let named =
        || ["eventType", "eventName", "event", "type"].iter().find_map(|n| plain_text(find(&fields, n)));
    let mut names: Vec<String> = name.into_iter().chain(named()).collect();
    if names.is_empty() {
        names.extend(of_envelope.or(attribute.map(str::to_owned)));
    }
    let (name, meaning) = meaning_of(names)?;
    let member = |names: &[&str]| names.iter().find_map(|n| places().find_map(|place| find(place, n)));
    let usable = |id: &String| {
        (1..=MAX_CORRELATION_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    let correlation_id = plain_text(member(&["correlationId"])).filter(usable).or(envelope_id.filter(usable));
    let (fact, is_known) = match meaning {
        Meaning::Fact(fact) => (Some(fact), true),
        Meaning::ByStatus => (of_status(plain_text(member(&["status"])).as_deref()), true),
        Meaning::Nothing => (None, false),
    };
    let name = excerpt(&name);
    let Some(fact) = fact else {
        return Ok(Event::Nothing(Unconcerned { name, is_known, correlation_id }));
    };
    let order_id =
        ["orderId", "bookingId"].iter().find_map(|n| places().find_map(|place| id(place, n).transpose()));
    let order_id = order_id
        .transpose()?
        .ok_or_else(|| Invalid(format!("{name} names no order: orderId or bookingId is missing")))?;
    let read_lines = |zero_is_none| lines(member(&["items"]), places(), zero_is_none);
    let heard = match fact {
        Fact::Created => created(&name, read_lines(false)?)?,
        Fact::Delivered => {
            let shipment = places().find_map(|place| id(place, "shipmentId").transpose()).transpose()?;
            Heard::Delivered(delivery(read_lines(true)?, shipment.map(ShipmentId::parse).transpose()?)?)
        }
        // Whatever else is in the event must not keep the fact from being heard.
        Fact::PaymentFailed => Heard::PaymentFailed,
        Fact::Paid => Heard::Paid,
        Fact::Cancelled => Heard::Cancelled,
    };
    Ok(Event::Fact(OrderEvent { order_id: OrderId::parse(order_id)?, heard, correlation_id }))
}

/// What the event is called, and what that stands for. The name on an envelope may be a general one (`Order Event`);
/// the event inside then says which.
fn meaning_of(names: Vec<String>) -> Result<(String, Meaning), Invalid> {
    let mut nothing = None;
    for name in names.into_iter().filter(|name| !plain(name).is_empty()) {
        match meaning(&name)? {
            Meaning::Nothing => nothing = nothing.or(Some(name)),
            known => return Ok((name, known)),
        }
    }
    nothing.map(|name| (name, Meaning::Nothing)).ok_or_else(|| {
        let places = "detail-type, eventType, eventName, event, type, or the message attribute eventType";
        Invalid(format!("the event has no name: {places} is missing"))
    })
}

/// What an order with such lines says.
fn created(name: &str, lines: Option<Vec<EventLine>>) -> Result<Heard, Invalid> {
    let missing = || Invalid(format!("{name} has no lines: items[], or productId and quantity, are missing"));
    let located = lines.ok_or_else(missing)?.into_iter().map(|(product, location, quantity)| {
        (LineKey { product, location: location.unwrap_or_default() }, quantity)
    });
    Ok(Heard::Created(Ordered::sum(located)?))
}

/// What a delivery with such lines says.
fn delivery(lines: Option<Vec<EventLine>>, shipment: Option<ShipmentId>) -> Result<Delivery, Invalid> {
    let Some(lines) = lines else { return Ok(Delivery::All) };
    let lines = DeliveredLines::sum(lines)?;
    Ok(match shipment {
        Some(id) => Delivery::Shipment(id, lines),
        None => Delivery::Total(lines),
    })
}

/// An event out of its envelopes, and what these say of it.
struct Opened<'a> {
    text: Cow<'a, str>,
    /// Its name; an envelope of EventBridge always has one.
    name: Option<String>,
    /// What SNS was told that it is.
    attribute: Option<String>,
    id: Option<String>,
}

fn open(body: &str) -> Result<Opened<'_>, Invalid> {
    let mut opened = Opened { text: Cow::Borrowed(body), name: None, attribute: None, id: None };
    for _ in 0..MAX_ENVELOPES {
        let fields = fields(&opened.text)?;
        let inner =
            if let (Some(text), Some(_)) = (string(find(&fields, "message")), find(&fields, "topicArn")) {
                if let Err(e) = serde_json::from_str::<&RawValue>(&text) {
                    return Err(Invalid(format!("the message inside the SNS one is not JSON: {e}")));
                }
                opened.id = plain_text(find(&fields, "messageId"));
                opened.attribute = find(&fields, "messageAttributes").and_then(sns_attribute);
                text
            } else if let (Some(of), Some(detail)) =
                (string(find(&fields, "detail-type")), find(&fields, "detail"))
            {
                opened.name = Some(of);
                opened.id = plain_text(find(&fields, "id"));
                detail.get().to_owned()
            } else {
                break;
            };
        opened.text = Cow::Owned(inner);
    }
    Ok(opened)
}

/// The attribute `eventType`, as SNS writes attributes into its envelope.
fn sns_attribute(attributes: &RawValue) -> Option<String> {
    let attributes = fields(attributes.get()).ok()?;
    let attribute = fields(find(&attributes, "eventType")?.get()).ok()?;
    string(find(&attribute, "value"))
}

/// What an update of an order says by its status.
fn of_status(status: Option<&str>) -> Option<Fact> {
    match plain(status.unwrap_or_default()).as_str() {
        "delivered" => Some(Fact::Delivered),
        "cancelled" | "canceled" => Some(Fact::Cancelled),
        "paid" => Some(Fact::Paid),
        _ => None,
    }
}

/// A line as an event has it: the location only where it names one.
type EventLine = (ProductId, Option<Location>, Quantity);

/// The lines in `items`, or the one that stands flat in the event. `zero_is_none`: an item of quantity 0 says that
/// there is none of it.
fn lines<'a>(
    items: Option<&RawValue>,
    mut places: impl Iterator<Item = &'a Fields<'a>>,
    zero_is_none: bool,
) -> Result<Option<Vec<EventLine>>, Invalid> {
    let items = match items.map(|items| serde_json::from_str::<Option<Vec<&RawValue>>>(items.get())) {
        None | Some(Ok(None)) => None,
        Some(Ok(Some(items))) => Some(items),
        Some(Err(_)) => return Err(Invalid("items is no list".to_owned())),
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let flat = places.find_map(|place| line(place).transpose()).transpose()?;
        return Ok(flat.map(|line| vec![line]));
    };
    let mut lines = Vec::with_capacity(items.len());
    for item in items {
        let item = fields(item.get())?;
        let is_zero = find(&item, "quantity").is_some_and(|quantity| quantity.get() == "0");
        if !(zero_is_none && is_zero) {
            lines.push(line(&item)?.ok_or_else(|| Invalid("an item names no product".to_owned()))?);
        }
    }
    Ok(Some(lines))
}

/// One product and quantity. A room that is booked without a quantity is one room.
fn line(item: &Fields) -> Result<Option<EventLine>, Invalid> {
    let named =
        ["productId", "sku", "itemId"].iter().find_map(|name| id(item, name).transpose()).transpose()?;
    let room = id(item, "roomId")?;
    let default = room.as_ref().map(|_| Quantity::ONE);
    let Some(product) = named.or(room) else { return Ok(None) };
    let of = excerpt(&product);
    let quantity = match find(item, "quantity") {
        Some(quantity) => serde_json::from_str(quantity.get())
            .and_then(|quantity: Value| serde_json::from_value::<Quantity>(quantity))
            .map_err(|e| Invalid(format!("the quantity of product {of}: {e}")))?,
        None => default.ok_or_else(|| Invalid(format!("the quantity of product {of} is missing")))?,
    };
    let location = id(item, "location")?.map(Location::parse).transpose()?;
    Ok(Some((ProductId::parse(product)?, location, quantity)))
}

fn fields(json: &str) -> Result<Fields<'_>, Invalid> {
    serde_json::from_str(json).map_err(|error| match error.classify() {
        Category::Data => Invalid("the event is no JSON object".to_owned()),
        _ => Invalid(format!("the message is not JSON: {error}")),
    })
}

/// A member by its name.
fn find<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    let name = plain(name);
    fields.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| *value)
}

/// An id as text. Shops number their orders too: a number is taken exactly as it is written, if it is of digits
/// alone. What has a fraction or an exponent can be written in several ways, and each would be another order.
fn id(fields: &Fields, name: &str) -> Result<Option<String>, Invalid> {
    let Some(value) = find(fields, name) else { return Ok(None) };
    let is_number = value.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match plain_text(Some(value)) {
        None if is_number => Err(Invalid(format!(
            "{name} is the number {}; a number is an id where it is of digits alone, otherwise send it as a text",
            excerpt(value.get())
        ))),
        text => Ok(text),
    }
}

/// A text, or a number of digits alone; anything else is none.
fn plain_text(value: Option<&RawValue>) -> Option<String> {
    let digits = value.map(RawValue::get).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let read = |text: &str| match planted("a-number-is-an-id-by-its-value") {
        true => {
            serde_json::from_str(text).map_or_else(|_| text.to_owned(), |number: Value| number.to_string())
        }
        false => text.to_owned(),
    };
    digits.map(read).or_else(|| string(value))
}

fn string(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn created(of: &[(&str, u64)]) -> Heard {
        let line = |&(product, quantity): &(&str, u64)| {
            let key = LineKey { product: ProductId::parse(product).unwrap(), location: Location::default() };
            (key, Quantity::new(quantity).unwrap())
        };
        Heard::Created(Ordered::sum(of.iter().map(line)).unwrap())
    }

    fn delivered(of: &[(&str, Option<&str>, u64)]) -> DeliveredLines {
        let line = |&(product, location, quantity): &(&str, Option<&str>, u64)| {
            let location = location.map(|location| Location::parse(location).unwrap());
            (ProductId::parse(product).unwrap(), location, Quantity::new(quantity).unwrap())
        };
        DeliveredLines::sum(of.iter().map(line)).unwrap()
    }

    fn read(event: &Value) -> OrderEvent {
        fact_of(&event.to_string())
    }

    fn fact_of(body: &str) -> OrderEvent {
        match parse(body, None).unwrap() {
            Event::Fact(event) => event,
            Event::Nothing(nothing) => panic!("{body}: {nothing:?}"),
        }
    }

    fn nothing_of(event: &Value) -> Unconcerned {
        match parse(&event.to_string(), None).unwrap() {
            Event::Nothing(nothing) => nothing,
            Event::Fact(fact) => panic!("{event}: {fact:?}"),
        }
    }

    fn why_not(body: &str) -> String {
        let Invalid(sentence) = parse(body, None).unwrap_err();
        sentence
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
                for member in ["eventType", "eventName", "event", "type", "EVENT_TYPE"] {
                    let event =
                        read(&json!({member: name, "orderId": "o", "items": [{"sku": "A", "quantity": 2}]}));
                    assert_eq!(event.fact(), want, "{name}");
                }
            }
        }
    }

    #[test]
    fn an_update_says_it_by_its_status() {
        for name in ["OrderUpdated", "order.updated"] {
            let with = |status| json!({"type": name, "data": {"order_id": "o", "status": status}});
            for (status, want) in
                [("delivered", Fact::Delivered), ("CANCELLED", Fact::Cancelled), ("Paid", Fact::Paid)]
            {
                let event = read(&with(status));
                assert_eq!((event.fact(), event.order_id.as_str()), (want, "o"), "{status}");
            }
            for status in ["shipped", "on its way", "delivred"] {
                assert!(nothing_of(&with(status)).is_known, "{status}");
            }
        }
        assert!(nothing_of(&json!({"type": "order.updated"})).is_known);
    }

    /// Scenario 54: whatever a shop says of its orders, in every envelope, and without an order id.
    #[test]
    fn an_event_that_needs_nothing_is_no_error() {
        let shipped = json!({"eventName": "order.shipped", "correlationId": "c"});
        let bridge = json!({"id": "c", "detail-type": "OrderShipped", "detail": {"anything": [1.0]}});
        let sns = json!({"TopicArn": "x", "MessageId": "c", "Message": r#"{"type":"OrderShipped"}"#});
        for event in [shipped, bridge, sns] {
            let nothing = nothing_of(&event);
            assert_eq!((nothing.is_known, nothing.correlation_id.as_deref()), (false, Some("c")), "{event}");
            assert!(nothing.name.ends_with("hipped"), "{nothing:?}");
        }
        let long = nothing_of(&json!({"type": "x".repeat(1_000_000)}));
        assert!(long.name.chars().count() <= shared::domain::MAX_QUOTED_CHARS + 1);
    }

    /// Scenario 55: it may be meant as one of ours.
    #[test]
    fn a_name_that_is_nearly_known_is_refused() {
        for event in [
            json!({"eventName": "OrderCraeted", "orderId": "o", "items": [{"sku": "A", "quantity": 1}]}),
            json!({"detail-type": "order.crated", "detail": {}}),
        ] {
            assert!(why_not(&event.to_string()).ends_with("did you mean OrderCreated?"), "{event}");
        }
    }

    #[test]
    fn an_attribute_names_an_event_that_does_not_name_itself() {
        let body = json!({"orderId": "o"});
        let sns = json!({"TopicArn": "x", "Message": body.to_string(),
            "MessageAttributes": {"eventType": {"Type": "String", "Value": "OrderPaid"}}});
        let fact = |event: &Value, attribute| match parse(&event.to_string(), attribute) {
            Ok(Event::Fact(event)) => Some(event.fact()),
            _ => None,
        };
        assert_eq!(fact(&body, Some("OrderCancelled")), Some(Fact::Cancelled));
        assert_eq!(fact(&sns, None), Some(Fact::Paid));
        assert_eq!(fact(&sns, Some("OrderCancelled")), Some(Fact::Paid), "SNS is nearer to the event");
        let named = json!({"type": "PaymentFailed", "orderId": "o"});
        assert_eq!(fact(&named, Some("OrderCancelled")), Some(Fact::PaymentFailed));
        assert_eq!(fact(&body, Some("--")), None);
        assert_eq!(fact(&body, None), None);
    }

    #[test]
    fn a_general_name_on_the_envelope_does_not_hide_the_event() {
        let inside = json!({"eventType": "OrderPaid", "orderId": "o"});
        assert_eq!(read(&json!({"detail-type": "Order Event", "detail": inside})).fact(), Fact::Paid);
        let slip = json!({"detail-type": "Order Event", "detail": {"type": "OrderCraeted"}});
        assert!(why_not(&slip.to_string()).ends_with("did you mean OrderCreated?"));
        let nothing = nothing_of(&json!({"detail-type": "Order Event", "detail": {"type": "order.shipped"}}));
        assert_eq!(nothing.name, "Order Event");
        // What names itself is not named by what carries it.
        let shipped = json!({"type": "order.shipped", "orderId": "o"}).to_string();
        assert!(matches!(parse(&shipped, Some("OrderPaid")), Ok(Event::Nothing(_))));
    }

    /// Scenario 51: a number is an id by its own digits, in every envelope, however long it is.
    #[test]
    fn a_number_is_an_id_as_it_is_written() {
        let orders =
            ["100000000000000000000001", "100000000000000000000002", "10", "0", "18446744073709551616"];
        for order in orders {
            let bare = format!(r#"{{"type":"OrderPaid","orderId":{order}}}"#);
            let data = format!(r#"{{"type":"OrderPaid","data":{{"bookingId":{order}}}}}"#);
            let bridge = format!(r#"{{"detail-type":"OrderPaid","detail":{{"orderId": {order} }}}}"#);
            let sns = json!({"TopicArn": "x", "Message": bridge}).to_string();
            for body in [bare, data, bridge, sns] {
                assert_eq!(fact_of(&body).order_id.as_str(), order, "{body}");
            }
        }
        let body = r#"{"type":"OrderCreated","orderId":1,"items":[{"itemId":100000000000000000000017,"quantity":2}]}"#;
        assert_eq!(fact_of(body).heard, created(&[("100000000000000000000017", 2)]));
    }

    /// What could be written in several ways would be several orders.
    #[test]
    fn a_number_with_a_fraction_or_an_exponent_is_no_id() {
        for number in ["10.0", "1e3", "1E+23", "-1", "-0", "0.5"] {
            let paid = format!(r#"{{"type":"OrderPaid","orderId":{number}}}"#);
            let why = why_not(&paid);
            assert!(why.contains(&format!("orderId is the number {number}")), "{why}");
            let flat = format!(r#"{{"type":"OrderCreated","orderId":"o","sku":{number},"quantity":1}}"#);
            assert!(why_not(&flat).contains(&format!("sku is the number {number}")), "{number}");
        }
        let long = format!(r#"{{"type":"OrderPaid","orderId":1{}.0}}"#, "0".repeat(100_000));
        assert!(why_not(&long).len() < 400);
        // It is no id of ours, and nothing depends on it.
        let odd = r#"{"type":"OrderPaid","orderId":"o","correlationId":1.5}"#;
        assert_eq!(fact_of(odd).correlation_id, None);
    }

    #[test]
    fn a_quantity_is_a_whole_number() {
        for (quantity, why) in
            [("2.0", "not 2.0"), ("1e2", "not 100.0"), ("\"2\"", "the text"), ("null", "null")]
        {
            let body = format!(r#"{{"type":"OrderCreated","orderId":"o","sku":"A","quantity":{quantity}}}"#);
            assert!(why_not(&body).contains(why), "{}", why_not(&body));
        }
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
            assert_eq!((read.order_id.as_str(), read.heard), ("17", created(&[("A", 1)])), "{event}");
            assert_eq!(read.correlation_id.as_deref(), Some(correlation));
        }
    }

    #[test]
    fn a_room_without_a_quantity_is_one_room() {
        let booking = json!({"type": "BookingCreated", "bookingId": "b", "roomId": "R-1"});
        assert_eq!(read(&booking).heard, created(&[("R-1", 1)]));
        let rooms = json!({"type": "BookingCreated", "data": {"bookingId": "b", "items": [{"roomId": "R-1"}, {"roomId": "R-2", "quantity": 2}]}});
        assert_eq!(read(&rooms).heard, created(&[("R-1", 1), ("R-2", 2)]));
        let flat = json!({"type": "BookingCreated", "data": {"bookingId": "b", "roomId": "R-1"}});
        assert_eq!(read(&flat).heard, created(&[("R-1", 1)]));
    }

    /// What a fact does not need cannot keep it from being heard.
    #[test]
    fn bad_lines_do_not_matter_where_none_are_needed() {
        for name in ["BookingCancelled", "PaymentSucceeded", "PaymentFailed"] {
            for items in [json!([{"itemId": "A"}]), json!(3), json!([{"sku": "A", "quantity": -1}])] {
                let event = read(&json!({"type": name, "bookingId": "b", "itemId": "A", "items": items}));
                assert!(!matches!(event.heard, Heard::Created(_) | Heard::Delivered(_)));
            }
        }
        let long = read(&json!({"type": "OrderPaid", "orderId": "o", "correlationId": "x".repeat(200)}));
        assert_eq!(long.correlation_id, None);
    }

    #[test]
    fn a_delivery_says_what_has_left() {
        let told = |more: Value| {
            let mut event = json!({"type": "OrderDelivered", "orderId": "o"});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            match read(&event).heard {
                Heard::Delivered(delivery) => delivery,
                other => panic!("{event}: {other:?}"),
            }
        };
        for more in [json!({}), json!({"items": []}), json!({"items": null, "shipmentId": "s-1"})] {
            assert_eq!(told(more), Delivery::All);
        }
        let items = json!([{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 2, "location": "east"}, {"sku": "B", "quantity": 0}]);
        let lines = delivered(&[("A", None, 1), ("A", Some("east"), 2)]);
        assert_eq!(told(json!({"items": items})), Delivery::Total(lines.clone()));
        let id = ShipmentId::parse("17").unwrap();
        assert_eq!(told(json!({"data": {"items": items, "shipment_id": 17}})), Delivery::Shipment(id, lines));
    }

    /// Scenario 33: it can never be held, but what it is can be understood.
    #[test]
    fn an_order_of_too_many_lines_is_understood() {
        let event = |n: usize| {
            let items: Vec<Value> = (0..n).map(|i| json!({"sku": format!("P{i}"), "quantity": 1})).collect();
            read(&json!({"type": "OrderCreated", "orderId": "o", "items": items})).heard
        };
        assert!(matches!(event(99), Heard::Created(Ordered::Lines(_))));
        assert!(matches!(event(100), Heard::Created(Ordered::TooMany(_))));
        assert_eq!(event(100), event(100));
        assert_ne!(event(100), event(101));
    }

    #[test]
    fn what_cannot_be_understood_says_why() {
        for (body, why) in [
            ("nonsense".to_owned(), "not JSON"),
            ("[]".to_owned(), "no JSON object"),
            (json!({"orderId": "o"}).to_string(), "no name"),
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
            (json!({"type": "OrderDelivered", "orderId": "o", "items": 3}).to_string(), "no list"),
            (
                json!({"type": "OrderDelivered", "orderId": "o", "items": [{"sku": "A", "quantity": 0}]})
                    .to_string(),
                "at least one line",
            ),
            (
                json!({"type": "OrderDelivered", "orderId": "o", "sku": "A", "quantity": 1, "shipmentId": "a b"})
                    .to_string(),
                "a shipment id has",
            ),
            (json!({"type": "OrderPaid", "orderId": " o"}).to_string(), "no space at either end"),
            (json!({"detail-type": "OrderPaid", "detail": 1}).to_string(), "no JSON object"),
            (json!({"TopicArn": "x", "Message": "{"}).to_string(), "inside the SNS one"),
        ] {
            let sentence = why_not(&body);
            assert!(sentence.contains(why), "{body}: {sentence}");
        }
    }
}
