//! Encodes messages of the peer protocol, valid and invalid (BEP 3, 6, 10).

/// The id of choke.
pub const CHOKE: u8 = 0;
/// The id of unchoke.
pub const UNCHOKE: u8 = 1;
/// The id of interested.
pub const INTERESTED: u8 = 2;
/// The id of not interested.
pub const NOT_INTERESTED: u8 = 3;
/// The id of have.
pub const HAVE: u8 = 4;
/// The id of bitfield.
pub const BITFIELD: u8 = 5;
/// The id of request.
pub const REQUEST: u8 = 6;
/// The id of piece, which holds a block.
pub const PIECE: u8 = 7;
/// The id of cancel.
pub const CANCEL: u8 = 8;
/// The id of port (BEP 5).
pub const PORT: u8 = 9;
/// The id of suggest piece (BEP 6).
pub const SUGGEST: u8 = 13;
/// The id of have all (BEP 6).
pub const HAVE_ALL: u8 = 14;
/// The id of have none (BEP 6).
pub const HAVE_NONE: u8 = 15;
/// The id of reject request (BEP 6).
pub const REJECT: u8 = 16;
/// The id of allowed fast (BEP 6).
pub const ALLOWED_FAST: u8 = 17;
/// The id of extension messages (BEP 10).
pub const EXTENDED: u8 = 20;

/// Encodes the message `id` with this payload.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(payload.len() as u32 + 1, id);
    bytes.extend_from_slice(payload);
    bytes
}

/// Encodes the head of a message: a length, which counts the id, and the id.
pub fn head(length: u32, id: u8) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(id);
    bytes
}

/// Encodes a message of numbers, such as have, request, cancel and reject.
pub fn numbers(id: u8, numbers: &[u32]) -> Vec<u8> {
    let payload: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    message(id, &payload)
}

/// Encodes a block.
pub fn block(index: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = [index, offset].map(u32::to_be_bytes).concat();
    payload.extend_from_slice(bytes);
    message(PIECE, &payload)
}

/// Encodes the extension message `id`; 0 is the extension handshake.
pub fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    message(EXTENDED, &[&[id], payload].concat())
}
