//! The store on a disk that fails, tears records and loses power.

#![allow(missing_docs)]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::{
    Access, CommitResult, Disk, OpenSpec, Operation, SharedDisk, Store, StoreError, StoreLayout,
};

const PIECE: u32 = 32 * 1024;
const FILES: [(&str, usize); 2] = [("a", 70_000), ("b", 130_000)];
/// Error numbers of the operating system.
const EIO: i32 = 5;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

fn setup() -> (Arc<MemDisk>, Torrent, OpenSpec) {
    setup_on(MemDisk::forgetful(), torrent(&FILES, PIECE))
}

fn setup_on(disk: MemDisk, torrent: Torrent) -> (Arc<MemDisk>, Torrent, OpenSpec) {
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    (Arc::new(disk), torrent, spec)
}

/// Asserts what failed, on which file below a folder, and why.
#[track_caller]
fn assert_disk_error(error: &StoreError, what: Operation, file: &str, why: ErrorKind) {
    let StoreError::Disk { operation, path, kind, .. } = error else { panic!("{error}") };
    assert_eq!((*operation, *kind), (what, why), "{error}");
    assert!(path.to_string_lossy().ends_with(file), "{error}");
}

#[track_caller]
fn failure(result: CommitResult) -> StoreError {
    let CommitResult::Failed(error) = result else { panic!("it should fail: {result:?}") };
    error
}

/// Lets an operation of the next sync fail.
#[track_caller]
fn assert_sync_fails(
    disk: &MemDisk,
    launch: &Launch<MemDisk>,
    operation: &'static str,
    path: &str,
) -> (StoreError, Vec<u32>) {
    disk.fail(operation, path, EIO, 1);
    launch.store.sync().expect_err("it was not synced")
}

#[test]
fn full_disk_loses_no_piece() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check().with(&torrent, [0]);
    disk.fail("write", "t/b", ENOSPC, 1);
    let error = failure(launch.try_commit(&torrent, 3));
    assert_eq!(
        error.to_string(),
        "cannot write /save/t/b: no space left on device; free some space, then run it again"
    );
    assert_disk_error(&error, Operation::Write, "/save/t/b", ErrorKind::StorageFull);
    assert_eq!(launch.have(), [0]);
    // There is free space again.
    launch.commit(&torrent, 1..torrent.pieces());
    launch.close();
    assert!(start(&disk, &spec).opened.have.is_full());
}

#[test]
fn uncreatable_file_is_named() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check();
    disk.fail("open", "t/a", EACCES, usize::MAX);
    let error = failure(launch.try_commit(&torrent, 0));
    assert_disk_error(&error, Operation::Create, "/save/t/a", ErrorKind::PermissionDenied);
}

#[test]
fn descriptor_limit_is_survived() {
    let (disk, torrent, spec) = setup();
    (0..16).for_each(|number| disk.fail("open", &format!("locks-{number:x}"), EMFILE, 1));
    disk.fail("open", ".journal.new", EMFILE, 1);
    ["/save", "/state"].iter().for_each(|path| disk.fail("folder", path, EMFILE, 1));
    ["t/a", "t/b"].iter().for_each(|path| disk.fail("stat", path, EMFILE, 1));
    let launch = start(&disk, &spec).check();
    disk.fail("open", "t/a", EMFILE, 1);
    let mut launch = launch.with(&torrent, [0, 6]);
    // The sync did not fail, because it was not started.
    disk.fail("sync folder", "/save/t", EMFILE, 1);
    launch.store.sync().unwrap();
    assert_eq!(numbers(&launch.store.durable()), [0, 6]);
    disk.fail("open", ".journal", EMFILE, 1);
    launch.commit(&torrent, [1]);
    disk.fail("stat", "t/a", EMFILE, 1);
    launch.close();
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
    let shared = Arc::new(SharedDisk::new(Arc::clone(&disk)));
    let open = |spec: &OpenSpec| Store::open(Arc::clone(&shared), spec).unwrap();
    let _first = open(&spec);
    for number in 0..16 {
        let name = format!("locks-{number:x}");
        let _removed = disk.remove(&"/state".into(), Path::new(&name));
    }
    // The next opens of this process lock its ranges again.
    let _others: Vec<_> = (0..100)
        .map(|number| open(&OpenSpec { folder: format!("/{number}").into(), ..other.clone() }))
        .collect();
    assert!(matches!(try_open_on(&disk, &spec), Err(StoreError::InUse { .. })));
}

