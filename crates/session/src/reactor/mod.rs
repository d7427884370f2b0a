//! The one thread that owns every socket and drives the engine. It never blocks: disk, names and
//! TLS are left to other threads, and no channel is waited for.
//!
//! ```text
//!  one turn:  poll -> store answers -> commands -> names and fetches -> sockets -> timers -> actions
//! ```
//!
//! Readiness is edge-triggered: a socket that can still be read or written stays on the ready list.
//! A turn serves each socket a bounded amount.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The clock is here.

pub(crate) mod datagrams;
pub(crate) mod helpers;
mod links;
mod listen;
mod local;
mod send;
mod sockets;
mod waiting_peers;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use mio::{Events, Poll, Token, Waker};
use piece_store::{Job, Pool, PoolConfig};

use crate::command::Command;
use crate::config::SessionConfig;
use crate::descriptors::Descriptors;
use crate::engine::{Action, Engine, EngineConfig, Families, LinkKey};
use crate::event::Event;
use crate::limits::{
    self, MAX_STORE_JOBS, QUEUE_CAPACITY, RECEIVE_BUFFER, REFILL_INTERVAL, SLOW_TURN,
};
use crate::net::{OpenPorts, open_ports};
use datagrams::Datagrams;
pub(crate) use helpers::Fetchers;
use helpers::{FetchJob, Helpers, Reply};
use listen::Listeners;
use local::LocalSockets;
use send::Sender as PayloadSender;
use sockets::Sockets;
use waiting_peers::WaitingPeers;

/// Wakes the reactor, so that it reads its channels.
type Wake = Arc<dyn Fn() + Send + Sync>;

pub(crate) const WAKER: Token = Token(0);
const LISTENER_V4: Token = Token(1);
const LISTENER_V6: Token = Token(2);
pub(crate) const UDP_V4: Token = Token(3);
pub(crate) const UDP_V6: Token = Token(4);
const LOCAL_V4: Token = Token(5);
const LOCAL_V6: Token = Token(6);
/// The token of the first link. Those of the others follow.
const FIRST_LINK: usize = 7;

/// How long the reactor sleeps when there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);
/// Readiness events taken from the system at a time.
const EVENTS_PER_POLL: usize = 1024;

/// The thread's state.
struct Reactor {
    engine: Engine,
    poll: Poll,
    woken: Arc<AtomicBool>,
    started: Instant,
    bind: Option<IpAddr>,
    listeners: Listeners,
    ports: Ports,
    datagrams: Datagrams,
    /// For peers in the local network; `None` if they are not looked for.
    local: Option<LocalSockets>,
    accept_ready: bool,
    /// Nothing is accepted before this, since the system ran out of sockets.
    accept_at: Duration,
    sockets: Sockets,
    sender: PayloadSender,
    pool: Pool,
    /// Connections that failed at once, and why; reported to the engine in the next turn.
    failed_connects: Vec<(LinkKey, String)>,
    /// Jobs that the pool has no room for yet.
    backlog: VecDeque<Job>,
    helpers: Helpers,
    commands: Receiver<Command>,
    events: Sender<Event>,
    waiting_peers: WaitingPeers,
    /// Lasting events that the channel has no room for yet.
    lasting: VecDeque<Event>,
    receive_buffer: Vec<u8>,
    /// When the reactor ends even if torrents are not stopped yet.
    end_at: Option<Duration>,
}

/// The settings that a reactor starts with.
struct Setup<'a> {
    config: &'a SessionConfig,
    descriptors: Descriptors,
    /// The seed of the engine.
    seed: u64,
}

impl Setup<'_> {
    /// Returns the configuration of the engine, with the port and families in use.
    fn engine_config(&self, ports: Ports, families: Families) -> EngineConfig {
        let Self { config, descriptors, seed } = *self;
        let workers = descriptors.store.workers;
        EngineConfig {
            client_name: config.client_name.clone(),
            peer_id_prefix: config.peer_id_prefix,
            listen_port: ports.tcp,
            datagram_port: ports.udp,
            max_down: config.max_down,
            max_up: config.max_up,
            span_memory: limits::span_memory(config.max_memory, workers),
            fixed_memory: limits::fixed_memory(workers),
            verify_jobs: workers + limits::VERIFY_AHEAD,
            max_connections: descriptors.connections,
            max_half_open: descriptors.half_open,
            open_files: descriptors.store.open_files,
            max_peers_per_torrent: config.max_peers_per_torrent,
            upload_slots: config.upload_slots,
            state_dir: config.state_dir.clone(),
            announce_ip: config.announce_ip,
            families,
            pex: config.pex,
            dht: config.dht.clone(),
            lsd: config.lsd,
            seed,
        }
    }
}

/// The ports in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The port that peers connect to; 0 if there is none.
    pub(crate) tcp: u16,
    /// The port for datagrams; 0 if there is none.
    pub(crate) udp: u16,
}

