//! `download_piece`.

use std::fs;

use testkit::{Answer, Behaviour, HttpTracker, Payload, PayloadBuilder, Script};

use crate::support::{Output, Scene, Shell, dead_peer, words};

fn run(shell: &Shell, payload: &Payload, flags: &[&str]) -> Output {
    shell.run(words("download_piece", payload, &[flags, &["--port", "0"]].concat()))
}

fn payload() -> PayloadBuilder {
    Payload::folder("set", &[("a", 50_000), ("b", 50_000)])
}

/// Returns the bytes of a piece.
fn piece(payload: &Payload, index: usize) -> Vec<u8> {
    payload.data().chunks(32 * 1024).nth(index).unwrap().to_vec()
}

#[test]
fn each_piece_is_downloaded() {
    let Scene { payload, peer: _peer, address, shell } = Scene::new(payload());
    for index in 0..4 {
        let (number, file) = (index.to_string(), format!("piece_{index}.dat"));
        let flags = [&number, "-o", &file, "--peer", &address, "--json"];
        let object = run(&shell, &payload, &flags).expect(0).object();
        let expected = piece(&payload, index);
        assert!(fs::read(shell.join(&file)).unwrap() == expected);
        assert_eq!((&object["index"], &object["length"]), (&index.into(), &expected.len().into()));
        assert_eq!(object["sha1"].as_str().unwrap().len(), 40);
        assert_eq!(object["output"], file);
        assert_eq!(object["peers"], serde_json::json!([address]));
    }
    assert_eq!(fs::read_dir(shell.path()).unwrap().count(), 4, "nothing else is left behind");
}

#[test]
fn piece_goes_to_stdout() {
    let tracker = HttpTracker::start();
    let payload = Payload::file("a", 100_000).tracker(tracker.url()).create().unwrap();
    let seeder = Script::seeder(&payload).fast().listen();
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let shell = Shell::new();
    let output = run(&shell, &payload, &["3", "-o", "-"]).expect(0);
    assert!(output.bytes == piece(&payload, 3));
    assert_eq!(fs::read_dir(shell.path()).unwrap().count(), 0);
    run(&shell, &payload, &["3", "-o", "-", "--json"]).expect(2).error("usage");
}

#[test]
fn text_names_output_file() {
    let Scene { payload, peer: _peer, address, shell } = Scene::new(payload());
    let output = run(&shell, &payload, &["0", "-o", "p", "--peer", &address]).expect(0);
    assert!(output.stdout().starts_with("piece 0: 32768 bytes, sha1 "), "{}", output.stdout());
    assert!(output.stdout().ends_with(": p\n"));
}

#[test]
fn index_past_end_is_refused() {
    let (payload, shell) = (payload().create().unwrap(), Shell::new());
    for index in ["4", "4294967295"] {
        let message = run(&shell, &payload, &[index, "-o", "p", "--json"]).expect(2).error("usage");
        assert!(message.contains("below 4") && message.contains(index), "{message}");
    }
}

#[test]
fn existing_file_needs_overwrite() {
    let Scene { payload, peer, address, shell } = Scene::new(payload());
    shell.write("p", "precious");
    let flags = ["1", "-o", "p", "--peer", &address, "--json"];
    assert!(run(&shell, &payload, &flags).expect(6).error("disk").contains("--overwrite"));
    assert_eq!(fs::read(shell.join("p")).unwrap(), b"precious");
    run(&shell, &payload, &[&flags[..], &["--overwrite"]].concat()).expect(0);
    assert!(fs::read(shell.join("p")).unwrap() == piece(&payload, 1));
    // A file that already is the piece stays.
    let requests = peer.seen().requests.len();
    run(&shell, &payload, &flags).expect(0);
    assert_eq!(peer.seen().requests.len(), requests);
    run(&shell, &payload, &["1", "-o", "p/below", "--peer", &address, "--json"]).expect(6);
}

#[test]
fn useless_peers_leave_no_file() {
    let corrupt = |peer: Script| peer.behaviour(Behaviour::Corrupt { every: 1 });
    let Scene { payload, peer: _peer, address: corrupt, shell } = Scene::with(payload(), corrupt);
    let dead = dead_peer();
    let flags = ["0", "-o", "p", "--stall-timeout", "2", "--json", "--peer"];
    let output = run(&shell, &payload, &[&flags[..], &[&dead]].concat()).expect(4);
    assert!(output.error("network").contains(&dead));
    run(&shell, &payload, &[&flags[..], &[&corrupt]].concat()).expect(5).error("bad_data");
    assert_eq!(fs::read_dir(shell.path()).unwrap().count(), 0, "nothing is left behind");
}
