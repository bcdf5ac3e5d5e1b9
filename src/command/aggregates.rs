//! The aggregates of a program, each with how its actors are started and how it is described.

use super::{
    describe::AggregateDescription,
    registry::{Kind, KindOf},
};
use crate::{aggregate::Aggregate, event_log::subject};
use std::sync::Arc;

/// The aggregates that a program has, in the order in which they were added.
#[derive(Clone, Default)]
pub struct Aggregates {
    kinds: Vec<Arc<dyn Kind>>,
    descriptions: Vec<AggregateDescription>,
    /// Those that take commands from within the program only, described as the others.
    internal: (Vec<Arc<dyn Kind>>, Vec<AggregateDescription>),
}

impl Aggregates {
    /// Adds aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*` or taken: a defect of the program.
    #[must_use]
    pub fn with<A: Aggregate>(mut self) -> Self {
        self.check::<A>();
        self.kinds.push(Arc::new(KindOf::<A>::default()));
        self.descriptions.push(AggregateDescription::of::<A>());
        self
    }

    /// Adds aggregate `A`, which nobody outside of the program can give commands to.
    ///
    /// # Panics
    ///
    /// As [`Aggregates::with`].
    #[must_use]
    pub fn with_internal<A: Aggregate>(mut self) -> Self {
        self.check::<A>();
        let (kinds, descriptions) = &mut self.internal;
        kinds.push(Arc::new(KindOf::<A>::default()));
        descriptions.push(AggregateDescription::of::<A>());
        self
    }

    fn check<A: Aggregate>(&self) {
        assert!(subject::is_name(A::NAME), "{} is not a name", A::NAME);
        let others = self.descriptions.iter().chain(&self.internal.1);
        let taken = others.map(|other| other.name).any(|name| name == A::NAME);
        assert!(!taken, "there are two aggregates {}", A::NAME);
    }

    /// Describes them, and after them those of within.
    pub fn all_descriptions(&self) -> impl Iterator<Item = &AggregateDescription> {
        self.descriptions.iter().chain(&self.internal.1)
    }

    /// Describes them, without those of within.
    #[must_use]
    pub fn descriptions(&self) -> &[AggregateDescription] {
        &self.descriptions
    }

    /// Describes those of within.
    pub(super) fn internal_descriptions(&self) -> &[AggregateDescription] {
        &self.internal.1
    }

    /// The kinds, in the order of their descriptions.
    pub(super) fn kinds(&self) -> Arc<[Arc<dyn Kind>]> {
        let kinds = self.kinds.iter().chain(&self.internal.0);
        kinds.cloned().collect()
    }
}
