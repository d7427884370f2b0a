//! An engine under random input from peers, store, trackers and user. It announces and serves
//! verified pieces only, sends legal messages, ends each link and job once, and every stop ends. Of
//! metadata it serves the right bytes only, and requests pieces that there may be.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bt_types::{AnnounceReply, Bitfield, Geometry, PeerHost, PeerId, PieceIndex, TrackerPeer};
use metainfo::{Builder, Magnet, Metainfo, Naming, Sha1Digest};
use peer_wire::{
    ExtensionHandshake, Handshake, METADATA_PIECE_LENGTH, Message, MetadataMessage, Reserved,
    UT_METADATA, UT_METADATA_ID, WireRequest,
};
use piece_store::{
    CommitResult, Done, Extent, InfoError, Job, Opened, Operation, StoreError, info_digests,
};
use session::engine::{
    Action, AnnounceKey, Engine, EngineConfig, Families, FetchFailure, LinkKey, Outgoing,
};
use session::{AddTorrent, EventKind, PhaseKind, TorrentKey};
use testkit::Choices;

const SPAN_MEMORY: usize = 2 << 20;
/// The most links.
const MAX_LINKS: usize = 6;
/// More actions than an engine asks for at one moment.
const MAX_ACTIONS: usize = 100_000;

/// The id under which peers accept messages of the metadata extension.
const PEERS_METADATA_ID: u8 = 3;
/// The longest metadata that an engine fetches.
const MAX_METADATA: u32 = 32 << 20;

/// A torrent of small pieces, and one whose pieces are staged span by span, and whose metadata has
/// three pieces. Their data is never used.
static TORRENTS: LazyLock<[Arc<Metainfo>; 2]> = LazyLock::new(|| {
    [("a", 32 << 10, 5 * (32 << 10) - 7), ("b", 3 << 20, (6 << 20) + 5)].map(
        |(name, piece_length, length)| {
            let builder = Builder::new(name).piece_length(piece_length).length(length);
            let builder = builder.tracker("http://a.example/announce").tracker("udp://b.example:1");
            let builder = if name == "b" { builder.source("s".repeat(40_000)) } else { builder };
            let hashes =
                vec![Sha1Digest([7; 20]); length.div_ceil(u64::from(piece_length)) as usize];
            Arc::new(builder.build(&hashes).expect("a good torrent"))
        },
    )
});

#[test]
fn the_corpus_breaks_no_promise() {
    testkit::replay("session", fuzz);
}

#[test]
fn random_bytes_break_no_promise() {
    (0..300).for_each(|seed| fuzz(&testkit::bytes(seed, 500)));
}

/// Runs an engine as `data` says.
///
/// # Panics
/// If the engine breaks a promise.
pub(crate) fn fuzz(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut machine = Machine::new(choices.byte());
    while !choices.is_empty() {
        machine.step(&mut choices);
        machine.act();
    }
    machine.end();
}

/// A connection, as the peer sees it.
#[derive(Debug, Default)]
struct Link {
    /// Whether the engine waits for it to be established.
    connecting: bool,
    torrent: usize,
    /// Bytes that the engine sent, not read yet.
    sent: Vec<u8>,
    shaken: bool,
    /// Requests of the engine without an answer.
    asked: VecDeque<WireRequest>,
    /// The last requests of the engine for metadata without an answer.
    asked_metadata: VecDeque<u32>,
    /// The longest metadata that the peer claimed.
    claimed: u32,
}

struct Machine {
    engine: Engine<()>,
    now: Duration,
    keys: [Option<TorrentKey>; 2],
    links: BTreeMap<LinkKey, Link>,
    transmit: BTreeSet<LinkKey>,
    jobs: VecDeque<Job>,
    /// The verified pieces, by the answers of the store.
    verified: BTreeMap<TorrentKey, BTreeSet<u32>>,
    committing: BTreeSet<(TorrentKey, PieceIndex)>,
    fetches: Vec<(AnnounceKey, usize)>,
    names: Vec<String>,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
}

