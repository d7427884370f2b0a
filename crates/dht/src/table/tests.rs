use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::bucket::{MAX_LONELY_FAILURES, MAX_NODE_FAILURES, REPLACEMENTS};
use super::*;

const OWN: NodeId = NodeId([0; 20]);

/// A table and a source of nodes, each in a /16 of its own.
struct Bench {
    table: Table,
    rng: ChaCha8Rng,
    next: u32,
}

impl Bench {
    fn new() -> Self {
        Self { table: Table::new(OWN), rng: ChaCha8Rng::seed_from_u64(1), next: 0 }
    }

    fn address(&mut self) -> SocketAddr {
        self.next += 1;
        let [.., a, b] = self.next.to_be_bytes();
        SocketAddr::from(([45 + a, b, 1, 1], 6881))
    }

    /// Adds a node that shares `bits` bits with us.
    fn add(&mut self, bits: u32) -> (NodeId, SocketAddr, Admission) {
        let id = OWN.random_sharing(bits, &mut self.rng);
        let address = self.address();
        (id, address, self.answer(id, address))
    }

    fn add_many(&mut self, bits: u32, count: u32) {
        for _ in 0..count {
            self.add(bits);
        }
    }

    fn answer(&mut self, id: NodeId, address: SocketAddr) -> Admission {
        self.answer_in(id, address, 90)
    }

    fn answer_in(&mut self, id: NodeId, address: SocketAddr, rtt: u64) -> Admission {
        self.table.handle_answer(Duration::ZERO, id, address, Duration::from_millis(rtt))
    }

    fn fail(&mut self, id: NodeId, address: SocketAddr) {
        self.table.handle_failure(Duration::ZERO, &id, address);
    }

    /// A full bucket for nodes that share four bits with us, behind full ones.
    fn full() -> Self {
        let mut bench = Self::new();
        for bits in 0..6 {
            bench.add_many(bits, 200);
        }
        bench
    }

    fn nodes_sharing(&self, bits: u32) -> Vec<(NodeId, SocketAddr)> {
        let shares = |node: &&Node| OWN.distance(&node.id).shared_bits() == bits;
        self.table.iter().filter(shares).map(|node| (node.id, node.address)).collect()
    }
}

#[test]
fn first_buckets_are_larger() {
    let bench = Bench::full();
    for (bits, expected) in [(0, 128), (1, 64), (2, 32), (3, 16), (4, 8)] {
        assert_eq!(bench.nodes_sharing(bits).len(), expected, "{bits} bits");
    }
    assert!(bench.table.memory() <= 64 * (bench.table.len() + REPLACEMENTS * 10) * 5 / 4);
}

#[test]
fn node_takes_at_most_64_bytes() {
    assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
}

#[test]
fn buckets_are_limited() {
    let mut bench = Bench::new();
    for bits in 0..159 {
        bench.add_many(bits, 20);
    }
    assert_eq!(bench.table.bucket_count(), MAX_BUCKETS);
    let deep: usize = (49..159).map(|bits| bench.nodes_sharing(bits).len()).sum();
    assert_eq!(deep, K, "the last bucket is full");
}

#[test]
fn closest_are_those_of_a_full_sort() {
    let mut bench = Bench::full();
    for _ in 0..500 {
        let bits = bench.rng.random_range(0..12);
        let target = OWN.random_sharing(bits, &mut bench.rng);
        let mut found = Closest::default();
        bench.table.closest(&target, |_| true, &mut found);
        let found: Vec<_> = found.iter().map(|node| node.id).collect();
        let mut all: Vec<_> = bench.table.iter().map(|node| node.id).collect();
        all.sort_by_key(|id| id.distance(&target));
        assert_eq!(found, all[..K]);
    }
}

#[test]
fn failing_nodes_are_not_given_to_others() {
    let mut bench = Bench::new();
    let (id, address, _) = bench.add(0);
    bench.add(0);
    bench.fail(id, address);
    let mut found = Closest::default();
    bench.table.closest(&id, |_| true, &mut found);
    assert_eq!(found.iter().count(), 2);
    let mut found = Closest::default();
    bench.table.closest(&id, Node::is_good, &mut found);
    assert_eq!(found.iter().count(), 1);
}

