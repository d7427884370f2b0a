//! The user changes files between launches and during one. The store never overwrites the user's
//! own files, never claims a piece that is not on disk, and forgets none.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::{OpenSpec, STRIP_LENGTH, StoreError};

/// Another file of the same name (another inode, while the old one still lives).
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::write(path.with_extension("new"), bytes).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

fn ab() -> Torrent {
    torrent(&[("a", 20_000), ("b", 40_000)], 16_384)
}

#[test]
fn user_file_replaces_ours_after_kill() {
    let (torrent, site, spec) = at(on_disk(), ab());
    drop(open(&spec).check().with(&torrent, 0..torrent.pieces()).synced());
    let user_bytes = noise(40_000, 77);
    site.replace("t/b", &user_bytes);
    let launch = open(&spec).try_check();
    let refused = matches!(launch, Err(StoreError::UnrelatedFile { .. }));
    if let Ok(mut launch) = launch {
        launch.commit(&torrent, [2, 3]);
    }
    assert!(site.bytes("t/b").unwrap() == user_bytes, "overwritten; refused: {refused}");
    assert!(refused);
}

#[test]
fn user_file_appears_after_kill() {
    let (torrent, site, spec) = at(on_disk(), ab());
    drop(open(&spec).check().with(&torrent, [0]));
    site.write("t/b", &noise(40_000, 77));
    assert_unrelated(&spec);
}

#[test]
fn unselected_user_file_stays_unrelated() {
    let (torrent, site, spec) = at(on_disk(), ab());
    drop(open(&spec).check());
    let user_bytes = noise(40_000, 77);
    site.write("t/b", &user_bytes);
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    open(&some(&spec, &[true, false])).check().close();
    // The check is not finished.
    drop(open(&spec));
    assert!(site.bytes("t/b").unwrap() == user_bytes, "the open wrote to it");
    assert_unrelated(&spec);
}

#[test]
fn user_file_stays_unrelated_after_seeding() {
    let (_torrent, site, spec) = at(on_disk(), ab());
    drop(open(&spec).check());
    site.write("t/b", &noise(40_000, 77));
    open(&OpenSpec { seed_only: true, ..spec.clone() }).check().close();
    assert_unrelated(&spec);
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
        let (torrent, site, spec) = at(on_disk(), abc());
        open(&some(&spec, &[true, true, false])).check().with(&torrent, 0..4).synced().close();
        site.replace("t/b", torrent.file_data(1));
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
    let (torrent, site) = (abc(), on_disk());
    let spec = some(&site.spec(&torrent), &[true, true, false]);
    open(&spec).check().with(&torrent, 0..4).close();
    site.replace("t/b", torrent.file_data(1));
    let serving = OpenSpec { seed_only: true, ..spec };
    drop(open(&serving));
    for _ in 0..2 {
        open(&serving).check().assert_have(&[0, 1, 2, 3]).close();
    }
}

#[test]
fn returned_file_is_seeded() {
    for seed_only in [false, true] {
        let (torrent, site) = (abc(), on_disk());
        let spec = some(&site.spec(&torrent), &[true, true, false]);
        open(&spec).check().with(&torrent, 0..4).close();
        site.rename("t/b", "away");
        open(&OpenSpec { seed_only, ..spec.clone() }).check().close();
        site.rename("away", "t/b");
        let serving = OpenSpec { seed_only: true, ..spec };
        assert_eq!(open(&serving).check().have(), [0, 1, 2, 3], "seed_only {seed_only}");
    }
}

#[test]
fn trusted_file_changes_during_check() {
    for cut in [None, Some(10_000), Some(1_000)] {
        let (torrent, site, spec) = at(on_disk(), ab());
        open(&spec).check().with(&torrent, 0..3).close();
        let launch = open(&spec);
        assert_eq!(numbers(&launch.opened.have), [0, 1, 2]);
        match cut {
            None => site.remove("t/b"),
            Some(length) => site.cut("t/b", length),
        }
        let Ok(mut launch) = launch.try_check() else { continue };
        let _ = launch.try_commit(&torrent, 3);
        let _ = launch.store.close(0, 0, &[]);
        drop(launch);
        let have = open(&spec).check().have();
        let on_disk = site.bytes("t/b").unwrap() == torrent.file_data(1);
        assert!(
            on_disk || have != [0, 1, 2, 3],
            "cut {cut:?}: all pieces are trusted, but b has holes"
        );
    }
}

