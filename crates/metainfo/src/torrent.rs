//! A `.torrent` file: the `info` dictionary and what stands around it.

use bencode::{Owned, Raw, Value, encode};
use bt_types::{InfoHashV1, InfoHashes};

use crate::build::url_list;
use crate::{Info, Magnet, MetainfoError, MetainfoErrorKind, MetainfoWarning, parse};

/// The longest `.torrent` file, in bytes.
pub const MAX_METAINFO_LENGTH: usize = 64 * 1024 * 1024;

/// A parsed and validated `.torrent` file.
///
/// It keeps the bytes it was made of, so that any key can be asked for.
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

/// A node of the DHT by which a torrent without tracker can be found (BEP 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A name or an address.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl Metainfo {
    /// Reads a `.torrent` file. [`Self::warnings`] has what is odd about it.
    ///
    /// # Errors
    /// See [`MetainfoErrorKind`].
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, MetainfoError> {
        parse::torrent(bytes.into())
    }

    /// A torrent from the raw bytes of its `info` dictionary, as peers send it for a magnet link
    /// (BEP 9), and the tiers of trackers that the link named. The caller compares
    /// [`Self::info_hashes`] with the link's.
    ///
    /// # Errors
    /// See [`MetainfoErrorKind`]. The offset counts from the start of the torrent made here.
    pub fn from_info(
        info: impl Into<Vec<u8>>,
        trackers: &[Vec<String>],
    ) -> Result<Self, MetainfoError> {
        let info = info.into();
        if info.len() > MAX_METAINFO_LENGTH {
            return Err(parse::too_long(info.len()));
        }
        let document = parse::OPTIONS.parse(&info)?;
        let mut entries = vec![("info", Owned::Raw(Raw::from(document.root())))];
        if !trackers.is_empty() {
            let tiers = trackers.iter().map(|tier| url_list(tier));
            entries.push(("announce-list", Owned::list(tiers)));
        }
        Self::parse(encode(&Owned::dict(entries)))
    }

    /// The `info` dictionary: name, files, pieces.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Every info-hash the torrent has.
    pub fn info_hashes(&self) -> InfoHashes {
        self.info.info_hashes()
    }

    /// The 20 bytes that name the torrent to peers and trackers.
    pub fn info_hash(&self) -> InfoHashV1 {
        self.info_hashes().wire()
    }

    /// The tracker URLs by tier (BEP 12): `announce-list` if it names any, else `announce`. Each URL
    /// once, no tier empty.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// Adds trackers that another source names for this torrent: tier by tier, after those that
    /// are there. Skips URLs that are already known. [`Self::raw`] stays as it is.
    ///
    /// A private torrent should only use the trackers of one file (BEP 27), so it is up to the
    /// caller not to add others.
    pub fn add_trackers(&mut self, tiers: &[Vec<String>]) {
        let known = std::mem::take(&mut self.trackers);
        self.trackers = parse::distinct(known.into_iter().chain(tiers.iter().cloned()));
    }

    /// The URLs of `url-list`: servers that have the data (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// The DHT nodes of `nodes` (BEP 5).
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the maker wants to say. Not cleaned of control characters.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made the file. Not cleaned of control characters.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When the file was made, in seconds since 1970.
    pub fn creation_date(&self) -> Option<i64> {
        self.creation_date
    }

    /// The character set that the maker says it used for texts.
    pub fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref()
    }

    /// The value of any key beside `info`, known to this crate or not.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'_, '_>> {
        self.info.document.root().get(key)
    }

    /// The exact bytes of the `info` dictionary.
    pub fn raw_info(&self) -> &[u8] {
        self.info.raw()
    }

    /// The exact bytes of the torrent: those of the file, without what follows the torrent.
    pub fn raw(&self) -> &[u8] {
        self.info.document.bytes()
    }

    /// Where the first key is that sorts before the key in front of it, in bytes from the start.
    /// Torrents with keys out of order exist and work, but BEP 3 forbids them.
    pub fn unsorted(&self) -> Option<usize> {
        self.info.document.unsorted()
    }

    /// Returns the oddities of the file that do not change the torrent, for people to read.
    pub fn warnings(&self) -> &[MetainfoWarning] {
        &self.warnings
    }

    /// The magnet link of this torrent, with its name, size, trackers and web seeds.
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

impl From<MetainfoErrorKind> for MetainfoError {
    /// An error of the file as a whole.
    fn from(kind: MetainfoErrorKind) -> Self {
        Self { kind, offset: 0, path: bencode::KeyPath::root() }
    }
}
