//! Many messages side by side.

use bt_types::Sha1Digest;

use crate::{Hasher, Kernel};

/// The SHA-1 of many independent messages that grow together, a strip each at a time.
#[derive(Debug, Clone)]
pub struct Lanes {
    states: Vec<Hasher>,
}

impl Lanes {
    /// `count` lanes that have seen nothing yet.
    pub fn new(count: usize) -> Self {
        Self::with_kernel(Kernel::best(), count)
    }

    /// The same, hashed in a given way: for tests and comparisons.
    pub fn with_kernel(_kernel: Kernel, count: usize) -> Self {
        Self { states: vec![Hasher::new(); count] }
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// Takes the next strip of each message: the first is lane 0's, and so on. Lanes without a
    /// strip do not grow; strips without a lane are not looked at.
    pub fn update(&mut self, strips: &[&[u8]]) {
        update(&mut self.states, strips);
    }

    /// The digest of each message, in the order of the lanes.
    pub fn finish(self) -> Vec<Sha1Digest> {
        self.states.into_iter().map(Hasher::finish).collect()
    }
}

/// Lane after lane: each already uses the processor's SHA instructions where it has them, and those
/// work on one message at a time.
fn update(states: &mut [Hasher], strips: &[&[u8]]) {
    for (state, strip) in states.iter_mut().zip(strips) {
        state.update(strip);
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
