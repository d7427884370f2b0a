//! What a session reports: events as they happen, and snapshots of the whole state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{InfoHashV1, PieceIndex, TrackerPeer};
use metainfo::{Metainfo, Naming};
use piece_store::TorrentKey;
use swarm::Source;

/// Something that happened to one torrent.
///
/// *Lasting* kinds ([`EventKind::MetadataReceived`], [`EventKind::Started`], [`EventKind::Completed`], [`EventKind::Stopped`])
/// always arrive; the others are dropped, and counted in [`TorrentStatus::events_dropped`], while
/// the caller does not take events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The torrent it happened to.
    pub torrent: TorrentKey,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The metadata of a link is there, and its hash is right. If
    /// [`AddTorrent::await_selection`](crate::AddTorrent::await_selection) is set, the torrent waits.
    MetadataReceived(Arc<Metainfo>),
    /// What is on the disk is known; the transfer begins.
    Started {
        /// Wanted pieces that we have.
        have: u32,
        /// Pieces that are wanted, whether we have them or not.
        wanted: u32,
        /// How the torrent's files are named on disk.
        naming: Naming,
    },
    /// Data found on the disk is being verified.
    Checking {
        /// Pieces verified so far.
        done: u32,
        /// Pieces to verify.
        total: u32,
    },
    /// A piece was received, verified and written.
    PieceVerified(PieceIndex),
    /// A piece was received and its hash was wrong.
    PieceFailed(PieceIndex),
    /// A peer came, went or could not be reached.
    Peer {
        /// Its address.
        address: SocketAddr,
        /// Where the address came from.
        source: Source,
        /// What happened.
        state: PeerState,
        /// Why, if there is a reason.
        reason: Option<String>,
    },
    /// A tracker answered, or failed to.
    Tracker {
        /// Its URL, as the torrent has it.
        url: String,
        /// Its answer, or the error.
        result: Result<TrackerReport, String>,
    },
    /// Something the user should know. The torrent goes on.
    Warning(String),
    /// Every wanted piece is verified, written and synced.
    Completed,
    /// The torrent is no longer active.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

impl EventKind {
    /// Whether this kind is kept until the caller takes it.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::MetadataReceived(_)
            | Self::Started { .. }
            | Self::Completed
            | Self::Stopped { .. } => true,
            Self::Checking { .. }
            | Self::PieceVerified(_)
            | Self::PieceFailed(_)
            | Self::Peer { .. }
            | Self::Tracker { .. }
            | Self::Warning(_) => false,
        }
    }
}

/// What happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// The handshake is complete.
    Connected,
    /// The connection ended.
    Disconnected,
    /// No connection, or no handshake.
    Failed,
    /// It sent bad data and is not connected to again.
    Banned,
}

/// What a tracker answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerReport {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Peers that have everything.
    pub seeders: Option<u32>,
    /// Peers that lack something.
    pub leechers: Option<u32>,
    /// A message of the tracker for the user. Untrusted text.
    pub warning: Option<String>,
    /// The peers. While the caller holds very many of them, in events that it has kept or not
    /// taken, answers with more are dropped like passing events.
    pub peers: Arc<Vec<TrackerPeer>>,
}

/// Why a torrent stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The caller asked for it.
    Asked,
    /// It is complete, or has seeded enough: [`crate::AddTorrent::goal`].
    Done,
    /// Nothing more can be expected of it.
    GaveUp {
        /// Why.
        why: GiveUp,
        /// The state before the stop.
        before: Box<TorrentStatus>,
    },
    /// It cannot go on.
    Failed(TorrentError),
}

/// Why the session gives a torrent up. The durations are the limits that were reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// Every known peer is banned, and no further tracker is asked.
    AllBanned,
    /// Every tracker failed, and no known peer could be reached.
    Unreachable(Duration),
    /// No peer sent the metadata of a link.
    NoMetadata(Duration),
    /// No piece was verified.
    Stalled(Duration),
    /// The download is not complete.
    TimedOut(Duration),
    /// A seed-only torrent has no piece.
    NothingToSeed,
}

/// What went wrong with a torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TorrentError {
    /// The kind of error.
    pub class: ErrorClass,
    /// What went wrong, where, and what to do next.
    pub message: String,
    /// Whether the message ends with the advice to choose another folder.
    pub advises_other_folder: bool,
}

