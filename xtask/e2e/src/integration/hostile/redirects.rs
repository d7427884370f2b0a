//! Redirects: in a loop, to other kinds of address, from the internet into the local network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use testkit::{Answer, HttpTracker, Tracker, WebServer};

use super::{Case, case, peers_of};
use crate::bt_cli::Finished;
use crate::clients::namespace;
use crate::integration::scene::Scene;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("loop", "a redirect to itself: 6 requests, then an error", around),
        case("five in a row", "5 redirects, which is the limit", |scene| in_a_row(scene, 5)),
        case("six in a row", "one redirect more", |scene| in_a_row(scene, 6)),
        refused("to a file", "file:///etc/passwd"),
        refused("to FTP", "ftp://127.0.0.1/"),
        refused("to UDP", "udp://127.0.0.1:1/"),
        refused("to a script", "javascript:alert(1)"),
        refused("to data", "data:,d8:intervali9e5:peers0:e"),
        refused("to gopher", "gopher://127.0.0.1:6379/_FLUSHALL"),
        refused("to no address", "http://[bad/"),
        inwards("public to loopback", "by number: 127.0.0.1", "127.0.0.1"),
        inwards("public to loopback by name", "localhost", "localhost"),
        inwards("public to loopback in disguise", "0x7f.1, which is 127.0.0.1", "0x7f.1"),
        case("public to loopback in IPv6", "::ffff:127.0.0.1, for a torrent from the web", in_ipv6),
        inwards("public to a private address", "10.77.0.1", "10.77.0.1"),
        inwards("public to no address", "0.0.0.0, which is this machine", "0.0.0.0"),
        case("public to public to loopback", "with another public address between", public_between),
        case("public to public", "which is followed", public_to_public),
    ]
}

/// Runs `peers` with the tracker at `url`.
fn peers(scene: &Scene, url: String) -> Result<Finished> {
    peers_of(scene, url, &["--timeout", "5"])
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

/// The redirect to `to` is refused.
fn refused(name: &'static str, to: &'static str) -> Case {
    case(name, to, move |scene| {
        let tracker = HttpTracker::start();
        // A redirect with a query stays unchanged.
        tracker.answer(Answer::Redirect(format!("{to}?")));
        let finished = peers(scene, tracker.url())?;
        finished.expect(4)?;
        finished.expect_text("cannot follow the redirect to")
    })
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

/// A redirect from a public address to `host` is refused.
fn inwards(name: &'static str, what: &'static str, host: &'static str) -> Case {
    case(name, what, move |scene| {
        let private = host == "10.77.0.1";
        let trap = trap(if private { host.parse()? } else { Ipv4Addr::LOCALHOST.into() })?;
        let door = public(0)?;
        let port = trap.address().port();
        door.answer(Answer::Redirect(format!("http://{host}:{port}/announce")));
        expect_refusal(&peers(scene, door.url())?, &door, &trap)
    })
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
