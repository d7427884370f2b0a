//! Every capacity, pool size and constant of the session, in one table. `crates/README.md` repeats
//! it for readers.

use std::time::Duration;

/// File descriptors that a session uses, unless the configuration says otherwise: the usual limit
/// of a process.
pub const DEFAULT_MAX_DESCRIPTORS: usize = 1024;
/// The least `max_descriptors` a session works with.
pub const MIN_DESCRIPTORS: usize = 64;
/// Descriptors that are neither links nor files nor of a thread: standard input and outputs, two
/// for signals, the poll and its waker, two listeners, two UDP sockets and two for the local
/// network, the pipe that payload is sent through, and three that the process may have inherited.
pub const FIXED_DESCRIPTORS: usize = 18;
/// Descriptors of one thread that asks trackers or looks names up.
pub const HELPER_DESCRIPTORS: usize = 2;

/// Connections without a complete handshake, in and out together, at a time.
pub const MAX_HALF_OPEN: usize = 64;
/// Of those, the ones that one side began: three of four. So silent incoming connections leave room
/// for outgoing ones, and addresses that do not answer leave room for incoming ones.
pub(crate) fn half_open_each(half_open: usize) -> usize {
    half_open - half_open / 4
}
/// How long an outgoing connection may take to be established.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long no connection is made after the system ran out of sockets.
pub const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// Peers named by the user that a torrent keeps, to try them again after a stop.
pub const MAX_USER_PEERS: usize = 2000;
/// Connections in all, unless the configuration says otherwise.
pub const DEFAULT_MAX_CONNECTIONS: usize = 500;
/// Connections of one torrent, unless the configuration says otherwise.
pub const DEFAULT_MAX_PEERS_PER_TORRENT: usize = 200;
/// Peers of one torrent that are unchoked at a time, the optimistic one among them.
pub const DEFAULT_UPLOAD_SLOTS: usize = 8;

/// Memory for all buffers together, unless the configuration says otherwise.
pub const DEFAULT_MAX_MEMORY: usize = 40 << 20;
/// The least `max_memory` a session works with.
pub const MIN_MEMORY: usize = 16 << 20;
/// How many of the torrents that wait for memory are polled each time some is released.
pub const MAX_FED: usize = 64;
/// The one buffer that every connection is read into.
pub const RECEIVE_BUFFER: usize = 256 << 10;
/// Datagrams that are received, and sent, with one call of the system.
pub const DATAGRAM_BATCH: usize = 16;
/// The longest datagram that is received.
pub const MAX_DATAGRAM: usize = 64 << 10;
/// Payload that may wait in one peer's send queue, in bytes on disk (it takes no memory here).
pub const SEND_WINDOW: u64 = 1 << 20;
/// Payload is read for peers in ranges of that many bytes: one job for many blocks.
pub const READ_RANGE_LENGTH: u32 = 256 << 10;
/// Files that one range is in at most. Where there are more, which any peer may ask for, a range is
/// no wider than the request, and the request is read in several ranges.
pub const MAX_READ_RANGE_FILES: usize = 16;
/// The part of the store's open files that reads under way may open, and that ranges read before
/// may hold open: one in so many for each. A read that would open more waits; many ranges of a long
/// file are only one file, so the device has enough to do. The third part waits for a sync.
pub const SERVED_FILES_SHARE: usize = 3;
/// Ranges that are remembered, counted by the extents they have.
pub const MAX_RESIDENT: usize = 4096;
/// Bytes that all peers' buffers of small messages and queues of requests may hold together. Above
/// that the peer that holds most is disconnected.
pub const MAX_PEER_BUFFERS: usize = 4 << 20;

