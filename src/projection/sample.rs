//! The documents of a view that are folded: all, or some.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Some documents of a view, known by their ids alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Sample {
    /// All of them.
    #[default]
    All,
    /// One in so many, spread over all.
    OneIn(u64),
    /// Those after one id and up to another.
    Between(Option<String>, Option<String>),
    /// One.
    One(String),
}

impl Sample {
    /// Returns whether a document belongs to it.
    pub(super) fn has(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::OneIn(share) => {
                let mut hasher = DefaultHasher::new();
                id.hash(&mut hasher);
                hasher.finish().is_multiple_of(*share)
            }
            Self::One(one) => id == one,
            Self::Between(..) => {
                self.after().is_none_or(|after| id > after)
                    && self.last().is_none_or(|last| id <= last)
            }
        }
    }

    /// The id after which it begins.
    pub(super) fn after(&self) -> Option<&str> {
        match self {
            Self::Between(after, _) => after.as_deref(),
            Self::All | Self::OneIn(_) | Self::One(_) => None,
        }
    }

    /// The id at which it ends.
    pub(super) fn last(&self) -> Option<&str> {
        match self {
            Self::Between(_, last) => last.as_deref(),
            Self::All | Self::OneIn(_) | Self::One(_) => None,
        }
    }
}
