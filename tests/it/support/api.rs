//! The domain's verbs over HTTP.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use serde_json::{Value, json};

/// A client of a runner.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) aws_url: String,
    pub(crate) dynamodb: Client,
    token: Option<String>,
    /// The beginning of the functions' names.
    pub(crate) prefix: String,
    /// A queue with what is published; none where the runner is asked for it.
    pub(crate) published_queue: Option<String>,
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) correlation_id: Option<String>,
    pub(crate) retry_after: Option<String>,
    /// Where the outcome of an accepted request will be found.
    pub(crate) location: Option<String>,
    /// The id that the gateway gave the request.
    pub(crate) request_id: Option<String>,
}

impl Answer {
    /// The status of the answer, with the problem's code or the reservation's status.
    pub(crate) fn code_or_status(&self) -> (u16, &str) {
        let word = self.body["code"].as_str().or(self.body["status"].as_str()).unwrap_or_default();
        (self.status, word)
    }
}

impl Api {
    pub(crate) fn new(url: String, aws_url: String) -> Self {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&aws_url)
            .credentials_provider(Credentials::new("test", "local", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Self {
            http: reqwest::Client::new(),
            url,
            aws_url,
            dynamodb: Client::from_conf(config),
            token: None,
            prefix: String::new(),
            published_queue: None,
        }
    }

    /// The same, showing a token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string(), &[]).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.header("content-type", "application/json")).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.http.patch(format!("{}{path}", self.url)).body(body.to_string())).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// None where no answer came.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        let request = self.http.post(format!("{}{path}", self.url)).body(body.to_string());
        self.try_send(request).await.ok()
    }

    async fn try_send(&self, mut request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (client, request) = request.build_split();
        let request = request?;
        let (method, path) = (request.method().to_string(), request.url().to_string());
        let path = path.strip_prefix(&self.url).unwrap_or(&path).to_owned();
        let response = client.execute(request).await?;
        let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (correlation_id, retry_after) = (header("x-correlation-id"), header("retry-after"));
        let (request_id, location) = (header("apigw-requestid"), header("location"));
        let status = response.status().as_u16();
        let media_type = header("content-type").unwrap_or_default();
        let body = serde_json::from_str(&response.text().await?).unwrap_or(Value::Null);
        crate::openapi::keeps_its_document(&method, &path, status, &media_type, &body);
        Ok(Answer { status, body, correlation_id, retry_after, location, request_id })
    }

    pub(crate) async fn add(&self, product: &str, quantity: u64) {
        let added =
            self.post("/api/inventory/add", &json!({"productId": product, "quantity": quantity})).await;
        assert_eq!(added.status, 200, "{added:?}");
    }

    pub(crate) async fn reserve(&self, order: &str, items: &[(&str, u64)]) -> Answer {
        self.post("/api/inventory/reserve", &json!({"orderId": order, "items": lines(items)})).await
    }

    /// Asks for a hold without waiting for the outcome.
    pub(crate) async fn reserve_later(&self, order: &str, items: &[(&str, u64)]) -> Answer {
        let body = json!({"orderId": order, "items": lines(items)}).to_string();
        self.post_text("/api/inventory/reserve", &body, &[("prefer", "respond-async")]).await
    }

    /// Confirm, release and the like, by order id.
    pub(crate) async fn order(&self, verb: &str, order: &str) -> Answer {
        self.post(&format!("/api/inventory/{verb}"), &json!({"orderId": order})).await
    }

    /// Available, reserved, sold.
    pub(crate) async fn stock(&self, product: &str) -> [u64; 3] {
        let answer = self.get(&format!("/api/inventory/{product}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ["availableQuantity", "reservedQuantity", "soldQuantity"]
            .map(|name| answer.body[name].as_u64().unwrap())
    }

    /// How often functions have called DynamoDB so far, apart from those that run by themselves, and from what each
    /// asks when it starts.
    pub(crate) async fn calls(&self) -> u64 {
        let url = format!("{}/_local/calls", self.aws_url);
        let calls: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let background = ["test", "publisher", "expiry-sweep"];
        let by_functions =
            calls.as_array().unwrap().iter().filter(|c| !background.contains(&c["caller"].as_str().unwrap()));
        let by_functions = by_functions.filter(|call| call["operation"] != local::dynamodb::HEALTH_CHECK);
        by_functions.map(|call| call["calls"].as_u64().unwrap()).sum()
    }

    /// Puts an order event into the queue, over the SDK, as a shop would.
    pub(crate) async fn send_order_event(&self, event: &Value) {
        self.send_order_message(&event.to_string(), &[]).await;
    }

    /// The same of any text, with attributes of the message.
    pub(crate) async fn send_order_message(&self, body: &str, attributes: &[(&str, &str)]) {
        let queue = format!("{}/000000000000/holdfast-orders", self.aws_url);
        let mut message = self.sqs().send_message().queue_url(queue).message_body(body);
        for (name, value) in attributes {
            let value =
                aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("String").string_value(*value);
            message = message.message_attributes(*name, value.build().unwrap());
        }
        message.send().await.unwrap();
    }

    /// Puts an event on the bus.
    pub(crate) async fn put_event(&self, entry: &Value) {
        let put = self.signed(self.http.post(&self.aws_url)).header("x-amz-target", "AWSEvents.PutEvents");
        let put = put.header("content-type", "application/x-amz-json-1.1");
        let answer: Value =
            put.body(json!({"Entries": [entry]}).to_string()).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["FailedEntryCount"], 0, "{answer}");
    }

    /// As one who may do everything. Neither environment looks at the signature.
    pub(crate) fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let scope = "Credential=test/20260101/us-east-1/any/aws4_request";
        let header = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=00");
        request.header("authorization", header)
    }

