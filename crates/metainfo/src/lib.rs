//! `.torrent` files and magnet links: read, validated, asked, built.
//!
//! In scope: every key that BEP 3 and its companions define, the info-hash from the raw bytes of
//! `info`, which ranges of which files a piece covers, file names that are safe to create, building
//! v1 torrents, magnet links. Out of scope: files and network. The caller brings bytes, and for
//! building the list of files and the finished piece hashes.
//!
//! - [`Metainfo`] is a parsed `.torrent`; [`Info`] is its `info` dictionary, what the info-hash is
//!   made of.
//! - [`Files`], [`FileEntry`] and [`FileRange`]: the files and where the data lies in them.
//! - [`Builder`] makes a `.torrent`; [`default_piece_length`] proposes how to cut the data.
//! - [`Magnet`] is a magnet link.
//! - [`MetainfoError`] says what was expected and what was got, at which byte and under which key.
//! - [`MetainfoWarning`] is what is odd about a torrent that can be used.
//! - [`Appearance`] is what content that is no torrent looks like, for an error message.
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
//! What [`Metainfo::parse`] accepts can be worked with blindly: the number of hashes matches the
//! size, no path leaves the download folder, no two files share one, and the file systems of Linux
//! take each. [`Info::disk_paths`] has the paths for other file systems, and those under which
//! other programs may have made the files. No torrent is refused for a name, only for a path
//! without elements or with more than [`MAX_PATH_DEPTH`]. Optional keys of the wrong type are
//! ignored, as other clients do; anything wrong in `info` is an error. Bytes behind the torrent are
//! a [warning](MetainfoWarning), and so are keys given twice, of which the first value counts, but
//! not where two values could be two torrents: `info` itself, and of `info` the version, the name,
//! the files with their lengths, paths and attributes, the piece length and the hashes. A torrent
//! that says twice whether it is private is private if either value says so. No input panics.
//!
//! Hybrid torrents (BEP 52) are used by their v1 part; [`Metainfo::info_hashes`] shows both hashes.
//! Torrents of v2 alone are refused with [`MetainfoErrorKind::OnlyV2`].
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
