//! The lines of an order or of a delivery, as events have them.

use serde_json::Value;
use serde_json::value::RawValue;
use shared::domain::{Invalid, Location, ProductId, Quantity, excerpt};

use crate::fields::{Fields, find, parse_fields, read_id};

/// A line as an event has it: the location only where it names one.
pub(crate) type EventLine = (ProductId, Option<Location>, Quantity);

/// The lines in `items`, or the one that stands flat in the event. `zero_is_none`: an item of quantity 0 says that
/// there is none of it.
pub(crate) fn read_lines<'a>(
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
        let flat = places.find_map(|place| read_line(place).transpose()).transpose()?;
        return Ok(flat.map(|line| vec![line]));
    };
    let mut lines = Vec::with_capacity(items.len());
    for item in items {
        let item = parse_fields(item.get())?;
        let is_zero = find(&item, "quantity").is_some_and(|quantity| quantity.get() == "0");
        if !(zero_is_none && is_zero) {
            lines.push(read_line(&item)?.ok_or_else(|| Invalid("an item names no product".to_owned()))?);
        }
    }
    Ok(Some(lines))
}

/// One product and quantity. A room that is booked without a quantity is one room.
fn read_line(item: &Fields) -> Result<Option<EventLine>, Invalid> {
    let named =
        ["productId", "sku", "itemId"].iter().find_map(|name| read_id(item, name).transpose()).transpose()?;
    let room = read_id(item, "roomId")?;
    let default = room.as_ref().map(|_| Quantity::ONE);
    let Some(product) = named.or(room) else { return Ok(None) };
    let of = excerpt(&product);
    let quantity = match find(item, "quantity") {
        Some(quantity) => serde_json::from_str(quantity.get())
            .and_then(|quantity: Value| serde_json::from_value::<Quantity>(quantity))
            .map_err(|e| Invalid(format!("the quantity of product {of}: {e}")))?,
        None => default.ok_or_else(|| Invalid(format!("the quantity of product {of} is missing")))?,
    };
    let location = read_id(item, "location")?.map(Location::parse).transpose()?;
    Ok(Some((ProductId::parse(product)?, location, quantity)))
}
