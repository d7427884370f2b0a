//! The store on the real disk, through its public interface.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use common::*;
use piece_store::{
    CommitResult, HeldSpan, OpenSpec, Operation, OsDisk, SPAN_LENGTH, Span, StoreError,
    StoreLayout, Unrelated,
};

const PIECE: u32 = 32 * 1024;
/// Pieces 0 to 6: file a is pieces 0, 1 and a part of 2, b is inside piece 2, c is the rest.
const FILES: [(&str, usize); 4] =
    [("a", 70_000), ("sub/b", 9_000), ("empty", 0), ("sub/deep/c", 140_000)];

fn touch(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
}

fn all(torrent: &Torrent) -> Vec<u32> {
    (0..torrent.pieces()).collect()
}

#[test]
fn complete_download_survives_restart() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    let mut launch = open(&spec);
    assert_eq!((launch.to_verify(), launch.have()), (vec![], vec![]));
    launch = launch.check();
    launch.commit(&torrent, all(&torrent).into_iter().rev());
    launch.store.sync().unwrap();
    assert!(launch.store.durable().is_full());
    launch.store.close(5, 6, &[]).unwrap();
    torrent.assert_complete(&site.save);

    let launch = open(&spec);
    assert!(launch.opened.have.is_full() && launch.to_verify().is_empty());
    assert_eq!((launch.opened.uploaded, launch.opened.downloaded), (5, 6));
    assert!(launch.opened.free.is_some());
}

#[test]
fn bad_piece_is_not_written() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let mut launch = open(&site.spec(&torrent)).check();
    let mut spans = torrent.spans(0);
    spans[0].as_mut().unwrap()[20_000] ^= 1;
    let CommitResult::Mismatch { digests } = launch.commit_spans(torrent.piece(0), &mut spans)
    else {
        panic!("it is bad");
    };
    let good: Vec<_> = torrent.piece_data(0).chunks(16 * 1024).map(piece_hash::sha1).collect();
    assert_eq!(digests.len(), 2);
    assert!(digests[0] == good[0] && digests[1] != good[1]);
    assert!(launch.have().is_empty() && !site.save.join("t/a").exists());
    launch.commit(&torrent, [0]);
}

#[test]
fn good_piece_has_digests_on_request() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let launch = open(&torrent.spec(&site.save)).check();
    let result =
        launch.store.commit(torrent.piece(6), 0, &mut torrent.spans(6), None, true, &mut [0; 1]);
    let digests = torrent.piece_data(6).chunks(16 * 1024).map(piece_hash::sha1).collect();
    assert_eq!(result, Ok(CommitResult::Verified { digests: Some(digests) }));
}

#[test]
fn wrong_spans_are_refused() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let mut launch = open(&torrent.spec(&site.save)).check();
    let last = torrent.pieces() - 1;
    for mut spans in [vec![], vec![None], torrent.spans(last), vec![Some(Span::new(PIECE)), None]] {
        let result = launch.commit_spans(torrent.piece(0), &mut spans);
        assert!(
            matches!(result, CommitResult::Failed(StoreError::Spans { piece: 0, .. })),
            "{result:?}"
        );
    }
}

#[test]
fn unfinished_check_refuses_commits() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let mut launch = open(&torrent.spec(&site.save));
    assert_eq!(launch.try_commit(&torrent, 0), CommitResult::Failed(StoreError::NotChecked));
}

/// Kills a launch that has synced some pieces and then written others.
#[track_caller]
fn killed(torrent: &Torrent, spec: &OpenSpec, synced: &[u32], written: &[u32]) {
    let _launch = open(spec)
        .check()
        .with(torrent, synced.iter().copied())
        .synced()
        .with(torrent, written.iter().copied());
}

#[test]
fn kill_loses_no_piece() {
    let (torrent, _site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    killed(&torrent, &spec, &[0, 2], &[3, 5]);
    let launch = open(&spec).assert_found(&[0, 2], &[3, 5]).check().assert_have(&[0, 2, 3, 5]);
    // A second kill changes nothing.
    drop(launch);
    open(&spec).assert_found(&[0, 2], &[3, 5]);
}

#[test]
fn bad_piece_is_verified_once() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    killed(&torrent, &spec, &[0], &[1]);
    let file = OpenOptions::new().write(true).open(site.save.join("t/a")).unwrap();
    file.write_at(b"other", u64::from(PIECE)).unwrap();
    drop(open(&spec).check().assert_have(&[0]));
    assert_eq!(open(&spec).to_verify(), Vec::<u32>::new());
}

