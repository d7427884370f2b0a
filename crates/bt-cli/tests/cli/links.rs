//! Magnet links and bare info-hashes.

use std::fs;
use std::net::SocketAddr;

use testkit::{HttpTracker, Payload};

use crate::support::{Process, Shell, dir, words};

/// Starts `seed` for the payload. Returns the process and its address.
fn seed(shell: &Shell, payload: &Payload) -> (Process, SocketAddr) {
    let rest = [dir(payload), "--json", "--port", "0", "--bind", "127.0.0.1"];
    let mut seeding = shell.start(words("seed", payload, &rest));
    let started = seeding.wait_for_event("started");
    (seeding, started["listen"][0].as_str().unwrap().parse().unwrap())
}

fn payload() -> Payload {
    let files = [("a.txt", 100_000), ("b.txt", 50_000), ("sub/c.txt", 70_000)];
    Payload::folder("set", &files).create().unwrap()
}

/// Returns a link with a peer.
fn link(payload: &Payload, peer: SocketAddr) -> String {
    format!("magnet:?xt=urn:btih:{}&dn=guess&x.pe={peer}", payload.info_hash())
}

#[test]
fn link_downloads_from_its_peer() {
    let (shell, payload) = (Shell::new(), payload());
    let (_seeding, address) = seed(&shell, &payload);
    let link = link(&payload, address);
    let flags = ["-o", "out", "--port", "0", "--json"];
    let output = shell.run(["download", &link].iter().chain(&flags)).expect(0);
    payload.compare(shell.join("out")).unwrap();
    let objects = output.objects();
    let received = objects.iter().find(|it| it["event"] == "metadata_received").unwrap();
    assert_eq!((&received["name"], &received["size"]), (&"set".into(), &220_000.into()));
    let kept = received["torrent"].as_str().unwrap();
    assert!(kept.ends_with(&format!("torrents/{}.torrent", payload.info_hash())), "{kept}");
    assert_eq!(objects[0]["schema"], 1);
}

#[test]
fn second_launch_asks_nobody_for_metadata() {
    let (shell, payload) = (Shell::new(), payload());
    let (seeding, address) = seed(&shell, &payload);
    let link = link(&payload, address);
    shell.run(["download", &link, "-o", "out", "--port", "0"]).expect(0);
    seeding.signal("INT");
    seeding.finish().expect(130);
    // Now nobody has the metadata.
    let again = ["download", &link, "-o", "out", "--port", "0", "--json"];
    let output = shell.run(again).expect(0);
    assert!(output.objects().iter().all(|it| it["event"] != "metadata_received"));
    let info = shell.run(["info", &payload.info_hash().to_string(), "--json"]).expect(0).object();
    assert_eq!(info["name"], "set");
    shell.run(["verify", &link, "out"]).expect(0);
}

#[test]
fn link_selects_files() {
    let (shell, payload) = (Shell::new(), payload());
    let (_seeding, address) = seed(&shell, &payload);
    let link = link(&payload, address);
    let some = format!("{link}&so=1-2");
    shell.run(["download", &some, "-o", "some", "--port", "0"]).expect(0);
    assert!(!shell.join("some/set/a.txt").exists() && shell.join("some/set/b.txt").exists());
    // The user's choice counts more, also in the next launch, which has the metadata.
    for state in ["new", "new"] {
        let flags = ["-o", "one", "--files", "a.txt", "--port", "0", "--state-dir", state];
        shell.run(["download", &some].iter().chain(&flags)).expect(0);
        assert!(shell.join("one/set/a.txt").exists() && !shell.join("one/set/b.txt").exists());
    }
    for (link, flags) in [(format!("{link}&so=9"), &[][..]), (link, &["--files", "d.txt"])] {
        let command = ["download", &link, "-o", "none", "--port", "0", "--state-dir", "none"];
        let output = shell.run(command.iter().chain(flags)).expect(2);
        assert!(output.stderr.contains("set: "), "{}", output.stderr);
        assert!(!shell.join("none/set").exists());
    }
}

#[test]
fn torrent_file_is_saved() {
    let (shell, payload) = (Shell::new(), payload());
    let (_seeding, address) = seed(&shell, &payload);
    let link = link(&payload, address);
    fs::create_dir(shell.join("torrents")).unwrap();
    for (path, saved) in [("file.torrent", "file.torrent"), ("torrents", "torrents/set.torrent")] {
        let state = format!("state of {path}");
        let flags = ["-o", "out", "--port", "0", "--save-torrent", path, "--state-dir", &state];
        shell.run(["download", &link].iter().chain(&flags)).expect(0);
        let info = shell.run(["info", saved, "--json"]).expect(0).object();
        assert_eq!(info["info_hash"], payload.info_hash().to_string());
    }
    let output = shell.run(["info", &link, "-o", "again.torrent", "--port", "0"]).expect(0);
    assert!(output.stdout().contains("saved as again.torrent"), "{}", output.stdout());
    assert_eq!(
        fs::read(shell.join("again.torrent")).unwrap(),
        fs::read(shell.join("file.torrent")).unwrap()
    );
    shell.write("taken", "mine");
    let error = shell.run(["info", &link, "-o", "taken", "--json"]).expect(6).error("disk");
    assert!(error.starts_with("cannot write taken: "), "{error}");
    assert_eq!(fs::read(shell.join("taken")).unwrap(), b"mine");
}

