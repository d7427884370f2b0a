//! Listing and hashing files for a new torrent, for a command: blocks until it is done.

use std::fs::{File, FileType};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bt_types::{Geometry, PieceIndex, Sha1Digest};
use piece_hash::Hasher;

use super::worker_count;
use crate::disk::{Disk, OsDisk};
use crate::store::STRIP_LENGTH;
use crate::{Operation, StoreError};

/// The deepest folder that is looked into. Torrents with longer paths are refused by most.
const MAX_DEPTH: usize = 100;

/// What would become of a file or folder as a torrent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The files, sorted by path.
    pub files: Vec<ListedFile>,
    /// What is not a regular file, sorted: symbolic links, sockets and the like. Links are not followed,
    /// because the program that serves the torrent later does not follow them either.
    pub skipped: Vec<PathBuf>,
}

/// One file of a new torrent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedFile {
    /// Its path below the root; empty if the root is a file itself.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
}

/// Lists the files at `root`: the file itself, or all files of the folder and the folders in it. The
/// root may be a symbolic link.
///
/// # Errors
/// Something can't be listed; folders are more than 100 deep.
pub fn list_files(root: &Path) -> Result<Listing, StoreError> {
    let failed = |error| StoreError::disk(Operation::List, root, &error);
    let metadata = std::fs::metadata(root).map_err(failed)?;
    let mut listing = Listing::default();
    if metadata.is_dir() {
        list_folder(root, &PathBuf::new(), 0, &mut listing)?;
        listing.files.sort();
        listing.skipped.sort();
    } else if metadata.is_file() {
        listing.files.push(ListedFile { path: PathBuf::new(), length: metadata.len() });
    } else {
        listing.skipped.push(PathBuf::new());
    }
    Ok(listing)
}

fn list_folder(
    root: &Path,
    inner: &Path,
    depth: usize,
    listing: &mut Listing,
) -> Result<(), StoreError> {
    let folder = root.join(inner);
    let failed = |error| StoreError::disk(Operation::List, &folder, &error);
    if depth >= MAX_DEPTH {
        return Err(failed(std::io::Error::other("folders are more than 100 deep")));
    }
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = inner.join(entry.file_name());
        match entry.file_type().map_err(failed)? {
            kind if kind.is_dir() => list_folder(root, &path, depth + 1, listing)?,
            kind if FileType::is_file(&kind) => {
                let length = entry.metadata().map_err(failed)?.len();
                listing.files.push(ListedFile { path, length });
            }
            _ => listing.skipped.push(path),
        }
    }
    Ok(())
}

/// Hashes `files` below `root`, one after another as a torrent lays them out, in pieces of `piece_length`
/// bytes, on `workers` threads (0 for one a core), one strip of memory each. `progress` gets the bytes
/// done and the bytes in all, from any of the threads.
///
/// # Errors
/// A file can't be read, or is not as long as it was when listed; the numbers are no torrent's.
pub fn hash_files(
    root: &Path,
    files: &[ListedFile],
    piece_length: u32,
    workers: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Vec<Sha1Digest>, StoreError> {
    let total = files.iter().map(|file| file.length).sum();
    let geometry = Geometry::new(total, u64::from(piece_length)).map_err(|error| {
        StoreError::disk(Operation::Read, root, &std::io::Error::other(error.to_string()))
    })?;
    let job = Hashing {
        root,
        files,
        starts: starts(files),
        geometry,
        next: AtomicU32::new(0),
        done: AtomicU64::new(0),
        found: Mutex::new(Ok(vec![None; geometry.piece_count() as usize])),
        progress,
    };
    std::thread::scope(|scope| {
        for _ in 0..worker_count(workers) {
            scope.spawn(|| job.run());
        }
    });
    let found = job.found.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    check_lengths(root, files)?;
    Ok(found.into_iter().flatten().collect())
}

/// Where each file begins in the torrent.
fn starts(files: &[ListedFile]) -> Vec<u64> {
    let mut end = 0;
    let mut start = |file: &ListedFile| {
        let start = end;
        end += file.length;
        start
    };
    files.iter().map(&mut start).collect()
}

/// Whether every file is still as long as it was listed: one that grew was hashed in part.
fn check_lengths(root: &Path, files: &[ListedFile]) -> Result<(), StoreError> {
    for file in files {
        let path = full_path(root, file);
        let failed = |error| StoreError::disk(Operation::Stat, &path, &error);
        let length = std::fs::metadata(&path).map_err(failed)?.len();
        if length != file.length {
            return Err(failed(changed(file.length, length)));
        }
    }
    Ok(())
}

fn changed(expected: u64, got: u64) -> std::io::Error {
    let message = format!("it changed meanwhile: expected {expected} bytes, got {got}");
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, message)
}