#[test]
fn touched_file_is_verified() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    open(&spec).check().with(&torrent, all(&torrent)).close();
    touch(&site.save.join("t/a"));
    drop(open(&spec).assert_found(&[3, 4, 5, 6], &[0, 1, 2]));
    // After a kill before the check, it must still be verified.
    let launch = open(&spec);
    assert_eq!(launch.to_verify(), [0, 1, 2]);
    assert!(launch.check().store.have().is_full());
}

#[test]
fn removed_or_cut_files_are_missing() {
    let torrent = torrent(&FILES, PIECE);
    for kill in [false, true] {
        let site = on_disk();
        let spec = site.spec(&torrent);
        open(&spec).check().with(&torrent, all(&torrent)).synced().end(!kill);
        site.remove("t/sub/b");
        site.cut("t/sub/deep/c", 100_000);
        // c starts at 79,000 and is cut at 179,000, in piece 5. After a kill the rest is durable.
        let (trusted, to_verify): (&[u32], &[u32]) =
            if kill { (&[0, 1, 3, 4], &[]) } else { (&[0, 1], &[3, 4]) };
        open(&spec).assert_found(trusted, to_verify).check().assert_have(&[0, 1, 3, 4]);
    }
}

#[test]
fn replaced_file_is_verified_after_kill() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    killed(&torrent, &spec, &[0, 1, 3], &[]);
    site.replace("t/a", &site.bytes("t/a").unwrap());
    open(&spec).assert_found(&[3], &[0, 1]).check().assert_have(&[0, 1, 3]);
}

#[test]
fn journal_is_for_one_folder() {
    let (root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    open(&torrent.with_state(&save, &state)).check().with(&torrent, [0, 1]).close();
    open(&torrent.with_state(&root.path().join("other"), &state)).assert_found(&[], &[]);
    // A folder is the same under another name.
    std::os::unix::fs::symlink(&save, root.path().join("link")).unwrap();
    let launch = open(&torrent.with_state(&root.path().join("link"), &state));
    assert_eq!(numbers(&launch.opened.have), [0, 1]);
}

#[test]
fn too_long_journal_is_not_read() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    open(&spec).check().with(&torrent, [0]).close();
    let file = OpenOptions::new().write(true).open(site.state_file("journal")).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    open(&spec).assert_found(&[], &[0]);
}

#[test]
fn without_resume_everything_is_verified() {
    let (torrent, _site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    open(&spec).check().with(&torrent, [0, 1]).close();
    open(&OpenSpec { resume: false, ..spec }).assert_found(&[], &[0, 1]);
}

#[test]
fn interrupted_check_starts_again() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    torrent.write(&site.save);
    let spec = site.spec(&torrent);
    for close in [false, true] {
        let launch = open(&spec);
        assert_eq!(launch.to_verify(), all(&torrent));
        assert_eq!(launch.verify(0..3), (vec![0, 1, 2], None));
        if close {
            launch.close();
        }
    }
    assert_eq!(open(&spec).to_verify(), all(&torrent));
}

#[test]
fn second_open_is_refused() {
    let (_torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    let first = open(&spec);
    let path = site.save.canonicalize().unwrap();
    let error = try_open(&spec).map(|_| ()).unwrap_err();
    assert_eq!(error, StoreError::InUse { path, pid: Some(std::process::id()) });
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
    first.check().close();
    open(&spec);
}

#[test]
fn idle_torrent_has_no_open_journal() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let mut launch = open(&site.spec(&torrent)).check();
    let is_open = |end: &str| {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let state = site.state.canonicalize().unwrap();
        let mut names = paths.filter(|path| path.starts_with(&state) && *path != state);
        names.any(|path| path.to_string_lossy().ends_with(end))
    };
    assert!(!is_open(".journal"));
    launch.commit(&torrent, [0]);
    assert!(is_open(".journal"), "while it has unsynced records");
    launch.store.sync().unwrap();
    assert!(!is_open(".journal"));
}

