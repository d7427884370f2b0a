//! A torrent's way from phase to phase, and what the user tells it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bt_types::OnDemand;
use metainfo::{FileEntry, Info, Naming};
use piece_store::{Job, OpenSpec, Opened, StoreError, TorrentKey};
use rand::RngExt as _;
use swarm::{Source, SpanLayout, Swarm, SwarmConfig};

use super::Core;
use super::open::{OpenPieces, blocks_in};
use super::peers::draw_peer_id;
use super::rate::Bucket;
use super::status::Progress;
use super::torrent::{Check, Phase, StopStep, Stopping, Torrent};
use crate::config::AddTorrent;
use crate::event::{ErrorClass, EventKind, TorrentError};
use crate::limits::{ANNOUNCE_DEADLINE, STOP_ANNOUNCE_TIME};

/// A torrent can't be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Occurs when the session has the torrent already.
    #[error("the torrent {name} ({info_hash}) was added already")]
    Duplicate {
        /// Its name.
        name: String,
        /// Its info-hash.
        info_hash: bt_types::InfoHashV1,
    },
    /// Occurs when the session has ended or is too busy to answer.
    #[error("the session does not answer")]
    Gone,
}

impl<F> Core<F> {
    /// Takes a torrent in and begins with it.
    ///
    /// # Errors
    /// The session has it already.
    pub fn add(&mut self, now: Duration, add: AddTorrent) -> Result<TorrentKey, AddError> {
        self.now = now;
        let info_hash = add.metainfo.info_hash();
        if self.by_info_hash.contains_key(&info_hash) {
            let name = add.metainfo.info().name().to_owned();
            return Err(AddError::Duplicate { name, info_hash });
        }
        let key = TorrentKey(self.next_torrent);
        self.next_torrent += 1;
        let geometry = add.metainfo.info().geometry();
        let torrent = Box::new(Torrent {
            key,
            peer_id: draw_peer_id(&mut self.rng),
            announce_key: self.rng.random(),
            phase: Phase::Stopped,
            open: OpenPieces::new(key, SpanLayout::new(geometry)),
            durability: OnDemand::default(),
            jobs: 0,
            announces: 0,
            announced_at: now,
            down: Bucket::new(now, add.max_down),
            up: Bucket::new(now, add.max_up),
            timer: None,
            earlier: (0, 0),
            last_piece_at: now,
            upload_only: false,
            completion_due: false,
            file_system: 0,
            progress: Progress::nothing_of(add.metainfo.info()),
            waits_to_dial: false,
            waits_for_memory: false,
            removing: false,
            last_status: None,
            add,
        });
        self.torrents.insert(key, torrent);
        self.by_info_hash.insert(info_hash, key);
        self.resume(now, key);
        Ok(key)
    }

    /// Begins again with a stopped torrent.
    pub fn resume(&mut self, now: Duration, key: TorrentKey) {
        self.now = now;
        let state_dir = self.config.state_dir.clone();
        let Some(torrent) = self.torrents.get_mut(&key).filter(|torrent| torrent.is_stopped())
        else {
            return;
        };
        torrent.phase = Phase::Opening;
        self.running += 1;
        let add = &torrent.add;
        let spec = OpenSpec {
            layout: add.layout.clone(),
            selected: add.selected.clone(),
            state_dir,
            resume: add.resume,
            preallocate: add.preallocate,
            overwrite: add.overwrite,
            read_only: add.seed_only,
            ..OpenSpec::new(add.metainfo.clone(), &*add.folder)
        };
        self.submit(key, Job::Open { torrent: key, spec: Box::new(spec) });
    }

    /// Stops a torrent in good order: unfinished pieces are staged, data is synced, the journal is
    /// closed, the trackers are told. The end is [`EventKind::Stopped`].
    pub fn stop(&mut self, now: Duration, key: TorrentKey) {
        self.now = now;
        self.begin_stop(key, None);
        self.settle();
    }

    /// Stops a torrent and forgets it once it is stopped.
    pub fn remove(&mut self, now: Duration, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.removing = true;
        if torrent.is_stopped() {
            self.forget(key);
        } else {
            self.stop(now, key);
        }
    }

    /// Stops every torrent.
    pub fn stop_all(&mut self, now: Duration) {
        let keys: Vec<TorrentKey> = self.torrents.keys().copied().collect();
        keys.into_iter().for_each(|key| self.stop(now, key));
    }

    /// Changes the rate limits of the session, in bytes a second.
    pub fn set_limits(&mut self, now: Duration, down: Option<u64>, up: Option<u64>) {
        self.down.set_rate(now, down);
        self.up.set_rate(now, up);
    }

    /// Goes on with what a call set free: memory, announces that ended, room to connect.
    pub(super) fn settle(&mut self) {
        self.feed_starved();
        self.drain_announces();
        self.dial();
    }

