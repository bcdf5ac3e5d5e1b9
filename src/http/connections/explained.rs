//! The words that the parser's own refusals lack.
//!
//! What is no HTTP, too long or too late is answered below everything that knows a
//! [`Problem`](crate::problem::Problem): with a status and an empty body, after which the connection
//! is closed. Here the problem is put into it on its way out.

use crate::{
    http::{
        cors::{Origin, headers_for},
        refusal::PROBLEM_JSON,
    },
    problem::Problem,
};

/// The beginning of the head of such an answer.
const BEGINS: &[u8] = b"HTTP/1.1 4";
/// The line between the status and the headers. None of the gateway's own refusals is empty.
const EMPTY: &[u8] = b"\r\ncontent-length: 0\r\n";
const END: &[u8] = b"\r\n\r\n";
/// The longest head of such an answer, in bytes.
const HEAD: usize = 256;

/// Returns what is to be written instead, where the last answer in `written` is one of the parser's; with the
/// headers that let the page read it that the request is known to be of.
pub(super) fn explained(written: &[u8], origin: Option<&Origin>) -> Option<Vec<u8>> {
    if !written.ends_with(END) {
        return None;
    }
    let from = written.len().saturating_sub(HEAD);
    let begins = written[from..]
        .windows(BEGINS.len())
        .rposition(|bytes| bytes == BEGINS)?;
    let (before, head) = written.split_at(from + begins);
    let line = head.windows(2).position(|bytes| bytes == b"\r\n")?;
    let headers = head[line..].strip_prefix(EMPTY)?;
    let problem = problem(&head[BEGINS.len() - 1..][..3])?;
    let body = problem.to_json();
    let mut instead = Vec::with_capacity(before.len() + head.len() + body.len() + 64);
    instead.extend_from_slice(before);
    instead.extend_from_slice(&head[..line]);
    let said = format!(
        "\r\ncontent-length: {}\r\ncontent-type: {PROBLEM_JSON}\r\n",
        body.len()
    );
    instead.extend_from_slice(said.as_bytes());
    if let Some(origin) = origin {
        instead.extend_from_slice(headers_for(origin).as_bytes());
    }
    instead.extend_from_slice(headers);
    instead.extend_from_slice(&body);
    Some(instead)
}

fn problem(status: &[u8]) -> Option<Problem> {
    match status {
        b"400" => Some(Problem::malformed(
            "request".to_owned(),
            "this is not a request of HTTP/1.1",
        )),
        b"408" => Some(Problem {
            detail: "the head of the request did not arrive in time; nothing was done".to_owned(),
            ..Problem::request_timeout()
        }),
        b"431" => Some(Problem::headers_too_large()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str =
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: Fri\r\n\r\n";

    #[test]
    fn an_empty_refusal_gets_its_words() {
        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        for before in ["", before] {
            let instead = explained(format!("{before}{BAD}").as_bytes(), None).unwrap();
            let instead = String::from_utf8(instead).unwrap();
            let instead = instead.strip_prefix(before).unwrap();
            let (head, body) = instead.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
            assert!(head.ends_with("connection: close\r\ndate: Fri"), "{head}");
            let length = format!("content-length: {}\r\n", body.len());
            assert!(head.contains(&length), "{head}");
            let problem: Problem = serde_json::from_str(body).unwrap();
            assert_eq!((problem.status, &*problem.code), (400, "malformed"));
        }
    }

    #[test]
    fn a_page_that_may_read_it_is_told_so() {
        let shop = Origin::read("https://shop.example").unwrap();
        let instead = explained(BAD.as_bytes(), Some(&shop)).unwrap();
        let instead = String::from_utf8(instead).unwrap();
        let allowed = "\r\naccess-control-allow-origin: https://shop.example\r\n";
        assert!(instead.contains(allowed), "{instead}");
    }

    #[test]
    fn everything_else_is_left_as_it_is() {
        for written in [
            "",
            "\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            // What a HEAD is answered.
            "HTTP/1.1 404 Not Found\r\ncontent-length: 20\r\n\r\n",
            "HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(explained(written.as_bytes(), None), None, "{written}");
        }
    }
}
