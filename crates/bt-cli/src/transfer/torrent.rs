//! One torrent of a command: its state, and whether it makes sense to go on waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metainfo::{Metainfo, Naming};
use session::limits::MAX_TRACKERS;
use session::{
    ErrorClass, EventKind, PeerState, PhaseKind, TorrentError, TorrentKey, TorrentStatus,
};

use super::advice::{GET_IT_AGAIN, PRIVATE_WITHOUT_TRACKER, Reach, advice};
use super::setup::missing_content;
use crate::failure::{Class, Failure, without_code};
use crate::output::{count, duration, percent, rate, size};

/// Every tracker failed and nobody is there: after this time that is the end.
const HOPELESS_TIME: Duration = Duration::from_secs(60);
/// Everybody known is banned: after this time nobody better has come.
const BANNED_TIME: Duration = Duration::from_secs(5);
/// The longest time until advice is printed, even while files are still checked.
const ADVICE_DELAY: Duration = Duration::from_millis(500);
/// How often a torrent that waits says why.
const WAITING_INTERVAL: Duration = Duration::from_secs(30);

/// When a torrent is over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Goal {
    /// Whether it goes on when complete.
    pub(crate) seed: bool,
    /// Stop seeding when so many times its size was sent.
    pub(crate) ratio: Option<f64>,
    /// Stop seeding after this time.
    pub(crate) seed_time: Option<Duration>,
    /// Give up when not complete after this time.
    pub(crate) timeout: Option<Duration>,
    /// Give up after this time without a verified piece.
    pub(crate) stall_timeout: Option<Duration>,
    /// Nothing is asked for, so that being incomplete is no reason to stop.
    pub(crate) seed_only: bool,
}

/// What is to be done with a torrent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Go,
    /// Stop it cleanly.
    Stop,
    /// It has stopped: tell the user.
    Over,
}

/// One torrent of a command.
pub(crate) struct Torrent {
    pub(crate) key: TorrentKey,
    pub(crate) metainfo: Arc<Metainfo>,
    /// What the user finds when it is done.
    pub(crate) output: PathBuf,
    pub(crate) status: Option<TorrentStatus>,
    pub(crate) goal: Goal,
    added: Instant,
    have_at_start: Option<(u32, u32)>,
    completed: Option<Instant>,
    over: Option<Instant>,
    failure: Option<Failure>,
    /// Whether it was stopped because everything asked for is done.
    reached_goal: bool,
    trackers: BTreeMap<String, Result<(), String>>,
    /// Where peers can connect to us.
    pub(crate) listen: Box<[SocketAddr]>,
    /// Whether the user named peers.
    has_peers: bool,
    served_by: BTreeSet<SocketAddr>,
    /// Peers that are not there, and why: they could not be reached, or came and went.
    absent_peers: BTreeMap<SocketAddr, String>,
    hopeless: Option<Instant>,
    all_banned: Option<Instant>,
    said_why: Instant,
    advice: Vec<String>,
    /// The length of all files in bytes.
    size: u64,
}

impl Torrent {
    pub(super) fn new(
        key: TorrentKey,
        metainfo: Arc<Metainfo>,
        output: PathBuf,
        goal: Goal,
        reach: Reach,
    ) -> Self {
        let now = Instant::now();
        let advice = advice(&metainfo, goal, &reach);
        let size = metainfo.info().content_size();
        Self {
            key,
            metainfo,
            output,
            status: None,
            goal,
            added: now,
            have_at_start: None,
            completed: None,
            over: None,
            failure: None,
            reached_goal: false,
            trackers: BTreeMap::new(),
            listen: reach.listen,
            has_peers: reach.has_peers,
            served_by: BTreeSet::new(),
            absent_peers: BTreeMap::new(),
            hopeless: None,
            all_banned: None,
            said_why: now,
            advice,
            size,
        }
    }

    /// The torrent's file or folder may have another name on disk than usual.
    fn name_output(&mut self, naming: Naming) {
        let info = self.metainfo.info();
        let is_chosen = self.output.file_name() != Some(OsStr::new(info.disk_name()));
        if is_chosen || info.has_plain_names() {
            return;
        }
        let paths = info.disk_paths(naming);
        if let Some(name) = paths.first().and_then(|path| path.iter().next()) {
            self.output.set_file_name(name);
        }
    }

