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

/// Files whose names differ in the case of letters only.
fn folded_names(names: &[&str]) -> Torrent {
    let files: Vec<_> = names.iter().map(|name| (*name, LENGTH)).collect();
    torrent(&files, PIECE)
}

/// Checks which file has which content, by the names as they are spelled on the disk.
#[track_caller]
fn assert_spelled(place: &Place<MemDisk>, torrent: &Torrent, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        let path = format!("/save/t/{name}");
        let spelled = place.disk.files().into_iter().map(|(path, ..)| path).collect::<Vec<_>>();
        assert!(place.disk.has(&path), "{name} in {spelled:?}");
        assert!(place.disk.bytes(&path) == torrent.file_data(index), "{name} in {spelled:?}");
    }
}

/// Commits in `order`, then looks at the files again with and without a journal.
#[track_caller]
fn check_folded(names: &[&str], on_disk: &[&str], order: &[u32]) {
    let torrent = folded_names(names);
    let place = in_memory(MemDisk::folding());
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, order.iter().copied());
    run.close();
    assert_spelled(&place, &torrent, on_disk);
    let all: Vec<u32> = (0..torrent.pieces()).collect();
    let run = place.open(&place.spec(&torrent));
    assert_eq!((run.have(), run.to_verify()), (all.clone(), vec![]), "after a clean shutdown");
    drop(run);
    let run = place.open(&OpenSpec { resume: false, ..place.spec(&torrent) }).check();
    assert_eq!(run.have(), all, "without the journal's word");
    drop(run);
    place.remove_journals();
    for read_only in [true, false] {
        let run = place.open(&OpenSpec { read_only, ..place.spec(&torrent) }).check();
        assert_eq!(run.have(), all, "without a journal, read_only {read_only}");
        run.close();
        assert_spelled(&place, &torrent, on_disk);
    }
}

#[test]
fn folded_names_get_numbers() {
    check_folded(&["Readme", "README"], &["Readme", "README~2"], &[0, 1]);
    check_folded(&["a.TXT", "b", "A.txt"], &["a.TXT", "b", "A~2.txt"], &[0, 1, 2]);
}

#[test]
fn folded_names_in_any_order() {
    check_folded(&["Readme", "README"], &["Readme", "README~2"], &[1, 0]);
}

#[test]
fn three_folded_names_get_numbers() {
    check_folded(&["Readme", "README", "readme"], &["Readme", "README~2", "readme~3"], &[0, 1, 2]);
}

/// The name that the second entry gets is already that of a third.
#[test]
fn numbered_name_may_be_taken() {
    let names = ["Readme", "README", "README~2"];
    let torrent = folded_names(&names);
    let place = in_memory(MemDisk::folding());
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, 0..3);
    run.close();
    assert!(place.open(&place.spec(&torrent)).opened.have.is_full());
    place.remove_journals();
    assert_eq!(place.open(&place.spec(&torrent)).check().have(), [0, 1, 2]);
}

/// One of two that fold is downloaded first, the other by a later launch.
#[test]
fn folded_name_selected_later() {
    let torrent = folded_names(&["Readme", "README"]);
    for first in [[true, false], [false, true]] {
        let place = in_memory(MemDisk::folding());
        let mut run = place.open(&some(&place.spec(&torrent), &first)).check();
        run.commit(&torrent, [u32::from(first[1])]);
        run.close();
        let mut run = place.open(&place.spec(&torrent)).check();
        assert_eq!(run.have(), [u32::from(first[1])], "what is verified stays");
        run.commit(&torrent, [u32::from(first[0])]);
        run.close();
        let spec = place.spec(&torrent);
        assert!(place.open(&spec).opened.have.is_full(), "{first:?}");
        let run = place.open(&OpenSpec { resume: false, ..spec }).check();
        assert_eq!(run.have(), [0, 1], "{first:?}: without the journal's word");
    }
}

/// A kill after each piece of a folded pair.
#[test]
fn folded_names_survive_a_kill() {
    let torrent = folded_names(&["Readme", "README"]);
    let place = in_memory(MemDisk::folding());
    for piece in 0..2 {
        let mut run = place.open(&place.spec(&torrent)).check();
        assert_eq!(run.have(), (0..piece).collect::<Vec<_>>());
        run.commit(&torrent, [piece]);
    }
    let run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.have(), [0, 1]);
    run.close();
    assert_spelled(&place, &torrent, &["Readme", "README~2"]);
}

