//! No block is requested without memory reserved for it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use swarm::{Output, PeerKey, PieceIndex, SPAN_LENGTH, SpanBudget, SpanLayout};

use crate::bench::{BLOCK, Bench, Owed, geometry, pieces_of, requests, said, seconds};

const SPAN: usize = SPAN_LENGTH as usize;

#[test]
fn span_layout_of_various_pieces() {
    let small = SpanLayout::new(geometry(3, 2));
    let piece = geometry(3, 2).piece(0).unwrap();
    assert_eq!(
        (small.span_length(), small.span_count(piece), small.cost(piece)),
        (2 * BLOCK, 1, 2 * BLOCK as usize)
    );
    let large = swarm::Geometry::new((4 << 20) + 1, 4 << 20).unwrap();
    let layout = SpanLayout::new(large);
    let (first, last) = (large.piece(0).unwrap(), large.piece(1).unwrap());
    assert_eq!((layout.span_count(first), layout.span_count(last)), (16, 1));
    assert!(!layout.is_whole(first) && layout.is_whole(last));
    assert_eq!(layout.blocks(first, 1), 16..32);
    assert_eq!(layout.blocks(last, 0), 0..1);
    assert_eq!(layout.span_of(SPAN_LENGTH), 1);
}

#[test]
fn memory_is_reserved_before_a_request() {
    let mut bench = Bench::new(10, 32);
    bench.budget = SpanBudget::new(4 * SPAN);
    bench.join_seed();
    let outputs = bench.drain();
    let first = outputs.iter().position(|output| matches!(output, Output::Request { .. }));
    let open = outputs.iter().position(|output| matches!(output, Output::OpenSpans { .. }));
    assert!(open.unwrap() < first.unwrap());
    assert_eq!(bench.budget.available(), 2 * SPAN, "one piece of two spans is unfinished");
}

#[test]
fn scarce_memory_makes_peers_share_pieces() {
    let mut bench = Bench::new(10, 32);
    bench.budget = SpanBudget::new(2 * SPAN);
    let peers = [bench.join_seed(), bench.join_seed(), bench.join_seed()];
    let mut outputs = bench.drain();
    let mut opened = BTreeSet::new();
    // Each block of the one piece is requested once, then the peers starve.
    for _ in 0..20 {
        opened.extend(said!(outputs, Output::OpenSpans { piece, .. } => *piece));
        for (key, request) in requests(&outputs.split_off(0)) {
            if bench.pieces().missing() == 10 && request.block() < 31 {
                bench.send(key, request);
            }
        }
        outputs.extend(bench.drain());
        if outputs.is_empty() {
            break;
        }
    }
    assert_eq!(opened.len(), 1);
    assert!(bench.swarm.is_starved());
    assert!(peers.iter().all(|key| bench.swarm.peer(*key).is_some()));
}

#[test]
fn released_memory_is_used() {
    let mut bench = Bench::new(10, 16);
    bench.budget = SpanBudget::new(SPAN);
    let seed = bench.join_seed();
    bench.swarm.handle_reqq(bench.now, seed, 100);
    let mut asked = bench.requests_to(seed);
    while let Some(request) = asked.pop() {
        bench.send(seed, request);
        asked.extend(bench.requests_to(seed));
    }
    assert!(bench.swarm.is_starved());
    assert!(bench.requests().is_empty());
    let piece = bench.pieces().have().count();
    assert_eq!(piece, 0);
    bench.budget.release(SPAN);
    assert_eq!(pieces_of(&bench.requests_to(seed)).len(), 1);
}

#[test]
fn one_span_is_enough_to_download() {
    let mut bench = Bench::new(50, 16);
    bench.budget = SpanBudget::new(SPAN);
    (0..5).for_each(|_| _ = bench.join_seed());
    bench.download();
    assert!(bench.swarm.is_complete());
    assert_eq!(bench.budget.available(), SPAN);
}

#[test]
fn long_piece_is_staged_by_span() {
    // One piece of 8 MiB with memory for two spans.
    let mut bench = Bench::new(1, 512);
    bench.budget = SpanBudget::new(2 * SPAN);
    bench.join_seed();
    let mut staged = BTreeSet::new();
    let mut open = BTreeSet::new();
    let mut committed = false;
    while !committed {
        let outputs = bench.drain();
        assert!(!outputs.is_empty());
        for output in outputs {
            match output {
                Output::OpenSpans { spans, .. } => {
                    assert_eq!(spans.len(), 1);
                    open.insert(spans.start);
                    assert!(open.len() <= 2);
                }
                Output::Request { peer, request } => {
                    assert!(open.contains(&bench.layout().span_of(request.offset())));
                    assert!(bench.send(peer, request));
                }
                Output::StageSpan { piece, span } => {
                    assert_eq!(bench.swarm.blocks_in(piece, span).count(), 16);
                    assert!(staged.insert(span) && open.remove(&span));
                    bench.budget.release(SPAN);
                }
                Output::Commit { .. } => committed = true,
                _ => {}
            }
        }
    }
    assert_eq!(staged.len() + open.len(), 32);
}

