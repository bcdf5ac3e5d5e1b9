//! A hash that is the same in every process and build: what is hashed here is compared by replicas of
//! two versions that run side by side, or stands in the log. Not for what an adversary may choose.

/// FNV-1a, 64 bits, with a full stop after each part, and then [`mixed`].
pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    let hash = parts.into_iter().fold(OFFSET, |hash, part| {
        step(part.iter().fold(hash, step), &b'.')
    });
    mixed(hash)
}

/// The finaliser of splitmix64: each bit of the input changes half of the output's.
pub fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
