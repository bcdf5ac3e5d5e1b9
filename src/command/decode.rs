//! From a command's name and body to the aggregate's own command type.
//!
//! A body of the wrong form is refused here, with the field at fault by its path, before anything
//! is loaded.

mod fingerprint;
mod named;
mod whole;

use super::request;
use crate::{
    aggregate::Aggregate, event_log::codec::Fingerprint, problem::Problem, stable_hash,
    unique_fields,
};
use serde_json::value::RawValue;

/// Decodes the body of the named command.
///
/// # Errors
///
/// Returns a `malformed` problem that names the field.
pub fn decode<A: Aggregate>(command: &str, body: &[u8]) -> Result<A::Command, Problem> {
    // Almost every body is right.
    if let Some(decoded) = decode_quickly::<A>(command, body) {
        return Ok(decoded);
    }
    let body = &*whole::in_digits(body);
    match decode_quickly::<A>(command, body) {
        Some(decoded) => Ok(decoded),
        None => decode_slowly::<A>(command, body),
    }
}

/// As [`decode`], without knowing what is wrong.
fn decode_quickly<A: Aggregate>(command: &str, body: &[u8]) -> Option<A::Command> {
    let decoded = named::decode(command, body)?;
    // Structs have refused by now what is given twice, but maps have not.
    unique_fields::given_twice(body)
        .is_none()
        .then_some(decoded)
}

