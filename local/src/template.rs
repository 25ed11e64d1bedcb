//! What `template.yaml` declares, with its references resolved as CloudFormation would.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// The stack's name on this machine; resources are named after it.
pub const STACK_NAME: &str = "holdfast";
/// The region that this machine pretends to be.
pub const REGION: &str = "us-east-1";
/// The account that this machine pretends to be.
pub const ACCOUNT_ID: &str = "000000000000";

/// Lambda's own time-out where a template gives none, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 3;

/// What is wrong with a template.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BadTemplate(String);

fn bad(what: impl Into<String>) -> BadTemplate {
    BadTemplate(what.into())
}

/// What this machine runs of a template.
#[derive(Debug)]
pub struct Template {
    /// The functions.
    pub functions: Vec<Function>,
    /// The tables, as `CreateTable` and `UpdateTimeToLive` take them.
    pub tables: Vec<Table>,
    /// Issuer and audience of the tokens that the HTTP API asks for.
    pub issuer: String,
    /// Audience of the tokens that the HTTP API asks for.
    pub audience: String,
    /// The queues.
    pub queues: Vec<Queue>,
    /// The rules of the event buses.
    pub rules: Vec<Rule>,
}

/// A queue.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How long a message that was received is invisible.
    pub visibility_seconds: u64,
    /// How long a message is invisible at first.
    pub delay_seconds: u64,
    /// Where messages go that were received more often than this.
    pub dead_letters: Option<(String, i64)>,
}

impl Queue {
    /// Its ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{}", self.name)
    }
}

/// A rule: what is published on a bus and fits the pattern goes to the targets.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The bus.
    pub bus: String,
    /// The pattern.
    pub pattern: Value,
    /// The ARNs of queues and functions.
    pub targets: Vec<String>,
}

/// A queue that calls a function.
#[derive(Debug, Clone)]
pub struct QueueSource {
    /// Its ARN.
    pub queue: String,
    /// Most messages at once.
    pub batch_size: u64,
    /// Whether the function answers with what has failed.
    pub partial: bool,
}

/// A table's stream that calls a function.
#[derive(Debug, Clone)]
pub struct StreamSource {
    /// The table.
    pub table: String,
    /// Most records at once.
    pub batch_size: u64,
    /// Whether the function answers with what has failed.
    pub partial: bool,
    /// Whether a batch that fails is split.
    pub bisect: bool,
    /// How often a batch is tried again.
    pub max_retries: u64,
    /// The ARN of the queue that is told what was given up.
    pub on_failure: Option<String>,
    /// A record is delivered if it fits one of them, or if there are none.
    patterns: Vec<Value>,
}

impl StreamSource {
    /// Whether a record is to be delivered.
    pub fn wants(&self, record: &Value, fits: impl Fn(&Value, &Value) -> bool) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| fits(pattern, record))
    }
}

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// The name of its binary: its name everywhere.
    pub name: String,
    /// When an invocation is ended.
    pub timeout: Duration,
    /// Its memory, in MB.
    pub memory_mb: u64,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The routes that call it.
    pub routes: Vec<Route>,
    /// The queues that call it.
    pub queues: Vec<QueueSource>,
    /// The streams that call it.
    pub streams: Vec<StreamSource>,
    /// How often schedules call it.
    pub schedules: Vec<Duration>,
    /// What its role allows, apart from what Lambda itself does with it.
    pub statements: Vec<Value>,
}

/// A route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// With parameters in braces: `/inventory/{productId}`.
    pub path: String,
    /// Whether a token is asked for.
    pub protected: bool,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The request that creates it.
    pub create: Value,
    /// The attribute that items are purged by.
    pub ttl_attribute: Option<String>,
}

