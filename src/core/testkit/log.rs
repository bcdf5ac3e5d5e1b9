//! A log in memory: events of any aggregates in one order.

use crate::{aggregate::Aggregate, recorded::Recorded};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc};

/// Events as a view meets them, each with the next position and its aggregate's next version.
///
/// Each [`Log::add`] is one commit, a second after the one before it, from 2027-01-01T00:00:00Z on.
#[derive(Debug, Clone)]
pub struct Log {
    events: Vec<Recorded>,
    versions: BTreeMap<(String, String), u64>,
    position: u64,
    time: Timestamp,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            versions: BTreeMap::new(),
            position: 0,
            time: "2027-01-01T00:00:00Z".parse().expect("a timestamp"),
        }
    }
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next commit is at this time.
    #[must_use]
    #[track_caller]
    pub fn at(mut self, time: &str) -> Self {
        self.time = time.parse().expect("a timestamp");
        self
    }

    /// Appends one commit of one aggregate.
    ///
    /// # Panics
    ///
    /// Panics when an event does not serialise to `{"type", "data"}`.
    #[must_use]
    #[track_caller]
    pub fn add<A: Aggregate>(
        mut self,
        id: &str,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Self {
        self.position += 1;
        for event in events {
            let (event_type, data) = stored::<A>(&event);
            let key = (A::NAME.to_owned(), id.to_owned());
            let version = self.versions.entry(key).or_default();
            *version += 1;
            let command_id = format!("command-{}", self.position);
            self.events.push(Recorded {
                aggregate: A::NAME.to_owned(),
                id: id.to_owned(),
                event_type,
                version: *version,
                position: self.position,
                time: self.time,
                correlation_id: command_id.clone(),
                causation_id: command_id.clone(),
                command_id,
                caller_id: None,
                data: Arc::from(data),
            });
        }
        self.time += SignedDuration::from_secs(1);
        self
    }

    /// The events in their order.
    #[must_use]
    pub fn events(&self) -> &[Recorded] {
        &self.events
    }
}

/// Every order in which several sequences can arrive when each keeps its own: what a view has to
/// be ready for, since only the events of one aggregate are sure to keep their order.
#[must_use]
pub fn interleavings<T: Clone>(sequences: &[Vec<T>]) -> Vec<Vec<T>> {
    if sequences.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for (index, sequence) in sequences.iter().enumerate() {
        let Some((first, rest)) = sequence.split_first() else {
            continue;
        };
        let mut left = sequences.to_vec();
        left[index] = rest.to_vec();
        for mut order in interleavings(&left) {
            order.insert(0, first.clone());
            orders.push(order);
        }
    }
    orders
}

/// The storage name and the data of an event, as they go to the log.
#[track_caller]
pub(super) fn stored<A: Aggregate>(event: &A::Event) -> (String, Box<RawValue>) {
    #[derive(Deserialize)]
    struct Tagged {
        r#type: String,
        data: Box<RawValue>,
    }
    let tagged = serde_json::to_string(event)
        .and_then(|json| serde_json::from_str::<Tagged>(&json))
        .unwrap_or_else(|error| panic!("an event of {} is not stored: {error}", A::NAME));
    (tagged.r#type, tagged.data)
}
