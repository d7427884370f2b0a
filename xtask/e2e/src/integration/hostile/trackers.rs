//! HTTP trackers that answer too much, too little, or something else.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{HttpTracker, Script, WebServer};

use super::{Case, case, peers_of};
use crate::integration::scene::{Scene, file};

pub(super) fn cases() -> Vec<Case> {
    [floods(), malformed(), accepted_replies(), others()].into_iter().flatten().collect()
}

fn floods() -> Vec<Case> {
    let vast = "a body of 2^63 - 1 bytes, according to its header";
    let slow = "no complete answer within 2 s";
    let slower = "no complete answer within 30 s";
    vec![
        refused("endless body", "a body that never ends", TOO_LONG, endless_body),
        refused("body of 8 EiB", vast, TOO_LONG, |_, out| {
            respond(out, "Content-Length: 9223372036854775807\r\n", b"d")
        }),
        case("gzip bomb", "32 KB that become 32 MB", |scene| {
            // First, because that takes longer than the timeout.
            LazyLock::force(&BOMB);
            expect_refusal(scene, gzip_bomb, SOON, TOO_LONG)
        }),
        refused("10 million peers", "60 MB of compact peers", TOO_LONG, ten_million_peers),
        case("300,000 peers", "as many compact peers as a reply holds: 2,000 are taken", |scene| {
            takes_2000(scene, |_, out| peers(300_000, out))
        }),
        case("40,000 peers", "peers in the form of dictionaries: 2,000 are taken", |scene| {
            takes_2000(scene, dictionaries)
        }),
        refused("endless headers", "headers that never end", NO_HTTP, endless_headers),
        refused("endless chunk", "a chunk of 2^64 - 1 bytes", TOO_LONG, |_, out| {
            respond(out, "Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n")?;
            endless(out, b'1')
        }),
        refused("endless chunk size", "a chunk whose size never ends", NO_HTTP, |_, out| {
            respond(out, "Transfer-Encoding: chunked\r\n", b"")?;
            endless(out, b'0')
        }),
        refused("dribble", "a byte every 50 ms", slow, dribble),
        case("half a minute", "the same without --timeout: 30 s", move |scene| {
            expect_refusal(scene, dribble, &[], slower)
        }),
    ]
}

fn malformed() -> Vec<Case> {
    let cut = "the connection to 127.0.0.1 failed: unexpected end of file";
    let page =
        "expected a bencoded reply, got status 200, no content type: \\\"<html>hello</html>\\\"";
    let bencode = "expected a bencoded reply";
    vec![
        refused("cut body", "3 bytes of 1000, then the end", cut, |_, out| {
            respond(out, "Content-Length: 1000\r\n", b"d8:")
        }),
        refused("no HTTP", "the greeting of a mail server", NO_HTTP, |_, out| {
            out.write_all(b"220 mail.example ESMTP\r\n\r\n")
        }),
        refused("header without colon", "an invalid header", NO_HTTP, |_, out| {
            out.write_all(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")
        }),
        refused("no gzip", "a body that is not gzip, unlike its header", "", |_, out| {
            respond(out, "Content-Encoding: gzip\r\n", REPLY)
        }),
        refused("web page", "a web page", page, |_, out| respond(out, "", b"<html>hello</html>")),
        refused("half a reply", "a reply cut in the middle", bencode, |_, out| {
            respond(out, "", &REPLY[..20])
        }),
        refused("nested reply", "a million nested lists", bencode, |_, out| {
            respond(out, "", &vec![b'l'; 1_000_000])
        }),
        refused("reply is a list", "a list", bencode, |_, out| respond(out, "", b"le")),
    ]
}

fn accepted_replies() -> Vec<Case> {
    vec![
        case(
            "reply is empty",
            "an empty dictionary: no peers, an interval of half an hour",
            empty_reply,
        ),
        takes_one(
            "interval is text",
            "an interval that is a string: half an hour",
            b"d8:interval1:x5:peers6:\x0a\0\0\x01\x1a\xe1e",
        ),
        takes_one(
            "half a peer",
            "compact peers of 8 bytes: one peer",
            b"d8:intervali1800e5:peers8:\x0a\0\0\x01\x1a\xe1\x0a\0e",
        ),
        takes_one(
            "peers6 is a number",
            "`peers6` that is an integer, beside a peer",
            b"d8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe16:peers6i1ee",
        ),
        takes_one(
            "peer is a number",
            "a list of a peer and two integers",
            b"d8:intervali1800e5:peersli1ed2:ip8:10.0.0.14:porti6881eei2eee",
        ),
        takes_one(
            "key twice",
            "an interval twice, then a peer",
            b"d8:intervali1800e8:intervali5e5:peers6:\x0a\0\0\x01\x1a\xe1e",
        ),
    ]
}

fn others() -> Vec<Case> {
    let peers =
        "port 0, 0.0.0.0, broadcast, multicast, beside a seeder: only the seeder is dialled";
    let numbers = "an interval of -1, 2^64 - 1 seeders: half an hour, 2^32 - 1";
    let url = "a header after the URL: the server gets none";
    let id = "a header in the id that we send back: the server gets none";
    let redirect = "an escaped header after the address: it stays escaped";
    let again = "after each of four such trackers, until one returns a peer";
    vec![
        case("strange peers", peers, strange_peers),
        case("strange numbers", numbers, strange_numbers),
        case("line ends in a tracker's URL", url, injected_url),
        case("line ends in a tracker id", id, injected_id),
        case("line ends in a redirect", redirect, injected_redirect),
        case("a download continues", again, download),
    ]
}

const TOO_LONG: &str = "expected a body of at most 2097152 bytes, got more";
const NO_HTTP: &str = "127.0.0.1 sent an invalid HTTP response";
const REPLY: &[u8] = b"d8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe1e";

/// Writes the answer to a request.
type Answer = fn(&str, &mut dyn Write) -> io::Result<()>;

fn respond(out: &mut dyn Write, headers: &str, body: &[u8]) -> io::Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\n{headers}\r\n")?;
    out.write_all(body)
}

