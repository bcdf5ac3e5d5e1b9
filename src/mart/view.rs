//! The mart's views: one document per screen, folded from the aggregates' events.

pub mod order;
pub mod product;
pub mod sales;
pub mod storefront;

pub use order::OrderView;
pub use product::ProductView;
pub use sales::SalesView;
pub use storefront::StorefrontView;

use headwater_core::{
    recorded::Recorded,
    view::{ApplyError, Change},
};

/// Returns what becomes of a document: nothing, when the event leaves it as it is.
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

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::view::View;

    /// The names of a view's filters, its sorts and its searched fields.
    fn offered<V: View>() -> (Vec<&'static str>, Vec<&'static str>, Vec<&'static str>) {
        let query = V::query();
        (
            query.filters.iter().map(|filter| filter.name).collect(),
            query.sorts.iter().map(|sort| sort.field).collect(),
            query.search,
        )
    }

    #[test]
    fn views_can_be_asked_what_is_promised() {
        assert_eq!(
            offered::<ProductView>(),
            (
                vec!["barcode", "category", "status", "price_min", "price_max"],
                vec!["price", "name"],
                vec!["name", "name_en"]
            )
        );
        assert_eq!(
            offered::<StorefrontView>(),
            (
                vec!["section", "branch", "category", "sold_out"],
                vec!["rank", "price"],
                vec![]
            )
        );
        assert_eq!(
            offered::<OrderView>(),
            (
                vec!["member", "branch", "status"],
                vec!["placed_at"],
                vec![]
            )
        );
        assert_eq!(
            offered::<SalesView>(),
            (vec!["branch", "day_min", "day_max"], vec!["day"], vec![])
        );
    }
}
