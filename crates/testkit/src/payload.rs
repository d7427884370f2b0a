//! Test data: files with bytes from a seed, and their torrent. It is made here, so that tests check
//! the workspace's own builder and info-hash independently.

use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{Geometry, InfoHashV1, Sha1Digest};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

use crate::ben::{Ben, texts};

/// The default piece length: 32 KiB, two blocks.
const DEFAULT_PIECE_LENGTH: u32 = 32 * 1024;

/// The description of a [`Payload`], from [`Payload::file`] or [`Payload::folder`].
#[derive(Debug, Clone)]
pub struct PayloadBuilder {
    name: String,
    files: Vec<(String, u64)>,
    single: bool,
    seed: u64,
    piece_length: u32,
    tiers: Vec<Vec<String>>,
    nodes: Vec<SocketAddr>,
    private: bool,
}

impl PayloadBuilder {
    /// Sets the seed of the data. The default is 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the piece length, in bytes. The default is 32 KiB.
    pub fn piece_length(mut self, piece_length: u32) -> Self {
        self.piece_length = piece_length;
        self
    }

    /// Adds a tracker, in a tier of its own.
    pub fn tracker(mut self, url: impl Into<String>) -> Self {
        self.tiers.push(vec![url.into()]);
        self
    }

    /// Adds a tier of trackers (BEP 12).
    pub fn tier<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.tiers.push(urls.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a node of the DHT (BEP 5, "nodes").
    pub fn node(mut self, address: SocketAddr) -> Self {
        self.nodes.push(address);
        self
    }

    /// Makes the torrent private (BEP 27).
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Writes the data and the torrent into a new temporary folder.
    ///
    /// # Errors
    /// Writing fails.
    pub fn create(self) -> io::Result<Payload> {
        let temporary = TempDir::with_prefix("payload-")?;
        let root = temporary.path().to_owned();
        self.write(&root, Some(temporary))
    }

    /// Writes the data and the torrent into `root`, which stays when the [`Payload`] is dropped.
    ///
    /// # Errors
    /// Writing fails.
    pub fn create_in(self, root: impl Into<PathBuf>) -> io::Result<Payload> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        self.write(&root, None)
    }

    fn write(self, root: &Path, temporary: Option<TempDir>) -> io::Result<Payload> {
        let total = self.files.iter().map(|(_, length)| length).sum();
        let geometry = Geometry::new(total, u64::from(self.piece_length))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let data = bytes(self.seed, total);
        let info = self.info(&data).encode();
        let info_hash = InfoHashV1(sha1(&info).0);
        let (length, torrent) = (info.len(), self.torrent(info));
        // Only the nodes follow it, before the end of the dictionary.
        let nodes = self.nodes().map_or(0, |nodes| "5:nodes".len() + nodes.encode().len());
        let end = torrent.len() - 1 - nodes;
        let info = end - length..end;
        let torrent_path = root.join(format!("{}.torrent", self.name));
        let folder = root.join("data");
        write_files(&folder, &self, &data)?;
        fs::write(&torrent_path, &torrent)?;
        let (name, files) = (self.name, self.files);
        Ok(Payload {
            name,
            files,
            single: self.single,
            data: data.into(),
            geometry,
            info_hash,
            torrent,
            info,
            torrent_path,
            folder,
            _temporary: temporary,
        })
    }

    /// Encodes the .torrent with this `info` dictionary.
    fn torrent(&self, info: Vec<u8>) -> Vec<u8> {
        let mut entries = Vec::new();
        if let Some(first) = self.tiers.iter().flatten().next() {
            let tiers = self.tiers.iter().map(texts).collect();
            entries =
                vec![("announce", first.as_str().into()), ("announce-list", Ben::List(tiers))];
        }
        entries.push(("info", Ben::Raw(info)));
        entries.extend(self.nodes().map(|nodes| ("nodes", nodes)));
        Ben::Dict(entries).encode()
    }

    /// Returns the value of `nodes`, if there are any.
    fn nodes(&self) -> Option<Ben> {
        let node = |node: &SocketAddr| {
            let host = node.ip().to_string();
            Ben::List(vec![host.as_str().into(), Ben::Int(node.port().into())])
        };
        (!self.nodes.is_empty()).then(|| Ben::List(self.nodes.iter().map(node).collect()))
    }

    fn info(&self, data: &[u8]) -> Ben {
        let int = |number: u64| Ben::Int(number as i64);
        let file = |(path, length): &(String, u64)| {
            Ben::Dict(vec![("length", int(*length)), ("path", texts(path.split('/')))])
        };
        let content = match self.single {
            true => ("length", int(data.len() as u64)),
            false => ("files", Ben::List(self.files.iter().map(file).collect())),
        };
        let pieces = data.chunks(self.piece_length as usize).flat_map(|piece| sha1(piece).0);
        let mut entries = vec![
            content,
            ("name", self.name.as_str().into()),
            ("piece length", int(u64::from(self.piece_length))),
            ("pieces", Ben::Bytes(pieces.collect())),
        ];
        entries.extend(self.private.then_some(("private", Ben::Int(1))));
        Ben::Dict(entries)
    }
}