/// Unsynced files are closed before an open fails for lack of descriptors.
#[test]
fn unsynced_files_make_room() {
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), PIECE as usize)).collect();
    let (disk, torrent, spec) = setup_on(MemDisk::default(), torrent(&files, PIECE));
    let mut launch = start(&disk, &spec).check();
    disk.limit_open(8);
    launch.commit(&torrent, 0..torrent.pieces());
    launch.store.sync().unwrap();
    assert!(launch.store.durable().is_full());
    drop(launch);
    disk.cut_power();
    assert!(start(&disk, &spec).check().opened.have.is_full(), "they were not synced");
}

#[test]
fn removed_or_replaced_file_is_named() {
    for replaced in [false, true] {
        let (disk, torrent, spec) = setup();
        let launch = start(&disk, &spec).check().with(&torrent, [0, 4]);
        disk.remove(&"/save".into(), Path::new("t/a")).unwrap();
        if replaced {
            disk.open(&"/save".into(), Path::new("t/a"), Access::Create).unwrap();
        }
        let (error, lost) = launch.store.sync().unwrap_err();
        assert_disk_error(&error, Operation::Stat, "/save/t/a", ErrorKind::ResourceBusy);
        assert_eq!((lost, launch.have()), (vec![], vec![0, 4]), "it may be put back");
        assert!(launch.store.close(0, 0, &[]).is_err(), "close reports it too");
        drop(launch);
        assert_eq!(start(&disk, &spec).check().have(), [4], "it was not put back");
    }
}

#[test]
fn replaced_file_is_not_trusted() {
    let (disk, torrent, spec) = setup();
    let launch = start(&disk, &spec).check().with(&torrent, 0..torrent.pieces()).synced();
    // Another file of the same length, by a rename over ours.
    let folder = "/save".into();
    let other = disk.open(&folder, Path::new("t/new"), Access::Create).unwrap();
    disk.set_length(&other, 70_000).unwrap();
    disk.rename(&folder, Path::new("t/new"), Path::new("t/a")).unwrap();
    assert!(launch.store.close(0, 0, &[]).is_err());
    drop(launch);
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [3, 4, 5, 6]);
}

#[test]
fn removed_folder_loses_its_pieces_only() {
    let (disk, torrent, spec) =
        setup_on(MemDisk::default(), torrent(&[("a/x", 70_000), ("b/y", 130_000)], PIECE));
    let launch = start(&disk, &spec).check().with(&torrent, [0, 4]);
    disk.remove(&"/save".into(), Path::new("t/a/x")).unwrap();
    disk.fail("sync folder", "t/a", ENOENT, 1);
    let (error, lost) = launch.store.sync().unwrap_err();
    assert_disk_error(&error, Operation::Stat, "/save/t/a/x", ErrorKind::ResourceBusy);
    assert_eq!(lost, [], "no sync failed");
    drop(launch);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [4], "the rest is durable");
}

#[test]
fn cut_file_is_not_extended() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check();
    // Pieces 3 and 5 are in the second file.
    launch.commit(&torrent, [0, 3, 5]);
    launch.store.sync().unwrap();
    let bytes = disk.bytes("t/b");
    disk.set_bytes("t/b", &bytes[..70_000]);
    let error = failure(launch.try_commit(&torrent, 6));
    assert_eq!(
        error.to_string(),
        "cannot write /save/t/b: expected at least 126608 bytes, got 70000; it is shorter than \
         before: verify the torrent"
    );
    assert_eq!(disk.bytes("t/b").len(), 70_000);
    assert!(launch.store.close(0, 0, &[]).is_err());
    drop(launch);
    start(&disk, &spec).check().assert_have(&[0, 3]).with(&torrent, [1, 2, 4, 5, 6]).close();
}

