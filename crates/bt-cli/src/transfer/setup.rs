//! The configuration of a session from the arguments, and the errors of starting it.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use etcetera::BaseStrategy;
use piece_store::is_out_of_descriptors;
use session::{AddError, AddTorrent, DhtConfig, SessionConfig, StartError, StoreLayout};

use crate::cli::{DiscoveryArgs, JoinArgs, NetworkArgs, Routers, StateArgs, TrustArgs};
use crate::content::content_path;
use crate::descriptors;
use crate::failure::{Class, Failure, chain, without_code};
use crate::identity::{CLIENT_NAME, PEER_ID_PREFIX};

/// Returns the configuration that the flags describe.
pub(crate) fn session_config(
    network: &NetworkArgs,
    trust: &TrustArgs,
    state_dir: Option<PathBuf>,
) -> SessionConfig {
    let unlimited = |rate: Option<u64>| rate.filter(|rate| *rate > 0);
    let defaults = SessionConfig::default();
    SessionConfig {
        bind: network.bind,
        max_down: unlimited(network.max_down),
        max_up: unlimited(network.max_up),
        max_memory: network.max_memory,
        max_peers_per_torrent: network
            .max_peers
            .map_or(defaults.max_peers_per_torrent, usize::from),
        state_dir,
        announce_ip: network.announce_ip,
        pex: !network.no_pex,
        ..discovery_config(&network.discovery, trust)
    }
}

/// Returns the configuration of a session that looks for peers as the flags say.
pub(crate) fn discovery_config(discovery: &DiscoveryArgs, trust: &TrustArgs) -> SessionConfig {
    SessionConfig {
        client_name: CLIENT_NAME.to_owned(),
        peer_id_prefix: PEER_ID_PREFIX,
        max_descriptors: descriptors::raise_limit(),
        ports: discovery.port.0.clone(),
        ca_file: trust.ca_file.clone(),
        lsd: !discovery.no_lsd && !is_local(),
        dht: (!discovery.dht.no_dht).then(|| dht_config(&discovery.dht.join)),
        ..SessionConfig::default()
    }
}

/// Returns the configuration of a node that joins the DHT as the flags say.
pub(crate) fn dht_config(join: &JoinArgs) -> DhtConfig {
    let mut config = DhtConfig { nodes: join.dht_nodes.clone(), ..DhtConfig::new() };
    if let Some(Routers(routers)) = &join.dht_routers {
        config.routers.clone_from(routers);
    } else if is_local() {
        config.routers.clear();
    }
    config
}

/// Whether the user wants this program to keep to this machine, as tests do.
fn is_local() -> bool {
    std::env::var_os("BT_CLI_LOCAL").is_some_and(|value| value == "1")
}

/// Returns the folder for journals: the one that the user gave, else `bt-cli` in the user's state
/// folder. `None` if the user has no home folder.
pub(crate) fn state_dir(state: &StateArgs) -> Option<PathBuf> {
    let default = || {
        let base = etcetera::choose_base_strategy().ok()?;
        Some(base.state_dir().unwrap_or_else(|| base.data_dir()).join("bt-cli"))
    };
    state.state_dir.clone().or_else(default)
}

/// Returns [`state_dir`] for a command that writes to it. Creates it if it does not exist.
///
/// # Errors
/// Disk if there is no home folder, or the folder cannot be created or written to.
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

/// Returns the failure for a session that does not start.
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

/// Returns the class of the error for a torrent that the session refuses.
pub(crate) fn add_class(error: &AddError) -> Class {
    match error {
        AddError::Duplicate { .. } | AddError::OnlyV2 => Class::Usage,
        _ => Class::Failure,
    }
}

/// Returns the path of the torrent's file or folder, or of the single piece. Before the metadata
/// is there, the folder to download into.
pub(crate) fn output_path(torrent: &AddTorrent) -> PathBuf {
    match &torrent.layout {
        StoreLayout::SinglePiece { output, .. } => output.clone(),
        StoreLayout::Torrent => match torrent.description.metainfo() {
            Some(metainfo) => content_path(metainfo, &torrent.folder),
            None => torrent.folder.to_path_buf(),
        },
    }
}

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
