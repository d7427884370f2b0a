//! Every address at which a peer may be, and when it may be tried.
//!
//! ```text
//!            next()             connected()
//!   waiting -------> connecting -----------> connected
//!      ^                 | failed()              | lost()
//!      '-----------------+-----------------------'
//! ```
//!
//! A connection that fails is tried again after [`FIRST_RETRY`], doubling; after [`FAILURES`] in a
//! row the address rests for [`REST`] and is then tried again, never dropped for good. While nobody
//! else is left to try, there is one attempt more, [`EARLY_RETRY`] after the first failure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::{Blank, PeerId};
use rand::Rng;

/// The most addresses known at a time.
pub(crate) const MAX_KNOWN: usize = 10_000;
/// When an address is tried again after its first failure, and after a connection that was of use.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// When an address is tried again after its first failure while every known one has failed.
const EARLY_RETRY: Duration = Duration::from_millis(1500);
/// After so many failures in a row an address rests.
const FAILURES: u8 = 5;
/// How long it rests.
pub(crate) const REST: Duration = Duration::from_secs(30 * 60);

/// How a connection or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was of use.
    Useful,
    /// It was not.
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
    /// Not to be tried until [`Roster::wake`].
    Asleep,
    Never,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    /// Failures in a row since it last rested. The one before an early retry does not count.
    failures: u8,
    /// Whether it was tried early since it was last of use.
    hurried: bool,
}

impl Entry {
    const NEW: Self = Self { state: State::Never, failures: 0, hurried: false };
}

/// The known addresses of one swarm.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: BTreeMap<SocketAddr, Entry>,
    /// The waiting ones, by when they may be tried.
    queue: BTreeSet<(Duration, u32, SocketAddr)>,
    connecting: usize,
    /// `None` as long as nobody is banned.
    bans: Option<Box<Bans>>,
}

/// Who is refused.
#[derive(Debug, Default)]
struct Bans {
    ips: BTreeSet<IpAddr>,
    addresses: BTreeSet<SocketAddr>,
    ids: BTreeSet<PeerId>,
}

impl Blank for Roster {
    const BLANK: &'static Self =
        &Self { entries: BTreeMap::new(), queue: BTreeSet::new(), connecting: 0, bans: None };
}

impl Roster {
    /// Whether nothing is known of any address.
    pub(crate) fn is_blank(&self) -> bool {
        self.entries.is_empty() && self.bans.is_none()
    }

    /// How many addresses are known and not banned.
    pub(crate) fn known(&self) -> usize {
        self.entries.len()
    }

    /// How many are being connected to.
    pub(crate) fn connecting(&self) -> usize {
        self.connecting
    }

    /// How many addresses were banned.
    pub(crate) fn banned(&self) -> usize {
        self.bans.as_ref().map_or(0, |bans| bans.ips.len() + bans.addresses.len())
    }

    /// Whether connections from or to `address` are refused, or to a peer of this id.
    pub(crate) fn is_banned(&self, address: SocketAddr, id: Option<PeerId>) -> bool {
        self.bans.as_ref().is_some_and(|bans| {
            bans.ips.contains(&address.ip().to_canonical())
                || bans.addresses.contains(&address)
                || id.is_some_and(|id| bans.ids.contains(&id))
        })
    }

    /// Takes `address` in; says whether it is new. In a full table it takes the place of the one
    /// that would be tried last, unless that may be tried already.
    pub(crate) fn learn(&mut self, now: Duration, address: SocketAddr, rng: &mut impl Rng) -> bool {
        let known = self.entries.contains_key(&address);
        if known || !is_connectable(address) || self.is_banned(address, None) {
            return false;
        }
        if self.entries.len() >= MAX_KNOWN && !self.evict(now) {
            return false;
        }
        self.entries.insert(address, Entry::NEW);
        self.wait(address, now, rng);
        true
    }

    /// An address to connect to.
    pub(crate) fn next(&mut self, now: Duration) -> Option<SocketAddr> {
        let (at, _, address) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.set(address, State::Connecting);
        Some(address)
    }

    /// When the next address may be tried that may not be tried at `now`.
    pub(crate) fn next_retry(&self, now: Duration) -> Option<Duration> {
        let after = (now.saturating_add(Duration::from_nanos(1)), 0, LOWEST);
        self.queue.range(after..).next().map(|(at, ..)| *at)
    }

