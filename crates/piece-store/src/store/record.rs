//! The journal's records as bytes.
//!
//! ```text
//! header:  "bt-piece" | version u32 | pieces u32 | info-hash 20 | SHA-1 of the save path 20 | checksum 8
//! record:  kind u8 | length u32 | checksum 8 | payload
//! ```
//!
//! Numbers are little-endian. A checksum is the first 8 bytes of the SHA-1 of the record's position
//! in the file, its kind, its length and its payload, so that neither a torn record nor one from
//! another position is taken for a good one. Bytes after a bad record are not read. A good record
//! is skipped if its kind is unknown or its payload is invalid.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bt_types::{InfoHashV1, Sha1Digest};
use metainfo::Naming;
use piece_hash::Hasher;

use super::owner::Hold;
use crate::FileId;

/// The version written, and the only one read.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"bt-piece";
const CHECKSUM_LENGTH: usize = 8;
/// How long the header is, in bytes.
pub(super) const HEADER_LENGTH: usize = 8 + 4 + 4 + 20 + 20 + CHECKSUM_LENGTH;
const RECORD_HEAD_LENGTH: usize = 1 + 4 + CHECKSUM_LENGTH;

/// The torrent and save path that a journal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) info_hash: InfoHashV1,
    /// The SHA-1 of the canonical save path.
    pub(super) path: Sha1Digest,
    pub(super) pieces: u32,
}

/// The name of a journal and of the files beside it, without an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JournalName {
    info_hash: InfoHashV1,
    /// The first bytes of [`Header::path`].
    path: [u8; 8],
}

impl JournalName {
    pub(super) fn info_hash(self) -> InfoHashV1 {
        self.info_hash
    }

    /// A number that is most likely different for each torrent and folder.
    pub(super) fn number(self) -> u64 {
        let mut hasher = Hasher::new();
        hasher.update(self.to_string().as_bytes());
        let mut number = [0; 8];
        number.copy_from_slice(&hasher.finish().0[..8]);
        u64::from_le_bytes(number)
    }
}

impl std::fmt::Display for JournalName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:016x}", self.info_hash, u64::from_be_bytes(self.path))
    }
}

/// One event in a torrent's life on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// A launch started. The totals of all earlier launches, in bytes.
    Open { uploaded: u64, downloaded: u64 },
    /// Pieces were verified and written.
    Written(Vec<Range<u32>>),
    /// Pieces were synced.
    Durable(Vec<Range<u32>>),
    /// Pieces are missing from now on.
    Lost(Vec<Range<u32>>),
    /// A file of the torrent, at a `path` below the download folder. Version 0.1.0 recorded no
    /// paths.
    File { slot: u32, id: FileId, hold: Hold, path: PathBuf },
    /// Blocks of a piece are on the disk: a mask for each of its spans.
    Unfinished { piece: u32, masks: Vec<u16> },
    /// The launch ended with a clean shutdown.
    Closed { uploaded: u64, downloaded: u64, files: Vec<ClosedFile> },
    /// Files, by slot, that were used before and looked different when the launch started. Version
    /// 0.1.0 only.
    Changed(Vec<Range<u32>>),
    /// Files that are ours to create.
    Expected(Expected),
    /// Files, by slot, whose bytes are in the parts file.
    InParts(Vec<Range<u32>>),
    /// Where the torrent's files are.
    SavePath(SavePath),
}

/// Where a torrent's files are, how they are named, and the name of the torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SavePath {
    pub(super) naming: Naming,
    pub(super) folder: PathBuf,
    pub(super) name: String,
}

/// Files that are ours to create. After a kill, the journal says which were created. A power cut
/// may remove that record and leave the file. So a file found there is ours if the system was
/// restarted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Expected {
    /// Which start of the system that was; 0 if unknown.
    pub(super) boot: u128,
    /// Ranges of slots, ascending.
    pub(super) slots: Vec<Range<u32>>,
}

impl Expected {
    pub(super) fn new(boot: u128, slots: Vec<Range<u32>>) -> Self {
        if slots.is_empty() { Self::default() } else { Self { boot, slots } }
    }

