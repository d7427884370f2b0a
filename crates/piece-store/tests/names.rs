//! Names on disk: file systems that fold or refuse some, names that other programs made, long
//! paths.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::mem::MemDisk;
use common::*;
use metainfo::Naming;
use piece_store::{Disk, OpenSpec, check};

const PIECE: u32 = 16_384;
const LENGTH: usize = PIECE as usize;

// ---- Folding ----

/// Files whose names differ only in the case of letters.
fn folded_names(names: &[&str]) -> Torrent {
    let files: Vec<_> = names.iter().map(|name| (*name, LENGTH)).collect();
    torrent(&files, PIECE)
}

/// Checks which file has which content, by the names as they are spelled on the disk.
#[track_caller]
fn assert_spelled(site: &Site<MemDisk>, torrent: &Torrent, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        let path = format!("/save/t/{name}");
        let spelled = site.disk.files().into_iter().map(|(path, ..)| path).collect::<Vec<_>>();
        assert!(site.disk.has(&path), "{name} in {spelled:?}");
        assert!(site.disk.bytes(&path) == torrent.file_data(index), "{name} in {spelled:?}");
    }
}

/// Commits in `order`, then opens the files again with and without a journal.
#[track_caller]
fn check_folded(names: &[&str], on_disk: &[&str], order: &[u32]) {
    let torrent = folded_names(names);
    let site = in_memory(MemDisk::folding());
    site.start(&torrent).with(&torrent, order.iter().copied()).close();
    assert_spelled(&site, &torrent, on_disk);
    let all: Vec<u32> = (0..torrent.pieces()).collect();
    let launch = site.open(&site.spec(&torrent));
    assert_eq!(
        (launch.have(), launch.to_verify()),
        (all.clone(), vec![]),
        "after a clean shutdown"
    );
    drop(launch);
    let launch = site.open(&OpenSpec { resume: false, ..site.spec(&torrent) }).check();
    assert_eq!(launch.have(), all, "without the journal");
    drop(launch);
    site.remove_journals();
    for seed_only in [true, false] {
        let launch = site.open(&OpenSpec { seed_only, ..site.spec(&torrent) }).check();
        assert_eq!(launch.have(), all, "without a journal, seed_only {seed_only}");
        launch.close();
        assert_spelled(&site, &torrent, on_disk);
    }
}

#[test]
fn folded_names_get_numbers() {
    check_folded(&["Readme", "README"], &["Readme", "README~2"], &[0, 1]);
    check_folded(&["Readme", "README"], &["Readme", "README~2"], &[1, 0]);
    check_folded(&["a.TXT", "b", "A.txt"], &["a.TXT", "b", "A~2.txt"], &[0, 1, 2]);
    check_folded(&["Readme", "README", "readme"], &["Readme", "README~2", "readme~3"], &[0, 1, 2]);
}

/// The numbered name of the second entry is already the name of a third.
#[test]
fn numbered_name_may_be_taken() {
    let names = ["Readme", "README", "README~2"];
    let torrent = folded_names(&names);
    let site = in_memory(MemDisk::folding());
    site.start(&torrent).with(&torrent, 0..3).close();
    assert!(site.open(&site.spec(&torrent)).opened.have.is_full());
    site.remove_journals();
    assert_eq!(site.start(&torrent).have(), [0, 1, 2]);
}

/// Of two entries that fold, the first launch downloads one and a later launch the other.
#[test]
fn folded_name_selected_later() {
    let torrent = folded_names(&["Readme", "README"]);
    for first in [[true, false], [false, true]] {
        let site = in_memory(MemDisk::folding());
        site.open(&some(&site.spec(&torrent), &first))
            .check()
            .with(&torrent, [u32::from(first[1])])
            .close();
        let mut launch = site.start(&torrent);
        assert_eq!(launch.have(), [u32::from(first[1])], "what is verified stays");
        launch.commit(&torrent, [u32::from(first[0])]);
        launch.close();
        let spec = site.spec(&torrent);
        assert!(site.open(&spec).opened.have.is_full(), "{first:?}");
        let launch = site.open(&OpenSpec { resume: false, ..spec }).check();
        assert_eq!(launch.have(), [0, 1], "{first:?}: without the journal's word");
    }
}