/// A reactor on its thread, as its owner holds it.
pub(crate) struct ReactorHandle {
    wake: Wake,
    ports: Ports,
    addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl ReactorHandle {
    /// Binds sockets, starts the pools and the thread.
    pub(crate) fn start(
        config: &SessionConfig,
        fetchers: Fetchers,
        commands: Receiver<Command>,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let seed = config.seed.unwrap_or_else(rand::random);
        let poll = Poll::new()?;
        let (wake, woken) = new_wake(&poll)?;
        let descriptors = Descriptors::divide(config);
        let helpers = Helpers::start(fetchers, &descriptors, &wake)?;
        let pool = Pool::start(PoolConfig {
            resources: descriptors.store,
            outstanding: MAX_STORE_JOBS,
            wake: Arc::clone(&wake),
        })?;
        let setup = Setup { config, descriptors, seed };
        let reactor = Reactor::new(&setup, poll, woken, pool, helpers, commands, events)?;
        let ports = reactor.ports;
        let addresses = reactor.listeners.addresses();
        let builder = std::thread::Builder::new().name("bt-reactor".to_owned());
        let thread = builder.spawn(move || reactor.run())?;
        Ok(Self { wake, ports, addresses, thread: Some(thread) })
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has the reactor read its commands.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// Waits until the reactor has ended.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the reactor panicked");
        }
    }
}

impl Reactor {
    fn new(
        setup: &Setup<'_>,
        poll: Poll,
        woken: Arc<AtomicBool>,
        pool: Pool,
        helpers: Helpers,
        commands: Receiver<Command>,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let config = setup.config;
        let OpenPorts { tcp, udp, tcp_port, udp_port } =
            open_ports(&config.ports, config.listen, config.bind)?;
        let listeners = Listeners::register(tcp, poll.registry())?;
        let datagrams = Datagrams::register(udp, poll.registry())?;
        let local = config.lsd && tcp_port != 0;
        let local = local.then(|| LocalSockets::open(config.bind, poll.registry())).transpose()?;
        let ports = Ports { tcp: tcp_port, udp: udp_port };
        let engine = setup.engine_config(ports, datagrams.families());
        Ok(Self {
            engine: Engine::new(Duration::ZERO, engine),
            poll,
            woken,
            started: Instant::now(),
            bind: config.bind,
            listeners,
            ports,
            datagrams,
            local,
            accept_ready: false,
            accept_at: Duration::ZERO,
            sockets: Sockets::default(),
            sender: PayloadSender::default(),
            pool,
            failed_connects: Vec::new(),
            backlog: VecDeque::new(),
            helpers,
            commands,
            events,
            waiting_peers: WaitingPeers::default(),
            lasting: VecDeque::new(),
            receive_buffer: vec![0; RECEIVE_BUFFER],
            end_at: None,
        })
    }

    /// Runs until it is shut down and every torrent is stopped, or the time for that is over.
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.is_finished() {
            if let Err(error) = self.poll.poll(&mut events, Some(self.timeout()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("cannot wait for sockets: {error}");
                return;
            }
            let turn = Instant::now();
            self.turn(&events);
            let took = turn.elapsed();
            if took > SLOW_TURN {
                log::debug!("a turn of the reactor took {} ms", took.as_millis());
            }
        }
        self.flush_lasting();
    }

    fn turn(&mut self, events: &Events) {
        self.woken.store(false, Ordering::SeqCst);
        self.take_answers();
        self.take_commands();
        self.take_replies();
        self.report_failed_connects();
        self.note_readiness(events);
        self.accept();
        self.receive_datagrams();
        self.receive_local();
        self.run_actions();
        self.serve_links();
        let now = self.now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        self.run_actions();
        self.flush_lasting();
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_finished(&self) -> bool {
        let over =
            |at: Duration| at <= self.now() || (self.engine.is_idle() && self.lasting.is_empty());
        self.end_at.is_some_and(over)
    }

    fn timeout(&self) -> Duration {
        let now = self.now();
        let local = self.local.as_ref().is_some_and(|local| local.ready);
        if self.datagrams.is_ready() || local || !self.failed_connects.is_empty() {
            return Duration::ZERO;
        }
        let accept = (self.accept_ready && !self.engine.is_crowded()).then_some(self.accept_at);
        // Nobody wakes us when the channel has room for a lasting event.
        let lasting = (!self.lasting.is_empty()).then_some(now + REFILL_INTERVAL);
        let due =
            [self.sockets.next_turn(), accept, self.engine.poll_timeout(), self.end_at, lasting];
        let Some(nearest) = due.into_iter().flatten().min() else { return IDLE };
        if nearest <= now {
            return Duration::ZERO;
        }
        // Rounded up, so that the last fraction of a millisecond is not spent spinning.
        nearest - now + Duration::from_micros(999)
    }

    fn take_answers(&mut self) {
        while let Some(done) = self.pool.try_recv() {
            let now = self.now();
            self.engine.handle_done(now, done);
        }
        while let Some(job) = self.backlog.pop_front() {
            if let Err(job) = self.pool.submit(job) {
                self.backlog.push_front(job);
                return;
            }
        }
        self.backlog.shrink_to(QUEUE_CAPACITY);
    }

    fn take_commands(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.handle_command(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    if self.end_at.is_none() {
                        self.shut_down(limits::STOP_ANNOUNCE_TIME);
                    }
                    return;
                }
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Add { add, reply } => {
                let _ = reply.send(self.engine.add(now, *add));
            }
            Command::Select { torrent, selected } => self.engine.select(now, torrent, selected),
            Command::Stop { torrent } => self.engine.stop(now, torrent),
            Command::Resume { torrent } => self.engine.resume(now, torrent),
            Command::Remove { torrent } => self.engine.remove(now, torrent),
            Command::AddPeers { torrent, peers } => self.engine.add_peers(now, torrent, &peers),
            Command::SetLimits { down, up } => self.engine.set_limits(now, down, up),
            Command::Snapshot { reply } => {
                let _ = reply.send(self.engine.status());
            }
            Command::DhtState { reply } => {
                let _ = reply.send(self.engine.dht_state());
            }
            Command::ShutDown { within } => self.shut_down(within),
        }
    }

