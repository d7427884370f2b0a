//! Many messages side by side.

use bt_types::Sha1Digest;

use crate::Kernel;
use crate::kernel::{Block, INITIAL, State};

const BLOCK_LENGTH: usize = size_of::<Block>();

/// The SHA-1 of many independent messages that grow together, a strip each at a time.
#[derive(Debug, Clone)]
pub struct Lanes {
    kernel: Kernel,
    lanes: Vec<Lane>,
}

/// One message.
#[derive(Debug, Clone)]
struct Lane {
    state: State,
    /// How many bytes have come.
    length: u64,
    /// Those after the last whole block, at the start.
    tail: Block,
}

/// Whole blocks that a lane has still to take.
struct Blocks<'a> {
    lane: usize,
    blocks: &'a [Block],
}

impl Lanes {
    /// `count` lanes that have seen nothing yet.
    pub fn new(count: usize) -> Self {
        Self::with_kernel(Kernel::best(), count)
    }

    /// The same, hashed in a given way: for tests and comparisons.
    pub fn with_kernel(kernel: Kernel, count: usize) -> Self {
        let lane = Lane { state: INITIAL, length: 0, tail: [0; BLOCK_LENGTH] };
        Self { kernel, lanes: vec![lane; count] }
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Takes the next strip of each message: the first is lane 0's, and so on. Lanes without a
    /// strip do not grow; strips without a lane are not looked at.
    pub fn update(&mut self, strips: &[&[u8]]) {
        let states = self.lanes.iter_mut().zip(strips);
        let blocks = states.map(|(state, strip)| state.take(strip));
        let runs = blocks.enumerate().map(|(lane, blocks)| Blocks { lane, blocks }).collect();
        self.compress(runs);
    }

    /// Feeds the runs to the kernel, as many at once as it has lanes, for as long as the shortest.
    fn compress(&mut self, mut runs: Vec<Blocks<'_>>) {
        loop {
            runs.retain(|run| !run.blocks.is_empty());
            if runs.is_empty() {
                return;
            }
            // Those of about the same length together.
            runs.sort_by_key(|run| std::cmp::Reverse(run.blocks.len()));
            let kernel = self.kernel.for_count(runs.len());
            let width = kernel.lane_count().min(runs.len());
            self.compress_together(kernel, &mut runs[..width]);
        }
    }

    fn compress_together(&mut self, kernel: Kernel, runs: &mut [Blocks<'_>]) {
        let length = runs.iter().map(|run| run.blocks.len()).min().unwrap_or(0);
        let mut states: Vec<State> = runs.iter().map(|run| self.lanes[run.lane].state).collect();
        let strips: Vec<&[Block]> = runs.iter().map(|run| &run.blocks[..length]).collect();
        kernel.compress(&mut states, &strips);
        for (run, state) in runs.iter_mut().zip(states) {
            self.lanes[run.lane].state = state;
            run.blocks = &run.blocks[length..];
        }
    }

    /// The digest of each message, in the order of the lanes.
    pub fn finish(mut self) -> Vec<Sha1Digest> {
        let paddings: Vec<Vec<u8>> = self.lanes.iter().map(Lane::padding).collect();
        let strips: Vec<&[u8]> = paddings.iter().map(Vec::as_slice).collect();
        self.update(&strips);
        self.lanes.iter().map(Lane::digest).collect()
    }
}

impl Lane {
    /// Takes `bytes` but for the whole blocks among them, which are the caller's to compress.
    fn take<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [Block] {
        let filled = self.filled();
        self.length += bytes.len() as u64;
        if filled > 0 {
            let part = bytes.split_off(..bytes.len().min(BLOCK_LENGTH - filled)).unwrap_or(&[]);
            self.tail[filled..filled + part.len()].copy_from_slice(part);
            if filled + part.len() < BLOCK_LENGTH {
                return &[];
            }
            Kernel::compress_one(&mut self.state, &self.tail);
        }
        let (blocks, rest) = bytes.as_chunks();
        self.tail[..rest.len()].copy_from_slice(rest);
        blocks
    }

    /// How many bytes of the tail there are.
    fn filled(&self) -> usize {
        (self.length % BLOCK_LENGTH as u64) as usize
    }

    /// What FIPS 180-4 adds to the message: a one bit, zeros, and its length in bits, so that it
    /// ends with a block.
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

    /// Hashes `messages` side by side, `strip` bytes of each at a time.
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
    fn messages_of_different_lengths() {
        let messages: Vec<Vec<u8>> =
            [0, 1, 55, 56, 63, 64, 65, 200].iter().map(|length| vec![7; *length]).collect();
        for strip in [1, 7, 64, 1000] {
            check(&messages, strip);
        }
        check(&[], 1);
    }

    #[test]
    fn lanes_and_strips_need_not_match() {
        let mut lanes = Lanes::new(2);
        lanes.update(&[b"a"]);
        lanes.update(&[b"b", b"c", b"no lane"]);
        assert_eq!(lanes.finish(), [sha1(b"ab"), sha1(b"c")]);
    }
}
