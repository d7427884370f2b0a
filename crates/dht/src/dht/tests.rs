use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::message::MAX_TOKEN_LENGTH;

fn v4(number: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x2d00_0000 + number * 0x101), 6881).into()
}

fn v6(number: u32) -> SocketAddr {
    (Ipv6Addr::from_bits((0x2a00 << 112) + (u128::from(number) << 64)), 6881).into()
}

fn hash(number: u32) -> InfoHashV1 {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    InfoHashV1(hash)
}

/// Fills a lookup with as much as it can hold.
fn fill(lookup: &mut Lookup, rng: &mut ChaCha8Rng) {
    for (walk, at) in lookup.walks.iter_mut().zip([v4, v6]) {
        let Some(walk) = walk else { continue };
        for number in 0..2 * crate::MAX_CANDIDATES as u32 {
            let id = NodeId::random(rng);
            if walk.add((id, at(number)), None) {
                walk.handle_answered((id, at(number)), id, Some(&[7; MAX_TOKEN_LENGTH]));
            }
        }
    }
    lookup.take_new(1, usize::MAX, (0..3000).map(v6));
}

/// The limits of all parts together keep the promise of the whole.
#[test]
fn full_node_fits_its_memory() {
    let mut dht = Dht::new(&Config::new([1; 32]));
    let now = Duration::from_secs(1);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Spread over as many torrents as possible, all IPv6, whose entries are longer.
    for number in 0..crate::MAX_PEERS as u32 {
        let torrent = hash(number % crate::MAX_TORRENTS as u32);
        dht.peers.insert(now, torrent, v6(number), false);
    }
    assert_eq!(dht.peers.torrent_count(), crate::MAX_TORRENTS);
    #[cfg(feature = "items")]
    let own = dht.own_ids();
    #[cfg(feature = "items")]
    for number in 0..crate::MAX_ITEMS as u32 {
        let value = format!("996:{number:0996}").into_bytes();
        let item = crate::Item::immutable(value).expect("an item");
        let put = dht.items.put(now, own, v6(number), item, None);
        assert_eq!(put, Ok(()));
    }
    for number in 0..10_000 {
        dht.budget.record_query(now, v6(number), true);
        dht.budget.record_mismatch(now, v6(number), false);
        for (family, address) in [(Family::V4, v4(number)), (Family::V6, v6(number))] {
            let id = NodeId::random(&mut rng);
            let overlay = dht.overlay_mut(family).expect("both families");
            overlay.table.handle_answer(now, id, address, Duration::from_millis(90));
            overlay.add_reported((NodeId::random(&mut rng), address));
            let origin = overlay::Origin::Caller;
            overlay.add_hint(overlay::Hint { origin, address });
            overlay.add_pending_check(now, NodeId::random(&mut rng), address);
        }
    }
    for number in 0..2 * MAX_QUEUED_LOOKUPS as u32 {
        let announce = Announce::Port { port: 7000, seed: false };
        // The longest of those that run and of those that wait.
        let kind = match number {
            0..16 => LookupKind::Peers { hash: hash(number), announce },
            _ => LookupKind::Scrape { hash: hash(number) },
        };
        #[cfg(feature = "items")]
        if kind == (LookupKind::Scrape { hash: hash(number) }) && number < 1000 {
            let value = format!("996:{number:0996}").into_bytes();
            dht.put(now, crate::Item::immutable(value).expect("an item"), None);
            dht.events.clear();
        }
        dht.start(now, kind, hash(number).into());
        dht.events.clear();
    }
    #[cfg(feature = "items")]
    {
        let items = dht.queue.iter().filter(|(_, lookup)| lookup.kind.is_item()).count();
        assert_eq!(items, MAX_QUEUED_ITEMS);
    }
    dht.lookups.values_mut().for_each(|lookup| fill(lookup, &mut rng));
    let longest = dht.lookups.values().map(Lookup::memory).max();
    assert!(longest.is_some_and(|bytes| bytes <= 64 * 1024), "{longest:?} bytes of a lookup");
    for number in 0..crate::MAX_CALLS as u32 {
        dht.calls.start(now, v6(number), None, Purpose::Check, &mut rng);
    }
    let status = dht.status();
    assert_eq!((status.lookups, status.queued), (MAX_LOOKUPS, MAX_QUEUED_LOOKUPS));
    assert_eq!(status.calls, crate::MAX_CALLS);
    let outbox = 2 * 64 * 1024;
    let memory = status.memory + outbox;
    assert!(memory <= DHT_MEMORY && memory > DHT_MEMORY / 4, "{memory}");
}
