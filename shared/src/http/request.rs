//! A request, parsed as far as it is the same for every route.

use std::collections::HashMap;
use std::sync::OnceLock;

use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt as _};
use serde::de::DeserializeOwned;

use super::views::Object;
use super::{CORRELATION_ID, Problem};
use crate::domain::IdempotencyKey;
use crate::store::Invocation;

/// Largest body that is read, in bytes. An order of 99 long lines has about 30,000.
pub const MAX_BODY_BYTES: usize = 128 * 1024;

/// Longest correlation id that is taken over from a client, in bytes.
const MAX_CORRELATION_ID: usize = 128;

/// The bases under which the same routes are reached.
const BASES: [&str; 2] = ["/api/inventory", "/inventory"];

/// The claims that name a caller's groups.
const GROUP_CLAIMS: [&str; 3] = ["cognito:groups", "roles", "role"];

/// What a scope begins with that names a role; the resource server of `template.yaml`.
const SCOPE_PREFIX: &str = "holdfast/";

/// What a caller may be.
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
}

/// A request to one route.
#[derive(Debug)]
pub struct Request {
    /// Time, deadline and correlation id.
    pub invocation: Invocation,
    route: String,
    roles: Option<Vec<String>>,
    path: QueryMap,
    query: QueryMap,
    idempotency_key: Option<String>,
    made_up_key: OnceLock<String>,
    request_id: String,
    body: Vec<u8>,
}

