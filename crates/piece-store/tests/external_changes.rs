//! The user changes files between launches and during one. The store never overwrites the user's
//! own files, never claims a piece that is not on disk, and forgets none.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::{Disk as _, OpenSpec, STRIP_LENGTH, StoreError};

/// Another file of the same name (another inode, while the old one still lives).
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::write(path.with_extension("new"), bytes).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

fn parts_file(state: &Path) -> PathBuf {
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|name| name == "parts")).unwrap()
}

fn ab() -> Torrent {
    torrent(&[("a", 20_000), ("b", 40_000)], 16_384)
}

#[test]
fn user_file_replaces_ours_after_kill() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    drop(open(&spec).check().with(&torrent, 0..torrent.pieces()).synced());
    let user_bytes = noise(40_000, 77);
    replace(&save.join("t/b"), &user_bytes);
    let launch = open(&spec).try_check();
    let refused = matches!(launch, Err(StoreError::UnrelatedFile { .. }));
    if let Ok(mut launch) = launch {
        launch.commit(&torrent, [2, 3]);
    }
    assert!(
        std::fs::read(save.join("t/b")).unwrap() == user_bytes,
        "overwritten; refused: {refused}"
    );
    assert!(refused);
}

#[test]
fn user_file_appears_after_kill() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    drop(open(&spec).check().with(&torrent, [0]));
    let user_bytes = noise(40_000, 77);
    std::fs::write(save.join("t/b"), &user_bytes).unwrap();
    let launch = open(&spec).try_check();
    assert!(matches!(launch, Err(StoreError::UnrelatedFile { .. })));
}

#[test]
fn unselected_user_file_stays_unrelated() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    drop(open(&spec).check());
    let user_bytes = noise(40_000, 77);
    std::fs::create_dir_all(save.join("t")).unwrap();
    std::fs::write(save.join("t/b"), &user_bytes).unwrap();
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    open(&some(&spec, &[true, false])).check().close();
    // The check is not finished.
    drop(open(&spec));
    assert!(std::fs::read(save.join("t/b")).unwrap() == user_bytes, "the open wrote to it");
    let launch = open(&spec).try_check();
    assert!(matches!(launch, Err(StoreError::UnrelatedFile { .. })));
}

#[test]
fn user_file_stays_unrelated_after_seeding() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    drop(open(&spec).check());
    let user_bytes = noise(40_000, 77);
    std::fs::create_dir_all(save.join("t")).unwrap();
    std::fs::write(save.join("t/b"), &user_bytes).unwrap();
    open(&OpenSpec { seed_only: true, ..spec.clone() }).check().close();
    let launch = open(&spec).try_check();
    assert!(matches!(launch, Err(StoreError::UnrelatedFile { .. })));
}

fn abc() -> Torrent {
    torrent(&[("a", 20_000), ("b", 40_000), ("c", 40_000)], 16_384)
}

#[test]
fn copied_file_survives_kill_before_check() {
    for (between, last) in [
        (Some((false, vec![true, false, false])), (false, vec![true, false, false])),
        (Some((true, vec![true, true, false])), (true, vec![true, true, false])),
        (None, (true, vec![true, true, false])),
    ] {
        let (_root, save, state) = folders();
        let torrent = abc();
        let spec = torrent.with_state(&save, &state);
        open(&some(&spec, &[true, true, false])).check().with(&torrent, 0..4).synced().close();
        replace(&save.join("t/b"), torrent.file_data(1));
        if let Some((seed_only, list)) = &between {
            drop(open(&OpenSpec { seed_only: *seed_only, ..some(&spec, list) }));
        }
        let (seed_only, list) = last;
        let launch = open(&OpenSpec { seed_only, ..some(&spec, &list) }).check();
        assert_eq!(launch.have(), [0, 1, 2, 3], "{between:?} then {list:?} seed_only {seed_only}");
    }
}

#[test]
fn copied_file_is_seeded_after_kill() {
    let (_root, save, state) = folders();
    let torrent = abc();
    let spec = some(&torrent.with_state(&save, &state), &[true, true, false]);
    open(&spec).check().with(&torrent, 0..4).close();
    replace(&save.join("t/b"), torrent.file_data(1));
    let serving = OpenSpec { seed_only: true, ..spec };
    drop(open(&serving));
    for _ in 0..2 {
        open(&serving).check().assert_have(&[0, 1, 2, 3]).close();
    }
}