/// The spec of piece 2 as the file `/out/piece`.
fn single(torrent: &Torrent) -> OpenSpec {
    let layout = StoreLayout::SinglePiece { piece: torrent.piece(2), output: "/out/piece".into() };
    OpenSpec { layout, ..torrent.spec(Path::new("/nowhere")) }
}

#[test]
fn finished_single_piece_is_not_emptied() {
    let (disk, torrent, _) = setup();
    drop(start(&disk, &single(&torrent)).check().with(&torrent, [2]));
    // We open it while the other process has it, and lock it after that has finished.
    let other = Arc::clone(&disk);
    disk.in_next_lock(move || {
        other.rename(&"/out".into(), Path::new(".piece.part"), Path::new("piece")).unwrap();
    });
    let opened = try_open_on(&disk, &single(&torrent)).map(|_| ());
    assert_eq!(opened, Err(StoreError::InUse { path: "/out/piece".into(), pid: None }));
    assert!(disk.bytes("/out/piece") == torrent.piece_data(2));
}

#[test]
fn failed_rename_removes_single_piece() {
    let (disk, torrent, _) = setup();
    let names = || {
        let named = |name| disk.stat(&"/out".into(), Path::new(name)).unwrap().is_some();
        (named("piece"), named(".piece.part"))
    };
    for (times, end) in [(2, (false, false)), (1, (true, false))] {
        let launch = start(&disk, &single(&torrent)).check().with(&torrent, [2]);
        disk.fail("rename", "/out/piece", EIO, times);
        assert!(launch.store.sync().is_err());
        assert_eq!(names(), (false, true));
        // Close tries again.
        assert_eq!(launch.store.close(0, 0, &[]).is_ok(), times == 1);
        assert_eq!(names(), end);
    }
}

