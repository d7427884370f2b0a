//! One connected peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{BLOCK_LENGTH, Bitfield, BlockRequest, PieceIndex};

use crate::blame::Sender;
use crate::rate::Rate;
use crate::vocabulary::{ConnectedPeer, PeerKey, PeerView};
use crate::window::{SLACK, Window};

/// The most allowed-fast and suggested pieces kept for a peer (BEP 6 proposes 10).
const MAX_HINTS: usize = 32;

/// A peer that owes blocks and sends none for this long is snubbed.
const SNUB_AFTER: Duration = Duration::from_secs(60);
/// The same while another peer could send something, but all of it is left to those who owe it.
const SNUB_SOON: Duration = Duration::from_secs(5);
/// That becomes twice as long, up to this, each time that a snubbed peer sends a block after all:
/// it is slow, not silent. If slow peers took a block from each other again and again, none would
/// ever end.
const MAX_PATIENCE: Duration = Duration::from_secs(120);

/// The pieces a peer has.
#[derive(Debug, Clone, Default)]
pub(crate) enum Has {
    /// None that it told of.
    #[default]
    Nothing,
    /// These.
    Some(Bitfield),
    /// Every one. Such peers are counted as a whole, not piece by piece.
    All,
}

impl Has {
    pub(crate) fn contains(&self, piece: PieceIndex) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(bits) => bits.contains(piece),
            Self::All => true,
        }
    }

    /// How many pieces of a torrent of `pieces`.
    pub(crate) fn count(&self, pieces: u32) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Some(bits) => bits.count(),
            Self::All => pieces,
        }
    }

    /// Puts `piece` in; says whether it was new.
    pub(crate) fn insert(&mut self, piece: PieceIndex, pieces: u32) -> bool {
        match self {
            Self::All => false,
            Self::Some(bits) => bits.insert(piece),
            Self::Nothing => {
                let mut bits = Bitfield::new(pieces);
                bits.insert(piece);
                *self = Self::Some(bits);
                true
            }
        }
    }

    /// The numbers of the pieces, ascending from about `from` on and around; nothing for a peer
    /// that has all or none, whose pieces need no list.
    pub(crate) fn numbers_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let bits = match self {
            Self::Some(bits) => Some(bits),
            Self::Nothing | Self::All => None,
        };
        bits.into_iter().flat_map(move |bits| bits.iter_from(from))
    }
}

/// A request that the peer has not answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) request: BlockRequest,
    pub(crate) at: Duration,
    /// Whether others may be asked for the block as if nobody were: the peer is snubbed.
    pub(crate) weak: bool,
    /// Whether a later request was answered before it.
    pub(crate) passed_over: bool,
}

/// What keeps a peer from being asked for blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It stands in the list of peers to be asked.
    Queued,
    /// Nothing: it has as many requests as it should.
    Busy,
    /// There is nothing to ask it for.
    Idle,
    /// There is no memory for what it could send.
    Starved,
}

/// One connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) is: ConnectedPeer,
    /// The address under which the roster knows it.
    pub(crate) listens: Option<SocketAddr>,
    pub(crate) connected_at: Duration,
    /// When it last sent a block that was kept, or connected.
    pub(crate) gave_at: Duration,

    pub(crate) has: Has,
    /// How many blocks of verified pieces it sent.
    pub(crate) proven: u32,
    /// The bitfield so far, while it comes in parts.
    pub(crate) bitfield: Vec<u8>,
    /// How many of its pieces are wanted and not had.
    pub(crate) useful: u32,
    /// How many of those are not open.
    pub(crate) fresh: u32,

    pub(crate) am_choking: bool,
    pub(crate) am_interested: bool,
    pub(crate) peer_choking: bool,
    pub(crate) peer_interested: bool,
    pub(crate) unchoked_at: Option<Duration>,

    pub(crate) asked: VecDeque<Asked>,
    pub(crate) window: Window,
    pub(crate) turn: Turn,
    /// When its last block came, or it was first asked since then.
    pub(crate) last_block: Duration,
    pub(crate) snubbed: bool,
    /// For how long it may owe blocks and send none while others wait.
    patience: Duration,
    /// Rejects since its last block.
    pub(crate) rejects: u32,
    /// Nothing is asked before, since it rejects everything.
    pub(crate) hold_until: Option<Duration>,
    /// The piece it works on, and the rate it was counted there with.
    pub(crate) current: Option<(PieceIndex, u64)>,
    pub(crate) allowed_fast: Vec<PieceIndex>,
    pub(crate) suggested: Vec<PieceIndex>,

    pub(crate) down: Rate,
    pub(crate) up: Rate,
}

/// How long a block takes at `rate`, in bytes per second.
fn block_time(rate: u64) -> Duration {
    Duration::from_micros(u64::from(BLOCK_LENGTH) * 1_000_000 / rate.max(1))
}

