//! What happens once the metadata of a link is there.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use metainfo::{Magnet, Metainfo};

use crate::content::warn_of_folder;
use crate::failure::{Class, Failure, without_code};
use crate::output::{Output, clean};
use crate::saved::SavedTorrents;
use crate::selection::Selection;

/// What a command does with the metadata of its links.
#[derive(Debug)]
pub(crate) struct MetadataPlan {
    /// Where it is kept for later launches.
    pub(crate) saved: SavedTorrents,
    /// The `.torrent` file that the user wants, or the folder for several.
    pub(crate) save_to: Option<PathBuf>,
    /// The folder to download into; `None` if only the metadata is wanted.
    pub(crate) download_to: Option<PathBuf>,
    /// The files to download; `None` for those that the link selects.
    pub(crate) selection: Option<Selection>,
}

impl MetadataPlan {
    /// Keeps the metadata. Returns the path of the file for later launches. Failures are shown, and
    /// change nothing.
    pub(super) fn keep(&self, metainfo: &Metainfo, output: &Output) -> Option<PathBuf> {
        let name = clean(metainfo.info().name());
        let kept = self.saved.save(metainfo).unwrap_or_else(|error| {
            let why = without_code(&error.to_string());
            output.warn(&format!("{name}: the metadata is not kept for the next launch: {why}"));
            None
        });
        self.save(metainfo, output);
        kept
    }

    /// Writes the `.torrent` file that the user wants.
    pub(crate) fn save(&self, metainfo: &Metainfo, output: &Output) {
        let Some(path) = &self.save_to else { return };
        let name = clean(metainfo.info().name());
        let path = torrent_path(path, metainfo);
        match write_new(&path, metainfo.raw()) {
            Ok(()) => output.note(&format!("{name}: saved as {}", path.display())),
            Err(failure) => output.warn(&format!("{name}: {}", failure.message())),
        }
    }

    /// Returns which files are wanted, one entry per file; `None` for all.
    ///
    /// # Errors
    /// Usage if the selection matches no file.
    pub(super) fn select(
        &self,
        metainfo: &Metainfo,
        link: Option<&Magnet>,
        output: &Output,
    ) -> Result<Option<Vec<bool>>, Failure> {
        if let Some(folder) = &self.download_to {
            warn_of_folder(metainfo, folder, output);
        }
        selected(self.selection.as_ref(), metainfo, link)
    }
}

/// Returns which files the user or else the link selects, one entry per file; `None` for all.
///
/// # Errors
/// Usage if the selection matches no file.
pub(crate) fn selected(
    selection: Option<&Selection>,
    metainfo: &Metainfo,
    link: Option<&Magnet>,
) -> Result<Option<Vec<bool>>, Failure> {
    if let Some(selection) = selection {
        return selection.apply(metainfo).map(Some);
    }
    let Some(link) = link.filter(|link| !link.select_only.is_empty()) else { return Ok(None) };
    let files = metainfo.info().files().len() as u32;
    let selected: Vec<bool> = (0..files).map(|index| link.selects(index)).collect();
    if selected.contains(&true) {
        return Ok(Some(selected));
    }
    let name = metainfo.info().name();
    let message = format!("{name}: the link selects file numbers that the torrent does not have");
    Err(Failure::usage(message + ": choose files with --files").with("files", files))
}

/// Returns the path of the `.torrent` file, in a folder if `path` is one.
fn torrent_path(path: &Path, metainfo: &Metainfo) -> PathBuf {
    match path.is_dir() {
        true => path.join(format!("{}.torrent", metainfo.info().disk_name())),
        false => path.to_owned(),
    }
}

/// Writes a file. One that exists with other bytes stays.
///
/// # Errors
/// Disk if the file exists, or cannot be written.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let created = std::fs::File::create_new(path);
    created.and_then(|mut file| file.write_all(bytes)).map_err(|error| {
        let why = without_code(&error.to_string());
        Failure::new(Class::Disk, format!("cannot write {}: {why}", path.display()))
    })
}
