//! What is on the disk, what the system shows, and what stands between.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use piece_store::{FileId, Kind, Stat};

use crate::dice::Dice;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// What may go wrong, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Faults {
    /// Nothing more can be written.
    pub(crate) full: bool,
    /// The share of opens and look-ups that fail.
    pub(crate) open: f64,
    /// The share of reads that fail.
    pub(crate) read: f64,
    /// The share of writes that fail.
    pub(crate) write: f64,
    /// The share of syncs that fail.
    pub(crate) sync: f64,
    /// The share of reads and writes that do only a part.
    pub(crate) short: f64,
}

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Open,
    Read,
    Write,
    Sync,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Default)]
struct Inode {
    shown: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    modified: i64,
    locked_by: Option<u64>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Folder,
}

/// A change of names that was not synced.
#[derive(Debug, Clone)]
struct Naming {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug)]
pub(super) struct State {
    dice: Dice,
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable_names: Names,
    namings: Vec<Naming>,
    clock: i64,
    handles: u64,
    pub(super) faults: Faults,
    pub(super) failures: u64,
    pub(super) operations: u64,
    pub(super) dies_in: Option<u64>,
    pub(super) dead: bool,
    /// How many times the machine was started.
    pub(super) boots: u64,
}

impl State {
    pub(super) fn new(dice: Dice) -> Self {
        let folders = ["/data", "/state"].map(|path| (PathBuf::from(path), Node::Folder));
        let names = Names::from(folders);
        Self {
            dice,
            inodes: BTreeMap::new(),
            durable_names: names.clone(),
            names,
            namings: Vec::new(),
            clock: 0,
            handles: 0,
            faults: Faults::default(),
            failures: 0,
            operations: 0,
            dies_in: None,
            dead: false,
            boots: 1,
        }
    }

    /// An operation begins: it may be one that fails.
    pub(super) fn begin(&mut self, operation: Operation) -> io::Result<()> {
        self.operations += 1;
        if let Some(left) = &mut self.dies_in {
            *left = left.saturating_sub(1);
            self.dead |= *left == 0;
        }
        if self.dead {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let faults = self.faults;
        let (share, code) = match operation {
            Operation::Open => (faults.open, EIO),
            Operation::Read => (faults.read, EIO),
            Operation::Write if faults.full => (1.0, ENOSPC),
            Operation::Write => (faults.write, EIO),
            Operation::Sync => (faults.sync, EIO),
        };
        if self.dice.share(share) {
            self.failures += 1;
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(())
    }

    /// How much of `length` bytes an operation does: all, or only a part, which is legal. What fits
    /// a page is written whole by every system that is not full.
    pub(super) fn part_of(&mut self, length: usize) -> usize {
        if length > PAGE && self.dice.share(self.faults.short) {
            1 + self.dice.below(length as u64 - 1) as usize
        } else {
            length
        }
    }

    pub(super) fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            self.names.insert(folder.to_owned(), Node::Folder);
            self.durable_names.insert(folder.to_owned(), Node::Folder);
        }
        let inode = self.new_inode();
        let modified = self.tick();
        let content = Inode { shown: bytes.clone(), durable: bytes, modified, ..Inode::default() };
        self.inodes.insert(inode, content);
        self.names.insert(path.to_owned(), Node::File(inode));
        self.durable_names.insert(path.to_owned(), Node::File(inode));
    }

    pub(super) fn meddle(&mut self, path: &Path, at: u64) {
        let modified = self.tick();
        let file = self.file_at(path).and_then(|inode| self.inodes.get_mut(&inode));
        let Some(file) = file else { return };
        file.modified = modified;
        for content in [&mut file.shown, &mut file.durable] {
            content.get_mut(at as usize).into_iter().for_each(|byte| *byte ^= 1);
        }
    }

    pub(super) fn lose(&mut self, path: &Path) {
        self.names.remove(path);
        self.durable_names.remove(path);
        let added = |naming: &Naming| naming.added.as_ref().map(|(path, _)| path.clone());
        self.namings.retain(|naming| added(naming).as_deref() != Some(path));
    }

