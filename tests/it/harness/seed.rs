//! Chance that can be repeated, and how long a test leaves things to it.

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A seeded source of chance.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// `HEADWATER_CHAOS_SEED`, or a new one; it is printed, so that a failure can be repeated as
    /// closely as processes allow.
    pub fn of_this_run() -> Self {
        let given = std::env::var("HEADWATER_CHAOS_SEED").ok();
        let seed = match given.as_deref() {
            None | Some("") => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_micros() as u64,
            Some(given) => given.parse().expect("HEADWATER_CHAOS_SEED is a number"),
        };
        eprintln!("HEADWATER_CHAOS_SEED={seed}");
        Self(seed)
    }

    /// Chance of its own for one part, by a number that no other part has.
    pub fn part(&self, number: u64) -> Self {
        let mut part = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        part.next();
        part
    }

    /// The next number, by SplitMix64 (Steele, Lea and Flood, 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in a range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Whether it happens, once in `n` on average.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        &several[self.within(0..several.len() as u64) as usize]
    }

    /// A time in a range of milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// How long chance rules: `HEADWATER_CHAOS_SECONDS`, or so long that it is worth it in every run.
pub fn chaos_length() -> Duration {
    let given = std::env::var("HEADWATER_CHAOS_SECONDS").ok();
    let seconds = match given.as_deref() {
        None | Some("") => 4,
        Some(given) => given.parse().expect("HEADWATER_CHAOS_SECONDS is a number"),
    };
    Duration::from_secs(seconds)
}
