//! A `.torrent` file: the `info` dictionary and the keys beside it.

use bencode::Value;
use bt_types::{InfoHashV1, InfoHashes};

use crate::build::around_info;
use crate::{Info, Magnet, MetainfoError, MetainfoWarning, parse};

/// The longest `.torrent` file, in bytes.
pub const MAX_METAINFO_LENGTH: usize = 64 * 1024 * 1024;

/// A parsed and validated `.torrent` file.
///
/// It keeps the bytes of the torrent, so that [`Self::get`] finds any key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metainfo {
    pub(crate) info: Info,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) web_seeds: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) comment: Option<String>,
    pub(crate) created_by: Option<String>,
    pub(crate) creation_date: Option<i64>,
    pub(crate) encoding: Option<String>,
    pub(crate) warnings: Box<[MetainfoWarning]>,
}

/// A DHT node that helps to find peers of a torrent without trackers (BEP 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A DNS name or an IP address.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl Metainfo {
    /// Parses a `.torrent` file. [`Self::warnings`] returns its oddities.
    ///
    /// # Errors
    /// See [`MetainfoErrorKind`](crate::MetainfoErrorKind).
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, MetainfoError> {
        parse::torrent(bytes.into(), None)
    }

    /// Makes the torrent of a link from the raw bytes of its `info` dictionary, as peers send it
    /// (BEP 9), with the trackers and the web seeds of the link. `None` if the bytes have another
    /// info-hash.
    ///
    /// # Errors
    /// See [`Self::from_info`].
    pub fn from_link(info: &[u8], link: &Magnet) -> Result<Option<Self>, MetainfoError> {
        let hash = parse::v1_hash(info);
        if hash != link.info_hashes.wire() {
            return Ok(None);
        }
        around(info, &link.tracker_tiers(), &link.web_seeds, Some(hash)).map(Some)
    }

    /// Makes a torrent from the raw bytes of its `info` dictionary, tiers of trackers and web seeds.
    ///
    /// [`Self::raw`] is the `.torrent` file, with `info` byte for byte. [`Self::raw_info`] is a part
    /// of it, so that `info` is in memory once.
    ///
    /// # Errors
    /// See [`MetainfoErrorKind`](crate::MetainfoErrorKind). If `info` is not bencode, the offset
    /// counts from its start, else from that of the new torrent.
    pub fn from_info(
        info: impl AsRef<[u8]>,
        trackers: &[Vec<String>],
        web_seeds: &[String],
    ) -> Result<Self, MetainfoError> {
        around(info.as_ref(), trackers, web_seeds, None)
    }

    /// Returns the `info` dictionary: name, files, pieces.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Returns every info-hash of the torrent.
    pub fn info_hashes(&self) -> InfoHashes {
        self.info.info_hashes()
    }

    /// Returns the 20 bytes that identify the torrent to peers and trackers.
    pub fn info_hash(&self) -> InfoHashV1 {
        self.info_hashes().wire()
    }

    /// Returns the tracker URLs by tier (BEP 12): those of `announce-list` if it has any, else
    /// `announce`. Each URL appears once, and no tier is empty.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// Appends tiers of trackers that are not from the file. Skips known URLs, and leaves
    /// [`Self::raw`] unchanged.
    ///
    /// A private torrent should use only the trackers of one file (BEP 27). This method does not
    /// check that.
    pub fn add_trackers(&mut self, tiers: &[Vec<String>]) {
        let known = std::mem::take(&mut self.trackers);
        self.trackers = parse::distinct(known.into_iter().chain(tiers.iter().cloned()));
    }

    /// Returns the URLs of `url-list`: servers that have the data (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// Returns the DHT nodes of `nodes` (BEP 5).
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the comment. It may have control characters.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Returns the program that made the file. It may have control characters.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// Returns when the file was made, in seconds since 1970.
    pub fn creation_date(&self) -> Option<i64> {
        self.creation_date
    }

    /// Returns the character set of the texts, as the file claims.
    pub fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref()
    }

    /// Returns the value of any key beside `info`, known to this crate or not.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'_, '_>> {
        self.info.document.root().get(key)
    }

    /// Returns the exact bytes of the `info` dictionary: what peers ask for that have a magnet link
    /// (BEP 9).
    pub fn raw_info(&self) -> &[u8] {
        self.info.raw()
    }

    /// Returns the exact bytes of the torrent: those of the file, without trailing bytes.
    pub fn raw(&self) -> &[u8] {
        self.info.document.bytes()
    }

    /// Returns the offset of the first key that sorts before the previous one, in bytes from the
    /// start. BEP 3 forbids keys out of order, but torrents with them exist and work.
    pub fn unsorted(&self) -> Option<usize> {
        self.info.document.unsorted()
    }

    /// Returns the oddities of the file that do not change the torrent, for display.
    pub fn warnings(&self) -> &[MetainfoWarning] {
        &self.warnings
    }

    /// Returns the magnet link of this torrent, with its name, size, trackers and web seeds.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            name: Some(self.info.name().to_owned()),
            trackers: self.trackers.concat(),
            web_seeds: self.web_seeds.clone(),
            length: Some(self.info.geometry().total()),
            ..Magnet::new(self.info_hashes())
        }
    }
}

/// Makes a torrent around `info`, whose SHA-1 is `hash` if it is known.
fn around(
    info: &[u8],
    trackers: &[Vec<String>],
    web_seeds: &[String],
    hash: Option<InfoHashV1>,
) -> Result<Metainfo, MetainfoError> {
    if info.len() > MAX_METAINFO_LENGTH {
        return Err(parse::too_long(info.len()));
    }
    // Else it might add keys beside `info`.
    drop(parse::OPTIONS.parse(info)?);
    parse::torrent(around_info(info, trackers, web_seeds), hash)
}