#[test]
fn user_file_replaces_ours_while_open() {
    let (torrent, site, spec) = at(on_disk(), ab());
    open(&spec).check().with(&torrent, 0..3).close();
    let mut launch = open(&spec).check();
    let user_bytes = noise(40_000, 77);
    site.replace("t/b", &user_bytes);
    let result = launch.try_commit(&torrent, 3);
    let end = launch.store.close(0, 0, &[]);
    drop(launch);
    let have = open(&spec).opened.have.iter().collect::<Vec<_>>();
    assert!(site.bytes("t/b").unwrap() == user_bytes, "{result:?} {end:?} then have {have:?}");
}

#[test]
fn user_file_appears_while_open() {
    for disk in [MemDisk::forgetful(), MemDisk::renumbering()] {
        let (torrent, site, spec) = at(in_memory(disk), ab());
        let mut launch = site.open(&spec).check().with(&torrent, [0]);
        let user_bytes = noise(40_000, 77);
        site.write("t/b", &user_bytes);
        let result = launch.try_commit(&torrent, 3);
        assert!(site.bytes("t/b").unwrap() == user_bytes, "{result:?}");
    }
}

#[test]
fn parts_file_removed_after_import() {
    let (torrent, site, spec) = at(on_disk(), ab());
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    drop(open(&spec).check().synced());
    std::fs::remove_file(site.state_file("parts")).unwrap();
    assert_eq!(open(&spec).check().have(), [0, 1]);
}

#[test]
fn complete_file_replaces_ours() {
    let (torrent, site, spec) = at(on_disk(), abc());
    let (both, only_a) = (some(&spec, &[true, true, false]), some(&spec, &[true, false, false]));
    drop(open(&both).check().with(&torrent, 0..4).synced());
    site.replace("t/b", torrent.file_data(1));
    drop(open(&both));
    open(&only_a).check().close();
    assert_eq!(open(&both).check().have(), [0, 1, 2, 3]);
}

#[test]
fn killed_import_leaves_nothing() {
    let (torrent, site, spec) = at(on_disk(), ab());
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    drop(open(&spec).check());
    // A power cut removes the new file's name.
    site.remove("t/b");
    std::fs::remove_file(site.state_file("parts")).unwrap();
    open(&spec).check().assert_have(&[0]).with(&torrent, 1..4).close();
    torrent.assert_complete(&site.save);
}

#[test]
fn user_file_replaces_copy_during_check() {
    for seed_only in [false, true] {
        let (torrent, site) = (ab(), on_disk());
        torrent.write(&site.save);
        let spec = OpenSpec { seed_only, ..site.spec(&torrent) };
        let launch = open(&spec);
        verify_all(&launch);
        site.replace("t/b", &noise(40_000, 77));
        assert!(launch.store.finish_check().is_err());
        let _failed = launch.store.close(0, 0, &[]);
        drop(launch);
        assert_eq!(numbers(&open(&spec).opened.have), [0; 0], "trusted without a check");
    }
}

#[test]
fn small_user_file_appears_during_check() {
    let (torrent, site) = (torrent(&[("a", 40_000), ("b", 9_000)], 16_384), on_disk());
    torrent.write_file(&site.save, 0);
    let spec = site.spec(&torrent);
    let launch = open(&spec);
    verify_all(&launch);
    site.write("t/b", &noise(9_000, 77));
    assert!(launch.store.finish_check().is_err(), "it would be overwritten: {:?}", launch.have());
}

#[test]
fn unselected_user_file_removed_during_check() {
    let (torrent, site) = (ab(), on_disk());
    site.write("t/b", &noise(30_000, 77));
    let launch = open(&some(&site.spec(&torrent), &[true, false]));
    verify_all(&launch);
    site.remove("t/b");
    launch.store.finish_check().unwrap();
}

