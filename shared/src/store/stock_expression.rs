//! What a stock operation asks of DynamoDB: which attributes become what, and under which condition.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::commit::{number, text};
use super::keys;
use super::stock::StockChange;
use crate::domain::stock::MAX_STOCK;
use crate::domain::{Edit, StockUnit, Timestamp, UnitKey};
use crate::planted;

/// Half of [`MAX_STOCK`]. A condition cannot add what is available to what is reserved; but where neither is above
/// this, together they are not above [`MAX_STOCK`].
const HALF: u64 = MAX_STOCK / 2;

/// What makes a new stock unit of nothing.
const NEW: &str = "available = :available, reserved = :zero, sold = :zero, version = :one, physical = :one, \
                   buckets = :one, productId = :product, catalogShard = :catalog, createdAt = :now";

/// Adds to a stock unit, or makes one. Every location of a product has the attributes of the catalog: which one came
/// first could not be known without a read, nor agreed upon by two at once.
const ADD: &str = "available = if_not_exists(available, :zero) + :quantity, \
                   reserved = if_not_exists(reserved, :zero), sold = if_not_exists(sold, :zero), \
                   version = if_not_exists(version, :zero) + :one, \
                   buckets = if_not_exists(buckets, :one), productId = :product, catalogShard = :catalog, \
                   createdAt = if_not_exists(createdAt, :created)";

/// One more, whenever what is on hand changes.
const PHYSICAL: &str = "physical = if_not_exists(physical, :zero) + :one";

/// The update of a stock unit.
pub(super) struct Expression {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expression {
    /// What a change writes. Without a look at the stock unit it is a guess, whose condition is enough for it to be
    /// right; where one was `seen`, the condition is that what is on hand is still as it was then.
    pub(super) fn of(change: &StockChange, unit: &UnitKey, seen: Option<&StockUnit>, now: Timestamp) -> Self {
        let mut draft = Draft::default();
        draft.value("one", number(1));
        draft.value("now", number(now.as_millisecond()));
        match change {
            StockChange::Create { available, name, low_stock_threshold, max_per_order } => {
                draft.set(NEW);
                draft.value("available", number(available));
                draft.identify(unit);
                draft.assign("name", name.as_deref().map(text));
                draft.assign("lowStockThreshold", low_stock_threshold.map(number));
                draft.assign("maxPerOrder", max_per_order.map(number));
                draft.conditions.push("attribute_not_exists(pk)".to_owned());
            }
            StockChange::Add(quantity) => {
                draft.set(ADD);
                draft.set(PHYSICAL);
                draft.value("quantity", number(quantity));
                draft.identify(unit);
                draft.add(quantity.get(), seen, now);
            }
            StockChange::Adjust { by, .. } => {
                draft.set("available = available + :by, version = version + :one");
                draft.set(PHYSICAL);
                draft.value("by", number(by));
                draft.value("zero", number(0));
                match (by.unsigned_abs(), seen) {
                    (units, _) if *by < 0 => {
                        draft.conditions.push("available >= :needed".to_owned());
                        draft.value("needed", number(units));
                    }
                    (_, Some(seen)) => draft.as_seen(seen),
                    (units, None) => draft.has_room(units),
                }
            }
            StockChange::Audit { on_hand } => {
                draft.set("available = :onHand - reserved, version = version + :one");
                draft.value("onHand", number(on_hand));
                if seen.is_some_and(|seen| seen.on_hand() != *on_hand) {
                    draft.set(PHYSICAL);
                    draft.value("zero", number(0));
                }
                if let Some(seen) = seen {
                    draft.as_seen(seen);
                }
                draft.conditions.push("reserved <= :onHand".to_owned());
            }
            StockChange::Update { name, low_stock_threshold, max_per_order } => {
                draft.set("version = version + :one");
                draft.edit("name", name.clone().map(AttributeValue::S));
                draft.edit("lowStockThreshold", low_stock_threshold.map(number));
                draft.edit("maxPerOrder", max_per_order.map(number));
                draft.conditions.push("attribute_exists(pk)".to_owned());
            }
        }
        draft.finish()
    }
}

/// An expression in the making.
#[derive(Default)]
struct Draft {
    sets: Vec<String>,
    removes: Vec<String>,
    conditions: Vec<String>,
    values: HashMap<String, AttributeValue>,
}

impl Draft {
    fn set(&mut self, assignments: &str) {
        self.sets.push(assignments.to_owned());
    }

    fn value(&mut self, name: &str, value: AttributeValue) {
        self.values.insert(format!(":{name}"), value);
    }

    /// Sets an attribute where there is something to set.
    fn assign(&mut self, attribute: &str, value: Option<AttributeValue>) {
        if let Some(value) = value {
            self.sets.push(format!("{} = :{attribute}", placeholder(attribute)));
            self.value(attribute, value);
        }
    }

    fn edit(&mut self, attribute: &str, edit: Edit<AttributeValue>) {
        match edit {
            Edit::Keep if planted("an-update-clears-what-it-does-not-name") => {
                self.removes.push(placeholder(attribute));
            }
            Edit::Keep => {}
            Edit::Clear => self.removes.push(placeholder(attribute)),
            Edit::Set(value) => self.assign(attribute, Some(value)),
        }
    }

    /// The attributes by which a new stock unit is found in the catalog.
    fn identify(&mut self, unit: &UnitKey) {
        self.value("zero", number(0));
        self.value("product", text(unit.product.as_str()));
        self.value("catalog", text(keys::CATALOG));
    }

    /// The condition of an addition, and what it takes for the time of creation. Of a stock unit that was there
    /// before that time was kept nobody knows it: the guess does not fit, and 0 is written once it was looked at.
    fn add(&mut self, units: u64, seen: Option<&StockUnit>, now: Timestamp) {
        match seen {
            None => {
                self.value("created", number(now.as_millisecond()));
                self.has_room(units);
                let room = self.conditions.join(" AND ");
                let condition =
                    format!("attribute_not_exists(pk) OR (attribute_exists(createdAt) AND {room})");
                self.conditions = vec![condition];
            }
            Some(seen) => {
                self.value("created", number(0));
                self.as_seen(seen);
            }
        }
    }

    /// Enough for so many units more, whatever is on hand.
    fn has_room(&mut self, units: u64) {
        self.conditions.push("available <= :room AND reserved <= :half".to_owned());
        self.value("room", number(HALF.saturating_sub(units)));
        self.value("half", number(HALF));
    }

    /// What is on hand is as it was seen; what is promised of it may have changed.
    fn as_seen(&mut self, seen: &StockUnit) {
        if seen.physical == 0 {
            // As an earlier version wrote it, which did not count.
            self.conditions.push("attribute_exists(pk) AND attribute_not_exists(physical)".to_owned());
        } else {
            self.conditions.push("physical = :physical".to_owned());
            self.value("physical", number(seen.physical));
        }
    }

    fn finish(self) -> Expression {
        let mut update = format!("SET {}, updatedAt = :now, cause = :cause", self.sets.join(", "));
        if !self.removes.is_empty() {
            update.push_str(" REMOVE ");
            update.push_str(&self.removes.join(", "));
        }
        Expression { update, condition: self.conditions.join(" AND "), values: self.values }
    }
}

/// How an expression names an attribute: `name` is a word of DynamoDB's own.
fn placeholder(attribute: &str) -> String {
    if attribute == "name" { "#name".to_owned() } else { attribute.to_owned() }
}
