//! The resources besides functions: tables, queues, rules of event buses, and the tokens of the HTTP API.

use serde_json::Value;

use super::scope::Scope;
use super::value::{BadTemplate, bad, object, parse_number};
use crate::account::{ACCOUNT_ID, REGION};

/// Longest time that SQS lets a message be invisible at first, in seconds.
pub(crate) const MAX_DELAY_SECONDS: u64 = 900;
/// Longest time that SQS lets a message be invisible once it was received, in seconds: 12 hours.
pub(crate) const MAX_VISIBILITY_SECONDS: u64 = 43_200;

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

/// `CreateTable` takes what the template says, except for the parts that CloudFormation sets by other calls.
pub(super) fn read_table(resource: &Value, scope: &Scope) -> Result<Table, BadTemplate> {
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

pub(super) fn read_queue(resource: &Value, scope: &Scope) -> Result<Queue, BadTemplate> {
    let properties = scope.resolve(&resource["Properties"])?;
    let name = properties["QueueName"].as_str().ok_or_else(|| bad("QueueName is missing"))?;
    let dead = properties["RedrivePolicy"]["deadLetterTargetArn"].as_str();
    let dead = dead.and_then(|arn| arn.rsplit(':').next()).map(str::to_owned);
    let most = parse_number(&properties["RedrivePolicy"]["maxReceiveCount"], 5)?;
    let seconds = |attribute: &str, default, most: u64| match parse_number(&properties[attribute], default)? {
        seconds if seconds <= most => Ok(seconds),
        seconds => Err(bad(format!("{attribute} is 0 to {most}, not {seconds}"))),
    };
    Ok(Queue {
        name: name.to_owned(),
        visibility_seconds: seconds("VisibilityTimeout", 30, MAX_VISIBILITY_SECONDS)?,
        delay_seconds: seconds("DelaySeconds", 0, MAX_DELAY_SECONDS)?,
        dead_letters: dead.map(|dead| (dead, i64::try_from(most).unwrap_or(i64::MAX))),
    })
}

pub(super) fn read_rule(resource: &Value, scope: &Scope) -> Result<Rule, BadTemplate> {
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

pub(super) fn read_authorizer(resource: &Value, scope: &Scope) -> Result<(String, String), BadTemplate> {
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
