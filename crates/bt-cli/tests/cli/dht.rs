//! `dht`, and the other commands that ask the DHT.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use testkit::{Answer, HttpTracker, Payload};

use crate::support::{Network, Output, Shell, dead_tracker, mute_udp, parse};

/// Runs a command that joins the network.
fn run(shell: &Shell, network: &Network, words: &[&str]) -> Output {
    let flags = network.flags();
    shell.run(words.iter().copied().chain(flags.iter().map(String::as_str)))
}

fn object(shell: &Shell, network: &Network, words: &[&str]) -> Value {
    run(shell, network, &[words, &["--json"]].concat()).expect(0).object()
}

#[test]
fn announced_seed_is_found() {
    let (shell, network) = (Shell::new(), Network::start(3));
    let payload = Payload::file("a", 100_000).create().unwrap();
    network.announce(&payload, |hash| {
        let found = object(&shell, &network, &["dht", "peers", hash]);
        assert_eq!(found["info_hash"], hash);
        assert_eq!(found["peers"].as_array().unwrap().len(), 1, "{found}");
        assert!(found["nodes_asked"].as_u64() >= Some(1) && found["seconds"].is_f64());
        let peer = found["peers"][0].as_str().unwrap();
        let text = run(&shell, &network, &["dht", "peers", hash]).expect(0).stdout();
        assert!(text.starts_with("DHT  peers 1, nodes asked "), "{text}");
        assert!(text.ends_with(&format!("\n\n{peer}\n")), "{text}");
        let counts = object(&shell, &network, &["dht", "scrape", hash]);
        assert_eq!((&counts["seeders"], &counts["leechers"]), (&json!(1), &json!(0)));
        let text = run(&shell, &network, &["dht", "scrape", hash]).expect(0).stdout();
        assert!(text.starts_with("DHT  seeders 1, leechers 0, nodes asked "), "{text}");

        // Links name nodes, too.
        let link = format!("magnet:?xt=urn:btih:{hash}&dht={}", network.address());
        let found = shell.run(["dht", "peers", &link, "--json"]).expect(0).object();
        assert_eq!(found["peers"][0], peer);
        let found = shell.run(["peers", &link, "--json"]).expect(0).object();
        assert_eq!((&found["peers"], &found["trackers"]), (&json!([peer]), &json!([])));
        let counts = object(&shell, &network, &["scrape", hash]);
        assert_eq!((&counts["dht"]["seeders"], &counts["trackers"]), (&json!(1), &json!([])));
    });
    let other = "ab".repeat(20);
    let output = run(&shell, &network, &["dht", "peers", &other, "--json"]).expect(4);
    assert_eq!(output.objects()[0]["peers"], json!([]));
    assert!(output.error("network").starts_with("no peer is known to the DHT: "));
    let error = run(&shell, &network, &["peers", &other]).expect(4).stderr;
    assert_eq!(error, "error: no node of the DHT knows a peer; try again later\n");
    let counts = object(&shell, &network, &["dht", "scrape", &other]);
    assert_eq!((&counts["seeders"], &counts["leechers"]), (&json!(0), &json!(0)));
}

#[test]
fn trackers_and_dht_are_asked() {
    let (shell, network, tracker) = (Shell::new(), Network::start(2), HttpTracker::start());
    tracker.answer(Answer::Peers(vec!["10.0.0.1:1".parse().unwrap()]));
    let payload = Payload::file("a", 100_000).create().unwrap();
    let dead = dead_tracker();
    network.announce(&payload, |hash| {
        let link = format!("magnet:?xt=urn:btih:{hash}&tr={}", tracker.url());
        let found = object(&shell, &network, &["peers", &link]);
        let of_dht = found["dht"]["peers"][0].as_str().unwrap();
        assert_eq!(found["peers"], json!(["10.0.0.1:1", of_dht]));
        let text = run(&shell, &network, &["peers", &link]).expect(0).stdout();
        assert!(text.contains("peers 1, again in ") && text.contains("\nDHT  peers 1, "), "{text}");
        assert!(text.ends_with(&format!("\n\n10.0.0.1:1\n{of_dht}\n")), "{text}");
        let found = object(&shell, &network, &["peers", &link, "--no-dht"]);
        assert_eq!((&found["peers"], &found["dht"]), (&json!(["10.0.0.1:1"]), &Value::Null));
        // An answer of the DHT is enough.
        let link = format!("magnet:?xt=urn:btih:{hash}&tr={dead}");
        let counts = object(&shell, &network, &["scrape", &link]);
        assert!(counts["trackers"][0]["error"].is_string() && counts["dht"]["seeders"] == 1);
        object(&shell, &network, &["peers", &link]);
        run(&shell, &network, &["scrape", &link, "--no-dht"]).expect(4);
    });
}

