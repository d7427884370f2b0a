//! `seed`: serve what is there.

use std::path::Path;
use std::sync::Arc;

use metainfo::Metainfo;
use piece_store::check;
use session::AddTorrent;

use crate::address;
use crate::cli::SeedArgs;
use crate::failure::{Class, Failure, Outcome};
use crate::output::{Output, clean};
use crate::source;
use crate::transfer::{Goal, Transfer, check_folder, session_config, state_dir};

/// How many missing files are named.
const SHOWN: usize = 10;

pub(crate) fn run(arguments: &SeedArgs, output: &Output) -> Outcome {
    let metainfo = Arc::new(source::load(&arguments.source, output)?);
    let dir = &arguments.dir;
    if !dir.exists() {
        return Err(Failure::new(Class::Disk, format!("no such folder: {}", dir.display())).into());
    }
    check_folder(&metainfo, dir)?;
    let state_dir = state_dir(&arguments.store.state)?;
    name_missing(&metainfo, dir, &state_dir, output);
    let mut order = AddTorrent::new(metainfo, dir);
    order.peers = address::resolve_all(&arguments.network.peers)?;
    order.resume = !arguments.store.no_resume;
    order.seed_only = true;

    let config = session_config(&arguments.network, &arguments.source.trust, Some(state_dir));
    let mut transfer = Transfer::start(&config, output)?;
    let goal = Goal {
        seed: true,
        ratio: arguments.ratio,
        seed_time: arguments.seed_time,
        serve_only: true,
        ..Goal::default()
    };
    transfer.add(order, goal)?;
    transfer.run().map(drop)
}

/// Files that can't be whole are named at once; the check tells how many pieces verify.
fn name_missing(metainfo: &Arc<Metainfo>, dir: &Path, state_dir: &Path, output: &Output) {
    // The check reports unreadable files.
    let paths = check::paths_in(metainfo, dir, Some(state_dir)).unwrap_or_default();
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
        output.warn(&format!(".. and {} files more", missing.len() - SHOWN));
    }
}
