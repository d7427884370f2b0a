//! Which process has which torrent open, without a file that stays open for each.
//!
//! ```text
//! session-0.lock   "17"          locked as long as the pool lives; 17th of this number
//! NAME.lock        "0 17 4711"   torrent NAME belongs to session 0, while it is the 17th: process 4711
//! ```
//!
//! A torrent belongs to the session that its file names, as long as that session's own file is locked
//! and still has the same count. So the end of a process, however sudden, sets its torrents free.
//! `NAME.lock` is locked only for the moment in which it changes hands.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use crate::{Access, Disk, Operation, StoreError};

/// More sessions than this at a time in one state folder are refused.
const MAX_SESSIONS: u32 = 4096;

/// What names one session among those that were and are in a state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SessionId {
    /// The least that was free.
    number: u32,
    /// How often the number was taken.
    count: u64,
}

/// The sessions of one pool, one a state folder, by its canonical path. Their files are locked.
#[derive(Debug)]
pub(super) struct Sessions<F>(BTreeMap<PathBuf, (SessionId, F)>);

impl<F> Default for Sessions<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A state folder, open.
#[derive(Debug)]
pub(super) struct StateFolder<'a, D: Disk> {
    pub(super) disk: &'a D,
    pub(super) folder: &'a D::Folder,
    /// Its canonical path.
    pub(super) path: &'a Path,
}

impl<D: Disk> Clone for StateFolder<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Disk> Copy for StateFolder<'_, D> {}

impl<D: Disk> StateFolder<'_, D> {
    /// Takes the torrent whose journal is called `name`; `save_path` is for the error.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; the disk fails.
    pub(super) fn take(
        self,
        sessions: &mut Sessions<D::File>,
        name: &str,
        save_path: &Path,
    ) -> Result<(), StoreError> {
        let own = self.session(sessions)?;
        let (name, in_use) = (lock_name(name), |pid| in_use(save_path, pid));
        let file = self.open(&name)?;
        if !self.try_lock(&file, &name)? {
            return Err(in_use(self.owner(&file).1));
        }
        let (owner, pid) = self.owner(&file);
        if let Some(owner) = owner
            && (owner == own || self.is_alive(own, owner)?)
        {
            return Err(in_use(pid));
        }
        let text = format!("{} {} {}\n", own.number, own.count, self.disk.process_id());
        self.write(&file, &name, &text)
    }

    /// Gives the torrent back. One that can't be written stays taken until the session ends.
    pub(super) fn give_back(self, name: &str) {
        let name = lock_name(name);
        let file = self.disk.open(self.folder, &name, Access::Write);
        if let Err(error) = file.and_then(|file| self.disk.set_length(&file, 0)) {
            log::warn!("can't release {}: {error}", self.path.join(name).display());
        }
    }

    /// This pool's session here; begun if there is none.
    fn session(self, sessions: &mut Sessions<D::File>) -> Result<SessionId, StoreError> {
        if let Some((id, _)) = sessions.0.get(self.path) {
            return Ok(*id);
        }
        for number in 0..MAX_SESSIONS {
            let name = session_name(number);
            let file = self.open(&name)?;
            if self.try_lock(&file, &name)? {
                let count = self.numbers(&file).first().map_or(1, |count| count.saturating_add(1));
                let id = SessionId { number, count };
                // As long as any other, so that no write leaves a mix of two.
                self.write(&file, &name, &format!("{count:020}\n"))?;
                sessions.0.insert(self.path.to_owned(), (id, file));
                return Ok(id);
            }
        }
        Err(in_use(self.path, None))
    }

    /// Whether `other`'s session goes on.
    fn is_alive(self, own: SessionId, other: SessionId) -> Result<bool, StoreError> {
        if other.number == own.number {
            return Ok(false);
        }
        let name = session_name(other.number);
        let file = match self.disk.open(self.folder, &name, Access::Write) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(|error| self.error(&name, &error))?,
        };
        let free = self.try_lock(&file, &name)?;
        Ok(!free && self.numbers(&file).first() == Some(&other.count))
    }

    /// Whose a torrent is, as its file says, and the process.
    fn owner(self, file: &D::File) -> (Option<SessionId>, Option<u32>) {
        match self.numbers(file)[..] {
            [number, count, pid] => {
                let number = u32::try_from(number).ok();
                let id = number.map(|number| SessionId { number, count });
                (id, u32::try_from(pid).ok())
            }
            _ => (None, None),
        }
    }

    /// The numbers in a file; none if it has something else in it.
    fn numbers(self, file: &D::File) -> Vec<u64> {
        let mut text = [0; 64];
        let length = self.disk.read_at(file, &mut text, 0).unwrap_or(0);
        let text = str::from_utf8(text.get(..length).unwrap_or_default()).unwrap_or_default();
        // Without its end, the last number may be cut short.
        let whole = text.strip_suffix('\n').unwrap_or_default();
        whole.split(' ').map_while(|number| number.parse().ok()).collect()
    }

    fn open(self, name: &Path) -> Result<D::File, StoreError> {
        let opened = self.disk.open(self.folder, name, Access::Create);
        opened.map_err(|error| self.error(name, &error))
    }

    fn try_lock(self, file: &D::File, name: &Path) -> Result<bool, StoreError> {
        self.disk.try_lock(file).map_err(|error| self.error(name, &error))
    }

    fn write(self, file: &D::File, name: &Path, text: &str) -> Result<(), StoreError> {
        let cut = self.disk.set_length(file, 0);
        let written =
            cut.and_then(|()| self.disk.write_at(file, &[IoSlice::new(text.as_bytes())], 0));
        written.map(drop).map_err(|error| self.error(name, &error))
    }

    fn error(self, name: &Path, error: &std::io::Error) -> StoreError {
        StoreError::disk(Operation::Lock, &self.path.join(name), error)
    }
}

fn lock_name(name: &str) -> PathBuf {
    PathBuf::from(format!("{name}.lock"))
}

fn session_name(number: u32) -> PathBuf {
    PathBuf::from(format!("session-{number}.lock"))
}

fn in_use(path: &Path, pid: Option<u32>) -> StoreError {
    StoreError::InUse { path: path.to_owned(), pid }
}
