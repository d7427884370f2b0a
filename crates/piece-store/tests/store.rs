//! The store on the real disk, through its public door.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::*;
use piece_store::{
    HeldSpan, OpenSpec, Operation, Outcome, SPAN_LENGTH, STRIP_LENGTH, Span, StoreError,
    StoreLayout, Unrelated,
};

const PIECE: u32 = 32 * 1024;
/// Pieces 0..7; file a is pieces 0 to 2 in part, b lies inside piece 2, c is the rest.
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
fn a_download_from_nothing_and_back() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec);
    assert_eq!((run.to_verify(), run.have()), (vec![], vec![]));
    run = run.check();
    run.commit(&torrent, all(&torrent).into_iter().rev());
    run.store.sync().unwrap();
    assert!(run.store.durable().is_full());
    run.store.close(5, 6, &[]).unwrap();
    torrent.assert_complete(&save);

    let run = open(&spec);
    assert!(run.opened.have.is_full() && run.to_verify().is_empty());
    assert_eq!((run.opened.uploaded, run.opened.downloaded), (5, 6));
    assert!(run.opened.free.is_some());
}

#[test]
fn nothing_is_written_of_a_bad_piece() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut run = open(&torrent.with_state(&save, &state)).check();
    let mut spans = torrent.spans(0);
    spans[0].as_mut().unwrap()[20_000] ^= 1;
    let Outcome::Mismatch { digests } = run.commit_spans(torrent.piece(0), &mut spans) else {
        panic!("it is bad");
    };
    let good: Vec<_> = torrent.piece_data(0).chunks(16 * 1024).map(piece_hash::sha1).collect();
    assert_eq!(digests.len(), 2);
    assert!(digests[0] == good[0] && digests[1] != good[1]);
    assert!(run.have().is_empty() && !save.join("t/a").exists());
    run.commit(&torrent, [0]);
}

#[test]
fn digests_of_a_good_piece_are_told_if_asked_for() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let run = open(&torrent.spec(&save)).check();
    let outcome =
        run.store.commit(torrent.piece(6), 0, &mut torrent.spans(6), None, true, &mut [0; 1]);
    let digests = torrent.piece_data(6).chunks(16 * 1024).map(piece_hash::sha1).collect();
    assert_eq!(outcome, Outcome::Verified { digests: Some(digests) });
}

#[test]
fn spans_must_be_those_of_the_piece() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut run = open(&torrent.spec(&save)).check();
    let last = torrent.pieces() - 1;
    for mut spans in [vec![], vec![None], torrent.spans(last), vec![Some(Span::new(PIECE)), None]] {
        let outcome = run.commit_spans(torrent.piece(0), &mut spans);
        assert!(
            matches!(outcome, Outcome::Failed(StoreError::Spans { piece: 0, .. })),
            "{outcome:?}"
        );
    }
}

#[test]
fn nothing_is_written_before_the_check_is_finished() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut run = open(&torrent.spec(&save));
    assert_eq!(run.try_commit(&torrent, 0), Outcome::Failed(StoreError::NotChecked));
}

/// What is had when a run was not closed: `synced` pieces, then `written` ones.
#[track_caller]
fn killed(torrent: &Torrent, spec: &OpenSpec, synced: &[u32], written: &[u32]) {
    let mut run = open(spec).check();
    run.commit(torrent, synced.iter().copied());
    run.store.sync().unwrap();
    run.commit(torrent, written.iter().copied());
}

#[test]
fn a_kill_costs_no_piece() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    killed(&torrent, &spec, &[0, 2], &[3, 5]);
    let run = open(&spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![0, 2], vec![3, 5]));
    let run = run.check();
    assert_eq!(run.have(), [0, 2, 3, 5]);
    // Killed again at once: it is no worse.
    drop(run);
    let run = open(&spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![0, 2], vec![3, 5]));
}

#[test]
fn a_piece_found_bad_is_not_asked_about_again() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    killed(&torrent, &spec, &[0], &[1]);
    let file = OpenOptions::new().write(true).open(save.join("t/a")).unwrap();
    file.write_at(b"other", u64::from(PIECE)).unwrap();
    let run = open(&spec).check();
    assert_eq!(run.have(), [0]);
    drop(run);
    assert_eq!(open(&spec).to_verify(), Vec::<u32>::new());
}

