//! Verifying a folder against a torrent, for a command: blocks until it is done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::Bitfield;
use metainfo::Metainfo;

use super::ranges::share_out;
use crate::disk::{Disk, OsDisk};
use crate::store::Handles;
use crate::{OpenSpec, Operation, Store, StoreError};

/// How far a folder has a torrent's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The pieces that are there and good.
    pub good: Bitfield,
    /// Each file, in the torrent's order.
    pub files: Vec<FileReport>,
}

/// How far one file is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Its path below the folder.
    pub path: PathBuf,
    /// Its length in the torrent, in bytes.
    pub length: u64,
    /// Its length on disk; `None` if it is not there.
    pub found: Option<u64>,
    /// Whether it is as long as it should be and every piece that touches it is good. Padding,
    /// which is on no disk, is good if its pieces are.
    pub ok: bool,
}

/// Compares every piece of `metainfo` below `folder`, on `workers` threads (0 for one a core), one strip
/// of memory each. `progress` gets the bytes done and the bytes in all, from any of the threads.
///
/// # Errors
/// The folder or a file in it can't be read. A missing file is no error: its pieces are not good.
pub fn verify_folder(
    metainfo: &Arc<Metainfo>,
    folder: &Path,
    workers: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, StoreError> {
    let spec = OpenSpec { read_only: true, ..OpenSpec::new(Arc::clone(metainfo), folder) };
    let disk = Arc::new(OsDisk::new());
    let (store, _) = Store::open(Arc::clone(&disk), Arc::new(Handles::default()), &spec)?;
    share_out(&store.geometry(), workers, progress, |pieces, scratch| {
        let (_, error) = store.verify(pieces, scratch);
        error.map_or(Ok(()), Err)
    })?;
    let good = store.have();
    let files = file_reports(&disk, metainfo, folder, &good)?;
    Ok(Report { good, files })
}

fn file_reports(
    disk: &OsDisk,
    metainfo: &Metainfo,
    folder: &Path,
    good: &Bitfield,
) -> Result<Vec<FileReport>, StoreError> {
    let failed = |path: &Path, error| StoreError::disk(Operation::Stat, path, &error);
    let (root, _) = disk.folder(folder, false).map_err(|error| failed(folder, error))?;
    let geometry = metainfo.info().geometry();
    let mut reports = Vec::new();
    for file in metainfo.info().files() {
        let path = file.disk_path();
        let stat = disk.stat(&root, &path).map_err(|error| failed(&folder.join(&path), error))?;
        let found = stat.map(|stat| stat.length);
        let last = file.offset() + file.length().saturating_sub(1);
        let mut pieces = match (geometry.piece_at(file.offset()), geometry.piece_at(last)) {
            (Some(first), Some(last)) if file.length() > 0 => first.get()..last.get() + 1,
            _ => 0..0,
        };
        let whole =
            pieces.all(|piece| geometry.piece(piece).is_some_and(|piece| good.contains(piece)));
        let ok = whole && (found == Some(file.length()) || file.is_pad());
        reports.push(FileReport { path, length: file.length(), found, ok });
    }
    Ok(reports)
}
