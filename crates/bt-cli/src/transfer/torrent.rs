//! One torrent of a command: its state, its failure, and why it makes no progress.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metainfo::{Magnet, Metainfo, Naming};
use session::{
    AddTorrent, Description, ErrorClass, EventKind, GiveUp, PeerState, PhaseKind, StopReason,
    TorrentError, TorrentKey, TorrentStatus,
};

use super::advice::{GET_IT_AGAIN, PRIVATE_WITHOUT_TRACKER, advice};
use super::setup::output_path;
use super::tracker_results;
use crate::content::{content_path, missing_content};
use crate::failure::{Class, Failure, without_code};
use crate::output::{count, duration, percent, rate, size};

/// The longest time until advice is printed, even while files are still being checked.
const ADVICE_DELAY: Duration = Duration::from_millis(500);
/// How often the user is shown why a torrent makes no progress.
const WAITING_INTERVAL: Duration = Duration::from_secs(30);
/// How many absent peers a message names.
const SHOWN_PEERS: usize = 3;
/// How many absent peers are remembered.
const MAX_ABSENT: usize = 100;

/// One torrent of a command.
pub(crate) struct Torrent {
    pub(crate) key: TorrentKey,
    pub(crate) description: Description,
    name: String,
    /// The link, if it was added as one.
    link: Option<Arc<Magnet>>,
    /// The file that keeps the metadata of the link for later launches.
    saved_as: Option<PathBuf>,
    /// The path of its file or folder, or of the single piece; before the metadata is there, the
    /// folder to download into.
    pub(crate) output: PathBuf,
    pub(crate) status: Option<TorrentStatus>,
    stop_when_complete: bool,
    pub(crate) seed_only: bool,
    added: Instant,
    /// Pieces that we had and that were wanted when the transfer started.
    at_start: Option<(u32, u32)>,
    completed: Option<Instant>,
    over: Option<Instant>,
    failure: Option<Failure>,
    /// Whether everything that the user asked for is done.
    reached_goal: bool,
    /// The addresses on which peers can connect to us.
    pub(crate) listen: Box<[SocketAddr]>,
    /// Whether the user named peers.
    has_peers: bool,
    served_by: BTreeSet<SocketAddr>,
    /// Peers that could not be reached or have left, and why.
    absent_peers: BTreeMap<SocketAddr, String>,
    /// When the user last saw progress, or why there is none.
    said_why: Instant,
    /// What [`Self::take_advice`] will return.
    advice: Vec<String>,
    /// The length of all files in bytes.
    size: u64,
}

impl Torrent {
    /// Returns a torrent that was just added. `listen` has the addresses that we listen on.
    pub(super) fn new(key: TorrentKey, order: &AddTorrent, listen: Box<[SocketAddr]>) -> Self {
        let now = Instant::now();
        let link = match &order.description {
            Description::Metainfo(_) => None,
            Description::Link(link) => Some(Arc::clone(link)),
        };
        let size = order.description.metainfo().map_or(0, |it| it.info().content_size());
        Self {
            key,
            output: output_path(order),
            status: None,
            stop_when_complete: order.goal.as_ref().is_some_and(|goal| goal.stop_when_complete),
            seed_only: order.seed_only,
            added: now,
            at_start: None,
            completed: None,
            over: None,
            failure: None,
            reached_goal: false,
            has_peers: !order.peers.is_empty()
                || link.as_ref().is_some_and(|it| !it.peers.is_empty()),
            served_by: BTreeSet::new(),
            absent_peers: BTreeMap::new(),
            said_why: now,
            advice: advice(order, &listen),
            size,
            listen,
            name: order.description.name(),
            description: order.description.clone(),
            link,
            saved_as: None,
        }
    }

    /// The metadata is there.
    fn set_metainfo(&mut self, metainfo: &Arc<Metainfo>) {
        self.output = content_path(metainfo, &self.output);
        self.size = metainfo.info().content_size();
        self.name = metainfo.info().name().to_owned();
        self.description = Description::Metainfo(Arc::clone(metainfo));
    }

