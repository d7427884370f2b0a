//! The store on a disk that fails, tears records and loses power.

#![allow(missing_docs)]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::{Access, Disk, OpenSpec, Operation, Outcome, Store, StoreError, StoreLayout};

const PIECE: u32 = 32 * 1024;
const FILES: [(&str, usize); 2] = [("a", 70_000), ("b", 130_000)];
/// Numbers of the operating system.
const EIO: i32 = 5;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

fn setup() -> (Arc<MemDisk>, Torrent, OpenSpec) {
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    (Arc::new(MemDisk::forgetful()), torrent, spec)
}

#[track_caller]
fn disk_error(outcome: Outcome) -> (Operation, String, ErrorKind) {
    let Outcome::Failed(StoreError::Disk { operation, path, kind, .. }) = outcome else {
        panic!("it should fail: {outcome:?}");
    };
    (operation, path.to_string_lossy().into_owned(), kind)
}

#[test]
fn a_full_disk_is_named_and_costs_nothing_else() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    disk.fail("write", "t/b", ENOSPC, 1);
    let outcome = run.try_commit(&torrent, 3);
    let Outcome::Failed(error) = &outcome else { panic!() };
    assert_eq!(
        error.to_string(),
        "cannot write /save/t/b: no space left on device; free some space, then run it again"
    );
    assert_eq!(disk_error(outcome), (Operation::Write, "/save/t/b".into(), ErrorKind::StorageFull));
    assert_eq!(run.have(), [0]);
    // There is room again.
    run.commit(&torrent, 1..torrent.pieces());
    run.close();
    assert!(start(&disk, &spec).opened.have.is_full());
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    disk.fail("open", "t/a", 13, usize::MAX);
    let (operation, path, kind) = disk_error(run.try_commit(&torrent, 0));
    assert_eq!(
        (operation, path.as_str(), kind),
        (Operation::Create, "/save/t/a", ErrorKind::PermissionDenied)
    );
}

#[test]
fn too_many_open_files_are_closed_and_opened_again() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    disk.fail("open", "t/a", 24, 1);
    run.commit(&torrent, [0]);
}

#[test]
fn too_many_open_files_do_not_stop_the_journal() {
    let (disk, torrent, spec) = setup();
    (0..16).for_each(|number| disk.fail("open", &format!("locks-{number:x}"), EMFILE, 1));
    disk.fail("open", ".journal.new", EMFILE, 1);
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    run.store.sync().unwrap();
    disk.fail("open", ".journal", EMFILE, 1);
    run.commit(&torrent, [1]);
    run.close();
}

#[test]
fn torrent_of_killed_process_is_free() {
    let (disk, _, spec) = setup();
    let first = start(&disk, &spec);
    assert!(matches!(try_open_on(&disk, &spec), Err(StoreError::InUse { pid: Some(4711), .. })));
    disk.kill();
    drop(start(&disk, &spec));
    drop(first);
}

#[test]
fn lock_survives_removal_of_its_file() {
    let (disk, _, spec) = setup();
    let other = OpenSpec { folder: "/other".into(), ..spec.clone() };
    let handles = Arc::default();
    let open =
        |spec: &OpenSpec| Store::open(Arc::clone(&disk), Arc::clone(&handles), spec).unwrap();
    let _first = open(&spec);
    for number in 0..16 {
        let name = format!("locks-{number:x}");
        let _removed = disk.remove(&"/state".into(), Path::new(&name));
    }
    // Whatever the same process opens next locks again what it has.
    let _others: Vec<_> = (0..100)
        .map(|number| open(&OpenSpec { folder: format!("/{number}").into(), ..other.clone() }))
        .collect();
    assert!(matches!(try_open_on(&disk, &spec), Err(StoreError::InUse { .. })));
}

#[test]
fn too_many_open_files_do_not_stop_a_look_at_a_folder() {
    let (disk, torrent, spec) = setup();
    for (operation, path) in
        [("folder", "/save"), ("folder", "/state"), ("stat", "t/a"), ("stat", "t/b")]
    {
        disk.fail(operation, path, EMFILE, 1);
    }
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 6]);
    // Such a sync did not fail: it was not begun.
    disk.fail("sync folder", "/save/t", EMFILE, 1);
    run.store.sync().unwrap();
    assert_eq!(numbers(&run.store.durable()), [0, 6]);
    disk.fail("stat", "t/a", EMFILE, 1);
    run.close();
}

