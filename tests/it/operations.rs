//! The view of an operator: metrics, alarms, dashboard, saved queries, runbook.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shared::metrics::Metric;

use crate::contract::root;
use crate::support::Runner;

fn template() -> Value {
    local::template::yaml_as_json(&std::fs::read_to_string(root().join("template.yaml")).unwrap()).unwrap()
}

fn resources(of_type: &str) -> Vec<(String, Value)> {
    let template = template();
    let all = template["Resources"].as_object().unwrap().iter();
    all.filter(|(_, r)| r["Type"] == of_type).map(|(id, r)| (id.clone(), r["Properties"].clone())).collect()
}

/// The metrics of Holdfast's own that an alarm looks at.
fn own_metrics(alarm: &Value) -> BTreeSet<String> {
    let single = (alarm["Namespace"] == "Holdfast").then(|| alarm["MetricName"].clone());
    let several = alarm["Metrics"].as_array().into_iter().flatten();
    let several =
        several.map(|query| &query["MetricStat"]["Metric"]).filter(|m| m["Namespace"] == "Holdfast");
    let names = several.map(|metric| metric["MetricName"].clone()).chain(single);
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_alarm_has_its_page_in_the_runbook() {
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let pages: Vec<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|page| *page != "Procedures")
        .collect();
    let alarms = resources("AWS::CloudWatch::Alarm");
    let names: BTreeSet<String> = alarms
        .iter()
        .map(|(_, alarm)| {
            let name = alarm["AlarmName"]["Fn::Sub"].as_str().unwrap();
            name.strip_prefix("${AWS::StackName}-").unwrap().to_owned()
        })
        .collect();
    assert_eq!(pages.iter().map(|page| (*page).to_owned()).collect::<BTreeSet<_>>(), names);
    assert_eq!(pages.len(), names.len());
    for (id, alarm) in &alarms {
        assert_eq!(alarm["AlarmActions"], json!([{"Ref": "AlarmTopic"}]), "{id} tells nobody");
    }
}

#[test]
fn what_is_counted_is_looked_at_and_the_other_way_round() {
    let counted: BTreeSet<String> = Metric::ALL.iter().map(|metric| metric.name().to_owned()).collect();
    let dashboard = resources("AWS::CloudWatch::Dashboard").remove(0).1;
    let body: Value = serde_json::from_str(dashboard["DashboardBody"]["Fn::Sub"].as_str().unwrap()).unwrap();
    let widgets = body["widgets"].as_array().unwrap().iter();
    let shown = widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap().clone());
    let shown: BTreeSet<String> = shown
        .filter(|metric| metric[0] == "Holdfast")
        .map(|metric| metric[1].as_str().unwrap().to_owned())
        .collect();
    assert!(shown.is_subset(&counted), "{shown:?}");
    let mut looked_at = shown;
    for (id, alarm) in resources("AWS::CloudWatch::Alarm") {
        let own = own_metrics(&alarm);
        assert!(own.is_subset(&counted), "{id}: {own:?}");
        looked_at.extend(own);
    }
    assert_eq!(looked_at, counted);
}

/// Alarms over all functions name all of them, and a duration is held against the function's own time-out.
#[test]
fn alarms_over_functions_leave_none_out() {
    let functions = crate::contract::template().functions;
    let alarms = resources("AWS::CloudWatch::Alarm");
    let of = |id: &str| &alarms.iter().find(|(name, _)| name == id).unwrap().1;
    for function in functions.iter().filter(|function| function.name != "docs") {
        let name = format!("${{AWS::StackName}}-{}", function.name);
        // The sweep works until its time is up, on purpose.
        let is_timed = function.name != "expiry-sweep";
        for (id, is_in) in [("FunctionErrorsAlarm", true), ("FunctionDurationAlarm", is_timed)] {
            let found = of(id)["Metrics"].to_string();
            let looked_at = json!({"Name": "FunctionName", "Value": {"Fn::Sub": name}}).to_string();
            assert_eq!(found.contains(&looked_at), is_in, "{id}: {name}");
        }
        let throttled = of("ThrottlesAlarm")["Metrics"].to_string().contains(&name);
        assert_eq!(throttled, function.name != "reconcile", "{name}: an alarm takes ten metrics");
        let expression = of("FunctionDurationAlarm")["Metrics"][0]["Expression"].as_str().unwrap().to_owned();
        let share = format!("{}/{}", function.name.replace('-', "_"), function.timeout.as_millis());
        assert_eq!(expression.contains(&share), is_timed, "{share} in {expression}");
    }
}

/// A metric that is late is not taken for 0, and a figure of several metrics has a value where one of them has none.
#[test]
fn alarms_wait_for_what_is_late() {
    for (id, alarm) in resources("AWS::CloudWatch::Alarm") {
        let Some(queries) = alarm["Metrics"].as_array() else { continue };
        assert!(alarm["DatapointsToAlarm"].is_u64(), "{id}: M of N");
        let expression = queries[0]["Expression"].as_str().unwrap();
        assert!(!expression.contains("FILL"), "{id}: {expression}");
        // A sum by `+` has no value where one of its parts has none.
        assert!(!expression.contains('+') || expression.contains("1 + SUM"), "{id}: {expression}");
        let known: Vec<&str> = queries.iter().map(|query| query["Id"].as_str().unwrap()).collect();
        let words = expression.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())) {
            assert!(known.contains(&word), "{id}: {word} in {expression}");
        }
    }
}

