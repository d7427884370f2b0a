//! `verify`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;
use testkit::{Payload, PayloadBuilder};

use crate::support::{Output, Scene, Shell, dir, words};

fn set() -> PayloadBuilder {
    Payload::folder("set", &[("a", 70_000), ("b", 10), ("c", 40_000)])
}

fn payload() -> Payload {
    set().create().unwrap()
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
    assert!(message.contains(dir(&payload)), "{message}");

    let single = Payload::file("one.bin", 100).create().unwrap();
    let file = single.folder_path().join("one.bin");
    verify(&single, &file, true).expect(2).error("usage");
}

#[test]
fn missing_folder_is_disk_error() {
    verify(&payload(), Path::new("missing"), true).expect(6).error("disk");
}

/// The torrent, downloaded to the folder `out`.
fn downloaded(flags: &[&str]) -> Scene {
    let scene = Scene::new(set());
    scene.download(flags).expect(0);
    scene
}

/// Downloads the torrent again. Returns the pieces that were requested.
#[track_caller]
fn fetched(scene: &Scene, flags: &[&str]) -> BTreeSet<u32> {
    let before = scene.peer.seen().requests.len();
    scene.download(flags).expect(0);
    scene.compare();
    scene.peer.seen().requests[before..].iter().map(|(piece, ..)| *piece).collect()
}

fn verify_out(scene: &Scene, flags: &[&str]) -> Output {
    scene.shell.run(words("verify", &scene.payload, &[&["out"], flags].concat()))
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
    let scene = downloaded(&[]);
    flip(&scene.shell.join("out/set/c"), 39_999);
    let output = scene.download(&[]).expect(0);
    assert_eq!(output.stdout(), "set: already complete: out/set\n", "the change is not noticed");

    let output = verify_out(&scene, &[]).expect(5);
    let advice = "1 of 4 pieces is bad or missing; bt-cli download fetches it again";
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    assert_eq!(fetched(&scene, &[]), [3].into());
    verify_out(&scene, &[]).expect(0);
}

#[test]
fn state_folder_is_named() {
    let flags = ["--state-dir", "records"];
    let scene = downloaded(&flags);
    flip(&scene.shell.join("out/set/c"), 39_999);
    verify_out(&scene, &flags).expect(5);
    assert_eq!(fetched(&scene, &flags), [3].into());
}

#[test]
fn no_resume_is_named_while_seeded() {
    let scene = downloaded(&[]);
    let seed = ["out", "--json", "--port", "0"];
    let mut seeding = scene.shell.start(words("seed", &scene.payload, &seed));
    seeding.wait_for_event("started");
    flip(&scene.shell.join("out/set/c"), 39_999);
    let output = verify_out(&scene, &[]).expect(5);
    let advice = "bt-cli download --no-resume fetches it again";
    assert!(output.stderr.contains(advice), "{}", output.stderr);
    assert!(output.stderr.contains("in use"), "{}", output.stderr);
    seeding.signal("INT");
    seeding.finish().expect(130);
    assert_eq!(fetched(&scene, &["--no-resume"]), [3].into());
}

#[test]
fn unreadable_record_does_not_stop_verify() {
    let scene = downloaded(&[]);
    scene.shell.write("records", "a file, not a folder");
    let flags = ["--state-dir", "records"];
    verify_out(&scene, &flags).expect(0);
    flip(&scene.shell.join("out/set/c"), 39_999);
    let output = verify_out(&scene, &flags).expect(5);
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
    let scene = Scene::new(Payload::folder("set", &[("bell\u{7}", 70_000), ("plain", 10)]));
    scene.download(&[]).expect(0);
    let object = verify_out(&scene, &["--json"]).expect(0).object();
    assert_eq!(
        object["files"],
        json!([
            { "path": "bell\u{7}", "disk_path": "bell_", "ok": true },
            { "path": "plain", "ok": true },
        ])
    );
    assert!(scene.shell.join("out/set/bell_").exists());
    // Made by another program, under the name itself.
    let object = verify(&scene.payload, scene.payload.folder_path(), true).expect(0).object();
    assert_eq!(object["files"][0], json!({ "path": "bell\u{7}", "ok": true }));
}

#[test]
fn too_long_file_is_bad() {
    let scene = downloaded(&[]);
    let file = scene.shell.join("out/set/c");
    let long = [fs::read(&file).unwrap(), b"the tail".to_vec()].concat();
    fs::write(&file, &long).unwrap();
    let output = verify_out(&scene, &[]).expect(5);
    assert!(output.stdout().contains("c: expected 40000 bytes, got 40008"), "{}", output.stdout());
    scene.download(&["--json"]).expect(6);
    assert!(fs::read(&file).unwrap() == long);
    assert_eq!(fetched(&scene, &["--overwrite"]), [].into(), "its pieces are good");
    verify_out(&scene, &[]).expect(0);
}