#[test]
fn failed_preallocation_fails_the_check() {
    let (disk, _, spec) = setup();
    disk.fail("allocate", "t/b", ENOSPC, 1);
    let launch = start(&disk, &OpenSpec { preallocate: true, ..spec });
    let error = launch.try_check().map(|_| ()).unwrap_err();
    let expected = "cannot reserve space for /save/t/b: no space left on device";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn torn_record_is_cut_off() {
    for code in [0, ENOSPC] {
        let (disk, torrent, spec) = setup();
        let mut launch = start(&disk, &spec).check().with(&torrent, [0]);
        disk.fail("append", ".journal.new", code, 1);
        let error = failure(launch.try_commit(&torrent, 1));
        assert_disk_error(&error, Operation::Write, ".journal", ErrorKind::StorageFull);
        assert_eq!(launch.have(), [0]);
        launch.commit(&torrent, [2, 1]);
        drop(launch);
        assert_eq!(start(&disk, &spec).to_verify(), [0, 1, 2]);
    }
}

#[test]
fn torn_journal_loses_its_tail_only() {
    let (disk, torrent, spec) = setup();
    drop(start(&disk, &spec).check().with(&torrent, [0, 1]).synced().with(&torrent, [3, 4]));
    let whole = disk.bytes(".journal");
    for length in 0..=whole.len() {
        disk.set_bytes(".journal", &whole[..length]);
        let launch = start(&disk, &spec);
        let durable = numbers(&launch.opened.have);
        assert!(durable.is_empty() || durable == [0, 1], "cut at {length}: {durable:?}");
        // If the journal does not even name the files, everything is verified.
        let have = launch.check().have();
        assert!(have.iter().all(|piece| [0, 1, 3, 4].contains(piece)), "cut at {length}: {have:?}");
        assert!(length < whole.len() || (durable.len(), have.len()) == (2, 4));
    }
}

#[test]
fn failed_sync_loses_unsynced_pieces() {
    let (disk, torrent, spec) = setup();
    let launch = start(&disk, &spec).check().with(&torrent, [0]).synced().with(&torrent, [1, 4]);
    let (error, lost) = assert_sync_fails(&disk, &launch, "sync", "t/b");
    assert_eq!(
        error.to_string(),
        "cannot sync /save/t/b: input/output error; check the disk, then run it again"
    );
    assert_eq!(lost, [1, 4]);
    assert_eq!(launch.have(), [0]);
    // The next sync succeeds. The pieces are missing all the same, now and later.
    launch.store.sync().unwrap();
    assert_eq!(numbers(&launch.store.durable()), [0]);
    drop(launch);
    let launch = start(&disk, &spec).assert_found(&[0], &[]);
    // After another download we have them.
    let launch = launch.check().with(&torrent, [1, 4]).synced();
    assert_eq!(numbers(&launch.store.durable()), [0, 1, 4]);
}

#[test]
fn failed_folder_sync_makes_nothing_durable() {
    let (disk, torrent, spec) = setup();
    let launch = start(&disk, &spec).check().with(&torrent, [0]);
    let (error, lost) = assert_sync_fails(&disk, &launch, "sync folder", "/save/t");
    assert!(matches!(error, StoreError::Disk { operation: Operation::Sync, .. }));
    assert_eq!((lost, launch.have()), (vec![0], vec![]));
}

#[test]
fn own_file_survives_failed_sync() {
    let (disk, torrent, spec) = setup();
    let launch = start(&disk, &spec).check().with(&torrent, 0..torrent.pieces());
    assert_sync_fails(&disk, &launch, "sync", "/save/t/b");
    launch.close();
    disk.cut_power();
    // Some unsynced bytes are there after the power cut.
    disk.set_bytes("/save/t/b", &noise(1000, 99));
    start(&disk, &spec).check();
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
            let (disk, torrent, spec) = setup();
            start(&disk, &some(&spec, &[true, false])).check().with(&torrent, [0, 1, 2]).close();
            disk.fail_later(operation, path, EIO, skip);
            if let Ok(launch) = try_open_on(&disk, &spec) {
                verify_all(&launch);
                let _interrupted = launch.store.finish_check().map(|_| launch.store.sync());
            }
            disk.heal();
            if power_cut {
                disk.cut_power();
            }
            let mut launch = start(&disk, &spec).check();
            let step = format!("{operation} {path}, {skip} skipped, power cut: {power_cut}");
            // A failed sync loses the pieces that it was to make durable.
            let costs = operation.starts_with("sync");
            assert!(launch.have() == [0, 1, 2] || (costs && launch.have() == [0, 1]), "{step}");
            launch.commit_missing(&torrent);
            launch.close();
            assert!(disk.bytes("t/b") == torrent.file_data(1), "{step}");
            assert!(start(&disk, &spec).opened.have.is_full(), "{step}");
        }
    }
}

/// The middle file has no piece of its own. One piece that it shares is in the parts file, the
/// other was written to the file.
#[test]
fn piece_beside_import_survives_kill() {
    let torrent = torrent(&[("a", 40_000), ("b", 40_000), ("c", 40_000)], PIECE);
    for (power_cut, preallocate) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = Arc::new(MemDisk::forgetful());
        let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
        start(&disk, &some(&spec, &[true, false, true])).check().with(&torrent, [1]).close();
        drop(start(&disk, &OpenSpec { preallocate, ..spec.clone() }).check().with(&torrent, [2]));
        if power_cut {
            disk.write_back("t/b");
            disk.write_back("t/c");
            disk.cut_power();
        }
        let launch = start(&disk, &some(&spec, &[true, false, true])).check();
        // Only the journal says that piece 2 was written.
        let expected: &[u32] = if power_cut { &[1] } else { &[1, 2] };
        assert_eq!(launch.have(), expected, "power cut {power_cut}, preallocated {preallocate}");
    }
}

#[test]
fn folded_import_survives_an_error() {
    let (disk, torrent, spec) =
        setup_on(MemDisk::folding(), torrent(&[("a", 40_000), ("A", 40_000)], PIECE));
    start(&disk, &some(&spec, &[true, false])).check().with(&torrent, [0, 1]).close();
    disk.fail("open", "t/A~2", EIO, 1);
    assert!(start(&disk, &spec).try_check().is_err());
    assert_eq!(start(&disk, &spec).check().have(), [0, 1]);
}

