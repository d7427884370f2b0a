//! From arguments to what a session wants to know.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use metainfo::{Metainfo, Naming};
use piece_store::is_out_of_descriptors;
use session::{AddError, AddTorrent, SessionConfig, StartError, StoreLayout};

use crate::cli::{NetworkArgs, StateArgs, TrustArgs};
use crate::descriptors;
use crate::failure::{Class, Failure, chain, without_code};
use crate::identity::{CLIENT_NAME, PEER_ID_PREFIX};
use crate::output::Output;

/// A session as the flags describe it.
pub(crate) fn session_config(
    network: &NetworkArgs,
    trust: &TrustArgs,
    state_dir: Option<PathBuf>,
) -> SessionConfig {
    let unlimited = |rate: Option<u64>| rate.filter(|rate| *rate > 0);
    let defaults = SessionConfig::default();
    SessionConfig {
        client_name: CLIENT_NAME.to_owned(),
        peer_id_prefix: PEER_ID_PREFIX,
        max_descriptors: descriptors::raise_limit(),
        ports: network.port.0.clone(),
        bind: network.bind,
        max_down: unlimited(network.max_down),
        max_up: unlimited(network.max_up),
        max_memory: network.max_memory,
        max_peers_per_torrent: network
            .max_peers
            .map_or(defaults.max_peers_per_torrent, usize::from),
        state_dir,
        ca_file: trust.ca_file.clone(),
        announce_ip: network.announce_ip,
        ..defaults
    }
}

/// Where journals are kept: as the user says, else below the user's state folder. `None` if the user
/// has no home folder.
pub(crate) fn state_dir(state: &StateArgs) -> Option<PathBuf> {
    let default = || {
        let base = etcetera::choose_base_strategy().ok()?;
        Some(base.state_dir().unwrap_or_else(|| base.data_dir()).join("bt-cli"))
    };
    state.state_dir.clone().or_else(default)
}

/// As [`state_dir`], for a command that writes to it: the folder exists and can be written.
///
/// # Errors
/// Disk if there is no such folder.
pub(crate) fn writable_state_dir(state: &StateArgs) -> Result<PathBuf, Failure> {
    const RECORD: &str = "cannot keep a record of verified pieces";
    let advice = "choose a folder with --state-dir";
    let dir = state_dir(state).ok_or_else(|| {
        let message = format!("{RECORD}: you have no home folder; {advice}");
        Failure::new(Class::Disk, message)
    })?;
    let probe = fs::create_dir_all(&dir).and_then(|()| tempfile::tempfile_in(&dir));
    probe.map(drop).map_err(|error| {
        let (shown, why) = (dir.display(), without_code(&error.to_string()));
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        let space = if is_full { "free some space, or " } else { "" };
        let message = format!("{RECORD} in {shown}: {why}; {space}{advice}");
        Failure::new(Class::Disk, message)
    })?;
    Ok(dir)
}

/// Why a session does not start.
pub(crate) fn start_failure(error: &StartError) -> Failure {
    let (class, hint) = match error {
        StartError::Listen { source, .. } if source.kind() == ErrorKind::AddrNotAvailable => {
            (Class::Network, "; give an address of this machine with --bind")
        }
        StartError::Listen { source, .. } if is_out_of_descriptors(source.raw_os_error()) => {
            (Class::Failure, "")
        }
        StartError::Listen { .. } => (Class::Network, "; choose another one with --port"),
        StartError::Fetcher(_) => (Class::Disk, ""),
        StartError::Memory { .. } => (Class::Usage, ""),
        _ => (Class::Failure, ""),
    };
    Failure::new(class, chain(error) + hint)
}

/// The class of a torrent that the session refuses.
pub(crate) fn add_class(error: &AddError) -> Class {
    match error {
        AddError::Duplicate { .. } => Class::Usage,
        _ => Class::Failure,
    }
}

/// What the user finds when a torrent is done.
pub(crate) fn output_path(torrent: &AddTorrent) -> PathBuf {
    match &torrent.layout {
        StoreLayout::SinglePiece { output, .. } => output.clone(),
        _ => content_path(&torrent.metainfo, &torrent.folder),
    }
}

/// The file or folder called as the torrent, in `folder`.
pub(crate) fn content_path(metainfo: &Metainfo, folder: &Path) -> PathBuf {
    folder.join(metainfo.info().disk_name())
}

