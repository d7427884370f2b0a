//! Files that more than one torrent wants: one writer, any number of readers.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::{Disk, Handles, OpenSpec, Outcome, Store, StoreError, Unrelated};

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

/// The error of somebody who was refused because of `first`.
#[track_caller]
fn assert_claimed(error: Option<StoreError>, first: &Torrent) -> String {
    let Some(StoreError::Claimed { path, by, .. }) = error else { panic!("{error:?}") };
    assert!(path.ends_with("t/a"), "{path:?}");
    assert!(by.contains(&first.metainfo.info_hash().to_string()), "{by}");
    by
}

/// Opens a torrent that is to be refused because of `first`, which keeps its bytes.
#[track_caller]
fn assert_refused<D: Disk>(place: &Place<D>, spec: &OpenSpec, first: &Torrent) -> String {
    let before = place.bytes("t/a");
    let by = assert_claimed(place.open(spec).try_check().err(), first);
    assert!(place.bytes("t/a") == before, "written to");
    // A second try is no better.
    assert_claimed(place.open(spec).try_check().err(), first);
    assert!(place.bytes("t/a") == before, "written to by the second try");
    by
}

/// A launch of `torrent` that has these pieces, durable.
#[track_caller]
fn run_with<D: Disk>(place: &Place<D>, torrent: &Torrent, pieces: &[u32]) -> Run<D> {
    let mut run = place.open(&place.spec(torrent)).check();
    run.commit(torrent, pieces.iter().copied());
    run.store.sync().unwrap();
    run
}

fn refused_while_open<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    let mut run = run_with(place, first, &[0]);
    let by = assert_refused(place, &place.spec(second), first);
    assert!(by.contains("in use"), "{by}");
    run.commit(first, 1..4);
    run.close();
    assert!(place.bytes("t/a").unwrap() == first.data);
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
        let place = in_memory(MemDisk::forgetful());
        let handles = Arc::new(Handles::default());
        let open = |torrent| {
            let (disk, handles) = (Arc::clone(&place.disk), Arc::clone(&handles));
            Store::open(disk, handles, &place.spec(torrent)).unwrap()
        };
        let (store, _) = open(&first);
        store.finish_check().unwrap();
        let outcome = store.commit(first.piece(0), 0, &mut first.spans(0), None, false, &mut [0]);
        assert_eq!(outcome, Outcome::Verified { digests: None });
        store.sync().unwrap();
        // The table closes what it can, and with it the file of the first.
        place.disk.fail("open", "t/a", EMFILE, 1);
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
    let place = on_disk();
    let mut run = run_with(&place, &first, &[1, 2, 3]);
    run.commit(&first, 4..first.pieces());
    let file = std::fs::File::open(place.save.join("t/a")).unwrap();
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, lock).expect("it was closed");
    drop(file);
    let by = assert_refused(&place, &place.spec(&second), &first);
    assert!(by.contains("in use"), "{by}");
}

fn refused_after_a_kill<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    drop(run_with(place, first, &[0]));
    let by = assert_refused(place, &place.spec(second), first);
    assert!(!by.contains("in use"), "{by}");
    let run = place.open(&place.spec(first)).check();
    assert_eq!(run.have(), [0]);
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
        let place = in_memory(MemDisk::forgetful());
        let run = run_with(&place, &first, &[0]);
        place.disk.kill();
        assert_refused(&place, &place.spec(&second), &first);
        std::mem::forget(run);
    }
}

fn refused_after_shutdown<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    run_with(place, first, &[0]).close();
    assert_refused(place, &place.spec(second), first);
    let mut run = place.open(&place.spec(first));
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![0], vec![]), "trusted still");
    run = run.check();
    run.commit(first, 1..4);
    run.close();
    assert!(place.bytes("t/a").unwrap() == first.data);
}

#[test]
fn claim_outlives_a_clean_shutdown() {
    for pair in pairs() {
        refused_after_shutdown(&in_memory(MemDisk::forgetful()), &pair);
        refused_after_shutdown(&on_disk(), &pair);
    }
}

fn refused_preallocated<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    let spec = OpenSpec { preallocate: true, ..place.spec(first) };
    place.open(&spec).check().close();
    assert_eq!(place.bytes("t/a").unwrap(), [0; LENGTH]);
    for preallocate in [false, true] {
        let spec = OpenSpec { preallocate, ..place.spec(second) };
        assert_refused(place, &spec, first);
    }
}

#[test]
fn preallocated_file_refuses_second_torrent() {
    for pair in pairs() {
        refused_preallocated(&in_memory(MemDisk::forgetful()), &pair);
        refused_preallocated(&on_disk(), &pair);
    }
}

