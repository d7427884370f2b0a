//! The position in the peer's stream: the incomplete head, and the rest of the payload.

use crate::frame::{self, FrameError, Head, MAX_HEAD};
use crate::handshake::HANDSHAKE_LENGTH;
use bt_types::BlockRequest;

/// The incomplete handshake or frame head, and the body that is being read.
#[derive(Debug)]
pub(super) struct Inbound {
    bytes: [u8; HANDSHAKE_LENGTH],
    filled: u8,
    pub(super) body: Body,
}

const _: () = assert!(MAX_HEAD <= HANDSHAKE_LENGTH && HANDSHAKE_LENGTH <= u8::MAX as usize);

/// The rest of the current frame.
#[derive(Debug, Default)]
pub(super) enum Body {
    /// Nothing. A head comes next.
    #[default]
    None,
    /// A block that we requested, from `offset` on.
    Block { request: BlockRequest, offset: u32 },
    /// A bitfield of `length` bytes, from `offset` on.
    Bitfield { offset: u32, length: u32 },
    /// An extension message, of which `left` bytes are missing.
    Extended { id: u8, payload: Vec<u8>, left: u32 },
    /// `left` bytes to ignore.
    Skip { left: u32 },
}

impl Default for Inbound {
    fn default() -> Self {
        Self { bytes: [0; HANDSHAKE_LENGTH], filled: 0, body: Body::None }
    }
}

impl Inbound {
    /// Takes bytes of a handshake. Returns all its bytes so far.
    pub(super) fn take_handshake(&mut self, input: &mut &[u8]) -> &[u8] {
        self.fill(HANDSHAKE_LENGTH, input);
        self.so_far()
    }

    /// Takes the handshake if it is complete.
    pub(super) fn finish_handshake(&mut self) -> Option<[u8; HANDSHAKE_LENGTH]> {
        let complete = usize::from(self.filled) == HANDSHAKE_LENGTH;
        complete.then(|| {
            self.filled = 0;
            self.bytes
        })
    }

    /// Takes the head of a frame. Returns `None` and keeps the bytes if it is incomplete.
    pub(super) fn take_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, FrameError> {
        loop {
            let needed = frame::head_length(self.so_far())?;
            if needed == usize::from(self.filled) {
                let head = frame::decode_head(self.so_far());
                self.filled = 0;
                return Ok(Some(head));
            }
            if !self.fill(needed, input) {
                return Ok(None);
            }
        }
    }

    /// Returns how many bytes of heap memory are held.
    pub(super) fn buffered(&self) -> usize {
        match &self.body {
            Body::Extended { payload, .. } => payload.capacity(),
            _ => 0,
        }
    }

    fn so_far(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.filled)).unwrap_or_default()
    }

    /// Fills the buffer up to `needed` bytes. Returns whether it has that many.
    fn fill(&mut self, needed: usize, input: &mut &[u8]) -> bool {
        let filled = usize::from(self.filled);
        let missing = needed.saturating_sub(filled);
        let bytes = take(input, missing);
        if let Some(room) = self.bytes.get_mut(filled..filled + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.filled += bytes.len() as u8;
        bytes.len() == missing
    }
}

/// Takes up to `limit` bytes from the front of `input`.
pub(super) fn take<'a>(input: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(limit.min(input.len()));
    *input = rest;
    taken
}

/// Appends `bytes` to `payload`, of which `left` bytes are missing after that. The capacity is at
/// most twice the bytes that came, and never more than the whole payload.
pub(super) fn append(payload: &mut Vec<u8>, bytes: &[u8], left: usize) {
    let length = payload.len() + bytes.len();
    if length > payload.capacity() {
        let whole = length + left;
        payload.reserve_exact(whole.min(length * 2) - payload.len());
    }
    payload.extend_from_slice(bytes);
}
