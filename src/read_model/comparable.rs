//! Values in the form in which they are compared: by filters, orders and searches.

use crate::text;
use std::borrow::Cow;

/// The longest text of a filter or of `q`, in bytes.
pub const MAX_TEXT: usize = 512;

/// The longest text that is compared, in bytes. What is longer than a filter can be ([`MAX_TEXT`]) equals
/// none, and is above or below each by its beginning.
const MAX_COMPARED: usize = MAX_TEXT + 88;

/// The value to compare in place of this one, if that is another. Several values are none: they are not
/// one that is equal, more or less.
pub(crate) fn comparable(value: &serde_json::Value) -> Option<serde_json::Value> {
    match value {
        serde_json::Value::String(text) => match compared(text) {
            same if same == *text => None,
            other => Some(other.into()),
        },
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Some(serde_json::Value::Null),
        _ => None,
    }
}

/// The form in which text is compared: composed, and no longer than what it can be compared with, so that
/// no sort key, and no cursor with one in it, is longer than a request can be.
pub(crate) fn compared(text: &str) -> Cow<'_, str> {
    let composed = text::composed(text);
    if composed.len() <= MAX_COMPARED {
        return composed;
    }
    let mut end = MAX_COMPARED;
    while !composed.is_char_boundary(end) {
        end -= 1;
    }
    match composed {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(text) => Cow::Owned(text[..end].to_owned()),
    }
}
