//! Announce to a BitTorrent tracker, or scrape it, over UDP.
//!
//! In scope: the packets ([`Request`], [`Response`]), tracker URLs ([`TrackerUrl`]), the protocol's
//! state without any I/O ([`UdpTracker`], [`Exchange`]) and, with the default feature `client`, a
//! blocking [`Client`]. Out of scope: HTTP trackers, and policy, such as tiers and the time of the
//! next announce.
//!
//! - [`UdpTracker`] is the state of one tracker address: its connection id, valid for a minute, and
//!   the back-off of its connect requests. All exchanges with that address share it, so at most one
//!   connect request is in flight.
//! - [`Exchange`] is one announce or scrape, from the first datagram to the reply.
//! - [`addresses_to_ask`] chooses and orders the addresses of a tracker's name.
//! - [`Client`] does all of it in a blocking call, such as [`Client::get_peers`].
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
//! // The first datagram is a connect request. This is a tracker's answer.
//! let datagram = exchange.poll_transmit(&mut tracker, now).expect("a connect request");
//! let transaction_id = Request::decode(&datagram)?.transaction_id();
//! let answer = Response::Connect { transaction_id, connection_id: 7 }.encode();
//! assert!(exchange.handle_datagram(&mut tracker, now, address, &answer).is_none());
//!
//! // The second datagram is the announce, with the connection id just received.
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
//! The contract: *after any call on an exchange, or on another one of the same tracker, drain the
//! polls*. Send what [`Exchange::poll_transmit`] returns. At [`Exchange::poll_timeout`] call
//! [`Exchange::handle_timeout`] and drain the polls again. `now` is the time since any fixed start.
//!
//! Bytes from the network never cause a panic, and never allocate more than [`MAX_PEERS`] peers and
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
