//! A network namespace with an address per client, in which the filters do not apply that clients
//! have for loopback and for several peers at one address; and a mount namespace.
//!
//! The default route of the namespace leads to an interface that nobody uses: what would leave this
//! machine is counted there.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use tasks::process::find_program;
use tasks::report::Tally;

/// The environment variable of processes inside: the flags of `unshare`.
const INSIDE: &str = "XTASK_INSIDE_NAMESPACE";

/// The address of the tracker.
pub const TRACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The address of bt-cli.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The first byte of the public addresses of programs that take part in a DHT. libtorrent takes
/// 11.x, which belongs to a ministry of defence, for unused.
const PUBLIC_NETWORK: u8 = 45;
/// Two public addresses, as far as programs can tell.
pub const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(11, 77, 0, 1), Ipv4Addr::new(11, 77, 0, 2)];
/// The last byte of the last address of a program.
const LAST_PROGRAM: u8 = 20;
/// The last byte of the last address.
const LAST: u8 = 30;

/// Returns the address of program number `index`.
pub fn address_of(index: usize) -> Ipv4Addr {
    let last = 3 + u8::try_from(index).unwrap_or(LAST_PROGRAM);
    Ipv4Addr::new(10, 77, 0, last.min(LAST_PROGRAM))
}

/// Returns the address of seeder number `index` of a benchmark.
pub fn seeder_address(index: usize) -> Ipv4Addr {
    let last = LAST_PROGRAM + 1 + u8::try_from(index).unwrap_or(LAST);
    Ipv4Addr::new(10, 77, 0, last.min(LAST))
}

/// Whether this process runs in the namespace.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Returns the flags of `unshare` for a network namespace, or why there can be none.
pub fn network_flags() -> Result<&'static str, String> {
    first_that_works(["-n", "-rn"], &["ip", "link", "set", "lo", "up"])
}

/// Returns the flags of `unshare` for a mount and network namespace, or why there can be none.
pub fn mount_flags() -> Result<&'static str, String> {
    network_flags()?;
    first_that_works(["-mn", "-rmn"], &["mount", "-t", "tmpfs", "tmpfs", "/tmp"])
}

/// Returns the first flags with which `probe` succeeds in a namespace.
fn first_that_works(ways: [&'static str; 2], probe: &[&str]) -> Result<&'static str, String> {
    for program in ["unshare"].iter().chain(probe.first()) {
        if find_program(program).is_none() {
            return Err(format!("{program} is not installed"));
        }
    }
    let works = |flags: &&str| {
        let mut command = Command::new("unshare");
        command.arg(flags).args(probe);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let refused = format!("this machine allows no namespace (unshare {})", ways.join(", unshare "));
    ways.into_iter().find(works).ok_or(refused)
}

/// Runs a suite of this program inside, with a built `bt_cli`, and prints its output.
pub fn run_suite_inside(
    flags: &str,
    arguments: &[impl AsRef<OsStr>],
    bt_cli: &Path,
) -> Result<Tally> {
    let arguments =
        [OsStr::new("integration")].into_iter().chain(arguments.iter().map(AsRef::as_ref));
    let mut command = command_inside(flags, &std::env::current_exe()?, arguments, bt_cli);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no output to read")?;
    let mut tally = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        tally = Tally::parse(&line);
        if tally.is_none() {
            println!("{line}");
        }
    }
    child.wait()?;
    tally.context("the suite ended without a tally")
}

/// Returns the command that runs `program`, which is this one or another build of it, inside.
pub fn command_inside(
    flags: &str,
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    bt_cli: &Path,
) -> Command {
    let mut command = Command::new("unshare");
    command.arg(flags).arg(program).args(arguments);
    command.env(INSIDE, flags).env(tasks::workspace::BT_CLI, bt_cli);
    command
}

/// Whether we are root only in a user namespace, and cannot change to another user.
pub fn are_users_mapped() -> bool {
    std::env::var_os(INSIDE).is_some_and(|flags| flags == "-rn")
}

/// The interface that the default route leads to. Its other end is in the namespace, too.
const NOWHERE: [&str; 2] = ["nowhere0", "nowhere1"];
/// Networks that tests name where nobody must answer (RFC 5737, RFC 3849).
const NOBODY: [&str; 4] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];

/// Adds the addresses to the namespace, and the interface that counts what would leave it.
pub fn add_addresses() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    add_nowhere()?;
    for last in 1..=LAST {
        ip(&["addr", "add", &format!("10.77.0.{last}/32"), "dev", "lo"])?;
    }
    for address in PUBLIC {
        ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    // Any other address of 10.77.0.0/16 can be bound too: benchmarks have hundreds of peers.
    ip(&["route", "add", "local", "10.77.0.0/16", "dev", "lo"])?;
    ip(&["route", "add", "local", &format!("{PUBLIC_NETWORK}.0.0.0/8"), "dev", "lo"])
}

/// Keeps programs that ask for names of routers from sending to a name server.
pub fn cut_off_name_servers() -> Result<()> {
    let settings = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = settings.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    for server in servers.filter_map(|server| server.trim().parse::<IpAddr>().ok()) {
        if !server.is_loopback() {
            let family = if server.is_ipv4() { "-4" } else { "-6" };
            ip(&[family, "route", "add", "unreachable", &server.to_string()])?;
        }
    }
    Ok(())
}

/// Returns a public address, as far as programs can tell, of a network (/16) of its own. Nodes of
/// the DHT look for nodes in different networks.
pub fn public_address(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(PUBLIC_NETWORK, network, host, 1)
}

/// The addresses in the local network that [`add_lan`] adds.
pub const LAN: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 0, 1), Ipv4Addr::new(10, 78, 0, 2)];

