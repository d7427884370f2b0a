//! `create`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::Payload;

use crate::support::{Output, Shell, finish};

/// Runs `bt-cli` in the folder `album` of `shell`.
fn run_in_album(shell: &Shell, arguments: &[&str]) -> Output {
    let mut command = shell.command(arguments);
    finish(command.current_dir(shell.join("album")).spawn().unwrap())
}

/// Returns the paths in a torrent. Fails unless the data verifies.
#[track_caller]
fn verified_paths(shell: &Shell, torrent: &str, dir: &str) -> Vec<String> {
    let report = shell.run(["verify", torrent, dir, "--json"]).expect(0).object();
    let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
    report["files"].as_array().unwrap().iter().map(path).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let names = fs::read_dir(folder).unwrap().map(name);
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const TRACKER: &str = "http://tracker.example/announce";

#[test]
fn file_becomes_torrent() {
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

/// `info` is byte for byte that of testkit, which writes torrents by hand.
#[test]
fn folder_matches_hand_written_torrent() {
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
fn every_flag_is_in_torrent() {
    let shell = Shell::new();
    shell.write("photos/one.jpg", [1; 2000]);
    let arguments = "create photos -t http://a.example/a,udp://b.example:1 -t https://c.example/a \
        -w https://seed.example/ --private --source EX --name other -l 16KiB --no-date -c";
    let arguments = arguments.split_whitespace().chain(["a comment"]);
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
fn stdout_gets_torrent() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    let output = shell.run(["create", "a", "-o", "-"]).expect(0);
    let info = shell.run_with(&output.bytes, ["info", "-", "--json"]).expect(0).object();
    assert_eq!(info["size"], 100);
    shell.run(["create", "a", "-o", "-", "--json"]).expect(2).error("usage");
}

#[test]
fn shared_file_is_never_the_output() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    for flags in [&["-o", "a"][..], &["-o", "a", "--overwrite"]] {
        let refused = shell.run([&["create", "a"], flags].concat()).expect(6);
        assert!(refused.stderr.contains("is the file to share"), "{}", refused.stderr);
    }
    assert_eq!(fs::read(shell.join("a")).unwrap(), [7; 100]);
}

#[test]
fn existing_output_needs_overwrite() {
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
fn missing_tracker_is_warned_of() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    for (flags, warned) in [(&[][..], true), (&["-q"], false), (&["-t", TRACKER], false)] {
        let arguments = ["create", "a", "--overwrite"].iter().chain(flags);
        let created = shell.run(arguments).expect(0);
        let expected = "warning: the torrent names no tracker, so its peers cannot find each \
            other; add one with -t URL\n";
        assert_eq!(created.stderr, if warned { expected } else { "" }, "{flags:?}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
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
        (&["a", "--name", ".."], 2, "usage"),
        (&["a", "--name", ""], 2, "usage"),
        (&["a", "-o", "no/such/folder/x.torrent"], 6, "disk"),
        (&["a", "-o", "/proc/x.torrent"], 6, "disk"),
        (&["a", "-o", "/dev/null", "--overwrite"], 6, "disk"),
        (&["a", "-o", "new/"], 6, "disk"),
        (&["a", "-o", "void/.."], 6, "disk"),
        (&["a", "-o", "a", "--overwrite"], 6, "disk"),
    ] {
        let arguments = ["create"].iter().chain(arguments).chain(&["--json"]);
        let message = shell.run(arguments.clone()).expect(code).error(class);
        assert!(!message.is_empty(), "{arguments:?}");
    }
    assert_eq!(names(shell.path()), ["a", "empty", "void"]);
    let root = shell.run(["create", "/"]).expect(2);
    assert_eq!(root.stderr, "error: cannot take a name from \"/\"; give one with --name\n");
    let void = shell.run(["create", "void"]).expect(2);
    assert_eq!(void.stderr, "error: void has no data to share\n");
}

/// The file to share is missing, so that listing it would give another error.
#[test]
fn output_is_checked_before_listing() {
    let shell = Shell::new();
    shell.write("old.torrent", "precious");
    for (output, advice) in [
        ("no/such/x.torrent", "there is no folder no/such; create it"),
        ("old.torrent", "--overwrite"),
        ("/proc/x.torrent", "choose another file with -o"),
    ] {
        let arguments = ["create", "missing", "--name", "n", "-o", output];
        let refused = shell.run(arguments).expect(6);
        assert!(refused.stderr.contains(output), "{}", refused.stderr);
        assert!(refused.stderr.contains(advice), "{}", refused.stderr);
        assert!(!refused.stderr.contains(".part"), "{}", refused.stderr);
    }
    let arguments = ["create", "missing", "--name", "n", "-o", "old.torrent", "--overwrite"];
    shell.run(arguments).expect(6);
    assert_eq!(names(shell.path()), ["old.torrent"]);
    assert_eq!(fs::read(shell.join("old.torrent")).unwrap(), b"precious");
}

#[test]
fn dangling_output_link_is_not_replaced() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    symlink("nowhere", shell.join("a.torrent")).unwrap();
    let refused = shell.run(["create", "a"]).expect(6);
    assert!(refused.stderr.contains("--overwrite"), "{}", refused.stderr);
    shell.run(["create", "a", "--overwrite"]).expect(0);
    assert_eq!(names(shell.path()), ["a", "a.torrent"]);
    shell.run(["verify", "a.torrent", "."]).expect(0);
}

#[test]
fn long_name_gets_a_shorter_output() {
    let shell = Shell::new();
    let name = format!("{}é", "n".repeat(246));
    shell.write(&name, [7; 100]);
    let created = shell.run(["create", &name, "--json"]).expect(0).object();
    let output = created["output"].as_str().unwrap();
    assert_eq!(output, format!("{}.torrent", "n".repeat(246)));
    shell.run(["verify", output, "."]).expect(0);
}

#[test]
fn links_are_followed_and_named() {
    let shell = Shell::new();
    shell.write("album/two.flac", [2; 100]);
    let store = shell.write("store/one.flac", [1; 50_000]);
    symlink(&store, shell.join("album/one.flac")).unwrap();
    symlink("two.flac", shell.join("album/three.flac")).unwrap();
    let created = shell.run(["create", "album", "-t", TRACKER]).expect(0);
    let store = fs::canonicalize(store).unwrap();
    let warning = "warning: follows a link out of the folder: album/one.flac -> ";
    assert_eq!(created.stderr, format!("{warning}{}\n", store.display()));
    let info = shell.run(["info", "album.torrent", "--json"]).expect(0).object();
    let paths: Vec<_> =
        info["files"].as_array().unwrap().iter().map(|file| &file["path"]).collect();
    assert_eq!(paths, ["one.flac", "three.flac", "two.flac"]);
    assert_eq!(info["size"], 50_200);
    let quiet = shell.run(["create", "album", "--overwrite", "-q"]).expect(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn bad_links_are_refused() {
    let shell = Shell::new();
    shell.write("album/a", [1; 100]);
    for (target, advice) in [("..", "loop"), ("missing", "does not exist"), ("/", "loop")] {
        let link = shell.join("album/sub/link");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, &link).unwrap();
        let refused = shell.run(["create", "album", "-q"]).expect(2);
        assert!(refused.stderr.contains("album/sub/link is a"), "{}", refused.stderr);
        assert!(refused.stderr.contains(advice), "{}", refused.stderr);
        fs::remove_file(link).unwrap();
    }
    assert_eq!(names(shell.path()), ["album"]);
}

#[test]
fn special_files_are_named_when_quiet() {
    let shell = Shell::new();
    shell.write("album/a", [1; 100]);
    let _socket = UnixListener::bind(shell.join("album/socket")).unwrap();
    assert!(Command::new("mkfifo").arg(shell.join("album/pipe")).status().unwrap().success());
    let created = shell.run(["create", "album", "-q"]).expect(0);
    let line = |name| format!("warning: left out: album/{name} is a socket, a pipe or a device\n");
    assert_eq!(created.stderr, line("pipe") + &line("socket"));
    fs::remove_file(shell.join("album/a")).unwrap();
    let refused = shell.run(["create", "album", "-q", "--overwrite"]).expect(2);
    assert!(refused.stderr.ends_with("error: album has no data to share\n"));
    assert!(refused.stderr.contains("album/socket"), "{}", refused.stderr);
    shell.run(["create", "album/pipe"]).expect(2);
}

#[test]
fn names_in_other_encodings_are_refused() {
    let shell = Shell::new();
    let latin1 = OsStr::from_bytes(b"caf\xe9");
    let album = shell.join("album");
    for bad in [album.join(latin1), album.join("sub").join(latin1).join("b")] {
        fs::create_dir_all(bad.parent().unwrap()).unwrap();
        fs::write(shell.join("album/a"), [1; 100]).unwrap();
        fs::write(&bad, [1; 100]).unwrap();
        let refused = shell.run(["create", "album"]).expect(2).stderr;
        assert!(refused.contains(r"caf\xE9") && refused.contains("rename it"), "{refused}");
        assert_eq!(names(shell.path()), ["album"], "nothing is left behind");
        fs::remove_dir_all(&album).unwrap();
    }
    fs::write(shell.path().join(latin1), [1; 100]).unwrap();
    let arguments = |rest: &'static [&'static str]| {
        let rest = rest.iter().map(OsStr::new);
        [OsStr::new("create"), latin1].into_iter().chain(rest).collect::<Vec<_>>()
    };
    let refused = shell.run(arguments(&[])).expect(2).stderr;
    assert!(refused.contains(r"caf\xE9") && refused.contains("--name"), "{refused}");
    shell.run(arguments(&["--name", "cafe"])).expect(0);
}

#[test]
fn own_output_is_left_out() {
    let shell = Shell::new();
    shell.write("album/a", [1; 50_000]);
    let first = run_in_album(&shell, &["create", ".", "-t", TRACKER, "--json"]).expect(0);
    assert_eq!(first.stderr, "warning: left out: its own output album.torrent\n");
    assert_eq!(verified_paths(&shell, "album/album.torrent", "."), ["a"]);
    let second = run_in_album(&shell, &["create", ".", "--json", "--overwrite", "-q"]).expect(0);
    assert_eq!(second.stderr, "warning: left out: its own output ./album.torrent\n");
    assert_eq!(second.object()["info_hash"], first.object()["info_hash"]);
    assert_eq!(verified_paths(&shell, "album/album.torrent", "."), ["a"]);

    // Through a link to the folder, and to the output.
    symlink("album", shell.join("link")).unwrap();
    symlink("album.torrent", shell.join("album/also.torrent")).unwrap();
    let arguments =
        ["create", "album", "-o", "link/album.torrent", "-t", TRACKER, "--overwrite", "--json"];
    let third = shell.run(arguments).expect(0);
    assert_eq!(third.object()["info_hash"], first.object()["info_hash"]);
    assert_eq!(third.stderr.lines().count(), 2, "{}", third.stderr);
}

/// A hard link keeps its content when the output is replaced.
#[test]
fn hard_link_of_output_is_shared() {
    let shell = Shell::new();
    shell.write("album/kept.torrent", [1; 50_000]);
    fs::hard_link(shell.join("album/kept.torrent"), shell.join("out.torrent")).unwrap();
    let created =
        shell.run(["create", "album", "-o", "out.torrent", "--overwrite", "-t", TRACKER]).expect(0);
    assert_eq!(created.stderr, "");
    assert_eq!(verified_paths(&shell, "out.torrent", "."), ["kept.torrent"]);
}

#[test]
fn redirected_outputs_are_left_out() {
    let shell = Shell::new();
    shell.write("album/a", [1; 50_000]);
    let open = |name: &str| File::create(shell.join(name)).unwrap();
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let mut command = shell.command(["create", "album", "-o", "-", "-t", TRACKER]);
        command.stdout(open("album/t.torrent"));
        let created = finish(command.spawn().unwrap()).expect(0);
        assert_eq!(created.stderr, "warning: left out: its own output album/t.torrent\n");
        assert_eq!(verified_paths(&shell, "album/t.torrent", "."), ["a"]);
        let info = shell.run(["info", "album/t.torrent", "--json"]).expect(0).object();
        hashes.push(info["info_hash"].clone());
    }
    assert_eq!(hashes[0], hashes[1]);

    fs::remove_file(shell.join("album/t.torrent")).unwrap();
    let mut command = shell.command(["create", "album"]);
    command.stdout(open("album/out.log")).stderr(open("album/err.log"));
    assert!(command.status().unwrap().success());
    assert_eq!(verified_paths(&shell, "album.torrent", "."), ["a"]);
    let warnings = fs::read_to_string(shell.join("album/err.log")).unwrap();
    assert!(warnings.contains("album/out.log") && warnings.contains("album/err.log"), "{warnings}");
}
