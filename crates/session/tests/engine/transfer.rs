//! Pieces are downloaded and uploaded.

use std::time::Duration;

use peer_wire::{Message, Reserved, WireRequest};
use piece_store::{Job, MAX_OPEN_FILES};
use session::engine::{EngineConfig, LinkKey};
use session::{AddTorrent, ErrorClass, EventKind, StopReason};
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, add_of, config};
use super::wire::{blocks, handshake, handshake_with, messages, request, wire};

const LIMIT: Duration = Duration::from_secs(60);

fn payload(length: u64) -> Payload {
    Payload::file("film", length).piece_length(32 << 10).create().unwrap()
}

/// A seeder and an unchoked peer of it.
fn seeder(payload: Payload) -> (Payload, Node, LinkKey) {
    let mut node = Node::new(config(1));
    node.seed(&payload);
    let link = interested(&mut node, &payload, b'p');
    (payload, node, link)
}

/// A peer that connects and is interested.
fn interested(node: &mut Node, payload: &Payload, name: u8) -> LinkKey {
    let hello = [handshake(payload.info_hash(), name), wire(Message::Interested)].concat();
    node.incoming(&format!("10.0.0.{name}:5000"), &hello).unwrap()
}

/// How many blocks were sent.
fn served(node: &Node, link: LinkKey) -> usize {
    blocks(&node.sent[&link]).len()
}

fn verified(node: &Node) -> usize {
    node.count(|kind| matches!(kind, EventKind::PieceVerified(_)))
}

fn is_sync(job: &Job) -> bool {
    matches!(job, Job::Sync { .. })
}

#[test]
fn completion_is_the_last_event() {
    let mut net = Net::swarm(config(7), 3, vec![payload(1_000_000)]);
    net.complete(LIMIT);
    let node = &net.nodes[0];
    let pieces = net.payloads[0].geometry().piece_count();
    let place = |wanted: &dyn Fn(&EventKind) -> bool| {
        node.events.iter().position(|(_, kind)| wanted(kind)).unwrap()
    };
    let started = place(
        &|kind| matches!(kind, EventKind::Started { have: 0, wanted, .. } if *wanted == pieces),
    );
    let first = place(&|kind| matches!(kind, EventKind::PieceVerified(_)));
    let completed = place(&|kind| *kind == EventKind::Completed);
    assert!(started < first && first < completed);
    assert_eq!(verified(node), pieces as usize);
    let status = node.status(net.downloads[0]);
    assert_eq!(
        (status.bytes_done, status.pieces_done, status.downloaded),
        (1_000_000, pieces, 1_000_000)
    );
}

#[test]
fn completion_waits_for_the_sync() {
    let mut net = Net::swarm(config(7), 1, vec![payload(100_000)]);
    net.nodes[0].hold_jobs = true;
    loop {
        net.run_until(LIMIT, |net| !net.nodes[0].jobs.is_empty());
        if is_sync(&net.nodes[0].jobs[0]) {
            break;
        }
        net.nodes[0].do_job();
    }
    let node = &mut net.nodes[0];
    assert_eq!(verified(node), 4);
    assert!(!node.completed());
    node.do_job();
    assert!(node.completed());
}

#[test]
fn syncs_take_turns_per_file_system() {
    let payloads = [1, 2, 3].map(|seed| {
        let file = Payload::file("film", 100_000).piece_length(32 << 10);
        file.seed(seed).create().unwrap()
    });
    let mut net = Net::swarm(config(7), 1, payloads.into());
    net.nodes[0].hold_jobs = true;
    while net.completed() < 3 {
        net.run_until(LIMIT, |net| !net.nodes[0].jobs.is_empty());
        let node = &mut net.nodes[0];
        assert!(node.jobs.iter().filter(|job| is_sync(job)).count() <= 1);
        // Syncs are slow: all other jobs are done before them.
        let place = node.jobs.iter().position(|job| !is_sync(job)).unwrap_or(0);
        node.jobs.rotate_left(place);
        node.do_job();
    }
}