#[test]
fn scarce_memory_stages_idle_spans() {
    let mut bench = Bench::new(4, 16);
    bench.budget = SpanBudget::new(SPAN);
    let slow = bench.join_unchoking(&[0]);
    let asked = bench.requests_to(slow);
    bench.send(slow, asked[0]);
    bench.drain();
    let other = bench.join_unchoking(&[1, 2, 3]);
    assert!(bench.requests_to(other).is_empty() && bench.swarm.is_starved());
    let outputs = bench.pass(seconds(32));
    let piece = bench.piece(0);
    let staged = outputs.iter().position(|o| *o == Output::StageSpan { piece, span: 0 });
    let cancel = outputs.iter().position(|output| matches!(output, Output::Cancel { .. }));
    assert!(cancel.unwrap() < staged.unwrap());
    assert_eq!(bench.swarm.blocks_in(piece, 0).collect::<Vec<_>>(), [asked[0].block()]);
    bench.budget.release(SPAN);
    let next = bench.requests();
    assert!(!next.is_empty());
    // The block that was staged is not requested again.
    assert!(!next.iter().any(|(_, request)| *request == asked[0]));
}

#[test]
fn partial_block_of_staged_span_restarts() {
    let mut bench = Bench::new(2, 16);
    bench.budget = SpanBudget::new(SPAN);
    let slow = bench.join_unchoking(&[0]);
    let late = bench.requests_to(slow)[0];
    let _ = bench.swarm.handle_part(bench.now, slow, late, 0);
    bench.join_unchoking(&[1]);
    bench.drain();
    bench.pass(seconds(32));
    // Its second half is discarded, so the block is not done.
    assert_eq!(bench.swarm.handle_part(bench.now, slow, late, 8192), swarm::BlockFate::Discard);
    bench.swarm.handle_block(bench.now, slow, late);
    assert_eq!(bench.swarm.blocks_in(late.piece(), 0).count(), 0);
}

/// Has each peer send so many blocks per second, for `seconds`. Returns what each owes then.
fn play(bench: &mut Bench, rates: &[(PeerKey, usize)], seconds: u32) -> Owed {
    let mut owed = Owed::new();
    for _ in 0..10 * seconds {
        let outputs = bench.pass(Duration::from_millis(100));
        bench.note(&mut owed, outputs);
        for (key, rate) in rates {
            for _ in 0..(*rate).div_ceil(10) {
                if let Some(request) = owed.get_mut(key).and_then(VecDeque::pop_front) {
                    bench.send(*key, request);
                }
                bench.note(&mut owed, Vec::new());
            }
        }
    }
    owed
}

#[test]
fn slow_peers_fill_pieces_together() {
    let mut bench = Bench::new(400, 64);
    bench.budget = SpanBudget::new(12 << 20);
    let fast: Vec<PeerKey> = (0..2).map(|_| bench.join_seed()).collect();
    let slow: Vec<PeerKey> = (0..20).map(|_| bench.join_seed()).collect();
    let rates = fast.iter().map(|key| (*key, 100)).chain(slow.iter().map(|key| (*key, 10)));
    let owed = play(&mut bench, &rates.collect::<Vec<_>>(), 20);
    let pieces = |keys: &[PeerKey]| -> BTreeSet<PieceIndex> {
        keys.iter().flat_map(|key| &owed[key]).map(|request| request.piece()).collect()
    };
    // Each of them alone would keep a piece for six seconds.
    let shared = pieces(&slow);
    assert!(shared.len() <= 6, "{} slow peers work on {shared:?}", slow.len());
    assert!(pieces(&fast).len() >= fast.len(), "each fast peer has pieces of its own");
    assert!(!bench.swarm.is_starved());
}

#[test]
fn plentiful_memory_gives_each_a_piece() {
    let mut bench = Bench::new(400, 64);
    bench.budget = SpanBudget::new(64 << 20);
    let peers: Vec<PeerKey> = (0..10).map(|_| bench.join_seed()).collect();
    let rates: Vec<(PeerKey, usize)> = peers.iter().map(|key| (*key, 20)).collect();
    let owed = play(&mut bench, &rates, 20);
    let pieces: BTreeSet<PieceIndex> = owed.values().flatten().map(|of| of.piece()).collect();
    assert!(pieces.len() >= peers.len(), "{pieces:?}");
}