/// A kill after each piece of a folded pair.
#[test]
fn folded_names_survive_a_kill() {
    let torrent = folded_names(&["Readme", "README"]);
    let site = in_memory(MemDisk::folding());
    for piece in 0..2 {
        let mut launch = site.start(&torrent);
        assert_eq!(launch.have(), (0..piece).collect::<Vec<_>>());
        launch.commit(&torrent, [piece]);
    }
    site.start(&torrent).assert_have(&[0, 1]).close();
    assert_spelled(&site, &torrent, &["Readme", "README~2"]);
}

/// The file with the folded name is the user's own.
#[test]
fn folded_user_file_is_refused() {
    let torrent = folded_names(&["Readme"]);
    let site = in_memory(MemDisk::folding());
    site.write("t/README", &noise(LENGTH, 77));
    assert!(site.open(&site.spec(&torrent)).try_check().is_err());
    assert!(site.bytes("t/README").unwrap() == noise(LENGTH, 77));
}

/// A file with a numbered name is no entry's file where nothing folds.
#[test]
fn numbered_file_is_no_entry_elsewhere() {
    let (torrent, site) = (folded_names(&["Readme", "README"]), on_disk());
    // From here on its naming is recorded.
    drop(site.start(&torrent));
    site.write("t/README~2", b"the user's own");
    site.start(&torrent).with(&torrent, [0, 1]).close();
    torrent.assert_complete(&site.save);
    assert_eq!(site.bytes("t/README~2").unwrap(), b"the user's own");
}

// ---- Entries that are hard links of one file ----

/// Two entries that are one file. `same`: with one content.
fn linked_entries(site: &Site<piece_store::OsDisk>, same: bool) -> Torrent {
    let first = noise(LENGTH, 1);
    let second = if same { first.clone() } else { noise(LENGTH, 2) };
    let torrent = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, [first, second].concat());
    torrent.write_file(&site.save, 0);
    std::fs::hard_link(site.save.join("t/a"), site.save.join("t/b")).unwrap();
    torrent
}

#[test]
fn linked_entries_of_one_content_stay() {
    let site = on_disk();
    let torrent = linked_entries(&site, true);
    site.start(&torrent).assert_have(&[0, 1]).close();
    assert!(site.open(&site.spec(&torrent)).opened.have.is_full());
    assert!(!site.save.join("t/b~2").exists());
    torrent.assert_complete(&site.save);
}

#[test]
fn linked_entries_of_two_contents_separate() {
    let site = on_disk();
    let torrent = linked_entries(&site, false);
    site.start(&torrent).assert_have(&[0]).with(&torrent, [1]).close();
    assert!(site.bytes("t/a").unwrap() == torrent.file_data(0));
    assert!(site.bytes("t/b~2").unwrap() == torrent.file_data(1));
    let launch = site.open(&site.spec(&torrent));
    assert_eq!((launch.have(), launch.to_verify()), (vec![0, 1], vec![]));
    drop(launch);
    site.remove_journals();
    site.start(&torrent).assert_have(&[0, 1]).close();
    let report = torrent.verify(&site.save, None);
    assert!(report.good.is_full());
    let paths: Vec<_> = report.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(paths, [Path::new("t/a"), Path::new("t/b~2")]);
}

/// The user removes the link. The file under the numbered name is still the entry's.
#[test]
fn numbered_file_outlives_its_cause() {
    let site = on_disk();
    let torrent = linked_entries(&site, false);
    site.start(&torrent).with(&torrent, [1]).close();
    std::fs::remove_file(site.save.join("t/b")).unwrap();
    assert_eq!(site.start(&torrent).have(), [0, 1]);
}

// ---- Names that other programs made ----

