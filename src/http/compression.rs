//! The coding of a body: gzip for a client that takes it, where there is enough to gain.
//!
//! One coding, which every client knows, at its quickest: it makes a fifth of a list. What is streamed is
//! never coded: a coder holds back what it is given.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        ACCEPT_ENCODING, AcceptEncoding, CONTENT_ENCODING, ETAG, Encoding, Header, HeaderValue,
        VARY,
    },
    web::{self, Bytes},
};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// The shortest body that is coded, in bytes: a shorter one is one packet anyway.
const WORTH_IT: usize = 1024;
/// The longest body that is coded where it is asked for; a longer one keeps others waiting.
const AT_ONCE: usize = 64 * 1024;

/// The coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is, whoever asks.
    Small,
    /// As it is, for this client.
    Plain,
    /// As gzip.
    Gzip,
}

impl Coding {
    /// Returns how a body of this length is sent to who asks.
    pub(super) fn of(request: &HttpRequest, length: usize) -> Self {
        if length < WORTH_IT {
            return Self::Small;
        }
        if !request.headers().contains_key(ACCEPT_ENCODING) {
            return Self::Plain;
        }
        let (gzip, identity) = (Encoding::gzip(), Encoding::identity());
        let taken = AcceptEncoding::parse(request)
            .ok()
            .and_then(|accepted| accepted.negotiate([&gzip, &identity].into_iter()));
        match taken {
            Some(taken) if taken == gzip => Self::Gzip,
            _ => Self::Plain,
        }
    }

    /// Says so. The entity tag of what is coded is weak: the bytes are others than without, what they
    /// say is the same (RFC 9110, 8.8.3).
    pub(super) fn say(self, response: &mut HttpResponse) {
        let is_sent = response.status().is_success();
        let headers = response.headers_mut();
        if self == Self::Small {
            return;
        }
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if self == Self::Plain {
            return;
        }
        if is_sent {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let weak = headers.get(ETAG).and_then(|tag| {
            let tag = tag.to_str().ok().filter(|tag| !tag.starts_with("W/"))?;
            HeaderValue::from_str(&format!("W/{tag}")).ok()
        });
        if let Some(weak) = weak {
            headers.insert(ETAG, weak);
        }
    }
}

/// Codes a body.
pub(super) async fn gzip(body: Bytes) -> Bytes {
    let effort = Compression::fast();
    if body.len() <= AT_ONCE {
        return coded(&body, effort);
    }
    elsewhere(body, effort).await
}

/// Codes a body that is coded once and sent often.
pub(super) async fn gzip_once(body: Bytes) -> Bytes {
    elsewhere(body, Compression::best()).await
}

async fn elsewhere(body: Bytes, effort: Compression) -> Bytes {
    let coding = {
        let body = body.clone();
        web::block(move || coded(&body, effort)).await
    };
    coding.unwrap_or_else(|_| coded(&body, effort))
}

fn coded(body: &[u8], effort: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), effort);
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.expect("memory takes all").into()
}