impl Machine {
    fn new(flags: u8) -> Self {
        let config = EngineConfig {
            listen_port: 6881,
            max_down: (flags & 1 != 0).then_some(50_000),
            max_up: (flags & 2 != 0).then_some(20_000),
            span_memory: SPAN_MEMORY,
            fixed_memory: 0,
            verify_jobs: 2,
            max_connections: MAX_LINKS,
            max_peers_per_torrent: 4,
            upload_slots: 2,
            families: Families { v4: true, v6: flags & 4 != 0 },
            ..EngineConfig::new(1)
        };
        let mut machine = Self {
            engine: Engine::new(Duration::ZERO, config),
            now: Duration::ZERO,
            keys: [None; 2],
            links: BTreeMap::new(),
            transmit: BTreeSet::new(),
            jobs: VecDeque::new(),
            verified: BTreeMap::new(),
            committing: BTreeSet::new(),
            fetches: Vec::new(),
            names: Vec::new(),
            datagrams: Vec::new(),
        };
        machine.add(usize::from(flags >> 3 & 1), flags >> 4);
        machine.act();
        machine
    }

    /// Adds a torrent by its metainfo or, if bit 0 of `how` is set, by a link; it waits for a
    /// selection if bit 1 is set, too.
    fn add(&mut self, torrent: usize, how: u8) {
        let metainfo = &TORRENTS[torrent];
        let add = if how & 1 == 0 {
            AddTorrent::new(Arc::clone(metainfo), "/save")
        } else {
            let peers = ["10.0.0.1:6882", "peer0.example:1"].map(str::to_owned).into();
            let link = Magnet { peers, ..metainfo.magnet() };
            AddTorrent::from_link(Arc::new(link), "/save")
        };
        let add = AddTorrent { await_selection: how & 2 != 0, ..add };
        let added = self.engine.add(self.now, add);
        assert_eq!(added.is_ok(), self.keys[torrent].is_none(), "{added:?}");
        if let Ok(key) = added {
            self.keys[torrent] = Some(key);
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let op = choices.byte();
        match op {
            0..0x08 => self.command(op, choices),
            0x08..0x10 => self.accept(choices.byte()),
            0x10..0x18 => self.connect(choices.byte()),
            0x18..0x40 => self.do_job(choices.byte(), choices.byte()),
            0x40..0x50 => self.wait(Duration::from_millis(1 << (choices.byte() % 18))),
            0x50..0x58 => self.answer_tracker(op, choices),
            _ => {
                let (at, count) = (choices.below(MAX_LINKS), self.links.len());
                let link = self.links.keys().nth(at % count.max(1)).copied();
                link.into_iter().for_each(|link| self.step_of(link, op, choices));
            }
        }
    }

    fn command(&mut self, op: u8, choices: &mut Choices<'_>) {
        let torrent = choices.below(2);
        let Some(key) = self.keys[torrent] else { return self.add(torrent, op) };
        match op {
            0 => self.engine.stop(self.now, key),
            1 | 2 => self.engine.resume(self.now, key),
            3 => self.engine.remove(self.now, key),
            4 => {
                // Not so low that one input takes seconds.
                let rate = u64::from(choices.number() >> 8 | 0x4000);
                self.engine.set_limits(self.now, choices.coin().then_some(rate), Some(rate));
            }
            5 => self.engine.pause_dialing(self.now),
            6 => {
                let selected = choices.coin().then(|| vec![choices.coin()]);
                self.engine.select(self.now, key, selected);
            }
            _ => {
                let peers: Vec<_> = choices.bytes(3).iter().map(|n| address(*n)).collect();
                self.engine.add_peers(self.now, key, &peers);
            }
        }
    }

    fn accept(&mut self, number: u8) {
        let Some(link) = self.engine.handle_accepted(self.now, address(number)) else { return };
        assert!(self.links.len() < MAX_LINKS, "more links than there may be");
        let torrent = usize::from(number >> 7);
        let new = self.links.insert(link, Link { torrent, ..Link::default() });
        assert!(new.is_none(), "a key is given twice");
    }

    /// A connection that the engine made is established, or fails.
    fn connect(&mut self, number: u8) {
        let waiting = self.links.iter_mut().find(|(_, link)| link.connecting);
        let Some((key, link)) = waiting else { return };
        let key = *key;
        link.connecting = false;
        if number < 0xc0 {
            return self.engine.handle_connected(self.now, key);
        }
        self.engine.handle_connect_failed(self.now, key, "refused");
    }

    fn step_of(&mut self, key: LinkKey, op: u8, choices: &mut Choices<'_>) {
        let Some(link) = self.links.get_mut(&key).filter(|link| !link.connecting) else { return };
        match op {
            0x58..0x70 => {
                let reserved = if op & 1 == 0 { Reserved::OURS } else { Reserved::NONE };
                let torrent = if op == 0x6f { 1 - link.torrent } else { link.torrent };
                let info_hash = TORRENTS[torrent].info_hash();
                let peer_id = PeerId([choices.byte() % 8; 20]);
                self.receive(key, &Handshake { reserved, info_hash, peer_id }.encode());
            }
            0x70..0xb0 => {
                let mut wire = Vec::new();
                message(op % 20, choices, &mut wire);
                self.receive(key, &wire);
            }
            0xb0..0xe0 => self.answer(key, op, choices),
            0xe0..0xf0 => {
                let length = usize::from(choices.byte());
                self.receive(key, choices.bytes(length));
            }
            0xf0..0xf4 => {
                self.engine.handle_closed(self.now, key, (op & 1 == 0).then_some("reset"));
            }
            0xf4..0xf8 => {
                let mut wire = Vec::new();
                self.metadata_message(key, choices, &mut wire);
                self.receive(key, &wire);
            }
            0xf8..0xfb => self.answer_metadata(key, op, choices.byte()),
            // The socket has room for that many bytes.
            _ => self.send(key, usize::from(choices.byte()) << 8),
        }
    }

    /// Bytes come from the peer, as many as the engine would read.
    fn receive(&mut self, key: LinkKey, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.links.contains_key(&key) {
            let quota = self.engine.receive_quota(self.now, key).min(rest.len());
            if quota == 0 {
                // They come a little later.
                self.wait(Duration::from_millis(50));
            }
            let (part, later) = rest.split_at(quota);
            self.engine.handle_bytes(self.now, key, &mut part.to_vec());
            self.take_actions();
            rest = later;
        }
    }

    /// The peer answers a request with a block or a reject.
    fn answer(&mut self, key: LinkKey, op: u8, choices: &mut Choices<'_>) {
        let times = if op < 0xd0 { 1 } else { 16 };
        for _ in 0..times {
            let Some(link) = self.links.get_mut(&key) else { return };
            let Some(request) = link.asked.pop_front() else { return };
            let WireRequest { index, offset, length } = request;
            let bytes = vec![op; length as usize];
            let message = match op {
                0xcf => Message::Reject(request),
                _ => Message::Block { index, offset, bytes: &bytes },
            };
            let mut wire = Vec::new();
            message.encode(&mut wire);
            let cut = if op & 1 == 0 { 0 } else { usize::from(choices.byte()) << 7 };
            let (first, second) = wire.split_at(cut.min(wire.len()));
            self.receive(key, first);
            self.receive(key, second);
        }
    }

    /// Appends a message of the metadata extension that the peer sends, or an extension handshake
    /// that claims a length.
    fn metadata_message(&mut self, key: LinkKey, choices: &mut Choices<'_>, wire: &mut Vec<u8>) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let kind = choices.byte();
        let piece = u32::from(kind >> 4);
        match kind & 0xf {
            0..8 => {
                let right = TORRENTS[link.torrent].raw_info().len() as u32;
                let size = match kind & 7 {
                    0..4 => right,
                    4 => right + piece + 1,
                    5 => piece * 9000,
                    6 => MAX_METADATA + 1 - piece % 2,
                    _ => choices.number(),
                };
                link.claimed = link.claimed.max(size);
                let id = if kind == 0xf7 { 0 } else { PEERS_METADATA_ID };
                let messages = BTreeMap::from([(UT_METADATA.to_owned(), id)]);
                let metadata_size = Some(size);
                let hello = ExtensionHandshake { messages, metadata_size, ..Default::default() };
                Message::Extended { id: 0, payload: &hello.encode() }.encode(wire);
            }
            8..11 => encode_metadata(&MetadataMessage::Request { piece }, wire),
            11 => encode_metadata(&MetadataMessage::Reject { piece }, wire),
            _ => {
                let bytes = Cow::Owned(vec![kind; usize::from(choices.byte()) << 6 | 1]);
                let total_size = choices.coin().then_some(piece);
                encode_metadata(&MetadataMessage::Data { piece, total_size, bytes }, wire);
            }
        }
    }

    /// The peer answers requests for metadata, well or badly.
    fn answer_metadata(&mut self, key: LinkKey, op: u8, how: u8) {
        let times = if op == 0xf8 { 1 } else { 64 };
        for _ in 0..times {
            let Some(link) = self.links.get_mut(&key) else { return };
            let Some(piece) = link.asked_metadata.pop_front() else { return };
            let mut bytes = right_metadata(link.torrent, piece).to_vec();
            match how % 8 {
                0 if !bytes.is_empty() => bytes[0] ^= 1,
                1 => bytes = vec![how; METADATA_PIECE_LENGTH as usize],
                2 => bytes.truncate(how.into()),
                _ => {}
            }
            let message = if how % 8 == 3 || bytes.is_empty() {
                MetadataMessage::Reject { piece }
            } else {
                MetadataMessage::Data { piece, total_size: None, bytes: Cow::Owned(bytes) }
            };
            let mut wire = Vec::new();
            encode_metadata(&message, &mut wire);
            self.receive(key, &wire);
        }
    }

    /// Runs the actions of the engine, and sends what its links have.
    fn act(&mut self) {
        for _ in 0..MAX_ACTIONS {
            self.take_actions();
            let Some(link) = self.transmit.pop_first() else { return self.check() };
            self.send(link, usize::MAX);
        }
        panic!("it never comes to rest");
    }

    fn take_actions(&mut self) {
        for _ in 0..MAX_ACTIONS {
            let Some(action) = self.engine.poll_action() else { return };
            self.take(action);
        }
        panic!("it never comes to rest");
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Connect { link, .. } => {
                let new = Link { connecting: true, ..Link::default() };
                assert!(self.links.insert(link, new).is_none(), "a key is given twice");
                assert!(self.links.len() <= MAX_LINKS, "more links than there may be");
            }
            Action::Close { link } => {
                self.transmit.remove(&link);
                assert!(self.links.remove(&link).is_some(), "a link is closed once");
            }
            Action::Transmit { link } => {
                assert!(self.links.contains_key(&link), "the link is gone");
                self.transmit.insert(link);
            }
            Action::Store(job) => {
                if let Job::Commit { torrent, piece, .. } = &job {
                    assert!(self.committing.insert((*torrent, *piece)), "committed twice");
                }
                self.jobs.push_back(job);
            }
            Action::Fetch { key, leg, .. } => self.fetches.push((key, leg)),
            Action::Resolve { host, .. } => self.names.push(host),
            Action::Datagram { to, bytes } => self.datagrams.push((to, bytes)),
            Action::Multicast { .. } => panic!("nobody asked for local peers"),
            Action::Event(event) => {
                if let EventKind::PieceVerified(piece) = event.kind {
                    assert!(self.verified[&event.torrent].contains(&piece.get()));
                }
            }
        }
    }

