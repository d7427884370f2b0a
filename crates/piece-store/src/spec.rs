//! What to open, and what was found.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bt_types::{Bitfield, PieceIndex, Sha1Digest};
use metainfo::{Metainfo, Naming};

use crate::{OsFile, Span, StoreError};

/// How a torrent's bytes are laid out on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLayout {
    /// The torrent's files below the folder, as everyone has them.
    Torrent,
    /// One piece as a file of its own: a temporary file beside `output`, which a sync renames to
    /// `output` once the piece is verified. There is no journal, and no other piece is wanted.
    SinglePiece {
        /// The piece.
        piece: PieceIndex,
        /// The file it becomes.
        output: PathBuf,
    },
}

/// Which torrent to open, where, and how.
#[derive(Debug, Clone)]
pub struct OpenSpec {
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// The folder that holds, or will hold, the torrent's name. Made if it is missing, unless
    /// `read_only`. Not looked at with [`StoreLayout::SinglePiece`].
    pub folder: PathBuf,
    /// How the bytes are laid out.
    pub layout: StoreLayout,
    /// Which files are wanted, one entry a file of the torrent; `None` for all. Files past the end
    /// of the list are wanted.
    pub selected: Option<Vec<bool>>,
    /// Where journals are kept, made if missing; `None` for no journal: then everything on disk is
    /// verified at each start, and no lock is held.
    pub state_dir: Option<PathBuf>,
    /// Whether the journal of an earlier launch is believed; otherwise everything in the files of the
    /// torrent is verified. Bytes of unselected files that are in the parts file are not found.
    pub resume: bool,
    /// Whether room for all wanted files is reserved ahead; otherwise files are sparse.
    pub preallocate: bool,
    /// Whether unrelated files that have the names of wanted ones may be written over. Those of
    /// others never are.
    pub overwrite: bool,
    /// Whether only what is there is served: no payload is written, no file or folder made.
    pub read_only: bool,
}

impl OpenSpec {
    /// All of `metainfo`'s files below `folder`, sparse, without a journal.
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
            read_only: false,
        }
    }
}

/// What was found when a torrent was opened.
///
/// Next, every range of `to_verify` is verified and then, even if there was none, the check is
/// finished; only after that may pieces be committed or staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The pieces that are had, on the journal's word.
    pub have: Bitfield,
    /// The pieces that may be had but must be verified first, ascending, in ranges of some 16 MiB:
    /// one for each job.
    pub to_verify: Vec<Range<u32>>,
    /// The pieces that the selected files need.
    pub wanted: Bitfield,
    /// Pieces of which the last run left blocks on disk, and the numbers of those blocks. The store
    /// remembers them as staged, so a commit needs only the others.
    pub unfinished: Vec<(PieceIndex, Vec<u32>)>,
    /// Bytes uploaded in earlier runs.
    pub uploaded: u64,
    /// Bytes downloaded in earlier runs.
    pub downloaded: u64,
    /// The file system the data is on: one sync at a time is enough for each.
    pub file_system: u64,
    /// Bytes free on it, where the system says.
    pub free: Option<u64>,
    /// How the torrent's files are named on disk: as they were before, or as its file system takes
    /// it.
    pub naming: Naming,
}

/// A range of a file that was made resident a moment ago: what a reader sends.
#[derive(Debug)]
pub struct Extent<F = OsFile> {
    /// The open file.
    pub file: Arc<F>,
    /// Where in the file the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub length: u32,
}

impl<F> Clone for Extent<F> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), offset: self.offset, length: self.length }
    }
}

/// What became of a committed piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The hash matched; the piece is written and had.
    Verified {
        /// The digest of each block, if they were asked for.
        digests: Option<Vec<Sha1Digest>>,
    },
    /// The hash did not match; nothing was written, and what was staged of the piece is forgotten.
    Mismatch {
        /// The digest of each block, to find who sent the wrong ones.
        digests: Vec<Sha1Digest>,
    },
    /// The disk failed; the piece is not had.
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
