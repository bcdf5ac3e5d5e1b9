//! Settings of a stream that are not as its file says, and what that means.

use super::{
    name_of,
    setting::{METADATA, TOLD, is_needed, is_operators, revision},
};
use serde_json::{Map, Value};
use std::fmt;

/// One setting of one stream that is not as the file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The stream's name.
    pub stream: String,
    /// The setting, under its name in the file. `name` when the stream does not exist.
    pub field: String,
    /// The value in the file.
    pub wanted: Value,
    /// The server's value; `null` when it has nothing.
    pub found: Value,
    /// Whose setting it is.
    pub whose: Whose,
}

/// Whose a setting is that is not as the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The program's own: it cannot work with another.
    Program,
    /// An operator's, who may choose it.
    Operator,
    /// The setting of a newer program, which this one can work with.
    NewerProgram,
}

impl Difference {
    pub(super) fn missing(stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            field: "name".to_owned(),
            wanted: Value::from(stream),
            found: Value::Null,
            whose: Whose::Program,
        }
    }

    /// Returns whether the program cannot work as long as it is so.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.whose == Whose::Program
    }

    /// Returns whether commits get lost by it: the log forgets by itself.
    #[must_use]
    pub fn forgets(&self) -> bool {
        self.stream == crate::event_log::subject::STREAM
            && ["max_age", "allow_msg_ttl"].contains(&self.field.as_str())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stream,
            field,
            wanted,
            found,
            whose,
        } = self;
        match whose {
            Whose::Program if field == "name" => write!(f, "{stream}: the stream does not exist"),
            Whose::Program => write!(f, "{stream}: {field} should be {wanted}, is {found}"),
            Whose::Operator => write!(f, "{stream}: {field} is {found}, an operator's own"),
            Whose::NewerProgram => write!(f, "{stream}: {field} is {found}, a newer program's"),
        }?;
        if self.forgets() {
            f.write_str("; COMMITS ARE LOST BY IT")?;
        }
        Ok(())
    }
}

/// The settings that a file mentions and that are not as it says.
pub(super) fn compare(wanted: &Map<String, Value>, found: &Map<String, Value>) -> Vec<Difference> {
    let stream = name_of(wanted);
    let newer = revision(found) > revision(wanted);
    wanted
        .iter()
        .filter_map(|(field, wanted)| {
            let found = found.get(field).unwrap_or(&Value::Null);
            if same(field, wanted, found, newer) {
                return None;
            }
            // Replicas are only here when a number was asked for.
            let whose = if is_operators(field, true) {
                Whose::Operator
            } else if newer && !is_needed(field) {
                Whose::NewerProgram
            } else {
                Whose::Program
            };
            Some(Difference {
                stream: stream.to_owned(),
                field: field.clone(),
                wanted: wanted.clone(),
                found: mentioned(wanted, found),
                whose,
            })
        })
        .collect()
}

/// Of an object only the fields that the file has: the rest is the operator's, or the server's.
fn mentioned(wanted: &Value, found: &Value) -> Value {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => found
            .iter()
            .filter(|(name, _)| wanted.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        (_, found) => found.clone(),
    }
}

/// Returns what an operator has set that no file mentions and that is worth telling.
pub(super) fn told(
    stream: &str,
    wanted: &Map<String, Value>,
    found: &Map<String, Value>,
) -> Vec<Difference> {
    TOLD.iter()
        .filter(|field| !wanted.contains_key(**field))
        .filter_map(|field| {
            let found = found.get(*field)?;
            let is_set = !is_nothing(found) && *found != Value::Object(Map::new());
            is_set.then(|| Difference {
                stream: stream.to_owned(),
                field: (*field).to_owned(),
                wanted: Value::Null,
                found: found.clone(),
                whose: Whose::Operator,
            })
        })
        .collect()
}

/// The server leaves out what is false, zero or empty, and the order of subjects means nothing. Of
/// metadata only what the file names counts. A newer program may take further subjects.
fn same(field: &str, wanted: &Value, found: &Value, newer: bool) -> bool {
    match (wanted, found) {
        (Value::Array(wanted), Value::Array(found)) => {
            (newer || wanted.len() == found.len()) && wanted.iter().all(|one| found.contains(one))
        }
        (Value::Object(wanted), Value::Object(found)) if field == METADATA => wanted
            .iter()
            .all(|(name, value)| found.get(name) == Some(value)),
        (wanted, Value::Null) => is_nothing(wanted),
        // No bound is written as 0 or as -1.
        (Value::Number(wanted), Value::Number(found)) if field.starts_with("max_") => {
            let bound = |number: &serde_json::Number| number.as_i64().filter(|bound| *bound > 0);
            bound(wanted) == bound(found)
        }
        (wanted, found) => wanted == found,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn compared(wanted: Value, found: Value) -> Vec<(String, Whose)> {
        compare(&object(wanted), &object(found))
            .into_iter()
            .map(|difference| (difference.field, difference.whose))
            .collect()
    }

    #[test]
    fn what_the_server_leaves_out_is_false_zero_or_empty() {
        let wanted = json!({"name": "S", "sealed": false, "max_age": 0, "subjects": ["b", "a"]});
        let found = json!({"name": "S", "subjects": ["a", "b"], "metadata": {"k": "v"}});
        assert_eq!(compared(wanted, found), []);

        let wanted = json!({"name": "S", "deny_purge": true, "subjects": ["a"]});
        let found = json!({"name": "S", "subjects": ["a", "b"]});
        let program = |field: &str| (field.to_owned(), Whose::Program);
        assert_eq!(
            compared(wanted, found),
            [program("deny_purge"), program("subjects")]
        );
    }

    #[test]
    fn bounds_are_the_operators() {
        let wanted = json!({"name": "S", "max_bytes": -1, "max_age": 0, "max_msg_size": 9});
        let found = json!({"name": "S", "max_bytes": 100, "max_age": 5, "max_msg_size": 8});
        let mut differences = compared(wanted, found);
        differences.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(
            differences,
            [
                ("max_age".to_owned(), Whose::Operator),
                ("max_bytes".to_owned(), Whose::Operator),
                ("max_msg_size".to_owned(), Whose::Program),
            ]
        );
    }

    #[test]
    fn what_an_operator_added_is_told() {
        let found = json!({"name": "S", "placement": {"cluster": "c"}, "sources": [], "consumer_limits": {}});
        let told: Vec<_> = told("S", &Map::new(), &object(found))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [r#"S: placement is {"cluster":"c"}, an operator's own"#]
        );
    }

    #[test]
    fn a_log_that_forgets_is_told_loudly() {
        let wanted = object(json!({"name": "EVENTS", "max_age": 0}));
        let found = object(json!({"name": "EVENTS", "max_age": 5}));
        let told = compare(&wanted, &found)[0].to_string();
        assert!(told.contains("COMMITS ARE LOST"), "{told}");
    }

    #[test]
    fn a_newer_program_may_set_what_an_older_can_work_with() {
        let wanted = json!({"name": "S", "subjects": ["a"], "max_msg_size": 1, "deny_purge": true,
            "metadata": {"headwater.topology": "1"}});
        let found = json!({"name": "S", "subjects": ["a", "b"], "max_msg_size": 2,
            "metadata": {"headwater.topology": "2"}});
        let newer = |field: &str| (field.to_owned(), Whose::NewerProgram);
        let mut differences = compared(wanted, found);
        differences.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(
            differences,
            [
                ("deny_purge".to_owned(), Whose::Program),
                newer("max_msg_size"),
                newer("metadata"),
            ]
        );
    }
}