    /// Takes up to `most` bytes that a link sends.
    fn send(&mut self, key: LinkKey, most: usize) {
        let mut left = most;
        while left > 0
            && let Some(link) = self.links.get_mut(&key)
        {
            let mut length = 0;
            let mut stale = false;
            for part in self.engine.poll_transmit(self.now, key) {
                let room = left - length;
                let taken = match part {
                    Outgoing::Bytes { bytes, .. } => {
                        let bytes = &bytes[..room.min(bytes.len())];
                        link.sent.extend_from_slice(bytes);
                        bytes.len()
                    }
                    Outgoing::Payload { fresh: false, .. } => {
                        stale = length == 0;
                        break;
                    }
                    Outgoing::Payload { extent, .. } => {
                        let taken = room.min(extent.length as usize);
                        link.sent.resize(link.sent.len() + taken, 0);
                        taken
                    }
                };
                length += taken;
                if length == left {
                    break;
                }
            }
            if stale {
                self.engine.refresh_upload(self.now, key);
            }
            if length == 0 {
                break;
            }
            self.engine.handle_transmitted(self.now, key, length);
            self.take_actions();
            left -= length;
        }
        self.read_sent(key);
    }

    /// Reads what the engine has sent: its handshake, then messages.
    fn read_sent(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(&key) else { return };
        if !link.shaken {
            let Some((handshake, _)) = link.sent.split_first_chunk() else { return };
            let ours = Handshake::decode(handshake).expect("our handshake");
            let torrent = TORRENTS.iter().position(|it| it.info_hash() == ours.info_hash);
            link.torrent = torrent.expect("a torrent of ours");
            link.shaken = true;
            link.sent.drain(..68);
        }
        let sent = std::mem::take(&mut link.sent);
        let mut rest = &sent[..];
        while let Some(message) = Message::decode(&mut rest).expect("we send nothing illegal") {
            self.check_sent(key, &message);
        }
        let rest = rest.to_vec();
        self.links.entry(key).or_default().sent = rest;
    }

