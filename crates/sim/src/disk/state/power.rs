//! The end of a process and of the power: which unsynced changes survive.

use std::path::{Path, PathBuf};

use super::{Change, Names, Node, SECTOR, State, apply};
use crate::rng::Rng;

impl State {
    /// Ends the process that used the disk: releases all locks. The system keeps running.
    pub(crate) fn revive(&mut self) {
        (self.dead, self.dies_in) = (false, None);
        for file in self.inodes.values_mut() {
            (file.locked_by, file.ranges) = (None, Vec::new());
        }
    }

    /// Cuts the power and restores it. Keeps any subset of the unsynced changes.
    pub(crate) fn cut_power(&mut self) {
        self.revive();
        self.boots += 1;
        let keep = f64::from(*self.rng.pick(&[0, 50, 90, 100]).unwrap_or(&0)) / 100.0;
        for naming in std::mem::take(&mut self.namings) {
            if self.rng.share(keep) {
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
        let named: Vec<u64> = self.names.values().filter_map(Node::file).collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    /// Keeps writes independently of each other and in any order. A change of length stays in order
    /// with the changes before and after it, as in every file system, and is kept if a later change
    /// is.
    fn keep_some_changes(&mut self, keep: f64) {
        let rng = &mut self.rng;
        for file in self.inodes.values_mut() {
            let changes = std::mem::take(&mut file.changes);
            let kept: Vec<bool> = changes.iter().map(|_| rng.share(keep)).collect();
            let last = kept.iter().rposition(|kept| *kept).map_or(0, |last| last + 1);
            let mut writes = Vec::new();
            for (change, kept) in changes.into_iter().take(last).zip(kept) {
                match change {
                    Change::Write { .. } if kept => writes.push(change.torn(rng)),
                    Change::Write { .. } => {}
                    Change::Length(_) => {
                        rng.shuffle(&mut writes);
                        writes.drain(..).for_each(|write| write.apply(&mut file.durable));
                        change.apply(&mut file.durable);
                    }
                }
            }
            rng.shuffle(&mut writes);
            writes.iter().for_each(|write| write.apply(&mut file.durable));
            file.shown = file.durable.clone();
        }
    }
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
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

    /// Returns the change, or the whole sectors that a power cut during the write leaves of it.
    fn torn(self, rng: &mut Rng) -> Self {
        match self {
            Self::Write { offset, mut bytes } if bytes.len() > SECTOR && rng.chance(25) => {
                let left = rng.below(bytes.len() as u64) as usize;
                bytes.truncate((left / SECTOR * SECTOR).max(SECTOR));
                Self::Write { offset, bytes }
            }
            whole => whole,
        }
    }
}
