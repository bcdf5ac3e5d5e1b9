//! A sorted sequence of slots in chunks: so small that another comes in without moving much, and so many in
//! each that a slot costs little more than its four bytes.
//!
//! It does not know what it is sorted by: whoever asks says which slots stand before a place. What is said must
//! hold of a beginning of the sequence, and of nothing after it.

/// The most slots of a chunk.
const MOST: usize = 512;
/// The bytes that a chunk takes at most.
const CHUNK: usize = MOST * size_of::<u32>() + size_of::<Vec<u32>>();

/// A place between two slots, or at an end. Places of one sequence compare as they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gap {
    chunk: usize,
    offset: usize,
}

/// The slots. No chunk is empty.
#[derive(Debug, Default)]
pub(super) struct SortedSlots {
    chunks: Vec<Vec<u32>>,
}

impl SortedSlots {
    /// The place before the first slot that does not stand `before` it.
    pub(super) fn gap(&self, mut before: impl FnMut(u32) -> bool) -> Gap {
        let ends_before = |slots: &Vec<u32>| slots.last().is_some_and(|last| before(*last));
        let chunk = self.chunks.partition_point(ends_before);
        let slots = self.chunks.get(chunk);
        let offset = slots.map_or(0, |slots| slots.partition_point(|slot| before(*slot)));
        Gap { chunk, offset }
    }

    /// The slot after a place.
    pub(super) fn at(&self, gap: Gap) -> Option<u32> {
        self.chunks.get(gap.chunk)?.get(gap.offset).copied()
    }

    /// Puts a slot at a place.
    pub(super) fn insert(&mut self, gap: Gap, slot: u32) {
        let Gap { mut chunk, offset } = gap;
        if chunk == self.chunks.len() {
            // What comes in order fills whole chunks.
            match self.chunks.last_mut() {
                Some(last) if last.len() < MOST => last.push(slot),
                _ => self.chunks.push(vec![slot]),
            }
            return;
        }
        let mut offset = offset;
        if self.chunks[chunk].len() == MOST {
            let rest = self.chunks[chunk].split_off(MOST / 2);
            self.chunks.insert(chunk + 1, rest);
            if offset > MOST / 2 {
                (chunk, offset) = (chunk + 1, offset - MOST / 2);
            }
        }
        self.chunks[chunk].insert(offset, slot);
    }

    /// Takes out the slot after a place.
    pub(super) fn remove(&mut self, gap: Gap) {
        let Some(slots) = self.chunks.get_mut(gap.chunk) else {
            return;
        };
        if gap.offset < slots.len() {
            slots.remove(gap.offset);
        }
        if slots.is_empty() {
            self.chunks.remove(gap.chunk);
        }
    }

    /// The slots between two places, in their order.
    pub(super) fn between(&self, from: Gap, until: Gap) -> impl DoubleEndedIterator<Item = u32> {
        let chunks = match from < until {
            true => from.chunk..self.chunks.len().min(until.chunk + 1),
            false => 0..0,
        };
        chunks.flat_map(move |chunk| {
            let slots = self.chunks[chunk].as_slice();
            let begin = if chunk == from.chunk { from.offset } else { 0 };
            let end = if chunk == until.chunk {
                until.offset
            } else {
                slots.len()
            };
            slots[begin..end].iter().copied()
        })
    }

    /// Returns how many slots stand between two places.
    pub(super) fn count(&self, from: Gap, until: Gap) -> usize {
        if from >= until {
            return 0;
        }
        let whole = self.chunks[from.chunk..until.chunk].iter().map(Vec::len);
        whole.sum::<usize>() + until.offset - from.offset
    }

    /// Returns how many bytes it takes, at most.
    pub(super) fn size(&self) -> usize {
        self.chunks.len() * CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stable_hash::mixed;

    /// Slots that stand for themselves.
    fn insert(sorted: &mut SortedSlots, slot: u32) {
        let gap = sorted.gap(|other| other < slot);
        sorted.insert(gap, slot);
    }

    fn all(sorted: &SortedSlots) -> Vec<u32> {
        let (from, until) = (sorted.gap(|_| false), sorted.gap(|_| true));
        assert_eq!(
            sorted.count(from, until),
            sorted.between(from, until).count()
        );
        sorted.between(from, until).collect()
    }

    #[test]
    fn slots_stand_in_order_however_they_come_and_go() {
        let mut sorted = SortedSlots::default();
        let mut expected = std::collections::BTreeSet::new();
        for round in 0..20_000_u64 {
            let random = mixed(round);
            let slot = (random % 5_000) as u32;
            if random >> 60 < 9 {
                if expected.insert(slot) {
                    insert(&mut sorted, slot);
                }
            } else if expected.remove(&slot) {
                let gap = sorted.gap(|other| other < slot);
                assert_eq!(sorted.at(gap), Some(slot));
                sorted.remove(gap);
            }
        }
        assert_eq!(all(&sorted), expected.iter().copied().collect::<Vec<_>>());
        for (low, high) in [(0, 0), (7, 4_000), (511, 513), (4_000, 7), (0, 9_999)] {
            let from = sorted.gap(|slot| slot < low);
            let until = sorted.gap(|slot| slot < high);
            let found: Vec<_> = sorted.between(from, until).rev().collect();
            let within = expected.iter().rev().copied();
            let within: Vec<_> = within.filter(|slot| (low..high).contains(slot)).collect();
            assert_eq!(found, within, "{low} to {high}");
            assert_eq!(sorted.count(from, until), within.len());
        }
        for slot in expected {
            let gap = sorted.gap(|other| other < slot);
            sorted.remove(gap);
        }
        assert!(all(&sorted).is_empty());
        assert_eq!(sorted.size(), 0);
    }

    #[test]
    fn what_comes_in_order_takes_little_more_than_itself() {
        let mut sorted = SortedSlots::default();
        for slot in 0..10 * MOST as u32 {
            insert(&mut sorted, slot);
        }
        assert_eq!(sorted.size(), 10 * CHUNK);
    }
}
