//! Reads `template.yaml`, and resolves its references as CloudFormation would. In reading order:
//!
//! - `value`: values that may be written as text, and what is wrong with one; `yaml`: the file as JSON
//! - `scope`: references and conditions
//! - `source`: what calls a function by itself; `function`: the functions
//! - `resource`: tables, queues, rules and tokens

use std::collections::BTreeMap;
use std::path::Path;

mod function;
mod resource;
mod scope;
mod source;
mod value;
mod yaml;

use function::read_function;
pub use function::{Function, Route};
pub(crate) use resource::{MAX_DELAY_SECONDS, MAX_VISIBILITY_SECONDS};
pub use resource::{Queue, Rule, Table};
use resource::{read_authorizer, read_queue, read_rule, read_table};
use scope::Scope;
pub use source::{NO_EVENT, QueueSource, Schedule, StreamSource};
pub use value::BadTemplate;
use value::{bad, object};
pub use yaml::yaml_as_json;

/// The resources of a template that this machine runs.
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
                    functions.push(read_function(resource, resources, &globals, &scope).map_err(inside)?);
                }
                Some("AWS::DynamoDB::Table") => tables.push(read_table(resource, &scope).map_err(inside)?),
                Some("AWS::SQS::Queue") => queues.push(read_queue(resource, &scope).map_err(inside)?),
                Some("AWS::Events::Rule") => rules.push(read_rule(resource, &scope).map_err(inside)?),
                Some("AWS::Serverless::HttpApi") => {
                    auth = read_authorizer(resource, &scope).map_err(inside)?
                }
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

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
