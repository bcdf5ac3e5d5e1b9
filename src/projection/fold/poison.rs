//! The reason why an event was not applied, in words that repeat no data: the reasons of what is parked are kept and
//! logged, and outlive personal data that was withdrawn.

use crate::read_model::exchange::Needs;
use crate::view::{ApplyError, PartKey, Parts};
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The reason why an event was not applied.
pub(super) enum Failure {
    /// Something is not known yet.
    Unmet,
    /// It touches many documents, and the next of them are not known yet: what follows is none of this
    /// transaction.
    Waits,
    /// The view cannot apply it.
    Poison(Poison),
}

/// An event that the view cannot apply.
pub(super) struct Poison {
    pub(super) reason: String,
    /// True if this program does not know what it is; a later one may.
    pub(super) unknown: bool,
}

impl Poison {
    /// One that no program can apply.
    pub(super) fn failure(reason: String) -> Failure {
        let unknown = false;
        Failure::Poison(Self { reason, unknown })
    }

    /// A commit that cannot be read at all: it may be of a form that a later program writes.
    pub(super) fn unreadable(reason: &str) -> Self {
        Self {
            reason: without_values(reason),
            unknown: true,
        }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let unknown = error.is_unknown_type();
        let reason = match &error {
            ApplyError::Decode(_) if unknown => "the type of the event is unknown".to_owned(),
            ApplyError::Decode(error) => without_values(&error.to_string()),
            // The view's own words.
            ApplyError::Refused(reason) => reason.clone(),
        };
        Self::Poison(Poison { reason, unknown })
    }
}

/// Calls into the view, which may panic: that is one more way to refuse an event.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Failure::from),
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|message| (*message).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let message = without_values(&message);
            Err(Poison::failure(format!("the view panicked: {message}")))
        }
    }
}

/// As [`guard`]; the answer counts only if no part was missing. Beside it are the watched parts that were
/// asked for.
pub(super) fn guard_with_parts<P, T>(
    parts: &Parts<P>,
    needs: &mut Needs,
    call: impl FnOnce() -> Result<T, ApplyError>,
) -> Result<(T, BTreeSet<PartKey>), Failure> {
    let result = guard(call);
    let missing = parts.take_missing();
    let asked = parts.take_asked();
    if missing.is_empty() {
        return result.map(|result| (result, asked));
    }
    needs.parts.extend(missing);
    Err(Failure::Unmet)
}

/// A message without what stands between quotes in it, and without the numbers and characters that serde
/// shows in back quotes. The names of fields and types stay.
fn without_values(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(['"', '`']) {
        let (before, quoted) = rest.split_at(at);
        let quote = &quoted[..1];
        let names = quote == "`" && !VALUES.iter().any(|value| before.ends_with(value));
        shown.push_str(before);
        let end = closing(&quoted[1..], quote).map_or(quoted.len(), |end| end + 2);
        match names {
            true => shown.push_str(&quoted[..end]),
            false => {
                shown.push_str(quote);
                shown.push('…');
                shown.push_str(quote);
            }
        }
        rest = &quoted[end..];
    }
    shown.push_str(rest);
    shown
}

/// The words of a message of serde before a value in back quotes.
const VALUES: [&str; 4] = ["integer ", "floating point ", "character ", "boolean "];

/// The place of the closing quote: one that is not escaped.
fn closing(text: &str, quote: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let ends = !escaped && quote.starts_with(character);
        escaped = character == '\\' && !escaped;
        ends.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Person {
        #[allow(dead_code)]
        age: u8,
    }

    fn refused(json: &str) -> String {
        let error = serde_json::from_str::<Person>(json).unwrap_err();
        without_values(&error.to_string())
    }

    #[test]
    fn a_reason_names_the_field_and_not_its_value() {
        for (json, secret) in [
            (r#"{"age":"Kim \"the\" Younger"}"#, "Kim"),
            (r#"{"age":"Kim \"the\" Younger"}"#, "Younger"),
            (r#"{"age":821104}"#, "821104"),
            (r#"{"age":1.5}"#, "1.5"),
            (r#"{"age":true}"#, "true"),
        ] {
            let reason = refused(json);
            assert!(!reason.contains(secret), "{reason}");
            assert!(reason.contains("line 1"), "{reason}");
        }
        assert!(refused("{}").contains("missing field `age`"));
        assert_eq!(without_values(r#"called on "Kim"#), "called on \"…\"");
    }
}
