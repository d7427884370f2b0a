//! What a link sends: messages from the buffer of the connection, payload from the disk.

use std::iter;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bt_types::BlockRequest;
use peer_wire::{Connection, Transmit};
use piece_store::{Extent, OsFile};

use super::stages::{Link, Open};
use crate::engine::disk::ReadRange;
use crate::limits::SEND_WINDOW;

/// Some of the bytes that a link has to send.
#[derive(Debug)]
pub enum Outgoing<'a, F = OsFile> {
    /// Messages.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// Whether payload follows, so that the system may wait for it.
        more: bool,
    },
    /// Payload that was read into the page cache.
    Payload {
        /// Where it is.
        extent: Extent<F>,
        /// Whether it was read within the last second.
        fresh: bool,
    },
}

/// A block in the send queue of the connection.
#[derive(Debug)]
pub(super) struct Upload<F> {
    request: BlockRequest,
    /// The range that has it. Weak, so that links that do not drain hold no files open.
    range: Weak<ReadRange<F>>,
    /// Whether it is being read again.
    refreshing: bool,
}

/// Payload that is to be read again.
pub(crate) struct Refresh<F> {
    pub(crate) request: BlockRequest,
    /// How many bytes of the block were sent.
    pub(crate) sent: u32,
    /// The range that has it, unless it is forgotten.
    pub(crate) stale: Option<Arc<ReadRange<F>>>,
}

impl<F> Open<F> {
    /// Whether its send queue has room for another block.
    pub(crate) fn has_room(&self) -> bool {
        self.connection.pending_payload() + self.reading < SEND_WINDOW
    }

    /// The store is to read a block.
    pub(crate) fn begin_read(&mut self, request: BlockRequest) {
        self.reading += u64::from(request.length());
    }

    /// The store has read a block.
    pub(crate) fn end_read(&mut self, request: BlockRequest) {
        self.reading -= u64::from(request.length());
    }

    /// The bytes of a block were read: of one that is being sent, or of one to be sent.
    pub(crate) fn take_range(&mut self, request: BlockRequest, range: &Arc<ReadRange<F>>) {
        let range = Arc::downgrade(range);
        // Only the first block is ever read again.
        let refreshed = self.uploads.front_mut().filter(|upload| upload.refreshing);
        if let Some(upload) = refreshed.filter(|upload| upload.request == request) {
            (upload.range, upload.refreshing) = (range, false);
        } else if self.connection.send_block(request) {
            self.uploads.push_back(Upload { request, range, refreshing: false });
        }
    }

    /// Forgets blocks that were sent. Returns whether the next payload must be read again: its
    /// range is forgotten, or has only the start of the block.
    pub(crate) fn is_refresh_due(&mut self) -> bool {
        let next = self.connection.transmits().find_map(|transmit| match transmit {
            Transmit::Payload { request, offset, .. } => Some((request, offset)),
            Transmit::Bytes(_) => None,
        });
        let Some((request, offset)) = next else {
            self.uploads.clear();
            return false;
        };
        while self.uploads.front().is_some_and(|upload| upload.request != request) {
            self.uploads.pop_front();
        }
        let Some(upload) = self.uploads.front().filter(|upload| !upload.refreshing) else {
            return false;
        };
        let range = upload.range.upgrade();
        range.and_then(|range| range.extent(request.offset() + offset, 1)).is_none()
    }

    /// The payload that comes first is to be read again.
    pub(crate) fn begin_refresh(&mut self) -> Option<Refresh<F>> {
        let sent = match self.connection.poll_transmit() {
            Some(Transmit::Payload { offset, .. }) => offset,
            Some(Transmit::Bytes(_)) | None => 0,
        };
        let upload = self.uploads.front_mut()?;
        upload.refreshing = true;
        Some(Refresh { request: upload.request, sent, stale: upload.range.upgrade() })
    }
}

impl<F> Link<F> {
    /// What it has to send, in order, up to `limit` bytes of payload or to payload that must be
    /// read first.
    pub(crate) fn outgoing(
        &self,
        now: Duration,
        limit: usize,
    ) -> impl Iterator<Item = Outgoing<'_, F>> {
        let uploads = match self {
            Self::Open(link) => Some(&link.uploads),
            Self::Connecting(_) | Self::Handshaking(_) => None,
        };
        let mut uploads = uploads.into_iter().flatten();
        let transmits = self.connection().into_iter().flat_map(Connection::transmits);
        let mut transmits = transmits.peekable();
        // The rest of the present block: its range, and the bytes of the piece.
        let mut block = None;
        let mut left = u32::try_from(limit).unwrap_or(u32::MAX);
        let next = move || {
            if block.is_none()
                && let Transmit::Bytes(bytes) = *transmits.peek()?
            {
                transmits.next();
                let more = left > 0 && transmits.peek().is_some();
                return Some(Outgoing::Bytes { bytes, more });
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

/// Returns the range of the payload in `transmit`, and its bytes in the piece; `None` while it is
/// being read again. `uploads` are those from this block on.
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
