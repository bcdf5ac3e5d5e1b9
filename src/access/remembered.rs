//! The tokens that were believed, until they end.
//!
//! A token stands here as its hash: who reads the memory finds none. What was believed by one set of keys
//! is looked at again when there is another.

use super::Identified;
use quick_cache::{Weighter, sync::Cache};
use sha2::{Digest, Sha256};

/// The most that is remembered, in bytes.
const MOST: u64 = 16 << 20;
/// The usual size of one token, to size the table.
const USUAL: u64 = 512;

type Hash = [u8; 32];

#[derive(Clone)]
struct Believed {
    identified: Identified,
    /// Which set of keys it was believed by.
    set: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Hash, Believed> for Weight {
    fn weight(&self, _: &Hash, believed: &Believed) -> u64 {
        let caller = &believed.identified.caller;
        let scopes: usize = caller.scopes().map(|scope| scope.len() + 16).sum();
        (192 + scopes + caller.subject().map_or(0, str::len)) as u64
    }
}

/// Tokens that were believed, within a bound.
pub(super) struct Remembered(Cache<Hash, Believed, Weight>);

impl Remembered {
    pub(super) fn new() -> Self {
        let entries = usize::try_from(MOST / USUAL).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(entries, MOST, Weight))
    }

    pub(super) fn find(&self, token: &str, set: u64, now: i64) -> Option<Identified> {
        let believed = self.0.get(&hash(token))?;
        let counts = believed.set == set && believed.identified.until.is_some_and(|end| now <= end);
        counts.then_some(believed.identified)
    }

    pub(super) fn put(&self, token: &str, set: u64, identified: &Identified) {
        let identified = identified.clone();
        self.0.insert(hash(token), Believed { identified, set });
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}
