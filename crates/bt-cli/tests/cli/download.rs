//! `download`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::{AnnounceEvent, Answer, Behaviour, HttpTracker, Payload, PayloadBuilder, Script};

use crate::support::{
    Scene, Shell, dead_peer, dead_port, dead_tracker, finish, leech, web_server, words,
};

fn folder() -> PayloadBuilder {
    Payload::folder("set", &[("a.bin", 150_000), ("b/c.txt", 7), ("b/d.bin", 90_000), ("e", 0)])
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// A seeder that sends each block late.
fn slow(payload: PayloadBuilder, milliseconds: u64) -> Scene {
    Scene::with(payload, |seeder| seeder.delay(Duration::from_millis(milliseconds)))
}

/// A torrent with a tracker that names its seeder.
fn tracked(payload: PayloadBuilder) -> (Scene, HttpTracker) {
    let tracker = HttpTracker::start();
    let scene = Scene::new(payload.tracker(tracker.url()));
    tracker.answer(Answer::Peers(vec![scene.peer.address()]));
    (scene, tracker)
}

#[test]
fn peer_of_tracker_is_used() {
    let (scene, tracker) = tracked(folder());
    let flags = ["-o", "out", "--port", "0"];
    let output = scene.shell.run(words("download", &scene.payload, &flags)).expect(0);
    scene.compare();
    assert!(output.stdout().starts_with("set: complete, 234 KiB in "), "{}", output.stdout());
    assert!(output.stdout().ends_with(": out/set\n"), "{}", output.stdout());
    let events: Vec<AnnounceEvent> = tracker.announces().iter().map(|seen| seen.event).collect();
    assert_eq!(events.first(), Some(&AnnounceEvent::Started));
    assert!(events.contains(&AnnounceEvent::Completed), "{events:?}");
    assert_eq!(events.last(), Some(&AnnounceEvent::Stopped));
}

#[test]
fn json_has_one_object_per_line() {
    let scene = Scene::new(folder());
    let events = scene.download(&["--json"]).expect(0).objects();
    assert_eq!(events[0]["schema"], 1);
    assert!(events[1..].iter().all(|event| event.get("schema").is_none()));
    assert!(events.iter().all(|event| event["info_hash"] == scene.payload.info_hash().to_string()));
    for name in ["started", "peer", "piece", "completed", "stopped"] {
        assert!(!named(&events, name).is_empty(), "no {name} in {events:?}");
    }
    let mut pieces: Vec<u64> =
        named(&events, "piece").iter().map(|event| event["index"].as_u64().unwrap()).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, (0..8).collect::<Vec<_>>());
    let completed = named(&events, "completed")[0];
    assert_eq!((&completed["output"], &completed["size"]), (&"out/set".into(), &240_007.into()));
    assert!(completed["seconds"].is_number());
    let peer = named(&events, "peer")[0];
    assert_eq!((&peer["address"], &peer["state"]), (&scene.address.into(), &"connected".into()));
    assert_eq!(events.last().unwrap()["reason"], "done");
}

#[test]
fn complete_download_requests_nothing() {
    let scene = Scene::new(folder());
    scene.download(&[]).expect(0);
    let requests = scene.peer.seen().requests.len();
    assert_eq!(scene.download(&[]).expect(0).stdout(), "set: already complete: out/set\n");
    // Without the journal of the first download too.
    scene.download(&["--no-resume"]).expect(0);
    assert_eq!(scene.peer.seen().requests.len(), requests);
}

#[test]
fn torrents_from_file_and_url() {
    let one = Scene::new(Payload::file("one", 100_000).seed(1));
    let two = Scene::new(Payload::file("two", 70_000).seed(2));
    let url = format!("http://{}/two.torrent", web_server("200 OK", two.payload.torrent()));
    let output = one.download(&[&url, "--peer", &two.address]).expect(0);
    one.compare();
    two.payload.compare(one.shell.join("out")).unwrap();
    assert_eq!(output.stdout().lines().count(), 2);
}

#[test]
fn torrent_given_twice_uses_both_trackers() {
    let first = folder().tracker(dead_tracker()).create().unwrap();
    let (second, _tracker) = tracked(folder());
    let path = second.payload.torrent_path().to_str().unwrap();
    let flags = [path, "-o", "out", "--port", "0"];
    let output = second.shell.run(words("download", &first, &flags)).expect(0);
    assert!(output.stderr.contains("it is taken once, with the trackers of both"));
    second.compare();
}

#[test]
fn private_duplicate_keeps_first_trackers() {
    let (first, _tracker) = tracked(folder().private());
    let other = HttpTracker::start();
    let second = folder().private().tracker(other.url()).create().unwrap();
    let flags = [second.torrent_path().to_str().unwrap(), "-o", "out", "--port", "0"];
    let output = first.shell.run(words("download", &first.payload, &flags)).expect(0);
    let warning = "the second is skipped with its trackers, because the torrent is private";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    first.compare();
    assert!(other.announces().is_empty(), "the second's tracker hears nothing");
}

