//! Hostile datagrams of local service discovery (BEP 14), in a local network of this namespace.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use testkit::{Payload, Script, ScriptedPeer};

use super::{Story, hostile_case};
use crate::clients::namespace::{self, LAN};
use crate::integration::scene::{LIMIT, Scene};
use tasks::meter::Meter;
use tasks::process::{Launch, wait_until};
use tasks::report::{Case, Report};

const CASES: &[Story] = &[
    ("announces that are bad", "none of the named peers is connected to", bad),
    ("an announce from another network", "its peer is not connected to", off_link),
    ("its own announce repeated", "it does not connect to itself", echo),
    ("its own announce with another cookie", "it is no peer of its own", forged_cookie),
    ("1,000 torrents in one announce", "it is too long, and ignored", many_torrents),
    ("2,000 announces per second", "20 count per second", storm),
    ("an announce of a private torrent", "its peer is not connected to", private),
];

/// The group of IPv4.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 192, 152, 143), 6771);
/// How many announces count per second, and at once.
const RATE: f64 = 20.0;
/// How long a storm lasts.
const TIME: Duration = Duration::from_secs(2);

/// Returns the cases; none outside of a namespace.
pub(super) fn cases<'a>(
    report: &mut Report,
    program: &'a std::path::Path,
    only: Option<&str>,
) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for (name, what, story) in CASES {
        let cells = ["lsd", name, what];
        let obstacle = "this machine allows no network namespace";
        match hostile_case(only, &cells, move || story(&Scene::new(program)?)) {
            Some(case) if namespace::is_inside() => cases.push(case),
            Some(_) => report.skip(&cells, obstacle),
            None => {}
        }
    }
    cases
}

/// A download that looks for local peers only. It has one that sends nothing, so that it goes on.
struct Leecher {
    launch: Launch,
    payload: Payload,
    _held: ScriptedPeer,
    /// What it announces.
    announce: Vec<u8>,
}

/// Starts the download of torrent `number`, which no other case has, and waits for what it announces
/// if it is public.
fn leecher(scene: &Scene, number: u64, is_private: bool) -> Result<Leecher> {
    let payload = Payload::file(&format!("{number}.bin"), 1 << 20).seed(number);
    let payload = scene.payload(if is_private { payload.private() } else { payload })?;
    let ears = ears()?;
    let held = Script::seeder(&payload).fast().held().listen_on((LAN[1], 0).into())?;
    let user = scene.user("leecher");
    let mut command = user.command(["download"]);
    command.arg(payload.torrent_path()).arg("-o").arg(scene.downloads("leecher"));
    let bind = LAN[0].to_string();
    command.args(["--json", "--port", "0", "--no-dht", "--no-pex", "--bind", &bind]);
    command.arg(format!("--peer={}", held.address()));
    // It would keep to this machine, and look for no local peers.
    command.env_remove("BT_CLI_LOCAL");
    let launch = user.start("download", &command)?;
    let mut announce = Vec::new();
    if is_private {
        let started = || launch.stdout().contains(r#""event":"started""#);
        ensure!(wait_until(LIMIT, started), "{}", launch.output_tail());
    } else {
        let mine = format!("Infohash: {}\r\n", payload.info_hash());
        let heard = wait_until(LIMIT, || {
            announce = hear(&ears);
            String::from_utf8_lossy(&announce).contains(&mine)
        });
        ensure!(heard, "no announce was heard\n{}", launch.output_tail());
    }
    Ok(Leecher { launch, payload, _held: held, announce })
}

impl Leecher {
    /// Returns a peer that has all, and the lines that announce it.
    fn peer(&self) -> Result<(ScriptedPeer, [String; 2])> {
        let script = Script::seeder(&self.payload).fast().held();
        let peer = script.listen_on((LAN[1], 0).into())?;
        let port = format!("Port: {}", peer.address().port());
        Ok((peer, [port, format!("Infohash: {}", self.payload.info_hash())]))
    }

    /// Announces another peer properly until bt-cli connects to it: it has read all before.
    fn expect_next(&self, from: &UdpSocket) -> Result<()> {
        let (peer, lines) = self.peer()?;
        let bytes = announce(&lines.each_ref().map(String::as_str));
        let met = wait_until(LIMIT, || {
            from.send_to(&bytes, GROUP).is_ok()
                && peer.wait_for(Duration::from_millis(200), |seen| seen.connections > 0)
        });
        ensure!(met, "the next peer is not connected to\n{}", self.launch.output_tail());
        Ok(())
    }
}

/// A socket in the group that hears all announces. Others have the port, too.
fn ears() -> Result<UdpSocket> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, GROUP.1)))?;
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&GROUP.0, &LAN[1])?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn hear(ears: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    ears.recv(&mut buffer).map_or_else(|_| Vec::new(), |length| buffer[..length].to_vec())
}

