//! The pool: jobs and their answers.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bt_types::InfoHashV1;
use common::*;
use piece_store::{
    CommitResult, Done, INFO_PIECE_LENGTH, InfoError, Job, OpenSpec, Pool, PoolConfig, Resources,
    StoreError, TorrentKey, check, info_digests,
};

const KEY: TorrentKey = TorrentKey(7);
const PIECE: u32 = 64 * 1024;
const FILES: [(&str, usize); 3] = [("a", 700_000), ("sub/b", 1_000), ("c", 500_000)];

fn pool(outstanding: usize) -> (Pool, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (
        Pool::start(PoolConfig { resources: Resources::with_workers(3), outstanding, wake })
            .unwrap(),
        woken,
    )
}

fn ask(pool: &Pool, job: Job) -> Done {
    pool.submit(job).unwrap();
    pool.recv().unwrap()
}

#[track_caller]
fn open(pool: &Pool, spec: &OpenSpec) -> piece_store::Opened {
    let done = ask(pool, Job::Open { torrent: KEY, spec: Box::new(spec.clone()) });
    let Done::Opened { torrent: KEY, result: Ok(opened) } = done else { panic!("{done:?}") };
    for pieces in opened.to_verify.clone() {
        ask(pool, Job::Verify { torrent: KEY, pieces });
    }
    let done = ask(pool, Job::FinishCheck { torrent: KEY });
    assert!(matches!(done, Done::CheckFinished { result: Ok(_), .. }), "{done:?}");
    *opened
}

fn commit(torrent: &Torrent, index: u32) -> Job {
    let (piece, spans) = (torrent.piece(index), torrent.spans(index));
    Job::Commit { torrent: KEY, piece, attempt: 0, spans, digests: false }
}

#[test]
fn whole_download() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&root.path().join("save"), &root.path().join("state"));
    let (pool, woken) = pool(64);
    assert!(open(&pool, &spec).have.is_empty());
    // The workers divide the pieces among themselves.
    for index in 0..torrent.pieces() {
        pool.submit(commit(&torrent, index)).unwrap();
    }
    for _ in 0..torrent.pieces() {
        let done = pool.recv().unwrap();
        let Done::Committed { piece, spans, result, .. } = done else { panic!("{done:?}") };
        assert_eq!(result, CommitResult::Verified { digests: None });
        assert_eq!(spans, torrent.spans(piece.get()), "the buffers come back");
    }
    let (piece, range) = (torrent.piece(10), 40_000..60_000);
    let done = ask(&pool, Job::Read { torrent: KEY, piece, range });
    let Done::Ready { range, result: Ok(extents), .. } = done else { panic!("{done:?}") };
    assert_eq!(range, 40_000..60_000);
    assert_eq!(extents.len(), 3);
    assert!(bytes_of(&extents) == torrent.piece_data(10)[40_000..60_000]);

    let done = ask(&pool, Job::Sync { torrent: KEY });
    assert!(matches!(&done, Done::Synced { result: Ok(()), lost, .. } if lost.is_empty()));
    let close = Job::Close { torrent: KEY, uploaded: 1, downloaded: 2, unfinished: vec![] };
    let done = ask(&pool, close);
    assert!(matches!(&done, Done::Closed { result: Ok(()), .. }), "{done:?}");
    assert_eq!(pool.outstanding(), 0);
    assert!(pool.recv().is_none() && pool.try_recv().is_none());
    torrent.assert_complete(&spec.folder);
    let opened = open(&pool, &spec);
    assert!(opened.have.is_full() && opened.downloaded == 2);
    // An answer arrives a moment before the wake-up for it.
    drop(pool);
    assert!(woken.load(Ordering::Relaxed) as u32 >= torrent.pieces() + 6);
}

#[test]
fn one_bad_piece_in_a_batch() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, PIECE);
    let (pool, _) = pool(64);
    open(&pool, &torrent.spec(root.path()));
    for index in 0..torrent.pieces() {
        let mut job = commit(&torrent, index);
        if let (7, Job::Commit { spans, .. }) = (index, &mut job) {
            spans[0].as_mut().unwrap()[3] ^= 1;
        }
        pool.submit(job).unwrap();
    }
    for _ in 0..torrent.pieces() {
        let done = pool.recv().unwrap();
        let Done::Committed { piece, result, .. } = done else { panic!("{done:?}") };
        let bad = matches!(result, CommitResult::Mismatch { .. });
        assert_eq!(bad, piece.get() == 7, "{piece}: {result:?}");
    }
}

#[test]
fn spans_staged_by_several_workers() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&[("film", 20 << 20)], 10 << 20);
    let (pool, _) = pool(64);
    open(&pool, &torrent.spec(root.path()));
    for index in 0..2 {
        let piece = torrent.piece(index);
        let spans = torrent.spans(index);
        let count = spans.len();
        for (span_index, span) in (0..).zip(spans) {
            let span = span.unwrap();
            let blocks = u16::MAX;
            let job = Job::Stage { torrent: KEY, piece, attempt: 0, span_index, span, blocks };
            pool.submit(job).unwrap();
        }
        for _ in 0..count {
            let done = pool.recv().unwrap();
            assert!(matches!(&done, Done::Staged { result: Ok(()), .. }), "{done:?}");
        }
        let spans = vec![None; count];
        let job = Job::Commit { torrent: KEY, piece, attempt: 0, spans, digests: false };
        let done = ask(&pool, job);
        let verified = CommitResult::Verified { digests: None };
        assert!(matches!(&done, Done::Committed { result, .. } if *result == verified), "{done:?}");
    }
    torrent.assert_complete(root.path());
}

