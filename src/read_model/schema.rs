//! The places of a view's documents: table names, field paths and indexes.
//!
//! Everything that becomes part of a SurrealQL text passes through the types of this module, which
//! are built from checked names only. Values never do: they are bound as parameters.

pub use super::field_path::SchemaError;
pub(crate) use super::{
    comparable::{comparable, compared},
    field_path::{FieldPath, sort_key},
};

use super::{
    ViewDescription,
    counting::{self, Counted},
    generation::Generation,
    ordering::{self, Direction, KeyColumn, ListOrder},
    search::{Searched, searched_text},
};
use crate::{
    event_log::subject::is_name,
    view::{Compare, Filter, Kind, Query},
};
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

/// The analyzer of `q`: the text has been cut into pieces already, of one and two characters, so that a
/// Korean word is found inside another; pieces of two alone would not find 배 (pear). See
/// [`super::search`].
const ANALYZER: &str = "DEFINE ANALYZER IF NOT EXISTS headwater_pieces TOKENIZERS blank;";

/// The tables that all views share: which generations each has, what they follow, how far they have come, what they have
/// parked and skipped, how far they were compared with the log and what was found, and which store this is.
pub(super) const SHARED: &str = "DEFINE TABLE IF NOT EXISTS checkpoint SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS parked SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS parked_head SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS behind SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS skipped SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS erased SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS verified SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS drift SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS view SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS followed SCHEMALESS; \
     DEFINE TABLE IF NOT EXISTS store SCHEMALESS;";

/// The parameters that every list has.
const RESERVED: [&str; 6] = ["q", "sort", "limit", "count", "facets", "cursor"];

/// The form in which documents are stored beside what is said of them. Tables of another form are not read:
/// the view is filled again.
const FORM: u32 = 2;

/// A field that all rows share, so that an order of all of them stands behind a value, too.
pub(crate) const SHARED_FIELD: &str = "one";

/// The name of the full-text index.
pub(crate) const TEXT_INDEX: &str = "by_pieces";

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

/// One index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) fields: Vec<FieldPath>,
    /// The keys that it has the documents with the same values in the order of, if it does; otherwise it is
    /// the order of their ids.
    pub(crate) key: Option<KeyColumn>,
}