#[test]
fn only_selected_files_are_created() {
    for (files, wanted) in [
        (&["0"][..], &["a.bin"][..]),
        (&["1-2"], &["b/c.txt", "b/d.bin"]),
        (&["*.bin"], &["a.bin", "b/d.bin"]),
        (&["b/*.txt", "0"], &["a.bin", "b/c.txt"]),
        (&["b"], &["b/c.txt", "b/d.bin"]),
        (&["set/b/c.txt"], &["b/c.txt"]),
    ] {
        let scene = Scene::new(folder());
        let flags: Vec<&str> = files.iter().flat_map(|file| ["--files", file]).collect();
        scene.download(&flags).expect(0);
        for (path, _) in scene.payload.files() {
            let below = path.strip_prefix("set").unwrap().to_str().unwrap();
            let made = scene.shell.join("out").join(&path);
            assert_eq!(made.exists(), wanted.contains(&below), "{files:?}: {below}");
            if made.exists() {
                let expected = fs::read(scene.payload.folder_path().join(&path)).unwrap();
                assert!(fs::read(&made).unwrap() == expected, "{files:?}: {below}");
            }
        }
    }
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let (payload, shell) = (folder().create().unwrap(), Shell::new());
    let other = Payload::file("other", 1).create().unwrap();
    let other = other.torrent_path().to_str().unwrap();
    for flags in [
        &["--peer", "nonsense"][..],
        &["--peer", "127.0.0.1"],
        &["--files", "4"],
        &["--files", "3-1"],
        &["--files", "*.mp3"],
        &["--files", "[a"],
        &["-o", "-"],
        &["--files", "0", other],
    ] {
        let flags = [flags, &["--json"]].concat();
        let message = shell.run(words("download", &payload, &flags)).expect(2).error("usage");
        assert!(!message.is_empty(), "{flags:?}");
    }
    assert!(!shell.join("out").exists());
}