fn refused_empty<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    run_with(place, first, &[0]).close();
    // Something emptied it: the inode is the same.
    place.write("t/a", b"");
    assert_refused(place, &place.spec(second), first);
}

#[test]
fn emptied_file_refuses_second_torrent() {
    for pair in pairs() {
        refused_empty(&in_memory(MemDisk::forgetful()), &pair);
        refused_empty(&on_disk(), &pair);
    }
}

fn file_without_bytes_is_shared<D: Disk>(place: &Place<D>) {
    let files = [("a", LENGTH), ("empty", 0)];
    let (first, second) =
        (torrent_with(&files, PIECE, 1), torrent(&[("b", LENGTH), ("empty", 0)], PIECE));
    let _run = run_with(place, &first, &[0]);
    assert_eq!(place.bytes("t/empty"), Some(Vec::new()));
    let mut run = place.open(&place.spec(&second)).check();
    run.commit(&second, 0..4);
    run.close();
}

#[test]
fn empty_file_serves_both_torrents() {
    file_without_bytes_is_shared(&in_memory(MemDisk::forgetful()));
    file_without_bytes_is_shared(&on_disk());
}

fn created_by_one<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    // Both were opened before either created the file.
    let mut one = place.open(&place.spec(first)).check();
    let mut two = place.open(&place.spec(second)).check();
    one.commit(first, [0]);
    let before = place.bytes("t/a");
    let Outcome::Failed(error) = two.try_commit(second, 3) else { panic!("it wrote") };
    assert_claimed(Some(error), first);
    assert!(place.bytes("t/a") == before);
    one.commit(first, 1..4);
    one.close();
    assert!(place.bytes("t/a").unwrap() == first.data);
}

/// The second torrent adopts the file between its creation and the record of that.
#[test]
fn created_file_is_adopted_by_one() {
    for (first, second) in pairs() {
        for disk in [MemDisk::forgetful(), MemDisk::lockless()] {
            let place = in_memory(disk);
            let mut run = place.open(&place.spec(&first)).check();
            let (disk, spec) = (Arc::clone(&place.disk), place.spec(&second));
            place.disk.in_next_lock(move || std::mem::forget(start(&disk, &spec).check()));
            let Outcome::Failed(error) = run.try_commit(&first, 0) else { panic!("it wrote") };
            assert_claimed(Some(error), &second);
            std::mem::forget(run);
            place.disk.kill();
            let mut run = place.open(&place.spec(&second)).check();
            run.commit(&second, 0..4);
            run.close();
            assert!(place.bytes("t/a").unwrap() == second.data);
        }
    }
}

#[test]
fn unreadable_journal_may_claim_anything() {
    for (first, second) in pairs() {
        let place = in_memory(MemDisk::lockless());
        drop(run_with(&place, &first, &[0]));
        let files = place.disk.files();
        let journal =
            files.iter().find(|(path, ..)| path.extension().is_some_and(|e| e == "journal"));
        let journal = journal.map(|(path, ..)| path.to_string_lossy()).unwrap();
        // It was written under another name.
        for (operation, path) in [("open", journal.to_string()), ("read", format!("{journal}.new"))]
        {
            place.disk.fail(operation, &path, EIO, 1);
            let error = place.open(&place.spec(&second)).try_check().err();
            let Some(StoreError::Disk { path, .. }) = &error else { panic!("{error:?}") };
            assert_eq!(path.to_string_lossy(), journal);
        }
        assert_refused(&place, &place.spec(&second), &first);
    }
}

#[test]
fn unreachable_path_may_be_claimed() {
    for (first, second) in pairs() {
        let place = in_memory(MemDisk::lockless());
        drop(run_with(&place, &first, &[0]));
        let run = place.open(&place.spec(&second));
        verify_all(&run);
        // Its own look at the file comes before that at the claimed path.
        place.disk.fail_later("stat", "t/a", EIO, 1);
        let error = run.store.finish_check().err();
        assert!(matches!(error, Some(StoreError::Disk { .. })), "{error:?}");
        drop(run);
        place.disk.heal();
        assert_refused(&place, &place.spec(&second), &first);
    }
}

