//! Checks what must hold for any input. The fuzzer and the ordinary tests call it.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use bencode::Owned;
use testkit::Choices;

use metainfo::{
    FileEntry, Info, MAX_DUPLICATE_KEYS, MAX_ELEMENT_LENGTH, MAX_MAGNET_LENGTH, MAX_PATH_DEPTH,
    Magnet, Metainfo, MetainfoWarning, Naming, map_element,
};

/// Parses `data` as a `.torrent` file, and asserts what the crate promises about the result.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn torrent(data: &[u8]) {
    match Metainfo::parse(data) {
        Ok(metainfo) => check_metainfo(&metainfo, data),
        Err(error) => assert!(error.offset <= data.len(), "an error points into the file: {error}"),
    }
}

/// Makes a torrent of files whose names are from `data`, and asserts that they are safe and
/// distinct.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn paths(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (mut files, mut name) = (Vec::new(), b"t".as_slice());
    while !choices.is_empty() && files.len() < 40 {
        let length = choices.byte();
        let path: Vec<&[u8]> = (0..=choices.below(3)).map(|_| element(&mut choices)).collect();
        path.iter().for_each(|raw| check_mapped(raw));
        if files.is_empty() {
            name = path[0];
        }
        let attributes = if length == 1 { "p" } else { "" };
        files.push(Owned::dict([
            ("attr", Owned::from(attributes)),
            ("length", Owned::from(length)),
            ("path", Owned::List(path.into_iter().map(Owned::from).collect())),
        ]));
    }
    let info = Owned::dict([
        ("files", Owned::List(files)),
        ("name", Owned::from(name)),
        ("piece length", Owned::from(1 << 20)),
        ("pieces", Owned::from(&[0; 20])),
    ]);
    torrent(&bencode::encode(&Owned::dict([("info", info)])));
}

/// Returns a name, often a short one so that names are equal.
fn element<'a>(choices: &mut Choices<'a>) -> &'a [u8] {
    let length = choices.byte();
    choices.bytes(usize::from(if length < 0xf0 { length % 8 } else { length }))
}

fn check_mapped(raw: &[u8]) {
    for naming in Naming::ALL {
        let mapped = map_element(raw, naming);
        check_element(mapped.as_bytes(), naming);
        // Version 0.1.0 refused some names, so mapping its result again may change it.
        if naming != Naming::Version0 {
            let again = map_element(mapped.as_bytes(), naming);
            assert_eq!(again, mapped, "{naming:?}: a mapped name stays as it is");
        }
    }
}

/// Parses `data` as a magnet link, and asserts what the crate promises about the result.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn magnet(data: &[u8]) {
    let text = str::from_utf8(data).unwrap_or_default();
    if let Some(bare) = Magnet::from_bare_hash(text) {
        assert_eq!(format!("magnet:?xt=urn:btih:{text}").parse(), Ok(bare));
    }
    if let Ok(magnet) = text.parse::<Magnet>() {
        assert_eq!(
            magnet.to_string().parse(),
            Ok(magnet),
            "a written link parses to the same link"
        );
    }
}

fn check_metainfo(metainfo: &Metainfo, data: &[u8]) {
    check_warnings(metainfo, data);
    let info = metainfo.info();
    assert_eq!(info.piece_hashes().len(), info.geometry().piece_count() as usize);
    check_paths(info);
    check_ranges(info);
    let (trackers, web_seeds) = (metainfo.trackers(), metainfo.web_seeds());
    let again = Metainfo::from_info(metainfo.raw_info(), trackers, web_seeds).expect("a torrent");
    assert_eq!(again.info_hashes(), metainfo.info_hashes());
    assert_eq!(again.raw_info(), metainfo.raw_info());
    assert_eq!((again.trackers(), again.web_seeds()), (trackers, web_seeds));
    let link = metainfo.magnet().to_string();
    if link.len() <= MAX_MAGNET_LENGTH {
        let hashes = link.parse::<Magnet>().map(|link| link.info_hashes);
        assert_eq!(hashes, Ok(metainfo.info_hashes()));
    }
}