#[test]
fn returned_file_is_seeded() {
    for seed_only in [false, true] {
        let (_root, save, state) = folders();
        let torrent = abc();
        let spec = some(&torrent.with_state(&save, &state), &[true, true, false]);
        open(&spec).check().with(&torrent, 0..4).close();
        std::fs::rename(save.join("t/b"), save.join("away")).unwrap();
        open(&OpenSpec { seed_only, ..spec.clone() }).check().close();
        std::fs::rename(save.join("away"), save.join("t/b")).unwrap();
        let serving = OpenSpec { seed_only: true, ..spec };
        assert_eq!(open(&serving).check().have(), [0, 1, 2, 3], "seed_only {seed_only}");
    }
}

#[test]
fn trusted_file_changes_during_check() {
    for cut in [None, Some(10_000), Some(1_000)] {
        let (_root, save, state) = folders();
        let torrent = ab();
        let spec = torrent.with_state(&save, &state);
        open(&spec).check().with(&torrent, 0..3).close();
        let launch = open(&spec);
        assert_eq!(numbers(&launch.opened.have), [0, 1, 2]);
        match cut {
            None => std::fs::remove_file(save.join("t/b")).unwrap(),
            Some(length) => {
                OpenOptions::new()
                    .write(true)
                    .open(save.join("t/b"))
                    .unwrap()
                    .set_len(length)
                    .unwrap();
            }
        }
        let Ok(mut launch) = launch.try_check() else { continue };
        let _ = launch.try_commit(&torrent, 3);
        let _ = launch.store.close(0, 0, &[]);
        drop(launch);
        let have = open(&spec).check().have();
        let on_disk = std::fs::read(save.join("t/b")).unwrap() == torrent.file_data(1);
        assert!(
            on_disk || have != [0, 1, 2, 3],
            "cut {cut:?}: all pieces are trusted, but b has holes"
        );
    }
}

#[test]
fn user_file_replaces_ours_while_open() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    open(&spec).check().with(&torrent, 0..3).close();
    let mut launch = open(&spec).check();
    let user_bytes = noise(40_000, 77);
    replace(&save.join("t/b"), &user_bytes);
    let result = launch.try_commit(&torrent, 3);
    let end = launch.store.close(0, 0, &[]);
    drop(launch);
    let have = open(&spec).opened.have.iter().collect::<Vec<_>>();
    assert!(
        std::fs::read(save.join("t/b")).unwrap() == user_bytes,
        "{result:?} {end:?} then have {have:?}"
    );
}

#[test]
fn user_file_appears_while_open() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut launch = open(&spec).check().with(&torrent, [0]);
    let user_bytes = noise(40_000, 77);
    std::fs::write(save.join("t/b"), &user_bytes).unwrap();
    let result = launch.try_commit(&torrent, 3);
    assert!(std::fs::read(save.join("t/b")).unwrap() == user_bytes, "{result:?}");
}

#[test]
fn parts_file_removed_after_import() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    drop(open(&spec).check().synced());
    let parts = parts_file(&state);
    std::fs::remove_file(parts).unwrap();
    assert_eq!(open(&spec).check().have(), [0, 1]);
}

#[test]
fn complete_file_replaces_ours() {
    let (_root, save, state) = folders();
    let torrent = abc();
    let spec = torrent.with_state(&save, &state);
    let (both, only_a) = (some(&spec, &[true, true, false]), some(&spec, &[true, false, false]));
    drop(open(&both).check().with(&torrent, 0..4).synced());
    replace(&save.join("t/b"), torrent.file_data(1));
    drop(open(&both));
    open(&only_a).check().close();
    assert_eq!(open(&both).check().have(), [0, 1, 2, 3]);
}

#[test]
fn killed_import_leaves_nothing() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    drop(open(&spec).check());
    // A power cut removes the new file's name.
    std::fs::remove_file(save.join("t/b")).unwrap();
    std::fs::remove_file(parts_file(&state)).unwrap();
    open(&spec).check().assert_have(&[0]).with(&torrent, 1..4).close();
    torrent.assert_complete(&save);
}

