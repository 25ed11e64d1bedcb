//! An order event: bare, in an EventBridge envelope, or in an SNS one. Names and fields are matched without regard to
//! case, punctuation and a trailing `Event`.

use std::time::Duration;

use serde_json::value::RawValue;
use shared::domain::{
    DeliveredLines, Delivery, Fact, Heard, Invalid, LineKey, OrderId, Ordered, ShipmentId, Whole, excerpt,
};
use shared::planted;
use shared::publishing::SOURCE;
use shared::settings::TtlSeconds;

use crate::envelope::{Unwrapped, unwrap_envelopes};
use crate::fields::{find, parse_fields, read_id, read_plain_text};
use crate::lines::{EventLine, read_lines};
use crate::name::{Meaning, find_meaning, normalize};

/// Longest correlation id that is taken over, in bytes, as over HTTP.
const MAX_CORRELATION_ID: usize = 128;

/// The event in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncomingEvent {
    /// Something has happened to an order.
    Fact(OrderEvent),
    /// An event that does not concern stock.
    Nothing(IgnoredEvent),
}

/// A fact about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// The order.
    pub order_id: OrderId,
    /// The fact, with what it came with.
    pub heard: Heard,
    /// How long to hold, counted from when that is decided. None: as long as the settings say. Only a request to reserve
    /// that was put into the queue says it.
    pub ttl: Option<Duration>,
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

/// An event that does not concern stock, such as that an order was shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredEvent {
    /// The event's name, cut to what is logged of it.
    pub name: String,
    /// Whether the name is one that is understood; then it is the status that does not concern stock.
    pub is_known: bool,
    /// Of the event, or the id of its envelope.
    pub correlation_id: Option<String>,
}

/// Reads an event from the text of a message. `attribute` is the name by the attribute of the message; it counts where
/// the text does not name the event.
///
/// # Errors
/// Says why it can never be understood.
pub fn parse(body: &str, attribute: Option<&str>) -> Result<IncomingEvent, Invalid> {
    let Unwrapped { text, name, attribute: of_envelope, source, id: envelope_id } = unwrap_envelopes(body)?;
    let fields = parse_fields(&text)?;
    let data = find(&fields, "data").and_then(|data| parse_fields(data.get()).ok());
    let places = || [Some(&fields), data.as_ref()].into_iter().flatten();
    let named =
        || ["eventType", "eventName", "event", "type"].iter().find_map(|n| read_plain_text(find(&fields, n)));
    let mut names: Vec<String> = name.into_iter().chain(named()).collect();
    if names.is_empty() {
        names.extend(of_envelope.or(attribute.map(str::to_owned)));
    }
    let (name, meaning) = meaning_of(names)?;
    let member = |names: &[&str]| names.iter().find_map(|n| places().find_map(|place| find(place, n)));
    let usable = |id: &String| {
        (1..=MAX_CORRELATION_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    let correlation_id =
        read_plain_text(member(&["correlationId"])).filter(usable).or(envelope_id.filter(usable));
    let (fact, is_known) = match meaning {
        Meaning::Fact(fact) => (Some(fact), true),
        Meaning::ByStatus => (fact_of_status(read_plain_text(member(&["status"])).as_deref()), true),
        Meaning::Nothing => (None, false),
    };
    let name = excerpt(&name);
    let Some(fact) = fact else {
        return Ok(IncomingEvent::Nothing(IgnoredEvent { name, is_known, correlation_id }));
    };
    let order_id = ["orderId", "bookingId"]
        .iter()
        .find_map(|n| places().find_map(|place| read_id(place, n).transpose()));
    let order_id = order_id
        .transpose()?
        .ok_or_else(|| Invalid(format!("{name} names no order: orderId or bookingId is missing")))?;
    let ttl = match fact {
        Fact::Created if source.as_deref() == Some(SOURCE) || planted("anybody-says-how-long") => {
            read_ttl(find(&fields, "ttlSeconds"))?
        }
        _ => None,
    };
    let lines_of = |zero_is_none| read_lines(member(&["items"]), places(), zero_is_none);
    let heard = match fact {
        Fact::Created => hear_order(&name, lines_of(false)?)?,
        Fact::Delivered => {
            let shipment = places().find_map(|place| read_id(place, "shipmentId").transpose()).transpose()?;
            Heard::Delivered(hear_delivery(lines_of(true)?, shipment.map(ShipmentId::parse).transpose()?)?)
        }
        // Whatever else is in the event must not keep the fact from being heard.
        Fact::PaymentFailed => Heard::PaymentFailed,
        Fact::Paid => Heard::Paid,
        Fact::Cancelled => Heard::Cancelled,
    };
    Ok(IncomingEvent::Fact(OrderEvent { order_id: OrderId::parse(order_id)?, heard, ttl, correlation_id }))
}

/// How long to hold, as the function `reserve` has written it.
fn read_ttl(value: Option<&RawValue>) -> Result<Option<Duration>, Invalid> {
    let Some(value) = value else { return Ok(None) };
    let Whole(seconds) = serde_json::from_str(value.get())
        .and_then(serde_json::from_value::<TtlSeconds>)
        .map_err(|e| Invalid(format!("ttlSeconds: {e}")))?;
    Ok(Some(Duration::from_secs(seconds.unsigned_abs())))
}

/// The name of the event, and its meaning. The name on an envelope may be a general one (`Order Event`);
/// the event inside then says which.
fn meaning_of(names: Vec<String>) -> Result<(String, Meaning), Invalid> {
    let mut nothing = None;
    for name in names.into_iter().filter(|name| !normalize(name).is_empty()) {
        match find_meaning(&name)? {
            Meaning::Nothing => nothing = nothing.or(Some(name)),
            known => return Ok((name, known)),
        }
    }
    nothing.map(|name| (name, Meaning::Nothing)).ok_or_else(|| {
        let places = "detail-type, eventType, eventName, event, type, or the message attribute eventType";
        Invalid(format!("the event has no name: {places} is missing"))
    })
}

/// The fact that an order with these lines was created.
fn hear_order(name: &str, lines: Option<Vec<EventLine>>) -> Result<Heard, Invalid> {
    let missing = || Invalid(format!("{name} has no lines: items[], or productId and quantity, are missing"));
    let located = lines.ok_or_else(missing)?.into_iter().map(|(product, location, quantity)| {
        (LineKey { product, location: location.unwrap_or_default() }, quantity)
    });
    Ok(Heard::Created(Ordered::sum(located)?))
}

/// The delivery of these lines, as a part of a shipment if there is one.
fn hear_delivery(lines: Option<Vec<EventLine>>, shipment: Option<ShipmentId>) -> Result<Delivery, Invalid> {
    let Some(lines) = lines else { return Ok(Delivery::All) };
    let lines = DeliveredLines::sum(lines)?;
    Ok(match shipment {
        Some(id) => Delivery::Shipment(id, lines),
        None => Delivery::Total(lines),
    })
}

/// The fact that the status of an updated order stands for.
fn fact_of_status(status: Option<&str>) -> Option<Fact> {
    match normalize(status.unwrap_or_default()).as_str() {
        "delivered" => Some(Fact::Delivered),
        "cancelled" | "canceled" => Some(Fact::Cancelled),
        "paid" => Some(Fact::Paid),
        _ => None,
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
