//! The Mainline DHT as one state machine without I/O: find peers of a torrent without a tracker.
//!
//! In scope: routing tables, lookups and stores for IPv4 and IPv6, the codec of the messages
//! ([`message`]), defence against forged addresses, floods and ids chosen to capture a torrent.
//! Out of scope: sockets, names, the clock, the system's randomness, and when to announce again.
//!
//! - [`Dht`] is the node, made from a [`Config`]. It holds both families.
//! - [`Event`] is what happened, [`Transmit`] a datagram to send.
//! - [`SavedState`] is what the next launch should know.
//! - `Item`, with the feature `items`, is data of any kind in the DHT.
//! - [`NodeId`] is an id and the distance between two.
//!
//! Two nodes on a wire made of two function calls; one announces a peer, the other finds it:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use dht::{Announce, Config, Dht, Event, InfoHashV1};
//!
//! let addresses: [SocketAddr; 2] = ["127.0.0.1:6881".parse()?, "127.0.0.1:6882".parse()?];
//! // A program takes its seeds from the system's randomness.
//! let mut nodes = [1, 2].map(|seed| Dht::new(&Config::new([seed; 32])));
//! // The time since the program started.
//! let now = Duration::ZERO;
//!
//! // After any call, drain the polls: carry datagrams until there are no more.
//! let carry = |nodes: &mut [Dht; 2]| loop {
//!     let mut moved = false;
//!     for from in 0..2 {
//!         while let Some(transmit) = nodes[from].poll_transmit() {
//!             let bytes = transmit.bytes.to_vec();
//!             nodes[1 - from].handle_datagram(now, addresses[from], &bytes);
//!             moved = true;
//!         }
//!     }
//!     if !moved {
//!         break;
//!     }
//! };
//!
//! nodes[0].handle_node(now, addresses[1]);
//! carry(&mut nodes);
//! let torrent: InfoHashV1 = "00112233445566778899aabbccddeeff00112233".parse()?;
//! nodes[0].find_peers(now, torrent, Announce::Port { port: 51413, seed: true });
//! carry(&mut nodes);
//!
//! let lookup = nodes[1].find_peers(now, torrent, Announce::No);
//! carry(&mut nodes);
//! let Some(Event::Peers { addresses, .. }) = nodes[1].poll_event() else { panic!("a peer") };
//! assert_eq!(addresses, ["127.0.0.1:51413".parse()?]);
//! # let _ = lookup;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract: *after any call, drain the polls*. Send what [`Dht::poll_transmit`] returns. At
//! [`Dht::poll_timeout`] call [`Dht::handle_timeout`] and drain the polls again. `now` is the time
//! since any fixed start and never goes back. The same calls with the same seed give the same
//! outputs.
//!
//! # What holds
//!
//! - Bytes from the network never cause a panic. Every table is bounded, and all of them together
//!   take at most [`DHT_MEMORY`].
//! - A node is sent something only in answer to a query, once, or by a query that counts against
//!   the budgets: [`QUERY_RATE`], [`NEW_ADDRESS_RATE`], and per minute two unanswered queries to an
//!   address, or 16 if it is in the routing table.
//! - A lookup asks at most [`MAX_LOOKUP_QUERIES`] nodes of a family.
//! - Only nodes that answered us, at the address that we asked, are named to others.
//! - No datagram is longer than 1,024 bytes (1,450 with an item). No answer to `get_peers` is over 8
//!   times as long as the query, and none without an item to another query over 4 times.
//!
//! Sources: BEP 5 (DHT), 32 (IPv6), 33 (scrape), 42 (ids and addresses), 43 (read-only nodes),
//! 44 (items).

mod address;
mod bloom;
mod calls;
mod config;
mod dht;
mod event;
#[cfg(feature = "items")]
mod items;
mod lookup;
pub mod message;
mod node_id;
mod outbox;
mod peer_store;
mod rate;
mod saved_state;
mod send_budget;
mod table;
mod throttle;
mod tokens;
mod votes;
mod walk;

pub use address::Family;
pub use bloom::{BLOOM_LENGTH, Bloom};
pub use bt_types::InfoHashV1;
pub use calls::{CALL_TIMEOUT, MAX_CALLS};
pub use config::Config;
pub use dht::{DHT_MEMORY, Dht, MAX_LOOKUPS, MAX_QUEUED_LOOKUPS};
pub use event::{Announce, Counters, Event, LookupKey, Stats, Status, Transmit};
#[cfg(feature = "items")]
pub use items::{
    ITEM_LENGTH, ITEM_LIFETIME, ITEMS_PER_ADDRESS, Item, ItemError, MAX_ITEMS, SALT_LENGTH,
    mutable_target, public_key,
};
pub use lookup::MAX_LOOKUP_PEERS;
pub use node_id::{Distance, NodeId};
pub use peer_store::{
    MAX_PEERS, MAX_TORRENTS, PEER_LIFETIME, PEERS_PER_TORRENT, TORRENTS_PER_ADDRESS,
};
pub use saved_state::{SAVED_NODES, SavedState, SavedStateError};
pub use send_budget::{NEW_ADDRESS_RATE, QUERY_RATE};
pub use table::K;
pub use throttle::{ASKER_RATE, MAX_ASKERS, NET_RATE, REPLY_BYTES};
pub use tokens::TOKEN_ROTATION;
pub use walk::{ALPHA, MAX_CANDIDATES, MAX_LOOKUP_QUERIES};
