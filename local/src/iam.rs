//! IAM, as far as the roles in the template use it: the permissions that a request needs, and whether a role allows
//! them.
//!
//! A request that its role does not allow is refused here as it would be on AWS, so that a missing permission is found
//! on this machine.
//!
//! Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon DynamoDB".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::account::{ACCOUNT_ID, REGION};
use crate::template::Function;

/// A permission that a request needs; a transaction needs several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedPermission {
    /// `dynamodb:PutItem` and the like.
    pub action: String,
    /// The ARN.
    pub resource: String,
    /// The kinds of the items' keys: `RES#` of `RES#4f1c`. A key that has no kind is named whole.
    pub leading_keys: BTreeSet<String>,
    /// The operation that the action is a part of.
    pub enclosing_operation: Option<String>,
}

/// The functions' roles, and the permissions that were requested so far.
#[derive(Debug, Clone, Default)]
pub struct Iam {
    roles: Arc<BTreeMap<String, Vec<Value>>>,
    requested: Arc<Mutex<BTreeSet<(String, RequestedPermission)>>>,
}

impl Iam {
    /// The roles of these functions. Other callers may do everything.
    #[must_use]
    pub fn new(functions: &[Function]) -> Self {
        let roles = functions.iter().map(|f| (f.name.clone(), f.statements.clone())).collect();
        Self { roles: Arc::new(roles), requested: Arc::default() }
    }

    /// Whether the caller's role allows a request.
    ///
    /// # Errors
    /// Names the permission that is missing, as AWS does.
    pub fn check(&self, caller: &str, service: &str, operation: &str, request: &str) -> Result<(), String> {
        let Some(statements) = self.roles.get(caller) else { return Ok(()) };
        // What is no JSON is refused by the service itself.
        let Ok(request) = serde_json::from_str(request) else { return Ok(()) };
        for permission in permissions_of(service, operation, &request) {
            let allowed = statements.iter().any(|statement| allows(statement, &permission));
            let RequestedPermission { action, resource, .. } = permission.clone();
            self.requested
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((caller.to_owned(), permission));
            if !allowed {
                return Err(format!(
                    "User: {caller} is not authorized to perform: {action} on resource: {resource} because no \
                     identity-based policy allows the {action} action"
                ));
            }
        }
        Ok(())
    }

    /// The permissions that each function has requested so far, allowed or not.
    #[must_use]
    pub fn requested(&self) -> BTreeSet<(String, RequestedPermission)> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a statement of a policy allows what is requested.
#[must_use]
pub fn allows(statement: &Value, permission: &RequestedPermission) -> bool {
    let one_of = |value: &Value, wanted: &str| match value {
        Value::Array(all) => all.iter().any(|one| matches_pattern(one, wanted)),
        one => matches_pattern(one, wanted),
    };
    let condition = &statement["Condition"];
    let keys = &condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
    let enclosing = &condition["ForAnyValue:StringEquals"]["dynamodb:EnclosingOperation"];
    statement["Effect"] == "Allow"
        && one_of(&statement["Action"], &permission.action)
        && one_of(&statement["Resource"], &permission.resource)
        && (keys.is_null() || permission.leading_keys.iter().all(|key| one_of(keys, key)))
        && (enclosing.is_null()
            || permission.enclosing_operation.iter().any(|inside| one_of(enclosing, inside)))
}

fn matches_pattern(pattern: &Value, text: &str) -> bool {
    match pattern.as_str() {
        Some(pattern) => match pattern.strip_suffix('*') {
            Some(beginning) => text.starts_with(beginning),
            None => pattern == text,
        },
        None => false,
    }
}

fn permissions_of(service: &str, operation: &str, request: &Value) -> Vec<RequestedPermission> {
    let on_resource = |resource: String| RequestedPermission {
        action: format!("{service}:{operation}"),
        resource,
        leading_keys: BTreeSet::new(),
        enclosing_operation: None,
    };
    match (service, operation) {
        ("dynamodb", "TransactWriteItems") => {
            let actions = request["TransactItems"].as_array().into_iter().flatten();
            actions
                .flat_map(|action| action.as_object().into_iter().flatten())
                .map(permission_of_action)
                .collect()
        }
        ("dynamodb", "BatchGetItem" | "BatchWriteItem") => {
            let tables = request["RequestItems"].as_object().into_iter().flatten();
            tables
                .map(|(table, wanted)| RequestedPermission {
                    leading_keys: wanted["Keys"].as_array().into_iter().flatten().map(kind_of_item).collect(),
                    ..on_resource(table_arn(table))
                })
                .collect()
        }
        ("dynamodb", _) => {
            let table = table_arn(request["TableName"].as_str().unwrap_or_default());
            let index = request["IndexName"].as_str();
            let resource = index.map_or_else(|| table.clone(), |index| format!("{table}/index/{index}"));
            let key = match operation {
                "PutItem" => Some(kind_of_item(&request["Item"])),
                "Query" if index.is_none() => queried_key_kind(request),
                "Query" | "Scan" => None,
                _ => Some(kind_of_item(&request["Key"])),
            };
            vec![RequestedPermission { leading_keys: key.into_iter().collect(), ..on_resource(resource) }]
        }
        ("events", "DescribeEventBus") => {
            let bus = request["Name"].as_str().unwrap_or("default");
            vec![on_resource(arn_of("events", &format!("event-bus/{bus}")))]
        }
        ("events", _) => {
            let entries = request["Entries"].as_array().into_iter().flatten();
            let bus = |entry: &Value| entry["EventBusName"].as_str().unwrap_or("default").to_owned();
            let buses: BTreeSet<String> = entries.map(bus).collect();
            buses.iter().map(|bus| on_resource(arn_of("events", &format!("event-bus/{bus}")))).collect()
        }
        _ => {
            let url = request["QueueUrl"].as_str().unwrap_or_default();
            vec![on_resource(arn_of("sqs", url.rsplit('/').next().unwrap_or_default()))]
        }
    }
}

/// One action of a transaction.
fn permission_of_action((name, action): (&String, &Value)) -> RequestedPermission {
    let name = if name == "ConditionCheck" { "ConditionCheckItem".to_owned() } else { format!("{name}Item") };
    let item = if action["Item"].is_null() { &action["Key"] } else { &action["Item"] };
    RequestedPermission {
        action: format!("dynamodb:{name}"),
        resource: table_arn(action["TableName"].as_str().unwrap_or_default()),
        leading_keys: [kind_of_item(item)].into(),
        enclosing_operation: Some("TransactWriteItems".to_owned()),
    }
}

/// The kind of an item's key.
fn kind_of_item(item: &Value) -> String {
    kind_of(item["pk"]["S"].as_str().unwrap_or_default())
}

fn kind_of(key: &str) -> String {
    // Kinds are written in capitals; keys of the ledger begin with a product.
    match key.split_once('#') {
        Some((kind, _)) if kind.bytes().all(|b| b.is_ascii_uppercase()) => format!("{kind}#"),
        _ => key.to_owned(),
    }
}

/// The kind of the key that a query is for: that of the value at the first placeholder of its key condition.
fn queried_key_kind(request: &Value) -> Option<String> {
    let condition = request["KeyConditionExpression"].as_str()?;
    let name = condition.split(|c: char| !(c.is_alphanumeric() || c == ':')).find(|w| w.starts_with(':'))?;
    Some(kind_of(request["ExpressionAttributeValues"][name]["S"].as_str()?))
}

fn table_arn(name: &str) -> String {
    arn_of("dynamodb", &format!("table/{name}"))
}

fn arn_of(service: &str, name: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{name}")
}