#[test]
fn link_is_downloaded_by_dht_alone() {
    let (shell, network) = (Shell::new(), Network::start(2));
    let payload = Payload::file("a", 100_000).create().unwrap();
    network.announce(&payload, |hash| {
        let flags = ["-o", "out", "--port", "0", "--no-lsd", "--json"];
        let output = run(&shell, &network, &[&["download", hash], &flags[..]].concat()).expect(0);
        let events = output.objects();
        let peers = events.iter().filter(|event| event["event"] == "peer");
        let sources: Vec<&Value> = peers.map(|event| &event["source"]).collect();
        assert!(!sources.is_empty() && sources.iter().all(|it| **it == "dht"), "{sources:?}");
        payload.compare(shell.join("out")).unwrap();
    });
}

#[test]
fn private_torrent_is_not_looked_for() {
    let (shell, network, tracker) = (Shell::new(), Network::start(1), HttpTracker::start());
    shell.write("data", "bytes");
    let url = tracker.url();
    for (name, flags) in [("one.torrent", vec!["-t", &url]), ("none.torrent", vec![])] {
        let command = ["create", "data", "--private", "-o", name];
        shell.run(command.into_iter().chain(flags)).expect(0);
    }
    let counts = object(&shell, &network, &["scrape", "one.torrent"]);
    assert_eq!(counts["dht"], Value::Null);
    for command in ["peers", "scrape"] {
        let output = run(&shell, &network, &[command, "none.torrent", "--json"]).expect(4);
        let error = output.error("network");
        assert!(error.starts_with("the torrent names no tracker, and only a tracker"), "{error}");
    }
}

#[test]
fn missing_nodes_are_reported() {
    let (shell, hash) = (Shell::new(), "ab".repeat(20));
    let advice = "name a node with --dht-node HOST:PORT";
    for command in [&["dht", "peers"][..], &["dht", "scrape"], &["dht", "get"], &["dht", "put"]] {
        let command = command.iter().copied().chain([hash.as_str(), "--json"]);
        let error = shell.run(command).expect(4).error("network");
        assert_eq!(error, format!("no node of the DHT is known: {advice}"));
    }
    for command in ["peers", "scrape"] {
        let error = shell.run([command, &hash, "--json"]).expect(4).error("network");
        let nobody = "the torrent names no tracker, and no node of the DHT is known";
        assert_eq!(error, format!("{nobody}: {advice}"));
        let error = shell.run([command, &hash, "--no-dht", "--json"]).expect(4).error("network");
        assert_eq!(error, "the torrent names no tracker");
    }
    let mute = mute_udp();
    let address = mute.local_addr().unwrap().to_string();
    let tail = ["--timeout", "1", "--dht-node", &address, "--dht-node", "x..y:1", "--json"];
    for command in [&["dht", "peers"][..], &["dht", "put"], &["peers"], &["scrape"]] {
        let command = command.iter().copied().chain([hash.as_str()]).chain(tail);
        let error = shell.run(command).expect(4).error("network");
        assert!(error.starts_with("no node of the DHT answered: check that UDP"), "{error}");
        assert!(error.contains(&format!("\n  {address}: no answer")), "{error}");
        assert!(error.contains("\n  x..y:1: cannot be looked up: "), "{error}");
    }
    let tracker = dead_tracker();
    let link = format!("magnet:?xt=urn:btih:{hash}&tr={tracker}");
    let error = shell.run(["peers", &link].into_iter().chain(tail)).expect(4).error("network");
    assert!(error.starts_with("no tracker gave a peer:\n  http"), "{error}");
    assert!(error.contains("\n  DHT: no node of the DHT answered"), "{error}");
}