/// Returns why `folder` has nothing of the torrent, if there is no file or folder of its name.
pub(crate) fn missing_content(metainfo: &Metainfo, folder: &Path) -> Option<String> {
    let paths = possible_paths(metainfo);
    if possible_names(&paths).iter().any(|name| folder.join(name).symlink_metadata().is_ok()) {
        return None;
    }
    if folder.is_file() {
        let (file, name) = (folder.display(), metainfo.info().name());
        return Some(format!("{file} is a file: expected the folder that contains {name:?}"));
    }
    let kind = if metainfo.info().is_single_file() { "file" } else { "folder" };
    Some(format!("no {kind} {:?} in {}", metainfo.info().disk_name(), folder.display()))
}

/// Checks that `folder` exists and is not the torrent's content, but the folder that contains it.
///
/// # Errors
/// Disk if `folder` does not exist, usage if it is the content itself.
pub(crate) fn check_folder(metainfo: &Metainfo, folder: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Err(Failure::new(Class::Disk, format!("no such folder: {}", folder.display())));
    }
    let paths = possible_paths(metainfo);
    let names = possible_names(&paths);
    let is_there = |name: &&OsStr| folder.join(name).exists();
    if names.iter().any(is_there) || !is_content(metainfo, folder, &paths) {
        return Ok(());
    }
    // `.` and `..` have a name and a parent too.
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let parent = full.parent().unwrap_or(&full).display().to_string();
    let hint = if full.file_name().is_some_and(|name| names.contains(name)) {
        format!("give the folder it is in: {parent}")
    } else {
        format!("rename it to {:?} and give the folder it is in", metainfo.info().disk_name())
    };
    let message = format!(
        "expected the folder that contains {:?}, got the content itself: {}; {hint}",
        metainfo.info().name(),
        folder.display(),
    );
    Err(Failure::usage(message).with("path", folder.display().to_string()))
}

/// As [`check_folder`], for a download, where it may be meant.
pub(crate) fn warn_of_folder(metainfo: &Metainfo, folder: &Path, output: &Output) {
    // A file is refused by the session.
    if folder.is_dir() && check_folder(metainfo, folder).is_err() {
        output.warn(&format!(
            "{} looks like the content of {:?} itself; the download goes to {}",
            folder.display(),
            metainfo.info().name(),
            content_path(metainfo, folder).display()
        ));
    }
}

/// The paths of the torrent's files under each naming that differs from the others.
fn possible_paths(metainfo: &Metainfo) -> BTreeSet<Vec<PathBuf>> {
    let info = metainfo.info();
    let namings = if info.has_plain_names() { &[Naming::Unix][..] } else { &Naming::ALL };
    namings.iter().map(|naming| info.disk_paths(*naming)).collect()
}

/// The names that the torrent's file or folder may have on disk, given its [`possible_paths`].
fn possible_names(paths: &BTreeSet<Vec<PathBuf>>) -> BTreeSet<&OsStr> {
    paths.iter().flatten().filter_map(|path| path.iter().next()).collect()
}

/// Whether the torrent's files are directly in `folder` under one of the `namings`, or `folder` is
/// the torrent's one file.
fn is_content(metainfo: &Metainfo, folder: &Path, namings: &BTreeSet<Vec<PathBuf>>) -> bool {
    if metainfo.info().is_single_file() {
        return folder.is_file();
    }
    let is_there = |path: &PathBuf| folder.join(path.iter().skip(1).collect::<PathBuf>()).is_file();
    namings.iter().any(|paths| {
        let files = metainfo.info().files().iter().zip(paths);
        let files = files.filter(|(file, _)| !file.is_pad() && file.length() > 0);
        files.take(LOOKED_AT).any(|(_, path)| is_there(path))
    })
}

/// How many of a torrent's files are looked for to recognise its content.
const LOOKED_AT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_descriptors_are_named() {
        let failure = |code| {
            let source = std::io::Error::from_raw_os_error(code);
            start_failure(&StartError::Listen { first: 1, last: 2, bind: None, source })
        };
        let (in_use, too_many) = (failure(98), failure(24));
        assert!(in_use.message().ends_with("; choose another one with --port"));
        assert!(too_many.message().ends_with("(raise the limit with ulimit -n)"));
    }
}
