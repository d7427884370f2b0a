//! `verify`.

use std::fs;
use std::path::Path;

use serde_json::json;
use testkit::{Payload, Script};

use crate::support::{Output, Shell, words};

fn payload() -> Payload {
    Payload::folder("set", &[("a", 70_000), ("b", 10), ("c", 40_000)]).create().unwrap()
}

fn verify(payload: &Payload, dir: &Path, json: bool) -> Output {
    let flags: &[&str] = if json { &["--json"] } else { &[] };
    let rest = [&[dir.to_str().unwrap()], flags].concat();
    Shell::new().run(words("verify", payload, &rest))
}

#[test]
fn good_data_is_ok() {
    let payload = payload();
    let object = verify(&payload, payload.folder_path(), true).expect(0).object();
    assert_eq!(
        object,
        json!({
            "info_hash": payload.info_hash().to_string(),
            "ok": true,
            "pieces_ok": 4,
            "pieces_total": 4,
            "bad": [],
            "files": [
                { "path": "a", "ok": true },
                { "path": "b", "ok": true },
                { "path": "c", "ok": true },
            ],
        })
    );
    let text = verify(&payload, payload.folder_path(), false).expect(0).stdout();
    assert_eq!(text, "set: 4 of 4 pieces are good\n");
}

#[test]
fn bad_and_missing_data_is_named() {
    let payload = payload();
    let file = payload.folder_path().join("set/c");
    let mut bytes = fs::read(&file).unwrap();
    bytes[39_999] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let output = verify(&payload, payload.folder_path(), true).expect(5);
    let objects = output.objects();
    assert_eq!((objects.len(), &objects[0]["bad"]), (2, &json!([3])));
    assert_eq!((&objects[0]["ok"], &objects[0]["pieces_ok"]), (&json!(false), &json!(3)));
    assert_eq!(objects[0]["files"][0], json!({ "path": "a", "ok": true }));
    assert_eq!(objects[0]["files"][2], json!({ "path": "c", "ok": false }));
    output.error("bad_data");

    fs::remove_file(payload.folder_path().join("set/a")).unwrap();
    let output = verify(&payload, payload.folder_path(), false).expect(5);
    assert!(output.stdout().contains("bad pieces: 0 1 2 3"), "{}", output.stdout());
    // A file whose only piece is shared with a missing file can't be checked.
    for line in ["  a: missing", "  b: not certain", "  c: bad data"] {
        assert!(output.stdout().contains(line), "{line} in {}", output.stdout());
    }
    assert!(output.stderr.contains("4 of 4"), "{}", output.stderr);
    assert!(!payload.folder_path().join("set/a").exists(), "verify writes nothing");
}

#[test]
fn empty_folder_is_bad_data() {
    let (payload, shell) = (payload(), Shell::new());
    let output = verify(&payload, shell.path(), true).expect(5);
    assert_eq!(output.objects()[0]["pieces_ok"], 0);
    assert_eq!(fs::read_dir(shell.path()).unwrap().count(), 0);
}

#[test]
fn content_as_folder_is_refused() {
    let payload = payload();
    let message =
        verify(&payload, &payload.folder_path().join("set"), true).expect(2).error("usage");
    assert!(message.contains("the folder that contains"), "{message}");
    assert!(message.contains(payload.folder_path().to_str().unwrap()), "{message}");

    let single = Payload::file("one.bin", 100).create().unwrap();
    let file = single.folder_path().join("one.bin");
    verify(&single, &file, true).expect(2).error("usage");
}

#[test]
fn missing_folder_is_disk_error() {
    verify(&payload(), Path::new("missing"), true).expect(6).error("disk");
}

/// Downloads the payload from a seeder into the folder `out` of the shell.
fn download(shell: &Shell, payload: &Payload, flags: &[&str]) -> (Output, Vec<u32>) {
    let seeder = Script::seeder(payload).listen();
    let address = seeder.address().to_string();
    let rest = ["-o", "out", "--port", "0", "--stall-timeout", "30", "--peer", &address];
    let output = shell.run(words("download", payload, &[&rest, flags].concat()));
    let mut pieces: Vec<u32> = seeder.seen().requests.iter().map(|(piece, ..)| *piece).collect();
    pieces.sort_unstable();
    pieces.dedup();
    (output, pieces)
}

/// Changes a byte of a file and restores its modification time.
fn flip(file: &Path, offset: usize) {
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 1;
    fs::write(file, bytes).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
}

