//! A swarm, and a model that checks its outputs. Whatever happens, in whatever order: there is no
//! request while choked, none twice outside the endgame, none without memory, and all memory is
//! released.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bt_types::{AnnounceReply, TrackerPeer};
use swarm::{
    AnnounceFailure, BlockFate, Committed, ConnectFailure, ConnectedPeer, DisconnectReason, Output,
    PeerKey, PieceIndex, Refusal, Source, SpanBudget, TrackerIndex,
};
use swarm::{Bitfield, BlockRequest};
use testkit::Choices;

use super::bench::{Bench, Setup, address, peer_id, setup};

const PIECES: u32 = 12;
const BUDGET: usize = 1 << 20;
/// The configured limit of peers.
const MAX_PEERS: usize = 6;
/// The most addresses that a swarm remembers, as its documentation says.
const MAX_KNOWN: usize = 10_000;

/// Has happen to a swarm what `data` says.
///
/// # Panics
/// If an output is wrong.
pub(crate) fn fuzz(data: &[u8]) {
    let mut choices = Choices::new(data);
    let blocks = [1, 3, 20, 144][choices.below(4)];
    let mut model = Model::new(blocks, choices.byte());
    model.drain();
    while !choices.is_empty() {
        model.step(&mut choices);
        model.drain();
    }
}

/// A connected peer, according to its messages and the outputs.
#[derive(Debug, Default)]
struct Peer {
    fast: bool,
    choked: bool,
    /// The pieces it has, one bit each.
    has: u32,
    allowed: BTreeSet<PieceIndex>,
    /// Requests that it has not answered.
    asked: Vec<BlockRequest>,
    /// Requests that were cancelled. It may answer them all the same.
    cancelled: Vec<BlockRequest>,
    /// Whether we are choking it.
    am_choking: bool,
}

impl Peer {
    fn new(fast: bool) -> Self {
        Self { fast, choked: true, am_choking: true, ..Self::default() }
    }
}

struct Model {
    bench: Bench,
    next_key: u64,
    peers: BTreeMap<PeerKey, Peer>,
    /// The spans in memory.
    spans: BTreeSet<(PieceIndex, u32)>,
    committing: BTreeMap<PieceIndex, bool>,
    /// The pieces that are being fetched or committed.
    unfinished: BTreeSet<PieceIndex>,
    /// What the transfer starts with, until it starts.
    setup: Option<Setup>,
    /// Announces that are not answered.
    announcing: BTreeSet<TrackerIndex>,
    stopped: bool,
}

impl Model {
    fn new(blocks: u32, flags: u8) -> Self {
        let mut setup = setup(PIECES, blocks);
        setup.config.private = flags & 1 != 0;
        setup.config.upload_slots = usize::from(flags >> 1 & 3);
        setup.config.max_peers = MAX_PEERS;
        if flags & 8 != 0 {
            let tier = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect();
            setup.config.trackers = vec![tier(&["http://a/", "udp://b:1"]), tier(&["http://c/"])];
        }
        if flags & 16 != 0 {
            setup.have = Bitfield::full(PIECES);
        }
        if flags & 32 != 0 {
            setup.unfinished = vec![(setup.piece(2), vec![0, 2, 5])];
        }
        let resumed = setup.unfinished.iter().map(|(piece, _)| *piece);
        let unfinished = resumed.filter(|piece| !setup.have.contains(*piece)).collect();
        let mut bench = Bench::without_transfer(&setup);
        bench.budget = SpanBudget::new(BUDGET);
        let mut model = Self {
            bench,
            setup: Some(setup),
            unfinished,
            next_key: 1,
            peers: BTreeMap::new(),
            spans: BTreeSet::new(),
            committing: BTreeMap::new(),
            announcing: BTreeSet::new(),
            stopped: false,
        };
        if flags >> 6 != 3 {
            model.begin_transfer();
        }
        model
    }

    /// Starts the transfer, unless it has started. What peers said before counts.
    fn begin_transfer(&mut self) {
        let Some(setup) = self.setup.take() else { return };
        self.bench.begin_transfer(&setup).expect("the bitfields fit");
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() {
            0..=11 => self.join(choices),
            12 => self.wanted(choices.number()),
            13 => self.bench.swarm.make_room(self.bench.now),
            14 => self.bench.swarm.set_private(self.bench.now, &[]),
            15 => {
                let (number, now) = (u64::from(choices.byte() % 16), self.bench.now);
                self.bench.swarm.ban(now, address(number), peer_id(number));
            }
            16..=27 => self.pass(u64::from(choices.number() >> 15)),
            28 => self.stop(),
            29..=31 => self.begin_transfer(),
            32..=47 => self.settle(choices),
            48..=51 => self.lose(choices),
            52..=55 => self.connect(choices),
            56..=59 => self.answer_announce(choices),
            60 => self.bench.swarm.set_max_peers(self.bench.now, choices.below(MAX_PEERS + 1)),
            61 => self.bench.swarm.set_upload_slots(self.bench.now, choices.below(4)),
            op => {
                let (peer, count) = (choices.below(MAX_PEERS), self.peers.len());
                let key = self.peers.keys().nth(peer % count.max(1)).copied();
                key.into_iter().for_each(|key| self.step_of(key, op, choices));
            }
        }
    }

