//! A store on a disk in memory that fails, loses power and is changed from outside. The store never
//! claims a piece that is not on the disk, and loses none that it promised.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use piece_store::{Access, HeldSpan, full_mask};
use testkit::Choices;

use super::mem::MemDisk;
use super::*;

const SAVE: &str = "/save";
const STATE: &str = "/state";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Pieces of one block, across files.
static SMALL: LazyLock<Torrent> =
    LazyLock::new(|| torrent(&[("a", 20_000), ("b", 3_000), ("c", 0), ("d", 22_000)], 16 * 1024));
/// Pieces of several blocks.
static BLOCKS: LazyLock<Torrent> =
    LazyLock::new(|| torrent(&[("a", 40_000), ("b", 20_000)], 40 * 1024));
/// Pieces of two spans.
static SPANS: LazyLock<Torrent> = LazyLock::new(|| torrent(&[("a", 300_000)], 272 * 1024));

/// Plays the steps that `data` encodes on a store.
///
/// # Panics
/// If the store breaks a promise.
pub fn fuzz(data: &[u8]) {
    let mut choices = Choices::new(data);
    let torrent = match choices.byte() {
        0..0xc0 => &SMALL,
        0xc0..0xf0 => &BLOCKS,
        _ => &SPANS,
    };
    let mut machine = Machine::new(torrent, choices.byte());
    while !choices.is_empty() {
        machine.step(&mut choices);
    }
    machine.restart(End::Kill);
}

/// How a launch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    CutPower,
}

struct Machine {
    torrent: &'static Torrent,
    disk: Arc<MemDisk>,
    spec: OpenSpec,
    launch: Launch<MemDisk>,
    /// Whether nothing has failed or was changed from outside since the launch started.
    calm: bool,
    /// Whether a sync failed since the launch started. Then there is no clean shutdown.
    sync_failed: bool,
}

impl Machine {
    /// Its disk is not forgetful, because with a damaged or ignored journal nothing could tell what
    /// a sync forgot.
    fn new(torrent: &'static Torrent, flags: u8) -> Self {
        let disk = Arc::new(MemDisk::default());
        let mut spec = torrent.with_state(Path::new(SAVE), Path::new(STATE));
        spec.preallocate = flags & 1 != 0;
        // Files that replace the torrent's files may be overwritten.
        spec.overwrite = true;
        let launch = try_open_on(&disk, &spec).and_then(Launch::try_check).expect("an empty disk");
        Self { torrent, disk, spec, launch, calm: true, sync_failed: false }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let op = choices.byte();
        let number = u32::from(choices.byte());
        match op {
            0..0x60 => self.commit(number, choices),
            0x60..0x90 => self.stage(number, choices),
            0x90..0xa0 => self.sync(),
            0xa0..0xb0 => self.restart(End::Kill),
            0xb0..0xc0 => self.restart(End::CutPower),
            0xc0..0xd0 => self.close(number, choices),
            0xd0..0xe0 => self.fail(number, choices.byte()),
            0xe0..0xe4 => self.write_back(number),
            _ => self.tamper(op, number, choices),
        }
    }

    fn piece(&self, number: u32) -> PieceIndex {
        self.torrent.piece(number % self.torrent.pieces())
    }

    /// The spans of a piece, with one wrong byte if `choices` say so.
    fn spans(&self, piece: PieceIndex, choices: &mut Choices<'_>) -> Vec<Option<Span>> {
        let mut spans = self.torrent.spans(piece.get());
        let wrong = choices.byte();
        if wrong >= 0xe0
            && let Some(Some(span)) = spans.first_mut()
        {
            let at = usize::from(wrong) * 101 % span.len();
            span[at] ^= 1;
        }
        spans
    }

    fn commit(&mut self, number: u32, choices: &mut Choices<'_>) {
        let (piece, attempt) = (self.piece(number), u32::from(choices.byte() >> 6));
        let mut spans = self.spans(piece, choices);
        if choices.byte() >= 0xe0 {
            spans[0] = None;
        }
        let has_before = self.launch.store.have().contains(piece);
        let result = self.launch.commit_as(piece, attempt, &mut spans);
        let has = self.launch.store.have().contains(piece);
        match result {
            CommitResult::Verified { .. } => assert!(has),
            CommitResult::Mismatch { .. } => assert_eq!(has, has_before),
            _ => {}
        }
        self.check_piece(piece);
    }