    fn check_sent(&mut self, key: LinkKey, message: &Message<'_>) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let verified = self.keys[link.torrent].and_then(|key| self.verified.get(&key));
        let has = |piece: u32| verified.is_some_and(|verified| verified.contains(&piece));
        let geometry = TORRENTS[link.torrent].info().geometry();
        match message {
            Message::Have(piece) => {
                assert!(has(*piece), "announced {piece}, which is not verified");
            }
            Message::Bitfield(bytes) => {
                let announced =
                    Bitfield::from_bytes(bytes, geometry.piece_count()).expect("it fits");
                assert!(announced.iter().all(has), "announced an unverified piece");
            }
            Message::HaveAll => assert!((0..geometry.piece_count()).all(has)),
            Message::Block { index, .. } => assert!(has(*index), "served an unverified piece"),
            Message::Request(request) => {
                let WireRequest { index, offset, length } = *request;
                assert!(geometry.request(index, offset, length).is_some());
                link.asked.push_back(*request);
                assert!(link.asked.len() <= 2000, "asked without end");
            }
            Message::Cancel(request) => link.asked.retain(|asked| asked != request),
            Message::Extended { id: PEERS_METADATA_ID, payload } => {
                let message = MetadataMessage::decode(payload).expect("a message of BEP 9");
                check_metadata(link, &message);
            }
            _ => {}
        }
    }