    /// A peer connects. Numbers repeat, so that some are known, banned or connected already.
    fn join(&mut self, choices: &mut Choices<'_>) {
        let (number, flags) = (u64::from(choices.byte() % 16), choices.byte());
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let fast = flags & 1 == 0;
        let address = address(number);
        let peer_id = peer_id(if flags & 2 == 0 { number } else { number + 1 });
        let peer = ConnectedPeer { address, outgoing: flags & 4 != 0, fast, peer_id };
        match self.bench.swarm.handle_connected(self.bench.now, key, peer) {
            Ok(()) => {
                self.peers.insert(key, Peer::new(fast));
            }
            Err(Refusal::Stopped) => assert!(self.stopped),
            Err(Refusal::TooMany { limit }) => assert!(limit <= MAX_PEERS),
            Err(_) => {}
        }
    }

    fn wanted(&mut self, bits: u32) {
        let wanted = (0..PIECES).filter(|piece| bits >> piece & 1 == 1);
        let wanted = super::bench::bits(self.bench.geometry, wanted);
        self.bench.swarm.set_wanted(self.bench.now, wanted);
    }

    /// Lets time pass, timer by timer. Each timeout is later than the one before.
    fn pass(&mut self, millis: u64) {
        let end = self.bench.now + Duration::from_millis(millis);
        while let Some(at) = self.bench.swarm.poll_timeout().filter(|at| *at <= end) {
            self.bench.now = at.max(self.bench.now);
            self.bench.swarm.handle_timeout(self.bench.now);
            self.drain();
            // An address to try again keeps the timeout due until it is taken.
            while self.bench.swarm.next_candidate(self.bench.now).is_some_and(|address| {
                let failure = ConnectFailure::Unreachable;
                self.bench.swarm.handle_connect_failed(self.bench.now, address, failure);
                true
            }) {}
            let next = self.bench.swarm.poll_timeout();
            assert!(next.is_none_or(|next| next > self.bench.now), "still due");
        }
        self.bench.now = end;
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.bench.swarm.stop(self.bench.now);
    }

    /// A commit ends.
    fn settle(&mut self, choices: &mut Choices<'_>) {
        let Some((piece, digests)) = self.committing.pop_first() else { return };
        self.unfinished.remove(&piece);
        self.release(piece, |_| true);
        let outcome = choices.byte();
        let bad = if outcome < 0xc0 { &[][..] } else { &[0] };
        let all = self.bench.digests(piece.get(), bad);
        let committed = match outcome {
            0..0xc0 => Committed::Verified { digests: digests.then_some(all) },
            0xc0..0xf0 => Committed::Mismatch { digests: all },
            _ => Committed::Failed,
        };
        self.bench.swarm.handle_committed(self.bench.now, piece, committed);
    }

    /// A failed sync loses a piece that we have.
    fn lose(&mut self, choices: &mut Choices<'_>) {
        let piece = self.bench.piece(choices.below(PIECES as usize) as u32);
        if self.bench.has_piece(piece) {
            self.bench.swarm.handle_lost(self.bench.now, piece);
            assert!(!self.bench.has_piece(piece));
        }
    }

    /// Candidates arrive, and the attempt to connect to the first one fails.
    fn connect(&mut self, choices: &mut Choices<'_>) {
        let (now, swarm) = (self.bench.now, &mut self.bench.swarm);
        let sources = [Source::Tracker, Source::User, Source::Incoming, Source::Pex];
        let source = sources[choices.below(4)];
        let named: Vec<_> = choices.bytes(3).iter().map(|n| address(u64::from(n % 20))).collect();
        swarm.handle_candidates(now, source, &named);
        let Some(candidate) = swarm.next_candidate(now) else { return };
        assert!(!self.stopped);
        let failures =
            [ConnectFailure::Unreachable, ConnectFailure::Handshake, ConnectFailure::WrongPeer];
        swarm.handle_connect_failed(now, candidate, failures[choices.below(3)]);
    }