/// Returns a tracker's URL, with the usual path.
fn url(server: &WebServer) -> String {
    format!("http://{}/announce", server.address())
}

/// The options of `peers` with which it gives up soon.
const SOON: &[&str] = &["--timeout", "2"];

/// `peers` ends with exit code 4 and an error that contains `words`.
fn refused(name: &'static str, what: &'static str, words: &'static str, answer: Answer) -> Case {
    case(name, what, move |scene| expect_refusal(scene, answer, SOON, words))
}

fn expect_refusal(scene: &Scene, answer: Answer, options: &[&str], words: &str) -> Result<()> {
    let server = WebServer::start(answer);
    let finished = peers_of(scene, url(&server), options)?;
    finished.expect(4)?;
    finished.expect_text(words)
}

/// Returns what `peers --json` prints about a tracker with this answer.
fn accepted(
    scene: &Scene,
    answer: impl Fn(&str, &mut dyn Write) -> io::Result<()> + Clone + Send + 'static,
) -> Result<serde_json::Value> {
    let server = WebServer::start(answer);
    let finished = peers_of(scene, url(&server), &[])?;
    finished.expect(0)?;
    Ok(finished.lines[0].clone())
}

fn empty_reply(scene: &Scene) -> Result<()> {
    let server = WebServer::start(|_, out| respond(out, "", b"de"));
    let finished = peers_of(scene, url(&server), &[])?;
    finished.expect(4)?;
    finished.expect_text("no tracker knows a peer")?;
    let tracker = &finished.lines[0]["trackers"][0];
    ensure!(tracker["interval"] == 1800, "{tracker}");
    Ok(())
}

/// The one good peer in `body` is listed, and the interval is half an hour.
fn takes_one(name: &'static str, what: &'static str, body: &'static [u8]) -> Case {
    case(name, what, move |scene| {
        let said = accepted(scene, move |_, out| respond(out, "", body))?;
        ensure!(said["peers"] == serde_json::json!(["10.0.0.1:6881"]), "{said}");
        ensure!(said["trackers"][0]["interval"] == 1800, "{said}");
        Ok(())
    })
}

fn endless(out: &mut dyn Write, byte: u8) -> io::Result<()> {
    loop {
        out.write_all(&[byte; 64 * 1024])?;
    }
}

fn endless_body(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "", b"d8:intervali1800e5:peers")?;
    endless(out, b'1')
}

static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| testkit::gzip(&vec![b'1'; 32_000_000]));

fn gzip_bomb(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "Content-Encoding: gzip\r\n", &BOMB)
}

fn ten_million_peers(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "", b"d8:intervali1800e5:peers60000000:")?;
    (0..10_000).try_for_each(|_| out.write_all(&[1; 6000]))?;
    out.write_all(b"e")
}

fn peers(count: u32, out: &mut dyn Write) -> io::Result<()> {
    let peers: Vec<u8> =
        (0..count).flat_map(|ip| [&(ip + (1 << 24)).to_be_bytes()[..], &[1, 1]].concat()).collect();
    let body =
        [format!("d8:intervali1800e5:peers{}:", peers.len()).as_bytes(), &peers, b"e"].concat();
    respond(out, "", &body)
}

fn dictionaries(_: &str, out: &mut dyn Write) -> io::Result<()> {
    let peer = |number: u32| {
        let [a, b, c] = [number / 10_000, number / 100 % 100, number % 100].map(|part| part + 100);
        format!("d2:ip14:10.{a}.{b}.{c}4:porti1ee")
    };
    let peers: String = (0..40_000).map(peer).collect();
    respond(out, "", format!("d8:intervali1800e5:peersl{peers}ee").as_bytes())
}

fn takes_2000(scene: &Scene, answer: Answer) -> Result<()> {
    let said = accepted(scene, answer)?;
    let taken = said["trackers"][0]["peers"].as_array().map(Vec::len);
    ensure!(taken == Some(2000), "{taken:?} peers were taken");
    Ok(())
}

