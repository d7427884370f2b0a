//! Listens to what an honest node says on its connections, and knows what it may not say.
//!
//! A message may wait in a node's send buffer while things change. So it is held against a node
//! only if the buffer was empty at some time between the change and the message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use session::engine::LinkKey;

use crate::frames::{self, Block, Frames, Said};
use crate::payload::Payload;
use crate::site::Truth;

/// Requests that one peer may have outstanding, at most (DESIGN, limits).
const MAX_REQUESTS: usize = 512;
/// Nobody is given up for being slow before that.
const SOON: Duration = Duration::from_secs(4);
const BLOCK_LENGTH: u32 = 16 * 1024;

/// A rule that a node broke.
pub(crate) type Broken = String;

/// What is known of one connection.
#[derive(Debug, Default)]
struct Tap {
    said: Frames,
    heard: Frames,
    fast: (bool, bool),
    /// When the other side last choked; `None` while it does not.
    choked: Option<u64>,
    drained: u64,
    has: BTreeSet<u32>,
    allowed: BTreeSet<u32>,
    /// What was requested and not answered, and since when.
    outstanding: BTreeMap<Block, Duration>,
    /// What was requested and cancelled, or before its piece was given up: nobody need take it.
    void: BTreeSet<Block>,
    /// What was outstanding here when it came from elsewhere, and when.
    superfluous: BTreeMap<Block, u64>,
    /// What the other side requested.
    asked: BTreeMap<Block, u32>,
}

/// What a node says and hears, all connections together.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    taps: BTreeMap<LinkKey, Tap>,
    moment: u64,
    now: Duration,
    /// Pieces that the node knows it has, and since when.
    had: BTreeMap<u32, u64>,
    /// Blocks received in full.
    pub(crate) blocks: u64,
    pub(crate) blocks_twice: u64,
    readable: bool,
    /// What was said, as text, if that is kept.
    pub(crate) log: Vec<String>,
    got: BTreeSet<(u32, u32)>,
    /// Pieces that the node may ask for.
    pub(crate) wanted: BTreeSet<u32>,
}

impl Watch {
    /// Of a node that wants these pieces. Keeps what is said as text if `readable`.
    pub(crate) fn new(wanted: BTreeSet<u32>, readable: bool) -> Self {
        Self { wanted, readable, ..Self::default() }
    }

    /// The node knows that it has the piece.
    pub(crate) fn gain(&mut self, piece: u32) {
        self.moment += 1;
        self.had.entry(piece).or_insert(self.moment);
    }

    /// The node knows that it no longer has the piece.
    pub(crate) fn lose(&mut self, piece: u32) {
        self.had.remove(&piece);
        self.got.retain(|(of, _)| *of != piece);
    }

    /// The piece came, but was wrong: it must come again.
    pub(crate) fn forget_blocks(&mut self, piece: u32) {
        self.got.retain(|(of, _)| *of != piece);
        for tap in self.taps.values_mut() {
            tap.void.extend(tap.outstanding.keys().filter(|block| block.0 == piece));
        }
    }

    pub(crate) fn close(&mut self, link: LinkKey) {
        self.taps.remove(&link);
    }

    /// It is `now`.
    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// The node has nothing more to say on the link for now.
    pub(crate) fn drained(&mut self, link: LinkKey) -> Result<(), Broken> {
        self.moment += 1;
        let Some(tap) = self.taps.get_mut(&link) else { return Ok(()) };
        if tap.said.is_amid() {
            // A block waits for the rate limit or the disk, and everything after it waits too.
            return Ok(());
        }
        let before = std::mem::replace(&mut tap.drained, self.moment);
        let coming = tap.heard.block_under_way();
        let late = tap
            .superfluous
            .iter()
            .find(|(block, at)| before > **at && coming != Some((block.0, block.1)));
        match late {
            Some((block, _)) => Err(format!("block {block:?} came from elsewhere, no CANCEL")),
            None => Ok(()),
        }
    }

