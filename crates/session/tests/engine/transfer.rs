//! Pieces are downloaded and uploaded.

use std::time::Duration;

use piece_store::MAX_OPEN_FILES;
use session::engine::EngineConfig;
use session::{AddTorrent, ErrorClass, EventKind, StopReason};
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, add_of, config};
use super::wire::{self, BITFIELD, CANCEL, CHOKE, INTERESTED, PIECE, REQUEST};

const LIMIT: Duration = Duration::from_secs(60);

fn payload(length: u64) -> Payload {
    Payload::file("film", length).piece_length(32 << 10).create().unwrap()
}

/// Node 0 is the leecher, the others are seeders.
fn net(payload: &Payload, leecher: EngineConfig, seeders: usize) -> (Net, tempfile::TempDir) {
    let configs = (1..=seeders).map(|seed| config(seed as u64));
    let mut net = Net::new([leecher].into_iter().chain(configs));
    for seeder in &mut net.nodes[1..] {
        seeder.add(AddTorrent { seed_only: true, ..add_of(payload, payload.folder_path()) });
    }
    let folder = tempfile::tempdir().unwrap();
    let peers = (1..=seeders).map(address).collect();
    net.nodes[0].add(AddTorrent { peers, ..add_of(payload, folder.path()) });
    (net, folder)
}

/// A seeder and an unchoked peer of it.
fn seeder(payload: &Payload) -> (Node, session::engine::LinkKey) {
    let mut node = Node::new(config(1));
    node.add(AddTorrent { seed_only: true, ..add_of(payload, payload.folder_path()) });
    let hello = [wire::handshake(payload.info_hash(), b'p'), wire::message(INTERESTED, &[])];
    let link = node.incoming("10.0.0.9:5000", &hello.concat()).unwrap();
    (node, link)
}

#[test]
fn completion_is_the_last_event() {
    let payload = payload(1_000_000);
    let (mut net, folder) = net(&payload, config(7), 3);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    assert_eq!(payload.compare(folder.path()), Ok(()));
    let node = &net.nodes[0];
    let pieces = payload.geometry().piece_count();
    let place = |wanted: &dyn Fn(&EventKind) -> bool| {
        node.events.iter().position(|(_, kind)| wanted(kind)).unwrap()
    };
    let started = place(
        &|kind| matches!(kind, EventKind::Started { have: 0, wanted, .. } if *wanted == pieces),
    );
    let first = place(&|kind| matches!(kind, EventKind::PieceVerified(_)));
    let completed = place(&|kind| *kind == EventKind::Completed);
    assert!(started < first && first < completed);
    assert_eq!(node.count(|kind| matches!(kind, EventKind::PieceVerified(_))), pieces as usize);
    let status = node.status(node.events[0].0);
    assert_eq!(
        (status.bytes_done, status.pieces_done, status.downloaded),
        (1_000_000, pieces, 1_000_000)
    );
}

#[test]
fn completion_waits_for_the_sync() {
    let payload = payload(100_000);
    let (mut net, _folder) = net(&payload, config(7), 1);
    let sync = |node: &Node| matches!(node.jobs.front(), Some(piece_store::Job::Sync { .. }));
    net.nodes[0].hold_jobs = true;
    loop {
        net.run_until(LIMIT, |net| !net.nodes[0].jobs.is_empty());
        if sync(&net.nodes[0]) {
            break;
        }
        net.nodes[0].do_job();
        net.nodes[0].act();
    }
    let node = &mut net.nodes[0];
    assert_eq!(node.count(|kind| matches!(kind, EventKind::PieceVerified(_))), 4);
    assert!(!node.completed());
    node.do_job();
    node.act();
    assert!(node.completed());
}

#[test]
fn syncs_take_turns_per_file_system() {
    let payloads = [1, 2, 3].map(|seed| {
        let file = Payload::file("film", 100_000).piece_length(32 << 10);
        file.seed(seed).create().unwrap()
    });
    let mut net = Net::new([config(7), config(1)]);
    let folder = tempfile::tempdir().unwrap();
    for (number, payload) in payloads.iter().enumerate() {
        let seed = AddTorrent { seed_only: true, ..add_of(payload, payload.folder_path()) };
        net.nodes[1].add(seed);
        let target = folder.path().join(number.to_string());
        let peers = vec![address(1)];
        net.nodes[0].add(AddTorrent { peers, ..add_of(payload, target) });
    }
    net.nodes[0].hold_jobs = true;
    let is_sync = |job: &piece_store::Job| matches!(job, piece_store::Job::Sync { .. });
    let completed = |net: &Net| net.nodes[0].count(|kind| *kind == EventKind::Completed);
    while completed(&net) < payloads.len() {
        net.run_until(LIMIT, |net| !net.nodes[0].jobs.is_empty());
        let node = &mut net.nodes[0];
        assert!(node.jobs.iter().filter(|job| is_sync(job)).count() <= 1);
        // Syncs are slow: all other jobs are done before them.
        let place = node.jobs.iter().position(|job| !is_sync(job)).unwrap_or(0);
        node.jobs.rotate_left(place);
        node.do_job();
        node.act();
    }
}

