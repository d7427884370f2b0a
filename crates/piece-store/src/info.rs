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

/// An `info` dictionary whose hash matched.
#[derive(Debug, Clone)]
pub struct CheckedInfo {
    /// The torrent.
    pub metainfo: Box<Metainfo>,
    /// The SHA-1 digest of each piece of [`INFO_PIECE_LENGTH`] bytes.
    pub digests: Vec<Sha1Digest>,
}

/// Compares the SHA-1 of `info` with the info-hash in `link`, and parses it.
pub(crate) fn check_info(link: &Magnet, info: Vec<u8>) -> Result<CheckedInfo, InfoError> {
    let digests = info.chunks(INFO_PIECE_LENGTH).map(sha1).collect();
    if sha1(&info).0 != link.info_hashes.wire().0 {
        return Err(InfoError::Hash { digests });
    }
    let metainfo = Box::new(Metainfo::from_info(info, &link.tracker_tiers(), &link.web_seeds)?);
    Ok(CheckedInfo { metainfo, digests })
}
