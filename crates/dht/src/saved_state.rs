//! What outlives a launch: our ids and nodes, first those that answered.

use std::net::SocketAddr;

use bencode::Owned;

use crate::address::is_usable;
use crate::message::{Nodes, push_node};
use crate::{Family, NodeId};

/// The most nodes of a family that are saved and restored.
pub const SAVED_NODES: usize = 300;
/// The version of the format.
const VERSION: i64 = 1;

/// Our ids and the nodes of the routing tables, the most valuable first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedState {
    /// Our id in the IPv4 DHT.
    pub id_v4: Option<NodeId>,
    /// Our id in the IPv6 DHT.
    pub id_v6: Option<NodeId>,
    /// Nodes of both families, [`SAVED_NODES`] of each at most.
    pub nodes: Vec<(NodeId, SocketAddr)>,
}

/// Bytes that are no saved state of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a saved state of the DHT, version {VERSION}")]
pub struct SavedStateError;

impl SavedState {
    /// Returns the state as bencode.
    pub fn encode(&self) -> Vec<u8> {
        let nodes = |family| {
            let mut bytes = Vec::new();
            let of_family = self.nodes.iter().filter(|(_, address)| Family::of(*address) == family);
            for (id, address) in of_family.take(SAVED_NODES) {
                push_node(id, *address, &mut bytes);
            }
            Owned::Bytes(bytes)
        };
        let id = |id: &NodeId| Owned::Bytes(id.0.to_vec());
        let mut entries = vec![
            ("nodes", nodes(Family::V4)),
            ("nodes6", nodes(Family::V6)),
            ("version", VERSION.into()),
        ];
        entries.extend(self.id_v4.as_ref().map(|own| ("id", id(own))));
        entries.extend(self.id_v6.as_ref().map(|own| ("id6", id(own))));
        bencode::encode(&Owned::dict(entries))
    }

    /// Reads what [`encode`](Self::encode) wrote. Skips nodes at addresses where nobody can be, and
    /// those over [`SAVED_NODES`].
    ///
    /// # Errors
    /// If `bytes` are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, SavedStateError> {
        let options = bencode::Options { max_depth: 2, max_tokens: 16, ..bencode::Options::new() };
        let document = options.parse(bytes).map_err(|_| SavedStateError)?;
        let root = document.root();
        if root.get("version").and_then(bencode::Value::as_int) != Some(VERSION) {
            return Err(SavedStateError);
        }
        let bytes = |key| root.get(key).and_then(bencode::Value::as_bytes);
        let mut state = Self {
            id_v4: bytes("id").and_then(NodeId::from_slice),
            id_v6: bytes("id6").and_then(NodeId::from_slice),
            nodes: Vec::new(),
        };
        for (key, family) in [("nodes", Family::V4), ("nodes6", Family::V6)] {
            let nodes =
                bytes(key).and_then(|bytes| Nodes::new(family, bytes)).ok_or(SavedStateError)?;
            let nodes = nodes.iter_all().take(SAVED_NODES);
            state.nodes.extend(nodes.filter(|(_, address)| is_usable(*address, true)));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(v4: u32, v6: u32) -> SavedState {
        let mut nodes = Vec::new();
        for number in 0..v4 {
            let ip = std::net::Ipv4Addr::from_bits(0x2d00_0001 + number);
            nodes.push((NodeId([4; 20]), SocketAddr::from((ip, 6881))));
        }
        for number in 0..v6 {
            let ip = std::net::Ipv6Addr::from_bits((0x2a00 << 112) + u128::from(number));
            nodes.push((NodeId([6; 20]), SocketAddr::from((ip, 6881))));
        }
        SavedState { id_v4: Some(NodeId([1; 20])), id_v6: Some(NodeId([2; 20])), nodes }
    }

    #[test]
    fn state_round_trips() {
        for state in [state(0, 0), state(3, 2), SavedState::default()] {
            let bytes = state.encode();
            assert_eq!(SavedState::decode(&bytes), Ok(state));
            for end in 0..bytes.len() {
                assert_eq!(SavedState::decode(&bytes[..end]), Err(SavedStateError));
            }
        }
    }

    #[test]
    fn saved_nodes_are_limited() {
        let most = SAVED_NODES as u32;
        assert_eq!(SavedState::decode(&state(most + 1, most + 1).encode()), Ok(state(most, most)));
        // Another program may have written more.
        let one = state(1, 0).encode();
        let (head, tail) = one.split_at(one.iter().position(|byte| *byte == 4).unwrap());
        let entry = crate::message::node_length(Family::V4);
        let entries = tail[..entry].repeat(SAVED_NODES + 1);
        let head = String::from_utf8_lossy(head).replace("26:", &format!("{}:", entries.len()));
        let long = [head.as_bytes(), &entries, &tail[entry..]].concat();
        assert_eq!(SavedState::decode(&long).unwrap().nodes.len(), SAVED_NODES);
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            "",
            "de",
            "i1e",
            "d5:nodes0:6:nodes60:7:versioni2ee",
            "d5:nodes1:x6:nodes60:7:versioni1ee",
            "d5:nodes0:6:nodes61:x7:versioni1ee",
            "d5:nodes0:7:versioni1ee",
        ] {
            assert_eq!(SavedState::decode(bytes.as_bytes()), Err(SavedStateError), "{bytes}");
        }
        let odd = b"d5:nodes26:aaaaaaaaaaaaaaaaaaaa\0\0\0\0\0\x016:nodes60:7:versioni1ee";
        assert_eq!(SavedState::decode(odd), Ok(SavedState::default()));
    }
}
