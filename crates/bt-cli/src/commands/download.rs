//! `download`: torrents, into a folder, verified.

use std::collections::BTreeSet;
use std::sync::Arc;

use metainfo::Metainfo;
use session::AddTorrent;

use crate::address;
use crate::cli::DownloadArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, clean};
use crate::selection::Selection;
use crate::source;
use crate::transfer::{Goal, Transfer, session_config, state_dir, warn_of_folder};

pub(crate) fn run(arguments: &DownloadArgs, output: &Output) -> Outcome {
    let selection = Selection::parse(&arguments.files)?;
    if selection.as_ref().is_some_and(Selection::has_numbers) && arguments.torrents.len() > 1 {
        let message =
            "file numbers go with one torrent only; name files by a glob such as '*.flac'";
        return Err(Failure::usage(message).into());
    }
    let peers = address::resolve_all(&arguments.network.peers)?;
    let torrents = load(arguments, output)?;
    let mut orders = Vec::new();
    for metainfo in torrents {
        warn_of_folder(&metainfo, &arguments.output, output);
        let selected =
            selection.as_ref().map(|selection| selection.apply(&metainfo)).transpose()?;
        let mut order = AddTorrent::new(metainfo, &arguments.output);
        order.selected = selected;
        order.peers.clone_from(&peers);
        order.resume = !arguments.store.no_resume;
        order.overwrite = arguments.overwrite;
        order.preallocate = arguments.preallocate;
        orders.push(order);
    }
    let state_dir = state_dir(&arguments.store.state)?;
    let config = session_config(&arguments.network, &arguments.trust, Some(state_dir));
    let mut transfer = Transfer::start(&config, output)?;
    for order in orders {
        transfer.add(order, goal(arguments))?;
    }
    transfer.run().map(drop)
}

/// Every torrent once.
fn load(arguments: &DownloadArgs, output: &Output) -> Result<Vec<Arc<Metainfo>>, Failure> {
    let (mut torrents, mut seen) = (Vec::new(), BTreeSet::new());
    for torrent in &arguments.torrents {
        let metainfo = source::load_from(torrent, arguments.trust.ca_file.as_deref(), output)?;
        if seen.insert(metainfo.info_hash()) {
            torrents.push(Arc::new(metainfo));
        } else {
            output.warn(&format!("{} is named twice", clean(metainfo.info().name())));
        }
    }
    Ok(torrents)
}

fn goal(arguments: &DownloadArgs) -> Goal {
    let stall = arguments.stall_timeout;
    Goal {
        seed: arguments.seed || arguments.ratio.is_some() || arguments.seed_time.is_some(),
        ratio: arguments.ratio,
        seed_time: arguments.seed_time,
        timeout: arguments.timeout,
        stall_timeout: (!stall.is_zero()).then_some(stall),
        serve_only: false,
    }
}
