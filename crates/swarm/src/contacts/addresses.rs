//! Every address at which a peer may be, and when it may be tried.
//!
//! ```text
//!            next()             connected()
//!   waiting -------> connecting -----------> connected
//!      ^                 |                       |
//!      '-----------------+------- ended() -------'
//! ```
//!
//! A connection that fails is tried again after [`FIRST_RETRY`], doubling. After [`MAX_FAILURES`]
//! in a row the address rests for [`REST_TIME`] and is then tried again; it is never dropped for
//! good. While no other address is left to try, there is one more attempt, [`EARLY_RETRY`] after
//! the first failure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bt_types::is_public;
use rand::Rng;

use crate::vocabulary::Source;

/// The most addresses named by one informant that are being connected to: a quarter of the outgoing
/// connections that a session opens at a time.
const MAX_DIALS_PER_INFORMANT: usize = 12;
/// The most addresses known at a time.
const MAX_KNOWN: usize = 10_000;
/// The most of them that anybody may have made up, so that they keep nobody else out.
const MAX_UNTRUSTED: usize = 5000;
/// When an address is tried again after its first failure, and after a useful connection.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The same of an address that anybody may have made up, so that its owner is not bothered.
const UNTRUSTED_RETRY: Duration = Duration::from_secs(60);
/// When an address is tried again after its first failure while every known one has failed.
const EARLY_RETRY: Duration = Duration::from_millis(1500);
/// After so many failures in a row an address rests.
const MAX_FAILURES: u8 = 5;
/// How long it rests.
const REST_TIME: Duration = Duration::from_secs(30 * 60);
/// The bits of an IPv6 address that its owner chooses.
const HOST_BITS: u128 = u64::MAX as u128;

/// How a connection or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was useful.
    Useful,
    /// It was useless, or the attempt failed.
    Failure,
    /// The address has nothing for us until we want more.
    NothingWanted,
    /// Trying again soon would end the same way.
    Pointless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting {
        at: Duration,
        tie: u32,
    },
    Connecting,
    Connected,
    /// Not to be tried until [`Addresses::wake`].
    Asleep,
    /// Never to be tried.
    Never,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    /// Failures in a row since it last rested. The one before an early retry does not count.
    failures: u8,
    /// Whether it was tried early since it was last useful.
    hurried: bool,
    /// Whether an attempt to connect to it has ended.
    tried: bool,
    origin: Origin,
}

impl Entry {
    fn new(origin: Origin) -> Self {
        Self { state: State::Never, failures: 0, hurried: false, tried: false, origin }
    }
}

/// Where an address came from first; a tracker if one gave it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) source: Source,
    /// Which peer or node named it, if one did.
    pub(super) informant: Option<Informant>,
}

/// A peer or node that names addresses of peers: an IP address, or the /64 of an IPv6 address. Local
/// peers share addresses, and each port of an IPv4 address is another informant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Informant(u64);

impl Informant {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self(match address.ip() {
            IpAddr::V4(ip) if is_public(ip.into()) => u64::from(ip.to_bits()),
            IpAddr::V4(ip) => u64::from(ip.to_bits()) | u64::from(address.port()) << 32,
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        })
    }
}

/// The addresses that are being connected to.
#[derive(Debug, Default)]
struct Dials(Vec<(SocketAddr, Option<Informant>)>);

impl Dials {
    /// Whether no more of what this informant named may be dialled now.
    fn is_busy(&self, informant: Informant) -> bool {
        let named_by = self.0.iter().filter(|(_, by)| *by == Some(informant));
        named_by.count() >= MAX_DIALS_PER_INFORMANT
    }
}

/// The known addresses of one swarm.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    entries: BTreeMap<SocketAddr, Entry>,
    /// The waiting ones, by when they may be tried.
    queue: BTreeSet<(Duration, u32, SocketAddr)>,
    /// Those that are being connected to, with who named them. Most swarms have none: no box then.
    dials: Option<Box<Dials>>,
    /// How many anybody may have made up.
    untrusted: usize,
}