#[test]
fn failed_sync_stops_torrent() {
    let mut net = Net::swarm(config(7), 1, vec![payload(100_000)]);
    net.nodes[0].spoil_sync = true;
    net.run_until(LIMIT, |net| net.nodes[0].stopped());
    let node = &mut net.nodes[0];
    let stopped = node.events.last().unwrap().clone();
    let EventKind::Stopped { reason: StopReason::Failed(error) } = stopped.1 else {
        panic!("{stopped:?}")
    };
    assert_eq!(error.class, ErrorClass::Disk);
    assert!(error.message.contains("cannot sync film"), "{error}");
    assert!(!node.completed());
    // It resumes, and finds again what is on the disk after all.
    node.resume(stopped.0);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
}

#[test]
fn rate_limit_holds() {
    let limited = EngineConfig { max_down: Some(100_000), ..config(7) };
    let mut net = Net::swarm(limited, 3, vec![payload(1_000_000)]);
    net.complete(LIMIT);
    let took = net.now().as_secs_f64();
    assert!((9.0..11.0).contains(&took), "a megabyte at 100 kB/s took {took} s");
}

#[test]
fn torrent_upload_limit_holds() {
    let mut net = Net::swarm(config(7), 1, vec![payload(500_000)]);
    net.nodes[1] = Node::new(config(1));
    let seed = add_of(&net.payloads[0], net.payloads[0].folder_path());
    net.nodes[1].add(AddTorrent { seed_only: true, max_up: Some(100_000), ..seed });
    net.complete(LIMIT);
    let took = net.now().as_secs_f64();
    assert!((4.0..6.0).contains(&took), "half a megabyte at 100 kB/s took {took} s");
}

#[test]
fn liar_is_banned_and_download_completes() {
    let mut net = Net::swarm(config(7), 2, vec![payload(300_000)]);
    net.nodes[1].corrupt = true;
    net.complete(Duration::from_secs(600));
    let banned = |kind: &EventKind| {
        matches!(kind, EventKind::Peer { address: of, state: session::PeerState::Banned, .. }
            if *of == address(1))
    };
    assert_eq!(net.nodes[0].count(banned), 1);
}

#[test]
fn blocks_are_read_once_in_order() {
    let (payload, mut node, link) = seeder(payload(100_000));
    node.receive(link, &[0, 1, 2].map(|piece| request(piece, 16 << 10)).concat());
    let served = blocks(&node.sent[&link]);
    assert_eq!(served.len(), 3);
    for (piece, (index, _, bytes)) in (0..).zip(served) {
        let start = piece as usize * (32 << 10) + (16 << 10);
        assert_eq!(index, piece);
        assert_eq!(bytes, &payload.data()[start..start + (16 << 10)]);
    }
}

#[test]
fn evicted_block_is_read_again() {
    let (_payload, mut node, link) = seeder(payload(100_000));
    node.hold_bytes = true;
    node.receive(link, &request(0, 0));
    node.advance(Duration::from_secs(5));
    assert_eq!(served(&node, link), 0);
    node.hold_bytes = false;
    node.act();
    assert_eq!(served(&node, link), 1);
}

#[test]
fn block_cancelled_while_read_is_not_sent() {
    let (_payload, mut node, link) = seeder(payload(100_000));
    node.hold_jobs = true;
    node.receive(link, &[0, 1].map(|piece| request(piece, 0)).concat());
    let first = WireRequest { index: 0, offset: 0, length: 16 << 10 };
    node.receive(link, &wire(Message::Cancel(first)));
    node.hold_jobs = false;
    node.act();
    let pieces: Vec<u32> = blocks(&node.sent[&link]).iter().map(|(piece, ..)| *piece).collect();
    assert_eq!(pieces, [1]);

    // No longer interested: it is choked, and its requests are dropped.
    node.hold_jobs = true;
    node.receive(link, &request(2, 0));
    node.receive(link, &wire(Message::NotInterested));
    node.advance(Duration::from_secs(11));
    node.hold_jobs = false;
    node.act();
    let said = messages(&node.sent[&link]);
    let chokes = said.iter().filter(|message| **message == Message::Choke).count();
    assert_eq!((chokes, served(&node, link)), (1, 1));
}

