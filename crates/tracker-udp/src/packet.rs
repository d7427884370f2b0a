//! The packets in both directions (BEP 15, "UDP tracker protocol"; BEP 41). All numbers are
//! big-endian. Lengths are minimums, because later versions may append fields.
//!
//! ```text
//! request   0 connection id u64    8 action u32   12 transaction id u32   16 ..
//! response  0 action u32           4 transaction id u32                    8 ..
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bt_types::{AnnounceEvent, AnnounceRequest, InfoHashV1, PeerId, compact};

/// The largest number of peers that are taken from one reply.
pub const MAX_PEERS: usize = 2_000;
/// The largest number of torrents in one scrape (BEP 15, "Scrape").
pub const MAX_SCRAPE: usize = 74;
/// The longest error message that is taken from a tracker, in bytes.
pub const MAX_MESSAGE_LENGTH: usize = 1024;

/// The value in place of the connection id in a connect request (BEP 15, "Connect").
const PROTOCOL_ID: u64 = 0x417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;
/// The number of wanted peers that leaves the choice to the tracker.
const DEFAULT_NUM_WANT: u32 = u32::MAX;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_URL_DATA: u8 = 2;

/// The family of the addresses in an announce response, which is that of the datagram (BEP 15,
/// "IPv6").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: 6 bytes per peer.
    V4,
    /// IPv6: 18 bytes per peer.
    V6,
}

/// A packet to a tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Asks for a connection id.
    Connect {
        /// A random number of the client.
        transaction_id: u32,
    },
    /// Announces.
    Announce {
        /// The id from the connect response.
        connection_id: u64,
        /// A random number of the client.
        transaction_id: u32,
        /// The announce. The packet holds `left` up to `i64::MAX`, because older trackers read it
        /// as a signed number. It holds `ip` only if it is IPv4, and no `tracker_id`.
        announce: AnnounceRequest,
        /// Path and query of the tracker's URL (BEP 41). The packet has no such option if empty.
        url_data: Vec<u8>,
    },
    /// Scrapes.
    Scrape {
        /// The id from the connect response.
        connection_id: u64,
        /// A random number of the client.
        transaction_id: u32,
        /// The torrents, at most [`MAX_SCRAPE`].
        info_hashes: Vec<InfoHashV1>,
    },
}

/// A packet from a tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// A connection id, valid for one minute.
    Connect {
        /// The request's transaction id.
        transaction_id: u32,
        /// The id for announces and scrapes.
        connection_id: u64,
    },
    /// The answer to an announce.
    Announce {
        /// The request's transaction id.
        transaction_id: u32,
        /// Seconds until the next regular announce.
        interval: u32,
        /// The number of incomplete peers.
        leechers: u32,
        /// The number of complete peers.
        seeders: u32,
        /// The peers, all of one family. At most [`MAX_PEERS`] when decoded.
        peers: Vec<SocketAddr>,
    },
    /// The answer to a scrape.
    Scrape {
        /// The request's transaction id.
        transaction_id: u32,
        /// One entry per torrent, in the order of the request. At most [`MAX_SCRAPE`] when decoded.
        counts: Vec<ScrapeCounts>,
    },
    /// The tracker refuses.
    Error {
        /// The request's transaction id.
        transaction_id: u32,
        /// The reason. When decoded it has at most [`MAX_MESSAGE_LENGTH`] bytes and no control
        /// characters.
        message: String,
    },
}

/// The counts of one torrent in a scrape response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// The number of complete peers.
    pub seeders: u32,
    /// The number of `completed` announces that the tracker received.
    pub completed: u32,
    /// The number of incomplete peers.
    pub leechers: u32,
}

/// Why bytes are not a packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Occurs when the datagram is too short.
    #[error("expected at least {expected} bytes of {what}, got {got}")]
    Short {
        /// The expected kind of packet.
        what: &'static str,
        /// The minimum length of that packet, in bytes.
        expected: usize,
        /// The length of the datagram, in bytes.
        got: usize,
    },
    /// Occurs when the action is not connect, announce or scrape, nor error in a response.
    #[error("expected an action from 0 to 3, got {got}")]
    Action {
        /// The action's number.
        got: u32,
    },
    /// Occurs when a connect request does not begin with the protocol id.
    #[error("expected the protocol id {PROTOCOL_ID:#x} in a connect request, got {got:#x}")]
    ProtocolId {
        /// The number in its place.
        got: u64,
    },
    /// Occurs when the event of an announce request is not one of BEP 15's.
    #[error("expected an event from 0 to 3, got {got}")]
    Event {
        /// The event's number.
        got: u32,
    },
}

impl Request {
    /// Returns the transaction id.
    pub fn transaction_id(&self) -> u32 {
        match self {
            Self::Connect { transaction_id }
            | Self::Announce { transaction_id, .. }
            | Self::Scrape { transaction_id, .. } => *transaction_id,
        }
    }