#[test]
fn imported_piece_is_durable_after_sync() {
    let (disk, torrent, spec) = setup();
    start(&disk, &some(&spec, &[true, false])).check().with(&torrent, [0, 1, 2]).close();
    let launch = start(&disk, &spec).check();
    assert!(!launch.store.durable().contains(torrent.piece(2)));
    launch.store.sync().unwrap();
    drop(launch);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0, 1, 2]);
}

#[test]
fn verified_range_is_not_imported_again() {
    let (disk, torrent, spec) = setup();
    start(&disk, &some(&spec, &[true, false])).check().with(&torrent, [0, 1, 2]).close();
    drop(start(&disk, &spec).check());
    // A second launch writes nothing.
    disk.fail("write", "t/b", EIO, 1);
    assert_eq!(start(&disk, &spec).check().have(), [0, 1, 2]);
}

#[test]
fn unsynced_names_are_synced_again() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check().with(&torrent, [0]);
    assert_sync_fails(&disk, &launch, "sync folder", "/save/t");
    // A later piece is in the same file, whose name is not synced yet.
    launch.commit(&torrent, [0]);
    assert_sync_fails(&disk, &launch, "sync folder", "/save/t");
    assert!(launch.store.durable().is_empty());
}

#[test]
fn parts_file_name_is_synced() {
    let (disk, torrent, mut spec) = setup();
    spec.selected = Some(vec![true, false]);
    let mut launch = start(&disk, &spec).check().with(&torrent, [0]).synced().with(&torrent, [2]);
    assert_sync_fails(&disk, &launch, "sync folder", "/state/");
    assert_eq!(numbers(&launch.store.durable()), [0]);
    launch.commit(&torrent, [2]);
    drop(launch);
    // After a kill, the launch that finds the piece must sync the name of the file.
    let launch = start(&disk, &spec).check().assert_have(&[0, 2]);
    assert_sync_fails(&disk, &launch, "sync folder", "/state/");
    assert_eq!(numbers(&launch.store.durable()), [0]);
}

#[test]
fn parts_file_is_synced_beside_many() {
    let names: Vec<String> = (0..70).map(|number| number.to_string()).collect();
    let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), 500)).collect();
    files.push(("unselected", 40_000));
    let (disk, torrent, mut spec) = setup_on(MemDisk::default(), torrent(&files, PIECE));
    spec.selected = Some((0..files.len()).map(|file| file < names.len()).collect());
    let launch = start(&disk, &spec).check().with(&torrent, [0, 1]).synced();
    assert_eq!(numbers(&launch.store.durable()), [0, 1]);
    drop(launch);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0, 1]);
}

#[test]
fn names_are_synced_after_kill() {
    // A launch was killed after it had made its files and verified a piece. The next one finds the
    // piece, and must sync the names of the files before the piece is durable.
    let (disk, torrent, spec) = setup();
    drop(start(&disk, &spec).check().with(&torrent, [0]));
    let launch = start(&disk, &spec).check().assert_have(&[0]);
    assert_sync_fails(&disk, &launch, "sync folder", "/save/t");
    assert!(launch.store.durable().is_empty());
    drop(launch);
    // That launch was killed too. The next one commits the piece again.
    let launch = start(&disk, &spec).check().with(&torrent, [0]);
    assert_sync_fails(&disk, &launch, "sync folder", "/save/t");
}

#[test]
fn unsyncable_journal_is_replaced() {
    let (disk, torrent, spec) = setup();
    let launch = start(&disk, &spec).check().with(&torrent, [0]);
    let (error, lost) = assert_sync_fails(&disk, &launch, "sync", ".journal.new");
    let StoreError::Disk { path, .. } = error else { panic!("{error}") };
    assert!(path.to_string_lossy().ends_with(".journal"));
    assert!(lost.is_empty(), "the data is on the disk");
    assert_eq!((launch.have(), launch.store.durable().is_empty()), (vec![0], true));
    launch.store.sync().unwrap();
    assert_eq!(numbers(&launch.store.durable()), [0]);
    disk.cut_power();
    drop(launch);
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0]);
}

