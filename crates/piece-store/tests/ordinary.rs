//! Ordinary use in all its variants: nothing of it may end in an error, nor lose anything.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::OpenSpec;

const FILES: [(&str, usize); 5] =
    [("a", 20_000), ("e", 0), ("b", 40_000), ("c", 9_000), ("d/d", 30_000)];
/// What is wanted in one run after another.
const LISTS: [[bool; 5]; 5] = [
    [true, false, false, true, false],
    [true; 5],
    [false, true, true, false, true],
    [false, false, false, false, true],
    [true; 5],
];

/// Ordinary use: overwrite, preallocate, zero-length, select more and less, all twice; orderly or killed.
#[test]
fn nothing_is_refused() {
    for case in 0..128u32 {
        let bit = |n: u32| case >> n & 1 == 1;
        let (_root, save, state) = folders();
        let torrent = torrent(&FILES, 16_384);
        let spec = OpenSpec {
            overwrite: bit(0),
            preallocate: bit(1),
            ..torrent.with_state(&save, &state)
        };
        if bit(2) {
            torrent.write_file(&save, 4);
            std::fs::write(save.join("t/a"), b"").unwrap();
        }
        for (n, list) in (0u32..).zip(LISTS) {
            let spec = OpenSpec { seed_only: bit(5) && n == 2, ..some(&spec, &list) };
            if bit(6) {
                drop(open(&spec));
            }
            let run = open(&spec).try_check();
            assert!(run.is_ok(), "case {case} run {n}: {:?}", run.err());
            let mut run = run.unwrap();
            let wanted: Vec<u32> =
                run.opened.wanted.iter().skip(n as usize % 2).step_by(2).collect();
            if !spec.seed_only {
                for piece in wanted {
                    if !run.have().contains(&piece) {
                        run.commit(&torrent, [piece]);
                    }
                }
            }
            let synced = if bit(3) { run.store.sync() } else { Ok(()) };
            assert!(synced.is_ok(), "case {case} run {n}: {synced:?}");
            if bit(4) {
                let end = run.store.close(n.into(), 0, &[]);
                assert!(end.is_ok(), "case {case} run {n}: {end:?}");
            }
            drop(run);
            // Hard links are no matter, nor is emptying between runs.
            if n == 0 && save.join("t/a").exists() {
                std::fs::hard_link(save.join("t/a"), save.join("t/link")).unwrap();
            }
            if n == 2 && save.join("t/b").exists() && bit(2) {
                std::fs::write(save.join("t/b"), b"").unwrap();
            }
        }
    }
}

/// Ordinary use, on a disk whose numbers do not last, and on one whose do.
#[test]
fn nothing_is_refused_by_a_disk_that_numbers_anew() {
    for case in 0..128u32 {
        let bit = |n: u32| case >> n & 1 == 1;
        let torrent = torrent(&FILES, 16_384);
        let renumbers = bit(2);
        let disk = Arc::new(if renumbers { MemDisk::renumbering() } else { MemDisk::forgetful() });
        let spec = OpenSpec {
            overwrite: bit(0),
            preallocate: bit(1),
            ..torrent.with_state(Path::new("/save"), Path::new("/state"))
        };
        for (n, list) in (0u32..).zip(LISTS) {
            let spec = OpenSpec { seed_only: bit(5) && n == 2, ..some(&spec, &list) };
            if bit(6) {
                drop(start(&disk, &spec));
            }
            let anew = || {
                if renumbers {
                    disk.forget_inodes();
                }
            };
            let mut run = start(&disk, &spec);
            verify_all(&run);
            // Kept open by the table or not: both happen.
            if n % 2 == 0 {
                anew();
            }
            let checked = run.store.finish_check();
            assert!(checked.is_ok(), "case {case} run {n}: {checked:?}");
            let wanted: Vec<u32> =
                run.opened.wanted.iter().skip(n as usize % 2).step_by(2).collect();
            if !spec.seed_only {
                for piece in wanted {
                    if !run.have().contains(&piece) {
                        run.commit(&torrent, [piece]);
                    }
                    anew();
                }
            }
            let synced = if bit(3) { run.store.sync() } else { Ok(()) };
            assert!(synced.is_ok(), "case {case} run {n}: {synced:?}");
            anew();
            if bit(4) {
                let end = run.store.close(n.into(), 0, &[]);
                assert!(end.is_ok(), "case {case} run {n}: {end:?}");
            }
            drop(run);
        }
    }
}
