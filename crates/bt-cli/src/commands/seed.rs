//! `seed`: serve what is there.

use std::path::Path;
use std::sync::Arc;

use metainfo::Metainfo;
use piece_store::check;
use session::AddTorrent;

use crate::address;
use crate::cli::SeedArgs;
use crate::failure::{Class, Failure, Outcome};
use crate::output::{Output, clean, count};
use crate::source;
use crate::transfer::{
    Goal, Transfer, check_folder, missing_content, session_config, writable_state_dir,
};

/// How many missing files of a torrent are named.
const SHOWN: usize = 10;

pub(crate) fn run(arguments: &SeedArgs, output: &Output) -> Outcome {
    let ca_file = arguments.trust.ca_file.as_deref();
    let Some((dir, torrents)) =
        arguments.torrents_and_dir.split_last().filter(|(_, torrents)| !torrents.is_empty())
    else {
        let message = "no folder is given: bt-cli seed <TORRENT>... <DIR>";
        return Err(Failure::usage(message).with("argument", "<DIR>").into());
    };
    let dir = Path::new(dir);
    let torrents = source::load_all(torrents, ca_file, output)?;
    check_content(&torrents, dir)?;
    let state_dir = writable_state_dir(&arguments.store.state);
    if let Err(failure) = &state_dir {
        output.warn(&format!("verifying everything at each start: {}", failure.message()));
    }
    let state_dir = state_dir.ok();
    for metainfo in &torrents {
        name_missing(metainfo, dir, state_dir.as_deref(), output);
    }
    let peers = address::resolve_all(&arguments.network.peers)?;
    let config = session_config(&arguments.network, &arguments.trust, state_dir)?;
    let mut transfer = Transfer::start(&config, output)?;
    transfer.show_addresses(output);
    let goal = Goal {
        seed: true,
        ratio: arguments.ratio,
        seed_time: arguments.seed_time,
        seed_only: true,
        ..Goal::default()
    };
    for metainfo in torrents {
        let mut order = AddTorrent::new(metainfo, dir);
        order.peers.clone_from(&peers);
        order.resume = !arguments.store.no_resume;
        order.seed_only = true;
        transfer.add(order, goal)?;
    }
    transfer.run().map(drop)
}

/// Refuses a folder that has nothing of any torrent. Of several torrents only some may be there.
fn check_content(torrents: &[Arc<Metainfo>], dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        return Err(Failure::new(Class::Disk, format!("no such folder: {}", dir.display())));
    }
    let mut missing = Vec::new();
    for metainfo in torrents {
        check_folder(metainfo, dir)?;
        missing.extend(missing_content(metainfo, dir));
    }
    if missing.len() < torrents.len() {
        return Ok(());
    }
    Err(Failure::new(Class::BadData, missing.join("; ")))
}

/// Files that can't be whole are named at once; the check tells how many pieces verify.
fn name_missing(metainfo: &Arc<Metainfo>, dir: &Path, state_dir: Option<&Path>, output: &Output) {
    if missing_content(metainfo, dir).is_some() {
        return;
    }
    // The check reports unreadable files.
    let paths = check::paths_in(metainfo, dir, state_dir).unwrap_or_default();
    let files = metainfo.info().files().iter().zip(paths).filter(|(file, _)| !file.is_pad());
    let missing: Vec<String> = files
        .filter(|(file, path)| {
            let on_disk = dir.join(path).metadata();
            on_disk.map_or(true, |on_disk| on_disk.len() < file.length())
        })
        .map(|(file, _)| clean(file.original_path()))
        .collect();
    for path in missing.iter().take(SHOWN) {
        output.warn(&format!("missing or too short: {path}"));
    }
    if missing.len() > SHOWN {
        let more = count(missing.len() - SHOWN, "more file", "more files");
        output.warn(&format!(".. and {more}"));
    }
}
