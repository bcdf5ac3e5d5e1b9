//! The rules on single values that the mart's aggregates share: the bounds of texts, numbers and ids.
//!
//! A value of the wrong JSON type never gets here: it is refused while the command is decoded. A
//! value of the right type but out of bounds is a refusal of the domain, [`Invalid`], with the code
//! `invalid_<field>`.

use crate::aggregate::Decision;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData, ops::RangeInclusive};

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

/// Checks a text of one line, and takes the white space around it off. Lengths are in characters.
///
/// # Errors
///
/// Returns [`Invalid`] when it is too short or too long, or has control characters in it.
pub fn line(
    code: &'static str,
    value: &str,
    length: RangeInclusive<usize>,
) -> Result<String, Invalid> {
    text(code, value, length, |_| false)
}

/// Checks a text that may have line breaks and tabs, and takes the white space around it off.
/// Lengths are in characters.
///
/// # Errors
///
/// Returns [`Invalid`] when it is too short or too long, or has other control characters in it.
pub fn lines(
    code: &'static str,
    value: &str,
    length: RangeInclusive<usize>,
) -> Result<String, Invalid> {
    text(code, value, length, |c| matches!(c, '\n' | '\r' | '\t'))
}

fn text(
    code: &'static str,
    value: &str,
    length: RangeInclusive<usize>,
    allowed_control: impl Fn(char) -> bool,
) -> Result<String, Invalid> {
    let value = value.trim();
    let printable = value.chars().all(|c| !c.is_control() || allowed_control(c));
    if printable && length.contains(&value.chars().count()) {
        return Ok(value.to_owned());
    }
    let (least, most) = (length.start(), length.end());
    let must = format!("{least} to {most} characters, without control characters");
    Err(Invalid::new(code, must))
}

/// Returns whether a character shows nothing and takes no place, so that two texts that differ look the
/// same: a control character, or one of those that only steer how others are shown.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Checks the id of something else: 1 to 64 of `A-Z a-z 0-9 _ -`, as everywhere.
///
/// # Errors
///
/// Returns [`Invalid`] when it is none.
pub fn id(code: &'static str, value: String) -> Result<String, Invalid> {
    if is_id(&value) {
        return Ok(value);
    }
    Err(Invalid::new(code, "1 to 64 of A-Z a-z 0-9 _ -"))
}

/// Checks a branch: an id without `_`, since that is what ends the branch in the id of a stock.
///
/// # Errors
///
/// Returns [`Invalid`] with `invalid_branch` when it is none.
pub fn branch(value: String) -> Result<String, Invalid> {
    if is_branch(&value) {
        return Ok(value);
    }
    Err(Invalid::new("invalid_branch", "1 to 64 of A-Z a-z 0-9 -"))
}

/// Whether this is an id.
#[must_use]
pub fn is_id(value: &str) -> bool {
    (1..=MAX_ID).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Whether this is the id of a branch.
#[must_use]
pub fn is_branch(value: &str) -> bool {
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
    fn a_text_is_measured_in_characters_after_trimming() {
        let name = "사".repeat(200);
        assert_eq!(
            line("invalid_name", &format!("  {name}\n"), 1..=200),
            Ok(name.clone())
        );
        assert!(line("invalid_name", &format!("{name}과"), 1..=200).is_err());
        assert!(line("invalid_name", " \u{3000} ", 1..=200).is_err());
    }

    #[test]
    fn control_characters_are_refused_except_line_breaks_in_longer_texts() {
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
    fn ids_are_bounded_and_a_branch_has_no_underscore() {
        assert!(is_id(&"a".repeat(64)) && is_id("A-z_0"));
        for bad in ["", "a.b", "a b", "*", ">", "사과", &"a".repeat(65)] {
            assert!(!is_id(bad), "{bad:?}");
        }
        assert!(is_branch("gangnam-2") && !is_branch("gang_nam"));
    }
}
