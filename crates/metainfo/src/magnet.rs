//! Magnet links: the info-hash of a torrent and hints for finding its peers (BEP 9, BEP 53).
//!
//! ```text
//! magnet:?xt=urn:btih:HASH&xt=urn:btmh:1220HASH&dn=NAME&tr=TRACKER&ws=WEB-SEED&x.pe=PEER&dht=NODE&so=0,2-4&xl=SIZE
//! ```

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bt_types::{InfoHashV1, InfoHashV2, InfoHashes};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The longest magnet link, in bytes.
pub const MAX_MAGNET_LENGTH: usize = 64 * 1024;

/// The characters to encode in a value: all but the unreserved ones of URLs.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The start of a multihash that is a SHA-256: the code of the digest, and its length of 32 bytes.
const SHA256_PREFIX: &str = "1220";

/// A magnet link.
///
/// ```
/// use metainfo::Magnet;
///
/// let magnet: Magnet = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567\
///                       &dn=a+name&tr=udp%3A%2F%2Ftracker.example%3A6969&so=0,2-4".parse()?;
/// assert_eq!(magnet.name.as_deref(), Some("a name"));
/// assert_eq!(magnet.trackers, ["udp://tracker.example:6969"]);
/// assert!(magnet.selects(3) && !magnet.selects(1));
/// # Ok::<(), metainfo::MagnetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Magnet {
    /// `xt`: the info-hash, or both of a hybrid torrent.
    pub info_hashes: InfoHashes,
    /// `dn`: a name to display until the real one is known.
    pub name: Option<String>,
    /// `tr`: tracker URLs.
    pub trackers: Vec<String>,
    /// `ws`: URLs of servers that have the data (BEP 19).
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers, as `host:port`, `1.2.3.4:port` or `[ipv6]:port`.
    pub peers: Vec<String>,
    /// `dht`: DHT nodes to ask, in the forms of `peers`. libtorrent defined it.
    pub dht_nodes: Vec<String>,
    /// `so`: the indices of the selected files; every file if empty (BEP 53).
    pub select_only: Vec<RangeInclusive<u32>>,
    /// `xl`: the size of the data in bytes.
    pub length: Option<u64>,
}

/// Why a text is not a magnet link of a torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// Occurs when the link is longer than [`MAX_MAGNET_LENGTH`].
    #[error("expected a magnet link of at most {MAX_MAGNET_LENGTH} bytes, got {got}")]
    TooLong {
        /// The length of the link.
        got: usize,
    },
    /// Occurs when the text does not start with `magnet:?`.
    #[error("expected a link that starts with 'magnet:?'")]
    NotMagnet,
    /// Occurs when the link has neither `xt=urn:btih:` nor `xt=urn:btmh:`.
    #[error("expected the info-hash of a torrent (xt=urn:btih:...), got none")]
    NoInfoHash,
    /// Occurs when a v1 info-hash is malformed.
    #[error("expected an info-hash of 40 hexadecimal or 32 base32 digits, got {got:?}")]
    InfoHash {
        /// The malformed text.
        got: String,
    },
    /// Occurs when a v2 info-hash is malformed.
    #[error("expected '1220' and an info-hash of 64 hexadecimal digits, got {got:?}")]
    InfoHashV2 {
        /// The malformed text.
        got: String,
    },
    /// Occurs when the link has two different info-hashes of one version.
    #[error("expected one torrent, got the info-hashes of two")]
    SeveralTorrents,
    /// Occurs when `so` is not a list of file indices and ranges of them.
    #[error("expected file numbers like 0,2,4-6, got {got:?}")]
    Selection {
        /// The malformed text.
        got: String,
    },
}

impl Magnet {
    /// Makes a link with nothing but the info-hash.
    pub fn new(info_hashes: InfoHashes) -> Self {
        Self {
            info_hashes,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            dht_nodes: Vec::new(),
            select_only: Vec::new(),
            length: None,
        }
    }

    /// Makes a link from a bare info-hash of 40 hexadecimal or 32 base32 digits. Returns `None` for
    /// any other text.
    pub fn from_bare_hash(text: &str) -> Option<Self> {
        parse_v1(text).map(|hash| Self::new(InfoHashes::V1(hash)))
    }

    /// Returns the trackers as [`Metainfo::from_info`](crate::Metainfo::from_info) takes them: each
    /// is a tier of its own, so that each is asked (BEP 12).
    pub fn tracker_tiers(&self) -> Vec<Vec<String>> {
        self.trackers.iter().map(|url| vec![url.clone()]).collect()
    }

