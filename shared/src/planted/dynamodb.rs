//! Bugs in requests to DynamoDB and its replies, in terms of its protocol and of stored items.

use serde_json::{Map, Value, json};

use super::call::{Call, Reply};
use super::planted;
use crate::store::keys::DUE_INDEX;

/// Milliseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1_000;

/// The number of writes in one request, by kind.
struct Writes {
    /// Of reservations.
    reservations: usize,
    /// Of records of an `Idempotency-Key`.
    keys: usize,
    /// Of reservations whose time is over.
    ended: usize,
    /// Of alerts.
    alerts: usize,
}

impl Writes {
    fn of(call: &Call) -> Self {
        let count = |wanted: fn(&Value) -> bool| actions(call).filter(|action| wanted(action)).count();
        Self {
            reservations: count(is_reservation),
            keys: count(is_key),
            ended: count(|action| is_reservation(action) && action["Item"]["state"]["S"] == "EXPIRED"),
            alerts: count(is_alert),
        }
    }
}

/// The reply to a request that is not even sent.
pub(super) fn reply_unsent(call: &Call) -> Option<Reply> {
    let starved = planted("the-sweep-starves-shards") && asks_what_is_due(call);
    let shard = compared(call.body["KeyConditionExpression"].as_str().unwrap_or_default(), "expiryShard")
        .map(|placeholder| &call.body["ExpressionAttributeValues"][placeholder]["N"]);
    (starved && shard.is_some_and(|shard| shard != "0"))
        .then(|| Reply::ok(json!({"Items": [], "Count": 0, "ScannedCount": 0})))
}

/// Whether a missing reply is reported as a refusal, which hides that the request may have been applied.
pub(super) fn reports_silence_as_refusal(call: &Call) -> bool {
    let writes = Writes::of(call);
    let in_transaction = call.operation == "TransactWriteItems";
    planted("silence-is-not-remembered-of-an-order") && in_transaction && writes.reservations > 0
        || planted("silence-is-not-remembered-of-stock") && in_transaction && writes.keys > 0
        || planted("silence-is-not-remembered-of-a-confirm") && call.operation == "UpdateItem"
}

/// Changes requests.
pub(super) fn disturb_request(call: &mut Call) {
    let writes = Writes::of(call);
    if planted("one-line-of-an-order-is-enough") && writes.reservations == 1 && writes.keys == 0 {
        keep_updates(call, 1);
    }
    if planted("the-sweep-gives-nothing-back-for-many") && writes.ended > 1 {
        keep_updates(call, 0);
    }
    for action in actions_mut(call) {
        if is_reservation(action) {
            disturb_reservation(action);
        } else if is_key(action) && planted("adds-again-under-the-same-key") {
            make_true(action, "pk");
        } else if is_stock(action) && writes.keys > 0 {
            disturb_administration(action);
        } else if is_stock(action) && writes.alerts > 0 {
            disturb_level(action);
        } else if is_stock(action) {
            disturb_stock(action);
        }
    }
    match call.operation.as_str() {
        "Query" if planted("the-sweep-looks-at-this-instant-only") && asks_what_is_due(call) => {
            let condition = call.body["KeyConditionExpression"].as_str().unwrap_or_default();
            call.body["KeyConditionExpression"] = condition.replace(" <= ", " = ").into();
        }
        "BatchWriteItem" if planted("the-ledger-has-a-gap") => {
            let tables = call.body["RequestItems"].as_object_mut();
            tables.into_iter().flat_map(Map::values_mut).filter_map(Value::as_array_mut).for_each(|puts| {
                puts.truncate(1);
            });
        }
        _ => {}
    }
}

fn disturb_reservation(action: &mut Value) {
    if planted("a-second-hold-for-one-order") {
        make_true(action, "pk");
    }
    if planted("overwrites-what-it-has-not-seen") {
        make_true(action, "version");
    }
    if planted("confirms-what-has-ended") {
        make_true(action, "expiresAt");
    }
    if planted("confirms-what-was-given-back") {
        make_true(action, "state");
    }
    let updated_at = number(&action["Item"]["updatedAt"]);
    if planted("a-hold-may-be-purged")
        && let Some(at) = updated_at
    {
        action["Item"]["purgeAt"] = json!({"N": ((at + 90 * DAY) / 1_000).to_string()});
    }
}

