//! Test data: files whose bytes follow from a number, and the torrent of them.
//!
//! The .torrent is written by hand here, so that the workspace's own encoder, builder and
//! info-hash are not their only witnesses.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{Geometry, InfoHashV1, Sha1Digest};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

/// The piece length unless one is chosen: 32 KiB, two blocks.
const DEFAULT_PIECE_LENGTH: u32 = 32 * 1024;

/// What a [`Payload`] is to be. Made by [`Payload::file`] and [`Payload::folder`].
#[derive(Debug, Clone)]
pub struct PayloadBuilder {
    name: String,
    files: Vec<(String, u64)>,
    single: bool,
    seed: u64,
    piece_length: u32,
    tiers: Vec<Vec<String>>,
    private: bool,
}

impl PayloadBuilder {
    /// Other bytes for another number (0 unless set).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Pieces of that many bytes (32 KiB unless set).
    pub fn piece_length(mut self, piece_length: u32) -> Self {
        self.piece_length = piece_length;
        self
    }

    /// One more tracker, in a tier of its own.
    pub fn tracker(mut self, url: impl Into<String>) -> Self {
        self.tiers.push(vec![url.into()]);
        self
    }

    /// One more tier of trackers (BEP 12).
    pub fn tier<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.tiers.push(urls.into_iter().map(Into::into).collect());
        self
    }

    /// A private torrent (BEP 27).
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Writes data and torrent into a fresh temporary folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(self) -> io::Result<Payload> {
        let temporary = TempDir::with_prefix("payload-")?;
        let root = temporary.path().to_owned();
        self.write(&root, Some(temporary))
    }

    /// Writes data and torrent into `root`, which stays when the [`Payload`] goes.
    ///
    /// # Errors
    /// What the file system says.
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
        let (torrent, info_hash) = self.torrent(&data);
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
            torrent_path,
            folder,
            _temporary: temporary,
        })
    }

    /// The bytes of the .torrent and its info-hash.
    fn torrent(&self, data: &[u8]) -> (Vec<u8>, InfoHashV1) {
        let info = self.info(data);
        let mut torrent = b"d".to_vec();
        if let Some(first) = self.tiers.iter().flatten().next() {
            put(&mut torrent, b"announce");
            put(&mut torrent, first.as_bytes());
            put(&mut torrent, b"announce-list");
            put_list(&mut torrent, &self.tiers, |torrent, tier| {
                put_list(torrent, tier, |torrent, url| put(torrent, url.as_bytes()));
            });
        }
        put(&mut torrent, b"info");
        torrent.extend(&info);
        torrent.push(b'e');
        (torrent, InfoHashV1(sha1(&info).0))
    }

    fn info(&self, data: &[u8]) -> Vec<u8> {
        let mut info = b"d".to_vec();
        if self.single {
            put(&mut info, b"length");
            put_int(&mut info, data.len() as u64);
        } else {
            put(&mut info, b"files");
            put_list(&mut info, &self.files, |info, (path, length)| {
                info.extend(b"d6:length");
                put_int(info, *length);
                put(info, b"path");
                let elements: Vec<&str> = path.split('/').collect();
                put_list(info, &elements, |info, element| put(info, element.as_bytes()));
                info.push(b'e');
            });
        }
        put(&mut info, b"name");
        put(&mut info, self.name.as_bytes());
        put(&mut info, b"piece length");
        put_int(&mut info, u64::from(self.piece_length));
        put(&mut info, b"pieces");
        let pieces: Vec<u8> =
            data.chunks(self.piece_length as usize).flat_map(|piece| sha1(piece).0).collect();
        put(&mut info, &pieces);
        if self.private {
            put(&mut info, b"private");
            put_int(&mut info, 1);
        }
        info.push(b'e');
        info
    }
}

/// Data on disk and the torrent that describes it.
///
/// ```text
/// ROOT/NAME.torrent     torrent_path()
/// ROOT/data/NAME ..     folder() is ROOT/data: what contains the torrent's name
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
    torrent_path: PathBuf,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

/// How many bytes of a file are read at a time to be compared.
const COMPARED_AT_ONCE: usize = 256 * 1024;

/// Where a folder differs from the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file, relative to the folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for Difference {}

impl Payload {
    /// One file of `length` bytes, called `name`.
    pub fn file(name: &str, length: u64) -> PayloadBuilder {
        Self::builder(name, vec![(name.to_owned(), length)], true)
    }

    /// A folder `name` with files: relative path with `/`, length in bytes.
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
            private: false,
        }
    }

    /// The torrent's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All bytes, in the torrent's order.
    pub fn data(&self) -> Arc<[u8]> {
        self.data.clone()
    }

    /// How the data is cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The SHA-1 of the `info` dictionary.
    pub fn info_hash(&self) -> InfoHashV1 {
        self.info_hash
    }

    /// The bytes of the .torrent.
    pub fn torrent(&self) -> &[u8] {
        &self.torrent
    }

    /// The .torrent on disk.
    pub fn torrent_path(&self) -> &Path {
        &self.torrent_path
    }

    /// The folder that contains the torrent's name: what a seeder is given.
    pub fn folder_path(&self) -> &Path {
        &self.folder
    }

    /// Each file: its path relative to the download folder, and its length in bytes.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
        let root = Path::new(&self.name);
        self.files.iter().map(move |(path, length)| {
            let path = if self.single { root.to_owned() } else { root.join(path) };
            (path, *length)
        })
    }

    /// Compares every byte of every file below `folder` with what was made.
    ///
    /// # Errors
    /// The first file that is missing, unreadable, of another length or of other bytes.
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

/// Reads no further than to the first difference: unfinished downloads are compared again and
/// again.
fn first_difference(expected: &[u8], path: &Path) -> io::Result<Option<String>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length != expected.len() as u64 {
        return Ok(Some(format!("expected {} bytes, got {length}", expected.len())));
    }
    let mut buffer = vec![0; COMPARED_AT_ONCE.min(expected.len())];
    for (number, expected) in expected.chunks(COMPARED_AT_ONCE).enumerate() {
        let got = &mut buffer[..expected.len()];
        file.read_exact(got)?;
        if got != expected {
            let same = got.iter().zip(expected).take_while(|(got, expected)| got == expected);
            let at = number * COMPARED_AT_ONCE + same.count();
            return Ok(Some(format!("first other byte at {at}")));
        }
    }
    Ok(None)
}

/// `length` bytes that follow from `seed`.
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

fn put(out: &mut Vec<u8>, string: &[u8]) {
    out.extend(format!("{}:", string.len()).into_bytes());
    out.extend(string);
}

fn put_int(out: &mut Vec<u8>, number: u64) {
    out.extend(format!("i{number}e").into_bytes());
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], each: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'l');
    items.iter().for_each(|item| each(out, item));
    out.push(b'e');
}
