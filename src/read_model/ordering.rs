//! Orders as text: under each order that a view declares, each document has a key, and the keys of all
//! documents compare as the documents are listed.
//!
//! Pure. The store walks an index fast in one direction only, and only behind a value that all rows share.
//! So a document has two keys for each order, one for each direction, and a list is a walk forward. The
//! key ends with the document's id: a later page begins at a key, however many documents share a value.

use super::field_path::{FieldPath, SchemaError};
use crate::view::{Kind, Query};
use base64::{
    Engine,
    alphabet::Alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use serde_json::Value;
use std::{fmt, sync::LazyLock};

/// Text that compares as the bytes do that it stands for: its characters ascend.
static SORTED: LazyLock<GeneralPurpose> = LazyLock::new(|| {
    let alphabet = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let alphabet = Alphabet::new(alphabet).expect("these are 64 characters");
    GeneralPurpose::new(&alphabet, NO_PAD)
});

/// A direction in which documents are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The lowest value first.
    Up,
    /// The highest value first.
    Down,
}

impl Direction {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// The word for it in the names of columns and indexes.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// An order that a view declares, in which it keeps keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListOrder {
    /// The field that it is by; none where it is by id alone.
    pub(crate) field: Option<FieldPath>,
    /// The name that its keys have in a row.
    pub(crate) name: String,
}

/// The column that keeps a document's key under an order in a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    pub(crate) direction: Direction,
    pub(crate) name: String,
}

/// The column as SurrealQL, inside the stored row.
impl fmt::Display for KeyColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.`{}`", self.direction.word(), self.name)
    }
}

/// The orders that a view's documents have keys for: those declared, or the one by id.
pub(crate) fn orders(query: &Query) -> Result<Vec<ListOrder>, SchemaError> {
    let mut orders: Vec<ListOrder> = Vec::new();
    for sort in &query.sorts {
        let field = FieldPath::parse(sort.field)?;
        let mut name = field.word();
        while orders.iter().any(|order| order.name == name) {
            name.push('_');
        }
        orders.push(ListOrder {
            field: Some(field),
            name,
        });
    }
    if orders.is_empty() {
        orders.push(ListOrder {
            field: None,
            name: "id".to_owned(),
        });
    }
    Ok(orders)
}

/// A part of an order: where a walk begins or ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Vec<u8>);

impl Place {
    /// Returns where the documents with this value stand: before the first of them in either direction.
    pub(crate) fn of(value: Option<&Value>) -> Self {
        let mut bytes = Vec::new();
        write_value(&mut bytes, value);
        Self(bytes)
    }

    /// Returns where this document stands.
    pub(crate) fn of_document(value: Option<&Value>, id: &str) -> Self {
        let mut bytes = Vec::with_capacity(id.len() + 12);
        write_value(&mut bytes, value);
        bytes.extend_from_slice(id.as_bytes());
        bytes.push(0);
        Self(bytes)
    }

    /// Returns where values of this kind stand: before all of them upwards.
    pub(crate) fn of_kind(kind: Kind) -> Self {
        Self(vec![match kind {
            Kind::Boolean => TRUTH,
            Kind::Integer => NUMBER,
            Kind::Text => TEXT,
        }])
    }

    /// Returns what compares as the values do that stand here.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The value that stands at a place that was made of it, if that can be told.
    pub(crate) fn value(bytes: &[u8]) -> Option<Value> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            NULL => Some(Value::Null),
            TRUTH => Some(Value::Bool(*rest.first()? != 0)),
            NUMBER => {
                let bits = u64::from_be_bytes(*rest.first_chunk()?);
                let whole = rest.get(8..).and_then(|rest| rest.first_chunk());
                if let Some(whole) = whole {
                    let whole = u64::from_be_bytes(*whole) ^ (1 << 63);
                    return Some(whole.cast_signed().into());
                }
                let float = f64::from_bits(match bits >> 63 {
                    1 => bits ^ (1 << 63),
                    _ => !bits,
                });
                match float.fract() == 0.0 {
                    // Below 2^53, so that none is lost.
                    true => Some((float as i64).into()),
                    false => Some(float.into()),
                }
            }
            TEXT => {
                let mut text = Vec::with_capacity(rest.len());
                let mut bytes = rest.strip_suffix(&[0, 0])?.iter();
                while let Some(byte) = bytes.next() {
                    text.push(*byte);
                    if *byte == 0 {
                        bytes.next();
                    }
                }
                String::from_utf8(text).ok().map(Value::String)
            }
            _ => None,
        }
    }

    /// The key that says so in a direction.
    pub(crate) fn key(&self, direction: Direction) -> String {
        SORTED.encode(self.bytes(direction))
    }

    /// The first key after all that is of the value or the kind that stands here.
    pub(crate) fn end(&self, direction: Direction) -> String {
        let mut bytes = self.bytes(direction);
        while bytes.pop_if(|byte| *byte == u8::MAX).is_some() {}
        if let Some(last) = bytes.last_mut() {
            *last += 1;
        }
        SORTED.encode(bytes)
    }

    fn bytes(&self, direction: Direction) -> Vec<u8> {
        match direction {
            Direction::Up => self.0.clone(),
            Direction::Down => self.0.iter().map(|byte| !byte).collect(),
        }
    }

    /// Returns whether what stands at `other` is of the value or the kind that stands here.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

