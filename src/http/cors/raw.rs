//! The same policy where no request has been read: what the parser refuses, and connections for which there
//! is no room.

use super::{ANSWER, Origin};
use std::sync::Arc;

/// The longest line that is looked at, in bytes: no origin that is allowed is longer.
const LINE: usize = 512;

/// The origins whose pages may read answers. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::http) struct Origins(Arc<[Origin]>);

impl Origins {
    pub(in crate::http) fn new(origins: &[Origin]) -> Self {
        Self(origins.into())
    }

    pub(in crate::http) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The origin that a request names in these bytes, if it is one of those. What a body says in the form of a
    /// header changes nothing: a browser takes only its own page's origin for an answer.
    pub(in crate::http) fn named_in(&self, bytes: &[u8]) -> Option<&Origin> {
        if self.is_empty() {
            return None;
        }
        let lines = bytes.split(|&byte| byte == b'\n');
        let lines = lines.filter(|line| line.len() <= LINE);
        lines.filter_map(origin).find_map(|named| {
            let mut origins = self.0.iter();
            origins.find(|origin| origin.0.as_bytes() == named)
        })
    }
}

/// The value of a line that says `Origin`.
fn origin(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = line.split_at(colon);
    name.eq_ignore_ascii_case(b"origin")
        .then(|| value[1..].trim_ascii())
}

/// The headers by which a page of this origin may read an answer, each with the end of its line.
pub(in crate::http) fn headers_for(origin: &Origin) -> String {
    format!(
        "access-control-allow-origin: {origin}\r\naccess-control-expose-headers: {}\r\nvary: Origin\r\n",
        ANSWER.join(", ").to_ascii_lowercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_origin_is_found_in_what_was_read_so_far() {
        let shop = Origin::read("https://shop.example").unwrap();
        let origins = Origins::new(std::slice::from_ref(&shop));
        for head in [
            "GET / HTTP/1.1\r\nHost: h\r\nOrigin: https://shop.example\r\nCookie: a",
            "orIGIN:https://shop.example \r\n",
        ] {
            assert_eq!(origins.named_in(head.as_bytes()), Some(&shop), "{head}");
        }
        for head in [
            "",
            "Origin",
            "Origin: https://evil.example\r\n",
            "Origin: https://shop.example.evil.example\r\n",
            "X-Origin: https://shop.example\r\n",
            "GET /?Origin: https://shop.example HTTP/1.1\r\n",
        ] {
            assert_eq!(origins.named_in(head.as_bytes()), None, "{head}");
        }
        assert_eq!(
            Origins::new(&[]).named_in(b"Origin: https://shop.example"),
            None
        );
    }
}
