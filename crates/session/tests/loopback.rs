//! Whole sessions on loopback: real sockets, real files, real trackers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets take real time.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_types::{AnnounceEvent, PeerId};
use metainfo::Metainfo;
use session::{
    AddTorrent, ErrorClass, EventKind, PeerState, PhaseKind, Session, SessionConfig, StartError,
    StopReason, TorrentKey, TorrentStatus,
};
use testkit::{Answer, Behaviour, HttpTracker, Payload, Script, UdpTracker};

/// No test takes a tenth of it. It keeps a broken test from hanging.
const LIMIT: Duration = Duration::from_secs(8);
/// Our peer id when we probe.
const PEER_ID: PeerId = PeerId(*b"-qS0100-of the probe");

fn session() -> Session {
    start(&SessionConfig::default())
}

fn start(config: &SessionConfig) -> Session {
    let bind = Some(config.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()));
    let config = SessionConfig { ports: 0..=0, bind, ..config.clone() };
    Session::start(&config).expect("a session starts on any free port")
}

/// A session that keeps its records in `state`.
fn recording(state: &tempfile::TempDir) -> Session {
    let state_dir = Some(state.path().to_owned());
    start(&SessionConfig { state_dir, ..SessionConfig::default() })
}

fn add(payload: &Payload, folder: impl AsRef<Path>) -> AddTorrent {
    let metainfo = Metainfo::parse(payload.torrent()).expect("the payload has a good torrent");
    AddTorrent::new(Arc::new(metainfo), folder.as_ref())
}

fn address(session: &Session) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, session.listen_port()))
}

/// Takes events until one satisfies `wanted`.
#[track_caller]
fn wait_for(session: &Session, wanted: impl Fn(&EventKind) -> bool) -> EventKind {
    let until = Instant::now() + LIMIT;
    let mut seen = Vec::new();
    while let Ok(event) = session.events().recv_deadline(until) {
        if wanted(&event.kind) {
            return event.kind;
        }
        seen.push(event.kind);
    }
    panic!("the event did not come; status {:?}; seen {seen:?}", session.snapshot());
}

#[track_caller]
fn wait_completed(session: &Session) {
    wait_for(session, |kind| {
        if let EventKind::Stopped { reason: StopReason::Failed(error) } = kind {
            panic!("stopped: {error}");
        }
        *kind == EventKind::Completed
    });
}

fn status(session: &Session, torrent: TorrentKey) -> TorrentStatus {
    let all = session.snapshot().expect("the session runs");
    all.into_iter().find(|status| status.torrent == torrent).expect("the torrent is there")
}

/// Waits until the session's only torrent satisfies `wanted`. Takes events meanwhile.
#[track_caller]
fn wait_until(session: &Session, wanted: impl Fn(&TorrentStatus) -> bool) {
    wait_snapshot(session, |all| {
        let _ = session.events().try_iter().count();
        all.iter().all(&wanted)
    });
}

/// Waits until the session satisfies `wanted`.
#[track_caller]
fn wait_snapshot(session: &Session, wanted: impl Fn(&[TorrentStatus]) -> bool) {
    let until = Instant::now() + LIMIT;
    while !wanted(&session.snapshot().expect("the session runs")) {
        assert!(Instant::now() < until, "status {:?}", session.snapshot());
        std::thread::yield_now();
    }
}

fn seed(seeder: &Session, payload: &Payload) {
    let add = AddTorrent { seed_only: true, ..add(payload, payload.folder_path()) };
    seeder.add(add).unwrap();
}

fn seeder(payload: &Payload) -> Session {
    let seeder = session();
    seed(&seeder, payload);
    wait_completed(&seeder);
    seeder
}

