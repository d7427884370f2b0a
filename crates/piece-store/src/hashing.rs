//! Hashing pieces where they lie: several side by side, a strip of each at a time.
//!
//! ```text
//! torrent:  | piece 0         | piece 1         | piece 2         | piece 3         | ...
//!             ^ strip           ^ strip           '-- the next batch --'
//! scratch:  [ lane 0's | lane 1's ]    filled, hashed while it is in the cache, filled again
//! ```
//!
//! So memory is that of the scratch buffer, however long the pieces are. Zeros that need not be
//! read are not, and a piece of nothing else is not even hashed.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use bt_types::{Geometry, PieceIndex, Sha1Digest};
use piece_hash::{Hasher, Lanes, lane_count};

use crate::{Disk, StoreError};

/// About how many bytes one range of pieces covers.
const RANGE_LENGTH: u32 = 16 << 20;

/// Of long pieces a range has as many as are hashed at once, if they are no more bytes than this.
const MAX_RANGE_LENGTH: u32 = 256 << 20;

/// Of short pieces, how many are hashed in one batch at most.
const MAX_BATCH: usize = 64;

/// Where there are no zeros, after how many bytes they are looked for again.
const LOOK_LENGTH: u64 = 256 << 10;

/// The bytes of a torrent, wherever they lie.
pub(crate) trait Source {
    /// Fills `buffer` with the bytes at `offset` of the torrent; `false` if some are not there.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError>;

    /// How many bytes from `offset` on are known to be zero without reading them.
    fn zeros(&mut self, offset: u64) -> Result<u64, StoreError>;

    /// Says that a range will be read soon. A hint: it can't fail.
    fn prefetch(&mut self, offset: u64, length: u64);
}

/// How many bytes from `offset` on, `length` at most, are in a hole of `file`.
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

/// How many pieces one worker is given at a time: enough for the system to read ahead and for all
/// lanes to be in use, and few enough to be shared out evenly.
pub(crate) fn range_count(geometry: &Geometry) -> u32 {
    let length = geometry.piece_length().max(1);
    let lanes = lane_count() as u32;
    let full_batches = RANGE_LENGTH / length / lanes * lanes;
    full_batches.max(lanes.min(MAX_RANGE_LENGTH / length)).max(1)
}

/// Hashes `pieces` and tells `found` the digest of each, or `None` if bytes of it are missing, in
/// no order. `scratch` is [`crate::STRIP_LENGTH`] long; `zero_piece` keeps the digest of a full
/// piece of zeros.
///
/// # Errors
/// Those of the source. `found` is not called for the piece that failed, and only for some of the
/// pieces after it.
pub(crate) fn hash_pieces(
    geometry: &Geometry,
    pieces: Range<u32>,
    zero_piece: &OnceLock<Sha1Digest>,
    source: &mut impl Source,
    scratch: &mut [u8],
    mut found: impl FnMut(PieceIndex, Option<Sha1Digest>),
) -> Result<(), StoreError> {
    let lanes = batch_lanes(geometry.piece_length(), scratch.len());
    let mut batches =
        Batches { geometry, left: pieces, lanes, zeros: Zeros::default(), zero_piece };
    let mut batch = batches.next(source, &mut found);
    while !batch.is_empty() {
        // The disk reads the next one while this one is hashed.
        let next = batches.next(source, &mut found);
        batch.hash(source, scratch, scratch.len() / lanes, &mut found)?;
        batch = next;
    }
    Ok(())
}

/// How many pieces are hashed in one batch: what the processor is best at, or some times that if
/// they are so short that the scratch buffer has room for them.
fn batch_lanes(piece_length: u32, scratch: usize) -> usize {
    let room = scratch / piece_length.max(1) as usize;
    (room.min(MAX_BATCH) / lane_count()).max(1) * lane_count()
}

fn range_of(geometry: &Geometry, piece: PieceIndex) -> Range<u64> {
    let start = geometry.offset_of(piece);
    start..start + u64::from(geometry.length_of(piece))
}

/// The digest of so many zeros.
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

/// Where zeros are, as far as the source was asked. Offsets must not go back.
#[derive(Debug, Clone, Copy, Default)]
struct Zeros {
    /// Where the zeros end that were found last.
    end: u64,
    /// From where on nothing is known.
    known: u64,
}

impl Zeros {
    /// Where the zeros at `offset` end: `offset` or less if there are none.
    fn end(&mut self, offset: u64, source: &mut impl Source) -> Result<u64, StoreError> {
        if offset >= self.known {
            self.end = offset + source.zeros(offset)?;
            self.known = self.end.max(offset + LOOK_LENGTH);
        }
        Ok(self.end)
    }

