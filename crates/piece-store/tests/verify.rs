//! Hashing pieces on disk: many at once, of any length, with holes, over any files.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::create::{ListedFile, OwnFiles};
use piece_store::{
    OpenSpec, Operation, OsDisk, Resources, STRIP_LENGTH, StoreError, check, create,
};

const EIO: i32 = 5;
const MIB: usize = 1 << 20;
/// None of these files ends at the end of a piece.
const FILES: [(&str, usize); 5] =
    [("a", 1_300_001), ("b", 3), ("empty", 0), ("c", 700_000), ("d", 2_000_007)];

/// All files of `torrent`, as they would be listed for a new one with the same order.
fn listed(torrent: &Torrent) -> Vec<ListedFile> {
    let info = torrent.metainfo.info();
    let file = |file: metainfo::FileEntry<'_>| ListedFile {
        path: PathBuf::from(file.path()),
        length: file.length(),
    };
    info.files().iter().map(file).collect()
}

/// With pieces of this length, complete pieces are good, and one wrong byte makes a piece bad,
/// wherever it is.
#[track_caller]
fn check_length(piece_length: usize) {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, piece_length as u32);
    torrent.write(root.path());
    let hashes = create::hash_files(
        &root.path().join("t"),
        &listed(&torrent),
        piece_length as u32,
        2,
        &quiet,
    );
    let expected: Vec<_> = torrent.data.chunks(piece_length).map(piece_hash::sha1).collect();
    assert!(hashes.unwrap() == expected, "{piece_length}");
    let report = torrent.verify(root.path(), None);
    assert!(report.good.is_full(), "{piece_length}");

    let last = torrent.pieces() - 1;
    let bad = [(0, 0), (last / 2, torrent.piece_data(last / 2).len() - 1), (last, 1)];
    for (piece, offset) in bad {
        flip(root.path(), &torrent, piece as usize * piece_length + offset);
    }
    let report = torrent.verify(root.path(), None);
    let expected: Vec<u32> =
        (0..=last).filter(|piece| bad.iter().all(|(bad, _)| bad != piece)).collect();
    assert_eq!(numbers(&report.good), expected, "{piece_length}");
}

/// Changes the byte at `offset` of the torrent.
fn flip(folder: &Path, torrent: &Torrent, offset: usize) {
    let mut files = torrent.metainfo.info().files().iter();
    let file = files
        .find(|file| (file.offset()..file.offset() + file.length()).contains(&(offset as u64)));
    let file = file.unwrap();
    let open = OpenOptions::new().write(true).open(folder.join(file.disk_path())).unwrap();
    open.write_all_at(&[!torrent.data[offset]], offset as u64 - file.offset()).unwrap();
}

#[test]
fn pieces_of_any_length() {
    // Shorter than a strip, as long, longer, and with a much shorter last piece.
    for piece_length in [16 << 10, 20_000, 64 << 10, 100_000, STRIP_LENGTH, 300_000, MIB, 3 * MIB] {
        check_length(piece_length);
    }
}

#[test]
fn missing_and_short_files_among_others() {
    let root = tempfile::tempdir().unwrap();
    let piece = 16 << 10;
    let torrent = torrent(&[("a", 100_000), ("b", 50_000), ("c", 100_000), ("d", 90_000)], piece);
    torrent.write(root.path());
    std::fs::remove_file(root.path().join("t/b")).unwrap();
    OpenOptions::new().write(true).open(root.path().join("t/d")).unwrap().set_len(60_000).unwrap();
    let report = torrent.verify(root.path(), None);
    // b is bytes 100,000 to 150,000. The bytes of d after 310,000 are missing.
    let expected: Vec<u32> = (0..6).chain(10..310_000 / piece).collect();
    assert_eq!(numbers(&report.good), expected);
}

/// A torrent of one file of 4 pieces of 1 MiB, of which these ranges are not zero.
fn with_holes(ranges: &[std::ops::Range<usize>]) -> Torrent {
    let mut data = vec![0; 4 * MIB];
    for range in ranges {
        data[range.clone()].copy_from_slice(&noise(range.len(), 5));
    }
    torrent_of(&[("a", data.len())], MIB as u32, data)
}

