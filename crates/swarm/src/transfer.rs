//! The exchange of pieces with the connected peers.

mod ask_list;
mod blame;
mod blocks;
mod choker;
mod downloads;
mod endgame;
mod memory;
mod picker;
mod pieces;
mod rarity;
mod requests;
mod stalls;
mod unfinished;
mod unfinished_piece;
mod uploads;

use std::collections::VecDeque;
use std::time::Duration;

use bt_types::Geometry;

use crate::peer::Peers;
use crate::rate::Rate;
use crate::rng::IdleRng;
use crate::vocabulary::Output;

use downloads::Downloads;
pub use pieces::Pieces;
use uploads::Uploads;

/// How often rates are measured and silent peers looked for.
const TICK: Duration = Duration::from_secs(1);

/// The exchange of pieces, which starts when the geometry is known.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) pieces: Pieces,
    pub(crate) traffic: Traffic,
    /// Whether we have, or once had, every piece.
    was_seed: bool,
    /// `None` while there is nothing to fetch and no peer.
    pub(crate) active: Option<Box<Active>>,
}

/// How much payload flowed.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) down: Rate,
    pub(crate) up: Rate,
    /// Bytes that were received and discarded.
    pub(crate) wasted: u64,
}

/// The parts of a transfer that only exist while it does something.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) downloads: Downloads,
    pub(crate) uploads: Uploads,
    next_tick: Option<Duration>,
    next_choke_round: Option<Duration>,
}

/// What the parts of a transfer work with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Duration,
    pub(crate) rng: &'a mut IdleRng,
    pub(crate) peers: &'a mut Peers,
    pub(crate) outputs: &'a mut VecDeque<Output>,
    pub(crate) pieces: &'a mut Pieces,
    pub(crate) traffic: &'a mut Traffic,
    pub(crate) upload_slots: usize,
}

impl Transfer {
    pub(crate) fn new(pieces: Pieces) -> Self {
        let was_seed = pieces.have().is_full();
        Self { pieces, traffic: Traffic::default(), was_seed, active: None }
    }

    /// Creates the active parts unless they exist.
    pub(crate) fn activate(&mut self) {
        let geometry = self.pieces.geometry();
        self.active.get_or_insert_with(|| Box::new(Active::new(geometry)));
    }

    /// Frees the active parts if there are no peers, and nothing is left to do or to remember.
    pub(crate) fn rest(&mut self) {
        let idle = self.active.as_ref().is_some_and(|active| active.is_idle());
        if idle && self.pieces.is_complete() {
            self.active = None;
        }
    }

    /// Whether we have every piece now, for the first time.
    pub(crate) fn became_seed(&mut self) -> bool {
        self.pieces.have().is_full() && !std::mem::replace(&mut self.was_seed, true)
    }
}

impl Active {
    fn new(geometry: Geometry) -> Self {
        Self {
            downloads: Downloads::new(geometry),
            uploads: Uploads::default(),
            next_tick: None,
            next_choke_round: None,
        }
    }

    /// Sets the timers that run while there are peers.
    pub(crate) fn set_timers(&mut self, now: Duration) {
        self.next_tick.get_or_insert(now + TICK);
        self.next_choke_round.get_or_insert(now + choker::ROUND);
    }

    /// Returns when the first timer is due.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        [self.next_tick, self.next_choke_round].into_iter().flatten().min()
    }

    /// Does the first part of a tick if one is due, and says whether one was. The caller then
    /// disconnects a useless peer, and calls [`Self::finish_tick`].
    pub(crate) fn tick_if_due(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.next_tick.take_if(|at| *at <= cx.now).is_some();
        if due {
            self.downloads.tick(cx);
        }
        due
    }

    pub(crate) fn finish_tick(&mut self, cx: &mut Context<'_>) {
        self.downloads.reclaim_memory(cx);
        self.uploads.widen(cx);
    }

    /// Decides which peers are unchoked, if that is due.
    pub(crate) fn choke_if_due(&mut self, cx: &mut Context<'_>) {
        if self.next_choke_round.take_if(|at| *at <= cx.now).is_some() {
            self.uploads.decide(cx);
        }
    }

    /// Stops for good: has everything staged that is in memory.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>) {
        self.downloads.stop(cx);
        (self.next_tick, self.next_choke_round) = (None, None);
    }

    fn is_idle(&self) -> bool {
        self.next_timeout().is_none() && self.downloads.is_idle()
    }
}
