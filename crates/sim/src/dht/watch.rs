//! Checks what a node sends.
//!
//! | datagram | allowed if | then |
//! |---|---|---|
//! | query | the budgets for queries and for new addresses allow it; the address asked us, was named in an answer to us, or is from the user; no more than [`UNANSWERED`] queries to it are unanswered within a minute, or [`UNANSWERED_KNOWN`] if it has ever answered | outstanding |
//! | reply | it is the only one to the query that is being handled; it is not longer than the query allows; the budgets for answers allow it | |
//! | nodes in it | each has answered with that id, at that address | |
//! | peers in it | each was announced, and that was confirmed | |
//! | token in it | always | issued |
//! | reply to an announce or a put | its token was issued to that address, id and target within [`TOKEN_LIFETIME`] | stored |
//! | error | it is half as long again as the query, at most; it refuses no token that was issued within [`TOKEN_ROTATION`] | |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::dht::message::{Body, Message, Method, Nodes, Query, Reply, Values};
use ::dht::{InfoHashV1, NodeId};

use super::rate::Allowance;
use crate::watch::Broken;

/// Queries that an address may leave unanswered within a minute.
const UNANSWERED: usize = 2;
/// The same for one that has answered.
const UNANSWERED_KNOWN: usize = 16;
const MINUTE: Duration = Duration::from_secs(60);
/// An answer that takes longer is ignored.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// New addresses per minute.
const NEW_ADDRESS_RATE: usize = 600;
/// New addresses in the first half minute.
const FIRST_ADDRESSES: usize = 300;
const FIRST_PERIOD: Duration = Duration::from_secs(30);
/// Seconds are counted as a whole, so that the limit of a minute holds for the 59 between.
const NEW_PERIOD: Duration = Duration::from_secs(59);
/// Queries per second, and the burst.
const QUERY_RATE: u32 = 50;
const QUERY_BURST: u32 = 100;
/// Answers per second to an address, and the burst.
const ASKER_RATE: u32 = 5;
const ASKER_BURST: u32 = 20;
/// Bytes of answers per second, and the burst: for anybody, and again for nodes that proved their
/// address.
const REPLY_BYTES: u32 = 32 * 1024;
const REPLY_BURST: u32 = 64 * 1024;
/// How long a token is valid at least, and at most.
const TOKEN_ROTATION: Duration = Duration::from_secs(5 * 60);
const TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Torrents of all addresses, and of one.
pub(super) const MAX_HASHES: usize = 2_000;
const HASHES_AN_ADDRESS: usize = 100;
const PEER_LIFETIME: Duration = Duration::from_secs(45 * 60);
/// Peers are forgotten once a minute.
const EXPIRY: Duration = Duration::from_secs(60);
/// The longest datagram, and the longest with an item.
const MAX_DATAGRAM: usize = 1_024;
const MAX_ITEM_DATAGRAM: usize = 1_450;

/// The query that the node is handling.
#[derive(Debug, Clone)]
struct Asked {
    from: SocketAddr,
    transaction: Vec<u8>,
    id: NodeId,
    length: usize,
    kind: Kind,
    is_answered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// It has nothing to do with a store.
    Other,
    Peers(InfoHashV1),
    Item(NodeId),
    Announce {
        hash: InfoHashV1,
        port: u16,
        token: Vec<u8>,
    },
    Put {
        token: Vec<u8>,
        target: Option<NodeId>,
    },
}

/// An address that the node has sent queries to.
#[derive(Debug, Default)]
struct Contact {
    has_answered: bool,
    unanswered: VecDeque<Duration>,
}

/// Tokens, and when they were issued.
type Issued = Vec<(Vec<u8>, Duration)>;