#[test]
fn after_an_orderly_end_a_touched_file_is_verified() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, all(&torrent));
    run.close();
    touch(&save.join("t/a"));
    let run = open(&spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![3, 4, 5, 6], vec![0, 1, 2]));
    drop(run);
    // Killed before it was verified: it still is.
    let run = open(&spec);
    assert_eq!(run.to_verify(), [0, 1, 2]);
    assert!(run.check().store.have().is_full());
}

#[test]
fn files_that_are_gone_or_shorter_are_not_had() {
    let torrent = torrent(&FILES, PIECE);
    for kill in [false, true] {
        let (_root, save, state) = folders();
        let spec = torrent.with_state(&save, &state);
        let mut run = open(&spec).check();
        run.commit(&torrent, all(&torrent));
        run.store.sync().unwrap();
        if kill {
            drop(run);
        } else {
            run.close();
        }
        std::fs::remove_file(save.join("t/sub/b")).unwrap();
        let file = OpenOptions::new().write(true).open(save.join("t/sub/deep/c")).unwrap();
        file.set_len(100_000).unwrap();
        let run = open(&spec);
        let durable: Vec<u32> = run.opened.have.iter().collect();
        // c begins at 79 000: it is cut at 179 000, in piece 5. Killed: the rest of it is durable.
        let expected = if kill { (vec![0, 1, 3, 4], vec![]) } else { (vec![0, 1], vec![3, 4]) };
        assert_eq!((durable, run.to_verify()), expected);
        assert_eq!(run.check().have(), [0, 1, 3, 4]);
    }
}

#[test]
fn another_file_in_place_of_ours_is_verified_after_a_kill() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    killed(&torrent, &spec, &[0, 1, 3], &[]);
    let path = save.join("t/a");
    std::fs::copy(&path, save.join("copy")).unwrap();
    std::fs::rename(save.join("copy"), &path).unwrap();
    let run = open(&spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![3], vec![0, 1]));
    assert_eq!(run.check().have(), [0, 1, 3]);
}

#[test]
fn the_journal_is_of_one_folder() {
    let (root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut run = open(&torrent.with_state(&save, &state)).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    let run = open(&torrent.with_state(&root.path().join("other"), &state));
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![], vec![]));
    // The same folder by another name is the same folder.
    std::os::unix::fs::symlink(&save, root.path().join("link")).unwrap();
    let run = open(&torrent.with_state(&root.path().join("link"), &state));
    assert_eq!(numbers(&run.opened.have), [0, 1]);
}

#[test]
fn a_journal_of_absurd_length_is_not_read() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0]);
    run.close();
    let entries = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let journal = entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "journal"));
    let file = OpenOptions::new().write(true).open(journal.unwrap()).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    let run = open(&spec);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![], vec![0]));
}

#[test]
fn without_resume_everything_is_verified() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    let run = open(&OpenSpec { resume: false, ..spec });
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![], vec![0, 1]));
}

#[test]
fn a_check_that_is_interrupted_begins_again() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    torrent.write(&save);
    let spec = torrent.with_state(&save, &state);
    for close in [false, true] {
        let run = open(&spec);
        assert_eq!(run.to_verify(), all(&torrent));
        assert_eq!(run.verify(0..3), (vec![0, 1, 2], None));
        if close {
            run.close();
        }
    }
    assert_eq!(open(&spec).to_verify(), all(&torrent));
}

#[test]
fn the_same_torrent_in_the_same_folder_is_in_use() {
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
fn an_idle_torrent_has_no_file_open() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut run = open(&torrent.with_state(&save, &state)).check();
    let is_open = |end: &str| {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let state = state.canonicalize().unwrap();
        let mut names = paths.filter(|path| path.starts_with(&state) && *path != state);
        names.any(|path| path.to_string_lossy().ends_with(end))
    };
    assert!(!is_open(".journal"));
    run.commit(&torrent, [0]);
    assert!(is_open(".journal"), "as long as it has records that are not synced");
    run.store.sync().unwrap();
    assert!(!is_open(".journal"));
}

#[test]
fn what_boundary_pieces_need_of_other_files_is_kept_apart() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let only_a = OpenSpec { selected: Some(vec![true, false, false, false]), ..spec.clone() };
    let mut run = open(&only_a).check();
    assert_eq!(numbers(&run.opened.wanted), [0, 1, 2]);
    run.commit(&torrent, [0, 1, 2]);
    let got = bytes_of(&run.read(&torrent, 2, 0, PIECE).unwrap());
    assert!(got == torrent.piece_data(2));
    run.close();
    let names: Vec<_> = std::fs::read_dir(save.join("t"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["a"]);

    // The same selection again: all of it is had.
    let run = open(&only_a);
    assert_eq!((numbers(&run.opened.have), run.to_verify()), (vec![0, 1, 2], vec![]));
    run.check().close();
    // Everything now: the boundary piece is had, though file b was not there.
    let mut run = open(&spec).check();
    assert_eq!(run.have(), [0, 1, 2]);
    run.commit(&torrent, 3..7);
    run.close();
    torrent.assert_complete(&save);
}

