//! The tokens that were believed, until they end.
//!
//! A token stands here as its hash: who reads the memory finds none. The hash is a MAC under a secret of this process
//! (SipHash-2-4 with 128 bits): who does not have the secret finds no text that is taken for somebody's token. A digest
//! without a secret costs as much as the whole look-up where the processor has no instructions for it. What was believed by one
//! set of keys is looked at again when there is another.

use super::Identified;
use quick_cache::{Weighter, sync::Cache};
use siphasher::sip128::SipHasher24;

/// The most that is remembered, in bytes.
const MOST: u64 = 16 << 20;
/// The usual size of one token, to size the table.
const USUAL: u64 = 512;

type Hash = u128;

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
        (176 + scopes + caller.subject().map_or(0, str::len)) as u64
    }
}

/// Tokens that were believed, within a bound.
pub(super) struct Remembered {
    tokens: Cache<Hash, Believed, Weight>,
    mac: SipHasher24,
}

impl Remembered {
    pub(super) fn new() -> Self {
        let entries = usize::try_from(MOST / USUAL).unwrap_or(usize::MAX);
        Self {
            tokens: Cache::with_weighter(entries, MOST, Weight),
            mac: SipHasher24::new_with_key(&rand::random()),
        }
    }

    pub(super) fn find(&self, token: &str, set: u64, now: i64) -> Option<Identified> {
        let believed = self.tokens.get(&self.hash(token))?;
        let counts = believed.set == set && believed.identified.until.is_some_and(|end| now <= end);
        counts.then_some(believed.identified)
    }

    pub(super) fn put(&self, token: &str, set: u64, identified: &Identified) {
        let identified = identified.clone();
        let believed = Believed { identified, set };
        self.tokens.insert(self.hash(token), believed);
    }

    fn hash(&self, token: &str) -> Hash {
        self.mac.hash(token.as_bytes()).into()
    }
}
