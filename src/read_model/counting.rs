//! Documents counted by the values that they share, so that how many there are is known without looking
//! at them.
//!
//! Pure. For each combination of fields that a view declares to be counted, there is one count for each
//! combination of values that some document has. A change of a document takes one from where it was and
//! adds one to where it is.

use super::field_path::{FieldPath, SchemaError, sort_key};
use crate::view::{Compare, Query};
use serde_json::Value;
use std::collections::BTreeMap;

/// Fields by whose values documents are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The mark that tells it from others of the view.
    pub(crate) name: String,
    pub(crate) fields: Vec<FieldPath>,
}

impl Counted {
    /// The values by which a document is counted; null where it has none.
    pub(crate) fn values(&self, document: &Value) -> Vec<Value> {
        let fields = self.fields.iter();
        fields
            .map(|field| sort_key(field, document).unwrap_or_default())
            .collect()
    }
}

/// The combinations that a view declares, each field of which a filter compares by equality.
pub(crate) fn declared(query: &Query) -> Result<Vec<Counted>, SchemaError> {
    let compared = |field: &&str| {
        let mut filters = query.filters.iter();
        filters.any(|filter| filter.compare == Compare::Equal && filter.field == *field)
    };
    let declared = query.counted.iter().map(|fields| {
        let name = fields.join(",");
        let paths = fields.iter().map(|field| FieldPath::parse(field));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        match fields.iter().all(compared) && !paths.iter().any(FieldPath::is_many) {
            true => Ok(Counted {
                name,
                fields: paths,
            }),
            false => Err(SchemaError::Counted(name)),
        }
    });
    declared.collect()
}

/// By how much counts change.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct CountChanges(BTreeMap<Place, i64>);

/// One count: the number of its combination, and the values as JSON.
type Place = (usize, String);

impl CountChanges {
    /// Takes in that a document has become another, or has come or gone.
    pub(crate) fn note(
        &mut self,
        counted: &[Counted],
        before: Option<&Value>,
        after: Option<&Value>,
    ) {
        for (number, combination) in counted.iter().enumerate() {
            let place = |document: &Value| {
                let values = Value::Array(combination.values(document));
                (number, values.to_string())
            };
            let (before, after) = (before.map(place), after.map(place));
            if before == after {
                continue;
            }
            if let Some(before) = before {
                *self.0.entry(before).or_default() -= 1;
            }
            if let Some(after) = after {
                *self.0.entry(after).or_default() += 1;
            }
        }
    }

    /// The number of a combination, its values, and by how much their count changes, where it does.
    pub(crate) fn changes(self) -> impl Iterator<Item = (usize, Vec<Value>, i64)> {
        let changes = self.0.into_iter().filter(|(_, by)| *by != 0);
        changes.filter_map(|((number, values), by)| {
            let values = serde_json::from_str(&values).ok()?;
            Some((number, values, by))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_model::tests::filters;
    use serde_json::json;

    fn query(counted: Vec<Vec<&'static str>>) -> Query {
        Query {
            filters: filters(),
            counted,
            ..Query::default()
        }
    }

    fn changes(of: &[(Option<Value>, Option<Value>)]) -> Vec<(usize, Vec<Value>, i64)> {
        let counted = declared(&query(vec![vec!["category", "in_stock"], vec!["category"]]));
        let counted = counted.unwrap();
        let mut changes = CountChanges::default();
        for (before, after) in of {
            changes.note(&counted, before.as_ref(), after.as_ref());
        }
        changes.changes().collect()
    }

    #[test]
    fn a_document_is_taken_from_where_it_was_and_added_to_where_it_is() {
        let apple = json!({"category": "fruit", "in_stock": true, "price": 1});
        let sold = json!({"category": "fruit", "in_stock": false});
        let other = json!({"category": "bread"});
        let come = [(None, Some(apple.clone())), (None, Some(other.clone()))];
        assert_eq!(
            changes(&come),
            [
                (0, vec![json!("bread"), json!(null)], 1),
                (0, vec![json!("fruit"), json!(true)], 1),
                (1, vec![json!("bread")], 1),
                (1, vec![json!("fruit")], 1),
            ]
        );
        let turned = [(Some(apple.clone()), Some(sold)), (Some(other), None)];
        assert_eq!(
            changes(&turned),
            [
                (0, vec![json!("bread"), json!(null)], -1),
                (0, vec![json!("fruit"), json!(false)], 1),
                (0, vec![json!("fruit"), json!(true)], -1),
                (1, vec![json!("bread")], -1),
            ]
        );
        let dearer = json!({"category": "fruit", "in_stock": true, "price": 2});
        assert_eq!(changes(&[(Some(apple), Some(dearer))]), []);
    }

    #[test]
    fn only_what_filters_compare_by_equality_is_counted() {
        for fields in [vec!["price"], vec!["category", "name"], vec!["lines[].sku"]] {
            let refused = declared(&query(vec![fields]));
            assert!(matches!(refused, Err(SchemaError::Counted(_))));
        }
    }
}