#[test]
fn node_is_pinged() {
    let (shell, network) = (Shell::new(), Network::start(1));
    let address = network.address();
    let pong = shell.run(["dht", "ping", &address, "--json"]).expect(0).object();
    let node = &network.first_events()[0];
    assert_eq!((&pong["address"], &pong["id"]), (&json!(address), &node["ids"][0]));
    let text = shell.run(["dht", "ping", &address]).expect(0).stdout();
    assert!(text.contains(&format!("address  {address}\nid       ")), "{text}");
    let mute = mute_udp().local_addr().unwrap().to_string();
    let output = shell.run(["dht", "ping", &mute, "--timeout", "1", "--json"]).expect(4);
    assert!(output.error("network").starts_with(&format!("no answer from {mute}")));
}

#[test]
fn items_are_put_and_got() {
    let (shell, network) = (Shell::new(), Network::start(3));
    let command = |words: &[&str]| object(&shell, &network, &[&["dht"], words].concat());
    // BEP 44, "Test vectors": the target of an immutable item.
    let put = command(&["put", "Hello World!"]);
    assert_eq!(put["target"], "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    assert!(put["stored"].as_u64() >= Some(1) && put["seq"].is_null() && put["key"].is_null());
    let target = put["target"].as_str().unwrap();
    let got = command(&["get", target]);
    assert_eq!((&got["value"], &got["target"]), (&json!("Hello World!"), &json!(target)));
    let text = run(&shell, &network, &["dht", "get", target]).expect(0).stdout();
    assert_eq!(text, "Hello World!\n");

    shell.write("data", b"\xff\0");
    for (words, value) in [
        (&["put", "--file", "data"][..], json!({ "hex": "ff00" })),
        (&["put", "d1:ai1e1:bl1:xee", "--bencode"], json!({ "a": 1, "b": ["x"] })),
    ] {
        let target = command(words)["target"].as_str().unwrap().to_owned();
        assert_eq!(command(&["get", &target])["value"], value);
    }
    let error = run(&shell, &network, &["dht", "get", &"12".repeat(20), "--json"]).expect(4);
    assert!(
        error.error("network").starts_with(&format!("no node has the item {}", "12".repeat(20)))
    );
    shell.write("long", "x".repeat(997));
    let error = run(&shell, &network, &["dht", "put", "--file", "long", "--json"]).expect(2);
    assert_eq!(error.error("usage"), "the value has 1001 bytes, more than 1000");
}

#[test]
fn owner_replaces_mutable_item() {
    let (shell, network) = (Shell::new(), Network::start(3));
    let signed = |words: &[&str]| {
        let key = ["--key", "my.key", "--salt", "news", "--json"];
        run(&shell, &network, &[&["dht", "put"], words, &key].concat())
    };
    let first = signed(&["one"]).expect(0);
    assert!(first.stderr.contains("made a new key: my.key"), "{}", first.stderr);
    let first = first.object();
    assert_eq!((&first["seq"], &first["salt"]), (&json!(1), &json!("news")));
    let key = first["key"].as_str().unwrap();
    let get = |target: &str| object(&shell, &network, &["dht", "get", target, "--salt", "news"]);
    let got = get(key);
    assert_eq!((&got["value"], &got["seq"], &got["key"]), (&json!("one"), &json!(1), &json!(key)));
    // The same value is the same version. Another one is the next.
    assert_eq!(signed(&["one"]).expect(0).object()["seq"], 1);
    assert_eq!(signed(&["two"]).expect(0).object()["seq"], 2);
    assert_eq!(signed(&["nine", "--seq", "9", "--cas", "2"]).expect(0).object()["seq"], 9);
    let got = get(first["target"].as_str().unwrap());
    assert_eq!(
        (&got["value"], &got["seq"], &got["salt"]),
        (&json!("nine"), &json!(9), &json!("news"))
    );
    for flags in [&["--seq", "8"][..], &["--seq", "10", "--cas", "2"]] {
        let error = signed(&[&["ten"], flags].concat()).expect(4).error("network");
        assert!(
            error.starts_with("no node stored the item: ") && error.contains("--seq"),
            "{error}"
        );
    }
    // Without the salt it is another item.
    let output = run(&shell, &network, &["dht", "get", key, "--json"]).expect(4);
    output.error("network");
    let long = ["dht", "put", "x", "--key", "my.key", "--salt", &"s".repeat(65), "--json"];
    let error = run(&shell, &network, &long).expect(2).error("usage");
    assert_eq!(error, "the salt has 65 bytes, more than 64");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_kept_private() {
    let (shell, network) = (Shell::new(), Network::start(1));
    let put = |key: &str| run(&shell, &network, &["dht", "put", "x", "--key", key, "--json"]);
    let made = put("my.key").expect(0).object();
    let path = shell.join("my.key");
    assert_eq!(mode(&path), 0o600);
    let digits = fs::read_to_string(&path).unwrap();
    assert!(digits.len() == 65 && digits.ends_with('\n'), "{digits}");
    // The key of RFC 8032, section 7.1, test 1.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    shell.write("rfc.key", seed);
    let output = put("rfc.key").expect(0);
    assert!(
        output.stderr.contains("others can use the key rfc.key: chmod 600"),
        "{}",
        output.stderr
    );
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(output.object()["key"], public);
    assert_ne!(made["key"], public);
    shell.write("no.key", "secret");
    let error = put("no.key").expect(2).error("usage");
    assert!(error.starts_with("no.key: expected a private key"), "{error}");
    put("none/my.key").expect(6).error("disk");
}

#[test]
fn node_keeps_what_it_knows() {
    let (shell, network) = (Shell::new(), Network::start(2));
    let words = ["dht", "node", "--port", "0", "--bind", "127.0.0.1", "--state-dir", "s", "--json"];
    let knows_somebody = |line: &str| parse(line)["nodes_v4"].as_u64() >= Some(1);
    let flags = network.flags();
    let mut node = shell.start(words.into_iter().chain(flags.iter().map(String::as_str)));
    let first = node.wait_for_event("node");
    assert_eq!((&first["schema"], &first["external_address"]), (&json!(1), &json!([])));
    node.wait_for(knows_somebody);
    node.signal("TERM");
    node.finish().expect(130).error("interrupted");
    // Nobody is named, but the node knows somebody, and the others know its id.
    let mut again = shell.start(words);
    assert_eq!(again.wait_for_event("node")["ids"], first["ids"]);
    again.wait_for(knows_somebody);
}

#[test]
fn taken_port_is_reported() {
    let (shell, taken) = (Shell::new(), mute_udp());
    let port = taken.local_addr().unwrap().port().to_string();
    let node = ["dht", "node", "--bind", "127.0.0.1", "--json", "--port", &port];
    let error = shell.run(node).expect(4).error("network");
    assert!(error.starts_with(&format!("cannot open UDP port {port} of 127.0.0.1: ")), "{error}");
    assert!(error.ends_with("; choose another one with --port"), "{error}");
    let ping = ["dht", "ping", "127.0.0.1:1", "--bind", "198.51.100.77", "--json"];
    let error = shell.run(ping).expect(4).error("network");
    assert!(error.ends_with("; give an address of this machine with --bind"), "{error}");
}

#[test]
fn node_shows_lines_to_people() {
    let shell = Shell::new();
    let mut node = shell.start(["dht", "node", "--port", "0", "--bind", "127.0.0.1"]);
    let line = node.wait_for_error(|line| line.contains("listening on 127.0.0.1:"));
    assert!(line.starts_with("listening on "), "{line}");
    node.wait_for_error(|line| line.starts_with("0 nodes (0 IPv4, 0 IPv6), 0 peers of 0 torrents"));
    let mut second = shell.start(["dht", "node", "--port", "0", "--bind", "127.0.0.1", "--json"]);
    second.wait_for_event("node");
    second.signal("INT");
    let output = second.finish().expect(130);
    assert!(output.stderr.contains("another process keeps its nodes"), "{}", output.stderr);
    node.signal("INT");
    node.finish().expect(130);
}
