//! Where peers may be found: known addresses, trackers, and bans.

mod addresses;
mod bans;
mod trackers;

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceReply, PeerId, TrackerPeer, is_public};
use rand::Rng;

use crate::peer::Peer;
use crate::vocabulary::{
    AnnounceFailure, ConnectFailure, DeadEnd, DisconnectReason, Output, Refusal, Source,
    TrackerIndex,
};
use addresses::{Addresses, Ending, Informant, Origin};
use bans::Bans;

pub use trackers::MAX_TRACKERS;
pub(crate) use trackers::{Need, Trackers};

/// The most addresses taken from one list.
const MAX_LIST: usize = 2000;

/// Where peers of one torrent may be found.
#[derive(Debug)]
pub(crate) struct Contacts {
    private: bool,
    pub(crate) addresses: Addresses,
    /// `None` as long as no peer is banned.
    bans: Option<Box<Bans>>,
    pub(crate) trackers: Trackers,
}

impl Contacts {
    pub(crate) fn new(private: bool, trackers: Trackers) -> Self {
        Self { private, addresses: Addresses::default(), bans: None, trackers }
    }

    /// Adds addresses; returns how many were new and are kept: of those that anybody may have made
    /// up, one of each public IPv4 address and IPv6 /64.
    pub(crate) fn handle_candidates(
        &mut self,
        now: Duration,
        source: Source,
        addresses: &[SocketAddr],
        rng: &mut impl Rng,
    ) -> usize {
        if self.private && source != Source::Tracker {
            return 0;
        }
        let (listed, origin) =
            (addresses.iter().take(MAX_LIST), Origin { source, informant: None });
        listed.filter(|address| self.learn(now, **address, origin, rng)).count()
    }

    /// `informant`, which anybody may be, named an address of a peer. Returns whether it was new and
    /// is kept: a local one only if the informant is local too or was named by the user, and one of
    /// each public IPv4 address and IPv6 /64.
    pub(crate) fn handle_named(
        &mut self,
        now: Duration,
        informant: SocketAddr,
        source: Source,
        address: SocketAddr,
        rng: &mut impl Rng,
    ) -> bool {
        let is_trusted = || {
            let of_user = self.addresses.source_of(informant) == Some(Source::User);
            of_user || !is_public(informant.ip())
        };
        let taken = is_public(address.ip()) || is_trusted();
        let origin = Origin { source, informant: Some(Informant::new(informant)) };
        !self.private && taken && self.learn(now, address, origin, rng)
    }

    /// The same for a list; returns how many were new and are kept.
    pub(crate) fn handle_list_of(
        &mut self,
        now: Duration,
        informant: SocketAddr,
        source: Source,
        addresses: &[SocketAddr],
        rng: &mut impl Rng,
    ) -> usize {
        let listed = addresses.iter().take(MAX_LIST);
        listed.filter(|at| self.handle_named(now, informant, source, **at, rng)).count()
    }

    /// A tracker answered or did not. `need` is what the swarm lacks while only connected peers count.
    pub(crate) fn handle_announced(
        &mut self,
        now: Duration,
        tracker: TrackerIndex,
        result: Result<&AnnounceReply, AnnounceFailure>,
        need: Need,
        rng: &mut impl Rng,
    ) {
        if self.trackers.is_dropped(tracker) {
            return;
        }
        match result {
            Err(failure) => self.trackers.failed(now, tracker, failure),
            Ok(reply) => {
                let origin = Origin { source: Source::Tracker, informant: None };
                for address in reply.peers.iter().filter_map(TrackerPeer::address).take(MAX_LIST) {
                    self.learn(now, address, origin, rng);
                }
                let can_try = self.addresses.connecting() > 0 || self.addresses.has_ready(now);
                let need = if can_try { need.min(Need::Pieces) } else { need };
                self.trackers.answered(now, tracker, reply, need);
            }
        }
    }

    /// The handshake with a candidate is complete, and the peer was accepted or refused.
    pub(crate) fn handle_attempt(
        &mut self,
        now: Duration,
        address: SocketAddr,
        result: Result<(), &Refusal>,
        rng: &mut impl Rng,
    ) {
        match result {
            Ok(()) => self.addresses.connected(address),
            Err(Refusal::Myself) => self.addresses.never(address),
            Err(Refusal::Duplicate) => self.addresses.ended(now, address, Ending::Pointless, rng),
            // Not in the table.
            Err(Refusal::Private) => {}
            Err(Refusal::Banned | Refusal::TooMany { .. } | Refusal::Stopped) => {
                self.addresses.ended(now, address, Ending::Useful, rng);
            }
        }
    }

