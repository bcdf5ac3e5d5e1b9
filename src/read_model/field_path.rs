//! The fields of documents that a view names.

use super::comparable::comparable;
use crate::event_log::subject::is_name;
use std::fmt;

/// A field of a document, checked: `price`, `member.id`, `lines[].sku`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPath {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    name: String,
    each: bool,
}

impl FieldPath {
    pub(crate) fn parse(path: &str) -> Result<Self, SchemaError> {
        let segments = path
            .split('.')
            .map(|segment| {
                let (name, each) = match segment.strip_suffix("[]") {
                    Some(name) => (name, true),
                    None => (segment, false),
                };
                is_name(name)
                    .then(|| Segment {
                        name: name.to_owned(),
                        each,
                    })
                    .ok_or_else(|| SchemaError::Field(path.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { segments })
    }

    /// Returns whether the path reaches into the elements of an array.
    pub(crate) fn is_many(&self) -> bool {
        self.segments.iter().any(|segment| segment.each)
    }

    /// Calls `found` with each value at the path.
    pub(crate) fn each<'a>(
        &self,
        document: &'a serde_json::Value,
        found: &mut impl FnMut(&'a serde_json::Value),
    ) {
        each(&self.segments, document, found);
    }

    /// Calls `found` with each value at the path, which it may change.
    pub(super) fn each_mut(
        &self,
        document: &mut serde_json::Value,
        found: &mut impl FnMut(&mut serde_json::Value),
    ) {
        each_mut(&self.segments, document, found);
    }

    /// The value at the path, in a document where there is at most one.
    pub(crate) fn one<'a>(&self, document: &'a serde_json::Value) -> Option<&'a serde_json::Value> {
        let mut one = None;
        self.each(document, &mut |value| one = Some(value));
        one
    }

    /// A word for the names of indexes and columns.
    pub(crate) fn word(&self) -> String {
        let names: Vec<_> = self.segments.iter().map(|s| s.name.as_str()).collect();
        names.join("_")
    }
}

fn each<'a>(
    segments: &[Segment],
    value: &'a serde_json::Value,
    found: &mut impl FnMut(&'a serde_json::Value),
) {
    let Some((segment, rest)) = segments.split_first() else {
        return found(value);
    };
    match (value.get(&segment.name), segment.each) {
        (Some(value), false) => each(rest, value, found),
        (Some(serde_json::Value::Array(values)), true) => {
            for value in values {
                each(rest, value, found);
            }
        }
        _ => {}
    }
}

fn each_mut(
    segments: &[Segment],
    value: &mut serde_json::Value,
    found: &mut impl FnMut(&mut serde_json::Value),
) {
    let Some((segment, rest)) = segments.split_first() else {
        return found(value);
    };
    match (value.get_mut(&segment.name), segment.each) {
        (Some(value), false) => each_mut(rest, value, found),
        (Some(serde_json::Value::Array(values)), true) => {
            for value in values {
                each_mut(rest, value, found);
            }
        }
        _ => {}
    }
}

/// The path as SurrealQL, inside the stored row: ``doc.`lines`.*.`sku` ``.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("doc")?;
        for segment in &self.segments {
            write!(f, ".`{}`", segment.name)?;
            if segment.each {
                f.write_str(".*")?;
            }
        }
        Ok(())
    }
}

/// The value by which a document is sorted: at the path, in the form in which it is compared.
pub(crate) fn sort_key(
    path: &FieldPath,
    document: &serde_json::Value,
) -> Option<serde_json::Value> {
    let found = path.one(document)?;
    Some(comparable(found).unwrap_or_else(|| found.clone()))
}

/// A view that declares what cannot be stored: a defect of the program, which shows at its start.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The view's name cannot be a table's.
    #[error("{0:?} cannot be the name of a view")]
    View(String),
    /// A filter's name cannot be a parameter's, is that of one that every list has, or is another's.
    #[error("{0:?} cannot be the name of a filter")]
    Filter(String),
    /// A filter by at least or at most is of an array's elements, or of true and false.
    #[error("the filter {0:?} cannot compare by more or less")]
    Range(String),
    /// A list cannot be in the order of an array's elements.
    #[error("{0:?} cannot be what a list is sorted by")]
    Sort(String),
    /// A declared field is not a path of plain names.
    #[error("{0:?} cannot be a field of a view")]
    Field(String),
    /// A combination has a field in it that no filter compares by equality.
    #[error("{0:?} are not all compared by equality by filters")]
    Combined(String),
    /// A combination of fields that are counted has one in it that no filter compares by equality, or
    /// that is of an array.
    #[error("{0:?} are not all compared by equality by filters, with one value a document")]
    Counted(String),
}