    pub(super) fn continue_check(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Phase::Checking(check) = &mut torrent.phase else { return };
        let mut jobs = Vec::new();
        while check.running < self.config.verify_jobs.max(1)
            && let Some(pieces) = check.ranges.pop_front()
        {
            check.running += 1;
            jobs.push(Job::Verify { torrent: key, pieces });
        }
        let finished = check.running == 0;
        jobs.into_iter().for_each(|job| self.submit(key, job));
        if finished {
            self.submit(key, Job::FinishCheck { torrent: key });
        }
    }

    pub(super) fn begin_transfer(&mut self, key: TorrentKey) {
        let now = self.now;
        let seed = self.rng.random();
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Phase::Checking(check) = &torrent.phase else { return };
        let mut swarm = Box::new(Swarm::new(now, &swarm_config(torrent, &self.config, seed)));
        let Opened { have, wanted, unfinished, naming, .. } = &check.opened;
        let wanted = if torrent.add.seed_only { have } else { wanted };
        let info = torrent.add.metainfo.info();
        torrent.progress = Progress::of(info, wanted, have);
        let geometry = info.geometry();
        swarm
            .begin_transfer(now, geometry, have.clone(), wanted.clone(), unfinished)
            .expect("the store's bitfields are of this torrent");
        let (have, wanted, naming) = (have.count(), wanted.count(), *naming);
        let complete = swarm.is_complete();
        torrent.open.resume(unfinished);
        torrent.phase = Phase::Transfer(swarm);
        torrent.last_piece_at = now;
        let peers = torrent.add.peers.clone();
        let private = torrent.add.metainfo.info().private();
        let renamed = renamed_text(torrent.add.metainfo.info(), naming);
        self.emit(key, EventKind::Started { have, wanted, naming });
        if let Some(text) = renamed {
            self.emit(key, EventKind::Warning(text));
        }
        if private && !peers.is_empty() {
            let text = "the torrent is private: peers come from its trackers only, and those given by \
                        hand are ignored";
            self.emit(key, EventKind::Warning(text.to_owned()));
        }
        self.take_candidates(key, Source::User, &peers);
        if complete {
            self.handle_all_verified(key);
        }
        self.drain(key);
    }

    /// The torrent can't go on.
    pub(super) fn fail(&mut self, key: TorrentKey, error: &StoreError) {
        let error = torrent_error(error);
        let opening =
            self.torrents.get(&key).is_some_and(|torrent| matches!(torrent.phase, Phase::Opening));
        if opening {
            // Nothing was opened, so there is nothing to close.
            self.end_stop(key, Some(error));
        } else {
            self.begin_stop(key, Some(error));
        }
    }

    /// Keeps the first error of a torrent that is stopping already.
    pub(super) fn note_error(&mut self, key: TorrentKey, error: &StoreError) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if let Phase::Stopping(stopping) = &mut torrent.phase {
            stopping.error.get_or_insert_with(|| torrent_error(error));
        }
    }

    fn begin_stop(&mut self, key: TorrentKey, error: Option<TorrentError>) {
        let status = self.status_of(key);
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let swarm = match std::mem::replace(&mut torrent.phase, Phase::Opening) {
            Phase::Transfer(swarm) => Some(swarm),
            Phase::Opening | Phase::Checking(_) => None,
            Phase::Stopping(mut stopping) => {
                stopping.error = stopping.error.or(error);
                torrent.phase = Phase::Stopping(stopping);
                return;
            }
            Phase::Stopped => {
                torrent.phase = Phase::Stopped;
                return;
            }
        };
        torrent.last_status = status.map(Box::new);
        let stopping = Stopping { swarm, step: StopStep::Jobs, error };
        torrent.phase = Phase::Stopping(Box::new(stopping));
        self.drop_links_of(key);
        self.advance_stop(key);
    }

    fn drop_links_of(&mut self, key: TorrentKey) {
        for slot in 0..self.links.slots() {
            let Some(link) = self.links.key_at(slot) else { continue };
            if self.links.get(link).and_then(|link| link.stage.torrent()) == Some(key) {
                self.drop_socket(link);
            }
        }
    }

    /// Closes the store once every job given to it before is answered.
    pub(super) fn advance_stop(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let jobs = torrent.jobs;
        let Phase::Stopping(stopping) = &mut torrent.phase else { return };
        if stopping.step != StopStep::Jobs || jobs > 0 {
            return;
        }
        stopping.step = StopStep::Closing;
        let unfinished = match &stopping.swarm {
            Some(swarm) => torrent.open.take_all(|piece, span| blocks_in(swarm, piece, span)),
            None => Vec::new(),
        };
        self.resident.forget(key);
        let (down, up) = torrent.transferred();
        let (downloaded, uploaded) = (torrent.earlier.0 + down, torrent.earlier.1 + up);
        self.submit(key, Job::Close { torrent: key, uploaded, downloaded, unfinished });
    }

    /// Tells the trackers, now that everything is on the disk.
    pub(super) fn say_goodbye(&mut self, key: TorrentKey) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let deadline = torrent.goodbye_deadline(now);
        if let Phase::Stopping(stopping) = &mut torrent.phase {
            stopping.step = StopStep::Announcing { deadline };
        }
        if let Some(swarm) = torrent.swarm_mut() {
            swarm.stop(now);
        }
        self.drain(key);
        self.end_goodbye(key);
    }

    /// Ends the stop when every tracker heard of it or the time is over.
    pub(super) fn end_goodbye(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let announces = torrent.announces;
        let Phase::Stopping(stopping) = &mut torrent.phase else { return };
        let StopStep::Announcing { deadline } = stopping.step else { return };
        if announces == 0 || deadline <= self.now {
            let error = stopping.error.take();
            self.end_stop(key, error);
        }
    }

    fn end_stop(&mut self, key: TorrentKey, error: Option<TorrentError>) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.phase = Phase::Stopped;
        self.running -= 1;
        torrent.announces = 0;
        torrent.completion_due = false;
        torrent.durability.give_up();
        torrent.open = OpenPieces::new(key, torrent.open.layout);
        let removing = torrent.removing;
        self.timers.clear(torrent);
        self.announces.forget_torrent(now, key);
        self.emit(key, EventKind::Stopped { error });
        if removing {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: TorrentKey) {
        if let Some(torrent) = self.torrents.remove(&key) {
            self.by_info_hash.remove(&torrent.info_hash());
        }
    }

    pub(super) fn handle_torrent_timeout(&mut self, key: TorrentKey) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.timer = None;
        if let Some(swarm) = torrent.transfer_mut()
            && swarm.poll_timeout().is_some_and(|at| at <= now)
        {
            swarm.handle_timeout(now);
        }
        self.drain(key);
        self.end_goodbye(key);
    }

    pub(super) fn set_timer(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let at = torrent.next_timeout();
        self.timers.set(torrent, at);
    }
}