    /// Whether a file of this slot, found in this `boot`, is one that we created.
    pub(super) fn was_created(&self, slot: u32, boot: u128) -> bool {
        (self.boot != boot || boot == 0) && in_ranges(&self.slots, slot)
    }
}

/// What a file looked like when the launch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClosedFile {
    pub(super) slot: u32,
    pub(super) length: u64,
    pub(super) modified: (i64, u32),
    /// `None` in a journal of version 0.1.0, and where file ids are not stable.
    pub(super) id: Option<FileId>,
}

impl Header {
    pub(super) fn name(&self) -> JournalName {
        let mut path = [0; 8];
        path.copy_from_slice(&self.path.0[..8]);
        JournalName { info_hash: self.info_hash, path }
    }

    /// The header that `bytes` start with.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut decoder = Decoder(bytes.strip_prefix(MAGIC)?);
        decoder.u32()?;
        let pieces = decoder.u32()?;
        let (info_hash, path) = (InfoHashV1(decoder.array()?), Sha1Digest(decoder.array()?));
        Some(Self { info_hash, path, pieces }).filter(|header| bytes.starts_with(&header.encode()))
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
    /// Appends the record to `out`, which will be at `base` in the file.
    pub(super) fn encode(&self, base: u64, out: &mut Vec<u8>) {
        frame(base, self.kind(), &self.payload(), out);
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::Written(_) => 2,
            Self::Durable(_) => 3,
            Self::Lost(_) => 4,
            Self::Unfinished { .. } => 6,
            Self::Changed(_) => 10,
            Self::Expected(_) => 11,
            Self::File { .. } => 12,
            Self::Closed { .. } => 13,
            Self::InParts(_) => 14,
            Self::SavePath(_) => 15,
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Open { uploaded, downloaded } => {
                out.extend(uploaded.to_le_bytes());
                out.extend(downloaded.to_le_bytes());
            }
            Self::Written(ranges)
            | Self::Durable(ranges)
            | Self::Lost(ranges)
            | Self::Changed(ranges)
            | Self::InParts(ranges) => encode_ranges(ranges, &mut out),
            Self::Expected(expected) => {
                out.extend(expected.boot.to_le_bytes());
                encode_ranges(&expected.slots, &mut out);
            }
            Self::File { slot, id, hold, path } => {
                out.extend(slot.to_le_bytes());
                encode_id(*id, &mut out);
                out.push(*hold as u8);
                out.extend(path.as_os_str().as_bytes());
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
            Self::SavePath(SavePath { naming, folder, name }) => {
                let folder = folder.as_os_str().as_bytes();
                out.push(naming_code(*naming));
                out.extend((folder.len() as u32).to_le_bytes());
                out.extend(folder);
                out.extend(name.as_bytes());
            }
        }
        out
    }

    /// Decodes a payload. `None` if the kind is unknown or the payload is invalid.
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut decoder = Decoder(payload);
        let record = match kind {
            1 => Self::Open { uploaded: decoder.u64()?, downloaded: decoder.u64()? },
            2 => Self::Written(decoder.ranges()?),
            3 => Self::Durable(decoder.ranges()?),
            4 => Self::Lost(decoder.ranges()?),
            5 => Self::File {
                slot: decoder.u32()?,
                id: decoder.old_id()?,
                hold: Hold::Ours,
                path: PathBuf::new(),
            },
            6 => Self::Unfinished { piece: decoder.u32()?, masks: decoder.masks()? },
            7 => Self::Closed {
                uploaded: decoder.u64()?,
                downloaded: decoder.u64()?,
                files: decoder.files(|_| Some(None))?,
            },
            10 => Self::Changed(decoder.ranges()?),
            11 => Self::Expected(Expected { boot: decoder.u128()?, slots: decoder.ranges()? }),
            12 => Self::File {
                slot: decoder.u32()?,
                id: decoder.id()?,
                hold: decoder.hold()?,
                path: decoder.path()?,
            },
            13 => Self::Closed {
                uploaded: decoder.u64()?,
                downloaded: decoder.u64()?,
                files: decoder.files(Decoder::known_id)?,
            },
            14 => Self::InParts(decoder.ranges()?),
            15 => Self::SavePath(SavePath {
                naming: naming_of(decoder.array()?)?,
                folder: decoder.long_path()?,
                name: String::from_utf8(std::mem::take(&mut decoder.0).to_vec()).ok()?,
            }),
            _ => return None,
        };
        decoder.0.is_empty().then_some(record)
    }
}

