//! Whatever happens, in whatever order: no request while choked, none twice outside the endgame,
//! none without memory, and all memory comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use swarm::{BlockRequest, Committed, DisconnectReason, Output, PeerKey, PieceIndex, SpanBudget};

use crate::bench::{Bench, config};

const PIECES: u32 = 12;
const BUDGET: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
enum Step {
    Join { fast: bool },
    Leave(usize),
    Has(usize, u32),
    HaveAll(usize),
    Have(usize, u32),
    Choke(usize),
    Unchoke(usize),
    Send(usize, usize),
    Reject(usize, usize),
    AllowedFast(usize, u32),
    Request(usize, u32),
    Interested(usize, bool),
    Settle { good: bool },
    Wanted(u32),
    Pass(u64),
    StopStart,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0usize..6;
    prop_oneof![
        1 => any::<bool>().prop_map(|fast| Step::Join { fast }),
        1 => peer.clone().prop_map(Step::Leave),
        1 => (peer.clone(), any::<u32>()).prop_map(|(peer, bits)| Step::Has(peer, bits)),
        1 => peer.clone().prop_map(Step::HaveAll),
        1 => (peer.clone(), 0..PIECES).prop_map(|(peer, piece)| Step::Have(peer, piece)),
        1 => peer.clone().prop_map(Step::Choke),
        4 => peer.clone().prop_map(Step::Unchoke),
        16 => (peer.clone(), 0usize..8).prop_map(|(peer, at)| Step::Send(peer, at)),
        1 => (peer.clone(), 0usize..8).prop_map(|(peer, at)| Step::Reject(peer, at)),
        1 => (peer.clone(), 0..PIECES).prop_map(|(peer, piece)| Step::AllowedFast(peer, piece)),
        1 => (peer.clone(), 0..PIECES).prop_map(|(peer, piece)| Step::Request(peer, piece)),
        1 => (peer, any::<bool>()).prop_map(|(peer, is)| Step::Interested(peer, is)),
        4 => prop::bool::weighted(0.8).prop_map(|good| Step::Settle { good }),
        1 => any::<u32>().prop_map(Step::Wanted),
        2 => (0u64..70_000).prop_map(Step::Pass),
        1 => Just(Step::StopStart),
    ]
}

/// A bench and what its outputs amount to.
struct Model {
    bench: Bench,
    keys: Vec<PeerKey>,
    choked: BTreeMap<PeerKey, bool>,
    fast: BTreeMap<PeerKey, bool>,
    allowed: BTreeSet<(PeerKey, PieceIndex)>,
    asked: BTreeMap<PeerKey, Vec<BlockRequest>>,
    /// The spans in memory.
    spans: BTreeSet<(PieceIndex, u32)>,
    committing: BTreeMap<PieceIndex, bool>,
}

impl Model {
    fn new(blocks: u32) -> Self {
        let mut bench = Bench::with(config(PIECES, blocks));
        bench.budget = SpanBudget::new(BUDGET);
        Self {
            bench,
            keys: Vec::new(),
            choked: BTreeMap::new(),
            fast: BTreeMap::new(),
            allowed: BTreeSet::new(),
            asked: BTreeMap::new(),
            spans: BTreeSet::new(),
            committing: BTreeMap::new(),
        }
    }

    fn key(&self, peer: usize) -> Option<PeerKey> {
        self.keys.get(peer % self.keys.len().max(1)).copied()
    }

    fn outstanding(&self, peer: usize, at: usize) -> Option<(PeerKey, BlockRequest)> {
        let key = self.key(peer)?;
        let asked = &self.asked[&key];
        asked.get(at % asked.len().max(1)).map(|request| (key, *request))
    }

    fn forget(&mut self, key: PeerKey) {
        self.keys.retain(|other| *other != key);
        self.asked.remove(&key);
    }