    /// Corrects `output` if the torrent's file or folder has another name on disk than usual.
    fn name_output(&mut self, naming: Naming) {
        let Some(metainfo) = self.description.metainfo() else { return };
        let info = metainfo.info();
        let is_chosen = self.output.file_name() != Some(OsStr::new(info.disk_name()));
        if is_chosen || info.has_plain_names() {
            return;
        }
        let paths = info.disk_paths(naming);
        if let Some(name) = paths.first().and_then(|path| path.iter().next()) {
            self.output.set_file_name(name);
        }
    }

    /// Takes an event of this torrent.
    pub(crate) fn handle_event(&mut self, now: Instant, event: &EventKind) {
        match event {
            EventKind::MetadataReceived(metainfo) => self.set_metainfo(metainfo),
            EventKind::Started { have, wanted, naming } => {
                self.name_output(*naming);
                self.at_start = Some((*have, *wanted));
                self.said_why = now;
            }
            EventKind::Peer { address, state, reason, .. } => {
                self.handle_peer(*address, *state, reason.as_deref());
            }
            EventKind::Completed if self.completed.is_none() && !self.seed_only => {
                self.completed = Some(now);
            }
            EventKind::Stopped { reason } => self.handle_stopped(now, reason),
            EventKind::Completed
            | EventKind::Checking { .. }
            | EventKind::PieceVerified(_)
            | EventKind::PieceFailed(_)
            | EventKind::Tracker { .. }
            | EventKind::Warning(_) => {}
        }
    }

    /// Returns the advice once: when the transfer has started, or after [`ADVICE_DELAY`] at the
    /// latest. Before and after that the list is empty, as it is for a torrent that is over, or
    /// that was complete and stops when complete.
    pub(crate) fn take_advice(&mut self, now: Instant) -> Vec<String> {
        let late = now.duration_since(self.added) >= ADVICE_DELAY;
        if self.at_start.is_none() && !late {
            return Vec::new();
        }
        let advice = std::mem::take(&mut self.advice);
        let is_idle = self.was_complete() && self.stop_when_complete;
        if is_idle || self.over.is_some() { Vec::new() } else { advice }
    }

    /// Returns at intervals why a download makes no progress.
    pub(crate) fn why_waiting(&mut self, now: Instant) -> Option<String> {
        let status = self.status.as_ref()?;
        let waits = matches!(status.phase, PhaseKind::Metadata | PhaseKind::Transfer);
        let moving = status.down_rate > 0 || !waits;
        let idle = self.completed.is_some() || self.seed_only || self.over.is_some();
        if moving || idle {
            self.said_why = now;
        }
        if now.duration_since(self.said_why) < WAITING_INTERVAL {
            return None;
        }
        self.said_why = now;
        let next = status.next_announce.map(Duration::from_secs).map(duration);
        let next = next.map_or(String::new(), |time| format!("; next announce in {time}"));
        let peers: Vec<String> = self.peer_errors().collect();
        let peers =
            if peers.is_empty() { String::new() } else { format!(" ({})", peers.join("; ")) };
        let why = match status.metadata {
            Some(_) => format!("no metadata yet; {}", asked(status)),
            None => self.obstacle(status),
        };
        Some(why + &peers + &next)
    }

    /// Whether it has stopped.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Returns when it stopped.
    pub(crate) fn over_since(&self) -> Option<Instant> {
        self.over
    }

    /// Whether the download is complete. Always false for a seed-only torrent.
    pub(crate) fn is_complete(&self) -> bool {
        self.completed.is_some()
    }

    /// Whether everything that the user asked for is done.
    pub(crate) fn has_reached_goal(&self) -> bool {
        self.reached_goal
    }

    /// Whether all wanted pieces were there when the transfer started.
    pub(crate) fn was_complete(&self) -> bool {
        self.at_start.is_some_and(|(have, wanted)| have == wanted)
    }

    /// Returns the time from its start to its completion, or to now.
    pub(crate) fn elapsed(&self) -> Duration {
        self.completed.unwrap_or_else(Instant::now).duration_since(self.added)
    }

    /// Returns why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Returns the peers that completed a handshake.
    pub(crate) fn served_by(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.served_by.iter().copied()
    }

    /// Returns how many bytes and pieces are wanted. A seed-only torrent wants all.
    pub(crate) fn totals(&self, status: &TorrentStatus) -> (u64, u32) {
        if self.seed_only {
            return (self.size, self.piece_count());
        }
        (status.bytes_total, status.pieces_total)
    }

