//! What must hold for any bytes at all. Run by the fuzzer, and by ordinary tests.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceRequest, InfoHashV1, PeerId};

use crate::exchange::{Exchange, Reply};
use crate::packet::{Family, MAX_MESSAGE_LENGTH, MAX_PEERS, MAX_SCRAPE, Request, Response};
use crate::tracker::UdpTracker;
use crate::url::{MAX_URL_DATA_LENGTH, parse_url};

/// Takes `data` for a packet of either direction, for a tracker's answers to an exchange and for a
/// URL, and asserts what the crate promises about the outcome.
///
/// # Panics
/// If a promise is broken.
pub fn fuzz(data: &[u8]) {
    check_request(data);
    check_response(data, Family::V4);
    check_response(data, Family::V6);
    check_exchange(data, "192.0.2.1:6969");
    check_exchange(data, "[2001:db8::1]:6969");
    if let Ok(url) =
        str::from_utf8(data).map_err(drop).and_then(|text| parse_url(text).map_err(drop))
    {
        assert!(url.port != 0 && url.url_data.len() <= MAX_URL_DATA_LENGTH);
        assert!(parse_url(&url.to_string()).is_ok(), "what is shown is a URL again");
    }
}

/// What was understood is written in a form that is understood the same way.
fn check_request(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        let Ok(again) = Request::decode(&request.encode()) else { panic!("{request:?}") };
        assert_eq!(again.transaction_id(), request.transaction_id());
        assert_eq!(Request::decode(&again.encode()).as_ref(), Ok(&again));
    }
}

/// What was understood is written the same way, up to what was ignored.
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
                _ => {}
            }
        }
        Err(_) => {}
    }
}

/// The first byte of each 100 tells what a stretch of `data` is answered to: with the right
/// transaction id or not, and how many seconds later. The exchange ends by its deadline.
fn check_exchange(data: &[u8], address: &str) {
    let Ok(address) = address.parse::<SocketAddr>() else { return };
    let mut tracker = UdpTracker::new(address, 0);
    let (mut now, deadline) = (Duration::ZERO, Duration::from_secs(300));
    let request = AnnounceRequest::new(InfoHashV1([1; 20]), PeerId([2; 20]));
    let mut exchange = Exchange::announce(&mut tracker, now, deadline, request, data);
    for part in data.chunks(100) {
        let mut asked = None;
        while let Some(datagram) = exchange.poll_transmit(&mut tracker, now) {
            asked = Request::decode(&datagram).ok().map(|request| request.transaction_id());
        }
        let [how, answer @ ..] = part else { break };
        let mut answer = answer.to_vec();
        if let (true, Some(id), Some(field)) = (how & 1 == 0, asked, answer.get_mut(4..8)) {
            field.copy_from_slice(&id.to_be_bytes());
        }
        now += Duration::from_secs(u64::from(how >> 1));
        match exchange.handle_datagram(&mut tracker, now, address, &answer) {
            Some(Ok(Reply::Announce(reply))) => assert!(reply.peers.len() <= MAX_PEERS),
            Some(Ok(Reply::Scrape(_))) => panic!("an announce is not answered by a scrape"),
            Some(Err(_)) | None => {}
        }
        assert_eq!(exchange.is_done(), exchange.poll_timeout(&tracker).is_none());
    }
    let _ = exchange.handle_timeout(deadline);
    assert!(exchange.is_done());
    assert_eq!(exchange.poll_transmit(&mut tracker, deadline), None);
}
