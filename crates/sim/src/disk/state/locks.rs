//! Advisory locks of whole files and of ranges.

use std::ops::Range;

use piece_store::Lock;

use super::State;

impl State {
    pub(in crate::disk) fn lock(&mut self, inode: u64, handle: u64) -> Lock {
        if self.lockless {
            return Lock::Unsupported;
        }
        let Some(file) = self.inodes.get_mut(&inode) else { return Lock::Busy };
        match *file.locked_by.get_or_insert(handle) == handle {
            true => Lock::Taken,
            false => Lock::Busy,
        }
    }

    pub(in crate::disk) fn unlock(&mut self, inode: u64, handle: u64) {
        if let Some(file) = self.inodes.get_mut(&inode)
            && file.locked_by == Some(handle)
        {
            file.locked_by = None;
        }
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.ranges.retain(|(holder, _)| *holder != handle);
        }
    }

    pub(in crate::disk) fn lock_range(
        &mut self,
        inode: u64,
        handle: u64,
        range: &Range<u64>,
    ) -> bool {
        let is_free = self.range_holder(inode, handle, range).is_none();
        if let Some(file) = self.inodes.get_mut(&inode).filter(|_| is_free) {
            file.ranges.push((handle, range.clone()));
        }
        is_free
    }

    /// Returns the conflicting range that another open file has locked.
    pub(in crate::disk) fn range_holder(
        &self,
        inode: u64,
        handle: u64,
        range: &Range<u64>,
    ) -> Option<Range<u64>> {
        let ranges = &self.inodes.get(&inode)?.ranges;
        let other = ranges.iter().find(|(holder, held)| {
            *holder != handle && held.start < range.end && range.start < held.end
        });
        other.map(|(_, held)| held.clone())
    }

    pub(in crate::disk) fn unlock_range(&mut self, inode: u64, handle: u64, range: &Range<u64>) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.ranges.retain(|held| *held != (handle, range.clone()));
        }
    }
}
