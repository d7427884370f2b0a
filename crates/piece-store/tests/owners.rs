//! Files that more than one torrent wants: one writer, any number of readers.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::{CommitResult, Disk, OpenSpec, SharedDisk, Store, StoreError, Unrelated};

const PIECE: u32 = 16_384;
const LENGTH: usize = 4 * PIECE as usize;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

/// Two torrents with one path and nothing else in common.
fn rivals() -> (Torrent, Torrent) {
    let files = [("a", LENGTH)];
    (torrent_with(&files, PIECE, 1), torrent_with(&files, PIECE, 2))
}

/// Two torrents with one path whose first two pieces are the same.
fn editions() -> (Torrent, Torrent) {
    let (first, second) = rivals();
    let half = LENGTH / 2;
    let data = [&first.data[..half], &second.data[half..]].concat();
    let second = torrent_of(&[("a", LENGTH)], PIECE, data);
    (first, second)
}

/// Every kind of pair.
fn pairs() -> [(Torrent, Torrent); 2] {
    [rivals(), editions()]
}

/// Checks the error of a torrent that was refused because of `first`. Returns the owner in it.
#[track_caller]
fn assert_claimed(error: Option<StoreError>, first: &Torrent) -> String {
    let Some(StoreError::Claimed { path, by, .. }) = error else { panic!("{error:?}") };
    assert!(path.ends_with("t/a"), "{path:?}");
    assert!(by.contains(&first.metainfo.info_hash().to_string()), "{by}");
    by
}

/// Checks that a torrent is refused because of `first`, which keeps its bytes.
#[track_caller]
fn assert_refused<D: Disk>(site: &Site<D>, spec: &OpenSpec, first: &Torrent) -> String {
    let before = site.bytes("t/a");
    let by = assert_claimed(site.open(spec).try_check().err(), first);
    assert!(site.bytes("t/a") == before, "written to");
    // A second try is refused too.
    assert_claimed(site.open(spec).try_check().err(), first);
    assert!(site.bytes("t/a") == before, "written to by the second try");
    by
}

/// A launch of `torrent` that has these pieces, durable.
#[track_caller]
fn launch_with<D: Disk>(site: &Site<D>, torrent: &Torrent, pieces: &[u32]) -> Launch<D> {
    let mut launch = site.open(&site.spec(torrent)).check();
    launch.commit(torrent, pieces.iter().copied());
    launch.store.sync().unwrap();
    launch
}

fn refused_while_open<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    let mut launch = launch_with(site, first, &[0]);
    let by = assert_refused(site, &site.spec(second), first);
    assert!(by.contains("in use"), "{by}");
    launch.commit(first, 1..4);
    launch.close();
    assert!(site.bytes("t/a").unwrap() == first.data);
}

#[test]
fn open_file_refuses_second_torrent() {
    for pair in pairs() {
        refused_while_open(&in_memory(MemDisk::forgetful()), &pair);
        refused_while_open(&on_disk(), &pair);
    }
}

#[test]
fn evicted_file_refuses_second_torrent() {
    for (first, second) in pairs() {
        let site = in_memory(MemDisk::forgetful());
        let shared = Arc::new(SharedDisk::new(Arc::clone(&site.disk)));
        let open = |torrent| Store::open(Arc::clone(&shared), &site.spec(torrent)).unwrap();
        let (store, _) = open(&first);
        store.finish_check().unwrap();
        let result = store.commit(first.piece(0), 0, &mut first.spans(0), None, false, &mut [0]);
        assert_eq!(result, CommitResult::Verified { digests: None });
        store.sync().unwrap();
        // The table closes idle files, among them that of the first torrent.
        site.disk.fail("open", "t/a", EMFILE, 1);
        let (store, opened) = open(&second);
        let mut scratch = vec![0; piece_store::STRIP_LENGTH];
        for range in opened.to_verify {
            store.verify(range, &mut scratch);
        }
        assert_claimed(store.finish_check().err(), &first);
    }
}

/// Many files push the first one out of the table of open ones.
#[test]
fn many_open_files_keep_their_claims() {
    let names: Vec<String> = (0..400).map(|number| format!("{number}")).collect();
    let mut files = vec![("a", LENGTH)];
    files.extend(names.iter().map(|name| (name.as_str(), PIECE as usize)));
    let (first, second) = (torrent(&files, PIECE), editions().0);
    let site = on_disk();
    let mut launch = launch_with(&site, &first, &[1, 2, 3]);
    launch.commit(&first, 4..first.pieces());
    let file = std::fs::File::open(site.save.join("t/a")).unwrap();
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, lock).expect("it was closed");
    drop(file);
    let by = assert_refused(&site, &site.spec(&second), &first);
    assert!(by.contains("in use"), "{by}");
}

fn refused_after_a_kill<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    drop(launch_with(site, first, &[0]));
    let by = assert_refused(site, &site.spec(second), first);
    assert!(!by.contains("in use"), "{by}");
    let launch = site.open(&site.spec(first)).check();
    assert_eq!(launch.have(), [0]);
}

