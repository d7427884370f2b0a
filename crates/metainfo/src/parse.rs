//! Parses bytes into a [`Metainfo`]: reads and checks every key.

mod files;

pub(crate) use files::raw_path;

use std::ops::Range;

use bencode::{Dict, KeyPath, Options, OwnedDocument, Value};
use bt_types::{Geometry, InfoHashV1, InfoHashV2, InfoHashes};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::info::InfoFields;
use crate::warning::{MAX_DUPLICATE_KEYS, warnings};
use crate::{Info, MAX_METAINFO_LENGTH, Metainfo, MetainfoError, MetainfoErrorKind as Kind, Node};

/// The length of a SHA-1 digest.
const DIGEST_LENGTH: u64 = 20;

/// The options of the bencode parser. [`crate::warning`] decides which keys may be duplicates.
pub(crate) const OPTIONS: Options =
    Options { max_duplicates: MAX_DUPLICATE_KEYS, ..Options::new() };

type Result<T> = std::result::Result<T, MetainfoError>;

/// Parses a `.torrent` file. `hash` is the SHA-1 of its `info` dictionary, if it is known.
pub(crate) fn torrent(bytes: Vec<u8>, hash: Option<InfoHashV1>) -> Result<Metainfo> {
    if bytes.len() > MAX_METAINFO_LENGTH {
        return Err(too_long(bytes.len()));
    }
    let length = bytes.len();
    let document = OwnedDocument::parse_prefix(bytes, OPTIONS)?;
    let root = document.root();
    let keys = root.as_dict().ok_or_else(|| MetainfoError::wrong_kind(root, "a dictionary"))?;
    let info = keys.get("info").ok_or_else(|| MetainfoError::missing(root, "info"))?;
    let warnings = warnings(&document, length - document.bytes().len())?;
    let fields = info_fields(info, hash)?;
    Ok(Metainfo {
        warnings,
        trackers: trackers(keys),
        web_seeds: web_seeds(keys),
        nodes: nodes(keys),
        comment: text(keys, "comment.utf-8").or_else(|| text(keys, "comment")),
        created_by: text(keys, "created by.utf-8").or_else(|| text(keys, "created by")),
        creation_date: keys.get("creation date").and_then(Value::as_int),
        encoding: text(keys, "encoding"),
        info: Info { document, fields },
    })
}

pub(crate) fn too_long(got: usize) -> MetainfoError {
    let kind = Kind::TooLong { limit: MAX_METAINFO_LENGTH, got };
    MetainfoError { kind, offset: 0, path: KeyPath::root() }
}

fn info_fields(info: Value<'_, '_>, hash: Option<InfoHashV1>) -> Result<InfoFields> {
    let keys = info.as_dict().ok_or_else(|| MetainfoError::wrong_kind(info, "a dictionary"))?;
    let hashes = info_hashes(info, keys, hash)?;
    let name = name(info, keys)?.as_bytes().unwrap_or_default();
    let files = files::read(info, keys, name, hashes.wire())?;
    let geometry = geometry(info, keys, files.total())?;
    Ok(InfoFields {
        hashes,
        name: String::from_utf8_lossy(name).into_owned(),
        geometry,
        pieces: pieces(info, keys, geometry)?,
        files,
        private: is_private(keys),
        source: text(keys, "source"),
    })
}

/// Returns whether any value of `private` says so. A duplicate key must not make a private torrent
/// public.
fn is_private(keys: Dict<'_, '_>) -> bool {
    keys.iter().any(|(key, value)| key == b"private" && value.as_int() != Some(0))
}

/// Returns the SHA-1 of an `info` dictionary.
pub(crate) fn v1_hash(info: &[u8]) -> InfoHashV1 {
    InfoHashV1(Sha1::digest(info).into())
}

/// Returns the digests of the raw bytes; `hash` is the SHA-1, if it is known. Checks the version
/// first, so that a torrent of a later version is not reported as malformed (BEP 52).
fn info_hashes(
    info: Value<'_, '_>,
    keys: Dict<'_, '_>,
    hash: Option<InfoHashV1>,
) -> Result<InfoHashes> {
    let has_v1 = keys.get("pieces").is_some();
    let v1 = || hash.unwrap_or_else(|| v1_hash(info.raw()));
    match keys.get("meta version").map(|version| (version, version.as_int())) {
        Some((_, Some(2))) if has_v1 => {
            Ok(InfoHashes::Hybrid(v1(), InfoHashV2(Sha256::digest(info.raw()).into())))
        }
        Some((version, Some(2))) => Err(MetainfoError::at(version, Kind::OnlyV2)),
        Some((version, Some(got))) if got > 2 && !has_v1 => {
            Err(MetainfoError::at(version, Kind::Version { got }))
        }
        _ => Ok(InfoHashes::V1(v1())),
    }
}

