//! Which file holds which byte of the torrent.
//!
//! ```text
//! torrent:  | file 0      | file 1 (not wanted)       | file 2 |
//! pieces:   | 0     | 1     | 2     | 3     | 4     | 5   |
//! on disk:  file 0  |^^^^^^^|                 |^^^^^^^|  file 2
//!                   parts file: the same offsets as in the torrent, the rest a hole
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bt_types::{Bitfield, Geometry, PieceIndex};
use metainfo::{FileEntry, Metainfo, Naming, numbered};

use super::record::Record;
use crate::{OpenSpec, Stat, StoreLayout};

/// One file of the layout.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its path below the folder.
    path: Box<Path>,
    /// The path it has instead, if another entry's file has that one.
    numbered: OnceLock<Box<Path>>,
    /// Where in the torrent it begins.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) length: u64,
    /// Whether the user wants it.
    pub(super) selected: bool,
    /// Whether it is padding, which is on no disk (BEP 47).
    pub(super) pad: bool,
    /// How long the file on the disk is at least, as far as it was seen and written.
    pub(super) known_length: AtomicU64,
    /// Whether its bytes are kept in the parts file.
    in_parts: AtomicBool,
}

impl Slot {
    fn new(path: &Path, offset: u64, length: u64) -> Self {
        Self {
            path: path.into(),
            numbered: OnceLock::new(),
            offset,
            length,
            selected: true,
            pad: false,
            known_length: AtomicU64::new(0),
            in_parts: AtomicBool::new(false),
        }
    }

    /// Its path below the folder.
    pub(super) fn path(&self) -> &Path {
        self.numbered.get().unwrap_or(&self.path)
    }

    /// Whether it has another path than the torrent says.
    pub(super) fn is_renamed(&self) -> bool {
        self.numbered.get().is_some()
    }

    /// The path that it would have if another file had its own.
    pub(super) fn numbered_path(&self, number: u32, naming: Naming) -> PathBuf {
        numbered(&self.path, number, naming)
    }

    /// Gives it another path. A second call has no effect.
    pub(super) fn rename(&self, path: &Path) {
        self.numbered.get_or_init(|| path.into());
    }

    pub(super) fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Says whether its bytes are kept in the parts file.
    pub(super) fn keep_in_parts(&self, parts: bool) {
        self.in_parts.store(parts, Ordering::Relaxed);
    }

    /// Notes how long its file is.
    pub(super) fn note_length(&self, stat: Option<Stat>) {
        let length = stat.map_or(0, |stat| stat.length.min(self.length));
        self.known_length.store(length, Ordering::Relaxed);
    }

    /// Whether its bytes are in a file of its own.
    pub(super) fn in_place(&self) -> bool {
        !self.pad && !self.in_parts.load(Ordering::Relaxed)
    }
}

/// Where a range of bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file of that slot.
    File(usize),
    /// In the parts file.
    Parts,
    /// Nowhere: it is zero.
    Zeros,
}

/// A range that does not cross the border of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlacedRange {
    /// Where the bytes are.
    pub(super) place: Place,
    /// Where in that file they begin.
    pub(super) offset: u64,
    /// How many.
    pub(super) length: u64,
}

/// All files of a torrent, in its order, without a gap.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) metainfo: Arc<Metainfo>,
    /// The canonical path of the download folder.
    pub(super) folder_path: Arc<Path>,
    pub(super) naming: Naming,
    pub(super) geometry: Geometry,
    pub(super) slots: Box<[Slot]>,
    pub(super) wanted: Bitfield,
}

impl Layout {
    /// The layout that `spec` asks for, its files named by `naming`.
    pub(super) fn new(spec: &OpenSpec, folder_path: Arc<Path>, naming: Naming) -> Self {
        let metainfo = Arc::clone(&spec.metainfo);
        let geometry = metainfo.info().geometry();
        let slots = match &spec.layout {
            StoreLayout::Torrent => torrent_slots(&metainfo, spec.selected.as_deref(), naming),
            StoreLayout::SinglePiece { piece, output } => {
                let name = output.file_name().unwrap_or_default().to_string_lossy();
                let path = PathBuf::from(format!(".{name}.part"));
                let length = u64::from(geometry.length_of(*piece));
                Box::from([Slot::new(&path, geometry.offset_of(*piece), length)])
            }
        };
        let wanted = wanted_pieces(&geometry, &slots);
        Self { metainfo, folder_path, naming, geometry, slots, wanted }
    }

