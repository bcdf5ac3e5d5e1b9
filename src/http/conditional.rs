//! Entity tags and `If-None-Match` (RFC 9110, 8.8.3 and 13.1.2).

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH},
    },
    web::Bytes,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The entity tag of some bytes, in its quotes: half of their SHA-256, which is plenty to tell the
/// states of one resource apart.
pub(super) fn tag_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&hash[..16]))
}

/// Whether the client has what `tag` names already. Comparison is weak, as it is to be for this
/// header; a list of tags may come in parts.
pub(super) fn is_known(request: &HttpRequest, tag: impl AsRef<[u8]>) -> bool {
    let tag = tag.as_ref();
    request
        .headers()
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag)
}

/// Begins a 200 or, when the client has it already, a 304; with the headers that both carry.
pub(super) fn begin(request: &HttpRequest, tag: impl Into<Bytes>) -> HttpResponseBuilder {
    let tag = HeaderValue::from_maybe_shared(tag.into()).expect("a tag is visible ASCII");
    let mut response = HttpResponse::build(if is_known(request, &tag) {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    });
    response
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    response
}

/// Ends what [`begin`] began: a 304 has no body.
pub(super) fn finish(
    mut response: HttpResponseBuilder,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    let mut response = response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static(content_type)))
        .body(body.into());
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(CONTENT_TYPE);
        response = response.drop_body().map_into_boxed_body();
    }
    response
}

/// Something that is the same for the life of the process.
pub(super) struct Page {
    content_type: &'static str,
    body: Bytes,
    tag: Bytes,
}

impl Page {
    pub(super) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            content_type,
            tag: tag_of(&body).into(),
            body,
        }
    }

    pub(super) fn respond(&self, request: &HttpRequest) -> HttpResponse {
        finish(
            begin(request, self.tag.clone()),
            self.content_type,
            self.body.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_tag_is_found_in_any_form_the_header_can_have() {
        let known = |values: &[&str]| {
            let mut request = TestRequest::get();
            for value in values {
                request = request.append_header((IF_NONE_MATCH, *value));
            }
            is_known(&request.to_http_request(), "\"a.1\"")
        };
        assert!(known(&["\"a.1\""]));
        assert!(known(&["W/\"a.1\""]));
        assert!(known(&["\"b\", W/\"a.1\" ,\"c\""]));
        assert!(known(&["\"b\"", "\"a.1\""]));
        assert!(known(&["*"]));
        assert!(!known(&[]));
        assert!(!known(&["a.1"]));
        assert!(!known(&["\"a.11\""]));
        assert!(!known(&["w/\"a.1\""]));
    }
}