#[test]
fn a_file_made_of_the_parts_file_is_no_stranger() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 40_000)], 16_384);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![true, false]);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    std::fs::remove_file(save.join("t/a")).unwrap();
    spec.selected = None;
    // Killed before anything was verified, and once more.
    drop(open(&spec));
    let mut run = open(&spec).check();
    assert_eq!(run.have(), []);
    run.commit(&torrent, all(&torrent));
    run.close();
    torrent.assert_complete(&save);
}

#[test]
fn a_file_that_came_back_is_not_overwritten_from_the_parts_file() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 20_000), ("c", 20_000)], 16_384);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![true, true, false]);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0, 1, 2]);
    run.store.sync().unwrap();
    // Killed; the file is another, with the same bytes; killed again, before the check.
    drop(run);
    let path = save.join("t/b");
    std::fs::copy(&path, save.join("t/new")).unwrap();
    std::fs::rename(save.join("t/new"), &path).unwrap();
    drop(open(&spec));
    let run = open(&spec).check();
    assert!(std::fs::read(&path).unwrap() == torrent.file_data(1));
    assert_eq!(run.have(), [0, 1, 2]);
}

#[test]
fn a_copying_that_was_killed_is_known_until_it_is_done() {
    let torrent = torrent(&[("a", 20_000), ("b", 40_000)], 16_384);
    for between in [Some((false, Some(vec![true, false]))), Some((true, None)), None] {
        let (_root, save, state) = folders();
        let spec = torrent.with_state(&save, &state);
        let only_a = OpenSpec { selected: Some(vec![true, false]), ..spec.clone() };
        let mut run = open(&only_a).check();
        run.commit(&torrent, [0, 1]);
        run.close();
        drop(open(&spec).check());
        // As if not all had been copied.
        OpenOptions::new().write(true).open(save.join("t/b")).unwrap().set_len(100).unwrap();
        if let Some((read_only, selected)) = between {
            let mut run = open(&OpenSpec { read_only, selected, ..spec.clone() }).check();
            assert_eq!(run.have(), [0, 1]);
            assert!(bytes_of(&run.read(&torrent, 1, 0, 16_384).unwrap()) == torrent.piece_data(1));
            run.close();
        }
        let mut run = open(&spec).check();
        assert_eq!(run.have(), [0, 1]);
        run.commit(&torrent, [2, 3]);
        run.close();
        torrent.assert_complete(&save);
    }
}

#[test]
fn without_a_journal_boundary_bytes_live_as_long_as_the_run() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = OpenSpec { selected: Some(vec![false, true, false, false]), ..torrent.spec(&save) };
    let mut run = open(&spec).check();
    run.commit(&torrent, [2]);
    assert!(
        bytes_of(&run.read(&torrent, 2, 100, 30_000).unwrap())
            == torrent.piece_data(2)[100..30_100]
    );
    run.close();
    assert_eq!(std::fs::read_dir(&save).unwrap().count(), 1);
    assert_eq!(open(&OpenSpec { read_only: true, ..spec }).check().have(), Vec::<u32>::new());
}

#[test]
fn a_file_not_wanted_that_is_there_is_used() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    torrent.write_file(&save, 3);
    let only_a = OpenSpec {
        selected: Some(vec![true, false, false, false]),
        ..torrent.with_state(&save, &state)
    };
    let mut run = open(&only_a).check();
    assert_eq!(run.have(), [3, 4, 5, 6]);
    run.commit(&torrent, [0, 1, 2]);
    assert!(run.store.have().is_full());
}

#[test]
fn a_strangers_file_that_is_not_wanted_is_let_alone() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    std::fs::create_dir_all(save.join("t/sub")).unwrap();
    std::fs::write(save.join("t/sub/b"), b"a diary").unwrap();
    let spec = OpenSpec {
        selected: Some(vec![true, false, true, true]),
        ..torrent.with_state(&save, &state)
    };
    let mut run = open(&spec).check();
    run.commit(&torrent, all(&torrent));
    run.close();
    assert_eq!(std::fs::read(save.join("t/sub/b")).unwrap(), b"a diary");
    let run = open(&spec);
    assert!(run.opened.have.is_full(), "what is kept apart stays apart");
    drop(run.check());
    assert!(open(&spec).opened.have.is_full());
    assert_eq!(std::fs::read(save.join("t/sub/b")).unwrap(), b"a diary");
}

