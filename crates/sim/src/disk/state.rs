//! The state of the disk: durable contents, shown contents, and the unsynced changes between them.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use piece_store::{FileId, Kind, Stat};

use crate::rng::Rng;

mod content;
mod locks;
mod power;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// The faults of a disk, and how often they occur.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Faults {
    /// No space is left.
    pub(crate) full: bool,
    /// The share of opens and look-ups that fail.
    pub(crate) open: f64,
    /// The share of reads that fail.
    pub(crate) read: f64,
    /// The share of writes that fail.
    pub(crate) write: f64,
    /// The share of syncs that fail.
    pub(crate) sync: f64,
    /// The share of reads and writes that are short.
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
    born: i64,
    locked_by: Option<u64>,
    /// Which open file has locked which range.
    ranges: Vec<(u64, Range<u64>)>,
}

/// What a name refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(u64),
    Folder,
    /// A symbolic link to this path.
    Link(PathBuf),
}

/// What a path leads to, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leads {
    /// The file; `None` for a dangling link.
    pub(super) inode: Option<u64>,
    pub(super) linked: bool,
}

/// An unsynced change of names.
#[derive(Debug, Clone)]
struct Naming {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
}

type Names = BTreeMap<PathBuf, Node>;

/// Everything on a disk.
#[derive(Debug)]
pub(crate) struct State {
    rng: Rng,
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable_names: Names,
    namings: Vec<Naming>,
    clock: i64,
    handles: u64,
    pub(crate) faults: Faults,
    /// How many operations failed because of the faults.
    pub(crate) failures: u64,
    /// How many operations were done.
    pub(crate) operations: u64,
    /// The disk dies in the middle of this write or sync, counted from now.
    pub(crate) dies_in: Option<u64>,
    /// Whether the disk died. Nothing that was done since counts.
    pub(crate) dead: bool,
    /// How many times the machine was started.
    pub(super) boots: u64,
    /// Whether names that differ only in case are one. They are stored in lower case, as FAT once
    /// stored them in upper case.
    pub(crate) folds: bool,
    /// Whether files can't be locked: then every lock is granted.
    pub(crate) lockless: bool,
}

impl State {
    pub(super) fn new(rng: Rng) -> Self {
        let folders =
            ["/data", "/state", "/state2"].map(|path| (PathBuf::from(path), Node::Folder));
        let names = Names::from(folders);
        Self {
            rng,
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
            folds: false,
            lockless: false,
        }
    }

    /// Returns the path at which a name is stored.
    pub(crate) fn key(&self, path: &Path) -> PathBuf {
        match path.to_str() {
            Some(text) if self.folds => text.to_lowercase().into(),
            _ => path.to_owned(),
        }
    }

    /// Starts an operation, which may fail.
    pub(super) fn begin(&mut self, operation: Operation) -> io::Result<()> {
        self.operations += 1;
        if let (Some(left), Operation::Write | Operation::Sync) = (&mut self.dies_in, operation) {
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
        if self.rng.share(share) {
            self.failures += 1;
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(())
    }

    /// Ends all faults.
    pub(crate) fn end_faults(&mut self) {
        (self.faults, self.dies_in) = (Faults::default(), None);
    }

    /// Returns how many of `length` bytes an operation handles: all, or fewer, which is legal. A
    /// write that fits a page is short only on a full disk.
    pub(super) fn part_of(&mut self, length: usize) -> usize {
        if length > PAGE && self.rng.share(self.faults.short) {
            1 + self.rng.below(length as u64 - 1) as usize
        } else {
            length
        }
    }

    /// Creates a file that is durable at once.
    pub(crate) fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        let inode = self.new_inode();
        let modified = self.tick();
        if let Some(file) = self.inodes.get_mut(&inode) {
            *file = Inode {
                shown: bytes.clone(),
                durable: bytes,
                modified,
                born: file.born,
                ..Inode::default()
            };
        }
        self.put_node(path, Node::File(inode));
    }

    /// Creates a symbolic link that is durable at once.
    pub(crate) fn put_link(&mut self, path: &Path, target: &Path) {
        let target = self.key(target);
        self.put_node(path, Node::Link(target));
    }

    fn put_node(&mut self, path: &Path, node: Node) {
        let path = self.key(path);
        for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            self.names.insert(folder.to_owned(), Node::Folder);
            self.durable_names.insert(folder.to_owned(), Node::Folder);
        }
        self.names.insert(path.clone(), node.clone());
        self.durable_names.insert(path, node);
    }

    /// Changes a byte of a file durably, as another program.
    pub(crate) fn edit_byte(&mut self, path: &Path, at: u64) {
        let modified = self.tick();
        let file = self.file_at(path).and_then(|inode| self.inodes.get_mut(&inode));
        let Some(file) = file else { return };
        file.modified = modified;
        for content in [&mut file.shown, &mut file.durable] {
            content.get_mut(at as usize).into_iter().for_each(|byte| *byte ^= 1);
        }
    }

    /// Appends to a file and syncs it, as another program.
    pub(crate) fn grow(&mut self, path: &Path, bytes: &[u8]) {
        let modified = self.tick();
        let file = self.file_at(path).and_then(|inode| self.inodes.get_mut(&inode));
        let Some(file) = file else { return };
        file.modified = modified;
        file.shown.extend_from_slice(bytes);
        file.durable = file.shown.clone();
        file.changes.clear();
    }

