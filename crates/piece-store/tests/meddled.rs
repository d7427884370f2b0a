//! What the user does to files between runs, however they end, and during one: nothing of the
//! user's is written over, nothing is had that is not there, nothing is forgotten.

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
fn a_diary_in_place_of_a_file_that_we_made_before_a_kill() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, 0..torrent.pieces());
    run.store.sync().unwrap();
    drop(run);
    let diary = noise(40_000, 77);
    replace(&save.join("t/b"), &diary);
    let run = open(&spec).try_check();
    let refused = matches!(run, Err(StoreError::UnrelatedFile { .. }));
    if let Ok(mut run) = run {
        run.commit(&torrent, [2, 3]);
    }
    assert!(std::fs::read(save.join("t/b")).unwrap() == diary, "written over; refused: {refused}");
    assert!(refused);
}

#[test]
fn a_diary_where_a_file_was_to_be_made_before_a_kill() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0]);
    drop(run);
    let diary = noise(40_000, 77);
    std::fs::write(save.join("t/b"), &diary).unwrap();
    let run = open(&spec).try_check();
    assert!(matches!(run, Err(StoreError::UnrelatedFile { .. })));
}

#[test]
fn a_diary_seen_by_an_orderly_run_that_does_not_want_it() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let run = open(&spec).check();
    drop(run);
    let diary = noise(40_000, 77);
    std::fs::create_dir_all(save.join("t")).unwrap();
    std::fs::write(save.join("t/b"), &diary).unwrap();
    let mut run = open(&some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    open(&some(&spec, &[true, false])).check().close();
    // Not even the check is ended.
    drop(open(&spec));
    assert!(std::fs::read(save.join("t/b")).unwrap() == diary, "written at the mere opening");
    let run = open(&spec).try_check();
    assert!(matches!(run, Err(StoreError::UnrelatedFile { .. })));
}

#[test]
fn a_diary_seen_by_who_only_serves() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    drop(open(&spec).check());
    let diary = noise(40_000, 77);
    std::fs::create_dir_all(save.join("t")).unwrap();
    std::fs::write(save.join("t/b"), &diary).unwrap();
    open(&OpenSpec { read_only: true, ..spec.clone() }).check().close();
    let run = open(&spec).try_check();
    assert!(matches!(run, Err(StoreError::UnrelatedFile { .. })));
}

fn abc() -> Torrent {
    torrent(&[("a", 20_000), ("b", 40_000), ("c", 40_000)], 16_384)
}

#[test]
fn a_copy_of_our_file_and_a_kill_before_the_check() {
    for (between, last) in [
        (Some((false, vec![true, false, false])), (false, vec![true, false, false])),
        (Some((true, vec![true, true, false])), (true, vec![true, true, false])),
        (None, (true, vec![true, true, false])),
    ] {
        let (_root, save, state) = folders();
        let torrent = abc();
        let spec = torrent.with_state(&save, &state);
        let mut run = open(&some(&spec, &[true, true, false])).check();
        run.commit(&torrent, 0..4);
        run.store.sync().unwrap();
        run.close();
        replace(&save.join("t/b"), torrent.file_data(1));
        if let Some((read_only, list)) = &between {
            drop(open(&OpenSpec { read_only: *read_only, ..some(&spec, list) }));
        }
        let (read_only, list) = last;
        let run = open(&OpenSpec { read_only, ..some(&spec, &list) }).check();
        assert_eq!(run.have(), [0, 1, 2, 3], "{between:?} then {list:?} read_only {read_only}");
    }
}

#[test]
fn a_copy_of_our_file_is_served_after_a_kill_before_the_check() {
    let (_root, save, state) = folders();
    let torrent = abc();
    let spec = some(&torrent.with_state(&save, &state), &[true, true, false]);
    let mut run = open(&spec).check();
    run.commit(&torrent, 0..4);
    run.close();
    replace(&save.join("t/b"), torrent.file_data(1));
    let serving = OpenSpec { read_only: true, ..spec };
    drop(open(&serving));
    for _ in 0..2 {
        let run = open(&serving).check();
        assert_eq!(run.have(), [0, 1, 2, 3]);
        run.close();
    }
}

