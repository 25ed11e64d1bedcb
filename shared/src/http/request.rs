//! A request, parsed as far as it is the same for every route.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use lambda_http::aws_lambda_events::query_map::QueryMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Problem;
use super::event::{ApiGatewayEvent, Claims};
use super::prefer::prefers_async;
use super::views::Object;
use crate::domain::{IdempotencyKey, excerpt, excerpt_of_sentence};
use crate::planted;
use crate::store::Invocation;

/// The bases under which the same routes are reached.
const BASES: [&str; 2] = ["/api/inventory", "/inventory"];

/// The claim that Cognito names a person's groups in. The names of its groups hold no space.
/// Source: Amazon Cognito User Pools API Reference, `GroupType`.
const COGNITO_GROUPS: &str = "cognito:groups";

/// The claims that other issuers name roles in. Their names may hold anything.
const ROLE_CLAIMS: [&str; 2] = ["roles", "role"];

/// The prefix that some issuers put before the name of a role.
const ROLE_PREFIX: &str = "ROLE_";

/// The prefix of a scope that names a role: the resource server in `template.yaml`.
const SCOPE_PREFIX: &str = "holdfast/";

/// The role of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The shop's own services: hold, confirm, release.
    System,
    /// People who administer stock.
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System => "SYSTEM",
            Self::Admin => "ADMIN",
        }
    }

    /// The role with exactly this name: `NOT_ADMIN` is not `ADMIN`.
    fn from_name(name: &str) -> Option<Self> {
        let is_named =
            |role: &Self| name == role.name() || planted("not-admin-is-admin") && name.contains(role.name());
        [Self::System, Self::Admin].into_iter().find(is_named)
    }
}

/// A request to one route.
#[derive(Debug)]
pub struct Request {
    /// Time, deadline and correlation id.
    pub invocation: Invocation,
    route: String,
    roles: Option<Vec<Role>>,
    path: HashMap<String, String>,
    query: QueryMap,
    idempotency_key: Option<String>,
    generated_key: OnceLock<String>,
    prefers_async: bool,
    request_id: String,
    body: Vec<u8>,
}

impl Request {
    /// Parses an event whose route and token API Gateway has checked. `request_id` is the invocation's.
    ///
    /// # Errors
    /// 400 if it is not a valid request, 413 if the body is too large.
    pub(super) fn parse(
        mut event: ApiGatewayEvent,
        request_id: &str,
        invocation: Invocation,
    ) -> Result<Self, Problem> {
        event.check_syntax()?;
        let of_gateway =
            event.request_id().filter(|id| is_usable(id) && !planted("the-caller-cannot-tell-the-key"));
        Ok(Self {
            invocation,
            route: strip_base(event.route_key()),
            roles: event.claims().filter(|claims| is_access_token(claims)).map(roles),
            query: event.query(),
            idempotency_key: event.header("idempotency-key").map(str::to_owned),
            generated_key: OnceLock::new(),
            prefers_async: event.header("prefer").is_some_and(prefers_async),
            request_id: of_gateway.unwrap_or(request_id).to_owned(),
            path: event.take_path_parameters(),
            body: event.take_body()?,
        })
    }

    /// The route as the template names it, without the base: `POST /reserve`.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Lets only callers with a role pass. API Gateway has checked the token; this checks the role,
    /// and does not rely on the route being protected there.
    ///
    /// # Errors
    /// 401 without a token, 403 without the role.
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        match &self.roles {
            None => Err(Problem::unauthenticated()),
            Some(roles) if roles.contains(&role) => Ok(()),
            Some(_) => Err(Problem::forbidden(role.name())),
        }
    }

    /// The body, a JSON object.
    ///
    /// # Errors
    /// 400, naming the field and what it should be.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.parse_body::<Object<T>>().map(|Object(body)| body)
    }

    /// The body, a JSON list.
    ///
    /// # Errors
    /// 400, naming the entry and what it should be.
    pub fn json_list<T: DeserializeOwned>(&self) -> Result<Vec<T>, Problem> {
        self.parse_body()
    }

    fn parse_body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if self.body.is_empty() {
            return Err(Problem::invalid("the body is empty, it must be JSON"));
        }
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = excerpt(&error.path().to_string());
            let inner = excerpt_of_sentence(&error.into_inner().to_string());
            match path.as_str() {
                "." | "?" => Problem::invalid(format!("the body is not as it must be: {inner}")),
                _ => Problem::invalid(format!("{path}: {inner}")),
            }
        })?;
        json.end().map_err(|e| Problem::invalid(format!("the body goes on after its end: {e}")))?;
        Ok(value)
    }

    /// Whether the caller prefers an answer before the work is done.
    #[must_use]
    pub fn prefers_async(&self) -> bool {
        self.prefers_async
    }

    /// A parameter of the path; API Gateway matched the route, so it is there.
    #[must_use]
    pub fn path(&self, name: &str) -> &str {
        self.path.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A parameter of the query, where it is given.
    ///
    /// # Errors
    /// 400 if it is given twice.
    pub fn query(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.query.all(name).as_deref() {
            None | Some([]) => Ok(None),
            Some([one]) => Ok(Some(one)),
            Some(_) => Err(Problem::invalid(format!("the query parameter {name} is given more than once"))),
        }
    }

    /// Refuses query parameters that the route does not know.
    ///
    /// # Errors
    /// 400, naming the first.
    pub fn check_query_names(&self, known: &[&str]) -> Result<(), Problem> {
        match self.query.iter().map(|(name, _)| name).find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Problem::invalid(format!(
                "unknown query parameter {:?}, expected {}",
                excerpt(name),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ))),
        }
    }

    /// The `Idempotency-Key`; without one, unless it is `required`, a key generated from the id that API Gateway gives
    /// the request. Every answer carries that id, also the one that API Gateway sends when this function fails, so the
    /// caller can always send the key.
    ///
    /// # Errors
    /// 400 if the key is required and missing, or not valid.
    pub fn idempotency_key(&self, required: bool) -> Result<IdempotencyKey, Problem> {
        let key = match &self.idempotency_key {
            Some(key) => key.clone(),
            None if required => return Err(Problem::no_idempotency_key()),
            None => self.generated_key.get_or_init(|| generate_key(&self.request_id)).clone(),
        };
        Ok(IdempotencyKey::parse(key)?)
    }

    /// The key that was generated for a caller that sent none.
    pub(super) fn generated_key(&self) -> Option<&str> {
        self.generated_key.get().map(String::as_str)
    }
}

