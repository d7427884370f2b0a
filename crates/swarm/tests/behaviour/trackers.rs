//! Which event is announced to which tracker, and when (BEP 12, BEP 3).

use std::collections::BTreeSet;

use swarm::{AnnounceEvent, AnnounceFailure, AnnounceReply, Output, TrackerIndex};

use crate::bench::{Bench, address, said, seconds, setup};

type Announced = (TrackerIndex, AnnounceEvent);

fn tiers(tiers: &[&[&str]]) -> Vec<Vec<String>> {
    tiers.iter().map(|tier| tier.iter().map(|url| (*url).to_owned()).collect()).collect()
}

fn bench(list: &[&[&str]]) -> Bench {
    Bench::with(&setup(2, 1).config(|config| config.trackers = tiers(list)))
}

fn announces(outputs: &[Output]) -> Vec<Announced> {
    said!(outputs, Output::Announce { tracker, event, .. } => (*tracker, *event)).collect()
}

fn asked(bench: &mut Bench) -> Vec<Announced> {
    announces(&bench.drain())
}

/// Lets time pass. The tracker is announced to exactly at the end.
#[track_caller]
fn check_wait(bench: &mut Bench, wait: u64, tracker: TrackerIndex, event: AnnounceEvent) {
    assert_eq!(announces(&bench.pass(seconds(wait - 1))), [], "too early");
    assert_eq!(announces(&bench.pass(seconds(1))), [(tracker, event)], "after {wait} s");
}

fn reply(interval: u32) -> AnnounceReply {
    AnnounceReply { interval, ..AnnounceReply::default() }
}

fn answer(bench: &mut Bench, tracker: usize, interval: u32) {
    bench.swarm.handle_announced(bench.now, TrackerIndex(tracker), Ok(&reply(interval)));
}

fn fail(bench: &mut Bench, tracker: usize, retry_in: Option<u32>) {
    let failure = AnnounceFailure { message: "refused".to_owned(), retry_in };
    bench.swarm.handle_announced(bench.now, TrackerIndex(tracker), Err(failure));
}

const STARTED: AnnounceEvent = AnnounceEvent::Started;
const COMPLETED: AnnounceEvent = AnnounceEvent::Completed;
const STOPPED: AnnounceEvent = AnnounceEvent::Stopped;
const REGULAR: AnnounceEvent = AnnounceEvent::None;

#[test]
fn second_announce_waits_for_the_interval() {
    let mut bench = bench(&[&["a"]]);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STARTED)]);
    assert_eq!(asked(&mut bench), [], "one at a time");
    answer(&mut bench, 0, 1800);
    check_wait(&mut bench, 1800, TrackerIndex(0), REGULAR);
}

#[test]
fn a_hundred_trackers_are_asked() {
    for (named, expected) in [(100, 100), (101, 100)] {
        let trackers = (0..named).map(|number| vec![format!("x://{number}")]).collect();
        let mut bench = Bench::with(&setup(2, 1).config(|config| config.trackers = trackers));
        let mut announced = BTreeSet::new();
        while let [(TrackerIndex(tracker), _)] = asked(&mut bench)[..] {
            announced.insert(tracker);
            fail(&mut bench, tracker, None);
        }
        assert_eq!(announced, (0..expected).collect());
    }
}

#[test]
fn failure_moves_to_the_next_tracker() {
    let mut bench = bench(&[&["a"], &["b", "c"], &["d"]]);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STARTED)]);
    fail(&mut bench, 0, None);
    let mut second = BTreeSet::new();
    for _ in 0..2 {
        let [(TrackerIndex(tracker), STARTED)] = asked(&mut bench)[..] else {
            panic!("no announce")
        };
        second.insert(tracker);
        fail(&mut bench, tracker, None);
    }
    assert_eq!(second, BTreeSet::from([1, 2]));
    assert_eq!(asked(&mut bench), [(TrackerIndex(3), STARTED)]);
    let failures = |bench: &Bench| -> Vec<u32> {
        bench.swarm.trackers().map(|tracker| tracker.failures).collect()
    };
    assert_eq!(failures(&bench), [1, 1, 1, 0]);
    fail(&mut bench, 3, None);
    assert_eq!(failures(&bench), [1; 4]);
    assert_eq!(asked(&mut bench), []);
    let view = bench.swarm.trackers().next().unwrap();
    assert_eq!((view.error.as_deref(), view.failures), (Some("refused"), 1));
}

