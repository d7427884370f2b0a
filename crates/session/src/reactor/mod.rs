//! The one thread that owns every socket and drives the core. It never blocks: not on disk, names,
//! TLS, nor on a full channel.
//!
//! ```text
//!  one turn:  poll -> store answers -> commands -> names and fetches -> sockets -> timers -> actions
//! ```
//!
//! Readiness is edge-triggered, so a socket that still has something to give or take stays on the
//! ready list, and a turn serves each a bounded amount.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Here is where the clock is.

mod helpers;
mod listen;
mod sockets;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use piece_store::{Job, Pool, PoolConfig};

use crate::command::Command;
use crate::config::SessionConfig;
use crate::core::{Action, Core, CoreConfig, Families};
use crate::event::Event;
use crate::limits::{MAX_PEER_BUFFERS, MAX_STORE_JOBS, RECEIVE_BUFFER, REFILL_INTERVAL, SLOW_TURN};
pub(crate) use helpers::Fetchers;
use helpers::{FetchJob, Helpers, Reply};
use listen::Listeners;
use sockets::Sockets;

/// Has the reactor look at its channels.
type Wake = Arc<dyn Fn() + Send + Sync>;

const WAKER: Token = Token(0);
const LISTENER_V4: Token = Token(1);
const LISTENER_V6: Token = Token(2);
const UDP_V4: Token = Token(3);
const UDP_V6: Token = Token(4);
/// Sockets of links follow from here.
const FIRST_LINK: usize = 5;

/// Datagrams taken in one turn.
const DATAGRAMS_PER_TURN: usize = 256;
/// The longest datagram that is looked at.
const MAX_DATAGRAM: usize = 64 * 1024;
/// Readiness events taken from the system at a time.
const EVENTS_PER_POLL: usize = 1024;

/// The thread's state.
struct Reactor {
    core: Core,
    poll: Poll,
    woken: Arc<AtomicBool>,
    started: Instant,
    bind: Option<IpAddr>,
    listeners: Listeners,
    udp_v4: Option<UdpSocket>,
    udp_v6: Option<UdpSocket>,
    udp_ready: bool,
    accept_ready: bool,
    sockets: Sockets,
    pool: Pool,
    /// Jobs the pool has no room for yet.
    backlog: VecDeque<Job>,
    helpers: Helpers,
    commands: Receiver<Command>,
    events: Sender<Event>,
    /// Lasting events the caller has not made room for yet.
    lasting: VecDeque<Event>,
    receive_buffer: Vec<u8>,
    /// When the reactor ends even if torrents are not stopped yet.
    end_at: Option<Duration>,
}

