//! What links send: messages from the connection's buffer, payload from where it lies on the disk.

use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bt_types::BlockRequest;
use peer_wire::Transmit;
use piece_store::{Extent, Job, OsFile, TorrentKey};

use super::Engine;
use super::disk::{RangeKey, ReadRange};
use super::keys::LinkKey;
use super::link::{Link, Stage, Upload};
use crate::limits::{LIMITED_PER_TURN, READ_PER_TURN, SEND_WINDOW, WRITE_PER_TURN};

/// Some of the bytes that a link has to send.
#[derive(Debug)]
pub enum Outgoing<'a, F = OsFile> {
    /// Messages. `more` says that payload comes next, so that the system may wait for it.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// Whether payload follows.
        more: bool,
    },
    /// Payload, resident a moment ago.
    Payload {
        /// Where it lies.
        extent: Extent<F>,
        /// Whether it was made resident within the last second.
        fresh: bool,
    },
}

impl<F> Engine<F> {
    /// What the link has to send, in order, as far as it may be sent now; nothing when there is nothing
    /// for now. Report how many bytes of it went out with [`Self::handle_transmitted`].
    pub fn poll_transmit(
        &mut self,
        now: Duration,
        key: LinkKey,
    ) -> impl Iterator<Item = Outgoing<'_, F>> {
        self.now = now;
        if let Some(link) = self.links.get_mut(key) {
            link.transmit_due = false;
        }
        let limit = self.send_allowance(now, key);
        if limit > 0 {
            self.refresh_forgotten(key);
        }
        self.links.get(key).into_iter().flat_map(move |link| link.outgoing(now, limit))
    }

    /// Lets go of blocks that are sent. Has the payload that comes next, behind messages or not, read again
    /// if what was read is not remembered any more or was only the begin of the block.
    fn refresh_forgotten(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        let next = link.connection.transmits().find_map(|transmit| match transmit {
            Transmit::Payload { request, offset, .. } => Some((request, offset)),
            Transmit::Bytes(_) => None,
        });
        let Some((request, offset)) = next else { return link.uploads.clear() };
        link.forget_uploads_before(request);
        let Some(upload) = link.uploads.front().filter(|upload| !upload.refreshing) else { return };
        let range = upload.range.upgrade();
        if range.and_then(|range| range.extent(request.offset() + offset, 1)).is_none() {
            self.refresh_upload(self.now, key);
        }
    }

    /// The first `bytes` of what [`Self::poll_transmit`] gave last went out.
    pub fn handle_transmitted(&mut self, now: Duration, key: LinkKey, bytes: usize) {
        self.now = now;
        let Some(link) = self.links.get_mut(key) else { return };
        let before = link.connection.pending_payload();
        link.connection.transmitted(bytes);
        // Never more than went out at once.
        let payload = (before - link.connection.pending_payload()) as usize;
        if payload == 0 {
            return;
        }
        self.up.take(payload);
        let Stage::Live { torrent } = link.stage else { return };
        let torrent = &mut self.torrents[torrent];
        torrent.up.take(payload);
        if let Some(transfer) = torrent.running_mut() {
            transfer.swarm.handle_sent(now, key.peer(), payload as u32);
        }
        self.serve(key);
    }

    /// The payload that [`Self::poll_transmit`] gave first is not resident: it is read, again or as
    /// what follows in a block that is several runs.
    pub fn refresh_upload(&mut self, now: Duration, key: LinkKey) {
        self.now = now;
        let Some(link) = self.links.get_mut(key) else { return };
        let Stage::Live { torrent } = link.stage else { return };
        let sent = match link.connection.poll_transmit() {
            Some(Transmit::Payload { offset, .. }) => offset,
            _ => 0,
        };
        let Some(upload) = link.uploads.front_mut() else { return };
        upload.refreshing = true;
        let request = upload.request;
        if let Some(range) = upload.range.upgrade() {
            self.disk.reads.invalidate(&range);
        }
        self.provide(torrent, key, request, sent);
    }

    /// Whether the link has something to send but must wait for its rate limit.
    pub fn is_send_throttled(&mut self, now: Duration, key: LinkKey) -> bool {
        let throttled = self.send_allowance(now, key) == 0;
        let Some(link) = self.links.get_mut(key) else { return false };
        throttled && link.connection.pending_payload() > 0
    }

    /// How many bytes may be read from the link in this turn. Under a rate limit everyone gets a
    /// little in turn, or the first would take all there is.
    pub fn receive_quota(&mut self, now: Duration, key: LinkKey) -> usize {
        let torrent = self.links.get(key).and_then(|link| link.stage.torrent());
        let own = torrent.map_or(usize::MAX, |torrent| self.torrents[torrent].down.allowance(now));
        match own.min(self.down.allowance(now)) {
            usize::MAX => READ_PER_TURN,
            allowance => allowance.min(LIMITED_PER_TURN),
        }
    }

    /// How many bytes may be written to the link in this turn, payload and messages. What
    /// [`Self::poll_transmit`] gives keeps to the rate limits by itself.
    pub fn send_quota(&self, key: LinkKey) -> usize {
        let torrent = self.links.get(key).and_then(|link| link.stage.torrent());
        let limited = torrent.is_some_and(|torrent| self.torrents[torrent].up.is_limited());
        if limited || self.up.is_limited() { LIMITED_PER_TURN } else { WRITE_PER_TURN }
    }

    fn send_allowance(&mut self, now: Duration, key: LinkKey) -> usize {
        let torrent = self.links.get(key).and_then(|link| link.stage.torrent());
        let own = torrent.map_or(usize::MAX, |torrent| self.torrents[torrent].up.allowance(now));
        own.min(self.up.allowance(now))
    }

    /// Has blocks read that the peer asked for, as far as its send queue has room.
    pub(super) fn serve(&mut self, key: LinkKey) {
        while let Some((torrent, request)) = self.next_upload(key) {
            self.provide(torrent, key, request, 0);
        }
    }

    fn next_upload(&mut self, key: LinkKey) -> Option<(TorrentKey, BlockRequest)> {
        let link = self.links.get_mut(key).filter(|link| has_room(link))?;
        let Stage::Live { torrent } = link.stage else { return None };
        // Once the torrent stops, requests stay unanswered in the queue.
        if !self.torrents[torrent].is_running() {
            return None;
        }
        let request = link.connection.next_request()?;
        Some((torrent, request))
    }

    /// Has the link send the block from `sent` bytes on, now or as soon as it is resident.
    fn provide(&mut self, torrent: TorrentKey, key: LinkKey, request: BlockRequest, sent: u32) {
        let Some(link) = self.links.get_mut(key) else { return };
        let info = self.torrents[torrent].add.metainfo.info();
        let max_files = self.disk.reads.max_range_files();
        let range = RangeKey::of(torrent, info, request, sent, max_files);
        match self.disk.reads.ask(self.now, range, (key, request)) {
            Some(range) => {
                link.take_range(request, &range);
                self.transmit(key);
            }
            None => {
                link.reading += u64::from(request.length());
                self.read_ranges();
            }
        }
    }

    /// Has the store read the ranges whose turn has come.
    pub(super) fn read_ranges(&mut self) {
        while let Some(key) = self.disk.reads.next_read() {
            let torrent = key.torrent();
            if self.torrents[torrent].is_running() {
                let (piece, range) = (key.piece(), key.range());
                self.submit(torrent, Job::Read { torrent, piece, range });
            } else {
                // It stops: nobody waits any more.
                self.disk.reads.end_read(key);
            }
        }
    }

    /// A range was read: the links that wait for it send it.
    pub(super) fn send_range(&mut self, key: RangeKey, extents: Vec<Extent<F>>) {
        let (range, waiting) = self.disk.reads.finish(self.now, key, extents);
        for (link_key, request) in waiting {
            let Some(link) = self.links.get_mut(link_key) else { continue };
            link.reading = link.reading.saturating_sub(u64::from(request.length()));
            link.take_range(request, &range);
            self.transmit(link_key);
            self.serve(link_key);
        }
    }
}