    /// The store answers one of its jobs.
    fn do_job(&mut self, which: u8, outcome: u8) {
        let at = usize::from(which) % self.jobs.len().max(1);
        let Some(job) = self.jobs.remove(at) else { return };
        let done = self.done(job, outcome);
        self.engine.handle_done(self.now, done);
    }

    fn done(&mut self, job: Job, outcome: u8) -> Done<()> {
        let broken = outcome >= 0xf0;
        let result = if broken { Err(broken_disk()) } else { Ok(()) };
        match job {
            Job::CheckInfo { torrent, attempt, link, info } => {
                let result = if testkit::sha1(&info).0 != link.info_hashes.wire().0 {
                    Err(InfoError::Hash { digests: info_digests(&info) })
                } else if broken {
                    Err(InfoError::Torrent(Metainfo::parse(&b""[..]).expect_err("no torrent")))
                } else {
                    let metainfo = Metainfo::from_link(&info, &link).expect("a torrent");
                    Ok(Box::new(metainfo.expect("the right hash")))
                };
                Done::InfoChecked { torrent, attempt, result }
            }
            Job::Open { torrent, spec } => {
                let result = result.map(|()| self.opened(torrent, &spec.metainfo, outcome));
                Done::Opened { torrent, result }
            }
            Job::Verify { torrent, pieces } => {
                let good: Vec<u32> =
                    pieces.clone().filter(|it| outcome >> (it % 8) & 1 == 1).collect();
                let verified = self.verified.entry(torrent).or_default();
                verified.extend(&good);
                Done::Checked { torrent, pieces, good, error: result.err() }
            }
            Job::FinishCheck { torrent } => {
                let result = result.map(|()| self.verified_pieces(torrent));
                Done::CheckFinished { torrent, result }
            }
            Job::Commit { torrent, piece, spans, digests, .. } => {
                self.committing.remove(&(torrent, piece));
                let outcome = self.committed(torrent, piece, digests, outcome);
                Done::Committed { torrent, piece, spans, result: outcome }
            }
            Job::Stage { torrent, piece, span_index, span, .. } => {
                Done::Staged { torrent, piece, span_index, span, result }
            }
            Job::Read { torrent, piece, range } => {
                assert!(self.verified[&torrent].contains(&piece.get()), "read an unverified piece");
                let length = range.end - range.start;
                let extent = Extent { file: Arc::new(()), offset: 0, length };
                Done::Ready { torrent, piece, range, result: result.map(|()| vec![extent]) }
            }
            Job::Sync { torrent } => {
                let lost: Vec<u32> = if broken { vec![u32::from(outcome) % 4] } else { Vec::new() };
                Done::Synced { torrent, result, lost }
            }
            Job::Close { torrent, unfinished, .. } => {
                let spans = unfinished.into_iter().map(|held| held.span).collect();
                Done::Closed { torrent, result, spans }
            }
        }
    }