fn endless_headers(_: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\n")?;
    loop {
        out.write_all(b"X-More: and more\r\n")?;
    }
}

fn dribble(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "Content-Length: 100000\r\n", b"")?;
    loop {
        out.write_all(b"1")?;
        out.flush()?;
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn strange_peers(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let seeder = Script::seeder(&payload).listen();
    let strange = ["10.0.0.1:0", "0.0.0.0:6881", "255.255.255.255:6881", "224.0.0.1:6881"];
    let strange = strange.into_iter().map(str::parse).collect::<Result<Vec<_>, _>>()?;
    let tracker = HttpTracker::start();
    tracker.answer(testkit::Answer::Peers([strange, vec![seeder.address()]].concat()));
    let payload = scene.payload(file(8).tracker(tracker.url()))?;
    let finished = scene.fetch("user", &payload, &[], &[])?;
    let called = finished.lines.iter().filter(|line| line["event"] == "peer");
    let mut called = called.filter_map(|line| line["address"].as_str());
    let seeder = seeder.address().to_string();
    ensure!(called.all(|address| address == seeder), "it dialled others: {:?}", finished.lines);
    Ok(())
}

fn strange_numbers(scene: &Scene) -> Result<()> {
    let said = accepted(scene, |_, out| {
        let numbers = b"d8:completei18446744073709551615e10:incompletei-5e8:intervali-1e5:peers6:";
        respond(out, "", &[&numbers[..], b"\x0a\0\0\x01\x1a\xe1e"].concat())
    })?;
    let tracker = &said["trackers"][0];
    ensure!(tracker["interval"] == 1800 && tracker["seeders"] == u32::MAX, "{tracker}");
    Ok(())
}

/// Checks that no text of the tracker became a header.
fn expect_no_header(server: &WebServer) -> Result<()> {
    let requests = server.requests();
    ensure!(!requests.is_empty(), "the server got no request");
    for request in requests {
        let forged = |line: &str| line.to_ascii_lowercase().starts_with("x-injected");
        ensure!(!request.lines().any(forged), "{request}");
    }
    Ok(())
}

fn injected_url(scene: &Scene) -> Result<()> {
    let server = WebServer::start(|_, out| respond(out, "", REPLY));
    let forged = format!("{}?a=b\r\nX-Injected: 1\r\n\r\nGET /again HTTP/1.1", url(&server));
    peers_of(scene, forged, &[])?.expect(0)?;
    expect_no_header(&server)
}

/// `peers` sends no id back; a download does, with `completed`.
fn injected_id(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let seeder = Script::seeder(&payload).listen();
    let port = seeder.address().port();
    let server = WebServer::start(move |_, out| {
        let peer = [&[127, 0, 0, 1][..], &port.to_be_bytes()].concat();
        let id = b"10:tracker id20:x\r\nX-Injected: 1\r\n\r\ne";
        respond(out, "", &[b"d8:intervali1800e5:peers6:", &peer[..], id].concat())
    });
    let payload = scene.payload(file(8).tracker(url(&server)))?;
    scene.fetch("user", &payload, &[], &[])?;
    let requests = server.requests();
    let escaped = "trackerid=x%0D%0AX-Injected%3A%201%0D%0A%0D%0A";
    ensure!(requests.iter().any(|request| request.contains(escaped)), "{requests:?}");
    expect_no_header(&server)
}

fn injected_redirect(scene: &Scene) -> Result<()> {
    let server = WebServer::start(|head, out| {
        match head.starts_with("GET /again") {
        true => respond(out, "", REPLY),
        false => out.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /again?x=%0d%0aX-Injected:%201\r\nContent-Length: 0\r\n\r\n",
        ),
    }
    });
    peers_of(scene, url(&server), &[])?.expect(0)?;
    expect_no_header(&server)?;
    ensure!(
        server.requests().iter().any(|head| head.contains("x=%0d%0aX-Injected")),
        "{:?}",
        server.requests()
    );
    Ok(())
}

/// Each tracker has a tier of its own, so that all get a request.
fn download(scene: &Scene) -> Result<()> {
    LazyLock::force(&BOMB);
    let answers: [Answer; 4] = [endless_body, gzip_bomb, ten_million_peers, endless_headers];
    let bad = answers.map(WebServer::start);
    let payload = scene.payload(file(8))?;
    let seeder = Script::seeder(&payload).listen();
    let good = HttpTracker::start();
    good.answer(testkit::Answer::Peers(vec![seeder.address()]));
    let builder = bad.iter().fold(file(8), |builder, server| builder.tracker(url(server)));
    let payload = scene.payload(builder.tracker(good.url()))?;
    scene.fetch("user", &payload, &[], &[])?;
    for server in &bad {
        ensure!(!server.requests().is_empty(), "{} got no request", server.address());
    }
    Ok(())
}