#[test]
fn claim_outlives_a_kill() {
    for pair in pairs() {
        refused_after_a_kill(&in_memory(MemDisk::forgetful()), &pair);
        refused_after_a_kill(&on_disk(), &pair);
    }
}

#[test]
fn killed_process_keeps_its_claim() {
    for (first, second) in pairs() {
        let site = in_memory(MemDisk::forgetful());
        let launch = launch_with(&site, &first, &[0]);
        site.disk.kill();
        assert_refused(&site, &site.spec(&second), &first);
        std::mem::forget(launch);
    }
}

fn refused_after_shutdown<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    launch_with(site, first, &[0]).close();
    assert_refused(site, &site.spec(second), first);
    let mut launch = site.open(&site.spec(first));
    assert_eq!(
        (numbers(&launch.opened.have), launch.to_verify()),
        (vec![0], vec![]),
        "trusted still"
    );
    launch = launch.check();
    launch.commit(first, 1..4);
    launch.close();
    assert!(site.bytes("t/a").unwrap() == first.data);
}

#[test]
fn claim_outlives_a_clean_shutdown() {
    for pair in pairs() {
        refused_after_shutdown(&in_memory(MemDisk::forgetful()), &pair);
        refused_after_shutdown(&on_disk(), &pair);
    }
}

fn refused_preallocated<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    let spec = OpenSpec { preallocate: true, ..site.spec(first) };
    site.open(&spec).check().close();
    assert_eq!(site.bytes("t/a").unwrap(), [0; LENGTH]);
    for preallocate in [false, true] {
        let spec = OpenSpec { preallocate, ..site.spec(second) };
        assert_refused(site, &spec, first);
    }
}

#[test]
fn preallocated_file_refuses_second_torrent() {
    for pair in pairs() {
        refused_preallocated(&in_memory(MemDisk::forgetful()), &pair);
        refused_preallocated(&on_disk(), &pair);
    }
}

fn refused_empty<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    launch_with(site, first, &[0]).close();
    // Another program emptied it. The inode is the same.
    site.write("t/a", b"");
    assert_refused(site, &site.spec(second), first);
}

#[test]
fn emptied_file_refuses_second_torrent() {
    for pair in pairs() {
        refused_empty(&in_memory(MemDisk::forgetful()), &pair);
        refused_empty(&on_disk(), &pair);
    }
}

fn file_without_bytes_is_shared<D: Disk>(site: &Site<D>) {
    let files = [("a", LENGTH), ("empty", 0)];
    let (first, second) =
        (torrent_with(&files, PIECE, 1), torrent(&[("b", LENGTH), ("empty", 0)], PIECE));
    let _run = launch_with(site, &first, &[0]);
    assert_eq!(site.bytes("t/empty"), Some(Vec::new()));
    let mut launch = site.open(&site.spec(&second)).check();
    launch.commit(&second, 0..4);
    launch.close();
}

#[test]
fn empty_file_serves_both_torrents() {
    file_without_bytes_is_shared(&in_memory(MemDisk::forgetful()));
    file_without_bytes_is_shared(&on_disk());
}

fn created_by_one<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    // Both were opened before either created the file.
    let mut one = site.open(&site.spec(first)).check();
    let mut two = site.open(&site.spec(second)).check();
    one.commit(first, [0]);
    let before = site.bytes("t/a");
    let CommitResult::Failed(error) = two.try_commit(second, 3) else { panic!("it wrote") };
    assert_claimed(Some(error), first);
    assert!(site.bytes("t/a") == before);
    one.commit(first, 1..4);
    one.close();
    assert!(site.bytes("t/a").unwrap() == first.data);
}

/// The second torrent adopts the file between its creation and the record of that.
#[test]
fn created_file_is_adopted_by_one() {
    for (first, second) in pairs() {
        for disk in [MemDisk::forgetful(), MemDisk::lockless()] {
            let site = in_memory(disk);
            let mut launch = site.open(&site.spec(&first)).check();
            let (disk, spec) = (Arc::clone(&site.disk), site.spec(&second));
            site.disk.in_next_lock(move || std::mem::forget(start(&disk, &spec).check()));
            let CommitResult::Failed(error) = launch.try_commit(&first, 0) else {
                panic!("it wrote")
            };
            assert_claimed(Some(error), &second);
            std::mem::forget(launch);
            site.disk.kill();
            let mut launch = site.open(&site.spec(&second)).check();
            launch.commit(&second, 0..4);
            launch.close();
            assert!(site.bytes("t/a").unwrap() == second.data);
        }
    }
}

#[test]
fn unreadable_journal_may_claim_anything() {
    for (first, second) in pairs() {
        let site = in_memory(MemDisk::lockless());
        drop(launch_with(&site, &first, &[0]));
        let files = site.disk.files();
        let journal =
            files.iter().find(|(path, ..)| path.extension().is_some_and(|e| e == "journal"));
        let journal = journal.map(|(path, ..)| path.to_string_lossy()).unwrap();
        // The file was written under another name.
        for (operation, path) in [("open", journal.to_string()), ("read", format!("{journal}.new"))]
        {
            site.disk.fail(operation, &path, EIO, 1);
            let error = site.open(&site.spec(&second)).try_check().err();
            let Some(StoreError::Disk { path, .. }) = &error else { panic!("{error:?}") };
            assert_eq!(path.to_string_lossy(), journal);
        }
        assert_refused(&site, &site.spec(&second), &first);
    }
}

