//! `JSON.md` describes what the program prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::{Answer, Behaviour, HttpTracker, Payload, Script};

use crate::support::{Network, Shell, dead_tracker, dir, mute_udp, words};

/// The fields of a section of the page, with their types.
type Fields = BTreeMap<String, String>;
/// The sections of the page, by name.
type Sections = BTreeMap<String, Fields>;

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the tables of the page, by the name in code in the heading above.
fn page() -> Sections {
    let page = fs::read_to_string(source_folder().join("../JSON.md")).unwrap();
    let (mut sections, mut section) = (Sections::new(), String::new());
    for line in page.lines() {
        if line.starts_with('#') {
            section = line.split('`').nth(1).unwrap_or_default().to_owned();
            sections.entry(section.clone()).or_default();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", field, kind, ..] = cells[..]
            && let Some(field) = field.strip_prefix('`').and_then(|field| field.strip_suffix('`'))
        {
            let fields = sections.entry(section.clone()).or_default();
            assert!(fields.insert(field.to_owned(), kind.to_owned()).is_none(), "{field} twice");
        }
    }
    sections
}

/// Whether a type of the page covers `value`. Types of items end with an `s`.
fn is_covered(kind: &str, value: &Value) -> bool {
    kind.split(" or ").any(|kind| match kind {
        "string" | "strings" => value.is_string(),
        "integer" | "integers" => value.is_u64(),
        "number" => value.is_f64(),
        "boolean" => value.is_boolean(),
        "object" | "objects" => value.is_object(),
        "any" => true,
        "null" => value.is_null(),
        _ => {
            let start = ["array of ", "arrays of "].iter().find_map(|of| kind.strip_prefix(of));
            let items = start.unwrap_or_else(|| panic!("unknown type {kind}"));
            value.as_array().is_some_and(|array| array.iter().all(|item| is_covered(items, item)))
        }
    })
}

/// Returns the names in code in the description of a field.
fn values_of(section: &str, field: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(source_folder().join("../JSON.md")).unwrap();
    let (_, rest) = page.split_once(&format!("### `{section}`")).unwrap();
    let row = rest.lines().find_map(|line| line.strip_prefix(&format!("| `{field}` | ")));
    row.unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Compares an object with a section of the page. `prefix` is the name of the array it is in.
/// Returns the fields of the object.
#[track_caller]
fn fields_in(object: &Value, fields: &Fields, prefix: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (name, value) in object.as_object().expect("an object") {
        let name = format!("{prefix}{name}");
        let kind = fields.get(&name).unwrap_or_else(|| panic!("{name} is not on the page"));
        assert!(is_covered(kind, value), "{name}: {value} is not {kind}");
        let items = value.as_array().into_iter().flatten().filter(|item| item.is_object());
        items.for_each(|item| seen.extend(fields_in(item, fields, &format!("{name}[]."))));
        if kind.starts_with("object") {
            let object = Some(value).filter(|value| value.is_object());
            object
                .into_iter()
                .for_each(|it| seen.extend(fields_in(it, fields, &format!("{name}."))));
        }
        seen.insert(name);
    }
    seen
}

/// Compares objects with a section of the page, each field of which must be in one of them.
#[track_caller]
fn compare_with(fields: &Fields, objects: &[Value]) {
    let seen: BTreeSet<String> =
        objects.iter().flat_map(|object| fields_in(object, fields, "")).collect();
    assert_eq!(seen, fields.keys().cloned().collect());
}

/// Compares the objects of a command with its section of the page.
#[track_caller]
fn compare(section: &str, objects: &[Value]) {
    compare_with(page().get(section).expect(section), objects);
}

/// A torrent whose first tracker does not listen, and its second tracker.
fn tracked(length: u64) -> (Payload, HttpTracker) {
    let tracker = HttpTracker::start();
    let payload = Payload::file("a", length).tier([dead_tracker()]).tier([tracker.url()]);
    (payload.create().unwrap(), tracker)
}

#[test]
fn page_describes_download_events() {
    let (payload, tracker) = tracked(900_000);
    let honest = Script::seeder(&payload).listen();
    let corrupt = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 1 }).listen();
    tracker.answer(Answer::Peers(vec![honest.address(), corrupt.address()]));
    let rest = ["--json", "--port", "0", "-o", "out", "--max-down", "300K"];
    let output = Shell::new().run(words("download", &payload, &rest)).expect(0);
    let events =
        ["started", "progress", "piece", "peer", "tracker", "warning", "completed", "stopped"];
    compare_events(output.objects(), &events);
}

