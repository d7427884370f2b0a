//! The floor: what a download costs without a protocol. One thread receives the same bytes from one
//! socket, hashes them with one stream of SHA-1 and writes them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use sha1::{Digest as _, Sha1};

use super::payload::Description;

/// How much is received, hashed and written at a time, in bytes: it fits the cache.
const PART: usize = 256 * 1024;

/// The terms that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Terms {
    All,
    Receive,
    Hash,
    Write,
}

impl Terms {
    fn include(self, term: Self) -> bool {
        self == Self::All || self == term
    }
}

/// Handles every byte of `payload`, which `address` sends, and writes to `folder`.
pub(super) fn run(payload: &Path, folder: &Path, address: SocketAddr, terms: Terms) -> Result<()> {
    let payload = Description::read(payload)?;
    let receives = terms.include(Terms::Receive);
    let mut socket = if receives { Some(TcpStream::connect(address)?) } else { None };
    let mut hash = Pieces::new(payload.piece_length);
    let mut buffer = vec![1; PART];
    for (path, length) in &payload.files {
        let path = folder.join(path);
        let mut file = if terms.include(Terms::Write) { Some(create(&path)?) } else { None };
        let mut left = *length;
        while left > 0 {
            let mut part = left.min(PART as u64) as usize;
            if let Some(socket) = &mut socket {
                part = socket.read(&mut buffer[..part])?;
                anyhow::ensure!(part > 0, "the sender ends too early");
            }
            if terms.include(Terms::Hash) {
                hash.update(&buffer[..part]);
            }
            if let Some(file) = &mut file {
                file.write_all(&buffer[..part])?;
            }
            left -= part as u64;
        }
    }
    // The compiler must not remove the digests, which are never read.
    std::hint::black_box(hash.digests);
    Ok(())
}

/// Hashes the pieces of the only file of `payload`; each thread hashes its share of them.
pub(super) fn hash(payload: &Path, folder: &Path, threads: u64) -> Result<()> {
    let payload = Description::read(payload)?;
    let (path, length) = payload.files.first().context("no file")?;
    let file = File::open(folder.join(path))?;
    let (length, pieces) = (*length, length.div_ceil(payload.piece_length));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (file, payload) = (&file, &payload);
                scope.spawn(move || -> Result<()> {
                    let mut hash = Pieces::new(payload.piece_length);
                    let mut buffer = vec![0; PART];
                    for piece in (thread..pieces).step_by(threads as usize) {
                        let begin = piece * payload.piece_length;
                        let end = length.min(begin + payload.piece_length);
                        for position in (begin..end).step_by(PART) {
                            let part = (end - position).min(PART as u64) as usize;
                            file.read_exact_at(&mut buffer[..part], position)?;
                            hash.update(&buffer[..part]);
                        }
                    }
                    std::hint::black_box(hash.digests);
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no thread panics"))
    })
}

fn create(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(File::create(path)?)
}

/// Hashes pieces whose bytes arrive in order.
struct Pieces {
    piece_length: u64,
    left: u64,
    state: Sha1,
    digests: Vec<[u8; 20]>,
}

impl Pieces {
    fn new(piece_length: u64) -> Self {
        Self { piece_length, left: piece_length, state: Sha1::new(), digests: Vec::new() }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while bytes.len() as u64 >= self.left {
            let (end, rest) = bytes.split_at(self.left as usize);
            self.state.update(end);
            self.digests.push(self.state.finalize_reset().into());
            (self.left, bytes) = (self.piece_length, rest);
        }
        self.state.update(bytes);
        self.left -= bytes.len() as u64;
    }
}