#[track_caller]
fn check_read(ranges: &[std::ops::Range<usize>]) {
    let torrent = with_holes(ranges);
    let disk = Arc::new(MemDisk::default());
    let spec = torrent.spec(Path::new("/save"));
    let launch = try_open_on(&disk, &spec).unwrap().check().with(&torrent, 0..4);
    let before = disk.bytes_read();
    assert_eq!(launch.verify(0..4), (vec![0, 1, 2, 3], None));
    let data: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    assert_eq!(disk.bytes_read() - before, data as u64);
}

#[test]
fn holes_are_not_read() {
    check_read(&[]);
    check_read(&[0..2 * MIB, 2 * MIB..4 * MIB]);
    // Half of piece 0, nothing of piece 1, the last half of piece 2, the middle of piece 3.
    check_read(&[0..MIB / 2, 5 * MIB / 2..3 * MIB, 13 * MIB / 4..15 * MIB / 4]);
}

#[test]
fn holes_of_a_new_torrent_are_zeros() {
    let root = tempfile::tempdir().unwrap();
    let torrent = with_holes(&[100_000..300_000, 2 * MIB + 7..2 * MIB + 9]);
    let path = root.path().join("a");
    let file = File::create(&path).unwrap();
    file.write_all_at(&torrent.data[100_000..300_000], 100_000).unwrap();
    file.write_all_at(&torrent.data[2 * MIB + 7..2 * MIB + 9], 2 * MIB as u64 + 7).unwrap();
    file.set_len(4 * MIB as u64).unwrap();
    let files = create::list_files(&path, &OwnFiles::default()).unwrap().files;
    for piece_length in [16 << 10, MIB, 3 * MIB] {
        let expected: Vec<_> = torrent.data.chunks(piece_length).map(piece_hash::sha1).collect();
        let hashes = create::hash_files(&path, &files, piece_length as u32, 2, &quiet).unwrap();
        assert!(hashes == expected, "{piece_length}");
    }
}

#[test]
fn hole_instead_of_data_is_bad() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&[("a", 4 * MIB)], MIB as u32);
    torrent.write(root.path());
    let file = OpenOptions::new().write(true).open(root.path().join("t/a")).unwrap();
    file.set_len(2 * MIB as u64).unwrap();
    file.set_len(4 * MIB as u64).unwrap();
    let report = torrent.verify(root.path(), None);
    assert_eq!(numbers(&report.good), [0, 1]);
}

#[test]
fn unreadable_piece_is_not_judged() {
    let torrent = torrent(&[("a", 400_000), ("b", 100_000), ("c", 400_000)], 100_000);
    let disk = Arc::new(MemDisk::default());
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let launch = try_open_on(&disk, &spec).unwrap().check().with(&torrent, 0..9);
    disk.fail("read", "t/b", EIO, usize::MAX);
    let (good, error) = launch.verify(0..9);
    assert!(good.starts_with(&[0, 1, 2, 3]) && !good.contains(&4), "{good:?}");
    assert!(matches!(error, Some(StoreError::Disk { operation: Operation::Read, .. })));
    assert_eq!(launch.have(), [0, 1, 2, 3, 4, 5, 6, 7, 8], "the journal still says so");
    disk.heal();
    assert_eq!(launch.verify(4..9), (vec![4, 5, 6, 7, 8], None));
}

// ---- What verify records ----

const PIECE: u32 = 16_384;

/// A torrent of two files of 4 pieces each, completed and closed.
fn completed() -> (Torrent, Site<OsDisk>) {
    let (torrent, site) = (torrent(&[("a", 65_536), ("b", 65_536)], PIECE), on_disk());
    site.start(&torrent).with(&torrent, 0..8).close();
    (torrent, site)
}

