//! `seed`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use testkit::{HttpTracker, Payload, Script};

use crate::support::{Process, Shell, dead_port, finish, words};

fn start(shell: &Shell, payload: &Payload, dir: &Path, flags: &[&str]) -> (Process, SocketAddr) {
    let port = dead_port();
    let (dir, number) = (dir.to_str().unwrap(), port.to_string());
    let rest = [&[dir, "--json", "--port", &number], flags].concat();
    (shell.start(words("seed", payload, &rest)), ([127, 0, 0, 1], port).into())
}

fn payload() -> Payload {
    Payload::folder("set", &[("a", 100_000), ("b", 50_000)]).create().unwrap()
}

#[test]
fn verified_data_is_served() {
    let (shell, payload) = (Shell::new(), payload());
    let (mut seeding, address) = start(&shell, &payload, payload.folder_path(), &[]);
    let started = seeding.wait_for_event("started");
    assert_eq!(started["schema"], 1);
    assert_eq!((&started["pieces_done"], &started["pieces_total"]), (&5.into(), &5.into()));
    let leecher = Script::leecher(&payload).connect(address).unwrap();
    assert!(leecher.wait_for(Duration::from_secs(30), |seen| seen.complete));
    let progress = seeding.wait_for_event("progress");
    assert_eq!(progress["bytes_done"], 150_000);
    seeding.signal("INT");
    let output = seeding.finish().expect(130);
    output.error("interrupted");
    payload.compare(payload.folder_path()).unwrap();
}

#[test]
fn seeding_ends_at_ratio_or_time() {
    let (shell, payload) = (Shell::new(), payload());
    let (mut seeding, address) = start(&shell, &payload, payload.folder_path(), &["--ratio", "1"]);
    seeding.wait_for_event("started");
    let leecher = Script::leecher(&payload).connect(address).unwrap();
    assert!(leecher.wait_for(Duration::from_secs(30), |seen| seen.complete));
    let output = seeding.finish().expect(0);
    assert_eq!(output.objects().last().unwrap()["reason"], "done");

    let (seeding, _) = start(&shell, &payload, payload.folder_path(), &["--seed-time", "1"]);
    seeding.finish().expect(0);
}

#[test]
fn closed_stdout_is_no_failure() {
    let (shell, payload) = (Shell::new(), payload());
    let dir = payload.folder_path().to_str().unwrap();
    let flags = [dir, "--json", "--port", "0"];
    let mut command = shell.command(words("seed", &payload, &flags));
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let output = finish(child);
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""));
}

#[test]
fn listening_port_is_announced() {
    let (shell, tracker) = (Shell::new(), HttpTracker::start());
    let payload = Payload::file("a", 50_000).tracker(tracker.url()).create().unwrap();
    let (seeding, address) = start(&shell, &payload, payload.folder_path(), &["--seed-time", "1"]);
    seeding.finish().expect(0);
    let announces = tracker.announces();
    assert_eq!((announces[0].port, announces[0].left), (address.port(), 0));
}

#[test]
fn missing_file_is_warned_of() {
    let (shell, payload) = (Shell::new(), payload());
    fs::remove_file(payload.folder_path().join("set/b")).unwrap();
    let (mut seeding, address) = start(&shell, &payload, payload.folder_path(), &[]);
    let started = seeding.wait_for_event("started");
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
    let (seeding, _) = start(&shell, &payload, shell.path(), &[]);
    seeding.finish().expect(5).error("bad_data");
    let (seeding, _) = start(&shell, &payload, Path::new("missing"), &[]);
    seeding.finish().expect(6).error("disk");
    let content = payload.folder_path().join("set");
    let (seeding, _) = start(&shell, &payload, &content, &[]);
    seeding.finish().expect(2).error("usage");
}

#[test]
fn one_folder_serves_several_torrents() {
    let shell = Shell::new();
    let one = Payload::file("one", 100_000).seed(1).create().unwrap();
    let two = Payload::file("two", 70_000).seed(2).create().unwrap();
    for payload in [&one, &two] {
        shell.write(&format!("dir/{}", payload.name()), payload.data());
    }
    let port = dead_port().to_string();
    let second = two.torrent_path().to_str().unwrap();
    let rest = [second, "dir", "--port", &port, "--json"];
    let mut seeding = shell.start(words("seed", &one, &rest));
    seeding.wait_for_event("started");
    seeding.wait_for_event("started");
    for payload in [&one, &two] {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let leecher = Script::leecher(payload).connect(address).unwrap();
        assert!(leecher.wait_for(Duration::from_secs(30), |seen| seen.complete));
    }
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

#[test]
fn started_event_has_listening_address() {
    let (shell, payload) = (Shell::new(), payload());
    let dir = payload.folder_path().to_str().unwrap();
    let flags = [dir, "--json", "--port", "0", "--bind", "127.0.0.1"];
    let mut seeding = shell.start(words("seed", &payload, &flags));
    let started = seeding.wait_for_event("started");
    let address = started["listen"][0].as_str().unwrap().parse().unwrap();
    let leecher = Script::leecher(&payload).connect(address).unwrap();
    assert!(leecher.wait_for(Duration::from_secs(30), |seen| seen.complete));
}

#[test]
fn listening_address_is_shown() {
    let (shell, payload, port) = (Shell::new(), payload(), dead_port());
    let (dir, number) = (payload.folder_path().to_str().unwrap(), port.to_string());
    let rest = [dir, "--port", &number, "--bind", "127.0.0.1", "--seed-time", "1"];
    let output = shell.run(words("seed", &payload, &rest)).expect(0);
    let line = format!("listening on 127.0.0.1:{port}");
    assert!(output.stderr.lines().any(|shown| shown == line), "{}", output.stderr);
}
