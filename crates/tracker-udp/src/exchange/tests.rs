//! Dialogues on a virtual clock in seconds, such as the examples of BEP 15 ("Examples").

use bt_types::{AnnounceEvent, PeerId};

use super::*;
use crate::packet::Request;
use crate::tracker::{CONNECTION_LIFETIME, FIRST_TIMEOUT};

const TRACKER: &str = "192.0.2.1:6969";

fn address() -> SocketAddr {
    TRACKER.parse().unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn hash(byte: u8) -> InfoHashV1 {
    InfoHashV1([byte; 20])
}

fn announce_request() -> AnnounceRequest {
    AnnounceRequest::new(hash(1), PeerId([2; 20]))
}

/// After how many seconds the tracker answers a request; `None` for never.
type Answers = fn(request: &Request, now: u64) -> Option<u64>;

/// Exchanges with one tracker, which answers when `answers` says.
struct Dialogue {
    tracker: UdpTracker,
    exchanges: Vec<Exchange>,
    answers: Answers,
    in_flight: Vec<(Duration, Vec<u8>)>,
    log: Vec<String>,
}

impl Dialogue {
    fn new(answers: Answers) -> Self {
        let tracker = UdpTracker::new(address(), 1);
        Self { tracker, exchanges: vec![], answers, in_flight: vec![], log: vec![] }
    }

    fn announce(&mut self, now: u64, deadline: u64) {
        let (now, deadline) = (seconds(now), seconds(deadline));
        let request = announce_request();
        let exchange = Exchange::announce(&mut self.tracker, now, deadline, request, b"");
        self.exchanges.push(exchange);
    }

    fn scrape(&mut self, now: u64, deadline: u64) {
        let (now, deadline) = (seconds(now), seconds(deadline));
        let exchange = Exchange::scrape(&mut self.tracker, now, deadline, &[hash(1)]);
        self.exchanges.push(exchange.unwrap());
    }

    /// Delivers and sends everything that is due at `now`.
    fn drain(&mut self, now: Duration) {
        let due = |arrival: &mut (Duration, Vec<u8>)| arrival.0 <= now;
        for (_, bytes) in self.in_flight.extract_if(.., due).collect::<Vec<_>>() {
            let response = Response::decode(&bytes, self.tracker.family()).unwrap();
            self.log.push(format!("{} {} response", now.as_secs(), name(response.action())));
            for exchange in &mut self.exchanges {
                exchange.handle_datagram(&mut self.tracker, now, address(), &bytes);
            }
        }
        for exchange in &mut self.exchanges {
            if exchange.handle_timeout(now).is_some() {
                self.log.push(format!("{} timed out", now.as_secs()));
            }
            while let Some(datagram) = exchange.poll_transmit(&mut self.tracker, now) {
                let request = Request::decode(&datagram).unwrap();
                let (kind, answer) = tracker_answers(&request);
                self.log.push(format!("{} {kind} request", now.as_secs()));
                if let Some(delay) = (self.answers)(&request, now.as_secs()) {
                    self.in_flight.push((now + seconds(delay), answer.encode()));
                }
            }
        }
    }

    /// Goes from event to event until `end`, exclusive.
    fn run_until(&mut self, end: u64) {
        let mut now = Duration::ZERO;
        loop {
            let timeouts =
                self.exchanges.iter().filter_map(|each| each.poll_timeout(&self.tracker));
            let arrivals = self.in_flight.iter().map(|(at, _)| *at);
            let Some(next) = timeouts.chain(arrivals).min().filter(|at| *at < seconds(end)) else {
                return;
            };
            now = now.max(next);
            self.drain(now);
        }
    }
}

fn name(action: u32) -> &'static str {
    ["connect", "announce", "scrape", "error"][action as usize]
}

