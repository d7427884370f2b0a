//! opentracker, as packaged by Debian: it serves only listed torrents.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::clients::namespace;
use tasks::process::{Launch, find_program, wait_until};

/// The port that it listens on, over HTTP and UDP.
const PORT: u16 = 16969;
const START_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Opentracker {
    _running: Launch,
    address: SocketAddr,
}

impl Opentracker {
    /// Returns why it can't run here; `None` if it can.
    pub(super) fn obstacle() -> Option<&'static str> {
        if find_program("opentracker").is_none() {
            return Some("not installed");
        }
        namespace::are_users_mapped().then_some("it cannot change its user in a user namespace")
    }

    /// Returns the version of the package, because the program prints none.
    pub(super) fn version() -> String {
        let ask = ["-W", "-f=${Version}", "opentracker"];
        tasks::process::output_of("dpkg-query", ask).unwrap_or_else(|| "?".to_owned())
    }

    /// Starts it at `ip` for the torrents with these info-hashes in hex.
    pub(super) fn start(ip: Ipv4Addr, info_hashes: &[String], home: &Path) -> Result<Self> {
        fs::create_dir_all(home)?;
        fs::write(home.join("whitelist"), info_hashes.join("\n") + "\n")?;
        let mut command = Command::new("opentracker");
        command.args(["-i", &ip.to_string(), "-p", &PORT.to_string(), "-P", &PORT.to_string()]);
        command.args(["-u", "nobody", "-w", "whitelist", "-d"]).arg(home);
        make_readable(home)?;
        let mut launch = Launch::start("opentracker", &command, home)?;
        let address = SocketAddr::from((ip, PORT));
        let up =
            wait_until(START_LIMIT, || !launch.is_running() || TcpStream::connect(address).is_ok());
        if !up || !launch.is_running() {
            bail!("opentracker does not answer\n{}", launch.output_tail());
        }
        Ok(Self { _running: launch, address })
    }

    pub(super) fn http_url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    pub(super) fn udp_url(&self) -> String {
        format!("udp://{}/announce", self.address)
    }
}

/// Makes the list readable for the user that opentracker changes to.
fn make_readable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let temporary = std::env::temp_dir();
    let ours = folder.ancestors().take_while(|folder| **folder != *temporary);
    for folder in ours.filter(|folder| folder.starts_with(&temporary)) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(fs::set_permissions(folder.join("whitelist"), fs::Permissions::from_mode(0o644))?)
}
