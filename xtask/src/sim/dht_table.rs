//! The bugs in the DHT that its simulations must find.

use super::mutants::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "dht: queries have no rate",
        file: "crates/dht/src/send_budget.rs",
        before: "if !self.queries.has(now) {",
        after: "if false {",
        seed: 1,
    },
    Mutant {
        name: "dht: new addresses have no limit",
        file: "crates/dht/src/send_budget.rs",
        before: "if used >= limit || self",
        after: "if self",
        seed: 1,
    },
    Mutant {
        name: "dht: silent addresses are asked on",
        file: "crates/dht/src/send_budget.rs",
        before: "const MAX_UNANSWERED: u8 = 2;",
        after: "const MAX_UNANSWERED: u8 = 4;",
        seed: 0,
    },
    Mutant {
        name: "dht: a query is answered twice",
        file: "crates/dht/src/dht/answers.rs",
        before: "            Method::Ping => self.reply(now, asker, &Reply::new(own)),\n",
        after: "            Method::Ping => {
                self.reply(now, asker, &Reply::new(own));
                self.reply(now, asker, &Reply::new(own));
            }\n",
        seed: 0,
    },
    Mutant {
        name: "dht: answers amplify",
        file: "crates/dht/src/dht/answers.rs",
        before: "const AMPLIFICATION: usize = 4;",
        after: "const AMPLIFICATION: usize = 40;",
        seed: 9,
    },
    Mutant {
        name: "dht: a node that asked is named at once",
        file: "crates/dht/src/dht/overlay.rs",
        before: "        let group = host(address);\n        let waiting",
        after: "        self.table.handle_answer(now, id, address, Duration::ZERO);
        let group = host(address);
        let waiting",
        seed: 0,
    },
    Mutant {
        name: "dht: a read-only node answers",
        file: "crates/dht/src/dht/answers.rs",
        before: "own.filter(|own| !self.read_only && *own != query.id)",
        after: "own.filter(|own| *own != query.id)",
        seed: 18,
    },
    Mutant {
        name: "dht: any token is good",
        file: "crates/dht/src/tokens.rs",
        before: "given.len() == TOKEN_LENGTH && given == expected",
        after: "given.len() == TOKEN_LENGTH && expected.len() == TOKEN_LENGTH",
        seed: 4,
    },
    Mutant {
        name: "dht: a token is good for other ports",
        file: "crates/dht/src/tokens.rs",
        before: "    hash.update(asker.port().to_be_bytes());\n",
        after: "",
        seed: 4,
    },
    Mutant {
        name: "dht: a token is good for other torrents",
        file: "crates/dht/src/tokens.rs",
        before: "    hash.update(target.0);\n",
        after: "",
        seed: 4,
    },
    Mutant {
        name: "dht: a token is good for ever",
        file: "crates/dht/src/tokens.rs",
        before: "        if age < TOKEN_ROTATION {\n",
        after: "        if age < 99 * TOKEN_ROTATION {\n",
        seed: 4,
    },
    Mutant {
        name: "dht: the store of peers has no limit",
        file: "crates/dht/src/peer_store.rs",
        before: "while self.peers >= MAX_PEERS || !is_known && self.swarms.len() >= MAX_HASHES {",
        after: "while self.peers >= MAX_PEERS {",
        seed: 5,
    },
    Mutant {
        name: "dht: an address may announce any number of torrents",
        file: "crates/dht/src/peer_store.rs",
        before: "if self.hashes_of(peer) >= HASHES_AN_ADDRESS {",
        after: "if false {",
        seed: 31,
    },
    Mutant {
        name: "dht: a liar moves a node",
        file: "crates/dht/src/votes.rs",
        before: "(count >= MIN_VOTERS && count * 3 >= self.votes.len() * 2)",
        after: "(count >= 1)",
        seed: 14,
    },
    Mutant {
        name: "dht: the id does not follow the address",
        file: "crates/dht/src/dht/replies.rs",
        before: "if !overlay.id().is_compliant(ip) {",
        after: "if false {",
        seed: 2,
    },
    Mutant {
        name: "dht: nodes behind NATs are named",
        file: "crates/dht/src/dht/overlay.rs",
        before: "const ASKER_PAUSE: Duration = Duration::from_secs(90);",
        after: "const ASKER_PAUSE: Duration = Duration::from_secs(1);",
        seed: 2,
    },
    Mutant {
        name: "dht: answers to an address have no rate",
        file: "crates/dht/src/throttle.rs",
        before: "budget.has(now) && self.askers.take(now, host(asker)) &&",
        after: "budget.has(now) &&",
        seed: 38,
    },
    Mutant {
        name: "dht: answers have no rate",
        file: "crates/dht/src/throttle.rs",
        before: "budget.has(now) && self.askers",
        after: "self.askers",
        seed: 82,
    },
    Mutant {
        name: "dht: an unrequested answer is followed up",
        file: "crates/dht/src/dht.rs",
        before: "            self.counters.unmatched += 1;\n            return;\n",
        after: "            self.counters.unmatched += 1;
            self.add_contact(from, Origin::Peer);
            return self.pump(now);\n",
        seed: 82,
    },
    Mutant {
        name: "dht: lookups have no limit",
        file: "crates/dht/src/dht.rs",
        before: "if running < MAX_LOOKUPS {\n            let key",
        after: "if running < 99 * MAX_LOOKUPS {\n            let key",
        seed: 59,
    },
    Mutant {
        name: "dht: a changed id stays in the table",
        file: "crates/dht/src/dht/replies.rs",
        before: "            overlay.table.evict_at(from);\n",
        after: "",
        seed: 59,
    },
    Mutant {
        name: "dht: the clock stands still",
        file: "crates/dht/src/dht/maintenance.rs",
        before: "        self.schedule.next = now + CHECK_GAP;\n",
        after: "        self.schedule.next = now;\n",
        seed: 18,
    },
    Mutant {
        name: "dht: a lost announce is waited for",
        file: "crates/dht/src/dht/replies.rs",
        before: "            Purpose::Store(key) => self.finish_store(key, call, false),\n",
        after: "            Purpose::Store(_) => {}\n",
        seed: 18,
    },
    Mutant {
        name: "dht: Sybils of one network fill the space",
        file: "crates/dht/src/lookup.rs",
        before: "const NODES_PER_NET: usize = 2;",
        after: "const NODES_PER_NET: usize = 99;",
        seed: 10,
    },
    Mutant {
        name: "dht: peers are not named",
        file: "crates/dht/src/peer_store.rs",
        before: "            swarm.values(asker, noseed, start as usize, limit, out);\n",
        after: "            swarm.values(asker, true, start as usize, limit, out);\n",
        seed: 32,
    },
    Mutant {
        name: "dht: an outage is held against nodes",
        file: "crates/dht/src/dht/replies.rs",
        before: "let counts = !self.schedule.is_offline(now);",
        after: "let counts = true;",
        seed: 36,
    },
    Mutant {
        name: "dht: contacts are not asked again",
        file: "crates/dht/src/dht/maintenance.rs",
        before: "            overlay.retry_contacts();\n",
        after: "",
        seed: 34,
    },
    Mutant {
        name: "dht: saved nodes are not asked",
        file: "crates/dht/src/dht/overlay.rs",
        before: "self.saved.iter().chain(&self.known)",
        after: "self.known.iter()",
        seed: 12,
    },
];