#[test]
fn a_tier_is_shuffled() {
    let firsts = (0..32).map(|seed| {
        let trackers = tiers(&[&["a", "b", "c", "d"]]);
        let mut bench = Bench::with(&setup(1, 1).config(|config| {
            config.trackers = trackers;
            config.seed = seed;
        }));
        asked(&mut bench)[0].0
    });
    assert_eq!(firsts.collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn working_tracker_moves_to_tier_front() {
    let mut bench = bench(&[&["a", "b", "c"]]);
    let (first, _) = asked(&mut bench)[0];
    fail(&mut bench, first.0, None);
    let (second, _) = asked(&mut bench)[0];
    answer(&mut bench, second.0, 3600);
    check_wait(&mut bench, 3600, second, REGULAR);
}

#[test]
fn recovered_first_tier_is_used_again() {
    let mut bench = bench(&[&["a"], &["b"]]);
    asked(&mut bench);
    fail(&mut bench, 0, None);
    assert_eq!(asked(&mut bench), [(TrackerIndex(1), STARTED)]);
    answer(&mut bench, 1, 1800);
    check_wait(&mut bench, 1800, TrackerIndex(0), STARTED);
}

#[test]
fn back_off_doubles_to_an_hour() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    for wait in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        fail(&mut bench, 0, None);
        check_wait(&mut bench, wait, TrackerIndex(0), STARTED);
    }
}

#[test]
fn longest_wait_after_refusal_holds() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    let day = 24 * 60 * 60;
    // The tracker's own time, and how long it is not asked after its first, second, .. failure.
    for (retry_in, wait) in [(700, 700), (0, 120), (5, 240), (481, 481), (u32::MAX, day)] {
        fail(&mut bench, 0, Some(retry_in));
        check_wait(&mut bench, wait, TrackerIndex(0), STARTED);
    }
}

#[test]
fn completed_is_announced_once() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    answer(&mut bench, 0, 1800);
    let seed = bench.join_seed();
    for request in bench.requests_to(seed) {
        bench.send(seed, request);
    }
    bench.drain();
    bench.verify(0);
    assert_eq!(asked(&mut bench), []);
    bench.verify(1);
    let outputs = bench.drain();
    assert!(outputs.contains(&Output::Completed));
    assert_eq!(announces(&outputs), [(TrackerIndex(0), COMPLETED)]);
    fail(&mut bench, 0, None);
    assert_eq!(announces(&bench.pass(seconds(60))), [(TrackerIndex(0), COMPLETED)], "still owed");
    answer(&mut bench, 0, 1800);
    assert_eq!(announces(&bench.pass(seconds(1800))), [(TrackerIndex(0), REGULAR)]);
    // A piece that is lost and received again completes nothing new.
    answer(&mut bench, 0, 1800);
    let piece = bench.piece(0);
    bench.swarm.handle_lost(bench.now, piece);
    bench.join_seed();
    bench.download();
    assert!(bench.pieces().have().is_full());
    assert_eq!(asked(&mut bench), []);
}

#[test]
fn completed_follows_an_answered_started() {
    // One tracker is asked, and has not answered when the torrent completes. It never answers, and
    // the other one does. The first one's `completed` must not keep the timeout due.
    let mut bench = bench(&[&["a"], &["b"]]);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STARTED)]);
    bench.join_seed();
    bench.download();
    fail(&mut bench, 0, None);
    assert_eq!(asked(&mut bench), [(TrackerIndex(1), STARTED)]);
    answer(&mut bench, 1, 1800);
    bench.pass(seconds(60));
    let due = bench.swarm.poll_timeout().unwrap();
    assert!(due > bench.now, "due at {due:?}, now {:?}", bench.now);
}

#[test]
fn completed_needs_every_piece_newly_received() {
    let mut setup = setup(2, 1).config(|config| config.trackers = tiers(&[&["a"]]));
    setup.wanted.remove(setup.piece(1));
    let mut bench = Bench::with(&setup);
    asked(&mut bench);
    answer(&mut bench, 0, 1800);
    bench.join_seed();
    bench.download();
    assert!(bench.swarm.is_complete());
    assert_eq!(announces(&bench.pass(seconds(60))), []);

    setup.have = swarm::Bitfield::full(2);
    let mut bench = Bench::with(&setup);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STARTED)]);
    answer(&mut bench, 0, 1800);
    assert_eq!(announces(&bench.pass(seconds(60))), []);
}