/// Downloads a torrent to a new folder.
#[track_caller]
fn download(leecher: &Session, payload: &Payload, peers: Vec<SocketAddr>) -> TorrentKey {
    let target = folder();
    let torrent = leecher.add(AddTorrent { peers, ..add(payload, target.path()) }).unwrap();
    wait_completed(leecher);
    assert_eq!(payload.compare(target.path()), Ok(()));
    torrent
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn one_seeder_to_one_leecher() {
    let payload = Payload::folder("album", &[("a/one", 700_000), ("two", 1), ("empty", 0)])
        .piece_length(32 * 1024)
        .create()
        .unwrap();
    let (seeder, leecher) = (seeder(&payload), session());
    let torrent = download(&leecher, &payload, vec![address(&seeder)]);
    let status = status(&leecher, torrent);
    assert!(status.is_complete());
    assert_eq!((status.bytes_done, status.downloaded), (700_001, 700_001));
}

#[test]
fn trackers_connect_peers_and_get_events() {
    let http = HttpTracker::start();
    let udp = UdpTracker::start();
    for (url, tracker) in [(http.url(), &*http), (udp.url(), &*udp)] {
        let payload =
            Payload::file("film", 400_000).piece_length(16 * 1024).tracker(url).create().unwrap();
        let seeder = seeder(&payload);
        wait_until(&seeder, |_| !tracker.announces().is_empty());
        let leecher = session();
        download(&leecher, &payload, Vec::new());
        let port = leecher.listen_port();
        leecher.shut_down(LIMIT);
        let said = tracker.announces().into_iter().filter(|seen| seen.port == port);
        let said: Vec<_> = said.map(|seen| (seen.event, seen.left)).collect();
        let expected = [
            (AnnounceEvent::Started, 400_000),
            (AnnounceEvent::Completed, 0),
            (AnnounceEvent::Stopped, 0),
        ];
        assert_eq!(said, expected);
    }
}

#[test]
fn many_seeders_share_work() {
    let payload = Payload::file("film", 3_000_000).piece_length(64 * 1024).create().unwrap();
    // The honest ones are slow, so that the liar gets its share of requests.
    let named = |name: u8| Script::seeder(&payload).peer_id(PeerId([name; 20]));
    let slow = |name| named(name).fast().delay(Duration::from_millis(5)).listen();
    let honest = [slow(b'a'), slow(b'b')];
    let liar = named(b'c').behaviour(Behaviour::Corrupt { every: 1 }).listen();
    let (leecher, target) = (session(), folder());
    let peers = honest.iter().chain([&liar]).map(testkit::ScriptedPeer::address).collect();
    leecher.add(AddTorrent { peers, ..add(&payload, target.path()) }).unwrap();
    let banned =
        wait_for(&leecher, |kind| matches!(kind, EventKind::Peer { state: PeerState::Banned, .. }));
    assert!(matches!(banned, EventKind::Peer { address, .. } if address == liar.address()));
    wait_completed(&leecher);
    assert_eq!(payload.compare(target.path()), Ok(()));
}

#[test]
fn verified_pieces_survive_restart() {
    let payload = Payload::file("film", 1_000_000).piece_length(16 * 1024).create().unwrap();
    let (target, state) = (folder(), folder());
    let half = Script::seeder(&payload).pieces(0..30).listen();
    let first = recording(&state);
    let peers = vec![half.address()];
    first.add(AddTorrent { peers, ..add(&payload, target.path()) }).unwrap();
    wait_until(&first, |status| status.pieces_done == 30);
    first.shut_down(LIMIT);

    let seeder = Script::seeder(&payload).listen();
    let second = recording(&state);
    let peers = vec![seeder.address()];
    let torrent = second.add(AddTorrent { peers, ..add(&payload, target.path()) }).unwrap();
    let started = wait_for(&second, |kind| matches!(kind, EventKind::Started { .. }));
    assert!(matches!(started, EventKind::Started { have: 30, wanted: 62, .. }));
    wait_completed(&second);
    assert_eq!(payload.compare(target.path()), Ok(()));
    assert_eq!(status(&second, torrent).downloaded, 1_000_000 - 30 * 16 * 1024);
}

#[test]
fn leecher_accepts_connections() {
    let payload = Payload::file("film", 300_000).piece_length(16 * 1024).create().unwrap();
    let (leecher, target) = (session(), folder());
    let torrent = leecher.add(add(&payload, target.path())).unwrap();
    wait_for(&leecher, |kind| matches!(kind, EventKind::Started { .. }));
    let _seeder = Script::seeder(&payload).fast().connect(address(&leecher)).unwrap();
    wait_completed(&leecher);
    assert_eq!(payload.compare(target.path()), Ok(()));
    assert_eq!(status(&leecher, torrent).peers_banned, 0);
}

#[test]
fn long_pieces_are_staged() {
    let payload = Payload::file("image", 40 << 20).piece_length(32 << 20).create().unwrap();
    let seeder = seeder(&payload);
    let leecher = start(&SessionConfig { max_memory: 16 << 20, ..SessionConfig::default() });
    download(&leecher, &payload, vec![address(&seeder)]);
}

#[test]
fn second_session_on_folder_is_refused() {
    let payload = Payload::file("film", 100_000).create().unwrap();
    let (target, state) = (folder(), folder());
    let (first, second) = (recording(&state), recording(&state));
    first.add(add(&payload, target.path())).unwrap();
    wait_for(&first, |kind| matches!(kind, EventKind::Started { .. }));
    second.add(add(&payload, target.path())).unwrap();
    let stopped = wait_for(&second, |kind| matches!(kind, EventKind::Stopped { .. }));
    let EventKind::Stopped { reason: StopReason::Failed(error) } = stopped else {
        panic!("{stopped:?}")
    };
    assert_eq!(error.class, ErrorClass::InUse);
    assert!(first.add(add(&payload, target.path())).is_err(), "one session has a torrent once");
}

#[test]
fn torrent_resumes_after_stop() {
    let payload = Payload::file("film", 500_000).piece_length(16 * 1024).create().unwrap();
    let seeder = seeder(&payload);
    let (leecher, target) = (session(), folder());
    let torrent = leecher.add(add(&payload, target.path())).unwrap();
    wait_for(&leecher, |kind| matches!(kind, EventKind::Started { .. }));
    leecher.stop(torrent).unwrap();
    wait_for(&leecher, |kind| matches!(kind, EventKind::Stopped { reason: StopReason::Asked }));
    leecher.resume(torrent).unwrap();
    wait_for(&leecher, |kind| matches!(kind, EventKind::Started { .. }));
    leecher.add_peers(torrent, vec![address(&seeder)]).unwrap();
    wait_completed(&leecher);
    assert_eq!(payload.compare(target.path()), Ok(()));
}

#[test]
fn rates_are_limited() {
    let payload = Payload::file("film", 400_000).piece_length(16 * 1024).create().unwrap();
    let seeder = seeder(&payload);
    let leecher = start(&SessionConfig { max_down: Some(400_000), ..SessionConfig::default() });
    let began = Instant::now();
    download(&leecher, &payload, vec![address(&seeder)]);
    // The bytes of a second, a quarter of which may come at once. An upper bound would test timing.
    assert!(began.elapsed() > Duration::from_millis(700), "took {:?}", began.elapsed());
}

#[test]
fn probe_identifies_peer() {
    let payload = Payload::file("film", 100_000).create().unwrap();
    let seeder = seeder(&payload);
    let info_hash = payload.info_hash();
    let probe = session::probe::handshake(address(&seeder), info_hash, PEER_ID, None, LIMIT)
        .expect("it answers");
    assert_eq!(probe.info_hash, info_hash);
    assert_eq!(probe.peer_id.as_bytes()[..8], SessionConfig::default().peer_id_prefix);
    assert_eq!(probe.client, SessionConfig::default().client_name);
    let other = "00112233445566778899aabbccddeeff00112233".parse().unwrap();
    let error =
        session::probe::handshake(address(&seeder), other, PEER_ID, None, LIMIT).unwrap_err();
    assert!(matches!(error, session::probe::ProbeError::Closed { .. }), "{error}");
}

#[test]
fn leechers_serve_each_other() {
    let payload = Payload::file("film", 2_000_000).piece_length(32 * 1024).create().unwrap();
    let seeder = seeder(&payload);
    let folders: Vec<_> = (0..4).map(|_| folder()).collect();
    let leechers: Vec<Session> = folders.iter().map(|_| session()).collect();
    let all: Vec<SocketAddr> = leechers.iter().map(address).collect();
    // Each gets the addresses of the seeder and of the leechers before it.
    for (number, (leecher, target)) in leechers.iter().zip(&folders).enumerate() {
        let peers = all[..number].iter().copied().chain([address(&seeder)]).collect();
        leecher.add(AddTorrent { peers, ..add(&payload, target.path()) }).unwrap();
    }
    for (leecher, target) in leechers.iter().zip(&folders) {
        wait_completed(leecher);
        assert_eq!(payload.compare(target.path()), Ok(()));
    }
}

#[test]
fn selected_files_include_boundary_pieces() {
    let files = [("one", 100_000), ("two", 150_000), ("three", 90_000)];
    let payload = Payload::folder("album", &files).piece_length(64 * 1024).create().unwrap();
    let seeder = seeder(&payload);
    let (leecher, target) = (session(), folder());
    let peers = vec![address(&seeder)];
    let selected = Some(vec![false, true, false]);
    let add = AddTorrent { peers, selected, ..add(&payload, target.path()) };
    let torrent = leecher.add(add).unwrap();
    wait_completed(&leecher);
    let album = target.path().join("album");
    let two = std::fs::read(album.join("two")).expect("it was selected");
    assert_eq!(two, payload.data()[100_000..250_000]);
    assert!(!album.join("one").exists() && !album.join("three").exists());
    let status = status(&leecher, torrent);
    assert!(status.is_complete());
    assert_eq!((status.pieces_done, status.pieces_total), (3, 3));
}

#[test]
fn several_torrents_at_once() {
    let payloads: Vec<Payload> = (0..3)
        .map(|seed| {
            let file = Payload::file("film", 600_000).piece_length(32 * 1024);
            file.seed(seed).create().unwrap()
        })
        .collect();
    let (seeder, leecher) = (session(), session());
    let folders: Vec<_> = payloads.iter().map(|_| folder()).collect();
    for (payload, target) in payloads.iter().zip(&folders) {
        seed(&seeder, payload);
        wait_completed(&seeder);
        let peers = vec![address(&seeder)];
        leecher.add(AddTorrent { peers, ..add(payload, target.path()) }).unwrap();
    }
    for _ in &payloads {
        wait_completed(&leecher);
    }
    for (payload, target) in payloads.iter().zip(&folders) {
        assert_eq!(payload.compare(target.path()), Ok(()));
    }
}

#[test]
fn lone_liar_is_banned() {
    let payload = Payload::file("film", 300_000).piece_length(32 * 1024).create().unwrap();
    let liar = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 1 }).listen();
    let (leecher, target) = (session(), folder());
    let peers = vec![liar.address()];
    let torrent = leecher.add(AddTorrent { peers, ..add(&payload, target.path()) }).unwrap();
    wait_for(&leecher, |kind| matches!(kind, EventKind::Peer { state: PeerState::Banned, .. }));
    let state = status(&leecher, torrent);
    assert_eq!((state.pieces_done, state.peers_banned), (0, 1));
    assert_eq!(state.phase, PhaseKind::Transfer);
    let seeder = seeder(&payload);
    leecher.add_peers(torrent, vec![address(&seeder)]).unwrap();
    wait_completed(&leecher);
    assert_eq!(payload.compare(target.path()), Ok(()));
}