    fn answer_announce(&mut self, choices: &mut Choices<'_>) {
        let Some(tracker) = self.announcing.pop_first() else { return };
        let interval = choices.number();
        let peers = choices.bytes(4).iter().map(|n| TrackerPeer::from(address((*n).into())));
        let reply = AnnounceReply {
            interval,
            peers: peers.collect(),
            min_interval: choices.coin().then_some(interval >> 3),
            ..AnnounceReply::default()
        };
        let failure =
            AnnounceFailure { message: "no".to_owned(), retry_in: choices.coin().then_some(7) };
        let result = if choices.coin() { Ok(&reply) } else { Err(failure) };
        self.bench.swarm.handle_announced(self.bench.now, tracker, result);
    }

    fn step_of(&mut self, key: PeerKey, op: u8, choices: &mut Choices<'_>) {
        let number = choices.byte();
        let piece = self.bench.piece(u32::from(number) % PIECES);
        let block = self.bench.block(piece.get(), 0);
        let (now, swarm) = (self.bench.now, &mut self.bench.swarm);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match op {
            62..=65 => {
                swarm.handle_disconnected(now, key, DisconnectReason::Closed);
                self.peers.remove(&key);
            }
            66 if self.setup.is_some() => self.name_unchecked(key, op, number.into()),
            66..=71 => {
                let bits = [number, choices.byte() & 0xf0 | u8::from(number == 7)];
                swarm.handle_bitfield(now, key, 0, &bits[..1], false);
                swarm.handle_bitfield(now, key, 1, &bits[1..], true);
                peer.has = u32::from(u16::from_be_bytes(bits).reverse_bits());
            }
            72..=79 => {
                swarm.handle_have_all(now, key);
                peer.has = u32::MAX;
            }
            80..=81 => {
                swarm.handle_have_none(now, key);
                peer.has = 0;
            }
            82..=86 => self.name_unchecked(key, op, number.into()),
            87..=89 => {
                swarm.handle_have(now, key, piece);
                peer.has |= 1 << piece.get();
            }
            90..=95 => {
                swarm.handle_choke(now, key);
                peer.choked = true;
                if !peer.fast {
                    peer.cancelled.append(&mut peer.asked);
                }
            }
            96..=111 => {
                swarm.handle_unchoke(now, key);
                peer.choked = false;
            }
            112..=115 if peer.fast => {
                swarm.handle_allowed_fast(now, key, piece);
                peer.allowed.insert(piece);
            }
            116..=117 => swarm.handle_suggest(now, key, piece),
            118..=119 => swarm.handle_reqq(now, key, number.into()),
            120..=121 => swarm.handle_listen_port(now, key, u16::from(number) << 4),
            122..=127 => swarm.handle_interested(now, key),
            128..=129 => swarm.handle_not_interested(now, key),
            130..=149 => {
                let serves = swarm.serves(key, piece);
                let have = swarm.pieces().is_some_and(|pieces| pieces.have().contains(piece));
                assert_eq!(serves, !peer.am_choking && have);
                if serves {
                    swarm.handle_sent(now, key, block.length());
                }
            }
            _ => self.answer(key, op, number.into()),
        }
    }

    /// A peer names pieces that nobody could check, because the geometry was unknown.
    fn name_unchecked(&mut self, key: PeerKey, op: u8, number: u32) {
        let (now, swarm) = (self.bench.now, &mut self.bench.swarm);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let (index, beyond) = (number % PIECES, PIECES + number * 9000);
        match op {
            // Unless it has the torrent's length, the peer is disconnected at the start.
            66 => {
                swarm.handle_bitfield(now, key, 0, &vec![0xff; number as usize], true);
                peer.has = u32::MAX;
            }
            82 => swarm.handle_unchecked_have(now, key, beyond),
            83 => swarm.handle_unchecked_allowed_fast(now, key, beyond),
            84 if peer.fast => {
                swarm.handle_unchecked_allowed_fast(now, key, index);
                peer.allowed.insert(self.bench.piece(index));
            }
            _ => {
                swarm.handle_unchecked_have(now, key, index);
                peer.has |= 1 << index;
            }
        }
    }

