//! One event: what it makes of the documents that it is routed to, as far as they fit.

use super::{
    ViewFold,
    limits::EventPlace,
    poison::{Failure, Poison, guard, guard_with_parts},
};
use crate::{
    read_model::exchange::Needs,
    recorded::Recorded,
    view::{Change, View},
};
use std::any::TypeId;

/// A document's id, and what becomes of it: none where it is removed.
type DocumentResult<V> = (String, Option<<V as View>::Document>);

/// The share of an event that fits into the transaction.
pub(super) enum Fit {
    Whole,
    /// The documents up to this id.
    Until(String),
    Nothing,
}

impl<V: View> ViewFold<V> {
    /// Applies one event to as many of its documents as fit: to these entirely, or to none at all.
    pub(super) fn event(
        &mut self,
        event: &Recorded,
        begins: &EventPlace,
        needs: &mut Needs,
    ) -> Result<Fit, Failure> {
        if !self.refused.is_empty()
            && let Some(reason) = self.refused.get(&(event.position, begins.clone()))
        {
            return Err(Poison::failure(reason.clone()));
        }
        let rows = self.set.rows();
        let after = begins.1.as_deref();
        // What was applied to some of its documents is remembered already.
        let undo = match after {
            None => self.remember(event, needs)?,
            Some(_) => None,
        };
        let targets = self.targets(event, after, rows, needs);
        self.paged |= targets.as_ref().is_ok_and(|targets| targets.page);
        let applied = targets.and_then(|targets| {
            let fit = match (targets.through, targets.more) {
                (Some(through), _) => Fit::Until(through),
                (None, true) => Fit::Nothing,
                (None, false) => Fit::Whole,
            };
            Ok((self.documents(targets.ids, event, needs)?, fit))
        });
        match applied {
            Ok((changes, fit)) => {
                if let (Fit::Nothing, Some(part)) = (&fit, undo) {
                    self.set.restore_part(event, part);
                }
                let again = self.retrying.as_ref();
                let position = again.map_or(event.position, |again| again.position);
                for (id, document) in changes {
                    self.set.put(id, document, position);
                }
                Ok(fit)
            }
            // What is remembered stays: the pass is void in any case, and the events after this one
            // ask for more when they know it.
            Err(unmet @ (Failure::Unmet | Failure::Waits)) => Err(unmet),
            Err(poison) => {
                if let Some(part) = undo {
                    self.set.restore_part(event, part);
                }
                Err(poison)
            }
        }
    }

    /// Returns what the event makes of these documents.
    fn documents(
        &mut self,
        ids: Vec<String>,
        event: &Recorded,
        needs: &mut Needs,
    ) -> Result<Vec<DocumentResult<V>>, Failure> {
        let mut changes = Vec::with_capacity(ids.len());
        let mut unmet = false;
        for id in ids {
            if !self.is_wanted(&id) {
                continue;
            }
            match self.document(id, event, needs) {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => {}
                Err(Failure::Unmet) => unmet = true,
                Err(other) => return Err(other),
            }
        }
        match unmet {
            true => Err(Failure::Unmet),
            false => Ok(changes),
        }
    }

    /// Updates the part of the event's own aggregate; returns what it was if it was changed.
    fn remember(
        &mut self,
        event: &Recorded,
        needs: &mut Needs,
    ) -> Result<Option<Option<V::Part>>, Failure> {
        if TypeId::of::<V::Part>() == TypeId::of::<()>() {
            return Ok(None);
        }
        if !self.set.parts().knows(&event.aggregate, &event.id) {
            needs
                .parts
                .insert((event.aggregate.clone(), event.id.clone()));
            return Ok(None);
        }
        let part = self.set.parts().get(&event.aggregate, &event.id).cloned();
        let before = part.clone();
        let part = match guard(|| V::remember(part, event))? {
            Change::Keep => return Ok(None),
            Change::Put(part) => Some(part),
            Change::Delete => None,
        };
        self.set.put_part(event, part);
        Ok(Some(before))
    }

    /// Returns what the event makes of one document; `None` when it stays.
    fn document(
        &mut self,
        id: String,
        event: &Recorded,
        needs: &mut Needs,
    ) -> Result<Option<DocumentResult<V>>, Failure> {
        if self.set.is_foreign(&id) {
            return Err(Poison::failure(
                "the store has something else in the place of the document".to_owned(),
            ));
        }
        let Some(document) = self.set.document(&id) else {
            needs.documents.insert(id);
            return Err(Failure::Unmet);
        };
        let document = document.cloned();
        let parts = self.set.parts();
        let apply = || V::apply(&id, document, event, parts);
        let (change, asked) = guard_with_parts(parts, needs, apply)?;
        let keeps = matches!(change, Change::Keep);
        for aggregate in asked.into_iter().filter(|_| !keeps) {
            if !self.retries(&aggregate) {
                self.behind.insert((aggregate, id.clone()));
            }
        }
        Ok(match change {
            Change::Keep => None,
            Change::Put(document) => Some((id, Some(document))),
            Change::Delete => Some((id, None)),
        })
    }
    /// Returns whether a document is folded at all.
    fn is_wanted(&self, id: &str) -> bool {
        let rehearsal = self.rehearsal.as_ref();
        rehearsal.is_none_or(|rehearsal| rehearsal.only.has(id))
    }
}
