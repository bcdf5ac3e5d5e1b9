//! The mart's views: one document per screen, folded from the aggregates' events.

pub mod order;
pub mod product;
pub mod sales;
pub mod storefront;

pub use order::OrderView;
pub use product::ProductView;
pub use sales::SalesView;
pub use storefront::StorefrontView;

use crate::{
    recorded::Recorded,
    view::{ApplyError, Change},
};

/// What becomes of a document: nothing, when the event leaves it as it is.
fn put_if_changed<D: PartialEq>(before: Option<&D>, after: D) -> Change<D> {
    if before == Some(&after) {
        Change::Keep
    } else {
        Change::Put(after)
    }
}

/// An event of an aggregate that the view does not read.
fn not_read(event: &Recorded) -> ApplyError {
    ApplyError::refused(format_args!("{} is not read by this view", event.aggregate))
}

/// An event about a document that an earlier event should have made.
fn no_document(id: &str, event: &Recorded) -> ApplyError {
    ApplyError::refused(format_args!("{} comes before {id}", event.event_type))
}