/// Names that Linux accepts and this program does not make.
const RAW: [&[u8]; 4] = [b"bell\x07", b"caf\xe9", b"turn\xe2\x80\xae", b"plain"];

fn raw_torrent() -> Torrent {
    torrent_named(b"na\x01me", &RAW.map(|name| (name, LENGTH)), PIECE)
}

/// Writes the files under the names of `naming`.
fn write_as(torrent: &Torrent, folder: &Path, naming: Naming, files: std::ops::Range<usize>) {
    let paths = torrent.metainfo.info().disk_paths(naming);
    for index in files {
        let path = folder.join(&paths[index]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, torrent.file_data(index)).unwrap();
    }
}

/// The files below a folder, sorted.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(tree(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn raw_names_are_as_written() {
    let torrent = raw_torrent();
    let paths = torrent.metainfo.info().disk_paths(Naming::Raw);
    for (path, raw) in paths.iter().zip(RAW) {
        let expected = Path::new(OsStr::from_bytes(b"na\x01me")).join(OsStr::from_bytes(raw));
        assert_eq!(*path, expected);
    }
}

#[test]
fn files_of_other_programs_are_found() {
    for naming in [Naming::Raw, Naming::Unix, Naming::Version0, Naming::Windows, Naming::Short] {
        let torrent = raw_torrent();
        for seed_only in [true, false] {
            let site = on_disk();
            write_as(&torrent, &site.save, naming, 0..4);
            let before = tree(&site.save);
            let spec = OpenSpec { seed_only, ..site.spec(&torrent) };
            let mut launch = site.open(&spec).check();
            assert_eq!(launch.have(), [0, 1, 2, 3], "{naming:?}");
            let extents = launch.read(&torrent, 1, 0, 100).unwrap();
            assert_eq!(bytes_of(&extents), torrent.piece_data(1)[..100]);
            launch.close();
            assert!(site.open(&spec).opened.have.is_full(), "{naming:?}");
            let report = torrent.verify(&site.save, None);
            assert!(report.good.is_full(), "{naming:?}");
            assert_eq!(tree(&site.save), before, "{naming:?}");
        }
    }
}

#[test]
fn download_goes_on_under_found_names() {
    let (torrent, site) = (raw_torrent(), on_disk());
    write_as(&torrent, &site.save, Naming::Raw, 0..2);
    let mut launch = site.start(&torrent);
    assert_eq!((launch.have(), launch.opened.naming), (vec![0, 1], Naming::Raw));
    launch.commit(&torrent, [2, 3]);
    launch.close();
    let paths = torrent.metainfo.info().disk_paths(Naming::Raw);
    let mut expected: Vec<_> = paths.iter().map(|path| site.save.join(path)).collect();
    expected.sort();
    assert_eq!(tree(&site.save), expected);
}

#[test]
fn folder_of_version_0_is_found() {
    // Names that version 0.1.0 made differently.
    let files: [(&[u8], usize); 3] = [(b"aux.c", LENGTH), (b"end.", LENGTH), (b"a\\b", LENGTH)];
    let (torrent, site) = (torrent_named(b"con", &files, PIECE), on_disk());
    for (index, path) in ["con_/aux_.c", "con_/end._", "con_/a_b"].iter().enumerate() {
        site.write(path, torrent.file_data(index));
    }
    let launch = site.start(&torrent);
    assert_eq!((launch.have(), launch.opened.naming), (vec![0, 1, 2], Naming::Version0));
}

#[test]
fn new_files_get_names_of_linux() {
    let files: [(&[u8], usize); 3] = [(b"aux.c", LENGTH), (b"end.", LENGTH), (b"a\\b?", LENGTH)];
    let (torrent, site) = (torrent_named(b"con", &files, PIECE), on_disk());
    let mut launch = site.start(&torrent);
    assert_eq!(launch.opened.naming, Naming::Unix);
    launch.commit(&torrent, 0..3);
    launch.close();
    let expected = ["con/a\\b?", "con/aux.c", "con/end."].map(|path| site.save.join(path));
    assert_eq!(tree(&site.save), expected);
}

