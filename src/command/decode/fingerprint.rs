//! The fingerprint of a decoded command: the same for all texts that say the same.
//!
//! A serialiser that hashes. Fields are told by their names and in any order, so that a map has one
//! fingerprint, and so that one of an older build of the program is still that of a newer one, whose
//! command has its fields in another order or has more of them, optional ones that were left out.

use crate::stable_hash;
use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::fmt::Display;

/// The hash of a value. Values of a different kind are not the same, but a whole number is the same
/// however it is written.
///
/// # Errors
///
/// Returns an error when the value cannot be serialised.
pub(super) fn hash(value: &impl Serialize) -> Result<u64, Unserialisable> {
    Ok(value.serialize(Hasher)?.unwrap_or_else(nothing))
}

/// The value cannot be serialised.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unserialisable(String);

impl Error for Unserialisable {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The hash; `None` of what is as good as left out.
type Hashed = Result<Option<u64>, Unserialisable>;

struct Hasher;

fn of(kind: u8, bytes: &[u8]) -> u64 {
    stable_hash::of([&[kind][..], bytes])
}

fn nothing() -> u64 {
    of(b'0', b"")
}

/// Whole numbers, of whatever type.
fn whole(number: i128) -> Hashed {
    Ok(Some(of(b'n', &number.to_le_bytes())))
}

impl Serializer for Hasher {
    type Ok = Option<u64>;
    type Error = Unserialisable;
    type SerializeSeq = Sequence;
    type SerializeTuple = Sequence;
    type SerializeTupleStruct = Sequence;
    type SerializeTupleVariant = Sequence;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    fn serialize_bool(self, truth: bool) -> Hashed {
        Ok(Some(of(b'b', &[truth.into()])))
    }

    fn serialize_i8(self, number: i8) -> Hashed {
        whole(number.into())
    }

    fn serialize_i16(self, number: i16) -> Hashed {
        whole(number.into())
    }

    fn serialize_i32(self, number: i32) -> Hashed {
        whole(number.into())
    }

    fn serialize_i64(self, number: i64) -> Hashed {
        whole(number.into())
    }

    fn serialize_i128(self, number: i128) -> Hashed {
        whole(number)
    }

    fn serialize_u8(self, number: u8) -> Hashed {
        whole(number.into())
    }

    fn serialize_u16(self, number: u16) -> Hashed {
        whole(number.into())
    }

    fn serialize_u32(self, number: u32) -> Hashed {
        whole(number.into())
    }

    fn serialize_u64(self, number: u64) -> Hashed {
        whole(number.into())
    }

    fn serialize_u128(self, number: u128) -> Hashed {
        match number.try_into() {
            Ok(number) => whole(number),
            Err(_) => Ok(Some(of(b'N', &number.to_le_bytes()))),
        }
    }

    fn serialize_f32(self, number: f32) -> Hashed {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Hashed {
        // Every whole number up to here is told from its neighbours.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() <= EXACT {
            return whole(number as i128);
        }
        Ok(Some(of(b'f', &number.to_bits().to_le_bytes())))
    }

    fn serialize_char(self, sign: char) -> Hashed {
        self.serialize_str(sign.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Hashed {
        Ok(Some(of(b's', text.as_bytes())))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Hashed {
        Ok(Some(of(b'y', bytes)))
    }

    fn serialize_none(self) -> Hashed {
        Ok(None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Hashed {
        // There is a value, if only that there is nothing.
        Ok(Some(value.serialize(Self)?.unwrap_or_else(nothing)))
    }

    fn serialize_unit(self) -> Hashed {
        Ok(Some(nothing()))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Hashed {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Hashed {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Hashed {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Hashed {
        let hash = value.serialize(self)?.unwrap_or_else(nothing);
        Ok(Some(tagged(Some(variant), hash)))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence, Unserialisable> {
        Ok(Sequence::of(None))
    }

    fn serialize_tuple(self, _: usize) -> Result<Sequence, Unserialisable> {
        Ok(Sequence::of(None))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Sequence, Unserialisable> {
        Ok(Sequence::of(None))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence, Unserialisable> {
        Ok(Sequence::of(Some(variant)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, Unserialisable> {
        Ok(Fields::of(None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Unserialisable> {
        Ok(Fields::of(None))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, Unserialisable> {
        Ok(Fields::of(Some(variant)))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Hashed {
        self.serialize_str(&value.to_string())
    }
}

/// A value under the name of its variant, if it has one.
fn tagged(variant: Option<&str>, hash: u64) -> u64 {
    match variant {
        Some(variant) => stable_hash::of([b"v", variant.as_bytes(), &hash.to_le_bytes()[..]]),
        None => hash,
    }
}

/// Values whose order counts.
struct Sequence {
    variant: Option<&'static str>,
    hash: u64,
}

impl Sequence {
    fn of(variant: Option<&'static str>) -> Self {
        Self {
            variant,
            hash: of(b'[', b""),
        }
    }

    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unserialisable> {
        let hash = value.serialize(Hasher)?.unwrap_or_else(nothing);
        self.hash = stable_hash::of([&self.hash.to_le_bytes()[..], &hash.to_le_bytes()]);
        Ok(())
    }

    fn hashed(self) -> Hashed {
        Ok(Some(tagged(self.variant, self.hash)))
    }
}

/// Values that have names, in any order.
struct Fields {
    variant: Option<&'static str>,
    name: u64,
    sum: u64,
}

impl Fields {
    fn of(variant: Option<&'static str>) -> Self {
        Self {
            variant,
            name: 0,
            sum: of(b'{', b""),
        }
    }

    fn add<T: Serialize + ?Sized>(&mut self, name: u64, value: &T) -> Result<(), Unserialisable> {
        self.add_hashed(name, value.serialize(Hasher)?);
        Ok(())
    }

    fn add_hashed(&mut self, name: u64, value: Option<u64>) {
        if let Some(value) = value {
            let field = stable_hash::of([&name.to_le_bytes()[..], &value.to_le_bytes()]);
            self.sum = self.sum.wrapping_add(field);
        }
    }

    fn hashed(self) -> Hashed {
        Ok(Some(tagged(self.variant, stable_hash::mixed(self.sum))))
    }
}

impl SerializeSeq for Sequence {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        self.add(value)
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}

impl SerializeTuple for Sequence {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        self.add(value)
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}

impl SerializeTupleStruct for Sequence {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        self.add(value)
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}

impl SerializeTupleVariant for Sequence {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        self.add(value)
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}

impl SerializeMap for Fields {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Self::Error> {
        self.name = hash(&key)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        // A key is there because somebody put it there, whatever its value is.
        let value = value.serialize(Hasher)?.unwrap_or_else(nothing);
        self.add_hashed(self.name, Some(value));
        Ok(())
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}

impl SerializeStruct for Fields {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        self.add(of(b's', name.as_bytes()), value)
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}

impl SerializeStructVariant for Fields {
    type Ok = Option<u64>;
    type Error = Unserialisable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        self.add(of(b's', name.as_bytes()), value)
    }

    fn end(self) -> Hashed {
        self.hashed()
    }
}