#[test]
fn a_file_that_was_away_for_a_run_is_served_when_it_is_back() {
    for read_only in [false, true] {
        let (_root, save, state) = folders();
        let torrent = abc();
        let spec = some(&torrent.with_state(&save, &state), &[true, true, false]);
        let mut run = open(&spec).check();
        run.commit(&torrent, 0..4);
        run.close();
        std::fs::rename(save.join("t/b"), save.join("away")).unwrap();
        open(&OpenSpec { read_only, ..spec.clone() }).check().close();
        std::fs::rename(save.join("away"), save.join("t/b")).unwrap();
        let serving = OpenSpec { read_only: true, ..spec };
        assert_eq!(open(&serving).check().have(), [0, 1, 2, 3], "read_only {read_only}");
    }
}

#[test]
fn a_trusted_file_removed_or_cut_during_the_check() {
    for cut in [None, Some(10_000), Some(1_000)] {
        let (_root, save, state) = folders();
        let torrent = ab();
        let spec = torrent.with_state(&save, &state);
        let mut run = open(&spec).check();
        run.commit(&torrent, 0..3);
        run.close();
        let run = open(&spec);
        assert_eq!(numbers(&run.opened.have), [0, 1, 2]);
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
        let Ok(mut run) = run.try_check() else { continue };
        let _ = run.try_commit(&torrent, 3);
        let _ = run.store.close(0, 0, &[]);
        drop(run);
        let have = open(&spec).check().have();
        let on_disk = std::fs::read(save.join("t/b")).unwrap() == torrent.file_data(1);
        assert!(on_disk || have != [0, 1, 2, 3], "cut {cut:?}: all is had, but b has holes");
    }
}

#[test]
fn a_diary_in_place_of_our_file_during_the_run() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, 0..3);
    run.close();
    let mut run = open(&spec).check();
    let diary = noise(40_000, 77);
    replace(&save.join("t/b"), &diary);
    let outcome = run.try_commit(&torrent, 3);
    let end = run.store.close(0, 0, &[]);
    drop(run);
    let have = open(&spec).opened.have.iter().collect::<Vec<_>>();
    assert!(
        std::fs::read(save.join("t/b")).unwrap() == diary,
        "{outcome:?} {end:?} then have {have:?}"
    );
}

#[test]
fn a_diary_where_a_file_is_to_be_made_during_the_run() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0]);
    let diary = noise(40_000, 77);
    std::fs::write(save.join("t/b"), &diary).unwrap();
    let outcome = run.try_commit(&torrent, 3);
    assert!(std::fs::read(save.join("t/b")).unwrap() == diary, "{outcome:?}");
}

#[test]
fn the_parts_file_is_removed_after_the_copying() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    let run = open(&spec).check();
    run.store.sync().unwrap();
    drop(run);
    let parts = parts_file(&state);
    std::fs::remove_file(parts).unwrap();
    assert_eq!(open(&spec).check().have(), [0, 1]);
}

#[test]
fn a_whole_file_is_taken_for_a_copying() {
    let (_root, save, state) = folders();
    let torrent = abc();
    let spec = torrent.with_state(&save, &state);
    let (both, only_a) = (some(&spec, &[true, true, false]), some(&spec, &[true, false, false]));
    let mut run = open(&both).check();
    run.commit(&torrent, 0..4);
    run.store.sync().unwrap();
    drop(run);
    replace(&save.join("t/b"), torrent.file_data(1));
    drop(open(&both));
    open(&only_a).check().close();
    assert_eq!(open(&both).check().have(), [0, 1, 2, 3]);
}