impl Peer {
    pub(crate) fn new(now: Duration, is: ConnectedPeer) -> Self {
        Self {
            is,
            listens: is.outgoing.then_some(is.address),
            connected_at: now,
            gave_at: now,
            has: Has::Nothing,
            proven: 0,
            bitfield: Vec::new(),
            useful: 0,
            fresh: 0,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            unchoked_at: None,
            asked: VecDeque::new(),
            window: Window::default(),
            turn: Turn::Busy,
            last_block: now,
            snubbed: false,
            patience: SNUB_SOON,
            rejects: 0,
            hold_until: None,
            current: None,
            allowed_fast: Vec::new(),
            suggested: Vec::new(),
            down: Rate::default(),
            up: Rate::default(),
        }
    }

    pub(crate) fn sender(&self, key: PeerKey) -> Sender {
        Sender { key, address: self.is.address, peer_id: self.is.peer_id }
    }

    /// How many requests it may have outstanding now, where memory permits what it sends in `time`:
    /// one while it is snubbed.
    pub(crate) fn depth(&self, time: Duration) -> usize {
        if self.snubbed { 1 } else { self.window.depth(time) as usize }
    }

    /// When a request made now would be answered. A peer of which nothing is known is expected to
    /// answer soon.
    pub(crate) fn next_answer(&self, now: Duration) -> Duration {
        let rate = self.down.per_second(now);
        let block = if rate == 0 { SLACK } else { block_time(rate) };
        self.answer(now, now, self.asked.len(), block)
    }

    /// When each outstanding request is expected to be answered, the last one first. A peer that
    /// has sent nothing is not expected to, and a silence to last as long again.
    pub(crate) fn answers(
        &self,
        now: Duration,
    ) -> impl Iterator<Item = (Duration, BlockRequest)> + '_ {
        let block = block_time(self.down.per_second(now));
        let answer = move |(place, asked): (usize, &Asked)| {
            (self.answer(now, asked.at, place, block), asked.request)
        };
        self.asked.iter().enumerate().rev().map(answer)
    }

    /// When the request at `place` is answered, which was made at `asked`.
    fn answer(&self, now: Duration, asked: Duration, place: usize, block: Duration) -> Duration {
        let silence = if self.asked.is_empty() {
            Duration::ZERO
        } else {
            now.saturating_sub(self.last_block)
        };
        let transfer = block.saturating_mul(place as u32 + 1);
        (asked + self.window.latency()).max(now.saturating_add(transfer.max(silence)))
    }

    /// Whether it owes blocks and has sent none for too long. `others_wait` says that some other
    /// peer could send something and is asked for nothing.
    pub(crate) fn is_silent(&self, now: Duration, others_wait: bool) -> bool {
        let least = if others_wait { Duration::ZERO } else { SNUB_AFTER };
        let silence = now.saturating_sub(self.last_block);
        !self.asked.is_empty() && silence >= self.patience.max(least)
    }

    /// It sent a block: it is snubbed no longer. Says whether it was.
    pub(crate) fn wake(&mut self, now: Duration) -> bool {
        let woke = std::mem::replace(&mut self.snubbed, false);
        if woke {
            self.window.restart(now);
            self.patience = (2 * self.patience).min(MAX_PATIENCE);
        }
        woke
    }

    /// Whether it may be asked for `piece`, whoever else is.
    pub(crate) fn may_send(&self, piece: PieceIndex) -> bool {
        let allowed = !self.peer_choking || self.allowed_fast.contains(&piece);
        allowed && self.has.contains(piece)
    }

    /// Whether it may be asked for anything.
    pub(crate) fn may_send_something(&self) -> bool {
        let allowed = !self.peer_choking || !self.allowed_fast.is_empty();
        allowed && self.useful > 0 && self.hold_until.is_none()
    }

    /// Keeps a hint about a piece, a bounded number of them.
    pub(crate) fn hint(list: &mut Vec<PieceIndex>, piece: PieceIndex) {
        if list.len() < MAX_HINTS && !list.contains(&piece) {
            list.push(piece);
        }
    }

    /// Takes the request out, if it is outstanding. Blocks mostly come in the order of the
    /// requests, so that it is near the front.
    pub(crate) fn take_asked(&mut self, request: BlockRequest) -> Option<Asked> {
        let place = self.asked.iter().position(|asked| asked.request == request)?;
        self.asked.remove(place)
    }

    /// Takes out the request that a block answers. Those before it were passed over; all were if
    /// the block was not asked for.
    pub(crate) fn take_answered(&mut self, request: BlockRequest) -> Option<Asked> {
        let is_other = |asked: &&mut Asked| asked.request != request;
        self.asked.iter_mut().take_while(is_other).for_each(|asked| asked.passed_over = true);
        self.take_asked(request)
    }

    pub(crate) fn view(&self, now: Duration, key: PeerKey, pieces: u32) -> PeerView {
        PeerView {
            key,
            address: self.is.address,
            peer_id: self.is.peer_id,
            outgoing: self.is.outgoing,
            pieces: self.has.count(pieces),
            down_rate: self.down.per_second(now),
            up_rate: self.up.per_second(now),
            am_choking: self.am_choking,
            am_interested: self.am_interested,
            peer_choking: self.peer_choking,
            peer_interested: self.peer_interested,
            snubbed: self.snubbed,
            outstanding: self.asked.len(),
            window: self.depth(Duration::MAX),
        }
    }
}
