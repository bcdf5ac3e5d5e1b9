//! The schemas of the domain under names that cannot meet.
//!
//! Two aggregates may both have a `Line`. The first keeps the plain name; when another comes with
//! the same name and another shape, everything that came with it is put under its own prefix, and
//! its references follow.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::openapi::{Ref, RefOr, Schema};

const PREFIX: &str = "#/components/schemas/";

/// The named schemas of the document.
#[derive(Default)]
pub(super) struct Schemas {
    plain: BTreeMap<String, Value>,
    prefixed: BTreeMap<String, Value>,
}

/// The names that one description's schemas were put under.
pub(super) struct Scope(BTreeMap<String, String>);

impl Schemas {
    /// Takes the named schemas that came with one description.
    pub(super) fn take(&mut self, prefix: &str, named: &[(String, RefOr<Schema>)]) -> Scope {
        let named: BTreeMap<&String, Value> = named
            .iter()
            .map(|(name, schema)| (name, to_json(schema)))
            .collect();
        let taken = |(name, schema): (&&String, &Value)| {
            self.plain.get(*name).is_some_and(|known| known != schema)
        };
        if !named.iter().any(taken) {
            for (name, schema) in named {
                self.plain.insert(name.clone(), schema);
            }
            return Scope(BTreeMap::new());
        }
        let scope = Scope(
            named
                .keys()
                .map(|name| ((*name).clone(), format!("{prefix}.{name}")))
                .collect(),
        );
        for (name, mut schema) in named {
            scope.redirect(&mut schema);
            self.prefixed.insert(format!("{prefix}.{name}"), schema);
        }
        scope
    }

    /// Puts one more schema, which may refer to those of `scope`, under `name`, and refers to it.
    /// The name has a dot in it, so none of the domain's own can be the same.
    pub(super) fn put(&mut self, name: String, schema: &impl Serialize, scope: &Scope) -> Ref {
        let mut schema = to_json(schema);
        scope.redirect(&mut schema);
        let reference = Ref::from_schema_name(&name);
        self.prefixed.insert(name, schema);
        reference
    }

    /// All of them, as they stand in the document.
    pub(super) fn into_json(self) -> Value {
        let all: Map<String, Value> = self.plain.into_iter().chain(self.prefixed).collect();
        Value::Object(all)
    }
}

impl Scope {
    fn redirect(&self, schema: &mut Value) {
        match schema {
            Value::Object(members) => members
                .values_mut()
                .for_each(|member| self.redirect(member)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redirect(item)),
            // A reference, or a value of a discriminator's mapping.
            Value::String(text) => {
                let renamed = text.strip_prefix(PREFIX).and_then(|name| self.0.get(name));
                if let Some(name) = renamed {
                    *text = format!("{PREFIX}{name}");
                }
            }
            _ => {}
        }
    }
}

fn to_json(schema: &impl Serialize) -> Value {
    serde_json::to_value(schema).expect("a schema is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use utoipa::openapi::{ObjectBuilder, Type};

    fn line(field: &str) -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        ObjectBuilder::new().property(field, text).into()
    }

    fn basket() -> RefOr<Schema> {
        let line = Ref::from_schema_name("Line");
        ObjectBuilder::new().property("line", line).into()
    }

    #[test]
    fn the_same_name_with_another_shape_moves_under_the_prefix_with_all_that_refers_to_it() {
        let mut schemas = Schemas::default();
        let named = |field| {
            vec![
                ("Basket".to_owned(), basket()),
                ("Line".to_owned(), line(field)),
            ]
        };
        schemas.take("order", &named("sku"));
        schemas.take("gift", &named("sku"));
        let scope = schemas.take("display", &named("rank"));
        let body = schemas.put("display.place".to_owned(), &basket(), &scope);
        assert_eq!(body.ref_location, "#/components/schemas/display.place");

        let all = schemas.into_json();
        let names: Vec<&String> = all.as_object().unwrap().keys().collect();
        assert_eq!(
            names,
            [
                "Basket",
                "Line",
                "display.Basket",
                "display.Line",
                "display.place"
            ]
        );
        let reference = |name: &str| all[name]["properties"]["line"]["$ref"].clone();
        assert_eq!(reference("Basket"), json!("#/components/schemas/Line"));
        for moved in ["display.Basket", "display.place"] {
            assert_eq!(reference(moved), json!("#/components/schemas/display.Line"));
        }
    }
}
