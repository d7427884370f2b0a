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

/// The folder of the files that links lead to.
fn away(site: &Site<OsDisk>) -> PathBuf {
    site.save.with_file_name("away")
}

/// One entry is a link to the file of another one, which must be written.
#[test]
fn linked_entry_keeps_its_bytes() {
    let (head, tails) = (noise(PIECE as usize, 1), [2, 3].map(|seed| noise(PIECE as usize, seed)));
    let [first, second] = tails.map(|tail| [&head[..], &tail].concat());
    let files = [("a", LENGTH), ("b", LENGTH)];
    let torrent = torrent_of(&files, PIECE, [&first[..], &second].concat());
    let site = on_disk();
    std::fs::create_dir_all(site.save.join("t")).unwrap();
    std::fs::write(site.save.join("t/a"), &second).unwrap();
    symlink("a", site.save.join("t/b")).unwrap();
    let error = site.open(&site.spec(&torrent)).try_check().err();
    assert_eq!(error, Some(StoreError::Linked { path: site.save.join("t/b") }));
    // It may also be left out.
    site.open(&some(&site.spec(&torrent), &[true, false])).check().with(&torrent, [1]).close();
    assert!(std::fs::read(site.save.join("t/a")).unwrap() == first);
}

/// Writes the torrent elsewhere, and makes a folder for links to it.
fn stored_elsewhere(site: &Site<OsDisk>, torrent: &Torrent) -> PathBuf {
    let away = away(site);
    torrent.write(&away);
    std::fs::create_dir_all(site.save.join("t/sub")).unwrap();
    away
}

/// Which links lead to the files: one for each file, the inner folder, the torrent's folder.
#[derive(Debug, Clone, Copy)]
enum Through {
    Files,
    InnerFolder,
    TorrentFolder,
}

fn link(site: &Site<OsDisk>, torrent: &Torrent, through: Through) -> PathBuf {
    let away = stored_elsewhere(site, torrent);
    let (from, to) = (away.join("t"), site.save.join("t"));
    match through {
        Through::Files => {
            symlink(from.join("a"), to.join("a")).unwrap();
            symlink(from.join("sub/b"), to.join("sub/b")).unwrap();
        }
        Through::InnerFolder => {
            torrent.write_file(&site.save, 0);
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

/// The times and lengths of the files, to check that they were not written to.
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
        for (seed_only, overwrite) in [(true, false), (false, false), (false, true)] {
            let (torrent, site) = (two_files(), on_disk());
            let away = link(&site, &torrent, through);
            let before = marks(&away);
            let spec = OpenSpec { seed_only, overwrite, ..site.spec(&torrent) };
            let mut launch = site.open(&spec).check();
            assert_eq!(launch.have(), [0, 1, 2, 3], "{through:?} seed_only {seed_only}");
            let extents = launch.read(&torrent, 2, 5, 100).unwrap();
            assert_eq!(bytes_of(&extents), torrent.piece_data(2)[5..105]);
            launch.close();
            let launch = site.open(&spec);
            assert_eq!(
                (launch.have().len(), launch.to_verify()),
                (4, vec![]),
                "{through:?}: trusted"
            );
            launch.check().close();
            torrent.assert_complete(&away);
            assert_eq!(marks(&away), before, "{through:?}: written to");
        }
    }
}

#[test]
fn verify_follows_links() {
    for through in ALL {
        let (torrent, site) = (two_files(), on_disk());
        let away = link(&site, &torrent, through);
        let report = torrent.verify(&site.save, None);
        assert!(report.good.is_full() && report.files.iter().all(|file| file.ok), "{through:?}");
        std::fs::write(away.join("t/sub/b"), b"short").unwrap();
        let report = torrent.verify(&site.save, None);
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
            let (torrent, site) = (two_files(), on_disk());
            let away = link(&site, &torrent, through);
            spoil(&away, &torrent);
            let (before, bytes) = (marks(&away), std::fs::read(away.join("t/sub/b")).unwrap());
            let spec = OpenSpec { overwrite, ..site.spec(&torrent) };
            for _ in 0..2 {
                let Err(StoreError::Linked { path }) = site.open(&spec).try_check() else {
                    panic!("{through:?} overwrite {overwrite}: not refused");
                };
                assert!(path.ends_with("t/sub/b"), "{path:?}");
            }
            assert_eq!(marks(&away), before, "{through:?}");
            assert!(std::fs::read(away.join("t/sub/b")).unwrap() == bytes);
        }
    }
}

