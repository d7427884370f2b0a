//! Nodes for the routing table of a node: they answer every query, and ask nobody.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use ::dht::NodeId;
use ::dht::message::{Body, Message, Reply};

use super::asker::hash;

/// How many there are. Each has an address of its own, because tables limit nodes by address.
const NEIGHBOURS: u8 = 32;
/// How long they wait between two looks at their sockets.
const PAUSE: Duration = Duration::from_millis(10);

/// Nodes that answer until they are dropped.
pub(super) struct Neighbours {
    addresses: Vec<SocketAddr>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbours {
    pub(super) fn start() -> Result<Self> {
        let mut sockets = Vec::new();
        for number in 1..=NEIGHBOURS {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, number, 0, 1), 0))?;
            socket.set_nonblocking(true)?;
            sockets.push((socket, NodeId(hash("neighbour", number.into()))));
        }
        let addresses = sockets.iter().map(|(socket, _)| socket.local_addr());
        let addresses = addresses.collect::<std::io::Result<_>>()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                sockets.iter().for_each(|(socket, id)| answer(socket, *id));
                thread::sleep(PAUSE);
            }
        });
        Ok(Self { addresses, is_over, thread: Some(thread) })
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Answers the queries that have arrived.
fn answer(socket: &UdpSocket, id: NodeId) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(Message { transaction, body: Body::Query(_), .. }) =
            Message::decode(&buffer[..length])
        else {
            continue;
        };
        let body = Body::Reply(Reply::new(id));
        let reply = Message { ip: Some(from), ..Message::new(transaction, body) };
        let mut out = Vec::new();
        reply.encode(&mut out);
        // A node that hears nothing asks again.
        let _sent = socket.send_to(&out, from);
    }
}
