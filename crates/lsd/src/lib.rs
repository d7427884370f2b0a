//! Local service discovery: finds peers in the local network by multicast, without sockets, clock
//! or threads.
//!
//! In scope: the announces, when each torrent is announced, and which announces of others count.
//! Out of scope: sockets, interfaces, and whether a torrent may be announced: a private one must
//! not (BEP 27).
//!
//! - [`Lsd`] is the state of one client: torrents go in, [`Transmit`] and [`LocalPeer`] come out.
//! - [`Announce`] is the codec without any state, [`Group`] names the multicast groups.
//! - [`Network`] is the network of an interface.
//!
//! ```
//! use std::time::Duration;
//! use bt_types::InfoHashV1;
//! use lsd::{Group, Lsd, Network};
//!
//! let (now, torrent) = (Duration::ZERO, InfoHashV1([7; 20]));
//! let mut alice = Lsd::new(6881, 0x5eed_a11c);
//! alice.announce(now, torrent);
//! let transmit = alice.poll_transmit(now).expect("an announce");
//! assert_eq!(transmit.group, Group::V4);
//!
//! // Bob is in the same network, and has the same torrent.
//! let mut bob = Lsd::new(6882, 0x5eed_0b0b);
//! bob.set_networks([Network::new("192.168.1.20".parse()?, 24)]);
//! bob.announce(now, torrent);
//! bob.handle_datagram(now, "192.168.1.10:6771".parse()?, &transmit.bytes);
//! let peer = bob.poll_event().expect("a peer");
//! assert_eq!((peer.info_hash, peer.address), (torrent, "192.168.1.10:6881".parse()?));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! The contract: after any call, drain the polls. No datagram causes a panic, and one causes at
//! most [`LSD_HASHES`] events. A few hundred bytes are kept for each of our torrents, and nothing
//! for those of others.
//!
//! Source: BEP 14.

mod message;
mod network;
mod pace;
mod state;

pub use bt_types::InfoHashV1;
pub use message::{Announce, AnnounceError, Group, LSD_HASHES, LSD_LENGTH};
pub use network::Network;
pub use state::{LSD_BURST, LSD_EVERY, LSD_GAP, LSD_RATE, LSD_SINGLE, LocalPeer, Lsd, Transmit};
