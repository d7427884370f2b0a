//! The journal's records as bytes.
//!
//! ```text
//! header:  "bt-piece" | version u32 | pieces u32 | info-hash 20 | SHA-1 of the save path 20 | checksum 8
//! record:  kind u8 | length u32 | checksum 8 | payload
//! ```
//!
//! Numbers are little-endian. A checksum is the first 8 bytes of the SHA-1 of the record's position in
//! the file, its kind, its length and its payload, so that neither a torn record nor one from another
//! place is taken for a good one. What follows a bad record is not read; a good record of an unknown
//! kind, or whose payload makes no sense, is passed over.

use std::collections::BTreeMap;
use std::ops::Range;

use bt_types::{Bitfield, Blank, Geometry, InfoHashV1, Sha1Digest};
use piece_hash::Hasher;

use crate::FileId;

/// The version written, and the only one read.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"bt-piece";
const CHECKSUM_LENGTH: usize = 8;
/// How long the header is, in bytes.
pub(super) const HEADER_LENGTH: usize = 8 + 4 + 4 + 20 + 20 + CHECKSUM_LENGTH;
const RECORD_HEAD_LENGTH: usize = 1 + 4 + CHECKSUM_LENGTH;

/// Whose journal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) info_hash: InfoHashV1,
    /// The SHA-1 of the canonical save path.
    pub(super) path: Sha1Digest,
    pub(super) pieces: u32,
}

/// What a journal and the files beside it are called, without an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JournalName {
    info_hash: InfoHashV1,
    /// The begin of [`Header::path`].
    path: [u8; 8],
}

impl std::fmt::Display for JournalName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:016x}", self.info_hash, u64::from_be_bytes(self.path))
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// A run began. Totals of the runs before it, in bytes.
    Open { uploaded: u64, downloaded: u64 },
    /// Pieces were verified and written.
    Written(Vec<Range<u32>>),
    /// Pieces are on the disk.
    Durable(Vec<Range<u32>>),
    /// Pieces are no longer had.
    Lost(Vec<Range<u32>>),
    /// A file is the torrent's: it was checked, or made by us.
    Owned { slot: u32, id: FileId },
    /// Blocks of a piece are on the disk: a mask for each of its spans.
    Unfinished { piece: u32, masks: Vec<u16> },
    /// The run ended in order.
    Closed { uploaded: u64, downloaded: u64, files: Vec<ClosedFile> },
    /// A file is ours, but incomplete until it is owned: it is to get what the parts file has of it.
    Moving { slot: u32, id: FileId },
    /// Files, by slot, that earlier runs used and that look otherwise now, until the check has ended.
    Changed(Vec<Range<u32>>),
    /// Files that were not there when the check ended.
    Awaited(Awaited),
}

/// Files that were ours to make. After a kill, the journal says which were made; a power cut may have taken
/// that, and left the file. So what is found there is ours if the system was started since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Awaited {
    /// Which start of the system that was; 0 if it is not known.
    pub(super) boot: u128,
    /// Ranges of slots, ascending.
    pub(super) slots: Vec<Range<u32>>,
}

impl Awaited {
    pub(super) fn new(boot: u128, slots: Vec<Range<u32>>) -> Self {
        if slots.is_empty() { Self::default() } else { Self { boot, slots } }
    }

    /// Those that are ours if they are found in this `boot`, and fulfil `kept`.
    pub(super) fn after(&self, boot: u128, kept: impl Fn(u32) -> bool) -> Self {
        let lost_power = self.boot != boot || boot == 0;
        let slots = self.slots.iter().cloned().flatten().filter(|slot| lost_power && kept(*slot));
        Self::new(self.boot, to_ranges(slots))
    }
}