    /// Returns the record from which other torrents learn where the files are.
    pub(super) fn place_record(&self) -> Record {
        let name = self.metainfo.info().name().to_owned();
        Record::Place { naming: self.naming, folder: self.folder_path.to_path_buf(), name }
    }

    /// The path of a slot below the download folder; empty for the parts file.
    pub(super) fn path(&self, slot: u32) -> &Path {
        self.slots.get(slot as usize).map_or(Path::new(""), Slot::path)
    }

    /// Where in the journal the parts file stands: after all files.
    pub(super) fn parts_slot(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Where the `length` bytes at `offset` of the torrent are, in order.
    pub(super) fn ranges(
        &self,
        offset: u64,
        length: u64,
    ) -> impl Iterator<Item = PlacedRange> + '_ {
        let end = offset + length;
        let first = self.slots.partition_point(|slot| slot.end() <= offset);
        let slots = self.slots.iter().enumerate().skip(first);
        slots
            .take_while(move |(_, slot)| slot.offset < end)
            .filter(|(_, slot)| slot.length > 0)
            .map(move |(index, slot)| {
                let from = offset.max(slot.offset);
                let length = end.min(slot.end()) - from;
                let (place, offset) = match (slot.pad, slot.in_place()) {
                    (true, _) => (Place::Zeros, 0),
                    (false, true) => (Place::File(index), from - slot.offset),
                    (false, false) => (Place::Parts, from),
                };
                PlacedRange { place, offset, length }
            })
    }

    /// Where the bytes of `piece` are, in order.
    pub(super) fn piece_ranges(&self, piece: PieceIndex) -> impl Iterator<Item = PlacedRange> + '_ {
        self.pieces_ranges(piece.get()..piece.get() + 1)
    }

    /// Where the bytes of some pieces are, in order.
    pub(super) fn pieces_ranges(
        &self,
        pieces: Range<u32>,
    ) -> impl Iterator<Item = PlacedRange> + '_ {
        let piece_length = u64::from(self.geometry.piece_length());
        let end = (u64::from(pieces.end) * piece_length).min(self.geometry.total());
        let start = (u64::from(pieces.start) * piece_length).min(end);
        self.ranges(start, end - start)
    }

    /// The pieces that have bytes in `slot`, in order.
    pub(super) fn pieces_touching(&self, slot: &Slot) -> impl Iterator<Item = PieceIndex> + use<> {
        let geometry = self.geometry;
        let length = u64::from(geometry.piece_length());
        let range = match slot.length {
            0 => 0..0,
            _ => slot.offset / length..slot.end().div_ceil(length),
        };
        range.filter_map(move |index| u32::try_from(index).ok().and_then(|i| geometry.piece(i)))
    }

    /// The pieces whose bytes are all in `slot`.
    pub(super) fn pieces_inside(&self, slot: &Slot) -> impl Iterator<Item = PieceIndex> {
        let (geometry, range) = (self.geometry, slot.offset..=slot.end());
        self.pieces_touching(slot).filter(move |piece| {
            let start = geometry.offset_of(*piece);
            let end = start + u64::from(geometry.length_of(*piece));
            range.contains(&start) && range.contains(&end)
        })
    }
}

fn torrent_slots(metainfo: &Metainfo, selected: Option<&[bool]>, naming: Naming) -> Box<[Slot]> {
    let wanted = |index: usize| selected.and_then(|list| list.get(index)).copied().unwrap_or(true);
    let slot = |(file, path): (FileEntry<'_>, PathBuf)| Slot {
        selected: wanted(file.index()) && !file.is_pad(),
        pad: file.is_pad(),
        ..Slot::new(&path, file.offset(), file.length())
    };
    let info = metainfo.info();
    info.files().iter().zip(info.disk_paths(naming)).map(slot).collect()
}

fn wanted_pieces(geometry: &Geometry, slots: &[Slot]) -> Bitfield {
    let mut wanted = Bitfield::new(geometry.piece_count());
    let piece_length = u64::from(geometry.piece_length());
    for slot in slots.iter().filter(|slot| slot.selected && slot.length > 0) {
        for index in slot.offset / piece_length..slot.end().div_ceil(piece_length) {
            if let Some(piece) = u32::try_from(index).ok().and_then(|index| geometry.piece(index)) {
                wanted.insert(piece);
            }
        }
    }
    wanted
}