/// Whether a valid key can be generated from a request id.
fn is_usable(request_id: &str) -> bool {
    !request_id.is_empty() && IdempotencyKey::parse(generate_key(request_id)).is_ok()
}

/// The idempotency key of a request that came without one.
fn generate_key(request_id: &str) -> String {
    format!("request-{request_id}")
}

/// `POST /api/inventory/reserve` as `POST /reserve`. API Gateway has matched the route; handlers
/// match on its name, not on the path.
fn strip_base(route_key: &str) -> String {
    let Some((method, path)) = route_key.split_once(' ') else { return route_key.to_owned() };
    let below =
        BASES.iter().find_map(|base| path.strip_prefix(base)).filter(|p| p.is_empty() || p.starts_with('/'));
    match below {
        Some("") => format!("{method} /"),
        Some(below) => format!("{method} {below}"),
        None => route_key.to_owned(),
    }
}

/// Whether the token is an access token. Cognito signs id tokens with the same key; they must not grant access.
/// Where an issuer does not say what a token is for, API Gateway has checked its audience.
fn is_access_token(claims: &Claims) -> bool {
    claims.get("token_use").is_none_or(|of| of == "access" || planted("an-id-token-opens"))
}

/// The roles of the caller: a person has them by groups, a machine by scopes that end in the name of a role
/// (`holdfast/SYSTEM`), as Cognito gives them to clients.
fn roles(claims: &Claims) -> Vec<Role> {
    let groups = claims.get(COGNITO_GROUPS).into_iter().flat_map(|claim| split_names(claim, true));
    let roles =
        ROLE_CLAIMS.iter().filter_map(|name| claims.get(*name)).flat_map(|claim| split_names(claim, false));
    let groups = groups
        .chain(roles)
        .filter_map(|name| Role::from_name(name.strip_prefix(ROLE_PREFIX).unwrap_or(&name)));
    let scopes = claims.get("scope").and_then(Value::as_str).into_iter().flat_map(|scopes| scopes.split(' '));
    groups.chain(scopes.filter_map(|scope| Role::from_name(scope.strip_prefix(SCOPE_PREFIX)?))).collect()
}