#[test]
fn a_strangers_file_that_is_not_wanted_is_let_alone_whatever_it_is() {
    let torrent = torrent(&FILES, PIECE);
    // None of the torrent's; longer than the torrent's; the torrent's, and then more.
    let diaries = [noise(9_000, 7), noise(9_001, 7), [torrent.file_data(1), b"notes"].concat()];
    for (diary, overwrite) in diaries.iter().flat_map(|diary| [(diary, false), (diary, true)]) {
        let (_root, save, state) = folders();
        // That something else is there and good makes the diary no part of the torrent.
        torrent.write_file(&save, 3);
        let path = save.join("t/sub/b");
        std::fs::write(&path, diary).unwrap();
        let selected = Some(vec![true, false, true, true]);
        let spec = OpenSpec { selected, overwrite, ..torrent.with_state(&save, &state) };
        for _ in 0..2 {
            let mut run = open(&spec).check();
            let missing: Vec<_> =
                all(&torrent).into_iter().filter(|piece| !run.have().contains(piece)).collect();
            run.commit(&torrent, missing);
            let got = bytes_of(&run.read(&torrent, 2, 0, PIECE).unwrap());
            assert!(got == torrent.piece_data(2));
            run.close();
            assert!(std::fs::read(&path).unwrap() == *diary, "overwrite: {overwrite}");
        }
    }
}

#[test]
fn holes_are_zeros() {
    let (_root, save, _) = folders();
    let mut data = vec![0; 10 * PIECE as usize + 5];
    data[PIECE as usize * 4] = 1;
    let torrent = torrent_of(&[("a", data.len())], PIECE, data);
    let mut run = open(&torrent.spec(&save)).check();
    run.commit(&torrent, [4]);
    drop(run);
    let file = OpenOptions::new().write(true).open(save.join("t/a")).unwrap();
    file.set_len(torrent.data.len() as u64).unwrap();
    let run = open(&torrent.spec(&save)).check();
    assert!(run.store.have().is_full());
}

#[test]
fn padding_is_nowhere_and_zero() {
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
    let mut run = open(&spec).check();
    run.commit(&torrent, 0..3);
    assert!(bytes_of(&run.read(&torrent, 1, 0, 16_384).unwrap()) == torrent.piece_data(1));
    run.close();
    assert!(!save.join("t/.pad").exists());
    assert!(open(&spec).opened.have.is_full());
    assert!(open(&torrent.spec(&save)).check().store.have().is_full());
}

#[test]
fn padding_longer_than_the_file_of_zeros() {
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
    let mut run = open(&torrent.with_state(&save, &state)).check();
    run.commit(&torrent, [0]);
    for range in [0..piece, pad.clone(), 256 << 10..piece, pad.end - 1..pad.end] {
        let extents = run.read(&torrent, 0, range.start as u32, range.len() as u32).unwrap();
        let there = |extent: &piece_store::Extent| {
            extent.offset + u64::from(extent.length) <= extent.file.metadata().unwrap().len()
        };
        assert!(extents.iter().all(there), "a sender waits for what is past the end of a file");
        assert!(bytes_of(&extents) == torrent.data[range]);
    }
}

/// What the check says when file `index` was there before with `bytes`, and file `good` with its
/// own.
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
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is never touched");
    let overwritten = open(&OpenSpec { overwrite: true, ..spec }).try_check();
    let mut run = overwritten.unwrap();
    let missing: Vec<u32> =
        all(&torrent).into_iter().filter(|piece| !run.have().contains(piece)).collect();
    run.commit(&torrent, missing);
    run.close();
    assert!(std::fs::read(&path).unwrap() == torrent.file_data(index), "exactly its bytes");
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
    let stranger = noise(150_000, 77);
    let mine = torrent(&FILES, PIECE);
    let longer = [mine.file_data(0), b"and more"].concat();
    let too_long = Unrelated::TooLong { expected: 70_000, got: 70_008 };
    assert_eq!(unrelated(0, &longer, None), Some(too_long));
    assert_eq!(unrelated(0, &stranger[..70_000], None), Some(Unrelated::NothingVerifies));
    assert_eq!(unrelated(0, &stranger[..70_000], Some(3)), Some(Unrelated::NothingVerifies));
    assert_eq!(unrelated(1, &stranger[..9_000], None), Some(Unrelated::NothingVerifies));
    assert_eq!(unrelated(1, &stranger[..9_000], Some(3)), None, "another file verifies");
    assert_eq!(unrelated(0, &mine.file_data(0)[..40_000], None), None, "a piece of it verifies");
    for nothing in [&[][..], &[0; 70_000], &[0; 100]] {
        assert_eq!(unrelated(0, nothing, None), None, "empty and zero files are nobody's");
    }
}

