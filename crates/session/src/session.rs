//! The handle by which a program downloads and seeds torrents.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The caller's end of the channels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use piece_store::TorrentKey;
use tracker_http::{Fetcher, FetcherConfig, FetcherError};

use crate::command::Command;
use crate::config::{AddTorrent, SessionConfig};
use crate::engine::AddError;
use crate::event::{Event, TorrentStatus};
use crate::limits::{COMMAND_QUEUE, EVENT_QUEUE, MIN_DESCRIPTORS, MIN_MEMORY};
use crate::reactor::{Fetchers, ReactorHandle};

/// A session cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Occurs when no port can be listened on, or the system gives no more threads or sockets.
    #[error("cannot listen on {}{}: {source}", ports(*first, *last), on(*bind))]
    Listen {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
        /// The address it had to be on.
        bind: Option<IpAddr>,
        /// What the system said last.
        source: std::io::Error,
    },
    /// Occurs when the certificates for HTTPS trackers cannot be used.
    #[error(transparent)]
    Fetcher(#[from] FetcherError),
    /// Occurs when `max_memory` is less than the session can work with.
    #[error("expected a memory limit of at least {MIN_MEMORY} bytes, got {got}")]
    Memory {
        /// The limit that was given.
        got: usize,
    },
    /// Occurs when `max_descriptors` is less than the session can work with.
    #[error(
        "{got} open files are too few: raise the limit to at least {MIN_DESCRIPTORS} (ulimit -n)"
    )]
    Descriptors {
        /// The number that was given.
        got: usize,
    },
}

/// The command queue is full, or the session has ended: try again, or give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is busy or has ended")]
pub struct Busy;

/// A running session. Dropping it shuts it down cleanly, as [`Self::shut_down`] with a few seconds
/// does.
pub struct Session {
    commands: Option<Sender<Command>>,
    events: Receiver<Event>,
    reactor: ReactorHandle,
}

impl Session {
    /// Listens, and starts the threads.
    ///
    /// # Errors
    /// No free port, unusable certificates, too little memory, too few descriptors, no more
    /// threads.
    pub fn start(config: &SessionConfig) -> Result<Self, StartError> {
        if config.max_memory < MIN_MEMORY {
            return Err(StartError::Memory { got: config.max_memory });
        }
        if config.max_descriptors < MIN_DESCRIPTORS {
            return Err(StartError::Descriptors { got: config.max_descriptors });
        }
        let (commands, command_receiver) = bounded(COMMAND_QUEUE);
        let (event_sender, events) = bounded(EVENT_QUEUE);
        let fetchers = fetchers(config)?;
        let reactor = ReactorHandle::start(config, fetchers, command_receiver, event_sender);
        let reactor = reactor.map_err(|source| StartError::Listen {
            first: *config.ports.start(),
            last: *config.ports.end(),
            bind: config.bind,
            source,
        })?;
        Ok(Self { commands: Some(commands), events, reactor })
    }

    /// The port that peers connect to; 0 if the session does not listen.
    pub fn listen_port(&self) -> u16 {
        self.reactor.ports().tcp
    }

    /// The port that datagrams are sent from and received on: the same, unless another program has
    /// it. 0 if there is none.
    pub fn datagram_port(&self) -> u16 {
        self.reactor.ports().udp
    }

    /// The addresses that the session listens on, unspecified ones for all of this machine.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        self.reactor.addresses()
    }

    /// Adds a torrent and starts it.
    ///
    /// # Errors
    /// The session has the torrent already, or has ended.
    pub fn add(&self, add: AddTorrent) -> Result<TorrentKey, AddError> {
        let add = Box::new(add);
        self.ask(|reply| Command::Add { add, reply }).map_err(|Busy| AddError::Gone)?
    }

    /// Says which files of a torrent that waits for it are wanted: one entry per file, `None` for
    /// all. The torrent goes on.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn select(&self, torrent: TorrentKey, selected: Option<Vec<bool>>) -> Result<(), Busy> {
        self.send(Command::Select { torrent, selected })
    }

    /// Returns what the next launch should know of the DHT: see
    /// [`DhtConfig::state`](crate::DhtConfig::state). `None` if the DHT is off or was not needed yet.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn dht_state(&self) -> Result<Option<Vec<u8>>, Busy> {
        self.ask(|reply| Command::DhtState { reply })
    }

    /// Stops a torrent cleanly; [`crate::EventKind::Stopped`] follows.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn stop(&self, torrent: TorrentKey) -> Result<(), Busy> {
        self.send(Command::Stop { torrent })
    }

    /// Starts a stopped torrent again.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn resume(&self, torrent: TorrentKey) -> Result<(), Busy> {
        self.send(Command::Resume { torrent })
    }

    /// Stops a torrent cleanly and forgets it: [`crate::EventKind::Stopped`] is its last event. A
    /// stopped torrent is forgotten at once. The files stay.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn remove(&self, torrent: TorrentKey) -> Result<(), Busy> {
        self.send(Command::Remove { torrent })
    }

    /// Tries these peers for a torrent.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn add_peers(&self, torrent: TorrentKey, peers: Vec<SocketAddr>) -> Result<(), Busy> {
        self.send(Command::AddPeers { torrent, peers })
    }

    /// Changes the rate limits of the session, in bytes per second.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn set_limits(&self, down: Option<u64>, up: Option<u64>) -> Result<(), Busy> {
        self.send(Command::SetLimits { down, up })
    }

    /// The events, as they happen.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// The state of every torrent.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn snapshot(&self) -> Result<Vec<TorrentStatus>, Busy> {
        self.ask(|reply| Command::Snapshot { reply })
    }

    /// Stops every torrent cleanly and ends the session. After `within` it no longer waits for
    /// torrents, but still for writes and syncs that have begun, however long they take. A clone of
    /// [`Self::events`] still receives events meanwhile.
    pub fn shut_down(mut self, within: Duration) {
        let _ = self.send(Command::ShutDown { within });
        self.join();
    }

    fn send(&self, command: Command) -> Result<(), Busy> {
        let commands = self.commands.as_ref().ok_or(Busy)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })?;
        self.reactor.wake();
        Ok(())
    }

    fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Command) -> Result<T, Busy> {
        let (sender, answer) = bounded(1);
        self.send(question(sender))?;
        answer.recv().map_err(|_| Busy)
    }

    fn join(&mut self) {
        // The reactor shuts down once the sender of commands is gone.
        self.commands = None;
        self.reactor.wake();
        self.reactor.join();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.join();
    }
}

/// Returns a fetcher for any address family, and one for each alone.
fn fetchers(config: &SessionConfig) -> Result<Fetchers, FetcherError> {
    let bound = |bind: Option<IpAddr>| {
        Fetcher::new(FetcherConfig {
            user_agent: config.client_name.clone(),
            ca_file: config.ca_file.clone(),
            bind,
            ..FetcherConfig::default()
        })
    };
    Ok(Fetchers {
        any: bound(config.bind)?,
        v4: bound(Some(Ipv4Addr::UNSPECIFIED.into()))?,
        v6: bound(Some(Ipv6Addr::UNSPECIFIED.into()))?,
    })
}

pub(crate) fn ports(first: u16, last: u16) -> String {
    if first == last { format!("port {first}") } else { format!("ports {first} to {last}") }
}

pub(crate) fn on(bind: Option<IpAddr>) -> String {
    bind.map_or_else(String::new, |ip| format!(" of {ip}"))
}
