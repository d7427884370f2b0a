//! Divides the file descriptors of a session between sockets, files and threads. Every bound on
//! open sockets and files comes from here.

use piece_store::Resources;

use crate::config::SessionConfig;
use crate::limits::{
    FETCH_THREADS, FIXED_DESCRIPTORS, HELPER_DESCRIPTORS, MAX_HALF_OPEN, PEER_RESOLVE_THREADS,
    RESOLVE_THREADS,
};

/// All threads that fetch from trackers and look names up.
const HELPERS: usize = FETCH_THREADS + RESOLVE_THREADS + PEER_RESOLVE_THREADS;

/// The parts of a session's descriptors, by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Connections in all.
    pub(crate) connections: usize,
    /// Connections without a complete handshake.
    pub(crate) half_open: usize,
    /// Threads that fetch from HTTP(S) trackers.
    pub(crate) fetch_threads: usize,
    /// Threads that look up trackers' names. One more thread looks up the names of peers.
    pub(crate) resolve_threads: usize,
    /// The store's threads and files.
    pub(crate) store: Resources,
}

impl Descriptors {
    /// Divides [`SessionConfig::max_descriptors`]. If they do not suffice for everything, helper
    /// threads get at most a quarter, and the store five eighths of the rest.
    pub(crate) fn divide(config: &SessionConfig) -> Self {
        let free = config.max_descriptors.saturating_sub(FIXED_DESCRIPTORS);
        let helpers = HELPERS.min(free / 4 / HELPER_DESCRIPTORS);
        let free = free - helpers * HELPER_DESCRIPTORS;
        let workers = config.workers.unwrap_or(0);
        let share = (free * 5 / 8).max(free.saturating_sub(config.max_connections));
        let share = share.min(Resources::with_workers(workers).descriptors());
        let resolve_threads = (helpers / 4).clamp(1, RESOLVE_THREADS);
        Self {
            connections: config.max_connections.min(free - share),
            half_open: MAX_HALF_OPEN.min((free - share) / 2),
            fetch_threads: helpers.saturating_sub(resolve_threads + PEER_RESOLVE_THREADS).max(1),
            resolve_threads,
            store: Resources::within(share, workers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_DESCRIPTORS, MIN_DESCRIPTORS};

    fn divided(max_descriptors: usize, workers: usize) -> Descriptors {
        let workers = Some(workers);
        Descriptors::divide(&SessionConfig { max_descriptors, workers, ..Default::default() })
    }

    #[test]
    fn division_stays_within_descriptors() {
        for descriptors in MIN_DESCRIPTORS..4096 {
            for workers in [1, 2, 64] {
                let divided = divided(descriptors, workers);
                let helpers = divided.fetch_threads + divided.resolve_threads + 1;
                let sockets = divided.connections + helpers * HELPER_DESCRIPTORS;
                let all = FIXED_DESCRIPTORS + sockets + divided.store.descriptors();
                assert!(all <= descriptors, "{descriptors}: {divided:?}");
                assert!(divided.connections >= 8, "{descriptors}: {divided:?}");
                assert!(divided.half_open >= 4, "{descriptors}: {divided:?}");
                assert!(divided.store.open_files >= 6, "{descriptors}: {divided:?}");
            }
        }
    }

    #[test]
    fn default_limit_suffices() {
        let plenty = Descriptors {
            connections: DEFAULT_MAX_CONNECTIONS,
            half_open: MAX_HALF_OPEN,
            fetch_threads: FETCH_THREADS,
            resolve_threads: RESOLVE_THREADS,
            store: Resources::with_workers(8),
        };
        assert_eq!(divided(DEFAULT_MAX_DESCRIPTORS, 8), plenty);
        assert_eq!(divided(usize::MAX / 8, 8), plenty);
    }
}