/// Checks that the warnings report all bytes after the torrent, and a bounded number of duplicate
/// keys.
fn check_warnings(metainfo: &Metainfo, data: &[u8]) {
    let rest = data.strip_prefix(metainfo.raw()).expect("the torrent is at the start of the file");
    let mut keys = 0;
    let mut trailing = 0;
    for warning in metainfo.warnings() {
        match warning {
            MetainfoWarning::TrailingBytes { offset, count } => {
                assert_eq!(*offset, metainfo.raw().len());
                trailing = *count;
            }
            MetainfoWarning::DuplicateKey { offset, .. } => {
                assert!(metainfo.raw()[*offset].is_ascii_digit(), "a key is at byte {offset}");
                keys += 1;
            }
        }
    }
    assert!(trailing == rest.len() && keys <= MAX_DUPLICATE_KEYS);
}

/// Checks that every path stays below its folder and belongs to one file.
fn check_paths(info: &Info) {
    for file in info.files() {
        assert!(file.components().all(|name| !name.contains(char::is_control)), "{file:?}");
        assert_eq!(Path::new(&*file.full_path()), file.disk_path());
    }
    for naming in Naming::ALL {
        let paths = info.disk_paths(naming);
        assert_eq!(paths.len(), info.files().len());
        paths.iter().for_each(|path| check_path(info, path, naming));
        let real = info.files().iter().zip(&paths).filter(|(file, _)| !file.is_pad());
        check_distinct(&real.map(|(_, path)| path.as_path()).collect::<Vec<_>>(), naming);
    }
    check_plain_names(info);
}

/// Checks that plain names are the original ones, and that every naming leaves them unchanged.
fn check_plain_names(info: &Info) {
    if !info.has_plain_names() {
        return;
    }
    assert_eq!(info.name(), info.disk_name());
    for file in info.files() {
        assert_eq!(file.path(), file.original_path());
    }
    let names = info.files().iter().flat_map(FileEntry::components).chain([info.disk_name()]);
    for (name, naming) in names.flat_map(|name| Naming::ALL.map(|naming| (name, naming))) {
        assert_eq!(map_element(name.as_bytes(), naming), name, "{naming:?} maps a plain name");
    }
}

/// Checks that `path` is the torrent's file or below its folder.
fn check_path(info: &Info, path: &Path, naming: Naming) {
    let depth = path.components().count();
    let is_deep_enough = if info.is_single_file() { depth == 1 } else { depth > 1 };
    assert!(is_deep_enough && depth <= 1 + MAX_PATH_DEPTH, "{naming:?}: {path:?}");
    for component in path.components() {
        let Component::Normal(name) = component else { panic!("{naming:?}: {path:?}") };
        check_element(name.as_bytes(), naming);
    }
    assert!(!path.as_os_str().as_bytes().contains(&0), "{naming:?}: {path:?}");
}

/// Checks that no two files share a path, and that none is a folder of another.
fn check_distinct(paths: &[&Path], naming: Naming) {
    let key = |path: &Path| match naming {
        Naming::Windows | Naming::Short => {
            let text = path.to_string_lossy();
            text.chars().flat_map(char::to_lowercase).collect::<String>().into_bytes()
        }
        _ => path.as_os_str().as_bytes().to_vec(),
    };
    let ends = |path: &[u8]| -> Vec<usize> {
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).collect()
    };
    let paths: Vec<_> = paths.iter().map(|path| key(path)).collect();
    let folders: BTreeSet<_> =
        paths.iter().flat_map(|path| ends(path).into_iter().map(|end| &path[..end])).collect();
    let mut files = BTreeSet::new();
    for path in &paths {
        assert!(files.insert(path), "{naming:?}: two files have {}", path.escape_ascii());
        assert!(!folders.contains(path.as_slice()), "{}: also a folder", path.escape_ascii());
    }
}

fn check_element(name: &[u8], naming: Naming) {
    let limit = if naming == Naming::Short { 143 } else { MAX_ELEMENT_LENGTH };
    let shown = name.escape_ascii();
    assert!(!matches!(name, b"" | b"." | b".."), "{naming:?}: {shown}");
    assert!(name.len() <= limit, "{naming:?}: {shown}");
    assert!(!name.iter().any(|byte| matches!(byte, b'/' | 0)), "{naming:?}: {shown}");
    if naming == Naming::Raw {
        return;
    }
    let name = str::from_utf8(name).expect("names are UTF-8");
    assert!(!name.contains(char::is_control), "{naming:?}: {name:?}");
    if matches!(naming, Naming::Windows | Naming::Short) {
        assert!(!name.contains(['\\', ':', '?', '*', '"', '<', '>', '|']), "{naming:?}: {name:?}");
        assert!(!name.ends_with(['.', ' ']), "{naming:?}: {name:?}");
    }
}

/// Checks that the ranges of the pieces cover the files, in order and without a gap.
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