/// The first torrent's file was complete from the start, so it has no claim to write it.
fn reader_keeps_its_bytes<D: Disk>(place: &Place<D>, killed: bool) {
    let (first, second) = editions();
    place.write("t/a", &first.data);
    let run = place.open(&place.spec(&first)).check();
    assert_eq!(run.have().len(), 4);
    run.store.sync().unwrap();
    assert_refused(place, &place.spec(&second), &first);
    if killed {
        drop(run);
    } else {
        run.close();
    }
    let mut run = place.open(&place.spec(&second)).check();
    run.commit(&second, 2..4);
    run.close();
    let opened = place.open(&place.spec(&first));
    assert!(!opened.opened.have.iter().any(|piece| piece >= 2), "it is trusted");
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
    let place = in_memory(MemDisk::forgetful());
    place.write("t/a", &first.data);
    let mut run = place.open(&place.spec(&first)).check();
    place.disk.fail("sync", "t/a", EIO, 1);
    assert!(run.store.sync().is_err());
    place.write("t/new", &second.data);
    place.rename("t/new", "t/a");
    let outcome = run.try_commit(&first, 0);
    assert!(matches!(outcome, Outcome::Failed(StoreError::Disk { .. })), "{outcome:?}");
    assert!(place.bytes("t/a").unwrap() == second.data);
}

#[test]
fn missing_file_is_created_by_one() {
    for pair in pairs() {
        created_by_one(&in_memory(MemDisk::forgetful()), &pair);
        created_by_one(&on_disk(), &pair);
    }
}

fn refused_by_link<D: Disk>(place: &Place<D>, first: &Torrent, second: &Torrent, other: &Path) {
    let spec = second.with_state(other, &place.state);
    let before = place.bytes("t/a");
    assert_claimed(place.open(&spec).try_check().err(), first);
    assert!(place.bytes("t/a") == before);
}

#[test]
fn hard_link_elsewhere_is_claimed() {
    for (first, second) in pairs() {
        let place = on_disk();
        let run = run_with(&place, &first, &[0]);
        let other = place.save.with_file_name("other");
        std::fs::create_dir_all(other.join("t")).unwrap();
        std::fs::hard_link(place.save.join("t/a"), other.join("t/a")).unwrap();
        refused_by_link(&place, &first, &second, &other);
        run.close();
        refused_by_link(&place, &first, &second, &other);
    }
}

fn overwrite_while_in_use<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    let mut run = run_with(place, first, &[0]);
    let spec = OpenSpec { overwrite: true, ..place.spec(second) };
    let by = assert_refused(place, &spec, first);
    assert!(by.contains("in use"), "{by}");
    run.commit(first, 1..4);
    run.close();
    assert!(place.bytes("t/a").unwrap() == first.data);
}

#[test]
fn overwrite_is_refused_while_in_use() {
    for pair in pairs() {
        overwrite_while_in_use(&in_memory(MemDisk::forgetful()), &pair);
        overwrite_while_in_use(&on_disk(), &pair);
    }
}

fn overwrite_later<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent), clean: bool) {
    let run = run_with(place, first, &[0, 1]);
    if clean {
        run.close();
    } else {
        drop(run);
    }
    let spec = OpenSpec { overwrite: true, ..place.spec(second) };
    let mut run = place.open(&spec).check();
    let missing: Vec<u32> = (0..4).filter(|piece| !run.have().contains(piece)).collect();
    run.commit(second, missing);
    run.store.sync().unwrap();
    run.close();
    assert!(place.bytes("t/a").unwrap() == second.data);
    let run = place.open(&place.spec(first));
    assert!(run.opened.have.is_empty(), "trusted: {:?}", run.opened.have);
    assert!(run.try_check().is_err(), "it would write to the file of the second");
    assert!(place.bytes("t/a").unwrap() == second.data);
    assert!(place.open(&spec).opened.have.is_full());
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

/// The inode of the first torrent's file is another than that of the second's: a hard link of the
/// user keeps the old bytes.
#[test]
fn overwrite_leaves_other_hard_links() {
    let (first, second) = editions();
    let place = on_disk();
    run_with(&place, &first, &[0, 1]).close();
    let link = place.save.join("link");
    std::fs::hard_link(place.save.join("t/a"), &link).unwrap();
    let before = std::fs::read(&link).unwrap();
    let spec = OpenSpec { overwrite: true, ..place.spec(&second) };
    let mut run = place.open(&spec).check();
    run.commit(&second, [2, 3]);
    run.close();
    assert!(std::fs::read(link).unwrap() == before);
}

/// Two torrents with the same file and other pieces.
fn cross_seeds() -> (Torrent, Torrent) {
    let files = [("a", LENGTH)];
    let first = torrent(&files, PIECE);
    let second = torrent_of(&files, 2 * PIECE, first.data.clone());
    (first, second)
}

fn complete_is_shared<D: Disk>(place: &Place<D>) {
    let (first, second) = cross_seeds();
    let one = run_with(place, &first, &[0, 1, 2, 3]);
    for read_only in [false, true] {
        let spec = OpenSpec { read_only, ..place.spec(&second) };
        let two = place.open(&spec).check();
        assert_eq!(two.have(), [0, 1]);
        two.close();
        let mut two = place.open(&spec);
        assert_eq!((two.to_verify(), two.have()), (vec![], vec![0, 1]), "trusted");
        two = two.check();
        assert!(two.read(&second, 1, 0, 10).is_ok());
        let third = torrent_of(&[("a", LENGTH)], 4 * PIECE, first.data.clone());
        assert_eq!(place.open(&place.spec(&third)).check().have(), [0]);
        two.close();
    }
    one.close();
    assert!(place.open(&place.spec(&first)).opened.have.is_full());
}

#[test]
fn complete_file_serves_any_number() {
    complete_is_shared(&in_memory(MemDisk::forgetful()));
    complete_is_shared(&on_disk());
}

fn complete_beside_missing<D: Disk>(place: &Place<D>) {
    let first = torrent(&[("a", LENGTH)], PIECE);
    let data = [first.data.clone(), noise(LENGTH, 9)].concat();
    let second = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, data);
    let one = run_with(place, &first, &[0, 1, 2, 3]);
    let mut two = place.open(&place.spec(&second)).check();
    assert_eq!(two.have(), [0, 1, 2, 3]);
    two.commit(&second, 4..8);
    two.close();
    one.close();
    for torrent in [&first, &second] {
        assert!(place.open(&place.spec(torrent)).opened.have.is_full());
    }
}

