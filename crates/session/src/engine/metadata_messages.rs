//! Metadata comes from peers and goes to them (BEP 9).

use std::time::Duration;

use metainfo::Metainfo;
use peer_wire::MetadataMessage;
use piece_store::{InfoError, TorrentKey};

use super::Engine;
use super::keys::LinkKey;
use super::metadata::{MetadataFetch, MetadataMemory, Sender};
use crate::event::{ErrorClass, EventKind, StopReason, TorrentError};
use crate::limits::{MAX_METADATA_LENGTH, MAX_METADATA_QUEUE, METADATA_COPIES};

impl<F> Engine<F> {
    /// Says which files of a torrent that waits for it are wanted, one entry per file; `None` is
    /// all. The torrent goes on.
    pub fn select(&mut self, now: Duration, key: TorrentKey, selected: Option<Vec<bool>>) {
        self.now = now;
        if let Some(torrent) = self.torrents.get_mut(key).filter(|it| it.is_ready_to_open()) {
            (torrent.add.selected, torrent.add.await_selection) = (selected, false);
            self.open(key);
        }
        self.settle();
    }

    /// A peer said in an extension handshake how long the metadata is.
    pub(super) fn handle_metadata_size(&mut self, key: LinkKey, size: Option<u32>) {
        let Some(link) = self.links.open_mut(key) else { return };
        let (torrent, address) = (link.torrent, link.address);
        let Some(theirs) = link.connection.handshake() else { return };
        let sender = Sender { key: key.peer(), address, peer_id: theirs.peer_id };
        let size = size.filter(|size| (1..=MAX_METADATA_LENGTH).contains(size));
        let now = self.now;
        self.with_fetch(torrent, |fetch, _| fetch.handle_size(now, sender, size));
    }

    /// A peer requests metadata, sends some or rejects a request.
    pub(super) fn handle_metadata(&mut self, key: LinkKey, message: MetadataMessage<'_>) {
        let (now, peer) = (self.now, key.peer());
        let Some(torrent) = self.links.torrent_of(key) else { return };
        match message {
            MetadataMessage::Request { piece } => self.handle_metadata_request(key, piece),
            MetadataMessage::Reject { piece } => {
                self.with_fetch(torrent, |fetch, _| fetch.handle_reject(now, peer, piece));
            }
            MetadataMessage::Data { piece, bytes, .. } => {
                self.with_fetch(torrent, |fetch, memory| {
                    fetch.handle_data(now, peer, piece, &bytes, memory);
                });
            }
        }
    }

    fn handle_metadata_request(&mut self, key: LinkKey, piece: u32) {
        let Some(link) = self.links.open_mut(key) else { return };
        let pieces = self.torrents[link.torrent].metadata_pieces();
        let has_room = link.metadata_queue.len() < MAX_METADATA_QUEUE
            && link.metadata_served < METADATA_COPIES * pieces;
        if piece < pieces && has_room {
            link.metadata_served += 1;
            link.metadata_queue.push_back(piece);
            self.serve_metadata(key);
        } else {
            link.connection.metadata_reject(piece);
        }
    }

    /// Queues the next piece of metadata that a peer requested, unless messages wait to be sent.
    pub(super) fn serve_metadata(&mut self, key: LinkKey) {
        let Some(link) = self.links.open_mut(key) else { return };
        if link.metadata_queue.is_empty() || link.connection.pending_messages() > 0 {
            return;
        }
        let Some(piece) = link.metadata_queue.pop_front() else { return };
        let Some(metainfo) = self.torrents[link.torrent].add.description.metainfo() else { return };
        let info = metainfo.raw_info();
        let length = peer_wire::METADATA_PIECE_LENGTH as usize;
        if let Some(bytes) = info.chunks(length).nth(piece as usize) {
            link.connection.metadata_data(piece, info.len() as u32, bytes);
        }
        self.transmit(key);
    }

    /// Requests what is missing, and has complete metadata checked.
    pub(super) fn drain_metadata(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(key) else { return };
        let Some(metadata) = torrent.metadata_mut() else { return };
        let Some(fetch) = &mut metadata.fetch else { return };
        let mut asked = Vec::new();
        while let Some((peer, piece)) = fetch.poll_request(self.now, &mut self.metadata_memory) {
            let link = LinkKey::of_peer(peer);
            let open = self.links.open_mut(link);
            match open.is_some_and(|open| open.connection.metadata_request(piece)) {
                true => asked.push(link),
                false => fetch.handle_disconnected(peer),
            }
        }
        let candidate = fetch.poll_candidate();
        asked.into_iter().for_each(|link| self.transmit(link));
        if let Some(candidate) = candidate {
            let job = self.torrents[key].check_info(key, candidate);
            job.into_iter().for_each(|job| self.submit(key, job));
        }
    }

    /// The store has compared metadata with the info-hash.
    pub(super) fn handle_info_checked(
        &mut self,
        key: TorrentKey,
        attempt: u64,
        result: Result<Box<Metainfo>, InfoError>,
    ) {
        match result {
            Ok(metainfo) => {
                let info = metainfo.raw_info();
                let liars = self.with_fetch(key, |fetch, memory| fetch.handle_right(info, memory));
                let Some(liars) = liars else { return };
                liars.into_iter().for_each(|liar| self.ban(key, liar));
                self.handle_metainfo(key, *metainfo);
            }
            Err(InfoError::Hash { digests }) => {
                let liar = self
                    .with_fetch(key, |fetch, memory| fetch.handle_wrong(attempt, digests, memory));
                liar.flatten().into_iter().for_each(|liar| self.ban(key, liar));
            }
            Err(error) => {
                let message = format!("the metadata of the link is no usable torrent: {error}");
                let class = ErrorClass::BadTorrent;
                let error = TorrentError { class, message, advises_other_folder: false };
                self.begin_stop(key, StopReason::Failed(error));
            }
        }
    }

    fn ban(&mut self, key: TorrentKey, liar: Sender) {
        if let Some(swarm) = self.torrents.running_swarm(key) {
            swarm.ban(self.now, liar.address, liar.peer_id);
        }
    }

    /// The metadata is there: the torrent is opened, or waits for the selection.
    fn handle_metainfo(&mut self, key: TorrentKey, metainfo: Metainfo) {
        let torrent = &mut self.torrents[key];
        let (metainfo, warnings) = torrent.set_metainfo(self.now, metainfo);
        let await_selection = torrent.add.await_selection;
        self.end_attempts_to_strangers(key);
        self.seek_peers(key);
        self.send_hellos(key);
        self.emit(key, EventKind::MetadataReceived(metainfo));
        warnings.into_iter().for_each(|text| self.emit(key, EventKind::Warning(text)));
        if !await_selection {
            self.open(key);
        }
    }

    /// Has the fetch of a torrent's metadata do something; `None` if there is none.
    pub(super) fn with_fetch<T>(
        &mut self,
        key: TorrentKey,
        action: impl FnOnce(&mut MetadataFetch, &mut MetadataMemory) -> T,
    ) -> Option<T> {
        let fetch = self.torrents.get_mut(key)?.metadata_mut()?.fetch.as_mut()?;
        Some(action(fetch, &mut self.metadata_memory))
    }
}