/// An address without a listener.
fn dead_address() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn dead_tracker_leads_to_next_tier() {
    let alive = HttpTracker::start();
    let file = Payload::file("film", 200_000).piece_length(16 * 1024);
    let dead = format!("http://{}/announce", dead_address());
    let payload = file.tier([dead]).tier([alive.url()]).create().unwrap();
    let seeder = seeder(&payload);
    assert!(alive.wait_for(LIMIT, |seen| !seen.is_empty()));
    let (leecher, target) = (session(), folder());
    leecher.add(add(&payload, target.path())).unwrap();
    wait_for(&leecher, |kind| matches!(kind, EventKind::Tracker { result: Err(_), .. }));
    wait_completed(&leecher);
    assert_eq!(payload.compare(target.path()), Ok(()));
    drop(seeder);
}

/// The tracker, its peers and the transfer.
#[test]
fn everything_works_over_ipv6() {
    let tracker = UdpTracker::start_v6().expect("IPv6 on loopback");
    let payload = Payload::file("film", 100_000).tracker(tracker.url()).create().unwrap();
    let bind = Some(std::net::Ipv6Addr::LOCALHOST.into());
    let config = SessionConfig { bind, ..SessionConfig::default() };
    let (seeder, leecher) = (start(&config), start(&config));
    seed(&seeder, &payload);
    assert!(tracker.wait_for(LIMIT, |seen| !seen.is_empty()));
    download(&leecher, &payload, Vec::new());
}

