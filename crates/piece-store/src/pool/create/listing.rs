//! Lists the files to share below a file or folder. The walk follows symbolic links.

use std::ffi::{OsStr, OsString};
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use metainfo::MAX_PATH_DEPTH;
use rustix::io::Errno;

use crate::disk::FileId;
use crate::{Operation, StoreError};

/// The most files in a listing. A torrent with more files would have more tokens than
/// `bencode::MAX_TOKENS`.
const MAX_FILES: usize = 500_000;

/// The contents of a file or folder, as a new torrent would share them.
///
/// All paths are below the root, but for [`OutsideLink::target`]. Every list is sorted. Each
/// entry that is not a folder is in exactly one of `files`, `skipped` and `own`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The regular files, also those behind symbolic links. A file that two links lead to is listed
    /// once for each.
    pub files: Vec<ListedFile>,
    /// The symbolic links that lead out of the root. What is behind them is in `files`.
    pub links_out: Vec<OutsideLink>,
    /// The sockets, pipes and devices, which can't be shared.
    pub skipped: Vec<PathBuf>,
    /// The files that the caller named as its own: see [`OwnFiles`].
    pub own: Vec<PathBuf>,
}

/// One file of a new torrent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedFile {
    /// Its path below the root; empty if the root is a file itself.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
}

/// A symbolic link to a file or folder that is not below the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutsideLink {
    /// The link's path below the root.
    pub path: PathBuf,
    /// The absolute path of the file or folder, without links.
    pub target: PathBuf,
}

/// The files that the caller writes while it makes the torrent, or afterwards. Their contents will
/// change, so a listing leaves them out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnFiles {
    /// Absolute paths without links in their folders; the file need not exist.
    pub paths: Vec<PathBuf>,
    /// Files that exist, under any name.
    pub ids: Vec<FileId>,
}

impl OwnFiles {
    fn has_path(&self, path: &Path) -> bool {
        self.paths.iter().any(|own| own == path)
    }

    /// Whether `name` in `folder` is one of the paths. Cheaper than joining the two.
    fn has_entry(&self, folder: &Path, name: &OsStr) -> bool {
        self.paths.iter().any(|own| own.file_name() == Some(name) && own.parent() == Some(folder))
    }
}

/// A file or folder that can't be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// Occurs when the operating system refuses to list a folder or to describe a file.
    #[error(transparent)]
    Disk(#[from] StoreError),
    /// Occurs when a symbolic link points to something that does not exist.
    #[error(
        "{} is a symbolic link to something that does not exist: remove it, or restore what it points to",
        path.display()
    )]
    DanglingLink {
        /// The link.
        path: PathBuf,
    },
    /// Occurs when a symbolic link leads to a folder that contains it, or to itself.
    #[error("{} is a symbolic link that forms a loop: remove it", path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// Occurs when a folder is [`MAX_PATH_DEPTH`] folders below the root: its files would have
    /// longer paths than a torrent may have.
    #[error("{} is {MAX_PATH_DEPTH} folders deep: move it up, or share it on its own", path.display())]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
    /// Occurs when the root has more than 500,000 files: no client would read the torrent.
    #[error("{} has more than {MAX_FILES} files: share the folders in it on their own", path.display())]
    TooMany {
        /// The root.
        path: PathBuf,
    },
    /// Occurs when the root is a socket, a pipe or a device.
    #[error("{} is neither a file nor a folder: it cannot be shared", path.display())]
    NotAFile {
        /// The root.
        path: PathBuf,
    },
}

/// Lists the files at `root`: the file itself, or all files of the folder and the folders in it.
/// Follows symbolic links, also the root itself. Leaves out the files in `own`.
///
/// # Errors
/// Something can't be listed; a link is dangling or forms a loop; a folder is too deep; there are
/// too many files; `root` is neither a file nor a folder.
pub fn list_files(root: &Path, own: &OwnFiles) -> Result<Listing, ListError> {
    let failed = |error| StoreError::disk(Operation::List, root, &error);
    let canonical_root = std::fs::canonicalize(root).map_err(failed)?;
    let metadata = std::fs::metadata(&canonical_root).map_err(failed)?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(ListError::NotAFile { path: root.to_owned() });
    }
    let mut walk = Walk {
        root,
        canonical_root: canonical_root.clone(),
        own,
        listing: Listing::default(),
        above: Vec::new(),
    };
    let found = Found { path: PathBuf::new(), canonical: canonical_root, last_link: None };
    walk.add_target(found, &metadata)?;
    let mut listing = walk.listing;
    listing.files.sort_by(|one, other| order(&one.path).cmp(order(&other.path)));
    listing.links_out.sort();
    listing.skipped.sort();
    listing.own.sort();
    Ok(listing)
}

