//! The metadata of a torrent that was added as a magnet link, while it is fetched from peers
//! (BEP 9).
//!
//! Anybody can claim a size and send bytes, so pieces are collected in several assemblies side by
//! side: one for each claimed size, to which all peers that claim it contribute. If such an
//! assembly turns out wrong, each of its peers gets an assembly of its own, so that it is known who
//! sends what. A peer whose own assembly is wrong is a liar. Once the right bytes are known, so is
//! every peer that sent other ones.
//!
//! Tracks wait in the order in which they were claimed. A claim is cheap, so an assembly has a
//! turn of a few seconds while others wait. If its pieces arrive until then, the next turn of its
//! track is twice as long.
//!
//! ```text
//!  claimed sizes, suspects --> Track --open--> Assembly --complete--> check job --> right: done
//!                                ^                 |                       '--> wrong: blame
//!                                '---- stalled ----'
//! ```

mod assembly;
mod peers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bt_types::Sha1Digest;
use peer_wire::METADATA_PIECE_LENGTH;
use piece_store::info_digests;
use swarm::PeerKey;

use crate::limits::{MAX_ASSEMBLIES, METADATA_STALL, METADATA_TICK};
use assembly::{Assembly, Track};
use peers::{Asked, Peers};

pub(super) use peers::Sender;

/// What the metadata of all torrents may take in memory.
#[derive(Debug)]
pub(super) struct MetadataMemory {
    used: usize,
    limit: usize,
}

impl MetadataMemory {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: 0, limit }
    }

    /// Whether there is no room for another piece.
    fn is_full(&self) -> bool {
        self.used + METADATA_PIECE_LENGTH as usize > self.limit
    }

    /// Reserves `bytes`. Returns whether there was room.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.used + bytes <= self.limit;
        self.used += if fits { bytes } else { 0 };
        fits
    }

    fn release(&mut self, bytes: usize) {
        self.used -= bytes;
    }
}

/// The metadata of one torrent.
#[derive(Debug)]
pub(super) struct MetadataFetch {
    peers: Peers,
    /// At most [`MAX_ASSEMBLIES`].
    assemblies: Vec<Assembly>,
    /// The sizes of which an assembly of several peers was wrong.
    suspect_sizes: BTreeSet<u32>,
    /// The tracks that were given up, and are claimed still.
    given_up: BTreeMap<Track, GivenUp>,
    /// The wrong assemblies of several peers, until it is known who sent what.
    evidence: Vec<Evidence>,
    next_attempt: u64,
    /// When the last piece arrived that was missing, or the fetch started.
    progress_at: Duration,
    next_tick: Duration,
}

/// A track whose assembly gave way.
#[derive(Debug, Clone, Copy)]
struct GivenUp {
    /// When that was.
    at: Duration,
    /// How long its next turn is.
    turn: Duration,
}

/// Who sent which piece of a wrong assembly.
#[derive(Debug)]
struct Evidence {
    senders: Vec<Sender>,
    digests: Vec<Sha1Digest>,
}

/// A complete assembly, to be compared with the info-hash.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) attempt: u64,
    pub(super) info: Vec<u8>,
}