/// As [`decode`], and knows what is wrong.
fn decode_slowly<A: Aggregate>(command: &str, body: &[u8]) -> Result<A::Command, Problem> {
    if body.is_empty() {
        return Err(request::empty_body());
    }
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
    if let Some(field) = unique_fields::given_twice(body) {
        let detail = format!("{field} is given more than once");
        return Err(Problem::malformed(field, detail));
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

/// The fingerprint that tells a retry of a command from another command under the same key: of what was
/// decoded, so that a command is the same however its body was written.
#[must_use]
pub fn fingerprint<A: Aggregate>(name: &str, command: &A::Command, body: &[u8]) -> Fingerprint {
    // One that cannot be written down is told by what was sent.
    let hash = fingerprint::hash(command);
    Fingerprint(hash.unwrap_or_else(|_| stable_hash::of([name.as_bytes(), body])))
}

/// The path of the field at fault, without the tag that [`decode`] put around the body.
pub(super) fn field_at_fault(command: &str, path: &str, message: &str) -> String {
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
pub(super) fn without_place(message: &str) -> &str {
    message
        .rfind(" at line ")
        .map_or(message, |place| &message[..place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::cart::{Cart, CartCommand};
    use serde::Serialize;

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
        assert_eq!(
            field("place", r#"{"lines":[{"sku":"a","sku":"a","quantity":1}]}"#),
            "lines[0].sku"
        );
        assert_eq!(
            field("place", r#"{"lines":[],"tags":{"x":1,"x":1}}"#),
            "tags.x"
        );
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

    fn of(command: &str, body: &str) -> Fingerprint {
        let body = body.as_bytes();
        let decoded = decode::<Cart>(command, body).unwrap_or_else(|problem| panic!("{problem}"));
        super::fingerprint::<Cart>(command, &decoded, body)
    }

    #[test]
    fn a_fingerprint_is_of_what_a_body_says() {
        let body = r#"{"lines":[{"sku":"ab","quantity":1}],"tags":{"x":1,"y":null},"weight":2}"#;
        for same in [
            r#"{"lines":[{"sku":"ab","quantity":1}],"tags":{"x":1,"y":null},"weight":2.0,"note":null}"#,
            r#"{ "weight":2e0, "tags":{"y":null ,"x":1},"lines":[{"quantity":1,"sku":"\u0061b"}]}"#,
        ] {
            assert_eq!(of("place", same), of("place", body), "{same}");
        }
        for other in [
            r#"{"lines":[{"sku":"ab","quantity":2}],"tags":{"x":1,"y":null},"weight":2}"#,
            r#"{"lines":[{"sku":"ba","quantity":1}],"tags":{"x":1,"y":null},"weight":2}"#,
            r#"{"lines":[{"sku":"ab","quantity":1}],"tags":{"x":1},"weight":2}"#,
            r#"{"lines":[{"sku":"ab","quantity":1}],"tags":{"x":null,"y":1},"weight":2}"#,
            r#"{"lines":[{"sku":"ab","quantity":1}],"tags":{"x":1,"y":null},"weight":2.5}"#,
            r#"{"lines":[{"sku":"ab","quantity":1}],"tags":{"x":1,"y":null},"weight":2,"note":""}"#,
            r#"{"lines":[],"tags":{"x":1,"y":null},"weight":2}"#,
        ] {
            assert_ne!(of("place", other), of("place", body), "{other}");
        }
        assert_ne!(of("clear", "{}"), of("empty", "{}"));
        // The log has it: it must not change.
        assert_eq!(of("place", body), Fingerprint(0x655d_e934_1f9c_f234));
        assert_eq!(of("clear", "{}"), Fingerprint(0x12a4_140f_54ff_68f8));
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        let line = |quantity: &str| {
            format!(r#"{{"lines":[{{"sku":"1.0","quantity":{quantity}}}],"tags":{{"x":1}}}}"#)
        };
        for quantity in ["100.0", "1e2", "1.0E+2", "1000e-1"] {
            let read = decode::<Cart>("place", line(quantity).as_bytes());
            assert_eq!(read, decode::<Cart>("place", line("100").as_bytes()));
            assert_eq!(of("place", &line(quantity)), of("place", &line("100")));
        }
        for quantity in ["1.5", "1e-1", "1e30", "9223372036854775808.0"] {
            assert_eq!(field("place", &line(quantity)), "lines[0].quantity");
        }
        // It is the one that is wrong that is named.
        let body = r#"{"lines":[{"sku":"a","quantity":1.0},{"sku":"a","quantity":"1"}]}"#;
        assert_eq!(field("place", body), "lines[1].quantity");
        let body = r#"{"lines":[],"tags":{"x":1.0,"x":1}}"#;
        assert_eq!(field("place", body), "tags.x");
    }

    #[test]
    fn a_fingerprint_depends_on_the_order_of_a_list_alone() {
        let line = |sku: &str| format!(r#"{{"sku":"{sku}","quantity":1}}"#);
        let place = |lines: [&str; 2]| format!(r#"{{"lines":[{}]}}"#, lines.map(line).join(","));
        assert_ne!(
            of("place", &place(["a", "b"])),
            of("place", &place(["b", "a"]))
        );
        let tags = |names: &mut dyn Iterator<Item = u32>| {
            let tags: Vec<_> = names.map(|n| format!(r#""t{n}":{n}"#)).collect();
            format!(r#"{{"lines":[],"tags":{{{}}}}}"#, tags.join(","))
        };
        assert_eq!(
            of("place", &tags(&mut (0..50))),
            of("place", &tags(&mut (0..50).rev()))
        );
    }

    #[test]
    fn a_newer_build_s_optional_fields_leave_a_fingerprint_as_it_was() {
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Old {
            Place { name: String, price: i32 },
        }
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum New {
            Place {
                price: i64,
                unit: Option<String>,
                name: Option<String>,
            },
        }
        let old = Old::Place {
            name: "a".to_owned(),
            price: 1,
        };
        let new = |unit: Option<&str>| New::Place {
            price: 1,
            unit: unit.map(str::to_owned),
            name: Some("a".to_owned()),
        };
        let old = super::fingerprint::hash(&old).unwrap();
        assert_eq!(super::fingerprint::hash(&new(None)).unwrap(), old);
        assert_ne!(super::fingerprint::hash(&new(Some(""))).unwrap(), old);
    }
}
