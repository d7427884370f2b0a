//! Scripted peers, each with one kind of misbehaviour.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::frames::{self, Block, Frames, Said};
use crate::network::At;
use crate::payload::Payload;
use crate::rng::Rng;
use crate::scenario::Trick;

/// The most requests that are remembered on one connection.
const MAX_QUEUE: usize = 1000;

/// An act of a liar on a connection.
#[derive(Debug)]
pub(crate) enum Act {
    Send(At, Vec<u8>),
    Close(At, bool),
}

#[derive(Debug, Default)]
struct Talk {
    frames: Frames,
    greeted: bool,
    choking: bool,
    queue: VecDeque<Block>,
}

/// A scripted peer.
#[derive(Debug)]
pub(crate) struct Liar {
    pub(crate) trick: Trick,
    rng: Rng,
    peer_id: [u8; 20],
    fast: bool,
    talks: BTreeMap<At, Talk>,
}

impl Liar {
    pub(crate) fn new(at: usize, trick: Trick, rng: &mut Rng) -> Self {
        let mut rng = rng.split();
        let mut peer_id = *b"-LI0000-____________";
        rng.fill(&mut peer_id[9..]);
        peer_id[8] = at as u8;
        let fast = rng.chance(50);
        Self { trick, rng, peer_id, fast, talks: BTreeMap::new() }
    }

    /// Whether the node may ban it: it sends wrong data.
    pub(crate) fn sends_wrong_data(&self) -> bool {
        matches!(self.trick, Trick::WrongBytes(1..))
    }

    pub(crate) fn connections(&self) -> usize {
        self.talks.len()
    }

    /// A connection is established.
    pub(crate) fn opened(&mut self, at: At, payload: &Payload, acts: &mut Vec<Act>) {
        let talk = Talk { choking: true, ..Talk::default() };
        self.talks.insert(at, talk);
        // The accepting side waits for the other's handshake.
        if at.1 == 0 {
            self.greet(at, payload, acts);
        }
    }

    pub(crate) fn closed(&mut self, at: At) {
        self.talks.remove(&at);
    }

    fn greet(&mut self, at: At, payload: &Payload, acts: &mut Vec<Act>) {
        let Some(talk) = self.talks.get_mut(&at).filter(|talk| !talk.greeted) else { return };
        talk.greeted = true;
        if self.trick == Trick::Silent {
            return;
        }
        let hash = payload.metainfo.info_hash();
        acts.push(Act::Send(at, frames::handshake(hash.as_bytes(), &self.peer_id, self.fast)));
        let length = (payload.pieces() as usize).div_ceil(8);
        match self.trick {
            Trick::BadBitfield => {
                acts.push(Act::Send(
                    at,
                    frames::message(frames::BITFIELD, &[&vec![0xff; length + 1]]),
                ));
            }
            Trick::AsksWithoutEnd | Trick::FloodsHave => {
                acts.push(Act::Send(at, frames::message(frames::BITFIELD, &[&vec![0; length]])));
                acts.push(Act::Send(at, frames::message(frames::INTERESTED, &[])));
            }
            Trick::Noise => {
                let mut noise = vec![0; 500];
                self.rng.fill(&mut noise);
                acts.push(Act::Send(at, noise));
            }
            _ => acts
                .push(Act::Send(at, frames::message(frames::BITFIELD, &[&full(payload.pieces())]))),
        }
    }

    /// Bytes arrived.
    pub(crate) fn received(
        &mut self,
        at: At,
        bytes: &[u8],
        payload: &Payload,
        acts: &mut Vec<Act>,
    ) {
        self.greet(at, payload, acts);
        let Some(talk) = self.talks.get_mut(&at) else { return };
        talk.frames.push(bytes);
        let mut said = Vec::new();
        while let Some(next) = talk.frames.next() {
            said.push(next);
        }
        for message in said {
            if let Said::Message(id, body) = message {
                self.hear(at, id, &body, payload, acts);
            }
        }
    }