/// What waits for a sync is open too, and is closed before anything fails for want of room.
#[test]
fn files_that_wait_for_a_sync_make_room() {
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), PIECE as usize)).collect();
    let torrent = torrent(&files, PIECE);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::default());
    let mut run = start(&disk, &spec).check();
    disk.limit_open(8);
    run.commit(&torrent, 0..torrent.pieces());
    run.store.sync().unwrap();
    assert!(run.store.durable().is_full());
    drop(run);
    disk.cut_power();
    assert!(start(&disk, &spec).check().opened.have.is_full(), "they were synced all the same");
}

#[test]
fn a_file_that_is_removed_or_replaced_meanwhile_is_named() {
    for replaced in [false, true] {
        let (disk, torrent, spec) = setup();
        let mut run = start(&disk, &spec).check();
        run.commit(&torrent, [0, 4]);
        disk.remove(&"/save".into(), Path::new("t/a")).unwrap();
        if replaced {
            disk.open(&"/save".into(), Path::new("t/a"), Access::Create).unwrap();
        }
        let (error, lost) = run.store.sync().unwrap_err();
        let (operation, path, got) = disk_error(Outcome::Failed(error));
        let expected = (Operation::Stat, "/save/t/a", ErrorKind::ResourceBusy);
        assert_eq!((operation, path.as_str(), got), expected);
        assert_eq!((lost, run.have()), (vec![], vec![0, 4]), "it may be put back");
        assert!(run.store.close(0, 0, &[]).is_err(), "the end says so too");
        drop(run);
        let run = start(&disk, &spec).check();
        assert_eq!(run.have(), [4], "it was not");
    }
}

#[test]
fn a_file_that_was_replaced_is_not_trusted_at_the_next_start() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, 0..torrent.pieces());
    run.store.sync().unwrap();
    // Another file of the same length, by a rename over ours.
    let folder = "/save".into();
    let other = disk.open(&folder, Path::new("t/new"), Access::Create).unwrap();
    disk.set_length(&other, 70_000).unwrap();
    disk.rename(&folder, Path::new("t/new"), Path::new("t/a")).unwrap();
    assert!(run.store.close(0, 0, &[]).is_err());
    drop(run);
    let run = start(&disk, &spec);
    assert_eq!(numbers(&run.opened.have), [3, 4, 5, 6]);
}

#[test]
fn a_folder_that_is_removed_meanwhile_costs_what_is_in_it_only() {
    let torrent = torrent(&[("a/x", 70_000), ("b/y", 130_000)], PIECE);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::default());
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 4]);
    disk.remove(&"/save".into(), Path::new("t/a/x")).unwrap();
    disk.fail("sync folder", "t/a", ENOENT, 1);
    let (error, lost) = run.store.sync().unwrap_err();
    let (operation, path, kind) = disk_error(Outcome::Failed(error));
    let expected = (Operation::Stat, "/save/t/a/x", ErrorKind::ResourceBusy);
    assert_eq!((operation, path.as_str(), kind), expected);
    assert_eq!(lost, [], "no sync failed");
    drop(run);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [4], "the rest is durable");
}

#[test]
fn a_file_that_was_cut_is_not_made_long_again() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    // Pieces 3 and 5 are in the second file.
    run.commit(&torrent, [0, 3, 5]);
    run.store.sync().unwrap();
    let bytes = disk.bytes("t/b");
    disk.set_bytes("t/b", &bytes[..70_000]);
    let outcome = run.try_commit(&torrent, 6);
    let Outcome::Failed(error) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(
        error.to_string(),
        "cannot write /save/t/b: expected at least 126608 bytes, got 70000; it is shorter than \
         before: verify the torrent"
    );
    assert_eq!(disk.bytes("t/b").len(), 70_000);
    assert!(run.store.close(0, 0, &[]).is_err());
    drop(run);
    let mut run = start(&disk, &spec).check();
    assert_eq!(run.have(), [0, 3]);
    run.commit(&torrent, [1, 2, 4, 5, 6]);
    run.close();
}