#[test]
fn failed_sync_stops_torrent() {
    let payload = payload(100_000);
    let (mut net, _folder) = net(&payload, config(7), 1);
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
    node.engine.resume(node.now, stopped.0);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
}

#[test]
fn rate_limit_holds() {
    let payload = payload(1_000_000);
    let limited = EngineConfig { max_down: Some(100_000), ..config(7) };
    let (mut net, _folder) = net(&payload, limited, 3);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    let took = net.now().as_secs_f64();
    assert!((9.0..11.0).contains(&took), "a megabyte at 100 kB/s took {took} s");
}

#[test]
fn torrent_upload_limit_holds() {
    let payload = payload(500_000);
    let (mut net, _folder) = net(&payload, config(7), 1);
    net.nodes[1] = Node::new(config(1));
    let limited = AddTorrent {
        seed_only: true,
        max_up: Some(100_000),
        ..add_of(&payload, payload.folder_path())
    };
    net.nodes[1].add(limited);
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    let took = net.now().as_secs_f64();
    assert!((4.0..6.0).contains(&took), "half a megabyte at 100 kB/s took {took} s");
}

#[test]
fn liar_is_banned_and_download_completes() {
    let payload = payload(300_000);
    let (mut net, folder) = net(&payload, config(7), 2);
    net.nodes[1].corrupt = true;
    net.run_until(Duration::from_secs(600), |net| net.nodes[0].completed());
    assert_eq!(payload.compare(folder.path()), Ok(()));
    let banned = |kind: &EventKind| {
        matches!(kind, EventKind::Peer { address: of, state: session::PeerState::Banned, .. }
            if *of == address(1))
    };
    assert_eq!(net.nodes[0].count(banned), 1);
}

#[test]
fn blocks_are_read_once_in_order() {
    let payload = payload(100_000);
    let (mut node, link) = seeder(&payload);
    let asked: Vec<u8> = [0, 1, 2]
        .map(|piece| wire::message(REQUEST, &wire::block(piece, 16 << 10, 16 << 10)))
        .concat();
    node.receive(link, &asked);
    let served: Vec<Vec<u8>> = wire::messages(&node.sent[&link])
        .into_iter()
        .filter(|(id, _)| *id == PIECE)
        .map(|(_, payload)| payload)
        .collect();
    assert_eq!(served.len(), 3);
    for (piece, served) in (0u32..).zip(&served) {
        let start = piece as usize * (32 << 10) + (16 << 10);
        assert_eq!(served[..4], piece.to_be_bytes());
        assert_eq!(served[8..], payload.data()[start..start + (16 << 10)]);
    }
}

#[test]
fn evicted_block_is_read_again() {
    let payload = payload(100_000);
    let (mut node, link) = seeder(&payload);
    node.hold_bytes = true;
    node.receive(link, &wire::message(REQUEST, &wire::block(0, 0, 16 << 10)));
    node.advance(Duration::from_secs(5));
    assert_eq!(wire::count(&node.sent[&link], PIECE), 0);
    node.hold_bytes = false;
    node.act();
    assert_eq!(wire::count(&node.sent[&link], PIECE), 1);
}

#[test]
fn block_cancelled_while_read_is_not_sent() {
    let payload = payload(100_000);
    let (mut node, link) = seeder(&payload);
    node.hold_jobs = true;
    let block = |piece| wire::block(piece, 0, 16 << 10);
    node.receive(link, &[0, 1].map(|piece| wire::message(REQUEST, &block(piece))).concat());
    node.receive(link, &wire::message(CANCEL, &block(0)));
    node.hold_jobs = false;
    node.act();
    let sent = wire::messages(&node.sent[&link]);
    let pieces: Vec<&Vec<u8>> =
        sent.iter().filter(|(id, _)| *id == PIECE).map(|(_, payload)| payload).collect();
    assert_eq!(pieces.len(), 1);
    assert_eq!(pieces[0][..4], 1u32.to_be_bytes());

    // No longer interested: it is choked, and its requests are dropped.
    node.hold_jobs = true;
    node.receive(link, &wire::message(REQUEST, &block(2)));
    node.receive(link, &wire::message(3, &[]));
    node.advance(Duration::from_secs(11));
    node.hold_jobs = false;
    node.act();
    let choked = wire::count(&node.sent[&link], CHOKE);
    assert_eq!((choked, wire::count(&node.sent[&link], PIECE)), (1, 1));
}

