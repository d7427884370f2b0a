//! Shared by the tests of this crate: small torrents and the steps of a launch.

#![allow(dead_code, unreachable_pub, missing_docs)] // Each test file uses some of it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests look at real files.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metainfo::{Builder, Metainfo};
use piece_store::{
    Access, Bitfield, CommitResult, Disk, Extent, OpenSpec, Opened, OsDisk, PieceIndex, Resources,
    STRIP_LENGTH, SharedDisk, Span, Store, StoreError, check, span_count, span_length,
};

pub mod fuzz;
pub mod mem;

/// A torrent and its data.
pub struct Torrent {
    pub metainfo: Arc<Metainfo>,
    pub data: Vec<u8>,
}

/// Bytes that look random and are the same each time.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A torrent named `t` with these files, full of noise.
pub fn torrent(files: &[(&str, usize)], piece_length: u32) -> Torrent {
    torrent_with(files, piece_length, 1)
}

/// A torrent named `t` with these files, full of the noise that `seed` gives.
pub fn torrent_with(files: &[(&str, usize)], piece_length: u32, seed: u64) -> Torrent {
    let total = files.iter().map(|(_, length)| length).sum();
    torrent_of(files, piece_length, noise(total, seed))
}

/// A torrent named `t` with these files and this data.
pub fn torrent_of(files: &[(&str, usize)], piece_length: u32, data: Vec<u8>) -> Torrent {
    let files: Vec<_> = files.iter().map(|(path, length)| (path.as_bytes(), *length)).collect();
    build(b"t", &files, piece_length, data)
}

/// A torrent named `name` with these files, full of noise; names of any bytes, elements joined by
/// `/`.
pub fn torrent_named(name: &[u8], files: &[(&[u8], usize)], piece_length: u32) -> Torrent {
    let total = files.iter().map(|(_, length)| length).sum();
    build(name, files, piece_length, noise(total, 1))
}

fn build(name: &[u8], files: &[(&[u8], usize)], piece_length: u32, data: Vec<u8>) -> Torrent {
    let hashes: Vec<_> = data.chunks(piece_length as usize).map(piece_hash::sha1).collect();
    let builder = Builder::new(name).piece_length(piece_length);
    let builder = files.iter().fold(builder, |all, (path, length)| all.file(path, *length as u64));
    Torrent { metainfo: Arc::new(builder.build(&hashes).unwrap()), data }
}

impl Torrent {
    pub fn spec(&self, folder: &Path) -> OpenSpec {
        OpenSpec::new(Arc::clone(&self.metainfo), folder)
    }

    pub fn with_state(&self, folder: &Path, state: &Path) -> OpenSpec {
        OpenSpec { state_dir: Some(state.to_owned()), ..self.spec(folder) }
    }

    pub fn pieces(&self) -> u32 {
        self.metainfo.info().geometry().piece_count()
    }

    pub fn piece(&self, index: u32) -> PieceIndex {
        self.metainfo.info().geometry().piece(index).unwrap()
    }

    pub fn piece_data(&self, index: u32) -> &[u8] {
        let geometry = self.metainfo.info().geometry();
        let piece = self.piece(index);
        let start = geometry.offset_of(piece) as usize;
        &self.data[start..start + geometry.length_of(piece) as usize]
    }

    /// The whole piece in buffers.
    pub fn spans(&self, index: u32) -> Vec<Option<Span>> {
        let geometry = self.metainfo.info().geometry();
        let piece = self.piece(index);
        let mut rest = self.piece_data(index);
        let span = |number| {
            let mut span = Span::new(span_length(&geometry, piece, number));
            let (part, after) = rest.split_at(span.len());
            span.copy_from_slice(part);
            rest = after;
            Some(span)
        };
        (0..span_count(&geometry, piece)).map(span).collect()
    }

    /// The data of file `index`.
    pub fn file_data(&self, index: usize) -> &[u8] {
        let file = self.metainfo.info().file(index).unwrap();
        &self.data[file.offset() as usize..][..file.length() as usize]
    }

    /// Writes file `index` below `folder`.
    pub fn write_file(&self, folder: &Path, index: usize) {
        let path = folder.join(self.metainfo.info().file(index).unwrap().disk_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.file_data(index)).unwrap();
    }

