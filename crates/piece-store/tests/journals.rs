//! Journals that the store of commit 3d2cf55 wrote. Later versions must read them with the same
//! result.
//!
//! Each folder `testdata/journals/NAME/` describes one disk at the end of a launch. Its `case.txt`
//! says what happened, lists all files of the disk (see [`dump`]), and then has the answers of that
//! store to several ways to open the torrent (see [`spec`] and [`answers`]). The journal itself is
//! beside it. Nothing writes these folders any more: only that store could.

#![allow(missing_docs, unreachable_pub, clippy::disallowed_methods)]

mod common;
#[path = "journals/dump.rs"]
mod dump;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use metainfo::Metainfo;
use piece_store::{CommitResult, OpenSpec, StoreError, Unrelated};

const SAVE: &str = "/save";
const STATE: &str = "/state";
const BLOCK: usize = 16 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/journals")
}

#[test]
fn earlier_journals_are_read_the_same() {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    assert_eq!(cases.len(), 98, "stored disks");
    let wrong: Vec<String> = cases.iter().flat_map(|case| replay(case)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A stored disk, and the answers about it.
struct Case {
    folder: PathBuf,
    torrent: Torrent,
    disk: String,
    /// Each with the openings it is the answer to.
    answers: Vec<(String, Answers)>,
}

/// What a store answers, and what it leaves behind.
#[derive(Default)]
struct Answers {
    /// Keys and values, in the order of the steps.
    steps: Vec<(String, String)>,
    /// The files below the download folder; none if the torrent is refused.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Answers {
    fn read(lines: &str, torrent: &Torrent) -> Self {
        let mut answers = Self::default();
        for line in lines.lines() {
            let (key, value) = line.split_once(':').unwrap();
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            if key.starts_with('/') {
                answers.files.insert(key.into(), dump::bytes(&value, &torrent.data));
            } else {
                answers.steps.push((key, value));
            }
        }
        answers
    }

    fn value(&self, key: &str) -> &str {
        self.steps.iter().find(|(other, _)| other == key).map_or("no answer", |(_, value)| value)
    }
}

impl Case {
    fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("case.txt")).unwrap();
        let mut sections = text.split("\n\n");
        let (about, disk) = (sections.next().unwrap(), sections.next().unwrap());
        let torrent = about.lines().find_map(|line| line.strip_prefix("torrent ")).unwrap();
        let torrent = stored_torrent(torrent);
        let answers = sections.map(|section| {
            let (first, lines) = section.split_once('\n').unwrap();
            let openings = first.strip_prefix("open ").unwrap().to_owned();
            (openings, Answers::read(lines, &torrent))
        });
        let answers = answers.collect();
        Self { folder: folder.to_owned(), torrent, disk: disk.to_owned(), answers }
    }

    fn load(&self) -> Arc<MemDisk> {
        Arc::new(dump::load(&self.disk, &self.torrent.data, &self.folder))
    }
}

/// Opens the torrent in every way of a case. Returns the answers that differ.
fn replay(folder: &Path) -> Vec<String> {
    let case = Case::read(folder);
    let name = folder.file_name().unwrap().to_string_lossy();
    assert!(!case.answers.is_empty(), "{name}");
    let mut wrong = Vec::new();
    for (openings, expected) in &case.answers {
        for opening in openings.split(", ") {
            let got = answers(&case.load(), &case.torrent, &spec(&case.torrent, opening));
            let differences = compare(expected, &got);
            wrong.extend(differences.iter().map(|line| format!("{name}, {opening}: {line}")));
        }
    }
    wrong
}

fn compare(expected: &Answers, got: &Answers) -> Vec<String> {
    let keys: BTreeSet<&String> =
        expected.steps.iter().chain(&got.steps).map(|(key, _)| key).collect();
    let values = keys.iter().map(|key| (key, expected.value(key), got.value(key)));
    let wrong = values.filter(|(key, expected, got)| !agrees(key, expected, got));
    let wrong = wrong.map(|(key, expected, got)| format!("{key}: expected {expected}, got {got}"));
    let paths: BTreeSet<&PathBuf> = expected.files.keys().chain(got.files.keys()).collect();
    let differ = paths.into_iter().filter(|path| expected.files.get(*path) != got.files.get(*path));
    wrong.chain(differ.map(|path| format!("{} differs", path.display()))).collect()
}

/// Compares two answers. At the open, the store may trust fewer pieces. After the check it may have
/// more, and then downloads fewer. If it refuses the torrent, it may leave more files untouched.
/// Everything else must be equal, but for which pieces it verified.
fn agrees(key: &str, expected: &str, got: &str) -> bool {
    let all_in = |some: &str, all: &str| {
        some.split_whitespace().all(|one| all.split_whitespace().any(|other| one == other))
    };
    match key {
        "to verify" => true,
        "have" | "download" => got != "no answer" && all_in(got, expected),
        "have then" | "untouched" => all_in(expected, got),
        _ => expected == got,
    }
}

/// Parses words such as `seed-only only:10010`, in which each digit selects a file. With `verify`
/// the store ignores the journal.
fn spec(torrent: &Torrent, opening: &str) -> OpenSpec {
    let mut spec = torrent.with_state(Path::new(SAVE), Path::new(STATE));
    for word in opening.split(' ') {
        match word.strip_prefix("only:") {
            Some(list) => spec.selected = Some(list.chars().map(|digit| digit == '1').collect()),
            None => match word {
                "everything" => {}
                "seed-only" => spec.seed_only = true,
                "overwrite" => spec.overwrite = true,
                "preallocate" => spec.preallocate = true,
                "verify" => spec.resume = false,
                _ => panic!("{word}"),
            },
        }
    }
    spec
}