#[test]
fn failed_listen_names_flag() {
    let (payload, shell) = (folder().create().unwrap(), Shell::new());
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flags, hint) in
        [(["--port", &port, "--json"], "--port"), (["--bind", "192.0.2.1", "--json"], "--bind")]
    {
        let error = shell.run(words("download", &payload, &flags)).expect(4).error("network");
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn slow_tracker_is_reported() {
    let tracker = HttpTracker::start();
    tracker.answer(Answer::Silence);
    let payload = folder().tracker(tracker.url()).create().unwrap();
    let flags = ["--port", "0", "--timeout", "1", "--json"];
    let error = Shell::new().run(words("download", &payload, &flags)).expect(4).error("network");
    assert!(error.contains("no tracker has answered yet"), "{error}");
}

#[test]
fn interrupted_download_resumes() {
    let scene = slow(Payload::file("big", 600_000), 100);
    for signal in ["INT", "TERM"] {
        let mut process = scene.shell.start(scene.words(&["--json"]));
        process.wait_for_event("piece");
        process.signal(signal);
        let output = process.finish().expect(130);
        output.error("interrupted");
        assert_eq!(named(&output.objects(), "stopped")[0]["reason"], "interrupted");
    }
    let quick = Script::seeder(&scene.payload).listen();
    let flags = ["--peer", &quick.address().to_string(), "--json"];
    let events = scene.download(&flags).expect(0).objects();
    scene.compare();
    assert!(named(&events, "started")[0]["pieces_done"].as_u64().unwrap() >= 2, "{}", events[0]);
}

/// The tracker never answers `stopped`, so that only the second signal can end the shutdown early.
#[test]
fn second_signal_ends_at_once() {
    let tracker = HttpTracker::start();
    let scene = slow(Payload::file("big", 600_000).tracker(tracker.url()), 100);
    let mut process = scene.shell.start(scene.words(&["--json"]));
    process.wait_for_event("piece");
    tracker.answer(Answer::Silence);
    process.signal("INT");
    process.signal("TERM");
    let output = process.finish().expect(130);
    assert!(!output.stdout().contains("error"), "a clean shutdown: {}", output.stdout());
}

#[test]
fn seeding_ends_at_ratio_or_time() {
    let scene = Scene::new(folder());
    let port = dead_port();
    let number = port.to_string();
    let flags =
        ["--peer", &scene.address, "--ratio", "1", "--json", "-o", "out", "--port", &number];
    let mut process = scene.shell.start(words("download", &scene.payload, &flags));
    process.wait_for_event("completed");
    leech(&scene.payload, ([127, 0, 0, 1], port).into());
    process.finish().expect(0);

    let output = scene.download(&["--seed-time", "1s"]).expect(0);
    assert!(output.stdout().contains("already complete"));
}

#[test]
fn banned_peers_are_bad_data() {
    // One tracker more than are asked, and all fail.
    let payload = (0..101).fold(folder(), |folder, number| folder.tracker(format!("x://{number}")));
    let scene = Scene::with(payload, |peer| peer.behaviour(Behaviour::Corrupt { every: 1 }));
    let output = scene.download(&["--json"]).expect(5);
    assert!(output.error("bad_data").contains("banned"));
    let banned =
        output.objects().iter().any(|line| line["event"] == "peer" && line["state"] == "banned");
    assert!(banned, "{}", output.stdout());
}

#[test]
fn corrupt_peer_among_honest_is_harmless() {
    let scene = Scene::new(Payload::file("a", 600_000));
    let corrupt = Script::seeder(&scene.payload).behaviour(Behaviour::Corrupt { every: 3 });
    let corrupt = corrupt.listen();
    scene.download(&["--peer", &corrupt.address().to_string()]).expect(0);
    scene.compare();
}

#[test]
fn useless_peers_stall_download() {
    let behaviours = [
        Behaviour::WrongInfoHash,
        Behaviour::Garbage,
        Behaviour::Silent,
        Behaviour::Chokes,
        Behaviour::Stalls,
    ];
    let run = |behaviour: Behaviour| {
        let scene = Scene::with(folder(), |peer| peer.behaviour(behaviour));
        let output = scene.download(&["--stall-timeout", "4", "--json"]).expect(4);
        let message = output.error("network");
        let stays = matches!(behaviour, Behaviour::Silent | Behaviour::Chokes | Behaviour::Stalls);
        assert!(stays || message.contains(&scene.address), "{behaviour:?}: {message}");
    };
    std::thread::scope(|scope| {
        for behaviour in behaviours {
            scope.spawn(move || run(behaviour));
        }
    });
}

#[test]
fn dead_peer_and_refusal_are_named() {
    let tracker = HttpTracker::start();
    tracker.answer(Answer::Failure { reason: "no such torrent".to_owned(), retry_in: None });
    let payload = folder().tracker(tracker.url()).create().unwrap();
    let shell = Shell::new();
    let dead = dead_peer();
    let flags = ["--port", "0", "--timeout", "3", "--peer", &dead, "--json"];
    let message = shell.run(words("download", &payload, &flags)).expect(4).error("network");
    for part in ["not finished after 3s: 0% done", "no such torrent", &dead] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn unrelated_file_is_kept() {
    let scene = Scene::new(Payload::file("notes", 100_000));
    let precious = testkit::bytes(99, 100_001);
    let file = scene.shell.write("out/notes", &precious);
    let message = scene.download(&["--json"]).expect(6).error("disk");
    assert!(message.contains("notes") && message.contains("--overwrite"), "{message}");
    assert!(fs::read(&file).unwrap() == precious);
    scene.download(&["--overwrite"]).expect(0);
}

#[test]
fn failed_torrent_does_not_stop_others() {
    let good = Scene::new(Payload::file("good", 100_000).seed(1));
    let bad = Scene::new(Payload::file("bad", 70_000).seed(2));
    good.shell.write("out/bad/in-the-way", "");
    let path = bad.payload.torrent_path().to_str().unwrap();
    let output = good.download(&[path, "--peer", &bad.address]).expect(6);
    good.compare();
    let last = output.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: 1 of 2 torrents failed: bad: "), "{last}");
}

#[test]
fn concurrent_download_is_refused() {
    let scene = slow(folder(), 200);
    let mut first = scene.shell.start(scene.words(&["--json"]));
    first.wait_for_event("piece");
    let message = scene.download(&["--json"]).expect(6).error("disk");
    assert!(message.contains("in use"), "{message}");
    first.finish().expect(0);
    scene.compare();
}

#[test]
fn content_as_folder_is_warned_of() {
    let scene = Scene::new(folder());
    scene.shell.write("out/a.bin", "");
    let output = scene.download(&[]).expect(0);
    assert!(output.stderr.contains("looks like the content"), "{}", output.stderr);
}

#[test]
fn state_dir_flag_is_used() {
    let scene = Scene::new(folder());
    scene.download(&["--state-dir", "mine"]).expect(0);
    let is_empty =
        |path: &Path| fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    assert!(!is_empty(&scene.shell.join("mine")));
    assert!(!scene.shell.join(".local").exists());
    scene.download(&[]).expect(0);
    assert!(!is_empty(&scene.shell.join(".local/state/bt-cli")));
}

#[test]
fn closed_stdout_interrupts_quietly() {
    let scene = slow(folder(), 200);
    let output = scene.shell.run_unread(scene.words(&["--json"]));
    assert_eq!((output.code(), output.stderr.as_str()), (130, ""));
}

#[test]
fn signal_after_closed_stdout_interrupts() {
    let scene = Scene::with(folder(), Script::held);
    let mut child = scene.shell.command(scene.words(&["--json"])).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"connected\"")));
    drop(lines);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert_eq!(finish(child).code(), 130);
}

#[test]
fn pipe_gets_progress_lines() {
    let output = slow(Payload::file("slow", 600_000), 350).download(&[]).expect(0);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!((1..=3).contains(&lines.len()), "{lines:?}");
    for part in ["slow: ", "%, ", "/s, ", "peers 1/1", "pieces ", "/19"] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
}

#[test]
fn quiet_prints_results_only() {
    let output = Scene::new(folder()).download(&["-q"]).expect(0);
    assert_eq!((output.stdout().lines().count(), output.stderr.as_str()), (1, ""));
}
