//! The ways of following a batch's routes: together where they lead to few documents, one by one where they may
//! lead to more, and page by page where they lead to many.

use super::{StoreError, load::document_id, load::documents_of, rows, take};
use crate::read_model::{
    exchange::{Found, Led, Needs, Page, RouteKey},
    schema::{FieldPath, ViewTables, compared},
};
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
};
use surrealdb::{
    IndexedResults,
    types::{Array, Value, Variables},
};

/// The most values of a field that one statement asks for.
const MOST_VALUES: usize = 256;
/// Of so many statements each may find as much as a transaction may have, so that together they find no
/// more than memory has room for.
const FEW: usize = 16;
/// The most documents that each of many statements may find.
const LITTLE: usize = 32;

/// The statements that follow a batch's routes.
pub(super) struct Routes<'a> {
    statements: Vec<Statement<'a>>,
    /// The most documents that one route, or a page, is to find.
    most: usize,
}

/// One statement: routes by the same field alone, since a statement costs much more than one more value
/// in it, or else one route.
struct Statement<'a> {
    paths: Vec<FieldPath>,
    routes: Vec<&'a RouteKey>,
    kind: Kind<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Together,
    Alone,
    Page { after: Option<&'a str> },
}

impl<'a> Routes<'a> {
    pub(super) fn of(needs: &'a Needs, most: usize) -> Result<Self, StoreError> {
        let mut statements: Vec<Statement<'a>> = Vec::new();
        // They are in the order of their fields.
        for route in &needs.routes {
            match statements.last_mut() {
                Some(statement) if statement.takes(route) => statement.routes.push(route),
                _ => statements.push(Statement::new(route, Kind::Together)?),
            }
        }
        for route in &needs.alone {
            statements.push(Statement::new(route, Kind::Alone)?);
        }
        if let Some(page) = &needs.page {
            let after = page.after.as_deref();
            statements.push(Statement::new(&page.route, Kind::Page { after })?);
        }
        Ok(Self { statements, most })
    }

    pub(super) fn write(&self, sql: &mut String, variables: &mut Variables, tables: &ViewTables) {
        for (number, statement) in self.statements.iter().enumerate() {
            // One more tells that there are more.
            let limit = self.most_of(statement) + 1;
            statement.write(sql, variables, tables, (number, limit));
        }
    }

    /// Notes what was found by the statements, of which the first is number `first`.
    pub(super) fn read(
        self,
        results: &mut IndexedResults,
        first: usize,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let limits: Vec<_> = self.statements.iter().map(|it| self.most_of(it)).collect();
        for ((number, statement), most) in self.statements.into_iter().enumerate().zip(limits) {
            let mut records = rows(take(results, first + number)?);
            let more = records.len() > most;
            records.truncate(most);
            let (documents, through) = documents_of(records, &mut found.foreign)?;
            match statement.kind {
                Kind::Page { .. } => {
                    let documents = statement.leading(documents);
                    found.page = Some(Page {
                        documents,
                        through: through.filter(|_| more),
                    });
                }
                Kind::Together if more => {
                    let routes = statement.routes.into_iter();
                    found
                        .routes
                        .extend(routes.map(|route| (route.clone(), Led::Crowd)));
                }
                Kind::Alone if more => {
                    let routes = statement.routes.into_iter();
                    found
                        .routes
                        .extend(routes.map(|route| (route.clone(), Led::Many)));
                }
                Kind::Together | Kind::Alone => statement.share(documents, &mut found.routes),
            }
        }
        Ok(())
    }

    fn most_of(&self, statement: &Statement<'_>) -> usize {
        match statement.kind {
            Kind::Together if self.statements.len() > FEW && statement.routes.len() == 1 => {
                self.most.min(LITTLE)
            }
            _ => self.most,
        }
    }
}

impl<'a> Statement<'a> {
    fn new(route: &'a RouteKey, kind: Kind<'a>) -> Result<Self, StoreError> {
        let paths = route.iter().map(|(field, _)| FieldPath::parse(field));
        let paths = paths.collect::<Result<_, _>>();
        Ok(Self {
            paths: paths.map_err(|error| StoreError::shape(error.to_string()))?,
            routes: vec![route],
            kind,
        })
    }

