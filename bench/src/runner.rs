//! The whole of Holdfast as a process of its own, and how it is called.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use shared::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::raw::{self, INVENTORY};

/// The pause between two looks at a condition that is waited for.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The publisher is idle when it has made no call for so long.
const IDLE: Duration = Duration::from_millis(300);
/// Longest wait for the publisher to be idle.
const IDLE_PATIENCE: Duration = Duration::from_secs(120);

/// The template that everything is brought up from.
pub(crate) fn template() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml")
}

/// A runner, and what is needed to call it.
pub(crate) struct Runner {
    process: Child,
    calls: Calls,
}

/// How a runner is called. Cheap to clone; a clone shares its connections.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) http: reqwest::Client,
    pub(crate) api: String,
    pub(crate) aws: String,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
}

impl std::ops::Deref for Runner {
    type Target = Calls;
    fn deref(&self) -> &Calls {
        &self.calls
    }
}

impl Runner {
    /// Starts one, which logs into this file. No schedule fires while it runs.
    pub(crate) async fn start(log: &Path) -> Result<Self, Error> {
        Self::start_with(log, &[]).await
    }

    /// Starts one with further options.
    pub(crate) async fn start_with(log: &Path, options: &[&str]) -> Result<Self, Error> {
        let log = File::options().append(true).create(true).open(log)?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--port", "0", "--aws-port", "0", "--exit-with-stdin", "--sweep-every", "600m"])
            .args(["--parameter", "LogLevel=error"])
            .args(options)
            .arg("--template")
            .arg(template())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let (mut api, mut aws) = (None, None);
        while let Some(line) = lines.next_line().await? {
            let address = || line.split_whitespace().last().map(str::to_owned);
            if line.contains("HTTP API") {
                api = address();
            } else if line.contains("AWS endpoint") {
                aws = address();
            } else if line.contains("Ctrl-C") {
                break;
            }
        }
        let api = api.ok_or("the runner did not come up; its log says why")?;
        let aws = aws.ok_or("the runner did not come up; its log says why")?;
        let dynamodb = raw::client(&aws);
        Ok(Self { process, calls: Calls { http: reqwest::Client::new(), api, aws, dynamodb } })
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }

    /// Another client of the same runner, with connections of its own.
    pub(crate) fn client(&self) -> Calls {
        Calls { http: reqwest::Client::new(), ..self.calls.clone() }
    }
}

impl Calls {
    /// A GET that must succeed.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        let answer = self.http.get(format!("{}{path}", self.api)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// A POST below the base that must succeed.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<(), Error> {
        let url = format!("{}/api/inventory{path}", self.api);
        let answer = self.http.post(url).json(body).send().await?.error_for_status()?;
        answer.bytes().await?;
        Ok(())
    }

    /// Adds stock.
    pub(crate) async fn add(&self, product: &str, quantity: u64) -> Result<(), Error> {
        self.post("/add", &json!({"productId": product, "quantity": quantity})).await
    }

    /// Holds one unit.
    pub(crate) async fn reserve(&self, order: &str, product: &str) -> Result<(), Error> {
        self.post("/reserve", &json!({"orderId": order, "productId": product, "quantity": 1})).await
    }

    /// A call of one of the AWS services; must succeed.
    pub(crate) async fn aws(&self, target: &str, request: &Value) -> Result<Value, Error> {
        let answer = self.http.post(&self.aws).header("x-amz-target", target).json(request).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Calls a function.
    pub(crate) async fn invoke(&self, function: &str) -> Result<Value, Error> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.aws);
        Ok(self.http.post(url).body("{}").send().await?.json().await?)
    }

    /// Puts these products into the table, with this stock: copies of one that was added.
    pub(crate) async fn stock(&self, products: &[String], quantity: u64) -> Result<(), Error> {
        let (first, rest) = products.split_first().ok_or("no products")?;
        self.add(first, quantity).await?;
        let key = json!({"pk": {"S": format!("STOCK#{first}#0")}, "sk": {"S": "main"}});
        let request = json!({"TableName": INVENTORY, "Key": key, "ConsistentRead": true});
        let item = self.aws("DynamoDB_20120810.GetItem", &request).await?["Item"].take();
        for chunk in rest.chunks(raw::MAX_BATCH_WRITE) {
            let copies = chunk.iter().map(|product| raw::copy_of_stock(&item, product));
            self.aws("DynamoDB_20120810.BatchWriteItem", &raw::batch_of(copies)).await?;
        }
        Ok(())
    }

    /// Waits until the publisher has worked off what was written, so that it does not disturb what comes.
    pub(crate) async fn wait_for_publisher(&self) -> Result<(), Error> {
        let began = std::time::Instant::now();
        let (mut calls, mut since) = (0, std::time::Instant::now());
        while since.elapsed() < IDLE && began.elapsed() < IDLE_PATIENCE {
            let url = format!("{}/_local/calls", self.aws);
            let all: Vec<Value> = self.http.get(url).send().await?.json().await?;
            let publisher = all.iter().filter(|calls| calls["caller"] == "publisher");
            let now: u64 = publisher.filter_map(|calls| calls["calls"].as_u64()).sum();
            if now != calls {
                (calls, since) = (now, std::time::Instant::now());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}
