//! The start of a transfer after the check.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metainfo::{FileEntry, Info, Naming};
use swarm::{SpanLayout, Swarm, SwarmConfig};

use super::phase::{Phase, Torrent};
use super::progress::Progress;
use super::transfer::Transfer;
use crate::config::Description;
use crate::engine::config::EngineConfig;
use crate::engine::disk::PieceBuffers;
use crate::event::EventKind;

/// The warning about peers that are ignored (BEP 27).
pub(super) const IGNORED_PEERS: &str = "the torrent is private: peers come from its trackers only, \
                                        and those given by hand or by the link are ignored";

impl Torrent {
    /// Starts the transfer after the check. Returns the events for the user.
    pub(crate) fn begin_transfer(
        &mut self,
        now: Duration,
        config: &EngineConfig,
        seed: u64,
    ) -> Vec<EventKind> {
        let Phase::Checking(check) = &mut self.phase else { return Vec::new() };
        let swarm = check.swarm.take();
        let mut swarm = swarm.map_or_else(|| self.new_swarm(now, config, seed), |swarm| *swarm);
        let metainfo = Arc::clone(self.metainfo());
        let Phase::Checking(check) = &mut self.phase else { return Vec::new() };
        let opened = &check.opened;
        let info = metainfo.info();
        let (geometry, naming) = (info.geometry(), opened.naming);
        let have = &opened.have;
        let wanted = if self.add.seed_only { have } else { &opened.wanted };
        swarm
            .begin_transfer(now, geometry, have.clone(), wanted.clone(), &opened.unfinished)
            .expect("the store's bitfields are of this torrent");
        let transfer = Transfer {
            metainfo: Arc::clone(&metainfo),
            buffers: PieceBuffers::new(SpanLayout::new(geometry), &opened.unfinished),
            durability: std::mem::take(&mut check.durability),
            progress: Progress::of(info, wanted, have),
            file_system: opened.file_system,
            last_piece_at: now,
            completion_due: swarm.is_complete(),
            swarm,
        };
        let (have, wanted) = (transfer.progress.pieces, wanted.count());
        self.phase = Phase::Transfer(Box::new(transfer));
        let mut events = vec![EventKind::Started { have, wanted, naming }];
        events.extend(renamed_text(info, naming).map(EventKind::Warning));
        if info.private() && !self.add.peers.is_empty() {
            events.push(EventKind::Warning(IGNORED_PEERS.to_owned()));
        }
        events
    }

    /// Returns a swarm that is about to ask the first tracker. Each tracker of a link is a tier of
    /// its own.
    pub(super) fn new_swarm(&self, now: Duration, config: &EngineConfig, seed: u64) -> Swarm {
        let (private, trackers) = match &self.add.description {
            Description::Metainfo(metainfo) => {
                (metainfo.info().private(), metainfo.trackers().to_vec())
            }
            Description::Link(link) => (false, link.tracker_tiers()),
        };
        let swarm_config = SwarmConfig {
            private,
            trackers: if self.add.announce { trackers } else { Vec::new() },
            max_peers: config.max_peers_per_torrent,
            upload_slots: config.upload_slots,
            seed,
            ..SwarmConfig::new(self.peer_id)
        };
        Swarm::new(now, &swarm_config)
    }
}

/// Returns a warning if files have other names on disk than in the torrent.
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
