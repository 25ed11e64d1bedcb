//! `openapi.yaml` says what the service does: routes, roles, examples, and every answer that any test gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::contract::{root, template};
use crate::support::{Api, Runner};

static TEXT: LazyLock<String> =
    LazyLock::new(|| std::fs::read_to_string(root().join("openapi.yaml")).unwrap());
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| local::template::yaml_as_json(&TEXT).unwrap());

/// The target of a `$ref`, or the value itself.
fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(pointer) => DOCUMENT.pointer(pointer.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

/// An operation of the document.
struct Operation {
    path: &'static str,
    method: String,
    about: &'static Value,
}

/// All operations, in the order of the document.
fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, about) in methods.as_object().unwrap() {
            all.push(Operation { path, method: method.to_uppercase(), about });
        }
    }
    all.sort_by_key(|operation| position(operation.about));
    all
}

/// Where an operation begins in the text.
fn position(about: &Value) -> usize {
    let line = format!("\n      operationId: {}\n", about["operationId"].as_str().unwrap());
    TEXT.find(&line).unwrap()
}

/// Where a key stands in an operation.
fn key(of: &Operation, name: &str) -> usize {
    TEXT[position(of.about)..].find(&format!(" {name}:")).unwrap()
}

/// The operation of a request; none where it is no route of the document.
fn operation_of(method: &str, path: &str) -> Option<Operation> {
    let path = path.split('?').next().unwrap();
    let path = path.strip_prefix("/inventory").map_or(path.to_owned(), |b| format!("/api/inventory{b}"));
    let matches = |pattern: &str| {
        let (pattern, path): (Vec<&str>, Vec<&str>) =
            (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len() && pattern.iter().zip(&path).all(|(p, s)| p.starts_with('{') || p == s)
    };
    // A fixed path goes before one with a parameter.
    let found = operations().into_iter().filter(|o| o.method == method && matches(o.path));
    found.min_by_key(|operation| operation.path.matches('{').count())
}

/// Holds an answer against the document: its status is foreseen, and its body is as it says, with nothing more.
pub(crate) fn keeps_its_document(method: &str, path: &str, status: u16, media_type: &str, body: &Value) {
    if status == 502 {
        // How ministack says that a function's process has ended, at work or while it starts; API Gateway says 500.
        let ended =
            ["Runtime.ExitError", "Runtime.Unknown"].contains(&body["errorType"].as_str().unwrap_or(""));
        assert!(ended, "{method} {path}: {body}");
        return;
    }
    if (status, body) == (404, &json!({"message": "Not Found"})) {
        // The gateway's own answer where there is no route: a test may take one away.
        return;
    }
    let Some(Operation { path, about, .. }) = operation_of(method, path) else {
        assert_eq!(status, 404, "{method} {path} is not in openapi.yaml");
        return;
    };
    let response = resolved(&about["responses"][status.to_string()]);
    assert!(!response.is_null(), "{method} {path}: {status} is not in openapi.yaml: {body}");
    let media_type = media_type.split(';').next().unwrap();
    let content = &response["content"][media_type];
    assert!(
        !content.is_null(),
        "{method} {path}: {status} with {media_type:?} is not in openapi.yaml: {body}"
    );
    if media_type.ends_with("json") {
        let errors = errors(&content["schema"], body);
        assert!(errors.is_empty(), "{method} {path}: {status}: {errors:?} in {body}");
    }
}

/// The errors of a value by a schema of the document. A member that the schema does not name is an error, too.
fn errors(schema: &Value, value: &Value) -> Vec<String> {
    thread_local! {
        static KNOWN: std::cell::RefCell<BTreeMap<String, jsonschema::Validator>> = const { std::cell::RefCell::new(BTreeMap::new()) };
    }
    let strict = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": DOCUMENT["components"],
        "allOf": [schema],
        "unevaluatedProperties": false,
    });
    KNOWN.with_borrow_mut(|known| {
        let validator = known
            .entry(schema.to_string())
            .or_insert_with(|| jsonschema::options().should_validate_formats(true).build(&strict).unwrap());
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
    })
}

/// One route, one operation; public where the template says so.
#[test]
fn the_document_and_the_template_name_the_same_routes() {
    let said: BTreeSet<(String, String, bool)> = operations()
        .into_iter()
        .map(|o| (o.method, o.path.to_owned(), o.about["security"] != json!([])))
        .collect();
    let routes = template().functions.into_iter().flat_map(|function| function.routes);
    let (short, long): (Vec<_>, Vec<_>) = routes
        .map(|r| (r.method, r.path, r.protected))
        .partition(|(_, path, _)| path.starts_with("/inventory"));
    assert_eq!(said, long.iter().cloned().collect());
    let short: BTreeSet<_> = short.into_iter().map(|(m, path, p)| (m, format!("/api{path}"), p)).collect();
    let below = long.into_iter().filter(|(_, path, _)| path.starts_with("/api/inventory"));
    assert_eq!(short, below.collect(), "both bases have the same routes");
}

/// A value with times and ids of requests taken out: they are others each time.
fn without_times(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let changing = ["correlationId", "idempotencyKey"];
            map.iter()
                .filter(|(name, _)| !changing.contains(&name.as_str()))
                .map(|(name, value)| {
                    (name.clone(), if name.ends_with("At") { json!("a time") } else { without_times(value) })
                })
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.iter().map(without_times).collect(),
        other => other.clone(),
    }
}

