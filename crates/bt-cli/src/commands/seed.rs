//! `seed`: serves existing data to peers.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use metainfo::Metainfo;
use piece_store::check;
use session::{AddTorrent, Goal};

use crate::address;
use crate::cli::SeedArgs;
use crate::content::{check_folder, missing_content};
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, clean, count};
use crate::saved::SavedTorrents;
use crate::source::{self, Sources};
use crate::transfer::{Transfer, session_config, state_dir, writable_state_dir};

const USAGE: &str = "bt-cli seed <TORRENT>... <DIR>";
/// How many missing files of a torrent are shown.
const SHOWN: usize = 10;

pub(crate) fn run(arguments: &SeedArgs, output: &Output) -> CommandResult {
    let ca_file = arguments.trust.ca_file.as_deref();
    let Some((dir, torrents)) =
        arguments.torrents_and_dir.split_last().filter(|(_, torrents)| !torrents.is_empty())
    else {
        let message = format!("no folder is given: {USAGE}");
        return Err(Failure::usage(message).with("argument", "<DIR>").into());
    };
    check_is_folder(dir)?;
    let dir = Path::new(dir);
    let saved = SavedTorrents::new(state_dir(&arguments.store.state).as_deref());
    let torrents = Sources { ca_file, saved, output }.load_all(torrents)?;
    let (torrents, missing) = split_by_content(torrents, dir)?;
    for (metainfo, failure) in &missing {
        let name = clean(metainfo.info().name());
        output.warn(&format!("{name}: {}", failure.message()));
    }
    let state_dir = writable_state_dir(&arguments.store.state);
    if let Err(failure) = &state_dir {
        output.warn(&format!("seed verifies everything at each start: {}", failure.message()));
    }
    let state_dir = state_dir.ok();
    for metainfo in &torrents {
        warn_of_missing_files(metainfo, dir, state_dir.as_deref(), output);
    }
    let peers = address::resolve_all(&arguments.network.peers)?;
    let config = session_config(&arguments.network, &arguments.trust, state_dir);
    let mut transfer = Transfer::start(config, output)?;
    transfer.show_addresses(output);
    let goal = Goal {
        ratio: arguments.ratio,
        seed_time: arguments.seed_time,
        give_up: true,
        ..Goal::default()
    };
    for (metainfo, failure) in missing {
        transfer.leave_out(&metainfo, failure);
    }
    for metainfo in torrents {
        let mut order = AddTorrent::new(metainfo, dir);
        order.peers.clone_from(&peers);
        order.resume = !arguments.store.no_resume;
        order.seed_only = true;
        order.goal = Some(Box::new(goal));
        transfer.add(&order)?;
    }
    transfer.run().map(drop)
}

/// Refuses a last argument that is a torrent or another file. The user forgot the folder.
fn check_is_folder(last: &OsStr) -> Result<(), Failure> {
    if !source::is_link(last) && !Path::new(last).is_file() {
        return Ok(());
    }
    let got = source::shown(last);
    let message = format!("the last argument is the folder, got {got}: {USAGE}");
    Err(Failure::usage(message).with("argument", "<DIR>"))
}

type Missing = Vec<(Arc<Metainfo>, Failure)>;

/// Separates the torrents without content in `dir`, each with its error.
///
/// # Errors
/// `dir` does not exist, is the content of a torrent, or has nothing of any torrent.
fn split_by_content(
    torrents: Vec<Arc<Metainfo>>,
    dir: &Path,
) -> Result<(Vec<Arc<Metainfo>>, Missing), Failure> {
    let (mut present, mut missing) = (Vec::new(), Missing::new());
    for metainfo in torrents {
        check_folder(&metainfo, dir)?;
        match missing_content(&metainfo, dir) {
            None => present.push(metainfo),
            Some(why) => missing.push((metainfo, Failure::new(Class::BadData, why))),
        }
    }
    if present.is_empty() {
        let why: Vec<&str> = missing.iter().map(|(_, failure)| failure.message()).collect();
        return Err(Failure::new(Class::BadData, why.join("; ")));
    }
    Ok((present, missing))
}

/// Warns of files that are missing or too short, before the session verifies the pieces.
fn warn_of_missing_files(
    metainfo: &Arc<Metainfo>,
    dir: &Path,
    state_dir: Option<&Path>,
    output: &Output,
) {
    // The session reports unreadable files.
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
