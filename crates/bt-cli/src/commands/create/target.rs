//! The file or standard output to which `create` writes the torrent.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use metainfo::MAX_ELEMENT_LENGTH;
use piece_store::FileId;
use piece_store::create::OwnFiles;
use tempfile::NamedTempFile;

use crate::cli::CreateArgs;
use crate::failure::{Class, Failure, without_code};
use crate::output::Output;

const EXTENSION: &str = ".torrent";

/// Where the torrent goes.
pub(super) enum Target {
    Stdout,
    File(TargetFile),
}

/// A file that does not exist yet, or may be replaced.
pub(super) struct TargetFile {
    /// The path as the user knows it.
    path: PathBuf,
    /// The same as an absolute path, without links in its folder.
    canonical: PathBuf,
    overwrite: bool,
}

impl Target {
    /// Returns the target that the arguments name.
    ///
    /// # Errors
    /// Usage or disk if the torrent can't be written there.
    pub(super) fn new(
        arguments: &CreateArgs,
        name: &str,
        output: &Output,
    ) -> Result<Self, Failure> {
        let path = match &arguments.output {
            Some(path) if path == "-" && output.json() => {
                return Err(Failure::usage(
                    "expected -o FILE with --json: both want standard output",
                ));
            }
            Some(path) if path == "-" => return Ok(Self::Stdout),
            Some(path) => path.clone(),
            None => default_path(name),
        };
        TargetFile::new(path, arguments).map(Self::File)
    }

    /// Returns the file's path, `None` for standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(file) => Some(&file.path),
        }
    }

    /// Returns the files that this launch writes: the torrent, and where standard output and error
    /// are redirected to.
    pub(super) fn own_files(&self) -> OwnFiles {
        let outputs = [io::stdout().as_fd(), io::stderr().as_fd()].map(redirected_to);
        let mut own = OwnFiles { paths: Vec::new(), ids: outputs.into_iter().flatten().collect() };
        if let Self::File(file) = self {
            own.paths.push(file.canonical.clone());
            own.ids.extend(file.replaced());
        }
        own
    }

    /// Whether the file is in `folder` or in a folder below.
    pub(super) fn is_below(&self, folder: &Path) -> bool {
        let Self::File(file) = self else { return false };
        fs::canonicalize(folder).is_ok_and(|folder| file.canonical.starts_with(folder))
    }

    /// Writes the whole torrent or nothing. Does nothing for standard output.
    pub(super) fn write(&self, torrent: &[u8]) -> Result<(), Failure> {
        let Self::File(file) = self else { return Ok(()) };
        file.write(torrent).map_err(|error| file.failure(&error))
    }
}

impl TargetFile {
    fn new(path: PathBuf, arguments: &CreateArgs) -> Result<Self, Failure> {
        let canonical = canonical(&path)?;
        let file = Self { path, canonical, overwrite: arguments.overwrite };
        file.check_existing(&arguments.path)?;
        // Creates a file to check that the folder is writable. Removes it at once, so that a killed
        // process leaves nothing.
        let probe = file.temporary().and_then(NamedTempFile::close);
        probe.map_err(|error| file.failure(&error))?;
        Ok(file)
    }

    /// Refuses to replace a file that must stay. `shared` is the file or folder to share.
    fn check_existing(&self, shared: &Path) -> Result<(), Failure> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failure(&error)),
            Ok(_) => {}
        }
        let behind_link = fs::metadata(&self.path).ok();
        let advice = match behind_link {
            Some(found) if found.is_dir() => "is a folder: choose a file with -o",
            Some(found) if !found.is_file() => "is not a regular file: choose another with -o",
            _ if fs::canonicalize(shared).is_ok_and(|shared| shared == self.canonical) => {
                "is the file to share: choose another with -o"
            }
            _ if !self.overwrite => {
                "exists: replace it with --overwrite, or choose another file with -o"
            }
            _ => return Ok(()),
        };
        Err(Failure::new(Class::Disk, format!("{} {advice}", self.path.display())))
    }

    /// Returns the file that the torrent replaces. `None` if it has other hard links, which keep
    /// its content.
    fn replaced(&self) -> Option<FileId> {
        let found = fs::symlink_metadata(&self.path).ok()?;
        (found.is_file() && found.nlink() == 1).then(|| FileId::of(&found))
    }

    /// Creates a file in the same folder. Dropping it removes it.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let folder = self.canonical.parent().unwrap_or(Path::new("/"));
        tempfile::Builder::new()
            .prefix(".bt-cli-")
            .suffix(".part")
            .permissions(Permissions::from_mode(0o666)) // The umask removes bits.
            .tempfile_in(folder)
    }

    fn write(&self, torrent: &[u8]) -> io::Result<()> {
        let mut temporary = self.temporary()?;
        temporary.as_file_mut().write_all(torrent)?;
        if self.overwrite {
            return temporary.persist(&self.canonical).map(drop).map_err(|error| error.error);
        }
        match temporary.persist_noclobber(&self.canonical) {
            Ok(_) => Ok(()),
            // Some file systems can neither rename without replacing, nor link.
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists && !self.exists() => {
                error.file.persist(&self.canonical).map(drop).map_err(|error| error.error)
            }
            Err(error) => Err(error.error),
        }
    }

    fn exists(&self) -> bool {
        fs::symlink_metadata(&self.canonical).is_ok()
    }

    fn failure(&self, error: &io::Error) -> Failure {
        unwritable(&self.path, error)
    }
}

/// Returns `name` with the extension, shortened to what a file name may have.
fn default_path(name: &str) -> PathBuf {
    let end = name.floor_char_boundary(MAX_ELEMENT_LENGTH - EXTENSION.len());
    PathBuf::from(format!("{}{EXTENSION}", name.get(..end).unwrap_or(name)))
}

/// Returns the absolute path of a file. The file need not exist, its folder must.
fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let name = path.file_name().filter(|name| bytes.ends_with(name.as_encoded_bytes()));
    let Some(name) = name else {
        let message = format!("{path:?} is not the path of a file: choose one with -o");
        return Err(Failure::new(Class::Disk, message));
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match fs::canonicalize(folder) {
        Ok(canonical) => Ok(canonical.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::new(
            Class::Disk,
            format!(
                "cannot write {}: there is no folder {}; create it, or choose another file with -o",
                path.display(),
                folder.display()
            ),
        )),
        Err(error) => Err(unwritable(path, &error)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    // Removes the path of the temporary file, which the user does not know.
    let text = error.to_string();
    let why = text.split_once(" at path ").map_or(text.as_str(), |(why, _)| why);
    let (path, why) = (path.display(), without_code(why));
    let message = format!("cannot write {path}: {why}; choose another file with -o");
    Failure::new(Class::Disk, message)
}

/// Returns the regular file that an output of this process goes to.
fn redirected_to(output: BorrowedFd<'_>) -> Option<FileId> {
    let file = File::from(output.try_clone_to_owned().ok()?);
    let found = file.metadata().ok()?;
    found.is_file().then(|| FileId::of(&found))
}