    /// A peer answers a request, cancelled or not, with a block, a part of it, or a reject.
    fn answer(&mut self, key: PeerKey, op: u8, number: usize) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let late = op >= 240;
        let list = if late { &peer.cancelled } else { &peer.asked };
        let Some(request) = list.get(number % list.len().max(1)).copied() else { return };
        let partial = (236..240).contains(&op);
        if !partial {
            // One answer is enough for a request that was cancelled and repeated.
            peer.asked.retain(|other| *other != request);
            peer.cancelled.retain(|other| *other != request);
        }
        let reject = (230..236).contains(&op);
        if reject && peer.fast {
            return self.bench.swarm.handle_reject(self.bench.now, key, request);
        }
        let layout = self.bench.layout();
        let swarm = &mut self.bench.swarm;
        if swarm.handle_part(self.bench.now, key, request, 0) == BlockFate::Keep {
            let span = layout.span_of(request.offset());
            assert!(self.spans.contains(&(request.piece(), span)), "no memory for it");
        }
        if !partial {
            swarm.handle_payload(self.bench.now, key, request.length());
            swarm.handle_block(self.bench.now, key, request);
        }
    }

    fn release(&mut self, piece: PieceIndex, which: impl Fn(u32) -> bool) {
        let before = self.spans.len();
        self.spans.retain(|(other, span)| *other != piece || !which(*span));
        let released = before - self.spans.len();
        self.bench.budget.release(released * self.bench.layout().span_length() as usize);
    }

    fn drain(&mut self) {
        loop {
            let Bench { swarm, budget, now, .. } = &mut self.bench;
            let Some(output) = swarm.poll_output(*now, budget) else { break };
            self.check(output);
        }
        let swarm = &self.bench.swarm;
        let reserved = self.spans.len() * self.bench.layout().span_length() as usize;
        assert_eq!(self.bench.budget.available() + reserved, BUDGET, "memory is lost");
        assert_eq!(swarm.peers_connected(), self.peers.len());
        assert!(swarm.peers_known() <= MAX_KNOWN);
        for (key, peer) in &self.peers {
            let outstanding = swarm.peer(*key).map(|view| view.outstanding);
            assert_eq!(outstanding, Some(peer.asked.len()));
        }
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::OpenSpans { piece, spans } => {
                assert!(!self.bench.has_piece(piece));
                self.unfinished.insert(piece);
                for span in spans {
                    assert!(self.spans.insert((piece, span)), "reserved twice");
                }
            }
            Output::StageSpan { piece, span } => {
                assert!(self.spans.contains(&(piece, span)));
                self.release(piece, |other| other == span);
            }
            Output::ClosePiece { piece } => {
                assert!(self.unfinished.remove(&piece));
                self.release(piece, |_| true);
            }
            Output::Commit { piece, digests } => {
                assert!(self.committing.insert(piece, digests).is_none());
            }
            Output::Request { peer, request } => self.check_request(peer, request),
            Output::Cancel { peer, request } => {
                let Some(peer) = self.peers.get_mut(&peer) else { panic!("unknown peer") };
                let place = peer.asked.iter().position(|other| *other == request);
                peer.asked.remove(place.expect("only what was asked for is cancelled"));
                peer.cancelled.push(request);
            }
            Output::Choke { peer } => self.choke(peer, true),
            Output::Unchoke { peer } => self.choke(peer, false),
            Output::Disconnect { peer, .. } => {
                assert!(self.peers.remove(&peer).is_some(), "unknown peer");
            }
            Output::Have { peer, piece } => {
                let had = self.bench.has_piece(piece);
                assert!(had && self.peers.contains_key(&peer));
            }
            Output::Announce { tracker, .. } => {
                self.announcing.insert(tracker);
            }
            Output::Completed => assert!(self.bench.swarm.is_complete()),
            _ => {}
        }
    }

    fn choke(&mut self, key: PeerKey, choke: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { panic!("unknown peer") };
        assert_ne!(std::mem::replace(&mut peer.am_choking, choke), choke, "sent twice");
    }

    fn check_request(&mut self, key: PeerKey, request: BlockRequest) {
        let (piece, swarm) = (request.piece(), &self.bench.swarm);
        let Some(peer) = self.peers.get(&key) else { panic!("unknown peer") };
        assert!(!self.stopped, "asked while stopped");
        assert!(!peer.choked || peer.allowed.contains(&piece), "asked while choked");
        let span = self.bench.layout().span_of(request.offset());
        assert!(self.spans.contains(&(piece, span)), "asked without memory");
        assert!(!self.committing.contains_key(&piece) && !self.bench.has_piece(piece));
        assert!(!peer.asked.contains(&request), "asked the same peer twice");
        // Two peers only if nothing else is left to start, or the other one is snubbed.
        let mut others = self.peers.iter().filter(|(other, peer)| {
            let snubbed = || swarm.peer(**other).is_some_and(|view| view.snubbed);
            **other != key && peer.asked.contains(&request) && !snubbed()
        });
        assert!(others.next().is_none() || self.endgame(), "asked twice before the endgame");
        let asked = self.peers.get_mut(&key).map(|peer| &mut peer.asked);
        asked.into_iter().for_each(|asked| asked.push(request));
    }

    /// Whether every missing piece that a peer has is unfinished.
    fn endgame(&self) -> bool {
        let had_by_any = self.peers.values().fold(0, |all, peer| all | peer.has);
        let missing = self.bench.geometry.pieces().filter(|piece| {
            self.bench.pieces().wanted().contains(*piece)
                && !self.bench.has_piece(*piece)
                && had_by_any >> piece.get() & 1 == 1
        });
        missing.count() <= self.unfinished.len()
    }
}
