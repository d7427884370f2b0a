//! Peers that follow a script, over blocking sockets.
//!
//! An honest peer serves its pieces and, as a leecher, downloads and verifies the others. Each
//! other [`Behaviour`] has one fault, so that a test can see how a client reacts.

mod connection;
mod metadata;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bt_types::{Bitfield, Geometry, InfoHashV1, PeerId, Sha1Digest};

use crate::payload::{Payload, sha1};
use crate::server::{Connections, TcpServer};

use metadata::Served;

pub use metadata::MetadataBehaviour;

/// How a scripted peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Follows the protocol.
    #[default]
    Honest,
    /// Flips one bit in each `every`-th block that it sends. With 1, in all of them.
    Corrupt {
        /// The distance between corrupt blocks. 0 counts as 1.
        every: u64,
    },
    /// Answers the handshake with another torrent's info-hash.
    WrongInfoHash,
    /// Sends bytes that are not a handshake.
    Garbage,
    /// Accepts connections and sends nothing.
    Silent,
    /// Never unchokes.
    Chokes,
    /// Unchokes but never sends a block.
    Stalls,
    /// Closes each connection after a number of blocks.
    DisconnectAfter {
        /// How many blocks the peer sends on a connection before it closes it.
        blocks: u64,
    },
}

/// The script of a peer.
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
    metadata: Option<Served>,
    fetches_metadata: bool,
    delay: Duration,
    held: bool,
    announces_by_bitfield: bool,
}

impl Script {
    /// Makes an honest peer that has all of `payload`. It supports only BEP 3.
    pub fn seeder(payload: &Payload) -> Self {
        Self::serving(payload.info_hash(), payload.geometry(), payload.data())
    }

    /// Makes an honest peer that has `data`.
    pub fn serving(info_hash: InfoHashV1, geometry: Geometry, data: Arc<[u8]>) -> Self {
        let piece_length = geometry.piece_length() as usize;
        let hashes = data.chunks(piece_length).map(sha1);
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
            metadata: None,
            fetches_metadata: false,
            delay: Duration::ZERO,
            held: false,
            announces_by_bitfield: false,
        }
    }

    /// Makes an honest peer that has nothing and downloads everything.
    pub fn leecher(payload: &Payload) -> Self {
        Self { leech: true, ..Self::seeder(payload) }.pieces([])
    }

    /// Has only these pieces. Ignores indices that are not in the torrent.
    pub fn pieces(mut self, pieces: impl IntoIterator<Item = u32>) -> Self {
        self.have = Bitfield::new(self.geometry.piece_count());
        for piece in pieces.into_iter().filter_map(|piece| self.geometry.piece(piece)) {
            self.have.insert(piece);
        }
        self
    }

    /// Downloads the missing pieces.
    pub fn leech(mut self) -> Self {
        self.leech = true;
        self
    }

    /// Sets the behaviour.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Sets the peer id. By default each script has its own.
    pub fn peer_id(mut self, peer_id: PeerId) -> Self {
        self.peer_id = peer_id;
        self
    }

    /// Supports the fast extension (BEP 6).
    pub fn fast(mut self) -> Self {
        self.fast = true;
        self
    }

    /// Supports the extension protocol (BEP 10), with `client` as its name (`v`).
    pub fn client(self, client: &str) -> Self {
        self.extended(format!("d1:mde1:v{}:{client}e", client.len()))
    }

    /// Supports the extension protocol (BEP 10), with these bytes as its handshake.
    pub fn extended(mut self, handshake: impl Into<Vec<u8>>) -> Self {
        self.extended = Some(handshake.into());
        self
    }

    /// Serves the metadata of `payload` (BEP 9). The extension handshake says so, unless
    /// [`Self::extended`] sets another.
    pub fn metadata(self, payload: &Payload, behaviour: MetadataBehaviour) -> Self {
        self.info(payload.info(), behaviour)
    }

    /// As [`Self::metadata`], with these bytes as the metadata.
    pub fn info(mut self, info: impl Into<Arc<[u8]>>, behaviour: MetadataBehaviour) -> Self {
        self.metadata = Some(Served { info: info.into(), behaviour });
        self
    }

    /// Requests all of the metadata, if the other side serves it (BEP 9). The result is
    /// [`ScriptedPeer::metadata`].
    pub fn fetches_metadata(mut self) -> Self {
        self.fetches_metadata = true;
        self
    }

    /// Waits for `delay` before each block that it sends.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends no block before [`ScriptedPeer::release`].
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Announces each new piece with a whole bitfield, as aria2 does for several pieces.
    pub fn announces_by_bitfield(mut self) -> Self {
        self.announces_by_bitfield = true;
        self
    }

    /// Returns the extension handshake, or `None` without the extension protocol.
    fn extension_handshake(&self) -> Option<Vec<u8>> {
        let knows_metadata = self.metadata.is_some() || self.fetches_metadata;
        let handshake = || knows_metadata.then(|| metadata::handshake(self.metadata.as_ref()));
        self.extended.clone().or_else(handshake)
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// There is no free port.
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
        let serve = move |stream| connection::incoming(&own, stream);
        let server = TcpServer::start("scripted-peer", address, serve)?;
        Ok(ScriptedPeer { shared, server: Some(server), connections: Connections::default() })
    }

    /// Connects to `address` and follows the script in the background.
    ///
    /// # Errors
    /// The connection fails.
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