#[test]
fn user_file_replaces_copy_during_check() {
    for seed_only in [false, true] {
        let (_root, save, state) = folders();
        let torrent = ab();
        torrent.write(&save);
        let spec = OpenSpec { seed_only, ..torrent.with_state(&save, &state) };
        let launch = open(&spec);
        verify_all(&launch);
        replace(&save.join("t/b"), &noise(40_000, 77));
        assert!(launch.store.finish_check().is_err());
        let _failed = launch.store.close(0, 0, &[]);
        drop(launch);
        assert_eq!(numbers(&open(&spec).opened.have), [0; 0], "trusted without a check");
    }
}

#[test]
fn small_user_file_appears_during_check() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 40_000), ("b", 9_000)], 16_384);
    torrent.write_file(&save, 0);
    let spec = torrent.with_state(&save, &state);
    let launch = open(&spec);
    verify_all(&launch);
    std::fs::write(save.join("t/b"), noise(9_000, 77)).unwrap();
    assert!(launch.store.finish_check().is_err(), "it would be overwritten: {:?}", launch.have());
}

#[test]
fn unselected_user_file_removed_during_check() {
    let (_root, save, state) = folders();
    let torrent = ab();
    std::fs::create_dir_all(save.join("t")).unwrap();
    std::fs::write(save.join("t/b"), noise(30_000, 77)).unwrap();
    let launch = open(&some(&torrent.with_state(&save, &state), &[true, false]));
    verify_all(&launch);
    std::fs::remove_file(save.join("t/b")).unwrap();
    launch.store.finish_check().unwrap();
}

#[test]
fn long_file_is_overwritten() {
    for preallocate in [false, true] {
        let (_root, save, state) = folders();
        let torrent = ab();
        std::fs::create_dir_all(save.join("t")).unwrap();
        std::fs::write(save.join("t/b"), noise(90_000, 77)).unwrap();
        let spec = OpenSpec { overwrite: true, preallocate, ..torrent.with_state(&save, &state) };
        for pieces in [0..2, 2..4] {
            open(&spec).check().with(&torrent, pieces).synced().close();
        }
        assert_eq!(open(&spec).check().have(), [0, 1, 2, 3]);
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
fn mem_torrent() -> (Torrent, OpenSpec) {
    let (_, torrent, spec) = mem();
    (torrent, spec)
}

fn mem() -> (Arc<MemDisk>, Torrent, OpenSpec) {
    let torrent = torrent(&[("a", 70_000), ("b", 130_000)], 32 * 1024);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    (Arc::new(MemDisk::forgetful()), torrent, spec)
}

#[test]
fn failed_sync_is_recorded_later() {
    for end in [true, false] {
        let (disk, torrent, spec) = mem();
        let mut launch = start(&disk, &spec).check().with(&torrent, [4]);
        disk.fail("sync", "t/b", EIO, 1);
        disk.fail("append", ".journal.new", ENOSPC, 1);
        assert_eq!(launch.store.sync().unwrap_err().1, [4]);
        // There is free space again.
        launch.commit(&torrent, [0]);
        launch.store.sync().unwrap();
        if end {
            launch.store.close(0, 0, &[]).unwrap();
        }
        drop(launch);
        let launch = start(&disk, &spec).check().synced();
        let durable = numbers(&launch.store.durable());
        launch.store.close(0, 0, &[]).unwrap();
        drop(launch);
        disk.cut_power();
        let launch = start(&disk, &spec);
        let (good, _) = launch.verify(0..torrent.pieces());
        assert_eq!(durable, good, "durable pieces are not on the disk");
    }
}

#[test]
fn copied_parts_file_survives_kill() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = some(&torrent.with_state(&save, &state), &[true, false]);
    open(&spec).check().with(&torrent, [0, 1]).close();
    std::fs::write(save.join("t/b"), b"the user's own").unwrap();
    let parts = parts_file(&state);
    let bytes = std::fs::read(&parts).unwrap();
    replace(&parts, &bytes);
    drop(open(&spec));
    assert_eq!(open(&spec).check().have(), [0, 1]);
}

/// vfat and exfat give a closed file a new inode number once the system has forgotten it.
#[test]
fn renumbered_files_are_ours() {
    let names: Vec<String> = (0..401).map(|number| format!("f{number:03}")).collect();
    let length = |name: &String| if name == "f000" { 32_768 } else { 16_384 };
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), length(name))).collect();
    let torrent = torrent(&files, 16_384);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::renumbering());
    let mut launch = start(&disk, &spec);
    disk.forget_inodes();
    launch = launch.check();
    // More files than the table keeps open.
    launch.commit(&torrent, [0].into_iter().chain(2..402));
    launch.store.sync().unwrap();
    disk.forget_inodes();
    launch.commit(&torrent, [1]);
    launch.store.sync().unwrap();
    disk.forget_inodes();
    launch.close();
    disk.forget_inodes();
    let launch = start(&disk, &spec).check();
    assert!(launch.to_verify().is_empty() && launch.have().len() == 402);
    disk.remove(&"/save".into(), Path::new("t/f000")).unwrap();
    assert!(launch.store.close(1, 0, &[]).is_err(), "the removed file is noticed");
}

