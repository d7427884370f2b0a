//! The engine stops a torrent that has reached its goal, or of which nothing can be expected.

use std::time::Duration;

use session::limits::{BANNED_TIME, UNREACHABLE_TIME};
use session::{AddTorrent, EventKind, GiveUp, Goal, StopReason, TorrentKey};
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, add_of, config};
use super::wire::handshake;

const LIMIT: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);
const GIVE_UP: Goal = Goal {
    stop_when_complete: false,
    ratio: None,
    seed_time: None,
    timeout: None,
    metadata_timeout: None,
    stall_timeout: None,
    give_up: true,
};

fn payload() -> Payload {
    let film = Payload::file("film", 300_000).piece_length(32 << 10);
    film.tier(["http://a.example/x"]).tier(["http://b.example/x"]).create().unwrap()
}

/// A leecher (node 0) and its seeder (node 1), whose tracker has answered, with these goals.
fn pair(leecher: Goal, seeder: Goal) -> (Net, [TorrentKey; 2]) {
    let payload = payload();
    let mut net = Net::new([config(1), config(2)]);
    let add = add_of(&payload, payload.folder_path());
    let seed =
        net.nodes[1].add(AddTorrent { seed_only: true, goal: Some(Box::new(seeder)), ..add });
    let folder = tempfile::tempdir().unwrap().keep();
    let (peers, add) = (vec![address(1)], add_of(&payload, folder));
    let download = net.nodes[0].add(AddTorrent { peers, goal: Some(Box::new(leecher)), ..add });
    for node in &mut net.nodes {
        let fetch = node.fetches.pop_front().expect("it announces");
        node.answer(&fetch, Vec::new());
    }
    (net, [download, seed])
}

/// A download that knows one peer and never gets anything.
fn lonely(goal: Goal) -> Node {
    let mut node = Node::new(config(1));
    let folder = tempfile::tempdir().unwrap().keep();
    node.add(AddTorrent {
        peers: vec![address(1)],
        goal: Some(Box::new(goal)),
        ..add_of(&payload(), folder)
    });
    node
}

/// Has trackers and peers refuse for `time`.
fn refuse(node: &mut Node, time: Duration) {
    let end = node.now + time;
    while node.now < end {
        while let Some(fetch) = node.fetches.pop_front() {
            node.fail(&fetch, "refused", false);
        }
        while let Some((link, _)) = node.connecting.pop_front() {
            node.engine.handle_connect_failed(node.now, link, "refused");
            node.act();
        }
        node.advance(SECOND / 10);
    }
}

fn reason(node: &Node) -> Option<&StopReason> {
    node.events.iter().find_map(|(_, kind)| match kind {
        EventKind::Stopped { reason } => Some(reason),
        _ => None,
    })
}

