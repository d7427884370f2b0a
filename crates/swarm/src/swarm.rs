//! The swarm: takes what happened to the part that it concerns, and carries out what the parts
//! decide about connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceReply, Bitfield, Geometry, PeerId, PieceIndex};

use crate::contacts::{Contacts, Need, Trackers};
use crate::peer::Peers;
use crate::pex::PexFeed;
use crate::rng::IdleRng;
use crate::spans::SpanBudget;
use crate::transfer::{Active, Context, Pieces, Transfer};
use crate::vocabulary::{
    AnnounceFailure, BeginTransferError, Committed, ConnectFailure, DisconnectReason, Output,
    Source, SwarmConfig, TrackerIndex,
};

/// The peers of one torrent, and every decision about them.
///
/// A swarm starts without knowing the torrent's geometry: it announces to trackers, connects to
/// peers, and keeps what they say, at most 1 MiB.
/// [`begin_transfer`](Self::begin_transfer) applies that and starts the exchange of pieces.
///
/// 1. What happened: `handle_*(now, ..)`. Calls about a peer that is not connected are ignored.
/// 2. What we want: [`begin_transfer`](Self::begin_transfer), [`stop`](Self::stop),
///    [`set_private`](Self::set_private), [`ban`](Self::ban), [`make_room`](Self::make_room),
///    [`set_wanted`](Self::set_wanted), [`set_upload_slots`](Self::set_upload_slots),
///    [`set_max_peers`](Self::set_max_peers).
/// 3. What the caller must do now: [`poll_output`](Self::poll_output) until `None`,
///    [`poll_timeout`](Self::poll_timeout); and, whenever it has room for more,
///    [`next_candidate`](Self::next_candidate).
/// 4. Getters.
///
/// Between two drains of `poll_output` the queue of outputs holds at most a few for each connected
/// peer and each request outstanding; requests are made only when the queue is empty, for one peer
/// at a time.
#[derive(Debug)]
pub struct Swarm {
    pub(crate) now: Duration,
    pub(crate) rng: IdleRng,
    pub(crate) peer_id: PeerId,
    pub(crate) running: bool,
    pub(crate) max_peers: usize,
    upload_slots: usize,
    pub(crate) peers: Peers,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) contacts: Contacts,
    /// `None` while no peer is connected.
    pub(crate) pex: Option<Box<PexFeed>>,
    pub(crate) transfer: Option<Transfer>,
}

/// The most peers of a swarm, whatever the configuration says.
const MAX_PEERS: usize = u16::MAX as usize;
/// How many peers a tracker is asked for while something is missing.
const NUM_WANT: u32 = 200;
/// How many peers a tracker is asked for otherwise. Those that want something find us.
const NUM_WANT_COMPLETE: u32 = 50;

impl Swarm {
    /// Returns a swarm that knows no peer, and is about to ask the first tracker.
    pub fn new(now: Duration, config: &SwarmConfig) -> Self {
        let mut rng = IdleRng::new(config.seed);
        let trackers = Trackers::new(now, &config.trackers, &mut rng);
        Self {
            now,
            rng,
            peer_id: config.peer_id,
            running: true,
            max_peers: config.max_peers.min(MAX_PEERS),
            upload_slots: config.upload_slots,
            peers: Peers::default(),
            outputs: VecDeque::new(),
            contacts: Contacts::new(config.private, trackers),
            pex: None,
            transfer: None,
        }
    }

    /// A tracker answered or did not. The peers of a reply become candidates, except those given
    /// by name, which the caller resolves and reports with [`Self::handle_candidates`]. Several
    /// replies to one announce are fine, for example one for each address family.
    pub fn handle_announced(
        &mut self,
        now: Duration,
        tracker: TrackerIndex,
        result: Result<&AnnounceReply, AnnounceFailure>,
    ) {
        self.now = now;
        let need = match (self.is_complete(), self.peers.is_empty()) {
            (true, _) => Need::Nothing,
            (false, true) => Need::Peers,
            (false, false) => Need::Pieces,
        };
        self.contacts.handle_announced(now, tracker, result, need, &mut self.rng);
    }

    /// Somebody gave addresses at which peers may be; all but the first 2,000 are ignored.
    /// Returns how many were new and are kept. A private torrent keeps only those of
    /// [`Source::Tracker`] (BEP 27).
    pub fn handle_candidates(
        &mut self,
        now: Duration,
        source: Source,
        addresses: &[SocketAddr],
    ) -> usize {
        self.now = now;
        self.contacts.handle_candidates(now, source, addresses, &mut self.rng)
    }

    /// A node of the DHT, at the address `informant`, named peers. The rules are those of
    /// [`Self::handle_pex`], but for the number of addresses.
    pub fn handle_node_peers(
        &mut self,
        now: Duration,
        informant: SocketAddr,
        addresses: &[SocketAddr],
    ) -> usize {
        self.now = now;
        self.contacts.handle_list_of(now, informant, Source::Dht, addresses, &mut self.rng)
    }

