//! `download`: downloads torrents into a folder.

use session::{AddTorrent, Goal};

use crate::address;
use crate::cli::DownloadArgs;
use crate::content::warn_of_folder;
use crate::failure::{CommandResult, Failure};
use crate::output::Output;
use crate::selection::Selection;
use crate::source;
use crate::transfer::{Transfer, session_config, writable_state_dir};

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
    let ca_file = arguments.trust.ca_file.as_deref();
    let torrents = source::load_all(&arguments.torrents, ca_file, output)?;
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
        order.goal = Some(Box::new(goal(arguments)));
        orders.push(order);
    }
    let state_dir = writable_state_dir(&arguments.store.state)?;
    let config = session_config(&arguments.network, &arguments.trust, Some(state_dir));
    let mut transfer = Transfer::start(&config, output)?;
    for order in orders {
        transfer.add(&order)?;
    }
    transfer.run().map(drop)
}

fn goal(arguments: &DownloadArgs) -> Goal {
    let seed = arguments.seed || arguments.ratio.is_some() || arguments.seed_time.is_some();
    let stall = arguments.stall_timeout;
    Goal {
        stop_when_complete: !seed,
        ratio: arguments.ratio,
        seed_time: arguments.seed_time,
        timeout: arguments.timeout,
        stall_timeout: (!stall.is_zero()).then_some(stall),
        give_up: true,
    }
}
