//! The extensions of both sides, and our requests for metadata.

use crate::extension::{
    ExtensionHandshake, Extensions, UT_METADATA, UT_METADATA_ID, UT_PEX, UT_PEX_ID,
};

/// How many of our requests for metadata are remembered. Beyond that the oldest is forgotten: its
/// answer counts as a useless message.
pub const MAX_METADATA_REQUESTS: usize = 64;

/// What the extension handshakes said, and which pieces of the metadata we requested.
#[derive(Debug, Default)]
pub(super) struct Negotiated {
    /// What we offered last.
    ours: Extensions,
    /// The peer's id of the metadata extension; 0 if it does not accept its messages.
    metadata: u8,
    /// The peer's id of peer exchange; 0 if it does not accept its messages.
    pex: u8,
    /// In a box, because most connections request no metadata.
    requested: Option<Box<Requested>>,
}

/// Requested and unanswered pieces of the metadata, oldest first.
#[derive(Debug)]
struct Requested {
    pieces: [u32; MAX_METADATA_REQUESTS],
    count: usize,
}

impl Requested {
    fn add(&mut self, piece: u32) {
        if self.count == self.pieces.len() {
            self.remove(0);
        }
        self.pieces[self.count] = piece;
        self.count += 1;
    }

    fn position(&self, piece: u32) -> Option<usize> {
        self.pieces[..self.count].iter().position(|requested| *requested == piece)
    }

    fn remove(&mut self, position: usize) {
        self.pieces.copy_within(position + 1..self.count, position);
        self.count -= 1;
    }
}

impl Negotiated {
    /// Records an extension handshake of ours. It may hold only changes.
    pub(super) fn offer(&mut self, handshake: &ExtensionHandshake) {
        let offers = |name, ours| handshake.messages.get(name).map(|id| *id == ours);
        self.ours.metadata = offers(UT_METADATA, UT_METADATA_ID).unwrap_or(self.ours.metadata);
        self.ours.pex = offers(UT_PEX, UT_PEX_ID).unwrap_or(self.ours.pex);
    }

    /// Records an extension handshake of the peer. It may hold only changes.
    pub(super) fn learn(&mut self, handshake: &ExtensionHandshake) {
        let id_of = |name| handshake.messages.get(name).copied();
        self.metadata = id_of(UT_METADATA).unwrap_or(self.metadata);
        self.pex = id_of(UT_PEX).unwrap_or(self.pex);
    }

    /// Whether the peer sends messages of the metadata extension under `id`.
    pub(super) fn is_metadata(&self, id: u8) -> bool {
        self.ours.metadata && id == UT_METADATA_ID
    }

    /// Whether the peer sends messages of peer exchange under `id`.
    pub(super) fn is_pex(&self, id: u8) -> bool {
        self.ours.pex && id == UT_PEX_ID
    }

    /// Returns the peer's id of the metadata extension.
    pub(super) fn metadata_id(&self) -> Option<u8> {
        Some(self.metadata).filter(|id| *id != 0)
    }

    /// Returns the peer's id of peer exchange.
    pub(super) fn pex_id(&self) -> Option<u8> {
        Some(self.pex).filter(|id| *id != 0)
    }

    /// Remembers a request of ours for a piece of the metadata.
    pub(super) fn request(&mut self, piece: u32) {
        let none = Requested { pieces: [0; MAX_METADATA_REQUESTS], count: 0 };
        self.requested.get_or_insert_with(|| Box::new(none)).add(piece);
    }

    /// Forgets the oldest request for `piece`, which is answered. Returns whether there was one.
    pub(super) fn answer(&mut self, piece: u32) -> bool {
        let Some(requested) = &mut self.requested else { return false };
        requested.position(piece).map(|position| requested.remove(position)).is_some()
    }

    /// Returns how many bytes of heap memory are held.
    pub(super) fn buffered(&self) -> usize {
        self.requested.as_ref().map_or(0, |_| size_of::<Requested>())
    }

    /// Frees the memory if there are no requests.
    pub(super) fn shrink(&mut self) {
        self.requested.take_if(|requested| requested.count == 0);
    }
}
