//! The user adds, stops, resumes and removes torrents.

use std::net::SocketAddr;
use std::time::Duration;

use piece_store::TorrentKey;
use rand::RngExt as _;
use swarm::Source;

use super::Engine;
use super::metadata::MetadataFetch;
use super::torrent::{AddError, Ending, Start, StopAction, Torrent};
use crate::config::AddTorrent;
use crate::event::{EventKind, StopReason};

impl<F> Engine<F> {
    /// Adds a torrent and starts it.
    ///
    /// # Errors
    /// The session has it already.
    pub fn add(&mut self, now: Duration, add: AddTorrent) -> Result<TorrentKey, AddError> {
        self.now = now;
        let key = self.torrents.add(now, add, self.config.peer_id_prefix, &mut self.rng)?;
        self.resume(now, key);
        Ok(key)
    }

    /// Starts a stopped torrent again.
    pub fn resume(&mut self, now: Duration, key: TorrentKey) {
        self.now = now;
        let seed = self.rng.random();
        match self.torrents.start(now, key, &self.config, seed) {
            Some(Start::Open(job)) => self.submit(key, job),
            Some(Start::Fetch(peers)) => self.begin_fetch(key, peers),
            None => {}
        }
        self.settle();
    }

    /// Looks for the peers of a link.
    fn begin_fetch(&mut self, key: TorrentKey, peers: Vec<String>) {
        let named = self.torrents[key].add.peers.clone();
        self.take_candidates(key, Source::User, &named);
        for peer in peers {
            self.announces.look_up_link_peer(self.now, key, &peer);
        }
        self.seek_peers(key);
        self.drain(key);
    }

    /// Opens a torrent whose metadata has just arrived.
    pub(super) fn open(&mut self, key: TorrentKey) {
        let torrent = &mut self.torrents[key];
        let metainfo = torrent.metainfo().clone();
        let job = torrent.open(metainfo, self.config.state_dir.clone());
        self.submit(key, job);
        self.torrents.set_timer(key);
    }

    /// Stops a torrent: stages unfinished pieces, syncs, closes the journal, announces `stopped`.
    /// [`EventKind::Stopped`] follows.
    pub fn stop(&mut self, now: Duration, key: TorrentKey) {
        self.now = now;
        self.begin_stop(key, StopReason::Asked);
        self.settle();
    }

    /// Stops a torrent and forgets it once it is stopped.
    pub fn remove(&mut self, now: Duration, key: TorrentKey) {
        if self.torrents.set_removing(key) {
            self.torrents.forget_removed(key);
        } else {
            self.stop(now, key);
        }
    }

    /// Stops every torrent.
    pub fn stop_all(&mut self, now: Duration) {
        let keys: Vec<TorrentKey> = self.torrents.keys().collect();
        keys.into_iter().for_each(|key| self.stop(now, key));
    }

    /// Changes the rate limits of the session, in bytes per second.
    pub fn set_limits(&mut self, now: Duration, down: Option<u64>, up: Option<u64>) {
        self.down.set_rate(now, down);
        self.up.set_rate(now, up);
    }

    /// Adds peers that the user named, to be tried as soon as the torrent is ready.
    pub fn add_peers(&mut self, now: Duration, key: TorrentKey, peers: &[SocketAddr]) {
        self.now = now;
        if let Some(torrent) = self.torrents.get_mut(key) {
            torrent.keep_peers(peers);
            self.take_candidates(key, Source::User, peers);
        }
        self.settle();
    }

    /// Uses what a call released: memory, room at tracker hosts, room to connect.
    pub(super) fn settle(&mut self) {
        self.feed_starved();
        self.drain_announces();
        self.drain_dht();
        self.drain_lsd();
        self.dial();
    }

    /// Stops a torrent if its goal says so.
    pub(super) fn stop_at_goal(&mut self, key: TorrentKey) {
        let Some(ending) = self.torrents[key].ending(self.now) else { return };
        let reason = match ending {
            Ending::Done => StopReason::Done,
            Ending::GiveUp(why) => {
                let Some(status) = self.status_of(key) else { return };
                StopReason::GaveUp { why, before: Box::new(status) }
            }
        };
        self.begin_stop(key, reason);
    }

    pub(super) fn begin_stop(&mut self, key: TorrentKey, reason: StopReason) {
        let is_open = self.torrents.get_mut(key).is_some_and(|it| it.metadata_mut().is_none());
        self.leave(key, reason, is_open);
    }

    /// Begins to stop a torrent. `is_open` says whether the store has to close it.
    pub(super) fn leave(&mut self, key: TorrentKey, reason: StopReason, is_open: bool) {
        let Some(status) = self.status_of(key) else { return };
        self.with_fetch(key, MetadataFetch::clear);
        if self.torrents.stop(key, status, reason, is_open) {
            self.drop_links_of(key);
            self.stop_seeking(key);
            self.advance_stop(key);
        }
    }

    fn drop_links_of(&mut self, key: TorrentKey) {
        for link in self.links.keys() {
            if self.links.torrent_of(link) == Some(key) {
                self.remove_link(link);
            }
        }
    }

    /// Closes the store once every earlier job is answered.
    pub(super) fn advance_stop(&mut self, key: TorrentKey) {
        match self.torrents.get_mut(key).and_then(Torrent::next_stop_action) {
            Some(StopAction::Close(job)) => {
                self.disk.reads.forget(key);
                self.submit(key, job);
            }
            Some(StopAction::SayGoodbye) => self.say_goodbye(key),
            None => {}
        }
    }

    /// Announces `stopped`, now that everything is on the disk.
    pub(super) fn say_goodbye(&mut self, key: TorrentKey) {
        self.torrents[key].say_goodbye(self.now);
        self.drain(key);
        self.end_goodbye(key);
    }

    /// Ends a stop once every announce is answered or the time is over.
    pub(super) fn end_goodbye(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get(key).filter(|torrent| torrent.is_stopping()) else {
            return;
        };
        if torrent.is_stop_over(self.now, self.announces.is_announcing(key)) {
            self.end_stop(key);
        }
    }

    fn end_stop(&mut self, key: TorrentKey) {
        let Some(reason) = self.torrents.end_stop(key) else { return };
        self.announces.forget_torrent(self.now, key);
        self.emit(key, EventKind::Stopped { reason });
        self.torrents.forget_removed(key);
    }
}