#[test]
fn new_name_outlives_failed_sync() {
    let torrent = torrent(&[("a", 70_000), ("x/b", 130_000)], 32 * 1024);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::forgetful());
    let launch = start(&disk, &spec).check().with(&torrent, [0]);
    let store = Arc::new(launch.store);
    let commit = |store: &piece_store::Store<MemDisk>, spans: &mut [_], piece, attempt| {
        let mut scratch = vec![0; STRIP_LENGTH];
        store.commit(piece, attempt, spans, None, false, &mut scratch)
    };
    let (other, mut spans, piece) = (Arc::clone(&store), torrent.spans(3), torrent.piece(3));
    disk.in_next_sync(move || {
        let result = commit(&other, &mut spans, piece, 0);
        assert!(matches!(result, piece_store::CommitResult::Verified { .. }));
    });
    disk.fail("sync", "t/a", EIO, 1);
    assert_eq!(store.sync().unwrap_err().1, [0, 3]);
    disk.synced_folders();
    commit(&store, &mut torrent.spans(3), piece, 1);
    store.sync().unwrap();
    assert_eq!(numbers(&store.durable()), [3]);
    assert!(
        disk.synced_folders().contains(&PathBuf::from("t/x")),
        "the piece is durable, but the name is not"
    );
}

#[test]
fn parts_file_is_recorded_later() {
    let (disk, torrent, spec) = mem();
    let spec = some(&spec, &[true, false]);
    let mut launch = start(&disk, &spec).check().with(&torrent, [0]);
    disk.fail("append", ".journal.new", ENOSPC, 1);
    launch.try_commit(&torrent, 2);
    launch.commit(&torrent, 1..3);
    launch.close();
    assert!(start(&disk, &spec).to_verify().is_empty());
}

#[test]
fn half_written_file_survives_seeding() {
    let (disk, torrent, spec) = mem();
    drop(start(&disk, &spec).check().with(&torrent, [4]));
    // Half of it reached the disk.
    let mut bytes = disk.bytes("t/b");
    let end = bytes.len();
    bytes[end - 20_000..].fill(0);
    disk.set_bytes("t/b", &bytes);
    disk.write_back("t/b");
    disk.cut_power();
    start(&disk, &OpenSpec { seed_only: true, ..spec.clone() }).check().close();
    assert!(start(&disk, &spec).try_check().is_ok());
}

#[test]
fn complete_file_after_killed_import() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    drop(open(&spec)); // killed before the check was finished
    replace(&save.join("t/b"), torrent.file_data(1)); // while it is not open
    let results: Vec<_> =
        (0..3).map(|_| open(&spec).try_check().map(|launch| launch.have())).collect();
    assert!(results.iter().all(|r| *r == Ok(vec![0, 1, 2, 3])), "{results:#?}");
}

#[test]
fn complete_file_after_refused_import() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 40_000), ("c", 40_000)], 16_384);
    let spec = torrent.with_state(&save, &state);
    open(&some(&spec, &[true, false, false])).check().with(&torrent, [0, 1]).close();
    std::fs::write(save.join("t/c"), noise(40_000, 5)).unwrap();
    let launch = open(&spec);
    verify_all(&launch);
    assert!(launch.store.finish_check().is_err());
    launch.store.close(0, 0, &[]).unwrap();
    drop(launch);
    // The user adds complete files b and c.
    replace(&save.join("t/b"), torrent.file_data(1));
    replace(&save.join("t/c"), torrent.file_data(2));
    let results: Vec<_> =
        (0..3).map(|_| open(&spec).try_check().map(|launch| launch.have().len())).collect();
    assert!(results.iter().all(|r| *r == Ok(torrent.pieces() as usize)), "{results:#?}");
}

