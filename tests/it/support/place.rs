//! Where the end-to-end suite runs: a runner of this machine, or a stack that was deployed elsewhere.

use std::path::PathBuf;

use local::template::Function;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::process::{descendants, proc_entries};
use super::{Api, Runner};
use crate::contract::{root, template};

/// Names the file that `tests/stack/run` describes a deployed stack in.
const STACK: &str = "HOLDFAST_STACK";

/// Tests share a deployed stack; one that takes something away from it has it for itself.
static SHARED: RwLock<()> = RwLock::const_new(());

/// A deployed stack.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stack {
    stack: String,
    api_url: String,
    aws_url: String,
    published_queue_url: String,
    functions: std::collections::BTreeMap<String, Deployed>,
    tokens: std::collections::BTreeMap<String, String>,
    ministack_pid: u32,
}

/// A deployed function's role.
#[derive(Deserialize)]
struct Deployed {
    role: String,
    policies: Vec<String>,
}

/// A place to test, and how it is called.
pub(crate) struct Place {
    api: Api,
    kind: Kind,
    _shared: Option<Guard>,
}

enum Kind {
    Runner(Box<Runner>),
    Stack(Stack),
}

#[expect(dead_code, reason = "held, not looked at")]
enum Guard {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl std::ops::Deref for Place {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Place {
    /// The place that the environment names; without a word, a runner that asks for tokens.
    pub(crate) async fn open() -> Self {
        match stack() {
            Some(stack) => Self::of(stack, Guard::Shared(SHARED.read().await)),
            None => Self::run(&[]).await,
        }
    }

    /// The same, with nobody else there meanwhile.
    pub(crate) async fn alone() -> Self {
        match stack() {
            Some(stack) => Self::of(stack, Guard::Alone(SHARED.write().await)),
            None => Self::run(&[]).await,
        }
    }

    fn of(stack: Stack, guard: Guard) -> Self {
        let mut api = Api::new(stack.api_url.clone(), stack.aws_url.clone()).with_token(&stack.tokens["ALL"]);
        api.prefix = format!("{}-", stack.stack);
        api.published_queue = Some(stack.published_queue_url.clone());
        Self { api, kind: Kind::Stack(stack), _shared: Some(guard) }
    }

    async fn run(more: &[&str]) -> Self {
        let arguments = [&["--auth", "--sweep-every", "1s", "--parameter", "OrderVisibilitySeconds=1"], more];
        let runner = Runner::with(&arguments.concat()).await;
        let api = runner.with_token(&runner_token("ADMIN SYSTEM"));
        Self { api, kind: Kind::Runner(Box::new(runner)), _shared: None }
    }

    /// The same, as one who has only this role: ADMIN, SYSTEM, NOBODY, or MACHINE, which is SYSTEM by a scope.
    pub(crate) fn with_role(&self, role: &str) -> Api {
        match &self.kind {
            Kind::Runner(_) => self.api.with_token(&runner_token(role)),
            Kind::Stack(stack) => self.api.with_token(&stack.tokens[role]),
        }
    }

    /// Ends the processes of a function, as a machine does that fails. Answers how many there were.
    pub(crate) fn kill(&self, function: &str) -> usize {
        let (above, name) = match &self.kind {
            Kind::Runner(runner) => (runner.id(), function.to_owned()),
            Kind::Stack(stack) => (stack.ministack_pid, format!("{}-{function}", stack.stack)),
        };
        let mut killed = 0;
        let variable = format!("AWS_LAMBDA_FUNCTION_NAME={name}");
        for process in descendants(above) {
            if proc_entries(process, "environ").contains(&variable) {
                let ended = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status();
                killed += usize::from(ended.unwrap().success());
            }
        }
        killed
    }

    /// A place where a function's role lacks one action; nobody else is there meanwhile.
    pub(crate) async fn without(function: &str, action: &str) -> Self {
        let Some(stack) = stack() else {
            let (_folder, file) = template_without(function, action);
            return Self::run(&["--template", file.to_str().unwrap()]).await;
        };
        let place = Self::of(stack, Guard::Alone(SHARED.write().await));
        place.put_policy(&role_of(function), |statement| statement["Action"] != *action).await;
        place
    }

    /// Gives back what was taken away.
    pub(crate) async fn restore(&self, function: &str) {
        if let Kind::Stack(_) = self.kind {
            self.put_policy(&role_of(function), |_| true).await;
        }
    }

    /// Writes a function's policy, with those of its statements that are to be in it, and without their
    /// conditions: the server does not know all of them.
    async fn put_policy(&self, of: &Function, keep: impl Fn(&serde_json::Value) -> bool) {
        let Kind::Stack(stack) = &self.kind else { return };
        let Deployed { role, policies } = &stack.functions[&of.name];
        let single = of.statements.iter().flat_map(crate::policies::permissions);
        let statements: Vec<_> = single
            .filter(keep)
            .map(|mut statement| {
                statement["Condition"] = serde_json::json!({});
                statement
            })
            .collect();
        let document = serde_json::json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let form = [
            ("Action", "PutRolePolicy"),
            ("Version", "2010-05-08"),
            ("RoleName", role),
            ("PolicyName", &policies[0]),
            ("PolicyDocument", &document),
        ];
        let body: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let request = reqwest::Client::new().post(&stack.aws_url).body(body.join("&"));
        let request = self.api.signed(request).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

fn stack() -> Option<Stack> {
    let file = std::env::var_os(STACK)?;
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    Some(serde_json::from_str(&text).unwrap())
}

fn role_of(function: &str) -> Function {
    template().functions.into_iter().find(|f| f.name == function).unwrap()
}

/// The claims of every valid token.
pub(crate) fn claims() -> serde_json::Value {
    let now = local::clock::now_ms() / 1_000;
    serde_json::json!({
        "iss": local::auth::ISSUER, "aud": local::auth::AUDIENCE, "exp": now + 600, "nbf": now - 600,
    })
}

fn runner_token(roles: &str) -> String {
    let folder = PathBuf::from(super::process::STATE).join("holdfast");
    let mut claims = claims();
    claims["token_use"] = "access".into();
    match roles {
        "MACHINE" => claims["scope"] = "holdfast/SYSTEM".into(),
        roles => claims["cognito:groups"] = roles.split(' ').filter(|role| *role != "NOBODY").collect(),
    }
    local::auth::Issuer::open(&folder).unwrap().sign(&claims).unwrap()
}

/// The template with one action taken out of a function's role: the first that is of this name.
pub(crate) fn template_without(function: &str, action: &str) -> (tempfile::TempDir, PathBuf) {
    let text = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    let role = text.find(&format!("Binary: {function}\n")).unwrap();
    let role = role + text[role..].find("Type: AWS::IAM::Role").unwrap();
    let end = role + text[role..].find("\n\n").unwrap();
    let at = role + text[role..end].find(action).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, format!("{}dynamodb:DescribeTable{}", &text[..at], &text[at + action.len()..]))
        .unwrap();
    (folder, file)
}
