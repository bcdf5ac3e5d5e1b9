//! The parameters of a list, read from their text form and checked against what the view declares.
//!
//! Pure: it decides what is asked, not how it is found.

pub(super) mod cursor;

pub use super::comparable::MAX_TEXT;

use super::{
    search::Search,
    visible::{Visibility, narrow},
};
use crate::{
    problem::Problem,
    text::composed,
    view::{Compare, Filter, Kind, Query, Rows, Sort},
};
use cursor::{Cursor, fingerprint};
use serde_json::Value;
use std::collections::BTreeMap;

/// The number of documents a page has unless the reader says otherwise.
pub const DEFAULT_LIMIT: usize = 20;
/// The most documents that a page can have.
pub const MAX_LIMIT: usize = 200;
/// The most documents that `count=true` counts.
pub const MAX_COUNT: usize = 10_000;

/// The contents of a request for a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListQuery {
    pub(crate) filters: Vec<(Filter, Value)>,
    pub(crate) search: Option<Search>,
    pub(crate) order: Order,
    pub(crate) limit: usize,
    /// True if what matches on all pages is counted.
    pub(crate) count: bool,
    /// The filters by equality for each of whose values what matches the other filters is counted.
    pub(crate) facets: Vec<Filter>,
    /// The last key of the page before.
    pub(crate) after: Option<(SortKey, String)>,
    /// The log that the page before was of.
    pub(crate) log: Option<String>,
    /// The mark that ties a cursor to the filters and the text it was made under.
    pub(crate) fingerprint: String,
    /// The visible share of it. What the filters say of that is among them.
    pub(crate) visible: Visibility,
}

/// The value of the sort field; none where the document has no such field, or the order needs none.
pub(crate) type SortKey = Option<Value>;

/// The order of a list. The id breaks ties, in the same direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By id alone.
    Id,
    /// Best match first, then by id.
    Rank,
    /// By a declared field.
    Field { sort: Sort, descending: bool },
}

impl Order {
    /// The order as the `sort` parameter writes it; what a cursor remembers.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Id => "id".to_owned(),
            Self::Rank => "rank".to_owned(),
            Self::Field { sort, descending } => {
                format!("{}{}", if descending { "-" } else { "" }, sort.field)
            }
        }
    }
}

impl ListQuery {
    /// As [`ListQuery::read_of`], of all documents.
    #[cfg(test)]
    pub(crate) fn read(
        view: (&str, u32),
        declared: &Query,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Self, Problem> {
        Self::read_of(view, declared, parameters, &Rows::All)
    }

    /// Reads the parameters of a list of the named view, of the documents that are visible.
    pub(crate) fn read_of(
        view: (&str, u32),
        declared: &Query,
        parameters: &BTreeMap<String, String>,
        rows: &Rows,
    ) -> Result<Self, Problem> {
        let mut filters = Vec::new();
        let (mut search, mut sort, mut cursor) = (None, None, None);
        let (mut limit, mut count, mut facets) = (DEFAULT_LIMIT, false, Vec::new());
        for (name, value) in parameters {
            if let Some(filter) = declared.filters.iter().find(|filter| filter.name == name) {
                filters.push((*filter, read_value(filter, value)?));
                continue;
            }
            match name.as_str() {
                "q" if !declared.search.is_empty() => search = Some(Search::read(value)?),
                "sort" => sort = Some(read_sort(declared, value)?),
                "limit" => limit = read_limit(value)?,
                "count" => count = read_count(value)?,
                "facets" => facets = read_facets(declared, value)?,
                "cursor" => cursor = Some(value),
                _ => return Err(undeclared(declared, name)),
            }
        }
        let order = match (sort, &search, declared.sorts.first()) {
            (Some(order), _, _) => order,
            (None, Some(_), _) => Order::Rank,
            (None, None, Some(first)) => Order::Field {
                sort: *first,
                descending: false,
            },
            (None, None, None) => Order::Id,
        };
        let visible = narrow(declared, &mut filters, rows);
        let fingerprint = fingerprint(&filters, search.as_ref().map(Search::text));
        let (after, log) = match cursor {
            None => (None, None),
            Some(cursor) => {
                let cursor = Cursor::read(cursor)?;
                cursor.check(view, order, &fingerprint)?;
                (Some((cursor.key(), cursor.id)), Some(cursor.log))
            }
        };
        Ok(Self {
            filters,
            search,
            order,
            limit,
            count,
            facets,
            after,
            log,
            fingerprint,
            visible,
        })
    }
}

fn read_value(filter: &Filter, value: &str) -> Result<Value, Problem> {
    let wrong = |what: &str| {
        Problem::malformed(filter.name.to_owned(), format!("{} is {what}", filter.name))
    };
    match filter.kind {
        Kind::Text => match composed(value) {
            _ if value.len() > MAX_TEXT => Err(wrong("at most 512 bytes of text")),
            composed if composed.len() > MAX_TEXT => Err(wrong("at most 512 bytes of text")),
            composed => Ok(Value::from(composed)),
        },
        Kind::Integer => value
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| wrong("a whole number")),
        Kind::Boolean => value
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| wrong("true or false")),
    }
}

fn read_sort(declared: &Query, value: &str) -> Result<Order, Problem> {
    let (field, descending) = match value.strip_prefix('-') {
        Some(field) => (field, true),
        None => (value, false),
    };
    match declared.sorts.iter().find(|sort| sort.field == field) {
        Some(sort) => Ok(Order::Field {
            sort: *sort,
            descending,
        }),
        None => {
            let fields: Vec<_> = declared.sorts.iter().map(|sort| sort.field).collect();
            let detail = match fields.is_empty() {
                true => "this view has no other order than by id".to_owned(),
                false => format!(
                    "sort is one of {}, or one with - before it",
                    fields.join(", ")
                ),
            };
            Err(Problem::malformed("sort".to_owned(), detail))
        }
    }
}

