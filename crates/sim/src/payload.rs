//! The torrent of a run and its true bytes.

use std::path::PathBuf;
use std::sync::Arc;

use bt_types::PieceIndex;
use metainfo::Metainfo;

use crate::dice::Dice;

/// A torrent whose bytes are known.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pub(crate) metainfo: Arc<Metainfo>,
    data: Arc<[u8]>,
}

/// What a payload is made of.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Paths below the torrent's folder, and lengths; one with an empty path is a single file.
    pub(crate) files: Vec<(String, u64)>,
    pub(crate) piece_length: u32,
    pub(crate) trackers: Vec<Vec<String>>,
    /// How many percent of the pieces are all zeros.
    pub(crate) zeros: u32,
}

impl Payload {
    pub(crate) fn new(layout: &Layout, mut dice: Dice) -> Self {
        let total: u64 = layout.files.iter().map(|(_, length)| length).sum();
        let mut data = vec![0; total as usize];
        let mut hashes = Vec::new();
        for piece in data.chunks_mut(layout.piece_length as usize) {
            if !dice.chance(layout.zeros) {
                dice.fill(piece);
            }
            hashes.push(piece_hash::sha1(piece));
        }
        let mut builder = metainfo::Builder::new("film")
            .piece_length(layout.piece_length)
            .trackers(layout.trackers.clone());
        for (path, length) in &layout.files {
            builder = builder.file(path, *length);
        }
        let metainfo = builder.build(&hashes).expect("the drawn layout makes a torrent");
        Self { metainfo: Arc::new(metainfo), data: data.into() }
    }

    /// The true bytes of a range of a piece, if there is such a range.
    pub(crate) fn range(&self, piece: u32, offset: u32, length: u32) -> Option<&[u8]> {
        let piece_length = self.metainfo.info().geometry().piece_length();
        let start = piece as usize * piece_length as usize + offset as usize;
        self.data.get(start..start.checked_add(length as usize)?)
    }

    /// Where the bytes of `piece` lie: file, offset, bytes. Empty files lie nowhere.
    pub(crate) fn places(&self, piece: PieceIndex) -> Vec<(PathBuf, u64, &[u8])> {
        let info = self.metainfo.info();
        let geometry = info.geometry();
        let mut rest = self.range(piece.get(), 0, geometry.length_of(piece)).unwrap_or_default();
        let mut places = Vec::new();
        for range in info.file_ranges(piece) {
            let (bytes, tail) = rest.split_at(range.length as usize);
            rest = tail;
            if let Some(file) = info.file(range.file) {
                places.push((file.disk_path(), range.offset, bytes));
            }
        }
        places
    }

    /// Every file: its path below the download folder, and its length.
    pub(crate) fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
        self.metainfo.info().files().iter().map(|file| (file.disk_path(), file.length()))
    }

    pub(crate) fn pieces(&self) -> u32 {
        self.metainfo.info().geometry().piece_count()
    }

    pub(crate) fn piece(&self, index: u32) -> Option<PieceIndex> {
        self.metainfo.info().geometry().piece(index)
    }
}
