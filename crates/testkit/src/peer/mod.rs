//! Peers that follow a script, over blocking sockets.
//!
//! An honest one serves what it has and, if told to leech, fetches what it lacks and checks it.
//! The others break one rule each, so that a test can see what a client does about it.

mod talk;
pub(crate) mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bt_types::{Bitfield, Geometry, InfoHashV1, PeerId, Sha1Digest};
use sha1::{Digest as _, Sha1};

use crate::Payload;
use crate::server::{Connections, TcpServer};

/// How a scripted peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Keeps every rule.
    #[default]
    Honest,
    /// Flips one bit in each `every`-th block it sends (1: in all of them).
    Corrupt {
        /// Every how many blocks; 0 is taken as 1.
        every: u64,
    },
    /// Answers the handshake with another torrent's info-hash.
    WrongInfoHash,
    /// Sends bytes that are no handshake.
    Garbage,
    /// Takes the connection and never says a word.
    Silent,
    /// Never unchokes.
    Chokes,
    /// Unchokes, takes requests, never sends a block.
    Stalls,
    /// Hangs up after that many blocks, on each connection.
    DisconnectAfter {
        /// How many blocks it sends first.
        blocks: u64,
    },
}

/// What a scripted peer is, has and does.
#[derive(Debug, Clone)]
pub struct Script {
    info_hash: InfoHashV1,
    geometry: Geometry,
    data: Arc<[u8]>,
    hashes: Arc<[Sha1Digest]>,
    have: Bitfield,
    leech: bool,
    peer_id: PeerId,
    behaviour: Behaviour,
    fast: bool,
    extended: Option<Vec<u8>>,
    delay: Duration,
    held: bool,
    tells_by_bitfield: bool,
}

impl Script {
    /// An honest peer that has all of `payload` (BEP 3 only, until told otherwise).
    pub fn seeder(payload: &Payload) -> Self {
        Self::serving(payload.info_hash(), payload.geometry(), payload.data())
    }

    /// An honest peer that has `data`, whatever the torrent calls its files.
    pub fn serving(info_hash: InfoHashV1, geometry: Geometry, data: Arc<[u8]>) -> Self {
        let piece_length = geometry.piece_length() as usize;
        let hashes = data.chunks(piece_length).map(|piece| Sha1Digest(Sha1::digest(piece).into()));
        Self {
            info_hash,
            geometry,
            hashes: hashes.collect(),
            data,
            have: Bitfield::full(geometry.piece_count()),
            leech: false,
            peer_id: fresh_peer_id(),
            behaviour: Behaviour::Honest,
            fast: false,
            extended: None,
            delay: Duration::ZERO,
            held: false,
            tells_by_bitfield: false,
        }
    }

    /// An honest peer that has nothing and fetches everything.
    pub fn leecher(payload: &Payload) -> Self {
        Self { leech: true, ..Self::seeder(payload) }.pieces([])
    }

    /// Has only these pieces. Numbers the torrent has not are left out.
    pub fn pieces(mut self, pieces: impl IntoIterator<Item = u32>) -> Self {
        self.have = Bitfield::new(self.geometry.piece_count());
        for piece in pieces.into_iter().filter_map(|piece| self.geometry.piece(piece)) {
            self.have.insert(piece);
        }
        self
    }

    /// Fetches what it lacks.
    pub fn leech(mut self) -> Self {
        self.leech = true;
        self
    }

    /// Behaves like this.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Goes by this peer id. Unless set, no two scripts have the same.
    pub fn peer_id(mut self, peer_id: PeerId) -> Self {
        self.peer_id = peer_id;
        self
    }

    /// Speaks the Fast extension (BEP 6).
    pub fn fast(mut self) -> Self {
        self.fast = true;
        self
    }

    /// Speaks the extension protocol (BEP 10), with `client` as its name (`v`).
    pub fn client(self, client: &str) -> Self {
        self.extended(format!("d1:mde1:v{}:{client}e", client.len()))
    }

    /// Speaks the extension protocol (BEP 10), with these bytes as its handshake.
    pub fn extended(mut self, handshake: impl Into<Vec<u8>>) -> Self {
        self.extended = Some(handshake.into());
        self
    }