/// A folder, or what a link leads to.
struct Found {
    /// Its path below the root.
    path: PathBuf,
    /// Its absolute path, without links.
    canonical: PathBuf,
    /// The last symbolic link in `path`.
    last_link: Option<PathBuf>,
}

/// A walk through the folders.
struct Walk<'a> {
    root: &'a Path,
    canonical_root: PathBuf,
    own: &'a OwnFiles,
    listing: Listing,
    /// The folders from the root down to the one that is being listed: absolute, without links.
    above: Vec<PathBuf>,
}

impl Walk<'_> {
    fn add_folder(&mut self, folder: &Found) -> Result<(), ListError> {
        let full = self.full(&folder.path);
        // Only a link can lead back to a folder above.
        if let Some(link) = &folder.last_link
            && self.above.contains(&folder.canonical)
        {
            return Err(ListError::Loop { path: self.full(link) });
        }
        if self.above.len() >= MAX_PATH_DEPTH {
            return Err(ListError::TooDeep { path: full });
        }
        self.above.push(folder.canonical.clone());
        // The folder is closed before those in it are opened, however deep they are.
        for (name, kind) in self.add_files(folder, &full)? {
            let path = folder.path.join(&name);
            if kind.is_symlink() {
                self.follow(path)?;
            } else {
                let canonical = folder.canonical.join(&name);
                let last_link = folder.last_link.clone();
                self.add_folder(&Found { path, canonical, last_link })?;
            }
        }
        self.above.pop();
        Ok(())
    }

    /// Adds what is in `folder`, whose full path is `full`. Returns the folders and links in it.
    fn add_files(
        &mut self,
        folder: &Found,
        full: &Path,
    ) -> Result<Vec<(OsString, FileType)>, ListError> {
        let failed = |error| StoreError::disk(Operation::List, full, &error);
        let mut others = Vec::new();
        for entry in std::fs::read_dir(full).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if self.own.has_entry(&folder.canonical, &name) {
                self.listing.own.push(folder.path.join(&name));
                continue;
            }
            let failed = |error| StoreError::disk(Operation::Stat, &entry.path(), &error);
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() || kind.is_dir() {
                others.push((name, kind));
            } else {
                self.add_file(folder.path.join(&name), &entry.metadata().map_err(failed)?)?;
            }
        }
        Ok(others)
    }

    fn follow(&mut self, link: PathBuf) -> Result<(), ListError> {
        let full = self.full(&link);
        let failed = |error| link_error(&full, &error);
        let target = std::fs::canonicalize(&full).map_err(failed)?;
        if self.canonical_root.starts_with(&target) {
            return Err(ListError::Loop { path: full });
        }
        let metadata = std::fs::metadata(&target).map_err(failed)?;
        let is_shared = metadata.is_dir() || metadata.is_file();
        if is_shared && !target.starts_with(&self.canonical_root) {
            let outside = OutsideLink { path: link.clone(), target: target.clone() };
            self.listing.links_out.push(outside);
        }
        let found = Found { path: link.clone(), canonical: target, last_link: Some(link) };
        self.add_target(found, &metadata)
    }

    /// Adds the root, or the target of a link.
    fn add_target(&mut self, target: Found, metadata: &Metadata) -> Result<(), ListError> {
        if metadata.is_dir() {
            return self.add_folder(&target);
        }
        if self.own.has_path(&target.canonical) {
            self.listing.own.push(target.path);
            return Ok(());
        }
        self.add_file(target.path, metadata)
    }

    fn add_file(&mut self, path: PathBuf, metadata: &Metadata) -> Result<(), ListError> {
        if !metadata.is_file() {
            self.listing.skipped.push(path);
        } else if self.own.ids.contains(&FileId::of(metadata)) {
            self.listing.own.push(path);
        } else {
            self.listing.files.push(ListedFile { path, length: metadata.len() });
        }
        // Two links to each folder can lead to any number of files.
        let listed = [self.listing.files.len(), self.listing.skipped.len(), self.listing.own.len()];
        match listed.into_iter().sum::<usize>() > MAX_FILES {
            true => Err(ListError::TooMany { path: self.root.to_owned() }),
            false => Ok(()),
        }
    }

    fn full(&self, path: &Path) -> PathBuf {
        super::full_path(self.root, path)
    }
}

/// A key that sorts paths below the root as `Path` does, element by element, in less time: an
/// element ends with a byte that is less than any in a name.
fn order(path: &Path) -> impl Iterator<Item = u8> {
    path.as_os_str().as_bytes().iter().map(|byte| if *byte == b'/' { 0 } else { *byte })
}

/// The error of following the link at `path`.
fn link_error(path: &Path, error: &io::Error) -> ListError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ListError::DanglingLink { path },
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => ListError::Loop { path },
        _ => StoreError::disk(Operation::Stat, &path, error).into(),
    }
}
