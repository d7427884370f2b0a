//! `peers`: who is in a torrent's swarm, as its trackers tell it.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, PeerHost, TrackerPeer};
use metainfo::Metainfo;
use serde_json::{Value, json};

use crate::cli::PeersArgs;
use crate::failure::{Class, Failure, Outcome};
use crate::output::{Output, Style, clean};
use crate::trackers::{self, Answer, Client};
use crate::{source, trackers::announce_request};

/// How long trackers may take to hear that we leave again.
const LEAVE_TIME: Duration = Duration::from_secs(3);

pub(crate) fn run(arguments: &PeersArgs, output: &Output) -> Outcome {
    let metainfo = source::load(&arguments.source)?;
    let urls = trackers::urls(&metainfo)?;
    let answers = ask(&metainfo, &urls, arguments)?;
    let peers = merge(&answers);
    // For a person the error says it all when nobody answered.
    if output.json() || answers.iter().any(|(_, answer)| answer.is_ok()) {
        output.result(
            || object(&metainfo, &answers, &peers),
            |style| text(&answers, &peers, style),
        )?;
    }
    if peers.is_empty() { Err(no_peers(&answers).into()) } else { Ok(()) }
}

/// Announces `started` everywhere, then `stopped` where that was heard.
fn ask(
    metainfo: &Metainfo,
    urls: &[String],
    arguments: &PeersArgs,
) -> Result<Vec<Answer<AnnounceReply>>, Failure> {
    let ca_file = &arguments.source.trust.ca_file;
    let mut request = announce_request(metainfo, arguments.port, arguments.announce_ip);
    request.event = AnnounceEvent::Started;
    request.num_want = Some(arguments.num_want);
    let client = Client::new(ca_file.clone(), arguments.timeout)?;
    let started = request.clone();
    let answers = client.ask_all(urls, move |client, url| client.announce(url, &started));

    request.event = AnnounceEvent::Stopped;
    request.num_want = Some(0);
    let heard: Vec<String> =
        answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(url, _)| url.clone()).collect();
    let client = Client::new(ca_file.clone(), arguments.timeout.min(LEAVE_TIME))?;
    // A tracker that does not hear it forgets us after its interval.
    drop(client.ask_all(&heard, move |client, url| client.announce(url, &request)));
    Ok(answers)
}

/// Every address once, in the order the trackers told them.
fn merge(answers: &[Answer<AnnounceReply>]) -> Vec<SocketAddr> {
    let replies = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let mut seen = std::collections::BTreeSet::new();
    let addresses = replies.flat_map(|reply| &reply.peers).filter_map(TrackerPeer::address);
    addresses.filter(|address| seen.insert(*address)).collect()
}

fn no_peers(answers: &[Answer<AnnounceReply>]) -> Failure {
    let causes = trackers::causes(answers);
    let message = if causes.is_empty() {
        "no tracker knows a peer; try again later".to_owned()
    } else {
        format!("no tracker gave a peer:\n{causes}")
    };
    Failure::new(Class::Network, message)
}

fn object(metainfo: &Metainfo, answers: &[Answer<AnnounceReply>], peers: &[SocketAddr]) -> Value {
    let trackers: Vec<Value> = answers.iter().map(tracker_object).collect();
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    json!({ "info_hash": metainfo.info_hash().to_string(), "trackers": trackers, "peers": peers })
}

fn tracker_object((url, answer): &Answer<AnnounceReply>) -> Value {
    match answer {
        Ok(reply) => json!({
            "url": url,
            "interval": reply.interval,
            "seeders": reply.seeders,
            "leechers": reply.leechers,
            "warning": reply.warning,
            "peers": reply.peers.iter().map(peer_object).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "url": url, "error": error }),
    }
}

/// A peer as trackers tell it.
pub(crate) fn peer_object(peer: &TrackerPeer) -> Value {
    let ip = match &peer.host {
        PeerHost::Ip(ip) => ip.to_string(),
        PeerHost::Name(name) => name.clone(),
    };
    json!({ "ip": ip, "port": peer.port, "peer_id": peer.peer_id.map(|id| id.to_string()) })
}

fn text(answers: &[Answer<AnnounceReply>], peers: &[SocketAddr], style: Style) -> String {
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
                "{url}  {} seeders, {} leechers, {} peers, again in {} s",
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