    /// Removes a file durably, as another program.
    pub(crate) fn remove_file(&mut self, path: &Path) {
        let path = self.key(path);
        self.names.remove(&path);
        self.durable_names.remove(&path);
        let added = |naming: &Naming| naming.added.as_ref().map(|(path, _)| path.clone());
        self.namings.retain(|naming| added(naming).as_ref() != Some(&path));
    }

    /// Returns the `Stat` of every file. If a later one differs, the file was written to.
    pub(crate) fn stamps(&self) -> BTreeMap<PathBuf, Stat> {
        let stamp = |path: &PathBuf| Some((path.clone(), self.stat_at(path)?));
        self.names.keys().filter(|path| !self.is_folder(path)).filter_map(stamp).collect()
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn next_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// Returns the lowest free number: numbers of removed files are used again.
    pub(super) fn new_inode(&mut self) -> u64 {
        let taken = self.inodes.keys().zip(1..).take_while(|(key, number)| **key == *number);
        let number = taken.count() as u64 + 1;
        let born = self.tick();
        self.inodes.insert(number, Inode { born, ..Inode::default() });
        number
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        self.names.get(&self.key(path)) == Some(&Node::Folder)
    }

    /// Returns what a path leads to; `None` unless it names a file or a link.
    pub(super) fn leads(&self, path: &Path) -> Option<Leads> {
        leads_in(&self.names, &self.key(path))
    }

    pub(super) fn file_at(&self, path: &Path) -> Option<u64> {
        self.leads(path)?.inode
    }

    pub(super) fn durable_file_at(&self, path: &Path) -> Option<u64> {
        leads_in(&self.durable_names, &self.key(path))?.inode
    }

    pub(super) fn shown(&self, inode: u64) -> &[u8] {
        self.inodes.get(&inode).map_or(&[], |inode| &inode.shown)
    }

    pub(super) fn durable(&self, inode: u64) -> &[u8] {
        self.inodes.get(&inode).map_or(&[], |inode| &inode.durable)
    }

    pub(super) fn stat(&self, inode: u64) -> Stat {
        let (modified, born) =
            self.inodes.get(&inode).map_or((0, 0), |inode| (inode.modified, inode.born));
        Stat {
            kind: Kind::File,
            linked: false,
            id: FileId { device: 1, inode, born: born.cast_unsigned() },
            length: self.shown(inode).len() as u64,
            modified: (modified, 0),
        }
    }

    /// Returns the `Stat` of what is at a path; `None` for a folder.
    pub(super) fn stat_at(&self, path: &Path) -> Option<Stat> {
        let Leads { inode, linked } = self.leads(path)?;
        Some(match inode {
            Some(inode) => Stat { linked, ..self.stat(inode) },
            None => Stat { linked, kind: Kind::Other, ..self.stat(0) },
        })
    }

    /// Creates the file, and the folders above it.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        let path = &self.key(path);
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
        let (from, to) = (self.key(from), self.key(to));
        let node = self.names.get(&from).cloned().ok_or(io::ErrorKind::NotFound)?;
        self.name(Some(from), Some((to, node)));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.leads(path).ok_or(io::ErrorKind::NotFound)?;
        self.name(Some(self.key(path)), None);
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
            // A write that fails has often written a part.
            Err(_) => self.rng.below(whole as u64 + 1) as usize,
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

    /// Makes the changes of a file durable, or drops them.
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
        let folder = self.key(folder);
        self.sync_names(|path| path.parent() == Some(&folder));
        Ok(())
    }

    pub(super) fn sync_below(&mut self, folder: &Path) -> io::Result<()> {
        let begun = self.begin(Operation::Sync);
        let folder = &self.key(folder);
        let named = self.names.iter().filter(|(path, _)| path.starts_with(folder));
        let inodes: Vec<u64> = named.filter_map(|(_, node)| node.file()).collect();
        inodes.into_iter().for_each(|inode| self.settle_file(inode, begun.is_ok()));
        begun?;
        self.sync_names(|path| path.starts_with(folder));
        Ok(())
    }

    /// Makes changes of these names durable.
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

    pub(super) fn names_in(&self, folder: &Path) -> Vec<PathBuf> {
        let folder = self.key(folder);
        let inside = self.names.keys().filter(|path| path.parent() == Some(&folder));
        inside.filter_map(|path| path.file_name()).map(PathBuf::from).collect()
    }
}

fn leads_in(names: &Names, path: &Path) -> Option<Leads> {
    match names.get(path)? {
        Node::File(inode) => Some(Leads { inode: Some(*inode), linked: false }),
        Node::Folder => None,
        Node::Link(target) => {
            Some(Leads { inode: names.get(target).and_then(Node::file), linked: true })
        }
    }
}

impl Node {
    fn file(&self) -> Option<u64> {
        match self {
            Self::File(inode) => Some(*inode),
            Self::Folder | Self::Link(_) => None,
        }
    }
}

fn apply(names: &mut Names, naming: &Naming) {
    if let Some(path) = &naming.removed {
        names.remove(path);
    }
    if let Some((path, node)) = &naming.added {
        names.insert(path.clone(), node.clone());
    }
}