/// Adds an interface for multicast, with the addresses of two machines.
pub fn add_lan() -> Result<()> {
    ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    for end in ["lan0", "lan1"] {
        ip(&["link", "set", end, "addrgenmode", "none"])?;
        ip(&["link", "set", end, "up"])?;
    }
    for address in LAN {
        ip(&["addr", "add", &format!("{address}/24"), "dev", "lan0"])?;
    }
    ip(&["route", "add", "239.192.0.0/16", "dev", "lan0"])
}

/// Adds the interface that nobody uses, and the default routes to it.
fn add_nowhere() -> Result<()> {
    let [one, other] = NOWHERE;
    ip(&["link", "add", one, "type", "veth", "peer", "name", other])?;
    for end in NOWHERE {
        // The kernel sends nothing by itself then.
        ip(&["link", "set", end, "addrgenmode", "none", "arp", "off"])?;
        ip(&["link", "set", end, "up"])?;
    }
    for network in NOBODY {
        ip(&["route", "add", "unreachable", network])?;
    }
    ip(&["route", "add", "default", "dev", one])?;
    ip(&["-6", "route", "add", "default", "dev", one])
}

/// Returns how many packets would have left this machine.
///
/// # Errors
/// `ip` does not say.
pub fn stray_packets() -> Result<u64> {
    let output = Command::new("ip").args(["-s", "-j", "link", "show", NOWHERE[0]]).output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    said[0]["stats64"]["tx"]["packets"].as_u64().context("ip does not count packets")
}

/// Returns a public IPv6 address, as far as programs can tell, of a network (/48) of its own. It can
/// be used once it has been [added](add_v6).
pub fn public_v6(network: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2a00, 0x4500, network.into(), 0, 0, 0, 0, 1)
}

/// Adds addresses of IPv6 to the namespace.
pub fn add_v6(networks: impl IntoIterator<Item = u8>) -> Result<()> {
    for network in networks {
        ip(&["addr", "add", &format!("{}/128", public_v6(network)), "dev", "lo", "nodad"])?;
    }
    Ok(())
}

/// Returns the address of peer number `index` of a benchmark with hundreds of peers.
pub fn numbered_address(index: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(index).unwrap_or(u16::MAX >> 1).to_be_bytes();
    Ipv4Addr::new(10, 77, 1 + high, low)
}

/// Runs `ip`.
pub(super) fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run ip")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), problem.trim());
    Ok(())
}