#[test]
fn a_kill_before_the_first_piece_makes_no_stranger_of_our_file() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&save, &state);
    let run = open(&spec).check();
    let span = torrent.spans(0)[0].clone().unwrap();
    run.store.stage(torrent.piece(0), 0, 0, &span, 0b10).unwrap();
    drop(run);
    let mut run = open(&spec).check();
    run.commit(&torrent, all(&torrent));
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
        let error = opened.and_then(Run::try_check).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"precious");
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_named() {
    let (_root, save, _) = folders();
    std::fs::create_dir_all(save.join("t/a")).unwrap();
    let error = try_open(&torrent(&FILES, PIECE).spec(&save)).map(|_| ()).unwrap_err();
    let StoreError::Disk { path, kind, .. } = error else { panic!("{error}") };
    assert_eq!((path.ends_with("t/a"), kind), (true, std::io::ErrorKind::IsADirectory));
}

#[test]
fn a_folder_below_a_file_cannot_be() {
    let (root, _, _) = folders();
    std::fs::write(root.path().join("file"), b"").unwrap();
    let spec = torrent(&FILES, PIECE).spec(&root.path().join("file/save"));
    let error = try_open(&spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Disk { operation: Operation::OpenFolder, .. }), "{error}");
}

#[test]
fn read_only_writes_nothing() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = OpenSpec { read_only: true, ..torrent.spec(&save) };
    assert!(try_open(&spec).is_err(), "the folder is not made");
    torrent.write_file(&save, 3);
    let mut run = open(&spec).check();
    assert_eq!(run.have(), [3, 4, 5, 6]);
    assert_eq!(run.try_commit(&torrent, 0), Outcome::Failed(StoreError::ReadOnly));
    assert!(
        bytes_of(&run.read(&torrent, 3, 0, 10_000).unwrap()) == torrent.piece_data(3)[..10_000]
    );
    run.close();
    assert!(!save.join("t/empty").exists() && !save.join("t/a").exists());
}

#[test]
fn who_only_serves_finds_what_is_kept_apart_and_forgets_none_of_it() {
    for empty_file in [false, true] {
        let (_root, save, state) = folders();
        let torrent = torrent(&FILES, PIECE);
        let spec = torrent.with_state(&save, &state);
        let only_a = OpenSpec { selected: Some(vec![true, false, false, false]), ..spec.clone() };
        let mut run = open(&only_a).check();
        run.commit(&torrent, [0, 1, 2]);
        run.close();
        if empty_file {
            std::fs::create_dir_all(save.join("t/sub")).unwrap();
            std::fs::write(save.join("t/sub/b"), b"").unwrap();
        }
        let serving = OpenSpec { read_only: true, ..spec };
        let mut run = open(&serving).check();
        assert_eq!(run.have(), [0, 1, 2]);
        assert!(bytes_of(&run.read(&torrent, 2, 0, PIECE).unwrap()) == torrent.piece_data(2));
        run.close();
        assert_eq!(save.join("t/sub/b").exists(), empty_file);
        assert_eq!(open(&only_a).check().have(), [0, 1, 2]);
    }
}

#[test]
fn who_only_serves_makes_no_file_of_the_users_ours() {
    let (_root, save, state) = folders();
    let torrent = torrent(&FILES, PIECE);
    torrent.write_file(&save, 3);
    let diaries = [save.join("t/a"), save.join("t/sub/b")];
    diaries.iter().for_each(|path| std::fs::write(path, b"a diary").unwrap());
    let spec = torrent.with_state(&save, &state);
    // Whatever it may do, it serves only.
    for overwrite in [false, true] {
        let run = open(&OpenSpec { read_only: true, overwrite, ..spec.clone() }).check();
        assert_eq!(run.have(), [3, 4, 5, 6]);
        run.close();
    }
    let path = diaries[0].clone();
    let unrelated = StoreError::UnrelatedFile { path, reason: Unrelated::NothingVerifies };
    assert_eq!(open(&spec).try_check().map(|_| ()), Err(unrelated));
    // Nor is one that is not wanted.
    let mut run =
        open(&OpenSpec { selected: Some(vec![false, false, true, true]), ..spec }).check();
    run.commit(&torrent, [2]);
    run.close();
    diaries.iter().for_each(|path| assert_eq!(std::fs::read(path).unwrap(), b"a diary"));
}