/// The spec of piece 2 as the file `/out/piece`.
fn single(torrent: &Torrent) -> OpenSpec {
    let layout = StoreLayout::SinglePiece { piece: torrent.piece(2), output: "/out/piece".into() };
    OpenSpec { layout, ..torrent.spec(Path::new("/nowhere")) }
}

#[test]
fn a_single_piece_that_another_just_finished_is_not_emptied() {
    let (disk, torrent, _) = setup();
    let mut run = start(&disk, &single(&torrent)).check();
    run.commit(&torrent, [2]);
    // Opened while the other had it, locked when it was through.
    drop(run);
    disk.rename_before_lock("/out/.piece.part", "/out/piece");
    let opened = try_open_on(&disk, &single(&torrent)).map(|_| ());
    assert_eq!(opened, Err(StoreError::InUse { path: "/out/piece".into(), pid: None }));
    assert!(disk.bytes("/out/piece") == torrent.piece_data(2));
}

#[test]
fn a_single_piece_that_cannot_get_its_name_leaves_nothing_behind() {
    let (disk, torrent, _) = setup();
    let names = || {
        let named = |name| disk.stat(&"/out".into(), Path::new(name)).unwrap().is_some();
        (named("piece"), named(".piece.part"))
    };
    for (times, end) in [(2, (false, false)), (1, (true, false))] {
        let mut run = start(&disk, &single(&torrent)).check();
        run.commit(&torrent, [2]);
        disk.fail("rename", "/out/piece", EIO, times);
        assert!(run.store.sync().is_err());
        assert_eq!(names(), (false, true));
        // The end tries once more.
        assert_eq!(run.store.close(0, 0, &[]).is_ok(), times == 1);
        assert_eq!(names(), end);
    }
}

#[test]
fn reserving_room_fails_before_anything_is_fetched() {
    let (disk, _, spec) = setup();
    disk.fail("allocate", "t/b", ENOSPC, 1);
    let run = start(&disk, &OpenSpec { preallocate: true, ..spec });
    let error = run.try_check().map(|_| ()).unwrap_err();
    let expected = "cannot reserve space for /save/t/b: no space left on device";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_torn_record_is_cut_off_before_the_next() {
    for code in [0, ENOSPC] {
        let (disk, torrent, spec) = setup();
        let mut run = start(&disk, &spec).check();
        run.commit(&torrent, [0]);
        disk.fail("append", ".journal.new", code, 1);
        let (operation, path, kind) = disk_error(run.try_commit(&torrent, 1));
        assert_eq!((operation, kind), (Operation::Write, ErrorKind::StorageFull));
        assert!(path.ends_with(".journal"), "{path}");
        assert_eq!(run.have(), [0]);
        run.commit(&torrent, [2, 1]);
        drop(run);
        assert_eq!(start(&disk, &spec).to_verify(), [0, 1, 2]);
    }
}

#[test]
fn a_journal_torn_at_any_byte_costs_its_tail_only() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 1]);
    run.store.sync().unwrap();
    run.commit(&torrent, [3, 4]);
    drop(run);
    let whole = disk.bytes(".journal");
    for length in 0..=whole.len() {
        disk.set_bytes(".journal", &whole[..length]);
        let run = start(&disk, &spec);
        let durable = numbers(&run.opened.have);
        assert!(durable.is_empty() || durable == [0, 1], "cut at {length}: {durable:?}");
        // Where not even the files are known to be ours, all of them is looked at.
        let have = run.check().have();
        assert!(have.iter().all(|piece| [0, 1, 3, 4].contains(piece)), "cut at {length}: {have:?}");
        assert!(length < whole.len() || (durable.len(), have.len()) == (2, 4));
    }
}

#[test]
fn a_failed_sync_is_never_tried_again_as_proof() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    run.store.sync().unwrap();
    run.commit(&torrent, [1, 4]);
    disk.fail("sync", "t/b", EIO, 1);
    let (error, lost) = run.store.sync().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot sync /save/t/b: input/output error; check the disk, then run it again"
    );
    assert_eq!(lost, [1, 4]);
    assert_eq!(run.have(), [0]);
    // The disk says all is well: these pieces are not had all the same, now or later.
    run.store.sync().unwrap();
    assert_eq!(numbers(&run.store.durable()), [0]);
    drop(run);
    let run = start(&disk, &spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![0], vec![]));
    // Fetched again, they are.
    let mut run = run.check();
    run.commit(&torrent, [1, 4]);
    run.store.sync().unwrap();
    assert_eq!(numbers(&run.store.durable()), [0, 1, 4]);
}