/// A stock unit that moves for orders.
fn disturb_stock(action: &mut Value) {
    if planted("sells-what-is-not-there") {
        for counter in ["available", "reserved", "sold"] {
            make_true(action, counter);
        }
    }
    if planted("forgets-the-purchase-limit") {
        make_true(action, "maxPerOrder");
    }
    let Some(update) = action["UpdateExpression"].as_str() else { return };
    if planted("a-sale-disturbs-an-audit") && !update.contains("physical = ") {
        let counted = format!("{update}, physical = if_not_exists(physical, :none) + :more");
        action["UpdateExpression"] = counted.into();
        action["ExpressionAttributeValues"][":none"] = json!({"N": "0"});
        action["ExpressionAttributeValues"][":more"] = json!({"N": "1"});
    } else if planted("goods-leave-behind-an-audit") {
        action["UpdateExpression"] = update.replace("physical", "physically").into();
    }
}

/// The look at a stock unit that an alert is set with.
fn disturb_level(action: &mut Value) {
    if planted("a-late-alert-comes-back") {
        make_true(action, "available");
        make_true(action, "lowStockThreshold");
    }
}

/// A stock unit that is administered.
fn disturb_administration(action: &mut Value) {
    if planted("audit-overwrites-another") {
        make_true(action, "physical");
    }
    if planted("audit-below-what-is-promised") {
        make_true(action, "reserved");
    }
    if planted("takes-off-what-is-not-there") && asks(action, "available >= ") {
        make_true(action, "available");
    }
    if planted("more-than-can-be-counted") && asks(action, "available <= ") {
        make_true(action, "available");
        make_true(action, "reserved");
    }
}

/// Changes replies.
pub(super) fn disturb_reply(call: &Call, reply: &mut Reply) {
    if planted("an-error-500-is-an-end") && reply.status >= 500 {
        *reply = Reply::refused("ValidationException");
    }
    if planted("the-sweep-sees-one-page")
        && asks_what_is_due(call)
        && let Some(page) = reply.body.as_object_mut()
    {
        page.remove("LastEvaluatedKey");
    }
    let refused = reply.status >= 400;
    let ended = Writes::of(call).ended;
    for (i, reason) in reply.body["CancellationReasons"].as_array_mut().into_iter().flatten().enumerate() {
        if planted("a-conflict-is-called-out-of-stock") && reason["Code"] == "TransactionConflict" {
            reason["Code"] = "ConditionalCheckFailed".into();
        }
        let failed = reason["Code"] == "ConditionalCheckFailed";
        if planted("one-failed-hold-fails-the-sweep") && i < ended && failed {
            reason["Code"] = "TransactionConflict".into();
        }
    }
    for item in items(&mut reply.body).into_iter().filter(|item| !item["orderId"].is_null()) {
        let unlike = planted("a-lost-answer-is-not-recognised") && refused
            || planted("what-is-there-is-not-looked-at") && call.operation == "GetItem";
        if unlike {
            item["correlationId"] = json!({"S": "somebody else's"});
        }
        if planted("an-older-record-is-unreadable")
            && item["updatedAt"].is_null()
            && let Some(attributes) = item.as_object_mut()
        {
            attributes.remove("version");
        }
    }
}

/// The writes of a request: each is one of a transaction, or the request itself.
fn actions(call: &Call) -> impl Iterator<Item = &Value> {
    let alone = matches!(call.operation.as_str(), "PutItem" | "UpdateItem").then_some(&call.body);
    let together = call.body["TransactItems"].as_array().into_iter().flatten();
    alone.into_iter().chain(together.filter_map(|action| action.as_object()?.values().next()))
}

fn actions_mut(call: &mut Call) -> Vec<&mut Value> {
    if matches!(call.operation.as_str(), "PutItem" | "UpdateItem") {
        return vec![&mut call.body];
    }
    let together = call.body["TransactItems"].as_array_mut().into_iter().flatten();
    together.filter_map(|action| action.as_object_mut()?.values_mut().next()).collect()
}

/// Keeps so many updates of a transaction, and everything that is no update.
fn keep_updates(call: &mut Call, wanted: usize) {
    let mut updates = 0;
    if let Some(actions) = call.body["TransactItems"].as_array_mut() {
        actions.retain(|action| {
            updates += usize::from(action["Update"].is_object());
            !action["Update"].is_object() || updates <= wanted
        });
    }
}

