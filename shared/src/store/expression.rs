//! The update expression and the condition for a move of a stock unit.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure, Update};

use super::keys;
use super::record::{Item, number, text};
use crate::domain::plan::HALF_OF_MAX_STOCK;
use crate::domain::{Cause, Counter, Delta, Edit, Effect, Guard, Move, Timestamp, UnitKey};
use crate::planted;

/// Creates a stock unit.
const NEW: &str = "available = :available, reserved = :zero, sold = :zero, version = :one, physical = :one, \
                   buckets = :one, productId = :product, catalogShard = :catalog, createdAt = :now";

/// Adds to a stock unit, or creates one. Every location of a product has the attributes of the catalog: which one came
/// first could not be known without a read, nor agreed upon by two at once.
const ADD: &str = "available = if_not_exists(available, :zero) + :quantity, \
                   reserved = if_not_exists(reserved, :zero), sold = if_not_exists(sold, :zero), \
                   version = if_not_exists(version, :zero) + :one, \
                   buckets = if_not_exists(buckets, :one), productId = :product, catalogShard = :catalog, \
                   createdAt = if_not_exists(createdAt, :created)";

/// Increments whenever the stock on hand changes.
const PHYSICAL: &str = "physical = if_not_exists(physical, :zero) + :one";

/// Increments with every write.
const VERSION: &str = "version = version + :one";

/// The update of one stock unit, which shows the item where its condition fails.
pub(super) fn update_of(table: &str, stock_move: &Move, cause: &Cause, at: Timestamp) -> Update {
    let mut update = UpdateExpression::default();
    update.value("one", number(1));
    update.value("now", number(at.as_millisecond()));
    update.value("cause", cause_attribute(cause));
    update.effect(stock_move, at);
    stock_move.guards.iter().for_each(|guard| update.guard(*guard));
    update.finish(table, stock_move)
}

/// The cause of a stock unit's last write: the movement's operation and reference in the ledger.
pub(super) fn cause_attribute(cause: &Cause) -> AttributeValue {
    let Cause { operation, reference, correlation_id } = cause;
    AttributeValue::M(Item::from([
        ("operation".to_owned(), text(operation)),
        ("reference".to_owned(), text(reference)),
        ("correlationId".to_owned(), text(correlation_id)),
    ]))
}

/// The update of a stock unit in the making: its expression, its condition and their values.
#[derive(Default)]
struct UpdateExpression {
    sets: Vec<String>,
    removes: Vec<String>,
    conditions: Vec<String>,
    values: Item,
}

impl UpdateExpression {
    fn effect(&mut self, stock_move: &Move, at: Timestamp) {
        match &stock_move.effect {
            Effect::Shift(delta) => self.shift(*delta),
            Effect::Add(quantity) => {
                self.set(ADD);
                self.count_physical();
                self.value("quantity", number(quantity));
                self.identify(&stock_move.unit);
                // Older stock units have no time of creation, and it is no longer known: 0 is written.
                let is_guess = stock_move.guards.iter().any(|guard| matches!(guard, Guard::Room(_)));
                self.value("created", number(if is_guess { at.as_millisecond() } else { 0 }));
            }
            Effect::Create { available, name, low_stock_threshold, max_per_order } => {
                self.set(NEW);
                self.value("available", number(available));
                self.identify(&stock_move.unit);
                self.assign("name", name.as_deref().map(text));
                self.assign("lowStockThreshold", low_stock_threshold.map(number));
                self.assign("maxPerOrder", max_per_order.map(number));
            }
            Effect::SetOnHand { units, is_change } => {
                self.set("available = :onHand - reserved");
                self.set(VERSION);
                self.value("onHand", number(units));
                if *is_change {
                    self.count_physical();
                }
            }
            Effect::Describe { name, low_stock_threshold, max_per_order } => {
                self.set(VERSION);
                self.edit("name", name.clone().map(AttributeValue::S));
                self.edit("lowStockThreshold", low_stock_threshold.map(number));
                self.edit("maxPerOrder", max_per_order.map(number));
            }
        }
    }

    fn shift(&mut self, delta: Delta) {
        self.set(VERSION);
        for counter in Counter::ALL {
            let (name, change) = (counter.name(), delta.of(counter));
            if change != 0 {
                self.set(&format!("{name} = {name} + :{name}"));
                self.value(name, number(change));
            }
        }
        if delta.is_physical() {
            self.count_physical();
        }
    }

    fn guard(&mut self, guard: Guard) {
        match guard {
            Guard::AtLeast(counter, units) => self.compare(counter, ">=", "Needed", units),
            Guard::AtMost(counter, units) => self.compare(counter, "<=", "Most", units),
            Guard::Limit(ordered) => {
                self.condition("(attribute_not_exists(maxPerOrder) OR maxPerOrder >= :ordered)");
                self.value("ordered", number(ordered));
            }
            Guard::Room(units) => {
                self.condition("available <= :room AND reserved <= :half");
                self.value("room", number(HALF_OF_MAX_STOCK.saturating_sub(units)));
                self.value("half", number(HALF_OF_MAX_STOCK));
            }
            Guard::Absent => self.condition("attribute_not_exists(pk)"),
            Guard::Exists => self.condition("attribute_exists(pk)"),
            // An earlier version did not count, and wrote no such attribute.
            Guard::Physical(0) => self.condition("attribute_exists(pk) AND attribute_not_exists(physical)"),
            Guard::Physical(physical) => {
                self.condition("physical = :physical");
                self.value("physical", number(physical));
            }
        }
    }

    fn compare(&mut self, counter: Counter, operator: &str, suffix: &str, units: u64) {
        let name = counter.name();
        self.condition(&format!("{name} {operator} :{name}{suffix}"));
        self.value(&format!("{name}{suffix}"), number(units));
    }

    fn condition(&mut self, condition: &str) {
        self.conditions.push(condition.to_owned());
    }

    fn set(&mut self, assignments: &str) {
        self.sets.push(assignments.to_owned());
    }

    fn value(&mut self, name: &str, value: AttributeValue) {
        self.values.insert(format!(":{name}"), value);
    }

    fn count_physical(&mut self) {
        self.set(PHYSICAL);
        self.value("zero", number(0));
    }

    /// Sets an attribute where there is something to set.
    fn assign(&mut self, attribute: &str, value: Option<AttributeValue>) {
        if let Some(value) = value {
            self.set(&format!("{} = :{attribute}", placeholder(attribute)));
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

    fn finish(self, table: &str, stock_move: &Move) -> Update {
        let mut update = format!("SET {}, updatedAt = :now, cause = :cause", self.sets.join(", "));
        if !self.removes.is_empty() {
            update.push_str(" REMOVE ");
            update.push_str(&self.removes.join(", "));
        }
        let mut condition = self.conditions.join(" AND ");
        if matches!(stock_move.effect, Effect::Add(_)) && self.values.contains_key(":room") {
            condition = format!("attribute_not_exists(pk) OR (attribute_exists(createdAt) AND {condition})");
        }
        let has_name = update.contains("#name").then(|| [("#name".to_owned(), "name".to_owned())].into());
        Update::builder()
            .table_name(table)
            .set_key(Some(keys::stock_unit(&stock_move.unit)))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(has_name)
            .set_expression_attribute_values(Some(self.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("table, key and expression are set")
    }
}

/// The placeholder for an attribute in an expression: `name` is a reserved word of DynamoDB.
fn placeholder(attribute: &str) -> String {
    if attribute == "name" { "#name".to_owned() } else { attribute.to_owned() }
}
