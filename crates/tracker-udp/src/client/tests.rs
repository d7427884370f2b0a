//! The client with a tracker on a loopback socket.

use std::thread::JoinHandle;

use super::*;
use crate::packet::{Request, Response, ScrapeCounts};

/// Answers a number of requests and then returns them.
struct Tracker {
    address: SocketAddr,
    thread: JoinHandle<Vec<Request>>,
}

impl Tracker {
    /// Starts a tracker that sends the datagrams that `answer` returns.
    fn start(
        ip: &str,
        requests: usize,
        answer: impl Fn(&Request) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            let mut seen = Vec::new();
            while seen.len() < requests {
                let (length, client) = socket.recv_from(&mut buffer).expect("a request");
                let request = Request::decode(&buffer[..length]).unwrap();
                for datagram in answer(&request) {
                    socket.send_to(&datagram, client).unwrap();
                }
                seen.push(request);
            }
            seen
        });
        Self { address, thread }
    }

    fn url(&self, path: &str) -> String {
        format!("udp://{}{path}", self.address)
    }

    fn seen(self) -> Vec<Request> {
        self.thread.join().unwrap()
    }
}

const PEERS: [&str; 2] = ["198.51.100.7:6881", "198.51.100.8:51413"];

fn honest(request: &Request) -> Vec<Vec<u8>> {
    let transaction_id = request.transaction_id();
    let response = match request {
        Request::Connect { .. } => Response::Connect { transaction_id, connection_id: 99 },
        Request::Announce { .. } => Response::Announce {
            transaction_id,
            interval: 1800,
            leechers: 3,
            seeders: 5,
            peers: PEERS.map(|peer| peer.parse().unwrap()).to_vec(),
        },
        Request::Scrape { info_hashes, .. } => {
            let counts = ScrapeCounts { seeders: 1, completed: 2, leechers: 3 };
            Response::Scrape { transaction_id, counts: vec![counts; info_hashes.len()] }
        }
    };
    vec![response.encode()]
}

fn client() -> Client {
    Client::new(Duration::from_secs(20))
}

/// A client that sends from this local address.
fn bound(ip: &str) -> Client {
    Client { bind: Some(ip.parse().unwrap()), ..client() }
}

fn hash(byte: u8) -> InfoHashV1 {
    InfoHashV1([byte; 20])
}

#[test]
fn get_peers_comes_and_leaves() {
    let tracker = Tracker::start("127.0.0.1", 3, honest);
    let found = client().get_peers(&tracker.url("/announce?a=b"), hash(1)).unwrap();
    let peers = PEERS.map(|peer| peer.parse().unwrap()).to_vec();
    assert_eq!(found, Peers { leechers: 3, seeders: 5, interval: 1800, peers });
    let seen = tracker.seen();
    let events: Vec<AnnounceEvent> = seen
        .iter()
        .filter_map(|request| match request {
            Request::Announce { connection_id: 99, announce, url_data, .. } => {
                assert_eq!((announce.info_hash, announce.port), (hash(1), 6881));
                assert_eq!(url_data, b"/announce?a=b");
                Some(announce.event)
            }
            _ => None,
        })
        .collect();
    assert_eq!(events, [AnnounceEvent::Started, AnnounceEvent::Stopped]);
}

#[test]
fn announce_and_scrape() {
    let tracker = Tracker::start("127.0.0.1", 4, honest);
    let request = AnnounceRequest { port: 7000, ..AnnounceRequest::new(hash(1), PeerId([2; 20])) };
    let reply = client().announce(&tracker.url(""), &request).unwrap();
    assert_eq!((reply.seeders, reply.leechers, reply.peers.len()), (Some(5), Some(3), 2));
    let entries = client().scrape(&tracker.url(""), &[hash(1), hash(2)]).unwrap();
    let hashes: Vec<InfoHashV1> = entries.iter().map(|entry| entry.info_hash).collect();
    assert_eq!(hashes, [hash(1), hash(2)]);
    assert_eq!((entries[0].seeders, entries[0].completed, entries[0].leechers), (1, 2, 3));
    let seen = tracker.seen();
    assert!(matches!(&seen[1], Request::Announce { announce, .. } if announce.port == 7000));
}

#[test]
fn stray_datagrams_are_ignored() {
    let tracker = Tracker::start("127.0.0.1", 3, |request| {
        let stray =
            Response::Error { transaction_id: !request.transaction_id(), message: "no".into() };
        let mut answers = vec![b"x".to_vec(), stray.encode()];
        answers.extend(honest(request));
        answers
    });
    assert!(client().get_peers(&tracker.url(""), hash(1)).is_ok());
    tracker.seen();
}