/// The items that a reply shows.
fn items(reply: &mut Value) -> Vec<&mut Value> {
    let members = reply.as_object_mut().into_iter().flatten();
    members.flat_map(|(name, member)| items_of(name, member)).collect()
}

fn items_of<'a>(name: &str, member: &'a mut Value) -> Vec<&'a mut Value> {
    match (name, member) {
        ("Item" | "Attributes", item) => vec![item],
        ("Items", Value::Array(items)) => items.iter_mut().collect(),
        ("CancellationReasons", Value::Array(reasons)) => {
            reasons.iter_mut().filter_map(|reason| reason.get_mut("Item")).collect()
        }
        ("Responses", Value::Object(tables)) => {
            tables.values_mut().filter_map(Value::as_array_mut).flatten().collect()
        }
        _ => Vec::new(),
    }
}

fn asks_what_is_due(call: &Call) -> bool {
    call.operation == "Query" && call.body["IndexName"] == DUE_INDEX
}

fn is_reservation(action: &Value) -> bool {
    has_key(action, "RES#")
}

fn is_key(action: &Value) -> bool {
    has_key(action, "IDEM#")
}

fn is_stock(action: &Value) -> bool {
    has_key(action, "STOCK#")
}

fn is_alert(action: &Value) -> bool {
    has_key(action, "ALERT#")
}

fn has_key(action: &Value, prefix: &str) -> bool {
    let pk = |of: &str| action[of]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with(prefix));
    pk("Key") || pk("Item")
}

fn number(attribute: &Value) -> Option<i64> {
    attribute["N"].as_str()?.parse().ok()
}

/// The placeholder that an attribute is compared with.
fn compared<'a>(expression: &'a str, attribute: &str) -> Option<&'a str> {
    let mut words = expression.split_whitespace().skip_while(|word| *word != attribute);
    words.nth(2)
}

/// Whether a condition has such words.
fn asks(action: &Value, words: &str) -> bool {
    action["ConditionExpression"].as_str().is_some_and(|condition| condition.contains(words))
}

/// Makes whatever a condition asks of an attribute true, as long as there is an item. It is left in the expression,
/// because DynamoDB refuses a request with a value that it does not use.
fn make_true(action: &mut Value, attribute: &str) {
    let Some(condition) = action["ConditionExpression"].as_str() else { return };
    let names = action["ExpressionAttributeNames"].as_object();
    let alias = names.into_iter().flatten().find(|(_, name)| *name == attribute);
    let changed = always(condition, alias.map_or(attribute, |(alias, _)| alias.as_str()));
    action["ConditionExpression"] = changed.into();
}

fn always(condition: &str, attribute: &str) -> String {
    let absent = format!("attribute_not_exists({attribute})");
    let condition = condition.replace(&absent, &format!("({absent} OR attribute_exists(pk))"));
    let words: Vec<&str> = condition.split(' ').collect();
    let mut changed = Vec::new();
    let mut rest = words.as_slice();
    while let Some((word, after)) = rest.split_first() {
        let name = word.trim_start_matches('(');
        match after {
            [operator @ ("=" | "<>" | "<" | "<=" | ">" | ">="), operand, after @ ..] if name == attribute => {
                let (open, value) = (&word[..word.len() - name.len()], operand.trim_end_matches(')'));
                let close = &operand[value.len()..];
                changed.push(format!("{open}({name} {operator} {value} OR attribute_exists(pk)){close}"));
                rest = after;
            }
            _ => {
                changed.push((*word).to_owned());
                rest = after;
            }
        }
    }
    changed.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_made_true_by_attribute() {
        let either = |name, value| format!("({name} >= {value} OR attribute_exists(pk))");
        let condition = "available >= :a AND (attribute_not_exists(maxPerOrder) OR maxPerOrder >= :m)";
        let limit = "(attribute_not_exists(maxPerOrder) OR maxPerOrder >= :m)";
        assert_eq!(always(condition, "available"), format!("{} AND {limit}", either("available", ":a")));
        let absent = "((attribute_not_exists(maxPerOrder) OR attribute_exists(pk)) OR";
        assert_eq!(
            always(condition, "maxPerOrder"),
            format!("available >= :a AND {absent} {})", either("maxPerOrder", ":m"))
        );
        assert_eq!(always(condition, "version"), condition);
    }
}