    /// Waits that long before each block it sends: a slow peer.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends no block before [`ScriptedPeer::release`].
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Tells of each new piece by a whole bitfield, as aria2 does when several are new.
    pub fn tells_by_bitfield(mut self) -> Self {
        self.tells_by_bitfield = true;
        self
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port left: nothing a test could go on with.
    pub fn listen(self) -> ScriptedPeer {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.listen_on(address).expect("a free port on 127.0.0.1")
    }

    /// Listens at `address`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn listen_on(self, address: SocketAddr) -> io::Result<ScriptedPeer> {
        let shared = Arc::new(Shared::new(self));
        let own = shared.clone();
        let serve = move |stream| talk::incoming(&own, stream);
        let server = TcpServer::start("scripted-peer", address, serve)?;
        Ok(ScriptedPeer { shared, server: Some(server), connections: Connections::default() })
    }

    /// Connects to `address` and talks there in the background.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connect(self, address: SocketAddr) -> io::Result<ScriptedPeer> {
        let peer = ScriptedPeer {
            shared: Arc::new(Shared::new(self)),
            server: None,
            connections: Connections::default(),
        };
        peer.connect_to(address)?;
        Ok(peer)
    }
}

/// An id that no other script of this process has: clients drop a second peer of the same id.
pub(crate) fn fresh_peer_id() -> PeerId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut tail = *b"scripted....";
    tail[8..].copy_from_slice(&number);
    PeerId::new(*b"-TK0100-", tail)
}

/// What a scripted peer saw so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections taken or made.
    pub connections: u64,
    /// Connections that have ended.
    pub ended: u64,
    /// The peer ids of those who shook hands, in order.
    pub peer_ids: Vec<PeerId>,
    /// Requests, as piece, offset, length.
    pub requests: Vec<(u32, u32, u32)>,
    /// Blocks cancelled by the other side.
    pub cancels: u64,
    /// Requests the other side rejected (BEP 6).
    pub rejects: u64,
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Payload bytes received in blocks that were asked for.
    pub bytes_received: u64,
    /// Pieces that the other side said it has, by number, with repetitions.
    pub haves: Vec<u32>,
    /// How often the other side unchoked us.
    pub unchokes: u64,
    /// Pieces received whole whose hash was wrong.
    pub bad_pieces: Vec<u32>,
    /// Whether every piece is here and verified.
    pub complete: bool,
}

/// A peer on real sockets. Hangs up, and joins its threads, when dropped.
#[derive(Debug)]
pub struct ScriptedPeer {
    shared: Arc<Shared>,
    server: Option<TcpServer>,
    connections: Connections,
}

impl ScriptedPeer {
    /// Where it listens.
    ///
    /// # Panics
    /// If it was made by [`Script::connect`] and does not listen.
    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("a peer that listens").address()
    }

    /// Makes one more connection, to `address`.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connect_to(&self, address: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect(address)?;
        let shared = self.shared.clone();
        self.connections.run(stream, move |stream| talk::outgoing(&shared, stream));
        Ok(())
    }

    /// Hangs up on everyone it connected to.
    pub fn disconnect(&self) {
        self.connections.disconnect();
    }

    /// Sends what it was asked for, from now on, if it was [held](Script::held).
    pub fn release(&self) {
        self.shared.lock().held = false;
        self.shared.changed.notify_all();
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// The data as far as it is here; zeros elsewhere.
    pub fn data(&self) -> Vec<u8> {
        self.shared.lock().data.clone()
    }

    /// Waits until `enough` holds for what it saw, at most `limit`; says whether it does.
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&Seen) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !enough(&state.seen) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
        true
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        self.connections.close();
        self.connections.join();
    }
}

/// What all connections of one peer share.
#[derive(Debug)]
struct Shared {
    script: Script,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    seen: Seen,
    have: Bitfield,
    data: Vec<u8>,
    held: bool,
    closing: bool,
}

impl Shared {
    fn new(script: Script) -> Self {
        let mut data = vec![0; script.data.len()];
        for piece in script.geometry.pieces().filter(|piece| script.have.contains(*piece)) {
            let start = script.geometry.offset_of(piece) as usize;
            let range = start..start + script.geometry.length_of(piece) as usize;
            data[range.clone()].copy_from_slice(&script.data[range]);
        }
        let have = script.have.clone();
        let seen = Seen { complete: have.is_full(), ..Seen::default() };
        let state = Mutex::new(State { seen, have, data, held: script.held, closing: false });
        Self { script, state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what was seen and wakes those who wait for it.
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.lock().seen);
        self.changed.notify_all();
    }

    /// Waits before a block until it may be sent and the script's delay is over, or until the peer
    /// is dropped.
    fn wait_to_send(&self) {
        let held = |state: &mut State| state.held && !state.closing;
        drop(self.changed.wait_while(self.lock(), held));
        if !self.script.delay.is_zero() {
            let going = |state: &mut State| !state.closing;
            drop(self.changed.wait_timeout_while(self.lock(), self.script.delay, going));
        }
    }
}
