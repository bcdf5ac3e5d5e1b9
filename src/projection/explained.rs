//! An explanation of a document as it is told, and the notes that it is made of.

use crate::recorded::Recorded;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// The number of events that are told.
const EVENTS: usize = 500;
/// The number of fields that are told.
const FIELDS: usize = 2_000;
/// The number of bytes of the events' data that are told: an answer is one message.
const DATA_BYTES: usize = 256 << 10;

/// The explanation of a document: why it is as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The generation that is served.
    pub generation: String,
    /// The position up to which the view was folded again.
    pub position: u64,
    /// The document that is served; null when there is none.
    #[schema(value_type = Option<Object>)]
    pub served: Option<Value>,
    /// The document as the log says it; null when there is none.
    #[schema(value_type = Option<Object>)]
    pub folded: Option<Value>,
    /// True if the two are the same.
    pub equal: bool,
    /// The sequence of the last event that changed the document that is served.
    pub version: Option<u64>,
    /// True if it is behind because of an event that could not be applied.
    pub parked: bool,
    /// Each field of the document as the log says it.
    pub fields: Vec<ExplainedField>,
    /// The events that changed it, in the order of the log.
    pub events: Vec<ExplainedEvent>,
    /// The number of events that changed it. Of very many, the oldest that set nothing which is there any more are left out.
    pub events_total: u64,
    /// The number of commits that were read.
    pub read: u64,
}

/// A field of a document, and what set it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedField {
    /// The place in the document: a JSON pointer (RFC 6901).
    pub path: String,
    /// The value of it.
    pub value: Value,
    /// The index, in `events`, of the event that last set it.
    pub event: usize,
}

/// An event that changed a document.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainedEvent {
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The aggregate's version after it.
    pub version: u64,
    /// The position of its commit.
    pub position: u64,
    /// Its full storage name.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When its command was decided.
    #[schema(value_type = String, format = DateTime)]
    pub time: jiff::Timestamp,
    /// The id of the command that caused it.
    pub command_id: String,
    /// The id that all consequences of one original command share.
    pub correlation_id: String,
    /// The id of what caused the command.
    pub causation_id: String,
    /// The caller of the command, where that is known.
    pub caller_id: Option<String>,
    /// Its fields; null where all of them together are too large.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// The fields that it set.
    pub changed: Vec<String>,
    /// The fields that it took away.
    pub removed: Vec<String>,
    /// `put` or `delete`.
    pub effect: String,
}

/// The notes on a document while it is folded.
#[derive(Debug, Default)]
pub(super) struct Explaining {
    id: String,
    document: Option<Value>,
    /// Each field by its pointer: its value and the number of the event that set it.
    fields: BTreeMap<String, (Value, u64)>,
    /// The events by their numbers.
    events: BTreeMap<u64, ExplainedEvent>,
    total: u64,
    pub(super) read: u64,
}

impl Explaining {
    /// Begins with none.
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// The document that it is about.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Notes what an event has made of the document.
    pub(super) fn note(&mut self, event: &Recorded, document: Option<Value>) {
        let number = self.total;
        self.total += 1;
        let mut leaves = BTreeMap::new();
        if let Some(document) = &document {
            collect(document, &mut String::new(), &mut leaves);
        }
        let gone = self
            .fields
            .keys()
            .filter(|path| !leaves.contains_key(*path));
        let removed: Vec<String> = gone.cloned().collect();
        for path in &removed {
            self.fields.remove(path);
        }
        let mut changed = Vec::new();
        for (path, value) in leaves {
            if self
                .fields
                .get(&path)
                .is_some_and(|(known, _)| *known == value)
            {
                continue;
            }
            changed.push(path.clone());
            self.fields.insert(path, (value, number));
        }
        let effect = if document.is_some() { "put" } else { "delete" };
        self.events.insert(
            number,
            ExplainedEvent {
                aggregate: event.aggregate.clone(),
                id: event.id.clone(),
                version: event.version,
                position: event.position,
                event_type: event.event_type.clone(),
                time: event.time,
                command_id: event.command_id.clone(),
                correlation_id: event.correlation_id.clone(),
                causation_id: event.causation_id.clone(),
                caller_id: event.caller_id.clone(),
                data: serde_json::to_value(&event.data).ok(),
                changed,
                removed,
                effect: effect.to_owned(),
            },
        );
        self.document = document;
        if self.events.len() >= 2 * EVENTS {
            self.leave_out();
        }
    }

