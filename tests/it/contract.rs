//! The template, the samples in `events/` and the functions agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use local::template::{Route, Template};
use serde_json::Value;

use crate::support::Runner;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The template as the runner reads it.
pub(crate) fn template() -> Template {
    let given = ["JwtIssuer", "JwtAudience"].map(|name| (name.to_owned(), "-".to_owned()));
    Template::read(&root().join("template.yaml"), &given.into(), "http://127.0.0.1").unwrap()
}

/// Holds a published event against the schema of its name.
pub(crate) fn keeps_its_schema(detail: &Value) {
    static SCHEMAS: LazyLock<BTreeMap<String, jsonschema::Validator>> = LazyLock::new(|| {
        let schema = |name: &&str| {
            let text = std::fs::read_to_string(root().join(format!("events/published/{name}.schema.json")));
            let schema = serde_json::from_str(&text.unwrap()).unwrap();
            ((*name).to_owned(), jsonschema::validator_for(&schema).unwrap())
        };
        shared::domain::events::NAMES.iter().map(schema).collect()
    });
    let name = detail["eventType"].as_str().unwrap();
    let errors: Vec<String> =
        SCHEMAS[name].iter_errors(detail).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:?} in {detail}");
}

#[test]
fn every_published_event_has_a_schema_and_a_sample_that_keeps_it() {
    let names = shared::domain::events::NAMES;
    for name in names {
        let text = std::fs::read_to_string(root().join(format!("events/published/{name}.json"))).unwrap();
        let sample: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(sample["eventType"], name);
        keeps_its_schema(&sample);
    }
    let files = std::fs::read_dir(root().join("events/published")).unwrap().count();
    assert_eq!(files, 2 * names.len());
}

/// One sample for each route, in the order in which they tell a story: function, sample, status.
const STORY: [(&str, &str, u64); 21] = [
    ("stock-admin", "create", 201),
    ("stock-admin", "add", 200),
    ("stock-admin", "adjust", 200),
    ("stock-admin", "audit", 200),
    ("stock-admin", "update", 200),
    ("check", "product", 200),
    ("check", "products", 200),
    ("check", "check", 200),
    ("check", "check-availability", 200),
    ("reserve", "reserve", 201),
    ("reserve", "extend", 200),
    ("check", "reservation", 200),
    ("check", "reservations-of-order", 200),
    ("settle", "confirm", 200),
    ("settle", "deduct", 200),
    ("release", "release", 200),
    ("release", "unreserve", 200),
    ("check", "health", 200),
    // The same again: what is idempotent says so.
    ("stock-admin", "add", 200),
    ("settle", "deduct", 200),
    ("stock-admin", "create", 200),
];

fn sample(name: &str) -> Value {
    let file = root().join(format!("events/http-{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn every_sample_is_answered_as_it_should_be() {
    let shop = Runner::start().await;
    for (function, name, status) in STORY {
        let answer = shop.invoke(function, &sample(name)).await;
        assert_eq!(answer["statusCode"], status, "{name}: {answer}");
        assert_eq!(answer["headers"]["x-correlation-id"], format!("sample-{name}"), "{answer}");
    }
    assert_eq!(shop.stock("SAMPLE-1").await, [105, 0, 5]);
}

/// Each route is reached under both bases, has a sample, and the function that is called knows it.
#[tokio::test]
async fn every_route_has_a_sample_and_a_function_that_knows_it() {
    let shop = Runner::start().await;
    let samples: BTreeMap<String, &str> = STORY
        .iter()
        .map(|(_, name, _)| (sample(name)["routeKey"].as_str().unwrap().to_owned(), *name))
        .collect();
    let mut seen = BTreeSet::new();
    // `docs` knows no business; `openapi.rs` looks at what it serves.
    for function in template().functions.iter().filter(|function| function.name != "docs") {
        for Route { method, path, .. } in &function.routes {
            let key = format!("{method} {path}");
            assert!(seen.insert(key.clone()), "{key} stands twice");
            let long = match path.strip_prefix("/inventory") {
                Some(below) => format!("{method} /api/inventory{below}"),
                None => key.clone(),
            };
            let name = samples.get(&long).unwrap_or_else(|| panic!("no sample for {key}"));
            let mut event = sample(name);
            event["routeKey"] = key.clone().into();
            event["requestContext"]["routeKey"] = key.clone().into();
            let answer = shop.invoke(&function.name, &event).await;
            let body = answer["body"].as_str().unwrap();
            assert!(!body.contains("there is no route"), "{key}: {body}");
        }
    }
    let files = std::fs::read_dir(root().join("events")).unwrap().flatten();
    let on_disk = files.filter(|f| f.file_name().to_string_lossy().starts_with("http-")).count();
    assert_eq!((seen.len(), on_disk), (35, samples.len()));
}

/// A route that the template does not name is not there, whatever a function would do with it.
#[tokio::test]
async fn a_route_that_is_missing_in_the_template_is_missing_here() {
    let text = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    let route = "Path: \"/api/inventory/confirm\"";
    assert!(text.contains(route));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, text.replace(route, "Path: \"/api/inventory/elsewhere\"")).unwrap();
    let shop = Runner::with(&["--template", file.to_str().unwrap()]).await;
    let missing = shop.order("confirm", "order-1").await;
    assert_eq!((missing.status, missing.body.to_string().as_str()), (404, r#"{"message":"Not Found"}"#));
    assert_eq!(shop.order("elsewhere", "order-1").await.code_or_status(), (404, "not_found"));
    assert_eq!(
        shop.get("/api/inventory/reserve").await.code_or_status(),
        (404, "unknown_product"),
        "a product of that name"
    );
    assert_eq!(shop.get("/nowhere").await.status, 404);
}