    /// The node sent bytes on the link.
    pub(crate) fn said(
        &mut self,
        link: LinkKey,
        bytes: &[u8],
        truth: Truth<'_>,
    ) -> Result<(), Broken> {
        let now = self.now;
        let tap = self.taps.entry(link).or_insert_with(Tap::fresh);
        tap.said.push(bytes);
        while let Some(said) = tap.said.next() {
            if self.readable {
                self.log.push(format!("says {said}"));
            }
            match said {
                Said::Handshake { fast } => tap.fast.0 = fast,
                Said::KeepAlive => {}
                Said::Message(frames::REQUEST, body) => {
                    let piece = frames::numbers::<1>(&body).map_or(0, |[piece]| piece);
                    if !self.wanted.contains(&piece) {
                        return Err(format!("requested of piece {piece}, which it does not want"));
                    }
                    tap.say_request(now, &body, truth.payload(), &self.had)?;
                }
                Said::Message(id, body) => tap.say(id, &body, truth)?,
            }
        }
        Ok(())
    }

    /// The node received bytes from the link.
    pub(crate) fn heard(&mut self, link: LinkKey, bytes: &[u8], pieces: u32) {
        self.moment += 1;
        let (now, moment) = (self.now, self.moment);
        let tap = self.taps.entry(link).or_insert_with(Tap::fresh);
        tap.heard.push(bytes);
        let mut arrived = Vec::new();
        while let Some(said) = tap.heard.next() {
            if self.readable {
                self.log.push(format!("hears {said}"));
            }
            match said {
                Said::Handshake { fast } => tap.fast.1 = fast,
                Said::KeepAlive => {}
                Said::Message(id, body) => arrived.extend(tap.hear(now, id, &body, pieces, moment)),
            }
        }
        self.note_rivals(link);
        for block in arrived {
            self.count_block(block);
            // A block that somebody else has begun to send may not have been taken.
            if self.void_where_begun((block.0, block.1)) > 0 {
                continue;
            }
            for (_, other) in self.taps.iter_mut().filter(|(key, _)| **key != link) {
                if other.outstanding.contains_key(&block) {
                    other.superfluous.entry(block).or_insert(moment);
                }
            }
        }
    }

    /// Of a block that comes from two at a time, either may not be taken.
    fn note_rivals(&mut self, link: LinkKey) {
        let coming = self.taps.get(&link).and_then(|tap| tap.heard.block_under_way());
        let Some(block) = coming else { return };
        let begun = |tap: &Tap| tap.heard.block_under_way() == Some(block);
        if self.taps.values().filter(|tap| begun(tap)).count() > 1 {
            self.void_where_begun(block);
        }
    }