/// Changes a byte of the torrent, and restores the time of the file.
fn flip_unseen(site: &Site<OsDisk>, torrent: &Torrent, offset: usize) {
    let path = site.save.join(if offset < 65_536 { "t/a" } else { "t/b" });
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    flip(&site.save, torrent, offset);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

fn verify_in(site: &Site<OsDisk>, torrent: &Torrent) -> check::Report {
    let state = Some(site.state.as_path());
    torrent.verify(&site.save, state)
}

fn journal_bytes(site: &Site<OsDisk>) -> Vec<u8> {
    std::fs::read(site.state_file("journal")).unwrap()
}

#[test]
fn changed_piece_is_recorded_as_lost() {
    for clean in [true, false] {
        let (torrent, site) = completed();
        if !clean {
            drop(site.start(&torrent));
        }
        flip_unseen(&site, &torrent, 5 * PIECE as usize + 9);
        let report = verify_in(&site, &torrent);
        assert_eq!((numbers(&report.good).len(), report.corrected), (7, Ok(true)));
        let mut launch =
            site.open(&site.spec(&torrent)).assert_found(&[0, 1, 2, 3, 4, 6, 7], &[]).check();
        launch.commit(&torrent, [5]);
        launch.close();
        torrent.assert_complete(&site.save);
        let report = verify_in(&site, &torrent);
        assert_eq!((report.good.is_full(), report.corrected), (true, Ok(false)));
    }
}

/// Without `verify`, nobody would see it.
#[test]
fn change_without_verify_is_not_seen() {
    let (torrent, site) = completed();
    flip_unseen(&site, &torrent, 9);
    assert!(site.open(&site.spec(&torrent)).opened.have.is_full());
}

#[test]
fn good_folder_leaves_journal_as_it_is() {
    let (torrent, site) = completed();
    let before = journal_bytes(&site);
    let report = verify_in(&site, &torrent);
    assert_eq!((report.good.is_full(), report.corrected), (true, Ok(false)));
    assert!(journal_bytes(&site) == before);
}

#[test]
fn missing_file_is_not_recorded() {
    let (torrent, site) = completed();
    std::fs::rename(site.save.join("t/b"), site.save.join("away")).unwrap();
    let before = journal_bytes(&site);
    let report = verify_in(&site, &torrent);
    assert_eq!((numbers(&report.good), report.corrected), (vec![0, 1, 2, 3], Ok(false)));
    assert!(journal_bytes(&site) == before);
    std::fs::rename(site.save.join("away"), site.save.join("t/b")).unwrap();
    assert!(site.open(&site.spec(&torrent)).opened.have.is_full(), "it was away for a while");
}

/// A file that is too short: what is there and wrong is lost, what is not there is not recorded.
#[test]
fn missing_end_is_not_recorded() {
    let (torrent, site) = completed();
    let file = OpenOptions::new().write(true).open(site.save.join("t/b")).unwrap();
    file.set_len(2 * u64::from(PIECE)).unwrap();
    let before = journal_bytes(&site);
    let report = verify_in(&site, &torrent);
    assert_eq!((numbers(&report.good).len(), report.corrected), (6, Ok(false)));
    assert!(journal_bytes(&site) == before);
}

#[test]
fn folder_without_journal_is_not_recorded() {
    let (torrent, site) = completed();
    flip_unseen(&site, &torrent, 9);
    site.remove_journals();
    assert_eq!(verify_in(&site, &torrent).corrected, Ok(false));
    let state = site.save.with_file_name("no state");
    assert_eq!(torrent.verify(&site.save, Some(&state)).corrected, Ok(false));
    assert!(!state.exists(), "made for nothing");
    let left = std::fs::read_dir(&site.state).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.into_iter().all(|path| path.extension().is_none()), "only locks");
}

/// The journal is of another folder.
#[test]
fn copy_of_a_folder_is_not_recorded() {
    let (torrent, site) = completed();
    let copy = site.save.with_file_name("copy");
    torrent.write(&copy);
    flip(&copy, &torrent, 9);
    let before = journal_bytes(&site);
    let state = Some(site.state.as_path());
    let report = torrent.verify(&copy, state);
    assert_eq!((numbers(&report.good).len(), report.corrected), (7, Ok(false)));
    assert!(journal_bytes(&site) == before);
}

