//! One event in its stored form: its name and its data, each written once.

use super::CodecError;
use crate::aggregate::Aggregate;
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{Error as _, Impossible, SerializeStruct},
};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An event in its stored form, not yet part of a commit.
#[derive(Debug, Clone)]
pub struct EncodedEvent {
    event_type: Cow<'static, str>,
    data: Vec<u8>,
}

impl EncodedEvent {
    /// Encodes an event of aggregate `A`.
    ///
    /// # Errors
    ///
    /// Returns [`CodecError::Encode`] when it does not serialise to `{"type", "data"}`, or when its
    /// type does not begin with the aggregate's name.
    pub fn of<A: Aggregate>(event: &A::Event) -> Result<Self, CodecError> {
        let encoded = match event.serialize(Tagged) {
            Ok(encoded) => encoded,
            // It is not written in the usual way, or cannot be written at all.
            Err(_) => Self::read(event).map_err(|source| CodecError::Encode {
                aggregate: A::NAME,
                source,
            })?,
        };
        let rest = encoded.event_type.strip_prefix(A::NAME);
        if rest.is_none_or(|rest| !rest.starts_with('.')) {
            return Err(CodecError::EventName {
                aggregate: A::NAME,
                event_type: encoded.event_type.into_owned(),
            });
        }
        Ok(encoded)
    }

    /// Takes an event apart that was written in some other way: in another order, or with more fields.
    fn read(event: &impl Serialize) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Parts<'a> {
            r#type: String,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let json = serde_json::to_string(event)?;
        let Parts { r#type, data } = serde_json::from_str(&json)?;
        Ok(Self {
            event_type: r#type.into(),
            data: data.get().into(),
        })
    }

    /// The full storage name, for example `order.placed.v1`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The event's fields as JSON.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// Writes what serde derives for an adjacently tagged enum, a struct of a type and its data, and nothing
/// else: anything else is an error, and is then taken apart.
struct Tagged;

/// The two parts of an event as far as they have come.
#[derive(Default)]
struct Parts {
    event_type: Option<&'static str>,
    data: Option<Vec<u8>>,
}

impl SerializeStruct for Parts {
    type Ok = EncodedEvent;
    type Error = serde_json::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        match (name, &self.event_type, &self.data) {
            ("type", None, None) => self.event_type = Some(value.serialize(VariantName)?),
            ("data", Some(_), None) => self.data = Some(serde_json::to_vec(value)?),
            _ => return Err(unusual()),
        }
        Ok(())
    }

    fn end(self) -> Result<EncodedEvent, Self::Error> {
        let (event_type, data) = self.event_type.zip(self.data).ok_or_else(unusual)?;
        Ok(EncodedEvent {
            event_type: event_type.into(),
            data,
        })
    }
}

fn unusual() -> serde_json::Error {
    serde_json::Error::custom("an event is written as its type and its data")
}

/// Takes the name of an enum's variant.
struct VariantName;

/// Refuses all forms of a value but those that the block gives.
macro_rules! refuse_others {
    ($($name:ident($($kind:ty),*) -> $result:ty;)*) => {
        $(fn $name(self, $(_: $kind),*) -> Result<$result, Self::Error> {
            Err(unusual())
        })*
        fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, Self::Error> {
            Err(unusual())
        }
        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: &T,
        ) -> Result<Self::Ok, Self::Error> {
            Err(unusual())
        }
        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<Self::Ok, Self::Error> {
            Err(unusual())
        }
    };
}

/// No serializer of this kind is given out.
type Never<O> = Impossible<O, serde_json::Error>;

macro_rules! refuse_what_neither_takes {
    () => {
        refuse_others! {
            serialize_bool(bool) -> Self::Ok;
            serialize_i8(i8) -> Self::Ok;
            serialize_i16(i16) -> Self::Ok;
            serialize_i32(i32) -> Self::Ok;
            serialize_i64(i64) -> Self::Ok;
            serialize_u8(u8) -> Self::Ok;
            serialize_u16(u16) -> Self::Ok;
            serialize_u32(u32) -> Self::Ok;
            serialize_u64(u64) -> Self::Ok;
            serialize_f32(f32) -> Self::Ok;
            serialize_f64(f64) -> Self::Ok;
            serialize_char(char) -> Self::Ok;
            serialize_str(&str) -> Self::Ok;
            serialize_bytes(&[u8]) -> Self::Ok;
            serialize_none() -> Self::Ok;
            serialize_unit() -> Self::Ok;
            serialize_unit_struct(&'static str) -> Self::Ok;
            serialize_seq(Option<usize>) -> Never<Self::Ok>;
            serialize_tuple(usize) -> Never<Self::Ok>;
            serialize_tuple_struct(&'static str, usize) -> Never<Self::Ok>;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never<Self::Ok>;
            serialize_map(Option<usize>) -> Never<Self::Ok>;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never<Self::Ok>;
        }
        type SerializeSeq = Never<Self::Ok>;
        type SerializeTuple = Never<Self::Ok>;
        type SerializeTupleStruct = Never<Self::Ok>;
        type SerializeTupleVariant = Never<Self::Ok>;
        type SerializeMap = Never<Self::Ok>;
        type SerializeStructVariant = Never<Self::Ok>;
        type Error = serde_json::Error;
    };
}

impl Serializer for Tagged {
    type Ok = EncodedEvent;
    type SerializeStruct = Parts;
    refuse_what_neither_takes!();

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Self::Ok, Self::Error> {
        Err(unusual())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts, Self::Error> {
        Ok(Parts::default())
    }
}

impl Serializer for VariantName {
    type Ok = &'static str;
    type SerializeStruct = Never<Self::Ok>;
    refuse_what_neither_takes!();

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Self::Ok, Self::Error> {
        Ok(variant)
    }

    fn serialize_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, Self::Error> {
        Err(unusual())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(tag = "type", content = "data")]
    enum Usual {
        #[serde(rename = "a.happened.v1")]
        Happened { n: u8, text: &'static str },
    }

    #[derive(Serialize)]
    struct Reversed {
        data: [u8; 2],
        r#type: &'static str,
        more: bool,
    }

    #[test]
    fn an_event_is_taken_apart_however_it_is_written() {
        let usual = Usual::Happened { n: 1, text: "q\"" }.serialize(Tagged);
        let usual = usual.unwrap();
        assert_eq!(usual.event_type(), "a.happened.v1");
        assert_eq!(usual.data(), br#"{"n":1,"text":"q\""}"#);

        let reversed = Reversed {
            data: [1, 2],
            r#type: "a.x.v1",
            more: true,
        };
        assert!(reversed.serialize(Tagged).is_err());
        let read = EncodedEvent::read(&reversed).unwrap();
        assert_eq!((read.event_type(), read.data()), ("a.x.v1", &b"[1,2]"[..]));
        assert!(EncodedEvent::read(&"text").is_err());
    }
}
