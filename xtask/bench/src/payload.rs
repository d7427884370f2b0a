//! The payload: files whose bytes follow from their position, and a torrent of them. It is written
//! in parts, so that it need not fit in memory.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use testkit::{Answer, HttpTracker, Tracker};

use super::{MIB, Setup};
use e2e::bt_cli::BtCli;
use e2e::clients::namespace;

/// How much is written and compared at a time, in bytes.
const PART: u64 = 1024 * 1024;

/// The shape of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The total size, in bytes.
    pub(super) size: u64,
    /// The number of files; with one, the torrent has no folder.
    pub(super) files: u64,
    /// In bytes.
    pub(super) piece_length: u64,
}

/// Files on disk and their torrent.
///
/// ```text
/// ROOT/data/NAME ..          folder() is ROOT/data
/// ROOT/payload.torrent       torrent
/// ROOT/payload.json          description, for processes of the benchmarks
/// ```
#[derive(Debug)]
pub(super) struct Payload {
    /// The name of the torrent.
    name: String,
    pub(super) shape: Shape,
    root: PathBuf,
    /// Each file, relative to the folder, and its length in bytes.
    files: Vec<(PathBuf, u64)>,
}

impl Payload {
    /// Creates one file, with pieces of 1 MiB, and its tracker, which returns no peers.
    pub(super) fn one_file(setup: Setup<'_>) -> Result<(Self, HttpTracker)> {
        let size = setup.options.size.unwrap_or(2048) * MIB;
        let shape = Shape { size, files: 1, piece_length: MIB };
        Self::of_seeders(&[], shape, setup)
    }

    /// Creates a payload and its tracker, which returns these peers.
    pub(super) fn of_seeders(
        seeders: &[SocketAddr],
        shape: Shape,
        setup: Setup<'_>,
    ) -> Result<(Self, HttpTracker)> {
        let tracker = HttpTracker::bind((namespace::TRACKER, 0).into(), Tracker::new())?;
        tracker.answer(Answer::Peers(seeders.to_vec()));
        let root = setup.trial_folder.empty("payload")?;
        Ok((Self::create("payload", shape, &tracker.url(), &root, setup.bt_cli)?, tracker))
    }

    /// Writes the data below `root`, and a torrent with the tracker `url`, which bt-cli creates.
    pub(super) fn create(
        name: &str,
        shape: Shape,
        url: &str,
        root: &Path,
        bt_cli: &BtCli,
    ) -> Result<Self> {
        let payload = Self::new(name, shape, root);
        let mut position = 0;
        for (path, length) in &payload.files {
            let path = payload.folder().join(path);
            fs::create_dir_all(path.parent().context("no parent")?)?;
            write_file(&path, position, *length)?;
            position += length;
        }
        let torrent = payload.torrent();
        let data = payload.data();
        let length = shape.piece_length.to_string();
        let arguments = ["create".as_ref(), data.as_os_str(), "-t".as_ref(), url.as_ref()];
        let more = ["-l".as_ref(), length.as_ref(), "-o".as_ref(), torrent.as_os_str()];
        let made = bt_cli.json("create", arguments.into_iter().chain(more))?;
        let description = payload.describe(&made["info_hash"]).to_string();
        fs::write(payload.description(), description)?;
        Ok(payload)
    }

    /// Creates one sparse file of zeros of any size, and its torrent without bt-cli.
    pub(super) fn zeros(name: &str, shape: Shape, url: &str, root: &Path) -> Result<Self> {
        ensure!(shape.files == 1 && shape.size.is_multiple_of(shape.piece_length), "not one file");
        let payload = Self::new(name, shape, root);
        fs::create_dir_all(payload.folder())?;
        File::create(payload.data())?.set_len(shape.size)?;
        let hash = Sha1::digest(vec![0; shape.piece_length as usize]);
        let pieces = hash.repeat((shape.size / shape.piece_length) as usize);
        let Shape { size, piece_length, .. } = shape;
        let mut info = format!("d6:lengthi{size}e4:name{}:{name}", name.len()).into_bytes();
        info.extend(format!("12:piece lengthi{piece_length}e6:pieces{}:", pieces.len()).bytes());
        info.extend(pieces);
        info.push(b'e');
        let before = format!("d8:announce{}:{url}4:info", url.len());
        fs::write(payload.torrent(), [before.as_bytes(), &info, b"e"].concat())?;
        let hex: String = Sha1::digest(&info).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(payload.description(), payload.describe(&hex.into()).to_string())?;
        Ok(payload)
    }

