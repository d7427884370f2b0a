//! One swarm whose peers are played by the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use swarm::{
    BeginTransferError, Bitfield, BlockFate, BlockRequest, Committed, ConnectedPeer, Geometry,
    Output, PeerId, PeerKey, PieceIndex, Pieces, Sha1Digest, SpanBudget, SpanLayout, Swarm,
    SwarmConfig,
};

pub(crate) const BLOCK: u32 = 16 * 1024;

/// The requests that each peer has not answered, in order.
pub(crate) type Owed = BTreeMap<PeerKey, VecDeque<BlockRequest>>;

/// Returns what the outputs that match a pattern say.
macro_rules! said {
    ($outputs:expr, $pattern:pat => $said:expr) => {
        $outputs.iter().filter_map(|output| if let $pattern = output { Some($said) } else { None })
    };
}
pub(crate) use said;

/// One swarm, its clock and its memory.
pub(crate) struct Bench {
    pub(crate) swarm: Swarm,
    pub(crate) budget: SpanBudget,
    pub(crate) now: Duration,
    pub(crate) geometry: Geometry,
    next_key: u64,
}

/// A swarm's configuration, and the transfer that starts at once.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) config: SwarmConfig,
    pub(crate) geometry: Geometry,
    pub(crate) have: Bitfield,
    pub(crate) wanted: Bitfield,
    pub(crate) unfinished: Vec<(PieceIndex, Vec<u32>)>,
}

