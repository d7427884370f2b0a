//! The fuzz target: any bytes, and panics if the crate breaks a promise.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lsd::{Announce, Group, InfoHashV1, LSD_HASHES, LSD_LENGTH, Lsd, Network};
use testkit::Choices;

/// Reads `data` as an announce, and drives a client with the calls and datagrams that it chooses.
pub(crate) fn lsd(data: &[u8]) {
    Group::ALL.into_iter().for_each(|group| check_announce(group, data));
    drive(&mut Choices::new(data));
}

/// A decoded announce is limited and survives the round trip.
fn check_announce(group: Group, data: &[u8]) {
    let Ok(announce) = Announce::decode(group, data) else { return };
    assert!(data.len() <= LSD_LENGTH && announce.port != 0);
    assert!((1..=LSD_HASHES).contains(&announce.info_hashes.len()));
    let bytes = announce.encode(group);
    // The canonical form may be longer than the one that was read.
    if bytes.len() <= LSD_LENGTH {
        assert_eq!(Announce::decode(group, &bytes), Ok(announce));
    }
}

/// Announces go out when they are due, are read by a second client, and peers are reported of the
/// torrents that both announce.
fn drive(choices: &mut Choices<'_>) {
    let (mut ours, mut theirs) = (Lsd::new(1, 1), Lsd::new(2, 2));
    let v4 = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 6771));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 6771));
    let networks = || [v4, v6].map(|address| Network::new(address.ip(), 24));
    ours.set_networks(networks());
    theirs.set_networks(networks());
    let mut announced = [false; 8];
    let mut now = Duration::ZERO;
    while !choices.is_empty() {
        let op = choices.byte();
        let number = choices.below(announced.len());
        let hash = InfoHashV1([number as u8; 20]);
        match op % 5 {
            0 => {
                ours.announce(now, hash);
                announced[number] = true;
            }
            1 => {
                ours.stop(hash);
                announced[number] = false;
            }
            2 => theirs.announce(now, hash),
            3 => now += Duration::from_secs(u64::from(choices.byte())),
            _ => {
                let source = if choices.coin() { v4 } else { v6 };
                let length = usize::from(choices.byte());
                ours.handle_datagram(now, source, choices.bytes(length));
            }
        }
        while let Some(peer) = ours.poll_event() {
            assert!(announced[usize::from(peer.info_hash.0[0])]);
        }
        while let Some(transmit) = ours.poll_transmit(now) {
            assert!(transmit.bytes.len() <= LSD_LENGTH);
            let read = Announce::decode(transmit.group, &transmit.bytes).expect("an announce");
            assert!(read.info_hashes.iter().all(|hash| announced[usize::from(hash.0[0])]));
            ours.handle_datagram(now, v4, &transmit.bytes);
            assert_eq!(ours.poll_event(), None, "our own announce");
        }
        while let Some(transmit) = theirs.poll_transmit(now) {
            let source = if transmit.group == Group::V4 { v4 } else { v6 };
            ours.handle_datagram(now, source, &transmit.bytes);
        }
        for lsd in [&ours, &theirs] {
            assert!(lsd.poll_timeout().is_none_or(|at| at > now), "something is due");
        }
        while let Some(peer) = ours.poll_event() {
            assert!(announced[usize::from(peer.info_hash.0[0])]);
            assert!([v4.ip(), v6.ip()].contains(&peer.address.ip()));
            assert_eq!(peer.address.port(), 2);
        }
    }
}
