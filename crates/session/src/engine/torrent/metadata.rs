//! The phase in which a torrent that was added as a link has no metadata yet.

use std::sync::Arc;
use std::time::Duration;

use metainfo::Metainfo;
use peer_wire::METADATA_PIECE_LENGTH;
use piece_store::{Job, TorrentKey};
use swarm::Swarm;

use super::phase::{Phase, Torrent};
use super::start::IGNORED_PEERS;
use crate::config::Description;
use crate::engine::metadata::{Candidate, MetadataFetch};
use crate::event::MetadataStatus;
use crate::limits::METADATA_USELESS_TIME;

/// Said of a private torrent that was named by several links.
const IGNORED_TRACKERS: &str =
    "the torrent is private: the trackers of the first link are used, and those of others are not";

/// A torrent whose metadata is being fetched, or that waits for the selection of files.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(super) swarm: Swarm,
    /// `None` once the metadata is there.
    pub(crate) fetch: Option<MetadataFetch>,
}

impl Metadata {
    /// Returns when [`Self::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let is_idle = |fetch: &MetadataFetch| fetch.is_idle() && self.swarm.peers_connected() == 0;
        let fetch = self.fetch.as_ref().filter(|fetch| !is_idle(fetch));
        fetch.map(MetadataFetch::poll_timeout)
    }

    /// The time of [`Self::poll_timeout`] may have come.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        let Some(fetch) = &mut self.fetch else { return };
        if fetch.poll_timeout() > now {
            return;
        }
        fetch.handle_timeout(now);
        if now.saturating_sub(fetch.progress_at()) >= METADATA_USELESS_TIME {
            self.swarm.make_room(now);
        }
    }

    pub(super) fn status(&self) -> MetadataStatus {
        let Some(fetch) = &self.fetch else { return MetadataStatus::default() };
        let (pieces_done, pieces_total) = fetch.progress();
        MetadataStatus { pieces_done, pieces_total, peers: fetch.peer_count() }
    }
}

/// Returns the torrent without these trackers, also in the bytes of its file.
fn without_trackers(metainfo: Metainfo, further: &[String]) -> Metainfo {
    let is_own = |tier: &&Vec<String>| !tier.iter().any(|url| further.contains(url));
    let own: Vec<Vec<String>> = metainfo.trackers().iter().filter(is_own).cloned().collect();
    let again = Metainfo::from_info(metainfo.raw_info(), &own, metainfo.web_seeds());
    again.unwrap_or(metainfo)
}

impl Torrent {
    /// The phase before the metadata, if the torrent is in it.
    pub(crate) fn metadata_mut(&mut self) -> Option<&mut Metadata> {
        let Phase::Metadata(metadata) = &mut self.phase else { return None };
        Some(metadata)
    }

    /// Returns the job that checks bytes that may be the metadata; `None` if it is there.
    pub(crate) fn check_info(&self, torrent: TorrentKey, candidate: Candidate) -> Option<Job> {
        let Description::Link(link) = &self.add.description else { return None };
        let (link, Candidate { attempt, info }) = (Arc::clone(link), candidate);
        Some(Job::CheckInfo { torrent, attempt, link, info })
    }

    /// The metadata is there. Returns it, and what the user should know. (That peers which the user
    /// named are ignored is said at the start of the transfer.)
    pub(crate) fn set_metainfo(
        &mut self,
        now: Duration,
        mut metainfo: Metainfo,
    ) -> (Arc<Metainfo>, Vec<String>) {
        let further = self.add.further_trackers.take().map_or_else(Vec::new, |urls| *urls);
        let mut warnings = Vec::new();
        if metainfo.info().private() {
            let names_peers = matches!(&self.add.description, Description::Link(link)
                if !link.peers.is_empty());
            if names_peers && self.add.peers.is_empty() {
                warnings.push(IGNORED_PEERS.to_owned());
            }
            if !further.is_empty() {
                warnings.push(IGNORED_TRACKERS.to_owned());
                metainfo = without_trackers(metainfo, &further);
            }
            if let Phase::Metadata(metadata) = &mut self.phase {
                metadata.swarm.set_private(now, &further);
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.size = metainfo.info().content_size();
        }
        if let Phase::Metadata(metadata) = &mut self.phase {
            metadata.fetch = None;
        }
        let metainfo = Arc::new(metainfo);
        self.add.description = Description::Metainfo(Arc::clone(&metainfo));
        (metainfo, warnings)
    }

    /// Returns how many pieces the metadata has, for peers that request them; 0 as long as it is
    /// not there.
    pub(crate) fn metadata_pieces(&self) -> u32 {
        self.metadata_size().unwrap_or_default().div_ceil(METADATA_PIECE_LENGTH)
    }

    /// Whether the metadata is there and the torrent waits for [`Self::open`].
    pub(crate) fn is_ready_to_open(&self) -> bool {
        matches!(&self.phase, Phase::Metadata(metadata) if metadata.fetch.is_none())
    }
}
