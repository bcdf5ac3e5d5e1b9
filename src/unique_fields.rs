//! JSON objects whose fields are each given once.
//!
//! A field given twice is ambiguous (RFC 8259, 4): one reader takes the first, another the last. Structs
//! refuse it by themselves; maps and plain values take the last and say nothing.

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, collections::HashSet, fmt};

/// So many fields are compared with each other; more are hashed.
const FEW: usize = 16;

/// The path of the first field that is given twice in some JSON, for example `lines[0].sku`.
/// Whether it is JSON at all is another's business: as far as it cannot be read nothing is found.
pub fn given_twice(json: &[u8]) -> Option<String> {
    // One field cannot be given twice, and many a command has no more.
    let fields = json.iter().filter(|byte| **byte == b':');
    if fields.take(2).count() < 2 {
        return None;
    }
    let mut twice = None;
    let mut json = serde_json::Deserializer::from_slice(json);
    let _ = Look { twice: &mut twice }.deserialize(&mut json);
    twice
}

struct Look<'a> {
    /// The path, built from its end while the objects around it are left.
    twice: &'a mut Option<String>,
}

impl Look<'_> {
    fn within(&mut self, container: fmt::Arguments<'_>) {
        if let Some(path) = self.twice {
            let dot = if path.is_empty() || path.starts_with('[') {
                ""
            } else {
                "."
            };
            *path = format!("{container}{dot}{path}");
        }
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(Name(name)) = map.next_key()? {
            if !seen.insert(name.clone()) {
                *self.twice = Some(name.into_owned());
                return Err(A::Error::custom("a field is given twice"));
            }
            let looked = map.next_value_seed(Look { twice: self.twice });
            if looked.is_err() {
                self.within(format_args!("{name}"));
            }
            looked?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let looked = seq.next_element_seed(Look { twice: self.twice });
            if looked.is_err() {
                self.within(format_args!("[{index}]"));
            }
            match looked? {
                Some(()) => index += 1,
                None => return Ok(()),
            }
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A field's name, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The names that an object has had.
#[derive(Default)]
struct Seen<'a> {
    few: Vec<Cow<'a, str>>,
    /// All of them, once they are many.
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    /// Returns whether the name is a new one.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.len() < FEW {
            let new = !self.few.contains(&name);
            self.few.push(name);
            return new;
        }
        if self.many.is_empty() {
            self.many.extend(self.few.iter().cloned());
        }
        self.many.insert(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(json: &str) -> Option<String> {
        given_twice(json.as_bytes())
    }

    #[test]
    fn a_field_given_twice_is_found_at_any_depth() {
        for (json, path) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":1,"\u0061":2}"#, "a"),
            (r#"{"b":{"a":1,"c":2,"a":3}}"#, "b.a"),
            (r#"{"b":[0,{"a":null,"a":[]}]}"#, "b[1].a"),
            (r#"{"b":[[],[{"c":{"a":"","a":{}}}]]}"#, "b[1][0].c.a"),
            (r#"[{"a":1.5,"a":-1}]"#, "[0].a"),
        ] {
            assert_eq!(twice(json).as_deref(), Some(path), "{json}");
        }
        let mut many: String = (0..40).map(|n| format!("\"f{n}\":{n},")).collect();
        many.push_str("\"last\":0");
        assert_eq!(twice(&format!("{{{many}}}")), None);
        for again in ["f3", "f39", "last"] {
            let json = format!("{{{many},\"{again}\":true}}");
            assert_eq!(twice(&json).as_deref(), Some(again));
        }
    }

    #[test]
    fn the_same_name_in_two_objects_is_given_once_in_each() {
        for json in [
            "",
            "7",
            "{",
            "{}",
            r#"{"a":{"a":{"a":[]}}}"#,
            r#"{"a":[{"b":1},{"b":2}],"b":3}"#,
            r#"{"a":"{\"b\":1,\"b\":2}"}"#,
        ] {
            assert_eq!(twice(json), None, "{json}");
        }
    }
}
