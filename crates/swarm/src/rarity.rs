//! Which pieces are rare: the pieces that may be opened, sorted by how many peers have them.
//!
//! ```text
//! buckets   [0] 7 2     nobody but seeds has pieces 7 and 2
//!           [1] 5       one peer has piece 5
//!           [2] 0 9 4
//! places    [_ ...]     where in its bucket each piece is, or ABSENT
//! ```
//!
//! Every change is O(1). Pieces enter a bucket at a random place, so that the first one found is
//! one of the rarest at random. Peers that have everything are not counted here: they change no
//! order.

use bt_types::{Blank, OnDemand};
use rand::{Rng, RngExt};

const ABSENT: u32 = u32::MAX;
/// How many pieces are looked at from the rarest on before a peer's own pieces are sampled
/// instead.
const SCAN: usize = 2048;

/// The pieces that may be opened, by how many peers have them.
#[derive(Debug, Clone)]
pub(crate) struct Rarity {
    pieces: u32,
    pickable: u32,
    lists: OnDemand<Lists>,
}

#[derive(Debug, Clone, Default)]
struct Lists {
    /// Empty until a peer is counted.
    counts: Vec<u16>,
    buckets: Vec<Vec<u32>>,
    /// Empty until a piece may be opened: a seeder has none.
    places: Vec<u32>,
}

impl Blank for Lists {
    const BLANK: &'static Self =
        &Self { counts: Vec::new(), buckets: Vec::new(), places: Vec::new() };
}

impl Rarity {
    /// `pieces` pieces that nobody has and none of which may be opened.
    pub(crate) fn new(pieces: u32) -> Self {
        Self { pieces, pickable: 0, lists: OnDemand::default() }
    }

    /// How many peers have `piece`.
    pub(crate) fn count(&self, piece: u32) -> u16 {
        self.lists.counts.get(piece as usize).copied().unwrap_or(0)
    }

    /// Whether `piece` may be opened.
    pub(crate) fn contains(&self, piece: u32) -> bool {
        self.lists.places.get(piece as usize).is_some_and(|place| *place != ABSENT)
    }

    /// How many pieces may be opened.
    pub(crate) fn pickable(&self) -> u32 {
        self.pickable
    }

    /// How many of them some counted peer has.
    pub(crate) fn pickable_and_counted(&self) -> u32 {
        self.pickable - self.lists.buckets.first().map_or(0, Vec::len) as u32
    }

    /// One more peer has `piece`.
    pub(crate) fn increment(&mut self, piece: u32, rng: &mut impl Rng) {
        let count = self.count(piece).saturating_add(1);
        self.set_count(piece, count, rng);
    }

    /// One peer less has `piece`.
    pub(crate) fn decrement(&mut self, piece: u32, rng: &mut impl Rng) {
        let count = self.count(piece).saturating_sub(1);
        self.set_count(piece, count, rng);
    }

    /// `piece` may be opened from now on.
    pub(crate) fn insert(&mut self, piece: u32, rng: &mut impl Rng) {
        if !self.contains(piece) {
            self.pickable += 1;
            self.put(piece, rng);
        }
    }

    /// `piece` may not be opened any longer.
    pub(crate) fn remove(&mut self, piece: u32) {
        if self.contains(piece) {
            self.pickable -= 1;
            self.take(piece);
        }
    }

    /// The rarest piece that passes `may`, ties at random, of those that at least `least` counted
    /// peers have. `own` are the pieces of the peer,
    /// ascending from any place on, of which a sample is tried if none of the rarest passes.
    pub(crate) fn rarest(
        &self,
        least: usize,
        may: impl Fn(u32) -> bool,
        own: impl Iterator<Item = u32>,
    ) -> Option<u32> {
        let by_rarity = self.lists.buckets.iter().skip(least).flatten().copied();
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
        let lists = &mut *self.lists;
        if lists.counts.is_empty() {
            lists.counts = vec![0; self.pieces as usize];
        }
        if let Some(place) = lists.counts.get_mut(piece as usize) {
            *place = count;
        }
        if listed {
            self.put(piece, rng);
        }
    }

    /// Puts `piece` at a random place of its bucket.
    fn put(&mut self, piece: u32, rng: &mut impl Rng) {
        let count = usize::from(self.count(piece));
        let Lists { buckets, places, .. } = &mut *self.lists;
        if places.is_empty() {
            *places = vec![ABSENT; self.pieces as usize];
        }
        if buckets.len() <= count {
            buckets.resize_with(count + 1, Vec::new);
        }
        let Some(bucket) = buckets.get_mut(count) else { return };
        bucket.push(piece);
        let (last, place) = (bucket.len() - 1, rng.random_range(0..bucket.len()));
        bucket.swap(last, place);
        places[bucket[last] as usize] = last as u32;
        places[bucket[place] as usize] = place as u32;
    }

    fn take(&mut self, piece: u32) {
        let count = usize::from(self.count(piece));
        let Lists { buckets, places, .. } = &mut *self.lists;
        let place = std::mem::replace(&mut places[piece as usize], ABSENT);
        let bucket = &mut buckets[count];
        bucket.swap_remove(place as usize);
        if let Some(moved) = bucket.get(place as usize) {
            places[*moved as usize] = place;
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
    fn the_rarest_comes_first() {
        let (mut rarity, mut rng) = (Rarity::new(4), rng());
        (0..4).for_each(|piece| rarity.insert(piece, &mut rng));
        for piece in [0, 1, 1, 3, 3, 3, 2, 2] {
            rarity.increment(piece, &mut rng);
        }
        assert_eq!(first(&rarity), Some(0));
        rarity.remove(0);
        assert!([1, 2].contains(&first(&rarity).unwrap()));
        rarity.decrement(3, &mut rng);
        rarity.decrement(3, &mut rng);
        assert_eq!(first(&rarity), Some(3));
        assert_eq!(rarity.rarest(0, |piece| piece == 2, std::iter::empty()), Some(2));
    }

    #[test]
    fn ties_are_random() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let (mut rarity, mut rng) = (Rarity::new(8), ChaCha8Rng::seed_from_u64(seed));
            (0..8).for_each(|piece| rarity.insert(piece, &mut rng));
            seen.insert(first(&rarity).unwrap());
        }
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn in_a_huge_torrent_a_peer_with_one_piece_is_served() {
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
