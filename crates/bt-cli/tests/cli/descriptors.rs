//! Low limits of open files (`ulimit -n`).

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use testkit::{Payload, PayloadBuilder, Script};

use crate::support::{Output, Process, Scene, Shell, dir, leech, words};

/// Sets the least limit with which the program works, as the hard limit too.
const FEWEST: &str = "ulimit -n 64";

/// Creates many more files than descriptors, several of them in each piece.
fn many_files() -> PayloadBuilder {
    let names: Vec<String> = (0..3000).map(|file| format!("{}/{file}", file % 30)).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 300)).collect();
    Payload::folder("many", &files)
}

fn run(shell: &Shell, limit: &str, arguments: Vec<String>) -> Output {
    Process::new(&mut shell.command_after(limit, arguments)).finish()
}

#[test]
fn verify_and_create_need_few() {
    let (shell, payload) = (Shell::new(), many_files().create().unwrap());
    let content = payload.folder_path().join("many").to_str().unwrap().to_owned();
    for round in 0..5 {
        run(&shell, FEWEST, words("verify", &payload, &[dir(&payload)])).expect(0);
        let output = format!("{round}.torrent");
        let create = ["create", &content, "-o", &output].map(str::to_owned);
        run(&shell, FEWEST, create.to_vec()).expect(0);
    }
}

#[test]
fn deep_folders_need_few() {
    let shell = Shell::new();
    let folder = format!("root/{}", ["f"; 90].join("/"));
    shell.write(&format!("{folder}/file"), "deep");
    let create = ["create", "root", "-o", "root.torrent"].map(str::to_owned);
    run(&shell, FEWEST, create.to_vec()).expect(0);
    run(&shell, FEWEST, ["verify", "root.torrent", "."].map(str::to_owned).to_vec()).expect(0);
}

#[test]
fn download_needs_few() {
    let scene = Scene::new(many_files());
    let others: Vec<_> = (0..3).map(|_| Script::seeder(&scene.payload).listen()).collect();
    let peers: Vec<String> = others.iter().map(|seeder| seeder.address().to_string()).collect();
    let peers: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
    run(&scene.shell, FEWEST, scene.words(&peers)).expect(0);
    scene.compare();
}

#[test]
fn seed_needs_few() {
    let (shell, payload) = (Shell::new(), many_files().create().unwrap());
    let rest = [dir(&payload), "--json", "--port", "0", "--bind", "127.0.0.1", "--ratio", "4"];
    let mut seeding =
        Process::new(&mut shell.command_after(FEWEST, words("seed", &payload, &rest)));
    let started = seeding.wait_for_event("started");
    let address = started["listen"][0].as_str().unwrap().parse().unwrap();
    (0..4).for_each(|_| leech(&payload, address));
    seeding.finish().expect(0);
}

#[test]
fn fewer_are_refused() {
    let (shell, payload) = (Shell::new(), Payload::file("a", 1000).create().unwrap());
    let expected = "63 open files are too few: raise the limit to at least 64 (ulimit -n)";
    for command in ["verify", "seed"] {
        let rest = [dir(&payload), "--json"];
        let output = run(&shell, "ulimit -n 63", words(command, &payload, &rest));
        assert_eq!(output.expect(1).error("failure"), expected);
    }
    let output = run(&shell, "ulimit -n 63", words("download", &payload, &["--json"]));
    assert_eq!(output.expect(1).error("failure"), expected);
    let info = words("info", &payload, &[]);
    run(&shell, "ulimit -n 40", info).expect(0);
}

#[test]
fn soft_limit_is_raised() {
    let (shell, payload) = (Shell::new(), Payload::file("a", 1000).create().unwrap());
    let seed = words("seed", &payload, &[dir(&payload), "--json", "--port", "0"]);
    let mut seeding = Process::new(&mut shell.command_after("ulimit -S -n 40", seed));
    seeding.wait_for_event("started");
    let limits = fs::read_to_string(format!("/proc/{}/limits", seeding.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[0], numbers[1].min(16_384), "{line}");
}

#[test]
fn error_names_the_limit() {
    let scene = Scene::with(many_files(), Script::held);
    let mut download = scene.shell.start(scene.words(&["--json"]));
    download.wait_for_event("peer");
    let few = Rlimit { current: Some(3), maximum: Some(3) };
    let id = Pid::from_raw(download.id().try_into().unwrap());
    prlimit(id, Resource::Nofile, few).unwrap();
    scene.peer.release();
    let message = download.finish().expect(6).error("disk");
    assert!(message.contains("ulimit -n") && !message.contains("the disk"), "{message}");
}