#[test]
fn hanging_tracker_does_not_delay_shutdown() {
    let tracker = HttpTracker::start();
    let payload = Payload::file("film", 100_000).tracker(tracker.url()).create().unwrap();
    let seeder = seeder(&payload);
    wait_until(&seeder, |status| status.trackers.iter().any(|it| it.result == Some(Ok(()))));
    tracker.answer(Answer::Silence);
    let events = seeder.events().clone();
    let began = Instant::now();
    seeder.shut_down(Duration::from_secs(20));
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    let stopped = events
        .iter()
        .any(|event| matches!(event.kind, EventKind::Stopped { reason: StopReason::Asked }));
    assert!(stopped);
}

#[test]
fn no_listener_still_connects() {
    let payload = Payload::file("film", 100_000).create().unwrap();
    let seeder = seeder(&payload);
    let leecher = start(&SessionConfig { listen: false, ..SessionConfig::default() });
    assert_eq!(leecher.listen_port(), 0);
    download(&leecher, &payload, vec![address(&seeder)]);
}

#[test]
fn probe_reports_errors() {
    use session::probe::{ProbeError, handshake};
    let payload = Payload::file("film", 100_000).create().unwrap();
    let info_hash = payload.info_hash();
    let probe = |behaviour, limit| {
        let peer = Script::seeder(&payload).behaviour(behaviour).listen();
        handshake(peer.address(), info_hash, PEER_ID, None, limit).unwrap_err()
    };
    let error = probe(Behaviour::WrongInfoHash, LIMIT);
    assert!(matches!(error, ProbeError::WrongTorrent { expected, .. } if expected == info_hash));
    let error = probe(Behaviour::Garbage, LIMIT);
    assert!(matches!(error, ProbeError::Misbehaved { .. }), "{error}");
    let error = probe(Behaviour::Silent, Duration::from_millis(100));
    assert!(matches!(error, ProbeError::TimedOut { .. }), "{error}");
    let error = handshake(dead_address(), info_hash, PEER_ID, None, LIMIT).unwrap_err();
    assert!(matches!(error, ProbeError::Connect { .. }), "{error}");
}

