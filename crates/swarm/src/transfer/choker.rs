//! Which peers to unchoke: tit for tat while we download, in turns while we seed (BEP 3).

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::vocabulary::PeerKey;

/// How often the choker decides.
pub(super) const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts, and any unchoke while seeding.
pub(super) const MIN_UNCHOKE: Duration = Duration::from_secs(30);
/// A peer connected for less is new: it is three times as likely to be unchoked optimistically.
const NEW: Duration = Duration::from_secs(60);

/// While seeding, each of n unchoked peers should get n times this rate, in bytes per second.
const SLOT_RATE: u64 = 1024;

/// A peer that wants our pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) key: PeerKey,
    /// What it sends us, in bytes per second.
    pub(super) rate: u64,
    pub(super) snubbed: bool,
    pub(super) connected_at: Duration,
    pub(super) unchoked: bool,
    /// When it was last unchoked, if ever.
    pub(super) unchoked_at: Option<Duration>,
}

/// What the choker remembers between rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Choker {
    optimistic: Option<(PeerKey, Duration)>,
}

impl Choker {
    /// Returns the peers to be unchoked from now on, at most `slots`.
    pub(super) fn round(
        &mut self,
        now: Duration,
        slots: usize,
        seeding: bool,
        candidates: Vec<Candidate>,
        rng: &mut impl Rng,
    ) -> Vec<PeerKey> {
        if slots == 0 {
            Vec::new()
        } else if seeding {
            round_robin(now, slots, candidates)
        } else {
            self.tit_for_tat(now, slots, candidates, rng)
        }
    }

    /// Returns the best senders, one more at random for [`MIN_UNCHOKE`], and while slots are left,
    /// others at random, first those that are unchoked already.
    fn tit_for_tat(
        &mut self,
        now: Duration,
        slots: usize,
        mut candidates: Vec<Candidate>,
        rng: &mut impl Rng,
    ) -> Vec<PeerKey> {
        candidates.sort_by_key(|peer| (std::cmp::Reverse(peer.rate), !peer.unchoked, peer.key));
        let earned = |peer: &&Candidate| peer.rate > 0 && !peer.snubbed;
        // A single slot goes to a peer that earned it, if there is one.
        let regular = slots.saturating_sub(1).max(1);
        let mut chosen: Vec<PeerKey> =
            candidates.iter().filter(earned).take(regular).map(|peer| peer.key).collect();
        candidates.retain(|peer| !chosen.contains(&peer.key));
        if chosen.len() < slots
            && let Some(peer) = self.optimistic(now, &candidates, rng)
        {
            chosen.push(peer);
            candidates.retain(|other| other.key != peer);
        }
        while chosen.len() < slots {
            let unchoked = candidates.iter().find(|peer| peer.unchoked && !peer.snubbed);
            let next = unchoked.map(|peer| peer.key).or_else(|| draw(now, &candidates, rng));
            let Some(next) = next else { break };
            chosen.push(next);
            candidates.retain(|other| other.key != next);
        }
        chosen
    }

    /// Returns the optimistic unchoke: the same peer for [`MIN_UNCHOKE`], then another.
    fn optimistic(
        &mut self,
        now: Duration,
        candidates: &[Candidate],
        rng: &mut impl Rng,
    ) -> Option<PeerKey> {
        if let Some((key, since)) = self.optimistic
            && now < since + MIN_UNCHOKE
            && candidates.iter().any(|peer| peer.key == key)
        {
            return Some(key);
        }
        let choked: Vec<Candidate> =
            candidates.iter().filter(|peer| !peer.unchoked).copied().collect();
        let drawn = draw(now, &choked, rng).or_else(|| draw(now, candidates, rng));
        self.optimistic = drawn.map(|key| (key, now));
        drawn
    }
}

/// Returns how many peers to unchoke while seeding and sending `rate` bytes per second: at least
/// `slots`, and more as long as they do not starve each other. 1 MiB/s serves 32 peers at 32 KiB/s,
/// 100 MiB/s serves 320 at 320 KiB/s. If the peers take less than the line can carry, more of them
/// are unchoked. If the line is full, few enough share it. Without slots no peer is unchoked.
pub(super) fn seeding_slots(slots: usize, rate: u64) -> usize {
    let carried = (rate / SLOT_RATE).isqrt();
    if slots == 0 { 0 } else { slots.max(usize::try_from(carried).unwrap_or(usize::MAX)) }
}

/// Returns the peers to unchoke at once, at most `slots` of those that wait.
pub(super) fn fill(
    now: Duration,
    slots: usize,
    seeding: bool,
    mut waiting: Vec<Candidate>,
    rng: &mut impl Rng,
) -> Vec<PeerKey> {
    if seeding {
        return round_robin(now, slots, waiting);
    }
    let mut chosen = Vec::new();
    while chosen.len() < slots
        && let Some(next) = draw(now, &waiting, rng)
    {
        chosen.push(next);
        waiting.retain(|peer| peer.key != next);
    }
    chosen
}

/// Returns one of them at random, new ones three times as likely.
fn draw(now: Duration, candidates: &[Candidate], rng: &mut impl Rng) -> Option<PeerKey> {
    let weight = |peer: &Candidate| if now < peer.connected_at + NEW { 3 } else { 1 };
    let total: u32 = candidates.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = rng.random_range(0..total);
    let hit = candidates.iter().find(|peer| {
        let hit = at < weight(peer);
        at = at.saturating_sub(weight(peer));
        hit
    });
    hit.map(|peer| peer.key)
}

/// Returns the peers that were unchoked less than [`MIN_UNCHOKE`] ago, then those that wait the
/// longest.
fn round_robin(now: Duration, slots: usize, mut candidates: Vec<Candidate>) -> Vec<PeerKey> {
    let is_recent = |peer: &Candidate| {
        peer.unchoked && peer.unchoked_at.is_some_and(|since| now < since + MIN_UNCHOKE)
    };
    candidates
        .sort_by_key(|peer| (!is_recent(peer), peer.unchoked_at, peer.connected_at, peer.key));
    candidates.iter().take(slots).map(|peer| peer.key).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn peer(key: u64, rate: u64) -> Candidate {
        Candidate {
            key: PeerKey(key),
            rate,
            snubbed: false,
            connected_at: Duration::ZERO,
            unchoked: false,
            unchoked_at: None,
        }
    }

    fn rounds(slots: usize, peers: &[Candidate], seeds: u64) -> Vec<Vec<u64>> {
        let round = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let chosen = Choker::default().round(
                Duration::from_secs(100),
                slots,
                false,
                peers.to_vec(),
                &mut rng,
            );
            chosen.into_iter().map(|key| key.0).collect()
        };
        (0..seeds).map(round).collect()
    }

    #[test]
    fn snubbed_peer_keeps_no_slot() {
        let mut peers: Vec<Candidate> = (0..10).map(|key| peer(key, key * 100)).collect();
        peers[9].snubbed = true;
        for chosen in rounds(4, &peers, 20) {
            assert_eq!(chosen[..3], [8, 7, 6]);
        }
    }

    #[test]
    fn new_peers_are_preferred_threefold() {
        let mut peers = vec![peer(0, 0), peer(1, 0)];
        peers[1].connected_at = Duration::from_secs(99);
        let chosen = rounds(1, &peers, 2000);
        let new = chosen.iter().filter(|chosen| chosen[0] == 1).count();
        assert!((1400..1600).contains(&new), "{new} of 2000");
    }
}
