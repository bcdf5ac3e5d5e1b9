//! Tells the bodies that need not be read and written again to be in the one form that is hashed.

/// Whether a JSON body is surely the one text that its value is written as: an object whose fields
/// are in ascending order and not themselves objects or arrays, without white space between them,
/// escapes, or numbers other than whole ones. Most commands' bodies are.
pub(super) fn is_plain(body: &[u8]) -> bool {
    object(body).is_some_and(<[u8]>::is_empty)
}

/// What comes after the object that `text` begins with.
fn object(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"{")?;
    if let Some(rest) = rest.strip_prefix(b"}") {
        return Some(rest);
    }
    let mut last: Option<&[u8]> = None;
    loop {
        let name;
        (name, rest) = string(rest)?;
        if last.is_some_and(|last| last >= name) {
            return None;
        }
        last = Some(name);
        rest = value(rest.strip_prefix(b":")?)?;
        match rest.split_first()? {
            (b',', after) => rest = after,
            (b'}', after) => return Some(after),
            _ => return None,
        }
    }
}

/// What comes after the value that `text` begins with.
fn value(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'"' => string(text).map(|(_, rest)| rest),
        b't' => text.strip_prefix(b"true"),
        b'f' => text.strip_prefix(b"false"),
        b'n' => text.strip_prefix(b"null"),
        _ => number(text),
    }
}

/// The string that `text` begins with, and what comes after it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = text
        .iter()
        .position(|byte| *byte == b'"' || *byte == b'\\' || *byte < b' ')?;
    match text[end] {
        b'"' => Some((&text[..end], &text[end + 1..])),
        _ => None,
    }
}

/// What comes after the whole number that `text` begins with, if it is small and not a negative zero.
fn number(text: &[u8]) -> Option<&[u8]> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let negative = digits.len() < text.len();
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let zero = digits.first() == Some(&b'0');
    let whole = (1..=18).contains(&length) && (!zero || (length == 1 && !negative));
    whole.then_some(&digits[length..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written_again(body: &[u8]) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(value.to_string())
    }

    #[test]
    fn the_usual_bodies_are_plain() {
        for body in [
            "{}",
            r#"{"price":4900}"#,
            r#"{"name":"사과","price":-12,"sold":true,"unit":null}"#,
            r#"{"a":0,"b":""}"#,
        ] {
            assert!(is_plain(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn what_would_be_written_otherwise_is_not_plain() {
        for body in [
            "",
            "[]",
            "1",
            "{} ",
            "{",
            r#"{"a":1}}"#,
            r#"{"a": 1}"#,
            r#"{"b":1,"a":1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e2}"#,
            r#"{"a":-0}"#,
            r#"{"a":01}"#,
            r#"{"a":12345678901234567890123}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":{}}"#,
            r#"{"a":nul}"#,
            r#"{"a":1,}"#,
        ] {
            assert!(!is_plain(body.as_bytes()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_body_is_written_as_it_is(body in r#"\{("[a-c"\\é]{0,2}"[: ](-?[0-9.e]{1,3}|"[a-z\\ ]{0,2}"|true|null|\{\}),?){0,3}\}?"#) {
            if is_plain(body.as_bytes()) {
                prop_assert_eq!(written_again(body.as_bytes()), Some(body));
            }
        }
    }
}