/// What has the folded name is the user's own.
#[test]
fn folded_user_file_is_refused() {
    let torrent = folded_names(&["Readme"]);
    let place = in_memory(MemDisk::folding());
    place.write("t/README", &noise(LENGTH, 77));
    assert!(place.open(&place.spec(&torrent)).try_check().is_err());
    assert!(place.bytes("t/README").unwrap() == noise(LENGTH, 77));
}

/// A file with the number of a pair is no reason to look for it where nothing folds.
#[test]
fn numbered_file_is_no_entry_elsewhere() {
    let (torrent, place) = (folded_names(&["Readme", "README"]), on_disk());
    // From here on its naming is recorded.
    drop(place.open(&place.spec(&torrent)).check());
    place.write("t/README~2", b"the user's own");
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, [0, 1]);
    run.close();
    torrent.assert_complete(&place.save);
    assert_eq!(place.bytes("t/README~2").unwrap(), b"the user's own");
}

// ---- Entries that are hard links of one file ----

/// Two entries that are one file. `same`: with one content.
fn linked_entries(place: &Place<piece_store::OsDisk>, same: bool) -> Torrent {
    let first = noise(LENGTH, 1);
    let second = if same { first.clone() } else { noise(LENGTH, 2) };
    let torrent = torrent_of(&[("a", LENGTH), ("b", LENGTH)], PIECE, [first, second].concat());
    torrent.write_file(&place.save, 0);
    std::fs::hard_link(place.save.join("t/a"), place.save.join("t/b")).unwrap();
    torrent
}

#[test]
fn linked_entries_of_one_content_stay() {
    let place = on_disk();
    let torrent = linked_entries(&place, true);
    let run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.have(), [0, 1]);
    run.close();
    assert!(place.open(&place.spec(&torrent)).opened.have.is_full());
    assert!(!place.save.join("t/b~2").exists());
    torrent.assert_complete(&place.save);
}

#[test]
fn linked_entries_of_two_contents_part() {
    let place = on_disk();
    let torrent = linked_entries(&place, false);
    let mut run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.have(), [0]);
    run.commit(&torrent, [1]);
    run.close();
    assert!(place.bytes("t/a").unwrap() == torrent.file_data(0));
    assert!(place.bytes("t/b~2").unwrap() == torrent.file_data(1));
    let run = place.open(&place.spec(&torrent));
    assert_eq!((run.have(), run.to_verify()), (vec![0, 1], vec![]));
    drop(run);
    place.remove_journals();
    let run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.have(), [0, 1]);
    run.close();
    let report = torrent.verify(&place.save, None);
    assert!(report.good.is_full());
    let paths: Vec<_> = report.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(paths, [Path::new("t/a"), Path::new("t/b~2")]);
}

/// The user takes the link away: the content under the number is still the entry's.
#[test]
fn numbered_file_outlives_its_cause() {
    let place = on_disk();
    let torrent = linked_entries(&place, false);
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, [1]);
    run.close();
    std::fs::remove_file(place.save.join("t/b")).unwrap();
    assert_eq!(place.open(&place.spec(&torrent)).check().have(), [0, 1]);
}

// ---- Names that others made ----

/// Names that Linux holds and that this program would not make.
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
        for read_only in [true, false] {
            let place = on_disk();
            write_as(&torrent, &place.save, naming, 0..4);
            let before = tree(&place.save);
            let spec = OpenSpec { read_only, ..place.spec(&torrent) };
            let mut run = place.open(&spec).check();
            assert_eq!(run.have(), [0, 1, 2, 3], "{naming:?}");
            let extents = run.read(&torrent, 1, 0, 100).unwrap();
            assert_eq!(bytes_of(&extents), torrent.piece_data(1)[..100]);
            run.close();
            assert!(place.open(&spec).opened.have.is_full(), "{naming:?}");
            let report = torrent.verify(&place.save, None);
            assert!(report.good.is_full(), "{naming:?}");
            assert_eq!(tree(&place.save), before, "{naming:?}");
        }
    }
}

