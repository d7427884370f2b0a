//! Announce to a BitTorrent tracker, or scrape it, over HTTP or HTTPS.
//!
//! In scope: the URL of an announce or scrape ([`announce_url`], [`scrape_url`]), the tracker's
//! reply ([`parse_announce`], [`parse_scrape`]), tracker URLs without their secrets
//! ([`shorten_url`]) and, with the default feature `client`, a blocking [`Fetcher`] that also
//! downloads any other file over HTTP. Out of scope: UDP trackers, and policy, such as tiers and
//! the time of the next announce.
//!
//! ```
//! use bt_types::{AnnounceEvent, AnnounceRequest, InfoHashV1, PeerId};
//!
//! let info_hash = InfoHashV1(*b"\x12\x34 is no URL text...");
//! let mut request = AnnounceRequest::new(info_hash, PeerId([b'p'; 20]));
//! request.event = AnnounceEvent::Started;
//! request.left = 1000;
//! let url = tracker_http::announce_url("http://tracker.example/announce?passkey=1", &request)?;
//! assert!(url.starts_with(
//!     "http://tracker.example/announce?passkey=1&info_hash=%124%20is%20no%20URL%20text...&peer_id=pp"
//! ));
//! assert!(url.contains("&left=1000&") && url.ends_with("&event=started"));
//!
//! // The tracker's reply has two peers of six bytes each.
//! let body = b"d8:intervali1800e5:peers12:\x0a\0\0\x01\x1a\xe1\x0a\0\0\x02\x1a\xe2e";
//! let reply = tracker_http::parse_announce(body)?;
//! assert_eq!(reply.interval, 1800);
//! assert_eq!(reply.peers[1].to_string(), "10.0.0.2:6882");
//!
//! let error = tracker_http::parse_announce(b"d14:failure reason7:go awaye").unwrap_err();
//! assert_eq!(error.to_string(), "the tracker refused: go away");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Trackers send odd values. [`parse_announce`] uses what it can of a reply.
//!
//! The contract: bytes from the network never cause a panic, and never allocate more than
//! [`MAX_PEERS`] peers and [`MAX_TEXT_LENGTH`] bytes of text. The client reads at most
//! [`FetcherConfig::max_body`] bytes and follows at most [`FetcherConfig::max_redirects`]
//! redirects, but none from a public to a private address. A call ends within
//! [`FetcherConfig::timeout`]. No error shows a passkey.
//!
//! Sources: BEP 3 ("trackers"), BEP 7 (`peers6`), BEP 23 (compact peers), BEP 31 (`retry in`),
//! BEP 48 (scrape).

mod announce;
#[cfg(feature = "client")]
mod client;
mod reply;
mod scrape;
mod text;
mod url;

pub use announce::{MAX_PEERS, announce_url, parse_announce};
#[cfg(feature = "client")]
pub use client::{
    AnnounceError, FetchError, Fetcher, FetcherConfig, FetcherError, MAX_BODY, ScrapeError,
};
pub use reply::ReplyError;
pub use scrape::{parse_scrape, scrape_url};
pub use text::MAX_TEXT_LENGTH;
pub use url::{UrlError, shorten_url};

pub use bt_types::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerHost, PeerId, ScrapeEntry,
    TrackerPeer,
};