/// Requests for the first blocks of pieces of 256 KiB.
fn requests(count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| request(n / 16, n % 16 * (16 << 10))).collect()
}

#[test]
fn nothing_is_read_for_full_queue() {
    let payload = Payload::file("film", 8 << 20).piece_length(256 << 10).create().unwrap();
    let (_payload, mut node, link) = seeder(payload);
    node.hold_bytes = true;
    node.hold_jobs = true;
    node.receive(link, &requests(400));
    let window = session::limits::SEND_WINDOW as usize;
    assert_eq!(node.jobs.len(), window / session::limits::READ_RANGE_LENGTH as usize);
    node.hold_jobs = false;
    node.hold_bytes = false;
    node.act();
    assert_eq!(served(&node, link), 400);
}

#[test]
fn six_hundred_requests_are_served() {
    let payload = Payload::file("film", 10 << 20).piece_length(256 << 10).create().unwrap();
    let (_payload, mut node, link) = seeder(payload);
    node.receive(link, &requests(600));
    assert_eq!(served(&node, link), 600);
    assert!(!node.closed.contains(&link));
}

#[test]
fn requests_of_missing_pieces_are_refused() {
    let payload = payload(100_000);
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(1));
    node.add(add_of(&payload, folder.path()));
    let fast = Reserved([0, 0, 0, 0, 0, 0, 0, 4]);
    let hello = handshake_with(fast, payload.info_hash(), b'p');
    let link = node.incoming("10.0.0.9:5000", &hello).unwrap();
    node.receive(link, &wire(Message::Interested));
    node.receive(link, &request(0, 0));
    let said = messages(&node.sent[&link]);
    let rejects = said.iter().filter(|message| matches!(message, Message::Reject(_)));
    let rejected = WireRequest { index: 0, offset: 0, length: 16 << 10 };
    assert!(rejects.eq(&[Message::Reject(rejected)]), "{said:?}");
}

#[test]
fn fresh_range_needs_no_job() {
    let (_payload, mut node, link) = seeder(payload(100_000));
    node.receive(link, &request(0, 0));
    assert_eq!(served(&node, link), 1);
    node.hold_jobs = true;
    node.receive(link, &request(0, 0));
    assert_eq!((served(&node, link), node.jobs.len()), (2, 0));
    // But not for long.
    node.advance(Duration::from_secs(2));
    node.receive(link, &request(0, 0));
    assert_eq!((served(&node, link), node.jobs.len()), (2, 1));
    // Requests of two peers in the meantime are one job too.
    node.receive(link, &request(0, 0));
    assert_eq!(node.jobs.len(), 1);
    node.hold_jobs = false;
    node.act();
    assert_eq!(served(&node, link), 4);
}

/// That many files of 100 bytes, and a seeder of them.
fn small_files(count: u64) -> (Payload, Node, LinkKey) {
    let names: Vec<String> = (0..count).map(|number| format!("{number:04}")).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 100)).collect();
    let payload = Payload::folder("photos", &files).piece_length(128 << 10).create().unwrap();
    seeder(payload)
}

/// Requests for some of the blocks of `length` bytes in piece 0.
fn short_requests(numbers: std::ops::Range<u32>, length: u32) -> Vec<u8> {
    let request = |number| WireRequest { index: 0, offset: number * length, length };
    numbers.flat_map(|number| wire(Message::Request(request(number)))).collect()
}

/// The number of files of `payload` that a job reads.
fn files_of(payload: &Payload, job: &Job) -> usize {
    let Job::Read { range, .. } = job else { return 0 };
    let (mut at, mut count) = (0, 0);
    for (_, length) in payload.files() {
        count += usize::from(at < u64::from(range.end) && at + length > u64::from(range.start));
        at += length;
    }
    count
}