#[test]
fn a_folder_that_cannot_be_synced_makes_nothing_durable() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    disk.fail("sync folder", "/save/t", EIO, 1);
    let (error, lost) = run.store.sync().unwrap_err();
    assert!(matches!(error, StoreError::Disk { operation: Operation::Sync, .. }));
    assert_eq!((lost, run.have()), (vec![0], vec![]));
}

#[test]
fn a_file_is_no_stranger_after_a_failed_sync_and_a_power_cut() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, 0..torrent.pieces());
    disk.fail("sync", "/save/t/b", EIO, 1);
    assert!(run.store.sync().is_err());
    run.store.close(0, 0, &[]).unwrap();
    drop(run);
    disk.cut_power();
    // A part of what was never synced is there after the power came back.
    disk.set_bytes("/save/t/b", &noise(1000, 99));
    let run = start(&disk, &spec).try_check();
    assert!(run.is_ok(), "{:?}", run.err());
}

/// Each step of an import fails once, and the launch ends there.
#[test]
fn interrupted_import_loses_no_piece() {
    let steps = [
        ("open", "t/b"),
        ("write", "t/b"),
        ("append", ".journal"),
        ("sync", "t/b"),
        ("sync folder", "/save/t"),
        ("sync", ".journal"),
    ];
    for (operation, path) in steps {
        for (power_cut, skip) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
            let (disk, torrent, mut spec) = setup();
            spec.selected = Some(vec![true, false]);
            let mut run = start(&disk, &spec).check();
            run.commit(&torrent, [0, 1, 2]);
            run.close();
            spec.selected = None;
            disk.fail_later(operation, path, EIO, skip);
            if let Ok(run) = try_open_on(&disk, &spec) {
                verify_all(&run);
                let _interrupted = run.store.finish_check().map(|_| run.store.sync());
            }
            disk.heal();
            if power_cut {
                disk.cut_power();
            }
            let mut run = start(&disk, &spec).check();
            let step = format!("{operation} {path}, {skip} skipped, power cut: {power_cut}");
            // A failed sync costs what it was to make durable.
            let costs = operation.starts_with("sync");
            assert!(run.have() == [0, 1, 2] || (costs && run.have() == [0, 1]), "{step}");
            let missing: Vec<u32> =
                (0..torrent.pieces()).filter(|piece| !run.have().contains(piece)).collect();
            run.commit(&torrent, missing);
            run.close();
            assert!(disk.bytes("t/b") == torrent.file_data(1), "{step}");
            assert!(start(&disk, &spec).opened.have.is_full(), "{step}");
        }
    }
}

/// The middle file has no piece of its own: one that it shares is in the parts file, the other one
/// was written to the file.
#[test]
fn piece_beside_import_survives_kill() {
    let torrent = torrent(&[("a", 40_000), ("b", 40_000), ("c", 40_000)], PIECE);
    for (power_cut, preallocate) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = Arc::new(MemDisk::forgetful());
        let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
        let mut run = start(&disk, &some(&spec, &[true, false, true])).check();
        run.commit(&torrent, [1]);
        run.close();
        let mut run = start(&disk, &OpenSpec { preallocate, ..spec.clone() }).check();
        run.commit(&torrent, [2]);
        drop(run);
        if power_cut {
            disk.write_back("t/b");
            disk.write_back("t/c");
            disk.cut_power();
        }
        let run = start(&disk, &some(&spec, &[true, false, true])).check();
        // Only the journal says that piece 2 was written.
        let expected: &[u32] = if power_cut { &[1] } else { &[1, 2] };
        assert_eq!(run.have(), expected, "power cut {power_cut}, preallocated {preallocate}");
    }
}

