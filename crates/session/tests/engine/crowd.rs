//! Scripted peers of a link on a virtual clock: they serve its metadata, well or badly.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{InfoHashV1, InfoHashes, PeerId};
use metainfo::Magnet;
use peer_wire::{
    ExtensionHandshake, HANDSHAKE_LENGTH, Handshake, METADATA_PIECE_LENGTH, Message,
    MetadataMessage, Reserved, UT_METADATA, UT_METADATA_ID,
};
use session::engine::LinkKey;
use session::{AddTorrent, EventKind, PeerState, TorrentKey};

use super::node::{Node, config};
use super::wire::wire;

/// The id under which the peers accept messages of the metadata extension.
const PEER_ID: u8 = 3;
/// How long a message is on its way.
const LATENCY: Duration = Duration::from_millis(20);
const PIECE: usize = METADATA_PIECE_LENGTH as usize;

/// Returns an `info` dictionary of `length` bytes, at least 100.
pub(crate) fn info_of(length: usize) -> Vec<u8> {
    let head = b"d6:lengthi5e4:name4:film12:piece lengthi16384e6:pieces20:";
    let head = [&head[..], &[7; 20], b"1:z"].concat();
    let room = length - head.len() - 1;
    // The digits of the padding's length are part of the length.
    let pad = (0..room).rev().find(|pad| pad.to_string().len() + 1 + pad <= room).unwrap();
    let pad = format!("{pad}:{}", "z".repeat(pad));
    assert_eq!(pad.len(), room, "choose another length");
    [&head[..], pad.as_bytes(), b"e"].concat()
}

/// How a peer serves the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Claims a length, and sends zeros where it has no bytes.
    Claims(u32),
    /// Flips a bit in a piece.
    Corrupts(u32),
    /// Flips a bit in every piece but the first ones.
    CorruptsFrom(u32),
    /// Sends another piece than the requested one.
    Swaps,
    Rejects,
    Silent,
    /// Sends the messages one byte at a time.
    Dribbles(Duration),
    /// Claims a length, and sends a piece of zeros at a time.
    Drips(u32, Duration),
    /// Sends a piece at a time.
    Paced(Duration),
    /// Claims a length, sends all pieces of zeros but the last, and then nothing.
    Withholds(u32),
    /// Sends every piece before it is requested, the last first, and nothing later.
    Unasked,
    /// Sends a byte more than there is.
    Oversized,
    /// Sends a byte less than there is.
    Short,
    /// Claims a new length in a new handshake again and again, and sends nothing.
    Resizes(Duration),
}

impl Manner {
    /// The length that the peer claims first.
    fn claimed(self, info: &[u8]) -> u32 {
        match self {
            Self::Claims(length) | Self::Drips(length, _) | Self::Withholds(length) => length,
            Self::Resizes(_) => 1,
            _ => info.len() as u32,
        }
    }
}

/// Bytes that are on their way from a peer.
struct Coming {
    from: usize,
    bytes: Vec<u8>,
    /// Whether they are wrong, in answer to a request.
    lie: bool,
}

struct Peer {
    manner: Manner,
    link: LinkKey,
    address: SocketAddr,
    info: Arc<[u8]>,
    claimed: u32,
    /// How many bytes of the node were read.
    read: usize,
    requests: Vec<u32>,
    pieces_sent: usize,
    /// Whether wrong bytes came from it, in answer to a request, before the metadata was there.
    lied: bool,
    /// When it sends the next piece, if it sends one at a time.
    busy_until: Duration,
}

/// A node with a link, and peers that connect to it.
pub(crate) struct Crowd {
    pub(crate) node: Node,
    pub(crate) key: TorrentKey,
    info: Arc<[u8]>,
    info_hash: InfoHashV1,
    peers: Vec<Peer>,
    /// Bytes that are on their way from peers.
    coming: BTreeMap<(Duration, usize), Coming>,
    sent: usize,
    folder: tempfile::TempDir,
}

