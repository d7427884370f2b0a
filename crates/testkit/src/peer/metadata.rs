//! Serves the metadata of a torrent to peers that have a magnet link, and fetches it (BEP 9).
//! Messages are read and written by hand, so that tests check the workspace's own codec
//! independently.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::wire;
use crate::raw;

/// The length of a piece of the metadata. The last one may be shorter.
const PIECE_LENGTH: u64 = 16 * 1024;
/// The id under which we receive messages of the metadata extension. It differs from the other
/// side's, so that a test notices when they are confused.
pub(super) const OUR_ID: u8 = 3;

const REQUEST: u64 = 0;
const DATA: u64 = 1;
const REJECT: u64 = 2;

/// How a scripted peer serves the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataBehaviour {
    /// Sends what is requested.
    #[default]
    Honest,
    /// Flips one bit in this piece.
    Corrupt {
        /// The piece.
        piece: u32,
    },
    /// Flips one bit in every piece.
    Garbled {
        /// The offset of its byte in the piece.
        at: u32,
    },
    /// Claims another length in its extension handshake and its messages. Serves that many bytes,
    /// with zeros after those that it has.
    Claims {
        /// The length.
        length: i64,
    },
    /// Rejects each request.
    Rejects,
    /// Answers no request.
    Silent,
    /// Sends each piece one byte at a time.
    Dribbles {
        /// The pause between two bytes.
        pace: Duration,
    },
    /// Sends every piece before it is requested, and answers no request.
    Unasked,
    /// Sends one byte too many with each piece that is not the last.
    Oversized,
    /// Sends the first two pieces in place of each other.
    Swapped,
    /// Sends what is requested, with a further key in each dictionary, whose value looks like the
    /// end of it.
    Verbose,
}

/// What a script serves.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) info: Arc<[u8]>,
    pub(super) behaviour: MetadataBehaviour,
}

impl Served {
    /// The length that the peer claims.
    fn claimed(&self) -> i64 {
        match self.behaviour {
            MetadataBehaviour::Claims { length } => length,
            _ => self.info.len() as i64,
        }
    }

    fn count(&self) -> u32 {
        u64::try_from(self.claimed()).map_or(0, |length| length.div_ceil(PIECE_LENGTH) as u32)
    }

    /// Returns the bytes of a piece, or `None` if there is no such piece.
    fn piece(&self, piece: u32) -> Option<Vec<u8>> {
        let is_swapped = self.behaviour == MetadataBehaviour::Swapped && piece < 2;
        let piece = if is_swapped { 1 - piece } else { piece };
        let start = u64::from(piece) * PIECE_LENGTH;
        let mut end = (start + PIECE_LENGTH).min(self.claimed().try_into().ok()?);
        if start >= end {
            return None;
        }
        if self.behaviour == MetadataBehaviour::Oversized && end - start == PIECE_LENGTH {
            end += 1;
        }
        let byte = |at: u64| self.info.get(at as usize).copied().unwrap_or(0);
        let mut bytes: Vec<u8> = (start..end).map(byte).collect();
        if self.behaviour == (MetadataBehaviour::Corrupt { piece }) {
            bytes[0] ^= 1;
        }
        if let MetadataBehaviour::Garbled { at } = self.behaviour
            && let Some(byte) = bytes.get_mut(at as usize)
        {
            *byte ^= 1;
        }
        Some(bytes)
    }
}

/// Returns the extension handshake of a peer that serves the metadata, or only fetches it.
pub(super) fn handshake(served: Option<&Served>) -> Vec<u8> {
    let size = served.map(|served| format!("13:metadata_sizei{}e", served.claimed()));
    let size = size.unwrap_or_default();
    format!("d1:md11:ut_metadatai{OUR_ID}ee{size}e").into_bytes()
}