#[test]
fn a_copying_that_was_killed_and_of_which_nothing_is_left() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    drop(open(&spec).check());
    // A power cut takes the new file's name.
    std::fs::remove_file(save.join("t/b")).unwrap();
    std::fs::remove_file(parts_file(&state)).unwrap();
    let mut run = open(&spec).check();
    assert_eq!(run.have(), [0]);
    run.commit(&torrent, 1..4);
    run.close();
    torrent.assert_complete(&save);
}

#[test]
fn a_copy_is_replaced_by_a_diary_during_its_check() {
    for read_only in [false, true] {
        let (_root, save, state) = folders();
        let torrent = ab();
        torrent.write(&save);
        let spec = OpenSpec { read_only, ..torrent.with_state(&save, &state) };
        let run = open(&spec);
        verify_all(&run);
        replace(&save.join("t/b"), &noise(40_000, 77));
        assert!(run.store.finish_check().is_err());
        let _not_in_order = run.store.close(0, 0, &[]);
        drop(run);
        assert_eq!(numbers(&open(&spec).opened.have), [0; 0], "had without a look");
    }
}

#[test]
fn a_small_diary_is_put_there_during_the_check() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 40_000), ("b", 9_000)], 16_384);
    torrent.write_file(&save, 0);
    let spec = torrent.with_state(&save, &state);
    let run = open(&spec);
    verify_all(&run);
    std::fs::write(save.join("t/b"), noise(9_000, 77)).unwrap();
    assert!(run.store.finish_check().is_err(), "it would be written over: {:?}", run.have());
}

#[test]
fn a_diary_that_is_not_wanted_goes_during_the_check() {
    let (_root, save, state) = folders();
    let torrent = ab();
    std::fs::create_dir_all(save.join("t")).unwrap();
    std::fs::write(save.join("t/b"), noise(30_000, 77)).unwrap();
    let run = open(&some(&torrent.with_state(&save, &state), &[true, false]));
    verify_all(&run);
    std::fs::remove_file(save.join("t/b")).unwrap();
    run.store.finish_check().unwrap();
}

#[test]
fn a_longer_file_is_overwritten_where_that_is_allowed() {
    for preallocate in [false, true] {
        let (_root, save, state) = folders();
        let torrent = ab();
        std::fs::create_dir_all(save.join("t")).unwrap();
        std::fs::write(save.join("t/b"), noise(90_000, 77)).unwrap();
        let spec = OpenSpec { overwrite: true, preallocate, ..torrent.with_state(&save, &state) };
        for pieces in [0..2, 2..4] {
            let mut run = open(&spec).check();
            run.commit(&torrent, pieces);
            run.store.sync().unwrap();
            run.close();
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
fn a_failed_sync_that_the_journal_could_not_be_told() {
    for end in [true, false] {
        let (disk, torrent, spec) = mem();
        let mut run = start(&disk, &spec).check();
        run.commit(&torrent, [4]);
        disk.fail("sync", "t/b", EIO, 1);
        disk.fail("append", ".journal.new", ENOSPC, 1);
        assert_eq!(run.store.sync().unwrap_err().1, [4]);
        // There is room again.
        run.commit(&torrent, [0]);
        run.store.sync().unwrap();
        if end {
            run.store.close(0, 0, &[]).unwrap();
        }
        drop(run);
        let run = start(&disk, &spec).check();
        run.store.sync().unwrap();
        let durable = numbers(&run.store.durable());
        run.store.close(0, 0, &[]).unwrap();
        drop(run);
        disk.cut_power();
        let run = start(&disk, &spec);
        let (good, _) = run.verify(0..torrent.pieces());
        assert_eq!(durable, good, "called durable, but is on no disk");
    }
}

#[test]
fn the_parts_file_was_copied_and_a_run_killed_before_its_check() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = some(&torrent.with_state(&save, &state), &[true, false]);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    std::fs::write(save.join("t/b"), b"a diary").unwrap();
    let parts = parts_file(&state);
    let bytes = std::fs::read(&parts).unwrap();
    replace(&parts, &bytes);
    drop(open(&spec));
    assert_eq!(open(&spec).check().have(), [0, 1]);
}

/// vfat and exfat number a file anew when the system has forgotten it.
#[test]
fn files_that_are_numbered_anew_are_still_ours() {
    let names: Vec<String> = (0..401).map(|number| format!("f{number:03}")).collect();
    let length = |name: &String| if name == "f000" { 32_768 } else { 16_384 };
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), length(name))).collect();
    let torrent = torrent(&files, 16_384);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::renumbering());
    let mut run = start(&disk, &spec);
    disk.forget_inodes();
    run = run.check();
    // More than are kept open.
    run.commit(&torrent, [0].into_iter().chain(2..402));
    run.store.sync().unwrap();
    disk.forget_inodes();
    run.commit(&torrent, [1]);
    run.store.sync().unwrap();
    disk.forget_inodes();
    run.close();
    disk.forget_inodes();
    let run = start(&disk, &spec).check();
    assert!(run.to_verify().is_empty() && run.have().len() == 402);
    disk.remove(&"/save".into(), Path::new("t/f000")).unwrap();
    assert!(run.store.close(1, 0, &[]).is_err(), "that one is removed is seen");
}

