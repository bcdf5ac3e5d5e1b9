//! Whose a command was: what a repeated one has to have in common with it, beside its key and what it says.

use crate::caller::Caller;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::num::NonZeroU64;

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
        caller.subject().map(Self::of)
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

    /// It stands in snapshots, which another build reads.
    #[test]
    fn an_author_is_the_same_in_every_build() {
        let ann = serde_json::to_string(&Author::of("ann")).unwrap();
        let digest = Sha256::digest("ann");
        let expected = u64::from_le_bytes(*digest.first_chunk().unwrap());
        assert_eq!(ann, expected.to_string());
    }
}
