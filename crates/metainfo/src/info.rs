//! The `info` dictionary, which the info-hash is the digest of.

use std::ops::Range;

use bencode::{OwnedDocument, Value};
use bt_types::{Geometry, InfoHashes, PieceIndex, Sha1Digest};

use crate::files::{FileEntry, FileRange, FileRanges, FileTable, Files};

/// The `info` dictionary of a torrent: its name, files, pieces and hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The whole torrent.
    pub(crate) document: OwnedDocument,
    pub(crate) fields: InfoFields,
}

/// What the parser read from the dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InfoFields {
    pub(crate) hashes: InfoHashes,
    pub(crate) name: String,
    pub(crate) geometry: Geometry,
    /// The range of the document that has the piece hashes.
    pub(crate) pieces: Range<usize>,
    pub(crate) files: FileTable,
    pub(crate) private: bool,
    pub(crate) source: Option<String>,
}

impl Info {
    /// Returns the name of the torrent for display, with `U+FFFD` for bytes that are not UTF-8. It
    /// may have control characters. The name on disk may differ, see [`Self::disk_name`].
    pub fn name(&self) -> &str {
        &self.fields.name
    }

    /// Returns the name of the torrent's file or folder in the download folder, under
    /// [`Naming::Unix`](crate::Naming::Unix).
    pub fn disk_name(&self) -> &str {
        self.fields.files.disk_name()
    }

    /// Returns every info-hash of the torrent.
    pub fn info_hashes(&self) -> InfoHashes {
        self.fields.hashes
    }

    /// Returns the size of the data and of its pieces.
    pub fn geometry(&self) -> Geometry {
        self.fields.geometry
    }

    /// Returns whether peers may come from the torrent's trackers only (BEP 27). To be on the safe
    /// side, any value but the integer 0 counts as yes, and one of several values is enough.
    pub fn private(&self) -> bool {
        self.fields.private
    }

    /// Returns the `source` key, by which private trackers distinguish their torrents.
    pub fn source(&self) -> Option<&str> {
        self.fields.source.as_deref()
    }

    /// Returns the files, in the order of their data.
    pub fn files(&self) -> Files<'_> {
        self.fields.files.view()
    }

    /// Returns file `index`, counted from 0.
    pub fn file(&self, index: usize) -> Option<FileEntry<'_>> {
        self.files().get(index)
    }

    /// Returns the length of all files together, in bytes, without padding (BEP 47). Takes time
    /// proportional to the number of files.
    pub fn content_size(&self) -> u64 {
        self.files().iter().filter(|file| !file.is_pad()).map(FileEntry::length).sum()
    }

    /// Returns the number of bytes of `piece` that are padding (BEP 47).
    pub fn padding_in(&self, piece: PieceIndex) -> u32 {
        let is_pad = |range: &FileRange| self.file(range.file).is_some_and(FileEntry::is_pad);
        let padding: u64 = self.file_ranges(piece).filter(is_pad).map(|range| range.length).sum();
        u32::try_from(padding).unwrap_or(u32::MAX)
    }

    /// Returns whether the torrent is a single file and not a folder.
    pub fn is_single_file(&self) -> bool {
        self.fields.files.is_single()
    }

    /// Returns the SHA-1 of `piece`.
    ///
    /// # Panics
    /// If `piece` is of another torrent, and this one has fewer pieces.
    pub fn piece_hash(&self, piece: PieceIndex) -> Sha1Digest {
        Sha1Digest(self.digests()[piece.as_usize()])
    }

    /// Returns the SHA-1 of each piece, in order.
    pub fn piece_hashes(&self) -> impl ExactSizeIterator<Item = Sha1Digest> + '_ {
        self.digests().iter().map(|digest| Sha1Digest(*digest))
    }

    fn digests(&self) -> &[[u8; 20]] {
        self.document.bytes()[self.fields.pieces.clone()].as_chunks().0
    }

    /// Returns the ranges of files that `piece` consists of, in order.
    pub fn file_ranges(&self, piece: PieceIndex) -> FileRanges<'_> {
        let offset = self.fields.geometry.offset_of(piece);
        self.ranges(offset, u64::from(self.fields.geometry.length_of(piece)))
    }

    /// Returns the ranges of files that `length` bytes of data from `offset` on consist of, in
    /// order. The ranges stop at the end of the data. They include pad files, but no empty files.
    pub fn ranges(&self, offset: u64, length: u64) -> FileRanges<'_> {
        self.fields.files.ranges(offset, length)
    }

    /// Returns the value of any key in `info`, known to this crate or not.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'_, '_>> {
        self.dict()?.get(key)
    }

    /// Returns the exact bytes of the dictionary.
    pub fn raw(&self) -> &[u8] {
        self.dict().map(Value::raw).unwrap_or_default()
    }

    fn dict(&self) -> Option<Value<'_, '_>> {
        self.document.root().get("info")
    }
}
