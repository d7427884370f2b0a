//! Snapshots of where torrents stand.

use bt_types::{Bitfield, PieceIndex};
use metainfo::Info;
use piece_store::TorrentKey;
use swarm::{Pieces, Swarm};

use super::Core;
use super::torrent::{Phase, Torrent};
use crate::event::{PhaseKind, TorrentStatus};

impl<F> Core<F> {
    /// Where every torrent stands, in the order they were added.
    pub fn status(&self) -> Vec<TorrentStatus> {
        self.torrents.keys().filter_map(|key| self.status_of(*key)).collect()
    }

    /// Where one torrent stands.
    pub fn status_of(&self, key: TorrentKey) -> Option<TorrentStatus> {
        let torrent = self.torrents.get(&key)?;
        let mut status = match (&torrent.phase, &torrent.last_status) {
            (Phase::Stopping(_) | Phase::Stopped, Some(last)) => TorrentStatus::clone(last),
            _ => self.measure(torrent),
        };
        status.phase = phase_kind(&torrent.phase);
        status.events_dropped = self.events_dropped;
        status.buffers_peak =
            (self.config.fixed_memory + self.buffers.peak() + self.messages_peak) as u64;
        if matches!(torrent.phase, Phase::Stopping(_) | Phase::Stopped) {
            (status.down_rate, status.up_rate, status.peers_connected) = (0, 0, 0);
        }
        Some(status)
    }

    fn measure(&self, torrent: &Torrent) -> TorrentStatus {
        let mut status = empty(torrent);
        match &torrent.phase {
            Phase::Checking(check) => {
                status.checked = (check.done, check.total);
                status.take(torrent.progress);
            }
            Phase::Transfer(swarm) => self.measure_swarm(&mut status, torrent, swarm),
            _ => {}
        }
        status
    }

    fn measure_swarm(&self, status: &mut TorrentStatus, torrent: &Torrent, swarm: &Swarm) {
        if let Some(pieces) = swarm.pieces() {
            status.take(torrent.progress.of_swarm(pieces));
        }
        status.downloaded = swarm.downloaded();
        status.uploaded = swarm.uploaded();
        status.down_rate = swarm.down_rate();
        status.up_rate = swarm.up_rate();
        status.peers_connected = swarm.peers_connected();
        status.peers_known = swarm.peers_known();
        status.peers_banned = swarm.peers_banned();
        status.seconds_left =
            (status.bytes_total - status.bytes_done).checked_div(swarm.down_rate());
        status.since_last_piece = self.now.saturating_sub(torrent.last_piece_at);
        for tracker in swarm.trackers() {
            let asked = tracker.replied || tracker.error.is_some();
            let next = tracker.next_announce.saturating_sub(self.now).as_secs();
            if asked && status.next_announce.is_none_or(|at| next < at) {
                status.next_announce = Some(next);
            }
            match tracker.error {
                Some(error) => status.trackers.push((tracker.url, Err(error))),
                None if tracker.replied => status.trackers.push((tracker.url, Ok(()))),
                None => {}
            }
        }
    }
}

/// How much of what is wanted we have. Padding (BEP 47) is not counted: it is no data of the
/// user's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pieces: u32,
    pieces_total: u32,
    bytes: u64,
    bytes_total: u64,
    /// Padding in wanted pieces that are missing, which the swarm counts among the bytes left.
    padding_left: u64,
}

impl Progress {
    /// We have nothing and everything is wanted.
    pub(super) fn nothing_of(info: &Info) -> Self {
        let (pieces_total, bytes_total) = (info.geometry().piece_count(), info.content_size());
        let padding_left = info.geometry().total() - bytes_total;
        Self { pieces: 0, pieces_total, bytes: 0, bytes_total, padding_left }
    }

    /// Looks at every piece, so not for a snapshot.
    pub(super) fn of(info: &Info, wanted: &Bitfield, have: &Bitfield) -> Self {
        let geometry = info.geometry();
        let has_padding = info.content_size() != geometry.total();
        let mut progress =
            Self { pieces: 0, pieces_total: 0, bytes: 0, bytes_total: 0, padding_left: 0 };
        for piece in wanted.iter().filter_map(|index| geometry.piece(index)) {
            let padding = if has_padding { info.padding_in(piece) } else { 0 };
            progress.pieces_total += 1;
            progress.bytes_total += u64::from(geometry.length_of(piece) - padding);
            progress.padding_left += u64::from(padding);
            if have.contains(piece) {
                progress.gain(info, piece);
            }
        }
        progress
    }

    /// We have a wanted piece more.
    pub(super) fn gain(&mut self, info: &Info, piece: PieceIndex) {
        let padding = if self.padding_left > 0 { info.padding_in(piece) } else { 0 };
        self.pieces += 1;
        self.bytes += u64::from(info.geometry().length_of(piece) - padding);
        self.padding_left = self.padding_left.saturating_sub(padding.into());
    }

    /// Where the swarm stands now, which wants what was wanted when the totals were counted.
    fn of_swarm(self, pieces: &Pieces) -> Self {
        let left = pieces.left().saturating_sub(self.padding_left);
        Self {
            pieces: self.pieces_total.saturating_sub(pieces.missing()),
            bytes: self.bytes_total.saturating_sub(left),
            ..self
        }
    }
}

impl TorrentStatus {
    fn take(&mut self, progress: Progress) {
        (self.pieces_done, self.pieces_total) = (progress.pieces, progress.pieces_total);
        (self.bytes_done, self.bytes_total) = (progress.bytes, progress.bytes_total);
    }
}

fn empty(torrent: &Torrent) -> TorrentStatus {
    TorrentStatus {
        torrent: torrent.key,
        info_hash: torrent.info_hash(),
        name: torrent.add.metainfo.info().name().to_owned(),
        phase: PhaseKind::Opening,
        bytes_done: 0,
        bytes_total: torrent.progress.bytes_total,
        pieces_done: 0,
        pieces_total: torrent.geometry().piece_count(),
        checked: (0, 0),
        downloaded: 0,
        uploaded: 0,
        earlier: torrent.earlier,
        down_rate: 0,
        up_rate: 0,
        peers_connected: 0,
        peers_known: 0,
        peers_banned: 0,
        seconds_left: None,
        trackers: Vec::new(),
        next_announce: None,
        since_last_piece: std::time::Duration::ZERO,
        events_dropped: 0,
        buffers_peak: 0,
    }
}

fn phase_kind(phase: &Phase) -> PhaseKind {
    match phase {
        Phase::Opening => PhaseKind::Opening,
        Phase::Checking(_) => PhaseKind::Checking,
        Phase::Transfer(_) => PhaseKind::Transfer,
        Phase::Stopping(_) => PhaseKind::Stopping,
        Phase::Stopped => PhaseKind::Stopped,
    }
}