#[test]
fn folded_import_survives_an_error() {
    let torrent = torrent(&[("a", 40_000), ("A", 40_000)], PIECE);
    let disk = Arc::new(MemDisk::folding());
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let mut run = start(&disk, &some(&spec, &[true, false])).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    disk.fail("open", "t/A~2", EIO, 1);
    assert!(start(&disk, &spec).try_check().is_err());
    assert_eq!(start(&disk, &spec).check().have(), [0, 1]);
}

#[test]
fn imported_piece_is_durable_after_sync() {
    let (disk, torrent, mut spec) = setup();
    spec.selected = Some(vec![true, false]);
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 1, 2]);
    run.close();
    spec.selected = None;
    let run = start(&disk, &spec).check();
    assert!(!run.store.durable().contains(torrent.piece(2)));
    run.store.sync().unwrap();
    drop(run);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0, 1, 2]);
}

#[test]
fn verified_range_is_not_imported_again() {
    let (disk, torrent, mut spec) = setup();
    spec.selected = Some(vec![true, false]);
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 1, 2]);
    run.close();
    spec.selected = None;
    drop(start(&disk, &spec).check());
    // A second launch needs to write nothing.
    disk.fail("write", "t/b", EIO, 1);
    assert_eq!(start(&disk, &spec).check().have(), [0, 1, 2]);
}

#[test]
fn names_that_could_not_be_synced_are_synced_with_what_comes_next() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    disk.fail("sync folder", "/save/t", EIO, 1);
    assert!(run.store.sync().is_err());
    // A piece that was on its way is had in the same file, whose name is on no disk yet.
    run.commit(&torrent, [0]);
    disk.fail("sync folder", "/save/t", EIO, 1);
    assert!(run.store.sync().is_err(), "the folder was synced");
    assert!(run.store.durable().is_empty());
}

#[test]
fn the_name_of_the_parts_file_is_synced() {
    let (disk, torrent, mut spec) = setup();
    spec.selected = Some(vec![true, false]);
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    run.store.sync().unwrap();
    run.commit(&torrent, [2]);
    disk.fail("sync folder", "/state/", EIO, 1);
    assert!(run.store.sync().is_err(), "the folder was synced");
    assert_eq!(numbers(&run.store.durable()), [0]);
    run.commit(&torrent, [2]);
    drop(run);
    // Killed: whoever finds the piece has to see to the name of the file.
    let run = start(&disk, &spec).check();
    assert_eq!(run.have(), [0, 2]);
    disk.fail("sync folder", "/state/", EIO, 1);
    assert!(run.store.sync().is_err(), "the folder was synced");
    assert_eq!(numbers(&run.store.durable()), [0]);
}

#[test]
fn the_parts_file_is_synced_however_many_others_are() {
    let names: Vec<String> = (0..70).map(|number| number.to_string()).collect();
    let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), 500)).collect();
    files.push(("not wanted", 40_000));
    let torrent = torrent(&files, PIECE);
    let mut spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    spec.selected = Some((0..files.len()).map(|file| file < names.len()).collect());
    let disk = Arc::new(MemDisk::default());
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 1]);
    run.store.sync().unwrap();
    assert_eq!(numbers(&run.store.durable()), [0, 1]);
    drop(run);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0, 1]);
}

#[test]
fn names_of_files_that_a_killed_run_made_are_synced() {
    // The run before was killed after it had made its files and a piece was had: the next one finds
    // the piece, and has to see to the names of the files before it calls it durable.
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    drop(run);
    let run = start(&disk, &spec).check();
    assert_eq!(run.have(), [0]);
    disk.fail("sync folder", "/save/t", EIO, 1);
    assert!(run.store.sync().is_err(), "the folder was synced");
    assert!(run.store.durable().is_empty());
    drop(run);
    // It was killed before anything was had, so there is nothing to find; a piece comes now.
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    disk.fail("sync folder", "/save/t", EIO, 1);
    assert!(run.store.sync().is_err(), "the folder was synced");
}

#[test]
fn a_journal_that_cannot_be_synced_is_replaced() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    disk.fail("sync", ".journal.new", EIO, 1);
    let (error, lost) = run.store.sync().unwrap_err();
    let StoreError::Disk { path, .. } = error else { panic!("{error}") };
    assert!(path.to_string_lossy().ends_with(".journal"));
    assert!(lost.is_empty(), "the data is on the disk");
    assert_eq!((run.have(), run.store.durable().is_empty()), (vec![0], true));
    run.store.sync().unwrap();
    assert_eq!(numbers(&run.store.durable()), [0]);
    disk.cut_power();
    drop(run);
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0]);
}

