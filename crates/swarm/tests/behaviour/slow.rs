//! Slow peers that do send.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use swarm::{BlockFate, BlockRequest, Output, PeerKey};

use super::bench::{BLOCK, Bench};

const PART: u32 = 1024;

/// Peers that send requested blocks part by part.
struct Slow {
    bench: Bench,
    /// The requests that each has not answered, and how much of the first block it sent.
    peers: BTreeMap<PeerKey, (VecDeque<BlockRequest>, u32)>,
    /// How long a part takes.
    part: Duration,
    verified: u32,
}

impl Slow {
    fn new(pieces: u32, blocks: u32, count: usize, rate: u32) -> Self {
        let mut bench = Bench::new(pieces, blocks);
        let peers = (0..count).map(|_| (bench.join_seed(), (VecDeque::new(), 0))).collect();
        let part = Duration::from_millis(u64::from(PART * 1000 / rate));
        Self { bench, peers, part, verified: 0 }
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Request { peer, request } => {
                    self.peers.get_mut(&peer).unwrap().0.push_back(request);
                }
                Output::Cancel { peer, request } => {
                    let (queue, sent) = self.peers.get_mut(&peer).unwrap();
                    // A block that has started is sent to its end.
                    let started = *sent > 0 && queue.front() == Some(&request);
                    if !started && let Some(at) = queue.iter().rposition(|other| *other == request)
                    {
                        queue.remove(at);
                    }
                }
                Output::Commit { piece, .. } => {
                    self.bench.verify(piece.get());
                    self.verified += 1;
                    let outputs = self.bench.drain();
                    self.take(outputs);
                }
                _ => {}
            }
        }
    }

    /// Each peer sends a part.
    fn step(&mut self) {
        let outputs = self.bench.pass(self.part);
        self.take(outputs);
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            let (queue, sent) = self.peers.get_mut(&key).unwrap();
            let Some(request) = queue.front().copied() else { continue };
            let offset = std::mem::replace(sent, *sent + PART);
            let ends = *sent >= BLOCK;
            if ends {
                queue.pop_front();
                *sent = 0;
            }
            let swarm = &mut self.bench.swarm;
            let _: BlockFate = swarm.handle_part(self.bench.now, key, request, offset);
            swarm.handle_payload(self.bench.now, key, PART);
            if ends {
                swarm.handle_block(self.bench.now, key, request);
            }
            let outputs = self.bench.drain();
            self.take(outputs);
        }
    }
}

/// Returns how long the download takes, in units of what one peer needs for a block; 1000 at most.
fn rounds(pieces: u32, blocks: u32, peers: usize, rate: u32) -> u32 {
    let mut slow = Slow::new(pieces, blocks, peers, rate);
    let parts = BLOCK / PART;
    for step in 0..1000 * parts {
        if slow.verified == pieces {
            return step / parts;
        }
        slow.step();
    }
    1000
}

#[test]
fn slow_peers_finish_their_blocks() {
    for (peers, rate) in
        [2, 4, 8, 40].into_iter().flat_map(|n| [200, 512, 1024, 3000].map(|r| (n, r)))
    {
        for (pieces, blocks) in [(1, 1), (2, 2), (3, 16)] {
            let rounds = rounds(pieces, blocks, peers, rate);
            let best = (pieces * blocks).div_ceil(peers as u32);
            assert!(
                rounds <= 10 + 5 * best,
                "{peers} peers of {rate} B/s, {pieces} pieces of {blocks}: {rounds} rounds, not {best}"
            );
        }
    }
}
