//! `seed`.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testkit::{HttpTracker, Payload, Script};

use crate::support::{Process, Shell, dir, leech, words};

/// Starts to seed. Returns the process, its `started` event, and the address in that.
fn start(shell: &Shell, payload: &Payload, flags: &[&str]) -> (Process, Value, SocketAddr) {
    let rest = [&[dir(payload), "--json", "--port", "0", "--bind", "127.0.0.1"], flags].concat();
    let mut seeding = shell.start(words("seed", payload, &rest));
    let started = seeding.wait_for_event("started");
    let address = started["listen"][0].as_str().unwrap().parse().unwrap();
    (seeding, started, address)
}

fn payload() -> Payload {
    Payload::folder("set", &[("a", 100_000), ("b", 50_000)]).create().unwrap()
}

#[test]
fn verified_data_is_served() {
    let (shell, payload) = (Shell::new(), payload());
    let (mut seeding, started, address) = start(&shell, &payload, &[]);
    assert_eq!(started["schema"], 1);
    assert_eq!((&started["pieces_done"], &started["pieces_total"]), (&5.into(), &5.into()));
    leech(&payload, address);
    let progress = seeding.wait_for_event("progress");
    assert_eq!((&progress["bytes_done"], &progress["pieces_total"]), (&150_000.into(), &5.into()));
    seeding.signal("INT");
    seeding.finish().expect(130).error("interrupted");
    payload.compare(payload.folder_path()).unwrap();
}

#[test]
fn seeding_ends_at_ratio_or_time() {
    let (shell, payload) = (Shell::new(), payload());
    let (seeding, _, address) = start(&shell, &payload, &["--ratio", "1"]);
    leech(&payload, address);
    let output = seeding.finish().expect(0);
    assert_eq!(output.objects().last().unwrap()["reason"], "done");

    start(&shell, &payload, &["--seed-time", "1"]).0.finish().expect(0);
}

#[test]
fn closed_stdout_is_no_failure() {
    let payload = payload();
    let flags = [dir(&payload), "--json", "--port", "0"];
    let output = Shell::new().run_unread(words("seed", &payload, &flags));
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""));
}

#[test]
fn listening_port_is_announced() {
    let (shell, tracker) = (Shell::new(), HttpTracker::start());
    let payload = Payload::file("a", 50_000).tracker(tracker.url()).create().unwrap();
    let (seeding, _, address) = start(&shell, &payload, &["--seed-time", "1"]);
    seeding.finish().expect(0);
    let announces = tracker.announces();
    assert_eq!((announces[0].port, announces[0].left), (address.port(), 0));
}

#[test]
fn missing_file_is_warned_of() {
    let (shell, payload) = (Shell::new(), payload());
    fs::remove_file(payload.folder_path().join("set/b")).unwrap();
    let (seeding, started, address) = start(&shell, &payload, &[]);
    assert_eq!(started["pieces_done"], 3);
    let leecher = Script::leecher(&payload).connect(address).unwrap();
    assert!(leecher.wait_for(Duration::from_secs(30), |seen| seen.bytes_received >= 3 * 32 * 1024));
    seeding.signal("TERM");
    let output = seeding.finish().expect(130);
    assert!(output.stderr.contains("missing or too short: b"), "{}", output.stderr);
    assert!(!payload.folder_path().join("set/b").exists());
}

#[test]
fn folder_without_content_is_refused() {
    let (shell, payload) = (Shell::new(), payload());
    let content = payload.folder_path().join("set");
    for (folder, code, class) in
        [(".", 5, "bad_data"), ("missing", 6, "disk"), (content.to_str().unwrap(), 2, "usage")]
    {
        let rest = [folder, "--json", "--port", "0"];
        shell.run(words("seed", &payload, &rest)).expect(code).error(class);
    }
}

#[test]
fn one_folder_serves_several_torrents() {
    let shell = Shell::new();
    let one = Payload::file("one", 100_000).seed(1).create().unwrap();
    let two = Payload::file("two", 70_000).seed(2).create().unwrap();
    for payload in [&one, &two] {
        shell.write(&format!("dir/{}", payload.name()), payload.data());
    }
    let second = two.torrent_path().to_str().unwrap();
    let rest = [second, "dir", "--json", "--port", "0", "--bind", "127.0.0.1"];
    let mut seeding = shell.start(words("seed", &one, &rest));
    seeding.wait_for_event("started");
    let started = seeding.wait_for_event("started");
    let address = started["listen"][0].as_str().unwrap().parse().unwrap();
    leech(&one, address);
    leech(&two, address);
    seeding.signal("INT");
    seeding.finish().expect(130);
}

#[test]
fn forgotten_folder_is_named() {
    let (shell, payload) = (Shell::new(), payload());
    shell.write("p.torrent", "");
    for last in ["p.torrent", "http://tracker.example/p.torrent"] {
        let error = shell.run(words("seed", &payload, &[last, "--json"])).expect(2).error("usage");
        let expected =
            format!("the last argument is the folder, got {last}: bt-cli seed <TORRENT>... <DIR>");
        assert_eq!(error, expected);
    }
    shell.run(words("seed", &payload, &["magnet:?xt=a", "--json"])).expect(2).error("usage");
}

#[test]
fn torrent_without_content_is_left_out() {
    let (shell, tracker) = (Shell::new(), HttpTracker::start());
    let there = Payload::file("one", 100_000).seed(1).create().unwrap();
    let missing = Payload::file("two", 70_000).seed(2).tracker(tracker.url()).create().unwrap();
    shell.write("dir/one", there.data());
    let second = missing.torrent_path().to_str().unwrap();
    let rest = [second, "dir", "--port", "0", "--seed-time", "1", "--json"];
    let output = shell.run(words("seed", &there, &rest)).expect(5);
    assert_eq!(output.stderr, "warning: two: no file \"two\" in dir\n");
    let error = output.error("bad_data");
    assert_eq!(error, "1 of 2 torrents failed: two: no file \"two\" in dir");
    let objects = output.objects();
    assert_eq!(objects.last().unwrap()["error"]["info_hash"], missing.info_hash().to_string());
    let hash = there.info_hash().to_string();
    let events = objects.iter().filter(|object| object["event"].is_string());
    assert!(events.into_iter().all(|event| event["info_hash"] == hash), "{objects:?}");
    assert!(tracker.announces().is_empty());
}