fn read_limit(value: &str) -> Result<usize, Problem> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(limit) if digits && (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(Problem::malformed(
            "limit".to_owned(),
            "limit is a whole number from 1 to 200",
        )),
    }
}

/// The filters that a list can have facets of: those by equality, of fields with one value a document.
pub(crate) fn facetable(declared: &Query) -> impl Iterator<Item = &Filter> {
    let mut filters = declared.filters.iter();
    std::iter::from_fn(move || {
        filters.find(|filter| filter.compare == Compare::Equal && !filter.field.contains("[]"))
    })
}

fn read_facets(declared: &Query, value: &str) -> Result<Vec<Filter>, Problem> {
    let mut facets: Vec<Filter> = Vec::new();
    for name in value.split(',') {
        let facet = facetable(declared).find(|filter| filter.name == name);
        match facet {
            Some(facet) if !facets.contains(facet) => facets.push(*facet),
            _ => {
                let known: Vec<_> = facetable(declared).map(|filter| filter.name).collect();
                let detail = match known.is_empty() {
                    true => "this view has no facets".to_owned(),
                    false => format!(
                        "facets are some of {}, each once, with commas between them",
                        known.join(", ")
                    ),
                };
                return Err(Problem::malformed("facets".to_owned(), detail));
            }
        }
    }
    Ok(facets)
}

fn read_count(value: &str) -> Result<bool, Problem> {
    value
        .parse()
        .map_err(|_| Problem::malformed("count".to_owned(), "count is true or false"))
}

fn undeclared(declared: &Query, name: &str) -> Problem {
    let mut known: Vec<_> = declared.filters.iter().map(|filter| filter.name).collect();
    if !declared.search.is_empty() {
        known.push("q");
    }
    known.extend(["sort", "limit", "count", "facets", "cursor"]);
    // The name goes back to its sender: as long as any name that could be right.
    let shown: String = name.chars().take(64).collect();
    Problem::malformed(
        shown,
        format!(
            "this view has no such parameter; it has {}",
            known.join(", ")
        ),
    )
}

/// Returns whether a value can be the sort key of a document. A field may hold another type than the one
/// declared, and documents that do have their place too.
pub(crate) fn is_key_of(order: Order, key: &SortKey) -> bool {
    match order {
        Order::Id => key.is_none(),
        Order::Rank => key.as_ref().is_some_and(Value::is_i64),
        Order::Field { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_model::tests::{filters, sorts};

    fn declared() -> Query {
        Query {
            filters: filters(),
            sorts: sorts(),
            search: vec!["name"],
            routes: Vec::new(),
            combined: Vec::new(),
            counted: Vec::new(),
        }
    }

    fn read(parameters: &[(&str, &str)]) -> Result<ListQuery, Problem> {
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        ListQuery::read(("product", 1), &declared(), &parameters)
    }

    #[test]
    fn nothing_asked_is_the_first_sort_and_twenty() {
        let query = read(&[]).unwrap();
        assert_eq!(query.limit, 20);
        assert_eq!(query.order.text(), "price");
    }

    #[test]
    fn text_alone_is_ranked_and_with_a_sort_is_sorted() {
        assert_eq!(read(&[("q", "사과")]).unwrap().order, Order::Rank);
        let sorted = read(&[("q", "사과"), ("sort", "-price")]).unwrap();
        assert_eq!(sorted.order.text(), "-price");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("price_min", "ten"),
            ("price_min", "1.5"),
            ("price_min", "9223372036854775808"),
            ("in_stock", "yes"),
            ("limit", "0"),
            ("limit", "201"),
            ("limit", "+5"),
            ("limit", ""),
            ("count", "yes"),
            ("facets", ""),
            ("facets", "price_min"),
            ("facets", "category,category"),
            ("facets", "category,"),
            ("sort", "category"),
            ("sort", "--price"),
            ("q", "  "),
            ("cursor", "forged"),
            ("cursor", ""),
            ("colour", "red"),
            ("price", "1"),
        ] {
            let problem = read(&[(name, value)]).unwrap_err();
            assert_eq!(problem.status, 400);
            assert_eq!(problem.field.as_deref(), Some(name), "{name}={value}");
        }
    }

    #[test]
    fn a_cursor_of_another_question_is_refused() {
        let cursor = |query: &ListQuery| {
            Cursor::new(
                ("product", 1),
                "l",
                query,
                Some(Value::from(5)),
                "a".to_owned(),
            )
            .to_text()
        };
        let here = cursor(&read(&[("category", "fruit")]).unwrap());
        let again = read(&[("category", "fruit"), ("cursor", &here)]).unwrap();
        assert_eq!(again.after, Some((Some(Value::from(5)), "a".to_owned())));
        for other in [
            vec![("category", "bread"), ("cursor", &*here)],
            vec![("cursor", &*here)],
            vec![
                ("category", "fruit"),
                ("sort", "-price"),
                ("cursor", &*here),
            ],
            vec![
                ("category", "fruit"),
                ("q", "a"),
                ("sort", "price"),
                ("cursor", &*here),
            ],
        ] {
            assert_eq!(read(&other).unwrap_err().field.as_deref(), Some("cursor"));
        }
        let foreign = ListQuery::read(
            ("storefront", 1),
            &declared(),
            &BTreeMap::from([
                ("category".to_owned(), "fruit".to_owned()),
                ("cursor".to_owned(), here),
            ]),
        );
        assert_eq!(foreign.unwrap_err().field.as_deref(), Some("cursor"));
    }
}
