//! The runner itself: its options, its processes, and how it ends.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::process::{functions_of, holdfast, is_alive, signal};
use crate::support::{Runner, template_without};

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

/// Requests that SQS would refuse are refused here, too, so that nobody finds out in production.
#[tokio::test]
async fn the_queues_refuse_what_sqs_refuses() {
    let shop = Runner::start().await;
    let queue = format!("{}/000000000000/holdfast-publisher-dead", shop.aws_url);
    let ask = async |operation: &str, mut request: Value| {
        request["QueueUrl"] = json!(queue);
        let post = reqwest::Client::new().post(&shop.aws_url).body(request.to_string());
        let answer = post.header("x-amz-target", format!("AmazonSQS.{operation}")).send().await.unwrap();
        let code = answer.headers().get("x-amzn-query-error").map(|code| code.to_str().unwrap().to_owned());
        (answer.status().as_u16(), code.unwrap_or_default(), answer.json::<Value>().await.unwrap())
    };
    for delay in [-5, 901, 1_i64 << 62] {
        let refused = ask("SendMessage", json!({"MessageBody": "x", "DelaySeconds": delay})).await;
        assert_eq!((refused.0, refused.1.as_str()), (400, "InvalidParameterValue;Sender"));
        let says = format!(
            "Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
        );
        assert_eq!(refused.2, json!({"__type": "com.amazonaws.sqs#InvalidParameterValue", "message": says}));
    }
    let entries = json!([{"Id": "good", "MessageBody": "x", "DelaySeconds": 900}, {"Id": "bad", "MessageBody": "x", "DelaySeconds": -5}]);
    let (status, _, batch) = ask("SendMessageBatch", json!({"Entries": entries})).await;
    assert_eq!((status, &batch["Successful"][0]["Id"]), (200, &json!("good")), "{batch}");
    assert_eq!(batch["Failed"][0]["Code"], "InvalidParameterValue", "{batch}");
    assert_eq!(shop.queued("holdfast-publisher-dead").await, 1, "the one that fits, and no other");
    for (operation, request, code) in [
        ("ReceiveMessage", json!({"MaxNumberOfMessages": 11}), "InvalidParameterValue;Sender"),
        ("ReceiveMessage", json!({"MaxNumberOfMessages": "1"}), "SerializationException;Sender"),
        ("ReceiveMessage", json!({"VisibilityTimeout": -1}), "InvalidParameterValue;Sender"),
        ("ReceiveMessage", json!({"WaitTimeSeconds": 21}), "InvalidParameterValue;Sender"),
        (
            "ChangeMessageVisibility",
            json!({"ReceiptHandle": "x", "VisibilityTimeout": 43_201}),
            "InvalidParameterValue;Sender",
        ),
        ("SendMessage", json!({"MessageBody": ""}), "MissingParameter;Sender"),
        ("SendMessage", json!({"MessageBody": "x".repeat(1_048_577)}), "InvalidParameterValue;Sender"),
        ("SendMessageBatch", json!({"Entries": []}), "AWS.SimpleQueueService.EmptyBatchRequest;Sender"),
    ] {
        let (status, found, body) = ask(operation, request).await;
        assert_eq!((status, found.as_str()), (400, code), "{operation}: {body}");
    }
}

/// An HTTP API decodes a path before it looks for the route: an order id with a slash is two parts of a path, and
/// one with a question mark ends there.
#[tokio::test]
async fn a_path_breaks_here_where_it_breaks_on_aws() {
    let shop = Runner::start().await;
    shop.add("A", 10).await;
    for (order, path, found) in [
        ("#1001-ü", "/api/inventory/reservations/order/%231001-%C3%BC", Some("#1001-ü")),
        ("1001/1", "/api/inventory/reservations/order/1001%2F1", None),
        ("1001", "/api/inventory/reservations/order/1001", Some("1001")),
        // Another order is found.
        ("1001?x", "/api/inventory/reservations/order/1001%3Fx", Some("1001")),
    ] {
        let reserved = shop.reserve(order, &[("A", 1)]).await;
        assert_eq!(reserved.status, 201, "{reserved:?}");
        let id = reserved.body["reservationId"].as_str().unwrap().to_owned();
        let answer = shop.get(path).await;
        match found {
            Some(found) => assert_eq!(answer.body["items"][0]["orderId"], found, "{answer:?}"),
            None => assert_eq!((answer.status, answer.body), (404, json!({"message": "Not Found"}))),
        }
        let answer = shop.get(&format!("/api/inventory/reservations/{id}")).await;
        assert_eq!(
            (answer.status, &answer.body["orderId"]),
            (200, &json!(order)),
            "by its own id it is found"
        );
    }
}

/// The ids of the events about a product's stock, each as often as it was published. A level is compared and set, so it
/// is published once, whatever comes again.
async fn published_ids_of(shop: &Runner, product: &str) -> Vec<String> {
    let mut ids: Vec<String> = shop
        .published()
        .await
        .iter()
        .filter(|event| event["productId"] == product)
        .map(|event| event["eventId"].as_str().unwrap().to_owned())
        .filter(|id| !id.starts_with("LEVEL#"))
        .collect();
    ids.sort();
    ids
}

