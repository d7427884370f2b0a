//! Checks what a node sends on its connections.
//!
//! A frame may wait in the node's send buffer while the state of the link changes. Therefore a
//! change counts against the node only once the buffer has been empty after the change: when the
//! link's `drained` is later than it. `drained` and the time of a change are *moments*: numbers
//! that grow with every change.
//!
//! What a node may send on a link:
//!
//! | frame | allowed if | then |
//! |---|---|---|
//! | HAVE, BITFIELD, HAVE_ALL | every piece in it is on the node's disk | |
//! | REQUEST | the piece is `wanted`, the peer has it and the node does not; the block exists, and is idle or arriving; the node is not `choked`, or the piece is `allowed_fast`; no more than [`MAX_REQUESTS`] are outstanding | outstanding |
//! | CANCEL | the block is outstanding, or both ends have the Fast extension | idle, and void |
//! | PIECE | the bytes are right and the peer's request is unanswered | one of `to_answer` is answered |
//! | REJECT | the peer's request is unanswered | one of `to_answer` is answered |
//! | CHOKE | always | without the Fast extension, requests from before the buffer was last empty are dropped from `to_answer`. Later ones stay: the node may have decided to choke and then to unchoke while both messages waited in the buffer |
//! | anything else | always | |
//!
//! Each block that the node requests has a state on each link:
//!
//! | state | is in | meaning | ends with |
//! |---|---|---|---|
//! | idle | no set | not requested | REQUEST |
//! | outstanding | `outstanding` | requested and not answered | PIECE, REJECT, CANCEL; CHOKE without the Fast extension |
//! | redundant | `outstanding` and `redundant` | another link brought the block | the same. The node must send CANCEL before its buffer is empty for the second time, unless the block is arriving |
//!
//! A block is also `void` once it was cancelled, its piece failed, or two links brought it at the
//! same time. The node may discard a void block, so its arrival makes no other link's request
//! redundant. Nor does the arrival of a block [`SLOW`] or more after its request, or of a block
//! that is redundant on its own link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use session::engine::LinkKey;

use crate::frames::{self, Block, Frame, FrameBuffer};
use crate::payload::Payload;
use crate::site::Truth;

/// Requests that may be outstanding at one peer (`crates/README.md`, constants).
const MAX_REQUESTS: usize = 512;
/// A node may give up a request that is older than this.
const SLOW: Duration = Duration::from_secs(4);
const BLOCK_LENGTH: u32 = 16 * 1024;

/// A rule that a node broke.
pub(crate) type Broken = String;

/// The state of one connection; the blocks and pieces are those of the tables above.
#[derive(Debug, Default)]
struct Link {
    sent: FrameBuffer,
    received: FrameBuffer,
    /// Whether the node and its peer have the Fast extension.
    fast: (bool, bool),
    /// The moment at which the peer choked the node; `None` while the node is unchoked.
    choked: Option<u64>,
    /// The moment at which the send buffer was last empty.
    drained: u64,
    /// Pieces of the peer.
    has: BTreeSet<u32>,
    allowed_fast: BTreeSet<u32>,
    /// Each with the time of its request.
    outstanding: BTreeMap<Block, Duration>,
    void: BTreeSet<Block>,
    /// Each with the moment at which another link brought it.
    redundant: BTreeMap<Block, u64>,
    /// The peer's unanswered requests, and the moments at which each came.
    to_answer: BTreeMap<Block, VecDeque<u64>>,
}

/// What a node sent and received on all its connections.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    links: BTreeMap<LinkKey, Link>,
    moment: u64,
    now: Duration,
    /// Pieces that the node knows it has, each with the moment it learned so.
    have: BTreeMap<u32, u64>,
    /// Blocks received in full.
    pub(crate) blocks: u64,
    pub(crate) blocks_twice: u64,
    readable: bool,
    /// The frames as text, if `readable`.
    pub(crate) log: Vec<String>,
    /// Blocks of the present attempt at each piece.
    got: BTreeSet<(u32, u32)>,
    /// Pieces that the node may request.
    pub(crate) wanted: BTreeSet<u32>,
}