/// Opens the torrent, verifies and downloads everything, closes it, and opens it again.
fn answers(disk: &Arc<MemDisk>, torrent: &Torrent, spec: &OpenSpec) -> Answers {
    let before = payload(disk);
    let mut steps = Vec::new();
    let mut note = |key: &str, value: String| steps.push((key.to_owned(), value));
    let (played, after) = (play(disk, torrent, spec, &mut note), payload(disk));
    if played.is_ok() {
        return Answers { steps, files: after };
    }
    let untouched = before.iter().filter(|(path, bytes)| after.get(*path) == Some(bytes));
    note("untouched", join(untouched.map(|(path, _)| path.display())));
    Answers { steps, files: BTreeMap::new() }
}

/// Notes the answer to each step of [`answers`]. Returns an error if the open or the check is
/// refused.
fn play(
    disk: &Arc<MemDisk>,
    torrent: &Torrent,
    spec: &OpenSpec,
    note: &mut impl FnMut(&str, String),
) -> Result<(), ()> {
    let mut launch = match try_open_on(disk, spec) {
        Ok(launch) => launch,
        Err(error) => {
            note("open", error_text(&error));
            return Err(());
        }
    };
    let opened = launch.opened.clone();
    note("totals", format!("{} up, {} down", opened.uploaded, opened.downloaded));
    note("have", join(numbers(&opened.have)));
    note("to verify", join(launch.to_verify()));
    note("unfinished", unfinished_text(&opened.unfinished));
    verify_all(&launch);
    let checked = launch.store.finish_check();
    note("check", checked.as_ref().err().map_or("good".to_owned(), error_text));
    note("have then", join(launch.have()));
    note("durable then", join(numbers(&launch.store.durable())));
    checked.map_err(drop)?;
    if !spec.seed_only {
        note("download", download(&mut launch, torrent));
    }
    let have = launch.have();
    let closed = launch.store.close(opened.uploaded + 1, opened.downloaded + 2, &[]);
    note("close", closed.err().as_ref().map_or("good".to_owned(), error_text));
    drop(launch);
    let again = try_open_on(disk, spec).and_then(Launch::try_check).map(|launch| launch.have());
    note("have at last", again.as_ref().map_or_else(error_text, join));
    if again.as_ref() != Ok(&have) {
        note("have at the close", join(have));
    }
    Ok(())
}

/// Commits the missing wanted pieces, with wrong bytes in place of the blocks that are on the disk.
fn download(launch: &mut Launch<MemDisk>, torrent: &Torrent) -> String {
    let (wanted, have) = (numbers(&launch.opened.wanted), launch.have());
    let missing: Vec<u32> = wanted.into_iter().filter(|piece| !have.contains(piece)).collect();
    for index in &missing {
        let mut spans = torrent.spans(*index);
        for (piece, blocks) in &launch.opened.unfinished {
            if piece.get() == *index {
                blank(&mut spans, blocks);
            }
        }
        match launch.commit_spans(torrent.piece(*index), &mut spans) {
            CommitResult::Verified { .. } => {}
            CommitResult::Failed(error) => return format!("piece {index}: {}", error_text(&error)),
            result => return format!("piece {index}: {result:?}"),
        }
    }
    join(missing)
}

/// Fills blocks with wrong bytes.
fn blank(spans: &mut [Option<piece_store::Span>], blocks: &[u32]) {
    for block in blocks {
        let (span, at) = (*block as usize / 16, *block as usize % 16 * BLOCK);
        let span = spans[span].as_mut().unwrap();
        let end = span.len().min(at + BLOCK);
        span[at..end].fill(0xee);
    }
}

/// The files below the download folder.
fn payload(disk: &MemDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter().map(|(path, _, bytes)| (path, bytes));
    files.filter(|(path, _)| path.starts_with(SAVE)).collect()
}

/// The error without its message, which may change.
fn error_text(error: &StoreError) -> String {
    match error {
        StoreError::UnrelatedFile { path, reason } => {
            let too_long = matches!(reason, Unrelated::TooLong { .. });
            let reason = if too_long { "too long" } else { "nothing verifies" };
            format!("unrelated file {}, {reason}", path.display())
        }
        StoreError::Disk { operation, path, kind, .. } => {
            format!("{operation:?} {}, {kind:?}", path.display())
        }
        error => format!("{error:?}"),
    }
}

fn unfinished_text(unfinished: &[(piece_store::PieceIndex, Vec<u32>)]) -> String {
    let piece = |(piece, blocks): &(piece_store::PieceIndex, Vec<u32>)| {
        format!("{}[{}]", piece.get(), join(blocks))
    };
    join(unfinished.iter().map(piece))
}

fn join(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// Reads `NAME.torrent`. Its data is noise; its padding is zeros.
fn stored_torrent(name: &str) -> Torrent {
    let bytes = std::fs::read(folder().join(format!("{name}.torrent"))).unwrap();
    let metainfo = Arc::new(Metainfo::parse(bytes).unwrap());
    let mut data = noise(metainfo.info().geometry().total() as usize, 1);
    for pad in metainfo.info().files().iter().filter(|file| file.is_pad()) {
        data[pad.offset() as usize..][..pad.length() as usize].fill(0);
    }
    Torrent { metainfo, data }
}
