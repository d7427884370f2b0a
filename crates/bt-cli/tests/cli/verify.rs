//! `verify`.

use std::fs;
use std::path::Path;

use serde_json::json;
use testkit::Payload;

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
fn all_good() {
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
    // Of a file that only shares a piece with a missing one, nothing can be said.
    for line in ["  a: missing", "  b: perhaps good", "  c: bad data"] {
        assert!(output.stdout().contains(line), "{line} in {}", output.stdout());
    }
    assert!(output.stderr.contains("4 of 4"), "{}", output.stderr);
    assert!(!payload.folder_path().join("set/a").exists(), "verify writes nothing");
}

#[test]
fn an_empty_folder_has_nothing() {
    let (payload, shell) = (payload(), Shell::new());
    let output = verify(&payload, shell.path(), true).expect(5);
    assert_eq!(output.objects()[0]["pieces_ok"], 0);
    assert_eq!(fs::read_dir(shell.path()).unwrap().count(), 0);
}

#[test]
fn given_the_content_itself_it_says_so() {
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
fn a_folder_that_is_not_there() {
    verify(&payload(), Path::new("missing"), true).expect(6).error("disk");
}