#[test]
fn failed_sync_in_check_replaces_journal() {
    let (disk, torrent, spec) = setup();
    drop(start(&disk, &spec).check().with(&torrent, [0, 4]));
    let launch = start(&disk, &spec);
    launch.verify(0..torrent.pieces());
    disk.fail("sync", ".journal.new", EIO, 1);
    assert!(launch.store.finish_check().is_err());
    let _failed = launch.store.close(0, 0, &[]);
    assert_eq!(numbers(&launch.store.durable()), [0, 4]);
    drop(launch);
    disk.cut_power();
    assert_eq!(numbers(&start(&disk, &spec).opened.have), [0, 4], "durable pieces were lost");
}

#[test]
fn doubtful_journal_is_not_appended_to() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check().with(&torrent, 1..torrent.pieces());
    while disk.bytes(".journal").len() < 70_000 {
        launch.verify(1..2);
    }
    // The long journal is replaced. After a power cut either file may have the name.
    assert_sync_fails(&disk, &launch, "sync folder", "/state/");
    let error = failure(launch.try_commit(&torrent, 0));
    let expected =
        ".journal: it must be replaced first, and that failed; check the disk, then run it again";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(!launch.have().contains(&0), "no journal has it");
}

#[test]
fn power_cut_loses_unsynced_pieces_only() {
    let (disk, torrent, spec) = setup();
    drop(start(&disk, &spec).check().with(&torrent, [0, 2, 5]).synced().with(&torrent, [1, 3]));
    disk.cut_power();
    let launch = start(&disk, &spec).assert_found(&[0, 2, 5], &[]);
    let mut launch = launch.check().assert_have(&[0, 2, 5]);
    for index in [0, 2, 5] {
        assert!(launch.read(&torrent, index, 0, 16).is_ok());
    }
}

#[test]
fn own_file_survives_power_cut() {
    let (disk, torrent, spec) = setup();
    // Piece 2 is in both files, and only one of them is synced before the power cut.
    drop(start(&disk, &spec).check().with(&torrent, [2]));
    disk.write_back("t/a");
    disk.cut_power();
    start(&disk, &spec).check().assert_have(&[]).with(&torrent, [2]);
}

/// The power cut removes the record that the file is ours.
#[test]
fn unselected_file_stays_ours() {
    for seed_only in [false, true] {
        let (disk, torrent, spec) = setup();
        drop(start(&disk, &spec).check().with(&torrent, [3]));
        // Half of it reached the disk.
        disk.set_bytes("t/b", &noise(10_000, 99));
        disk.write_back("t/b");
        disk.cut_power();
        let only_a = some(&spec, &[true, false]);
        start(&disk, &OpenSpec { seed_only, ..only_a }).check().close();
        assert!(disk.bytes("t/b") == noise(10_000, 99), "it was not selected");
        start(&disk, &spec).check().with(&torrent, 0..torrent.pieces()).close();
        assert!(disk.bytes("t/b") == torrent.file_data(1));
    }
}

/// The power cut removes the record that the second file was created, under a numbered name.
#[test]
fn folded_file_is_ours_after_power_cut() {
    let (disk, torrent, spec) =
        setup_on(MemDisk::folding(), torrent(&[("A", 40_000), ("a", 80_000)], PIECE));
    start(&disk, &some(&spec, &[false, true])).check().with(&torrent, [1, 2, 3]).close();
    drop(start(&disk, &some(&spec, &[true, false])).check().with(&torrent, [0]));
    // Half of it reached the disk.
    disk.set_bytes("t/A~2", &noise(10_000, 99));
    disk.write_back("t/A~2");
    disk.cut_power();
    let mut launch = start(&disk, &spec).check();
    launch.commit_missing(&torrent);
    launch.close();
    assert!(disk.bytes("t/A~2") == torrent.file_data(0));
    assert!(disk.bytes("t/a") == torrent.file_data(1));
}

