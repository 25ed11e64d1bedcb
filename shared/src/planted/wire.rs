//! Carries the bugs on the way to AWS: in requests before they are sent, in answers before they are read.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::{Value, json};

use super::{any, dynamodb, outbox};

/// Names the service and the operation of a request.
const TARGET: &str = "x-amz-target";

/// Shorter than the patience of the SDK and of [`crate::aws`]: silence must be noticed here first.
const PATIENCE: Duration = Duration::from_millis(900);

/// A request, as far as bugs look at it.
#[derive(Clone, PartialEq)]
pub(super) struct Call {
    pub(super) operation: String,
    pub(super) body: Value,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    /// It went well.
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// The request was refused, and never will be applied.
    pub(super) fn refused(code: &str) -> Self {
        Self { status: 400, body: json!({"__type": code, "message": "planted"}) }
    }

    fn to_response(&self) -> Result<HttpResponse, ConnectorError> {
        response(self.status, SdkBody::from(self.body.to_string()))
    }
}

/// The configuration, by whose HTTP client the bugs are carried; as it is while none is at work.
pub(crate) fn disturbed(config: SdkConfig) -> SdkConfig {
    let Some(http) = config.http_client().filter(|_| any()) else { return config };
    let client = http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Disturbed(http.http_connector(settings, components)))
    });
    config.into_builder().http_client(client).build()
}

#[derive(Debug)]
struct Disturbed(SharedHttpConnector);

impl HttpConnector for Disturbed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let inner = self.0.clone();
        HttpConnectorFuture::new(async move { carry(&inner, request).await })
    }
}

async fn carry(
    inner: &SharedHttpConnector,
    mut request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get(TARGET).unwrap_or_default().to_owned();
    let (service, operation) = target.split_once('.').unwrap_or_default();
    let Ok(body) = serde_json::from_slice(request.body().bytes().unwrap_or_default()) else {
        return inner.call(request).await;
    };
    let sent = Call { operation: operation.to_owned(), body };
    let call = &mut sent.clone();
    if let Some(answer) = outbox::unsent(call).or_else(|| dynamodb::unsent(call)) {
        return answer.to_response();
    }
    outbox::disturb_request(call);
    dynamodb::disturb_request(call);
    if *call != sent {
        let text = call.body.to_string();
        request.headers_mut().insert(TARGET, format!("{service}.{}", call.operation));
        request.headers_mut().insert("content-length", text.len().to_string());
        *request.body_mut() = SdkBody::from(text);
    }
    let answered = inner.call(request);
    let answered = if dynamodb::silence_is_a_refusal(call) {
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Answer::refused("ThrottlingException").to_response(),
        }
    } else {
        answered.await?
    };
    let status = answered.status().as_u16();
    let bytes = ByteStream::new(answered.into_body()).collect().await;
    let bytes = bytes.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let Ok(body) = serde_json::from_slice(&bytes) else {
        return response(status, SdkBody::from(bytes));
    };
    let mut answer = Answer { status, body };
    outbox::disturb_answer(call, &mut answer);
    dynamodb::disturb_answer(call, &mut answer);
    answer.to_response()
}

fn response(status: u16, body: SdkBody) -> Result<HttpResponse, ConnectorError> {
    let status = status.try_into().map_err(|_| ConnectorError::other("no status".into(), None))?;
    let mut response = HttpResponse::new(status, body);
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}
