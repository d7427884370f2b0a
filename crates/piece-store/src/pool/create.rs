//! Lists and hashes files for a new torrent, for a command. Blocks until it is done.

mod listing;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use bt_types::{Geometry, PieceIndex, Sha1Digest};
use rustix::fs::OFlags;

use super::ranges::for_each_range;
use crate::disk::{Disk, OsDisk};
use crate::hashing::{PieceData, hash_pieces, hole_length};
use crate::{Operation, StoreError};

pub use listing::{ListError, ListedFile, Listing, OutsideLink, OwnFiles, list_files};

/// Hashes `files` below `root`, one after another as in a torrent, in pieces of `piece_length`
/// bytes, on `workers` threads (0 for one per core) with one strip of memory each. `progress` gets
/// the bytes done and the total bytes, from any of the threads.
///
/// # Errors
/// A file can't be read, or has changed its length since it was listed; no torrent can have these
/// lengths.
pub fn hash_files(
    root: &Path,
    files: &[ListedFile],
    piece_length: u32,
    workers: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Vec<Sha1Digest>, StoreError> {
    let total = files.iter().map(|file| file.length).sum();
    let geometry = Geometry::new(total, u64::from(piece_length)).map_err(|error| {
        StoreError::disk(Operation::Read, root, &io::Error::other(error.to_string()))
    })?;
    let starts = starts(files);
    let zero_piece = OnceLock::new();
    let digests = Mutex::new(vec![None; geometry.piece_count() as usize]);
    for_each_range(&geometry, workers, progress, |pieces, scratch| {
        let mut data = ListedData { root, files, starts: &starts, open: None };
        let mut hashed = Vec::with_capacity(pieces.len());
        let found = |piece: PieceIndex, digest| hashed.push((piece, digest));
        hash_pieces(&geometry, pieces, &zero_piece, &mut data, scratch, found)?;
        let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
        for (piece, digest) in hashed {
            digests[piece.as_usize()] = digest;
        }
        Ok(())
    })?;
    check_lengths(root, files)?;
    let digests = digests.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(digests.into_iter().flatten().collect())
}

/// Returns the offset of each file in the torrent.
fn starts(files: &[ListedFile]) -> Vec<u64> {
    let mut end = 0;
    let mut start = |file: &ListedFile| {
        let start = end;
        end += file.length;
        start
    };
    files.iter().map(&mut start).collect()
}

/// Checks that every file is as long as it was when listed. One that grew was hashed in part.
fn check_lengths(root: &Path, files: &[ListedFile]) -> Result<(), StoreError> {
    for file in files {
        let path = full_path(root, &file.path);
        let failed = |error| StoreError::disk(Operation::Stat, &path, &error);
        let length = std::fs::metadata(&path).map_err(failed)?.len();
        if length != file.length {
            return Err(failed(changed(file.length, length)));
        }
    }
    Ok(())
}

fn changed(expected: u64, got: u64) -> io::Error {
    let message = format!("it changed meanwhile: expected {expected} bytes, got {got}");
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}

/// Returns the full path of `path` below `root`. Joining an empty path would add a slash.
fn full_path(root: &Path, path: &Path) -> PathBuf {
    match path.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(path),
    }
}

/// Opens a file for reading. Does not block if a pipe has replaced it since the listing.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// The bytes of the files, one after another as in the torrent.
struct ListedData<'a> {
    root: &'a Path,
    files: &'a [ListedFile],
    starts: &'a [u64],
    /// The file that was read last. The next bytes are mostly in it too.
    open: Option<(usize, File)>,
}

impl<'a> ListedData<'a> {
    /// Returns the file with the byte at `offset`: its number, its offset in the torrent, and
    /// itself.
    fn file_at(&self, offset: u64) -> Option<(usize, u64, &'a ListedFile)> {
        let index = self.starts.partition_point(|start| *start <= offset).checked_sub(1)?;
        Some((index, self.starts[index], &self.files[index]))
    }

    fn open(&mut self, index: usize, file: &ListedFile) -> Result<&File, StoreError> {
        let opened = match self.open.take() {
            Some((open, opened)) if open == index => opened,
            _ => open_file(&full_path(self.root, &file.path))
                .map_err(|error| self.error(Operation::Open, file, &error))?,
        };
        Ok(&self.open.insert((index, opened)).1)
    }

    fn error(&self, operation: Operation, file: &ListedFile, error: &io::Error) -> StoreError {
        StoreError::disk(operation, &full_path(self.root, &file.path), error)
    }

    /// Reads once, from one file. Returns the number of bytes.
    fn read_part(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let Some((index, start, file)) = self.file_at(offset) else { return Ok(0) };
        let at = offset - start;
        let length = file.length.saturating_sub(at).min(buffer.len() as u64) as usize;
        let part = &mut buffer[..length];
        let opened = self.open(index, file)?;
        match OsDisk::new().read_at(opened, part, at) {
            Ok(0) => Err(self.error(Operation::Read, file, &changed(file.length, at))),
            read => read.map_err(|error| self.error(Operation::Read, file, &error)),
        }
    }
}

impl PieceData for ListedData<'_> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        let mut done = 0;
        while done < buffer.len() {
            let read = self.read_part(offset + done as u64, &mut buffer[done..])?;
            if read == 0 {
                return Ok(false);
            }
            done += read;
        }
        Ok(true)
    }

    fn zeros(&mut self, offset: u64) -> Result<u64, StoreError> {
        let Some((index, start, file)) = self.file_at(offset) else { return Ok(0) };
        let at = offset - start;
        let opened = self.open(index, file)?;
        let hole = hole_length(&OsDisk::new(), opened, at, file.length.saturating_sub(at));
        hole.map_err(|error| self.error(Operation::Read, file, &error))
    }

    fn prefetch(&mut self, offset: u64, length: u64) {
        let mut at = offset;
        while at < offset + length {
            let Some((index, start, file)) = self.file_at(at) else { return };
            let end = (offset + length).min(start + file.length);
            // If a file can't be opened, the read reports it.
            let Ok(opened) = self.open(index, file) else { return };
            OsDisk::new().prefetch(opened, at - start, end - at);
            at = end;
        }
    }
}
