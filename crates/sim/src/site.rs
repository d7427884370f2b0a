//! Where a node's torrent is on disk, and what should be there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metainfo::Naming;

use crate::disk::{SimDisk, State};
use crate::payload::{FOLDER, FileSlice, Payload};
use crate::scenario::Want;

/// The location of a torrent: its disk, its files and its state folder.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) payload: Arc<Payload>,
    pub(crate) disk: Arc<SimDisk>,
    /// The state folder.
    pub(crate) state: &'static str,
    /// The paths that each file may have: one, or several if the disk folds its name and another's.
    paths: Vec<Vec<PathBuf>>,
    /// The parts file.
    parts: PathBuf,
}

impl Site {
    pub(crate) fn new(payload: Arc<Payload>, disk: Arc<SimDisk>, state: &'static str) -> Self {
        let all: Vec<PathBuf> = payload.files().map(|(path, _)| disk.state().key(&path)).collect();
        let mut counts: BTreeMap<&Path, u32> = BTreeMap::new();
        all.iter().for_each(|path| *counts.entry(path).or_default() += 1);
        let paths = all.iter().map(|path| {
            let is_shared = counts.get(&**path).is_some_and(|count| *count > 1);
            // A power cut may leave an empty file that takes a number.
            let numbers = if is_shared { 2..5 } else { 2..2 };
            let numbered = numbers.map(|number| metainfo::numbered(path, number, Naming::Unix));
            std::iter::once(path.clone()).chain(numbered).collect()
        });
        let paths = paths.collect();
        let parts = Path::new(state).join(payload.parts_name());
        Self { payload, disk, state, paths, parts }
    }

    /// Returns the path of a file; `None` if another entry has the same name.
    pub(crate) fn path(&self, file: usize) -> Option<&Path> {
        match &self.paths[file][..] {
            [path] => Some(path),
            _ => None,
        }
    }

    /// Returns the first path that a file may have.
    pub(crate) fn usual_path(&self, file: usize) -> &Path {
        &self.paths[file][0]
    }

    /// Returns the files that may have this path.
    pub(crate) fn files_at<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = usize> + 'a {
        let has = move |(_, paths): &(usize, &Vec<PathBuf>)| paths.iter().any(|own| own == path);
        self.paths.iter().enumerate().filter(has).map(|(file, _)| file)
    }

    /// Returns the path of the parts file.
    pub(crate) fn parts(&self) -> &Path {
        &self.parts
    }

    /// Whether a path is below the download folder.
    pub(crate) fn is_payload(path: &Path) -> bool {
        path.starts_with(FOLDER)
    }
}

/// What should be on a node's disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth<'a> {
    pub(crate) site: &'a Site,
    pub(crate) want: &'a Want,
}

/// Whether a file on a disk has some bytes.
type Has = fn(&State, &Path, u64, &[u8]) -> bool;

impl Truth<'_> {
    pub(crate) fn payload(&self) -> &Payload {
        &self.site.payload
    }

    /// Whether the whole piece is correct on the disk.
    pub(crate) fn shows(&self, piece: u32) -> bool {
        self.holds(piece, State::shows)
    }

    /// Whether it would still be correct after a power cut now.
    pub(crate) fn keeps(&self, piece: u32) -> bool {
        self.holds(piece, State::keeps)
    }

    /// Looks for bytes of unselected files in the parts file too.
    fn holds(&self, piece: u32, has: Has) -> bool {
        let Some(piece) = self.payload().piece(piece) else { return false };
        let disk = &*self.site.disk.state();
        let is_there = |slice: &FileSlice<'_>| {
            let mut paths = self.site.paths[slice.file].iter();
            paths.any(|path| has(disk, path, slice.at, slice.bytes))
                || (!self.want.has(slice.file)
                    && has(disk, self.site.parts(), slice.offset, slice.bytes))
        };
        self.payload().slices(piece).iter().all(is_there)
    }

    /// Whether an unwanted file with bytes of the piece is too long: then it is not used.
    pub(crate) fn has_long_unwanted(&self, piece: u32) -> bool {
        let Some(piece) = self.payload().piece(piece) else { return false };
        let slices = self.payload().slices(piece);
        slices.iter().any(|slice| {
            let length = self.payload().file(slice.file).len() as u64;
            let got = self.site.disk.state().length(self.site.usual_path(slice.file));
            !self.want.has(slice.file) && got.is_some_and(|got| got > length)
        })
    }

    /// Whether the length of a file is wrong.
    pub(crate) fn length_differs(&self, file: usize) -> bool {
        let length = self.payload().file(file).len() as u64;
        self.site.disk.state().length(self.site.usual_path(file)) != Some(length)
    }

    /// Returns the first wanted file that is wrong, or would be after a power cut.
    pub(crate) fn wrong_file(&self) -> Option<usize> {
        let files = 0..self.site.paths.len();
        let is_whole = |file: &usize| {
            let bytes = self.payload().file(*file);
            self.site.paths[*file]
                .iter()
                .any(|path| self.site.disk.state().keeps_whole(path, bytes))
        };
        files.filter(|file| self.want.has(*file)).find(|file| !is_whole(file))
    }
}