/// Says that files have other names on disk than in the torrent, if some have.
fn renamed_text(info: &Info, naming: Naming) -> Option<String> {
    if info.has_plain_names() {
        return None;
    }
    let paths = info.disk_paths(naming);
    let files = info.files().iter().zip(&paths).filter(|(file, _)| !file.is_pad());
    let name = if info.is_single_file() { "" } else { info.name() };
    let is_renamed = |(file, path): &(FileEntry<'_>, &PathBuf)| {
        Path::new(name).join(file.original_path()) != **path
    };
    let renamed = files.filter(is_renamed);
    let count = renamed.clone().count();
    let (_, first) = renamed.into_iter().next()?;
    let files = if count == 1 { "1 file is" } else { &format!("{count} files are") };
    Some(format!("{files} named differently on disk, such as {}", first.display()))
}

impl Torrent {
    pub(super) fn begin_check(&mut self, now: Duration, opened: Opened) {
        let ranges = opened.to_verify.clone();
        let total = ranges.iter().map(|range| range.len() as u32).sum();
        self.last_piece_at = now;
        self.progress = Progress::of(self.add.metainfo.info(), &opened.wanted, &opened.have);
        let check = Check { opened, ranges: ranges.into(), running: 0, done: 0, total };
        self.phase = Phase::Checking(Box::new(check));
    }

    /// When a stop no longer waits for trackers. If none has ever answered, the time runs from the
    /// last announce: they are probably dead.
    fn goodbye_deadline(&self, now: Duration) -> Duration {
        let mut trackers = self.swarm().into_iter().flat_map(Swarm::trackers);
        let from = if trackers.any(|tracker| tracker.replied) { now } else { self.announced_at };
        (from + STOP_ANNOUNCE_TIME).max(now)
    }

    fn next_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Transfer(swarm) => {
                [swarm.poll_timeout(), self.durability.deadline()].into_iter().flatten().min()
            }
            Phase::Stopping(stopping) => match stopping.step {
                StopStep::Announcing { deadline } => Some(deadline),
                StopStep::Jobs | StopStep::Closing => None,
            },
            _ => None,
        }
    }
}

fn swarm_config(torrent: &Torrent, config: &super::CoreConfig, seed: u64) -> SwarmConfig {
    let trackers =
        if torrent.add.announce { torrent.add.metainfo.trackers().to_vec() } else { Vec::new() };
    SwarmConfig {
        private: torrent.add.metainfo.info().private(),
        trackers,
        max_peers: config.max_peers_per_torrent,
        upload_slots: config.upload_slots,
        seed,
        ..SwarmConfig::new(torrent.peer_id)
    }
}

fn torrent_error(error: &StoreError) -> TorrentError {
    let class = match error {
        StoreError::InUse { .. } | StoreError::Claimed { in_use: true, .. } => ErrorClass::InUse,
        StoreError::Disk { .. } | StoreError::Linked { .. } | StoreError::ReadOnly => {
            ErrorClass::Disk
        }
        StoreError::UnrelatedFile { .. } | StoreError::Claimed { .. } => ErrorClass::UnrelatedFile,
        _ => ErrorClass::Internal,
    };
    let advises_other_folder = error.advises_other_folder();
    TorrentError { class, message: error.to_string(), advises_other_folder }
}

/// A tracker that did not answer within this time is taken for dead, so a stop waits less.
const _: () = assert!(STOP_ANNOUNCE_TIME.as_secs() < ANNOUNCE_DEADLINE.as_secs());