/// The longest metadata that is fetched from peers.
pub const MAX_METADATA_LENGTH: u32 = 32 << 20;
/// The bytes of metadata that all torrents hold together until its hash is checked, beside
/// `max_memory`. Counted as they arrive.
pub const METADATA_MEMORY: usize = 64 << 20;
/// Versions of one torrent's metadata that are fetched side by side.
pub const MAX_ASSEMBLIES: usize = 4;
/// A version gives way to another one after this time without a new piece. It is the length of its
/// first turn, too, after which it gives way in any case. After each turn that it has used up, the
/// next is twice as long.
pub const METADATA_STALL: Duration = Duration::from_secs(2);
/// How often requests for metadata are checked for their age, and further peers asked.
pub const METADATA_TICK: Duration = Duration::from_millis(500);
/// Peers that are asked for one piece of metadata at a time. A second one is asked at the next
/// [`METADATA_TICK`] if no piece of that version arrived for half of its length, a third at the
/// tick after that.
pub const MAX_ASKED_FOR_PIECE: u8 = 4;
/// Peers that are asked for pieces of one version at a time.
pub const MAX_METADATA_PEERS: usize = 16;
/// Pieces of metadata that one peer is asked for at a time. libtorrent answers a request that comes
/// while ten pieces wait to be sent only with its next tick, up to a second later.
pub const MAX_METADATA_WINDOW: usize = 8;
/// After this time without an answer, another peer is asked for the same piece of metadata.
pub const METADATA_ANSWER_TIME: Duration = Duration::from_secs(3);
/// For how long a peer that rejects a request for metadata is not asked again.
pub const METADATA_REST: Duration = Duration::from_secs(60);
/// Pieces of metadata that nobody asked for, or of a wrong length, after which a peer is not asked
/// any more.
pub const MAX_USELESS_METADATA: u8 = 3;
/// Requests for metadata of one peer that wait; further ones are rejected.
pub const MAX_METADATA_QUEUE: usize = 64;
/// How often a peer is sent the whole metadata on one connection.
pub const METADATA_COPIES: u32 = 2;
/// If there are more pieces than this when the geometry becomes known, peers are connected to
/// again, for a bitfield, and are not sent one message for each piece.
pub const MAX_LATE_HAVES: u32 = 1000;
/// When a full torrent has received no metadata for this time, its oldest peer is disconnected.
pub const METADATA_USELESS_TIME: Duration = Duration::from_secs(60);

/// Lookups of torrents in the DHT that run at a time.
pub const MAX_DHT_LOOKUPS: usize = 8;
/// How often a torrent that has found peers in the DHT is looked up and announced again.
pub const DHT_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// The same after the first lookup without peers. Doubles with each further one. A peer may have
/// announced itself a moment after the lookup.
pub const DHT_RETRY: Duration = Duration::from_secs(5);
/// The same for a seeder that is announced: it waits for leechers, which find it.
pub const DHT_SEED_RETRY: Duration = Duration::from_secs(60);
/// What is added at random to these times, at most. Less to short ones: a quarter of them.
pub const DHT_JITTER: Duration = Duration::from_secs(15);
/// How long a node that only asks waits for the first datagram of all, before a lookup ends.
pub const NODE_SILENCE: Duration = Duration::from_secs(7);
/// Names of DHT nodes that are looked up at a time.
pub const MAX_NODE_NAMES: usize = 32;

/// An allowance for small things: jobs and answers, commands, events, announces.
pub const QUEUE_MEMORY: usize = 2 << 20;

/// The part of `max_memory` that payload may fill on its way to the disk: what is left of it after
///
/// | what | bytes |
/// |---|---|
/// | the receive buffer | [`RECEIVE_BUFFER`] |
/// | received datagrams | [`DATAGRAM_BATCH`] of [`MAX_DATAGRAM`] |
/// | all peers' buffers of messages, in and out | [`MAX_PEER_BUFFERS`] |
/// | a hashing strip for each worker and the sync thread | [`piece_store::STRIP_LENGTH`] each |
/// | queues | [`QUEUE_MEMORY`] |
///
/// and at least a quarter. Payload on its way out takes no memory: it goes from the page cache.
pub fn span_memory(max_memory: usize, workers: usize) -> usize {
    let fixed = fixed_memory(workers).saturating_add(MAX_PEER_BUFFERS);
    let max_memory = max_memory.max(MIN_MEMORY);
    max_memory.saturating_sub(fixed).max(max_memory / 4)
}

/// The part of `max_memory` that is always taken: the receive buffers, strips, queues.
pub fn fixed_memory(workers: usize) -> usize {
    let strips = (workers + 1).saturating_mul(piece_store::STRIP_LENGTH);
    strips.saturating_add(RECEIVE_BUFFER + DATAGRAM_BATCH * MAX_DATAGRAM + QUEUE_MEMORY)
}