#[test]
fn unreachable_path_may_be_claimed() {
    for (first, second) in pairs() {
        let site = in_memory(MemDisk::lockless());
        drop(launch_with(&site, &first, &[0]));
        let launch = site.open(&site.spec(&second));
        verify_all(&launch);
        // The first stat is that of its own file, the second that of the claimed path.
        site.disk.fail_later("stat", "t/a", EIO, 1);
        let error = launch.store.finish_check().err();
        assert!(matches!(error, Some(StoreError::Disk { .. })), "{error:?}");
        drop(launch);
        site.disk.heal();
        assert_refused(&site, &site.spec(&second), &first);
    }
}

/// The first torrent's file was complete from the start, so it has no claim to write it.
fn reader_keeps_its_bytes<D: Disk>(site: &Site<D>, killed: bool) {
    let (first, second) = editions();
    site.write("t/a", &first.data);
    let launch = site.open(&site.spec(&first)).check();
    assert_eq!(launch.have().len(), 4);
    launch.store.sync().unwrap();
    assert_refused(site, &site.spec(&second), &first);
    if killed {
        drop(launch);
    } else {
        launch.close();
    }
    let mut launch = site.open(&site.spec(&second)).check();
    launch.commit(&second, 2..4);
    launch.close();
    let opened = site.open(&site.spec(&first));
    assert!(!opened.opened.have.iter().any(|piece| piece >= 2), "they are trusted");
    verify_all(&opened);
    assert_eq!(opened.have(), [0, 1]);
}

#[test]
fn file_in_use_is_not_written_by_others() {
    for killed in [false, true] {
        reader_keeps_its_bytes(&in_memory(MemDisk::forgetful()), killed);
        reader_keeps_its_bytes(&on_disk(), killed);
    }
}

#[test]
fn replaced_file_is_not_adopted() {
    let (first, second) = rivals();
    let site = in_memory(MemDisk::forgetful());
    site.write("t/a", &first.data);
    let mut launch = site.open(&site.spec(&first)).check();
    site.disk.fail("sync", "t/a", EIO, 1);
    assert!(launch.store.sync().is_err());
    site.write("t/new", &second.data);
    site.rename("t/new", "t/a");
    let result = launch.try_commit(&first, 0);
    assert!(matches!(result, CommitResult::Failed(StoreError::Disk { .. })), "{result:?}");
    assert!(site.bytes("t/a").unwrap() == second.data);
}

#[test]
fn missing_file_is_created_by_one() {
    for pair in pairs() {
        created_by_one(&in_memory(MemDisk::forgetful()), &pair);
        created_by_one(&on_disk(), &pair);
    }
}

fn refused_by_link<D: Disk>(site: &Site<D>, first: &Torrent, second: &Torrent, other: &Path) {
    let spec = second.with_state(other, &site.state);
    let before = site.bytes("t/a");
    assert_claimed(site.open(&spec).try_check().err(), first);
    assert!(site.bytes("t/a") == before);
}

#[test]
fn hard_link_elsewhere_is_claimed() {
    for (first, second) in pairs() {
        let site = on_disk();
        let launch = launch_with(&site, &first, &[0]);
        let other = site.save.with_file_name("other");
        std::fs::create_dir_all(other.join("t")).unwrap();
        std::fs::hard_link(site.save.join("t/a"), other.join("t/a")).unwrap();
        refused_by_link(&site, &first, &second, &other);
        launch.close();
        refused_by_link(&site, &first, &second, &other);
    }
}

fn overwrite_while_in_use<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    let mut launch = launch_with(site, first, &[0]);
    let spec = OpenSpec { overwrite: true, ..site.spec(second) };
    let by = assert_refused(site, &spec, first);
    assert!(by.contains("in use"), "{by}");
    launch.commit(first, 1..4);
    launch.close();
    assert!(site.bytes("t/a").unwrap() == first.data);
}

#[test]
fn overwrite_is_refused_while_in_use() {
    for pair in pairs() {
        overwrite_while_in_use(&in_memory(MemDisk::forgetful()), &pair);
        overwrite_while_in_use(&on_disk(), &pair);
    }
}

fn overwrite_later<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent), clean: bool) {
    let launch = launch_with(site, first, &[0, 1]);
    if clean {
        launch.close();
    } else {
        drop(launch);
    }
    let spec = OpenSpec { overwrite: true, ..site.spec(second) };
    let mut launch = site.open(&spec).check();
    let missing: Vec<u32> = (0..4).filter(|piece| !launch.have().contains(piece)).collect();
    launch.commit(second, missing);
    launch.store.sync().unwrap();
    launch.close();
    assert!(site.bytes("t/a").unwrap() == second.data);
    let launch = site.open(&site.spec(first));
    assert!(launch.opened.have.is_empty(), "trusted: {:?}", launch.opened.have);
    assert!(launch.try_check().is_err(), "it would write to the file of the second");
    assert!(site.bytes("t/a").unwrap() == second.data);
    assert!(site.open(&spec).opened.have.is_full());
}

