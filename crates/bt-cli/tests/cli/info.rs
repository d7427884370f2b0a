//! `info`, and reading torrents from files, URLs and standard input.

use serde_json::json;
use testkit::Payload;

use crate::support::{Output, Shell, dead_peer, dead_port, finish, web_server, words};

fn folder() -> Payload {
    Payload::folder("album", &[("one.flac", 40_000), ("art/cover.png", 30_000), ("art/empty", 0)])
        .tier(["http://a.example/announce", "udp://b.example:6969"])
        .tier(["http://c.example/announce"])
        .private()
        .create()
        .unwrap()
}

#[test]
fn folder_as_json() {
    let payload = folder();
    let object = Shell::new().run(words("info", &payload, &["--json"])).expect(0).object();
    assert_eq!(object["name"], "album");
    assert_eq!(object["info_hash"], payload.info_hash().to_string());
    assert_eq!(object["size"], 70_000);
    assert_eq!(object["piece_length"], 32 * 1024);
    assert_eq!(object["piece_count"], 3);
    assert_eq!(object["private"], true);
    assert_eq!(
        object["trackers"],
        json!([
            ["http://a.example/announce", "udp://b.example:6969"],
            ["http://c.example/announce"]
        ])
    );
    assert_eq!(object["web_seeds"], json!([]));
    assert_eq!(
        object["files"],
        json!([
            { "path": "one.flac", "length": 40_000 },
            { "path": "art/cover.png", "length": 30_000 },
            { "path": "art/empty", "length": 0 },
        ])
    );
    assert!(object.get("disk_name").is_none());
    for field in ["comment", "created_by", "creation_date"] {
        assert!(object[field].is_null() && object.get(field).is_some(), "{field}");
    }
    let magnet = object["magnet"].as_str().unwrap();
    assert!(magnet.starts_with(&format!("magnet:?xt=urn:btih:{}", payload.info_hash())));
    assert!(magnet.contains("dn=album") && magnet.contains("tr=http"));
}

