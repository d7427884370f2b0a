//! Deadlines on a virtual clock.

use std::time::Duration;

use peer_wire::{
    Connection, Expired, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL, Message, Received,
    Reserved,
};

use crate::util::{NOW, handshake, open, receive, sent, wire};

const A_MOMENT: Duration = Duration::from_millis(1);

#[test]
fn late_handshake_closes_connection() {
    for mut connection in
        [Connection::incoming(NOW), Connection::outgoing(NOW, handshake(1, Reserved::OURS), None)]
    {
        let deadline = NOW + HANDSHAKE_TIMEOUT;
        assert_eq!(connection.poll_timeout(), Some(deadline));
        let _ = receive(&mut connection, &handshake(2, Reserved::OURS).encode()[..67]);
        assert_eq!(connection.poll_timeout(), Some(deadline), "bytes do not extend the deadline");
        assert_eq!(connection.handle_timeout(deadline - A_MOMENT), None);
        assert_eq!(connection.handle_timeout(deadline), Some(Expired::Handshake));
        assert!(connection.is_closed() && connection.poll_timeout().is_none());
        assert_eq!(connection.handle_timeout(deadline), None);
    }
}

#[test]
fn late_accept_closes_connection() {
    let mut connection = Connection::incoming(NOW);
    let _ = receive(&mut connection, &handshake(2, Reserved::OURS).encode());
    assert_eq!(connection.handle_timeout(NOW + HANDSHAKE_TIMEOUT), Some(Expired::Handshake));
    connection.accept(handshake(1, Reserved::OURS));
    assert!(connection.poll_transmit().is_none() && connection.is_closed());
}

#[test]
fn silent_peer_is_disconnected() {
    let mut connection = open(Reserved::OURS);
    let later = NOW + Duration::from_secs(100);
    let mut input = &wire(Message::KeepAlive)[..];
    assert_eq!(connection.receive(later, &mut input), Some(Received::KeepAlive));
    let deadline = later + IDLE_TIMEOUT;
    assert_eq!(connection.handle_timeout(deadline - A_MOMENT), None);
    assert_eq!(connection.handle_timeout(deadline), Some(Expired::Idle));
}

#[test]
fn keep_alive_follows_silence() {
    let mut connection = open(Reserved::OURS);
    let deadline = NOW + KEEP_ALIVE_INTERVAL;
    assert_eq!(connection.poll_timeout(), Some(deadline));
    assert_eq!(connection.handle_timeout(deadline - A_MOMENT), None);
    assert!(connection.poll_transmit().is_none());
    assert_eq!(connection.handle_timeout(deadline), None);
    assert_eq!(sent(&mut connection), wire(Message::KeepAlive));
}

#[test]
fn any_message_delays_keep_alive() {
    let mut connection = open(Reserved::OURS);
    let later = NOW + KEEP_ALIVE_INTERVAL / 2;
    assert_eq!(connection.handle_timeout(later), None);
    connection.interested();
    let _ = sent(&mut connection);
    let _ = connection.receive(later, &mut &wire(Message::KeepAlive)[..]);
    assert_eq!(connection.poll_timeout(), Some(later + KEEP_ALIVE_INTERVAL));
}

#[test]
fn at_most_one_keep_alive_is_queued() {
    let mut connection = open(Reserved::OURS);
    connection.interested();
    let deadline = connection.poll_timeout().unwrap();
    assert_eq!(connection.handle_timeout(deadline), None);
    assert!(connection.poll_timeout() > Some(deadline));
    assert_eq!(sent(&mut connection), wire(Message::Interested));
}