#[test]
fn a_name_made_during_a_sync_that_fails_is_synced_with_the_next() {
    let torrent = torrent(&[("a", 70_000), ("x/b", 130_000)], 32 * 1024);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::forgetful());
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    let store = Arc::new(run.store);
    let commit = |store: &piece_store::Store<MemDisk>, spans: &mut [_], piece, attempt| {
        let mut scratch = vec![0; STRIP_LENGTH];
        store.commit(piece, attempt, spans, None, false, &mut scratch)
    };
    let (other, mut spans, piece) = (Arc::clone(&store), torrent.spans(3), torrent.piece(3));
    disk.in_next_sync(move || {
        let outcome = commit(&other, &mut spans, piece, 0);
        assert!(matches!(outcome, piece_store::Outcome::Verified { .. }));
    });
    disk.fail("sync", "t/a", EIO, 1);
    assert_eq!(store.sync().unwrap_err().1, [0, 3]);
    disk.synced_folders();
    commit(&store, &mut torrent.spans(3), piece, 1);
    store.sync().unwrap();
    assert_eq!(numbers(&store.durable()), [3]);
    assert!(disk.synced_folders().contains(&PathBuf::from("t/x")), "durable, its name is not");
}

#[test]
fn the_parts_file_of_which_the_journal_was_not_told_at_first() {
    let (disk, torrent, spec) = mem();
    let spec = some(&spec, &[true, false]);
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    disk.fail("append", ".journal.new", ENOSPC, 1);
    run.try_commit(&torrent, 2);
    run.commit(&torrent, 1..3);
    run.close();
    assert!(start(&disk, &spec).to_verify().is_empty());
}

#[test]
fn our_file_after_a_power_cut_and_a_run_that_only_served() {
    let (disk, torrent, spec) = mem();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [4]);
    drop(run);
    // Half of it came to the disk.
    let mut bytes = disk.bytes("t/b");
    let end = bytes.len();
    bytes[end - 20_000..].fill(0);
    disk.set_bytes("t/b", &bytes);
    disk.write_back("t/b");
    disk.cut_power();
    start(&disk, &OpenSpec { read_only: true, ..spec.clone() }).check().close();
    assert!(start(&disk, &spec).try_check().is_ok());
}

#[test]
fn a_copying_that_was_killed_and_then_a_whole_file() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    drop(open(&spec)); // killed before the check ended
    replace(&save.join("t/b"), torrent.file_data(1)); // nobody runs
    let results: Vec<_> = (0..3).map(|_| open(&spec).try_check().map(|run| run.have())).collect();
    assert!(results.iter().all(|r| *r == Ok(vec![0, 1, 2, 3])), "{results:#?}");
}

