//! Finds a torrent's content: the file or folder with its name, in the folder that the user gave.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use metainfo::{Metainfo, Naming};

use crate::failure::{Class, Failure};
use crate::output::Output;

/// How many of a torrent's files are looked for to recognise its content.
const MAX_FILES: usize = 100;

/// Returns the path of the torrent's file or folder in `folder`.
pub(crate) fn content_path(metainfo: &Metainfo, folder: &Path) -> PathBuf {
    folder.join(metainfo.info().disk_name())
}

/// Returns an error text if `folder` has no file or folder with the torrent's name.
pub(crate) fn missing_content(metainfo: &Metainfo, folder: &Path) -> Option<String> {
    let paths = possible_paths(metainfo);
    if possible_names(&paths).iter().any(|name| folder.join(name).symlink_metadata().is_ok()) {
        return None;
    }
    if folder.is_file() {
        let (file, name) = (folder.display(), metainfo.info().name());
        return Some(format!("{file} is a file: expected the folder that contains {name:?}"));
    }
    let kind = if metainfo.info().is_single_file() { "file" } else { "folder" };
    Some(format!("no {kind} {:?} in {}", metainfo.info().disk_name(), folder.display()))
}

/// Checks that `folder` exists and is not itself the torrent's content.
///
/// # Errors
/// Disk if `folder` does not exist, usage if it is the content itself.
pub(crate) fn check_folder(metainfo: &Metainfo, folder: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Err(Failure::new(Class::Disk, format!("no such folder: {}", folder.display())));
    }
    let paths = possible_paths(metainfo);
    let names = possible_names(&paths);
    let is_there = |name: &&OsStr| folder.join(name).exists();
    if names.iter().any(is_there) || !is_content(metainfo, folder, &paths) {
        return Ok(());
    }
    // The canonical path of `.` and `..` has a name and a parent.
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let parent = full.parent().unwrap_or(&full).display().to_string();
    let hint = if full.file_name().is_some_and(|name| names.contains(name)) {
        format!("give the folder it is in: {parent}")
    } else {
        format!("rename it to {:?} and give the folder it is in", metainfo.info().disk_name())
    };
    let message = format!(
        "expected the folder that contains {:?}, got the content itself: {}; {hint}",
        metainfo.info().name(),
        folder.display(),
    );
    Err(Failure::usage(message).with("path", folder.display().to_string()))
}

/// Warns if `folder` is itself the torrent's content. A download may go there nevertheless.
pub(crate) fn warn_of_folder(metainfo: &Metainfo, folder: &Path, output: &Output) {
    // The session refuses a file.
    if folder.is_dir() && check_folder(metainfo, folder).is_err() {
        output.warn(&format!(
            "{} looks like the content of {:?} itself; the download goes to {}",
            folder.display(),
            metainfo.info().name(),
            content_path(metainfo, folder).display()
        ));
    }
}

/// Returns the paths of the torrent's files under each naming, equal ones once.
fn possible_paths(metainfo: &Metainfo) -> BTreeSet<Vec<PathBuf>> {
    let info = metainfo.info();
    let namings = if info.has_plain_names() { &[Naming::Unix][..] } else { &Naming::ALL };
    namings.iter().map(|naming| info.disk_paths(*naming)).collect()
}

/// Returns the names that the torrent's file or folder may have on disk, from [`possible_paths`].
fn possible_names(paths: &BTreeSet<Vec<PathBuf>>) -> BTreeSet<&OsStr> {
    paths.iter().flatten().filter_map(|path| path.iter().next()).collect()
}

/// Whether the torrent's files are directly in `folder` under one of the `namings`, or `folder` is
/// the torrent's one file.
fn is_content(metainfo: &Metainfo, folder: &Path, namings: &BTreeSet<Vec<PathBuf>>) -> bool {
    if metainfo.info().is_single_file() {
        return folder.is_file();
    }
    let is_there = |path: &PathBuf| folder.join(path.iter().skip(1).collect::<PathBuf>()).is_file();
    namings.iter().any(|paths| {
        let files = metainfo.info().files().iter().zip(paths);
        let files = files.filter(|(file, _)| !file.is_pad() && file.length() > 0);
        files.take(MAX_FILES).any(|(_, path)| is_there(path))
    })
}