/// Fields that the saved queries look at are fields that are logged.
#[test]
fn saved_queries_look_for_what_is_logged() {
    let queries = resources("AWS::Logs::QueryDefinition");
    assert_eq!(queries.len(), 3);
    let logged =
        ["@timestamp", "operation", "route", "outcome", "status", "duration_ms", "error", "correlation_id"];
    for (id, query) in queries {
        let text = query["QueryString"].as_str().unwrap();
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '@' || c == '"'));
        let speech = ["fields", "filter", "sort", "limit", "asc", "desc", "and", "or", "in"];
        for word in words.filter(|w| !w.is_empty() && !w.starts_with('"') && !w.ends_with('"')) {
            let known = logged.contains(&word) || speech.contains(&word) || word.parse::<u32>().is_ok();
            let quoted = text.split('"').skip(1).step_by(2).any(|quoted| quoted.contains(word));
            assert!(known || quoted, "{id}: {word}");
        }
    }
}

/// The metrics that the functions of a runner have logged so far.
fn lines(shop: &Runner, operation: &str) -> Vec<Value> {
    let log = shop.log();
    let lines = log.iter().filter(|line| line.contains("\"_aws\"")).map(|l| serde_json::from_str(l).unwrap());
    lines.filter(|line: &Value| line["operation"] == operation).collect()
}

/// At most one line for an invocation, and what it says is what has happened.
#[tokio::test]
async fn functions_count_what_they_do() {
    let shop = Runner::with(&["--sweep-every", "60m"]).await;
    shop.add("A", 20).await;
    for (order, quantity) in [("o-1", 4), ("o-1", 4), ("o-2", 17), ("o-3", 6)] {
        shop.reserve(order, &[("A", quantity)]).await;
    }
    shop.until_published(1, "LowStock", "A").await;
    // Wrong in itself: no order that could not be served.
    shop.post("/api/inventory/reserve", &json!({"orderId": "o"})).await;
    shop.get("/api/inventory/A").await;
    let items = json!([{"productId": "A", "quantity": 50}]);
    shop.send_order_event(&json!({"type": "OrderCreated", "orderId": "e-1", "items": items})).await;
    let items = json!([{"productId": "A", "quantity": 10}]);
    shop.send_order_event(&json!({"type": "OrderCreated", "orderId": "e-2", "items": items})).await;
    shop.until_status("e-1", "REJECTED").await;
    shop.until_status("e-2", "RESERVED").await;
    let items = json!([{"productId": "A", "quantity": 11}]);
    shop.send_order_event(&json!({"type": "OrderCreated", "orderId": "e-2", "items": items})).await;
    shop.until_published(1, "OrderConflict", "e-2").await;
    // Only now: a payment that overtakes its order is told in another event.
    shop.send_order_event(&json!({"type": "PaymentSucceeded", "orderId": "e-1"})).await;
    shop.until_published(1, "InventoryConfirmationRefused", "e-1").await;
    let swept = shop.invoke("expiry-sweep", &Value::Null).await;
    assert_eq!(swept["due"], 0);
    shop.adds_up().await;
    let sum = |operation: &str, metric: Metric| -> u64 {
        lines(&shop, operation).iter().filter_map(|line| line[metric.name()].as_u64()).sum()
    };
    let all_are_there = async |_: &crate::support::Api| {
        sum("publisher", Metric::OutOfStock) == 1 && sum("order-events", Metric::ReservationsHeld) == 1
    };
    shop.until("all lines were read", all_are_there).await;
    for (operation, metric, expected) in [
        ("reserve", Metric::ReservationsHeld, 2),
        ("reserve", Metric::ReservationsRepeated, 1),
        ("reserve", Metric::ReservationsRefused, 1),
        ("reserve", Metric::ReservationsFailed, 0),
        ("order-events", Metric::ReservationsRefused, 1),
        ("publisher", Metric::PaidOrdersShort, 1),
        ("publisher", Metric::OrderConflicts, 1),
        ("order-events", Metric::OrderConflicts, 0),
        ("publisher", Metric::LowStock, 1),
        ("expiry-sweep", Metric::HoldsOpen, 3),
        ("expiry-sweep", Metric::HoldsExpiring, 0),
        ("expiry-sweep", Metric::OldestDueHoldAge, 0),
    ] {
        assert_eq!(sum(operation, metric), expected, "{operation} {}", metric.name());
    }
    assert_eq!(lines(&shop, "reserve").len(), 4, "one for each order that could be served or not");
    assert_eq!(lines(&shop, "expiry-sweep").len(), 1);
    assert!(lines(&shop, "check").is_empty(), "a read counts nothing");
    assert!(!shop.log().iter().any(|line| line.contains("\"_aws\"") && line.contains("o-1")), "no order");
}