#[test]
fn folder_as_text() {
    let payload = folder();
    let text = Shell::new().run(words("info", &payload, &[])).expect(0).stdout();
    for part in [
        "name",
        "album/",
        &payload.info_hash().to_string(),
        "68.4 KiB (70,000 bytes)",
        "3 of 32 KiB",
        "tier 1",
        "http://a.example/announce",
        "tier 2",
        "├── one.flac",
        "└── art/",
        "    ├── cover.png",
        "    └── empty",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colour on a pipe");
}

#[test]
fn tree_is_ascii_without_utf8() {
    let (payload, shell) = (folder(), Shell::new());
    let mut command = shell.command(words("info", &payload, &[]));
    let text = finish(command.env("LC_ALL", "C").spawn().unwrap()).expect(0).stdout();
    for part in ["|-- one.flac", "`-- art/", "    |-- cover.png", "    `-- empty"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn single_file_is_shown() {
    let payload = Payload::file("notes.txt", 10).create().unwrap();
    let shell = Shell::new();
    let object = shell.run(words("info", &payload, &["--json"])).expect(0).object();
    assert_eq!(object["files"], json!([{ "path": "notes.txt", "length": 10 }]));
    assert_eq!(object["trackers"], json!([]));
    let text = shell.run(words("info", &payload, &[])).expect(0).stdout();
    assert!(text.contains("10 B") && text.contains("notes.txt"), "{text}");
}

#[test]
fn differing_disk_names_are_shown() {
    let shell = Shell::new();
    let file = |path: &str| format!("d6:lengthi1e4:pathl{path}ee");
    let files = [file("1:a"), file("3:b/c"), file("1:a"), file("3:con")].concat();
    let torrent = format!(
        "d4:infod5:filesl{files}e4:name2:..12:piece lengthi16384e6:pieces20:{}ee",
        "x".repeat(20)
    );
    let object = shell.run_with(torrent.as_bytes(), ["info", "-", "--json"]).expect(0).object();
    assert_eq!(object["name"], "..");
    assert_eq!(object["disk_name"], object["info_hash"]);
    assert_eq!(
        object["files"],
        json!([
            { "path": "a", "length": 1 },
            { "path": "b/c", "length": 1, "disk_path": "b_c" },
            { "path": "a", "length": 1, "disk_path": "a~2" },
            { "path": "con", "length": 1 },
        ])
    );
}

#[test]
fn torrent_from_stdin_and_url() {
    let (shell, payload) = (Shell::new(), folder());
    let hash = payload.info_hash().to_string();
    let object = shell.run_with(payload.torrent(), ["info", "-", "--json"]).expect(0).object();
    assert_eq!(object["info_hash"], hash);

    let server = web_server("200 OK", payload.torrent());
    let url = format!("http://{server}/album.torrent");
    assert_eq!(shell.run(["info", &url, "--json"]).expect(0).object()["info_hash"], hash);
}

#[test]
fn bad_torrents_are_refused() {
    let (shell, payload) = (Shell::new(), folder());
    let torrent = payload.torrent();
    shell.write("truncated.torrent", &torrent[..torrent.len() / 2]);
    shell.write("page.torrent", "<html>Not found</html>");
    shell.write("no-length.torrent", "d4:infod4:name1:a12:piece lengthi16384e6:pieces0:ee");
    for (name, what) in [
        ("truncated", "the torrent is cut off: at byte "),
        ("page", "not a torrent: looks like a web page (byte 0 is '<')"),
        ("no-length", "not a valid torrent: at byte 7 (info): "),
    ] {
        let file = format!("{name}.torrent");
        for command in [&["info"][..], &["peers"], &["scrape"], &["download"]] {
            let output =
                shell.run(command.iter().copied().chain([file.as_str(), "--json"])).expect(3);
            let message = output.error("bad_torrent");
            assert!(message.starts_with(&format!("{file}: {what}")), "{message}");
            assert!(output.objects()[0]["error"]["offset"].is_u64());
        }
        let text = shell.run(["info", &file]).expect(3);
        assert!(text.stdout().is_empty() && text.stderr.starts_with("error: "), "{}", text.stderr);
    }
}

#[test]
fn oddities_are_warnings() {
    let (shell, payload) = (Shell::new(), Payload::file("a.bin", 5).create().unwrap());
    let torrent = payload.torrent();
    // `z` comes last, given twice; a line feed follows.
    let odd = [&torrent[..torrent.len() - 1], b"1:z0:1:z0:e\n"].concat();
    shell.write("odd.torrent", &odd);
    let expected = |output: Output, name: &str| {
        for what in [": duplicate key z at byte ", ": ignored 1 byte"] {
            let line = format!("warning: {name}{what}");
            assert!(output.stderr.contains(&line), "{line} in: {}", output.stderr);
        }
    };
    for (command, code) in [
        (&["info", "odd.torrent"][..], 0),
        (&["info", "odd.torrent", "--json"], 0),
        (&["peers", "odd.torrent"], 4),
        (&["scrape", "odd.torrent"], 4),
        (&["verify", "odd.torrent", "."], 5),
        (&["download", "odd.torrent", "--timeout", "1s", "--port", "0"], 4),
        (&["download_piece", "odd.torrent", "9", "-o", "p"], 2),
        (&["seed", "odd.torrent", ".", "--port", "0"], 5),
    ] {
        expected(shell.run(command).expect(code), "odd.torrent");
    }
    expected(shell.run(["handshake", "odd.torrent", &dead_peer()]).expect(4), "odd.torrent");
    expected(shell.run_with(&odd, ["info", "-"]).expect(0), "standard input");
    let url = format!("http://{}/odd.torrent", web_server("200 OK", &odd));
    expected(shell.run(["info", &url]).expect(0), &url);

    let object = shell.run(["info", "odd.torrent", "--json"]).expect(0).object();
    assert_eq!(object["info_hash"], payload.info_hash().to_string());
    assert_eq!(shell.run(["info", "odd.torrent", "--quiet"]).expect(0).stderr, "");
}

#[test]
fn shown_warnings_are_limited() {
    let (shell, payload) = (Shell::new(), folder());
    let torrent = payload.torrent();
    let odd = [&torrent[..torrent.len() - 1], "1:z0:".repeat(9).as_bytes(), b"e"].concat();
    let output = shell.run_with(&odd, ["info", "-"]).expect(0);
    assert_eq!(output.stderr.lines().count(), 6, "{}", output.stderr);
    assert!(output.stderr.ends_with("further warnings: 3\n"), "{}", output.stderr);
}

#[test]
fn unreadable_torrents_are_errors() {
    let shell = Shell::new();
    let missing = shell.run(["info", "missing.torrent", "--json"]).expect(6).error("disk");
    assert!(missing.contains("missing.torrent"), "{missing}");
    shell.run(["info", ".", "--json"]).expect(6).error("disk");
    let link = "ftp://tracker.example/a.torrent";
    shell.run(["info", link, "--json"]).expect(2).error("usage");

    let dead = format!("http://127.0.0.1:{}/a.torrent", dead_port());
    let error = shell.run(["info", &dead, "--json"]).expect(4).error("network");
    assert!(error.contains("127.0.0.1"), "{error}");
    let gone = format!("http://{}/a.torrent", web_server("404 Not Found", b"no such page"));
    assert!(shell.run(["info", &gone, "--json"]).expect(4).error("network").contains("404"));
    let output = shell.run(["info", &gone, "--ca-file", "missing.pem", "--json"]).expect(6);
    assert!(output.error("disk").contains("missing.pem"));
    let page = format!("http://{}/a.torrent", web_server("200 OK", b"<html>hello</html>"));
    shell.run(["info", &page, "--json"]).expect(3).error("bad_torrent");
}

#[test]
fn untrusted_names_are_made_harmless() {
    let shell = Shell::new();
    let name = "a\u{1b}[31m\u{202e}b";
    let info = format!(
        "d6:lengthi1e4:name{}:{name}12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae",
        name.len()
    );
    shell.write("a.torrent", format!("d7:comment5:x\u{7}y\nz4:info{info}e"));
    let text = shell.run(["info", "a.torrent"]).expect(0).stdout();
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'),
        "{text:?}"
    );
    assert!(text.contains("xy z"), "{text}");
}

/// Returns the valid fixtures. `cargo xtask integration hostile` tests those that break a rule.
fn fixtures() -> Vec<String> {
    let folder = format!("{}/../../testdata", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let torrents = entries.filter(|path| path.extension().is_some_and(|end| end == "torrent"));
    torrents.map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_fixture_is_read() {
    let shell = Shell::new();
    let torrents = fixtures();
    assert!(torrents.len() > 5);
    for torrent in torrents {
        shell.run(["info", &torrent]).expect(0);
        assert_eq!(shell.run(["info", &torrent, "--json"]).expect(0).objects().len(), 1);
        shell.run(["decode", &torrent]).expect(0);
    }
}
