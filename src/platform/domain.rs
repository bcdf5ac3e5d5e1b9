//! What a program consists of.

use crate::{
    aggregate::Aggregate,
    command::{client::Aggregates, describe::AggregateDescription},
    mart,
    projection::RegisteredView,
    view::View,
};

/// What a program consists of: its aggregates and its views.
#[derive(Clone, Default)]
pub struct Domain {
    pub(super) aggregates: Aggregates,
    pub(super) views: Vec<RegisteredView>,
}

impl Domain {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The mart: the reference domain that ships in the binary.
    #[must_use]
    pub fn mart() -> Self {
        Self::new()
            .aggregate::<mart::product::Product>()
            .aggregate::<mart::stock::Stock>()
            .aggregate::<mart::display::Display>()
            .aggregate::<mart::member::Member>()
            .aggregate::<mart::order::Order>()
            .view::<mart::view::ProductView>()
            .view::<mart::view::StorefrontView>()
            .view::<mart::view::OrderView>()
            .view::<mart::view::SalesView>()
    }

    /// Adds aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*` or taken: a defect of the program.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.aggregates = self.aggregates.with::<A>();
        self
    }

    /// Describes its aggregates.
    #[must_use]
    pub fn aggregates(&self) -> &[AggregateDescription] {
        self.aggregates.descriptions()
    }

    /// Adds view `V`.
    ///
    /// # Panics
    ///
    /// Panics when its name is taken: a defect of the program.
    #[must_use]
    pub fn view<V: View>(mut self) -> Self {
        let view = RegisteredView::of::<V>();
        let name = view.description().name;
        let taken = self
            .views
            .iter()
            .any(|other| other.description().name == name);
        assert!(!taken, "there are two views {name}");
        self.views.push(view);
        self
    }
}
