//! What must hold for any bytes at all. Run by the fuzzer, and by ordinary tests.

use std::collections::BTreeSet;

use bencode::Owned;
use bt_types::fuzz::Choices;

use crate::{
    FileEntry, Info, MAX_ELEMENT_LENGTH, MAX_MAGNET_LENGTH, MAX_PATH_DEPTH, Magnet, Metainfo,
    map_element,
};

/// Reads `data` as a `.torrent` file, and asserts what the crate promises of what it accepts.
///
/// # Panics
/// If a promise is broken.
pub fn torrent(data: &[u8]) {
    match Metainfo::parse(data) {
        Ok(metainfo) => check_metainfo(&metainfo, data),
        Err(error) => assert!(error.offset <= data.len(), "an error points into the file: {error}"),
    }
}

/// Makes a torrent of files whose names `data` chooses, and asserts that they are safe and differ.
///
/// # Panics
/// If a promise is broken.
pub fn paths(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut files = Vec::new();
    while !choices.is_empty() && files.len() < 40 {
        let length = choices.byte();
        let path: Vec<&[u8]> = (0..=choices.below(3)).map(|_| element(&mut choices)).collect();
        path.iter().for_each(|raw| check_mapped(raw));
        let attributes = if length == 1 { "p" } else { "" };
        files.push(Owned::dict([
            ("attr", Owned::from(attributes)),
            ("length", Owned::from(length)),
            ("path", Owned::List(path.into_iter().map(Owned::from).collect())),
        ]));
    }
    let info = Owned::dict([
        ("files", Owned::List(files)),
        ("name", Owned::from("t")),
        ("piece length", Owned::from(1 << 20)),
        ("pieces", Owned::from(&[0; 20])),
    ]);
    torrent(&bencode::encode(&Owned::dict([("info", info)])));
}

/// A name, often a short one so that names meet.
fn element<'a>(choices: &mut Choices<'a>) -> &'a [u8] {
    let length = choices.byte();
    choices.bytes(usize::from(if length < 0xf0 { length % 8 } else { length }))
}

fn check_mapped(raw: &[u8]) {
    if let Ok(mapped) = map_element(raw) {
        check_element(&mapped);
        assert_eq!(map_element(mapped.as_bytes()), Ok(mapped), "a mapped name stays as it is");
    }
}

/// Reads `data` as a magnet link, and asserts what the crate promises of what it accepts.
///
/// # Panics
/// If a promise is broken.
pub fn magnet(data: &[u8]) {
    if let Some(magnet) = str::from_utf8(data).ok().and_then(|text| text.parse::<Magnet>().ok()) {
        assert_eq!(magnet.to_string().parse(), Ok(magnet), "a link is read as it was written");
    }
}

fn check_metainfo(metainfo: &Metainfo, data: &[u8]) {
    assert_eq!(metainfo.raw(), data);
    let info = metainfo.info();
    assert_eq!(info.piece_hashes().len(), info.geometry().piece_count() as usize);
    check_paths(info);
    check_ranges(info);
    let again = Metainfo::from_info(metainfo.raw_info(), metainfo.trackers());
    assert_eq!(again.map(|again| again.info_hashes()), Ok(metainfo.info_hashes()));
    let link = metainfo.magnet().to_string();
    if link.len() <= MAX_MAGNET_LENGTH {
        let hashes = link.parse::<Magnet>().map(|link| link.info_hashes);
        assert_eq!(hashes, Ok(metainfo.info_hashes()));
    }
}

/// Every path stays below its folder and belongs to one file.
fn check_paths(info: &Info) {
    check_element(info.disk_name());
    let real = || info.files().iter().filter(|file| !file.is_pad());
    let mut folders = BTreeSet::new();
    for file in real() {
        assert!(file.components().count() <= MAX_PATH_DEPTH);
        file.components().for_each(check_element);
        let path = file.path();
        folders.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
    }
    let mut files = BTreeSet::new();
    for file in real() {
        assert!(files.insert(file.path()), "two files have {:?}", file.path());
        assert!(!folders.contains(file.path()), "{:?} is also a folder", file.path());
    }
}

fn check_element(name: &str) {
    assert!(!matches!(name, "" | "." | ".."), "{name:?}");
    assert!(name.len() <= MAX_ELEMENT_LENGTH, "{name:?}");
    assert!(!name.contains(['/', '\\', '\0']), "{name:?}");
    assert!(!name.contains(char::is_control), "{name:?}");
    assert!(!name.ends_with(['.', ' ']), "{name:?}");
}

/// The ranges of all pieces run through all files, in order and without a gap.
fn check_ranges(info: &Info) {
    let geometry = info.geometry();
    let mut at = 0;
    for piece in geometry.pieces().take(64) {
        assert_eq!(at, geometry.offset_of(piece));
        for range in info.file_ranges(piece) {
            let file = info.file(range.file).expect("the file of a range exists");
            assert_eq!(file.offset() + range.offset, at);
            assert!(range.length > 0 && range.offset + range.length <= file.length());
            at += range.length;
        }
        assert_eq!(at, geometry.offset_of(piece) + u64::from(geometry.length_of(piece)));
    }
    let sum: u64 = info.files().iter().map(FileEntry::length).sum();
    assert_eq!(sum, geometry.total());
}
