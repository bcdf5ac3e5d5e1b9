//! Folding the stored events of an aggregate, whichever it is, as its actor does when it loads.

use crate::{
    aggregate::Aggregate,
    command::decode::{field_at_fault, without_place},
    recorded,
};
use serde_json::{Value, value::RawValue};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The state of an aggregate that is folded from its stored events, its type forgotten.
pub trait ReplayedState: Send {
    /// Decodes an event, and folds it in. Nothing is to be folded in after one that could not be.
    ///
    /// # Errors
    ///
    /// Returns [`EventFault`] when it cannot be decoded, or the aggregate panics over it.
    fn fold(&mut self, event_type: &str, data: &RawValue) -> Result<Replayed, EventFault>;

    /// Returns the state, as snapshots have it.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be written.
    fn state(&self) -> serde_json::Result<Value>;
}

/// An event that was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// True if it was stored in an older form.
    pub upcast: bool,
}

/// An event that could not be folded in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFault {
    /// The path of the field at fault, where it is one.
    pub field: Option<String>,
    /// The reason.
    pub reason: String,
    /// The event, if it could be decoded: then it is the fold that failed.
    pub decoded: Option<Replayed>,
}

/// The state of aggregate `A`.
pub(super) struct Replaying<A>(A);

impl<A: Default> Default for Replaying<A> {
    fn default() -> Self {
        Self(A::default())
    }
}

impl<A: Aggregate> ReplayedState for Replaying<A> {
    fn fold(&mut self, event_type: &str, data: &RawValue) -> Result<Replayed, EventFault> {
        let decoded = catch_unwind(|| decode::<A>(event_type, data));
        let (event, upcast) = decoded.unwrap_or_else(|panic| {
            Err(EventFault {
                field: None,
                reason: told(&*panic, "decoding it panics"),
                decoded: None,
            })
        })?;
        let replayed = Replayed { upcast };
        let folding = catch_unwind(AssertUnwindSafe(|| self.0.evolve(&event)));
        folding.map_err(|panic| EventFault {
            field: None,
            reason: told(&*panic, "folding it panics"),
            decoded: Some(replayed),
        })?;
        Ok(replayed)
    }

    fn state(&self) -> serde_json::Result<Value> {
        serde_json::to_value(&self.0)
    }
}

fn decode<A: Aggregate>(event_type: &str, data: &RawValue) -> Result<(A::Event, bool), EventFault> {
    let read = recorded::read_event::<A>(event_type, data);
    let read = read.map_err(|error| EventFault {
        field: None,
        reason: error.to_string(),
        decoded: None,
    })?;
    match serde_json::from_str::<A::Event>(&read.json) {
        Ok(event) => Ok((event, read.upcast)),
        Err(error) => Err(fault::<A>(&read.json, &error)),
    }
}

/// Finds the field at fault, which costs more than to decode.
fn fault<A: Aggregate>(json: &str, error: &serde_json::Error) -> EventFault {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let again = serde_path_to_error::deserialize::<_, A::Event>(&mut deserializer);
    let (field, reason) = match again {
        Ok(_) => (None, error.to_string()),
        Err(error) => {
            let reason = error.inner().to_string();
            let field = field_at_fault("data", &error.path().to_string(), &reason);
            let field = match (&*field, reason.starts_with("unknown variant")) {
                ("body", true) => Some("type".to_owned()),
                ("body", false) => None,
                _ => Some(field),
            };
            (field, reason)
        }
    };
    EventFault {
        field,
        reason: without_place(&reason).to_owned(),
        decoded: None,
    }
}

/// The text of a panic.
fn told(panic: &(dyn Any + Send), what: &str) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    match text {
        Some(text) => format!("{what}: {text}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mart::{order::Order, product::Product};

    fn fold<A: Aggregate>(event_type: &str, data: &str) -> Result<Replayed, EventFault> {
        let data = RawValue::from_string(data.to_owned()).unwrap();
        Replaying::<A>::default().fold(event_type, &data)
    }

    #[test]
    fn a_fault_names_its_field() {
        let price = fold::<Product>("product.repriced.v1", r#"{"price":"dear"}"#).unwrap_err();
        assert_eq!(price.field.as_deref(), Some("price"));
        assert!(price.reason.contains("invalid type"), "{}", price.reason);
        let missing = fold::<Product>("product.repriced.v1", "{}").unwrap_err();
        assert_eq!(missing.field.as_deref(), Some("price"));
        let unknown = fold::<Product>("product.sung.v1", "{}").unwrap_err();
        assert_eq!(unknown.field.as_deref(), Some("type"), "{unknown:?}");
        let lines = r#"{"lines":[{"sku":"a","quantity":"many","unit_price":1}]}"#;
        let line = fold::<Order>("order.placed.v1", lines).unwrap_err();
        assert_eq!(line.field.as_deref(), Some("lines[0].quantity"), "{line:?}");
    }

    #[test]
    fn what_can_be_read_is_folded() {
        let repriced = fold::<Product>("product.repriced.v1", r#"{"price":100}"#);
        assert_eq!(repriced, Ok(Replayed { upcast: false }));
    }
}
