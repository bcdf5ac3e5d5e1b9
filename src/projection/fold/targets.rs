//! Which documents an event touches: all of them where they are few, the next of them, in the order of their
//! ids, where they are more than a transaction has room for.

use super::{
    ViewFold,
    poison::{Failure, Poison, guard_with_parts},
};
use crate::{
    event_log::subject::Id,
    projection::working_set::{PageIds, Unmet},
    read_model::exchange::{Needs, RouteKey},
    recorded::Recorded,
    view::{Route, View},
};
use std::collections::HashSet;

/// The number of routes of a crowd that are followed alone at once.
const ALONE: usize = 16;

/// Documents that an event touches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) ids: Vec<String>,
    /// True if there are more after them, for which there is no room.
    pub(super) more: bool,
    /// The place where these end, if there are more: none if there is no room for any.
    pub(super) through: Option<String>,
    /// True if they are a page that the store was asked for.
    pub(super) page: bool,
}

impl<V: View> ViewFold<V> {
    /// The documents that the event touches, those after an id where that is given, as many as fit into a
    /// transaction that has so many rows already.
    pub(super) fn targets(
        &self,
        event: &Recorded,
        after: Option<&str>,
        rows: usize,
        needs: &mut Needs,
    ) -> Result<Targets, Failure> {
        let ids = match self.route(event, needs)? {
            Route::Nothing => return Ok(Targets::default()),
            Route::Ids(ids) => {
                let mut ids = distinct(ids)?;
                if after.is_some() || ids.len() > self.rows {
                    ids.sort_unstable();
                }
                let ids = ids.into_iter();
                ids.filter(|id| after.is_none_or(|after| id.as_str() > after))
                    .collect()
            }
            Route::Where(fields) if after.is_some() => {
                return self.next_page(fields, after, needs);
            }
            Route::Where(fields) => match self.set.matches(fields.clone()) {
                Ok(ids) => ids,
                // Their page is only told by the store when the store has all that was changed before; and
                // one page is held at a time, so that with another one this pass would begin anew for ever.
                Err(Unmet::Many) if rows > 0 || self.paged => return Ok(Targets::none()),
                Err(Unmet::Many) => return self.next_page(fields, None, needs),
                Err(unmet) => return Err(ask(unmet, needs)),
            },
        };
        Ok(self.fitting(ids, rows))
    }

    /// All documents that the route leads to; none where they are too many to be told.
    pub(super) fn all_targets(
        &self,
        route: Route,
        needs: &mut Needs,
    ) -> Result<Option<Vec<String>>, Failure> {
        match route {
            Route::Nothing => Ok(Some(Vec::new())),
            Route::Ids(ids) => distinct(ids).map(Some),
            Route::Where(fields) => match self.set.matches(fields) {
                Ok(ids) => Ok(Some(ids)),
                Err(Unmet::Many) => Ok(None),
                Err(unmet) => Err(ask(unmet, needs)),
            },
        }
    }

    /// Which documents the event touches.
    pub(super) fn route(&self, event: &Recorded, needs: &mut Needs) -> Result<Route, Failure> {
        let parts = self.set.parts();
        let (route, _) = guard_with_parts(parts, needs, || V::route(event, parts))?;
        Ok(route)
    }

    /// Those for which there is room. An event that does not fit beside what was changed before it begins
    /// a transaction of its own.
    fn fitting(&self, mut ids: Vec<String>, rows: usize) -> Targets {
        let more = ids.len() > self.rows.saturating_sub(rows);
        if more && rows > 0 {
            return Targets::none();
        }
        ids.truncate(self.rows);
        let through = ids.last().filter(|_| more).cloned();
        Targets {
            ids,
            more,
            through,
            page: false,
        }
    }

    fn next_page(
        &self,
        fields: RouteKey,
        after: Option<&str>,
        needs: &mut Needs,
    ) -> Result<Targets, Failure> {
        let PageIds {
            mut ids,
            mut through,
        } = match self.set.page(fields, after) {
            Ok(Ok(page)) => page,
            Ok(Err(key)) => {
                // Asked for by itself: nothing else is of this transaction.
                if needs.page.is_none() {
                    needs.page = Some(key);
                }
                return Err(Failure::Waits);
            }
            Err(unmet) => return Err(ask(unmet, needs)),
        };
        if ids.len() > self.rows {
            ids.truncate(self.rows);
            through = ids.last().cloned();
        }
        Ok(Targets {
            ids,
            more: through.is_some(),
            through,
            page: true,
        })
    }
}

impl Targets {
    /// There are some, and no room for any.
    fn none() -> Self {
        Self {
            ids: Vec::new(),
            more: true,
            through: None,
            page: false,
        }
    }
}

/// Asks for what is not known.
fn ask(unmet: Unmet, needs: &mut Needs) -> Failure {
    match unmet {
        Unmet::Needed(route) => {
            needs.routes.insert(route);
            Failure::Unmet
        }
        Unmet::Alone(route) => {
            needs.alone.insert(route);
            match needs.alone.len() < ALONE {
                true => Failure::Unmet,
                false => Failure::Waits,
            }
        }
        Unmet::Many => Failure::Waits,
        Unmet::Undeclared(fields) => {
            Poison::failure(format!("the view does not declare a route by {fields:?}"))
        }
    }
}

/// Each id once.
fn distinct(ids: Vec<String>) -> Result<Vec<String>, Failure> {
    let mut seen = HashSet::with_capacity(ids.len());
    let ids: Vec<_> = ids
        .into_iter()
        .filter(|id| seen.insert(id.clone()))
        .collect();
    match ids.iter().find(|id| Id::document(id.as_str()).is_err()) {
        Some(id) => Err(Poison::failure(format!("{id:?} cannot be a document's id"))),
        None => Ok(ids),
    }
}