#[test]
fn disk_error_loses_no_unselected_file() {
    let (disk, torrent, spec) = setup();
    start(&disk, &spec).check().with(&torrent, [2, 3]).close();
    let only_a = some(&spec, &[true, false]);
    disk.fail("stat", "t/b", EIO, 1);
    let error = try_open_on(&disk, &only_a).err().unwrap();
    assert!(matches!(error, StoreError::Disk { operation: Operation::Stat, .. }), "{error}");
    assert_eq!(start(&disk, &only_a).check().have(), [2, 3]);
    disk.fail("stat", "t/b", EACCES, 1);
    assert_eq!(start(&disk, &only_a).check().have(), [0; 0], "it can't be used");
}

#[test]
fn verified_pieces_are_synced() {
    let (disk, torrent, spec) = setup();
    drop(start(&disk, &spec).check().with(&torrent, [0]));
    // Verified from the cache after a kill, then synced, then the power is cut.
    drop(start(&disk, &spec).check().synced());
    disk.cut_power();
    start(&disk, &spec).assert_found(&[0], &[]).check().assert_have(&[0]);
}

#[test]
fn unchanged_launch_keeps_journal() {
    let (disk, torrent, spec) = setup();
    start(&disk, &spec).check().with(&torrent, [0].into_iter().chain(2..torrent.pieces())).close();
    let journal = disk.bytes(".journal");
    disk.fail("open", ".journal.new", EIO, usize::MAX);
    start(&disk, &spec).check().close();
    assert_eq!(disk.bytes(".journal"), journal);
    // A new upload total is recorded, though.
    let launch = start(&disk, &spec).check();
    assert!(launch.store.close(7, 0, &[]).is_err());
    disk.heal();
    start(&disk, &spec).check().store.close(7, 0, &[]).unwrap();
    assert_eq!(start(&disk, &spec).opened.uploaded, 7);
}

#[test]
fn first_change_rewrites_journal() {
    let (disk, torrent, spec) = setup();
    let others: Vec<u32> = (0..torrent.pieces()).filter(|piece| *piece != 1).collect();
    start(&disk, &spec).check().with(&torrent, others.iter().copied()).close();
    drop(start(&disk, &spec).check().with(&torrent, [1]));
    start(&disk, &spec).assert_found(&others, &[1]).check().close();
    // If the journal can't be rewritten, nothing is written.
    let mut launch = start(&disk, &spec).check();
    disk.fail("open", ".journal.new", EIO, 1);
    let error = failure(launch.try_commit(&torrent, 1));
    assert!(matches!(error, StoreError::Disk { operation: Operation::Create, .. }), "{error}");
}

#[test]
fn failed_close_is_like_a_kill() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check().with(&torrent, [0]).synced().with(&torrent, [3]);
    disk.fail("sync", "t/b", EIO, 1);
    assert!(launch.store.close(0, 0, &[]).is_err());
    assert_eq!(launch.try_commit(&torrent, 1), CommitResult::Failed(StoreError::NotOpen));
    // The torrent is unlocked although the store still exists.
    start(&disk, &spec).assert_found(&[0], &[]);
}

#[test]
fn failed_read_is_no_bad_piece() {
    let (disk, torrent, spec) = setup();
    drop(start(&disk, &spec).check().with(&torrent, [0, 1, 2, 3]));
    disk.fail("read", "t/b", EIO, 1);
    let launch = start(&disk, &spec);
    let (good, error) = launch.verify(0..4);
    // Piece 2 can't be read. The pieces hashed beside it are not lost.
    assert_eq!(good, [0, 1, 3]);
    assert!(matches!(error, Some(StoreError::Disk { operation: Operation::Read, .. })));
    assert_eq!(launch.verify(2..4), (vec![2, 3], None));
}

#[test]
fn long_journal_is_rewritten() {
    let (disk, torrent, spec) = setup();
    let mut launch = start(&disk, &spec).check().with(&torrent, 1..torrent.pieces()).synced();
    while disk.bytes(".journal").len() < 70_000 {
        // Verified again, recorded again.
        launch.verify(1..2);
    }
    launch.commit(&torrent, [0]);
    launch.store.sync().unwrap();
    let length = disk.bytes(".journal").len();
    assert!(length < 1000, "{length}");
    launch.close();
    assert!(start(&disk, &spec).opened.have.is_full());
}
