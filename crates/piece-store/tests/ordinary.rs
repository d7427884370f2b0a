//! Ordinary use in many variants. None of them ends in an error or loses a piece.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use piece_store::OpenSpec;

const FILES: [(&str, usize); 5] =
    [("a", 20_000), ("e", 0), ("b", 40_000), ("c", 9_000), ("d/d", 30_000)];
/// The selections of consecutive launches.
const LISTS: [[bool; 5]; 5] = [
    [true, false, false, true, false],
    [true; 5],
    [false, true, true, false, true],
    [false, false, false, false, true],
    [true; 5],
];

/// Overwriting, preallocation, empty files, changing selections, all twice, with clean shutdowns or
/// kills.
#[test]
fn ordinary_use_never_fails() {
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
            let launch = open(&spec).try_check();
            assert!(launch.is_ok(), "case {case} launch {n}: {:?}", launch.err());
            let mut launch = launch.unwrap();
            let wanted: Vec<u32> =
                launch.opened.wanted.iter().skip(n as usize % 2).step_by(2).collect();
            if !spec.seed_only {
                for piece in wanted {
                    if !launch.have().contains(&piece) {
                        launch.commit(&torrent, [piece]);
                    }
                }
            }
            let synced = if bit(3) { launch.store.sync() } else { Ok(()) };
            assert!(synced.is_ok(), "case {case} launch {n}: {synced:?}");
            if bit(4) {
                let end = launch.store.close(n.into(), 0, &[]);
                assert!(end.is_ok(), "case {case} launch {n}: {end:?}");
            }
            drop(launch);
            // Hard links and emptied files change nothing.
            if n == 0 && save.join("t/a").exists() {
                std::fs::hard_link(save.join("t/a"), save.join("t/link")).unwrap();
            }
            if n == 2 && save.join("t/b").exists() && bit(2) {
                std::fs::write(save.join("t/b"), b"").unwrap();
            }
        }
    }
}

/// Ordinary use on disks with unstable and with stable file ids.
#[test]
fn ordinary_use_with_unstable_ids() {
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
            let renumber = || {
                if renumbers {
                    disk.forget_inodes();
                }
            };
            let mut launch = start(&disk, &spec);
            verify_all(&launch);
            // The table keeps some of them open.
            if n % 2 == 0 {
                renumber();
            }
            let checked = launch.store.finish_check();
            assert!(checked.is_ok(), "case {case} launch {n}: {checked:?}");
            let wanted: Vec<u32> =
                launch.opened.wanted.iter().skip(n as usize % 2).step_by(2).collect();
            if !spec.seed_only {
                for piece in wanted {
                    if !launch.have().contains(&piece) {
                        launch.commit(&torrent, [piece]);
                    }
                    renumber();
                }
            }
            let synced = if bit(3) { launch.store.sync() } else { Ok(()) };
            assert!(synced.is_ok(), "case {case} launch {n}: {synced:?}");
            renumber();
            if bit(4) {
                let end = launch.store.close(n.into(), 0, &[]);
                assert!(end.is_ok(), "case {case} launch {n}: {end:?}");
            }
            drop(launch);
        }
    }
}