impl Crowd {
    /// A node that wants the metadata `info` and waits then.
    pub(crate) fn new(info: &[u8]) -> Self {
        Self::with(Node::new(config(1)), info, |add| add)
    }

    pub(crate) fn with(
        mut node: Node,
        info: &[u8],
        change: impl FnOnce(AddTorrent) -> AddTorrent,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (link, info_hash) = link(info);
        let add = AddTorrent::from_link(Arc::new(link), folder.path());
        let key = node.add(change(AddTorrent { await_selection: true, ..add }));
        let (peers, coming, info) = (Vec::new(), BTreeMap::new(), info.into());
        Self { node, key, info, info_hash, peers, coming, sent: 0, folder }
    }

    /// Adds another link. Peers that join from now on are of it.
    pub(crate) fn add_link(&mut self, info: &[u8]) -> TorrentKey {
        let (link, info_hash) = link(info);
        let folder = self.folder.path().join(info_hash.to_string());
        let add = AddTorrent::from_link(Arc::new(link), folder);
        self.key = self.node.add(AddTorrent { await_selection: true, ..add });
        (self.info, self.info_hash) = (info.into(), info_hash);
        self.key
    }

    /// Peers connect to the node. Each has an address of its own.
    pub(crate) fn join(&mut self, manners: impl IntoIterator<Item = Manner>) {
        for manner in manners {
            let id = PeerId([self.peers.len() as u8; 20]);
            self.join_with_id(manner, id);
        }
    }

    /// A peer with this id connects to the node.
    pub(crate) fn join_with_id(&mut self, manner: Manner, peer_id: PeerId) {
        let address = format!("10.7.{}.1:7000", self.peers.len());
        let handshake = self.handshake(peer_id);
        let link = self.node.incoming(&address, &handshake).expect("room");
        self.greet(manner, link, address.parse().unwrap());
    }

    /// The node connects to a peer, which is the next that it wants to connect to.
    pub(crate) fn join_dialled(&mut self, manner: Manner) -> SocketAddr {
        let handshake = self.handshake(PeerId([self.peers.len() as u8; 20]));
        let (_, address) = *self.node.connecting.front().expect("it wants to connect");
        let link = self.node.outgoing(&handshake);
        self.greet(manner, link, address);
        address
    }

    fn handshake(&self, peer_id: PeerId) -> Vec<u8> {
        let (reserved, info_hash) = (Reserved::OURS, self.info_hash);
        Handshake { reserved, info_hash, peer_id }.encode().to_vec()
    }

    /// The peer sends its extension handshake.
    fn greet(&mut self, manner: Manner, link: LinkKey, address: SocketAddr) {
        let claimed = manner.claimed(&self.info);
        let now = self.node.now;
        let info = Arc::clone(&self.info);
        self.peers.push(Peer {
            manner,
            link,
            address,
            info,
            claimed,
            read: HANDSHAKE_LENGTH,
            requests: Vec::new(),
            pieces_sent: 0,
            lied: false,
            busy_until: now,
        });
        let number = self.peers.len() - 1;
        self.send(number, now, &wire(Message::HaveNone));
        self.claim(number, now, claimed);
        if manner == Manner::Unasked {
            for piece in (0..self.count(number)).rev() {
                let bytes = self.piece(number, piece);
                self.send(number, now, &data(piece, claimed, &bytes));
            }
        }
        if let Manner::Resizes(pace) = manner {
            for step in 1..1000 {
                self.claim(number, now + pace * step, 1 + step * 3);
            }
        }
    }

    /// A peer behaves in another way from now on.
    pub(crate) fn be(&mut self, number: usize, manner: Manner) {
        self.peers[number].manner = manner;
    }

    /// A peer claims a length in an extension handshake at a time.
    pub(crate) fn claim(&mut self, number: usize, at: Duration, length: u32) {
        self.peers[number].claimed = length;
        self.send(number, at, &hello(Some(length)));
    }

    /// A peer sends bytes at a time.
    pub(crate) fn send(&mut self, number: usize, at: Duration, bytes: &[u8]) {
        self.send_as(number, at, bytes, false);
    }

