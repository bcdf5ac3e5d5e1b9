//! From a command's name and body to the aggregate's own command type.
//!
//! A body of the wrong form is refused here, with the field at fault by its path, before anything
//! is loaded.

mod named;
mod plain;

use crate::{aggregate::Aggregate, event_log::codec::Fingerprint, problem::Problem, stable_hash};
use serde_json::value::RawValue;

/// Decodes the body of the named command.
///
/// # Errors
///
/// Returns a `malformed` problem that names the field.
pub fn decode<A: Aggregate>(command: &str, body: &[u8]) -> Result<A::Command, Problem> {
    // Almost every body is right, and then read once.
    match named::decode(command, body) {
        Some(decoded) => Ok(decoded),
        None => decode_slowly::<A>(command, body),
    }
}

/// As [`decode`], and knows what is wrong.
fn decode_slowly<A: Aggregate>(command: &str, body: &[u8]) -> Result<A::Command, Problem> {
    // Parsing the body by itself first makes sure that it is one whole JSON object, so that the
    // tag put around it cannot be escaped.
    let object: &RawValue = serde_json::from_slice(body)
        .map_err(|error| Problem::malformed("body".to_owned(), format!("not JSON: {error}")))?;
    if !object.get().starts_with('{') {
        return Err(Problem::malformed(
            "body".to_owned(),
            "a command's body is a JSON object",
        ));
    }
    let tagged = format!("{{\"{command}\":{}}}", object.get());
    let mut deserializer = serde_json::Deserializer::from_str(&tagged);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        let field = field_at_fault(command, &path, &message);
        Problem::malformed(field, without_place(&message))
    })
}

/// The fingerprint that tells a retry of a command from another command under the same key.
#[must_use]
pub fn fingerprint(command: &str, body: &[u8]) -> Fingerprint {
    // Formatting is not part of a command: the same fields in other white space, or in another
    // order, are the same.
    if plain::is_plain(body) {
        return Fingerprint(stable_hash::of([command.as_bytes(), body]));
    }
    let same = serde_json::from_slice::<serde_json::Value>(body).map(|value| value.to_string());
    let same = same.as_ref().map_or(body, |text| text.as_bytes());
    Fingerprint(stable_hash::of([command.as_bytes(), same]))
}

/// The path of the field at fault, without the tag that [`decode`] put around the body.
fn field_at_fault(command: &str, path: &str, message: &str) -> String {
    let path = path.strip_prefix(command).unwrap_or(path);
    let path = path.trim_start_matches('.');
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .and_then(|rest| rest.split_once('`'))
        .map(|(name, _)| name);
    match (path, named) {
        ("" | "?", Some(name)) => name.to_owned(),
        ("" | "?", None) => "body".to_owned(),
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => {
            path.to_owned()
        }
        (path, Some(name)) => format!("{}.{name}", path.trim_end_matches(".?")),
        (path, None) => path.to_owned(),
    }
}

/// The message without the place in the text, which counts from the tag and would mislead.
fn without_place(message: &str) -> &str {
    message
        .rfind(" at line ")
        .map_or(message, |place| &message[..place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Context, Decision, Rejection};
    use serde::{Deserialize, Serialize};
    use utoipa::ToSchema;

    #[derive(Default, Clone, Serialize, Deserialize)]
    struct Cart;
    #[derive(Debug, Clone, Serialize, Deserialize, ToSchema, PartialEq)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum CartCommand {
        Place {
            lines: Vec<Line>,
            note: Option<String>,
        },
        Clear {},
    }
    #[derive(Debug, Clone, Serialize, Deserialize, ToSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Line {
        sku: String,
        quantity: i64,
    }
    #[derive(Debug, thiserror::Error)]
    #[error("never")]
    struct Never;
    impl Rejection for Never {
        fn code(&self) -> &'static str {
            "never"
        }
        fn codes(_: &str) -> &'static [&'static str] {
            &[]
        }
    }
    impl Aggregate for Cart {
        const NAME: &'static str = "cart";
        type Command = CartCommand;
        type Event = ();
        type Rejection = Never;
        fn decide(&self, _: CartCommand, _: &Context) -> Result<Decision<()>, Never> {
            Ok(Decision::nothing())
        }
        fn evolve(&mut self, (): &()) {}
    }

    fn field(command: &str, body: &str) -> String {
        decode::<Cart>(command, body.as_bytes())
            .expect_err("the body is wrong")
            .field
            .expect("a malformed body names the field")
    }

    #[test]
    fn the_field_at_fault_is_named_by_its_path() {
        assert_eq!(
            field("place", r#"{"lines":[{"sku":"a","quantity":"1"}]}"#),
            "lines[0].quantity"
        );
        assert_eq!(
            field("place", r#"{"lines":[{"sku":"a","quantity":1.5}]}"#),
            "lines[0].quantity"
        );
        assert_eq!(
            field(
                "place",
                r#"{"lines":[{"sku":"a","quantity":99999999999999999999}]}"#
            ),
            "lines[0].quantity"
        );
        assert_eq!(
            field("place", r#"{"lines":[{"sku":"a"}]}"#),
            "lines[0].quantity"
        );
        assert_eq!(
            field("place", r#"{"lines":[{"sku":"a","quantity":1,"x":1}]}"#),
            "lines[0].x"
        );
        assert_eq!(field("place", r#"{"lines":7}"#), "lines");
        assert_eq!(field("place", "{}"), "lines");
        assert_eq!(field("place", r#"{"lines":[],"colour":1}"#), "colour");
        assert_eq!(field("place", r#"{"lines":[],"lines":[]}"#), "lines");
        assert_eq!(field("clear", r#"{"x":1}"#), "x");
    }

    #[test]
    fn a_body_that_is_not_one_json_object_is_refused() {
        for body in [
            "",
            "null",
            "[]",
            "7",
            "\"x\"",
            "{",
            "{}}",
            "{},\"place\":{}",
            "\u{feff}{}",
            "{} {}",
        ] {
            assert_eq!(field("clear", body), "body", "{body}");
        }
        assert_eq!(field("clear", &"[".repeat(500)), "body");
    }

    #[test]
    fn a_right_body_is_decoded() {
        assert_eq!(
            decode::<Cart>("clear", b" {} ").unwrap(),
            CartCommand::Clear {}
        );
    }

    #[test]
    fn a_fingerprint_ignores_white_space_but_not_values_or_names() {
        let of = |command, body: &str| fingerprint(command, body.as_bytes());
        assert_eq!(of("a", r#"{"x":1}"#), of("a", "{ \"x\" : 1 }"));
        assert_ne!(of("a", r#"{"x":1}"#), of("a", r#"{"x":2}"#));
        assert_ne!(of("a", r#"{"x":1}"#), of("b", r#"{"x":1}"#));
        assert_eq!(of("a", "{}"), Fingerprint(0x3c6e_488e_e4c9_b0ce));
    }
}