    fn hear(&mut self, at: At, id: u8, body: &[u8], payload: &Payload, acts: &mut Vec<Act>) {
        let Some(talk) = self.talks.get_mut(&at) else { return };
        match id {
            frames::INTERESTED => {
                talk.choking = false;
                acts.push(Act::Send(at, frames::message(frames::UNCHOKE, &[])));
            }
            frames::REQUEST if talk.queue.len() < MAX_QUEUE => {
                talk.queue.extend(frames::block(body));
                self.answer(at, payload, acts);
            }
            _ => {}
        }
    }

    /// Answers requests at once, if its trick does.
    fn answer(&mut self, at: At, payload: &Payload, acts: &mut Vec<Act>) {
        match self.trick {
            Trick::WrongBytes(share) => {
                while let Some(block) = self.pop(at) {
                    let wrong = self.rng.chance(share);
                    acts.extend(serve(at, block, wrong, payload));
                }
            }
            Trick::RejectsAll => {
                while let Some((piece, offset, length)) = self.pop(at) {
                    let numbers = [piece, offset, length];
                    acts.push(Act::Send(at, frames::message_of(frames::REJECT, &numbers)));
                }
            }
            Trick::FlapsChoke => {
                if let Some(block) = self.pop(at) {
                    acts.extend(serve(at, block, false, payload));
                }
            }
            Trick::SendsUnasked => {
                self.pop(at);
                let piece = self.rng.below(u64::from(payload.pieces())) as u32;
                acts.extend(serve(at, (piece, 0, 1), false, payload));
            }
            Trick::BreaksOff => {
                let served = self.pop(at).and_then(|block| serve(at, block, false, payload));
                if let Some(Act::Send(at, mut bytes)) = served {
                    bytes.truncate(bytes.len() / 2 + 7);
                    acts.push(Act::Send(at, bytes));
                    acts.push(Act::Close(at, self.rng.chance(50)));
                }
            }
            _ => {}
        }
    }

    fn pop(&mut self, at: At) -> Option<Block> {
        self.talks.get_mut(&at)?.queue.pop_front()
    }

    /// Some time has passed.
    pub(crate) fn tick(&mut self, payload: &Payload, acts: &mut Vec<Act>) {
        let talks: Vec<At> = self.talks.keys().copied().collect();
        for at in talks {
            match self.trick {
                Trick::FlapsChoke => self.flap(at, acts),
                Trick::Slow => {
                    if let Some(block) = self.pop(at) {
                        acts.extend(serve(at, block, false, payload));
                    }
                }
                Trick::AsksWithoutEnd => self.ask(at, payload, acts),
                Trick::FloodsHave => {
                    for _ in 0..50 {
                        let piece = self.rng.below(u64::from(payload.pieces())) as u32;
                        acts.push(Act::Send(at, frames::message_of(frames::HAVE, &[piece])));
                    }
                }
                _ => {}
            }
        }
    }

    fn flap(&mut self, at: At, acts: &mut Vec<Act>) {
        let Some(talk) = self.talks.get_mut(&at).filter(|talk| talk.greeted) else { return };
        talk.choking = !talk.choking;
        if talk.choking {
            talk.queue.clear();
        }
        let id = if talk.choking { frames::CHOKE } else { frames::UNCHOKE };
        acts.push(Act::Send(at, frames::message(id, &[])));
    }

    fn ask(&mut self, at: At, payload: &Payload, acts: &mut Vec<Act>) {
        for _ in 0..20 {
            let piece = self.rng.below(u64::from(payload.pieces())) as u32;
            let Some(index) = payload.piece(piece) else { continue };
            let length = payload.metainfo.info().geometry().length_of(index).min(16 * 1024);
            acts.push(Act::Send(at, frames::message_of(frames::REQUEST, &[piece, 0, length])));
        }
    }
}

/// How often liars act on their own.
pub(crate) const TICK: Duration = Duration::from_secs(2);

fn serve(at: At, (piece, offset, length): Block, wrong: bool, payload: &Payload) -> Option<Act> {
    let mut bytes = payload.range(piece, offset, length)?.to_vec();
    if wrong {
        *bytes.last_mut()? ^= 1;
    }
    let head = [piece.to_be_bytes(), offset.to_be_bytes()].concat();
    Some(Act::Send(at, frames::message(frames::PIECE, &[&head, &bytes])))
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
