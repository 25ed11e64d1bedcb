//! Scenario 49: who may do what, through the gateway with `--auth` and in the functions themselves.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::contract::template;
use crate::support::process::holdfast;
use crate::support::{Api, Runner, claims};

async fn token(data: &str, roles: &[&str]) -> String {
    let mut arguments = vec!["token", "--data", data];
    arguments.extend(roles.iter().flat_map(|role| ["--role", role]));
    let output = holdfast(&arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The claims of a valid token, to be made wrong in one way.
fn claims_of_an_admin() -> Value {
    let mut claims = claims();
    claims["cognito:groups"] = json!(["ADMIN", "SYSTEM"]);
    claims
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims_of_an_admin();
    claims[name] = value.into();
    claims
}

/// A path of a route with its parameters filled in.
fn path(of: &str) -> String {
    of.replace("{productId}", "A").replace("{reservationId}", "x").replace("{orderId}", "o")
}

async fn call(api: &Api, method: &str, path: &str) -> (u16, String) {
    let answer = match method {
        "GET" => api.get(path).await,
        "PATCH" => api.patch(path, &json!({})).await,
        _ => api.post_text(path, "{}", &[]).await,
    };
    (answer.status, answer.body.to_string())
}

#[tokio::test]
async fn every_protected_route_refuses_every_bad_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let shop = Runner::with(&["--auth", "--data", data]).await;
    let issuer = local::auth::Issuer::open(folder.path()).unwrap();
    let now = local::clock::now_ms() / 1_000;
    let stranger = tempfile::tempdir().unwrap();
    let forged = local::auth::Issuer::open(stranger.path()).unwrap().sign(&claims_of_an_admin()).unwrap();
    let symmetric = EncodingKey::from_secret(b"holdfast");
    let symmetric =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims_of_an_admin(), &symmetric).unwrap();
    let good = issuer.sign(&claims_of_an_admin()).unwrap();
    let part = |i: usize| good.split('.').nth(i).unwrap();
    // {"alg":"none","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", part(1));
    let changed = format!(
        "{}.{}.{}",
        part(0),
        issuer.sign(&with("sub", "x")).unwrap().split('.').nth(1).unwrap(),
        part(2)
    );
    let bad = [
        ("expired", issuer.sign(&with("exp", now - 1)).unwrap()),
        ("not valid yet", issuer.sign(&with("nbf", now + 60)).unwrap()),
        ("another audience", issuer.sign(&with("aud", "another")).unwrap()),
        ("another issuer", issuer.sign(&with("iss", "https://example.com")).unwrap()),
        ("another key", forged),
        ("alg none", none),
        ("a symmetric key", symmetric),
        ("changed", changed),
        ("no token", String::new()),
        ("nonsense", "nonsense".to_owned()),
    ];
    let calls = shop.calls().await;
    let mut refused = 0;
    for route in template().functions.iter().flat_map(|f| &f.routes).filter(|route| route.protected) {
        for (what, token) in &bad {
            let (status, body) = call(&shop.with_token(token), &route.method, &path(&route.path)).await;
            assert_eq!((status, body.as_str()), (401, r#"{"message":"Unauthorized"}"#), "{what}: {route:?}");
            refused += 1;
        }
        let (status, _) = call(&shop, &route.method, &path(&route.path)).await;
        assert_eq!(status, 401, "without a header: {route:?}");
    }
    assert_eq!(refused, 28 * bad.len());
    assert_eq!(shop.calls().await, calls, "not one DynamoDB call");
    assert!(shop.functions().is_empty(), "and not one function was started");
}

#[tokio::test]
async fn every_route_asks_for_its_role() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let shop = Runner::with(&["--auth", "--data", data]).await;
    let issuer = local::auth::Issuer::open(folder.path()).unwrap();
    let with_groups = |groups: Value| shop.with_token(&issuer.sign(&with("cognito:groups", groups)).unwrap());
    let admin = shop.with_token(&token(data, &["ADMIN"]).await);
    let system = shop.with_token(&token(data, &["system"]).await);
    let nobody = [
        with_groups(json!(["NOT_ADMIN"])),
        with_groups(json!(["NOT_ADMIN", "SYSTEMS", "admin"])),
        with_groups(json!([])),
        with_groups(json!("ADMINSYSTEM")),
        with_groups(json!({"ADMIN": true})),
    ];
    // It says who somebody is; it opens nothing. The gateway lets it through, the functions do not.
    let mut id_token = claims_of_an_admin();
    id_token["token_use"] = "id".into();
    let id_token = shop.with_token(&issuer.sign(&id_token).unwrap());
    let mut right = 0;
    let calls = shop.calls().await;
    for function in template().functions {
        for route in function.routes.iter().filter(|route| route.protected) {
            let path = path(&route.path);
            let of_admin = function.name == "stock-admin";
            let (may, may_not) = if of_admin { (&admin, &system) } else { (&system, &admin) };
            for refused in nobody.iter().chain([may_not]) {
                let (status, body) = call(refused, &route.method, &path).await;
                assert_eq!(status, 403, "{route:?} {body}");
            }
            let (status, body) = call(&id_token, &route.method, &path).await;
            assert_eq!(status, 401, "{route:?} {body}");
            // An empty body or a bad id is refused only after the role was found right; an order's list is read.
            let (status, body) = call(may, &route.method, &path).await;
            assert_eq!(status, if path.ends_with("/order/o") { 200 } else { 400 }, "{route:?} {body}");
            right += 1;
        }
    }
    assert_eq!(right, 28);
    assert_eq!(shop.calls().await - calls, 2, "the two that read an order's list, and nothing else");
}

/// A role is a name as a whole: no word of another name becomes one, however a list was made a text on the way.
#[tokio::test]
async fn a_part_of_a_name_is_no_role() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let shop = Runner::with(&["--auth", "--data", data]).await;
    let issuer = local::auth::Issuer::open(folder.path()).unwrap();
    let add = json!({"productId": "A", "quantity": 1});
    let adds = async |claim: &str, value: &Value| {
        let mut claims = claims();
        claims[claim] = value.clone();
        shop.with_token(&issuer.sign(&claims).unwrap()).post("/api/inventory/add", &add).await.status
    };
    for claim in ["roles", "role"] {
        for none in [
            json!(["STORE ADMIN"]),
            json!(["NOT ADMIN"]),
            json!(["ADMIN STORE"]),
            json!(["SYSTEM ADMIN"]),
            json!("[x ADMIN]"),
            json!("x ADMIN"),
            json!(["x", "ADMIN"]),
            json!(["ROLE_ADMINS"]),
            json!("[\"x ADMIN\"]"),
        ] {
            assert_eq!(adds(claim, &none).await, 403, "{claim} {none}");
        }
        for one in [
            json!(["ADMIN"]),
            json!("ADMIN"),
            json!(["ROLE_ADMIN"]),
            json!("ROLE_ADMIN"),
            json!("[\"x\",\"ADMIN\"]"),
        ] {
            assert_eq!(adds(claim, &one).await, 200, "{claim} {one}");
        }
    }
    for groups in [json!(["customers", "ADMIN"]), json!(["eu-west-1_aBc_Google", "ROLE_ADMIN"])] {
        assert_eq!(adds("cognito:groups", &groups).await, 200, "{groups}");
    }
    assert_eq!(adds("cognito:groups", &json!(["NOT_ADMIN", "admin"])).await, 403);
    assert_eq!(adds("scope", &json!("openid holdfast/ADMIN")).await, 200);
}

