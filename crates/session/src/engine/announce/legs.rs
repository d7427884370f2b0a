//! The legs of announces: a fetch (HTTP and HTTPS) or exchanges of datagrams (UDP) for each
//! address family.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt as _;
use tracker_udp::{Exchange, TrackerHost, UdpTracker};

use super::active::{Exchanges, Leg, Stage, exchanges, failure};
use super::families::Ask;
use super::names::Lookup;
use super::target::Protocol;
use super::{AnnounceKey, Announces};
use crate::engine::action::Action;
use crate::limits::MAX_NAMES;

impl Announces {
    /// Begins the legs, or has the name of a UDP tracker looked up first.
    pub(super) fn ask(&mut self, now: Duration, key: AnnounceKey) {
        match &self.active[&key].target.protocol {
            Protocol::Http { host_is_address } => {
                self.begin_legs(now, key, self.families.fetches(*host_is_address));
            }
            Protocol::Udp(url) => match url.host.clone() {
                TrackerHost::Ip(ip) => self.ask_addresses(now, key, &[ip]),
                TrackerHost::Name(name) => self.ask_name(now, key, name),
            },
        }
    }

    fn ask_name(&mut self, now: Duration, key: AnnounceKey, host: String) {
        match self.names.look_up(now, &host, false) {
            Lookup::Asked => {}
            Lookup::Ask => self.actions.push_back(Action::Resolve { host, of_peer: false }),
            Lookup::Known(Ok(ips)) => self.ask_addresses(now, key, &ips),
            Lookup::Known(Err(message)) => {
                self.fail(now, key, failure(format!("cannot look up {host}: {message}")));
            }
        }
    }

    fn ask_addresses(&mut self, now: Duration, key: AnnounceKey, found: &[IpAddr]) {
        let Protocol::Udp(url) = &self.active[&key].target.protocol else { return };
        let mut legs = self.families.exchanges(found, url.port);
        for leg in &mut legs {
            let Ask::Addresses(addresses) = leg else { continue };
            // Connected ones first, so that not every torrent waits for the silent ones.
            let is_connected =
                |at: &SocketAddr| self.trackers.get(at).is_some_and(|it| it.is_connected(now));
            addresses.make_contiguous().sort_by_key(|address| !is_connected(address));
        }
        self.begin_legs(now, key, legs);
        self.ask_further(now);
    }

    fn begin_legs(&mut self, now: Duration, key: AnnounceKey, asks: Vec<Ask>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        if asks.is_empty() {
            let message = format!("{} has no address that can be reached", active.target.host);
            return self.fail(now, key, failure(message));
        }
        let mut legs = Vec::new();
        for (leg, ask) in asks.into_iter().enumerate() {
            legs.push(match ask {
                Ask::Addresses(addresses) => Leg::Exchanging(Exchanges::new(now, addresses)),
                Ask::Fetch(family) => {
                    let url = active.announce.url.clone();
                    let request = Box::new(active.request.clone());
                    self.actions.push_back(Action::Fetch { key, leg, url, request, family });
                    Leg::Fetching
                }
            });
        }
        active.stage = Stage::Asking { legs, failure: None };
    }

    /// Asks the next addresses of UDP trackers whose earlier ones are silent.
    pub(super) fn ask_further(&mut self, now: Duration) {
        let mut due = Vec::new();
        for (key, active) in &mut self.active {
            for (leg, state) in active.legs_mut().iter_mut().enumerate() {
                if let Leg::Exchanging(exchanges) = state
                    && let Some(address) = exchanges.take_due(now, &self.trackers)
                {
                    due.push((*key, leg, address));
                }
            }
        }
        for (key, leg, address) in due {
            self.begin_exchange(now, key, leg, address);
        }
        self.pump(now);
    }

    fn begin_exchange(&mut self, now: Duration, key: AnnounceKey, leg: usize, address: SocketAddr) {
        self.make_room();
        let Some(active) = self.active.get_mut(&key) else { return };
        let Protocol::Udp(url) = &active.target.protocol else { return };
        // Random transaction ids keep forged answers out (BEP 15).
        let new = || UdpTracker::new(address, self.rng.random());
        let tracker = self.trackers.entry(address).or_insert_with(new);
        let (request, data) = (active.request.clone(), url.url_data.as_bytes());
        let exchange = Exchange::announce(tracker, now, active.deadline, request, data);
        if let Some(Leg::Exchanging(exchanges)) = active.legs_mut().get_mut(leg) {
            exchanges.push(now, address, exchange);
        }
    }

    /// Forgets trackers that nobody asks now, once there are [`MAX_NAMES`].
    fn make_room(&mut self) {
        if self.trackers.len() >= MAX_NAMES {
            let asked: BTreeSet<SocketAddr> =
                exchanges(&mut self.active).map(|exchange| exchange.address).collect();
            self.trackers.retain(|address, _| asked.contains(address));
        }
    }

    /// Sends the datagrams of all exchanges.
    pub(super) fn pump(&mut self, now: Duration) {
        for of_leg in exchanges(&mut self.active) {
            let to = of_leg.address;
            let Some(tracker) = self.trackers.get_mut(&to) else { continue };
            while let Some(bytes) = of_leg.exchange.poll_transmit(tracker, now) {
                self.actions.push_back(Action::Datagram { to, bytes });
            }
        }
    }
}