#[test]
fn overwrite_replaces_an_idle_file() {
    for pair in pairs() {
        for clean in [false, true] {
            overwrite_later(&in_memory(MemDisk::with_births()), &pair, clean);
            overwrite_later(&on_disk(), &pair, clean);
        }
    }
}

/// The second torrent's file has a new inode, so that a hard link of the user keeps the old bytes.
#[test]
fn overwrite_leaves_other_hard_links() {
    let (first, second) = editions();
    let site = on_disk();
    launch_with(&site, &first, &[0, 1]).close();
    let link = site.save.join("link");
    std::fs::hard_link(site.save.join("t/a"), &link).unwrap();
    let before = std::fs::read(&link).unwrap();
    let spec = OpenSpec { overwrite: true, ..site.spec(&second) };
    let mut launch = site.open(&spec).check();
    launch.commit(&second, [2, 3]);
    launch.close();
    assert!(std::fs::read(link).unwrap() == before);
}

/// Two torrents with the same file and other pieces.
fn cross_seeds() -> (Torrent, Torrent) {
    let files = [("a", LENGTH)];
    let first = torrent(&files, PIECE);
    let second = torrent_of(&files, 2 * PIECE, first.data.clone());
    (first, second)
}

fn complete_is_shared<D: Disk>(site: &Site<D>) {
    let (first, second) = cross_seeds();
    let one = launch_with(site, &first, &[0, 1, 2, 3]);
    for seed_only in [false, true] {
        let spec = OpenSpec { seed_only, ..site.spec(&second) };
        let two = site.open(&spec).check();
        assert_eq!(two.have(), [0, 1]);
        two.close();
        let mut two = site.open(&spec);
        assert_eq!((two.to_verify(), two.have()), (vec![], vec![0, 1]), "trusted");
        two = two.check();
        assert!(two.read(&second, 1, 0, 10).is_ok());
        let third = torrent_of(&[("a", LENGTH)], 4 * PIECE, first.data.clone());
        assert_eq!(site.open(&site.spec(&third)).check().have(), [0]);
        two.close();
    }
    one.close();
    assert!(site.open(&site.spec(&first)).opened.have.is_full());
}

#[test]
fn complete_file_serves_any_number() {
    complete_is_shared(&in_memory(MemDisk::forgetful()));
    complete_is_shared(&on_disk());
}

fn complete_beside_missing<D: Disk>(site: &Site<D>) {
    let first = torrent(&[("a", LENGTH)], PIECE);
    let data = [first.data.clone(), noise(LENGTH, 9)].concat();
    let second = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, data);
    let one = launch_with(site, &first, &[0, 1, 2, 3]);
    let mut two = site.open(&site.spec(&second)).check();
    assert_eq!(two.have(), [0, 1, 2, 3]);
    two.commit(&second, 4..8);
    two.close();
    one.close();
    for torrent in [&first, &second] {
        assert!(site.open(&site.spec(torrent)).opened.have.is_full());
    }
}

#[test]
fn complete_file_beside_a_missing_one() {
    complete_beside_missing(&in_memory(MemDisk::forgetful()));
    complete_beside_missing(&on_disk());
}

/// A piece of a shared file is bad. The torrent that only reads the file must not repair it.
fn reader_may_not_repair<D: Disk>(site: &Site<D>) {
    let (first, second) = cross_seeds();
    launch_with(site, &first, &[0, 1, 2, 3]).close();
    site.open(&site.spec(&second)).check().close();
    let mut bytes = first.data.clone();
    bytes[0] ^= 1;
    site.write("t/a", &bytes);
    let spec = OpenSpec { resume: false, ..site.spec(&second) };
    assert_refused(site, &spec, &first);
    let mut launch = site.open(&OpenSpec { resume: false, ..site.spec(&first) }).check();
    assert_eq!(launch.have(), [1, 2, 3]);
    launch.commit(&first, [0]);
    launch.close();
}

#[test]
fn shared_file_is_repaired_by_owner() {
    reader_may_not_repair(&in_memory(MemDisk::forgetful()));
    reader_may_not_repair(&on_disk());
}

fn journal_removed<D: Disk>(site: &Site<D>) {
    let (first, second) = editions();
    launch_with(site, &first, &[0, 1]).close();
    site.remove_journals();
    let mut launch = site.open(&site.spec(&second)).check();
    assert_eq!(launch.have(), [0, 1]);
    launch.commit(&second, [2, 3]);
    launch.close();
    // The claim is the second's now.
    assert_refused(site, &site.spec(&first), &second);
}

#[test]
fn claim_ends_with_its_journal() {
    journal_removed(&in_memory(MemDisk::forgetful()));
    journal_removed(&on_disk());
}

fn file_moved_away<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    launch_with(site, first, &[0, 1]).close();
    site.rename("t/a", "away");
    let mut launch = site.open(&site.spec(second)).check();
    assert_eq!(launch.have(), [0; 0]);
    launch.commit(second, 0..4);
    launch.close();
    assert!(site.bytes("t/a").unwrap() == second.data);
}