#[test]
fn block_of_many_files_needs_several_ranges() {
    let (payload, mut node, link) = small_files(800);
    node.hold_jobs = true;
    for offset in [0, 16 << 10, 30_050] {
        node.receive(link, &request(0, offset));
    }
    let mut reads = 0;
    while let Some(job) = node.jobs.front() {
        let files = files_of(&payload, job);
        assert!(files <= session::limits::MAX_READ_RANGE_FILES, "{files} files");
        reads += usize::from(files > 0);
        node.do_job();
    }
    assert!(reads > 30, "{reads}");
    assert_eq!(served(&node, link), 3);
    for (_, offset, bytes) in blocks(&node.sent[&link]) {
        assert!(bytes == &payload.data()[offset as usize..][..16 << 10]);
    }
}

#[test]
fn reads_under_way_open_few_files() {
    let (payload, mut node, link) = small_files(800);
    node.hold_jobs = true;
    node.receive(link, &short_requests(0..100, 800));
    let files: usize = node.jobs.iter().map(|job| files_of(&payload, job)).sum();
    assert_eq!(files, MAX_OPEN_FILES / session::limits::SERVED_FILES_SHARE);
    node.hold_jobs = false;
    node.act();
    assert_eq!(served(&node, link), 100);
}

#[test]
#[cfg(target_os = "linux")]
fn full_queues_hold_few_files_open() {
    let (payload, mut node, link) = small_files(1000);
    let other = interested(&mut node, &payload, b'q');
    node.hold_bytes = true;
    for (link, numbers) in [(link, 0..500), (other, 500..1000)] {
        node.receive(link, &short_requests(numbers, 100));
    }
    let opened = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = opened.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let open = targets.filter(|target| target.starts_with(payload.folder_path())).count();
    // And the folder itself.
    assert!(open <= MAX_OPEN_FILES + 1, "{open}");
    node.hold_bytes = false;
    node.act();
    for (link, first) in [(link, 0), (other, 500)] {
        assert_eq!(served(&node, link), 500);
        for (number, (_, offset, bytes)) in (first..).zip(blocks(&node.sent[&link])) {
            assert_eq!(offset, number * 100);
            assert!(bytes == &payload.data()[offset as usize..][..100]);
        }
    }
}

#[test]
fn seeder_sends_bitfield() {
    let (_payload, node, link) = seeder(payload(100_000));
    assert_eq!(messages(&node.sent[&link])[0], Message::Bitfield(&[0b1111_0000]));
}

/// A peer with the extension protocol.
fn extended(node: &mut Node, payload: &Payload) -> LinkKey {
    let extended = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]);
    let hello = handshake_with(extended, payload.info_hash(), b'p');
    node.incoming("10.0.9.9:5000", &hello).unwrap()
}

/// The extension handshakes that were sent.
fn extension_handshakes(node: &Node, link: LinkKey) -> Vec<String> {
    let handshake = |message| match message {
        Message::Extended { id: 0, payload } => Some(String::from_utf8_lossy(payload).into_owned()),
        _ => None,
    };
    messages(&node.sent[&link]).into_iter().filter_map(handshake).collect()
}

#[test]
fn seeder_sends_upload_only() {
    let payload = payload(100_000);
    let mut node = Node::new(config(1));
    node.seed(&payload);
    let link = extended(&mut node, &payload);
    let said = extension_handshakes(&node, link);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("11:upload_onlyi1e"), "{said:?}");
}

#[test]
fn finished_download_sends_upload_only() {
    let mut net = Net::swarm(config(7), 1, vec![payload(100_000)]);
    net.nodes[0].hold_jobs = true;
    net.run_until(LIMIT, |net| !net.nodes[0].jobs.is_empty());
    net.nodes[0].hold_jobs = false;
    net.nodes[0].act();
    let link = extended(&mut net.nodes[0], &net.payloads[0]);
    let said = extension_handshakes(&net.nodes[0], link);
    assert!(said.len() == 1 && !said[0].contains("upload_only"), "{said:?}");
    net.complete(LIMIT);
    let said = extension_handshakes(&net.nodes[0], link);
    assert!(said.len() == 2 && said[1].contains("11:upload_onlyi1e"), "{said:?}");
    // The rest is repeated, for clients that forget what a later handshake lacks.
    assert_eq!(said[1].replace("11:upload_onlyi1e", ""), said[0]);
}