/// Returns the value of `name.utf-8` if it is a text that is not empty, else that of `name`.
pub(crate) fn name<'a, 'd>(info: Value<'a, 'd>, keys: Dict<'a, 'd>) -> Result<Value<'a, 'd>> {
    let in_utf8 =
        keys.get("name.utf-8").filter(|name| name.as_str().is_some_and(|s| !s.is_empty()));
    let name = in_utf8.or_else(|| keys.get("name"));
    let name = name.ok_or_else(|| MetainfoError::missing(info, "name"))?;
    match name.as_bytes() {
        Some(_) => Ok(name),
        None => Err(MetainfoError::wrong_kind(name, "a byte string")),
    }
}

fn geometry(info: Value<'_, '_>, keys: Dict<'_, '_>, total: u64) -> Result<Geometry> {
    let value = required(info, keys, "piece length")?;
    let piece_length = length(value)?;
    Geometry::new(total, piece_length).map_err(|error| MetainfoError::at(value, error))
}

/// Returns the range of the document that has the piece hashes.
fn pieces(info: Value<'_, '_>, keys: Dict<'_, '_>, geometry: Geometry) -> Result<Range<usize>> {
    let value = required(info, keys, "pieces")?;
    let hashes =
        value.as_bytes().ok_or_else(|| MetainfoError::wrong_kind(value, "a byte string"))?;
    let expected = u64::from(geometry.piece_count()) * DIGEST_LENGTH;
    let got = hashes.len() as u64;
    if got != expected {
        let kind = Kind::PiecesLength { expected, total: geometry.total(), got };
        return Err(MetainfoError::at(value, kind));
    }
    let end = value.offset() + value.raw().len();
    Ok(end - hashes.len()..end)
}

fn required<'a, 'd>(
    dict: Value<'a, 'd>,
    keys: Dict<'a, 'd>,
    key: &'static str,
) -> Result<Value<'a, 'd>> {
    keys.get(key).ok_or_else(|| MetainfoError::missing(dict, key))
}

/// Reads a length in bytes.
fn length(value: Value<'_, '_>) -> Result<u64> {
    if let Some(length) = value.as_uint() {
        return Ok(length);
    }
    match value.as_int() {
        Some(got) => Err(MetainfoError::at(value, Kind::NegativeLength { got })),
        None => Err(MetainfoError::wrong_kind(value, "an integer")),
    }
}

/// Returns the text of `key`, if there is one, with `U+FFFD` for bytes that are not UTF-8.
fn text(keys: Dict<'_, '_>, key: &str) -> Option<String> {
    let bytes = keys.get(key)?.as_bytes()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// Returns the tiers of `announce-list` if it has any tracker, else `announce` (BEP 12).
fn trackers(keys: Dict<'_, '_>) -> Vec<Vec<String>> {
    let tiers = keys.get("announce-list").and_then(Value::as_list);
    let tiers = tiers.into_iter().flatten().map(urls);
    let tiers = distinct(tiers);
    if !tiers.is_empty() {
        return tiers;
    }
    distinct(keys.get("announce").map(urls).into_iter())
}

/// Keeps the first occurrence of each URL, and the tiers that are not empty.
pub(crate) fn distinct(tiers: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut seen = std::collections::BTreeSet::new();
    let distinct = tiers.map(|mut tier| {
        tier.retain(|url| seen.insert(url.clone()));
        tier
    });
    distinct.filter(|tier| !tier.is_empty()).collect()
}

/// Returns the URLs of a value that is a URL or a list of URLs. Torrents use both forms in every
/// such key.
fn urls(value: Value<'_, '_>) -> Vec<String> {
    let one = value.as_str().into_iter();
    let several = value.as_list().into_iter().flatten().filter_map(Value::as_str);
    let urls = one.chain(several).map(str::trim).filter(|url| !url.is_empty());
    urls.map(str::to_owned).collect()
}

/// Returns the URLs of `url-list` (BEP 19).
fn web_seeds(keys: Dict<'_, '_>) -> Vec<String> {
    distinct(keys.get("url-list").map(urls).into_iter()).concat()
}

/// Returns the valid nodes of `nodes`: a list of lists of a host and a port (BEP 5).
fn nodes(keys: Dict<'_, '_>) -> Vec<Node> {
    let nodes = keys.get("nodes").and_then(Value::as_list).into_iter().flatten();
    nodes.filter_map(node).collect()
}

fn node(value: Value<'_, '_>) -> Option<Node> {
    let mut elements = value.as_list()?.iter();
    let host = elements.next()?.as_str().filter(|host| !host.is_empty())?.to_owned();
    let port = elements.next()?.as_uint()?.try_into().ok().filter(|port| *port != 0)?;
    Some(Node { host, port })
}

#[cfg(test)]
mod tests;
