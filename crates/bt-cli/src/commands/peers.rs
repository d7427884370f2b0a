//! `peers`: asks a torrent's trackers for peers.

use std::net::{IpAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerHost, TrackerPeer};
use serde_json::{Value, json};

use crate::cli::PeersArgs;
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
    let urls = trackers::urls(&torrent)?;
    let answers = ask(&torrent, &urls, arguments)?;
    let peers = merge(&answers);
    // If no tracker answered, people see only the error.
    if output.json() || answers.iter().any(|(_, answer)| answer.is_ok()) {
        output.result(
            || object(torrent.description.info_hash(), &answers, &peers),
            |style| text(&answers, &peers, style),
        )?;
    }
    if peers.is_empty() { Err(no_peers(&answers).into()) } else { Ok(()) }
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

/// Returns the peers of all trackers, each once, in the order of the trackers.
fn merge(answers: &[Answer<AnnounceReply>]) -> Vec<TrackerPeer> {
    let replies = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    distinct(replies.flat_map(|reply| reply.peers.iter().cloned()))
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

fn no_peers(answers: &[Answer<AnnounceReply>]) -> Failure {
    let causes = trackers::causes(answers);
    let message = match causes.is_empty() {
        true => "no tracker knows a peer; try again later",
        false => "no tracker gave a peer:",
    };
    Failure::new(Class::Network, message).because(causes)
}

fn object(
    info_hash: InfoHashV1,
    answers: &[Answer<AnnounceReply>],
    peers: &[TrackerPeer],
) -> Value {
    let trackers: Vec<Value> = answers.iter().map(tracker_object).collect();
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    json!({ "info_hash": info_hash.to_string(), "trackers": trackers, "peers": peers })
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

fn text(answers: &[Answer<AnnounceReply>], peers: &[TrackerPeer], style: Style) -> String {
    let mut lines: Vec<String> = answers.iter().map(|answer| tracker_line(answer, style)).collect();
    if !peers.is_empty() {
        lines.push(String::new());
        lines.extend(peers.iter().map(ToString::to_string));
    }
    lines.join("\n")
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
