//! Slow peers that do send.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm::{BlockFate, BlockRequest, PeerKey};

use super::bench::{BLOCK, Bench, Owed};

const PART: u32 = 1024;

/// A block that a peer has sent a part of is sent to its end.
type Started = BTreeMap<PeerKey, (BlockRequest, u32)>;

/// Has a peer send the next part of what it owes.
fn send_part(bench: &mut Bench, owed: &mut Owed, started: &mut Started, key: PeerKey) {
    let next = |owed: &mut Owed| Some((owed.get_mut(&key)?.pop_front()?, 0));
    let Some((request, offset)) = started.remove(&key).or_else(|| next(owed)) else { return };
    let _: BlockFate = bench.swarm.handle_part(bench.now, key, request, offset);
    bench.swarm.handle_payload(bench.now, key, PART);
    if offset + PART == BLOCK {
        bench.swarm.handle_block(bench.now, key, request);
    } else {
        started.insert(key, (request, offset + PART));
    }
    bench.note(owed, Vec::new());
}

/// Returns how long the download takes, in units of what one peer needs for a block; 1000 at most.
fn rounds(pieces: u32, blocks: u32, peers: usize, rate: u32) -> u32 {
    let mut bench = Bench::new(pieces, blocks);
    let peers: Vec<PeerKey> = (0..peers).map(|_| bench.join_seed()).collect();
    let (mut owed, mut started) = (Owed::new(), Started::new());
    let parts = BLOCK / PART;
    for step in 0..1000 * parts {
        if bench.swarm.is_complete() {
            return step / parts;
        }
        let outputs = bench.pass(Duration::from_millis(u64::from(PART * 1000 / rate)));
        bench.note(&mut owed, outputs);
        peers.iter().for_each(|key| send_part(&mut bench, &mut owed, &mut started, *key));
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