/// A reactor on its thread, as its owner holds it.
pub(crate) struct Running {
    wake: Wake,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Running {
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
        let helpers = Helpers::start(fetchers, &wake)?;
        let pool = Pool::start(PoolConfig {
            workers: config.workers.unwrap_or(0),
            outstanding: MAX_STORE_JOBS,
            wake: Arc::clone(&wake),
        })?;
        let door = (commands, events);
        let reactor = Reactor::new(config, seed, poll, woken, pool, helpers, door)?;
        let port = reactor.listeners.port;
        let builder = std::thread::Builder::new().name("bt-reactor".to_owned());
        let thread = builder.spawn(move || reactor.run())?;
        Ok(Self { wake, port, thread: Some(thread) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Has the reactor look at its commands.
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
        config: &SessionConfig,
        seed: u64,
        poll: Poll,
        woken: Arc<AtomicBool>,
        pool: Pool,
        helpers: Helpers,
        (commands, events): (Receiver<Command>, Sender<Event>),
    ) -> io::Result<Self> {
        let listeners = match config.listen {
            true => Listeners::bind(config.ports.clone(), config.bind, poll.registry())?,
            false => Listeners::default(),
        };
        let port = listeners.port;
        let udp_v4 = open_udp(Ipv4Addr::UNSPECIFIED.into(), config.bind, port, &poll, UDP_V4);
        let udp_v6 = open_udp(Ipv6Addr::UNSPECIFIED.into(), config.bind, port, &poll, UDP_V6);
        let families = Families { v4: udp_v4.is_some(), v6: udp_v6.is_some() };
        Ok(Self {
            core: Core::new(Duration::ZERO, core_config(config, port, families, seed)),
            poll,
            woken,
            started: Instant::now(),
            bind: config.bind,
            listeners,
            udp_v4,
            udp_v6,
            udp_ready: false,
            accept_ready: false,
            sockets: Sockets::default(),
            pool,
            backlog: VecDeque::new(),
            helpers,
            commands,
            events,
            lasting: VecDeque::new(),
            receive_buffer: vec![0; RECEIVE_BUFFER],
            end_at: None,
        })
    }

    /// Runs until it is told to shut down and every torrent is stopped, or the time for that is
    /// over.
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.is_finished() {
            if let Err(error) = self.poll.poll(&mut events, Some(self.timeout()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("can't wait for sockets: {error}");
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
        self.note_readiness(events);
        self.accept();
        self.receive_datagrams();
        self.act();
        self.serve_links();
        let now = self.now();
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
        }
        self.act();
        self.flush_lasting();
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_finished(&self) -> bool {
        let over =
            |at: Duration| at <= self.now() || (self.core.is_idle() && self.lasting.is_empty());
        self.end_at.is_some_and(over)
    }

    fn timeout(&self) -> Duration {
        let now = self.now();
        if self.sockets.is_any_ready() || self.udp_ready || self.accept_ready {
            return Duration::ZERO;
        }
        let throttled = self.sockets.is_any_throttled().then_some(REFILL_INTERVAL);
        let until = |at: Duration| at.saturating_sub(now);
        let core = self.core.poll_timeout().map(until);
        let end = self.end_at.map(until);
        // A lasting event that waits for room has nobody to wake us.
        let lasting = (!self.lasting.is_empty()).then_some(REFILL_INTERVAL);
        let nearest = [throttled, core, end, lasting].into_iter().flatten().min();
        // Rounded up, or the last fraction of a millisecond would be spent spinning.
        nearest.unwrap_or(Duration::from_secs(1)) + Duration::from_micros(999)
    }

    fn take_answers(&mut self) {
        while let Some(done) = self.pool.try_recv() {
            let now = self.now();
            self.core.handle_done(now, done);
        }
        while let Some(job) = self.backlog.pop_front() {
            if let Err(job) = self.pool.submit(job) {
                self.backlog.push_front(job);
                return;
            }
        }
    }

    fn take_commands(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    if self.end_at.is_none() {
                        self.shut_down(crate::limits::STOP_ANNOUNCE_TIME);
                    }
                    return;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Add { add, reply } => {
                let _ = reply.send(self.core.add(now, *add));
            }
            Command::Stop { torrent } => self.core.stop(now, torrent),
            Command::Resume { torrent } => self.core.resume(now, torrent),
            Command::Remove { torrent } => self.core.remove(now, torrent),
            Command::AddPeers { torrent, peers } => self.core.add_peers(now, torrent, &peers),
            Command::SetLimits { down, up } => self.core.set_limits(now, down, up),
            Command::Snapshot { reply } => {
                let _ = reply.send(self.core.status());
            }
            Command::ShutDown { within } => self.shut_down(within),
        }
    }

    fn shut_down(&mut self, within: Duration) {
        let now = self.now();
        self.end_at = Some(now + within);
        self.core.stop_all(now);
    }

    fn take_replies(&mut self) {
        while let Some(reply) = self.helpers.poll_reply() {
            let now = self.now();
            match reply {
                Reply::Fetched { key, leg, result } => {
                    self.core.handle_fetched(now, key, leg, result);
                }
                Reply::Resolved { host, result } => self.core.handle_resolved(now, &host, result),
            }
        }
    }

    fn note_readiness(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                LISTENER_V4 | LISTENER_V6 => self.accept_ready = true,
                UDP_V4 | UDP_V6 => self.udp_ready = true,
                Token(number) => self.sockets.note_readiness(number - FIRST_LINK, event),
            }
        }
    }

    fn receive_datagrams(&mut self) {
        if !std::mem::take(&mut self.udp_ready) {
            return;
        }
        for _ in 0..DATAGRAMS_PER_TURN {
            let buffer = &mut self.receive_buffer[..MAX_DATAGRAM];
            let sockets = [&self.udp_v4, &self.udp_v6].into_iter().flatten();
            let received = sockets.filter_map(|socket| socket.recv_from(buffer).ok()).next();
            let Some((length, from)) = received else { return };
            let now = self.started.elapsed();
            self.core.handle_datagram(now, from, &self.receive_buffer[..length]);
        }
        self.udp_ready = true;
    }

    /// Does what the core wants, until it wants nothing more.
    fn act(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Connect { link, address } => self.connect(link, address),
                Action::Close { link } => self.sockets.remove(&self.poll, link),
                Action::Transmit { link } => self.transmit(link),
                Action::Store(job) => self.store(job),
                Action::Fetch { key, leg, url, request, family } => {
                    let job = FetchJob { key, leg, url, request: *request, family };
                    if !self.helpers.fetch(job) {
                        let now = self.now();
                        self.core.handle_fetched(now, key, leg, Err(helpers::too_busy()));
                    }
                }
                Action::Resolve { host } => {
                    if let Err(host) = self.helpers.resolve(host) {
                        let now = self.now();
                        let busy = Err("too many names wait to be looked up".to_owned());
                        self.core.handle_resolved(now, &host, busy);
                    }
                }
                Action::Datagram { to, bytes } => self.send_datagram(to, &bytes),
                Action::Event(event) => self.tell(event),
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

    fn send_datagram(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = if to.is_ipv4() { &self.udp_v4 } else { &self.udp_v6 };
        let Some(socket) = socket else { return };
        // A datagram that is lost here is sent again by the exchange's back-off.
        if let Err(error) = socket.send_to(bytes, to) {
            log::debug!("can't send to {to}: {error}");
        }
    }

    fn tell(&mut self, event: Event) {
        if event.kind.is_lasting() {
            self.lasting.push_back(event);
            return self.flush_lasting();
        }
        if self.events.try_send(event).is_err() {
            self.core.count_dropped_event();
        }
    }

    fn flush_lasting(&mut self) {
        while let Some(event) = self.lasting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(event)) => return self.lasting.push_front(event),
            }
        }
    }
}