    /// Encodes the packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Connect { transaction_id } => encode_connect(*transaction_id),
            Self::Announce { connection_id, transaction_id, announce, url_data } => {
                encode_announce(*connection_id, *transaction_id, announce, url_data)
            }
            Self::Scrape { connection_id, transaction_id, info_hashes } => {
                encode_scrape(*connection_id, *transaction_id, info_hashes)
            }
        }
    }

    /// Decodes a request, as a tracker does. Ignores unknown and truncated options of an announce
    /// (BEP 41).
    ///
    /// # Errors
    /// The datagram is too short, or its action, event or protocol id is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        let mut fields = Fields { rest: bytes };
        let short = short("request", 16, bytes);
        let head = (fields.u64(), fields.u32(), fields.u32());
        let (Some(connection_id), Some(action), Some(transaction_id)) = head else {
            return Err(short);
        };
        match action {
            CONNECT if connection_id != PROTOCOL_ID => {
                Err(PacketError::ProtocolId { got: connection_id })
            }
            CONNECT => Ok(Self::Connect { transaction_id }),
            ANNOUNCE => {
                let announce = decode_announce_request(&mut fields, bytes)?;
                let url_data = decode_url_data(fields.rest);
                Ok(Self::Announce { connection_id, transaction_id, announce, url_data })
            }
            SCRAPE => {
                let (hashes, _) = fields.rest.as_chunks::<20>();
                let info_hashes = hashes.iter().take(MAX_SCRAPE).copied().map(InfoHashV1).collect();
                Ok(Self::Scrape { connection_id, transaction_id, info_hashes })
            }
            got => Err(PacketError::Action { got }),
        }
    }
}

pub(crate) fn encode_connect(transaction_id: u32) -> Vec<u8> {
    request_head(PROTOCOL_ID, CONNECT, transaction_id, 0)
}

pub(crate) fn encode_announce(
    connection_id: u64,
    transaction_id: u32,
    announce: &AnnounceRequest,
    url_data: &[u8],
) -> Vec<u8> {
    let left = announce.left.min(i64::MAX as u64);
    let ip = match announce.ip {
        Some(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let num_want = announce.num_want.map_or(DEFAULT_NUM_WANT, |count| count.min(i32::MAX as u32));
    let mut out = request_head(connection_id, ANNOUNCE, transaction_id, 82 + url_data.len() + 8);
    out.extend(announce.info_hash.as_bytes());
    out.extend(announce.peer_id.as_bytes());
    out.extend(announce.downloaded.to_be_bytes());
    out.extend(left.to_be_bytes());
    out.extend(announce.uploaded.to_be_bytes());
    out.extend(event_number(announce.event).to_be_bytes());
    out.extend(ip.octets());
    out.extend(announce.key.to_be_bytes());
    out.extend(num_want.to_be_bytes());
    out.extend(announce.port.to_be_bytes());
    encode_url_data(url_data, &mut out);
    out
}

pub(crate) fn encode_scrape(
    connection_id: u64,
    transaction_id: u32,
    info_hashes: &[InfoHashV1],
) -> Vec<u8> {
    let mut out = request_head(connection_id, SCRAPE, transaction_id, 20 * info_hashes.len());
    info_hashes.iter().for_each(|hash| out.extend(hash.as_bytes()));
    out
}

fn request_head(connection_id: u64, action: u32, transaction_id: u32, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + room);
    out.extend(connection_id.to_be_bytes());
    out.extend(action.to_be_bytes());
    out.extend(transaction_id.to_be_bytes());
    out
}

/// Appends URL data as options of at most 255 bytes, which the tracker joins (BEP 41, "URLData").
fn encode_url_data(url_data: &[u8], out: &mut Vec<u8>) {
    for part in url_data.chunks(usize::from(u8::MAX)) {
        out.extend([OPTION_URL_DATA, part.len() as u8]);
        out.extend(part);
    }
}

fn decode_url_data(mut options: &[u8]) -> Vec<u8> {
    let mut url_data = Vec::new();
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest) {
            (OPTION_END, _) => break,
            (OPTION_NOP, _) => rest,
            (_, [length, data @ ..]) => {
                let Some((value, rest)) = data.split_at_checked(usize::from(*length)) else {
                    break;
                };
                if *kind == OPTION_URL_DATA {
                    url_data.extend(value);
                }
                rest
            }
            (_, []) => break,
        };
    }
    url_data
}

fn decode_announce_request(
    fields: &mut Fields<'_>,
    bytes: &[u8],
) -> Result<AnnounceRequest, PacketError> {
    let (announce, event) = read_announce(fields).ok_or(short("announce request", 98, bytes))?;
    let event = event_from_number(event).ok_or(PacketError::Event { got: event })?;
    Ok(AnnounceRequest { event, ..announce })
}

fn read_announce(fields: &mut Fields<'_>) -> Option<(AnnounceRequest, u32)> {
    let info_hash = InfoHashV1(fields.array()?);
    let mut announce = AnnounceRequest::new(info_hash, PeerId(fields.array()?));
    announce.downloaded = fields.u64()?;
    announce.left = fields.u64()?;
    announce.uploaded = fields.u64()?;
    let event = fields.u32()?;
    let ip = Ipv4Addr::from(fields.array()?);
    announce.ip = (!ip.is_unspecified()).then_some(ip.into());
    announce.key = fields.u32()?;
    let num_want = fields.u32()?;
    announce.num_want = (num_want <= i32::MAX as u32).then_some(num_want);
    announce.port = fields.u16()?;
    Some((announce, event))
}

