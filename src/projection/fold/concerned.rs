//! The documents that are behind because of a commit that is set aside.

use super::ViewFold;
use crate::{
    event_log::reader::Commit,
    read_model::exchange::Needs,
    recorded::Recorded,
    view::{Route, View},
};
use std::collections::BTreeSet;

/// The most documents that are named as behind because of one commit.
const MOST_NAMED: usize = 1_000;

impl<V: View> ViewFold<V> {
    /// The documents that a commit which is set aside would have changed, as far as can be told: those
    /// that its events are routed to, or if none is, those that the events before it are. None where they
    /// are too many.
    pub(super) fn concerned(
        &mut self,
        commit: &Commit,
        from_event: usize,
        needs: &mut Needs,
    ) -> Option<Vec<String>> {
        let events = commit.events.as_deref().unwrap_or_default();
        let ids = self.routed(events.get(from_event..).unwrap_or_default(), needs)?;
        if !ids.is_empty() {
            return Some(ids);
        }
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        let history = self.histories.remove(&aggregate).unwrap_or_default();
        let ids = self.routed(&history, needs);
        self.histories.insert(aggregate, history);
        ids
    }

    /// The ids of the documents that these events of a parked aggregate are routed to; none where they are
    /// too many.
    fn routed(&mut self, events: &[Recorded], needs: &mut Needs) -> Option<Vec<String>> {
        let mut ids = BTreeSet::new();
        for event in events {
            // What cannot be routed is of no help here; why it is parked is noted elsewhere.
            match self.route(event, needs) {
                // Once is enough: a later document is made with the part of the parked aggregate, and
                // is known to be behind by that.
                Ok(Route::Where(mut fields)) => {
                    fields.sort_unstable_by_key(|(field, _)| *field);
                    let aggregate = (event.aggregate.clone(), event.id.clone());
                    let route = (aggregate, fields.clone());
                    if self.told.contains(&route) {
                        continue;
                    }
                    if let Ok(found) = self.all_targets(Route::Where(fields), needs) {
                        ids.extend(found?);
                        self.telling.insert(route);
                    }
                }
                Ok(route) => {
                    if let Ok(found) = self.all_targets(route, needs) {
                        ids.extend(found?);
                    }
                }
                Err(_) => {}
            }
        }
        (ids.len() <= MOST_NAMED).then(|| ids.into_iter().collect())
    }
}
