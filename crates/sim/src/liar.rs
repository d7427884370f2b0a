//! Liars: peers that break promises, rules or connections, each in one way ([`Trick`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::frames::{self, Block, Frame, FrameBuffer};
use crate::network::At;
use crate::payload::Payload;
use crate::rng::Rng;
use crate::scenario::Trick;

/// Requests that a liar keeps for one connection.
const MAX_QUEUE: usize = 1000;

/// What a liar does to a connection.
#[derive(Debug)]
pub(crate) enum LiarAction {
    Send(At, Vec<u8>),
    Close(At, bool),
}

#[derive(Debug, Default)]
struct Connection {
    frames: FrameBuffer,
    sent_handshake: bool,
    choking: bool,
    queue: VecDeque<Block>,
}

/// A peer that is not honest.
#[derive(Debug)]
pub(crate) struct Liar {
    pub(crate) trick: Trick,
    payload: Arc<Payload>,
    rng: Rng,
    peer_id: [u8; 20],
    fast: bool,
    connections: BTreeMap<At, Connection>,
    /// What it is about to do.
    actions: Vec<LiarAction>,
}

impl Liar {
    pub(crate) fn new(at: usize, trick: Trick, payload: &Arc<Payload>, rng: &mut Rng) -> Self {
        let mut rng = rng.split();
        let mut peer_id = *b"-LI0000-____________";
        rng.fill(&mut peer_id[9..]);
        peer_id[8] = at as u8;
        let fast = rng.chance(50);
        let (connections, actions) = (BTreeMap::new(), Vec::new());
        Self { trick, payload: Arc::clone(payload), rng, peer_id, fast, connections, actions }
    }

    /// Whether it sends wrong blocks.
    pub(crate) fn sends_wrong_data(&self) -> bool {
        matches!(self.trick, Trick::WrongBytes(1..))
    }