const MISSING: u8 = 1;
const NULL: u8 = 2;
const TRUTH: u8 = 3;
const NUMBER: u8 = 4;
const TEXT: u8 = 5;
const OTHER: u8 = 6;
/// Numbers beyond this are not all told apart by a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes a value so that none is the beginning of another, and bytes compare as values do: a missing one
/// before null, before truths, numbers and texts.
fn write_value(to: &mut Vec<u8>, value: Option<&Value>) {
    match value {
        None => to.push(MISSING),
        Some(Value::Null) => to.push(NULL),
        Some(Value::Bool(truth)) => to.extend([TRUTH, u8::from(*truth)]),
        Some(Value::Number(number)) => {
            to.push(NUMBER);
            let float = number.as_f64().unwrap_or_default();
            to.extend(ordered(float).to_be_bytes());
            if float.abs() >= EXACT {
                // What is no whole number of 64 bits is beyond all of them, and equal to none.
                let whole = number.as_i64().unwrap_or(match float > 0.0 {
                    true => i64::MAX,
                    false => i64::MIN,
                });
                to.extend((whole.cast_unsigned() ^ (1 << 63)).to_be_bytes());
            }
        }
        Some(Value::String(text)) => {
            to.push(TEXT);
            for byte in text.bytes() {
                to.push(byte);
                if byte == 0 {
                    to.push(u8::MAX);
                }
            }
            to.extend([0, 0]);
        }
        Some(Value::Array(_) | Value::Object(_)) => to.push(OTHER),
    }
}

/// The bits of a float, so that they compare as floats do.
fn ordered(float: f64) -> u64 {
    // There is one zero.
    let bits = if float == 0.0 { 0 } else { float.to_bits() };
    match bits >> 63 {
        0 => bits ^ (1 << 63),
        _ => !bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// In the order in which they are listed upwards.
    fn ascending() -> Vec<(Option<Value>, &'static str)> {
        let values = [
            None,
            Some(Value::Null),
            Some(json!(false)),
            Some(json!(true)),
            Some(json!(-1e300)),
            Some(json!(i64::MIN)),
            Some(json!(i64::MIN + 1)),
            Some(json!(-9_007_199_254_740_993_i64)),
            Some(json!(-2.5)),
            Some(json!(-2)),
            Some(json!(0)),
            Some(json!(0.5)),
            Some(json!(1)),
            Some(json!(255)),
            Some(json!(256)),
            Some(json!(9_007_199_254_740_992_i64)),
            Some(json!(9_007_199_254_740_993_i64)),
            Some(json!(i64::MAX - 1)),
            Some(json!(i64::MAX)),
            Some(json!(1e300)),
            Some(json!("")),
            Some(json!("\0")),
            Some(json!("\0a")),
            Some(json!("\u{1}")),
            Some(json!("a")),
            Some(json!("a\0")),
            Some(json!("a ")),
            Some(json!("ab")),
            Some(json!("b")),
            Some(json!("사")),
            Some(json!("사과")),
            Some(json!("🍎")),
            Some(json!([1])),
        ];
        let ids = ["-", "0", "A", "A-", "A0", "_", "a", "aa", "b"];
        values
            .into_iter()
            .flat_map(|value| ids.map(|id| (value.clone(), id)))
            .collect()
    }

    #[test]
    fn keys_compare_as_documents_are_listed_in_both_directions() {
        for direction in Direction::ALL {
            let keys: Vec<_> = ascending()
                .iter()
                .map(|(value, id)| Place::of_document(value.as_ref(), id).key(direction))
                .collect();
            for (number, pair) in keys.windows(2).enumerate() {
                let rises = pair[0] < pair[1];
                assert_eq!(rises, direction == Direction::Up, "{direction:?} {number}");
                assert_ne!(pair[0], pair[1], "{number}");
            }
        }
    }

    #[test]
    fn a_value_stands_before_its_documents_and_after_all_others_in_both_directions() {
        let documents = ascending();
        for direction in Direction::ALL {
            for (value, _) in &documents {
                let place = Place::of(value.as_ref());
                let key = place.key(direction);
                for (other, id) in &documents {
                    let document = Place::of_document(other.as_ref(), id);
                    let position = |of: &Option<Value>| {
                        documents.iter().position(|(known, _)| known == of).unwrap()
                    };
                    let comes = match direction {
                        Direction::Up => position(other) >= position(value),
                        Direction::Down => position(other) <= position(value),
                    };
                    assert_eq!(key <= document.key(direction), comes, "{value:?} {other:?}");
                    assert_eq!(place.holds(&document), other == value);
                    let document = document.key(direction);
                    let of_it = key <= document && document < place.end(direction);
                    assert_eq!(of_it, other == value, "{value:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_value_is_told_from_its_place() {
        for value in [
            Value::Null,
            json!(true),
            json!(0),
            json!(-7),
            json!(0.5),
            json!(i64::MAX),
            json!(i64::MIN),
            json!("사과"),
            json!("a\0\0b\0"),
            json!(""),
        ] {
            let place = Place::of(Some(&value)).into_bytes();
            assert_eq!(Place::value(&place), Some(value));
        }
        assert_eq!(Place::value(&Place::of(None).into_bytes()), None);
    }

    #[test]
    fn a_zero_is_a_zero() {
        assert_eq!(Place::of(Some(&json!(-0.0))), Place::of(Some(&json!(0))));
    }

    #[test]
    fn a_view_without_orders_is_listed_by_id() {
        let orders = orders(&Query::default()).unwrap();
        assert_eq!(orders.len(), 1);
        assert_eq!(orders[0].field, None);
    }
}
