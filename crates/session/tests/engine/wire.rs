//! Messages of peers as bytes (BEP 3).

use bt_types::InfoHashV1;

/// A handshake without extensions, by a peer whose id is `name` twenty times.
pub(crate) fn handshake(info_hash: InfoHashV1, name: u8) -> Vec<u8> {
    handshake_of(info_hash, [name; 20])
}

pub(crate) fn handshake_of(info_hash: InfoHashV1, peer_id: [u8; 20]) -> Vec<u8> {
    let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(info_hash.as_bytes());
    bytes.extend_from_slice(&peer_id);
    bytes
}

/// The same by a peer that speaks the Fast extension.
pub(crate) fn fast_handshake(info_hash: InfoHashV1, name: u8) -> Vec<u8> {
    let mut bytes = handshake(info_hash, name);
    bytes[27] |= 4;
    bytes
}

/// The same by a peer that speaks the extension protocol.
pub(crate) fn extended_handshake(info_hash: InfoHashV1, name: u8) -> Vec<u8> {
    let mut bytes = handshake(info_hash, name);
    bytes[25] |= 0x10;
    bytes
}

pub(crate) fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(id);
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) const CHOKE: u8 = 0;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;
pub(crate) const CANCEL: u8 = 8;

pub(crate) fn block(piece: u32, offset: u32, length: u32) -> Vec<u8> {
    [piece, offset, length].map(u32::to_be_bytes).concat()
}

/// The messages in `bytes`, without the handshake.
pub(crate) fn messages(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = bytes.get(68..).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*head) as usize;
        let (message, after) = after.split_at_checked(length).expect("whole messages");
        if let Some((id, payload)) = message.split_first() {
            found.push((*id, payload.to_vec()));
        }
        rest = after;
    }
    found
}

/// The number of messages of a kind.
pub(crate) fn count(bytes: &[u8], id: u8) -> usize {
    messages(bytes).iter().filter(|(kind, _)| *kind == id).count()
}
