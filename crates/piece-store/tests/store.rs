//! The store on the real disk, through its public interface.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::*;
use piece_store::{
    CommitResult, HeldSpan, OpenSpec, Operation, SPAN_LENGTH, STRIP_LENGTH, Span, StoreError,
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
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let mut launch = open(&spec);
    assert_eq!((launch.to_verify(), launch.have()), (vec![], vec![]));
    launch = launch.check();
    launch.commit(&torrent, all(&torrent).into_iter().rev());
    launch.store.sync().unwrap();
    assert!(launch.store.durable().is_full());
    launch.store.close(5, 6, &[]).unwrap();
    torrent.assert_complete(&save);

    let launch = open(&spec);
    assert!(launch.opened.have.is_full() && launch.to_verify().is_empty());
    assert_eq!((launch.opened.uploaded, launch.opened.downloaded), (5, 6));
    assert!(launch.opened.free.is_some());
}

#[test]
fn bad_piece_is_not_written() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut launch = open(&torrent.with_state(&save, &state)).check();
    let mut spans = torrent.spans(0);
    spans[0].as_mut().unwrap()[20_000] ^= 1;
    let CommitResult::Mismatch { digests } = launch.commit_spans(torrent.piece(0), &mut spans)
    else {
        panic!("it is bad");
    };
    let good: Vec<_> = torrent.piece_data(0).chunks(16 * 1024).map(piece_hash::sha1).collect();
    assert_eq!(digests.len(), 2);
    assert!(digests[0] == good[0] && digests[1] != good[1]);
    assert!(launch.have().is_empty() && !save.join("t/a").exists());
    launch.commit(&torrent, [0]);
}

#[test]
fn good_piece_has_digests_on_request() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let launch = open(&torrent.spec(&save)).check();
    let result =
        launch.store.commit(torrent.piece(6), 0, &mut torrent.spans(6), None, true, &mut [0; 1]);
    let digests = torrent.piece_data(6).chunks(16 * 1024).map(piece_hash::sha1).collect();
    assert_eq!(result, CommitResult::Verified { digests: Some(digests) });
}

#[test]
fn wrong_spans_are_refused() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut launch = open(&torrent.spec(&save)).check();
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
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut launch = open(&torrent.spec(&save));
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
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    killed(&torrent, &spec, &[0, 2], &[3, 5]);
    let launch = open(&spec);
    assert_eq!(launch.found(), (vec![0, 2], vec![3, 5]));
    let launch = launch.check().assert_have(&[0, 2, 3, 5]);
    // A second kill changes nothing.
    drop(launch);
    let launch = open(&spec);
    assert_eq!(launch.found(), (vec![0, 2], vec![3, 5]));
}

#[test]
fn bad_piece_is_verified_once() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    killed(&torrent, &spec, &[0], &[1]);
    let file = OpenOptions::new().write(true).open(save.join("t/a")).unwrap();
    file.write_at(b"other", u64::from(PIECE)).unwrap();
    drop(open(&spec).check().assert_have(&[0]));
    assert_eq!(open(&spec).to_verify(), Vec::<u32>::new());
}

#[test]
fn touched_file_is_verified() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    open(&spec).check().with(&torrent, all(&torrent)).close();
    touch(&save.join("t/a"));
    let launch = open(&spec);
    assert_eq!(launch.found(), (vec![3, 4, 5, 6], vec![0, 1, 2]));
    drop(launch);
    // After a kill before the check, it must still be verified.
    let launch = open(&spec);
    assert_eq!(launch.to_verify(), [0, 1, 2]);
    assert!(launch.check().store.have().is_full());
}

#[test]
fn removed_or_cut_files_are_missing() {
    let torrent = torrent(&FILES, PIECE);
    for kill in [false, true] {
        let (_root, save, state) = folders();
        let spec = torrent.with_state(&save, &state);
        open(&spec).check().with(&torrent, all(&torrent)).synced().end(!kill);
        std::fs::remove_file(save.join("t/sub/b")).unwrap();
        let file = OpenOptions::new().write(true).open(save.join("t/sub/deep/c")).unwrap();
        file.set_len(100_000).unwrap();
        let launch = open(&spec);
        let durable: Vec<u32> = launch.opened.have.iter().collect();
        // c starts at 79,000 and is cut at 179,000, in piece 5. After a kill the rest is durable.
        let expected = if kill { (vec![0, 1, 3, 4], vec![]) } else { (vec![0, 1], vec![3, 4]) };
        assert_eq!((durable, launch.to_verify()), expected);
        assert_eq!(launch.check().have(), [0, 1, 3, 4]);
    }
}

