//! Reads what a client sent: path segments, query parameters, headers and the body, each strictly.
//!
//! Routing decodes paths leniently, and decodes `%2F` not at all, so nothing here relies on it: the
//! segments are taken from the path as it was sent, and decoded once. What is ambiguous, such as a
//! parameter that is given twice, is refused by name rather than resolved in some order.

use crate::{
    command::request::is_json, event_log::subject::Id, problem::Problem,
    request_headers::RequestHeaders,
};
use actix_web::{
    HttpRequest,
    dev::Payload,
    http::header::HeaderMap,
    web::{Bytes, BytesMut},
};
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Duration};

/// The path's segment number `index`, counted from 0 at the first slash, decoded. `field` is what
/// a problem calls it.
pub(super) fn segment<'a>(
    request: &'a HttpRequest,
    index: usize,
    field: &str,
) -> Result<Cow<'a, str>, Problem> {
    let path = request.uri().path();
    let raw = path.split('/').nth(index + 1).unwrap_or_default();
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    percent_decode(raw, false).map(Cow::Owned).ok_or_else(|| {
        Problem::malformed(
            field.to_owned(),
            format!("the {field} in the path is not percent-encoded UTF-8"),
        )
    })
}

/// An aggregate's id in the path.
pub(super) fn aggregate_id(request: &HttpRequest, index: usize) -> Result<Id, Problem> {
    checked_id(Id::new(segment(request, index, "id")?))
}

/// A document's id in the path.
pub(super) fn document_id(request: &HttpRequest, index: usize) -> Result<Id, Problem> {
    checked_id(Id::document(segment(request, index, "id")?))
}

fn checked_id<E: ToString>(id: Result<Id, E>) -> Result<Id, Problem> {
    id.map_err(|invalid| Problem::malformed("id".to_owned(), invalid.to_string()))
}

/// The query parameters, each given once.
pub(super) fn parameters(query: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode(name, true).ok_or_else(|| {
            Problem::malformed(
                "query".to_owned(),
                "a parameter's name is not percent-encoded UTF-8",
            )
        })?;
        let value = percent_decode(value, true).ok_or_else(|| {
            Problem::malformed(name.clone(), format!("{name} is not percent-encoded UTF-8"))
        })?;
        if parameters.contains_key(&name) {
            let detail = format!("{name} is given more than once");
            return Err(Problem::malformed(name, detail));
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// Refuses any query parameter, where none means anything: one that is not read would be a filter, or a
/// header, that somebody believes in.
pub(super) fn no_parameters(request: &HttpRequest) -> Result<(), Problem> {
    let Some(query) = request.uri().query().filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    match parameters(query)?.into_keys().next() {
        None => Ok(()),
        Some(name) => {
            let detail = format!("there is no parameter {name} here: only lists have any");
            Err(Problem::malformed(name, detail))
        }
    }
}

/// Decodes `%41` to `A`, and `+` to a space where that is the custom (in a query). `None` when an
/// escape is cut short or not hexadecimal, or what comes out is not UTF-8.
fn percent_decode(raw: &str, plus_is_space: bool) -> Option<String> {
    let escapes = raw.split('%').skip(1);
    let is_escape = |rest: &str| {
        let mut digits = rest.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.by_ref().count() == 2
    };
    // The library leaves alone what is no escape.
    if !escapes.into_iter().all(is_escape) {
        return None;
    }
    let spaced = match plus_is_space {
        true => Cow::Owned(raw.replace('+', " ")),
        false => Cow::Borrowed(raw),
    };
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

impl RequestHeaders for HeaderMap {
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// The address that a request comes from.
pub(super) fn address(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip())
}

/// A header that may be given once, in ASCII.
pub(super) fn header<'a>(
    request: &'a HttpRequest,
    name: &'static str,
) -> Result<Option<&'a str>, Problem> {
    request.headers().single(name)
}

/// The body of a request with commands: JSON by its content type, and no longer than the limit whether or not
/// its length is announced. `empty` is the refusal of none.
pub(super) async fn json_body(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
    most: usize,
    empty: fn() -> Problem,
) -> Result<Bytes, Problem> {
    let content_type = header(request, "Content-Type")?;
    if content_type.is_some_and(|value| !is_json(value)) {
        return Err(Problem::unsupported_media_type());
    }
    let encoded = |value: &str| !value.eq_ignore_ascii_case("identity");
    if header(request, "Content-Encoding")?.is_some_and(encoded) {
        return Err(Problem {
            field: Some("Content-Encoding".to_owned()),
            detail: "send the body without a content encoding".to_owned(),
            ..Problem::unsupported_media_type()
        });
    }
    let announced = header(request, "Content-Length")?.and_then(|length| length.parse().ok());
    if announced.is_some_and(|length: u64| length > most as u64) {
        return Err(Problem::too_large(most));
    }
    let body = tokio::time::timeout(timeout, read_bounded(payload, most))
        .await
        .map_err(|_| Problem::request_timeout())??;
    if body.is_empty() {
        return Err(empty());
    }
    if content_type.is_none() {
        return Err(Problem::unsupported_media_type());
    }
    Ok(body)
}

async fn read_bounded(mut payload: Payload, most: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::malformed("body".to_owned(), "the body ended before it was complete")
        })?;
        if body.len() + chunk.len() > most {
            return Err(Problem::too_large(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_decoded_once_and_strictly() {
        let decode = |raw| percent_decode(raw, false);
        assert_eq!(decode("o-1").as_deref(), Some("o-1"));
        assert_eq!(decode("%EC%82%AC").as_deref(), Some("사"));
        assert_eq!(decode("a%252Fb").as_deref(), Some("a%2Fb"));
        assert_eq!(decode("a+b").as_deref(), Some("a+b"));
        for wrong in ["%", "%4", "%zz", "%+1", "%FF", "a%"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_query_is_read_strictly() {
        let read = |query| parameters(query).map_err(|problem| problem.field.unwrap_or_default());
        let expected = [("q", "사과 a"), ("sort", "-price"), ("empty", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            read("q=%EC%82%AC%EA%B3%BC+a&sort=-price&&empty"),
            Ok(BTreeMap::from(expected))
        );
        assert_eq!(read(""), Ok(BTreeMap::new()));
        assert_eq!(read("limit=1&limit=1"), Err("limit".to_owned()));
        assert_eq!(read("limit=1&limi%74=2"), Err("limit".to_owned()));
        assert_eq!(read("q=%F"), Err("q".to_owned()));
        assert_eq!(read("%FF=1"), Err("query".to_owned()));
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        for right in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json;",
        ] {
            assert!(is_json(right), "{right}");
        }
        for wrong in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=euc-kr",
            "application/json, text/plain",
            "application/problem+json",
        ] {
            assert!(!is_json(wrong), "{wrong}");
        }
    }
}