impl Watch {
    /// Watches a node that wants these pieces. Keeps the frames as text if `readable`.
    pub(crate) fn new(wanted: BTreeSet<u32>, readable: bool) -> Self {
        Self { wanted, readable, ..Self::default() }
    }

    /// The node learned that it has the piece.
    pub(crate) fn gain(&mut self, piece: u32) {
        self.moment += 1;
        self.have.entry(piece).or_insert(self.moment);
    }

    /// The node learned that it no longer has the piece.
    pub(crate) fn lose(&mut self, piece: u32) {
        self.have.remove(&piece);
        self.got.retain(|(of, _)| *of != piece);
    }

    /// The hash of the piece did not match: all of its blocks are downloaded again.
    pub(crate) fn forget_blocks(&mut self, piece: u32) {
        self.got.retain(|(of, _)| *of != piece);
        for link in self.links.values_mut() {
            link.void.extend(link.outstanding.keys().filter(|block| block.0 == piece));
        }
    }

    pub(crate) fn close(&mut self, link: LinkKey) {
        self.links.remove(&link);
    }

    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// The node's send buffer for the link is empty.
    pub(crate) fn drained(&mut self, link: LinkKey) -> Result<(), Broken> {
        self.moment += 1;
        let Some(link) = self.links.get_mut(&link) else { return Ok(()) };
        if link.sent.has_partial() {
            // A block waits for the rate limit or the disk, and everything after it waits too.
            return Ok(());
        }
        let before = std::mem::replace(&mut link.drained, self.moment);
        let arriving = link.received.arriving_block();
        let late = link
            .redundant
            .iter()
            .find(|(block, at)| before > **at && arriving != Some((block.0, block.1)));
        match late {
            Some((block, _)) => Err(format!("block {block:?} came from another peer, no CANCEL")),
            None => Ok(()),
        }
    }

    /// The node sent bytes on the link.
    pub(crate) fn sent(
        &mut self,
        link: LinkKey,
        bytes: &[u8],
        truth: Truth<'_>,
    ) -> Result<(), Broken> {
        let now = self.now;
        let link = self.links.entry(link).or_insert_with(Link::fresh);
        link.sent.push(bytes);
        while let Some(frame) = link.sent.next() {
            if self.readable {
                self.log.push(format!("sends {frame}"));
            }
            match frame {
                Frame::Handshake { fast } => link.fast.0 = fast,
                Frame::KeepAlive => {}
                Frame::Message(frames::REQUEST, body) => {
                    let piece = frames::numbers::<1>(&body).map_or(0, |[piece]| piece);
                    if !self.wanted.contains(&piece) {
                        return Err(format!("requested piece {piece}, which it does not want"));
                    }
                    link.send_request(now, &body, truth.payload(), &self.have)?;
                }
                Frame::Message(id, body) => link.send(id, &body, truth)?,
            }
        }
        Ok(())
    }

    /// The node received bytes on the link.
    pub(crate) fn received(&mut self, key: LinkKey, bytes: &[u8], pieces: u32) {
        self.moment += 1;
        let (now, moment) = (self.now, self.moment);
        let link = self.links.entry(key).or_insert_with(Link::fresh);
        link.received.push(bytes);
        let mut arrived = Vec::new();
        while let Some(frame) = link.received.next() {
            if self.readable {
                self.log.push(format!("receives {frame}"));
            }
            match frame {
                Frame::Handshake { fast } => link.fast.1 = fast,
                Frame::KeepAlive => {}
                Frame::Message(id, body) => {
                    arrived.extend(link.receive(now, id, &body, pieces, moment));
                }
            }
        }
        self.void_if_arriving_twice(key);
        for block in arrived {
            self.count_block(block);
            if self.void_arriving((block.0, block.1)) > 0 {
                // The node may have discarded it in favour of the one that is arriving.
                continue;
            }
            for (_, other) in self.links.iter_mut().filter(|(other, _)| **other != key) {
                if other.outstanding.contains_key(&block) {
                    other.redundant.entry(block).or_insert(moment);
                }
            }
        }
    }

