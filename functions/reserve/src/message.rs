//! The message by which an order waits in the queue of order events.
//!
//! It is an `OrderCreated` in an envelope of EventBridge, with what only a request says: `ttlSeconds`. `order-events` reads
//! that from a message whose envelope names Holdfast as its source, and the rule of the bus lets none of these through. So
//! whatever the shop sends has the meaning that it always had. A version of `order-events` that knows nothing of this
//! holds the order for the default time; it does not lose it.

use serde_json::{Value, json};
use shared::domain::{OrderId, OrderLines, Whole};
use shared::publishing::SOURCE;
use shared::settings::TtlSeconds;

/// The message for an order, with everything that its request says.
pub(crate) fn message_of(
    order_id: &OrderId,
    lines: &OrderLines,
    ttl: Option<TtlSeconds>,
    correlation_id: &str,
) -> String {
    let items: Vec<Value> = lines
        .iter()
        .map(|(key, quantity)| {
            json!({
                "productId": key.product.as_str(),
                "location": key.location.as_str(),
                "quantity": quantity.get(),
            })
        })
        .collect();
    let mut detail = json!({"orderId": order_id.as_str(), "items": items, "correlationId": correlation_id});
    if let Some(Whole(seconds)) = ttl {
        detail["ttlSeconds"] = seconds.into();
    }
    let message = json!({"source": SOURCE, "detail-type": "OrderCreated", "detail": detail}).to_string();
    // The two characters that an order id may have and a message may not.
    // Source: Amazon SQS API Reference, SendMessage, MessageBody.
    message.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff")
}

#[cfg(test)]
mod tests {
    use shared::domain::{LineKey, Location, ProductId, Quantity};

    use super::*;

    #[test]
    fn a_message_says_all_that_the_request_said_in_characters_that_a_queue_takes() {
        let key = |product: &str, location: &str| LineKey {
            product: ProductId::parse(product).expect("a product"),
            location: Location::parse(location).expect("a location"),
        };
        let two = Quantity::new(2).expect("a quantity");
        let lines = [(key("B", "east"), two), (key("A", "main"), two), (key("B", "east"), Quantity::ONE)];
        let lines = OrderLines::sum(lines).expect("lines");
        let order = OrderId::parse("a\"b\u{FFFE}\u{FFFF}\u{1F45F}").expect("an order id");
        let items = json!([
            {"productId": "A", "location": "main", "quantity": 2}, {"productId": "B", "location": "east", "quantity": 3},
        ]);
        for (ttl, seconds) in [(None, Value::Null), (Some(Whole(60)), json!(60))] {
            let text = message_of(&order, &lines, ttl, "c-1");
            assert!(!text.contains(['\u{FFFE}', '\u{FFFF}']), "{text}");
            let message: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!([&message["source"], &message["detail-type"]], ["holdfast", "OrderCreated"]);
            let detail = &message["detail"];
            assert_eq!([&detail["orderId"], &detail["correlationId"]], [order.as_str(), "c-1"]);
            assert_eq!((&detail["items"], &detail["ttlSeconds"]), (&items, &seconds));
        }
    }
}
