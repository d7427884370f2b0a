//! `download`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::{AnnounceEvent, Answer, Behaviour, HttpTracker, Payload, Script, ScriptedPeer};

use crate::support::{Output, Process, Shell, dead_port, finish, web_server, words};

/// The flags of every download here: any port, and a limit for stalls.
const FLAGS: [&str; 6] = ["-o", "out", "--port", "0", "--stall-timeout", "30"];

fn download(shell: &Shell, payload: &Payload, flags: &[&str]) -> Output {
    shell.run(words("download", payload, &[&FLAGS, flags].concat()))
}

fn start(shell: &Shell, payload: &Payload, flags: &[&str]) -> Process {
    shell.start(words("download", payload, &[&FLAGS, flags].concat()))
}

/// Creates a payload and a seeder of it.
fn seeded(payload: testkit::PayloadBuilder) -> (Payload, ScriptedPeer, String) {
    let payload = payload.create().unwrap();
    let seeder = Script::seeder(&payload).listen();
    let address = seeder.address().to_string();
    (payload, seeder, address)
}

fn folder() -> testkit::PayloadBuilder {
    Payload::folder("set", &[("a.bin", 150_000), ("b/c.txt", 7), ("b/d.bin", 90_000), ("e", 0)])
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn peer_of_tracker_is_used() {
    let tracker = HttpTracker::start();
    let payload = folder().tracker(tracker.url()).create().unwrap();
    let seeder = Script::seeder(&payload).listen();
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let shell = Shell::new();
    let output = download(&shell, &payload, &[]).expect(0);
    payload.compare(shell.join("out")).unwrap();
    assert!(output.stdout().starts_with("set: complete, 234 KiB in "), "{}", output.stdout());
    assert!(output.stdout().ends_with(": out/set\n"), "{}", output.stdout());
    let events: Vec<AnnounceEvent> = tracker.announces().iter().map(|seen| seen.event).collect();
    assert_eq!(events.first(), Some(&AnnounceEvent::Started));
    assert!(events.contains(&AnnounceEvent::Completed), "{events:?}");
    assert_eq!(events.last(), Some(&AnnounceEvent::Stopped));
}

#[test]
fn json_has_one_object_per_line() {
    let (payload, _seeder, address) = seeded(folder());
    let shell = Shell::new();
    let events = download(&shell, &payload, &["--peer", &address, "--json"]).expect(0).objects();
    assert_eq!(events[0]["schema"], 1);
    assert!(events[1..].iter().all(|event| event.get("schema").is_none()));
    assert!(events.iter().all(|event| event["info_hash"] == payload.info_hash().to_string()));
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
    assert_eq!((&peer["address"], &peer["state"]), (&address.into(), &"connected".into()));
    assert_eq!(events.last().unwrap()["reason"], "done");
}

#[test]
fn progress_has_all_fields() {
    let payload = folder().create().unwrap();
    let delay = Duration::from_millis(150);
    let seeder = Script::seeder(&payload).delay(delay).listen();
    let address = seeder.address().to_string();
    let shell = Shell::new();
    let events = download(&shell, &payload, &["--peer", &address, "--json"]).expect(0).objects();
    let progress = named(&events, "progress");
    let one = progress.last().expect("more than a second went by");
    for field in
        ["bytes_done", "pieces_done", "down_rate", "up_rate", "peers_connected", "peers_known"]
    {
        assert!(one[field].is_u64(), "{field} in {one}");
    }
    assert_eq!((&one["bytes_total"], &one["pieces_total"]), (&240_007.into(), &8.into()));
    assert!(one.get("seconds_left").is_some());
}

#[test]
fn complete_download_requests_nothing() {
    let (payload, seeder, address) = seeded(folder());
    let shell = Shell::new();
    download(&shell, &payload, &["--peer", &address]).expect(0);
    let requests = seeder.seen().requests.len();
    let output = download(&shell, &payload, &["--peer", &address]).expect(0);
    assert_eq!(output.stdout(), "set: already complete: out/set\n");
    // Without the journal of the first download too.
    download(&shell, &payload, &["--no-resume"]).expect(0);
    assert_eq!(seeder.seen().requests.len(), requests);
}

#[test]
fn torrents_from_file_and_url() {
    let (one, _first, first_address) = seeded(Payload::file("one", 100_000).seed(1));
    let (two, _second, second_address) = seeded(Payload::file("two", 70_000).seed(2));
    let url = format!("http://{}/two.torrent", web_server("200 OK", two.torrent()));
    let shell = Shell::new();
    let flags = [&url, "--peer", &first_address, "--peer", &second_address];
    let output = download(&shell, &one, &flags).expect(0);
    one.compare(shell.join("out")).unwrap();
    two.compare(shell.join("out")).unwrap();
    assert_eq!(output.stdout().lines().count(), 2);
}

#[test]
fn torrent_given_twice_uses_both_trackers() {
    let (shell, tracker) = (Shell::new(), HttpTracker::start());
    let dead = format!("http://127.0.0.1:{}/announce", dead_port());
    let first = folder().tracker(dead).create().unwrap();
    let (second, seeder, _) = seeded(folder().tracker(tracker.url()));
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let second = second.torrent_path().to_str().unwrap();
    let output = download(&shell, &first, &[second]).expect(0);
    assert!(output.stderr.contains("it is taken once, with the trackers of both"));
    first.compare(shell.join("out")).unwrap();
}

#[test]
fn private_duplicate_keeps_first_trackers() {
    let (shell, tracker, other) = (Shell::new(), HttpTracker::start(), HttpTracker::start());
    let (first, seeder, _) = seeded(folder().private().tracker(tracker.url()));
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let second = folder().private().tracker(other.url()).create().unwrap();
    let second = second.torrent_path().to_str().unwrap();
    let output = download(&shell, &first, &[second]).expect(0);
    let warning = "the second is skipped with its trackers, because the torrent is private";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    first.compare(shell.join("out")).unwrap();
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
        let (payload, _seeder, address) = seeded(folder());
        let shell = Shell::new();
        let mut flags = vec!["--peer", &address];
        flags.extend(files.iter().flat_map(|file| ["--files", file]));
        download(&shell, &payload, &flags).expect(0);
        for (path, _) in payload.files() {
            let below = path.strip_prefix("set").unwrap().to_str().unwrap();
            let made = shell.join("out").join(&path);
            assert_eq!(made.exists(), wanted.contains(&below), "{files:?}: {below}");
            if made.exists() {
                let expected = fs::read(payload.folder_path().join(&path)).unwrap();
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
        let message = download(&shell, &payload, &flags).expect(2).error("usage");
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
    let payload = Payload::file("big", 600_000).create().unwrap();
    let slow = Script::seeder(&payload).delay(Duration::from_millis(100)).listen();
    let shell = Shell::new();
    for signal in ["INT", "TERM"] {
        let address = slow.address().to_string();
        let mut process = start(&shell, &payload, &["--peer", &address, "--json"]);
        process.wait_for_event("piece");
        process.signal(signal);
        let output = process.finish().expect(130);
        output.error("interrupted");
        assert_eq!(named(&output.objects(), "stopped")[0]["reason"], "interrupted");
    }
    let quick = Script::seeder(&payload).listen();
    let address = quick.address().to_string();
    let events = download(&shell, &payload, &["--peer", &address, "--json"]).expect(0).objects();
    payload.compare(shell.join("out")).unwrap();
    assert!(named(&events, "started")[0]["pieces_done"].as_u64().unwrap() >= 2, "{}", events[0]);
}

/// The tracker never answers `stopped`, so that only the second signal can end the shutdown early.
#[test]
fn second_signal_ends_at_once() {
    let tracker = HttpTracker::start();
    let payload = Payload::file("big", 600_000).tracker(tracker.url()).create().unwrap();
    let slow = Script::seeder(&payload).delay(Duration::from_millis(100)).listen();
    tracker.answer(Answer::Peers(vec![slow.address()]));
    let shell = Shell::new();
    let mut process = start(&shell, &payload, &["--json"]);
    process.wait_for_event("piece");
    tracker.answer(Answer::Silence);
    process.signal("INT");
    process.signal("TERM");
    let output = process.finish().expect(130);
    assert!(!output.stdout().contains("error"), "a clean shutdown: {}", output.stdout());
}

#[test]
fn seeding_ends_at_ratio_or_time() {
    let (payload, _seeder, address) = seeded(folder());
    let shell = Shell::new();
    let port = dead_port();
    let number = port.to_string();
    let flags = ["--peer", &address, "--ratio", "1", "--json", "-o", "out", "--port", &number];
    let mut process = shell.start(words("download", &payload, &flags));
    process.wait_for_event("completed");
    let leecher = Script::leecher(&payload).connect(([127, 0, 0, 1], port).into()).unwrap();
    assert!(leecher.wait_for(Duration::from_secs(30), |seen| seen.complete));
    process.finish().expect(0);

    let output = download(&shell, &payload, &["--seed-time", "1s"]).expect(0);
    assert!(output.stdout().contains("already complete"));
}

#[test]
fn banned_peers_are_bad_data() {
    // One tracker more than are asked, and all fail.
    let payload = (0..101).fold(folder(), |folder, number| folder.tracker(format!("x://{number}")));
    let payload = payload.create().unwrap();
    let corrupt = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 1 }).listen();
    let address = corrupt.address().to_string();
    let shell = Shell::new();
    let output = download(&shell, &payload, &["--peer", &address, "--json"]).expect(5);
    assert!(output.error("bad_data").contains("banned"));
    let banned =
        output.objects().iter().any(|line| line["event"] == "peer" && line["state"] == "banned");
    assert!(banned, "{}", output.stdout());
}

#[test]
fn corrupt_peer_among_honest_is_harmless() {
    let (payload, _seeder, address) = seeded(Payload::file("a", 600_000));
    let corrupt = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 3 }).listen();
    let corrupt = corrupt.address().to_string();
    let shell = Shell::new();
    download(&shell, &payload, &["--peer", &corrupt, "--peer", &address]).expect(0);
    payload.compare(shell.join("out")).unwrap();
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
    let payload = folder().create().unwrap();
    let run = |behaviour: Behaviour| {
        let peer = Script::seeder(&payload).behaviour(behaviour).listen();
        let address = peer.address().to_string();
        let shell = Shell::new();
        let flags =
            ["-o", "out", "--port", "0", "--stall-timeout", "4", "--peer", &address, "--json"];
        let output = shell.run(words("download", &payload, &flags)).expect(4);
        let message = output.error("network");
        let stays = matches!(behaviour, Behaviour::Silent | Behaviour::Chokes | Behaviour::Stalls);
        assert!(stays || message.contains(&address), "{behaviour:?}: {message}");
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
    let dead = format!("127.0.0.1:{}", dead_port());
    let flags = ["--port", "0", "--timeout", "3", "--peer", &dead, "--json"];
    let message = shell.run(words("download", &payload, &flags)).expect(4).error("network");
    for part in ["not finished after 3s: 0% done", "no such torrent", &dead] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn unwritable_folder_is_disk_error() {
    let (payload, _seeder, address) = seeded(folder());
    let shell = Shell::new();
    shell.write("file", "");
    let flags = ["-o", "file/below", "--port", "0", "--peer", &address, "--json"];
    let message = shell.run(words("download", &payload, &flags)).expect(6).error("disk");
    assert!(message.contains("file"), "{message}");
}

#[test]
fn unrelated_file_is_kept() {
    let (payload, _seeder, address) = seeded(Payload::file("notes", 100_000));
    let shell = Shell::new();
    let precious = testkit::bytes(99, 100_001);
    let file = shell.write("out/notes", &precious);
    let output = download(&shell, &payload, &["--peer", &address, "--json"]).expect(6);
    let message = output.error("disk");
    assert!(message.contains("notes") && message.contains("--overwrite"), "{message}");
    assert!(fs::read(&file).unwrap() == precious);
    download(&shell, &payload, &["--peer", &address, "--overwrite"]).expect(0);
}

#[test]
fn failed_torrent_does_not_stop_others() {
    let (good, _first, first_address) = seeded(Payload::file("good", 100_000).seed(1));
    let (bad, _second, second_address) = seeded(Payload::file("bad", 70_000).seed(2));
    let shell = Shell::new();
    shell.write("out/bad/in-the-way", "");
    let path = bad.torrent_path().to_str().unwrap();
    let peers = ["--peer", &first_address, "--peer", &second_address];
    let output = download(&shell, &good, &[&[path], &peers[..]].concat()).expect(6);
    good.compare(shell.join("out")).unwrap();
    let last = output.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: 1 of 2 torrents failed: bad: "), "{last}");
}

#[test]
fn concurrent_download_is_refused() {
    let payload = folder().create().unwrap();
    let slow = Script::seeder(&payload).delay(Duration::from_millis(200)).listen();
    let address = slow.address().to_string();
    let shell = Shell::new();
    let mut first = start(&shell, &payload, &["--peer", &address, "--json"]);
    first.wait_for_event("piece");
    let message =
        download(&shell, &payload, &["--peer", &address, "--json"]).expect(6).error("disk");
    assert!(message.contains("in use"), "{message}");
    first.finish().expect(0);
    payload.compare(shell.join("out")).unwrap();
}

#[test]
fn content_as_folder_is_warned_of() {
    let (payload, _seeder, address) = seeded(folder());
    let shell = Shell::new();
    shell.write("out/a.bin", "");
    let output = download(&shell, &payload, &["--peer", &address]).expect(0);
    assert!(output.stderr.contains("looks like the content"), "{}", output.stderr);
}

#[test]
fn state_dir_flag_is_used() {
    let (payload, _seeder, address) = seeded(folder());
    let shell = Shell::new();
    download(&shell, &payload, &["--peer", &address, "--state-dir", "mine"]).expect(0);
    let is_empty =
        |path: &Path| fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    assert!(!is_empty(&shell.join("mine")));
    assert!(!shell.join(".local").exists());
    download(&shell, &payload, &["--peer", &address]).expect(0);
    assert!(!is_empty(&shell.join(".local/state/bt-cli")));
}

#[test]
fn closed_stdout_interrupts_quietly() {
    let payload = folder().create().unwrap();
    let slow = Script::seeder(&payload).delay(Duration::from_millis(200)).listen();
    let address = slow.address().to_string();
    let shell = Shell::new();
    let flags = ["--peer", &address, "--json"];
    let mut command = shell.command(words("download", &payload, &[&FLAGS[..], &flags].concat()));
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let output = finish(child);
    assert_eq!((output.code(), output.stderr.as_str()), (130, ""));
}

#[test]
fn signal_after_closed_stdout_interrupts() {
    let payload = folder().create().unwrap();
    let silent = Script::seeder(&payload).held().listen();
    let address = silent.address().to_string();
    let shell = Shell::new();
    let flags = ["--peer", &address, "--json"];
    let mut command = shell.command(words("download", &payload, &[&FLAGS[..], &flags].concat()));
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"connected\"")));
    drop(lines);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert_eq!(finish(child).code(), 130);
}

#[test]
fn pipe_gets_progress_lines() {
    let payload = Payload::file("slow", 600_000).create().unwrap();
    let slow = Script::seeder(&payload).delay(Duration::from_millis(350)).listen();
    let address = slow.address().to_string();
    let output = download(&Shell::new(), &payload, &["--peer", &address]).expect(0);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!((1..=3).contains(&lines.len()), "{lines:?}");
    for part in ["slow: ", "%, ", "/s, ", "peers 1/1", "pieces ", "/19"] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
}

#[test]
fn quiet_prints_results_only() {
    let (payload, _seeder, address) = seeded(folder());
    let output = download(&Shell::new(), &payload, &["--peer", &address, "-q"]).expect(0);
    assert_eq!((output.stdout().lines().count(), output.stderr.as_str()), (1, ""));
}