fn tracker_answers(request: &Request) -> (&'static str, Response) {
    let transaction_id = request.transaction_id();
    match request {
        Request::Connect { .. } => {
            ("connect", Response::Connect { transaction_id, connection_id: 77 })
        }
        Request::Announce { connection_id, .. } => {
            assert_eq!(*connection_id, 77);
            ("announce", announced(transaction_id, 1800, &["198.51.100.7:6881"]))
        }
        Request::Scrape { info_hashes, .. } => {
            let entry = ScrapeCounts { seeders: 1, completed: 2, leechers: 3 };
            let counts = vec![entry; info_hashes.len()];
            ("scrape", Response::Scrape { transaction_id, counts })
        }
    }
}

/// The response to an announce.
fn announced(transaction_id: u32, interval: u32, peers: &[&str]) -> Response {
    let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    Response::Announce { transaction_id, interval, leechers: 3, seeders: 5, peers }
}

#[test]
fn normal_announce() {
    let mut dialogue = Dialogue::new(|_, _| Some(1));
    dialogue.announce(0, 30);
    dialogue.run_until(100);
    let expected =
        ["0 connect request", "1 connect response", "1 announce request", "2 announce response"];
    assert_eq!(dialogue.log, expected);
    assert!(dialogue.exchanges[0].is_done());
}

#[test]
fn connect_times_out() {
    let mut dialogue = Dialogue::new(|_, _| None);
    dialogue.announce(0, 100_000);
    dialogue.run_until(12_000);
    // 15 * 2^n with n up to 8.
    let times = [0, 15, 45, 105, 225, 465, 945, 1905, 3825, 7665, 11_505];
    let expected: Vec<String> = times.iter().map(|at| format!("{at} connect request")).collect();
    assert_eq!(dialogue.log, expected);
}

#[test]
fn announce_times_out() {
    // We send the announce at 1, as soon as we have the connection id. BEP 15 sends it at 2, so its
    // later requests are one second later too.
    let mut dialogue = Dialogue::new(|request, now| {
        (now == 0 && matches!(request, Request::Connect { .. })).then_some(1)
    });
    dialogue.announce(0, 100_000);
    dialogue.run_until(300);
    let expected = [
        "0 connect request",
        "1 connect response",
        "1 announce request",
        "16 announce request",
        "46 announce request",
        "106 connect request",
        "226 connect request",
    ];
    assert_eq!(dialogue.log, expected);
}

#[test]
fn late_answer_counts_while_reconnecting() {
    let mut dialogue = Dialogue::new(|request, now| match request {
        Request::Connect { .. } => (now == 0).then_some(1),
        _ => (now == 46).then_some(70),
    });
    dialogue.announce(0, 100_000);
    dialogue.run_until(300);
    assert_eq!(dialogue.log.last().unwrap(), "116 announce response");
    assert!(dialogue.exchanges[0].is_done());
}

#[test]
fn multiple_requests() {
    let mut dialogue = Dialogue::new(|_, _| Some(1));
    for start in [0, 4, 59, 62] {
        dialogue.run_until(start);
        dialogue.announce(start, start + 30);
        if start == 62 {
            dialogue.scrape(start, start + 30);
            dialogue.scrape(start, start + 30);
            dialogue.announce(start, start + 30);
        }
        dialogue.drain(seconds(start));
    }
    dialogue.run_until(1000);
    let expected = [
        "0 connect request",
        "1 connect response",
        "1 announce request",
        "2 announce response",
        "4 announce request",
        "5 announce response",
        "59 announce request",
        "60 announce response",
        // The connection id is a minute old. Four exchanges share one connect request.
        "62 connect request",
        "63 connect response",
        "63 announce request",
        "63 scrape request",
        "63 scrape request",
        "63 announce request",
        "64 announce response",
        "64 scrape response",
        "64 scrape response",
        "64 announce response",
    ];
    assert_eq!(dialogue.log, expected);
    assert!(dialogue.exchanges.iter().all(Exchange::is_done));
}

#[test]
fn connection_id_lives_one_minute() {
    let mut dialogue = Dialogue::new(|_, _| Some(0));
    dialogue.announce(0, 30);
    dialogue.run_until(10);
    let end = CONNECTION_LIFETIME;
    assert!(dialogue.tracker.is_connected(end - Duration::from_nanos(1)));
    assert!(!dialogue.tracker.is_connected(end));
}