#[test]
fn boundary_bytes_go_to_parts_file() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    let only_a = some(&spec, &[true, false, false, false]);
    let mut launch = open(&only_a).check();
    assert_eq!(numbers(&launch.opened.wanted), [0, 1, 2]);
    launch.commit(&torrent, [0, 1, 2]);
    launch.assert_reads(&torrent, 2, 0, PIECE);
    launch.close();
    let names: Vec<_> = std::fs::read_dir(site.save.join("t"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["a"]);

    // With the same selection, all of it is there.
    open(&only_a).assert_found(&[0, 1, 2], &[]).check().close();
    // With everything selected, the boundary piece is there, although file b was missing.
    open(&spec).check().assert_have(&[0, 1, 2]).with(&torrent, 3..7).close();
    torrent.assert_complete(&site.save);
}

#[test]
fn file_from_parts_file_is_ours() {
    let (torrent, site, mut spec) = at(on_disk(), torrent(&[("a", 20_000), ("b", 40_000)], 16_384));
    spec.selected = Some(vec![true, false]);
    open(&spec).check().with(&torrent, [0, 1]).close();
    site.remove("t/a");
    spec.selected = None;
    // Killed before anything was verified.
    drop(open(&spec));
    open(&spec).check().assert_have(&[]).with(&torrent, all(&torrent)).close();
    torrent.assert_complete(&site.save);
}

#[test]
fn returned_file_is_not_overwritten() {
    let (torrent, site, mut spec) =
        at(on_disk(), torrent(&[("a", 20_000), ("b", 20_000), ("c", 20_000)], 16_384));
    spec.selected = Some(vec![true, true, false]);
    drop(open(&spec).check().with(&torrent, [0, 1, 2]).synced());
    // After a kill the file is replaced by a copy. Then a launch is killed before its check.
    site.replace("t/b", &site.bytes("t/b").unwrap());
    drop(open(&spec));
    let _launch = open(&spec).check().assert_have(&[0, 1, 2]);
    assert!(site.bytes("t/b").unwrap() == torrent.file_data(1));
}

#[test]
fn killed_import_is_finished_later() {
    let torrent = torrent(&[("a", 20_000), ("b", 40_000)], 16_384);
    for between in [Some((false, Some(vec![true, false]))), Some((true, None)), None] {
        let site = on_disk();
        let spec = site.spec(&torrent);
        let only_a = some(&spec, &[true, false]);
        open(&only_a).check().with(&torrent, [0, 1]).close();
        drop(open(&spec).check());
        // As if the import had been interrupted.
        site.cut("t/b", 100);
        if let Some((seed_only, selected)) = between {
            let mut launch = open(&OpenSpec { seed_only, selected, ..spec.clone() })
                .check()
                .assert_have(&[0, 1]);
            launch.assert_reads(&torrent, 1, 0, 16_384);
            launch.close();
        }
        open(&spec).check().assert_have(&[0, 1]).with(&torrent, [2, 3]).close();
        torrent.assert_complete(&site.save);
    }
}

#[test]
fn boundary_bytes_without_journal_are_temporary() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let spec = some(&torrent.spec(&site.save), &[false, true, false, false]);
    let mut launch = open(&spec).check().with(&torrent, [2]);
    launch.assert_reads(&torrent, 2, 100, 30_000);
    launch.close();
    assert_eq!(std::fs::read_dir(&site.save).unwrap().count(), 1);
    assert_eq!(open(&OpenSpec { seed_only: true, ..spec }).check().have(), Vec::<u32>::new());
}

#[test]
fn existing_unselected_file_is_used() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    torrent.write_file(&site.save, 3);
    let only_a = some(&site.spec(&torrent), &[true, false, false, false]);
    let launch = open(&only_a).check().assert_have(&[3, 4, 5, 6]).with(&torrent, [0, 1, 2]);
    assert!(launch.store.have().is_full());
}

#[test]
fn unselected_user_file_is_untouched() {
    let torrent = torrent(&FILES, PIECE);
    // Unrelated bytes; too few or too many of them; the torrent's bytes and more.
    let more = [torrent.file_data(1), b"notes"].concat();
    let user_files = [noise(9_000, 7), b"the user's own".to_vec(), noise(9_001, 7), more];
    for (user_bytes, overwrite) in user_files.iter().flat_map(|user| [(user, false), (user, true)])
    {
        let site = on_disk();
        // A good file beside it does not make the user's file a part of the torrent.
        torrent.write_file(&site.save, 3);
        site.write("t/sub/b", user_bytes);
        let spec = some(&site.spec(&torrent), &[true, false, true, true]);
        let spec = OpenSpec { overwrite, ..spec };
        for number in 0..3 {
            let launch = open(&spec);
            let is_full = launch.opened.have.is_full();
            assert!(number == 0 || is_full, "the bytes stay in the parts file");
            let mut launch = launch.check();
            launch.commit_missing(&torrent);
            launch.assert_reads(&torrent, 2, 0, PIECE);
            launch.close();
            assert!(site.bytes("t/sub/b").unwrap() == *user_bytes, "overwrite: {overwrite}");
        }
    }
}

