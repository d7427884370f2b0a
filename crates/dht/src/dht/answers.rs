//! Queries of others, and what they get.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::InfoHashV1;
use rand::RngExt as _;

use super::Dht;
use crate::address::{is_local, is_peer};
use crate::bloom::BLOOM_LENGTH;
use crate::message::{
    Body, ErrorCode, Message, Method, Nodes, Query, Reply, Values, Want, node_length, push_node,
};
use crate::table::{Closest, K, Node};
use crate::throttle::Standing;
use crate::tokens::TOKEN_LENGTH;
use crate::{Family, NodeId};

/// The longest datagram that we send, in bytes (BEP 32).
pub(super) const MAX_REPLY: usize = 1_024;
/// How many times longer than the query an answer may be, headers included.
const AMPLIFICATION: usize = 4;
/// The same for `get_peers`.
const PEERS_AMPLIFICATION: usize = 8;
/// The length of the headers of IP and UDP.
const V4_HEADERS: usize = 28;
const V6_HEADERS: usize = 48;

/// Parts of a reply while it is composed; kept for their allocations.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    nodes: Vec<u8>,
    nodes6: Vec<u8>,
    values: Vec<u8>,
}

/// The sender of a query.
#[derive(Clone, Copy)]
pub(super) struct Asker<'m> {
    pub(super) address: SocketAddr,
    pub(super) transaction: &'m [u8],
    pub(super) standing: Standing,
    /// The longest answer.
    pub(super) limit: usize,
}