/// What one connection may read in one turn before the next one is served.
pub const READ_PER_TURN: usize = 1 << 20;
/// What one connection may write in one turn before the next one is served.
pub const WRITE_PER_TURN: usize = 1 << 20;
/// What one connection may read, and write, in one turn while a rate limit holds.
pub const LIMITED_PER_TURN: usize = 16 << 10;
/// Payload, and what lies between it, that goes to a socket with one call, in bytes or a little
/// more: what the socket does not take of it was gathered in vain.
pub const GATHERED: usize = 256 << 10;
/// Connections accepted in one turn.
pub const ACCEPTS_PER_TURN: usize = 64;
/// For how long nothing is accepted after the system had no more sockets.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// A turn of the reactor that takes longer is logged.
pub const SLOW_TURN: Duration = Duration::from_millis(100);

/// Jobs given to the store pool and not answered yet. The reply channel is as large, so that the
/// pool never waits for the reactor.
pub const MAX_STORE_JOBS: usize = 256;
/// Verify jobs of one torrent under way at a time, beyond one per worker: each worker finds a next
/// one, and the jobs of other torrents do not wait for long.
pub const VERIFY_AHEAD: usize = 2;
/// Verified data that is not yet synced starts a sync when it reaches this many bytes ...
pub const SYNC_BYTES: u64 = 64 << 20;
/// ... or when the oldest of it reaches this age.
pub const SYNC_AGE: Duration = Duration::from_secs(5);
/// Above this many bytes verified but not synced, no new piece is opened.
pub const MAX_UNSYNCED: u64 = 1 << 30;

pub use swarm::MAX_TRACKERS;

/// Threads that fetch from HTTP(S) trackers.
pub const FETCH_THREADS: usize = 8;
/// Threads that look up trackers' names.
pub const RESOLVE_THREADS: usize = 2;
/// Threads that look up peers' names. Trackers choose these, and all may be slow.
pub const PEER_RESOLVE_THREADS: usize = 1;
/// Requests that wait for a fetch or resolve thread. If there are more, an announce fails and is
/// repeated after its back-off.
pub const FETCH_QUEUE: usize = 1024;
/// Requests under way to one tracker host, from all torrents together.
pub const MAX_REQUESTS_PER_HOST: usize = 2;
/// Announces under way to all hosts together; each may have a request for either address family.
pub const MAX_ANNOUNCES: usize = 256;
/// How long one announce may take before the next tracker is asked.
pub const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(15);
/// How long a looked-up name is remembered.
pub const NAME_LIFETIME: Duration = Duration::from_secs(300);
/// How long a failed look-up is remembered.
pub const NAME_FAILURE_LIFETIME: Duration = Duration::from_secs(60);
/// Names remembered at a time; above it the oldest is forgotten.
pub const MAX_NAMES: usize = 4096;
/// Names of peers (not of trackers) looked up from one reply.
pub const MAX_PEER_NAMES: usize = 16;
/// Names of peers being looked up, of all torrents together; above it further ones are ignored.
pub const MAX_AWAITED_PEER_NAMES: usize = 64;

/// Commands that wait for the reactor. When full, the caller gets `Busy`.
pub const COMMAND_QUEUE: usize = 1024;
/// Events that wait for the caller. When full, passing events are dropped and counted; lasting ones
/// wait.
pub const EVENT_QUEUE: usize = 4096;
/// The part of that which only lasting events fill, so that passing ones cannot keep them out.
pub const EVENTS_RESERVED: usize = 1024;
/// Peers in trackers' answers that the caller still holds, about a megabyte. An answer with more is
/// dropped like a passing event.
pub const MAX_WAITING_PEERS: usize = 16 << 10;

/// How long a seed that has reached its ratio goes on, so that its last data arrives.
pub const LAST_UPLOAD_TIME: Duration = Duration::from_secs(1);
/// How long every tracker must fail and every known peer be out of reach until a download is given
/// up.
pub const UNREACHABLE_TIME: Duration = Duration::from_secs(60);
/// The same while every known peer is banned.
pub const BANNED_TIME: Duration = Duration::from_secs(5);
/// How long a stop waits for trackers to answer `stopped`.
pub const STOP_ANNOUNCE_TIME: Duration = Duration::from_secs(3);
/// For how many entries an empty queue keeps room. More came in a burst, as when many torrents are
/// added at once.
pub const QUEUE_CAPACITY: usize = 256;
/// How often all connections are checked for deadlines and memory.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often connections that wait for a rate limit are served again.
pub const REFILL_INTERVAL: Duration = Duration::from_millis(50);
