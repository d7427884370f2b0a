//! The swarm: what is shared by the parts of its behaviour, which are in the modules below.
//!
//! - `peers`: candidates, connections, what peers have, interest
//! - `requests`: whom to ask for what, choking, snubbing
//! - `blocks`: blocks as they arrive, commits, blame
//! - `endgame`: which block to ask of a second peer
//! - `uploads`: whom to unchoke, which requests are served
//! - `announces`: trackers, stop
//! - `getters`

mod announces;
mod blocks;
mod endgame;
mod getters;
mod peers;
mod requests;
mod uploads;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bt_types::{Bitfield, OnDemand, PeerId, PieceIndex};

use crate::choker::Choker;
use crate::dice::Dice;
use crate::peer::Peer;
use crate::pieces::Pieces;
use crate::rate::Rate;
use crate::roster::Roster;
use crate::timer::{Timer, Timers};
use crate::trackers::Trackers;
use crate::vocabulary::{Output, PeerKey, SpanBudget, SwarmConfig};

/// The peers of one torrent and everything decided about them.
///
/// 1. What happened: `handle_*(now, ..)` and [`place`](Self::place). What is said of a peer that
///    is not connected is ignored.
/// 2. What we want: [`stop`](Self::stop), [`set_wanted`](Self::set_wanted),
///    [`set_upload_slots`](Self::set_upload_slots), [`set_max_peers`](Self::set_max_peers).
/// 3. What the caller must do now: [`poll_output`](Self::poll_output) until `None`,
///    [`poll_timeout`](Self::poll_timeout); and, whenever it has room for more,
///    [`next_candidate`](Self::next_candidate).
/// 4. Getters.
///
/// Between two drains of `poll_output` the queue of outputs holds at most a few for each connected
/// peer and each request outstanding; requests are made only when the queue is empty, for one peer
/// at a time.
#[derive(Debug)]
pub struct Swarm {
    now: Duration,
    rng: Dice,
    peer_id: PeerId,
    private: bool,
    max_peers: usize,
    upload_slots: usize,
    running: bool,
    /// Whether the whole torrent was had once, so that trackers were told or need not be.
    was_seed: bool,

    pieces: Pieces,
    peers: OnDemand<BTreeMap<PeerKey, Peer>>,
    roster: OnDemand<Roster>,
    trackers: Trackers,
    choker: Choker,
    timers: OnDemand<Timers>,

    outputs: OnDemand<VecDeque<Output>>,
    /// Peers to be asked for blocks.
    ready: OnDemand<VecDeque<PeerKey>>,
    /// While there are peers without memory: the bytes that the last reservation that failed
    /// needs, 0 where that is not known.
    starved: Option<usize>,
    /// The last of them that got some.
    last_fed: PeerKey,
    /// Whether the last peer that was asked found the endgame begun.
    endgame: bool,
    /// Whether slots are to be filled because a peer became interested or lost interest. That takes a
    /// look at every peer, so it is done once for many messages.
    interest_changed: bool,
    /// Whether there may be something now for the peers that had nothing to be asked for; done once for
    /// many messages as well.
    idle_may_help: bool,
    /// Whether it is to be decided anew who may be asked for the pieces under investigation: that takes a
    /// look at every peer too.
    suspicion_changed: bool,

    down: Rate,
    up: Rate,
    wasted: u64,
}

/// The most peers of a swarm, whatever the configuration says.
const MAX_PEERS: usize = u16::MAX as usize;
/// How often rates are measured and silent peers looked for.
const TICK: Duration = Duration::from_secs(1);

impl Swarm {
    /// A swarm that has just begun: nobody is known, and the first tracker is to be asked. If it
    /// has everything already, no [`Output::Completed`] follows.
    pub fn new(now: Duration, config: SwarmConfig) -> Self {
        let mut rng = Dice::new(config.seed);
        let pieces = config.geometry.piece_count();
        let fit = |set: Bitfield| if set.pieces() == pieces { set } else { Bitfield::new(pieces) };
        let (have, wanted) = (fit(config.have), fit(config.wanted));
        let pieces = Pieces::new(config.geometry, have, wanted, &mut rng);
        let trackers = Trackers::new(now, &config.trackers, &mut rng);
        let mut swarm = Self {
            now,
            rng,
            peer_id: config.peer_id,
            private: config.private,
            max_peers: config.max_peers.min(MAX_PEERS),
            upload_slots: config.upload_slots,
            running: true,
            was_seed: pieces.have.is_full(),
            pieces,
            peers: OnDemand::default(),
            roster: OnDemand::default(),
            trackers,
            choker: Choker::default(),
            timers: OnDemand::default(),
            outputs: OnDemand::default(),
            ready: OnDemand::default(),
            starved: None,
            last_fed: PeerKey(0),
            endgame: false,
            interest_changed: false,
            idle_may_help: false,
            suspicion_changed: false,
            down: Rate::default(),
            up: Rate::default(),
            wasted: 0,
        };
        swarm.resume(&config.unfinished);
        swarm.rng.rest();
        swarm
    }

    /// The next thing to do; `None` when there is nothing more until something happens.
    ///
    /// Memory for what is about to be requested is reserved from `budget`.
    pub fn poll_output(&mut self, now: Duration, budget: &mut SpanBudget) -> Option<Output> {
        self.now = now;
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if std::mem::take(&mut self.interest_changed) {
                self.fill_slots();
                continue;
            }
            if std::mem::take(&mut self.suspicion_changed) {
                self.review_suspects();
            }
            if std::mem::take(&mut self.idle_may_help) {
                self.wake_idle();
            }
            if let Some(announce) = self.trackers.poll(now, self.num_want()) {
                return Some(announce);
            }
            self.feed_starved(budget);
            let Some(key) = self.ready.pop_front() else {
                self.rest();
                return None;
            };
            self.ask_for_blocks(key, budget);
        }
    }

    /// When [`Self::handle_timeout`] is to be called. Also the time at which
    /// [`Self::next_candidate`] may have another address.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let retry = self.roster.next_retry(self.now).filter(|_| self.running);
        [self.timers.next(), self.trackers.next_timeout(), retry].into_iter().flatten().min()
    }

    /// The time of [`Self::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Tick => {
                    self.tick();
                    self.widen_slots();
                }
                Timer::Choke => self.choke_round(),
            }
        }
    }

    /// Gives up the memory that only a swarm with peers needs.
    fn rest(&mut self) {
        if !self.peers.is_empty() {
            return;
        }
        self.rng.rest();
        self.peers.give_up();
        self.outputs.give_up();
        self.ready.give_up();
        if self.roster.is_blank() {
            self.roster.give_up();
        }
        if self.timers.next().is_none() {
            self.timers.give_up();
        }
        if self.pieces.open.is_empty() {
            self.pieces.open.give_up();
            self.pieces.partial.give_up();
        }
    }

    /// Arms the timers that run while there are peers.
    fn arm_timers(&mut self) {
        self.timers.set_once(Timer::Tick, self.now + TICK);
        self.timers.set_once(Timer::Choke, self.now + crate::choker::ROUND);
    }

    /// Opens the pieces of which blocks are on disk.
    fn resume(&mut self, unfinished: &[(PieceIndex, Vec<u32>)]) {
        for (piece, blocks) in unfinished {
            let exists = self.pieces.geometry.piece(piece.get()).is_some();
            if !exists || blocks.is_empty() || !self.pieces.is_missing(*piece) {
                continue;
            }
            let open = self.pieces.open(*piece, None);
            blocks.iter().for_each(|block| open.finish_on_disk(*block));
            self.commit_if_complete(*piece);
        }
    }
}
