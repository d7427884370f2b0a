//! Pieces on disk: a torrent's files, the journal of verified and durable pieces, and the threads
//! that hash, write, read and verify.
//!
//! In scope: mapping pieces to files ([`OpenSpec`], [`StoreLayout`]), finding them again after a
//! restart ([`Opened`]), committing, staging and reading them ([`Job`], [`Done`]), and, for
//! commands, verifying a folder ([`check`]) and hashing files for a new torrent ([`create`]). Out
//! of scope: peers, the network, deciding which piece comes next or when to sync.
//!
//! - [`Pool`] is what a session uses: [`Pool::submit`] accepts a [`Job`], [`Pool::try_recv`]
//!   returns its [`Done`]. Neither blocks.
//! - [`Torrents`] does the same jobs without threads, over any [`Disk`]; [`Store`] is one torrent
//!   of it. Tests and simulations use them directly.
//! - [`Span`] is the buffer for payload. A job takes buffers, and its answer returns them.
//!
//! ```
//! use piece_store::{Resources, check, create};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("greeting");
//! std::fs::write(&path, b"hello, swarm")?;
//!
//! // Hash a file for a new torrent, then verify the folder against that torrent.
//! let listing = create::list_files(&path, &create::OwnFiles::default())?;
//! let hashes = create::hash_files(&path, &listing.files, 16 * 1024, 2, &|_done, _total| ())?;
//! let metainfo = metainfo::Builder::new("greeting").piece_length(16 * 1024).file("", 12).build(&hashes)?;
//! let (metainfo, resources) = (Arc::new(metainfo), Resources::default());
//! let no_progress = |_done, _total| ();
//! let report = check::verify_folder(&metainfo, folder.path(), None, resources, &no_progress)?;
//! assert!(report.good.is_full());
//! # Ok(())
//! # }
//! ```
//!
//! The contract: the caller opens a torrent, verifies every range of [`Opened::to_verify`],
//! finishes the check, then commits, reads and syncs pieces, and at last closes the torrent. We
//! *have* a piece once its hash matched, its bytes were written and the journal says so, in this
//! order. It is *durable* after the next sync. A verified piece is never written again. A payload
//! file is cut only if it is too long and [`OpenSpec::overwrite`] is set.
//!
//! Sources: BEP 3 (pieces), BEP 47 (padding files).

mod disk;
mod error;
mod hashing;
mod info;
mod job;
mod pool;
mod resources;
mod span;
mod spec;
mod store;

pub use bt_types::{Bitfield, BlockRequest, Geometry, PieceIndex, Sha1Digest};
pub use disk::{Access, Disk, FileId, Kind, Lock, OsDisk, OsFile, OsFolder, Stat};
pub use error::{Operation, StoreError, Unrelated, is_out_of_descriptors};
pub use info::{INFO_PIECE_LENGTH, InfoError, info_digests};
pub use job::{Done, Job, TorrentKey, Torrents};
pub use pool::{Pool, PoolConfig, check, create};
pub use resources::{MAX_OPEN_FILES, Resources};
pub use span::{SPAN_LENGTH, Span, full_mask, span_count, span_length};
pub use spec::{CommitResult, Extent, HeldSpan, OpenSpec, Opened, StoreLayout};
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub use store::fuzz;
pub use store::{STRIP_LENGTH, SharedDisk, Store};
