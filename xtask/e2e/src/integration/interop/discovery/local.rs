//! Programs find each other in a local network, by multicast (BEP 14) and nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use tempfile::TempDir;

use super::{Plan, Suite, is_connected};
use crate::clients::{Discovery, Lan, Program};
use crate::integration::interop::Peer;
use crate::integration::interop::transfer::{Party, Side, payload};
use tasks::process::wait_until;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
const GROUP_PORT: u16 = 6771;
/// How long a program may take to announce a torrent.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(40);
/// The programs that announce a torrent three times at first, within seconds.
const REPEAT: &[&str] = &["libtorrent", "libtorrent-debian", "qbittorrent"];

/// Adds the cases.
pub(super) fn add_cases<'a>(suite: Suite<'a>, peers: &'a [Peer], plan: &mut Plan<'a>) {
    for peer in peers.iter().filter(|peer| suite.wants("lsd", peer.program.name())) {
        let (theirs, ours) = (peer.program.as_ref(), suite.ours);
        if theirs.name() == "rtorrent" {
            plan.skip(peer, "local network", "it has no local discovery");
            continue;
        }
        plan.add(
            peer,
            "it announces itself in the local network, bt-cli connects",
            move |number| Meeting::new(number)?.theirs_is_found(theirs, ours),
        );
        plan.add(
            peer,
            "bt-cli announces itself in the local network, it connects",
            move |number| Meeting::new(number)?.ours_is_found(theirs, ours),
        );
    }
}

/// Two programs in a local network of their own.
struct Meeting {
    number: u8,
    base: TempDir,
    lan: Arc<Lan>,
    discovery: Discovery,
    listener: Listener,
}

impl Meeting {
    fn new(number: u8) -> Result<Self> {
        let base = TempDir::with_prefix("interop-")?;
        let lan = Arc::new(Lan::new(number, base.path())?);
        let discovery = Discovery { lan: Some(Arc::clone(&lan)), ..Discovery::default() };
        Ok(Self { number, base, discovery, listener: Listener::new(lan.near())?, lan })
    }

    fn parties<'p>(&'p self, theirs: &'p dyn Program, ours: &'p dyn Program) -> [Party<'p>; 2] {
        let at =
            |program, ip| Party { discovery: Some(&self.discovery), ..Party::new(program, ip) };
        [at(theirs, self.lan.far()), at(ours, self.lan.near())]
    }

    /// bt-cli looks for peers when it hears of the other program, which has the data.
    fn theirs_is_found(&self, theirs: &dyn Program, ours: &dyn Program) -> Result<()> {
        let [theirs, ours] = self.parties(theirs, ours);
        let payload = payload().seed(self.number.into()).create_in(self.base.path())?;
        let hash = payload.info_hash().to_string();
        let mut leeching = Side::download(ours, Path::new(&payload.magnet()), self.base.path())?;
        self.listener.wait_for(ours.ip, &hash, 1).with_context(|| leeching.launch.output_tail())?;
        let seeding = Side::seed(theirs, &payload, self.base.path())?;
        leeching.complete(&payload).with_context(|| seeding.launch.output_tail())?;
        let is_found = is_connected(&leeching.launch, theirs, "lsd");
        ensure!(is_found, "not by multicast\n{}", leeching.launch.output_tail());
        Ok(())
    }

    /// The other program, which has announced itself to nobody, hears of bt-cli, which has the data.
    fn ours_is_found(&self, theirs: &dyn Program, ours: &dyn Program) -> Result<()> {
        let [theirs, ours] = self.parties(theirs, ours);
        let payload = payload().seed(self.number.into()).create_in(self.base.path())?;
        let hash = payload.info_hash().to_string();
        let mut leeching = Side::download(theirs, payload.torrent_path(), self.base.path())?;
        let announces = if REPEAT.contains(&theirs.program.name()) { 3 } else { 1 };
        let announced = self.listener.wait_for(theirs.ip, &hash, announces);
        announced.with_context(|| leeching.launch.output_tail())?;
        let seeding = Side::seed(ours, &payload, self.base.path())?;
        leeching.complete(&payload).with_context(|| seeding.launch.output_tail())?;
        let is_found = is_connected(&seeding.launch, theirs, "incoming");
        ensure!(is_found, "bt-cli connected\n{}", seeding.launch.output_tail());
        Ok(())
    }
}

/// Hears every announce in the local network.
struct Listener {
    socket: UdpSocket,
    /// How often each address announced each torrent.
    heard: Mutex<BTreeMap<(Ipv4Addr, String), usize>>,
}

impl Listener {
    /// Listens at `ip`.
    fn new(ip: Ipv4Addr) -> Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        // bt-cli listens at the same port.
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, GROUP_PORT))?;
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        socket.join_multicast_v4(&GROUP, &ip).context("cannot join the group")?;
        Ok(Self { socket, heard: Mutex::default() })
    }

    /// Waits until `ip` has announced a torrent so often.
    fn wait_for(&self, ip: Ipv4Addr, info_hash: &str, times: usize) -> Result<()> {
        let key = (ip, info_hash.to_owned());
        let heard = || self.receive().get(&key).copied().unwrap_or(0);
        let is_heard = wait_until(ANNOUNCE_LIMIT, || heard() >= times);
        ensure!(is_heard, "{ip} announced itself {} times, not {times}", heard());
        Ok(())
    }

    /// Counts what has arrived; returns all counts.
    fn receive(&self) -> BTreeMap<(Ipv4Addr, String), usize> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let IpAddr::V4(ip) = from.ip() else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
            let hashes = text.lines().filter_map(|line| line.strip_prefix("infohash:"));
            for hash in hashes {
                *heard.entry((ip, hash.trim().to_owned())).or_default() += 1;
            }
        }
        heard.clone()
    }
}
