//! One program announces itself in a DHT, and the other one has nothing but a link.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::cloud::Kind;
use super::{LEECHER, Plan, SEEDER, Suite, THIRD, is_connected, party};
use crate::bt_cli::BtCli;
use crate::clients::{Discovery, Program, namespace};
use crate::integration::interop::Peer;
use crate::integration::interop::transfer::{Party, Side, payload};
use tasks::process::wait_until_every;
use tasks::workspace;

/// The programs that may take more than a minute to announce themselves.
const SLOW: &[&str] = &["transmission", "rtorrent"];
/// How long a program may take to join the DHT and announce itself. Transmission asks for nodes every
/// 15 s, and waits until it knows enough of them.
pub(super) const ANNOUNCE_LIMIT: Duration = Duration::from_secs(180);
/// The same for a program to join the DHT and look for peers.
const LOOKUP_LIMIT: Duration = ANNOUNCE_LIMIT;
/// How often we look for the announce.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Seen on the wire with 0.9.8, which dialled 54.58.45.101, the bytes of `6:` and of 45.101.
const MISREADS: &str =
    "it takes the first bytes of the list of peers, `6:` included, for an address";

/// Adds the cases.
pub(super) fn add_cases<'a>(suite: Suite<'a>, peers: &'a [Peer], plan: &mut Plan<'a>) {
    for peer in peers.iter().filter(|peer| suite.wants("dht", peer.program.name())) {
        let (theirs, ours) = (peer.program.as_ref(), suite.ours);
        let direction = "it announces itself in a DHT of libtorrent, bt-cli has a link";
        let kind = if theirs.name() == "transmission" { Kind::Quiet } else { Kind::Libtorrent };
        if !suite.options.short || !SLOW.contains(&theirs.name()) {
            plan.clouds.insert(kind);
            plan.add(peer, direction, move |number| {
                through_dht(number, theirs, ours, &suite.fixtures.cloud(kind)?.nodes)
            });
        }
        let direction = "bt-cli announces itself in its DHT, it has a link";
        if theirs.name() == "rtorrent" {
            plan.skip(peer, direction, MISREADS);
            continue;
        }
        plan.clouds.insert(Kind::Ours);
        plan.add(peer, direction, move |number| {
            through_dht(number, ours, theirs, &suite.fixtures.cloud(Kind::Ours)?.nodes)
        });
    }
}

/// `seeder` announces itself in the DHT of `nodes`, and `leecher` finds it there.
fn through_dht(
    number: u8,
    seeder: &dyn Program,
    leecher: &dyn Program,
    nodes: &[SocketAddr],
) -> Result<()> {
    let base = TempDir::with_prefix("interop-")?;
    // qBittorrent has no other way to know a node.
    let payload = payload().seed(number.into()).node(nodes[0]).create_in(base.path())?;
    let [seeder, leecher] = [(seeder, SEEDER), (leecher, LEECHER)]
        .map(|(program, network)| (party(program, network, number), discovery(program, nodes)));
    let seeder = Party { discovery: Some(&seeder.1), ..seeder.0 };
    let seeding = Side::seed(seeder, &payload, base.path())?;
    let is_ours = leecher.0.program.name() == "bt-cli";
    if !is_ours {
        // The others look for peers once, and then after minutes.
        let hash = payload.info_hash().to_string();
        wait_for_announce(&base.path().join("asker"), (number, nodes[0]), &hash, seeder.address())
            .with_context(|| seeding.launch.output_tail())?;
    }
    let hint = if is_ours { String::new() } else { format!("&dht={}", nodes[0]) };
    let link = payload.magnet() + &hint;
    let leecher = Party { discovery: Some(&leecher.1), ..leecher.0 };
    let mut leeching = Side::download(leecher, Path::new(&link), base.path())?;
    let complete = leeching.complete_within(LOOKUP_LIMIT, &payload);
    complete.with_context(|| seeding.launch.output_tail())?;
    if is_ours {
        let is_found = is_connected(&leeching.launch, seeder, "dht");
        ensure!(is_found, "not by the DHT\n{}", leeching.launch.output_tail());
    }
    Ok(())
}

/// Returns how a program joins the DHT of `nodes`: bt-cli needs to know one of them.
fn discovery(program: &dyn Program, nodes: &[SocketAddr]) -> Discovery {
    let known = if program.name() == "bt-cli" { &nodes[..1] } else { nodes };
    Discovery { dht_nodes: known.to_vec(), ..Discovery::default() }
}

/// Waits until bt-cli finds `seeder` in the DHT.
fn wait_for_announce(
    home: &Path,
    (number, node): (u8, SocketAddr),
    info_hash: &str,
    seeder: SocketAddr,
) -> Result<()> {
    let bt_cli = BtCli::new(&workspace::build_bt_cli()?, home);
    let (ip, node) = (namespace::public_address(THIRD, number).to_string(), node.to_string());
    let arguments = ["dht", "peers", info_hash, "--bind", &ip, "--dht-node", &node];
    let finds = || {
        let peers = bt_cli.json("peers", arguments).ok()?["peers"].as_array()?.clone();
        Some(peers.contains(&seeder.to_string().into()))
    };
    let is_found = wait_until_every(LOOK_INTERVAL, ANNOUNCE_LIMIT, || finds() == Some(true));
    ensure!(is_found, "it did not announce itself in the DHT");
    Ok(())
}