/// The names in a claim. API Gateway flattens a list: `["STORE", "ADMIN"]` and `["STORE ADMIN"]` both come as
/// `"[STORE ADMIN]"`. The two can be told apart only where names hold no space. Elsewhere a flattened list of
/// several words names nothing, lest a part of a name become a role. A list that came as JSON is unambiguous.
fn split_names(claim: &Value, names_hold_no_space: bool) -> Vec<Cow<'_, str>> {
    let text = match claim {
        Value::Array(list) => return list.iter().filter_map(Value::as_str).map(Cow::Borrowed).collect(),
        Value::String(text) => text,
        _ => return Vec::new(),
    };
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list.into_iter().map(Cow::Owned).collect();
    }
    let names = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        None => vec![text.as_str()],
        Some(list) if names_hold_no_space || planted("a-word-of-a-name-is-a-role") => {
            list.split(' ').collect()
        }
        Some(name) if !name.contains(char::is_whitespace) => vec![name],
        Some(_) => Vec::new(),
    };
    names.into_iter().map(Cow::Borrowed).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_bases_are_the_same_routes() {
        for (given, want) in [
            ("POST /api/inventory/reserve", "POST /reserve"),
            ("POST /inventory/reserve", "POST /reserve"),
            ("GET /inventory", "GET /"),
            ("GET /api/inventory/{productId}", "GET /{productId}"),
            ("GET /health", "GET /health"),
            ("GET /inventoryx", "GET /inventoryx"),
        ] {
            assert_eq!(strip_base(given), want);
        }
    }

    /// A request of API Gateway without an `Idempotency-Key`, by the id that it gives the request.
    fn request_without_key(gateway_id: &str) -> Request {
        let context = json!({"routeKey": "POST /api/inventory/add", "requestId": gateway_id});
        let event = serde_json::from_value(json!({"requestContext": context})).unwrap();
        let invocation = Invocation {
            now: crate::domain::Timestamp::UNIX_EPOCH,
            deadline: tokio::time::Instant::now(),
            correlation_id: "c".to_owned(),
            metrics: crate::metrics::Metrics::default(),
        };
        Request::parse(event, "of-lambda", invocation).unwrap()
    }

    /// The caller sees API Gateway's id with every answer, the function's own id with none.
    #[test]
    fn a_key_is_made_up_of_what_the_caller_sees() {
        let key = |gateway_id| request_without_key(gateway_id).idempotency_key(false).unwrap().to_string();
        assert_eq!(key("JKJaXmPLvHcESHA="), "request-JKJaXmPLvHcESHA=");
        assert_eq!(key("a+/b-_c="), "request-a+/b-_c=");
        for none in ["", "no key", &"x".repeat(200)] {
            assert_eq!(key(none), "request-of-lambda");
        }
        let refused = request_without_key("JKJaXmPLvHcESHA=").idempotency_key(true).unwrap_err();
        let said = refused.to_json("c");
        assert!(said.contains("Idempotency-Key") && said.contains("\"status\":400"), "{said}");
    }

    fn of(claims: Value) -> (bool, Vec<Role>) {
        let claims = serde_json::from_value(claims).unwrap();
        (is_access_token(&claims), roles(&claims))
    }

    #[test]
    fn a_machine_has_the_roles_of_its_scopes() {
        let system = (true, vec![Role::System]);
        assert_eq!(of(json!({"scope": "openid holdfast/SYSTEM", "token_use": "access"})), system);
        assert_eq!(of(json!({"scope": "SYSTEM other/SYSTEM x-holdfast/SYSTEM"})), (true, vec![]));
        assert_eq!(of(json!({"scope": "holdfast/NOT_ADMIN"})).1, []);
        assert!(!of(json!({"cognito:groups": "[ADMIN]", "token_use": "id"})).0);
        assert!(!of(json!({"token_use": ""})).0);
    }

    #[test]
    fn the_groups_of_cognito_are_a_list_of_words() {
        let of = |groups: &str| of(json!({"cognito:groups": groups})).1;
        assert_eq!(of("[ADMIN SYSTEM]"), [Role::Admin, Role::System]);
        assert_eq!(of("[eu-west-1_aBc_Google ADMIN]"), [Role::Admin]);
        assert_eq!(of("ADMIN"), [Role::Admin]);
        for none in ["[NOT_ADMIN]", "NOT ADMIN", "[x,ADMIN]", "[]", "", "ADMINSYSTEM", "[admin]"] {
            assert_eq!(of(none), [], "{none}");
        }
    }

    #[test]
    fn no_part_of_a_name_is_a_role() {
        for claim in ["roles", "role"] {
            for one in [
                json!("ADMIN"),
                json!("[ADMIN]"),
                json!(["ADMIN"]),
                json!("ROLE_ADMIN"),
                json!("[ROLE_ADMIN]"),
                json!(["STORE ADMIN", "ADMIN"]),
                json!(["x", "ROLE_ADMIN"]),
                json!(r#"["x","ADMIN"]"#),
            ] {
                assert_eq!(of(json!({claim: one})).1, [Role::Admin], "{claim} {one}");
            }
            for none in [
                json!("[STORE ADMIN]"),
                json!("[NOT ADMIN]"),
                json!("[x ADMIN]"),
                json!("[ADMIN SYSTEM]"),
                json!("[SYSTEM\tADMIN]"),
                json!("[ ADMIN ]"),
                json!("NOT ADMIN"),
                json!(["STORE ADMIN"]),
                json!("[x,ADMIN]"),
                json!(r#"["x ADMIN"]"#),
                json!(r#"["x","NOT_ADMIN"]"#),
                json!("ROLE_ROLE_ADMIN"),
                json!("ROLE_NOT_ADMIN"),
                json!({"ADMIN": true}),
                json!(["[ADMIN]"]),
                json!(null),
                json!(""),
            ] {
                assert_eq!(of(json!({claim: none})).1, [], "{claim} {none}");
            }
        }
    }
}
