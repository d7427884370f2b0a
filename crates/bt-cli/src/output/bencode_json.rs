//! Converts bencode to JSON: byte strings to strings if they are text, else to hex.

use bencode::{Dict, Value};
use serde_json::{Map, Value as Json, json};

/// Keys whose byte strings are never text, even if they are valid UTF-8.
const BINARY_KEYS: [&[u8]; 22] = [
    b"pieces",
    b"peers",
    b"peers6",
    b"nodes",
    b"nodes6",
    b"info_hash",
    b"peer id",
    b"peer_id",
    b"pieces root",
    b"root hash",
    b"sha1",
    b"ed2k",
    b"filehash",
    b"yourip",
    b"ipv4",
    b"ipv6",
    b"added",
    b"added.f",
    b"added6",
    b"added6.f",
    b"dropped",
    b"dropped6",
];
/// The key of a dictionary whose keys and values are digests (BEP 52).
const PIECE_LAYERS: &[u8] = b"piece layers";

/// Converts `value` to JSON. May recurse, because the parser bounds the nesting.
pub(crate) fn to_json(value: Value<'_, '_>) -> Json {
    convert(value, false)
}

fn convert(value: Value<'_, '_>, binary: bool) -> Json {
    if let Some(bytes) = value.as_bytes() {
        return bytes_json(bytes, binary);
    }
    if let Some(number) = value.as_int() {
        return number.into();
    }
    if let Some(number) = value.as_uint() {
        return number.into();
    }
    if let Some(list) = value.as_list() {
        return list.iter().map(|item| convert(item, false)).collect();
    }
    let mut object = Map::new();
    for (key, value) in value.as_dict().into_iter().flat_map(Dict::iter) {
        let layers = key == PIECE_LAYERS && value.as_dict().is_some();
        let json = if layers { digests(value) } else { convert(value, is_binary(key)) };
        object.insert(key_text(key), json);
    }
    Json::Object(object)
}

fn digests(layers: Value<'_, '_>) -> Json {
    let entries = layers.as_dict().into_iter().flat_map(Dict::iter);
    entries.map(|(key, value)| (hex_key(key), convert(value, true))).collect()
}

fn is_binary(key: &[u8]) -> bool {
    BINARY_KEYS.contains(&key)
}

fn bytes_json(bytes: &[u8], binary: bool) -> Json {
    match str::from_utf8(bytes) {
        Ok(text) if !binary => text.into(),
        _ => json!({ "hex": hex(bytes) }),
    }
}

/// Returns a dictionary's key as it is if it is text, else as `hex:` and its hex digits.
pub(crate) fn key_text(key: &[u8]) -> String {
    str::from_utf8(key).map_or_else(|_| hex_key(key), str::to_owned)
}

fn hex_key(key: &[u8]) -> String {
    format!("hex:{}", hex(key))
}

/// Returns `bytes` in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| DIGITS[usize::from(nibble)]).collect()
}
