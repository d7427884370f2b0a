//! Pieces on disk: a torrent's files, the journal that keeps the promise of *have*, and the threads
//! that hash, write, read and verify.
//!
//! In scope: laying pieces out over files ([`OpenSpec`], [`StoreLayout`]), what is had across runs
//! ([`Opened`]), committing, staging and reading ([`Job`], [`Done`]), and, for commands, verifying
//! a folder ([`check`]) and hashing files for a new torrent ([`create`]). Out of scope: peers, the
//! network, deciding which piece comes next or when to sync.
//!
//! - [`Pool`] is what a session uses: [`Pool::submit`] takes a [`Job`], [`Pool::try_recv`] gives
//!   its [`Done`]. Neither blocks.
//! - [`Torrents`] does the same jobs without threads, over any [`Disk`]; [`Store`] is one torrent
//!   of it. Tests and simulations use them directly.
//! - [`Span`] is the buffer in which payload travels; it is handed in and handed back.
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
//! The contract: a torrent is opened; every range of [`Opened::to_verify`] is verified; the check
//! is finished; then pieces are committed, read, synced; at last it is closed. A piece is *had*
//! when its hash matched, its bytes were written and the journal says so, in this order; it is
//! *durable* when a sync came after. A verified piece is never written again. A payload file is cut
//! only if it is too long and [`OpenSpec::overwrite`] is set.
//!
//! Sources: BEP 3 (pieces), BEP 47 (padding files).

mod disk;
mod error;
mod hashing;
mod job;
mod pool;
mod resources;
mod span;
mod spec;
mod store;

pub use bt_types::{Bitfield, BlockRequest, Geometry, PieceIndex, Sha1Digest};
pub use disk::{Access, Disk, FileId, Kind, Lock, OsDisk, OsFile, OsFolder, Stat};
pub use error::{Operation, StoreError, Unrelated, is_out_of_descriptors};
pub use job::{Done, Job, TorrentKey, Torrents};
pub use pool::{Pool, PoolConfig, check, create};
pub use resources::{MAX_OPEN_FILES, Resources};
pub use span::{SPAN_LENGTH, Span, full_mask, span_count, span_length};
pub use spec::{Extent, HeldSpan, OpenSpec, Opened, Outcome, StoreLayout};
#[doc(hidden)]
pub use store::fuzz;
pub use store::{Handles, STRIP_LENGTH, Store};
