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

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::handles::Handles;
use super::record::JournalName;
use crate::{Access, Disk, FileId, Operation, StoreError};

/// More sessions than this at a time in one state folder are refused.
const MAX_SESSIONS: u32 = 4096;

/// So often a lock is looked at before it is said to be in use. Who only asks whether a session goes on
/// holds the lock for a moment too, and who begins one holds it a moment before its count is there.
const MAX_LOOKS: u32 = 100;

/// What names one session among those that were and are in a state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SessionId {
    /// The least that was free.
    number: u32,
    /// How often the number was taken.
    count: u64,
}

/// The sessions of one pool, one a state folder, by its canonical path.
#[derive(Debug)]
pub(super) struct Sessions<F>(BTreeMap<PathBuf, Session<F>>);

#[derive(Debug)]
struct Session<F> {
    id: SessionId,
    /// Its file, locked as long as it is open.
    _file: F,
    /// What the file is: another of its name proves nothing to others about this session.
    file_id: FileId,
    /// The torrents that are open. A file may name the session although its torrent is not among
    /// them: it could not be given back.
    torrents: BTreeSet<JournalName>,
}

impl<F> Default for Sessions<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A state folder, open.
#[derive(Debug)]
pub(super) struct StateFolder<'a, D: Disk> {
    pub(super) disk: &'a D,
    pub(super) handles: &'a Handles<D::File>,
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
    pub(super) fn take(self, name: JournalName, save_path: &Path) -> Result<(), StoreError> {
        let mut sessions = self.handles.sessions();
        let session = self.session(&mut sessions)?;
        if session.torrents.contains(&name) {
            return Err(in_use(save_path, Some(self.disk.process_id())));
        }
        self.take_file(session.id, &lock_name(name), save_path)?;
        session.torrents.insert(name);
        Ok(())
    }

    /// Writes the session into the torrent's file `name`.
    fn take_file(self, own: SessionId, name: &Path, save_path: &Path) -> Result<(), StoreError> {
        let file = self.open(name)?;
        if !self.lock(&file).map_err(|error| self.error(name, &error))? {
            let pid = self.owner(&file).ok().and_then(|(_, pid)| pid);
            return Err(in_use(save_path, pid));
        }
        let (owner, pid) = self.owner(&file).map_err(|error| self.error(name, &error))?;
        if let Some(owner) = owner
            && self.is_alive(own, owner)?
        {
            return Err(in_use(save_path, pid));
        }
        let text = format!("{} {} {}\n", own.number, own.count, self.disk.process_id());
        self.write(&file, name, &text)
    }

    /// Gives the torrent back. One whose file can't be written is free for this session only, until
    /// it ends.
    pub(super) fn give_back(self, name: JournalName) {
        let mut sessions = self.handles.sessions();
        let Some(session) = sessions.0.get_mut(self.path) else { return };
        session.torrents.remove(&name);
        let name = lock_name(name);
        if let Err(error) = self.give_back_file(session.id, &name) {
            log::warn!("can't release {}: {error}", self.path.join(name).display());
        }
    }

    /// Empties the torrent's file `name` if it names the session.
    fn give_back_file(self, own: SessionId, name: &Path) -> std::io::Result<()> {
        let open = || self.disk.open(self.folder, name, Access::Write);
        let file = self.handles.make_room(self.disk, open)?;
        if !self.lock(&file)? {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        match self.owner(&file)?.0 {
            Some(owner) if owner == own => self.disk.set_length(&file, 0),
            _ => Ok(()),
        }
    }

    /// This pool's session here; begun if there is none.
    fn session(
        self,
        sessions: &mut Sessions<D::File>,
    ) -> Result<&mut Session<D::File>, StoreError> {
        match sessions.0.entry(self.path.to_owned()) {
            Entry::Vacant(entry) => Ok(entry.insert(self.begin_session()?)),
            Entry::Occupied(entry) => {
                let session = entry.into_mut();
                if !self.is_there(session)? {
                    let begun = self.begin_session()?;
                    let torrents = std::mem::take(&mut session.torrents);
                    *session = Session { torrents, ..begun };
                }
                Ok(session)
            }
        }
    }

    /// Whether others find the session's file: the folder may have been emptied or replaced.
    fn is_there(self, session: &Session<D::File>) -> Result<bool, StoreError> {
        let name = session_name(session.id.number);
        let stat = self.disk.stat(self.folder, &name).map_err(|error| self.error(&name, &error))?;
        Ok(stat.is_some_and(|stat| stat.id == session.file_id))
    }

    /// Takes the least number that is free.
    fn begin_session(self) -> Result<Session<D::File>, StoreError> {
        for number in 0..MAX_SESSIONS {
            let name = session_name(number);
            let file = self.open(&name)?;
            if self.disk.try_lock(&file).map_err(|error| self.error(&name, &error))? {
                let last = self.numbers(&file).map_err(|error| self.error(&name, &error))?;
                let count = last.first().map_or(1, |count| count.saturating_add(1));
                let id = SessionId { number, count };
                // As long as any other, so that no write leaves a mix of two.
                self.write(&file, &name, &format!("{count:020}\n"))?;
                // Else a power cut could have a later session count as this one, and as its owner.
                self.disk.sync_file(&file).map_err(|error| self.error(&name, &error))?;
                let stat = self.disk.file_stat(&file).map_err(|error| self.error(&name, &error))?;
                let torrents = BTreeSet::new();
                return Ok(Session { id, _file: file, file_id: stat.id, torrents });
            }
        }
        Err(in_use(self.path, None))
    }

    /// Whether `other`'s session goes on, and is not this one.
    fn is_alive(self, own: SessionId, other: SessionId) -> Result<bool, StoreError> {
        if other.number == own.number {
            return Ok(false);
        }
        let name = session_name(other.number);
        let open = || self.disk.open(self.folder, &name, Access::Write);
        let file = match self.handles.make_room(self.disk, open) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(|error| self.error(&name, &error))?,
        };
        for _ in 0..MAX_LOOKS {
            let free = self.disk.try_lock(&file).map_err(|error| self.error(&name, &error))?;
            if free {
                return Ok(false);
            }
            let numbers = self.numbers(&file).map_err(|error| self.error(&name, &error))?;
            if numbers.first() != Some(&other.count) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whose a torrent is, as its file says, and the process.
    fn owner(self, file: &D::File) -> std::io::Result<(Option<SessionId>, Option<u32>)> {
        Ok(match self.numbers(file)?[..] {
            [number, count, pid] => {
                let number = u32::try_from(number).ok();
                let id = number.map(|number| SessionId { number, count });
                (id, u32::try_from(pid).ok())
            }
            _ => (None, None),
        })
    }

    /// The numbers in a file; none if it has something else in it. That it can't be read says nothing of
    /// what is in it.
    fn numbers(self, file: &D::File) -> std::io::Result<Vec<u64>> {
        let (mut text, mut length) = ([0; 64], 0);
        while let Some(rest) = text.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.disk.read_at(file, rest, length as u64)? {
                0 => break,
                count => length += count,
            }
        }
        let text = str::from_utf8(text.get(..length).unwrap_or_default()).unwrap_or_default();
        // Without its end, the last number may be cut short.
        let whole = text.strip_suffix('\n').unwrap_or_default();
        Ok(whole.split(' ').map_while(|number| number.parse().ok()).collect())
    }

    fn open(self, name: &Path) -> Result<D::File, StoreError> {
        let open = || self.disk.open(self.folder, name, Access::Create);
        let opened = self.handles.make_room(self.disk, open);
        opened.map_err(|error| self.error(name, &error))
    }

    /// Takes the lock of a file that others hold for a moment only.
    fn lock(self, file: &D::File) -> std::io::Result<bool> {
        for _ in 0..MAX_LOOKS {
            if self.disk.try_lock(file)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Replaces what is in a file. It is never empty meanwhile: a count must not begin again.
    fn write(self, file: &D::File, name: &Path, text: &str) -> Result<(), StoreError> {
        let written = match self.disk.write_at(file, &[IoSlice::new(text.as_bytes())], 0) {
            Ok(count) if count == text.len() => self.disk.set_length(file, count as u64),
            Ok(_) => Err(std::io::ErrorKind::StorageFull.into()),
            Err(error) => Err(error),
        };
        written.map_err(|error| self.error(name, &error))
    }

    fn error(self, name: &Path, error: &std::io::Error) -> StoreError {
        StoreError::disk(Operation::Lock, &self.path.join(name), error)
    }
}

fn lock_name(name: JournalName) -> PathBuf {
    PathBuf::from(format!("{name}.lock"))
}

fn session_name(number: u32) -> PathBuf {
    PathBuf::from(format!("session-{number}.lock"))
}

fn in_use(path: &Path, pid: Option<u32>) -> StoreError {
    StoreError::InUse { path: path.to_owned(), pid }
}
