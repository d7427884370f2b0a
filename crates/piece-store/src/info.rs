//! Checks an `info` dictionary that came from peers (BEP 9).

use bt_types::{BLOCK_LENGTH, Sha1Digest};
use metainfo::{Magnet, Metainfo, MetainfoError};
use piece_hash::sha1;

/// The length of a piece of an `info` dictionary in bytes; the last one may be shorter (BEP 9).
pub const INFO_PIECE_LENGTH: usize = BLOCK_LENGTH as usize;

/// Why an `info` dictionary is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InfoError {
    /// Occurs when its bytes have another info-hash.
    #[error("the metadata does not match the info-hash")]
    Hash {
        /// The SHA-1 digest of each piece of [`INFO_PIECE_LENGTH`] bytes.
        digests: Vec<Sha1Digest>,
    },
    /// Occurs when the bytes have the info-hash and are no torrent that this program can transfer.
    #[error(transparent)]
    Torrent(#[from] MetainfoError),
}

/// Parses `info` if it has the info-hash of `link`.
pub(crate) fn check_info(link: &Magnet, info: &[u8]) -> Result<Box<Metainfo>, InfoError> {
    let metainfo = Metainfo::from_link(info, link)?;
    metainfo.map(Box::new).ok_or_else(|| InfoError::Hash { digests: info_digests(info) })
}

/// Returns the SHA-1 digest of each piece of [`INFO_PIECE_LENGTH`] bytes.
pub fn info_digests(info: &[u8]) -> Vec<Sha1Digest> {
    info.chunks(INFO_PIECE_LENGTH).map(sha1).collect()
}
