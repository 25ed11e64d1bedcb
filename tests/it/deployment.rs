//! The declarations for production, so that no edit loses one of them.

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

/// Resources with data outlive their stack, unless a first deployment that failed had just made them.
#[test]
fn what_may_not_be_lost_outlives_its_stack() {
    let kept = ["AWS::DynamoDB::Table", "AWS::Cognito::UserPool", "AWS::S3::Bucket"];
    for resource in kept.into_iter().flat_map(resources) {
        let policies = (&resource["DeletionPolicy"], &resource["UpdateReplacePolicy"]);
        assert_eq!(policies, (&json!("RetainExceptOnCreate"), &json!("Retain")), "{resource}");
    }
    let protected = template()["Conditions"]["IsProtected"].clone();
    assert_eq!(protected, json!({"Fn::Equals": [{"Ref": "DeletionProtection"}, "true"]}));
    assert_eq!(template()["Parameters"]["DeletionProtection"]["Default"], "true");
    let pool = resources("AWS::Cognito::UserPool").remove(0);
    let active = json!({"Fn::If": ["IsProtected", "ACTIVE", "INACTIVE"]});
    assert_eq!(pool["Properties"]["DeletionProtection"], active);
}

#[test]
fn tables_outlive_mistakes() {
    for table in resources("AWS::DynamoDB::Table") {
        let properties = &table["Properties"];
        let protected = json!({"Fn::If": ["IsProtected", true, false]});
        assert_eq!(properties["DeletionProtectionEnabled"], protected, "{properties}");
        let recovery = &properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"];
        assert_eq!((recovery, &properties["SSESpecification"]["SSEEnabled"]), (&json!(true), &json!(true)));
    }
}

#[test]
fn functions_are_seen_and_come_into_use_step_by_step() {
    let globals = template()["Globals"]["Function"].clone();
    assert_eq!(globals["Tracing"], "Active");
    assert_eq!(globals["LoggingConfig"]["LogGroup"], json!({"Ref": "LogGroup"}));
    assert_eq!(
        (&globals["AutoPublishAlias"], &globals["AutoPublishAliasAllProperties"]),
        (&json!("live"), &json!(true))
    );
    let alarms = template()["Resources"].clone();
    // SAM's transform takes a list in either case and nothing else, and `sam validate --lint` does not say so.
    let watching = &globals["DeploymentPreference"]["Alarms"]["Fn::If"];
    assert_eq!(
        (&watching[0], &watching[2]),
        (&json!("WatchesDeployments"), &json!([{"Ref": "AWS::NoValue"}]))
    );
    let watching = watching[1].as_array().unwrap();
    assert!(!watching.is_empty());
    for alarm in watching {
        let name = alarm["Ref"].as_str().unwrap();
        assert_eq!(alarms[name]["Type"], "AWS::CloudWatch::Alarm", "{name}");
    }
    for group in resources("AWS::Logs::LogGroup") {
        assert_eq!(group["Properties"]["RetentionInDays"], json!({"Ref": "LogRetentionDays"}));
    }
    let api = resources("AWS::Serverless::HttpApi").remove(0)["Properties"].clone();
    assert_eq!(api["FailOnWarnings"], json!({"Fn::If": ["FailsOnWarnings", true, false]}));
    let by_route = &api["DefaultRouteSettings"]["DetailedMetricsEnabled"];
    assert_eq!(*by_route, json!({"Fn::If": ["CountsByRoute", true, false]}));
    assert_eq!(template()["Parameters"]["DetailedRouteMetrics"]["Default"], "false");
    assert_eq!(api["CorsConfiguration"]["Fn::If"][0], "HasCors");
    for limit in ["ThrottlingRateLimit", "ThrottlingBurstLimit"] {
        assert!(api["DefaultRouteSettings"][limit]["Ref"].is_string(), "{limit}");
    }
}

