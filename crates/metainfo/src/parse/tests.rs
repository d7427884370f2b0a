//! What the table of verdicts on `testdata/hostile` does not say. `tests/hostile.rs` compares those:
//! each missing key, wrong kind, bad number and odd path.

use std::path::Path;

use bencode::{DecodeErrorKind, Owned, encode};

use super::*;
use crate::{MetainfoWarning, Naming};

type Entries<'a> = Vec<(&'a str, Owned)>;

/// Returns the `info` of a file of 5 bytes, with some entries changed (`None` removes one).
fn info(changes: &[(&'static str, Option<Owned>)]) -> Owned {
    let mut entries: Entries<'_> = vec![
        ("length", 5.into()),
        ("name", "n".into()),
        ("piece length", 16384.into()),
        ("pieces", (&[7; 20]).into()),
    ];
    for (key, value) in changes {
        entries.retain(|(name, _)| name != key);
        entries.extend(value.clone().map(|value| (*key, value)));
    }
    Owned::dict(entries)
}

/// Returns the `info` of a folder with these files.
fn folder(files: impl IntoIterator<Item = Owned>) -> Owned {
    info(&[("length", None), ("files", Some(Owned::list(files)))])
}

fn file(length: u64, path: &[&str]) -> Owned {
    let path = path.iter().map(|element| Owned::from(*element));
    Owned::dict([("length", length.into()), ("path", path.collect())])
}

fn parse(info: Owned, root: Entries<'_>) -> Result<Metainfo> {
    let entries = root.into_iter().chain([("info", info)]);
    Metainfo::parse(encode(&Owned::dict(entries)))
}

#[test]
fn nameless_torrents_get_the_hash() {
    for name in ["", ".", ".."] {
        let single = parse(info(&[("name", Some(name.into()))]), vec![]).unwrap();
        let hash = single.info_hash().to_string();
        assert_eq!((single.info().name(), single.info().disk_name()), (name, hash.as_str()));
        let mut several = folder([file(5, &["a"])]);
        let Owned::Dict(entries) = &mut several else { panic!("a dictionary") };
        entries.insert(b"name".to_vec(), name.into());
        let several = parse(several, vec![]).unwrap();
        let path = format!("{}/a", several.info_hash());
        for naming in [Naming::Raw, Naming::Unix, Naming::Windows, Naming::Version0] {
            assert_eq!(several.info().disk_paths(naming), [Path::new(&path)]);
            assert_eq!(single.info().disk_paths(naming), [Path::new(&hash)]);
        }
    }
}

#[test]
fn name_is_mapped_only_on_disk() {
    let metainfo = parse(info(&[("name", Some(b"a\xffb\x07".into()))]), vec![]).unwrap();
    let info = metainfo.info();
    assert_eq!((info.name(), info.disk_name()), ("a\u{fffd}b\u{7}", "a%FFb_"));
    let file = info.file(0).unwrap();
    assert_eq!((file.path(), file.original_path()), ("a%FFb_", "a\u{fffd}b\u{7}"));
    assert_eq!(file.disk_path(), std::path::Path::new("a%FFb_"));
}

#[test]
fn valid_utf8_keys_take_precedence() {
    let path = |bytes: &[u8]| Owned::list([bytes.into()]);
    let both = |utf8: Owned| {
        let entries = [("length", 5.into()), ("path", path(b"\xff")), ("path.utf-8", utf8)];
        folder([Owned::dict(entries)])
    };
    let path_of = |info| {
        let metainfo = parse(info, vec![]).unwrap();
        metainfo.info().file(0).unwrap().path().to_owned()
    };
    assert_eq!(path_of(both(path("ü".as_bytes()))), "ü");
    for invalid in [path(b"\xfe"), Owned::list([]), 1.into(), "x".into()] {
        assert_eq!(path_of(both(invalid)), "%FF");
    }
    let name = |utf8: Owned| {
        let changes = [("name", Some(b"\xff".into())), ("name.utf-8", Some(utf8))];
        parse(info(&changes), vec![]).unwrap().info().disk_name().to_owned()
    };
    assert_eq!(name("ü".into()), "ü");
    assert_eq!((name(1.into()), name("".into())), ("%FF".to_owned(), "%FF".to_owned()));
}

#[test]
fn attribute_letters_come_in_any_order() {
    let with = |attr: &str| {
        let path = Owned::list(["a".into()]);
        let entries = [("attr", attr.into()), ("length", 5.into()), ("path", path)];
        let metainfo = parse(folder([Owned::dict(entries)]), vec![]).unwrap();
        let file = metainfo.info().file(0).unwrap();
        (file.is_pad(), file.is_executable(), file.is_hidden(), file.is_symlink())
    };
    assert_eq!(with("xh"), (false, true, true, false));
    assert_eq!(with("?lp"), (true, false, false, true));
    let link = Owned::dict([("attr", "l".into()), ("path", Owned::list(["l".into()]))]);
    let metainfo = parse(folder([file(5, &["a"]), link]), vec![]).unwrap();
    assert_eq!(
        metainfo.info().file(1).map(|file| (file.length(), file.is_symlink())),
        Some((0, true))
    );
}

#[test]
fn versions_are_told_apart() {
    let raw = |info: Owned| parse(info, vec![]);
    let v1 = raw(info(&[])).unwrap();
    assert!(matches!(v1.info_hashes(), InfoHashes::V1(_)));
    let hybrid = raw(info(&[("meta version", Some(2.into()))])).unwrap();
    let InfoHashes::Hybrid(one, two) = hybrid.info_hashes() else { panic!("expected a hybrid") };
    assert_eq!(one.0, <[u8; 20]>::from(Sha1::digest(hybrid.raw_info())));
    assert_eq!(two.0, <[u8; 32]>::from(Sha256::digest(hybrid.raw_info())));
    assert_eq!(hybrid.info_hash(), one);
    let newer = raw(info(&[("meta version", Some(3.into()))])).unwrap();
    assert!(matches!(newer.info_hashes(), InfoHashes::V1(_)));
}

#[test]
fn trackers_are_in_tiers() {
    let tier = |urls: &[&str]| urls.iter().map(|url| Owned::from(*url)).collect::<Owned>();
    let trackers = |root: Entries<'_>| parse(info(&[]), root).unwrap().trackers().to_vec();
    let none: Vec<Vec<String>> = Vec::new();
    assert_eq!(trackers(vec![]), none);
    assert_eq!(trackers(vec![("announce", " http://a ".into())]), [["http://a"]]);
    assert_eq!(trackers(vec![("announce", "".into())]), none);
    let list =
        Owned::list([tier(&["http://b", "http://c"]), tier(&[]), tier(&["http://b", "udp://d"])]);
    let both = vec![("announce", "http://a".into()), ("announce-list", list)];
    assert_eq!(trackers(both), [vec!["http://b", "http://c"], vec!["udp://d"]]);
    let empty = Owned::list([tier(&[""])]);
    let both = vec![("announce", "http://a".into()), ("announce-list", empty)];
    assert_eq!(trackers(both), [["http://a"]]);
}

#[test]
fn other_keys_are_read() {
    let node = |host: &str, port: u32| Owned::list([host.into(), port.into()]);
    let nodes =
        [node("h", 1), node("", 1), node("h", 0), node("h", 65536), 1.into(), node("::1", 65535)];
    let root = vec![
        ("comment", b"\xff".into()),
        ("comment.utf-8", "ü".into()),
        ("created by", "p".into()),
        ("creation date", (-5).into()),
        ("encoding", "GBK".into()),
        ("nodes", Owned::list(nodes)),
        ("url-list", "http://w/".into()),
        ("x-unknown", 7.into()),
    ];
    let changes =
        [("private", Some(1.into())), ("source", Some("S".into())), ("x", Some("y".into()))];
    let metainfo = parse(info(&changes), root).unwrap();
    assert_eq!(metainfo.comment(), Some("ü"));
    assert_eq!(metainfo.created_by(), Some("p"));
    assert_eq!(metainfo.creation_date(), Some(-5));
    assert_eq!(metainfo.encoding(), Some("GBK"));
    let nodes: Vec<_> =
        metainfo.nodes().iter().map(|node| (node.host.as_str(), node.port)).collect();
    assert_eq!(nodes, [("h", 1), ("::1", 65535)]);
    assert_eq!(metainfo.web_seeds(), ["http://w/"]);
    assert_eq!(metainfo.get("x-unknown").and_then(Value::as_int), Some(7));
    assert_eq!(metainfo.info().source(), Some("S"));
    assert_eq!(metainfo.info().get(b"x").and_then(Value::as_str), Some("y"));
    assert!(metainfo.info().get("y").is_none());

    let wrong = vec![("comment", 1.into()), ("creation date", "x".into()), ("nodes", 1.into())];
    let metainfo = parse(info(&[]), wrong).unwrap();
    assert_eq!((metainfo.comment(), metainfo.creation_date()), (None, None));
    assert!(metainfo.nodes().is_empty() && !metainfo.info().private());
}

/// Returns a torrent whose `info` has `more` after its other keys, out of order, and that has
/// `around` after `info`.
fn torrent_with(more: &str, around: &str) -> Vec<u8> {
    let info = encode(&info(&[]));
    let info = [&info[..info.len() - 1], more.as_bytes(), b"e"].concat();
    [b"d4:info", &info[..], around.as_bytes(), b"e"].concat()
}

#[test]
fn duplicate_keys_are_a_warning() {
    let twice = torrent_with("1:x0:1:xle6:source1:a6:source1:b", "8:announce1:a8:announce1:b");
    let metainfo = Metainfo::parse(twice.clone()).unwrap();
    let paths = metainfo.warnings().iter().map(|warning| match warning {
        MetainfoWarning::DuplicateKey { offset, path } => {
            assert!(twice[*offset].is_ascii_digit());
            path.to_string()
        }
        MetainfoWarning::TrailingBytes { .. } => panic!("{warning}"),
    });
    assert_eq!(paths.collect::<Vec<_>>(), ["info.x", "info.source", "announce"]);
    // The first value counts, and the info-hash is of the unchanged bytes.
    assert_eq!(metainfo.info().source(), Some("a"));
    assert_eq!(metainfo.trackers(), [["a"]]);
    let raw = &twice[7..twice.len() - "8:announce1:a8:announce1:be".len()];
    assert_eq!(metainfo.raw_info(), raw);
    assert_eq!(metainfo.info_hash(), InfoHashV1(Sha1::digest(raw).into()));
    let again = Metainfo::from_info(raw, &[], &[]).unwrap();
    assert_eq!(again.info_hash(), metainfo.info_hash());
}

#[test]
fn duplicate_data_keys_are_refused() {
    let info = "4:name1:m,6:lengthi5e,6:pieces0:,12:piece lengthi1e,10:name.utf-80:10:name.utf-80:,\
        4:attr0:4:attr0:,12:meta versioni1e12:meta versioni1e,5:filesle5:filesle,\
        9:file treede9:file treede,9:file treed1:a0:1:a0:e,12:symlink pathle12:symlink pathle";
    let file =
        "6:lengthi1e6:lengthi1e,4:pathle4:pathle,10:path.utf-8le10:path.utf-8le,4:attr0:4:attr0:";
    let in_info = info.split(',').map(|keys| torrent_with(keys.trim(), ""));
    let in_file = file.split(',').map(|keys| torrent_with(&format!("5:filesld{keys}ee"), ""));
    let around = [torrent_with("", "4:infode")];
    for torrent in in_info.chain(in_file).chain(around) {
        let error = Metainfo::parse(torrent).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::DuplicateKey.into(), "{error}");
    }
    let other_file_key = folder_with("1:x0:1:x0:");
    assert_eq!(Metainfo::parse(other_file_key).unwrap().warnings().len(), 1);
}