    /// Nobody need take the block from those that have begun to send it; how many they are.
    fn void_where_begun(&mut self, block: (u32, u32)) -> usize {
        let begun = |tap: &&mut Tap| tap.heard.block_under_way() == Some(block);
        let mut count = 0;
        for tap in self.taps.values_mut().filter(begun) {
            count += 1;
            let same = tap.outstanding.keys().filter(|asked| (asked.0, asked.1) == block);
            tap.void.extend(same);
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

impl Tap {
    /// Before anything is said: each side chokes the other.
    fn fresh() -> Self {
        Self { choked: Some(0), ..Self::default() }
    }

    fn is_fast(&self) -> bool {
        self.fast.0 && self.fast.1
    }

    fn say(&mut self, id: u8, body: &[u8], truth: Truth<'_>) -> Result<(), Broken> {
        match id {
            frames::HAVE | frames::BITFIELD | frames::HAVE_ALL => {
                let claimed = claims(id, body, truth.payload().pieces());
                let lie = claimed.into_iter().find(|piece| !truth.shows(*piece));
                lie.map_or(Ok(()), |piece| {
                    Err(format!("announced piece {piece}, which is not on its disk"))
                })
            }
            frames::PIECE => self.say_piece(body, truth.payload()),
            frames::CANCEL => {
                let block = frames::block(body).unwrap_or_default();
                self.superfluous.remove(&block);
                // It may be on its way; if it is asked for again, the first one is not taken.
                self.void.insert(block);
                match self.outstanding.remove(&block).is_some() || self.is_fast() {
                    true => Ok(()),
                    false => Err(format!("cancelled {block:?}, which was not outstanding")),
                }
            }
            frames::REJECT => self.answer(frames::block(body).unwrap_or_default(), "rejected"),
            frames::CHOKE => {
                if !self.is_fast() {
                    self.asked.clear();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn say_request(
        &mut self,
        now: Duration,
        body: &[u8],
        payload: &Payload,
        had: &BTreeMap<u32, u64>,
    ) -> Result<(), Broken> {
        let Some(block) = frames::block(body) else { return Err("a short request".to_owned()) };
        let (piece, offset, length) = block;
        if payload.range(piece, offset, length).is_none() || length > BLOCK_LENGTH || length == 0 {
            return Err(format!("requested {block:?}, which does not exist"));
        }
        if let Some(at) = self.choked
            && self.drained > at
            && !self.allowed.contains(&piece)
        {
            return Err(format!("requested {block:?} while choked"));
        }
        if had.get(&piece).is_some_and(|at| self.drained > *at) {
            return Err(format!("requested {block:?} of a piece that it has"));
        }
        if !self.has.contains(&piece) {
            return Err(format!("requested {block:?} of a peer that does not have it"));
        }
        // What is on its way can't be cancelled; its piece may have been given up and begun anew.
        let coming = self.heard.block_under_way() == Some((piece, offset));
        if self.outstanding.insert(block, now).is_some() && !coming {
            return Err(format!("requested {block:?} again before it was answered"));
        }
        match self.outstanding.len() > MAX_REQUESTS {
            true => Err(format!("{} requests outstanding", self.outstanding.len())),
            false => Ok(()),
        }
    }

    fn say_piece(&mut self, body: &[u8], payload: &Payload) -> Result<(), Broken> {
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
        let Some(count) = self.asked.get_mut(&block) else {
            return Err(format!("{how} {block:?}, which nobody asked for"));
        };
        *count -= 1;
        if *count == 0 {
            self.asked.remove(&block);
        }
        Ok(())
    }

    /// What the other side says; answers the block that is in now, if one is.
    fn hear(
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
                    self.superfluous.clear();
                }
            }
            frames::UNCHOKE => self.choked = None,
            frames::HAVE => self.has.extend(claims(id, body, pieces)),
            frames::BITFIELD | frames::HAVE_ALL | frames::HAVE_NONE => {
                self.has = claims(id, body, pieces).into_iter().collect();
            }
            frames::ALLOWED_FAST => {
                self.allowed.extend(frames::numbers::<1>(body).map(|[piece]| piece));
            }
            frames::REQUEST => *self.asked.entry(frames::block(body)?).or_default() += 1,
            frames::REJECT => self.end_request(frames::block(body)?),
            frames::PIECE => {
                let [piece, offset] = frames::numbers(body)?;
                let block = (piece, offset, body.len() as u32 - 8);
                // One that is to be cancelled, but whose CANCEL waits, is not taken; nor need be
                // one that came so late that others were asked meanwhile.
                let recent = |at: &Duration| now.saturating_sub(*at) < SOON;
                let wanted = self.outstanding.get(&block).is_some_and(recent)
                    && !self.superfluous.contains_key(&block)
                    && !self.void.contains(&block);
                self.end_request(block);
                return wanted.then_some(block);
            }
            _ => {}
        }
        None
    }

    fn end_request(&mut self, block: Block) {
        self.outstanding.remove(&block);
        self.superfluous.remove(&block);
    }
}

/// The pieces that a message claims.
fn claims(id: u8, body: &[u8], pieces: u32) -> Vec<u32> {
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