#[test]
fn replaced_file_is_verified_after_kill() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    killed(&torrent, &spec, &[0, 1, 3], &[]);
    let path = save.join("t/a");
    std::fs::copy(&path, save.join("copy")).unwrap();
    std::fs::rename(save.join("copy"), &path).unwrap();
    let launch = open(&spec);
    assert_eq!(launch.found(), (vec![3], vec![0, 1]));
    assert_eq!(launch.check().have(), [0, 1, 3]);
}

#[test]
fn journal_is_for_one_folder() {
    let (root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    open(&torrent.with_state(&save, &state)).check().with(&torrent, [0, 1]).close();
    let launch = open(&torrent.with_state(&root.path().join("other"), &state));
    assert_eq!(launch.found(), (vec![], vec![]));
    // A folder is the same under another name.
    std::os::unix::fs::symlink(&save, root.path().join("link")).unwrap();
    let launch = open(&torrent.with_state(&root.path().join("link"), &state));
    assert_eq!(numbers(&launch.opened.have), [0, 1]);
}

#[test]
fn too_long_journal_is_not_read() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    open(&spec).check().with(&torrent, [0]).close();
    let entries = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let journal = entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "journal"));
    let file = OpenOptions::new().write(true).open(journal.unwrap()).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    let launch = open(&spec);
    assert_eq!(launch.found(), (vec![], vec![0]));
}

#[test]
fn without_resume_everything_is_verified() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    open(&spec).check().with(&torrent, [0, 1]).close();
    let launch = open(&OpenSpec { resume: false, ..spec });
    assert_eq!(launch.found(), (vec![], vec![0, 1]));
}

#[test]
fn interrupted_check_starts_again() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    torrent.write(&save);
    let spec = torrent.with_state(&save, &state);
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
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let first = open(&spec);
    let path = save.canonicalize().unwrap();
    let error = try_open(&spec).map(|_| ()).unwrap_err();
    assert_eq!(error, StoreError::InUse { path, pid: Some(std::process::id()) });
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
    first.check().close();
    open(&spec);
}

#[test]
fn idle_torrent_has_no_open_journal() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut launch = open(&torrent.with_state(&save, &state)).check();
    let is_open = |end: &str| {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let state = state.canonicalize().unwrap();
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
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let only_a = OpenSpec { selected: Some(vec![true, false, false, false]), ..spec.clone() };
    let mut launch = open(&only_a).check();
    assert_eq!(numbers(&launch.opened.wanted), [0, 1, 2]);
    launch.commit(&torrent, [0, 1, 2]);
    let got = bytes_of(&launch.read(&torrent, 2, 0, PIECE).unwrap());
    assert!(got == torrent.piece_data(2));
    launch.close();
    let names: Vec<_> = std::fs::read_dir(save.join("t"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["a"]);

    // With the same selection, all of it is there.
    let launch = open(&only_a);
    assert_eq!(launch.found(), (vec![0, 1, 2], vec![]));
    launch.check().close();
    // With everything selected, the boundary piece is there, although file b was missing.
    open(&spec).check().assert_have(&[0, 1, 2]).with(&torrent, 3..7).close();
    torrent.assert_complete(&save);
}

#[test]
fn file_from_parts_file_is_ours() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 40_000)], 16_384);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![true, false]);
    open(&spec).check().with(&torrent, [0, 1]).close();
    std::fs::remove_file(save.join("t/a")).unwrap();
    spec.selected = None;
    // Killed before anything was verified.
    drop(open(&spec));
    open(&spec).check().assert_have(&[]).with(&torrent, all(&torrent)).close();
    torrent.assert_complete(&save);
}

#[test]
fn returned_file_is_not_overwritten() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 20_000), ("c", 20_000)], 16_384);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![true, true, false]);
    let launch = open(&spec).check().with(&torrent, [0, 1, 2]).synced();
    // After a kill the file is replaced by a copy. Then a launch is killed before its check.
    drop(launch);
    let path = save.join("t/b");
    std::fs::copy(&path, save.join("t/new")).unwrap();
    std::fs::rename(save.join("t/new"), &path).unwrap();
    drop(open(&spec));
    let launch = open(&spec).check();
    assert!(std::fs::read(&path).unwrap() == torrent.file_data(1));
    assert_eq!(launch.have(), [0, 1, 2]);
}

