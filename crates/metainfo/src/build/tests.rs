use super::*;
use crate::{MetainfoErrorKind, PathError};

fn hashes(count: u8) -> Vec<Sha1Digest> {
    (0..count).map(|number| Sha1Digest([number; 20])).collect()
}

#[test]
fn single_file_is_written_canonically() {
    let torrent = Builder::new("a.bin")
        .length(20_000)
        .piece_length(16 * 1024)
        .tracker("http://t/announce")
        .build(&hashes(2))
        .unwrap();
    let expected = [
        &b"d8:announce17:http://t/announce4:infod6:lengthi20000e4:name5:a.bin"[..],
        b"12:piece lengthi16384e6:pieces40:",
        &[0; 20],
        &[1; 20],
        b"ee",
    ];
    assert_eq!(torrent.raw(), expected.concat());
    let strict = bencode::Options { strict: true, ..bencode::Options::new() };
    assert!(strict.parse(torrent.raw()).is_ok());
    let same = Builder::new("a.bin").file("", 20_000).piece_length(16 * 1024);
    assert_eq!(same.build(&hashes(2)).unwrap().info_hash(), torrent.info_hash());
}

#[test]
fn every_setting_is_read_back() {
    let tiers =
        vec![vec!["http://a/".to_owned(), "http://b/".to_owned()], vec!["udp://c:1".into()]];
    let torrent = Builder::new("folder")
        .file("a", 10_000)
        .file("b/c", 10_000)
        .piece_length(16 * 1024)
        .private(true)
        .source("SRC")
        .trackers(tiers.clone())
        .web_seed("http://w/1")
        .web_seed("http://w/2")
        .comment("hello")
        .created_by("program 1.0")
        .creation_date(1_700_000_000)
        .build(&hashes(2))
        .unwrap();
    assert_eq!(torrent.trackers(), tiers);
    assert_eq!(torrent.web_seeds(), ["http://w/1", "http://w/2"]);
    assert_eq!(torrent.comment(), Some("hello"));
    assert_eq!(torrent.created_by(), Some("program 1.0"));
    assert_eq!(torrent.creation_date(), Some(1_700_000_000));
    assert_eq!(torrent.unsorted(), None);
    let info = torrent.info();
    assert!(info.private() && !info.is_single_file());
    assert_eq!(info.source(), Some("SRC"));
    let paths: Vec<_> = info.files().iter().map(|file| (file.path(), file.length())).collect();
    assert_eq!(paths, [("a", 10_000), ("b/c", 10_000)]);
    assert!(info.piece_hashes().eq(hashes(2)));
}

#[test]
fn invalid_builders_are_refused() {
    let refused = |builder: Builder, count| builder.build(&hashes(count)).unwrap_err();
    assert_eq!(refused(Builder::new("x"), 0), BuildError::NoFiles);
    assert_eq!(refused(Builder::new("x").length(1).file("a", 1), 1), BuildError::LengthAndFiles);
    let overflow = Builder::new("x").file("a", u64::MAX).file("b", 1);
    assert_eq!(refused(overflow, 0), BuildError::TotalOverflow);
    let hashes = BuildError::Hashes { expected: 1, got: 2 };
    assert_eq!(refused(Builder::new("x").length(1), 2), hashes);
    let zero = BuildError::Geometry(GeometryError::PieceLength { got: 0 });
    assert_eq!(refused(Builder::new("x").length(1).piece_length(0), 1), zero);
}

#[test]
fn piece_length_follows_size() {
    for (total, expected) in [
        (0, 16 << 10),
        (1, 16 << 10),
        (32 << 20, 16 << 10),
        (100 << 20, 64 << 10),
        (4 << 30, 2 << 20),
        (1 << 40, 16 << 20),
        (8 << 40, 32 << 20),
        (u64::MAX, 1 << 29),
    ] {
        assert_eq!(default_piece_length(total), expected, "{total}");
    }
    for total in (0..50).map(|bit| (1_u64 << bit) + 1) {
        let length = default_piece_length(total);
        assert!(length.is_power_of_two() && Geometry::new(total, u64::from(length)).is_ok());
    }
    let geometry = Builder::new("x").length(100 << 20).geometry().unwrap();
    assert_eq!(geometry.piece_length(), 64 << 10);
}

#[test]
fn refused_result_names_its_key() {
    let deep = ["d"; 101].join("/");
    let error = Builder::new("x").file(deep, 0).build(&[]).unwrap_err();
    let kind = MetainfoErrorKind::Path(PathError::TooDeep { got: 101 });
    assert!(matches!(&error, BuildError::Refused(refusal) if refusal.kind == kind));
    assert!(error.to_string().contains("info.files[0].path"), "{error}");
}