    /// Something happened to it.
    pub(crate) fn handle_event(&mut self, now: Instant, event: &EventKind) -> Step {
        match event {
            EventKind::Started { have, wanted, naming } => {
                self.name_output(*naming);
                self.have_at_start = Some((*have, *wanted));
                self.said_why = now;
                return self.check_serving(*have);
            }
            EventKind::Peer { address, state, reason } => {
                self.handle_peer(*address, *state, reason.as_deref());
            }
            EventKind::Tracker { url, result } => {
                let result = result.as_ref().map(|_| ()).map_err(|error| without_code(error));
                self.trackers.insert(url.clone(), result);
            }
            EventKind::Completed if self.completed.is_none() && !self.goal.seed_only => {
                self.completed = Some(now);
                self.reached_goal = !self.goal.seed;
                return if self.reached_goal { Step::Stop } else { Step::Go };
            }
            EventKind::Stopped { error } => return self.handle_stopped(now, error.as_ref()),
            _ => {}
        }
        Step::Go
    }

    /// Its state changed.
    pub(crate) fn handle_status(&mut self, now: Instant, status: TorrentStatus) {
        let unreachable = status.peers_known + status.peers_banned <= self.absent_peers.len();
        let alone = status.peers_connected == 0 && self.is_transferring(&status);
        let banned = status.peers_banned > 0 && status.peers_known == 0;
        let hopeless = alone && unreachable && self.every_tracker_failed();
        self.hopeless = hopeless.then(|| self.hopeless.unwrap_or(now));
        let all_banned = alone && banned && self.every_tracker_spoke();
        self.all_banned = all_banned.then(|| self.all_banned.unwrap_or(now));
        self.status = Some(status);
    }

    /// Time passed: whether it is enough.
    pub(crate) fn handle_tick(&mut self, now: Instant) -> Step {
        if self.over.is_some() || self.failure.is_some() || self.reached_goal {
            return Step::Go;
        }
        if self.completed.is_some() || self.goal.seed_only {
            self.reached_goal = self.seeded_enough(now);
            return if self.reached_goal { Step::Stop } else { Step::Go };
        }
        self.failure = self.reason_to_give_up(now);
        if self.failure.is_some() { Step::Stop } else { Step::Go }
    }

    /// Returns, once and within the torrent's first second, what the user should know and can't see
    /// from the progress. Empty if there is nothing to do.
    pub(crate) fn take_advice(&mut self, now: Instant) -> Vec<String> {
        let late = now.duration_since(self.added) >= ADVICE_DELAY;
        if self.have_at_start.is_none() && !late {
            return Vec::new();
        }
        let advice = std::mem::take(&mut self.advice);
        let is_idle = self.was_complete() && !self.goal.seed;
        if is_idle || self.over.is_some() || self.failure.is_some() { Vec::new() } else { advice }
    }