    /// Makes a block void if two links bring it at the same time: the node may discard either copy.
    fn void_if_arriving_twice(&mut self, key: LinkKey) {
        let arriving = self.links.get(&key).and_then(|link| link.received.arriving_block());
        let Some(block) = arriving else { return };
        let brings = |link: &Link| link.received.arriving_block() == Some(block);
        if self.links.values().filter(|link| brings(link)).count() > 1 {
            self.void_arriving(block);
        }
    }

    /// Makes the block void on the links on which it is arriving; returns their number.
    fn void_arriving(&mut self, block: (u32, u32)) -> usize {
        let brings = |link: &&mut Link| link.received.arriving_block() == Some(block);
        let mut count = 0;
        for link in self.links.values_mut().filter(brings) {
            count += 1;
            let same = link.outstanding.keys().filter(|other| (other.0, other.1) == block);
            link.void.extend(same);
        }
        count
    }

    fn count_block(&mut self, (piece, offset, _): Block) {
        self.blocks += 1;
        if !self.got.insert((piece, offset)) {
            self.blocks_twice += 1;
        }
    }
}

impl Link {
    /// A new connection: each side chokes the other.
    fn fresh() -> Self {
        Self { choked: Some(0), ..Self::default() }
    }

    fn is_fast(&self) -> bool {
        self.fast.0 && self.fast.1
    }

