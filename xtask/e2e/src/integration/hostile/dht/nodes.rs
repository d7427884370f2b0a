//! Nodes that answer with a function.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::wire::{self, Id, field, reply, text};

/// How often a node checks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// A query of bt-cli.
pub(super) struct Asked<'d> {
    pub(super) transaction: &'d [u8],
    /// The id of the asker.
    pub(super) asker: Id,
    /// What is looked for; zeros if nothing is.
    pub(super) target: Id,
    pub(super) for_peers: bool,
}

impl Asked<'_> {
    /// Returns the answer of a node that has these neighbours and peers.
    pub(super) fn answer(
        &self,
        id: &Id,
        nodes: &[(Id, SocketAddr)],
        peers: &[SocketAddr],
    ) -> Vec<u8> {
        let mut fields = wire::nodes(nodes);
        if self.for_peers {
            fields.extend([b"5:token", &text([1; 4])[..]].concat());
            if !peers.is_empty() {
                fields.extend(wire::values(peers));
            }
        }
        reply(self.transaction, id, &fields)
    }
}

/// The socket that a datagram is sent from.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    /// The one that was asked.
    Asked,
    /// One at another port.
    Other,
}

/// A node that works until it is dropped.
pub(super) struct ScriptedNode {
    pub(super) address: SocketAddr,
    queries: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedNode {
    /// Starts a node that sends what `answers` returns.
    pub(super) fn start(
        mut answers: impl FnMut(&Asked<'_>) -> Vec<(By, Vec<u8>)> + Send + 'static,
    ) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let other = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        let (stop, queries) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted) = (stop.clone(), queries.clone());
        let serve = move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let Some(asked) = read(&buffer[..length]) else { continue };
                counted.fetch_add(1, Ordering::SeqCst);
                for (by, bytes) in answers(&asked) {
                    let by = if matches!(by, By::Asked) { &socket } else { &other };
                    let _full = by.send_to(&bytes, from);
                }
            }
        };
        Ok(Self { address, queries, stop, thread: Some(thread::spawn(serve)) })
    }

    /// Starts an honest node that knows these nodes and peers.
    pub(super) fn honest(
        id: Id,
        nodes: Vec<(Id, SocketAddr)>,
        peers: Vec<SocketAddr>,
    ) -> Result<Self> {
        Self::start(move |asked| vec![(By::Asked, asked.answer(&id, &nodes, &peers))])
    }

    /// Returns how many queries came.
    pub(super) fn queries(&self) -> u64 {
        self.queries.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedNode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn read(datagram: &[u8]) -> Option<Asked<'_>> {
    if !wire::is_query(datagram) {
        return None;
    }
    let id = |key| field(datagram, key).and_then(|id| Id::try_from(id).ok());
    let target = id("9:info_hash").or(id("6:target")).unwrap_or_default();
    let for_peers = wire::has(datagram, b"9:get_peers");
    Some(Asked { transaction: field(datagram, "1:t")?, asker: id("2:id")?, target, for_peers })
}
