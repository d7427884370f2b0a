//! `dht peers`: looks for peers of a torrent in the DHT.

use std::net::SocketAddr;

use bt_types::InfoHashV1;
use serde_json::{Value, json};
use session::node::{Announce, Stats};

use super::link;
use crate::cli::DhtTorrentArgs;
use crate::dht_asker::{DhtAsker, stats_line};
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, Style, count};

pub(super) fn run(arguments: &DhtTorrentArgs, output: &Output) -> CommandResult {
    let link = link(&arguments.torrent)?;
    let info_hash = link.info_hashes.wire();
    let mut asker = DhtAsker::start(&arguments.ask, link.dht_nodes.clone())?;
    let answer = asker.node.find_peers(info_hash, Announce::No, arguments.ask.timeout);
    let (peers, stats) = (answer.found, asker.check(answer.stats)?);
    if output.json() || !peers.is_empty() {
        let text = |style| text(&peers, &stats, style);
        output.result(|| object(info_hash, &peers, &stats), text)?;
    }
    if !peers.is_empty() {
        return Ok(());
    }
    let nodes = count(stats.answered, "node", "nodes");
    let message = format!("no peer is known to the DHT: {nodes} answered; try again later");
    Err(Failure::new(Class::Network, message).into())
}

fn object(info_hash: InfoHashV1, peers: &[SocketAddr], stats: &Stats) -> Value {
    json!({
        "info_hash": info_hash.to_string(),
        "peers": peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "nodes_asked": stats.asked,
        "seconds": stats.elapsed.as_secs_f64(),
    })
}

fn text(peers: &[SocketAddr], stats: &Stats, style: Style) -> String {
    let first = stats_line(&format!("peers {}", peers.len()), stats, style);
    let peers = peers.iter().map(ToString::to_string);
    [first, String::new()].into_iter().chain(peers).collect::<Vec<_>>().join("\n")
}
