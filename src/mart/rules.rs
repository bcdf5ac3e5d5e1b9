//! The rules on single values that the mart's aggregates share: the bounds of texts, numbers and ids.
//!
//! A value of the wrong JSON type never gets here: it is refused while the command is decoded. A
//! value of the right type but out of bounds is a refusal of the domain, [`Invalid`], with the code
//! `invalid_<field>`.

use headwater_core::{aggregate::Decision, caller::Caller, text::unseen};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData, ops::RangeInclusive};

/// The scope of those who run the mart: they may do and see everything of it.
pub const STAFF: &str = "staff";

/// Returns whether a member does something that is theirs, or staff does it.
#[must_use]
pub fn is_theirs(caller: &Caller, member: &str) -> bool {
    caller.has(STAFF) || caller.subject() == Some(member)
}

/// The longest id, in bytes: of an aggregate, and of whatever a field refers to.
pub const MAX_ID: usize = 64;

/// A value out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {must}")]
pub struct Invalid {
    code: &'static str,
    field: String,
    must: String,
}

impl Invalid {
    /// A value that is not what it must be. The code is `invalid_` and the field's name.
    pub fn new(code: &'static str, must: impl Into<String>) -> Self {
        Self {
            code,
            field: code.strip_prefix("invalid_").unwrap_or(code).to_owned(),
            must: must.into(),
        }
    }

    /// Says which element of a list the value belongs to, for example `lines[0]`.
    #[must_use]
    pub fn within(mut self, list: &str, index: usize) -> Self {
        self.field = format!("{list}[{index}].{}", self.field);
        self
    }

    /// The refusal's code, for example `invalid_price`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// Checks a whole number against its bounds.
///
/// # Errors
///
/// Returns [`Invalid`] when it is out of bounds.
pub fn number(code: &'static str, value: i64, bounds: RangeInclusive<i64>) -> Result<i64, Invalid> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let must = format!("{} to {}, but is {value}", bounds.start(), bounds.end());
    Err(Invalid::new(code, must))
}

/// Checks a text of one line, and takes the white space around it off. Lengths are in characters:
/// the longest is that of the text as it came, as the schema of its field says, and the shortest that
/// of what is left.
///
/// # Errors
///
/// Returns [`Invalid`] when it is too short or too long, or has in it what cannot be seen.
pub fn line(
    code: &'static str,
    value: &str,
    length: RangeInclusive<usize>,
) -> Result<String, Invalid> {
    text(code, value, length, &[])
}

/// Checks a text that may have line breaks and tabs, and takes the white space around it off.
/// Lengths are measured as by [`line`].
///
/// # Errors
///
/// Returns [`Invalid`] when it is too short or too long, or has in it what else cannot be seen.
pub fn lines(
    code: &'static str,
    value: &str,
    length: RangeInclusive<usize>,
) -> Result<String, Invalid> {
    text(code, value, length, &['\n', '\r', '\t'])
}

fn text(
    code: &'static str,
    value: &str,
    length: RangeInclusive<usize>,
    allowed: &[char],
) -> Result<String, Invalid> {
    let (least, most) = (*length.start(), *length.end());
    let must = format!("{least} to {most} characters that can be seen");
    let too_long = value.chars().count() > most;
    let value = value.trim();
    if too_long || value.chars().count() < least {
        return Err(Invalid::new(code, must));
    }
    match unseen(value, allowed) {
        None => Ok(value.to_owned()),
        Some(c) => Err(Invalid::new(
            code,
            format!("{must}, but U+{:04X} is among them", c as u32),
        )),
    }
}

/// Returns whether this is an id.
#[must_use]
pub fn is_id(value: &str) -> bool {
    value != "live"
        && (1..=MAX_ID).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Returns whether this is an id that others can be joined to: that of a branch, or of a section.
#[must_use]
pub fn is_prefix(value: &str) -> bool {
    is_id(value) && !value.contains('_')
}

/// The event, unless the command changes nothing.
pub(crate) fn event_if<E>(changes: bool, event: E) -> Decision<E> {
    if changes {
        Decision::event(event)
    } else {
        Decision::nothing()
    }
}

/// Reads a list of JSON objects. A derived struct by itself would also be read from an array of
/// its values, which no published schema allows.
pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(T);
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = Object<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Object)
        }
    }

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(ObjectVisitor(PhantomData))
        }
    }

    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_measured_in_characters_as_it_came_and_trimmed() {
        let name = "사".repeat(200);
        assert_eq!(line("invalid_name", &name, 1..=200), Ok(name.clone()));
        assert_eq!(
            line("invalid_name", "  사과\n", 1..=200),
            Ok("사과".to_owned())
        );
        // The published schema refuses what is longer, white space included.
        assert!(line("invalid_name", &format!("\u{85}{name}"), 1..=200).is_err());
        assert!(line("invalid_name", &format!("{name}과"), 1..=200).is_err());
        assert!(line("invalid_name", " \u{3000} ", 1..=200).is_err());
    }

    #[test]
    fn what_cannot_be_seen_is_refused_except_line_breaks_in_longer_texts() {
        let hidden = line("invalid_name", "사\u{200b}과", 1..=200).unwrap_err();
        assert_eq!(
            hidden.to_string(),
            "name must be 1 to 200 characters that can be seen, but U+200B is among them"
        );
        assert!(line("invalid_name", "a\0b", 1..=200).is_err());
        assert!(line("invalid_name", "a\nb", 1..=200).is_err());
        assert!(lines("invalid_description", "a\nb\tc", 1..=200).is_ok());
        assert!(lines("invalid_description", "a\u{7}b", 1..=200).is_err());
    }

    #[test]
    fn a_refusal_names_the_field_its_place_and_its_bounds() {
        let invalid = number("invalid_quantity", -1, 1..=99).unwrap_err();
        assert_eq!(invalid.code(), "invalid_quantity");
        assert_eq!(
            invalid.within("lines", 3).to_string(),
            "lines[3].quantity must be 1 to 99, but is -1"
        );
    }

    #[test]
    fn ids_are_bounded_and_what_others_are_joined_to_has_no_underscore() {
        assert!(is_id(&"a".repeat(64)) && is_id("A-z_0"));
        for bad in ["", "live", "a.b", "a b", "*", ">", "사과", &"a".repeat(65)] {
            assert!(!is_id(bad), "{bad:?}");
        }
        assert!(is_prefix("gangnam-2") && !is_prefix("gang_nam"));
    }
}