impl MetadataFetch {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            peers: Peers::default(),
            assemblies: Vec::new(),
            suspect_sizes: BTreeSet::new(),
            given_up: BTreeMap::new(),
            evidence: Vec::new(),
            next_attempt: 0,
            progress_at: now,
            next_tick: now + METADATA_TICK,
        }
    }

    /// A peer said in an extension handshake how long the metadata is; `None` if it has none, or
    /// if it claims a length that no metadata has.
    pub(super) fn handle_size(&mut self, now: Duration, peer: Sender, size: Option<u32>) {
        let Some(size) = size else { return self.handle_disconnected(peer.key) };
        let unanswered = self.peers.handle_size(now, peer, size);
        unanswered.into_iter().for_each(|asked| self.end_request(asked));
    }

    /// A peer sent a piece.
    pub(super) fn handle_data(
        &mut self,
        now: Duration,
        key: PeerKey,
        piece: u32,
        bytes: &[u8],
        memory: &mut MetadataMemory,
    ) {
        let Some((sender, asked)) = self.peers.take_asked(key, piece) else {
            return self.peers.note_useless(key);
        };
        self.end_request(asked);
        let size = self.peers.size_of(key).filter(|size| *size == asked.size);
        let Some(claim) = size.map(|size| (key, size)) else { return };
        // The one that the piece was requested for may have given way to others and be open again.
        let assembly = self.assemblies.iter_mut().find(|it| it.track.is_of(claim));
        let Some(assembly) = assembly else { return };
        if bytes.len() != assembly.length_of(piece) {
            return self.peers.note_useless(key);
        }
        self.peers.note_answer(key);
        if !assembly.is_missing(piece) {
            return;
        }
        // Without room, the piece is requested again once there is some.
        if !memory.take(bytes.len()) {
            return;
        }
        assembly.insert(now, piece, bytes, sender);
        self.progress_at = now;
    }

    /// A peer does not send a piece.
    pub(super) fn handle_reject(&mut self, now: Duration, key: PeerKey, piece: u32) {
        if let Some((_, asked)) = self.peers.take_asked(key, piece) {
            self.end_request(asked);
            self.peers.rest(now, key);
        }
    }

    /// A peer is gone.
    pub(super) fn handle_disconnected(&mut self, key: PeerKey) {
        self.peers.remove(key).into_iter().for_each(|asked| self.end_request(asked));
    }

    /// An assembly was wrong: its pieces have these digests. Returns a peer that is known to have
    /// sent bad bytes.
    pub(super) fn handle_wrong(
        &mut self,
        attempt: u64,
        digests: Vec<Sha1Digest>,
        memory: &mut MetadataMemory,
    ) -> Option<Sender> {
        let assembly = self.remove_assembly(attempt, memory)?;
        let first = *assembly.senders.first()?;
        if assembly.senders.iter().all(|sender| *sender == first) {
            return Some(first);
        }
        self.suspect_sizes.insert(assembly.track.size);
        if self.evidence.len() < MAX_ASSEMBLIES {
            self.evidence.push(Evidence { senders: assembly.senders, digests });
        }
        None
    }

    /// An assembly was right: `info` is the metadata. Returns the peers that sent others, as far as
    /// is known still.
    pub(super) fn handle_right(
        &mut self,
        info: &[u8],
        memory: &mut MetadataMemory,
    ) -> BTreeSet<Sender> {
        let assemblies = self.assemblies.iter();
        let mut liars: BTreeSet<Sender> =
            assemblies.flat_map(|assembly| assembly.senders_of_other(info)).collect();
        self.clear(memory);
        // Few torrents have any, and hashing takes a millisecond per MiB.
        let digests = if self.evidence.is_empty() { Vec::new() } else { info_digests(info) };
        for evidence in std::mem::take(&mut self.evidence) {
            let sent = evidence.senders.into_iter().zip(evidence.digests).enumerate();
            let wrong = sent.filter(|(piece, (_, digest))| digests.get(*piece) != Some(digest));
            liars.extend(wrong.map(|(_, (sender, _))| sender));
        }
        liars
    }

    /// The time of [`Self::poll_timeout`] came.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.next_tick <= now {
            self.next_tick = now + METADATA_TICK;
            self.peers.expire(now).into_iter().for_each(|asked| self.end_request(asked));
        }
    }

    /// Discards all assemblies.
    pub(super) fn clear(&mut self, memory: &mut MetadataMemory) {
        for assembly in self.assemblies.drain(..) {
            memory.release(assembly.held());
        }
    }

    /// Returns a piece to request of a peer. Counts as asked from now on.
    pub(super) fn poll_request(
        &mut self,
        now: Duration,
        memory: &mut MetadataMemory,
    ) -> Option<(PeerKey, u32)> {
        self.open_assemblies(now, memory);
        let is_stalled = |assembly: &Assembly| assembly.is_stalled(now);
        if memory.is_full() && !self.give_up(now, memory, is_stalled) {
            return None;
        }
        for assembly in &mut self.assemblies {
            let asked = self.peers.ask(now, assembly);
            if asked.is_some() {
                return asked;
            }
        }
        None
    }

    /// Returns an assembly that is complete and was not returned yet. Its memory counts until the
    /// result is known.
    pub(super) fn poll_candidate(&mut self) -> Option<Candidate> {
        self.assemblies.iter_mut().find_map(|assembly| {
            let info = assembly.take_complete()?;
            Some(Candidate { attempt: assembly.attempt, info })
        })
    }

    /// Returns when [`Self::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Duration {
        self.next_tick
    }

    /// Returns how many pieces of how many the most complete assembly has.
    pub(super) fn progress(&self) -> (u32, u32) {
        let progress = self.assemblies.iter().map(Assembly::progress);
        progress.max_by_key(|(done, _)| *done).unwrap_or_default()
    }

    /// Whether there is nothing to be done as time passes.
    pub(super) fn is_idle(&self) -> bool {
        self.peers.len() == 0 && self.assemblies.is_empty()
    }

    /// Returns how many peers offer the metadata.
    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Returns when the last piece arrived that was missing, or the fetch started.
    pub(super) fn progress_at(&self) -> Duration {
        self.progress_at
    }

    /// Opens assemblies for the tracks that have none, as far as there is room.
    fn open_assemblies(&mut self, now: Duration, memory: &mut MetadataMemory) {
        while let Some(track) = self.next_track(|track| self.may_open(now, track)) {
            let gives_way = |assembly: &Assembly| assembly.gives_way(now);
            if !self.has_room() && !self.give_up(now, memory, gives_way) {
                return;
            }
            if !memory.take(track.empty_length()) {
                return;
            }
            self.next_attempt += 1;
            let turn = self.given_up.get(&track).map_or(METADATA_STALL, |it| it.turn);
            self.assemblies.push(Assembly::new(now, self.next_attempt, track, turn));
        }
    }

    fn has_room(&self) -> bool {
        self.assemblies.len() < MAX_ASSEMBLIES
    }

    /// Whether a track has no assembly and may get one. If it was just given up, it does not push
    /// another one out.
    fn may_open(&self, now: Duration, track: &Track) -> bool {
        let has_waited = |it: &GivenUp| now.saturating_sub(it.at) >= METADATA_STALL;
        let is_open = self.assemblies.iter().any(|assembly| assembly.track == *track);
        !is_open && (self.has_room() || self.given_up.get(track).is_none_or(has_waited))
    }

    /// Returns the track that has waited longest of those that pass `which`: since it was claimed
    /// first, or given up. Of several, the one that most peers would contribute to.
    fn next_track(&self, which: impl Fn(&Track) -> bool) -> Option<Track> {
        let mut claims: BTreeMap<Track, (Duration, Reverse<usize>)> = BTreeMap::new();
        for (key, size, at) in self.peers.claims() {
            let only = self.suspect_sizes.contains(&size).then_some(key);
            let track = Track { size, only };
            let at = self.given_up.get(&track).map_or(at, |given_up| given_up.at);
            let (since, Reverse(count)) = claims.entry(track).or_insert((at, Reverse(0)));
            (*since, *count) = (at.min(*since), *count + 1);
        }
        let waiting = claims.into_iter().filter(|(track, _)| which(track));
        waiting.min_by_key(|(_, order)| *order).map(|(track, _)| track)
    }

    /// Gives up the assembly that has waited longest for a piece, of those that pass `which`.
    /// Returns whether there was one.
    fn give_up(
        &mut self,
        now: Duration,
        memory: &mut MetadataMemory,
        which: impl Fn(&Assembly) -> bool,
    ) -> bool {
        let assemblies = self.assemblies.iter().filter(|assembly| which(assembly));
        let Some(oldest) = assemblies.min_by_key(|it| it.gained_at) else { return false };
        let (attempt, track, turn) = (oldest.attempt, oldest.track, oldest.next_turn(now));
        self.remove_assembly(attempt, memory);
        let is_claimed =
            |track: &Track| self.peers.claims().any(|(key, size, _)| track.is_of((key, size)));
        self.given_up.retain(|track, _| is_claimed(track));
        self.given_up.insert(track, GivenUp { at: now, turn });
        true
    }

    fn remove_assembly(&mut self, attempt: u64, memory: &mut MetadataMemory) -> Option<Assembly> {
        let index = self.assemblies.iter().position(|assembly| assembly.attempt == attempt)?;
        let assembly = self.assemblies.swap_remove(index);
        memory.release(assembly.held());
        Some(assembly)
    }

    /// A request was answered, rejected or given up.
    fn end_request(&mut self, asked: Asked) {
        let assembly = self.assemblies.iter_mut().find(|it| it.attempt == asked.attempt);
        if let Some(assembly) = assembly.filter(|_| asked.is_open()) {
            assembly.end_request(asked.piece);
        }
    }
}
