//! Reading follows the user's symbolic links. Writing never does.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::*;
use piece_store::{OpenSpec, OsDisk, StoreError};

const PIECE: u32 = 16_384;
const LENGTH: usize = 2 * PIECE as usize;

fn two_files() -> Torrent {
    torrent(&[("a", LENGTH), ("sub/b", LENGTH)], PIECE)
}

/// Where the files are that links lead to.
fn away(place: &Place<OsDisk>) -> PathBuf {
    place.save.with_file_name("away")
}

/// One entry is a link to the file of another one, which must be written.
#[test]
fn linked_entry_keeps_its_bytes() {
    let (head, tails) = (noise(PIECE as usize, 1), [2, 3].map(|seed| noise(PIECE as usize, seed)));
    let [first, second] = tails.map(|tail| [&head[..], &tail].concat());
    let files = [("a", LENGTH), ("b", LENGTH)];
    let torrent = torrent_of(&files, PIECE, [&first[..], &second].concat());
    let place = on_disk();
    std::fs::create_dir_all(place.save.join("t")).unwrap();
    std::fs::write(place.save.join("t/a"), &second).unwrap();
    symlink("a", place.save.join("t/b")).unwrap();
    let error = place.open(&place.spec(&torrent)).try_check().err();
    assert_eq!(error, Some(StoreError::Linked { path: place.save.join("t/b") }));
    // It may also be left out.
    let mut run = place.open(&some(&place.spec(&torrent), &[true, false])).check();
    run.commit(&torrent, [1]);
    run.close();
    assert!(std::fs::read(place.save.join("t/a")).unwrap() == first);
}

/// All of the torrent elsewhere, and a folder for links to it.
fn stored_elsewhere(place: &Place<OsDisk>, torrent: &Torrent) -> PathBuf {
    let away = away(place);
    torrent.write(&away);
    std::fs::create_dir_all(place.save.join("t/sub")).unwrap();
    away
}

/// How links lead to the files: each alone, the inner folder, the torrent's folder.
#[derive(Debug, Clone, Copy)]
enum Through {
    Files,
    InnerFolder,
    TorrentFolder,
}

fn link(place: &Place<OsDisk>, torrent: &Torrent, through: Through) -> PathBuf {
    let away = stored_elsewhere(place, torrent);
    let (from, to) = (away.join("t"), place.save.join("t"));
    match through {
        Through::Files => {
            symlink(from.join("a"), to.join("a")).unwrap();
            symlink(from.join("sub/b"), to.join("sub/b")).unwrap();
        }
        Through::InnerFolder => {
            torrent.write_file(&place.save, 0);
            std::fs::remove_dir(to.join("sub")).unwrap();
            symlink(from.join("sub"), to.join("sub")).unwrap();
        }
        Through::TorrentFolder => {
            std::fs::remove_dir_all(&to).unwrap();
            symlink(from, to).unwrap();
        }
    }
    away
}

const ALL: [Through; 3] = [Through::Files, Through::InnerFolder, Through::TorrentFolder];

/// The times and lengths of the files, to see that nobody wrote to them.
fn marks(away: &Path) -> Vec<(u64, std::time::SystemTime)> {
    ["t/a", "t/sub/b"]
        .iter()
        .filter_map(|path| std::fs::metadata(away.join(path)).ok())
        .map(|data| (data.len(), data.modified().unwrap()))
        .collect()
}

#[test]
fn complete_file_through_links_is_used() {
    for through in ALL {
        for (read_only, overwrite) in [(true, false), (false, false), (false, true)] {
            let (torrent, place) = (two_files(), on_disk());
            let away = link(&place, &torrent, through);
            let before = marks(&away);
            let spec = OpenSpec { read_only, overwrite, ..place.spec(&torrent) };
            let mut run = place.open(&spec).check();
            assert_eq!(run.have(), [0, 1, 2, 3], "{through:?} read_only {read_only}");
            let extents = run.read(&torrent, 2, 5, 100).unwrap();
            assert_eq!(bytes_of(&extents), torrent.piece_data(2)[5..105]);
            run.close();
            let run = place.open(&spec);
            assert_eq!((run.have().len(), run.to_verify()), (4, vec![]), "{through:?}: trusted");
            run.check().close();
            torrent.assert_complete(&away);
            assert_eq!(marks(&away), before, "{through:?}: written to");
        }
    }
}

#[test]
fn verify_follows_links() {
    for through in ALL {
        let (torrent, place) = (two_files(), on_disk());
        let away = link(&place, &torrent, through);
        let report = torrent.verify(&place.save, None);
        assert!(report.good.is_full() && report.files.iter().all(|file| file.ok), "{through:?}");
        std::fs::write(away.join("t/sub/b"), b"short").unwrap();
        let report = torrent.verify(&place.save, None);
        assert_eq!(numbers(&report.good), [0, 1], "{through:?}");
        assert_eq!(report.files[1].found, Some(5));
    }
}