#[test]
fn one_node_per_address_and_network() {
    let mut bench = Bench::new();
    let (id, address, entry) = bench.add(0);
    assert_eq!(entry, Admission::Added);
    assert_eq!(bench.answer(id, address), Admission::Refreshed);
    let mut other = |bits, address: &str| {
        let id = OWN.random_sharing(bits, &mut bench.rng);
        bench.answer(id, address.parse().unwrap())
    };
    assert_eq!(other(0, "45.1.1.1:9"), Admission::Refused, "the same address, another port");
    assert_eq!(other(0, "45.1.1.2:6881"), Admission::Refused, "the same /24");
    assert_eq!(other(0, "45.1.2.2:6881"), Admission::Added);
    // Local addresses count by IP and port.
    assert_eq!(other(0, "127.0.0.1:1"), Admission::Added);
    assert_eq!(other(0, "127.0.0.1:2"), Admission::Added);
    assert_eq!(other(0, "10.0.0.2:2"), Admission::Added);
    assert_eq!(bench.table.len(), 5);
}

#[test]
fn network_counts_once_per_bucket() {
    let mut bench = Bench::full();
    let (_, address) = bench.nodes_sharing(0)[0];
    let mut neighbour = address;
    neighbour.set_ip(match address.ip() {
        std::net::IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() + 1).into(),
        v6 => v6,
    });
    let id = OWN.random_sharing(0, &mut bench.rng);
    assert_eq!(bench.answer(id, neighbour), Admission::Refused);
    let id = OWN.random_sharing(20, &mut bench.rng);
    assert_eq!(bench.answer(id, neighbour), Admission::Added, "another bucket");
}

#[test]
fn id_change_evicts_and_has_bucket_checked() {
    let mut bench = Bench::new();
    let (id, address, _) = bench.add(0);
    let (other, other_address, _) = bench.add(0);
    assert_eq!(bench.table.take_questionable(Duration::ZERO), None);
    let new = OWN.random_sharing(3, &mut bench.rng);
    assert_eq!(bench.answer(new, address), Admission::Added);
    assert!(!bench.table.contains(&id, address) && bench.table.contains(&new, address));
    assert_eq!(bench.table.take_questionable(Duration::ZERO), Some((other, other_address)));
}

#[test]
fn host_has_one_entry_in_the_table() {
    let mut bench = Bench::full();
    let address = "99.1.1.1:6881".parse().unwrap();
    for bits in [0, 1, 2, 3, 4, 5, 0, 3] {
        let id = OWN.random_sharing(bits, &mut bench.rng);
        bench.answer(id, address);
    }
    // Nodes in use fail, so that those that wait take their places.
    for (id, address) in (0..6).flat_map(|bits| bench.nodes_sharing(bits)).collect::<Vec<_>>() {
        (0..MAX_NODE_FAILURES).for_each(|_| bench.fail(id, address));
    }
    assert!(bench.table.iter().filter(|node| node.address == address).count() <= 1);
    let [a, b] = [4, 5].map(|bits| OWN.random_sharing(bits, &mut bench.rng));
    bench.answer(a, address);
    bench.answer(b, address);
    bench.table.evict_at(address);
    assert_eq!(bench.table.id_at(address), None);
}

#[test]
fn local_ids_are_compliant() {
    assert!(OWN.is_compliant("127.0.0.1".parse().unwrap()));
    assert!(OWN.is_compliant("fd00::1".parse().unwrap()));
    assert!(!OWN.is_compliant("45.1.2.3".parse().unwrap()));
}

#[test]
fn id_stays_with_node_that_answers() {
    let mut bench = Bench::new();
    let (id, address, _) = bench.add(0);
    let thief = bench.address();
    assert_eq!(bench.answer(id, thief), Admission::Refused);
    bench.fail(id, address);
    assert_eq!(bench.answer(id, thief), Admission::Added);
    assert!(bench.table.contains(&id, thief) && bench.table.len() == 1);
}

#[test]
fn our_id_is_refused() {
    let mut bench = Bench::new();
    let address = bench.address();
    assert_eq!(bench.answer(OWN, address), Admission::Refused);
}

#[test]
fn failed_node_is_replaced_by_newest_spare() {
    let mut bench = Bench::full();
    let (id, address) = bench.nodes_sharing(4)[0];
    let kept = std::iter::repeat_with(|| bench.add(4)).take(50);
    let kept: Vec<_> = kept.filter(|(_, _, entry)| *entry == Admission::Kept).collect();
    assert!(kept.len() > REPLACEMENTS);
    for failures in 1..=MAX_NODE_FAILURES {
        assert!(bench.table.contains(&id, address), "{failures}");
        bench.fail(id, address);
    }
    assert!(!bench.table.contains(&id, address));
    let (id, address, _) = kept[kept.len() - 1];
    assert!(bench.table.contains(&id, address));
    assert_eq!(bench.nodes_sharing(4).len(), K);
}

#[test]
fn spares_are_limited() {
    let mut bench = Bench::full();
    bench.add_many(4, 200);
    let nodes = bench.nodes_sharing(4).len();
    for _ in 0..REPLACEMENTS + K {
        for (id, address) in bench.nodes_sharing(4) {
            (0..MAX_LONELY_FAILURES).for_each(|_| bench.fail(id, address));
        }
    }
    assert_eq!((nodes, bench.nodes_sharing(4).len()), (K, 0), "only spares took their place");
}

