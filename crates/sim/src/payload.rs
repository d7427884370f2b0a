//! A torrent and its true bytes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::PieceIndex;
use metainfo::Metainfo;

use crate::rng::Rng;
use crate::scenario::Want;

/// The folder that all nodes download to.
pub(crate) const FOLDER: &str = "/data";

/// A torrent whose bytes are known.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pub(crate) metainfo: Arc<Metainfo>,
    data: Arc<[u8]>,
    /// The name of the parts file.
    parts_name: String,
}

/// The bytes of a piece that are in one file.
#[derive(Debug, Clone)]
pub(crate) struct FileSlice<'a> {
    /// The index of the file.
    pub(crate) file: usize,
    /// The offset in the file.
    pub(crate) at: u64,
    /// The offset in the torrent.
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
}

/// The shape of a payload.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Paths below the torrent's folder, and lengths. A single file has an empty path.
    pub(crate) files: Vec<(String, u64)>,
    pub(crate) piece_length: u32,
    pub(crate) trackers: Vec<Vec<String>>,
    /// The share of the pieces that are all zeros, in percent.
    pub(crate) zeros: u32,
}

impl Layout {
    pub(crate) fn total(&self) -> u64 {
        self.files.iter().map(|(_, length)| length).sum()
    }
}

impl Payload {
    /// Makes a payload of random bytes; `fixed` is a file whose bytes are given.
    pub(crate) fn new(layout: &Layout, fixed: Option<(usize, &[u8])>, mut rng: Rng) -> Self {
        let mut data = vec![0; layout.total() as usize];
        for piece in data.chunks_mut(layout.piece_length as usize) {
            if !rng.chance(layout.zeros) {
                rng.fill(piece);
            }
        }
        if let Some((file, bytes)) = fixed {
            let at = layout.files.iter().take(file).map(|(_, length)| *length as usize).sum();
            data[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let pieces = data.chunks(layout.piece_length as usize);
        let hashes: Vec<_> = pieces.map(piece_hash::sha1).collect();
        let mut builder = metainfo::Builder::new("film")
            .piece_length(layout.piece_length)
            .trackers(layout.trackers.clone());
        for (path, length) in &layout.files {
            builder = builder.file(path, *length);
        }
        let metainfo = builder.build(&hashes).expect("the drawn layout makes a torrent");
        let folder = piece_hash::sha1(FOLDER.as_bytes()).0;
        let folder: String = folder[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let parts_name = format!("{}-{folder}.parts", metainfo.info_hash());
        Self { metainfo: Arc::new(metainfo), data: data.into(), parts_name }
    }

    /// Returns the true bytes of a range of a piece; `None` if there is no such range.
    pub(crate) fn range(&self, piece: u32, offset: u32, length: u32) -> Option<&[u8]> {
        let piece_length = self.metainfo.info().geometry().piece_length();
        let start = piece as usize * piece_length as usize + offset as usize;
        self.data.get(start..start.checked_add(length as usize)?)
    }

    /// Whether a piece is all zeros.
    pub(crate) fn is_zero(&self, piece: u32) -> bool {
        let length =
            self.piece(piece).map_or(0, |at| self.metainfo.info().geometry().length_of(at));
        self.range(piece, 0, length).is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
    }

    /// Returns the bytes of `piece` by file. Empty files are left out.
    pub(crate) fn slices(&self, piece: PieceIndex) -> Vec<FileSlice<'_>> {
        let info = self.metainfo.info();
        let geometry = info.geometry();
        let mut rest = self.range(piece.get(), 0, geometry.length_of(piece)).unwrap_or_default();
        let mut offset = geometry.offset_of(piece);
        let mut slices = Vec::new();
        for range in info.file_ranges(piece) {
            let (bytes, tail) = rest.split_at(range.length as usize);
            rest = tail;
            slices.push(FileSlice { file: range.file, at: range.offset, offset, bytes });
            offset += range.length;
        }
        slices
    }

    /// Returns path and length of every file.
    pub(crate) fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
        self.metainfo.info().files().iter().map(|file| (path_of(&file), file.length()))
    }

    /// The name of the parts file.
    pub(crate) fn parts_name(&self) -> &str {
        &self.parts_name
    }

    /// Returns the true bytes of a file.
    pub(crate) fn file(&self, number: usize) -> &[u8] {
        let info = self.metainfo.info();
        let file = info.file(number);
        let range =
            file.map(|file| file.offset() as usize..(file.offset() + file.length()) as usize);
        range.and_then(|range| self.data.get(range)).unwrap_or_default()
    }

    /// Returns the pieces that are needed for `want`.
    pub(crate) fn wanted(&self, want: &Want) -> BTreeSet<u32> {
        let files = 0..self.metainfo.info().files().len();
        files.filter(|file| want.has(*file)).flat_map(|file| self.pieces_in(file)).collect()
    }

    /// Returns the pieces that have bytes in a file.
    pub(crate) fn pieces_in(&self, file: usize) -> Range<u32> {
        let info = self.metainfo.info();
        let length = u64::from(info.geometry().piece_length());
        match info.file(file).filter(|file| file.length() > 0) {
            Some(file) => {
                let end = (file.offset() + file.length()).div_ceil(length);
                (file.offset() / length) as u32..end as u32
            }
            None => 0..0,
        }
    }

    pub(crate) fn pieces(&self) -> u32 {
        self.metainfo.info().geometry().piece_count()
    }

    pub(crate) fn piece(&self, index: u32) -> Option<PieceIndex> {
        self.metainfo.info().geometry().piece(index)
    }
}

fn path_of(file: &metainfo::FileEntry<'_>) -> PathBuf {
    Path::new(FOLDER).join(file.disk_path())
}
