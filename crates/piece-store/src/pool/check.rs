//! Verifies a folder against a torrent, for a command. Blocks until it is done.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bt_types::Bitfield;
use metainfo::Metainfo;

use super::ranges::for_each_range;
use crate::disk::{Disk, OsDisk};
use crate::store::SharedDisk;
use crate::{Kind, OpenSpec, Operation, Resources, Stat, Store, StoreError};

/// How much of a torrent's data a folder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The good pieces.
    pub good: Bitfield,
    /// One report for each file, in the torrent's order.
    pub files: Vec<FileReport>,
    /// Whether the journal called bad pieces good, and was corrected. An error if it could not be
    /// corrected.
    pub corrected: Result<bool, StoreError>,
}

/// How much of one file is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Its path below the folder.
    pub path: PathBuf,
    /// Its length in the torrent, in bytes.
    pub length: u64,
    /// Its length on disk; `None` if it is missing.
    pub found: Option<u64>,
    /// Whether its length is right and every piece that touches it is good. Padding, which is on no
    /// disk, is good if its pieces are.
    pub ok: bool,
}

/// Compares every piece of `metainfo` below `folder`, on the threads and with the open files of
/// `resources`. Each thread uses one strip of memory. `progress` gets the bytes done and the total
/// bytes, from any of the threads.
///
/// A journal of this torrent and folder in `state_dir` names the files. Pieces whose hashes differ
/// are recorded in it as lost.
///
/// # Errors
/// The folder or a file in it can't be read. A missing file is no error: its pieces are not good.
pub fn verify_folder(
    metainfo: &Arc<Metainfo>,
    folder: &Path,
    state_dir: Option<&Path>,
    resources: Resources,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, StoreError> {
    let (disk, spec) = (Arc::new(OsDisk::new()), spec(metainfo, folder, state_dir));
    let shared = SharedDisk::with_open_files(Arc::clone(&disk), resources.open_files);
    let (store, recorded) = Store::open_to_verify(Arc::new(shared), &spec)?;
    let geometry = store.geometry();
    let compared = Mutex::new((Bitfield::new(geometry.piece_count()), Vec::new()));
    for_each_range(&geometry, resources.workers, progress, |pieces, scratch| {
        let (found, error) = store.compare(pieces, scratch);
        let mut compared = compared.lock().unwrap_or_else(PoisonError::into_inner);
        let good = found.good.iter().filter_map(|piece| geometry.piece(*piece));
        good.for_each(|piece| _ = compared.0.insert(piece));
        compared.1.extend(found.different);
        error.map_or(Ok(()), Err)
    })?;
    let (good, mut different) = compared.into_inner().unwrap_or_else(PoisonError::into_inner);
    different.sort_unstable();
    let corrected = store.record_different(&spec, recorded, &different);
    let files = file_reports(&disk, metainfo, folder, &store.paths(), &good)?;
    Ok(Report { good, files, corrected })
}

/// Returns the paths below `folder` of the files of `metainfo`, in the torrent's order. Of the
/// names that a file may have, each has the one under which it is found. `state_dir` as for
/// [`verify_folder`].
///
/// # Errors
/// The folder or the journal can't be read.
pub fn paths_in(
    metainfo: &Arc<Metainfo>,
    folder: &Path,
    state_dir: Option<&Path>,
) -> Result<Vec<PathBuf>, StoreError> {
    let spec = spec(metainfo, folder, state_dir);
    let shared = Arc::new(SharedDisk::new(Arc::new(OsDisk::new())));
    let opened = Store::open_to_verify(shared, &spec);
    opened.map(|(store, _)| store.paths())
}

fn spec(metainfo: &Arc<Metainfo>, folder: &Path, state_dir: Option<&Path>) -> OpenSpec {
    OpenSpec {
        seed_only: true,
        state_dir: state_dir.map(Path::to_owned),
        ..OpenSpec::new(Arc::clone(metainfo), folder)
    }
}

fn file_reports(
    disk: &OsDisk,
    metainfo: &Metainfo,
    folder: &Path,
    paths: &[PathBuf],
    good: &Bitfield,
) -> Result<Vec<FileReport>, StoreError> {
    let failed = |path: &Path, error| StoreError::disk(Operation::Stat, path, &error);
    let (root, _) = disk.folder(folder, false).map_err(|error| failed(folder, error))?;
    let geometry = metainfo.info().geometry();
    let mut reports = Vec::new();
    for (file, path) in metainfo.info().files().iter().zip(paths) {
        let stat = disk.stat(&root, path).map_err(|error| failed(&folder.join(path), error))?;
        let is_file = |stat: &Stat| stat.kind == Kind::File;
        let found = stat.filter(is_file).map(|stat| stat.length);
        let last = file.offset() + file.length().saturating_sub(1);
        let mut pieces = match (geometry.piece_at(file.offset()), geometry.piece_at(last)) {
            (Some(first), Some(last)) if file.length() > 0 => first.get()..last.get() + 1,
            _ => 0..0,
        };
        let whole =
            pieces.all(|piece| geometry.piece(piece).is_some_and(|piece| good.contains(piece)));
        let ok = whole && (found == Some(file.length()) || file.is_pad());
        reports.push(FileReport { path: path.clone(), length: file.length(), found, ok });
    }
    Ok(reports)
}
