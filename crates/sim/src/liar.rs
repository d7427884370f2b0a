//! Liars: peers that break promises, rules or connections, each in one way ([`Trick`]).

use std::collections::{BTreeMap, VecDeque};
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
    rng: Rng,
    peer_id: [u8; 20],
    fast: bool,
    connections: BTreeMap<At, Connection>,
}

impl Liar {
    pub(crate) fn new(at: usize, trick: Trick, rng: &mut Rng) -> Self {
        let mut rng = rng.split();
        let mut peer_id = *b"-LI0000-____________";
        rng.fill(&mut peer_id[9..]);
        peer_id[8] = at as u8;
        let fast = rng.chance(50);
        Self { trick, rng, peer_id, fast, connections: BTreeMap::new() }
    }

    /// Whether a node may ban it.
    pub(crate) fn sends_wrong_data(&self) -> bool {
        matches!(self.trick, Trick::WrongBytes(1..))
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Handles a new connection.
    pub(crate) fn opened(&mut self, at: At, payload: &Payload, actions: &mut Vec<LiarAction>) {
        let connection = Connection { choking: true, ..Connection::default() };
        self.connections.insert(at, connection);
        // The accepting side waits for the other's handshake.
        if at.1 == 0 {
            self.send_handshake(at, payload, actions);
        }
    }

    pub(crate) fn closed(&mut self, at: At) {
        self.connections.remove(&at);
    }

    fn send_handshake(&mut self, at: At, payload: &Payload, actions: &mut Vec<LiarAction>) {
        let connection = self.connections.get_mut(&at);
        let Some(connection) = connection.filter(|it| !it.sent_handshake) else { return };
        connection.sent_handshake = true;
        if self.trick == Trick::Silent {
            return;
        }
        let hash = payload.metainfo.info_hash();
        actions.push(LiarAction::Send(
            at,
            frames::handshake(hash.as_bytes(), &self.peer_id, self.fast),
        ));
        let length = (payload.pieces() as usize).div_ceil(8);
        match self.trick {
            Trick::BadBitfield => {
                actions.push(LiarAction::Send(
                    at,
                    frames::message(frames::BITFIELD, &[&vec![0xff; length + 1]]),
                ));
            }
            Trick::AsksWithoutEnd | Trick::FloodsHave => {
                actions.push(LiarAction::Send(
                    at,
                    frames::message(frames::BITFIELD, &[&vec![0; length]]),
                ));
                actions.push(LiarAction::Send(at, frames::message(frames::INTERESTED, &[])));
            }
            Trick::Noise => {
                let mut noise = vec![0; 500];
                self.rng.fill(&mut noise);
                actions.push(LiarAction::Send(at, noise));
            }
            _ => actions.push(LiarAction::Send(
                at,
                frames::message(frames::BITFIELD, &[&full(payload.pieces())]),
            )),
        }
    }

    /// Handles received bytes.
    pub(crate) fn received(
        &mut self,
        at: At,
        bytes: &[u8],
        payload: &Payload,
        actions: &mut Vec<LiarAction>,
    ) {
        self.send_handshake(at, payload, actions);
        let Some(connection) = self.connections.get_mut(&at) else { return };
        connection.frames.push(bytes);
        let mut received = Vec::new();
        while let Some(frame) = connection.frames.next() {
            received.push(frame);
        }
        for frame in received {
            if let Frame::Message(id, body) = frame {
                self.handle_message(at, id, &body, payload, actions);
            }
        }
    }

    fn handle_message(
        &mut self,
        at: At,
        id: u8,
        body: &[u8],
        payload: &Payload,
        actions: &mut Vec<LiarAction>,
    ) {
        let Some(connection) = self.connections.get_mut(&at) else { return };
        match id {
            frames::INTERESTED => {
                connection.choking = false;
                actions.push(LiarAction::Send(at, frames::message(frames::UNCHOKE, &[])));
            }
            frames::REQUEST if connection.queue.len() < MAX_QUEUE => {
                connection.queue.extend(frames::block(body));
                self.answer(at, payload, actions);
            }
            _ => {}
        }
    }

    /// Answers queued requests at once, if the trick says so.
    fn answer(&mut self, at: At, payload: &Payload, actions: &mut Vec<LiarAction>) {
        match self.trick {
            Trick::WrongBytes(share) => {
                while let Some(block) = self.pop(at) {
                    let wrong = self.rng.chance(share);
                    actions.extend(serve(at, block, wrong, payload));
                }
            }
            Trick::RejectsAll => {
                while let Some((piece, offset, length)) = self.pop(at) {
                    let numbers = [piece, offset, length];
                    actions
                        .push(LiarAction::Send(at, frames::message_of(frames::REJECT, &numbers)));
                }
            }
            Trick::FlapsChoke => {
                if let Some(block) = self.pop(at) {
                    actions.extend(serve(at, block, false, payload));
                }
            }
            Trick::SendsUnasked => {
                self.pop(at);
                let piece = self.rng.below(u64::from(payload.pieces())) as u32;
                actions.extend(serve(at, (piece, 0, 1), false, payload));
            }
            Trick::BreaksOff => {
                let served = self.pop(at).and_then(|block| serve(at, block, false, payload));
                if let Some(LiarAction::Send(at, mut bytes)) = served {
                    bytes.truncate(bytes.len() / 2 + 7);
                    actions.push(LiarAction::Send(at, bytes));
                    actions.push(LiarAction::Close(at, self.rng.chance(50)));
                }
            }
            _ => {}
        }
    }

    fn pop(&mut self, at: At) -> Option<Block> {
        self.connections.get_mut(&at)?.queue.pop_front()
    }

    /// Does what the trick does without being asked.
    pub(crate) fn tick(&mut self, payload: &Payload, actions: &mut Vec<LiarAction>) {
        let connections: Vec<At> = self.connections.keys().copied().collect();
        for at in connections {
            match self.trick {
                Trick::FlapsChoke => self.flap(at, actions),
                Trick::Slow => {
                    if let Some(block) = self.pop(at) {
                        actions.extend(serve(at, block, false, payload));
                    }
                }
                Trick::AsksWithoutEnd => self.ask(at, payload, actions),
                Trick::FloodsHave => {
                    for _ in 0..50 {
                        let piece = self.rng.below(u64::from(payload.pieces())) as u32;
                        actions
                            .push(LiarAction::Send(at, frames::message_of(frames::HAVE, &[piece])));
                    }
                }
                _ => {}
            }
        }
    }

    fn flap(&mut self, at: At, actions: &mut Vec<LiarAction>) {
        let connection = self.connections.get_mut(&at);
        let Some(connection) = connection.filter(|it| it.sent_handshake) else { return };
        connection.choking = !connection.choking;
        if connection.choking {
            connection.queue.clear();
        }
        let id = if connection.choking { frames::CHOKE } else { frames::UNCHOKE };
        actions.push(LiarAction::Send(at, frames::message(id, &[])));
    }

    fn ask(&mut self, at: At, payload: &Payload, actions: &mut Vec<LiarAction>) {
        for _ in 0..20 {
            let piece = self.rng.below(u64::from(payload.pieces())) as u32;
            let Some(index) = payload.piece(piece) else { continue };
            let length = payload.metainfo.info().geometry().length_of(index).min(16 * 1024);
            actions.push(LiarAction::Send(
                at,
                frames::message_of(frames::REQUEST, &[piece, 0, length]),
            ));
        }
    }
}

/// The time between two calls of [`Liar::tick`].
pub(crate) const TICK: Duration = Duration::from_secs(2);

fn serve(
    at: At,
    (piece, offset, length): Block,
    wrong: bool,
    payload: &Payload,
) -> Option<LiarAction> {
    let mut bytes = payload.range(piece, offset, length)?.to_vec();
    if wrong {
        *bytes.last_mut()? ^= 1;
    }
    let head = [piece.to_be_bytes(), offset.to_be_bytes()].concat();
    Some(LiarAction::Send(at, frames::message(frames::PIECE, &[&head, &bytes])))
}

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
