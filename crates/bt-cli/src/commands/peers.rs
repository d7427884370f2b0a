//! `peers`: asks a torrent's trackers and the DHT for peers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerHost, TrackerPeer};
use serde_json::{Value, json};
use session::node::{Announce, Node};

use crate::cli::PeersArgs;
use crate::dht_asker::{Beside, DhtAnswer, dht_causes, failure_line, stats_line};
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, Style, clean, tracker_peer};
use crate::source::{NamedTorrent, Sources};
use crate::trackers::announce_request;
use crate::trackers::{self, Answer, Client};

/// How long the trackers may take to answer `stopped`.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// The dynamic ports (RFC 6335). One of them is announced, so that `stopped` does not sign off a
/// client of the user that listens on the usual port.
const DYNAMIC_PORTS: RangeInclusive<u16> = 49152..=65535;

pub(crate) fn run(arguments: &PeersArgs, output: &Output) -> CommandResult {
    let torrent = Sources::of(&arguments.source, output).describe(&arguments.source.torrent)?;
    let (urls, info_hash) = (torrent.trackers(), torrent.description.info_hash());
    let limit = arguments.timeout;
    let ask_dht = move |node: &mut Node| node.find_peers(info_hash, Announce::No, limit);
    let dht = Beside::start(&torrent, &arguments.dht, ask_dht);
    let answers = ask(&torrent, &urls, arguments)?;
    let found = Found { dht: dht.join(!urls.is_empty())?, answers };
    let peers = found.merge();
    // If nobody answered, people see only the error.
    if output.json() || found.is_any() {
        output.result(|| found.object(info_hash, &peers), |style| found.text(&peers, style))?;
    }
    if peers.is_empty() { Err(found.no_peers().into()) } else { Ok(()) }
}

/// Announces `started` to all trackers, then `stopped` to those that answered.
fn ask(
    torrent: &NamedTorrent,
    urls: &[String],
    arguments: &PeersArgs,
) -> Result<Vec<Answer<AnnounceReply>>, Failure> {
    let ca_file = arguments.source.trust.ca_file.as_deref();
    let port = arguments.port.unwrap_or_else(|| rand::random_range(DYNAMIC_PORTS));
    let mut request = announce_request(torrent, port, arguments.announce_ip);
    request.event = AnnounceEvent::Started;
    request.num_want = Some(arguments.num_want);
    let client = Client::new(ca_file, arguments.timeout)?;
    let started = request.clone();
    let mut answers = client.ask_all(urls, move |client, url| client.announce(url, &started));
    for reply in answers.iter_mut().filter_map(|(_, answer)| answer.as_mut().ok()) {
        reply.peers = distinct(std::mem::take(&mut reply.peers));
        reply.peers.retain(|peer| !is_us(peer, &request, arguments.port.is_none()));
    }

    request.event = AnnounceEvent::Stopped;
    request.num_want = Some(0);
    let answered: Vec<String> =
        answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(url, _)| url.clone()).collect();
    let client = Client::new(ca_file, arguments.timeout.min(STOP_TIMEOUT))?;
    // A tracker that does not receive it forgets us after its interval.
    drop(client.ask_all(&answered, move |client, url| client.announce(url, &request)));
    Ok(answers)
}

/// Whether `peer` is this program, which some trackers list too. A random port is taken as ours on
/// any address.
fn is_us(peer: &TrackerPeer, request: &AnnounceRequest, random_port: bool) -> bool {
    match (peer.peer_id, &peer.host) {
        (Some(peer_id), _) => peer_id == request.peer_id,
        (None, PeerHost::Ip(ip)) if peer.port == request.port => random_port || is_here(*ip),
        _ => false,
    }
}

/// Whether `ip` is an address of this machine.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// What was answered.
struct Found {
    /// By the trackers.
    answers: Vec<Answer<AnnounceReply>>,
    /// By the DHT, if it was asked.
    dht: Option<DhtAnswer<Vec<SocketAddr>>>,
}

impl Found {
    /// Whether anybody answered.
    fn is_any(&self) -> bool {
        let dht = self.dht.as_ref().is_some_and(Result::is_ok);
        dht || self.answers.iter().any(|(_, answer)| answer.is_ok())
    }