    fn send_as(&mut self, from: usize, at: Duration, bytes: &[u8], lie: bool) {
        self.sent += 1;
        let coming = Coming { from, bytes: bytes.to_vec(), lie };
        self.coming.insert((at + LATENCY, self.sent), coming);
    }

    /// Runs until `done` holds. Panics after `limit` of virtual time.
    #[track_caller]
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.node.now + limit;
        self.serve();
        while !done(self) {
            assert!(self.node.now < end, "not within {limit:?}: {:?}", self.node.engine.status());
            self.step(end);
        }
    }

    /// Runs for a time.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.node.now + time;
        self.serve();
        while self.node.now < end {
            self.step(end);
        }
    }

    fn step(&mut self, end: Duration) {
        let next = self.coming.first_key_value().map_or(end, |((at, _), _)| *at);
        let due = self.node.next_due(end).min(next);
        self.node.now = due.max(self.node.now + Duration::from_micros(1)).min(end);
        self.node.tick();
        while let Some(first) = self.coming.first_entry()
            && first.key().0 <= self.node.now
        {
            let Coming { from, bytes, lie } = first.remove();
            let link = self.peers[from].link;
            if !self.node.closed.contains(&link) {
                self.peers[from].lied |= lie && !self.has_metadata();
                self.node.receive(link, &bytes);
            }
        }
        self.serve();
    }

    /// Peers read what the node has sent, and answer.
    fn serve(&mut self) {
        for number in 0..self.peers.len() {
            for message in self.read(number) {
                match message {
                    MetadataMessage::Request { piece } => self.handle_request(number, piece),
                    MetadataMessage::Data { .. } | MetadataMessage::Reject { .. } => {}
                }
            }
        }
    }

    fn read(&mut self, number: usize) -> Vec<MetadataMessage<'static>> {
        let peer = &mut self.peers[number];
        let Some(sent) = self.node.sent.get(&peer.link) else { return Vec::new() };
        let mut rest = sent.get(peer.read..).unwrap_or_default();
        let mut messages = Vec::new();
        while let Some(message) = Message::decode(&mut rest).expect("a legal message") {
            if let Message::Extended { id: PEER_ID, payload } = message {
                let message = MetadataMessage::decode(payload).expect("a message of BEP 9");
                messages.push(message.into_owned());
            }
        }
        peer.read = sent.len() - rest.len();
        messages
    }

    fn handle_request(&mut self, number: usize, piece: u32) {
        let now = self.node.now;
        let bytes = self.piece(number, piece);
        let is_last = piece + 1 == self.count(number);
        let peer = &mut self.peers[number];
        peer.requests.push(piece);
        let message = data(piece, peer.claimed, &bytes);
        match peer.manner {
            Manner::Silent | Manner::Unasked | Manner::Resizes(_) => return,
            Manner::Withholds(_) if is_last => return,
            Manner::Dribbles(_) if peer.requests.len() > 1 => return,
            Manner::Rejects => return self.send(number, now, &reject(piece)),
            Manner::Dribbles(pace) => {
                // Nobody waits for the rest of it.
                for (byte, count) in message.iter().take(2000).zip(1..) {
                    self.send(number, now + pace * count, &[*byte]);
                }
                return;
            }
            Manner::Drips(_, pace) | Manner::Paced(pace) => {
                peer.busy_until = peer.busy_until.max(now) + pace;
            }
            _ => peer.busy_until = now,
        }
        peer.pieces_sent += 1;
        let useless = matches!(peer.manner, Manner::Oversized | Manner::Short);
        let right = peer.info.chunks(PIECE).nth(piece as usize);
        let (at, lie) = (peer.busy_until, !useless && right != Some(&bytes[..]));
        self.send_as(number, at, &message, lie);
    }

    /// How many pieces there are by what a peer claims.
    fn count(&self, number: usize) -> u32 {
        self.peers[number].claimed.div_ceil(METADATA_PIECE_LENGTH)
    }

    /// Returns a piece as a peer sends it.
    fn piece(&self, number: usize, piece: u32) -> Vec<u8> {
        let Peer { manner, info, claimed, .. } = &self.peers[number];
        let piece = match manner {
            Manner::Swaps => (piece + 1) % self.count(number).max(1),
            _ => piece,
        };
        let start = piece as usize * PIECE;
        let end = (*claimed as usize).min(start + PIECE);
        let byte = |at: usize| match manner {
            Manner::Claims(_) | Manner::Drips(..) | Manner::Withholds(_) => 0,
            _ => info.get(at).copied().unwrap_or_default(),
        };
        let mut bytes: Vec<u8> = (start..end).map(byte).collect();
        match manner {
            Manner::Corrupts(bad) if *bad == piece => bytes[0] ^= 1,
            Manner::CorruptsFrom(first) if *first <= piece => bytes[0] ^= 1,
            Manner::Oversized => bytes.push(0),
            Manner::Short => _ = bytes.pop(),
            _ => {}
        }
        bytes
    }

    /// Whether the metadata of the last link is there.
    pub(crate) fn has_metadata(&self) -> bool {
        self.node.events.iter().any(|(key, kind)| {
            *key == self.key
                && matches!(kind, EventKind::MetadataReceived(metainfo)
                    if metainfo.raw_info() == &*self.info)
        })
    }

    /// The peers that were banned, by number.
    pub(crate) fn banned(&self) -> BTreeSet<usize> {
        let addresses: BTreeSet<SocketAddr> = self
            .node
            .events
            .iter()
            .filter_map(|(_, kind)| match kind {
                EventKind::Peer { address, state: PeerState::Banned, .. } => Some(*address),
                _ => None,
            })
            .collect();
        self.which(|peer| addresses.contains(&peer.address))
    }

    /// The peers that sent wrong bytes, by number.
    pub(crate) fn liars(&self) -> BTreeSet<usize> {
        self.which(|peer| peer.lied)
    }

    /// The peers that are still connected, by number.
    pub(crate) fn connected(&self) -> BTreeSet<usize> {
        self.which(|peer| !self.node.closed.contains(&peer.link))
    }

    fn which(&self, is_one: impl Fn(&Peer) -> bool) -> BTreeSet<usize> {
        (0..self.peers.len()).filter(|number| is_one(&self.peers[*number])).collect()
    }

    /// The pieces that a peer was asked for.
    pub(crate) fn requests(&self, number: usize) -> &[u32] {
        &self.peers[number].requests
    }

    /// How many pieces a peer sent when it was asked.
    pub(crate) fn pieces_sent(&self, number: usize) -> usize {
        self.peers[number].pieces_sent
    }

    pub(crate) fn link_of(&self, number: usize) -> LinkKey {
        self.peers[number].link
    }
}