#[test]
fn page_describes_seed_events() {
    let (payload, tracker) = tracked(100_000);
    let leecher = Script::leecher(&payload).listen();
    tracker.answer(Answer::Peers(vec![leecher.address()]));
    let rest = [dir(&payload), "--json", "--port", "0", "--bind", "127.0.0.1", "--seed-time", "3s"];
    let output = Shell::new().run(words("seed", &payload, &rest)).expect(0);
    compare_events(output.objects(), &["started", "progress", "peer", "tracker", "stopped"]);
}

/// Compares events of each name with their sections. They must have these names.
#[track_caller]
fn compare_events(mut objects: Vec<Value>, names: &[&str]) {
    let schema = objects[0].as_object_mut().unwrap().remove("schema");
    assert_eq!(schema, Some(1.into()));
    let mut by_event: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in objects {
        by_event.entry(object["event"].as_str().unwrap().to_owned()).or_default().push(object);
    }
    let page = page();
    for (event, objects) in &by_event {
        let mut fields = page.get(event).unwrap_or_else(|| panic!("{event}")).clone();
        fields.extend(page["download"].clone());
        compare_with(&fields, objects);
    }
    let names: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(by_event.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
}

/// The description of a field lists every value that the code can give it.
#[test]
fn page_lists_phases_and_states() {
    let source = without_blanks(&source_folder().join("transfer/events.rs"));
    for (function, section, field) in [
        ("phase_name", "progress", "phase"),
        ("state_name", "peer", "state"),
        ("source_name", "peer", "source"),
    ] {
        let names = literals_after(body_of(&source, function), "=>\"");
        assert_eq!(names, values_of(section, field), "{field}");
    }
}

#[test]
fn page_lists_all_event_names() {
    let source = without_blanks(&source_folder().join("transfer/events.rs"));
    let names = literals_after(&source, "line(torrent,\"");
    let page = fs::read_to_string(source_folder().join("../JSON.md")).unwrap();
    let (_, events) = page.split_once("## Events").unwrap();
    let (events, _) = events.split_once("## Objects").unwrap();
    let headings = events.lines().filter_map(|line| line.strip_prefix("### `"));
    let headings: BTreeSet<String> =
        headings.map(|heading| heading.trim_end_matches('`').to_owned()).collect();
    assert_eq!(names, headings);
}

#[test]
fn page_lists_all_error_fields() {
    let mut names = BTreeSet::from(["class", "message"].map(str::to_owned));
    let mut folders = vec![source_folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            names.extend(literals_after(&without_blanks(&entry.path()), ".with(\""));
        }
    }
    let page: BTreeSet<String> = page()["error"].keys().cloned().collect();
    assert_eq!(names, page);
}

/// Returns a source file without spaces and ends of lines, so that its formatting does not matter.
fn without_blanks(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    source.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Returns the body of a function in a source [`without_blanks`], up to the brace that closes it.
fn body_of<'a>(source: &'a str, function: &str) -> &'a str {
    let (_, rest) = source.split_once(&format!("fn{function}(")).unwrap();
    let mut depth = 0_i32;
    let end = rest.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == '}' && depth == 0
    });
    &rest[..end.unwrap()]
}

