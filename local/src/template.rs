//! What `template.yaml` declares, with its references resolved as CloudFormation would.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::queues::limits;

mod scope;
mod yaml;

use scope::Scope;
pub use yaml::yaml_as_json;

/// The stack's name on this machine; resources are named after it.
pub const STACK_NAME: &str = "holdfast";
/// The region that this machine pretends to be.
pub const REGION: &str = "us-east-1";
/// The account that this machine pretends to be.
pub const ACCOUNT_ID: &str = "000000000000";

/// Lambda's own time-out where a template gives none, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 3;

/// Lambda's own memory where a template gives none.
const DEFAULT_MEMORY_MB: u64 = 128;

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
    /// The ARN of the bucket or queue that is told what was given up.
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

/// The event of a schedule that has none of its own to say.
pub const NO_EVENT: &str = "{}";

/// When a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Again and again, so long after the last time.
    Every(Duration),
    /// Once a day, so long after midnight in UTC.
    Daily(Duration),
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
    /// When schedules call it, and with which event.
    pub schedules: Vec<(Schedule, String)>,
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
            if !scope.is_made(resource).map_err(inside)? {
                continue;
            }
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
    timeout: Option<Value>,
    memory_size: Option<Value>,
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
    let setting = |of: fn(&FunctionProperties) -> Option<&Value>, default| {
        let value = of(&own).or_else(|| shared.as_ref().and_then(of));
        number(value.unwrap_or(&Value::Null), default)
    };
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
            .filter(|(_, event)| event.properties["State"] != "DISABLED")
            .map(|(id, event)| schedule(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        statements: statements(&resource["Properties"]["Role"], resources, scope)?,
        name: name.to_owned(),
        timeout: Duration::from_secs(setting(|p| p.timeout.as_ref(), DEFAULT_TIMEOUT_SECONDS)?),
        memory_mb: setting(|p| p.memory_size.as_ref(), DEFAULT_MEMORY_MB)?,
        environment,
        routes: of_type("HttpApi")
            .map(|(id, event)| route(&event.properties).map_err(|e| inside(id, e)))
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

/// A flag in a template may be written as text, as parameters are.
fn flag(value: &Value) -> bool {
    plain(value) == "true"
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
        bisect: flag(&properties["BisectBatchOnFunctionError"]),
        max_retries: retries(&properties["MaximumRetryAttempts"])?,
        on_failure: properties["DestinationConfig"]["OnFailure"]["Destination"].as_str().map(str::to_owned),
        patterns: filters.into_iter().flatten().map(pattern).collect::<Result<_, _>>()?,
    })
}

/// How often a batch of a stream is tried again. -1 is for ever.
fn retries(value: &Value) -> Result<u64, BadTemplate> {
    if plain(value) == "-1" { Ok(u64::MAX) } else { number(value, u64::MAX) }
}

/// `rate(1 minute)` and the like, or once a day: `cron(30 3 * * ? *)`.
fn schedule(properties: &Value) -> Result<(Schedule, String), BadTemplate> {
    let text = properties["ScheduleExpression"].as_str().unwrap_or_default();
    let inside = |kind: &str| text.strip_prefix(kind).and_then(|rest| rest.strip_suffix(')'));
    let found = if let Some(rate) = inside("rate(") {
        every(rate).map(Schedule::Every)
    } else {
        inside("cron(").and_then(daily).map(Schedule::Daily)
    };
    let found = found.ok_or_else(|| {
        bad(format!(
            "ScheduleExpression is {text:?}; here rate(...) and cron(MINUTE HOUR * * ? *) are understood"
        ))
    })?;
    Ok((found, properties["Input"].as_str().unwrap_or(NO_EVENT).to_owned()))
}

fn every(rate: &str) -> Option<Duration> {
    let (number, unit) = rate.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u32>().ok().filter(|number| *number > 0)?.into()) * seconds)
}

fn daily(cron: &str) -> Option<Duration> {
    let words: Vec<&str> = cron.split_whitespace().collect();
    let [minute, hour, "*", "*", "?", "*"] = words.as_slice() else { return None };
    let (minute, hour) = (minute.parse::<u32>().ok()?, hour.parse::<u32>().ok()?);
    (minute < 60 && hour < 24).then(|| Duration::from_secs(u64::from(hour * 60 + minute) * 60))
}