    /// Leaves out the oldest events that set nothing which is there any more.
    fn leave_out(&mut self) {
        let set: BTreeSet<u64> = self.fields.values().map(|(_, number)| *number).collect();
        let mut surplus = self.events.len().saturating_sub(EVENTS);
        self.events.retain(|number, _| {
            let goes = surplus > 0 && !set.contains(number);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Tells what was noted, as far as one message may hold it.
    pub(super) fn end(mut self) -> Explained {
        self.leave_out();
        let mut bytes = 0;
        // The last ones are told in full first.
        for event in self.events.values_mut().rev() {
            bytes += event.data.as_ref().map_or(0, |data| data.to_string().len());
            if bytes > DATA_BYTES {
                event.data = None;
            }
        }
        let index = |number: u64| self.events.range(..number).count();
        let fields = self.fields.iter().take(FIELDS);
        let fields = fields.map(|(path, (value, number))| ExplainedField {
            path: path.clone(),
            value: value.clone(),
            event: index(*number),
        });
        Explained {
            fields: fields.collect(),
            events_total: self.total,
            read: self.read,
            folded: self.document,
            events: self.events.into_values().collect(),
            ..Explained::default()
        }
    }
}

/// Collects the leaves of a value by their pointers: what has no members is one.
fn collect(value: &Value, path: &mut String, leaves: &mut BTreeMap<String, Value>) {
    let begin = path.len();
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                path.push('/');
                path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                collect(member, path, leaves);
                path.truncate(begin);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                path.push('/');
                path.push_str(&index.to_string());
                collect(item, path, leaves);
                path.truncate(begin);
            }
        }
        leaf => {
            leaves.insert(path.clone(), leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(version: u64) -> Recorded {
        Recorded {
            aggregate: "a".to_owned(),
            id: "a-1".to_owned(),
            event_type: "a.b.v1".to_owned(),
            version,
            position: version,
            time: jiff::Timestamp::UNIX_EPOCH,
            command_id: format!("c-{version}"),
            correlation_id: String::new(),
            causation_id: String::new(),
            caller_id: None,
            data: serde_json::value::RawValue::from_string("{}".to_owned())
                .unwrap()
                .into(),
        }
    }

    #[test]
    fn each_field_is_of_the_event_that_last_set_it() {
        let mut explaining = Explaining::new("d");
        explaining.note(
            &event(1),
            Some(json!({"a": {"b/c": 1}, "l": [1, 2], "e": []})),
        );
        explaining.note(
            &event(2),
            Some(json!({"a": {"b/c": 1}, "l": [1], "e": [], "n": null})),
        );
        explaining.note(
            &event(3),
            Some(json!({"a": {"b/c": 2}, "l": [1], "e": [], "n": null})),
        );
        let explained = explaining.end();
        let fields = explained.fields.iter();
        let fields: Vec<_> = fields.map(|field| (&*field.path, field.event)).collect();
        assert_eq!(fields, [("/a/b~1c", 2), ("/e", 0), ("/l/0", 0), ("/n", 1)]);
        assert_eq!(explained.events[1].changed, ["/n"]);
        assert_eq!(explained.events[1].removed, ["/l/1"]);
    }

    #[test]
    fn what_sets_nothing_any_more_is_left_out_of_very_many() {
        let mut explaining = Explaining::new("d");
        explaining.note(&event(1), Some(json!({"first": 1, "count": 0})));
        let all = 5 * EVENTS as u64;
        for count in 2..=all {
            explaining.note(&event(count), Some(json!({"first": 1, "count": count})));
        }
        let explained = explaining.end();
        assert_eq!(explained.events_total, all);
        assert_eq!(explained.events.len(), EVENTS);
        let fields: BTreeMap<_, _> = explained
            .fields
            .iter()
            .map(|field| (&*field.path, &explained.events[field.event]))
            .collect();
        assert_eq!(
            (fields["/first"].version, fields["/count"].version),
            (1, all)
        );
    }

    #[test]
    fn a_document_that_was_removed_begins_anew() {
        let mut explaining = Explaining::new("d");
        explaining.note(&event(1), Some(json!({"a": 1})));
        explaining.note(&event(2), None);
        explaining.note(&event(3), Some(json!({"a": 1})));
        let explained = explaining.end();
        assert_eq!(explained.fields[0].event, 2);
        assert_eq!(explained.events[1].effect, "delete");
    }
}
