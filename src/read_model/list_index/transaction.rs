//! A projector's transaction as the sorted lists note it: in doubt until it is said what has become of it.

use super::generation::{End, KeyChange, ListIndex, Now, Phase};
use crate::read_model::{exchange::DocumentChange, store::text};
use std::sync::Arc;

/// A transaction of which it is not known yet if it is written. Dropped as such, it leaves the lists in doubt.
pub(crate) struct ListTransaction {
    index: Arc<ListIndex>,
    /// None where nobody asked for them when it began.
    changes: Option<Vec<KeyChange>>,
    ended: bool,
}

impl ListTransaction {
    pub(super) fn begin(index: Arc<ListIndex>, changes: &[DocumentChange]) -> Self {
        let is_open = {
            let mut state = index.write();
            state.under_way += 1;
            !matches!(state.phase, Phase::Closed | Phase::Full)
        };
        let change = |change: &DocumentChange| {
            let now = match &change.document {
                None => Now::Gone,
                Some(document) => match text(document) {
                    Ok(text) => index.now(&change.id, change.position, document, &text),
                    Err(_) => Now::TooLong,
                },
            };
            KeyChange {
                id: change.id.clone(),
                now,
            }
        };
        Self {
            changes: is_open.then(|| changes.iter().map(change).collect()),
            index,
            ended: false,
        }
    }

    /// It was written, with these changes: it was fenced on one number, and has another.
    pub(crate) fn written(mut self, from: u64, to: u64) {
        let end = match self.changes.take() {
            Some(changes) => End::Written { from, to, changes },
            None => End::Unknown,
        };
        self.end(end);
    }

    /// Nothing was written.
    pub(crate) fn refused(mut self) {
        self.end(End::Refused);
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        self.index.end(end);
    }
}

impl Drop for ListTransaction {
    fn drop(&mut self) {
        if !self.ended {
            self.end(End::Unknown);
        }
    }
}
