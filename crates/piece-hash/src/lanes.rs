//! SHA-1 of many messages in parallel.

use bt_types::Sha1Digest;

use crate::Kernel;
use crate::kernel::{Block, INITIAL, State};

const BLOCK_LENGTH: usize = size_of::<Block>();

/// Computes the SHA-1 of many independent messages, one strip of each at a time.
#[derive(Debug, Clone)]
pub struct Lanes {
    kernel: Kernel,
    lanes: Vec<Lane>,
}

/// One message.
#[derive(Debug, Clone)]
struct Lane {
    state: State,
    /// The length of the message so far, in bytes.
    length: u64,
    /// Starts with the bytes of the message after the last whole block. The rest is unused.
    tail: Block,
}

/// Whole blocks that a lane has yet to hash.
struct Pending<'a> {
    lane: usize,
    blocks: &'a [Block],
}

impl Lanes {
    /// Makes `count` lanes of empty messages.
    pub fn new(count: usize) -> Self {
        Self::with_kernel(Kernel::best(), count)
    }

    /// Makes `count` lanes that use `kernel`, for tests and comparisons.
    pub fn with_kernel(kernel: Kernel, count: usize) -> Self {
        let lane = Lane { state: INITIAL, length: 0, tail: [0; BLOCK_LENGTH] };
        Self { kernel, lanes: vec![lane; count] }
    }

    /// Returns the number of messages.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Appends a strip to each message: the first to lane 0's, and so on. Lanes without a strip do
    /// not grow; strips without a lane are ignored.
    pub fn update(&mut self, strips: &[&[u8]]) {
        let lanes = self.lanes.iter_mut().zip(strips);
        let blocks = lanes.map(|(lane, strip)| lane.take(strip));
        let pending = blocks.enumerate().map(|(lane, blocks)| Pending { lane, blocks }).collect();
        self.compress(pending);
    }

    /// Hashes all pending blocks, with as many lanes at once as the kernel has.
    fn compress(&mut self, mut pending: Vec<Pending<'_>>) {
        loop {
            pending.retain(|lane| !lane.blocks.is_empty());
            if pending.is_empty() {
                return;
            }
            // Groups lanes with about the same number of blocks.
            pending.sort_by_key(|lane| std::cmp::Reverse(lane.blocks.len()));
            let kernel = self.kernel.for_count(pending.len());
            let width = kernel.lane_count().min(pending.len());
            self.compress_together(kernel, &mut pending[..width]);
        }
    }

    /// Hashes as many blocks of each lane as the shortest one has.
    fn compress_together(&mut self, kernel: Kernel, pending: &mut [Pending<'_>]) {
        let length = pending.iter().map(|lane| lane.blocks.len()).min().unwrap_or(0);
        let mut states: Vec<_> = pending.iter().map(|one| self.lanes[one.lane].state).collect();
        let strips: Vec<&[Block]> = pending.iter().map(|lane| &lane.blocks[..length]).collect();
        kernel.compress(&mut states, &strips);
        for (pending, state) in pending.iter_mut().zip(states) {
            self.lanes[pending.lane].state = state;
            pending.blocks = &pending.blocks[length..];
        }
    }

    /// Returns the digest of each message, in the order of the lanes.
    pub fn finish(mut self) -> Vec<Sha1Digest> {
        let paddings: Vec<Vec<u8>> = self.lanes.iter().map(Lane::padding).collect();
        let strips: Vec<&[u8]> = paddings.iter().map(Vec::as_slice).collect();
        self.update(&strips);
        self.lanes.iter().map(Lane::digest).collect()
    }
}

impl Lane {
    /// Appends `bytes`. Returns the whole blocks among them, which the caller must hash.
    fn take<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [Block] {
        let filled = self.filled();
        self.length += bytes.len() as u64;
        if filled > 0 {
            let head = bytes.split_off(..bytes.len().min(BLOCK_LENGTH - filled)).unwrap_or(&[]);
            self.tail[filled..filled + head.len()].copy_from_slice(head);
            if filled + head.len() < BLOCK_LENGTH {
                return &[];
            }
            Kernel::compress_one(&mut self.state, &self.tail);
        }
        let (blocks, rest) = bytes.as_chunks();
        self.tail[..rest.len()].copy_from_slice(rest);
        blocks
    }

    /// Returns the number of bytes in the tail.
    fn filled(&self) -> usize {
        (self.length % BLOCK_LENGTH as u64) as usize
    }

    /// Returns what FIPS 180-4 appends to the message: a one bit, zeros up to the end of a block,
    /// and the length in bits at the end of it.
    fn padding(&self) -> Vec<u8> {
        let end = self.filled() + 1 + size_of::<u64>();
        let mut padding = vec![0; end.next_multiple_of(BLOCK_LENGTH) - self.filled()];
        padding[0] = 0x80;
        let bits = self.length.wrapping_mul(8);
        let at = padding.len() - size_of::<u64>();
        padding[at..].copy_from_slice(&bits.to_be_bytes());
        padding
    }

    fn digest(&self) -> Sha1Digest {
        let mut digest = [0; 20];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        Sha1Digest(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha1;

    /// Hashes `messages` in parallel, `strip` bytes of each at a time.
    #[track_caller]
    fn check(messages: &[Vec<u8>], strip: usize) {
        let mut lanes = Lanes::new(messages.len());
        let longest = messages.iter().map(Vec::len).max().unwrap_or(0);
        for at in (0..longest).step_by(strip) {
            let part =
                |message: &'_ Vec<u8>| at.min(message.len())..(at + strip).min(message.len());
            let strips: Vec<&[u8]> =
                messages.iter().map(|message| &message[part(message)]).collect();
            lanes.update(&strips);
        }
        let expected: Vec<Sha1Digest> = messages.iter().map(|message| sha1(message)).collect();
        assert_eq!(lanes.finish(), expected);
    }

    #[test]
    fn messages_may_differ_in_length() {
        let messages: Vec<Vec<u8>> =
            [0, 1, 55, 56, 63, 64, 65, 200].iter().map(|length| vec![7; *length]).collect();
        for strip in [1, 7, 64, 1000] {
            check(&messages, strip);
        }
        check(&[], 1);
    }

    #[test]
    fn lanes_and_strips_may_differ() {
        let mut lanes = Lanes::new(2);
        lanes.update(&[b"a"]);
        lanes.update(&[b"b", b"c", b"no lane"]);
        assert_eq!(lanes.finish(), [sha1(b"ab"), sha1(b"c")]);
    }
}