#[test]
fn link_given_twice_is_taken_once() {
    let (shell, payload) = (Shell::new(), payload());
    let (_seeding, address) = seed(&shell, &payload);
    let tracker = HttpTracker::start();
    let bare = payload.info_hash().to_string();
    let with_tracker = format!("magnet:?xt=urn:btih:{bare}&tr={}", tracker.url());
    let flags = ["-o", "out", "--port", "0"];
    let links = ["download", &bare, &with_tracker, &link(&payload, address)];
    let output = shell.run(links.iter().chain(&flags)).expect(0);
    assert!(output.stderr.contains("are the same torrent"), "{}", output.stderr);
    assert!(!tracker.announces().is_empty());
    payload.compare(shell.join("out")).unwrap();
}

#[test]
fn info_shows_links() {
    let (shell, payload) = (Shell::new(), payload());
    let (_seeding, address) = seed(&shell, &payload);
    let link = link(&payload, address);
    let said = shell.run(["info", &format!("{link}&so=1,3-4&xl=7"), "--offline", "--json"]);
    let said = said.expect(0).object();
    assert_eq!((&said["name"], &said["size"]), (&"guess".into(), &7.into()));
    assert_eq!(said["peers"][0], address.to_string());
    assert_eq!(said["select"], serde_json::json!(["1", "3-4"]));
    let text = shell.run(["info", &link, "--offline"]).expect(0).stdout();
    assert!(text.contains("guess") && text.contains(&address.to_string()), "{text}");
    let fetched = shell.run(["info", &link, "--json", "--port", "0"]).expect(0).object();
    assert_eq!((&fetched["name"], &fetched["size"]), (&"set".into(), &220_000.into()));
}

#[test]
fn links_without_metadata_are_usage_errors() {
    let (shell, payload) = (Shell::new(), payload());
    let bare = payload.info_hash().to_string();
    let link = format!("magnet:?xt=urn:btih:{bare}");
    fs::create_dir(shell.join("dir")).unwrap();
    for command in [
        &["verify", &link, "dir"][..],
        &["verify", &bare, "dir"],
        &["seed", &link, "dir", "--port", "0"],
        &["download_piece", &link, "0", "-o", "piece", "--port", "0"],
    ] {
        let error = shell.run(command.iter().chain(&["--json"])).expect(2).error("usage");
        let expected =
            format!("the torrent of the link {bare} is not here: get it with bt-cli info");
        assert!(error.starts_with(&expected), "{command:?}: {error}");
    }
}

#[test]
fn wrong_links_are_usage_errors() {
    let shell = Shell::new();
    let v2 = format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32));
    for (link, expected) in [
        ("magnet:?xt=urn:btih:12", "wrong magnet link: expected an info-hash of 40"),
        ("magnet:?dn=film", "wrong magnet link: expected the info-hash"),
        (&*v2, "the magnet link is of a v2 torrent"),
    ] {
        for command in [["info", link], ["download", link], ["peers", link]] {
            let error = shell.run(command.iter().chain(&["--json"])).expect(2).error("usage");
            assert!(error.starts_with(expected), "{command:?}: {error}");
        }
    }
    let error = shell.run(["decode", &v2, "--json"]).expect(2).error("usage");
    assert!(error.starts_with("a magnet link is not bencode"), "{error}");
    let error = shell.run(["info", "some.torrent", "--offline", "--json"]).expect(2);
    error.error("usage");
}

#[test]
fn missing_metadata_is_a_network_error() {
    let (shell, payload) = (Shell::new(), payload());
    let link = format!("magnet:?xt=urn:btih:{}", payload.info_hash());
    let nodes = "no tracker and no node of the DHT";
    for (flag, asked) in [("--no-dht", "no tracker"), ("--no-lsd", nodes)] {
        for command in ["download", "info"] {
            let words = [command, &link, "--metadata-timeout", "1", "--port", "0", "--json", flag];
            let error = shell.run(words).expect(4).error("network");
            let expected = format!("no metadata after 1s; asked {asked}: no peer is known");
            assert!(error.contains(&expected), "{error}");
        }
    }
}

#[test]
fn trackers_of_links_are_asked() {
    let (shell, payload) = (Shell::new(), payload());
    let tracker = HttpTracker::start();
    let link = format!("magnet:?xt=urn:btih:{}&tr={}", payload.info_hash(), tracker.url());
    let object = shell.run(["scrape", &link, "--json"]).expect(0).object();
    assert_eq!(object["info_hash"], payload.info_hash().to_string());
    let output = shell.run(["peers", &link, "--json"]).expect(4);
    assert_eq!(output.objects()[0]["trackers"][0]["url"], tracker.url());
}

/// A private torrent uses the trackers of one link only (BEP 27).
#[test]
fn private_torrent_drops_trackers_of_second_link() {
    let (own, other) = (HttpTracker::start(), HttpTracker::start());
    let payload = Payload::file("film", 100_000).private().tier([own.url()]).create().unwrap();
    let shell = Shell::new();
    let (seeding, address) = seed(&shell, &payload);
    own.answer(testkit::Answer::Peers(vec![address]));
    let hash = payload.info_hash();
    let links = [&own, &other].map(|it| format!("magnet:?xt=urn:btih:{hash}&tr={}", it.url()));
    let flags = ["-o", "out", "--port", "0", "--save-torrent", "film.torrent"];
    let output =
        shell.run(["download"].iter().copied().chain(links.iter().map(|it| &**it)).chain(flags));
    let output = output.expect(0);
    assert!(output.stderr.contains("the trackers of the first link are used"), "{}", output.stderr);
    payload.compare(shell.join("out")).unwrap();
    let info = shell.run(["info", "film.torrent", "--json"]).expect(0).object();
    assert_eq!(info["trackers"], serde_json::json!([[own.url()]]));
    seeding.signal("INT");
}
