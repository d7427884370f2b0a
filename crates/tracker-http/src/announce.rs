//! The query of an announce and the dictionary of its reply (BEP 3, "trackers"; BEP 7; BEP 23).

use std::fmt::Write as _;
use std::net::SocketAddr;

use bencode::{Dict, Value};
use bt_types::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, PeerHost, PeerId, TrackerPeer, compact,
    interval_or_default,
};

use crate::reply::{ReplyError, count, read_dictionary, text, wait};
use crate::text::MAX_TEXT_LENGTH;
use crate::url::{UrlError, escape, parse, with_query};

/// The largest number of peers that are taken from one reply.
pub const MAX_PEERS: usize = 2_000;
/// The longest DNS name (RFC 1035, section 2.3.4).
const MAX_NAME_LENGTH: usize = 255;

/// Returns the URL that announces `request` to the tracker at `base`, whose own query stays. `left`
/// is at most `i64::MAX`, which also stands for unknown: many trackers read it as a signed number.
///
/// # Errors
/// `base` is not an http or https URL.
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
        AnnounceEvent::Paused => Some("paused"),
    }
}

/// Parses the reply to an announce. Takes the first [`MAX_PEERS`] peers of `peers` and `peers6`,
/// each of which is compact or a list of dictionaries.
///
/// An odd value does not make the rest unusable:
///
/// - An interval that is missing, of the wrong kind or not from 1 to [`i32::MAX`] becomes
///   [`DEFAULT_INTERVAL`](bt_types::DEFAULT_INTERVAL).
/// - Peers of the wrong kind count as an empty list. An invalid peer is skipped, and so are the
///   last bytes of a compact list if they are not a whole peer.
/// - Any other value of the wrong kind, and a `min interval` below 1, counts as missing.
/// - The first value of a duplicate key counts.
///
/// # Errors
/// The tracker refused, or `bytes` are not a bencoded dictionary.
pub fn parse_announce(bytes: &[u8]) -> Result<AnnounceReply, ReplyError> {
    read_dictionary(bytes, |root| {
        Ok(AnnounceReply {
            interval: interval_or_default(root.get("interval").and_then(Value::as_int)),
            min_interval: wait(root, "min interval"),
            tracker_id: tracker_id(root),
            seeders: count(root, "complete"),
            leechers: count(root, "incomplete"),
            warning: text(root, "warning message"),
            peers: peers(root),
        })
    })
}

fn tracker_id(root: Dict<'_, '_>) -> Option<Vec<u8>> {
    let id = root.get("tracker id")?.as_bytes()?;
    (id.len() <= MAX_TEXT_LENGTH).then(|| id.to_vec())
}

fn peers(root: Dict<'_, '_>) -> Vec<TrackerPeer> {
    let mut peers = Vec::new();
    if let Some(value) = root.get("peers") {
        take_peers(&mut peers, value, compact::decode_v4);
    }
    if let Some(value) = root.get("peers6") {
        take_peers(&mut peers, value, compact::decode_v6);
    }
    peers
}

/// Appends the peers of `value`, compact or a list, up to [`MAX_PEERS`] in total.
fn take_peers<'a, I: Iterator<Item = SocketAddr>>(
    peers: &mut Vec<TrackerPeer>,
    value: Value<'a, '_>,
    decode: impl FnOnce(&'a [u8]) -> I,
) {
    let room = MAX_PEERS.saturating_sub(peers.len());
    if let Some(bytes) = value.as_bytes() {
        peers.extend(decode(bytes).take(room).map(TrackerPeer::from));
    } else if let Some(list) = value.as_list() {
        peers.extend(list.iter().filter_map(peer_of_dictionary).take(room));
    }
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
    let is_valid =
        (1..=MAX_NAME_LENGTH).contains(&bytes.len()) && bytes.iter().copied().all(is_name);
    is_valid.then(|| PeerHost::Name(text.to_owned()))
}

#[cfg(test)]
mod tests;