    /// The queues, over the SDK.
    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.aws_url)
            .credentials_provider(Credentials::new("test", "local", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }

    /// How many messages a queue holds, visible or not.
    pub(crate) async fn queued(&self, queue: &str) -> u64 {
        let url = format!("{}/000000000000/{queue}", self.aws_url);
        let answer = self.sqs().get_queue_attributes().queue_url(url).send().await.unwrap();
        let attributes = answer.attributes.unwrap();
        let numbers = attributes.iter().filter(|(name, _)| name.as_str().starts_with("ApproximateNumberOf"));
        numbers.map(|(_, number)| number.parse::<u64>().unwrap()).sum()
    }

    /// Everything that was published so far, each held against its schema.
    pub(crate) async fn published(&self) -> Vec<Value> {
        let events = match &self.published_queue {
            Some(queue) => self.received(queue).await,
            None => self.logged().await,
        };
        let of_holdfast = events.into_iter().filter(|event| event["source"] == "holdfast");
        of_holdfast
            .map(|mut event| {
                let detail = event["detail"].take();
                assert_eq!(event["detail-type"], detail["eventType"]);
                crate::contract::keeps_its_schema(&detail);
                detail
            })
            .collect()
    }

    /// The events that the runner has seen on its buses.
    async fn logged(&self) -> Vec<Value> {
        let (mut all, mut last) = (Vec::new(), 0);
        loop {
            let url = format!("{}/_local/events?after={last}", self.aws_url);
            let page: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                return all;
            }
            all.extend(events.iter().map(|event| event["event"].clone()));
            last = page["last"].as_u64().unwrap();
        }
    }

    /// The messages of a queue so far, whichever test received them.
    async fn received(&self, queue: &str) -> Vec<Value> {
        static RECEIVED: Mutex<Vec<Value>> = Mutex::new(Vec::new());
        let sqs = self.sqs();
        loop {
            let batch =
                sqs.receive_message().queue_url(queue).max_number_of_messages(10).send().await.unwrap();
            let messages = batch.messages.unwrap_or_default();
            if messages.is_empty() {
                return RECEIVED.lock().unwrap().clone();
            }
            for message in messages {
                let event = serde_json::from_str(&message.body.unwrap()).unwrap();
                RECEIVED.lock().unwrap().push(event);
                let handle = message.receipt_handle.unwrap();
                sqs.delete_message().queue_url(queue).receipt_handle(handle).send().await.unwrap();
            }
        }
    }

    /// How often an event of this name was published for a reservation or product.
    pub(crate) async fn published_count(&self, name: &str, of: &str) -> usize {
        let all = self.published().await;
        let about = |event: &&Value| event["orderId"] == of || event["productId"] == of;
        let said = all.iter().filter(|event| event["eventType"] == name).filter(about);
        // One that comes twice was said once.
        said.map(|event| event["eventId"].as_str().unwrap()).collect::<BTreeSet<_>>().len()
    }

    /// The status of an order; empty where nothing is known of it.
    pub(crate) async fn status(&self, order: &str) -> String {
        let found = self.get(&format!("/api/inventory/reservations/order/{order}")).await;
        found.body["items"][0]["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        self.until_within(Duration::from_secs(60), what, condition).await;
    }

    /// Waits until an event of this name was published so often for a reservation or product.
    pub(crate) async fn until_published(&self, times: usize, name: &str, of: &str) {
        let what = format!("{times} × {name} of {of}");
        self.until(&what, async |shop: &Self| shop.published_count(name, of).await == times).await;
    }

    /// Waits until an order has this status.
    pub(crate) async fn until_status(&self, order: &str, status: &str) {
        let what = format!("{order} is {status}");
        self.until(&what, async |shop: &Self| shop.status(order).await == status).await;
    }

    /// Waits for so long until a condition holds.
    pub(crate) async fn until_within(
        &self,
        patience: Duration,
        what: &str,
        condition: impl AsyncFn(&Self) -> bool,
    ) {
        let waiting = async {
            while !condition(self).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Nothing was made or lost: by the tables as the test reads them, and by the reconciliation.
    pub(crate) async fn conserves(&self, added: &[(&str, u64)]) {
        super::conserved(&self.dynamodb, added).await;
        self.adds_up().await;
    }

    /// Waits until the publisher has caught up, and sees that everything adds up.
    pub(crate) async fn adds_up(&self) {
        self.adds_up_of(&Value::Null).await;
    }

    /// The same of one product.
    pub(crate) async fn adds_up_for(&self, product: &str) {
        self.adds_up_of(&json!({"productId": product})).await;
    }

    async fn adds_up_of(&self, asked: &Value) {
        let settled = async {
            loop {
                let report = self.invoke("reconcile", asked).await;
                if report["holds"] == true {
                    return;
                }
                let behind = |d: &Value| d["what"].as_str().unwrap().contains("ends before the stock unit");
                let differences = report["differences"].as_array().unwrap_or_else(|| panic!("{report}"));
                assert!(differences.iter().all(behind), "{report}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled).await.expect("the publisher catches up");
    }

    /// Lambda's Invoke.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> Value {
        let name = format!("{}{function}", self.prefix);
        let url = format!("{}/2015-03-31/functions/{name}/invocations", self.aws_url);
        self.signed(self.http.post(url)).body(event.to_string()).send().await.unwrap().json().await.unwrap()
    }
}

pub(crate) fn lines(items: &[(&str, u64)]) -> Value {
    items.iter().map(|(product, quantity)| json!({"productId": product, "quantity": quantity})).collect()
}
