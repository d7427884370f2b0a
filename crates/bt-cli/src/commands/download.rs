//! `download`: downloads torrents into a folder.

use std::sync::Arc;

use session::{AddTorrent, Description, Goal};

use crate::address;
use crate::cli::DownloadArgs;
use crate::content::warn_of_folder;
use crate::failure::{CommandResult, Failure};
use crate::output::Output;
use crate::saved::SavedTorrents;
use crate::selection::Selection;
use crate::source::{NamedTorrent, Sources};
use crate::transfer::{
    MetadataPlan, Transfer, selected, session_config, state_dir, writable_state_dir,
};

pub(crate) fn run(arguments: &DownloadArgs, output: &Output) -> CommandResult {
    if arguments.output.as_os_str() == "-" {
        let message = "a download cannot go to standard output: give a folder with -o (./- for one \
            called -), or use bt-cli download_piece -o - for one piece";
        return Err(Failure::usage(message).into());
    }
    let selection = Selection::parse(&arguments.files);
    if selection.as_ref().is_some_and(Selection::has_numbers) && arguments.torrents.len() > 1 {
        let message = "file numbers are for one torrent only; \
            name files, or give a pattern such as '*.flac'";
        return Err(Failure::usage(message).into());
    }
    let peers = address::resolve_all(&arguments.network.peers)?;
    let saved = SavedTorrents::new(state_dir(&arguments.store.state).as_deref());
    let ca_file = arguments.trust.ca_file.as_deref();
    let sources = Sources { ca_file, saved: saved.clone(), output };
    let torrents = sources.describe_all(&arguments.torrents)?;
    check_save_path(arguments, torrents.len())?;
    let (mut orders, mut known) = (Vec::new(), Vec::new());
    for torrent in torrents {
        if torrent.link.is_some() {
            known.extend(torrent.description.metainfo().cloned());
        }
        let mut order = order(&torrent, selection.as_ref(), arguments, output)?;
        order.peers.extend(&peers);
        order.resume = !arguments.store.no_resume;
        order.overwrite = arguments.overwrite;
        order.preallocate = arguments.preallocate;
        order.goal = Some(Box::new(goal(arguments)));
        orders.push(order);
    }
    let state_dir = writable_state_dir(&arguments.store.state)?;
    let config = session_config(&arguments.network, &arguments.trust, Some(state_dir));
    let mut transfer = Transfer::start(config, output)?;
    let plan = MetadataPlan {
        saved,
        save_to: arguments.save_torrent.clone(),
        download_to: Some(arguments.output.clone()),
        selection,
    };
    known.iter().for_each(|metainfo| plan.save(metainfo, output));
    transfer.set_metadata_plan(plan);
    for order in orders {
        transfer.add(&order)?;
    }
    transfer.run().map(drop)
}

/// Returns the order for a torrent, whose files are selected if they are known.
fn order(
    torrent: &NamedTorrent,
    selection: Option<&Selection>,
    arguments: &DownloadArgs,
    output: &Output,
) -> Result<AddTorrent, Failure> {
    let link = torrent.link.as_deref();
    let metainfo = match &torrent.description {
        Description::Metainfo(metainfo) => metainfo,
        Description::Link(link) => {
            let mut order = AddTorrent::from_link(Arc::clone(link), &arguments.output);
            order.await_selection = selection.is_some() || !link.select_only.is_empty();
            let further = torrent.further_trackers.clone();
            order.further_trackers = (!further.is_empty()).then(|| Box::new(further));
            return Ok(order);
        }
    };
    warn_of_folder(metainfo, &arguments.output, output);
    let mut order = AddTorrent::new(Arc::clone(metainfo), &arguments.output);
    order.selected = selected(selection, metainfo, link)?;
    let hints = link.map(|link| link.peers.as_slice()).unwrap_or_default();
    // A hint that cannot be looked up is no reason to fail.
    order.peers = hints.iter().filter_map(|peer| address::resolve(peer).ok()).flatten().collect();
    Ok(order)
}

/// Checks where the `.torrent` files of links are to be saved.
fn check_save_path(arguments: &DownloadArgs, torrents: usize) -> Result<(), Failure> {
    let Some(path) = &arguments.save_torrent else { return Ok(()) };
    let shown = path.display();
    if torrents > 1 && !path.is_dir() {
        let message = format!("expected a folder for the .torrent files of several links: {shown}");
        return Err(Failure::usage(message + " is none").with("argument", "--save-torrent"));
    }
    Ok(())
}

fn goal(arguments: &DownloadArgs) -> Goal {
    let seed = arguments.seed || arguments.ratio.is_some() || arguments.seed_time.is_some();
    let (stall, metadata) = (arguments.stall_timeout, arguments.metadata_timeout);
    Goal {
        stop_when_complete: !seed,
        ratio: arguments.ratio,
        seed_time: arguments.seed_time,
        timeout: arguments.timeout,
        metadata_timeout: (!metadata.is_zero()).then_some(metadata),
        stall_timeout: (!stall.is_zero()).then_some(stall),
        give_up: true,
    }
}