/// What a node sent and received.
#[derive(Debug)]
pub(super) struct Watch {
    is_read_only: bool,
    start: Option<Duration>,
    queries: Allowance,
    bytes: Allowance,
    askers: BTreeMap<IpAddr, Allowance>,
    contacts: BTreeMap<IpAddr, Contact>,
    /// When an address was sent something for the first time.
    new: VecDeque<Duration>,
    /// Where a query may go.
    known: BTreeSet<SocketAddr>,
    outstanding: BTreeMap<(SocketAddr, Vec<u8>), Duration>,
    /// The id with which each address answered last.
    answered: BTreeMap<SocketAddr, NodeId>,
    asked: Option<Asked>,
    /// To whom, and for which target, tokens were issued.
    tokens: BTreeMap<(SocketAddr, NodeId, NodeId), Issued>,
    stored: BTreeMap<(InfoHashV1, SocketAddr), Duration>,
    /// The torrents of each address, and whether there were ever more than a node keeps.
    torrents: BTreeMap<IpAddr, BTreeMap<InfoHashV1, Duration>>,
    hashes: BTreeSet<InfoHashV1>,
    /// Announces that were confirmed.
    pub(super) confirmed: u64,
}

impl Watch {
    pub(super) fn new(is_read_only: bool) -> Self {
        Self {
            is_read_only,
            start: None,
            queries: Allowance::new(QUERY_RATE, QUERY_BURST + 1),
            bytes: Allowance::new(2 * REPLY_BYTES, 2 * (REPLY_BURST + MAX_ITEM_DATAGRAM as u32)),
            askers: BTreeMap::new(),
            contacts: BTreeMap::new(),
            new: VecDeque::new(),
            known: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            answered: BTreeMap::new(),
            asked: None,
            tokens: BTreeMap::new(),
            stored: BTreeMap::new(),
            torrents: BTreeMap::new(),
            hashes: BTreeSet::new(),
            confirmed: 0,
        }
    }

    /// The user gives the node an address.
    pub(super) fn give(&mut self, address: SocketAddr) {
        self.known.insert(address);
    }

    /// A datagram is about to reach the node.
    pub(super) fn receive(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.asked = None;
        let Ok(message) = Message::decode(bytes) else { return };
        match message.body {
            Body::Query(query) => {
                self.known.insert(from);
                self.asked = Some(asked(from, &message, &query, bytes.len()));
            }
            Body::Refused(_) => {
                let query = Query { id: NodeId([0; 20]), method: Method::Ping };
                self.asked = Some(asked(from, &message, &query, bytes.len()));
            }
            Body::Reply(reply) => {
                if self.take_outstanding(now, from, message.transaction) {
                    self.answered.insert(from, reply.id);
                    let nodes = [reply.nodes, reply.nodes6].into_iter().flatten();
                    self.known.extend(nodes.flat_map(Nodes::iter).map(|(_, address)| address));
                }
            }
            Body::Error(_) => {
                self.take_outstanding(now, from, message.transaction);
            }
        }
    }

    /// Whether an answer is the first to an outstanding query.
    fn take_outstanding(&mut self, now: Duration, from: SocketAddr, transaction: &[u8]) -> bool {
        let sent = self.outstanding.remove(&(from, transaction.to_vec()));
        let is_matched = sent.is_some_and(|sent| now <= sent + CALL_TIMEOUT);
        if is_matched && let Some(contact) = self.contacts.get_mut(&from.ip()) {
            contact.has_answered = true;
            contact.unanswered.clear();
        }
        is_matched
    }

    /// The node has handled what it received.
    pub(super) fn rest(&mut self) {
        self.asked = None;
    }

    /// The node sends a datagram.
    pub(super) fn send(
        &mut self,
        now: Duration,
        to: SocketAddr,
        bytes: &[u8],
        message: &Message<'_>,
    ) -> Result<(), Broken> {
        let has_item = match &message.body {
            Body::Query(query) => matches!(query.method, Method::Put { .. }),
            Body::Reply(reply) => reply.value.is_some(),
            _ => false,
        };
        let most = if has_item { MAX_ITEM_DATAGRAM } else { MAX_DATAGRAM };
        check(bytes.len() <= most, || format!("a datagram of {} bytes", bytes.len()))?;
        match &message.body {
            Body::Query(_) => {
                check(message.read_only == self.is_read_only, || {
                    "a query has the wrong `ro`".to_owned()
                })?;
                self.send_query(now, to, message.transaction)
            }
            Body::Reply(reply) => {
                let asked =
                    self.answer(now, to, bytes.len(), message.transaction, Some(has_item))?;
                self.send_reply(now, &asked, reply)
            }
            Body::Error(code) => {
                let asked = self.answer(now, to, bytes.len(), message.transaction, None)?;
                self.send_error(now, &asked, *code)
            }
            Body::Refused(_) => Err("a query that is none".to_owned()),
        }
    }