    /// Every now and then, what a torrent without progress waits for.
    pub(crate) fn why_waiting(&mut self, now: Instant) -> Option<String> {
        let status = self.status.as_ref()?;
        let moving = status.down_rate > 0 || !self.is_transferring(status);
        let idle = self.completed.is_some() || self.goal.seed_only || self.over.is_some();
        if moving || idle {
            self.said_why = now;
        }
        if now.duration_since(self.said_why) < WAITING_INTERVAL {
            return None;
        }
        let next = status.next_announce.map(Duration::from_secs).map(duration);
        self.said_why = now;
        let next = next.map_or(String::new(), |time| format!("; next announce in {time}"));
        let peers: Vec<String> = self.peer_errors().collect();
        let peers =
            if peers.is_empty() { String::new() } else { format!(" ({})", peers.join("; ")) };
        Some(self.obstacle() + &peers + &next)
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// When it was over.
    pub(crate) fn over_since(&self) -> Option<Instant> {
        self.over
    }

    /// Whether we have everything that is wanted.
    pub(crate) fn is_complete(&self) -> bool {
        self.completed.is_some()
    }

    /// Whether it is stopped because all is done.
    pub(crate) fn has_reached_goal(&self) -> bool {
        self.reached_goal
    }

    /// Whether there was nothing to do from the beginning.
    pub(crate) fn was_complete(&self) -> bool {
        self.have_at_start.is_some_and(|(have, wanted)| have == wanted)
    }

    /// From being added to being complete, or until now.
    pub(crate) fn elapsed(&self) -> Duration {
        self.completed.unwrap_or_else(Instant::now).duration_since(self.added)
    }

    /// Why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The peers that completed a handshake.
    pub(crate) fn served_by(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.served_by.iter().copied()
    }

    /// How many bytes and pieces are worked for: those wanted, or all when nothing is asked for.
    pub(crate) fn totals(&self, status: &TorrentStatus) -> (u64, u32) {
        if self.goal.seed_only {
            return (self.size, self.metainfo.info().geometry().piece_count());
        }
        (status.bytes_total, status.pieces_total)
    }

    /// The length of all its files in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Its name. Untrusted text.
    pub(crate) fn name(&self) -> &str {
        self.metainfo.info().name()
    }

    /// Its info-hash in hex.
    pub(crate) fn info_hash(&self) -> String {
        self.metainfo.info_hash().to_string()
    }

    /// Sent bytes, of all runs, by the torrent's size.
    pub(crate) fn ratio(&self) -> f64 {
        let sent = self.status.as_ref().map_or(0, |status| status.uploaded + status.earlier.1);
        if self.size == 0 { 0.0 } else { sent as f64 / self.size as f64 }
    }

    /// Peers matter as long as something is wanted of them.
    fn handle_peer(&mut self, address: SocketAddr, state: PeerState, reason: Option<&str>) {
        if self.completed.is_some() || self.goal.seed_only {
            return;
        }
        if state == PeerState::Connected {
            self.served_by.insert(address);
            self.absent_peers.remove(&address);
        } else if self.absent_peers.len() < MAX_ABSENT {
            let reason = reason.unwrap_or("cannot be reached");
            self.absent_peers.insert(address, without_code(reason));
        }
    }

    fn handle_stopped(&mut self, now: Instant, error: Option<&TorrentError>) -> Step {
        if let Some(error) = error
            && self.failure.is_none()
        {
            self.failure = Some(failure_of(error, self.goal));
        }
        self.over.get_or_insert(now);
        Step::Over
    }

    /// Nothing to serve is no state to stay in.
    fn check_serving(&mut self, have: u32) -> Step {
        if !self.goal.seed_only || have > 0 {
            return Step::Go;
        }
        let folder = self.output.parent().unwrap_or(Path::new("."));
        let message = missing_content(&self.metainfo, folder).unwrap_or_else(|| {
            let folder = folder.display();
            format!("no good piece of the torrent in {folder}; bt-cli verify shows each file")
        });
        self.failure = Some(Failure::new(Class::BadData, message));
        Step::Stop
    }

    fn is_transferring(&self, status: &TorrentStatus) -> bool {
        status.phase == PhaseKind::Transfer && self.completed.is_none()
    }

    /// The trackers that are asked.
    fn tracker_urls(&self) -> impl Iterator<Item = &String> {
        self.metainfo.trackers().iter().flatten().take(MAX_TRACKERS)
    }

    fn every_tracker_failed(&self) -> bool {
        self.tracker_urls().all(|url| matches!(self.trackers.get(url), Some(Err(_))))
    }

    /// Whether every tracker answered, or one of each tier did.
    fn every_tracker_spoke(&self) -> bool {
        self.metainfo
            .trackers()
            .iter()
            .any(|tier| tier.iter().any(|url| matches!(self.trackers.get(url), Some(Ok(())))))
            || self.every_tracker_failed()
    }

    fn seeded_enough(&self, now: Instant) -> bool {
        let since = self.completed.unwrap_or(self.added);
        let long_enough = self.goal.seed_time.is_some_and(|time| now.duration_since(since) >= time);
        let sent_enough = self.goal.ratio.is_some_and(|ratio| self.ratio() >= ratio);
        self.status.is_some() && (long_enough || sent_enough)
    }

    fn reason_to_give_up(&self, now: Instant) -> Option<Failure> {
        let status = self.status.as_ref()?;
        let since =
            |start: Option<Instant>| start.map_or(Duration::ZERO, |at| now.duration_since(at));
        if since(self.all_banned) >= BANNED_TIME {
            return Some(bad_data("every peer sent bad data and was banned"));
        }
        if since(self.hopeless) >= HOPELESS_TIME {
            let waited = duration(HOPELESS_TIME);
            let what = format!("no tracker answered and no peer could be reached for {waited}");
            return Some(self.stalled(&what, status));
        }
        let stalled = self.is_transferring(status).then_some(status.since_last_piece);
        if let Some((limit, _)) = self.goal.stall_timeout.zip(stalled).filter(|(a, b)| b >= a) {
            let what = format!("no piece arrived for {}", duration(limit));
            return Some(self.stalled(&what, status));
        }
        let limit = self.goal.timeout.filter(|limit| now.duration_since(self.added) >= *limit)?;
        let what = format!("not finished after {}: {}", duration(limit), self.reached(status));
        if status.down_rate == 0 {
            return Some(self.stalled(&what, status));
        }
        let speed = rate(status.down_rate);
        let message = format!("{what}, downloading at {speed}; run it again to resume");
        Some(Failure::new(Class::Network, message))
    }

    /// How much of what is wanted we have.
    fn reached(&self, status: &TorrentStatus) -> String {
        let (done, total) = (status.bytes_done, status.bytes_total);
        let percent = percent(done, total);
        let (pieces, done, total) = (status.pieces_done, size(done), size(total));
        let all = count(status.pieces_total, "piece", "pieces");
        format!("{percent}% done ({pieces} of {all}, {done} of {total})")
    }

    /// The failure of a torrent without progress. Its class depends on the peers so far.
    fn stalled(&self, what: &str, status: &TorrentStatus) -> Failure {
        if status.peers_banned > 0 && status.peers_connected == 0 {
            return bad_data(&format!("{what}; every peer so far sent bad data"));
        }
        let failure = Failure::new(Class::Network, format!("{what}; {}", self.obstacle()));
        failure.because(self.tracker_errors().chain(self.peer_errors()))
    }

    /// Returns in a few words why the torrent makes no progress, and what the user can do.
    fn obstacle(&self) -> String {
        let Some(status) = &self.status else { return "nothing is known yet".to_owned() };
        let peers = match (status.peers_connected, status.peers_known) {
            (0, 0) => "no peer is known".to_owned(),
            (0, 1) => "not connected to the only known peer".to_owned(),
            (0, known) => format!("not connected to any of the {known} known peers"),
            (connected, _) => {
                let peers = count(connected, "peer is connected", "peers are connected");
                return format!("{peers}, but no data arrives");
            }
        };
        if self.tracker_urls().next().is_none() {
            // The session ignores --peer for a private torrent.
            if self.metainfo.info().private() {
                return format!("{peers}; {PRIVATE_WITHOUT_TRACKER}: {GET_IT_AGAIN}");
            }
            let which = if self.has_peers { "another peer" } else { "a peer" };
            format!("{peers}, and the torrent names no tracker; name {which} with --peer")
        } else if self.trackers.is_empty() {
            format!("{peers}, and no tracker has answered yet")
        } else {
            peers
        }
    }

    fn tracker_errors(&self) -> impl Iterator<Item = String> {
        let failed =
            self.trackers.iter().filter_map(|(url, result)| Some((url, result.as_ref().err()?)));
        let failed =
            failed.map(|(url, error)| format!("{}: {error}", tracker_http::shorten_url(url)));
        failed.chain(self.silent_trackers())
    }

    /// A line for each tracker without a reply. Once one has answered, the others are not asked.
    fn silent_trackers(&self) -> impl Iterator<Item = String> {
        let has_answer = self.trackers.values().any(Result::is_ok);
        let is_silent = |url: &&String| !has_answer && !self.trackers.contains_key(*url);
        // A torrent may name a tracker in several tiers.
        let silent: BTreeSet<&String> = self.tracker_urls().filter(is_silent).collect();
        silent.into_iter().map(|url| format!("{}: no answer yet", tracker_http::shorten_url(url)))
    }

    fn peer_errors(&self) -> impl Iterator<Item = String> {
        let peers = self.absent_peers.iter().take(SHOWN_PEERS);
        peers.map(|(address, reason)| format!("{address}: {reason}"))
    }
}

/// How many absent peers are named.
const SHOWN_PEERS: usize = 3;
/// How many absent peers are kept in mind: as many as a swarm knows.
const MAX_ABSENT: usize = 10_000;

fn failure_of(error: &TorrentError, goal: Goal) -> Failure {
    let message = error.message.clone();
    // A seed-only torrent has no such flag: its folder is an argument.
    let flag = if error.advises_other_folder && !goal.seed_only { " (-o)" } else { "" };
    match error.class {
        ErrorClass::Disk | ErrorClass::InUse => Failure::new(Class::Disk, message + flag),
        ErrorClass::UnrelatedFile => Failure::new(Class::Disk, message + " (--overwrite)"),
        _ => Failure::new(Class::Failure, message),
    }
}

fn bad_data(what: &str) -> Failure {
    Failure::new(Class::BadData, format!("{what}; find other peers, then run it again"))
}
