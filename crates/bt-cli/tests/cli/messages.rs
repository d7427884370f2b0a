//! Messages to users: when they are printed, how often, and their advice.

use std::fs;
use std::time::{Duration, Instant};

use testkit::{Answer, Behaviour, HttpTracker, Payload, PayloadBuilder};

use crate::support::{
    Output, Scene, Shell, dead_peer, dead_port, dead_tracker, dir, finish, mute_udp, web_server,
    words,
};

fn film() -> PayloadBuilder {
    Payload::file("film", 600_000)
}

fn payload() -> Payload {
    film().create().unwrap()
}

fn text(payload: &Payload, command: &str, rest: &[&str]) -> Output {
    let rest = [&["--port", "0"], rest].concat();
    Shell::new().run(words(command, payload, &rest))
}

/// Seeds for a while.
fn seed(payload: &Payload, flags: &[&str]) -> Output {
    text(payload, "seed", &[&[dir(payload), "--seed-time", "1"], flags].concat()).expect(0)
}

/// The lines of standard error that contain `part`.
fn lines<'a>(output: &'a Output, part: &str) -> Vec<&'a str> {
    output.stderr.lines().filter(|line| line.contains(part)).collect()
}

/// Fails unless one line of standard error contains `part`.
#[track_caller]
fn one_line(output: &Output, part: &str) {
    assert_eq!(lines(output, part).len(), 1, "{part} in {}", output.stderr);
}

#[test]
fn missing_peer_sources_are_reported_early() {
    let warning = "the torrent names no tracker, and no --peer is given";
    let payload = payload();
    let download = text(&payload, "download", &["--timeout", "1"]).expect(4);
    one_line(&download, warning);
    one_line(&seed(&payload, &[]), warning);
    assert_eq!(seed(&payload, &["-q"]).stderr, "");
    let objects = text(&payload, "download", &["--timeout", "1", "--json"]).expect(4).objects();
    let is_warning = |object: &serde_json::Value| {
        let message = object["message"].as_str().unwrap_or_default();
        object["event"] == "warning" && message.contains(warning)
    };
    assert_eq!(objects.iter().filter(|object| is_warning(object)).count(), 1, "{objects:?}");

    let peer = dead_peer();
    let named = text(&payload, "download", &["--timeout", "1", "--peer", &peer]).expect(4);
    assert!(lines(&named, warning).is_empty(), "{}", named.stderr);
}

#[test]
fn trackerless_private_torrent_is_reported() {
    let payload = Payload::file("film", 100_000).private().create().unwrap();
    let peer = dead_peer();
    let output = text(&payload, "download", &["--timeout", "1", "--peer", &peer]).expect(4);
    let warning = "warning: film: the torrent is private and names no tracker, so no peer can be \
        found: get it again from where it is shared";
    assert_eq!(lines(&output, warning), [warning]);
    let error = lines(&output, "error: ").join("\n");
    let advice = "; no peer is known; the torrent is private and names no tracker: \
        get it again from where it is shared";
    assert!(error.ends_with(advice) && !error.contains("--peer"), "{error}");
}

#[test]
fn unreachable_peers_are_counted() {
    let payload = payload();
    let dead: Vec<String> = (0..2).map(|_| dead_peer()).collect();
    let error = |flags: &[&str]| {
        let output = text(&payload, "download", &[&["--timeout", "1"], flags].concat()).expect(4);
        lines(&output, "error: ").join("\n")
    };
    let none = error(&[]);
    let expected = "; no peer is known, and the torrent names no tracker; name a peer with --peer";
    assert!(none.ends_with(expected), "{none}");
    let one = error(&["--peer", &dead[0]]);
    let expected = "; not connected to the only known peer, and the torrent names no tracker; \
        name another peer with --peer";
    assert!(one.ends_with(expected), "{one}");
    let two = error(&["--peer", &dead[0], "--peer", &dead[1]]);
    assert!(two.contains("; not connected to any of the 2 known peers, and "), "{two}");
}

