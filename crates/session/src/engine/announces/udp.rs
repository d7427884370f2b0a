//! Announces to UDP trackers: the name is looked up, then its addresses are asked, one after the
//! other in each family until one answers.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt as _;
use tracker_udp::{Exchange, UdpTracker};

use super::{AnnounceKey, Announces};
use crate::engine::action::Action;
use crate::engine::names::Lookup;
use crate::engine::running::{Further, Leg, Stage, Work, exchanges, failure};
use crate::limits::MAX_NAMES;

impl Announces {
    pub(super) fn resolve(&mut self, now: Duration, key: AnnounceKey) {
        let Some(running) = self.running.get(&key) else { return };
        let host = running.host_name();
        match self.names.look_up(now, &host, false) {
            Lookup::Asked => {}
            Lookup::Ask => self.actions.push_back(Action::Resolve { host, of_peer: false }),
            Lookup::Known(Ok(ips)) => self.exchange(now, key, &ips),
            Lookup::Known(Err(message)) => {
                self.fail(now, key, failure(format!("cannot look up {host}: {message}")));
            }
        }
    }

    /// Forgets trackers that nobody asks now, once there are [`MAX_NAMES`].
    fn make_room(&mut self) {
        if self.trackers.len() >= MAX_NAMES {
            let asked = exchanges(&mut self.running).map(|(_, _, address, _)| *address);
            let asked: BTreeSet<SocketAddr> = asked.collect();
            self.trackers.retain(|address, _| asked.contains(address));
        }
    }

    /// Begins an exchange with the first address of each family.
    fn exchange(&mut self, now: Duration, key: AnnounceKey, ips: &[IpAddr]) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let Some(port) = running.udp.as_ref().map(|target| target.port) else { return };
        running.stage = Stage::Asking(Vec::new());
        let mut first = Vec::new();
        for ips in tracker_udp::addresses_to_ask(ips, |ip| self.families.allow(*ip)) {
            let mut addresses: VecDeque<SocketAddr> =
                ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
            // One that answered a moment ago comes first, so that not every torrent waits for those
            // that are silent.
            let is_connected =
                |at: &SocketAddr| self.trackers.get(at).is_some_and(|it| it.is_connected(now));
            addresses.make_contiguous().sort_by_key(|address| !is_connected(address));
            let Some(asked) = addresses.pop_front() else { continue };
            first.push(asked);
            if !addresses.is_empty() {
                running.further.push(Further { addresses, asked, asked_at: now });
            }
        }
        if first.is_empty() {
            let message = format!("{} has no address that can be reached", running.host);
            return self.fail(now, key, failure(message));
        }
        first.into_iter().for_each(|address| self.begin_leg(now, key, address));
        self.pump(now);
    }

    /// Begins an exchange with one address.
    fn begin_leg(&mut self, now: Duration, key: AnnounceKey, address: SocketAddr) {
        self.make_room();
        let Some(running) = self.running.get_mut(&key) else { return };
        let (Some(target), Stage::Asking(legs)) = (&running.udp, &mut running.stage) else {
            return;
        };
        // Transaction ids that can't be guessed keep forged answers out (BEP 15).
        let new = || UdpTracker::new(address, self.rng.random());
        let tracker = self.trackers.entry(address).or_insert_with(new);
        let (request, data) = (running.request.clone(), target.url_data.as_bytes());
        let exchange = Exchange::announce(tracker, now, running.deadline, request, data);
        let work = Work::Exchange { address, exchange: Box::new(exchange) };
        legs.push(Leg { work, done: false });
    }

    /// Asks the next address where the one before was silent.
    pub(super) fn ask_further(&mut self, now: Duration) {
        let mut due = Vec::new();
        for (key, running) in &mut self.running {
            let taken = running.take_further(now, &self.trackers);
            due.extend(taken.into_iter().map(|address| (*key, address)));
        }
        for (key, address) in due {
            self.begin_leg(now, key, address);
        }
        self.pump(now);
    }

    /// Sends what exchanges have to send.
    pub(super) fn pump(&mut self, now: Duration) {
        for (_, _, address, exchange) in exchanges(&mut self.running) {
            let Some(tracker) = self.trackers.get_mut(address) else { continue };
            while let Some(bytes) = exchange.poll_transmit(tracker, now) {
                self.actions.push_back(Action::Datagram { to: *address, bytes });
            }
        }
    }
}
