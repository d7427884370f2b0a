//! Messages of the peer protocol written by hand, right ones and wrong ones (BEP 3, 6, 10).

/// No requests are answered from now on.
pub const CHOKE: u8 = 0;
/// Requests are answered from now on.
pub const UNCHOKE: u8 = 1;
/// The other side has what we want.
pub const INTERESTED: u8 = 2;
/// The other side has nothing we want.
pub const NOT_INTERESTED: u8 = 3;
/// One more piece is here.
pub const HAVE: u8 = 4;
/// Which pieces are here.
pub const BITFIELD: u8 = 5;
/// A block is wanted.
pub const REQUEST: u8 = 6;
/// A block.
pub const PIECE: u8 = 7;
/// A block is wanted no more.
pub const CANCEL: u8 = 8;
/// Where the DHT node is (BEP 5).
pub const PORT: u8 = 9;
/// A piece is recommended (BEP 6).
pub const SUGGEST: u8 = 13;
/// Every piece is here (BEP 6).
pub const HAVE_ALL: u8 = 14;
/// No piece is here (BEP 6).
pub const HAVE_NONE: u8 = 15;
/// A request is not answered (BEP 6).
pub const REJECT: u8 = 16;
/// A piece is sent even to a choked peer (BEP 6).
pub const ALLOWED_FAST: u8 = 17;
/// A message of the extension protocol (BEP 10).
pub const EXTENDED: u8 = 20;

/// The message `id` with this payload.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(payload.len() as u32 + 1, id);
    bytes.extend_from_slice(payload);
    bytes
}

/// Only the beginning of a message: a length, which counts the id, and the id.
pub fn head(length: u32, id: u8) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(id);
    bytes
}

/// A message of numbers, such as HAVE, REQUEST, CANCEL, REJECT.
pub fn numbers(id: u8, numbers: &[u32]) -> Vec<u8> {
    let payload: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    message(id, &payload)
}

/// A block.
pub fn block(index: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = [index, offset].map(u32::to_be_bytes).concat();
    payload.extend_from_slice(bytes);
    message(PIECE, &payload)
}

/// The message `id` of the extension protocol; 0 is its handshake.
pub fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    message(EXTENDED, &[&[id], payload].concat())
}