#[test]
fn complete_file_beside_a_missing_one() {
    complete_beside_missing(&in_memory(MemDisk::forgetful()));
    complete_beside_missing(&on_disk());
}

/// A piece of a shared file is found bad: the one that only reads it must not mend it.
fn reader_may_not_mend<D: Disk>(place: &Place<D>) {
    let (first, second) = cross_seeds();
    run_with(place, &first, &[0, 1, 2, 3]).close();
    place.open(&place.spec(&second)).check().close();
    let mut bytes = first.data.clone();
    bytes[0] ^= 1;
    place.write("t/a", &bytes);
    let spec = OpenSpec { resume: false, ..place.spec(&second) };
    assert_refused(place, &spec, &first);
    let mut run = place.open(&OpenSpec { resume: false, ..place.spec(&first) }).check();
    assert_eq!(run.have(), [1, 2, 3]);
    run.commit(&first, [0]);
    run.close();
}

#[test]
fn shared_file_is_mended_by_owner() {
    reader_may_not_mend(&in_memory(MemDisk::forgetful()));
    reader_may_not_mend(&on_disk());
}

fn journal_removed<D: Disk>(place: &Place<D>) {
    let (first, second) = editions();
    run_with(place, &first, &[0, 1]).close();
    place.remove_journals();
    let mut run = place.open(&place.spec(&second)).check();
    assert_eq!(run.have(), [0, 1]);
    run.commit(&second, [2, 3]);
    run.close();
    // The claim is the second's now.
    assert_refused(place, &place.spec(&first), &second);
}

#[test]
fn claim_ends_with_its_journal() {
    journal_removed(&in_memory(MemDisk::forgetful()));
    journal_removed(&on_disk());
}

fn file_moved_away<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    run_with(place, first, &[0, 1]).close();
    place.rename("t/a", "away");
    let mut run = place.open(&place.spec(second)).check();
    assert_eq!(run.have(), [0; 0]);
    run.commit(second, 0..4);
    run.close();
    assert!(place.bytes("t/a").unwrap() == second.data);
}

#[test]
fn claim_ends_when_file_moves_away() {
    for pair in pairs() {
        file_moved_away(&in_memory(MemDisk::forgetful()), &pair);
        file_moved_away(&on_disk(), &pair);
    }
}

/// The file that is found elsewhere is nobody's any more, under whatever name.
fn moved_file_is_adopted<D: Disk>(place: &Place<D>) {
    let (first, _) = editions();
    let second = torrent_of(&[("b", LENGTH)], 2 * PIECE, first.data.clone());
    run_with(place, &first, &[0, 1]).close();
    place.rename("t/a", "t/b");
    let mut run = place.open(&place.spec(&second)).check();
    assert_eq!(run.have(), [0]);
    run.commit(&second, [1]);
    run.close();
    assert!(place.bytes("t/b").unwrap() == second.data);
}

#[test]
fn moved_file_may_be_adopted() {
    moved_file_is_adopted(&in_memory(MemDisk::forgetful()));
    moved_file_is_adopted(&on_disk());
}

fn file_replaced<D: Disk>(place: &Place<D>) {
    let (first, second) = editions();
    run_with(place, &first, &[0, 1]).close();
    place.write("copy", &place.bytes("t/a").unwrap());
    place.rename("copy", "t/a");
    let mut run = place.open(&place.spec(&second)).check();
    assert_eq!(run.have(), [0, 1]);
    run.commit(&second, [2, 3]);
    run.close();
}

