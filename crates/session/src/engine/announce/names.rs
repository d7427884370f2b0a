//! A cache of names, so that a thousand torrents on one tracker look it up once; and the peers that
//! trackers gave by name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bt_types::{PeerHost, TrackerPeer};
use piece_store::TorrentKey;
use swarm::Source;

use crate::limits::{
    MAX_AWAITED_PEER_NAMES, MAX_NAMES, MAX_PEER_NAMES, NAME_FAILURE_LIFETIME, NAME_LIFETIME,
};

/// The addresses of a name, or the error of the look-up.
pub type Resolved = Result<Vec<IpAddr>, String>;

/// What is known about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It was looked up lately.
    Known(Resolved),
    /// The caller must have it looked up.
    Ask,
    /// It is being looked up.
    Asked,
}

#[derive(Debug)]
enum Entry {
    /// `of_peer`: the look-up waits behind those of other peers' names.
    Asked {
        of_peer: bool,
    },
    Known {
        result: Resolved,
        until: Duration,
    },
}

/// A peer whose name is being looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NamedPeer {
    pub(super) torrent: TorrentKey,
    pub(super) port: u16,
    /// Who gave the name.
    pub(super) source: Source,
}

/// The cache of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    entries: BTreeMap<String, Entry>,
    /// Peers whose names are being looked up.
    peers: BTreeMap<String, Vec<NamedPeer>>,
}

impl Names {
    /// Looks `host` up, the name of a peer or a tracker, or an address. A tracker's name that is
    /// being looked up as a peer's is looked up again, so that it does not wait behind those of
    /// peers.
    pub(super) fn look_up(&mut self, now: Duration, host: &str, of_peer: bool) -> Lookup {
        if let Some(ip) = parse_ip(host) {
            return Lookup::Known(Ok(vec![ip]));
        }
        match self.entries.get(host) {
            Some(Entry::Asked { of_peer: asked }) if of_peer || !asked => Lookup::Asked,
            Some(Entry::Known { result, until }) if *until > now => Lookup::Known(result.clone()),
            Some(Entry::Asked { .. } | Entry::Known { .. }) | None => {
                self.make_room();
                self.entries.insert(host.to_owned(), Entry::Asked { of_peer });
                Lookup::Ask
            }
        }
    }

    /// Looks a peer's name up. Unless it is known, [`Self::handle_resolved`] returns the peer
    /// later. Returns `None` if too many names are being looked up.
    pub(super) fn look_up_peer(
        &mut self,
        now: Duration,
        host: &str,
        peer: NamedPeer,
    ) -> Option<Lookup> {
        if !self.is_known(now, host) && self.peers.len() >= MAX_AWAITED_PEER_NAMES {
            return None;
        }
        let lookup = self.look_up(now, host, true);
        if !matches!(lookup, Lookup::Known(_)) {
            let waiting = self.peers.entry(host.to_owned()).or_default();
            if !waiting.contains(&peer) {
                waiting.push(peer);
            }
        }
        Some(lookup)
    }

    /// Keeps the answer. Returns the peers that waited for it.
    pub(super) fn handle_resolved(
        &mut self,
        now: Duration,
        host: &str,
        result: Resolved,
    ) -> Vec<NamedPeer> {
        let lifetime = if result.is_ok() { NAME_LIFETIME } else { NAME_FAILURE_LIFETIME };
        self.entries.insert(host.to_owned(), Entry::Known { result, until: now + lifetime });
        self.peers.remove(host).unwrap_or_default()
    }

    /// Whether [`Self::look_up`] returns [`Lookup::Known`].
    fn is_known(&self, now: Duration, host: &str) -> bool {
        let known = |entry: &Entry| matches!(entry, Entry::Known { until, .. } if *until > now);
        parse_ip(host).is_some() || self.entries.get(host).is_some_and(known)
    }

    /// Forgets the name that expires first, once there are [`MAX_NAMES`].
    fn make_room(&mut self) {
        if self.entries.len() < MAX_NAMES {
            return;
        }
        let expiry = |entry: &Entry| match entry {
            Entry::Asked { .. } => Duration::MAX,
            Entry::Known { until, .. } => *until,
        };
        let oldest = self.entries.iter().min_by_key(|(_, entry)| expiry(entry));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.entries.remove(&name);
        }
    }
}

/// Returns the peers of a reply that are given by name (BEP 3), the first [`MAX_PEER_NAMES`].
pub(super) fn named_peers(peers: &[TrackerPeer]) -> impl Iterator<Item = (&str, u16)> {
    let named = peers.iter().filter_map(|peer| match &peer.host {
        PeerHost::Name(name) => Some((name.as_str(), peer.port)),
        PeerHost::Ip(_) => None,
    });
    named.take(MAX_PEER_NAMES)
}

/// Returns `host` as an address, with or without the brackets of a URL.
fn parse_ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_up_serves_all_until_expiry() {
        let mut names = Names::default();
        let at = Duration::from_secs;
        assert_eq!(names.look_up(at(0), "t.example", false), Lookup::Ask);
        assert_eq!(names.look_up(at(0), "t.example", false), Lookup::Asked);
        let found = Ok(vec![IpAddr::from([10, 0, 0, 1])]);
        names.handle_resolved(at(1), "t.example", found.clone());
        assert_eq!(names.look_up(at(300), "t.example", false), Lookup::Known(found));
        assert_eq!(names.look_up(at(302), "t.example", false), Lookup::Ask);
    }

    #[test]
    fn tracker_names_overtake_peer_names() {
        let mut names = Names::default();
        let mut look_up = |of_peer| names.look_up(Duration::ZERO, "t.example", of_peer);
        assert_eq!(look_up(true), Lookup::Ask);
        assert_eq!(look_up(true), Lookup::Asked);
        assert_eq!(look_up(false), Lookup::Ask, "by a thread for trackers");
        assert_eq!(look_up(false), Lookup::Asked);
        assert_eq!(look_up(true), Lookup::Asked);
    }

    #[test]
    fn failure_is_kept_for_a_minute() {
        let mut names = Names::default();
        let at = Duration::from_secs;
        let _ = names.look_up(at(0), "t.example", false);
        names.handle_resolved(at(0), "t.example", Err("no such host".to_owned()));
        assert!(matches!(names.look_up(at(59), "t.example", false), Lookup::Known(Err(_))));
        assert_eq!(names.look_up(at(61), "t.example", false), Lookup::Ask);
    }

    #[test]
    fn address_needs_no_look_up() {
        let mut names = Names::default();
        for host in ["127.0.0.1", "::1", "[::1]"] {
            assert!(matches!(names.look_up(Duration::ZERO, host, false), Lookup::Known(Ok(_))));
        }
    }

    #[test]
    fn cache_is_bounded() {
        let mut names = Names::default();
        for number in 0..MAX_NAMES + 10 {
            let host = format!("{number}.example");
            let _ = names.look_up(Duration::ZERO, &host, false);
            names.handle_resolved(Duration::ZERO, &host, Ok(vec![]));
        }
        assert_eq!(names.entries.len(), MAX_NAMES);
    }
}