impl Connection<'_> {
    /// The other side's extension handshake came.
    pub(super) fn handle_extension_handshake(&mut self, payload: &[u8]) -> io::Result<()> {
        let Some(id) = number(payload, "11:ut_metadata") else { return Ok(()) };
        self.their_metadata_id = id as u8;
        let script = &self.shared.script;
        if let Some(served) = &script.metadata
            && served.behaviour == MetadataBehaviour::Unasked
        {
            (0..served.count()).try_for_each(|piece| self.send_metadata(served, piece))?;
        }
        if script.fetches_metadata
            && let Some(size) = number(payload, "13:metadata_size")
        {
            for piece in 0..size.div_ceil(PIECE_LENGTH) {
                self.send_metadata_message(REQUEST, piece as u32, &[])?;
            }
        }
        Ok(())
    }

    /// A message of the metadata extension came.
    pub(super) fn handle_metadata(&mut self, payload: &[u8]) -> io::Result<()> {
        let field = |key| number(payload, key).ok_or_else(|| wire::invalid(format!("no {key}")));
        let (kind, piece) = (field("8:msg_type")?, field("5:piece")? as u32);
        match kind {
            REQUEST => self.handle_metadata_request(piece),
            DATA => self.keep_metadata(piece, payload),
            REJECT => {
                self.shared.note(|seen| seen.metadata_rejects += 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_metadata_request(&mut self, piece: u32) -> io::Result<()> {
        self.shared.note(|seen| seen.metadata_requests.push(piece));
        let Some(served) = &self.shared.script.metadata else {
            return self.send_metadata_message(REJECT, piece, &[]);
        };
        match served.behaviour {
            MetadataBehaviour::Rejects => self.send_metadata_message(REJECT, piece, &[]),
            MetadataBehaviour::Silent | MetadataBehaviour::Unasked => Ok(()),
            _ => self.send_metadata(served, piece),
        }
    }

    fn send_metadata(&mut self, served: &Served, piece: u32) -> io::Result<()> {
        let Some(bytes) = served.piece(piece) else {
            return self.send_metadata_message(REJECT, piece, &[]);
        };
        let total_size = format!("10:total_sizei{}e", served.claimed());
        let message = self.metadata_message(DATA, piece, &total_size, &bytes);
        if let MetadataBehaviour::Dribbles { pace } = served.behaviour {
            for byte in message.chunks(1) {
                self.shared.wait(pace);
                self.wire.write(byte)?;
            }
        } else {
            self.wire.write(&message)?;
        }
        self.shared.note(|seen| seen.metadata_sent += 1);
        Ok(())
    }

    fn send_metadata_message(&mut self, kind: u64, piece: u32, bytes: &[u8]) -> io::Result<()> {
        let message = self.metadata_message(kind, piece, "", bytes);
        self.wire.write(&message)
    }

    fn metadata_message(&self, kind: u64, piece: u32, more: &str, bytes: &[u8]) -> Vec<u8> {
        let behaviour = self.shared.script.metadata.as_ref().map(|served| served.behaviour);
        let further = if behaviour == Some(MetadataBehaviour::Verbose) { "1:a4:eeee" } else { "" };
        let dictionary = format!("d{further}8:msg_typei{kind}e5:piecei{piece}e{more}e");
        let payload = [dictionary.as_bytes(), bytes].concat();
        raw::extended(self.their_metadata_id, &payload)
    }

    /// Keeps a piece. It follows the dictionary, which ends with the total size.
    fn keep_metadata(&mut self, piece: u32, payload: &[u8]) -> io::Result<()> {
        let total = number(payload, "10:total_size");
        let total = total.ok_or_else(|| wire::invalid("no total_size".to_owned()))?;
        let end = format!("10:total_sizei{total}ee");
        let start = find(payload, &end).map(|at| at + end.len());
        let bytes = start.and_then(|start| payload.get(start..)).unwrap_or_default();
        let mut state = self.shared.lock();
        state.metadata.insert(piece, bytes.to_vec());
        state.seen.metadata_received =
            state.metadata.values().map(|piece| piece.len() as u64).sum();
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}

/// Returns the number after `key`, which is encoded with its length.
fn number(bencoded: &[u8], key: &str) -> Option<u64> {
    let digits = bencoded.get(find(bencoded, key)? + key.len()..)?.strip_prefix(b"i")?;
    let end = digits.iter().position(|byte| *byte == b'e')?;
    str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn find(bytes: &[u8], part: &str) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part.as_bytes())
}