#[test]
fn claim_ends_when_file_is_replaced() {
    file_replaced(&in_memory(MemDisk::forgetful()));
    file_replaced(&on_disk());
}

/// One who is refused because of one file has no claim on the others.
fn refusal_adopts_nothing<D: Disk>(place: &Place<D>) {
    let files = [("a", LENGTH), ("b", LENGTH)];
    let first = torrent(&files, PIECE);
    let half = LENGTH / 2;
    let mut data = noise(2 * LENGTH, 7);
    data[..half].copy_from_slice(&first.data[..half]);
    data[LENGTH..LENGTH + half].copy_from_slice(&first.data[LENGTH..LENGTH + half]);
    let second = torrent_of(&files, PIECE, data);
    run_with(place, &first, &[0, 4]).close();
    let before = place.bytes("t/b");
    assert_refused(place, &place.spec(&second), &first);
    let only_b = some(&place.spec(&second), &[false, true]);
    let mut run = match place.open(&only_b).try_check() {
        Ok(run) => run,
        Err(StoreError::Claimed { path, .. }) => return assert!(path.ends_with("t/b")),
        Err(error) => panic!("{error}"),
    };
    let outcome = run.try_commit(&second, 7);
    assert!(place.bytes("t/b") == before, "{outcome:?}");
}

#[test]
fn refusal_claims_no_other_file() {
    refusal_adopts_nothing(&in_memory(MemDisk::forgetful()));
    refusal_adopts_nothing(&on_disk());
}

/// A file that could be adopted stays free if another one refuses the launch.
fn refusal_frees_adopted<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    run_with(place, first, &[0, 1]).close();
    // b is the user's own.
    let data = [second.data.clone(), noise(LENGTH, 5)].concat();
    let second = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, data);
    place.write("t/b", &users_file());
    let before = place.bytes("t/a");
    assert!(place.open(&place.spec(&second)).try_check().is_err());
    place.rename("t/b", "away");
    assert_refused(place, &place.spec(&second), first);
    assert!(place.bytes("t/a") == before);
}

#[test]
fn refusal_by_unrelated_file_claims_nothing() {
    let pair = editions();
    refusal_frees_adopted(&in_memory(MemDisk::forgetful()), &pair);
    refusal_frees_adopted(&on_disk(), &pair);
}

/// What a refused launch has verified is found again once the claim has ended.
fn refusal_costs_no_piece<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    run_with(place, first, &[0, 1]).close();
    let run = place.open(&place.spec(second));
    verify_all(&run);
    assert_claimed(run.store.finish_check().err(), first);
    run.close();
    // The user ends the claim.
    remove_journal_of(place, first);
    let mut run = place.open(&place.spec(second)).check();
    assert_eq!(run.have(), [0, 1]);
    run.commit(second, [2, 3]);
    run.close();
}

fn remove_journal_of<D: Disk>(place: &Place<D>, torrent: &Torrent) {
    let (folder, _) = place.disk.folder(&place.state, false).unwrap();
    let start = torrent.metainfo.info_hash().to_string();
    let names = place.disk.list(&folder).unwrap();
    let name = names.into_iter().find(|name| {
        let text = name.to_string_lossy();
        text.starts_with(&start) && text.ends_with(".journal")
    });
    place.disk.remove(&folder, &name.unwrap()).unwrap();
}

#[test]
fn refusal_costs_no_good_piece() {
    let pair = editions();
    refusal_costs_no_piece(&in_memory(MemDisk::forgetful()), &pair);
    refusal_costs_no_piece(&on_disk(), &pair);
}

/// A launch that is refused because of one file replaces no other, also with `overwrite`.
fn refusal_replaces_nothing<D: Disk>(place: &Place<D>) {
    let files = [("a", LENGTH), ("b", LENGTH)];
    let first = torrent(&[("a", LENGTH)], PIECE);
    let third = torrent_with(&[("b", LENGTH)], PIECE, 3);
    let second = torrent_with(&files, PIECE, 2);
    run_with(place, &first, &[0]).close();
    // It is complete and read only, so that no lock says that it is in use.
    run_with(place, &third, &[0, 1, 2, 3]).close();
    let _run = place.open(&place.spec(&third)).check();
    let before = (place.bytes("t/a"), place.bytes("t/b"));
    let spec = OpenSpec { overwrite: true, ..place.spec(&second) };
    let error = place.open(&spec).try_check().err();
    assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
    assert!((place.bytes("t/a"), place.bytes("t/b")) == before);
}

