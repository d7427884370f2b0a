//! The torrents of a session: the phase of each, its progress, and when it is due.

mod check;
mod durability;
mod goal;
mod hello;
mod messages;
mod metadata;
mod phase;
mod progress;
mod start;
mod status;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};
use std::time::Duration;

use bt_types::InfoHashV1;
use piece_store::TorrentKey;
use swarm::{SpanBudget, Swarm};

use super::config::EngineConfig;
use crate::config::AddTorrent;
use crate::event::{StopReason, TorrentStatus};

pub(super) use goal::Ending;
pub(super) use phase::{Start, StopAction, Torrent};
pub(super) use transfer::Transfer;

/// A torrent cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Occurs when the session has the torrent already.
    #[error("the torrent {name} ({info_hash}) was added already")]
    Duplicate {
        /// Its name.
        name: String,
        /// Its info-hash.
        info_hash: InfoHashV1,
    },
    /// Occurs when the session has ended or is too busy to answer.
    #[error("the session does not answer")]
    Gone,
}

/// All torrents. Indexing panics if there is no such torrent, which is a bug.
#[derive(Debug)]
pub(super) struct Torrents {
    table: BTreeMap<TorrentKey, Box<Torrent>>,
    by_info_hash: BTreeMap<InfoHashV1, TorrentKey>,
    next_key: u64,
    /// How many are not stopped.
    active: usize,
    /// When each torrent is due, if it is.
    timers: BTreeSet<(Duration, TorrentKey)>,
    /// Torrents that wait for memory.
    starved: VecDeque<TorrentKey>,
    /// Torrents that may have a candidate to connect to.
    to_dial: VecDeque<TorrentKey>,
}

impl Torrents {
    pub(super) fn new() -> Self {
        Self {
            table: BTreeMap::new(),
            by_info_hash: BTreeMap::new(),
            next_key: 1,
            active: 0,
            timers: BTreeSet::new(),
            starved: VecDeque::new(),
            to_dial: VecDeque::new(),
        }
    }

    /// Adds a stopped torrent.
    pub(super) fn add(
        &mut self,
        now: Duration,
        add: AddTorrent,
        peer_id_prefix: [u8; 8],
        rng: &mut impl rand::Rng,
    ) -> Result<TorrentKey, AddError> {
        let info_hash = add.description.info_hash();
        if self.by_info_hash.contains_key(&info_hash) {
            let name = add.description.name();
            return Err(AddError::Duplicate { name, info_hash });
        }
        let key = TorrentKey(self.next_key);
        self.next_key += 1;
        self.table.insert(key, Box::new(Torrent::new(now, key, add, peer_id_prefix, rng)));
        self.by_info_hash.insert(info_hash, key);
        Ok(key)
    }

    /// Starts a stopped torrent; `None` if there is no such torrent.
    pub(super) fn start(
        &mut self,
        now: Duration,
        key: TorrentKey,
        config: &EngineConfig,
        seed: u64,
    ) -> Option<Start> {
        let torrent = self.table.get_mut(&key).filter(|torrent| torrent.is_stopped())?;
        self.active += 1;
        let start = torrent.start(now, config, seed);
        self.set_timer(key);
        Some(start)
    }

    /// Begins to stop a torrent, whose status is `status`. `is_open` says whether the store has to
    /// close it. Returns whether it was not stopping yet.
    /// A stopping torrent keeps its first error.
    pub(super) fn stop(
        &mut self,
        key: TorrentKey,
        status: TorrentStatus,
        reason: StopReason,
        is_open: bool,
    ) -> bool {
        let torrent = &mut self[key];
        if torrent.is_stopped() || torrent.is_stopping() {
            if let StopReason::Failed(error) = reason {
                torrent.note_error(error);
            }
            return false;
        }
        if let Some(torrent) = self.table.remove(&key) {
            self.table.insert(key, torrent.stop(status, reason, is_open));
        }
        true
    }

    /// Ends a stop. Returns its reason, if one is known.
    pub(super) fn end_stop(&mut self, key: TorrentKey) -> Option<StopReason> {
        let (torrent, reason) = self.table.remove(&key)?.end_stop();
        self.active -= 1;
        self.table.insert(key, torrent);
        self.set_timer(key);
        reason
    }

    /// Notes that the torrent is to be forgotten once it is stopped. Returns whether it is stopped.
    pub(super) fn set_removing(&mut self, key: TorrentKey) -> bool {
        let Some(torrent) = self.table.get_mut(&key) else { return false };
        torrent.removing = true;
        torrent.is_stopped()
    }