#[test]
fn download_goes_on_under_found_names() {
    let (torrent, place) = (raw_torrent(), on_disk());
    write_as(&torrent, &place.save, Naming::Raw, 0..2);
    let mut run = place.open(&place.spec(&torrent)).check();
    assert_eq!((run.have(), run.opened.naming), (vec![0, 1], Naming::Raw));
    run.commit(&torrent, [2, 3]);
    run.close();
    let paths = torrent.metainfo.info().disk_paths(Naming::Raw);
    let mut expected: Vec<_> = paths.iter().map(|path| place.save.join(path)).collect();
    expected.sort();
    assert_eq!(tree(&place.save), expected);
}

#[test]
fn folder_of_version_0_is_found() {
    // Those that version 0.1.0 named otherwise.
    let files: [(&[u8], usize); 3] = [(b"aux.c", LENGTH), (b"end.", LENGTH), (b"a\\b", LENGTH)];
    let (torrent, place) = (torrent_named(b"con", &files, PIECE), on_disk());
    for (index, path) in ["con_/aux_.c", "con_/end._", "con_/a_b"].iter().enumerate() {
        place.write(path, torrent.file_data(index));
    }
    let run = place.open(&place.spec(&torrent)).check();
    assert_eq!((run.have(), run.opened.naming), (vec![0, 1, 2], Naming::Version0));
}

#[test]
fn new_files_get_names_of_linux() {
    let files: [(&[u8], usize); 3] = [(b"aux.c", LENGTH), (b"end.", LENGTH), (b"a\\b?", LENGTH)];
    let (torrent, place) = (torrent_named(b"con", &files, PIECE), on_disk());
    let mut run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.opened.naming, Naming::Unix);
    run.commit(&torrent, 0..3);
    run.close();
    let expected = ["con/a\\b?", "con/aux.c", "con/end."].map(|path| place.save.join(path));
    assert_eq!(tree(&place.save), expected);
}

#[test]
fn most_files_decide_for_all() {
    let (torrent, place) = (raw_torrent(), on_disk());
    // Two under one naming, three under another; "plain" counts for both.
    write_as(&torrent, &place.save, Naming::Unix, 0..1);
    write_as(&torrent, &place.save, Naming::Raw, 0..3);
    let before = tree(&place.save);
    let mut run = place.open(&place.spec(&torrent)).check();
    assert_eq!((run.have(), run.opened.naming), (vec![0, 1, 2], Naming::Raw));
    run.commit(&torrent, [3]);
    run.close();
    let mut expected = before;
    let last = torrent.metainfo.info().disk_paths(Naming::Raw).remove(3);
    expected.push(place.save.join(last));
    expected.sort();
    assert_eq!(tree(&place.save), expected, "no file under another naming");
}

#[test]
fn recorded_naming_wins() {
    for clean in [true, false] {
        let (torrent, place) = (raw_torrent(), on_disk());
        let mut run = place.open(&place.spec(&torrent)).check();
        assert_eq!(run.opened.naming, Naming::Unix);
        run.commit(&torrent, [0]);
        if clean {
            run.close();
        } else {
            drop(run);
        }
        // More of them, all good.
        write_as(&torrent, &place.save, Naming::Raw, 0..4);
        let mut run = place.open(&place.spec(&torrent)).check();
        assert_eq!((run.have(), run.opened.naming), (vec![0], Naming::Unix));
        run.commit(&torrent, 1..4);
        run.close();
        for path in torrent.metainfo.info().disk_paths(Naming::Unix) {
            assert!(place.save.join(path).exists());
        }
    }
}

/// `verify` reads what the journal says, and not what most files say.
#[test]
fn verify_uses_recorded_naming() {
    let (torrent, place) = (raw_torrent(), on_disk());
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, [0]);
    run.close();
    write_as(&torrent, &place.save, Naming::Raw, 0..3);
    let state = Some(place.state.as_path());
    let report = torrent.verify(&place.save, state);
    assert_eq!(numbers(&report.good), [0]);
    let paths = check::paths_in(&torrent.metainfo, &place.save, state).unwrap();
    assert_eq!(paths, torrent.metainfo.info().disk_paths(Naming::Unix));
    let report = torrent.verify(&place.save, None);
    assert_eq!(numbers(&report.good), [0, 1, 2]);
}