/// A seed-only torrent serves the good pieces of an incomplete linked file.
#[test]
fn incomplete_linked_file_is_served() {
    let (torrent, site) = (two_files(), on_disk());
    let away = link(&site, &torrent, Through::Files);
    spoil(&away, &torrent);
    site.open(&OpenSpec { seed_only: true, ..site.spec(&torrent) })
        .check()
        .assert_have(&[0, 1, 3])
        .close();
}

/// A linked file of other lengths: too short, too long, empty.
#[test]
fn wrong_length_linked_file_is_refused() {
    for overwrite in [false, true] {
        for bytes in [vec![], vec![1; 10], [two_files().file_data(1), b"the tail"].concat()] {
            let (torrent, site) = (two_files(), on_disk());
            let away = link(&site, &torrent, Through::Files);
            std::fs::write(away.join("t/sub/b"), &bytes).unwrap();
            let spec = OpenSpec { overwrite, ..site.spec(&torrent) };
            let error = site.open(&spec).try_check().err();
            let refused = matches!(&error, Some(StoreError::Linked { .. }));
            assert!(refused, "{} bytes, overwrite {overwrite}: {error:?}", bytes.len());
            assert!(std::fs::read(away.join("t/sub/b")).unwrap() == bytes);
        }
    }
}

#[test]
fn unselected_linked_file_is_untouched() {
    let (torrent, site) = (torrent(&[("a", LENGTH), ("sub/b", LENGTH - 9)], PIECE), on_disk());
    let away = link(&site, &torrent, Through::Files);
    spoil(&away, &torrent);
    let before = marks(&away);
    let spec = some(&site.spec(&torrent), &[true, false]);
    let launch = site.open(&spec).check();
    assert!(launch.have().starts_with(&[0, 1]));
    launch.close();
    // A boundary piece goes to the parts file, not through the link.
    let torrent = torrent_with(&[("a", LENGTH - 9), ("sub/b", LENGTH)], PIECE, 3);
    let launch = site.open(&some(&site.spec(&torrent), &[false, true]));
    verify_all(&launch);
    assert!(matches!(launch.store.finish_check(), Err(StoreError::Linked { .. })));
    drop(launch);
    std::fs::remove_file(site.save.join("t/sub/b")).unwrap();
    site.open(&some(&site.spec(&torrent), &[false, true]))
        .check()
        .with(&torrent, [1, 2, 3])
        .close();
    assert!(std::fs::read(site.save.join("t/sub/b")).unwrap() == torrent.file_data(1));
    assert_eq!(marks(&away), before);
}

#[test]
fn dangling_link_is_named() {
    let (torrent, site) = (two_files(), on_disk());
    torrent.write_file(&site.save, 0);
    std::fs::create_dir_all(site.save.join("t/sub")).unwrap();
    let target = site.save.join("nothing");
    symlink(&target, site.save.join("t/sub/b")).unwrap();
    for overwrite in [false, true] {
        let spec = OpenSpec { overwrite, ..site.spec(&torrent) };
        let launch = try_open_on(&site.disk, &spec).and_then(Launch::try_check);
        let error = launch.err().expect("nothing may be written through it").to_string();
        assert!(error.contains("t/sub/b"), "{error}");
        assert!(!target.exists());
    }
    site.open(&OpenSpec { seed_only: true, ..site.spec(&torrent) })
        .check()
        .assert_have(&[0, 1])
        .close();
    let report = torrent.verify(&site.save, None);
    assert_eq!((numbers(&report.good), report.files[1].found), (vec![0, 1], None));
}

