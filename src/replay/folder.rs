//! Folding the commits of many aggregates, each commit in the order of the log.

use super::{Fault, Known, TypeCounts, counts::Counts};
use crate::{
    command::describe::ReplayedState,
    event_log::{
        StoredMessage, claim,
        codec::{self, CodecError, StoredEvent},
        exclusion::OtherVersions,
        subject,
    },
};
use std::{collections::HashMap, sync::Arc};

/// About the bytes that a folded aggregate takes beside what its events have.
const ENTRY: usize = 400;
/// A state seldom has more than so many bytes, however many events it is folded of.
const STATE: usize = 16 << 10;

/// The states of some aggregates.
pub(crate) struct CommitFolder {
    known: Arc<Known>,
    aggregates: HashMap<Box<str>, Folded>,
    bytes: usize,
}

struct Folded {
    /// `None` where it is broken, or left out.
    state: Option<Box<dyn ReplayedState>>,
    version: u64,
    others: OtherVersions,
    bytes: usize,
}

impl CommitFolder {
    pub(crate) fn new(known: Arc<Known>) -> Self {
        Self {
            known,
            aggregates: HashMap::new(),
            bytes: 0,
        }
    }

    /// Returns about how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many aggregates there are.
    pub(crate) fn aggregates(&self) -> u64 {
        self.aggregates.len() as u64
    }

    /// Takes the next message of the log, and counts what it is. Returns a fault once of each aggregate: it
    /// is not folded any further.
    pub(crate) fn apply(&mut self, message: &StoredMessage, counts: &mut Counts) -> Option<Fault> {
        let (subject, position) = (&*message.subject, message.position);
        if subject.starts_with("claim.") {
            counts.claims += 1;
            let wrong = claim::check(message).err()?;
            return Some(Fault::of_message(subject, position, wrong.to_string()));
        }
        if subject.starts_with("log.") {
            counts.records += 1;
            return None;
        }
        let Some((name, _)) = subject::parse_events(subject) else {
            let reason = "nothing of this program stands on such a subject";
            return Some(Fault::of_message(subject, position, reason));
        };
        counts.commits += 1;
        let known = &self.known;
        let list = known.exclusions.get(subject);
        let excluded = list.is_some_and(|list| list.of(message).is_some());
        counts.excluded += u64::from(excluded);
        let events = codec::decode(subject, position, &message.payload);
        if let Some(folded) = self.aggregates.get_mut(subject) {
            let before = folded.bytes;
            let fault = folded.apply((subject, position), events, excluded, counts);
            self.bytes += folded.bytes - before;
            return fault;
        }
        let state = known.kinds.get(name).map(|begin| begin());
        let left_out = known.left_out.iter().any(|left| left == name);
        let unknown = (state.is_none() && !left_out).then(|| {
            let reason = format!("this program has no aggregate {name:?}");
            Fault::of_message(subject, position, reason)
        });
        let mut folded = Folded {
            state,
            version: 0,
            others: OtherVersions::default(),
            bytes: ENTRY + subject.len(),
        };
        let fault = folded.apply((subject, position), events, excluded, counts);
        self.bytes += folded.bytes;
        self.aggregates.insert(subject.into(), folded);
        unknown.or(fault)
    }
}

impl Folded {
    fn apply(
        &mut self,
        (subject, position): (&str, u64),
        events: Result<Vec<StoredEvent>, CodecError>,
        excluded: bool,
        counts: &mut Counts,
    ) -> Option<Fault> {
        match events {
            Ok(events) if excluded => {
                let last = events.last()?.recorded.version;
                self.version = self.others.pass_over(self.version, last);
                None
            }
            Ok(events) => {
                let mut fault = None;
                for event in &events {
                    let counted = self.fold(subject, event, &mut fault);
                    counts.add(&event.recorded.event_type, counted);
                }
                fault
            }
            Err(_) if excluded => None,
            // Told once, where it breaks.
            Err(error) => self
                .state
                .take()
                .map(|_| Fault::of_commit(subject, position, &error)),
        }
    }

    fn fold(
        &mut self,
        subject: &str,
        event: &StoredEvent,
        fault: &mut Option<Fault>,
    ) -> TypeCounts {
        let event = &event.recorded;
        let mut counted = TypeCounts {
            events: 1,
            ..TypeCounts::default()
        };
        let Some(mut state) = self.state.take() else {
            return counted;
        };
        let mut breaks = |field: Option<String>, reason: String| {
            *fault = Some(Fault {
                position: event.position,
                subject: subject.to_owned(),
                event_type: Some(event.event_type.clone()),
                version: Some(event.version),
                field,
                reason,
            });
        };
        if self.others.follow(self.version, event.version).is_none() {
            let reason = format!("its version does not follow on {}", self.version);
            breaks(Some("id".to_owned()), reason);
            return counted;
        }
        let folded = state.fold(&event.event_type, &event.data);
        let decoded = match &folded {
            Ok(decoded) => Some(decoded),
            Err(failed) => failed.decoded.as_ref(),
        };
        counted.decoded = u64::from(decoded.is_some());
        counted.upcast = u64::from(decoded.is_some_and(|it| it.upcast));
        match folded {
            Ok(_) => {
                counted.folded = 1;
                self.version = event.version;
                self.bytes = self
                    .bytes
                    .max((self.bytes + event.data.get().len()).min(STATE));
                self.state = Some(state);
            }
            Err(failed) => breaks(failed.field, failed.reason),
        }
        counted
    }
}