    pub(super) fn stamps(&self) -> BTreeMap<PathBuf, Stat> {
        let file = |(path, node): (&PathBuf, &Node)| Some((path.clone(), self.stat(node.file()?)));
        self.names.iter().filter_map(file).collect()
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn next_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// The least number that is free: numbers of files that are gone are used again.
    pub(super) fn new_inode(&mut self) -> u64 {
        let taken = self.inodes.keys().zip(1..).take_while(|(key, number)| **key == *number);
        let number = taken.count() as u64 + 1;
        self.inodes.insert(number, Inode::default());
        number
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        self.names.get(path) == Some(&Node::Folder)
    }

    pub(super) fn file_at(&self, path: &Path) -> Option<u64> {
        file_in(&self.names, path)
    }

    pub(super) fn durable_file_at(&self, path: &Path) -> Option<u64> {
        file_in(&self.durable_names, path)
    }

    pub(super) fn shown(&self, inode: u64) -> &[u8] {
        self.inodes.get(&inode).map_or(&[], |inode| &inode.shown)
    }

    pub(super) fn durable(&self, inode: u64) -> &[u8] {
        self.inodes.get(&inode).map_or(&[], |inode| &inode.durable)
    }

    pub(super) fn stat(&self, inode: u64) -> Stat {
        let modified = self.inodes.get(&inode).map_or(0, |inode| inode.modified);
        Stat {
            kind: Kind::File,
            id: FileId { device: 1, inode },
            length: self.shown(inode).len() as u64,
            modified: (modified, 0),
        }
    }

    /// Makes the file, and the folders above it.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        if self.faults.full {
            self.failures += 1;
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let missing: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .filter(|folder| !folder.as_os_str().is_empty() && !self.is_folder(folder))
            .map(Path::to_owned)
            .collect();
        for folder in missing.into_iter().rev().filter(|folder| folder != Path::new("/")) {
            self.name(None, Some((folder, Node::Folder)));
        }
        let inode = self.new_inode();
        self.name(None, Some((path.to_owned(), Node::File(inode))));
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        self.name(Some(from.to_owned()), Some((to.to_owned(), node)));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file_at(path).ok_or(io::ErrorKind::NotFound)?;
        self.name(Some(path.to_owned()), None);
        Ok(())
    }

    fn name(&mut self, removed: Option<PathBuf>, added: Option<(PathBuf, Node)>) {
        let naming = Naming { removed, added };
        apply(&mut self.names, &naming);
        self.namings.push(naming);
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: Vec<u8>) -> io::Result<usize> {
        let most = self.part_of(bytes.len());
        self.write_part(inode, offset, bytes, most)
    }

    pub(super) fn write_whole(
        &mut self,
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    ) -> io::Result<usize> {
        let most = bytes.len();
        self.write_part(inode, offset, bytes, most)
    }