#[test]
fn killed_import_is_finished_later() {
    let torrent = torrent(&[("a", 20_000), ("b", 40_000)], 16_384);
    for between in [Some((false, Some(vec![true, false]))), Some((true, None)), None] {
        let (_root, save, state) = folders();
        let spec = torrent.with_state(&save, &state);
        let only_a = OpenSpec { selected: Some(vec![true, false]), ..spec.clone() };
        open(&only_a).check().with(&torrent, [0, 1]).close();
        drop(open(&spec).check());
        // As if the import had been interrupted.
        OpenOptions::new().write(true).open(save.join("t/b")).unwrap().set_len(100).unwrap();
        if let Some((seed_only, selected)) = between {
            let mut launch = open(&OpenSpec { seed_only, selected, ..spec.clone() })
                .check()
                .assert_have(&[0, 1]);
            assert!(
                bytes_of(&launch.read(&torrent, 1, 0, 16_384).unwrap()) == torrent.piece_data(1)
            );
            launch.close();
        }
        open(&spec).check().assert_have(&[0, 1]).with(&torrent, [2, 3]).close();
        torrent.assert_complete(&save);
    }
}

#[test]
fn boundary_bytes_without_journal_are_temporary() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = OpenSpec { selected: Some(vec![false, true, false, false]), ..torrent.spec(&save) };
    let mut launch = open(&spec).check().with(&torrent, [2]);
    assert!(
        bytes_of(&launch.read(&torrent, 2, 100, 30_000).unwrap())
            == torrent.piece_data(2)[100..30_100]
    );
    launch.close();
    assert_eq!(std::fs::read_dir(&save).unwrap().count(), 1);
    assert_eq!(open(&OpenSpec { seed_only: true, ..spec }).check().have(), Vec::<u32>::new());
}

#[test]
fn existing_unselected_file_is_used() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    torrent.write_file(&save, 3);
    let only_a = OpenSpec {
        selected: Some(vec![true, false, false, false]),
        ..torrent.with_state(&save, &state)
    };
    let launch = open(&only_a).check().assert_have(&[3, 4, 5, 6]).with(&torrent, [0, 1, 2]);
    assert!(launch.store.have().is_full());
}

#[test]
fn unselected_user_file_is_untouched() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    std::fs::create_dir_all(save.join("t/sub")).unwrap();
    std::fs::write(save.join("t/sub/b"), b"the user's own").unwrap();
    let spec = OpenSpec {
        selected: Some(vec![true, false, true, true]),
        ..torrent.with_state(&save, &state)
    };
    open(&spec).check().with(&torrent, all(&torrent)).close();
    assert_eq!(std::fs::read(save.join("t/sub/b")).unwrap(), b"the user's own");
    let launch = open(&spec);
    assert!(launch.opened.have.is_full(), "the bytes stay in the parts file");
    drop(launch.check());
    assert!(open(&spec).opened.have.is_full());
    assert_eq!(std::fs::read(save.join("t/sub/b")).unwrap(), b"the user's own");
}

#[test]
fn any_unselected_user_file_is_untouched() {
    let torrent = torrent(&FILES, PIECE);
    // Unrelated bytes; too many of them; the torrent's bytes and more.
    let user_files = [noise(9_000, 7), noise(9_001, 7), [torrent.file_data(1), b"notes"].concat()];
    for (user_bytes, overwrite) in
        user_files.iter().flat_map(|user_bytes| [(user_bytes, false), (user_bytes, true)])
    {
        let (_root, save, state) = folders();
        // A good file beside it does not make the user's file a part of the torrent.
        torrent.write_file(&save, 3);
        let path = save.join("t/sub/b");
        std::fs::write(&path, user_bytes).unwrap();
        let selected = Some(vec![true, false, true, true]);
        let spec = OpenSpec { selected, overwrite, ..torrent.with_state(&save, &state) };
        for _ in 0..2 {
            let mut launch = open(&spec).check();
            launch.commit_missing(&torrent);
            let got = bytes_of(&launch.read(&torrent, 2, 0, PIECE).unwrap());
            assert!(got == torrent.piece_data(2));
            launch.close();
            assert!(std::fs::read(&path).unwrap() == *user_bytes, "overwrite: {overwrite}");
        }
    }
}

