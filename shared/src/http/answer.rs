//! Successful answers, and the HTTP responses that answers and problems become.

use std::time::Duration;

use lambda_http::http::{HeaderName, HeaderValue, StatusCode, header};
use lambda_http::{Body, Response};
use serde::Serialize;

use super::prefer::RESPOND_ASYNC;
use super::{CORRELATION_ID, Problem};
use crate::domain::ReservationId;

/// How long a browser may show a file of the program after a new version of it was deployed.
const FILE_MAX_AGE: Duration = Duration::from_secs(300);

/// The header that names the preferences which were honoured. Source: RFC 7240.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    pub(super) status: StatusCode,
    content_type: &'static str,
    body: Body,
    cache: Cache,
    /// The Content-Security-Policy of a page; none for an answer that no browser shows.
    content_policy: Option<&'static str>,
    /// The reservation that an accepted request will have; none for a request that is done.
    accepted: Option<ReservationId>,
}

/// How long anybody may keep an answer.
#[derive(Debug)]
enum Cache {
    /// Not at all.
    Never,
    /// As long as the settings say.
    AsSet,
    /// For this long, whatever the settings say.
    For(Duration),
}

impl Answer {
    /// 200 with a JSON body.
    ///
    /// # Errors
    /// If the body does not serialise, which is a bug.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 where this request had the effect, 200 where an earlier one had it.
    ///
    /// # Errors
    /// If the body does not serialise, which is a bug.
    pub fn created(first: bool, body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(if first { StatusCode::CREATED } else { StatusCode::OK }, body)
    }

    /// 202: the request is accepted, and the reservation with this id will say what came of it. The caller prefers not to
    /// wait.
    ///
    /// # Errors
    /// If the body does not serialise, which is a bug.
    pub fn accepted(reservation: ReservationId, body: &impl Serialize) -> Result<Self, Problem> {
        Ok(Self { accepted: Some(reservation), ..Self::json(StatusCode::ACCEPTED, body)? })
    }

    /// A body that is JSON text already, with 201 where something began to exist.
    #[must_use]
    pub fn stored(created: bool, body: String) -> Self {
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        Self::json_text(status, body)
    }

    /// 200 with a page or another file that is a part of the program. `content_policy` is its Content-Security-Policy.
    #[must_use]
    pub fn file(content_type: &'static str, content: impl Into<Body>, content_policy: &'static str) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: content.into(),
            cache: Cache::For(FILE_MAX_AGE),
            content_policy: Some(content_policy),
            accepted: None,
        }
    }

    /// Lets caches keep the answer for as long as the settings say. It must be the same for every caller.
    #[must_use]
    pub fn cacheable(self) -> Self {
        Self { cache: Cache::AsSet, ..self }
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_string(body).map_err(|e| Problem::internal(format!("an answer: {e}")))?;
        Ok(Self::json_text(status, body))
    }

    fn json_text(status: StatusCode, body: String) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: Body::Text(body),
            cache: Cache::Never,
            content_policy: None,
            accepted: None,
        }
    }

    fn into_response(self, public_cache: Duration) -> Response<Body> {
        let max_age = match self.cache {
            Cache::Never => Duration::ZERO,
            Cache::AsSet => public_cache,
            Cache::For(time) => time,
        };
        let mut response = response(self.status, self.content_type, self.body, max_age);
        if let Some(policy) = self.content_policy {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        if let Some(reservation) = self.accepted {
            let location = HeaderValue::from_str(&format!("/api/inventory/reservations/{reservation}"));
            let headers = response.headers_mut();
            headers.insert(header::LOCATION, location.expect("a UUID fits a header"));
            headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
        }
        response
    }
}

impl Problem {
    fn into_response(self, correlation_id: &str) -> Response<Body> {
        let body = Body::Text(self.to_json(correlation_id));
        let mut response = response(self.status, "application/problem+json", body, Duration::ZERO);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The response to a request. `public_cache` is how long caches may keep an answer that is cacheable.
pub(super) fn respond(
    outcome: Result<Answer, Problem>,
    correlation_id: &str,
    public_cache: Duration,
) -> Response<Body> {
    let mut response = match outcome {
        Ok(answer) => answer.into_response(public_cache),
        Err(problem) => problem.into_response(correlation_id),
    };
    if let Ok(id) = HeaderValue::from_str(correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    response
}

fn response(status: StatusCode, content_type: &'static str, body: Body, max_age: Duration) -> Response<Body> {
    let cache_control = match max_age.as_secs() {
        0 => "no-store".to_owned(),
        seconds => format!("public, max-age={seconds}"),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(value) = HeaderValue::from_str(&cache_control) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Duration = Duration::from_secs(30);

    /// Status, headers by name, and the body.
    fn respond_in_full(outcome: Result<Answer, Problem>, public_cache: Duration) -> (u16, Vec<String>, Body) {
        let response = respond(outcome, "c", public_cache);
        let (parts, body) = response.into_parts();
        let header = |(name, value): (_, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut headers: Vec<String> = parts.headers.iter().map(header).collect();
        headers.sort();
        (parts.status.as_u16(), headers, body)
    }

    #[test]
    fn json_is_kept_by_nobody_unless_it_is_public_and_the_settings_allow_it() {
        let answer = || Answer::created(true, &[1]).unwrap();
        let headers = |cache| {
            ["cache-control: ", "content-type: application/json", "x-correlation-id: c"]
                .map(|line| line.replace("cache-control: ", &format!("cache-control: {cache}")))
        };
        let (status, never, body) = respond_in_full(Ok(answer()), SET);
        assert_eq!((status, never.as_slice()), (201, headers("no-store").as_slice()));
        assert!(matches!(body, Body::Text(text) if text == "[1]"));
        assert_eq!(respond_in_full(Ok(answer().cacheable()), SET).1, headers("public, max-age=30"));
        assert_eq!(respond_in_full(Ok(answer().cacheable()), Duration::ZERO).1, headers("no-store"));
    }

    /// Bytes stay bytes: they are what API Gateway is sent as base64.
    #[test]
    fn a_file_says_what_it_is_and_what_may_be_loaded_for_it() {
        let icon: &[u8] = b"\x89PNG";
        let (status, headers, body) =
            respond_in_full(Ok(Answer::file("image/png", icon, "default-src 'none'")), SET);
        let expected = [
            "cache-control: public, max-age=300",
            "content-security-policy: default-src 'none'",
            "content-type: image/png",
            "x-content-type-options: nosniff",
            "x-correlation-id: c",
        ];
        assert_eq!((status, headers.as_slice()), (200, expected.map(str::to_owned).as_slice()));
        assert!(matches!(body, Body::Binary(bytes) if bytes == icon));
        let (_, _, page) = respond_in_full(Ok(Answer::file("text/html", "<p>", "default-src 'self'")), SET);
        assert!(matches!(page, Body::Text(text) if text == "<p>"));
    }

    #[test]
    fn a_problem_is_kept_by_nobody_and_says_when_to_come_again() {
        let (status, headers, _) = respond_in_full(Err(Problem::try_again("x")), SET);
        let expected = [
            "cache-control: no-store",
            "content-type: application/problem+json",
            "retry-after: 1",
            "x-correlation-id: c",
        ];
        assert_eq!((status, headers.as_slice()), (503, expected.map(str::to_owned).as_slice()));
    }
}