impl Addresses {
    /// Returns how many are known.
    pub(crate) fn known(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many are being connected to.
    pub(crate) fn connecting(&self) -> usize {
        self.dials.as_ref().map_or(0, |dials| dials.0.len())
    }

    /// Whether none is left that was never tried.
    pub(super) fn are_all_tried(&self) -> bool {
        self.entries.values().all(|entry| entry.tried)
    }

    /// Adds `address`; says whether it was unknown and is kept. In a full table it replaces the
    /// one that would be tried last, unless that may be tried already.
    pub(super) fn learn(
        &mut self,
        now: Duration,
        address: SocketAddr,
        origin: Origin,
        rng: &mut impl Rng,
    ) -> bool {
        let source = origin.source;
        if let Some(known) = self.entries.get_mut(&address) {
            if source == Source::Tracker {
                self.untrusted -= usize::from(known.origin.source.is_untrusted());
                known.origin = origin;
            }
            return false;
        }
        let too_many = source.is_untrusted() && self.untrusted >= MAX_UNTRUSTED;
        if too_many || !is_connectable(address, source) {
            return false;
        }
        if self.entries.len() >= MAX_KNOWN && !self.evict(now) {
            return false;
        }
        self.entries.insert(address, Entry::new(origin));
        self.untrusted += usize::from(source.is_untrusted());
        self.wait(address, now, rng);
        true
    }

    /// Returns an address to connect to. While [`MAX_DIALS_PER_INFORMANT`] of one informant are being
    /// connected to, its others wait.
    pub(crate) fn next(&mut self, now: Duration) -> Option<SocketAddr> {
        let mut ready = self.queue.iter().take_while(|(at, ..)| *at <= now);
        let (.., address) = *ready.find(|(.., address)| !self.is_held_back(address))?;
        self.set(address, State::Connecting);
        Some(address)
    }

    /// Returns when the next address may be tried that may not be tried at `now`.
    pub(crate) fn next_retry(&self, now: Duration) -> Option<Duration> {
        let after = (now.saturating_add(Duration::from_nanos(1)), 0, LOWEST);
        self.queue.range(after..).next().map(|(at, ..)| *at)
    }

    /// Whether an address may be tried at `now`.
    pub(super) fn has_ready(&self, now: Duration) -> bool {
        self.queue.first().is_some_and(|(at, ..)| *at <= now)
    }

    /// Whether `address` is being connected to.
    pub(super) fn is_connecting(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.state == State::Connecting)
    }