    /// The attempt to connect to a candidate failed.
    pub fn handle_connect_failed(
        &mut self,
        now: Duration,
        address: SocketAddr,
        failure: ConnectFailure,
    ) {
        self.now = now;
        let no_peers = self.peers.is_empty();
        self.contacts.handle_connect_failed(now, address, failure, no_peers, &mut self.rng);
    }

    /// The outcome of [`Output::Commit`].
    pub fn handle_committed(&mut self, now: Duration, piece: PieceIndex, committed: Committed) {
        let settled = self
            .with_active(now, |active, cx| active.downloads.handle_committed(cx, piece, committed));
        let Some(settled) = settled.flatten() else { return };
        settled.liars.into_iter().for_each(|liar| self.ban_liar(liar));
        if self.transfer.as_mut().is_some_and(Transfer::became_seed) {
            self.contacts.trackers.completed();
        }
        if settled.gained {
            self.note_completion();
        }
    }

    /// We lost a piece again, for example because it could not be synced.
    pub fn handle_lost(&mut self, now: Duration, piece: PieceIndex) {
        self.activate();
        if self.with_active(now, |active, cx| active.downloads.handle_lost(cx, piece)) == Some(true)
        {
            self.contacts.addresses.wake(now, &mut self.rng);
        }
    }

    /// Starts the exchange of pieces of a torrent of this geometry. `have` are the pieces that are
    /// verified and written, `wanted` those to have in the end. `unfinished` are blocks of missing
    /// pieces that are on disk already: the piece and its block numbers. If nothing is missing, no
    /// [`Output::Completed`] follows.
    ///
    /// # Errors
    /// The transfer has started already, or a bitfield is for another number of pieces.
    pub fn begin_transfer(
        &mut self,
        now: Duration,
        geometry: Geometry,
        have: Bitfield,
        wanted: Bitfield,
        unfinished: &[(PieceIndex, Vec<u32>)],
    ) -> Result<(), BeginTransferError> {
        if self.transfer.is_some() {
            return Err(BeginTransferError::AlreadyStarted);
        }
        self.transfer = Some(Transfer::new(Pieces::new(geometry, have, wanted)?));
        self.peers.begin_transfer(now);
        self.activate();
        self.with_active(now, |active, cx| active.downloads.begin(cx, unfinished));
        self.set_timers();
        self.peers.keys().into_iter().for_each(|key| self.apply_early(now, key));
        // Most torrents of a large session wait for peers from here on.
        self.rng.hibernate();
        Ok(())
    }

    /// Leaves the swarm for good: disconnects every peer, has the received parts of unfinished
    /// pieces staged, and announces `stopped` to the trackers that know us. The caller still
    /// reports pieces that are being committed.
    pub fn stop(&mut self, now: Duration) {
        self.now = now;
        if !std::mem::replace(&mut self.running, false) {
            return;
        }
        for key in self.peers.keys() {
            self.disconnect(key, DisconnectReason::Stopped);
        }
        self.with_active(now, Active::stop);
        self.outputs.extend(self.contacts.trackers.stop());
    }

    /// Changes which pieces we want to have in the end. Before [`Self::begin_transfer`], and for a
    /// set of another number of pieces, nothing happens. Unfinished pieces that are no longer
    /// wanted are closed; if nothing is missing now and something was before,
    /// [`Output::Completed`] follows.
    pub fn set_wanted(&mut self, now: Duration, wanted: Bitfield) {
        if self.pieces().is_none_or(|pieces| wanted.pieces() != pieces.wanted().pieces()) {
            return;
        }
        let missed = !self.is_complete();
        self.activate();
        self.with_active(now, |active, cx| active.downloads.set_wanted(cx, wanted));
        self.contacts.addresses.wake(now, &mut self.rng);
        if missed {
            self.note_completion();
        }
    }

    /// Changes how many peers may be connected or connecting. No peer is disconnected for it.
    pub fn set_max_peers(&mut self, now: Duration, peers: usize) {
        self.now = now;
        self.max_peers = peers.min(MAX_PEERS);
    }

    /// Changes how many interested peers are unchoked at a time; see
    /// [`SwarmConfig::upload_slots`].
    pub fn set_upload_slots(&mut self, now: Duration, slots: usize) {
        self.upload_slots = slots;
        self.with_active(now, |active, cx| active.uploads.decide(cx));
    }

    /// Returns an address to connect to, for a caller that has room for another connection. It
    /// counts as connecting until [`Self::handle_connected`] or [`Self::handle_connect_failed`].
    #[must_use]
    pub fn next_candidate(&mut self, now: Duration) -> Option<SocketAddr> {
        self.now = now;
        let room = self.peers.len() + self.contacts.addresses.connecting() < self.max_peers;
        if self.running && room { self.contacts.addresses.next(now) } else { None }
    }