    fn shut_down(&mut self, within: Duration) {
        let now = self.now();
        self.end_at = Some(now + within);
        self.engine.stop_all(now);
    }

    fn take_replies(&mut self) {
        while let Some(reply) = self.helpers.poll_reply() {
            let now = self.now();
            match reply {
                Reply::Fetched { key, leg, result } => {
                    self.engine.handle_fetched(now, key, leg, result);
                }
                Reply::Resolved { host, result } => self.engine.handle_resolved(now, &host, result),
            }
        }
    }

    fn note_readiness(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                LISTENER_V4 | LISTENER_V6 => self.accept_ready = true,
                token @ (UDP_V4 | UDP_V6) => self.datagrams.note_readiness(token),
                LOCAL_V4 | LOCAL_V6 => self.local.iter_mut().for_each(|local| local.ready = true),
                Token(number) => self.sockets.note_readiness(number - FIRST_LINK, event),
            }
        }
    }

    /// Runs the actions of the engine until there are none.
    fn run_actions(&mut self) {
        self.run_pending_actions();
        while self.flush_datagrams() {
            self.run_pending_actions();
        }
    }

    fn run_pending_actions(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Connect { link, address } => self.connect(link, address),
                Action::Close { link } => self.sockets.remove(&self.poll, link),
                Action::Transmit { link } => self.transmit(link),
                Action::Store(job) => self.store(job),
                Action::Fetch { key, leg, url, request, family } => {
                    let job = FetchJob { key, leg, url, request: *request, family };
                    if !self.helpers.fetch(job) {
                        let now = self.now();
                        self.engine.handle_fetched(now, key, leg, Err(helpers::too_busy()));
                    }
                }
                Action::Resolve { host, of_peer } => {
                    if let Err(host) = self.helpers.resolve(host, of_peer) {
                        let now = self.now();
                        let busy = Err("too many names are waiting to be looked up".to_owned());
                        self.engine.handle_resolved(now, &host, busy);
                    }
                }
                Action::Datagram { to, bytes } => self.datagrams.send(to, &bytes),
                Action::Multicast { group, bytes } => self.send_to_group(group, &bytes),
                Action::Event(event) => self.emit(event),
            }
        }
    }

    fn store(&mut self, job: Job) {
        if !self.backlog.is_empty() {
            return self.backlog.push_back(job);
        }
        if let Err(job) = self.pool.submit(job) {
            self.backlog.push_back(job);
        }
    }

    fn emit(&mut self, event: Event) {
        if event.kind.is_lasting() {
            self.lasting.push_back(event);
            return self.flush_lasting();
        }
        let room = self.events.len() < limits::EVENT_QUEUE - limits::EVENTS_RESERVED;
        if !room || !self.waiting_peers.admit(&event) || self.events.try_send(event).is_err() {
            self.engine.count_dropped_event();
        }
    }

    fn flush_lasting(&mut self) {
        while let Some(event) = self.lasting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(event)) => return self.lasting.push_front(event),
            }
        }
        self.lasting.shrink_to(QUEUE_CAPACITY);
    }
}

/// Returns what wakes the poll, at most once until the reactor has reset the flag.
fn new_wake(poll: &Poll) -> io::Result<(Wake, Arc<AtomicBool>)> {
    let waker = Waker::new(poll.registry(), WAKER)?;
    let woken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&woken);
    let wake = move || {
        if !flag.swap(true, Ordering::SeqCst)
            && let Err(error) = waker.wake()
        {
            log::error!("cannot wake the reactor: {error}");
        }
    };
    Ok((Arc::new(wake), woken))
}