    fn geometry_of(&self, torrent: TorrentKey) -> Option<Geometry> {
        let status = self.engine.status_of(torrent)?;
        let metainfo = TORRENTS.iter().find(|it| it.info_hash() == status.info_hash)?;
        Some(metainfo.info().geometry())
    }

    fn verified_pieces(&self, torrent: TorrentKey) -> Bitfield {
        let geometry = self.geometry_of(torrent).expect("a known torrent");
        let mut have = Bitfield::new(geometry.piece_count());
        let verified = self.verified.get(&torrent).into_iter().flatten();
        verified.filter_map(|piece| geometry.piece(*piece)).for_each(|it| _ = have.insert(it));
        have
    }

    fn opened(&mut self, torrent: TorrentKey, metainfo: &Metainfo, outcome: u8) -> Box<Opened> {
        let geometry = metainfo.info().geometry();
        let pieces = geometry.piece_count();
        let mut have = Bitfield::new(pieces);
        for piece in geometry.pieces().filter(|piece| outcome >> piece.get() & 1 == 1) {
            have.insert(piece);
        }
        self.verified.insert(torrent, have.iter().collect());
        let to_verify = if outcome >= 0x80 { vec![0..1, 1..pieces] } else { Vec::new() };
        Box::new(Opened {
            have,
            to_verify,
            wanted: Bitfield::full(pieces),
            unfinished: Vec::new(),
            uploaded: 0,
            downloaded: 0,
            file_system: 1,
            free: None,
            naming: Naming::Unix,
        })
    }

    fn committed(
        &mut self,
        torrent: TorrentKey,
        piece: PieceIndex,
        digests: bool,
        outcome: u8,
    ) -> CommitResult {
        let blocks = self.geometry_of(torrent).map_or(0, |geometry| geometry.block_count(piece));
        let all = |with: u8| (0..blocks).map(|_| Sha1Digest([with; 20])).collect();
        match outcome {
            0..0xc0 => {
                self.verified.entry(torrent).or_default().insert(piece.get());
                CommitResult::Verified { digests: digests.then(|| all(0)) }
            }
            0xc0..0xf0 => CommitResult::Mismatch { digests: all(outcome) },
            _ => CommitResult::Failed(broken_disk()),
        }
    }

    /// Lets time pass, timer by timer.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MAX_ACTIONS {
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.take_actions();
            let next = self.engine.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "what is due is not done");
        }
        panic!("time stands still");
    }

    fn answer_tracker(&mut self, op: u8, choices: &mut Choices<'_>) {
        match op {
            0x50..0x53 => {
                let Some((key, leg)) = self.fetches.pop() else { return };
                let result = tracker_reply(choices);
                self.engine.handle_fetched(self.now, key, leg, result);
            }
            0x53 | 0x54 => {
                let Some(host) = self.names.pop() else { return };
                let ip = address(choices.byte()).ip();
                let result = if choices.coin() { Ok(vec![ip]) } else { Err("no".to_owned()) };
                self.engine.handle_resolved(self.now, &host, result);
            }
            _ => {
                let Some((from, asked)) = self.datagrams.pop() else { return };
                let action = u32::from(op == 0x57).to_be_bytes();
                let id = asked.get(12..16).unwrap_or_default();
                let bytes = [&action, id, choices.bytes(40)].concat();
                self.engine.handle_datagram(self.now, from, &bytes);
            }
        }
    }

    fn check(&mut self) {
        for torrent in 0..TORRENTS.len() {
            let there = self.keys[torrent].is_some_and(|key| self.engine.status_of(key).is_some());
            if !there {
                self.keys[torrent] = None;
            }
        }
        for status in self.engine.status() {
            assert!(status.bytes_done <= status.bytes_total);
            assert!(status.pieces_done <= status.pieces_total);
            let metadata = status.metadata.unwrap_or_default();
            assert!(metadata.pieces_done <= metadata.pieces_total);
            // A torrent that stops keeps what was known.
            let is_fetching = status.phase == PhaseKind::Metadata;
            assert!(!is_fetching || metadata.peers <= status.peers_connected);
        }
    }

    /// Stops everything: once the store and the trackers have answered, the engine is idle.
    fn end(&mut self) {
        self.engine.stop_all(self.now);
        self.act();
        for _ in 0..100 {
            while !self.jobs.is_empty() {
                self.do_job(0, 0);
                self.act();
            }
            self.wait(Duration::from_secs(1));
            self.act();
        }
        assert!(self.engine.is_idle(), "it does not stop");
        let stopped = |status: &session::TorrentStatus| status.phase == PhaseKind::Stopped;
        assert!(self.engine.status().iter().all(stopped));
        let outgoing = self.links.values().filter(|link| link.shaken).count();
        assert_eq!(outgoing, 0, "links of stopped torrents");
    }
}