/// The tables of one generation of one view, and their indexes.
#[derive(Debug, Clone)]
pub(crate) struct ViewTables {
    pub(crate) view: &'static str,
    pub(crate) generation: Generation,
    /// True if the indexes are known to be there: those of another version may be others.
    pub(crate) indexed: bool,
    /// True if there is what is searched by, which another version may not have.
    pub(crate) searchable: bool,
    pub(crate) documents: TableName,
    pub(crate) parts: TableName,
    pub(crate) counts: TableName,
    pub(crate) indexes: Vec<Index>,
    /// The aggregates whose events are in the documents. Another version may follow others: those are known
    /// to the store, and these are the program's where it is not known there.
    pub(crate) aggregates: Vec<String>,
    /// The orders that documents have keys under.
    pub(crate) orders: Vec<ListOrder>,
    /// The combinations of fields by whose values documents are counted.
    pub(crate) counted: Vec<Counted>,
    /// The fields that filters compare by equality, those that tell most first.
    equal: Vec<FieldPath>,
    /// The searched fields; none in a view without text search.
    pub(crate) search: Vec<FieldPath>,
    /// The fields that are compared: by filters, sort orders and routes.
    compared: Vec<FieldPath>,
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
        let mut names = BTreeSet::new();
        for filter in &view.query.filters {
            if !is_name(filter.name)
                || RESERVED.contains(&filter.name)
                || !names.insert(filter.name)
            {
                return Err(SchemaError::Filter(filter.name.to_owned()));
            }
            check_range(filter, &FieldPath::parse(filter.field)?)?;
        }
        for sort in &view.query.sorts {
            if FieldPath::parse(sort.field)?.is_many() {
                return Err(SchemaError::Sort(sort.field.to_owned()));
            }
        }
        let search = view.query.search.iter().map(|path| FieldPath::parse(path));
        let suffix = generation.suffix();
        let table = |what| TableName(format!("{}_{suffix}_f{FORM}{what}", view.name));
        Ok(Self {
            view: view.name,
            generation,
            indexed: generation.version == view.version,
            searchable: generation.version == view.version,
            documents: table(""),
            parts: table("_part"),
            counts: table("_count"),
            counted: counting::declared(&view.query)?,
            indexes: indexes(&view.query)?,
            aggregates: view
                .aggregates
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            orders: ordering::orders(&view.query)?,
            equal: declared_equal(&view.query)
                .into_iter()
                .map(FieldPath::parse)
                .collect::<Result<_, _>>()?,
            search: search.collect::<Result<_, _>>()?,
            compared: compared_fields(&view.query)?,
        })
    }

    /// Returns whether events of this aggregate are in the documents.
    pub(crate) fn follows(&self, aggregate: &str) -> bool {
        self.aggregates.iter().any(|followed| followed == aggregate)
    }

    /// The index that has the documents with the same values of some of these fields in the order of a
    /// key: the one with the field that is declared first, since that is the one that tells most.
    pub(crate) fn ordered_index(&self, equal: &[&FieldPath], key: &KeyColumn) -> Option<&Index> {
        let fits = |index: &&Index| {
            index.key.as_ref() == Some(key)
                && index.fields.iter().all(|field| equal.contains(&field))
        };
        let rank = |index: &&Index| {
            let names = |field: &FieldPath| index.fields.contains(field);
            self.equal.iter().map(names).collect::<Vec<_>>()
        };
        self.indexes.iter().filter(fits).max_by_key(rank)
    }

    /// The index by which the documents that a route leads to can be walked in the order of their ids.
    pub(crate) fn route_index(&self, fields: &[FieldPath]) -> Option<&Index> {
        let mut indexes = self.indexes.iter();
        indexes.find(|index| index.key.is_none() && index.fields == fields)
    }

    /// The statements that define the tables, with or without an index of texts. None harms what exists.
    pub(crate) fn definitions(&self, full_text: bool) -> String {
        let (documents, parts, counts) = (&self.documents, &self.parts, &self.counts);
        let mut sql = format!(
            "{SHARED} DEFINE TABLE IF NOT EXISTS {documents} SCHEMALESS; \
             DEFINE TABLE IF NOT EXISTS {parts} SCHEMALESS; \
             DEFINE TABLE IF NOT EXISTS {counts} SCHEMALESS;"
        );
        for index in &self.indexes {
            let mut fields: Vec<_> = index.fields.iter().map(ToString::to_string).collect();
            match &index.key {
                Some(key) => {
                    if fields.is_empty() {
                        fields.push(SHARED_FIELD.to_owned());
                    }
                    fields.push(key.to_string());
                }
                // Only where the id is named in an index can a range of it begin at an id. What a route
                // leads to is walked page by page.
                None => fields.push("id".to_owned()),
            }
            write!(
                sql,
                " DEFINE INDEX IF NOT EXISTS {} ON {documents} FIELDS {};",
                index.name,
                fields.join(", ")
            )
            .expect("a string takes all that is written");
        }
        if full_text && !self.search.is_empty() {
            write!(
                sql,
                " {ANALYZER} DEFINE INDEX IF NOT EXISTS {TEXT_INDEX} ON {documents} FIELDS pieces \
                 FULLTEXT ANALYZER headwater_pieces BM25;"
            )
            .expect("a string takes all that is written");
        }
        sql
    }

    /// The fields that are compared, by filters, sort orders and routes, each once.
    pub(crate) fn compared_fields(&self) -> &[FieldPath] {
        &self.compared
    }

    /// The text that `q` is compared with, in a view with text search.
    pub(crate) fn searched_text(&self, document: &serde_json::Value) -> Option<String> {
        (!self.search.is_empty()).then(|| searched_text(&self.search, document))
    }

    /// Returns what `q` is compared with, in a view with text search.
    pub(crate) fn searched(&self, document: &serde_json::Value) -> Option<Searched> {
        (!self.search.is_empty()).then(|| Searched::of(&self.search, document))
    }

    /// The document with what is compared in the form in which it is, and, where that is not how it was
    /// given, the document as it was.
    pub(crate) fn compared(
        &self,
        document: serde_json::Value,
    ) -> (serde_json::Value, Option<serde_json::Value>) {
        let mut other = false;
        for path in &self.compared {
            path.each(&document, &mut |value| other |= comparable(value).is_some());
        }
        if !other {
            return (document, None);
        }
        let mut changed = document.clone();
        for path in &self.compared {
            path.each_mut(&mut changed, &mut |value| {
                if let Some(comparable) = comparable(value) {
                    *value = comparable;
                }
            });
        }
        (changed, Some(document))
    }
}