    fn apply(&mut self, step: Step) {
        let now = self.bench.now;
        match step {
            Step::Join { fast } if self.keys.len() < 6 && !self.bench.swarm.is_stopped() => {
                let key = self.bench.join_as(fast);
                self.keys.push(key);
                self.choked.insert(key, true);
                self.fast.insert(key, fast);
                self.asked.insert(key, Vec::new());
            }
            Step::Settle { good } => self.settle(good),
            Step::Wanted(bits) => {
                let mut wanted = swarm::Bitfield::new(PIECES);
                for piece in self.bench.geometry.pieces().filter(|p| bits >> p.get() & 1 == 1) {
                    wanted.insert(piece);
                }
                self.bench.swarm.set_wanted(now, wanted);
            }
            Step::Pass(millis) => {
                let end = now + Duration::from_millis(millis);
                while let Some(at) = self.bench.swarm.poll_timeout().filter(|at| *at <= end) {
                    self.bench.now = at.max(self.bench.now);
                    self.bench.swarm.handle_timeout(self.bench.now);
                    self.drain();
                }
                self.bench.now = end;
            }
            Step::StopStart if self.bench.swarm.is_stopped() => self.bench.swarm.start(now),
            Step::StopStart => self.bench.swarm.stop(now),
            other => self.apply_to_peer(other),
        }
        self.drain();
    }

    fn apply_to_peer(&mut self, step: Step) {
        let now = self.bench.now;
        let geometry = self.bench.geometry;
        let piece = |index| geometry.piece(index).unwrap();
        let (Step::Leave(peer)
        | Step::Has(peer, _)
        | Step::HaveAll(peer)
        | Step::Have(peer, _)
        | Step::Choke(peer)
        | Step::Unchoke(peer)
        | Step::AllowedFast(peer, _)
        | Step::Request(peer, _)
        | Step::Interested(peer, _)) = step
        else {
            return self.answer(step);
        };
        let Some(key) = self.key(peer) else { return };
        let swarm = &mut self.bench.swarm;
        match step {
            Step::Leave(_) => {
                swarm.handle_disconnected(now, key, DisconnectReason::Closed);
                self.forget(key);
            }
            Step::Has(_, bits) => {
                let theirs: Vec<u32> = (0..PIECES).filter(|p| bits >> p & 1 == 1).collect();
                self.bench.has(key, &theirs);
            }
            Step::HaveAll(_) => swarm.handle_have_all(now, key),
            Step::Have(_, index) => swarm.handle_have(now, key, piece(index)),
            Step::Choke(_) => {
                swarm.handle_choke(now, key);
                self.choked.insert(key, true);
                if !self.fast[&key] {
                    self.asked.insert(key, Vec::new());
                }
            }
            Step::Unchoke(_) => {
                swarm.handle_unchoke(now, key);
                self.choked.insert(key, false);
            }
            Step::AllowedFast(_, index) => {
                swarm.handle_allowed_fast(now, key, piece(index));
                self.allowed.insert((key, piece(index)));
            }
            Step::Request(_, index) => {
                let block = self.bench.block(index, 0);
                self.bench.swarm.handle_request(now, key, block);
            }
            Step::Interested(_, true) => swarm.handle_interested(now, key),
            _ => swarm.handle_not_interested(now, key),
        }
    }

    /// A peer sends a block that it was asked for, or says that it will not.
    fn answer(&mut self, step: Step) {
        let (Step::Send(peer, at) | Step::Reject(peer, at)) = step else { return };
        let Some((key, request)) = self.outstanding(peer, at) else { return };
        if matches!(step, Step::Reject(..)) {
            self.bench.swarm.handle_reject(self.bench.now, key, request);
        } else if self.bench.send(key, request) {
            let span = self.bench.swarm.spans().span_of(request.offset());
            assert!(self.spans.contains(&(request.piece(), span)), "no memory for it");
        }
        self.asked.get_mut(&key).unwrap().retain(|other| *other != request);
    }