/// Files of which the journal knows something, though not that they are the torrent's as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unowned {
    /// Files that the last run was to make; none if it ended in order, unless it only served.
    pub(super) awaited: Awaited,
    /// Files that are ours, but may lack what the parts file has of them.
    pub(super) moving: BTreeMap<u32, FileId>,
    /// Files that earlier runs used, and that looked otherwise when the last one began, if its check was
    /// broken off. Ranges of slots.
    pub(super) changed: Vec<Range<u32>>,
    /// Of the files that are not trusted, which were there when this run began, until its check has ended.
    /// Not in the journal. Ascending by slot.
    pub(super) seen: Vec<(u32, FileId)>,
}

impl Blank for Unowned {
    const BLANK: &'static Self = &Self {
        awaited: Awaited { boot: 0, slots: Vec::new() },
        moving: BTreeMap::new(),
        changed: Vec::new(),
        seen: Vec::new(),
    };
}

/// What a file looked like when the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClosedFile {
    pub(super) slot: u32,
    pub(super) length: u64,
    pub(super) modified: (i64, u32),
}

impl Header {
    pub(super) fn name(&self) -> JournalName {
        let mut path = [0; 8];
        path.copy_from_slice(&self.path.0[..8]);
        JournalName { info_hash: self.info_hash, path }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LENGTH);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.pieces.to_le_bytes());
        out.extend(self.info_hash.0);
        out.extend(self.path.0);
        let sum = checksum(0, 0, &out);
        out.extend(sum);
        out
    }
}

impl Record {
    /// Appends the record to `out`, which will stand at `base` in the file.
    pub(super) fn encode(&self, base: u64, out: &mut Vec<u8>) {
        frame(base, self.kind(), &self.payload(), out);
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::Written(_) => 2,
            Self::Durable(_) => 3,
            Self::Lost(_) => 4,
            Self::Owned { .. } => 5,
            Self::Unfinished { .. } => 6,
            Self::Closed { .. } => 7,
            Self::Moving { .. } => 9,
            Self::Changed(_) => 10,
            Self::Awaited(_) => 11,
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Open { uploaded, downloaded } => {
                out.extend(uploaded.to_le_bytes());
                out.extend(downloaded.to_le_bytes());
            }
            Self::Written(pieces)
            | Self::Durable(pieces)
            | Self::Lost(pieces)
            | Self::Changed(pieces) => encode_ranges(pieces, &mut out),
            Self::Awaited(awaited) => {
                out.extend(awaited.boot.to_le_bytes());
                encode_ranges(&awaited.slots, &mut out);
            }
            Self::Owned { slot, id } | Self::Moving { slot, id } => {
                out.extend(slot.to_le_bytes());
                out.extend(id.device.to_le_bytes());
                out.extend(id.inode.to_le_bytes());
            }
            Self::Unfinished { piece, masks } => {
                out.extend(piece.to_le_bytes());
                masks.iter().for_each(|mask| out.extend(mask.to_le_bytes()));
            }
            Self::Closed { uploaded, downloaded, files } => {
                out.extend(uploaded.to_le_bytes());
                out.extend(downloaded.to_le_bytes());
                files.iter().for_each(|file| encode_file(file, &mut out));
            }
        }
        out
    }

    /// The record in a payload; `None` if the kind is unknown or the payload makes no sense.
    fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let record = match kind {
            1 => Self::Open { uploaded: reader.u64()?, downloaded: reader.u64()? },
            2 => Self::Written(reader.ranges()?),
            3 => Self::Durable(reader.ranges()?),
            4 => Self::Lost(reader.ranges()?),
            5 => Self::Owned { slot: reader.u32()?, id: reader.file_id()? },
            6 => Self::Unfinished { piece: reader.u32()?, masks: reader.masks()? },
            7 => Self::Closed {
                uploaded: reader.u64()?,
                downloaded: reader.u64()?,
                files: reader.files()?,
            },
            9 => Self::Moving { slot: reader.u32()?, id: reader.file_id()? },
            10 => Self::Changed(reader.ranges()?),
            11 => Self::Awaited(Awaited { boot: reader.u128()?, slots: reader.ranges()? }),
            _ => return None,
        };
        reader.0.is_empty().then_some(record)
    }
}

