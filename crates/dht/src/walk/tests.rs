use super::*;

const TARGET: NodeId = NodeId([0; 20]);

/// A node whose distance from the target grows with `number`, in a /16 of its own.
fn node(number: u8) -> (NodeId, SocketAddr) {
    let mut id = [0; 20];
    id[0] = number;
    (NodeId(id), SocketAddr::from(([45, number, 0, 1], 6881)))
}

/// A walk that knows `numbers`.
fn walk(needs_token: bool, numbers: impl IntoIterator<Item = u8>) -> Walk {
    let mut walk = Walk::new(TARGET, needs_token);
    for number in numbers {
        assert!(walk.add(node(number), None));
    }
    walk
}

/// Asks all that may be asked now, and returns which.
fn ask(walk: &mut Walk) -> Vec<u8> {
    let mut asked = Vec::new();
    while let Some((id, address)) = walk.progress(&[]).next {
        walk.handle_asked((id, address));
        asked.push(id.0[0]);
    }
    asked
}

fn answer(walk: &mut Walk, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        walk.handle_answered(node(number), node(number).0, Some(b"token"));
    }
}

#[test]
fn four_closest_are_asked_at_a_time() {
    let mut walk = walk(false, (1..=20).rev());
    assert_eq!(ask(&mut walk), [1, 2, 3, 4]);
    answer(&mut walk, [2]);
    assert_eq!(ask(&mut walk), [5]);
    walk.handle_failed(node(1));
    assert_eq!(ask(&mut walk), [6]);
    // A query to a node farther than the next one holds nothing up.
    let (mut id, _) = node(1);
    id.0[1] = 9;
    assert!(walk.add((id, "46.0.0.1:1".parse().unwrap()), None));
    assert_eq!(ask(&mut walk), [1]);
}

#[test]
fn busy_node_holds_no_other_up() {
    let mut walk = walk(false, 1..=9);
    let progress = walk.progress(&[node(1)]);
    assert_eq!((progress.next, progress.is_settled), (Some(node(2)), false));
    (2..=9).for_each(|number| walk.handle_asked(node(number)));
    answer(&mut walk, 2..=8);
    let progress = walk.progress(&[node(1)]);
    assert_eq!((progress.next, progress.is_settled), (None, false), "it is still to be asked");
}

#[test]
fn stalled_node_frees_its_place_and_may_answer() {
    let mut walk = walk(false, 1..=12);
    assert_eq!(ask(&mut walk), [1, 2, 3, 4]);
    walk.handle_stalled(node(1));
    assert_eq!(ask(&mut walk), [5]);
    answer(&mut walk, 2..=5);
    assert_eq!(ask(&mut walk), [6, 7, 8, 9]);
    answer(&mut walk, 6..=8);
    assert!(!walk.progress(&[]).is_settled);
    answer(&mut walk, [1]);
    let progress = walk.progress(&[]);
    assert!(progress.is_settled && progress.is_done, "eight have answered, the ninth is farther");
}

#[test]
fn walk_is_settled_before_it_is_done() {
    let mut walk = walk(false, 1..=9);
    ask(&mut walk);
    walk.handle_stalled(node(1));
    answer(&mut walk, 2..=9);
    let progress = walk.progress(&[]);
    assert!(progress.is_settled && !progress.is_done);
    walk.handle_overdue(node(1));
    assert!(walk.progress(&[]).is_done);
    answer(&mut walk, [1]);
    let closest: Vec<u8> = walk.closest().map(|(id, _)| id.0[0]).collect();
    assert_eq!(closest, [1, 2, 3, 4, 5, 6, 7, 8], "a late answer counts");
}

#[test]
fn candidates_are_limited() {
    let mut walk = walk(false, 100..=199);
    assert_eq!(walk.candidates.len(), MAX_CANDIDATES);
    assert!(!walk.add(node(200), None), "farther than all others");
    assert!(walk.add(node(1), None));
    assert_eq!(walk.candidates.len(), MAX_CANDIDATES);
    assert_eq!(walk.candidates.last().unwrap().id, node(198).0);
    let most = MAX_CANDIDATES * (size_of::<Candidate>() + crate::message::MAX_TOKEN_LENGTH);
    answer(&mut walk, 100..=199);
    assert!(walk.memory() <= 2 * most);
}

