//! `info` of a link: shows what the link says, or fetches the metadata from peers.

use std::sync::Arc;

use metainfo::{Magnet, Metainfo};
use serde_json::{Value, json};
use session::{AddTorrent, Goal};

use super::listed;
use crate::address;
use crate::cli::InfoArgs;
use crate::dht_asker::saved_nodes;
use crate::failure::{Class, End, Failure};
use crate::output::{Output, Style, clean, size_exactly};
use crate::saved::SavedTorrents;
use crate::transfer::{MetadataPlan, Transfer, discovery_config};

/// Fetches the torrent of a link from peers. Nothing is downloaded.
///
/// # Errors
/// Network if no peer sends the metadata in time, bad torrent if it is of no use.
pub(super) fn fetch(
    link: &Arc<Magnet>,
    saved: SavedTorrents,
    arguments: &InfoArgs,
    output: &Output,
) -> Result<Arc<Metainfo>, End> {
    let limit = arguments.metadata_timeout;
    // The folder is not used.
    let mut order = AddTorrent::from_link(Arc::clone(link), ".");
    order.await_selection = true;
    order.peers = address::resolve_all(&arguments.peers)?;
    order.goal = Some(Box::new(Goal {
        metadata_timeout: (!limit.is_zero()).then_some(limit),
        give_up: true,
        ..Goal::default()
    }));
    let mut config = discovery_config(&arguments.discovery, &arguments.source.trust);
    if let Some(dht) = &mut config.dht {
        dht.read_only = true;
        dht.state = saved_nodes();
    }
    let mut transfer = Transfer::start(config, output)?;
    transfer.print_no_results();
    let (save_to, download_to, selection) = (None, None, None);
    transfer.set_metadata_plan(MetadataPlan { saved, save_to, download_to, selection });
    transfer.add(&order)?;
    let done = transfer.run()?;
    let metainfo = done.first().and_then(|torrent| torrent.description.metainfo()).cloned();
    metainfo.ok_or_else(|| Failure::new(Class::Network, "no peer sent the metadata").into())
}

/// Returns what a link says.
pub(super) fn object(link: &Magnet) -> Value {
    let select: Vec<String> = link.select_only.iter().map(range_text).collect();
    json!({
        "info_hash": link.info_hashes.wire().to_string(),
        "name": link.name,
        "size": link.length,
        "trackers": link.trackers,
        "web_seeds": link.web_seeds,
        "peers": link.peers,
        "select": select,
    })
}

/// Returns what a link says, for people.
pub(super) fn text(link: &Magnet, style: Style) -> String {
    let mut rows = vec![("info-hash".to_owned(), link.info_hashes.wire().to_string())];
    rows.extend(link.name.as_deref().map(|name| ("name".to_owned(), clean(name))));
    rows.extend(link.length.map(|length| ("size".to_owned(), size_exactly(length))));
    rows.extend(listed("trackers", &link.trackers));
    rows.extend(listed("web seeds", &link.web_seeds));
    rows.extend(listed("peers", &link.peers));
    let select: Vec<String> = link.select_only.iter().map(range_text).collect();
    rows.extend(listed("files", &[select.join(",")]).filter(|_| !select.is_empty()));
    super::table(&rows, style)
}

fn range_text(range: &std::ops::RangeInclusive<u32>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    }
}