#[test]
fn failed_start_says_why() {
    let little = SessionConfig { max_memory: 1 << 20, ..SessionConfig::default() };
    let error = Session::start(&little).err().expect("too little memory");
    assert!(matches!(error, StartError::Memory { got: 1_048_576 }));
    let taken = session();
    let port = taken.listen_port();
    let same = SessionConfig { ports: port..=port, ..SessionConfig::default() };
    let error = Session::start(&same).err().expect("the port is taken");
    assert!(matches!(error, StartError::Listen { first, .. } if first == port), "{error}");
}

#[test]
fn every_immediate_failure_is_reported() {
    let payload = Payload::file("film", 100_000).create().unwrap();
    let (session, target) = (session(), folder());
    // The system has no route to them from the loopback address.
    let peers: BTreeSet<SocketAddr> =
        (0..200).map(|host| SocketAddr::from(([192, 0, 2, host], 6881))).collect();
    let known = peers.iter().copied().collect();
    session.add(AddTorrent { peers: known, ..add(&payload, target.path()) }).unwrap();
    let mut failed = BTreeSet::new();
    while failed.len() < peers.len() {
        let event = wait_for(&session, |kind| matches!(kind, EventKind::Peer { .. }));
        let EventKind::Peer { address, state: PeerState::Failed, .. } = event else {
            panic!("{event:?}")
        };
        failed.insert(address);
    }
    assert_eq!(failed, peers);
}