#[test]
fn holes_are_zeros() {
    let (_root, save, _) = folders();
    let mut data = vec![0; 10 * PIECE as usize + 5];
    data[PIECE as usize * 4] = 1;
    let torrent = torrent_of(&[("a", data.len())], PIECE, data);
    drop(open(&torrent.spec(&save)).check().with(&torrent, [4]));
    let file = OpenOptions::new().write(true).open(save.join("t/a")).unwrap();
    file.set_len(torrent.data.len() as u64).unwrap();
    let launch = open(&torrent.spec(&save)).check();
    assert!(launch.store.have().is_full());
}

#[test]
fn padding_is_zero_and_not_stored() {
    let (_root, save, state) = folders();
    let mut data = noise(3 * 16_384, 3);
    data[20_000..32_768].fill(0);
    let pieces: Vec<u8> = data.chunks(16_384).flat_map(|piece| piece_hash::sha1(piece).0).collect();
    let mut raw = b"d4:infod5:filesld6:lengthi20000e4:pathl1:aeed4:attr1:p6:lengthi12768e4:pathl4:.pad5:12768ee\
        d6:lengthi16384e4:pathl1:beee4:name1:t12:piece lengthi16384e6:pieces60:"
        .to_vec();
    raw.extend(pieces);
    raw.extend(b"ee");
    let metainfo = std::sync::Arc::new(metainfo::Metainfo::parse(raw).unwrap());
    let torrent = Torrent { metainfo, data };
    let spec = torrent.with_state(&save, &state);
    let mut launch = open(&spec).check().with(&torrent, 0..3);
    assert!(bytes_of(&launch.read(&torrent, 1, 0, 16_384).unwrap()) == torrent.piece_data(1));
    launch.close();
    assert!(!save.join("t/.pad").exists());
    assert!(open(&spec).opened.have.is_full());
    assert!(open(&torrent.spec(&save)).check().store.have().is_full());
}