#[test]
fn claim_ends_when_file_moves_away() {
    for pair in pairs() {
        file_moved_away(&in_memory(MemDisk::forgetful()), &pair);
        file_moved_away(&on_disk(), &pair);
    }
}

/// A file that was moved away has no claim any more, under any name.
fn moved_file_is_adopted<D: Disk>(site: &Site<D>) {
    let (first, _) = editions();
    let second = torrent_of(&[("b", LENGTH)], 2 * PIECE, first.data.clone());
    launch_with(site, &first, &[0, 1]).close();
    site.rename("t/a", "t/b");
    let mut launch = site.open(&site.spec(&second)).check();
    assert_eq!(launch.have(), [0]);
    launch.commit(&second, [1]);
    launch.close();
    assert!(site.bytes("t/b").unwrap() == second.data);
}

#[test]
fn moved_file_may_be_adopted() {
    moved_file_is_adopted(&in_memory(MemDisk::forgetful()));
    moved_file_is_adopted(&on_disk());
}

fn file_replaced<D: Disk>(site: &Site<D>) {
    let (first, second) = editions();
    launch_with(site, &first, &[0, 1]).close();
    site.write("copy", &site.bytes("t/a").unwrap());
    site.rename("copy", "t/a");
    let mut launch = site.open(&site.spec(&second)).check();
    assert_eq!(launch.have(), [0, 1]);
    launch.commit(&second, [2, 3]);
    launch.close();
}

#[test]
fn claim_ends_when_file_is_replaced() {
    file_replaced(&in_memory(MemDisk::forgetful()));
    file_replaced(&on_disk());
}

/// A torrent that is refused because of one file has no claim on the others.
fn refusal_adopts_nothing<D: Disk>(site: &Site<D>) {
    let files = [("a", LENGTH), ("b", LENGTH)];
    let first = torrent(&files, PIECE);
    let half = LENGTH / 2;
    let mut data = noise(2 * LENGTH, 7);
    data[..half].copy_from_slice(&first.data[..half]);
    data[LENGTH..LENGTH + half].copy_from_slice(&first.data[LENGTH..LENGTH + half]);
    let second = torrent_of(&files, PIECE, data);
    launch_with(site, &first, &[0, 4]).close();
    let before = site.bytes("t/b");
    assert_refused(site, &site.spec(&second), &first);
    let only_b = some(&site.spec(&second), &[false, true]);
    let mut launch = match site.open(&only_b).try_check() {
        Ok(launch) => launch,
        Err(StoreError::Claimed { path, .. }) => return assert!(path.ends_with("t/b")),
        Err(error) => panic!("{error}"),
    };
    let result = launch.try_commit(&second, 7);
    assert!(site.bytes("t/b") == before, "{result:?}");
}

#[test]
fn refusal_claims_no_other_file() {
    refusal_adopts_nothing(&in_memory(MemDisk::forgetful()));
    refusal_adopts_nothing(&on_disk());
}

/// A file that could be adopted stays free if another one refuses the launch.
fn refusal_frees_adopted<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    launch_with(site, first, &[0, 1]).close();
    // b is the user's own.
    let data = [second.data.clone(), noise(LENGTH, 5)].concat();
    let second = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, data);
    site.write("t/b", &users_file());
    let before = site.bytes("t/a");
    assert!(site.open(&site.spec(&second)).try_check().is_err());
    site.rename("t/b", "away");
    assert_refused(site, &site.spec(&second), first);
    assert!(site.bytes("t/a") == before);
}

#[test]
fn refusal_by_unrelated_file_claims_nothing() {
    let pair = editions();
    refusal_frees_adopted(&in_memory(MemDisk::forgetful()), &pair);
    refusal_frees_adopted(&on_disk(), &pair);
}

/// The pieces that a refused launch has verified are found again once the claim has ended.
fn refusal_costs_no_piece<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    launch_with(site, first, &[0, 1]).close();
    let launch = site.open(&site.spec(second));
    verify_all(&launch);
    assert_claimed(launch.store.finish_check().err(), first);
    launch.close();
    // The user ends the claim.
    remove_journal_of(site, first);
    let mut launch = site.open(&site.spec(second)).check();
    assert_eq!(launch.have(), [0, 1]);
    launch.commit(second, [2, 3]);
    launch.close();
}

fn remove_journal_of<D: Disk>(site: &Site<D>, torrent: &Torrent) {
    let (folder, _) = site.disk.folder(&site.state, false).unwrap();
    let start = torrent.metainfo.info_hash().to_string();
    let names = site.disk.list(&folder).unwrap();
    let name = names.into_iter().find(|name| {
        let text = name.to_string_lossy();
        text.starts_with(&start) && text.ends_with(".journal")
    });
    site.disk.remove(&folder, &name.unwrap()).unwrap();
}

#[test]
fn refusal_costs_no_good_piece() {
    let pair = editions();
    refusal_costs_no_piece(&in_memory(MemDisk::forgetful()), &pair);
    refusal_costs_no_piece(&on_disk(), &pair);
}