#[test]
fn nothing_is_read_for_full_queue() {
    let payload = Payload::file("film", 8 << 20).piece_length(256 << 10).create().unwrap();
    let (mut node, link) = seeder(&payload);
    node.hold_bytes = true;
    let all = (0..400).map(|n| wire::block(n / 16, n % 16 * (16 << 10), 16 << 10));
    let asked: Vec<u8> = all.flat_map(|block| wire::message(REQUEST, &block)).collect();
    node.hold_jobs = true;
    node.receive(link, &asked);
    let window = session::limits::SEND_WINDOW as usize;
    assert_eq!(node.jobs.len(), window / session::limits::READ_RANGE_LENGTH as usize);
    node.hold_jobs = false;
    node.hold_bytes = false;
    node.act();
    assert_eq!(wire::count(&node.sent[&link], PIECE), 400);
}

#[test]
fn six_hundred_requests_are_served() {
    let payload = Payload::file("film", 10 << 20).piece_length(256 << 10).create().unwrap();
    let (mut node, link) = seeder(&payload);
    let block = |n: u32| wire::block(n / 16, n % 16 * (16 << 10), 16 << 10);
    let asked: Vec<u8> = (0..600).flat_map(|n| wire::message(REQUEST, &block(n))).collect();
    node.receive(link, &asked);
    assert_eq!(wire::count(&node.sent[&link], PIECE), 600);
    assert!(!node.closed.contains(&link));
}

#[test]
fn requests_of_missing_pieces_are_refused() {
    let payload = payload(100_000);
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(1));
    node.add(add_of(&payload, folder.path()));
    let hello = wire::fast_handshake(payload.info_hash(), b'p');
    let link = node.incoming("10.0.0.9:5000", &hello).unwrap();
    node.receive(link, &wire::message(wire::INTERESTED, &[]));
    let block = wire::block(0, 0, 16 << 10);
    node.receive(link, &wire::message(REQUEST, &block));
    let rejects = wire::messages(&node.sent[&link]).into_iter().filter(|(id, _)| *id == 16);
    assert_eq!(rejects.collect::<Vec<_>>(), [(16, block)]);
}

#[test]
fn fresh_range_needs_no_job() {
    let payload = payload(100_000);
    let (mut node, link) = seeder(&payload);
    let request = |offset| wire::message(REQUEST, &wire::block(0, offset, 16 << 10));
    node.receive(link, &request(0));
    assert_eq!(wire::count(&node.sent[&link], PIECE), 1);
    node.hold_jobs = true;
    node.receive(link, &request(0));
    assert_eq!((wire::count(&node.sent[&link], PIECE), node.jobs.len()), (2, 0));
    // But not for long.
    node.advance(Duration::from_secs(2));
    node.receive(link, &request(0));
    assert_eq!((wire::count(&node.sent[&link], PIECE), node.jobs.len()), (2, 1));
    // Requests of two peers in the meantime are one job too.
    node.receive(link, &request(0));
    assert_eq!(node.jobs.len(), 1);
    node.hold_jobs = false;
    node.act();
    assert_eq!(wire::count(&node.sent[&link], PIECE), 4);
}

/// That many files of 100 bytes, and a seeder of them.
fn small_files(count: u64) -> (Payload, Node, session::engine::LinkKey) {
    let names: Vec<String> = (0..count).map(|number| format!("{number:04}")).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 100)).collect();
    let payload = Payload::folder("photos", &files).piece_length(128 << 10).create().unwrap();
    let (node, link) = seeder(&payload);
    (payload, node, link)
}

/// The blocks that were sent: the offset in the piece, and the bytes.
fn blocks(sent: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let sent = wire::messages(sent).into_iter().filter(|(id, _)| *id == PIECE);
    let start = |payload: &[u8]| u32::from_be_bytes(payload[4..8].try_into().unwrap()) as usize;
    sent.map(|(_, payload)| (start(&payload), payload[8..].to_vec())).collect()
}

