//! How a program looks for peers besides asking trackers, and a local network for that.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::namespace::ip;
use tasks::process::{Launch, wait_until, within};

/// How a program looks for peers besides asking trackers.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// The nodes by which it joins the DHT; if there are none, it has no DHT.
    pub dht_nodes: Vec<SocketAddr>,
    /// Whether it exchanges peers with peers (BEP 11).
    pub pex: bool,
    /// The network where it looks for local peers (BEP 14): bt-cli is at the near end of it, other
    /// programs at the far end.
    pub lan: Option<Arc<Lan>>,
}

/// How long the far namespace may take to appear.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A network of two machines, as far as programs can tell: this namespace, and another one at the
/// far end, which has no way out.
pub struct Lan {
    number: u8,
    /// The name of the interface at the far end.
    interface: String,
    /// A process that keeps the far namespace.
    holder: Launch,
}

impl std::fmt::Debug for Lan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lan").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Lan {
    /// Makes a network with this number.
    ///
    /// # Errors
    /// This machine does not allow it.
    pub fn new(number: u8, home: &Path) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["-n", "sleep", "infinity"]);
        let mut holder = Launch::start("lan", &command, home)?.with_short_grace();
        let own = fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", holder.id());
        let is_apart = || fs::read_link(&theirs).is_ok_and(|theirs| theirs != own);
        let is_apart = wait_until(START_LIMIT, || !holder.is_running() || is_apart());
        ensure!(is_apart && holder.is_running(), "no namespace\n{}", holder.output_tail());
        let lan = Self { number, interface: format!("far{number}"), holder };
        lan.connect()?;
        Ok(lan)
    }

    fn connect(&self) -> Result<()> {
        let (near, far) = (format!("near{}", self.number), self.interface.as_str());
        let id = self.holder.id().to_string();
        ip(&["link", "add", &near, "type", "veth", "peer", "name", far, "netns", &id])?;
        ip(&["addr", "add", &format!("{}/24", self.near()), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        self.far_ip(&["link", "set", "lo", "up"])?;
        self.far_ip(&["addr", "add", &format!("{}/24", self.far()), "dev", far])?;
        self.far_ip(&["link", "set", far, "up"])?;
        // Some programs leave the choice of the interface to the kernel.
        self.far_ip(&["route", "add", "224.0.0.0/4", "dev", far])
    }

    fn far_ip(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        let output = self.inside(command.args(arguments)).output()?;
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), problem.trim());
        Ok(())
    }

    /// Returns the address of this namespace in the network.
    pub fn near(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.number, 1)
    }

    /// Returns the address at the far end.
    pub fn far(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.number, 2)
    }

    /// Returns the name of the interface at the far end.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Returns the command that runs at the far end.
    pub fn inside(&self, command: &Command) -> Command {
        let namespace = format!("--net=/proc/{}/ns/net", self.holder.id());
        within(&["nsenter", &namespace, "--"], command)
    }
}