#[test]
fn long_padding_has_several_extents() {
    let (_root, save, state) = folders();
    let (pad, piece) = (100_000..100_000 + (300 << 10), 512 << 10);
    let mut data = noise(piece, 3);
    data[pad.clone()].fill(0);
    let mut raw = format!(
        "d4:infod5:filesld6:lengthi{}e4:pathl1:aeed4:attr1:p6:lengthi{}e4:pathl4:.pad6:{}ee\
        d6:lengthi{}e4:pathl1:beee4:name1:t12:piece lengthi{piece}e6:pieces20:",
        pad.start,
        pad.len(),
        pad.len(),
        piece - pad.end
    )
    .into_bytes();
    raw.extend(piece_hash::sha1(&data).0);
    raw.extend(b"ee");
    let metainfo = std::sync::Arc::new(metainfo::Metainfo::parse(raw).unwrap());
    let torrent = Torrent { metainfo, data };
    let mut launch = open(&torrent.with_state(&save, &state)).check().with(&torrent, [0]);
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
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    good.into_iter().for_each(|index| torrent.write_file(&save, index));
    let path = save.join(torrent.metainfo.info().file(index).unwrap().disk_path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let spec = torrent.with_state(&save, &state);
    let checked = open(&spec).try_check().map(|_| ());
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was written to");
    let overwritten = open(&OpenSpec { overwrite: true, ..spec }).try_check();
    let mut launch = overwritten.unwrap();
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
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let launch = open(&spec).check();
    let span = torrent.spans(0)[0].clone().unwrap();
    launch.store.stage(torrent.piece(0), 0, 0, &span, 0b10).unwrap();
    drop(launch);
    let _launch = open(&spec).check().with(&torrent, all(&torrent));
    torrent.assert_complete(&save);
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
    let (_root, save, _) = folders();
    std::fs::create_dir_all(save.join("t/a")).unwrap();
    let error = try_open(&torrent(&FILES, PIECE).spec(&save)).map(|_| ()).unwrap_err();
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
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = OpenSpec { seed_only: true, ..torrent.spec(&save) };
    assert!(try_open(&spec).is_err(), "the folder was created");
    torrent.write_file(&save, 3);
    let mut launch = open(&spec).check().assert_have(&[3, 4, 5, 6]);
    assert_eq!(launch.try_commit(&torrent, 0), CommitResult::Failed(StoreError::SeedOnly));
    assert!(
        bytes_of(&launch.read(&torrent, 3, 0, 10_000).unwrap()) == torrent.piece_data(3)[..10_000]
    );
    launch.close();
    assert!(!save.join("t/empty").exists() && !save.join("t/a").exists());
}

#[test]
fn seed_only_reads_parts_file() {
    for empty_file in [false, true] {
        let (_root, save, state) = folders();
        let torrent = torrent(&FILES, PIECE);
        let spec = torrent.with_state(&save, &state);
        let only_a = OpenSpec { selected: Some(vec![true, false, false, false]), ..spec.clone() };
        open(&only_a).check().with(&torrent, [0, 1, 2]).close();
        if empty_file {
            std::fs::create_dir_all(save.join("t/sub")).unwrap();
            std::fs::write(save.join("t/sub/b"), b"").unwrap();
        }
        let serving = OpenSpec { seed_only: true, ..spec };
        let mut launch = open(&serving).check().assert_have(&[0, 1, 2]);
        assert!(bytes_of(&launch.read(&torrent, 2, 0, PIECE).unwrap()) == torrent.piece_data(2));
        launch.close();
        assert_eq!(save.join("t/sub/b").exists(), empty_file);
        assert_eq!(open(&only_a).check().have(), [0, 1, 2]);
    }
}

#[test]
fn seed_only_adopts_no_user_file() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    torrent.write_file(&save, 3);
    let user_files = [save.join("t/a"), save.join("t/sub/b")];
    user_files.iter().for_each(|path| std::fs::write(path, b"the user's own").unwrap());
    let spec = torrent.with_state(&save, &state);
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
    open(&OpenSpec { selected: Some(vec![false, false, true, true]), ..spec })
        .check()
        .with(&torrent, [2])
        .close();
    user_files.iter().for_each(|path| assert_eq!(std::fs::read(path).unwrap(), b"the user's own"));
}

#[test]
fn missing_piece_is_not_read() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut launch = open(&torrent.spec(&save)).check();
    assert_eq!(launch.read(&torrent, 2, 0, 16).map(|_| ()), Err(StoreError::Missing { piece: 2 }));
    launch.commit(&torrent, [2]);
    let extents = launch.read(&torrent, 2, 0, PIECE).unwrap();
    assert_eq!(extents.len(), 3, "a, b and c");
    assert!(bytes_of(&extents) == torrent.piece_data(2));
    std::fs::remove_file(save.join("t/sub/b")).unwrap();
    OpenOptions::new().write(true).open(save.join("t/a")).unwrap().set_len(0).unwrap();
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
    assert!(bytes_of(&launch.read(&torrent, 2, 5, 100).unwrap()) == torrent.piece_data(2)[5..105]);
    launch.store.sync().unwrap();
    assert!(std::fs::read(&output).unwrap() == torrent.piece_data(2));
    launch.close();
    assert_eq!(names(), 1);
}

#[test]
fn spans_are_staged_in_any_order() {
    let (_root, save, _) = folders();
    // Pieces of five spans, the last short.
    let length = 4 * piece_store::SPAN_LENGTH + 20_000;
    let torrent = torrent(&[("a", 1_000_000), ("b", 1_200_000)], length);
    let mut launch = open(&torrent.spec(&save)).check();
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
    torrent.assert_complete(&save);
    let span = torrent.spans(0)[0].clone().unwrap();
    let again = launch.store.stage(torrent.piece(0), 0, 0, &span, 1);
    assert_eq!(again, Err(StoreError::AlreadyComplete { piece: 0 }));
}

#[test]
fn span_staged_twice_is_hashed_again() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let mut launch = open(&torrent.spec(&save)).check();
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
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let mut launch = open(&torrent.spec(&save)).check();
    let mut spans = torrent.spans(0);
    launch.store.stage(piece, 1, 0, spans[0].as_ref().unwrap(), u16::MAX).unwrap();
    let mut bad = spans[0].take().unwrap();
    bad[7] ^= 1;
    launch.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    assert_eq!(launch.commit_as(piece, 1, &mut spans), CommitResult::Verified { digests: None });
    torrent.assert_complete(&save);
}

