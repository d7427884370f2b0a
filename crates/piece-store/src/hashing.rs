//! Hashes pieces on disk: several in parallel lanes, a strip of each at a time.
//!
//! ```text
//! torrent:  | piece 0         | piece 1         | piece 2         | piece 3         | ...
//!             ^ strip           ^ strip           '-- the next batch --'
//! scratch:  [ lane 0's | lane 1's ]    filled, hashed while it is in the cache, filled again
//! ```
//!
//! So the memory is that of the scratch buffer, however long the pieces are. Holes are not read,
//! and a piece of zeros is not hashed again.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use bt_types::{Geometry, PieceIndex, Sha1Digest};
use piece_hash::{Hasher, Lanes, lane_count};

use crate::{Disk, StoreError};

/// About how many bytes one range of pieces covers.
const RANGE_LENGTH: u32 = 16 << 20;

/// A range of long pieces has as many as are hashed at once, up to this many bytes.
const MAX_RANGE_LENGTH: u32 = 256 << 20;

/// The most pieces in one batch.
const MAX_BATCH: usize = 64;

/// Where there is no hole, after how many bytes the next one is looked for.
const LOOK_LENGTH: u64 = 256 << 10;

/// The bytes of a torrent, wherever they are.
pub(crate) trait PieceData {
    /// Fills `buffer` with the bytes at `offset` of the torrent. Returns `false` if some are
    /// missing.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError>;

    /// Returns how many bytes from `offset` on are zero, as far as is known without reading them.
    fn zeros(&mut self, offset: u64) -> Result<u64, StoreError>;

    /// Hints that a range will be read soon.
    fn prefetch(&mut self, offset: u64, length: u64);
}

/// Returns how many bytes from `offset` on, `length` at most, are in a hole of `file`.
pub(crate) fn hole_length<D: Disk>(
    disk: &D,
    file: &D::File,
    offset: u64,
    length: u64,
) -> io::Result<u64> {
    let end = match disk.next_data(file, offset)? {
        Some(data) => data,
        None => disk.file_stat(file)?.length,
    };
    Ok(end.saturating_sub(offset).min(length))
}

/// Returns how many pieces one worker gets at a time: enough for the system to read ahead and to
/// use all lanes, and few enough to be divided evenly.
pub(crate) fn range_count(geometry: &Geometry) -> u32 {
    let length = geometry.piece_length().max(1);
    let lanes = lane_count() as u32;
    let full_batches = RANGE_LENGTH / length / lanes * lanes;
    full_batches.max(lanes.min(MAX_RANGE_LENGTH / length)).max(1)
}

/// Hashes `pieces`. Calls `found` with the digest of each, or `None` if bytes of it are missing, in
/// any order. `scratch` is [`crate::STRIP_LENGTH`] long; `zero_piece` caches the digest of a full
/// piece of zeros.
///
/// # Errors
/// Those of `data`. `found` is not called for the piece that failed, and only for some of the
/// pieces after it.
pub(crate) fn hash_pieces(
    geometry: &Geometry,
    pieces: Range<u32>,
    zero_piece: &OnceLock<Sha1Digest>,
    data: &mut impl PieceData,
    scratch: &mut [u8],
    mut found: impl FnMut(PieceIndex, Option<Sha1Digest>),
) -> Result<(), StoreError> {
    let lanes = batch_lanes(geometry.piece_length(), scratch.len());
    let mut batches =
        Batches { geometry, left: pieces, lanes, zeros: Zeros::default(), zero_piece };
    let mut batch = batches.next(data, &mut found);
    while !batch.is_empty() {
        // The disk reads the next batch while this one is hashed.
        let next = batches.next(data, &mut found);
        batch.hash(data, scratch, scratch.len() / lanes, &mut found)?;
        batch = next;
    }
    Ok(())
}

/// Returns how many pieces are hashed in one batch: the number of lanes, or a multiple of it for
/// pieces so short that they all fit into the scratch buffer.
fn batch_lanes(piece_length: u32, scratch: usize) -> usize {
    let room = scratch / piece_length.max(1) as usize;
    (room.min(MAX_BATCH) / lane_count()).max(1) * lane_count()
}

fn range_of(geometry: &Geometry, piece: PieceIndex) -> Range<u64> {
    let start = geometry.offset_of(piece);
    start..start + u64::from(geometry.length_of(piece))
}

/// Returns the digest of `length` zeros.
pub(crate) fn hash_zeros(length: u32) -> Sha1Digest {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut hasher = Hasher::new();
    let mut left = length as usize;
    while left > 0 {
        let part = ZEROS.get(..left).unwrap_or(&ZEROS);
        hasher.update(part);
        left -= part.len();
    }
    hasher.finish()
}

/// The zeros that were looked up last. Offsets must not go back.
#[derive(Debug, Clone, Copy, Default)]
struct Zeros {
    /// Where the zeros end that were found last.
    end: u64,
    /// Up to where zeros were looked up.
    known: u64,
}

impl Zeros {
    /// Returns the end of the zeros at `offset`: `offset` or less if there are none.
    fn end(&mut self, offset: u64, data: &mut impl PieceData) -> Result<u64, StoreError> {
        if offset >= self.known {
            self.end = offset + data.zeros(offset)?;
            self.known = self.end.max(offset + LOOK_LENGTH);
        }
        Ok(self.end)
    }