#[test]
fn refusal_replaces_no_other_file() {
    refusal_replaces_nothing(&in_memory(MemDisk::forgetful()));
    refusal_replaces_nothing(&on_disk());
}

/// An unselected file of the second is left to the first, whether that is in use or not.
fn unselected_is_left<D: Disk>(place: &Place<D>, in_use: bool) {
    let first = torrent(&[("a", LENGTH)], PIECE);
    let data = [&first.data[..LENGTH - 100], &noise(LENGTH + 100, 3)].concat();
    let second = torrent_of(&[("a", LENGTH - 100), ("b", LENGTH + 100)], PIECE, data);
    let one = run_with(place, &first, &[0]);
    let one = match in_use {
        true => Some(one),
        false => {
            one.close();
            None
        }
    };
    let before = place.bytes("t/a");
    let mut two = place.open(&some(&place.spec(&second), &[false, true])).check();
    two.commit(&second, 3..8);
    two.store.sync().unwrap();
    assert!(place.bytes("t/a") == before);
    let mut one = one.unwrap_or_else(|| place.open(&place.spec(&first)).check());
    one.commit(&first, 1..4);
    one.close();
    two.close();
    assert!(place.bytes("t/b").unwrap() == second.file_data(1));
}

#[test]
fn unselected_claimed_file_is_left_alone() {
    for in_use in [true, false] {
        unselected_is_left(&in_memory(MemDisk::forgetful()), in_use);
        unselected_is_left(&on_disk(), in_use);
    }
}

fn users_file() -> Vec<u8> {
    noise(LENGTH, 77)
}

/// The file system gave the number of our removed file to one of the user's.
#[test]
fn reused_inode_is_not_ours() {
    for clean in [false, true] {
        let (torrent, place) = (rivals().0, in_memory(MemDisk::with_births()));
        let run = run_with(&place, &torrent, &[0, 1, 2, 3]);
        if clean {
            run.close();
        } else {
            drop(run);
        }
        let (inode, files) = (place.disk.inode("t/a"), place.disk.files());
        let (_, stat, _) = files.iter().find(|(path, ..)| path.ends_with("t/a")).unwrap();
        place.rename("t/a", "away");
        let modified = stat.modified.0;
        place.disk.put_as(&place.save.join("t/a"), inode, modified, &users_file());
        let run = place.open(&place.spec(&torrent));
        assert!(run.opened.have.is_empty(), "clean {clean}: trusted");
        let error = run.try_check().err();
        assert!(
            matches!(error, Some(StoreError::UnrelatedFile { .. })),
            "clean {clean}: {error:?}"
        );
        assert!(place.bytes("t/a").unwrap() == users_file());
    }
}

#[test]
fn reused_inode_is_not_claimed() {
    let ((first, second), place) = (editions(), in_memory(MemDisk::with_births()));
    run_with(&place, &first, &[0, 1]).close();
    let (inode, bytes) = (place.disk.inode("t/a"), place.bytes("t/a").unwrap());
    place.rename("t/a", "away");
    place.disk.put_as(&place.save.join("t/a"), inode, 1, &bytes);
    let mut run = place.open(&place.spec(&second)).check();
    run.commit(&second, [2, 3]);
    run.close();
}

/// Where numbers do not last, only the path says whose a file is.
#[test]
fn unstable_ids_are_claimed_by_path() {
    for (first, second) in pairs() {
        let place = in_memory(MemDisk::renumbering());
        run_with(&place, &first, &[0]).close();
        place.disk.forget_inodes();
        assert_refused(&place, &place.spec(&second), &first);
        place.disk.forget_inodes();
        let mut run = place.open(&place.spec(&first)).check();
        assert_eq!(run.have(), [0]);
        run.commit(&first, 1..4);
        run.close();
    }
}

fn lock_alone<D: Disk>(place: &Place<D>, (first, second): &(Torrent, Torrent)) {
    let mut one = place.open(&first.spec(&place.save)).check();
    one.commit(first, [0, 1]);
    let before = place.bytes("t/a");
    let error = place.open(&second.spec(&place.save)).try_check().err();
    let refused =
        matches!(&error, Some(StoreError::Claimed { .. } | StoreError::UnrelatedFile { .. }));
    assert!(refused, "{error:?}");
    assert!(place.bytes("t/a") == before);
    one.commit(first, [2, 3]);
    one.close();
}

#[test]
fn lock_refuses_writer_without_state() {
    for pair in pairs() {
        lock_alone(&in_memory(MemDisk::forgetful()), &pair);
        lock_alone(&on_disk(), &pair);
    }
    // What the second could adopt is refused by the lock.
    let (place, (first, second)) = (on_disk(), editions());
    let mut one = place.open(&first.spec(&place.save)).check();
    one.commit(&first, [0, 1]);
    let error = place.open(&second.spec(&place.save)).try_check().err();
    assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
}

