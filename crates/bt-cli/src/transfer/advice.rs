//! What the user should know of a torrent from the start: how peers are found, and unused web
//! seeds.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use session::AddTorrent;

use crate::output::count;

/// What is wrong with a private torrent without a tracker (BEP 27).
pub(super) const PRIVATE_WITHOUT_TRACKER: &str = "the torrent is private and names no tracker";
/// What the user can do about a private torrent without a tracker.
pub(super) const GET_IT_AGAIN: &str = "get it again from where it is shared";

/// Returns advice on what is known to be wrong from the start: no tracker and no peer, and unused
/// web seeds. `listen` has the addresses that we listen on.
pub(super) fn advice(order: &AddTorrent, listen: &[SocketAddr]) -> Vec<String> {
    let advice = [peer_advice(order, listen), web_seed_advice(order)];
    advice.into_iter().flatten().collect()
}

fn peer_advice(order: &AddTorrent, listen: &[SocketAddr]) -> Option<String> {
    let metainfo = order.description.metainfo()?;
    if metainfo.trackers().iter().flatten().next().is_some() {
        return None;
    }
    // The session ignores --peer for a private torrent.
    if metainfo.info().private() {
        return Some(format!("{PRIVATE_WITHOUT_TRACKER}, so no peer can be found: {GET_IT_AGAIN}"));
    }
    if !order.peers.is_empty() {
        return None;
    }
    let action = if order.seed_only {
        format!("give peers the address of this computer and {}", port_list(listen))
    } else {
        let addresses = address_list(listen);
        format!("name a peer with --peer, or wait until one connects; listening on {addresses}")
    };
    Some(format!("the torrent names no tracker, and no --peer is given: {action}"))
}

fn web_seed_advice(order: &AddTorrent) -> Option<String> {
    let web_seeds = order.description.metainfo()?.web_seeds().len();
    if web_seeds == 0 || order.seed_only {
        return None;
    }
    let seeds = count(web_seeds, "web seed is", "web seeds are");
    Some(format!("{seeds} not used: web seeds are not supported yet"))
}

/// Joins the addresses for people.
pub(super) fn address_list(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if addresses.is_empty() { "no address".to_owned() } else { addresses.join(" and ") }
}

/// Joins the ports of the addresses, each once.
fn port_list(addresses: &[SocketAddr]) -> String {
    let ports: BTreeSet<u16> = addresses.iter().map(SocketAddr::port).collect();
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("port {}", ports.join(" or "))
}
