//! Torrents that break one rule each, or only just keep it. The verdict, and the error with its
//! offset or the facts of the torrent, must be those of the table beside the files.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests read files.

#[allow(dead_code)] // These tests need `torrent` only.
mod fuzz;

use std::path::PathBuf;

use metainfo::{Builder, FileEntry, MAX_METAINFO_LENGTH, Metainfo, MetainfoErrorKind, Sha1Digest};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/hostile")
}

/// A line of the table.
struct Row {
    file: String,
    is_refused: bool,
    /// The error message, or facts: `key=value`, separated by `; `.
    expected: String,
}

fn rows() -> Vec<Row> {
    let table = std::fs::read_to_string(folder().join("verdicts.tsv")).expect("the table");
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let rows = lines.map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [file, verdict @ ("refused" | "read"), expected, _libtorrent] => {
            Row { file: file.into(), is_refused: verdict == "refused", expected: expected.into() }
        }
        _ => panic!("no row of the table: {line}"),
    });
    rows.collect()
}

#[test]
fn verdicts_match_the_table() {
    let rows = rows();
    assert!(rows.len() >= 120, "{} cases", rows.len());
    let mut wrong = Vec::new();
    for Row { file, is_refused, expected } in rows {
        let bytes = std::fs::read(folder().join(&file)).expect(&file);
        fuzz::torrent(&bytes);
        match Metainfo::parse(bytes) {
            Err(error) if !is_refused || error.to_string() != expected => {
                wrong.push(format!("{file}: {error}\n  instead of {expected}"));
            }
            Err(_) => {}
            Ok(_) if is_refused => wrong.push(format!("{file} was read instead of: {expected}")),
            Ok(metainfo) => wrong.extend(false_facts(&file, &metainfo, &expected)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn false_facts(file: &str, metainfo: &Metainfo, facts: &str) -> Vec<String> {
    let facts = facts.split("; ").map(|fact| fact.split_once('=').expect("key=value"));
    let wrong = facts.filter_map(|(key, expected)| {
        let got = escaped(&value_of(metainfo, key));
        (got != expected).then(|| format!("{file}: {key}={got}\n  instead of {expected}"))
    });
    wrong.collect()
}

/// Returns `text` with invisible and ambiguous characters escaped.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' | '\'' | '"' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

fn value_of(metainfo: &Metainfo, key: &str) -> String {
    let info = metainfo.info();
    let each_file =
        |show: fn(FileEntry<'_>) -> String| info.files().iter().map(show).collect::<Vec<_>>();
    match key {
        "name" => info.name().to_owned(),
        "size" => info.geometry().total().to_string(),
        "pieces" => info.geometry().piece_count().to_string(),
        "piece length" => info.geometry().piece_length().to_string(),
        "private" => if info.private() { "yes" } else { "no" }.to_owned(),
        "disk" => each_file(|file| file.disk_path().display().to_string()).join(" | "),
        "original" => each_file(|file| file.original_path().to_owned()).join(" | "),
        "attributes" => each_file(attributes).join(" | "),
        "comment" => metainfo.comment().unwrap_or_default().to_owned(),
        "web seeds" => metainfo.web_seeds().join(" "),
        "unsorted" => metainfo.unsorted().map(|at| at.to_string()).unwrap_or_default(),
        "warnings" => {
            metainfo.warnings().iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
        }
        "trackers" => {
            metainfo.trackers().iter().map(|tier| tier.join(" ")).collect::<Vec<_>>().join(" | ")
        }
        "nodes" => {
            let nodes = metainfo.nodes().iter();
            nodes.map(|node| format!("{}:{}", node.host, node.port)).collect::<Vec<_>>().join(" ")
        }
        _ => panic!("no fact {key:?} is known"),
    }
}

fn attributes(file: FileEntry<'_>) -> String {
    let letters = [
        (file.is_pad(), 'p'),
        (file.is_executable(), 'x'),
        (file.is_hidden(), 'h'),
        (file.is_symlink(), 'l'),
    ];
    let letters: String =
        letters.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| *letter).collect();
    if letters.is_empty() { "-".to_owned() } else { letters }
}

/// A torrent of several files with most known keys.
fn full_torrent() -> Metainfo {
    let builder = Builder::new("n").file("d/a", 9).file("b\u{7}", 20_000).private(true);
    let builder = builder.tracker("http://t/announce").tracker("udp://t:1").web_seed("http://w/");
    let builder = builder.comment("a comment").piece_length(16_384);
    builder.build(&[Sha1Digest([1; 20]), Sha1Digest([2; 20])]).expect("a torrent")
}

#[test]
fn cut_torrent_is_refused_at_end() {
    let torrent = full_torrent();
    for end in 0..torrent.raw().len() {
        let error = Metainfo::parse(&torrent.raw()[..end]).expect_err("it has no end");
        assert!(matches!(error.kind, MetainfoErrorKind::Bencode(_)), "{end}: {error}");
        // A cut string is reported at its start.
        assert!(error.offset <= end, "{end}: {error}");
        let rest = &torrent.raw()[error.offset..end];
        let is_cut_string = rest.first().is_some_and(u8::is_ascii_digit) && rest.contains(&b':');
        assert!(rest.is_empty() || is_cut_string, "{end}: {error}");
    }
}

#[test]
fn missing_byte_breaks_no_promise() {
    let torrent = full_torrent();
    for at in 0..torrent.raw().len() {
        let mut bytes = torrent.raw().to_vec();
        bytes.remove(at);
        fuzz::torrent(&bytes);
    }
}

/// Returns a torrent of one file with `pieces` pieces of 16 KiB, whose hashes are zero.
fn torrent_of_pieces(pieces: usize) -> Vec<u8> {
    let (length, hashes) = (pieces * 16_384, pieces * 20);
    let head =
        format!("d4:infod6:lengthi{length}e4:name1:n12:piece lengthi16384e6:pieces{hashes}:");
    [head.as_bytes(), &vec![0; hashes], b"ee"].concat()
}

#[test]
fn piece_count_is_limited() {
    let most = Metainfo::parse(torrent_of_pieces(1 << 21)).expect("2^21 pieces");
    assert_eq!(most.info().geometry().piece_count(), 1 << 21);
    let error = Metainfo::parse(torrent_of_pieces((1 << 21) + 1)).expect_err("one piece more");
    assert_eq!(
        (error.to_string().as_str(), error.path.to_string().as_str()),
        (
            "at byte 53 (info.piece length): expected at most 2097152 pieces, got 2097153",
            "info.piece length"
        )
    );
}

#[test]
fn file_length_is_limited() {
    let filled = |length: usize| {
        let (head, tail) = (torrent_of_pieces(1), b"7:unknown");
        let (head, tail) = (&head[..head.len() - 1], &tail[..]);
        // The length of the filler takes eight digits and a colon.
        let filler = length - head.len() - tail.len() - 9 - 1;
        let bytes = [head, tail, format!("{filler}:").as_bytes()].concat();
        [&bytes[..], &vec![b' '; length - bytes.len() - 1], b"e"].concat()
    };
    let most = Metainfo::parse(filled(MAX_METAINFO_LENGTH)).expect("64 MiB");
    assert_eq!(most.raw().len(), MAX_METAINFO_LENGTH);
    let error = Metainfo::parse(filled(MAX_METAINFO_LENGTH + 1)).expect_err("a byte more");
    assert_eq!(error.to_string(), "at byte 0: expected at most 67108864 bytes, got 67108865");
}