fn event_number(event: AnnounceEvent) -> u32 {
    match event {
        // BEP 15 has no number for `paused`, a partial seed.
        AnnounceEvent::None | AnnounceEvent::Paused => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    }
}

fn event_from_number(number: u32) -> Option<AnnounceEvent> {
    match number {
        0 => Some(AnnounceEvent::None),
        1 => Some(AnnounceEvent::Completed),
        2 => Some(AnnounceEvent::Started),
        3 => Some(AnnounceEvent::Stopped),
        _ => None,
    }
}

impl Response {
    /// Returns the transaction id.
    pub fn transaction_id(&self) -> u32 {
        match self {
            Self::Connect { transaction_id, .. }
            | Self::Announce { transaction_id, .. }
            | Self::Scrape { transaction_id, .. }
            | Self::Error { transaction_id, .. } => *transaction_id,
        }
    }

    /// Encodes the packet, as a tracker does.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.action().to_be_bytes());
        out.extend(self.transaction_id().to_be_bytes());
        match self {
            Self::Connect { connection_id, .. } => out.extend(connection_id.to_be_bytes()),
            Self::Announce { interval, leechers, seeders, peers, .. } => {
                encode_numbers([*interval, *leechers, *seeders], &mut out);
                peers.iter().for_each(|peer| compact::encode(*peer, &mut out));
            }
            Self::Scrape { counts, .. } => {
                for entry in counts {
                    encode_numbers([entry.seeders, entry.completed, entry.leechers], &mut out);
                }
            }
            Self::Error { message, .. } => out.extend(message.as_bytes()),
        }
        out
    }

    /// Decodes a response that came over `family`. Ignores bytes after the last complete peer or
    /// entry, because packets may grow (BEP 15, "Extensions").
    ///
    /// # Errors
    /// The datagram is too short, or its action is unknown.
    pub fn decode(bytes: &[u8], family: Family) -> Result<Self, PacketError> {
        let mut fields = Fields { rest: bytes };
        let (Some(action), Some(transaction_id)) = (fields.u32(), fields.u32()) else {
            return Err(short("response", 8, bytes));
        };
        match action {
            CONNECT => match fields.u64() {
                Some(connection_id) => Ok(Self::Connect { transaction_id, connection_id }),
                None => Err(short("connect response", 16, bytes)),
            },
            ANNOUNCE => {
                let numbers = (fields.u32(), fields.u32(), fields.u32());
                let (Some(interval), Some(leechers), Some(seeders)) = numbers else {
                    return Err(short("announce response", 20, bytes));
                };
                let peers = decode_peers(fields.rest, family);
                Ok(Self::Announce { transaction_id, interval, leechers, seeders, peers })
            }
            SCRAPE => Ok(Self::Scrape { transaction_id, counts: decode_counts(fields.rest) }),
            ERROR => Ok(Self::Error { transaction_id, message: decode_message(fields.rest) }),
            got => Err(PacketError::Action { got }),
        }
    }

    pub(crate) fn action(&self) -> u32 {
        match self {
            Self::Connect { .. } => CONNECT,
            Self::Announce { .. } => ANNOUNCE,
            Self::Scrape { .. } => SCRAPE,
            Self::Error { .. } => ERROR,
        }
    }
}

fn encode_numbers(numbers: [u32; 3], out: &mut Vec<u8>) {
    numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
}

/// Returns the transaction id of a response, or `None` if the datagram is too short to have one.
pub(crate) fn response_transaction_id(bytes: &[u8]) -> Option<u32> {
    let mut fields = Fields { rest: bytes };
    fields.u32()?;
    fields.u32()
}

fn decode_peers(bytes: &[u8], family: Family) -> Vec<SocketAddr> {
    match family {
        Family::V4 => compact::decode_v4(bytes).take(MAX_PEERS).collect(),
        Family::V6 => compact::decode_v6(bytes).take(MAX_PEERS).collect(),
    }
}

fn decode_counts(bytes: &[u8]) -> Vec<ScrapeCounts> {
    let mut fields = Fields { rest: bytes };
    let mut entry = || {
        let (seeders, completed) = (fields.u32()?, fields.u32()?);
        Some(ScrapeCounts { seeders, completed, leechers: fields.u32()? })
    };
    std::iter::from_fn(&mut entry).take(MAX_SCRAPE).collect()
}

/// Decodes a message and removes control characters. Some trackers end it with zeros.
fn decode_message(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_MESSAGE_LENGTH).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut message: String = text.chars().filter(|char| !char.is_control()).collect();
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_LENGTH));
    message
}

fn short(what: &'static str, expected: usize, bytes: &[u8]) -> PacketError {
    PacketError::Short { what, expected, got: bytes.len() }
}

/// The fields of a packet that are not decoded yet.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