    /// Returns the length of all its files in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how many pieces it has; 0 as long as that is not known.
    pub(crate) fn piece_count(&self) -> u32 {
        let metainfo = self.description.metainfo();
        metainfo.map_or(0, |metainfo| metainfo.info().geometry().piece_count())
    }

    /// Returns its name; of a link without one, the info-hash. Untrusted text.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the link that it was added as.
    pub(crate) fn link(&self) -> Option<&Magnet> {
        self.link.as_deref()
    }

    /// Returns the file that keeps the metadata of the link for later launches.
    pub(crate) fn saved_as(&self) -> Option<&Path> {
        self.saved_as.as_deref()
    }

    pub(super) fn set_saved_as(&mut self, path: Option<PathBuf>) {
        self.saved_as = path;
    }

    /// Notes that everything is done that the user asked for.
    pub(super) fn set_reached_goal(&mut self) {
        self.reached_goal = true;
    }

    /// Notes why it cannot go on.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Returns its info-hash in hex.
    pub(crate) fn info_hash(&self) -> String {
        self.description.info_hash().to_string()
    }

    /// Records which peers have connected and which are absent, while the torrent downloads.
    fn handle_peer(&mut self, address: SocketAddr, state: PeerState, reason: Option<&str>) {
        if self.completed.is_some() || self.seed_only {
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

    fn handle_stopped(&mut self, now: Instant, reason: &StopReason) {
        self.over.get_or_insert(now);
        match reason {
            StopReason::Asked => {}
            StopReason::Done => self.reached_goal = true,
            StopReason::GaveUp { why, before } => self.failure = Some(self.given_up(*why, before)),
            StopReason::Failed(error) => self.failure = Some(failure_of(error, self.seed_only)),
        }
    }

    /// Returns the failure of a torrent that was given up in the state `status`.
    fn given_up(&self, why: GiveUp, status: &TorrentStatus) -> Failure {
        match why {
            GiveUp::AllBanned => bad_data("every peer sent bad data and was banned"),
            GiveUp::Unreachable(limit) => {
                let limit = duration(limit);
                let what = format!("no tracker answered and no peer could be reached for {limit}");
                self.stalled(&what, status)
            }
            GiveUp::NoMetadata(limit) => {
                self.no_metadata(&format!("no metadata after {}", duration(limit)), status)
            }
            GiveUp::Stalled(limit) => {
                self.stalled(&format!("no piece arrived for {}", duration(limit)), status)
            }
            GiveUp::TimedOut(limit) => self.timed_out(limit, status),
            GiveUp::NothingToSeed => self.nothing_to_seed(),
        }
    }

    /// Returns the failure of a link whose metadata did not come, with what was tried.
    fn no_metadata(&self, what: &str, status: &TorrentStatus) -> Failure {
        let failure = Failure::new(Class::Network, format!("{what}; {}", asked(status)));
        failure.because(
            tracker_results::errors(&status.trackers).into_iter().chain(self.peer_errors()),
        )
    }

    fn nothing_to_seed(&self) -> Failure {
        let folder = self.output.parent().unwrap_or(Path::new("."));
        let missing = self.description.metainfo().and_then(|it| missing_content(it, folder));
        let message = missing.unwrap_or_else(|| {
            let folder = folder.display();
            format!("no good piece of the torrent in {folder}; bt-cli verify shows each file")
        });
        Failure::new(Class::BadData, message)
    }

    fn timed_out(&self, limit: Duration, status: &TorrentStatus) -> Failure {
        if status.metadata.is_some() {
            let what = format!("not finished after {}: no metadata", duration(limit));
            return self.no_metadata(&what, status);
        }
        let what = format!("not finished after {}: {}", duration(limit), reached(status));
        if status.down_rate == 0 {
            return self.stalled(&what, status);
        }
        let speed = rate(status.down_rate);
        let message = format!("{what}, downloading at {speed}; run it again to resume");
        Failure::new(Class::Network, message)
    }

    /// Returns the failure of a torrent without progress: bad data if the peers were banned, else
    /// network.
    fn stalled(&self, what: &str, status: &TorrentStatus) -> Failure {
        if status.metadata.is_some() {
            return self.no_metadata(&format!("no metadata: {what}"), status);
        }
        if status.peers_banned > 0 && status.peers_connected == 0 {
            let why = "peers were banned for bad data, and no other is connected";
            return bad_data(&format!("{what}; {why}"));
        }
        let failure = Failure::new(Class::Network, format!("{what}; {}", self.obstacle(status)));
        failure.because(
            tracker_results::errors(&status.trackers).into_iter().chain(self.peer_errors()),
        )
    }

    /// Describes why the torrent makes no progress, and what the user can do.
    fn obstacle(&self, status: &TorrentStatus) -> String {
        let peers = match (status.peers_connected, status.peers_known) {
            (0, 0) => "no peer is known".to_owned(),
            (0, 1) => "not connected to the only known peer".to_owned(),
            (0, known) => format!("not connected to any of the {known} known peers"),
            (connected, _) => {
                let peers = count(connected, "peer is connected", "peers are connected");
                return format!("{peers}, but no data arrives");
            }
        };
        if status.trackers.is_empty() {
            // The session ignores --peer for a private torrent.
            if self.description.metainfo().is_some_and(|it| it.info().private()) {
                return format!("{peers}; {PRIVATE_WITHOUT_TRACKER}: {GET_IT_AGAIN}");
            }
            let which = if self.has_peers { "another peer" } else { "a peer" };
            let unnamed = match status.nodes {
                Some(nodes) if nodes > 0 => {
                    let nodes = count(nodes, "node of the DHT was", "nodes of the DHT were");
                    format!("the torrent names no tracker, and {nodes} asked")
                }
                _ => "and the torrent names no tracker".to_owned(),
            };
            format!("{peers}, {unnamed}; name {which} with --peer")
        } else if status.trackers.iter().all(|tracker| tracker.result.is_none()) {
            format!("{peers}, and no tracker has answered yet")
        } else {
            peers
        }
    }

    fn peer_errors(&self) -> impl Iterator<Item = String> {
        let peers = self.absent_peers.iter().take(SHOWN_PEERS);
        peers.map(|(address, reason)| format!("{address}: {reason}"))
    }
}

/// Describes who was asked for the metadata of a link.
fn asked(status: &TorrentStatus) -> String {
    let metadata = status.metadata.unwrap_or_default();
    let offering = match metadata.peers {
        0 => "none of them has the metadata".to_owned(),
        1 => "one of them offers the metadata".to_owned(),
        count => format!("{count} of them offer the metadata"),
    };
    let trackers = match status.trackers.len() {
        0 => "no tracker".to_owned(),
        trackers => count(trackers, "tracker", "trackers"),
    };
    let trackers = match status.nodes {
        Some(0) => format!("{trackers} and no node of the DHT"),
        Some(nodes) => {
            format!("{trackers} and {}", count(nodes, "node of the DHT", "nodes of the DHT"))
        }
        None => trackers,
    };
    let known = count(status.peers_known, "peer is known", "peers are known");
    match (status.peers_known, status.peers_connected) {
        (0, _) => format!("asked {trackers}: no peer is known; name one with --peer"),
        (_, 0) => format!("asked {trackers}: {known}, none is connected"),
        (_, connected) => format!("asked {trackers}: {known}, {connected} connected, {offering}"),
    }
}

/// Describes how much of the wanted data we have.
fn reached(status: &TorrentStatus) -> String {
    let (done, total) = (status.bytes_done, status.bytes_total);
    let percent = percent(done, total);
    let (pieces, done, total) = (status.pieces_done, size(done), size(total));
    let all = count(status.pieces_total, "piece", "pieces");
    format!("{percent}% done ({pieces} of {all}, {done} of {total})")
}

fn failure_of(error: &TorrentError, seed_only: bool) -> Failure {
    let message = error.message.clone();
    // A seed-only torrent has no such flag: its folder is an argument.
    let flag = if error.advises_other_folder && !seed_only { " (-o)" } else { "" };
    match error.class {
        ErrorClass::Disk | ErrorClass::InUse => Failure::new(Class::Disk, message + flag),
        ErrorClass::UnrelatedFile => Failure::new(Class::Disk, message + " (--overwrite)"),
        ErrorClass::BadTorrent => Failure::new(Class::BadTorrent, message),
        ErrorClass::Internal => Failure::new(Class::Failure, message),
    }
}

fn bad_data(what: &str) -> Failure {
    Failure::new(Class::BadData, format!("{what}; find other peers, then run it again"))
}