    /// The attempt to connect to a candidate failed. `no_peers` says that no peer is connected.
    pub(crate) fn handle_connect_failed(
        &mut self,
        now: Duration,
        address: SocketAddr,
        failure: ConnectFailure,
        no_peers: bool,
        rng: &mut impl Rng,
    ) {
        let ending = match failure {
            ConnectFailure::Unreachable | ConnectFailure::Handshake => Ending::Failure,
            ConnectFailure::WrongPeer => Ending::Pointless,
        };
        if self.addresses.is_connecting(address) {
            self.note_ending(now, address, ending, no_peers, rng);
        }
    }

    /// A connection ended. `no_peers` says that no other peer is connected.
    pub(crate) fn handle_disconnected(
        &mut self,
        now: Duration,
        peer: &Peer,
        reason: DisconnectReason,
        no_peers: bool,
        rng: &mut impl Rng,
    ) {
        if let Some(address) = peer.listens {
            self.note_ending(now, address, ending(now, peer, reason), no_peers, rng);
        }
    }

    /// A connected peer said that it listens at `address`. Says whether that address stands for
    /// this connection from now on, and not for another one.
    pub(crate) fn handle_listen_address(
        &mut self,
        now: Duration,
        address: SocketAddr,
        rng: &mut impl Rng,
    ) -> bool {
        if self.private {
            return false;
        }
        let origin = Origin { source: Source::Incoming, informant: None };
        let new = self.learn(now, address, origin, rng);
        let taken = self.addresses.is_connecting(address) || self.addresses.is_connected(address);
        let is_theirs = new || !taken;
        if is_theirs {
            self.addresses.connected(address);
        }
        is_theirs
    }

    /// Uses only what the torrent's own trackers say from now on. The `further` trackers are not the
    /// torrent's own: if there are any, nobody knows which of the addresses they gave.
    pub(crate) fn set_private(&mut self, now: Duration, further: &[String]) -> Vec<Output> {
        self.private = true;
        let all = !further.is_empty();
        self.addresses.forget(|_, source| all || source != Source::Tracker);
        if all { self.trackers.drop_all(now, further) } else { Vec::new() }
    }

    /// Whether only addresses that a tracker gave are used.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }

    /// Whether a peer may be at `address`.
    pub(crate) fn knows(&self, address: SocketAddr) -> bool {
        self.addresses.source_of(address).is_some()
    }

    /// Refuses the peer from now on.
    pub(crate) fn ban(&mut self, address: SocketAddr, id: PeerId) {
        let bans = self.bans.get_or_insert_default();
        bans.add(address, id);
        self.addresses.forget(|address, _| bans.cover(address, None));
    }

    /// Whether connections from or to `address` are refused, or to a peer of this id.
    pub(crate) fn is_banned(&self, address: SocketAddr, id: Option<PeerId>) -> bool {
        self.bans.as_ref().is_some_and(|bans| bans.cover(address, id))
    }

    /// Returns how many addresses were banned.
    pub(crate) fn banned(&self) -> usize {
        self.bans.as_ref().map_or(0, |bans| bans.len())
    }

    /// Returns why no peer can be expected, if none is connected.
    pub(crate) fn dead_end(&self) -> Option<DeadEnd> {
        if self.banned() > 0 && self.addresses.known() == 0 && self.trackers.are_settled() {
            return Some(DeadEnd::AllBanned);
        }
        let unreachable = self.trackers.have_all_failed() && self.addresses.are_all_tried();
        unreachable.then_some(DeadEnd::Unreachable)
    }

    fn learn(
        &mut self,
        now: Duration,
        address: SocketAddr,
        origin: Origin,
        rng: &mut impl Rng,
    ) -> bool {
        let is_one_too_many = || {
            let untrusted = origin.source.is_untrusted();
            untrusted && is_public(address.ip()) && self.addresses.has_untrusted(address.ip())
        };
        let refused = self.is_banned(address, None) || is_one_too_many();
        !refused && self.addresses.learn(now, address, origin, rng)
    }

    fn note_ending(
        &mut self,
        now: Duration,
        address: SocketAddr,
        ending: Ending,
        no_peers: bool,
        rng: &mut impl Rng,
    ) {
        self.addresses.ended(now, address, ending, rng);
        if ending == Ending::Failure && no_peers {
            self.addresses.hurry(now, rng);
        }
    }
}

/// Returns what the end of a connection says about its address.
fn ending(now: Duration, peer: &Peer, reason: DisconnectReason) -> Ending {
    match reason {
        DisconnectReason::NothingToExchange => Ending::NothingWanted,
        DisconnectReason::Duplicate | DisconnectReason::Private => Ending::Pointless,
        DisconnectReason::Stopped | DisconnectReason::Limit => Ending::Useful,
        DisconnectReason::Closed | DisconnectReason::Failed | DisconnectReason::Idle => {
            if peer.was_useful(now) { Ending::Useful } else { Ending::Failure }
        }
        DisconnectReason::Misbehaved
        | DisconnectReason::BadBitfield
        | DisconnectReason::BadData
        | DisconnectReason::Useless => Ending::Failure,
    }
}
