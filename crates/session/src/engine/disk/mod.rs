//! Between the engine and the store: buffers of payload, ranges read for peers, the order of syncs.

mod buffers;
mod piece_buffers;
mod read_ranges;
mod syncs;

use read_ranges::ReadRanges;
use syncs::Syncs;

pub(super) use buffers::Buffers;
pub(super) use piece_buffers::{PieceBuffers, blocks_in};
pub(super) use read_ranges::{RangeKey, ReadRange};

/// What all torrents share on their way to the store. `F` is an open file.
#[derive(Debug)]
pub(super) struct Disk<F> {
    pub(super) buffers: Buffers,
    pub(super) reads: ReadRanges<F>,
    pub(super) syncs: Syncs,
}

impl<F> Disk<F> {
    /// `memory` is for payload, in bytes. The store has at most `open_files` open.
    pub(super) fn new(memory: usize, open_files: usize) -> Self {
        Self {
            buffers: Buffers::new(memory),
            reads: ReadRanges::new(open_files),
            syncs: Syncs::default(),
        }
    }
}
