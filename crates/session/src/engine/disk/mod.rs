//! What goes to the disk and comes from it: buffers of payload on its way to the store, the ranges
//! that were read for peers, and the order of syncs.

mod buffers;
mod piece_buffers;
mod read_ranges;
mod syncs;

use read_ranges::ReadRanges;
use syncs::Syncs;

pub(super) use buffers::Buffers;
pub(super) use piece_buffers::{PieceBuffers, blocks_in};
pub(super) use read_ranges::{RangeKey, ReadRange};

/// What the torrents of a session share of the store. `F` is an open file.
#[derive(Debug)]
pub(super) struct Disk<F> {
    pub(super) buffers: Buffers,
    pub(super) reads: ReadRanges<F>,
    pub(super) syncs: Syncs,
}

impl<F> Disk<F> {
    /// `memory` bytes for payload, and a store that has at most `open_files` open.
    pub(super) fn new(memory: usize, open_files: usize) -> Self {
        Self {
            buffers: Buffers::new(memory),
            reads: ReadRanges::new(open_files),
            syncs: Syncs::default(),
        }
    }
}