#[test]
fn folder_removed_after_killed_import() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    for _ in 0..2 {
        drop(open(&spec).check());
        std::fs::remove_dir_all(save.join("t")).unwrap();
    }
    let results: Vec<_> =
        (0..3).map(|_| open(&spec).try_check().map(|launch| launch.have())).collect();
    assert!(results.iter().all(Result::is_ok), "{results:#?}");
}

#[test]
fn import_works_with_unstable_ids() {
    let (torrent, spec) = mem_torrent();
    let disk = Arc::new(MemDisk::renumbering());
    start(&disk, &some(&spec, &[true, false])).check().with(&torrent, 0..3).close();
    let launch = start(&disk, &spec).try_check();
    assert_eq!(launch.map(|launch| launch.have()), Ok(vec![0, 1, 2]));
}

#[test]
fn user_file_after_seeding_is_untouched() {
    let (torrent, spec) = mem_torrent();
    let disk = Arc::new(MemDisk::forgetful());
    drop(start(&disk, &spec).check().with(&torrent, 0..2).synced());
    disk.cut_power();
    start(&disk, &OpenSpec { seed_only: true, ..spec.clone() }).check().close();
    // The user's own file.
    drop(disk.open(&"/save".into(), Path::new("t/b"), piece_store::Access::Create).unwrap());
    let user_bytes = noise(130_000, 77);
    disk.set_bytes("t/b", &user_bytes);
    let launch = start(&disk, &spec).try_check();
    let refused = launch.is_err();
    if let Ok(mut launch) = launch {
        launch.commit(&torrent, [4]);
    }
    assert!(disk.bytes("t/b") == user_bytes, "overwritten; refused {refused}");
}

#[test]
fn unstable_ids_spare_user_file() {
    let (torrent, spec) = mem_torrent();
    let disk = Arc::new(MemDisk::renumbering());
    let mut launch = start(&disk, &spec).check().with(&torrent, [0]);
    drop(disk.open(&"/save".into(), Path::new("t/b"), piece_store::Access::Create).unwrap());
    let user_bytes = noise(130_000, 77);
    disk.set_bytes("t/b", &user_bytes);
    let result = launch.try_commit(&torrent, 4);
    assert!(disk.bytes("t/b") == user_bytes, "overwritten; {result:?}");
}

#[test]
fn user_file_appears_before_import() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    let launch = open(&spec);
    verify_all(&launch);
    std::fs::write(save.join("t/b"), noise(30_000, 77)).unwrap();
    assert!(launch.store.finish_check().is_err(), "it would be overwritten: {:?}", launch.have());
    assert!(std::fs::read(save.join("t/b")).unwrap() == noise(30_000, 77));
}

#[test]
fn parts_file_replaced_during_check() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = some(&torrent.with_state(&save, &state), &[true, false]);
    open(&spec).check().with(&torrent, [0, 1]).synced().close();
    let launch = open(&spec);
    let length = std::fs::metadata(parts_file(&state)).unwrap().len() as usize;
    replace(&parts_file(&state), &noise(length, 77));
    let Ok(launch) = launch.try_check() else { return };
    let _ = launch.store.close(1, 0, &[]);
    drop(launch);
    let launch = open(&spec);
    assert!(
        numbers(&launch.opened.have) == [0],
        "trusted without a check: {:?}",
        numbers(&launch.opened.have)
    );
}

#[test]
fn zeros_after_the_end_are_cut_by_overwrite() {
    for disk in [MemDisk::forgetful(), MemDisk::renumbering()] {
        let disk = Arc::new(disk);
        let torrent = torrent(&[("a", 70_000), ("e", 0), ("b", 130_000)], 32 * 1024);
        let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
        start(&disk, &spec).check().close();
        disk.set_bytes("t/e", &[0; 100]);
        let refused = start(&disk, &spec).try_check().map(drop);
        assert!(matches!(refused, Err(StoreError::UnrelatedFile { .. })), "{refused:?}");
        let spec = OpenSpec { overwrite: true, ..spec };
        start(&disk, &spec).check().close();
        assert!(disk.bytes("t/e").is_empty());
    }
}