    fn send(&mut self, id: u8, body: &[u8], truth: Truth<'_>) -> Result<(), Broken> {
        match id {
            frames::HAVE | frames::BITFIELD | frames::HAVE_ALL => {
                let pieces = announced(id, body, truth.payload().pieces());
                let missing = pieces.into_iter().find(|piece| !truth.shows(*piece));
                missing.map_or(Ok(()), |piece| {
                    Err(format!("announced piece {piece}, which is not on its disk"))
                })
            }
            frames::PIECE => self.send_piece(body, truth.payload()),
            frames::CANCEL => {
                let block = frames::block(body).unwrap_or_default();
                self.redundant.remove(&block);
                // The block may be arriving. If the node requests it again, the node discards the
                // copy that arrives first.
                self.void.insert(block);
                match self.outstanding.remove(&block).is_some() || self.is_fast() {
                    true => Ok(()),
                    false => Err(format!("cancelled {block:?}, which was not outstanding")),
                }
            }
            frames::REJECT => self.answer(frames::block(body).unwrap_or_default(), "rejected"),
            frames::CHOKE => {
                self.drop_requests();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The node sent CHOKE, which it decided after its buffer was last empty.
    fn drop_requests(&mut self) {
        if !self.is_fast() {
            let drained = self.drained;
            for moments in self.to_answer.values_mut() {
                moments.retain(|at| *at > drained);
            }
        }
    }

    fn send_request(
        &mut self,
        now: Duration,
        body: &[u8],
        payload: &Payload,
        have: &BTreeMap<u32, u64>,
    ) -> Result<(), Broken> {
        let Some(block) = frames::block(body) else { return Err("a short REQUEST".to_owned()) };
        let (piece, offset, length) = block;
        if payload.range(piece, offset, length).is_none() || length > BLOCK_LENGTH || length == 0 {
            return Err(format!("requested {block:?}, which does not exist"));
        }
        if let Some(at) = self.choked
            && self.drained > at
            && !self.allowed_fast.contains(&piece)
        {
            return Err(format!("requested {block:?} while choked"));
        }
        if have.get(&piece).is_some_and(|at| self.drained > *at) {
            return Err(format!("requested {block:?} of a piece that it has"));
        }
        if !self.has.contains(&piece) {
            return Err(format!("requested {block:?} of a peer that does not have it"));
        }
        // An arriving block can't be cancelled, and its piece may have been started again.
        let is_arriving = self.received.arriving_block() == Some((piece, offset));
        if self.outstanding.insert(block, now).is_some() && !is_arriving {
            return Err(format!("requested {block:?} again before it was answered"));
        }
        match self.outstanding.len() > MAX_REQUESTS {
            true => Err(format!("{} requests outstanding", self.outstanding.len())),
            false => Ok(()),
        }
    }

    fn send_piece(&mut self, body: &[u8], payload: &Payload) -> Result<(), Broken> {
        let Some([piece, offset]) = frames::numbers(body) else {
            return Err("a short PIECE".to_owned());
        };
        let bytes = &body[8..];
        let block = (piece, offset, bytes.len() as u32);
        if payload.range(piece, offset, block.2) != Some(bytes) {
            return Err(format!("served wrong bytes of {block:?}"));
        }
        self.answer(block, "served")
    }

    fn answer(&mut self, block: Block, how: &str) -> Result<(), Broken> {
        match self.to_answer.get_mut(&block).and_then(VecDeque::pop_front) {
            Some(_) => Ok(()),
            None => Err(format!("{how} {block:?}, which the peer did not request")),
        }
    }

    /// Handles a message of the peer. Returns the block in it, if the node must not discard it.
    fn receive(
        &mut self,
        now: Duration,
        id: u8,
        body: &[u8],
        pieces: u32,
        moment: u64,
    ) -> Option<Block> {
        match id {
            frames::CHOKE => {
                self.choked.get_or_insert(moment);
                if !self.is_fast() {
                    self.outstanding.clear();
                    self.redundant.clear();
                }
            }
            frames::UNCHOKE => self.choked = None,
            frames::HAVE => self.has.extend(announced(id, body, pieces)),
            frames::BITFIELD | frames::HAVE_ALL | frames::HAVE_NONE => {
                self.has = announced(id, body, pieces).into_iter().collect();
            }
            frames::ALLOWED_FAST => {
                self.allowed_fast.extend(frames::numbers::<1>(body).map(|[piece]| piece));
            }
            frames::REQUEST => {
                self.to_answer.entry(frames::block(body)?).or_default().push_back(moment);
            }
            frames::REJECT => self.end_request(frames::block(body)?),
            frames::PIECE => {
                let [piece, offset] = frames::numbers(body)?;
                let block = (piece, offset, body.len() as u32 - 8);
                let is_recent = |at: &Duration| now.saturating_sub(*at) < SLOW;
                let is_wanted = self.outstanding.get(&block).is_some_and(is_recent)
                    && !self.redundant.contains_key(&block)
                    && !self.void.contains(&block);
                self.end_request(block);
                return is_wanted.then_some(block);
            }
            _ => {}
        }
        None
    }

    fn end_request(&mut self, block: Block) {
        self.outstanding.remove(&block);
        self.redundant.remove(&block);
    }
}

/// Returns the pieces that a message announces.
fn announced(id: u8, body: &[u8], pieces: u32) -> Vec<u32> {
    match id {
        frames::HAVE => frames::numbers::<1>(body).into_iter().map(|[piece]| piece).collect(),
        frames::HAVE_ALL => (0..pieces).collect(),
        frames::BITFIELD => {
            let bit = |piece: &u32| {
                body.get(*piece as usize / 8).is_some_and(|byte| byte << (piece % 8) & 0x80 != 0)
            };
            (0..pieces).filter(bit).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_choke_voids_earlier_requests_only() {
        let (mut link, early, late) = (Link::fresh(), (0, 0, 16384), (1, 0, 16384));
        let request = |link: &mut Link, (piece, offset, length), moment| {
            let body = [piece, offset, length].map(u32::to_be_bytes).concat();
            link.receive(Duration::ZERO, frames::REQUEST, &body, 2, moment);
        };
        request(&mut link, early, 1);
        link.drained = 2;
        // CHOKE and UNCHOKE wait in the buffer when this one arrives.
        request(&mut link, late, 3);
        link.drop_requests();
        assert_eq!(link.answer(late, "served"), Ok(()));
        assert!(link.answer(late, "served").is_err(), "it was requested once");
        assert!(link.answer(early, "served").is_err());
    }
}