    /// Whether a range is nothing but zeros.
    fn cover(&mut self, range: &Range<u64>, source: &mut impl Source) -> Result<bool, StoreError> {
        let mut at = range.start;
        while at < range.end {
            let end = self.end(at, source)?;
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
    /// The next pieces to be read and hashed, which the source is told of; empty at the end. Full
    /// pieces of zeros are told to `found` at once.
    fn next(
        &mut self,
        source: &mut impl Source,
        found: &mut impl FnMut(PieceIndex, Option<Sha1Digest>),
    ) -> Batch {
        let full = self.geometry.piece_length();
        let mut batch = Batch::default();
        while batch.has_room(self.lanes)
            && let Some(piece) = self.left.next().and_then(|index| self.geometry.piece(index))
        {
            let range = range_of(self.geometry, piece);
            match self.zeros.cover(&range, source) {
                Ok(true) if self.geometry.length_of(piece) == full => {
                    found(piece, Some(*self.zero_piece.get_or_init(|| hash_zeros(full))));
                }
                Ok(_) => {
                    source.prefetch(range.start, range.end - range.start);
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
    /// Why one of them, or the piece after them, can't be hashed: the first reason.
    error: Option<StoreError>,
}

impl Batch {
    fn has_room(&self, lanes: usize) -> bool {
        self.error.is_none() && self.lanes.len() < lanes
    }

    fn is_empty(&self) -> bool {
        self.error.is_none() && self.lanes.is_empty()
    }

    /// Hashes all of it, `strip` bytes of each piece at a time.
    fn hash(
        mut self,
        source: &mut impl Source,
        scratch: &mut [u8],
        strip: usize,
        found: &mut impl FnMut(PieceIndex, Option<Sha1Digest>),
    ) -> Result<(), StoreError> {
        let mut hashes = Lanes::new(self.lanes.len());
        while self.lanes.iter().any(|lane| !lane.left.is_empty()) {
            let mut strips: Vec<&[u8]> = Vec::with_capacity(self.lanes.len());
            let mut buffers = scratch.chunks_mut(strip.max(1));
            for lane in &mut self.lanes {
                let next = lane.next_strip(source, buffers.next().unwrap_or_default());
                strips.push(next.unwrap_or_else(|error| {
                    self.error.get_or_insert(error);
                    &[]
                }));
            }
            hashes.update(&strips);
        }
        for (lane, digest) in self.lanes.iter().zip(hashes.finish()) {
            match lane.fate {
                Fate::Whole => found(lane.piece, Some(digest)),
                Fate::Missing => found(lane.piece, None),
                Fate::Failed => {}
            }
        }
        self.error.map_or(Ok(()), Err)
    }
}

/// One piece of a batch.
struct Lane {
    piece: PieceIndex,
    /// Which bytes of the torrent are still to be hashed for it.
    left: Range<u64>,
    zeros: Zeros,
    fate: Fate,
}

enum Fate {
    /// Every byte was there, so far.
    Whole,
    /// Some byte is not there.
    Missing,
    /// Some byte can't be read.
    Failed,
}

impl Lane {
    fn new(piece: PieceIndex, left: Range<u64>, zeros: Zeros) -> Self {
        Self { piece, left, zeros, fate: Fate::Whole }
    }

    /// The next bytes, in `buffer`; none at the end, nor after some were not there.
    fn next_strip<'b>(
        &mut self,
        source: &mut impl Source,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], StoreError> {
        let length = (self.left.end - self.left.start).min(buffer.len() as u64);
        let strip = buffer.get_mut(..length as usize).unwrap_or_default();
        match self.fill(source, strip) {
            Ok(true) => {
                self.left.start += length;
                Ok(strip)
            }
            Ok(false) => Ok(self.give_up(Fate::Missing)),
            Err(error) => {
                self.give_up(Fate::Failed);
                Err(error)
            }
        }
    }

    /// Fills `strip` with what comes next; `false` if it is not there.
    fn fill(&mut self, source: &mut impl Source, strip: &mut [u8]) -> Result<bool, StoreError> {
        if self.left.is_empty() || strip.is_empty() {
            return Ok(self.left.is_empty());
        }
        let at = self.left.start;
        if self.zeros.end(at, source)? < at + strip.len() as u64 {
            return source.read(at, strip);
        }
        strip.fill(0);
        Ok(true)
    }

    /// Nothing more is read for this piece.
    fn give_up(&mut self, fate: Fate) -> &'static [u8] {
        self.fate = fate;
        self.left.start = self.left.end;
        &[]
    }
}