#[test]
fn deadline_ends_exchange() {
    let mut dialogue = Dialogue::new(|_, _| None);
    dialogue.announce(0, 30);
    dialogue.run_until(1000);
    assert_eq!(dialogue.log, ["0 connect request", "15 connect request", "30 timed out"]);
    let exchange = &mut dialogue.exchanges[0];
    assert_eq!(exchange.poll_timeout(&dialogue.tracker), None);
    assert_eq!(exchange.poll_transmit(&mut dialogue.tracker, seconds(45)), None);
}

#[test]
fn timeout_reports_wait_and_datagrams() {
    let mut tracker = UdpTracker::new(address(), 1);
    let mut exchange =
        Exchange::announce(&mut tracker, seconds(5), seconds(20), announce_request(), b"");
    assert!(exchange.poll_transmit(&mut tracker, seconds(5)).is_some());
    assert_eq!(exchange.handle_timeout(seconds(19)), None);
    let error = exchange.handle_timeout(seconds(20)).unwrap();
    assert_eq!(error, ExchangeError::TimedOut { waited: seconds(15), sent: 1 });
    assert_eq!(error.to_string(), "no answer within 15 s (1 datagram sent)");
    assert_eq!(exchange.handle_timeout(seconds(21)), None);
}

#[test]
fn old_back_off_delays_no_new_exchange() {
    let mut dialogue = Dialogue::new(|_, _| None);
    dialogue.announce(0, 30);
    dialogue.run_until(20);
    // 5 s after the last request, the new exchange waits until its back-off of 30 s is over.
    dialogue.announce(20, 1000);
    dialogue.drain(seconds(20));
    dialogue.run_until(46);
    // Long after the last request, the new exchange sends at once. The back-off continues.
    dialogue.announce(90, 1000);
    dialogue.drain(seconds(90));
    dialogue.run_until(200);
    let expected = [
        "0 connect request",
        "15 connect request",
        "30 timed out",
        "45 connect request",
        "90 connect request",
        "150 connect request",
    ];
    assert_eq!(dialogue.log, expected);
}

#[test]
fn waiting_exchange_takes_over_connect() {
    let mut dialogue = Dialogue::new(|_, now| (now >= 15).then_some(1));
    dialogue.announce(0, 10);
    dialogue.scrape(0, 60);
    dialogue.run_until(60);
    let expected = [
        "0 connect request",
        "10 timed out",
        "15 connect request",
        "16 connect response",
        "16 scrape request",
        "17 scrape response",
    ];
    assert_eq!(dialogue.log, expected);
}

/// An exchange with a connected tracker, whose action was sent at 0.
struct Asked {
    tracker: UdpTracker,
    exchange: Exchange,
}

impl Asked {
    fn new(make: fn(&mut UdpTracker) -> Exchange) -> Self {
        let mut tracker = UdpTracker::new(address(), 1);
        let mut exchange = make(&mut tracker);
        let connect = sent(&mut exchange, &mut tracker, Duration::ZERO);
        let mut asked = Self { tracker, exchange };
        let result = asked.handle(address(), &tracker_answers(&connect).1.encode());
        assert!(result.is_none() && asked.tracker.connecting().is_none());
        sent(&mut asked.exchange, &mut asked.tracker, Duration::ZERO);
        asked
    }

