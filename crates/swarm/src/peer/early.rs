//! What a peer says before the geometry is known. The transfer applies it when it starts.

use bt_types::{Bitfield, MAX_PIECE_COUNT};

use crate::vocabulary::DisconnectReason;

/// The most bytes that the early bitfields of all peers of a swarm take.
pub(crate) const MAX_EARLY_BYTES: usize = 1 << 20;
/// The most early allowed-fast pieces kept for a peer (BEP 6 proposes 10).
const MAX_EARLY_FAST: usize = 32;

/// What one peer said.
#[derive(Debug, Default)]
pub(crate) struct EarlyMessages {
    pub(crate) pieces: EarlyPieces,
    pub(crate) unchoked: bool,
    pub(crate) interested: bool,
    pub(crate) allowed_fast: Vec<u32>,
    /// How many requests it keeps.
    pub(crate) request_limit: Option<u32>,
}

/// The pieces that a peer said it has.
#[derive(Debug, Default)]
pub(crate) enum EarlyPieces {
    #[default]
    Nothing,
    All,
    Some(EarlyBitfield),
}

/// A bitfield of unknown length, in the order of the wire.
#[derive(Debug, Default)]
pub(crate) struct EarlyBitfield {
    bytes: Vec<u8>,
    /// The length of the bitfield message so far; `None` if there were only haves.
    received: Option<usize>,
}

impl EarlyMessages {
    /// Keeps a part of a bitfield. Returns whether it continues the parts before it.
    pub(crate) fn handle_bitfield(&mut self, offset: usize, bytes: &[u8]) -> bool {
        if offset == 0 {
            self.pieces = EarlyPieces::Some(EarlyBitfield::default());
        }
        let EarlyPieces::Some(bits) = &mut self.pieces else { return false };
        if bits.received.unwrap_or_default() != offset {
            return false;
        }
        bits.bytes.extend_from_slice(bytes);
        bits.received = Some(offset + bytes.len());
        true
    }

    /// Adds a piece. Returns whether a torrent may have as many pieces as that.
    pub(crate) fn handle_have(&mut self, index: u32) -> bool {
        if index >= MAX_PIECE_COUNT {
            return false;
        }
        if matches!(self.pieces, EarlyPieces::Nothing) {
            self.pieces = EarlyPieces::Some(EarlyBitfield::default());
        }
        if let EarlyPieces::Some(bits) = &mut self.pieces {
            bits.insert(index);
        }
        true
    }

    pub(crate) fn handle_allowed_fast(&mut self, index: u32) {
        if self.allowed_fast.len() < MAX_EARLY_FAST {
            self.allowed_fast.push(index);
        }
    }

    /// Returns the bytes that its pieces take.
    pub(crate) fn length(&self) -> usize {
        match &self.pieces {
            EarlyPieces::Nothing | EarlyPieces::All => 0,
            EarlyPieces::Some(bits) => bits.bytes.len(),
        }
    }
}

impl EarlyBitfield {
    fn insert(&mut self, index: u32) {
        let byte = index as usize / 8;
        if self.bytes.len() <= byte {
            self.bytes.resize(byte + 1, 0);
        }
        self.bytes[byte] |= 0x80 >> (index % 8);
    }

    /// Returns the bitfield of a torrent of `pieces`.
    ///
    /// # Errors
    /// The bitfield has another length, or names a piece after the last.
    pub(crate) fn finish(mut self, pieces: u32) -> Result<Bitfield, DisconnectReason> {
        let expected = Bitfield::byte_length(pieces);
        if self.received.is_some_and(|received| received != expected) {
            return Err(DisconnectReason::BadBitfield);
        }
        if self.received.is_some()
            && let Some(last) = self.bytes.last_mut()
        {
            // As on the wire later, spare bits of a bitfield count for nothing.
            *last &= !Bitfield::spare_mask(pieces);
        }
        if self.bytes.len() < expected {
            self.bytes.resize(expected, 0);
        }
        Bitfield::from_bytes(&self.bytes, pieces).map_err(|_| DisconnectReason::BadBitfield)
    }
}
