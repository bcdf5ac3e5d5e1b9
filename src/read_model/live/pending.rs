//! Events that wait to be sent to one client, one for each document.

use super::{LiveEvent, hash};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The number of places of events that have been replaced may be left over.
const MAX_HOLES: usize = 64;

/// Events in their order. A newer one of the same document takes the place of the one before, and
/// stands last.
#[derive(Default)]
pub(super) struct Pending {
    /// `None` where an event was replaced.
    events: VecDeque<Option<Arc<LiveEvent>>>,
    /// The number of each document's event, by the hash of its id.
    numbers: HashMap<u64, u64>,
    /// The number of the first of `events`.
    first: u64,
    bytes: usize,
}

impl Pending {
    pub(super) fn push(&mut self, event: Arc<LiveEvent>) {
        let number = self.first + self.events.len() as u64;
        self.bytes += event.body.len();
        let older = self.numbers.insert(hash(event.id.as_bytes()), number);
        self.events.push_back(Some(event));
        let older = older
            .and_then(|older| usize::try_from(older - self.first).ok())
            .and_then(|place| self.events.get_mut(place)?.take());
        if let Some(older) = older {
            self.bytes -= older.body.len();
        }
        if self.events.len() > 2 * self.numbers.len() + MAX_HOLES {
            self.close_up();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Arc<LiveEvent>> {
        self.skip_holes();
        let event = self.events.pop_front()??;
        self.first += 1;
        self.bytes -= event.body.len();
        self.numbers.remove(&hash(event.id.as_bytes()));
        if self.numbers.is_empty() {
            // A client that has caught up keeps nothing of a burst.
            *self = Self::default();
        }
        Some(event)
    }

    /// The event that comes next.
    pub(super) fn front(&mut self) -> Option<&Arc<LiveEvent>> {
        self.skip_holes();
        self.events.front()?.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn skip_holes(&mut self) {
        while let Some(None) = self.events.front() {
            self.events.pop_front();
            self.first += 1;
        }
    }

    fn close_up(&mut self) {
        let events = std::mem::take(self).events;
        events
            .into_iter()
            .flatten()
            .for_each(|event| self.push(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_model::EventId;
    use bytes::Bytes;

    fn event(id: &str, version: u64) -> Arc<LiveEvent> {
        let from = EventId::new("v1".into(), version);
        let body = Bytes::from(vec![b'x'; 10]);
        Arc::new(LiveEvent::put(id, from, version, body))
    }

    #[test]
    fn a_newer_event_of_a_document_is_the_only_one_and_the_last() {
        let mut pending = Pending::default();
        for (id, version) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)] {
            pending.push(event(id, version));
        }
        assert_eq!((pending.len(), pending.bytes()), (3, 30));
        assert_eq!(&*pending.front().unwrap().id, "a");
        let mut left = Vec::new();
        while let Some(event) = pending.pop() {
            left.push((event.id.to_string(), event.version));
        }
        let expected = [("a", 3), ("c", 4), ("b", 5)];
        assert_eq!(left, expected.map(|(id, version)| (id.to_owned(), version)));
        assert!(pending.is_empty() && pending.bytes() == 0);
    }

    #[test]
    fn a_document_that_changes_all_the_time_takes_one_place() {
        let mut pending = Pending::default();
        for version in 0..10_000 {
            pending.push(event("a", version));
            pending.push(event("b", version));
            if version % 1_000 == 999 {
                assert_eq!(pending.pop().unwrap().version, version);
            }
        }
        assert!(pending.events.len() <= 4 + MAX_HOLES + 1);
        assert!(pending.bytes() <= 20);
    }
}
