use serde_json::{Value, json};
use shared::domain::fixtures::{delivered_lines, fact_with};

use super::*;

fn read(event: &Value) -> OrderEvent {
    fact_of(&event.to_string())
}

fn fact_of(body: &str) -> OrderEvent {
    match parse(body, None).unwrap() {
        IncomingEvent::Fact(event) => event,
        IncomingEvent::Nothing(nothing) => panic!("{body}: {nothing:?}"),
    }
}

fn parse_ignored(event: &Value) -> IgnoredEvent {
    match parse(&event.to_string(), None).unwrap() {
        IncomingEvent::Nothing(nothing) => nothing,
        IncomingEvent::Fact(fact) => panic!("{event}: {fact:?}"),
    }
}

fn parse_error(body: &str) -> String {
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
            assert!(parse_ignored(&with(status)).is_known, "{status}");
        }
    }
    assert!(parse_ignored(&json!({"type": "order.updated"})).is_known);
}

/// Scenario 54: any event of a shop, in every envelope, and without an order id.
#[test]
fn an_event_that_needs_nothing_is_no_error() {
    let shipped = json!({"eventName": "order.shipped", "correlationId": "c"});
    let bridge = json!({"id": "c", "detail-type": "OrderShipped", "detail": {"anything": [1.0]}});
    let sns = json!({"TopicArn": "x", "MessageId": "c", "Message": r#"{"type":"OrderShipped"}"#});
    for event in [shipped, bridge, sns] {
        let nothing = parse_ignored(&event);
        assert_eq!((nothing.is_known, nothing.correlation_id.as_deref()), (false, Some("c")), "{event}");
        assert!(nothing.name.ends_with("hipped"), "{nothing:?}");
    }
    let long = parse_ignored(&json!({"type": "x".repeat(1_000_000)}));
    assert!(long.name.chars().count() <= shared::domain::MAX_QUOTED_CHARS + 1);
}

/// Scenario 55: it may be meant as one of ours.
#[test]
fn a_name_that_is_nearly_known_is_refused() {
    for event in [
        json!({"eventName": "OrderCraeted", "orderId": "o", "items": [{"sku": "A", "quantity": 1}]}),
        json!({"detail-type": "order.crated", "detail": {}}),
    ] {
        assert!(parse_error(&event.to_string()).ends_with("did you mean OrderCreated?"), "{event}");
    }
}

#[test]
fn an_attribute_names_an_event_that_does_not_name_itself() {
    let body = json!({"orderId": "o"});
    let sns = json!({"TopicArn": "x", "Message": body.to_string(),
        "MessageAttributes": {"eventType": {"Type": "String", "Value": "OrderPaid"}}});
    let fact = |event: &Value, attribute| match parse(&event.to_string(), attribute) {
        Ok(IncomingEvent::Fact(event)) => Some(event.fact()),
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
    assert!(parse_error(&slip.to_string()).ends_with("did you mean OrderCreated?"));
    let nothing = parse_ignored(&json!({"detail-type": "Order Event", "detail": {"type": "order.shipped"}}));
    assert_eq!(nothing.name, "Order Event");
    // An event with a name of its own does not take that of its message.
    let shipped = json!({"type": "order.shipped", "orderId": "o"}).to_string();
    assert!(matches!(parse(&shipped, Some("OrderPaid")), Ok(IncomingEvent::Nothing(_))));
}

/// Scenario 51: a number is an id by its own digits, in every envelope, however long it is.
#[test]
fn a_number_is_an_id_as_it_is_written() {
    let orders = ["100000000000000000000001", "100000000000000000000002", "10", "0", "18446744073709551616"];
    for order in orders {
        let bare = format!(r#"{{"type":"OrderPaid","orderId":{order}}}"#);
        let data = format!(r#"{{"type":"OrderPaid","data":{{"bookingId":{order}}}}}"#);
        let bridge = format!(r#"{{"detail-type":"OrderPaid","detail":{{"orderId": {order} }}}}"#);
        let sns = json!({"TopicArn": "x", "Message": bridge}).to_string();
        for body in [bare, data, bridge, sns] {
            assert_eq!(fact_of(&body).order_id.as_str(), order, "{body}");
        }
    }
    let body =
        r#"{"type":"OrderCreated","orderId":1,"items":[{"itemId":100000000000000000000017,"quantity":2}]}"#;
    assert_eq!(fact_of(body).heard, fact_with(Fact::Created, &[("100000000000000000000017", 2)]));
}

/// A number that can be written in several ways would be several orders.
#[test]
fn a_number_with_a_fraction_or_an_exponent_is_no_id() {
    for number in ["10.0", "1e3", "1E+23", "-1", "-0", "0.5"] {
        let paid = format!(r#"{{"type":"OrderPaid","orderId":{number}}}"#);
        let why = parse_error(&paid);
        assert!(why.contains(&format!("orderId is the number {number}")), "{why}");
        let flat = format!(r#"{{"type":"OrderCreated","orderId":"o","sku":{number},"quantity":1}}"#);
        assert!(parse_error(&flat).contains(&format!("sku is the number {number}")), "{number}");
    }
    let long = format!(r#"{{"type":"OrderPaid","orderId":1{}.0}}"#, "0".repeat(100_000));
    assert!(parse_error(&long).len() < 400);
    // It is no id of ours, and nothing depends on it.
    let odd = r#"{"type":"OrderPaid","orderId":"o","correlationId":1.5}"#;
    assert_eq!(fact_of(odd).correlation_id, None);
}

#[test]
fn a_quantity_is_a_whole_number() {
    for (quantity, why) in [("2.0", "not 2.0"), ("1e2", "not 100.0"), ("\"2\"", "the text"), ("null", "null")]
    {
        let body = format!(r#"{{"type":"OrderCreated","orderId":"o","sku":"A","quantity":{quantity}}}"#);
        assert!(parse_error(&body).contains(why), "{}", parse_error(&body));
    }
}

#[test]
fn every_envelope_is_opened() {
    let bare = json!({"eventType": "OrderCreated", "orderId": 17, "productId": "A", "quantity": 1, "CorrelationID": "c"});
    let bridge = json!({"version": "0", "id": "e-1", "detail-type": "OrderCreated", "source": "shop",
        "detail": {"orderId": "17", "items": [{"itemId": "A", "quantity": 1}]}});
    let sns =
        |inner: &Value| json!({"Type": "Notification", "TopicArn": "arn:x", "Message": inner.to_string()});
    for (event, correlation) in
        [(bare.clone(), "c"), (bridge.clone(), "e-1"), (sns(&bare), "c"), (sns(&bridge), "e-1")]
    {
        let read = read(&event);
        assert_eq!(
            (read.order_id.as_str(), read.heard),
            ("17", fact_with(Fact::Created, &[("A", 1)])),
            "{event}"
        );
        assert_eq!(read.correlation_id.as_deref(), Some(correlation));
    }
}

#[test]
fn a_room_without_a_quantity_is_one_room() {
    let booking = json!({"type": "BookingCreated", "bookingId": "b", "roomId": "R-1"});
    assert_eq!(read(&booking).heard, fact_with(Fact::Created, &[("R-1", 1)]));
    let rooms = json!({"type": "BookingCreated", "data": {"bookingId": "b", "items": [{"roomId": "R-1"}, {"roomId": "R-2", "quantity": 2}]}});
    assert_eq!(read(&rooms).heard, fact_with(Fact::Created, &[("R-1", 1), ("R-2", 2)]));
    let flat = json!({"type": "BookingCreated", "data": {"bookingId": "b", "roomId": "R-1"}});
    assert_eq!(read(&flat).heard, fact_with(Fact::Created, &[("R-1", 1)]));
}

/// Members that a fact does not need cannot keep it from being heard.
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
    let lines = delivered_lines(&[("A", 1), ("A@east", 2)]);
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

/// Only what `reserve` has put into the queue says how long to hold: the rule of the bus lets no event with this source
/// through, and whatever is inside another envelope is somebody else's.
#[test]
fn nobody_else_says_how_long_to_hold() {
    let detail = |ttl: Value| json!({"orderId": "o", "sku": "A", "quantity": 1, "ttlSeconds": ttl});
    let sent = |source: &str, name: &str, ttl: Value| json!({"source": source, "detail-type": name, "detail": detail(ttl)});
    let own = sent("holdfast", "OrderCreated", json!(60));
    assert_eq!(read(&own).ttl, Some(Duration::from_secs(60)));
    assert_eq!(read(&own).heard, fact_with(Fact::Created, &[("A", 1)]));
    let mut without = own.clone();
    without["detail"].as_object_mut().unwrap().remove("ttlSeconds");
    let mut bare = detail(json!(60));
    bare["type"] = "OrderCreated".into();
    let mut named = bare.clone();
    named["source"] = "holdfast".into();
    for event in [
        without,
        bare,
        named,
        sent("shop", "OrderCreated", json!(60)),
        sent("Holdfast", "OrderCreated", json!(60)),
        sent("holdfast", "OrderPaid", json!("never")),
        sent("shop", "OrderCreated", json!("for ever")),
        json!({"source": "shop", "detail-type": "Order", "detail": own}),
        json!({"TopicArn": "x", "MessageId": "m", "Message": own.to_string()}),
    ] {
        assert_eq!(read(&event).ttl, None, "{event}");
    }
    for ttl in [json!(0), json!(86_401), json!(1.5), json!("60"), json!(null)] {
        let why = parse_error(&sent("holdfast", "OrderCreated", ttl.clone()).to_string());
        assert!(why.starts_with("ttlSeconds: "), "{ttl}: {why}");
    }
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
        let sentence = parse_error(&body);
        assert!(sentence.contains(why), "{body}: {sentence}");
    }
}