#[test]
fn listening_address_is_named() {
    let (payload, port) = (payload(), dead_port().to_string());
    let flags = ["--port", &port, "--bind", "127.0.0.1"];
    let shell = Shell::new();
    let download = [&["-o", "out", "--timeout", "1"][..], &flags].concat();
    let output = shell.run(words("download", &payload, &download)).expect(4);
    let advice = format!("or wait until one connects; listening on 127.0.0.1:{port}");
    one_line(&output, &advice);
    let seed = [&[dir(&payload), "--seed-time", "1"][..], &flags];
    let output = shell.run(words("seed", &payload, &seed.concat())).expect(0);
    let line = format!("listening on 127.0.0.1:{port}");
    assert!(output.stderr.lines().any(|shown| shown == line), "{}", output.stderr);
    let advice = format!("give peers the address of this computer and port {port}");
    one_line(&output, &advice);
}

#[test]
fn tracker_warning_is_one_line() {
    let tracker = HttpTracker::start();
    let payload = Payload::file("film", 100_000).tracker(tracker.url()).create().unwrap();
    tracker.answer(Answer::Raw(b"d8:intervali60e5:peers0:15:warning message4:slowe".to_vec()));
    let output = seed(&payload, &[]);
    let warning = format!("warning: film: tracker {} warns: slow", tracker.url());
    assert_eq!(lines(&output, "slow"), [warning]);
}

#[test]
fn failing_tracker_is_one_line() {
    let refusing = HttpTracker::start();
    let reason = "Torrent not registered".to_owned();
    refusing.answer(Answer::Failure { reason, retry_in: None });
    let dead = dead_tracker();
    let payload = Payload::file("film", 100_000).tracker(refusing.url()).tracker(&dead);
    let payload = payload.create().unwrap();
    let output = seed(&payload, &[]);
    let refused = format!("warning: film: tracker {}: the tracker refused: ", refusing.url());
    one_line(&output, &refused);
    let failed = format!("warning: film: tracker {dead}: cannot connect to ");
    one_line(&output, &failed);
}

#[test]
fn timeout_shows_progress() {
    let slow = Scene::with(film(), |peer| peer.delay(Duration::from_millis(150)));
    let output = slow.download(&["--timeout", "2"]).expect(4);
    let error = lines(&output, "error: ").join("\n");
    assert!(error.contains("not finished after 2s: "), "{error}");
    assert!(error.contains("% done (") && error.contains(" of 19 pieces, "), "{error}");
    assert!(error.contains(" of 586 KiB), downloading at "), "{error}");

    let stalled = Scene::with(film(), |peer| peer.behaviour(Behaviour::Chokes));
    let output = stalled.download(&["--timeout", "1"]).expect(4);
    let error = "not finished after 1s: 0% done (0 of 19 pieces, 0 B of 586 KiB); \
        1 peer is connected, but no data arrives";
    one_line(&output, error);
}

/// A shutdown does not wait for trackers that never answered.
#[test]
fn dead_trackers_do_not_delay_timeout() {
    let mute = mute_udp();
    let mute = format!("udp://{}/announce", mute.local_addr().unwrap());
    let dead = dead_tracker();
    let payload = Payload::file("film", 100_000).tracker(&dead).tracker(&mute).create().unwrap();
    let start = Instant::now();
    let output = text(&payload, "download", &["--timeout", "4"]).expect(4);
    assert!(start.elapsed() < Duration::from_millis(5900), "{:?}", start.elapsed());
    let failed = format!("tracker {dead}: cannot connect to ");
    assert_eq!(starting(&output, &format!("warning: film: {failed}")), 1, "{}", output.stderr);
    assert_eq!(starting(&output, &format!("  {dead}: cannot connect to ")), 1, "{}", output.stderr);
    // The silent tracker is named only when the download fails.
    assert_eq!(lines(&output, &mute), [format!("  {mute}: no answer yet")]);
}

/// How many lines of standard error start with `start`.
fn starting(output: &Output, start: &str) -> usize {
    output.stderr.lines().filter(|line| line.starts_with(start)).count()
}

