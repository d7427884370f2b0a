//! Torrents of every kind, and arbitrary bytes: every accepted one keeps the promises of the crate.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests read files.

mod fuzz;

use std::path::{Path, PathBuf};

use metainfo::{Builder, InfoHashes, Magnet, Metainfo, Sha1Digest};
use proptest::prelude::*;

#[test]
fn fixtures_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_torrent = |path: &PathBuf| path.extension().is_some_and(|end| end == "torrent");
    let torrents: Vec<PathBuf> = paths.filter(is_torrent).collect();
    assert!(!torrents.is_empty());
    for path in torrents {
        let bytes = std::fs::read(&path).unwrap();
        let result = Metainfo::parse(bytes.as_slice());
        assert!(result.is_ok(), "{}: {}", path.display(), result.unwrap_err());
        fuzz::torrent(&bytes);
    }
}

#[test]
fn fuzz_corpus_breaks_no_promise() {
    testkit::replay("torrent", fuzz::torrent);
    testkit::replay("paths", fuzz::paths);
    testkit::replay("magnet", fuzz::magnet);
}

fn small_torrent() -> Metainfo {
    let builder = Builder::new("n").file("d/a", 9).file("b\u{7}", 20_000).tracker("udp://t:1");
    builder.piece_length(16_384).build(&[Sha1Digest([1; 20]), Sha1Digest([2; 20])]).unwrap()
}

#[test]
fn info_hash_is_of_raw_bytes() {
    // Encoding this again would sort the keys.
    let info = b"d4:name1:n6:lengthi5e6:pieces20:aaaaaaaaaaaaaaaaaaaa12:piece lengthi16384ee";
    let torrent = [&b"d4:info"[..], info, b"e"].concat();
    let metainfo = Metainfo::parse(torrent).unwrap();
    assert_eq!(metainfo.raw_info(), info);
    assert_eq!(metainfo.unsorted(), Some(17));
    let expected = "9c83b8a83cbd7bf3dd2ae35b3e50b72bb49451f5";
    assert_eq!(metainfo.info_hash().to_string(), expected);
    let again = Metainfo::from_info(info, &[vec!["http://t".to_owned()]], &[]).unwrap();
    assert_eq!(again.info_hash(), metainfo.info_hash());
    assert_eq!(again.trackers(), [["http://t"]]);
}

#[test]
fn added_trackers_come_last() {
    let mut torrent = small_torrent();
    let tier = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
    torrent.add_trackers(&[
        tier(&["udp://t:1", "http://a"]),
        tier(&["udp://t:1"]),
        tier(&["http://b", "http://a"]),
    ]);
    assert_eq!(
        torrent.trackers(),
        [tier(&["udp://t:1"]), tier(&["http://a"]), tier(&["http://b"])]
    );
}

#[test]
fn magnet_link_has_the_hints() {
    let torrent = small_torrent();
    let hash = torrent.info_hash();
    let expected = format!("magnet:?xt=urn:btih:{hash}&dn=n&xl=20009&tr=udp%3A%2F%2Ft%3A1");
    assert_eq!(torrent.magnet().to_string(), expected);
    let magnet: Magnet = expected.parse().unwrap();
    assert_eq!(magnet.info_hashes, InfoHashes::V1(hash));
}

#[test]
fn torrent_of_a_link_keeps_info() {
    let info = "d12:piece lengthi16384e4:name1:n6:lengthi1e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
    let link: Magnet = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567\
                        &tr=http://a&tr=http://b&ws=http://w/1&ws=http://w/2"
        .parse()
        .unwrap();
    let torrent = Metainfo::from_info(info, &link.tracker_tiers(), &link.web_seeds).unwrap();
    let expected = format!(
        "d8:announce8:http://a13:announce-listll8:http://ael8:http://bee4:info{info}\
         8:url-listl10:http://w/110:http://w/2ee"
    );
    assert_eq!(str::from_utf8(torrent.raw()), Ok(&*expected));
    assert_eq!(torrent.raw_info(), info.as_bytes());
    // It is a part of the torrent, not a copy.
    assert!(torrent.raw().as_ptr_range().contains(&torrent.raw_info().as_ptr()));
    assert_eq!(torrent.trackers(), [["http://a"], ["http://b"]]);
    assert_eq!(torrent.web_seeds(), ["http://w/1", "http://w/2"]);
    assert_eq!(Metainfo::from_link(info.as_bytes(), &link), Ok(None));
    let link = Magnet { info_hashes: torrent.info_hashes(), ..link };
    assert_eq!(Metainfo::from_link(info.as_bytes(), &link), Ok(Some(torrent.clone())));
    assert_eq!(Metainfo::parse(torrent.raw()), Ok(torrent));

    let bare = Metainfo::from_info(info, &[vec![]], &[]).unwrap();
    assert_eq!(str::from_utf8(bare.raw()), Ok(&*format!("d4:info{info}e")));
}

