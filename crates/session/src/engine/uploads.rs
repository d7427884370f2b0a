//! What links send, at what rate, and the reads for it.

use std::time::Duration;

use bt_types::BlockRequest;
use piece_store::{Extent, Job, TorrentKey};

use super::disk::RangeKey;
use super::keys::LinkKey;
use super::link::Open;
use super::{Engine, Outgoing};
use crate::limits::{LIMITED_PER_TURN, READ_PER_TURN, WRITE_PER_TURN};

impl<F> Engine<F> {
    /// What the link has to send, in order, as far as it may be sent now. Report how many bytes of
    /// it went out with [`Self::handle_transmitted`].
    pub fn poll_transmit(
        &mut self,
        now: Duration,
        key: LinkKey,
    ) -> impl Iterator<Item = Outgoing<'_, F>> {
        self.now = now;
        self.links.clear_signal(key);
        let limit = self.send_allowance(now, key);
        if limit > 0 && self.links.open_mut(key).is_some_and(Open::is_refresh_due) {
            self.refresh_upload(now, key);
        }
        self.links.get(key).into_iter().flat_map(move |link| link.outgoing(now, limit))
    }

    /// The first `bytes` of what [`Self::poll_transmit`] gave last went out.
    pub fn handle_transmitted(&mut self, now: Duration, key: LinkKey, bytes: usize) {
        self.now = now;
        let Some(connection) = self.links.connection_mut(key) else { return };
        let before = connection.pending_payload();
        connection.transmitted(bytes);
        // At most `bytes`.
        let payload = (before - connection.pending_payload()) as usize;
        self.serve_metadata(key);
        let torrent = self.links.torrent_of(key).filter(|_| payload > 0);
        let Some(torrent) = torrent else { return };
        self.up.take(payload);
        let torrent = &mut self.torrents[torrent];
        torrent.up.take(payload);
        if let Some(transfer) = torrent.running_mut() {
            transfer.swarm.handle_sent(now, key.peer(), payload as u32);
        }
        self.serve(key);
    }

    /// The payload that [`Self::poll_transmit`] gave first is not in the page cache: has it read.
    /// It may also be the next range of a block that is in several.
    pub fn refresh_upload(&mut self, now: Duration, key: LinkKey) {
        self.now = now;
        let Some(link) = self.links.open_mut(key) else { return };
        let torrent = link.torrent;
        let Some(refresh) = link.begin_refresh() else { return };
        refresh.stale.iter().for_each(|range| self.disk.reads.invalidate(range));
        self.provide(torrent, key, refresh.request, refresh.sent);
    }

    /// Whether the link has something to send but must wait for its rate limit.
    pub fn is_send_throttled(&mut self, now: Duration, key: LinkKey) -> bool {
        let throttled = self.send_allowance(now, key) == 0;
        let connection = self.links.get(key).and_then(|link| link.connection());
        throttled && connection.is_some_and(|connection| connection.pending_payload() > 0)
    }

    /// How many bytes may be read from the link in this turn. Under a rate limit it is little, so
    /// that all links get a share.
    pub fn receive_quota(&mut self, now: Duration, key: LinkKey) -> usize {
        let torrent = self.links.torrent_of(key);
        let own = torrent.map_or(usize::MAX, |torrent| self.torrents[torrent].down.allowance(now));
        match own.min(self.down.allowance(now)) {
            usize::MAX => READ_PER_TURN,
            allowance => allowance.min(LIMITED_PER_TURN),
        }
    }

    /// How many bytes may be written to the link in this turn, payload and messages.
    /// [`Self::poll_transmit`] observes the rate limits itself.
    pub fn send_quota(&self, key: LinkKey) -> usize {
        let torrent = self.links.torrent_of(key);
        let limited = torrent.is_some_and(|torrent| self.torrents[torrent].up.is_limited());
        if limited || self.up.is_limited() { LIMITED_PER_TURN } else { WRITE_PER_TURN }
    }

    fn send_allowance(&mut self, now: Duration, key: LinkKey) -> usize {
        let torrent = self.links.torrent_of(key);
        let own = torrent.map_or(usize::MAX, |torrent| self.torrents[torrent].up.allowance(now));
        own.min(self.up.allowance(now))
    }

    /// Has blocks read that the peer requested, as far as its send queue has room, unless the
    /// torrent is being stopped.
    pub(super) fn serve(&mut self, key: LinkKey) {
        while let Some(link) = self.links.open_mut(key)
            && self.torrents[link.torrent].is_running()
            && link.has_room()
            && let Some(request) = link.connection.next_request()
        {
            let torrent = link.torrent;
            self.provide(torrent, key, request, 0);
        }
    }

    /// Has the link send the block from `sent` bytes on, now or as soon as it was read.
    fn provide(&mut self, torrent: TorrentKey, key: LinkKey, request: BlockRequest, sent: u32) {
        let Some(link) = self.links.open_mut(key) else { return };
        let info = self.torrents[torrent].metainfo().info();
        let max_files = self.disk.reads.max_range_files();
        let range = RangeKey::of(torrent, info, request, sent, max_files);
        match self.disk.reads.ask(self.now, range, (key, request)) {
            Some(range) => {
                link.take_range(request, &range);
                self.transmit(key);
            }
            None => {
                link.begin_read(request);
                self.read_ranges();
            }
        }
    }

    /// Has the store read the ranges that are next.
    pub(super) fn read_ranges(&mut self) {
        while let Some(key) = self.disk.reads.next_read() {
            let torrent = key.torrent();
            if self.torrents[torrent].is_running() {
                let (piece, range) = (key.piece(), key.range());
                self.submit(torrent, Job::Read { torrent, piece, range });
            } else {
                // It is being stopped: its links are gone.
                self.disk.reads.end_read(key);
            }
        }
    }

    /// Has the links send the blocks that waited for a range.
    pub(super) fn send_range(&mut self, key: RangeKey, extents: Vec<Extent<F>>) {
        let (range, waiting) = self.disk.reads.finish(self.now, key, extents);
        for (link_key, request) in waiting {
            let Some(link) = self.links.open_mut(link_key) else { continue };
            link.end_read(request);
            link.take_range(request, &range);
            self.transmit(link_key);
            self.serve(link_key);
        }
    }
}