    /// Returns the next thing to do; `None` when there is nothing more until something happens.
    ///
    /// Memory for what is about to be requested is reserved from `budget`.
    pub fn poll_output(&mut self, now: Duration, budget: &mut SpanBudget) -> Option<Output> {
        self.now = now;
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.with_active(now, |active, cx| active.uploads.fill_if_due(cx)) == Some(true) {
                continue;
            }
            self.with_active(now, |active, cx| active.downloads.catch_up(cx.peers));
            if let Some(announce) = self.poll_announce() {
                return Some(announce);
            }
            let asked = self.with_active(now, |active, cx| active.downloads.ask_next(cx, budget));
            if asked != Some(true) {
                self.rest();
                return None;
            }
        }
    }

    /// Returns when [`Self::handle_timeout`] is to be called. Also the time at which
    /// [`Self::next_candidate`] may have another address.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if !self.running {
            return None;
        }
        let active = self.transfer.as_ref().and_then(|transfer| transfer.active.as_ref());
        let timers = active.and_then(|active| active.next_timeout());
        let (announce, retry) =
            (self.contacts.trackers.next_timeout(), self.contacts.addresses.next_retry(self.now));
        [timers, announce, retry].into_iter().flatten().min()
    }

    /// The time of [`Self::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.with_active(now, Active::tick_if_due) == Some(true) {
            self.disconnect_useless();
            self.with_active(now, Active::finish_tick);
            self.exchange_peers();
        }
        self.with_active(now, Active::choke_if_due);
        self.set_timers();
    }

    /// Has the active parts of the transfer do something. `None` before the transfer, and while it
    /// is idle: then no peer is part of it.
    ///
    /// Every message of a peer passes here. Before the transfer it is dropped.
    pub(crate) fn with_active<T>(
        &mut self,
        now: Duration,
        action: impl FnOnce(&mut Active, &mut Context<'_>) -> T,
    ) -> Option<T> {
        self.now = now;
        let Transfer { pieces, traffic, active, .. } = self.transfer.as_mut()?;
        let mut cx = Context {
            now,
            rng: &mut self.rng,
            peers: &mut self.peers,
            outputs: &mut self.outputs,
            pieces,
            traffic,
            upload_slots: self.upload_slots,
        };
        Some(action(active.as_deref_mut()?, &mut cx))
    }

    pub(crate) fn activate(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            transfer.activate();
        }
    }

    /// Sets the timers that are not set, if there are peers.
    pub(crate) fn set_timers(&mut self) {
        if !self.peers.is_empty() {
            self.with_active(self.now, |active, cx| active.set_timers(cx.now));
        }
    }

    fn poll_announce(&mut self) -> Option<Output> {
        if !self.running {
            return None;
        }
        let most = if self.is_complete() { NUM_WANT_COMPLETE } else { NUM_WANT };
        let room = self.max_peers > self.peers.len();
        self.contacts.trackers.poll(self.now, if room { most } else { 0 })
    }

    /// Frees the memory that only a swarm with peers needs.
    fn rest(&mut self) {
        if !self.peers.is_empty() {
            return;
        }
        self.rng.hibernate();
        self.peers = Peers::default();
        self.outputs = VecDeque::new();
        self.pex = None;
        self.contacts.addresses.shrink();
        if let Some(transfer) = &mut self.transfer {
            transfer.rest();
        }
    }

    /// If nothing is missing any longer, reports it, and disconnects the peers that need nothing
    /// either.
    fn note_completion(&mut self) {
        if self.is_complete() {
            self.outputs.push_back(Output::Completed);
            self.peers.keys().into_iter().for_each(|key| self.disconnect_if_useless(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{ConnectedPeer, PeerKey};

    #[test]
    fn idle_seed_holds_no_working_state() {
        assert!(size_of::<Swarm>() <= 416);
        let (now, geometry) = (Duration::ZERO, Geometry::new(1 << 30, 1 << 20).unwrap());
        let mut swarm = Swarm::new(now, &SwarmConfig::new(PeerId([b'A'; 20])));
        let all = Bitfield::full(1024);
        swarm.begin_transfer(now, geometry, all.clone(), all, &[]).unwrap();
        let is_resting = |swarm: &mut Swarm, now| {
            assert_eq!(swarm.poll_output(now, &mut SpanBudget::new(0)), None);
            swarm.transfer.as_ref().unwrap().active.is_none() && swarm.outputs.capacity() == 0
        };
        assert!(is_resting(&mut swarm, now));

        let (key, address) = (PeerKey(1), "192.0.2.7:6881".parse().unwrap());
        let peer = ConnectedPeer { address, outgoing: false, fast: true, peer_id: PeerId([1; 20]) };
        swarm.handle_connected(now, key, peer).unwrap();
        assert!(!is_resting(&mut swarm, now));
        swarm.handle_disconnected(now, key, DisconnectReason::Closed);
        while let Some(now) = swarm.poll_timeout() {
            swarm.handle_timeout(now);
        }
        assert!(is_resting(&mut swarm, now));
    }
}