/// Appends a record of any kind and payload to `out`, which will stand at `base` in the file.
fn frame(base: u64, kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    let position = base + out.len() as u64;
    out.push(kind);
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(checksum(position, kind, payload));
    out.extend(payload);
}

fn encode_ranges(ranges: &[Range<u32>], out: &mut Vec<u8>) {
    for range in ranges {
        out.extend(range.start.to_le_bytes());
        out.extend(range.end.to_le_bytes());
    }
}

fn encode_file(file: &ClosedFile, out: &mut Vec<u8>) {
    out.extend(file.slot.to_le_bytes());
    out.extend(file.length.to_le_bytes());
    out.extend(file.modified.0.to_le_bytes());
    out.extend(file.modified.1.to_le_bytes());
}

fn checksum(position: u64, kind: u8, payload: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut hasher = Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    let mut sum = [0; CHECKSUM_LENGTH];
    sum.copy_from_slice(&hasher.finish().0[..CHECKSUM_LENGTH]);
    sum
}

/// Takes numbers from the front of a payload.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn file_id(&mut self) -> Option<FileId> {
        Some(FileId { device: self.u64()?, inode: self.u64()? })
    }

    fn ranges(&mut self) -> Option<Vec<Range<u32>>> {
        self.rest(|reader| Some(reader.u32()?..reader.u32()?))
    }

    fn masks(&mut self) -> Option<Vec<u16>> {
        self.rest(|reader| reader.array().map(u16::from_le_bytes))
    }

    fn files(&mut self) -> Option<Vec<ClosedFile>> {
        self.rest(|reader| {
            let (slot, length) = (reader.u32()?, reader.u64()?);
            let modified = (reader.u64()? as i64, reader.u32()?);
            Some(ClosedFile { slot, length, modified })
        })
    }

    /// As many as there are: no more than the payload has bytes for.
    fn rest<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        while !self.0.is_empty() {
            items.push(item(self)?);
        }
        Some(items)
    }
}

/// What a journal tells, all its records together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    pub(super) written: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) owned: BTreeMap<u32, FileId>,
    pub(super) unowned: Unowned,
    /// What the files looked like when the last run ended in order; `None` if it did not.
    pub(super) closed: Option<BTreeMap<u32, ClosedFile>>,
    pub(super) unfinished: BTreeMap<u32, Vec<u16>>,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
}