/// Returns an announce with these headers after the usual ones.
fn announce(headers: &[&str]) -> Vec<u8> {
    let (host, port) = GROUP;
    let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {host}:{port}\r\n");
    headers.iter().for_each(|header| text += &format!("{header}\r\n"));
    text += "\r\n\r\n";
    text.into_bytes()
}

/// A socket of another machine in the local network.
fn neighbour() -> Result<UdpSocket> {
    Ok(UdpSocket::bind((LAN[1], 0))?)
}

fn bad(scene: &Scene) -> Result<String> {
    let leecher = leecher(scene, 1, false)?;
    let (trap, [port, hash]) = leecher.peer()?;
    let (first, host) = ("BT-SEARCH * HTTP/1.1", "Host: 239.192.152.143:6771");
    let digits = hash.strip_prefix("Infohash: ").unwrap_or_default();
    let number = port.strip_prefix("Port: ").unwrap_or_default();
    let texts = [
        String::new(),
        format!("{first}\r\n{port}\r\n{hash}\r\n\r\n"),
        format!("{first}\r\nHost: 239.192.152.1:6771\r\n{port}\r\n{hash}\r\n\r\n"),
        format!("{first}\r\n{host}\r\n{hash}\r\n\r\n"),
        format!("{first}\r\n{host}\r\nPort: 0\r\n{hash}\r\n\r\n"),
        format!("{first}\r\n{host}\r\nPort: +{number}\r\n{hash}\r\n\r\n"),
        format!("{first}\r\n{host}\r\n{port}\r\nInfohash: {digits}0\r\n\r\n"),
        format!("{first}\r\n{host}\r\n{port}\r\nInfohash: {}\r\n\r\n", &digits[1..]),
        format!("{first}\r\n{host}\r\n{port}\r\n\r\n{hash}\r\n\r\n"),
        format!("{first}\r{host}\r{port}\r{hash}\r\r"),
        format!("{first}\r\n{host}\r\n{port}\0\r\n{hash}\r\n\r\n"),
        format!("{first}\r\n{host}\r\n{port}\r\nX: \r{hash}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}\r\n{port}\r\n{hash}\r\n\r\n"),
        format!("{first}\r\n{host}\r\n{port}\r\n{hash}\r\nX: {}\r\n\r\n", "x".repeat(1400)),
    ];
    let socket = neighbour()?;
    for text in &texts {
        socket.send_to(text.as_bytes(), GROUP)?;
    }
    leecher.expect_next(&socket)?;
    ensure!(trap.seen().connections == 0, "the peer is connected to");
    Ok(format!("{} ignored", texts.len()))
}

/// The sender's address is not in the network of any interface.
fn off_link(scene: &Scene) -> Result<String> {
    let leecher = leecher(scene, 2, false)?;
    let script = Script::seeder(&leecher.payload).fast().held();
    let elsewhere = namespace::TRACKER;
    let trap = script.listen_on((elsewhere, 0).into())?;
    let port = format!("Port: {}", trap.address().port());
    let hash = format!("Infohash: {}", leecher.payload.info_hash());
    UdpSocket::bind((elsewhere, 0))?.send_to(&announce(&[&port, &hash]), GROUP)?;
    leecher.expect_next(&neighbour()?)?;
    ensure!(trap.seen().connections == 0, "the peer is connected to");
    Ok("ignored".to_owned())
}

