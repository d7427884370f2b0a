//! One sync at a time on each file system. A second one would make both slower.

use std::collections::{BTreeSet, VecDeque};

use piece_store::TorrentKey;

/// The file systems with a sync under way, and the torrents that wait.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    running: BTreeSet<u64>,
    waiting: VecDeque<(u64, TorrentKey)>,
}

impl Syncs {
    /// Returns whether `torrent` may sync now. If not, [`Self::next_waiting`] returns it later.
    pub(crate) fn admit(&mut self, file_system: u64, torrent: TorrentKey) -> bool {
        let free = self.running.insert(file_system);
        if !free {
            self.waiting.push_back((file_system, torrent));
        }
        free
    }

    /// The sync on `file_system` has ended.
    pub(crate) fn handle_finished(&mut self, file_system: u64) {
        self.running.remove(&file_system);
    }

    /// Takes the next torrent that waits for `file_system`, if that is free.
    pub(crate) fn next_waiting(&mut self, file_system: u64) -> Option<TorrentKey> {
        if self.running.contains(&file_system) {
            return None;
        }
        let place = self.waiting.iter().position(|(on, _)| *on == file_system)?;
        self.waiting.remove(place).map(|(_, torrent)| torrent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_file_system_in_order() {
        let mut syncs = Syncs::default();
        let key = TorrentKey;
        assert!(syncs.admit(1, key(1)) && syncs.admit(2, key(2)));
        assert!(!syncs.admit(1, key(3)) && !syncs.admit(1, key(4)));
        assert_eq!(syncs.next_waiting(1), None);
        syncs.handle_finished(1);
        assert_eq!(syncs.next_waiting(1), Some(key(3)));
        assert!(syncs.admit(1, key(3)));
        assert_eq!(syncs.next_waiting(1), None);
        syncs.handle_finished(1);
        assert_eq!(syncs.next_waiting(1), Some(key(4)));
        assert_eq!(syncs.next_waiting(1), None);
    }
}