#[test]
fn holes_are_zeros() {
    let site = on_disk();
    let mut data = vec![0; 10 * PIECE as usize + 5];
    data[PIECE as usize * 4] = 1;
    let torrent = torrent_of(&[("a", data.len())], PIECE, data);
    drop(open(&torrent.spec(&site.save)).check().with(&torrent, [4]));
    site.cut("t/a", torrent.data.len() as u64);
    let launch = open(&torrent.spec(&site.save)).check();
    assert!(launch.store.have().is_full());
}

/// Two files with padding of the given length between them.
fn padded(first: usize, pad: usize, last: usize, piece_length: usize) -> Torrent {
    let mut data = noise(first + pad + last, 3);
    data[first..][..pad].fill(0);
    let hashes = data.chunks(piece_length).flat_map(|piece| piece_hash::sha1(piece).0);
    let hashes: Vec<u8> = hashes.collect();
    let mut raw = format!(
        "d4:infod5:filesld6:lengthi{first}e4:pathl1:aeed4:attr1:p6:lengthi{pad}e4:pathl4:.pad1:0ee\
        d6:lengthi{last}e4:pathl1:beee4:name1:t12:piece lengthi{piece_length}e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    raw.extend(hashes);
    raw.extend(b"ee");
    Torrent { metainfo: Arc::new(metainfo::Metainfo::parse(raw).unwrap()), data }
}

#[test]
fn padding_is_zero_and_not_stored() {
    let (torrent, site) = (padded(20_000, 12_768, 16_384, 16_384), on_disk());
    let spec = site.spec(&torrent);
    let mut launch = open(&spec).check().with(&torrent, 0..3);
    launch.assert_reads(&torrent, 1, 0, 16_384);
    launch.close();
    assert!(!site.save.join("t/.pad").exists());
    assert!(open(&spec).opened.have.is_full());
    assert!(open(&torrent.spec(&site.save)).check().store.have().is_full());
}

#[test]
fn long_padding_has_several_extents() {
    let (pad, piece) = (100_000..100_000 + (300 << 10), 512 << 10);
    let (torrent, site) = (padded(pad.start, pad.len(), piece - pad.end, piece), on_disk());
    let mut launch = open(&site.spec(&torrent)).check().with(&torrent, [0]);
    for range in [0..piece, pad.clone(), 256 << 10..piece, pad.end - 1..pad.end] {
        let extents = launch.read(&torrent, 0, range.start as u32, range.len() as u32).unwrap();
        let there = |extent: &piece_store::Extent| {
            extent.offset + u64::from(extent.length) <= extent.file.metadata().unwrap().len()
        };
        assert!(extents.iter().all(there), "an extent goes past the end of its file");
        assert!(bytes_of(&extents) == torrent.data[range]);
    }
}

/// Returns how the check judges file `index` with `bytes`, beside a complete file `good`.
#[track_caller]
fn unrelated(index: usize, bytes: &[u8], good: Option<usize>) -> Option<Unrelated> {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    good.into_iter().for_each(|index| torrent.write_file(&site.save, index));
    let path = site.save.join(torrent.metainfo.info().file(index).unwrap().disk_path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let spec = site.spec(&torrent);
    let checked = open(&spec).try_check().map(|_| ());
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was written to");
    let mut launch = open(&OpenSpec { overwrite: true, ..spec }).check();
    launch.commit_missing(&torrent);
    launch.close();
    assert!(std::fs::read(&path).unwrap() == torrent.file_data(index), "wrong bytes");
    match checked {
        Ok(()) => None,
        Err(StoreError::UnrelatedFile { path: named, reason }) => {
            assert_eq!(named, path.canonicalize().unwrap());
            Some(reason)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn unrelated_files_stop_the_download() {
    let noise = noise(150_000, 77);
    let mine = torrent(&FILES, PIECE);
    let longer = [mine.file_data(0), b"and more"].concat();
    let too_long = Unrelated::TooLong { expected: 70_000, got: 70_008 };
    assert_eq!(unrelated(0, &longer, None), Some(too_long));
    assert_eq!(unrelated(0, &noise[..70_000], None), Some(Unrelated::NothingVerifies));
    assert_eq!(unrelated(0, &noise[..70_000], Some(3)), Some(Unrelated::NothingVerifies));
    assert_eq!(unrelated(1, &noise[..9_000], None), Some(Unrelated::NothingVerifies));
    assert_eq!(unrelated(1, &noise[..9_000], Some(3)), None, "another file verifies");
    assert_eq!(unrelated(0, &mine.file_data(0)[..40_000], None), None, "a piece of it verifies");
    for nothing in [&[][..], &[0; 70_000], &[0; 100]] {
        assert_eq!(unrelated(0, nothing, None), None, "empty and zero files may be overwritten");
    }
}

#[test]
fn own_file_survives_early_kill() {
    let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
    let launch = open(&spec).check();
    let span = torrent.spans(0)[0].clone().unwrap();
    launch.store.stage(torrent.piece(0), 0, 0, &span, 0b10).unwrap();
    drop(launch);
    let _launch = open(&spec).check().with(&torrent, all(&torrent));
    torrent.assert_complete(&site.save);
}

#[test]
fn download_refuses_symbolic_links() {
    let torrent = torrent(&FILES, PIECE);
    for link in ["t", "t/sub", "t/sub/b"] {
        let (root, save, state) = folders();
        let outside = root.path().join("outside");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("file"), b"precious").unwrap();
        let link = save.join(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        let target = if link.ends_with("b") { outside.join("file") } else { outside.clone() };
        std::os::unix::fs::symlink(target, &link).unwrap();
        let opened = try_open(&torrent.with_state(&save, &state));
        let error = opened.and_then(Launch::try_check).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"precious");
    }
}

#[test]
fn folder_instead_of_file_is_named() {
    let site = on_disk();
    std::fs::create_dir_all(site.save.join("t/a")).unwrap();
    let error = try_open(&torrent(&FILES, PIECE).spec(&site.save)).map(|_| ()).unwrap_err();
    let StoreError::Disk { path, kind, .. } = error else { panic!("{error}") };
    assert_eq!((path.ends_with("t/a"), kind), (true, std::io::ErrorKind::IsADirectory));
}

#[test]
fn folder_below_file_is_refused() {
    let (root, _, _) = folders();
    std::fs::write(root.path().join("file"), b"").unwrap();
    let spec = torrent(&FILES, PIECE).spec(&root.path().join("file/save"));
    let error = try_open(&spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Disk { operation: Operation::OpenFolder, .. }), "{error}");
}

#[test]
fn seed_only_writes_nothing() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let spec = OpenSpec { seed_only: true, ..torrent.spec(&site.save) };
    assert!(try_open(&spec).is_err(), "the folder was created");
    torrent.write_file(&site.save, 3);
    let mut launch = open(&spec).check().assert_have(&[3, 4, 5, 6]);
    assert_eq!(launch.try_commit(&torrent, 0), CommitResult::Failed(StoreError::SeedOnly));
    launch.assert_reads(&torrent, 3, 0, 10_000);
    launch.close();
    assert!(!site.save.join("t/empty").exists() && !site.save.join("t/a").exists());
}

#[test]
fn seed_only_reads_parts_file() {
    for empty_file in [false, true] {
        let (torrent, site, spec) = at(on_disk(), torrent(&FILES, PIECE));
        let only_a = some(&spec, &[true, false, false, false]);
        open(&only_a).check().with(&torrent, [0, 1, 2]).close();
        if empty_file {
            site.write("t/sub/b", b"");
        }
        let serving = OpenSpec { seed_only: true, ..spec };
        let mut launch = open(&serving).check().assert_have(&[0, 1, 2]);
        launch.assert_reads(&torrent, 2, 0, PIECE);
        launch.close();
        assert_eq!(site.save.join("t/sub/b").exists(), empty_file);
        assert_eq!(open(&only_a).check().have(), [0, 1, 2]);
    }
}

#[test]
fn seed_only_adopts_no_user_file() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    torrent.write_file(&site.save, 3);
    let user_files = [site.save.join("t/a"), site.save.join("t/sub/b")];
    user_files.iter().for_each(|path| std::fs::write(path, b"the user's own").unwrap());
    let spec = site.spec(&torrent);
    // A seed-only launch never overwrites.
    for overwrite in [false, true] {
        open(&OpenSpec { seed_only: true, overwrite, ..spec.clone() })
            .check()
            .assert_have(&[3, 4, 5, 6])
            .close();
    }
    let path = user_files[0].clone();
    let unrelated = StoreError::UnrelatedFile { path, reason: Unrelated::NothingVerifies };
    assert_eq!(open(&spec).try_check().map(|_| ()), Err(unrelated));
    // Unselected files are not adopted either.
    open(&some(&spec, &[false, false, true, true])).check().with(&torrent, [2]).close();
    user_files.iter().for_each(|path| assert_eq!(std::fs::read(path).unwrap(), b"the user's own"));
}

#[test]
fn missing_piece_is_not_read() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let mut launch = open(&torrent.spec(&site.save)).check();
    assert_eq!(launch.read(&torrent, 2, 0, 16).map(|_| ()), Err(StoreError::Missing { piece: 2 }));
    launch.commit(&torrent, [2]);
    let extents = launch.read(&torrent, 2, 0, PIECE).unwrap();
    assert_eq!(extents.len(), 3, "a, b and c");
    assert!(bytes_of(&extents) == torrent.piece_data(2));
    site.remove("t/sub/b");
    site.cut("t/a", 0);
    let error = launch.read(&torrent, 2, 0, PIECE).map(|_| ()).unwrap_err();
    let StoreError::Disk { operation, path, .. } = error else { panic!("{error}") };
    assert_eq!((operation, path.ends_with("t/a")), (Operation::Read, true));
}