#[test]
fn outstanding_jobs_are_limited() {
    let (pool, _) = pool(2);
    let job = || Job::Sync { torrent: KEY };
    pool.submit(job()).unwrap();
    pool.submit(job()).unwrap();
    assert!(matches!(pool.submit(job()), Err(Job::Sync { torrent: KEY })));
    assert!(matches!(pool.recv(), Some(Done::Synced { result: Err(StoreError::NotOpen), .. })));
    pool.submit(job()).unwrap();
}

#[test]
fn unknown_torrent_is_not_open() {
    let torrent = torrent(&FILES, PIECE);
    let (pool, _) = pool(8);
    let done = ask(&pool, commit(&torrent, 0));
    let Done::Committed { spans, result, .. } = done else { panic!("{done:?}") };
    assert_eq!(result, CommitResult::Failed(StoreError::NotOpen));
    assert_eq!(spans, torrent.spans(0));
}

#[test]
fn dropped_pool_writes_commits() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(&root.path().join("save"), &root.path().join("state"));
    let (first, _) = pool(64);
    open(&first, &spec);
    for index in 0..torrent.pieces() {
        first.submit(commit(&torrent, index)).unwrap();
    }
    drop(first);
    torrent.assert_complete(&spec.folder);
    let (second, _) = pool(64);
    let opened = open(&second, &spec);
    let pieces: u32 = opened.to_verify.iter().map(|range| range.end - range.start).sum();
    assert_eq!(pieces, torrent.pieces(), "written, not durable");
}

#[test]
fn syncs_and_commits_at_once() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, 16 * 1024);
    let spec = torrent.with_state(&root.path().join("save"), &root.path().join("state"));
    let (first, _) = pool(256);
    open(&first, &spec);
    for index in 0..torrent.pieces() {
        first.submit(commit(&torrent, index)).unwrap();
        if index % 8 == 0 {
            first.submit(Job::Sync { torrent: KEY }).unwrap();
        }
    }
    while let Some(done) = first.recv() {
        match done {
            Done::Committed { result, .. } => {
                assert_eq!(result, CommitResult::Verified { digests: None });
            }
            Done::Synced { result, lost, .. } => assert_eq!((result, lost), (Ok(()), vec![])),
            other => panic!("{other:?}"),
        }
    }
    drop(first);
    // Like after a kill, each piece is trusted or verified.
    let (second, _) = pool(256);
    let opened = open(&second, &spec);
    let verified: u32 = opened.to_verify.iter().map(|range| range.end - range.start).sum();
    assert_eq!(opened.have.count() + verified, torrent.pieces());
    torrent.assert_complete(&spec.folder);
}

#[test]
fn verify_folder_reports_each_file() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, PIECE);
    assert!(
        check::verify_folder(
            &torrent.metainfo,
            &root.path().join("none"),
            None,
            Resources::with_workers(2),
            &quiet
        )
        .is_err()
    );
    torrent.write(root.path());
    let last = AtomicUsize::new(0);
    let progress = |done: u64, total: u64| {
        assert!(done <= total && total as usize == torrent.data.len());
        last.fetch_max(done as usize, Ordering::Relaxed);
    };
    let report = check::verify_folder(
        &torrent.metainfo,
        root.path(),
        None,
        Resources::with_workers(2),
        &progress,
    )
    .unwrap();
    assert!(report.good.is_full() && report.files.iter().all(|file| file.ok));
    assert_eq!(last.load(Ordering::Relaxed), torrent.data.len());

    std::fs::remove_file(root.path().join("t/sub/b")).unwrap();
    let report = torrent.verify(root.path(), None);
    let ok: Vec<(bool, Option<u64>)> =
        report.files.iter().map(|file| (file.ok, file.found)).collect();
    assert_eq!(ok, [(false, Some(700_000)), (false, None), (false, Some(500_000))]);
    let bad: Vec<u32> =
        (0..torrent.pieces()).filter(|piece| !numbers(&report.good).contains(piece)).collect();
    assert_eq!(bad, [10]);
}

/// The torrent need not be open.
#[test]
fn info_of_peers_is_checked() {
    let info =
        b"d6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae".to_vec();
    let expected = InfoHashV1(piece_hash::sha1(&info).0);
    let (pool, _) = pool(4);
    let check = |info: Vec<u8>, expected| {
        let link =
            format!("magnet:?xt=urn:btih:{expected}&tr=http://a.example/x&ws=http://b.example");
        let link = Arc::new(link.parse().unwrap());
        let job = Job::CheckInfo { torrent: KEY, attempt: 9, link, info };
        match ask(&pool, job) {
            Done::InfoChecked { torrent: KEY, attempt: 9, result } => result,
            other => panic!("{other:?}"),
        }
    };
    let checked = check(info.clone(), expected).unwrap();
    assert_eq!(checked.info_hash(), expected);
    assert_eq!(checked.raw_info(), info);
    assert_eq!(checked.trackers(), [["http://a.example/x"]]);
    assert_eq!(checked.web_seeds(), ["http://b.example"]);

    let long = vec![b'x'; INFO_PIECE_LENGTH + 1];
    let digests = vec![piece_hash::sha1(&long[..INFO_PIECE_LENGTH]), piece_hash::sha1(b"x")];
    assert_eq!(
        check(long.clone(), expected).unwrap_err(),
        InfoError::Hash { digests: digests.clone() }
    );
    assert_eq!(info_digests(&long), digests);
    let hash = InfoHashV1(piece_hash::sha1(&long).0);
    assert!(matches!(check(long, hash), Err(InfoError::Torrent(_))));
}
