//! A node that asks the DHT and answers nobody (BEP 43), for the commands that ask.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::thread::{self, JoinHandle};

use session::DhtConfig;
use session::node::{Answer, Counts, Node, NodeError, Stats};

use crate::cli::{AskArgs, JoinArgs, StateArgs, UseDhtArgs};
use crate::dht_file::DhtFile;
use crate::failure::{Class, Failure, chain};
use crate::output::{Style, clean, short_duration};
use crate::source::NamedTorrent;
use crate::transfer::{dht_config, state_dir};

/// What to do if nobody answers.
const ADVICE: &str = "name a node with --dht-node HOST:PORT";

/// The node, and whom it joins the DHT through.
pub(crate) struct DhtAsker {
    pub(crate) node: Node,
    config: DhtConfig,
}

impl DhtAsker {
    /// Starts a node as the flags say. `hints` are nodes that a torrent or a link names.
    ///
    /// # Errors
    /// Network if nobody is known, or no port is free.
    pub(crate) fn start(ask: &AskArgs, hints: Vec<String>) -> Result<Self, Failure> {
        let config = asking_config(&ask.join, hints);
        Self::with(config, &ask.socket.asking_ports(), ask.socket.bind)
    }

    fn with(
        config: DhtConfig,
        ports: &RangeInclusive<u16>,
        bind: Option<IpAddr>,
    ) -> Result<Self, Failure> {
        if is_alone(&config) {
            let message = format!("no node of the DHT is known: {ADVICE}");
            return Err(Failure::new(Class::Network, message));
        }
        let node = Node::start(&config, ports, bind).map_err(|error| start_failure(&error))?;
        Ok(Self { node, config })
    }

    /// Returns `stats` if any node answered.
    ///
    /// # Errors
    /// Network, with what was tried.
    pub(crate) fn check(&self, stats: Stats) -> Result<Stats, Failure> {
        if stats.answered > 0 {
            return Ok(stats);
        }
        let message =
            format!("no node of the DHT answered: check that UDP is not blocked, or {ADVICE}");
        Err(Failure::new(Class::Network, message).because(self.tried()))
    }

    /// Returns a line for each node that the DHT was to be joined through.
    fn tried(&self) -> Vec<String> {
        let outcome = |node: &String| {
            let host = node.rsplit_once(':').map_or(node.as_str(), |(host, _)| host);
            match self.node.unresolved().get(host) {
                Some(error) => format!("{node}: cannot be looked up: {error}"),
                None => format!("{node}: no answer"),
            }
        };
        let named = self.config.nodes.iter().chain(&self.config.routers).map(outcome);
        let saved = self.config.state.as_ref();
        let saved = saved.map(|_| "the nodes of an earlier launch: no answer".to_owned());
        named.chain(saved).collect()
    }
}

/// What the DHT answers about a torrent, whose trackers are asked at the same time.
pub(crate) enum Beside<T> {
    /// The DHT is asked in a thread.
    Asked(JoinHandle<DhtAnswer<T>>),
    /// It is not asked. If the torrent names no tracker either, that is part of the error.
    NotAsked(Failure),
}

/// An answer of the DHT, and what it took.
pub(crate) type DhtAnswer<T> = Result<(T, Stats), Failure>;

impl<T: Send + 'static> Beside<T> {
    /// Asks the DHT about a torrent, unless it is private, the user refuses, or nobody is known.
    pub(crate) fn start(
        torrent: &NamedTorrent,
        dht: &UseDhtArgs,
        ask: impl FnOnce(&mut Node) -> Answer<T> + Send + 'static,
    ) -> Self {
        const NO_TRACKER: &str = "the torrent names no tracker";
        let not_asked =
            |why: &str| Self::NotAsked(Failure::new(Class::Network, format!("{NO_TRACKER}{why}")));
        if torrent.is_private() {
            return not_asked(", and only a tracker may name its peers: it is private");
        }
        if dht.no_dht {
            return not_asked("");
        }
        let config = asking_config(&dht.join, torrent.description.dht_nodes());
        if is_alone(&config) {
            return not_asked(&format!(", and no node of the DHT is known: {ADVICE}"));
        }
        Self::Asked(thread::spawn(move || {
            let mut asker = DhtAsker::with(config, &(0..=0), None)?;
            let answer = ask(&mut asker.node);
            Ok((answer.found, asker.check(answer.stats)?))
        }))
    }

    /// Waits for the answer; `None` if the DHT is not asked.
    ///
    /// # Errors
    /// Network if it is not asked, and there is no tracker.
    pub(crate) fn join(self, has_trackers: bool) -> Result<Option<DhtAnswer<T>>, Failure> {
        match self {
            Self::Asked(thread) => {
                let died = || Err(Failure::new(Class::Failure, "cannot ask the DHT"));
                Ok(Some(thread.join().unwrap_or_else(|_| died())))
            }
            Self::NotAsked(_) if has_trackers => Ok(None),
            Self::NotAsked(why) => Err(why),
        }
    }
}

/// Returns the lines that say why the DHT gave nothing, if it was asked.
pub(crate) fn dht_causes<T>(answer: Option<&DhtAnswer<T>>) -> Option<String> {
    let failure = answer?.as_ref().err()?;
    Some(format!("DHT: {}", failure.text()))
}

/// Returns the failure for a node that does not start.
pub(crate) fn start_failure(error: &NodeError) -> Failure {
    let advice = match error {
        NodeError::Open { source, .. } if source.kind() == ErrorKind::AddrNotAvailable => {
            "; give an address of this machine with --bind"
        }
        NodeError::Open { .. } => "; choose another one with --port",
        _ => "",
    };
    Failure::new(Class::Network, chain(error) + advice)
}

/// Whether there is nobody to join the DHT through.
fn is_alone(config: &DhtConfig) -> bool {
    config.nodes.is_empty() && config.routers.is_empty() && config.state.is_none()
}

/// Returns what an earlier launch saved, for a node that does not use the ids in it.
pub(crate) fn saved_nodes() -> Option<Vec<u8>> {
    DhtFile::read(&state_dir(&StateArgs::default())?)
}

fn asking_config(join: &JoinArgs, hints: Vec<String>) -> DhtConfig {
    let mut config = dht_config(join);
    config.read_only = true;
    config.nodes.extend(hints);
    config.state = saved_nodes();
    config
}

/// Returns a line for people: why the DHT says nothing.
pub(crate) fn failure_line(failure: &Failure, style: Style) -> String {
    format!("{}  {}", style.bold("DHT"), style.red(clean(failure.message())))
}

/// Returns how many peers a torrent has, for people.
pub(crate) fn counts_text(counts: Counts) -> String {
    format!("seeders {}, leechers {}", counts.seeds, counts.peers)
}

/// Returns a line for people: what the DHT says, and what the answer took.
pub(crate) fn stats_line(what: &str, stats: &Stats, style: Style) -> String {
    let (dht, time) = (style.bold("DHT"), short_duration(stats.elapsed));
    format!("{dht}  {what}, nodes asked {}, in {time}", stats.asked)
}
