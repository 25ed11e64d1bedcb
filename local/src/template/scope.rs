//! The references of a template: to its parameters, resources and conditions, and to AWS's own values.
//!
//! Source: AWS CloudFormation User Guide, "Intrinsic function reference" and "Condition functions".

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::value::{BadTemplate, bad, plain};
use crate::account::{ACCOUNT_ID, REGION, STACK_NAME};

/// A property that is set to it counts as not written.
const NO_VALUE: &str = "AWS::NoValue";

/// The values and conditions that references are resolved to.
pub(super) struct Scope {
    values: BTreeMap<String, String>,
    conditions: BTreeMap<String, bool>,
}

impl Scope {
    pub(super) fn of(
        template: &Value,
        given: &BTreeMap<String, String>,
        endpoint: &str,
    ) -> Result<Self, BadTemplate> {
        let values = [
            ("AWS::StackName", STACK_NAME),
            ("AWS::Region", REGION),
            ("AWS::AccountId", ACCOUNT_ID),
            ("AWS::Partition", "aws"),
            ("AWS::URLSuffix", "amazonaws.com"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut scope = Self { values: values.into(), conditions: BTreeMap::new() };
        scope.take_parameters(&template["Parameters"], given)?;
        scope.take_conditions(&template["Conditions"])?;
        for (id, resource) in template["Resources"].as_object().into_iter().flatten() {
            scope.take_resource(id, resource, endpoint)?;
        }
        Ok(scope)
    }

    fn take_parameters(
        &mut self,
        declared: &Value,
        given: &BTreeMap<String, String>,
    ) -> Result<(), BadTemplate> {
        let declared = declared.as_object();
        let is_declared = |name: &String| declared.is_some_and(|declared| declared.contains_key(name));
        if let Some(unknown) = given.keys().find(|name| !is_declared(name)) {
            let names: Vec<&str> = declared.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            return Err(bad(format!("there is no parameter {unknown}; there are {}", names.join(", "))));
        }
        for (name, parameter) in declared.into_iter().flatten() {
            let value = given.get(name).cloned().or_else(|| parameter.get("Default").map(plain));
            let value =
                value.ok_or_else(|| bad(format!("parameter {name} has no default and is not given")))?;
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// A condition may name others, in any order: each is decided when those that it names are.
    fn take_conditions(&mut self, declared: &Value) -> Result<(), BadTemplate> {
        let mut open: Vec<(&String, &Value)> = declared.as_object().into_iter().flatten().collect();
        while !open.is_empty() {
            let before = open.len();
            let mut failure = None;
            let mut still_open = Vec::new();
            for (name, condition) in open {
                match self.holds(condition) {
                    Ok(holds) => drop(self.conditions.insert(name.clone(), holds)),
                    Err(BadTemplate(e)) => {
                        failure = failure.or(Some(bad(format!("condition {name}: {e}"))));
                        still_open.push((name, condition));
                    }
                }
            }
            open = still_open;
            if let Some(failure) = failure.filter(|_| open.len() == before) {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// `Ref` of a resource is its name, here as for the resources that the template uses.
    fn take_resource(&mut self, id: &str, resource: &Value, endpoint: &str) -> Result<(), BadTemplate> {
        let names = ["TableName", "QueueName", "BucketName", "ArchiveName", "Name"];
        let named = names.iter().find_map(|name| resource["Properties"].get(name));
        // A function goes by the name of its binary here.
        let binary = resource["Metadata"]["BuildProperties"]["Binary"].as_str();
        let name = match (binary, named) {
            (Some(binary), _) => binary.to_owned(),
            (None, Some(name)) => plain(&self.resolve(name)?),
            (None, None) => id.to_owned(),
        };
        let arn = match resource["Type"].as_str().unwrap_or_default() {
            // The name of a bucket belongs to no account and no region.
            "AWS::S3::Bucket" => format!("arn:aws:s3:::{name}"),
            kind => {
                let (service, kind) = match kind {
                    "AWS::DynamoDB::Table" => ("dynamodb", "table/"),
                    "AWS::SQS::Queue" => ("sqs", ""),
                    "AWS::Events::EventBus" => ("events", "event-bus/"),
                    "AWS::Events::Rule" => ("events", "rule/"),
                    "AWS::Events::Archive" => ("events", "archive/"),
                    "AWS::Serverless::Function" => ("lambda", "function:"),
                    _ => ("", ""),
                };
                format!("arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{kind}{name}")
            }
        };
        self.values.insert(format!("{id}.StreamArn"), format!("{arn}/stream/local"));
        // A queue is referred to by its address.
        let is_queue = resource["Type"] == "AWS::SQS::Queue";
        let reference = if is_queue { format!("{endpoint}/{ACCOUNT_ID}/{name}") } else { name };
        self.values.insert(format!("{id}.Arn"), arn);
        self.values.insert(id.to_owned(), reference);
        Ok(())
    }

    fn look_up(&self, name: &str) -> Result<&str, BadTemplate> {
        self.values
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| bad(format!("a reference to {name}, which is not declared")))
    }

    /// Whether a resource is made: its condition holds, or it has none.
    pub(super) fn is_made(&self, resource: &Value) -> Result<bool, BadTemplate> {
        match &resource["Condition"] {
            Value::Null => Ok(true),
            condition => self.holds(condition),
        }
    }

    /// Whether a condition holds, named or written out.
    fn holds(&self, condition: &Value) -> Result<bool, BadTemplate> {
        let unknown = || bad(format!("the condition {condition} is not understood here"));
        let (function, inner) = match condition {
            Value::String(name) => {
                let known = self.conditions.get(name).copied();
                return known.ok_or_else(|| bad(format!("there is no condition {name}, or it needs itself")));
            }
            Value::Object(map) if map.len() == 1 => map.iter().next().ok_or_else(unknown)?,
            _ => return Err(unknown()),
        };
        match (function.as_str(), inner.as_array().map(Vec::as_slice)) {
            ("Condition", _) => self.holds(inner),
            ("Fn::Equals", Some([a, b])) => Ok(plain(&self.resolve(a)?) == plain(&self.resolve(b)?)),
            ("Fn::Not", Some([a])) => Ok(!self.holds(a)?),
            ("Fn::And", Some(all @ [_, _, ..])) => Ok(!self.decide_each(all)?.contains(&false)),
            ("Fn::Or", Some(all @ [_, _, ..])) => Ok(self.decide_each(all)?.contains(&true)),
            _ => Err(unknown()),
        }
    }

    fn decide_each(&self, conditions: &[Value]) -> Result<Vec<bool>, BadTemplate> {
        conditions.iter().map(|condition| self.holds(condition)).collect()
    }

    /// Resolves `Ref`, `Fn::GetAtt`, `Fn::Sub`, `Fn::Join` and `Fn::If`, wherever they stand. What is set to
    /// `AWS::NoValue` is left out; on its own it is null.
    pub(super) fn resolve(&self, value: &Value) -> Result<Value, BadTemplate> {
        Ok(self.resolve_written(value)?.unwrap_or_default())
    }

    /// None: it counts as not written.
    fn resolve_written(&self, value: &Value) -> Result<Option<Value>, BadTemplate> {
        match value {
            Value::Array(items) => {
                let items = items.iter().filter_map(|item| self.resolve_written(item).transpose());
                items.collect::<Result<_, _>>().map(Some)
            }
            Value::Object(map) => {
                let only = map.iter().next().filter(|_| map.len() == 1);
                match only.filter(|(key, _)| *key == "Ref" || key.starts_with("Fn::")) {
                    Some((function, argument)) => self.evaluate(function, argument),
                    None => {
                        let mut resolved = Map::new();
                        for (key, inner) in map {
                            if let Some(inner) = self.resolve_written(inner)? {
                                resolved.insert(key.clone(), inner);
                            }
                        }
                        Ok(Some(Value::Object(resolved)))
                    }
                }
            }
            plain => Ok(Some(plain.clone())),
        }
    }

    fn evaluate(&self, function: &str, argument: &Value) -> Result<Option<Value>, BadTemplate> {
        let parts = argument.as_array().map(Vec::as_slice);
        let text = match (function, argument, parts) {
            ("Ref", Value::String(name), _) if name == NO_VALUE => return Ok(None),
            ("Ref" | "Fn::GetAtt", Value::String(name), _) => self.look_up(name)?.to_owned(),
            ("Fn::GetAtt", _, Some([Value::String(id), Value::String(attribute)])) => {
                self.look_up(&format!("{id}.{attribute}"))?.to_owned()
            }
            ("Fn::Sub", Value::String(text), _) => self.substitute(text, &Map::new())?,
            ("Fn::Sub", _, Some([Value::String(text), Value::Object(own)])) => self.substitute(text, own)?,
            ("Fn::Join", _, Some([Value::String(between), list])) => {
                let list = self.resolve(list)?;
                let list = list.as_array().ok_or_else(|| bad("Fn::Join takes a separator and a list"))?;
                list.iter().map(plain).collect::<Vec<_>>().join(between)
            }
            ("Fn::If", _, Some([condition, then, otherwise])) => {
                return self.resolve_written(if self.holds(condition)? { then } else { otherwise });
            }
            _ => return Err(bad(format!("{function} in a form that is not understood here"))),
        };
        Ok(Some(json!(text)))
    }

    /// `own` are the values that come with a text. `${!Name}` stands for itself without the mark.
    fn substitute(&self, text: &str, own: &Map<String, Value>) -> Result<String, BadTemplate> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) =
                after.split_once('}').ok_or_else(|| bad(format!("{text:?} has a brace too few")))?;
            result.push_str(before);
            match (name.strip_prefix('!'), own.get(name)) {
                (Some(literal), _) => result.push_str(&format!("${{{literal}}}")),
                (None, Some(value)) => result.push_str(&plain(&self.resolve(value)?)),
                (None, None) => result.push_str(self.look_up(name)?),
            }
            rest = behind;
        }
        result.push_str(rest);
        Ok(result)
    }
}
