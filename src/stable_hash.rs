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

/// A hash of one long text, eight bytes at a time. As stable as [`of`], and several times as fast.
pub fn of_bytes(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let begin = mixed(bytes.len() as u64);
    let hash = words.iter().chain([&last]).fold(begin, |hash, word| {
        (hash ^ u64::from_le_bytes(*word))
            .wrapping_mul(MULTIPLIER)
            .rotate_left(29)
    });
    mixed(hash)
}

/// The finaliser of splitmix64: each bit of the input changes half of the output's.
pub fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_bytes_is_the_one_of_all_other_builds() {
        assert_ne!(of_bytes(b""), of_bytes(b"\0"));
        assert_ne!(of_bytes(b"12345678"), of_bytes(b"12345678\0"));
        assert_ne!(of_bytes(b"1234567887654321"), of_bytes(b"8765432112345678"));
        assert_eq!(
            of_bytes(b"what stands here is stored"),
            3_429_588_027_315_319_460
        );
    }
}
