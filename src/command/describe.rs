//! What the command side offers, for discovery and for the published API description.

use crate::aggregate::{Aggregate, Rejection};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
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
}

/// One command.
#[derive(Debug, Clone)]
pub struct CommandDescription {
    /// The command's name, for example `place`.
    pub name: String,
    /// What the command does, from its documentation.
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
                let (name, body) = variant
                    .properties
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| panic!("a command of {} has no name", A::NAME));
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
        }
    }
}