/// The number of files of `payload` in a range of a piece.
fn files_of(payload: &Payload, range: &std::ops::Range<u32>) -> usize {
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
        node.receive(link, &wire::message(REQUEST, &wire::block(0, offset, 16 << 10)));
    }
    let mut reads = 0;
    while let Some(job) = node.jobs.front() {
        if let piece_store::Job::Read { range, .. } = job {
            let files = files_of(&payload, range);
            assert!(files <= session::limits::MAX_READ_RANGE_FILES, "{files} files");
            reads += 1;
        }
        node.do_job();
        node.act();
    }
    assert!(reads > 30, "{reads}");
    let blocks = blocks(&node.sent[&link]);
    assert_eq!(blocks.len(), 3);
    for (start, block) in blocks {
        assert!(block == payload.data()[start..start + (16 << 10)]);
    }
}

#[test]
fn reads_under_way_open_few_files() {
    let (payload, mut node, link) = small_files(800);
    node.hold_jobs = true;
    let ask = |number: u32| wire::message(REQUEST, &wire::block(0, number * 800, 800));
    node.receive(link, &(0..100).flat_map(ask).collect::<Vec<u8>>());
    let read = |job: &piece_store::Job| match job {
        piece_store::Job::Read { range, .. } => files_of(&payload, range),
        _ => 0,
    };
    let files: usize = node.jobs.iter().map(read).sum();
    assert_eq!(files, MAX_OPEN_FILES / session::limits::SERVED_FILES_SHARE);
    node.hold_jobs = false;
    node.act();
    assert_eq!(blocks(&node.sent[&link]).len(), 100);
}

#[test]
#[cfg(target_os = "linux")]
fn full_queues_hold_few_files_open() {
    let (payload, mut node, link) = small_files(1000);
    let hello = [wire::handshake(payload.info_hash(), b'q'), wire::message(INTERESTED, &[])];
    let other = node.incoming("10.0.0.8:5000", &hello.concat()).unwrap();
    node.hold_bytes = true;
    let ask = |number: u32| wire::message(REQUEST, &wire::block(0, number * 100, 100));
    for (link, numbers) in [(link, 0..500), (other, 500..1000)] {
        node.receive(link, &numbers.flat_map(ask).collect::<Vec<u8>>());
    }
    let opened = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = opened.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let open = targets.filter(|target| target.starts_with(payload.folder_path())).count();
    // And the folder itself.
    assert!(open <= MAX_OPEN_FILES + 1, "{open}");
    node.hold_bytes = false;
    node.act();
    for (link, first) in [(link, 0), (other, 500)] {
        let blocks = blocks(&node.sent[&link]);
        assert_eq!(blocks.len(), 500);
        for (number, (start, block)) in blocks.into_iter().enumerate() {
            assert_eq!(start, (first + number) * 100);
            assert!(block == payload.data()[start..start + 100]);
        }
    }
}

#[test]
fn seeder_sends_bitfield() {
    let payload = payload(100_000);
    let (node, link) = seeder(&payload);
    let said = wire::messages(&node.sent[&link]);
    assert_eq!(said[0], (BITFIELD, vec![0b1111_0000]));
}

/// The extension handshakes among the messages.
fn extension_handshakes(sent: &[u8]) -> Vec<String> {
    let extended = wire::messages(sent).into_iter().filter(|(id, body)| *id == 20 && body[0] == 0);
    extended.map(|(_, body)| String::from_utf8_lossy(&body[1..]).into_owned()).collect()
}

#[test]
fn seeder_sends_upload_only() {
    let payload = payload(100_000);
    let mut node = Node::new(config(1));
    node.add(AddTorrent { seed_only: true, ..add_of(&payload, payload.folder_path()) });
    let hello = wire::extended_handshake(payload.info_hash(), b'p');
    let link = node.incoming("10.0.0.9:5000", &hello).unwrap();
    let said = extension_handshakes(&node.sent[&link]);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("11:upload_onlyi1e"), "{said:?}");
}

#[test]
fn finished_download_sends_upload_only() {
    let payload = payload(100_000);
    let (mut net, _folder) = net(&payload, config(7), 1);
    net.nodes[0].hold_jobs = true;
    net.run_until(LIMIT, |net| !net.nodes[0].jobs.is_empty());
    let hello = wire::extended_handshake(payload.info_hash(), b'p');
    net.nodes[0].hold_jobs = false;
    net.nodes[0].act();
    let link = net.nodes[0].incoming("10.0.9.9:5000", &hello).unwrap();
    let said = extension_handshakes(&net.nodes[0].sent[&link]);
    assert!(said.len() == 1 && !said[0].contains("upload_only"), "{said:?}");
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    let said = extension_handshakes(&net.nodes[0].sent[&link]);
    assert!(said.len() == 2 && said[1].contains("11:upload_onlyi1e"), "{said:?}");
    // The rest is repeated, for clients that forget what a later handshake lacks.
    assert_eq!(said[1].replace("11:upload_onlyi1e", ""), said[0]);
}