#[test]
fn most_files_decide_for_all() {
    let (torrent, site) = (raw_torrent(), on_disk());
    // Two under one naming, three under another; "plain" counts for both.
    write_as(&torrent, &site.save, Naming::Unix, 0..1);
    write_as(&torrent, &site.save, Naming::Raw, 0..3);
    let before = tree(&site.save);
    let mut launch = site.start(&torrent);
    assert_eq!((launch.have(), launch.opened.naming), (vec![0, 1, 2], Naming::Raw));
    launch.commit(&torrent, [3]);
    launch.close();
    let mut expected = before;
    let last = torrent.metainfo.info().disk_paths(Naming::Raw).remove(3);
    expected.push(site.save.join(last));
    expected.sort();
    assert_eq!(tree(&site.save), expected, "no file under another naming");
}

#[test]
fn recorded_naming_wins() {
    for clean in [true, false] {
        let (torrent, site) = (raw_torrent(), on_disk());
        let mut launch = site.start(&torrent);
        assert_eq!(launch.opened.naming, Naming::Unix);
        launch.commit(&torrent, [0]);
        launch.end(clean);
        // More of them, all good.
        write_as(&torrent, &site.save, Naming::Raw, 0..4);
        let mut launch = site.start(&torrent);
        assert_eq!((launch.have(), launch.opened.naming), (vec![0], Naming::Unix));
        launch.commit(&torrent, 1..4);
        launch.close();
        for path in torrent.metainfo.info().disk_paths(Naming::Unix) {
            assert!(site.save.join(path).exists());
        }
    }
}

/// `verify` uses the naming of the journal, not that of most files.
#[test]
fn verify_uses_recorded_naming() {
    let (torrent, site) = (raw_torrent(), on_disk());
    site.start(&torrent).with(&torrent, [0]).close();
    write_as(&torrent, &site.save, Naming::Raw, 0..3);
    let state = Some(site.state.as_path());
    let report = torrent.verify(&site.save, state);
    assert_eq!(numbers(&report.good), [0]);
    let paths = check::paths_in(&torrent.metainfo, &site.save, state).unwrap();
    assert_eq!(paths, torrent.metainfo.info().disk_paths(Naming::Unix));
    let report = torrent.verify(&site.save, None);
    assert_eq!(numbers(&report.good), [0, 1, 2]);
}

// ---- File systems that refuse names ----

/// Downloads on a disk that refuses names. Returns the naming that was chosen, and the paths.
#[track_caller]
fn naming_on(disk: MemDisk, torrent: &Torrent) -> (Naming, Vec<PathBuf>) {
    let site = in_memory(disk);
    let spec = OpenSpec { folder: "/save".into(), ..site.spec(torrent) };
    let mut launch = site.open(&spec).check();
    let naming = launch.opened.naming;
    launch.commit(torrent, 0..torrent.pieces());
    launch.close();
    let files = site.disk.files().into_iter().map(|(path, ..)| path);
    let mut paths: Vec<_> =
        files.filter_map(|path| Some(path.strip_prefix("/save").ok()?.to_owned())).collect();
    paths.sort();
    let launch = site.open(&spec);
    assert!(launch.opened.have.is_full() && launch.opened.naming == naming);
    drop(launch);
    // A seed without a journal finds them.
    site.remove_journals();
    let launch = site.open(&OpenSpec { seed_only: true, ..spec }).check();
    assert!(launch.store.have().is_full(), "found without a journal");
    (naming, paths)
}

