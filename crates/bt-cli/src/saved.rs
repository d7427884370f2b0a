//! The torrents of links, kept from earlier launches: `torrents/HASH.torrent` in the state folder.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bt_types::InfoHashV1;
use metainfo::Metainfo;

use crate::source::read_file;

/// The most torrents that are kept. The oldest are removed.
const MAX_SAVED: usize = 1000;
/// A file that was not finished after this time is removed: the launch that wrote it was killed.
const UNFINISHED_TIME: Duration = Duration::from_secs(3600);

/// The folder of saved torrents; `None` if the user has no home folder.
#[derive(Debug, Clone)]
pub(crate) struct SavedTorrents(Option<PathBuf>);

impl SavedTorrents {
    /// Those in the state folder.
    pub(crate) fn new(state_dir: Option<&Path>) -> Self {
        Self(state_dir.map(|dir| dir.join("torrents")))
    }

    /// Returns the saved torrent of this info-hash, if there is one. Its bytes are hashed again, so
    /// that a damaged file is as none.
    pub(crate) fn find(&self, info_hash: InfoHashV1) -> Option<Metainfo> {
        let path = self.path_of(info_hash)?;
        if !path.exists() {
            return None;
        }
        let bytes = read_file(&path).ok()?;
        let found = Metainfo::parse(bytes).ok().filter(|found| found.info_hash() == info_hash);
        if found.is_none() {
            log::warn!("{} is damaged and is not used", path.display());
        }
        found
    }

    /// Saves a torrent: readable by the user alone, whole or not at all, also after a power cut.
    /// Returns its path; `None` if there is no folder.
    pub(crate) fn save(&self, metainfo: &Metainfo) -> io::Result<Option<PathBuf>> {
        let (Some(dir), Some(path)) = (&self.0, self.path_of(metainfo.info_hash())) else {
            return Ok(None);
        };
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(metainfo.raw())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        clean_up(dir)?;
        Ok(Some(path))
    }

    fn path_of(&self, info_hash: InfoHashV1) -> Option<PathBuf> {
        self.0.as_ref().map(|dir| dir.join(format!("{info_hash}.torrent")))
    }
}

/// Removes the oldest torrents beyond [`MAX_SAVED`], and what killed launches left behind.
fn clean_up(dir: &Path) -> io::Result<()> {
    let mut saved: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let (path, modified) =
            match entry.and_then(|it| Ok((it.path(), it.metadata()?.modified()?))) {
                Ok(found) => found,
                // Another launch has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
        if path.extension().is_some_and(|extension| extension == "torrent") {
            saved.push((modified, path));
        } else if modified.elapsed().is_ok_and(|age| age >= UNFINISHED_TIME) {
            fs::remove_file(path)?;
        }
    }
    saved.sort();
    let excess = saved.len().saturating_sub(MAX_SAVED);
    saved.into_iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use metainfo::{Builder, Sha1Digest};

    use super::*;

    fn torrent(name: &str) -> Metainfo {
        let builder = Builder::new(name).piece_length(16 * 1024).length(100);
        builder.build(&[Sha1Digest([1; 20])]).unwrap()
    }

    #[test]
    fn saved_torrent_is_found_again() {
        let state = tempfile::tempdir().unwrap();
        let saved = SavedTorrents::new(Some(state.path()));
        let film = torrent("film");
        assert!(saved.find(film.info_hash()).is_none());
        saved.save(&film).unwrap();
        assert_eq!(saved.find(film.info_hash()), Some(film));
    }

    #[test]
    fn damaged_torrent_is_not_used() {
        let state = tempfile::tempdir().unwrap();
        let saved = SavedTorrents::new(Some(state.path()));
        let (film, other) = (torrent("film"), torrent("other"));
        saved.save(&film).unwrap();
        let path = saved.path_of(film.info_hash()).unwrap();
        let half = &film.raw()[..film.raw().len() / 2];
        for bytes in [half, b"", other.raw()] {
            fs::write(&path, bytes).unwrap();
            assert!(saved.find(film.info_hash()).is_none());
        }
    }

    #[test]
    fn unfinished_files_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let saved = SavedTorrents::new(Some(state.path()));
        let dir = state.path().join("torrents");
        fs::create_dir(&dir).unwrap();
        for (name, age) in [("old", UNFINISHED_TIME), ("new", UNFINISHED_TIME / 2)] {
            let file = fs::File::create(dir.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        saved.save(&torrent("film")).unwrap();
        assert!(!dir.join("old").exists() && dir.join("new").exists());
    }

    #[test]
    fn newest_thousand_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let saved = SavedTorrents::new(Some(state.path()));
        let dir = state.path().join("torrents");
        fs::create_dir(&dir).unwrap();
        for number in 0..MAX_SAVED {
            let file = fs::File::create(dir.join(format!("{number}.torrent"))).unwrap();
            let age = std::time::Duration::from_secs(number as u64 + 1);
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        saved.save(&torrent("film")).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), MAX_SAVED);
        assert!(!dir.join("999.torrent").exists() && dir.join("998.torrent").exists());
    }
}