/// Returns an id that no other script of this process has. Clients drop a second peer with the same
/// id.
pub(crate) fn fresh_peer_id() -> PeerId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut tail = *b"scripted....";
    tail[8..].copy_from_slice(&number);
    PeerId::new(*b"-TK0100-", tail)
}

/// What a scripted peer has seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Incoming and outgoing connections.
    pub connections: u64,
    /// Connections that have ended.
    pub ended: u64,
    /// The peer ids in the handshakes, in order.
    pub peer_ids: Vec<PeerId>,
    /// Requests, as piece, offset, length.
    pub requests: Vec<(u32, u32, u32)>,
    /// Blocks cancelled by the other side.
    pub cancels: u64,
    /// Requests that the other side rejected (BEP 6).
    pub rejects: u64,
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Payload bytes received in requested blocks.
    pub bytes_received: u64,
    /// The piece indices in the have messages of the other side, with repetitions.
    pub haves: Vec<u32>,
    /// How often the other side unchoked us.
    pub unchokes: u64,
    /// The pieces of the metadata that the other side requested, with repetitions (BEP 9).
    pub metadata_requests: Vec<u32>,
    /// How many pieces of the metadata were sent.
    pub metadata_sent: u64,
    /// Bytes of the metadata that were received.
    pub metadata_received: u64,
    /// How many requests for metadata the other side rejected.
    pub metadata_rejects: u64,
    /// Complete pieces with a wrong hash.
    pub bad_pieces: Vec<u32>,
    /// Whether every piece is verified.
    pub complete: bool,
}

/// A peer on real sockets. Dropping it closes its connections and joins its threads.
#[derive(Debug)]
pub struct ScriptedPeer {
    shared: Arc<Shared>,
    server: Option<TcpServer>,
    connections: Connections,
}

impl ScriptedPeer {
    /// The address that the peer listens at.
    ///
    /// # Panics
    /// [`Script::connect`] made this peer, which does not listen.
    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("a peer that listens").address()
    }

    /// Makes another connection, to `address`.
    ///
    /// # Errors
    /// The connection fails.
    pub fn connect_to(&self, address: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect(address)?;
        let shared = self.shared.clone();
        self.connections.run(stream, move |stream| connection::outgoing(&shared, stream));
        Ok(())
    }

    /// Closes its outgoing connections.
    pub fn disconnect(&self) {
        self.connections.disconnect();
    }

    /// Sends blocks from now on, if it was [held](Script::held).
    pub fn release(&self) {
        self.shared.lock().held = false;
        self.shared.changed.notify_all();
    }

    /// Returns what the peer has seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// Returns the data, with zeros for missing blocks.
    pub fn data(&self) -> Vec<u8> {
        self.shared.lock().data.clone()
    }

    /// Returns what came of the metadata, if it is [fetched](Script::fetches_metadata).
    pub fn metadata(&self) -> Vec<u8> {
        self.shared.lock().metadata.values().flatten().copied().collect()
    }

    /// Waits up to `limit` until `enough` returns true for what the peer has seen. Returns whether
    /// it did.
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&Seen) -> bool) -> bool {
        let missing = |state: &mut State| !enough(&state.seen);
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, missing);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
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

/// The state that all connections of one peer share.
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
    /// The pieces of the metadata that came.
    metadata: BTreeMap<u32, Vec<u8>>,
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
        let state = State {
            seen,
            have,
            data,
            metadata: BTreeMap::new(),
            held: script.held,
            closing: false,
        };
        Self { script, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what was seen and wakes waiting threads.
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.lock().seen);
        self.changed.notify_all();
    }

    /// Waits until a block may be sent: the peer is released and the delay is over, or the peer is
    /// dropped.
    fn wait_to_send(&self) {
        let held = |state: &mut State| state.held && !state.closing;
        drop(self.changed.wait_while(self.lock(), held));
        if !self.script.delay.is_zero() {
            self.wait(self.script.delay);
        }
    }

    /// Waits for `pause`, or until the peer is dropped.
    fn wait(&self, pause: Duration) {
        let going = |state: &mut State| !state.closing;
        drop(self.changed.wait_timeout_while(self.lock(), pause, going));
    }
}