#[tokio::test]
async fn public_routes_need_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let shop = Runner::with(&["--auth", "--data", data]).await;
    let admin = shop.with_token(&token(data, &["ADMIN", "SYSTEM"]).await);
    admin.add("A", 3).await;
    for path in ["/health", "/api/inventory", "/api/inventory/A", "/inventory/A"] {
        assert_eq!(shop.get(path).await.status, 200, "{path}");
    }
    let asked = json!({"productId": "A", "quantity": 2});
    assert_eq!(shop.post("/inventory/check-availability", &asked).await.body["available"], true);
}

/// API Gateway is not relied on: a function that is called without claims, or with others, refuses too.
#[tokio::test]
async fn functions_check_again() {
    let shop = Runner::start().await;
    let event = |claims: Option<Value>| {
        let mut event: Value = serde_json::from_str(include_str!("../../events/http-add.json")).unwrap();
        let context = event["requestContext"].as_object_mut().unwrap();
        match claims {
            None => context.remove("authorizer"),
            Some(claims) => {
                context.insert("authorizer".to_owned(), json!({"jwt": {"claims": claims, "scopes": null}}))
            }
        };
        event
    };
    for (claims, status) in [
        (None, 401),
        (Some(json!({})), 403),
        (Some(json!({"cognito:groups": "[NOT_ADMIN]"})), 403),
        (Some(json!({"cognito:groups": "[SYSTEM]"})), 403),
        (Some(json!({"cognito:groups": "[SYSTEM ADMIN]"})), 200),
        (Some(json!({"roles": "ADMIN"})), 200),
        (Some(json!({"scope": "holdfast/ADMIN"})), 200),
        (Some(json!({"scope": "holdfast/SYSTEM ADMIN"})), 403),
        (Some(json!({"cognito:groups": "[ADMIN]", "token_use": "access"})), 200),
        // It says who somebody is; it opens nothing.
        (Some(json!({"cognito:groups": "[ADMIN]", "token_use": "id"})), 401),
    ] {
        let calls = shop.calls().await;
        let answer = shop.invoke("stock-admin", &event(claims.clone())).await;
        assert_eq!(answer["statusCode"], status, "{claims:?} {answer}");
        assert_eq!(shop.calls().await > calls, status == 200, "{claims:?}");
    }
}
