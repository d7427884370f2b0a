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
    site.start(torrent).with(torrent, pieces.iter().copied()).synced()
}

/// Downloads what is missing. Afterwards the file is the torrent's.
#[track_caller]
fn finish<D: Disk>(site: &Site<D>, mut launch: Launch<D>, torrent: &Torrent) {
    launch.commit_missing(torrent);
    launch.close();
    assert!(site.bytes("t/a").unwrap() == torrent.data);
}

#[test]
fn open_file_refuses_second_torrent() {
    for (first, second) in &pairs() {
        let site = on_disk();
        let launch = launch_with(&site, first, &[0]);
        let by = assert_refused(&site, &site.spec(second), first);
        assert!(by.contains("in use"), "{by}");
        finish(&site, launch, first);
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
        assert_eq!(result, Ok(CommitResult::Verified { digests: None }));
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
    let _launch = launch_with(&site, &first, &[1, 2, 3]).with(&first, 4..first.pieces());
    let file = std::fs::File::open(site.save.join("t/a")).unwrap();
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, lock).expect("it was closed");
    drop(file);
    let by = assert_refused(&site, &site.spec(&second), &first);
    assert!(by.contains("in use"), "{by}");
}

#[test]
fn claim_outlives_a_kill() {
    for (first, second) in &pairs() {
        let site = on_disk();
        drop(launch_with(&site, first, &[0]));
        let by = assert_refused(&site, &site.spec(second), first);
        assert!(!by.contains("in use"), "{by}");
        let _launch = site.start(first).assert_have(&[0]);
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

#[test]
fn claim_outlives_a_clean_shutdown() {
    for (first, second) in &pairs() {
        let site = on_disk();
        launch_with(&site, first, &[0]).close();
        assert_refused(&site, &site.spec(second), first);
        let launch = site.open(&site.spec(first)).assert_found(&[0], &[]).check();
        finish(&site, launch, first);
    }
}

#[test]
fn preallocated_file_refuses_second_torrent() {
    for (first, second) in &pairs() {
        let site = on_disk();
        let spec = OpenSpec { preallocate: true, ..site.spec(first) };
        site.open(&spec).check().close();
        assert_eq!(site.bytes("t/a").unwrap(), [0; LENGTH]);
        for preallocate in [false, true] {
            let spec = OpenSpec { preallocate, ..site.spec(second) };
            assert_refused(&site, &spec, first);
        }
    }
}

#[test]
fn emptied_file_refuses_second_torrent() {
    for (first, second) in &pairs() {
        let site = on_disk();
        launch_with(&site, first, &[0]).close();
        // Another program emptied it. The inode is the same.
        site.write("t/a", b"");
        assert_refused(&site, &site.spec(second), first);
    }
}

#[test]
fn empty_file_serves_both_torrents() {
    let site = on_disk();
    let files = [("a", LENGTH), ("empty", 0)];
    let (first, second) =
        (torrent_with(&files, PIECE, 1), torrent(&[("b", LENGTH), ("empty", 0)], PIECE));
    let _run = launch_with(&site, &first, &[0]);
    assert_eq!(site.bytes("t/empty"), Some(Vec::new()));
    site.start(&second).with(&second, 0..4).close();
}

/// The second torrent adopts the file between its creation and the record of that.
#[test]
fn created_file_is_adopted_by_one() {
    for (first, second) in pairs() {
        for disk in [MemDisk::forgetful(), MemDisk::lockless()] {
            let site = in_memory(disk);
            let mut launch = site.start(&first);
            let (disk, spec) = (Arc::clone(&site.disk), site.spec(&second));
            site.disk.in_next_lock(move || std::mem::forget(start(&disk, &spec).check()));
            let CommitResult::Failed(error) = launch.try_commit(&first, 0) else {
                panic!("it wrote")
            };
            assert_claimed(Some(error), &second);
            std::mem::forget(launch);
            site.disk.kill();
            finish(&site, site.start(&second), &second);
        }
    }
}

#[test]
fn unreadable_journal_may_claim_anything() {
    for (first, second) in pairs() {
        let site = in_memory(MemDisk::lockless());
        drop(launch_with(&site, &first, &[0]));
        let journal = site.state_file("journal").to_string_lossy().into_owned();
        // The file was written under another name.
        for (operation, path) in [("open", journal.clone()), ("read", format!("{journal}.new"))] {
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
#[test]
fn file_in_use_is_not_written_by_others() {
    for killed in [false, true] {
        let site = on_disk();
        let (first, second) = editions();
        site.write("t/a", &first.data);
        let launch = site.start(&first);
        assert_eq!(launch.have().len(), 4);
        launch.store.sync().unwrap();
        assert_refused(&site, &site.spec(&second), &first);
        launch.end(!killed);
        site.start(&second).with(&second, 2..4).close();
        let opened = site.open(&site.spec(&first));
        assert!(!opened.opened.have.iter().any(|piece| piece >= 2), "they are trusted");
        verify_all(&opened);
        assert_eq!(opened.have(), [0, 1]);
    }
}

#[test]
fn replaced_file_is_not_adopted() {
    let (first, second) = rivals();
    let site = in_memory(MemDisk::forgetful());
    site.write("t/a", &first.data);
    let mut launch = site.start(&first);
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
    for (first, second) in &pairs() {
        let site = on_disk();
        // Both were opened before either created the file.
        let (one, mut two) = (site.start(first), site.start(second));
        let one = one.with(first, [0]);
        let before = site.bytes("t/a");
        let CommitResult::Failed(error) = two.try_commit(second, 3) else { panic!("it wrote") };
        assert_claimed(Some(error), first);
        assert!(site.bytes("t/a") == before);
        finish(&site, one, first);
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

#[test]
fn overwrite_is_refused_while_in_use() {
    for (first, second) in &pairs() {
        let site = on_disk();
        let launch = launch_with(&site, first, &[0]);
        let spec = OpenSpec { overwrite: true, ..site.spec(second) };
        let by = assert_refused(&site, &spec, first);
        assert!(by.contains("in use"), "{by}");
        finish(&site, launch, first);
    }
}

#[test]
fn overwrite_replaces_an_idle_file() {
    for (first, second) in &pairs() {
        for clean in [false, true] {
            let site = on_disk();
            let launch = launch_with(&site, first, &[0, 1]);
            launch.end(clean);
            let spec = OpenSpec { overwrite: true, ..site.spec(second) };
            finish(&site, site.open(&spec).check(), second);
            let launch = site.open(&site.spec(first));
            assert!(launch.opened.have.is_empty(), "trusted: {:?}", launch.opened.have);
            assert!(launch.try_check().is_err(), "it would write to the file of the second");
            assert!(site.bytes("t/a").unwrap() == second.data);
            assert!(site.open(&spec).opened.have.is_full());
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
    site.open(&spec).check().with(&second, [2, 3]).close();
    assert!(std::fs::read(link).unwrap() == before);
}

/// Two torrents with the same file and other pieces.
fn cross_seeds() -> (Torrent, Torrent) {
    let files = [("a", LENGTH)];
    let first = torrent(&files, PIECE);
    let second = torrent_of(&files, 2 * PIECE, first.data.clone());
    (first, second)
}

#[test]
fn complete_file_serves_any_number() {
    let site = on_disk();
    let (first, second) = cross_seeds();
    let one = launch_with(&site, &first, &[0, 1, 2, 3]);
    for seed_only in [false, true] {
        let spec = OpenSpec { seed_only, ..site.spec(&second) };
        site.open(&spec).check().assert_have(&[0, 1]).close();
        let mut two = site.open(&spec);
        assert_eq!((two.to_verify(), two.have()), (vec![], vec![0, 1]), "trusted");
        two = two.check();
        assert!(two.read(&second, 1, 0, 10).is_ok());
        let third = torrent_of(&[("a", LENGTH)], 4 * PIECE, first.data.clone());
        assert_eq!(site.start(&third).have(), [0]);
        two.close();
    }
    one.close();
    assert!(site.open(&site.spec(&first)).opened.have.is_full());
}

#[test]
fn complete_file_beside_a_missing_one() {
    let site = on_disk();
    let first = torrent(&[("a", LENGTH)], PIECE);
    let data = [first.data.clone(), noise(LENGTH, 9)].concat();
    let second = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, data);
    let one = launch_with(&site, &first, &[0, 1, 2, 3]);
    site.start(&second).assert_have(&[0, 1, 2, 3]).with(&second, 4..8).close();
    one.close();
    for torrent in [&first, &second] {
        assert!(site.open(&site.spec(torrent)).opened.have.is_full());
    }
}

/// A piece of a shared file is bad. The torrent that only reads the file must not repair it.
#[test]
fn shared_file_is_repaired_by_owner() {
    let site = on_disk();
    let (first, second) = cross_seeds();
    launch_with(&site, &first, &[0, 1, 2, 3]).close();
    site.start(&second).close();
    let mut bytes = first.data.clone();
    bytes[0] ^= 1;
    site.write("t/a", &bytes);
    let spec = OpenSpec { resume: false, ..site.spec(&second) };
    assert_refused(&site, &spec, &first);
    site.open(&OpenSpec { resume: false, ..site.spec(&first) })
        .check()
        .assert_have(&[1, 2, 3])
        .with(&first, [0])
        .close();
}

#[test]
fn claim_ends_with_its_journal() {
    let site = on_disk();
    let (first, second) = editions();
    launch_with(&site, &first, &[0, 1]).close();
    site.remove_journals();
    site.start(&second).assert_have(&[0, 1]).with(&second, [2, 3]).close();
    // The claim is the second's now.
    assert_refused(&site, &site.spec(&first), &second);
}

#[test]
fn claim_ends_when_file_moves_away() {
    for (first, second) in &pairs() {
        let site = on_disk();
        launch_with(&site, first, &[0, 1]).close();
        site.rename("t/a", "away");
        let mut launch = site.start(second).assert_have(&[]);
        launch.commit(second, 0..4);
        launch.close();
        assert!(site.bytes("t/a").unwrap() == second.data);
    }
}

/// A file that was moved away has no claim any more, under any name.
#[test]
fn moved_file_may_be_adopted() {
    let site = on_disk();
    let (first, _) = editions();
    let second = torrent_of(&[("b", LENGTH)], 2 * PIECE, first.data.clone());
    launch_with(&site, &first, &[0, 1]).close();
    site.rename("t/a", "t/b");
    site.start(&second).assert_have(&[0]).with(&second, [1]).close();
    assert!(site.bytes("t/b").unwrap() == second.data);
}

#[test]
fn claim_ends_when_file_is_replaced() {
    let site = on_disk();
    let (first, second) = editions();
    launch_with(&site, &first, &[0, 1]).close();
    site.write("copy", &site.bytes("t/a").unwrap());
    site.rename("copy", "t/a");
    site.start(&second).assert_have(&[0, 1]).with(&second, [2, 3]).close();
}

/// A torrent that is refused because of one file has no claim on the others.
#[test]
fn refusal_claims_no_other_file() {
    let site = on_disk();
    let files = [("a", LENGTH), ("b", LENGTH)];
    let first = torrent(&files, PIECE);
    let half = LENGTH / 2;
    let mut data = noise(2 * LENGTH, 7);
    data[..half].copy_from_slice(&first.data[..half]);
    data[LENGTH..LENGTH + half].copy_from_slice(&first.data[LENGTH..LENGTH + half]);
    let second = torrent_of(&files, PIECE, data);
    launch_with(&site, &first, &[0, 4]).close();
    let before = site.bytes("t/b");
    assert_refused(&site, &site.spec(&second), &first);
    let only_b = some(&site.spec(&second), &[false, true]);
    let mut launch = match site.open(&only_b).try_check() {
        Ok(launch) => launch,
        Err(StoreError::Claimed { path, .. }) => return assert!(path.ends_with("t/b")),
        Err(error) => panic!("{error}"),
    };
    let result = launch.try_commit(&second, 7);
    assert!(site.bytes("t/b") == before, "{result:?}");
}

/// A file that could be adopted stays free if another one refuses the launch.
#[test]
fn refusal_by_unrelated_file_claims_nothing() {
    let (first, second) = &editions();
    let site = on_disk();
    launch_with(&site, first, &[0, 1]).close();
    // b is the user's own.
    let data = [second.data.clone(), noise(LENGTH, 5)].concat();
    let second = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, data);
    site.write("t/b", &users_file());
    let before = site.bytes("t/a");
    assert!(site.open(&site.spec(&second)).try_check().is_err());
    site.rename("t/b", "away");
    assert_refused(&site, &site.spec(&second), first);
    assert!(site.bytes("t/a") == before);
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

/// The pieces that a refused launch has verified are found again once the claim has ended.
#[test]
fn refusal_costs_no_good_piece() {
    let (first, second) = &editions();
    let site = on_disk();
    launch_with(&site, first, &[0, 1]).close();
    let launch = site.open(&site.spec(second));
    verify_all(&launch);
    assert_claimed(launch.store.finish_check().err(), first);
    launch.close();
    // The user ends the claim.
    remove_journal_of(&site, first);
    site.start(second).assert_have(&[0, 1]).with(second, [2, 3]).close();
}

/// A launch that is refused because of one file replaces no other, also with `overwrite`.
#[test]
fn refusal_replaces_no_other_file() {
    let site = on_disk();
    let files = [("a", LENGTH), ("b", LENGTH)];
    let first = torrent(&[("a", LENGTH)], PIECE);
    let third = torrent_with(&[("b", LENGTH)], PIECE, 3);
    let second = torrent_with(&files, PIECE, 2);
    launch_with(&site, &first, &[0]).close();
    // It is complete and only read, so that it is not locked.
    launch_with(&site, &third, &[0, 1, 2, 3]).close();
    let _run = site.start(&third);
    let before = (site.bytes("t/a"), site.bytes("t/b"));
    let spec = OpenSpec { overwrite: true, ..site.spec(&second) };
    let error = site.open(&spec).try_check().err();
    assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
    assert!((site.bytes("t/a"), site.bytes("t/b")) == before);
}

/// An unselected file of the second torrent stays the first's, whether that is in use or not.
#[test]
fn unselected_claimed_file_is_untouched() {
    for in_use in [true, false] {
        let site = on_disk();
        let first = torrent(&[("a", LENGTH)], PIECE);
        let data = [&first.data[..LENGTH - 100], &noise(LENGTH + 100, 3)].concat();
        let second = torrent_of(&[("a", LENGTH - 100), ("b", LENGTH + 100)], PIECE, data);
        let one = launch_with(&site, &first, &[0]);
        let one = match in_use {
            true => Some(one),
            false => {
                one.close();
                None
            }
        };
        let before = site.bytes("t/a");
        let two = site
            .open(&some(&site.spec(&second), &[false, true]))
            .check()
            .with(&second, 3..8)
            .synced();
        assert!(site.bytes("t/a") == before);
        one.unwrap_or_else(|| site.start(&first)).with(&first, 1..4).close();
        two.close();
        assert!(site.bytes("t/b").unwrap() == second.file_data(1));
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
        launch.end(clean);
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
    site.start(&second).with(&second, [2, 3]).close();
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
        site.start(&first).assert_have(&[0]).with(&first, 1..4).close();
    }
}

#[test]
fn lock_refuses_writer_without_state() {
    for (first, second) in &pairs() {
        let site = on_disk();
        let mut one = site.open(&first.spec(&site.save)).check().with(first, [0, 1]);
        let before = site.bytes("t/a");
        let error = site.open(&second.spec(&site.save)).try_check().err();
        let refused =
            matches!(&error, Some(StoreError::Claimed { .. } | StoreError::UnrelatedFile { .. }));
        assert!(refused, "{error:?}");
        assert!(site.bytes("t/a") == before);
        one.commit(first, [2, 3]);
        one.close();
    }
    // The lock refuses the file that the second torrent could adopt.
    let (site, (first, second)) = (on_disk(), editions());
    let _one = site.open(&first.spec(&site.save)).check().with(&first, [0, 1]);
    let error = site.open(&second.spec(&site.save)).try_check().err();
    assert!(matches!(error, Some(StoreError::Claimed { .. })), "{error:?}");
}

#[test]
fn without_state_one_creates_the_file() {
    let site = on_disk();
    let (first, second) = rivals();
    let mut one = site.open(&first.spec(&site.save)).check();
    let mut two = site.open(&second.spec(&site.save)).check();
    one.commit(&first, [0, 1]);
    let result = two.try_commit(&second, 3);
    assert!(matches!(result, CommitResult::Failed(_)), "{result:?}");
    finish(&site, one, &first);
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
        finish(&site, site.open(&spec).check(), &torrent);
    }
}

/// A complete file that another program has locked is only read.
#[test]
fn locked_complete_file_is_served() {
    let (torrent, site) = (rivals().0, on_disk());
    torrent.write(&site.save);
    let file = std::fs::File::open(site.save.join("t/a")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    site.start(&torrent).assert_have(&[0, 1, 2, 3]).close();
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
    site.open(&site.spec(&torrent))
        .assert_found(&[], &[0, 1, 2, 3])
        .check()
        .assert_have(&[1, 2, 3]);
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

#[test]
fn overwrite_cuts_selected_files_only() {
    for good in [true, false] {
        let site = on_disk();
        let torrent = two_files();
        long_files(&site, &torrent, good);
        let unselected = site.bytes("t/b");
        let spec = OpenSpec { overwrite: true, ..some(&site.spec(&torrent), &[true, false]) };
        let mut launch = site.open(&spec).check();
        assert_eq!(site.bytes("t/a").unwrap().len(), LENGTH - 1000);
        launch.commit_missing(&torrent);
        launch.close();
        assert!(site.bytes("t/a").unwrap() == torrent.file_data(0));
        assert!(site.bytes("t/b") == unselected, "an unselected file was changed");
        let launch = site.open(&spec);
        assert_eq!(numbers(&launch.opened.have), [0, 1, 2, 3]);
    }
}

#[test]
fn long_file_without_overwrite_is_refused() {
    for good in [true, false] {
        let site = on_disk();
        let torrent = two_files();
        long_files(&site, &torrent, good);
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
        launch.commit_missing(&torrent);
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
#[test]
fn own_file_that_grew_is_cut() {
    let site = on_disk();
    let torrent = rivals().0;
    launch_with(&site, &torrent, &[0, 1, 2, 3]).close();
    let long = [&torrent.data[..], b"the tail"].concat();
    site.write("t/a", &long);
    let error = site.open(&site.spec(&torrent)).try_check().err();
    assert!(matches!(error, Some(StoreError::UnrelatedFile { .. })), "{error:?}");
    let spec = OpenSpec { overwrite: true, ..site.spec(&torrent) };
    site.open(&spec).check().assert_have(&[0, 1, 2, 3]).close();
    assert!(site.bytes("t/a").unwrap() == torrent.data);
}

/// A claimed file is not cut, because that would write to it.
#[test]
fn claimed_long_file_is_not_cut() {
    let site = on_disk();
    let first = torrent(&[("a", LENGTH + 100)], PIECE);
    let second = torrent_of(&[("a", LENGTH)], PIECE, first.data[..LENGTH].to_vec());
    let launch = launch_with(&site, &first, &[0, 1, 2, 3, 4]);
    let spec = OpenSpec { overwrite: true, ..site.spec(&second) };
    assert_refused(&site, &spec, &first);
    assert!(site.bytes("t/a").unwrap() == first.data);
    launch.close();
    // While the first is idle, the second gets a file of its own.
    finish(&site, site.open(&spec).check(), &second);
}
