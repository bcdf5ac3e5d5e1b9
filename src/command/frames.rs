//! Many things in the body of one message.
//!
//! A frame is the length of its head and of its body (32 bits each, the big end first), the head as a JSON object, and
//! the body as it came. Members of a head are added, never renamed: who does not know one passes over it.

use bytes::{Buf, Bytes};
use serde::Serialize;

/// The bytes of a frame besides its head and its body.
const LENGTHS: usize = 8;
/// Room for a head, where it is not known yet: most are shorter.
pub(super) const HEAD: usize = 256;

/// A message ends within a frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame is cut short")]
pub(super) struct CutShort;

/// Adds a frame to a message.
pub(super) fn put(message: &mut Vec<u8>, head: &impl Serialize, body: &[u8]) {
    message.reserve(LENGTHS + HEAD + body.len());
    let lengths = message.len();
    message.extend_from_slice(&[0; LENGTHS]);
    serde_json::to_writer(&mut *message, head).expect("a head is plain data, and memory takes all");
    let head = message.len() - lengths - LENGTHS;
    message.extend_from_slice(body);
    // Both are bounded by what a message may have.
    message[lengths..lengths + 4].copy_from_slice(&(head as u32).to_be_bytes());
    message[lengths + 4..lengths + 8].copy_from_slice(&(body.len() as u32).to_be_bytes());
}

/// The heads and bodies of a message, in their order. After one that is cut short there is nothing.
pub(super) struct Frames(pub(super) Bytes);

impl Iterator for Frames {
    type Item = Result<(Bytes, Bytes), CutShort>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &mut self.0;
        if rest.is_empty() {
            return None;
        }
        let mut length = || rest.try_get_u32().ok().map(|length| length as usize);
        let lengths = length().zip(length());
        let whole = lengths.filter(|(head, body)| head.saturating_add(*body) <= rest.len());
        Some(match whole {
            Some((head, body)) => Ok((rest.split_to(head), rest.split_to(body))),
            None => {
                rest.clear();
                Err(CutShort)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn two() -> Vec<u8> {
        let mut message = Vec::new();
        put(&mut message, &json!({"number": 1}), b"{}");
        put(&mut message, &json!({}), b"");
        message
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let read: Result<Vec<_>, _> = Frames(two().into()).collect();
        let expected = [(&b"{\"number\":1}"[..], &b"{}"[..]), (b"{}", b"")];
        let expected = expected.map(|(head, body)| (Bytes::from(head), Bytes::from(body)));
        assert_eq!(read.unwrap(), expected);
        assert_eq!(Frames(Bytes::new()).next(), None);
    }

    #[test]
    fn what_is_cut_short_is_said_once() {
        let whole = two();
        let first = LENGTHS + b"{\"number\":1}{}".len();
        for length in 1..whole.len() {
            if length == first {
                continue;
            }
            let read: Vec<_> = Frames(whole[..length].to_vec().into()).collect();
            assert_eq!(read.last(), Some(&Err(CutShort)), "{length}");
            assert!(read.len() <= 2);
        }
        let huge = [&[0xff; 8][..], b"{}"].concat();
        let read: Vec<_> = Frames(huge.into()).collect();
        assert_eq!(read, [Err(CutShort)]);
    }
}
