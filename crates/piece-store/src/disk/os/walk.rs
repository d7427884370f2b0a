//! Resolves paths below an open folder, and reads metadata.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::{OsFolder, retry};
use crate::disk::{FileId, Kind, Stat, not_a_file};

/// Opens `path` in one step, if the system can refuse symbolic links on the way. Returns `None` if
/// the path must be walked: to make folders, to find out what is wrong, or because the system lacks
/// the call.
pub(super) fn open_at_once(
    folder: &OsFolder,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Option<io::Result<OwnedFd>> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    match retry(|| rustix::fs::openat2(folder.descriptor(), path, flags, mode, resolve)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && mode.is_empty() => {
            Some(Err(error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(Err(error)),
        opened => opened.ok().map(Ok),
    }
}

/// What happens at symbolic links on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Refused,
    Followed,
}

/// How to walk to a file, folder by folder. So its path may be longer than the system accepts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Whether missing folders on the way are created.
    pub(super) create: bool,
    pub(super) links: Links,
}

/// Walks from `folder` to the parent of `path`, and calls `work` with it and the last component.
pub(super) fn below<T>(
    folder: &OsFolder,
    path: &Path,
    walk: Walk,
    work: impl FnOnce(&OwnedFd, &Path) -> io::Result<T>,
) -> io::Result<T> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(invalid());
    }
    let name = path.file_name().map(Path::new).ok_or_else(invalid)?;
    let mut parent: Option<OwnedFd> = None;
    for part in path.parent().into_iter().flat_map(Path::iter) {
        let outer = parent.as_ref().unwrap_or(folder.descriptor());
        parent = Some(step(outer, Path::new(part), walk)?);
    }
    work(parent.as_ref().unwrap_or(folder.descriptor()), name)
}

/// Opens the folder `name` in `parent`.
fn step(parent: &OwnedFd, name: &Path, walk: Walk) -> io::Result<OwnedFd> {
    match open_folder(parent, name, walk.links) {
        Err(error) if walk.create && error.kind() == io::ErrorKind::NotFound => {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => open_folder(parent, name, walk.links),
                Err(error) => Err(error.into()),
            }
        }
        result => result,
    }
}

pub(super) fn open_folder(parent: &OwnedFd, name: &Path, links: Links) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let flags = if links == Links::Refused { flags | OFlags::NOFOLLOW } else { flags };
    let opened = retry(|| rustix::fs::openat(parent, name, flags, Mode::empty()));
    opened.map_err(|error| explain_link(error, parent, name))
}

/// Replaces `error` if the cause is a symbolic link or a special file. A dangling link that was
/// followed is a missing file.
pub(super) fn explain_link(error: io::Error, parent: &OwnedFd, name: &Path) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return error;
    }
    match stat_at(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.kind) {
        Ok(Kind::Other) => not_a_file(),
        _ => error,
    }
}

/// Whether the error is from [`explain_link`].
pub(super) fn is_link(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none()
}

pub(super) fn absent_as_none(found: io::Result<Stat>) -> io::Result<Option<Stat>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

pub(super) fn stat_open(file: impl AsFd) -> io::Result<Stat> {
    stat_at(file, Path::new(""), AtFlags::EMPTY_PATH)
}

/// Returns the metadata of `path` below an open folder, or with [`AtFlags::EMPTY_PATH`] that of the
/// open file.
pub(super) fn stat_at(folder: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Stat> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = match rustix::fs::statx(&folder, path, flags, wanted) {
        // A sandbox may forbid the call.
        Err(Errno::NOSYS | Errno::PERM) => return plain_stat_at(folder, path, flags),
        stat => stat?,
    };
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let id = FileId {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        born: if has_birth { nanoseconds(&stat.stx_btime) } else { 0 },
    };
    let (length, modified) = (stat.stx_size, (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec));
    Ok(new_stat(FileType::from_raw_mode(stat.stx_mode.into()), id, length, modified))
}

fn nanoseconds(time: &StatxTimestamp) -> u64 {
    let seconds = time.tv_sec.max(0).cast_unsigned();
    seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
}

/// Like [`stat_at`], without the time of birth.
#[allow(clippy::unnecessary_cast)] // The fields differ in type between systems.
fn plain_stat_at(folder: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Stat> {
    let stat = match path.as_os_str().is_empty() {
        true => rustix::fs::fstat(folder)?,
        false => rustix::fs::statat(folder, path, flags)?,
    };
    let id = FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64, born: 0 };
    let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as u32);
    Ok(new_stat(FileType::from_raw_mode(stat.st_mode), id, stat.st_size.max(0) as u64, modified))
}

pub(super) fn new_stat(kind: FileType, id: FileId, length: u64, modified: (i64, u32)) -> Stat {
    let linked = kind == FileType::Symlink;
    let kind = match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    };
    Stat { kind, linked, id, length, modified }
}