impl<F> Link<F> {
    /// What it has to send, in order: at most `limit` bytes of payload, and none from where payload is
    /// not known to be resident.
    fn outgoing(&self, now: Duration, limit: usize) -> impl Iterator<Item = Outgoing<'_, F>> {
        let mut transmits = self.connection.transmits().peekable();
        let mut uploads = self.uploads.iter();
        // What is left of the block under way: where it was read, and which bytes of the piece.
        let mut block = None;
        let mut left = u32::try_from(limit).unwrap_or(u32::MAX);
        let next = move || {
            if block.is_none()
                && let Transmit::Bytes(bytes) = *transmits.peek()?
            {
                transmits.next();
                return Some(Outgoing::Bytes {
                    bytes,
                    more: left > 0 && transmits.peek().is_some(),
                });
            }
            let (range, bytes) = match block.take() {
                Some(block) => block,
                None => payload_of(transmits.next()?, &mut uploads)?,
            };
            let length = left.min(bytes.end - bytes.start);
            let extent = range.extent(bytes.start, length).filter(|_| left > 0)?;
            left -= extent.length;
            let rest = bytes.start + extent.length..bytes.end;
            let fresh = range.is_fresh(now);
            block = (!rest.is_empty()).then_some((range, rest));
            Some(Outgoing::Payload { extent, fresh })
        };
        iter::from_fn(next).fuse()
    }
}

/// Where the payload of `transmit` was read, and which bytes of the piece it is; none while it is being
/// read again. `uploads` are those from this block on.
fn payload_of<'a, F: 'a>(
    transmit: Transmit<'_>,
    uploads: &mut impl Iterator<Item = &'a Upload<F>>,
) -> Option<(Arc<ReadRange<F>>, Range<u32>)> {
    let Transmit::Payload { request, offset, length } = transmit else { return None };
    let upload = uploads.find(|upload| upload.request == request)?;
    let range = upload.range.upgrade().filter(|_| !upload.refreshing)?;
    let start = request.offset() + offset;
    Some((range, start..start + length))
}

/// Whether another block may be read for the link: a peer that does not drain gets none.
fn has_room<F>(link: &Link<F>) -> bool {
    link.connection.pending_payload() + link.reading < SEND_WINDOW
}