#[test]
fn removed_file_is_not_in_parts() {
    for clean in [true, false] {
        let (_root, save, state) = folders();
        let torrent = torrent(&[("a", 20_000), ("b", 3_000), ("c", 22_000)], 16_384);
        let mut spec = torrent.with_state(&save, &state);
        open(&spec).check().with(&torrent, [0]).close();
        // Only the last file is selected. The bytes of `b` in its first piece go to the parts file.
        spec.selected = Some(vec![false, false, true]);
        open(&spec).check().with(&torrent, [1]).synced().end(clean);
        std::fs::remove_file(save.join("t/a")).unwrap();
        let launch = open(&spec).check();
        assert!(launch.have().is_empty(), "{:?}", launch.have());
    }
}

#[test]
fn bad_staged_span_is_found() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let mut launch = open(&torrent.spec(&save)).check();
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
    torrent.assert_complete(&save);
}

#[test]
fn earlier_attempt_is_never_mixed_in() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let launch = open(&torrent.spec(&save)).check();
    let wrong = Span::new(SPAN_LENGTH);
    launch.store.stage(piece, 0, 0, &wrong, u16::MAX).unwrap();
    // The second attempt has every span in memory. A job of the first attempt comes late.
    let good = torrent.spans(0)[1].clone().unwrap();
    launch.store.stage(piece, 1, 1, &good, u16::MAX).unwrap();
    launch.store.stage(piece, 0, 0, &wrong, u16::MAX).unwrap();
    let mut spans = torrent.spans(0);
    let mut scratch = vec![0; STRIP_LENGTH];
    let result = launch.store.commit(piece, 1, &mut spans, None, false, &mut scratch);
    assert_eq!(result, CommitResult::Verified { digests: None });
    torrent.assert_complete(&save);
}

#[test]
fn unfinished_blocks_survive_clean_shutdown() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 300_000), ("b", 700_000)], 500_000);
    let spec = torrent.with_state(&save, &state);
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
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 60_000)], 40_000);
    let mut spec = torrent.with_state(&save, &state);
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
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 3_000), ("c", 40_000)], 16_384);
    torrent.write(&save);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![false, true, false]);
    let launch = open(&spec);
    // A piece of an unselected file.
    assert_eq!(launch.verify(2..3), (vec![2], None));
    drop(launch);
    let launch = try_open(&spec).and_then(Launch::try_check).unwrap();
    assert!(
        launch.have().contains(&1),
        "the selected file's piece is missing: {:?}",
        launch.have()
    );
}

#[test]
fn changed_file_drops_staged_blocks() {
    for change in [|path: &Path| touch(path), |path: &Path| std::fs::remove_file(path).unwrap()] {
        let (_root, save, state) = folders();
        let torrent = torrent(&[("a", 300_000)], 300_000);
        let spec = torrent.with_state(&save, &state);
        let launch = open(&spec).check();
        let span = torrent.spans(0)[0].clone().unwrap();
        let held = HeldSpan { piece: torrent.piece(0), attempt: 0, span_index: 0, blocks: 1, span };
        launch.store.close(0, 0, &[held]).unwrap();
        change(&save.join("t/a"));
        assert!(open(&spec).opened.unfinished.is_empty());
    }
}

#[test]
fn preallocation_reserves_space() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = OpenSpec { preallocate: true, ..torrent.spec(&save) };
    let mut launch = open(&spec).check();
    for (index, (name, length)) in FILES.iter().enumerate() {
        let got = std::fs::metadata(save.join("t").join(name)).unwrap().len();
        assert_eq!(got, *length as u64, "file {index}");
    }
    launch.commit(&torrent, [1]);
    drop(launch);
    // Without a journal, preallocated files are not unrelated.
    assert_eq!(open(&spec).check().have(), [1]);
}

#[test]
fn many_files_in_one_piece() {
    let (_root, save, state) = folders();
    let names: Vec<String> = (0..600).map(|number| format!("{}/{number}", number % 7)).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let torrent = torrent(&files, 50_000);
    let spec = torrent.with_state(&save, &state);
    drop(open(&spec).check().with(&torrent, [0, 1]).synced());
    assert!(open(&spec).opened.have.is_full());
    torrent.assert_complete(&save);
}