#[test]
fn wrong_folder_is_one_line() {
    let payload = Payload::folder("many", &[("a", 100_000), ("b", 10)]).create().unwrap();
    let shell = Shell::new();
    let wrong = shell.path().to_str().unwrap();
    let error = format!("error: no folder \"many\" in {wrong}\n");
    let verified = shell.run(words("verify", &payload, &[wrong])).expect(5);
    assert_eq!((verified.stdout(), &verified.stderr), (String::new(), &error));
    let seeded = shell.run(words("seed", &payload, &[wrong, "--port", "0"])).expect(5);
    assert_eq!((seeded.stdout(), &seeded.stderr), (String::new(), &error));
    let single = Payload::file("one.bin", 10).create().unwrap();
    let verified = shell.run(words("verify", &single, &[wrong])).expect(5);
    assert_eq!(verified.stderr, format!("error: no file \"one.bin\" in {wrong}\n"));
}

#[test]
fn folder_without_pieces_is_refused() {
    let (payload, shell) = (Payload::folder("set", &[("a", 100)]).create().unwrap(), Shell::new());
    shell.write("set/a", [7; 100]);
    let output = shell.run(words("seed", &payload, &[".", "--port", "0"])).expect(5);
    assert!(lines(&output, "serving").is_empty(), "{}", output.stderr);
    one_line(&output, "no good piece of the torrent in .");
}

#[test]
fn other_content_is_named() {
    let shell = Shell::new();
    let page = b"<!DOCTYPE html><html><title>Please log in</title></html>";
    for (bytes, expected) in [
        (&page[..], "looks like a web page (byte 0 is '<')"),
        (
            b"\x1f\x8b\x08\0rest",
            r"looks like gzip-compressed data; gunzip unpacks it (byte 0 is '\x1f')",
        ),
        (b"Hello, this is the content.\n", "looks like plain text (byte 0 is 'H')"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "looks like a Git LFS pointer; git lfs pull fetches the file (byte 0 is 'v')",
        ),
        (
            b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
            r"looks like a companion file of macOS; the torrent has no ._ in front (byte 0 is '\x00')",
        ),
        (b"", "looks like an empty file"),
        (b"i5e", "bencode, but not a dictionary (it is an integer)"),
        (b"li1e3:\xff\xfe\xfde", "bencode, but not a dictionary (it is a list)"),
        (b"\xff\xfe\xfd", r"at byte 0: expected a value, got '\xff'"),
        (b"d3:cow3:mooe", "at byte 0: expected the key 'info', which is missing"),
    ] {
        shell.write("given", bytes);
        let error = shell.run(["info", "given", "--json"]).expect(3).error("bad_torrent");
        assert_eq!(error, format!("given: not a torrent: {expected}"));
    }
    let url = format!("http://{}/download.php?id=7", web_server("200 OK", page));
    let error = shell.run(["info", &url, "--json"]).expect(3).error("bad_torrent");
    assert!(error.contains("not a torrent: looks like a web page"), "{error}");
}

#[test]
fn damaged_torrent_is_recognised() {
    let shell = Shell::new();
    let info = "d4:infod6:lengthi5e4:name1:n12:piece lengthi16384e6:pieces";
    for (bytes, expected) in [
        ("d8:announce".to_owned(), "the torrent is cut off: at byte 11 (announce): expected "),
        (format!("{info}20:abc"), "the torrent is cut off: at byte 58 (info.pieces): expected "),
        (format!("{info}3:abcee"), "not a valid torrent: at byte 58 (info.pieces): expected "),
        (
            "d4:infod12:meta versioni2e4:name1:nee".to_owned(),
            "at byte 23 (info.meta version): expected a v1 or hybrid torrent",
        ),
    ] {
        shell.write("given", bytes);
        let error = shell.run(["info", "given", "--json"]).expect(3).error("bad_torrent");
        assert!(error.starts_with(&format!("given: {expected}")), "{error}");
    }
}