    fn handle(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Result<Reply, ExchangeError>> {
        self.exchange.handle_datagram(&mut self.tracker, Duration::ZERO, from, bytes)
    }

    /// Returns the reply to an announce that ends the exchange.
    #[track_caller]
    fn announce_reply(&mut self, interval: u32) -> AnnounceReply {
        let response = announced(self.exchange.transaction_id(), interval, &["198.51.100.7:6881"]);
        match self.handle(address(), &response.encode()) {
            Some(Ok(Reply::Announce(reply))) => reply,
            other => panic!("expected an announce reply, got {other:?}"),
        }
    }
}

fn announce(tracker: &mut UdpTracker) -> Exchange {
    Exchange::announce(tracker, Duration::ZERO, seconds(30), announce_request(), b"")
}

fn scrape(tracker: &mut UdpTracker) -> Exchange {
    let hashes = [hash(1), hash(2)];
    Exchange::scrape(tracker, Duration::ZERO, seconds(30), &hashes).unwrap()
}

#[test]
fn replies() {
    let mut asked = Asked::new(announce);
    let reply = asked.announce_reply(1);
    assert_eq!((reply.interval, reply.leechers, reply.seeders), (1, Some(3), Some(5)));
    assert_eq!(reply.peers[0].to_string(), "198.51.100.7:6881");
    let again = announced(asked.exchange.transaction_id(), 1, &[]).encode();
    assert_eq!(asked.handle(address(), &again), None);

    let mut asked = Asked::new(scrape);
    let transaction_id = asked.exchange.transaction_id();
    let entry = |seeders| ScrapeCounts { seeders, completed: 8, leechers: 9 };
    let bytes = Response::Scrape { transaction_id, counts: vec![entry(1), entry(2)] }.encode();
    let expected = [(hash(1), 1), (hash(2), 2)].map(|(info_hash, seeders)| ScrapeEntry {
        info_hash,
        seeders,
        leechers: 9,
        completed: 8,
    });
    let reply = asked.handle(address(), &bytes);
    assert_eq!(reply, Some(Ok(Reply::Scrape(expected.to_vec()))));
}

#[test]
fn odd_interval_is_half_an_hour() {
    for (interval, seconds) in [(0, 1800), (1, 1), (0x7fff_ffff, 0x7fff_ffff), (u32::MAX, 1800)] {
        let reply = Asked::new(announce).announce_reply(interval);
        assert_eq!(reply.interval, seconds, "{interval}");
    }
}

#[test]
fn ipv6_announce_has_no_ip() {
    let v6: SocketAddr = "[2001:db8::1]:6969".parse().unwrap();
    let mut tracker = UdpTracker::new(v6, 1);
    let request = AnnounceRequest { ip: Some([10, 0, 0, 1].into()), ..announce_request() };
    let mut exchange =
        Exchange::announce(&mut tracker, Duration::ZERO, seconds(30), request, b"/x");
    let connect = exchange.poll_transmit(&mut tracker, Duration::ZERO).unwrap();
    let (_, answer) = tracker_answers(&Request::decode(&connect).unwrap());
    assert!(exchange.handle_datagram(&mut tracker, Duration::ZERO, v6, &answer.encode()).is_none());
    let datagram = exchange.poll_transmit(&mut tracker, Duration::ZERO).unwrap();
    let Ok(Request::Announce { announce, url_data, .. }) = Request::decode(&datagram) else {
        panic!("expected an announce request");
    };
    assert_eq!((announce.ip, &url_data[..]), (None, &b"/x"[..]));
    assert_eq!(announce.event, AnnounceEvent::None);
    let response = announced(exchange.transaction_id(), 1, &["[2001:db8::7]:6881"]);
    let reply = exchange.handle_datagram(&mut tracker, Duration::ZERO, v6, &response.encode());
    let Some(Ok(Reply::Announce(reply))) = reply else { panic!("expected an announce reply") };
    assert_eq!(reply.peers[0].to_string(), "[2001:db8::7]:6881");
}

#[test]
fn unrelated_datagrams_are_ignored() {
    let mut asked = Asked::new(announce);
    let transaction_id = asked.exchange.transaction_id();
    let [right, wrong] = [0, 1].map(|bit| announced(transaction_id ^ bit, 1, &[]).encode());
    let socket_address = |text: &str| text.parse::<SocketAddr>().unwrap();
    for (sender, bytes) in [
        (socket_address("192.0.2.2:6969"), &right[..]),
        (socket_address("192.0.2.1:6968"), &right[..]),
        (address(), &wrong[..]),
        (address(), &right[..7]),
        (address(), &[][..]),
    ] {
        assert_eq!(asked.handle(sender, bytes), None, "{sender} {bytes:?}");
    }
    // The tracker's address on a dual-stack socket.
    let mapped = socket_address("[::ffff:192.0.2.1]:6969");
    assert!(asked.handle(mapped, &right).is_some());
}

#[test]
fn early_answer_is_ignored() {
    let mut tracker = UdpTracker::new(address(), 1);
    let mut exchange = announce(&mut tracker);
    let transaction_id = exchange.transaction_id();
    let bytes = Response::Error { transaction_id, message: "no".to_owned() }.encode();
    assert_eq!(exchange.handle_datagram(&mut tracker, Duration::ZERO, address(), &bytes), None);
}

#[track_caller]
fn check_failure(
    make: fn(&mut UdpTracker) -> Exchange,
    response: impl Fn(u32) -> Vec<u8>,
    error: &ExchangeError,
) {
    let mut asked = Asked::new(make);
    let bytes = response(asked.exchange.transaction_id());
    assert_eq!(asked.handle(address(), &bytes).as_ref(), Some(&Err(error.clone())));
    assert!(asked.exchange.is_done());
}

#[test]
fn bad_answers() {
    let message = "unregistered torrent".to_owned();
    let refused = ExchangeError::Refused { message: message.clone() };
    let refusal =
        |transaction_id| Response::Error { transaction_id, message: message.clone() }.encode();
    check_failure(announce, refusal, &refused);
    check_failure(scrape, refusal, &refused);

    let connect = |transaction_id| Response::Connect { transaction_id, connection_id: 1 }.encode();
    check_failure(announce, connect, &ExchangeError::Action { expected: "announce", got: 0 });
    let nothing = |transaction_id| Response::Scrape { transaction_id, counts: vec![] }.encode();
    check_failure(announce, nothing, &ExchangeError::Action { expected: "announce", got: 2 });
    check_failure(scrape, nothing, &ExchangeError::Entries { expected: 2, got: 0 });

    let short = |id: u32| [&1u32.to_be_bytes()[..], &id.to_be_bytes(), &[0; 11]].concat();
    let error = PacketError::Short { what: "announce response", expected: 20, got: 19 };
    check_failure(announce, short, &error.into());
    let unknown = |id: u32| [&9u32.to_be_bytes()[..], &id.to_be_bytes()].concat();
    check_failure(announce, unknown, &PacketError::Action { got: 9 }.into());
}

#[test]
fn refused_connect_ends_one_exchange() {
    let mut tracker = UdpTracker::new(address(), 1);
    let (mut first, mut second) = (announce(&mut tracker), scrape(&mut tracker));
    assert!(first.poll_transmit(&mut tracker, Duration::ZERO).is_some());
    assert_eq!(second.poll_transmit(&mut tracker, Duration::ZERO), None);
    let transaction_id = tracker.connecting().unwrap();
    let bytes = Response::Error { transaction_id, message: "banned".to_owned() }.encode();
    let result = offer(&mut first, &mut tracker, &bytes);
    assert_eq!(result, Some(Err(ExchangeError::Refused { message: "banned".to_owned() })));
    assert_eq!(offer(&mut second, &mut tracker, &bytes), None);
    assert!(second.poll_timeout(&tracker).unwrap() <= seconds(1));
    assert!(second.poll_transmit(&mut tracker, seconds(1)).is_some());
    assert_eq!(second.poll_timeout(&tracker), Some(seconds(1) + FIRST_TIMEOUT));
}

/// Returns the next request of the exchange.
fn sent(exchange: &mut Exchange, tracker: &mut UdpTracker, now: Duration) -> Request {
    let datagram = exchange.poll_transmit(tracker, now).expect("something to send");
    Request::decode(&datagram).unwrap()
}

/// Delivers a datagram of the tracker at 1.
fn offer(
    exchange: &mut Exchange,
    tracker: &mut UdpTracker,
    bytes: &[u8],
) -> Option<Result<Reply, ExchangeError>> {
    exchange.handle_datagram(tracker, seconds(1), address(), bytes)
}

/// Answers the exchange's connect request with `connection_id`.
fn connect(exchange: &mut Exchange, tracker: &mut UdpTracker, connection_id: u64) {
    assert!(matches!(sent(exchange, tracker, seconds(1)), Request::Connect { .. }));
    let transaction_id = tracker.connecting().unwrap();
    let bytes = Response::Connect { transaction_id, connection_id }.encode();
    assert_eq!(offer(exchange, tracker, &bytes), None);
}

#[test]
fn mismatch_asks_for_new_id_once() {
    for message in [
        "Connection ID missmatch.",
        "connection id mismatch\n",
        "Invalid connection_id",
        "bad connectionID",
    ] {
        let mut tracker = UdpTracker::new(address(), 1);
        let mut exchange = announce(&mut tracker);
        connect(&mut exchange, &mut tracker, 7);
        let asked = sent(&mut exchange, &mut tracker, seconds(1));
        assert!(matches!(asked, Request::Announce { connection_id: 7, .. }));
        let refusal =
            |transaction_id| Response::Error { transaction_id, message: message.into() }.encode();
        let bytes = refusal(asked.transaction_id());
        assert_eq!(offer(&mut exchange, &mut tracker, &bytes), None, "{message}");
        assert_eq!(offer(&mut exchange, &mut tracker, &bytes), None, "the same error once more");
        connect(&mut exchange, &mut tracker, 8);
        let asked = sent(&mut exchange, &mut tracker, seconds(1));
        assert!(matches!(asked, Request::Announce { connection_id: 8, .. }));
        assert_eq!(offer(&mut exchange, &mut tracker, &bytes), None, "and again");
        let bytes = refusal(asked.transaction_id());
        let result = offer(&mut exchange, &mut tracker, &bytes);
        assert!(matches!(result, Some(Err(ExchangeError::Refused { .. }))), "{result:?}");
    }
}

#[test]
fn mismatch_keeps_newer_connection_id() {
    let mut tracker = UdpTracker::new(address(), 1);
    let (mut first, mut second) = (announce(&mut tracker), announce(&mut tracker));
    connect(&mut first, &mut tracker, 7);
    let asked = [&mut first, &mut second].map(|each| sent(each, &mut tracker, seconds(1)));
    let errors = asked.map(|request| {
        let transaction_id = request.transaction_id();
        Response::Error { transaction_id, message: "connection id mismatch".into() }.encode()
    });
    assert_eq!(offer(&mut first, &mut tracker, &errors[0]), None);
    connect(&mut first, &mut tracker, 8);
    assert_eq!(offer(&mut second, &mut tracker, &errors[1]), None);
    let asked = sent(&mut second, &mut tracker, seconds(1));
    assert!(matches!(asked, Request::Announce { connection_id: 8, .. }), "{asked:?}");
}

#[test]
fn scrape_has_1_to_74_torrents() {
    let mut tracker = UdpTracker::new(address(), 1);
    let mut count = |got: usize| {
        Exchange::scrape(&mut tracker, Duration::ZERO, seconds(1), &vec![hash(1); got]).map(drop)
    };
    assert_eq!(count(0), Err(ScrapeCountError { got: 0 }));
    assert_eq!(count(1), Ok(()));
    assert_eq!(count(MAX_SCRAPE), Ok(()));
    assert_eq!(count(MAX_SCRAPE + 1), Err(ScrapeCountError { got: MAX_SCRAPE + 1 }));
}

#[test]
fn transaction_ids_differ() {
    let mut tracker = UdpTracker::new(address(), 1);
    let ids: Vec<u32> = (0..100).map(|_| announce(&mut tracker).transaction_id()).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    assert_ne!(announce(&mut UdpTracker::new(address(), 2)).transaction_id(), ids[0]);
}