#[test]
fn refusal_is_returned() {
    let tracker = Tracker::start("127.0.0.1", 2, |request| match request {
        Request::Connect { .. } => honest(request),
        other => {
            let transaction_id = other.transaction_id();
            vec![
                Response::Error { transaction_id, message: "unregistered torrent".into() }.encode(),
            ]
        }
    });
    let address = tracker.address;
    let error = client().get_peers(&tracker.url(""), hash(1)).unwrap_err();
    let refused = ExchangeError::Refused { message: "unregistered torrent".into() };
    assert_eq!(error, ClientError::Exchange { address, error: refused });
    assert_eq!(error.to_string(), format!("{address}: the tracker refused: unregistered torrent"));
    tracker.seen();
}

#[test]
fn silence_times_out() {
    let tracker = Tracker::start("127.0.0.1", 1, |_| vec![]);
    let client = Client::new(Duration::from_millis(50));
    let error = client.get_peers(&tracker.url(""), hash(1)).unwrap_err();
    let ClientError::Exchange { error: ExchangeError::TimedOut { sent, .. }, .. } = error else {
        panic!("expected a timeout, got {error:?}");
    };
    assert_eq!(sent, 1);
    tracker.seen();
}

#[test]
fn closed_port_fails_at_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let error = client().get_peers(&format!("udp://{address}"), hash(1)).unwrap_err();
    assert_eq!(error, ClientError::Socket { address, kind: io::ErrorKind::ConnectionRefused });
}

#[test]
fn invalid_calls_send_nothing() {
    let refused = |url: &str| client().get_peers(url, hash(1)).unwrap_err();
    assert!(matches!(refused("udp://127.0.0.1"), ClientError::Url(TrackerUrlError::NoPort { .. })));
    assert!(matches!(
        refused("http://127.0.0.1:1"),
        ClientError::Url(TrackerUrlError::Scheme { .. })
    ));
    let error = client().scrape("udp://127.0.0.1:1", &[]).unwrap_err();
    assert_eq!(error, ClientError::ScrapeCount(ScrapeCountError { got: 0 }));
    let error = bound("::1").get_peers("udp://127.0.0.1:1", hash(1)).unwrap_err();
    assert!(matches!(error, ClientError::Resolve { .. }), "{error:?}");
}

#[test]
fn ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let v6: SocketAddr = "[2001:db8::1]:6881".parse().unwrap();
    let tracker = Tracker::start("::1", 3, move |request| match request {
        Request::Announce { transaction_id, .. } => {
            let (interval, leechers, seeders, peers) = (60, 1, 2, vec![v6]);
            let transaction_id = *transaction_id;
            vec![Response::Announce { transaction_id, interval, leechers, seeders, peers }.encode()]
        }
        other => honest(other),
    });
    assert_eq!(client().get_peers(&tracker.url("/"), hash(1)).unwrap().peers, [v6]);
    tracker.seen();
}

#[test]
fn name_is_looked_up() {
    let tracker = Tracker::start("127.0.0.1", 3, honest);
    let url = format!("udp://localhost:{}/", tracker.address.port());
    assert_eq!(client().get_peers(&url, hash(1)).unwrap().seeders, 5);
    tracker.seen();
}

#[test]
fn bound_client_uses_its_address() {
    let (sender, senders) = mpsc::channel();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        sender.send(from.ip()).unwrap();
    });
    let client = Client { timeout: Duration::from_millis(200), ..bound("127.0.0.2") };
    client.get_peers(&format!("udp://{address}"), hash(1)).unwrap_err();
    assert_eq!(senders.recv().unwrap(), "127.0.0.2".parse::<IpAddr>().unwrap());
    thread.join().unwrap();
}

#[test]
fn replies_of_two_families_are_joined() {
    let reply = |peers: &[&str], interval| AnnounceReply {
        interval,
        peers: peers.iter().map(|peer| peer.parse::<SocketAddr>().unwrap().into()).collect(),
        ..AnnounceReply::default()
    };
    let joined = join(
        reply(&["10.0.0.1:1", "10.0.0.2:2"], 60),
        reply(&["[2001:db8::1]:1", "10.0.0.2:2"], 90),
    );
    assert_eq!(joined, reply(&["10.0.0.1:1", "10.0.0.2:2", "[2001:db8::1]:1"], 60));
}