    /// Whether a node may ban it.
    pub(crate) fn may_be_banned(&self) -> bool {
        self.sends_wrong_data() || matches!(self.trick, Trick::WrongMetadata | Trick::OtherMetadata)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Handles a new connection.
    pub(crate) fn opened(&mut self, at: At) -> Vec<LiarAction> {
        let connection = Connection { choking: true, ..Connection::default() };
        self.connections.insert(at, connection);
        // The accepting side waits for the other's handshake.
        if at.1 == 0 {
            self.send_handshake(at);
        }
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn closed(&mut self, at: At) {
        self.connections.remove(&at);
    }

    fn send(&mut self, at: At, bytes: Vec<u8>) {
        self.actions.push(LiarAction::Send(at, bytes));
    }

    fn send_handshake(&mut self, at: At) {
        let connection = self.connections.get_mut(&at);
        let Some(connection) = connection.filter(|it| !it.sent_handshake) else { return };
        connection.sent_handshake = true;
        if self.trick == Trick::Silent {
            return;
        }
        let hash = self.payload.metainfo.info_hash();
        let mut handshake = frames::handshake(hash.as_bytes(), &self.peer_id, self.fast);
        let metadata = self.metadata();
        if metadata.is_some() {
            frames::set_extended(&mut handshake);
        }
        self.send(at, handshake);
        let length = (self.payload.pieces() as usize).div_ceil(8);
        let bitfield = match self.trick {
            Trick::Noise => {
                let mut noise = vec![0; 500];
                self.rng.fill(&mut noise);
                return self.send(at, noise);
            }
            Trick::BadBitfield => vec![0xff; length + 1],
            Trick::AsksWithoutEnd | Trick::FloodsHave => vec![0; length],
            _ => full(self.payload.pieces()),
        };
        self.send(at, frames::message(frames::BITFIELD, &[&bitfield]));
        if let Some(metadata) = metadata {
            let hello = format!("d1:md11:ut_metadatai9ee13:metadata_sizei{}ee", metadata.len());
            self.send(at, frames::message(frames::EXTENDED, &[&[0], hello.as_bytes()]));
        }
        if matches!(self.trick, Trick::AsksWithoutEnd | Trick::FloodsHave) {
            self.send(at, frames::message(frames::INTERESTED, &[]));
        }
    }

    /// Handles received bytes.
    pub(crate) fn received(&mut self, at: At, bytes: &[u8]) -> Vec<LiarAction> {
        self.send_handshake(at);
        let mut received = Vec::new();
        if let Some(connection) = self.connections.get_mut(&at) {
            connection.frames.push(bytes);
            received.extend(std::iter::from_fn(|| connection.frames.next()));
        }
        for frame in received {
            if let Frame::Message(id, body) = frame {
                self.handle_message(at, id, &body);
            }
        }
        std::mem::take(&mut self.actions)
    }

    fn handle_message(&mut self, at: At, id: u8, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(&at) else { return };
        match id {
            frames::INTERESTED => {
                connection.choking = false;
                self.send(at, frames::message(frames::UNCHOKE, &[]));
            }
            frames::EXTENDED => self.send_metadata(at, body),
            frames::REQUEST if connection.queue.len() < MAX_QUEUE => {
                connection.queue.extend(frames::block(body));
                self.answer(at);
            }
            _ => {}
        }
    }

    /// Returns the metadata that it offers, if it does: with one wrong byte, or too long.
    fn metadata(&self) -> Option<Vec<u8>> {
        let mut info = self.payload.metainfo.raw_info().to_vec();
        match self.trick {
            Trick::WrongMetadata => info[0] ^= 1,
            Trick::OtherMetadata => info.push(b'e'),
            _ => return None,
        }
        Some(info)
    }

    /// Answers a request for a piece of the metadata: `d8:msg_typei0e5:piecei0ee` (BEP 9). The node
    /// sends it under our id.
    fn send_metadata(&mut self, at: At, body: &[u8]) {
        let Some(metadata) = self.metadata().filter(|_| body.first() == Some(&9)) else { return };
        let text = String::from_utf8_lossy(&body[1..]).into_owned();
        let piece = text.split("5:piecei").nth(1).and_then(|rest| rest.split('e').next());
        let Some(piece) = piece.and_then(|piece| piece.parse::<usize>().ok()) else { return };
        let Some(bytes) = metadata.chunks(16 * 1024).nth(piece) else { return };
        let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{}ee", metadata.len());
        // The id of the extension in nodes.
        self.send(at, frames::message(frames::EXTENDED, &[&[2], head.as_bytes(), bytes]));
    }

    /// Answers queued requests at once, if the trick says so.
    fn answer(&mut self, at: At) {
        match self.trick {
            Trick::WrongBytes(share) => {
                while let Some(block) = self.pop(at) {
                    let wrong = self.rng.chance(share);
                    self.serve(at, block, wrong);
                }
            }
            Trick::RejectsAll => {
                while let Some((piece, offset, length)) = self.pop(at) {
                    self.send(at, frames::message_of(frames::REJECT, &[piece, offset, length]));
                }
            }
            Trick::FlapsChoke => self.serve_next(at),
            Trick::SendsUnasked => {
                self.pop(at);
                let piece = self.any_piece();
                self.serve(at, (piece, 0, 1), false);
            }
            Trick::BreaksOff => {
                let served = self.actions.len();
                self.serve_next(at);
                if let Some(LiarAction::Send(_, bytes)) = self.actions.get_mut(served) {
                    bytes.truncate(bytes.len() / 2 + 7);
                    self.actions.push(LiarAction::Close(at, self.rng.chance(50)));
                }
            }
            _ => {}
        }
    }

    fn pop(&mut self, at: At) -> Option<Block> {
        self.connections.get_mut(&at)?.queue.pop_front()
    }

    fn any_piece(&mut self) -> u32 {
        self.rng.below(u64::from(self.payload.pieces())) as u32
    }

    /// Does what the trick does without being asked.
    pub(crate) fn tick(&mut self) -> Vec<LiarAction> {
        let connections: Vec<At> = self.connections.keys().copied().collect();
        for at in connections {
            match self.trick {
                Trick::FlapsChoke => self.flap(at),
                Trick::Slow => self.serve_next(at),
                Trick::AsksWithoutEnd => self.ask(at),
                Trick::FloodsHave => {
                    for _ in 0..50 {
                        let piece = self.any_piece();
                        self.send(at, frames::message_of(frames::HAVE, &[piece]));
                    }
                }
                _ => {}
            }
        }
        std::mem::take(&mut self.actions)
    }

    fn flap(&mut self, at: At) {
        let connection = self.connections.get_mut(&at);
        let Some(connection) = connection.filter(|it| it.sent_handshake) else { return };
        connection.choking = !connection.choking;
        if connection.choking {
            connection.queue.clear();
        }
        let id = if connection.choking { frames::CHOKE } else { frames::UNCHOKE };
        self.send(at, frames::message(id, &[]));
    }

    fn ask(&mut self, at: At) {
        for _ in 0..20 {
            let piece = self.any_piece();
            let Some(index) = self.payload.piece(piece) else { continue };
            let geometry = self.payload.metainfo.info().geometry();
            let length = geometry.length_of(index).min(16 * 1024);
            self.send(at, frames::message_of(frames::REQUEST, &[piece, 0, length]));
        }
    }

    /// Answers the oldest queued request.
    fn serve_next(&mut self, at: At) {
        if let Some(block) = self.pop(at) {
            self.serve(at, block, false);
        }
    }

    fn serve(&mut self, at: At, (piece, offset, length): Block, wrong: bool) {
        let Some(bytes) = self.payload.range(piece, offset, length) else { return };
        let mut bytes = bytes.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= u8::from(wrong);
        }
        let head = [piece.to_be_bytes(), offset.to_be_bytes()].concat();
        self.send(at, frames::message(frames::PIECE, &[&head, &bytes]));
    }
}

/// The time between two calls of [`Liar::tick`].
pub(crate) const TICK: Duration = Duration::from_secs(2);

/// A bitfield that claims everything.
fn full(pieces: u32) -> Vec<u8> {
    let mut bytes = vec![0xff; (pieces as usize).div_ceil(8)];
    if let Some(last) = bytes.last_mut()
        && !pieces.is_multiple_of(8)
    {
        *last = 0xff << (8 - pieces % 8);
    }
    bytes
}
