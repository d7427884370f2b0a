//! Peer exchange (BEP 11): peers tell each other which peers they are connected to.
//!
//! A feed has the peers that came and went, and each peer that takes part has a place in it. So a
//! message costs what happened since the one before, and a peer that came and went in between is
//! not mentioned.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::is_public;

use crate::peer::{Peer, Peers};
use crate::swarm::Swarm;
use crate::vocabulary::{DisconnectReason, Output, PeerKey, PexEntry, Source};

/// How often a peer is sent a message at most (BEP 11).
const PEX_EVERY: Duration = Duration::from_secs(60);
/// When a peer is sent the first one.
const FIRST_PEX: Duration = Duration::from_secs(5);
/// How many peers a message adds at most, and how many it drops (BEP 11).
pub(crate) const PEX_ENTRIES: usize = 50;
/// How often a peer may send a message, after [`PEX_BURST`] of them.
const PEX_GAP: Duration = Duration::from_secs(45);
/// How many messages a peer may send at once.
const PEX_BURST: u32 = 3;
/// How many messages beyond that are ignored, less the later ones that came in time. Then they are a
/// broken rule.
const PEX_IGNORED: u32 = 10;
/// How many addresses that one peer named may wait for their first attempt.
const MAX_UNTRIED: usize = 50;
/// How many changes the feed remembers. A peer that misses some is not sent those.
const MAX_CHANGES: usize = 1000;

/// A peer that came or went.
#[derive(Debug, Clone, Copy)]
struct Change {
    peer: PeerKey,
    address: SocketAddr,
    came: bool,
}

/// The peers that came and went.
#[derive(Debug, Default)]
pub(crate) struct PexFeed {
    changes: VecDeque<Change>,
    /// The number of the first change in the list, counted from the start of the swarm.
    first: u64,
}

/// The part of a peer in the exchange.
#[derive(Debug)]
pub(crate) struct PexPeer {
    /// Whether it takes messages.
    takes: bool,
    /// When it is sent the next message.
    next_at: Duration,
    /// The number of the first change that it was not sent; `None` before the first message.
    cursor: Option<u64>,
    /// From when on it may send a message again, if it sends one at a time.
    allowed_at: Duration,
    /// How many messages were ignored, less those that were read since.
    ignored: u32,
    /// The addresses that it named and that were not tried yet.
    untried: Vec<SocketAddr>,
}

impl PexFeed {
    fn note(&mut self, change: Change) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
            self.first += 1;
        }
        self.changes.push_back(change);
    }

    fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// Returns what changed from `cursor` on, at most [`PEX_ENTRIES`] each way, and the next
    /// cursor.
    fn since(&self, cursor: u64, peers: &Peers) -> (Vec<PexEntry>, Vec<SocketAddr>, u64) {
        let skip = cursor.saturating_sub(self.first) as usize;
        let mut next = self.first + skip as u64;
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for change in self.changes.iter().skip(skip) {
            if came.len() == PEX_ENTRIES || went.len() == PEX_ENTRIES {
                break;
            }
            next += 1;
            // A peer that has gone since is skipped here, and so is its going.
            match (change.came, came.iter().position(|(peer, _)| *peer == change.peer)) {
                (true, _) => came.push((change.peer, change.address)),
                (false, Some(index)) => _ = came.remove(index),
                (false, None) => went.push(change.address),
            }
        }
        let entry = |(peer, address)| Some(entry(address, peers.get(peer)?));
        (came.into_iter().filter_map(entry).collect(), went, next)
    }
}

impl PexPeer {
    fn new(now: Duration) -> Self {
        Self {
            takes: false,
            next_at: now + FIRST_PEX,
            cursor: None,
            allowed_at: Duration::ZERO,
            ignored: 0,
            untried: Vec::new(),
        }
    }

    /// Whether a message that arrives now is read.
    fn allows(&mut self, now: Duration) -> bool {
        let burst = PEX_GAP * (PEX_BURST - 1);
        let allowed = self.allowed_at <= now + burst;
        if allowed {
            self.allowed_at = self.allowed_at.max(now) + PEX_GAP;
            self.ignored = self.ignored.saturating_sub(1);
        } else {
            self.ignored += 1;
        }
        allowed
    }
}

