//! Many hostile peers on one thread, which polls their sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use bt_types::Bitfield;

use super::connection::{Connection, Torrent};
use super::{Hostile, Observed};
use crate::{Payload, raw};

/// The longest wait for a ready socket before timers are checked.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// How long a peer waits before it reconnects.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// Hostile peers, which work until this is dropped. A peer is identified by its index in the list
/// of scripts.
#[derive(Debug)]
pub struct Crowd {
    addresses: Vec<Option<SocketAddr>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    observed: Mutex<Vec<Observed>>,
    changed: Condvar,
}

impl Crowd {
    /// Starts peers with the torrent of `payload`. Those that listen do so when this returns, each
    /// on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// The system has no more sockets or threads.
    pub fn start(
        payload: &Payload,
        scripts: impl IntoIterator<Item = Hostile>,
    ) -> io::Result<Self> {
        let geometry = payload.geometry();
        let torrent = Arc::new(Torrent {
            info_hash: payload.info_hash(),
            piece_length: geometry.piece_length(),
            data: payload.data(),
        });
        let all = Bitfield::full(geometry.piece_count()).as_bytes().to_vec();
        let bitfield = raw::message(raw::BITFIELD, &all);
        let member = |mut script: Hostile| {
            if script.announces_all {
                script.after_handshake.splice(..0, bitfield.iter().copied());
            }
            Member::new(script, torrent.clone())
        };
        let members = scripts.into_iter().map(member).collect::<io::Result<Vec<_>>>()?;
        let addresses = members.iter().map(Member::address).collect();
        let shared = Arc::new(Shared::default());
        shared.lock().resize(members.len(), Observed::default());
        let own = shared.clone();
        let run = move || run(members, &own);
        let thread = thread::Builder::new().name("hostile-crowd".to_owned()).spawn(run)?;
        Ok(Self { addresses, shared, thread: Some(thread) })
    }

    /// Returns the address that peer `index` listens at.
    ///
    /// # Panics
    /// There is no such peer, or it does not listen.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index].expect("a peer that listens")
    }

    /// Returns what each peer has observed so far.
    pub fn observed(&self) -> Vec<Observed> {
        self.shared.lock().clone()
    }

    /// Waits up to `limit` until `enough` returns true for what the peers have observed. Returns
    /// whether it did.
    pub fn wait_for(&self, limit: Duration, mut enough: impl FnMut(&[Observed]) -> bool) -> bool {
        let observed = self.shared.lock();
        let waited =
            self.shared.changed.wait_timeout_while(observed, limit, |observed| !enough(observed));
        waited.is_ok_and(|(_, result)| !result.timed_out())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Observed>> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what the peers have observed, and wakes waiting threads.
    fn publish(&self, members: &[Member]) {
        let mut observed = self.lock();
        let changed = observed.iter().zip(members).any(|(old, member)| *old != member.observed);
        if changed {
            *observed = members.iter().map(|member| member.observed.clone()).collect();
            self.changed.notify_all();
        }
    }
}

/// One peer.
#[derive(Debug)]
struct Member {
    script: Arc<Hostile>,
    torrent: Arc<Torrent>,
    listener: Option<TcpListener>,
    connections: Vec<Connection>,
    observed: Observed,
    /// When it connects; `None` if it listens or has connected.
    connect_at: Option<Instant>,
}

impl Member {
    fn new(script: Hostile, torrent: Arc<Torrent>) -> io::Result<Self> {
        let listener = match script.target {
            Some(_) => None,
            None => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
        };
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        let connect_at = script.target.map(|_| Instant::now());
        let script = Arc::new(script);
        Ok(Self {
            script,
            torrent,
            listener,
            connections: Vec::new(),
            observed: Observed::default(),
            connect_at,
        })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Connects, if it is time.
    fn connect_if_due(&mut self, now: Instant) {
        let (Some(address), Some(_)) =
            (self.script.target, self.connect_at.filter(|at| *at <= now))
        else {
            return;
        };
        self.connect_at = None;
        match connect(address, self.script.from) {
            Ok(stream) => self.add(stream, true),
            Err(_) => self.record_end(now),
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok((stream, _)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok() {
            self.add(stream, false);
        }
    }

    fn add(&mut self, stream: TcpStream, is_outgoing: bool) {
        self.observed.connections += 1;
        self.observed.addresses.extend(stream.local_addr());
        let (script, torrent) = (self.script.clone(), self.torrent.clone());
        self.connections.push(Connection::new(script, torrent, stream, is_outgoing));
    }

    /// Records that a connection ended or failed.
    fn record_end(&mut self, now: Instant) {
        self.observed.ended += 1;
        if self.script.reconnects {
            self.connect_at = Some(now + RECONNECT_DELAY);
        }
    }

    /// Returns what to poll for: the listener first, then each connection.
    fn poll_fds(&self, now: Instant) -> impl Iterator<Item = PollFd<'_>> {
        let listener = self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN));
        let connections = self.connections.iter().map(move |connection| {
            let flag_if = |wanted, flag| if wanted { flag } else { PollFlags::empty() };
            let read = flag_if(connection.wants_to_read(), PollFlags::IN);
            PollFd::new(
                connection.stream(),
                read | flag_if(connection.wants_to_write(now), PollFlags::OUT),
            )
        });
        listener.chain(connections)
    }

    /// Does what is possible now. `ready` is the result for [`Self::poll_fds`].
    fn serve(&mut self, now: Instant, ready: &[PollFlags]) {
        let (listener, connections) = ready.split_at(usize::from(self.listener.is_some()));
        let observed = &mut self.observed;
        let mut ready = connections.iter();
        let before = self.connections.len();
        self.connections.retain_mut(|connection| {
            let flags = ready.next().copied().unwrap_or(PollFlags::empty());
            serve_connection(connection, now, flags, observed).is_ok()
        });
        (self.connections.len()..before).for_each(|_| self.record_end(now));
        if listener.first().is_some_and(|flags| !flags.is_empty()) {
            self.accept();
        }
    }
}

fn run(mut members: Vec<Member>, shared: &Shared) {
    while !shared.closing.load(Ordering::SeqCst) {
        let now = Instant::now();
        members.iter_mut().for_each(|member| member.connect_if_due(now));
        let mut fds: Vec<PollFd<'_>> =
            members.iter().flat_map(|member| member.poll_fds(now)).collect();
        // After an interruption no socket is ready.
        let _ignored = poll(&mut fds, Some(&TICK));
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let mut rest = &ready[..];
        for member in &mut members {
            let sockets = usize::from(member.listener.is_some()) + member.connections.len();
            let (own, others) = rest.split_at(sockets);
            member.serve(now, own);
            rest = others;
        }
        shared.publish(&members);
    }
}

fn serve_connection(
    connection: &mut Connection,
    now: Instant,
    ready: PollFlags,
    observed: &mut Observed,
) -> io::Result<()> {
    let broken = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    if ready.intersects(broken) && !ready.contains(PollFlags::IN) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if ready.contains(PollFlags::IN) {
        connection.read(observed)?;
    }
    if ready.contains(PollFlags::OUT) {
        connection.write(now, observed)?;
    }
    Ok(())
}

/// Starts to connect, between IPv4 addresses.
fn connect(address: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if !from.is_unspecified() {
        rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}
