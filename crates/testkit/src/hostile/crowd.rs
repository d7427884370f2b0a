//! Many hostile peers on one thread, which waits for whichever socket is ready.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::talk::Talk;
use super::{Hostile, Met};

/// How long nobody is ready before clocks are looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// How long after the end of its connection a peer comes back.
const AGAIN: Duration = Duration::from_millis(100);

/// Hostile peers at work until dropped. They are known by their place in the list they came in.
#[derive(Debug)]
pub struct Crowd {
    addresses: Vec<Option<SocketAddr>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    met: Mutex<Vec<Met>>,
    changed: Condvar,
}

impl Crowd {
    /// Starts them: those that listen do so when this returns, on a free port of 127.0.0.1 each.
    ///
    /// # Errors
    /// The system has no more sockets or threads.
    pub fn start(scripts: impl IntoIterator<Item = Hostile>) -> io::Result<Self> {
        let members: Vec<Member> =
            scripts.into_iter().map(Member::new).collect::<Result<_, _>>()?;
        let addresses = members.iter().map(Member::address).collect();
        let shared = Arc::new(Shared::default());
        shared.lock().resize(members.len(), Met::default());
        let own = shared.clone();
        let run = move || run(members, &own);
        let thread = thread::Builder::new().name("hostile-crowd".to_owned()).spawn(run)?;
        Ok(Self { addresses, shared, thread: Some(thread) })
    }

    /// Where the peer at `place` listens.
    ///
    /// # Panics
    /// If it does not listen, or is not there.
    pub fn address(&self, place: usize) -> SocketAddr {
        self.addresses[place].expect("a peer that listens")
    }

    /// What each met with so far.
    pub fn met(&self) -> Vec<Met> {
        self.shared.lock().clone()
    }

    /// Waits until `enough` holds for what they met with, at most `limit`; says whether it does.
    pub fn wait_for(&self, limit: Duration, mut enough: impl FnMut(&[Met]) -> bool) -> bool {
        let met = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(met, limit, |met| !enough(met));
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
    fn lock(&self) -> MutexGuard<'_, Vec<Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what they met with, and wakes those who wait for it.
    fn publish(&self, members: &[Member]) {
        let mut met = self.lock();
        let changed = met.iter().zip(members).any(|(old, member)| *old != member.met);
        if changed {
            *met = members.iter().map(|member| member.met.clone()).collect();
            self.changed.notify_all();
        }
    }
}

/// One of the crowd.
#[derive(Debug)]
struct Member {
    script: Arc<Hostile>,
    listener: Option<TcpListener>,
    talks: Vec<Talk>,
    met: Met,
    /// When it connects; `None` if it does not, or has.
    visit_at: Option<Instant>,
}

impl Member {
    fn new(script: Hostile) -> io::Result<Self> {
        let listener = match script.place {
            Some(_) => None,
            None => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
        };
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        let visit_at = script.place.map(|_| Instant::now());
        let script = Arc::new(script);
        Ok(Self { script, listener, talks: Vec::new(), met: Met::default(), visit_at })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Connects, if it is time.
    fn visit(&mut self, now: Instant) {
        let (Some(address), Some(_)) = (self.script.place, self.visit_at.filter(|at| *at <= now))
        else {
            return;
        };
        self.visit_at = None;
        match connect(address, self.script.from) {
            Ok(stream) => self.begin(stream, true),
            Err(_) => self.ended(now),
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok((stream, _)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok() {
            self.begin(stream, false);
        }
    }

    fn begin(&mut self, stream: TcpStream, speaks_first: bool) {
        self.met.connections += 1;
        self.met.addresses.extend(stream.local_addr());
        self.talks.push(Talk::new(self.script.clone(), stream, speaks_first));
    }

    /// A connection ended, or did not come about.
    fn ended(&mut self, now: Instant) {
        self.met.ended += 1;
        if self.script.comes_back {
            self.visit_at = Some(now + AGAIN);
        }
    }

    /// What to wait for: the listener first, then each connection.
    fn wishes(&self, now: Instant) -> impl Iterator<Item = PollFd<'_>> {
        let listener = self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN));
        let talks = self.talks.iter().map(move |talk| {
            let wish = |wish, flag| if wish { flag } else { PollFlags::empty() };
            let read = wish(talk.listens(), PollFlags::IN);
            PollFd::new(talk.stream(), read | wish(talk.speaks(now), PollFlags::OUT))
        });
        listener.chain(talks)
    }

    /// Does what is possible now, by the answers to [`Self::wishes`].
    fn act(&mut self, now: Instant, ready: &[PollFlags]) {
        let (listener, talks) = ready.split_at(usize::from(self.listener.is_some()));
        let met = &mut self.met;
        let mut ready = talks.iter();
        let before = self.talks.len();
        self.talks.retain_mut(|talk| {
            let flags = ready.next().copied().unwrap_or(PollFlags::empty());
            serve(talk, now, flags, met).is_ok()
        });
        (self.talks.len()..before).for_each(|_| self.ended(now));
        if listener.first().is_some_and(|flags| !flags.is_empty()) {
            self.accept();
        }
    }
}

fn run(mut members: Vec<Member>, shared: &Shared) {
    while !shared.closing.load(Ordering::SeqCst) {
        let now = Instant::now();
        members.iter_mut().for_each(|member| member.visit(now));
        let mut fds: Vec<PollFd<'_>> =
            members.iter().flat_map(|member| member.wishes(now)).collect();
        // Interrupted: nobody is ready.
        let _ready = poll(&mut fds, Some(&TICK));
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let mut rest = &ready[..];
        for member in &mut members {
            let sockets = usize::from(member.listener.is_some()) + member.talks.len();
            let (own, others) = rest.split_at(sockets);
            member.act(now, own);
            rest = others;
        }
        shared.publish(&members);
    }
}

fn serve(talk: &mut Talk, now: Instant, ready: PollFlags, met: &mut Met) -> io::Result<()> {
    let broken = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    if ready.intersects(broken) && !ready.contains(PollFlags::IN) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if ready.contains(PollFlags::IN) {
        talk.read(met)?;
    }
    if ready.contains(PollFlags::OUT) {
        talk.write(now, met)?;
    }
    Ok(())
}

/// A connection on its way, between IPv4 addresses.
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