    /// Writes all files below `folder`.
    pub fn write(&self, folder: &Path) {
        (0..self.metainfo.info().files().len()).for_each(|index| self.write_file(folder, index));
    }

    /// Verifies the files below `folder` with two workers.
    #[track_caller]
    pub fn verify(&self, folder: &Path, state_dir: Option<&Path>) -> check::Report {
        let resources = Resources::with_workers(2);
        check::verify_folder(&self.metainfo, folder, state_dir, resources, &quiet).unwrap()
    }

    /// Whether the files below `folder` are the torrent's, byte for byte.
    #[track_caller]
    pub fn assert_complete(&self, folder: &Path) {
        for file in self.metainfo.info().files() {
            let got = std::fs::read(folder.join(file.disk_path())).unwrap();
            assert!(got == self.file_data(file.index()), "{} differs", file.path());
        }
    }
}

/// Ignores progress.
pub fn quiet(_: u64, _: u64) {}

/// A folder for downloads and one for journals.
pub fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (save, state) = (root.path().join("save"), root.path().join("state"));
    (root, save, state)
}

/// A disk with a download folder and a state folder.
pub struct Site<D> {
    pub disk: Arc<D>,
    pub save: PathBuf,
    pub state: PathBuf,
    _root: Option<tempfile::TempDir>,
}

/// A site in memory.
pub fn in_memory(disk: mem::MemDisk) -> Site<mem::MemDisk> {
    Site { disk: Arc::new(disk), save: "/save".into(), state: "/state".into(), _root: None }
}

/// A site on the real disk.
pub fn on_disk() -> Site<OsDisk> {
    let (root, save, state) = folders();
    Site { disk: Arc::new(OsDisk::new()), save, state, _root: Some(root) }
}

/// A torrent at a site, and its spec there, with a journal.
pub fn at<D: Disk>(site: Site<D>, torrent: Torrent) -> (Torrent, Site<D>, OpenSpec) {
    let spec = site.spec(&torrent);
    (torrent, site, spec)
}

impl<D: Disk> Site<D> {
    /// The spec of `torrent` at this site, with a journal.
    pub fn spec(&self, torrent: &Torrent) -> OpenSpec {
        torrent.with_state(&self.save, &self.state)
    }

    /// Opens a torrent, like a new process.
    #[track_caller]
    pub fn open(&self, spec: &OpenSpec) -> Launch<D> {
        try_open_on(&self.disk, spec).unwrap()
    }

    /// Opens a torrent with a journal, like a new process, and checks it.
    #[track_caller]
    pub fn start(&self, torrent: &Torrent) -> Launch<D> {
        self.open(&self.spec(torrent)).check()
    }

    /// The bytes of the file `path` below the download folder; `None` if there is none.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let (folder, _) = self.disk.folder(&self.save, false).unwrap();
        let length = self.disk.stat(&folder, Path::new(path)).unwrap()?.length;
        let file = self.disk.open(&folder, Path::new(path), Access::Read).unwrap();
        Some(read_exactly(&*self.disk, &file, 0, length as usize).unwrap())
    }

    /// Writes the file `path` below the download folder, like another program.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        let (folder, _) = self.disk.folder(&self.save, true).unwrap();
        let file = self.disk.open(&folder, Path::new(path), Access::Create).unwrap();
        self.disk.set_length(&file, 0).unwrap();
        let mut done = 0;
        while done < bytes.len() {
            let rest = [std::io::IoSlice::new(&bytes[done..])];
            done += self.disk.write_at(&file, &rest, done as u64).unwrap();
        }
        self.disk.sync_file(&file).unwrap();
    }

    /// Renames the file `from` to `to`, both below the download folder, like another program.
    pub fn rename(&self, from: &str, to: &str) {
        let (folder, _) = self.disk.folder(&self.save, false).unwrap();
        self.disk.rename(&folder, Path::new(from), Path::new(to)).unwrap();
    }

    /// Puts another file in the place of `path`, while the old one still has its inode.
    pub fn replace(&self, path: &str, bytes: &[u8]) {
        self.write(&format!("{path}.new"), bytes);
        self.rename(&format!("{path}.new"), path);
    }

    /// Removes the file `path` below the download folder, like another program.
    pub fn remove(&self, path: &str) {
        let (folder, _) = self.disk.folder(&self.save, false).unwrap();
        self.disk.remove(&folder, Path::new(path)).unwrap();
    }

    /// Sets the length of the file `path` below the download folder, like another program.
    pub fn cut(&self, path: &str, length: u64) {
        let (folder, _) = self.disk.folder(&self.save, false).unwrap();
        let file = self.disk.open(&folder, Path::new(path), Access::Write).unwrap();
        self.disk.set_length(&file, length).unwrap();
    }

    /// The file in the state folder with this extension, of several any.
    pub fn state_file(&self, extension: &str) -> PathBuf {
        let (folder, _) = self.disk.folder(&self.state, false).unwrap();
        let names = self.disk.list(&folder).unwrap().into_iter();
        let is_it = |name: &PathBuf| name.extension().is_some_and(|other| other == extension);
        self.state.join(names.into_iter().find(is_it).unwrap())
    }

    /// Removes all journals.
    pub fn remove_journals(&self) {
        let (folder, _) = self.disk.folder(&self.state, false).unwrap();
        for name in self.disk.list(&folder).unwrap() {
            if name.extension().is_some_and(|extension| extension == "journal") {
                self.disk.remove(&folder, &name).unwrap();
            }
        }
    }
}