#[test]
fn long_file_is_overwritten() {
    for preallocate in [false, true] {
        let (torrent, site) = (ab(), on_disk());
        site.write("t/b", &noise(90_000, 77));
        let spec = OpenSpec { overwrite: true, preallocate, ..site.spec(&torrent) };
        for pieces in [0..2, 2..4] {
            open(&spec).check().with(&torrent, pieces).synced().close();
        }
        assert_eq!(open(&spec).check().have(), [0, 1, 2, 3]);
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn two_files() -> Torrent {
    torrent(&[("a", 70_000), ("b", 130_000)], 32 * 1024)
}

#[test]
fn failed_sync_is_recorded_later() {
    for end in [true, false] {
        let (torrent, site, spec) = at(in_memory(MemDisk::forgetful()), two_files());
        let mut launch = site.open(&spec).check().with(&torrent, [4]);
        site.disk.fail("sync", "t/b", EIO, 1);
        site.disk.fail("append", ".journal.new", ENOSPC, 1);
        assert_eq!(launch.store.sync().unwrap_err().1, [4]);
        // There is free space again.
        launch.commit(&torrent, [0]);
        launch.store.sync().unwrap();
        launch.end(end);
        let launch = site.open(&spec).check().synced();
        let durable = numbers(&launch.store.durable());
        launch.close();
        site.disk.cut_power();
        let launch = site.open(&spec);
        let (good, _) = launch.verify(0..torrent.pieces());
        assert_eq!(durable, good, "durable pieces are not on the disk");
    }
}

#[test]
fn copied_parts_file_survives_kill() {
    let (torrent, site) = (ab(), on_disk());
    let spec = some(&site.spec(&torrent), &[true, false]);
    open(&spec).check().with(&torrent, [0, 1]).close();
    site.write("t/b", b"the user's own");
    let parts = site.state_file("parts");
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
    let (torrent, site, spec) = at(in_memory(MemDisk::renumbering()), torrent(&files, 16_384));
    let mut launch = site.open(&spec);
    site.disk.forget_inodes();
    launch = launch.check();
    // More files than the table keeps open.
    launch.commit(&torrent, [0].into_iter().chain(2..402));
    launch.store.sync().unwrap();
    site.disk.forget_inodes();
    launch.commit(&torrent, [1]);
    launch.store.sync().unwrap();
    site.disk.forget_inodes();
    launch.close();
    site.disk.forget_inodes();
    let launch = site.open(&spec).check();
    assert!(launch.to_verify().is_empty() && launch.have().len() == 402);
    site.remove("t/f000");
    assert!(launch.store.close(1, 0, &[]).is_err(), "the removed file is noticed");
}

#[test]
fn new_name_outlives_failed_sync() {
    let (torrent, site, spec) =
        at(in_memory(MemDisk::forgetful()), torrent(&[("a", 70_000), ("x/b", 130_000)], 32 * 1024));
    let launch = site.open(&spec).check().with(&torrent, [0]);
    let store = Arc::new(launch.store);
    let commit = |store: &piece_store::Store<MemDisk>, spans: &mut [_], piece, attempt| {
        let mut scratch = vec![0; STRIP_LENGTH];
        store.commit(piece, attempt, spans, None, false, &mut scratch).unwrap()
    };
    let (other, mut spans, piece) = (Arc::clone(&store), torrent.spans(3), torrent.piece(3));
    site.disk.in_next_sync(move || {
        commit(&other, &mut spans, piece, 0);
    });
    site.disk.fail("sync", "t/a", EIO, 1);
    assert_eq!(store.sync().unwrap_err().1, [0, 3]);
    site.disk.synced_folders();
    commit(&store, &mut torrent.spans(3), piece, 1);
    store.sync().unwrap();
    assert_eq!(numbers(&store.durable()), [3]);
    assert!(
        site.disk.synced_folders().contains(&PathBuf::from("t/x")),
        "the piece is durable, but the name is not"
    );
}

#[test]
fn parts_file_is_recorded_later() {
    let (torrent, site, spec) = at(in_memory(MemDisk::forgetful()), two_files());
    let spec = some(&spec, &[true, false]);
    let mut launch = site.open(&spec).check().with(&torrent, [0]);
    site.disk.fail("append", ".journal.new", ENOSPC, 1);
    launch.try_commit(&torrent, 2);
    launch.commit(&torrent, 1..3);
    launch.close();
    assert!(site.open(&spec).to_verify().is_empty());
}

#[test]
fn half_written_file_survives_seeding() {
    let (torrent, site, spec) = at(in_memory(MemDisk::forgetful()), two_files());
    drop(site.open(&spec).check().with(&torrent, [4]));
    // Half of it reached the site.disk.
    let mut bytes = site.disk.bytes("t/b");
    let end = bytes.len();
    bytes[end - 20_000..].fill(0);
    site.disk.set_bytes("t/b", &bytes);
    site.disk.write_back("t/b");
    site.disk.cut_power();
    site.open(&OpenSpec { seed_only: true, ..spec.clone() }).check().close();
    assert!(site.open(&spec).try_check().is_ok());
}

#[test]
fn complete_file_after_killed_import() {
    let (torrent, site, spec) = at(on_disk(), ab());
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    drop(open(&spec)); // killed before the check was finished
    site.replace("t/b", torrent.file_data(1)); // while it is not open
    (0..3).for_each(|_| drop(open(&spec).check().assert_have(&[0, 1, 2, 3])));
}

#[test]
fn complete_file_after_refused_import() {
    let (torrent, site, spec) = at(on_disk(), abc());
    open(&some(&spec, &[true, false, false])).check().with(&torrent, [0, 1]).close();
    site.write("t/c", &noise(40_000, 5));
    let launch = open(&spec);
    verify_all(&launch);
    assert!(launch.store.finish_check().is_err());
    launch.close();
    // The user adds complete files b and c.
    site.replace("t/b", torrent.file_data(1));
    site.replace("t/c", torrent.file_data(2));
    (0..3).for_each(|_| assert!(open(&spec).check().store.have().is_full()));
}

#[test]
fn folder_removed_after_killed_import() {
    let (torrent, site, spec) = at(on_disk(), ab());
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    for _ in 0..2 {
        drop(open(&spec).check());
        std::fs::remove_dir_all(site.save.join("t")).unwrap();
    }
    (0..3).for_each(|_| drop(open(&spec).check()));
}

#[test]
fn import_works_with_unstable_ids() {
    let (torrent, site, spec) = at(in_memory(MemDisk::renumbering()), two_files());
    site.open(&some(&spec, &[true, false])).check().with(&torrent, 0..3).close();
    let launch = site.open(&spec).try_check();
    assert_eq!(launch.map(|launch| launch.have()), Ok(vec![0, 1, 2]));
}

#[test]
fn user_file_after_seeding_is_untouched() {
    let (torrent, site, spec) = at(in_memory(MemDisk::forgetful()), two_files());
    drop(site.open(&spec).check().with(&torrent, 0..2).synced());
    site.disk.cut_power();
    site.open(&OpenSpec { seed_only: true, ..spec.clone() }).check().close();
    // The user's own file.
    let user_bytes = noise(130_000, 77);
    site.write("t/b", &user_bytes);
    let launch = site.open(&spec).try_check();
    let refused = launch.map(|launch| launch.with(&torrent, [4])).is_err();
    assert!(site.disk.bytes("t/b") == user_bytes, "overwritten; refused {refused}");
}

#[test]
fn user_file_appears_before_import() {
    let (torrent, site, spec) = at(on_disk(), ab());
    open(&some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    let launch = open(&spec);
    verify_all(&launch);
    site.write("t/b", &noise(30_000, 77));
    assert!(launch.store.finish_check().is_err(), "it would be overwritten: {:?}", launch.have());
    assert!(site.bytes("t/b").unwrap() == noise(30_000, 77));
}

#[test]
fn parts_file_replaced_during_check() {
    let (torrent, site) = (ab(), on_disk());
    let spec = some(&site.spec(&torrent), &[true, false]);
    open(&spec).check().with(&torrent, [0, 1]).synced().close();
    let launch = open(&spec);
    let length = std::fs::metadata(site.state_file("parts")).unwrap().len() as usize;
    replace(&site.state_file("parts"), &noise(length, 77));
    let Ok(launch) = launch.try_check() else { return };
    let _ = launch.store.close(1, 0, &[]);
    drop(launch);
    assert_eq!(numbers(&open(&spec).opened.have), [0], "trusted without a check");
}

#[test]
fn zeros_after_the_end_are_cut_by_overwrite() {
    for disk in [MemDisk::forgetful(), MemDisk::renumbering()] {
        let files = [("a", 70_000), ("e", 0), ("b", 130_000)];
        let (_torrent, site, spec) = at(in_memory(disk), torrent(&files, 32 * 1024));
        site.open(&spec).check().close();
        site.disk.set_bytes("t/e", &[0; 100]);
        let refused = site.open(&spec).try_check().map(drop);
        assert!(matches!(refused, Err(StoreError::UnrelatedFile { .. })), "{refused:?}");
        let spec = OpenSpec { overwrite: true, ..spec };
        site.open(&spec).check().close();
        assert!(site.disk.bytes("t/e").is_empty());
    }
}
