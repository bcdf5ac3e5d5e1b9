//! The documents that a caller may see.
//!
//! In a list it is one filter more, which the caller cannot take away: so it counts for what is searched,
//! counted, followed and kept in memory, and a page's cursor is of no use to anybody else. A document by its
//! id is looked at. What is not visible is answered as what is not there.

use super::{ViewDescription, live::Condition};
use crate::{
    caller::Caller,
    text::composed,
    view::{Compare, Filter, Kind, Query, Rows},
};
use serde::Deserialize;
use serde_json::Value;

/// The visible share of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Visibility {
    /// All of it.
    All,
    /// The share that one of its filters, by this field, says.
    Where(&'static str),
    /// Nothing.
    Nothing,
}

/// Puts what is visible among the filters of a list.
pub(super) fn narrow(
    declared: &Query,
    filters: &mut Vec<(Filter, Value)>,
    rows: &Rows,
) -> Visibility {
    let (field, value) = match rows {
        Rows::All => return Visibility::All,
        Rows::None => return Visibility::Nothing,
        Rows::Where(field, value) => (*field, Value::from(composed(value))),
    };
    let Some(filter) = filter_of(declared, field) else {
        // Better too little than too much.
        tracing::error!(
            field,
            "no filter compares it by equality: nothing is visible"
        );
        return Visibility::Nothing;
    };
    match filters.iter().find(|(given, _)| *given == filter) {
        Some((_, given)) if *given == value => {}
        // Of somebody else, all that there is to be seen is nothing.
        Some(_) => return Visibility::Nothing,
        None => {
            // Where it would stand had it been asked for.
            let at = filters.partition_point(|(given, _)| given.name < filter.name);
            filters.insert(at, (filter, value));
        }
    }
    Visibility::Where(field)
}

fn filter_of(declared: &Query, field: &str) -> Option<Filter> {
    let is_of = |filter: &&Filter| {
        (filter.field, filter.compare, filter.kind) == (field, Compare::Equal, Kind::Text)
    };
    declared.filters.iter().find(is_of).copied()
}

/// The single documents that a caller may see.
pub(super) enum Visible {
    All,
    Where(Condition),
    Nothing,
}

impl Visible {
    pub(super) fn of(view: &ViewDescription, caller: &Caller) -> Self {
        let (field, value) = match (view.visible)(caller) {
            Rows::All => return Self::All,
            Rows::None => return Self::Nothing,
            Rows::Where(field, value) => (field, value),
        };
        let filter = filter_of(&view.query, field);
        let condition =
            filter.and_then(|filter| Condition::new(filter, Value::from(composed(&value))));
        condition.map_or(Self::Nothing, Self::Where)
    }

    pub(super) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Returns whether a stored document, as JSON, is among them.
    pub(super) fn shows(&self, body: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Stored {
            document: Value,
        }
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Where(condition) => serde_json::from_slice::<Stored>(body)
                .is_ok_and(|stored| condition.holds(&stored.document)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Query {
        let filter = |name, field, compare| Filter {
            name,
            field,
            compare,
            kind: Kind::Text,
        };
        Query {
            filters: vec![
                filter("branch", "branch", Compare::Equal),
                filter("from", "owner.id", Compare::AtLeast),
                filter("owner", "owner.id", Compare::Equal),
            ],
            ..Query::default()
        }
    }

    fn narrowed(given: &[(&str, &str)], rows: &Rows) -> (Visibility, Vec<(&'static str, String)>) {
        let declared = declared();
        let found = |name: &str| {
            let mut filters = declared.filters.iter();
            *filters.find(|filter| filter.name == name).unwrap()
        };
        let given = given
            .iter()
            .map(|(name, value)| (found(name), Value::from(*value)));
        let mut filters: Vec<_> = given.collect();
        let visibility = narrow(&declared, &mut filters, rows);
        let filters = filters.into_iter();
        let filters = filters.map(|(filter, value)| (filter.name, value.as_str().unwrap().into()));
        (visibility, filters.collect())
    }

    #[test]
    fn what_is_visible_is_one_filter_more_that_nobody_can_take_away() {
        let mine = Rows::Where("owner.id", "a".to_owned());
        let (visibility, filters) = narrowed(&[("branch", "x")], &mine);
        assert_eq!(visibility, Visibility::Where("owner.id"));
        assert_eq!(
            filters,
            [("branch", "x".to_owned()), ("owner", "a".to_owned())]
        );
        // Asking for what is one's own changes nothing.
        assert_eq!(narrowed(&[("owner", "a")], &mine), narrowed(&[], &mine));
        assert_eq!(narrowed(&[("owner", "b")], &mine).0, Visibility::Nothing);
        assert_eq!(narrowed(&[("from", "b")], &mine).1.len(), 2);
        assert_eq!(narrowed(&[("owner", "b")], &Rows::All).0, Visibility::All);
        assert_eq!(narrowed(&[], &Rows::None).0, Visibility::Nothing);
        let unfiltered = Rows::Where("other", "a".to_owned());
        assert_eq!(narrowed(&[], &unfiltered).0, Visibility::Nothing);
    }
}
