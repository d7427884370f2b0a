//! The `info` dictionary: what the info-hash is made of.

use std::ops::Range;

use bencode::{OwnedDocument, Value};
use bt_types::{Geometry, InfoHashes, PieceIndex, Sha1Digest};

use crate::files::{FileEntry, FileRange, FileRanges, FileTable, Files};

/// The `info` dictionary of a torrent: its name, its files, how the data is cut and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The whole torrent.
    pub(crate) document: OwnedDocument,
    pub(crate) hashes: InfoHashes,
    pub(crate) name: String,
    pub(crate) geometry: Geometry,
    /// Where in the document the piece hashes are.
    pub(crate) pieces: Range<usize>,
    pub(crate) files: FileTable,
    pub(crate) private: bool,
    pub(crate) source: Option<String>,
}

impl Info {
    /// The name of the torrent, for display: as its maker wrote it, with `U+FFFD` for what is not
    /// UTF-8. Not cleaned of control characters. On disk it may differ, see [`Self::disk_name`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the file or folder that the torrent makes in the download folder, under
    /// [`Naming::Unix`](crate::Naming::Unix).
    pub fn disk_name(&self) -> &str {
        self.files.disk_name()
    }

    /// Every info-hash the torrent has.
    pub fn info_hashes(&self) -> InfoHashes {
        self.hashes
    }

    /// The size of the data and how it is cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether peers may come from the torrent's trackers only (BEP 27). Anything but the integer 0
    /// counts as yes, to be on the safe side; of two values one is enough.
    pub fn private(&self) -> bool {
        self.private
    }

    /// The `source` key, by which private trackers tell their torrents apart.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The files, in the order in which the data runs through them.
    pub fn files(&self) -> Files<'_> {
        self.files.view()
    }

    /// File number `index`, from 0.
    pub fn file(&self, index: usize) -> Option<FileEntry<'_>> {
        self.files().get(index)
    }

    /// The length of all files together, in bytes, without padding (BEP 47). Adds them up.
    pub fn content_size(&self) -> u64 {
        self.files().iter().filter(|file| !file.is_pad()).map(FileEntry::length).sum()
    }

    /// How many bytes of `piece` are padding (BEP 47).
    pub fn padding_in(&self, piece: PieceIndex) -> u32 {
        let is_pad = |range: &FileRange| self.file(range.file).is_some_and(FileEntry::is_pad);
        let padding: u64 = self.file_ranges(piece).filter(is_pad).map(|range| range.length).sum();
        u32::try_from(padding).unwrap_or(u32::MAX)
    }

    /// Whether the torrent is one file and not a folder.
    pub fn is_single_file(&self) -> bool {
        self.files.is_single()
    }

    /// The SHA-1 of `piece`.
    ///
    /// # Panics
    /// If `piece` is a piece of another torrent that has more of them.
    pub fn piece_hash(&self, piece: PieceIndex) -> Sha1Digest {
        Sha1Digest(self.digests()[piece.as_usize()])
    }

    /// The SHA-1 of each piece, in order.
    pub fn piece_hashes(&self) -> impl ExactSizeIterator<Item = Sha1Digest> + '_ {
        self.digests().iter().map(|digest| Sha1Digest(*digest))
    }

    fn digests(&self) -> &[[u8; 20]] {
        self.document.bytes()[self.pieces.clone()].as_chunks().0
    }

    /// Which ranges of which files `piece` consists of, in order.
    pub fn file_ranges(&self, piece: PieceIndex) -> FileRanges<'_> {
        let offset = self.geometry.offset_of(piece);
        self.ranges(offset, u64::from(self.geometry.length_of(piece)))
    }

    /// Which ranges of which files the `length` bytes of data from `offset` on consist of, in
    /// order. What lies beyond the end of the data is left out. Pad files are included; empty
    /// files, which have no bytes, never are.
    pub fn ranges(&self, offset: u64, length: u64) -> FileRanges<'_> {
        self.files.ranges(offset, length)
    }

    /// The value of any key in `info`, known to this crate or not.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'_, '_>> {
        self.dict()?.get(key)
    }

    /// The exact bytes of the dictionary.
    pub fn raw(&self) -> &[u8] {
        self.dict().map(Value::raw).unwrap_or_default()
    }

    fn dict(&self) -> Option<Value<'_, '_>> {
        self.document.root().get("info")
    }
}
