//! DynamoDB without Holdfast: what a reserve is compared with, and items that are put in place by hand.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Config, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use serde_json::{Value, json};
use shared::Error;
use shared::store::RetryPolicy;

/// The inventory table in the template.
pub(crate) const INVENTORY: &str = "holdfast-inventory";
/// The ledger in the template.
pub(crate) const LEDGER: &str = "holdfast-ledger";
/// Most items in one `BatchWriteItem`. Source: Amazon DynamoDB API Reference.
pub(crate) const MAX_BATCH_WRITE: usize = 25;

/// No second tries: a call that needs one says nothing about its cost.
pub(crate) const ONE_TRY: RetryPolicy = RetryPolicy { max_attempts: 1, backoff: Duration::from_millis(1) };

/// The SDK's configuration for an endpoint, as the SDK itself makes it; its own retries included.
pub(crate) fn config(endpoint: &str) -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("bench", "local", None, None, "bench"))
}

/// The SDK's client for an endpoint.
pub(crate) fn client(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    Client::from_conf(config(endpoint).http_client(http).build())
}

/// Text as the SDK takes it.
pub(crate) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number as the SDK takes it.
pub(crate) fn number(number: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// The two writes of a reserve, through the SDK and without anything around them.
pub(crate) async fn transaction(client: &Client, order: &str, product: &str) -> Result<(), Error> {
    let put = Put::builder()
        .table_name(INVENTORY)
        .item("pk", text(format!("RAW#{order}")))
        .item("sk", text("RAW"))
        .item("state", text("RESERVED"))
        .condition_expression("attribute_not_exists(pk)")
        .build()?;
    let update = Update::builder()
        .table_name(INVENTORY)
        .key("pk", text(format!("STOCK#{product}#0")))
        .key("sk", text("main"))
        .update_expression("SET available = available - :q, reserved = reserved + :q, version = version + :q")
        .condition_expression("available >= :q")
        .expression_attribute_values(":q", number(1))
        .build()?;
    let actions =
        [TransactWriteItem::builder().put(put).build(), TransactWriteItem::builder().update(update).build()];
    client.transact_write_items().set_transact_items(Some(actions.into())).send().await?;
    Ok(())
}

/// The same request as text, as the SDK would send it.
pub(crate) fn transaction_body(order: &str, product: &str) -> String {
    let put = json!({
        "TableName": INVENTORY,
        "Item": {"pk": {"S": format!("RAW#{order}")}, "sk": {"S": "RAW"}, "state": {"S": "RESERVED"}},
        "ConditionExpression": "attribute_not_exists(pk)",
    });
    let update = json!({
        "TableName": INVENTORY,
        "Key": {"pk": {"S": format!("STOCK#{product}#0")}, "sk": {"S": "main"}},
        "UpdateExpression": "SET available = available - :q, reserved = reserved + :q, version = version + :q",
        "ConditionExpression": "available >= :q",
        "ExpressionAttributeValues": {":q": {"N": "1"}},
    });
    json!({"TransactItems": [{"Put": put}, {"Update": update}], "ClientRequestToken": order}).to_string()
}

/// The stock unit of another product that is otherwise as this one.
pub(crate) fn copy_of_stock(item: &Value, product: &str) -> Value {
    let mut copy = item.clone();
    copy["pk"]["S"] = format!("STOCK#{product}#0").into();
    if copy.get("productId").is_some() {
        copy["productId"]["S"] = product.into();
    }
    copy
}

/// The request that puts items into the inventory table, [`MAX_BATCH_WRITE`] at most.
pub(crate) fn batch_of(items: impl Iterator<Item = Value>) -> Value {
    let puts: Vec<Value> = items.map(|item| json!({"PutRequest": {"Item": item}})).collect();
    json!({"RequestItems": {INVENTORY: puts}})
}