/// One piece of `sub/b` is wrong.
fn spoil(away: &Path, torrent: &Torrent) {
    let mut bytes = torrent.file_data(1).to_vec();
    bytes[0] ^= 1;
    std::fs::write(away.join("t/sub/b"), bytes).unwrap();
}

#[test]
fn incomplete_linked_file_stops_the_download() {
    for through in ALL {
        for overwrite in [false, true] {
            let (torrent, place) = (two_files(), on_disk());
            let away = link(&place, &torrent, through);
            spoil(&away, &torrent);
            let (before, bytes) = (marks(&away), std::fs::read(away.join("t/sub/b")).unwrap());
            let spec = OpenSpec { overwrite, ..place.spec(&torrent) };
            for _ in 0..2 {
                let Err(StoreError::Linked { path }) = place.open(&spec).try_check() else {
                    panic!("{through:?} overwrite {overwrite}: not refused");
                };
                assert!(path.ends_with("t/sub/b"), "{path:?}");
            }
            assert_eq!(marks(&away), before, "{through:?}");
            assert!(std::fs::read(away.join("t/sub/b")).unwrap() == bytes);
        }
    }
}

/// A seed serves what is good of an incomplete linked file.
#[test]
fn incomplete_linked_file_is_served() {
    let (torrent, place) = (two_files(), on_disk());
    let away = link(&place, &torrent, Through::Files);
    spoil(&away, &torrent);
    let run = place.open(&OpenSpec { read_only: true, ..place.spec(&torrent) }).check();
    assert_eq!(run.have(), [0, 1, 3]);
    run.close();
}

/// A linked file of other lengths: too short, too long, empty.
#[test]
fn linked_file_of_another_length() {
    for overwrite in [false, true] {
        for bytes in [vec![], vec![1; 10], [two_files().file_data(1), b"the tail"].concat()] {
            let (torrent, place) = (two_files(), on_disk());
            let away = link(&place, &torrent, Through::Files);
            std::fs::write(away.join("t/sub/b"), &bytes).unwrap();
            let spec = OpenSpec { overwrite, ..place.spec(&torrent) };
            let error = place.open(&spec).try_check().err();
            let refused = matches!(&error, Some(StoreError::Linked { .. }));
            assert!(refused, "{} bytes, overwrite {overwrite}: {error:?}", bytes.len());
            assert!(std::fs::read(away.join("t/sub/b")).unwrap() == bytes);
        }
    }
}

#[test]
fn unselected_linked_file_is_left() {
    let (torrent, place) = (torrent(&[("a", LENGTH), ("sub/b", LENGTH - 9)], PIECE), on_disk());
    let away = link(&place, &torrent, Through::Files);
    spoil(&away, &torrent);
    let before = marks(&away);
    let spec = some(&place.spec(&torrent), &[true, false]);
    let run = place.open(&spec).check();
    assert!(run.have().starts_with(&[0, 1]));
    run.close();
    // A boundary piece goes to the parts file, not through the link.
    let torrent = torrent_with(&[("a", LENGTH - 9), ("sub/b", LENGTH)], PIECE, 3);
    let run = place.open(&some(&place.spec(&torrent), &[false, true]));
    verify_all(&run);
    assert!(matches!(run.store.finish_check(), Err(StoreError::Linked { .. })));
    drop(run);
    std::fs::remove_file(place.save.join("t/sub/b")).unwrap();
    let mut run = place.open(&some(&place.spec(&torrent), &[false, true])).check();
    run.commit(&torrent, [1, 2, 3]);
    run.close();
    assert!(std::fs::read(place.save.join("t/sub/b")).unwrap() == torrent.file_data(1));
    assert_eq!(marks(&away), before);
}

#[test]
fn dangling_link_is_named() {
    let (torrent, place) = (two_files(), on_disk());
    torrent.write_file(&place.save, 0);
    std::fs::create_dir_all(place.save.join("t/sub")).unwrap();
    let target = place.save.join("nothing");
    symlink(&target, place.save.join("t/sub/b")).unwrap();
    for overwrite in [false, true] {
        let spec = OpenSpec { overwrite, ..place.spec(&torrent) };
        let run = try_open_on(&place.disk, &spec).and_then(Run::try_check);
        let error = run.err().expect("nothing may be written through it").to_string();
        assert!(error.contains("t/sub/b"), "{error}");
        assert!(!target.exists());
    }
    let run = place.open(&OpenSpec { read_only: true, ..place.spec(&torrent) }).check();
    assert_eq!(run.have(), [0, 1]);
    run.close();
    let report = torrent.verify(&place.save, None);
    assert_eq!((numbers(&report.good), report.files[1].found), (vec![0, 1], None));
}

