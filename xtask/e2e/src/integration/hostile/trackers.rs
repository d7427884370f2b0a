//! HTTP trackers that answer too much, too little, or something else.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{HttpTracker, Script, WebServer};

use super::Case;
use crate::integration::scene::{Scene, file, text};

pub(super) const CASES: &[Case] = &[
    ("endless body", "a body that never ends", |scene| refused(scene, endless_body, TOO_LONG)),
    ("body of 8 EiB", "a body of 2^63 - 1 bytes, according to its header", |scene| {
        refused(scene, vast_body, TOO_LONG)
    }),
    ("gzip bomb", "32 KB that become 32 MB", bombed),
    ("10 million peers", "60 MB of compact peers", |scene| {
        refused(scene, ten_million_peers, TOO_LONG)
    }),
    ("300,000 peers", "as many compact peers as a reply holds: 2,000 are taken", many_peers),
    ("40,000 peers", "peers in the form of dictionaries: 2,000 are taken", |scene| {
        takes_2000(scene, dictionaries)
    }),
    ("endless headers", "headers that never end", |scene| refused(scene, endless_headers, NO_HTTP)),
    ("endless chunk", "a chunk of 2^64 - 1 bytes", |scene| refused(scene, endless_chunk, TOO_LONG)),
    ("endless chunk size", "a chunk whose size never ends", |scene| {
        refused(scene, endless_chunk_size, NO_HTTP)
    }),
    ("dribble", "a byte every 50 ms", |scene| {
        refused(scene, dribble, "no complete answer within 2 s")
    }),
    ("half a minute", "the same without --timeout: 30 s", |scene| {
        refused_with(scene, dribble, &[], "no complete answer within 30 s")
    }),
    ("cut body", "3 bytes of 1000, then the end", |scene| {
        refused(
            scene,
            |_, out| respond(out, "Content-Length: 1000\r\n", b"d8:"),
            "the connection to 127.0.0.1 failed: unexpected end of file",
        )
    }),
    ("no HTTP", "the greeting of a mail server", |scene| {
        refused(scene, |_, out| out.write_all(b"220 mail.example ESMTP\r\n\r\n"), NO_HTTP)
    }),
    ("header without colon", "an invalid header", |scene| {
        refused(scene, |_, out| out.write_all(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"), NO_HTTP)
    }),
    ("no gzip", "a body that is not gzip, unlike its header", |scene| {
        refused(scene, |_, out| respond(out, "Content-Encoding: gzip\r\n", REPLY), "")
    }),
    ("web page", "a web page", |scene| {
        refused(
            scene,
            |_, out| respond(out, "", b"<html>hello</html>"),
            "expected a bencoded reply, got status 200, no content type: \\\"<html>hello</html>\\\"",
        )
    }),
    ("half a reply", "a reply cut in the middle", |scene| {
        refused(scene, |_, out| respond(out, "", &REPLY[..20]), "expected a bencoded reply")
    }),
    ("nested reply", "a million nested lists", |scene| {
        refused(
            scene,
            |_, out| respond(out, "", &vec![b'l'; 1_000_000]),
            "expected a bencoded reply",
        )
    }),
    ("reply is a list", "a list", |scene| {
        refused(scene, |_, out| respond(out, "", b"le"), "expected a bencoded reply")
    }),
    ("reply is empty", "an empty dictionary: no peers, an interval of half an hour", empty_reply),
    ("interval is text", "an interval that is a string: half an hour", |scene| {
        takes_one(scene, |_, out| respond(out, "", b"d8:interval1:x5:peers6:\x0a\0\0\x01\x1a\xe1e"))
    }),
    ("half a peer", "compact peers of 8 bytes: one peer", |scene| {
        takes_one(scene, |_, out| {
            respond(out, "", b"d8:intervali1800e5:peers8:\x0a\0\0\x01\x1a\xe1\x0a\0e")
        })
    }),
    ("peers6 is a number", "`peers6` that is an integer, beside a peer", |scene| {
        takes_one(scene, |_, out| {
            respond(out, "", b"d8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe16:peers6i1ee")
        })
    }),
    ("peer is a number", "a list of a peer and two integers", |scene| {
        takes_one(scene, |_, out| {
            let list = b"d8:intervali1800e5:peersli1ed2:ip8:10.0.0.14:porti6881eei2eee";
            respond(out, "", list)
        })
    }),
    ("key twice", "an interval twice, then a peer", |scene| {
        takes_one(scene, |_, out| {
            let twice = b"d8:intervali1800e8:intervali5e5:peers6:\x0a\0\0\x01\x1a\xe1e";
            respond(out, "", twice)
        })
    }),
    (
        "strange peers",
        "port 0, 0.0.0.0, broadcast, multicast, beside a seeder: only the seeder is dialled",
        strange_peers,
    ),
    (
        "strange numbers",
        "an interval of -1, 2^64 - 1 seeders: half an hour, 2^32 - 1",
        strange_numbers,
    ),
    ("line ends in a tracker's URL", "a header after the URL: the server gets none", injected_url),
    (
        "line ends in a tracker id",
        "a header in the id that we send back: the server gets none",
        injected_id,
    ),
    (
        "line ends in a redirect",
        "an escaped header after the address: it stays escaped",
        injected_redirect,
    ),
    (
        "a download continues",
        "after each of four such trackers, until one returns a peer",
        download,
    ),
];

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

/// Checks that `peers` ends with exit code 4 and an error that contains `words`.
fn refused(scene: &Scene, answer: Answer, words: &str) -> Result<()> {
    refused_with(scene, answer, &["--timeout", "2"], words)
}

fn refused_with(scene: &Scene, answer: Answer, options: &[&str], words: &str) -> Result<()> {
    let server = WebServer::start(answer);
    let payload = scene.payload(file(8).tracker(url(&server)))?;
    let command = [&["peers", text(payload.torrent_path())?], options].concat();
    let finished = scene.run("user", &command)?;
    finished.expect(4)?;
    finished.expect_text(words)
}

/// Returns what `peers --json` prints about a tracker with this answer.
fn accepted(scene: &Scene, answer: Answer) -> Result<serde_json::Value> {
    let server = WebServer::start(answer);
    let payload = scene.payload(file(8).tracker(url(&server)))?;
    let finished = scene.run("user", &["peers", text(payload.torrent_path())?])?;
    finished.expect(0)?;
    Ok(finished.lines[0].clone())
}

fn empty_reply(scene: &Scene) -> Result<()> {
    let server = WebServer::start(|_, out| respond(out, "", b"de"));
    let payload = scene.payload(file(8).tracker(url(&server)))?;
    let finished = scene.run("user", &["peers", text(payload.torrent_path())?])?;
    finished.expect(4)?;
    finished.expect_text("no tracker knows a peer")?;
    let tracker = &finished.lines[0]["trackers"][0];
    ensure!(tracker["interval"] == 1800, "{tracker}");
    Ok(())
}

/// Checks that the one good peer is listed, and the interval is half an hour.
fn takes_one(scene: &Scene, answer: Answer) -> Result<()> {
    let said = accepted(scene, answer)?;
    ensure!(said["peers"] == serde_json::json!(["10.0.0.1:6881"]), "{said}");
    ensure!(said["trackers"][0]["interval"] == 1800, "{said}");
    Ok(())
}

fn endless_body(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "", b"d8:intervali1800e5:peers")?;
    loop {
        out.write_all(&[b'1'; 64 * 1024])?;
    }
}

fn vast_body(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "Content-Length: 9223372036854775807\r\n", b"d")
}