/// A launch that is refused because of one file replaces no other, also with `overwrite`.
fn refusal_replaces_nothing<D: Disk>(site: &Site<D>) {
    let files = [("a", LENGTH), ("b", LENGTH)];
    let first = torrent(&[("a", LENGTH)], PIECE);
    let third = torrent_with(&[("b", LENGTH)], PIECE, 3);
    let second = torrent_with(&files, PIECE, 2);
    launch_with(site, &first, &[0]).close();
    // It is complete and only read, so that it is not locked.
    launch_with(site, &third, &[0, 1, 2, 3]).close();
    let _run = site.open(&site.spec(&third)).check();
    let before = (site.bytes("t/a"), site.bytes("t/b"));
    let spec = OpenSpec { overwrite: true, ..site.spec(&second) };
    let error = site.open(&spec).try_check().err();
    assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
    assert!((site.bytes("t/a"), site.bytes("t/b")) == before);
}

#[test]
fn refusal_replaces_no_other_file() {
    refusal_replaces_nothing(&in_memory(MemDisk::forgetful()));
    refusal_replaces_nothing(&on_disk());
}

/// An unselected file of the second torrent stays the first's, whether that is in use or not.
fn unselected_is_left<D: Disk>(site: &Site<D>, in_use: bool) {
    let first = torrent(&[("a", LENGTH)], PIECE);
    let data = [&first.data[..LENGTH - 100], &noise(LENGTH + 100, 3)].concat();
    let second = torrent_of(&[("a", LENGTH - 100), ("b", LENGTH + 100)], PIECE, data);
    let one = launch_with(site, &first, &[0]);
    let one = match in_use {
        true => Some(one),
        false => {
            one.close();
            None
        }
    };
    let before = site.bytes("t/a");
    let mut two = site.open(&some(&site.spec(&second), &[false, true])).check();
    two.commit(&second, 3..8);
    two.store.sync().unwrap();
    assert!(site.bytes("t/a") == before);
    let mut one = one.unwrap_or_else(|| site.open(&site.spec(&first)).check());
    one.commit(&first, 1..4);
    one.close();
    two.close();
    assert!(site.bytes("t/b").unwrap() == second.file_data(1));
}

#[test]
fn unselected_claimed_file_is_untouched() {
    for in_use in [true, false] {
        unselected_is_left(&in_memory(MemDisk::forgetful()), in_use);
        unselected_is_left(&on_disk(), in_use);
    }
}

fn users_file() -> Vec<u8> {
    noise(LENGTH, 77)
}

/// The file system gave the number of our removed file to the user's own file.
#[test]
fn reused_inode_is_not_ours() {
    for clean in [false, true] {
        let (torrent, site) = (rivals().0, in_memory(MemDisk::with_births()));
        let launch = launch_with(&site, &torrent, &[0, 1, 2, 3]);
        if clean {
            launch.close();
        } else {
            drop(launch);
        }
        let (inode, files) = (site.disk.inode("t/a"), site.disk.files());
        let (_, stat, _) = files.iter().find(|(path, ..)| path.ends_with("t/a")).unwrap();
        site.rename("t/a", "away");
        let modified = stat.modified.0;
        site.disk.put_as(&site.save.join("t/a"), inode, modified, &users_file());
        let launch = site.open(&site.spec(&torrent));
        assert!(launch.opened.have.is_empty(), "clean {clean}: trusted");
        let error = launch.try_check().err();
        assert!(
            matches!(error, Some(StoreError::UnrelatedFile { .. })),
            "clean {clean}: {error:?}"
        );
        assert!(site.bytes("t/a").unwrap() == users_file());
    }
}

#[test]
fn reused_inode_is_not_claimed() {
    let ((first, second), site) = (editions(), in_memory(MemDisk::with_births()));
    launch_with(&site, &first, &[0, 1]).close();
    let (inode, bytes) = (site.disk.inode("t/a"), site.bytes("t/a").unwrap());
    site.rename("t/a", "away");
    site.disk.put_as(&site.save.join("t/a"), inode, 1, &bytes);
    let mut launch = site.open(&site.spec(&second)).check();
    launch.commit(&second, [2, 3]);
    launch.close();
}

/// Where file ids are not stable, only the path says who owns a file.
#[test]
fn unstable_ids_are_claimed_by_path() {
    for (first, second) in pairs() {
        let site = in_memory(MemDisk::renumbering());
        launch_with(&site, &first, &[0]).close();
        site.disk.forget_inodes();
        assert_refused(&site, &site.spec(&second), &first);
        site.disk.forget_inodes();
        let mut launch = site.open(&site.spec(&first)).check();
        assert_eq!(launch.have(), [0]);
        launch.commit(&first, 1..4);
        launch.close();
    }
}

fn lock_alone<D: Disk>(site: &Site<D>, (first, second): &(Torrent, Torrent)) {
    let mut one = site.open(&first.spec(&site.save)).check();
    one.commit(first, [0, 1]);
    let before = site.bytes("t/a");
    let error = site.open(&second.spec(&site.save)).try_check().err();
    let refused =
        matches!(&error, Some(StoreError::Claimed { .. } | StoreError::UnrelatedFile { .. }));
    assert!(refused, "{error:?}");
    assert!(site.bytes("t/a") == before);
    one.commit(first, [2, 3]);
    one.close();
}