fn queue(resource: &Value, scope: &Scope) -> Result<Queue, BadTemplate> {
    let properties = scope.resolve(&resource["Properties"])?;
    let name = properties["QueueName"].as_str().ok_or_else(|| bad("QueueName is missing"))?;
    let dead = properties["RedrivePolicy"]["deadLetterTargetArn"].as_str();
    let dead = dead.and_then(|arn| arn.rsplit(':').next()).map(str::to_owned);
    let most = number(&properties["RedrivePolicy"]["maxReceiveCount"], 5)?;
    let seconds = |attribute: &str, default, most: u64| match number(&properties[attribute], default)? {
        seconds if seconds <= most => Ok(seconds),
        seconds => Err(bad(format!("{attribute} is 0 to {most}, not {seconds}"))),
    };
    Ok(Queue {
        name: name.to_owned(),
        visibility_seconds: seconds("VisibilityTimeout", 30, limits::MAX_VISIBILITY_SECONDS)?,
        delay_seconds: seconds("DelaySeconds", 0, limits::MAX_DELAY_SECONDS)?,
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
    // On this machine a table goes with the folder that it lies in, and takes what the processor takes.
    for set_elsewhere in [
        "ContributorInsightsSpecification",
        "DeletionProtectionEnabled",
        "OnDemandThroughput",
        "PointInTimeRecoverySpecification",
        "WarmThroughput",
    ] {
        create.remove(set_elsewhere);
    }
    for index in create.get_mut("GlobalSecondaryIndexes").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some(index) = index.as_object_mut() {
            index.retain(|name, _| !["OnDemandThroughput", "WarmThroughput"].contains(&name.as_str()));
        }
    }
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

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, BadTemplate> {
    value.as_object().ok_or_else(|| bad(format!("{what} is missing or no mapping")))
}

/// A value as the environment takes it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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

    /// The environment of the one function, whose variable TTL is set to this.
    fn with_ttl(value: &str, conditions: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let text = ONE.replace("TTL: !Ref Ttl", &format!("TTL: {value}"));
        let text = format!("{text}Conditions: {{{conditions}}}\n");
        Template::parse(&text, given, "http://x").unwrap().functions.remove(0).environment
    }

    #[test]
    fn conditions_are_combined_in_whatever_order_they_stand() {
        let conditions = "Both: !And [!Condition Named, !Condition Long], One: !Or [!Condition Named, {Condition: Long}], \
                          Long: !Equals [!Ref Ttl, 60], Named: !Not [!Equals [!Ref Who, '']]";
        let value = "!If [Both, both, !If [One, one, none]]";
        for (who, long, expected) in
            [("x", "60", "both"), ("x", "1", "one"), ("", "60", "one"), ("", "1", "none")]
        {
            let given = [("Who".to_owned(), who.to_owned()), ("Ttl".to_owned(), long.to_owned())].into();
            assert_eq!(with_ttl(value, conditions, &given)["TTL"], expected, "{who:?} {long}");
        }
        let text = format!("{ONE}Conditions: {{A: !Not [!Condition B], B: !Not [!Condition A]}}\n");
        let circle = Template::parse(&text, &given(), "http://x").unwrap_err().to_string();
        assert!(circle.contains("condition A: there is no condition B, or it needs itself"), "{circle}");
    }

    #[test]
    fn what_is_set_to_no_value_is_not_written() {
        let set = |who: &str| {
            let given = [("Who".to_owned(), who.to_owned())].into();
            with_ttl(
                "!If [Named, !Ref Who, !Ref AWS::NoValue]",
                "Named: !Not [!Equals [!Ref Who, '']]",
                &given,
            )
        };
        assert_eq!(set("x")["TTL"], "x");
        assert!(!set("").contains_key("TTL"));
    }

    #[test]
    fn texts_are_put_together() {
        let ttl = |value: &str| with_ttl(value, "", &given())["TTL"].clone();
        assert_eq!(ttl("!Join ['-', [a, !Ref Ttl, 3]]"), "a-15-3");
        assert_eq!(ttl("!Sub ['${Ttl}/${Own}/${!Ttl}', {Own: !Ref Who}]"), "15/issuer/${Ttl}");
        assert_eq!(ttl("!GetAtt [Things, Arn]"), ttl("!GetAtt Things.Arn"));
    }

    #[test]
    fn what_is_not_made_is_not_run() {
        let text = ONE.replace("Things: {Type:", "Things: {Condition: Made, Type:")
            + "Conditions: {Made: !Equals [!Ref Ttl, 60]}\n";
        let tables = |given| Template::parse(&text, &given, "http://x").unwrap().tables.len();
        let mut given = given();
        assert_eq!(tables(given.clone()), 0);
        given.insert("Ttl".to_owned(), "60".to_owned());
        assert_eq!(tables(given), 1);
    }

    #[test]
    fn schedules_are_rates_or_daily_and_may_be_off() {
        let schedules = |event: &str| {
            let event = format!("Events: {{Often: {{Type: ScheduleV2, Properties: {{{event}}}}}, One:");
            let template = Template::parse(&ONE.replace("Events: {One:", &event), &given(), "http://x");
            template.map(|template| template.functions[0].schedules.clone())
        };
        let calls = |schedule, event: &str| vec![(schedule, event.to_owned())];
        let every = |seconds| calls(Schedule::Every(Duration::from_secs(seconds)), "{}");
        assert_eq!(schedules("ScheduleExpression: rate(1 minute)").unwrap(), every(60));
        assert_eq!(schedules("ScheduleExpression: rate(2 days)").unwrap(), every(172_800));
        let night = calls(Schedule::Daily(Duration::from_secs((3 * 60 + 30) * 60)), "{}");
        assert_eq!(schedules("ScheduleExpression: cron(30 3 * * ? *)").unwrap(), night);
        assert_eq!(schedules("ScheduleExpression: rate(1 minute), State: DISABLED").unwrap(), []);
        let asks = r#"ScheduleExpression: rate(1 minute), Input: !Sub '{"every": ${Ttl}}'"#;
        let ttl = Duration::from_secs(60);
        assert_eq!(schedules(asks).unwrap(), calls(Schedule::Every(ttl), r#"{"every": 15}"#));
        for unknown in [
            "rate(0 minutes)",
            "rate(1 week)",
            "cron(30 24 * * ? *)",
            "cron(0 3 ? * MON *)",
            "at(2030-01-01)",
        ] {
            let error = schedules(&format!("ScheduleExpression: {unknown}")).unwrap_err().to_string();
            assert!(error.contains("event Often: ScheduleExpression is"), "{error}");
        }
    }

    /// What a processor, a price or an account limits on AWS is no part of the database of this machine.
    #[test]
    fn tables_are_made_without_their_limits() {
        let limits =
            "OnDemandThroughput: {MaxReadRequestUnits: !Ref Ttl}, WarmThroughput: {ReadUnitsPerSecond: 1}";
        let index = format!("GlobalSecondaryIndexes: [{{IndexName: due, {limits}}}]");
        let text = ONE.replace("BillingMode:", &format!("{limits}, {index}, BillingMode:"));
        let template = Template::parse(&text, &given(), "http://x").unwrap();
        let expected = serde_json::json!({
            "TableName": "holdfast-things", "BillingMode": "PAY_PER_REQUEST",
            "GlobalSecondaryIndexes": [{"IndexName": "due"}],
        });
        assert_eq!(template.tables[0].create, expected);
    }

    #[test]
    fn a_queue_keeps_within_the_limits_of_sqs() {
        let queue = |attribute: &str| {
            let queue =
                format!("  Q: {{Type: AWS::SQS::Queue, Properties: {{QueueName: q, {attribute}}}}}\n");
            let template = Template::parse(&format!("{ONE}{queue}"), &given(), "http://x");
            template.map(|template| template.queues[0].clone())
        };
        assert_eq!(queue("DelaySeconds: 900").unwrap().delay_seconds, 900);
        assert_eq!(queue("VisibilityTimeout: '43200'").unwrap().visibility_seconds, 43_200);
        for (wrong, says) in [
            ("DelaySeconds: 901", "resource Q: DelaySeconds is 0 to 900, not 901"),
            ("DelaySeconds: -5", "resource Q: -5 is no number"),
            ("VisibilityTimeout: 43201", "resource Q: VisibilityTimeout is 0 to 43200, not 43201"),
        ] {
            assert_eq!(queue(wrong).unwrap_err().to_string(), says);
        }
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