    fn takes(&self, route: &RouteKey) -> bool {
        let [(field, _)] = &route[..] else {
            return false;
        };
        let same = |known: &RouteKey| matches!(&known[..], [(known, _)] if known == field);
        self.routes.len() < MOST_VALUES && same(self.routes[0])
    }

    fn write(
        &self,
        sql: &mut String,
        variables: &mut Variables,
        tables: &ViewTables,
        (number, limit): (usize, usize),
    ) {
        let mut conditions = Vec::with_capacity(self.paths.len());
        for (index, path) in self.paths.iter().enumerate() {
            let name = format!("r{number}_{index}");
            let mut values = self.routes.iter().map(|route| route[index].1.as_str());
            match (values.len(), path.is_many()) {
                (1, many) => {
                    let compare = if many { "CONTAINS" } else { "=" };
                    conditions.push(format!("{path} {compare} ${name}"));
                    variables.insert(name, compared(values.next().unwrap_or_default()).as_ref());
                }
                (_, many) => {
                    let compare = if many { "CONTAINSANY" } else { "IN" };
                    conditions.push(format!("{path} {compare} ${name}"));
                    let values = values.map(|value| Value::String(compared(value).into_owned()));
                    let values = Value::Array(Array::from(values.collect::<Vec<_>>()));
                    variables.insert(name, values);
                }
            }
        }
        let (documents, mut index) = (&tables.documents, String::new());
        if let Kind::Page { after } = self.kind {
            if let Some(found) = tables.route_index(&self.paths) {
                index = format!(" WITH INDEX {}", found.name);
            }
            if let Some(after) = after {
                let name = format!("r{number}_after");
                conditions.push(format!("id > ${name}"));
                variables.insert(name, Value::RecordId(document_id(documents, after)));
            }
        }
        let conditions = conditions.join(" AND ");
        write!(
            sql,
            " SELECT id, seq, doc, given FROM {documents}{index} WHERE {conditions}"
        )
        .expect("a string takes all that is written");
        // An index that ends with the id is walked in this order: nothing is sorted.
        let order = match self.kind {
            Kind::Page { .. } => " ORDER BY id",
            Kind::Together | Kind::Alone => "",
        };
        write!(sql, "{order} LIMIT {limit};").expect("a string takes all that is written");
    }

    /// Those of the documents that have the very values of its only route, of those with values that are
    /// compared as the same.
    fn leading(
        &self,
        documents: Vec<(String, serde_json::Value)>,
    ) -> Vec<(String, serde_json::Value)> {
        let leads = |(_, document): &(String, serde_json::Value)| {
            let mut fields = self.paths.iter().zip(self.routes[0]);
            fields.all(|(path, (_, value))| {
                let mut same = false;
                path.each(document, &mut |found| same |= found == value.as_str());
                same
            })
        };
        documents.into_iter().filter(leads).collect()
    }

    /// Gives each route the documents that it leads to: those with its very values, of those with values
    /// that are compared as the same.
    fn share(self, documents: Vec<(String, serde_json::Value)>, to: &mut Vec<(RouteKey, Led)>) {
        if let [route] = self.routes[..] {
            return to.push((route.clone(), Led::To(self.leading(documents))));
        }
        let mut places = HashMap::with_capacity(self.routes.len());
        let mut led = vec![Vec::new(); self.routes.len()];
        for (place, route) in self.routes.iter().enumerate() {
            places.insert(route[0].1.as_str(), place);
        }
        for (id, document) in documents {
            let mut found = BTreeSet::<usize>::new();
            self.paths[0].each(&document, &mut |value| {
                found.extend(value.as_str().and_then(|value| places.get(value).copied()));
            });
            for place in found {
                led[place].push((id.clone(), document.clone()));
            }
        }
        let routes = self.routes.into_iter().cloned();
        to.extend(routes.zip(led.into_iter().map(Led::To)));
    }
}