#[test]
fn single_piece_becomes_a_file() {
    let (root, _, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let output = root.path().join("piece");
    let layout = StoreLayout::SinglePiece { piece: torrent.piece(2), output: output.clone() };
    let spec = OpenSpec { layout, ..torrent.spec(Path::new("/nowhere")) };
    let names = || std::fs::read_dir(root.path()).unwrap().count();

    let launch = open(&spec).check();
    assert!(matches!(try_open(&spec).map(|_| ()), Err(StoreError::InUse { .. })));
    launch.close();
    assert_eq!(names(), 0, "an unfinished piece leaves no file");

    std::fs::write(root.path().join(".piece.part"), vec![1; 100_000]).unwrap();
    let mut launch = open(&spec).check();
    assert_eq!(numbers(&launch.opened.wanted), [2]);
    let mut bad = torrent.spans(2);
    bad[0].as_mut().unwrap()[0] ^= 1;
    assert!(matches!(
        launch.commit_spans(torrent.piece(2), &mut bad),
        CommitResult::Mismatch { .. }
    ));
    launch.commit(&torrent, [2]);
    assert!(!output.exists(), "not before it is synced");
    launch.assert_reads(&torrent, 2, 5, 100);
    launch.store.sync().unwrap();
    assert!(std::fs::read(&output).unwrap() == torrent.piece_data(2));
    launch.close();
    assert_eq!(names(), 1);
}

#[test]
fn spans_are_staged_in_any_order() {
    let site = on_disk();
    // Pieces of five spans, the last short.
    let length = 4 * piece_store::SPAN_LENGTH + 20_000;
    let torrent = torrent(&[("a", 1_000_000), ("b", 1_200_000)], length);
    let mut launch = open(&torrent.spec(&site.save)).check();
    for (piece, order) in [(0, [0usize, 1, 2, 3, 4]), (1, [4, 0, 2, 1, 3])] {
        let mut spans = torrent.spans(piece);
        for (count, index) in order.into_iter().enumerate() {
            let span = spans[index].take().unwrap();
            launch.store.stage(torrent.piece(piece), 0, index as u32, &span, u16::MAX).unwrap();
            if piece == 1 && count == 2 {
                break;
            }
        }
        assert!(!launch.have().contains(&piece));
        let result = launch.commit_spans(torrent.piece(piece), &mut spans);
        assert_eq!(result, CommitResult::Verified { digests: None });
    }
    launch.commit(&torrent, [2]);
    torrent.assert_complete(&site.save);
    let span = torrent.spans(0)[0].clone().unwrap();
    let again = launch.store.stage(torrent.piece(0), 0, 0, &span, 1);
    assert_eq!(again, Err(StoreError::AlreadyComplete { piece: 0 }));
}

/// A launch of a torrent of one piece of three spans.
fn one_piece() -> (Torrent, Site<OsDisk>, Launch<OsDisk>) {
    let (torrent, site) = (torrent(&[("a", 600_000)], 600_000), on_disk());
    let launch = open(&torrent.spec(&site.save)).check();
    (torrent, site, launch)
}

#[test]
fn span_staged_twice_is_hashed_again() {
    let (torrent, _site, mut launch) = one_piece();
    let piece = torrent.piece(0);
    let stage = |index: usize, blocks, change| {
        let mut span = torrent.spans(0)[index].take().unwrap();
        span[0] ^= change;
        launch.store.stage(piece, 0, index as u32, &span, blocks).unwrap();
    };
    (0..3).for_each(|index| stage(index, u16::MAX, 0));
    // One block of the first span is staged again, wrong.
    stage(0, 1, 1);
    let result = launch.commit_spans(piece, &mut [None, None, None]);
    assert!(matches!(result, CommitResult::Mismatch { .. }), "{result:?}");
}

#[test]
fn late_stage_of_old_attempt_is_discarded() {
    let (torrent, site, mut launch) = one_piece();
    let piece = torrent.piece(0);
    let mut spans = torrent.spans(0);
    launch.store.stage(piece, 1, 0, spans[0].as_ref().unwrap(), u16::MAX).unwrap();
    let mut bad = spans[0].take().unwrap();
    bad[7] ^= 1;
    launch.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    assert_eq!(launch.commit_as(piece, 1, &mut spans), CommitResult::Verified { digests: None });
    torrent.assert_complete(&site.save);
}

#[test]
fn removed_file_is_not_in_parts() {
    for clean in [true, false] {
        let (torrent, site, mut spec) =
            at(on_disk(), torrent(&[("a", 20_000), ("b", 3_000), ("c", 22_000)], 16_384));
        open(&spec).check().with(&torrent, [0]).close();
        // Only the last file is selected. The bytes of `b` in its first piece go to the parts file.
        spec.selected = Some(vec![false, false, true]);
        open(&spec).check().with(&torrent, [1]).synced().end(clean);
        site.remove("t/a");
        let launch = open(&spec).check();
        assert!(launch.have().is_empty(), "{:?}", launch.have());
    }
}

#[test]
fn bad_staged_span_is_found() {
    let (torrent, site, mut launch) = one_piece();
    let piece = torrent.piece(0);
    let mut spans = torrent.spans(0);
    let mut bad = spans[0].take().unwrap();
    bad[3 * 16_384] ^= 1;
    launch.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    let CommitResult::Mismatch { digests } = launch.commit_spans(piece, &mut spans) else {
        panic!()
    };
    let good: Vec<_> = torrent.data.chunks(16_384).map(piece_hash::sha1).collect();
    let differ: Vec<usize> = (0..good.len()).filter(|at| good[*at] != digests[*at]).collect();
    assert_eq!(differ, [3]);
    let result = launch.commit_spans(piece, &mut spans);
    assert!(
        matches!(result, CommitResult::Failed(StoreError::Spans { .. })),
        "the staged span is forgotten"
    );
    // The first span is staged again, twice.
    let first = torrent.spans(0)[0].clone().unwrap();
    launch.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    launch.store.stage(piece, 0, 0, &first, u16::MAX).unwrap();
    assert_eq!(launch.commit_spans(piece, &mut spans), CommitResult::Verified { digests: None });
    torrent.assert_complete(&site.save);
}

#[test]
fn earlier_attempt_is_never_mixed_in() {
    let (torrent, site, mut launch) = one_piece();
    let piece = torrent.piece(0);
    let wrong = Span::new(SPAN_LENGTH);
    launch.store.stage(piece, 0, 0, &wrong, u16::MAX).unwrap();
    // The second attempt has every span in memory. A job of the first attempt comes late.
    let good = torrent.spans(0)[1].clone().unwrap();
    launch.store.stage(piece, 1, 1, &good, u16::MAX).unwrap();
    launch.store.stage(piece, 0, 0, &wrong, u16::MAX).unwrap();
    let result = launch.commit_as(piece, 1, &mut torrent.spans(0));
    assert_eq!(result, CommitResult::Verified { digests: None });
    torrent.assert_complete(&site.save);
}

#[test]
fn unfinished_blocks_survive_clean_shutdown() {
    let (torrent, _site, spec) = at(on_disk(), torrent(&[("a", 300_000), ("b", 700_000)], 500_000));
    let launch = open(&spec).check();
    let piece = torrent.piece(0);
    let span = |index: usize| torrent.spans(0)[index].clone().unwrap();
    // The second span of piece 0 has 237 856 bytes: 15 blocks.
    launch.store.stage(piece, 0, 1, &span(1), 0b1).unwrap();
    let held =
        HeldSpan { piece, attempt: 0, span_index: 0, blocks: 0b1000_0000_0000_0101, span: span(0) };
    let more =
        HeldSpan { piece, attempt: 0, span_index: 1, blocks: 0b0100_0000_0000_0000, span: span(1) };
    launch.store.close(1, 2, &[held, more]).unwrap();

    let mut launch = open(&spec).check();
    assert_eq!(launch.opened.unfinished, [(piece, vec![0, 2, 15, 16, 30])]);
    // Only the other blocks are downloaded.
    let mut spans = torrent.spans(0);
    for block in [0usize, 2, 15] {
        spans[0].as_mut().unwrap()[block * 16_384..][..16_384].fill(0xee);
    }
    spans[1].as_mut().unwrap()[..16_384].fill(0xee);
    spans[1].as_mut().unwrap()[14 * 16_384..].fill(0xee);
    assert_eq!(launch.commit_spans(piece, &mut spans), CommitResult::Verified { digests: None });
    drop(launch);
    assert!(open(&spec).opened.unfinished.is_empty());
}

#[test]
fn staged_parts_blocks_are_fetched_again() {
    let (torrent, _site, mut spec) =
        at(on_disk(), torrent(&[("a", 20_000), ("b", 60_000)], 40_000));
    spec.selected = Some(vec![true, false]);
    let launch = open(&spec).check();
    let (piece, span) = (torrent.piece(0), torrent.spans(0)[0].clone().unwrap());
    launch.store.stage(piece, 0, 0, &span, 0b110).unwrap();
    launch.store.close(0, 0, &[]).unwrap();
    spec.selected = None;
    let launch = open(&spec);
    assert!(launch.opened.unfinished.is_empty(), "they are not in the file");
}

#[test]
fn interrupted_check_of_unselected_file() {
    let (torrent, site) =
        (torrent(&[("a", 20_000), ("b", 3_000), ("c", 40_000)], 16_384), on_disk());
    torrent.write(&site.save);
    let mut spec = site.spec(&torrent);
    spec.selected = Some(vec![false, true, false]);
    let launch = open(&spec);
    // A piece of an unselected file.
    assert_eq!(launch.verify(2..3), (vec![2], None));
    drop(launch);
    let have = open(&spec).check().have();
    assert!(have.contains(&1), "the selected file's piece is missing: {have:?}");
}

#[test]
fn changed_file_drops_staged_blocks() {
    for change in [|path: &Path| touch(path), |path: &Path| std::fs::remove_file(path).unwrap()] {
        let (torrent, site, spec) = at(on_disk(), torrent(&[("a", 300_000)], 300_000));
        let launch = open(&spec).check();
        let span = torrent.spans(0)[0].clone().unwrap();
        let held = HeldSpan { piece: torrent.piece(0), attempt: 0, span_index: 0, blocks: 1, span };
        launch.store.close(0, 0, &[held]).unwrap();
        change(&site.save.join("t/a"));
        assert!(open(&spec).opened.unfinished.is_empty());
    }
}

#[test]
fn preallocation_reserves_space() {
    let (torrent, site) = (torrent(&FILES, PIECE), on_disk());
    let spec = OpenSpec { preallocate: true, ..torrent.spec(&site.save) };
    let mut launch = open(&spec).check();
    for (index, (name, length)) in FILES.iter().enumerate() {
        let got = std::fs::metadata(site.save.join("t").join(name)).unwrap().len();
        assert_eq!(got, *length as u64, "file {index}");
    }
    launch.commit(&torrent, [1]);
    drop(launch);
    // Without a journal, preallocated files are not unrelated.
    assert_eq!(open(&spec).check().have(), [1]);
}

#[test]
fn many_files_in_one_piece() {
    let site = on_disk();
    let names: Vec<String> = (0..600).map(|number| format!("{}/{number}", number % 7)).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let torrent = torrent(&files, 50_000);
    let spec = site.spec(&torrent);
    drop(open(&spec).check().with(&torrent, [0, 1]).synced());
    assert!(open(&spec).opened.have.is_full());
    torrent.assert_complete(&site.save);
}