/// No open blocks, whatever the link leads to.
#[test]
fn link_to_a_pipe_does_not_block() {
    let (torrent, site) = (two_files(), on_disk());
    torrent.write_file(&site.save, 0);
    std::fs::create_dir_all(site.save.join("t/sub")).unwrap();
    let pipe = site.save.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    symlink(&pipe, site.save.join("t/sub/b")).unwrap();
    let launch = try_open_on(&site.disk, &site.spec(&torrent)).and_then(Launch::try_check);
    let error = launch.err().expect("it is no file").to_string();
    assert!(error.contains("t/sub/b"), "{error}");
    site.open(&OpenSpec { seed_only: true, ..site.spec(&torrent) })
        .check()
        .assert_have(&[0, 1])
        .close();
    // The pipe itself, without a link.
    std::fs::remove_file(site.save.join("t/sub/b")).unwrap();
    std::fs::rename(&pipe, site.save.join("t/sub/b")).unwrap();
    assert!(try_open_on(&site.disk, &site.spec(&torrent)).and_then(Launch::try_check).is_err());
}

#[test]
fn loop_of_links_is_refused() {
    let (torrent, site) = (two_files(), on_disk());
    torrent.write_file(&site.save, 0);
    std::fs::create_dir_all(site.save.join("t/sub")).unwrap();
    symlink("b", site.save.join("t/sub/b")).unwrap();
    let launch = try_open_on(&site.disk, &site.spec(&torrent)).and_then(Launch::try_check);
    assert!(launch.is_err());
    let _launch = site
        .open(&OpenSpec { seed_only: true, ..site.spec(&torrent) })
        .check()
        .assert_have(&[0, 1]);
}

/// The link leads to another file at the next launch, with the same length and time.
#[test]
fn redirected_link_is_verified_again() {
    for clean in [true, false] {
        for seed_only in [true, false] {
            let (torrent, site) = (two_files(), on_disk());
            let away = link(&site, &torrent, Through::Files);
            let spec = OpenSpec { seed_only, ..site.spec(&torrent) };
            site.open(&spec).check().synced().end(clean);
            let (old, new) = (away.join("t/sub/b"), away.join("other"));
            let modified = std::fs::metadata(&old).unwrap().modified().unwrap();
            std::fs::write(&new, vec![7; LENGTH]).unwrap();
            let file = std::fs::File::options().write(true).open(&new).unwrap();
            file.set_modified(modified).unwrap();
            let path = site.save.join("t/sub/b");
            std::fs::remove_file(&path).unwrap();
            symlink(&new, &path).unwrap();
            let launch = site.open(&spec);
            let found = launch.found();
            assert_eq!(found, (vec![0, 1], vec![2, 3]), "clean {clean} seed_only {seed_only}");
            match launch.try_check() {
                Ok(launch) => assert!(seed_only && launch.have() == [0, 1]),
                Err(error) => assert!(matches!(error, StoreError::Linked { .. }), "{error:?}"),
            }
            assert!(std::fs::read(&new).unwrap() == vec![7; LENGTH]);
        }
    }
}

/// A folder on the way becomes a link between two launches, with our own incomplete file behind it.
#[test]
fn new_link_is_never_written() {
    let (torrent, site) = (two_files(), on_disk());
    site.start(&torrent).with(&torrent, [0, 2]).close();
    let away = away(&site);
    std::fs::create_dir_all(&away).unwrap();
    std::fs::rename(site.save.join("t/sub"), away.join("sub")).unwrap();
    symlink(away.join("sub"), site.save.join("t/sub")).unwrap();
    let before = std::fs::read(away.join("sub/b")).unwrap();
    let error = site.open(&site.spec(&torrent)).try_check().err();
    assert!(
        matches!(&error, Some(StoreError::Linked { path }) if path.ends_with("sub/b")),
        "{error:?}"
    );
    assert!(std::fs::read(away.join("sub/b")).unwrap() == before);
}

/// A folder becomes a link while the torrent is open. No new file is created behind it.
#[test]
fn file_behind_link_is_not_created() {
    let (torrent, site) = (two_files(), on_disk());
    let mut launch = site.start(&torrent).with(&torrent, [0]);
    let away = away(&site);
    std::fs::create_dir_all(&away).unwrap();
    symlink(&away, site.save.join("t/sub")).unwrap();
    let result = launch.try_commit(&torrent, 2);
    assert!(matches!(result, piece_store::CommitResult::Failed(_)), "{result:?}");
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), 0);
}