    /// Whether a range is all zeros.
    fn cover(&mut self, range: &Range<u64>, data: &mut impl PieceData) -> Result<bool, StoreError> {
        let mut at = range.start;
        while at < range.end {
            let end = self.end(at, data)?;
            if end <= at {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }
}

/// Makes batches of pieces.
struct Batches<'a> {
    geometry: &'a Geometry,
    left: Range<u32>,
    lanes: usize,
    zeros: Zeros,
    zero_piece: &'a OnceLock<Sha1Digest>,
}

impl Batches<'_> {
    /// Returns the next pieces to be read and hashed, and prefetches them; empty at the end.
    /// Reports full pieces of zeros to `found` at once.
    fn next(
        &mut self,
        data: &mut impl PieceData,
        found: &mut impl FnMut(PieceIndex, Option<Sha1Digest>),
    ) -> Batch {
        let full = self.geometry.piece_length();
        let mut batch = Batch::default();
        while batch.has_room(self.lanes)
            && let Some(piece) = self.left.next().and_then(|index| self.geometry.piece(index))
        {
            let range = range_of(self.geometry, piece);
            match self.zeros.cover(&range, data) {
                Ok(true) if self.geometry.length_of(piece) == full => {
                    found(piece, Some(*self.zero_piece.get_or_init(|| hash_zeros(full))));
                }
                Ok(_) => {
                    data.prefetch(range.start, range.end - range.start);
                    batch.lanes.push(Lane::new(piece, range, self.zeros));
                }
                Err(error) => batch.error = Some(error),
            }
        }
        batch
    }
}

/// Pieces that are hashed together.
#[derive(Default)]
struct Batch {
    lanes: Vec<Lane>,
    /// The first error of these pieces or the piece after them.
    error: Option<StoreError>,
}

impl Batch {
    fn has_room(&self, lanes: usize) -> bool {
        self.error.is_none() && self.lanes.len() < lanes
    }

    fn is_empty(&self) -> bool {
        self.error.is_none() && self.lanes.is_empty()
    }

    /// Hashes the batch, `strip` bytes of each piece at a time.
    fn hash(
        mut self,
        data: &mut impl PieceData,
        scratch: &mut [u8],
        strip: usize,
        found: &mut impl FnMut(PieceIndex, Option<Sha1Digest>),
    ) -> Result<(), StoreError> {
        let mut hashes = Lanes::new(self.lanes.len());
        while self.lanes.iter().any(|lane| !lane.left.is_empty()) {
            let mut strips: Vec<&[u8]> = Vec::with_capacity(self.lanes.len());
            let mut buffers = scratch.chunks_mut(strip.max(1));
            for lane in &mut self.lanes {
                let buffer = buffers.next().expect("a strip for each lane");
                let next = lane.next_strip(data, buffer);
                strips.push(next.unwrap_or_else(|error| {
                    self.error.get_or_insert(error);
                    &[]
                }));
            }
            hashes.update(&strips);
        }
        for (lane, digest) in self.lanes.iter().zip(hashes.finish()) {
            match lane.state {
                LaneState::Whole => found(lane.piece, Some(digest)),
                LaneState::Missing => found(lane.piece, None),
                LaneState::Failed => {}
            }
        }
        self.error.map_or(Ok(()), Err)
    }
}

/// One piece of a batch.
struct Lane {
    piece: PieceIndex,
    /// The bytes of the torrent that are still to be hashed for it.
    left: Range<u64>,
    zeros: Zeros,
    state: LaneState,
}

enum LaneState {
    /// Every byte was present, so far.
    Whole,
    /// Some byte is missing.
    Missing,
    /// Some byte can't be read.
    Failed,
}

impl Lane {
    fn new(piece: PieceIndex, left: Range<u64>, zeros: Zeros) -> Self {
        Self { piece, left, zeros, state: LaneState::Whole }
    }

    /// Returns the next bytes, in `buffer`; none at the end or after an error or missing bytes.
    fn next_strip<'b>(
        &mut self,
        data: &mut impl PieceData,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], StoreError> {
        let length = (self.left.end - self.left.start).min(buffer.len() as u64);
        let strip = &mut buffer[..length as usize];
        match self.fill(data, strip) {
            Ok(true) => {
                self.left.start += length;
                Ok(strip)
            }
            Ok(false) => Ok(self.give_up(LaneState::Missing)),
            Err(error) => {
                self.give_up(LaneState::Failed);
                Err(error)
            }
        }
    }

    /// Fills `strip` with the next bytes. Returns `false` if some are missing.
    fn fill(&mut self, data: &mut impl PieceData, strip: &mut [u8]) -> Result<bool, StoreError> {
        if self.left.is_empty() || strip.is_empty() {
            return Ok(self.left.is_empty());
        }
        let at = self.left.start;
        if self.zeros.end(at, data)? < at + strip.len() as u64 {
            return data.read(at, strip);
        }
        strip.fill(0);
        Ok(true)
    }

    /// Stops reading this piece.
    fn give_up(&mut self, state: LaneState) -> &'static [u8] {
        self.state = state;
        self.left.start = self.left.end;
        &[]
    }
}