#[test]
fn stopped_follows_started_only() {
    let mut bench = bench(&[&["a"], &["b"], &["c"]]);
    asked(&mut bench);
    fail(&mut bench, 0, None);
    asked(&mut bench);
    answer(&mut bench, 1, 1800);
    bench.swarm.stop(bench.now);
    assert_eq!(asked(&mut bench), [(TrackerIndex(1), STOPPED)]);
    answer(&mut bench, 1, 1800);
    assert_eq!(announces(&bench.pass(seconds(7200))), []);
}

#[test]
fn stopped_follows_an_unanswered_started() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    bench.swarm.stop(bench.now);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STOPPED)]);
}

#[test]
fn reply_gives_candidates_and_tracker_id() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    let full = AnnounceReply {
        interval: 100,
        min_interval: Some(200),
        tracker_id: Some(b"id".to_vec()),
        peers: vec![address(5).into(), address(6).into()],
        ..AnnounceReply::default()
    };
    bench.swarm.handle_announced(bench.now, TrackerIndex(0), Ok(&full));
    assert_eq!(bench.swarm.peers_known(), 2);
    let view = bench.swarm.trackers().next().unwrap();
    assert!(view.replied);
    assert_eq!(view.next_announce, seconds(200), "the minimum interval counts");
    let outputs = bench.pass(seconds(200));
    let sent_back = outputs.iter().any(
        |output| matches!(output, Output::Announce { tracker_id: Some(id), .. } if id == b"id"),
    );
    assert!(sent_back);
}

#[test]
fn starving_swarm_uses_min_interval() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    let nobody = AnnounceReply { min_interval: Some(90), ..reply(1800) };
    bench.swarm.handle_announced(bench.now, TrackerIndex(0), Ok(&nobody));
    check_wait(&mut bench, 90, TrackerIndex(0), REGULAR);
}

#[test]
fn absurd_interval_is_clamped() {
    let mut bench = bench(&[&["a"]]);
    asked(&mut bench);
    for (interval, wait) in [(0, 5), (u32::MAX, 2 * 3600)] {
        answer(&mut bench, 0, interval);
        check_wait(&mut bench, wait, TrackerIndex(0), REGULAR);
    }
}

#[test]
fn further_trackers_of_private_torrent_are_dropped() {
    let mut bench = bench(&[&["further"], &["own"]]);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STARTED)]);
    bench.swarm.set_private(bench.now, &["further".to_owned()]);
    let announced = asked(&mut bench);
    assert_eq!(announced, [(TrackerIndex(0), STOPPED), (TrackerIndex(1), STARTED)]);
    let mut late = reply(1800);
    late.peers = vec![address(1).into()];
    bench.swarm.handle_announced(bench.now, TrackerIndex(0), Ok(&late));
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "its peers are not the torrent's");
    fail(&mut bench, 1, None);
    check_wait(&mut bench, 60, TrackerIndex(1), STARTED);
}

#[test]
fn own_trackers_are_asked_again_for_what_is_forgotten() {
    let mut bench = bench(&[&["own"], &["further"]]);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STARTED)]);
    let mut first = reply(1800);
    first.peers = vec![address(1).into()];
    bench.swarm.handle_announced(bench.now, TrackerIndex(0), Ok(&first));
    bench.swarm.set_private(bench.now, &["further".to_owned()]);
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "either tracker may have named it");
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), REGULAR)]);
    bench.swarm.handle_announced(bench.now, TrackerIndex(0), Ok(&first));
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(address(1)));
}

#[test]
fn private_torrent_without_own_tracker_has_none() {
    let mut bench = bench(&[&["further"]]);
    asked(&mut bench);
    bench.swarm.set_private(bench.now, &["further".to_owned()]);
    assert_eq!(asked(&mut bench), [(TrackerIndex(0), STOPPED)]);
    assert_eq!(announces(&bench.pass(seconds(24 * 3600))), []);
}