#[test]
fn lonely_node_has_five_chances() {
    let mut bench = Bench::new();
    let (id, address, _) = bench.add(0);
    for _ in 1..MAX_LONELY_FAILURES {
        bench.fail(id, address);
        assert!(bench.table.contains(&id, address));
    }
    bench.fail(id, address);
    assert_eq!(bench.table.len(), 0);
}

#[test]
fn answer_clears_failures() {
    let mut bench = Bench::full();
    let (id, address) = bench.nodes_sharing(4)[0];
    for _ in 0..5 {
        bench.fail(id, address);
        assert_eq!(bench.answer(id, address), Admission::Refreshed);
    }
}

#[test]
fn better_node_takes_a_place_in_full_bucket() {
    let mut bench = Bench::full();
    let (id, address) = bench.nodes_sharing(4)[3];
    // Nobody is replaced by a node that is not clearly faster.
    let like = |bench: &mut Bench| {
        let mut like = id;
        like.0[19] ^= 1 + bench.rng.random_range(0..100);
        (like, bench.address())
    };
    let slot = id.bits_after(5, 3);
    let others = bench.nodes_sharing(4);
    let is_only_one = others.iter().filter(|(id, _)| id.bits_after(5, 3) == slot).count() == 1;
    let (like_id, like_address) = like(&mut bench);
    assert_eq!(bench.answer_in(like_id, like_address, 50), Admission::Kept);
    let (like_id, like_address) = like(&mut bench);
    assert_eq!(bench.answer_in(like_id, like_address, 40), Admission::Added);
    assert!(!is_only_one || !bench.table.contains(&id, address));
}

#[test]
fn ids_spread_over_full_bucket() {
    let mut bench = Bench::full();
    bench.add_many(4, 500);
    let nodes = bench.nodes_sharing(4);
    let slots: std::collections::BTreeSet<_> =
        nodes.iter().map(|(id, _)| id.bits_after(5, 3)).collect();
    assert_eq!(slots.len(), 8);
}

#[test]
fn questionable_nodes_are_checked_in_turn() {
    let mut bench = Bench::new();
    bench.add_many(0, 3);
    let late = QUESTIONABLE;
    assert_eq!(bench.table.take_questionable(late - Duration::from_secs(1)), None);
    let mut seen: Vec<_> = std::iter::from_fn(|| bench.table.take_questionable(late)).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    assert!(bench.table.take_questionable(late + FAILED_AGAIN).is_some());
}

#[test]
fn new_id_moves_all_nodes() {
    let mut bench = Bench::full();
    let own = NodeId::random(&mut bench.rng);
    bench.table.set_own(own);
    assert_eq!(bench.table.own(), own);
    for node in bench.table.iter() {
        assert!(bench.table.contains(&node.id, node.address));
    }
    assert!(bench.table.len() > 128);
}

#[test]
fn room_for_askers() {
    let mut bench = Bench::full();
    let id = |bits, bench: &mut Bench| OWN.random_sharing(bits, &mut bench.rng);
    let (near, far) = (id(100, &mut bench), id(0, &mut bench));
    assert!(bench.table.has_room(&near) && !bench.table.has_room(&far));
    assert!(!bench.table.has_room(&OWN));
    let (known, address) = bench.nodes_sharing(0)[0];
    (0..MAX_NODE_FAILURES).for_each(|_| bench.fail(known, address));
    let known = bench.nodes_sharing(5)[0].0;
    assert!(!bench.table.has_room(&known));
}

#[test]
fn network_does_not_fill_a_list() {
    let mut bench = Bench::new();
    let target = OWN.random_sharing(0, &mut bench.rng);
    let near = |last: u8| {
        let mut id = target;
        id.0[19] ^= last;
        id
    };
    for number in 1..=20 {
        let address = SocketAddr::from(([99, number % 2, number, 1], 1));
        assert_eq!(bench.answer(near(number), address), Admission::Added);
    }
    let closest = |bench: &Bench| {
        let mut found = Closest::default();
        bench.table.closest(&target, |_| true, &mut found);
        found.iter().map(|node| node.address.ip().to_string()).collect::<Vec<_>>()
    };
    let found = closest(&bench);
    assert_eq!(found.len(), K, "nobody else is known: {found:?}");
    bench.add_many(0, 20);
    let found = closest(&bench);
    let crowd = found.iter().filter(|ip| ip.starts_with("99.")).count();
    assert_eq!((found.len(), crowd), (K, 2 * LISTED_PER_WIDE_NET), "{found:?}");
}
