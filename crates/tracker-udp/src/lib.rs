//! Announce to a BitTorrent tracker, or scrape it, over UDP.
//!
//! In scope: the packets ([`Request`], [`Response`]), tracker URLs ([`TrackerUrl`]), the protocol's
//! state without any I/O ([`UdpTracker`], [`Exchange`]) and, as the default feature `client`, a
//! blocking [`Client`] on top of it. Out of scope: HTTP trackers, tiers of trackers, when to
//! announce again: that is policy.
//!
//! - [`UdpTracker`] is one address: its connection id with the minute it lives, and the back-off of
//!   its connect requests. Whoever asks that address shares it, so that one connect is in flight.
//! - [`Exchange`] is one action, an announce or a scrape, from the first datagram to the reply.
//! - [`addresses_to_ask`] says which addresses of a tracker's name are asked, and in which order.
//! - [`Client`] does it all for a command: [`Client::get_peers`] is one call.
//!
//! ```
//! use std::time::Duration;
//! use bt_types::{AnnounceRequest, InfoHashV1, PeerId};
//! use tracker_udp::{Exchange, Family, Reply, Request, Response, UdpTracker};
//!
//! let address = "192.0.2.1:6969".parse()?;
//! let mut tracker = UdpTracker::new(address, 42);
//! let request = AnnounceRequest::new(InfoHashV1([1; 20]), PeerId([2; 20]));
//! let (now, deadline) = (Duration::ZERO, Duration::from_secs(30));
//! let mut exchange = Exchange::announce(&mut tracker, now, deadline, request, b"/announce");
//!
//! // First goes a connect request; a tracker would answer like this.
//! let datagram = exchange.poll_transmit(&mut tracker, now).expect("a connect request");
//! let transaction_id = Request::decode(&datagram)?.transaction_id();
//! let answer = Response::Connect { transaction_id, connection_id: 7 }.encode();
//! assert!(exchange.handle_datagram(&mut tracker, now, address, &answer).is_none());
//!
//! // Then the announce with the connection id just received.
//! let datagram = exchange.poll_transmit(&mut tracker, now).expect("the announce");
//! let transaction_id = Request::decode(&datagram)?.transaction_id();
//! let peers = vec!["198.51.100.7:6881".parse()?];
//! let answer =
//!     Response::Announce { transaction_id, interval: 1800, leechers: 3, seeders: 5, peers }.encode();
//! let reply = exchange.handle_datagram(&mut tracker, now, address, &answer);
//! let Some(Ok(Reply::Announce(reply))) = reply else { panic!("the exchange is done") };
//! assert_eq!((reply.interval, reply.peers.len()), (1800, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract: *after any call on an exchange or on another one of the same tracker, drain the
//! polls*: send what [`Exchange::poll_transmit`] gives, and call [`Exchange::handle_timeout`] and
//! the polls again at [`Exchange::poll_timeout`]. `now` is a duration since any fixed start.
//!
//! Bytes from outside never panic and never allocate beyond [`MAX_PEERS`] peers or
//! [`MAX_MESSAGE_LENGTH`] bytes of text.
//!
//! Sources: BEP 15 (UDP trackers, with IPv6), BEP 41 (URL data).

mod addresses;
#[cfg(feature = "client")]
mod client;
mod exchange;
mod packet;
mod tracker;
mod url;

pub use addresses::{ADDRESS_SILENCE, MAX_ADDRESSES, addresses_to_ask};
#[cfg(feature = "client")]
pub use client::{Client, ClientError, Peers, get_peers};
pub use exchange::{Exchange, ExchangeError, Reply, ScrapeCountError};
pub use packet::{
    Family, MAX_MESSAGE_LENGTH, MAX_PEERS, MAX_SCRAPE, PacketError, Request, Response, ScrapeCounts,
};
pub use tracker::{CONNECTION_LIFETIME, FIRST_TIMEOUT, MAX_BACK_OFF, UdpTracker};
pub use url::{MAX_URL_DATA_LENGTH, TrackerHost, TrackerUrl, TrackerUrlError, parse_url};

pub use bt_types::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerId, ScrapeEntry, TrackerPeer,
};