/// Returns a torrent of a folder with one file that has `more` keys.
fn folder_with(more: &str) -> Vec<u8> {
    let info = encode(&folder([file(5, &["a"])]));
    let info = String::from_utf8_lossy(&info).replace("1:aee", &format!("1:ae{more}e"));
    format!("d4:info{info}e").into_bytes()
}

#[test]
fn any_private_value_is_enough() {
    for (keys, private) in [
        ("7:privatei0e7:privatei0e", false),
        ("7:privatei0e7:privatei1e", true),
        ("7:privatei1e7:privatei0e", true),
    ] {
        let metainfo = Metainfo::parse(torrent_with(keys, "")).unwrap();
        assert_eq!((metainfo.info().private(), metainfo.warnings().len()), (private, 1), "{keys}");
    }
}

#[test]
fn too_many_duplicate_keys_are_refused() {
    let keys = |count: usize| torrent_with("", &"1:x0:".repeat(count));
    let most = Metainfo::parse(keys(MAX_DUPLICATE_KEYS + 1)).unwrap();
    assert_eq!(most.warnings().len(), MAX_DUPLICATE_KEYS);
    let error = Metainfo::parse(keys(MAX_DUPLICATE_KEYS + 2)).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::DuplicateKey.into());
}

#[test]
fn warnings_name_key_and_offset() {
    let keys = "1:x0:1:x0:7:privatei0e7:privatei0e";
    let torrent = [&torrent_with(keys, "")[..], b"\n"].concat();
    let metainfo = Metainfo::parse(torrent).unwrap();
    let shown: Vec<_> = metainfo.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "duplicate key info.x at byte 86: its first value is used",
            "duplicate key info.private at byte 103: the torrent is private if any value says so",
            "ignored 1 byte after the end of the torrent at byte 117",
        ]
    );
}
