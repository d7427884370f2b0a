//! What to open, and what was found when it was opened.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bt_types::{Bitfield, PieceIndex, Sha1Digest};
use metainfo::{Metainfo, Naming};

use crate::{OsFile, Span, StoreError};

/// How a torrent's bytes are laid out on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLayout {
    /// The torrent's files below the folder.
    Torrent,
    /// One piece as a file of its own: a temporary file beside `output`, which a sync renames to
    /// `output` once the piece is verified. There is no journal, and no other piece is wanted.
    SinglePiece {
        /// The piece.
        piece: PieceIndex,
        /// The final file.
        output: PathBuf,
    },
}

/// Which torrent to open, where, and how.
#[derive(Debug, Clone)]
pub struct OpenSpec {
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// The download folder. Made if it is missing, unless `seed_only`. Not used with
    /// [`StoreLayout::SinglePiece`].
    pub folder: PathBuf,
    /// How the bytes are laid out.
    pub layout: StoreLayout,
    /// Which files are wanted, one entry for each file of the torrent; `None` for all. Files past
    /// the end of the list are wanted.
    pub selected: Option<Vec<bool>>,
    /// The folder of the journals, made if missing. With `None` there is no journal: everything on
    /// disk is verified at each start, and the torrent is not locked.
    pub state_dir: Option<PathBuf>,
    /// Whether the journal of an earlier launch is trusted. If not, everything in the files of the
    /// torrent is verified, and bytes of unselected files in the parts file are not found.
    pub resume: bool,
    /// Whether disk space is reserved for all wanted files at the start. If not, files are sparse.
    pub preallocate: bool,
    /// Whether unrelated files with the names of wanted ones may be overwritten. Files that other
    /// torrents claim never are, while those torrents are in use.
    pub overwrite: bool,
    /// Whether the torrent is only seeded: no payload is written, and no file or folder is made.
    pub seed_only: bool,
}

impl OpenSpec {
    /// All files of `metainfo` below `folder`, sparse, without a journal.
    pub fn new(metainfo: Arc<Metainfo>, folder: impl Into<PathBuf>) -> Self {
        Self {
            metainfo,
            folder: folder.into(),
            layout: StoreLayout::Torrent,
            selected: None,
            state_dir: None,
            resume: true,
            preallocate: false,
            overwrite: false,
            seed_only: false,
        }
    }
}

/// What was found when a torrent was opened.
///
/// Next, the caller verifies every range of `to_verify` and finishes the check, even if there was
/// no range. Only then may it commit or stage pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The pieces that we have, according to the journal.
    pub have: Bitfield,
    /// The pieces that we may have but must verify first, ascending, in ranges of some 16 MiB: one
    /// for each job.
    pub to_verify: Vec<Range<u32>>,
    /// The pieces that the selected files need.
    pub wanted: Bitfield,
    /// Pieces of which the last launch left blocks on disk, and the numbers of those blocks. The
    /// store treats them as staged, so a commit needs only the others.
    pub unfinished: Vec<(PieceIndex, Vec<u32>)>,
    /// Bytes uploaded in earlier launches.
    pub uploaded: u64,
    /// Bytes downloaded in earlier launches.
    pub downloaded: u64,
    /// The file system of the data. More than one sync at a time on it gains nothing.
    pub file_system: u64,
    /// Bytes free on it, where the system says.
    pub free: Option<u64>,
    /// How the torrent's files are named on disk: as before, or as the file system accepts it.
    pub naming: Naming,
}

/// A range of a file that was made resident a moment ago, ready to be sent.
#[derive(Debug)]
pub struct Extent<F = OsFile> {
    /// The open file.
    pub file: Arc<F>,
    /// The offset of the range in the file, in bytes.
    pub offset: u64,
    /// The length of the range, in bytes; never 0.
    pub length: u32,
}

impl<F> Clone for Extent<F> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), offset: self.offset, length: self.length }
    }
}

/// The result of committing a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitResult {
    /// The hash matched and the piece is written: we have it.
    Verified {
        /// The digest of each block, if the job asked for them.
        digests: Option<Vec<Sha1Digest>>,
    },
    /// The hash did not match. Nothing was written, and staged blocks of the piece are forgotten.
    Mismatch {
        /// The digest of each block, to find the peers that sent wrong ones.
        digests: Vec<Sha1Digest>,
    },
    /// The disk failed. The piece is missing.
    Failed(StoreError),
}

/// A buffer with some blocks of an unfinished piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSpan {
    /// The piece.
    pub piece: PieceIndex,
    /// Which attempt at the piece it belongs to.
    pub attempt: u32,
    /// The number of the span in the piece.
    pub span_index: u32,
    /// Which of its blocks are valid; bit 0 is the span's first.
    pub blocks: u16,
    /// The buffer, as long as that span.
    pub span: Span,
}