    /// Forgets a stopped torrent if that was noted.
    pub(super) fn forget_removed(&mut self, key: TorrentKey) {
        if let Some(torrent) = self.table.remove(&key) {
            if torrent.removing {
                self.by_info_hash.remove(&torrent.info_hash());
            } else {
                self.table.insert(key, torrent);
            }
        }
    }

    pub(super) fn get(&self, key: TorrentKey) -> Option<&Torrent> {
        self.table.get(&key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: TorrentKey) -> Option<&mut Torrent> {
        self.table.get_mut(&key).map(Box::as_mut)
    }

    /// The transfer of a torrent, also while it is being stopped. Panics if it has none: it is
    /// called for outputs of the transfer and the answers to them.
    pub(super) fn transfer(&mut self, key: TorrentKey) -> &mut Transfer {
        self[key].transfer_mut().expect("a torrent with a transfer")
    }

    /// The transfer of a torrent, unless it has none or is being stopped.
    pub(super) fn running_mut(&mut self, key: TorrentKey) -> Option<&mut Transfer> {
        self.get_mut(key)?.running_mut()
    }

    /// The swarm of a torrent, unless it has none or is being stopped.
    pub(super) fn running_swarm(&mut self, key: TorrentKey) -> Option<&mut Swarm> {
        self.get_mut(key)?.running_swarm()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = TorrentKey> {
        self.table.keys().copied()
    }

    pub(super) fn by_info_hash(&self, info_hash: InfoHashV1) -> Option<TorrentKey> {
        self.by_info_hash.get(&info_hash).copied()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether every torrent is stopped.
    pub(super) fn is_idle(&self) -> bool {
        self.active == 0
    }

    /// Puts a torrent in line to connect to candidates until it has none, and for memory if it needs
    /// some. Sets its timer. `may_find` says whether the DHT may still find peers.
    pub(super) fn line_up(
        &mut self,
        now: Duration,
        key: TorrentKey,
        may_find: impl FnOnce() -> bool,
    ) {
        let Some(torrent) = self.table.get_mut(&key) else { return };
        torrent.note_condition(now, may_find);
        if let Some(swarm) = torrent.running_swarm() {
            if swarm.is_starved() && !std::mem::replace(&mut torrent.waits_for_memory, true) {
                self.starved.push_back(key);
            }
            if !std::mem::replace(&mut torrent.waits_to_dial, true) {
                self.to_dial.push_back(key);
            }
        }
        self.set_timer(key);
    }

    /// Sets the timer of a torrent.
    pub(super) fn set_timer(&mut self, key: TorrentKey) {
        let Some(torrent) = self.table.get_mut(&key) else { return };
        let next = torrent.next_timeout();
        let before = std::mem::replace(&mut torrent.timer, next);
        if before != next {
            before.into_iter().for_each(|at| _ = self.timers.remove(&(at, key)));
            self.timers.extend(next.map(|at| (at, key)));
        }
    }

    /// Takes the next torrent out of the line to connect to candidates.
    pub(super) fn pop_to_dial(&mut self) -> Option<TorrentKey> {
        while let Some(key) = self.to_dial.pop_front() {
            if let Some(torrent) = self.table.get_mut(&key) {
                torrent.waits_to_dial = false;
                return Some(key);
            }
        }
        None
    }

    /// How many torrents wait for memory.
    pub(super) fn starved(&self) -> usize {
        self.starved.len()
    }

    /// Takes the next torrent out of the line for memory, or puts it last if there is too little.
    pub(super) fn pop_starved(&mut self, budget: &SpanBudget) -> Option<TorrentKey> {
        let key = self.starved.pop_front()?;
        let torrent = self.table.get_mut(&key)?;
        if torrent.swarm().is_some_and(|swarm| swarm.is_short(budget)) {
            self.starved.push_back(key);
            return None;
        }
        torrent.waits_for_memory = false;
        Some(key)
    }

    /// Takes the next torrent that is due. Its timer is not set.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<TorrentKey> {
        self.next_timeout().filter(|at| *at <= now)?;
        let (_, key) = self.timers.pop_first()?;
        self[key].timer = None;
        Some(key)
    }

    /// When the next torrent is due.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }
}

impl Index<TorrentKey> for Torrents {
    type Output = Torrent;

    fn index(&self, key: TorrentKey) -> &Torrent {
        &self.table[&key]
    }
}

impl IndexMut<TorrentKey> for Torrents {
    fn index_mut(&mut self, key: TorrentKey) -> &mut Torrent {
        self.table.get_mut(&key).expect("a torrent of this session")
    }
}
