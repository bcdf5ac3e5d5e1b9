//! The names that an aggregate's wire enums know, asked from their own deserialisers.

use crate::aggregate::Aggregate;
use serde::{
    Deserialize,
    de::{
        self,
        value::{MapDeserializer, StrDeserializer},
    },
};
use std::fmt;

/// The full storage names of the events of `A`, in the order in which they are declared.
///
/// # Panics
///
/// Panics when `A::Event` is not an adjacently tagged enum.
#[must_use]
#[track_caller]
pub fn event_types<A: Aggregate>() -> &'static [&'static str] {
    let tag = MapDeserializer::<_, KnownNames>::new([("type", NO_NAME)].into_iter());
    match A::Event::deserialize(tag) {
        Err(KnownNames(Some(names))) => names,
        _ => panic!("the events of {} are not tagged by `type`", A::NAME),
    }
}

/// The names of the commands of `A`, in the order in which they are declared.
///
/// # Panics
///
/// Panics when `A::Command` is not an externally tagged enum.
#[must_use]
#[track_caller]
pub fn command_names<A: Aggregate>() -> &'static [&'static str] {
    match A::Command::deserialize(StrDeserializer::<KnownNames>::new(NO_NAME)) {
        Err(KnownNames(Some(names))) => names,
        _ => panic!("the commands of {} are not an enum", A::NAME),
    }
}

/// A name that no variant has.
const NO_NAME: &str = "?";

/// The names that a derived deserialiser lists when it meets one that it does not know.
#[derive(Debug)]
struct KnownNames(Option<&'static [&'static str]>);

impl fmt::Display for KnownNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for KnownNames {}

impl de::Error for KnownNames {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(Some(expected))
    }
}
