//! A view as this program folds it from the whole log, beside no store: what its documents would be.

use super::{RefoldError, Scratch, fold_into};
use crate::{
    event_log::reader::Commit,
    projection::{
        RegisteredView,
        fold::{Fold, Rehearsal},
    },
};
use serde_json::Value;
use std::{collections::HashSet, path::Path};

/// A view that is only folded.
pub struct Preview {
    view: RegisteredView,
    fold: Box<dyn Fold>,
    scratch: Scratch,
}

impl Preview {
    /// Begins with nothing. What does not fit in memory goes to files in `folder`. Passes over the commits at the
    /// positions that are excluded.
    #[must_use]
    pub fn new(view: &RegisteredView, folder: &Path, excluded: &HashSet<u64>) -> Self {
        let mut fold = view.fold();
        fold.reset(HashSet::new(), HashSet::new());
        fold.exclude(excluded);
        fold.rehearse(Rehearsal::default());
        Self {
            scratch: Scratch::new(folder, &view.description().query.routes),
            view: view.clone(),
            fold,
        }
    }

    /// Returns the view.
    #[must_use]
    pub fn view(&self) -> &RegisteredView {
        &self.view
    }

    /// Folds the next commits: those of the aggregates that the view follows, in the order of the log.
    ///
    /// # Errors
    ///
    /// Returns [`RefoldError`] when the view's data do not fit its types, or cannot be kept.
    pub async fn apply(&mut self, commits: &[Commit]) -> Result<(), RefoldError> {
        fold_into(&mut *self.fold, &mut self.scratch, commits).await
    }

    /// Returns a document.
    ///
    /// # Errors
    ///
    /// Returns [`RefoldError`] when what was kept cannot be read.
    pub fn document(&self, id: &str) -> Result<Option<Value>, RefoldError> {
        Ok(self.scratch.document(id)?)
    }

    /// Returns documents after an id, in the order of ids, at most so many.
    ///
    /// # Errors
    ///
    /// Returns [`RefoldError`] when what was kept cannot be read.
    pub fn after(
        &self,
        id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, RefoldError> {
        Ok(self.scratch.range(id, None, limit)?)
    }

    /// Returns how many aggregates the view could not apply, each from some event on.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.fold.parked()
    }

    /// Removes what it has left on the disk.
    pub async fn discard(self) {
        self.scratch.discard().await;
    }
}