#[test]
fn only_what_is_had_is_read() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let mut run = open(&torrent.spec(&save)).check();
    assert_eq!(run.read(&torrent, 2, 0, 16).map(|_| ()), Err(StoreError::NotHad { piece: 2 }));
    run.commit(&torrent, [2]);
    let extents = run.read(&torrent, 2, 0, PIECE).unwrap();
    assert_eq!(extents.len(), 3, "a, b and c");
    assert!(bytes_of(&extents) == torrent.piece_data(2));
    std::fs::remove_file(save.join("t/sub/b")).unwrap();
    OpenOptions::new().write(true).open(save.join("t/a")).unwrap().set_len(0).unwrap();
    let error = run.read(&torrent, 2, 0, PIECE).map(|_| ()).unwrap_err();
    let StoreError::Disk { operation, path, .. } = error else { panic!("{error}") };
    assert_eq!((operation, path.ends_with("t/a")), (Operation::Read, true));
}

#[test]
fn a_single_piece_becomes_a_file() {
    let (root, _, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let output = root.path().join("piece");
    let layout = StoreLayout::SinglePiece { piece: torrent.piece(2), output: output.clone() };
    let spec = OpenSpec { layout, ..torrent.spec(Path::new("/nowhere")) };
    let names = || std::fs::read_dir(root.path()).unwrap().count();

    let run = open(&spec).check();
    assert!(matches!(try_open(&spec).map(|_| ()), Err(StoreError::InUse { .. })));
    run.close();
    assert_eq!(names(), 0, "an unfinished one leaves nothing behind");

    std::fs::write(root.path().join(".piece.part"), vec![1; 100_000]).unwrap();
    let mut run = open(&spec).check();
    assert_eq!(numbers(&run.opened.wanted), [2]);
    let mut bad = torrent.spans(2);
    bad[0].as_mut().unwrap()[0] ^= 1;
    assert!(matches!(run.commit_spans(torrent.piece(2), &mut bad), Outcome::Mismatch { .. }));
    run.commit(&torrent, [2]);
    assert!(!output.exists(), "not before it is synced");
    assert!(bytes_of(&run.read(&torrent, 2, 5, 100).unwrap()) == torrent.piece_data(2)[5..105]);
    run.store.sync().unwrap();
    assert!(std::fs::read(&output).unwrap() == torrent.piece_data(2));
    run.close();
    assert_eq!(names(), 1);
}

#[test]
fn spans_are_staged_in_any_order() {
    let (_root, save, _) = folders();
    // Pieces of five spans, the last short.
    let length = 4 * piece_store::SPAN_LENGTH + 20_000;
    let torrent = torrent(&[("a", 1_000_000), ("b", 1_200_000)], length);
    let mut run = open(&torrent.spec(&save)).check();
    for (piece, order) in [(0, [0usize, 1, 2, 3, 4]), (1, [4, 0, 2, 1, 3])] {
        let mut spans = torrent.spans(piece);
        for (count, index) in order.into_iter().enumerate() {
            let span = spans[index].take().unwrap();
            run.store.stage(torrent.piece(piece), 0, index as u32, &span, u16::MAX).unwrap();
            if piece == 1 && count == 2 {
                break;
            }
        }
        assert!(!run.have().contains(&piece));
        let outcome = run.commit_spans(torrent.piece(piece), &mut spans);
        assert_eq!(outcome, Outcome::Verified { digests: None });
    }
    run.commit(&torrent, [2]);
    torrent.assert_complete(&save);
    let span = torrent.spans(0)[0].clone().unwrap();
    let again = run.store.stage(torrent.piece(0), 0, 0, &span, 1);
    assert_eq!(again, Err(StoreError::Had { piece: 0 }));
}

#[test]
fn what_was_hashed_and_then_overwritten_is_hashed_again() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let mut run = open(&torrent.spec(&save)).check();
    let stage = |index: usize, blocks, change| {
        let mut span = torrent.spans(0)[index].take().unwrap();
        span[0] ^= change;
        run.store.stage(piece, 0, index as u32, &span, blocks).unwrap();
    };
    (0..3).for_each(|index| stage(index, u16::MAX, 0));
    // One block of the first span, once more and wrong.
    stage(0, 1, 1);
    let outcome = run.commit_spans(piece, &mut [None, None, None]);
    assert!(matches!(outcome, Outcome::Mismatch { .. }), "{outcome:?}");
}

