//! Which pieces are rare: the pieces that may be started, sorted by how many peers have them.
//!
//! ```text
//! buckets   [0] 7 2     only seeds have pieces 7 and 2
//!           [1] 5       one peer has piece 5
//!           [2] 0 9 4
//! positions [_ ...]     where in its bucket each piece is, or ABSENT
//! ```
//!
//! Every change is O(1). Pieces enter a bucket at a random position, so that the first one found is
//! one of the rarest at random. Peers that have everything are not counted: they change no order.

use rand::{Rng, RngExt};

const ABSENT: u32 = u32::MAX;
/// How many pieces are tried, the rarest first, before a peer's own pieces are sampled instead.
const SCAN: usize = 2048;

/// The pieces that may be started, by how many peers have them.
#[derive(Debug, Clone)]
pub(super) struct Rarity {
    pieces: u32,
    /// How many pieces may be started.
    pickable: u32,
    /// Empty until a peer is counted.
    counts: Vec<u16>,
    buckets: Vec<Vec<u32>>,
    /// Empty until a piece may be started: a seeder has none.
    positions: Vec<u32>,
}

impl Rarity {
    /// Returns `pieces` pieces that no peer has, none of which may be started.
    pub(super) fn new(pieces: u32) -> Self {
        let (counts, buckets, positions) = (Vec::new(), Vec::new(), Vec::new());
        Self { pieces, pickable: 0, counts, buckets, positions }
    }

    /// Returns how many peers have `piece`, not counting those that have every piece.
    pub(super) fn count(&self, piece: u32) -> u16 {
        self.counts.get(piece as usize).copied().unwrap_or(0)
    }

    /// Whether `piece` may be started.
    pub(super) fn contains(&self, piece: u32) -> bool {
        self.positions.get(piece as usize).is_some_and(|position| *position != ABSENT)
    }

    /// Returns how many pieces may be started.
    pub(super) fn pickable(&self) -> u32 {
        self.pickable
    }

    /// Returns how many of them at least one counted peer has.
    pub(super) fn pickable_and_counted(&self) -> u32 {
        self.pickable - self.buckets.first().map_or(0, Vec::len) as u32
    }

    /// Counts one more peer that has `piece`.
    pub(super) fn increment(&mut self, piece: u32, rng: &mut impl Rng) {
        let count = self.count(piece).saturating_add(1);
        self.set_count(piece, count, rng);
    }

    /// Counts one peer less that has `piece`.
    pub(super) fn decrement(&mut self, piece: u32, rng: &mut impl Rng) {
        let count = self.count(piece).saturating_sub(1);
        self.set_count(piece, count, rng);
    }

    /// Lists `piece`: it may be started from now on.
    pub(super) fn insert(&mut self, piece: u32, rng: &mut impl Rng) {
        if !self.contains(piece) {
            self.pickable += 1;
            self.put(piece, rng);
        }
    }

    /// Takes `piece` off the list.
    pub(super) fn remove(&mut self, piece: u32) {
        if self.contains(piece) {
            self.pickable -= 1;
            self.take(piece);
        }
    }

    /// Returns the rarest piece that passes `may`, ties at random, of those that at least `least`
    /// counted peers have. `own` are the pieces of the peer, ascending from a random one on; a
    /// sample of them is tried if none of the rarest passes.
    pub(super) fn rarest(
        &self,
        least: usize,
        may: impl Fn(u32) -> bool,
        own: impl Iterator<Item = u32>,
    ) -> Option<u32> {
        let by_rarity = self.buckets.iter().skip(least).flatten().copied();
        if let Some(found) = by_rarity.take(SCAN).find(|piece| may(*piece)) {
            return Some(found);
        }
        if self.pickable as usize <= SCAN {
            return None;
        }
        own.filter(|piece| self.contains(*piece) && may(*piece))
            .take(SCAN)
            .min_by_key(|piece| self.count(*piece))
    }

    fn set_count(&mut self, piece: u32, count: u16, rng: &mut impl Rng) {
        let listed = self.contains(piece);
        if listed {
            self.take(piece);
        }
        if self.counts.is_empty() {
            self.counts = vec![0; self.pieces as usize];
        }
        self.counts[piece as usize] = count;
        if listed {
            self.put(piece, rng);
        }
    }

    /// Puts `piece` at a random position of its bucket.
    fn put(&mut self, piece: u32, rng: &mut impl Rng) {
        let count = usize::from(self.count(piece));
        if self.positions.is_empty() {
            self.positions = vec![ABSENT; self.pieces as usize];
        }
        if self.buckets.len() <= count {
            self.buckets.resize_with(count + 1, Vec::new);
        }
        let bucket = &mut self.buckets[count];
        bucket.push(piece);
        let (last, position) = (bucket.len() - 1, rng.random_range(0..bucket.len()));
        bucket.swap(last, position);
        self.positions[bucket[last] as usize] = last as u32;
        self.positions[bucket[position] as usize] = position as u32;
    }

    fn take(&mut self, piece: u32) {
        let count = usize::from(self.count(piece));
        let position = std::mem::replace(&mut self.positions[piece as usize], ABSENT);
        let bucket = &mut self.buckets[count];
        bucket.swap_remove(position as usize);
        if let Some(moved) = bucket.get(position as usize) {
            self.positions[*moved as usize] = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    fn first(rarity: &Rarity) -> Option<u32> {
        rarity.rarest(0, |_| true, std::iter::empty())
    }

    #[test]
    fn rare_piece_is_found_among_millions() {
        let (mut rarity, mut rng) = (Rarity::new(1 << 21), rng());
        (0..1 << 21).for_each(|piece| rarity.insert(piece, &mut rng));
        let only = 2_000_000;
        rarity.increment(only, &mut rng);
        assert_eq!(rarity.rarest(0, |piece| piece == only, std::iter::once(only)), Some(only));
    }

    proptest! {
        #[test]
        fn the_buckets_are_what_the_counts_say(
            steps in proptest::collection::vec((0u8..4, 0u32..16), 0..200),
        ) {
            let (mut rarity, mut rng) = (Rarity::new(16), rng());
            let (mut counts, mut listed) = ([0u16; 16], [false; 16]);
            for (step, piece) in steps {
                let at = piece as usize;
                match step {
                    0 => { rarity.increment(piece, &mut rng); counts[at] += 1; }
                    1 => { rarity.decrement(piece, &mut rng); counts[at] = counts[at].saturating_sub(1); }
                    2 => { rarity.insert(piece, &mut rng); listed[at] = true; }
                    _ => { rarity.remove(piece); listed[at] = false; }
                }
            }
            let rarest = (0..16).filter(|at| listed[*at]).map(|at| counts[at]).min();
            prop_assert_eq!(first(&rarity).map(|piece| counts[piece as usize]), rarest);
            for piece in 0..16u32 {
                prop_assert_eq!(rarity.contains(piece), listed[piece as usize]);
                prop_assert_eq!(rarity.count(piece), counts[piece as usize]);
            }
            prop_assert_eq!(rarity.pickable() as usize, listed.iter().filter(|at| **at).count());
        }
    }
}