/// Returns why the torrent is being stopped or was.
fn why(node: &mut Node) -> Option<GiveUp> {
    // `stopped` is announced to nobody who answers.
    node.advance(4 * SECOND);
    match reason(node)? {
        StopReason::GaveUp { why, .. } => Some(*why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unreachable_peers_end_download() {
    let mut node = lonely(GIVE_UP);
    refuse(&mut node, UNREACHABLE_TIME - SECOND);
    assert_eq!(reason(&node), None);
    refuse(&mut node, 2 * SECOND);
    assert_eq!(why(&mut node), Some(GiveUp::Unreachable(UNREACHABLE_TIME)));

    let mut patient = lonely(Goal::default());
    refuse(&mut patient, 3 * UNREACHABLE_TIME);
    assert_eq!(reason(&patient), None);
}

#[test]
fn answer_or_untried_peer_is_hope() {
    let mut answered = lonely(GIVE_UP);
    let fetch = answered.fetches.pop_front().unwrap();
    answered.answer(&fetch, Vec::new());
    refuse(&mut answered, 3 * UNREACHABLE_TIME);
    assert_eq!(reason(&answered), None);

    // So is a connected peer that sends nothing, but not one that leaves again.
    let payload = payload();
    let mut silent = lonely(GIVE_UP);
    let link = silent.outgoing(&handshake(payload.info_hash(), b'p'));
    refuse(&mut silent, UNREACHABLE_TIME + SECOND);
    assert_eq!(reason(&silent), None);
    silent.engine.handle_closed(silent.now, link, None);
    refuse(&mut silent, UNREACHABLE_TIME + SECOND);
    assert_eq!(why(&mut silent), Some(GiveUp::Unreachable(UNREACHABLE_TIME)));

    // The attempt to connect to another peer never ends, so the time starts again.
    let mut node = lonely(GIVE_UP);
    refuse(&mut node, UNREACHABLE_TIME - SECOND);
    let key = node.events[0].0;
    node.engine.add_peers(node.now, key, &[address(2)]);
    node.act();
    node.advance(2 * SECOND);
    assert_eq!(reason(&node), None);
    refuse(&mut node, UNREACHABLE_TIME - SECOND);
    assert_eq!(reason(&node), None);
    refuse(&mut node, 2 * SECOND);
    assert_eq!(why(&mut node), Some(GiveUp::Unreachable(UNREACHABLE_TIME)));
}

#[test]
fn banned_peers_end_download() {
    let (mut net, _) = pair(GIVE_UP, Goal::default());
    net.nodes[1].corrupt = true;
    let banned = |net: &Net| net.nodes[0].engine.status()[0].peers_banned > 0;
    net.run_until(LIMIT, banned);
    let node = &mut net.nodes[0];
    node.advance(BANNED_TIME - SECOND);
    assert_eq!(reason(node), None);
    node.advance(2 * SECOND);
    assert_eq!(why(node), Some(GiveUp::AllBanned));
    let Some(StopReason::GaveUp { before, .. }) = reason(node) else { panic!() };
    assert_eq!((before.peers_banned, before.peers_known), (1, 0));
}

#[test]
fn time_limits_end_download() {
    let limit = 30 * SECOND;
    for (goal, expected) in [
        (Goal { timeout: Some(limit), ..Goal::default() }, GiveUp::TimedOut(limit)),
        (Goal { stall_timeout: Some(limit), ..Goal::default() }, GiveUp::Stalled(limit)),
    ] {
        let mut node = lonely(goal);
        node.advance(limit - SECOND);
        assert_eq!(reason(&node), None);
        node.advance(SECOND);
        assert_eq!(why(&mut node), Some(expected));
    }
}

#[test]
fn time_limit_counts_during_check() {
    let limit = 30 * SECOND;
    let mut node = Node::new(config(1));
    node.hold_jobs = true;
    let goal = Goal { timeout: Some(limit), ..Goal::default() };
    node.add(AddTorrent {
        goal: Some(Box::new(goal)),
        ..add_of(&payload(), tempfile::tempdir().unwrap().keep())
    });
    node.advance(limit + SECOND);
    node.hold_jobs = false;
    node.act();
    assert_eq!(why(&mut node), Some(GiveUp::TimedOut(limit)));
}

#[test]
fn resumed_torrent_has_its_time_again() {
    let limit = 30 * SECOND;
    let mut node = lonely(Goal { timeout: Some(limit), ..Goal::default() });
    let key = node.events[0].0;
    node.advance(limit);
    assert_eq!(why(&mut node), Some(GiveUp::TimedOut(limit)));
    node.events.clear();
    node.engine.resume(node.now, key);
    node.act();
    node.advance(limit - SECOND);
    assert_eq!(reason(&node), None);
    node.advance(SECOND);
    assert_eq!(why(&mut node), Some(GiveUp::TimedOut(limit)));
}

#[test]
fn seed_only_torrent_without_piece_is_given_up() {
    for (goal, expected) in [(GIVE_UP, Some(GiveUp::NothingToSeed)), (Goal::default(), None)] {
        let mut node = Node::new(config(1));
        let add = add_of(&payload(), tempfile::tempdir().unwrap().keep());
        node.add(AddTorrent { seed_only: true, goal: Some(Box::new(goal)), ..add });
        assert_eq!(why(&mut node), expected);
    }
}

#[test]
fn complete_download_is_stopped() {
    let goal = Goal { stop_when_complete: true, ..Goal::default() };
    let (mut net, _) = pair(goal, Goal::default());
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    net.nodes[0].advance(4 * SECOND);
    assert_eq!(reason(&net.nodes[0]), Some(&StopReason::Done));
    assert_eq!(reason(&net.nodes[1]), None);
}

#[test]
fn ratio_or_time_ends_seed() {
    let ratio = Goal { ratio: Some(1.0), seed_time: Some(LIMIT), ..Goal::default() };
    let (mut net, _) = pair(Goal::default(), ratio);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    net.nodes[1].advance(4 * SECOND);
    assert_eq!(reason(&net.nodes[1]), Some(&StopReason::Done));

    let time = Goal { ratio: Some(2.0), seed_time: Some(LIMIT), ..Goal::default() };
    let (mut net, _) = pair(Goal::default(), time);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    net.nodes[1].advance(LIMIT - 60 * SECOND);
    assert_eq!(reason(&net.nodes[1]), None);
    net.nodes[1].advance(64 * SECOND);
    assert_eq!(reason(&net.nodes[1]), Some(&StopReason::Done));
}
