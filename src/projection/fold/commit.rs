//! One commit: its events one after another, or what of it is set aside.

use super::{
    ViewFold,
    event::Fit,
    limits::{EventPlace, Span},
    poison::{Failure, Poison},
};
use crate::{
    read_model::exchange::{Needs, Parked, Skipped, SkippedPlace},
    view::{PartKey, View},
};

/// The result of one commit.
pub(super) enum Outcome {
    /// It is applied, or passed over.
    Done,
    /// It is set aside, or what is left of it.
    Aside(Parked),
    /// It is applied up to here: more does not fit.
    Cut(EventPlace),
    /// Nothing can be told before what it needs is known.
    Waits,
}

/// The reason why the events of a commit are not all applied.
enum Halt {
    Cut(EventPlace),
    Waits,
    Poison(EventPlace, Poison),
}

impl<V: View> ViewFold<V> {
    /// Applies one commit, or sets it aside.
    pub(super) fn commit(&mut self, span: &Span<'_>, needs: &mut Needs) -> Outcome {
        let commit = span.commit;
        if self.excluded.contains(&commit.position) {
            return Outcome::Done;
        }
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        if self.set_aside_from(&aggregate, commit.position) == 0 {
            return Outcome::Done;
        }
        let retrying = self.retries(&aggregate);
        let waits =
            self.parking.contains(&aggregate) || (self.parked.contains(&aggregate) && !retrying);
        let ((from_event, after), poison) = match waits {
            true => {
                let reason = "an earlier event of the aggregate is parked".to_owned();
                let unknown = false;
                let from = (span.from, span.after.map(ToOwned::to_owned));
                (from, Poison { reason, unknown })
            }
            false => match self.try_commit(span, needs) {
                Ok(()) => return Outcome::Done,
                Err(Halt::Cut(place)) => return Outcome::Cut(place),
                Err(Halt::Waits) => return Outcome::Waits,
                Err(Halt::Poison(place, poison)) => (place, poison),
            },
        };
        let concerned = self.concerned(commit, from_event, needs);
        if !waits {
            self.set.watch(aggregate.clone());
            self.parking.insert(aggregate.clone());
        }
        Outcome::Aside(Parked {
            aggregate,
            position: commit.position,
            from_event,
            after,
            reason: poison.reason,
            vague: concerned.is_none(),
            documents: concerned.unwrap_or_default(),
            first: !waits,
            unknown: poison.unknown,
            at: None,
        })
    }

    /// Returns whether this aggregate is the one that is tried again.
    pub(super) fn retries(&self, aggregate: &PartKey) -> bool {
        let again = self.retrying.as_ref();
        again.is_some_and(|again| again.tried.aggregate == *aggregate)
    }

    /// Applies the events of a commit, one after another, up to where it halts.
    fn try_commit(&mut self, span: &Span<'_>, needs: &mut Needs) -> Result<(), Halt> {
        let commit = span.commit;
        let place = |event| SkippedPlace {
            position: commit.position,
            mark: commit.mark,
            event,
        };
        if self.skipped.contains(&place(None)) {
            return Ok(());
        }
        let skips = self.retrying.as_ref().is_some_and(|again| again.skips);
        let skipped = |place| Skipped {
            aggregate: (commit.aggregate.clone(), commit.id.clone()),
            place,
        };
        let events = match &commit.events {
            Ok(events) => events,
            Err(_) if skips => {
                self.skipping.push(skipped(place(None)));
                return Ok(());
            }
            Err(reason) => return Err(Halt::Poison((0, None), Poison::unreadable(reason))),
        };
        let key = (commit.aggregate.clone(), commit.id.clone());
        let until = self.set_aside_from(&key, commit.position);
        for (index, event) in events.iter().enumerate().take(until).skip(span.from) {
            let place = place(Some(index));
            if self.skipped.contains(&place) {
                continue;
            }
            if self.limits.one_event && index > span.from && needs.is_empty() {
                return Err(Halt::Cut((index, None)));
            }
            let after = span.after.filter(|_| index == span.from);
            let begins = (index, after.map(ToOwned::to_owned));
            match self.event(event, &begins, needs) {
                Ok(Fit::Whole) if V::erases(event) => {
                    let again = self.retrying.as_ref();
                    let position = again.map_or(event.position, |again| again.position);
                    self.erases = self.erases.max(Some(position));
                }
                Ok(Fit::Whole) => {}
                Ok(Fit::Until(id)) => return Err(Halt::Cut((index, Some(id)))),
                Ok(Fit::Nothing) => return Err(Halt::Cut(begins)),
                // A pass that misses something proves nothing.
                Err(Failure::Unmet) => {}
                Err(Failure::Waits) => return Err(Halt::Waits),
                Err(Failure::Poison(_)) if !needs.is_empty() => {}
                Err(Failure::Poison(_)) if skips => self.skipping.push(skipped(place)),
                Err(Failure::Poison(poison)) => return Err(Halt::Poison(begins, poison)),
            }
        }
        Ok(())
    }

    /// The index of the first event of a commit that is set aside in the fold to compare with.
    fn set_aside_from(&self, aggregate: &PartKey, position: u64) -> usize {
        let set_aside = self.rehearsal.as_ref().map(|it| &it.set_aside);
        match set_aside.and_then(|set_aside| set_aside.get(aggregate)) {
            Some((from, _)) if *from < position => 0,
            Some((from, event)) if *from == position => *event,
            _ => usize::MAX,
        }
    }
}