    /// The disk is done with a piece.
    fn settle(&mut self, good: bool) {
        let Some((piece, digests)) = self.committing.pop_first() else { return };
        self.release(piece, |_| true);
        let all = self.bench.digests(piece.get(), if good { &[] } else { &[0] });
        let committed = if good {
            Committed::Verified { digests: digests.then_some(all) }
        } else {
            Committed::Mismatch { digests: all }
        };
        self.bench.swarm.handle_committed(self.bench.now, piece, committed);
    }

    fn release(&mut self, piece: PieceIndex, which: impl Fn(u32) -> bool) {
        let before = self.spans.len();
        self.spans.retain(|(other, span)| *other != piece || !which(*span));
        let released = before - self.spans.len();
        self.bench.budget.release(released * self.bench.swarm.spans().span_length() as usize);
    }

    fn drain(&mut self) {
        loop {
            let Bench { swarm, budget, now, .. } = &mut self.bench;
            let Some(output) = swarm.poll_output(*now, budget) else { break };
            self.check(output);
        }
        let reserved = self.spans.len() * self.bench.swarm.spans().span_length() as usize;
        assert_eq!(self.bench.budget.available() + reserved, BUDGET, "memory is accounted for");
        for key in &self.keys {
            let view = self.bench.swarm.peer(*key).unwrap();
            assert_eq!(view.outstanding, self.asked[key].len());
        }
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::OpenSpans { piece, spans } => {
                assert!(!self.bench.swarm.have().contains(piece));
                for span in spans {
                    assert!(self.spans.insert((piece, span)), "reserved twice");
                }
            }
            Output::StageSpan { piece, span } => {
                assert!(self.spans.contains(&(piece, span)));
                self.release(piece, |other| other == span);
            }
            Output::ClosePiece { piece } => self.release(piece, |_| true),
            Output::Commit { piece, digests } => {
                assert!(self.committing.insert(piece, digests).is_none());
            }
            Output::Request { peer, request } => self.check_request(peer, request),
            Output::Cancel { peer, request } => {
                let asked = self.asked.get_mut(&peer).unwrap();
                let place = asked.iter().position(|other| *other == request);
                asked.remove(place.expect("only what was asked for is cancelled"));
            }
            Output::Disconnect { peer, .. } => self.forget(peer),
            Output::Have { piece, .. } => assert!(self.bench.swarm.have().contains(piece)),
            _ => {}
        }
    }

    fn check_request(&mut self, peer: PeerKey, request: BlockRequest) {
        let piece = request.piece();
        let allowed = self.allowed.contains(&(peer, piece));
        assert!(!self.choked[&peer] || allowed, "asked while choked");
        let span = self.bench.swarm.spans().span_of(request.offset());
        assert!(self.spans.contains(&(piece, span)), "asked without memory");
        assert!(!self.committing.contains_key(&piece) && !self.bench.swarm.have().contains(piece));
        assert!(!self.asked[&peer].contains(&request), "asked the same peer twice");
        // Twice of different peers only if nothing else is left to open, or the other is snubbed.
        let others = self.asked.iter().filter(|(key, asked)| {
            **key != peer && asked.contains(&request) && !self.is_snubbed(**key)
        });
        if others.count() > 0 {
            assert!(self.endgame(), "asked twice before the endgame");
        }
        self.asked.get_mut(&peer).unwrap().push(request);
    }

    fn is_snubbed(&self, key: PeerKey) -> bool {
        self.bench.swarm.peer(key).is_some_and(|peer| peer.snubbed)
    }

    /// Whether every missing piece that somebody has is open.
    fn endgame(&self) -> bool {
        let swarm = &self.bench.swarm;
        let missing = self.bench.geometry.pieces().filter(|piece| {
            swarm.wanted().contains(*piece)
                && !swarm.have().contains(*piece)
                && swarm.availability(*piece) > 0
        });
        missing.count() <= swarm.pieces_open()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold(
        blocks in prop_oneof![Just(1u32), Just(3), Just(20), Just(144)],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut model = Model::new(blocks);
        steps.into_iter().for_each(|step| model.apply(step));
    }
}