    fn send_query(&mut self, now: Duration, to: SocketAddr, tid: &[u8]) -> Result<(), Broken> {
        check(self.queries.spend(now, 1), || format!("more than {QUERY_RATE} queries per second"))?;
        check(self.known.contains(&to), || format!("a query to {to}, which nobody named"))?;
        let start = *self.start.get_or_insert(now);
        if !self.contacts.contains_key(&to.ip()) {
            self.new.push_back(now);
            let is_over = |time: &Duration| *time + NEW_PERIOD <= now;
            while self.new.front().is_some_and(is_over) {
                self.new.pop_front();
            }
            let is_early = now < start + FIRST_PERIOD;
            let most = if is_early { FIRST_ADDRESSES } else { NEW_ADDRESS_RATE };
            check(self.new.len() <= most, || format!("more than {most} new addresses"))?;
        }
        let contact = self.contacts.entry(to.ip()).or_default();
        while contact.unanswered.front().is_some_and(|time| *time + MINUTE <= now) {
            contact.unanswered.pop_front();
        }
        contact.unanswered.push_back(now);
        let most = if contact.has_answered { UNANSWERED_KNOWN } else { UNANSWERED };
        check(contact.unanswered.len() <= most, || {
            format!("more than {most} queries in a minute to {to}, which is silent")
        })?;
        self.outstanding.retain(|_, sent| now <= *sent + CALL_TIMEOUT);
        self.outstanding.insert((to, tid.to_vec()), now);
        Ok(())
    }

    /// Checks what holds for every answer, and returns the query. `is_item` says whether the reply
    /// has an item; `None` stands for an error.
    fn answer(
        &mut self,
        now: Duration,
        to: SocketAddr,
        length: usize,
        transaction: &[u8],
        is_item: Option<bool>,
    ) -> Result<Asked, Broken> {
        check(!self.is_read_only, || "an answer of a read-only node".to_owned())?;
        let asked = self.asked.as_mut().filter(|asked| {
            asked.from == to && asked.transaction == transaction && !asked.is_answered
        });
        let Some(asked) = asked else { return Err(format!("an answer to {to} without a query")) };
        asked.is_answered = true;
        let asked = asked.clone();
        let headers = if to.is_ipv4() { 28 } else { 48 };
        let factor = if matches!(asked.kind, Kind::Peers(_)) { 8 } else { 4 };
        let is_short = match is_item {
            None => length <= asked.length * 3 / 2,
            Some(true) => true,
            Some(false) => length + headers <= factor * (asked.length + headers),
        };
        check(is_short, || format!("{length} bytes answer a query of {}", asked.length))?;
        check(self.bytes.spend(now, length), || "too many bytes of answers".to_owned())?;
        let new = || Allowance::new(ASKER_RATE, ASKER_BURST + 1);
        let asker = self.askers.entry(to.ip()).or_insert_with(new);
        check(asker.spend(now, 1), || format!("more than {ASKER_RATE} answers a second to {to}"))?;
        Ok(asked)
    }

    fn send_reply(
        &mut self,
        now: Duration,
        asked: &Asked,
        reply: &Reply<'_>,
    ) -> Result<(), Broken> {
        for (id, address) in [reply.nodes, reply.nodes6].into_iter().flatten().flat_map(Nodes::iter)
        {
            check(self.answered.get(&address) == Some(&id), || {
                format!("node {address} is named, which has not answered")
            })?;
        }
        let target = match &asked.kind {
            Kind::Peers(hash) => (*hash).into(),
            Kind::Item(target) => *target,
            Kind::Announce { hash, port, token } => {
                let target = (*hash).into();
                self.check_token(now, asked, token, Some(target))?;
                let peer = SocketAddr::new(asked.from.ip(), *port);
                return self.store(now, *hash, peer);
            }
            Kind::Put { token, target } => return self.check_token(now, asked, token, *target),
            Kind::Other => return Ok(()),
        };
        for peer in reply.values.into_iter().flat_map(Values::iter) {
            let Kind::Peers(hash) = asked.kind else { return Err("peers of an item".to_owned()) };
            let stored = self.stored.get(&(hash, peer));
            check(stored.is_some_and(|time| now < *time + PEER_LIFETIME + EXPIRY), || {
                format!("peer {peer} was not announced, or long ago")
            })?;
        }
        if let Some(token) = reply.token {
            let key = (asked.from, asked.id, target);
            let issued = self.tokens.entry(key).or_default();
            issued.retain(|(_, time)| now < *time + TOKEN_LIFETIME);
            issued.push((token.to_vec(), now));
        }
        Ok(())
    }