    fn stage(&mut self, number: u32, choices: &mut Choices<'_>) {
        let (piece, attempt) = (self.piece(number), u32::from(choices.byte() >> 6));
        let mask = choices.byte() | 1;
        let spans = self.spans(piece, choices);
        let at = choices.below(spans.len());
        let Some(span) = &spans[at] else { return };
        let blocks = (u16::from(mask) << 8 | u16::from(mask)) & full_mask(span.len() as u32);
        let _may_fail = self.launch.store.stage(piece, attempt, at as u32, span, blocks);
        self.check_piece(piece);
    }

    fn sync(&mut self) {
        let before = self.launch.store.have();
        match self.launch.store.sync() {
            Ok(()) => assert_eq!(self.launch.store.durable(), before),
            Err((_, lost)) => {
                let have = self.launch.store.have();
                let gone = before.iter().filter(|piece| !have.contains(self.piece(*piece)));
                assert_eq!(gone.collect::<Vec<_>>(), lost);
                (self.calm, self.sync_failed) = (false, true);
            }
        }
    }

    /// Shuts down cleanly with some blocks still in memory. Then files may be edited, which is
    /// noticed only after a clean shutdown.
    fn close(&mut self, number: u32, choices: &mut Choices<'_>) {
        let piece = self.piece(number);
        let mask = u16::from(choices.byte());
        let spans = self.spans(piece, choices);
        let held = spans.into_iter().flatten().take(1).map(|span| HeldSpan {
            piece,
            attempt: 0,
            span_index: 0,
            blocks: mask & full_mask(span.len() as u32),
            span,
        });
        let held: Vec<_> = held.collect();
        let closed = self.launch.store.close(1, 2, &held);
        if closed.is_ok() && choices.byte() >= 0xc0 && !self.sync_failed {
            self.calm = false;
            let (path, offset) = (self.file(number), u64::from(choices.byte()) * 300);
            self.overwrite(&path, offset, choices.bytes(4));
        }
        if closed.is_err() {
            self.calm = false;
        }
        self.restart(End::Close);
    }

    fn fail(&mut self, number: u32, which: u8) {
        const OPERATIONS: [&str; 8] =
            ["write", "append", "sync", "sync all", "sync folder", "open", "read", "allocate"];
        const PATHS: [&str; 6] = ["t/a", "t/b", "t/d", "journal", "journal.new", ""];
        let operation = OPERATIONS[usize::from(which) % 8];
        let path = PATHS[usize::from(which >> 3) % 6];
        // Code 0 cuts the record short.
        let code = match number % 3 {
            0 if operation == "append" => 0,
            1 => ENOSPC,
            _ => EIO,
        };
        self.disk.fail(operation, path, code, 1 + (number / 64) as usize);
        self.calm = false;
    }

    /// The system writes a file back to the disk.
    fn write_back(&mut self, number: u32) {
        let path = self.file(number);
        if self.length(SAVE, &path).is_some() {
            self.disk.write_back(&path.to_string_lossy());
        }
    }

    /// Ends the process, changes files, and starts it again.
    fn tamper(&mut self, op: u8, number: u32, choices: &mut Choices<'_>) {
        self.calm = false;
        let path = self.file(number);
        match op {
            0xe4..0xe8 => self.remove(SAVE, &path),
            0xe8..0xec => {
                self.remove(SAVE, &path);
                self.overwrite(&path, 0, &vec![7; usize::from(choices.byte()) * 400]);
            }
            0xec..0xf0 => self.cut(SAVE, &path, choices.number() >> 14),
            0xf0..0xf4 => self.cut(STATE, &self.state_file("journal"), choices.number() >> 22),
            0xf4..0xf8 => self.damage("journal", choices),
            0xf8..0xfc => self.remove(STATE, &self.state_file("journal")),
            0xfc..0xfe => {
                let selected = |bit: usize| number >> bit & 1 == 0;
                self.spec.selected = Some((0..4).map(selected).collect());
            }
            _ => self.spec.resume = number & 1 == 0,
        }
        self.restart(End::Kill);
    }

