//! Maps bytes of the torrent to files on disk.
//!
//! ```text
//! torrent:  | file 0      | file 1 (unselected)       | file 2 |
//! pieces:   | 0     | 1     | 2     | 3     | 4     | 5   |
//! on disk:  file 0  |^^^^^^^|                 |^^^^^^^|  file 2
//!                   parts file: the same offsets as in the torrent, the rest a hole
//! ```

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bt_types::{Bitfield, Geometry, PieceIndex};
use metainfo::{FileEntry, Metainfo, Naming, numbered};

use super::record::SavePath;
use crate::{OpenSpec, Operation, Stat, StoreError, StoreLayout};

/// One file of the layout.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its path below the folder.
    path: Box<Path>,
    /// The path it has instead, if another entry has the file at `path`.
    numbered: OnceLock<Box<Path>>,
    /// Where in the torrent it starts.
    pub(super) offset: u64,
    /// Its length in the torrent.
    pub(super) length: u64,
    /// Whether the user wants it.
    pub(super) selected: bool,
    /// Whether it is padding, which is on no disk (BEP 47).
    pub(super) pad: bool,
    /// The least length of the file on the disk, by what was found and written.
    pub(super) known_length: AtomicU64,
    /// Whether its bytes are in the parts file.
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

    /// The path that it gets if `number - 1` other entries have its own.
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

    /// Moves it to the parts file, or out of it.
    pub(super) fn set_in_parts(&self, in_parts: bool) {
        self.in_parts.store(in_parts, Ordering::Relaxed);
    }

    /// Records the length of its file.
    pub(super) fn note_length(&self, stat: Option<Stat>) {
        let length = stat.map_or(0, |stat| stat.length.min(self.length));
        self.known_length.store(length, Ordering::Relaxed);
    }

    /// Whether its bytes are in a file of its own.
    pub(super) fn has_own_file(&self) -> bool {
        !self.pad && !self.in_parts.load(Ordering::Relaxed)
    }
}

/// Where bytes of the torrent are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// In the file of the slot with this number.
    File(u32),
    /// In the parts file.
    Parts,
    /// Nowhere: they are padding, which is zero.
    Zeros,
}

/// A range of the torrent that is within one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where the bytes are.
    pub(super) location: Location,
    /// The offset of the first byte in that file.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) length: u64,
}

/// All files of a torrent, in its order, without gaps.
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
        let wanted = wanted_pieces(geometry, &slots);
        Self { metainfo, folder_path, naming, geometry, slots, wanted }
    }

    /// Returns what other torrents learn from the journal about where the files are.
    pub(super) fn save_path(&self) -> SavePath {
        let name = self.metainfo.info().name().to_owned();
        SavePath { naming: self.naming, folder: self.folder_path.to_path_buf(), name }
    }

    /// The slots with their numbers.
    pub(super) fn numbered(&self) -> impl DoubleEndedIterator<Item = (u32, &Slot)> + Clone {
        self.slots.iter().enumerate().map(|(number, slot)| (number as u32, slot))
    }

    /// The slot with this number.
    pub(super) fn slot(&self, number: u32) -> &Slot {
        &self.slots[number as usize]
    }

    /// The path of a slot below the download folder; empty for the parts file.
    pub(super) fn path(&self, slot: u32) -> &Path {
        self.slots.get(slot as usize).map_or(Path::new(""), Slot::path)
    }

    /// The slot number of the parts file in the journal: it comes after all files.
    pub(super) fn parts_slot(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Where the file with this slot number is.
    pub(super) fn location(&self, slot: u32) -> Location {
        if slot == self.parts_slot() { Location::Parts } else { Location::File(slot) }
    }

    /// The slot number of the file at a location, padding excepted.
    pub(super) fn slot_at(&self, location: Location) -> u32 {
        match location {
            Location::File(slot) => slot,
            Location::Parts | Location::Zeros => self.parts_slot(),
        }
    }

    /// The full path of a slot.
    pub(super) fn full_path(&self, slot: u32) -> PathBuf {
        self.folder_path.join(self.path(slot))
    }

    /// The error of `operation` on the file or folder `path` below the download folder.
    pub(super) fn error(&self, operation: Operation, path: &Path, error: &io::Error) -> StoreError {
        StoreError::disk(operation, &self.folder_path.join(path), error)
    }

    /// Splits the `length` bytes at `offset` of the torrent by file, in order.
    pub(super) fn segments(&self, offset: u64, length: u64) -> impl Iterator<Item = Segment> + '_ {
        let end = offset + length;
        let first = self.slots.partition_point(|slot| slot.end() <= offset);
        let slots = self.numbered().skip(first);
        slots
            .take_while(move |(_, slot)| slot.offset < end)
            .filter(|(_, slot)| slot.length > 0)
            .map(move |(number, slot)| {
                let from = offset.max(slot.offset);
                let length = end.min(slot.end()) - from;
                let (location, offset) = match (slot.pad, slot.has_own_file()) {
                    (true, _) => (Location::Zeros, 0),
                    (false, true) => (Location::File(number), from - slot.offset),
                    (false, false) => (Location::Parts, from),
                };
                Segment { location, offset, length }
            })
    }

    /// Splits the bytes of `piece` by file, in order.
    pub(super) fn piece_segments(&self, piece: PieceIndex) -> impl Iterator<Item = Segment> + '_ {
        self.pieces_segments(piece.get()..piece.get() + 1)
    }

    /// Splits the bytes of some pieces by file, in order.
    pub(super) fn pieces_segments(&self, pieces: Range<u32>) -> impl Iterator<Item = Segment> + '_ {
        let piece_length = u64::from(self.geometry.piece_length());
        let end = (u64::from(pieces.end) * piece_length).min(self.geometry.total());
        let start = (u64::from(pieces.start) * piece_length).min(end);
        self.segments(start, end - start)
    }

    /// The pieces that have bytes in `slot`, in order.
    pub(super) fn pieces_touching(&self, slot: &Slot) -> impl Iterator<Item = PieceIndex> + use<> {
        pieces_touching(self.geometry, slot)
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

fn wanted_pieces(geometry: Geometry, slots: &[Slot]) -> Bitfield {
    let mut wanted = Bitfield::new(geometry.piece_count());
    for slot in slots.iter().filter(|slot| slot.selected) {
        pieces_touching(geometry, slot).for_each(|piece| _ = wanted.insert(piece));
    }
    wanted
}

fn pieces_touching(geometry: Geometry, slot: &Slot) -> impl Iterator<Item = PieceIndex> + use<> {
    let length = u64::from(geometry.piece_length());
    let range = match slot.length {
        0 => 0..0,
        _ => slot.offset / length..slot.end().div_ceil(length),
    };
    range.filter_map(move |index| u32::try_from(index).ok().and_then(|i| geometry.piece(i)))
}