impl History {
    /// The history of a torrent of which nothing is known.
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            written: Bitfield::new(pieces),
            durable: Bitfield::new(pieces),
            owned: BTreeMap::new(),
            unowned: Unowned::default(),
            closed: None,
            unfinished: BTreeMap::new(),
            uploaded: 0,
            downloaded: 0,
        }
    }

    /// Whether the file of `slot`, if it is there, is one that earlier runs used, or there were none.
    pub(super) fn may_use(&self, slot: u32) -> bool {
        let no_files = self.owned.is_empty() && self.unowned.moving.is_empty();
        let blank = self.written.is_empty() && no_files && self.closed.is_none();
        let closed = || self.closed.as_ref().is_some_and(|files| files.contains_key(&slot));
        blank
            || self.owned.contains_key(&slot)
            || closed()
            || in_ranges(&self.unowned.changed, slot)
    }

    /// Whether earlier runs had bytes in the file of `slot`.
    pub(super) fn used(&self, slot: u32) -> bool {
        let closed = self.closed.as_ref().and_then(|files| files.get(&slot));
        let closed = || closed.is_some_and(|file| file.length > 0);
        self.owned.contains_key(&slot) || closed() || in_ranges(&self.unowned.changed, slot)
    }

    /// Whether the file of `slot`, found as `id`, was to get what the parts file has, and may not have.
    pub(super) fn is_moving(&self, slot: u32, id: FileId) -> bool {
        self.unowned.moving.get(&slot) == Some(&id)
    }

    /// The history in a journal's bytes, up to the first record that is torn or damaged; `None` if
    /// it is not the journal that `header` names.
    pub(super) fn replay(bytes: &[u8], header: &Header, geometry: &Geometry) -> Option<Self> {
        let mut history = Self::new(header.pieces);
        let mut rest = bytes.strip_prefix(header.encode().as_slice())?;
        while let Some((kind, payload, after)) = split_record(rest, bytes.len() - rest.len()) {
            if let Some(record) = Record::decode(kind, payload) {
                history.apply(record, geometry);
            }
            rest = after;
        }
        Some(history)
    }

    fn apply(&mut self, record: Record, geometry: &Geometry) {
        match record {
            Record::Open { uploaded, downloaded } => {
                (self.uploaded, self.downloaded) = (uploaded, downloaded);
                self.closed = None;
                self.unfinished.clear();
            }
            Record::Written(pieces) => fill(&mut self.written, &pieces, geometry),
            Record::Durable(pieces) => {
                fill(&mut self.written, &pieces, geometry);
                fill(&mut self.durable, &pieces, geometry);
            }
            Record::Lost(pieces) => {
                remove(&mut self.written, &pieces, geometry);
                remove(&mut self.durable, &pieces, geometry);
            }
            Record::Owned { slot, id } => {
                self.owned.insert(slot, id);
                self.unowned.moving.remove(&slot);
            }
            Record::Moving { slot, id } => {
                self.unowned.moving.insert(slot, id);
                self.owned.remove(&slot);
            }
            Record::Awaited(awaited) => self.unowned.awaited = awaited,
            Record::Changed(slots) => self.unowned.changed = slots,
            Record::Unfinished { piece, masks } => {
                self.unfinished.insert(piece, masks);
            }
            Record::Closed { uploaded, downloaded, files } => {
                (self.uploaded, self.downloaded) = (uploaded, downloaded);
                self.closed = Some(files.into_iter().map(|file| (file.slot, file)).collect());
                self.unowned.changed.clear();
            }
        }
    }
}

/// The kind and payload of the record at `position`, and what follows it.
fn split_record(bytes: &[u8], position: usize) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD_LENGTH>()?;
    let [kind, a, b, c, d, sum @ ..] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let (payload, after) = rest.split_at_checked(length)?;
    (checksum(position as u64, kind, payload) == sum).then_some((kind, payload, after))
}

fn fill(set: &mut Bitfield, ranges: &[Range<u32>], geometry: &Geometry) {
    each(ranges, geometry, |piece| {
        set.insert(piece);
    });
}

fn remove(set: &mut Bitfield, ranges: &[Range<u32>], geometry: &Geometry) {
    each(ranges, geometry, |piece| {
        set.remove(piece);
    });
}

fn each(ranges: &[Range<u32>], geometry: &Geometry, work: impl FnMut(bt_types::PieceIndex)) {
    let clamp = |range: &Range<u32>| range.start..range.end.min(geometry.piece_count());
    ranges.iter().flat_map(clamp).filter_map(|index| geometry.piece(index)).for_each(work);
}

/// The ranges of consecutive numbers in an ascending list.
pub(super) fn to_ranges(pieces: impl IntoIterator<Item = u32>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for piece in pieces {
        match ranges.last_mut() {
            Some(last) if last.end == piece => last.end += 1,
            _ => ranges.push(piece..piece + 1),
        }
    }
    ranges
}

/// Whether one of the ranges, ascending, has `number` in it.
pub(super) fn in_ranges(ranges: &[Range<u32>], number: u32) -> bool {
    let after = ranges.partition_point(|range| range.end <= number);
    ranges.get(after).is_some_and(|range| range.contains(&number))
}

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;