fn created_by_one_without_state<D: Disk>(place: &Place<D>) {
    let (first, second) = rivals();
    let mut one = place.open(&first.spec(&place.save)).check();
    let mut two = place.open(&second.spec(&place.save)).check();
    one.commit(&first, [0, 1]);
    let outcome = two.try_commit(&second, 3);
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    one.commit(&first, [2, 3]);
    one.close();
    assert!(place.bytes("t/a").unwrap() == first.data);
}

#[test]
fn without_state_one_creates_the_file() {
    created_by_one_without_state(&in_memory(MemDisk::forgetful()));
    created_by_one_without_state(&on_disk());
}

#[test]
fn file_locked_elsewhere_is_refused() {
    for with_state in [false, true] {
        let (torrent, place) = (rivals().0, on_disk());
        place.write("t/a", &torrent.data[..LENGTH / 2]);
        let file = std::fs::File::open(place.save.join("t/a")).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let spec = if with_state { place.spec(&torrent) } else { torrent.spec(&place.save) };
        let error = place.open(&spec).try_check().err();
        assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
        assert!(place.bytes("t/a").unwrap() == torrent.data[..LENGTH / 2]);
        drop(file);
        let mut run = place.open(&spec).check();
        run.commit(&torrent, [2, 3]);
        run.close();
        assert!(place.bytes("t/a").unwrap() == torrent.data);
    }
}

/// A complete file that another program has locked is only read.
#[test]
fn locked_complete_file_is_served() {
    let (torrent, place) = (rivals().0, on_disk());
    torrent.write(&place.save);
    let file = std::fs::File::open(place.save.join("t/a")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.have(), [0, 1, 2, 3]);
    run.close();
}

#[test]
fn replaced_file_is_verified_after_shutdown() {
    let (torrent, place) = (rivals().0, on_disk());
    run_with(&place, &torrent, &[0, 1, 2, 3]).close();
    let path = place.save.join("t/a");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = torrent.data.clone();
    bytes[0] ^= 1;
    place.write("copy", &bytes);
    let copy = std::fs::File::options().write(true).open(place.save.join("copy")).unwrap();
    copy.set_modified(modified).unwrap();
    place.rename("copy", "t/a");
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
    let run = place.open(&place.spec(&torrent));
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![], vec![0, 1, 2, 3]));
    assert_eq!(run.check().have(), [1, 2, 3]);
}

// ---- Overwriting files that are too long ----

/// A selected file `a` and an unselected `b`, each with a tail.
fn long_files<D: Disk>(place: &Place<D>, torrent: &Torrent, good: bool) {
    for (index, path) in ["t/a", "t/b"].into_iter().enumerate() {
        let mut bytes = torrent.file_data(index).to_vec();
        if !good {
            bytes = noise(bytes.len(), 55);
        }
        bytes.extend(b"the tail");
        place.write(path, &bytes);
    }
}

fn two_files() -> Torrent {
    torrent(&[("a", LENGTH - 1000), ("b", LENGTH)], PIECE)
}

fn cut_by_overwrite<D: Disk>(place: &Place<D>, good: bool) {
    let torrent = two_files();
    long_files(place, &torrent, good);
    let unselected = place.bytes("t/b");
    let spec = OpenSpec { overwrite: true, ..some(&place.spec(&torrent), &[true, false]) };
    let mut run = place.open(&spec).check();
    assert_eq!(place.bytes("t/a").unwrap().len(), LENGTH - 1000);
    for piece in 0..4 {
        if !run.have().contains(&piece) {
            run.commit(&torrent, [piece]);
        }
    }
    run.close();
    assert!(place.bytes("t/a").unwrap() == torrent.file_data(0));
    assert!(place.bytes("t/b") == unselected, "an unselected file was changed");
    let run = place.open(&spec);
    assert_eq!(numbers(&run.opened.have), [0, 1, 2, 3]);
}

#[test]
fn overwrite_cuts_selected_files_only() {
    for good in [true, false] {
        cut_by_overwrite(&in_memory(MemDisk::forgetful()), good);
        cut_by_overwrite(&on_disk(), good);
    }
}

fn long_is_refused<D: Disk>(place: &Place<D>, good: bool) {
    let torrent = two_files();
    long_files(place, &torrent, good);
    let before = (place.bytes("t/a"), place.bytes("t/b"));
    let expected = (LENGTH - 1000) as u64;
    for _ in 0..2 {
        let Err(StoreError::UnrelatedFile { path, reason }) =
            place.open(&place.spec(&torrent)).try_check()
        else {
            panic!("it is too long");
        };
        assert!(path.ends_with("t/a"));
        assert_eq!(reason, Unrelated::TooLong { expected, got: expected + 8 });
        assert!((place.bytes("t/a"), place.bytes("t/b")) == before);
    }
}

