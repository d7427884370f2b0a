//! Makes a `.torrent` file (v1) from a list of files and the finished piece hashes.

use bencode::{Owned, encode};
use bt_types::{BLOCK_LENGTH, Geometry, GeometryError, MAX_PIECE_LENGTH, Sha1Digest};

use crate::{Metainfo, MetainfoError};

/// About how many pieces [`default_piece_length`] aims at.
const USUAL_PIECE_COUNT: u64 = 2048;
/// The longest piece proposed while that gives fewer pieces than [`MANY_PIECES`].
const USUAL_MAX_PIECE_LENGTH: u64 = 16 << 20;
/// The number of pieces from which longer pieces are better than more of them.
const MANY_PIECES: u64 = 1 << 18;

/// Returns a good piece length for `total` bytes of data: a power of two that makes about 1,000 to
/// 2,000 pieces, but at least 16 KiB, and at most 16 MiB for data below 4 TiB.
///
/// ```
/// assert_eq!(metainfo::default_piece_length(0), 16 * 1024);
/// assert_eq!(metainfo::default_piece_length(700 << 20), 512 * 1024);
/// assert_eq!(metainfo::default_piece_length(1 << 40), 16 << 20);
/// ```
pub fn default_piece_length(total: u64) -> u32 {
    let usual = total.div_ceil(USUAL_PIECE_COUNT).next_power_of_two().min(USUAL_MAX_PIECE_LENGTH);
    let least = total.div_ceil(MANY_PIECES).checked_next_power_of_two().unwrap_or(u64::MAX);
    let length = usual.max(least).clamp(u64::from(BLOCK_LENGTH), u64::from(MAX_PIECE_LENGTH));
    length as u32
}

/// Why a torrent can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Occurs when the builder has neither a length nor a file.
    #[error("expected a length or at least one file, got none")]
    NoFiles,
    /// Occurs when the builder has a length and files.
    #[error("expected either one length or files, got both")]
    LengthAndFiles,
    /// Occurs when the lengths of the files do not fit 64 bits.
    #[error("expected files whose lengths add up to less than 2^64 bytes, got more")]
    TotalOverflow,
    /// Occurs when the piece length is zero or too large, or there would be too many pieces.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Occurs when there are more or fewer hashes than pieces.
    #[error("expected {expected} piece hashes, got {got}")]
    Hashes {
        /// The number of pieces.
        expected: u32,
        /// The number of hashes.
        got: usize,
    },
    /// Occurs when [`Metainfo::parse`] refuses the result, for example because a path has too many
    /// elements.
    #[error("the torrent would not be accepted: {0}")]
    Refused(MetainfoError),
}

/// Makes a `.torrent` file.
///
/// Call [`length`](Self::length) for a torrent of a single file; or [`file`](Self::file) once per
/// file, in the order in which their data was hashed.
#[derive(Debug, Clone)]
pub struct Builder {
    name: Vec<u8>,
    length: Option<u64>,
    files: Vec<(Vec<u8>, u64)>,
    piece_length: Option<u32>,
    private: bool,
    source: Option<String>,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
}

