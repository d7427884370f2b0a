//! Reads, validates and builds `.torrent` files and magnet links.
//!
//! In scope: every key that BEP 3 and its companions define, the info-hash of the raw bytes of
//! `info`, which ranges of which files a piece covers, file names that are safe to create, building
//! v1 torrents, magnet links. Out of scope: files and network. The caller provides bytes, and to
//! build a torrent the list of files and the finished piece hashes.
//!
//! - [`Metainfo`] is a parsed `.torrent`; [`Info`] is its `info` dictionary, which the info-hash is
//!   the digest of.
//! - [`Files`], [`FileEntry`] and [`FileRange`] are the files and their ranges of the data.
//! - [`Builder`] makes a `.torrent`; [`default_piece_length`] proposes a piece length.
//! - [`Magnet`] is a magnet link.
//! - [`MetainfoError`] says what the parser expected and what it got, at which byte and under which
//!   key.
//! - [`MetainfoWarning`] is an oddity of a torrent that can be used.
//! - [`Appearance`] is what other content looks like, for an error message.
//!
//! ```
//! use metainfo::{Builder, Metainfo, Sha1Digest};
//!
//! let built = Builder::new("album")
//!     .piece_length(32 * 1024)
//!     .file("01.flac", 40_000)
//!     .file("cover/front.png", 10_000)
//!     .tracker("http://tracker.example/announce")
//!     .build(&[Sha1Digest([1; 20]), Sha1Digest([2; 20])])?;
//!
//! let metainfo = Metainfo::parse(built.raw())?;
//! let info = metainfo.info();
//! assert_eq!(metainfo.info_hash(), built.info_hash());
//! assert_eq!(info.geometry().total(), 50_000);
//!
//! let second = info.geometry().piece(1).expect("there are two pieces");
//! let ranges: Vec<_> = info.file_ranges(second).collect();
//! assert_eq!((ranges[0].file, ranges[0].offset, ranges[0].length), (0, 32_768, 7_232));
//! assert_eq!((ranges[1].file, ranges[1].offset, ranges[1].length), (1, 0, 10_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! - A torrent that [`Metainfo::parse`] accepts needs no further checks. The number of hashes
//!   matches the size, no path leaves the download folder, no two files share a path, and the file
//!   systems of Linux can hold every path. [`Info::disk_paths`] returns the paths for other file
//!   systems, and those under which other programs may have created the files.
//! - No name makes a torrent invalid; a path without elements or with more than [`MAX_PATH_DEPTH`]
//!   does.
//! - Optional keys of the wrong type are ignored, as in other clients. Anything wrong in `info` is
//!   an error.
//! - Bytes after the torrent are a [warning](MetainfoWarning), and so are duplicate keys, whose
//!   first value counts. Duplicates of a key that describes the data are an error: `info` itself,
//!   and in it the version, the name, the files with their lengths, paths and attributes, the piece
//!   length and the hashes.
//! - A torrent with several values of `private` is private if any of them says so.
//! - No input panics.
//! - Of hybrid torrents (BEP 52) the v1 half is used; [`Metainfo::info_hashes`] returns both
//!   hashes. Torrents of v2 only are refused with [`MetainfoErrorKind::OnlyV2`].
//!
//! Sources: BEP 3 (metainfo files), 5 (`nodes`), 9 and 53 (magnet links), 12 (`announce-list`), 19
//! (`url-list`), 27 (`private`), 47 (`attr`, pad files), 52 (`meta version`).

mod appearance;
mod build;
mod disk_paths;
mod error;
mod files;
mod info;
mod magnet;
mod parse;
mod paths;
mod torrent;
mod warning;

pub use appearance::Appearance;
pub use bencode::KeyPath;
pub use bt_types::{
    Geometry, GeometryError, InfoHashV1, InfoHashV2, InfoHashes, PieceIndex, Sha1Digest,
};
pub use build::{BuildError, Builder, default_piece_length};
pub use error::{MetainfoError, MetainfoErrorKind};
pub use files::{FileEntry, FileRange, FileRanges, Files, FilesIter};
pub use info::Info;
pub use magnet::{MAX_MAGNET_LENGTH, Magnet, MagnetError};
pub use paths::{MAX_ELEMENT_LENGTH, MAX_PATH_DEPTH, Naming, PathError, map_element, numbered};
pub use torrent::{MAX_METAINFO_LENGTH, Metainfo, Node};
pub use warning::{MAX_DUPLICATE_KEYS, MetainfoWarning};