    fn new(name: &str, shape: Shape, root: &Path) -> Self {
        let files = (0..shape.files).map(|index| file_of(name, &shape, index)).collect();
        Self { name: name.to_owned(), shape, root: root.to_owned(), files }
    }

    /// Returns the folder with data, torrent and description.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that contains the torrent's name.
    pub(super) fn folder(&self) -> PathBuf {
        data_below(&self.root)
    }

    /// Returns the path of the data: the torrent's name in [`folder`](Self::folder).
    pub(super) fn data(&self) -> PathBuf {
        self.folder().join(&self.name)
    }

    pub(super) fn torrent(&self) -> PathBuf {
        self.root.join("payload.torrent")
    }

    /// The file that [`Description::read`] reads.
    pub(super) fn description(&self) -> PathBuf {
        description_below(&self.root)
    }

    fn describe(&self, info_hash: &Value) -> Value {
        let files = self.files.iter().map(|(path, length)| json!([path, length]));
        json!({
            "info_hash": info_hash,
            "piece_length": self.shape.piece_length,
            "size": self.shape.size,
            "files": files.collect::<Vec<_>>(),
        })
    }

    /// Compares every byte below `folder` with the payload.
    pub(super) fn compare(&self, folder: &Path) -> Result<()> {
        for (path, _) in &self.files {
            let (ours, theirs) = (self.folder().join(path), folder.join(path));
            compare_files(&ours, &theirs).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// Returns the data folder of the payload in `root`.
pub(super) fn data_below(root: &Path) -> PathBuf {
    root.join("data")
}

/// Returns the path of its description.
pub(super) fn description_below(root: &Path) -> PathBuf {
    root.join("payload.json")
}

/// What the other processes of the benchmarks need to know of a payload.
#[derive(Debug)]
pub(super) struct Description {
    /// In bytes.
    pub(super) piece_length: u64,
    /// The total size, in bytes.
    pub(super) size: u64,
    /// Each file, relative to the folder, and its length in bytes.
    pub(super) files: Vec<(PathBuf, u64)>,
    pub(super) info_hash: [u8; 20],
}

impl Description {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let value: Value = serde_json::from_slice(&fs::read(path)?)?;
        let files = value["files"].as_array().context("no files")?.iter();
        let files = files.map(|file| Some((file[0].as_str()?.into(), file[1].as_u64()?)));
        let hex = value["info_hash"].as_str().context("no info_hash")?;
        let mut info_hash = [0; 20];
        for (index, byte) in info_hash.iter_mut().enumerate() {
            let digits = hex.get(index * 2..index * 2 + 2).context("a short info_hash")?;
            *byte = u8::from_str_radix(digits, 16)?;
        }
        Ok(Self {
            piece_length: value["piece_length"].as_u64().context("no piece_length")?,
            size: value["size"].as_u64().context("no size")?,
            files: files.collect::<Option<_>>().context("files without name or length")?,
            info_hash,
        })
    }
}

/// Returns path and length of file number `index`: about the same length, a hundred files per
/// folder.
fn file_of(name: &str, shape: &Shape, index: u64) -> (PathBuf, u64) {
    if shape.files == 1 {
        return (name.into(), shape.size);
    }
    let at = |index| shape.size * index / shape.files;
    let path = format!("{name}/{:03}/{:05}.bin", index / 100, index);
    (path.into(), at(index + 1) - at(index))
}

/// Writes the bytes of the payload from `position` on.
fn write_file(path: &Path, position: u64, length: u64) -> Result<()> {
    let mut file = BufWriter::with_capacity(PART as usize, File::create(path)?);
    let mut written = 0;
    while written < length {
        let part = PART.min(length - written);
        file.write_all(&testkit::bytes(position + written, part))?;
        written += part;
    }
    Ok(file.flush()?)
}

fn compare_files(ours: &Path, theirs: &Path) -> Result<()> {
    let (mut ours, mut theirs) = (File::open(ours)?, File::open(theirs)?);
    let length = ours.metadata()?.len();
    let got = theirs.metadata()?.len();
    ensure!(got == length, "expected {length} bytes, got {got}");
    let (mut expected, mut found) = (vec![0; PART as usize], vec![0; PART as usize]);
    let mut position = 0;
    while position < length {
        let part = PART.min(length - position) as usize;
        ours.read_exact(&mut expected[..part])?;
        theirs.read_exact(&mut found[..part])?;
        ensure!(expected[..part] == found[..part], "wrong bytes after {position}");
        position += part as u64;
    }
    Ok(())
}
