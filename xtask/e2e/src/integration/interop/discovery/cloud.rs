//! A DHT of many nodes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::THIRD;
use crate::bt_cli::{BtCli, json_lines};
use crate::clients::{Libtorrent, PORT, namespace};
use tasks::process::{Launch, wait_until};
use tasks::workspace;

/// Transmission asks for peers when it knows more than eight nodes.
const NODES: u8 = 12;
/// How many addresses there are to ask it from, with IPv6.
const ASKERS: u8 = 20;
/// How many nodes each of them must know before it is used.
const KNOWN: u64 = 9;
/// How long that may take.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Whose nodes they are. Those of libtorrent name nodes for minutes that are gone, and programs that
/// ask only now and then are gone soon: they have nodes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Libtorrent,
    Ours,
    /// Asked by libtorrent.
    Items,
    /// Debian's libtorrent, asked by it.
    Debian,
    /// libtorrent's, of IPv6.
    V6,
    /// libtorrent's, for Transmission, which waits for half a minute for nodes that do not answer.
    Quiet,
}

impl Kind {
    pub(super) const COUNT: usize = 6;

    fn addresses(self) -> Vec<SocketAddr> {
        let at = |node| match self {
            Self::V6 => SocketAddr::from((namespace::public_v6(node), PORT)),
            _ => SocketAddr::from((namespace::public_address(node, 1 + self as u8), PORT)),
        };
        (1..=NODES).map(at).collect()
    }
}

/// The nodes of a DHT.
pub(super) struct Cloud {
    _home: TempDir,
    _launches: Vec<Launch>,
    pub(super) nodes: Vec<SocketAddr>,
}

impl Cloud {
    /// Starts the nodes, and waits until they know each other.
    pub(super) fn start(kind: Kind) -> Result<Self> {
        let (home, nodes) = (TempDir::with_prefix("dht-")?, kind.addresses());
        let launches = match kind {
            Kind::Ours => start_ours(&nodes, &home)?,
            Kind::Debian => vec![Libtorrent::debian().start_dht(&nodes, home.path())?],
            Kind::Libtorrent | Kind::Items | Kind::Quiet => {
                vec![Libtorrent::newest()?.start_dht(&nodes, home.path())?]
            }
            Kind::V6 => {
                namespace::add_v6((1..=NODES).chain(THIRD..THIRD + ASKERS))?;
                vec![Libtorrent::newest()?.start_dht(&nodes, home.path())?]
            }
        };
        Ok(Self { _home: home, _launches: launches, nodes })
    }
}

fn start_ours(nodes: &[SocketAddr], home: &TempDir) -> Result<Vec<Launch>> {
    let program = workspace::build_bt_cli()?;
    let start = |node: &SocketAddr| {
        let bt_cli = BtCli::new(&program, &home.path().join(node.ip().to_string()));
        let mut command = bt_cli.command(["dht", "node", "--json"]);
        command.args(["--bind", &node.ip().to_string(), "--port", &PORT.to_string()]);
        // Of a public node that asks it, a node takes notice only after a minute and a half.
        let others = nodes.iter().filter(|other| *other != node);
        bt_cli.start("node", command.args(others.map(|other| format!("--dht-node={other}"))))
    };
    let mut launches = nodes.iter().map(start).collect::<Result<Vec<_>>>()?;
    for launch in &mut launches {
        let known = |launch: &Launch| json_lines(&launch.stdout()).last()?["nodes_v4"].as_u64();
        let knows = |launch: &Launch| known(launch).is_some_and(|count| count >= KNOWN);
        wait_until(START_LIMIT, || knows(launch) || !launch.is_running());
        ensure!(knows(launch), "a node knows too few others\n{}", launch.output_tail());
    }
    Ok(launches)
}
