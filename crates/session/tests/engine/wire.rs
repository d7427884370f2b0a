//! Handshakes and messages of peers as bytes.

use bt_types::{InfoHashV1, PeerId};
use peer_wire::{HANDSHAKE_LENGTH, Handshake, Message, Reserved, WireRequest};

/// A handshake without extensions, by a peer whose id is `name` twenty times.
pub(crate) fn handshake(info_hash: InfoHashV1, name: u8) -> Vec<u8> {
    handshake_with(Reserved::NONE, info_hash, name)
}

pub(crate) fn handshake_with(reserved: Reserved, info_hash: InfoHashV1, name: u8) -> Vec<u8> {
    Handshake { reserved, info_hash, peer_id: PeerId([name; 20]) }.encode().to_vec()
}

pub(crate) fn wire(message: Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// A request for a block of 16 KiB.
pub(crate) fn request(index: u32, offset: u32) -> Vec<u8> {
    wire(Message::Request(WireRequest { index, offset, length: 16 << 10 }))
}

/// The messages in `sent`, without the handshake.
pub(crate) fn messages(sent: &[u8]) -> Vec<Message<'_>> {
    let mut rest = sent.get(HANDSHAKE_LENGTH..).unwrap_or_default();
    let next = || Message::decode(&mut rest).expect("a legal message");
    let messages = std::iter::from_fn(next).collect();
    assert!(rest.is_empty(), "whole messages");
    messages
}

/// The blocks in `sent`: the piece, the offset in it, and the bytes.
pub(crate) fn blocks(sent: &[u8]) -> Vec<(u32, u32, &[u8])> {
    let block = |message| match message {
        Message::Block { index, offset, bytes } => Some((index, offset, bytes)),
        _ => None,
    };
    messages(sent).into_iter().filter_map(block).collect()
}
