//! `peers` and `scrape`.

use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{AnnounceEvent, Answer, HttpTracker, Payload, Tracker, UdpTracker};

use crate::support::{Output, Shell, dead_port, dead_tracker, mute_udp, web_server, words};

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn run(command: &str, urls: &[String], flags: &[&str]) -> Output {
    let mut payload = Payload::file("a", 100_000);
    for url in urls {
        payload = payload.tracker(url);
    }
    let payload = payload.create().unwrap();
    Shell::new().run(words(command, &payload, flags))
}

#[test]
fn peers_of_all_trackers_are_merged() {
    let (http, udp) = (HttpTracker::start(), UdpTracker::start());
    http.answer(Answer::Peers(addresses(&["10.0.0.1:1", "10.0.0.2:2"])));
    udp.answer(Answer::Peers(addresses(&["10.0.0.2:2", "10.0.0.3:3"])));
    let urls = [http.url(), udp.url()];
    let object = run("peers", &urls, &["--json"]).expect(0).object();
    assert_eq!(object["peers"], json!(["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]));
    assert_eq!(object["trackers"][0]["url"], http.url());
    assert_eq!(object["trackers"][0]["interval"], 1800);
    assert_eq!(object["trackers"][0]["peers"][0]["ip"], "10.0.0.1");
    assert_eq!(object["trackers"][0]["peers"][0]["port"], 1);
    for field in ["seeders", "leechers"] {
        assert!(object["trackers"][1][field].is_u64(), "{field}");
    }
    assert_eq!(object["info_hash"].as_str().unwrap().len(), 40);

    let text = run("peers", &urls, &[]).expect(0).stdout();
    assert!(text.ends_with("\n10.0.0.1:1\n10.0.0.2:2\n10.0.0.3:3\n"), "{text}");
}

#[test]
fn started_and_stopped_are_announced() {
    let (http, udp) = (HttpTracker::start(), UdpTracker::start());
    for (url, tracker) in [(http.url(), &*http), (udp.url(), &*udp)] {
        tracker.answer(Answer::Peers(addresses(&["10.0.0.1:1"])));
        run("peers", &[url], &["--port", "7000"]).expect(0);
        let seen = tracker.announces();
        let events: Vec<AnnounceEvent> = seen.iter().map(|seen| seen.event).collect();
        assert_eq!(events, [AnnounceEvent::Started, AnnounceEvent::Stopped]);
        assert_eq!((seen[0].port, seen[0].left), (7000, 100_000));
        assert_eq!(seen[0].peer_id, seen[1].peer_id);
    }
}

#[test]
fn own_address_is_no_peer() {
    let http = HttpTracker::start();
    let urls = [format!("http://127.0.0.1:{}/announce", http.address().port())];
    // Like some trackers, this one lists the client that asks.
    let answer = |own: u16| Answer::Peers(addresses(&["10.0.0.1:1", &format!("127.0.0.1:{own}")]));
    http.answer(answer(7000));
    let object = run("peers", &urls, &["--json", "--port", "7000"]).expect(0).object();
    assert_eq!(object["peers"], json!(["10.0.0.1:1"]));
    assert_eq!(object["trackers"][0]["peers"].as_array().unwrap().len(), 1);
    // A client on another port is a peer.
    let object = run("peers", &urls, &["--json", "--port", "7001"]).expect(0).object();
    assert_eq!(object["peers"], json!(["10.0.0.1:1", "127.0.0.1:7000"]));
}

#[test]
fn announced_port_is_dynamic() {
    let udp = UdpTracker::start();
    udp.answer(Answer::Peers(addresses(&["127.0.0.1:6881"])));
    let object = run("peers", &[udp.url()], &["--json"]).expect(0).object();
    assert_eq!(object["peers"], json!(["127.0.0.1:6881"]));
    assert!(udp.announces().iter().all(|seen| seen.port >= 49152));
}

/// The tracker is asked over each family that its name has, and its peers are listed once.
#[test]
fn both_address_families_are_asked() {
    let v4 = HttpTracker::start();
    let port = v4.address().port();
    v4.answer(Answer::Peers(addresses(&["10.0.0.1:1", "10.0.0.2:2"])));
    let local: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().unwrap().collect();
    let v6 = HttpTracker::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), Tracker::new());
    let mut expected = vec!["10.0.0.1:1", "10.0.0.2:2"];
    if let Ok(v6) = &v6 {
        v6.answer(Answer::Peers(addresses(&["10.0.0.2:2", "[::1]:3"])));
        if local.iter().any(SocketAddr::is_ipv6) {
            expected.push("[::1]:3");
        }
    }
    let url = format!("http://localhost:{port}/announce");
    let object = run("peers", &[url], &["--json"]).expect(0).object();
    let mut peers: Vec<&str> =
        object["peers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    peers.sort_unstable();
    assert_eq!(peers, expected);
    assert_eq!(object["trackers"][0]["peers"].as_array().unwrap().len(), expected.len());
}

#[test]
fn counted_peers_are_listed_once() {
    let list = b"d8:intervali900e5:peersl\
        d2:ip12:peer.example4:porti1ee\
        d2:ip12:PEER.example4:porti1ee\
        d2:ip12:peer.example4:porti2ee\
        d2:ip8:10.0.0.17:peer id20:-XX0001-abcdefghijkl4:porti1ee\
        d2:ip8:10.0.0.14:porti1eee\
        6:peers636:\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\0\x01\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01e";
    let url = format!("http://{}/announce", web_server("200 OK", list));
    let listed = ["peer.example:1", "peer.example:2", "10.0.0.1:1", "[2001:db8::1]:1"];
    let object = run("peers", std::slice::from_ref(&url), &["--json"]).expect(0).object();
    assert_eq!(object["peers"], json!(listed));
    let hosts: Vec<&Value> =
        object["trackers"][0]["peers"].as_array().unwrap().iter().map(|peer| &peer["ip"]).collect();
    assert_eq!(hosts, ["peer.example", "peer.example", "10.0.0.1", "2001:db8::1"]);
    let text = run("peers", &[url], &[]).expect(0).stdout();
    assert!(text.contains("peers 4,"), "{text}");
    assert!(text.ends_with(&format!("\n\n{}\n", listed.join("\n"))), "{text}");
}

#[test]
fn peers_given_by_name_are_listed() {
    let list = b"d8:intervali900e5:peersld2:ip12:peer.example4:porti1eeee";
    let url = format!("http://{}/announce", web_server("200 OK", list));
    let text = run("peers", &[url], &[]).expect(0).stdout();
    assert!(text.contains("peers 1,") && text.ends_with("\n\npeer.example:1\n"), "{text}");
}

#[test]
fn one_answer_with_peers_is_enough() {
    let (http, mute) = (HttpTracker::start(), mute_udp());
    http.answer(Answer::Peers(addresses(&["10.0.0.1:1"])));
    let urls = [
        dead_tracker(),
        format!("udp://{}", mute.local_addr().unwrap()),
        http.url(),
        "wss://tracker.example".to_owned(),
    ];
    let object = run("peers", &urls, &["--json", "--timeout", "2"]).expect(0).object();
    let errors: Vec<bool> =
        object["trackers"].as_array().unwrap().iter().map(|t| t["error"].is_string()).collect();
    assert_eq!(errors, [true, true, false, true]);
}

/// Every kind of bad answer, for both commands.
#[test]
fn bad_answers_are_errors() {
    let refused = Answer::Failure { reason: "not\u{1b} registered".to_owned(), retry_in: None };
    let (http, udp) = (HttpTracker::start(), UdpTracker::start());
    let (over_http, over_udp) = ((http.url(), &*http), (udp.url(), &*udp));
    for ((url, tracker), answer, part) in [
        (&over_http, refused.clone(), "not registered"),
        (&over_http, Answer::Html, ""),
        (&over_http, Answer::Status(503), "503"),
        (&over_http, Answer::Raw(b"le".to_vec()), ""),
        (&over_http, Answer::Truncated, ""),
        (&over_http, Answer::Silence, ""),
        (&over_udp, refused, "not registered"),
        (&over_udp, Answer::Silence, ""),
    ] {
        tracker.answer(answer.clone());
        for command in ["peers", "scrape"] {
            let urls = std::slice::from_ref(url);
            let output = run(command, urls, &["--json", "--timeout", "1"]).expect(4);
            let error = output.objects()[0]["trackers"][0]["error"].as_str().unwrap().to_owned();
            assert!(error.replace('\u{1b}', "").contains(part), "{answer:?}: {error}");
            assert!(output.error("network").contains(part), "{answer:?}");
            let text = run(command, urls, &["--timeout", "1"]).expect(4);
            assert!(!text.stderr.contains('\u{1b}') && !text.stdout().contains('\u{1b}'));
        }
    }
}

#[test]
fn no_peers_is_network_error() {
    let http = HttpTracker::start();
    http.answer(Answer::Peers(Vec::new()));
    let output = run("peers", &[http.url()], &["--json"]).expect(4);
    assert_eq!(output.objects()[0]["peers"], json!([]));
    output.error("network");
    for command in ["peers", "scrape"] {
        run(command, &[], &["--json"]).expect(4).error("network");
    }
}

#[test]
fn scrape_shows_counts() {
    let (http, udp) = (HttpTracker::start(), UdpTracker::start());
    let payload = Payload::file("a", 1000).tracker(http.url()).tracker(udp.url()).create().unwrap();
    let shell = Shell::new();
    let object = shell.run(words("scrape", &payload, &["--json"])).expect(0).object();
    assert_eq!(object["info_hash"], payload.info_hash().to_string());
    for (index, url) in [http.url(), udp.url()].iter().enumerate() {
        let expected = json!({ "url": url, "seeders": 0, "leechers": 0, "completed": 0 });
        assert_eq!(object["trackers"][index], expected);
    }
    assert_eq!((http.scrapes(), udp.scrapes()), (1, 1));
    let text = shell.run(words("scrape", &payload, &[])).expect(0).stdout();
    assert!(text.contains("seeders 0, leechers 0"), "{text}");
}

#[test]
fn passkeys_are_shortened_for_people() {
    let url = format!("http://127.0.0.1:{}/0123456789abcdef0123456789abcdef/announce", dead_port());
    let output = run("peers", &[url], &[]).expect(4);
    let everything = format!("{}{}", output.stdout(), output.stderr);
    assert!(!everything.contains("0123456789abcdef0123456789abcdef"), "{everything}");
}

#[test]
fn signal_prints_interrupted_error() {
    let http = HttpTracker::start();
    http.answer(Answer::Silence);
    let payload = Payload::file("a", 1000).tracker(http.url()).create().unwrap();
    let shell = Shell::new();
    for signal in ["INT", "TERM"] {
        let process = shell.start(words("peers", &payload, &["--json"]));
        let asked = http.announces().len() + 1;
        assert!(http.wait_for(Duration::from_secs(30), |seen| seen.len() >= asked));
        process.signal(signal);
        let output = process.finish().expect(130);
        let last: Value = output.object();
        assert_eq!(last["error"]["class"], "interrupted");
    }
}