    /// Returns whether the link selects file `index`.
    pub fn selects(&self, index: u32) -> bool {
        self.select_only.is_empty() || self.select_only.iter().any(|range| range.contains(&index))
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    /// Parses a link. Ignores unknown parameters, and hints (`x.pe`, `dht`, `xl`) that are
    /// malformed.
    fn from_str(text: &str) -> Result<Self, MagnetError> {
        let text = text.trim();
        if text.len() > MAX_MAGNET_LENGTH {
            return Err(MagnetError::TooLong { got: text.len() });
        }
        let query = strip_prefix(text, "magnet:?").ok_or(MagnetError::NotMagnet)?;
        let parameters = || query.split('&').map(parameter);
        let mut magnet = Self::new(info_hashes(parameters())?);
        for (name, value) in parameters() {
            magnet.add(&name, value)?;
        }
        Ok(magnet)
    }
}

impl Magnet {
    fn add(&mut self, name: &str, value: &str) -> Result<(), MagnetError> {
        match name {
            "dn" if self.name.is_none() => self.name = Some(decoded(&value.replace('+', " "))),
            "tr" => add_distinct(&mut self.trackers, value),
            "ws" => add_distinct(&mut self.web_seeds, value),
            "x.pe" if has_port(decoded(value).trim()) => add_distinct(&mut self.peers, value),
            "dht" if has_port(decoded(value).trim()) => add_distinct(&mut self.dht_nodes, value),
            "so" => self.select_only.extend(selection(decoded(value).trim())?),
            "xl" => self.length = parse_length(&decoded(value)).or(self.length),
            _ => {}
        }
        Ok(())
    }
}

/// Returns the name and the value of a parameter. The name of `tr.1` is `tr`, because some programs
/// number their parameters.
fn parameter(pair: &str) -> (String, &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = match key.rsplit_once('.') {
        Some((name, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => key,
    };
    (name.to_ascii_lowercase(), value)
}

/// Returns the info-hashes of the `xt` parameters. Ignores those of other networks, which links may
/// also have.
fn info_hashes<'a>(
    parameters: impl Iterator<Item = (String, &'a str)>,
) -> Result<InfoHashes, MagnetError> {
    let (mut v1, mut v2) = (None, None);
    for (_, topic) in parameters.filter(|(name, _)| name == "xt") {
        let topic = decoded(topic);
        if let Some(hash) = strip_prefix(topic.trim(), "urn:btih:") {
            let hash = parse_v1(hash).ok_or_else(|| MagnetError::InfoHash { got: hash.into() })?;
            set_once(&mut v1, hash)?;
        } else if let Some(hash) = strip_prefix(topic.trim(), "urn:btmh:") {
            let hash =
                parse_v2(hash).ok_or_else(|| MagnetError::InfoHashV2 { got: hash.into() })?;
            set_once(&mut v2, hash)?;
        }
    }
    match (v1, v2) {
        (Some(v1), Some(v2)) => Ok(InfoHashes::Hybrid(v1, v2)),
        (Some(v1), None) => Ok(InfoHashes::V1(v1)),
        (None, Some(v2)) => Ok(InfoHashes::V2(v2)),
        (None, None) => Err(MagnetError::NoInfoHash),
    }
}

fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn add_distinct(list: &mut Vec<String>, value: &str) {
    let text = decoded(value).trim().to_owned();
    if !text.is_empty() && !list.contains(&text) {
        list.push(text);
    }
}

fn set_once<T: Copy + PartialEq>(slot: &mut Option<T>, hash: T) -> Result<(), MagnetError> {
    match slot.replace(hash) {
        Some(before) if *slot != Some(before) => Err(MagnetError::SeveralTorrents),
        _ => Ok(()),
    }
}

fn parse_v1(text: &str) -> Option<InfoHashV1> {
    match text.len() {
        32 => base32(text).map(InfoHashV1),
        _ => text.parse().ok(),
    }
}

fn parse_v2(text: &str) -> Option<InfoHashV2> {
    strip_prefix(text, SHA256_PREFIX)?.parse().ok()
}

/// Decodes 32 digits of 5 bits each into 20 bytes (RFC 4648, section 6).
fn base32(text: &str) -> Option<[u8; 20]> {
    let mut hash = [0; 20];
    let (groups, rest) = text.as_bytes().as_chunks::<8>();
    if groups.len() != hash.len() / 5 || !rest.is_empty() {
        return None;
    }
    for (bytes, digits) in hash.chunks_exact_mut(5).zip(groups) {
        let value = |number, digit: &u8| Some(number << 5 | base32_digit(*digit)?);
        let number: u64 = digits.iter().try_fold(0, value)?;
        bytes.copy_from_slice(&number.to_be_bytes()[3..]);
    }
    Some(hash)
}

fn base32_digit(digit: u8) -> Option<u64> {
    match digit.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => Some(u64::from(letter - b'A')),
        number @ b'2'..=b'7' => Some(u64::from(number - b'2') + 26),
        _ => None,
    }
}

/// Returns whether `text` is a host and a port other than 0.
fn has_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_fits = !host.is_empty() && (bracketed || !host.contains(':'));
    host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Returns a size in bytes. No torrent is empty, so 0 stands for an unknown one.
fn parse_length(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|length| *length > 0)
}

fn selection(text: &str) -> Result<Vec<RangeInclusive<u32>>, MagnetError> {
    let ranges = text.split(',').filter(|range| !range.is_empty());
    let ranges: Option<Vec<_>> = ranges.map(range).collect();
    ranges.ok_or_else(|| MagnetError::Selection { got: text.to_owned() })
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info_hashes {
            InfoHashes::V1(v1) => write!(f, "magnet:?xt=urn:btih:{v1}")?,
            InfoHashes::V2(v2) => write!(f, "magnet:?xt=urn:btmh:{SHA256_PREFIX}{v2}")?,
            InfoHashes::Hybrid(v1, v2) => {
                write!(f, "magnet:?xt=urn:btih:{v1}&xt=urn:btmh:{SHA256_PREFIX}{v2}")?;
            }
        }
        write_parameters(f, "dn", self.name.as_slice())?;
        if let Some(length) = self.length {
            write!(f, "&xl={length}")?;
        }
        write_parameters(f, "tr", &self.trackers)?;
        write_parameters(f, "ws", &self.web_seeds)?;
        write_parameters(f, "x.pe", &self.peers)?;
        write_parameters(f, "dht", &self.dht_nodes)?;
        for (position, range) in self.select_only.iter().enumerate() {
            f.write_str(if position == 0 { "&so=" } else { "," })?;
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

fn write_parameters(f: &mut fmt::Formatter<'_>, key: &str, values: &[String]) -> fmt::Result {
    values.iter().try_for_each(|value| write!(f, "&{key}={}", utf8_percent_encode(value, ENCODED)))
}

#[cfg(test)]
mod tests;