#[test]
fn one_family_is_enough() {
    let exchange = |message: &str| ClientError::Exchange {
        address: "127.0.0.1:1".parse().unwrap(),
        error: ExchangeError::Refused { message: message.to_owned() },
    };
    let unreachable = ClientError::Socket {
        address: "[::1]:1".parse().unwrap(),
        kind: io::ErrorKind::NetworkUnreachable,
    };
    let collected = |results: Vec<Result<Reply, ClientError>>| {
        let (sender, receiver) = mpsc::channel();
        results.into_iter().for_each(|result| sender.send(result).unwrap());
        drop(sender);
        collect(&receiver, Duration::ZERO).unwrap()
    };
    let reply = || Ok(Reply::Scrape(vec![]));
    assert_eq!(collected(vec![Err(unreachable.clone()), reply()]).unwrap().len(), 1);
    assert_eq!(collected(vec![reply(), Err(unreachable.clone())]).unwrap().len(), 1);
    assert_eq!(collected(vec![reply(), reply()]).unwrap().len(), 2);
    let refusal = exchange("no");
    for order in [[unreachable.clone(), refusal.clone()], [refusal.clone(), unreachable.clone()]] {
        assert_eq!(collected(order.map(Err).to_vec()), Err(refusal.clone()));
    }
}

#[test]
fn bound_client_asks_no_private_address() {
    let found = ["2606:4700::1", "192.168.0.1"].map(|ip| ip.parse().unwrap());
    let asked = |bind: &str| bound(bind).addresses_to_ask(&found);
    assert_eq!(asked("0.0.0.0"), [vec![], Vec::<IpAddr>::new()]);
    assert_eq!(asked("::"), [vec![], vec![found[0]]]);
    assert_eq!(client().addresses_to_ask(&found), [vec![], vec![found[0]]]);
    assert_eq!(bound("0.0.0.0").addresses_to_ask(&found[1..]), [vec![found[1]], vec![]]);
}

/// Asks these addresses in sequence. Returns the result and how many seconds that took.
fn in_sequence(
    addresses: &[SocketAddr],
    timeout: u64,
) -> (Option<Result<Reply, ClientError>>, u64) {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(timeout);
    let request = AnnounceRequest::new(hash(1), PeerId([2; 20]));
    let question = Question::Announce { request, url_data: Vec::new(), leave: false };
    let question = Arc::new(question);
    let ask = move |address| ask_one(address, None, &question, deadline);
    (ask_in_sequence(addresses, deadline, ask), start.elapsed().as_secs())
}

/// Opens a socket that never answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn next_address_is_asked_after_silence() {
    let (first, second, tracker) = (silent(), silent(), Tracker::start("127.0.0.1", 2, honest));
    let (reply, seconds) = in_sequence(&[first.1, second.1, tracker.address], 20);
    assert!(matches!(reply, Some(Ok(Reply::Announce(_)))), "{reply:?}");
    assert!((4..10).contains(&seconds), "two were silent for 2 s each: {seconds} s");
    tracker.seen();
}

#[test]
fn closed_port_is_passed_at_once() {
    let closed = silent().1;
    let tracker = Tracker::start("127.0.0.1", 2, honest);
    let (reply, seconds) = in_sequence(&[closed, closed, tracker.address], 20);
    assert!(matches!(reply, Some(Ok(Reply::Announce(_)))), "{reply:?}");
    assert!(seconds < 2, "{seconds} s");
    tracker.seen();
}

#[test]
fn late_answer_of_first_address_counts() {
    let tracker = Tracker::start("127.0.0.1", 2, |request| {
        thread::park_timeout(Duration::from_millis(1500));
        honest(request)
    });
    let other = silent();
    let (reply, _) = in_sequence(&[tracker.address, other.1], 20);
    assert!(matches!(reply, Some(Ok(Reply::Announce(_)))), "{reply:?}");
    other.0.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(other.0.recv(&mut [0; 16]).is_ok(), "the second was asked after 2 s");
    tracker.seen();
}

#[test]
fn silent_addresses_time_out() {
    let (first, second) = (silent(), silent());
    let (reply, _) = in_sequence(&[first.1, second.1], 3);
    let Some(Err(ClientError::Exchange { address, error })) = reply else { panic!("{reply:?}") };
    assert!([first.1, second.1].contains(&address));
    assert!(matches!(error, ExchangeError::TimedOut { .. }), "{error}");
    assert!(in_sequence(&[], 3).0.is_none());
}

#[test]
fn new_connection_id_is_asked_for() {
    let ids = std::sync::atomic::AtomicU64::new(0);
    let tracker = Tracker::start("127.0.0.1", 4, move |request| {
        let transaction_id = request.transaction_id();
        let response = match request {
            Request::Connect { .. } => {
                let connection_id = ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Response::Connect { transaction_id, connection_id }
            }
            Request::Announce { connection_id: 0, .. } => {
                let message = "Connection ID missmatch.".to_owned();
                Response::Error { transaction_id, message }
            }
            _ => return honest(request),
        };
        vec![response.encode()]
    });
    let request = AnnounceRequest::new(hash(1), PeerId([2; 20]));
    let reply = client().announce(&tracker.url(""), &request).unwrap();
    assert_eq!(reply.peers.len(), 2);
    tracker.seen();
}