#[test]
fn a_journal_whose_sync_failed_is_replaced_whoever_synced_it() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 4]);
    drop(run);
    let run = start(&disk, &spec);
    run.verify(0..torrent.pieces());
    disk.fail("sync", ".journal.new", EIO, 1);
    assert!(run.store.finish_check().is_err());
    let _the_torrent_failed = run.store.close(0, 0, &[]);
    assert_eq!(numbers(&run.store.durable()), [0, 4]);
    drop(run);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0, 4], "it was said to be durable");
}

#[test]
fn a_journal_that_may_have_been_replaced_is_not_appended_to() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, 1..torrent.pieces());
    while disk.bytes(".journal").len() < 70_000 {
        run.verify(1..2);
    }
    // It is long and replaced; whether the new one has the name after a power cut is not known.
    disk.fail("sync folder", "/state/", EIO, 1);
    assert!(run.store.sync().is_err());
    let Outcome::Failed(error) = run.try_commit(&torrent, 0) else { panic!() };
    let expected =
        ".journal: it must be replaced first, and that failed; check the disk, then run it again";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(!run.have().contains(&0), "no journal says so");
}

#[test]
fn a_power_cut_costs_one_commit_window() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 2, 5]);
    run.store.sync().unwrap();
    run.commit(&torrent, [1, 3]);
    drop(run);
    disk.cut_power();
    let run = start(&disk, &spec);
    assert_eq!(numbers(&run.opened.have), [0, 2, 5]);
    let mut run = run.check();
    assert_eq!(run.have(), [0, 2, 5]);
    for index in [0, 2, 5] {
        assert!(run.read(&torrent, index, 0, 16).is_ok());
    }
}

#[test]
fn a_power_cut_makes_no_stranger_of_our_file() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    // Piece 2 is in both files, and only one of them is on the disk when the power goes.
    run.commit(&torrent, [2]);
    disk.write_back("t/a");
    drop(run);
    disk.cut_power();
    let mut run = start(&disk, &spec).check();
    assert!(run.have().is_empty());
    run.commit(&torrent, [2]);
}

/// The power cut takes the record that the file is ours.
#[test]
fn unselected_file_stays_ours() {
    for serves in [false, true] {
        let (disk, torrent, spec) = setup();
        let mut run = start(&disk, &spec).check();
        run.commit(&torrent, [3]);
        drop(run);
        // Half of it came to the disk.
        disk.set_bytes("t/b", &noise(10_000, 99));
        disk.write_back("t/b");
        disk.cut_power();
        let only_a = some(&spec, &[true, false]);
        start(&disk, &OpenSpec { read_only: serves, ..only_a }).check().close();
        assert!(disk.bytes("t/b") == noise(10_000, 99), "it was not selected");
        let mut run = start(&disk, &spec).check();
        run.commit(&torrent, 0..torrent.pieces());
        run.close();
        assert!(disk.bytes("t/b") == torrent.file_data(1));
    }
}

/// The power cut takes the record that the second file was created, under a numbered name.
#[test]
fn folded_file_is_ours_after_power_cut() {
    let torrent = torrent(&[("A", 40_000), ("a", 80_000)], PIECE);
    let disk = Arc::new(MemDisk::folding());
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let mut run = start(&disk, &some(&spec, &[false, true])).check();
    run.commit(&torrent, [1, 2, 3]);
    run.close();
    let mut run = start(&disk, &some(&spec, &[true, false])).check();
    run.commit(&torrent, [0]);
    drop(run);
    // Half of it came to the disk.
    disk.set_bytes("t/A~2", &noise(10_000, 99));
    disk.write_back("t/A~2");
    disk.cut_power();
    let mut run = start(&disk, &spec).check();
    let missing: Vec<u32> = (0..4).filter(|piece| !run.have().contains(piece)).collect();
    run.commit(&torrent, missing);
    run.close();
    assert!(disk.bytes("t/A~2") == torrent.file_data(0));
    assert!(disk.bytes("t/a") == torrent.file_data(1));
}