#[test]
fn what_comes_late_of_an_earlier_attempt_is_not_written_over_the_next() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let mut run = open(&torrent.spec(&save)).check();
    let mut spans = torrent.spans(0);
    run.store.stage(piece, 1, 0, spans[0].as_ref().unwrap(), u16::MAX).unwrap();
    let mut bad = spans[0].take().unwrap();
    bad[7] ^= 1;
    run.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    assert_eq!(run.commit_as(piece, 1, &mut spans), Outcome::Verified { digests: None });
    torrent.assert_complete(&save);
}

#[test]
fn the_parts_file_does_not_stand_for_a_file_that_was_removed() {
    for orderly in [true, false] {
        let (_root, save, state) = folders();
        let torrent = torrent(&[("a", 20_000), ("b", 3_000), ("c", 22_000)], 16_384);
        let mut spec = torrent.with_state(&save, &state);
        let mut run = open(&spec).check();
        run.commit(&torrent, [0]);
        run.close();
        // Only the last file is wanted: the part of `b` in a piece of it goes to the parts file.
        spec.selected = Some(vec![false, false, true]);
        let mut run = open(&spec).check();
        run.commit(&torrent, [1]);
        run.store.sync().unwrap();
        if orderly {
            run.close();
        } else {
            drop(run);
        }
        std::fs::remove_file(save.join("t/a")).unwrap();
        let run = open(&spec).check();
        assert!(run.have().is_empty(), "{:?}", run.have());
    }
}

#[test]
fn a_bad_staged_span_is_blamed_and_fetched_again() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let mut run = open(&torrent.spec(&save)).check();
    let mut spans = torrent.spans(0);
    let mut bad = spans[0].take().unwrap();
    bad[3 * 16_384] ^= 1;
    run.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    let Outcome::Mismatch { digests } = run.commit_spans(piece, &mut spans) else { panic!() };
    let good: Vec<_> = torrent.data.chunks(16_384).map(piece_hash::sha1).collect();
    let differ: Vec<usize> = (0..good.len()).filter(|at| good[*at] != digests[*at]).collect();
    assert_eq!(differ, [3]);
    let outcome = run.commit_spans(piece, &mut spans);
    assert!(matches!(outcome, Outcome::Failed(StoreError::Spans { .. })), "it is forgotten");
    // Staged anew, the first span twice.
    let first = torrent.spans(0)[0].clone().unwrap();
    run.store.stage(piece, 0, 0, &bad, u16::MAX).unwrap();
    run.store.stage(piece, 0, 0, &first, u16::MAX).unwrap();
    assert_eq!(run.commit_spans(piece, &mut spans), Outcome::Verified { digests: None });
    torrent.assert_complete(&save);
}

#[test]
fn what_an_earlier_attempt_staged_is_never_mixed_in() {
    let (_root, save, _) = folders();
    let torrent = torrent(&[("a", 600_000)], 600_000);
    let piece = torrent.piece(0);
    let run = open(&torrent.spec(&save)).check();
    let wrong = Span::new(SPAN_LENGTH);
    run.store.stage(piece, 0, 0, &wrong, u16::MAX).unwrap();
    // The second attempt has every span in memory; a block of the first comes late.
    let good = torrent.spans(0)[1].clone().unwrap();
    run.store.stage(piece, 1, 1, &good, u16::MAX).unwrap();
    run.store.stage(piece, 0, 0, &wrong, u16::MAX).unwrap();
    let mut spans = torrent.spans(0);
    let mut scratch = vec![0; STRIP_LENGTH];
    let outcome = run.store.commit(piece, 1, &mut spans, None, false, &mut scratch);
    assert_eq!(outcome, Outcome::Verified { digests: None });
    torrent.assert_complete(&save);
}

