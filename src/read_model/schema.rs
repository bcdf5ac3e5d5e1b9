//! Where a view's documents are kept: table names, field paths and indexes.
//!
//! Everything that becomes part of a SurrealQL text passes through the types of this module, which
//! are built from checked names only. Values never do: they are bound as parameters.

use super::{ViewDescription, generation::Generation};
use crate::{
    event_log::subject::is_name,
    view::{Compare, Query},
};
use std::fmt::{self, Write};

/// The analyzer of `q`. Text is cut into pieces of one and two characters, so that a Korean word is
/// found inside another; pieces of two alone would not find 배 (pear). See [`super::search`].
const ANALYZER: &str = "DEFINE ANALYZER IF NOT EXISTS headwater_text TOKENIZERS blank, class \
     FILTERS lowercase, ngram(1, 2);";

/// The tables that all views share: which generations each has, how far they have come, what they have
/// parked and skipped, and which store this is.
pub(super) const SHARED: &str = "DEFINE TABLE IF NOT EXISTS checkpoint SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS parked SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS skipped SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS view SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS store SCHEMALESS;";

/// The parameters that every list has.
const RESERVED: [&str; 5] = ["q", "sort", "limit", "count", "cursor"];

/// The name of the full-text index.
pub(crate) const TEXT_INDEX: &str = "by_text";

/// A table name, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName(String);

impl TableName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

    /// Whether the path reaches into the elements of an array.
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

    /// The value at the path, in a document where there is at most one.
    pub(crate) fn one<'a>(&self, document: &'a serde_json::Value) -> Option<&'a serde_json::Value> {
        let mut one = None;
        self.each(document, &mut |value| one = Some(value));
        one
    }

    /// A word for index names.
    fn word(&self) -> String {
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

/// One index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) fields: Vec<FieldPath>,
}

/// The tables of one generation of one view, and their indexes.
#[derive(Debug, Clone)]
pub(crate) struct ViewTables {
    pub(crate) generation: Generation,
    /// Whether the indexes are known to be there: those of another version may be others.
    pub(crate) indexed: bool,
    pub(crate) documents: TableName,
    pub(crate) parts: TableName,
    pub(crate) indexes: Vec<Index>,
    /// The searched fields; none in a view without text search.
    pub(crate) search: Vec<FieldPath>,
}

impl ViewTables {
    /// Derives the tables from what the view declares.
    pub(crate) fn of(view: &ViewDescription) -> Result<Self, SchemaError> {
        Self::generation(view, Generation::first(view.version))
    }

    /// The tables of one generation of the view, as far as is known when it is of another version.
    pub(crate) fn generation(
        view: &ViewDescription,
        generation: Generation,
    ) -> Result<Self, SchemaError> {
        if !is_name(view.name) {
            return Err(SchemaError::View(view.name.to_owned()));
        }
        for filter in &view.query.filters {
            if !is_name(filter.name) || RESERVED.contains(&filter.name) {
                return Err(SchemaError::Filter(filter.name.to_owned()));
            }
            FieldPath::parse(filter.field)?;
        }
        let search = view.query.search.iter().map(|path| FieldPath::parse(path));
        Ok(Self {
            generation,
            indexed: generation.version == view.version,
            documents: TableName(format!("{}_{}", view.name, generation.suffix())),
            parts: TableName(format!("{}_{}_part", view.name, generation.suffix())),
            indexes: indexes(&view.query)?,
            search: search.collect::<Result<_, _>>()?,
        })
    }

    /// The index whose first fields are these, if there is one.
    pub(crate) fn index(&self, fields: &[&FieldPath]) -> Option<&Index> {
        self.indexes
            .iter()
            .find(|index| index.fields.iter().eq(fields.iter().copied()))
    }

