//! Names and ids as they may stand in a subject or a path: the only place that builds one.
//!
//! Every id is checked before it becomes part of a subject, so no input can widen one.

use std::{fmt, sync::Arc};

/// The stream that holds every event and every claim.
pub const STREAM: &str = "EVENTS";

/// The longest aggregate id, in bytes.
pub const MAX_ID: usize = 64;
/// The longest document id: two aggregate ids and what joins them.
pub const MAX_DOCUMENT_ID: usize = 2 * MAX_ID + 1;
/// No id: it stands in a path where an id would, and there means the live stream of a list.
const RESERVED: &str = "live";

/// An id that is safe in a subject and in a path: 1 to 64 of `A-Z a-z 0-9 _ -`, and not `live`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

impl Id {
    /// Checks an aggregate's id.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidId`] unless it is 1 to 64 of `A-Z a-z 0-9 _ -`, and not `live`.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidId> {
        Self::bounded(id.into(), MAX_ID)
    }

    /// Checks a document's id: as [`Id::new`], up to 129 bytes.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidId`] unless it is 1 to 129 of `A-Z a-z 0-9 _ -`, and not `live`.
    pub fn document(id: impl Into<Arc<str>>) -> Result<Self, InvalidId> {
        Self::bounded(id.into(), MAX_DOCUMENT_ID)
    }

    /// Checks a document's id where it stands.
    ///
    /// # Errors
    ///
    /// As [`Id::document`].
    pub fn check_document(id: &str) -> Result<(), InvalidId> {
        Self::check(id, MAX_DOCUMENT_ID)
    }

    fn bounded(id: Arc<str>, limit: usize) -> Result<Self, InvalidId> {
        Self::check(&id, limit).map(|()| Self(id))
    }

    fn check(id: &str, limit: usize) -> Result<(), InvalidId> {
        if !is_word(id, limit) || id == RESERVED {
            return Err(InvalidId { limit });
        }
        Ok(())
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id itself, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An id of another form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to {limit} of A-Z a-z 0-9 _ -, and not {RESERVED:?}")]
pub struct InvalidId {
    limit: usize,
}

/// Returns whether this is 1 to `limit` of `A-Z a-z 0-9 _ -`: what is one token of a subject.
#[must_use]
pub fn is_word(word: &str, limit: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=limit).contains(&word.len()) && word.bytes().all(allowed)
}

/// Returns whether a name may stand in subjects, paths and table names: `[a-z][a-z0-9_]*`, at most 32.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns whether a claim's scope may stand in a subject: 1 to 32 of `A-Z a-z 0-9 _`.
#[must_use]
pub fn is_scope(scope: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=32).contains(&scope.len()) && scope.bytes().all(allowed)
}

/// `evt.<aggregate>.<id>`: where the commits of one aggregate stand.
#[must_use]
pub fn events_of(aggregate: &str, id: &Id) -> String {
    dotted(["evt", aggregate, id.as_str()])
}

/// Three tokens with dots between them, written without looking at what they are.
pub(crate) fn dotted([first, second, third]: [&str; 3]) -> String {
    let mut text = String::with_capacity(first.len() + second.len() + third.len() + 2);
    text.push_str(first);
    text.push('.');
    text.push_str(second);
    text.push('.');
    text.push_str(third);
    text
}

/// `evt.<aggregate>.*`: the commits of all aggregates of one kind.
#[must_use]
pub fn events_of_all(aggregate: &str) -> String {
    format!("evt.{aggregate}.*")
}

/// Splits `evt.<aggregate>.<id>` into the two.
#[must_use]
pub fn parse_events(subject: &str) -> Option<(&str, &str)> {
    let (aggregate, id) = subject.strip_prefix("evt.")?.split_once('.')?;
    (!aggregate.is_empty() && !id.is_empty() && !id.contains('.')).then_some((aggregate, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_bounded_word_and_never_live() {
        for id in [
            "a",
            "A-z_0",
            "lives",
            "Live",
            "LIVE",
            "live-1",
            "_",
            &"a".repeat(64),
        ] {
            assert!(Id::new(id).is_ok() && Id::document(id).is_ok(), "{id:?}");
        }
        for id in ["", "live", "a.b", "a b", "*", ">", "사과", &"a".repeat(130)] {
            assert!(Id::new(id).is_err() && Id::document(id).is_err(), "{id:?}");
        }
        assert_eq!(
            Id::new("live").unwrap_err().to_string(),
            "an id is 1 to 64 of A-Z a-z 0-9 _ -, and not \"live\""
        );
    }
}