impl Template {
    /// Reads a template. `parameters` are given as on a deployment; the others take their defaults.
    /// `endpoint` is where queues are reached.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn read(
        path: &Path,
        parameters: &BTreeMap<String, String>,
        endpoint: &str,
    ) -> Result<Self, BadTemplate> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| bad(format!("{} cannot be read: {e}", path.display())))?;
        Self::parse(&text, parameters, endpoint)
            .map_err(|BadTemplate(e)| bad(format!("{}: {e}", path.display())))
    }

    /// Reads a template's text.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(
        text: &str,
        parameters: &BTreeMap<String, String>,
        endpoint: &str,
    ) -> Result<Self, BadTemplate> {
        let template = yaml_as_json(text)?;
        let scope = Scope::of(&template, parameters, endpoint)?;
        let resources = object(&template["Resources"], "Resources")?;
        let globals = scope.resolve(&template["Globals"]["Function"])?;
        let mut functions = Vec::new();
        let mut tables = Vec::new();
        let (mut queues, mut rules) = (Vec::new(), Vec::new());
        let mut auth = (String::new(), String::new());
        for (id, resource) in resources {
            let inside = |BadTemplate(e)| bad(format!("resource {id}: {e}"));
            match resource["Type"].as_str() {
                Some("AWS::Serverless::Function") => {
                    functions.push(function(resource, resources, &globals, &scope).map_err(inside)?);
                }
                Some("AWS::DynamoDB::Table") => tables.push(table(resource, &scope).map_err(inside)?),
                Some("AWS::SQS::Queue") => queues.push(queue(resource, &scope).map_err(inside)?),
                Some("AWS::Events::Rule") => rules.push(rule(resource, &scope).map_err(inside)?),
                Some("AWS::Serverless::HttpApi") => auth = authorizer(resource, &scope).map_err(inside)?,
                _ => {}
            }
        }
        if functions.is_empty() {
            return Err(bad("it declares no AWS::Serverless::Function"));
        }
        let (issuer, audience) = auth;
        Ok(Self { functions, tables, issuer, audience, queues, rules })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionProperties {
    timeout: Option<u64>,
    memory_size: Option<u64>,
    environment: Option<Environment>,
    #[serde(default)]
    events: BTreeMap<String, Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    variables: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    r#type: String,
    properties: Value,
}

fn function(
    resource: &Value,
    resources: &Map<String, Value>,
    globals: &Value,
    scope: &Scope,
) -> Result<Function, BadTemplate> {
    let name = resource["Metadata"]["BuildProperties"]["Binary"]
        .as_str()
        .ok_or_else(|| bad("Metadata.BuildProperties.Binary names no binary"))?;
    let parse = |value: Value| {
        serde_json::from_value::<FunctionProperties>(value).map_err(|e| bad(format!("its properties: {e}")))
    };
    let own = parse(scope.resolve(&resource["Properties"])?)?;
    let shared = if globals.is_null() { None } else { Some(parse(globals.clone())?) };
    let mut environment = BTreeMap::new();
    for source in [shared.as_ref(), Some(&own)].into_iter().flatten() {
        for (variable, value) in source.environment.iter().flat_map(|e| &e.variables) {
            environment.insert(variable.clone(), plain(value));
        }
    }
    let setting =
        |of: fn(&FunctionProperties) -> Option<u64>| of(&own).or_else(|| shared.as_ref().and_then(of));
    let of_type = |wanted: &'static str| own.events.iter().filter(move |(_, event)| event.r#type == wanted);
    let inside = |id: &str, BadTemplate(e)| bad(format!("event {id}: {e}"));
    Ok(Function {
        queues: of_type("SQS")
            .map(|(id, event)| queue_source(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        streams: of_type("DynamoDB")
            .map(|(id, event)| stream_source(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        schedules: of_type("ScheduleV2")
            .map(|(id, event)| rate(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        statements: statements(&resource["Properties"]["Role"], resources, scope)?,
        name: name.to_owned(),
        timeout: Duration::from_secs(setting(|p| p.timeout).unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
        memory_mb: setting(|p| p.memory_size).unwrap_or(128),
        environment,
        routes: own
            .events
            .iter()
            .filter(|(_, event)| event.r#type == "HttpApi")
            .map(|(id, event)| {
                route(&event.properties).map_err(|BadTemplate(e)| bad(format!("event {id}: {e}")))
            })
            .collect::<Result<_, _>>()?,
    })
}

/// The statements of the policies that stand in a role.
fn statements(
    role: &Value,
    resources: &Map<String, Value>,
    scope: &Scope,
) -> Result<Vec<Value>, BadTemplate> {
    let Some(role) = role["Fn::GetAtt"].as_str().and_then(|name| name.strip_suffix(".Arn")) else {
        return Err(bad("Role is no !GetAtt of a role's Arn"));
    };
    let role = resources.get(role).ok_or_else(|| bad(format!("there is no role {role}")))?;
    let policies = scope.resolve(&role["Properties"]["Policies"])?;
    let policies = policies.as_array().into_iter().flatten();
    Ok(policies
        .flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().into_iter().flatten())
        .cloned()
        .collect())
}

fn route(properties: &Value) -> Result<Route, BadTemplate> {
    let text = |name: &str| {
        properties[name].as_str().map(str::to_owned).ok_or_else(|| bad(format!("{name} is missing")))
    };
    let path = text("Path")?;
    if !path.starts_with('/') {
        return Err(bad(format!("Path is {path:?}, it must begin with a slash")));
    }
    Ok(Route {
        method: text("Method")?.to_uppercase(),
        path,
        protected: properties["Auth"]["Authorizer"] != "NONE",
    })
}

/// A number in a template may be written as text, as parameters are.
fn number(value: &Value, default: u64) -> Result<u64, BadTemplate> {
    match value {
        Value::Null => Ok(default),
        value => plain(value).parse().map_err(|_| bad(format!("{value} is no number"))),
    }
}

fn reports_items(properties: &Value) -> bool {
    let types = properties["FunctionResponseTypes"].as_array();
    types.is_some_and(|types| types.iter().any(|of| of == "ReportBatchItemFailures"))
}

fn queue_source(properties: &Value) -> Result<QueueSource, BadTemplate> {
    let queue = properties["Queue"].as_str().ok_or_else(|| bad("Queue is missing"))?;
    let batch_size = number(&properties["BatchSize"], 10)?;
    Ok(QueueSource { queue: queue.to_owned(), batch_size, partial: reports_items(properties) })
}

fn stream_source(properties: &Value) -> Result<StreamSource, BadTemplate> {
    let stream = properties["Stream"].as_str().ok_or_else(|| bad("Stream is missing"))?;
    let table = stream.split('/').nth(1).ok_or_else(|| bad(format!("{stream:?} is no stream of a table")))?;
    let filters = properties["FilterCriteria"]["Filters"].as_array();
    let pattern = |filter: &Value| {
        let text = filter["Pattern"].as_str().ok_or_else(|| bad("a filter has no Pattern"))?;
        serde_json::from_str(text).map_err(|e| bad(format!("the pattern {text}: {e}")))
    };
    Ok(StreamSource {
        table: table.to_owned(),
        batch_size: number(&properties["BatchSize"], 100)?,
        partial: reports_items(properties),
        bisect: properties["BisectBatchOnFunctionError"] == true,
        max_retries: number(&properties["MaximumRetryAttempts"], u64::MAX)?,
        on_failure: properties["DestinationConfig"]["OnFailure"]["Destination"].as_str().map(str::to_owned),
        patterns: filters.into_iter().flatten().map(pattern).collect::<Result<_, _>>()?,
    })
}

/// `rate(1 minute)` and the like.
fn rate(properties: &Value) -> Result<Duration, BadTemplate> {
    let text = properties["ScheduleExpression"].as_str().unwrap_or_default();
    let words = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')')).unwrap_or_default();
    let seconds = match words.split_once(' ').map(|(n, unit)| (n.parse::<u64>(), unit.trim_end_matches('s')))
    {
        Some((Ok(n), "minute")) => n * 60,
        Some((Ok(n), "hour")) => n * 3_600,
        Some((Ok(n), "day")) => n * 86_400,
        _ => return Err(bad(format!("ScheduleExpression is {text:?}; here only rate(...) is understood"))),
    };
    Ok(Duration::from_secs(seconds))
}

fn queue(resource: &Value, scope: &Scope) -> Result<Queue, BadTemplate> {
    let properties = scope.resolve(&resource["Properties"])?;
    let name = properties["QueueName"].as_str().ok_or_else(|| bad("QueueName is missing"))?;
    let dead = properties["RedrivePolicy"]["deadLetterTargetArn"].as_str();
    let dead = dead.and_then(|arn| arn.rsplit(':').next()).map(str::to_owned);
    let most = number(&properties["RedrivePolicy"]["maxReceiveCount"], 5)?;
    Ok(Queue {
        name: name.to_owned(),
        visibility_seconds: number(&properties["VisibilityTimeout"], 30)?,
        delay_seconds: number(&properties["DelaySeconds"], 0)?,
        dead_letters: dead.map(|dead| (dead, i64::try_from(most).unwrap_or(i64::MAX))),
    })
}

fn rule(resource: &Value, scope: &Scope) -> Result<Rule, BadTemplate> {
    let properties = scope.resolve(&resource["Properties"])?;
    let targets = properties["Targets"].as_array().ok_or_else(|| bad("Targets is missing"))?;
    let target = |target: &Value| {
        let arn = target["Arn"].as_str().filter(|arn| arn.contains(":sqs:") || arn.contains(":lambda:"));
        arn.map(str::to_owned).ok_or_else(|| bad("a target is neither a queue nor a function"))
    };
    Ok(Rule {
        bus: properties["EventBusName"].as_str().unwrap_or("default").to_owned(),
        pattern: properties["EventPattern"].clone(),
        targets: targets.iter().map(target).collect::<Result<_, _>>()?,
    })
}

fn authorizer(resource: &Value, scope: &Scope) -> Result<(String, String), BadTemplate> {
    let auth = scope.resolve(&resource["Properties"]["Auth"])?;
    let Some(name) = auth["DefaultAuthorizer"].as_str() else {
        return Err(bad("Auth.DefaultAuthorizer is missing; without it every route would be public"));
    };
    let jwt = &auth["Authorizers"][name]["JwtConfiguration"];
    match (jwt["issuer"].as_str(), jwt["audience"][0].as_str()) {
        (Some(issuer), Some(audience)) => Ok((issuer.to_owned(), audience.to_owned())),
        _ => Err(bad(format!("authorizer {name} has no JwtConfiguration with issuer and audience"))),
    }
}

/// `CreateTable` takes what the template says, except for the parts that CloudFormation sets by other calls.
fn table(resource: &Value, scope: &Scope) -> Result<Table, BadTemplate> {
    let mut create = object(&scope.resolve(&resource["Properties"])?, "Properties")?.clone();
    let name = create
        .get("TableName")
        .and_then(Value::as_str)
        .ok_or_else(|| bad("TableName is missing"))?
        .to_owned();
    create.remove("PointInTimeRecoverySpecification");
    create.remove("ContributorInsightsSpecification");
    // On this machine a table goes with the folder that it lies in.
    create.remove("DeletionProtectionEnabled");
    let ttl = create.remove("TimeToLiveSpecification").unwrap_or_default();
    if let Some(stream) = create.get_mut("StreamSpecification").and_then(Value::as_object_mut) {
        stream.insert("StreamEnabled".to_owned(), true.into());
    }
    Ok(Table {
        name,
        create: Value::Object(create),
        ttl_attribute: ttl["AttributeName"].as_str().map(str::to_owned),
    })
}

/// What references are resolved against.
struct Scope {
    values: BTreeMap<String, String>,
    conditions: Map<String, Value>,
}

impl Scope {
    fn of(template: &Value, given: &BTreeMap<String, String>, endpoint: &str) -> Result<Self, BadTemplate> {
        let mut values: BTreeMap<String, String> = [
            ("AWS::StackName", STACK_NAME),
            ("AWS::Region", REGION),
            ("AWS::AccountId", ACCOUNT_ID),
            ("AWS::Partition", "aws"),
            ("AWS::URLSuffix", "amazonaws.com"),
            // What is set to it counts as not set; nothing here asks for the difference.
            ("AWS::NoValue", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let declared = template["Parameters"].as_object();
        if let Some(unknown) =
            given.keys().find(|name| declared.is_none_or(|declared| !declared.contains_key(*name)))
        {
            let names: Vec<&str> = declared.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            return Err(bad(format!("there is no parameter {unknown}; there are {}", names.join(", "))));
        }
        for (name, parameter) in declared.into_iter().flatten() {
            let value = given.get(name).cloned().or_else(|| parameter.get("Default").map(plain));
            values.insert(
                name.clone(),
                value.ok_or_else(|| bad(format!("parameter {name} has no default and is not given")))?,
            );
        }
        let conditions = template["Conditions"].as_object().cloned().unwrap_or_default();
        let mut scope = Self { values, conditions };
        for (id, resource) in template["Resources"].as_object().into_iter().flatten() {
            // `Ref` of a resource is its name, here as for the resources that the template uses.
            let named = ["TableName", "QueueName", "Name"].iter().find_map(|n| resource["Properties"].get(n));
            // A function goes by the name of its binary here.
            let binary = resource["Metadata"]["BuildProperties"]["Binary"].as_str();
            let name = match (binary, named) {
                (Some(binary), _) => binary.to_owned(),
                (None, Some(name)) => plain(&scope.resolve(name)?),
                (None, None) => id.clone(),
            };
            let (service, kind) = match resource["Type"].as_str().unwrap_or_default() {
                "AWS::DynamoDB::Table" => ("dynamodb", "table/"),
                "AWS::SQS::Queue" => ("sqs", ""),
                "AWS::Events::EventBus" => ("events", "event-bus/"),
                "AWS::Events::Rule" => ("events", "rule/"),
                "AWS::Serverless::Function" => ("lambda", "function:"),
                _ => ("", ""),
            };
            let arn = format!("arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{kind}{name}");
            scope.values.insert(format!("{id}.StreamArn"), format!("{arn}/stream/local"));
            scope.values.insert(format!("{id}.Arn"), arn);
            // A queue is referred to by its address.
            let reference = if service == "sqs" { format!("{endpoint}/{ACCOUNT_ID}/{name}") } else { name };
            scope.values.insert(id.clone(), reference);
        }
        Ok(scope)
    }

    fn value(&self, name: &str) -> Result<&str, BadTemplate> {
        self.values
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| bad(format!("a reference to {name}, which is not declared")))
    }

    /// Whether a condition holds, named or written out.
    fn holds(&self, condition: &Value) -> Result<bool, BadTemplate> {
        let unknown = || bad(format!("the condition {condition} is not understood here"));
        let (function, inner) = match condition {
            Value::String(name) => {
                let named = self.conditions.get(name);
                return self.holds(named.ok_or_else(|| bad(format!("there is no condition {name}")))?);
            }
            Value::Object(map) if map.len() == 1 => map.iter().next().ok_or_else(unknown)?,
            _ => return Err(unknown()),
        };
        match (function.as_str(), inner.as_array().map(Vec::as_slice)) {
            ("Condition", _) => self.holds(inner),
            ("Fn::Equals", Some([a, b])) => Ok(plain(&self.resolve(a)?) == plain(&self.resolve(b)?)),
            ("Fn::Not", Some([a])) => Ok(!self.holds(a)?),
            _ => Err(unknown()),
        }
    }

    /// Resolves `Ref`, `Fn::GetAtt`, `Fn::Sub` and `Fn::If`, wherever they stand.
    fn resolve(&self, value: &Value) -> Result<Value, BadTemplate> {
        match value {
            Value::Array(items) => items.iter().map(|item| self.resolve(item)).collect(),
            Value::Object(map) => {
                let only = map.iter().next().filter(|_| map.len() == 1);
                match only.map(|(key, inner)| (key.as_str(), inner)) {
                    Some(("Ref" | "Fn::GetAtt", Value::String(name))) => Ok(json!(self.value(name)?)),
                    Some(("Fn::Sub", Value::String(text))) => Ok(json!(self.substitute(text)?)),
                    Some(("Fn::If", Value::Array(parts))) => match parts.as_slice() {
                        [condition, then, _] if self.holds(condition)? => self.resolve(then),
                        [_, _, otherwise] => self.resolve(otherwise),
                        _ => Err(bad("Fn::If takes a condition and two values")),
                    },
                    Some((function, _)) if function.starts_with("Fn::") => {
                        Err(bad(format!("{function} in a form that is not understood here")))
                    }
                    _ => map
                        .iter()
                        .map(|(key, inner)| Ok((key.clone(), self.resolve(inner)?)))
                        .collect::<Result<Map<_, _>, _>>()
                        .map(Value::Object),
                }
            }
            plain => Ok(plain.clone()),
        }
    }

    fn substitute(&self, text: &str) -> Result<String, BadTemplate> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) =
                after.split_once('}').ok_or_else(|| bad(format!("{text:?} has a brace too few")))?;
            result.push_str(before);
            result.push_str(self.value(name)?);
            rest = behind;
        }
        result.push_str(rest);
        Ok(result)
    }
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, BadTemplate> {
    value.as_object().ok_or_else(|| bad(format!("{what} is missing or no mapping")))
}

/// A value as the environment takes it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A YAML document as JSON; CloudFormation's short tags become their long forms.
///
/// # Errors
/// If it is no YAML, or has what JSON cannot say.
pub fn yaml_as_json(text: &str) -> Result<Value, BadTemplate> {
    let documents = Yaml::load_from_str(text).map_err(|e| bad(format!("not YAML: {e}")))?;
    to_json(documents.first().ok_or_else(|| bad("it is empty"))?)
}

/// YAML as JSON; CloudFormation's short tags become their long forms (`!Ref X` becomes `{"Ref": "X"}`).
fn to_json(yaml: &Yaml) -> Result<Value, BadTemplate> {
    match yaml {
        Yaml::Value(scalar) => Ok(match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => json!(value),
            Scalar::Integer(value) => json!(value),
            Scalar::FloatingPoint(value) => json!(value.into_inner()),
            Scalar::String(value) => json!(value),
        }),
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(mapping) => {
            let mut map = Map::new();
            for (key, value) in mapping {
                let key = plain(&to_json(key)?);
                if map.insert(key.clone(), to_json(value)?).is_some() {
                    return Err(bad(format!("the key {key} stands twice in one mapping")));
                }
            }
            Ok(Value::Object(map))
        }
        Yaml::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                "Ref" => "Ref".to_owned(),
                other => format!("Fn::{other}"),
            };
            Ok(Value::Object(Map::from_iter([(name, to_json(inner)?)])))
        }
        Yaml::Representation(text, ..) => Ok(json!(text)),
        Yaml::Alias(_) | Yaml::BadValue => Err(bad("a value that cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
Parameters: {Ttl: {Type: Number, Default: 15}, Who: {Type: String}}
Globals: {Function: {Timeout: 10, Environment: {Variables: {TTL: !Ref Ttl, A: 1}}}}
Resources:
  Api: {Type: AWS::Serverless::HttpApi, Properties: {Auth: {DefaultAuthorizer: Jwt, Authorizers: {Jwt: {JwtConfiguration: {issuer: !Ref Who, audience: [x]}}}}}}
  DoRole: {Type: AWS::IAM::Role, Properties: {Policies: [{PolicyDocument: {Statement: [{Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt Things.Arn}]}}]}}
  Things: {Type: AWS::DynamoDB::Table, Properties: {TableName: !Sub "${AWS::StackName}-things", BillingMode: PAY_PER_REQUEST}}
  Do:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: do-it}}
    Properties:
      Role: !GetAtt DoRole.Arn
      Timeout: 5
      Environment: {Variables: {A: !GetAtt Things.Arn, T: !Ref Things}}
      Events: {One: {Type: HttpApi, Properties: {Method: post, Path: "/a/{id}"}}, Two: {Type: HttpApi, Properties: {Method: GET, Path: /b, Auth: {Authorizer: NONE}}}}
"#;

    fn given() -> BTreeMap<String, String> {
        [("Who".to_owned(), "issuer".to_owned())].into()
    }

    #[test]
    fn references_are_resolved_and_globals_are_overridden() {
        let template = Template::parse(ONE, &given(), "http://x").unwrap();
        let function = &template.functions[0];
        assert_eq!((function.name.as_str(), function.timeout), ("do-it", Duration::from_secs(5)));
        assert_eq!(function.environment["TTL"], "15");
        assert_eq!(function.environment["T"], "holdfast-things");
        assert_eq!(
            function.environment["A"],
            "arn:aws:dynamodb:us-east-1:000000000000:table/holdfast-things"
        );
        assert_eq!(function.statements[0]["Resource"], function.environment["A"]);
        let route = |method: &str, path: &str, protected| Route {
            method: method.into(),
            path: path.into(),
            protected,
        };
        assert_eq!(function.routes, [route("POST", "/a/{id}", true), route("GET", "/b", false)]);
        assert_eq!((template.issuer.as_str(), template.audience.as_str()), ("issuer", "x"));
    }

    #[test]
    fn conditions_choose() {
        let text = ONE.replace("TTL: !Ref Ttl", "TTL: !If [Long, a, !If [Short, !Ref Ttl, c]]")
            + "Conditions: {Short: !Not [{Condition: Long}], Long: !Equals [!Ref Ttl, 60]}\n";
        let ttl = |given: &BTreeMap<String, String>| {
            Template::parse(&text, given, "http://x").unwrap().functions[0].environment["TTL"].clone()
        };
        let mut given = given();
        assert_eq!(ttl(&given), "15");
        given.insert("Ttl".to_owned(), "60".to_owned());
        assert_eq!(ttl(&given), "a");
        let wrong = text.replace("[Long, a", "[Nope, a");
        let wrong = Template::parse(&wrong, &given, "http://x").unwrap_err().to_string();
        assert!(wrong.contains("no condition Nope"), "{wrong}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &str, given: &BTreeMap<String, String>| {
            Template::parse(text, given, "http://x").unwrap_err().to_string()
        };
        assert!(wrong(ONE, &BTreeMap::new()).contains("parameter Who has no default"));
        assert!(wrong(&ONE.replace("!Ref Ttl", "!Ref Nope"), &given()).contains("Nope"));
        assert!(wrong(&ONE.replace("Path: /b", "Path: b"), &given()).contains("must begin with a slash"));
        assert!(wrong(&ONE.replace("DefaultAuthorizer: Jwt, ", ""), &given()).contains("public"));
        let unknown = [("Who".to_owned(), "x".to_owned()), ("Foo".to_owned(), "1".to_owned())].into();
        assert!(wrong(ONE, &unknown).contains("there is no parameter Foo; there are Ttl, Who"));
        assert!(wrong("Resources: {", &given()).contains("not YAML"));
        assert!(wrong("Resources: {}", &BTreeMap::new()).contains("no AWS::Serverless::Function"));
    }
}