    /// Ends the launch and starts the next, in which nothing fails: every piece that we have is on
    /// the disk.
    fn restart(&mut self, end: End) {
        let (have, durable) = (self.launch.store.have(), self.launch.store.durable());
        self.disk.heal();
        if end == End::CutPower {
            self.disk.cut_power();
        }
        // The old launch ends before the new one starts.
        let nothing =
            try_open_on(&Arc::new(MemDisk::default()), &self.torrent.spec(Path::new("/")));
        self.launch = nothing.expect("an empty disk");
        let opened = try_open_on(&self.disk, &self.spec).expect("nothing fails");
        self.launch = opened.try_check().expect("nothing fails");
        self.launch.opened.to_verify.clear();
        let promised = if end == End::CutPower { durable } else { have };
        let all = self.launch.store.have();
        let lost: Vec<u32> = promised
            .iter()
            .filter(|piece| !all.contains(self.piece(*piece)) && !self.is_hidden(*piece))
            .collect();
        assert!(!self.calm || lost.is_empty(), "promised pieces are lost: {lost:?}");
        (self.calm, self.sync_failed) = (true, false);
        all.iter().for_each(|piece| self.check_piece(self.piece(piece)));
    }

    /// Whether the bytes of a piece in the parts file are not found. Without the journal, an
    /// existing unselected file may be the torrent's and is read instead.
    fn is_hidden(&self, piece: u32) -> bool {
        let Some(selected) = self.spec.selected.as_ref().filter(|_| !self.spec.resume) else {
            return false;
        };
        let geometry = self.torrent.metainfo.info().geometry();
        let from = geometry.offset_of(self.piece(piece));
        let end = from + u64::from(geometry.length_of(self.piece(piece)));
        let hides = |file: metainfo::FileEntry<'_>| {
            let has_bytes = file.offset() < end && from < file.offset() + file.length();
            has_bytes && self.length(SAVE, &file.disk_path()).is_some_and(|length| length > 0)
        };
        let files = self.torrent.metainfo.info().files().iter().zip(selected);
        files.filter(|(_, wanted)| !**wanted).any(|(file, _)| hides(file))
    }

    /// Checks that the pieces that we have can be read and are right.
    fn check_piece(&mut self, piece: PieceIndex) {
        let length = self.torrent.piece_data(piece.get()).len() as u32;
        if !self.launch.store.have().contains(piece) {
            return;
        }
        let Ok(extents) = self.launch.read(self.torrent, piece.get(), 0, length) else {
            assert!(!self.calm, "a piece that we have can't be read");
            return;
        };
        let read = |extent: &Extent<_>| {
            read_exactly(&*self.disk, &extent.file, extent.offset, extent.length as usize)
        };
        let Ok(parts) = extents.iter().map(read).collect::<Result<Vec<_>, _>>() else {
            assert!(!self.calm, "a piece that we have can't be read");
            return;
        };
        let is_right = parts.concat() == self.torrent.piece_data(piece.get());
        assert!(is_right, "we have {piece}, and it is wrong");
    }

    /// A file of the torrent, below the download folder.
    fn file(&self, number: u32) -> PathBuf {
        let files = self.torrent.metainfo.info().files();
        let file = files.iter().nth(number as usize % files.len()).expect("it has files");
        file.disk_path()
    }

    /// A file in the state folder, by its extension.
    fn state_file(&self, extension: &str) -> PathBuf {
        let path = piece_hash::sha1(SAVE.as_bytes()).to_string();
        let name = format!("{}-{}", self.torrent.metainfo.info_hash(), &path[..16]);
        PathBuf::from(format!("{name}.{extension}"))
    }

    fn length(&self, folder: &str, path: &Path) -> Option<u64> {
        self.disk.stat(&folder.into(), path).ok().flatten().map(|stat| stat.length)
    }

    fn remove(&self, folder: &str, path: &Path) {
        let _was_there = self.disk.remove(&folder.into(), path);
    }

    fn cut(&self, folder: &str, path: &Path, length: u32) {
        let Some(before) = self.length(folder, path) else { return };
        self.disk.heal();
        let file = self.disk.open(&folder.into(), path, Access::Write).expect("it exists");
        self.disk.set_length(&file, before.min(length.into())).expect("nothing fails");
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) {
        self.disk.heal();
        let file = self.disk.open(&SAVE.into(), path, Access::Create).expect("nothing fails");
        self.disk.write_at(&file, &[IoSlice::new(bytes)], offset).expect("nothing fails");
    }

    /// Changes some bytes of a file in the state folder.
    fn damage(&self, extension: &str, choices: &mut Choices<'_>) {
        let path = self.state_file(extension);
        let (at, bytes) = (choices.number() >> 22, choices.bytes(6));
        let Some(length) = self.length(STATE, &path) else { return };
        let path = path.to_string_lossy();
        let mut content = self.disk.bytes(&path);
        let at = u64::from(at) % length.max(1);
        content.splice(at as usize..(at as usize + bytes.len()).min(content.len()), bytes.to_vec());
        self.disk.set_bytes(&path, &content);
    }
}
