//! A view as the runtime handles it: what it declares, and its fold, whichever its types are.

use super::fold::{Fold, ViewFold};
use crate::{read_model::ViewDescription, view::View};

/// One view, its types forgotten.
#[derive(Clone)]
pub struct RegisteredView {
    description: ViewDescription,
    fold: fn() -> Box<dyn Fold>,
}

impl RegisteredView {
    /// View `V`.
    #[must_use]
    pub fn of<V: View>() -> Self {
        Self {
            description: ViewDescription::of::<V>(),
            fold: || Box::new(ViewFold::<V>::default()),
        }
    }

    /// Returns what the view declares.
    #[must_use]
    pub fn description(&self) -> &ViewDescription {
        &self.description
    }

    /// A new fold of the view.
    pub(crate) fn fold(&self) -> Box<dyn Fold> {
        (self.fold)()
    }
}

impl std::fmt::Debug for RegisteredView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisteredView")
            .field("name", &self.description.name)
            .field("version", &self.description.version)
            .finish_non_exhaustive()
    }
}
