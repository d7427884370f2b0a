//! Snapshots of one torrent.

use std::time::Duration;

use swarm::Swarm;

use super::phase::{Phase, Torrent};
use super::progress::Progress;
use super::transfer::Transfer;
use crate::event::{PhaseKind, TorrentStatus, TrackerStatus};

impl Torrent {
    /// The state of the torrent, without the figures of the whole session.
    pub(crate) fn status(&self, now: Duration) -> TorrentStatus {
        let before_stop = match &self.phase {
            Phase::Stopping(stopping) => Some(&stopping.status),
            Phase::Stopped(status) => status.as_ref(),
            Phase::Metadata(_) | Phase::Opening(_) | Phase::Checking(_) | Phase::Transfer(_) => {
                None
            }
        };
        let mut status = match before_stop {
            Some(status) => TorrentStatus::clone(status),
            None => {
                let mut status = self.measure();
                if let Some(swarm) = self.swarm() {
                    measure_swarm(swarm, now, &mut status);
                }
                status
            }
        };
        status.phase = self.phase_kind();
        if before_stop.is_some() {
            (status.down_rate, status.up_rate, status.peers_connected) = (0, 0, 0);
        }
        status
    }

    fn measure(&self) -> TorrentStatus {
        match &self.phase {
            Phase::Metadata(metadata) => {
                let mut status = self.empty(Progress::default());
                status.metadata = Some(metadata.status());
                status
            }
            Phase::Checking(check) => {
                let mut status = self.empty(check.progress);
                status.checked = (check.done, check.total);
                status
            }
            Phase::Transfer(transfer) => {
                let mut status = self.empty(transfer.progress);
                transfer.measure(&mut status);
                status
            }
            Phase::Opening(_) | Phase::Stopping(_) | Phase::Stopped(_) => {
                let metainfo = self.add.description.metainfo();
                self.empty(metainfo.map_or_else(Progress::default, |metainfo| {
                    Progress::nothing_of(metainfo.info())
                }))
            }
        }
    }

    fn empty(&self, progress: Progress) -> TorrentStatus {
        TorrentStatus {
            torrent: self.key,
            info_hash: self.info_hash(),
            name: self.add.description.name(),
            phase: self.phase_kind(),
            size: self.size(),
            metadata: None,
            bytes_done: progress.bytes,
            bytes_total: progress.bytes_total,
            pieces_done: progress.pieces,
            pieces_total: progress.pieces_total,
            checked: (0, 0),
            downloaded: 0,
            uploaded: 0,
            earlier: self.earlier,
            down_rate: 0,
            up_rate: 0,
            peers_connected: 0,
            peers_known: 0,
            peers_banned: 0,
            nodes: None,
            seconds_left: None,
            trackers: Vec::new(),
            next_announce: None,
            events_dropped: 0,
            buffers_peak: 0,
        }
    }

    fn phase_kind(&self) -> PhaseKind {
        match self.phase {
            Phase::Metadata(_) => PhaseKind::Metadata,
            Phase::Opening(_) => PhaseKind::Opening,
            Phase::Checking(_) => PhaseKind::Checking,
            Phase::Transfer(_) => PhaseKind::Transfer,
            Phase::Stopping(_) => PhaseKind::Stopping,
            Phase::Stopped(_) => PhaseKind::Stopped,
        }
    }
}

impl Transfer {
    fn measure(&self, status: &mut TorrentStatus) {
        let swarm = &self.swarm;
        status.downloaded = swarm.downloaded();
        status.uploaded = swarm.uploaded();
        status.down_rate = swarm.down_rate();
        status.up_rate = swarm.up_rate();
        status.seconds_left =
            (status.bytes_total - status.bytes_done).checked_div(swarm.down_rate());
    }
}

fn measure_swarm(swarm: &Swarm, now: Duration, status: &mut TorrentStatus) {
    status.peers_connected = swarm.peers_connected();
    status.peers_known = swarm.peers_known();
    status.peers_banned = swarm.peers_banned();
    for tracker in swarm.trackers() {
        let asked = tracker.replied || tracker.error.is_some();
        let next = tracker.next_announce.saturating_sub(now).as_secs();
        if asked && status.next_announce.is_none_or(|at| next < at) {
            status.next_announce = Some(next);
        }
        let result = tracker.error.map_or(Ok(()), Err);
        let result = asked.then_some(result);
        status.trackers.push(TrackerStatus { url: tracker.url, result });
    }
}
