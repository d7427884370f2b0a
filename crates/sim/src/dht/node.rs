//! An honest node: the real `Dht`, its addresses, and the NAT that it may be behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ::dht::{Config, Dht, Event, Item, LookupKey, Stats};

use super::watch::Watch;

/// How long a NAT keeps a binding that is not used.
const BINDING: Duration = Duration::from_secs(60);

/// What lets datagrams in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nat {
    /// Everything comes in.
    None,
    /// What comes from an address and port that was sent to.
    PortRestricted,
    /// The same, and each destination sees another port.
    Symmetric,
}

/// What a lookup has found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) peers: Vec<SocketAddr>,
    pub(super) item: Option<Item>,
    /// Seeds and other peers.
    pub(super) counts: Option<(u32, u32)>,
    /// What it took; `None` while it runs.
    pub(super) stats: Option<Stats>,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) dht: Dht,
    pub(super) config: Config,
    /// For IPv4 and IPv6.
    pub(super) addresses: [Option<SocketAddr>; 2],
    /// Addresses that it had before.
    pub(super) former: Vec<SocketAddr>,
    pub(super) nat: Nat,
    /// The destination, our port there, and when it was last used.
    bindings: BTreeMap<SocketAddr, (u16, Duration)>,
    /// Whether its process runs.
    pub(super) is_running: bool,
    /// Whether it has a network.
    pub(super) is_online: bool,
    /// Whether it hears so when it has none.
    pub(super) knows_offline: bool,
    pub(super) started: Duration,
    pub(super) timer: Option<Duration>,
    pub(super) watch: Watch,
    pub(super) lookups: BTreeMap<LookupKey, Found>,
}

impl Node {
    pub(super) fn new(
        number: usize,
        now: Duration,
        config: Config,
        addresses: [Option<SocketAddr>; 2],
        nat: Nat,
    ) -> Self {
        let mut watch = Watch::new(config.read_only);
        let saved = config.state.iter().flat_map(|state| &state.nodes);
        saved.for_each(|(_, address)| watch.give(*address));
        Self {
            name: format!("n{number}"),
            dht: Dht::new(&config),
            config,
            addresses,
            former: Vec::new(),
            nat,
            bindings: BTreeMap::new(),
            is_running: true,
            is_online: true,
            knows_offline: false,
            started: now,
            timer: None,
            watch,
            lookups: BTreeMap::new(),
        }
    }

    /// Whether anybody can send it something unasked.
    pub(super) fn is_reachable(&self) -> bool {
        self.is_running && self.is_online && self.nat == Nat::None
    }

    /// Returns the address from which a datagram to `to` comes; a symmetric NAT draws `port` for a new
    /// destination.
    pub(super) fn bind(&mut self, now: Duration, to: SocketAddr, port: u16) -> Option<SocketAddr> {
        let mut from = self.addresses[usize::from(to.is_ipv6())]?;
        if self.nat == Nat::Symmetric {
            let binding = self.bindings.get(&to).filter(|binding| now < binding.1 + BINDING);
            from.set_port(binding.map_or(port, |binding| binding.0));
        }
        if self.nat != Nat::None {
            self.bindings.insert(to, (from.port(), now));
        }
        Some(from)
    }

    /// Whether a datagram gets through to it.
    pub(super) fn lets_in(&self, now: Duration, from: SocketAddr, to: SocketAddr) -> bool {
        let is_open = match self.nat {
            Nat::None => self.addresses.contains(&Some(to)),
            Nat::PortRestricted | Nat::Symmetric => {
                let binding = self.bindings.get(&from);
                binding.is_some_and(|(port, used)| *port == to.port() && now < *used + BINDING)
            }
        };
        self.is_running && self.is_online && is_open
    }

    /// Takes the events of its lookups. Returns an address that it has adopted.
    pub(super) fn take_events(&mut self) -> Option<std::net::IpAddr> {
        let mut adopted = None;
        while let Some(event) = self.dht.poll_event() {
            match event {
                Event::Peers { lookup, addresses, .. } => {
                    self.found(lookup).peers.extend(addresses);
                }
                Event::Scraped { lookup, seeds, peers } => {
                    self.found(lookup).counts = Some((seeds, peers));
                }
                Event::Item { lookup, item } => self.found(lookup).item = Some(item),
                Event::Done { lookup, stats } => self.found(lookup).stats = Some(stats),
                Event::Address { ip } => adopted = Some(ip),
                _ => {}
            }
        }
        adopted
    }

    fn found(&mut self, key: LookupKey) -> &mut Found {
        self.lookups.entry(key).or_default()
    }
}