impl Builder {
    /// Starts a torrent whose file or folder is called `name`.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            length: None,
            files: Vec::new(),
            piece_length: None,
            private: false,
            source: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }

    /// Makes the torrent a single file of `length` bytes.
    #[must_use]
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Makes the torrent a folder, and appends a file of `length` bytes. `path` is relative to the
    /// folder; its elements are joined by `/`. An empty path makes the torrent a single file, like
    /// [`length`](Self::length).
    #[must_use]
    pub fn file(mut self, path: impl AsRef<[u8]>, length: u64) -> Self {
        match path.as_ref() {
            b"" => self.length = Some(length),
            path => self.files.push((path.to_vec(), length)),
        }
        self
    }

    /// Sets the piece length in bytes. The default is [`default_piece_length`].
    #[must_use]
    pub fn piece_length(mut self, length: u32) -> Self {
        self.piece_length = Some(length);
        self
    }

    /// Sets whether peers may come from the trackers only (BEP 27).
    #[must_use]
    pub fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// Sets a text in `info` that gives the same files another info-hash.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Appends a tracker in a tier of its own.
    #[must_use]
    pub fn tracker(mut self, url: impl Into<String>) -> Self {
        self.trackers.push(vec![url.into()]);
        self
    }

    /// Sets the tiers of trackers (BEP 12); replaces the existing ones.
    #[must_use]
    pub fn trackers(mut self, tiers: Vec<Vec<String>>) -> Self {
        self.trackers = tiers;
        self
    }

    /// Adds the URL of a server that has the data (BEP 19).
    #[must_use]
    pub fn web_seed(mut self, url: impl Into<String>) -> Self {
        self.web_seeds.push(url.into());
        self
    }

    /// Sets the comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Sets the program that makes the torrent.
    #[must_use]
    pub fn created_by(mut self, program: impl Into<String>) -> Self {
        self.created_by = Some(program.into());
        self
    }

    /// Sets when the torrent is made, in seconds since 1970.
    #[must_use]
    pub fn creation_date(mut self, seconds: i64) -> Self {
        self.creation_date = Some(seconds);
        self
    }

    /// Returns the size of the data and of its pieces, which the caller needs for hashing.
    ///
    /// # Errors
    /// If the builder has no file, or its numbers are out of range.
    pub fn geometry(&self) -> Result<Geometry, BuildError> {
        let total = self.total()?;
        let length = self.piece_length.unwrap_or_else(|| default_piece_length(total));
        Ok(Geometry::new(total, u64::from(length))?)
    }

    /// Builds the torrent from the SHA-1 of each piece of the concatenated files.
    /// [`Metainfo::raw`] is the `.torrent` file.
    ///
    /// # Errors
    /// If the builder has no file, the number of hashes is wrong, or [`Metainfo::parse`] refuses
    /// the result.
    pub fn build(&self, hashes: &[Sha1Digest]) -> Result<Metainfo, BuildError> {
        let geometry = self.geometry()?;
        let expected = geometry.piece_count();
        if hashes.len() != expected as usize {
            return Err(BuildError::Hashes { expected, got: hashes.len() });
        }
        let torrent = self.torrent(self.info(geometry, hashes));
        Metainfo::parse(encode(&torrent)).map_err(BuildError::Refused)
    }

    fn total(&self) -> Result<u64, BuildError> {
        match (self.length, self.files.as_slice()) {
            (None, []) => Err(BuildError::NoFiles),
            (Some(length), []) => Ok(length),
            (Some(_), _) => Err(BuildError::LengthAndFiles),
            (None, files) => files
                .iter()
                .try_fold(0_u64, |total, (_, length)| total.checked_add(*length))
                .ok_or(BuildError::TotalOverflow),
        }
    }

    fn info(&self, geometry: Geometry, hashes: &[Sha1Digest]) -> Owned {
        let pieces: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let content = match self.length {
            Some(length) => ("length", length.into()),
            None => {
                ("files", self.files.iter().map(|(path, length)| file(path, *length)).collect())
            }
        };
        let mut entries = vec![
            content,
            ("name", self.name.as_slice().into()),
            ("piece length", geometry.piece_length().into()),
            ("pieces", pieces.into()),
        ];
        if self.private {
            entries.push(("private", 1.into()));
        }
        entries.extend(self.source.as_deref().map(|source| ("source", source.into())));
        Owned::dict(entries)
    }

    fn torrent(&self, info: Owned) -> Owned {
        let mut entries = tracker_entries(&self.trackers);
        entries.extend(web_seed_entry(&self.web_seeds));
        entries.push(("info", info));
        let mut text = |key, text: &Option<String>| {
            entries.extend(text.as_deref().map(|text| (key, text.into())));
        };
        text("comment", &self.comment);
        text("created by", &self.created_by);
        entries.extend(self.creation_date.map(|seconds| ("creation date", seconds.into())));
        Owned::dict(entries)
    }
}

/// Returns the torrent with this `info` dictionary, byte for byte, and these keys beside it.
pub(crate) fn around_info(info: &[u8], trackers: &[Vec<String>], web_seeds: &[String]) -> Vec<u8> {
    // In the order of BEP 3 `announce` and `announce-list` come before `info`, `url-list` after.
    let mut torrent = encode(&Owned::dict(tracker_entries(trackers)));
    let rest = encode(&Owned::dict(web_seed_entry(web_seeds)));
    torrent.pop();
    torrent.reserve_exact(6 + info.len() + rest.len());
    torrent.extend_from_slice(b"4:info");
    torrent.extend_from_slice(info);
    torrent.extend_from_slice(rest.strip_prefix(b"d").unwrap_or_default());
    torrent
}

/// Returns `announce`, and `announce-list` if there is more than one tracker.
fn tracker_entries(trackers: &[Vec<String>]) -> Vec<(&'static str, Owned)> {
    let mut urls = trackers.iter().flatten();
    let first = urls.next().map(|url| ("announce", Owned::from(url.as_str())));
    let list = urls.next().map(|_| {
        let tiers = trackers.iter().filter(|tier| !tier.is_empty());
        ("announce-list", tiers.map(|tier| url_list(tier)).collect())
    });
    first.into_iter().chain(list).collect()
}

/// Returns `url-list` if there is a web seed.
fn web_seed_entry(web_seeds: &[String]) -> Option<(&'static str, Owned)> {
    let urls = match web_seeds {
        [] => return None,
        [url] => url.as_str().into(),
        urls => url_list(urls),
    };
    Some(("url-list", urls))
}

/// Returns `urls` as a bencoded list.
fn url_list(urls: &[String]) -> Owned {
    urls.iter().map(|url| Owned::from(url.as_str())).collect()
}

fn file(path: &[u8], length: u64) -> Owned {
    let elements = path.split(|byte| *byte == b'/').map(Owned::from);
    Owned::dict([("length", length.into()), ("path", elements.collect())])
}

#[cfg(test)]
mod tests;
