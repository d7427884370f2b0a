//! Hostile nodes of the DHT (BEP 5, 42, 44) against bt-cli as a node, and as one that looks for
//! peers.

mod floods;
mod named;
mod nodes;
mod queries;
mod stores;
mod walks;
mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Story, hostile_case};
use crate::bt_cli::json_lines;
use crate::integration::scene::{LIMIT, Scene};
use tasks::process::{Launch, wait_until};
use tasks::report::Case;
use wire::Id;

/// The id of the nodes that ask.
const ASKER: Id = *b"the id of the asker!";
/// The torrent of the queries.
const HASH: Id = *b"some torrent's hash!";

/// Returns the cases.
pub(super) fn cases<'a>(
    program: &'a std::path::Path,
    only: Option<&str>,
    is_short: bool,
) -> Vec<Case<'a>> {
    let queries = queries::ROWS.iter().filter_map(|row| {
        let gets = row.1.to_string();
        hostile_case(only, &["dht queries", row.0, &gets], move || {
            queries::run(&Scene::new(program)?, row)
        })
    });
    let stories: [(_, &'static [Story]); 4] = [
        ("dht stores", stores::CASES),
        ("dht floods", floods::CASES),
        ("dht lookups", walks::CASES),
        ("dht victims", named::cases(is_short)),
    ];
    let stories = stories.into_iter().flat_map(|(area, stories)| {
        stories.iter().filter_map(move |(name, what, story)| {
            hostile_case(only, &[area, name, what], move || story(&Scene::new(program)?))
        })
    });
    queries.chain(stories).collect()
}

/// `bt-cli dht node`.
struct Node {
    launch: Launch,
    address: SocketAddr,
    id: Id,
}

impl Node {
    fn start(scene: &Scene) -> Result<Self> {
        let user = scene.user("node");
        let mut command = user.command(["dht", "node", "--json", "--port", "0"]);
        command.args(["--bind", "127.0.0.1", "--dht-routers", "none"]);
        let launch = user.start("node", &command)?;
        let state = || json_lines(&launch.stdout()).next();
        ensure!(wait_until(LIMIT, || state().is_some()), "{}", launch.output_tail());
        let state = state().context("it printed its state")?;
        let address = state["listen"][0].as_str().context("an address")?.parse()?;
        let hex = state["ids"][0].as_str().context("an id")?;
        let digits = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
        let id: Option<Vec<u8>> = (0..20).map(digits).collect();
        let id = id.and_then(|id| id.try_into().ok()).context("an id of 20 bytes")?;
        Ok(Self { launch, address, id })
    }
}

/// A node that asks another one.
struct Asker {
    socket: UdpSocket,
    node: SocketAddr,
    id: Id,
}

impl Asker {
    fn new(node: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        Ok(Self { socket, node, id: ASKER })
    }

    fn send(&self, datagram: &[u8]) -> Result<()> {
        self.socket.send_to(datagram, self.node)?;
        Ok(())
    }

    /// Returns the next datagram from the node that is no query, if one comes within `limit`.
    fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            if from == self.node && !wire::is_query(&buffer[..length]) {
                return Ok(Some(buffer[..length].to_vec()));
            }
        }
    }

    /// Sends a datagram, and returns what it gets: what comes before the reply to a ping.
    fn exchange(&self, datagram: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.send(datagram)?;
        self.send(&wire::query(b"over", &self.id, "ping", b""))?;
        let mut answers = Vec::new();
        while let Some(answer) = self.receive(LIMIT)? {
            if wire::field(&answer, "1:t") == Some(b"over") {
                return Ok(answers);
            }
            answers.push(answer);
        }
        bail!("the node does not answer any more")
    }

    /// Sends a query, and returns its only answer.
    fn ask(&self, method: &str, arguments: &[u8]) -> Result<Vec<u8>> {
        let mut answers = self.exchange(&wire::query(b"ask", &self.id, method, arguments))?;
        ensure!(answers.len() == 1, "{} answers to {method}", answers.len());
        Ok(answers.swap_remove(0))
    }

    /// Asks for peers of a torrent, and returns the token.
    fn token(&self, hash: &Id) -> Result<Vec<u8>> {
        let answer = self.ask("get_peers", &[b"9:info_hash", &wire::text(hash)[..]].concat())?;
        Ok(wire::field(&answer, "5:token").context("a token")?.to_vec())
    }
}