#[test]
fn wrong_entries_do_not_exclude_right_ones() {
    let mut walk = walk(false, [1]);
    let other = |number, address: &str| (node(number).0, address.parse::<SocketAddr>().unwrap());
    assert!(!walk.add(node(1), None), "the very same");
    let mut add = |node| walk.add(node, None);
    assert!(add(other(1, "46.0.0.1:1")) && add(other(1, "47.0.0.1:1")));
    assert!(!add(other(1, "48.0.0.1:1")), "one past the limit for an id");
    assert!(add(other(2, "45.1.0.1:9")));
    assert!(!add(other(3, "45.1.0.1:7")), "one past the limit for a host");
    assert!(add(other(4, "45.1.0.9:6881")), "another host of the /24");
    assert_eq!(ask(&mut walk), [1, 1, 1], "one of a /24 at a time");
    walk.handle_failed(other(1, "46.0.0.1:1"));
    assert!(walk.add(other(1, "48.0.0.1:1"), None), "one of them has failed");
    answer(&mut walk, [1]);
    assert!(!walk.add(other(5, "45.1.0.7:1"), None), "a node of the /24 has answered");
    let mut walk = Walk::new(TARGET, false);
    let mut add = |node| walk.add(node, None);
    assert!(add(other(5, "10.0.0.1:1")) && add(other(6, "10.0.0.1:2")), "local ones");
}

#[test]
fn misnamed_node_takes_its_true_place() {
    let mut walk = walk(true, 10..=20);
    let (_, address) = node(3);
    for wrong in [1, 30] {
        assert!(walk.add((node(wrong).0, address), None));
    }
    assert_eq!(ask(&mut walk), [1, 10, 11, 12]);
    walk.handle_answered((node(1).0, address), node(3).0, Some(b"token"));
    answer(&mut walk, 10..=12);
    let closest: Vec<_> = walk.closest().take(2).collect();
    assert_eq!(closest, [node(3), node(10)]);
    assert!(finish(&mut walk).iter().all(|asked| *asked != 30), "the host has answered");
    assert_eq!(store(&mut walk)[0], 3);
}

#[test]
fn informant_names_eight_at_most() {
    let mut walk = walk(false, 100..=101);
    let (polluter, honest) = (node(100).1, node(101).1);
    let added = (1..=20).filter(|number| walk.add(node(*number), Some(polluter)));
    assert_eq!(added.count(), K);
    assert!(walk.add(node(20), Some(honest)));
    // An honest list has no id and no host twice.
    let mut port = node(20).1;
    port.set_port(9);
    for wrong in [(node(20).0, node(21).1), (node(21).0, port)] {
        assert!(!walk.add(wrong, Some(honest)));
    }
}

#[test]
fn worthless_candidates_go_first() {
    let mut walk = walk(false, 100..=191);
    for number in 1..=8 {
        assert!(walk.add(node(number), Some(node(100).1)));
    }
    assert_eq!(walk.candidates.len(), MAX_CANDIDATES);
    (1..=3).for_each(|silent| walk.handle_failed(node(silent)));
    for number in 200..=207 {
        assert!(walk.add(node(number), None), "{number} displaces failed and doubtful ones");
    }
    assert!(!walk.add(node(208), None));
    assert_eq!(walk.candidates[0].id, node(100).0);
}

#[test]
fn queries_are_limited() {
    let mut walk = Walk::new(TARGET, false);
    let mut asked = 0;
    for number in (1..=u16::MAX).rev() {
        let mut id = [0; 20];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let [a, b] = number.to_be_bytes();
        let node = (NodeId(id), SocketAddr::from(([a, b, 1, 1], 1)));
        walk.add(node, None);
        if let Some(next) = walk.progress(&[]).next {
            walk.handle_asked(next);
            walk.handle_failed(next);
            asked += 1;
        }
    }
    assert_eq!(asked, MAX_LOOKUP_QUERIES);
    assert!(walk.is_exhausted());
    let progress = walk.progress(&[]);
    assert!(progress.is_settled && progress.is_done);
}

/// Sybils 1..=64 are in four /16, nearest to the target; 65 and up are honest.
fn with_sybils() -> Walk {
    let mut walk = Walk::new(TARGET, true);
    for number in 1..=64_u8 {
        let address = SocketAddr::from(([66, number % 4, number, 1], 1));
        walk.add((node(number).0, address), None);
    }
    for number in 65..=80 {
        walk.add(node(number), None);
    }
    walk
}

/// Answers every query until the walk ends.
fn finish(walk: &mut Walk) -> Vec<u8> {
    let mut asked = Vec::new();
    while let Some((id, address)) = walk.progress(&[]).next {
        walk.handle_asked((id, address));
        walk.handle_answered((id, address), id, Some(b"token"));
        asked.push(id.0[0]);
    }
    assert!(walk.progress(&[]).is_done);
    asked
}

fn store(walk: &mut Walk) -> Vec<u8> {
    let mut stored = Vec::new();
    while let Some((node, token)) = walk.next_store() {
        assert_eq!(token, b"token");
        walk.handle_store_asked(node);
        assert!(walk.is_storing());
        walk.handle_store_over(node);
        stored.push(node.0.0[0]);
    }
    assert!(!walk.is_storing());
    stored
}

#[test]
fn few_networks_do_not_fill_the_space() {
    let mut walk = with_sybils();
    let asked = finish(&mut walk);
    assert_eq!(asked, [1, 2, 3, 4, 5, 6, 7, 8, 65, 66, 67, 68], "two of each network, four honest");
    assert_eq!(store(&mut walk), asked, "no id is compliant, so all get it");
}