    /// Returns all peers, each once, in the order of the trackers; then those of the DHT.
    fn merge(&self) -> Vec<TrackerPeer> {
        let replies = self.answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let of_trackers = replies.flat_map(|reply| reply.peers.iter().cloned());
        let of_dht = self.dht.iter().flatten().flat_map(|(peers, _)| peers);
        distinct(of_trackers.chain(of_dht.map(|address| TrackerPeer::from(*address))))
    }

    fn no_peers(&self) -> Failure {
        let asked = match (self.answers.is_empty(), &self.dht) {
            (true, Some(Err(failure))) => return failure.clone(),
            (true, _) => "no node of the DHT",
            (false, Some(Ok(_))) => "no tracker and no node of the DHT",
            (false, _) => "no tracker",
        };
        let mut causes = trackers::causes(&self.answers);
        causes.extend(dht_causes(self.dht.as_ref()));
        let message = match causes.is_empty() {
            true => format!("{asked} knows a peer; try again later"),
            false => format!("{asked} gave a peer:"),
        };
        Failure::new(Class::Network, message).because(causes)
    }

    fn object(&self, info_hash: InfoHashV1, peers: &[TrackerPeer]) -> Value {
        let dht = self.dht.as_ref().map(|answer| match answer {
            Ok((peers, stats)) => json!({
                "peers": texts(peers),
                "nodes_asked": stats.asked,
                "seconds": stats.elapsed.as_secs_f64(),
            }),
            Err(failure) => json!({ "error": failure.text() }),
        });
        json!({
            "info_hash": info_hash.to_string(),
            "trackers": self.answers.iter().map(tracker_object).collect::<Vec<_>>(),
            "dht": dht,
            "peers": texts(peers),
        })
    }

    fn text(&self, peers: &[TrackerPeer], style: Style) -> String {
        let mut lines: Vec<String> =
            self.answers.iter().map(|answer| tracker_line(answer, style)).collect();
        lines.extend(self.dht.as_ref().map(|answer| match answer {
            Ok((peers, stats)) => stats_line(&format!("peers {}", peers.len()), stats, style),
            Err(failure) => failure_line(failure, style),
        }));
        if !peers.is_empty() {
            lines.push(String::new());
            lines.extend(texts(peers));
        }
        lines.join("\n")
    }
}

fn texts(peers: &[impl ToString]) -> Vec<String> {
    peers.iter().map(ToString::to_string).collect()
}

/// Returns each address or name with its port once. An IPv4-mapped IPv6 address counts as IPv4.
fn distinct(peers: impl IntoIterator<Item = TrackerPeer>) -> Vec<TrackerPeer> {
    let mut seen = std::collections::BTreeSet::new();
    let mut distinct = Vec::new();
    for mut peer in peers {
        if let PeerHost::Ip(ip) = &mut peer.host {
            *ip = ip.to_canonical();
        }
        if seen.insert(peer.to_string().to_ascii_lowercase()) {
            distinct.push(peer);
        }
    }
    distinct
}

fn tracker_object((url, answer): &Answer<AnnounceReply>) -> Value {
    match answer {
        Ok(reply) => json!({
            "url": url,
            "interval": reply.interval,
            "seeders": reply.seeders,
            "leechers": reply.leechers,
            "warning": reply.warning,
            "peers": reply.peers.iter().map(tracker_peer).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "url": url, "error": error }),
    }
}

fn tracker_line((url, answer): &Answer<AnnounceReply>, style: Style) -> String {
    let url = style.bold(clean(&tracker_http::shorten_url(url)));
    match answer {
        Ok(reply) => {
            let count = |number: Option<u32>| number.map_or("?".to_owned(), |n| n.to_string());
            let mut line = format!(
                "{url}  seeders {}, leechers {}, peers {}, again in {} s",
                count(reply.seeders),
                count(reply.leechers),
                reply.peers.len(),
                reply.interval
            );
            if let Some(warning) = &reply.warning {
                line += &format!("  {}", style.yellow(clean(warning)));
            }
            line
        }
        Err(error) => format!("{url}  {}", style.red(clean(error))),
    }
}
