//! Announces: the query of the request, the dictionary of the reply (BEP 3, "trackers"; BEP 7; 23).

use std::fmt::Write as _;

use bencode::{Dict, Value};
use bt_types::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, PeerHost, PeerId, TrackerPeer, compact,
};

use crate::reply::{ReplyError, read_dictionary, seconds, text};
use crate::text::MAX_TEXT_LENGTH;
use crate::url::{UrlError, escape, parse, with_query};

/// The most peers taken from one reply.
pub const MAX_PEERS: usize = 2_000;
/// The longest DNS name (RFC 1035, section 2.3.4).
const MAX_NAME_LENGTH: usize = 255;

/// The URL that announces `request` to the tracker at `base`. A query in `base` is kept. `left` is
/// sent as `i64::MAX` if it is more, or not known: many trackers read it as a signed number.
///
/// # Errors
/// `base` is no http or https URL.
pub fn announce_url(base: &str, request: &AnnounceRequest) -> Result<String, UrlError> {
    Ok(with_query(parse(base)?, &query(request)))
}

fn query(request: &AnnounceRequest) -> String {
    let mut query = format!(
        "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact=1&key={:08X}",
        escape(request.info_hash.as_bytes()),
        escape(request.peer_id.as_bytes()),
        request.port,
        request.uploaded,
        request.downloaded,
        request.left.min(i64::MAX as u64),
        request.key,
    );
    let mut add = |key: &str, value: &dyn std::fmt::Display| {
        // Writing into a string cannot fail.
        let _ = write!(query, "&{key}={value}");
    };
    if let Some(count) = request.num_want {
        add("numwant", &count);
    }
    if let Some(ip) = request.ip {
        add("ip", &escape(ip.to_string().as_bytes()));
    }
    if let Some(id) = &request.tracker_id {
        add("trackerid", &escape(id));
    }
    if let Some(event) = event_name(request.event) {
        add("event", &event);
    }
    query
}

fn event_name(event: AnnounceEvent) -> Option<&'static str> {
    match event {
        AnnounceEvent::None => None,
        AnnounceEvent::Started => Some("started"),
        AnnounceEvent::Completed => Some("completed"),
        AnnounceEvent::Stopped => Some("stopped"),
    }
}

/// The reply in `bytes`. Peers come as `peers` (compact or dictionaries) and `peers6`; the first
/// [`MAX_PEERS`] are taken. A dictionary that is no peer is passed over; so is a value of the wrong
/// kind, except for `interval` and the peers.
///
/// # Errors
/// A refusal, no bencoded dictionary, no interval, no peers.
pub fn parse_announce(bytes: &[u8]) -> Result<AnnounceReply, ReplyError> {
    read_dictionary(bytes, |root| {
        Ok(AnnounceReply {
            interval: interval(root)?,
            min_interval: seconds(root, "min interval"),
            tracker_id: tracker_id(root),
            seeders: seconds(root, "complete"),
            leechers: seconds(root, "incomplete"),
            warning: text(root, "warning message"),
            peers: peers(root)?,
        })
    })
}

fn interval(root: Dict<'_, '_>) -> Result<u32, ReplyError> {
    match root.get("interval") {
        None => Err(ReplyError::MissingKey { key: "interval" }),
        Some(_) => seconds(root, "interval")
            .ok_or(ReplyError::WrongKind { key: "interval", expected: "an integer" }),
    }
}

fn tracker_id(root: Dict<'_, '_>) -> Option<Vec<u8>> {
    let id = root.get("tracker id")?.as_bytes()?;
    (id.len() <= MAX_TEXT_LENGTH).then(|| id.to_vec())
}

fn peers(root: Dict<'_, '_>) -> Result<Vec<TrackerPeer>, ReplyError> {
    let mut peers = match (root.get("peers"), root.get("peers6")) {
        (None, None) => return Err(ReplyError::MissingKey { key: "peers" }),
        (None, Some(_)) => Vec::new(),
        (Some(value), _) => peers_of_any_form(value)?,
    };
    if let Some(value) = root.get("peers6") {
        let bytes = value
            .as_bytes()
            .ok_or(ReplyError::WrongKind { key: "peers6", expected: "a byte string" })?;
        let room = MAX_PEERS.saturating_sub(peers.len());
        let (entry, got) = (compact::V6_LENGTH, bytes.len());
        let addresses =
            compact::decode_v6(bytes).ok_or(ReplyError::Ragged { key: "peers6", entry, got })?;
        peers.extend(addresses.take(room).map(TrackerPeer::from));
    }
    Ok(peers)
}

fn peers_of_any_form(value: Value<'_, '_>) -> Result<Vec<TrackerPeer>, ReplyError> {
    if let Some(list) = value.as_list() {
        return Ok(list.iter().filter_map(peer_of_dictionary).take(MAX_PEERS).collect());
    }
    let bytes = value
        .as_bytes()
        .ok_or(ReplyError::WrongKind { key: "peers", expected: "a byte string or a list" })?;
    let (entry, got) = (compact::V4_LENGTH, bytes.len());
    let addresses =
        compact::decode_v4(bytes).ok_or(ReplyError::Ragged { key: "peers", entry, got })?;
    Ok(addresses.take(MAX_PEERS).map(TrackerPeer::from).collect())
}

fn peer_of_dictionary(value: Value<'_, '_>) -> Option<TrackerPeer> {
    let peer = value.as_dict()?;
    Some(TrackerPeer {
        host: peer_host(peer.get("ip")?.as_bytes()?)?,
        port: u16::try_from(peer.get("port")?.as_int()?).ok()?,
        peer_id: peer.get("peer id").and_then(|id| PeerId::from_slice(id.as_bytes()?)),
    })
}

fn peer_host(bytes: &[u8]) -> Option<PeerHost> {
    let text = str::from_utf8(bytes).ok()?;
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Some(PeerHost::Ip(ip.to_canonical()));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let named = (1..=MAX_NAME_LENGTH).contains(&bytes.len()) && bytes.iter().copied().all(is_name);
    named.then(|| PeerHost::Name(text.to_owned()))
}

#[cfg(test)]
mod tests;