#[test]
fn untaken_tracker_answers_are_limited() {
    let tracker = HttpTracker::start();
    let address = |n: u16| SocketAddr::from(([192, 0, 2, 1], 1000 + n));
    tracker.answer(Answer::Peers((0..2000).map(address).collect()));
    let session = session();
    let payloads: Vec<Payload> = (0..12)
        .map(|seed| {
            let payload = Payload::file("film", 1000).seed(seed).tracker(tracker.url());
            payload.create().unwrap()
        })
        .collect();
    for payload in &payloads {
        seed(&session, payload);
    }
    let answered =
        |status: &TorrentStatus| status.trackers.iter().any(|tracker| tracker.result.is_some());
    wait_snapshot(&session, |all| all.iter().all(answered));
    let count = |event: session::Event| match event.kind {
        EventKind::Tracker { result: Ok(report), .. } => report.peers.len(),
        _ => 0,
    };
    let peers: usize = session.events().try_iter().map(count).sum();
    assert_eq!(peers, 16_000, "eight answers of twelve");
    assert_eq!(session.snapshot().unwrap()[0].events_dropped, 4);
}

#[test]
fn stop_is_reported_despite_full_channel() {
    let payload = Payload::file("film", 2_000_000).piece_length(16 * 1024).create().unwrap();
    let session = session();
    for _ in 0..60 {
        let torrent = session.add(add(&payload, payload.folder_path())).unwrap();
        wait_snapshot(&session, |all| all[0].is_complete());
        session.remove(torrent).unwrap();
        wait_snapshot(&session, <[_]>::is_empty);
    }
    let events = session.events().clone();
    session.shut_down(LIMIT);
    let completed = events.iter().filter(|event| event.kind == EventKind::Completed).count();
    assert_eq!(completed, 60);
}

#[test]
fn burst_of_connections_is_accepted() {
    let payload = Payload::file("film", 100_000).create().unwrap();
    let session = session();
    seed(&session, &payload);
    wait_until(&session, |status| status.phase == PhaseKind::Transfer);
    let count = session::limits::MAX_HALF_OPEN + 36;
    let mut peers: Vec<TcpStream> =
        (0..count).map(|_| TcpStream::connect(address(&session)).unwrap()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.write_all(b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0").unwrap();
        peer.write_all(payload.info_hash().as_bytes()).unwrap();
        peer.write_all(format!("-XX0001-{number:012}").as_bytes()).unwrap();
    }
    for peer in &mut peers {
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        let mut theirs = [0; 68];
        peer.read_exact(&mut theirs).unwrap();
        assert!(theirs.starts_with(b"\x13BitTorrent protocol"));
    }
}
