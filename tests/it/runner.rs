//! The runner itself: its options, its processes, and how it ends.

use std::process::Output;
use std::time::Duration;

use serde_json::json;

use crate::support::Runner;
use crate::support::process::{functions_of, holdfast, is_alive, signal};

async fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = holdfast(arguments).output().await.unwrap();
    assert!(!status.success(), "{arguments:?}");
    let sentence = String::from_utf8(stderr).unwrap();
    assert_eq!(sentence.trim().lines().count(), 1, "one sentence: {sentence}");
    sentence
}

#[tokio::test]
async fn what_is_in_the_way_is_said_in_one_sentence() {
    let shop = Runner::start().await;
    let port = shop.url.rsplit(':').next().unwrap().to_owned();
    let taken = refused(&["--port", &port, "--aws-port", "0"]).await;
    assert!(
        taken.contains(&format!("port {port} on 127.0.0.1 is taken")) && taken.contains("--port"),
        "{taken}"
    );
    let taken = refused(&["--port", "0", "--aws-port", &port]).await;
    assert!(taken.contains("--aws-port"), "{taken}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    std::fs::write(&file, "Resources: [").unwrap();
    let file = file.to_str().unwrap();
    let bad = refused(&["--template", file, "--port", "0", "--aws-port", "0"]).await;
    assert!(bad.contains("a file: not YAML"), "{bad}");
    let missing = refused(&["--template", "/nowhere.yaml"]).await;
    assert!(missing.contains("/nowhere.yaml cannot be read"), "{missing}");
    let bad = refused(&["--data", file, "--port", "0", "--aws-port", "0"]).await;
    assert!(bad.contains("cannot be written"), "{bad}");
    let inside = format!("{file}/below");
    let bad = refused(&["token", "--role", "ADMIN", "--data", &inside]).await;
    assert!(bad.contains("the signing key"), "{bad}");
}

#[tokio::test]
async fn a_bad_setting_is_named_and_the_caller_is_answered() {
    let shop = Runner::with(&["--parameter", "ReservationTtlMinutes=soon"]).await;
    let answer = shop.get("/health").await;
    assert_eq!(
        (answer.status, answer.body.to_string().as_str()),
        (500, r#"{"message":"Internal Server Error"}"#)
    );
}

#[tokio::test]
async fn a_folder_has_one_runner() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let shop = Runner::with(&["--data", data]).await;
    let second = refused(&["--data", data, "--port", "0", "--aws-port", "0"]).await;
    assert!(second.contains("in use by another holdfast"), "{second}");
    shop.add("A", 3).await;
    assert_eq!(shop.interrupt().await, Some(0));
    let shop = Runner::with(&["--data", data]).await;
    assert_eq!(shop.stock("A").await, [3, 0, 0], "kept over a restart");
}

#[tokio::test]
async fn it_says_where_it_is_and_that_it_is_open() {
    let shop = Runner::start().await;
    assert!(shop.greeting.contains("OPEN: every caller has every role"), "{}", shop.greeting);
    assert_eq!(shop.greeting.matches("  curl ").count(), 3);
    assert!(shop.greeting.contains(&shop.url) && shop.greeting.contains(&shop.aws_url));
    // The three commands work as they stand.
    for line in shop.greeting.lines().filter(|line| line.starts_with("  curl ")) {
        let output = tokio::process::Command::new("sh")
            .args(["-c", &format!("{line} -sS -f")])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }
    assert_eq!(shop.stock("LAPTOP-001").await, [95, 5, 0]);
}

#[tokio::test]
async fn an_interrupt_ends_every_process() {
    let shop = Runner::start().await;
    shop.add("A", 3).await;
    shop.reserve("order-1", &[("A", 1)]).await;
    let functions = functions_of(shop.id());
    assert!(functions.len() >= 2, "{functions:?}");
    assert_eq!(shop.interrupt().await, Some(0));
    all_end(&functions).await;
}

#[tokio::test]
async fn functions_do_not_outlive_a_runner_that_was_killed() {
    let shop = Runner::start().await;
    shop.add("A", 3).await;
    let functions = shop.functions();
    assert!(!functions.is_empty());
    shop.kill().await;
    all_end(&functions).await;
}

async fn all_end(functions: &[(u32, String)]) {
    let all = async {
        while functions.iter().any(|(id, _)| is_alive(*id)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), all).await.expect("a function outlives its runner");
}

#[tokio::test]
async fn requests_at_once_have_processes_of_their_own() {
    let shop = Runner::with(&["--concurrency", "3"]).await;
    shop.add("A", 100).await;
    let orders: Vec<String> = (0..40).map(|i| format!("order-{i}")).collect();
    let answers =
        futures::future::join_all(orders.iter().map(|order| shop.reserve(order, &[("A", 1)]))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(shop.processes("reserve").len(), 3);
}

/// A process that is killed while it works is answered for at once, and another takes its place.
#[tokio::test]
async fn a_killed_function_is_answered_for_and_started_anew() {
    let shop = Runner::start().await;
    shop.add("A", 3).await;
    let idle = shop.processes("stock-admin");
    signal("KILL", idle[0].0).await;
    all_end(&idle).await;
    shop.add("A", 1).await;
    let (working, _) = shop.processes("stock-admin")[0];
    assert_ne!(idle[0].0, working);
    signal("STOP", working).await;
    let body = json!({"productId": "A", "quantity": 1});
    let waiting = shop.post("/api/inventory/add", &body);
    let killing = async {
        // The invocation waits at the stopped process; nothing else can be seen of it from outside.
        tokio::time::sleep(Duration::from_millis(200)).await;
        signal("KILL", working).await;
    };
    let began = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(waiting, killing);
    assert_eq!(answer.status, 500);
    assert!(began.elapsed() < Duration::from_secs(2), "answered at once");
    shop.add("A", 1).await;
    assert_eq!(shop.stock("A").await, [5, 0, 0]);
}

/// A process that does not answer is ended when the function's time is up.
#[tokio::test]
async fn the_time_out_is_enforced() {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, template.replace("Timeout: 10", "Timeout: 2")).unwrap();
    let shop = Runner::with(&["--template", file.to_str().unwrap()]).await;
    shop.add("A", 3).await;
    let functions = shop.processes("stock-admin");
    signal("STOP", functions[0].0).await;
    let began = tokio::time::Instant::now();
    let answer = shop.post("/api/inventory/add", &json!({"productId": "A", "quantity": 1})).await;
    assert_eq!(answer.status, 500);
    assert!((2..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    all_end(&functions).await;
    shop.add("A", 1).await;
    assert_eq!(shop.stock("A").await, [4, 0, 0]);
}

#[tokio::test]
async fn a_function_that_does_not_exist_is_named() {
    let shop = Runner::start().await;
    let answer = shop.invoke("nonsense", &json!({})).await;
    assert_eq!(answer["Message"], "there is no function nonsense");
    // An event that is none of an HTTP API is an error of the function, not the end of its process.
    let answer = shop.invoke("reserve", &json!({"surprise": true})).await;
    assert_eq!(answer["errorType"], "Runtime", "{answer}");
}
