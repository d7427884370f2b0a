//! Ordinary use in many variants. None of them ends in an error or loses a piece.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use common::mem::MemDisk;
use common::*;
use piece_store::{Disk, OpenSpec};

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

fn bit(case: u32, number: u32) -> bool {
    case >> number & 1 == 1
}

/// Opens a torrent five times with changing selections, downloads half of what is wanted each time,
/// and ends with a clean shutdown or like a kill. `pause` is called at moments when another program
/// could do something, `between` after each launch.
fn use_ordinarily<D: Disk>(
    case: u32,
    site: &Site<D>,
    torrent: &Torrent,
    pause: impl Fn(),
    between: impl Fn(usize),
) {
    let spec =
        OpenSpec { overwrite: bit(case, 0), preallocate: bit(case, 1), ..site.spec(torrent) };
    for (n, list) in LISTS.iter().enumerate() {
        let spec = OpenSpec { seed_only: bit(case, 5) && n == 2, ..some(&spec, list) };
        if bit(case, 6) {
            drop(site.open(&spec));
        }
        let mut launch = site.open(&spec);
        for range in launch.opened.to_verify.clone() {
            assert_eq!(launch.verify(range).1, None, "case {case} launch {n}");
        }
        // The table of open files keeps some of them.
        if n % 2 == 0 {
            pause();
        }
        let checked = launch.store.finish_check();
        assert!(checked.is_ok(), "case {case} launch {n}: {checked:?}");
        let wanted = numbers(&launch.opened.wanted);
        for piece in wanted.into_iter().skip(n % 2).step_by(2).filter(|_| !spec.seed_only) {
            if !launch.have().contains(&piece) {
                launch.commit(torrent, [piece]);
            }
            pause();
        }
        let synced = if bit(case, 3) { launch.store.sync() } else { Ok(()) };
        assert!(synced.is_ok(), "case {case} launch {n}: {synced:?}");
        pause();
        if bit(case, 4) {
            let end = launch.store.close(n as u64, 0, &[]);
            assert!(end.is_ok(), "case {case} launch {n}: {end:?}");
        }
        drop(launch);
        between(n);
    }
}

/// Overwriting, preallocation, empty files, hard links.
#[test]
fn ordinary_use_never_fails() {
    for case in 0..128 {
        let (torrent, site) = (torrent(&FILES, 16_384), on_disk());
        if bit(case, 2) {
            torrent.write_file(&site.save, 4);
            site.write("t/a", b"");
        }
        // Hard links and emptied files change nothing.
        let between = |n| {
            if n == 0 && site.save.join("t/a").exists() {
                std::fs::hard_link(site.save.join("t/a"), site.save.join("t/link")).unwrap();
            }
            if n == 2 && site.save.join("t/b").exists() && bit(case, 2) {
                site.write("t/b", b"");
            }
        };
        use_ordinarily(case, &site, &torrent, || (), between);
    }
}

/// Disks with unstable and with stable file ids.
#[test]
fn ordinary_use_with_unstable_ids() {
    for case in 0..128 {
        let renumbers = bit(case, 2);
        let disk = if renumbers { MemDisk::renumbering() } else { MemDisk::forgetful() };
        let (torrent, site) = (torrent(&FILES, 16_384), in_memory(disk));
        let renumber = || {
            if renumbers {
                site.disk.forget_inodes();
            }
        };
        use_ordinarily(case, &site, &torrent, renumber, |_| ());
    }
}