#[test]
fn a_copying_whose_check_was_refused_and_then_a_whole_file() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 40_000), ("c", 40_000)], 16_384);
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&some(&spec, &[true, false, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    std::fs::write(save.join("t/c"), noise(40_000, 5)).unwrap();
    let run = open(&spec);
    verify_all(&run);
    assert!(run.store.finish_check().is_err());
    run.store.close(0, 0, &[]).unwrap();
    drop(run);
    // The user brings what he has of b and c.
    replace(&save.join("t/b"), torrent.file_data(1));
    replace(&save.join("t/c"), torrent.file_data(2));
    let results: Vec<_> =
        (0..3).map(|_| open(&spec).try_check().map(|run| run.have().len())).collect();
    assert!(results.iter().all(|r| *r == Ok(torrent.pieces() as usize)), "{results:#?}");
}

#[test]
fn a_copying_that_was_killed_and_then_the_folder_goes() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    for _ in 0..2 {
        drop(open(&spec).check());
        std::fs::remove_dir_all(save.join("t")).unwrap();
    }
    let results: Vec<_> = (0..3).map(|_| open(&spec).try_check().map(|run| run.have())).collect();
    assert!(results.iter().all(Result::is_ok), "{results:#?}");
}

#[test]
fn what_is_kept_apart_is_copied_where_numbers_do_not_last() {
    let (torrent, spec) = mem_torrent();
    let disk = Arc::new(MemDisk::renumbering());
    let mut run = start(&disk, &some(&spec, &[true, false])).check();
    run.commit(&torrent, 0..3);
    run.close();
    let run = start(&disk, &spec).try_check();
    assert_eq!(run.map(|run| run.have()), Ok(vec![0, 1, 2]));
}

#[test]
fn a_diary_after_a_serving_run_after_a_power_cut() {
    let (torrent, spec) = mem_torrent();
    let disk = Arc::new(MemDisk::forgetful());
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, 0..2);
    run.store.sync().unwrap();
    drop(run);
    disk.cut_power();
    start(&disk, &OpenSpec { read_only: true, ..spec.clone() }).check().close();
    // The user's.
    drop(disk.open(&"/save".into(), Path::new("t/b"), piece_store::Access::Create).unwrap());
    let diary = noise(130_000, 77);
    disk.set_bytes("t/b", &diary);
    let run = start(&disk, &spec).try_check();
    let refused = run.is_err();
    if let Ok(mut run) = run {
        run.commit(&torrent, [4]);
    }
    assert!(disk.bytes("t/b") == diary, "written over; refused {refused}");
}

#[test]
fn a_diary_before_the_first_write_where_numbers_do_not_last() {
    let (torrent, spec) = mem_torrent();
    let disk = Arc::new(MemDisk::renumbering());
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    drop(disk.open(&"/save".into(), Path::new("t/b"), piece_store::Access::Create).unwrap());
    let diary = noise(130_000, 77);
    disk.set_bytes("t/b", &diary);
    let outcome = run.try_commit(&torrent, 4);
    assert!(disk.bytes("t/b") == diary, "written over; {outcome:?}");
}

#[test]
fn user_file_appears_before_import() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    let run = open(&spec);
    verify_all(&run);
    std::fs::write(save.join("t/b"), noise(30_000, 77)).unwrap();
    assert!(run.store.finish_check().is_err(), "it would be written over: {:?}", run.have());
    assert!(std::fs::read(save.join("t/b")).unwrap() == noise(30_000, 77));
}

#[test]
fn the_parts_file_is_replaced_during_the_check() {
    let (_root, save, state) = folders();
    let torrent = ab();
    let spec = some(&torrent.with_state(&save, &state), &[true, false]);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0, 1]);
    run.store.sync().unwrap();
    run.close();
    let run = open(&spec);
    let length = std::fs::metadata(parts_file(&state)).unwrap().len() as usize;
    replace(&parts_file(&state), &noise(length, 77));
    let Ok(run) = run.try_check() else { return };
    let _ = run.store.close(1, 0, &[]);
    drop(run);
    let run = open(&spec);
    assert!(
        numbers(&run.opened.have) == [0],
        "had without a look: {:?}",
        numbers(&run.opened.have)
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