#[test]
fn lock_refuses_writer_without_state() {
    for pair in pairs() {
        lock_alone(&in_memory(MemDisk::forgetful()), &pair);
        lock_alone(&on_disk(), &pair);
    }
    // The lock refuses the file that the second torrent could adopt.
    let (site, (first, second)) = (on_disk(), editions());
    let mut one = site.open(&first.spec(&site.save)).check();
    one.commit(&first, [0, 1]);
    let error = site.open(&second.spec(&site.save)).try_check().err();
    assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
}

fn created_by_one_without_state<D: Disk>(site: &Site<D>) {
    let (first, second) = rivals();
    let mut one = site.open(&first.spec(&site.save)).check();
    let mut two = site.open(&second.spec(&site.save)).check();
    one.commit(&first, [0, 1]);
    let result = two.try_commit(&second, 3);
    assert!(matches!(result, CommitResult::Failed(_)), "{result:?}");
    one.commit(&first, [2, 3]);
    one.close();
    assert!(site.bytes("t/a").unwrap() == first.data);
}

#[test]
fn without_state_one_creates_the_file() {
    created_by_one_without_state(&in_memory(MemDisk::forgetful()));
    created_by_one_without_state(&on_disk());
}

#[test]
fn file_locked_elsewhere_is_refused() {
    for with_state in [false, true] {
        let (torrent, site) = (rivals().0, on_disk());
        site.write("t/a", &torrent.data[..LENGTH / 2]);
        let file = std::fs::File::open(site.save.join("t/a")).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let spec = if with_state { site.spec(&torrent) } else { torrent.spec(&site.save) };
        let error = site.open(&spec).try_check().err();
        assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
        assert!(site.bytes("t/a").unwrap() == torrent.data[..LENGTH / 2]);
        drop(file);
        let mut launch = site.open(&spec).check();
        launch.commit(&torrent, [2, 3]);
        launch.close();
        assert!(site.bytes("t/a").unwrap() == torrent.data);
    }
}