#[test]
fn download_fetches_what_verify_found_bad() {
    let (payload, shell) = (payload(), Shell::new());
    download(&shell, &payload, &[]).0.expect(0);
    flip(&shell.join("out/set/c"), 39_999);
    let (output, pieces) = download(&shell, &payload, &[]);
    assert_eq!(pieces, [0; 0], "the change is not noticed: {}", output.expect(0).stdout());

    let output = shell.run(words("verify", &payload, &["out"])).expect(5);
    let advice = "1 of 4 pieces is bad or missing; bt-cli download fetches it again";
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    let (output, pieces) = download(&shell, &payload, &[]);
    output.expect(0);
    assert_eq!(pieces, [3]);
    payload.compare(shell.join("out")).unwrap();
    shell.run(words("verify", &payload, &["out"])).expect(0);
}

#[test]
fn state_folder_is_named() {
    let (payload, shell) = (payload(), Shell::new());
    let flags = ["--state-dir", "records"];
    download(&shell, &payload, &flags).0.expect(0);
    flip(&shell.join("out/set/c"), 39_999);
    shell.run(words("verify", &payload, &["out", "--state-dir", "records"])).expect(5);
    let (output, pieces) = download(&shell, &payload, &flags);
    output.expect(0);
    assert_eq!(pieces, [3]);
    payload.compare(shell.join("out")).unwrap();
}

#[test]
fn no_resume_is_named_while_seeded() {
    let (payload, shell) = (payload(), Shell::new());
    download(&shell, &payload, &[]).0.expect(0);
    let seed = ["out", "--json", "--port", "0"];
    let mut seeding = shell.start(words("seed", &payload, &seed));
    seeding.wait_for_event("started");
    flip(&shell.join("out/set/c"), 39_999);
    let output = shell.run(words("verify", &payload, &["out"])).expect(5);
    let advice = "bt-cli download --no-resume fetches it again";
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    assert!(output.stderr.contains("in use"), "{}", output.stderr);
    seeding.signal("INT");
    seeding.finish().expect(130);
    let (output, pieces) = download(&shell, &payload, &["--no-resume"]);
    output.expect(0);
    assert_eq!(pieces, [3]);
    payload.compare(shell.join("out")).unwrap();
}

#[test]
fn unreadable_record_does_not_stop_verify() {
    let (payload, shell) = (payload(), Shell::new());
    download(&shell, &payload, &[]).0.expect(0);
    shell.write("records", "a file, not a folder");
    let flags = ["out", "--state-dir", "records"];
    shell.run(words("verify", &payload, &flags)).expect(0);
    flip(&shell.join("out/set/c"), 39_999);
    let output = shell.run(words("verify", &payload, &flags)).expect(5);
    let advice = "bt-cli download --no-resume fetches it again";
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    assert!(output.stderr.contains("records"), "{}", output.stderr);
}

/// An unrelated file beside the torrent's folder has the name of a file in it.
#[test]
fn folder_under_any_name_is_found() {
    let payload = Payload::folder("a\tb", &[("x", 70_000)]).create().unwrap();
    let folder = payload.folder_path();
    fs::write(folder.join("x"), "unrelated").unwrap();
    verify(&payload, folder, false).expect(0);
    let inside = verify(&payload, &folder.join("a\tb"), true).expect(2).error("usage");
    assert!(inside.contains("give the folder it is in"), "{inside}");
}

#[test]
fn name_on_disk_is_given() {
    let payload = Payload::folder("set", &[("bell\u{7}", 70_000), ("plain", 10)]).create().unwrap();
    let shell = Shell::new();
    download(&shell, &payload, &[]).0.expect(0);
    let object = shell.run(words("verify", &payload, &["out", "--json"])).expect(0).object();
    assert_eq!(
        object["files"],
        json!([
            { "path": "bell\u{7}", "disk_path": "bell_", "ok": true },
            { "path": "plain", "ok": true },
        ])
    );
    assert!(shell.join("out/set/bell_").exists());
    // Made by another program, under the name itself.
    let object = verify(&payload, payload.folder_path(), true).expect(0).object();
    assert_eq!(object["files"][0], json!({ "path": "bell\u{7}", "ok": true }));
}

#[test]
fn too_long_file_is_bad() {
    let (payload, shell) = (payload(), Shell::new());
    download(&shell, &payload, &[]).0.expect(0);
    let file = shell.join("out/set/c");
    let long = [fs::read(&file).unwrap(), b"the tail".to_vec()].concat();
    fs::write(&file, &long).unwrap();
    let output = shell.run(words("verify", &payload, &["out"])).expect(5);
    assert!(output.stdout().contains("c: expected 40000 bytes, got 40008"), "{}", output.stdout());
    download(&shell, &payload, &["--json"]).0.expect(6);
    assert!(fs::read(&file).unwrap() == long);
    let (output, pieces) = download(&shell, &payload, &["--overwrite"]);
    output.expect(0);
    assert_eq!(pieces, [0; 0], "its pieces are good");
    payload.compare(shell.join("out")).unwrap();
    shell.run(words("verify", &payload, &["out"])).expect(0);
}