fn full_path(root: &Path, file: &ListedFile) -> PathBuf {
    match file.path.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(&file.path),
    }
}

/// What the threads share.
struct Hashing<'a> {
    root: &'a Path,
    files: &'a [ListedFile],
    starts: Vec<u64>,
    geometry: Geometry,
    next: AtomicU32,
    done: AtomicU64,
    found: Mutex<Result<Vec<Option<Sha1Digest>>, StoreError>>,
    progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// What one thread keeps from piece to piece.
struct Reader {
    disk: OsDisk,
    strip: Vec<u8>,
    /// The file read last: the next piece mostly goes on in it.
    open: Option<(usize, File)>,
}

impl Hashing<'_> {
    /// Takes the next piece until there is none, or one can't be read.
    fn run(&self) {
        let mut reader = Reader { disk: OsDisk::new(), strip: vec![0; STRIP_LENGTH], open: None };
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = self.geometry.piece(next) else { return };
            let hashed = self.hash_piece(piece, &mut reader);
            let stop = hashed.is_err();
            self.keep(piece, hashed);
            if stop {
                self.next.store(self.geometry.piece_count(), Ordering::Relaxed);
                return;
            }
            let length = u64::from(self.geometry.length_of(piece));
            let done = self.done.fetch_add(length, Ordering::Relaxed) + length;
            (self.progress)(done, self.geometry.total());
        }
    }

    fn keep(&self, piece: PieceIndex, hashed: Result<Sha1Digest, StoreError>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *found, hashed) {
            (Ok(digests), Ok(digest)) => {
                if let Some(place) = digests.get_mut(piece.as_usize()) {
                    *place = Some(digest);
                }
            }
            (Ok(_), Err(error)) => *found = Err(error),
            (Err(_), _) => {}
        }
    }

    fn hash_piece(&self, piece: PieceIndex, reader: &mut Reader) -> Result<Sha1Digest, StoreError> {
        let mut hasher = Hasher::new();
        let mut at = self.geometry.offset_of(piece);
        let end = at + u64::from(self.geometry.length_of(piece));
        let mut index = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        while let (true, Some(file), Some(start)) =
            (at < end, self.files.get(index), self.starts.get(index))
        {
            let until = end.min(start + file.length);
            if at < until {
                self.hash_range(index, file, at - start..until - start, reader, &mut hasher)?;
                at = until;
            }
            index += 1;
        }
        Ok(hasher.finish())
    }

    /// Hashes a range of one file, a strip at a time.
    fn hash_range(
        &self,
        index: usize,
        file: &ListedFile,
        range: std::ops::Range<u64>,
        reader: &mut Reader,
        hasher: &mut Hasher,
    ) -> Result<(), StoreError> {
        let path = full_path(self.root, file);
        let failed = |operation, error| StoreError::disk(operation, &path, &error);
        if reader.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let opened = File::open(&path).map_err(|error| failed(Operation::Open, error))?;
            reader.open = Some((index, opened));
        }
        let Some((_, open)) = &reader.open else { return Ok(()) };
        reader.disk.prefetch(open, range.start, range.end - range.start);
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(reader.strip.len() as u64) as usize;
            let strip = reader.strip.get_mut(..length).unwrap_or_default();
            let read = reader.disk.read_at(open, strip, at);
            let read = read.map_err(|error| failed(Operation::Read, error))?;
            if read == 0 {
                return Err(failed(Operation::Read, changed(file.length, at)));
            }
            hasher.update(strip.get(..read).unwrap_or_default());
            at += read as u64;
        }
        Ok(())
    }
}