impl Dht {
    /// Answers a query of `length` bytes.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        from: SocketAddr,
        message: &Message<'_>,
        query: &Query<'_>,
        length: usize,
    ) {
        self.counters.queries += 1;
        let family = Family::of(from);
        let own = self.overlay(family).map(super::Overlay::id);
        let Some(own) = own.filter(|own| !self.read_only && *own != query.id) else { return };
        let standing = self.standing(now, from, query);
        if !self.throttle.admit(now, from, standing) {
            self.counters.throttled += 1;
            return;
        }
        if !message.read_only
            && let Some(overlay) = self.overlay_mut(family)
        {
            overlay.add_pending_check(now, query.id, from);
            self.schedule.hasten(now, self.next_pending_check());
        }
        let factor = match query.method {
            Method::GetPeers { .. } => PEERS_AMPLIFICATION,
            _ => AMPLIFICATION,
        };
        let limit = longest(from, length, factor);
        let asker = Asker { address: from, transaction: message.transaction, standing, limit };
        match query.method {
            Method::Ping => self.reply(now, asker, &Reply::new(own)),
            #[cfg(feature = "items")]
            Method::Get { target, want, seq } => {
                self.answer_get(now, asker, query.id, (target, want, seq));
            }
            #[cfg(not(feature = "items"))]
            Method::Get { target, want, .. } => {
                self.answer_with(now, asker, target, want, Reply::new(own), 0);
            }
            Method::FindNode { target, want } => {
                self.answer_with(now, asker, target, want, Reply::new(own), 0);
            }
            Method::GetPeers { info_hash, want, noseed, scrape } => {
                self.answer_get_peers(now, asker, query.id, (info_hash, want), noseed, scrape);
            }
            Method::AnnouncePeer { info_hash, port, seed, token } => {
                let port = port.unwrap_or_else(|| from.port());
                let result = self.store_peer(now, asker, query.id, (info_hash, port, seed), token);
                self.confirm(now, asker, own, length, result);
            }
            #[cfg(feature = "items")]
            Method::Put { token, value, mutable } => {
                let stored = self.store_item(now, from, query.id, (token, value), mutable);
                if let Some(result) = stored {
                    self.confirm(now, asker, own, length, result);
                }
            }
            #[cfg(not(feature = "items"))]
            Method::Put { .. } => {
                self.confirm(now, asker, own, length, Err(ErrorCode::MethodUnknown));
            }
        }
    }

    /// Whether the asker receives at its address. It is found out only if there are too many queries
    /// for the others' budget.
    fn standing(&mut self, now: Duration, from: SocketAddr, query: &Query<'_>) -> Standing {
        if !self.throttle.is_flooded(now) {
            return Standing::Unknown;
        }
        let is_node = self
            .overlay(Family::of(from))
            .is_some_and(|overlay| overlay.table.contains(&query.id, from));
        let mut has_token = || match query.method {
            Method::AnnouncePeer { info_hash, token, .. } => {
                let target = info_hash.into();
                self.tokens.is_valid(now, token, from, &query.id, &target, &mut self.rng)
            }
            #[cfg(feature = "items")]
            Method::Put { token, value, mutable } => {
                self.has_put_token(now, from, &query.id, (token, value), mutable)
            }
            _ => false,
        };
        if is_node || has_token() { Standing::Proven } else { Standing::Unknown }
    }

    /// Answers a query with bad arguments.
    pub(super) fn refuse(
        &mut self,
        now: Duration,
        from: SocketAddr,
        message: &Message<'_>,
        code: ErrorCode,
        length: usize,
    ) {
        self.counters.queries += 1;
        if self.read_only || !self.throttle.admit(now, from, Standing::Unknown) {
            return;
        }
        let standing = Standing::Unknown;
        let limit = longest_error(length);
        let asker = Asker { address: from, transaction: message.transaction, standing, limit };
        self.send_answer(now, asker, Body::Refused(code), None);
    }

    fn confirm(
        &mut self,
        now: Duration,
        asker: Asker<'_>,
        own: NodeId,
        length: usize,
        result: Result<(), ErrorCode>,
    ) {
        match result {
            Ok(()) => self.reply(now, asker, &Reply::new(own)),
            Err(code) => {
                let asker = Asker { limit: longest_error(length), ..asker };
                self.send_answer(now, asker, Body::Refused(code), None);
            }
        }
    }

    fn store_peer(
        &mut self,
        now: Duration,
        asker: Asker<'_>,
        id: NodeId,
        (info_hash, port, seed): (InfoHashV1, u16, bool),
        token: &[u8],
    ) -> Result<(), ErrorCode> {
        let target = info_hash.into();
        if !self.tokens.is_valid(now, token, asker.address, &id, &target, &mut self.rng) {
            return Err(ErrorCode::Protocol);
        }
        let mut peer = asker.address;
        peer.set_port(port);
        if !is_peer(peer, true) {
            return Err(ErrorCode::Protocol);
        }
        let own = self.own_ids();
        let stored = self.peers.announce(now, own, (info_hash, peer, seed));
        stored.map_err(|_| ErrorCode::Server)
    }

    fn answer_get_peers(
        &mut self,
        now: Duration,
        asker: Asker<'_>,
        id: NodeId,
        (info_hash, want): (InfoHashV1, Want),
        noseed: bool,
        scrape: bool,
    ) {
        let Some(own) = self.overlay(Family::of(asker.address)).map(super::Overlay::id) else {
            return;
        };
        let target = info_hash.into();
        let own_ids = self.own_ids();
        // Without a token the asker announces elsewhere (BEP 33).
        let token: Option<[u8; TOKEN_LENGTH]> = self
            .peers
            .accepts(own_ids, info_hash, asker.address)
            .then(|| self.tokens.issue(now, asker.address, &id, &target, &mut self.rng));
        let filters = if scrape { self.peers.filters(info_hash) } else { None };
        let start = self.rng.random();
        let mut values = std::mem::take(&mut self.scratch.values);
        values.clear();
        let mut room = asker.limit.saturating_sub(overhead(asker));
        room = room.saturating_sub(b"5:token8:".len() + TOKEN_LENGTH);
        // The filters are what a scrape is for; nodes come next, and peers take what is left.
        let filters = filters.filter(|_| room >= 2 * (b"4:BFsd256:".len() + BLOOM_LENGTH));
        if filters.is_some() {
            room -= 2 * (b"4:BFsd256:".len() + BLOOM_LENGTH);
        }
        let nodes = self.push_nodes(asker, target, want, room);
        room = room.saturating_sub(nodes + b"6:valuesle".len());
        self.peers.values(info_hash, asker.address.ip(), noseed, start, room, &mut values);
        let (nodes, nodes6) = self.take_nodes();
        let reply = Reply {
            nodes: Nodes::new(Family::V4, &nodes).filter(|_| !nodes.is_empty()),
            nodes6: Nodes::new(Family::V6, &nodes6).filter(|_| !nodes6.is_empty()),
            values: (!values.is_empty()).then(|| Values::new(&values)),
            token: token.as_ref().map(<[u8; _]>::as_slice),
            seeds: filters.as_ref().map(|(seeds, _)| seeds.as_bytes()),
            peers: filters.as_ref().map(|(_, peers)| peers.as_bytes()),
            ..Reply::new(own)
        };
        self.reply(now, asker, &reply);
        (self.scratch.nodes, self.scratch.nodes6, self.scratch.values) = (nodes, nodes6, values);
    }

    /// Answers with the nodes closest to `target` and what is in `reply`, which takes `extra` bytes.
    pub(super) fn answer_with(
        &mut self,
        now: Duration,
        asker: Asker<'_>,
        target: NodeId,
        want: Want,
        reply: Reply<'_>,
        extra: usize,
    ) {
        let empty_list = b"6:nodes60:".len();
        let room = asker.limit.saturating_sub(overhead(asker) + extra + empty_list);
        self.push_nodes(asker, target, want, room);
        let (nodes, nodes6) = self.take_nodes();
        // A list that was asked for is there even if it is empty (BEP 5, "find_node").
        let list = |family, nodes| {
            Nodes::new(family, nodes).filter(|_| is_wanted(asker.address, want, family))
        };
        let reply =
            Reply { nodes: list(Family::V4, &nodes), nodes6: list(Family::V6, &nodes6), ..reply };
        self.reply(now, asker, &reply);
        (self.scratch.nodes, self.scratch.nodes6) = (nodes, nodes6);
    }

    /// Collects the closest nodes of the wanted families, those of the asker's first, in `room`
    /// bytes. Returns how many bytes they take.
    fn push_nodes(&mut self, asker: Asker<'_>, target: NodeId, want: Want, room: usize) -> usize {
        let (mut nodes, mut nodes6) = self.take_nodes();
        nodes.clear();
        nodes6.clear();
        let own = Family::of(asker.address);
        let other = if own == Family::V4 { Family::V6 } else { Family::V4 };
        let names_local = is_local(asker.address.ip());
        let wanted = |node: &Node| node.is_good() && (names_local || !is_local(node.address.ip()));
        let mut used = 0;
        for family in [own, other] {
            if !is_wanted(asker.address, want, family) {
                continue;
            }
            let out = match family {
                Family::V4 => &mut nodes,
                Family::V6 => &mut nodes6,
            };
            let left = room.saturating_sub(used + b"6:nodes6304:".len());
            let mut found = Closest::default();
            if let Some(overlay) = self.overlay(family) {
                overlay.table.closest(&target, wanted, &mut found);
            }
            for node in found.iter().take(K.min(left / node_length(family))) {
                push_node(&node.id, node.address, out);
            }
            used += if out.is_empty() { 0 } else { out.len() + b"6:nodes6304:".len() };
        }
        (self.scratch.nodes, self.scratch.nodes6) = (nodes, nodes6);
        used
    }

    fn take_nodes(&mut self) -> (Vec<u8>, Vec<u8>) {
        (std::mem::take(&mut self.scratch.nodes), std::mem::take(&mut self.scratch.nodes6))
    }

    fn reply(&mut self, now: Duration, asker: Asker<'_>, reply: &Reply<'_>) {
        self.send_answer(now, asker, Body::Reply(*reply), Some(asker.address));
    }

    fn send_answer(
        &mut self,
        now: Duration,
        asker: Asker<'_>,
        body: Body<'_>,
        ip: Option<SocketAddr>,
    ) {
        let version = self.version.as_ref().map(<[u8; 4]>::as_slice).filter(|_| ip.is_some());
        let message = Message { ip, version, ..Message::new(asker.transaction, body) };
        let sent = self.outbox.push(asker.address, asker.limit, |out| message.encode(out));
        if let Some(sent) = sent {
            self.counters.answered += 1;
            self.throttle.spend(now, sent, asker.standing);
        }
    }
}

/// Whether an asker wants nodes of the family (BEP 32, "want").
fn is_wanted(asker: SocketAddr, want: Want, family: Family) -> bool {
    match (want.v4 || want.v6, family) {
        (false, family) => family == Family::of(asker),
        (true, Family::V4) => want.v4,
        (true, Family::V6) => want.v6,
    }
}

/// The most bytes that a reply takes besides its fields.
fn overhead(asker: Asker<'_>) -> usize {
    let ip = if asker.address.is_ipv4() { 6 } else { 18 };
    b"d2:ip18:1:rd2:id20:12345678901234567890e1:t32:1:v4:XX011:y1:re".len()
        + ip
        + asker.transaction.len()
}

/// The longest answer to a query of `length` bytes, so that nobody gains much by asking in the name
/// of a victim.
fn longest(from: SocketAddr, length: usize, factor: usize) -> usize {
    let headers = if from.is_ipv4() { V4_HEADERS } else { V6_HEADERS };
    (factor * (length + headers) - headers).min(MAX_REPLY)
}

fn longest_error(length: usize) -> usize {
    length * 3 / 2
}
