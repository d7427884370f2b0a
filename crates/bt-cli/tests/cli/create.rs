//! `create`.

use std::fs;

use serde_json::json;
use testkit::Payload;

use crate::support::Shell;

#[test]
fn a_file() {
    let shell = Shell::new();
    shell.write("notes.txt", testkit::bytes(1, 100_000));
    let arguments =
        ["create", "notes.txt", "-t", "http://t.example/announce", "-o", "out.torrent", "--json"];
    let created = shell.run(arguments).expect(0).object();
    let info = shell.run(["info", "out.torrent", "--json"]).expect(0).object();
    for field in ["info_hash", "magnet", "size", "piece_length", "piece_count"] {
        assert_eq!(created[field], info[field], "{field}");
    }
    assert_eq!(created["output"], "out.torrent");
    assert_eq!(info["size"], 100_000);
    assert_eq!(info["trackers"], json!([["http://t.example/announce"]]));
    assert!(info["created_by"].as_str().unwrap().starts_with("bt-cli/"));
    assert!(info["creation_date"].as_i64().unwrap() > 1_700_000_000);
    shell.run(["verify", "out.torrent", "."]).expect(0);
}

/// The same torrent as testkit's, which is written by hand, byte for byte in `info`.
#[test]
fn a_folder_as_another_hand_writes_it() {
    let files = [("a.bin", 70_000), ("b/c.bin", 1), ("b/d.bin", 50_000)];
    let payload = Payload::folder("data set", &files).create().unwrap();
    let shell = Shell::new();
    let path = payload.folder_path().join("data set");
    let path = path.to_str().unwrap();
    let created = shell.run(["create", path, "-l", "32K", "--json"]).expect(0).object();
    assert_eq!(created["info_hash"], payload.info_hash().to_string());
    assert_eq!(created["output"], "data set.torrent");
    assert_eq!(created["piece_count"], 4);
}

#[test]
fn every_flag_arrives_in_the_torrent() {
    let shell = Shell::new();
    shell.write("photos/one.jpg", [1; 2000]);
    let arguments = [
        "create",
        "photos",
        "-t",
        "http://a.example/a,udp://b.example:1",
        "-t",
        "https://c.example/a",
        "-w",
        "https://seed.example/",
        "--private",
        "--source",
        "EX",
        "-c",
        "a comment",
        "--name",
        "other",
        "-l",
        "16KiB",
        "--no-date",
    ];
    let text = shell.run(arguments).expect(0).stdout();
    assert!(text.contains("other.torrent") && text.contains("magnet:?"), "{text}");
    let info = shell.run(["info", "other.torrent", "--json"]).expect(0).object();
    assert_eq!(info["name"], "other");
    assert_eq!(
        info["trackers"],
        json!([["http://a.example/a", "udp://b.example:1"], ["https://c.example/a"]])
    );
    assert_eq!(info["web_seeds"], json!(["https://seed.example/"]));
    assert_eq!((&info["private"], &info["source"]), (&json!(true), &json!("EX")));
    assert_eq!(info["comment"], "a comment");
    assert_eq!(info["piece_length"], 16 * 1024);
    assert!(info["creation_date"].is_null() && info["created_by"].is_null());
}

#[test]
fn to_stdout() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    let output = shell.run(["create", "a", "-o", "-"]).expect(0);
    let info = shell.run_with(&output.bytes, ["info", "-", "--json"]).expect(0).object();
    assert_eq!(info["size"], 100);
    shell.run(["create", "a", "-o", "-", "--json"]).expect(2).error("usage");
}

#[test]
fn nothing_is_replaced_unasked() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    shell.write("a.torrent", "precious");
    let error = shell.run(["create", "a", "--json"]).expect(6).error("disk");
    assert!(error.contains("a.torrent") && error.contains("--overwrite"), "{error}");
    assert_eq!(fs::read(shell.join("a.torrent")).unwrap(), b"precious");
    shell.run(["create", "a", "--overwrite"]).expect(0);
    shell.run(["info", "a.torrent"]).expect(0);
    let left: Vec<_> = fs::read_dir(shell.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn refusals() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    shell.write("empty", []);
    fs::create_dir(shell.join("void")).unwrap();
    for (arguments, code, class) in [
        (&["missing"][..], 6, "disk"),
        (&["empty"], 2, "usage"),
        (&["void"], 2, "usage"),
        (&["a", "-o", "a/below.torrent"], 6, "disk"),
        (&["a", "-o", "void"], 6, "disk"),
        (&["a", "-t", "nonsense"], 2, "usage"),
        (&["a", "-t", "udp://no-port.example"], 2, "usage"),
        (&["a", "-t", "wss://t.example"], 2, "usage"),
        (&["a", "-w", "seed"], 2, "usage"),
        (&["a", "--name", "../up"], 2, "usage"),
    ] {
        let arguments = ["create"].iter().chain(arguments).chain(&["--json"]);
        let message = shell.run(arguments.clone()).expect(code).error(class);
        assert!(!message.is_empty(), "{arguments:?}");
    }
}
