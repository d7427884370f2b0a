//! Datagrams of the DHT (BEP 5), written and read by hand, so that they can be wrong.

use std::net::{IpAddr, SocketAddr};

/// The id of a node.
pub(super) type Id = [u8; 20];

/// Encodes a string.
pub(super) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [bytes.len().to_string().as_bytes(), b":", bytes].concat()
}

/// Encodes a query with these arguments besides the id.
pub(super) fn query(transaction: &[u8], id: &[u8], method: &str, arguments: &[u8]) -> Vec<u8> {
    let arguments = [b"d2:id", &text(id)[..], arguments, b"e"].concat();
    query_with(transaction, method, &arguments)
}

/// Encodes a query with these arguments, which should be a dictionary.
pub(super) fn query_with(transaction: &[u8], method: &str, arguments: &[u8]) -> Vec<u8> {
    let (method, transaction) = (text(method), text(transaction));
    [b"d1:a", arguments, b"1:q", &method, b"1:t", &transaction, b"1:y1:qe"].concat()
}

/// Encodes a reply with these fields besides the id.
pub(super) fn reply(transaction: &[u8], id: &[u8], fields: &[u8]) -> Vec<u8> {
    let (id, transaction) = (text(id), text(transaction));
    [b"d1:rd2:id", &id[..], fields, b"e1:t", &transaction, b"1:y1:re"].concat()
}

/// Encodes an error.
pub(super) fn error(transaction: &[u8], code: u16) -> Vec<u8> {
    format!("d1:eli{code}e5:Wronge1:t{}:", transaction.len())
        .into_bytes()
        .into_iter()
        .chain(transaction.iter().copied())
        .chain(*b"1:y1:ee")
        .collect()
}

/// Encodes the field `nodes`.
pub(super) fn nodes(named: &[(Id, SocketAddr)]) -> Vec<u8> {
    let bytes = named.iter().map(|(id, address)| [&id[..], &compact(*address)].concat());
    [b"5:nodes".to_vec(), text(bytes.collect::<Vec<_>>().concat())].concat()
}

/// Encodes the field `values`.
pub(super) fn values(peers: &[SocketAddr]) -> Vec<u8> {
    let peers: Vec<u8> = peers.iter().flat_map(|peer| text(compact(*peer))).collect();
    [b"6:valuesl", &peers[..], b"e"].concat()
}

fn compact(address: SocketAddr) -> Vec<u8> {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [&ip[..], &address.port().to_be_bytes()].concat()
}

/// Whether a datagram has these bytes somewhere.
pub(super) fn has(datagram: &[u8], part: impl AsRef<[u8]>) -> bool {
    find(datagram, part.as_ref()).is_some()
}

/// Returns the string after the first `key`, which is encoded with its length.
pub(super) fn field<'d>(datagram: &'d [u8], key: &str) -> Option<&'d [u8]> {
    let rest = datagram.get(find(datagram, key.as_bytes())? + key.len()..)?;
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let length: usize = str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    rest.get(colon + 1..)?.get(..length)
}

/// Returns the code of an error.
pub(super) fn code(datagram: &[u8]) -> Option<u16> {
    let rest = datagram.get(find(datagram, b"1:eli")? + 5..)?;
    let end = rest.iter().position(|byte| *byte == b'e')?;
    str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// Whether a datagram is a query.
pub(super) fn is_query(datagram: &[u8]) -> bool {
    has(datagram, b"1:y1:q")
}

/// Whether a datagram is a reply.
pub(super) fn is_reply(datagram: &[u8]) -> bool {
    has(datagram, b"1:y1:r")
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