#[test]
fn metadata_without_dictionary_is_refused() {
    let inner = "d6:lengthi1e4:name1:n12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
    assert!(Metainfo::from_info(inner, &[], &[]).is_ok());
    let beside = format!("{inner}8:url-list8:http://x");
    for info in ["", "i1e", "le", "de", "d1:a", "dede", &beside, &inner[..inner.len() - 1]] {
        assert!(Metainfo::from_info(info, &[], &[]).is_err(), "{info}");
    }
}

#[test]
fn hundred_thousand_unsorted_files() {
    let mut builder = Builder::new("many").piece_length(1 << 20);
    for number in 0..100_000_u64 {
        let scattered = number * 48_271 % 100_003;
        builder = builder.file(format!("d{}/f{scattered}", scattered % 7), 10);
    }
    let torrent = builder.build(&[Sha1Digest([0; 20])]).unwrap();
    assert_eq!(torrent.info().files().len(), 100_000);
    assert_eq!(
        torrent.info().ranges(999_985, 10).map(|range| range.file).collect::<Vec<_>>(),
        [99_998, 99_999]
    );
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        2 => "[a-c.\\\\ \u{1}\u{202e}]{1,3}",
        1 => Just("con".to_owned()),
        1 => "[a-b]{250,300}(\\.txt)?",
    ]
}

fn torrent() -> impl Strategy<Value = Option<Metainfo>> {
    let path = proptest::collection::vec(name(), 1..4).prop_map(|names| names.join("/"));
    let files = proptest::collection::vec((path, 0..70_000_u64), 1..12);
    (name(), files).prop_map(|(name, files)| {
        let builder = Builder::new(name).piece_length(16_384);
        let add = |builder: Builder, (path, length)| builder.file(path, length);
        let builder = files.into_iter().fold(builder, add);
        let count = builder.geometry().unwrap().piece_count() as usize;
        builder.build(&vec![Sha1Digest([3; 20]); count]).ok()
    })
}

proptest! {
    #[test]
    fn built_torrents_break_no_promise(torrent in torrent()) {
        if let Some(torrent) = torrent {
            fuzz::torrent(torrent.raw());
        }
    }

    #[test]
    fn damage_breaks_no_promise(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = small_torrent().raw().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz::torrent(&bytes);
    }

    #[test]
    fn written_links_parse_to_themselves(
        hash in any::<[u8; 20]>(),
        name in proptest::option::of(".{0,20}"),
        trackers in proptest::collection::btree_set("[a-z:/?&=%+#]{1,12}", 0..3),
        ranges in proptest::collection::vec((0..9_u32, 0..9_u32), 0..3),
    ) {
        let mut magnet = Magnet::new(InfoHashes::V1(metainfo::InfoHashV1(hash)));
        magnet.name = name;
        magnet.trackers = trackers.into_iter().collect();
        magnet.select_only = ranges.iter().map(|(from, more)| *from..=from + more).collect();
        prop_assert_eq!(magnet.to_string().parse(), Ok(magnet));
    }

    #[test]
    fn any_names_break_no_promise(data in proptest::collection::vec(any::<u8>(), 1..300)) {
        fuzz::paths(&data);
    }

    #[test]
    fn any_text_breaks_no_promise(text in "magnet:\\?(xt=urn:bt[im]h:[0-9a-f%]{0,44}&?|so=[0-9,-]{0,5}&|x.pe=[a:\\[\\]0-9]{0,6}&){0,4}") {
        fuzz::magnet(text.as_bytes());
    }
}