/// A request of the document.
struct Example {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

/// The request of an operation's named example: its path with parameters, its headers and its body.
fn example(operation: &Operation, name: &str) -> Option<Example> {
    let (mut path, mut query, mut headers) = (operation.path.to_owned(), Vec::new(), Vec::new());
    let mut named = false;
    for parameter in operation.about["parameters"].as_array().into_iter().flatten().map(resolved) {
        let Some(value) = parameter["examples"].get(name).map(|example| resolved(example)["value"].clone())
        else {
            continue;
        };
        named = true;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let of = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{of}}}"), &text),
            Some("query") => query.push(format!("{of}={text}")),
            Some("header") => headers.push((of, text)),
            _ => {}
        }
    }
    let body = operation.about["requestBody"]["content"]["application/json"]["examples"].get(name);
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    // Without parameters and body there is only one request.
    let alone = operation.about["parameters"].as_array().is_none_or(Vec::is_empty) && !path.contains('{');
    let body = body.map(|body| resolved(body)["value"].clone());
    (named || body.is_some() || alone).then_some(Example { path, headers, body })
}

/// The names of an operation's examples, and what each is answered with.
fn answers(operation: &Operation) -> Vec<(String, u16, Value)> {
    let mut all = Vec::new();
    let responses = operation.about["responses"].as_object().unwrap();
    for (status, response) in responses {
        // What is shared by operations shows one of them.
        for content in response["content"].as_object().into_iter().flat_map(Map::values) {
            let Some(examples) = content["examples"].as_object() else { continue };
            for (name, shown) in examples {
                all.push((name.clone(), status.parse().unwrap(), resolved(shown)["value"].clone()));
            }
        }
    }
    all.sort_by_key(|(name, ..)| key(operation, name));
    all
}

/// Every request that the document shows, in its order, is answered as it shows.
#[tokio::test]
async fn the_examples_are_true() {
    let shop = Runner::start().await;
    shop.add("LAPTOP-001", 1000).await;
    let (mut sent, mut shown) = (0, 0);
    for operation in operations().iter().filter(|o| !o.path.contains("docs")) {
        for (name, status, value) in answers(operation) {
            shown += 1;
            let Some(example) = example(operation, &name) else { continue };
            let answer = send(&shop, &operation.method, &example).await;
            let what = format!("{} {}, example {name}: {answer:?}", operation.method, example.path);
            assert_eq!(answer.status, status, "{what}");
            assert_eq!(without_times(&answer.body), without_times(&value), "{what}");
            sent += 1;
        }
    }
    println!("{sent} of {shown} examples were sent");
    assert!(sent >= 30 && shown - sent <= 6, "{sent} of {shown} examples were sent");
}

async fn send(shop: &Api, method: &str, Example { path, headers, body }: &Example) -> crate::support::Answer {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    match (method, body) {
        ("GET", None) => shop.get(path).await,
        ("POST", Some(body)) => shop.post_text(path, &body.to_string(), &headers).await,
        ("PATCH", Some(body)) => shop.patch(path, body).await,
        other => panic!("{other:?}"),
    }
}

/// The page, its files and the document; everything that the page asks for comes from here. The function that serves
/// them answers, refuses and logs as every other.
#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let shop = Runner::with(&["--auth"]).await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", shop.url)).await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        assert!(header("content-security-policy").starts_with("default-src 'self'"), "{path}");
        (header("content-type"), answer.bytes().await.unwrap())
    };
    let (media_type, document) = get("/api-docs").await;
    assert_eq!((media_type.as_str(), &document[..]), ("application/yaml", TEXT.as_bytes()));
    let (media_type, page) = get("/docs").await;
    assert_eq!(media_type, "text/html; charset=utf-8");
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(!page.contains("//"), "nothing from elsewhere: {page}");
    let files: Vec<&str> = page
        .split('"')
        .filter(|text| text.starts_with("docs/"))
        .map(|text| text.strip_prefix("docs").unwrap())
        .collect();
    assert_eq!(files, ["/favicon-32x32.png", "/swagger-ui.css", "/swagger-ui-bundle.js", "/page.js"]);
    for (file, media_type) in
        files.iter().zip(["image/png", "text/css", "text/javascript", "text/javascript"])
    {
        let (said, content) = get(&format!("/docs{file}")).await;
        assert!(said.starts_with(media_type) && !content.is_empty(), "{file}: {said}");
        assert!(
            media_type != "image/png" || content.starts_with(b"\x89PNG"),
            "bytes as they are: {content:?}"
        );
    }
    let missing = reqwest::get(format!("{}/docs/other.js", shop.url)).await.unwrap();
    let header = |name: &str| missing.headers()[name].to_str().unwrap();
    assert_eq!(
        (missing.status().as_u16(), header("content-type"), header("cache-control")),
        (404, "application/problem+json", "no-store")
    );
    let expected = ["docs", "GET /docs/{file}", "not_found", header("x-correlation-id")];
    let says = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        ["operation", "route", "outcome", "correlation_id"].map(|name| line[name].clone()) == expected
    };
    shop.until("the refusal is logged", async |_| shop.log().iter().any(says)).await;
}