impl Setup {
    pub(crate) fn config(mut self, change: impl FnOnce(&mut SwarmConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn piece(&self, index: u32) -> PieceIndex {
        self.geometry.piece(index).unwrap()
    }
}

/// `pieces` pieces of `blocks` blocks each.
pub(crate) fn geometry(pieces: u32, blocks: u32) -> Geometry {
    let piece_length = u64::from(blocks * BLOCK);
    Geometry::new(piece_length * u64::from(pieces), piece_length).unwrap()
}

/// Returns a set of these of so many pieces.
pub(crate) fn bits(geometry: Geometry, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
    let mut bits = Bitfield::new(geometry.piece_count());
    for piece in pieces {
        bits.insert(geometry.piece(piece).unwrap());
    }
    bits
}

/// A leecher of `pieces` pieces of `blocks` blocks each.
pub(crate) fn setup(pieces: u32, blocks: u32) -> Setup {
    Setup {
        config: SwarmConfig::new(PeerId([b'A'; 20])),
        geometry: geometry(pieces, blocks),
        have: Bitfield::new(pieces),
        wanted: Bitfield::full(pieces),
        unfinished: Vec::new(),
    }
}

pub(crate) fn address(number: u64) -> SocketAddr {
    let [.., a, b] = number.to_be_bytes();
    format!("10.0.{a}.{b}:6881").parse().unwrap()
}

pub(crate) fn peer_id(number: u64) -> PeerId {
    let mut id = [b'x'; 20];
    id[12..].copy_from_slice(&number.to_be_bytes());
    PeerId(id)
}

impl Bench {
    /// A leecher of `pieces` pieces of `blocks` blocks, with ample memory.
    pub(crate) fn new(pieces: u32, blocks: u32) -> Self {
        Self::with(&setup(pieces, blocks))
    }

    pub(crate) fn with(setup: &Setup) -> Self {
        let mut bench = Self::without_transfer(setup);
        bench.begin_transfer(setup).unwrap();
        bench
    }

    /// A swarm that does not know its geometry yet.
    pub(crate) fn without_transfer(setup: &Setup) -> Self {
        let (now, geometry) = (Duration::ZERO, setup.geometry);
        let swarm = Swarm::new(now, &setup.config);
        Self { swarm, budget: SpanBudget::new(1 << 30), now, geometry, next_key: 1 }
    }

    pub(crate) fn begin_transfer(&mut self, setup: &Setup) -> Result<(), BeginTransferError> {
        let Setup { geometry, have, wanted, unfinished, .. } = setup;
        let (have, wanted) = (have.clone(), wanted.clone());
        self.swarm.begin_transfer(self.now, *geometry, have, wanted, unfinished)
    }

    /// Returns the pieces that it has and wants.
    pub(crate) fn pieces(&self) -> &Pieces {
        self.swarm.pieces().unwrap()
    }

    /// Whether it has `piece`; `false` before the transfer.
    pub(crate) fn has_piece(&self, piece: PieceIndex) -> bool {
        self.swarm.pieces().is_some_and(|pieces| pieces.have().contains(piece))
    }

    pub(crate) fn layout(&self) -> SpanLayout {
        SpanLayout::new(self.geometry)
    }

    pub(crate) fn piece(&self, index: u32) -> PieceIndex {
        self.geometry.piece(index).unwrap()
    }

    pub(crate) fn block(&self, piece: u32, block: u32) -> BlockRequest {
        self.geometry.block(self.piece(piece), block).unwrap()
    }

    /// Connects an incoming peer with the Fast extension.
    pub(crate) fn join(&mut self) -> PeerKey {
        self.join_as(true)
    }

    pub(crate) fn join_as(&mut self, fast: bool) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let (address, peer_id) = (address(key.0), peer_id(key.0));
        let peer = ConnectedPeer { address, outgoing: false, fast, peer_id };
        self.swarm.handle_connected(self.now, key, peer).unwrap();
        key
    }

    /// Connects a peer that has these pieces and chokes us.
    pub(crate) fn join_with(&mut self, pieces: &[u32]) -> PeerKey {
        let key = self.join();
        self.has(key, pieces);
        key
    }

    /// Connects a peer that has these pieces and unchokes us.
    pub(crate) fn join_unchoking(&mut self, pieces: &[u32]) -> PeerKey {
        let key = self.join_with(pieces);
        self.swarm.handle_unchoke(self.now, key);
        key
    }

    /// Connects a peer that has everything and unchokes us.
    pub(crate) fn join_seed(&mut self) -> PeerKey {
        let key = self.join();
        self.swarm.handle_have_all(self.now, key);
        self.swarm.handle_unchoke(self.now, key);
        key
    }

    /// Sends the peer's bitfield.
    pub(crate) fn has(&mut self, key: PeerKey, pieces: &[u32]) {
        let bits = bits(self.geometry, pieces.iter().copied());
        self.swarm.handle_bitfield(self.now, key, 0, &bits.as_bytes(), true);
    }

    /// Returns all outputs that are due.
    pub(crate) fn drain(&mut self) -> Vec<Output> {
        let Self { swarm, budget, now, .. } = self;
        std::iter::from_fn(|| swarm.poll_output(*now, budget)).collect()
    }

    /// Drains, keeping the requests.
    pub(crate) fn requests(&mut self) -> Vec<(PeerKey, BlockRequest)> {
        requests(&self.drain())
    }

    /// Drains, keeping the requests to `key`.
    pub(crate) fn requests_to(&mut self, key: PeerKey) -> Vec<BlockRequest> {
        self.requests().into_iter().filter(|(to, _)| *to == key).map(|(_, block)| block).collect()
    }

    /// The peer sends a whole block; says whether it was kept.
    pub(crate) fn send(&mut self, key: PeerKey, block: BlockRequest) -> bool {
        let fate = self.swarm.handle_part(self.now, key, block, 0);
        self.swarm.handle_payload(self.now, key, block.length());
        self.swarm.handle_block(self.now, key, block);
        fate == BlockFate::Keep
    }

    /// Notes what the peers owe after `outputs` and those that are due; each piece verifies.
    pub(crate) fn note(&mut self, owed: &mut Owed, outputs: Vec<Output>) {
        let mut outputs = outputs.into_iter();
        while let Some(output) =
            outputs.next().or_else(|| self.swarm.poll_output(self.now, &mut self.budget))
        {
            match output {
                Output::Request { peer, request } => {
                    owed.entry(peer).or_default().push_back(request);
                }
                Output::Cancel { peer, request } => {
                    owed.entry(peer).or_default().retain(|other| *other != request);
                }
                Output::Commit { piece, .. } => self.verify(piece.get()),
                _ => {}
            }
        }
    }

    /// Lets time pass, timer by timer. Returns the outputs of that time.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = self.drain();
        while let Some(at) = self.swarm.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.swarm.handle_timeout(self.now);
            outputs.extend(self.drain());
        }
        self.now = end;
        outputs
    }

    /// The piece is verified; its memory is released.
    pub(crate) fn verify(&mut self, piece: u32) {
        let piece = self.piece(piece);
        self.budget.release(self.layout().cost(piece));
        self.swarm.handle_committed(self.now, piece, Committed::Verified { digests: None });
    }

    /// Returns the digests of a piece whose blocks in `bad` are bad.
    pub(crate) fn digests(&self, piece: u32, bad: &[u32]) -> Vec<Sha1Digest> {
        let count = self.geometry.block_count(self.piece(piece));
        let digest = |block: u32| {
            let mut digest = [u8::from(bad.contains(&block)); 20];
            digest[12..16].copy_from_slice(&piece.to_be_bytes());
            digest[16..].copy_from_slice(&block.to_be_bytes());
            Sha1Digest(digest)
        };
        (0..count).map(digest).collect()
    }

    /// Has the peers answer every request until there are no more; each piece verifies. Returns
    /// the pieces in the order in which they were started.
    pub(crate) fn download(&mut self) -> Vec<u32> {
        let mut opened = Vec::new();
        loop {
            let outputs = self.drain();
            if outputs.is_empty() {
                return opened;
            }
            for output in outputs {
                match output {
                    Output::OpenSpans { piece, .. } => opened.push(piece.get()),
                    Output::Request { peer, request } => _ = self.send(peer, request),
                    Output::Commit { piece, .. } => self.verify(piece.get()),
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn requests(outputs: &[Output]) -> Vec<(PeerKey, BlockRequest)> {
    said!(outputs, Output::Request { peer, request } => (*peer, *request)).collect()
}

/// The pieces in which something is requested.
pub(crate) fn pieces_of(requests: &[BlockRequest]) -> BTreeSet<u32> {
    requests.iter().map(|request| request.piece().get()).collect()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
