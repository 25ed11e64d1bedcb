//! The functions: their settings, what calls them, and what their roles allow.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::scope::Scope;
use super::source::{
    QueueSource, Schedule, StreamSource, read_queue_source, read_schedule, read_stream_source,
};
use super::value::{BadTemplate, bad, parse_number, plain};

/// Lambda's own time-out where a template gives none, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 3;

/// Lambda's own memory where a template gives none.
const DEFAULT_MEMORY_MB: u64 = 128;

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
    /// The statements of its role, apart from those for Lambda itself.
    pub statements: Vec<Value>,
}

impl Function {
    /// Whether it works on several invocations at once where Lambda gives it several: what API Gateway and queues call
    /// does. Streams and schedules bring one after the other.
    #[must_use]
    pub fn works_on_several_at_once(&self) -> bool {
        !self.routes.is_empty() || !self.queues.is_empty()
    }
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionProperties {
    timeout: Option<Value>,
    memory_size: Option<Value>,
    environment: Option<Environment>,
    #[serde(default)]
    events: BTreeMap<String, EventSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    variables: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventSource {
    r#type: String,
    properties: Value,
}

pub(super) fn read_function(
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
        parse_number(value.unwrap_or(&Value::Null), default)
    };
    let of_type = |wanted: &'static str| own.events.iter().filter(move |(_, event)| event.r#type == wanted);
    let inside = |id: &str, BadTemplate(e)| bad(format!("event {id}: {e}"));
    Ok(Function {
        queues: of_type("SQS")
            .map(|(id, event)| read_queue_source(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        streams: of_type("DynamoDB")
            .map(|(id, event)| read_stream_source(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        schedules: of_type("ScheduleV2")
            .filter(|(_, event)| event.properties["State"] != "DISABLED")
            .map(|(id, event)| read_schedule(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
        statements: read_statements(&resource["Properties"]["Role"], resources, scope)?,
        name: name.to_owned(),
        timeout: Duration::from_secs(setting(|p| p.timeout.as_ref(), DEFAULT_TIMEOUT_SECONDS)?),
        memory_mb: setting(|p| p.memory_size.as_ref(), DEFAULT_MEMORY_MB)?,
        environment,
        routes: of_type("HttpApi")
            .map(|(id, event)| read_route(&event.properties).map_err(|e| inside(id, e)))
            .collect::<Result<_, _>>()?,
    })
}

/// The statements of the policies that stand in a role.
fn read_statements(
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

fn read_route(properties: &Value) -> Result<Route, BadTemplate> {
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
