//! `handshake`.

use std::time::Duration;

use testkit::{Behaviour, Payload, Script};

use crate::support::{Output, Shell, dead_peer, words};

fn run(payload: &Payload, address: &str, flags: &[&str]) -> Output {
    Shell::new().run(words("handshake", payload, &[&[address], flags].concat()))
}

fn payload() -> Payload {
    Payload::file("a", 100_000).create().unwrap()
}

#[test]
fn peer_is_described() {
    let payload = payload();
    let peer = Script::seeder(&payload).fast().client("Scripted 1.0").listen();
    let address = peer.address().to_string();
    let object = run(&payload, &address, &["--json"]).expect(0).object();
    assert_eq!(object["address"], address);
    assert_eq!(object["info_hash"], payload.info_hash().to_string());
    assert!(object["peer_id"].as_str().unwrap().starts_with("2d544b303130302d"));
    assert_eq!(object["reserved"].as_str().unwrap().len(), 16);
    assert!(object["extensions"].is_array());
    assert!(object["client"].as_str().unwrap().contains("Scripted 1.0"), "{object}");
    let text = run(&payload, &address, &[]).expect(0).stdout();
    assert!(text.contains("Scripted 1.0") && text.contains("peer id"), "{text}");
}

#[test]
fn no_reserved_bits_no_extensions() {
    let payload = payload();
    let peer = Script::seeder(&payload).listen();
    let object = run(&payload, &peer.address().to_string(), &["--json"]).expect(0).object();
    assert_eq!(object["reserved"], "0000000000000000");
    assert_eq!(object["extensions"], serde_json::json!([]));
}

#[test]
fn peers_without_handshake_fail() {
    let payload = payload();
    for behaviour in [Behaviour::WrongInfoHash, Behaviour::Garbage, Behaviour::Silent] {
        let peer = Script::seeder(&payload).behaviour(behaviour).listen();
        let address = peer.address().to_string();
        let output = run(&payload, &address, &["--json", "--timeout", "2"]).expect(4);
        assert!(output.error("network").contains(&address), "{behaviour:?}");
        assert!(peer.wait_for(Duration::from_secs(5), |seen| seen.connections == 1));
    }
    let dead = dead_peer();
    run(&payload, &dead, &["--json"]).expect(4).error("network");
}

#[test]
fn malformed_addresses_are_refused() {
    let payload = payload();
    for address in [
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "300.1.1.1:80",
        "::1:6881",
        "a b:1",
        "http://a:1",
    ] {
        let message = run(&payload, address, &["--json"]).expect(2).error("usage");
        assert!(message.contains("HOST:PORT"), "{address}: {message}");
    }
}
