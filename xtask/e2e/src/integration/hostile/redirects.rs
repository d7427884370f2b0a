//! Redirects: in a loop, to other kinds of address, from the internet into the local network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use testkit::{Answer, HttpTracker, Tracker, WebServer};

use super::Case;
use crate::bt_cli::Finished;
use crate::clients::namespace;
use crate::integration::scene::{Scene, file, text};

pub(super) const CASES: &[Case] = &[
    ("loop", "a redirect to itself: 6 requests, then an error", around),
    ("five in a row", "5 redirects, which is the limit", |scene| in_a_row(scene, 5)),
    ("six in a row", "one redirect more", |scene| in_a_row(scene, 6)),
    ("to a file", "file:///etc/passwd", |scene| refused(scene, "file:///etc/passwd")),
    ("to FTP", "ftp://127.0.0.1/", |scene| refused(scene, "ftp://127.0.0.1/")),
    ("to UDP", "udp://127.0.0.1:1/", |scene| refused(scene, "udp://127.0.0.1:1/")),
    ("to a script", "javascript:alert(1)", |scene| refused(scene, "javascript:alert(1)")),
    ("to data", "data:,d8:intervali9e5:peers0:e", |scene| {
        refused(scene, "data:,d8:intervali9e5:peers0:e")
    }),
    ("to gopher", "gopher://127.0.0.1:6379/_FLUSHALL", |scene| {
        refused(scene, "gopher://127.0.0.1:6379/_FLUSHALL")
    }),
    ("to no address", "http://[bad/", |scene| refused(scene, "http://[bad/")),
    ("public to loopback", "by number: 127.0.0.1", |scene| inwards(scene, "127.0.0.1")),
    ("public to loopback by name", "localhost", |scene| inwards(scene, "localhost")),
    ("public to loopback in disguise", "0x7f.1, which is 127.0.0.1", |scene| {
        inwards(scene, "0x7f.1")
    }),
    ("public to loopback in IPv6", "::ffff:127.0.0.1, for a torrent from the web", in_ipv6),
    ("public to a private address", "10.77.0.1", |scene| inwards(scene, "10.77.0.1")),
    ("public to no address", "0.0.0.0, which is this machine", |scene| inwards(scene, "0.0.0.0")),
    ("public to public to loopback", "with another public address between", public_between),
    ("public to public", "which is followed", public_to_public),
];

/// Runs `peers` with the tracker at `url`.
fn peers(scene: &Scene, url: String) -> Result<Finished> {
    let payload = scene.payload(file(8).tracker(url))?;
    scene.run("user", &["peers", text(payload.torrent_path())?, "--timeout", "5"])
}

fn around(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    tracker.answer(Answer::Redirect(tracker.url()));
    let finished = peers(scene, tracker.url())?;
    finished.expect(4)?;
    finished.expect_text("expected at most 5 redirects, got more")?;
    let requests = tracker.announces().len();
    ensure!(requests == 6, "{requests} requests");
    Ok(())
}

fn in_a_row(scene: &Scene, count: usize) -> Result<()> {
    let trackers: Vec<HttpTracker> = (0..=count).map(|_| HttpTracker::start()).collect();
    for pair in trackers.windows(2) {
        pair[0].answer(Answer::Redirect(pair[1].url()));
    }
    trackers[count].answer(Answer::Peers(vec!["10.0.0.1:6881".parse()?]));
    let finished = peers(scene, trackers[0].url())?;
    finished.expect(if count <= 5 { 0 } else { 4 })
}

fn refused(scene: &Scene, to: &str) -> Result<()> {
    let tracker = HttpTracker::start();
    // A redirect with a query stays unchanged.
    tracker.answer(Answer::Redirect(format!("{to}?")));
    let finished = peers(scene, tracker.url())?;
    finished.expect(4)?;
    finished.expect_text("cannot follow the redirect to")
}

/// Starts a tracker with a public address. Only the namespace has such addresses; without it,
/// [`super::run_here`] skips the cases that need one.
fn public(index: usize) -> Result<HttpTracker> {
    let address = namespace::PUBLIC.get(index).context("no such public address")?;
    Ok(HttpTracker::bind(SocketAddr::from((*address, 0)), Tracker::new())?)
}

/// Starts a tracker that must get no request.
fn trap(ip: IpAddr) -> Result<HttpTracker> {
    let trap = HttpTracker::bind(SocketAddr::new(ip, 0), Tracker::new())?;
    trap.answer(Answer::Peers(vec!["10.0.0.1:6881".parse()?]));
    Ok(trap)
}

fn inwards(scene: &Scene, host: &str) -> Result<()> {
    let trap = trap(if host == "10.77.0.1" { host.parse()? } else { Ipv4Addr::LOCALHOST.into() })?;
    let door = public(0)?;
    door.answer(Answer::Redirect(format!("http://{host}:{}/announce", trap.address().port())));
    expect_refusal(&peers(scene, door.url())?, &door, &trap)
}

/// A tracker gets one request per address family, and the one over IPv4 cannot reach an IPv6
/// address.
fn in_ipv6(scene: &Scene) -> Result<()> {
    let trap = trap(Ipv4Addr::LOCALHOST.into())?;
    let to = format!("http://[::ffff:127.0.0.1]:{}/announce", trap.address().port());
    let address = SocketAddr::from((namespace::PUBLIC[0], 0));
    let door = WebServer::bind(
        address,
        |stream| stream,
        move |_, out| {
            write!(out, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
        },
    )?;
    let finished = scene.run("user", &["info", &format!("http://{}/a.torrent", door.address())])?;
    finished.expect(4)?;
    finished.expect_text("refused a redirect from a public address to")?;
    ensure!(trap.announces().is_empty(), "the redirect was followed");
    Ok(())
}

fn expect_refusal(finished: &Finished, door: &HttpTracker, trap: &HttpTracker) -> Result<()> {
    finished.expect(4)?;
    finished.expect_text("refused a redirect from a public address to")?;
    ensure!(!door.announces().is_empty(), "the public tracker got no request");
    ensure!(trap.announces().is_empty(), "the redirect was followed");
    Ok(())
}

fn public_between(scene: &Scene) -> Result<()> {
    let trap = trap(Ipv4Addr::LOCALHOST.into())?;
    let (door, between) = (public(0)?, public(1)?);
    between.answer(Answer::Redirect(trap.url()));
    door.answer(Answer::Redirect(between.url()));
    expect_refusal(&peers(scene, door.url())?, &between, &trap)
}

fn public_to_public(scene: &Scene) -> Result<()> {
    let (door, other) = (public(0)?, public(1)?);
    other.answer(Answer::Peers(vec!["10.0.0.1:6881".parse()?]));
    door.answer(Answer::Redirect(other.url()));
    peers(scene, door.url())?.expect(0)
}