/// A download fetches and closes while the pieces are compared.
#[test]
fn pieces_written_meanwhile_need_no_correction() {
    let torrent = torrent(&FILES, PIECE);
    let site = on_disk();
    let spec = OpenSpec { preallocate: true, ..site.spec(&torrent) };
    site.open(&spec).check().close();
    let download = std::sync::Once::new();
    let progress = |done: u64, total: u64| {
        if done == total {
            download.call_once(|| {
                site.open(&spec).check().with(&torrent, 0..torrent.pieces()).close();
            });
        }
    };
    let state = Some(site.state.as_path());
    let verify = check::verify_folder(
        &torrent.metainfo,
        &site.save,
        state,
        Resources::with_workers(1),
        &progress,
    );
    assert_eq!(verify.unwrap().corrected, Ok(false));
    assert!(site.open(&spec).opened.have.is_full());
}

/// A download beside it has not written the pieces that differ.
#[test]
fn unwritten_pieces_need_no_correction() {
    let torrent = torrent(&FILES, PIECE);
    let site = on_disk();
    let _launch = site
        .open(&OpenSpec { preallocate: true, ..site.spec(&torrent) })
        .check()
        .with(&torrent, [1]);
    let report = verify_in(&site, &torrent);
    assert_eq!((numbers(&report.good), report.corrected), (vec![1], Ok(false)));
}

#[test]
fn journal_in_use_is_not_changed() {
    let (torrent, site) = completed();
    let launch = site.start(&torrent);
    flip_unseen(&site, &torrent, 9);
    let before = journal_bytes(&site);
    let report = verify_in(&site, &torrent);
    assert!(matches!(report.corrected, Err(StoreError::InUse { .. })), "{:?}", report.corrected);
    assert_eq!(numbers(&report.good), [1, 2, 3, 4, 5, 6, 7]);
    assert!(journal_bytes(&site) == before);
    launch.close();
    assert_eq!(verify_in(&site, &torrent).corrected, Ok(true));
    assert_eq!(site.open(&site.spec(&torrent)).opened.have.count(), 7);
}

/// What a write that was cut short left is cut off before the record.
#[test]
fn torn_tail_is_cut_before_the_record() {
    for tail in [&b"\x04"[..], &[4, 8, 0, 0, 0, 1, 2, 3], &[0; 100], &[0xff; 7]] {
        let (torrent, site) = completed();
        flip_unseen(&site, &torrent, 9);
        let torn = [journal_bytes(&site), tail.to_vec()].concat();
        std::fs::write(site.state_file("journal"), &torn).unwrap();
        assert_eq!(verify_in(&site, &torrent).corrected, Ok(true));
        let launch = site.open(&site.spec(&torrent));
        assert_eq!(numbers(&launch.opened.have), [1, 2, 3, 4, 5, 6, 7], "{tail:?}");
        assert!(!launch.to_verify().contains(&0), "{tail:?}");
    }
}

/// A boundary piece whose other half is in the parts file.
#[test]
fn verify_keeps_piece_in_parts_file() {
    let (torrent, site) = (torrent(&[("a", 20_000), ("b", 40_000)], PIECE), on_disk());
    let spec = some(&site.spec(&torrent), &[true, false]);
    site.open(&spec).check().with(&torrent, [0, 1]).close();
    assert_eq!(verify_in(&site, &torrent).corrected, Ok(false));
    // The user's own file has the name of the unselected one.
    site.write("t/b", &noise(40_000, 77));
    let report = verify_in(&site, &torrent);
    assert_eq!(numbers(&report.good), [0]);
    let launch = site.open(&spec).check();
    assert_eq!(launch.have(), [0, 1], "corrected: {:?}", report.corrected);
}

#[test]
fn verify_twice_records_once() {
    let (torrent, site) = completed();
    flip_unseen(&site, &torrent, 9);
    assert_eq!(verify_in(&site, &torrent).corrected, Ok(true));
    let after = journal_bytes(&site);
    assert_eq!(verify_in(&site, &torrent).corrected, Ok(false));
    assert!(journal_bytes(&site) == after);
}