/// What happened.
impl Swarm {
    /// The peer's extension handshake says whether it takes messages of peer exchange.
    pub fn handle_pex_support(&mut self, now: Duration, key: PeerKey, supported: bool) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(key) else { return };
        if supported || peer.pex.is_some() {
            peer.pex.get_or_insert_with(|| Box::new(PexPeer::new(now))).takes = supported;
        }
    }

    /// The peer named peers that it is connected to; the first 50 are used. A private torrent
    /// ignores them (BEP 27). A public address is kept only if no other of the same IPv4 address or
    /// IPv6 /64 came this way, a local one only from a peer that is local itself or was named by the
    /// user. At most 12 of those that one peer named are connected to at a time.
    pub fn handle_pex(&mut self, now: Duration, key: PeerKey, added: &[SocketAddr]) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(key) else { return };
        let pex = peer.pex.get_or_insert_with(|| Box::new(PexPeer::new(now)));
        if !pex.allows(now) {
            if pex.ignored > PEX_IGNORED {
                self.disconnect(key, DisconnectReason::Misbehaved);
            }
            return;
        }
        let mut untried = std::mem::take(&mut pex.untried);
        let informant = peer.identity.address;
        untried.retain(|address| self.contacts.addresses.is_untried(*address));
        for address in added.iter().take(PEX_ENTRIES) {
            if untried.len() == MAX_UNTRIED {
                break;
            }
            if self.contacts.handle_named(now, informant, Source::Pex, *address, &mut self.rng) {
                untried.push(*address);
            }
        }
        if let Some(pex) = self.peers.get_mut(key).and_then(|peer| peer.pex.as_mut()) {
            pex.untried = untried;
        }
    }
}

impl Swarm {
    /// A peer can be found at `address` from now on.
    pub(crate) fn note_came(&mut self, key: PeerKey, address: SocketAddr) {
        if !self.contacts.is_private() {
            self.pex.get_or_insert_default().note(Change { peer: key, address, came: true });
        }
    }

    /// A peer has gone.
    pub(crate) fn note_went(&mut self, key: PeerKey, peer: &Peer) {
        if let Some(address) = peer.listens
            && !self.contacts.is_private()
        {
            self.pex.get_or_insert_default().note(Change { peer: key, address, came: false });
        }
    }

    /// Sends the peers whose turn it is which others came and went.
    pub(crate) fn exchange_peers(&mut self) {
        if self.contacts.is_private() {
            return;
        }
        let Some(feed) = self.pex.as_deref() else { return };
        let is_due = |pex: &PexPeer| pex.takes && pex.next_at <= self.now;
        let due = self.peers.iter().filter(|(_, peer)| peer.pex.as_deref().is_some_and(is_due));
        let due: Vec<PeerKey> = due.map(|(key, _)| key).collect();
        let messages: Vec<_> = due.into_iter().map(|key| (key, self.news_for(feed, key))).collect();
        for (key, (mut added, mut dropped, next)) in messages {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let own = peer.listens.unwrap_or(peer.identity.address);
            // A local address is of no use elsewhere.
            let local = !is_public(peer.identity.address.ip());
            let is_sent = |at: SocketAddr| at != own && (local || is_public(at.ip()));
            added.retain(|entry| is_sent(entry.address));
            // One that went and came again has not gone.
            let is_back = |at| added.iter().any(|entry| entry.address == at);
            dropped.retain(|address| is_sent(*address) && !is_back(*address));
            if let Some(pex) = &mut peer.pex {
                (pex.cursor, pex.next_at) = (Some(next), self.now + PEX_EVERY);
            }
            if !added.is_empty() || !dropped.is_empty() {
                self.outputs.push_back(Output::Pex { peer: key, added, dropped });
            }
        }
    }

    /// Returns the next message to a peer, and the number of the first change after that.
    fn news_for(&self, feed: &PexFeed, key: PeerKey) -> (Vec<PexEntry>, Vec<SocketAddr>, u64) {
        let pex = self.peers.get(key).and_then(|peer| peer.pex.as_deref());
        match pex.and_then(|pex| pex.cursor) {
            Some(cursor) => feed.since(cursor, &self.peers),
            None => (self.present(), Vec::new(), feed.end()),
        }
    }

    /// Returns peers that are connected, at most [`PEX_ENTRIES`].
    fn present(&self) -> Vec<PexEntry> {
        let known = self.peers.iter().filter_map(|(_, peer)| Some(entry(peer.listens?, peer)));
        known.take(PEX_ENTRIES).collect()
    }
}

fn entry(address: SocketAddr, peer: &Peer) -> PexEntry {
    let is_seed = peer.transfer.as_ref().is_some_and(|transfer| transfer.has.is_all());
    PexEntry { address, seed: is_seed, reachable: peer.identity.outgoing }
}
