//! A peer of a tracker's answer, as JSON.

use bt_types::{PeerHost, TrackerPeer};
use serde_json::{Value, json};

/// Returns `{"ip", "port", "peer_id"}`. `ip` is a name if the tracker gave one.
pub(crate) fn tracker_peer(peer: &TrackerPeer) -> Value {
    let ip = match &peer.host {
        PeerHost::Ip(ip) => ip.to_string(),
        PeerHost::Name(name) => name.clone(),
    };
    json!({ "ip": ip, "port": peer.port, "peer_id": peer.peer_id.map(|id| id.to_string()) })
}