/// Whether bt-cli has met a peer at `port`, or failed to.
fn met(leecher: &Leecher, port: u16, state: &str) -> bool {
    let address = format!("{}:{port}", LAN[1]);
    super::json_lines(&leecher.launch.stdout())
        .any(|line| line["address"] == address.as_str() && line["state"] == state)
}

/// Returns the port in an announce.
fn port_of(announce: &[u8]) -> Result<u16> {
    let text = String::from_utf8_lossy(announce);
    let port = text.lines().find_map(|line| line.strip_prefix("Port: "));
    Ok(port.unwrap_or_default().parse()?)
}

fn echo(scene: &Scene) -> Result<String> {
    let leecher = leecher(scene, 3, false)?;
    let (socket, own) = (neighbour()?, port_of(&leecher.announce)?);
    socket.send_to(&leecher.announce, GROUP)?;
    leecher.expect_next(&socket)?;
    let tried = ["connected", "failed", "disconnected"];
    ensure!(!tried.iter().any(|state| met(&leecher, own, state)), "it connected to itself");
    Ok("ignored".to_owned())
}

fn forged_cookie(scene: &Scene) -> Result<String> {
    let leecher = leecher(scene, 4, false)?;
    let (socket, own) = (neighbour()?, port_of(&leecher.announce)?);
    let text = String::from_utf8_lossy(&leecher.announce);
    let forged: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with("cookie")).collect();
    socket.send_to(forged.join("\r\n").as_bytes(), GROUP)?;
    leecher.expect_next(&socket)?;
    ensure!(!met(&leecher, own, "connected"), "it is a peer of its own");
    Ok("no peer of its own".to_owned())
}

fn many_torrents(scene: &Scene) -> Result<String> {
    let leecher = leecher(scene, 5, false)?;
    let (trap, [port, hash]) = leecher.peer()?;
    let others = (0..999u16).map(|number| format!("Infohash: {number:040x}"));
    let lines: Vec<String> = [port, hash].into_iter().chain(others).collect();
    let bytes = announce(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let socket = neighbour()?;
    socket.send_to(&bytes, GROUP)?;
    leecher.expect_next(&socket)?;
    ensure!(trap.seen().connections == 0, "the peer is connected to");
    Ok(format!("{} bytes ignored", bytes.len()))
}

/// Each names another port at which nobody listens.
fn storm(scene: &Scene) -> Result<String> {
    let leecher = leecher(scene, 6, false)?;
    let (socket, hash) = (neighbour()?, format!("Infohash: {}", leecher.payload.info_hash()));
    let mut meter = Meter::start(&leecher.launch);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        for _ in 0..20 {
            sent += 1;
            socket.send_to(&announce(&[&format!("Port: {}", 1000 + sent), &hash]), GROUP)?;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let cost = meter.cost();
    leecher.expect_next(&socket)?;
    let seconds = start.elapsed().as_secs_f64();
    let lines: Vec<_> = super::json_lines(&leecher.launch.stdout()).collect();
    let tried = lines.iter().filter(|line| line["source"] == "lsd").count();
    ensure!(tried as f64 <= RATE * (seconds + 1.0) + 1.0, "{tried} count of {sent}");
    let cpu = cost.cpu.as_millis();
    Ok(format!("{tried} of {sent} count in {seconds:.1} s, {cpu} ms of CPU time"))
}

fn private(scene: &Scene) -> Result<String> {
    let private = leecher(scene, 7, true)?;
    // Another one hears all that this one hears.
    let other = leecher(&Scene::new(scene.program())?, 8, false)?;
    let (trap, lines) = private.peer()?;
    let socket = neighbour()?;
    for _ in 0..3 {
        socket.send_to(&announce(&lines.each_ref().map(String::as_str)), GROUP)?;
    }
    other.expect_next(&socket)?;
    ensure!(trap.seen().connections == 0, "the peer is connected to");
    Ok("ignored".to_owned())
}