fn naming_code(naming: Naming) -> u8 {
    match naming {
        Naming::Raw => 0,
        Naming::Unix => 1,
        Naming::Windows => 2,
        Naming::Short => 3,
        Naming::Version0 => 4,
    }
}

fn naming_of([code]: [u8; 1]) -> Option<Naming> {
    Naming::ALL.into_iter().find(|naming| naming_code(*naming) == code)
}

/// Appends a record of any kind and payload to `out`, which will be at `base` in the file.
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
    encode_id(file.id.unwrap_or(NO_ID), out);
}

/// An id that no file has.
pub(super) const NO_ID: FileId = FileId { device: 0, inode: 0, born: 0 };

fn encode_id(id: FileId, out: &mut Vec<u8>) {
    [id.device, id.inode, id.born].into_iter().for_each(|number| out.extend(number.to_le_bytes()));
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

/// Decodes a payload from its front.
struct Decoder<'a>(&'a [u8]);

impl Decoder<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn hold(&mut self) -> Option<Hold> {
        let [code] = self.array()?;
        [Hold::Read, Hold::Adopting, Hold::Ours].get(usize::from(code)).copied()
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

    /// An id as version 0.1.0 wrote it.
    fn old_id(&mut self) -> Option<FileId> {
        Some(FileId { device: self.u64()?, inode: self.u64()?, born: 0 })
    }

    fn id(&mut self) -> Option<FileId> {
        Some(FileId { device: self.u64()?, inode: self.u64()?, born: self.u64()? })
    }

    fn known_id(&mut self) -> Option<Option<FileId>> {
        self.id().map(|id| Some(id).filter(|id| *id != NO_ID))
    }

    /// The rest of the payload.
    fn path(&mut self) -> Option<PathBuf> {
        Some(OsString::from_vec(std::mem::take(&mut self.0).to_vec()).into())
    }

    fn long_path(&mut self) -> Option<PathBuf> {
        let length = self.u32()? as usize;
        let (path, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Path::new(std::ffi::OsStr::from_bytes(path)).to_owned())
    }

    fn ranges(&mut self) -> Option<Vec<Range<u32>>> {
        self.rest(|decoder| Some(decoder.u32()?..decoder.u32()?))
    }

    fn masks(&mut self) -> Option<Vec<u16>> {
        self.rest(|decoder| decoder.array().map(u16::from_le_bytes))
    }

    fn files(
        &mut self,
        id: impl Fn(&mut Self) -> Option<Option<FileId>>,
    ) -> Option<Vec<ClosedFile>> {
        self.rest(|decoder| {
            let (slot, length) = (decoder.u32()?, decoder.u64()?);
            let modified = (decoder.u64()? as i64, decoder.u32()?);
            Some(ClosedFile { slot, length, modified, id: id(decoder)? })
        })
    }

    /// All items in the rest of the payload.
    fn rest<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        while !self.0.is_empty() {
            items.push(item(self)?);
        }
        Some(items)
    }
}

/// Splits off the record at `position`: its kind, its payload, and the bytes after it.
pub(super) fn split_record(bytes: &[u8], position: usize) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD_LENGTH>()?;
    let [kind, a, b, c, d, sum @ ..] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let (payload, after) = rest.split_at_checked(length)?;
    (checksum(position as u64, kind, payload) == sum).then_some((kind, payload, after))
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

/// Whether one of the ascending ranges contains `number`.
pub(super) fn in_ranges(ranges: &[Range<u32>], number: u32) -> bool {
    let after = ranges.partition_point(|range| range.end <= number);
    ranges.get(after).is_some_and(|range| range.contains(&number))
}

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
#[cfg(test)]
mod tests;