/// Returns a link, and its info-hash.
fn link(info: &[u8]) -> (Magnet, InfoHashV1) {
    let info_hash = InfoHashV1(testkit::sha1(info).0);
    (Magnet::new(InfoHashes::V1(info_hash)), info_hash)
}

/// Returns an extension handshake that claims a length.
pub(crate) fn hello(metadata_size: Option<u32>) -> Vec<u8> {
    let messages = BTreeMap::from([(UT_METADATA.to_owned(), PEER_ID)]);
    let hello =
        ExtensionHandshake { messages, metadata_size, ..ExtensionHandshake::default() }.encode();
    wire(Message::Extended { id: 0, payload: &hello })
}

/// Returns a message of a peer that has a piece.
pub(crate) fn data(piece: u32, total_size: u32, bytes: &[u8]) -> Vec<u8> {
    let total_size = Some(total_size);
    message(&MetadataMessage::Data { piece, total_size, bytes: Cow::Borrowed(bytes) })
}

fn reject(piece: u32) -> Vec<u8> {
    message(&MetadataMessage::Reject { piece })
}

/// Returns a message of a peer to us.
pub(crate) fn message(message: &MetadataMessage<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    message.encode(&mut payload);
    wire(Message::Extended { id: UT_METADATA_ID, payload: &payload })
}
