//! The peers that offer the metadata, and what each is asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::PeerId;
use swarm::PeerKey;

use super::assembly::Assembly;
use crate::limits::{
    MAX_METADATA_PEERS, MAX_METADATA_WINDOW, MAX_USELESS_METADATA, METADATA_ANSWER_TIME,
    METADATA_REST,
};

/// How many pieces a peer is asked for at first. One more after each answer.
const FIRST_WINDOW: usize = 2;
/// How many requests a peer may have left unanswered. It is asked for no more then.
const MAX_OWED: usize = 2 * MAX_METADATA_WINDOW;
/// How the peer ids of rTorrent start. Up to 0.9.8 it sends nothing more on a connection on which a
/// request for metadata came while it answered another one.
const RTORRENT: &[u8] = b"-lt";

/// A peer that sends metadata. Its address is known after the connection ended, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Sender {
    pub(in crate::engine) key: PeerKey,
    pub(in crate::engine) address: SocketAddr,
    pub(in crate::engine) peer_id: PeerId,
}

impl Sender {
    fn max_window(&self) -> usize {
        if self.peer_id.0.starts_with(RTORRENT) { 1 } else { MAX_METADATA_WINDOW }
    }
}

#[derive(Debug)]
struct Peer {
    sender: Sender,
    size: u32,
    /// When it claimed that size.
    claimed_at: Duration,
    asked: Vec<Asked>,
    /// How many pieces it may be asked for at a time.
    window: usize,
    /// It is not asked before this.
    rest_until: Duration,
    /// Messages that nobody asked for, or of a wrong length.
    useless: u8,
}

/// A request that a peer has not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The number of the assembly.
    pub(super) attempt: u64,
    /// The size that the peer claimed.
    pub(super) size: u32,
    pub(super) piece: u32,
    at: Duration,
    /// Whether it counts as unasked for the assembly. The answer is still of use.
    expired: bool,
}

/// The connected peers that claim to have the metadata.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PeerKey, Peer>);

impl Peers {
    /// A peer claims a size. If it claimed another one before, returns what it was asked for: its
    /// answers are of no use.
    pub(super) fn handle_size(&mut self, now: Duration, sender: Sender, size: u32) -> Vec<Asked> {
        let peer = self.0.entry(sender.key).or_insert_with(|| Peer {
            sender,
            size,
            claimed_at: now,
            asked: Vec::new(),
            window: FIRST_WINDOW.min(sender.max_window()),
            rest_until: now,
            useless: 0,
        });
        if peer.size == size {
            return Vec::new();
        }
        (peer.size, peer.claimed_at) = (size, now);
        let unanswered = peer.asked.clone();
        peer.asked.iter_mut().for_each(|asked| asked.expired = true);
        unanswered
    }

    /// Forgets a peer. Returns what it was asked for.
    pub(super) fn remove(&mut self, key: PeerKey) -> Vec<Asked> {
        self.0.remove(&key).map_or_else(Vec::new, |peer| peer.asked)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the peers that are asked for metadata, the size that each claims, and since when.
    pub(super) fn claims(&self) -> impl Iterator<Item = (PeerKey, u32, Duration)> + '_ {
        let usable = self.0.iter().filter(|(_, peer)| peer.useless < MAX_USELESS_METADATA);
        usable.map(|(key, peer)| (*key, peer.size, peer.claimed_at))
    }

    /// Asks a peer for a piece of `assembly`.
    pub(super) fn ask(&mut self, now: Duration, assembly: &mut Assembly) -> Option<(PeerKey, u32)> {
        let of_assembly = |peer: &Peer| {
            let open = peer.asked.iter().filter(|asked| !asked.expired);
            open.filter(|asked| asked.attempt == assembly.attempt).count()
        };
        let busy = self.0.values().filter(|peer| of_assembly(peer) > 0).count();
        let track = assembly.track;
        let is_free = |(key, peer): &(&PeerKey, &mut Peer)| {
            let fits = track.is_of((**key, peer.size)) && peer.useless < MAX_USELESS_METADATA;
            let asked = of_assembly(peer);
            let has_turn = asked > 0 || busy < MAX_METADATA_PEERS;
            let has_room = asked < peer.window && peer.asked.len() < MAX_OWED;
            fits && has_turn && peer.rest_until <= now && has_room
        };
        let mut free: Vec<(&PeerKey, &mut Peer)> = self.0.iter_mut().filter(is_free).collect();
        let open = |peer: &Peer| peer.asked.iter().filter(|asked| asked.is_open()).count();
        free.sort_by_key(|(_, peer)| (open(peer), peer.asked.len()));
        for (key, peer) in free {
            // A slow peer still answers what it was asked for. A second answer would be of no use.
            let owes = |piece| peer.asked.iter().any(|asked| asked.piece == piece);
            let Some(piece) = assembly.choose(now, owes) else { continue };
            let (attempt, size) = (assembly.attempt, track.size);
            peer.asked.push(Asked { attempt, size, piece, at: now, expired: false });
            return Some((*key, piece));
        }
        None
    }

    /// Returns the size that a peer claims.
    pub(super) fn size_of(&self, key: PeerKey) -> Option<u32> {
        self.0.get(&key).map(|peer| peer.size)
    }

    /// Takes a request for the piece out of those of a peer. `None` if the peer was not asked.
    pub(super) fn take_asked(&mut self, key: PeerKey, piece: u32) -> Option<(Sender, Asked)> {
        let peer = self.0.get_mut(&key)?;
        let index = peer.asked.iter().position(|asked| asked.piece == piece)?;
        Some((peer.sender, peer.asked.remove(index)))
    }

    /// A peer answered: it may be asked for more at a time.
    pub(super) fn note_answer(&mut self, key: PeerKey) {
        if let Some(peer) = self.0.get_mut(&key) {
            peer.window = (peer.window + 1).min(peer.sender.max_window());
        }
    }

    /// A peer sent something that is of no use.
    pub(super) fn note_useless(&mut self, key: PeerKey) {
        if let Some(peer) = self.0.get_mut(&key) {
            peer.useless = peer.useless.saturating_add(1);
        }
    }

    /// A peer does not send what it was asked for.
    pub(super) fn rest(&mut self, now: Duration, key: PeerKey) {
        if let Some(peer) = self.0.get_mut(&key) {
            let window = FIRST_WINDOW.min(peer.sender.max_window());
            (peer.window, peer.rest_until) = (window, now + METADATA_REST);
        }
    }

    /// Returns the requests that were not answered in time, so that others may be asked. After
    /// [`METADATA_REST`] they are forgotten, and the peer may be asked again.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Asked> {
        let mut late = Vec::new();
        for peer in self.0.values_mut() {
            peer.asked.retain(|asked| now.saturating_sub(asked.at) < METADATA_REST);
            for asked in &mut peer.asked {
                if !asked.expired && now.saturating_sub(asked.at) >= METADATA_ANSWER_TIME {
                    late.push(*asked);
                    asked.expired = true;
                    peer.window = 1;
                }
            }
        }
        late
    }
}

impl Asked {
    /// Whether the assembly counts it.
    pub(super) fn is_open(&self) -> bool {
        !self.expired
    }
}
