//! The counts that are kept, beside those that come of counting the documents.

use super::{Store, StoreError, counts::read_count, rows, take};
use crate::read_model::{
    counting::Counted,
    schema::{ViewTables, comparable},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::{collections::BTreeMap, fmt::Write};
use surrealdb::types::{Object, Value, Variables};

/// The most differences that are told one by one.
const TOLD: usize = 100;

/// A count that is not the number of documents that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountDifference {
    /// The fields that are counted together, joined by commas.
    pub fields: String,
    /// Their values.
    pub values: Vec<Json>,
    /// The count that is kept.
    pub stored: i64,
    /// The number of documents with these values.
    pub documents: i64,
}

/// The result of comparing counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedCounts {
    /// The number of counts, of those that are kept and those that should be.
    pub checked: u64,
    /// The number that differ.
    pub different: u64,
    /// The first of those, at most a hundred.
    pub differences: Vec<CountDifference>,
}

impl Store {
    /// Compares the counts that are kept of a view's documents with the documents, those of each combination of
    /// fields in one snapshot with them. What is written meanwhile does not wait for it.
    pub(crate) async fn compare_counts(
        &self,
        tables: &ViewTables,
    ) -> Result<ComparedCounts, StoreError> {
        let mut compared = ComparedCounts::default();
        for counted in &tables.counted {
            for (values, [stored, documents]) in self.counts_beside(tables, counted).await? {
                compared.checked += 1;
                if stored == documents {
                    continue;
                }
                compared.different += 1;
                if compared.differences.len() < TOLD {
                    compared.differences.push(CountDifference {
                        fields: counted.name.clone(),
                        values: serde_json::from_str(&values).unwrap_or_default(),
                        stored,
                        documents,
                    });
                }
            }
        }
        Ok(compared)
    }

    /// By the values of a combination, as JSON: the count that is kept, and how many documents there are.
    async fn counts_beside(
        &self,
        tables: &ViewTables,
        counted: &Counted,
    ) -> Result<BTreeMap<String, [i64; 2]>, StoreError> {
        let (mut selected, mut names) = (String::new(), Vec::new());
        for (number, field) in counted.fields.iter().enumerate() {
            write!(selected, "{field} AS v{number}, ").expect("a string takes all that is written");
            names.push(format!("v{number}"));
        }
        let (documents, counts, names) = (&tables.documents, &tables.counts, names.join(", "));
        // One statement is one transaction.
        let sql = format!(
            "RETURN {{ stored: (SELECT id, n FROM {counts}:[$name]..[$name, ..]), \
             documents: (SELECT {selected}count() AS n FROM {documents} GROUP BY {names}) }};"
        );
        let mut variables = Variables::new();
        variables.insert("name", counted.name.as_str());
        let mut results = self.read(sql, variables).await?;
        let Value::Object(mut both) = take(&mut results, 0)? else {
            return Err(StoreError::shape("counts"));
        };
        let mut of = |name| rows(both.remove(name).unwrap_or_default());
        let mut beside = BTreeMap::<String, [i64; 2]>::new();
        for row in of("stored") {
            let (values, count) = read_count(row)?;
            beside.entry(Json::Array(values).to_string()).or_default()[0] += count;
        }
        for row in of("documents") {
            let Value::Object(mut row) = row else {
                return Err(StoreError::shape("counts"));
            };
            let count: i64 = super::field(&mut row, "n")?;
            let values = values(row, counted.fields.len());
            beside.entry(values.to_string()).or_default()[1] += count;
        }
        // One that has come down to nothing says what is so.
        beside.retain(|_, counts| *counts != [0, 0]);
        Ok(beside)
    }
}

/// The values of a group, in the form in which documents are counted by them.
fn values(mut row: Object, fields: usize) -> Json {
    let values = (0..fields).map(|number| {
        let value = row.remove(&format!("v{number}")).unwrap_or_default();
        let value = value.into_json_value();
        comparable(&value).unwrap_or(value)
    });
    Json::Array(values.collect())
}
