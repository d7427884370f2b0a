//! Snapshots of where torrents stand.

use bt_types::{Bitfield, Geometry};
use piece_store::TorrentKey;
use swarm::Swarm;

use super::Core;
use super::torrent::{Phase, Torrent};
use crate::event::{PhaseKind, TorrentStatus};

impl Core {
    /// Where every torrent stands, in the order they were added.
    pub fn status(&self) -> Vec<TorrentStatus> {
        self.torrents.keys().filter_map(|key| self.status_of(*key)).collect()
    }

    /// Where one torrent stands.
    pub fn status_of(&self, key: TorrentKey) -> Option<TorrentStatus> {
        let torrent = self.torrents.get(&key)?;
        let mut status = match (&torrent.phase, &torrent.last_status) {
            (Phase::Stopping(_) | Phase::Stopped, Some(last)) => last.clone(),
            _ => self.measure(torrent),
        };
        status.phase = phase_kind(&torrent.phase);
        status.events_dropped = self.events_dropped;
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
                status.count(torrent.geometry(), &check.opened.have, &check.opened.wanted);
            }
            Phase::Transfer(swarm) => self.measure_swarm(&mut status, torrent, swarm),
            _ => {}
        }
        status
    }

    fn measure_swarm(&self, status: &mut TorrentStatus, torrent: &Torrent, swarm: &Swarm) {
        status.count(swarm.geometry(), swarm.have(), swarm.wanted());
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
            let next = tracker.next_announce.saturating_sub(self.now).as_secs();
            let sooner = status.next_announce.is_none_or(|at| next < at);
            if sooner {
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

impl TorrentStatus {
    fn count(&mut self, geometry: Geometry, have: &Bitfield, wanted: &Bitfield) {
        let length = |index: u32| {
            geometry.piece(index).map_or(0, |piece| u64::from(geometry.length_of(piece)))
        };
        let had = |index: &u32| geometry.piece(*index).is_some_and(|piece| have.contains(piece));
        self.pieces_total = wanted.count();
        self.bytes_total = wanted.iter().map(length).sum();
        let (mut pieces, mut bytes) = (0, 0);
        for index in wanted.iter().filter(had) {
            pieces += 1;
            bytes += length(index);
        }
        (self.pieces_done, self.bytes_done) = (pieces, bytes);
    }
}

fn empty(torrent: &Torrent) -> TorrentStatus {
    TorrentStatus {
        torrent: torrent.key,
        info_hash: torrent.info_hash,
        name: torrent.add.metainfo.info().name().to_owned(),
        phase: PhaseKind::Opening,
        bytes_done: 0,
        bytes_total: torrent.geometry().total(),
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
