//! One document that is watched while its view is folded again: each event that changes it is noted.

use super::{Refold, RefoldError, same_document};
use crate::{
    event_log::reader::Commit,
    projection::explained::Explaining,
    read_model::exchange::{Changes, DocumentChange, Within},
};
use serde_json::Value;

impl Refold {
    /// Watches a document, before anything is folded.
    pub(in crate::projection) fn observe(&mut self, explaining: Explaining) {
        self.observed = Some(explaining);
    }

    /// Takes what was noted of the document.
    pub(in crate::projection) fn take_observed(&mut self) -> Option<Explaining> {
        self.observed.take()
    }

    /// Returns whether a document is what it was folded to.
    pub(in crate::projection) fn is_folded_as(
        &self,
        id: &str,
        served: Option<&Value>,
    ) -> Result<bool, RefoldError> {
        let folded = self.scratch.document(id)?;
        Ok(same_document(served, folded.as_ref()))
    }

    /// Returns whether the document that is watched is among these changes.
    pub(super) fn is_observed(&self, changes: &Changes) -> bool {
        self.change_of(changes).is_some()
    }

    fn change_of<'a>(&self, changes: &'a Changes) -> Option<&'a DocumentChange> {
        let observed = self.observed.as_ref()?;
        let mut documents = changes.documents.iter();
        documents.find(|change| change.id == observed.id())
    }

    /// Notes what the first event of a commit, from `within` on, has made of the document.
    pub(super) fn note(&mut self, commit: &Commit, within: Option<&Within>, changes: &Changes) {
        let Some(change) = self.change_of(changes) else {
            return;
        };
        let document = change.document.clone();
        let event = within.map_or(0, |within| within.event);
        let events = commit.events.as_deref().unwrap_or_default();
        if let (Some(event), Some(observed)) = (events.get(event), &mut self.observed) {
            observed.note(event, document);
        }
    }

    /// Counts commits that were folded.
    pub(super) fn count(&mut self, commits: usize) {
        if let Some(observed) = &mut self.observed {
            observed.read += commits as u64;
        }
    }
}