/// Reads `length` bytes of a file.
pub fn read_exactly<D: Disk>(
    disk: &D,
    file: &D::File,
    offset: u64,
    length: usize,
) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut filled) = (vec![0; length], 0);
    while filled < length {
        match disk.read_at(file, &mut bytes[filled..], offset + filled as u64)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// `spec` with this selection of files.
pub fn some(spec: &OpenSpec, list: &[bool]) -> OpenSpec {
    OpenSpec { selected: Some(list.to_vec()), ..spec.clone() }
}

/// One launch of a store, used as a session does.
pub struct Launch<D: Disk> {
    pub store: Store<D>,
    pub opened: Opened,
    scratch: Vec<u8>,
}

pub fn try_open_on<D: Disk>(disk: &Arc<D>, spec: &OpenSpec) -> Result<Launch<D>, StoreError> {
    let shared = Arc::new(SharedDisk::new(Arc::clone(disk)));
    let (store, opened) = Store::open(shared, spec)?;
    Ok(Launch { store, opened, scratch: vec![0; STRIP_LENGTH] })
}

pub fn try_open(spec: &OpenSpec) -> Result<Launch<OsDisk>, StoreError> {
    try_open_on(&Arc::new(OsDisk::new()), spec)
}

#[track_caller]
pub fn start(disk: &Arc<mem::MemDisk>, spec: &OpenSpec) -> Launch<mem::MemDisk> {
    try_open_on(disk, spec).unwrap()
}

#[track_caller]
pub fn open(spec: &OpenSpec) -> Launch<OsDisk> {
    try_open(spec).unwrap()
}

impl<D: Disk> Launch<D> {
    /// Verifies `pieces`; returns the good ones and the first error.
    pub fn verify(&self, pieces: Range<u32>) -> (Vec<u32>, Option<StoreError>) {
        self.store.verify(pieces, &mut vec![0; STRIP_LENGTH])
    }

    /// Verifies everything that is to be verified and finishes the check.
    pub fn try_check(self) -> Result<Self, StoreError> {
        for range in self.opened.to_verify.clone() {
            assert_eq!(self.verify(range).1, None);
        }
        self.store.finish_check().map(|_| self)
    }

    #[track_caller]
    pub fn check(self) -> Self {
        self.try_check().unwrap()
    }

    pub fn commit_spans(&mut self, piece: PieceIndex, spans: &mut [Option<Span>]) -> CommitResult {
        self.commit_as(piece, 0, spans)
    }

    pub fn commit_as(
        &mut self,
        piece: PieceIndex,
        attempt: u32,
        spans: &mut [Option<Span>],
    ) -> CommitResult {
        let result = self.store.commit(piece, attempt, spans, None, false, &mut self.scratch);
        result.unwrap_or_else(CommitResult::Failed)
    }

    pub fn try_commit(&mut self, torrent: &Torrent, index: u32) -> CommitResult {
        self.commit_spans(torrent.piece(index), &mut torrent.spans(index))
    }

    #[track_caller]
    pub fn commit(&mut self, torrent: &Torrent, pieces: impl IntoIterator<Item = u32>) {
        for index in pieces {
            let result = self.try_commit(torrent, index);
            assert_eq!(result, CommitResult::Verified { digests: None }, "piece {index}");
        }
    }

    /// Commits `pieces`, and goes on.
    #[track_caller]
    pub fn with(mut self, torrent: &Torrent, pieces: impl IntoIterator<Item = u32>) -> Self {
        self.commit(torrent, pieces);
        self
    }

    /// Commits the wanted pieces that are missing.
    #[track_caller]
    pub fn commit_missing(&mut self, torrent: &Torrent) {
        let have = self.store.have();
        let wanted: Vec<u32> = numbers(&self.opened.wanted);
        self.commit(
            torrent,
            wanted.into_iter().filter(|piece| !have.contains(torrent.piece(*piece))),
        );
    }

    /// Asserts that these are the pieces that we have, and goes on.
    #[track_caller]
    pub fn assert_have(self, pieces: &[u32]) -> Self {
        assert_eq!(self.have(), pieces);
        self
    }

    /// Makes the pieces durable, and goes on.
    #[track_caller]
    pub fn synced(self) -> Self {
        self.store.sync().unwrap();
        self
    }

    /// Ends the launch with a clean shutdown or, if not `clean`, like a kill.
    #[track_caller]
    pub fn end(self, clean: bool) {
        if clean { self.close() } else { drop(self) }
    }

    #[track_caller]
    pub fn close(self) {
        self.store.close(0, 0, &[]).unwrap();
    }

    pub fn have(&self) -> Vec<u32> {
        self.store.have().iter().collect()
    }

    /// The pieces that were trusted at the start, and those that were not.
    pub fn found(&self) -> (Vec<u32>, Vec<u32>) {
        (numbers(&self.opened.have), self.to_verify())
    }

    /// Asserts which pieces were trusted at the start and which are to be verified, and goes on.
    #[track_caller]
    pub fn assert_found(self, trusted: &[u32], to_verify: &[u32]) -> Self {
        assert_eq!(self.found(), (trusted.to_vec(), to_verify.to_vec()));
        self
    }

    pub fn to_verify(&self) -> Vec<u32> {
        self.opened.to_verify.iter().cloned().flatten().collect()
    }

    /// The extents of a range of a piece.
    pub fn read(
        &mut self,
        torrent: &Torrent,
        index: u32,
        offset: u32,
        length: u32,
    ) -> Result<Vec<Extent<D::File>>, StoreError> {
        let piece = torrent.metainfo.info().geometry().piece(index).unwrap();
        self.store.read(piece, offset..offset + length, &mut self.scratch)
    }
}

impl Launch<OsDisk> {
    /// Asserts that a range of a piece is read as it is in the torrent.
    #[track_caller]
    pub fn assert_reads(&mut self, torrent: &Torrent, index: u32, offset: u32, length: u32) {
        let got = bytes_of(&self.read(torrent, index, offset, length).unwrap());
        assert!(got == torrent.piece_data(index)[offset as usize..][..length as usize]);
    }
}

/// Asserts that the check refuses a file that is not the torrent's.
#[track_caller]
pub fn assert_unrelated(spec: &OpenSpec) {
    let checked = open(spec).try_check().map(drop);
    assert!(matches!(checked, Err(StoreError::UnrelatedFile { .. })), "{checked:?}");
}

/// Verifies everything that is to be verified. Does not finish the check.
pub fn verify_all<D: Disk>(launch: &Launch<D>) {
    for range in launch.opened.to_verify.clone() {
        launch.verify(range);
    }
}

/// The bytes of real extents.
pub fn bytes_of(extents: &[Extent]) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = Vec::new();
    for extent in extents {
        let mut part = vec![0; extent.length as usize];
        extent.file.read_exact_at(&mut part, extent.offset).unwrap();
        bytes.extend(part);
    }
    bytes
}

pub fn numbers(set: &Bitfield) -> Vec<u32> {
    set.iter().collect()
}
