//! Listing and hashing for a new torrent.

#![allow(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use common::*;
use piece_store::create::{self, ListError, Listing, OwnFiles};
use piece_store::{FileId, StoreError};
use tempfile::TempDir;

const PIECE: u32 = 64 * 1024;
const FILES: [(&str, usize); 3] = [("a", 700_000), ("sub/b", 1_000), ("c", 500_000)];

/// A folder `root` with these files of one byte, and its parent.
fn folder(files: &[&str]) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("root");
    fs::create_dir(&root).unwrap();
    for file in files {
        write(&root.join(file));
    }
    (parent, root)
}

fn write(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

fn list(root: &Path) -> Listing {
    create::list_files(root, &OwnFiles::default()).unwrap()
}

fn refused(root: &Path) -> ListError {
    create::list_files(root, &OwnFiles::default()).unwrap_err()
}

fn paths(listing: &Listing) -> Vec<&str> {
    listing.files.iter().map(|file| file.path.to_str().unwrap()).collect()
}

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn files_are_listed_and_hashed() {
    let root = tempfile::tempdir().unwrap();
    let torrent = torrent(&FILES, PIECE);
    torrent.write(root.path());
    let folder = root.path().join("t");
    fs::write(folder.join("zero"), b"").unwrap();
    let listing = list(&folder);
    assert_eq!(paths(&listing), ["a", "c", "sub/b", "zero"]);

    let data = [torrent.file_data(0), torrent.file_data(2), torrent.file_data(1)].concat();
    for piece_length in [16_384, 1 << 20, 1 << 29] {
        let expected: Vec<_> = data.chunks(piece_length).map(piece_hash::sha1).collect();
        let hashes =
            create::hash_files(&folder, &listing.files, piece_length as u32, 3, &|_, _| ())
                .unwrap();
        assert_eq!(hashes, expected);
    }
    let single = folder.join("a");
    let listing = list(&single);
    let hashes = create::hash_files(&single, &listing.files, PIECE, 1, &|_, _| ()).unwrap();
    let expected: Vec<_> =
        torrent.file_data(0).chunks(PIECE as usize).map(piece_hash::sha1).collect();
    assert_eq!(hashes, expected);
}

#[test]
fn files_are_sorted_element_by_element() {
    let (_parent, root) = folder(&["b", "a/b", "a-b", "a b/c", "a/a/a", "a\u{1}", "é", "a/b c"]);
    let files = list(&root).files;
    assert_eq!(files.len(), 8);
    assert!(files.is_sorted(), "{files:?}");
}

#[test]
fn changed_length_is_an_error() {
    let (_parent, root) = folder(&[]);
    let path = root.join("file");
    fs::write(&path, [1; 100]).unwrap();
    let mut files = list(&path).files;
    for length in [99, 101] {
        files[0].length = length;
        let error = create::hash_files(&path, &files, PIECE, 1, &|_, _| ()).unwrap_err();
        assert!(error.to_string().contains("it changed meanwhile"), "{error}");
    }
    assert!(create::hash_files(&path, &files, 0, 1, &|_, _| ()).is_err());
}

/// A pipe without a writer would block whoever opens it the usual way.
#[test]
fn pipe_in_place_of_file_is_an_error() {
    let (_parent, root) = folder(&["file"]);
    let path = root.join("file");
    let files = list(&path).files;
    fs::remove_file(&path).unwrap();
    make_fifo(&path);
    assert!(create::hash_files(&path, &files, PIECE, 1, &|_, _| ()).is_err());
}

#[test]
fn links_are_followed() {
    let (_parent, root) = folder(&["a", "sub/b"]);
    for (target, link) in [("a", "link"), ("link", "again"), ("sub", "one"), ("sub", "two")] {
        symlink(target, root.join(link)).unwrap();
    }
    let listing = list(&root);
    assert_eq!(paths(&listing), ["a", "again", "link", "one/b", "sub/b", "two/b"]);
    assert_eq!(listing.files[2].length, 1);
    assert!(listing.links_out.is_empty() && listing.skipped.is_empty(), "{listing:?}");

    let link = root.parent().unwrap().join("to root");
    symlink(&root, &link).unwrap();
    assert_eq!(list(&link), listing);
    assert_eq!(paths(&list(&root.join("again"))), [""]);
}

#[test]
fn links_out_are_listed() {
    let (parent, root) = folder(&["a"]);
    let outside = fs::canonicalize(parent.path()).unwrap().join("root store");
    write(&outside.join("one"));
    symlink(outside.join("one"), root.join("file")).unwrap();
    symlink("../root store", root.join("folder")).unwrap();
    symlink(fs::canonicalize(&root).unwrap().join("a"), outside.join("back")).unwrap();
    let listing = list(&root);
    assert_eq!(paths(&listing), ["a", "file", "folder/back", "folder/one"]);
    let out: Vec<_> = listing.links_out.into_iter().map(|link| (link.path, link.target)).collect();
    assert_eq!(out, [("file".into(), outside.join("one")), ("folder".into(), outside)]);
}

#[test]
fn loops_are_refused() {
    for (target, link) in [
        (".", "sub/self"),
        ("..", "sub/up"),
        ("../..", "sub/deeper/up"),
        ("ring", "ring"),
        ("sub/../ring", "ring"),
    ] {
        let (_parent, root) = folder(&["a", "sub/b", "sub/deeper/c"]);
        symlink(target, root.join(link)).unwrap();
        assert_eq!(refused(&root), ListError::Loop { path: root.join(link) });
    }
}

/// The folder that is met twice is not itself a link: the link before it is named.
#[test]
fn loop_outside_names_its_link() {
    let (parent, root) = folder(&["a"]);
    write(&parent.path().join("store/inner/b"));
    symlink("../store/inner", root.join("out")).unwrap();
    symlink("..", parent.path().join("store/inner/up")).unwrap();
    assert_eq!(refused(&root), ListError::Loop { path: root.join("out/up") });
}

#[test]
fn dangling_links_are_refused() {
    for target in ["missing", "a/below", "/no/such/folder"] {
        let (_parent, root) = folder(&["a"]);
        let path = root.join("link");
        symlink(target, &path).unwrap();
        assert_eq!(refused(&root), ListError::DanglingLink { path });
    }
}

#[test]
fn special_files_are_skipped_and_named() {
    let (_parent, root) = folder(&["a"]);
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    make_fifo(&root.join("pipe"));
    symlink("/dev/null", root.join("device")).unwrap();
    let listing = list(&root);
    assert_eq!(paths(&listing), ["a"]);
    assert_eq!(listing.skipped, ["device", "pipe", "socket"].map(PathBuf::from));
    assert!(listing.links_out.is_empty());
    let path = root.join("pipe");
    assert_eq!(refused(&path), ListError::NotAFile { path });
}

#[test]
fn own_files_are_left_out() {
    let (_parent, root) = folder(&["a", "out", "sub/out", "log"]);
    let root = fs::canonicalize(root).unwrap();
    symlink("out", root.join("link")).unwrap();
    fs::hard_link(root.join("out"), root.join("kept")).unwrap();
    fs::hard_link(root.join("log"), root.join("sub/log")).unwrap();
    let own = OwnFiles {
        paths: vec![root.join("out")],
        ids: vec![FileId::of(&fs::metadata(root.join("log")).unwrap())],
    };
    let listing = create::list_files(&root, &own).unwrap();
    assert_eq!(paths(&listing), ["a", "kept", "sub/out"]);
    assert_eq!(listing.own, ["link", "log", "out", "sub/log"].map(PathBuf::from));

    let own = OwnFiles { paths: vec![root.join("link")], ids: Vec::new() };
    let listing = create::list_files(&root, &own).unwrap();
    assert_eq!(listing.own, [PathBuf::from("link")]);
    assert!(paths(&listing).contains(&"out"));
}

#[test]
fn folders_end_at_100() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(refused(&root.path().join("none")), ListError::Disk(StoreError::Disk { .. })));
    let deep =
        |count: usize| root.path().join(std::iter::repeat_n("d", count).collect::<PathBuf>());
    fs::create_dir_all(deep(99)).unwrap();
    fs::write(deep(99).join("file"), b"x").unwrap();
    assert_eq!(list(root.path()).files.len(), 1);
    fs::create_dir_all(deep(100)).unwrap();
    assert_eq!(refused(root.path()), ListError::TooDeep { path: deep(100) });
}
