//! The offer of the command side, for discovery and for the published API description.

mod replayed;

pub use replayed::{EventFault, Replayed, ReplayedState};

use crate::{
    aggregate::{Aggregate, Rejection},
    recorded::{DecodeError, decode_event},
};
use replayed::Replaying;
use serde_json::value::RawValue;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::AdditionalProperties},
};

/// One aggregate and its commands.
#[derive(Debug, Clone)]
pub struct AggregateDescription {
    /// The aggregate's name.
    pub name: &'static str,
    /// Its commands, in the order in which they are declared.
    pub commands: Vec<CommandDescription>,
    /// The named schemas that the bodies refer to.
    pub schemas: Vec<(String, RefOr<Schema>)>,
    /// Tries to read a stored event of it, from its full storage name and its data.
    pub read_event: fn(&str, &RawValue) -> Result<(), DecodeError>,
    /// Begins to fold the stored events of one.
    pub replay: fn() -> Box<dyn ReplayedState>,
}

/// One command.
#[derive(Debug, Clone)]
pub struct CommandDescription {
    /// The command's name, for example `place`.
    pub name: String,
    /// The effect of the command, from its documentation.
    pub summary: Option<String>,
    /// The schema of its body: a JSON object.
    pub body: RefOr<Schema>,
    /// The codes that the aggregate's rules can refuse it with.
    pub refusals: &'static [&'static str],
}

impl AggregateDescription {
    /// Describes aggregate `A` from the schema of its command type.
    ///
    /// # Panics
    ///
    /// Panics when `A::Command` is not an externally tagged enum of struct variants, which is a
    /// defect of the program and shows at its start.
    #[must_use]
    pub fn of<A: Aggregate>() -> Self {
        let RefOr::T(Schema::OneOf(variants)) = A::Command::schema() else {
            panic!("the command type of {} is not an enum", A::NAME);
        };
        let commands = variants
            .items
            .into_iter()
            .map(|variant| {
                let RefOr::T(Schema::Object(variant)) = variant else {
                    panic!("a command of {} has no named fields", A::NAME);
                };
                let (name, mut body) = variant
                    .properties
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| panic!("a command of {} has no name", A::NAME));
                // Commands deny unknown fields, but the derived schema says so only of structs.
                if let RefOr::T(Schema::Object(body)) = &mut body {
                    body.additional_properties =
                        Some(Box::new(AdditionalProperties::FreeForm(false)));
                    body.description = None;
                }
                CommandDescription {
                    summary: variant.description,
                    refusals: A::Rejection::codes(&name),
                    body,
                    name,
                }
            })
            .collect();
        let mut schemas = Vec::new();
        A::Command::schemas(&mut schemas);
        Self {
            name: A::NAME,
            commands,
            schemas,
            read_event: |event_type, data| decode_event::<A>(event_type, data).map(|_| ()),
            replay: || Box::new(Replaying::<A>::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mart::{display::Display, member::Member, order::Order, product::Product, stock::Stock},
        testkit::command_names,
    };
    use serde_json::{Value, json};

    /// The bodies by command, checked for what holds of every aggregate.
    fn bodies<A: Aggregate>() -> Value {
        let description = AggregateDescription::of::<A>();
        assert_eq!(description.name, A::NAME);
        let names: Vec<_> = description.commands.iter().map(|c| &c.name).collect();
        assert_eq!(names, command_names::<A>(), "in the order of declaration");
        let mut bodies = Value::default();
        for command in description.commands {
            let body = serde_json::to_value(&command.body).unwrap();
            assert!(command.summary.is_some(), "{} has no summary", command.name);
            assert_eq!(body["type"], "object", "{}: {body}", command.name);
            assert_eq!(body["additionalProperties"], false, "{}", command.name);
            assert!(!command.refusals.is_empty(), "{}", command.name);
            bodies[&command.name] = body;
        }
        bodies
    }

    #[test]
    fn products_are_described() {
        let bodies = bodies::<Product>();
        let register = &bodies["register"];
        assert_eq!(register["required"], json!(["name", "price", "category"]));
        assert_eq!(register["properties"]["price"]["type"], "integer");
        assert_eq!(register["properties"]["price"]["minimum"], 1);
        assert_eq!(register["properties"]["price"]["maximum"], 100_000_000);
        assert_eq!(register["properties"]["name"]["maxLength"], 200);
        assert_eq!(bodies["discontinue"]["properties"], Value::Null);
    }

    #[test]
    fn stocks_are_described() {
        let bodies = bodies::<Stock>();
        assert_eq!(
            bodies["adjust"]["properties"]["delta"]["minimum"],
            -1_000_000
        );
        assert_eq!(bodies["reserve"]["required"], json!(["order", "quantity"]));
    }

    #[test]
    fn displays_are_described() {
        let bodies = bodies::<Display>();
        let from = &bodies["schedule"]["properties"]["from"];
        assert_eq!(
            (&from["type"], &from["format"]),
            (&json!("string"), &json!("date-time"))
        );
    }

    #[test]
    fn members_are_described() {
        let bodies = bodies::<Member>();
        assert_eq!(bodies["register"]["properties"]["email"]["format"], "email");
    }

    #[test]
    fn orders_are_described_with_the_schema_of_their_lines() {
        let bodies = bodies::<Order>();
        let lines = &bodies["place"]["properties"]["lines"];
        assert_eq!(lines["minItems"], 1);
        assert_eq!(lines["maxItems"], 50);
        assert_eq!(lines["items"]["$ref"], "#/components/schemas/NewLine");
        let schemas = AggregateDescription::of::<Order>().schemas;
        let (_, line) = schemas.iter().find(|(name, _)| name == "NewLine").unwrap();
        let line = serde_json::to_value(line).unwrap();
        assert_eq!(line["additionalProperties"], false);
        assert_eq!(line["required"], json!(["sku", "quantity", "unit_price"]));
    }
}