/// Records that the stream has given up are kept whole, and `redrive` brings them back: into the ledger and onto the
/// bus, and a second time without harm.
#[tokio::test]
async fn what_was_given_up_is_kept_and_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let (_folder, file) = template_without("publisher", "events:PutEvents");
    let template = std::fs::read_to_string(&file).unwrap();
    assert_eq!(template.matches("MaximumRetryAttempts: -1").count(), 1);
    std::fs::write(&file, template.replace("MaximumRetryAttempts: -1", "MaximumRetryAttempts: 1")).unwrap();
    let shop = Runner::with(&["--data", data, "--template", file.to_str().unwrap()]).await;
    shop.add("A", 7).await;
    let place = async || {
        let log = shop.log();
        log.iter()
            .find_map(|line| line.split_once("were given up; they are in "))
            .map(|(_, place)| place.to_owned())
    };
    shop.until("it is given up", async |_| place().await.is_some()).await;
    let object = place().await.unwrap();
    assert_eq!(shop.published().await, Vec::<Value>::new());
    assert_eq!(shop.interrupt().await, Some(0));
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&object).unwrap()).unwrap();
    assert_eq!(kept["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(kept["DDBStreamBatchInfo"]["batchSize"], 1);

    let shop = Runner::with(&["--data", data]).await;
    let port = shop.aws_url.rsplit(':').next().unwrap().to_owned();
    let missing = shop.invoke("reconcile", &json!({})).await;
    assert_eq!(missing["holds"], false, "the ledger lacks it: {missing}");
    let bucket = format!("{data}/holdfast-buckets/PublisherFailures");
    for paths in [&bucket, &object] {
        let output = holdfast(&["redrive", paths, "--aws-port", &port]).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{object}: done, 1 records\n"));
        assert_eq!(shop.invoke("reconcile", &json!({})).await["holds"], true);
    }
    let mut told = published_ids_of(&shop, "A").await;
    assert!(!told.is_empty() && told.chunks(2).all(|twice| twice[0] == twice[1]), "{told:?}");
    told.dedup();
    assert_eq!(shop.stock("A").await, [7, 0, 0]);

    // A message of the publisher's own queue, as `aws sqs receive-message` prints it; and what is none.
    let payload: Value = serde_json::from_str(kept["payload"].as_str().unwrap()).unwrap();
    let letter = json!({"error": "why", "record": payload["Records"][0]}).to_string();
    let (good, bad) = (format!("{data}/letter.json"), format!("{data}/bad.json"));
    std::fs::write(&good, json!({"Messages": [{"Body": letter}]}).to_string()).unwrap();
    std::fs::write(&bad, json!({"DDBStreamBatchInfo": {"batchSize": 1}}).to_string()).unwrap();
    let output = holdfast(&["redrive", &bad, &good, "--aws-port", &port]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "not all of it");
    let says = String::from_utf8(output.stdout).unwrap();
    assert!(says.contains(&format!("{bad}: NOT DONE: it names a place in the stream")), "{says}");
    assert!(says.contains(&format!("{good}: done, 1 records")), "{says}");
    assert_eq!(published_ids_of(&shop, "A").await.len(), 3 * told.len());
    let nobody = refused(&["redrive", "/nowhere", "--aws-port", "1"]).await;
    assert!(nobody.contains("1 of 1 files were not done"), "{nobody}");
}

/// On AWS the publisher is called by the AWS CLI; here a script stands in for it and calls the runner's.
#[tokio::test]
async fn a_stack_is_redriven_by_the_aws_cli() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let shop = Runner::start().await;
    let script = format!(
        "#!/bin/sh\necho \"$*\" > {}\n[ -z \"$REFUSE\" ] || {{ echo 'no credentials' >&2; exit 253; }}\n\
         for last; do :; done\nfor word; do case $word in fileb://*) file=${{word#fileb://}};; esac; done\n\
         curl -s --data-binary @\"$file\" {}/2015-03-31/functions/publisher/invocations > \"$last\"\n\
         echo '{{\"StatusCode\": 200}}'\n",
        path("said"),
        shop.aws_url,
    );
    std::fs::write(path("aws"), script).unwrap();
    std::fs::set_permissions(path("aws"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // A record that the publisher sets aside: it is no change of Holdfast's.
    let record = json!({
        "eventID": "1", "eventName": "INSERT", "eventSource": "aws:dynamodb", "awsRegion": "us-east-1",
        "dynamodb": {
            "SequenceNumber": "1", "SizeBytes": 1, "StreamViewType": "NEW_AND_OLD_IMAGES",
            "ApproximateCreationDateTime": 1_700_000_000, "Keys": {"pk": {"S": "STOCK#X#0"}, "sk": {"S": "main"}},
            "NewImage": {"pk": {"S": "STOCK#X#0"}, "sk": {"S": "main"}},
        },
    });
    std::fs::write(path("letter.json"), json!({"error": "why", "record": record}).to_string()).unwrap();
    let redrive = async |refuse: &str| {
        let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = holdfast(&["redrive", "--stack", "holdfast-prod", &path("letter.json")]);
        command.env("PATH", search).env("REFUSE", refuse).output().await.unwrap()
    };
    let output = redrive("").await;
    assert!(output.status.success(), "{output:?}");
    let said = std::fs::read_to_string(path("said")).unwrap();
    assert!(
        said.starts_with(
            "lambda invoke --output json --function-name holdfast-prod-publisher:live --payload fileb://"
        ),
        "{said}"
    );
    assert_eq!(
        shop.queued("holdfast-publisher-dead").await,
        1,
        "the publisher had it, and set it aside again"
    );
    let output = redrive("yes").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("NOT DONE: no credentials"));
}
