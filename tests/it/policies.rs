//! Least privilege: what each function asks for, and what its role allows, are the same.

use std::collections::{BTreeMap, BTreeSet};

use local::iam::{RequestedPermission, allows};
use serde_json::{Value, json};

use crate::contract::template;
use crate::support::tables::{INVENTORY, LEDGER, number, put_item, text, update_item};
use crate::support::{Api, Runner, template_without};

/// One permission: a statement with one action, one resource and one kind of key.
pub(crate) fn permissions(statement: &Value) -> Vec<Value> {
    let keys = &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut single = Vec::new();
    for (action, resource) in list(&statement["Action"])
        .iter()
        .flat_map(|a| list(&statement["Resource"]).into_iter().map(move |r| (a, r)))
    {
        for key in list(keys) {
            let mut one = statement.clone();
            (one["Action"], one["Resource"]) = (action.clone(), resource.clone());
            if !key.is_null() {
                one["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] = key;
            }
            single.push(one);
        }
    }
    single
}

/// The permissions of each function.
fn roles() -> BTreeMap<String, Vec<Value>> {
    let functions = template().functions;
    functions.into_iter().map(|f| (f.name, f.statements.iter().flat_map(permissions).collect())).collect()
}

/// The requests that Lambda makes with a function's role to read its queues and streams, and to report what it gave up.
/// Source: AWS Lambda Developer Guide, "Using Lambda with Amazon SQS" and "Using Lambda with DynamoDB".
fn done_by_lambda() -> Vec<(String, RequestedPermission)> {
    let mut done = Vec::new();
    for function in template().functions {
        let mut add = |actions: &[&str], resource: &str| {
            for action in actions {
                let requested = RequestedPermission {
                    action: (*action).to_owned(),
                    resource: resource.to_owned(),
                    leading_keys: BTreeSet::new(),
                    enclosing_operation: None,
                };
                done.push((function.name.clone(), requested));
            }
        };
        for source in &function.queues {
            add(&["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], &source.queue);
        }
        for source in &function.streams {
            let stream =
                format!("arn:aws:dynamodb:us-east-1:000000000000:table/{}/stream/local", source.table);
            add(
                &[
                    "dynamodb:DescribeStream",
                    "dynamodb:GetRecords",
                    "dynamodb:GetShardIterator",
                    "dynamodb:ListStreams",
                ],
                &stream,
            );
            match source.on_failure.as_deref() {
                Some(bucket) if bucket.starts_with("arn:aws:s3:::") => {
                    add(&["s3:ListBucket"], bucket);
                    add(&["s3:PutObject"], &format!("{bucket}/aws/lambda/mapping/shard/2026/11/21/time-id"));
                }
                Some(queue) => add(&["sqs:SendMessage"], queue),
                None => {}
            }
        }
    }
    done
}

/// Does everything that each function can do.
async fn do_everything(shop: &Api) {
    move_stock_across_its_threshold(shop).await;
    work_on_orders(shop).await;
    look_at_everything(shop).await;
    publish_what_cannot_be_read(shop).await;
    fill_a_gap(shop).await;
    find_what_is_wrong(shop).await;
}

/// `stock-admin`; and the publisher, where an alert comes and goes.
async fn move_stock_across_its_threshold(shop: &Api) {
    for (product, quantity) in [("A", 100), ("LOW", 20)] {
        shop.add(product, quantity).await;
    }
    let audited = shop.post("/api/inventory/audit", &json!({"productId": "LOW", "quantity": 2})).await;
    assert_eq!(audited.status, 200, "{audited:?}");
    shop.until("LOW is low", async |shop| {
        let low = shop.get("/api/inventory?lowStock=true").await;
        low.body["items"][0]["productId"] == "LOW"
    })
    .await;
    shop.add("LOW", 50).await;
    shop.until("LOW is not low", async |shop| {
        shop.get("/api/inventory?lowStock=true").await.body["items"] == json!([])
    })
    .await;
}

/// `reserve`, `settle`, `release`, `order-events` and `expiry-sweep`.
async fn work_on_orders(shop: &Api) {
    for (order, verbs) in
        [("o-1", vec!["extend", "confirm", "deduct"]), ("o-2", vec!["deduct"]), ("o-3", vec!["release"])]
    {
        assert_eq!(shop.reserve(order, &[("A", 2)]).await.status, 201);
        for verb in verbs {
            assert_eq!(shop.order(verb, order).await.status, 200, "{verb} {order}");
        }
    }
    assert_eq!(shop.reserve_later("o-7", &[("A", 1)]).await.status, 202);
    shop.until("it is held", async |shop| shop.status("o-7").await == "RESERVED").await;
    // What was given back before anything was known is noted without stock.
    assert_eq!(shop.order("release", "o-4").await.status, 200);
    for (name, state) in [("OrderCreated", "RESERVED"), ("OrderCancelled", "RELEASED")] {
        let items = json!([{"productId": "A", "quantity": 1}]);
        shop.send_order_event(&json!({"type": name, "orderId": "e-1", "items": items})).await;
        shop.until_status("e-1", state).await;
    }
    let short = json!({"orderId": "o-5", "productId": "A", "quantity": 1, "ttlSeconds": 1});
    assert_eq!(shop.post("/api/inventory/reserve", &short).await.status, 201);
    shop.until("the hold is due and given back", async |shop| {
        shop.invoke("expiry-sweep", &Value::Null).await["expired"] == 1
    })
    .await;
}

/// `check` and `docs`.
async fn look_at_everything(shop: &Api) {
    assert_eq!(shop.get("/health").await.status, 200);
    assert_eq!(shop.get("/api/inventory").await.status, 200);
    assert_eq!(shop.get("/api/inventory/A").await.status, 200);
    assert_eq!(shop.status("o-1").await, "FULFILLED");
    assert_eq!(shop.post("/api/inventory/check", &json!(["A"])).await.status, 200);
    let asked = json!({"productId": "A", "quantity": 1});
    assert_eq!(shop.post("/api/inventory/check-availability", &asked).await.status, 200);
    assert_eq!(shop.get("/docs").await.status, 200);
}

/// The publisher, with a record that it cannot read.
async fn publish_what_cannot_be_read(shop: &Api) {
    put_item(&shop.dynamodb, &[("pk", text("STOCK#X#0")), ("sk", text("main"))]).await;
    shop.until("it was set aside", async |shop| shop.queued("holdfast-publisher-dead").await == 1).await;
    let delete = shop.dynamodb.delete_item().table_name(INVENTORY);
    delete.key("pk", text("STOCK#X#0")).key("sk", text("main")).send().await.unwrap();
}

/// `reconcile`, with a gap to fill.
async fn fill_a_gap(shop: &Api) {
    shop.adds_up().await;
    let delete = shop.dynamodb.delete_item().table_name(LEDGER);
    delete.key("pk", text("A#0#main")).key("sk", number(2)).send().await.unwrap();
    let report = shop.invoke("reconcile", &json!({"republish": true})).await;
    assert_eq!(report["filled"], 1, "{report}");
    assert_eq!(shop.invoke("reconcile", &json!({"productId": "A"})).await["holds"], true);
}

/// `reconcile`, with a figure that is wrong and a level that is missing.
async fn find_what_is_wrong(shop: &Api) {
    shop.add("WRONG", 5).await;
    assert_eq!(shop.reserve("o-6", &[("WRONG", 1)]).await.status, 201);
    let change = "SET reserved = reserved + :one, version = version + :one";
    update_item(&shop.dynamodb, ("STOCK#WRONG#0", "main"), change, &[(":one", number(1))]).await;
    let wrong = json!({"productId": "WRONG"});
    shop.until("only the figure is wrong", async |shop| {
        let report = shop.invoke("reconcile", &wrong).await;
        report["differences"].as_array().is_some_and(|d| d.len() == 1 && d[0]["held"] == 1)
    })
    .await;
    // The publisher may be about to set it, too.
    shop.until("a level that is missing is set", async |shop| {
        for shard in 0..4 {
            let delete = shop.dynamodb.delete_item().table_name(INVENTORY);
            let delete = delete.key("pk", text(format!("ALERT#{shard}")));
            delete.key("sk", text("WRONG#main")).send().await.unwrap();
        }
        shop.invoke("reconcile", &wrong).await["levelsSet"] == 1
    })
    .await;
}

/// The permissions that every function asked for, and those that Lambda uses itself.
async fn requested_permissions(shop: &Api) -> Vec<(String, RequestedPermission)> {
    let answer: Value =
        reqwest::get(format!("{}/_local/rights", shop.aws_url)).await.unwrap().json().await.unwrap();
    let by_functions = answer.as_array().unwrap().iter().map(|entry| {
        let requested = &entry["ask"];
        let keys = requested["leadingKeys"].as_array().unwrap().iter();
        let requested = RequestedPermission {
            action: requested["action"].as_str().unwrap().to_owned(),
            resource: requested["resource"].as_str().unwrap().to_owned(),
            leading_keys: keys.map(|key| key.as_str().unwrap().to_owned()).collect(),
            enclosing_operation: requested["enclosingOperation"].as_str().map(str::to_owned),
        };
        (entry["caller"].as_str().unwrap().to_owned(), requested)
    });
    by_functions.chain(done_by_lambda()).collect()
}

/// Permissions that nothing asked for, and what was asked for without one.
fn differences(
    roles: &BTreeMap<String, Vec<Value>>,
    all_requested: &[(String, RequestedPermission)],
) -> Vec<String> {
    let used = |function: &str, permission: &Value| {
        all_requested.iter().any(|(caller, requested)| caller == function && allows(permission, requested))
    };
    let unused = roles.iter().flat_map(|(function, permissions)| {
        let unused = permissions.iter().filter(move |permission| !used(function, permission));
        unused.map(move |permission| format!("{function}: unused: {permission}"))
    });
    let missing = all_requested.iter().filter(|(caller, requested)| {
        // Several kinds of keys in one request are allowed by several permissions together.
        let kinds: Vec<Option<&String>> = match requested.leading_keys.is_empty() {
            true => vec![None],
            false => requested.leading_keys.iter().map(Some).collect(),
        };
        let allowed = |kind: Option<&String>| {
            let requested = RequestedPermission {
                leading_keys: kind.into_iter().cloned().collect(),
                ..requested.clone()
            };
            roles[caller].iter().any(|permission| allows(permission, &requested))
        };
        !kinds.into_iter().all(allowed)
    });
    unused.chain(missing.map(|(caller, requested)| format!("{caller}: missing: {requested:?}"))).collect()
}

#[tokio::test]
async fn every_role_allows_what_its_function_does_and_nothing_else() {
    let shop = Runner::start().await;
    do_everything(&shop).await;
    let (roles, all_requested) = (roles(), requested_permissions(&shop).await);
    assert_eq!(differences(&roles, &all_requested), Vec::<String>::new());
    assert_eq!(roles["docs"], Vec::<Value>::new());

    // It is exact: without any one permission something is missing, and one more would not be used.
    let mut taken = 0;
    for (function, permissions) in &roles {
        for (i, permission) in permissions.iter().enumerate() {
            let mut fewer = roles.clone();
            fewer.get_mut(function).unwrap().remove(i);
            let found = differences(&fewer, &all_requested);
            assert!(found.iter().all(|d| d.contains("missing")), "{found:?}");
            assert!(!found.is_empty(), "{function} does not need {permission}");
            taken += 1;
        }
        let mut more = roles.clone();
        let table = "arn:aws:dynamodb:us-east-1:000000000000:table/holdfast-inventory";
        let extra = json!({"Effect": "Allow", "Action": "dynamodb:DeleteTable", "Resource": table});
        more.get_mut(function).unwrap().push(extra);
        assert_eq!(differences(&more, &all_requested).len(), 1);
    }
    assert!(taken > 40, "{taken}");
}

/// The permissions outside a function's own policy are those that all functions need: logs and traces, nothing else.
#[test]
fn roles_have_no_permissions_from_elsewhere() {
    let text = std::fs::read_to_string(crate::contract::root().join("template.yaml")).unwrap();
    let document = local::template::yaml_as_json(&text).unwrap();
    let mut roles = 0;
    for (id, resource) in document["Resources"].as_object().unwrap() {
        match resource["Type"].as_str().unwrap() {
            "AWS::IAM::Role" => {
                assert_eq!(
                    resource["Properties"]["ManagedPolicyArns"],
                    json!([{"Ref": "LogsAndTraces"}]),
                    "{id}"
                );
                roles += 1;
            }
            "AWS::IAM::ManagedPolicy" => {
                assert_eq!(id, "LogsAndTraces");
                let statements = resource["Properties"]["PolicyDocument"]["Statement"].as_array().unwrap();
                let actions: Vec<Value> =
                    statements.iter().map(|statement| statement["Action"].clone()).collect();
                let logs = json!(["logs:CreateLogStream", "logs:PutLogEvents"]);
                assert_eq!(actions, [logs, json!(["xray:PutTraceSegments", "xray:PutTelemetryRecords"])]);
            }
            other => assert!(!other.starts_with("AWS::IAM::"), "{id}: {other}"),
        }
    }
    assert_eq!(roles, template().functions.len());
}

/// No action and no resource is a pattern, and no one may write stock but inside a transaction.
#[test]
fn no_permission_is_wider_than_it_looks() {
    for (function, permissions) in roles() {
        for permission in permissions {
            let (action, resource) =
                (permission["Action"].as_str().unwrap(), permission["Resource"].as_str().unwrap());
            assert!(!action.contains('*'), "{function}: {permission}");
            // An object's name is not known before, but its bucket is.
            let is_of_bucket = action == "s3:PutObject" && resource == "arn:aws:s3:::PublisherFailures/*";
            let may_be_any = action == "dynamodb:ListStreams" || is_of_bucket;
            assert!(!resource.contains('*') || may_be_any, "{function}: {permission}");
            let keys = &permission["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
            let inside = &permission["Condition"]["ForAnyValue:StringEquals"]["dynamodb:EnclosingOperation"];
            let writes =
                ["Put", "Update", "Delete"].iter().any(|verb| action == format!("dynamodb:{verb}Item"));
            if writes && keys == "STOCK#*" {
                assert_eq!(inside, &json!(["TransactWriteItems"]), "{function}: {permission}");
            }
            assert!(!writes || !keys.is_null() || resource.ends_with("-ledger"), "{function}: {permission}");
        }
    }
}

/// A permission taken away is refused on this machine as on AWS: nothing is done, and the caller is told that it
/// is not its fault.
#[tokio::test]
async fn without_its_permission_a_function_is_refused() {
    let (_folder, file) = template_without("reserve", "dynamodb:UpdateItem");
    let shop = Runner::with(&["--template", file.to_str().unwrap()]).await;
    shop.add("A", 5).await;
    let refused = shop.reserve("order-1", &[("A", 1)]).await;
    assert_eq!(refused.code_or_status(), (500, "internal"), "{refused:?}");
    assert_eq!((shop.stock("A").await, shop.status("order-1").await), ([5, 0, 0], String::new()));
}

/// The requests of a function that starts are for its connections only: without an answer it starts and works all
/// the same.
#[tokio::test]
async fn a_function_starts_without_an_answer() {
    let (_folder, file) = template_without("publisher", "events:DescribeEventBus");
    let shop = Runner::with(&["--template", file.to_str().unwrap()]).await;
    shop.add("A", 5).await;
    assert_eq!(shop.reserve("order-1", &[("A", 1)]).await.status, 201);
    shop.until_published(1, "InventoryReserved", "order-1").await;
    let noted =
        shop.log().iter().any(|line| line.contains("no answer at the start") && line.contains("EventBridge"));
    assert!(noted, "{:?}", shop.log());
}