/// Returns the string literals that follow `start`, which ends with their first quotation mark, in
/// a source [`without_blanks`].
fn literals_after(source: &str, start: &str) -> BTreeSet<String> {
    let after = source.split(start).skip(1);
    after.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn page_describes_errors() {
    let (shell, page) = (Shell::new(), page());
    shell.write("page.torrent", "<html>");
    for arguments in [&["info", "page.torrent"][..], &["info"], &["decode", "d3:cow"]] {
        let output = shell.run(arguments.iter().chain(&["--json"]));
        let last = output.objects().pop().unwrap();
        fields_in(&last["error"], &page["error"], "");
    }
}

#[test]
fn page_describes_info_and_verify() {
    let shell = Shell::new();
    let files = "d6:lengthi1e4:pathl1:aee\
        d4:attr1:p6:lengthi2e4:pathl4:.pad1:2ee\
        d6:lengthi1e4:pathl2:b\u{7}ee";
    let torrent = format!(
        "d4:infod5:filesl{files}e4:name2:n\u{7}12:piece lengthi16384e6:pieces20:{}ee",
        "x".repeat(20)
    );
    shell.write("odd.torrent", torrent);
    let info = shell.run(["info", "odd.torrent", "--json"]).expect(0).object();
    compare("info", &[info]);
    shell.write("n_/a", "a");
    shell.write("n_/b_", "b");
    let verify = shell.run(["verify", "odd.torrent", ".", "--json"]).expect(5);
    compare("verify", &verify.objects()[..1]);
}

#[test]
fn page_describes_network_commands() {
    let (shell, (payload, tracker)) = (Shell::new(), tracked(50_000));
    let seeder = Script::seeder(&payload).listen();
    let address = seeder.address().to_string();
    let object = |command: &str, rest: &[&str]| {
        let rest = [rest, &["--json"]].concat();
        shell.run(words(command, &payload, &rest)).expect(0).object()
    };
    let (network, mute) = (Network::start(2), mute_udp());
    let mute = ["--dht-node".to_owned(), mute.local_addr().unwrap().to_string()];
    let join = [network.flags(), mute];
    let join = join.each_ref().map(|flags| flags.each_ref().map(String::as_str));
    compare("scrape", &join.map(|flags| object("scrape", &flags)));
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let [fields, tracker_fields] = ["peers", "tracker"].map(|section| page()[section].clone());
    let mut seen = BTreeSet::new();
    for mut peers in join.map(|flags| object("peers", &flags)) {
        for tracker in peers["trackers"].as_array_mut().unwrap() {
            fields_in(&tracker.take(), &tracker_fields, "");
        }
        peers["trackers"] = Value::Array(Vec::new());
        seen.extend(fields_in(&peers, &fields, ""));
    }
    assert_eq!(seen, fields.into_keys().collect());
    compare("handshake", &[object("handshake", &[&address])]);
    let rest = ["0", "-o", "piece", "--peer", &address, "--port", "0"];
    compare("download_piece", &[object("download_piece", &rest)]);
}

#[test]
fn page_describes_dht_commands() {
    let (shell, network) = (Shell::new(), Network::start(3));
    let object = |words: &[&str]| {
        let flags = network.flags();
        let flags = flags.iter().map(String::as_str).chain(["--json"]);
        shell.run(["dht"].into_iter().chain(words.iter().copied()).chain(flags)).expect(0).object()
    };
    network.announce(&Payload::file("a", 50_000).create().unwrap(), |hash| {
        compare("dht peers", &[object(&["peers", hash])]);
        compare("dht scrape", &[object(&["scrape", hash])]);
    });
    let put = ["hello", "more"].map(|text| {
        let signed = ["put", text, "--key", "my.key", "--salt", "news"];
        [object(&["put", text]), object(&signed)]
    });
    let put = put.concat();
    compare("dht put", &put);
    let get = put.iter().map(|put| {
        let key = put["key"].as_str().or(put["target"].as_str()).unwrap();
        object(&["get", key, "--salt", "news"])
    });
    compare("dht get", &get.collect::<Vec<_>>());
    let ping = ["dht", "ping", &network.address(), "--json"];
    compare("dht ping", &[shell.run(ping).expect(0).object()]);
    compare("dht node", &network.first_events());
}

#[test]
fn page_describes_local_commands() {
    let shell = Shell::new();
    shell.write("data", "bytes");
    for arguments in [&["create", "data"][..], &["completions", "bash"], &["man", "."]] {
        let output = shell.run(arguments.iter().chain(&["--json"])).expect(0);
        compare(arguments[0], &[output.object()]);
    }
}