#[test]
fn disk_error_loses_no_unselected_file() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [2, 3]);
    run.close();
    let only_a = some(&spec, &[true, false]);
    disk.fail("stat", "t/b", EIO, 1);
    let error = try_open_on(&disk, &only_a).err();
    assert!(
        matches!(error, Some(StoreError::Disk { operation: Operation::Stat, .. })),
        "{error:?}"
    );
    assert_eq!(start(&disk, &only_a).check().have(), [2, 3]);
    disk.fail("stat", "t/b", EACCES, 1);
    assert_eq!(start(&disk, &only_a).check().have(), [0; 0], "it can't be used");
}

#[test]
fn what_was_verified_must_be_synced_too() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    drop(run);
    // Killed, verified from memory, synced, and only then the power is cut.
    let run = start(&disk, &spec).check();
    run.store.sync().unwrap();
    drop(run);
    disk.cut_power();
    let run = start(&disk, &spec).check();
    assert_eq!((numbers(&run.opened.have), run.have()), (vec![0], vec![0]));
}

#[test]
fn a_run_that_changes_nothing_leaves_the_journal_alone() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, (0..torrent.pieces()).filter(|piece| *piece != 1));
    run.close();
    let journal = disk.bytes(".journal");
    disk.fail("open", ".journal.new", EIO, usize::MAX);
    start(&disk, &spec).check().close();
    assert_eq!(disk.bytes(".journal"), journal);
    // What is uploaded counts, though.
    let run = start(&disk, &spec).check();
    assert!(run.store.close(7, 0, &[]).is_err());
    disk.heal();
    start(&disk, &spec).check().store.close(7, 0, &[]).unwrap();
    assert_eq!(start(&disk, &spec).opened.uploaded, 7);
}

#[test]
fn a_journal_left_alone_is_begun_before_the_first_change() {
    let (disk, torrent, spec) = setup();
    let others: Vec<u32> = (0..torrent.pieces()).filter(|piece| *piece != 1).collect();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, others.iter().copied());
    run.close();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [1]);
    drop(run);
    let run = start(&disk, &spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (others, vec![1]));
    // Where it can't be begun, nothing is written.
    run.check().close();
    let mut run = start(&disk, &spec).check();
    disk.fail("open", ".journal.new", EIO, 1);
    assert_eq!(disk_error(run.try_commit(&torrent, 1)).0, Operation::Create);
}

#[test]
fn an_end_that_fails_is_as_a_kill() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0]);
    run.store.sync().unwrap();
    run.commit(&torrent, [3]);
    disk.fail("sync", "t/b", EIO, 1);
    assert!(run.store.close(0, 0, &[]).is_err());
    assert_eq!(run.try_commit(&torrent, 1), Outcome::Failed(StoreError::NotOpen));
    // The lock is free although the store is still there.
    let next = start(&disk, &spec);
    assert_eq!((numbers(&next.opened.have), next.to_verify()), (vec![0], vec![]));
}

#[test]
fn a_read_that_fails_is_no_bad_piece() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, [0, 1, 2, 3]);
    drop(run);
    disk.fail("read", "t/b", EIO, 1);
    let run = start(&disk, &spec);
    let (good, error) = run.verify(0..4);
    // Piece 2 can't be read; what is hashed beside it is not lost.
    assert_eq!(good, [0, 1, 3]);
    assert!(matches!(error, Some(StoreError::Disk { operation: Operation::Read, .. })));
    assert_eq!(run.verify(2..4), (vec![2, 3], None));
}

#[test]
fn a_long_journal_is_rewritten() {
    let (disk, torrent, spec) = setup();
    let mut run = start(&disk, &spec).check();
    run.commit(&torrent, 1..torrent.pieces());
    run.store.sync().unwrap();
    while disk.bytes(".journal").len() < 70_000 {
        // Verified again, recorded again.
        run.verify(1..2);
    }
    run.commit(&torrent, [0]);
    run.store.sync().unwrap();
    let length = disk.bytes(".journal").len();
    assert!(length < 1000, "{length}");
    run.close();
    assert!(start(&disk, &spec).opened.have.is_full());
}