    /// Whether an address may be tried at `now`.
    pub(crate) fn has_ready(&self, now: Duration) -> bool {
        self.queue.first().is_some_and(|(at, ..)| *at <= now)
    }

    /// Whether `address` is being connected to.
    pub(crate) fn is_connecting(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.state == State::Connecting)
    }

    /// Whether `address` is connected.
    pub(crate) fn is_connected(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.state == State::Connected)
    }

    /// The handshake with `address` is complete. An address that was not known is taken in.
    pub(crate) fn connected(&mut self, address: SocketAddr) {
        self.entries.entry(address).or_insert(Entry::NEW);
        self.set(address, State::Connected);
    }

    /// A connection to `address`, or an attempt, ended.
    pub(crate) fn ended(
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
        let delay = match ending {
            Ending::NothingWanted => return self.set(address, State::Asleep),
            Ending::Useful => FIRST_RETRY,
            Ending::Pointless => REST,
            Ending::Failure if entry.failures >= FAILURES => {
                entry.failures = 0;
                REST
            }
            Ending::Failure => FIRST_RETRY * 2u32.pow(u32::from(entry.failures) - 1),
        };
        self.wait(address, now + delay, rng);
    }

    /// Nobody is connected. If every known address has failed, those that failed for the first time
    /// are tried again soon: perhaps the peer was only started a moment later than we.
    pub(crate) fn hurry(&mut self, now: Duration, rng: &mut impl Rng) {
        if self.connecting > 0 || self.has_ready(now) {
            return;
        }
        let soon = now + EARLY_RETRY;
        let first = self.entries.iter().filter(|(_, entry)| {
            let waits = matches!(entry.state, State::Waiting { .. });
            waits && entry.failures == 1 && !entry.hurried
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
    pub(crate) fn never(&mut self, address: SocketAddr) {
        self.set(address, State::Never);
    }

    /// Addresses that had nothing we wanted may be tried again.
    pub(crate) fn wake(&mut self, now: Duration, rng: &mut impl Rng) {
        let asleep = |entry: &Entry| entry.state == State::Asleep;
        let woken: Vec<SocketAddr> =
            self.entries.iter().filter(|(_, e)| asleep(e)).map(|(address, _)| *address).collect();
        for address in woken {
            self.wait(address, now, rng);
        }
    }

    /// Refuses `address` from now on, or its whole IP address unless that is this machine's, where
    /// many peers share one and the id tells them apart.
    pub(crate) fn ban(&mut self, address: SocketAddr, id: PeerId) {
        let (ip, bans) = (address.ip().to_canonical(), self.bans.get_or_insert_default());
        if ip.is_loopback() {
            bans.addresses.insert(address);
            bans.ids.insert(id);
        } else {
            bans.ips.insert(ip);
        }
        let covered: Vec<SocketAddr> =
            self.entries.keys().copied().filter(|known| self.is_banned(*known, None)).collect();
        for address in covered {
            self.set(address, State::Never);
            self.entries.remove(&address);
        }
    }

    fn wait(&mut self, address: SocketAddr, at: Duration, rng: &mut impl Rng) {
        self.set(address, State::Waiting { at, tie: rng.next_u32() });
    }

    fn set(&mut self, address: SocketAddr, state: State) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        match std::mem::replace(&mut entry.state, state) {
            State::Waiting { at, tie } => _ = self.queue.remove(&(at, tie, address)),
            State::Connecting => self.connecting -= 1,
            _ => {}
        }
        match state {
            State::Waiting { at, tie } => _ = self.queue.insert((at, tie, address)),
            State::Connecting => self.connecting += 1,
            _ => {}
        }
    }

    fn evict(&mut self, now: Duration) -> bool {
        let last = self.queue.last().filter(|(at, ..)| *at > now).copied();
        if let Some((at, tie, address)) = last {
            self.queue.remove(&(at, tie, address));
            self.entries.remove(&address);
        }
        last.is_some()
    }
}

/// The least address in the order of the queue.
const LOWEST: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Whether a peer could listen there at all.
fn is_connectable(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
