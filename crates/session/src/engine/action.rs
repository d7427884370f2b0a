//! What the engine asks of its caller.

use std::net::SocketAddr;

use bt_types::AnnounceRequest;
use piece_store::Job;

use super::announce::Family;
use super::keys::{AnnounceKey, LinkKey};
use crate::event::Event;

/// What the caller must do.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Begin a TCP connection. Report with `handle_connected` or `handle_connect_failed`.
    Connect {
        /// The link it becomes.
        link: LinkKey,
        /// The address to connect to.
        address: SocketAddr,
    },
    /// Close the link's socket. The engine has forgotten the link already.
    Close {
        /// The link.
        link: LinkKey,
    },
    /// The link has bytes to send: drain `poll_transmit` as far as the socket takes them.
    Transmit {
        /// The link.
        link: LinkKey,
    },
    /// Give a job to the store. Report its answer with `handle_done`.
    Store(Job),
    /// Announce over HTTP(S). Report with `handle_fetched`.
    Fetch {
        /// The announce.
        key: AnnounceKey,
        /// The number of its leg.
        leg: usize,
        /// The tracker's URL.
        url: String,
        /// The request.
        request: Box<AnnounceRequest>,
        /// The only address family to use, if the tracker is asked over both.
        family: Option<Family>,
    },
    /// Look a name up. Report with `handle_resolved`.
    Resolve {
        /// The name.
        host: String,
        /// Whether it is the name of a peer. Trackers' names must not wait for those of peers.
        of_peer: bool,
    },
    /// Send a datagram.
    Datagram {
        /// The address to send it to.
        to: SocketAddr,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Send a datagram to a multicast group, on every interface (BEP 14).
    Multicast {
        /// The group.
        group: lsd::Group,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Pass an event to the user.
    Event(Event),
}