/// A browser asks before it sends; what the gateway does not name there is not sent. It must also be able to read the
/// id that a change without an answer is sent again with.
#[test]
fn browsers_may_send_what_there_are_routes_for() {
    let cors = resources("AWS::Serverless::HttpApi").remove(0)["Properties"]["CorsConfiguration"]["Fn::If"]
        [1]
    .clone();
    let listed = |name: &str| -> BTreeSet<String> {
        cors[name].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let routes = crate::contract::template().functions.into_iter().flat_map(|function| function.routes);
    assert_eq!(listed("AllowMethods"), routes.map(|route| route.method).collect());
    assert!(listed("ExposeHeaders").contains("apigw-requestid"));
    assert!(listed("AllowHeaders").contains("prefer") && listed("ExposeHeaders").contains("location"));
}

/// Routes that anybody may read have limits of their own, on both bases.
#[test]
fn public_reads_are_throttled_by_themselves() {
    let api = resources("AWS::Serverless::HttpApi").remove(0)["Properties"].clone();
    let limited = api["RouteSettings"].as_object().unwrap();
    let functions = crate::contract::template().functions;
    let check = functions.iter().find(|function| function.name == "check").unwrap();
    let public = check.routes.iter().filter(|route| !route.protected);
    let public: BTreeSet<String> = public.map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(limited.keys().cloned().collect::<BTreeSet<_>>(), public);
    for (route, settings) in limited {
        assert_eq!(settings["ThrottlingRateLimit"], json!({"Ref": "PublicRateLimit"}), "{route}");
        assert_eq!(settings["ThrottlingBurstLimit"], json!({"Ref": "PublicBurstLimit"}), "{route}");
        // What is not said of a route is not taken from the default of all.
        assert_eq!(
            settings["DetailedMetricsEnabled"], api["DefaultRouteSettings"]["DetailedMetricsEnabled"],
            "{route}"
        );
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
        // Where `sam build` reads it, too, and nothing takes its place.
        let overrides = config[environment]["global"]["parameters"]["parameter_overrides"].as_str().unwrap();
        for command in ["build", "deploy"] {
            assert!(config[environment][command]["parameters"].get("parameter_overrides").is_none());
        }
        assert!(overrides.contains("Architecture="), "{environment}: {overrides}");
        for word in overrides.split(' ') {
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
    let canary = config["prod"]["global"]["parameters"]["parameter_overrides"].as_str().unwrap();
    assert!(canary.contains("Deployment=Canary"), "{canary}");
    assert!(canary.contains("RequireIdempotencyKey=true"), "{canary}");
}

/// Every parameter says what it does.
#[test]
fn parameters_are_described() {
    for (name, parameter) in template()["Parameters"].as_object().unwrap() {
        assert!(parameter["Description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
    }
}

#[test]
fn what_lambda_gives_up_goes_whole_into_a_private_bucket() {
    let publisher =
        crate::contract::template().functions.into_iter().find(|f| f.name == "publisher").unwrap();
    let stream = &publisher.streams[0];
    assert_eq!(stream.max_retries, u64::MAX, "as long as the stream keeps a record");
    assert_eq!(stream.on_failure.as_deref(), Some("arn:aws:s3:::PublisherFailures"));
    let bucket = template()["Resources"]["PublisherFailures"]["Properties"].clone();
    let access = bucket["PublicAccessBlockConfiguration"].as_object().unwrap();
    assert_eq!(access.len(), 4);
    assert!(access.values().all(|blocked| blocked == true), "{access:?}");
    assert!(bucket["BucketEncryption"].is_object() && bucket["LifecycleConfiguration"].is_object());
    let policy = &template()["Resources"]["PublisherFailuresPolicy"]["Properties"];
    let statement = &policy["PolicyDocument"]["Statement"][0];
    assert_eq!(statement["Effect"], "Deny");
    assert_eq!(statement["Condition"], json!({"Bool": {"aws:SecureTransport": "false"}}));
    let own = publisher.statements.iter().filter(|statement| statement.to_string().contains("s3:"));
    for statement in own {
        assert_eq!(
            statement["Condition"]["StringEquals"]["s3:ResourceAccount"], "000000000000",
            "{statement}"
        );
    }
}

#[test]
fn what_was_on_the_bus_is_kept_for_a_fortnight() {
    let archive = resources("AWS::Events::Archive").remove(0)["Properties"].clone();
    assert_eq!(archive["RetentionDays"], 14);
    assert_eq!(archive["SourceArn"], json!({"Fn::GetAtt": "EventBus.Arn"}));
    assert!(archive.get("EventPattern").is_none(), "all of it");
}

/// The template that `deploy/managed-instances` writes for these functions.
fn managed(functions: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new(root().join("deploy/managed-instances")).args(functions).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Functions on Managed Instances are other functions: their names are new wherever they stand, and nothing else is.
#[test]
fn functions_can_be_on_managed_instances() {
    let all = ["reserve", "settle", "release", "order-events"];
    for (asked, moved) in [(&[][..], &all[..]), (&["settle"], &["settle"])] {
        let text = managed(asked).unwrap();
        let template = local::template::yaml_as_json(&text).unwrap();
        for (id, resource) in template["Resources"].as_object().unwrap() {
            let Some(binary) = resource["Metadata"]["BuildProperties"]["Binary"].as_str() else { continue };
            let properties = &resource["Properties"];
            let is_moved = moved.contains(&binary);
            let name = if is_moved { format!("managed-{binary}") } else { binary.to_owned() };
            assert_eq!(properties["FunctionName"]["Fn::Sub"], format!("${{AWS::StackName}}-{name}"), "{id}");
            let provider = &properties["CapacityProviderConfig"]["Arn"];
            assert_eq!(*provider == json!({"Ref": "CapacityProviderArn"}), is_moved, "{id}");
            assert_eq!(properties["FunctionScalingConfig"].is_object(), is_moved, "{id}");
            if is_moved {
                // Its process has one thread, and a processor comes with 2 GB at least.
                let memory = &properties["CapacityProviderConfig"]["ExecutionEnvironmentMemoryGiBPerVCpu"];
                assert_eq!((&properties["MemorySize"], memory), (&json!(2_048), &json!(2)), "{id}");
                assert!(!text.contains(&format!("StackName}}-{binary}\"")), "an alarm on the old {binary}");
            }
        }
        let parameters = [("CapacityProviderArn".to_owned(), "arn:aws:lambda:x".to_owned())].into();
        let read = local::template::Template::parse(&text, &parameters, "http://127.0.0.1").unwrap();
        assert_eq!(read.functions.len(), crate::contract::template().functions.len());
        for name in moved {
            let function = read.functions.iter().find(|function| function.name == *name).unwrap();
            assert!(function.works_on_several_at_once(), "{name}");
        }
    }
    // It brings its changes one after the other.
    assert!(managed(&["publisher"]).unwrap_err().contains("publisher cannot be on Managed Instances"));
}