impl Request {
    /// Takes what API Gateway has matched and checked.
    ///
    /// # Errors
    /// If it did not come from an HTTP API, or the body is too large.
    pub(super) fn parse(event: lambda_http::Request, invocation: Invocation) -> Result<Self, Problem> {
        let Some(RequestContext::ApiGatewayV2(context)) = event.request_context_ref() else {
            return Err(Problem::internal("the event is not one of an HTTP API"));
        };
        let route = context.route_key.as_deref().map(without_base).unwrap_or_default();
        let claims = context.authorizer.as_ref().and_then(|a| a.jwt.as_ref()).map(|jwt| &jwt.claims);
        let roles = claims.filter(|claims| is_access_token(claims)).map(roles);
        let request = Self {
            invocation,
            route,
            roles,
            path: event.path_parameters(),
            query: event.query_string_parameters(),
            // A key that is no text must not pass for none.
            idempotency_key: event
                .headers()
                .get("idempotency-key")
                .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()),
            made_up_key: OnceLock::new(),
            request_id: event.lambda_context_ref().map(|c| c.request_id.clone()).unwrap_or_default(),
            body: match event.into_body() {
                Body::Text(text) => text.into_bytes(),
                Body::Binary(bytes) => bytes,
                _ => Vec::new(),
            },
        };
        if request.body.len() > MAX_BODY_BYTES {
            return Err(Problem::too_large(request.body.len()));
        }
        Ok(request)
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
            Some(roles) if roles.iter().any(|r| r == role.name()) => Ok(()),
            Some(_) => Err(Problem::forbidden(role.name())),
        }
    }

    /// The body, a JSON object.
    ///
    /// # Errors
    /// 400, naming the field and what it should be.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.parsed::<Object<T>>().map(|Object(body)| body)
    }

    /// The body, a JSON list.
    ///
    /// # Errors
    /// 400, naming the entry and what it should be.
    pub fn json_list<T: DeserializeOwned>(&self) -> Result<Vec<T>, Problem> {
        self.parsed()
    }

    fn parsed<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if self.body.is_empty() {
            return Err(Problem::invalid("the body is empty, it must be JSON"));
        }
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            match path.as_str() {
                "." | "?" => Problem::invalid(format!("the body is not as it must be: {inner}")),
                _ => Problem::invalid(format!("{path}: {inner}")),
            }
        })?;
        json.end().map_err(|e| Problem::invalid(format!("the body goes on after its end: {e}")))?;
        Ok(value)
    }

    /// A parameter of the path; API Gateway matched the route, so it is there.
    #[must_use]
    pub fn path(&self, name: &str) -> &str {
        self.path.first(name).unwrap_or_default()
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
    pub fn known_query(&self, known: &[&str]) -> Result<(), Problem> {
        match self.query.iter().map(|(name, _)| name).find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Problem::invalid(format!(
                "unknown query parameter {name:?}, expected {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ))),
        }
    }

    /// The `Idempotency-Key`; without one, a key that is made up. The caller is told it where the outcome
    /// is not known.
    ///
    /// # Errors
    /// 400 if the header is not what it must be.
    pub fn idempotency_key(&self) -> Result<IdempotencyKey, Problem> {
        let made_up = || self.made_up_key.get_or_init(|| format!("request-{}", self.request_id)).clone();
        Ok(IdempotencyKey::parse(self.idempotency_key.clone().unwrap_or_else(made_up))?)
    }

    /// The key that was made up for a caller that sent none.
    pub(super) fn made_up_key(&self) -> Option<&str> {
        self.made_up_key.get().map(String::as_str)
    }
}

/// The caller's correlation id if it is usable, otherwise the invocation's own id.
#[must_use]
pub fn correlation_id(event: &lambda_http::Request) -> String {
    header(event, CORRELATION_ID)
        .filter(|id| (1..=MAX_CORRELATION_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
        .map(str::to_owned)
        .or_else(|| event.lambda_context_ref().map(|context| context.request_id.clone()))
        .unwrap_or_default()
}

fn header<'a>(event: &'a lambda_http::Request, name: &str) -> Option<&'a str> {
    event.headers().get(name)?.to_str().ok()
}

/// `POST /api/inventory/reserve` as `POST /reserve`. API Gateway has matched the route; handlers
/// match on its name, not on the path.
fn without_base(route_key: &str) -> String {
    let Some((method, path)) = route_key.split_once(' ') else { return route_key.to_owned() };
    let below =
        BASES.iter().find_map(|base| path.strip_prefix(base)).filter(|p| p.is_empty() || p.starts_with('/'));
    match below {
        Some("") => format!("{method} /"),
        Some(below) => format!("{method} {below}"),
        None => route_key.to_owned(),
    }
}

/// Whether the token was made to call an API. Cognito signs with the same key what says who somebody is (an
/// id token), which must not open anything; where an issuer does not say what a token is for, its audience
/// has been checked.
fn is_access_token(claims: &HashMap<String, String>) -> bool {
    claims.get("token_use").is_none_or(|of| of == "access")
}

/// What the caller may be: groups of a person, and scopes of a machine that end in the name of a role
/// (`holdfast/SYSTEM`), as Cognito gives them to clients.
fn roles(claims: &HashMap<String, String>) -> Vec<String> {
    let groups = GROUP_CLAIMS.iter().filter_map(|name| claims.get(*name)).flat_map(|claim| names(claim));
    let scopes = claims.get("scope").into_iter().flat_map(|scopes| scopes.split(' '));
    let scopes = scopes.filter_map(|scope| scope.strip_prefix(SCOPE_PREFIX)).map(str::to_owned);
    groups.chain(scopes).collect()
}

/// The names in a claim: one, or a list as API Gateway writes it, `"[ADMIN SYSTEM]"`. They are compared
/// whole; looking for a part of the text would take `NOT_ADMIN` for `ADMIN`.
fn names(claim: &str) -> impl Iterator<Item = String> + use<> {
    let list = claim.strip_prefix('[').and_then(|c| c.strip_suffix(']'));
    let names: Vec<String> = match list {
        Some(list) => list.split(' ').map(str::to_owned).collect(),
        None => vec![claim.to_owned()],
    };
    names.into_iter().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
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
            assert_eq!(without_base(given), want);
        }
    }

    #[test]
    fn a_machine_has_the_roles_of_its_scopes() {
        let of = |claims: &[(&str, &str)]| {
            let claims =
                claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            (is_access_token(&claims), roles(&claims))
        };
        let system = (true, vec!["SYSTEM".to_owned()]);
        assert_eq!(of(&[("scope", "openid holdfast/SYSTEM"), ("token_use", "access")]), system);
        assert_eq!(of(&[("scope", "SYSTEM other/SYSTEM x-holdfast/SYSTEM")]), (true, vec![]));
        assert_eq!(of(&[("scope", "holdfast/NOT_ADMIN")]).1, ["NOT_ADMIN"]);
        assert!(!of(&[("cognito:groups", "[ADMIN]"), ("token_use", "id")]).0);
        assert!(!of(&[("token_use", "")]).0);
    }

    #[test]
    fn names_in_a_claim_are_whole() {
        let all = |claim| names(claim).collect::<Vec<_>>();
        assert_eq!(all("[ADMIN SYSTEM]"), ["ADMIN", "SYSTEM"]);
        assert_eq!(all("[NOT_ADMIN]"), ["NOT_ADMIN"]);
        assert_eq!(all("ADMIN"), ["ADMIN"]);
        assert_eq!(all("NOT ADMIN"), ["NOT ADMIN"]);
        assert_eq!(all("[x,ADMIN]"), ["x,ADMIN"]);
        assert!(all("[]").is_empty() && all("").is_empty());
    }
}
