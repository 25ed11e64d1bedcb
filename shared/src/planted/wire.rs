//! Carries the bugs on the way to AWS: in requests before they are sent, in replies before they are read.

use std::time::Duration;

use super::call::{Call, Reply};
use super::{any, dynamodb, outbox};
use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

/// Names the service and the operation of a request.
const TARGET: &str = "x-amz-target";

/// Shorter than the patience of the SDK and of [`crate::aws`]: silence must be noticed here first.
const PATIENCE: Duration = Duration::from_millis(900);

/// The configuration, by whose HTTP client the bugs are carried; as it is while none is at work.
pub(crate) fn disturb_client(config: SdkConfig) -> SdkConfig {
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
    if let Some(reply) = outbox::reply_unsent(call).or_else(|| dynamodb::reply_unsent(call)) {
        return to_response(&reply);
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
    let answered = if dynamodb::reports_silence_as_refusal(call) {
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => return to_response(&Reply::refused("ThrottlingException")),
        }
    } else {
        answered.await?
    };
    let status = answered.status().as_u16();
    let bytes = ByteStream::new(answered.into_body()).collect().await;
    let bytes = bytes.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let Ok(body) = serde_json::from_slice(&bytes) else {
        return build_response(status, SdkBody::from(bytes));
    };
    let mut reply = Reply { status, body };
    outbox::disturb_reply(call, &mut reply);
    dynamodb::disturb_reply(call, &mut reply);
    to_response(&reply)
}

fn to_response(reply: &Reply) -> Result<HttpResponse, ConnectorError> {
    build_response(reply.status, SdkBody::from(reply.body.to_string()))
}

fn build_response(status: u16, body: SdkBody) -> Result<HttpResponse, ConnectorError> {
    let status = status.try_into().map_err(|_| ConnectorError::other("no status".into(), None))?;
    let mut response = HttpResponse::new(status, body);
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}