/// A complete file that another program has locked is only read.
#[test]
fn locked_complete_file_is_served() {
    let (torrent, site) = (rivals().0, on_disk());
    torrent.write(&site.save);
    let file = std::fs::File::open(site.save.join("t/a")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let launch = site.open(&site.spec(&torrent)).check();
    assert_eq!(launch.have(), [0, 1, 2, 3]);
    launch.close();
}

#[test]
fn replaced_file_is_verified_after_shutdown() {
    let (torrent, site) = (rivals().0, on_disk());
    launch_with(&site, &torrent, &[0, 1, 2, 3]).close();
    let path = site.save.join("t/a");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = torrent.data.clone();
    bytes[0] ^= 1;
    site.write("copy", &bytes);
    let copy = std::fs::File::options().write(true).open(site.save.join("copy")).unwrap();
    copy.set_modified(modified).unwrap();
    site.rename("copy", "t/a");
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
    let launch = site.open(&site.spec(&torrent));
    assert_eq!((numbers(&launch.opened.have), launch.to_verify()), (vec![], vec![0, 1, 2, 3]));
    assert_eq!(launch.check().have(), [1, 2, 3]);
}

// ---- Overwriting files that are too long ----

/// A selected file `a` and an unselected `b`, each with a tail.
fn long_files<D: Disk>(site: &Site<D>, torrent: &Torrent, good: bool) {
    for (index, path) in ["t/a", "t/b"].into_iter().enumerate() {
        let mut bytes = torrent.file_data(index).to_vec();
        if !good {
            bytes = noise(bytes.len(), 55);
        }
        bytes.extend(b"the tail");
        site.write(path, &bytes);
    }
}

fn two_files() -> Torrent {
    torrent(&[("a", LENGTH - 1000), ("b", LENGTH)], PIECE)
}

fn cut_by_overwrite<D: Disk>(site: &Site<D>, good: bool) {
    let torrent = two_files();
    long_files(site, &torrent, good);
    let unselected = site.bytes("t/b");
    let spec = OpenSpec { overwrite: true, ..some(&site.spec(&torrent), &[true, false]) };
    let mut launch = site.open(&spec).check();
    assert_eq!(site.bytes("t/a").unwrap().len(), LENGTH - 1000);
    for piece in 0..4 {
        if !launch.have().contains(&piece) {
            launch.commit(&torrent, [piece]);
        }
    }
    launch.close();
    assert!(site.bytes("t/a").unwrap() == torrent.file_data(0));
    assert!(site.bytes("t/b") == unselected, "an unselected file was changed");
    let launch = site.open(&spec);
    assert_eq!(numbers(&launch.opened.have), [0, 1, 2, 3]);
}

#[test]
fn overwrite_cuts_selected_files_only() {
    for good in [true, false] {
        cut_by_overwrite(&in_memory(MemDisk::forgetful()), good);
        cut_by_overwrite(&on_disk(), good);
    }
}

fn long_is_refused<D: Disk>(site: &Site<D>, good: bool) {
    let torrent = two_files();
    long_files(site, &torrent, good);
    let before = (site.bytes("t/a"), site.bytes("t/b"));
    let expected = (LENGTH - 1000) as u64;
    for _ in 0..2 {
        let Err(StoreError::UnrelatedFile { path, reason }) =
            site.open(&site.spec(&torrent)).try_check()
        else {
            panic!("it is too long");
        };
        assert!(path.ends_with("t/a"));
        assert_eq!(reason, Unrelated::TooLong { expected, got: expected + 8 });
        assert!((site.bytes("t/a"), site.bytes("t/b")) == before);
    }
}

#[test]
fn long_file_without_overwrite_is_refused() {
    for good in [true, false] {
        long_is_refused(&in_memory(MemDisk::forgetful()), good);
        long_is_refused(&on_disk(), good);
    }
}

/// The length is on the disk before anything relies on it.
#[test]
fn cut_survives_a_power_cut() {
    for good in [true, false] {
        let (torrent, site) = (two_files(), in_memory(MemDisk::forgetful()));
        long_files(&site, &torrent, good);
        let spec = OpenSpec { overwrite: true, ..some(&site.spec(&torrent), &[true, false]) };
        drop(site.open(&spec).check());
        site.disk.cut_power();
        assert_eq!(site.bytes("t/a").unwrap().len(), LENGTH - 1000);
        let mut launch = site.open(&site.spec(&torrent)).try_check();
        if launch.is_err() {
            // b is still too long.
            launch = site.open(&some(&site.spec(&torrent), &[true, false])).try_check();
        }
        let mut launch = launch.unwrap();
        for piece in 0..4 {
            if !launch.have().contains(&piece) {
                launch.commit(&torrent, [piece]);
            }
        }
        launch.close();
        assert!(site.bytes("t/a").unwrap() == torrent.file_data(0));
    }
}

/// The process ends at each step of the check.
#[test]
fn kill_around_the_cut_loses_nothing() {
    let torrent = torrent(&[("a", LENGTH)], PIECE);
    for step in 0..3 {
        let site = in_memory(MemDisk::forgetful());
        let long = [&torrent.data[..], b"the tail"].concat();
        site.write("t/a", &long);
        let spec = OpenSpec { overwrite: true, ..site.spec(&torrent) };
        let launch = site.open(&spec);
        match step {
            0 => {}
            1 => verify_all(&launch),
            // The sync of the cut file fails, so that its length on the disk is unknown.
            _ => {
                verify_all(&launch);
                site.disk.fail("sync", "t/a", 5, 1);
                assert!(launch.store.finish_check().is_err());
            }
        }
        drop(launch);
        site.disk.cut_power();
        let launch = site.open(&spec).check();
        assert_eq!(launch.have(), [0, 1, 2, 3], "step {step}");
        assert!(site.bytes("t/a").unwrap() == torrent.data, "step {step}");
        launch.close();
        assert!(site.open(&site.spec(&torrent)).opened.have.is_full(), "step {step}");
    }
}

/// A file of ours that grew a tail after a clean shutdown.
fn own_file_grew<D: Disk>(site: &Site<D>) {
    let torrent = rivals().0;
    launch_with(site, &torrent, &[0, 1, 2, 3]).close();
    let long = [&torrent.data[..], b"the tail"].concat();
    site.write("t/a", &long);
    let error = site.open(&site.spec(&torrent)).try_check().err();
    assert!(matches!(error, Some(StoreError::UnrelatedFile { .. })), "{error:?}");
    let spec = OpenSpec { overwrite: true, ..site.spec(&torrent) };
    let launch = site.open(&spec).check();
    assert_eq!(launch.have(), [0, 1, 2, 3]);
    launch.close();
    assert!(site.bytes("t/a").unwrap() == torrent.data);
}

#[test]
fn own_file_that_grew_is_cut() {
    own_file_grew(&in_memory(MemDisk::forgetful()));
    own_file_grew(&on_disk());
}

/// A claimed file is not cut, because that would write to it.
fn claimed_long_file<D: Disk>(site: &Site<D>) {
    let first = torrent(&[("a", LENGTH + 100)], PIECE);
    let second = torrent_of(&[("a", LENGTH)], PIECE, first.data[..LENGTH].to_vec());
    let launch = launch_with(site, &first, &[0, 1, 2, 3, 4]);
    let spec = OpenSpec { overwrite: true, ..site.spec(&second) };
    assert_refused(site, &spec, &first);
    assert!(site.bytes("t/a").unwrap() == first.data);
    launch.close();
    // While the first is idle, the second gets a file of its own.
    let mut launch = site.open(&spec).check();
    launch.commit(
        &second,
        (0..4)
            .filter(|piece| !launch.store.have().contains(second.piece(*piece)))
            .collect::<Vec<_>>(),
    );
    launch.close();
    assert!(site.bytes("t/a").unwrap() == second.data);
}

#[test]
fn claimed_long_file_is_not_cut() {
    claimed_long_file(&in_memory(MemDisk::forgetful()));
    claimed_long_file(&on_disk());
}