/// Wakes the poll once, however often it is called before the reactor looked.
fn new_wake(poll: &Poll) -> io::Result<(Wake, Arc<AtomicBool>)> {
    let waker = Waker::new(poll.registry(), WAKER)?;
    let woken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&woken);
    let wake = move || {
        if !flag.swap(true, Ordering::SeqCst)
            && let Err(error) = waker.wake()
        {
            log::error!("can't wake the reactor: {error}");
        }
    };
    Ok((Arc::new(wake), woken))
}

/// The UDP socket of one family; none if the user or the machine does without that family.
fn open_udp(
    any: IpAddr,
    bind: Option<IpAddr>,
    port: u16,
    poll: &Poll,
    token: Token,
) -> Option<UdpSocket> {
    if bind.is_some_and(|ip| ip.is_ipv4() != any.is_ipv4()) {
        return None;
    }
    let mut socket = listen::bind_udp(bind.unwrap_or(any), port).ok()?;
    poll.registry().register(&mut socket, token, Interest::READABLE).ok()?;
    Some(socket)
}

fn core_config(config: &SessionConfig, port: u16, families: Families, seed: u64) -> CoreConfig {
    let fixed = RECEIVE_BUFFER + MAX_PEER_BUFFERS;
    CoreConfig {
        listen_port: port,
        max_down: config.max_down,
        max_up: config.max_up,
        span_memory: config.max_memory.max(crate::limits::MIN_MEMORY) - fixed,
        max_connections: config.max_connections,
        max_peers_per_torrent: config.max_peers_per_torrent,
        upload_slots: config.upload_slots,
        state_dir: config.state_dir.clone(),
        announce_ip: config.announce_ip,
        families,
        seed,
    }
}
