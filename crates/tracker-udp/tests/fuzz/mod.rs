//! The fuzz targets: each takes any bytes and panics if the crate breaks a promise.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceRequest, InfoHashV1, PeerId};
use testkit::Choices;
use tracker_udp::{
    Exchange, Family, MAX_MESSAGE_LENGTH, MAX_PEERS, MAX_SCRAPE, MAX_URL_DATA_LENGTH, Reply,
    Request, Response, UdpTracker, parse_url,
};

/// Reads `data` as a packet of either direction.
pub(crate) fn packet(data: &[u8]) {
    check_request(data);
    check_response(data, Family::V4);
    check_response(data, Family::V6);
}

/// Reads `data` as the URL of a tracker.
pub(crate) fn url(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data)
        && let Ok(url) = parse_url(text)
    {
        assert!(url.port != 0 && url.url_data.len() <= MAX_URL_DATA_LENGTH);
        assert!(parse_url(&url.to_string()).is_ok(), "what is shown is a URL again");
    }
}

/// A decoded request encodes to bytes that decode to the same request.
fn check_request(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        let Ok(again) = Request::decode(&request.encode()) else { panic!("{request:?}") };
        assert_eq!(again.transaction_id(), request.transaction_id());
        assert_eq!(Request::decode(&again.encode()).as_ref(), Ok(&again));
    }
}

/// A decoded response encodes to the same bytes, without those that the decoder ignored.
fn check_response(data: &[u8], family: Family) {
    match Response::decode(data, family) {
        Ok(Response::Error { message, .. }) => {
            assert!(message.len() <= MAX_MESSAGE_LENGTH);
            assert!(!message.contains(char::is_control));
        }
        Ok(response) => {
            assert!(data.starts_with(&response.encode()));
            match response {
                Response::Announce { peers, .. } => assert!(peers.len() <= MAX_PEERS),
                Response::Scrape { counts, .. } => assert!(counts.len() <= MAX_SCRAPE),
                Response::Connect { .. } | Response::Error { .. } => {}
            }
        }
        Err(_) => {}
    }
}

/// Drives an announce and a scrape at one tracker with the datagrams, times and senders that `data`
/// chooses. Each exchange ends once: with a reply of its own kind, with an error, or at its
/// deadline. Until then it names a time in the future at which it wants to be polled.
pub(crate) fn exchange(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut driver = Driver::new(&mut choices);
    driver.drain();
    while !choices.is_empty() {
        driver.step(&mut choices);
        driver.drain();
    }
    driver.end();
}

struct Driver {
    tracker: UdpTracker,
    exchanges: [Exchange; 2],
    now: Duration,
    deadline: Duration,
}

impl Driver {
    fn new(choices: &mut Choices<'_>) -> Self {
        let address = if choices.coin() {
            SocketAddr::from(([192, 0, 2, 1], 6969))
        } else {
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 6969))
        };
        let mut tracker = UdpTracker::new(address, 0);
        let deadline = Duration::from_secs(u64::from(choices.byte()) << choices.below(8));
        let (now, url_data) = (Duration::ZERO, choices.bytes(4));
        let request = AnnounceRequest::new(InfoHashV1([1; 20]), PeerId([2; 20]));
        let announce = Exchange::announce(&mut tracker, now, deadline, request, url_data);
        let hashes = [InfoHashV1([1; 20]), InfoHashV1([3; 20])];
        let Ok(scrape) = Exchange::scrape(&mut tracker, now, deadline, &hashes) else {
            unreachable!("two are not too many")
        };
        Self { tracker, exchanges: [announce, scrape], now, deadline }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() {
            op @ 0..0xc0 => self.answer(op, choices),
            0xc0..0xe0 => self.now += Duration::from_secs(u64::from(choices.byte())),
            // To the next timeout.
            _ => {
                let due = self.exchanges.iter().filter_map(|it| it.poll_timeout(&self.tracker));
                self.now = due.min().unwrap_or(self.now).max(self.now);
            }
        }
    }

    /// Delivers a datagram that begins like an answer, with a right or wrong transaction id.
    fn answer(&mut self, op: u8, choices: &mut Choices<'_>) {
        let action = u32::from(op % 8).to_be_bytes();
        let id = match op / 8 % 4 {
            0 => self.tracker.connecting().unwrap_or(0),
            1 => self.exchanges[0].transaction_id(),
            2 => self.exchanges[1].transaction_id(),
            _ => choices.number(),
        };
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 6968));
        let from = if op < 0xa0 { self.tracker.address() } else { elsewhere };
        let length = usize::from(choices.byte());
        let rest = match (op % 8, length) {
            (3, 0) => b"connection id mismatch",
            _ => choices.bytes(length),
        };
        let bytes = [&action, &id.to_be_bytes(), rest].concat();
        let bytes = if op % 8 == 7 { &bytes[..usize::from(op) % bytes.len()] } else { &bytes };
        for (number, exchange) in self.exchanges.iter_mut().enumerate() {
            let was_done = exchange.is_done();
            let connecting = self.tracker.connecting();
            let result = exchange.handle_datagram(&mut self.tracker, self.now, from, bytes);
            assert!(result.is_none() || !was_done, "{result:?}");
            if from == elsewhere {
                assert_eq!((&result, self.tracker.connecting()), (&None, connecting));
            }
            assert_eq!(result.is_some(), exchange.is_done() && !was_done);
            match result {
                Some(Ok(Reply::Announce(reply))) => {
                    assert!(number == 0 && reply.peers.len() <= MAX_PEERS);
                }
                Some(Ok(Reply::Scrape(entries))) => assert!(number == 1 && entries.len() == 2),
                Some(Err(_)) | None => {}
            }
        }
    }

    fn drain(&mut self) {
        for exchange in &mut self.exchanges {
            let ended = exchange.handle_timeout(self.now);
            assert!(ended.is_none() || self.now >= self.deadline);
            let mut sent = 0;
            while let Some(datagram) = exchange.poll_transmit(&mut self.tracker, self.now) {
                assert!(!exchange.is_done() && Request::decode(&datagram).is_ok());
                sent += 1;
                assert!(sent <= 2, "a connect request and an action at most");
            }
        }
        for exchange in &self.exchanges {
            let due = exchange.poll_timeout(&self.tracker);
            assert_eq!(exchange.is_done(), due.is_none());
            assert!(due.is_none_or(|due| due > self.now), "the timeout is in the past");
        }
    }

    fn end(&mut self) {
        self.now = self.now.max(self.deadline);
        self.drain();
        assert!(self.exchanges.iter().all(Exchange::is_done));
    }
}