/// Data on disk, and its torrent.
///
/// ```text
/// ROOT/NAME.torrent     torrent_path()
/// ROOT/data/NAME ..     folder_path() is ROOT/data, the parent of the torrent's name
/// ```
#[derive(Debug)]
pub struct Payload {
    name: String,
    files: Vec<(String, u64)>,
    single: bool,
    data: Arc<[u8]>,
    geometry: Geometry,
    info_hash: InfoHashV1,
    torrent: Vec<u8>,
    /// The range of the .torrent that is `info`.
    info: Range<usize>,
    torrent_path: PathBuf,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

/// How many bytes of a file are compared at a time.
const COMPARE_LENGTH: usize = 256 * 1024;

/// How a file differs from the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file, relative to the folder.
    pub path: PathBuf,
    /// The difference.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for Difference {}

impl Payload {
    /// Describes one file `name` of `length` bytes.
    pub fn file(name: &str, length: u64) -> PayloadBuilder {
        Self::builder(name, vec![(name.to_owned(), length)], true)
    }

    /// Describes a folder `name` with files. Each has a relative path with `/` and a length in
    /// bytes.
    pub fn folder(name: &str, files: &[(&str, u64)]) -> PayloadBuilder {
        let files = files.iter().map(|(path, length)| ((*path).to_owned(), *length)).collect();
        Self::builder(name, files, false)
    }

    fn builder(name: &str, files: Vec<(String, u64)>, single: bool) -> PayloadBuilder {
        PayloadBuilder {
            name: name.to_owned(),
            files,
            single,
            seed: 0,
            piece_length: DEFAULT_PIECE_LENGTH,
            tiers: Vec::new(),
            nodes: Vec::new(),
            private: false,
        }
    }

    /// The torrent's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All bytes, in the order of the torrent.
    pub fn data(&self) -> Arc<[u8]> {
        self.data.clone()
    }

    /// The number and length of the pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The SHA-1 of the `info` dictionary.
    pub fn info_hash(&self) -> InfoHashV1 {
        self.info_hash
    }

    /// The bytes of the `info` dictionary: the metadata that peers exchange (BEP 9).
    pub fn info(&self) -> &[u8] {
        &self.torrent[self.info.clone()]
    }

    /// A magnet link with nothing but the info-hash.
    pub fn magnet(&self) -> String {
        format!("magnet:?xt=urn:btih:{}", self.info_hash)
    }

    /// The bytes of the .torrent.
    pub fn torrent(&self) -> &[u8] {
        &self.torrent
    }

    /// The path of the .torrent.
    pub fn torrent_path(&self) -> &Path {
        &self.torrent_path
    }

    /// The parent of the torrent's name, from which a client can seed.
    pub fn folder_path(&self) -> &Path {
        &self.folder
    }

    /// The files: the path relative to the download folder, and the length in bytes.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
        let root = Path::new(&self.name);
        self.files.iter().map(move |(path, length)| {
            let path = if self.single { root.to_owned() } else { root.join(path) };
            (path, *length)
        })
    }

    /// Compares every byte of the files in `folder` with the payload.
    ///
    /// # Errors
    /// The first file that is missing, unreadable or different.
    pub fn compare(&self, folder: impl AsRef<Path>) -> Result<(), Difference> {
        let mut rest = &self.data[..];
        for (path, length) in self.files() {
            let (expected, tail) = rest.split_at(length as usize);
            rest = tail;
            let what = first_difference(expected, &folder.as_ref().join(&path));
            if let Some(what) = what.unwrap_or_else(|error| Some(error.to_string())) {
                return Err(Difference { path, what });
            }
        }
        Ok(())
    }
}

/// Compares a file up to the first difference, because tests compare incomplete downloads
/// repeatedly.
fn first_difference(expected: &[u8], path: &Path) -> io::Result<Option<String>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length != expected.len() as u64 {
        return Ok(Some(format!("expected {} bytes, got {length}", expected.len())));
    }
    let mut buffer = vec![0; COMPARE_LENGTH.min(expected.len())];
    for (number, expected) in expected.chunks(COMPARE_LENGTH).enumerate() {
        let got = &mut buffer[..expected.len()];
        file.read_exact(got)?;
        if got != expected {
            let same = got.iter().zip(expected).take_while(|(got, expected)| got == expected);
            let at = number * COMPARE_LENGTH + same.count();
            return Ok(Some(format!("first other byte at {at}")));
        }
    }
    Ok(None)
}

/// Generates `length` bytes from `seed`.
pub fn bytes(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// The SHA-1 of `bytes`.
pub fn sha1(bytes: &[u8]) -> Sha1Digest {
    Sha1Digest(Sha1::digest(bytes).into())
}

fn write_files(folder: &Path, builder: &PayloadBuilder, mut data: &[u8]) -> io::Result<()> {
    for (path, length) in &builder.files {
        let (file, rest) = data.split_at(*length as usize);
        data = rest;
        let root = folder.join(&builder.name);
        let path = if builder.single { root } else { root.join(path) };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, file)?;
    }
    Ok(())
}