#[test]
fn refused_characters_make_windows_names() {
    let files: [(&[u8], usize); 3] = [(b"who?", LENGTH), (b"a*", LENGTH), (b"plain", LENGTH)];
    let torrent = torrent_named(b"to: me", &files, PIECE);
    let (naming, paths) = naming_on(MemDisk::refusing(":?*", 0), &torrent);
    assert_eq!(naming, Naming::Windows);
    assert_eq!(paths, ["to_ me/a_", "to_ me/plain", "to_ me/who_"].map(PathBuf::from));
    // A disk that accepts the names.
    let (naming, paths) = naming_on(MemDisk::refusing("|", 0), &torrent);
    assert_eq!(naming, Naming::Unix);
    assert_eq!(paths, ["to: me/a*", "to: me/plain", "to: me/who?"].map(PathBuf::from));
}

#[test]
fn refused_length_makes_short_names() {
    let long = [b'x'; 200];
    let files: [(&[u8], usize); 2] = [(&long, LENGTH), (b"plain", LENGTH)];
    let torrent = torrent_named(b"t", &files, PIECE);
    let (naming, paths) = naming_on(MemDisk::refusing("", 143), &torrent);
    assert_eq!(naming, Naming::Short);
    assert_eq!(paths.len(), 2);
    assert!(paths.iter().flat_map(|path| path.iter()).all(|name| name.len() <= 143), "{paths:?}");
    let (naming, _) = naming_on(MemDisk::refusing("", 255), &torrent);
    assert_eq!(naming, Naming::Unix);
}

#[test]
fn refused_length_and_characters_together() {
    let long = [b'x'; 200];
    let files: [(&[u8], usize); 3] = [(&long, LENGTH), (b"who?", LENGTH), (b"plain", LENGTH)];
    let torrent = torrent_named(b"t", &files, PIECE);
    let (naming, paths) = naming_on(MemDisk::refusing(":?*", 143), &torrent);
    assert_eq!(naming, Naming::Short);
    assert!(paths.contains(&"t/who_".into()), "{paths:?}");
}

/// The trial of names leaves no file and overwrites none.
#[test]
fn trial_of_names_leaves_no_file() {
    let torrent = torrent_named(b"t", &[(b"who?", LENGTH)], PIECE);
    for disk in [MemDisk::refusing("?", 0), MemDisk::forgetful()] {
        let site = in_memory(disk);
        drop(site.start(&torrent));
        let files = site.disk.files();
        assert!(files.iter().all(|(path, ..)| !path.starts_with("/save")), "{files:?}");
    }
    // The user's own file with the name stays.
    let site = in_memory(MemDisk::forgetful());
    site.write("who?", b"the user's own");
    drop(site.start(&torrent));
    assert_eq!(site.bytes("who?").unwrap(), b"the user's own");
}

// ---- Long paths ----

#[test]
fn path_longer_than_the_system_takes() {
    let folder = [b'd'; 200];
    let path = [&folder[..]; 30].join(&b'/');
    let deep = [&path[..], b"/file"].concat();
    assert!(deep.len() > 4096);
    let files: [(&[u8], usize); 2] = [(&deep, 2 * LENGTH), (b"flat", 100)];
    let (torrent, site) = (torrent_named(b"t", &files, PIECE), on_disk());
    drop(site.start(&torrent).with(&torrent, [0]).synced());
    site.start(&torrent).assert_have(&[0]).with(&torrent, [1, 2]).close();
    let mut launch = site
        .open(&OpenSpec { seed_only: true, ..site.spec(&torrent) })
        .check()
        .assert_have(&[0, 1, 2]);
    let extents = launch.read(&torrent, 1, 0, 100).unwrap();
    assert_eq!(bytes_of(&extents), torrent.piece_data(1)[..100]);
    launch.close();
    let state = Some(site.state.as_path());
    let report = torrent.verify(&site.save, state);
    assert!(report.good.is_full() && report.files.iter().all(|file| file.ok));
    // The path is too long for one system call.
    let (root, _) = site.disk.folder(&site.save, false).unwrap();
    let path = torrent.metainfo.info().disk_paths(Naming::Unix).remove(0);
    assert!(std::fs::metadata(site.save.join(&path)).is_err());
    assert!(site.disk.stat(&root, &path).unwrap().is_some());
}