#[test]
fn passkeys_are_hidden() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let (payload, shell) = (payload(), Shell::new());
    let server = web_server("200 OK", &fs::read(payload.torrent_path()).unwrap());
    let url = |number: u32| format!("http://{server}/{KEY}/{number}.torrent");
    let (one, two) = (url(1), url(2));
    let download = ["download", &one, &two, "--port", "0", "--timeout", "1"];
    let output = shell.run(download).expect(4);
    let same = format!(
        "http://{server}/0123../1.torrent and http://{server}/0123../2.torrent are the same torrent"
    );
    assert_eq!(starting(&output, &same), 1, "{}", output.stderr);
    assert!(!output.stderr.contains(KEY), "{}", output.stderr);

    let torrent = payload.torrent_path().to_str().unwrap();
    let (typo, other) =
        (format!("htp://a.example/{KEY}/announce"), format!("ftp://b.example/{KEY}"));
    let magnet = format!("magnet:?xt=urn:btih:00&tr=http%3A%2F%2Fa.example%2F{KEY}");
    for (arguments, shown) in [
        (
            &["create", torrent, "-t", &typo, "-o", "out"][..],
            "got \"htp://a.example/0123../announce\"",
        ),
        (&["seed", torrent, &other], "got ftp://b.example/0123..: "),
        (&["seed", torrent, &magnet], "got a magnet link: "),
        (&["info", torrent, &one], "'http://127.0.0.1:"),
        (&[&one], "'http://127.0.0.1:"),
        (&["seed", torrent, ".", "--port", &one], "'http://127.0.0.1:"),
    ] {
        let text = shell.run(arguments).expect(2).stderr;
        let json = shell.run(arguments.iter().chain(&["--json"])).expect(2).stdout();
        assert!(text.contains(shown) && !text.contains(KEY), "{text}");
        assert!(!json.contains(KEY), "{json}");
    }
}

#[test]
fn unusable_state_folder_is_named() {
    let (payload, shell) = (payload(), Shell::new());
    shell.write("state", "a file");
    let flags = ["--port", "0", "--state-dir", "state/below"];
    let download = shell.run(words("download", &payload, &[&flags[..], &["--json"]].concat()));
    let error = download.expect(6).error("disk");
    let expected = "cannot keep a record of verified pieces in state/below: not a directory; \
        choose a folder with --state-dir";
    assert_eq!(error, expected);

    // A seed-only torrent does not need the folder.
    let seed = [&[dir(&payload), "--seed-time", "1"][..], &flags].concat();
    let output = shell.run(words("seed", &payload, &seed)).expect(0);
    let warning = "warning: seed verifies everything at each start: cannot keep a record of \
        verified pieces in state/below: not a directory; choose a folder with --state-dir";
    assert_eq!(lines(&output, "--state-dir"), [warning]);
    one_line(&output, "serving 19 of 19 pieces");
}

#[test]
fn seed_without_home_serves() {
    let (payload, shell) = (payload(), Shell::new());
    let arguments = words("seed", &payload, &[dir(&payload), "--port", "0", "--seed-time", "1"]);
    let mut command = shell.command(arguments);
    command.env("HOME", "/dev/null/home");
    let output = finish(command.spawn().unwrap()).expect(0);
    one_line(&output, "serving 19 of 19 pieces");
}

#[test]
fn unwritable_folder_names_its_flag() {
    let scene = Scene::new(film());
    scene.shell.write("file", "");
    let flags = ["-o", "file/below", "--port", "0", "--peer", &scene.address, "--json"];
    let output = scene.shell.run(words("download", &scene.payload, &flags));
    let error = output.expect(6).error("disk");
    assert!(error.contains("file") && error.ends_with("choose another folder (-o)"), "{error}");
}

#[test]
fn fetched_size_is_shown() {
    let scene = Scene::new(film());
    let whole = scene.download(&[]).expect(0).stdout();
    assert!(whole.starts_with("film: complete, 586 KiB in "), "{whole}");
    // The second half of the file is lost.
    let file = fs::OpenOptions::new().write(true).open(scene.shell.join("out/film")).unwrap();
    file.set_len(300_000).unwrap();
    let rest = scene.download(&[]).expect(0);
    let part = rest.stdout();
    assert!(part.starts_with("film: complete, 586 KiB, of which 298 KiB in "), "{part}");
    one_line(&rest, "film: resuming, 9 of 19 pieces already here");
}