#[test]
fn blocks_of_unfinished_pieces_survive_an_orderly_end() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 300_000), ("b", 700_000)], 500_000);
    let spec = torrent.with_state(&save, &state);
    let run = open(&spec).check();
    let piece = torrent.piece(0);
    let span = |index: usize| torrent.spans(0)[index].clone().unwrap();
    // The second span of piece 0 has 237 856 bytes: 15 blocks.
    run.store.stage(piece, 0, 1, &span(1), 0b1).unwrap();
    let held =
        HeldSpan { piece, attempt: 0, span_index: 0, blocks: 0b1000_0000_0000_0101, span: span(0) };
    let more =
        HeldSpan { piece, attempt: 0, span_index: 1, blocks: 0b0100_0000_0000_0000, span: span(1) };
    run.store.close(1, 2, &[held, more]).unwrap();

    let mut run = open(&spec).check();
    assert_eq!(run.opened.unfinished, [(piece, vec![0, 2, 15, 16, 30])]);
    // Only the other blocks are fetched.
    let mut spans = torrent.spans(0);
    for block in [0usize, 2, 15] {
        spans[0].as_mut().unwrap()[block * 16_384..][..16_384].fill(0xee);
    }
    spans[1].as_mut().unwrap()[..16_384].fill(0xee);
    spans[1].as_mut().unwrap()[14 * 16_384..].fill(0xee);
    assert_eq!(run.commit_spans(piece, &mut spans), Outcome::Verified { digests: None });
    drop(run);
    assert!(open(&spec).opened.unfinished.is_empty());
}

#[test]
fn blocks_kept_apart_are_fetched_again_once_their_file_is_wanted() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 60_000)], 40_000);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![true, false]);
    let run = open(&spec).check();
    let (piece, span) = (torrent.piece(0), torrent.spans(0)[0].clone().unwrap());
    run.store.stage(piece, 0, 0, &span, 0b110).unwrap();
    run.store.close(0, 0, &[]).unwrap();
    spec.selected = None;
    let run = open(&spec);
    assert!(run.opened.unfinished.is_empty(), "they are not in the file");
}

#[test]
fn a_check_that_was_broken_off_is_made_again_whatever_is_wanted() {
    let (_root, save, state) = folders();
    let torrent = torrent(&[("a", 20_000), ("b", 3_000), ("c", 40_000)], 16_384);
    torrent.write(&save);
    let mut spec = torrent.with_state(&save, &state);
    spec.selected = Some(vec![false, true, false]);
    let run = open(&spec);
    // Of a file that is not wanted.
    assert_eq!(run.verify(2..3), (vec![2], None));
    drop(run);
    let run = try_open(&spec).and_then(Run::try_check).unwrap();
    assert!(run.have().contains(&1), "the piece with the wanted file in it: {:?}", run.have());
}

#[test]
fn staged_blocks_of_a_file_that_changed_are_not_believed() {
    for change in [|path: &Path| touch(path), |path: &Path| std::fs::remove_file(path).unwrap()] {
        let (_root, save, state) = folders();
        let torrent = torrent(&[("a", 300_000)], 300_000);
        let spec = torrent.with_state(&save, &state);
        let run = open(&spec).check();
        let span = torrent.spans(0)[0].clone().unwrap();
        let held = HeldSpan { piece: torrent.piece(0), attempt: 0, span_index: 0, blocks: 1, span };
        run.store.close(0, 0, &[held]).unwrap();
        change(&save.join("t/a"));
        assert!(open(&spec).opened.unfinished.is_empty());
    }
}

#[test]
fn room_is_reserved_if_asked_for() {
    let (_root, save, _) = folders();
    let torrent = torrent(&FILES, PIECE);
    let spec = OpenSpec { preallocate: true, ..torrent.spec(&save) };
    let mut run = open(&spec).check();
    for (index, (name, length)) in FILES.iter().enumerate() {
        let got = std::fs::metadata(save.join("t").join(name)).unwrap().len();
        assert_eq!(got, *length as u64, "file {index}");
    }
    run.commit(&torrent, [1]);
    drop(run);
    // No journal: what was reserved is no stranger's.
    assert_eq!(open(&spec).check().have(), [1]);
}

#[test]
fn many_files_in_one_piece() {
    let (_root, save, state) = folders();
    let names: Vec<String> = (0..600).map(|number| format!("{}/{number}", number % 7)).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let torrent = torrent(&files, 50_000);
    let spec = torrent.with_state(&save, &state);
    let mut run = open(&spec).check();
    run.commit(&torrent, [0, 1]);
    run.store.sync().unwrap();
    drop(run);
    assert!(open(&spec).opened.have.is_full());
    torrent.assert_complete(&save);
}
