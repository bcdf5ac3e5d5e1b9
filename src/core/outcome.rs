//! The outcome of an accepted command, as callers and processes see it. Pure.

use crate::json::put_text;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};
use utoipa::ToSchema;

/// The answer to an accepted command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The aggregate's name.
    pub aggregate: Cow<'static, str>,
    /// The aggregate's id.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// The aggregate's version after the command.
    pub version: u64,
    /// The stream sequence of the aggregate's last commit, this command's when it has events.
    pub position: u64,
    /// The events that the command caused; none when it changed nothing.
    pub events: Vec<OutcomeEvent>,
    /// True if this is the remembered outcome of an earlier command with the same key.
    pub replayed: bool,
}

impl Outcome {
    /// The position token, `<aggregate>@<stream sequence>`: what `Headwater-Position` carries.
    #[must_use]
    pub fn position_token(&self) -> String {
        position_token(&self.aggregate, self.position)
    }

    /// The version as an entity tag, in its quotes.
    #[must_use]
    pub fn entity_tag(&self) -> String {
        entity_tag(self.version)
    }

    /// Its JSON. By hand, as it is written for every command: the names of aggregates and their ids
    /// are of `A-Z a-z 0-9 _ -`, and need no escaping.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let names = self.events.iter().map(|event| event.r#type.len() + 48);
        let mut json = Vec::with_capacity(160 + names.sum::<usize>());
        let mut digits = itoa::Buffer::new();
        put(&mut json, &[r#"{"aggregate":""#, &self.aggregate]);
        put(&mut json, &[r#"","id":""#, &self.id]);
        put(&mut json, &[r#"","version":"#, digits.format(self.version)]);
        put(
            &mut json,
            &[r#","position":"#, digits.format(self.position)],
        );
        put(&mut json, &[r#","events":["#]);
        for (number, event) in self.events.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            put(&mut json, &[comma, r#"{"type":"#]);
            put_text(&mut json, &event.r#type);
            put(
                &mut json,
                &[r#","version":"#, digits.format(event.version), "}"],
            );
        }
        let replayed = if self.replayed { "true}" } else { "false}" };
        put(&mut json, &[r#"],"replayed":"#, replayed]);
        json
    }
}

/// Writes a position token, `<aggregate>@<stream sequence>`.
#[must_use]
pub fn position_token(aggregate: &str, position: u64) -> String {
    let mut token = String::with_capacity(aggregate.len() + 21);
    token.push_str(aggregate);
    token.push('@');
    token.push_str(itoa::Buffer::new().format(position));
    token
}

/// Writes a version as an entity tag, in its quotes.
#[must_use]
pub fn entity_tag(version: u64) -> String {
    let mut tag = String::with_capacity(22);
    tag.push('"');
    tag.push_str(itoa::Buffer::new().format(version));
    tag.push('"');
    tag
}

/// One event of an [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeEvent {
    /// The full storage name, for example `order.placed.v1`.
    #[schema(value_type = String)]
    pub r#type: Arc<str>,
    /// The aggregate's version after it.
    pub version: u64,
}

/// Writes texts as they are, one after the other.
fn put(to: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        to.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_written_as_it_is_described() {
        let event = |name: &str, version| OutcomeEvent {
            r#type: name.into(),
            version,
        };
        for (events, replayed) in [
            (vec![], true),
            (vec![event("stock.received.v1", 7)], false),
            (vec![event("a \"quoted\" name", 7), event("b", 8)], false),
        ] {
            let outcome = Outcome {
                aggregate: "stock".into(),
                id: "gangnam_apple-1kg".into(),
                version: 8,
                position: u64::MAX,
                events,
                replayed,
            };
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(String::from_utf8(outcome.to_json()).unwrap(), json);
            assert_eq!(outcome.entity_tag(), "\"8\"");
            assert_eq!(outcome.position_token(), format!("stock@{}", u64::MAX));
        }
    }
}
