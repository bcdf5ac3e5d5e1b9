//! The test whether a document is among those that filters ask for: in memory, what the store does in a list.

use crate::{
    read_model::schema::FieldPath,
    text::composed,
    view::{Compare, Filter},
};
use serde_json::Value;
use std::cmp::Ordering;

/// One filter and what it compares with.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    filter: Filter,
    path: FieldPath,
    value: Value,
}

impl Condition {
    /// A declared filter with a checked value; `None` where its field is no path, which the view's
    /// schema has ruled out.
    pub(crate) fn new(filter: Filter, value: Value) -> Option<Self> {
        Some(Self {
            path: FieldPath::parse(filter.field).ok()?,
            filter,
            value,
        })
    }

    /// The field, its path and the key of the value, where it asks for a field to be equal to one.
    pub(super) fn equals(&self) -> Option<(&'static str, &FieldPath, String)> {
        let equal = self.filter.compare == Compare::Equal;
        let key = equal.then(|| Self::key(&self.value)).flatten()?;
        Some((self.filter.field, &self.path, key))
    }

    /// A text that values have in common when they are equal; none for what equals nothing.
    pub(super) fn key(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(format!("s{}", composed(text))),
            Value::Bool(truth) => Some(format!("b{truth}")),
            // Whole numbers are equal in either form.
            Value::Number(number) => number.as_f64().map(|number| format!("n{number}")),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns whether the document fulfils it. What is missing, or of another type, does not.
    pub(crate) fn holds(&self, document: &Value) -> bool {
        let mut holds = false;
        self.path.each(document, &mut |found| {
            let order = compare(found, &self.value);
            holds |= order.is_some_and(|order| match self.filter.compare {
                Compare::Equal => order.is_eq(),
                Compare::AtLeast => order.is_ge(),
                Compare::AtMost => order.is_le(),
            });
        });
        holds
    }
}

fn compare(found: &Value, asked: &Value) -> Option<Ordering> {
    match (found, asked) {
        // What is asked is composed already.
        (Value::String(found), Value::String(asked)) => Some((*composed(found)).cmp(asked)),
        (Value::Bool(found), Value::Bool(asked)) => Some(found.cmp(asked)),
        (Value::Number(found), Value::Number(asked)) => match (found.as_i64(), asked.as_i64()) {
            (Some(found), Some(asked)) => Some(found.cmp(&asked)),
            _ => found.as_f64()?.partial_cmp(&asked.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Kind;
    use serde_json::json;

    fn holds(field: &'static str, compare: Compare, value: Value, document: &Value) -> bool {
        let filter = Filter {
            name: "f",
            field,
            compare,
            kind: Kind::Integer,
        };
        Condition::new(filter, value).unwrap().holds(document)
    }

    #[test]
    fn values_are_compared_within_their_type() {
        let document = json!({"n": 5, "t": "사과", "b": false, "none": null});
        assert!(holds("n", Compare::Equal, json!(5), &document));
        assert!(holds("n", Compare::AtLeast, json!(5), &document));
        assert!(!holds("n", Compare::AtLeast, json!(6), &document));
        assert!(holds("n", Compare::AtMost, json!(5), &document));
        assert!(holds("t", Compare::Equal, json!("사과"), &document));
        assert!(holds("b", Compare::Equal, json!(false), &document));
        for field in ["none", "absent", "t"] {
            assert!(
                !holds(field, Compare::AtMost, json!(5), &document),
                "{field}"
            );
        }
    }

    #[test]
    fn values_that_are_equal_have_one_key() {
        let values = [
            json!(5),
            json!(5.0),
            json!(6),
            json!("5"),
            json!("사과"),
            json!("\u{1109}\u{1161}\u{1100}\u{116a}"),
            json!(true),
            json!(false),
            json!(9_007_199_254_740_993_i64),
            json!(null),
            json!([5]),
        ];
        for one in &values {
            for other in &values {
                let document = json!({"f": one});
                if holds("f", Compare::Equal, other.clone(), &document) {
                    assert_eq!(Condition::key(one), Condition::key(other));
                    assert!(Condition::key(one).is_some());
                }
            }
        }
        assert_ne!(Condition::key(&json!(5)), Condition::key(&json!(6)));
        assert_ne!(Condition::key(&json!(5)), Condition::key(&json!("5")));
    }

    #[test]
    fn one_element_of_an_array_is_enough() {
        let document = json!({"lines": [{"sku": "a"}, {"sku": "b"}]});
        assert!(holds("lines[].sku", Compare::Equal, json!("b"), &document));
        assert!(!holds("lines[].sku", Compare::Equal, json!("c"), &document));
    }
}
