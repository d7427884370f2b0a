//! `dht scrape`: asks the DHT how many peers a torrent has.

use serde_json::json;

use super::link;
use crate::cli::DhtTorrentArgs;
use crate::dht_asker::{DhtAsker, counts_text, stats_line};
use crate::failure::CommandResult;
use crate::output::Output;

pub(super) fn run(arguments: &DhtTorrentArgs, output: &Output) -> CommandResult {
    let link = link(&arguments.torrent)?;
    let info_hash = link.info_hashes.wire();
    let mut asker = DhtAsker::start(&arguments.ask, link.dht_nodes.clone())?;
    let answer = asker.node.scrape(info_hash, arguments.ask.timeout);
    let (counts, stats) = (answer.found, asker.check(answer.stats)?);
    let object = || {
        json!({
            "info_hash": info_hash.to_string(),
            "seeders": counts.seeds,
            "leechers": counts.peers,
            "nodes_asked": stats.asked,
            "seconds": stats.elapsed.as_secs_f64(),
        })
    };
    output.result(object, |style| stats_line(&counts_text(counts), &stats, style))
}