    fn write_part(
        &mut self,
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
        most: usize,
    ) -> io::Result<usize> {
        if self.dead {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let begun = self.begin(Operation::Write);
        let whole = bytes.len();
        let done = match &begun {
            Ok(()) => most,
            // A disk that dies or fills has often done a part.
            Err(_) => self.dice.below(whole as u64 + 1) as usize,
        };
        let mut bytes = bytes;
        bytes.truncate(done);
        let modified = self.tick();
        let Some(file) = self.inodes.get_mut(&inode) else { return Ok(0) };
        file.modified = modified;
        let change = Change::Write { offset: offset as usize, bytes };
        change.apply(&mut file.shown);
        file.changes.push(change);
        begun.map(|()| done)
    }

    pub(super) fn set_length(&mut self, inode: u64, length: u64) {
        let modified = self.tick();
        let Some(file) = self.inodes.get_mut(&inode) else { return };
        file.modified = modified;
        let change = Change::Length(length as usize);
        change.apply(&mut file.shown);
        file.changes.push(change);
    }

    pub(super) fn sync_file(&mut self, inode: u64) -> io::Result<()> {
        let begun = self.begin(Operation::Sync);
        self.settle_file(inode, begun.is_ok());
        begun
    }

    /// The changes of a file reach the platter, or are forgotten by the system.
    fn settle_file(&mut self, inode: u64, durable: bool) {
        let dead = self.dead;
        let Some(file) = self.inodes.get_mut(&inode).filter(|_| !dead) else { return };
        for change in std::mem::take(&mut file.changes) {
            if durable {
                change.apply(&mut file.durable);
            }
        }
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.begin(Operation::Sync)?;
        self.sync_names(|path| path.parent() == Some(folder));
        Ok(())
    }

    pub(super) fn sync_below(&mut self, folder: &Path) -> io::Result<()> {
        let begun = self.begin(Operation::Sync);
        let named = self.names.iter().filter(|(path, _)| path.starts_with(folder));
        let inodes: Vec<u64> = named.filter_map(|(_, node)| node.file()).collect();
        inodes.into_iter().for_each(|inode| self.settle_file(inode, begun.is_ok()));
        begun?;
        self.sync_names(|path| path.starts_with(folder));
        Ok(())
    }

    /// Changes of these names reach the platter.
    fn sync_names(&mut self, are_synced: impl Fn(&Path) -> bool) {
        for naming in std::mem::take(&mut self.namings) {
            let added = naming.added.as_ref().map(|(path, _)| path);
            if naming.removed.iter().chain(added).any(|path| are_synced(path)) {
                apply(&mut self.durable_names, &naming);
            } else {
                self.namings.push(naming);
            }
        }
    }

    pub(super) fn lock(&mut self, inode: u64, handle: u64) -> bool {
        let Some(file) = self.inodes.get_mut(&inode) else { return false };
        *file.locked_by.get_or_insert(handle) == handle
    }

    pub(super) fn unlock(&mut self, inode: u64, handle: u64) {
        if let Some(file) = self.inodes.get_mut(&inode)
            && file.locked_by == Some(handle)
        {
            file.locked_by = None;
        }
    }

    /// Another process may use it now. Nobody holds a lock.
    pub(super) fn revive(&mut self) {
        (self.dead, self.dies_in) = (false, None);
        self.inodes.values_mut().for_each(|file| file.locked_by = None);
    }

    /// Keeps any subset of what was not synced.
    pub(super) fn cut_power(&mut self) {
        self.revive();
        self.boots += 1;
        let keep = f64::from(*self.dice.pick(&[0, 50, 90, 100]).unwrap_or(&0)) / 100.0;
        for naming in std::mem::take(&mut self.namings) {
            if self.dice.share(keep) {
                apply(&mut self.durable_names, &naming);
            }
        }
        let unreachable = |names: &Names, path: &Path| {
            path.ancestors()
                .skip(1)
                .any(|folder| folder != Path::new("/") && names.get(folder) != Some(&Node::Folder))
        };
        let lost: Vec<PathBuf> = self.durable_names.keys().cloned().collect();
        for path in lost {
            if unreachable(&self.durable_names, &path) {
                self.durable_names.remove(&path);
            }
        }
        self.names = self.durable_names.clone();
        self.keep_some_changes(keep);
        let named: Vec<u64> = self.names.values().filter_map(|node| node.file()).collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    /// Writes survive or not, each on its own and in any order. A change of length is kept in order
    /// with what came before and after it, as every file system does, and is there if something that
    /// came later is.
    fn keep_some_changes(&mut self, keep: f64) {
        let dice = &mut self.dice;
        for file in self.inodes.values_mut() {
            let changes = std::mem::take(&mut file.changes);
            let kept: Vec<bool> = changes.iter().map(|_| dice.share(keep)).collect();
            let last = kept.iter().rposition(|kept| *kept).map_or(0, |last| last + 1);
            let mut writes = Vec::new();
            for (change, kept) in changes.into_iter().take(last).zip(kept) {
                match change {
                    Change::Write { .. } if kept => writes.push(change.torn(dice)),
                    Change::Write { .. } => {}
                    Change::Length(_) => {
                        dice.shuffle(&mut writes);
                        writes.drain(..).for_each(|write| write.apply(&mut file.durable));
                        change.apply(&mut file.durable);
                    }
                }
            }
            dice.shuffle(&mut writes);
            writes.iter().for_each(|write| write.apply(&mut file.durable));
            file.shown = file.durable.clone();
        }
    }
}

fn file_in(names: &Names, path: &Path) -> Option<u64> {
    names.get(path)?.file()
}

impl Node {
    fn file(self) -> Option<u64> {
        match self {
            Self::File(inode) => Some(inode),
            Self::Folder => None,
        }
    }
}

fn apply(names: &mut Names, naming: &Naming) {
    if let Some(path) = &naming.removed {
        names.remove(path);
    }
    if let Some((path, node)) = &naming.added {
        names.insert(path.clone(), *node);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Length(length) => content.resize(*length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
        }
    }

    /// The same, or what is left of it if the power fails while it is written: whole sectors.
    fn torn(self, dice: &mut Dice) -> Self {
        match self {
            Self::Write { offset, mut bytes } if bytes.len() > SECTOR && dice.chance(25) => {
                let left = dice.below(bytes.len() as u64) as usize;
                bytes.truncate((left / SECTOR * SECTOR).max(SECTOR));
                Self::Write { offset, bytes }
            }
            whole => whole,
        }
    }
}