    /// Whether `address` is connected.
    pub(super) fn is_connected(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.state == State::Connected)
    }

    /// The handshake with `address` is complete. An unknown address is added.
    pub(super) fn connected(&mut self, address: SocketAddr) {
        self.entries
            .entry(address)
            .or_insert(Entry::new(Origin { source: Source::Incoming, informant: None }));
        self.set(address, State::Connected);
    }

    /// A connection to `address`, or an attempt, ended.
    pub(super) fn ended(
        &mut self,
        now: Duration,
        address: SocketAddr,
        ending: Ending,
        rng: &mut impl Rng,
    ) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if !matches!(entry.state, State::Connecting | State::Connected) {
            return;
        }
        entry.failures = if ending == Ending::Failure { entry.failures + 1 } else { 0 };
        entry.hurried &= ending == Ending::Failure;
        let first = if entry.origin.source.is_untrusted() { UNTRUSTED_RETRY } else { FIRST_RETRY };
        let delay = match ending {
            Ending::NothingWanted => return self.set(address, State::Asleep),
            Ending::Useful => FIRST_RETRY,
            Ending::Pointless => REST_TIME,
            Ending::Failure if entry.failures >= MAX_FAILURES => {
                entry.failures = 0;
                REST_TIME
            }
            Ending::Failure => first * 2u32.pow(u32::from(entry.failures) - 1),
        };
        self.wait(address, now + delay, rng);
    }

    /// No peer is connected. If every known address has failed, those that failed for the first
    /// time are tried again soon: the peer may only have started a moment after us.
    pub(super) fn hurry(&mut self, now: Duration, rng: &mut impl Rng) {
        if self.connecting() > 0 || self.has_ready(now) {
            return;
        }
        let soon = now + EARLY_RETRY;
        let first = self.entries.iter().filter(|(_, entry)| {
            let waits = matches!(entry.state, State::Waiting { .. });
            waits && entry.failures == 1 && !entry.hurried && !entry.origin.source.is_untrusted()
        });
        let first: Vec<SocketAddr> = first.map(|(address, _)| *address).collect();
        for address in first {
            if let Some(entry) = self.entries.get_mut(&address) {
                (entry.failures, entry.hurried) = (0, true);
                self.wait(address, soon, rng);
            }
        }
    }

    /// `address` is our own.
    pub(super) fn never(&mut self, address: SocketAddr) {
        self.set(address, State::Never);
    }

    /// Lets addresses be tried again that had nothing we wanted.
    pub(crate) fn wake(&mut self, now: Duration, rng: &mut impl Rng) {
        let asleep = |entry: &Entry| entry.state == State::Asleep;
        let woken: Vec<SocketAddr> =
            self.entries.iter().filter(|(_, e)| asleep(e)).map(|(address, _)| *address).collect();
        for address in woken {
            self.wait(address, now, rng);
        }
    }

    /// Whether an address is known and was never tried.
    pub(crate) fn is_untried(&self, address: SocketAddr) -> bool {
        self.entries
            .get(&address)
            .is_some_and(|entry| !entry.tried && matches!(entry.state, State::Waiting { .. }))
    }

    /// Whether an address of this IPv4 address, or of the /64 of this IPv6 address, is known that
    /// anybody may have made up.
    pub(super) fn has_untrusted(&self, ip: IpAddr) -> bool {
        let (first, last) = match ip {
            IpAddr::V4(_) => (ip, ip),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                let [first, last] = [bits & !HOST_BITS, bits | HOST_BITS].map(Ipv6Addr::from_bits);
                (first.into(), last.into())
            }
        };
        let of_owner = SocketAddr::new(first, 0)..=SocketAddr::new(last, u16::MAX);
        self.entries.range(of_owner).any(|(_, entry)| entry.origin.source.is_untrusted())
    }

    /// Returns where an address came from, if it is known.
    pub(crate) fn source_of(&self, address: SocketAddr) -> Option<Source> {
        self.entries.get(&address).map(|entry| entry.origin.source)
    }

    /// Forgets the addresses that pass `which`.
    pub(super) fn forget(&mut self, which: impl Fn(SocketAddr, Source) -> bool) {
        let passes =
            |(address, entry): &(&SocketAddr, &Entry)| which(**address, entry.origin.source);
        let forgotten: Vec<SocketAddr> =
            self.entries.iter().filter(passes).map(|(address, _)| *address).collect();
        for address in forgotten {
            self.remove(address);
        }
    }

    /// Frees what an empty table holds.
    pub(crate) fn shrink(&mut self) {
        if self.entries.is_empty() {
            *self = Self::default();
        }
    }

    fn wait(&mut self, address: SocketAddr, at: Duration, rng: &mut impl Rng) {
        self.set(address, State::Waiting { at, tie: rng.next_u32() });
    }

    /// Whether `address` has to wait until other addresses by the same informant were tried.
    fn is_held_back(&self, address: &SocketAddr) -> bool {
        let Some(dials) = &self.dials else { return false };
        let informant = self.entries.get(address).and_then(|entry| entry.origin.informant);
        informant.is_some_and(|informant| dials.is_busy(informant))
    }

    fn set(&mut self, address: SocketAddr, state: State) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        match std::mem::replace(&mut entry.state, state) {
            State::Waiting { at, tie } => _ = self.queue.remove(&(at, tie, address)),
            State::Connecting => {
                entry.tried = true;
                if let Some(dials) = &mut self.dials {
                    dials.0.retain(|(dialled, _)| *dialled != address);
                }
                self.dials.take_if(|dials| dials.0.is_empty());
            }
            State::Connected | State::Asleep | State::Never => {}
        }
        match state {
            State::Waiting { at, tie } => _ = self.queue.insert((at, tie, address)),
            State::Connecting => {
                self.dials.get_or_insert_default().0.push((address, entry.origin.informant));
            }
            State::Connected | State::Asleep | State::Never => {}
        }
    }

    fn evict(&mut self, now: Duration) -> bool {
        let last = self.queue.last().filter(|(at, ..)| *at > now).copied();
        if let Some((.., address)) = last {
            self.remove(address);
        }
        last.is_some()
    }

    fn remove(&mut self, address: SocketAddr) {
        self.set(address, State::Never);
        let removed = self.entries.remove(&address);
        self.untrusted -= usize::from(removed.is_some_and(|it| it.origin.source.is_untrusted()));
    }
}

/// The least address in the order of the queue.
const LOWEST: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Whether a peer can listen at `address` at all. Nobody listens at port 1, which some programs
/// announce that cannot be reached.
fn is_connectable(address: SocketAddr, source: Source) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let port = address.port() > u16::from(source.is_untrusted());
    port && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
