//! Entity tags and `If-None-Match` (RFC 9110, 8.8.3 and 13.1.2).

use super::compression::{self, Coding};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::BoxBody,
    http::{
        StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, Header, HeaderValue, IF_NONE_MATCH,
            IfNoneMatch,
        },
    },
    web::Bytes,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

/// The entity tag of some bytes, in its quotes: half of their SHA-256, which is plenty to tell the
/// states of one resource apart.
pub(super) fn tag_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&hash[..16]))
}

/// Returns whether the client has what `tag` names already. Comparison is weak, as it is to be for this
/// header; a list of tags may come in parts.
pub(super) fn is_known(request: &HttpRequest, tag: &HeaderValue) -> bool {
    let mut given = request.headers().get_all(IF_NONE_MATCH);
    let Some(first) = given.next() else {
        return false;
    };
    // Mostly it is that very tag.
    if first == tag {
        return true;
    }
    match (IfNoneMatch::parse(request), entity_tag(tag)) {
        (Ok(IfNoneMatch::Any), _) => true,
        (Ok(IfNoneMatch::Items(known)), Some(tag)) => known.iter().any(|known| known.weak_eq(&tag)),
        _ => false,
    }
}

fn entity_tag(tag: &HeaderValue) -> Option<EntityTag> {
    tag.to_str().ok()?.parse().ok()
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

/// Ends what [`begin`] began, in the coding that the client takes: a 304 has no body.
pub(super) async fn finish(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    let body = body.into();
    let coding = Coding::of(request, body.len());
    let mut response = response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static(content_type)))
        .finish();
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(CONTENT_TYPE);
        coding.say(&mut response);
        return response.drop_body().map_into_boxed_body();
    }
    match coding {
        Coding::Gzip => put(response, coding, compression::gzip(body).await),
        Coding::Plain | Coding::Small => put(response, coding, body),
    }
}

fn put(mut response: HttpResponse, coding: Coding, body: Bytes) -> HttpResponse {
    coding.say(&mut response);
    response.set_body(BoxBody::new(body))
}

/// Something that is the same for the life of the process.
pub(super) struct Page {
    content_type: &'static str,
    body: Bytes,
    /// Made when it is first asked for.
    gzip: OnceCell<Bytes>,
    tag: Bytes,
}

impl Page {
    pub(super) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            content_type,
            tag: tag_of(&body).into(),
            gzip: OnceCell::new(),
            body,
        }
    }

    pub(super) async fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let response = begin(request, self.tag.clone());
        if Coding::of(request, self.body.len()) != Coding::Gzip {
            return finish(request, response, self.content_type, self.body.clone()).await;
        }
        let made = || compression::gzip_once(self.body.clone());
        let body = self.gzip.get_or_init(made).await.clone();
        let mut response = finish(request, response, self.content_type, Bytes::new()).await;
        if response.status() == StatusCode::OK {
            response = put(response, Coding::Gzip, body);
        } else {
            Coding::Gzip.say(&mut response);
        }
        response
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
            let tag = HeaderValue::from_static("\"a.1\"");
            is_known(&request.to_http_request(), &tag)
        };
        assert!(known(&["\"a.1\""]));
        assert!(known(&["W/\"a.1\""]));
        assert!(known(&["\"b\", W/\"a.1\" ,\"c\""]));
        assert!(known(&["\"b\"", "\"a.1\""]));
        assert!(known(&["*"]));
        assert!(!known(&[]));
        assert!(known(&["nonsense, \"a.1\""]));
        assert!(!known(&["a.1"]));
        assert!(!known(&["\"a.11\""]));
        assert!(!known(&["w/\"a.1\""]));
    }
}
