//! What is declared for production, so that nothing of it is lost by an edit.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::contract::root;

fn template() -> Map<String, Value> {
    let text = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    local::template::yaml_as_json(&text).unwrap().as_object().unwrap().clone()
}

/// The resources of a type, each as a whole.
fn resources(of_type: &str) -> Vec<Value> {
    let found = template()["Resources"].as_object().unwrap().clone();
    let found: Vec<Value> = found.into_iter().map(|(_, resource)| resource).collect();
    let found: Vec<Value> = found.into_iter().filter(|resource| resource["Type"] == of_type).collect();
    assert!(!found.is_empty(), "{of_type}");
    found
}

#[test]
fn tables_outlive_mistakes() {
    for table in resources("AWS::DynamoDB::Table") {
        let properties = &table["Properties"];
        assert_eq!(
            (&table["DeletionPolicy"], &table["UpdateReplacePolicy"]),
            (&json!("Retain"), &json!("Retain"))
        );
        assert_eq!(properties["DeletionProtectionEnabled"], true, "{properties}");
        let recovery = &properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"];
        assert_eq!((recovery, &properties["SSESpecification"]["SSEEnabled"]), (&json!(true), &json!(true)));
    }
}

#[test]
fn functions_are_seen_and_come_into_use_step_by_step() {
    let globals = template()["Globals"]["Function"].clone();
    assert_eq!(globals["Tracing"], "Active");
    assert_eq!(globals["LoggingConfig"]["LogGroup"], json!({"Ref": "LogGroup"}));
    assert_eq!(globals["AutoPublishAlias"], "live");
    let alarms = template()["Resources"].clone();
    let watching = globals["DeploymentPreference"]["Alarms"].as_array().unwrap();
    assert!(!watching.is_empty());
    for alarm in watching {
        let name = alarm["Ref"].as_str().unwrap();
        assert_eq!(alarms[name]["Type"], "AWS::CloudWatch::Alarm", "{name}");
    }
    for group in resources("AWS::Logs::LogGroup") {
        assert_eq!(group["Properties"]["RetentionInDays"], json!({"Ref": "LogRetentionDays"}));
    }
    let api = resources("AWS::Serverless::HttpApi").remove(0)["Properties"].clone();
    assert_eq!(api["FailOnWarnings"], true);
    assert_eq!(api["CorsConfiguration"]["Fn::If"][0], "HasCors");
    for limit in ["ThrottlingRateLimit", "ThrottlingBurstLimit"] {
        assert!(api["DefaultRouteSettings"][limit]["Ref"].is_string(), "{limit}");
    }
}

/// Two stacks fit into one account: what has a name there has the stack's in it.
#[test]
fn no_name_is_taken_by_one_stack_alone() {
    // Inside a stack's own pool, or the name of an attribute, an index, a dimension and the like.
    const WITHIN: [&str; 9] = [
        "AttributeName",
        "ClientName",
        "EventBusName",
        "GroupName",
        "IndexName",
        "MetricName",
        "PolicyName",
        "ScopeName",
        "SourceName",
    ];
    fn look(value: &Value, seen: &mut usize) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    // A dimension or a scope is a name beside a value or a description.
                    let of_a_resource =
                        key == "Name" && !map.contains_key("Value") && !map.contains_key("Scopes");
                    if of_a_resource
                        || key.ends_with("Name") && key != "Name" && !WITHIN.contains(&key.as_str())
                    {
                        let name = value["Fn::Sub"].as_str().unwrap_or_default();
                        let own =
                            name.contains("${AWS::StackName}") || *value == json!({"Ref": "AWS::StackName"});
                        assert!(own, "{key}: {value}");
                        *seen += 1;
                    }
                    look(value, seen);
                }
            }
            Value::Array(all) => all.iter().for_each(|value| look(value, seen)),
            _ => {}
        }
    }
    let mut seen = 0;
    look(&template()["Resources"], &mut seen);
    assert!(seen > 35, "{seen}");
}

/// Every environment can be deployed by its name, with parameters that the template has and values that it takes.
#[test]
fn environments_say_what_the_template_knows() {
    let text = std::fs::read_to_string(root().join("samconfig.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let environments: BTreeSet<&str> =
        config.keys().map(String::as_str).filter(|key| *key != "version").collect();
    assert_eq!(environments, ["default", "dev", "staging", "prod"].into());
    let parameters = template()["Parameters"].clone();
    for environment in environments {
        let deploy = &config[environment]["deploy"]["parameters"];
        assert_eq!(deploy["capabilities"].as_str(), Some("CAPABILITY_IAM"), "{environment}");
        for word in deploy["parameter_overrides"].as_str().unwrap().split(' ') {
            let (name, value) = word.split_once('=').unwrap();
            let parameter = &parameters[name];
            assert!(parameter.is_object(), "{environment}: {name}");
            if let Some(allowed) = parameter["AllowedValues"].as_array() {
                let known = |known: &Value| known.as_str().map_or(known.to_string(), str::to_owned) == value;
                assert!(allowed.iter().any(known), "{environment}: {word}");
            }
        }
    }
    assert_eq!(config["default"]["global"], config["dev"]["global"]);
    let canary = config["prod"]["deploy"]["parameters"]["parameter_overrides"].as_str().unwrap();
    assert!(canary.contains("Deployment=Canary"), "{canary}");
}