// ---- File systems that refuse names ----

/// Downloads on a disk that refuses names; the naming that it got to, and the paths.
#[track_caller]
fn naming_on(disk: MemDisk, torrent: &Torrent) -> (Naming, Vec<PathBuf>) {
    let place = in_memory(disk);
    let spec = OpenSpec { folder: "/save".into(), ..place.spec(torrent) };
    let mut run = place.open(&spec).check();
    let naming = run.opened.naming;
    run.commit(torrent, 0..torrent.pieces());
    run.close();
    let files = place.disk.files().into_iter().map(|(path, ..)| path);
    let mut paths: Vec<_> =
        files.filter_map(|path| Some(path.strip_prefix("/save").ok()?.to_owned())).collect();
    paths.sort();
    let run = place.open(&spec);
    assert!(run.opened.have.is_full() && run.opened.naming == naming);
    drop(run);
    // A seed without a journal finds them.
    place.remove_journals();
    let run = place.open(&OpenSpec { read_only: true, ..spec }).check();
    assert!(run.store.have().is_full(), "found without a journal");
    (naming, paths)
}

#[test]
fn refused_characters_make_windows_names() {
    let files: [(&[u8], usize); 3] = [(b"who?", LENGTH), (b"a*", LENGTH), (b"plain", LENGTH)];
    let torrent = torrent_named(b"to: me", &files, PIECE);
    let (naming, paths) = naming_on(MemDisk::refusing(":?*", 0), &torrent);
    assert_eq!(naming, Naming::Windows);
    assert_eq!(paths, ["to_ me/a_", "to_ me/plain", "to_ me/who_"].map(PathBuf::from));
    // One that refuses nothing of it.
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

/// The trial of names leaves nothing and takes nothing for it.
#[test]
fn trial_of_names_leaves_no_file() {
    let torrent = torrent_named(b"t", &[(b"who?", LENGTH)], PIECE);
    for disk in [MemDisk::refusing("?", 0), MemDisk::forgetful()] {
        let place = in_memory(disk);
        drop(place.open(&place.spec(&torrent)).check());
        let files = place.disk.files();
        assert!(files.iter().all(|(path, ..)| !path.starts_with("/save")), "{files:?}");
    }
    // A file of the user's that has the name stays.
    let place = in_memory(MemDisk::forgetful());
    place.write("who?", b"the user's own");
    drop(place.open(&place.spec(&torrent)).check());
    assert_eq!(place.bytes("who?").unwrap(), b"the user's own");
}

// ---- Long paths ----

#[test]
fn path_longer_than_the_system_takes() {
    let folder = [b'd'; 200];
    let path = [&folder[..]; 30].join(&b'/');
    let deep = [&path[..], b"/file"].concat();
    assert!(deep.len() > 4096);
    let files: [(&[u8], usize); 2] = [(&deep, 2 * LENGTH), (b"flat", 100)];
    let (torrent, place) = (torrent_named(b"t", &files, PIECE), on_disk());
    let mut run = place.open(&place.spec(&torrent)).check();
    run.commit(&torrent, [0]);
    run.store.sync().unwrap();
    drop(run);
    let mut run = place.open(&place.spec(&torrent)).check();
    assert_eq!(run.have(), [0]);
    run.commit(&torrent, [1, 2]);
    run.close();
    let mut run = place.open(&OpenSpec { read_only: true, ..place.spec(&torrent) }).check();
    assert_eq!(run.have(), [0, 1, 2]);
    let extents = run.read(&torrent, 1, 0, 100).unwrap();
    assert_eq!(bytes_of(&extents), torrent.piece_data(1)[..100]);
    run.close();
    let state = Some(place.state.as_path());
    let report = torrent.verify(&place.save, state);
    assert!(report.good.is_full() && report.files.iter().all(|file| file.ok));
    // The path is too long to be given to the system in one piece.
    let (root, _) = place.disk.folder(&place.save, false).unwrap();
    let path = torrent.metainfo.info().disk_paths(Naming::Unix).remove(0);
    assert!(std::fs::metadata(place.save.join(&path)).is_err());
    assert!(place.disk.stat(&root, &path).unwrap().is_some());
}
