//! What the caller of the engine must do.

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
        /// Where to.
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
    /// Hand a job to the store pool. Report its answer with `handle_done`.
    Store(Job),
    /// Announce over HTTP(S). Report with `handle_fetched`.
    Fetch {
        /// The announce.
        key: AnnounceKey,
        /// Which of its fetches.
        leg: usize,
        /// The tracker's URL.
        url: String,
        /// What to say.
        request: Box<AnnounceRequest>,
        /// The only address family to use, if the tracker is asked over both.
        family: Option<Family>,
    },
    /// Look a name up. Report with `handle_resolved`.
    Resolve {
        /// The name.
        host: String,
        /// Whether a tracker named it as a peer's. Trackers' own names must not wait for such.
        of_peer: bool,
    },
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Tell the user.
    Event(Event),
}