fn sorted(fields: &[&'static str]) -> Vec<&'static str> {
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    fields
}

/// Refuses what has no answer: elements of an array are several, which are not all above or below a
/// value, and of two truths none is more.
fn check_range(filter: &Filter, path: &FieldPath) -> Result<(), SchemaError> {
    let range = filter.compare != Compare::Equal;
    match range && (path.is_many() || filter.kind == Kind::Boolean) {
        true => Err(SchemaError::Range(filter.name.to_owned())),
        false => Ok(()),
    }
}

fn compared_fields(query: &Query) -> Result<Vec<FieldPath>, SchemaError> {
    let filters = query.filters.iter().map(|filter| filter.field);
    let sorts = query.sorts.iter().map(|sort| sort.field);
    let routes = query.routes.iter().flatten().copied();
    let fields: BTreeSet<_> = filters.chain(sorts).chain(routes).collect();
    fields.into_iter().map(FieldPath::parse).collect()
}

/// For each order and direction one index of all documents, one for each filter by equality and one for
/// each combination of them that the view declares; and one for each combination of routes. Filters
/// beyond are compared row by row.
fn indexes(query: &Query) -> Result<Vec<Index>, SchemaError> {
    let mut indexes: Vec<Index> = Vec::new();
    let mut add = |fields: Vec<&str>, key: Option<KeyColumn>| -> Result<(), SchemaError> {
        let fields = fields
            .into_iter()
            .map(FieldPath::parse)
            .collect::<Result<Vec<_>, _>>()?;
        let same = |index: &Index| index.fields == fields && index.key == key;
        if indexes.iter().any(same) {
            return Ok(());
        }
        let mut words: Vec<_> = fields.iter().map(FieldPath::word).collect();
        let order = key.iter();
        words.extend(order.map(|key| format!("{}_{}", key.name, key.direction.word())));
        let mut name = format!("by_{}", words.join("_and_"));
        while indexes.iter().any(|index| index.name == name) {
            name.push('_');
        }
        indexes.push(Index { name, fields, key });
        Ok(())
    };
    let declared = declared_equal(query);
    let mut together = vec![Vec::new()];
    together.extend(declared.iter().map(|field| vec![*field]));
    for combined in &query.combined {
        let mut fields: Vec<_> = declared.clone();
        fields.retain(|field| combined.contains(field));
        if fields.len() < combined.len() {
            return Err(SchemaError::Combined(combined.join(", ")));
        }
        together.push(fields);
    }
    for order in ordering::orders(query)? {
        for direction in Direction::ALL {
            for fields in &together {
                let name = order.name.clone();
                add(fields.clone(), Some(KeyColumn { direction, name }))?;
            }
        }
    }
    for fields in &query.routes {
        add(sorted(fields), None)?;
    }
    Ok(indexes)
}

/// The fields of the filters by equality, each once, in the order in which they are declared.
fn declared_equal(query: &Query) -> Vec<&'static str> {
    let mut fields = Vec::new();
    for filter in &query.filters {
        if filter.compare == Compare::Equal && !fields.contains(&filter.field) {
            fields.push(filter.field);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Sort;
    use serde_json::json;
    use utoipa::PartialSchema;

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
    fn every_order_is_indexed_in_both_directions_alone_and_under_equalities() {
        let query = Query {
            filters: crate::read_model::tests::filters(),
            sorts: vec![crate::read_model::tests::sorts()[0]],
            combined: vec![vec!["in_stock", "category"]],
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
                "by_price_up",
                "by_category_and_price_up",
                "by_in_stock_and_price_up",
                "by_category_and_in_stock_and_price_up",
                "by_price_down",
                "by_category_and_price_down",
                "by_in_stock_and_price_down",
                "by_category_and_in_stock_and_price_down",
                "by_branch_and_section",
            ]
        );
    }

    #[test]
    fn what_has_no_answer_cannot_be_declared() {
        let view = |filters: Vec<Filter>, sorts: Vec<Sort>| ViewDescription {
            name: "product",
            version: 1,
            aggregates: &[],
            query: Query {
                filters,
                sorts,
                ..Query::default()
            },
            document: String::schema(),
            schemas: Vec::new(),
            visible: |_| crate::view::Rows::All,
        };
        let filter = |name, field, compare, kind| Filter {
            name,
            field,
            compare,
            kind,
        };
        let refused = |filter: Filter| ViewTables::of(&view(vec![filter], Vec::new())).unwrap_err();
        for compare in [Compare::AtLeast, Compare::AtMost] {
            let many = filter("f", "lines[].price", compare, Kind::Integer);
            assert!(matches!(refused(many), SchemaError::Range(_)));
            let truth = filter("f", "sold_out", compare, Kind::Boolean);
            assert!(matches!(refused(truth), SchemaError::Range(_)));
        }
        let sku = filter("sku", "lines[].sku", Compare::Equal, Kind::Text);
        assert!(ViewTables::of(&view(vec![sku], Vec::new())).is_ok());
        let twice = ViewTables::of(&view(vec![sku, sku], Vec::new())).unwrap_err();
        assert!(matches!(twice, SchemaError::Filter(_)));
        let many = Sort {
            field: "lines[].price",
            kind: Kind::Integer,
        };
        let sorted = ViewTables::of(&view(Vec::new(), vec![many])).unwrap_err();
        assert!(matches!(sorted, SchemaError::Sort(_)));
    }

    #[test]
    fn long_text_is_compared_by_its_beginning() {
        let long = "사".repeat(1_000);
        assert_eq!(compared(&long), "사".repeat(200));
        assert_eq!(compared("사과"), "사과");
        let decomposed = "\u{1109}\u{1161}".repeat(1_000);
        assert_eq!(compared(&decomposed), "사".repeat(200));
    }

    #[test]
    fn a_combination_of_what_no_filter_compares_is_refused() {
        let query = Query {
            filters: crate::read_model::tests::filters(),
            combined: vec![vec!["category", "price"]],
            ..Query::default()
        };
        assert!(matches!(indexes(&query), Err(SchemaError::Combined(_))));
    }
}
