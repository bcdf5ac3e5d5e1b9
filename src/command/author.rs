//! Whose a command was: what a repeated one has to have in common with it, beside its key and what it says.

use crate::caller::Caller;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{cell::RefCell, num::NonZeroU64, sync::Arc};

/// The number of authors that each thread remembers.
const LATELY_AT_MOST: usize = 64;

/// A name in memory, and whose it is.
type Named = Option<(Arc<str>, Author)>;

thread_local! {
    static LATELY: RefCell<[Named; LATELY_AT_MOST]> =
        const { RefCell::new([const { None }; LATELY_AT_MOST]) };
}

/// The author of a command, by a hash of their name: an adversary may choose theirs, so it is a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author(NonZeroU64);

impl Author {
    /// The author of this name.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        let hash = Sha256::digest(subject);
        let first = hash.first_chunk().copied().map_or(0, u64::from_le_bytes);
        Self(NonZeroU64::new(first).unwrap_or(NonZeroU64::MIN))
    }

    /// The author of a command that this caller gives; `None` of one who is not known.
    #[must_use]
    pub fn giving(caller: &Caller) -> Option<Self> {
        caller.shared_subject().map(Self::of_shared)
    }

    /// As [`Author::of`], and remembers it. A caller whose token is remembered has one name in memory for all of their
    /// commands.
    fn of_shared(subject: &Arc<str>) -> Self {
        LATELY.with_borrow_mut(|lately| {
            // Names are allocated at multiples of this, so the rest would be the same for many.
            let place = Arc::as_ptr(subject).addr() / 16 % LATELY_AT_MOST;
            match &lately[place] {
                Some((known, author)) if Arc::ptr_eq(known, subject) => *author,
                _ => {
                    let author = Self::of(subject);
                    lately[place] = Some((subject.clone(), author));
                    author
                }
            }
        })
    }

    /// Returns whether this caller may be told what became of the author's command: they are the same, or may
    /// everything. What nobody known has given is nobody's secret.
    #[must_use]
    pub fn tells(this: Option<Self>, caller: &Caller) -> bool {
        this.is_none() || caller.is_unrestricted() || this == Self::giving(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_to_its_author_alone() {
        let [ann, bob] = ["ann", "bob"].map(|name| Caller::new(Some(name), ["cmd:*"]));
        let nobody = Caller::new(None, ["cmd:*"]);
        let of_ann = Author::giving(&ann);
        assert!(Author::tells(of_ann, &ann));
        assert!(Author::tells(of_ann, &Caller::default()), "the program");
        assert!(!Author::tells(of_ann, &bob));
        assert!(!Author::tells(of_ann, &nobody));
        assert!(Author::tells(Author::giving(&nobody), &ann));
    }

    #[test]
    fn an_author_is_the_same_however_often_they_are_asked_for() {
        let names = (0..1_000).map(|number| format!("caller-{number}"));
        let callers: Vec<_> = names.map(|name| Caller::new(Some(&name), [""])).collect();
        for caller in callers.iter().chain(&callers) {
            for _ in 0..2 {
                let author = Author::of(caller.subject().unwrap());
                assert_eq!(Author::giving(caller), Some(author));
            }
        }
    }

    /// It stands in snapshots, which another build reads.
    #[test]
    fn an_author_is_the_same_in_every_build() {
        let ann = serde_json::to_string(&Author::of("ann")).unwrap();
        let digest = Sha256::digest("ann");
        let expected = u64::from_le_bytes(*digest.first_chunk().unwrap());
        assert_eq!(ann, expected.to_string());
    }
}