#[test]
fn long_file_without_overwrite_is_refused() {
    for good in [true, false] {
        long_is_refused(&in_memory(MemDisk::forgetful()), good);
        long_is_refused(&on_disk(), good);
    }
}

/// The length is on the disk before anything counts on it.
#[test]
fn cut_survives_a_power_cut() {
    for good in [true, false] {
        let (torrent, place) = (two_files(), in_memory(MemDisk::forgetful()));
        long_files(&place, &torrent, good);
        let spec = OpenSpec { overwrite: true, ..some(&place.spec(&torrent), &[true, false]) };
        drop(place.open(&spec).check());
        place.disk.cut_power();
        assert_eq!(place.bytes("t/a").unwrap().len(), LENGTH - 1000);
        let mut run = place.open(&place.spec(&torrent)).try_check();
        if run.is_err() {
            // b is too long as before.
            run = place.open(&some(&place.spec(&torrent), &[true, false])).try_check();
        }
        let mut run = run.unwrap();
        for piece in 0..4 {
            if !run.have().contains(&piece) {
                run.commit(&torrent, [piece]);
            }
        }
        run.close();
        assert!(place.bytes("t/a").unwrap() == torrent.file_data(0));
    }
}

/// The process ends at each step of the check.
#[test]
fn kill_around_the_cut_loses_nothing() {
    let torrent = torrent(&[("a", LENGTH)], PIECE);
    for step in 0..3 {
        let place = in_memory(MemDisk::forgetful());
        let long = [&torrent.data[..], b"the tail"].concat();
        place.write("t/a", &long);
        let spec = OpenSpec { overwrite: true, ..place.spec(&torrent) };
        let run = place.open(&spec);
        match step {
            0 => {}
            1 => verify_all(&run),
            // The sync of the cut file fails: what is on the disk is not known.
            _ => {
                verify_all(&run);
                place.disk.fail("sync", "t/a", 5, 1);
                assert!(run.store.finish_check().is_err());
            }
        }
        drop(run);
        place.disk.cut_power();
        let run = place.open(&spec).check();
        assert_eq!(run.have(), [0, 1, 2, 3], "step {step}");
        assert!(place.bytes("t/a").unwrap() == torrent.data, "step {step}");
        run.close();
        assert!(place.open(&place.spec(&torrent)).opened.have.is_full(), "step {step}");
    }
}

/// A file of ours that grew a tail after a clean shutdown.
fn own_file_grew<D: Disk>(place: &Place<D>) {
    let torrent = rivals().0;
    run_with(place, &torrent, &[0, 1, 2, 3]).close();
    let long = [&torrent.data[..], b"the tail"].concat();
    place.write("t/a", &long);
    let error = place.open(&place.spec(&torrent)).try_check().err();
    assert!(matches!(error, Some(StoreError::UnrelatedFile { .. })), "{error:?}");
    let spec = OpenSpec { overwrite: true, ..place.spec(&torrent) };
    let run = place.open(&spec).check();
    assert_eq!(run.have(), [0, 1, 2, 3]);
    run.close();
    assert!(place.bytes("t/a").unwrap() == torrent.data);
}

#[test]
fn own_file_that_grew_is_cut() {
    own_file_grew(&in_memory(MemDisk::forgetful()));
    own_file_grew(&on_disk());
}

/// Cutting a claimed file would be writing to it.
fn claimed_long_file<D: Disk>(place: &Place<D>) {
    let first = torrent(&[("a", LENGTH + 100)], PIECE);
    let second = torrent_of(&[("a", LENGTH)], PIECE, first.data[..LENGTH].to_vec());
    let run = run_with(place, &first, &[0, 1, 2, 3, 4]);
    let spec = OpenSpec { overwrite: true, ..place.spec(&second) };
    assert_refused(place, &spec, &first);
    assert!(place.bytes("t/a").unwrap() == first.data);
    run.close();
    // Nobody uses it: the second gets a file of its own.
    let mut run = place.open(&spec).check();
    run.commit(
        &second,
        (0..4).filter(|piece| !run.store.have().contains(second.piece(*piece))).collect::<Vec<_>>(),
    );
    run.close();
    assert!(place.bytes("t/a").unwrap() == second.data);
}

#[test]
fn claimed_long_file_is_not_cut() {
    claimed_long_file(&in_memory(MemDisk::forgetful()));
    claimed_long_file(&on_disk());
}