static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| testkit::gzip(&vec![b'1'; 32_000_000]));

/// Makes the bomb first, because that takes longer than the timeout.
fn bombed(scene: &Scene) -> Result<()> {
    LazyLock::force(&BOMB);
    refused(scene, gzip_bomb, TOO_LONG)
}

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

fn many_peers(scene: &Scene) -> Result<()> {
    takes_2000(scene, |_, out| peers(300_000, out))
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

fn endless_chunk(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n")?;
    loop {
        out.write_all(&[b'1'; 64 * 1024])?;
    }
}

fn endless_chunk_size(_: &str, out: &mut dyn Write) -> io::Result<()> {
    respond(out, "Transfer-Encoding: chunked\r\n", b"")?;
    loop {
        out.write_all(&[b'0'; 64 * 1024])?;
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
    let mut launch = scene.download("user", &payload, &[])?;
    let finished = scene.complete("user", &payload, &mut launch)?;
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
    let payload = scene.payload(file(8).tracker(forged))?;
    scene.run("user", &["peers", text(payload.torrent_path())?])?.expect(0)?;
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
    let mut launch = scene.download("user", &payload, &[])?;
    scene.complete("user", &payload, &mut launch)?;
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
    let payload = scene.payload(file(8).tracker(url(&server)))?;
    scene.run("user", &["peers", text(payload.torrent_path())?])?.expect(0)?;
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
    let mut launch = scene.download("user", &payload, &[])?;
    scene.complete("user", &payload, &mut launch)?;
    for server in &bad {
        ensure!(!server.requests().is_empty(), "{} got no request", server.address());
    }
    Ok(())
}
