//! Lists that are read without a copy: compact nodes and compact peers.

use std::net::SocketAddr;

use bt_types::compact;

use super::{MAX_NODES_IN, MAX_VALUES_IN};
use crate::node_id::NodeInfo;
use crate::{Family, NodeId};

/// Compact nodes of one family (BEP 5, "Contact Encoding"; BEP 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nodes<'a> {
    family: Family,
    bytes: &'a [u8],
}

impl<'a> Nodes<'a> {
    /// Takes `bytes` as nodes of `family`; `None` if they end within an entry.
    pub fn new(family: Family, bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(node_length(family)).then_some(Self { family, bytes })
    }

    /// Returns the nodes, [`MAX_NODES_IN`] at most. They may be anywhere.
    pub fn iter(self) -> impl Iterator<Item = (NodeId, SocketAddr)> + 'a {
        self.iter_all().take(MAX_NODES_IN)
    }

    /// Returns the nodes, however many there are.
    pub(crate) fn iter_all(self) -> impl Iterator<Item = NodeInfo> + 'a {
        let entries = self.bytes.chunks_exact(node_length(self.family));
        entries.filter_map(move |entry| {
            let (id, address) = entry.split_at_checked(20)?;
            Some((NodeId::from_slice(id)?, address_of(self.family, address)?))
        })
    }

    /// Returns the bytes, as on the wire.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// Compact peers: a list of strings of 6 or 18 bytes (BEP 5, "get_peers"; BEP 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// Takes the elements of a bencoded list, without its `l` and `e`.
    pub(crate) fn new(elements: &'a [u8]) -> Self {
        Self(elements)
    }

    /// Returns the peers, [`MAX_VALUES_IN`] at most. They may be anywhere. Ends at the first element
    /// that is no peer.
    pub fn iter(self) -> impl Iterator<Item = SocketAddr> + 'a {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (family, length, tail) = match rest {
                [b'6', b':', tail @ ..] => (Family::V4, compact::V4_LENGTH, tail),
                [b'1', b'8', b':', tail @ ..] => (Family::V6, compact::V6_LENGTH, tail),
                _ => return None,
            };
            let (entry, tail) = tail.split_at_checked(length)?;
            rest = tail;
            address_of(family, entry)
        })
        .take(MAX_VALUES_IN)
    }

    /// Returns the elements of the bencoded list.
    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Appends a compact node to `out`.
pub(crate) fn push_node(id: &NodeId, address: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.0);
    compact::encode(address, out);
}

/// Appends a compact peer to the elements of a bencoded list.
pub(crate) fn push_value(address: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(if address.is_ipv4() { b"6:" } else { b"18:" });
    compact::encode(address, out);
}

/// Returns the length of a compact node, in bytes.
pub(crate) fn node_length(family: Family) -> usize {
    20 + match family {
        Family::V4 => compact::V4_LENGTH,
        Family::V6 => compact::V6_LENGTH,
    }
}

fn address_of(family: Family, bytes: &[u8]) -> Option<SocketAddr> {
    match family {
        Family::V4 => compact::decode_v4(bytes).next(),
        Family::V6 => compact::decode_v6(bytes).next(),
    }
}