/// Whatever is at the end of the link, nothing waits for it.
#[test]
fn link_to_a_pipe_does_not_block() {
    let (torrent, place) = (two_files(), on_disk());
    torrent.write_file(&place.save, 0);
    std::fs::create_dir_all(place.save.join("t/sub")).unwrap();
    let pipe = place.save.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    symlink(&pipe, place.save.join("t/sub/b")).unwrap();
    let run = try_open_on(&place.disk, &place.spec(&torrent)).and_then(Run::try_check);
    let error = run.err().expect("it is no file").to_string();
    assert!(error.contains("t/sub/b"), "{error}");
    let run = place.open(&OpenSpec { read_only: true, ..place.spec(&torrent) }).check();
    assert_eq!(run.have(), [0, 1]);
    run.close();
    // The pipe itself, without a link.
    std::fs::remove_file(place.save.join("t/sub/b")).unwrap();
    std::fs::rename(&pipe, place.save.join("t/sub/b")).unwrap();
    assert!(try_open_on(&place.disk, &place.spec(&torrent)).and_then(Run::try_check).is_err());
}

#[test]
fn loop_of_links_is_no_file() {
    let (torrent, place) = (two_files(), on_disk());
    torrent.write_file(&place.save, 0);
    std::fs::create_dir_all(place.save.join("t/sub")).unwrap();
    symlink("b", place.save.join("t/sub/b")).unwrap();
    let run = try_open_on(&place.disk, &place.spec(&torrent)).and_then(Run::try_check);
    assert!(run.is_err());
    let run = place.open(&OpenSpec { read_only: true, ..place.spec(&torrent) }).check();
    assert_eq!(run.have(), [0, 1]);
}

/// The link leads to another file at the next launch, with the same length and time.
#[test]
fn redirected_link_is_verified_again() {
    for clean in [true, false] {
        for read_only in [true, false] {
            let (torrent, place) = (two_files(), on_disk());
            let away = link(&place, &torrent, Through::Files);
            let spec = OpenSpec { read_only, ..place.spec(&torrent) };
            let run = place.open(&spec).check();
            run.store.sync().unwrap();
            if clean {
                run.close();
            } else {
                drop(run);
            }
            let (old, new) = (away.join("t/sub/b"), away.join("other"));
            let modified = std::fs::metadata(&old).unwrap().modified().unwrap();
            std::fs::write(&new, vec![7; LENGTH]).unwrap();
            let file = std::fs::File::options().write(true).open(&new).unwrap();
            file.set_modified(modified).unwrap();
            let path = place.save.join("t/sub/b");
            std::fs::remove_file(&path).unwrap();
            symlink(&new, &path).unwrap();
            let run = place.open(&spec);
            let found = (numbers(&run.opened.have), run.to_verify());
            assert_eq!(found, (vec![0, 1], vec![2, 3]), "clean {clean} read_only {read_only}");
            match run.try_check() {
                Ok(run) => assert!(read_only && run.have() == [0, 1]),
                Err(error) => assert!(matches!(error, StoreError::Linked { .. }), "{error:?}"),
            }
            assert!(std::fs::read(&new).unwrap() == vec![7; LENGTH]);
        }
    }
}

/// A folder on the way becomes a link between two launches, with our own incomplete file behind it.
#[test]
fn new_link_is_never_written() {
    let (torrent, place) = (two_files(), on_disk());
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, [0, 2]);
    run.close();
    let away = away(&place);
    std::fs::create_dir_all(&away).unwrap();
    std::fs::rename(place.save.join("t/sub"), away.join("sub")).unwrap();
    symlink(away.join("sub"), place.save.join("t/sub")).unwrap();
    let before = std::fs::read(away.join("sub/b")).unwrap();
    let error = place.open(&place.spec(&torrent)).try_check().err();
    assert!(
        matches!(&error, Some(StoreError::Linked { path }) if path.ends_with("sub/b")),
        "{error:?}"
    );
    assert!(std::fs::read(away.join("sub/b")).unwrap() == before);
}

/// A folder becomes a link while the torrent is open: a new file is not made behind it.
#[test]
fn file_behind_link_is_not_created() {
    let (torrent, place) = (two_files(), on_disk());
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, [0]);
    let away = away(&place);
    std::fs::create_dir_all(&away).unwrap();
    symlink(&away, place.save.join("t/sub")).unwrap();
    let outcome = run.try_commit(&torrent, 2);
    assert!(matches!(outcome, piece_store::Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), 0);
}