/// Returns a piece of a torrent's metadata; no bytes if there is no such piece.
fn right_metadata(torrent: usize, piece: u32) -> &'static [u8] {
    let info = TORRENTS[torrent].raw_info();
    info.chunks(METADATA_PIECE_LENGTH as usize).nth(piece as usize).unwrap_or_default()
}

fn encode_metadata(message: &MetadataMessage<'_>, wire: &mut Vec<u8>) {
    let mut payload = Vec::new();
    message.encode(&mut payload);
    Message::Extended { id: UT_METADATA_ID, payload: &payload }.encode(wire);
}

/// Checks a message of the metadata extension that the engine sent.
fn check_metadata(link: &mut Link, message: &MetadataMessage<'_>) {
    match message {
        MetadataMessage::Request { piece } => {
            let most = link.claimed.min(MAX_METADATA).div_ceil(METADATA_PIECE_LENGTH);
            assert!(*piece < most, "no peer claimed so much");
            // What is not answered is requested again, without end.
            if link.asked_metadata.len() == 100 {
                link.asked_metadata.pop_front();
            }
            link.asked_metadata.push_back(*piece);
        }
        MetadataMessage::Data { piece, bytes, total_size } => {
            assert_eq!(**bytes, *right_metadata(link.torrent, *piece), "served wrong metadata");
            let length = TORRENTS[link.torrent].raw_info().len() as u32;
            assert_eq!(*total_size, Some(length));
        }
        MetadataMessage::Reject { .. } => {}
    }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number % 16], 6881 + u16::from(number & 1)))
}

fn broken_disk() -> StoreError {
    StoreError::disk(Operation::Write, Path::new("a"), &std::io::ErrorKind::StorageFull.into())
}

fn tracker_reply(choices: &mut Choices<'_>) -> Result<AnnounceReply, FetchFailure> {
    let interval = choices.number();
    let number = choices.byte();
    if number >= 0xc0 {
        let retry_in = choices.coin().then_some(interval);
        return Err(FetchFailure { message: "no".to_owned(), retry_in, refused: number & 1 == 1 });
    }
    let named = PeerHost::Name(format!("peer{}.example", number % 3));
    let peers = choices.bytes(3).iter().map(|n| TrackerPeer::from(address(*n)));
    let named = TrackerPeer { host: named, port: 1, peer_id: None };
    Ok(AnnounceReply {
        interval,
        peers: peers.chain([named]).collect(),
        ..AnnounceReply::default()
    })
}

/// A message that is often legal.
fn message(kind: u8, choices: &mut Choices<'_>, wire: &mut Vec<u8>) {
    let index = u32::from(choices.byte() % 6);
    let (block, odd) = (u32::from(choices.byte() % 3), choices.byte());
    let length = if odd == 0xff { u32::MAX } else { 0x4000 };
    let range = WireRequest { index, offset: block * 0x4000, length };
    let zeros = [0; 0x4000];
    let handshake = ExtensionHandshake {
        port: Some(u16::from(odd)),
        request_queue: Some(odd.into()),
        client: Some("x\u{1b}[2J".to_owned()),
        ..ExtensionHandshake::default()
    };
    let handshake = handshake.encode();
    let bits = [odd & 0xf8];
    let message = match kind {
        0 => Message::KeepAlive,
        1 => Message::Choke,
        2..=4 => Message::Unchoke,
        5 | 6 => Message::Interested,
        7 => Message::NotInterested,
        8 => Message::Have(index),
        9 => Message::Bitfield(&bits),
        10 | 11 => Message::HaveAll,
        12 | 13 => Message::Request(range),
        14 => Message::Cancel(range),
        15 => Message::Block { index, offset: range.offset, bytes: &zeros },
        16 => Message::Suggest(index),
        17 => Message::AllowedFast(index),
        18 => Message::Extended { id: 0, payload: &handshake },
        _ => Message::HaveNone,
    };
    message.encode(wire);
}