/// A torrent with a pad file (BEP 47) between two others.
fn padded() -> (Shell, String) {
    let (shell, first, last) = (Shell::new(), testkit::bytes(1, 20_000), testkit::bytes(2, 10_000));
    shell.write("src/set/a", &first);
    shell.write("src/set/b", &last);
    let pieces = [[&first[..], &[0; 12_768]].concat(), last].map(|piece| testkit::sha1(&piece).0);
    let start = "d4:infod5:filesld6:lengthi20000e4:pathl1:aeed4:attr1:p6:lengthi12768e\
        4:pathl4:.pad5:12768eed6:lengthi10000e4:pathl1:beee4:name3:set12:piece lengthi32768e\
        6:pieces40:";
    let torrent = [start.as_bytes(), &pieces.concat(), b"ee"].concat();
    let torrent = shell.write("set.torrent", torrent);
    let torrent = torrent.to_str().unwrap().to_owned();
    (shell, torrent)
}

#[test]
fn padding_is_not_counted() {
    let (shell, torrent) = padded();
    let info = shell.run(["info", &torrent]).expect(0).stdout();
    assert!(info.contains("29.3 KiB (30,000 bytes)"), "{info}");
    assert_eq!(shell.run(["info", &torrent, "--json"]).expect(0).object()["size"], 30_000);

    let port = dead_port().to_string();
    let seed = ["seed", &torrent, "src", "--port", &port, "--json"];
    let mut seeding = shell.start(seed);
    let started = seeding.wait_for_event("started");
    assert_eq!((&started["size"], &started["pieces_done"]), (&30_000.into(), &2.into()));
    let progress = seeding.wait_for_event("progress");
    let bytes = (&progress["bytes_done"], &progress["bytes_total"]);
    assert_eq!(bytes, (&30_000.into(), &30_000.into()));

    let peer = format!("127.0.0.1:{port}");
    let download = ["download", &torrent, "-o", "out", "--port", "0", "--peer", &peer, "--json"];
    let events = shell.run(download).expect(0).objects();
    let named = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(named("started")["size"], 30_000);
    assert_eq!(named("completed")["size"], 30_000);
    for file in ["set/a", "set/b"] {
        let (got, expected) = (shell.join("out").join(file), shell.join("src").join(file));
        assert!(fs::read(got).unwrap() == fs::read(expected).unwrap(), "{file}");
    }
    let download = ["download", &torrent, "-o", "again", "--port", "0", "--peer", &peer];
    let complete = shell.run(download).expect(0).stdout();
    assert!(complete.starts_with("set: complete, 29.3 KiB in "), "{complete}");
}

#[test]
fn unused_web_seeds_are_named() {
    let shell = Shell::new();
    shell.write("a", [7; 100]);
    let tracker = dead_tracker();
    let web = "http://web.example/a";
    shell.run(["create", "a", "-t", &tracker, "-w", web]).expect(0);
    let info = shell.run(["info", "a.torrent"]).expect(0).stdout();
    assert!(info.contains("http://web.example/a (not used yet)"), "{info}");
    let flags = ["download", "a.torrent", "-o", "out", "--port", "0", "--timeout", "1"];
    let output = shell.run(flags).expect(4);
    one_line(&output, "1 web seed is not used");
}

#[test]
fn log_has_no_module_path() {
    let payload = Payload::file("film", 100).tracker("x://nowhere").create().unwrap();
    let output = text(&payload, "download", &["--timeout", "1", "-v"]).expect(4);
    assert!(
        !output.stderr.contains("bt_cli") && !output.stderr.contains("session::"),
        "{}",
        output.stderr
    );
    one_line(&output, "info: listening on 0.0.0.0:");
}