#[test]
fn single_network_is_walked_after_all() {
    let mut walk = Walk::new(TARGET, true);
    for number in 1..=20 {
        walk.add((node(number).0, SocketAddr::from(([66, 1, number, 1], 1))), None);
    }
    assert_eq!(finish(&mut walk), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(store(&mut walk).len(), 8);
}

#[test]
fn stores_reach_compliant_nodes() {
    let address = |number: u8| SocketAddr::from(([45, number, 0, 1], 1));
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(1);
    for (compliant, expected) in [(20, 8), (0, MAX_STORES)] {
        let mut walk = Walk::new(TARGET, true);
        for number in 1..=20 {
            let fitting = NodeId::for_address(address(number).ip(), &mut rng);
            let id = if number <= compliant { fitting } else { node(number).0 };
            walk.add((id, address(number)), None);
        }
        let all: Vec<_> = walk.candidates.iter().map(|node| (node.id, node.address)).collect();
        all.iter().for_each(|node| walk.handle_answered(*node, node.0, Some(b"token")));
        assert_eq!(store(&mut walk).len(), expected, "{compliant}");
    }
    let mut walk = Walk::new(TARGET, true);
    for port in 1..=20 {
        let address = SocketAddr::from(([127, 0, 0, 1], port.into()));
        assert!(walk.add((node(port).0, address), None));
    }
    finish(&mut walk);
    assert_eq!(store(&mut walk).len(), K, "BEP 42 does not apply to local addresses");
}

/// A thousand Sybils in as many networks are nearest to the target, with ids that do not fit their
/// addresses. The honest nodes are far away, and their ids fit.
#[test]
fn compliant_nodes_are_reached_behind_sybils() {
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(1);
    for (needs_token, expected) in [(true, COMPLIANT_STORES), (false, COMPLIANT_READS)] {
        let mut walk = Walk::new(TARGET, needs_token);
        let honest: Vec<_> = (1..=20)
            .map(|number| SocketAddr::from(([45, number, 0, 1], 1)))
            .map(|address| (NodeId::for_address(address.ip(), &mut rng), address))
            .collect();
        honest.iter().for_each(|named| _ = walk.add(*named, None));
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let mut id = TARGET;
            id.0[18..].copy_from_slice(&number.to_be_bytes());
            walk.add((id, SocketAddr::from(([200 + high, low, 0, 1], 1))), None);
        }
        let asked = finish(&mut walk);
        let of_honest = asked.iter().filter(|id| **id != 0).count();
        assert_eq!((asked.len(), of_honest), (K + expected, expected));
        let mut nearest: Vec<u8> = honest.iter().map(|(id, _)| id.0[0]).collect();
        nearest.sort_unstable();
        assert_eq!(asked[K..], nearest[..expected], "the nearest of them");
        if needs_token {
            assert_eq!(store(&mut walk), asked);
        }
    }
}

#[test]
fn nodes_without_token_do_not_count() {
    let mut walk = walk(true, 1..=12);
    while let Some((id, address)) = walk.progress(&[]).next {
        walk.handle_asked((id, address));
        walk.handle_answered((id, address), id, (id.0[0] > 3).then_some(b"token"));
    }
    assert_eq!(walk.closest().count(), K);
    assert_eq!(store(&mut walk), [4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn nodes_of_one_network_are_limited() {
    let mut walk = Walk::new(TARGET, false);
    let add = |walk: &mut Walk, number: u8| {
        walk.add((node(number).0, SocketAddr::from(([66, 1, number, 1], 1))), None)
    };
    let added = (1..=100).filter(|number| add(&mut walk, *number)).count();
    assert_eq!(added, CANDIDATES_PER_WIDE_NET);
    walk.handle_failed((node(1).0, SocketAddr::from(([66, 1, 1, 1], 1))));
    assert!(add(&mut walk, 200) && !add(&mut walk, 201), "one of them is dead");
}

#[test]
fn nodes_of_a_polluter_are_asked_last() {
    let mut walk = walk(false, 100..=103);
    let (polluter, honest) = (node(100).1, node(101).1);
    for number in 1..=8 {
        walk.add(node(number), Some(polluter));
    }
    walk.add(node(50), Some(honest));
    assert_eq!(ask(&mut walk), [1, 2, 3, 50], "of each informant three at most");
    (1..=3).for_each(|silent| walk.handle_stalled(node(silent)));
    assert_eq!(ask(&mut walk), [100, 101, 102], "4 to 8 have to wait");
    // Another node names one of them, too.
    assert!(!walk.add(node(8), Some(honest)));
    assert_eq!(ask(&mut walk), [8]);
    // One of those under way answers after all.
    answer(&mut walk, [2]);
    assert_eq!(ask(&mut walk), [4, 5, 6, 7]);
}