    /// The statements that define the tables, none of which harms what exists.
    pub(crate) fn definitions(&self) -> String {
        let (documents, parts) = (&self.documents, &self.parts);
        let mut sql = format!(
            "{SHARED} DEFINE TABLE IF NOT EXISTS {documents} SCHEMALESS; \
             DEFINE TABLE IF NOT EXISTS {parts} SCHEMALESS;"
        );
        for index in &self.indexes {
            let fields: Vec<_> = index.fields.iter().map(ToString::to_string).collect();
            write!(
                sql,
                " DEFINE INDEX IF NOT EXISTS {} ON {documents} FIELDS {};",
                index.name,
                fields.join(", ")
            )
            .expect("a string takes all that is written");
        }
        if !self.search.is_empty() {
            write!(
                sql,
                " {ANALYZER} DEFINE INDEX IF NOT EXISTS {TEXT_INDEX} ON {documents} FIELDS text \
                 FULLTEXT ANALYZER headwater_text BM25;"
            )
            .expect("a string takes all that is written");
        }
        sql
    }

    /// What `q` is compared with, in a view with text search.
    pub(crate) fn text(&self, document: &serde_json::Value) -> Option<String> {
        (!self.search.is_empty()).then(|| super::search::text(&self.search, document))
    }
}

fn sorted(fields: &[&'static str]) -> Vec<&'static str> {
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    fields
}

/// One index for each order alone, one for each filter by equality within each order (the record id
/// ends every key, so the order by id needs no field), and one for each combination of
/// routes. Filters beyond the first are compared row by row.
fn indexes(query: &Query) -> Result<Vec<Index>, SchemaError> {
    let mut indexes: Vec<Index> = Vec::new();
    let mut add = |fields: Vec<&str>| -> Result<(), SchemaError> {
        let fields = fields
            .into_iter()
            .map(FieldPath::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if indexes.iter().any(|index| index.fields == fields) {
            return Ok(());
        }
        let words: Vec<_> = fields.iter().map(FieldPath::word).collect();
        let mut name = format!("by_{}", words.join("_and_"));
        while indexes.iter().any(|index| index.name == name) {
            name.push('_');
        }
        indexes.push(Index { name, fields });
        Ok(())
    };
    let equal = || query.filters.iter().filter(|f| f.compare == Compare::Equal);
    for sort in &query.sorts {
        add(vec![sort.field])?;
        for filter in equal() {
            add(vec![filter.field, sort.field])?;
        }
    }
    if query.sorts.is_empty() {
        for filter in equal() {
            add(vec![filter.field])?;
        }
    }
    for fields in &query.routes {
        add(sorted(fields))?;
    }
    Ok(indexes)
}

/// A view that declares what cannot be stored: a defect of the program, which shows at its start.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The view's name cannot be a table's.
    #[error("{0:?} cannot be the name of a view")]
    View(String),
    /// A filter's name cannot be a parameter's, or is that of one that every list has.
    #[error("{0:?} cannot be the name of a filter")]
    Filter(String),
    /// A declared field is not a path of plain names.
    #[error("{0:?} cannot be a field of a view")]
    Field(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_reaches_into_objects_and_arrays() {
        let document = json!({"member": {"id": "m"}, "lines": [{"sku": "a"}, {"sku": "b"}, {}]});
        let mut found = Vec::new();
        for path in ["member.id", "lines[].sku", "member.none", "lines.sku"] {
            FieldPath::parse(path)
                .unwrap()
                .each(&document, &mut |value| found.push(value.clone()));
        }
        assert_eq!(found, [json!("m"), json!("a"), json!("b")]);
    }

    #[test]
    fn a_path_of_anything_but_names_is_refused() {
        for path in [
            "", "a..b", "a b", "a;b", "a`", "A", "a.*", "[]", "a[0]", "doc->x",
        ] {
            assert!(FieldPath::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn every_order_is_indexed_alone_and_under_each_equality() {
        let query = Query {
            filters: crate::read_model::tests::filters(),
            sorts: crate::read_model::tests::sorts(),
            routes: vec![vec!["section", "branch"]],
            ..Query::default()
        };
        let names: Vec<_> = indexes(&query)
            .unwrap()
            .into_iter()
            .map(|i| i.name)
            .collect();
        assert_eq!(
            names,
            [
                "by_price",
                "by_category_and_price",
                "by_in_stock_and_price",
                "by_name",
                "by_category_and_name",
                "by_in_stock_and_name",
                "by_branch_and_section",
            ]
        );
    }
}