    /// Checks the token of something that the node confirmed. Without a target any will do.
    fn check_token(
        &self,
        now: Duration,
        asked: &Asked,
        token: &[u8],
        target: Option<NodeId>,
    ) -> Result<(), Broken> {
        let (from, id) = (asked.from, asked.id);
        let time = match target {
            Some(target) => self.issued(from, id, target, token),
            None => {
                let all = self.tokens.range((from, id, NodeId([0; 20]))..);
                let own = all.take_while(|((to, other, _), _)| (*to, *other) == (from, id));
                own.filter_map(|((_, _, target), _)| self.issued(from, id, *target, token)).max()
            }
        };
        check(time.is_some_and(|time| now < time + TOKEN_LIFETIME), || {
            format!("{from} stored something with a wrong or old token")
        })
    }

    /// Returns when the token was issued last.
    fn issued(&self, to: SocketAddr, id: NodeId, target: NodeId, token: &[u8]) -> Option<Duration> {
        let issued = self.tokens.get(&(to, id, target))?;
        issued.iter().filter(|(other, _)| other == token).map(|(_, time)| *time).max()
    }

    fn store(&mut self, now: Duration, hash: InfoHashV1, peer: SocketAddr) -> Result<(), Broken> {
        self.confirmed += 1;
        self.stored.insert((hash, peer), now);
        self.hashes.insert(hash);
        let torrents = self.torrents.entry(peer.ip()).or_default();
        torrents.retain(|_, time| now < *time + PEER_LIFETIME);
        torrents.insert(hash, now);
        // A full store forgets torrents, and their addresses with them.
        let is_over = torrents.len() > HASHES_AN_ADDRESS && self.hashes.len() < MAX_HASHES;
        check(!is_over, || format!("{} has too many torrents", peer.ip()))
    }

    fn send_error(&self, now: Duration, asked: &Asked, code: i64) -> Result<(), Broken> {
        let Kind::Announce { hash, port, token } = &asked.kind else { return Ok(()) };
        let issued = self.issued(asked.from, asked.id, (*hash).into(), token);
        let is_fresh = issued.is_some_and(|time| now < time + TOKEN_ROTATION);
        check(code != 203 || !is_fresh || *port < 2, || "a good token is refused".to_owned())
    }
}

fn asked(from: SocketAddr, message: &Message<'_>, query: &Query<'_>, length: usize) -> Asked {
    let kind = match query.method {
        Method::GetPeers { info_hash, .. } => Kind::Peers(info_hash),
        Method::Get { target, .. } => Kind::Item(target),
        Method::AnnouncePeer { info_hash, port, token, .. } => Kind::Announce {
            hash: info_hash,
            port: port.unwrap_or_else(|| from.port()),
            token: token.to_vec(),
        },
        Method::Put { token, value, mutable } => Kind::Put {
            token: token.to_vec(),
            target: match mutable {
                Some(put) => Some(::dht::mutable_target(put.key, put.salt)),
                None => ::dht::Item::immutable(value.to_vec()).ok().map(|item| item.target()),
            },
        },
        Method::Ping | Method::FindNode { .. } => Kind::Other,
    };
    let transaction = message.transaction.to_vec();
    Asked { from, transaction, id: query.id, length, kind, is_answered: false }
}

fn check(holds: bool, broken: impl FnOnce() -> Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(broken()) }
}