/// The kind of error that stopped a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The disk failed.
    Disk,
    /// An unrelated file is in the place of one of the torrent's.
    /// [`crate::AddTorrent::overwrite`] allows to overwrite it.
    UnrelatedFile,
    /// Another process works on the same torrent and folder, or another torrent writes to a file.
    InUse,
    /// The metadata of a link is no torrent that this program can transfer.
    BadTorrent,
    /// A bug in the session.
    Internal,
}

/// The state of one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorrentStatus {
    /// The torrent.
    pub torrent: TorrentKey,
    /// Its info-hash.
    pub info_hash: InfoHashV1,
    /// Its name; of a link without one, the info-hash. Untrusted text.
    pub name: String,
    /// What it is doing.
    pub phase: PhaseKind,
    /// The length of all its files in bytes; 0 as long as it is not known.
    pub size: u64,
    /// Wanted bytes that we have.
    pub bytes_done: u64,
    /// Wanted bytes.
    pub bytes_total: u64,
    /// Wanted pieces that we have.
    pub pieces_done: u32,
    /// Wanted pieces.
    pub pieces_total: u32,
    /// How far the metadata is, while it is fetched.
    pub metadata: Option<MetadataStatus>,
    /// Pieces verified so far and to verify, while checking.
    pub checked: (u32, u32),
    /// Payload received in this launch, in bytes.
    pub downloaded: u64,
    /// Payload sent in this launch, in bytes.
    pub uploaded: u64,
    /// Payload received and sent in earlier launches, by the journal.
    pub earlier: (u64, u64),
    /// Payload received per second.
    pub down_rate: u64,
    /// Payload sent per second.
    pub up_rate: u64,
    /// Peers with a complete handshake.
    pub peers_connected: usize,
    /// Peers known.
    pub peers_known: usize,
    /// Peers banned for bad data.
    pub peers_banned: usize,
    /// Nodes of the DHT that answered; `None` if it is off or was not needed yet.
    pub nodes: Option<usize>,
    /// Seconds left at the present rate.
    pub seconds_left: Option<u64>,
    /// The trackers that are asked, tier after tier.
    pub trackers: Vec<TrackerStatus>,
    /// When the next announce is due, in seconds from now.
    pub next_announce: Option<u64>,
    /// Passing events that were dropped, all torrents together.
    pub events_dropped: u64,
    /// The sum of the high-water marks of the session's buffers, in bytes: payload, buffers that
    /// are always taken (receiving, hashing, queues), and messages.
    pub buffers_peak: u64,
}

impl TorrentStatus {
    /// The bytes uploaded, in this launch and earlier ones, divided by the torrent's size.
    pub fn ratio(&self) -> f64 {
        ratio(self.uploaded + self.earlier.1, self.size)
    }

    /// Whether we have every wanted piece.
    pub fn is_complete(&self) -> bool {
        self.pieces_done == self.pieces_total
            && matches!(self.phase, PhaseKind::Transfer | PhaseKind::Stopped)
    }
}

/// Returns the ratio of a torrent of `size` bytes of which `uploaded` were uploaded.
pub(crate) fn ratio(uploaded: u64, size: u64) -> f64 {
    if size == 0 { 0.0 } else { uploaded as f64 / size as f64 }
}

/// The state of one tracker of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerStatus {
    /// Its URL, as the torrent has it.
    pub url: String,
    /// Whether the last announce succeeded; `None` as long as it has neither answered nor failed.
    pub result: Option<Result<(), String>>,
}

/// How far the metadata of a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataStatus {
    /// Pieces of the metadata that arrived.
    pub pieces_done: u32,
    /// Pieces of the metadata, by what peers say; 0 as long as none says so.
    pub pieces_total: u32,
    /// Connected peers that offer the metadata.
    pub peers: usize,
}

/// What a torrent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseKind {
    /// Its metadata is fetched from peers, or it waits for the selection of files.
    Metadata,
    /// Its files and journal are being opened.
    Opening,
    /// Data on the disk is being verified.
    Checking,
    /// Pieces come and go.
    Transfer,
    /// It syncs, closes and announces `stopped`.
    Stopping,
    /// It does nothing.
    Stopped,
}
